"""One vector: the time of a step, its bytes per second, its time over the first release's and over the ceiling's. The
ceiling is a loop that moves the bytes of the step and computes next to nothing. The figures of `track_` come from
processes of their own, each with one sample. A fresh process finds its memory and code at other places, which moves a
step in cache by some percent; hundreds of samples from one process would look like a change."""
from itertools import product

from . import common
from .common import Step as Timed


class Time:
    """Every rule in float32."""

    params, param_names, version = (common.RULES, common.SIZES, common.THREADS), ["rule", "n", "threads"], "1"

    def time_step(self, *case):
        """``opt.step(g)``."""
        common.vector(*case).step()


class Step:
    """Every rule in float32."""

    params, param_names = (common.RULES, common.SIZES, common.THREADS), ["rule", "n", "threads"]
    version, timeout = "2", 600

    def setup_cache(self):
        """Every case once in each process."""
        return common.beside([Timed(*case) for case in product(*Step.params)])

    setup_cache.timeout = 7200

    def track_gbps(self, found, *case):
        """Bytes that the step must move, over its time. Higher is better: look at it, never gate on it."""
        return common.gigabytes_per_second(Timed(*case), found[Timed(*case)])

    def track_vs_ceiling(self, found, *case):
        """Time over that of a loop that moves the same bytes, interleaved in one process."""
        return common.each(found[Timed(*case)].ceiling)

    def track_vs_golden(self, found, *case):
        """Time over that of the first release, interleaved in one process on the same arrays."""
        return common.each(found[Timed(*case)].golden)

    track_gbps.unit, track_vs_ceiling.unit, track_vs_golden.unit = "GB/s", "x ceiling", "x first release"


class Formats(Step):
    """One rule with one state and one with two, in every other format."""

    params = (common.two_or("momentum", "adam"), common.SIZES, common.THREADS, common.OTHER_FORMATS)
    param_names = (*Step.param_names, "format")

    def setup_cache(self):
        """Every case once in each process."""
        return common.beside([Timed(*case) for case in product(*Formats.params)])

    setup_cache.timeout = 7200


class Clipped:
    """Adam with ``clip_norm``: one more pass over the gradients."""

    params = (common.SIZES, common.THREADS, ["f32"] if common.QUICK else ["f32", "bf16"])
    param_names, version, timeout = ["n", "threads", "format"], "1", 600

    def setup_cache(self):
        """Every case once in each process."""
        return common.beside([Timed("adam", *case, "clip_norm") for case in product(*Clipped.params)], ceiling=False)

    setup_cache.timeout = 3600

    def track_vs_golden(self, found, *case):
        """Time over that of the first release, interleaved in one process on the same arrays."""
        return common.each(found[Timed("adam", *case, "clip_norm")].golden)

    track_vs_golden.unit = "x first release"
