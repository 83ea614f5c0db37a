"""Modifiers that measure whole tensors, and `measure=True`, on a CUDA device: they have the bits of the CPU.

test_modifiers.py compares those with papers. The stand-in for the driver runs the kernels.
"""
import re

import numpy as np
import pytest
from conftest import RULES, assert_identical, layout, normal, stored
from reference import MIXES, gradients, made

pytest.importorskip("numba_cuda", reason="the extra `cuda` is not installed")

from devices import foreign, peek, to_device, to_host
from emulation import kernel
from ptx import Memory, Run
from twins import Graph

import fastopt
from fastopt._cuda import measured
from fastopt._cuda.loops import THREADS
from fastopt._kernels.memory import units_of
from fastopt._rule.pieces import MEASURE, MEASURED
from fastopt._rule.pipeline import pipeline
from fastopt._tensors.units import Spans

SHAPES = (3, 128), (9_001,), (1,), (0,), (2, 5, 128), (5_000,), (300,)
GROUPS = {"f32": (0, 1, 3, 6), "f64": (2, 4), "split": (1, 4), "q8": (0, 5)}  # of all: each takes seconds to compile
HOWS = ({"adaptive_clip": 0.5, "trust_ratio": "update", "weight_decay": 0.1, "decay": "decoupled"},
        {"trust_ratio": "gradient", "trust_coefficient": 0.01, "weight_decay": 0.1}, {"cautious": "scaled"},
        {"trust_ratio": "update"}, {"adaptive_clip": 0.1, "update_rms": 0.5, "maximize": True}, {"update_rms": 0.1}, {})


def both(name, mix, chosen):
    """An optimizer of arrays in this machine's memory, and one of equal arrays on the device."""
    params = [stored(normal(k, *SHAPES[k]), MIXES[mix][0]) for k in chosen]
    groups = [[{"params": p, **HOWS[k]} for p, k in zip(of, chosen, strict=True)]
              for of in (params, to_device([p.copy() for p in params]))]
    return [made(name, of, mix, lr=0.05, seed=3) for of in groups]


def check(host, device):
    for one, other in zip(host._tensors, device._tensors, strict=True):
        assert_identical(one.array, np.asarray(other.array), one.path)
    for name, states in host.state.items():
        for one, other in zip(states, device.state[name], strict=True):
            assert_identical(np.asarray(one), to_host(other), name)
    for name, norms in host.measures.items():
        assert_identical(np.array(device.measures[name]), np.array(norms), name)


@pytest.mark.parametrize("mix", GROUPS)
def test_bits_of_measured_steps(mix, stand_in, full):
    """Gradients of the parameters' type, wide ones, strided ones; clipped, skipped, beside None."""
    host, device = both("momentum" if mix == "f64" else "adam", mix, range(len(HOWS)) if full else GROUPS[mix])
    for t, how in enumerate(({"measure": True}, {"grad_factor": 0.5}, {"clip_norm": 1.0, "measure": True},
                             {"skip_nonfinite": True, "measure": True})):
        grads = gradients(host, t, "f64" if t == 1 else None)
        given = to_device(grads)
        if t == 2:
            grads[0], given[0] = (np.asfortranarray(grads[0]), to_device(np.asfortranarray(grads[0])))
        if t == 3:
            grads[1].flat[-1] = np.inf if MIXES[mix][0] != "bf16" else 0x7F80
            given = to_device(grads)
        host.step(grads, **how)
        device.step(given, **how)
        check(host, device)
    assert host.t == device.t == 3
    host.step([None, *gradients(host, 9)[1:]], measure=True)
    device.step([None, *to_device(gradients(host, 9))[1:]], measure=True)
    assert np.isnan(device.measures["params"][0])
    check(host, device)


def test_a_piece_with_a_state(stand_in):
    p, gs = normal(1, 3, 1_500).astype(np.float32), [normal(k, 3, 1_500).astype(np.float32) for k in (2, 3)]
    device = to_device(p.copy())
    twins = [fastopt.Lion(x, lr=0.1, mars=0.2, cautious="scaled") for x in (p, device)]
    for g in gs:
        twins[0].step(g)
        twins[1].step(to_device(g))
    assert_identical(p, to_host(device))


