"""The figures of two versions that are the same in every run, compared: machine code, retired instructions, memory."""
from collections import ChainMap
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from ..machine_code import cpu_code
from ..steps import FORMATS, Step
from . import facts, retired
from .facts import two_of
from .verdict import Finding, Growth, risen

# Vectors of 512 bits, and of 256 for what most people store; Every rule in
# float32, in other formats one with one state, with two, and with four: a format's code is the same in all rules
KERNELS = tuple(f"{rule}, {format}" for format in FORMATS if format != "f32"
                for rule in ("momentum", "adam", "adan", "look-ahead", "squares"))
TARGETS = {"znver4": ("f32", *KERNELS), "x86-64-v3": ("f32", "adam, bf16, bf16 state", "adan, bf16, bf16 state")}
CODE = {  # figure: the benchmark that tracks it, and what it may rise by
    "instructions": ("track_instructions", Growth(part=0.005)), "accesses": ("track_accesses", Growth(part=0.005)),
    "lanes_lost": ("track_lanes_lost", Growth()),
    # of a trip, however often the loop is unrolled: what counts is that there were none
    "float64": ("track_float64", Growth(part=1.0)), "calls": ("track_calls", Growth())}
INSTRUCTIONS = {"call": Growth(part=0.015, units=300), "element": Growth(part=0.02)}  # processes seldom differ by half
FACTS = {"bench_memory.Peak.track_python": Growth(units=512), "bench_memory.Bytes.track_state": Growth(),
         "bench_memory.Bytes.track_made": Growth(part=0.01, units=0.2)}


class Suspect(NamedTuple):
    """A finding, of which rule and format it is, and how to look at it alone in two other versions."""

    finding: Finding
    of: tuple[str, str] | None
    again: Callable[[Sequence[Path]], bool]
    trade: bool = False  # whether more of it may be a good trade


def in_parallel(measure: Callable[[Any], Any], parts: Sequence[Any]) -> list[Any]:
    """What is measured of some parts (the two versions, or halves of the cases), each on a core of its own."""
    with ThreadPoolExecutor() as pool:
        return list(pool.map(measure, parts))


def halves(steps: Sequence[Step]) -> list[Sequence[Step]]:
    """Two processes' work."""
    return [half for half in (steps[::2], steps[1::2]) if half]


def _code_suspect(finding: Finding) -> Suspect:
    kernel, target = finding.case.rsplit(", ", 1)
    rule, format = kernel.split(", ", 1)

    def again(folders: Sequence[Path]) -> bool:
        return any(s.finding[:2] == finding[:2] for s in code(folders, {target: [kernel]})[1])
    return Suspect(finding, (rule, format), again, trade=finding.benchmark.endswith(("instructions", "accesses")))


def code(folders: Sequence[Path], targets: Mapping[str, Sequence[str]] = TARGETS) -> tuple[int, list[Suspect]]:
    """How many figures of machine code were compared, those that got worse, and {target: kernels, or storages}."""
    compared, found = 0, []
    for target, only in targets.items() if cpu_code.X86 else ():
        base, head = in_parallel(lambda folder, of=(target, only): cpu_code.table(folder, *of), folders)
        for name, (benchmark, may) in CODE.items():
            sides = [{f"{kernel}, {target}": of[name] for kernel, of in side.items()} for side in (base, head)]
            compared += len(sides[0].keys() & sides[1].keys())
            found += risen(f"bench_cpu_code.{benchmark}", *sides, may)
    return compared, list(map(_code_suspect, found))


def counted_steps(rules: Sequence[str]) -> list[Step]:
    """What instructions are counted of: the step of each rule, and other ways of one."""
    last = two_of(rules)[-1]
    ways = [Step(last, retired.FEW, way="clip_norm"), Step(last, "148 x 8", way="new gradients"),
            Step(last, 1, way="schedule")]
    return [*(Step(rule, retired.FEW) for rule in rules), *ways]


def _counted(folders: Sequence[Path], steps: Sequence[Step], cache: Path) -> tuple[int, list[Finding]]:
    def counts(half: Sequence[Step]) -> tuple[dict, dict]:
        base = retired.table(folders[0], half, cache)
        return base, retired.table(folders[1], half, cache, base)
    base, head = (ChainMap(*sides) for sides in zip(*in_parallel(counts, halves(steps)), strict=True))
    compared, found = 0, []
    for name, may in INSTRUCTIONS.items():
        sides = [{str(step): of[name] for step, of in side.items() if name in of} for side in (base, head)]
        compared += len(sides[0].keys() & sides[1].keys())
        found += risen(f"bench_retired.track_{name}", *sides, may)
    return compared, [f._replace(head=f"{f.head} or more") if f.ratio == retired.STOP else f for f in found]


def instructions(folders: Sequence[Path], steps: Sequence[Step], cache: Path) -> tuple[int, list[Suspect]]:
    """The same for instructions that steps retire; what rose is counted again, as one process in many is off."""
    compared, found = _counted(folders, steps, cache)
    step_of = {str(step): step for step in steps}
    if found:
        again = _counted(folders, list(dict.fromkeys(step_of[finding.case] for finding in found)), cache)[1]
        found = [finding for finding in found if finding[:2] in {other[:2] for other in again}]

    def suspect(finding: Finding) -> Suspect:
        step = step_of[finding.case]

        def again(folders: Sequence[Path]) -> bool:
            return any(s.finding[:2] == finding[:2] for s in instructions(folders, [step], cache)[1])
        return Suspect(finding, (step.rule, step.format), again, trade=finding.benchmark.endswith("element"))
    return compared, list(map(suspect, found))


def memory(base: dict, head: dict, cache: Path) -> tuple[int, list[Suspect]]:
    """The same for what `facts` says of both."""
    found = [finding for name, may in FACTS.items() for finding in risen(name, base[name], head[name], may)]

    def suspect(finding: Finding) -> Suspect:
        def again(folders: Sequence[Path]) -> bool:
            sides = in_parallel(lambda folder: facts.table(folder, cache), folders)
            return any(s.finding[:2] == finding[:2] for s in memory(*sides, cache)[1])
        return Suspect(finding, None, again)
    return sum(len(base[name].keys() & head[name].keys()) for name in FACTS), list(map(suspect, found))
