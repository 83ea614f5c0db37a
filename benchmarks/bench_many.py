"""Many tensors in one call: 200 small ones, 1,000 tiny ones; bench_step.Large has those of two networks. The ceiling
moves the bytes of one vector as large as all: what the list costs is part of that ratio."""
from itertools import product

from . import bench_step, common
from .common import Step as Timed
from .gate.harness import clock_of


class Many(bench_step.Others):
    """Float32: as for one vector."""

    params, param_names, version = (common.MAIN, common.LISTS, common.THREADS), ["rule", "tensors", "threads"], "2"

    def setup_cache(self):
        """Every case once in each process."""
        return common.beside_both([Timed(*case) for case in product(*Many.params)])

    setup_cache.timeout = 3600

    def track_vs_golden(self, found, *case):
        """Time over that of the first release, interleaved in one process on the same arrays."""
        return common.ratios(found["golden"][Timed(*case)])

    track_vs_golden.unit, track_vs_golden.params = "x first release", (*params[:2], [1])


class Loop:
    """One optimizer for all tensors against one for each, in a Python loop."""

    params, param_names, version = (common.two_or("momentum", "adam"), [1]), ["rule", "threads"], "1"

    def track_times_faster_than_loop(self, rule, threads):
        """200 tensors of 1,000 elements. Higher is better."""
        together = common.case_of(rule, "200 x 1,000", threads)
        apart = [common.make(rule, [shape], threads) for shape in common.SHAPES["200 x 1,000"]]

        def loop():
            for case in apart:
                case.step()
        return round(1/common.abba(together.step, loop, clock_of(threads))[2], 2)

    track_times_faster_than_loop.unit = "x"
