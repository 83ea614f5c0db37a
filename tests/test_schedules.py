"""Schedules against numbers found by hand, torch, optax and Keras at every step, and their own promises."""
import importlib
import itertools
import json
import math
import os
import pickle
import random
import re
import types
from fractions import Fraction

import numpy as np
import pytest

import fastopt
from fastopt import schedules as s
from fastopt.schedules.factory import functions

os.environ.setdefault("KERAS_BACKEND", "jax")
INF, NAN = math.inf, math.nan


# Schedule, {step: value}
POINTS = [
    (s.constant(0.25), {1: 0.25, 10**9: 0.25}), (s.constant(3), {2: 3.0}), (s.linear(0.3, 0.7, 1), {1: 0.3, 2: 0.7}),
    (s.warmup(1, 0.8), {1: 0.8}), (s.warmup(2, lambda k: 10.0 * k), {1: 5.0, 5: 30.0}),
    (s.cosine(3e-4, 10_000, warmup=500), {1: 3e-4 / 500, 250: 1.5e-4, 500: 3e-4, 501: 3e-4, 5251: 1.5e-4, 10_001: 0.0}),
    (s.cosine_restarts(1.0, 4, end=0.2, decay=0.5), {5: 0.6, 7: 0.4}), (s.multi_step(0.7, []), {100: 0.7}),
    (s.exponential(2.0, 0.25, every=10), {6: 1.0}), (s.exponential(1e-7, 10.0, every=100), {701: 1.0}),
    (s.inverse_square_root((512 * 4000) ** -0.5, 4000),
     {100: 512**-0.5 * 100 * 4000**-1.5, 9000: 512**-0.5 * 9000**-0.5}),
    (s.one_cycle(2.0, 21, 0.0, 4.0, 8.0, "linear"), {1: 2.0, 11: (2.0 + 2.0 / 32) / 2}),
    (s.one_cycle(1.0, 2), {2: 4e-6}), (s.cyclical(0.95, 0.85, 12), {7: 0.9, 13: 0.85}),
    (s.warmup(4, 0.8, from_start=True), {1: 0.0, 3: 0.4, 4: 0.6, 5: 0.8}), (s.polynomial(1.0, 0.5, 4, 2.0), {3: 0.625}),
    (s.warmup(4, 0.8, 0.5, from_start=True), {1: 0.4, 3: 0.6, 5: 0.8}), (s.polynomial(0.1, 0.3, 7), {1: 0.1, 9: 0.3}),
    (s.join([0.5, s.linear(1.0, 0.0, 4), lambda t: 10.0 * t], [3, 5]), {3: 0.5, 4: 1.0, 5: 0.75, 6: 10.0, 8: 30.0}),
    (s.join([0.5], []), {1: 0.5, 99: 0.5}), (s.piecewise([3, 5.0, 1], [2, 3]), {1: 3.0, 2: 3.0, 3: 5.0, 4: 1.0}),
    (s.piecewise([3.0, 5.0, 1.0], [2, 3], "linear"), {1: 3.0, 2: 4.0, 3: 5.0, 4: 1.0, 9: 1.0}),
    (s.product([0.5, s.linear(1.0, 3.0, 2), lambda t: float(t)]), {1: 0.5, 2: 2.0, 3: 4.5}),
    (0.5 * s.linear(1.0, 3.0, 2) * s.constant(2.0), {2: 2.0}), (s.product([7]), {3: 7.0}),
    (s.floor(s.exponential(1.0, 0.5), 0.2), {3: 0.25, 4: 0.2, 9: 0.2}), (s.floor(-1.0, 0.0), {5: 0.0}),
    (s.inverse_time(1.0, 0.5), {1: 1.0, 3: 0.5}), (s.inverse_time(1.0, 0.5, 4, staircase=True), {4: 1.0, 9: 0.5}),
    (s.one_cycle(1.0, 20, 0.25, 4.0, 8.0, "linear", three_phase=True), {1: 0.25, 3: 0.625, 5: 1.0, 9: 0.25, 20: 2**-5}),
    (s.cyclical(0.0, 1.0, 4, down=2), {1: 0.0, 3: 0.5, 5: 1.0, 6: 0.5, 7: 0.0, 11: 1.0}),
    (s.cyclical(0.0, 1.0, 2, scale_fn=s.piecewise([1.0, 3.0], [1])), {3: 1.0, 5: 0.0, 6: 1.5, 7: 3.0}),
    (s.cyclical(0.0, 1.0, 2, scale_fn=s.linear(1.0, 0.0, 10), scale_mode="iterations"), {3: 0.8, 7: 0.4}),
    (s.zero_based(lambda done: 10 * done), {1: 0.0, 4: 30.0}),
    (s.warmup_stable_decay(1.0, 20, 0, 20, 0.2), {11: 0.6}),
    (s.warmup_stable_decay(1.0, 20, 4, 8, 0.2, "sqrt"), {15: 0.6, 21: 0.2}),
    (s.warmup_stable_decay(1.0, 20, 4, 8, 0.2, "cosine"), {15: 0.2 + 0.8 * (1 + math.cos(math.pi / 4)) / 2})]


def test_values():
    for schedule, points in POINTS:
        for t, value in points.items():
            assert schedule(t) == pytest.approx(value, rel=1e-14, abs=1e-300), (schedule, t)
            assert type(schedule(t)) is float


def test_cosine_restarts_exactly_at_the_edge():
    for multiply, n in itertools.product((2, 3, 7, 10), (1, 5, 11, 30)):
        schedule, begin = s.cosine_restarts(1.0, 3, multiply, decay=0.5), 3 * (multiply**n - 1) // (multiply - 1)
        assert schedule(begin + 1) == 0.5**n
        assert schedule(begin) < 0.5 ** (n - 1) * 0.26


