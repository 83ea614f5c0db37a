"""Schedules: the value of a hyperparameter as a pure function of the step, ``t -> float`` for t = 1, 2, ...

>>> rate = cosine(3e-4, steps=10_000, warmup=500)
>>> rate, rate(500), rate(10_001)
(cosine(lr=0.0003, steps=10000, end=0.0, warmup=500), 0.0003, 0.0)

All lengths are in optimizer steps. A schedule of `steps` starts at t = 1, reaches its end at t = steps + 1, and stays
there. So no step is spent at a rate of 0. `cosine_restarts` and `cyclical` go on for ever.

Other systems count the steps that are done: torch's ``last_epoch``, optax's ``count``, Keras's ``iterations``. When
step t begins, t - 1 steps are done. A schedule has at t what its twin in another system has at t - 1. Each docstring
names these twins; "none" means that there is no twin.

Warm-up has t/steps of the full value: 1/steps of it at t = 1, and all of it at t = steps. optax and Keras begin with 0;
``warmup(..., from_start=True)`` does so, too.

`join`, `product`, `floor` and `warmup` take numbers, schedules and any other functions of the step: ``product([0.5,
rate])`` is ``0.5*rate``. They, and optimizers, take the schedules of optax and Keras as they are, and hand them t - 1.
Such a schedule is known by the package in which it was made, also as ``jax.jit(theirs)``, which is far faster than
theirs alone. If a function of your own calls one, it gets t: hand on t - 1, or say ``zero_based(function)``.

A schedule has no state and no history. It is right for t up to 2**40, prints as the call that made it, and compares,
hashes and pickles, as far as the functions in it do. Wrong arguments raise TypeError (kind) or ValueError (range) when
it is made. A t that is no whole number of at least 1 does so when it is called. Values are finite floats; lengths are
ints of at least 1 (a `warmup` of 0 is none); factors and divisors are above 0.
"""
from .factory import (  # noqa: F401 (annotations for formulas of your own)
    Count,
    Factor,
    Flag,
    Fraction,
    Function,
    Milestones,
    Number,
    Numbers,
    Parts,
    Schedule,
    Size,
    Steps,
    Value,
    evaluate,
    product,
    schedule,
    zero_based,
)
from .formulas import (
    constant,
    cosine,
    cosine_restarts,
    cyclical,
    exponential,
    floor,
    inverse_square_root,
    inverse_time,
    join,
    linear,
    multi_step,
    one_cycle,
    piecewise,
    polynomial,
    step,
    warmup,
    warmup_stable_decay,
)
from .plateau import ReduceOnPlateau

__all__ = [
    "ReduceOnPlateau", "Schedule", "constant", "cosine", "cosine_restarts", "cyclical", "evaluate", "exponential",
    "floor", "inverse_square_root", "inverse_time", "join", "linear", "multi_step", "one_cycle", "piecewise",
    "polynomial", "product", "schedule", "step", "warmup", "warmup_stable_decay", "zero_based"]
