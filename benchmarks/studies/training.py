"""What storage in fewer bits does to training: the final loss of two networks, over float32's of the same seed.

    digits  64-128-10: scikit-learn's 1,797 handwritten digits, cross-entropy and l2
    names   468-256-39: the next character in the names of Unicode's characters, from the 12 before it, cross-entropy

``python -m benchmarks.studies.training [--seeds 5] [--short]`` prints a table. The names are those of Unicode 3.2,
which every Python keeps for the names of Internet hosts (unicodedata.ucd_3_2_0), so all have the same text.

A seed is that of first weights (bfloat16 ones are rounded from them), batches and stochastic rounding: configurations
differ in nothing else. The loss is that of all rows at the last weights, as a user would run them: bfloat16 where that
is what the parameters are. Rates fall to 0, so that it is not the loss of a moment. The gradient is computed in
float32, at these weights too, and given to the optimizer in the format of the parameters. The ratio of one seed is
partly luck, because trainings that differ a little part: judge the mean. How the digits are trained was chosen, of
eight ways, for the smallest spread of float32's loss between seeds: the luck is least there.
"""
import argparse
import sys
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple
from unicodedata import ucd_3_2_0

import numpy as np

import fastopt
from fastopt import init, networks, schedules, storage

CONTEXT = 12
EVERY = 8        # one name of so many is learned: the loss of all 354,744 characters would take as long as the training
ALPHABET = "\n -0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"  # the first stands before and behind each name
ROWS = 4_096     # whose loss is computed at a time
SHORT = 30       # steps
REFERENCE = "float32"
Rows = tuple[np.ndarray, np.ndarray]


class Configuration(NamedTuple):
    """How parameters and gradients are stored, and what the optimizer is told."""

    params: str
    options: dict[str, Any]


CONFIGURATIONS = {
    REFERENCE: Configuration("f32", {}), "bf16 state": Configuration("f32", {"state": {"m": "bf16", "v": "bf16s"}}),
    "8-bit state": Configuration("f32", {"state": "q8"}),
    "bf16 + remainder": Configuration("bf16", {"state": {"m": "bf16", "v": "bf16s"}, "rounding": "remainder"}),
    "all bf16": Configuration("bf16", {"state": {"m": "bf16s", "v": "bf16s"}, "rounding": "stochastic"}),
    "bf16 + 8-bit state": Configuration("bf16", {"state": "q8", "rounding": "stochastic"}),
    # what not to do: v does not fall, and small updates of the parameters are lost
    "bf16 state, nearest": Configuration("f32", {"state": "bf16"}),
    "all bf16, nearest": Configuration("bf16", {"state": "bf16", "rounding": "nearest"})}


@cache
def digits() -> Rows:
    """64 shades from 0 to 1, and the digit."""
    from sklearn.datasets import load_digits
    x, y = load_digits(return_X_y=True)
    return (x/16).astype(np.float32), y


@cache
def names() -> Rows:
    """The last 12 characters, each as 38 zeros and a one, and the number of the next."""
    found = (ucd_3_2_0.name(chr(code), "") for code in range(0x110000))
    kept = [name for name in found if name and "IDEOGRAPH-" not in name
            and not name.startswith("HANGUL SYLLABLE")]  # those are counted
    text = "".join("\n"*CONTEXT + name + "\n" for name in kept[::EVERY])
    windows = np.lib.stride_tricks.sliding_window_view(np.array([ALPHABET.index(c) for c in text]), CONTEXT + 1)
    windows = windows[windows[:, -2:].any(axis=1)]  # no line end is asked for but the one behind a name
    return np.eye(len(ALPHABET), dtype=np.uint8)[windows[:, :-1]].reshape(len(windows), -1), windows[:, -1]


class Task(NamedTuple):
    """Rows to learn, the width of the hidden layer (relu), and how it is trained."""

    data: Callable[[], Rows]
    width: int
    steps: int
    batch: int
    l2: float

    def loss(self, params: networks.Parameters) -> float:
        """The mean over all rows, and the penalty."""
        x, y = self.data()
        parts = [slice(k, k + ROWS) for k in range(0, len(y), ROWS)]
        mean = sum(networks.value(params, x[part], y[part], "softmax")*len(y[part]) for part in parts)/len(y)
        return mean + self.l2/2*sum(float(np.vdot(w, w)) for name, w in params.items() if name[0] == "W")


