"""Device arrays for tests on the stand-in driver: Numba's, plain interfaces with a stream, and what looks like another library's."""
import warnings

import numpy as np

from fastopt._cuda import code as cuda_code
from fastopt._tensors.device_array import DeviceArray


def numba_cuda():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from numba import cuda
        cuda_code.import_registries()
    return cuda


def to_device(tree):
    """The arrays of a tree as device arrays of Numba, in the same memory order."""
    if isinstance(tree, dict):
        return {k: to_device(v) for k, v in tree.items()}
    if isinstance(tree, (list, tuple)):
        return type(tree)(to_device(x) for x in tree)
    return numba_cuda().to_device(tree)


def to_host(tree):
    """Copies of device arrays, of any library of the tests."""
    if isinstance(tree, dict):
        return {k: to_host(v) for k, v in tree.items()}
    if isinstance(tree, (list, tuple)):
        return type(tree)(to_host(x) for x in tree)
    if isinstance(tree, (Interface, Foreign)):
        return to_host(tree.array)
    return np.asarray(tree) if isinstance(tree, DeviceArray) else tree.copy_to_host()


class Interface:
    """What any library may offer: ``__cuda_array_interface__``, here of a Numba array, with a stream and other entries."""

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
        self.data = self.Data(array.device_ctypes_pointer.value, device)
        self.shape, self.strides, self.dtype = array.shape, array.strides, array.dtype

    @property
    def __cuda_array_interface__(self):
        return {**self.array.__cuda_array_interface__, "stream": CuPy.cuda.get_current_stream().ptr or 1}


Foreign.__module__ = "cupy"


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
