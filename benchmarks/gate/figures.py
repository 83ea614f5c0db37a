"""The figures of two versions that are the same in every run, compared: machine code, retired instructions, memory."""
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from ..machine_code import cpu_code
from ..steps import FORMATS, Step
from . import facts, retired
from .verdict import Finding, Growth, risen

# vectors of 512 bits, and of 256 for what most people store
TARGETS = {"znver4": tuple(FORMATS), "x86-64-v3": ("f32", "bf16, bf16 state")}
CODE = {  # figure: the benchmark that tracks it, and what it may rise by
    "instructions": ("track_instructions", Growth(part=0.005)), "accesses": ("track_accesses", Growth(part=0.005)),
    "lanes_lost": ("track_lanes_lost", Growth()),
    # of a trip, however often the loop is unrolled: what counts is that there were none
    "float64": ("track_float64", Growth(part=1.0)), "calls": ("track_calls", Growth())}
INSTRUCTIONS = {"call": Growth(part=0.015, units=300), "element": Growth(part=0.02)}  # processes seldom differ by half
FACTS = {"bench_memory.Peak.track_python": Growth(units=512), "bench_memory.Bytes.track_state": Growth()}


class Suspect(NamedTuple):
    """A finding, of which rule and format it is, and how to look at it alone in two other versions."""

    finding: Finding
    of: tuple[str, str] | None
    again: Callable[[Sequence[Path]], bool]
    trade: bool = False  # whether more of it may be a good trade


def both(measure: Callable[[Path], dict], folders: Sequence[Path]) -> list[dict]:
    """What is measured of the two versions, each on a core of its own: these figures do not mind."""
    with ThreadPoolExecutor() as pool:
        return list(pool.map(measure, folders))


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
        base, head = both(lambda folder, of=(target, only): cpu_code.table(folder, *of), folders)
        for name, (benchmark, may) in CODE.items():
            sides = [{f"{kernel}, {target}": of[name] for kernel, of in side.items()} for side in (base, head)]
            compared += len(sides[0].keys() & sides[1].keys())
            found += risen(f"bench_cpu_code.{benchmark}", *sides, may)
    return compared, list(map(_code_suspect, found))


def two_of(rules: Sequence[str]) -> list[str]:
    """A rule with one state and one with two, for what does not differ from rule to rule."""
    return [rule for rule in ("momentum", "adam") if rule in rules] or list(rules[:1])


def counted_steps(rules: Sequence[str]) -> list[Step]:
    """What instructions are counted of: the step of each rule, and other ways of one."""
    last = two_of(rules)[-1]
    ways = [Step(last, retired.FEW, way="clip_norm"), Step(last, "148 x 8", way="new gradients")]
    return [*(Step(rule, retired.FEW) for rule in rules), *ways]


def _counted(folders: Sequence[Path], steps: Sequence[Step], cache: Path) -> tuple[int, list[Finding]]:
    base, head = both(lambda folder: retired.table(folder, steps, cache), folders)
    compared, found = 0, []
    for name, may in INSTRUCTIONS.items():
        sides = [{str(step): of[name] for step, of in side.items() if name in of} for side in (base, head)]
        compared += len(sides[0].keys() & sides[1].keys())
        found += risen(f"bench_retired.track_{name}", *sides, may)
    return compared, found


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
            sides = both(lambda folder: facts.table(folder, cache), folders)
            return any(s.finding[:2] == finding[:2] for s in memory(*sides, cache)[1])
        return Suspect(finding, None, again)
    return sum(len(base[name].keys() & head[name].keys()) for name in FACTS), list(map(suspect, found))
