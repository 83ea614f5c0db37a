"""The optimizers: each is made from its rule, none inherits from another. `optimizers.pyi` shows them to editors."""
import sys
from collections.abc import Callable
from typing import Any

from . import rules
from ._rule import documentation
from ._rule.attributes import InGroups, Own
from ._rule.rule import Rule
from .optimizer import Optimizer


class WhenRead:
    """A fact of a class that is made when it is read, not when fastopt is imported."""

    def __init__(self, make: Callable[[], Any]):
        self.make = make

    def __get__(self, opt: Any, owner: Any = None) -> Any:
        return self.make()


def optimizer(rule: Rule, name: str | None = None, doc: str | None = None) -> Callable[..., Optimizer]:
    """The optimizer class of a rule, your own rules included.

    Parameters
    ----------
    rule : rule
        Made with `fastopt.rule`.
    name : str, optional
        The class's name; by default the rule's `class_name`.
    doc : str, optional
        Its docstring; by default the rule's, and its parameters if the rule has a line about each one.

    Returns
    -------
    type
        A class to be called as ``Name(params, lr=..., **hyperparameters)``.
    """
    if not hasattr(rule, "digest"):
        raise TypeError(f"optimizer: {rule!r} is no rule. Decorate it with fastopt.rule first.")
    # the module of the caller, in which pickle finds the class if it is kept there under its name
    module = sys._getframe(1).f_globals.get("__name__", rule.__module__)
    inside = {k: InGroups(k) for k in rule.defaults if not hasattr(Optimizer, k)}
    facts = {"learning_rate": InGroups("lr"), **inside, "rule": Own(rule), "__module__": module,
             "__doc__": WhenRead(lambda: doc or documentation.of_class(rule)),
             "__signature__": WhenRead(lambda: documentation.signature(rule)),
             "origin": (optimizer, (rule, name, doc))}
    return type(name or rule.class_name, (Optimizer,), facts)


ALL: dict[str, Any] = {name: optimizer(rule) for name, rule in rules.ALL.items()}
NAMED: dict[str, Any] = {**ALL, **{name: optimizer(rule) for name, rule in rules.MODIFIED.items()}}
globals().update({cls.__name__: cls for cls in NAMED.values()})
__all__ = [*(cls.__name__ for cls in NAMED.values()), "optimizer"]


def chosen(kind: Any, where: str, name: str) -> Any:
    """The optimizer class that the argument `name` of `where` is: a rule's name (in any case), a class, or a rule."""
    if isinstance(kind, str) and kind.lower() in NAMED:
        return NAMED[kind.lower()]
    if isinstance(kind, type) and issubclass(kind, Optimizer) and hasattr(kind, "rule"):
        return kind
    if callable(kind) and hasattr(kind, "digest"):
        return optimizer(kind)
    raise (ValueError if isinstance(kind, str) else TypeError)(
        f"{where}: {name} is {kind!r}, but one of {', '.join(NAMED)}, an optimizer class or a rule is needed. Rules "
        "are made by fastopt.rule.")


def stub() -> str:
    """The text of `optimizers.pyi`."""
    return documentation.stub(NAMED.values())
