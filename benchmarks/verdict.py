"""What figures of two versions say: those that never move by their growth, ratios of times by an interval that assumes no distribution."""
import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

CONFIDENCE = 0.99


class Finding(NamedTuple):
    """A figure of a benchmark that got worse."""

    benchmark: str
    case: str
    base: str
    head: str
    why: str

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
    return [Finding(benchmark, case, f"{base[case]:g}", f"{x:g}", f"x {x/base[case]:.3f}" if base[case] else "was none")
            for case, x in head.items() if case in base and not may.passed(base[case], x)]


class Judged(NamedTuple):
    """The median of some ratios head/base, and the interval in which the true median lies."""

    median: float
    low: float
    high: float
    slower: bool

    def __str__(self) -> str:
        return f"x {self.median:.3f} [{self.low:.3f}, {self.high:.3f}]"


def interval(ratios: Sequence[float], confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Two order statistics that hold the true median between them at least so often, whatever the distribution; all, where too few."""
    ordered, n = sorted(ratios), len(ratios)
    outside, k = 2*0.5**n, 0  # of the interval from the k-th smallest to the k-th largest, from 0
    while outside + 2*math.comb(n, k + 1)*0.5**n <= 1 - confidence and k + 1 < n//2:
        k += 1
        outside += 2*math.comb(n, k)*0.5**n
    return ordered[k], ordered[n - 1 - k]


def judge(ratios: Sequence[float], slower: float, surely: float) -> Judged:
    """Slower, if the median is above one bound and the interval above another."""
    median, (low, high) = statistics.median(ratios), interval(ratios)
    return Judged(median, low, high, median > slower and low > surely)
