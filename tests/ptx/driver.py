"""A stand-in for the CUDA driver: the library in stand_in/, loaded before any other. The interpreter runs its kernels.

``load`` makes this process believe in a driver and in devices: cuda-bindings, cuda-core, numba-cuda and ctypes find
``libcuda.so.1`` already there. It cannot be unloaded, so a process has one, which ``reset`` clears.

Code comes as PTX text. For the cubins of Numba's own dispatcher ``record_numba_ptx`` keeps the PTX from which each was
made.
"""
import atexit
import ctypes
import functools
import os
import re
import shutil
import subprocess
import sys
import tempfile
from bisect import bisect_right
from collections import Counter, namedtuple
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from . import Kernel, Memory, PTXError, Run

NAME = "libcuda.so.1"
WAITING = {"cuCtxSynchronize", "cuStreamSynchronize", "cuEventSynchronize", "cuMemFree", "cuMemFreeHost", "cuMemcpy",
           "cuMemHostUnregister", "cuMemcpyHtoD", "cuMemcpyDtoH"}  # calls in which the host may wait for the device
READING = {"cuMemcpy", "cuMemcpyAsync", "cuMemcpyDtoH", "cuMemcpyDtoHAsync"}
ALLOCATING = {"cuMemAlloc", "cuMemAllocAsync", "cuMemAllocManaged", "cuMemAllocHost", "cuMemHostAlloc",
              "cuMemHostRegister"}
KINDS = ("launch", "copy", "set", "call", "record", "wait", "free")
PHASES = ("given", "captured", "done")
LOG = 1 << 16  # entries that queue.c keeps
COMPILED = "FASTOPT_TESTS_STAND_IN"  # in the environment: the path of the compiled library
H100 = {  # CU_DEVICE_ATTRIBUTE_*; what is not here is 0. No memory pools: cuda-core then allocates with cuMemAlloc
    "MAX_THREADS_PER_BLOCK": 1024, "MAX_BLOCK_DIM_X": 1024, "MAX_GRID_DIM_X": 2**31 - 1, "WARP_SIZE": 32,
    "MAX_SHARED_MEMORY_PER_BLOCK": 49152, "MAX_REGISTERS_PER_BLOCK": 65536, "MULTIPROCESSOR_COUNT": 132,
    "L2_CACHE_SIZE": 50 << 20, "MAX_THREADS_PER_MULTIPROCESSOR": 2048, "UNIFIED_ADDRESSING": 1,
    "MAX_SHARED_MEMORY_PER_MULTIPROCESSOR": 233472, "MAX_REGISTERS_PER_MULTIPROCESSOR": 65536,
    "MAX_SHARED_MEMORY_PER_BLOCK_OPTIN": 232448, "MAX_BLOCKS_PER_MULTIPROCESSOR": 32}


Work = namedtuple("Work", "phase kind name stream grid block size device")
Work.__doc__ = """What a stream was given, what a capture recorded, or what was done: its ``phase`` says which.

``kind`` is one of `KINDS`, ``name`` the kernel's, ``stream`` 0 for the legacy default stream and 2 for a thread's,
``size`` the bytes that were copied or set.
"""
_Block = namedtuple("_Block", "base bytes device on_device")


def _structure(**fields):
    return type("_Structure", (ctypes.Structure,), {"_fields_": tuple(fields.items())})


_Entry = _structure(phase=ctypes.c_int, kind=ctypes.c_int, device=ctypes.c_int, dims=ctypes.c_uint*6,
                    name=ctypes.c_char_p, stream=ctypes.c_uint64, size=ctypes.c_uint64)
_Function = _structure(name=ctypes.c_char_p, address=ctypes.c_void_p, calls=ctypes.c_long, unused=ctypes.c_long)


def _work(entry):
    name, grid, block = entry.name and entry.name.decode(), tuple(entry.dims[:3]), tuple(entry.dims[3:])
    return Work(PHASES[entry.phase], KINDS[entry.kind], name, entry.stream, grid, block, entry.size, entry.device)


