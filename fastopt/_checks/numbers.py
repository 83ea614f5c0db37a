"""Checks of arguments that are numbers or words: one wording for each, in the whole package."""
import math
import numbers
import operator
import re
from collections.abc import Callable
from typing import Any

Range = tuple[Callable[[float], bool], str]  # what a number must fulfil, and how a message says it
FINITE: Range = (math.isfinite, "a finite number")


def interval(text: str) -> Range:
    """The numbers of an interval, "[0, 1)" for example: square brackets belong to it, round ones do not."""
    found = re.fullmatch(r"([\[(])([^,\s]+), *([^,\s]+)([\])])", text)
    try:
        low, high = map(float, found.groups()[1:3]) if found else (math.nan, math.nan)
    except ValueError:
        low = high = math.nan
    if found is None or not low < high:
        raise ValueError(f"rule: the range {text!r}, but an interval is needed. Write it as '[0, 1)', 0 being allowed "
                         "and 1 not; inf may be an end.")
    above, below = operator.le if text[0] == "[" else operator.lt, operator.le if text[-1] == "]" else operator.lt
    needed = f"a number in {text}"
    if math.isfinite(low) and math.isinf(high):
        number = "a number" if text[-1] == "]" else "a finite number,"
        needed = f"{number} {f'{low:g} or more,' if text[0] == '[' else f'above {low:g}'}"
    return lambda x: above(low, x) and below(x, high), needed


NONNEGATIVE, LIMIT = interval("[0, inf)"), interval("(0, inf]")  # a limit is one that clips


def plain(value: Any) -> Any:
    """The number in a scalar of NumPy, torch, JAX or TensorFlow, or in an array of no dimension; else what it is."""
    if getattr(value, "shape", None) != ():
        return value
    return value.item() if hasattr(value, "item") else value.numpy() if hasattr(value, "numpy") else value


def whole(value: Any) -> int | None:
    """The value as an int; None where it is no whole number. True and False are none."""
    found = plain(value)
    return int(found) if isinstance(found, numbers.Integral) and not isinstance(found, bool) else None


def instead(name: str, value: Any) -> str:
    """What to do about a value that is no number."""
    shape = getattr(value, "shape", None)
    return "Give its one element, x.item()." if shape and all(n == 1 for n in shape) else f"Change {name}."


def check_number(name: str, value: Any, where: str, otherwise: str = "", allowed: Range = FINITE) -> float:
    """The value as a float; ValueError where it is a number that is not allowed, TypeError where it is no number."""
    if type(value) is float and allowed[0](value):
        return value
    found = plain(value)
    try:
        number = float(found) if isinstance(found, numbers.Real) and not isinstance(found, bool) else math.nan
    except OverflowError:  # an int that no float can hold
        number = math.inf
    if not allowed[0](number):
        raise (ValueError if isinstance(found, numbers.Real) else TypeError)(
            f"{where}: {name} is {value!r}, but {allowed[1]}{otherwise} is needed. {instead(name, value)}")
    return number


def check_whole(name: str, value: Any, where: str, least: int = 1, cure: str = "",
                kind: type[Exception] = TypeError) -> int:
    """The value as an int, `least` or more; ValueError if it is another number, an error of this kind if it is none."""
    found = whole(value)
    if found is None or found < least:
        raise (ValueError if isinstance(plain(value), numbers.Real) else kind)(
            f"{where}: {name} is {value!r}, but a whole number, {least} or more, is needed. "
            f"{cure or instead(name, value)}")
    return found


def check_option(name: str, value: Any, options: tuple[Any, ...], where: str) -> Any:
    """The value; ValueError where it is none of the options."""
    found = plain(value)
    if not isinstance(found, (str, bool)) or found not in options:
        raise ValueError(f"{where}: {name} is {value!r}, but one of {', '.join(map(repr, options))} is needed. "
                         f"{instead(name, value)}")
    return options[options.index(found)]  # the plain word: numpy.str_ is a str, too