@pytest.mark.parametrize("mix", ["f32", "f64", "q8"])
def test_clipped_by_norms_of_their_own(mix, stand_in):
    """Beside other modifiers, None, a factor on the device, wide gradients, numbers whose squares overflow."""
    shapes, hows = ((3, 128), (5_000,), (0,), (1,)), ({"adaptive_clip": 0.5}, {}, {}, {"maximize": True})
    params = [stored(normal(k, *shape), MIXES[mix][0]) for k, shape in enumerate(shapes)]
    host, device = (made("momentum", [{"params": p, **how} for p, how in zip(of, hows, strict=True)], mix, lr=0.05)
                    for of in (params, to_device([p.copy() for p in params])))
    for t, how in enumerate(({}, {"grad_factor": 0.5, "measure": True}, {"skip_nonfinite": True}, {})):
        grads = gradients(host, t, "f64" if t == 1 else None)
        grads[1] *= 10.0
        if mix == "f64" and t == 3:
            grads[1] *= 1e200
        grads = [*grads[:3], None if t == 3 else grads[3]]
        host.step(grads, clip="tensor", clip_norm=0.5 + t, **how)
        if "grad_factor" in how:
            how = {**how, "grad_factor": to_device(np.array([0.5]))}
        device.step([g if g is None else to_device(g) for g in grads], clip="tensor", clip_norm=0.5 + t, **how)
        check(host, device)
    assert host.grad_norm == device.grad_norm


@pytest.mark.parametrize("name", [name for name in MEASURED if name != MEASURE.name])
def test_sums_of_any_number_of_tiles(name):
    """More than are added side by side; the coefficients of several units from one sum; none is infinite."""
    piece, of, counts, memory = MEASURED[name], pipeline(RULES["adam"], (name,)), (1, 31, 33, 64, 65, 200), Memory()
    tensor, units = np.repeat(np.arange(6), counts), np.array([0, 1, 1, 2, 3, 4, 4, 4, *[5]*40])
    row = np.arange(len(tensor)) if piece.by_row else np.searchsorted(units, tensor)
    units = tensor if piece.by_row else units
    tiles = np.stack([tensor, row, np.zeros_like(row), 1 + np.arange(len(row))], axis=1)
    spans, fields = Spans(tiles, units, piece.by_row), len(of.fields)
    sums = np.abs(normal(1, len(tiles), 3, piece.many))*10.0**(np.arange(len(tiles)) % 40 - 20)[:, None, None]
    sums[0], sums[-1] = 0, (np.inf, 1)[:piece.many]
    sums[tensor == 1, 0] *= 1e-290
    sums[tensor == 3, 0, -1] = np.inf
    rows = np.exp(normal(2, len(units), fields))
    for itemsize, dtype in ((4, np.float32), (8, np.float64)):
        found = sums[:, :len(units_of(itemsize))].copy()
        columns, of_units = of.Coefficients(*rows.T), spans.pairs(found)[..., spans.of_unit]
        with np.errstate(all="ignore"):
            want = dict(zip(piece.gives, piece.of_sums(columns, of_units, spans.sizes[spans.of_unit]), strict=True))
        exact, coefs = rows.copy(), np.zeros(rows.shape, dtype)
        code = kernel(measured.of_sums(of, name, itemsize, (9, 0), "ptx"))
        words = [len(spans.table), *(memory.add(x, what) for x, what in (
            (spans.table, "spans"), (found, "found"), (exact, "rows"), (coefs, "coefs")))]
        Run(code, 3, THREADS, [np.int64(word) for word in words], memory)
        for k, field in enumerate(of.fields):
            expected = np.minimum(want[field], np.finfo(dtype).max) if field in want else rows[:, k]
            assert_identical(exact[:, k], expected, field)
            if field in want:
                assert_identical(coefs[:, k], expected.astype(dtype), field)


@pytest.mark.parametrize("how", [{"trust_ratio": "gradient"}, {"trust_ratio": "update"}, {"update_rms": 1e-3},
                                 {"adaptive_clip": 0.1}], ids=repr)
