"""Schedules: the value of a hyperparameter as a pure function of the step, ``t -> float`` for t = 1, 2, ...

>>> rate = cosine(3e-4, steps=10_000, warmup=500)
>>> rate, rate(500), rate(10_001)
(cosine(lr=0.0003, steps=10000, end=0.0, warmup=500), 0.0003, 0.0)

All lengths are in optimizer steps. t - 1 steps are done when step t begins, so step t has the value of torch's
``last_epoch = t - 1`` and of Keras's ``iterations = t - 1``: the one that their t-th update uses. A schedule of `steps`
starts at t = 1, reaches its end at t = steps + 1 (no step is spent at a rate of 0) and holds it from there on;
`cosine_restarts` and `cyclical` go on for ever. Warm-up is the exception: t/steps of the full value, so 1/steps of it
at t = 1 and all at t = steps, where torch and Keras begin with 0.

A schedule has no state and no history, is right for t up to 2**40, prints as the call that made it, compares, hashes
and pickles. Wrong arguments raise TypeError (kind) or ValueError (range) when it is made; so does a t that is no whole
number of at least 1, when called. Values are finite floats in their own unit, lengths are ints of at least 1 (`warmup =
0`: none), factors and divisors are above 0.
"""
from __future__ import annotations

import functools
import inspect
import math
from bisect import bisect_right
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from numbers import Integral, Real
from typing import Any, Concatenate, Literal, NamedTuple, ParamSpec, TypeAlias, get_args

from ._checks.numbers import plain, whole

__all__ = [
    "ReduceOnPlateau", "Schedule", "constant", "cosine", "cosine_restarts", "cyclical", "evaluate", "exponential",
    "inverse_square_root", "linear", "multi_step", "one_cycle", "schedule", "step", "warmup", "warmup_stable_decay"]

P = ParamSpec("P")
Number: TypeAlias = float
Factor: TypeAlias = float
Fraction: TypeAlias = float
Steps: TypeAlias = int
Count: TypeAlias = int
Value: TypeAlias = float | Callable[[int], float]
Milestones: TypeAlias = Sequence[int]
Shape: TypeAlias = Literal["linear", "cosine", "sqrt"]
Anneal: TypeAlias = Literal["cos", "linear"]
Cycle: TypeAlias = Literal["triangular", "triangular2", "exp_range"]
Goal: TypeAlias = Literal["min", "max"]


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


_DOMAINS = {  # by the annotation of an argument
    "Number": _Domain(Real, _finite, float, "a finite number", "Pass a float."),
    "Factor": _Domain(Real, lambda x: x > 0 and _finite(x), float, "a finite number above 0", "Pass a positive float."),
    "Fraction": _Domain(Real, lambda x: 0 <= x <= 1, float, "a number from 0 to 1", "Pass a fraction of 1."),
    "Steps": _Domain(Integral, lambda n: n >= 1, int, "a whole number, 1 or more", "Count steps, in an int."),
    "Count": _Domain(Integral, lambda n: n >= 0, int, "a whole number, 0 or more", "Count steps, in an int."),
    "Loss": _Domain(Real, lambda x: x == x, float, "a number, not NaN", "Pass what state_dict returned."),
    "Value": _Domain((Real, Callable), lambda x: callable(x) or _finite(x), lambda x: x if callable(x) else float(x),
                     "a finite number or a function of the step", "Pass a float or a schedule."),
    "Milestones": _Domain(Collection, lambda ms: all(a is not None and b is not None and a < b
                                                     for a, b in pairwise((0, *map(whole, ms)))),
                          lambda ms: tuple(map(int, ms)), "a list of increasing whole numbers, 1 or more",
                          "Sort them and drop repeats."),
    "Shape": _choice(Shape), "Anneal": _choice(Anneal), "Cycle": _choice(Cycle), "Goal": _choice(Goal),
}


def _checked(where: str, value: Any, domain: str) -> Any:
    """The value as a plain Python object; an annotation that is no domain is not checked."""
    if domain not in _DOMAINS:
        return value
    kind, holds, cast, need, cure = _DOMAINS[domain]
    value = plain(value)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise TypeError(f"{where}: found {value!r} of type {type(value).__name__}, needed {need}. {cure}")
    if not holds(value):
        raise ValueError(f"{where}: found {value!r}, needed {need}. {cure}")
    return cast(value)


