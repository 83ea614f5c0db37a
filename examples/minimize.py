"""Optimizers of fastopt in scipy.optimize.minimize, beside SciPy's L-BFGS-B and CG: where each is the right one.

    python examples/minimize.py --plot minimize.png

There are four small smooth problems with exact gradients (Rosenbrock in 10 dimensions, a quadratic of condition 1,000,
logistic regression, and non-negative least squares, which has bounds), a quadratic whose gradients are noisy, and the
time of one iteration on a large vector. All runs end where no element of the (projected) gradient exceeds 1e-5.
Momentum, Nesterov and Adam get the best learning rate of a grid, momentum and Nesterov also the better of mu = 0.9 and
0.99; the column "tuning" says how many gradients all runs of that search took. Under noise the rate falls to 0 along a
cosine, and nobody who can go on stops before the last step.

The program prints status, nit, nfev, njev and what is left above the minimum. It exits with 1 unless the optimizers
reach the four minima, L-BFGS-B with the fewest gradients, and end below half of what L-BFGS-B and CG leave under noise.
Times depend on the machine, and counts a little on its BLAS.
"""
import argparse
import sys
from itertools import product
from statistics import median
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

import fastopt
from fastopt import problems, schedules

try:
    from matplotlib.figure import Figure
    from scipy.optimize import lsq_linear, minimize
    from threadpoolctl import threadpool_limits

    from fastopt.scipy import method
except ImportError as error:
    sys.exit(f'minimize: {error}; SciPy, scikit-learn and matplotlib are needed. Run: pip install "fastopt[examples]"')

GTOL, CAP, NOISY_STEPS, SHORT_STEPS = 1e-5, 5000, 2000, 1000
COLOURS = {"L-BFGS-B": "black", "CG": "#e69f00", "momentum": "#0072b2", "nesterov": "#d55e00", "adam": "#009e73"}
RULES = {"momentum": (0.9, 0.99), "nesterov": (0.9, 0.99), "adam": (None,)}  # values of mu
RATES = [1.0] + [float(f"{digit}e{power}") for power in range(-1, -5, -1) for digit in (5, 2, 1)]
SHORT_RATES = [0.1, 0.0005]
NOISY = "Quadratic with noisy gradients"


class Task(NamedTuple):
    make: Any  # () -> a new problem, whose noise begins anew
    lowest: float
    bounds: Any = None


class Run(NamedTuple):
    settings: str
    found: Any  # SciPy's OptimizeResult
    left: float  # its value above the minimum
    values: Any  # of all evaluations, above the minimum
    tuning: int = 0  # evaluations of the search for the settings


def tasks():
    """The problems, with independent minima: analytic, by Newton's method, or (with bounds) by an active-set method."""
    positive = problems.linear_regression(features=20, collinearity=0.9, seed=3)
    exact = lsq_linear(*positive.data, bounds=(0, np.inf), method="bvls", tol=1e-14)
    logistic = problems.logistic_regression(samples=200, features=20, scales=10)
    return {
        "Rosenbrock, n = 10": Task(lambda: problems.rosenbrock(10), 0.0),
        "Quadratic, condition 1,000, n = 50": Task(lambda: problems.quadratic(condition=1000, n=50), 0.0),
        "Logistic regression, n = 20": Task(lambda: logistic, logistic.minimum[1]),
        f"Least squares, w >= 0, n = 20 ({(exact.x == 0).sum()} at 0)": Task(
            lambda: positive, exact.cost/len(positive.data[1]), [(0, None)]*20),
        NOISY: Task(lambda: problems.quadratic(condition=100, n=20, noise=1.0), 0.0),
    }


def run(task, how, settings="", **options):
    """One call of minimize, with every value that was computed."""
    problem, values = task.make(), []

    def fun(w):
        value, gradient = problem.value_and_grad(w)
        values.append(value - task.lowest)
        return value, gradient

    found = minimize(fun, problem.initial(), jac=True, method=how, bounds=task.bounds,
                     options={"gtol": GTOL, **options})
    return Run(settings, found, found.fun - task.lowest, np.array(values))


