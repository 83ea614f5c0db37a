"""Four optimizers walk on four surfaces: SGD, Momentum, Nesterov and Adam, each with the best learning rate of a grid.

    python examples/surfaces.py --plot surfaces.png

The surfaces are a quadratic of condition 100, Rosenbrock's and Beale's valleys, and Rastrigin's field of hollows
(fastopt.problems), in two dimensions. Gradients are exact, so that SGD is gradient descent. A walk ends at the first
point where no element of the gradient exceeds 1e-4. Of the 13 rates 1e-4, 2e-4, 5e-4, ..., 1 each optimizer gets the
one that ends lowest, and of equals the one of the fewest steps. The program prints rate, steps and end of each walk. It
exits with 1 unless Momentum, Nesterov and Adam reach the minimum of the first three surfaces, the first two of them in
at most half of SGD's steps, and all four end in a local minimum of the last.
"""
import argparse
import sys
from typing import Any, NamedTuple

import numpy as np

import fastopt
from fastopt import problems

try:
    from matplotlib.colors import LinearSegmentedColormap, LogNorm
    from matplotlib.figure import Figure
except ImportError as error:
    sys.exit(f'surfaces: {error}, but matplotlib is needed. Run: pip install "fastopt[examples]"')

# From above: the first to arrive is often the fastest. None is above 1: then the last bit of the start would decide
# where Adam's walk over Rastrigin's surface ends.
RATES = [1.0] + [float(f"{digit}e{power}") for power in range(-1, -5, -1) for digit in (5, 2, 1)]
SHORT_RATES = [rate for rate in RATES if f"{rate:e}"[0] != "5"]
TOLERANCE, CAP, SHORT_CAP = 1e-4, 12_000, 4_000
CONTENDERS = {  # optimizer, further hyperparameters, colour
    "SGD": (fastopt.SGD, {}, "#cc79a7"),
    "Momentum": (fastopt.Momentum, {"momentum": 0.9}, "#0072b2"),
    "Nesterov": (fastopt.Nesterov, {"momentum": 0.9}, "#d55e00"),
    "Adam": (fastopt.Adam, {}, "#009e73"),
}
SURFACES = {  # problem, the window to be drawn, the decades of its levels, where they are labelled
    "Quadratic, condition 100": (problems.quadratic(condition=100), (0.2, 2.8, -2.4, 0.0), (-2, 2),
                                 [(0.32, -2.3), (2.7, -0.15), (1.72, -0.1), (1.18, -2.2), (1.2, -0.35)]),
    "Rosenbrock": (problems.rosenbrock(), (-2.0, 2.0, -0.8, 2.4), (-1, 3),
                   [(-1.85, 0.4), (1.9, 0.6), (-1.65, 1.7), (1.69, 1.85), (-1.12, 2.2), (1.1, 2.2), (0.5, 0.9)]),
    "Beale": (problems.beale(), (0.2, 4.2, -1.2, 1.3), (-2, 3),
              [(4.0, -1.1), (2.1, -0.88), (3.75, 0.96), (3.3, 0.75), (3.85, 0.68)]),
    "Rastrigin": (problems.rastrigin(), (-2.5, 8.4, -4.7, 5.3), (0, 2), [(-1.75, 1.0), (1.2, 1.0), (1.2, -1.0)]),
}
VALLEYS = list(SURFACES)[:3]


class Walk(NamedTuple):
    rate: float
    path: Any  # the points, the start among them
    ended: bool  # False: the cap came first
    value: float  # above the global minimum, at the last point

    @property
    def steps(self):
        return len(self.path) - 1

    @property
    def rank(self):
        """What walks are sorted by: at rest before restless, low before high, short before long.

        Values count to 1e-3: depths of hollows differ by more.
        """
        return not self.ended, round(self.value, 3), self.steps


def walk(problem, kind, rate, hyper, cap):
    """The walk of one optimizer, until the gradient is small, the point is lost, or `cap` steps are taken."""
    w, path, steepest = problem.initial(), [problem.start], 1.0
    opt, g = kind(w, lr=rate, **hyper), problem.grad(w)
    while len(path) <= cap and TOLERANCE < steepest < 1e6:
        # Nesterov asks for the gradient at its look-ahead point
        opt.step(problem.grad if kind is fastopt.Nesterov else g)
        g = problem.grad(w)
        path.append(w.copy())
        steepest = max(map(abs, g))
    return Walk(rate, np.array(path), bool(steepest <= TOLERANCE), problem.value(w) - problem.minimum[1])


def best_walk(problem, name, rates, cap):
    """The best of all rates. Nobody can be better who has not arrived at the minimum when another one has."""
    kind, hyper, _ = CONTENDERS[name]
    best = None
    for rate in rates:
        found = walk(problem, kind, rate, hyper, best.steps if best and best.ended and best.value < 1e-3 else cap)
        best = found if best is None or found.rank < best.rank else best
    return best


def count(found):
    return f"{found.steps:,}" if found.ended else f"more than {found.steps:,}"


def report(walks):
    print(f"{'surface':26}{'optimizer':10}{'lr':>7}{'steps':>18}{'ends at':>18}{'above minimum':>15}")
    for surface, found in walks.items():
        for name, w in found.items():
            end = f"({w.path[-1][0]:.3f}, {w.path[-1][1]:.3f})"
            print(f"{surface:26}{name:10}{w.rate:7g}{count(w):>18}{end:>18}{w.value:15.1e}")


