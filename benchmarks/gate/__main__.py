"""The gate: did this change make a step slower, and where?

``python -m benchmarks.gate BASE HEAD`` compares two commits, or folders that hold the package. First come the figures
that are the same in every run: memory, machine code for two processors, retired instructions. Then import and
compiling. Then the duet: both versions step in turn in one process, in several processes; what looks slower is looked
at again by others. A part that has no end is a finding, too. The worst finding is printed first.
Exit 0: not slower. 1: slower; benchmark, figures and commit are named. 2: could not be measured.
"""
import argparse
import math
import re
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from time import perf_counter

try:
    from . import facts, figures, timing, versions
    from .figures import Suspect
    from .verdict import Finding
except ImportError as error:
    if __name__ != "__main__":
        raise
    print(f"gate: could not measure: {error}. Install the package first: python -m pip install .", file=sys.stderr)
    sys.exit(2)

FASTER = 0.97  # of a rule's steps, at every size: then more instructions were a good trade
PARTS = "memory", "machine code", "instructions", "import", "compiling", "duet"
RECHECKS = 8   # of one finding, to name the commit: 2**8 commits


Measure = Callable[[Sequence[Path]], tuple[int, list[Suspect], str]]


def in_time(name: str, measure: Measure, folders: Sequence[Path]) -> tuple[int, list[Suspect], str]:
    """What a part finds. Where it has no end, that is the finding, if the base beside itself has one."""
    try:
        return measure(folders)
    except subprocess.TimeoutExpired as late:
        start = perf_counter()
        compared = measure([folders[0]]*2)[0]
        took = f"{perf_counter() - start:.0f} s"
        finding = Finding(f"gate, {name}", "a process", took, f"no end in {late.timeout:.0f} s", "time-out", math.inf)

    def again(folders: Sequence[Path]) -> bool:
        try:
            measure(folders)
        except subprocess.TimeoutExpired:
            return True
        return False
    return compared, [Suspect(finding, None, again)], ""


class Log:
    """What was compared and found, what could not be measured, and the duet's first medians."""

    def __init__(self) -> None:
        self.compared = 0
        self.slower: list[Suspect] = []
        self.failed: list[str] = []
        self.medians: dict = {}

    def phase(self, name: str, measure: Measure, folders: Sequence[Path]) -> None:
        """Measure a part. One that fails leaves what the others find as it is."""
        start = perf_counter()
        try:
            compared, found, detail = in_time(name, measure, folders)
        except Exception:  # whatever it is, it is not slower: exit code 2, not Python's 1
            self.failed.append(name)
            print(f"  {name}: could not be measured\n{traceback.format_exc()}", file=sys.stderr, flush=True)
            return
        self.compared += compared
        self.slower += found
        print(f"  {name}: {compared} compared{detail}, {len(found)} worse  ({perf_counter() - start:.0f} s)",
              flush=True)


def phases(folders: Sequence[Path], cache: Path, log: Log, only: Sequence[str]) -> Iterator[None]:
    """All that is measured, or `only` these parts, part by part: the exact figures first."""
    sides = figures.in_parallel(facts.rules, folders)
    rules = [rule for rule in sides[1] if rule in sides[0]]
    if apart := sorted({*sides[0]} ^ {*sides[1]}):
        print(f"  in one version only, not compared: {', '.join(apart)}")
    steps = timing.steps_of(rules)

    def memory(folders):
        return *figures.memory(*figures.in_parallel(partial(facts.table, cache=cache), folders), cache=cache), ""

    def instructions(folders):
        compared, found = figures.instructions(folders, figures.counted_steps(facts.two_of(rules)), cache)
        return compared, found, "" if compared else " (neither hardware counter nor ptrace here)"

    def imported(folders):
        ratio, found = timing.imports_of(folders)
        return 1, found, f", {ratio}"

    def compiling(folders):
        ratio, found = timing.compiling_of(folders, steps, cache)
        return 1, found, f", {ratio}"

    def duets(folders):
        log.medians, found, again, left = timing.duets(folders, steps, cache)
        low, high = (pick(log.medians, key=log.medians.__getitem__) for pick in (min, max))
        return len(log.medians), found, (
            f", medians x {log.medians[low]:.3f} ({low}) to x {log.medians[high]:.3f} ({high}), {again} looked at again"
            f"{f', {left} more seemed slower' if left else ''}")
    measures = memory, lambda folders: (*figures.code(folders), ""), instructions, imported, compiling, duets
    for name, measure in zip(PARTS, measures, strict=True):
        if name in (only or PARTS):
            log.phase(name, measure, folders)
            yield


def good_trade(suspect: Suspect, medians: dict) -> bool:
    """Whether a rule, or all rules of a format in which it is not timed, has more instructions but is faster at every
    size."""
    if not suspect.trade or suspect.of is None:
        return False
    rule, format = suspect.of
    timed = [(step.rule, m) for step, m in medians.items() if step.format == format and step.way == "step"]
    of_rule = [m for of, m in timed if of == rule] or [m for _, m in timed]
    return bool(of_rule) and max(of_rule) < FASTER


