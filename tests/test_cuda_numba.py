"""Rules inside the user's own CUDA kernels, through Numba's dispatcher, on the stand-in driver; and the example."""
import runpy
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from conftest import OWN, RULES, assert_identical, normal

pytest.importorskip("numba_cuda", reason="the extra `cuda` is not installed")

from devices import numba_cuda, to_device
from ptx import Kernel, Memory, Run
from ptx import driver as loader
from twins import heavy_ball

from fastopt import rules
from fastopt._cuda import code as cuda_code

EPS = float(np.finfo(np.float32).eps)
N = 1_003


@pytest.fixture
def own_kernels(stand_in, monkeypatch):
    """Kernels of Numba's dispatcher run, too."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from numba.cuda.core import config
    monkeypatch.setattr(config, "CUDA_LOW_OCCUPANCY_WARNINGS", 0)
    loader.record_numba_ptx()
    return numba_cuda()


LOOP = """
def loop(c, g, p{states}):
    i = cuda.grid(1)
    if i < p.size:
        p[i], {elements} = rule(c, g[i], p[i], {elements})
"""


def plain_loop(rule):
    """What a user would write: a thread per element."""
    names, states = {"cuda": numba_cuda(), "rule": rule}, "".join(f", {s}" for s in rule.state)
    exec(LOOP.format(states=states, elements=" ".join(f"{s}[i]," for s in rule.state)), names)
    return names["loop"]


def start(rule, dtype=np.float32):
    slots = [normal(0, N), *(np.abs(normal(k, N)) for k in range(1, 1 + len(rule.state)))]
    return normal(9, N).astype(dtype), [x.astype(dtype) for x in slots]


def signature(rule, dtype=np.float32):
    from numba import types
    number = types.float64 if dtype is np.float64 else types.float32
    row = types.NamedUniTuple(number, len(rule.fields), rule.Coefficients)
    return types.void(row, *[types.Array(number, 1, "C")]*(2 + len(rule.state)))


@pytest.mark.parametrize("name", RULES)
def test_rules_in_own_kernels(name, own_kernels):
    """Numba contracts there: within 4 roundings of the largest number that enters an element, 16 of a difference's."""
    rule = RULES[name]
    g, slots = start(rule)
    on_device, want = [to_device(x) for x in slots], slots
    loop = own_kernels.jit(plain_loop(rule))
    gentle, roundings = ({"eps_root": 0.1}, 16) if "centered" in name else ({}, 4)
    for t in (1, 2):
        c = rule.at(t, np.float32, **OWN[name][0], **gentle, weight_decay=0.1, clip_value=1.5)
        loop[4, 256](c, to_device(g), *on_device)
        want = rule(c, g, *want)
        for have, right in zip(on_device, want, strict=True):
            largest = np.maximum.reduce([np.abs(x) for x in (g, *want, *slots)])
            wrong = np.abs(have.copy_to_host() - right) > roundings*t*EPS*np.maximum(largest, 1)
            if name == "lion" and have is on_device[0]:
                wrong &= np.abs(want[1]) > 1e-5  # the sign of what is nearly zero
            assert not wrong.any()


@pytest.mark.parametrize(("name", "dtype"), [("momentum", np.float64), ("adam", np.float32), ("radam", np.float32)])
def test_linked_without_contraction_they_have_the_bits_of_numpy(name, dtype):
    """By cuda_code.link, or nvJitLink with -fma=0."""
    rule, cuda = RULES[name], numba_cuda()
    g, slots = start(rule, dtype)
    with cuda_code.compiling((9, 0)):
        ltoir, _ = cuda.compile(plain_loop(rule), signature(rule, dtype), cc=(9, 0), output="ltoir", device=False,
                                abi="numba")
    code = Kernel(cuda_code.link(ltoir, (9, 0), "ptx").decode().rstrip("\0"))
    c, memory = rule.at(3, dtype), Memory()
    have = [g.copy(), *(x.copy() for x in slots)]
    words = [number for a in have for number in (0, 0, a.size, a.itemsize, memory.add(a), a.size, a.itemsize)]
    Run(code, 4, 256, [*c, *(np.int64(w) for w in words)], memory)
    with np.errstate(all="ignore"):
        for x, right in zip(have[1:], rule(c, g, *slots), strict=True):
            assert_identical(x, right)


def test_no_float64_in_own_kernels():
    """Coefficients and arrays of float32 give a kernel without float64."""
    with cuda_code.compiling((9, 0)):
        ptx, _ = numba_cuda().compile(plain_loop(rules.adam), signature(rules.adam), cc=(9, 0), output="ptx",
                                      device=False, abi="numba")
    assert ".f64" not in ptx


def test_the_example(own_kernels, monkeypatch, capsys):
    example = Path(__file__).parents[1] / "examples" / "cuda_kernel.py"
    monkeypatch.setattr(sys, "argv", [str(example), "--n", "3000", "--steps", "8"])
    runpy.run_path(str(example), run_name="__main__")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    before, *after = (float(line.split()[4 if k == 0 else 3].rstrip(",")) for k, line in enumerate(lines[:3]))
    assert all(error < 0.75*before for error in after)
    assert lines[3].startswith("the two results are ")


def test_own_rules_in_own_kernels(own_kernels):
    g, p, v = (to_device(np.full(10, x, np.float32)) for x in (1, 1, 0))
    own_kernels.jit(plain_loop(heavy_ball))[1, 32](heavy_ball.at(1, np.float32, lr=0.5), g, p, v)
    assert (p.copy_to_host().tolist(), v.copy_to_host().tolist()) == ([0.5]*10, [1.0]*10)
