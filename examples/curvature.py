"""Learning rate and momentum from the curvature: gradient descent, momentum and Nesterov are as fast as theory says.

    python examples/curvature.py --plot curvature.png

1. Quadratics of 50 dimensions and condition numbers k from 10 to 10,000. fastopt.curvature finds the ends of the
   spectrum from gradients alone (Lanczos) and suggests settings. The measured rates are compared with theory,
   (k - 1)/(k + 1), (sqrt(k) - 1)/(sqrt(k) + 1) and 1 - 2/sqrt(3k + 1).
2. Gradient descent 2 % below and 2 % above the largest stable learning rate 2/L.
3. Logistic regression, whose curvature changes on the way: settings from the start, and settings asked for once more
   after 30 steps.
4. A gradient check of a small network, with an error of 1 % planted in one of its weights.

The program prints the tables. It exits with 1 unless
- the rates are within 5 % of theory (of their logarithm: so much is the number of steps off);
- the step above 2/L diverges, and the one below does not;
- settings asked for once more save at least a third of the gradients, those for asking included;
- the error is found in the leaf where it is, and nowhere else.
"""
import argparse
import sys
from typing import Any, NamedTuple

import numpy as np

import fastopt
from fastopt import problems

try:
    from matplotlib.figure import Figure
    from threadpoolctl import threadpool_limits

    from fastopt import curvature
except ImportError as error:
    sys.exit(f'curvature: {error}; SciPy, scikit-learn and matplotlib are needed. Run: pip install "fastopt[examples]"')

CONDITIONS, SHORT_CONDITIONS, SHOWN, EDGE = (10, 100, 1000, 10_000), (10, 100, 1000), 100, 0.02
METHODS = {  # optimizer, its name, colour, power of t in theory (at the best momentum, the distance is t*rate^t)
    "gradient_descent": (fastopt.SGD, "gradient descent", "#cc79a7", 0),
    "momentum": (fastopt.Momentum, "momentum", "#0072b2", 1),
    "nesterov": (fastopt.Nesterov, "Nesterov", "#d55e00", 1),
}
AGAIN, GOAL = 30, 1e-6  # logistic regression: settings are asked for once more after this step; the distance wanted


class Rate(NamedTuple):
    settings: Any
    theory: float
    measured: float
    distances: Any  # to the minimum, over that of the start

    @property
    def off(self):
        """How many more steps it takes than theory says, as a fraction."""
        return np.log(self.theory)/np.log(self.measured) - 1


def counted(grad):
    """The gradient, and a list that gets an entry for each call."""
    calls = []

    def called(w):
        calls.append(1)
        return grad(w)

    return called, calls


def distances(problem, kind, settings, steps, w=None):
    """Distances to the minimum, before and after each step, over that of the problem's start."""
    w = problem.initial() if w is None else w
    opt, far = kind(w, **settings), np.linalg.norm(problem.start - problem.minimum[0])
    found = [np.linalg.norm(w - problem.minimum[0])/far]
    for _ in range(steps):
        opt.step(problem.grad)
        found.append(np.linalg.norm(w - problem.minimum[0])/far)
    return np.array(found)


