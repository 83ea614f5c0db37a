"""What the benchmarks share: sizes, cases, fresh processes, and figures beside the first release and the ceiling."""
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

import numpy as np

import fastopt
from fastopt.optimizers import ALL

from .gate import duet, facts, harness, inside, versions
from .gate.harness import seconds
from .steps import DTYPES, FORMATS, QUICK, SHAPES, Case, Step, arrays, optimizer

__all__ = ["DTYPES", "FORMATS", "QUICK", "SHAPES", "Case", "Step"]

SCALE = os.environ.get("FASTOPT_BENCH", "full")
RULES = ["adam"] if QUICK else list(ALL)
SIZES = {"quick": [1_000], "full": [1_000, 100_000, 1_000_000, 10_000_000],
         "xl": [1_000, 100_000, 1_000_000, 10_000_000, 100_000_000]}[SCALE]
LISTS = ["200 x 1,000"] if QUICK else ["200 x 1,000", "ResNet-50", "GPT-2 small"]
OTHER_FORMATS = ["bf16"] if QUICK else [name for name in FORMATS if name != "f32"]
SECONDS = 0.01 if QUICK else 0.3             # that one comparison takes in one process
PROCESSES = 1 if QUICK else 8                # samples that need a process each: with six asv can never call a change
THREADS = sorted({1, 1 if QUICK else fastopt.SGD(np.ones(1, np.float32)).threads})
SOURCE = Path(fastopt.__file__).parents[1]   # of the fastopt that is measured, not that of the current directory


def two_or(*rules: str) -> list[str]:
    """These rules, or in the quick setting the one of it: for what does not differ from rule to rule."""
    return RULES if QUICK else list(rules)


def cache() -> Path:
    """Where compiled kernels are kept."""
    return inside.cache(fastopt)


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


def abba(run: Callable[[], Any], other: Callable[[], Any],
         clock: harness.Clock = perf_counter) -> tuple[float, float, float]:
    """Median seconds of each, and the median ratio run/other."""
    return harness.medians(harness.quartets((run, other), SECONDS, partial(seconds, clock=clock)))


# Figures beside others, each from a few processes

class Beside(NamedTuple):
    """The samples of a step, one for each process: over the first release's, over the ceiling's, and its seconds."""

    golden: list[float]
    ceiling: list[float]
    seconds: list[float]


def beside(steps: Sequence[Step], ceiling: bool = True) -> dict[Step, Beside]:
    """Every step against the first release, where it has the rule, and the ceiling, in turn; LookupError without it."""
    with tempfile.TemporaryDirectory() as place:
        kept = cache()/"benchmarks"

        def over(first: Path | str) -> dict[Step, list[duet.Pair]]:
            if not QUICK:
                duet.prepare([first, SOURCE], steps, kept)
            return duet.duet([first, SOURCE], steps, PROCESSES, SECONDS, kept)
        old, bare = over(versions.golden(Path(place))), over(duet.CEILING) if ceiling else {step: [] for step in steps}
    return {step: Beside([pair.ratio for pair in old[step]], [pair.ratio for pair in bare[step]],
                         [pair.head for pair in old[step] or bare[step]]) for step in steps}


def each(found: Sequence[float], digits: int = 3) -> Any:
    """One number per process: asv stores their median and spread. NaN where the first release lacks a rule."""
    return {"samples": [round(x, digits) for x in found], "number": 1} if found else math.nan


def gigabytes_per_second(step: Step, found: Beside) -> dict[str, Any]:
    """What a step moves, over its time in each process."""
    moved = facts.bytes_per_element(fastopt, step.rule, step.format)[1]*step.elements/1e9
    return each([moved/s for s in found.seconds], 2)


def fresh(code: str, kernels: str | None = None) -> str:
    """The last line that a program prints in a process of its own, with an empty compile cache unless one is given (in
    the quick setting the usual one). It imports the fastopt that is measured here, not one in the current directory."""
    with tempfile.TemporaryDirectory() as empty:
        kernels = str(cache()) if QUICK else kernels or empty
        environment = {**os.environ, "FASTOPT_CACHE": kernels, "PYTHONPATH": str(SOURCE)}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=empty,
                              check=False)
    if done.returncode:
        raise RuntimeError(f"fresh process: exit {done.returncode}\n{done.stderr}")
    return done.stdout.strip().splitlines()[-1]


def samples(code: str, kernels: str | None = None) -> dict[str, Any]:
    """The number that a program prints, once per process."""
    return each([float(fresh(code, kernels)) for _ in range(PROCESSES)], 6)