# schedule, name in torch, its arguments (the optimizer starts at `lr`), steps
TORCH = [
    (s.constant(0.3), 0.3, "LambdaLR", {"lr_lambda": lambda e: 1.0}, 5),
    (s.polynomial(0.3, 0.0, 20, 2.5), 0.3, "PolynomialLR", {"total_iters": 20, "power": 2.5}, 30),
    (s.polynomial(0.3, 0.0, 20, 0.5), 0.3, "PolynomialLR", {"total_iters": 20, "power": 0.5}, 30),
    (s.piecewise([0.2, 0.5, 0.1], [3, 7]), 1.0, "LambdaLR",
     {"lr_lambda": lambda e: [0.2, 0.5, 0.1][(e >= 3) + (e >= 7)]}, 10),
    (s.floor(s.exponential(0.1, 0.9), 0.05), 0.1, "LambdaLR", {"lr_lambda": lambda e: max(0.9**e, 0.5)}, 20),
    (s.inverse_time(0.4, 0.3, 5), 0.4, "LambdaLR", {"lr_lambda": lambda e: 1 / (1 + 0.3 * e / 5)}, 20),
    (0.4 * s.zero_based(math.cos), 0.4, "LambdaLR", {"lr_lambda": math.cos}, 20),
    (s.linear(0.02, 0.1, 7), 0.1, "LinearLR", {"start_factor": 0.2, "end_factor": 1.0, "total_iters": 7}, 12),
    (s.linear(0.3, 0.03, 20), 0.3, "LinearLR", {"start_factor": 1.0, "end_factor": 0.1, "total_iters": 20}, 30),
    (s.linear(0.3, 0.0, 20), 0.3, "PolynomialLR", {"total_iters": 20, "power": 1.0}, 30),
    (s.warmup(8, 0.4), 0.4, "LinearLR", {"start_factor": 1 / 8, "total_iters": 7}, 12),
    (s.warmup(5, 0.4, start=0.5), 0.4, "LinearLR", {"start_factor": 0.6, "total_iters": 4}, 12),
    (s.cosine(0.1, 13), 0.1, "CosineAnnealingLR", {"T_max": 13}, 14),
    (s.cosine(2.0, 40, end=0.3), 2.0, "CosineAnnealingLR", {"T_max": 40, "eta_min": 0.3}, 41),
    (s.cosine_restarts(0.1, 5), 0.1, "CosineAnnealingWarmRestarts", {"T_0": 5}, 33),
    (s.cosine_restarts(2.0, 3, multiply=2, end=0.1), 2.0, "CosineAnnealingWarmRestarts",
     {"T_0": 3, "T_mult": 2, "eta_min": 0.1}, 100),
    (s.cosine_restarts(1.0, 1, multiply=3), 1.0, "CosineAnnealingWarmRestarts", {"T_0": 1, "T_mult": 3}, 122),
    (s.step(0.1, 4), 0.1, "StepLR", {"step_size": 4}, 30),
    (s.step(3.0, 7, 0.6), 3.0, "StepLR", {"step_size": 7, "gamma": 0.6}, 60),
    (s.multi_step(0.1, [3, 4, 20]), 0.1, "MultiStepLR", {"milestones": [3, 4, 20]}, 30),
    (s.multi_step(5.0, (1, 9), 0.3), 5.0, "MultiStepLR", {"milestones": [1, 9], "gamma": 0.3}, 20),
    (s.exponential(0.1, 0.93), 0.1, "ExponentialLR", {"gamma": 0.93}, 100),
    (s.one_cycle(0.1, 50), 0.1, "OneCycleLR", {"max_lr": 0.1, "total_steps": 50, "cycle_momentum": False}, 50),
    (s.one_cycle(2.0, 37, 0.45, 5.0, 50.0, "linear"), 2.0, "OneCycleLR",
     {"max_lr": 2.0, "total_steps": 37, "pct_start": 0.45, "div_factor": 5.0, "final_div_factor": 50.0,
      "anneal_strategy": "linear", "cycle_momentum": False}, 37),
    *[(s.one_cycle(0.4, 41, 0.35, 8.0, 90.0, anneal, three_phase=True), 0.4, "OneCycleLR",
       {"max_lr": 0.4, "total_steps": 41, "pct_start": 0.35, "div_factor": 8.0, "final_div_factor": 90.0,
        "anneal_strategy": anneal, "three_phase": True, "cycle_momentum": False}, 41) for anneal in ("cos", "linear")],
    *[(s.cyclical(0.01, 0.2, 6, mode, gamma, down=down), 0.01, "CyclicLR",
       {"base_lr": 0.01, "max_lr": 0.2, "step_size_up": 6, "step_size_down": down, "mode": mode, "gamma": gamma,
        "cycle_momentum": False}, 70)
      for mode, gamma, down in [("triangular", 1.0, 9), ("triangular2", 1.0, 2), ("exp_range", 0.97, 11)]],
    *[(s.cyclical(0.01, 0.2, 6, down=5, scale_fn=ours, scale_mode=by), 0.01, "CyclicLR",
       {"base_lr": 0.01, "max_lr": 0.2, "step_size_up": 6, "step_size_down": 5, "scale_fn": theirs, "scale_mode": by,
        "cycle_momentum": False}, 70)
      for ours, theirs, by in [(lambda n: 1 + math.sin(n), lambda n: 1 + math.sin(n), "cycle"),
                               (lambda t: 0.9**t, lambda e: 0.9 ** (e + 1), "iterations")]],
    *[(s.cyclical(0.01, 0.2, 6, mode, gamma), 0.01, "CyclicLR",
       {"base_lr": 0.01, "max_lr": 0.2, "step_size_up": 6, "mode": mode, "gamma": gamma, "cycle_momentum": False}, 70)
      for mode, gamma in [("triangular", 1.0), ("triangular2", 1.0), ("exp_range", 0.97)]],
    (s.inverse_square_root(0.7, 9), 0.7, "LambdaLR", {"lr_lambda": lambda e: min((e + 1) / 9, (9 / (e + 1)) ** 0.5)},
     40)]


def torch_optimizer(lr):
    torch = pytest.importorskip("torch")
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr), torch.optim.lr_scheduler


