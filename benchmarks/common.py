"""What the benchmarks share: sizes, a case for every rule, filled arrays, clocks, fresh processes."""
import gc
import os
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

import fastopt
from fastopt.optimizers import ALL
from fastopt.pool import available_threads
from fastopt.rivals import STEADY as CASES

from .shapes import GPT2, RESNET50, SMALL

if set(CASES) != set(ALL):
    raise ImportError(f"benchmarks: no case for {sorted(set(ALL) - set(CASES))}, no rule for {sorted(set(CASES) - set(ALL))}. "
                      "Edit fastopt/rivals.py.")

RULES = list(ALL)
FORMATS = {  # storage of gradient and parameter, and of the state (None: the default, float32 or float64)
    "f32": ("f32", None),
    "f64": ("f64", None),
    "f16": ("f16", None),
    "bf16": ("bf16", None),
    "f32, bf16 state": ("f32", "bf16"),
    "bf16, bf16 state": ("bf16", "bf16"),
}
DTYPES = {"f32": np.float32, "f64": np.float64, "f16": np.float16, "bf16": np.uint16}
SHAPES = {"200 x 1,000": SMALL, "ResNet-50": RESNET50, "GPT-2 small": GPT2}

SCALE = os.environ.get("FASTOPT_BENCH", "full")
SIZES = {"quick": [1_000], "full": [1_000, 100_000, 1_000_000, 10_000_000],
         "xl": [1_000, 100_000, 1_000_000, 10_000_000, 100_000_000]}[SCALE]
LISTS = ["200 x 1,000"] if SCALE == "quick" else list(SHAPES)
SECONDS = 0.02 if SCALE == "quick" else 0.6  # that one comparison takes
PROCESSES = 1 if SCALE == "quick" else 8     # samples, where each needs a process of its own
THREADS = sorted({1, available_threads()})


class Case(NamedTuple):
    """An optimizer with gradients, warmed up."""

    opt: fastopt.Optimizer
    grads: list[np.ndarray]

    def step(self) -> None:
        self.opt.step(self.grads)

    @property
    def elements(self) -> int:
        return sum(g.size for g in self.grads)

    @property
    def state_bytes(self) -> int:
        return sum(a.nbytes for tree in self.opt.state.values() for a in tree)

    @property
    def moved_bytes(self) -> int:
        """What a step must read and write: gradients once, parameters and state twice."""
        return sum(g.nbytes for g in self.grads)*3 + 2*self.state_bytes


def filled(shape: Sequence[int], format: str, scale: float, seed: int) -> np.ndarray:
    """Normal random numbers, none of them zero or subnormal, so that every page is there and no operation is slow."""
    x = np.random.default_rng(seed).standard_normal(shape, np.float32)
    x += np.copysign(np.float32(0.1), x)
    x *= np.float32(scale)
    return (x.view(np.uint32) >> 16).astype(np.uint16) if format == "bf16" else x.astype(DTYPES[format], copy=False)


def make(rule: str, shapes: Sequence[Sequence[int]], threads: int | None = None, format: str = "f32") -> Case:
    stored, state = FORMATS[format]
    params = [filled(shape, stored, 1.0, k) for k, shape in enumerate(shapes)]
    grads = [filled(shape, stored, 0.01, 1000 + k) for k, shape in enumerate(shapes)]
    return Case(ALL[rule](params, threads=threads, state=state, **CASES[rule]), grads)


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


def seconds(run: Callable[[], object], calls: int = 1) -> float:
    """Time of one call, as the mean of some."""
    start = perf_counter()
    for _ in range(calls):
        run()
    return (perf_counter() - start)/calls


def batch(run: Callable[[], object], target: float = 1e-3) -> int:
    """How many calls take about `target` seconds."""
    return max(1, int(target/max(1e-9, min(seconds(run) for _ in range(3)))))


def abba(run: Callable[[], object], other: Callable[[], object], duration: float = 0.0) -> tuple[float, float, float]:
    """Median seconds of each, and the median ratio run/other, from interleaved quartets of which the order is drawn by chance."""
    calls, ours, theirs, ratios = (batch(run), batch(other)), [], [], []
    end, chance = perf_counter() + (duration or SECONDS), random.Random(0)
    gc.collect()
    gc.disable()
    try:
        while len(ratios) < 3 or (perf_counter() < end and len(ratios) < 400):
            order = (0, 1, 1, 0) if chance.random() < 0.5 else (1, 0, 0, 1)
            times = [(k, seconds((run, other)[k], calls[k])) for k in order]
            a, b = (sum(t for k, t in times if k == which)/2 for which in (0, 1))
            ours.append(a)
            theirs.append(b)
            ratios.append(a/b)
    finally:
        gc.enable()
    return statistics.median(ours), statistics.median(theirs), statistics.median(ratios)


def fresh(code: str, cache: str | None = None) -> str:
    """The last line that a program prints in a process of its own, with an empty compile cache unless one is given.

    It imports the fastopt that is measured here, not the one that happens to lie in the current directory.
    """
    with tempfile.TemporaryDirectory() as empty:
        environment = {**os.environ, "FASTOPT_CACHE": cache or empty, "PYTHONPATH": str(Path(fastopt.__file__).parents[1])}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=empty, check=False)
    if done.returncode:
        raise RuntimeError(f"fresh process: exit {done.returncode}\n{done.stderr}")
    return done.stdout.strip().splitlines()[-1]


def samples(code: str, cache: str | None = None) -> dict[str, Any]:
    """The number that a program prints, once per process: asv stores the median and its spread (as for `time_`)."""
    return {"samples": [float(fresh(code, cache)) for _ in range(PROCESSES)], "number": 1}
