"""A step to be timed, of any version of the package: which rule, on what, how; and arrays filled for it."""
import itertools
import math
import os
import random
import sys
from collections.abc import Callable, Sequence
from functools import partial
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from .gate import inside
from .shapes import GPT2, RESNET50, SMALL, THOUSAND, TINY

FORMATS = {  # storage of gradient and parameter, and of the state (None: the default, float32 or float64)
    "f32": ("f32", None), "f64": ("f64", None), "f16": ("f16", None), "bf16": ("bf16", None),
    "f32, bf16 state": ("f32", "bf16"), "bf16, bf16 state": ("bf16", "bf16")}
BLOCKS = {"f32, q8 state": ("f32", "q8")}  # 8 bits with shared exponents: old versions lack it
STORAGE = {**FORMATS, **BLOCKS}
DTYPES = {"f32": np.float32, "f64": np.float64, "f16": np.float16, "bf16": np.uint16}
SHAPES = {"200 x 1,000": SMALL, "1,000 x 100": TINY, "1,000 x 1,000": THOUSAND, "ResNet-50": RESNET50,
          "GPT-2 small": GPT2, "148 x 8": [(8,)]*len(GPT2)}
MAIN_RULES = ["momentum", "nesterov", "adam", "adamw"]  # the rules that are measured at every size; the others at two
QUICK = os.environ.get("FASTOPT_BENCH") == "quick"  # only to see that all works: the fewest cases, which share kernels
BLOCK = 1 << 20  # random numbers that a longer array repeats: drawing 1e7 takes longer than timing a step on them


def filled(shape: Sequence[int], format: str, scale: float, seed: int) -> np.ndarray:
    """Normal random numbers, none of them zero or subnormal, so that every page is there and no operation is slow."""
    n = math.prod(shape)
    x = np.random.default_rng(seed).standard_normal(min(n, BLOCK), np.float32)
    x += np.copysign(np.float32(0.1), x)
    x *= np.float32(scale)
    x = (x.view(np.uint32) >> 16).astype(np.uint16) if format == "bf16" else x.astype(DTYPES[format], copy=False)
    return np.resize(x, shape)


class Case(NamedTuple):
    """An optimizer with gradients."""

    opt: Any
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


def arrays(shapes: Sequence[Sequence[int]], format: str) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Parameters and gradients."""
    stored = STORAGE[format][0]
    return ([filled(shape, stored, 1.0, k) for k, shape in enumerate(shapes)],
            [filled(shape, stored, 0.01, 1000 + k) for k, shape in enumerate(shapes)])


def optimizer(package: ModuleType, rule: str, params: list[np.ndarray], threads: int | None = None,
              format: str = "f32") -> Any:
    """A version's optimizer, with hyperparameters that let it take thousands of steps with one gradient."""
    return inside.optimizers(package)[rule](params, threads=threads, state=STORAGE[format][1],
                                            **inside.steady(package, rule))


def _other_gradients(opt: Any, grads: list[np.ndarray]) -> Callable[[], object]:
    sets = itertools.cycle([grads, [g.copy() for g in grads]])
    return lambda: opt.step(next(sets))


def _scheduled(opt: Any, grads: list[np.ndarray]) -> Callable[[], object]:
    package, group = sys.modules[type(opt).__module__.partition(".")[0]], opt.groups[0]
    group["lr"] = inside.part(package, "schedules").cosine(group["lr"], 1_000_000)
    return partial(opt.step, grads)


WAYS: dict[str, Callable[[Any, list[np.ndarray]], Callable[[], object]]] = {
    "step": lambda opt, grads: partial(opt.step, grads),
    "clip_norm": lambda opt, grads: partial(opt.step, grads, clip_norm=1.0), "new gradients": _other_gradients,
    "schedule": _scheduled, "construct": lambda opt, grads: partial(type(opt), opt.params, lr=1e-3)}


class Step(NamedTuple):
    """What is timed: a rule, a vector of so many elements or a list of `SHAPES`, threads, storage, one of `WAYS`."""

    rule: str
    tensors: int | str
    threads: int = 1
    format: str = "f32"
    way: str = "step"

    def __str__(self) -> str:
        on = f"{self.tensors:,} elements" if isinstance(self.tensors, int) else self.tensors
        return ", ".join([self.rule, on, f"{self.threads} thread{'s'*(self.threads > 1)}", self.format,
                          *[self.way]*(self.way != "step")])

    @property
    def benchmark(self) -> str:
        """The asv benchmark that tracks it."""
        if self.way == "clip_norm":
            return "bench_step.Clipped.track_over_plain"
        if self.tensors in (1, 8, "148 x 8"):
            return "bench_call.Overhead.track_vs_golden"
        if isinstance(self.tensors, str):
            return f"bench_{'many.Many.track_vs_golden' if self.elements < 1e6 else 'step.Large.track_vs_ceiling'}"
        if self.format == "f32" and self.rule in MAIN_RULES:
            return "bench_step.Step.track_vs_golden"
        return f"bench_step.{'Others' if self.format == 'f32' else 'Formats'}.track_vs_ceiling"

    @property
    def shapes(self) -> Sequence[Sequence[int]]:
        return [(self.tensors,)] if isinstance(self.tensors, int) else SHAPES[self.tensors]

    @property
    def elements(self) -> int:
        return sum(map(math.prod, self.shapes))

    def of(self, package: ModuleType, params: list[np.ndarray], grads: list[np.ndarray]) -> Callable[[], object]:
        """The step as a version of the package takes it, on these arrays: compiled and warmed up."""
        run = WAYS[self.way](optimizer(package, self.rule, params, self.threads, self.format), grads)
        for _ in range(3):
            run()
        return run

    def ceiling(self, package: ModuleType, params: list[np.ndarray], grads: list[np.ndarray]) -> Callable[[], object]:
        """A loop that moves the bytes of this step, in one vector however many tensors there are."""
        case = Case(optimizer(package, self.rule, params, self.threads, self.format), grads)
        state = [tree[0].dtype for tree in case.opt.state.values()]
        traffic = inside.traffic(package)(case.elements, [grads[0].dtype, params[0].dtype, *state], self.threads)
        if traffic.moved_bytes != case.moved_bytes:
            raise ValueError(f"ceiling: it moves {traffic.moved_bytes} bytes, the step {case.moved_bytes}.")
        return traffic


def shuffled(steps: Sequence[Step], seed: int) -> list[Step]:
    """In an order of its own for each process: what ran before is part of the noise."""
    return random.Random(seed).sample(steps, len(steps))
