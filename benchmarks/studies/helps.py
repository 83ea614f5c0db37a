"""Which modifiers and rules change the loss: two networks, every method tuned alike, in equal steps and in equal time.

    digits  64-128-10: scikit-learn's handwritten digits
    names   468-256-39: the next character in the names of Unicode's characters (both: `training`)

``python -m benchmarks.studies.helps [--seeds 5] [--trials 5] [--jobs 2] [--keep FILE]`` prints a table for each.

A fifth of the rows is put aside to test with. On the others each method is tuned by cross-validation, with as many
trials as any other: of the learning rate (one and a half decades), of the decay (decoupled, and as strong in all for
the same draw), of momentum or b1, and of the strength of a modifier. The draws are a Latin square, the same for all. A
seed is that of draws, folds, first weights and batches: a repetition of it all, so that an interval holds the luck of
tuning, too. It is for these rows, though, which are the same for all seeds. "AdamW, again" is AdamW with other draws: a
difference as large as its own is luck.

Equal time: the processor's time of a training step (gradient and update, one thread) is measured beside AdamW's, in
turn. A method takes as many steps as fit, with the hyperparameters that it had. That interval is for the time as it was
measured: where the time's own interval contains 1, there is nothing to say but what equal steps say.
"""
import argparse
import math
import sys
import time
from collections.abc import Mapping, Sequence
from functools import cache, partial
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

import fastopt
from fastopt import init, networks, schedules

from ..gate import harness
from . import seeds, training

TEST, FOLDS, BATCH, WARMUP = 5, 2, 64, 0.05  # one row of so many is for the test
JUDGED = 2_000       # rows of a fold that judge a trial: all 14,000 would take as long as the training
DECAYS = 1e-5, 3e-3  # of the weights, in a step at the highest learning rate
DECADES, BASE, AGAIN = 1.5, "AdamW", "AdamW, again"
CONSTANT, AVERAGE = "AdamW, constant rate", "AdamW, constant rate, average"
TURN = 5e-3          # seconds of training steps in a turn


class Method(NamedTuple):
    """A rule, the middle of the learning rates drawn, what else is drawn, what is given, and if the rate falls to 0.

    The middle is the best of a coarse grid, on the training part, with another seed than any of the study's.
    """

    rule: str
    middle: float
    drawn: Mapping[str, tuple[Any, ...]] = MappingProxyType({"b1": (0.8, 0.9, 0.95)})
    given: Mapping[str, Any] = MappingProxyType({})
    falls: bool = True


def adamw(middle: float, falls: bool = True, **strengths: tuple[Any, ...]) -> Method:
    """With a modifier whose strength is drawn, too."""
    return Method("adamw", middle, {"b1": (0.8, 0.9, 0.95), **strengths}, falls=falls)


MOMENTUM = {"momentum": (0.8, 0.9, 0.95)}
METHODS = {  # Adam is AdamW but for the decay, and Rprop is not for batches
    BASE: adamw(0.025), AGAIN: adamw(0.025),
    "AdamW, cautious": Method("adamw", 0.03, given={"cautious": True}),
    "AdamW, cautious_decay": Method("adamw", 0.025, given={"cautious_decay": True}),
    "AdamW, update_clip": adamw(0.025, update_clip=(0.25, 0.5, 1.0)),
    "AdamW, grokfast": adamw(0.015, grokfast=((0.9, 0.5), (0.98, 0.5), (0.98, 2.0))),
    "AdamW, cautious scaled": Method("adamw", 0.018, given={"cautious": "scaled"}),
    "AdamW, update_rms": adamw(0.02, update_rms=(0.25, 0.5, 1.0)),
    "AdamW, adaptive_clip": adamw(0.02, adaptive_clip=(0.01, 0.03, 0.1)),
    "AdamW, mars": adamw(0.03, mars=(0.01, 0.025, 0.05)),
    "AdamW, trust_ratio (LAMB)": Method("adamw", 0.03, given={"trust_ratio": "update"}),
    "AdamW, constant rate, schedule_free": Method("adamw", 0.03, {"schedule_free": (0.8, 0.9, 0.95)}, falls=False),
    "AdamW, average": adamw(0.025, average=(0.9, 0.97, 0.99)), CONSTANT: adamw(0.015, falls=False),
    AVERAGE: adamw(0.015, falls=False, average=(0.9, 0.97, 0.99)),
    "SGD": Method("sgd", 2.0, {}), "Momentum": Method("momentum", 0.4, MOMENTUM),
    "Nesterov": Method("nesterov", 0.4, MOMENTUM),
    "Momentum, trust_ratio (LARS)": Method("momentum", 0.01, MOMENTUM, {"trust_ratio": "gradient"}),
    "Signum": Method("signum", 0.003),
    "RMSProp": Method("rmsprop", 0.01, {"alpha": (0.9, 0.99, 0.999)}),
    "RMSPropMomentum": Method("rmsprop_momentum", 0.0015, MOMENTUM),
    "RMSPropCentered": Method("rmsprop_centered", 0.01, {"alpha": (0.9, 0.99, 0.999)}),
    "AdaGrad": Method("adagrad", 0.2, {}), "AdaDelta": Method("adadelta", 10.0, {"alpha": (0.9, 0.95, 0.99)}),
    "AdaMax": Method("adamax", 0.07), "AdaBelief": Method("adabelief", 0.025), "Yogi": Method("yogi", 0.05),
    "LaProp": Method("laprop", 0.02), "ADOPT": Method("adopt", 0.01), "AMSGrad": Method("amsgrad", 0.025),
    "NAdam": Method("nadam", 0.025), "RAdam": Method("radam", 0.06),
    "AdEMAMix": Method("ademamix", 0.006, {"b3": (0.99, 0.995, 0.999)}), "Lion": Method("lion", 0.003),
    "Adan": Method("adan", 0.04, {"b1": (0.9, 0.95, 0.98)})}