class DeviceMemory(Memory):
    """What a kernel on a device can reach: that device's allocations, and pinned and managed memory."""

    def __init__(self, stand_in, device):
        super().__init__()
        self._stand_in, self._device = stand_in, device
        self._bases, self._blocks = [], []  # met so far; none can be freed while the kernel runs

    def find(self, lo, hi):
        at = bisect_right(self._bases, lo) - 1
        block = self._blocks[at] if at >= 0 else None
        if block is None or lo >= block.base + block.bytes.size:
            block = self._stand_in.block(lo)
            if block is None:
                raise PTXError(f"out of bounds: address {lo:#x} is in no allocation: freed, or behind one, or not of a "
                               f"device")
            if block.on_device and block.device != self._device:
                raise PTXError(f"out of bounds: address {lo:#x} is of device {block.device}, but the kernel runs on "
                               f"device {self._device}")
            self._bases.insert(at + 1, block.base)
            self._blocks.insert(at + 1, block)
        if hi > block.base + block.bytes.size:
            raise PTXError(f"out of bounds: bytes [{lo - block.base}, {hi - block.base}) of an allocation of "
                           f"{block.bytes.size}")
        return block.base, block.bytes


class Watch:
    """What happened since it was made, or within its ``with`` block: calls, and the work given, captured and done."""

    def __init__(self, stand_in):
        self._stand_in = stand_in
        self.__enter__()

    def __enter__(self):
        self._start, self._end = self._stand_in._now(), None
        return self

    def __exit__(self, *_):
        self._end = self._stand_in._now()

    @property
    def calls(self):
        """How often each function of the driver was called, by its name without ``_v2`` and the like."""
        return (self._end or self._stand_in._now())[1] - self._start[1]

    @property
    def work(self):
        """All `Work`, in order."""
        return self._stand_in._work(self._start[0], (self._end or self._stand_in._now())[0])

    def _count(self, names):
        return {name: count for name, count in self.calls.items() if name in names}

    waited = property(lambda self: self._count(WAITING), doc="Calls in which the host may have waited for the device.")
    read = property(lambda self: self._count(READING), doc="Calls that may have copied from the device to the host.")
    allocated = property(lambda self: self._count(ALLOCATING), doc="Calls that allocated memory.")

    def launched(self, phase="given"):
        """Names of the kernels that were given to a stream, or ``"captured"``, or ``"done"``, in order."""
        return [w.name for w in self.work if w.phase == phase and w.kind == "launch"]


