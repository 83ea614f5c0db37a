"""Times of two versions, compared by interleaving: the import, compiling, and the duet of their steps."""
import os
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ..steps import STORAGE, Step
from . import cold, duet, imports
from .facts import two_of
from .figures import Suspect
from .verdict import Finding, Judged, judge

SIZES, LARGE = (1_000, 100_000, 1_000_000), 10_000_000
SECONDS = 0.2                            # of one step in one process
# processes that look at every step; others that look at what seemed slower, so many times
FIRST, AGAIN, TIMES = 3, 12, 2
# median of each look; median and lower end of the interval of all looks but the first
SEEMS, SLOWER, SURELY = 1.02, 1.03, 1.01
# On several threads: in place of `SEEMS` and `SLOWER`, and how many processes must tell a difference as large, either
# way. Where neighbours never leave a core, both versions are as fast as on one thread
TOGETHER, TELLING = 1.06, 8
MOST = 12                                # steps that are looked at again at a time, the worst first
IMPORTS, IMPORTS_AGAIN = 30, 90          # quartets
SEEMS_LATER, LATER, SURELY_LATER = 1.05, 1.10, 1.03  # of import and compiling


def threads() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def steps_of(rules: Sequence[str]) -> list[Step]:
    """What the duet times: every rule at three sizes; formats, threads, lists and other ways for one or two."""
    two = two_of(rules)
    last = two[-1]
    steps = [*(Step(rule, n) for rule in rules for n in SIZES), *(Step(rule, LARGE) for rule in two)]
    steps += [Step(last, n, 1, format) for format in STORAGE if format != "f32" for n in SIZES[1:]]
    steps += [Step(last, n, threads()) for n in (100_000, 300_000, 1_000_000) if threads() > 1]
    steps += [Step(last, 8), Step(last, 8, way="schedule"), Step(last, "200 x 1,000"),
              Step(last, "148 x 8", way="new gradients"), Step(last, "148 x 8", way="construct")]
    return steps + [Step(last, n, 1, format, "clip_norm") for format in ("f32", "bf16") for n in SIZES[:2]]


def _bounds(step: Step) -> tuple[float, float]:
    return (SEEMS, SLOWER) if step.threads == 1 else (TOGETHER, TOGETHER)


def confirmed(folders: Sequence[Path], steps: Sequence[Step], cache: Path) -> dict[Step,
                                                                                   tuple[Judged, list[duet.Pair]]]:
    """Those suspects that are slower every time, and by all measurements, in processes with no part in that."""
    found: dict[Step, list[duet.Pair]] = {step: [] for step in steps}
    for k in range(TIMES):
        looked = _look(folders, list(found), AGAIN, cache, seed=1000*(k + 1)) if found else {}
        found = {step: found[step] + pairs for step, pairs in looked.items() if _median(pairs) > _bounds(step)[0]}
    judged = {step: (judge([pair.ratio for pair in pairs], _bounds(step)[1], SURELY), pairs)
              for step, pairs in found.items()}
    return {step: of for step, of in judged.items() if of[0].slower and (step.threads == 1 or len(of[1]) >= TELLING)}


def _look(folders: Sequence[Path], steps: Sequence[Step], processes: int, cache: Path,
          seed: int = 0) -> dict[Step, list[duet.Pair]]:
    """The pairs of a duet, on several threads those of the least seconds, where they tell a difference."""
    found = duet.duet(folders, steps, processes, SECONDS, cache, seed=seed)
    for step in (step for step in found if step.threads > 1):
        least = [duet.Pair(*pair.least, pair.least[1]/pair.least[0]) for pair in found[step]]
        found[step] = [pair for pair in least if not 1/TOGETHER <= pair.ratio <= TOGETHER]
    return found


def _median(pairs: Sequence[duet.Pair]) -> float:
    return statistics.median(pair.ratio for pair in pairs) if pairs else 1.0


def suspect(step: Step, judged: Judged, pairs: Sequence[duet.Pair], cache: Path) -> Suspect:
    """A step that is slower."""
    base, head = (f"{statistics.median(getattr(pair, side) for pair in pairs)*1e6:.4g} us" for side in ("base", "head"))

    def again(folders: Sequence[Path]) -> bool:  # known to be slower: is it here already, or does that come later?
        duet.prepare(folders, [step], cache)
        return _median(_look(folders, [step], AGAIN, cache)[step]) > (1 + judged.median)/2
    finding = Finding(step.benchmark, str(step), base, head, str(judged), judged.median)
    return Suspect(finding, (step.rule, step.format), again)


class Duets(NamedTuple):
    """The first median of every step, the steps that are slower, and how many suspects were looked at again or not."""

    medians: dict[Step, float]
    slower: list[Suspect]
    again: int
    left: int


def duets(folders: Sequence[Path], steps: Sequence[Step], cache: Path) -> Duets:
    """Look at every step, and at suspects again, `MOST` at a time, until some are slower or none is left."""
    medians = {step: _median(pairs) for step, pairs in _look(folders, steps, FIRST, cache).items()
               if pairs or step.threads > 1}
    seem = [step for step, median in medians.items() if median > _bounds(step)[0]]
    worst = sorted(seem, key=lambda step: -medians[step])
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
    finding = Finding("bench_start.Import.track_import", "import fastopt", base, head, str(judged), judged.median)
    return judged, [Suspect(finding, None, lambda folders: _imports(folders, IMPORTS_AGAIN)[0].slower)]*judged.slower


def compiling_of(folders: Sequence[Path], steps: Sequence[Step], cache: Path) -> tuple[Judged, list[Suspect]]:
    """The ratio of what compiling takes, on an empty cache, and compiling itself where that is slower."""
    def anew(folders: Sequence[Path]) -> tuple[Judged, list[tuple[float, float]]]:
        pairs: list[tuple[float, float]] = []
        for k in range(TIMES):
            with tempfile.TemporaryDirectory() as empty:
                pairs += cold.pairs(folders, steps, Path(empty), seed=1 + k)
        return judge([head/base for base, head in pairs], LATER, SURELY_LATER), pairs
    first = judge([head/base for base, head in cold.pairs(folders, steps, cache)], LATER, SURELY_LATER)
    if first.median <= SEEMS_LATER:
        return first, []
    judged, pairs = anew(folders)
    base, head = (f"{sum(side):.3g} s" for side in zip(*pairs, strict=True))
    case = f"{len(pairs)//TIMES} kernels, {TIMES} times"
    finding = Finding("bench_start.Compile.track_cold", case, base, head, str(judged), judged.median)
    return judged, [Suspect(finding, None, lambda folders: anew(folders)[0].slower)]*judged.slower
