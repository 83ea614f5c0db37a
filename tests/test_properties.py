"""Laws that every optimizer obeys, whatever its formula: they need no reference, only the optimizer itself. Those of
single elements (order, signs, a NaN that stays alone) are in test_rules.py: kernels have the bits of rules."""
import itertools
import math

import numba.core.event
import numpy as np
import pytest
from conftest import OPTIMIZERS, OWN, RULES, assert_identical, assert_same_bits, decoded, normal, stored
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays as drawn

import fastopt
from fastopt._cpu import loops as cpu
from fastopt._cpu import pool
from fastopt._formats.catalogue import FORMATS
from fastopt._tensors.backend import clip_factor

each_rule = pytest.mark.parametrize("name", RULES)
some_rules = pytest.mark.parametrize("name", ["nesterov", "adam", "lion"])  # where the schedule is tested
each_format = pytest.mark.parametrize("format", FORMATS)
sampled = pytest.mark.sampled("name", "format")
law = settings(deadline=None, derandomize=True, database=None, max_examples=25)


@pytest.fixture
def parallel(monkeypatch):
    """Small arrays go to several threads too."""
    monkeypatch.setattr(pool, "SMALL", 1)


def f32(*shape, seed=0):
    return normal(seed, *shape).astype(np.float32)


def train(name, p, steps, *, how=None, **hyper):
    """Step a copy of p (an array or a list) through gradients of its structure: the parameters, then the states."""
    several = isinstance(p, list)
    p = [a.copy() for a in p] if several else p.copy()
    opt = OPTIMIZERS[name](p, threads=1, **hyper)
    with np.errstate(all="ignore"):
        for g in steps:
            opt.step(g, **(how or {}))
    trees = [p, *(opt.state[s] for s in opt.rule.state)]
    return [a for tree in trees for a in tree] if several else trees


def assert_all(check, have, want, what=""):
    for a, b in zip(have, want, strict=True):
        check(a, b, what)


def floats(size):
    """Any float32 at all, drawn by its bits, of an array of this size."""
    return drawn(np.uint32, size).map(lambda bits: bits.view(np.float32))


cuts = st.lists(st.integers(0, 23), min_size=1, max_size=5)


# 1: one list of tensors == one concatenated tensor

def split(a, sizes):
    return [part.copy() for part in np.split(a, np.cumsum(sizes)[:-1])]


@some_rules
@law
@given(data=st.data())
def test_split_into_tensors(name, data):
    sizes = data.draw(cuts)
    p, g = data.draw(floats(sum(sizes))), data.draw(floats(sum(sizes)))
    hyper = {**OWN[name][0], "weight_decay": 0.1}
    whole = train(name, p, [g, -g, g], **hyper)
    parts = train(name, split(p, sizes), [split(x, sizes) for x in (g, -g, g)], **hyper)
    joined = [np.concatenate(parts[k*len(sizes):(k + 1)*len(sizes)]) for k in range(len(whole))]
    assert_all(assert_same_bits, joined, whole, f"{sizes}")


# 2: any order of tensors (any tile size and number of threads: test_kernels.py)

