"""Facts of a version, the same in every run, by benchmark: ``python -m benchmarks.gate.facts FOLDER``."""
import json
import sys
import tracemalloc
from pathlib import Path
from types import ModuleType

from ..steps import FORMATS, QUICK, Case, Step, arrays, optimizer
from . import inside
from .versions import load, worker

WAYS = ("step", "clip_norm")
N = 100_000  # elements: a temporary array would be 400,000 bytes


def python_bytes(package: ModuleType, rule: str, way: str) -> int:
    """Peak of what Python and NumPy allocate during a step."""
    step = Step(rule, N, way=way)
    run = step.of(package, *arrays(step.shapes, step.format))
    tracemalloc.start()
    try:
        run()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def state_bytes_per_element(package: ModuleType, rule: str, format: str) -> float:
    """What a format keeps beside a parameter."""
    params, grads = arrays([(1_000,)], format)
    case = Case(optimizer(package, rule, params, 1, format), grads)
    return case.state_bytes/case.elements


def figures(folder: str) -> dict[str, dict[str, float]]:
    """{benchmark: {case: figure}}."""
    package = load(folder, "fastopt_facts")
    rules = measured(package)
    python = {f"{rule}, {way}": python_bytes(package, rule, way) for rule in rules for way in WAYS}
    stored = {f"{rule}, {format}": state_bytes_per_element(package, rule, format)
              for rule in rules for format in FORMATS}
    return {"bench_memory.Peak.track_python": python, "bench_memory.Bytes.track_state": stored}


def measured(package: ModuleType) -> list[str]:
    """The rules of a version; in the quick setting two of them."""
    rules = list(inside.optimizers(package))
    return [rule for rule in rules if not QUICK or rule in ("momentum", "adam")]


def rules(folder: Path) -> list[str]:
    """The rules of a version, by a fresh process that measures nothing."""
    return worker("gate.facts", str(folder), "rules")


def table(folder: Path, cache: Path) -> dict[str, dict[str, float]]:
    """`figures`, in a fresh process."""
    return worker("gate.facts", str(folder), cache=cache/"facts")


if __name__ == "__main__":
    print(json.dumps(figures(sys.argv[1]) if len(sys.argv) == 2 else measured(load(sys.argv[1], "fastopt_facts"))))
