"""What a schedule is, how a formula becomes one, what its arguments may be, and what functions of others mean."""
from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from numbers import Integral, Real
from typing import Any, Concatenate, Literal, NamedTuple, ParamSpec, TypeAlias, get_args

from .._checks.numbers import plain, whole

P = ParamSpec("P")
Number: TypeAlias = float
Size: TypeAlias = float
Factor: TypeAlias = float
Fraction: TypeAlias = float
Steps: TypeAlias = int
Count: TypeAlias = int
Flag: TypeAlias = bool
Function: TypeAlias = Callable[[int], Any]
Value: TypeAlias = float | Function
Parts: TypeAlias = Sequence[Value]
Numbers: TypeAlias = Sequence[float]
Milestones: TypeAlias = Sequence[int]
Shape: TypeAlias = Literal["linear", "cosine", "sqrt"]
Between: TypeAlias = Literal["constant", "linear", "cosine"]
Anneal: TypeAlias = Literal["cos", "linear"]
Cycle: TypeAlias = Literal["triangular", "triangular2", "exp_range"]
ScaleMode: TypeAlias = Literal["cycle", "iterations"]
Goal: TypeAlias = Literal["min", "max"]
ThresholdMode: TypeAlias = Literal["rel", "abs"]
ZERO_BASED = ("optax", "keras", "tf_keras")  # packages whose schedules get the number of steps done


class _Domain(NamedTuple):
    kind: Any
    holds: Callable[[Any], bool]
    cast: Callable[[Any], Any]
    need: str
    cure: str


def _finite(x: float) -> bool:
    try:
        return math.isfinite(x)
    except OverflowError:  # an int that no float can hold
        return False


def _choice(literal: Any) -> _Domain:
    return _Domain(str, get_args(literal).__contains__, str, f"one of {get_args(literal)}", "Choose one of these.")


def _value(x: Any) -> Any:
    """A finite number as a float, a function as it is, None for anything else."""
    x = plain(x)
    if isinstance(x, Real) and not isinstance(x, bool):
        return float(x) if _finite(x) else None  # type: ignore[arg-type]
    return x if callable(x) else None


def _numbers(xs: Any) -> bool:
    return len(xs) > 0 and all(type(_value(x)) is float for x in xs)


def _increase(xs: Any) -> bool:
    return all(a is not None and b is not None and a < b for a, b in pairwise((0, *map(whole, xs))))


_DOMAINS = {  # by the annotation of an argument
    "Number": _Domain(Real, _finite, float, "a finite number", "Pass a float."),
    "Size": _Domain(Real, lambda x: x >= 0 and _finite(x), float, "a finite number, 0 or more", "Pass such a float."),
    "Factor": _Domain(Real, lambda x: x > 0 and _finite(x), float, "a finite number above 0", "Pass a positive float."),
    "Fraction": _Domain(Real, lambda x: 0 <= x <= 1, float, "a number from 0 to 1", "Pass a fraction of 1."),
    "Steps": _Domain(Integral, lambda n: n >= 1, int, "a whole number, 1 or more", "Count steps, in an int."),
    "Count": _Domain(Integral, lambda n: n >= 0, int, "a whole number, 0 or more", "Count steps, in an int."),
    "Flag": _Domain(bool, lambda x: True, bool, "True or False", "Pass a bool."),
    "Loss": _Domain(Real, lambda x: x == x, float, "a number, not NaN", "Pass what state_dict returned."),
    "Function": _Domain(Callable, callable, lambda x: x, "a function", "Pass a function."),
    "Value": _Domain((Real, Callable), lambda x: _value(x) is not None, _value,
                     "a finite number or a function of the step", "Pass a float or a schedule."),
    "Parts": _Domain(Collection, lambda xs: len(xs) > 0 and all(_value(x) is not None for x in xs),
                     lambda xs: tuple(map(_value, xs)), "a list of finite numbers and functions of the step",
                     "Pass floats and schedules, one at least."),
    "Numbers": _Domain(Collection, _numbers, lambda xs: tuple(map(_value, xs)), "a list of finite numbers",
                       "Pass floats, one at least."),
    "Milestones": _Domain(Collection, _increase, lambda xs: tuple(map(int, xs)),
                          "a list of increasing whole numbers, 1 or more", "Sort them and drop repeats."),
    "Shape": _choice(Shape), "Between": _choice(Between), "Anneal": _choice(Anneal), "Cycle": _choice(Cycle),
    "ScaleMode": _choice(ScaleMode), "Goal": _choice(Goal), "ThresholdMode": _choice(ThresholdMode),
}


