"""Compiled code on disk, never stale: one file per kernel, named by everything that decides what it holds.

The name is a digest of the modules that make kernels, the rule's code, the formats, the processor and the versions of
Python, NumPy, Numba and llvmlite. There is no index that several processes could disagree about. A file is written
beside its name and moved into place. It begins with a checksum of its name and its contents: a damaged file, or one
that was renamed, is compiled again. So is one that somebody else can have written, since its code would run with this
user's rights. (Numba's own cache gives an old kernel after a rule in another file has changed, and lets two processes
on a fresh directory swap their kernels.)
"""
import hashlib
import importlib.util
import logging
import os
import pickle
import pkgutil
import platform
import stat
import sys
import tempfile
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import llvmlite
import numba
import numpy as np
from numba.core import compiler, config
from numba.core.caching import _Cache
from numba.core.registry import cpu_target
from numba.core.runtime import rtsys
from numba.core.serialize import dumps

from .._rule.digest import code_facts

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


PACKAGE = __name__.partition(".")[0]
# The packages and modules that decide what a kernel holds. Those that only call kernels are not among them: their edits
# recompile nothing.
MAKERS = ("_cpu", "_cuda", "_formats", "_kernels", "_rule", "bench.ceiling", "notation", "rules")


def _modules(name: str) -> list[str]:
    """A module, or all modules of a package, by what its loader says: in a folder, a zip, or a frozen application."""
    spec = importlib.util.find_spec(f"{PACKAGE}.{name}")
    where = spec and spec.submodule_search_locations
    if not where:
        return [name]
    found = sorted(module.name for module in pkgutil.iter_modules(list(where)))
    if not found:
        raise ImportError(f"the loader of {PACKAGE}.{name} does not tell what is in it")
    return [f"{name}.{module}" for module in found]


def _executed(module: str) -> bytes:
    """What Python executes as a module: its file, in a folder or a zip, or its code in a frozen application."""
    spec = importlib.util.find_spec(f"{PACKAGE}.{module}")
    loader: Any = spec and spec.loader
    try:
        data = loader.get_data(spec and spec.origin)
        return data[16:] if data[:4] == importlib.util.MAGIC_NUMBER else data  # a .pyc without its time
    except (AttributeError, OSError):
        return "\n".join(code_facts(loader.get_code(f"{PACKAGE}.{module}"))).encode()


def _own() -> bytes | None:
    """What makes kernels, or None where the loader does not tell."""
    try:
        return b"".join(_executed(module) for maker in MAKERS for module in _modules(maker))
    except (AttributeError, ImportError, OSError):
        return None


OWN = _own()  # as this process runs it: read at import
SWITCHES = ("OPT", "LOOP_VECTORIZE", "SLP_VECTORIZE", "BOUNDSCHECK", "DEBUGINFO_DEFAULT")  # Numba's, that change code


@lru_cache(maxsize=1)
def sources() -> str:
    """A digest of the modules that make kernels and of all that turns them into machine code."""
    digest = hashlib.sha256(OWN or b"")
    versions = sys.version, numba.__version__, llvmlite.__version__, np.__version__
    switches = [getattr(config, name, None) for name in SWITCHES]
    for fact in (PACKAGE, *versions, *switches, platform.machine(), *cpu_target.target_context.codegen().magic_tuple()):
        digest.update(f"{fact}\n".encode())
    return digest.hexdigest()


@lru_cache
def _say_once(message: str) -> None:
    log.warning("fastopt: %s", message)


def _not_kept(reason: str) -> None:
    _say_once(f"compiled kernels are not kept on disk: {reason}. Set FASTOPT_CACHE to the absolute path of a directory "
              "that only you can write to.")


def _others(info: os.stat_result) -> str | None:
    """How somebody else can have written what is there, if so."""
    if os.name != "posix":
        return None
    if info.st_uid not in (0, os.geteuid()):
        return f"belongs to user {info.st_uid}"
    return f"has mode {stat.S_IMODE(info.st_mode):o}, so that others can write to it" if info.st_mode & 0o022 else None


def refusal(directory: Path) -> str | None:
    """Why kernels in a directory are neither used nor kept, if so."""
    if OWN is None:
        return f"the loader of {PACKAGE} does not tell what it executes"
    if not directory.is_absolute():
        return f"{str(directory)!r} is a relative path"
    try:
        others = _others(directory.stat())
    except OSError:  # not there: it is made, or what is wrong is said, when a kernel is kept
        return None
    return f"{directory} {others}" if others else None


def _key(name: str) -> bytes:
    return hashlib.sha256(f"{sources()} {name}".encode()).digest()


def _path(name: str) -> Path:
    return directory() / f"{name.split()[0]}-{_key(name).hex()[:32]}.kernel"


def _checksum(name: str, data: bytes) -> bytes:
    return hashlib.sha256(_key(name) + data).digest()


# A link is not followed, and a pipe or a terminal not waited for
CAREFUL = sum(getattr(os, flag, 0) for flag in ("O_NOFOLLOW", "O_NONBLOCK", "O_NOCTTY", "O_BINARY"))


def _read(path: Path, name: str) -> bytes | None:
    """What was written to a file under this name; None where it is damaged, or somebody else's."""
    if refusal(path.parent):
        return None
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | CAREFUL), "rb") as file:
            info = os.fstat(file.fileno())
            others = _others(info) if stat.S_ISREG(info.st_mode) else "is no regular file"
            if others:
                _say_once(f"a file in {path.parent} {others}. It is not used: its kernel is compiled and written "
                          "again.")
                return None
            stored = file.read()
    except OSError:
        return None
    checksum, data = stored[:32], stored[32:]
    return data if _checksum(name, data) == checksum else None


def _write(path: Path, name: str, data: bytes) -> None:
    try:
        if path.parent.is_absolute():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)  # its files are code
        if reason := refusal(path.parent):
            _not_kept(reason)
            return
        handle, writing = tempfile.mkstemp(dir=path.parent, prefix=".writing-")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(_checksum(name, data) + data)
            os.replace(writing, path)
        except OSError:
            os.unlink(writing)
            raise
    except OSError as error:
        _not_kept(f"{path.parent}: {error.strerror or error}")


def cached(name: str, make: Callable[[], bytes]) -> bytes:
    """The bytes that are kept under a name, which decides what they hold. Where there are none, they are made."""
    path = _path(name)
    data = _read(path, name)
    if data is None:
        data = make()
        _write(path, name, data)
    return data


class KernelCache(_Cache):
    """Numba's interface to one file of compiled code."""

    def __init__(self, name: str):
        self.name, self.path = name, _path(name)
        self.hit = False

    @property
    def cache_path(self):
        return str(self.path.parent)

    def load_overload(self, sig, target_context):
        rtsys.initialize(target_context)  # what code may call; refresh(), 0.3 s, loads what compiling needs
        data = _read(self.path, self.name)
        if data is None:
            return None
        try:
            result = compiler.CompileResult._rebuild(target_context, *pickle.loads(data))
        except (ValueError, EOFError, pickle.UnpicklingError, AttributeError, ImportError, TypeError):
            return None
        self.hit = True
        return result

    def save_overload(self, sig, data):
        _write(self.path, self.name, dumps(data._reduce()))

    def enable(self):
        pass

    def disable(self):
        pass

    def flush(self):
        self.path.unlink(missing_ok=True)