def test_squares_beyond_the_range(how, stand_in):
    """Of float64 numbers, a part of a tensor's or all."""
    shapes = (4, 300), (9_001,), (3,), (2, 4_200)
    twins = [fastopt.SGD(x, lr=0.5, **how) for of in [[normal(k, *shape) for k, shape in enumerate(shapes)]]
             for x in (of, to_device([x.copy() for x in of]))]
    grads = [normal(k + 4, *shape)*scale for k, (shape, scale) in enumerate(
        zip(shapes, (1e-200, 1e200, 1e307, 1e-310), strict=True))]
    grads[1][:5_000] = 1.0
    grads[2][:] = np.inf, 1, 2
    grads[3][0, 7] = 1.0
    twins[0].step(grads, measure=True)
    twins[1].step(to_device(grads), measure=True)
    check(*twins)


def test_measures_are_of_the_last_step_that_measured(stand_in):
    """As on the CPU: other tensors may have gradients in steps after it; it may be skipped by a norm that is given."""
    p = [normal(1, 40), normal(2, 3), np.zeros(0)]
    twins = [fastopt.SGD(x, lr=0.5) for x in ([x.copy() for x in p], to_device(p))]
    for k, (live, how) in enumerate((((0, 1, 2), {"measure": True}), ((1, 2), {}), ((1, 2), {"measure": True}),
                                     ((0, 1, 2), {"clip_norm": 1.0}), ((), {"measure": True}),
                                     ((0, 1, 2), {"measure": True}),
                                     ((0, 1, 2), {"measure": True, "norm": np.inf, "skip_nonfinite": True}))):
        for opt, given in zip(twins, ([*p], to_device(p)), strict=True):
            opt.step([x if k in live else None for k, x in enumerate(given)], **how)
        check(*twins)
        assert twins[0].grad_norm == twins[1].grad_norm
        assert (twins[0].grad_norm is None) == (not how.keys() & {"clip_norm", "norm"})
        assert np.isnan(twins[1].measures["params"]).tolist() == [k in (2, 3, 4, 6), k in (4, 6), k == 4]


def test_a_replay_measures(cupy):
    p, g = normal(1, 5_000).astype(np.float32), [normal(k, 5_000).astype(np.float32) for k in (2, 3)]
    host = fastopt.LAMB(p.copy(), lr=lambda t: 0.1/t)
    there, given = foreign(p.copy()), foreign(g[0])
    opt = fastopt.LAMB(there, lr=lambda t: 0.1/t, capturable=8)
    how = {"measure": True, "clip": "tensor", "clip_norm": 0.3}
    opt.step(given, **how)
    with Graph() as graph:
        opt.step(given, **how)
    for _ in range(2):
        graph.replay()
    for _ in range(3):
        host.step(g[0], **how)
    assert opt.measures == host.measures
    assert_identical(peek(there), host.params)
    opt.step(foreign(g[1].astype(float)), measure=True)
    with Graph() as graph:
        opt.step(given, **how)
    graph.replay()
    host.step(g[1])
    host.step(g[0], **how)
    assert opt.measures == host.measures


@pytest.mark.parametrize("name", MEASURED)
def test_code(name, full):
    """No contraction, no approximation, no local memory, on two chips."""
    formats = ["f32 f32 f32 f32", "bf16 split bf16s bf16s", "f64 f64 q43 q44", "f64* f32 f32 f32"]
    of = pipeline(RULES["adam"], ("scale",) if name == MEASURE.name else ("scale", name))
    for k, text in enumerate(formats):
        text += " f32"*(name == "mars")
        for cc in ((9, 0), (10, 0)) if full else [((9, 0), (10, 0))[k % 2]]:
            codes = [measured.sums(of, layout(text), name, cc, "ptx")]
            codes += [measured.of_sums(of, name, size, cc, "ptx") for size in (4, 8)] if name != MEASURE.name else []
            for code in codes:
                assert not re.findall(r"fma|approx|ftz|\.full|\.local|\.shared", code.image.decode()), (text, cc)
