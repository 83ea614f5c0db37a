"""Steps on the first CUDA device by its own clock, with an empty L2 cache, as `fastopt bench --device cuda` has them.
NaN where there is no device. Give machines with different devices different names (asv machine)."""
import math
from functools import lru_cache
from itertools import product

from fastopt.bench import cuda as bench_cuda

from . import common


@lru_cache(maxsize=1)
def at_hand() -> bool:
    """Whether there are a device, its driver, and the extra `cuda`."""
    try:
        bench_cuda.device()
    except (ImportError, OSError):
        return False
    return True


def measured(rule: str, n: int, format: str = "f32") -> dict[str, float]:
    """The figures of a step."""
    stored, state = common.FORMATS[format]
    found = bench_cuda.measure(rule, n, format=stored, seconds=common.SECONDS, state=state)
    return {"microseconds": found["seconds"]*1e6, "gbps": found["gb_per_second"], "vs_ceiling": 1/found["ceiling"]}


class Step:
    """Every rule in float32."""

    params, param_names, version, timeout = (common.RULES, common.SIZES), ["rule", "n"], "1", 600

    def setup_cache(self):
        """All cases of both classes in one process; nothing where there is no device."""
        cases = [*product(*Step.params), *product(*Formats.params)] if at_hand() else []
        return {case: measured(*case) for case in cases}

    setup_cache.timeout = 1800

    def look_up(self, found, figure, case):
        return round(found[case][figure], 3) if case in found else math.nan

    def track_microseconds(self, found, *case):
        """What the device takes for a step, between two events; bench_cuda_call has what the host takes."""
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

    params = (common.two_or("momentum", "adam"), common.SIZES, common.OTHER_FORMATS)
    param_names = (*Step.param_names, "format")
