"""Steps on the first CUDA device, by its own clock, with an empty L2 cache before each: as `fastopt bench --device cuda` takes them.

NaN where there is no device. It runs on whatever device there is: give machines with different ones different names (asv machine).
"""
import gc
import math
from collections.abc import Callable
from functools import lru_cache
from itertools import product
from typing import Any

from fastopt._cuda import driver
from fastopt._tensors.device_array import DeviceArray
from fastopt.bench import cpu as bench
from fastopt.bench import cuda as bench_cuda
from fastopt.optimizers import ALL

from . import common

STORAGE = [format for format in common.FORMATS if format != "f32"]


@lru_cache(maxsize=1)
def at_hand() -> bool:
    """Whether there are a device, its driver, and the extra `cuda`."""
    try:
        bench_cuda.device()
    except (ImportError, OSError):
        return False
    return True


def contenders(gpu: driver.Gpu, rule: str, n: int, format: str) -> tuple[dict[str, Callable[[], Any]], int]:
    """As `bench_cuda.contenders`, in the formats of this suite, which name the state's too."""
    stored, state = common.FORMATS[format]
    params, grads = (DeviceArray(m.address, x.shape, x.dtype, device=gpu.ordinal, owner=m)
                     for x in bench.vectors(n, stored) for m in [driver.uploaded(gpu, x)])
    opt = ALL[rule](params, state=state, **common.CASES[rule])
    moved = 2*sum(a.nbytes for a in (params, *opt.state.values())) + grads.nbytes
    return {bench.CEILING: bench_cuda.copier(gpu, moved, params), bench.OURS: lambda: opt.step(grads)}, moved


def measured(rule: str, n: int, format: str = "f32") -> dict[str, float]:
    """The figures of a step; its memory is free again when the next is measured."""
    gc.collect()
    gpu = bench_cuda.device()
    with gpu.current():
        watch = bench_cuda.Watch(gpu)
        try:
            steps, moved = contenders(gpu, rule, n, format)
            timed = {name: bench_cuda.Timed(step, watch) for name, step in steps.items()}
            found = bench.figures(bench.in_turn(timed, common.SECONDS, bench_cuda.Timed.turn), n, moved, ())
        finally:
            watch.close()
    return {"microseconds": found["seconds"]*1e6, "gbps": found["gb_per_second"], "vs_ceiling": 1/found["ceiling"]}


class Step:
    """Every rule in float32."""

    params, param_names, version, timeout = (common.RULES, common.SIZES), ["rule", "n"], "1", 600

    def setup_cache(self):
        """All cases of both classes in one process: asv calls this once for the two. Nothing where there is no device."""
        cases = [*product(*Step.params), *product(*Formats.params)] if at_hand() else []
        return {case: measured(*case) for case in cases}

    setup_cache.timeout = 1800

    def look_up(self, found, figure, case):
        return round(found[case][figure], 3) if case in found else math.nan

    def track_microseconds(self, found, *case):
        """What the device takes from the event before a step to the event after it; what the host takes is in bench_cuda_call."""
        return self.look_up(found, "microseconds", case)

    def track_gbps(self, found, *case):
        """Bytes that the step must move, over its time. Higher is better: look at it, never gate on it."""
        return self.look_up(found, "gbps", case)

    def track_vs_ceiling(self, found, *case):
        """Time over that of a copy on the device that moves the same bytes, interleaved in one process."""
        return self.look_up(found, "vs_ceiling", case)

    track_microseconds.unit, track_gbps.unit, track_vs_ceiling.unit = "us", "GB/s", "x ceiling"


class Formats(Step):
    """One rule with one state and one with two, in every other format."""

    params, param_names = (["momentum", "adam"], common.SIZES, STORAGE), (*Step.param_names, "format")
