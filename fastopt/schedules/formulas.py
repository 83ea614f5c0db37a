"""The formulas. What their docstrings say of other systems is at t - 1, the steps done."""
from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence

from .factory import (
    Anneal,
    Between,
    Count,
    Cycle,
    Factor,
    Flag,
    Fraction,
    Milestones,
    Number,
    Numbers,
    Parts,
    ScaleMode,
    Shape,
    Size,
    Steps,
    Value,
    evaluate,
    schedule,
)

_SHAPES: dict[str, Callable[[float], float]] = {
    "linear": lambda x: x, "cosine": lambda x: (1 - math.cos(math.pi * x)) / 2, "sqrt": math.sqrt,
    "constant": math.floor}
_SHAPES["cos"] = _SHAPES["cosine"]


def _blend(start: float, end: float, x: float, shape: str = "linear") -> float:
    """`start` for x <= 0 and `end` for x >= 1, exactly; between them along the shape."""
    y = _SHAPES[shape](min(max(x, 0.0), 1.0))
    return start * (1 - y) + end * y


def _path(t: int, points: Sequence[float], values: Sequence[float], shape: str) -> float:
    """From value to value, each of which is reached at its point; the points do not fall, and the first is 1."""
    k = bisect_right(points, t)
    if k == len(points):
        return values[-1]
    return _blend(values[k - 1], values[k], (t - points[k - 1]) / (points[k] - points[k - 1]), shape)


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


def _check_milestones(where: str, given: Sequence[object], milestones: Sequence[int]) -> None:
    if len(given) != len(milestones) + 1:
        raise ValueError(f"{where}: found {len(milestones)} milestones for {len(given)}, needed one between each two. "
                         f"Pass {len(given) - 1} milestones.")


@schedule
def constant(t: int, value: Number) -> float:
    """`value` at every step.

    torch: ``LambdaLR(lambda e: 1.0)``. optax: ``constant_schedule(value)``. Keras: a plain number.
    """
    return value


@schedule
def linear(t: int, start: Number, end: Number, steps: Steps) -> float:
    """A straight line from `start` at t = 1 to `end` at t = steps + 1, where it stays.

        start + (end - start)*x,   x = (t - 1)/steps, at most 1

    torch: ``LinearLR(start/lr, end/lr, total_iters=steps)``. optax: ``linear_schedule(start, end, steps)``.
    Keras: ``PolynomialDecay(start, steps, end)``.
    """
    return _blend(start, end, (t - 1) / steps)


@schedule
def polynomial(t: int, start: Number, end: Number, steps: Steps, power: Factor = 1.0) -> float:
    """A power of the part that is left, from `start` at t = 1 to `end` at t = steps + 1.

        end + (start - end)*(1 - x)**power,   x = (t - 1)/steps, at most 1

    torch: ``PolynomialLR(total_iters=steps, power=power)``, end = 0. optax: ``polynomial_schedule(start, end, power,
    steps)``. Keras: ``PolynomialDecay(start, steps, end, power)``.
    """
    return _blend(end, start, max(1 - (t - 1) / steps, 0.0) ** power)


@schedule
def warmup(t: int, steps: Steps, then: Value, start: Fraction = 0.0, from_start: Flag = False) -> float:
    """Linear warm-up into `then`, a number or any schedule, from its fraction `start` (Goyal et al. 2017).

        (start + (1 - start)*t/steps) * then(1)   for t <= steps
        then(t - steps)                           after it

    `then` counts its steps from the end of the warm-up, and waits at its first value until there. So the value is
    then(1) in full both at t = steps and at t = steps + 1. With `from_start`, (t - 1)/steps takes the place of t/steps:
    the first step has `start` itself, which may be 0, as in optax and Keras, and t = steps + 1 is the first with the
    full value.

    torch: ``SequentialLR([LinearLR(1/steps, total_iters=steps - 1), then], [steps])``, start = 0. From the start:
    optax: ``warmup_constant_schedule(0.0, then, steps)``, ``join_schedules([linear_schedule(0.0, first, steps), then],
    [steps])``. Keras: ``CosineDecay(0.0, n, warmup_target=lr, warmup_steps=steps)`` for ``then = cosine(lr, n)``.
    """
    return _warm(t - from_start, steps, start) * evaluate(then, max(t - steps, 1))