def torch_rates(optimizer, scheduler, steps):
    rates = [optimizer.param_groups[0]["lr"]]
    for _ in range(steps - 1):
        optimizer.step()
        scheduler.step()
        rates.append(optimizer.param_groups[0]["lr"])
    return rates


def test_equals_torch_at_every_step():
    for schedule, lr, name, arguments, steps in TORCH:
        optimizer, schedulers = torch_optimizer(lr)
        rates = torch_rates(optimizer, getattr(schedulers, name)(optimizer, **arguments), steps)
        assert [schedule(t) for t in range(1, steps + 1)] == pytest.approx(rates, rel=1e-12, abs=1e-14), schedule


WARM = ("LinearLR", {"start_factor": 1 / 6, "total_iters": 5})
SEQUENCES = [  # ours, what torch runs one after the other, at which steps it changes (None: all at once, as factors)
    (s.warmup_stable_decay(0.4, 30, 6, 10, end=0.04),
     [WARM, ("ConstantLR", {"factor": 1.0}), ("LinearLR", {"start_factor": 1.0, "end_factor": 0.1, "total_iters": 10})],
     [6, 20]), (s.cosine(0.4, 30, warmup=6), [WARM, ("CosineAnnealingLR", {"T_max": 24})], [6]),
    (s.warmup(6, s.cosine(0.4, 24)), [WARM, ("CosineAnnealingLR", {"T_max": 24})], [6]),
    (s.warmup(6, s.step(0.4, 5)), [WARM, ("StepLR", {"step_size": 5})], [6]),
    (s.join([0.04, s.exponential(0.4, 0.9), s.linear(0.2, 0.4, 9)], [4, 11]),
     [("ConstantLR", {"factor": 0.1, "total_iters": 99}), ("ExponentialLR", {"gamma": 0.9}),
      ("LinearLR", {"start_factor": 0.5, "total_iters": 9})], [4, 11]),
    (s.product([s.linear(0.5, 1.0, 7), s.exponential(0.4, 0.9)]),
     [("LinearLR", {"start_factor": 0.5, "total_iters": 7}), ("ExponentialLR", {"gamma": 0.9})], None)]


def test_composition_equals_torch_sequence():
    for schedule, names, changes in SEQUENCES:
        optimizer, schedulers = torch_optimizer(0.4)
        parts = [getattr(schedulers, name)(optimizer, **arguments) for name, arguments in names]
        together = (schedulers.ChainedScheduler(parts, optimizer) if changes is None else
                    schedulers.SequentialLR(optimizer, parts, changes))
        rates = torch_rates(optimizer, together, 30)
        assert [schedule(t) for t in range(1, 31)] == pytest.approx(rates, rel=1e-12, abs=1e-14), schedule


def test_momentum_of_torch_cycles():
    torch = pytest.importorskip("torch")
    for schedule, name, arguments in (
            (s.one_cycle(0.85, 40, 0.4, 0.85 / 0.95, 1.0), "OneCycleLR",
             {"max_lr": 1.0, "total_steps": 40, "pct_start": 0.4}),
            (s.one_cycle(0.8, 40, 0.4, 0.8 / 0.9, 1.0, "linear", True), "OneCycleLR",
             {"max_lr": 1.0, "total_steps": 40, "pct_start": 0.4, "base_momentum": 0.8, "max_momentum": 0.9,
              "anneal_strategy": "linear", "three_phase": True}),
            (s.cyclical(0.9, 0.8, 6, down=3), "CyclicLR",
             {"base_lr": 0.1, "max_lr": 1.0, "step_size_up": 6, "step_size_down": 3})):
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.9)
        scheduler, found = getattr(torch.optim.lr_scheduler, name)(optimizer, **arguments), []
        for _ in range(40):
            found.append(optimizer.param_groups[0]["momentum"])
            optimizer.step()
            if len(found) < 40:
                scheduler.step()
        assert [schedule(t) for t in range(1, 41)] == pytest.approx(found, rel=1e-12), schedule


# Other systems whose schedules are functions of the steps done: schedule, what makes theirs

def eighth(done):
    return done / 8



OPTAX = [
    (s.constant(0.3), lambda o: o.constant_schedule(0.3)),
    (s.linear(0.02, 0.1, 7), lambda o: o.linear_schedule(0.02, 0.1, 7)),
    (s.polynomial(0.3, 0.05, 20, 2.5), lambda o: o.polynomial_schedule(0.3, 0.05, 2.5, 20)),
    (s.step(0.3, 7, 0.6), lambda o: o.exponential_decay(0.3, 7, 0.6, staircase=True)),
    (s.exponential(0.3, 0.6, 7), lambda o: o.exponential_decay(0.3, 7, 0.6)),
    (s.floor(s.exponential(0.3, 0.6, 7), 0.1), lambda o: o.exponential_decay(0.3, 7, 0.6, end_value=0.1)),
    (s.multi_step(0.7, [3, 9], 0.4), lambda o: o.piecewise_constant_schedule(0.7, {3: 0.4, 9: 0.4})),
    (s.piecewise([1.0, 0.5, 2.0], [3, 9]), lambda o: o.piecewise_constant_schedule(1.0, {3: 0.5, 9: 4.0})),
    *[(s.piecewise([1.0, 0.5, 2.0], [3, 9], between),
       lambda o, between=between: o.piecewise_interpolate_schedule(between, 1.0, {3: 0.5, 9: 4.0}))
      for between in ("linear", "cosine")],
    (s.cosine(0.2, 30, 0.02), lambda o: o.cosine_decay_schedule(0.2, 30, alpha=0.1)),
    (s.warmup(8, 0.4, from_start=True), lambda o: o.warmup_constant_schedule(0.0, 0.4, 8)),
    (s.warmup(8, 0.4, 0.25, from_start=True), lambda o: o.warmup_constant_schedule(0.1, 0.4, 8)),
    (s.warmup(6, s.cosine(0.4, 24, 0.04), from_start=True),
     lambda o: o.warmup_cosine_decay_schedule(0.0, 0.4, 6, 30, 0.04)),
    (s.warmup(6, s.exponential(0.4, 0.5, 9), 0.5, from_start=True),
     lambda o: o.warmup_exponential_decay_schedule(0.2, 0.4, 6, 9, 0.5)),
    (s.join([s.linear(0.0, 0.4, 5), s.step(0.4, 3), 0.2], [5, 12]), lambda o: o.join_schedules(
        [o.linear_schedule(0.0, 0.4, 5), o.exponential_decay(0.4, 3, 0.1, staircase=True), o.constant_schedule(0.2)],
        [5, 12])),
    (s.warmup_stable_decay(0.4, 30, 6, 10), lambda o: o.join_schedules(
        [o.linear_schedule(0.4 / 6, 0.4, 5), o.constant_schedule(0.4), o.linear_schedule(0.4, 0.0, 10)], [6, 20])),
    (s.cosine_restarts(0.4, 5, 2, 0.1), lambda o: o.sgdr_schedule(
        [{"init_value": 0.4, "peak_value": 0.4, "warmup_steps": 0, "decay_steps": n, "end_value": 0.1}
         for n in (5, 10, 20)])),
    (s.piecewise([0.4 / 25, 0.4, 0.4 / 25 / 1e4], [12, 40], "cosine"), lambda o: o.cosine_onecycle_schedule(40, 0.4)),
    (s.piecewise([0.4 / 25, 0.4, 0.4 / 25, 0.4 / 25 / 1e4], [12, 34, 40], "linear"),
     lambda o: o.linear_onecycle_schedule(40, 0.4)),
    (s.product([s.cosine(0.2, 30), s.linear(0.5, 1.0, 9)]),
     lambda o: lambda n: o.cosine_decay_schedule(0.2, 30)(n) * o.linear_schedule(0.5, 1.0, 9)(n)),
    (s.zero_based(eighth), lambda o: eighth)]
