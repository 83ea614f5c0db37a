"""The gate: did this change make a step slower, and where?

``python -m benchmarks.gate BASE HEAD`` compares two commits, or folders that hold the package. First come the figures
that are the same in every run: memory, machine code for two processors, retired instructions. Then the import. Then the
duet: both versions step in turn in one process, in several processes; what looks slower is looked at again by others.
Exit 0: not slower. 1: slower; benchmark, figures and commit are named. 2: could not be measured.
"""
import argparse
import re
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from time import perf_counter

try:
    from . import duet, facts, figures, timing, versions
    from .figures import Suspect
except ImportError as error:
    if __name__ != "__main__":
        raise
    print(f"gate: could not measure: {error}. Install the package first: python -m pip install .", file=sys.stderr)
    sys.exit(2)

FASTER = 0.97  # of a rule's steps, at every size: then more instructions were a good trade
RECHECKS = 8   # of one finding, to name the commit: 2**8 commits


class Log:
    """What was compared and found, what could not be measured, and the duet's first medians."""

    def __init__(self) -> None:
        self.compared = 0
        self.slower: list[Suspect] = []
        self.failed: list[str] = []
        self.medians: dict = {}

    def phase(self, name: str, measure: Callable[[], tuple[int, list[Suspect], str]]) -> None:
        """Measure a part. One that fails leaves what the others find as it is."""
        start = perf_counter()
        try:
            compared, found, detail = measure()
        except Exception:  # whatever it is, it is not slower: exit code 2, not Python's 1
            self.failed.append(name)
            print(f"  {name}: could not be measured\n{traceback.format_exc()}", file=sys.stderr, flush=True)
            return
        self.compared += compared
        self.slower += found
        print(f"  {name}: {compared} compared{detail}, {len(found)} worse  ({perf_counter() - start:.0f} s)",
              flush=True)


def phases(folders: Sequence[Path], cache: Path, log: Log) -> Iterator[None]:
    """All that is measured, part by part: the exact figures first."""
    both = figures.both(facts.rules, folders)
    rules = [rule for rule in both[1] if rule in both[0]]
    if apart := sorted({*both[0]} ^ {*both[1]}):
        print(f"  in one version only, not compared: {', '.join(apart)}")
    steps = timing.steps_of(rules)

    def memory():
        return *figures.memory(*figures.both(partial(facts.table, cache=cache), folders), cache=cache), ""

    def instructions():
        compared, found = figures.instructions(folders, figures.counted_steps(figures.two_of(rules)), cache)
        return compared, found, "" if compared else " (neither hardware counter nor ptrace here)"

    def imported():
        ratio, found = timing.imports_of(folders)
        return 1, found, f", {ratio}"

    def duets():
        duet.prepare(folders, steps, cache)
        log.medians, found, again, left = timing.duets(folders, steps, cache)
        low, high = (pick(steps, key=log.medians.__getitem__) for pick in (min, max))
        return len(steps), found, (f", medians x {log.medians[low]:.3f} ({low}) to x {log.medians[high]:.3f} ({high}), "
                                   f"{again} looked at again{f', {left} more seemed slower' if left else ''}")
    for name, measure in (("memory", memory), ("machine code", lambda: (*figures.code(folders), "")),
                          ("instructions", instructions), ("import", imported), ("duet", duets)):
        log.phase(name, measure)
        yield


def good_trade(suspect: Suspect, medians: dict) -> bool:
    """Whether a rule retires more instructions but is faster at every size, in that format."""
    of_rule = [m for step, m in medians.items() if suspect.of == (step.rule, step.format) and step.way == "step"]
    return suspect.trade and bool(of_rule) and max(of_rule) < FASTER


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
    """Print every finding; those that nothing excuses."""
    bad = [suspect for suspect in log.slower if not wanted(suspect) and not good_trade(suspect, log.medians)]
    for suspect in log.slower:
        print(f"{'SLOWER' if suspect in bad else '  noted '} {suspect.finding}", flush=True)
    return bad


def gate(base: str, head: str, always: bool = False, stop: bool = False, allow: Sequence[str] = ()) -> int:
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
        for _ in phases(folders, work/"kernels", log):
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
    given = parser.parse_args(words)
    try:
        return gate(given.base, given.head, given.always, given.stop, given.allow)
    except Exception as error:  # Python's own exit code for them is 1
        if not isinstance(error, (LookupError, RuntimeError, ImportError)):
            traceback.print_exc()
        print(f"gate: could not measure: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
