"""Other processors: no code for 64-bit ARM rounds less than the formula; digests of two machines are compared."""
import json
import os
import platform
import re
import subprocess
import sys

import bits
import llvmlite.binding as llvm
import numpy as np
import pytest
from internals import compile_step, norm_kernel, text_of
from numba import njit

from fastopt._formats.catalogue import FORMATS

ARM, FUSED = "aarch64-unknown-linux-gnu", r"\bfn?m(?:l[as]|add|sub|ad|sb)\s"  # of vectors, of scalars, with predicates


def instructions(text, processor):
    """The assembly for an ARM processor of LLVM's code that Numba made for this one, whose own functions are foreign
    to it (LLVM would end the process)."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    text = re.sub(r'^target .*$|"target-\w+"="[^"]*"|\bimmarg\b', "", text, flags=re.M).replace("@llvm.x86.", "@x86.")
    machine = llvm.Target.from_triple(ARM).create_target_machine(cpu=processor, opt=3)
    return machine.emit_assembly(llvm.parse_assembly(f'target triple = "{ARM}"\n{text}'))


def test_no_product_is_fused_with_a_sum_on_arm(fresh):
    """Every ARM of 64 bits has the instruction, but Numba compiles for an x86 that may lack it. Rules share flags."""
    @njit("void(f4[::1], f4[::1], f4)", fastmath={"contract"})
    def planted(p, g, lr):
        for i in range(p.size):
            p[i] -= lr*g[i]
    slip = planted.inspect_llvm(planted.signatures[0])
    kernels = [*(compile_step("adam", format) for format in FORMATS), norm_kernel("f32 f32"), norm_kernel("f64 f64")]
    for processor in "generic", "neoverse-v1":  # the latter has vectors of any length
        assert re.search(FUSED, instructions(slip, processor))
        for kernel in kernels:
            found = instructions(text_of(kernel, "llvm"), processor)
            assert re.search(r"\bfmul\s", found)
            assert not re.search(FUSED, found)


def test_digests_of_two_machines(tmp_path, monkeypatch, capsys):
    """Equal ones say nothing; one bit of one parameter is said, and so is a case that one machine lacks."""
    monkeypatch.setattr(bits, "PLAIN", ("f32",))
    found = bits.digests(["momentum"], [])
    monkeypatch.setattr(bits, "digests", lambda: found)
    one, other, plain = tmp_path/"one", tmp_path/"other", bits.numbers
    assert (bits.main(one), bits.main(other, one)) == (False, False)
    with monkeypatch.context() as patch:
        patch.setattr(bits, "numbers", lambda seed, n, lowest: np.nextafter(plain(seed, n, lowest), 2**(n == 1)))
        changed = bits.digest("momentum", "f32", 1, {}, {})
    assert changed not in found.values()
    case = next(iter(found))
    one.write_text(json.dumps({**found, case: changed, "only there": changed}))
    capsys.readouterr()
    assert bits.main(other, one)
    assert capsys.readouterr().out.splitlines() == [f"differs: {case}", "differs: only there", "2 cases, 2 differ"]


HALVES = """
import hashlib
import fastopt
import numpy as np
from numba.core.registry import cpu_target
from fastopt._kernels import element
rng = np.random.default_rng(1)
p = np.arange(2**16, dtype=np.uint16).view(np.float16).copy()
g = p[rng.permutation(p.size)]
found = hashlib.sha256()
for state in "f16", "f16s":
    opt = fastopt.Adam(p.copy(), lr=0.5, state=state)
    for _ in range(3):
        opt.step(g)
    for a in opt.decoded("params"), opt.decoded("m"), opt.decoded("v"):
        found.update(np.where(np.isnan(a), np.float32(7), a).tobytes())
print(found.hexdigest(), "+f16c" in element.features(cpu_target.target_context))
"""


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="processors of another kind have no F16C")
def test_float16_on_processors_that_convert_it_and_others():
    """Every float16 as parameter and as gradient: the instruction gives the formula's bits."""
    run = [subprocess.run([sys.executable, "-c", HALVES], capture_output=True, text=True, check=True,
                          env={**os.environ, **named}).stdout.split()
           for named in ({}, {"NUMBA_CPU_NAME": "x86-64-v2", "NUMBA_CPU_FEATURES": ""})]
    assert run[0][0] == run[1][0]
    assert run[1][1] == "False"
