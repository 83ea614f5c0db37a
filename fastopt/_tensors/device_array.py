"""Arrays in the memory of a CUDA device: views of those of other libraries, and our own; on which stream their library
works.

Libraries are known by the name of their package, and asked for what they know faster than the protocols tell it:
`__cuda_array_interface__` (version 3, with its streams) and DLPack serve all others. Nothing here needs CUDA to be
imported.
"""
import math
import operator
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from .._checks import cures as advice

BFLOAT16 = ("<V2", "|V2", "V2")  # how torch and JAX export bfloat16
LEGACY = 1                       # the stream that the interface calls 1 is the driver's default one, 0
DLPACK_CUDA, DLPACK_MANAGED = 2, 13
EXTRA = 'pip install "fastopt[cuda]"'
ASK = -1                         # a device that the driver must be asked for


class DeviceArray:
    """An array in the memory of a CUDA device.

    Attributes
    ----------
    address, shape, dtype, strides, writeable
        Where it lies and how; bfloat16 is uint16.
    device : int or None
        The device's number; None where there is no memory at all.
    owner : object
        What keeps the memory alive.
    bits : bool
        Whether uint16 is no bfloat16 but a bare number.
    foreign : bool
        Whether `owner` is the array of another library that this is a view of.

    Notes
    -----
    None of this changes: a step writes where an array was when the optimizer was made.
    ``cupy.asarray(x)``, ``torch.as_tensor(x, device="cuda")`` and ``numba.cuda.as_cuda_array(x)`` give arrays of the
    same memory; ``numpy.asarray(x)`` gives a copy in this machine's memory, and waits for the device.
    """

    address: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: np.dtype
    ndim: int
    size: int
    itemsize: int
    nbytes: int
    owner: Any
    writeable: bool
    bits: bool
    foreign: bool
    _device: int | None

    def __init__(self, address: int, shape: tuple[int, ...], dtype: Any, strides: tuple[int, ...] | None = None, *,
                 device: int | None = ASK, owner: object = None, writeable: bool = True, bits: bool = False,
                 foreign: bool = False):
        shape, dtype = tuple(shape), np.dtype(dtype)
        strides = tuple(strides) if strides is not None else dense_strides(shape, dtype.itemsize)
        size = math.prod(shape)
        vars(self).update(address=address, shape=shape, dtype=dtype, strides=strides, ndim=len(shape), size=size,
                          itemsize=dtype.itemsize,
                          nbytes=size*dtype.itemsize, _device=device, owner=owner, writeable=writeable, bits=bits,
                          foreign=foreign)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"DeviceArray: {name} cannot be set, since a step may be bound to the array. Make a new "
                             f"one.")

    @property
    def device(self) -> int | None:
        """The driver's answer, asked for once."""
        if self._device == ASK:
            from .._cuda import driver
            vars(self)["_device"] = driver.device_of(self.address) if self.size else None
        return self._device

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {"shape": self.shape, "typestr": self.dtype.str,
                "data": (self.address if self.size else 0, not self.writeable),
                "strides": self.strides, "version": 3, "stream": None}

    def piece(self, start: int, stop: int) -> "DeviceArray":
        """The elements from `start` to `stop` of an array of one dimension."""
        return DeviceArray(self.address + start*self.itemsize, (stop - start,), self.dtype, device=self._device,
                           owner=self)

    def copy_to_host(self) -> np.ndarray:
        """A NumPy array with the same elements and memory order. Waits for the device."""
        from .._cuda import driver
        low, high = extent(self)
        memory = np.zeros(high - low, np.uint8)
        if self.size:
            driver.gpu(self.device).download(memory, self.address + low)
        return np.ndarray(self.shape, self.dtype, memory, -low, self.strides)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("DeviceArray: its memory is on a CUDA device, and NumPy needs a copy of it. Leave out "
                             "copy=False.")
        found = self.copy_to_host()
        return found if dtype is None else found.astype(dtype)

    def __reduce__(self):
        raise TypeError("DeviceArray: it is a view of a device's memory and cannot be copied or pickled. Copy the "
                        "numbers: copy_to_host().")

    def __repr__(self) -> str:
        return f"DeviceArray(shape={self.shape}, dtype={self.dtype}, device={self.device})"


def dense_strides(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    strides, step = [], itemsize
    for n in reversed(shape):
        strides.append(step)
        step *= n
    return tuple(reversed(strides))


def extent(array: Any) -> tuple[int, int]:
    """Where an array's memory begins and ends, in bytes from its first element: strides may be negative, or leave gaps."""
    if not array.size:
        return 0, 0
    reach = [(n - 1)*stride for n, stride in zip(array.shape, array.strides, strict=True)]
    return sum(r for r in reach if r < 0), sum(r for r in reach if r > 0) + array.itemsize


def on_cuda(x: Any) -> bool:
    """Whether an array says, by DLPack, that it lies on a CUDA device."""
    try:
        return x.__dlpack_device__()[0] in (DLPACK_CUDA, DLPACK_MANAGED)
    except (AttributeError, TypeError, ValueError, IndexError, RuntimeError,
            BufferError):  # it has no such method, or is no plain array
        return False


def by_dlpack(x: Any) -> bool:
    """Whether an array must be handed over by DLPack: nothing else says what its contents wait for.

    JAX's have an interface too, of version 2, which names no stream and waits for nothing.
    """
    return library(x) is OTHERS and own_stream(x) is None and on_cuda(x)


def checked(array: DeviceArray, where: str) -> DeviceArray:
    """The array; ValueError where its elements do not lie as CUDA needs them."""
    uneven = [s for n, s in zip(array.shape, array.strides, strict=True) if n > 1 and s % array.itemsize]
    if uneven and array.size:
        raise ValueError(f"{where}: strides {array.strides}, but CUDA needs multiples of its {array.itemsize}-byte "
                         f"elements. Give a copy.")
    if array.address % array.itemsize:
        raise ValueError(f"{where}: its memory starts at {array.address:#x}, but CUDA needs a multiple of its "
                         f"{array.itemsize}-byte "
                         "elements. Give a copy.")
    return array


def from_interface(x: Any, where: str) -> DeviceArray:
    """An array of any library with ``__cuda_array_interface__``."""
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
                        f"go together are "
                        "needed. Report it to the array's library.")
    return checked(DeviceArray(pointer or 0, shape, dtype, strides, owner=x, foreign=True, writeable=not read_only),
                   where)


