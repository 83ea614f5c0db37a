"""Steps with empty caches, as they are after a forward and a backward pass; bench_step has those in cache.

A sweep before every timed step reads a buffer of twice the last-level cache. It reads only, so that the step has no
foreign lines to write back, and it is not timed. It also throws out page tables, the kernel and Python itself, which
real training does too. Virtual machines may report a smaller cache than the processor has. On ours, which tells of 32
MB, Adam on 100,000 elements took 163 us after a sweep over 32 MB, 182 after 64, 211 after 128, and 213 after 256: the
ratio to the ceiling, which pays the same, depends on it less (1.64 to 1.76).
"""
import statistics
from itertools import product
from time import perf_counter

import numpy as np

import fastopt
from fastopt.bench.cpu import cache_bytes

from . import common, steps
from .common import Step as Timed
from .gate.harness import quartets

LEAST, MOST = (1, 1 << 20) if common.QUICK else (64 << 20, 512 << 20)  # bytes


def swept_bytes() -> int:
    return min(max(2*cache_bytes(), LEAST), MOST)


def measured(cases):
    """The median microseconds of each step, and the median of its time over the ceiling's."""
    buffer, found = np.ones(swept_bytes()//8, np.int64), []  # ones: pages that nobody wrote to are all one page

    def emptied(step, calls):
        buffer.max()
        start = perf_counter()
        step()
        return perf_counter() - start

    for case in cases:
        timed = Timed(*case)
        shared = steps.arrays(timed.shapes, "f32")
        pairs = quartets((timed.of(fastopt, *shared), timed.ceiling(fastopt, *shared)), common.SECONDS, emptied, (1, 1))
        found.append((statistics.median(ours*1e6 for ours, _ in pairs), statistics.median(a/b for a, b in pairs)))
    return found


class Emptied:
    """A step that finds none of its memory in cache."""

    params = (common.two_or("momentum", "nesterov", "adam"),
              [1_000] if common.QUICK else [1_000, 100_000, 1_000_000], [1])
    param_names, version, timeout = ["rule", "n", "threads"], "1", 600

    def setup_cache(self):
        """Every case once in each process."""
        cases = list(product(*Emptied.params))
        found = zip(*(common.apart(measured, cases) for _ in range(common.PROCESSES)), strict=True)
        return dict(zip(cases, found, strict=True))

    setup_cache.timeout = 1800

    def track_vs_ceiling(self, found, *case):
        """Time over that of a loop that moves the same bytes, both after a sweep; a median from each process."""
        return common.each([ratio for _, ratio in found[case]])

    def track_microseconds(self, found, *case):
        """The step alone; one median from each fresh process."""
        return common.each([us for us, _ in found[case]])

    track_vs_ceiling.unit, track_microseconds.unit = "x ceiling", "us"
