"""Arrays in the memory of a CUDA device, and what kernels ask of a view, be it such an array or one of NumPy."""
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from . import places

ASK = -1     # a device that the driver must be asked for
PART: dict[str, np.dtype] = {"F": np.dtype(np.float32), "D": np.dtype(np.float64)}  # of complex dtypes, by character
WHOLE: dict[str, np.dtype] = {"f": np.dtype(np.complex64), "d": np.dtype(np.complex128)}
Array = Any  # numpy.ndarray or DeviceArray


class DeviceArray:
    """An array in the memory of a CUDA device.

    Attributes
    ----------
    address, shape, dtype, strides, writeable
        Where the array lies and how; bfloat16 is uint16.
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
    No attribute changes: a step writes where an array was when the optimizer was made.
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
    _before: Callable[[], None]

    def __init__(self, address: int, shape: tuple[int, ...], dtype: Any, strides: tuple[int, ...] | None = None, *,
                 device: int | None = ASK, owner: object = None, writeable: bool = True, bits: bool = False,
                 foreign: bool = False, before: Callable[[], None] = lambda: None):
        shape, dtype, size = tuple(shape), np.dtype(dtype), math.prod(shape)
        strides = tuple(strides) if strides is not None else dense_strides(shape, dtype.itemsize)
        vars(self).update(address=address, shape=shape, dtype=dtype, strides=strides, ndim=len(shape), size=size,
                          itemsize=dtype.itemsize, nbytes=size*dtype.itemsize, _device=device, owner=owner,
                          writeable=writeable, bits=bits, foreign=foreign, _before=before)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"DeviceArray: {name} cannot be set, since a step may be bound to the array. Make a new "
                             "one.")

    @property
    def device(self) -> int | None:
        """The device's number; the driver is asked for it once."""
        if self._device == ASK:
            vars(self)["_device"] = places.at("cuda", "driver").device_of(self.address) if self.size else None
        return self._device

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {"shape": self.shape, "typestr": self.dtype.str, "strides": self.strides, "version": 3, "stream": None,
                "data": (self.address if self.size else 0, not self.writeable)}

    def piece(self, start: int, stop: int) -> "DeviceArray":
        """The elements from `start` to `stop` of an array of one dimension."""
        return DeviceArray(self.address + start*self.itemsize, (stop - start,), self.dtype, device=self._device,
                           owner=self)

    def retyped(self, dtype: np.dtype, shape: tuple[int, ...], strides: tuple[int, ...]) -> "DeviceArray":
        """The same memory as other numbers."""
        return DeviceArray(self.address, shape, dtype, strides, device=self._device, owner=self.owner,
                           writeable=self.writeable, foreign=self.foreign)

    def guarded(self, before: Callable[[], None]) -> "DeviceArray":
        """The same array, for whose numbers the host does not wait `before` this has been called."""
        return DeviceArray(self.address, self.shape, self.dtype, self.strides, device=self._device, owner=self.owner,
                           writeable=self.writeable, bits=self.bits, foreign=self.foreign, before=before)

    def copy_to_host(self) -> np.ndarray:
        """A NumPy array with the same elements and memory order. Waits for the device.

        RuntimeError where the array is an optimizer's whose stream is being captured: the capture goes on.
        """
        self._before()
        low, high = extent(self)
        memory = np.zeros(high - low, np.uint8)
        if self.size:
            places.at("cuda", "driver").gpu(self.device).download(memory, self.address + low)
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


# What kernels ask of a view

def place(view: Array) -> str:
    """Where a view lies, as `places.PLACES` calls it. A number, such as a gradient factor, is here."""
    return "cuda" if isinstance(view, DeviceArray) else "cpu"


def address(view: Array) -> int:
    return view.address if isinstance(view, DeviceArray) else view.__array_interface__["data"][0]


def writable(view: Array) -> bool:
    return bool(view.writeable if isinstance(view, DeviceArray) else view.flags.writeable)


def piece(view: Array, start: int, stop: int) -> Array:
    """The bytes from `start` to `stop` of a row of bytes."""
    return view.piece(start, stop) if isinstance(view, DeviceArray) else view[start:stop]


def as_real(view: Array) -> Array:
    """Complex numbers as their real and imaginary parts, along a last axis of 2; other arrays as they are."""
    if (part := PART.get(view.dtype.char)) is None or not view.dtype.isnative:
        return view
    if isinstance(view, DeviceArray):
        return view.retyped(part, (*view.shape, 2), (*view.strides, part.itemsize))
    return view.view(np.ndarray)[..., None].view(part)


def as_complex(view: Array) -> Array:
    """The numbers whose parts lie along the last axis; codes, which no complex dtype holds, as they are."""
    if (whole := WHOLE.get(view.dtype.char)) is None:
        return view
    if isinstance(view, DeviceArray):
        return view.retyped(whole, view.shape[:-1], view.strides[:-1])
    return view.view(whole)[..., 0]


def extent(view: Array) -> tuple[int, int]:
    """Where memory begins and ends, in bytes from the first element: strides may be negative, or leave gaps."""
    if not view.size:
        return 0, 0
    reach = [(n - 1)*stride for n, stride in zip(view.shape, view.strides, strict=True)]
    return sum(r for r in reach if r < 0), sum(r for r in reach if r > 0) + view.itemsize


def bounds(view: Array) -> tuple[int, int]:
    """The addresses of a view's first byte and of the one behind its last."""
    low, high = extent(view)
    return address(view) + low, address(view) + high