@some_rules
@law
@given(data=st.data())
def test_any_order_of_tensors(name, data):
    """Clipping by the norm included: its sum does not depend on the order either."""
    sizes = data.draw(cuts)
    order = data.draw(st.permutations(range(len(sizes))))
    p, g = ([f32(n, seed=seed + k) for k, n in enumerate(sizes)] for seed in (0, 100))
    want = train(name, p, [g, g], how={"clip_norm": 0.5})
    have = train(name, [p[k] for k in order], [[g[k] for k in order]]*2, how={"clip_norm": 0.5})
    for slot in range(len(want)//len(sizes)):
        for at, k in enumerate(order):
            assert_identical(have[slot*len(sizes) + at], want[slot*len(sizes) + k], f"{sizes} {order}")


# 10: save, load, continue == continue

@each_rule
def test_resuming(name):
    steps = [[f32(40, seed=t), f32(3, 5, seed=10 + t)] for t in range(6)]
    for at in (0, 1, 3):
        first = [f32(40), f32(3, 5)]
        opt = OPTIMIZERS[name](first, **OWN[name][-1], weight_decay=0.05)
        for g in steps[:at]:
            opt.step(g)
        saved, second = opt.state_dict(), [a.copy() for a in first]
        for g in steps[at:]:
            opt.step(g)
        again = OPTIMIZERS[name](second, lr=0.77)  # the checkpoint brings the hyperparameters
        again.load_state_dict(saved)
        assert again.t == at
        for g in steps[at:]:
            again.step(g)
        assert again.t == opt.t == 6
        assert_all(assert_identical, second, first)
        for s in RULES[name].state:
            assert_all(assert_identical, again.state[s], opt.state[s], s)


# 11: the second step keeps dtype and address, and compiles nothing

def kernels_made():
    return [f.cache_info().misses for f in (cpu.step_kernel, cpu.squares_kernel)]


@some_rules
@each_format
@sampled
def test_the_second_step_compiles_nothing(name, format):
    p = stored(normal(0, 50), format)
    opt, how = OPTIMIZERS[name]({"w": p}, weight_decay=0.1), {"clip_value": 0.5, "grad_factor": 0.5}  # with all pieces
    opt.step({"w": p.copy()}, clip_norm=1.0, **how)
    before = [(a.dtype, a.shape, a.ctypes.data) for a in (p, *(opt.state[s]["w"] for s in opt.rule.state))]
    made = kernels_made()
    with numba.core.event.install_recorder("numba:compile") as compiled:
        for k in range(3):
            opt.groups[0]["lr"] = 0.1/(k + 1)
            opt.step({"w": stored(normal(k, 50), format)}, clip_norm=1.0 + k, skip_nonfinite=True, **how)
        other = np.ones((3, 4), p.dtype)  # another optimizer, shape and hyperparameters: the same kernel
        OPTIMIZERS[name]([other], lr=0.3, weight_decay=0.2, maximize=True).step([other.copy()], **how)
    assert [(a.dtype, a.shape, a.ctypes.data) for a in (p, *(opt.state[s]["w"] for s in opt.rule.state))] == before
    assert opt.params["w"] is p
    assert (kernels_made(), compiled.buffer) == (made, [])


# 13: parabola and Rosenbrock are solved

SOLVE = {  # learning rate at first on the parabola and on Rosenbrock's valley, where 0.1 and 0.02 are not right
    "sgd": (0.05, 1.5e-3), "momentum": (0.05, 1e-3), "nesterov": (0.05, 1e-3), "rmsprop": (0.1, 0.01),
    "adagrad": (1.0, 0.5), "radam": (0.1, 1e-3), "lion": (0.05, 3e-3), "signum": (0.01, 3e-3), "adadelta": (10.0, 0.1),
    "adopt": (0.1, 0.3), "ademamix": (1.0, 0.02)}


def rosenbrock(w):
    x, y = w.tolist()
    return np.array([2*(x - 1) - 400*x*(y - x*x), 200*(y - x*x)])


@each_rule
def test_solves_a_parabola_and_rosenbrock(name):
    """With a learning rate that falls to zero along a line."""
    low, curvature = np.linspace(-2, 2, 11), np.linspace(0.5, 4, 11)
    for lr, w, gradient, steps, want, near in zip(
            SOLVE.get(name, (0.1, 0.02)), (np.zeros(11), np.array([-1.2, 1.0])),
            (lambda w: curvature*(w - low), rosenbrock), (1_500, 20_000), (low, [1, 1]), (1e-3, 0.02), strict=True):
        opt = OPTIMIZERS[name](w, lr=lambda t, lr=lr, steps=steps: lr*(1 - (t - 1)/steps), weight_decay=0.0)
        for _ in range(steps):
            opt.step(gradient)
        np.testing.assert_allclose(w, want, atol=near)


# The global norm

def exact_norm(arrays):
    """In integers and exact sums."""
    return math.sqrt(math.fsum(float(x)**2 for a in arrays for x in a.ravel()))


def norm_of(gs, threads=1, factor=1.0):
    """(opt.grad_norm, parameters) after a step that asks for the norm and does not clip."""
    p = [np.zeros_like(g) for g in gs]
    opt = fastopt.SGD(p, threads=threads)
    opt.step(gs, clip_norm=1e300, grad_factor=factor)
    return opt.grad_norm


NORM_SIZES = ([1], [63], [64], [65], [4_095], [4_097], [100_003], [0, 3, 70_000, 1, 5_000], [300_000, 7])


@each_format
def test_global_norm(format, parallel):
    for sizes in NORM_SIZES:
        gs = [stored(normal(k, n)*10.0**(k - 1), format) for k, n in enumerate(sizes)]
        norm = norm_of(gs)
        assert norm == pytest.approx(exact_norm([decoded(g, format) for g in gs]), rel=1e-14)
        assert {norm_of(gs, threads) for threads in (1, 2, 3, 4, 4, 4)} == {norm}
        assert norm_of(gs[::-1]) == norm
        assert norm_of(gs, factor=-0.5) == norm/2


def test_global_norm_over_formats_together():
    gs = [stored(normal(k, 1_000 + k), format) for k, format in enumerate((*FORMATS, *FORMATS))]
    p = [np.zeros(g.shape, np.float32) for g in gs]
    opt = fastopt.SGD(p)
    opt.step(gs, clip_norm=1e9)
    numbers = [decoded(g, f) for g, f in zip(gs, (*FORMATS, *FORMATS), strict=True)]
    assert opt.grad_norm == pytest.approx(exact_norm(numbers), rel=1e-14)


def test_norms_worth_knowing():
    for g, norm in (([3, 4], 5.0), ([0, 0], 0.0), ([3e38, -3e38], 3e38*math.sqrt(2)), ([1e-45], 1.401298464324817e-45),
                    ([np.inf, 1], math.inf), ([-np.inf, 1], math.inf), ([np.nan, 1], math.nan),
                    ([np.inf, np.nan], math.nan), ([], 0.0)):
        np.testing.assert_allclose(norm_of([np.array(g, np.float32)]), norm, rtol=1e-7)
    one, two = norm_of([np.array([1e154, 1e154])]), norm_of([np.array([1e154]), np.array([1e154])])
    assert one == two == pytest.approx(math.sqrt(2)*1e154)
    assert norm_of([np.array([3e200, 0, 4e200])]) == pytest.approx(5e200, rel=1e-15)
    assert norm_of([np.array([1.5e308, 1.5e308])]) == math.inf  # beyond float64
    assert clip_factor(math.inf, 1.0) == clip_factor(math.nan, 1.0) == 1.0


@some_rules
@each_format
@sampled
def test_clipping_by_the_norm_is_a_factor(name, format):
    sizes = (3, 5_000, 70)
    p, gs = ([stored(normal(seed + k, n), format) for k, n in enumerate(sizes)] for seed in (0, 50))
    for limit, factor in ((0.5, 1.0), (2.0, 3.0), (1e6, 1.0)):
        norm = norm_of(gs, factor=factor)
        assert (norm > limit) == (limit < 1e6)
        have = train(name, p, [gs], how={"clip_norm": limit, "grad_factor": factor})
        scale = factor*(limit/norm) if norm > limit else factor
        assert_all(assert_identical, have, train(name, p, [gs], how={"grad_factor": scale}))
    huge = np.array([1e38, -3e38, 2e38, 0], np.float32)  # clipped without overflow
    clipped = train(name, np.zeros(4, np.float32), [huge], lr=0.1, how={"clip_norm": 1.0})
    assert all(np.isfinite(a).all() for a in clipped)
    want = train(name, np.zeros(4, np.float32), [huge], lr=0.1, how={"grad_factor": norm_of([huge])**-1})
    assert_all(assert_identical, clipped, want)


# Skipping steps whose gradients are not finite

def snapshot(opt):
    return [a.copy() for tree in (opt.params, *(opt.state[s] for s in opt.rule.state)) for group in tree
            for a in (group["params"] if isinstance(group, dict) else group)]


def two_groups(name, format):
    kinds = (format, "f32", format)
    p = [stored(normal(k, n), kind) for k, (n, kind) in enumerate(zip((70, 5_000, 1), kinds, strict=True))]
    return OPTIMIZERS[name]([{"params": p[:2], "lr": 0.1}, {"params": p[2:], "weight_decay": 0.1}])


def good(opt, seed):
    return [[stored(normal(seed + k, a.size), {2: "f16", 4: "f32", 8: "f64"}[a.itemsize])
             for k, a in enumerate(g["params"])] for g in opt.params]


@some_rules
@pytest.mark.parametrize("format", ["f64", "f16"])
@sampled
def test_bad_gradients_leave_everything_alone(name, format):
    """On the first step and later, wherever the bad element is: parameters, states and the count keep every bit."""
    opt, control = two_groups(name, format), two_groups(name, format)
    places = itertools.product([(0, 0, 0), (0, 0, 69), (0, 1, 2_500), (0, 1, 4_999), (1, 0, 0)],
                               [np.nan, np.inf, -np.inf])
    for t, ((group, tensor, at), bad) in enumerate(places):
        before, g = snapshot(opt), good(opt, t)
        g[group][tensor][at] = bad
        opt.step(g, skip_nonfinite=True)
        assert (opt.t, math.isfinite(opt.grad_norm)) == (t, False)
        assert_all(assert_identical, snapshot(opt), before)
        for each in (opt, control):
            each.step(good(opt, t), **({"skip_nonfinite": True} if each is opt else {}))
        assert opt.t == control.t == t + 1
        assert_all(assert_identical, snapshot(opt), snapshot(control))
    assert any((a != b).any() for a, b in zip(snapshot(opt), snapshot(two_groups(name, format)), strict=True))


def test_without_skipping_a_bad_gradient_counts_as_a_step():
    p = np.ones(3, np.float32)
    opt = fastopt.SGD(p, lr=0.5)
    opt.step(np.array([np.inf, 1, 2], np.float32), clip_norm=1.0)
    assert (opt.t, opt.grad_norm) == (1, math.inf)
    np.testing.assert_array_equal(p, [-np.inf, 0.5, 0])


def test_norms_that_were_not_asked_for_are_none():
    opt = fastopt.SGD(np.ones(3, np.float32))
    seen = []
    for how in ({}, {"clip_norm": 1.0}, {}, {"skip_nonfinite": True}, {"clip_norm": 0.1, "grad_factor": 3.0}):
        opt.step(np.full(3, 2, np.float32), **how)
        seen.append(opt.grad_norm)
    assert seen == [None, math.sqrt(12), None, math.sqrt(12), 3*math.sqrt(12)]
