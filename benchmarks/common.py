"""What the benchmarks share: sizes, cases, fresh processes, and figures beside the first release and the ceiling."""
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

import fastopt
from fastopt.optimizers import ALL

from .gate import duet, harness, inside, versions
from .gate.harness import seconds
from .steps import DTYPES, FORMATS, MAIN_RULES, QUICK, SHAPES, Case, Step, arrays, optimizer

__all__ = ["DTYPES", "FORMATS", "QUICK", "SHAPES", "Case", "Step"]

SCALE = os.environ.get("FASTOPT_BENCH", "full")
RULES = ["adam"] if QUICK else list(ALL)
MAIN = ["adam"] if QUICK else MAIN_RULES
SIZES = [1_000] if QUICK else [1_000, 10_000, 100_000, 300_000, 1_000_000, 10_000_000]
FEW_SIZES = [1_000] if QUICK else [100_000, 10_000_000]                  # in cache and out of it
LISTS = ["200 x 1,000"] if QUICK else ["200 x 1,000", "1,000 x 100"]
LARGE = [1_000] if QUICK else [100_000_000, "ResNet-50", "GPT-2 small"]
OTHER_FORMATS = ["bf16"] if QUICK else [name for name in FORMATS if name != "f32"]
SECONDS = 0.01 if QUICK else 0.2             # that one comparison takes in one process
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
def case_of(rule: str, tensors: int | str, threads: int) -> Case:
    """A step in float32 on one vector, or on a list of `SHAPES`."""
    return warm(make(rule, Step(rule, tensors).shapes, threads))


def abba(run: Callable[[], Any], other: Callable[[], Any],
         clock: harness.Clock = perf_counter) -> tuple[float, float, float]:
    """Median seconds of each, and the median ratio run/other."""
    return harness.medians(harness.quartets((run, other), SECONDS, partial(seconds, clock=clock)))


# Figures beside others, each from a few processes

def beside(other: str, steps: Sequence[Step]) -> dict[Step, list[duet.Pair]]:
    """Every step in turn with "golden", the first release, where that has the rule, or with the "ceiling": a pair from
    each process. LookupError where the commit of that release is missing."""
    with tempfile.TemporaryDirectory() as place:
        kept, first = cache()/"benchmarks", versions.golden(Path(place)) if other == "golden" else duet.CEILING
        if not QUICK:
            duet.prepare([first, SOURCE], steps, kept)
        return duet.duet([first, SOURCE], steps, PROCESSES, SECONDS, kept)


Found = dict[str, dict[Step, list[duet.Pair]]]


def beside_both(steps: Sequence[Step]) -> Found:
    """Beside the ceiling, and on one thread beside the first release: on two it was up to 85 % off beside load."""
    return {"ceiling": beside("ceiling", steps), "golden": beside("golden", [s for s in steps if s.threads == 1])}


def ratios(found: Sequence[duet.Pair]) -> Any:
    """The time of a step over the other's, one number for each process."""
    return each([pair.ratio for pair in found])


def beside_ceiling_once(step: Step) -> float:
    """The median of a few quartets in this process, for steps so long that no process differs from another."""
    shared = arrays(step.shapes, step.format)
    runs = step.of(fastopt, *shared), step.ceiling(fastopt, *shared)
    timed = partial(seconds, clock=harness.clock_of(step.threads))
    return round(harness.medians(harness.quartets(runs, SECONDS, timed, (1, 1)))[2], 3)


def each(found: Sequence[float], digits: int = 3) -> Any:
    """One number per process: asv stores their median and spread. NaN where the first release lacks a rule."""
    return {"samples": [round(x, digits) for x in found], "number": 1} if found else math.nan


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


def apart(function: Callable[..., Any], *words: Any) -> Any:
    """What a function of the suite gives in a process of its own, where it finds the usual cache; of JSON's types."""
    return json.loads(fresh(f"""
import json, sys
sys.path.append({str(versions.ROOT)!r})
from {function.__module__} import {function.__name__} as function
print(json.dumps(function(*{words!r})))""", str(cache())))
