"""What a step costs that hits some rows of a table: `fastopt.Rows` beside torch's SparseAdam, NumPy, and a whole step.

``python -m benchmarks.studies.rows [--n 1e6] [--width 64] [--rows 1000] [--threads 2] [--seconds 4]`` prints a table:
the least and the median time of Adam's step on a float32 table of n rows, in turn with that on `Rows`, and the median
ratio of both with its 99 % interval. Each step hits other rows, drawn by chance, so that few of them are in a cache.
"""
import argparse
import itertools
import sys
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

import fastopt

from ..gate import harness
from ..steps import filled

DRAWN = 64     # draws of rows, which steps take in turn
TURN = 2e-3    # seconds of steps in a turn, at least one
Draws = list[tuple[np.ndarray, np.ndarray]]


def draws(n: int, width: int, rows: int) -> Draws:
    """Different rows for each step, unsorted, and their gradients."""
    rng = np.random.default_rng(0)
    return [(rng.choice(n, rows, replace=False), filled((rows, width), "f32", 0.01, k)) for k in range(DRAWN)]


def by_fastopt(w: np.ndarray, of: Draws, threads: int) -> Callable[[], None]:
    opt, turns = fastopt.Adam(w, threads=threads), itertools.cycle(of)
    return lambda: opt.step(fastopt.Rows(*next(turns)))


def by_whole_step(w: np.ndarray, of: Draws, threads: int) -> Callable[[], None]:
    opt, g = fastopt.Adam(w, threads=threads), np.zeros_like(w)
    indices, values = of[0]
    g[indices] = values
    return lambda: opt.step(g)


def by_numpy(w: np.ndarray, of: Draws, threads: int) -> Callable[[], None]:
    """Rows are taken out, stepped in the order of the formula, and put back: no row may stand there twice."""
    m, v, turns, steps, lr, b1, b2, eps = np.zeros_like(w), np.zeros_like(w), itertools.cycle(of), itertools.count(1), \
        np.float32(1e-3), np.float32(0.9), np.float32(0.999), np.float32(1e-8)

    def run() -> None:
        (indices, g), t = next(turns), next(steps)
        new_m = b1*m[indices] + (1 - b1)*g
        new_v = b2*v[indices] + (1 - b2)*g*g
        m[indices], v[indices] = new_m, new_v
        c1, c2 = np.float32(1 - 0.9**t), np.float32(1 - 0.999**t)
        w[indices] -= lr*(new_m/c1)/(np.sqrt(new_v/c2) + eps)
    return run


def by_torch(w: np.ndarray, of: Draws, threads: int) -> Callable[[], None]:
    import torch
    torch.set_num_threads(threads)
    p = torch.nn.Parameter(torch.from_numpy(w))
    opt = torch.optim.SparseAdam([p], lr=1e-3)
    grads = itertools.cycle([torch.sparse_coo_tensor(torch.from_numpy(indices[None]), torch.from_numpy(g), w.shape,
                                                     check_invariants=False) for indices, g in of])

    def run() -> None:
        p.grad = next(grads)
        opt.step()
    return run


SYSTEMS = {"torch.optim.SparseAdam": by_torch, "NumPy, rows by index": by_numpy,
           "fastopt, the whole table": by_whole_step}


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="rows", description=str(__doc__).splitlines()[0])
    parser.add_argument("--n", type=float, default=1e6, help="rows of the table (default: %(default)g)")
    parser.add_argument("--width", type=int, default=64, help="numbers of a row (default: %(default)s)")
    parser.add_argument("--rows", type=int, default=1000, help="rows that a step hits (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=4.0, help="for each system")
    given = parser.parse_args(words)
    n = int(given.n)
    if not 1 <= given.rows <= n or given.width < 1 or given.threads < 1:
        parser.error(f"--rows is {given.rows}, --n {n}, --width {given.width}, --threads {given.threads}, but at least "
                     "1 is needed, and no more rows than the table has.")
    of = draws(n, given.width, given.rows)
    table = filled((n, given.width), "f32", 1.0, 0)
    rows = by_fastopt(table.copy(), of, given.threads)
    print(f"| Adam, {given.rows:,} of {n:,} rows of {given.width} | least, us | median, us | beside fastopt.Rows "
          "| 99 % interval |", "|" + "---|"*5, sep="\n")
    for name, make in SYSTEMS.items():
        pair = make(table, of, given.threads), rows
        timed = partial(harness.seconds, clock=harness.clock_of(given.threads))
        pairs = harness.quartets(pair, given.seconds, timed, [harness.batch(run, TURN) for run in pair])
        (other, own, ratio), (low, high) = harness.medians(pairs), harness.interval([a/b for a, b in pairs])
        for label, found, more in ((name, [a for a, _ in pairs], f"{ratio:.1f} | {low:.1f} to {high:.1f}"),
                                   ("fastopt.Rows, in turn with it", [b for _, b in pairs], "1 |")):
            print(f"| {label} | {min(found)*1e6:.0f} | {(other if label == name else own)*1e6:.0f} | {more} |",
                  flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
