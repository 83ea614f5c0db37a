"""Coefficients that depend on whole tensors, or on each of their rows: found in passes over memory before a step's own.

A job whose pipeline has measured pieces has a row of coefficients for each unit, a tensor or a row, not for each group.
"""
from collections.abc import Sequence
from typing import Any

import numpy as np

from .._kernels.memory import JOB, STRIDED_TILE, TILE, units_of
from .._rule.pieces import MEASURE, Piece
from .._rule.pipeline import Pipeline
from .._tensors import arrays
from .._tensors.tensors import Tensor
from .._tensors.units import Spans, Units, whole_tensors
from .loops import sums_kernel
from .pool import Plan


class Sums:
    """A pass over the elements of a job that makes the sums of a piece's terms."""

    def __init__(self, job: Any, pipeline: Pipeline, piece: Piece, spans: Spans):
        self.job, self.spans = job, spans
        self.found = np.zeros((len(job.tiles), len(units_of(job.layout.arithmetic.itemsize)), piece.many))
        job.words[JOB.out] = arrays.address(self.found)
        self.plan = Plan([(sums_kernel(pipeline, job.layout.read, piece.name), job)])

    def of_tiles(self, threads: int) -> np.ndarray:
        """The sums of each tile, in each unit, of each term."""
        self.plan.run(threads)
        return self.found


class Measured:
    """A job of measured pieces, and how it gets its coefficients before each step."""

    def __init__(self, bucket: Any, pipeline: Pipeline, tensors: Sequence[Tensor], chosen: Sequence[bool]):
        """`tensors` are those of the bucket, of which the job has the `chosen` ones."""
        units = Units(pipeline, bucket.layout, tensors, chosen)
        self.groups = np.array(bucket.groups, np.intp)[units.tensors]
        self.fields, self.Coefficients = pipeline.fields, pipeline.Coefficients
        self.coefs = np.zeros((len(units), len(self.fields)), bucket.coefs.dtype)
        self.job = bucket.tiled(units.cut(*bucket.cuts), self.coefs)
        self.tiles = units.cut(STRIDED_TILE)
        self.passes = [(piece, Sums(bucket.tiled(self.tiles, self.coefs), pipeline, piece,
                                    Spans(self.tiles, units.tensors, piece.by_row))) for piece in pipeline.measured]

    def fill(self, rows: np.ndarray, threads: int) -> None:
        """Find the coefficients of a step in which groups have these rows."""
        self.begin(rows)
        for k, (_, sums) in enumerate(self.passes):
            self.take(k, sums.spans.pairs(sums.of_tiles(threads)), sums.spans.sizes)

    def begin(self, rows: np.ndarray) -> None:
        """Give units the coefficients of their groups."""
        self._exact = rows[self.groups]
        with np.errstate(all="ignore"):
            self.coefs[...] = self._exact

    def take(self, k: int, pairs: np.ndarray, sizes: np.ndarray) -> None:
        """Make the coefficients of piece k, of the sums of its spans and the elements that each has."""
        (piece, sums), most = self.passes[k], np.finfo(self.coefs.dtype).max
        of = sums.spans.of_unit
        with np.errstate(all="ignore"):
            values = piece.of_sums(self.Coefficients(*self._exact.T), pairs[..., of], sizes[of])  # type: ignore[misc]
            for name, value in zip(piece.gives, values, strict=True):
                self._exact[:, self.fields.index(name)] = np.minimum(value, most)  # infinity times 0 would be NaN
            self.coefs[...] = self._exact


def survey(job: Any, pipeline: Pipeline, of: Measured | None) -> Sums:
    """What measures the parameters, the gradients and the updates of a job, after `of` has found its coefficients."""
    if of is not None:
        job = job.tiled(of.tiles, of.coefs)
    else:
        job = job.tiled(whole_tensors(np.unique(job.tiles[:, TILE.tensor]).tolist(), job.sizes, job.groups), job.coefs)
    return Sums(job, pipeline, MEASURE, Spans(job.tiles))
