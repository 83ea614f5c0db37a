"""Two versions of the package in one process, stepping in turn on the same parameters and gradients.

``python -m benchmarks.gate.duet FOLDER FOLDER ...`` is one such process. Only the ratio of the two times counts: both
steps share the machine's mood. What differs between processes (where memory and code happen to lie) is averaged over
several of them by the caller. `CEILING` may stand in the place of the first folder: then a loop that moves the bytes of
the second's step takes turns with that step.
"""
import gc
import json
import os
import random
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from time import perf_counter
from types import ModuleType
from typing import NamedTuple

from ..steps import STORAGE, Step, arrays, shuffled
from . import inside
from .harness import batch, clock_of, quartets, seconds
from .versions import load, worker

ROUNDS = 2           # pairs of optimizers per process: where a state's pages lie moves a step in cache by some percent
ALIASES = ("fastopt_base", "fastopt_head")
CEILING = "ceiling"
AWAKE = 3e-4         # seconds of steps after which a version's threads are awake, and the other's sleep
TIMEOUT = 300        # seconds of a process, beyond those it is to measure
MOST = 4             # times as many calls as the slower version needs: a thousandfold of them would take minutes


class Pair(NamedTuple):
    """What one process says of a step: median seconds of both versions, and the median ratio head/base; on several
    threads the least seconds of one call, too: those when no neighbour had one of the cores."""

    base: float
    head: float
    ratio: float
    least: Sequence[float] = ()


@contextmanager
def cache_of(package: ModuleType) -> Iterator[None]:
    """Let a version compile into the part of the cache that is its own."""
    whole = os.environ["FASTOPT_CACHE"]
    os.environ["FASTOPT_CACHE"] = str(Path(whole)/package.__name__)
    try:
        yield
    finally:
        os.environ["FASTOPT_CACHE"] = whole


def _awake(run: Callable[[], object], calls: int) -> float:
    end = perf_counter() + AWAKE
    while perf_counter() < end:
        run()
    return seconds(run, calls)


def compared(packages: Sequence[ModuleType | None], step: Step, duration: float, chance: random.Random) -> Pair:
    """Time a step of both versions (None: the ceiling), in `ROUNDS` pairs of optimizers on the same arrays."""
    shared, found, single = arrays(step.shapes, step.format), [], []
    timed = partial(seconds, clock=clock_of(step.threads))
    for _ in range(ROUNDS):
        runs: list = [None, None]
        for k in chance.sample((0, 1), 2):  # who allocates first
            with cache_of(packages[k] or packages[1]):
                runs[k] = step.of(packages[k], *shared) if packages[k] else step.ceiling(packages[1], *shared)
        few, many = sorted(map(batch, runs))
        calls = [min(many, MOST*few)]*2  # alike: one call with cold caches, of 1 or of 10, made 1.9 of a ratio of 1
        found += quartets(runs, duration/ROUNDS, timed, calls, chance)
        single += quartets(runs, 3*duration/ROUNDS, _awake, (1, 1), chance) if step.threads > 1 else []
    base, head = (statistics.median(side) for side in zip(*found, strict=True))
    least = [min(side) for side in zip(*single, strict=True)]
    return Pair(base, head, statistics.median(b/a for a, b in found), least)


def process(folders: Sequence[Path | str], steps: Sequence[Step], duration: float, seed: int,
            cache: Path) -> dict[Step, Pair]:
    """The figures of one fresh process that loads both folders' packages."""
    words = [*map(str, folders), json.dumps(shuffled(steps, seed)), str(duration), str(seed)]
    found = worker("gate.duet", *words, cache=cache, timeout=TIMEOUT + 10*duration*len(steps), PYTHONHASHSEED=str(seed))
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


def loaded(folders: Sequence[str], chance: random.Random) -> list[ModuleType | None]:
    """Both versions; whose code is loaded first is drawn by chance."""
    packages: list[ModuleType | None] = [None, None]
    for k in chance.sample((0, 1), 2):
        packages[k] = None if folders[k] == CEILING else load(folders[k], ALIASES[k])
    return packages


def known(packages: Sequence[ModuleType | None], step: Step) -> bool:
    """Whether all versions have the rule and the format of a step."""
    return all(step.rule in inside.optimizers(package) and inside.stores(package, STORAGE[step.format][1])
               for package in packages if package)


def main(base: str, head: str, steps: str, seconds: str, seed: str) -> None:
    """One process; a step that one of the versions lacks is left out."""
    chance = random.Random(int(seed))
    packages = loaded((base, head), chance)
    gc.collect()
    gc.freeze()  # Numba's 500,000 objects: the collection before each measurement took 45 ms
    print(json.dumps([(step, compared(packages, step, float(seconds), chance))
                      for step in map(Step._make, json.loads(steps)) if known(packages, step)]))


if __name__ == "__main__":
    main(*sys.argv[1:])
