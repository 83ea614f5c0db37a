"""Arrays of other libraries on a CUDA device: their views, their library's stream, and arrays of ours as theirs.

Libraries are known by the name of their package, and asked for what they know faster than the protocols tell it.
`__cuda_array_interface__` (version 3, with its streams) and DLPack serve all others.
"""
import operator
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from .._checks import cures
from .._tensors.adapters import on_cuda
from .._tensors.device_array import DeviceArray

BFLOAT16 = ("<V2", "|V2", "V2")  # how torch and JAX export bfloat16
LEGACY = 1                       # the stream that the interface calls 1 is the driver's default one, 0
EXTRA = 'pip install "fastopt[cuda]"'
TORCH_DTYPES = {"float64": np.float64, "float32": np.float32, "float16": np.float16, "bfloat16": np.uint16,
                "complex128": np.complex128, "complex64": np.complex64}


# Views

def checked(array: DeviceArray, where: str) -> DeviceArray:
    """The array; ValueError where its elements do not lie as CUDA needs them."""
    uneven = [s for n, s in zip(array.shape, array.strides, strict=True) if n > 1 and s % array.itemsize]
    if uneven and array.size:
        raise ValueError(f"{where}: strides {array.strides}, but CUDA needs multiples of its {array.itemsize}-byte "
                         "elements. Give a copy.")
    if array.address % array.itemsize:
        raise ValueError(f"{where}: its memory starts at {array.address:#x}, but CUDA needs a multiple of its "
                         f"{array.itemsize}-byte elements. Give a copy.")
    return array


def from_interface(x: Any, where: str) -> DeviceArray:
    """The view of an array of any library with ``__cuda_array_interface__``."""
    about = x.__cuda_array_interface__
    if about.get("mask") is not None:
        raise TypeError(f"{where}: a masked array, but kernels do not see masks. Give zero gradients where masked.")
    try:
        pointer, read_only = about["data"]
        shape, name, strides = tuple(map(operator.index, about["shape"])), about["typestr"], about.get("strides")
        dtype = np.dtype(np.uint16) if name in BFLOAT16 else np.dtype(name)
        whole = min(shape, default=0) >= 0 and dtype.itemsize > 0 and name and 0 <= (pointer or 0) < 2**64
    except (KeyError, TypeError, ValueError):
        whole = False
    if not whole or (strides is not None and len(strides) != len(shape)):
        raise TypeError(f"{where}: its __cuda_array_interface__ is {about}, but shape, typestr, data and strides that "
                        "go together are needed. Report it to the array's library.")
    return checked(DeviceArray(pointer or 0, shape, dtype, strides, owner=x, foreign=True, writeable=not read_only),
                   where)


def from_torch(x: Any, where: str) -> DeviceArray:
    """The view of a tensor of torch, by its faster attributes; bfloat16 is bits in uint16."""
    if str(x.layout) != "torch.strided" or x.is_quantized:
        raise TypeError(f"{where}: a torch tensor of layout {x.layout}, but a dense one is needed. {cures.of_torch(x)}")
    name = str(x.dtype).removeprefix("torch.")
    if name not in TORCH_DTYPES:
        cure = "Give x.to(torch.complex64)." if name.startswith("complex") else "Give x.double()."
        raise TypeError(f"{where}: dtype {x.dtype}, but one of {', '.join(TORCH_DTYPES)} is needed. {cure}")
    if x.is_conj() or x.is_neg():
        how, cure = ("conjugated", "conj") if x.is_conj() else ("negated", "neg")
        raise TypeError(f"{where}: a torch tensor that is {how} when it is read, but its numbers must lie in memory. "
                        f"Give x.resolve_{cure}().")
    dtype = np.dtype(TORCH_DTYPES[name])
    strides = tuple(s*dtype.itemsize for s in x.stride())
    return checked(DeviceArray(x.data_ptr(), tuple(x.shape), dtype, strides, device=x.get_device(), owner=x,
                               foreign=True), where)


def from_dlpack(x: Any, where: str) -> DeviceArray:
    """The view of an array of any library that speaks DLPack; cuda.core reads the capsule."""
    try:
        from cuda.core.utils import StridedMemoryView
    except ImportError:
        raise ImportError(f"{where}: an array on a CUDA device. cuda-core is not installed. Install the extra: "
                          f"{EXTRA}") from None
    view = StridedMemoryView.from_dlpack(x, stream_ptr=LEGACY)  # JAX takes no -1; `hand_over` names the step's stream
    dtype = np.dtype(np.uint16) if getattr(view.dtype, "name", "") == "bfloat16" else np.dtype(view.dtype)
    strides = None if view.strides is None else tuple(s*dtype.itemsize for s in view.strides)
    return checked(DeviceArray(view.ptr, tuple(view.shape), dtype, strides, device=view.device_id, owner=x,
                               foreign=True, writeable=not view.readonly), where)


