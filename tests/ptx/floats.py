"""Floats as PTX has them: formats, rounding, fused multiply-add, flushing of subnormals, minimum and maximum.
``decode`` turns words into numbers (float64 for f64, float32 for all others, which is exact), ``encode`` rounds numbers
of either to words, once. A NaN becomes the canonical NaN of its format, but in f64 NumPy's."""
from fractions import Fraction

import numpy as np

from .values import FLOAT, TYPES, PTXError

NAN = {"f16": 0x7FFF, "bf16": 0x7FFF, "f32": 0x7FFFFFFF}
SMALLEST_NORMAL = np.float32(2.0**-126)
SPLITTER = 2.0**27 + 1  # Dekker: halves a float64 into two numbers of 26 bits whose products are exact


def decode(words, type):
    """The numbers that words of this type hold; two columns for x2 types."""
    if type.kind != "f" or type.name in ("f32", "f64"):
        return words.view(type.number)
    if type.lanes == 2:  # the lower half first: hosts are little-endian
        words = np.ascontiguousarray(words).view(np.uint16).reshape(-1, 2)
    if type.lane.name == "f16":
        return words.view(np.float16).astype(np.float32)
    return (words.astype(np.uint32) << np.uint32(16)).view(np.float32)


def encode(numbers, type, rounding="rn"):
    """Words of this type for numbers: integers as they are, floats rounded once (to nearest even, or to zero: rz)."""
    if type.kind != "f":
        return numbers.view(type.word)
    lane = type.lane
    words = _nearest(numbers, lane)
    if rounding == "rz":  # words of floats are ordered like their sizes
        words = words - (np.abs(decode(words, lane)) > np.abs(numbers)).astype(words.dtype)
    elif rounding != "rn":
        raise PTXError(f"rounding .{rounding}")
    if lane.name in NAN:
        nan = np.isnan(numbers)
        if nan.any():
            words = np.where(nan, words.dtype.type(NAN[lane.name]), words)
    return np.ascontiguousarray(words).view(type.word).reshape(-1) if type.lanes == 2 else words


def _nearest(numbers, type):
    if type.name == "bf16":
        words = (numbers if numbers.dtype == FLOAT[32] else _odd32(numbers)).view(np.uint32)
        half = np.uint32(0x7FFF) + (words >> np.uint32(16) & np.uint32(1))
        return ((words + half) >> np.uint32(16)).astype(np.uint16)
    dtype = np.float16 if type.name == "f16" else type.number
    return numbers.astype(dtype, copy=False).view(type.word)


def _odd32(numbers):
    """float64 to float32, rounded to odd, so that a second rounding to a shorter format sees what was lost."""
    words = encode(numbers, TYPES["f32"], "rz")
    return (words | (words.view(np.float32) != numbers).astype(np.uint32)).view(np.float32)


def flush(numbers):
    """Subnormal float32 numbers become zeros of their sign (.ftz); other types have no .ftz here."""
    if numbers.dtype != FLOAT[32]:
        raise PTXError(".ftz on a type that is not f32")
    return np.where(np.abs(numbers) < SMALLEST_NORMAL, np.copysign(np.float32(0), numbers), numbers)


def minimum(a, b, nan_wins=False):
    """The smaller number, -0 below +0; the other one beside a NaN unless `nan_wins`."""
    return _chosen((a < b) | ((a == b) & np.signbit(a)), a, b, nan_wins)


def maximum(a, b, nan_wins=False):
    return _chosen((a > b) | ((a == b) & ~np.signbit(a)), a, b, nan_wins)


def _chosen(first, a, b, nan_wins):
    if nan_wins:
        return np.where(np.isnan(a), a, np.where(first & ~np.isnan(b), a, b))
    return np.where(first | np.isnan(b), a, b)


def fma(a, b, c, type):
    """a*b + c, rounded once: to f32 or f64, or else to odd in float64, which ``encode`` may round once more."""
    if type.name == "f64":
        return _fma64(*np.broadcast_arrays(a, b, c))
    a, b, c = (x.astype(np.float64) for x in (a, b, c))
    result = _odd_sum(a*b, c)  # the product of two 24-bit numbers is exact in float64
    return result.astype(np.float32) if type.name == "f32" else result


def _two_sum(a, b):
    """The rounded sum and its exact error (Knuth)."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def _two_product(a, b):
    """The rounded product and its exact error (Dekker), for numbers far from overflow and underflow."""
    product = a*b
    big_a, big_b = SPLITTER*a, SPLITTER*b
    high_a, high_b = big_a - (big_a - a), big_b - (big_b - b)
    low_a, low_b = a - high_a, b - high_b
    return product, ((high_a*high_b - product) + high_a*low_b + low_a*high_b) + low_a*low_b


def _odd_sum(a, b):
    """a + b rounded to odd: where the sum is inexact, the neighbour with an odd last bit."""
    total, error = _two_sum(a, b)
    words = total.view(np.int64)
    inexact = (error != 0) & np.isfinite(total) & np.isfinite(error) & ((words & 1) == 0)
    step = np.where((error > 0) == (total > 0), 1, -1)
    return np.where(inexact, words + step, words).view(np.float64)


def _fma64(a, b, c):
    """Boldo and Melquiond's algorithm where no part can overflow or underflow, exact fractions elsewhere."""
    product, lost = _two_product(a, b)
    high, low = _two_sum(c, lost)
    top, rest = _two_sum(product, high)
    fast = top + _odd_sum(low, rest)
    simple = ~(np.isfinite(a) & np.isfinite(b) & np.isfinite(c)) | (a == 0) | (b == 0)  # nothing is lost in a*b
    result = np.where(simple, a*b + c, fast)
    moderate = _moderate(a) & _moderate(b) & (_moderate(c) | (c == 0))
    for i in np.flatnonzero(~(simple | moderate)):
        result[i] = _fma_exact(float(a[i]), float(b[i]), float(c[i]))
    return result


def _moderate(x):
    return (np.abs(x) > 2.0**-400) & (np.abs(x) < 2.0**400)


def _fma_exact(a, b, c):
    exact = Fraction(a)*Fraction(b) + Fraction(c)
    if exact == 0:
        return a*b + c  # the signs of zero are those of the rounded operations
    try:
        return float(exact)
    except OverflowError:
        return float("inf") if exact > 0 else float("-inf")
