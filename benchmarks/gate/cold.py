"""The first step of each kernel, two versions in turn: ``python -m benchmarks.gate.cold BASE HEAD STEPS SEED``.

It compiles all that the duet needs, and says how many seconds of this thread's clock each version took for each kernel.
Two such processes share the work, one on each core: whatever slows a core slows both versions.
"""
import json
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from time import thread_time
from types import ModuleType

from numba import njit

from ..steps import Step, arrays
from . import duet
from .figures import halves, in_parallel
from .versions import worker


def kernels(steps: Sequence[Step]) -> list[Step]:
    """One small step for each kernel of these."""
    return list(dict.fromkeys(Step(s.rule, 8, 1, s.format, "clip_norm" if s.way == "clip_norm" else "step")
                              for s in steps))


def compiled(packages: Sequence[ModuleType], step: Step, chance: random.Random) -> tuple[float, float]:
    """Seconds of the first step of both versions."""
    took = [0.0, 0.0]
    for k in chance.sample((0, 1), 2):
        with duet.cache_of(packages[k]):
            start = thread_time()
            step.of(packages[k], *arrays(step.shapes, step.format))
            took[k] = thread_time() - start
    return took[0], took[1]


def pairs(folders: Sequence[Path], steps: Sequence[Step], cache: Path, seed: int = 0) -> list[tuple[float, float]]:
    """Seconds of both versions for each kernel of these steps; `cache` should be empty."""
    def process(half: Sequence[Step]) -> list[tuple[float, float]]:
        return worker("gate.cold", *map(str, folders), json.dumps(half), f"{seed} {half[0]}", cache=cache)
    return [(base, head) for half in in_parallel(process, halves(kernels(steps))) for base, head in half]


def main(base: str, head: str, steps: str, seed: str) -> None:
    """One process; its first kernel, with what every first step needs beside it, counts as one of many."""
    chance = random.Random(seed)
    packages = duet.loaded((base, head), chance)
    njit(lambda x: x + x)(1.0)  # loads what Numba needs
    print(json.dumps([compiled(packages, step, chance) for step in map(Step._make, json.loads(steps))
                      if duet.known(packages, step)]))


if __name__ == "__main__":
    main(*sys.argv[1:])
