"""The problems on which steps are counted are what they say, their counts stay, and a small change of numerics moves them."""
import importlib
import math
from pathlib import Path

import numpy as np
import pytest

from fastopt.optimizers import ALL

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(Path(__file__).parents[1]))
    problems = importlib.import_module("benchmarks.problems")

STEPS = {  # on quadratic, rosenbrock, logistic, noisy
    "sgd": (1756, 6543, 1531, 522),
    "momentum": (105, 568, 119, 523),
    "nesterov": (167, 605, 123, 522),
    "rmsprop": (109, 4246, 134, 342),
    "adagrad": (140, 2949, 187, 247),
    "adam": (107, 412, 282, 313),
    "adamw": (107, 2519, 853, 312),
    "amsgrad": (104, 444, 290, 313),
    "nadam": (252, 1824, 321, 298),
    "radam": (1206, 8401, 161, 542),
    "lion": (615, 956, 608, 897),
}
CASES = [(rule, problem, count) for rule, counts in STEPS.items() for problem,
         count in zip(problems.PROBLEMS, counts, strict=True)]


def allowed(count):
    """By how many steps an ulp of exp, or of a coefficient, may move a count: problems.py found one in 4,246 at most."""
    return max(1, count/1_000)


def test_every_rule_has_its_rates():
    assert list(STEPS) == list(problems.RATES) == list(ALL)


@pytest.mark.parametrize(("rule", "problem", "count"), CASES)
def test_counts_stay(rule, problem, count):
    """A new count is a new path: if that was meant, say so in CHANGELOG.md and put it here."""
    assert problems.steps(rule, problem) == pytest.approx(count, abs=allowed(count))


def moved(rule, faster=1.0, **hyper):
    """The counts that another learning rate, or other hyperparameters, move further than an ulp would."""
    counts = {problem: problems.steps(rule, problem, lr*faster, **hyper)
              for problem, lr in zip(problems.PROBLEMS, problems.RATES[rule], strict=True)}
    return [problem for of, problem, count in CASES if of == rule
            and not abs(counts[problem] - count) <= allowed(count)]


@pytest.mark.parametrize("rule", ALL)
def test_a_percent_of_the_learning_rate_is_noticed(rule):
    assert moved(rule, 1.01)


@pytest.mark.parametrize("change", [{"b2": 0.99}, {"b2": 0.998}, {"b1": 0.89}, {"eps": 1e-4},
                                    {"bias_correction": False}], ids=str)
def test_a_change_of_adam_is_noticed(change):
    assert moved("adam", **change)


@pytest.mark.parametrize("problem", problems.PROBLEMS)
def test_gradient_is_the_derivative_of_the_loss(problem):
    """In float64, as the mean over a period of the noise."""
    of = problems.PROBLEMS[problem]
    p = of.start + problems.uniform(9, of.start.size)/10
    h = 1e-5*np.eye(p.size)
    gradient = np.mean([of.gradient(p, t) for t in range(1, problems.PERIOD + 1)], 0)
    np.testing.assert_allclose(gradient, [(of.loss(p + d) - of.loss(p - d))/2e-5 for d in h], rtol=1e-6, atol=1e-6)


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
    quadratic, noisy = (np.ptp(np.log10(of.gradient(np.ones(n), 500) - of.gradient(np.zeros(n), 500)))
                        for of, n in ((problems.PROBLEMS["quadratic"], 100), (problems.PROBLEMS["noisy"], 50)))
    assert (quadratic, noisy) == (pytest.approx(3), pytest.approx(1))


def test_what_never_arrives_is_nan():
    assert math.isnan(problems.steps("sgd", "rosenbrock", 1e-6))  # too slow
    assert math.isnan(problems.steps("sgd", "quadratic", 1.0))    # diverges


@pytest.mark.parametrize(("rule", "problem"), [("adam", "quadratic"), ("lion", "rosenbrock")])
def test_the_rates_are_the_best_of_the_grid(rule, problem):
    """Lion's shortest way on Rosenbrock, 286 steps with 0.01, is luck: 1 % beside it there is none."""
    assert problems.best(rule, problem) == problems.RATES[rule][list(problems.PROBLEMS).index(problem)]
