"""Did this change make a step slower, and where? ``python benchmarks/gate.py BASE HEAD``: two commits, or folders that hold the package.

First the figures that are the same in every run: machine code for several processors, retired instructions, memory. Then the import, and a
duet: both versions step in turn in one process, in several processes, and what looks slower is measured again in others. Exit 0: not
slower; 1: slower, and the benchmark, both figures and the commit are named; 2: could not be measured, which says nothing about speed.
"""
import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from time import perf_counter

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # as a program: the modules beside this one are a package

from benchmarks import facts, figures, timing, versions
from benchmarks.figures import Suspect

FASTER = 0.97  # of a rule's steps, at every size: then more instructions were a good trade
RECHECKS = 8   # of one finding, to name the commit: 2**8 commits


class Log:
    """What was compared and found, and how long it took."""

    def __init__(self) -> None:
        self.start, self.compared = perf_counter(), 0
        self.slower: list[Suspect] = []
        self.medians: dict = {}

    def phase(self, name: str, compared: int, found: list[Suspect], detail: str = "") -> None:
        """Note a phase that is over."""
        took, self.start = perf_counter() - self.start, perf_counter()
        self.compared += compared
        self.slower += found
        print(f"  {name}: {compared} compared{detail}, {len(found)} worse  ({took:.0f} s)", flush=True)


def phases(folders: Sequence[Path], cache: Path, log: Log) -> Iterator[None]:
    """All that is measured, phase by phase: the exact figures first."""
    of_both = figures.both(partial(facts.table, cache=cache), folders)
    log.phase("memory", *figures.memory(*of_both, cache=cache))
    yield
    rules = [rule for rule in facts.rules_of(of_both[1]) if rule in facts.rules_of(of_both[0])]
    log.phase("machine code", *figures.code(folders))
    yield
    compared, found = figures.instructions(folders, figures.counted_steps(figures.two_of(rules)), cache)
    log.phase("instructions", compared, found, "" if compared else " (neither hardware counter nor ptrace here)")
    yield
    ratio, found = timing.imports_of(folders)
    log.phase("import", 1, found, f", {ratio}")
    yield
    steps = timing.steps_of(rules)
    timing.duet.prepare(folders, steps, cache)
    log.medians, found, again = timing.duets(folders, steps, cache)
    low, high = (pick(steps, key=log.medians.__getitem__) for pick in (min, max))
    log.phase("duet", len(steps), found, f", medians x {log.medians[low]:.3f} ({low}) to x {log.medians[high]:.3f} ({high}), {again} "
                                         "looked at again")
    yield


def good_trade(suspect: Suspect, medians: dict) -> bool:
    """Whether a rule retires more instructions but is faster at every size, in that format."""
    of_rule = [m for step, m in medians.items() if suspect.of == (step.rule, step.format) and step.way == "step"]
    return suspect.trade and bool(of_rule) and max(of_rule) < FASTER


def same_sources(folders: Sequence[Path]) -> bool:
    """Whether both hold the same files, byte for byte."""
    texts = [{p.relative_to(f): p.read_bytes() for p in sorted((f/versions.PACKAGE).rglob("*.py"))} for f in folders]
    return texts[0] == texts[1]


def culprit(suspect: Suspect, base: Path, commits: Sequence[str], work: Path) -> str:
    """The commit that made a figure worse, by bisection; what stands for all of them where that fails."""
    lo, hi = 0, len(commits) - 1  # the last is known to be worse
    for k in range(RECHECKS):
        if lo >= hi:
            break
        middle = (lo + hi)//2
        try:
            worse = suspect.again([base, versions.export(commits[middle], work/f"bisected-{k}")])
        except (RuntimeError, LookupError):  # this one does not run: leave it to its successors
            worse = False
        lo, hi = (lo, middle) if worse else (middle + 1, hi)
    return f"commit {versions.git('log', '-1', '--format=%h %s', commits[hi])}"


def commits_between(base: str, head: str) -> list[str]:
    """Those that touch the package, the oldest first; none where one of the two is a folder."""
    try:
        return str(versions.git("rev-list", "--reverse", f"{base}..{head}", "--", versions.PACKAGE)).split()
    except LookupError:
        return []


def allowed(base: str, head: str, given: Sequence[str]) -> list[str]:
    """Patterns of findings that are wanted: given here, or by commits in a trailer ``Slower: PATTERN, because ...``."""
    try:
        said = str(versions.git("log", "--format=%(trailers:key=Slower,valueonly)", f"{base}..{head}")).splitlines()
    except LookupError:
        said = []
    return [*given, *(line.split(", because ")[0].strip() for line in said if ", because " in line)]


def gate(base: str, head: str, always: bool = False, stop: bool = False, allow: Sequence[str] = ()) -> int:
    """Measure, print, and give the exit code."""
    with tempfile.TemporaryDirectory() as place:
        work = Path(place)
        folders = [versions.export(version, work/side) for version, side in ((base, "base"), (head, "head"))]
        commits, wanted = commits_between(base, head), allowed(base, head, allow)
        print(f"gate: {head} against {base}, {len(commits)} commits that touch the package", flush=True)
        if same_sources(folders) and not always:
            print("fine: the sources of the package are the same, byte for byte")
            return 0
        log = Log()
        for _ in phases(folders, work/"kernels", log):
            if stop and log.slower:
                break
        excused = [s for s in log.slower if good_trade(s, log.medians) or any(re.search(p, str(s.finding)) for p in wanted)]
        bad = [s for s in log.slower if s not in excused]
        for suspect in excused:
            print(f"  noted  {suspect.finding}")
        named = culprit(bad[0], folders[0], commits, work) if bad and commits else head
        for suspect in bad:
            print(f"SLOWER {suspect.finding}")
        print(f"slower: {len(bad)} of {log.compared} figures; {named}" if bad else f"fine: {log.compared} figures compared")
        return 1 if bad else 0


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="gate", description=str(__doc__).splitlines()[0])
    parser.add_argument("base", help="a commit, or a folder that holds the package")
    parser.add_argument("head", help="the same")
    parser.add_argument("--always", action="store_true", help="measure even if both have the same sources")
    parser.add_argument("--stop", action="store_true", help="stop after the first phase that finds something")
    parser.add_argument("--allow", action="append", default=[], metavar="PATTERN", help="a regular expression of findings that are wanted")
    given = parser.parse_args(words)
    try:
        return gate(given.base, given.head, given.always, given.stop, given.allow)
    except (LookupError, RuntimeError, ImportError, OSError, ValueError, subprocess.TimeoutExpired) as error:
        print(f"gate: could not measure: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