@dataclass(frozen=True)
class Schedule:
    """A formula and its arguments: a function of the step. Any other ``t -> float`` serves an optimizer as well."""

    make: Callable[..., Schedule]
    formula: Callable[..., float]
    arguments: tuple[Any, ...]

    def __call__(self, t: int) -> float:
        """The value at step t = 1, 2, ..."""
        if type(t) is not int or t < 1:
            t = _checked(f"{self.make.__name__}(t)", t, "Steps")
        return self.formula(t, *self.arguments)

    def __repr__(self) -> str:
        names = inspect.signature(self.make).parameters
        return f"{self.make.__name__}({', '.join(f'{k}={v!r}' for k, v in zip(names, self.arguments, strict=True))})"

    def __reduce__(self) -> tuple[Any, ...]:
        return self.make, self.arguments


def schedule(formula: Callable[Concatenate[int, P], float]) -> Callable[P, Schedule]:
    """Make a formula ``f(t, ...) -> float`` (a function of a module, t first) into a factory of schedules.

    Every schedule here is made so. The factory evaluates t = 1 once, and refuses arguments that do not fit together.
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
        values = [_checked(f"{formula.__name__}.{k}", v, str(signature.parameters[k].annotation))
                  for k, v in given.arguments.items()]
        made = Schedule(make, formula, tuple(values))
        made(1)
        return made

    make.__signature__ = signature  # type: ignore[attr-defined]
    return make


_SHAPES: dict[str, Callable[[float], float]] = {
    "linear": lambda x: x, "cosine": lambda x: (1 - math.cos(math.pi * x)) / 2, "sqrt": math.sqrt}
_SHAPES["cos"] = _SHAPES["cosine"]


def _blend(start: float, end: float, x: float, shape: str = "linear") -> float:
    """`start` for x <= 0 and `end` for x >= 1, exactly; between them along the shape."""
    y = _SHAPES[shape](min(max(x, 0.0), 1.0))
    return start * (1 - y) + end * y


def _warm(t: int, steps: int, start: float = 0.0) -> float:
    """The fraction of a linear warm-up that step t has; 1 from t = steps on."""
    return _blend(start, 1.0, t / max(steps, 1))


def _geometric(value: float, factor: float, n: float) -> float:
    """value * factor**n; overflow is an error, underflow is 0."""
    try:
        result = value * factor**n
    except OverflowError:
        result = math.inf
    if not math.isfinite(result):
        raise OverflowError(f"schedule: found {value} * {factor}**{n}, needed a float64. Use a factor of at most 1, or "
                            "fewer steps.")
    return result


def evaluate(value: Value, t: int) -> float:
    """A hyperparameter, a number or a function of the step, at step t = 1, 2, ..."""
    return float(value(t) if callable(value) else value)


@schedule
def constant(t: int, value: Number) -> float:
    """`value` at every step. torch: ``LambdaLR(lambda e: 1.0)``. Keras: a plain number."""
    return value


@schedule
def linear(t: int, start: Number, end: Number, steps: Steps) -> float:
    """A straight line: start + (end - start)*x,  x = (t - 1)/steps, at most 1. `end` from t = steps + 1 on.

    torch: ``LinearLR(start/lr, end/lr, total_iters=steps)``, Keras: ``PolynomialDecay(start, steps, end)``, at t - 1.
    """
    return _blend(start, end, (t - 1) / steps)


@schedule
def warmup(t: int, steps: Steps, then: Value, start: Fraction = 0.0) -> float:
    """Linear warm-up into `then`, a number or any schedule, from its fraction `start` (Goyal et al. 2017).

    (start + (1 - start)*t/steps) * then(1) for t <= steps;  then(t - steps) after: `then` counts its steps from the end
    of the warm-up and waits at its first value until there. The value is then(1), in full, at t = steps and at t =
    steps + 1. torch: ``SequentialLR([LinearLR(1/steps, total_iters=steps - 1), then], [steps])`` at t - 1, start = 0.
    Keras: the warm-up of ``CosineDecay`` is (t - 1)/steps, one step later.
    """
    return _warm(t, steps, start) * evaluate(then, max(t - steps, 1))


@schedule
def step(t: int, lr: Number, every: Steps, factor: Factor = 0.1) -> float:
    """A staircase: lr*factor**floor((t - 1)/every).

    torch: ``StepLR(every, factor)`` at t - 1. Keras: ``ExponentialDecay(lr, every, factor, staircase=True)`` at t - 1.
    """
    return _geometric(lr, factor, (t - 1) // every)


@schedule
def multi_step(t: int, lr: Number, milestones: Milestones, factor: Factor = 0.1) -> float:
    """A staircase with chosen edges: lr*factor**k, k = how many of the increasing milestones are below t.

    After m steps the value drops, first at t = m + 1. torch: ``MultiStepLR(milestones, factor)`` at t - 1.
    Keras: ``PiecewiseConstantDecay([m - 1 for m in milestones], [lr, lr*factor, ...])`` at t - 1.
    """
    return _geometric(lr, factor, bisect_right(milestones, t - 1))


@schedule
def exponential(t: int, lr: Number, factor: Factor, every: Steps = 1) -> float:
    """Smooth decay: lr*factor**((t - 1)/every).

    torch: ``ExponentialLR(factor)`` at t - 1, every = 1. Keras: ``ExponentialDecay(lr, every, factor)`` at t - 1. A
    factor above 1 grows (the range test of Smith 2017) and raises OverflowError where the value leaves float64.
    """
    return _geometric(lr, factor, (t - 1) / every)


@schedule
def inverse_square_root(t: int, lr: Number, warmup: Steps) -> float:
    """The Transformer's schedule (Vaswani et al. 2017): lr*min(t/warmup, sqrt(warmup/t)), `lr` at t = warmup.

    The paper's d**-0.5 * min(t**-0.5, t*warmup**-1.5) has lr = (d*warmup)**-0.5 and the same t.
    torch: ``LambdaLR`` with this formula over lr, at t - 1. Keras has none.
    """
    return lr * _warm(t, warmup) * math.sqrt(warmup / max(t, warmup))


@schedule
def warmup_stable_decay(t: int, lr: Number, steps: Steps, warmup: Count, decay: Steps, end: Number = 0.0,
                        shape: Shape = "linear") -> float:
    """Warm-up, `lr`, then a decay to `end` in the last `decay` steps (Hu et al. 2024; "sqrt": Hägele et al. 2024).

    warm(t) * (lr + (end - lr)*s(x)),  warm(t) = t/warmup, at most 1;  x = (t - 1 - (steps - decay))/decay in [0, 1];
    s(x) = x ("linear"), (1 - cos(pi*x))/2 ("cosine") or sqrt(x) ("sqrt"). warmup + decay are at most steps.
    torch: ``SequentialLR`` of that of `warmup`, ``ConstantLR(1)`` and ``LinearLR(1, end/lr, decay)`` with milestones
    [warmup, steps - decay], at t - 1, "linear". Keras has none.
    """
    return _trapezoid(t, lr, steps, warmup, decay, end, shape)


def _trapezoid(t: int, lr: float, steps: int, warmup: int, decay: int, end: float, shape: str) -> float:
    if not 0 < decay <= steps - warmup:
        raise ValueError(f"schedule: found {steps} steps for a warm-up of {warmup} and a decay of {decay}, needed at "
                         "least their sum, and a decay of 1 or more. Shorten one of them, or lengthen steps.")
    return _warm(t, warmup) * _blend(lr, end, (t - 1 - steps + decay) / decay, shape)


@schedule
def cosine(t: int, lr: Number, steps: Steps, end: Number = 0.0, warmup: Count = 0) -> float:
    """Half a cosine from `lr` to `end` (Loshchilov & Hutter 2017), after `warmup` (fewer than `steps`) of its `steps`.

    warm(t) * (end + (lr - end)*(1 + cos(pi*x))/2),  warm(t) = min(t/warmup, 1),
    x = (t - 1 - warmup)/(steps - warmup) in [0, 1]
    torch: ``CosineAnnealingLR(T_max=steps, eta_min=end)``, Keras: ``CosineDecay(lr, steps, alpha=end/lr)``, at t - 1
    with warmup = 0. After steps + 1, torch's climbs back to `lr` and falls again; this one holds `end`, as Keras's.
    """
    return _trapezoid(t, lr, steps, warmup, steps - warmup, end, "cosine")


@schedule
def cosine_restarts(t: int, lr: Number, steps: Steps, multiply: Steps = 1, end: Number = 0.0,
                    decay: Fraction = 1.0) -> float:
    """SGDR: cosines from `lr` to `end` that begin anew, for ever (Loshchilov & Hutter 2017).

    end + (lr - end)*decay**n*(1 + cos(pi*x))/2;  cycle n = 0, 1, ... lasts steps*multiply**n, and x is the part of it
    done, in [0, 1). `decay` (0 to 1) shrinks the height above `end`.
    torch: ``CosineAnnealingWarmRestarts(T_0=steps, T_mult=multiply, eta_min=end)`` at t - 1, decay = 1.
    Keras: ``CosineDecayRestarts(lr, steps, t_mul=multiply, m_mul=decay, alpha=end/lr)`` at t - 1.
    """
    n, begin = _cycle((t - 1) // steps, multiply)
    x = (t - 1 - begin * steps) / (steps * multiply**n)
    return _blend(_blend(end, lr, _geometric(1.0, decay, n)), end, x, "cosine")


def _cycle(q: int, m: int) -> tuple[int, int]:
    """The cycle at q, and its begin (m**n - 1)/(m - 1), both in lengths of the first cycle; exact in integers."""
    if m == 1:
        return q, q
    z = q * (m - 1) + 1  # in cycle n, m**n <= z < m**(n + 1)
    n = round(math.log(z, m))
    n -= m**n > z
    return n, (m**n - 1) // (m - 1)


@schedule
def one_cycle(t: int, max_lr: Number, steps: Steps, warmup_fraction: Fraction = 0.3, start_divisor: Factor = 25.0,
              end_divisor: Factor = 1e4, anneal: Anneal = "cos") -> float:
    """Up once, down once (Smith & Topin 2019, two phases), along cosines or lines (`anneal` "cos" or "linear").

    It is max_lr/start_divisor at t = 1, max_lr at t = warmup_fraction*steps, and max_lr/start_divisor/end_divisor at
    t = steps (not steps + 1).
    torch: ``OneCycleLR(max_lr, steps, pct_start=warmup_fraction, anneal_strategy=anneal, div_factor=start_divisor,
    final_div_factor=end_divisor)`` at t - 1, without its momentum cycle (give the momentum a schedule of its own).
    Keras has none.
    """
    start, peak = max_lr / start_divisor, max(warmup_fraction * steps, 1.0)
    if peak >= steps:
        raise ValueError(f"one_cycle: found the peak at step {peak} of {steps}, needed it before the last. Lower "
                         "warmup_fraction.")
    if t < peak:
        return _blend(start, max_lr, (t - 1) / (peak - 1), anneal)
    return _blend(max_lr, start / end_divisor, (t - peak) / (steps - peak), anneal)


@schedule
def cyclical(t: int, low: Number, high: Number, half_cycle: Steps, mode: Cycle = "triangular",
             gamma: Fraction = 1.0) -> float:
    """A triangle wave, for ever (Smith 2017).

    low + (high - low)*scale*(1 - abs(x - 1)),  x = ((t - 1) mod 2*half_cycle)/half_cycle;  scale is 1 ("triangular"),
    2**-n in cycle n = 0, 1, ... ("triangular2") or gamma**(t - 1) ("exp_range", gamma from 0 to 1).
    torch: ``CyclicLR(low, high, half_cycle, mode=mode, gamma=gamma, cycle_momentum=False)`` at t - 1. Keras has none.
    """
    if gamma != 1 and mode != "exp_range":
        raise ValueError(f"cyclical.gamma: found {gamma} with mode {mode!r}, needed 1. Use mode='exp_range', or leave "
                         "gamma out.")
    n, k = divmod(t - 1, 2 * half_cycle)
    ratio, power = (0.5, n) if mode == "triangular2" else (gamma, t - 1)
    return _blend(low, high, _geometric(1 - abs(k / half_cycle - 1), ratio, power))


class ReduceOnPlateau:
    """Lower the value when a loss stops improving: the one schedule with a state, fed by `observe`; its t is not used.

    A loss is better if below best - threshold*abs(best) (mode "max": above best + ...); NaN never is. After more than
    `patience` observations without a better one, value <- max(value*factor, min_lr), and the next `cooldown`
    observations do not count. patience and cooldown are in observations, not steps; factor is above 0 and below 1,
    threshold from 0 to 1. torch: ``ReduceLROnPlateau(threshold_mode="rel", eps=0)``, except that torch calls a slightly
    worse negative loss better. Keras: the callback ``ReduceLROnPlateau(patience=patience + 1)``, except that its
    ``min_delta`` is absolute.
    """

    def __init__(self, lr: Number, factor: Fraction = 0.1, patience: Count = 10, threshold: Fraction = 1e-4,
                 mode: Goal = "min", cooldown: Count = 0, min_lr: Number = 0.0) -> None:
        given = locals()
        domains = {k: str(v) for k, v in ReduceOnPlateau.__init__.__annotations__.items() if k != "return"}
        self._options = {k: _checked(f"ReduceOnPlateau.{k}", given[k], domain) for k, domain in domains.items()}
        if not 0 < factor < 1:
            raise ValueError(f"ReduceOnPlateau.factor: found {factor}, needed above 0 and below 1. 0.1 divides by ten.")
        if min_lr > lr:
            raise ValueError(f"ReduceOnPlateau.min_lr: found {min_lr}, needed at most lr = {lr}. Lower min_lr.")
        self._sign = 1.0 if mode == "min" else -1.0
        self._state = {"lr": self._options["lr"], "best": self._sign * math.inf, "bad": 0, "cooling": 0}

    def __call__(self, t: int) -> float:
        """The value now, whatever the step."""
        return float(self._state["lr"])

    def __repr__(self) -> str:
        return f"ReduceOnPlateau({', '.join(f'{k}={v!r}' for k, v in self._options.items())}, state={self._state})"

    @property
    def version(self) -> int:
        """A number that changes with the value: then optimizers compute anew what they hold of later steps."""
        return hash(self._state["lr"])

    def observe(self, loss: float) -> None:
        """Take in one loss (one score, for mode "max"): a number."""
        try:
            value = float(loss) * self._sign
        except (TypeError, ValueError):
            raise TypeError(f"ReduceOnPlateau.observe: found {loss!r}, needed one number. Pass float(loss).") from None
        o, s, best = self._options, self._state, self._state["best"] * self._sign
        better = value < (best - o["threshold"] * abs(best) if math.isfinite(best) else best)
        if better:
            s["best"] = float(loss)
        s["bad"] = 0 if better or s["cooling"] else s["bad"] + 1
        s["cooling"] = max(s["cooling"] - 1, 0)
        if s["bad"] > o["patience"]:
            s.update(lr=max(s["lr"] * o["factor"], o["min_lr"]), bad=0, cooling=o["cooldown"])

    def state_dict(self) -> dict[str, float]:
        """The state in numbers: lr, best, bad (observations without a better one) and cooling (observations left)."""
        return dict(self._state)

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Continue from what `state_dict` returned; ValueError for other keys."""
        if set(state) != set(self._state):
            raise ValueError(f"ReduceOnPlateau.load_state_dict: found the keys {sorted(state)}, needed "
                             f"{sorted(self._state)}. Load what state_dict returned.")
        domains = {"lr": "Number", "best": "Loss", "bad": "Count", "cooling": "Count"}
        self._state = {k: _checked(f"ReduceOnPlateau.load_state_dict[{k!r}]", state[k], d) for k, d in domains.items()}