def checked(where: str, value: Any, domain: str) -> Any:
    """The value as a plain Python object; an annotation that is no domain is not checked."""
    optional, domain = domain.endswith(" | None"), domain.removesuffix(" | None")
    if domain not in _DOMAINS or (optional and value is None):
        return value
    kind, holds, cast, need, cure = _DOMAINS[domain]
    value = plain(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise TypeError(f"{where}: found {value!r} of type {type(value).__name__}, needed {need}. {cure}")
    if not holds(value):
        raise ValueError(f"{where}: found {value!r}, needed {need}. {cure}")
    return cast(value)


@dataclass(frozen=True)
class Schedule:
    """A function of the step that a factory of this module has made. An optimizer takes any other ``t -> float``, too.

    Attributes
    ----------
    make : callable
        The factory, `cosine` for example.
    formula : callable
        The formula, a function of t and the arguments.
    arguments : tuple
        The arguments, in the factory's order.
    """

    make: Callable[..., Schedule]
    formula: Callable[..., float]
    arguments: tuple[Any, ...]

    def __call__(self, t: int) -> float:
        """The value at step t = 1, 2, ..."""
        if type(t) is not int or t < 1:
            t = checked(f"{self.make.__name__}(t)", t, "Steps")
        return self.formula(t, *self.arguments)

    def __repr__(self) -> str:
        names = inspect.signature(self.make).parameters
        return f"{self.make.__name__}({', '.join(f'{k}={v!r}' for k, v in zip(names, self.arguments, strict=True))})"

    def __reduce__(self) -> tuple[Any, ...]:
        return self.make, self.arguments

    def __mul__(self, other: Value) -> Schedule:
        return product((self, other))

    __rmul__ = __mul__

    @property
    def version(self) -> int:
        """A number that changes when the state of a `ReduceOnPlateau` in this schedule does."""
        return sum(getattr(part, "version", 0) for part in functions(self.arguments) if not isinstance(part, Schedule))


def functions(value: Any) -> Iterator[Function]:
    """The functions of the step in a hyperparameter: itself, and those of which a schedule is made."""
    if callable(value):
        yield value
    for part in value if isinstance(value, tuple) else value.arguments if isinstance(value, Schedule) else ():
        yield from functions(part)


def schedule(formula: Callable[Concatenate[int, P], float]) -> Callable[P, Schedule]:
    """Make a factory of schedules of a formula ``f(t, ...) -> float``. Every schedule here is made so.

    The formula is a function at the top level of a module, and t is its first argument. The factory takes the other
    arguments, and evaluates t = 1 once: the formula may raise an error for arguments that do not fit together. The
    factory checks an argument itself if its annotation is the name of a kind: ``"Number"``, ``"Steps"``, ``"Value"``,
    and so on.
    """
    full = inspect.signature(formula)
    signature = full.replace(parameters=list(full.parameters.values())[1:], return_annotation="Schedule")

    @functools.wraps(formula)
    def make(*args: P.args, **kwargs: P.kwargs) -> Schedule:
        try:
            given = signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{formula.__name__}: {error}, needed {signature}. See its docstring.") from None
        given.apply_defaults()
        values = [checked(f"{formula.__name__}.{k}", v, str(signature.parameters[k].annotation))
                  for k, v in given.arguments.items()]
        made = Schedule(make, formula, tuple(values))
        made(1)
        return made

    make.__signature__ = signature  # type: ignore[attr-defined]
    return make


@schedule
def product(t: int, factors: Parts) -> float:
    """All factors multiplied, numbers or functions of the step: ``product([0.5, rate])``, or ``0.5*rate``.

    torch: ``ChainedScheduler(schedulers)``, of schedulers that multiply. optax: ``lambda count: a(count)*b(count)``.
    Keras: none.
    """
    return math.prod(evaluate(factor, t) for factor in factors)


@schedule
def zero_based(t: int, function: Function) -> float:
    """function(t - 1), for a function that counts the steps that are done: 0 at the first step.

    torch: ``LambdaLR(function)``, a factor of lr. optax: `function` itself. Keras: `function` itself. The schedules of
    optax and Keras need no `zero_based`. A function of yours that calls one does.
    """
    return float(function(t - 1))


def by_step(value: Function) -> Function:
    """The function of t = 1, 2, ... that a hyperparameter means: the schedules of optax and Keras count from 0."""
    if isinstance(value, Schedule):
        return value
    names = (str(getattr(of, "__module__", "")) for of in (value, *type(value).__mro__))
    return zero_based(value) if any(name.partition(".")[0] in ZERO_BASED for name in names) else value


def evaluate(value: Value, t: int) -> float:
    """A hyperparameter, a number or a function of the step, at step t = 1, 2, ..."""
    return float(by_step(value)(t) if callable(value) else value)