def tuned(task, rule, rates, noisy):
    """The best run of the grid: the one that takes the fewest steps to the minimum.

    Under noise (`noisy` is not 0, but the number of steps) it is the one that ends lowest.
    """
    best, spent = None, 0
    for mu, rate in product(RULES[rule], rates):
        hyper = {} if mu is None else {"momentum": mu}
        lr = schedules.cosine(rate, steps=noisy) if noisy else rate
        cap = noisy if noisy else best.found.nit - 1 if best else CAP  # nobody is better who takes longer
        new = run(task, method(rule, lr=lr, **hyper), f"lr {rate:g}" + (f", mu {mu:g}" if hyper else ""), maxiter=cap)
        spent += new.found.njev
        if noisy:
            best = min(best or new, new, key=lambda r: r.left)
        elif new.found.success and new.left < 1e-6:  # not in another minimum, which Rosenbrock's has
            best = new
    if best is None:
        sys.exit(f"minimize: {rule} did not reach a minimum with any rate. This should not happen: please report it.")
    return best._replace(tuning=spent)


def compare(task, rates, noisy):
    """The runs of all methods. ftol is 0: L-BFGS-B ends by the gradient, as all do."""
    runs = {"L-BFGS-B": run(task, "L-BFGS-B", maxiter=CAP, ftol=0.0)}
    if task.bounds is None:  # SciPy's CG takes none
        runs["CG"] = run(task, "CG", maxiter=CAP)
    return {**runs, **{rule: tuned(task, rule, rates, noisy) for rule in RULES}}


def report(results):
    for problem, runs in results.items():
        print(f"{problem:44}{'status':>7}{'nit':>6}{'nfev':>6}{'njev':>6}{'fun - minimum':>15}{'tuning':>9}")
        for name, r in runs.items():
            f = r.found
            print(f"  {name:9}{r.settings:33}{f.status:7}{f.nit:6}{f.nfev:6}{f.njev:6}{r.left:15.1e}"
                  f"{r.tuning or '-':>9}")


def advantage(results):
    """How many gradients the best tuned optimizer takes for one of L-BFGS-B's, on each of the exact problems."""
    return [min(runs[rule].found.njev for rule in RULES)/runs["L-BFGS-B"].found.njev
            for name, runs in results.items() if name != NOISY]


def iterations(n, steps=16):
    """Milliseconds that an iteration on n numbers takes beside `fun`.

    They are the median of the last six, when L-BFGS-B's memory is full.
    """
    e, start, times = np.geomspace(1, 1000, n), np.ones(n), {}
    for name in COLOURS:
        inside, marks = [0.0], []

        def fun(w, inside=inside):
            began = perf_counter()
            g = e*w
            value = w @ g/2
            inside[0] += perf_counter() - began
            return value, g

        how = method(name, lr=1e-3, threads=1) if name in RULES else name
        minimize(fun, start, jac=True, method=how, options={"maxiter": steps},
                 callback=lambda x, inside=inside, marks=marks: marks.append(perf_counter() - inside[0]))
        times[name] = 1e3*median(np.diff(marks)[-6:])
    opt, g, bare = fastopt.Adam(start, lr=1e-3, threads=1), e.copy(), []
    for _ in range(steps):
        began = perf_counter()
        opt.step(g)
        bare.append(perf_counter() - began)
    return {**times, "Adam.step alone": 1e3*median(bare[-6:])}


def conclude(results, times, n):
    gain, noisy = advantage(results), results[NOISY]
    gave_up, times_worse = noisy["L-BFGS-B"].found.njev, noisy["L-BFGS-B"].left/noisy["momentum"].left
    spent = ", ".join(f"{name} {ms:.3g}" for name, ms in times.items())
    print(f"L-BFGS-B takes {min(gain):.1f} to {max(gain):.1f} times fewer gradients than the best tuned optimizer, "
          "and no learning rate:\n"
          "take it for small, smooth problems with exact gradients. With noisy gradients its line search fails: "
          f"it stops after {gave_up},\n{times_worse:.0f} times as far above the minimum as momentum ends.\n"
          f"Milliseconds of an iteration on {n:,} numbers, without fun: {spent}.\n"
          "The method is for the rule that training uses, for noisy gradients, and for long vectors; it copies and "
          "checks each point, which a loop of\nopt.step without SciPy need not.")


