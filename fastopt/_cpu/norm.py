"""The global norm of a step's gradients and clipping by it: a factor for the pass that follows, nothing is written.

norm = |factor|*sqrt(sum of squares of all elements of all tensors): in float64, per 4,096 elements of a tensor in a
fixed order, and their sums exactly, rounded once. So neither threads nor the order, the formats or the strides of the
tensors change a bit of it. Where squares of float64 numbers overflow, those of the numbers times 2**-600 are taken.
"""
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain

from .._kernels.memory import BEYOND, WORD
from .jobs import Bucket, Measure
from .loops import SHRUNK, largest_kernel, shrunk_kernel, squares_kernel

SAFE, HARMLESS = 2.0**100, 2.0**400  # a norm and a factor below these leave all elements finite


def _root(sums: Iterable[float]) -> float:
    try:
        return math.sqrt(math.fsum(sums))
    except OverflowError:  # where numbers below infinity add up to it
        return math.inf


def exact(sums: Iterable[float]) -> list[float]:
    """Two or three numbers, mostly, that add up to exactly as much as these."""
    sums, found = list(sums), list[float]()
    try:
        while rest := math.fsum([*sums, *(-x for x in found)]):
            found.append(rest)
            if not math.isfinite(rest):
                return [rest]
    except OverflowError:
        return [math.inf]
    return found


def global_norm(buckets: Sequence[Bucket], threads: int, factor: float = 1.0,
                pooled: Callable[[Iterable[float]], Iterable[float]] = iter) -> float:
    """The Euclidean norm of all gradients together, times the size of the factor.

    `pooled` adds to the sums of squares here those of other processes, which hold other tensors of the same formats.
    """
    root = _root(pooled(chain.from_iterable([bucket.sums_of_squares(threads) for bucket in buckets])))
    if root != math.inf or all(bucket.layout.formats[0].itemsize < WORD for bucket in buckets):
        return abs(factor)*root
    return abs(factor)/SHRUNK*_root(pooled(chain.from_iterable([bucket.measured(shrunk_kernel, threads)
                                                                for bucket in buckets])))


def norms(squares: Callable[[Measure], Mapping[int, Iterable[float]]], factor: float = 1.0) -> dict[int, float]:
    """The Euclidean norm of each gradient, times the size of the factor; `squares` is that of all buckets."""
    roots = {k: _root(of) for k, of in squares(squares_kernel).items()}
    found = {k: abs(factor)*root for k, root in roots.items()}
    if math.inf in roots.values():
        found |= {k: abs(factor)/SHRUNK*_root(of) for k, of in squares(shrunk_kernel).items() if roots[k] == math.inf}
    return found


def squares(buckets: Iterable[Bucket], threads: int, kernel: Measure) -> dict[int, list[float]]:
    """The sums of squares of each gradient; with `shrunk_kernel` of those alone that are float64."""
    found: dict[int, list[float]] = {}
    for bucket in buckets:
        if kernel is squares_kernel or bucket.layout.formats[0].itemsize == WORD:
            found |= zip(bucket.members, bucket.by_tensor(bucket.measured(kernel, threads), kernel), strict=True)
    return found


def all_finite(buckets: Iterable[Bucket], threads: int, norm: float, factor: float) -> bool:
    """Whether the norm and all that rules get are finite: gradients times this factor. In doubt they are read again."""
    if norm < SAFE and abs(factor) < HARMLESS:
        return True
    return norm < math.inf and all(
        abs(factor)*max(bucket.measured(largest_kernel, threads), default=0) < BEYOND[bucket.layout.arithmetic.itemsize]
        for bucket in buckets)