KERAS = [
    (s.constant(0.3), lambda k: lambda n: 0.3), (s.linear(0.02, 0.1, 7), lambda k: k.PolynomialDecay(0.02, 7, 0.1)),
    (s.polynomial(0.3, 0.05, 20, 2.5), lambda k: k.PolynomialDecay(0.3, 20, 0.05, 2.5)),
    (s.step(0.3, 7, 0.6), lambda k: k.ExponentialDecay(0.3, 7, 0.6, staircase=True)),
    (s.exponential(0.3, 0.6, 7), lambda k: k.ExponentialDecay(0.3, 7, 0.6)),
    (s.multi_step(0.7, [3, 9], 0.5), lambda k: k.PiecewiseConstantDecay([2, 8], [0.7, 0.35, 0.175])),
    (s.piecewise([1.0, 0.5, 2.0], [3, 9]), lambda k: k.PiecewiseConstantDecay([2, 8], [1.0, 0.5, 2.0])),
    (s.inverse_time(0.4, 0.3, 5), lambda k: k.InverseTimeDecay(0.4, 5, 0.3)),
    (s.inverse_time(0.4, 0.3, 5, True), lambda k: k.InverseTimeDecay(0.4, 5, 0.3, staircase=True)),
    (s.cosine(0.2, 30, 0.02), lambda k: k.CosineDecay(0.2, 30, alpha=0.1)),
    (s.warmup(6, s.cosine(0.4, 24, 0.04), from_start=True),
     lambda k: k.CosineDecay(0.0, 24, alpha=0.1, warmup_target=0.4, warmup_steps=6)),
    (s.cosine_restarts(0.4, 5, 2, 0.1, 0.5), lambda k: k.CosineDecayRestarts(0.4, 5, 2.0, 0.5, 0.25)),
    (s.zero_based(eighth), lambda k: eighth)]


@pytest.fixture
def double():
    """jax, and Keras with jax, in 64 bits."""
    jax = pytest.importorskip("jax")
    with jax.enable_x64(True) if hasattr(jax, "enable_x64") else jax.experimental.enable_x64(True):
        try:
            keras = importlib.import_module("keras")
        except ImportError:
            yield
            return
        before = keras.config.floatx()
        keras.config.set_floatx("float64")
        yield
        keras.config.set_floatx(before)


@pytest.mark.parametrize(("module", "cases", "near"), [
    ("optax", OPTAX, 1e-12), ("keras.optimizers.schedules", KERAS, 1e-6)])  # some of Keras's cosine is float32
def test_equals_those_that_count_steps_done(module, cases, near, double):
    system, jax = pytest.importorskip(module), pytest.importorskip("jax")
    for ours, make in cases:
        want = jax.vmap(make(system))(np.arange(33)).tolist()  # one by one, each of Keras's branches compiles anew
        assert [ours(t) for t in range(1, 34)] == pytest.approx(want, rel=near, abs=near / 100), ours


def test_every_twin_that_a_docstring_names_is_compared():
    compared = {"torch": TORCH + SEQUENCES, "optax": OPTAX, "Keras": KERAS}
    for name in s.__all__:
        make = getattr(s, name)
        if name in ("Schedule", "evaluate", "schedule", "ReduceOnPlateau"):
            continue
        for system, cases in compared.items():
            said, = re.findall(rf"^ *(?:.*\. )?{system}: (none)?", make.__doc__, re.MULTILINE)
            assert (said == "none") != any(of.make is make for of in flat([case[0] for case in cases])), (name, system)


def flat(schedules):
    return [part for of in schedules for part in functions((of,)) if isinstance(part, s.Schedule)]


class Tensor:
    """A number as TensorFlow returns it: `numpy()`, and neither `item()` nor a place among Python's numbers."""

    shape = ()

    def __init__(self, x):
        self.x = x

    def numpy(self):
        return np.float32(self.x)

    def __float__(self):
        return float(self.x)


