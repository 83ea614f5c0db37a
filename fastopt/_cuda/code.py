"""From a kernel's Python function to code for a CUDA device, kept on disk. No GPU is needed.

Numba compiles to LTO-IR; NVIDIA's linker links that without contraction (``-fma=0``): every operation is rounded as
IEEE says, so the device gives the bits of NumPy and of the CPU. This file alone knows numba.cuda's inside, which is
three names of modules: `import_registries` and `compiling` say why nothing public does.
"""
import importlib
import importlib.metadata
import os
import re
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from .._kernels.cache import cached
from .._signals import UNDISTURBED
from .libraries import EXTRA

TOOLS = {"nvidia-nvvm": "nvvm", "nvidia-nvjitlink": "nvJitLink"}  # packages, and the libraries in them
IMPORTING = threading.Lock()  # filters of warnings, and what is lent to NumPy, are those of all threads
UPDATE = 'pip install --upgrade "nvidia-nvjitlink>=13,<14" "nvidia-nvvm>=13,<14"'


class UnknownChip(ImportError):
    """The linker is older than the device."""


class Code(NamedTuple):
    """A kernel for one architecture: its entry's name, and a cubin (or PTX text with a zero at its end)."""

    name: str
    image: bytes


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:  # conda's packages have other names
        return None


def _loaded(library: str) -> str:
    """Which file one of NVIDIA's libraries is, and in which state: toolkits have no version for updates."""
    from cuda.pathfinder import DynamicLibNotFoundError, load_nvidia_dynamic_lib
    try:
        path = load_nvidia_dynamic_lib(library).abs_path
    except DynamicLibNotFoundError as error:
        raise ImportError(f"CUDA arrays: NVIDIA's library {library} was not found ({str(error).splitlines()[0]}). "
                          f"Install the extra: {EXTRA}") from None
    about = os.stat(path)
    return f"{path} {about.st_size} {about.st_mtime_ns}"


@cache
def versions() -> tuple[str, ...]:
    """The versions of all that decides what a kernel compiles to, but our sources; ImportError without the extra."""
    found = {name: _version(name) for name in ("numba", "numba-cuda", "llvmlite", "nvidia-nvvm", "nvidia-nvjitlink")}
    if found["numba-cuda"] is None:
        raise ImportError(f"CUDA arrays: numba-cuda is not installed. Install the extra: {EXTRA}")
    for name, library in TOOLS.items():
        if found[name] is None:
            found[name] = _loaded(library)
    return tuple(f"{name} {version}" for name, version in found.items())


@cache
def import_registries() -> None:
    """Import what Numba knows of CUDA, once. It names `numpy.row_stack`, which NumPy 2.5 no longer has.

    `numba.cuda.compile` imports the same module, and fails there: so it is imported before, with that name lent. It
    also makes a time without a unit, of which NumPy 2.5 warns: a program that takes warnings as errors compiles, too.
    """
    gone = "row_stack"
    with IMPORTING, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        lacking = gone not in vars(np)
        if lacking:
            setattr(np, gone, np.vstack)
        try:
            importlib.import_module("numba.cuda.cudaimpl")
        finally:
            if lacking:
                delattr(np, gone)


@contextmanager
def compiling(cc: tuple[int, int]) -> Iterator[None]:
    """Numba compiles for "the current device": answer for the one that is meant, whether it is there or not.

    `numba.cuda.compile` takes a `cc`, but device functions that a kernel calls are compiled without it. Nothing public
    tells them, so the extra pins numba-cuda's minor version. The compiler's lock lets compilations of other threads
    wait.
    """
    import_registries()  # the first import of numba.cuda
    import numba.cuda.dispatcher as dispatcher
    from numba.cuda.core.compiler_lock import global_compiler_lock
    with global_compiler_lock:
        before = dispatcher.get_current_device
        dispatcher.get_current_device = lambda: SimpleNamespace(compute_capability=cc)
        try:
            yield
        finally:
            dispatcher.get_current_device = before


