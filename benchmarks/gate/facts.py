"""Facts of a version, the same in every run, by benchmark: ``python -m benchmarks.gate.facts FOLDER``."""
import json
import sys
import tracemalloc
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType

from ..steps import QUICK, STORAGE, Case, Step, arrays, optimizer
from . import inside
from .versions import ALONE, load, worker

WAYS = ("step", "clip_norm")
N = 100_000  # elements: a temporary array would be 400,000 bytes


def _peak(run: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        run()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def python_bytes(package: ModuleType, rule: str, way: str) -> int:
    """Peak of what Python and NumPy allocate during a step."""
    step = Step(rule, N, way=way)
    return _peak(step.of(package, *arrays(step.shapes, step.format)))


def made_bytes(package: ModuleType, rule: str, format: str) -> float:
    """The same while an optimizer is made, per element: its states and little else."""
    make = partial(optimizer, package, rule, arrays([(N,)], format)[0], 1, format)
    make()  # what the first one makes for all is not counted
    return round(_peak(make)/N, 2)


def state_bytes_per_element(package: ModuleType, rule: str, format: str) -> float:
    """What a format keeps beside a parameter."""
    params, grads = arrays([(1_000,)], format)
    case = Case(optimizer(package, rule, params, 1, format), grads)
    return case.state_bytes/case.elements


def figures(folder: str) -> dict[str, dict[str, float]]:
    """{benchmark: {case: figure}}."""
    package = load(folder, ALONE)
    rules = measured(package)
    python = {f"{rule}, {way}": python_bytes(package, rule, way) for rule in two_of(rules) for way in WAYS}
    cases = {f"{rule}, {format}": (package, rule, format) for rule in rules for format in STORAGE
             if inside.stores(package, STORAGE[format][1])}
    stored = {case: state_bytes_per_element(*of) for case, of in cases.items()}
    return {"bench_memory.Peak.track_python": python,
            "bench_memory.Bytes.track_state": stored,
            "bench_memory.Bytes.track_made": {case: made_bytes(*of) for case, of in cases.items()}}


def two_of(rules: Sequence[str]) -> list[str]:
    """A rule with one state and one with two, for what does not differ from rule to rule."""
    return [rule for rule in ("momentum", "adam") if rule in rules] or list(rules[:1])


def measured(package: ModuleType) -> list[str]:
    """The rules of a version; in the quick setting two of them."""
    rules = list(inside.optimizers(package))
    return two_of(rules) if QUICK else rules


def rules(folder: Path) -> list[str]:
    """The rules of a version, by a fresh process that measures nothing."""
    return worker("gate.facts", str(folder), "rules")


def table(folder: Path, cache: Path) -> dict[str, dict[str, float]]:
    """`figures`, in a fresh process."""
    return worker("gate.facts", str(folder), cache=cache/ALONE)


if __name__ == "__main__":
    print(json.dumps(figures(sys.argv[1]) if len(sys.argv) == 2 else measured(load(sys.argv[1], ALONE))))
