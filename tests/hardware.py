"""A real CUDA device, for tests marked `cuda`: is there one, and memory on it."""
import ctypes
import sys

import numpy as np

from fastopt._cuda import code as cuda_code
from fastopt._cuda import driver
from fastopt._tensors.device_array import DeviceArray

GUARD = 64  # elements around every array that must keep their bytes


def missing():
    """Why there is no real device here, or None."""
    stand_in = sys.modules.get("ptx.driver")
    if stand_in is not None and stand_in.current() is not None:
        return "the stand-in for the CUDA driver is loaded in this process: run these tests alone, pytest -m cuda"
    try:
        ctypes.CDLL("libcuda.so.1")
        cuda_code.versions()
        driver.gpu(0)
    except (OSError, ImportError, driver.CudaError) as error:
        return f"a CUDA device is needed: {error}"
    return None


class Placed:
    """A copy of an array on the device, `skip` elements behind a multiple of 256 bytes, with guards around it."""

    def __init__(self, array, skip=0):
        self.gpu, first = driver.gpu(0), (GUARD + skip)*array.itemsize
        self.raw = np.full((array.size + skip + 2*GUARD)*array.itemsize, 0x5A, np.uint8)
        self.inside = slice(first, first + array.nbytes)
        self.raw[self.inside] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        self.memory = driver.uploaded(self.gpu, self.raw)
        self.array = DeviceArray(self.memory.address + first, array.shape, array.dtype, owner=self.memory)

    def read(self):
        """What lies on the device now; AssertionError where something was written around it."""
        self.gpu.download(self.raw, self.memory.address)
        assert (self.raw[:self.inside.start] == 0x5A).all(), "written before the array"
        assert (self.raw[self.inside.stop:] == 0x5A).all(), "written behind the array"
        return self.raw[self.inside].copy().view(self.array.dtype).reshape(self.array.shape)
