"""Many tensors in one call: 200 small ones, and the real shapes of ResNet-50 and GPT-2 small."""
from itertools import product

from . import common
from .common import Step as Timed


class Time:
    """Float32."""

    params = (["momentum", "nesterov", "adam", "adamw"], common.LISTS, common.THREADS)
    param_names, version, timeout = ["rule", "tensors", "threads"], "1", 600

    def time_step(self, *case):
        """``opt.step(grads)``."""
        common.tensors(*case).step()


class Many:
    """Float32."""

    params, param_names, version, timeout = Time.params, Time.param_names, "2", 600

    def setup_cache(self):
        """Every case once in each process."""
        return common.beside([Timed(*case) for case in product(*Many.params)])

    setup_cache.timeout = 7200

    def track_gbps(self, found, *case):
        """Bytes that the step must move, over its time. Higher is better: look at it, never gate on it."""
        return common.gigabytes_per_second(Timed(*case), found[Timed(*case)])

    def track_vs_ceiling(self, found, *case):
        """Time over that of a loop that moves the same bytes in one vector: what the list costs is part of the ratio."""
        return common.each(found[Timed(*case)].ceiling)

    def track_vs_golden(self, found, *case):
        """Time over that of the first release, interleaved in one process on the same arrays."""
        return common.each(found[Timed(*case)].golden)

    track_gbps.unit, track_vs_ceiling.unit, track_vs_golden.unit = "GB/s", "x ceiling", "x first release"


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
