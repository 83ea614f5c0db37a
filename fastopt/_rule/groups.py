"""Parameter groups. A hyperparameter is a number or a function of the step, checked when it is set and when used."""
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from functools import partial
from typing import Any

import numpy as np

from .._signals import at_once
from ..schedules.factory import by_step
from .history import History, Known
from .hyperparameters import SHARED, check_value, said_here
from .pieces import last, measuring, modifiers
from .rule import Rule, shared

UNASKED = last(SHARED | {"lr": 0.0})  # the last coefficients, where no piece reads them
MOST_STEPS = 2**62  # words of 64 bits count them, and what is added to a count must not overflow


class Group(MutableMapping):
    """The hyperparameters of one group of parameters: a mapping whose values may be changed between steps."""

    def __init__(self, rule: Rule, values: dict[str, Any], where: str):
        self.rule, self.where = rule, where
        self.version = 0  # counts changes
        self.pieces: tuple[str, ...] = ()  # those around the rule for which these hyperparameters ask
        self.measures = False  # whether one of them, or one of the rule's own, measures whole tensors
        self.lasting: tuple[str, ...] = ()  # those that do whatever becomes of numbers that schedules may change
        self.ahead = False  # whether coefficients may be computed before their steps
        self.behind = 0  # steps that its tensors have not had; see `Late`
        self.one_by_one = False  # whether the rule decides by the step, so that each row is computed by itself
        self._values: dict[str, Any] = {}
        self._numbers: dict[str, Any] = {}
        self._functions: dict[str, Callable[[int], float]] = {}
        self.history = self.history_of(0) if rule.history else None
        self._own: dict[str, Any] = {}
        self._last: tuple[float, ...] | None = None  # the last coefficients, where they do not depend on the step
        at_once([self.change({**rule.defaults, **values}, where)])

    def __setitem__(self, name: str, value: Any) -> None:
        at_once([self.change({name: value}, self.where)])

    def change(self, given: Mapping[str, Any], where: str) -> "partial[None]":
        """What to call so that these values are in force, all at once: they are checked here."""
        values, numbers, functions = dict(self._values), dict(self._numbers), dict(self._functions)
        for name, value in given.items():
            if name not in self.rule.defaults:
                cure = f"Say {found}." if (found := said_here(name, self.rule)) else "Remove it or take one of those."
                raise TypeError(f"{where}: {name!r} is no hyperparameter of {self.rule.name}, which has "
                                f"{', '.join(self.rule.defaults)}. {cure}")
            if callable(value) and name not in self.rule.options and name not in self.rule.initial.values():
                functions[name] = by_step(value)
            else:
                numbers[name] = value = check_value(name, value, self.rule.options, where, self.rule.ranges)
                functions.pop(name, None)
            values[name] = value
        own = {k: numbers[k] for k in self.rule.own_names if k in numbers}
        if values["cautious_decay"] and values["decay"] == "coupled":
            raise ValueError(f'{where}: cautious_decay with decay="coupled", but it chooses where decay is subtracted '
                             'from a parameter. Give decay="decoupled" or decay="independent", too.')
        decays = "coupled", "cautious_decay" if values["cautious_decay"] else "decoupled"
        decay = decays[values["decay"] != "coupled"]
        asked, measures = modifiers(values), False
        for stage in ("gradient", "update"):
            kept = [piece.name for piece in getattr(self.rule, "measured", ()) if piece.stage == stage]
            rivals = [*kept, *measuring(values, stage)]
            measures = measures or bool(rivals)
            if len(rivals) > 1:
                raise ValueError(f"{where}: {rivals[0]} with {rivals[1]}, but each measures the {stage} that the other "
                                 "changes. Leave one out.")
        pieces = (*["scale"]*bool(values["maximize"]), *asked, *[decay]*bool(values["weight_decay"] != 0))
        lasting = (*decays, *asked)
        return partial(vars(self).update, _values=values, _numbers=numbers, _functions=functions, _own=own,
                       _last=None if asked.keys() - {"cautious"} else UNASKED, pieces=pieces, lasting=lasting,
                       measures=measures, ahead=self.rule.pure and not functions and not self.rule.history,
                       version=self.version + 1)

    @property
    def functions(self) -> Iterable[Callable[[int], float]]:
        """The hyperparameters that are functions of the step."""
        return self._functions.values()

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __delitem__(self, name: str) -> None:
        raise TypeError(f"{self.where}: a group keeps all hyperparameters of its rule. Set {name} to a number instead.")

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        changed = {k: v for k, v in self._values.items() if k == "lr" or v != self.rule.defaults[k]}
        return ", ".join(f"{k}={v!r}" for k, v in changed.items())

    def at(self, t: int) -> dict[str, Any]:
        """All hyperparameters as the numbers of step t."""
        if not self._functions:
            return self._numbers
        return {**self._numbers, **{name: self._number(name, t) for name in self._functions}}

    def _number(self, name: str, t: int) -> float:
        return check_value(name, self._functions[name](t), {}, f"{self.where} at step {t}", self.rule.ranges, "")

    def history_of(self, behind: int) -> History:
        """A history of tensors that are so many steps behind, which has only begun."""
        add: Any = self.rule.history
        return History(add, lambda names, t: self._for_history(names, t + behind))

    def past(self, known: Known | None, t: int, behind: int) -> tuple[int, float] | None:
        """What is known of the steps of tensors that have had t steps, as state dicts have it."""
        if known is None:
            return None
        history = self.history_of(behind)
        history.go_on(known)
        return history.save(t)

    def _for_history(self, names: tuple[str, ...], t: int) -> tuple[tuple[Any, ...], bool]:
        """These hyperparameters at step t, and whether they are the same at every step."""
        values = {name: self._number(name, t) if name in self._functions else self._numbers[name] for name in names}
        return tuple(values.values()), not (self._functions.keys() & values)

    def rows(self, first: int, count: int, behind: int = 0) -> np.ndarray:
        """The rows of some steps, if they may be computed `ahead`: without a gradient's factor, without a limit."""
        _check_count(first)
        first -= behind
        common, own, given = shared(self._numbers, 1.0, math.inf), self.rule.own, self._own
        if count > 1:
            try:
                columns = (*common, *own(np.arange(first, first + count), **given).values(), *last(self._numbers))
            except (TypeError, ValueError):
                self.one_by_one = True
            else:
                rows = np.empty((count, len(columns)))
                for k, column in enumerate(columns):
                    rows[:, k] = column
                return rows
        return np.array([(*common, *own(t, **given).values(), *last(self._numbers))
                         for t in range(first, first + count)])

    def coefficients(self, t: int, factor: float, clip_value: float, late: "Late | None" = None) -> tuple[float, ...]:
        """The row of coefficients of step t, in float64, in the order of the rule's fields."""
        _check_count(t)
        now, own, history = self._numbers, self._own, self.history
        if self._functions:
            now = self.at(t)
            own = {k: now[k] for k in self.rule.own_names}
        if late is not None:
            t, history = t - late.behind, late.history
        if history is not None:
            own = {**own, "past": history.until(t, self.version)}
        return (*shared(now, factor, clip_value), *self.rule.own(t, **own).values(), *(self._last or last(now)))


class Late:
    """A group as it is for tensors that have had some steps less, as no gradient of theirs came in those.

    Rules see the steps that the tensors have had; schedules, as always, those of the optimizer.
    """

    def __init__(self, group: Group):
        self.group, self.behind, self._changes = group, 0, 0
        self.history: History | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.group, name)

    @property
    def version(self) -> int:
        return self.group.version + self._changes

    def set(self, behind: int, past: Known | None) -> None:
        """Be so many steps behind. `past` is what is known of those that were taken, if the rule has a history."""
        self.behind, self._changes = behind, self._changes + 1
        if past is not None:
            self.history = self.group.history_of(behind)
            self.history.go_on(past)

    def rows(self, first: int, count: int) -> np.ndarray:
        return self.group.rows(first, count, self.behind)

    def coefficients(self, t: int, factor: float, clip_value: float) -> tuple[float, ...]:
        return self.group.coefficients(t, factor, clip_value, self)


def _check_count(t: int) -> None:
    if t > MOST_STEPS:
        raise ValueError(f"step: {t - 1} steps have been taken, but counts end there. Set opt.t to a smaller number.")
