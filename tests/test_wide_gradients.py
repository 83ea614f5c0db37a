"""float64 gradients of narrower parameters: scaled in float64, then converted; what is finite is judged after that."""
import math
from itertools import product

import numpy as np
import pytest
from conftest import OWN, RULES, SHARED, assert_identical, normal, stored
from numba import njit
from reference import MIXES, Twin, made

import fastopt
from fastopt import kernels, rules
from fastopt._kernels.layout import Layout

SIZES = (0, 1, 3, 7, 8, 9, 15, 17, 127, 129, 1_025, 5_003)
MOST = float(np.finfo(np.float32).max)


def started(name, mix, **hyper):
    params = [stored(normal(k, n), MIXES[mix][0]) for k, n in enumerate(SIZES)]
    params[-1] = np.asfortranarray(params[-1][:-2].reshape(3, 1_667))
    return Twin(made(name, params, mix, **hyper))


def wide(twin, seed, size=1.0):
    """Gradients in the memory order of their parameters."""
    found = [np.empty_like(t.array, np.float64) for t in twin.tensors]
    for k, g in enumerate(found):
        g[...] = normal(100*seed + k, *g.shape)*size
    return found


def gaps(a):
    """The same numbers with gaps between them, not aligned."""
    raw = np.zeros((*a.shape, 3))
    raw[..., 1] = a
    return raw[..., 1]


def test_bits(full):
    """Of a rule of one state in some formats; with --full of all rules in all."""
    mixes = [mix for mix in MIXES if mix != "f64"]
    for name, mix in product(RULES, mixes) if full else product(["momentum"], ["f32", "f16 f16", "split", "bf16s q8"]):
        twin = started(name, mix, **OWN[name][0], **SHARED[0])
        twin.step(wide(twin, 1))
        twin.step(wide(twin, 2, 1e100), grad_factor=3e-101, clip_value=0.4)
        twin.step(wide(twin, 3, 1e-150), grad_factor=-1e150, clip_value=0.4)


@pytest.mark.parametrize("mix", ["f32", "split"])
def test_strided_and_zeroed(mix):
    twin = started("momentum", mix)
    grads = wide(twin, 3, 1e-150)
    twin.step(grads, list(map(gaps, grads)), grad_factor=-1e150)
    grads = wide(twin, 4, 1e60)
    twin.step(grads, given := [g.copy(order="K") for g in grads], grad_factor=1e-60, zero_grads=True)
    assert not any(g.any() for g in given)


def one(given, dtype=np.float32, **how):
    """Parameters, norm and step count after a step of SGD from 1."""
    w = np.ones(np.shape(given), dtype)
    opt = fastopt.SGD(w, lr=0.1)
    opt.step(np.array(given), **how)
    return w.tolist(), opt.grad_norm, opt.t


TAKEN = [float(np.float32(1) - np.float32(0.1)), 1.0]


def test_gradients_beyond_float32():
    assert one([1e100, 1], clip_norm=1.0) == (TAKEN, 1e100, 1)
    assert one([1e100, 1], grad_factor=1e-100) == (TAKEN, None, 1)
    assert one([1e-200, 0], grad_factor=1e200) == (TAKEN, None, 1)
    assert one([1e200, 1], clip_norm=1.0, grad_factor=1e-50) == (TAKEN, 1e150, 1)
    w = [np.ones(2, np.float32), np.ones(3, np.float32)]
    fastopt.SGD(w, lr=0.1).step([np.array([1e-200, 0]), np.zeros(3, np.float32)], grad_factor=1e200)
    assert w[0].tolist() == TAKEN
    assert np.isnan(w[1]).all()  # the factor is infinite in float32


def test_what_is_not_finite_for_the_rule_is_skipped():
    """At the edge of float32, which 16-bit parameters are computed in."""
    edge, less = MOST + 2.0**103, np.nextafter(MOST + 2.0**103, 0)
    for g, factor, clip, skipped in (
            (1e100, 1, None, True), (1e100, 1e-100, None, False), (1e100, 1, 1.0, False), (MOST, 1, None, False),
            (edge, 1, None, True), (less, -1, None, False), (edge, 0.5, None, False), (edge/2, -2, None, True),
            (1e-300, 1e300, None, False), (1e200, 1e200, None, True), (np.inf, 1e-300, 1.0, True),
            (np.nan, 1, None, True), (1.7e308, 1e-300, None, False)):
        for format in ("f32", "bf16"):
            w = stored(np.ones(5_000), format)
            before, opt = w.copy(), fastopt.SGD(w, lr=0.1)
            given = np.zeros(5_000)
            given[4_321] = g
            with np.errstate(all="ignore"):
                opt.step(given, grad_factor=factor, clip_norm=clip, skip_nonfinite=True)
            assert opt.t == 1 - skipped, (g, factor, clip)
            if skipped:
                assert_identical(w, before)


