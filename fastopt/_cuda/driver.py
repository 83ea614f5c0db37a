"""The CUDA driver, through cuda-bindings: devices, primary contexts, memory, code, streams, and launches in one call.

All launches of a step are one call of compiled code (`launch`), so that an exception out of a signal handler comes
before all of them or after all of them, as on the CPU. What is missing (the extra, a driver, a device) is said when a
device array is met.
"""
import ctypes
import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, lru_cache, partial
from typing import Any

import numpy as np
from numba import types

from .._kernels.atomics import add, call_driver
from .._kernels.compile import compiled
from .._kernels.memory import WORD, word
from .._signals import at_once
from .code import Code
from .libraries import EXTRA
from .loops import THREADS

NEWER = "Update NVIDIA's driver (nvidia-smi shows it): CUDA 13 needs 580 or newer."
HINTS = {
    1: "An argument does not fit. Report this.",
    2: "Free memory on the device, or make the optimizer with fewer or smaller states.",
    3: "CUDA does not survive a fork: start the process with multiprocessing's \"spawn\", or use CUDA in the child "
       "only.",
    100: "No device is visible. Look at nvidia-smi and CUDA_VISIBLE_DEVICES.",
    200: NEWER, 209: "The kernel was compiled for another architecture. Report this.",
    222: "The driver cannot read code of so new a linker. Update NVIDIA's driver, or install nvidia-nvjitlink and "
         "nvidia-nvvm of its version of CUDA (\"fastopt info\" shows all three).",
    803: NEWER, 804: NEWER,
    700: "A kernel touched memory that is gone: keep parameters alive as long as their optimizer.",
    900: "Within a capture nothing can be allocated, copied to the host or waited for: do it before the capture "
         "begins.",
    901: "Something that a capture does not allow came before this.",
    905: "Within a capture no array of another stream can be waited for: make gradients, parameters and factor on the "
         "captured one.",
    906: "The default stream cannot take part in a capture: neither as the captured one nor as that of an array.",
}
NO_TIMING = 2  # CU_EVENT_DISABLE_TIMING
LAUNCH_WORDS = 4  # of a launch: function, blocks, stream, where the pointers to its parameters lie


class CudaError(RuntimeError):
    """The driver refused."""


