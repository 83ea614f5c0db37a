"""One vector: the time of a step over the ceiling's, and over the first release's. The ceiling is a loop that moves the
bytes of the step and computes next to nothing. Figures come from processes of their own, each with one sample. A fresh
process finds its memory and code at other places, which moves a step in cache by some percent; hundreds of samples from
one process would look like a change."""
from functools import partial
from itertools import product

from . import common
from .common import Step as Timed
from .gate.harness import clock_of


class Others:
    """Every rule but the main ones in float32, on one thread, in cache and out of it."""

    params = ([rule for rule in common.RULES if common.QUICK or rule not in common.MAIN], common.FEW_SIZES, [1])
    param_names, version, timeout = ["rule", "n", "threads"], "1", 600

    def setup_cache(self):
        """Every case once in each process."""
        return {"ceiling": common.beside("ceiling", [Timed(*case) for case in product(*Others.params)])}

    setup_cache.timeout = 3600

    def track_vs_ceiling(self, found, *case):
        """Time over that of a loop that moves the same bytes, interleaved in one process."""
        return common.ratios(found["ceiling"][Timed(*case)])

    track_vs_ceiling.unit = "x ceiling"


class Step(Others):
    """The main rules in float32."""

    params, version = (common.MAIN, common.SIZES, common.THREADS), "2"

    def setup_cache(self):
        """Every case once in each process."""
        return common.beside_both([Timed(*case) for case in product(*Step.params)])

    setup_cache.timeout = 3600

    def track_vs_golden(self, found, *case):
        """Time over that of the first release, interleaved in one process on the same arrays."""
        return common.ratios(found["golden"][Timed(*case)])

    track_vs_golden.unit, track_vs_golden.params = "x first release", (*params[:2], [1])


class Formats(Others):
    """One rule with one state and one with two, in every other format."""

    params = (common.two_or("momentum", "adam"), common.FEW_SIZES, [1], common.OTHER_FORMATS)
    param_names, version = [*Others.param_names, "format"], "2"

    def setup_cache(self):
        """Every case once in each process."""
        return {"ceiling": common.beside("ceiling", [Timed(*case) for case in product(*Formats.params)])}

    setup_cache.timeout = 3600


class Large:
    """A vector of 1e8 elements, the 161 tensors of ResNet-50, and the 148 of GPT-2 small."""

    params, param_names, version, timeout = (common.MAIN, common.LARGE, common.THREADS), ["rule", "tensors",
                                                                                          "threads"], "1", 600

    def track_vs_ceiling(self, *case):
        """Time over that of a loop that moves the same bytes in one vector, interleaved in one process: no spread."""
        return common.beside_ceiling_once(Timed(*case))

    track_vs_ceiling.unit = "x ceiling"


class Clipped:
    """Adam with ``clip_norm``: one more pass over the gradients."""

    params = (common.FEW_SIZES, common.THREADS, ["f32"] if common.QUICK else ["f32", "bf16"])
    param_names, version, timeout = ["n", "threads", "format"], "1", 600

    def track_over_plain(self, n, threads, format):
        """Time over that of the step without it, interleaved in one process."""
        clipped, plain = (common.warm(common.make("adam", [(n,)], threads, format)) for _ in range(2))
        run = partial(clipped.opt.step, clipped.grads, clip_norm=1.0)
        return round(common.abba(run, plain.step, clock_of(threads))[2], 3)

    track_over_plain.unit = "x plain step"
