"""Array libraries: one adapter each, from their arrays to a view of the same memory; and what kernels ask of a view.

A view is a NumPy array, or a `device_arrays.DeviceArray` for memory of a CUDA device. An adapter copies nothing. Parameters must be
writable and dense (C, Fortran or any permuted order without gaps), because they are updated in place; gradients are only read, and may be
strided.
"""
import bisect
import ctypes
import itertools
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import cache
from typing import Any

import numpy as np

from .._checks import cures as advice
from .._formats.catalogue import BY_DTYPE, Format
from . import device_array as device_arrays
from .device_array import DeviceArray, extent

PAGE, LINE = 4096, 64    # bytes
STAGGER = 17*LINE        # between the starts of the arrays of a step, within a page
LARGE = 65_536           # bytes, from which on the start matters
Array = Any              # numpy.ndarray or DeviceArray: what follows asks both for the same
CTYPES = ctypes.Array, ctypes.Structure, ctypes.Union  # `ctypes.resize` may move them
KNOWN = "float64, float32, float16, bfloat16 (ml_dtypes, or its bits as uint16)"


def _numpy(x: np.ndarray, where: str) -> np.ndarray:
    if isinstance(x, np.ma.MaskedArray):
        raise TypeError(f"{where}: a masked array, but kernels do not see masks. Give x.data, or x.filled(0), which is 0 where masked.")
    return x


def _torch(x: Any, where: str) -> Array:
    if not hasattr(x, "data_ptr"):  # a module, for example
        return _buffer(x, where)
    if x.device.type == "cuda":
        return device_arrays.from_torch(x, where)
    if x.device.type != "cpu":
        cure = advice.of_torch(x) if x.device.type == "meta" else "Move it with x.cpu()."
        raise TypeError(f"{where}: a tensor on {x.device}, but one on the CPU or on a CUDA device is needed. {cure}")
    x = x.detach()
    if str(x.dtype) == "torch.bfloat16":
        import torch
        return x.view(torch.int16).numpy().view(np.uint16)
    try:
        return x.numpy()
    except (TypeError, RuntimeError) as error:  # sparse, quantized, or of a dtype that NumPy lacks
        raise TypeError(f"{where}: a torch tensor without a NumPy view ({error}), but one with such a view is needed. "
                        f"{advice.of_torch(x)}") from None


def _jax(x: Any, where: str) -> Array:
    if device_arrays.on_cuda(x):
        return device_arrays.from_dlpack(x, where)
    try:
        return np.asarray(x)  # a read-only view: fine for a gradient, refused as a parameter
    except TypeError as error:  # a tracer
        raise TypeError(f"{where}: a {type(x).__name__} of JAX, which has no numbers, but an array is needed. Call step outside of jax.jit "
                        "and jax.grad.") from error


def _buffer(x: Any, where: str) -> Array:
    if isinstance(x, DeviceArray):
        return device_arrays.checked(x, where)
    if isinstance(x, (float, int)) and not isinstance(x, bool):
        return _read_only(np.asarray(float(x)))
    if hasattr(x, "__cuda_array_interface__"):
        return device_arrays.from_interface(x, where)
    if device_arrays.on_cuda(x):
        return device_arrays.from_dlpack(x, where)
    try:
        return np.asarray(memoryview(x))
    except (TypeError, ValueError, BufferError):
        pass
    if by_array(x):
        with suppress(Exception):  # what is sparse, symbolic, or on another device, refuses in its own words
            return _read_only(_numpy(np.asarray(x), where))
    raise TypeError(f"{where}: a {type(x).__name__}, but an array is needed (NumPy, a tensor of torch, any buffer, or an array on a "
                    f"CUDA device). {advice.of_object(x, where)}")


def by_array(x: Any) -> bool:
    """Whether it turns into a NumPy array when asked: into a view of its numbers, or into a copy."""
    return any(hasattr(type(x), name) for name in ("__array__", "__array_interface__", "__array_struct__")) and not isinstance(x, type)


def _read_only(array: np.ndarray) -> np.ndarray:
    """A view that can be read: what is written into it might be lost."""
    array = array.view()
    array.flags.writeable = False
    return array


ADAPTERS = {"torch": _torch, "jax": _jax, "jaxlib": _jax}


def view(x: Any, where: str) -> Array:
    """The view of an array of any library; TypeError with the path for anything else."""
    if isinstance(x, np.ndarray):
        return _numpy(x, where)
    if isinstance(x, np.generic):
        return _read_only(np.asarray(x))  # what NumPy makes of 0-d arrays: fine for a gradient, refused as a parameter
    return ADAPTERS.get(_library(type(x)), _buffer)(x, where)  # type: ignore[arg-type]


