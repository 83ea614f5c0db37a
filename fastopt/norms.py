"""The global norm of a step's gradients and clipping by it: a factor for the pass that follows, nothing is written.

norm = sqrt(sum of squares of all elements of all tensors): in float64, per 4,096 elements of a tensor in a fixed order, and their
sums exactly, rounded once. So neither threads nor the order, the formats or the strides of the tensors change a bit of it. A
float64 gradient beyond 1e154 overflows to infinity.
"""
import math
from collections.abc import Iterable
from itertools import chain

from .binding import Bucket


def global_norm(buckets: Iterable[Bucket], threads: int) -> float:
    """The Euclidean norm of all gradients together."""
    try:
        return math.sqrt(math.fsum(chain.from_iterable(bucket.sums_of_squares(threads) for bucket in buckets)))
    except OverflowError:  # where numbers below infinity add up to it
        return math.inf


def clip_factor(norm: float, limit: float | None) -> float:
    """What gradients of this norm are multiplied by so that it is at most the limit: min(1, limit/norm).

    1 where the norm is not finite: a factor of 0 or NaN would carry one bad element into all others.
    """
    return limit/norm if limit is not None and limit < norm < math.inf else 1.0