class StandIn:
    """The loaded library. `load` makes it. ``errors`` are what kernels raised; the driver reports them as error 700,
    716 or 719 until `forgive` or `check`. ``ptx`` is the PTX of Numba's kernels, by their names."""

    def __init__(self, devices, cc):
        self.made, self.errors, self.ptx, self._kernels = (devices, cc), [], {}, []
        self.library = ctypes.CDLL(str(_compile()), mode=ctypes.RTLD_GLOBAL)
        self.library.stand_in_find.restype = ctypes.c_long
        self.library.stand_in_find.argtypes = [ctypes.c_uint64, *[ctypes.c_void_p]*4]
        self._log = (_Entry*LOG).in_dll(self.library, "stand_in_log")
        self._logged = ctypes.c_long.in_dll(self.library, "stand_in_logged")
        names = ("fail_allocations", "skip_kernels", "reuse_streams", "version")
        self._fail, self._skip, self._reuse, self._version = (
            ctypes.c_int.in_dll(self.library, f"stand_in_{name}") for name in names)
        first = ctypes.POINTER(_Function)()
        self._functions = [first[i] for i in range(self.library.stand_in_apis(ctypes.byref(first)))]
        self._names = [re.sub(r"_v\d$", "", f.name.decode()) for f in self._functions]
        self._start()

    def _start(self):
        from cuda.bindings import driver
        devices, (major, minor) = self.made
        values = H100 | {"COMPUTE_CAPABILITY_MAJOR": major, "COMPUTE_CAPABILITY_MINOR": minor}
        attributes, names = (ctypes.c_int*256)(), (ctypes.c_char_p*1000)()
        for name, value in values.items():
            attributes[int(getattr(driver.CUdevice_attribute, f"CU_DEVICE_ATTRIBUTE_{name}"))] = value
        for result in driver.CUresult:
            names[int(result)] = result.name.encode()
        c = ctypes
        describe = c.CFUNCTYPE(c.c_int, c.c_char_p, c.c_char_p, c.POINTER(c.c_uint32), c.c_int)(self._describe)
        run = c.CFUNCTYPE(c.c_int, c.c_int, c.c_int, c.POINTER(c.c_uint), c.c_uint, c.c_void_p)(self._run)
        self._keep = attributes, names, describe, run
        self.library.stand_in_start(devices, attributes, names, describe, run)

    # What the library asks

    def _describe(self, text, name, answer, room):
        """A kernel's number, shared memory and parameters, for the driver."""
        name = name.decode()
        source = text.decode() if text else self.ptx.get(name)
        if source is None or not re.search(rf"\.entry\s+{re.escape(name)}\b", source):
            return 500
        try:
            kernel = _kernel(source)
            numbers = [len(self._kernels), kernel.shared, len(kernel.params)]
            for parameter in kernel.params:
                numbers += parameter.offset, parameter.bytes
            for i, number in enumerate(numbers[:room]):
                answer[i] = number
        except BaseException as error:  # it must not pass through C
            self.errors.append(error)
            return 218
        self._kernels.append(kernel)
        return 0

    def _run(self, number, device, dims, shared, params):
        kernel = self._kernels[number]
        try:
            if shared or dims[:6] != [dims[0], 1, 1, dims[3], 1, 1]:
                raise PTXError("a launch of more than one dimension, or with dynamic shared memory")
            arguments = [ctypes.string_at(params + p.offset, p.bytes) for p in kernel.params]
            Run(kernel, dims[0], dims[3], arguments, DeviceMemory(self, device))
        except BaseException as error:  # it must not pass through C
            self.errors.append(error)
            return (716 if "misaligned" in str(error) else 700) if isinstance(error, PTXError) else 719
        return 0

    # What tests ask

    def block(self, address):
        """The allocation in which an address lies: (base, bytes, device, on_device); None if there is none."""
        base, host, device, kind = ctypes.c_uint64(), ctypes.c_void_p(), ctypes.c_int(), ctypes.c_int()
        size = self.library.stand_in_find(address, *map(ctypes.byref, (base, host, device, kind)))
        if size < 0:
            return None
        return _Block(base.value, np.frombuffer((ctypes.c_uint8*size).from_address(host.value), np.uint8), device.value,
                      kind.value == 2)

    def peek(self, address, count, dtype=np.float32):
        """A copy of what lies in a device's memory now; no stream is run, unlike in a copy by the driver."""
        block = self.block(address)
        raw = block.bytes[address - block.base:][:count*np.dtype(dtype).itemsize]
        return raw.view(dtype).copy()

    @property
    def calls(self):
        """How often each function was called since the start, by its name without ``_v2`` and the like."""
        return self._now()[1]

    def watch(self):
        """A `Watch`, to be used as it is or in a ``with`` statement."""
        return Watch(self)

    def check(self):
        """Raise the first error of a kernel that is not yet accounted for, and forget them all."""
        if self.errors:
            error = self.errors[0]
            self.forgive()
            raise error

    def forgive(self):
        """Forget the errors; contexts work again, captures end."""
        self.errors.clear()
        self.library.stand_in_forgive()

    def fail_allocations(self, count=1):
        """Let the next allocations fail with CUDA_ERROR_OUT_OF_MEMORY."""
        self._fail.value = count

    def skip_kernels(self, skip=True):
        """Do nothing when a kernel should run: to time what the host does."""
        self._skip.value = skip

    def reuse_streams(self, reuse=True):
        """Give the next stream that is made the handle of the one that was destroyed last, as a driver may."""
        self._reuse.value = reuse

    def speak(self, version=13050):
        """Answer from now on as the driver of this version of CUDA."""
        self._version.value = version

    def drain(self):
        """Run all work that waits in any stream. This counts as no call."""
        self.library.stand_in_drain()

    def reset(self):
        """As after `load`, but for the calls, the log, the allocations and what is current: for the start of a test."""
        self.drain()
        self.forgive()
        self.fail_allocations(0)
        self.skip_kernels(False)
        self.reuse_streams(False)
        self.speak()

    def retire(self):
        """Run what waits, and no kernel after that: at the end of the process there is no Python to run it."""
        self.drain()
        self.skip_kernels()

    def _now(self):
        calls = Counter()
        for name, function in zip(self._names, self._functions, strict=True):
            calls[name] += function.calls
        return self._logged.value, +calls

    def _work(self, start, end):
        if end - start > LOG:
            raise ValueError(f"{end - start} entries, but the log keeps {LOG}")
        return [_work(self._log[i % LOG]) for i in range(start, end)]


