"""The machine code of a version's CPU kernels, for any x86-64 processor: ``python -m benchmarks.cpu_code FOLDER``.

The figures (assembly.py) are exact and the same on every machine: Numba compiles for the processor that NUMBA_CPU_NAME names, and nothing
is run.
"""
import json
import platform
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from .assembly import figures
from .steps import FORMATS
from .versions import load, part, worker

WIDTHS = {"x86-64-v2": 128, "x86-64-v3": 256, "skylake-avx512": 256, "znver4": 512}  # bits; Skylake has 512, which slow its clock
X86 = platform.machine().lower() in ("x86_64", "amd64")


class Kernel(NamedTuple):
    """What a kernel is compiled for: the digest of its rule ("" for the norm), and the formats of its slots."""

    rule: str
    formats: str


def kernels(package: ModuleType) -> dict[str, Kernel]:
    """Every rule in every storage, the look-ahead point, and the norm."""
    ahead = part(package, "registry").LOOK_AHEAD.digest
    steps, points, norms = {}, {}, {}
    for storage, (stored, given) in FORMATS.items():
        state = given or ("f64" if stored == "f64" else "f32")
        for name, optimizer in part(package, "optimizers").ALL.items():
            steps[f"{name}, {storage}"] = Kernel(optimizer.rule.digest, " ".join([stored, stored, *[state]*len(optimizer.rule.state)]))
        points[f"look-ahead, {storage}"] = Kernel(ahead, f"{stored} {stored} {state}")
        if not given:
            norms[f"squares, {storage}"] = Kernel("", f"{stored} {stored}")  # gradient and parameter: no state
    return {**steps, **points, **norms}


def compiled(package: ModuleType, kernel: Kernel) -> dict[str, float | str]:
    """The figures of a kernel, for the processor that Numba compiles for in this process."""
    cpu = part(package, "cpu")
    run = (cpu.step_kernel(*kernel) if kernel.rule else cpu.squares_kernel(kernel.formats)).run
    sizes = [format.itemsize for format in part(package, "memory").slots(kernel.formats)]
    written = sizes[1:][:part(package, "registry").RULES[kernel.rule].writes] if kernel.rule else sizes[:1]
    return figures(run.inspect_asm(run.signatures[0]), max(written), norm=not kernel.rule)


def table(folder: str | Path, target: str, only: Sequence[str] | None = None) -> dict[str, dict[str, float | str]]:
    """{kernel: figures} of the package in a folder, compiled for a processor in a process of its own; `lanes_lost`: wanted width/width.

    Raises RuntimeError with what the process said where it fails.
    """
    if target not in WIDTHS:  # LLVM takes an unknown name for the oldest of them
        raise ValueError(f"cpu_code: how wide the vectors of {target} are is not known. Add it to cpu_code.WIDTHS.")
    with tempfile.TemporaryDirectory() as empty:  # what comes from the disk cache has no assembly
        found = worker("cpu_code", str(Path(folder).resolve()), *(only or ()), cache=Path(empty), NUMBA_CPU_NAME=target,
                       NUMBA_CPU_FEATURES="")
    return {name: {**of, "lanes_lost": WIDTHS[target]/of["width"]} for name, of in found.items()}


def main(folder: str, *only: str) -> None:
    package = load(folder, "fastopt_code")
    of = kernels(package)
    print(json.dumps({name: compiled(package, of[name]) for name in only or of}))


if __name__ == "__main__":
    main(*sys.argv[1:])
