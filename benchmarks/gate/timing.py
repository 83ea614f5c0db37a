"""Times of two versions, compared by interleaving: the import, and the duet of their steps."""
import os
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ..steps import FORMATS, Step
from . import duet, figures, imports
from .figures import Suspect
from .verdict import Finding, Judged, judge

SIZES = (1_000, 100_000, 1_000_000, 10_000_000)
SECONDS = 0.2                            # of one step in one process
# processes that look at every step; others that look at what seemed slower, so many times
FIRST, AGAIN, TIMES = 3, 12, 2
# median of each look; median and lower end of the interval of all looks but the first
SEEMS, SLOWER, SURELY = 1.02, 1.03, 1.01
MOST = 12                                # steps that are looked at again at a time, the worst first
IMPORTS, IMPORTS_AGAIN = 30, 90          # quartets
SEEMS_LATER, LATER, SURELY_LATER = 1.05, 1.10, 1.03


def threads() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def steps_of(rules: Sequence[str]) -> list[Step]:
    """What the duet times: every rule at every size; formats, threads, lists and other ways for one rule or two."""
    steps, two = [Step(rule, n) for rule in rules for n in SIZES], figures.two_of(rules)
    steps += [Step(rule, n, 1, format) for rule in two for format in FORMATS if format != "f32"
              for n in (100_000, 10_000_000)]
    steps += [Step(rule, n, threads()) for rule in two for n in (1_000_000, 10_000_000) if threads() > 1]
    last = two[-1]
    steps += [Step(last, 8), Step(last, "200 x 1,000"), Step(last, "ResNet-50"),
              Step(last, "148 x 8", way="new gradients"), Step(last, "148 x 8", way="construct")]
    return steps + [Step(last, n, 1, format, "clip_norm") for format in ("f32", "bf16") for n in (1_000, 100_000)]


def confirmed(folders: Sequence[Path], steps: Sequence[Step], cache: Path) -> dict[Step,
                                                                                   tuple[Judged, list[duet.Pair]]]:
    """Those suspects that are slower every time, and by all measurements, in processes with no part in that."""
    found: dict[Step, list[duet.Pair]] = {step: [] for step in steps}
    for k in range(TIMES):
        looked = duet.duet(folders, list(found), AGAIN, SECONDS, cache, seed=1000*(k + 1)) if found else {}
        found = {step: found[step] + pairs for step, pairs in looked.items() if _median(pairs) > SEEMS}
    judged = {step: (judge([pair.ratio for pair in pairs], SLOWER, SURELY), pairs) for step, pairs in found.items()}
    return {step: of for step, of in judged.items() if of[0].slower}


def _median(pairs: Sequence[duet.Pair]) -> float:
    return statistics.median(pair.ratio for pair in pairs)


def suspect(step: Step, judged: Judged, pairs: Sequence[duet.Pair], cache: Path) -> Suspect:
    """A step that is slower."""
    base, head = (f"{statistics.median(getattr(pair, side) for pair in pairs)*1e6:.4g} us" for side in ("base", "head"))

    def again(folders: Sequence[Path]) -> bool:  # known to be slower: is it here already, or does that come later?
        duet.prepare(folders, [step], cache)
        return _median(duet.duet(folders, [step], AGAIN, SECONDS, cache)[step]) > (1 + judged.median)/2
    return Suspect(Finding(step.benchmark, str(step), base, head, str(judged)), (step.rule, step.format), again)


class Duets(NamedTuple):
    """The first median of every step, the steps that are slower, and how many suspects were looked at again or not."""

    medians: dict[Step, float]
    slower: list[Suspect]
    again: int
    left: int


def duets(folders: Sequence[Path], steps: Sequence[Step], cache: Path) -> Duets:
    """Look at every step, and at suspects again, `MOST` at a time, until some are slower or none is left."""
    medians = {step: _median(pairs) for step, pairs in duet.duet(folders, steps, FIRST, SECONDS, cache).items()}
    worst = sorted((step for step in steps if medians[step] > SEEMS), key=lambda step: -medians[step])
    slower: list[Suspect] = []
    k = 0
    while k < len(worst) and not slower:
        slower = [suspect(step, *found, cache) for step, found in confirmed(folders, worst[k:k + MOST], cache).items()]
        k = min(k + MOST, len(worst))
    return Duets(medians, slower, k, len(worst) - k)


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
