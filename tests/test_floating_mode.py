"""The floating-point mode is the kernels' own: that of the thread (flushing, rounding) changes no bit."""
import contextlib

import numpy as np
import pytest
from conftest import OPTIMIZERS, assert_identical, normal, stored
from numba import njit

from fastopt._cpu import pool
from fastopt._kernels import atomics

X86 = atomics.X86
MODES = {"flush to zero": 0x1F80 | 0x8040, "towards zero": 0x1F80 | 0x6000}
if not X86:
    MODES = {"flush to zero": 1 << 24, "towards zero": 3 << 22} if atomics.ARM else {}
FLAGS = 0x3F if X86 else 0  # what has happened, in the word of the mode
N = 70_001  # with two threads a worker is asked to help
each_mode = pytest.mark.parametrize("name", MODES)


@njit
def change(word):
    before = atomics.mode()
    atomics.set_mode(word)
    return before


@contextlib.contextmanager
def in_mode(name):
    """This thread computes in the mode within; the mode is still there at the end."""
    before = change(MODES[name])
    try:
        tiny, one, next_to_one = np.float32(1e-41), np.float32(1), np.float32(2**-24)*np.float32(1.5)
        assert (tiny*one == 0) if name == "flush to zero" else (one + next_to_one == one)
        yield
    finally:
        now = change(before)
    assert (now & ~FLAGS, before & ~FLAGS) == (MODES[name], atomics.DEFAULT_MODE)


@pytest.fixture
def fresh_pool(monkeypatch):
    """Workers are started by the step itself, and inherit its thread's mode."""
    monkeypatch.setattr(pool, "POOL", pool.Pool())


def gradient(seed):
    """Numbers of which many are subnormal, or become it."""
    return (normal(seed, N)*10.0**np.random.default_rng(seed).uniform(-44, 1, N)).astype(np.float32)


def stepped(rule, format, state, threads, within):
    p = stored(gradient(0), format)
    how = {"momentum": 0.5} if rule == "nesterov" else {}  # coefficients that float32 holds: Python computes them
    opt = OPTIMIZERS[rule](p, lr=0.5, state=state, threads=threads, seed=3, **how)
    for g in (stored(gradient(1), format), stored(gradient(2), format)):
        with within():
            opt.step(g)
    found = [p, *(opt.state[name] for name in opt.rule.state)]
    with within():
        return [*found, opt.lookahead().copy()] if rule == "nesterov" else found


@each_mode
@pytest.mark.parametrize("threads", [1, 2])
def test_bits_of_a_step(fresh_pool, name, threads):
    for rule, format, state in (("nesterov", "f32", "f32"), ("nesterov", "f32", "q8"), ("nesterov", "f16", "f16"),
                                ("lion", "f32", "f16"), ("lion", "bf16", "bf16")):
        if rule == "lion" and name == "towards zero":
            continue
        have = stepped(rule, format, state, threads, lambda: in_mode(name))
        for one, other in zip(have, stepped(rule, format, state, 1, contextlib.nullcontext), strict=True):
            assert_identical(one, other, f"{rule}: {format}, state in {state}")


@each_mode
@pytest.mark.parametrize("threads", [1, 2])
def test_bits_of_the_norm(fresh_pool, name, threads):
    for dtype, scale in ((np.float32, 1), (np.float64, 1e-160)):
        found, g = [], gradient(1).astype(dtype)*dtype(scale)
        for within in (contextlib.nullcontext, lambda: in_mode(name)):
            opt = OPTIMIZERS["sgd"](np.zeros(N, dtype), lr=0.5, threads=threads)
            opt.step(g)
            bucket, = opt._backend.binding.buckets
            with within():
                found.append(bucket.sums_of_squares(threads))
        assert found[0] == found[1]


def test_flushing_as_torch_sets_it(fresh_pool):
    torch = pytest.importorskip("torch")
    w, g = np.full(N, np.float32(3e-41)), np.full(N, np.float32(1e-41))
    opt = OPTIMIZERS["sgd"](w, lr=0.5, threads=2)
    try:
        if not torch.set_flush_denormal(True):
            return  # torch cannot, on this processor
        opt.step(g)
        opt.step(g)
    finally:
        torch.set_flush_denormal(False)
    want = np.float32(3e-41) - np.float32(0.5)*np.float32(1e-41)
    assert_identical(w, np.full(N, want - np.float32(0.5)*np.float32(1e-41)))
