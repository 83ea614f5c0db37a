"""One vector: the time of a step, its bytes per second, and its time over that of a loop that moves the same bytes."""
from functools import lru_cache

from fastopt.ceiling import Traffic

from . import common


@lru_cache(maxsize=1)
def compared(rule: str, n: int, threads: int, format: str = "f32") -> tuple[float, float, float]:
    case = common.vector(rule, n, threads, format)
    state = [tree[0].dtype for tree in case.opt.state.values()]
    traffic = Traffic(n, [case.grads[0].dtype, case.grads[0].dtype, *state], threads)
    if traffic.moved_bytes != case.moved_bytes:
        raise ValueError(f"compared: the ceiling moves {traffic.moved_bytes} bytes, the step {case.moved_bytes}.")
    return common.abba(case.step, traffic)


class Step:
    """Every rule in float32."""

    params, param_names, version = (common.RULES, common.SIZES, common.THREADS), ["rule", "n", "threads"], "1"

    def time_step(self, *case):
        """``opt.step(g)``."""
        common.vector(*case).step()

    def track_gbps(self, *case):
        """Bytes that the step must move, over its time. Higher is better: look at it, never gate on it."""
        return round(common.vector(*case).moved_bytes/compared(*case)[0]/1e9, 2)

    def track_vs_ceiling(self, *case):
        """Time over that of a loop that moves the same bytes, interleaved in one process."""
        return round(compared(*case)[2], 3)

    track_gbps.unit, track_vs_ceiling.unit = "GB/s", "x ceiling"


class Formats(Step):
    """One rule with one state and one with two, in every other format."""

    params = (["momentum", "adam"], common.SIZES, common.THREADS, [f for f in common.FORMATS if f != "f32"])
    param_names = (*Step.param_names, "format")
