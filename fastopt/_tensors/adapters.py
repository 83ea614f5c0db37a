"""Array libraries: a view of the memory of their arrays, and what they know of an array that its view does not tell.

A view is a NumPy array, or a `DeviceArray` for memory of a CUDA device. Making one copies nothing.
"""
import ctypes
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import cache
from typing import Any

import numpy as np

from .._checks import cures
from . import places
from .device_array import Array, DeviceArray, address, extent, writable

CTYPES = ctypes.Array, ctypes.Structure, ctypes.Union  # `ctypes.resize` may move them
DLPACK_CUDA, DLPACK_MANAGED = 2, 13


def view(x: Any, where: str) -> Array:
    """The view of an array of any library; TypeError with the path for anything else."""
    if isinstance(x, np.ndarray):
        return _numpy(x, where)
    if isinstance(x, np.generic):
        return _read_only(np.asarray(x))  # fine for a gradient, refused as a parameter
    return ADAPTERS.get(_library(type(x)), _buffer)(x, where)  # type: ignore[arg-type]


def own_view(x: Any, where: str) -> Array:
    """As `view`, with a header of its own, which no change of the array's dtype or shape reaches."""
    array = view(x, where)
    return np.ndarray.view(array, np.ndarray) if isinstance(array, np.ndarray) else array  # subclasses may differ


def on_host(x: Any, where: str) -> np.ndarray:
    """The NumPy view of an array, or a copy where it lies on a device."""
    array = view(x, where)
    return array.copy_to_host() if isinstance(array, DeviceArray) else array


def on_cuda(x: Any) -> bool:
    """Whether an array says, by DLPack, that it lies on a CUDA device."""
    try:
        return x.__dlpack_device__()[0] in (DLPACK_CUDA, DLPACK_MANAGED)
    except (AttributeError, TypeError, ValueError, IndexError, RuntimeError, BufferError):  # no such array
        return False


def _numpy(x: np.ndarray, where: str) -> np.ndarray:
    if isinstance(x, np.ma.MaskedArray):
        raise TypeError(f"{where}: a masked array, but kernels do not see masks. Give x.data, or x.filled(0), which is "
                        "0 where masked.")
    return x


def _torch(x: Any, where: str) -> Array:
    if not hasattr(x, "data_ptr"):  # a module, for example
        return _buffer(x, where)
    if x.device.type == "cuda":
        return places.at("cuda", "libraries").from_torch(x, where)
    if x.device.type != "cpu":
        cure = cures.of_torch(x) if x.device.type == "meta" else "Move it with x.cpu()."
        raise TypeError(f"{where}: a tensor on {x.device}, but one on the CPU or on a CUDA device is needed. {cure}")
    x = x.detach()
    try:
        bits = str(x.dtype) == "torch.bfloat16"
        array = x.view(sys.modules["torch"].int16).numpy().view(np.uint16) if bits else x.numpy()
    except (TypeError, RuntimeError) as error:  # sparse, quantized, or of a dtype that NumPy lacks
        raise TypeError(f"{where}: a torch tensor without a NumPy view ({error}), but one with such a view is needed. "
                        f"{cures.of_torch(x)}") from None
    end, held = x.storage_offset()*array.itemsize + extent(array)[1], x.untyped_storage().nbytes()
    if array.size and end > held:
        raise ValueError(f"{where}: a torch tensor that ends at byte {end} of a storage of {held} bytes, which was "
                         "resized: its memory is gone. Give another tensor.")
    return array


def _jax(x: Any, where: str) -> Array:
    if on_cuda(x):
        return places.at("cuda", "libraries").from_dlpack(x, where)
    try:
        return np.asarray(x)  # a read-only view: fine for a gradient, refused as a parameter
    except TypeError as error:  # a tracer
        raise TypeError(f"{where}: a {type(x).__name__} of JAX, which has no numbers, but an array is needed. Call "
                        "step outside of jax.jit and jax.grad.") from error


