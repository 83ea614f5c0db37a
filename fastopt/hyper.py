"""Hyperparameters: which numbers and words each may be."""
import math
import numbers
from collections.abc import Callable
from typing import Any

ELSEWHERE = {  # what other systems call things
    "betas": "b1=..., b2=...", "beta1": "b1=...", "beta2": "b2=...", "beta_1": "b1=...", "beta_2": "b2=...", "rho": "alpha=...",
    "learning_rate": "lr=...", "epsilon": "eps=...", "nesterov": "fastopt.Nesterov, with shifted=True for the form of torch and Keras",
    "amsgrad": "fastopt.AMSGrad", "decoupled_weight_decay": 'decay="decoupled"'}
FINITE = (math.isfinite, "a finite number")
NOT_NEGATIVE = (lambda x: 0 <= x < math.inf, "a finite number, 0 or more,")
SHARE = (lambda x: 0 <= x < 1, "a number in [0, 1)")
RANGES: dict[str, tuple[Callable[[float], bool], str]] = {
    **dict.fromkeys(("b1", "b2", "alpha", "momentum", "mu", "average"), SHARE),
    **dict.fromkeys(("lr", "eps", "eps_root", "weight_decay", "lr_decay", "momentum_decay", "initial_accumulator_value"), NOT_NEGATIVE),
    **dict.fromkeys(("clip_norm", "clip_value"), (lambda x: x > 0, "a number above 0")),
    "dampening": (lambda x: 0 <= x <= 1, "a number in [0, 1]"),
    "threshold": (lambda x: 4 <= x < math.inf, "a finite number, 4 or more,"),  # RAdam's root is real above 4
}


def plain(value: Any) -> Any:
    """What a scalar of NumPy, torch or JAX, or an array of no dimension, holds, as a Python number; all else as it is."""
    return value.item() if getattr(value, "shape", None) == () and hasattr(value, "item") else value


def whole(value: Any) -> int | None:
    """The value as an int; None where it is no whole number. True and False are none."""
    found = plain(value)
    return int(found) if isinstance(found, numbers.Integral) and not isinstance(found, bool) else None


def instead(name: str, value: Any) -> str:
    """What to do about a value that is no number."""
    shape = getattr(value, "shape", None)
    return "Give its one element, x.item()." if shape and all(n == 1 for n in shape) else f"Change {name}."


def check_number(name: str, value: Any, where: str, otherwise: str = " or a function of the step") -> float:
    """The value as a float; ValueError or TypeError where it is none that `name` may be."""
    allowed, needed = RANGES.get(name, FINITE)
    found = value if type(value) is float else plain(value)
    try:
        number = float(found) if isinstance(found, numbers.Real) and not isinstance(found, bool) else math.nan
    except OverflowError:  # an int that no float can hold
        number = math.inf
    if not allowed(number):
        raise (ValueError if isinstance(found, numbers.Real) else TypeError)(
            f"{where}: {name} is {value!r}, but {needed}{otherwise} is needed. {instead(name, value)}")
    return number


def check_option(name: str, value: Any, options: tuple[Any, ...], where: str) -> Any:
    """The value; ValueError where it is none of the options."""
    found = plain(value)
    if not isinstance(found, (str, bool)) or found not in options:
        raise ValueError(f"{where}: {name} is {value!r}, but one of {', '.join(map(repr, options))} is needed. {instead(name, value)}")
    return options[options.index(found)]  # the plain word: numpy.str_ is a str, too


def check_value(name: str, value: Any, options: dict[str, tuple[Any, ...]], where: str) -> Any:
    """The number or word that `name` may be, `options` being those of its rule."""
    return check_option(name, value, options[name], where) if name in options else check_number(name, value, where)