_kernel = functools.lru_cache(maxsize=256)(Kernel)


# Loading

_loaded = None


def current():
    """The stand-in that this process has loaded."""
    return _loaded


def available():
    """Why the stand-in cannot be used here, or None."""
    if _loaded is not None:
        return None
    if not sys.platform.startswith("linux"):
        return "the stand-in for the CUDA driver needs Linux"
    if find_spec("cuda") is None or find_spec("cuda.bindings") is None:
        return "cuda-bindings is not installed"
    if shutil.which("cc") is None:
        return "no C compiler (cc) to build the stand-in for the CUDA driver"
    try:
        ctypes.CDLL(NAME)
    except OSError:
        return None
    return "a CUDA driver is installed here: the tests marked cuda use it"


def load(devices=1, cc=(9, 0)):
    """The stand-in, with so many devices of a compute capability; loaded at the first call. Raises RuntimeError where
    it cannot be used (see `available`), and ValueError if it was loaded with other arguments."""
    global _loaded
    if _loaded is None:
        reason = available()
        if reason:
            raise RuntimeError(reason)
        _loaded = StandIn(devices, tuple(cc))
        atexit.register(_loaded.retire)
        _tell_numba()
    elif _loaded.made != (devices, tuple(cc)):
        raise ValueError(f"the stand-in was loaded with devices, cc = {_loaded.made}; a process has one driver")
    return _loaded


def _compile():
    """The library's path; processes that this one starts find it in their environment."""
    if COMPILED in os.environ:
        return os.environ[COMPILED]
    folder = tempfile.mkdtemp(prefix="stand-in-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    library = Path(folder, NAME)
    subprocess.run(["cc", "-std=gnu11", "-O1", "-shared", "-fPIC", "-pthread", f"-Wl,-soname,{NAME}", "-o", library,
                    *sorted(Path(__file__).with_name("stand_in").glob("*.c"))], check=True, capture_output=True,
                   text=True)
    os.environ[COMPILED] = str(library)
    return library


def _tell_numba():
    """Numba looks for a driver when it is imported, and remembers that there was none."""
    module = sys.modules.get("numba.cuda.cudadrv.driver")
    driver = getattr(module, "driver", None)
    if getattr(driver, "initialization_error", None) is not None:
        driver.lib, driver.is_initialized, driver.initialization_error = module.find_driver(), False, None


def record_numba_ptx():
    """From now on keep the PTX of what numba-cuda compiles, so that its kernels can be run."""
    from numba.cuda import codegen
    library = codegen.CUDACodeLibrary
    if getattr(library.get_cubin, "recording", False):
        return
    get_cubin = library.get_cubin

    @functools.wraps(get_cubin)
    def recorded(self, cc=None):
        cubin = get_cubin(self, cc)
        if self._entry_name not in _loaded.ptx:
            _loaded.ptx[self._entry_name] = self.get_lto_ptx(cc).rstrip("\0") if self._lto else self.get_asm_str(cc)
        return cubin

    recorded.recording = True
    library.get_cubin = recorded
