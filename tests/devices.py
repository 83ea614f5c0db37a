"""Device arrays for tests on the stand-in driver: Numba's, plain interfaces, and what looks like other libraries'. What
tests need of the inside of fastopt's CUDA backend is here too, each in one place."""
import contextlib
import ctypes
import os
import subprocess
import sys
import textwrap
import types
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from fastopt._cuda import code as cuda_code
from fastopt._cuda import driver
from fastopt._cuda import libraries as adapters  # noqa: F401 (of device arrays)
from fastopt._tensors.device_array import DeviceArray

NON_BLOCKING = 1
do = driver.do


# The inside of fastopt

def load(**how):
    """The stand-in driver, to which fastopt gives its kernels as PTX."""
    from ptx import driver as loader
    stand_in = loader.load(**how)
    driver.Gpu.form = "ptx"
    return stand_in


def backend(opt):
    """What makes the steps of an optimizer."""
    return opt._backend


def plain(x):
    """A copy of an array on the first device, made without another library."""
    memory = driver.uploaded(driver.gpu(0), x)
    return DeviceArray(memory.address, x.shape, x.dtype, owner=memory)


# Programs, threads, streams

def process(code, *arguments, **environment):
    """What a program prints, in a process of its own."""
    here = str(Path(__file__).parent)
    path = os.pathsep.join([here, os.environ.get("PYTHONPATH", "")])
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", textwrap.dedent(code), *arguments],
                          capture_output=True, text=True, check=False, cwd=here,
                          env={**os.environ, "PYTHONPATH": path, **environment})
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def in_thread(call):
    """What a function returns in another thread."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(call).result()


def new_stream():
    """A stream that orders itself with no other, as CuPy's class."""
    numba_cuda().current_context()
    return CuPy.cuda.Stream(int(do("cuStreamCreate", NON_BLOCKING)))


def wait(stream=None):
    """For a stream, or for all that the device was given."""
    do("cuCtxSynchronize") if stream is None else do("cuStreamSynchronize", stream)


def peek(array):
    """What lies on the device now. Nothing runs because of this."""
    from ptx import driver as loader
    array = getattr(array, "array", array)
    address = array.address if isinstance(array, DeviceArray) else pointer(array)
    return loader.current().peek(address, array.size, array.dtype)


_sources = []


def late(array, value, stream):
    """Put a write into an array on a stream, from memory of the device: it runs when something forces it."""
    source = to_device(np.full(array.size, value, array.dtype))
    _sources[:] = [*_sources[-8:], source]
    do("cuMemcpyDtoDAsync", pointer(array), pointer(source), array.size*array.dtype.itemsize, stream)


def given(seen):
    """Launches that were given to a stream; what ran meanwhile may be older."""
    return [w for w in seen.work if w.phase == "given" and w.kind == "launch"]


def quiet(seen):
    """Nothing was waited for, read back or allocated."""
    return seen.waited == seen.read == seen.allocated == {}


# Numba's arrays

def numba_cuda():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from numba import cuda
        cuda_code.import_registries()
    return cuda


def pointer(array):
    return array.device_ctypes_pointer.value


def mapped(function, tree):
    """A tree with each of its arrays replaced."""
    if isinstance(tree, dict):
        return {k: mapped(function, v) for k, v in tree.items()}
    if isinstance(tree, (list, tuple)):
        return type(tree)(mapped(function, x) for x in tree)
    return function(tree)


def to_device(tree):
    """The arrays of a tree as device arrays of Numba, in the same memory order."""
    return mapped(numba_cuda().to_device, tree)


def of(value, n=6):
    """So many times this value on the device."""
    return to_device(np.full(n, value, np.float32))


def to_host(tree):
    """Copies of device arrays, of any library of the tests."""
    def copied(x):
        if isinstance(x, (Interface, Foreign, Tensor, Packed)):
            return copied(x.array)
        return np.asarray(x) if isinstance(x, DeviceArray) else x.copy_to_host()
    return mapped(copied, tree)


@contextlib.contextmanager
def on_second():
    """Numba's arrays are made on the second device."""
    with numba_cuda().gpus[1]:
        yield


# Other libraries

class Interface:
    """What any library may offer: ``__cuda_array_interface__``, here of a Numba array, with other entries."""

    def __init__(self, array, **entries):
        self.array, self.entries = array, entries

    @property
    def __cuda_array_interface__(self):
        return {**self.array.__cuda_array_interface__, **self.entries}


class Foreign:
    """What CuPy's arrays offer. ``Foreign.__module__`` says that they are CuPy's; `CuPy` stands for the module."""

    class Data:
        def __init__(self, pointer, device):
            self.ptr, self.device_id = pointer, device

    def __init__(self, array, device=0):
        self.array = array
        self.data = self.Data(pointer(array), device)
        self.shape, self.strides, self.dtype = array.shape, array.strides, array.dtype

    @property
    def __cuda_array_interface__(self):
        return {**self.array.__cuda_array_interface__, "stream": CuPy.cuda.get_current_stream().ptr or 1}