@pytest.mark.parametrize("module", ["optax", "keras.optimizers.schedules", "torch"])
def test_schedules_of_others_are_taken_as_they_are(module):
    """An optimizer uses what theirs uses at the same update: their value at t - 1; inside other schedules, too."""
    system = pytest.importorskip(module)
    if module == "torch":
        theirs, count = lambda t: system.tensor(1.0 / t), 0
    elif module == "optax":
        theirs, count = system.warmup_cosine_decay_schedule(0.0, 0.5, 3, 9), -1
    else:
        theirs, count = system.PolynomialDecay(0.5, 6, 0.25), -1
    w = [np.zeros(1), np.zeros(1), np.zeros(1)]
    opt = fastopt.SGD([{"params": w[0], "lr": theirs}, {"params": w[1], "lr": s.product([theirs, 2])},
                       {"params": w[2], "lr": lambda t: Tensor(t / 4)}])
    assert opt.groups[0]["lr"] is theirs
    want = np.zeros(3)
    for t in range(1, 10):
        opt.step([np.ones(1)] * 3)
        want -= [float(theirs(t + count)), 2 * float(theirs(t + count)), t / 4]
        assert [x.item() for x in w] == want.tolist(), t
        assert s.evaluate(theirs, t) == float(theirs(t + count))
    if module == "optax":
        assert s.evaluate(pytest.importorskip("jax").jit(theirs), 3) == pytest.approx(float(theirs(2)))


def test_own_subclass_of_a_schedule_of_keras():
    class Mine(pytest.importorskip("keras.optimizers.schedules").LearningRateSchedule):
        def __call__(self, step):
            return step / 8

    assert [s.evaluate(Mine(), t) for t in (1, 2, 5)] == [0.0, 0.125, 0.5]


LOSSES = {"falls": [1 / (k + 1) for k in range(40)], "flat": [1.0] * 40, "creeps": [1 - 2e-5 * k for k in range(60)],
          "NaN": [1.0, NAN, 0.5] + [NAN] * 20 + [0.4] * 20, "starts NaN": [NAN] * 9 + [INF, 3.0, INF, 2.0] + [2.5] * 12,
          "noise": random.Random(1).choices([0.1, 0.2, 0.3, 0.4, 0.09, 0.05], k=80)}


def test_plateau_equals_torch():
    for losses, options in itertools.product(LOSSES.values(), (
            {}, {"patience": 2}, {"patience": 0, "factor": 0.5, "cooldown": 3},
            {"patience": 3, "threshold": 0.1, "min_lr": 0.03}, {"patience": 1, "mode": "max", "cooldown": 1},
            {"patience": 1, "threshold": 0.07, "threshold_mode": "abs"}, {"patience": 0, "threshold_mode": "abs"},
            {"patience": 2, "threshold": 0.2, "threshold_mode": "abs", "mode": "max"},
            {"patience": 2, "threshold": 3.0, "threshold_mode": "abs", "cooldown": 2})):
        optimizer, schedulers = torch_optimizer(0.2)
        theirs, ours = schedulers.ReduceLROnPlateau(optimizer, eps=0, **options), s.ReduceOnPlateau(0.2, **options)
        for t, loss in enumerate(losses, start=1):
            assert ours(t) == optimizer.param_groups[0]["lr"]
            theirs.step(loss)
            ours.observe(loss)
        assert ours.state_dict() == {"lr": optimizer.param_groups[0]["lr"], "best": theirs.best,
                                     "bad": theirs.num_bad_epochs, "cooling": theirs.cooldown_counter}


DEFAULTS = {"factor": 0.1, "threshold": 9e-5, "cooldown": 0, "min_lr": 0.0}
SIMPLE = [{**DEFAULTS, **given} for given in (
    {"patience": 2}, {"patience": 0, "cooldown": 3}, {"patience": 3, "threshold": 0.1, "min_lr": 0.03},
    {"patience": 1, "cooldown": 1, "factor": 0.5})]


def test_plateau_equals_optax(double):
    optax, jax = pytest.importorskip("optax"), pytest.importorskip("jax")
    for options, mode in itertools.product(SIMPLE, ("rel", "abs")):
        tolerances = {"rtol": 0.0, "atol": 0.0, "rtol" if mode == "rel" else "atol": options["threshold"]}
        theirs = optax.contrib.reduce_on_plateau(options["factor"], options["patience"] + 1, **tolerances,
                                                 cooldown=options["cooldown"], min_scale=options["min_lr"] / 0.2)
        update = jax.jit(lambda state, loss, theirs=theirs: theirs.update(np.zeros(1), state, value=loss)[1])
        for losses in LOSSES.values():
            ours, state = s.ReduceOnPlateau(0.2, threshold_mode=mode, **options), theirs.init(np.zeros(1))
            for loss in losses:
                ours.observe(loss)
                state = update(state, loss)
                assert ours(1) == pytest.approx(0.2 * float(state.scale), rel=1e-12), (options, mode)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of NumPy, about Keras
def test_plateau_equals_keras():
    keras = pytest.importorskip("keras")
    for name, options in itertools.product(LOSSES, SIMPLE):
        if name == "starts NaN":  # there the best loss stays NaN for ever
            continue
        ours = s.ReduceOnPlateau(0.2, threshold_mode="abs", **options)
        theirs = keras.callbacks.ReduceLROnPlateau(
            "loss", options["factor"], options["patience"] + 1, mode="min", min_delta=options["threshold"],
            cooldown=options["cooldown"] + 1, min_lr=options["min_lr"])
        theirs.set_model(types.SimpleNamespace(optimizer=keras.optimizers.SGD(0.2)))
        theirs.on_train_begin()
        for epoch, loss in enumerate(LOSSES[name]):
            ours.observe(loss)
            theirs.on_epoch_end(epoch, {"loss": loss})
            assert ours(1) == pytest.approx(float(theirs.model.optimizer.learning_rate.value), rel=1e-5), options