@cache
def _library(kind: type) -> str:
    """The library of a class, or of one that it is made from, among those that have an adapter; else ""."""
    return next((root for base in kind.__mro__ if (root := base.__module__.partition(".")[0]) in ADAPTERS), "")


def own_view(x: Any, where: str) -> Array:
    """The same, with a header of its own: what a program does to the array's dtype or shape later does not change it."""
    array = view(x, where)
    return array.view(np.ndarray) if isinstance(array, np.ndarray) else array


def facts(of: Sequence[Any]) -> list[Any]:
    """What must not change of arrays that a step writes: address, dtype, shape, strides, and whether they may be written."""
    return [_facts(x) for x in of]


def _facts(x: Any) -> Any:
    try:
        if _library(type(x)) == "torch":  # type: ignore[arg-type]
            return x.data_ptr(), x.dtype, x.shape, x.stride(), x.requires_grad
        if isinstance(x, CTYPES):
            return ctypes.addressof(x), ctypes.sizeof(x)
        array = view(x, "")
        return address(array), array.dtype, array.shape, array.strides, writable(array)
    except Exception as error:  # the library's own: it has no such memory any more
        return repr(error)


def torch_tensors(of: Iterable[Any]) -> list[Any]:
    """Those of some arrays that are torch's."""
    kind = getattr(sys.modules.get("torch"), "Tensor", ())
    return [x for x in of if isinstance(x, kind)]


def tell_autograd(tensors: Sequence[Any]) -> None:
    """Tell torch that tensors change: a backward pass that needs their old values then raises its error."""
    if tensors:
        sys.modules["torch"].autograd.graph.increment_version(tensors)


def on_host(x: Any, where: str) -> np.ndarray:
    """The NumPy view of an array, or a copy where it lies on a device."""
    array = view(x, where)
    return array.copy_to_host() if isinstance(array, DeviceArray) else array


def format_of(array: Array, where: str, original: Any = None) -> Format:
    """The storage format of the dtype of an array, which is a view of the original."""
    dtype = array.dtype
    if dtype.name != "bfloat16" and not dtype.isnative:
        raise TypeError(f"{where}: dtype {dtype!s} in foreign byte order, but this machine's is needed. "
                        f"{advice.of_dtype(array, original)}")
    if dtype.name not in BY_DTYPE:
        raise TypeError(f"{where}: dtype {dtype}, but one of {KNOWN} is needed. {advice.of_dtype(array, original)}")
    return BY_DTYPE[dtype.name]


def memory_order(array: Array) -> tuple[int, ...] | None:
    """The axes longer than 1 from the outermost in memory to the innermost, or None where the array has gaps."""
    if array.size <= 1:
        return ()
    axes = sorted((d for d in range(array.ndim) if array.shape[d] > 1), key=lambda d: -array.strides[d])
    step = array.itemsize
    for d in reversed(axes):
        if array.strides[d] != step:
            return None
        step *= array.shape[d]
    return tuple(axes)


def address(array: Array) -> int:
    return array.address if isinstance(array, DeviceArray) else array.__array_interface__["data"][0]


def piece(array: Array, start: int, stop: int) -> Array:
    """The bytes from `start` to `stop` of a row of bytes."""
    return array.piece(start, stop) if isinstance(array, DeviceArray) else array[start:stop]


def bounds(array: Array) -> tuple[int, int]:
    """The addresses of an array's first byte and of the one behind its last: strides may be negative, or leave gaps."""
    low, high = extent(array)
    return address(array) + low, address(array) + high


def touches(spans: list[tuple[int, int]], low: int, high: int) -> bool:
    """Whether memory from low to high meets one of the sorted, separate spans."""
    k = bisect.bisect_left(spans, (high, 0)) - 1
    return k >= 0 and spans[k][1] > low


def apart(array: Array, other: Array) -> tuple[str, str] | None:
    """In which memory each of two arrays lies, or None where it is the same."""
    if isinstance(array, DeviceArray) and isinstance(other, DeviceArray):
        devices = array.device, other.device
        return None if None in devices or devices[0] == devices[1] else (f"on CUDA device {devices[0]}", f"on CUDA device {devices[1]}")
    here, there = (("on a CUDA device" if isinstance(a, DeviceArray) else "in this machine's memory") for a in (array, other))
    return None if here == there else (here, there)


def writable(array: Array) -> bool:
    return bool(array.writeable if isinstance(array, DeviceArray) else array.flags.writeable)


