"""Attributes of an optimizer that nobody may set, because no step would see it: setting one says what to do instead.

Properties cost a step nothing; a `__setattr__` would be called for each attribute that the optimizer itself sets.
"""
from typing import Any, NoReturn

from .rule import Rule

FIXED = {  # what an optimizer is made with, or finds
    "params": "Write into its arrays, or make a new optimizer of other arrays.",
    "groups": "Set what is in them, opt.groups[0]['lr'] = 0.1 for example.",
    "state": "Write into its arrays, or load a state dict: opt.load_state_dict(saved).",
    "rule": "Make an optimizer of another rule: fastopt.optimizer(rule)(params).",
    "grad_norm": "Leave it: a step with clip_norm or skip_nonfinite sets it.",
    **{name: f"Make a new optimizer with {name}=..." for name in ("seed", "like", "rounding", "copy", "capturable",
                                                                        "schedule_free")},
    "grokfast": "Make a new optimizer with grokfast=..., or set opt.groups[0]['grokfast_factor'] of one that has it.",
    **{name: f"Make a new optimizer with {name}=..., or set opt.groups[0][{name!r}] of one that has it."
       for name in ("average", "mars")}}


def keep(opt: Any, name: str, value: Any) -> None:
    """AttributeError unless the value is what is there; so it is after ``opt.params *= 2``, which changes the array."""
    if getattr(opt, name, opt) is not value:
        raise AttributeError(f"{type(opt).__name__}: {name} was set, but an optimizer keeps the one that it has. "
                             f"{FIXED[name]}")


def read_only(cls: Any) -> None:
    """Make setting the attributes of `FIXED` an error that says what to do; those of a class can still be read."""
    for name in FIXED.keys() - {"rule"}:  # `Own`, where there is one
        have = vars(cls).get(name, property())
        setattr(cls, name, have.setter(lambda opt, value, name=name: keep(opt, name, value)))


class Own:
    """The rule of a class; that of an optimizer has what follows the parameters beside it."""

    def __init__(self, rule: Rule):
        self.rule = rule

    def __get__(self, opt: Any, owner: Any = None) -> Rule:
        return self.rule if opt is None else vars(opt).get("rule", self.rule)

    def __set__(self, opt: Any, value: Any) -> None:
        keep(opt, "rule", value)


class InGroups:
    """A hyperparameter: an optimizer has it in its groups, and not as an attribute."""

    def __init__(self, name: str):
        self.name = name

    def __get__(self, opt: Any, owner: Any = None) -> Any:
        return self if opt is None else self.refuse(opt, "", False)

    def __set__(self, opt: Any, value: Any) -> None:
        self.refuse(opt, f" = {value!r}", len(vars(opt).get("_groups", ())) > 1)

    def refuse(self, opt: Any, given: str, many: bool) -> NoReturn:
        loop, group = ("for group in opt.groups: ", "group") if many else ("", "opt.groups[0]")
        raise AttributeError(f"{type(opt).__name__}: {self.name} is no attribute of an optimizer, but steps read it in "
                             f"the groups. Say {loop}{group}[{self.name!r}]{given} instead.")
