"""The buckets of parameters that ranks share, as one rank steps them."""
from collections.abc import Sequence
from typing import Any

from .._cpu.norm import squares
from .._tensors.backend import PLAIN, Request, Stored
from .memory import Memory
from .ranks import Ranks


class Part:
    """A bucket as this rank steps it."""

    def __init__(self, k: int, memory: Memory, whole: Stored, live: Sequence[int]):
        """Bucket k of this memory; `whole` steps the pieces `live`, of all buckets."""
        self.bucket = bucket = memory.buckets[k]
        self.sums, self.work = (flats[bucket.flat][bucket.span] for flats in (memory.sums, memory.work))
        self.mine, rows = memory.room(k)
        members = [(place, piece) for place, piece in enumerate(live) if memory.pieces[piece].bucket == k]
        self.indices = [piece for _, piece in members]
        self.tensors = [memory.pieces[piece].tensor for piece in self.indices]
        self.leaves = [rows[piece] for piece in self.indices]
        self.paths = [memory.paths[k] for k in self.tensors]
        tensors = [whole.tensors[place] for place, _ in members]
        groups = sorted({t.group for t in tensors})
        tensors = [t._replace(group=groups.index(t.group)) for t in tensors]
        self.backend: Any = whole.part([place for place, _ in members], tensors, [whole.groups[k] for k in groups],
                                       whole.apart)
        self._masks: tuple[Any, Any] = (), ()

    def arriving(self, ranks: Ranks) -> Any:
        """Begin to add the gradients of all ranks."""
        return ranks.sum(self.sums, self.mine, self.bucket.counts)

    def leaving(self, ranks: Ranks) -> Any:
        """Begin to send this rank's parameters to all ranks."""
        return ranks.share(self.work, self.bucket.counts)

    def bound(self, request: Request) -> list[Any]:
        """The buckets of the backend, bound to the sums."""
        self.backend.bind(self.leaves, self.paths, False, self._of(request.masks))
        return self.backend.binding.buckets

    def step(self, request: Request, t: int, threads: int) -> None:
        """Take the step that follows t steps."""
        request = self._asked(request, t, threads)
        self.backend.step(self.leaves, self.paths, PLAIN if request == PLAIN else request)

    def measuring(self, request: Request, t: int, threads: int) -> list[Any]:
        """What finds the coefficients of that step which depend on whole tensors."""
        return self.backend.measuring(self.leaves, self.paths, self._asked(request, t, threads))

    def _asked(self, request: Request, t: int, threads: int) -> Request:
        """What is asked of the backend in the step that follows t steps."""
        self.backend.taken, self.backend.threads = t, threads
        norm = {place: request.norm[k] for place, k in enumerate(self.tensors)} if request.apart else request.norm
        return request._replace(masks=self._of(request.masks), norm=norm)

    def _of(self, masks: Sequence[Any]) -> Sequence[Any]:
        """The masks of these pieces."""
        if masks and self._masks[0] is not masks:
            self._masks = masks, [masks[j] for j in self.indices]
        return self._masks[1] if masks else ()


def of_tensors(parts: Sequence[Part], threads: int, kernel: Any) -> dict[int, list[float]]:
    """The sums of squares of what this rank has of the gradient of each tensor."""
    found: dict[int, list[float]] = {}
    for part in parts:
        for place, sums in squares(part.backend.binding.buckets, threads, kernel).items():
            found.setdefault(part.tensors[place], []).extend(sums)
    return found
