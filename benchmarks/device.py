"""Figures of steps on the first CUDA device, a line each as they come: `.ci/gpu` measures with it.

    python -m benchmarks.device --rules adam --on 1e8 "GPT-2 small" --formats "f32, q8 state" --against cupy

Each step is timed as by `fastopt bench --device cuda`, beside a copy that moves as many bytes. `--json FILE` gets a
line for each, too. What cannot be measured is said in its place, and the exit status is then 1.
"""
import argparse
import atexit
import json
import math
import os
import shutil
import sys
import tempfile
from types import SimpleNamespace

from fastopt._cuda import warps
from fastopt.bench import cuda, rivals_cuda
from fastopt.bench.cpu import CEILING, OURS
from fastopt.optimizers import ALL

from .steps import SHAPES, STORAGE


def sizes(word: str) -> list[int]:
    """Of a list of `SHAPES`, or of one vector: 1e8 is understood."""
    if word in SHAPES:
        return [math.prod(shape) for shape in SHAPES[word]]
    return [int(float(word))]


def without_prefetch() -> None:
    """Kernels that do not ask early for what they will read; other programs do not get them."""
    os.environ["FASTOPT_CACHE"] = folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder)
    made = warps.prefetch
    warps.prefetch = lambda layout, pipeline, once: made(
        layout, SimpleNamespace(unread=range(len(layout.slots))), once)


def line(on: str, format: str, found: dict) -> str:
    """The figures in words."""
    copy = found["bytes_per_element"]*found["n"]/found["rival_seconds"][CEILING]/1e9
    others = [f"{name} {found['rival_seconds'][name]*1e6:.1f} us ({ratio:.2f} times ours), host "
              f"{found['host_seconds'][name]*1e6:.1f} us" for name, ratio in found["times_faster"].items()]
    low, high = (f"{100*x:.1f}" for x in found["ceiling_interval"])
    return "; ".join([
        f"{found['rule']}, {on}, {format}: {found['seconds']*1e6:.1f} us, {found['gb_per_second']:.0f} GB/s",
        f"copy {copy:.0f} GB/s, {100*found['ceiling']:.1f} % of its speed ({low} to {high})",
        f"host {found['host_seconds'][OURS]*1e6:.1f} us", *others,
        *(f"{name}: {why}" for name, why in found["missing"].items())])


def main() -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.device", description=__doc__.splitlines()[0])
    parser.add_argument("--rules", nargs="+", choices=list(ALL), default=["adam"])
    parser.add_argument("--on", nargs="+", default=["1e8"], help=f"elements of a vector, or {'; '.join(SHAPES)}")
    parser.add_argument("--formats", nargs="+", choices=list(STORAGE), default=["f32"])
    parser.add_argument("--against", nargs="+", choices=["none", *rivals_cuda.RIVALS], default=cuda.DEFAULT_RIVALS)
    parser.add_argument("--seconds", type=float, default=1.0, help="to spend on each, compilation not counted")
    parser.add_argument("--without-prefetch", action="store_true", help="8-bit states: ask for nothing early")
    parser.add_argument("--json", help="a file that gets a line for each")
    given = parser.parse_args()
    against = [name for name in given.against if name != "none"]
    if given.without_prefetch:
        without_prefetch()
    failed = False
    for rule, on, format in [(r, on, f) for on in given.on for f in given.formats for r in given.rules]:
        stored, state = STORAGE[format]
        try:
            found = cuda.measure(rule, sizes(on), against, stored, given.seconds, state)
        except Exception as error:  # the other figures are wanted all the same
            print(f"{rule}, {on}, {format}: not measured: {error!r}", flush=True)
            failed = True
            continue
        found["prefetch"] = not given.without_prefetch
        print(line(on, format, found) + "; without prefetch"*given.without_prefetch, flush=True)
        if given.json:
            with open(given.json, "a") as file:
                file.write(json.dumps({**found, "on": on, "storage": format}) + "\n")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