def _buffer(x: Any, where: str) -> Array:
    if isinstance(x, (float, int, complex)) and not isinstance(x, bool):
        return _read_only(np.asarray(x if isinstance(x, complex) else float(x)))
    if isinstance(x, DeviceArray):
        return places.at("cuda", "libraries").checked(x, where)
    if hasattr(x, "__cuda_array_interface__"):
        return places.at("cuda", "libraries").from_interface(x, where)
    if on_cuda(x):
        return places.at("cuda", "libraries").from_dlpack(x, where)
    with suppress(TypeError, ValueError, BufferError):
        return np.asarray(memoryview(x))
    if by_array(x):
        with suppress(Exception):  # what is sparse, symbolic, or on another device, refuses in its own words
            return _read_only(_numpy(np.asarray(x), where))
    raise TypeError(f"{where}: a {type(x).__name__}, but an array is needed (NumPy, a tensor of torch, any buffer, or "
                    f"an array on a CUDA device). {cures.of_object(x, where)}")


ADAPTERS = {"torch": _torch, "jax": _jax, "jaxlib": _jax}


@cache
def _library(kind: type) -> str:
    """The library of a class, or of one that it is made from, among those that have an adapter; else ""."""
    return next((root for base in kind.__mro__ if (root := base.__module__.partition(".")[0]) in ADAPTERS), "")


def _read_only(array: np.ndarray) -> np.ndarray:
    """A view that can be read: what is written into it might be lost."""
    array = array.view()
    array.flags.writeable = False
    return array


# What views do not tell

def by_array(x: Any) -> bool:
    """Whether an object turns into a NumPy array when asked: into a view of its numbers, or into a copy."""
    names = ("__array__", "__array_interface__", "__array_struct__")
    return any(hasattr(type(x), name) for name in names) and not isinstance(x, type)


def immutable(original: Any) -> bool:
    """Whether an array's library never lets it change, whatever its memory says."""
    return type(original).__module__.partition(".")[0] in ("jax", "jaxlib")


def torch_tensors(of: Iterable[Any]) -> list[Any]:
    """The arrays among these that are torch's."""
    kind = getattr(sys.modules.get("torch"), "Tensor", ())
    return [x for x in of if isinstance(x, kind)]


def in_coordinates(x: Any) -> bool:
    """Whether an array is a tensor of torch that lists what is not zero."""
    return _library(type(x)) == "torch" and getattr(x, "is_sparse", False)  # type: ignore[arg-type]


def frozen(original: Any) -> bool:
    """Whether an array is a parameter of a torch module that is not to be trained."""
    return any(isinstance(x, sys.modules["torch"].nn.Parameter) and not x.requires_grad
               for x in torch_tensors([original]))


def tell_autograd(tensors: Sequence[Any]) -> None:
    """Tell torch that tensors change: a backward pass that needs their old values then raises its error."""
    if tensors:
        sys.modules["torch"].autograd.graph.increment_version(tensors)


def facts(of: Sequence[Any]) -> list[Any]:
    """What must not change of arrays that a step writes: address, dtype, shape, strides, flags."""
    return [_facts(x) for x in of]


def _facts(x: Any) -> Any:
    try:
        if _library(type(x)) == "torch":  # type: ignore[arg-type]
            return x.data_ptr(), x.dtype, x.shape, x.stride(), x.requires_grad, x.is_conj()
        if isinstance(x, CTYPES):
            return ctypes.addressof(x), ctypes.sizeof(x)
        array = view(x, "")
        return address(array), array.dtype, array.shape, array.strides, writable(array)
    except Exception as error:  # the library's own: it has no such memory any more
        return repr(error)


def owners(array: Any) -> list[Any]:
    """What an array is a view of, link by link: arrays and ctypes' objects, whose memory may be resized."""
    found: list[Any] = []
    base = getattr(array, "base", None)
    while base is not None:
        if isinstance(base, memoryview):
            base = base.obj
        if isinstance(base, (np.ndarray, *CTYPES)):
            found.append(base)
        base = base.base if isinstance(base, np.ndarray) else getattr(base, "_b_base_", None)
    return found
