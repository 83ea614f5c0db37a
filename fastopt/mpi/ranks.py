"""What ranks say to each other."""
import os
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, TypeVar

import numpy as np
from mpi4py import MPI

from .._cpu import pool
from .._cpu.norm import exact

Made = TypeVar("Made")
COPY = MPI.Comm.Create_keyval()  # of the copy of a communicator: one, as MPI has 2,000 or so
UNDER_WAY: list[Any] = []        # they hold their arrays, in which MPI may write after an error has left `step`


class Ranks:
    """The processes among which the state of an optimizer is shared out."""

    def __init__(self, comm: MPI.Comm | None):
        """`comm`: a communicator of mpi4py, of which a copy is used, the same by all; by default all processes."""
        given: Any = MPI.COMM_WORLD if comm is None else comm
        self.comm = given.Get_attr(COPY) or given.Dup()
        given.Set_attr(COPY, self.comm)
        self.rank, self.size = self.comm.rank, self.comm.size

    def together(self, make: Callable[[], Made]) -> Made:
        """What a function returns, if it returns on all ranks: an error on one is an error on all."""
        return self.agreed(*tried(make))

    def agreed(self, made: Made | None, error: Exception | None) -> Made:
        """What was made, if there is no error on any rank."""
        self.all_of(None, error)
        return made  # type: ignore[return-value]

    def all_of(self, value: Any, error: Exception | None) -> list[Any]:
        """The values of all ranks, if there is no error on any."""
        said = self.comm.allgather((error and str(error), value))
        if error is not None:
            raise error
        for rank, (text, _) in enumerate(said):
            if text is not None:
                raise RuntimeError(f"rank {rank}: {text}")
        return [of for _, of in said]

    def on_first(self, make: Callable[[], Made]) -> Made | None:
        """What a function returns on rank 0, which alone calls it: None on the others."""
        return self.together(lambda: make() if self.rank == 0 else None)

    def check_alike(self, where: str, mine: dict[str, Any]) -> None:
        """ValueError, on all ranks, where things with these names are not everywhere what they are on rank 0."""
        self.together(partial(_check_alike, where, mine, self.comm.bcast(mine), self.rank))

    def threads(self) -> int:
        """Threads for a rank, so that those on the same processors leave room for each other."""
        affinity = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
        here = MPI.Get_processor_name(), affinity
        return max(1, pool.available_threads()//self.comm.allgather(here).count(here))

    def pooled(self, sums: Mapping[int, Iterable[float]]) -> dict[int, list[float]]:
        """Numbers that add up to exactly as much as those of all ranks, of each key."""
        found: dict[int, list[float]] = {}
        for of in self.comm.allgather({k: exact(x) for k, x in sums.items()}):
            for k, x in of.items():
                found.setdefault(k, []).extend(x)
        return found

    def said(self, value: Any) -> Any:
        """What rank 0 says."""
        return self.comm.bcast(value)

    def everywhere(self, good: bool) -> bool:
        return self.comm.allreduce(good, MPI.LAND)

    # Arrays: as they are, without pickling, however large

    def from_first(self, row: np.ndarray) -> None:
        """Have a row hold what it holds on rank 0."""
        self.comm.Bcast(_bytes(row))

    def any(self, flags: np.ndarray) -> Any:
        """Begin to find which flags are set on some rank; they are then set here."""
        return under_way(self.comm.Iallreduce(MPI.IN_PLACE, flags, MPI.LOR))

    def add(self, row: np.ndarray) -> None:
        """Have numbers hold their sums over all ranks."""
        self.comm.Allreduce(MPI.IN_PLACE, row, MPI.SUM)

    def sum(self, sources: np.ndarray, target: np.ndarray, counts: list[int]) -> Any:
        """Begin to add rows, of which each rank gets so many elements."""
        return under_way(self.comm.Ireduce_scatter(sources, target, counts, MPI.SUM))

    def share(self, row: np.ndarray, counts: list[int]) -> Any:
        """Begin to send to all ranks the elements of a row that each has."""
        counts = [n*row.itemsize for n in counts]
        return under_way(self.comm.Iallgatherv(MPI.IN_PLACE, [row.view(np.uint8), (counts, None), MPI.BYTE]))

    def copy(self, source: Any, target: Any, sender: int, receiver: int) -> None:
        """Copy the bytes that one rank has to another; on others, and elsewhere, there are None."""
        if sender == receiver == self.rank:
            target[...] = source
        elif self.rank == sender:
            self.comm.Send(_bytes(source), receiver)
        elif self.rank == receiver:
            self.comm.Recv(_bytes(target), sender)


def tried(make: Callable[[], Made]) -> tuple[Made | None, Exception | None]:
    """What a function returns, or raises."""
    try:
        return make(), None
    except Exception as error:
        return None, error


def under_way(request: Any) -> Any:
    UNDER_WAY.append(request)
    return request


def wait(requests: list[Any]) -> None:
    MPI.Request.Waitall(requests)
    UNDER_WAY[:] = [request for request in UNDER_WAY if not request.Test()]


def _bytes(row: np.ndarray) -> list[Any]:
    return [row.view(np.uint8), MPI.BYTE]


def _check_alike(where: str, mine: dict[str, Any], theirs: dict[str, Any], rank: int) -> None:
    for name in {**theirs, **mine}:
        here, there = mine.get(name, "missing"), theirs.get(name, "missing")
        if here != there:
            raise ValueError(f"{where}: {name} is {here} on rank {rank}, but {there} on rank 0. Give all ranks the "
                             "same.")
