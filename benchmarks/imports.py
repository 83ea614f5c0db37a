"""The time of ``import fastopt``, two versions in turn: ``python -m benchmarks.imports BASE HEAD QUARTETS``.

Each import happens in a forked child of a process that has imported Numba already: without that, Numba's own 0.3 to 1 s would be all that
is seen. A child's first import of a version, which writes its bytecode, is not counted.
"""
import json
import os
import random
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

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
    chance, found = random.Random(0), []
    for _ in range(count):
        order = (0, 1, 1, 0) if chance.random() < 0.5 else (1, 0, 0, 1)
        times = [(k, imported(folders[k])) for k in order]
        first, second = (sum(t for k, t in times if k == which)/2 for which in (0, 1))
        found.append((first, second))
    return found


def pairs(folders: Sequence[Path], count: int) -> list[tuple[float, float]]:
    """`quartets`, in a fresh process that keeps bytecode elsewhere: what one folder has of it would be a head start."""
    with tempfile.TemporaryDirectory() as empty:
        found = worker("imports", *map(str, folders), str(count), PYTHONPYCACHEPREFIX=empty)
    return [(base, head) for base, head in found]


if __name__ == "__main__":
    print(json.dumps(quartets(sys.argv[1:3], int(sys.argv[3]))))
