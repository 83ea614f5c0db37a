"""What a step costs beside its arithmetic: small arrays, new gradient arrays, coefficients, schedules, construction."""
import itertools
from functools import lru_cache

import numpy as np

import fastopt
from fastopt import schedules
from fastopt.optimizers import ALL

from . import common
from .common import Step as Timed
from .gate import inside
from .gate.harness import clock_of
from .shapes import GPT2

SCHEDULES = {"constant": schedules.constant(1e-3), "cosine": schedules.cosine(1e-3, steps=10_000, warmup=500),
             "one_cycle": schedules.one_cycle(1e-3, steps=10_000)}


OVERHEADS = [Timed(rule, 8) for rule in common.MAIN]
if not common.QUICK:
    OVERHEADS += [Timed("adam", "148 x 8", way=way) for way in ("new gradients", "construct")]


class Overhead:
    """Steps on 8 elements, new arrays for 148 gradients, a new optimizer for 148 tensors; one thread."""

    params, param_names, version, timeout = (list(map(str, OVERHEADS)),), ["step"], "1", 600

    def setup_cache(self):
        """Every case once in each process."""
        return {str(step): found for step, found in common.beside("golden", OVERHEADS).items()}

    setup_cache.timeout = 3600

    def track_vs_golden(self, found, step):
        """Time over that of the first release, interleaved in one process on the same arrays."""
        return common.ratios(found[step])

    def track_microseconds(self, found, step):
        """Time itself: look at it, never gate on it."""
        return common.each([1e6*pair.head for pair in found[step]])

    track_vs_golden.unit, track_microseconds.unit = "x first release", "us"


@lru_cache(maxsize=1)
def rotating(n: int):
    """A step with other gradient arrays each time, and the same step from buffers that never change."""
    case = common.warm(common.make("adam", [(n,)]*len(GPT2), 1))
    sets = itertools.cycle([case.grads, [g.copy() for g in case.grads]])
    own = common.make("adam", [(n,)]*len(GPT2), 1)
    for buffer, g in zip(own.opt.grads, own.grads, strict=True):
        buffer[...] = g

    def refreshed():
        case.opt.step(next(sets))

    for _ in range(3):
        refreshed()
        own.opt.step()
    return refreshed, own.opt.step


class Addresses:
    """148 gradients, as many as GPT-2 small has, of 1 and 1,000 elements each."""

    params, param_names, version = ([1] if common.QUICK else [1, 1_000],), ["n"], "1"

    def track_refresh(self, n):
        """What new addresses cost on top of the step from buffers."""
        ours, theirs, _ = common.abba(*rotating(n), clock_of(1))
        return round((ours - theirs)*1e6, 2)

    track_refresh.unit = "us"


@lru_cache(maxsize=1)
def coefficients(rule: str):
    steps = itertools.count(1)
    at, hyper = ALL[rule].rule.at, inside.steady(fastopt, rule)
    return lambda: at(next(steps), np.float32, **hyper)


class Coefficients:
    """The host's part of a step."""

    params, param_names, version = (common.RULES,), ["rule"], "2"

    def time_coefficients(self, rule):
        """The coefficients of a step, from hyperparameters that are numbers."""
        coefficients(rule)()


@lru_cache(maxsize=1)
def schedule(name: str):
    steps, function = itertools.count(1), SCHEDULES[name]
    return lambda: function(next(steps))


class Schedules:
    """Hyperparameters that are functions of the step."""

    params, param_names, version = (list(SCHEDULES),), ["schedule"], "1"

    def time_evaluate(self, name):
        """One value."""
        schedule(name)()


@lru_cache(maxsize=1)
def tiny():
    """Parameters and gradients in the structure of GPT-2 small."""
    common.warm(common.make("adam", [(1,)], 1))
    params = [np.ones((4,)*len(shape), np.float32) for shape in GPT2]
    return params, [p.copy() for p in params]


class Construction:
    """A new optimizer for 148 tensors (tiny ones: no memory to clear)."""

    version = "1"

    def time_first_step(self):
        """Checks, state, tables, and the first step, which binds the gradients; `Overhead` has the part before it."""
        params, grads = tiny()
        ALL["adam"](params, lr=1e-3).step(grads)
