"""The global norm of a step's gradients and clipping by it: a factor for the pass that follows, nothing is written.

norm = |factor|*sqrt(sum of squares of all elements of all tensors): in float64, per 4,096 elements of a tensor in a
fixed order, and their sums exactly, rounded once. So neither threads nor the order, the formats or the strides of the
tensors change a bit of it. Where squares of float64 numbers overflow, those of the numbers times 2**-600 are taken.
"""
import math
from collections.abc import Iterable, Sequence
from itertools import chain

from .._kernels.memory import BEYOND, WORD
from .jobs import Bucket
from .loops import SHRUNK, largest_kernel, shrunk_kernel

SAFE, HARMLESS = 2.0**100, 2.0**400  # a norm and a factor below these leave all elements finite


def _root(sums: Iterable[float]) -> float:
    try:
        return math.sqrt(math.fsum(sums))
    except OverflowError:  # where numbers below infinity add up to it
        return math.inf


def global_norm(buckets: Sequence[Bucket], threads: int, factor: float = 1.0) -> float:
    """The Euclidean norm of all gradients together, times the size of the factor."""
    root = _root(chain.from_iterable([bucket.sums_of_squares(threads) for bucket in buckets]))
    if root != math.inf or all(bucket.layout.formats[0].itemsize < WORD for bucket in buckets):
        return abs(factor)*root
    return abs(factor)/SHRUNK*_root(chain.from_iterable([bucket.measured(shrunk_kernel, threads)
                                                         for bucket in buckets]))


def clip_factor(norm: float, limit: float | None) -> float:
    """min(1, limit/norm); 1 where the norm is not finite: 0 or NaN would carry one bad element into all others."""
    return limit/norm if limit is not None and limit < norm < math.inf else 1.0


def all_finite(buckets: Iterable[Bucket], threads: int, norm: float, factor: float) -> bool:
    """Whether the norm and all that rules get are finite: gradients times this factor. In doubt they are read again."""
    if norm < SAFE and abs(factor) < HARMLESS:
        return True
    return norm < math.inf and all(
        abs(factor)*max(bucket.measured(largest_kernel, threads), default=0) < BEYOND[bucket.layout.arithmetic.itemsize]
        for bucket in buckets)