TASKS = {"digits": Task(digits, 128, 900, 256, 1e-3), "names": Task(names, 256, 1_200, 256, 0.0)}
RATE, WARMUP = 3e-3, 0.05  # Adam's learning rate at its highest, and the share of steps until then


def visible(params: networks.Parameters) -> networks.Parameters:
    """The weights that a network computes with."""
    return {name: storage.decode(p, "bf16") if p.dtype == np.uint16 else p for name, p in params.items()}


def stored(params: networks.Parameters, format: str) -> networks.Parameters:
    return {name: storage.encode(p, "bf16") for name, p in params.items()} if format == "bf16" else params


class Trained(NamedTuple):
    """The final loss; parameters; bytes of state and parameters, and bytes that a step moves, for each of them."""

    loss: float
    parameters: int
    kept: float
    moved: float


@cache
def train(task: str, configuration: str, seed: int, steps: int | None = None) -> Trained:
    of, (format, options) = TASKS[task], CONFIGURATIONS[configuration]
    (x, y), last, rng = of.data(), steps or of.steps, np.random.default_rng(seed)
    params = stored(networks.initial((x.shape[1], of.width, int(y.max()) + 1), rng, init.he_uniform), format)
    opt = fastopt.Adam(params, schedules.cosine(RATE, steps=last, warmup=round(WARMUP*last)), threads=1, seed=seed,
                       **options)
    left = np.empty(0, int)
    for _ in range(last):
        left = left if len(left) >= of.batch else rng.permutation(len(y))
        rows, left = left[:of.batch], left[of.batch:]
        grads = networks.value_and_grad(visible(params), x[rows], y[rows], "softmax", l2=of.l2)[1]
        opt.step(stored(grads, format))
    n, own = sum(p.size for p in params.values()), sum(p.nbytes for p in params.values())
    state = sum(a.nbytes for tree in opt.state.values() for a in tree.values())
    return Trained(of.loss(visible(params)), n, (own + state)/n,
                   (own + 2*(own + state))/n)  # the gradient is as large as the parameters


def ratios(task: str, configuration: str, seeds: int, steps: int | None = None) -> tuple[list[Trained], np.ndarray]:
    """What each seed gives, and its loss over float32's."""
    found = [train(task, configuration, seed, steps) for seed in range(seeds)]
    return found, np.array([one.loss/train(task, REFERENCE, seed, steps).loss for seed, one in enumerate(found)])


def line(configuration: str, seeds: int, steps: int | None) -> str:
    """A row of the table; bytes are those of the larger network: an array of 8-bit blocks ends with a full one."""
    cells = []
    for task in TASKS:
        found, over = ratios(task, configuration, seeds, steps)
        cells += [f"{np.mean([one.loss for one in found]):.4f}", f"{over.mean():.4f}",
                  f"{max(over, key=lambda r: abs(r - 1)):.4f}"]
    return " | ".join([f"| {configuration}", f"{found[0].kept:.2f}", f"{found[0].moved:.2f}", *cells]) + " |"


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="training", description=str(__doc__).splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5, help="trainings of each configuration (default: %(default)s)")
    parser.add_argument("--short", action="store_true", help=f"{SHORT} steps, to see that it works: the losses say "
                                                             f"nothing")
    given = parser.parse_args(words)
    if given.seeds < 1:
        parser.error(f"--seeds is {given.seeds}, but at least 1 is needed.")
    heads = ["configuration", "bytes kept per parameter", "bytes moved per step",
             *(f"{task}: {what}" for task in TASKS for what in ("loss", "over float32's", "farthest of them"))]
    print(f"| {' | '.join(heads)} |", "|" + "---|"*len(heads), sep="\n")
    for configuration in CONFIGURATIONS:
        print(line(configuration, given.seeds, SHORT if given.short else None), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
