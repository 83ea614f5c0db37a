"""Times of two versions, compared by interleaving: the import, and the duet of their steps."""
import os
import statistics
from collections.abc import Sequence
from pathlib import Path

from . import duet, figures, imports
from .figures import Suspect
from .steps import FORMATS, Step
from .verdict import Finding, Judged, judge

SIZES = (1_000, 100_000, 1_000_000, 10_000_000)
SECONDS = 0.2                            # of one step in one process
FIRST, AGAIN, TIMES = 3, 12, 2           # processes that look at every step; others that look at what seemed slower, so many times
SEEMS, SLOWER, SURELY = 1.02, 1.03, 1.01  # median of the first; median and lower end of the interval of the others, each time
MOST = 12                                # steps that are measured again, the worst of them
IMPORTS, IMPORTS_AGAIN = 30, 90          # quartets
SEEMS_LATER, LATER, SURELY_LATER = 1.05, 1.10, 1.03


def threads() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def steps_of(rules: Sequence[str]) -> list[Step]:
    """What the duet times: every rule at every size; formats, threads, lists of tensors and other ways for one rule or two."""
    steps, two = [Step(rule, n) for rule in rules for n in SIZES], figures.two_of(rules)
    steps += [Step(rule, n, 1, format) for rule in two for format in FORMATS if format != "f32" for n in (100_000, 10_000_000)]
    steps += [Step(rule, n, threads()) for rule in two for n in (1_000_000, 10_000_000) if threads() > 1]
    last = two[-1]
    steps += [Step(last, 8), Step(last, "200 x 1,000"), Step(last, "ResNet-50"), Step(last, "148 x 8", way="new gradients"),
              Step(last, "148 x 8", way="construct")]
    return steps + [Step(last, n, 1, format, "clip_norm") for format in ("f32", "bf16") for n in (1_000, 100_000)]


def confirmed(folders: Sequence[Path], steps: Sequence[Step], cache: Path) -> dict[Step, tuple[Judged, list[duet.Pair]]]:
    """Those steps, of some that seemed slower, that others find slower every time: processes that had no part in the suspicion, which
    chance may have caused. (Of two threads beside a busy neighbour one look alone would find 1 of 300 without cause.)"""
    found: dict[Step, list[duet.Pair]] = {step: [] for step in steps}
    for k in range(TIMES):
        looked = duet.duet(folders, list(found), AGAIN, SECONDS, cache, seed=1000*(k + 1)) if found else {}
        found = {step: found[step] + pairs for step, pairs in looked.items() if _judged(pairs).slower}
    return {step: (_judged(pairs), pairs) for step, pairs in found.items()}


def _judged(pairs: Sequence[duet.Pair]) -> Judged:
    return judge([pair.ratio for pair in pairs], SLOWER, SURELY)


def suspect(step: Step, judged: Judged, pairs: Sequence[duet.Pair], cache: Path) -> Suspect:
    """A step that is slower."""
    base, head = (f"{statistics.median(getattr(pair, side) for pair in pairs)*1e6:.4g} us" for side in ("base", "head"))

    def again(folders: Sequence[Path]) -> bool:
        duet.prepare(folders, [step], cache)
        return bool(confirmed(folders, [step], cache))
    return Suspect(Finding(step.benchmark, str(step), base, head, str(judged)), (step.rule, step.format), again)


def duets(folders: Sequence[Path], steps: Sequence[Step], cache: Path) -> tuple[dict[Step, float], list[Suspect], int]:
    """The first median of every step, the steps that are slower, and how many were measured again."""
    first = duet.duet(folders, steps, FIRST, SECONDS, cache)
    medians = {step: statistics.median(pair.ratio for pair in pairs) for step, pairs in first.items()}
    worst = sorted((step for step in steps if medians[step] > SEEMS), key=lambda step: -medians[step])[:MOST]
    return medians, [suspect(step, *found, cache) for step, found in confirmed(folders, worst, cache).items()], len(worst)


def _imports(folders: Sequence[Path], count: int) -> tuple[Judged, list[tuple[float, float]]]:
    pairs = imports.pairs(folders, count)
    return judge([head/base for base, head in pairs], LATER, SURELY_LATER), pairs


def imports_of(folders: Sequence[Path]) -> tuple[Judged, list[Suspect]]:
    """The import's ratio, and the import itself where it is slower."""
    judged, pairs = _imports(folders, IMPORTS)
    if judged.median <= SEEMS_LATER:
        return judged, []
    judged, pairs = _imports(folders, IMPORTS_AGAIN)
    base, head = (f"{1e3*statistics.median(side):.4g} ms" for side in zip(*pairs, strict=True))
    finding = Finding("bench_start.Import.track_import", "import fastopt", base, head, str(judged))
    return judged, [Suspect(finding, None, lambda folders: _imports(folders, IMPORTS_AGAIN)[0].slower)]*judged.slower
