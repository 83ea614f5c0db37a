"""The formats that a user asks for: of states, of parameters, and the seed of what is rounded by chance."""
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from .._checks.numbers import whole
from .._checks.warning import warn
from .._rule.rule import Rule
from .catalogue import NAMES, Q43, Q44, ROUNDED, SHARING, Format

Asked = str | Mapping[str, str] | Callable[[str, Any], Any] | None
ROUNDINGS = ("nearest", "stochastic", "remainder")
REMAINDER, AVERAGE, SCHEDULE_FREE = "remainder", "average", "schedule_free"
EXACT = (AVERAGE, SCHEDULE_FREE)  # what carries the model is stored otherwise only where it is named


def check_rounding(rounding: Any, where: str) -> str:
    if not isinstance(rounding, str) or rounding not in ROUNDINGS:
        raise ValueError(f"{where}: rounding is {rounding!r}, but one of {', '.join(ROUNDINGS)} is needed. Change it.")
    return rounding


def check_in_use(rounding: str, itemsizes: Iterable[int], where: str) -> None:
    """Warn where a rounding is asked for, but no parameter is of 16 bits. It is no error: no small step is lost."""
    if rounding != "nearest" and min(itemsizes, default=0) > 2:
        states = ' To round states by chance, say state="bf16s".' if rounding == "stochastic" else ""
        warn(f"{where}: rounding={rounding!r} is for parameters of 16 bits, but none of these is, so that it has no "
             f"effect. Leave it out.{states}")


def check_seed(seed: Any, where: str) -> int:
    found = whole(seed)
    if found is None or not 0 <= found < 2**63:
        raise ValueError(f"{where}: seed is {seed!r}, but a whole number from 0 to 2**63 - 1 is needed. Change it.")
    return found


def parameter_format(format: Format, rounding: str, where: str) -> Format:
    """How a parameter is stored whose array has this format. Wider than 16 bits, it is as exact as its arithmetic."""
    if rounding == "nearest" or format.itemsize > 2:
        return format
    if (format.name, rounding) not in ROUNDED:
        raise TypeError(f"{where}: float16 with rounding={rounding!r}, but that is for bfloat16, the upper half of a "
                        'float32. Take "stochastic", or bfloat16 parameters.')
    return ROUNDED[format.name, rounding]


def state_formats(asked: Any, rule: Rule, where: str, path: str, array: Any, computed: Format) -> dict[str, Format]:
    """The formats of a tensor's states: those asked for (maybe by a function), else that of the arithmetic."""
    if callable(asked):
        asked = asked(path, array)
    if isinstance(asked, str):
        _check_name(asked, "".join([f"{where}: state format {asked!r}", *(f" for {name}" for name in rule.state[:1])]))
        asked = dict.fromkeys([name for name in rule.state if name not in EXACT], asked)
    named = {} if asked is None else asked
    if not isinstance(named, Mapping):
        raise TypeError(f"{where}: state is {asked!r}, but the name of a format, a dict of them by state, or a "
                        "function of path and array that returns one is needed. Change state.")
    for name, format in named.items():
        if name not in rule.state:
            cure = "Remove it, or name one of those." if rule.state else "Remove it."
            raise ValueError(f"{where}: state names {name!r}, but {rule.name} has {', '.join(rule.state) or 'none'}. "
                             f"{cure}")
        _check_name(format, f"{where}: state format {format!r} for {name}")
    return {name: _named(named[name], name, rule, where) if name in named else computed for name in rule.state}


def _check_name(format: Any, found: str) -> None:
    if not isinstance(format, str) or format not in (*NAMES, SHARING):
        raise ValueError(f"{found}, but one of {', '.join((*NAMES, SHARING))} is needed. Change it.")


def _named(format: str, name: str, rule: Rule, where: str) -> Format:
    if format == SHARING:
        return Q44 if name in rule.nonnegative else Q43
    if NAMES[format] is (Q43 if name in rule.nonnegative else Q44):
        raise ValueError(f"{where}: state format {format} for {name} of {rule.name}, but q44 is for states that are "
                         "never negative, and q43 for others. Take q8.")
    return NAMES[format]
