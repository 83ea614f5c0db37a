"""What fewer bits do to the time of a step: Adam on one long vector, each configuration of training.py beside float32.

``python -m benchmarks.studies.fewer_bytes [--n 1e8] [--threads 2] [--seconds 4]`` prints a table: what a step must
move, how many times faster than float32 that allows out of cache, how many times faster it is (the median of quartets
in which both take turns, and its 99 % interval), and the nanoseconds of both per element.
"""
import argparse
import sys
from collections.abc import Callable, Sequence
from functools import cache, partial

import numpy as np

import fastopt

from ..gate import harness
from ..steps import filled
from .training import CONFIGURATIONS, REFERENCE

TURN = 2e-3  # seconds of steps in a turn, at least one


@cache
def arrays(format: str, n: int) -> list[np.ndarray]:
    """A parameter and a gradient, for all configurations: where arrays lie in memory changes the time of a step."""
    return [filled((n,), format, scale, seed).copy() for seed, scale in enumerate((1.0, 0.01))]


@cache
def step(configuration: str, n: int, threads: int) -> tuple[Callable[[], None], float]:
    """A step on n elements, and the bytes that it moves for each."""
    of = CONFIGURATIONS[configuration]
    p, g = arrays(of.params, n)
    opt = fastopt.Adam(p, threads=threads, **of.options)
    moved = (g.nbytes + 2*(p.nbytes + sum(a.nbytes for a in opt.state.values())))/n
    return lambda: opt.step(g), moved


def turns(configuration: str, n: int, threads: int, seconds: float) -> harness.Pairs:
    """The seconds of float32's step and of a configuration's, quartet by quartet."""
    pair = step(REFERENCE, n, threads)[0], step(configuration, n, threads)[0]
    timed = partial(harness.seconds, clock=harness.clock_of(threads))
    return harness.quartets(pair, seconds, timed, [harness.batch(run, TURN) for run in pair])


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="fewer_bytes", description=str(__doc__).splitlines()[0])
    parser.add_argument("--n", type=float, default=1e8, help="elements (default: %(default)g)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=4.0, help="for each configuration")
    given = parser.parse_args(words)
    n = int(given.n)
    if n < 1 or given.threads < 1:
        parser.error(f"--n is {given.n:g}, --threads {given.threads}, but at least 1 is needed.")
    heads = [f"Adam, {n:.0e} elements, {given.threads} threads", "bytes moved", "they allow", "times faster",
             "99 % interval", "ns: float32, it"]
    print(f"| {' | '.join(heads)} |", "|" + "---|"*len(heads), sep="\n")
    for name in list(CONFIGURATIONS)[1:]:
        pairs, moved = turns(name, n, given.threads, given.seconds), step(name, n, given.threads)[1]
        (one, other, ratio), (low, high) = harness.medians(pairs), harness.interval([a/b for a, b in pairs])
        allowed = step(REFERENCE, n, given.threads)[1]/moved
        cells = [name, f"{moved:.2f}", f"{allowed:.2f}", f"{ratio:.2f}", f"{low:.2f} to {high:.2f}",
                 f"{one/n*1e9:.3f}, {other/n*1e9:.3f}"]
        print(f"| {' | '.join(cells)} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