def measure(condition):
    """The suggestion for a quadratic, the gradients that it took, and the rate of each method with it.

    The rate is the slope of the second half of log(distance) - power*log(t), over as many steps as theory needs for
    nine digits.
    """
    problem = problems.quadratic(condition=condition, n=50)
    grad, calls = counted(problem.grad)
    suggestion, rates = curvature.suggest(grad, problem.initial()), {}
    for name, (kind, _, _, power) in METHODS.items():
        settings, theory = getattr(suggestion, name), suggestion.rates[name]
        steps = int(np.ceil(np.log(1e-9)/np.log(theory)))
        d, t = distances(problem, kind, settings, steps), np.arange(steps + 1)
        late = slice(steps//2, None)
        slope = np.polyfit(t[late], np.log(d[late]) - power*np.log(t[late]), 1)[0]
        rates[name] = Rate(settings, theory, float(np.exp(slope)), d)
    return suggestion, len(calls), rates


def edge(steps=300):
    """Distances of gradient descent 2 % below and 2 % above 2/L."""
    problem = problems.quadratic(condition=SHOWN, n=50)
    stable = curvature.suggest(problem.grad, problem.initial()).largest_stable_lr
    return [distances(problem, fastopt.SGD, {"lr": factor*stable}, steps) for factor in (1 - EDGE, 1 + EDGE)]


class Regression(NamedTuple):
    condition: float  # of the last suggestion
    asking: int  # gradients that the suggestions took
    distances: Any

    @property
    def steps(self):
        return int(np.argmax(self.distances <= GOAL)) if (self.distances <= GOAL).any() else len(self.distances)

    @property
    def gradients(self):
        return self.steps + self.asking


def regress(problem, name, pieces):
    """Logistic regression in pieces of so many steps, each with settings for the curvature where it begins."""
    grad, calls = counted(problem.grad)
    w, found = problem.initial(), [np.ones(1)]
    for steps in pieces:
        suggestion = curvature.suggest(grad, w)  # at w, which is trained in place
        found.append(distances(problem, METHODS[name][0], getattr(suggestion, name), steps, w)[1:])
    return Regression(suggestion.condition, len(calls), np.concatenate(found))


def check():
    """The gradient check of a network, as it is and with an error in one of the 256 weights W2."""
    problem = problems.network("glorot")

    def planted(w):
        g = problem.grad(w)
        g["W2"][3, 5] *= 1.01
        return g

    return [curvature.check_gradient(problem.value, grad, problem.initial()) for grad in (problem.grad, planted)]


def saved(runs):
    first, again = runs
    return 1 - again.gradients/first.gradients


def report(quadratics, edges, regressions, checks):
    print(f"{'condition':>9}{'found':>11}{'gradients':>11}  {'method':18}"
          f"{'lr':>10}{'momentum':>10}{'theory':>9}{'measured':>10}"
          f"{'steps off':>11}")
    for condition, (suggestion, calls, rates) in quadratics.items():
        for k, (name, r) in enumerate(rates.items()):
            first = f"{condition:9}{suggestion.condition:11.3f}{calls:11}" if k == 0 else " "*31
            print(f"{first}  {METHODS[name][1]:18}{r.settings['lr']:10.3g}{r.settings.get('momentum', 0):10.4f}"
                  f"{r.theory:9.5f}{r.measured:10.5f}{100*r.off:+9.1f} %")
    below, above = edges
    print(f"\nGradient descent, condition {SHOWN}, {len(below) - 1} steps: the distance becomes {below[-1]:.1e} of the "
          f"first with an lr "
          f"{100*EDGE:g} % below 2/L, {above[-1]:.1e} with one {100*EDGE:g} % above.")
    heads = "".join(f"{head:>14}" for head in ("condition", "steps", "asking"))
    print(f"\nLogistic regression, until the distance is {GOAL:g} of the first (asking: gradients for the "
          "suggestions):\n"
          f"{'':18}{'settings from the start':>42}{f'once more after {AGAIN} steps':>42}\n"
          f"{'':18}{heads}{heads}{'gradients saved':>19}")
    for name, runs in regressions.items():
        columns = "".join(f"{r.condition:14.1f}{r.steps:14,}{r.asking:14}" for r in runs)
        print(f"{METHODS[name][1]:18}{columns}{100*saved(runs):17.0f} %")
    right, wrong = checks
    print(f"\nGradient check of a network: all {sum(k.ok for k in right.leaves)} of {len(right.leaves)} leaves ok, "
          "largest error "
          f"{max(k.error for k in right.leaves):.0e}. With 1 % error in W2[3, 5]:\n{wrong}")


def broken(quadratics, edges, regressions, checks):
    """What was promised and did not come out."""
    for condition, (suggestion, _, rates) in quadratics.items():
        if not abs(suggestion.condition/condition - 1) < 1e-3:
            yield f"the condition number {condition} was not found"
        for name, r in rates.items():
            if not abs(r.off) < 0.05:
                yield f"{METHODS[name][1]} is not within 5 % of theory at condition {condition}"
    below, above = edges
    if not (below[-1] < 0.01 and above[-1] > 100):
        yield "2/L is not where gradient descent turns unstable"
    for name, runs in regressions.items():
        if not saved(runs) > 1/3:
            yield f"asking once more did not save a third of the gradients of {METHODS[name][1]}"
    right, wrong = checks
    if not right or [k.path for k in wrong.leaves if not k.ok] != ["w['W2']"]:
        yield "the gradient check did not find the planted error, and nothing else"


def panel(ax, title, xlabel, ylabel, **scales):
    ax.set_title(title, fontsize=11.5, loc="left")
    ax.set(xlabel=xlabel, ylabel=ylabel, **scales)
    ax.grid(color="0.92")
    ax.spines[["top", "right"]].set_visible(False)


def draw(path, quadratics, edges, regressions):
    figure = Figure(figsize=(12.4, 8.8), layout="constrained")
    worst = max(abs(r.off) for _, _, rates in quadratics.values() for r in rates.values())
    figure.suptitle("With settings from the curvature, all three converge as fast as theory says: "
                    f"the steps agree within {100*worst:.1f} %", fontsize=14, fontweight="bold", x=0.01, ha="left")
    (curves, scaling), (stability, regression) = figure.subplots(2, 2)
    draw_curves(curves, quadratics[SHOWN][2])
    draw_scaling(scaling, quadratics)
    for d, side, colour, shift, align in zip(edges, ("below", "above"), ("#56b4e9", "#e69f00"), (8, -8),
                                             ("left", "right"), strict=True):
        stability.plot(d, color=colour, lw=2)
        stability.annotate(f"lr {100*EDGE:g} % {side} 2/L", (170, d[170]), (shift, 10), textcoords="offset points",
                           ha=align, fontsize=11)
    panel(stability, f"Gradient descent at the edge, condition {SHOWN}", "step", "distance to the minimum / first",
          yscale="log")
    for name, (first, again) in regressions.items():
        _, label, colour, _ = METHODS[name]
        regression.plot(first.distances, color=colour, lw=1.5, ls=":")
        regression.plot(again.distances, color=colour, lw=2, label=label)
    regression.plot([], [], color="black", ls=":", label="settings from\nthe start only")
    regression.legend(frameon=False, fontsize=10, loc="lower left")
    panel(regression, f"Logistic regression, settings asked for once more after {AGAIN} steps", "step",
          "distance to the minimum / first",
          xscale="log", yscale="log", xlim=(1, 3000), ylim=(GOAL, 2))
    figure.savefig(path, dpi=110)


def draw_curves(ax, rates):
    for name, r in rates.items():
        _, label, colour, power = METHODS[name]
        t = np.arange(1, len(r.distances))
        theory = np.exp(power*np.log(t) + t*np.log(r.theory))
        ax.plot(r.distances, color=colour, lw=2, label=label)
        ax.plot(t, theory*r.distances[-1]/theory[-1], color="black", lw=1, ls="--")
    ax.plot([], [], color="black", lw=1, ls="--", label="theory, through the end")
    ax.legend(frameon=False, fontsize=10)
    panel(ax, f"Quadratic, condition {SHOWN}", "step", "distance to the minimum / first", yscale="log",
          ylim=(1e-10, 30))


def draw_scaling(ax, quadratics):
    """Steps for a digit: 1/log10(1/rate), by the condition number."""
    k = np.geomspace(min(quadratics), max(quadratics), 100)
    theory = {"gradient_descent": ((k - 1)/(k + 1), "(k - 1)/(k + 1)"),
              "nesterov": (1 - 2/np.sqrt(3*k + 1), "1 - 2/sqrt(3k + 1)"),
              "momentum": ((np.sqrt(k) - 1)/(np.sqrt(k) + 1), "(sqrt(k) - 1)/(sqrt(k) + 1)")}
    for name, (rate, formula) in theory.items():
        _, label, colour, _ = METHODS[name]
        ax.plot(k, -1/np.log10(rate), "--", color="black", lw=1)
        measured = [-1/np.log10(rates[name].measured) for _, _, rates in quadratics.values()]
        ax.plot(list(quadratics), measured, "o", color=colour, ms=8, mec="white", label=f"{label}: rate {formula}")
    ax.legend(frameon=False, fontsize=10, loc="upper left")
    panel(ax, "Steps for each digit (dashed: theory)", "condition number k", "steps until the distance is a tenth",
          xscale="log", yscale="log")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--plot", default="curvature.png", metavar="FILE",
                        help="where to draw the rates (default: %(default)s)")
    parser.add_argument("--short", action="store_true", help="condition numbers to 1,000 instead of 10,000")
    options = parser.parse_args()
    problem = problems.logistic_regression(scales=10)
    with threadpool_limits(1):  # matrices this small gain nothing from two BLAS threads
        quadratics = {condition: measure(condition)
                      for condition in (SHORT_CONDITIONS if options.short else CONDITIONS)}
        edges, checks = edge(), check()
        regressions = {name: [regress(problem, name, pieces) for pieces in ((2500,), (AGAIN, 2500 - AGAIN))]
                       for name in METHODS}
    report(quadratics, edges, regressions, checks)
    draw(options.plot, quadratics, edges, regressions)
    print(f"picture: {options.plot}")
    if wrong := list(broken(quadratics, edges, regressions, checks)):
        sys.exit(f"curvature: {'; '.join(wrong)}. This should not happen: please report it.")


if __name__ == "__main__":
    main()
