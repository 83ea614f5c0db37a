"""Two versions of the package in one process, stepping in turn on the same parameters and gradients: ``python -m benchmarks.duet``.

In the place of the first may stand `CEILING`: then the loop that moves the bytes of the second's step takes turns with it. The ratio of
their times is all that counts. Both share the machine's mood, and what differs between processes (where memory and code happen to
lie) is averaged over several of them by the caller. A step on one thread is timed by that thread's own clock, which stands still while a
busy neighbour has its core.
"""
import argparse
import gc
import json
import os
import random
import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from time import perf_counter, thread_time
from types import ModuleType
from typing import NamedTuple

from .compare import batch, quartets, seconds
from .steps import Step, arrays, shuffled
from .versions import load, worker

ROUNDS = 2           # pairs of optimizers per process: where a state's pages lie moves a step in cache by some percent
ALIASES = ("fastopt_base", "fastopt_head")
CEILING = "ceiling"
TIMEOUT = 600        # seconds of a process, beyond those it is to measure


class Pair(NamedTuple):
    """What one process says of a step: median seconds of both versions, and the median ratio head/base."""

    base: float
    head: float
    ratio: float


@contextmanager
def cache_of(package: ModuleType) -> Iterator[None]:
    """Let a version compile into the part of the cache that is its own."""
    whole = os.environ["FASTOPT_CACHE"]
    os.environ["FASTOPT_CACHE"] = str(Path(whole)/package.__name__)
    try:
        yield
    finally:
        os.environ["FASTOPT_CACHE"] = whole


def compared(packages: Sequence[ModuleType | None], step: Step, duration: float, chance: random.Random) -> Pair:
    """Time a step of both versions (None: the ceiling), in `ROUNDS` pairs of optimizers on the same parameters and gradients."""
    shared, found = arrays(step.shapes, step.format), []
    timed = partial(seconds, clock=thread_time if step.threads == 1 else perf_counter)
    for _ in range(ROUNDS):
        runs: list = [None, None]
        for k in chance.sample((0, 1), 2):  # who allocates first
            with cache_of(packages[k] or packages[1]):
                runs[k] = step.of(packages[k], *shared) if packages[k] else step.ceiling(packages[1], *shared)
        calls = [max(map(batch, runs))]*2  # alike: one call that finds cold caches, of 1 or of 10, made 1.9 of a ratio of 1
        found += quartets(runs, duration/ROUNDS, timed, calls, chance)
    base, head = (statistics.median(side) for side in zip(*found, strict=True))
    return Pair(base, head, statistics.median(b/a for a, b in found))


def process(folders: Sequence[Path | str], steps: Sequence[Step], duration: float, seed: int, cache: Path) -> dict[Step, Pair]:
    """The figures of one fresh process that loads both folders' packages."""
    words = [*map(str, folders), "--steps", json.dumps(shuffled(steps, seed)), "--seconds", str(duration), "--seed", str(seed)]
    found = worker("duet", *words, cache=cache, timeout=TIMEOUT + 10*duration*len(steps), PYTHONHASHSEED=str(seed))
    return {Step(*step): Pair(*pair) for step, pair in found}


def duet(folders: Sequence[Path | str], steps: Sequence[Step], processes: int, duration: float, cache: Path,
         seed: int = 0) -> dict[Step, list[Pair]]:
    """The figures of several processes, one after the other."""
    found: dict[Step, list[Pair]] = {step: [] for step in steps}
    for k in range(processes):
        for step, pair in process(folders, steps, duration, seed + k, cache).items():
            found[step].append(pair)
    return found


def prepare(folders: Sequence[Path | str], steps: Sequence[Step], cache: Path) -> None:
    """Compile what the steps need into the cache, so that no process compiles while it measures."""
    few = [step._replace(tensors=8 if isinstance(step.tensors, int) else "148 x 8") for step in steps]
    process(folders, list(dict.fromkeys(few)), 0.0, 0, cache)


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="duet")
    parser.add_argument("folders", nargs=2)
    parser.add_argument("--steps", type=json.loads)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--seed", type=int)
    given = parser.parse_args(words)
    chance, packages = random.Random(given.seed), [None, None]
    for k in chance.sample((0, 1), 2):  # whose code is loaded first
        packages[k] = None if given.folders[k] == CEILING else load(given.folders[k], ALIASES[k])
    gc.collect()
    gc.freeze()  # Numba's 500,000 objects: the collection before each measurement took 45 ms
    print(json.dumps([(step, compared(packages, Step(*step), given.seconds, chance)) for step in given.steps]))


if __name__ == "__main__":
    main()