@lru_cache(maxsize=1)
def _bindings() -> Any:
    """The driver's functions, initialised; ImportError or CudaError that says what is missing."""
    try:
        from cuda.bindings import driver
    except ImportError:
        raise ImportError(f"CUDA arrays: cuda-bindings is not installed. Install the extra: {EXTRA}") from None
    try:
        error, = driver.cuInit(0)
    except RuntimeError as reason:  # the library itself is not there
        raise CudaError(f"CUDA arrays: no driver was found ({reason}). Install NVIDIA's driver, or give NumPy "
                        "arrays.") from None
    if int(error):
        raise CudaError(f"CUDA arrays: the driver does not start: {_text(driver, error)}")
    major, minor = divmod(int(driver.cuDriverGetVersion()[1])//10, 100)
    if major < (wanted := driver.CUDA_VERSION//1000):  # it would load no kernel that these tools make
        raise CudaError(f"CUDA arrays: the driver is of CUDA {major}.{minor}, but cuda-bindings is of CUDA {wanted}. "
                        f"{NEWER}")
    return driver


def _text(driver: Any, error: Any) -> str:
    _, name = driver.cuGetErrorName(error)
    _, words = driver.cuGetErrorString(error)
    said = f"{(name or b'unknown').decode()} ({(words or b'').decode()})"
    return f"{said}. {HINTS.get(int(error), 'See the documentation of the CUDA driver API.')}"


def do(name: str, *arguments: Any) -> Any:
    """Call a function of the driver; what it returns, or CudaError."""
    driver = _bindings()
    try:
        error, *found = getattr(driver, name)(*arguments)
    except RuntimeError as reason:  # this driver has no such function
        raise CudaError(f"{name}: {reason}. {NEWER}") from None
    if int(error):
        raise CudaError(f"{name}: {_text(driver, error)}")
    return found[0] if len(found) == 1 else found


def attribute(name: str, *of: Any) -> Any:
    """An attribute of a pointer or a device."""
    driver = _bindings()
    kind, function = {"POINTER": (driver.CUpointer_attribute, "cuPointerGetAttribute"),
                      "DEVICE": (driver.CUdevice_attribute, "cuDeviceGetAttribute")}[name.partition("_")[0]]
    return do(function, getattr(kind, f"CU_{name}"), *of)


def device_of(pointer: int) -> int:
    """The number of the device in whose memory a pointer lies."""
    driver = _bindings()
    try:
        ordinal = int(attribute("POINTER_ATTRIBUTE_DEVICE_ORDINAL", pointer))
    except CudaError:
        raise ValueError(f"CUDA arrays: the address {pointer:#x} is none of a CUDA device. The array was freed, or "
                         "comes from before a fork. Make it anew.") from None
    error, context = driver.cuPointerGetAttribute(driver.CUpointer_attribute.CU_POINTER_ATTRIBUTE_CONTEXT, pointer)
    if not int(error) and int(context) not in (0, gpu(ordinal).handle):  # memory pools have none
        raise ValueError(f"CUDA arrays: the address {pointer:#x} belongs to a context of its own, but that of CuPy, "
                         "Numba and PyTorch is needed, the device's primary one. Make the array there.")
    return ordinal


def about(ordinal: int) -> dict[str, Any]:
    """What a device is; no context is made on it."""
    device = do("cuDeviceGet", ordinal)
    major, minor = capability(device)
    return {"name": name(device), "compute capability": f"{major}.{minor}",
            "memory": int(do("cuDeviceTotalMem", device))}


def name(device: Any) -> str:
    return do("cuDeviceGetName", 256, device).partition(b"\0")[0].decode()


def capability(device: Any) -> tuple[int, int]:
    major, minor = (int(attribute(f"DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_{x}", device)) for x in ("MAJOR", "MINOR"))
    return major, minor


def same_device(pointer: int, ordinal: int | None) -> bool:
    """Whether a pointer lies in the memory of a device."""
    driver = _bindings()
    error, found = driver.cuPointerGetAttribute(driver.CUpointer_attribute.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, pointer)
    return int(error) == 0 and found == ordinal


@cache
def gpu(ordinal: int) -> "Gpu":
    return Gpu(ordinal)


class Gpu:
    """A device, by its primary context: the one that CuPy, Numba, PyTorch and JAX use."""

    form = "cubin"  # of the code that the driver is given

    def __init__(self, ordinal: int):
        self.ordinal = ordinal
        self.device = do("cuDeviceGet", ordinal)
        self.context = do("cuDevicePrimaryCtxRetain", self.device)
        self.handle = int(self.context)
        self.cc = capability(self.device)
        self.processors = int(attribute("DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT", self.device))
        self._functions: dict[Code, tuple[int, int]] = {}

    @contextmanager
    def current(self) -> Iterator[None]:
        """Within it, the context is that of this device; after it, what it was before: that of another device, or none.

        One that stayed would decide where other libraries' next arrays of this thread lie.
        """
        before = do("cuCtxGetCurrent")
        if int(before) == self.handle:
            yield
            return
        try:  # set, not pushed: an interrupt may come before it is done, and this brings back what was either way
            do("cuCtxSetCurrent", self.context)
            yield
        finally:
            do("cuCtxSetCurrent", before)

    def function(self, code: Code) -> tuple[int, int]:
        """A kernel's handle, and how many of its blocks the device holds at a time; loaded once."""
        if code not in self._functions:  # not its name: kernels of two processes may share one
            with self.current():
                library = do("cuLibraryLoadData", code.image, None, None, 0, None, None, 0)
                function = do("cuKernelGetFunction", do("cuLibraryGetKernel", library, code.name.encode()))
                do("cuFuncLoad", function)  # now: the driver loads lazily, and a first launch may come within a capture
                blocks = do("cuOccupancyMaxActiveBlocksPerMultiprocessor", function, THREADS, 0)
            self._functions[code] = int(function), max(1, int(blocks))*self.processors
        return self._functions[code]

    def allocate(self, size: int) -> "Memory":
        return Memory(self, size)

    def upload(self, address: int, array: np.ndarray) -> None:
        """Copy an array in this machine's memory to the device, and wait."""
        data = np.ascontiguousarray(array)
        if data.nbytes:
            with self.current():
                do("cuMemcpyHtoD", address, data.ctypes.data, data.nbytes)
                do("cuStreamSynchronize", 0)  # pageable memory may still be on its way from a buffer of the driver

    def uploading(self, address: int, array: np.ndarray) -> list["partial[Any]"]:
        """What to hand to `put` so that memory of the device becomes this array."""
        data = np.ascontiguousarray(array)
        call: partial[Any] = partial(_upload(), address, data.ctypes.data, data.nbytes)
        call.data = data  # type: ignore[attr-defined]  # it lives as long
        return [call] if data.nbytes else []

    def put(self, calls: Iterable["partial[Any]"]) -> None:
        """Make calls, uploads among them, when all of the device's work is done, as one: see `_signals.at_once`."""
        with self.current():
            do("cuCtxSynchronize")
            found = at_once(calls)
            do("cuStreamSynchronize", 0)
        if error := next(filter(None, found), 0):
            raise CudaError(f"cuMemcpyHtoD: {_text(_bindings(), _bindings().CUresult(error))}")

    def download(self, array: np.ndarray, address: int) -> None:
        """Copy from the device into a contiguous array, when all of its work is done."""
        if array.nbytes:
            with self.current():
                do("cuCtxSynchronize")
                do("cuMemcpyDtoH", array.ctypes.data, address, array.nbytes)

    def fill(self, address: int, count: int, value: np.generic) -> None:
        """Set `count` elements to a value, and wait."""
        raw = value.tobytes()
        if not count:
            return
        with self.current():
            if not any(raw):
                do("cuMemsetD8", address, 0, count*len(raw))
            elif len(raw) == 2:
                do("cuMemsetD16", address, int.from_bytes(raw, "little"), count)
            elif len(raw) == 4:
                do("cuMemsetD32", address, int.from_bytes(raw, "little"), count)
            else:
                chunk = np.full(min(count, 1 << 20), value)
                for k in range(0, count, chunk.size):
                    self.upload(address + k*len(raw), chunk[:count - k])
            do("cuCtxSynchronize")

    def capture(self, stream: int) -> int:
        """The number of the capture that records the stream's work; 0: none does, -1: one that is broken."""
        if stream == 0 or not int(do("cuStreamIsCapturing", stream)):
            return 0
        return int(do("cuStreamGetCaptureInfo", stream)[1]) or -1


class Event:
    """A point in a stream's work."""

    def __init__(self, owner: Gpu):
        with owner.current(), relaxed():
            self.handle = do("cuEventCreate", NO_TIMING)
        weakref.finalize(self, _discard, owner, "cuEventDestroy", self.handle).atexit = False  # type: ignore[misc]

    def record(self, stream: int) -> None:
        """Set it to what is on the stream now."""
        do("cuEventRecord", self.handle, stream)

    def hold(self, stream: int) -> None:
        """What is put on the stream from now on runs after it."""
        do("cuStreamWaitEvent", stream, self.handle, 0)

    def reached(self) -> bool:
        """Whether all before it is done. Does not wait."""
        with relaxed():
            error, = _bindings().cuEventQuery(self.handle)
        return int(error) == 0


class Memory:
    """Bytes of a device, freed with the object that holds them."""

    def __init__(self, owner: Gpu, size: int):
        with owner.current():
            self.address = int(do("cuMemAlloc", max(1, size)))
            weakref.finalize(self, _discard, owner, "cuMemFree", self.address).atexit = False  # type: ignore[misc]
        self.size = size


def uploaded(owner: Gpu, array: np.ndarray) -> Memory:
    """A copy of an array in new memory of the device."""
    memory = owner.allocate(array.nbytes)
    owner.upload(memory.address, array)
    return memory


@contextmanager
def relaxed() -> Iterator[None]:
    """Within it, what is no part of a capture does not end one: neither this thread's nor another's."""
    before = do("cuThreadExchangeStreamCaptureMode", _bindings().CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED)
    try:
        yield
    finally:
        do("cuThreadExchangeStreamCaptureMode", before)


def _discard(owner: Gpu, function: str, what: Any) -> None:
    try:
        with owner.current(), relaxed():  # garbage may be collected within a capture
            do(function, what)
    except CudaError:  # in a forked child, or after an error of the device: its memory is gone with it
        pass


@lru_cache(maxsize=1)
def _upload() -> Any:
    """The driver's cuMemcpyHtoD itself: the bindings run Python's code after it."""
    kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_uint64, ctypes.c_void_p, ctypes.c_size_t)
    return kind(int(do("cuGetProcAddress", b"cuMemcpyHtoD", 4000, 0)[0]))


# Launches

@lru_cache(maxsize=1)
def _launcher() -> tuple[Any, int]:
    """launch(function, launches, count, done, sure) -> 0 or the driver's error, and the address of cuLaunchKernel.

    At the end, 1 is added to the first word at `done` and `sure` to the second: steps taken at most, and at least.
    """
    def launch(driver, launches, count, done, sure):
        for k in range(count):
            row = launches + k*LAUNCH_WORDS*WORD
            error = call_driver(driver, word(row, 0), word(row, 1), THREADS, word(row, 2), word(row, 3))
            if error != 0:
                return error
        if done != 0:
            add(done, 0, 1)
            add(done, 1, sure)
        return 0

    address = do("cuGetProcAddress", b"cuLaunchKernel", 4000, 0)[0]
    return compiled("launch", types.int64(*[types.int64]*5), launch), int(address)


class Arguments:
    """The parameters of a kernel, in memory that the driver reads at every launch: 64-bit words, some of them floats.

    `words` and `floats` are two views of them: items of a memoryview are set in 40 ns, those of a NumPy array in 80.
    """

    def __init__(self, values: Sequence[int]):
        count = len(values)
        self._memory = np.zeros(count, np.int64)
        self.words: Any = self._memory.data
        self.floats: Any = self._memory.view(np.float64).data
        self.raw: Any = self._memory.data.cast("B")
        self._memory[:] = values
        self.pointers = self._memory.ctypes.data + WORD*np.arange(count, dtype=np.int64)

    @property
    def address(self) -> int:
        return self.pointers.ctypes.data


class Launches:
    """Kernels to be launched in turn on one stream."""

    def __init__(self, rows: Sequence[tuple[int, int, Arguments]]):
        """`rows` holds (function, blocks, arguments)."""
        self.keep = [arguments for _, _, arguments in rows]
        self.rows = np.array([(function, blocks, 0, arguments.address) for function, blocks, arguments in rows],
                             np.int64).reshape(len(rows), LAUNCH_WORDS)
        self.address = self.rows.ctypes.data
        self.stream = 0

    def run(self, stream: int, skip: int = 0, done: int = 0, sure: int = 0) -> None:
        """Enqueue all but the first `skip`, and count the step; CudaError where the driver refuses."""
        if stream != self.stream:
            self.rows[:, 2] = self.stream = stream
        launch, driver = _launcher()
        error = launch(driver, self.address + skip*LAUNCH_WORDS*WORD, len(self.rows) - skip, done, sure)
        if error:
            bindings = _bindings()
            raise CudaError(f"cuLaunchKernel: {_text(bindings, bindings.CUresult(error))}")
