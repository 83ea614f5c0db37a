"""Schedules against numbers found by hand, against torch at every step, and against their own promises."""
import itertools
import json
import math
import pickle
import random
from fractions import Fraction

import numpy as np
import pytest

from fastopt import schedules as s

INF, NAN = math.inf, math.nan


# What torch has not: schedule, {step: value}
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


SEQUENCES = [  # ours, what torch runs after the warm-up of 6 steps, at which steps it changes
    (s.warmup_stable_decay(0.4, 30, 6, 10, end=0.04),
     [("ConstantLR", {"factor": 1.0}), ("LinearLR", {"start_factor": 1.0, "end_factor": 0.1, "total_iters": 10})],
     [6, 20]), (s.cosine(0.4, 30, warmup=6), [("CosineAnnealingLR", {"T_max": 24})], [6]),
    (s.warmup(6, s.cosine(0.4, 24)), [("CosineAnnealingLR", {"T_max": 24})], [6]),
    (s.warmup(6, s.step(0.4, 5)), [("StepLR", {"step_size": 5})], [6])]


def test_composition_equals_torch_sequence():
    warm = ("LinearLR", {"start_factor": 1 / 6, "total_iters": 5})
    for schedule, names, changes in SEQUENCES:
        optimizer, schedulers = torch_optimizer(0.4)
        parts = [getattr(schedulers, name)(optimizer, **arguments) for name, arguments in [warm, *names]]
        rates = torch_rates(optimizer, schedulers.SequentialLR(optimizer, parts, changes), 30)
        assert [schedule(t) for t in range(1, 31)] == pytest.approx(rates, rel=1e-12, abs=1e-14), schedule


LOSSES = {"falls": [1 / (k + 1) for k in range(40)], "flat": [1.0] * 40, "creeps": [1 - 2e-5 * k for k in range(60)],
          "NaN": [1.0, NAN, 0.5] + [NAN] * 20 + [0.4] * 20, "starts NaN": [NAN] * 9 + [INF, 3.0, INF, 2.0] + [2.5] * 12,
          "noise": random.Random(1).choices([0.1, 0.2, 0.3, 0.4, 0.09, 0.05], k=80)}


def test_plateau_equals_torch():
    for losses, options in itertools.product(LOSSES.values(), (
            {}, {"patience": 2}, {"patience": 0, "factor": 0.5, "cooldown": 3},
            {"patience": 3, "threshold": 0.1, "min_lr": 0.03}, {"patience": 1, "mode": "max", "cooldown": 1})):
        optimizer, schedulers = torch_optimizer(0.2)
        theirs, ours = schedulers.ReduceLROnPlateau(optimizer, eps=0, **options), s.ReduceOnPlateau(0.2, **options)
        for t, loss in enumerate(losses, start=1):
            assert ours(t) == optimizer.param_groups[0]["lr"]
            theirs.step(loss)
            ours.observe(loss)
        assert ours.state_dict() == {"lr": optimizer.param_groups[0]["lr"], "best": theirs.best,
                                     "bad": theirs.num_bad_epochs, "cooling": theirs.cooldown_counter}


PLATEAUS = [({"patience": 1}, [3, 3, 3, 3, 3], [1, 1, 0.5, 0.5, 0.25]),
            ({"patience": 0}, [3, NAN, NAN], [1, 0.5, 0.25]), ({"patience": 0}, [NAN, 3, 2], [0.5, 0.5, 0.5]),
            ({"patience": 0, "cooldown": 2}, [3, 3, 3, 3, 3], [1, 0.5, 0.5, 0.5, 0.25]),
            ({"patience": 0, "min_lr": 0.4}, [3, 3, 3], [1, 0.5, 0.4]),
            ({"patience": 0, "threshold": 0.1}, [10, 9.5, 8.9], [1, 0.5, 0.5]),
            ({"patience": 0, "threshold": 0.1}, [-10, -10.5, -11.5], [1, 0.5, 0.5]),
            ({"patience": 0, "mode": "max"}, [1, 2, 1], [1, 1, 0.5]),
            ({"patience": 0, "mode": "max", "threshold": 0.1}, [-10, -9.5, -8.5], [1, 0.5, 0.5]),
            ({"patience": 0}, [-INF, -INF, 1], [1, 0.5, 0.25]),
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
    for schedule, *_ in POINTS + TORCH:
        if "lambda" in repr(schedule) or "factor=10" in repr(schedule):
            continue
        steps = [*range(1, 60), 2**20, 2**40]
        values = {t: schedule(t) for t in steps}
        random.Random(0).shuffle(steps)
        copy, printed = pickle.loads(pickle.dumps(schedule)), eval(repr(schedule), vars(s))
        assert copy == printed == schedule
        assert hash(copy) == hash(schedule)
        assert {t: schedule(t) for t in steps} == {t: copy(t) for t in steps} == {t: printed(np.int64(t))
                                                                                  for t in steps} == values


def test_repr_is_the_call():
    assert repr(s.multi_step(np.float32(0.5), np.array([1, 2]))) == "multi_step(lr=0.5, milestones=(1, 2), factor=0.1)"
    assert repr(s.ReduceOnPlateau(1, patience=2)) == (
        "ReduceOnPlateau(lr=1.0, factor=0.1, patience=2, threshold=0.0001, mode='min', cooldown=0, min_lr=0.0, "
        "state={'lr': 1.0, 'best': inf, 'bad': 0, 'cooling': 0})")
    assert s.cosine(1.0, 10) != s.cosine(1.0, 11)
    assert s.cosine(1.0, 10) != s.linear(1.0, 10, 1)


BIG = 2**40
LARGE = [
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
    (lambda: s.one_cycle(0.1, 10, anneal="cosine"), ValueError, "one_cycle.anneal: found 'cosine', needed one of"),
    (lambda: s.cyclical(0.1, 1.0, 5, "zigzag"), ValueError, "cyclical.mode: found 'zigzag', needed one of"),
    (lambda: s.cyclical(0.1, 1.0, 5, gamma=0.9), ValueError, "cyclical.gamma: found 0.9 with mode 'triangular', neede"),
    (lambda: s.cosine(0.1, 10)(0), ValueError, "cosine(t): found 0, needed a whole number, 1 or more"),
    (lambda: s.cosine(0.1, 10)(2.0), TypeError, "cosine(t): found 2.0 of type float, needed a whole number"),
    (lambda: s.ReduceOnPlateau(0.1, factor=1.0), ValueError, "ReduceOnPlateau.factor: found 1.0, needed above 0 and"),
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
