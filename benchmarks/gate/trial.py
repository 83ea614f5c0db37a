"""Try the gate itself: ``python -m benchmarks.gate.trial planted`` and ``python -m benchmarks.gate.trial alarms 20``.

`planted` gives the gate copies of the package that were made slower on purpose, each in one way: the part of the gate
that is meant for it must find each, and name the right benchmark. `alarms` gives it the package against a copy of
itself, so many times, two at a time: each run is the other's busy neighbour, of cores, shared cache and memory.
"""
import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]


class Plant(NamedTuple):
    """A change that makes something slower: in the file with `old`, or at the end of `file`; a part finds `named`."""

    what: str
    part: str
    named: str
    new: str
    old: str = ""
    file: str = ""


def _around_step(before: str, after: str = "") -> str:
    """Code that lets every step do more, before and after it."""
    return f"""

def _planted(step):
    from time import thread_time

    def slower(self, grads=None, **how):
        start = thread_time()
        {before}
        step(self, grads, **how)
        {after}
    return slower


Optimizer.step = _planted(Optimizer.step)
"""


CODES = """
            to_codes(row, room, begin, end)"""
PLANTS = [
    Plant("one kernel at one size, 5 % slower", "duet", r"track_vs_golden \((adam|adamw), 1,000,000", """

def _planted(init):
    from time import thread_time

    def planted(self, params, *how, **more):
        init(self, params, *how, **more)
        step = self.step

        def slower(grads, **how):
            start = thread_time()
            step(grads, **how)
            end = thread_time() + 0.05*(thread_time() - start)
            while thread_time() < end:
                pass
        if self.rule.name.startswith("adam") and params[0].size == 1_000_000:
            vars(self)["step"] = slower
    return planted


Optimizer.__init__ = _planted(Optimizer.__init__)
""", file="optimizer.py"),
    Plant("a lost vectorisation", "machine code", "track_lanes_lost",
          "as (i, at):\n            builder.fence('seq_cst')\n", "as (i, at):\n"),
    Plant("an accidental float64", "machine code", "track_float64",
          "    return p - 0.9999999*u\n", "    return p - u\n"),
    Plant("a new temporary", "memory", "track_python", _around_step("kept = [g.copy() for g in grads]", "del kept"),
          file="optimizer.py"),
    Plant("5 us of Python per step", "instructions", "track_call", _around_step(
        "for _ in range(460): pass"), file="optimizer.py"),
    Plant("two threads that wait for more elements", "duet", r"track_vs_golden \(adam, [13]00,000 elements, 2 threads",
          "SMALL = 600_000 ", "SMALL = 65_536 "),
    Plant("codes of 8 bits that are made twice", "duet", "q8 state", 2*CODES, CODES),
    Plant("4 us more in every step with a schedule", "instructions", "schedule",
          "[self._functions[name](t) for k in range(100) if not k][0]", "self._functions[name](t)"),
    Plant("a compilation 30 % slower", "compiling", "track_cold", """
        from time import thread_time
        start = thread_time()
        dispatcher.compile(signature)
        end = thread_time() + 0.3*(thread_time() - start)
        while thread_time() < end:
            pass
""", "\n        dispatcher.compile(signature)\n"),
    Plant("new gradients that take 800 times as long", "instructions", "track_call .*new gradients", _around_step(
        "first = id(grads[0]) if isinstance(grads, list) and len(grads) == 148 else 0\n"
        "        last, step.last = getattr(step, 'last', 0), first\n"
        "        for _ in range(1_500_000*(first != last)): pass"), file="optimizer.py"),
    Plant("states that are allocated twice", "memory", "track_made",
          "new = [self._zeros(t, state_dtype(format, t), k) for k in (0, 1 + self.rule.state.index(name))][1]",
          "new = self._zeros(t, state_dtype(format, t), 1 + self.rule.state.index(name))"),
    Plant("an import 20 % slower", "import", "track_import", """

def _planted():
    import sys
    from time import perf_counter
    end = perf_counter() + 0.2*(perf_counter() - sys._started)
    while perf_counter() < end:
        pass


_planted()
""", file="__init__.py")]


def plant(change: Plant, into: Path) -> Path:
    """A copy of the package with one change."""
    package = into/"fastopt"
    shutil.copytree(ROOT/"fastopt", package, ignore=shutil.ignore_patterns("__pycache__"))
    found = [package/change.file] if change.file else [f for f in package.rglob("*.py") if change.old in f.read_text()]
    if len(found) != 1 or (change.old and found[0].read_text().count(change.old) != 1):
        raise ValueError(f"trial: {change.old!r} stands {len(found)} times in the package, but once is needed. Edit "
                         "PLANTS.")
    text = found[0].read_text()
    text = text.replace(change.old, change.new) if change.old else text + change.new
    if change.named == "track_import":
        text = "import sys as _sys\nfrom time import perf_counter as _now\n_sys._started = _now()\n" + text
    found[0].write_text(text)
    return into


def run(base: Path, head: Path, *words: str) -> tuple[int, str, float]:
    """The gate's exit code, what it printed, and its seconds."""
    start = perf_counter()
    done = subprocess.run([sys.executable, "-m", "benchmarks.gate", str(base), str(head), *words], cwd=ROOT,
                          capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr, perf_counter() - start


def planted(place: Path, which: str) -> int:
    """Every plant of which this is a part of the name; how many were missed."""
    missed = 0
    for k, change in enumerate(change for change in PLANTS if which in change.what):
        code, said, took = run(ROOT, plant(change, place/str(k)), "--only", change.part)
        found = [line for line in said.splitlines() if line.startswith("SLOWER")]
        right = code == 1 and any(re.search(change.named, line) for line in found)
        missed += not right
        print(f"{'found ' if right else 'MISSED'} {change.what}: exit {code}, {len(found)} figures, {took:.0f} s\n  "
              + "\n  ".join(found[:3] or said.splitlines()), flush=True)
    return missed


def alarms(place: Path, count: int) -> int:
    """So many runs of the package against itself; how many ended with something else than 0."""
    shutil.copytree(ROOT/"fastopt", place/"same"/"fastopt", ignore=shutil.ignore_patterns("__pycache__"))
    codes: Counter[int] = Counter()
    with ThreadPoolExecutor(2) as pool:
        runs = pool.map(lambda _: run(place/"same", ROOT, "--always"), range(count))
        for k, (code, said, took) in enumerate(runs, 1):
            codes[code] += 1
            print(f"{k}: exit {code}, {took:.0f} s\n{said}", flush=True)
    print(f"{count} runs, exit codes {dict(codes)}")
    return count - codes[0]


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="trial", description=str(__doc__).splitlines()[0])
    parser.add_argument("what", choices=["planted", "alarms"])
    parser.add_argument("count", type=int, nargs="?", default=20, help="of alarms")
    parser.add_argument("--only", default="", metavar="WORD", help="plants whose name has this word")
    given = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as place:
        of = planted(Path(place), given.only) if given.what == "planted" else alarms(Path(place), given.count)
    return 1 if of else 0


if __name__ == "__main__":
    sys.exit(main())
