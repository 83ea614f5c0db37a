"""How far Adam moves a parameter in its first 200 steps: bias correction, tiny gradients, warm-up, RAdam, AMSGrad.

    python examples/adam_first_steps.py --plot adam_first_steps.png

The effective step is |change of a parameter|/lr. It is measured for 10,000 parameters at each step. Every parameter
gets gradients of its own, drawn anew at each step: always 0.5, normal, or heavy-tailed. The program prints the median
and the 99 % quantile over the parameters and draws them. It exits with 1 where a measured figure is not the one that
the text below derives.

The bias. Adam's averages start from zero. For equal gradients, m <- b1*m + (1-b1)*g gives m = (1 - b1^t)*g, and
v = (1 - b2^t)*g^2. The factors are c1 = 1 - b1^t and c2 = 1 - b2^t. At small t they are close to zero, because b1^t and
b2^t are close to ONE: at t = 1 they are 0.1 and 0.001. Later b^t fades, the factors grow to one, and nothing is left to
correct. Without correction both averages are too small, and their ratio m/sqrt(v) is off by c1/sqrt(c2): 3.16 at t = 1,
6.57 at t = 12, and then it falls as slowly as b2^t does (2.35 at t = 200). The steps are too LONG, since v, in the
denominator, is the one that lags more. Dividing by c1 and c2 takes that away exactly.

The first step. Corrected, it is (m/c1)/(sqrt(v/c2) + eps) = g/(|g| + eps): the sign of the gradient, times lr, whether
|g| is 1e-5 or 1e5, signal or noise. As t grows, m averages the noise away. What is left of the step tells how much of
the gradient was signal.

eps. Where |g| nears eps = 1e-8, the step shrinks to |g|/(|g| + eps). The paper's shortcut (eps_mode="hat": Keras,
scikit-learn, and RAdam here) adds eps to the uncorrected root sqrt(v), which is small. There eps counts 1/sqrt(c2)
times: 31.6 times at t = 1, 2.35 times at t = 200.

The variance. The correction makes the mean of v/c2 right and does nothing about its spread. At t = 1, v/c2 is one
squared gradient, with a relative standard deviation of 1.41 for normal gradients; at t = 200 it is still 0.1. A step is
multiplied by 1/sqrt(v/c2), which for t = 1 and 2 has no finite variance at all. That is RAdam's argument (Liu et al.
2020, "On the variance of the adaptive learning rate and beyond"). At step t, v/c2 is like a mean of rho squares, rho =
2/(1-b2) - 1 - 2*t*b2^t/c2, which is nearly t at small t. For rho > 2 the variance of 1/sqrt(v/c2) is rho/(rho-2) -
rho/2*(Gamma((rho-1)/2)/Gamma(rho/2))^2, near rho/(2(rho-2)(rho-4)). RAdam multiplies the step by r, the root of what
that last term tends to over what it is now. While rho <= 5 (t <= 5) it moves by momentum alone, lr*m/c1, in proportion
to the gradient: gradients 100 times as large make these five steps 100 times as long.

Warm-up makes no estimate better either: it keeps the steps short while the estimate is bad. Ma and Yarats (2021, "On
the adequacy of untuned warmup for adaptive optimization") doubt that the variance is the point. The first steps of Adam
are its longest (1 lr each, where noise later leaves 0.17), and in their experiments a linear warm-up over 2/(1-b2) =
2000 steps did as well as RAdam.

AMSGrad divides by the largest v so far. In the first steps v grows from zero almost all the time, so that the largest
is the last one, and hardly anything changes. (No step can be shorter by more than 1 - b2^(199/2) = 9 %, since v falls
by 1 - b2 per step at most.) With maximum_of="corrected" (optax) the maximum is over v/c2, whose spread is largest at
the start. It remembers the worst early estimate, and the steps are shorter from then on.
"""
import argparse
import math
import sys

import numpy as np

import fastopt
from fastopt import rules, schedules

try:
    from matplotlib.figure import Figure
except ImportError as error:
    sys.exit(f'adam_first_steps: {error}, but matplotlib is needed. Run: pip install "fastopt[examples]"')

