"""The machine code of a version's CPU kernels, for any x86-64 processor.

``python -m benchmarks.machine_code.cpu_code FOLDER`` prints figures (assembly.py). They are exact, and equal on every
machine: Numba compiles for the processor that NUMBA_CPU_NAME names, and nothing is run.
"""
import json
import platform
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np

from ..gate import inside
from ..gate.versions import load, worker
from ..steps import DTYPES, FORMATS
from .assembly import figures

# bits; skylake-avx512 has 512, which slow its clock
WIDTHS = {"x86-64-v2": 128, "x86-64-v3": 256, "skylake-avx512": 256, "znver4": 512}
X86 = platform.machine().lower() in ("x86_64", "amd64")


class Kernel(NamedTuple):
    """What a kernel is compiled for: a rule ("look-ahead": Nesterov's point; "": the norm), and its slots' formats."""

    rule: str
    formats: str


def kernels(package: ModuleType) -> dict[str, Kernel]:
    """Every rule in every storage, the look-ahead point, and the norm."""
    steps, points, norms = {}, {}, {}
    for storage, (stored, given) in FORMATS.items():
        state = given or ("f64" if stored == "f64" else "f32")
        for name, optimizer in inside.optimizers(package).items():
            steps[f"{name}, {storage}"] = Kernel(name, " ".join([stored]*2 + [state]*len(optimizer.rule.state)))
        points[f"look-ahead, {storage}"] = Kernel("look-ahead", f"{stored} {stored} {state}")
        if not given:
            norms[f"squares, {storage}"] = Kernel("", f"{stored} {stored}")  # gradient and parameter: no state
    return {**steps, **points, **norms}


def compiled(package: ModuleType, kernel: Kernel) -> dict[str, float | str]:
    """The figures of a kernel, for the processor that Numba compiles for in this process."""
    run = inside.cpu_kernel(package, *kernel)
    sizes = [np.dtype(DTYPES[name]).itemsize for name in kernel.formats.split()]
    stored = {"": sizes[:1], "look-ahead": sizes[1:2]}.get(kernel.rule, sizes[1:])  # of the norm: what it reads
    return figures(run.inspect_asm(run.signatures[0]), max(stored), norm=not kernel.rule)


def table(folder: str | Path, target: str, only: Sequence[str] | None = None) -> dict[str, dict[str, float | str]]:
    """{kernel: figures} of the package in a folder, compiled for a processor in a process of its own. `only`: these
    kernels, or all of a storage. `lanes_lost`: wanted width/width. RuntimeError with its text where it fails."""
    if target not in WIDTHS:  # LLVM takes an unknown name for the oldest of them
        raise ValueError(f"cpu_code: how wide the vectors of {target} are is not known. Add it to cpu_code.WIDTHS.")
    with tempfile.TemporaryDirectory() as empty:  # what comes from the disk cache has no assembly
        found = worker("machine_code.cpu_code", str(Path(folder).resolve()), *(only or ()), cache=Path(empty),
                       NUMBA_CPU_NAME=target, NUMBA_CPU_FEATURES="")
    return {name: {**of, "lanes_lost": WIDTHS[target]/of["width"]} for name, of in found.items()}


def main(folder: str, *only: str) -> None:
    package = load(folder, "fastopt_code")
    of = kernels(package)
    names = [name for word in only for name in ([word] if word in of else [x for x in of if x.endswith(f", {word}")])]
    print(json.dumps({name: compiled(package, of[name]) for name in names or of}))


if __name__ == "__main__":
    main(*sys.argv[1:])
