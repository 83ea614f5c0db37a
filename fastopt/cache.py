"""Compiled code on disk, never stale: one file per kernel, named by everything that decides what it holds.

The name is a digest of the package's sources, the rule's code, the formats, the processor and the versions of Python,
Numba and llvmlite. There is no index that several processes could disagree about, a file is written beside its name and
moved into place, and one that cannot be read or does not match its own checksum is compiled again. (Numba's own cache gives an old
kernel after a rule in another file has changed, and lets two processes on a fresh directory swap their kernels.)
"""
import hashlib
import logging
import os
import pickle
import platform
import sys
import tempfile
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import llvmlite
import numba
from numba.core import compiler
from numba.core.caching import _Cache
from numba.core.registry import cpu_target
from numba.core.runtime import rtsys
from numba.core.serialize import dumps

log = logging.getLogger("fastopt")


def directory() -> Path:
    """Where compiled kernels are kept: $FASTOPT_CACHE, or the user's cache directory."""
    if chosen := os.environ.get("FASTOPT_CACHE"):
        return Path(chosen)
    if sys.platform == "win32":
        root = Path(os.environ.get("LOCALAPPDATA") or _home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        root = _home() / "Library" / "Caches"
    else:
        root = Path(os.environ.get("XDG_CACHE_HOME") or _home() / ".cache")
    return root / "fastopt"


def _home() -> Path:
    """The user's home; for a user that the system does not know (containers), a place where nothing can be kept."""
    try:
        return Path.home()
    except RuntimeError:
        return Path(os.devnull)


OWN = b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))  # as this process runs them: read at import


@lru_cache(maxsize=1)
def sources() -> str:
    """A digest of the package's own sources and of all that turns them into machine code."""
    digest = hashlib.sha256(OWN)
    processor = cpu_target.target_context.codegen().magic_tuple()
    for fact in (sys.version, numba.__version__, llvmlite.__version__, platform.machine(), *processor):
        digest.update(str(fact).encode())
    return digest.hexdigest()


@lru_cache(maxsize=1)
def _say_once(reason: str) -> None:
    log.warning("fastopt: compiled kernels are not kept on disk: %s. Set FASTOPT_CACHE to a writable directory.", reason)


def _path(name: str) -> Path:
    digest = hashlib.sha256(f"{sources()} {name}".encode()).hexdigest()
    return directory() / f"{name.split()[0]}-{digest[:32]}.kernel"


def _read(path: Path) -> bytes | None:
    """What was written to a file, or None where there is none or it is damaged."""
    try:
        stored = path.read_bytes()
    except OSError:
        return None
    checksum, data = stored[:32], stored[32:]
    return data if hashlib.sha256(data).digest() == checksum else None


def _write(path: Path, data: bytes) -> None:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)  # its files are code
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".writing-")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(hashlib.sha256(data).digest() + data)
            os.replace(name, path)
        except OSError:
            os.unlink(name)
            raise
    except OSError as error:
        _say_once(f"{path.parent}: {error.strerror or error}")


def cached(name: str, make: Callable[[], bytes]) -> bytes:
    """The bytes that are kept under a name; made, and kept, where there are none yet. The name decides what they hold."""
    path = _path(name)
    data = _read(path)
    if data is None:
        data = make()
        _write(path, data)
    return data


class KernelCache(_Cache):
    """Numba's interface to one file of compiled code."""

    def __init__(self, name: str):
        self.path = _path(name)
        self.hit = False

    @property
    def cache_path(self):
        return str(self.path.parent)

    def load_overload(self, sig, target_context):
        rtsys.initialize(target_context)  # what compiled code may call; refresh(), 0.3 s, loads what only compiling needs
        data = _read(self.path)
        if data is None:
            return None
        try:
            result = compiler.CompileResult._rebuild(target_context, *pickle.loads(data))
        except (ValueError, EOFError, pickle.UnpicklingError, AttributeError, ImportError, TypeError):
            return None
        self.hit = True
        return result

    def save_overload(self, sig, data):
        _write(self.path, dumps(data._reduce()))

    def enable(self):
        pass

    def disable(self):
        pass

    def flush(self):
        self.path.unlink(missing_ok=True)
