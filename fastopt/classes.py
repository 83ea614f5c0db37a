"""The optimizer class of a rule: its signature, what an optimizer of it has, and where pickle finds it."""
import inspect
import sys
from collections.abc import Callable

from .attributes import InGroups, Own
from .optimizer import Optimizer
from .registry import Rule

REST = {"like": None, "state": None, "rounding": "nearest", "average": None, "copy": None, "seed": 0, "threads": None, "capturable": None}


def signature(rule: Rule) -> inspect.Signature:
    """The constructor's signature: parameters, learning rate, the rule's hyperparameters, and what all have."""
    P = inspect.Parameter
    own = [P(k, P.KEYWORD_ONLY, default=v) for k, v in rule.defaults.items() if k != "lr"]
    rest = [P(k, P.KEYWORD_ONLY, default=v) for k, v in REST.items()]
    first = [P("params", P.POSITIONAL_OR_KEYWORD), P("lr", P.POSITIONAL_OR_KEYWORD, default=rule.defaults["lr"])]
    return inspect.Signature([*first, *own, *rest])


def optimizer(rule: Rule, name: str | None = None, doc: str | None = None) -> Callable[..., Optimizer]:
    """The optimizer class of a rule, your own rules included.

    Parameters
    ----------
    rule : rule
        Made with `fastopt.rule`.
    name : str, optional
        The class's name; by default the rule's, in capitals: ``heavy_ball`` becomes ``HeavyBall``.
    doc : str, optional
        Its docstring; by default the rule's.

    Returns
    -------
    type
        A class to be called as ``Name(params, lr=..., **hyperparameters)``.
    """
    if not hasattr(rule, "digest"):
        raise TypeError(f"optimizer: {rule!r} is no rule. Decorate it with fastopt.rule first.")
    name = name or "".join(part.capitalize() for part in rule.name.split("_"))
    module = sys._getframe(1).f_globals.get("__name__", rule.__module__)  # where pickle finds it, if it is kept there under its name
    inside = {k: InGroups(k) for k in rule.defaults if not hasattr(Optimizer, k)}
    facts = {"learning_rate": InGroups("lr"), **inside, "rule": Own(rule), "__doc__": doc or rule.__doc__,
             "__signature__": signature(rule), "__module__": module}
    return type(name, (Optimizer,), facts)
