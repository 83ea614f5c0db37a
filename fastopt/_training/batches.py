"""What a step of `training.fit` is given: batches, pass after pass, and the value and gradient of one batch or of several."""
import math
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np

from .._formats.scalars import BF16, arithmetic
from .._tensors import arrays
from .._tensors.tensors import Tensor, gradient
from ..optimizer import Optimizer

END = object()  # stands for the batch behind the last one


class Batches:
    """The batches of all passes, one after the other."""

    def __init__(self, source: Any):
        self.source, self.function = source, callable(source) and not isinstance(source, Iterable)
        self.epoch = 0
        self.current: Iterator[Any] = iter(())
        self.ahead: list[Any] = []  # the next batch, where it has been looked for

    def next(self, again: bool) -> Any:
        """The next batch; END where there is none. A pass is followed by another where `again` says so."""
        found = self.ahead.pop() if self.ahead else next(self.current, END)
        if found is END and (self.epoch == 0 or again):  # an iterator that has ended gives nothing again
            self.current = iter(self.walk())
            self.epoch += 1
            found = next(self.current, END)
        return found

    def walk(self) -> Any:
        """What gives the batches of a pass."""
        if not self.function:
            return [None] if self.source is None else self.source
        found = self.source(self.epoch)
        if not walkable(found):
            raise TypeError(f"fit: batches({self.epoch}) returned {found!r}, but what can be iterated over is needed. "
                            f"Return a list of "
                            "batches, or a generator.")
        return found

    def passes(self) -> int:
        """The passes that are complete. Looks for the next batch: a generator may overwrite the last one, which is used by now."""
        self.ahead.extend(islice(self.current, 1))
        return self.epoch - bool(self.ahead)


class Gradients:
    """Value and gradient of the next step, of one batch or of several."""

    def __init__(self, opt: Optimizer, function: Callable[[Any, Any], Any], batches: Batches, accumulate: int,
                 nonfinite: bool):
        self.opt, self.function, self.batches, self.accumulate, self.nonfinite = opt, function, batches, accumulate, nonfinite
        self.taken = 0  # batches of the step in progress
        if accumulate > 1:
            self.sums = [self.zeros(t, arithmetic(t.format).dtype) for t in opt._tensors]

    def __call__(self, again: bool) -> tuple[float, Any] | None:
        """(value, gradients); None where the batches have ended, after `taken` of them."""
        point = self.opt.lookahead() if self.opt.rule.ahead else parameters(self.opt)
        self.taken, total = 0, 0.0
        while self.taken < self.accumulate:
            batch = self.batches.next(again)
            if batch is END:
                return None
            value, grads = self.evaluate(point, batch)
            if self.accumulate > 1:
                self.add(grads)
            self.taken, total = self.taken + 1, total + value
        return total/self.accumulate, grads if self.accumulate == 1 else self.opt._structure.build(iter(self.sums))

    def evaluate(self, point: Any, batch: Any) -> tuple[float, Any]:
        found = self.function(point, batch)
        if not isinstance(found, (tuple, list)) or len(found) != 2:
            raise TypeError(f"fit: value_and_grad returned a {type(found).__name__}, but (value, gradients) is needed. "
                            f"Return both.")
        value = number(found[0], "value_and_grad")
        if found[1] is None:
            raise TypeError("fit: value_and_grad returned None for the gradients, but a tree like the parameters is "
                            "needed. Return it.")
        if not (self.nonfinite or math.isfinite(value)):
            raise FloatingPointError(f"fit: the value of step {self.opt.t + 1} is {value}, but a finite one is needed. "
                                     f"Lower the learning "
                                     "rate, clip the gradients, or give skip_nonfinite=True: steps with such gradients "
                                     "are then left out.")
        return value, found[1]

    def add(self, grads: Any) -> None:
        leaves: list[Any] = []
        self.opt._structure.collect(grads, "grads", leaves)
        found = [gradient(leaf, t, path) for leaf, t, path in zip(leaves, self.opt._tensors, self.opt._paths,
                                                                  strict=True)]
        with np.errstate(all="ignore"):  # infinities and NaN pass through, as in the kernels
            for k, (t, g) in enumerate(zip(self.opt._tensors, found, strict=True)):
                plain = BF16.decode(g.array.view(np.uint16)) if arrays.format_of(g.array, "grads") is BF16 else g.array
                total = self.sum_in(k, t, np.promote_types(arithmetic(t.format).dtype, plain.dtype))
                if self.taken:
                    np.add(total, plain, out=total)
                else:
                    np.copyto(total, plain)

    def zeros(self, t: Tensor, dtype: np.dtype) -> np.ndarray:
        return arrays.zeros_like(t.array, dtype, t.order, 1 + len(self.opt.rule.state))

    def sum_in(self, k: int, t: Tensor, dtype: np.dtype) -> np.ndarray:
        """The sum of a tensor's gradients so far, in this float type, or in a wider one that an earlier batch of the step had."""
        old = self.sums[k]
        if self.taken:
            dtype = np.promote_types(dtype, old.dtype)
        if old.dtype != dtype:
            self.sums[k] = self.zeros(t, dtype)
            self.sums[k][...] = old if self.taken else 0
        return self.sums[k]


def walkable(found: Any) -> bool:
    """Whether it can be iterated over; arrays of no dimension only look so."""
    return (isinstance(found, Iterable) or hasattr(found, "__getitem__")) and getattr(found, "ndim", None) != 0


def number(found: Any, where: str) -> float:
    """What a function returned, as a float: a number, or an array of one element. An int beyond all floats is infinite."""
    try:
        one = found.item() if hasattr(found, "item") else found
        return float(one)
    except OverflowError:
        return math.inf if one > 0 else -math.inf
    except (TypeError, ValueError, RuntimeError):  # the last: torch's, for several elements
        raise TypeError(f"fit: {where} returned {found!r}, but one number is needed. Return float(value).") from None


def parameters(opt: Optimizer) -> Any:
    """The parameters as their gradients are given: of groups, the list of their trees."""
    return [group["params"] for group in opt.params] if opt._grouped else opt.params
