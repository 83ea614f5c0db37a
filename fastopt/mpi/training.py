"""What ranks that train together say to each other; see `fastopt._training.peers`."""
import signal
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import files
from .._training.interrupts import Held
from .._training.peers import Found
from .ranks import Made, Ranks, tried


class Postponed(Held):
    """A first Ctrl-C waits until all ranks know of it."""

    always = True

    def install(self) -> None:
        super().install()
        self.on = True

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass

    def known(self) -> None:
        """Be interrupted, as all ranks are; another Ctrl-C does not wait."""
        self.on = self.waiting = False
        raise KeyboardInterrupt

    def remove(self) -> None:
        super().remove()
        if self.waiting:
            self.waiting = False
            self.old(signal.SIGINT, None)


class Peers:
    """The ranks of an optimizer. An error on one is an error on all."""

    held = Postponed

    def __init__(self, ranks: Ranks, shares: int):
        """`shares`: what sums over the ranks are divided by."""
        self.ranks, self.shares, self.first = ranks, shares, ranks.rank == 0
        self.together = ranks.together

    def any(self, make: Callable[[], bool]) -> bool:
        return any(self.ranks.all_of(*tried(make)))

    def mean(self, make: Callable[[], float]) -> float:
        return self._mean(self.ranks.all_of(*tried(make)))

    def _mean(self, values: Sequence[float]) -> float:
        """The same on all ranks, to the last bit, as they add in one order."""
        with np.errstate(all="ignore"):
            return float(np.sum(np.array(values)))/self.shares

    def as_first(self, make: Callable[[], Made]) -> Made:
        return self.ranks.all_of(*tried(make))[0]

    def found(self, make: Callable[[], Found], held: Postponed) -> Found:
        made, error = tried(make)
        here = made or Found(0, 0.0, None)
        said = self.ranks.all_of((here.batches, here.value, here.grads is None, held.waiting), error)
        if any(waiting for *_, waiting in said):
            held.known()
        if ended := [batches for batches, _, none, _ in said if none]:
            return Found(max(ended), 0.0, None)
        return here._replace(value=self._mean([value for _, value, *_ in said]))

    def check_alike(self, given: dict[str, Any]) -> None:
        self.ranks.check_alike("fit", given)

    def writer(self, checkpoint: Any, opt: Any) -> Callable[[], Any] | None:
        if checkpoint is None or callable(checkpoint):
            return None if checkpoint is None else lambda: self.together(lambda: checkpoint(opt))
        self.ranks.on_first(lambda: files.tried("fit: checkpoint", checkpoint))
        return lambda: opt.save(checkpoint)
