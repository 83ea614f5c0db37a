"""What fewer bits do to the time of a step: Adam on one long vector, each configuration of training.py in turn with float32.

``python benchmarks/fewer_bytes.py [--n 1e8] [--threads 2] [--seconds 4]`` prints a table: what a step must move, how many times faster than
float32 that allows out of cache, how many times faster it is (median of quartets in which both take turns, and its 99 % interval), and the
nanoseconds of both per element.
"""
import argparse
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # as a program: the modules beside this one are a package

import fastopt
from benchmarks.training import CONFIGURATIONS, REFERENCE
from fastopt.bench import interleave
from fastopt.bench.cpu import vectors

TURN = 2e-3  # seconds of steps in a turn, at least one


@cache
def step(configuration: str, n: int, threads: int) -> tuple[Callable[[], None], float]:
    """A step on n elements, and the bytes that it moves for each."""
    of = CONFIGURATIONS[configuration]
    p, g = vectors(n, of.params)
    opt = fastopt.Adam(p, threads=threads, **of.options)
    moved = (g.nbytes + 2*(p.nbytes + sum(a.nbytes for a in opt.state.values())))/n
    return lambda: opt.step(g), moved


def turns(configuration: str, n: int, threads: int, seconds: float) -> interleave.Pairs:
    """The seconds of float32's step and of a configuration's, quartet by quartet."""
    pair = step(REFERENCE, n, threads)[0], step(configuration, n, threads)[0]
    return interleave.quartets(pair, seconds, calls=[interleave.batch(run, TURN) for run in pair])


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="fewer_bytes", description=str(__doc__).splitlines()[0])
    parser.add_argument("--n", type=float, default=1e8, help="elements (default: %(default)g)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=4.0, help="for each configuration")
    given = parser.parse_args(words)
    n = int(given.n)
    if n < 1 or given.threads < 1:
        parser.error(f"--n is {given.n:g}, --threads {given.threads}, but at least 1 is needed.")
    heads = [f"Adam, {n:.0e} elements, {given.threads} threads", "bytes moved", "they allow", "times faster", "99 % interval",
             "ns: float32, it"]
    print(f"| {' | '.join(heads)} |", "|" + "---|"*len(heads), sep="\n")
    for name in list(CONFIGURATIONS)[1:]:
        pairs, moved = turns(name, n, given.threads, given.seconds), step(name, n, given.threads)[1]
        (one, other, ratio), (low, high) = interleave.medians(pairs), interleave.interval([a/b for a, b in pairs])
        allowed = step(REFERENCE, n, given.threads)[1]/moved
        cells = [name, f"{moved:.2f}", f"{allowed:.2f}", f"{ratio:.2f}", f"{low:.2f} to {high:.2f}", f"{one/n*1e9:.3f}, {other/n*1e9:.3f}"]
        print(f"| {' | '.join(cells)} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