@schedule
def join(t: int, parts: Parts, milestones: Milestones) -> float:
    """One schedule after the other. Each part is a number or a function of the step.

        parts[k](t - m)   for m < t <= n

    m and n are milestones k - 1 and k; the first part starts at m = 0, and the last has no end. After m steps the next
    part begins, with its value at 1.

    torch: ``SequentialLR(parts, milestones)``. optax: ``join_schedules(parts, milestones)``. Keras: none.
    """
    _check_milestones("join", parts, milestones)
    k = bisect_right(milestones, t - 1)
    return evaluate(parts[k], t - (0, *milestones)[k])


@schedule
def piecewise(t: int, values: Numbers, milestones: Milestones, between: Between = "constant") -> float:
    """Free values: the first at t = 1, the next after each milestone m, at t = m + 1. The last one stays.

    Between them the value stays ("constant"), or follows a line ("linear") or half a cosine ("cosine").

    torch: ``SequentialLR`` of ``ConstantLR``, or ``LambdaLR``. Keras: ``PiecewiseConstantDecay([m - 1 for m in
    milestones], values)``, "constant". optax: ``piecewise_constant_schedule(values[0], {m: factor, ...})``, or
    ``piecewise_interpolate_schedule(between, values[0], {m: factor, ...})``; each factor is over the value before.
    """
    _check_milestones("piecewise", values, milestones)
    return _path(t, [1, *(m + 1 for m in milestones)], values, between)


@schedule
def floor(t: int, value: Value, least: Number) -> float:
    """`value`, a number or a function of the step, but at least `least`.

    torch: ``LambdaLR(lambda e: max(...))``. optax: ``exponential_decay(..., end_value=least)``. Keras: none.
    """
    return max(evaluate(value, t), least)