STEPS, WARMUP, LR, B1, B2, EPS = 200, 100, 1e-3, 0.9, 0.999, 1e-8
SHOWN = (1, 5, 6, 12, 50, 200)
SIZES = np.logspace(-11, -3, 33)
T = np.arange(1, STEPS + 1)
C1, C2 = (np.array([rules.unbias(b, int(t)) for t in T]) for b in (B1, B2))
BLUE, RED, GREEN, PINK, ORANGE, GREY = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "0.45"
RUNS = {  # optimizer, hyperparameters
    "Adam": (fastopt.Adam, {}),
    "no correction": (fastopt.Adam, {"bias_correction": False}),
    "warm-up": (fastopt.Adam, {"lr": schedules.warmup(WARMUP, LR)}),
    "RAdam": (fastopt.RAdam, {}),
    "AMSGrad": (fastopt.AMSGrad, {}),
    "AMSGrad corrected": (fastopt.AMSGrad, {"maximum_of": "corrected"}),
}
SHORTER = {"always 0.5": ("Adam", "no correction", "RAdam"), "normal": tuple(RUNS),
           "heavy tails": [k for k in RUNS if k != "warm-up"],
           "normal x 100": ("RAdam",)}  # which optimizers run on which gradients


def steps(name, gradients, **hyper):
    """|change|/lr of every parameter at every step, in the shape of the gradients (STEPS, ...), and v/c2 beside it."""
    kind, own = RUNS[name]
    p = np.zeros(gradients.shape[1:])
    opt, far, seconds = kind(p, **{"lr": LR, **own, **hyper}), np.empty(gradients.shape), np.empty(gradients.shape)
    for k, g in enumerate(gradients):
        before = p.copy()
        opt.step(g)
        far[k], seconds[k] = np.abs(p - before)/LR, opt.state["v"]/C2[k]
    return far, seconds


def measure(n, seed):
    """All that is drawn and printed: quantiles of effective steps, tiny gradients, spread of v, and the promises."""
    rng = np.random.default_rng(seed)
    noise, tails = rng.standard_normal((STEPS, n)), rng.standard_t(3, (STEPS, n))/math.sqrt(3)  # both of variance 1
    gradients = {"always 0.5": np.full((STEPS, n), 0.5), "normal": 0.1 + noise, "heavy tails": 0.1 + tails,
                 "normal x 100": 10 + 100*noise}
    far = {(kind, name): steps(name, gradients[kind])[0] for kind, names in SHORTER.items() for name in names}
    found = {key: np.quantile(each, (0.5, 0.99), axis=1) for key, each in far.items()}
    second = spread(noise, tails, far)
    return found, tiny(rng, n), second, {**promises(gradients, far), **promised_spread(second)}


