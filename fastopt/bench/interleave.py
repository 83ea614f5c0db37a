"""How two things are timed against each other on a machine that others use too: in turn, and only their ratio counts.

``fastopt bench`` uses it, and the benchmark suite, which loads this file alone: it needs the standard library only.
"""
import gc
import math
import random
import statistics
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any

Clock = Callable[[], float]
Pairs = list[tuple[float, float]]
CONFIDENCE = 0.99
MOST = 400  # quartets


def seconds(run: Callable[[], Any], calls: int = 1, clock: Clock = perf_counter) -> float:
    """Time of one call, as the mean of some."""
    start = clock()
    for _ in range(calls):
        run()
    return (clock() - start)/calls


def batch(run: Callable[[], Any], target: float = 1e-3) -> int:
    """How many calls take about `target` seconds."""
    return max(1, int(target/max(1e-9, min(seconds(run) for _ in range(3)))))


def quartets(pair: Sequence[Any], duration: float, timed: Callable[[Any, int], float] = seconds,
             calls: Sequence[int] | None = None, chance: random.Random | None = None, least: int = 3) -> Pairs:
    """Seconds of each of two things, quartet by quartet: ABBA or BAAB, the order drawn by chance. With three in turn,
    the place decides who finds the caches warm, which moved ratios by 10 %; a fixed order favours one side.

    ``timed(thing, calls)`` gives the seconds of one call; `calls` are how many each is called at a time, by default
    what takes a millisecond.
    """
    found: Pairs = []
    calls, chance = calls or [batch(run) for run in pair], chance or random.Random(0)
    end = perf_counter() + duration
    gc.collect()
    gc.disable()
    try:
        while len(found) < least or (perf_counter() < end and len(found) < MOST):
            order = (0, 1, 1, 0) if chance.random() < 0.5 else (1, 0, 0, 1)
            times = [(k, timed(pair[k], calls[k])) for k in order]
            first, second = (sum(t for k, t in times if k == which)/2 for which in (0, 1))
            found.append((first, second))
    finally:
        gc.enable()
    return found


def medians(pairs: Pairs) -> tuple[float, float, float]:
    """Median seconds of each, and the median ratio first/second."""
    first, second = (statistics.median(side) for side in zip(*pairs, strict=True))
    return first, second, statistics.median(a/b for a, b in pairs)


def interval(ratios: Sequence[float], confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Two order statistics that hold the median between them so often, whatever the distribution; of few, the ends."""
    ordered, n = sorted(ratios), len(ratios)
    outside, k = 2*0.5**n, 0  # of the interval from the k-th smallest to the k-th largest, from 0
    while outside + 2*math.comb(n, k + 1)*0.5**n <= 1 - confidence and k + 1 < n//2:
        k += 1
        outside += 2*math.comb(n, k)*0.5**n
    return ordered[k], ordered[n - 1 - k]
