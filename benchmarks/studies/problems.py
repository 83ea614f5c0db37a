"""Standard problems, on which steps are counted.

``python -m benchmarks.studies.problems`` searches the learning rates, in a minute.

They are not `fastopt.problems`: versions of the package that have none can be measured with them, and no sum here
depends on BLAS. A count is the same on every machine. Sums are `math.fsum` or accumulated, one addition after another:
the order of NumPy's own sums follows the width of the SIMD, that of BLAS the threads. Random numbers are
`random.Random`'s, which Python keeps from version to version. What is left are exp, log1p and the host's coefficients,
which may be off by an ulp elsewhere: with every element of every gradient an ulp higher or lower by chance, 43 of the
44 counts stayed as they are in six trials, and one of 4,246 steps became 4,245. Without AVX, in Numba and in NumPy,
whose exp then has other bits, all stayed.
"""
import math
import random
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from fastopt.optimizers import ALL

PERIOD = 1_000        # rows of the noise
GRID = [float(f"{m}e{e}") for e in (-4, -3, -2, -1) for m in (1, 3)] + [1.0]
FEWEST = 100          # a change of 1 % is a step at least
DIVERGED = 1e30       # a loss above which no step leads back


class Problem(NamedTuple):
    """Where to start, the gradient at (point, step), the loss above its minimum, when to stop and when to give up."""

    start: np.ndarray
    gradient: Callable[[np.ndarray, int], np.ndarray]
    loss: Callable[[np.ndarray], float]
    tolerance: float
    limit: int


def uniform(seed: int, *shape: int) -> np.ndarray:
    """Numbers in [-1, 1)."""
    draw = random.Random(seed).random
    return np.array([2*draw() - 1 for _ in range(math.prod(shape))]).reshape(shape)


def total(x: np.ndarray, axis: int) -> np.ndarray:
    """The sum in the order of the index, whatever the processor."""
    return np.add.accumulate(x, axis=axis).take(-1, axis)


def bowl(curvature: np.ndarray, noise: np.ndarray, tolerance: float) -> Problem:
    """sum of curvature*p^2/2 in float32; the gradient of step t is taken beside p, as far as the noise tells."""
    def loss(p):
        return math.fsum(curvature*np.square(p, dtype=np.float64))/2

    start = np.copysign(0.1, uniform(1, len(curvature))) + 0.9*uniform(1, len(curvature))
    return Problem(start.astype(np.float32), lambda p, t: curvature*(p + noise[t % len(noise)]), loss, tolerance,
                   10_000)


def quadratic() -> Problem:
    """100 dimensions, condition number 1,000: whole numbers, so that the last bit of geomspace does not matter."""
    return bowl(np.rint(np.geomspace(1, 1_000, 100)).astype(np.float32), np.zeros((1, 100), np.float32), 0.03)


def noisy() -> Problem:
    """50 dimensions, condition number 10, and noise as large as the start, which cancels over a period."""
    half = uniform(2, PERIOD//2, 50).astype(np.float32)
    return bowl(np.linspace(1, 10, 50).astype(np.float32), np.concatenate([half, -half]), 0.3)


def rosenbrock() -> Problem:
    """(1 - x)^2 + 100*(y - x^2)^2 in float64, from the usual start: a curved valley."""
    def gradient(p, t):
        x, y = p.tolist()
        return np.array([-400*x*(y - x*x) - 2*(1 - x), 200*(y - x*x)])

    def loss(p):
        x, y = p.tolist()
        return (1 - x)*(1 - x) + 100*(y - x*x)*(y - x*x)
    return Problem(np.array([-1.2, 1.0]), gradient, loss, 1e-3, 10_000)


LEAST = 0.3703626016862147  # of the logistic loss, by Newton's method (tests/test_bench_convergence.py)


def logistic() -> Problem:
    """Logistic regression on 200 x 20 made numbers in float64, a tenth of the labels wrong, with decay."""
    x, decay = uniform(3, 200, 20)/(1 + np.arange(20)/4), 1e-3
    sign = np.array([math.copysign(1, math.fsum(row)) for row in x*uniform(4, 20)])*np.where(np.arange(200) % 10, 1, -1)
    signed = np.ascontiguousarray((x*sign[:, None]).T)

    def gradient(p, t):
        return decay*p - total(signed/(1 + np.exp(total(signed*p[:, None], 0))), 1)/200

    def loss(p):
        return math.fsum(np.log1p(np.exp(-total(signed*p[:, None], 0))))/200 + decay*math.fsum(p*p)/2 - LEAST
    return Problem(np.zeros(20), gradient, loss, 1e-5, 10_000)


PROBLEMS = {make.__name__: make() for make in (quadratic, rosenbrock, logistic, noisy)}
RATES: dict[str, tuple[float, ...]] = {  # a learning rate for each problem, in their order: what `best` finds
    "sgd": (0.001, 0.001, 1.0, 0.003), "momentum": (0.003, 0.001, 1.0, 0.0003), "nesterov": (0.001, 0.001, 1.0, 0.0003),
    "rmsprop": (0.01, 0.001, 0.03, 0.01), "adagrad": (0.1, 1.0, 0.3, 0.1), "adam": (0.03, 0.3, 0.03, 0.01),
    "adamw": (0.03, 0.1, 0.03, 0.01), "amsgrad": (1.0, 0.3, 0.03, 0.01), "nadam": (0.01, 0.03, 0.03, 0.01),
    "radam": (0.003, 0.003, 0.3, 0.01), "lion": (0.003, 0.003, 0.01, 0.001)}


@cache
def rate(rule: str, problem: str) -> float:
    """The learning rate of a rule on a problem: searched for where `RATES` lacks the rule."""
    return RATES[rule][list(PROBLEMS).index(problem)] if rule in RATES else best(rule, problem)


def steps(rule: str, problem: str, lr: float | None = None, **hyper: Any) -> float:
    """Steps until the loss is within the tolerance for the first time; NaN where it never is, or leaves the numbers."""
    of = PROBLEMS[problem]
    p = of.start.copy()
    opt = ALL[rule](p, threads=1, lr=rate(rule, problem) if lr is None else lr, **hyper)
    with np.errstate(all="ignore"):  # exp overflows where a rate is too high
        for t in range(1, of.limit + 1):
            opt.step(lambda point, t=t: of.gradient(point, t))
            loss = of.loss(p)
            if loss <= of.tolerance:
                return t
            if not loss < DIVERGED:
                break
    return math.nan


def robust(rule: str, problem: str, lr: float, count: float) -> bool:
    """Whether rates that differ by 1 % need about as many steps: not so on the edge of stability, or by luck."""
    return all(abs(steps(rule, problem, lr*near)/count - 1) < 0.05 for near in (0.99, 1.01))


def best(rule: str, problem: str) -> float:
    """The learning rate of the grid that needs the fewest steps, of those with `FEWEST` at least and no luck."""
    counts = sorted((count, lr) for lr in GRID if (count := steps(rule, problem, lr)) >= FEWEST)
    return next(lr for count, lr in counts if robust(rule, problem, lr, count))


if __name__ == "__main__":
    for rule in ALL:
        print(f'    "{rule}": {tuple(best(rule, problem) for problem in PROBLEMS)},', flush=True)
