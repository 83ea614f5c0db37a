"""The problems on which steps are counted are what they say, and a small change of numerics moves the counts."""
import importlib
import math
from pathlib import Path

import numpy as np
import pytest

from fastopt.optimizers import ALL

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(Path(__file__).parents[1]))
    problems = importlib.import_module("benchmarks.studies.problems")


def counts(rule, faster=1.0, **hyper):
    """Steps on the two quick problems, at a multiple of their learning rates."""
    return {name: problems.steps(rule, name, problems.rate(rule, name)*faster, **hyper)
            for name in ("quadratic", "logistic")}


def test_a_change_of_adam_is_noticed():
    """By more than an ulp of exp, or of a coefficient, may move a count: one in 4,246 at most, as problems.py found."""
    before = counts("adam")
    for change in ({"faster": 1.01}, {"b2": 0.998}, {"b1": 0.89}, {"eps": 1e-4}, {"bias_correction": False}):
        after = counts("adam", **change)
        assert any(not abs(after[name] - count) <= max(1, count/1_000) for name, count in before.items()), change
    assert counts("adam") == before


def test_gradient_is_the_derivative_of_the_loss():
    """In float64, as the mean over a period of the noise."""
    for name, of in problems.PROBLEMS.items():
        p = of.start + problems.uniform(9, of.start.size)/10
        want = [(of.loss(p + d) - of.loss(p - d))/2e-5 for d in 1e-5*np.eye(p.size)]
        gradient = np.mean([of.gradient(p, t) for t in range(1, problems.PERIOD + 1)], 0)
        np.testing.assert_allclose(gradient, want, rtol=1e-6, atol=1e-6, err_msg=name)


def test_losses_are_above_their_minimum():
    """Which is 0: at the origin, at (1, 1), and for the logistic loss where Newton's method ends."""
    for problem, minimum in (("quadratic", np.zeros(100)), ("noisy", np.zeros(50)), ("rosenbrock", np.ones(2))):
        assert problems.PROBLEMS[problem].loss(minimum) == 0
    of = problems.PROBLEMS["logistic"]
    p = of.start.copy()
    for _ in range(12):
        curvature = [(of.gradient(p + d, 1) - of.gradient(p - d, 1))/2e-5 for d in 1e-5*np.eye(p.size)]
        p -= np.linalg.solve(curvature, of.gradient(p, 1))
    assert np.abs(of.gradient(p, 1)).max() < 1e-14
    assert abs(of.loss(p)) < 1e-14


def test_condition_numbers():
    for name, n, decades in (("quadratic", 100, 3), ("noisy", 50, 1)):
        of = problems.PROBLEMS[name]
        curvature = of.gradient(np.ones(n), 500) - of.gradient(np.zeros(n), 500)
        assert np.ptp(np.log10(curvature)) == pytest.approx(decades)


def test_what_never_arrives_is_nan():
    assert math.isnan(problems.steps("sgd", "rosenbrock", 1e-6))  # too slow
    assert math.isnan(problems.steps("sgd", "quadratic", 1.0))    # diverges


def test_the_rates_are_the_best_of_the_grid(monkeypatch):
    """Lion's shortest way on Rosenbrock, 286 steps with 0.01, is luck: 1 % beside it there is none."""
    assert set(problems.RATES) <= set(ALL)
    rate = problems.rate("lion", "rosenbrock")
    monkeypatch.delitem(problems.RATES, "lion")
    assert problems.rate.__wrapped__("lion", "rosenbrock") == rate
