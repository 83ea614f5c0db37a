"""What a modifier costs, and a step of each rule: in turn with AdamW's step, on float32 arrays.

``python -m benchmarks.studies.modifiers [--n 1e7] [--threads 2] [--seconds 4]`` prints a table: the bytes that a step
must move per element, the median time, and the median ratio to AdamW's step in turn with it, with its 99 % interval.
"""
import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import fastopt

from ..gate import harness
from ..steps import filled

MODIFIERS: dict[str, dict[str, Any]] = {"cautious": {"cautious": True}, "cautious_decay": {"cautious_decay": True},
                                        "update_clip": {"update_clip": 1.0}, "grokfast": {"grokfast": True},
                                        "cautious, scaled": {"cautious": "scaled"}, "update_rms": {"update_rms": 1.0},
                                        "adaptive_clip": {"adaptive_clip": 0.01},
                                        "trust_ratio (LAMB)": {"trust_ratio": "update"}, "mars": {"mars": 0.025},
                                        "schedule_free": {"schedule_free": True}}
TURN = 2e-3  # seconds of steps in a turn, at least one


def stepping(n: int, threads: int, kind: Callable[..., Any], **hyper: Any) -> tuple[Callable[[], None], int]:
    """A step, and the bytes that it must move for each element."""
    p, g = filled((n,), "f32", 1.0, 0), filled((n,), "f32", 0.01, 1)
    opt = kind(p, threads=threads, **hyper)
    return partial(opt.step, g), 4*(3 + 2*len(opt.state))


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="modifiers", description=str(__doc__).splitlines()[0])
    parser.add_argument("--n", type=float, default=1e7, help="elements (default: %(default)g)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=4.0, help="for each row")
    given = parser.parse_args(words)
    n = int(given.n)
    if n < 1 or given.threads < 1:
        parser.error(f"--n is {n} and --threads {given.threads}, but at least 1 is needed.")
    rows = {f"AdamW, {name}": (fastopt.AdamW, hyper) for name, hyper in MODIFIERS.items()}
    rows |= {cls.__name__: (cls, cls.rule.steady) for cls in fastopt.optimizers.ALL.values()}
    base, _ = stepping(n, given.threads, fastopt.AdamW)
    timed = partial(harness.seconds, clock=harness.clock_of(given.threads))
    print(f"| step of {n:,} elements | bytes each | median, us | beside AdamW | 99 % interval |")
    print("|" + "---|"*5)
    for name, (kind, hyper) in rows.items():
        step, moved = stepping(n, given.threads, kind, **hyper)
        pair = step, base
        pairs = harness.quartets(pair, given.seconds, timed, [harness.batch(run, TURN) for run in pair])
        (own, _, ratio), (low, high) = harness.medians(pairs), harness.interval([a/b for a, b in pairs])
        print(f"| {name} | {moved} | {own*1e6:.0f} | {ratio:.2f} | {low:.2f} to {high:.2f} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
