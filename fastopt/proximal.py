"""Proximal steps and projections, in place: after a step they make parameters sparse, or keep them within bounds.

>>> opt.step(gradient)
>>> proximal.soft_threshold(w, lr*strength)    # lasso: minimizes f(w) + strength*|w|_1 (proximal gradient, with SGD)
>>> proximal.project(w, low=0)                 # or: no weight below 0
"""
from typing import Any

import numpy as np

__all__ = ["project", "soft_threshold"]


def soft_threshold(w: np.ndarray, amount: Any) -> None:
    """The proximal step of the L1 norm, in place: every element moves towards 0 by `amount`, and stops there.

        w <- sign(w)*max(|w| - amount, 0) = argmin over x of |x - w|^2/2 + amount*|x|_1

    Parameters
    ----------
    w : ndarray
        float64, float32, float16 or bfloat16 (ml_dtypes), writable, any shape and strides. NaN stays NaN.
    amount : float or array_like
        Finite, 0 or more; a number or an array that broadcasts to w's shape, rounded to w's dtype. After a step of
        `fastopt.SGD` with rate lr on f, lr*strength gives a step of proximal gradient descent on f + strength*|w|_1.

    Raises
    ------
    TypeError, ValueError
        Before anything is written.

    Notes
    -----
    Needs one temporary array of w's size. A negative element becomes +0, not -0. The parts of a complex array, `w.real`
    and `w.imag`, are arrays of floats: each is taken by itself.
    Daubechies, Defrise and De Mol 2004; Parikh and Boyd 2014, section 6.5.2.
    """
    _check(w, "soft_threshold")
    amount = _like(w, amount, "soft_threshold", "amount")
    if not ((amount >= 0) & np.isfinite(amount)).all():
        raise ValueError(f"soft_threshold: amount is {_short(amount)}, but finite numbers, 0 or more, are needed. "
                         "Change it.")
    amount = _rounded(amount, w.dtype)
    inside = np.maximum(w, -amount, out=np.empty_like(w))
    np.minimum(inside, amount, out=inside)
    if np.isinf(amount).any():  # beyond what w's dtype holds; infinities stay
        inside = np.where(np.isinf(w), np.zeros((), w.dtype), inside)
    with np.errstate(invalid="ignore"):  # of a signalling NaN
        np.subtract(w, inside, out=w)  # has the bits of the formula, and needs one temporary array instead of three


def project(w: np.ndarray, low: Any = -np.inf, high: Any = np.inf) -> None:
    """The nearest point within bounds, in place: every element is clipped.

        w <- min(max(w, low), high)

    Parameters
    ----------
    w : ndarray
        float64, float32, float16 or bfloat16 (ml_dtypes), writable, any shape and strides. NaN stays NaN. For a complex
        array z give its parts, `z.real` and `z.imag`.
    low, high : float or array_like
        Numbers or arrays that broadcast to w's shape, rounded to w's dtype, low <= high; -inf and inf are no bound.

    Raises
    ------
    TypeError, ValueError
        Before anything is written.
    """
    _check(w, "project")
    low, high = _like(w, low, "project", "low"), _like(w, high, "project", "high")
    if not (low <= high).all():  # nor if one is NaN
        raise ValueError(f"project: low is {_short(low)} and high is {_short(high)}, but low <= high is needed. Swap.")
    low, high = _rounded(low, w.dtype), _rounded(high, w.dtype)
    if (low == np.inf).any() or (high == -np.inf).any():
        raise ValueError(f"project: low is {_short(low)} and high is {_short(high)} as {w.dtype}, but a finite number "
                         "must lie between. Use -inf for no lower bound, inf for no upper one.")
    np.minimum(np.maximum(w, low, out=w), high, out=w)


def _check(w: Any, where: str) -> None:
    if not isinstance(w, np.ndarray) or (w.dtype.kind != "f" and w.dtype.name != "bfloat16"):
        kind = f"an array of {w.dtype}" if isinstance(w, np.ndarray) else f"a {type(w).__name__}"
        parts = isinstance(w, np.ndarray) and w.dtype.kind == "c"
        cure = "its parts, w.real and w.imag" if parts else "the array itself"
        raise TypeError(f"{where}: w is {kind}, but a NumPy array of floats is needed. Give {cure}.")
    if not w.flags.writeable:
        raise ValueError(f"{where}: w is read-only, but it is changed in place. Give a copy.")


def _like(w: np.ndarray, value: Any, where: str, name: str) -> np.ndarray:
    """An array of numbers that broadcasts to w's shape, its dtype as given."""
    array = np.asarray(value)
    if array.dtype.kind not in "iuf" and array.dtype.name != "bfloat16":
        cure = "Leave it out" if value is None and where == "project" else f"Change {name}"
        raise TypeError(f"{where}: {name} is {value!r}, but a number or an array of numbers is needed. {cure}.")
    if array.shape == w.shape:
        return array
    try:
        np.broadcast_to(array, w.shape)
    except ValueError:
        raise ValueError(f"{where}: {name} has shape {array.shape}, but w has {w.shape}. Give w's shape.") from None
    return array


def _rounded(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    if array.dtype == dtype:
        return array
    with np.errstate(over="ignore", under="ignore"):  # 1e300 is inf as float32
        return array.astype(dtype)


def _short(array: np.ndarray) -> str:
    return str(array) if array.size < 5 else f"from {array.min()} to {array.max()}"