Foreign.__module__ = "cupy"


def foreign(tree):
    """The arrays of a tree as arrays of CuPy."""
    return mapped(lambda x: Foreign(to_device(x)), tree)


class CuPy:
    """The functions of CuPy that fastopt calls."""

    class cuda:
        class Stream:
            def __init__(self, ptr):
                self.ptr = ptr
        current = Stream(0)

        @classmethod
        def get_current_stream(cls, device=None):
            return cls.current

        class Device:
            now = 0

            def __init__(self, number):
                self.number = number

            def __enter__(self):
                self.before, CuPy.cuda.Device.now = self.now, self.number

            def __exit__(self, *_):
                CuPy.cuda.Device.now = self.before

    @staticmethod
    def asarray(array):
        """Copies what lies on another device than the current one."""
        if array.device != CuPy.cuda.Device.now:
            return Foreign(to_device(array.copy_to_host()))
        return Foreign(numba_cuda().as_cuda_array(array, sync=False), array.device)


class Tensor:
    """What torch's tensors offer. ``Tensor.__module__`` says that they are torch's; `Torch` stands for the module."""

    layout, is_quantized, conj, neg = "torch.strided", False, False, False

    def __init__(self, array, shape=None, strides=None, dtype="float32", index=0):
        self.array, self.shape = array, tuple(array.shape) if shape is None else shape
        self.elements = tuple(s//array.dtype.itemsize for s in array.strides) if strides is None else strides
        self.device = types.SimpleNamespace(type="cuda", index=index)
        self.dtype = f"torch.{dtype}"

    def data_ptr(self):
        return pointer(self.array)

    def stride(self):
        return self.elements

    def get_device(self):
        return self.device.index

    def is_conj(self):
        return self.conj

    def is_neg(self):
        return self.neg

    def record_stream(self, stream):
        self.recorded = [*getattr(self, "recorded", []), (stream.pointer, stream.device)]

    def view(self, dtype):
        return Tensor(self.array, dtype=dtype.removeprefix("torch."))

    @property
    def __cuda_array_interface__(self):
        raise RuntimeError("Can't get __cuda_array_interface__ on Variable that requires grad.")


Tensor.__module__ = "torch"


class Torch(types.SimpleNamespace):
    """The functions of torch that fastopt calls."""

    class cuda:
        stream = 0

        @classmethod
        def current_stream(cls, device):
            return types.SimpleNamespace(cuda_stream=cls.stream)

        class ExternalStream:
            def __init__(self, pointer, device=None):
                self.pointer, self.device = pointer, device

    bfloat16 = "torch.bfloat16"

    @staticmethod
    def as_tensor(array, device):
        memory = numba_cuda().as_cuda_array(array, sync=False)
        return Tensor(memory, dtype=memory.dtype.name)


# DLPack

class Managed(ctypes.Structure):
    """DLManagedTensor, as dlpack.h has it."""

    _fields_ = (("data", ctypes.c_void_p), ("device_type", ctypes.c_int32), ("device_id", ctypes.c_int32),
                ("ndim", ctypes.c_int32), ("code", ctypes.c_uint8), ("bits", ctypes.c_uint8),
                ("lanes", ctypes.c_uint16), ("shape", ctypes.POINTER(ctypes.c_int64)),
                ("strides", ctypes.POINTER(ctypes.c_int64)), ("byte_offset", ctypes.c_uint64),
                ("context", ctypes.c_void_p), ("deleter", ctypes.c_void_p))


FLOAT, BFLOAT, CUDA = 2, 4, 2
_capsule = ctypes.pythonapi.PyCapsule_New
_capsule.restype, _capsule.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]


class Packed:
    """An array of a library that speaks DLPack and nothing else."""

    def __init__(self, array, code=FLOAT):
        self.array, self.code, self.streams, self.keep = array, code, [], []

    def __dlpack_device__(self):
        return CUDA, 0

    def __dlpack__(self, *, stream=None, max_version=None, **_):
        if stream in (None, -1, 0):  # JAX hands it to the driver as it is; 0 is not allowed
            raise ValueError(f"stream={stream}")
        self.streams.append(stream)
        n, size = self.array.ndim, self.array.dtype.itemsize
        shape, strides = ((ctypes.c_int64*n)(*x) for x in (self.array.shape, [s//size for s in self.array.strides]))
        managed = Managed(pointer(self.array), CUDA, 0, n, self.code, 8*size, 1, shape, strides, 0, None, None)
        self.keep.append((managed, shape, strides))
        return _capsule(ctypes.addressof(managed), b"dltensor", None)
