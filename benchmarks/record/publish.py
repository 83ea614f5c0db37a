"""Make asv's site of the record: ``python -m benchmarks.record.publish [--out .asv/html]``. Exit 0: published; 2: not.
Look at it with ``python -m http.server -d .asv/html``. The page loads its scripts from the network."""
import argparse
import importlib
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from .__main__ import ROOT, configured, status


def publish(out: Path) -> None:
    """``asv publish``, which reads no machine file and asks nothing, into a folder that it empties first."""
    if out.exists() and any(out.iterdir()) and not (out/"asv.js").exists():
        raise RuntimeError(f"publish: {out} holds other files, but a new folder or an old site is needed: asv empties "
                           "it. Name another.")
    importlib.import_module("asv")
    with tempfile.TemporaryDirectory() as folder:
        asv = [sys.executable, "-m", "asv", "--config", str(configured(Path(folder), ROOT))]
        done = subprocess.run([*asv, "publish", "--no-pull", "--html-dir", str(out)], cwd=ROOT, check=False)
    if done.returncode:
        raise RuntimeError(f"publish: asv publish ended with {done.returncode}, but 0 is needed. Read what it says "
                           "above; where there are no results: python -m benchmarks.record HEAD")


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="publish", description=__doc__.split(":")[0])
    parser.add_argument("--out", type=Path, default=ROOT/".asv"/"html", help="folder of the site, %(default)s")
    given = parser.parse_args(words)

    def work() -> None:
        publish(given.out.resolve())
        print(f"publish: {given.out}")
    return status(work)


if __name__ == "__main__":
    sys.exit(main())
