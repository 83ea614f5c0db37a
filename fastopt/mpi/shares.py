"""Which elements belong to which rank.

Arrays of one dtype lie one behind the other in a flat array. It is cut into buckets, which are sent at once, and each
bucket into a share for each rank. Tensors are cut between blocks of 4,096 elements only: the sums of squares of which
the global norm is made are those of such blocks, and states of eight bits share exponents within smaller ones.
"""
from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from .._formats.blocks import SIZE
from .._formats.catalogue import Format
from .._kernels.memory import STRIDED_TILE
from .._tensors.tensors import TILE_UNIT, parts

Span = tuple[int, int]


class Piece(NamedTuple):
    """What a bucket has of a tensor."""

    tensor: int
    bucket: int
    bounds: list[Span]  # the elements of the tensor that each rank has, in memory order; (0, 0) where it has none


class Bucket(NamedTuple):
    """A part of a flat array."""

    flat: int        # which one
    ends: list[int]  # where the shares of the ranks begin in it, and where the last one ends

    @property
    def span(self) -> slice:
        return slice(self.ends[0], self.ends[-1])

    @property
    def counts(self) -> list[int]:
        """The elements of each share."""
        return np.diff(self.ends).tolist()


def starts(sizes: Sequence[int]) -> list[int]:
    """Where each tensor starts in a flat array, which is long enough for a whole line of each, and where that ends."""
    return [0, *np.cumsum([-(-max(n, 1)//TILE_UNIT)*TILE_UNIT for n in sizes]).tolist()]


def _nearest(at: int, ends: Sequence[int]) -> int:
    """The place near this one where a flat array may be cut, in which tensors start at `ends`."""
    k = bisect_right(ends, at) - 1
    if k == len(ends) - 1:
        return ends[k]
    return min(ends[k] + round((at - ends[k])/STRIDED_TILE)*STRIDED_TILE, ends[k + 1])


def buckets(flat: int, ends: Sequence[int], most: int, ranks: int) -> list[Bucket]:
    """The buckets of a flat array, of about so many elements."""
    cuts = sorted({*(_nearest(at, ends) for at in range(0, ends[-1], most)), ends[-1]})
    return [Bucket(flat, [_nearest(a + (b - a)*rank//ranks, ends) for rank in range(ranks)] + [b])
            for a, b in pairwise(cuts)]


def pieces(tensor: int, start: int, size: int, found: Sequence[tuple[int, Bucket]]) -> list[Piece]:
    """The pieces of a tensor, which starts there in the flat array of these buckets."""
    def bounds(bucket: Bucket) -> list[Span]:
        inside = [min(max(end - start, 0), size) for end in bucket.ends]
        return [(a, b) if a < b else (0, 0) for a, b in pairwise(inside)]
    return [Piece(tensor, k, bounds(bucket)) for k, bucket in found
            if bucket.ends[0] < start + max(size, 1) and start < bucket.ends[-1]]


def windows(array: np.ndarray, format: Format, lo: int, hi: int) -> list[np.ndarray]:
    """The memory of some elements of a row, as bytes: of blocks, that of their codes and that of their exponents."""
    if format.block:
        codes, exponents = parts(format, array)
        first, last = lo//SIZE, -(-hi//SIZE)
        return [codes[first*SIZE:last*SIZE].view(np.uint8), exponents[first:last].view(np.uint8)]
    return [array[lo:hi].view(np.uint8)]