# What a step asks of a library

class Library(NamedTuple):
    """What a library's arrays are asked at every step, the stream it works on, and how it sees memory of ours."""

    facts: Callable[[Any], tuple[Any, ...]]      # (address, what must not change ...)
    tells_device: bool                           # whether that includes the device
    current: Callable[[int], int] | None         # a device's current stream; None: every array has a stream of its own
    wrap: Callable[[DeviceArray, Any], Any]      # (ours, one of theirs)
    writable: Callable[[Any], bool] = lambda x: True  # whether an array may be written
    record: Callable[[Any, int, int], None] | None = None  # (arrays, device, stream): that stream reads their memory


def _torch_stream(device: int) -> int:
    import torch
    return torch.cuda.current_stream(device).cuda_stream


def _torch_wrap(array: DeviceArray, like: Any) -> Any:
    import torch
    new = torch.as_tensor(array, device=like.device)
    return new.view(torch.bfloat16) if str(new.dtype) == "torch.uint16" and not array.bits else new


def _torch_record(arrays: Any, device: int, stream: int) -> None:
    """torch's allocator knows only the stream on which it gave memory: on another it must be told who reads it."""
    import torch
    reader = torch.cuda.ExternalStream(stream, device=device)
    for x in arrays:
        x.record_stream(reader)


def _cupy_stream(device: int) -> int:
    import cupy
    return cupy.cuda.get_current_stream(device).ptr


def _cupy_wrap(array: DeviceArray, like: Any) -> Any:
    import cupy
    with cupy.cuda.Device(array.device):  # it copies what lies on another than the current one
        return cupy.asarray(array)


def _numba_wrap(array: DeviceArray, like: Any) -> Any:
    from numba import cuda
    return cuda.as_cuda_array(array, sync=False)


def _interface_facts(x: Any) -> tuple[Any, ...]:
    about = getattr(x, "__cuda_array_interface__", None)
    if about is None:
        view = from_dlpack(x, "step")
        return view.address, view.shape, view.strides, view.dtype, view.device, view.writeable
    return (about["data"][0] or 0, about["shape"], about.get("strides"), about["typestr"], about["data"][1],
            about.get("stream"), about.get("mask") is None)


def _interface_writable(x: Any) -> bool:
    about = getattr(x, "__cuda_array_interface__", None)
    return about is not None and not about["data"][1]


LIBRARIES = {
    "torch": Library(lambda x: (x.data_ptr(), x.shape, x.stride(), x.dtype, x.get_device(), x.is_conj(), x.is_neg()),
                     True, _torch_stream, _torch_wrap, record=_torch_record),
    "cupy": Library(lambda x: (x.data.ptr, x.shape, x.strides, x.dtype, x.data.device_id), True, _cupy_stream,
                    _cupy_wrap),
    "numba": Library(lambda x: (x.device_ctypes_pointer.value or 0, x.shape, x.strides, x.dtype, x.stream), False, None,
                     _numba_wrap),
    "fastopt": Library(lambda x: (x.address, x.shape, x.strides, x.dtype), False, None, lambda array, like: array,
                       lambda x: x.writeable),
}
OTHERS = Library(_interface_facts, False, None, lambda array, like: array, _interface_writable)


@cache
def _library(kind: type) -> Library:
    roots = (base.__module__.partition(".")[0] for base in kind.__mro__)
    return next((LIBRARIES[root] for root in roots if root in LIBRARIES), OTHERS)


def library(x: Any) -> Library:
    """The library of an array, by the packages of its classes."""
    return _library(type(x))  # type: ignore[arg-type]


def own_stream(x: Any) -> int | None:
    """The stream on which an array's contents were made, by version 3 of the interface; None: nothing to wait for."""
    if library(x).current is not None:
        return None  # its library tells; and torch's tensors that require a gradient have no interface
    about = getattr(x, "__cuda_array_interface__", None)
    stream = about.get("stream") if about is not None and about.get("version", 0) >= 3 else None
    return 0 if stream == LEGACY else stream


def by_dlpack(x: Any) -> bool:
    """Whether an array must be handed over by DLPack: nothing else says what its contents wait for.

    JAX's arrays have an interface too, but of version 2, which names no stream and waits for nothing.
    """
    return library(x) is OTHERS and own_stream(x) is None and on_cuda(x)
