"""Coefficients that depend on whole tensors, of which each rank has parts.

Tensors are cut between blocks of 4,096 elements. Each rank sums its blocks, as on one machine, and all ranks put those
sums side by side. So the number of ranks changes no bit of what is added up, nor of the order.
"""
from collections.abc import Sequence
from typing import Any

import numpy as np

from .._cpu.measured import Sums
from .._formats.catalogue import arithmetic
from .._kernels.memory import STRIDED_TILE, UNITS
from .._rule.pieces import MEASURE, PIECES
from .._rule.pipeline import pipeline
from .._tensors.backend import Request
from .._tensors.units import SPAN
from .memory import Memory
from .part import Part
from .ranks import Ranks

MANY = max(piece.many for piece in PIECES.values())


def stages(rule: Any, groups: Sequence[Any]) -> list[str]:
    """The stages in which groups measure whole tensors, in the order of a step; ValueError where they measure rows."""
    pieces = [piece for group in groups for piece in pipeline(rule, group.pieces).measured]
    if any(piece.by_row for piece in pieces):
        raise ValueError("step: adaptive_clip, but each rank has parts of rows. Leave it out.")
    return [stage for stage in ("gradient", "update") if any(piece.stage == stage for piece in pieces)]


def find(wanted: Sequence[str], parts: Sequence[Part], memory: Memory, ranks: Ranks, request: Request, t: int,
         threads: int) -> None:
    """Find the coefficients of the step that follows t steps, for pieces in these stages."""
    jobs = [(part, job) for part in parts for job in part.measuring(request, t, threads)]
    spans = memory.spans
    for stage in wanted:
        found, asking = _room(memory, MANY), []
        for part, job in jobs:
            for k, (piece, sums) in enumerate(job.passes):
                if piece.stage != stage:
                    continue
                sums.of_tiles(threads)
                asking.append((job, k, piece.many, _put(sums, part, memory, found)))
        ranks.add(found)
        pairs = spans.pairs(found)
        for job, k, many, at in asking:
            job.take(k, pairs[:many, :, at], spans.sizes[at])


def surveyed(parts: Sequence[Part], memory: Memory, ranks: Ranks, stepped: bool) -> np.ndarray:
    """The norms of each gradient, parameter and update, a row for each tensor, of a step that these parts have taken.

    NaN where there was no gradient, and where the step was skipped.
    """
    spans, live = memory.spans, list({k for part in parts for k in part.tensors})
    rows, found = np.full((len(memory.tensors), MEASURE.many), np.nan), _room(memory, MEASURE.many)
    rows[[k for k in live if not memory.tensors[k].array.size]] = 0
    if stepped:
        for part in parts:
            for sums in part.backend.binding.plan.surveys:
                _put(sums, part, memory, found)
        ranks.add(found)
        of = np.isin(spans.of, live)
        rows[spans.of[of]] = spans.norms(found).T[of]
    return rows


def _room(memory: Memory, many: int) -> np.ndarray:
    """Room for the sums of all tiles, in each unit, of so many terms."""
    double = any(arithmetic(t.format).dtype.itemsize == 8 for t in memory.tensors)
    return np.zeros((memory.spans.tiles, len(UNITS) if double else 1, many))


def _put(sums: Sums, part: Part, memory: Memory, found: np.ndarray) -> np.ndarray:
    """Put what this rank found in its tiles into that of all tiles; the spans of which those are."""
    members = [sums.job.members[j] for j in sums.spans.of]
    at = np.searchsorted(memory.spans.of, [part.tensors[j] for j in members])
    for j, of, span in zip(members, at, sums.spans.table, strict=True):
        first = memory.spans.table[of, SPAN.tile] + memory.mine[part.indices[j]][0]//STRIDED_TILE
        rows = sums.found[span[SPAN.tile]:span[SPAN.tile_end]]
        found[first:first + len(rows), :, :rows.shape[2]] = rows  # one unit stands for all
    return at
