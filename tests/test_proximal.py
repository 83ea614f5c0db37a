"""Proximal steps and projections against their definitions, in every bit."""
import re

import numpy as np
import pytest
from conftest import BFLOAT16, assert_identical, nasty, normal, unaligned

from fastopt.proximal import project, soft_threshold

f16, f32, f64 = np.float16, np.float32, np.float64
DTYPES = [f64, f32, f16, BFLOAT16]
INF, NAN = np.inf, np.nan


def textbook(w, amount):
    return np.sign(w)*np.maximum(np.abs(w) - amount, np.zeros((), w.dtype)).astype(w.dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_soft_threshold_is_the_formula_in_every_bit(dtype):
    for amount in (0, 0.1, 0.7, 3, 1e-9):
        w = (3*normal(0, 4097)).astype(dtype)
        w[:8] = [0, amount, -amount, 2*amount, -2*amount, 1, INF, -INF]
        zero = np.zeros((), dtype)  # -0 + 0 is 0: what becomes 0 has no sign
        want = textbook(w.copy(), np.asarray(amount, dtype)) + zero
        assert soft_threshold(w, amount) is None
        w, want = (x[x != 0].view(np.uint16) if dtype == BFLOAT16 else x if amount else x[x != 0] for x in (w, want))
        assert_identical(w, want)
        assert len(w) > 5


def test_soft_threshold_by_hand():
    w = np.array([3.0, -3.0, 0.5, -0.5, 0.0, NAN])
    soft_threshold(w, 1)
    assert_identical(w, np.array([2.0, -2.0, 0.0, 0.0, 0.0, NAN]))
    soft_threshold(w, [0, 0.5, 1, 1, 1, 1])
    assert_identical(w, np.array([2.0, -1.5, 0.0, 0.0, 0.0, NAN]))


def test_float32_of_all_kinds():
    w = nasty(100_003, seed=3)
    with np.errstate(all="ignore"):
        want = textbook(w, f32(0.3))
    soft_threshold(w, 0.3)
    assert np.array_equal(w, want, equal_nan=True)
    low, high = f32(-0.2), f32(1e10)
    w = nasty(100_003, seed=4)
    with np.errstate(all="ignore"):
        want = np.where(w < low, low, np.where(w > high, high, w))
    project(w, -0.2, 1e10)
    assert np.array_equal(w, want, equal_nan=True)
    assert np.isnan(w).any()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_project(dtype):
    w = np.array([-2, -1, 0, 1, 2], dtype)
    for bounds, want in (({"low": -1, "high": 1.5}, [-1, -1, 0, 1, 1.5]),
                         ({"high": [0, -3, 5, 0.5, INF]}, [-1, -3, 0, 0.5, 1.5]), ({"low": 0}, [0, 0, 0, 0.5, 1.5]),
                         ({}, [0, 0, 0, 0.5, 1.5]), ({"low": np.array([1.0]), "high": np.array([1.0])}, [1]*5)):
        assert project(w, **bounds) is None
        assert w.dtype == dtype
        assert w.astype(f64).tolist() == want


def test_any_layout_in_place():
    for make in (lambda: normal(5, 7, 9)[::2, ::-1], lambda: np.asfortranarray(normal(5, 7, 9)), lambda: np.array(-2.0),
                 lambda: unaligned(normal(5, 63), 3), lambda: np.zeros((0, 3)), lambda: normal(5, 3, 2, 4).T):
        base = make()
        for f, want in ((lambda w: soft_threshold(w, 0.5), textbook(base, 0.5)),
                        (lambda w: project(w, -0.3, 0.4), np.clip(base, -0.3, 0.4))):
            w = make()
            f(w)
            assert np.array_equal(w, want)
    whole = np.full((6, 8), 9.0)  # what lies between is left alone
    soft_threshold(whole[::2, 1::3], 1)
    project(whole[1::2], high=5)
    want = np.full((6, 8), 9.0)
    want[::2, [1, 4, 7]], want[1::2] = 8, 5
    assert_identical(whole, want)


def test_bounds_and_amounts_beyond_the_dtype():
    w = np.array([-3, 5], f32)
    project(w, -1e300, 1e300)
    soft_threshold(w, 1e-300)
    assert w.tolist() == [-3, 5]
    soft_threshold(w, 1e300)
    assert w.tolist() == [0, 0]
    for low, high in ((1e300, 2e300), (-2e300, -1e300), (INF, INF), (-INF, -INF)):
        with pytest.raises(ValueError, match="a finite number must lie between"):
            project(w, low, high)
    assert w.tolist() == [0, 0]
    w = np.array([INF, 1, -INF, NAN], f16)
    soft_threshold(w, 1e6)
    assert str(w.tolist()) == "[inf, 0.0, -inf, nan]"


FINE, LOCKED = np.array([1.0, -2.0]), np.ones(2)
LOCKED.flags.writeable = False
BAD = {  # the error, and by its function: arguments, what the error says
    (TypeError, soft_threshold): [
        (([1.0, 2.0], 1), "soft_threshold: w is a list, but a NumPy array of floats is needed"),
        ((1.0, 1), "w is a float"), ((np.array([1, 2]), 1), "w is an array of int64"),
        ((np.array([1j]), 1), "w is an array of complex128"),
        ((FINE, "1"), "amount is '1', but a number or an array of numbers is needed"), ((FINE, None), "amount is None"),
        ((FINE, True), "amount is True"), ((FINE, 1j), "amount is 1j")],
    (ValueError, soft_threshold): [
        ((FINE, -1), "amount is -1, but finite numbers, 0 or more, are needed"), ((FINE, NAN), "amount is nan"),
        ((FINE, INF), "amount is inf"), ((FINE, [1, -1]), "amount is [ 1 -1]"), ((LOCKED, 1), "w is read-only"),
        ((FINE, [1, 2, 3]), "amount has shape (3,), but w has (2,)"),
        ((FINE, np.ones((2, 2))), "amount has shape (2, 2), but w has (2,)")],
    (TypeError, project): [(([1.0], 0, 1), "project: w is a list"), ((FINE, None, 3), "low is None")],
    (ValueError, project): [
        ((FINE, 1, 0), "low is 1 and high is 0, but low <= high is needed"), ((FINE, NAN, 0), "low is nan"),
        ((FINE, 0, [1, NAN]), "nan], but low <= high"), ((FINE, [0, 2, 1], 3), "low has shape (3,), but w has (2,)"),
        ((FINE, np.arange(2)[:, None], 3), "low has shape (2, 1)"), ((FINE, np.zeros(2), [-1.0, 5.0]), "low <= high"),
        ((LOCKED, 0, 0), "w is read-only")]}


def test_bad_input_writes_nothing():
    for (kind, f), cases in BAD.items():
        for arguments, says in cases:
            with pytest.raises(kind, match=re.escape(says)):
                f(*arguments)
    assert FINE.tolist() == [1, -2]
    assert LOCKED.tolist() == [1, 1]