def immutable(original: Any) -> bool:
    """Whether an array's library never lets it change, whatever its memory says."""
    return type(original).__module__.partition(".")[0] in ("jax", "jaxlib")


def frozen(original: Any) -> bool:
    """Whether it is a parameter of a torch module that is not to be trained."""
    return any(isinstance(x, sys.modules["torch"].nn.Parameter) and not x.requires_grad for x in torch_tensors([original]))


def check_parameter(array: Array, original: Any, where: str) -> tuple[int, ...]:
    """The memory order of a parameter; an error where it cannot be updated in place."""
    if immutable(original):
        cure = ("where they can be written: numpy.array(x), cupy.array(x), or torch's." if isinstance(array, DeviceArray) else
                "in NumPy: numpy.array(x).")
        raise TypeError(f"{where}: a JAX array, which is immutable. Keep the parameters {cure}")
    if frozen(original):
        raise ValueError(f"{where}: a torch parameter with requires_grad=False, which is frozen. Leave it out, or give it as {where}.data "
                         "if it is to be updated all the same.")
    if isinstance(original, (np.generic, float, int)):
        kind, dtype = ("NumPy scalar", "") if isinstance(original, np.generic) else (type(original).__name__, ", numpy.float64")
        raise TypeError(f"{where}: a {kind}, which cannot be updated in place. Make it an array with numpy.array(x{dtype}).")
    if not writable(array):
        if by_array(original) and not isinstance(original, np.ndarray):
            raise TypeError(f"{where}: a {type(original).__name__}, which may hand out a copy, in which an update is lost. Keep the "
                            "parameters in NumPy: numpy.array(x).")
        raise ValueError(f"{where}: read-only, but it is updated in place. Give a copy, numpy.array(x).")
    order = memory_order(array)
    if order is None:
        raise ValueError(f"{where}: strides {array.strides} for shape {array.shape} and {array.itemsize}-byte elements, but memory "
                         "without gaps is needed. Give the array that it is a part of, or a copy (which is then what is updated).")
    return order


def owners(array: Any) -> list[Any]:
    """What an array is a view of, link by link, as far as its memory may be resized or replaced: arrays, and what ctypes has made."""
    found: list[Any] = []
    base = getattr(array, "base", None)
    while base is not None:
        if isinstance(base, memoryview):
            base = base.obj
        if isinstance(base, (np.ndarray, *CTYPES)):
            found.append(base)
        base = base.base if isinstance(base, np.ndarray) else getattr(base, "_b_base_", None)
    return found


def homeless(original: Any) -> bool:
    """Whether an array is a view of another whose memory was resized or replaced: the view still points to the old one."""
    if not isinstance(original, np.ndarray) or not original.size:
        return False
    low, high = bounds(original)
    for owner in owners(original):
        start = None if isinstance(owner, np.ndarray) else ctypes.addressof(owner)
        first, last = bounds(owner) if start is None else (start, start + ctypes.sizeof(owner))
        if not first <= low <= high <= last:
            return True
    return False


def zeros_like(array: np.ndarray, dtype: np.dtype, order: tuple[int, ...], place: int) -> np.ndarray:
    """Zeros of this shape and memory order. From calloc: pages are touched by the first step, not twice.

    Large ones start `place` steps of 17 cache lines further into a page than `array`: streams that start equally meet in the same sets
    of the caches. Momentum on 1e6 and 1e7 elements takes 1.15 and 1.10 times the ceiling without, 1.05 and 1.04 with it.
    """
    dtype = np.dtype(dtype)
    size = array.size*dtype.itemsize
    if size < LARGE:
        flat = np.zeros(array.size, dtype)
    else:
        block = np.zeros(size + 2*PAGE, np.uint8)
        start = -address(block) % PAGE + (address(array) + place*STAGGER) % PAGE
        flat = block[start:start + size].view(dtype)
    if array.size <= 1:
        return flat.reshape(array.shape)
    outer = [d for d in range(array.ndim) if array.shape[d] == 1] + list(order)
    return flat.reshape([array.shape[d] for d in outer]).transpose(np.argsort(outer))


def check_overlap(named: list[tuple[str, Array]]) -> None:
    """ValueError where two of the arrays share memory: each would be updated by both."""
    ranges = sorted((address(a), address(a) + a.nbytes, name) for name, a in named if a.size)
    for (_, end, first), (start, _, second) in itertools.pairwise(ranges):
        if start < end:
            raise ValueError(f"{second}: its memory overlaps that of {first}, but each needs its own. Give one of them as a copy.")