def test_what_is_not_finite_where_nothing_is_wider():
    big = np.float32(1e30)
    assert one([big, big], grad_factor=1e10, skip_nonfinite=True) == ([1.0, 1.0], pytest.approx(math.sqrt(2)*1e40), 0)
    assert one([big, big], grad_factor=1e8, skip_nonfinite=True)[2] == 1
    assert one(np.full(9, MOST, np.float32), skip_nonfinite=True)[2] == 1
    for g, factor, skipped in ((1e200, 1, False), (1.7e308, 1, False), (1.7e308, 2, True), (np.inf, 1, True)):
        assert one([g, 0], np.float64, grad_factor=factor, skip_nonfinite=True)[2] == 1 - skipped


def test_the_sizes_of_several_groups():
    """Each has a sign of its own, and one factor."""
    w = [np.zeros(3, np.float32), np.zeros(3, np.float32)]
    opt = fastopt.SGD([{"params": w[0]}, {"params": w[1], "maximize": True}], lr=1.0)
    opt.step([np.full(3, 2e100), np.full(3, 2e100)], grad_factor=-0.5e-100)
    assert (w[0].tolist(), w[1].tolist()) == ([1.0]*3, [-1.0]*3)


def test_steps_inside_compiled_code():
    """`kernels` scale as optimizers do."""
    g, c = normal(1, 1_003)*1e100, rules.momentum.at(1, np.float64, factor=1e-100, weight_decay=0.1)
    want = [normal(2, 1_003).astype(np.float32), np.zeros(1_003, np.float32)]
    have, plain = [a.copy() for a in want], [a.copy() for a in want]
    opt = fastopt.Momentum(want[0], weight_decay=0.1)
    opt.step(g, grad_factor=1e-100)
    njit(lambda c, g, p, v: kernels.momentum(c, g, p, v))(np.array(c), g, *have)
    kernels.momentum(np.array(c), g, *plain)
    for x, y, z in zip(have, plain, [want[0], opt.state["v"]], strict=True):
        assert_identical(x, z)
        assert_identical(y, z)


def test_sums_of_batches_keep_the_digits_of_their_gradients():
    def fitted(grads, accumulate, **how):
        opt, rows = fastopt.SGD(np.zeros(len(grads[0]), np.float32), lr=1.0), iter(grads)
        fastopt.fit(opt, lambda w, _: (0.0, next(rows)), steps=len(grads)//accumulate, accumulate=accumulate, **how)
        return opt.params.tolist(), opt.t

    def rounded(*numbers):
        return [float(np.float32(x)) for x in numbers]

    assert fitted([np.array([1e100, 1.0]), np.array([-1e100, 1.0])], 2) == ([0.0, -1.0], 1)
    assert fitted([np.array([1.0, 2.0]), np.array([2.0**-30, 0]), np.array([-1.0, 2.0])], 3) == (
        rounded(-2.0**-30/3, -4/3), 1)
    assert fitted([np.array([1e100]), np.array([1.0])], 2, skip_nonfinite=True) == ([0.0], 0)
    assert fitted([np.array([3e38]), np.array([3e38])], 2) == (rounded(-3e38), 1)
    mixed = [np.array([1.0], np.float32), np.array([2.0**-30]), np.array([-1.0], np.float16),
             np.array([3.0], np.float32)]
    assert fitted(mixed[:2], 2) == (rounded(-(0.5 + 2.0**-31)), 1)
    assert fitted([*mixed[1:3], *mixed[2:]], 2) == (rounded(-(np.float32(2.0**-31 - 0.5) + 1)), 2)


def test_an_interrupt_between_two_mixes_of_pieces_leaves_the_factor_of_the_next_step(monkeypatch):
    def interrupted(self):
        raise KeyboardInterrupt

    w, g = np.zeros(4, np.float32), np.ones(4)
    opt = fastopt.SGD(w, lr=1.0)
    opt.step(g, grad_factor=0.25)
    opt.step(g, clip_value=0.25)
    with monkeypatch.context() as at:
        at.setattr(Layout, "wide", property(interrupted))
        with pytest.raises(KeyboardInterrupt):
            opt.step(g, grad_factor=0.25)
    opt.step(g, grad_factor=0.5)
    assert w.tolist() == [-1]*4
