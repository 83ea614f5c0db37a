"""Coefficients that depend on whole tensors, of which each rank has parts.

Tensors are cut between blocks of 4,096 elements. Each rank sums its blocks, as on one machine, and all ranks put those
sums side by side. So the number of ranks changes no bit of what is added up, nor of the order.
"""
from collections.abc import Sequence
from typing import Any

import numpy as np

from .._kernels.memory import STRIDED_TILE
from .._rule.pieces import PIECES
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
        found, asking = np.zeros((spans.tiles, MANY)), []
        for part, job in jobs:
            for k, (piece, sums) in enumerate(job.passes):
                if piece.stage != stage:
                    continue
                own, members = sums.of_tiles(threads), [sums.job.members[j] for j in sums.spans.of]
                at = np.searchsorted(spans.of, [part.tensors[j] for j in members])
                for j, of, span in zip(members, at, sums.spans.table, strict=True):
                    first = spans.table[of, SPAN.tile] + memory.mine[part.indices[j]][0]//STRIDED_TILE
                    rows = own[span[SPAN.tile]:span[SPAN.tile_end]]
                    found[first:first + len(rows), :piece.many] = rows
                asking.append((job, k, piece.many, at))
        ranks.add(found)
        totals = spans.totals(found)
        for job, k, many, at in asking:
            job.take(k, totals[:many, at], spans.sizes[at])