def same_sources(folders: Sequence[Path]) -> bool:
    """Whether both hold the same files, byte for byte."""
    texts = [{p.relative_to(f): p.read_bytes() for p in sorted((f/versions.PACKAGE).rglob("*.py"))} for f in folders]
    return texts[0] == texts[1]


# Commits

def commits_between(base: str, head: str) -> list[str]:
    """Those that touch the package, the oldest first (a merge stands for what it merges); none unless head follows."""
    if versions.is_folder(base) or versions.is_folder(head):
        return []
    try:
        versions.git("merge-base", "--is-ancestor", base, head)
    except LookupError:
        return []
    return versions.git("rev-list", "--first-parent", "--reverse", f"{base}..{head}", "--", versions.PACKAGE).split()


def culprit(suspect: Suspect, base: Path, commits: Sequence[str], work: Path) -> str:
    """The commit that made a figure worse, by bisection; one that does not run leaves it to its successors."""
    lo, hi = 0, len(commits) - 1  # the last is known to be worse
    for k in range(RECHECKS):
        if lo == hi:
            break
        middle, worse = (lo + hi)//2, False
        with suppress(Exception):
            worse = suspect.again([base, versions.export(commits[middle], work/f"bisected-{k}")])
        lo, hi = (lo, middle) if worse else (middle + 1, hi)
    of = "" if lo == hi else f"the last of {hi - lo + 1} that may be meant, "
    return f"commit {of}{versions.git('log', '-1', '--format=%h %s', commits[hi])}"


def allowed(base: str, head: str, given: Sequence[str]) -> list[str]:
    """Patterns of findings that are wanted: given here, or by commits in a trailer ``Slower: PATTERN, because ...``."""
    said: list[str] = []
    if not versions.is_folder(base):
        until = "HEAD" if versions.is_folder(head) else head
        said = versions.git("log", "--format=%(trailers:key=Slower,valueonly,unfold)", f"{base}..{until}").splitlines()
    return [p for p in (*given, *(line.split(", because ")[0].strip() for line in said if ", because " in line)) if p]


def matches(pattern: str, suspect: Suspect) -> bool:
    """Whether a finding contains what the pattern says, or matches it as a regular expression."""
    text = str(suspect.finding)
    with suppress(re.error):
        if re.search(pattern, text):
            return True
    return pattern in text


# The program

def verdict(log: Log, wanted: Callable[[Suspect], bool]) -> list[Suspect]:
    """Print every finding, the worst first; those that nothing excuses."""
    worst = sorted(log.slower, key=lambda suspect: -suspect.finding.ratio)
    bad = [suspect for suspect in worst if not wanted(suspect) and not good_trade(suspect, log.medians)]
    for suspect in [*bad, *(suspect for suspect in worst if suspect not in bad)]:
        print(f"{'SLOWER' if suspect in bad else '  noted '} {suspect.finding}", flush=True)
    return bad


def gate(base: str, head: str, always: bool = False, stop: bool = False, allow: Sequence[str] = (),
         only: Sequence[str] = ()) -> int:
    """Measure, print, and give the exit code."""
    with tempfile.TemporaryDirectory() as place:
        work, log = Path(place), Log()
        folders = [versions.export(version, work/side) for version, side in ((base, "base"), (head, "head"))]
        commits, patterns = commits_between(base, head), allowed(base, head, allow)
        print(f"gate: {head} against {base}, {len(commits)} commits that touch the package", flush=True)
        if same_sources(folders) and not always:
            print("fine: the sources of the package are the same, byte for byte")
            return 0

        def wanted(suspect: Suspect) -> bool:
            return any(matches(pattern, suspect) for pattern in patterns)
        for _ in phases(folders, work/"kernels", log, only):
            if stop and any(not suspect.trade and not wanted(suspect) for suspect in log.slower):
                break
        if bad := verdict(log, wanted):
            print(f"slower: {len(bad)} of {log.compared} figures", flush=True)
            print(f"{bad[0].finding.benchmark} ({bad[0].finding.case}): "
                  f"{culprit(bad[0], folders[0], commits, work) if commits else f'in {head}'}")
            return 1
        if log.failed:
            raise RuntimeError(f"{', '.join(log.failed)}; nothing else is slower")
        print(f"fine: none of {log.compared} figures is worse")
        return 0


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="gate", description=str(__doc__).splitlines()[0])
    parser.add_argument("base", help="a commit, or a folder that holds the package")
    parser.add_argument("head", help="the same")
    parser.add_argument("--always", action="store_true", help="measure even if both have the same sources")
    parser.add_argument("--stop", action="store_true", help="stop after the first part that finds something")
    parser.add_argument("--allow", action="append", default=[], metavar="PATTERN",
                        help="findings that are wanted: a part of what is printed, or a regular expression")
    parser.add_argument("--only", action="append", default=[], choices=PARTS, help="a part to measure; may be repeated")
    given = parser.parse_args(words)
    try:
        return gate(given.base, given.head, given.always, given.stop, given.allow, given.only)
    except Exception as error:  # Python's own exit code for them is 1
        if not isinstance(error, (LookupError, RuntimeError, ImportError, subprocess.TimeoutExpired)):
            traceback.print_exc()
        print(f"gate: could not measure: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
