"""Try the gate itself: ``python -m benchmarks.gate.trial planted`` and ``python -m benchmarks.gate.trial alarms 20``.

`planted` gives the gate copies of the package that were made slower on purpose, each in one way: the gate must find
each, and name the right benchmark. `alarms` gives it the package against a copy of itself, so many times, two at a
time: each run is the other's busy neighbour, of cores, shared cache and memory.
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
    """A change that makes something slower: in the file with `old`, or at the end of `file`; `named` must be found."""

    what: str
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


PLANTS = [
    Plant("one kernel at one size, 5 % slower", r"track_vs_golden \((adam|adamw), 1,000,000 elements", _around_step(
        "large = self.rule.name.startswith('adam') and isinstance(grads, list) and grads[0].size == 1_000_000",
        "end = thread_time() + 0.05*(thread_time() - start)*large\n        while thread_time() < end: pass"),
        file="optimizer.py"),
    Plant("a lost vectorisation", "track_lanes_lost", "as i:\n            builder.fence('seq_cst')\n            at = ",
          "as i:\n            at = "),
    Plant("an accidental float64", "track_float64", "    return p - 0.9999999*u\n", "    return p - u\n"),
    Plant("a new temporary", "track_python", _around_step("kept = [g.copy() for g in grads]", "del kept"),
          file="optimizer.py"),
    Plant("5 us of Python per step", r"track_call|track_vs_golden \(adam, 8 elements", _around_step(
        "for _ in range(460): pass"), file="optimizer.py"),
    Plant("an import 20 % slower", "track_import", """

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


def planted(place: Path) -> int:
    """Every plant; how many were missed."""
    missed = 0
    for k, change in enumerate(PLANTS):
        code, said, took = run(ROOT, plant(change, place/str(k)), "--stop")
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
    parser.add_argument("count", type=int, nargs="?", default=20)
    given = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as place:
        return 1 if (planted(Path(place)) if given.what == "planted" else alarms(Path(place), given.count)) else 0


if __name__ == "__main__":
    sys.exit(main())
