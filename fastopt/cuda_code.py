"""From a kernel's Python function to code for a CUDA device, with no GPU: compiled by Numba, linked by NVIDIA's linker, kept on disk.

Numba compiles to LTO-IR; it is linked without contraction (``-fma=0``): every operation is rounded as IEEE says, so the device gives the
bits of NumPy and of the CPU. The only file that knows numba.cuda's inside.
"""
import importlib.metadata
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from types import SimpleNamespace
from typing import Any, NamedTuple

from llvmlite import ir

from . import elements, formats, vectors
from .cache import cached
from .device_arrays import EXTRA
from .undisturbed import UNDISTURBED


class Code(NamedTuple):
    """A kernel for one architecture: its entry's name, and a cubin (or PTX text with a zero at its end)."""

    name: str
    image: bytes


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:  # conda's packages have other names
        return None


@cache
def versions() -> tuple[str, ...]:
    """Of everything that decides what a kernel compiles to, beside the package's own sources; ImportError without the extra."""
    found = {name: _version(name) for name in ("numba", "numba-cuda", "llvmlite", "nvidia-nvvm", "nvidia-nvjitlink")}
    if found["numba-cuda"] is None:
        raise ImportError(f"CUDA arrays: numba-cuda is not installed. Install the extra: {EXTRA}")
    if found["nvidia-nvjitlink"] is None:
        from cuda.bindings import nvjitlink
        found["nvidia-nvjitlink"] = str(nvjitlink.version())
    return tuple(f"{name} {version}" for name, version in found.items())


@contextmanager
def compiling(cc: tuple[int, int]) -> Iterator[None]:
    """Numba compiles functions that a kernel calls for "the current device": answer for the one that is meant, GPU or not.

    There is no public way to say it, so the extra pins numba-cuda's minor version. Other threads' compilations wait meanwhile.
    """
    import numba.cuda.dispatcher as dispatcher
    from numba.cuda.core.compiler_lock import global_compiler_lock

    with global_compiler_lock:
        before = dispatcher.get_current_device
        dispatcher.get_current_device = lambda: SimpleNamespace(compute_capability=cc)
        elements.DEVICE_CONVERSIONS.update(_conversions(cc))
        vectors.PAIR.update(_pairs(cc))
        try:
            yield
        finally:
            dispatcher.get_current_device = before
            elements.DEVICE_CONVERSIONS.clear()
            vectors.PAIR.clear()


def _conversions(cc):
    """One instruction where the formula takes eight to fifteen: a 16-bit step would be bound by them, not by memory. Same bits."""
    half, single, bits = ir.HalfType(), ir.FloatType(), ir.IntType(16)
    rounded = ir.InlineAsm(ir.FunctionType(bits, [single]), "cvt.rn.bf16.f32 $0, $1;", "=h,f")
    table = {formats.decode_f16: lambda b, x: b.fpext(b.bitcast(x, half), single),
             formats.encode_f16: lambda b, x: b.bitcast(b.fptrunc(x, half), bits)}
    if cc >= (8, 0):
        table[formats.encode_bf16] = lambda b, x: b.call(rounded, [x])
    return table


def _pairs(cc):
    if cc < (8, 0):
        return {}
    kind = ir.FunctionType(ir.IntType(32), [ir.FloatType()]*2)

    def pair(name):
        instruction = ir.InlineAsm(kind, f"{name} $0, $1, $2;", "=r,f,f")
        return lambda b, low, high: b.call(instruction, [high, low])
    return {formats.encode_bf16: pair("cvt.rn.bf16x2.f32"), formats.encode_f16: pair("cvt.rn.f16x2.f32")}


def link(ltoir: bytes, cc: tuple[int, int], form: str = "cubin") -> bytes:
    """Machine code of LTO-IR, or its PTX, without contraction of products and sums."""
    from cuda.bindings import nvjitlink
    options = [f"-arch=sm_{cc[0]}{cc[1]}", "-lto", "-O3", "-fma=0", *(["-ptx"] if form == "ptx" else [])]
    handle = nvjitlink.create(len(options), options)
    try:
        nvjitlink.add_data(handle, nvjitlink.InputType.LTOIR, ltoir, len(ltoir), "kernel")
        nvjitlink.complete(handle)
        size, get = ((nvjitlink.get_linked_ptx_size, nvjitlink.get_linked_ptx) if form == "ptx" else
                     (nvjitlink.get_linked_cubin_size, nvjitlink.get_linked_cubin))
        code = bytearray(size(handle))
        get(handle, code)
    finally:
        nvjitlink.destroy(handle)
    return bytes(code)


@UNDISTURBED
def code(name: str, cc: tuple[int, int], form: str, build: Callable[[], tuple[Any, Any]], bounds: Any) -> Code:
    """The code of the kernel that build() returns with its signature, through the disk cache under its name."""
    def make():
        try:
            from numba import cuda
            with compiling(cc):
                function, signature = build()
                ltoir, _ = cuda.compile(function, signature, cc=cc, output="ltoir", device=False, abi="numba", launch_bounds=bounds)
        except (AttributeError, ImportError) as error:  # versions that do not go together
            raise ImportError(f"CUDA arrays: numba-cuda {_version('numba-cuda')} does not compile with NumPy {_version('numpy')} and Numba "
                              f"{_version('numba')} ({error}). Install the versions of the extra: {EXTRA}") from error
        return link(ltoir, cc, form)

    image = cached(f"{name} {cc} {form} {versions()}", make)
    entry = re.search(rb"\.entry\s+([\w$]+)", image) if form == "ptx" else re.search(rb"\.text\.([\w$]+)\0", image)
    if entry is None:
        raise RuntimeError(f"cuda_code: no kernel in what was linked for {name}. Report this with the versions {', '.join(versions())}.")
    return Code(entry[1].decode(), image)
