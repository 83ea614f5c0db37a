"""Coefficients that depend on whole tensors, or on each of their rows: found in passes over memory before a step's own.

A job whose pipeline has measured pieces has a row of coefficients for each unit, a tensor or a row, not for each group.
Sums are those of 4,096 elements each, in a fixed order, and then one after the other, all in float64: threads and
other tensors change no bit of them.
"""
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from .._formats.blocks import SIZE
from .._kernels.memory import JOB, STRIDED_TILE, TILE
from .._rule.pieces import MEASURE, Piece
from .._rule.pipeline import Pipeline
from .._tensors import arrays
from .._tensors.tensors import Tensor
from .loops import sums_kernel
from .pool import Plan


class Unit(NamedTuple):
    """Elements that share a row of coefficients: `size` of a tensor from `first` on."""

    tensor: int
    size: int
    first: int


def cut(units: Sequence[Unit], rows: Sequence[int], size: int, heads: Sequence[int] = ()) -> np.ndarray:
    """Tiles of so many elements at most, behind any head; `rows`: of which row of coefficients each unit is."""
    tiles = []
    for of, row in zip(units, rows, strict=True):
        skip = heads[of.tensor] if heads and of.first == 0 and heads[of.tensor] < of.size else 0
        ends = [of.first, *range(of.first + (skip or size), of.first + of.size, size), of.first + of.size]
        tiles += [(of.tensor, row, first, end) for first, end in pairwise(ends)]
    return np.array(tiles, np.int64).reshape(len(tiles), 4)


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


class Sums:
    """A pass over the elements of a job that makes the sums of a piece's terms."""

    def __init__(self, job: Any, pipeline: Pipeline, piece: Piece):
        self.job, self.count = job, piece.many
        self.found = np.zeros((len(job.tiles), piece.many))
        job.words[JOB.out] = arrays.address(self.found)
        self.plan = Plan([(sums_kernel(pipeline, job.layout.read, piece.name), job)])

    def by(self, column: int, count: int, threads: int) -> np.ndarray:
        """The sums of each term, for so many tensors or rows of coefficients: what this column of the tiles says."""
        self.plan.run(threads)
        of = self.job.tiles[:, column]
        return np.array([np.bincount(of, self.found[:, k], count) for k in range(self.count)])


class Measured:
    """A job of measured pieces, and how it gets its coefficients before each step."""

    def __init__(self, bucket: Any, pipeline: Pipeline, tensors: Sequence[Tensor], chosen: Sequence[bool]):
        """`tensors` are those of the bucket, of which the job has the `chosen` ones."""
        by_row, blocks = any(piece.by_row for piece in pipeline.measured), bool(bucket.layout.blocks)
        sizes = {k: unit_size(tensors[k], by_row, blocks) for k, mine in enumerate(chosen) if mine}
        units = [Unit(k, n, first) for k, n in sizes.items() for first in range(0, tensors[k].array.size, n)]
        self.tensors = np.array([unit.tensor for unit in units], np.intp)
        self.groups = np.array(bucket.groups, np.intp)[self.tensors]
        self.sizes = {True: np.array([unit.size for unit in units], np.float64),
                      False: np.array(bucket.sizes, np.float64)[self.tensors]}  # by row, or whole
        self.fields = pipeline.fields
        self.coefs = np.zeros((len(units), len(self.fields)), bucket.coefs.dtype)
        size, heads = bucket.cuts
        self.job = bucket.tiled(cut(units, range(len(units)), size, heads), self.coefs)
        self.tiles = cut(units, range(len(units)), STRIDED_TILE)
        self.passes = [(piece, Sums(bucket.tiled(self.tiles, self.coefs), pipeline, piece))
                       for piece in pipeline.measured]

    def fill(self, rows: np.ndarray, threads: int) -> None:
        """Find the coefficients of a step in which groups have these rows."""
        of_units, most = rows[self.groups], np.finfo(self.coefs.dtype).max
        with np.errstate(all="ignore"):
            for piece, sums in self.passes:
                self.coefs[...] = of_units
                if piece.by_row:
                    found = sums.by(TILE.group, len(of_units), threads)
                else:
                    found = sums.by(TILE.tensor, len(sums.job.sizes), threads)[:, self.tensors]
                columns = dict(zip(self.fields, of_units.T, strict=True))
                of = self.sizes[piece.by_row]
                for name, values in piece.of_sums(columns, found, of).items():  # type: ignore[misc]
                    of_units[:, self.fields.index(name)] = np.minimum(values, most)  # infinity times 0 would be NaN
            self.coefs[...] = of_units


def survey(job: Any, pipeline: Pipeline, of: Measured | None) -> Sums:
    """What measures the parameters, the gradients and the updates of a job, after `of` has found its coefficients."""
    if of is not None:
        return Sums(job.tiled(of.tiles, of.coefs), pipeline, MEASURE)
    own = {tensor: row for tensor, row, *_ in job.tiles.tolist()}
    tiles = cut([Unit(k, job.sizes[k], 0) for k in own], [*own.values()], STRIDED_TILE)
    return Sums(job.tiled(tiles, job.coefs), pipeline, MEASURE)
