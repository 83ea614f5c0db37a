"""What a training asks of the other processes that do the same; there are none but in `fastopt.mpi`."""
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from .interrupts import Held

Made = TypeVar("Made")


class Found(NamedTuple):
    """Of the batches of a step: how many, their value, their gradients; None where there were too few."""

    batches: int
    value: float
    grads: Any


class Alone:
    """The only process: all that it asks for is its own."""

    first = True   # whether it speaks for all
    held = Held    # how a Ctrl-C waits

    def together(self, make: Callable[[], Made]) -> Made:
        """What a function returns, if it returns everywhere."""
        return make()

    def any(self, make: Callable[[], bool]) -> bool:
        """Whether a function returns True somewhere."""
        return make()

    def mean(self, make: Callable[[], float]) -> float:
        """The mean of what a function returns."""
        return make()

    def as_first(self, make: Callable[[], Made]) -> Made:
        """What a function, called everywhere, returns in the first process."""
        return make()

    def found(self, make: Callable[[], Found], held: Held) -> Found:
        """Batches of the next step: the mean of their values, the gradients found here; too few, where any has."""
        return make()

    def check_alike(self, given: dict[str, Any]) -> None:
        """An error where arguments differ."""

    def writer(self, checkpoint: Any, opt: Any) -> Callable[[], Any] | None:
        """The function that writes a checkpoint."""
        if checkpoint is None or callable(checkpoint):
            return None if checkpoint is None else lambda: checkpoint(opt)
        from .. import files
        path = files.tried("fit: checkpoint", checkpoint)
        return lambda: files.save(path, opt)


ALONE = Alone()
