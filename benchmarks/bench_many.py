"""Many tensors in one call: 200 small ones, and the real shapes of ResNet-50 and GPT-2 small. The ceiling moves the
bytes of one vector as large as all: what the list costs is part of that ratio."""
from itertools import product

from . import bench_step, common
from .common import Step as Timed


class Time:
    """Float32."""

    params = (common.two_or("momentum", "nesterov", "adam", "adamw"), common.LISTS, common.THREADS)
    param_names, version, timeout = ["rule", "tensors", "threads"], "1", 600

    def time_step(self, *case):
        """``opt.step(grads)``."""
        common.tensors(*case).step()


class Many(bench_step.Step):
    """Float32: as for one vector."""

    params, param_names = Time.params, Time.param_names

    def setup_cache(self):
        """Every case once in each process."""
        return common.beside([Timed(*case) for case in product(*Many.params)])

    setup_cache.timeout = 7200


class Loop:
    """One optimizer for all tensors against one for each, in a Python loop."""

    params, param_names, version = (common.two_or("momentum", "adam"), [1]), ["rule", "threads"], "1"

    def track_times_faster_than_loop(self, rule, threads):
        """200 tensors of 1,000 elements. Higher is better."""
        together = common.tensors(rule, "200 x 1,000", threads)
        apart = [common.make(rule, [shape], threads) for shape in common.SHAPES["200 x 1,000"]]

        def loop():
            for case in apart:
                case.step()
        return round(1/common.abba(together.step, loop)[2], 2)

    track_times_faster_than_loop.unit = "x"