PLATEAUS = [({"patience": 1}, [3, 3, 3, 3, 3], [1, 1, 0.5, 0.5, 0.25]),
            ({"patience": 0}, [3, NAN, NAN], [1, 0.5, 0.25]), ({"patience": 0}, [NAN, 3, 2], [0.5, 0.5, 0.5]),
            ({"patience": 0, "cooldown": 2}, [3, 3, 3, 3, 3], [1, 0.5, 0.5, 0.5, 0.25]),
            ({"patience": 0, "min_lr": 0.4}, [3, 3, 3], [1, 0.5, 0.4]),
            ({"patience": 0, "threshold": 0.1}, [10, 9.5, 8.9], [1, 0.5, 0.5]),
            ({"patience": 0, "threshold": 0.1}, [-10, -10.5, -11.5], [1, 0.5, 0.5]),
            ({"patience": 0, "mode": "max"}, [1, 2, 1], [1, 1, 0.5]),
            ({"patience": 0, "mode": "max", "threshold": 0.1}, [-10, -9.5, -8.5], [1, 0.5, 0.5]),
            ({"patience": 0}, [-INF, -INF, 1], [1, 0.5, 0.25]),
            ({"patience": 0, "threshold": 2, "threshold_mode": "abs"}, [-10, -11.5, -12.5], [1, 0.5, 0.5]),
            ({"patience": 0, "threshold": 2, "threshold_mode": "abs", "mode": "max"}, [INF, INF, 1], [1, 0.5, 0.25]),
            ({"patience": 0}, [np.float32(3), np.array(2.0), np.int64(2)], [1, 1, 0.5])]


def test_plateaus():
    for options, losses, rates in PLATEAUS:
        plateau, found = s.ReduceOnPlateau(1.0, factor=0.5, **options), []
        for loss in losses:
            plateau.observe(loss)
            found.append(plateau(1))
        assert found == rates, options


def test_plateau_continues_from_its_state():
    for k, save in itertools.product((0, 1, 7, 30),
                                     (lambda p: json.loads(json.dumps(p.state_dict())), s.ReduceOnPlateau.state_dict)):
        whole, half, rest = (s.ReduceOnPlateau(0.1, patience=2, cooldown=1, mode="max") for _ in range(3))
        for loss in LOSSES["noise"][:k]:
            half.observe(loss)
        copy = pickle.loads(pickle.dumps(half))
        saved = save(half)
        half.observe(9.0)
        rest.load_state_dict(saved)
        for t, loss in enumerate(LOSSES["noise"]):
            for plateau in (whole, rest, copy) if t >= k else (whole,):
                plateau.observe(loss)
        assert rest.state_dict() == whole.state_dict() == copy.state_dict()
        assert repr(rest) == repr(whole) != repr(half)


def test_pure_printable_and_picklable():
    for schedule, *_ in POINTS + TORCH + SEQUENCES + OPTAX + KERAS:
        if any(word in repr(schedule) for word in ("lambda", "function", "factor=10")):
            continue
        steps = [*range(1, 60), 2**20, 2**40]
        values = {t: schedule(t) for t in steps}
        random.Random(0).shuffle(steps)
        copy, printed = pickle.loads(pickle.dumps(schedule)), eval(repr(schedule), vars(s))
        assert copy == printed == schedule
        assert hash(copy) == hash(schedule)
        assert {t: schedule(t) for t in steps} == {t: copy(t) for t in steps} == {t: printed(np.int64(t))
                                                                                  for t in steps} == values


def test_functions_in_a_schedule_pickle_with_it():
    schedule = s.product([s.zero_based(math.exp), two_rates_by_hand, s.floor(s.join([math.cos, 0.5], [3]), 0.1)])
    copy = pickle.loads(pickle.dumps(schedule))
    assert copy == schedule
    assert [copy(t) for t in (1, 4)] == [2 * math.cos(1), math.exp(3) * 0.5]
    with pytest.raises((pickle.PicklingError, AttributeError), match="lambda"):
        pickle.dumps(s.product([lambda t: 1.0]))


def two_rates_by_hand(t):
    return 1.0 + t % 2


def test_the_version_of_a_schedule_is_that_of_the_plateau_in_it():
    plateau = s.ReduceOnPlateau(1.0, patience=0, factor=0.5)
    of = [s.warmup(3, plateau), s.join([s.floor(plateau, 0.1), 2.0], [3]), 2 * (s.linear(1.0, 2.0, 3) * plateau)]
    before = [x.version for x in of]
    assert before == [hash(1.0)] * 3
    plateau.observe(1.0)
    plateau.observe(1.0)
    assert [x.version for x in of] == [hash(0.5)] * 3
    assert [x(3) for x in of] == pytest.approx([0.5, 0.5, 5 / 3])
    assert s.cosine(1.0, 10).version == 0


def test_repr_is_the_call():
    assert repr(s.join([1, s.constant(2)], [3])) == "join(parts=(1.0, constant(value=2.0)), milestones=(3,))"
    assert repr(s.multi_step(np.float32(0.5), np.array([1, 2]))) == "multi_step(lr=0.5, milestones=(1, 2), factor=0.1)"
    assert repr(s.ReduceOnPlateau(1, patience=2)) == (
        "ReduceOnPlateau(lr=1.0, factor=0.1, patience=2, threshold=0.0001, mode='min', cooldown=0, min_lr=0.0, "
        "threshold_mode='rel', state={'lr': 1.0, 'best': inf, 'bad': 0, 'cooling': 0})")
    assert s.cosine(1.0, 10) != s.cosine(1.0, 11)
    assert s.cosine(1.0, 10) != s.linear(1.0, 10, 1)


