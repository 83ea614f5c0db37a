"""Versions of the package side by side in one process, each under a name of its own: commits, folders, the first release.

The package imports its own modules by relative imports only, so a copy of it works under any name; each has its kernels, its pool and
its tables, and a disk cache may be shared, since a kernel's file is named by the sources that made it.
"""
import importlib.util
import subprocess
import sys
import tarfile
import zipfile
from io import BytesIO
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "fastopt"
FIRST_RELEASE = "c68f9ee"  # the commit of the wheel in golden/


def load(folder: str | Path, alias: str) -> ModuleType:
    """Import the package that lies in a folder under another name."""
    inside = Path(folder)/PACKAGE
    spec = importlib.util.spec_from_file_location(alias, inside/"__init__.py", submodule_search_locations=[str(inside)])
    if spec is None or spec.loader is None or not (inside/"__init__.py").is_file():
        raise ImportError(f"load: there is no package {PACKAGE} in {folder}. Name the folder that holds it.")
    module = sys.modules[alias] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def part(package: ModuleType, name: str) -> ModuleType:
    """A module of a loaded package."""
    return importlib.import_module(f"{package.__name__}.{name}")


def git(*words: str, binary: bool = False) -> str | bytes:
    """What git prints, run in this checkout; LookupError with its message where it fails."""
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, check=False)
    if done.returncode:
        raise LookupError(f"git {' '.join(words)}: {done.stderr.decode().strip()}")
    return done.stdout if binary else done.stdout.decode().strip()


def export(version: str, into: Path) -> Path:
    """The folder that holds a version's package: `version` itself where it is such a folder, else a commit's files, written to `into`."""
    if (Path(version)/PACKAGE/"__init__.py").is_file():
        return Path(version).resolve()
    archive = git("archive", f"{git('rev-parse', '--verify', f'{version}^{{commit}}')}:", PACKAGE, binary=True)
    with tarfile.open(fileobj=BytesIO(archive)) as tar:
        tar.extractall(into, filter="data")
    return into


def golden(into: Path) -> Path:
    """The folder that holds the first release, unpacked from the wheel that the suite keeps (README.md says why and how it was made)."""
    with zipfile.ZipFile(next(ROOT.glob("benchmarks/golden/*.whl"))) as wheel:
        wheel.extractall(into)
    return into
