"""Units: tensors, or their rows, that have a row of coefficients each, where these depend on sums over elements.

Sums of squares are those of 4,096 elements each (`STRIDED_TILE`), made by kernels. `Spans` adds them up, in float64 and
in a fixed order: threads, devices and other tensors change no bit of them. Squares of float64 numbers may overflow, or
lose digits below 1e-308. There kernels sum squares of the numbers times 2**-600, or 2**600, too (`UNITS`).
"""
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from .._formats.blocks import SIZE
from .._kernels.layout import Layout
from .._kernels.memory import SMALL_SUM, STRIDED_TILE, SUMS, TILE, UNITS, record
from .._rule.pipeline import Pipeline
from .tensors import Tensor

SPAN = record("tile tile_end unit unit_end size")  # the words of a row of `Spans.table`; the last is a float64
SPAN_WORDS = len(SPAN)


class Unit(NamedTuple):
    """Elements that share a row of coefficients: `size` of a tensor from `first` on."""

    tensor: int
    size: int
    first: int


def unit_size(t: Tensor, by_row: bool, blocks: bool) -> int:
    """The elements of each unit of a tensor: one after the other in memory."""
    if not by_row or len(t.shape) < 2 or t.shape[0] < 2 or not t.array.size:
        return max(1, t.array.size)
    size = t.array.size//t.shape[0]
    if next(d for d in t.order if t.array.shape[d] > 1) != 0:
        raise ValueError(f"step: adaptive_clip, but the rows of {t.path} do not lie one after the other in memory. "
                         "Give an array in C order.")
    if blocks and size % SIZE:
        raise ValueError(f"step: adaptive_clip, but rows of {t.path} have {size} elements, and its states are in "
                         f"blocks of {SIZE}. Give states in another format.")
    return size


class Units:
    """The units of some tensors of a bucket. Of a pipeline that measures rows they are rows, else tensors."""

    def __init__(self, pipeline: Pipeline, layout: Layout, tensors: Sequence[Tensor], chosen: Sequence[bool]):
        by_row, blocks = any(piece.by_row for piece in pipeline.measured), bool(layout.blocks)
        sizes = {k: unit_size(tensors[k], by_row, blocks) for k, mine in enumerate(chosen) if mine}
        self.all = [Unit(k, n, first) for k, n in sizes.items() for first in range(0, tensors[k].array.size, n)]
        self.tensors = np.array([unit.tensor for unit in self.all], np.intp)

    def __len__(self) -> int:
        return len(self.all)

    def cut(self, size: int, heads: Sequence[int] = ()) -> np.ndarray:
        """Tiles of so many elements at most, behind any head. The group of a tile is the number of its unit."""
        return cut(self.all, range(len(self.all)), size, heads)


def cut(units: Sequence[Unit], rows: Sequence[int], size: int, heads: Sequence[int] = ()) -> np.ndarray:
    """Tiles of `size` elements at most, behind any head. `rows` says which row of coefficients each unit has."""
    tiles = []
    for of, row in zip(units, rows, strict=True):
        skip = heads[of.tensor] if heads and of.first == 0 and heads[of.tensor] < of.size else 0
        ends = [of.first, *range(of.first + (skip or size), of.first + of.size, size), of.first + of.size]
        tiles += [(of.tensor, row, first, end) for first, end in pairwise(ends)]
    return np.array(tiles, np.int64).reshape(len(tiles), 4)


def whole_tensors(chosen: Sequence[int], sizes: Sequence[int], groups: Sequence[int]) -> np.ndarray:
    """Tiles for the sums of whole tensors that have the coefficients of their groups."""
    found = [k for k in chosen if sizes[k]]
    return cut([Unit(k, sizes[k], 0) for k in found], [groups[k] for k in found], STRIDED_TILE)


class Spans:
    """Which tiles are summed together, those of a tensor or of a unit, and which units depend on that sum."""

    def __init__(self, tiles: np.ndarray, tensors: Sequence[int] | np.ndarray = (), by_row: bool = False):
        """`tensors`: the tensor of each unit, where units depend on the sums."""
        of, first = np.unique(tiles[:, TILE.group if by_row else TILE.tensor], return_index=True)
        units = (of, of + 1) if by_row else (np.searchsorted(tensors, of), np.searchsorted(tensors, of, "right"))
        sizes = np.add.reduceat(tiles[:, TILE.end] - tiles[:, TILE.first], first) if len(of) else of
        sizes, end = sizes.astype(np.float64), np.append(first, len(tiles))[1:]
        self.of, self.table = of, np.stack([first, end, *units, sizes.view(np.int64)], axis=1).astype(np.int64)
        counts, self.tiles = end - first, len(tiles)
        self._lanes = 1
        while self._lanes < min(SUMS, counts.max(initial=1)):
            self._lanes *= 2
        lane = (np.arange(len(tiles)) - np.repeat(first, counts)) % self._lanes
        self._at = np.repeat(np.arange(len(of)), counts)*self._lanes + lane
        self.of_unit = np.repeat(np.arange(len(of)), units[1] - units[0])
        self.sizes = sizes

    def pairs(self, found: np.ndarray) -> np.ndarray:
        """For each term, the sum of squares in each span, and what the root of that sum is to be multiplied by.

        `found` has the sums of each tile in each unit, of each term.
        """
        sums = self.totals(found[:, 0])
        units = np.ones_like(sums)
        for look, unit in enumerate(UNITS[1:found.shape[1]], 1):
            doubtful = sums == np.inf if unit < 1 else sums < SMALL_SUM
            if doubtful.any():
                sums = np.where(doubtful, self.totals(found[:, look]), sums)
                units[doubtful] = 1/unit
        return np.stack([sums, units], 1)

    def norms(self, found: np.ndarray) -> np.ndarray:
        """The Euclidean norm of each term in each span, of the sums of tiles as in `pairs`."""
        sums, units = self.pairs(found).swapaxes(0, 1)
        with np.errstate(over="ignore"):
            return np.sqrt(sums)*units

    def totals(self, found: np.ndarray) -> np.ndarray:
        """The sums of each span, a row for each column of `found`, which has a row for each tile.

        Tile k of a span adds to sum k % 64. Those 64 are added by halves.
        """
        lanes, count = self._lanes, len(self.of)*self._lanes
        sums = np.array([np.bincount(self._at, column, count) for column in found.T])
        sums = sums.reshape(found.shape[1], len(self.of), lanes)
        with np.errstate(over="ignore"):
            while lanes > 1:
                lanes //= 2
                sums[..., :lanes] += sums[..., lanes:2*lanes]
        return sums[..., 0]
