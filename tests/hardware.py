"""A real CUDA device, for tests marked `cuda`: is there one, memory on it, and launches that other tests emulate."""
import ctypes
import sys
from types import SimpleNamespace

import numpy as np

from fastopt._cuda import advance, driver
from fastopt._cuda import code as cuda_code
from fastopt._cuda import loops as cuda
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


class Memory:
    """In place of `ptx.Memory`: arrays that are added lie on the device too, and `fetch` brings that copy back."""

    def __init__(self):
        self.gpu, self.copies = driver.gpu(0), []

    def add(self, array, name=""):
        self.copies.append((array, driver.uploaded(self.gpu, array)))
        return self.copies[-1][1].address

    def fetch(self):
        for array, copy in self.copies:
            self.gpu.download(array, copy.address)


class Placed:
    """A copy of an array on the device, `skip` elements behind a multiple of 256 bytes, with guards around it."""

    def __init__(self, array, skip=0):
        self.memory, first = Memory(), (GUARD + skip)*array.itemsize
        self.raw = np.full((array.size + skip + 2*GUARD)*array.itemsize, 0x5A, np.uint8)
        self.inside = slice(first, first + array.nbytes)
        self.raw[self.inside] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        self.array = DeviceArray(self.memory.add(self.raw) + first, array.shape, array.dtype, owner=self.memory)

    def read(self):
        """What lies on the device now; AssertionError where something was written around it."""
        self.memory.fetch()
        assert (self.raw[:self.inside.start] == 0x5A).all(), "written before the array"
        assert (self.raw[self.inside.stop:] == 0x5A).all(), "written behind the array"
        return self.raw[self.inside].copy().view(self.array.dtype).reshape(self.array.shape)


# What stands for the interpreter in emulation.py and test_cuda_advance.py

def run(code, blocks, threads, arguments, memory, stats=False):
    """In place of `ptx.Run`: one launch, and all arrays brought back."""
    assert threads == cuda.THREADS
    words = [int.from_bytes(a, "little", signed=True) if isinstance(a, bytes) else int(a) for a in arguments]
    function, _ = memory.gpu.function(code)
    with memory.gpu.current():
        driver.Launches([(function, blocks, driver.Arguments(words))]).run(0)
    memory.fetch()
    return SimpleNamespace()


class Cubins:
    """A module of kernels whose code is for the driver, whatever form is asked for."""

    def __init__(self, module):
        self.module = module

    def __getattr__(self, name):
        found = getattr(self.module, name)
        if name not in ("step", "squares", "advance"):
            return found
        return lambda *asked: found(*asked[:-1], driver.gpu(0).form)


INSTEAD = {  # of names in those modules
    "Memory": Memory, "Run": run, "kernel": lambda code: code, "cuda": Cubins(cuda), "advance": Cubins(advance)}
