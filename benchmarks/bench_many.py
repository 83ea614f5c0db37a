"""Many tensors in one call: 200 small ones, and the real shapes of ResNet-50 and GPT-2 small."""
from functools import lru_cache

import numpy as np

from fastopt.ceiling import Traffic

from . import common


@lru_cache(maxsize=1)
def compared(rule: str, name: str, threads: int) -> tuple[float, float, float]:
    """Against one vector of as many elements: what the list costs is part of the ratio."""
    case = common.tensors(rule, name, threads)
    return common.abba(case.step, Traffic(case.elements, [np.dtype(np.float32)]*(2 + len(case.opt.state)), threads))


class Many:
    """Float32."""

    params = (["momentum", "nesterov", "adam", "adamw"], common.LISTS, common.THREADS)
    param_names, version, timeout = ["rule", "tensors", "threads"], "1", 600

    def time_step(self, *case):
        """``opt.step(grads)``."""
        common.tensors(*case).step()

    def track_gbps(self, *case):
        """Bytes that the step must move, over its time. Higher is better: look at it, never gate on it."""
        return round(common.tensors(*case).moved_bytes/compared(*case)[0]/1e9, 2)

    def track_vs_ceiling(self, *case):
        """Time over that of a loop that moves the same bytes in one vector."""
        return round(compared(*case)[2], 3)

    track_gbps.unit, track_vs_ceiling.unit = "GB/s", "x ceiling"


class Loop:
    """One optimizer for all tensors against one for each, in a Python loop."""

    params, param_names, version = (["momentum", "adam"], [1]), ["rule", "threads"], "1"

    def track_times_faster_than_loop(self, rule, threads):
        """200 tensors of 1,000 elements. Higher is better."""
        together = common.tensors(rule, "200 x 1,000", threads)
        apart = [common.make(rule, [shape], threads) for shape in common.SHAPES["200 x 1,000"]]

        def loop():
            for case in apart:
                case.step()
        return round(1/common.abba(together.step, loop)[2], 2)

    track_times_faster_than_loop.unit = "x"
