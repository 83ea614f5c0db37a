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


def check_number(name: str, value: Any, where: str, otherwise: str = " or a function of the step") -> float:
    """The value as a float; ValueError or TypeError where it is none that `name` may be."""
    allowed, needed = RANGES.get(name, FINITE)
    try:
        number = float(value) if isinstance(value, numbers.Real) and not isinstance(value, bool) else math.nan
    except OverflowError:  # an int that no float can hold
        number = math.inf
    if not allowed(number):
        raise (ValueError if isinstance(value, numbers.Real) else TypeError)(
            f"{where}: {name} is {value!r}, but {needed}{otherwise} is needed. Change {name}.")
    return number


def check_option(name: str, value: Any, options: tuple[Any, ...], where: str) -> Any:
    """The value; ValueError where it is none of the options."""
    if not isinstance(value, (str, bool)) or value not in options:
        raise ValueError(f"{where}: {name} is {value!r}, but one of {', '.join(map(repr, options))} is needed. Change {name}.")
    return value


def check_value(name: str, value: Any, options: dict[str, tuple[Any, ...]], where: str) -> Any:
    """The number or word that `name` may be, `options` being those of its rule."""
    return check_option(name, value, options[name], where) if name in options else check_number(name, value, where)
