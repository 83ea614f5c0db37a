"""Badly conditioned problems and what helps: scaling, regularisation, initial weights, adaptive methods, schedules.

    python examples/ill_conditioned.py --plot ill_conditioned.png

The condition number is the largest over the smallest eigenvalue of the Hessian. A learning rate that the steepest
direction bears is too small for the flattest one, so that gradient descent needs steps in proportion to it. Every
contender runs with each learning rate of a grid, and its best run counts (in 4 with one that falls to 0: only the end
counts). Momentum and b1 are 0.9. The program prints six tables, of several seeds the median or mean, and draws them. It
exits with 1 where the figures are not what this text says.

1. Scaling and adaptive methods. A regression has features of scales from 1 to 100; then they are divided by their
   standard deviations. A quadratic has the eigenvectors as axes; then it is rotated. Adam and RMSProp give every
   parameter a step of its own size, which undoes the scales of single parameters. Gradient descent and momentum do not
   see a rotation; adaptive methods do.
2. L2 adds to every eigenvalue, so that features that are nearly equal no longer leave a flat direction. It also shrinks
   the coefficients.
3. L1 by a proximal step, w <- sign(w)*max(|w| - lr*strength, 0), gives exact zeros. strength*sign(w) in the gradient
   never does.
4. Weight decay under Adam. Coupled decay adds wd*w to the gradient and ends at the minimum of loss + wd/2*|w|^2
   (ridge),
   where features of large gradients hardly feel it. Decoupled decay shrinks every weight by lr*wd, whatever the
   gradients are, and whatever the loss is multiplied by.
5. Initial weights of a network. Tanh units in saturation learn nothing, and equal ones stay equal. With Glorot's, He's
   and LeCun's weights it learns.
6. Schedules under noise. A constant rate ends in noise that grows with the rate. One that falls starts fast and ends
   quiet.
"""
import argparse
import math
import sys
from dataclasses import replace
from functools import partial
from itertools import product

import numpy as np

import fastopt
from fastopt import networks, problems, proximal, schedules

try:
    from matplotlib.figure import Figure
    from threadpoolctl import threadpool_limits
except ImportError as error:
    sys.exit(f'ill_conditioned: {error}, but matplotlib and scikit-learn are needed. Run: pip install '
             '"fastopt[examples]"')

BLUE, RED, GREEN, PINK, ORANGE, GREY = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "0.45"
FAST = {"gradient descent": (fastopt.SGD, GREY), "Momentum": (fastopt.Momentum, BLUE),
        "RMSProp": (fastopt.RMSProp, ORANGE), "Adam": (fastopt.Adam, GREEN)}
