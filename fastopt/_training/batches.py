"""What `fit` gives to a step: the batches of all passes, and the value and gradient of one batch or of several."""
import math
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np

from ..optimizer import Optimizer, grouped

END = object()  # stands for the batch behind the last one


class Batches:
    """The batches of all passes, one after the other. With `again`, each pass is followed by another."""

    def __init__(self, source: Any, again: bool):
        self.source, self.again = source, again
        self.epoch = 0
        self.current: Iterator[Any] = iter(())
        self.ahead: list[Any] = []  # the next batch, where `passes` has looked for it

    def next(self) -> Any:
        """The next batch; END where there is none."""
        found = self.ahead.pop() if self.ahead else next(self.current, END)
        if found is END and (self.epoch == 0 or self.again):  # an iterator that has ended gives nothing again
            self.current = iter(self._pass())
            self.epoch += 1
            found = next(self.current, END)
        return found

    def _pass(self) -> Any:
        """The iterable of the next pass."""
        if self.source is None:
            return [None]
        if isinstance(self.source, Iterable) or not callable(self.source):
            return self.source
        found = self.source(self.epoch)
        if not walkable(found):
            raise TypeError(f"fit: batches({self.epoch}) returned {found!r}, but what can be iterated over is needed. "
                            "Return a list of batches, or a generator.")
        return found

    def passes(self) -> int:
        """The passes that are complete. This asks for the next batch: generators may then overwrite the last one."""
        self.ahead.extend(islice(self.current, 1))
        return self.epoch - bool(self.ahead)


def evaluate(function: Callable[[Any, Any], Any], point: Any, batch: Any) -> tuple[float, Any]:
    """Value and gradients of a batch, as the function returns them."""
    found = function(point, batch)
    if not isinstance(found, (tuple, list)) or len(found) != 2:
        raise TypeError(f"fit: value_and_grad returned a {type(found).__name__}, but (value, gradients) is needed. "
                        "Return both.")
    if found[1] is None:
        raise TypeError("fit: value_and_grad returned None for the gradients, but a tree like the parameters is "
                        "needed. Return it.")
    return number(found[0], "fit: value_and_grad"), found[1]


def walkable(found: Any) -> bool:
    """Whether it can be iterated over. Arrays of no dimension cannot, though they have the methods."""
    return (isinstance(found, Iterable) or hasattr(found, "__getitem__")) and getattr(found, "ndim", None) != 0


def number(found: Any, where: str, error: type[Exception] = TypeError) -> float:
    """What a function returned (a number, an array of one element), as a float; inf for ints beyond all floats."""
    if type(found) is float:
        return found
    one: Any = None
    try:
        one = found.item() if hasattr(found, "item") else np.asarray(found).item()
        return float(one)
    except OverflowError:
        return math.inf if one > 0 else -math.inf
    except (TypeError, ValueError, RuntimeError):  # the last: torch's, for several elements
        cure = "value.real" if isinstance(one, complex) else "float(value)"
        raise error(f"{where} returned {found!r}, but one number is needed. Return {cure}.") from None


def parameters(opt: Optimizer) -> Any:
    """The parameters as their gradients are given: of groups, the list of their trees."""
    return [group["params"] for group in opt.params] if grouped(opt.params) else opt.params
