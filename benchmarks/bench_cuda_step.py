"""Steps on the first CUDA device by its own clock, with an empty L2 cache, as `fastopt bench --device cuda` has them.
Without a driver this module has no benchmarks. Give machines with different devices different names (asv machine)."""
import ctypes
import math
import os
from importlib.util import find_spec
from itertools import product

from fastopt.bench import cuda as bench_cuda

from . import common


def at_hand() -> bool:
    """Whether there are a driver and the extra `cuda`. The library is loaded, and not started: asv forks this process,
    and a driver does not survive a fork."""
    try:
        ctypes.CDLL("nvcuda.dll" if os.name == "nt" else "libcuda.so.1")
        return find_spec("cuda.bindings") is not None and find_spec("numba_cuda") is not None
    except (ImportError, OSError, ValueError):
        return False


def measured(rule: str, n: int, format: str = "f32") -> dict[str, float]:
    """The figures of a step."""
    stored, state = common.FORMATS[format]
    found = bench_cuda.measure(rule, n, format=stored, seconds=common.SECONDS, state=state)
    return {"microseconds": found["seconds"]*1e6, "vs_ceiling": 1/found["ceiling"]}


class Step:
    """Every rule in float32."""

    params, param_names = (common.RULES, [1_000] if common.QUICK else [1_000, 1_000_000, 100_000_000]), ["rule", "n"]
    version, timeout = "1", 600

    def setup_cache(self):
        """All cases of both classes in one process; nothing where no device answers."""
        try:
            bench_cuda.device()
        except (ImportError, OSError):
            return {}
        return {case: measured(*case) for case in [*product(*Step.params), *product(*Formats.params)]}

    setup_cache.timeout = 1800

    def look_up(self, found, figure, case):
        return round(found[case][figure], 3) if case in found else math.nan

    def track_microseconds(self, found, *case):
        """What the device takes for a step, between two events; bench_cuda_call has what the host takes."""
        return self.look_up(found, "microseconds", case)

    def track_vs_ceiling(self, found, *case):
        """Time over that of a copy on the device that moves the same bytes, interleaved in one process."""
        return self.look_up(found, "vs_ceiling", case)

    track_microseconds.unit, track_vs_ceiling.unit = "us", "x ceiling"


class Formats(Step):
    """One rule with one state and one with two, in every other format."""

    params = (common.two_or("momentum", "adam"), Step.params[1], common.OTHER_FORMATS)
    param_names = (*Step.param_names, "format")


if not at_hand():
    del Step, Formats  # asv would look up each of their figures, only to find none