BOTH = ("Momentum", "Adam")
MOST, GAP = 3000, 1e-5  # steps at most, and how much of the excess over the minimum at the start is to be left
L2 = (0.0, 1e-4, 1e-3, 1e-2, 3e-2, 1e-1, 1.0)
STARTS = {"saturated": GREY, "equal": RED, "glorot": BLUE, "he": GREEN, "lecun": ORANGE}
SCHEDULES = {  # of a learning rate and the number of steps
    "constant": lambda lr, steps: lr,
    "warm-up, constant": lambda lr, steps: schedules.warmup(steps//10, lr),
    "cosine": lambda lr, steps: schedules.cosine(lr, steps=steps),
    "warm-up, cosine": lambda lr, steps: schedules.cosine(lr, steps=steps, warmup=steps//10),
}


def run(opt, value_and_grad, steps, batches=None, **options):
    """The value that each step saw; the last is infinite if they diverged."""
    try:
        with np.errstate(all="ignore"):
            return fastopt.fit(opt, value_and_grad, batches, steps, **options).value
    except FloatingPointError as error:
        return np.append(error.result.value, math.inf)


def fastest(problem, kind, rates):
    """Steps until all but GAP of the first excess over the minimum is gone, with the best of the rates.

    A value of ten times the first ends a run. RMSProp's first step of ten learning rates may else throw every
    coordinate so far away that the start is forgotten; after that, four steps of signs are enough.
    """
    first, least, found = problem.value(problem.start), problem.minimum[1], math.inf
    goal = least + GAP*(first - least)
    for lr in rates:
        # a slower run than the best is of no interest
        opt, most = kind(problem.initial(), lr=lr, threads=1), min(found, MOST)
        values = run(opt, problem.value_and_grad, most, callback=lambda now: now.value <= goal or now.value > 10*first)
        found = len(values) - 1 if values[-1] <= goal else found
    return found


def scaled(problem):
    """The regression with every feature divided by its standard deviation s; its parameters are u = w*s."""
    s = problem.data[0].std(axis=0)
    return replace(problem, value=lambda u: problem.value(u/s), grad=lambda u: problem.grad(u/s)/s,
                   hess=lambda u: problem.hess(u/s)/np.outer(s, s), minimum=(problem.minimum[0]*s, problem.minimum[1]))


def spread_out(problem, seed):
    """The quadratic, started at random distances from the minimum along its axes (for equal ones, signs are enough)."""
    axes = np.linalg.eigh(problem.hess(problem.start))[1]
    return replace(problem, start=problem.minimum[0] + axes @ np.random.default_rng(seed).standard_normal(len(axes)))


def speeds(seeds, fine):
    """{problem: (condition number, {optimizer: steps})}, medians over the seeds."""
    regression = partial(problems.linear_regression, collinearity=0, scales=100)
    quadratic = partial(problems.quadratic, 1e4, n=20)
    cases = {"features, scales 1 to 100": lambda seed: regression(seed=seed),
             "the same, scaled": lambda seed: scaled(regression(seed=seed)),
             "quadratic along the axes": lambda seed: spread_out(quadratic(seed=seed, rotated=False), seed),
             "the same, rotated": lambda seed: spread_out(quadratic(seed=seed), seed)}
    found = {}
    for name, make in cases.items():
        made = [make(seed) for seed in seeds]
        steps = {k: np.median([fastest(p, kind, np.logspace(1, -5, 6*fine + 1)) for p in made])
                 for k, (kind, _) in FAST.items()}
        found[name] = np.median([np.linalg.cond(p.hess(p.start)) for p in made]), steps
    return found


def collinear(seeds, fine):
    """Medians over the seeds for every L2: condition number, steps of gradient descent, distance from the truth."""
    rows = []
    for seed in seeds:
        regression = partial(problems.linear_regression, 50, collinearity=0.97, seed=seed)
        truth = regression(noise=0.0).minimum[0]  # without noise least squares finds it
        rows.append([(np.linalg.cond(p.hess(p.start)), fastest(p, fastopt.SGD, np.logspace(0, -1, 2*fine + 1)),
                      np.linalg.norm(p.minimum[0] - truth)) for p in (regression(noise=1.0, l2=l2) for l2 in L2)])
    return np.median(rows, axis=0).T


def regression_of(target, noise, samples, **options):
    """(X, y, value_and_grad(w, rows)) of a linear regression whose true coefficients are the target."""
    regression = partial(problems.linear_regression, samples, len(target), collinearity=0.0, **options)
    x, y = regression(noise=noise).data
    y = y + x @ (target - regression(noise=0.0).minimum[0])

    def value_and_grad(w, rows):
        rows = slice(None) if rows is None else rows
        value, grads = networks.value_and_grad({"W1": w[:, None], "b1": np.zeros(1)}, x[rows], y[rows], "squared")
        return value, grads["W1"][:, 0]
    return x, y, value_and_grad


def sparse(seed, fine, steps=500, n=50, samples=80, noise=0.5):
    """(truth, {method: coefficients}): 5 of 50 are not 0. Of the rates of L1 that with the lowest objective."""
    truth = np.where(np.arange(n) % 10 == 5, np.where(np.arange(n) % 20 == 5, 2.0, -1.5), 0.0)
    x, y, loss = regression_of(truth, noise, samples, seed=seed)
    # about the largest gradient that noise alone gives a coefficient at 0
    strength = noise*math.sqrt(2*math.log(n)/samples)

    def fitted(lr, tilt):
        """(objective, coefficients), with tilt*sign(w) in the gradient or, if that is 0, with proximal steps."""
        opt = fastopt.SGD(np.zeros(n), lr=schedules.cosine(lr, steps=steps), threads=1)

        def shrink(opt):
            proximal.soft_threshold(opt.params, opt.groups[0].at(opt.t)["lr"]*strength)
        run(opt, lambda w, rows: (0.0, loss(w, rows)[1] + tilt*np.sign(w)), steps, after_step=None if tilt else shrink)
        return loss(opt.params, None)[0] + strength*np.abs(opt.params).sum(), opt.params

    rates = np.logspace(0, -2, 2*fine + 1)
    best = [min((fitted(lr, tilt) for lr in rates), key=lambda f: f[0] if f[0] < math.inf else math.inf)[1]
            for tilt in (strength, 0.0)]
    return truth, {"least squares": np.linalg.lstsq(x, y)[0], "L1 in the gradient": best[0],
                   "L1 by proximal step": best[1]}


def decays(seed, steps=3000, n=8, batch=20):
    """(scales of the features, {(kind of decay, loss factor): shares}, shares of ridge).

    A share is how much of a least-squares coefficient is left.
    """
    # both halve a coefficient of scale 10 or so
    scales, strengths = np.geomspace(1, 100, n), {"coupled": 100.0, "decoupled": 9.0}
    x, y, loss = regression_of(1/scales, 5.0, 2000, scales=100, seed=seed)
    alone = np.linalg.lstsq(x, y)[0]
    ridge = np.linalg.solve(x.T @ x/len(y) + strengths["coupled"]*np.eye(n), x.T @ y/len(y))
    found = {}
    for name, factor in ((name, factor) for name in strengths for factor in (1, 100)):
        # with 1e-3 and 1e-2 shares differ by 0.04 at most
        rng, lr = np.random.default_rng(seed), schedules.cosine(3e-3, steps=steps)
        opt = fastopt.Adam(np.zeros(n), lr=lr, weight_decay=strengths[name], decay=name, threads=1)
        batches = (rng.integers(0, len(y), batch) for _ in range(steps))
        run(opt, lambda w, rows, factor=factor: tuple(factor*part for part in loss(w, rows)), steps, batches)
        found[name, factor] = opt.params/alone
    return scales, found, ridge/alone


def beginnings(seed, steps):
    """{(start, optimizer): (loss at the end, learning rate, loss curve)} of the rate that ends lowest."""
    found = {}
    grids = ("Momentum", np.logspace(0, -2, 5)), ("Adam", np.logspace(-1, -3, 5))
    for start, (name, rates) in product(STARTS, grids):
        problem = problems.network(start, seed=seed)
        runs = [(run(FAST[name][0](problem.initial(), lr=lr, threads=1), problem.value_and_grad, steps), lr)
                for lr in rates]
        found[start, name] = min(((curve[-1], lr, curve) for curve, lr in runs), key=lambda r: r[0])
    return found


def annealed(seeds, steps, fine):
    """{(schedule, optimizer): (mean excess of the last 5 % of steps, learning rate, mean curve)}.

    The problem is a quadratic with noisy gradients.
    """
    found = {}
    for name, (kind, high) in ((s, k) for s in SCHEDULES for k in (("Momentum", -1), ("Adam", 0))):
        runs = []
        for lr in np.logspace(high, high - 3, 3*fine + 1):
            made = [problems.quadratic(30, n=50, seed=seed, noise=1.0) for seed in seeds]
            curves = [run(FAST[kind][0](p.initial(), lr=SCHEDULES[name](lr, steps), threads=1), p.value_and_grad, steps)
                      for p in made]
            if np.isfinite(sum(curve[-1] for curve in curves)):  # none has diverged
                runs.append((np.mean(curves, axis=0)[-steps//20:].mean(), lr, np.mean(curves, axis=0)))
        found[name, kind] = min(runs, key=lambda r: r[0])
    return found


def table(head, columns, rows):
    """Print rows of cells under their columns, as wide as they need."""
    lines = [(head, *columns), *((name, *cells) for name, cells in rows), [""]*(1 + len(columns))]
    widths = [max(len(str(line[k])) for line in lines) + 2 for k in range(len(lines[0]))]
    for name, *cells in lines:
        print((f"{name:{widths[0]}}"
               + "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths[1:], strict=True))).rstrip())


def count(steps):
    return f"{steps:,.0f}" if steps < math.inf else f"> {MOST:,}"


def report(speed, ridge, l1, decay, start, noisy):
    """The figures of all six; learning rates in brackets."""
    table(f"steps until {GAP:.0e} of the excess is left", ["condition", *FAST],
          [(name, [f"{condition:,.1f}", *map(count, steps.values())]) for name, (condition, steps) in speed.items()])
    (condition, steps, off), (truth, fits), (scales, shares, theory) = ridge, l1, decay
    table("collinear features, L2", L2, [("condition number", [f"{c:.1f}" for c in condition]),
          ("steps of gradient descent", map(count, steps)),
          ("distance of the minimum from the truth", [f"{d:.3f}" for d in off])])
    table(f"L1, {np.sum(truth == 0)} of {len(truth)} coefficients are 0",
          ["exact zeros", "of them right", "distance from the truth"],
          [(name, [np.sum(w == 0), np.sum((w == 0) & (truth == 0)), f"{np.linalg.norm(w - truth):.3f}"])
           for name, w in fits.items()])
    named = {**{f"{kind}, loss x {factor}": share for (kind, factor), share in shares.items()}, "ridge": theory}
    table("weight decay under Adam, scale of the feature", [f"{scale:.3g}" for scale in scales],
          [(f"share left, {name}", [f"{each:.2f}" for each in share]) for name, share in named.items()])
    for head, names, runs in (("loss of the network at the end", STARTS, start),
                              ("excess at the end, under noise", SCHEDULES, noisy)):
        table(head, names, [(k, [f"{runs[name, k][0]:.4f} ({runs[name, k][1]:.2g})" for name in names]) for k in BOTH])
    gain = [noisy["constant", k][0]/noisy["cosine", k][0] for k in BOTH]
    change = [noisy["warm-up, cosine", k][0]/noisy["cosine", k][0] - 1 for k in BOTH]
    print(f"L2 = {L2[off.argmin()]:g} brings the minimum from {off[0]:.2f} to {off.min():.2f} from the truth. A cosine "
          f"ends {gain[0]:.1f} times (Momentum) and {gain[1]:.1f} times (Adam)\n"
          f"lower than the best constant rate; a warm-up before it changes that end by "
          f"{change[0]:+.0%} and {change[1]:+.0%}.")


def promises(speed, ridge, l1, decay, start, noisy):
    """{what is said above: whether it was measured}."""
    (raw, mended, along, turned), (condition, steps, off) = (each for _, each in speed.values()), ridge
    (truth, fits), (_, shares, theory) = l1, decay
    zeros, far = fits["L1 by proximal step"] == 0, [np.linalg.norm(w - truth) for w in fits.values()]
    coupled, coupled100, free, free100 = shares.values()
    return {
        "scaling cuts the steps to a fifth": all(mended[k] < min(raw[k], MOST)/5
                                                 for k in ("gradient descent", "Momentum")),
        "Adam needs no scaling": raw["Adam"] < 1.5*mended["Adam"],
        "rotation costs adaptive methods steps": turned["Adam"] > 2*along["Adam"]
            and turned["RMSProp"] > 20*along["RMSProp"],
        "and costs Momentum none": abs(turned["Momentum"] - along["Momentum"]) <= 1,
        "L2 lowers the condition number and the steps": (condition[1:] < condition[:-1]).all()
            and steps[-1] < steps[2]/10,
        "some L2 is nearer to the truth than none and than much": 0 < off.argmin() < len(L2) - 1,
        "proximal steps find 80 % of the zeros, and only true ones": zeros.sum() > 0.8*np.sum(truth == 0)
            and (truth[zeros] == 0).all(),
        "L1 in the gradient finds none; both beat least squares": (fits["L1 in the gradient"] != 0).all()
            and max(far[1:]) < far[0],
        "coupled decay ends at ridge": np.abs(coupled - theory).max() < 0.1,
        "decoupled decay spares small gradients, and large ones less": free[0] > 2*coupled[0]
            and free[-1] < coupled[-1],
        "a factor of the loss changes coupled decay only": np.allclose(free100, free, rtol=1e-3)
            and coupled100[0] > 10*coupled[0],
        "saturated and equal units hardly learn": min(start[name, k][0] for name in ("saturated", "equal")
                                                      for k in BOTH) > 0.5,
        "the others do": max(start[name, k][0] for name in ("glorot", "he", "lecun") for k in BOTH) < 0.05,
        "a cosine ends lower than a constant": all(noisy["cosine", k][0] < noisy["constant", k][0] for k in BOTH),
    }


def draw(path, *found):
    figure = Figure(figsize=(13.5, 8.2), layout="constrained")
    figure.suptitle("Bad conditioning: what each remedy gains, all at their best rates", fontsize=14, fontweight="bold",
                    x=0.01, ha="left")
    panels = {"Scaling helps, and so does Adam, unless rotated": draw_speeds,
              "L2 on collinear features: there is a best": draw_ridge,
              "L1 by proximal step: exact zeros": draw_l1, "Decoupled decay ignores the loss's factor": draw_decays,
              "Saturated or equal units hardly learn": partial(draw_curves, STARTS.values(), "loss of the network",
                                                               0.9),
              "Under noise a falling rate ends lower": partial(draw_curves, (GREY, ORANGE, BLUE, PINK),
                                                               "excess over the minimum", 1.0)}
    for ax, (title, panel), figures in zip(figure.subplots(2, 3).flat, panels.items(), found, strict=True):
        ax.set_title(title, fontsize=11, loc="left")
        ax.grid(color="0.92")
        ax.spines[["top", "right"]].set_visible(False)
        panel(ax=ax, found=figures)
    figure.savefig(path, dpi=110)


def label(ax, x, y, text, colour, **where):
    ax.text(x, y, text, color=colour, fontsize=9.5, **{"ha": "left", "va": "center", **where})


def draw_speeds(ax, found):
    for row, (_, steps) in enumerate(found.values()):
        for k, (name, (_, colour)) in enumerate(FAST.items()):
            length, y = min(steps[name], MOST), row + 0.19*(k - 1.5)
            ax.barh(y, length, 0.17, color=colour, zorder=2)
            label(ax, 1.15*length, y, count(steps[name]) + (f"  {name}" if row == 0 else ""), colour)
    ax.set_yticks(range(len(found)), [f"{name},\ncondition {condition:,.0f}" for name, (condition, _) in found.items()],
                  fontsize=9)
    ax.set(xscale="log", xlim=(1, 2e7), ylim=(len(found) - 0.5, -0.5),
           xlabel=f"steps until {GAP:.0e} of the excess is left")
    ax.set_xticks([1, 10, 100, 1000], [1, 10, 100, "1,000"])
    ax.minorticks_off()


def draw_ridge(ax, found):
    (condition, steps, off), x = found, range(len(L2))
    for values, colour in ((condition, BLUE), (steps, GREY), (off, RED)):
        ax.plot(x, values/min(values[0], MOST), "o-", color=colour, lw=2)
    ax.set_xticks(x, [f"{l2:.0e}" if 0 < l2 < 1e-2 else f"{l2:g}" for l2 in L2])
    ax.set(yscale="log", xlabel="strength of L2", ylabel="over the value without L2", ylim=(None, 1.8))
    label(ax, 6.2, 1.35, f"distance from the truth ({off[0]:.1f} to {off.min():.1f} to {off[-1]:.1f})", RED, ha="right")
    label(ax, 0, 0.14, f"condition number\n({condition[0]:.0f} to {condition[-1]:.0f})", BLUE)
    label(ax, 0, 0.06, f"steps of gradient descent\n({count(steps[0])} to {count(steps[-1])})", GREY)


def draw_l1(ax, found):
    truth, fits = found
    for name, colour, size, y in (("least squares", ORANGE, 4, 1.4), ("L1 by proximal step", BLUE, 5, 1.1)):
        w = fits[name]
        ax.plot(w, "o", color=colour, ms=size)
        label(ax, 1, y, f"{name}: {np.sum(w == 0)} zeros, {np.linalg.norm(w - truth):.2f} off", colour)
    ax.plot(truth, "o", color="black", mfc="none", ms=9)
    label(ax, 1, 0.8, f"circles: the truth, {np.sum(truth == 0)} zeros", "black")
    ax.set(xlabel="coefficient", ylabel="value", ylim=(-1.9, 2.4))


def draw_decays(ax, found):
    scales, shares, theory = found
    for (name, factor), share in shares.items():
        ax.plot(scales, share, "o-" if factor == 1 else "s:", color=RED if name == "coupled" else BLUE, lw=2,
                ms=6 if factor == 1 else 3.5)
    ax.plot(scales, theory, color="black", lw=1)
    ax.set(xscale="log", xlabel="scale of the feature, and so of its gradients", ylabel="share that Adam leaves",
           ylim=(0, 1.3))
    label(ax, 1, 1.16, "coupled, loss x 100", RED)
    label(ax, 110, 0.34, "coupled, loss x 1\n(line: ridge)", RED, ha="right")
    label(ax, 110, 0.15, "decoupled, both losses", BLUE, ha="right")


def draw_curves(colours, ylabel, top, ax, found):
    curves = {name: each for (name, k), each in found.items() if k == "Adam"}
    for (name, (end, _, curve)), colour in zip(curves.items(), colours, strict=True):
        ax.plot(curve, color=colour, lw=1.6, label=f"{name}: ends at {end:.2g}")
    ax.set(yscale="log", xlabel="step of Adam", ylabel=ylabel)
    ax.legend(frameon=False, labelcolor="linecolor", handlelength=0, fontsize=9.5, loc=1, bbox_to_anchor=(1, top))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--plot", default="ill_conditioned.png", metavar="FILE",
                        help="where to draw (default: %(default)s)")
    parser.add_argument("--short", action="store_true", help="one seed instead of three, coarser grids, fewer steps")
    parser.add_argument("--seed", type=int, default=0,
                        help="of the problems, the first of three (default: %(default)s)")
    options = parser.parse_args()
    many, fine, steps = (1, 1, 300) if options.short else (3, 3, 500)
    seed, seeds = options.seed, range(options.seed, options.seed + many)
    with threadpool_limits(1):  # matrices this small gain nothing from BLAS threads
        found = (speeds(seeds, fine), collinear(seeds, fine), sparse(seed, fine), decays(seed), beginnings(seed, steps),
                 annealed(seeds, steps, fine))
    report(*found)
    draw(options.plot, *found)
    print(f"picture: {options.plot}")
    broken = [text for text, kept in promises(*found).items() if not kept]
    if broken:
        sys.exit(f"ill_conditioned: not measured: {'; '.join(broken)}.")


if __name__ == "__main__":
    main()
