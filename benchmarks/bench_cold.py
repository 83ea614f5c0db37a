"""Steps with empty caches, as they are after a forward and a backward pass; bench_step has those in cache.

A sweep before every timed step reads a buffer of twice the last-level cache. It reads only, so that the step has no
foreign lines to write back, and it is not timed. It also throws out page tables, the kernel and Python itself, which
real training does too. Virtual machines may report a smaller cache than the processor has. On ours, which tells of 32
MB, Adam on 100,000 elements took 163 us after a sweep over 32 MB, 182 after 64, 211 after 128, and 213 after 256: the
ratio to the ceiling, which pays the same, depends on it less (1.64 to 1.76).
"""
from fastopt.bench.cpu import cache_bytes

from . import common
from .gate.versions import ROOT

LEAST, MOST = (1, 1 << 20) if common.QUICK else (64 << 20, 512 << 20)  # bytes
PROGRAM = """
import statistics, sys, time
import numpy as np
import fastopt
sys.path.append(%r)
from benchmarks.gate.harness import quartets
from benchmarks.steps import Step, arrays

buffer = np.ones(%d//8, np.int64)        # ones: pages that nobody wrote to are all one page
timed = Step(%r, %d, %d)
pair = timed.of(fastopt, *arrays(timed.shapes, "f32")), timed.ceiling(fastopt, *arrays(timed.shapes, "f32"))

def emptied(step, calls):
    buffer.max()
    start = time.perf_counter()
    step()
    return time.perf_counter() - start

pairs = quartets(pair, %r, emptied, (1, 1))
print(statistics.median({"us": ours*1e6, "ratio": ours/ceiling}[%r] for ours, ceiling in pairs))
"""


def swept_bytes() -> int:
    return min(max(2*cache_bytes(), LEAST), MOST)


class Emptied:
    """A step that finds none of its memory in cache."""

    params = (common.two_or("momentum", "nesterov", "adam"), [n for n in common.SIZES if n <= 1_000_000], [1])
    param_names, version = ["rule", "n", "threads"], "1"

    def measured(self, figure, rule, n, threads):
        return common.samples(PROGRAM % (str(ROOT), swept_bytes(), rule, n, threads, common.SECONDS, figure),
                              str(common.cache()))

    def track_vs_ceiling(self, *case):
        """Time over that of a loop that moves the same bytes, both after a sweep; a median from each process."""
        return self.measured("ratio", *case)

    def track_microseconds(self, *case):
        """The step alone; one median from each fresh process."""
        return self.measured("us", *case)

    track_vs_ceiling.unit, track_microseconds.unit = "x ceiling", "us"
