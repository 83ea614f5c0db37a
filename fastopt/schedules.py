"""Schedules: the value of a hyperparameter as a pure function of the step, ``t -> float`` for t = 1, 2, ...

>>> rate = cosine(3e-4, steps=10_000, warmup=500)
>>> rate(500), rate(10_001)
(0.0003, 0.0)

All lengths are in optimizer steps. t - 1 steps are complete when step t begins, so step t gets the value of torch's
``last_epoch = t - 1`` and of Keras's ``iterations = t - 1``: the number that their t-th update uses. A schedule of `steps`
starts at t = 1, arrives at its end at t = steps + 1 (no step is spent at an `end` of 0) and holds it from there on; only
`cosine_restarts` and `cyclical` repeat for ever. Warm-up is the exception: it gives t/steps of the full value, 1/steps at
t = 1 and all of it at t = steps, where torch and Keras begin with a step of 0.

A schedule is a frozen dataclass of its arguments: it prints as the call that made it, compares, hashes and pickles. It has no
state and no history, costs the same for every t (up to 2**40 and more), and is made of three primitives: `_blend` (from one
value to another), `_warm` (a blend from 0 to 1) and `_geometric` (repeated factors). Wrong arguments raise TypeError (kind) or
ValueError (range) when the schedule is made, and when it is called with a t that is not a whole number of at least 1.
"""

from __future__ import annotations

import math
import sys
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from numbers import Integral, Real
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

__all__ = ["ReduceOnPlateau", "Schedule", "constant", "cosine", "cosine_restarts", "cyclical", "evaluate", "exponential",
           "inverse_square_root", "linear", "multi_step", "one_cycle", "step", "warmup", "warmup_stable_decay"]

Number: TypeAlias = float
Factor: TypeAlias = float
Fraction: TypeAlias = float
Steps: TypeAlias = int
Count: TypeAlias = int
Loss: TypeAlias = float
Value: TypeAlias = float | Callable[[int], float]
Milestones: TypeAlias = Iterable[int]
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
    return abs(x) <= sys.float_info.max  # also for whole numbers too big for a float, where math.isfinite raises


def _choice(names: tuple[str, ...]) -> _Domain:
    return _Domain(str, names.__contains__, str, "one of " + ", ".join(map(repr, names)), "Choose one of these.")


_STEPS = "Count in optimizer steps, as an int."
_DOMAINS = {  # by the annotation of the field
    "Number": _Domain(Real, _finite, float, "a finite number", "Pass a float."),
    "Factor": _Domain(Real, lambda x: 0 < x and _finite(x), float, "a finite number above 0", "Pass a positive float."),
    "Fraction": _Domain(Real, lambda x: 0 <= x <= 1, float, "a number from 0 to 1", "Pass a fraction of 1."),
    "Steps": _Domain(Integral, lambda n: n >= 1, int, "a whole number, at least 1", _STEPS),
    "Count": _Domain(Integral, lambda n: n >= 0, int, "a whole number, at least 0", _STEPS),
    "Loss": _Domain(Real, lambda x: x == x, float, "a number", "Load what state_dict returned."),
    "Value": _Domain((Real, Callable), lambda x: callable(x) or _finite(x), lambda x: x if callable(x) else float(x),
                     "a finite number or a function of the step", "Pass a float or a schedule."),
    "Milestones": _Domain(Iterable, lambda x: True, tuple, "a list of steps", "Pass a list of ints."),
    "Shape": _choice(get_args(Shape)), "Anneal": _choice(get_args(Anneal)),
    "Cycle": _choice(get_args(Cycle)), "Goal": _choice(get_args(Goal)),
}


def _checked(where: str, value: Any, domain: str) -> Any:
    kind, holds, cast, need, cure = _DOMAINS[domain]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise TypeError(f"{where}: found {value!r} of type {type(value).__name__}, needed {need}. {cure}")
    _demand(holds(value), f"{where}: found {value!r}, needed {need}. {cure}")
    return cast(value)


def _demand(holds: bool, message: str) -> None:
    if not holds:
        raise ValueError(message)


_SHAPES: dict[str, Callable[[float], float]] = {
    "linear": lambda x: x, "cosine": lambda x: (1 - math.cos(math.pi * x)) / 2, "sqrt": math.sqrt}
_SHAPES["cos"] = _SHAPES["cosine"]


def _blend(start: float, end: float, x: float, shape: str = "linear") -> float:
    """`start` for x <= 0, `end` for x >= 1, exactly; between them along the shape."""
    y = _SHAPES[shape](min(max(x, 0.0), 1.0))
    return start * (1 - y) + end * y