def from_torch(x: Any, where: str) -> DeviceArray:
    """A tensor of torch, with its faster attributes; bfloat16 is bits in uint16."""
    if str(x.layout) != "torch.strided" or x.is_quantized:
        raise TypeError(f"{where}: a torch tensor of layout {x.layout}, but a dense one is needed. "
                        f"{advice.of_torch(x)}")
    name = str(x.dtype).removeprefix("torch.")
    if name not in TORCH_DTYPES:
        cure = advice.REAL_TENSOR if name.startswith("complex") else "Give x.double()."
        raise TypeError(f"{where}: dtype {x.dtype}, but one of {', '.join(TORCH_DTYPES)} is needed. {cure}")
    dtype = np.dtype(TORCH_DTYPES[name])
    strides = tuple(s*dtype.itemsize for s in x.stride())
    return checked(DeviceArray(x.data_ptr(), tuple(x.shape), dtype, strides, device=x.get_device(), owner=x,
                               foreign=True), where)


TORCH_DTYPES = {"float64": np.float64, "float32": np.float32, "float16": np.float16, "bfloat16": np.uint16}


def from_dlpack(x: Any, where: str) -> DeviceArray:
    """An array on a CUDA device of any library that speaks DLPack; cuda.core reads the capsule."""
    try:
        from cuda.core.utils import StridedMemoryView
    except ImportError:
        raise ImportError(f'{where}: an array on a CUDA device. cuda-core is not installed. Install the extra: {EXTRA}') from None
    view = StridedMemoryView.from_dlpack(x,
                                         stream_ptr=LEGACY)  # a real stream: JAX takes no -1; `hand_over` names the step's
    dtype = np.dtype(np.uint16) if getattr(view.dtype, "name", "") == "bfloat16" else np.dtype(view.dtype)
    strides = None if view.strides is None else tuple(s*dtype.itemsize for s in view.strides)
    return checked(DeviceArray(view.ptr, tuple(view.shape), dtype, strides, device=view.device_id, owner=x,
                               foreign=True,
                                writeable=not view.readonly), where)


class Library(NamedTuple):
    """What a library's arrays are asked at every step, the stream it works on, and how it sees memory of ours."""

    facts: Callable[[Any], tuple[Any, ...]]      # (address, what must not change ...)
    tells_device: bool                           # whether that includes the device
    current: Callable[[int], int] | None         # the stream on which it works on a device now; None: every array has its own
    wrap: Callable[[DeviceArray, Any], Any]      # (ours, one of theirs)
    writable: Callable[[Any], bool] = lambda x: True  # whether an array may be written
    record: Callable[[Any, int, int], None] | None = None  # (arrays, device, stream): their memory is read there, if it is taken back


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


def _numba_facts(x: Any) -> tuple[Any, ...]:
    return x.device_ctypes_pointer.value or 0, x.shape, x.strides, x.dtype, x.stream


def _numba_wrap(array: DeviceArray, like: Any) -> Any:
    from numba import cuda
    return cuda.as_cuda_array(array, sync=False)


def _interface_facts(x: Any) -> tuple[Any, ...]:
    about = getattr(x, "__cuda_array_interface__", None)
    if about is None:
        view = from_dlpack(x, "step")
        return view.address, view.shape, view.strides, view.dtype, view.device, view.writeable
    return (about["data"][0] or 0, about["shape"], about.get("strides"), about["typestr"], about["data"][1],
            about.get("stream"),
            about.get("mask") is None)


def _interface_writable(x: Any) -> bool:
    about = getattr(x, "__cuda_array_interface__", None)
    return about is not None and not about["data"][1]


LIBRARIES = {
    "torch": Library(lambda x: (x.data_ptr(), x.shape, x.stride(), x.dtype, x.get_device()), True, _torch_stream,
                     _torch_wrap,
                     record=_torch_record),
    "cupy": Library(lambda x: (x.data.ptr, x.shape, x.strides, x.dtype, x.data.device_id), True, _cupy_stream,
                    _cupy_wrap),
    "numba": Library(_numba_facts, False, None, _numba_wrap),
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
    """The stream on which an array's contents were made, as version 3 of the interface says; None: nothing to wait for."""
    if library(x).current is not None:
        return None  # its library tells; and torch's tensors that require a gradient have no interface
    about = getattr(x, "__cuda_array_interface__", None)
    stream = about.get("stream") if about is not None and about.get("version", 0) >= 3 else None
    return 0 if stream == LEGACY else stream
