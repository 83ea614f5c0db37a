"""Two callables on a machine that others use too: only their ratio, from interleaved runs, is worth anything."""
import gc
import random
import statistics
from collections.abc import Callable
from time import perf_counter

Run = Callable[[], object]
Clock = Callable[[], float]


def seconds(run: Run, calls: int = 1, clock: Clock = perf_counter) -> float:
    """Time of one call, as the mean of some."""
    start = clock()
    for _ in range(calls):
        run()
    return (clock() - start)/calls


def batch(run: Run, target: float = 1e-3) -> int:
    """How many calls take about `target` seconds."""
    return max(1, int(target/max(1e-9, min(seconds(run) for _ in range(3)))))


def quartets(runs: tuple[Run, Run], duration: float, chance: random.Random, alike: bool = False,
             clock: Clock = perf_counter) -> list[tuple[float, float]]:
    """Seconds of each, quartet by quartet: ABBA or BAAB, the order drawn by chance. With three in turn, the place decides who finds the
    caches warm, which moved ratios by 10 %; a fixed order favours one side.

    `alike`: both are called equally often at a time. The first call after the other's finds cold caches: of 1 call and of 10 it is
    another part, which made up to 1.9 of a ratio of 1.
    """
    calls, found = [batch(run) for run in runs], []
    calls = [max(calls)]*2 if alike else calls
    end = perf_counter() + duration
    gc.collect()
    gc.disable()
    try:
        while len(found) < 3 or (perf_counter() < end and len(found) < 400):
            order = (0, 1, 1, 0) if chance.random() < 0.5 else (1, 0, 0, 1)
            times = [(k, seconds(runs[k], calls[k], clock)) for k in order]
            first, second = (sum(t for k, t in times if k == which)/2 for which in (0, 1))
            found.append((first, second))
    finally:
        gc.enable()
    return found


def abba(run: Run, other: Run, duration: float, clock: Clock = perf_counter) -> tuple[float, float, float]:
    """Median seconds of each, and the median ratio run/other."""
    pairs = quartets((run, other), duration, random.Random(0), clock=clock)
    ours, theirs = (statistics.median(side) for side in zip(*pairs, strict=True))
    return ours, theirs, statistics.median(a/b for a, b in pairs)