def _warm(t: int, steps: int, start: float = 0.0) -> float:
    """The fraction reached at step t of a linear warm-up; 1 from t = steps on."""
    return _blend(start, 1.0, t / max(steps, 1))


def _geometric(value: float, factor: float, n: float) -> float:
    """value * factor**n; an overflow is an error, an underflow is 0."""
    try:
        result = value * factor**n
    except OverflowError:
        result = math.inf
    if not math.isfinite(result):
        raise OverflowError(f"schedule: found {value} * {factor}**{n}, needed a finite value. Use a factor of at most 1, or stop earlier.")
    return result


def evaluate(value: Value, t: int) -> float:
    """The hyperparameter `value`, a number or a function of the step, at step t (1, 2, ...)."""
    return float(value(t) if callable(value) else value)


class Schedule(ABC):
    """A function of the step. Any other ``t -> float`` serves as well; this one checks its fields and its argument."""

    def __post_init__(self) -> None:
        for f in fields(self):  # type: ignore[arg-type]  # every subclass is a dataclass
            if f.init:
                object.__setattr__(self, f.name, _checked(f"{type(self).__name__}.{f.name}", getattr(self, f.name), str(f.type)))

    def __call__(self, t: int) -> float:
        """The value at step t = 1, 2, ..."""
        if type(t) is not int or t < 1:
            t = _checked(f"{type(self).__name__}(t)", t, "Steps")
        return self._at(t)

    @abstractmethod
    def _at(self, t: int) -> float: ...


@dataclass(frozen=True)
class constant(Schedule):
    """`value` at every step. torch: ``LambdaLR(lambda e: 1.0)``; Keras: a plain number."""

    value: Number

    def _at(self, t: int) -> float:
        return self.value


@dataclass(frozen=True)
class linear(Schedule):
    """A straight line: start + (end - start) * x,  x = (t - 1)/steps, at most 1.

    `start` at t = 1, `end` from t = steps + 1 on. torch: ``LinearLR(start_factor=start/lr, end_factor=end/lr, total_iters=steps)``;
    Keras: ``PolynomialDecay(start, steps, end, power=1)``; both at t - 1.
    """

    start: Number
    end: Number
    steps: Steps

    def _at(self, t: int) -> float:
        return _blend(self.start, self.end, (t - 1) / self.steps)


@dataclass(frozen=True)
class warmup(Schedule):
    """Linear warm-up into a number or any schedule (Goyal et al. 2017).

    (start + (1 - start) * t/steps) * then(1) for t <= steps;  then(t - steps) after: `then` counts its steps from the end of
    the warm-up, and waits at its first value until there. Equal to `then(1)`, the full value, at t = steps and t = steps + 1.

    Parameters
    ----------
    steps : int
        Length in steps, at least 1.
    then : float or function of the step
    start : float
        The fraction, 0 to 1, from which the warm-up rises; the first step has start + (1 - start)/steps of the full value.

    Notes
    -----
    torch: ``SequentialLR([LinearLR(1/steps, total_iters=steps - 1), then], [steps])`` for start = 0, at t - 1. Keras's
    ``CosineDecay(warmup_target=...)`` warms up with (t - 1)/steps, one step later.
    """

    steps: Steps
    then: Value
    start: Fraction = 0.0

    def _at(self, t: int) -> float:
        return _warm(t, self.steps, self.start) * evaluate(self.then, max(t - self.steps, 1))


@dataclass(frozen=True)
class cosine(Schedule):
    """Half a cosine from `lr` to `end`, after an optional warm-up (Loshchilov & Hutter 2017, without restarts).

    warm(t) * (end + (lr - end) * (1 + cos(pi*x))/2),  warm(t) = t/warmup, at most 1;  x = (t - 1 - warmup)/(steps - warmup) in [0, 1]

    Parameters
    ----------
    lr, end : float
        The values at the top and from t = steps + 1 on.
    steps : int
        Length in steps, the warm-up included.
    warmup : int
        Steps of linear warm-up, fewer than `steps`.

    Notes
    -----
    torch: ``CosineAnnealingLR(T_max=steps, eta_min=end)`` at t - 1 up to t = steps + 1 (torch then climbs again, this holds `end`);
    Keras: ``CosineDecay(lr, steps, alpha=end/lr)`` at t - 1. Both with warmup = 0; see `warmup` for theirs.
    """

    lr: Number
    steps: Steps
    end: Number = 0.0
    warmup: Count = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        _demand(self.warmup < self.steps, f"cosine.warmup: found {self.warmup} for {self.steps} steps, needed fewer than steps. "
                "Count the warm-up within steps, or make it shorter.")

    def _at(self, t: int) -> float:
        return _warm(t, self.warmup) * _blend(self.lr, self.end, (t - 1 - self.warmup) / (self.steps - self.warmup), "cosine")