def tiny(rng, n):
    """Median effective steps at t = 1 and at the end by the size of the gradients, for both places of eps."""
    gradients = SIZES[:, None]*rng.standard_normal((STEPS, 1, n//10))
    both = {mode: np.median(steps("Adam", gradients, eps_mode=mode)[0], axis=2) for mode in ("outside", "hat")}
    return {(mode, t): middle[t - 1] for mode, middle in both.items() for t in (1, STEPS)}


def spread(noise, tails, far):
    """v/c2 for gradients of mean 0 and variance 1: mean, 5 % and 95 % quantiles, standard deviation, and theory.

    "root" is the standard deviation of 1/sqrt(v/c2).
    r is measured: how much shorter RAdam's steps are than Adam's, once both adapt.
    """
    normal, heavy = (steps("Adam", g)[1] for g in (noise, tails))
    r = np.median(far["normal", "RAdam"]/far["normal", "Adam"], axis=1)
    return {"mean": normal.mean(axis=1), "range": np.quantile(normal, (0.05, 0.95), axis=1), "sd": normal.std(axis=1),
            "theory": np.sqrt(2*(1 - B2)/(1 + B2)*(2 - C2)/C2), "root": (normal**-0.5).std(axis=1),
            "root theory": root_theory(), "root heavy": (heavy**-0.5).std(axis=1), "r": np.where(T > 5, r, np.nan)}


def root_theory():
    """Standard deviation of 1/sqrt(mean of rho squares of normal numbers): infinite up to rho = 2."""
    rho = 2/(1 - B2) - 1 - 2*T*(1 - C2)/C2
    return np.array([math.sqrt(k/(k - 2) - k/2*math.exp(2*(math.lgamma((k - 1)/2) - math.lgamma(k/2))))
                     if k > 2 else math.inf for k in rho])


def promises(gradients, far):
    """{what the text says: whether it was measured}."""
    g, always = np.abs(gradients["normal"]), far["always 0.5", "no correction"]
    normal = {name: far["normal", name] for name in RUNS}
    adam, radam, times100 = normal["Adam"], normal["RAdam"], far["normal x 100", "RAdam"]
    shorter = 1 - far["heavy tails", "AMSGrad"]/far["heavy tails", "Adam"]
    return {
        "Adam's first step is lr*|g|/(|g| + eps)": np.allclose(adam[0], g[0]/(g[0] + EPS), rtol=1e-9),
        "without correction steps are c1/sqrt(c2) times as long": np.allclose(always.T, C1/np.sqrt(C2), rtol=1e-5),
        "the longest of them is the 12th": always[:, 0].argmax() == 11,
        "warm-up multiplies the step by t/100": np.allclose(normal["warm-up"].T, adam.T*np.minimum(T/WARMUP, 1),
                                                            rtol=1e-6),
        "RAdam's first step is lr*|g|": np.allclose(radam[0], g[0], rtol=1e-9),
        "RAdam's first five steps grow with the gradient": np.allclose(times100[:5], 100*radam[:5], rtol=1e-6),
        "RAdam's later steps do not": np.allclose(times100[5:], radam[5:], rtol=1e-2, atol=1e-6),
        "99 % of AMSGrad's steps are within 1 % of Adam's": np.quantile(shorter, 0.99) < 0.01,
        "none is shorter by 1 - b2^(199/2)": shorter.min() > -1e-9 and shorter.max() < 1 - B2**((STEPS - 1)/2),
        "its maximum over v/c2 shortens the last step":
            np.median(normal["AMSGrad corrected"][-1]) < 0.9*np.median(adam[-1]),
    }


def promised_spread(second):
    """Within 10 %: three standard errors at t = 1 with 4,000 parameters.

    The sample variance of 1/sqrt(v) needs a mean of 1/v^2, which there is from t = 5 on.
    """
    return {"v/c2 is right on average": np.allclose(second["mean"], 1, atol=0.1),
            "the spread of v/c2 is the theory's": np.allclose(second["sd"], second["theory"], rtol=0.1),
            "from t = 8 on that of 1/sqrt(v/c2) is, too": np.allclose(second["root"][7:], second["root theory"][7:],
                                                                      rtol=0.1)}


def report(found, small, second, n):
    print(f"effective step |change|/lr over {n:,} parameters: median, and 99 % quantile in brackets\n")
    print(f"{'gradients':13}{'optimizer':18}" + "".join(f"{f't = {t}':>17}" for t in SHOWN))
    for (kind, name), (median, high) in found.items():
        cells = (f"{median[t - 1]:.3g} ({high[t - 1]:.3g})" for t in SHOWN)
        print(f"{kind:13}{name:18}" + "".join(f"{cell:>17}" for cell in cells))
    sizes = np.logspace(-5, -10, 6)
    print(f"\n{'normal gradients of tiny deviation':36}" + "".join(f"{size:>9.0e}" for size in sizes))
    for (mode, t), median in small.items():
        cells = (median[np.abs(np.log(SIZES/size)).argmin()] for size in sizes)
        print(f"{f'eps_mode={mode!r}, t = {t}: median':36}" + "".join(f"{cell:>9.4f}" for cell in cells))
    print(f"\n{'normal gradients of variance 1':36}" + "".join(f"{f't = {t}':>9}" for t in SHOWN))
    rows = (("v: mean", second["mean"]*C2), ("v/c2: mean", second["mean"]), ("v/c2: standard deviation", second["sd"]),
            ("   in theory", second["theory"]), ("1/sqrt(v/c2): standard deviation", second["root"]),
            ("   in theory", second["root theory"]), ("RAdam's r", second["r"]),
            ("r/sqrt(v/c2): standard deviation", second["r"]*second["root"]))
    for name, values in rows:
        print(f"{name:36}" + "".join(f"{values[t - 1]:>9.3g}" for t in SHOWN).replace("nan", "  -"))


def conclusions(found):
    (adam, _), (bare, _), (radam, high) = (found["normal", name] for name in ("Adam", "no correction", "RAdam"))
    always = found["always 0.5", "no correction"][0]
    print(f"\nWithout correction the first step is {always[0]:.2f} lr, and for steady gradients step "
          f"{always.argmax() + 1} is the longest, {always.max():.2f} lr;\n"
          f"under noise the median is {bare[0]:.2f} at t = 1 and {bare[-1]:.2f} at t = {STEPS}. "
          f"Corrected, it falls from {adam[0]:.2f} to {adam[-1]:.2f}: the first steps are the longest.\n"
          f"RAdam's are {radam[0]:.2f} (1 % above {high[0]:.2f}; all grow with the gradient) to {radam[4]:.2f} at "
          f"t = 5, then "
          f"{radam[5]:.3f}, and {radam[-1]:.3f} at t = {STEPS}.")


def draw(path, found, small, second, n):
    """Six panels: the bias, the second moment, its root; remedies, tiny gradients, heavy tails."""
    figure = Figure(figsize=(13.5, 8), layout="constrained")
    figure.suptitle("Adam's first 200 steps: the correction removes a bias; warm-up and RAdam answer to the variance "
                    "that stays",
                    fontsize=14, fontweight="bold", x=0.01, ha="left")
    axes = figure.subplots(2, 3)
    for ax in axes.flat:
        ax.grid(color="0.92")
        ax.spines[["top", "right"]].set_visible(False)
        ax.set(xscale="log", xlabel="step t", xlim=(1, STEPS))
        ax.set_xticks([1, 2, 5, 10, 20, 50, 100, 200], [1, 2, 5, 10, 20, 50, 100, 200])
        ax.minorticks_off()
    draw_bias(axes[0, 0], found)
    draw_second(axes[0, 1], second)
    draw_root(axes[0, 2], second)
    draw_remedies(axes[1, 0], found)
    draw_tiny(axes[1, 1], small)
    draw_tails(axes[1, 2], found)
    for ax in axes[:, 0]:
        ax.set_ylabel("effective step |change|/lr")
    figure.savefig(path, dpi=110)


def label(ax, x, y, text, colour, **where):
    ax.text(x, y, text, color=colour, fontsize=9.5, **{"ha": "left", "va": "center", **where})


def draw_bias(ax, found):
    ax.set_title("Without correction: up to 6.6 times too long", fontsize=11, loc="left")
    for name, colour in (("no correction", RED), ("Adam", BLUE)):
        ax.plot(T, found["always 0.5", name][0], color=colour, lw=2)
        ax.plot(T, found["normal", name][0], color=colour, lw=2, ls="--")
    dots = [1, 2, 3, 5, 8, 12, 20, 32, 50, 80, 125, 200]
    ax.plot(dots, [(C1/np.sqrt(C2))[t - 1] for t in dots], "o", color="black", ms=3.5, zorder=3, clip_on=False)
    ax.set_ylim(0, 8.2)
    label(ax, 12, 6.95, "no correction (dots: c1/sqrt(c2))", RED, ha="center")
    label(ax, 1.1, 1.6, "3.16 at t = 1", RED)
    label(ax, 190, 1.25, "corrected: 1", BLUE, ha="right")
    label(ax, 1.1, 7.8, "solid: gradient always 0.5;  dashed: noise, median", GREY)


def draw_second(ax, second):
    ax.set_title("The correction mends v's mean, not its spread", fontsize=11, loc="left")
    for factor, colour, text, at in ((1, BLUE, "v/c2", (30, 2.4)), (C2, RED, "v, without correction", (14, 0.004))):
        ax.fill_between(T, *(second["range"]*factor), color=colour, alpha=0.2, lw=0)
        ax.plot(T, second["mean"]*factor, color=colour, lw=2)
        label(ax, *at, text, colour)
    ax.axhline(1, color="black", lw=1, ls=":")
    ax.set(yscale="log", ylabel="second moment / mean square of g")
    label(ax, 190, 1e-5, "line: mean;  band: 5 % to 95 %\ndotted: the truth", GREY, ha="right")


def draw_root(ax, second):
    ax.set_title("RAdam's argument: 1/sqrt(v/c2) varies", fontsize=11, loc="left")
    first = 2  # from t = 3 on there is a variance
    ax.plot(T[first:], second["root heavy"][first:], color=PINK, lw=2)
    ax.plot(T[first:], second["root"][first:], color=BLUE, lw=2)
    dots = np.array([3, 4, 6, 9, 14, 21, 32, 50, 80, 125, 200])
    ax.plot(dots, second["root theory"][dots - 1], "o", color="black", ms=3.5, zorder=3, clip_on=False)
    ax.plot(T[5:], (second["r"]*second["root"])[5:], color=GREEN, lw=2)
    ax.axvspan(1, 3, color="0.93", lw=0)
    ax.set(yscale="log", ylabel="standard deviation over parameters", ylim=(0.006, 3))
    label(ax, 1.73, 0.03, "no finite\nvariance", GREY, ha="center")
    label(ax, 20, 0.6, "heavy tails", PINK)
    label(ax, 14, 0.12, "normal;\ndots: theory", BLUE, va="top", ha="right")
    label(ax, 190, 0.022, "normal, times RAdam's r", GREEN, ha="right")


def draw_remedies(ax, found):
    ax.set_title("First steps under noise, median", fontsize=11, loc="left")
    shown = (("normal", "Adam", BLUE, "-"), ("normal", "warm-up", ORANGE, "-"), ("normal", "RAdam", GREEN, "-"),
             ("normal x 100", "RAdam", GREEN, ":"))
    for kind, name, colour, style in shown:
        ax.plot(T, found[kind, name][0], color=colour, ls=style, lw=2)
    ax.set(yscale="log", ylim=(0.0018, 200))
    label(ax, 10, 0.42, "Adam", BLUE)
    label(ax, 1.1, 0.021, "warm-up\nof 100", ORANGE, va="bottom")
    label(ax, 9, 0.0085, "RAdam: momentum\nto t = 5, then r*Adam", GREEN, va="top")
    label(ax, 5.6, 40, "RAdam, gradients x 100:\nmomentum grows with them", GREEN)


def draw_tiny(ax, small):
    ax.set_title("Tiny gradients: where eps begins to count", fontsize=11, loc="left")
    for (mode, t), median in small.items():
        ax.plot(SIZES, median, color=BLUE if mode == "outside" else RED, ls="-" if t == 1 else "--", lw=2)
    ax.plot([EPS, EPS], [0, 1], color="black", lw=1, ls=":")
    ax.set_xlim(SIZES[0], SIZES[-1])
    ax.set_xticks([1e-10, 1e-8, 1e-6, 1e-4], ["1e-10", "1e-8 = eps", "1e-6", "1e-4"])
    ax.set(xlabel="standard deviation of the gradients", ylim=(0, 1.12))
    label(ax, 7e-9, 0.5, "sqrt(v/c2) + eps", BLUE, ha="right")
    label(ax, 7e-7, 0.5, "sqrt(v) + eps (hat):\neps counts 31.6\ntimes at t = 1", RED, va="top")
    label(ax, 1.5e-11, 1.06, "solid: t = 1;  dashed: t = 200 (noise averaged)", GREY)


def draw_tails(ax, found):
    ax.set_title("AMSGrad changes nothing yet (heavy tails)", fontsize=11, loc="left")
    for name, colour, width in (("Adam", BLUE, 5), ("AMSGrad", ORANGE, 1.6), ("AMSGrad corrected", PINK, 2)):
        for values, style in zip(found["heavy tails", name], ("-", (0, (4, 2))), strict=True):
            ax.plot(T, values, color=colour, ls=style, lw=width, alpha=0.45 if name == "Adam" else 1)
    ax.set_ylim(0, 1.12)
    label(ax, 8, 1.0, "Adam (wide) = AMSGrad (thin)", BLUE)
    label(ax, 8, 0.92, "AMSGrad, maximum over v/c2", PINK)
    label(ax, 1.1, 0.06, "solid: median;  dashed: 99 % quantile", GREY)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--plot", default="adam_first_steps.png", metavar="FILE",
                        help="where to draw (default: %(default)s)")
    parser.add_argument("--short", action="store_true", help="4,000 parameters instead of 10,000")
    parser.add_argument("--seed", type=int, default=0, help="of the gradients (default: %(default)s)")
    options = parser.parse_args()
    n = 4_000 if options.short else 10_000
    found, small, second, promised = measure(n, options.seed)
    report(found, small, second, n)
    conclusions(found)
    draw(options.plot, found, small, second, n)
    print(f"picture: {options.plot}")
    broken = [text for text, kept in promised.items() if not kept]
    if broken:
        sys.exit(f"adam_first_steps: not measured: {'; '.join(broken)}.")


if __name__ == "__main__":
    main()