def savings(walks, name):
    """SGD's steps over those of `name`, on the surfaces with one valley.

    A walk that was cut short counts as long as it was.
    """
    return [walks[surface]["SGD"].steps/walks[surface][name].steps for surface in VALLEYS]


def conclude(walks, rates):
    saved = [f"{name} " + ", ".join(f"{x:.1f}" for x in savings(walks, name)) for name in CONTENDERS if name != "SGD"]
    print(f"SGD's steps over the others' in the three valleys: {'; '.join(saved)}.")
    heights = ", ".join(f"{name} {w.value:.1f}" for name, w in walks["Rastrigin"].items())
    print(f"On Rastrigin's surface the lowest ends of {len(rates)} rates lie this high above the deepest hollow: "
          f"{heights}.")


def broken(walks):
    """What was promised and did not come out."""
    for surface in VALLEYS:
        for name in ("Momentum", "Nesterov", "Adam"):
            if not (walks[surface][name].ended and walks[surface][name].value < 1e-6):
                yield f"{name} does not reach the minimum of {surface}"
    for name in ("Momentum", "Nesterov"):
        if min(savings(walks, name)) < 2:
            yield f"{name} needs more than half of SGD's steps"
    for name, found in walks["Rastrigin"].items():
        if not (found.ended and found.value > 0.9):  # the lowest hollows beside the global one are 0.995 deep
            yield f"{name} does not end in a local minimum of Rastrigin's surface"


def draw_surface(ax, problem, window, decades, places):
    """Levels at 1, 2, 5 times powers of ten above the minimum, labelled at the powers; start and minimum are marked."""
    left, right, low, high = window
    x, y = np.linspace(left, right, 181), np.linspace(low, high, 181)
    z = np.array([[problem.value(np.array([a, b])) - problem.minimum[1] for a in x] for b in y])
    first, last = decades
    levels = [digit*10.0**power for power in range(first, last) for digit in (1, 2, 5)] + [10.0**last]
    below, above = levels[0]/2, levels[-1]*2
    pale = LinearSegmentedColormap.from_list("pale", ["#ffffff", "#e4e4e4", "#c6c6c6"])
    ax.contourf(x, y, np.clip(z, below, above), levels=[below, *levels, above], norm=LogNorm(below, above), cmap=pale)
    ax.contour(x, y, z, levels=levels, colors="0.6", linewidths=0.6)
    lines = ax.contour(x, y, z, levels=[10.0**k for k in range(first, last + 1)], colors="0.6", linewidths=0.6)
    # all: a choice of levels fails with matplotlib 3.10
    ax.clabel(lines, fontsize=9, colors="0.25", fmt="%g", manual=places)
    ax.plot(*problem.start, "s", color="black", ms=8, zorder=4)
    ax.plot(*problem.minimum[0], "*", color="black", mec="white", ms=17, zorder=4)
    ax.set(xlim=(left, right), ylim=(low, high))


def draw(path, walks):
    figure = Figure(figsize=(12.6, 9.2), layout="constrained")
    saved = savings(walks, "Momentum")
    least = "" if all(walks[surface]["SGD"].ended for surface in VALLEYS) else "at least "
    figure.suptitle(f"In a valley, momentum needs {least}{min(saved):.0f} to {max(saved):.0f} times fewer steps than "
                    "SGD, each with its best learning rate;\n"
                    "on Rastrigin's surface all four stop in a hollow that is not the deepest",
                    fontsize=14, fontweight="bold", x=0.01, ha="left")
    figure.supxlabel("square: start, star: minimum; contours: height above the minimum; dots: the first 60 steps",
                     fontsize=10)
    for ax, (surface, found) in zip(figure.subplots(2, 2).flat, walks.items(), strict=True):
        draw_surface(ax, *SURFACES[surface])
        for name, w in reversed(found.items()):
            ends = "" if w.value < 1e-3 else f",\nends {w.value:.1f} high"
            ax.plot(*w.path.T, color=CONTENDERS[name][2], lw=1.4,
                    label=f"{name}\nlr {w.rate:g}\n{count(w)} steps{ends}")
            ax.plot(*w.path[:60].T, "o", color=CONTENDERS[name][2], ms=2.8)
        ax.set_title(surface, fontsize=12, loc="left")
        handles, labels = ax.get_legend_handles_labels()
        ax.legend(handles[::-1], labels[::-1], loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, fontsize=10,
                  labelspacing=1.1)
    figure.savefig(path, dpi=110)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--plot", default="surfaces.png", metavar="FILE",
                        help="where to draw the walks (default: %(default)s)")
    parser.add_argument("--short", action="store_true",
                        help=f"{len(SHORT_RATES)} rates, not {len(RATES)}, and at most {SHORT_CAP:,} steps")
    options = parser.parse_args()
    rates, cap = (SHORT_RATES, SHORT_CAP) if options.short else (RATES, CAP)
    with np.errstate(over="ignore", invalid="ignore"):  # rates that are too high lead to infinity
        walks = {surface: {name: best_walk(problem, name, rates, cap) for name in CONTENDERS}
                 for surface, (problem, *_) in SURFACES.items()}
    report(walks)
    conclude(walks, rates)
    draw(options.plot, walks)
    print(f"picture: {options.plot}")
    if wrong := list(broken(walks)):
        sys.exit(f"surfaces: {'; '.join(wrong)}. This should not happen: please report it.")


if __name__ == "__main__":
    main()
