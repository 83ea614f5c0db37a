"""Versions of the package side by side in one process, each under its own name: commits, folders, the first release.
The package imports its own modules by relative imports only, so a copy of it works under any name; each has its
kernels, its pool and its tables. Compiled code names the modules that it came from. So each name needs a disk cache of
its own too: under another name a kernel would be compiled anew, and overwrite the first."""
import importlib.util
import json
import os
import subprocess
import sys
import tarfile
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "fastopt"
FIRST_RELEASE = "c68f9ee"
ALONE = "fastopt_alone"  # the name of a version that has a process to itself: of both, so that they count alike


def load(folder: str | Path, alias: str) -> ModuleType:
    """Import the package that lies in a folder under another name."""
    inside = Path(folder)/PACKAGE
    spec = importlib.util.spec_from_file_location(alias, inside/"__init__.py", submodule_search_locations=[str(inside)])
    if spec is None or spec.loader is None or not is_folder(folder):
        raise ImportError(f"load: there is no package {PACKAGE} in {folder}. Name the folder that holds it.")
    module = sys.modules[alias] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def worker(module: str, *words: str, cache: Path | None = None, timeout: float = 600, **environment: str) -> Any:
    """What a module of this suite prints as JSON on its last line, in a fresh process; RuntimeError if it fails."""
    kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONSAFEPATH", "PYTHONDONTWRITEBYTECODE")}
    kept |= {"PYTHONHASHSEED": "0", **({"FASTOPT_CACHE": str(cache)} if cache else {}), **environment}
    done = subprocess.run([sys.executable, "-m", f"benchmarks.{module}", *words], capture_output=True, text=True,
                          check=False, cwd=Path(__file__).parents[2], timeout=timeout, env=kept)
    if done.returncode:
        raise RuntimeError(f"{module}: a process ended with {done.returncode}.\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def git(*words: str) -> str:
    """What git prints, run in this checkout; LookupError with its message where it fails."""
    return _git(*words).decode().strip()


def _git(*words: str) -> bytes:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, check=False)
    if done.returncode:
        raise LookupError(f"git {' '.join(words)}: {done.stderr.decode().strip()}")
    return done.stdout


def is_folder(version: str | Path) -> bool:
    """Whether this is a folder that holds the package; else it must be a commit."""
    return (Path(version)/PACKAGE/"__init__.py").is_file()


def export(version: str, into: Path) -> Path:
    """The folder of a version's package: `version` itself where it is one, else a commit's files, written to `into`."""
    if is_folder(version):
        return Path(version).resolve()
    commit = git("rev-parse", "--verify", f"{version}^{{commit}}")
    with tarfile.open(fileobj=BytesIO(_git("archive", f"{commit}:", PACKAGE))) as tar:
        tar.extraction_filter = getattr(tarfile, "data_filter", None)  # Pythons before 3.10.12 and 3.11.4 have none
        tar.extractall(into)
    return into


def golden(into: Path) -> Path:
    """The folder that holds the first release, from its commit."""
    try:
        return export(FIRST_RELEASE, into)
    except LookupError as error:
        raise LookupError(f"golden: the commit of the first release, {FIRST_RELEASE}, was not found ({error}), but "
                          "figures beside that release need it. Fetch the history: git fetch --unshallow") from None