BIG = 2**40
LARGE = [
    (s.polynomial(1.0, 0.0, BIG, 2.0), {BIG // 2 + 1: 0.25}),
    (s.join([0.0, s.linear(0.0, 1.0, 8)], [BIG]), {BIG + 5: 0.5}),
    (s.piecewise([0.0, 1.0], [BIG], "linear"), {BIG // 4 + 1: 0.25}), (s.inverse_time(1.0, 1.0), {BIG: 2.0**-40}),
    (s.cyclical(0.0, 1.0, 2**10, down=3 * 2**10), {BIG + 2**9 + 1: 0.5, BIG + 2**10 + 2**9 * 3 + 1: 0.5}),
    (s.cyclical(0.5, 1.0, 3, "triangular2", down=2), {BIG: 0.5}), (s.warmup(BIG, 1.0, from_start=True), {1: 0.0}),
    (s.linear(0.0, 1.0, BIG), {BIG: float(Fraction(BIG - 1, BIG))}), (s.linear(1.0, 0.5, 10), {BIG: 0.5}),
    (s.warmup(BIG, 1.0), {1: 2.0**-40}), (s.warmup(5, 0.1), {BIG: 0.1}), (s.cosine(1.0, BIG), {BIG // 2 + 1: 0.5}),
    (s.cosine(1.0, 100, 0.25, 5), {BIG: 0.25}), (s.cosine_restarts(1.0, 2**10), {BIG + 1: 1.0, BIG + 2**9 + 1: 0.5}),
    (s.cosine_restarts(1.0, 1, multiply=2), {BIG: 1.0}), (s.step(1.0, 2**38, 0.5), {BIG: 0.125}),
    (s.step(1.0, 1), {BIG: 0.0}), (s.multi_step(1.0, [BIG - 1, BIG], 0.5), {BIG: 0.5}),
    (s.exponential(1.0, 0.5, 2**37), {BIG + 1: 2.0**-8}), (s.exponential(1.0, 0.9), {BIG: 0.0}),
    (s.inverse_square_root(1.0, 4), {BIG: 2.0**-19}), (s.one_cycle(1.0, 100), {BIG: 4e-6}),
    (s.cyclical(0.0, 1.0, 2**10), {BIG + 2**9 + 1: 0.5}), (s.cyclical(0.5, 1.0, 3, "triangular2"), {BIG: 0.5}),
    (s.cyclical(0.5, 1.0, 3, "exp_range", 0.99), {BIG: 0.5}),
    (s.warmup_stable_decay(1.0, BIG, 10, 2**20), {BIG - 2**19 + 1: 0.5})]


def test_large_t():
    for schedule, points in LARGE:
        for t, value in points.items():
            assert schedule(t) == pytest.approx(value, rel=1e-15), (schedule, t)


@pytest.mark.parametrize("anneal", ["cos", "linear"])
def test_ends_are_exact_and_the_decay_never_rises(anneal):
    lr, end = 0.1, 0.03
    for shape in ("linear", "cosine", "sqrt"):
        values = [s.warmup_stable_decay(lr, 300, 0, 300, end, shape)(t) for t in range(1, 400)]
        assert (values[0], values[300], values[-1]) == (lr, end, end)
        assert values == sorted(values, reverse=True)
    up_down = [s.one_cycle(lr, 300, 0.5, anneal=anneal)(t) for t in range(1, 400)]
    assert (up_down[0], up_down[149], up_down[299], up_down[-1]) == (lr / 25, lr, lr / 25 / 1e4, lr / 25 / 1e4)


@s.schedule
def two_rates(t: int, low: s.Number, high: s.Number, odd: bool = True) -> float:
    """`low` and `high` in turn."""
    return high if t % 2 == odd else low


def test_own_schedule():
    mine = two_rates(1, high=2)
    assert [mine(t) for t in (1, 2, 3)] == [2.0, 1.0, 2.0]
    assert pickle.loads(pickle.dumps(mine)) == mine
    assert s.warmup(2, mine)(1) == 1.0
    assert [s.evaluate(v, 2) for v in (mine, 3, np.float32(0.5), lambda t: t)] == [1.0, 3.0, 0.5, 2.0]


ERRORS = [  # what is called, the error, and what it says
    (lambda: s.constant("0.1"), TypeError, "constant.value: found '0.1' of type str, needed a finite number. Pass a f"),
    (lambda: s.constant(True), TypeError, "constant.value: found True of type bool"),
    (lambda: s.constant(NAN), ValueError, "constant.value: found nan, needed a finite number"),
    (lambda: s.constant(10**400), ValueError, "needed a finite number"),
    (lambda: s.linear(0.0, INF, 5), ValueError, "linear.end: found inf"),
    (lambda: s.linear(0.0, 1.0), TypeError, "linear: missing a required argument: 'steps', needed (start:"),
    (lambda: s.linear(0.0, 1.0, 5, warm=1), TypeError, "linear: got an unexpected keyword argument 'warm'"),
    (lambda: s.linear(0.0, 1.0, 0), ValueError, "linear.steps: found 0, needed a whole number, 1 or more. Count steps"),
    (lambda: s.linear(0.0, 1.0, 1e4), TypeError, "linear.steps: found 10000.0 of type float, needed a whole number"),
    (lambda: s.warmup(5, None), TypeError, "warmup.then: found None of type NoneType, needed a finite number or a fun"),
    (lambda: s.warmup(5, NAN), ValueError, "warmup.then: found nan, needed a finite number or a function of the st"),
    (lambda: s.warmup(5, 0.1, from_start=1), TypeError, "warmup.from_start: found 1 of type int, needed True or Fal"),
    (lambda: s.polynomial(0.1, 0.0, 5, 0.0), ValueError, "polynomial.power: found 0.0, needed a finite number above 0"),
    (lambda: s.join([0.1, 0.2], []), ValueError, "join: found 0 milestones for 2, needed one between each two. Pass 1"),
    (lambda: s.join([], []), ValueError, "join.parts: found [], needed a list of finite numbers and functions of the"),
    (lambda: s.join([0.1, None], [3]), ValueError, "join.parts: found [0.1, None], needed a list of finite numbers"),
    (lambda: s.join(0.1, [3]), TypeError, "join.parts: found 0.1 of type float, needed a list of finite numbers and"),
    (lambda: s.piecewise([0.1], [3, 4]), ValueError, "piecewise: found 2 milestones for 1, needed one between each tw"),
    (lambda: s.piecewise([0.1, math.cos], [3]), ValueError, "needed a list of finite numbers. Pass floats, one at lea"),
    (lambda: s.piecewise([0.1, 1.0], [3], "sqrt"), ValueError, "piecewise.between: found 'sqrt', needed one of"),
    (lambda: s.product([True]), ValueError, "product.factors: found [True], needed a list of finite numbers and"),
    (lambda: s.constant(1.0) * "2", ValueError, "product.factors: found (constant(value=1.0), '2'), needed a list of"),
    (lambda: s.floor("0.1", 0.0), TypeError, "floor.value: found '0.1' of type str, needed a finite number or a"),
    (lambda: s.inverse_time(0.1, -1.0), ValueError, "inverse_time.rate: found -1.0, needed a finite number, 0 or more"),
    (lambda: s.zero_based(0.1), TypeError, "zero_based.function: found 0.1 of type float, needed a function. Pass a f"),
    (lambda: s.warmup(5, 0.1, start=1.5), ValueError, "warmup.start: found 1.5, needed a number from 0 to 1"),
    (lambda: s.cosine(0.1, 10, warmup=-1), ValueError, "cosine.warmup: found -1, needed a whole number, 0 or more"),
    (lambda: s.cosine(0.1, 10, warmup=10), ValueError, "found 10 steps for a warm-up of 10 and a decay of 0, needed"),
    (lambda: s.warmup_stable_decay(0.1, 10, 6, 5), ValueError, "found 10 steps for a warm-up of 6 and a decay of 5"),
    (lambda: s.warmup_stable_decay(0.1, 10, 1, 5, shape="cos"), ValueError, "shape: found 'cos', needed one of ('line"),
    (lambda: s.cosine_restarts(0.1, 10, multiply=1.5), TypeError, "cosine_restarts.multiply: found 1.5 of type float"),
    (lambda: s.cosine_restarts(0.1, 10, decay=2.0), ValueError, "cosine_restarts.decay: found 2.0, needed a number f"),
    (lambda: s.step(0.1, 0), ValueError, "step.every: found 0, needed a whole number, 1 or more"),
    (lambda: s.step(0.1, 5, 0.0), ValueError, "step.factor: found 0.0, needed a finite number above 0"),
    (lambda: s.multi_step(0.1, [3, 3]), ValueError, "multi_step.milestones: found [3, 3], needed a list of increasing"),
    (lambda: s.multi_step(0.1, [0, 3]), ValueError, "multi_step.milestones: found [0, 3]"),
    (lambda: s.multi_step(0.1, 30), TypeError, "multi_step.milestones: found 30 of type int"),
    (lambda: s.multi_step(0.1, iter([1, 2])), TypeError, "needed a list of increasing whole numbers"),
    (lambda: s.exponential(0.1, -0.5), ValueError, "exponential.factor: found -0.5, needed a finite number above 0"),
    (lambda: s.exponential(1.0, 2.0)(BIG), OverflowError, "2.0**1099511627775.0, needed a float64. Use a factor of at"),
    (lambda: s.inverse_square_root(0.1, 0), ValueError, "inverse_square_root.warmup: found 0"),
    (lambda: s.one_cycle(0.1, 1), ValueError, "one_cycle: found the peak at step 1.0 of 1, needed it before the last"),
    (lambda: s.one_cycle(0.1, 10, 1.0), ValueError, "one_cycle: found the peak at step 10.0 of 10"),
    (lambda: s.one_cycle(0.1, 10, 0.6, three_phase=True), ValueError, "one_cycle: found the way back at step 11.0 of"),
    (lambda: s.one_cycle(0.1, 10, anneal="cosine"), ValueError, "one_cycle.anneal: found 'cosine', needed one of"),
    (lambda: s.cyclical(0.1, 1.0, 5, "zigzag"), ValueError, "cyclical.mode: found 'zigzag', needed one of"),
    (lambda: s.cyclical(0.1, 1.0, 5, gamma=0.9), ValueError, "cyclical.gamma: found 0.9 with mode 'triangular', neede"),
    (lambda: s.cyclical(0.1, 1.0, 5, down=0), ValueError, "cyclical.down: found 0, needed a whole number, 1 or more"),
    (lambda: s.cyclical(0.1, 1.0, 5, "triangular2", scale_fn=math.cos), ValueError,
     "cyclical.scale_fn: found it with mode 'triangular2', which scales by itself, needed one of the two. Leave mode"),
    (lambda: s.cosine(0.1, 10)(0), ValueError, "cosine(t): found 0, needed a whole number, 1 or more"),
    (lambda: s.cosine(0.1, 10)(2.0), TypeError, "cosine(t): found 2.0 of type float, needed a whole number"),
    (lambda: s.ReduceOnPlateau(0.1, factor=1.0), ValueError, "ReduceOnPlateau.factor: found 1.0, needed above 0 and"),
    (lambda: s.ReduceOnPlateau(0.1, threshold=2), ValueError, "ReduceOnPlateau.threshold: found 2, needed a number f"),
    (lambda: s.ReduceOnPlateau(0.1, threshold=-1, threshold_mode="abs"), ValueError, "found -1, needed a finite numbe"),
    (lambda: s.ReduceOnPlateau(0.1, mode="low"), ValueError, "ReduceOnPlateau.mode: found 'low', needed one of"),
    (lambda: s.ReduceOnPlateau(0.1, patience=1.5), TypeError, "ReduceOnPlateau.patience: found 1.5 of type float"),
    (lambda: s.ReduceOnPlateau(0.1, min_lr=0.2), ValueError, "ReduceOnPlateau.min_lr: found 0.2, needed at most lr ="),
    (lambda: s.ReduceOnPlateau(0.1).observe([1, 2]), TypeError, "ReduceOnPlateau.observe: found [1, 2], needed one n"),
    (lambda: s.ReduceOnPlateau(0.1).load_state_dict({"lr": 1}), ValueError, "found the keys ['lr'], needed ['bad', "),
    (lambda: s.ReduceOnPlateau(0.1).load_state_dict({"lr": 1, "best": NAN, "bad": 0, "cooling": 0}), ValueError,
     "['best']: found nan, needed a number")]


def test_errors_say_where_what_and_what_to_do():
    for call, kind, fragment in ERRORS:
        with pytest.raises(kind) as caught:
            call()
        assert fragment in str(caught.value)
