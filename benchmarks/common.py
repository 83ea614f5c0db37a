"""What the benchmarks share: sizes, a case for every rule, fresh processes, and figures beside the first release and the ceiling."""
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import fastopt
from fastopt._cpu.pool import available_threads
from fastopt._kernels.cache import directory
from fastopt.bench.rivals import STEADY as CASES
from fastopt.optimizers import ALL

from . import compare, duet, facts, versions
from .compare import batch, seconds
from .steps import DTYPES, FORMATS, SHAPES, Case, Step, arrays, filled, optimizer

__all__ = ["ALL", "DTYPES", "FORMATS", "SHAPES", "Case", "Step", "batch", "filled", "seconds"]

if set(CASES) != set(ALL):
    raise ImportError(f"benchmarks: no case for {sorted(set(ALL) - set(CASES))}, no rule for {sorted(set(CASES) - set(ALL))}. "
                      "Edit fastopt/bench/rivals.py.")

RULES = list(ALL)
SCALE = os.environ.get("FASTOPT_BENCH", "full")
SIZES = {"quick": [1_000], "full": [1_000, 100_000, 1_000_000, 10_000_000],
         "xl": [1_000, 100_000, 1_000_000, 10_000_000, 100_000_000]}[SCALE]
LISTS = ["200 x 1,000"] if SCALE == "quick" else ["200 x 1,000", "ResNet-50", "GPT-2 small"]
SECONDS = 0.02 if SCALE == "quick" else 0.3  # that one comparison takes in one process
PROCESSES = 1 if SCALE == "quick" else 8     # samples, where each needs a process of its own: with six asv can never call a change
THREADS = sorted({1, available_threads()})
SOURCE = Path(fastopt.__file__).parents[1]   # of the fastopt that is measured, not that of the current directory


def make(rule: str, shapes: Sequence[Sequence[int]], threads: int | None = None, format: str = "f32") -> Case:
    params, grads = arrays(shapes, format)
    return Case(optimizer(fastopt, rule, params, threads, format), grads)


def warm(case: Case) -> Case:
    for _ in range(3):
        case.step()
    return case


@lru_cache(maxsize=1)
def vector(rule: str, n: int, threads: int, format: str = "f32") -> Case:
    return warm(make(rule, [(n,)], threads, format))


@lru_cache(maxsize=1)
def tensors(rule: str, name: str, threads: int) -> Case:
    return warm(make(rule, SHAPES[name], threads))


def abba(run: Callable[[], Any], other: Callable[[], Any], clock: compare.Clock = perf_counter) -> tuple[float, float, float]:
    """Median seconds of each, and the median ratio run/other."""
    return compare.medians(compare.quartets((run, other), SECONDS, partial(seconds, clock=clock)))


# Figures beside others, each from a few processes

class Beside(NamedTuple):
    """The samples of a step, one for each process: over the first release's, over the ceiling's, and its seconds."""

    golden: list[float]
    ceiling: list[float]
    seconds: list[float]


def beside(steps: Sequence[Step], ceiling: bool = True) -> dict[Step, Beside]:
    """Every step against the first release, where that has the rule, and against the ceiling: only two at a time take turns."""
    with tempfile.TemporaryDirectory() as place:
        cache, golden = directory()/"benchmarks", versions.golden(Path(place))
        known = facts.rules(golden)
        old, bare = [step for step in steps if step.rule in known], steps if ceiling else []
        over = []
        for first, of in ((golden, old), (duet.CEILING, bare)):
            if of:
                duet.prepare([first, SOURCE], of, cache)
            over.append(duet.duet([first, SOURCE], of, PROCESSES, SECONDS, cache) if of else {})
    return {step: Beside(*([pair.ratio for pair in found.get(step, [])] for found in over),
                         [pair.head for pair in over[0].get(step) or over[1].get(step, [])]) for step in steps}


def each(found: Sequence[float], digits: int = 3) -> Any:
    """One number per process, as asv takes it: it stores the median and its spread, and tests a change by them (as for `time_`). NaN
    where there is none: the first release lacks a rule."""
    return {"samples": [round(x, digits) for x in found], "number": 1} if found else math.nan


def gigabytes_per_second(step: Step, found: Beside) -> dict[str, Any]:
    """What a step moves, over its time in each process."""
    moved = facts.bytes_per_element(fastopt, step.rule, step.format)[1]*step.elements/1e9
    return each([moved/s for s in found.seconds], 2)


def fresh(code: str, cache: str | None = None) -> str:
    """The last line that a program prints in a process of its own, with an empty compile cache unless one is given.

    It imports the fastopt that is measured here, not the one that happens to lie in the current directory.
    """
    with tempfile.TemporaryDirectory() as empty:
        environment = {**os.environ, "FASTOPT_CACHE": cache or empty, "PYTHONPATH": str(SOURCE)}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=empty, check=False)
    if done.returncode:
        raise RuntimeError(f"fresh process: exit {done.returncode}\n{done.stderr}")
    return done.stdout.strip().splitlines()[-1]


def samples(code: str, cache: str | None = None) -> dict[str, Any]:
    """The number that a program prints, once per process."""
    return each([float(fresh(code, cache)) for _ in range(PROCESSES)], 6)