def broken(results):
    """What was promised and did not come out."""
    for problem, runs in results.items():
        if problem == NOISY:
            others = min(r.left for name, r in runs.items() if name not in RULES)
            if runs["L-BFGS-B"].found.success or not 2*max(runs[rule].left for rule in RULES) < others:
                yield ("under noise L-BFGS-B did not stop, or the optimizers did not end below half of what it and CG "
                       "leave")
            continue
        for name in RULES:
            if not (runs[name].found.success and runs[name].left < 1e-6):
                yield f"{name} did not reach the minimum of {problem}"
    if not min(advantage(results)) > 1:
        yield "L-BFGS-B did not need the fewest gradients"


def draw_runs(ax, title, runs):
    """The lowest value so far, by gradients computed; a dot where the run ended."""
    for name, r in runs.items():
        low = np.maximum(np.minimum.accumulate(r.values), 1e-14)
        ax.plot(np.arange(1, len(low) + 1), low, color=COLOURS[name], lw=1.8)
        ax.plot(len(low), low[-1], "o", color=COLOURS[name], ms=7, mec="white", zorder=3)
    ax.set_title(title, fontsize=11, loc="left")
    ax.set(xscale="log", yscale="log", xlabel="gradients computed")
    ax.grid(color="0.92")
    ax.spines[["top", "right"]].set_visible(False)


def draw(path, results, times, n):
    figure = Figure(figsize=(13, 8.2), layout="constrained")
    gain = advantage(results)
    figure.suptitle(f"With exact gradients L-BFGS-B needs {min(gain):.1f} to {max(gain):.0f} times fewer of them than "
                    "the best tuned optimizer;\nwith noisy ones it gives up, and on long vectors its iterations are "
                    "slow",
                    fontsize=14, fontweight="bold", x=0.01, ha="left")
    axes = figure.subplots(2, 3)
    for ax, (title, runs) in zip(axes.flat, results.items(), strict=False):
        draw_runs(ax, title, runs)
    for ax in axes[:, 0]:
        ax.set_ylabel("lowest value so far, above the minimum")
    bars = axes[1, 2]
    shown = dict(reversed(times.items()))
    bars.barh(range(len(shown)), list(shown.values()), color=[COLOURS.get(name, "0.6") for name in shown])
    for k, (name, ms) in enumerate(shown.items()):
        bars.text(ms*1.15, k, f"{name}: {ms:.3g} ms", va="center", fontsize=10)
    bars.set_title(f"Time without fun, {n:,} numbers", fontsize=11, loc="left")
    bars.set(xscale="log", xlabel="milliseconds an iteration, one thread",
             xlim=(min(times.values())/3, max(times.values())*30), yticks=[])
    bars.spines[["top", "right"]].set_visible(False)
    labels = {"L-BFGS-B": "L-BFGS-B (SciPy)", "CG": "CG (SciPy; no bounds)", "momentum": "momentum",
              "nesterov": "Nesterov", "adam": "Adam"}
    handles = [bars.plot([], [], "o-", color=COLOURS[name], label=label)[0] for name, label in labels.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=5, frameon=False, fontsize=11)
    figure.savefig(path, dpi=110)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--plot", default="minimize.png", metavar="FILE",
                        help="where to draw the runs (default: %(default)s)")
    parser.add_argument("--short", action="store_true",
                        help="a grid of two rates, fewer noisy steps, and vectors of 100,000 numbers")
    options = parser.parse_args()
    n, rates, noisy = (100_000, SHORT_RATES, SHORT_STEPS) if options.short else (1_000_000, RATES, NOISY_STEPS)
    with threadpool_limits(1), np.errstate(over="ignore", invalid="ignore"):  # rates that are too high lead to infinity
        results = {name: compare(task, rates, noisy if name == NOISY else 0) for name, task in tasks().items()}
        times = iterations(n)
    report(results)
    conclude(results, times, n)
    draw(options.plot, results, times, n)
    print(f"picture: {options.plot}")
    if wrong := list(broken(results)):
        sys.exit(f"minimize: {'; '.join(wrong)}. This should not happen: please report it.")


if __name__ == "__main__":
    main()
