"""What figures of two versions say: exact ones by growth, ratios of times by an interval for any distribution."""
import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

from .harness import interval


class Finding(NamedTuple):
    """A figure of a benchmark that got worse."""

    benchmark: str
    case: str
    base: str
    head: str
    why: str
    ratio: float  # head/base; infinite where there was none

    def __str__(self) -> str:
        return f"{self.benchmark} ({self.case}): {self.base} -> {self.head}, {self.why}"


class Growth(NamedTuple):
    """How much a figure may rise: a part of it, and so many units beside."""

    part: float = 0.0
    units: float = 0.0

    def passed(self, base: float, head: float) -> bool:
        return head <= base*(1 + self.part) + self.units


def risen(benchmark: str, base: dict[str, float], head: dict[str, float], may: Growth) -> list[Finding]:
    """The cases, of those that both versions have, whose figure rose by more than it may."""
    return [Finding(benchmark, case, f"{base[case]:g}", f"{x:g}",
                    *((f"x {x/base[case]:.3f}", x/base[case]) if base[case] else ("was none", math.inf)))
            for case, x in head.items() if case in base and not may.passed(base[case], x)]


class Judged(NamedTuple):
    """The median of some ratios head/base, and the interval in which the true median lies."""

    median: float
    low: float
    high: float
    slower: bool

    def __str__(self) -> str:
        return f"x {self.median:.3f} [{self.low:.3f}, {self.high:.3f}]"


def judge(ratios: Sequence[float], slower: float, surely: float) -> Judged:
    """Slower, if the median is above one bound and the interval above another."""
    median, (low, high) = statistics.median(ratios), interval(ratios)
    return Judged(median, low, high, median > slower and low > surely)
