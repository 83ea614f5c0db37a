"""The time of ``import fastopt``, two versions in turn: ``python -m benchmarks.gate.imports BASE HEAD QUARTETS``. Each
import happens in a forked child of a process that has imported Numba already: without that, Numba's own 0.3 to 1 s
would be all that is seen. A child's first import of a version, which writes its bytecode, is not counted."""
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

from . import harness
from .versions import worker


def imported(folder: str) -> float:
    """Seconds that a forked child needs to import the package of a folder."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            sys.path.insert(0, folder)
            start = perf_counter()
            import fastopt
            took = perf_counter() - start
            if Path(fastopt.__file__).resolve().parents[1] == Path(folder).resolve():
                os.write(write, str(took).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    if not said:
        raise RuntimeError(f"imports: the package of {folder} could not be imported.")
    return float(said)


def quartets(folders: Sequence[str], count: int) -> list[tuple[float, float]]:
    """Seconds of each version, quartet by quartet, the order drawn by chance."""
    import numba  # noqa: F401
    if any(name.split(".")[0] == "fastopt" for name in sys.modules):
        raise RuntimeError("imports: fastopt was imported before it was to be timed.")
    for folder in folders:
        imported(folder)
    return harness.quartets(folders, 0.0, lambda folder, calls: imported(folder), (1, 1), least=count)


def pairs(folders: Sequence[Path], count: int) -> list[tuple[float, float]]:
    """`quartets`, in a fresh process that keeps bytecode elsewhere: what one folder has of it would be a head start."""
    with tempfile.TemporaryDirectory() as empty:
        found = worker("gate.imports", *map(str, folders), str(count), PYTHONPYCACHEPREFIX=empty)
    return [(base, head) for base, head in found]


if __name__ == "__main__":
    print(json.dumps(quartets(sys.argv[1:3], int(sys.argv[3]))))
