"""What the coefficients of a step owe to earlier steps: a sum over all, whatever their hyperparameters were.

A rule with ``history=add`` has ``add(first, last, *hyperparameters)``: what those steps add, of which all have these
hyperparameters. While they stay numbers the sum is ``add(1, t, ...)``. Where they change, it goes on from there.
"""
import inspect
import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

UNDERFLOW = -746.0  # the exponential of less is 0
DOUBTFUL = 2**14  # steps that a device may turn out not to have made


class Known(NamedTuple):
    """The sum of steps 1 to t; the hyperparameters of those that follow, if they are numbers."""

    t: int
    total: float
    numbers: tuple[Any, ...] | None


class History:
    """The sum of one group. `now` gives the hyperparameters of a step, and whether they are numbers, which stay."""

    def __init__(self, add: Callable[..., float], now: Callable[[tuple[str, ...], int], tuple[tuple[Any, ...], bool]]):
        self.add, self._now = add, now
        self.names = tuple(inspect.signature(add).parameters)[2:]
        self._known = deque([Known(0, 0.0, None)], DOUBTFUL)
        self._version, self._fixed = -1, self._known[-1]  # of the hyperparameters that were numbers at the last step

    def until(self, t: int, version: int) -> float:
        """The sum of steps 1 to t: the next step, or a later one with the present hyperparameters, of this version."""
        last = self._fixed
        if version == self._version and last is self._known[-1] and last.t < t:  # as at the last step
            return last.total + self.add(last.t + 1, t, *last.numbers)  # type: ignore[misc]
        numbers, fixed = self._now(self.names, t)
        last = self._start(t - 1, numbers if fixed else None)
        if fixed:
            self._version, self._fixed = version, last
            return last.total + self.add(last.t + 1, t, *numbers)
        self._known.append(Known(t, last.total + self.add(t, t, *numbers), None))
        return self._known[-1].total

    def known(self, t: int) -> Known:
        """All that steps after t need."""
        numbers, fixed = self._now(self.names, t)
        return self._start(t, numbers if fixed else None)

    def save(self, t: int) -> tuple[int, float]:
        """(a step, the sum until then): with the hyperparameters of now, all that steps after t need."""
        return self.known(t)[:2]

    def go_on(self, known: Known) -> None:
        """Go on from what `known` gave."""
        self._known, self._version = deque([known], DOUBTFUL), -1

    def resuming(self, saved: tuple[int, float], hyper: Mapping[str, Any]) -> "partial[None]":
        """What to call to go on from there; `hyper` has the numbers of the steps since, if they were numbers."""
        return partial(setattr, self, "_known", deque([self.restored(saved, hyper)], DOUBTFUL))

    def restored(self, saved: Sequence[Any], hyper: Mapping[str, Any]) -> Known:
        """What `save` gave as `known`."""
        numbers = tuple(hyper[name] for name in self.names) if all(name in hyper for name in self.names) else None
        return Known(int(saved[0]), float(saved[1]), numbers)

    def _start(self, t: int, numbers: tuple[Any, ...] | None) -> Known:
        """Where steps after t begin to have these hyperparameters (None: functions), t being taken."""
        known = self._known
        while known and known[-1].t > t:
            known.pop()
        last = known.pop() if known else Known(0, 0.0, None)
        if last.numbers is None and numbers is not None:
            last = last._replace(numbers=numbers)  # of steps that were not made here nothing else is known
        elif last.numbers != numbers or numbers is None:
            known.append(last)
            last = Known(t, last.total + self._between(last, t), numbers)
        known.append(last)
        return last

    def _between(self, last: Known, t: int) -> float:
        if last.t == t:
            return 0.0
        if last.numbers is not None:
            return self.add(last.t + 1, t, *last.numbers)
        total = 0.0
        for k in range(t, last.t, -1):
            total += self.add(k, k, *self._now(self.names, k)[0])
            if total < UNDERFLOW:
                break
        return total


def saved(groups: Sequence[Any], t: int) -> dict[str, Any]:
    """The entry of a state dict: none where all steps had the present hyperparameters, which then say the sum."""
    found = [None if group.history is None else group.history.save(t) for group in groups]
    return {} if all(one in (None, (0, 0.0)) for one in found) else {"history": [one and list(one) for one in found]}


def of_product(rule: Any, hyper: Mapping[str, Any], t: int, product: Any) -> tuple[int, float]:
    """The history of a running product (an array of one number), whose logarithm is the sum.

    Where the product's digits do not deny it, all steps are taken to have had these hyperparameters.
    """
    digits, found = np.finfo(str(product.dtype).removeprefix("torch.")), float(product)
    names = tuple(inspect.signature(rule.history).parameters)[2:]
    values = [hyper[k] for k in names]
    alike = t and not any(map(callable, values)) and math.exp(rule.history(1, t, *values))
    if not t or abs(found - alike) <= float(digits.tiny + t*digits.eps*found):
        return 0, 0.0
    return t, math.log(found) if found > 0 else -math.inf


def fits(past: Any, t: int) -> bool:
    """Whether this may be what `save` gave at step t or before, or None."""
    try:
        return past is None or (len(past) == 2 and past[0] == int(past[0]) and 0 <= past[0] <= t
                                and not math.isnan(past[1]))
    except (TypeError, ValueError):
        return False


def check(groups: Sequence[Any], saved: Mapping[str, Any]) -> None:
    """ValueError where the entry of a state dict does not fit these groups."""
    given = saved.get("history") or [None]*len(groups)
    if not isinstance(given, (list, tuple)) or len(given) != len(groups) or not all(fits(x, saved["t"]) for x in given):
        raise ValueError("load_state_dict: its history does not fit the groups. The checkpoint is damaged.")


def resuming(groups: Sequence[Any], saved: Mapping[str, Any]) -> list["partial[None]"]:
    """What to call to go on from an entry that `check` has passed; without an entry, all steps were alike."""
    given = saved.get("history") or [None]*len(groups)
    return [group.history.resuming(one or (0, 0.0), hyper)
            for group, one, hyper in zip(groups, given, saved["groups"], strict=True) if group.history is not None]