@schedule
def step(t: int, lr: Number, every: Steps, factor: Factor = 0.1) -> float:
    """A staircase: lr*factor**floor((t - 1)/every).

    torch: ``StepLR(every, factor)``. optax: ``exponential_decay(lr, every, factor, staircase=True)``.
    Keras: ``ExponentialDecay(lr, every, factor, staircase=True)``.
    """
    return _geometric(lr, factor, (t - 1) // every)


@schedule
def multi_step(t: int, lr: Number, milestones: Milestones, factor: Factor = 0.1) -> float:
    """A staircase with chosen edges: lr*factor**k, where k of the increasing milestones are below t.

    For a milestone m the value drops after m steps: t = m + 1 is the first with the new one. For values of your own see
    `piecewise`.

    torch: ``MultiStepLR(milestones, factor)``. optax: ``piecewise_constant_schedule(lr, {m: factor, ...})``.
    Keras: ``PiecewiseConstantDecay([m - 1 for m in milestones], [lr, lr*factor, ...])``.
    """
    return _geometric(lr, factor, bisect_right(milestones, t - 1))


@schedule
def exponential(t: int, lr: Number, factor: Factor, every: Steps = 1) -> float:
    """Smooth decay: lr*factor**((t - 1)/every).

    A factor above 1 grows (the range test of Smith 2017) and raises OverflowError where the value leaves float64.

    torch: ``ExponentialLR(factor)``, every = 1. optax: ``exponential_decay(lr, every, factor)``.
    Keras: ``ExponentialDecay(lr, every, factor)``.
    """
    return _geometric(lr, factor, (t - 1) / every)


@schedule
def inverse_time(t: int, lr: Number, rate: Size, every: Steps = 1, staircase: Flag = False) -> float:
    """lr/(1 + rate*n),  n = (t - 1)/every, rounded down with `staircase` (Robbins & Monro 1951: 1/t).

    torch: ``LambdaLR(lambda e: 1/(1 + rate*e/every))``. optax: none. Keras: ``InverseTimeDecay(lr, every, rate,
    staircase)``.
    """
    return lr / (1 + rate * ((t - 1) // every if staircase else (t - 1) / every))


@schedule
def inverse_square_root(t: int, lr: Number, warmup: Steps) -> float:
    """The Transformer's schedule (Vaswani et al. 2017): lr*min(t/warmup, sqrt(warmup/t)), `lr` at t = warmup.

    The paper's d**-0.5 * min(t**-0.5, t*warmup**-1.5) has lr = (d*warmup)**-0.5 and the same t.

    torch: ``LambdaLR`` with this formula over lr. optax: none. Keras: none.
    """
    return lr * _warm(t, warmup) * math.sqrt(warmup / max(t, warmup))


@schedule
def warmup_stable_decay(t: int, lr: Number, steps: Steps, warmup: Count, decay: Steps, end: Number = 0.0,
                        shape: Shape = "linear") -> float:
    """Warm-up, `lr`, then a decay to `end` in the last `decay` steps (Hu et al. 2024; "sqrt": Hägele et al. 2024).

        warm(t)*(lr + (end - lr)*s(x))
        warm(t) = t/warmup, at most 1;  x = (t - 1 - (steps - decay))/decay, in [0, 1]

    s(x) is x ("linear"), (1 - cos(pi*x))/2 ("cosine") or sqrt(x) ("sqrt"). warmup + decay may not be more than steps.

    torch: ``SequentialLR`` of that of `warmup`, ``ConstantLR(1)`` and ``LinearLR(1, end/lr, decay)`` with milestones
    [warmup, steps - decay], "linear". optax: ``join_schedules`` of their twins. Keras: none.
    """
    return _trapezoid(t, lr, steps, warmup, decay, end, shape)


def _trapezoid(t: int, lr: float, steps: int, warmup: int, decay: int, end: float, shape: str) -> float:
    if not 0 < decay <= steps - warmup:
        raise ValueError(f"schedule: found {steps} steps for a warm-up of {warmup} and a decay of {decay}, needed at "
                         "least their sum, and a decay of 1 or more. Shorten one of them, or lengthen steps.")
    return _warm(t, warmup) * _blend(lr, end, (t - 1 - steps + decay) / decay, shape)


@schedule
def cosine(t: int, lr: Number, steps: Steps, end: Number = 0.0, warmup: Count = 0) -> float:
    """Half a cosine from `lr` to `end` (Loshchilov & Hutter 2017). The first `warmup` of its `steps` are a warm-up.

        warm(t)*(end + (lr - end)*(1 + cos(pi*x))/2)
        warm(t) = min(t/warmup, 1);  x = (t - 1 - warmup)/(steps - warmup), in [0, 1]

    torch: ``CosineAnnealingLR(T_max=steps, eta_min=end)``; after steps + 1 it climbs back to `lr` and falls again.
    optax: ``cosine_decay_schedule(lr, steps, alpha=end/lr)``. Keras: ``CosineDecay(lr, steps, alpha=end/lr)``.
    They have warmup = 0. ``warmup(n, cosine(lr, steps - n, end), from_start=True)`` is optax's
    ``warmup_cosine_decay_schedule(0.0, lr, n, steps, end)``.
    """
    return _trapezoid(t, lr, steps, warmup, steps - warmup, end, "cosine")


@schedule
def cosine_restarts(t: int, lr: Number, steps: Steps, multiply: Steps = 1, end: Number = 0.0,
                    decay: Fraction = 1.0) -> float:
    """SGDR: cosines from `lr` to `end` that begin anew, for ever (Loshchilov & Hutter 2017).

        end + (lr - end)*decay**n*(1 + cos(pi*x))/2

    Cycle n = 0, 1, ... lasts steps*multiply**n steps, and x is the part of it that is done, in [0, 1). `decay`, from 0
    to 1, shrinks the height above `end`.

    torch: ``CosineAnnealingWarmRestarts(T_0=steps, T_mult=multiply, eta_min=end)``, decay = 1. optax: ``sgdr_schedule``
    with one dict for each cycle. Keras: ``CosineDecayRestarts(lr, steps, t_mul=multiply, m_mul=decay, alpha=end/lr)``.
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
              end_divisor: Factor = 1e4, anneal: Anneal = "cos", three_phase: Flag = False) -> float:
    """Up once, down once (Smith & Topin 2019), along cosines (`anneal` "cos") or lines ("linear").

    The value is max_lr/start_divisor at t = 1, max_lr at t = p = warmup_fraction*steps, and
    max_lr/start_divisor/end_divisor at t = steps, not steps + 1. With `three_phase` it is back at max_lr/start_divisor
    at t = 2*p - 1.

    torch: ``OneCycleLR(max_lr, steps, pct_start=warmup_fraction, anneal_strategy=anneal, div_factor=start_divisor,
    final_div_factor=end_divisor, three_phase=three_phase)``; its momentum, from `high` to `low` and back, is
    ``one_cycle(low, steps, warmup_fraction, low/high, 1.0, anneal, three_phase)``. optax: none with these edges;
    ``cosine_onecycle_schedule`` and ``linear_onecycle_schedule`` are cases of `piecewise`. Keras: none.
    """
    start, peak = max_lr / start_divisor, max(warmup_fraction * steps, 1.0)
    turns, values = ([peak, 2 * peak - 1], [start, max_lr, start]) if three_phase else ([peak], [start, max_lr])
    if turns[-1] >= steps:
        raise ValueError(f"one_cycle: found the {'way back' if three_phase else 'peak'} at step {turns[-1]} of {steps},"
                         " needed it before the last. Lower warmup_fraction.")
    return _path(t, [1, *turns, steps], [*values, start / end_divisor], anneal)


@schedule
def cyclical(t: int, low: Number, high: Number, half_cycle: Steps, mode: Cycle = "triangular", gamma: Fraction = 1.0,
             down: Steps | None = None, scale_fn: Value | None = None, scale_mode: ScaleMode = "cycle") -> float:
    """A triangle wave, for ever (Smith 2017): up in `half_cycle` steps, back in `down` steps (None: as many).

        low + (high - low)*scale*y

    y rises from 0 to 1, then falls to 0. scale is 1 ("triangular"), 2**-n in cycle n = 0, 1, ... ("triangular2"), or
    gamma**(t - 1) ("exp_range", gamma from 0 to 1). Or it is what `scale_fn` gives for the cycle 1, 2, ... (scale_mode
    "cycle") or for the step t = 1, 2, ... ("iterations"; torch counts these from 0).

    torch: ``CyclicLR(low, high, half_cycle, down, mode, gamma, scale_fn, scale_mode, cycle_momentum=False)``; its
    momentum is a `cyclical` of its own, from the larger value to the smaller. optax: none. Keras: none.
    """
    if gamma != 1 and mode != "exp_range":
        raise ValueError(f"cyclical.gamma: found {gamma} with mode {mode!r}, needed 1. Use mode='exp_range', or leave "
                         "gamma out.")
    if scale_fn is not None and mode != "triangular":
        raise ValueError(f"cyclical.scale_fn: found it with mode {mode!r}, which scales by itself, needed one of the "
                         "two. Leave mode out, or scale_fn.")
    down = down or half_cycle
    n, k = divmod(t - 1, half_cycle + down)
    if scale_fn is None:
        scale = _geometric(1.0, *((0.5, n) if mode == "triangular2" else (gamma, t - 1)))
    else:
        scale = evaluate(scale_fn, t if scale_mode == "iterations" else n + 1)
    y = scale * min(k / half_cycle, (half_cycle + down - k) / down)
    return low * (1 - y) + high * y
