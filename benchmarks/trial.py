"""Try the gate itself: ``python benchmarks/trial.py planted`` and ``python benchmarks/trial.py alarms 20``.

`planted` gives it copies of the package that were made slower on purpose, each in one way; it must find each, and in the right place.
`alarms` gives it the package against a copy of itself, so many times, two at a time: each is the other's busy neighbour, of cores, shared
cache and memory.
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

ROOT = Path(__file__).resolve().parents[1]


class Plant(NamedTuple):
    """A change to one file that makes something slower, and what the gate must name."""

    what: str
    file: str
    old: str
    new: str
    named: str


PLANTS = [
    Plant("one kernel at one size, 5 % slower", "binding.py", """        self.formats = formats
        try:
""", """        self.formats = formats
        if RULES[rule].name.startswith("adam") and self.elements == 1_000_000:  # planted: it visits some of a million elements twice
            self.tiles = np.concatenate([self.tiles, [[0, 0, 0, 58_000]]])
            self.words[[COUNT, TILES]] = len(self.tiles), arrays.address(self.tiles)
        try:
""", r"track_vs_golden \((adam|adamw), 1,000,000 elements"),
    Plant("a lost vectorisation", "cpu.py", "        for i in range(lo, hi):\n            store(",
          "        for i in range(lo, hi):\n            claim(row[1], 0)\n            store(", "track_lanes_lost"),
    Plant("an accidental float64", "registry.py", "p - (u + c.wd*p)", "p - (u + 1.0*c.wd*p)", "track_float64"),
    Plant("a new temporary", "optimizer.py", """        self._structure.collect(grads, "grads", leaves)
        self._backend""", """        self._structure.collect(grads, "grads", leaves)
        leaves = [leaf.copy() for leaf in leaves]
        self._backend""", "track_python"),
    Plant("5 us of Python per step", "host.py", "            rows.append(group.coefficients(t, factor, limit))",
          """            for _ in range(460):  # planted
                pass
            rows.append(group.coefficients(t, factor, limit))""", r"track_call|track_vs_golden \(adam, 8 elements"),
    Plant("an import 20 % slower", "__init__.py", "from . import rules, schedules\n", """from time import perf_counter
_start = perf_counter()
from . import rules, schedules
""", "track_import"),
]
IMPORT_END = "\n_end = perf_counter() + 0.2*(perf_counter() - _start)\nwhile perf_counter() < _end:\n    pass\n"


def plant(change: Plant, into: Path) -> Path:
    """A copy of the package with one change."""
    shutil.copytree(ROOT/"fastopt", into/"fastopt", ignore=shutil.ignore_patterns("__pycache__"))
    file = into/"fastopt"/change.file
    text = file.read_text()
    if text.count(change.old) != 1:
        raise ValueError(f"trial: {change.old!r} stands {text.count(change.old)} times in {change.file}, but once is needed. Edit PLANTS.")
    file.write_text(text.replace(change.old, change.new) + (IMPORT_END if change.named == "track_import" else ""))
    return into


def run(base: Path, head: Path, *words: str) -> tuple[int, str, float]:
    """The gate's exit code, what it printed, and its seconds."""
    start = perf_counter()
    done = subprocess.run([sys.executable, str(ROOT/"benchmarks"/"gate.py"), str(base), str(head), *words], capture_output=True, text=True,
                          check=False)
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
        for k, (code, said, took) in enumerate(pool.map(lambda _: run(place/"same", ROOT, "--always"), range(count)), 1):
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