class Trial(NamedTuple):
    """The highest learning rate, the decay in a step there, and hyperparameters of its own."""

    rate: float
    decay: float
    own: dict[str, Any]


def trials(method: str, count: int, seed: int) -> list[Trial]:
    """A Latin square: each of `count` equal parts of a range is drawn from once."""
    of, rng = METHODS[method], np.random.default_rng([seed, method == AGAIN])
    (rates, decays), parts = rng.permuted(np.tile(np.arange(count), (2, 1)), axis=1), [rng.permutation(count)]
    rate, decay = ((np.array([rates, decays]) + rng.random((2, count)))/count).tolist()
    parts += [rng.permutation(count) for _ in range(1, len(of.drawn))]
    own = [{name: values[part[k]*len(values)//count]
            for (name, values), part in zip(of.drawn.items(), parts, strict=False)} for k in range(count)]
    return [Trial(of.middle*10**(DECADES*(rate[k] - 0.5)), DECAYS[0]*(DECAYS[1]/DECAYS[0])**decay[k], own[k])
            for k in range(count)]


def stepping(task: str, method: str, trial: Trial, rows: np.ndarray, steps: int, seed: int) -> tuple[Any, Any]:
    """The optimizer of a new network, and what takes a training step: on the next batch of these rows."""
    of, (x, y), rng = METHODS[method], training.TASKS[task].data(), np.random.default_rng(seed)
    params = networks.initial((x.shape[1], training.TASKS[task].width, int(y.max()) + 1), rng, init.he_uniform)
    rate = schedules.cosine(trial.rate, steps=steps, warmup=round(WARMUP*steps)) if of.falls else trial.rate
    opt = fastopt.optimizers.ALL[of.rule](params, rate, weight_decay=trial.decay/trial.rate, decay="decoupled",
                                          threads=1, **trial.own, **of.given)
    left = np.empty(0, int)

    def step() -> None:
        nonlocal left
        left = left if len(left) >= BATCH else rng.permutation(rows)
        batch, left = left[:BATCH], left[BATCH:]
        opt.step(lambda p: networks.value_and_grad(p, x[batch], y[batch], "softmax")[1])
    return opt, step


def loss(task: str, method: str, trial: Trial, learned: np.ndarray, judged: np.ndarray, steps: int, seed: int) -> float:
    """The mean cross-entropy of the judged rows, after training with the learned ones; infinite where it diverged."""
    opt, step = stepping(task, method, trial, learned, steps, seed)
    x, y = training.TASKS[task].data()
    with np.errstate(all="ignore"):
        for _ in range(steps):
            step()
        params = opt.evaluation_point() if "schedule_free" in opt.state else opt.state.get("average", opt.params)
        found = networks.value(params, x[judged], y[judged], "softmax")
    return found if math.isfinite(found) else math.inf


@cache
def halves(task: str) -> tuple[np.ndarray, np.ndarray]:
    """The rows to train with and those to test with."""
    order = np.random.default_rng(0).permutation(len(training.TASKS[task].data()[1]))
    return order[len(order)//TEST:], order[:len(order)//TEST]


def tuned(task: str, method: str, count: int, steps: int, seed: int) -> tuple[float, Trial]:
    """The lowest loss in cross-validation on the training part, and the trial that had it."""
    parts = np.array_split(np.random.default_rng([seed, 2]).permutation(halves(task)[0]), FOLDS)
    def judged(trial: Trial) -> float:
        return math.fsum(loss(task, method, trial, np.concatenate(parts[:k] + parts[k + 1:]), part[:JUDGED],
                              steps, seed + k)
                         for k, part in enumerate(parts))/FOLDS
    return min((judged(trial), trial) for trial in trials(method, count, seed))


def repetition(task: str, method: str, count: int, steps: int, seed: int, ratio: float) -> dict[str, Any]:
    """The chosen trial, and the test losses after equal steps and in equal time: AdamW's step takes 1/ratio of it."""
    validated, trial = tuned(task, method, count, steps, seed)
    learned, judged = halves(task)
    lasts = steps, round(steps/ratio)
    found = {last: loss(task, method, trial, learned, judged, last, seed) for last in lasts}
    return {"trial": trial, "validated": validated, "losses": [found[last] for last in lasts]}


def cost(task: str, method: str, seconds: float) -> list[float]:
    """The median time of a training step over AdamW's, in turn, and its 99 % interval."""
    if method == BASE:
        return [1.0]*3
    pair = [stepping(task, name, trials(name, 1, 0)[0], halves(task)[0], 10**9, 0)[1] for name in (method, BASE)]
    timed = partial(harness.seconds, clock=time.thread_time)
    with np.errstate(all="ignore"):
        calls = [harness.batch(step, TURN) for step in pair]
        pairs = harness.quartets(pair, seconds, timed, calls, least=8)
    return [round(x, 3) for x in (harness.medians(pairs)[2], *harness.interval([a/b for a, b in pairs]))]


def ratio(found: list[dict[str, Any]], base: list[dict[str, Any]], which: int, confidence: float = seeds.CONFIDENCE,
          ) -> tuple[float, float, float]:
    """The geometric mean of the loss over the base's of the same seed, and its interval: in equal steps, or time."""
    logs = [math.log(one["losses"][which]/other["losses"][0]) for one, other in zip(found, base, strict=True)]
    mean, low, high = np.exp(seeds.interval(logs, confidence))
    return float(mean), float(low), float(high)


def apart(interval: tuple[float, float, float]) -> bool:
    return not interval[1] <= 1 <= interval[2]


def table(results: dict[str, list[dict[str, Any]]], costs: dict[str, list[float]]) -> list[str]:
    """A row for each method, and what the intervals bear out."""
    base, lines = results[BASE], []
    heads = ("method", "learning rates chosen", "test loss", "over AdamW's in equal steps (95 %)",
             "time of a training step over AdamW's (99 %)", "over AdamW's in equal time (95 %)")
    several = 1 - (1 - seeds.CONFIDENCE)/max(1, len(results) - 1)  # of all intervals of a column together (Bonferroni)
    clear: dict[bool, list[str]] = {True: [], False: []}
    for name, found in results.items():
        rates, cells = sorted(one["trial"][0] for one in found), [""]*2
        for which in (0, 1) if name != BASE else ():
            of = ratio(found, base, which)
            mark = "**" if which == 0 and apart(of) else ""
            cells[which] = f"{mark}{of[0]:.3f}{mark} ({of[1]:.3f} to {of[2]:.3f})"
        if name != BASE and apart(ratio(found, base, 0, several)):
            clear[ratio(found, base, 0)[0] < 1].append(name)
        lines.append(f"| {name} | {rates[0]:.2g} to {rates[-1]:.2g} | "
                     f"{math.exp(np.mean([math.log(one['losses'][0]) for one in found])):.4f} | {cells[0]} | "
                     f"{'{:.2f} ({:.2f} to {:.2f})'.format(*costs[name]) if name != BASE else ''} | {cells[1]} |")
    count, of = sum(apart(ratio(found, base, 0)) for name, found in results.items() if name != BASE), len(results) - 1
    if {CONSTANT, AVERAGE} <= set(results):
        pair = "{:.3f} ({:.3f} to {:.3f})".format(*ratio(results[AVERAGE], results[CONSTANT], 0))
        lines += ["", f"At a constant rate, the loss with `average` over that without: {pair}."]
    less, more = (", ".join(clear[lower]) or "none" for lower in (True, False))
    return [f"| {' | '.join(heads)} |", "|" + "---|"*len(heads), *lines, "",
            f"In equal steps {count} of {of} intervals exclude 1 (bold); were there no difference, "
            f"{(1 - seeds.CONFIDENCE)*of:.1f} would. Intervals wide enough for all together (each of "
            f"{several:.2%}) exclude 1 for: lower loss: {less}; higher loss: {more}."]


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="helps", description=str(__doc__).splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5, help="repetitions (default: %(default)s)")
    parser.add_argument("--trials", type=int, default=5, help="of each method and seed (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=200, help="of each training (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=1.0, help="in which a step is timed (default: %(default)s)")
    parser.add_argument("--tasks", nargs="+", choices=training.TASKS, default=list(training.TASKS))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS), metavar="NAME",
                        help="beside AdamW (default: all)")
    given = seeds.parsed(parser, words, seeds=2, trials=1, steps=1)
    names = list(dict.fromkeys([BASE, *given.methods]))
    pairs = [(task, name) for task in given.tasks for name in names]
    costs = seeds.found(cost, [(*pair, given.seconds) for pair in pairs], 1, given.keep)
    cases = [(*pair, given.trials, given.steps, seed, costs[(*pair, given.seconds)][0])
             for seed in range(given.seeds) for pair in pairs]
    results = seeds.found(repetition, cases, given.jobs, given.keep)
    for task in given.tasks:
        print("", f"{task}: {given.seeds} seeds, {given.trials} trials, {given.steps} steps of {BATCH} rows", "",
              *table({name: [results[case] for case in cases if case[:2] == (task, name)] for name in names},
                     {name: costs[task, name, given.seconds] for name in names}), sep="\n", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