def link(ltoir: bytes, cc: tuple[int, int], form: str = "cubin") -> bytes:
    """Machine code of LTO-IR, or its PTX, without contraction of products and sums."""
    from cuda.bindings import nvjitlink
    try:
        return _link(nvjitlink, ltoir, [f"-arch=sm_{cc[0]}{cc[1]}", "-lto", "-O3", "-fma=0"], form)
    except RuntimeError as error:  # the bindings name a function that this library lacks
        raise ImportError(f"CUDA arrays: nvJitLink is older than cuda-bindings, which needs more of it ({error}). "
                          f"Install a newer one: {UPDATE}") from error
    except nvjitlink.nvJitLinkError as error:
        linker = f"nvJitLink {'.'.join(map(str, nvjitlink.version()))}"
        if error.status in (nvjitlink.Result.ERROR_UNRECOGNIZED_ARCH, nvjitlink.Result.ERROR_UNSUPPORTED_ARCH):
            raise UnknownChip(f"CUDA arrays: {linker} makes no code for compute capability {cc[0]}.{cc[1]}. Install a "
                              f"newer one: {UPDATE}") from error
        if error.status == nvjitlink.Result.ERROR_OUTDATED_LIBRARY:
            raise ImportError(f"CUDA arrays: {linker} is older than the compiler NVVM, whose code it cannot read. "
                              f"Install both of one version: {UPDATE}") from error
        said = " ".join(getattr(error, "log", "").split())
        raise RuntimeError(f"CUDA arrays: {linker} refused a kernel: {error}{f' ({said})' if said else ''}. Report "
                           f"this with the versions {', '.join(versions())}.") from error


def _link(nvjitlink: Any, ltoir: bytes, options: list[str], form: str) -> bytes:
    options = [*options, *(["-ptx"] if form == "ptx" else [])]
    handle = nvjitlink.create(len(options), options)
    try:
        nvjitlink.add_data(handle, nvjitlink.InputType.LTOIR, ltoir, len(ltoir), "kernel")
        nvjitlink.complete(handle)
        size, get = ((nvjitlink.get_linked_ptx_size, nvjitlink.get_linked_ptx) if form == "ptx" else
                     (nvjitlink.get_linked_cubin_size, nvjitlink.get_linked_cubin))
        code = bytearray(size(handle))
        get(handle, code)
    except nvjitlink.nvJitLinkError as error:
        log = bytearray(nvjitlink.get_error_log_size(handle))
        nvjitlink.get_error_log(handle, log)
        error.log = log.decode(errors="replace").rstrip("\0")
        raise
    finally:
        nvjitlink.destroy(handle)
    return bytes(code)


def _known() -> list[tuple[int, int]]:
    """The architectures that the compiler knows, newest first."""
    _loaded("nvrtc")
    from cuda.bindings import nvrtc
    return sorted((divmod(arch, 10) for arch in nvrtc.nvrtcGetSupportedArchs()[1]), reverse=True)


@UNDISTURBED
def code(name: str, cc: tuple[int, int], form: str, build: Callable[[], tuple[Any, Any]], bounds: Any) -> Code:
    """The code of the kernel that build() returns with its signature, through the disk cache under its name.

    For a chip that the linker does not know yet it is PTX of an older one, from which the driver makes machine code:
    rounding is written into every instruction of it, so that the bits are the same.
    """
    def make_for(arch, form):
        try:
            with compiling(arch):
                from numba import cuda
                function, signature = build()
                ltoir, _ = cuda.compile(function, signature, cc=arch, output="ltoir", device=False, abi="numba",
                                        launch_bounds=bounds)
        except RuntimeError as error:
            if "libdevice" not in str(error):
                raise
            raise ImportError("CUDA arrays: NVVM's file libdevice was not found. Install the extra, or let CUDA_PATH "
                              f"name a toolkit that has nvvm/libdevice: {EXTRA}") from error
        except (AttributeError, ImportError) as error:  # versions that do not go together
            raise ImportError(f"CUDA arrays: numba-cuda {_version('numba-cuda')} does not compile with NumPy "
                              f"{np.__version__} and Numba {_version('numba')} ({error}). Install the versions of the "
                              f"extra: {EXTRA}") from error
        return link(ltoir, arch, form)

    def make():
        known = _known()
        if cc < known[-1]:
            raise ImportError(f"CUDA arrays: compute capability {cc[0]}.{cc[1]}, but this compiler makes code for "
                              f"{known[-1][0]}.{known[-1][1]} and newer. Use a newer device, or NumPy arrays.")
        try:
            return make_for(cc, form)
        except UnknownChip:
            for arch in (arch for arch in known if arch < cc):
                with suppress(UnknownChip):
                    return make_for(arch, "ptx")
            raise

    image = cached(f"{name} {cc} {form} {versions()}", make)
    entry = (re.search(rb"\.text\.([\w$]+)\0", image) if image.startswith(b"\x7fELF") else
             re.search(rb"\.entry\s+([\w$]+)", image))
    if entry is None:
        raise RuntimeError(f"CUDA: no kernel in what was linked for {name}. Report this with the versions "
                           f"{', '.join(versions())}.")
    return Code(entry[1].decode(), image)
