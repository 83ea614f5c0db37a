"""Parameter groups: hyperparameters, each a number or a function of the step, checked when they are set and when they are used."""
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from typing import Any

from .history import History
from .hyper import ELSEWHERE, check_number, check_value
from .registry import Rule, shared


class Group(MutableMapping):
    """The hyperparameters of one group of parameters: a mapping whose values may be changed between steps."""

    def __init__(self, rule: Rule, values: dict[str, Any], where: str):
        self.rule, self.where = rule, where
        self.version = 0  # counts changes
        self._values: dict[str, Any] = {}
        self._numbers: dict[str, Any] = {}
        self._functions: dict[str, Callable[[int], float]] = {}
        self.history = History(rule.history, self._for_history) if rule.history else None
        for name, value in {**rule.defaults, **values}.items():
            self[name] = value

    def __setitem__(self, name: str, value: Any) -> None:
        if name not in self.rule.defaults:
            cure = f"Say {ELSEWHERE[name]}." if name in ELSEWHERE else "Remove it or take one of those."
            raise TypeError(f"{self.where}: {name!r} is no hyperparameter of {self.rule.name}, which has "
                            f"{', '.join(self.rule.defaults)}. {cure}")
        if callable(value) and name not in self.rule.options and name not in self.rule.initial.values():
            self._functions[name] = value
        else:
            self._numbers[name] = value = check_value(name, value, self.rule.options, self.where, self.rule.ranges)
            self._functions.pop(name, None)
        self._values[name] = value
        self.version += 1
        self._own = {k: self._numbers[k] for k in self.rule.own_names if k in self._numbers}

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
        return check_number(name, self._functions[name](t), f"{self.where} at step {t}", ranges=self.rule.ranges)

    def _for_history(self, names: tuple[str, ...], t: int) -> tuple[tuple[Any, ...], bool]:
        """Those hyperparameters at step t, and whether they are the same at every step."""
        values = {name: self._number(name, t) if name in self._functions else self._numbers[name] for name in names}
        return tuple(values.values()), not (self._functions.keys() & values)

    def coefficients(self, t: int, factor: float, clip_value: float) -> tuple[float, ...]:
        """The row of coefficients of step t, in float64, in the order of the rule's fields."""
        now = self.at(t)
        own = self._own if now is self._numbers else {k: now[k] for k in self.rule.own_names}
        if self.history is not None:
            own = {**own, "past": self.history.until(t)}
        return (*shared(now, factor, clip_value), *self.rule.own(t, **own).values())