@dataclass(frozen=True)
class cosine_restarts(Schedule):
    """SGDR: cosines that begin anew, each `multiply` times longer than the last (Loshchilov & Hutter 2017).

    end + (lr - end) * decay**n * (1 + cos(pi*x))/2;  cycle n = 0, 1, ... lasts steps * multiply**n;  x is the part of it complete, from 0 to 1

    Parameters
    ----------
    lr, end : float
        Top of the first cycle, and bottom of all.
    steps : int
        Length of the first cycle in steps.
    multiply : int
        Growth of the length, at least 1.
    decay : float
        Shrinking of the height above `end` from cycle to cycle, 0 to 1.

    Notes
    -----
    torch: ``CosineAnnealingWarmRestarts(T_0=steps, T_mult=multiply, eta_min=end)``, decay = 1;
    Keras: ``CosineDecayRestarts(lr, steps, t_mul=multiply, m_mul=decay, alpha=end/lr)``; both at t - 1.
    """

    lr: Number
    steps: Steps
    multiply: Steps = 1
    end: Number = 0.0
    decay: Fraction = 1.0

    def _at(self, t: int) -> float:
        n, begin = self._cycle((t - 1) // self.steps)
        x = (t - 1 - begin * self.steps) / (self.steps * self.multiply**n)
        return _blend(_blend(self.end, self.lr, _geometric(1.0, self.decay, n)), self.end, x, "cosine")

    def _cycle(self, q: int) -> tuple[int, int]:
        """The cycle that q first lengths lie in, and its begin (m**n - 1)/(m - 1) in first lengths; exact in integers."""
        m = self.multiply
        if m == 1:
            return q, q
        z = q * (m - 1) + 1  # cycle n is m**n <= z < m**(n + 1)
        n = round(math.log(z, m))
        n -= m**n > z
        return n, (m**n - 1) // (m - 1)


@dataclass(frozen=True)
class step(Schedule):
    """A staircase: lr * factor**floor((t - 1)/every).

    `every` is in steps, `factor` above 0. torch: ``StepLR(step_size=every, gamma=factor)``;
    Keras: ``ExponentialDecay(lr, every, factor, staircase=True)``; both at t - 1.
    """

    lr: Number
    every: Steps
    factor: Factor = 0.1

    def _at(self, t: int) -> float:
        return _geometric(self.lr, self.factor, (t - 1) // self.every)


@dataclass(frozen=True)
class multi_step(Schedule):
    """A staircase with chosen edges: lr * factor**k, k = how many milestones are at most t - 1.

    Milestones are steps, increasing: after m steps the value drops, first at t = m + 1. torch: ``MultiStepLR(milestones, factor)``
    at t - 1; Keras: ``PiecewiseConstantDecay([m - 1 for m in milestones], [lr, lr*factor, ...])`` at t - 1.
    """

    lr: Number
    milestones: Milestones
    factor: Factor = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        marks = tuple(_checked(f"multi_step.milestones[{i}]", m, "Steps") for i, m in enumerate(self.milestones))
        _demand(all(a < b for a, b in zip(marks, marks[1:], strict=False)),
                f"multi_step.milestones: found {marks}, needed increasing steps. Sort them and drop repeats.")
        object.__setattr__(self, "milestones", marks)

    def _at(self, t: int) -> float:
        return _geometric(self.lr, self.factor, bisect_right(self.milestones, t - 1))  # type: ignore[arg-type]  # a tuple by now


@dataclass(frozen=True)
class exponential(Schedule):
    """Smooth decay: lr * factor**((t - 1)/every), a `factor` (above 0) for each `every` steps.

    torch: ``ExponentialLR(gamma=factor)``, every = 1; Keras: ``ExponentialDecay(lr, every, factor)``; both at t - 1. A factor above 1
    grows, as in a learning-rate range test (Smith 2017), and raises OverflowError where the value leaves float64.
    """

    lr: Number
    factor: Factor
    every: Steps = 1

    def _at(self, t: int) -> float:
        return _geometric(self.lr, self.factor, (t - 1) / self.every)


@dataclass(frozen=True)
class inverse_square_root(Schedule):
    """The Transformer's schedule (Vaswani et al. 2017): lr * min(t/warmup, sqrt(warmup/t)), `lr` at t = warmup (steps, at least 1).

    The paper's d**-0.5 * min(t**-0.5, t * warmup**-1.5) is lr = (d*warmup)**-0.5, with its t, from 1. Neither torch nor Keras has it;
    torch: ``LambdaLR`` with this formula divided by lr, at t - 1.
    """

    lr: Number
    warmup: Steps

    def _at(self, t: int) -> float:
        return self.lr * _warm(t, self.warmup) * math.sqrt(self.warmup / max(t, self.warmup))


@dataclass(frozen=True)
class one_cycle(Schedule):
    """Up once and down once (Smith & Topin 2019), with two phases.

    max_lr/start_divisor at t = 1, max_lr at t = warmup_fraction * steps, max_lr/start_divisor/end_divisor from t = steps on

    Parameters
    ----------
    max_lr : float
        The peak.
    steps : int
        Length in steps, at least 2; here the last step itself has the end value.
    warmup_fraction : float
        Where the peak lies, from 0 to below 1.
    start_divisor, end_divisor : float
        Above 0; the end is relative to the start, as in torch.
    anneal : {"cos", "linear"}

    Notes
    -----
    torch: ``OneCycleLR(max_lr, steps, pct_start=warmup_fraction, div_factor=start_divisor, final_div_factor=end_divisor)`` at t - 1,
    without its momentum cycle (give the momentum its own schedule). Keras has none.
    """

    max_lr: Number
    steps: Steps
    warmup_fraction: Fraction = 0.3
    start_divisor: Factor = 25.0
    end_divisor: Factor = 1e4
    anneal: Anneal = "cos"

    def __post_init__(self) -> None:
        super().__post_init__()
        _demand(self.steps >= 2, f"one_cycle.steps: found {self.steps}, needed at least 2. Use constant for a single step.")
        _demand(self.warmup_fraction < 1, "one_cycle.warmup_fraction: found 1.0, needed less than 1. Use warmup to rise only.")

    def _at(self, t: int) -> float:
        start, peak = self.max_lr / self.start_divisor, max(self.warmup_fraction * self.steps, 1.0)
        if t < peak:
            return _blend(start, self.max_lr, (t - 1) / (peak - 1), self.anneal)
        return _blend(self.max_lr, start / self.end_divisor, (t - peak) / (self.steps - peak), self.anneal)


@dataclass(frozen=True)
class cyclical(Schedule):
    """A triangle wave (Smith 2017): low + (high - low) * scale * (1 - abs(x - 1)),  x = ((t - 1) mod 2*half_cycle)/half_cycle.

    Parameters
    ----------
    low, high : float
        `low` at t = 1, `high` at t = half_cycle + 1.
    half_cycle : int
        Steps from low to high.
    mode : {"triangular", "triangular2", "exp_range"}
        scale = 1, 2**-n in cycle n = 0, 1, ..., or gamma**(t - 1).
    gamma : float
        0 to 1, for "exp_range" only.

    Notes
    -----
    torch: ``CyclicLR(low, high, step_size_up=half_cycle, mode=mode, gamma=gamma, cycle_momentum=False)`` at t - 1. Keras has none.
    """

    low: Number
    high: Number
    half_cycle: Steps
    mode: Cycle = "triangular"
    gamma: Fraction = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _demand(self.mode == "exp_range" or self.gamma == 1,
                f"cyclical.gamma: found {self.gamma} with mode {self.mode!r}, needed 1. Use mode='exp_range', or leave gamma out.")

    def _at(self, t: int) -> float:
        n, k = divmod(t - 1, 2 * self.half_cycle)
        ratio, power = {"triangular": (1.0, 0), "triangular2": (0.5, n), "exp_range": (self.gamma, t - 1)}[self.mode]
        return _blend(self.low, self.high, _geometric(1 - abs(k / self.half_cycle - 1), ratio, power))


@dataclass(frozen=True)
class warmup_stable_decay(Schedule):
    """Warm-up, a plateau at `lr`, and a decay at the end (WSD: Hu et al. 2024; the "sqrt" shape: Hägele et al. 2024).

    warm(t) * (lr + (end - lr) * s(x)),  warm(t) = t/warmup, at most 1;  x = (t - 1 - (steps - decay))/decay in [0, 1];
    s(x) = x, (1 - cos(pi*x))/2 or sqrt(x)

    Parameters
    ----------
    lr, end : float
        The plateau, and the value from t = steps + 1 on.
    steps : int
        Length in steps, warm-up and decay included.
    warmup, decay : int
        Lengths in steps, together at most `steps`; decay at least 1.
    shape : {"linear", "cosine", "sqrt"}

    Notes
    -----
    torch: ``SequentialLR`` of the warm-up of `warmup`, ``ConstantLR(factor=1)`` and, for "linear", ``LinearLR(1, end/lr, decay)``,
    with milestones [warmup, steps - decay], at t - 1. Keras has none.
    """

    lr: Number
    steps: Steps
    warmup: Count
    decay: Steps
    end: Number = 0.0
    shape: Shape = "linear"

    def __post_init__(self) -> None:
        super().__post_init__()
        _demand(self.warmup + self.decay <= self.steps, f"warmup_stable_decay.decay: found {self.warmup} + {self.decay} steps of warm-up "
                f"and decay, needed at most steps = {self.steps}. Shorten one of them, or lengthen steps.")

    def _at(self, t: int) -> float:
        return _warm(t, self.warmup) * _blend(self.lr, self.end, (t - 1 - self.steps + self.decay) / self.decay, self.shape)


@dataclass(frozen=True, eq=False)
class ReduceOnPlateau(Schedule):
    """Lower the value when a loss stops improving. The one schedule with a state: feed it with `observe`; the step is not used.

    A loss improves if it is below best - threshold*abs(best) ("max": above best + ...); NaN never is. After more than `patience`
    observations without improvement: value <- max(value * factor, min_lr), and the next `cooldown` observations are not counted.

    Parameters
    ----------
    lr, min_lr : float
        First and lowest value.
    factor, threshold : float
        factor above 0 and below 1; threshold from 0 to 1.
    patience, cooldown : int
        In observations (calls of `observe`), not steps.
    mode : {"min", "max"}

    Notes
    -----
    torch: ``ReduceLROnPlateau(threshold_mode="rel", eps=0)``, where `observe` is its ``step``; torch scales a negative best towards 0,
    here an improvement is one for either sign. Keras: ``ReduceLROnPlateau(patience=patience + 1)`` with an absolute ``min_delta``.
    """

    lr: Number
    factor: Fraction = 0.1
    patience: Count = 10
    threshold: Fraction = 1e-4
    mode: Goal = "min"
    cooldown: Count = 0
    min_lr: Number = 0.0
    state: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        _demand(0 < self.factor < 1, f"ReduceOnPlateau.factor: found {self.factor}, needed above 0 and below 1. Pass 0.1 to divide by ten.")
        _demand(self.min_lr <= self.lr, f"ReduceOnPlateau.min_lr: found {self.min_lr}, needed at most lr = {self.lr}. Lower min_lr.")
        object.__setattr__(self, "state", {"lr": self.lr, "best": self._sign * math.inf, "bad": 0, "cooling": 0})

    @property
    def _sign(self) -> float:
        return 1.0 if self.mode == "min" else -1.0

    def _at(self, t: int) -> float:
        return float(self.state["lr"])

    def observe(self, loss: float) -> None:
        """Take in one loss (or, for mode "max", one score): a number, NaN counts as no improvement."""
        try:
            value = float(loss) * self._sign
        except (TypeError, ValueError):
            raise TypeError(f"ReduceOnPlateau.observe: found {loss!r}, needed one number. Pass float(loss).") from None
        s, best = self.state, self.state["best"] * self._sign
        better = value < (best - self.threshold * abs(best) if math.isfinite(best) else best)
        if better:
            s["best"] = float(loss)
        s["bad"] = 0 if better or s["cooling"] else s["bad"] + 1
        s["cooling"] = max(s["cooling"] - 1, 0)
        if s["bad"] > self.patience:
            s.update(lr=max(s["lr"] * self.factor, self.min_lr), bad=0, cooling=self.cooldown)

    def state_dict(self) -> dict[str, Any]:
        """A copy of the state as plain numbers: lr, best, bad (observations without improvement), cooling (observations left)."""
        return dict(self.state)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state_dict` returned; other keys are a ValueError."""
        _demand(set(state) == set(self.state), f"ReduceOnPlateau.load_state_dict: found the keys {sorted(state)}, needed "
                f"{sorted(self.state)}. Load what state_dict returned.")
        domains = {"lr": "Number", "best": "Loss", "bad": "Count", "cooling": "Count"}
        self.state.update({k: _checked(f"ReduceOnPlateau.load_state_dict[{k!r}]", state[k], d) for k, d in domains.items()})
