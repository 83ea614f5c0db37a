"""Device arrays of other libraries: what looks like torch's, CuPy's, JAX's or speaks DLPack alone, on the stand-in driver."""
import ctypes
import sys
import types
import weakref

import numpy as np
import pytest
from conftest import assert_identical, normal, stored

pytest.importorskip("numba_cuda", reason="the extra `cuda` is not installed")

from devices import CuPy, Foreign, Interface, numba_cuda, to_device, to_host

import fastopt
from fastopt import arrays, device_arrays
from fastopt.device_arrays import DeviceArray


class Tensor:
    """What torch's tensors offer on a device."""

    layout, is_quantized = "torch.strided", False

    def __init__(self, memory, shape=None, strides=None, dtype="float32", index=0):
        self.memory, self.shape = memory, tuple(memory.shape) if shape is None else shape
        self.elements = tuple(s//memory.dtype.itemsize for s in memory.strides) if strides is None else strides
        self.device = types.SimpleNamespace(type="cuda", index=index)
        self.dtype = f"torch.{dtype}"

    def data_ptr(self):
        return self.memory.device_ctypes_pointer.value

    def stride(self):
        return self.elements

    def get_device(self):
        return self.device.index

    def view(self, dtype):
        return Tensor(self.memory, dtype=dtype.removeprefix("torch."))

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

    bfloat16 = "torch.bfloat16"

    @staticmethod
    def as_tensor(array, device):
        memory = numba_cuda().as_cuda_array(array, sync=False)
        return Tensor(memory, dtype=memory.dtype.name)


@pytest.fixture
def torch(stand_in, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", Torch)
    return Torch


@pytest.mark.parametrize("format", ["f64", "f32", "f16", "bf16"])
def test_tensors_of_torch(format, torch, stand_in):
    """Also those that require a gradient, whose interface raises."""
    names = {"f64": "float64", "f32": "float32", "f16": "float16", "bf16": "bfloat16"}
    p, g = stored(normal(1, 7, 9), format), stored(normal(2, 7, 9), format)
    host = fastopt.Adam(p.copy(), lr=0.1)
    tensor, grad = (Tensor(to_device(x), dtype=names[format]) for x in (p, g))
    opt = fastopt.Adam(tensor, lr=0.1, state={"m": "bfloat16"} if format == "bf16" else None)
    host = fastopt.Adam(p.copy(), lr=0.1, state={"m": "bfloat16"} if format == "bf16" else None)
    for _ in range(3):
        opt.step(grad, clip_norm=1.0)
        host.step(g, clip_norm=1.0)
    assert_identical(to_host(tensor.memory), host.params)
    m = opt.state["m"]
    assert isinstance(m, Tensor)
    assert m.dtype == ("torch.bfloat16" if format == "bf16" else "torch.float64" if format == "f64" else "torch.float32")
    with stand_in.watch() as seen:
        opt.step(Tensor(to_device(g), dtype=names[format]), clip_norm=1.0)  # a new tensor of the same kind: only its address goes along
    assert len(seen.launched()) == 1 + 3


def test_torch_gradients_that_lie_in_another_order(torch):
    p, g = normal(1, 6, 8).astype(np.float32), normal(2, 6, 8).astype(np.float32)
    host = fastopt.Momentum(p.copy(), lr=0.1)
    host.step(g)
    tensor = Tensor(to_device(p))
    fastopt.Momentum(tensor, lr=0.1).step(Tensor(to_device(np.asfortranarray(g).T), shape=(6, 8), strides=(1, 6)))
    assert_identical(to_host(tensor.memory), host.params)


def test_tensors_that_cannot_be_used(torch):
    memory = to_device(np.ones(6, np.float32))
    sparse = Tensor(memory)
    sparse.layout = "torch.sparse_coo"
    for bad, message in ((sparse, "params: a torch tensor of layout torch.sparse_coo, but a dense one is needed. Convert it."),
                         (Tensor(memory, dtype="int64"), "params: dtype torch.int64, but one of float64, float32, float16, bfloat16 is")):
        with pytest.raises(TypeError) as error:
            fastopt.Adam(bad)
        assert str(error.value).startswith(message)
    elsewhere = Tensor(memory)
    elsewhere.device.type = "xpu"
    with pytest.raises(TypeError, match="but one on the CPU or on a CUDA device is needed"):
        fastopt.Adam(elsewhere)


def test_arrays_of_cupy(stand_in, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", CuPy)
    p, g = normal(1, 300).astype(np.float32), normal(2, 300).astype(np.float32)
    array = Foreign(to_device(p))
    opt, host = fastopt.Nesterov(array, lr=0.1), fastopt.Nesterov(p, lr=0.1)
    for _ in range(2):
        ahead = opt.lookahead()
        assert isinstance(ahead, Foreign)
        opt.step(Foreign(to_device(g)))
        host.step(g)
    assert_identical(to_host(array), host.params)


# DLPack

class Managed(ctypes.Structure):
    """DLManagedTensor, as dlpack.h has it."""

    _fields_ = (("data", ctypes.c_void_p), ("device_type", ctypes.c_int32), ("device_id", ctypes.c_int32), ("ndim", ctypes.c_int32),
                ("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16), ("shape", ctypes.POINTER(ctypes.c_int64)),
                ("strides", ctypes.POINTER(ctypes.c_int64)), ("byte_offset", ctypes.c_uint64), ("context", ctypes.c_void_p),
                ("deleter", ctypes.c_void_p))


FLOAT, BFLOAT, CUDA = 2, 4, 2
_capsule = ctypes.pythonapi.PyCapsule_New
_capsule.restype, _capsule.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]


class Packed:
    """An array of a library that speaks DLPack and nothing else."""

    def __init__(self, array, code=FLOAT):
        self.array, self.streams, self.keep = array, [], []
        self.code = code

    def __dlpack_device__(self):
        return CUDA, 0

    def __dlpack__(self, *, stream=None, max_version=None, **_):
        if stream in (None, -1, 0):  # JAX hands it to the driver as it is; 0 is not allowed
            raise ValueError(f"stream={stream}")
        self.streams.append(stream)
        n = self.array.ndim
        size = self.array.dtype.itemsize
        shape, strides = (ctypes.c_int64*n)(*self.array.shape), (ctypes.c_int64*n)(*(s//size for s in self.array.strides))
        managed = Managed(self.array.device_ctypes_pointer.value, CUDA, 0, n, self.code, 8*size, 1, shape, strides, 0, None, None)
        self.keep.append((managed, shape, strides))
        return _capsule(ctypes.addressof(managed), b"dltensor", None)


def test_dlpack(stand_in):
    """Parameters and gradients; at every step the maker is told the stream that will read them."""
    p, g = normal(1, 5, 40).astype(np.float32), normal(2, 5, 40).astype(np.float32)
    packed, grad = Packed(to_device(p)), Packed(to_device(g))
    opt, host = fastopt.Adam(packed, lr=0.1), fastopt.Adam(p, lr=0.1)
    for k in range(3):
        opt.step(grad)
        host.step(g)
        assert grad.streams == [1]*2*(k + 1)  # when it is looked at, and by the step
    assert_identical(to_host(packed.array), host.params)
    assert isinstance(opt.state["m"], DeviceArray)
    assert opt.state["m"].shape == (5, 40)


def test_arrays_by_dlpack_are_held_until_they_have_been_read(stand_in):
    """Their library may take the memory back in an order of its own; a step later they are gone."""
    packed = Packed(to_device(np.ones(100, np.float32)))
    opt = fastopt.SGD(packed, lr=0.5)
    g = Packed(to_device(np.ones(100, np.float32)))
    opt.step(g)
    held = weakref.ref(g)
    del g
    assert held() is not None
    stand_in.drain()
    opt.step(Packed(to_device(np.ones(100, np.float32))))
    assert held() is None
    assert to_host(packed.array).tolist() == [0.0]*100


def test_a_gradient_factor_by_dlpack_is_handed_over(stand_in):
    p, factor = to_device(np.ones(6, np.float32)), Packed(to_device(np.full(1, 0.5, np.float32)))
    opt = fastopt.SGD(p, lr=1.0)
    opt.step(p, grad_factor=factor)
    assert len(factor.streams) == 2  # when it is looked at, and by the step
    assert to_host(p).tolist() == [0.5]*6


def test_dlpack_of_other_formats(stand_in):
    for dtype, code, format in ((np.float64, FLOAT, "f64"), (np.float16, FLOAT, "f16"), (np.uint16, BFLOAT, "bf16")):
        x = stored(normal(1, 12), format)
        packed = Packed(to_device(x), code)
        host = fastopt.SGD(x.copy(), lr=0.5)
        fastopt.SGD(packed, lr=0.5).step(packed)
        host.step(host.params)
        assert_identical(to_host(packed.array), host.params)
        assert arrays.view(packed, "x").dtype == dtype


class Jaxlike(Packed):
    """An array of JAX on a device."""


Jaxlike.__module__ = "jaxlib._jax"


def test_arrays_of_jax(stand_in):
    """Immutable: refused as parameters, read as gradients."""
    array = Jaxlike(to_device(np.full(4, 2, np.float32)))
    with pytest.raises(TypeError) as error:
        fastopt.Adam({"w": array})
    assert str(error.value) == ("params['w']: a JAX array, which is immutable. Keep the parameters where they can be written: "
                                "numpy.array(x), cupy.array(x), or torch's.")
    p = to_device(np.ones(4, np.float32))
    fastopt.SGD(p, lr=0.25).step(array)
    assert to_host(p).tolist() == [0.5]*4


# The interface

@pytest.mark.parametrize("name", ["<V2", "|V2"])
def test_bfloat16_by_its_bits(name, stand_in):
    x = stored(normal(1, 12), "bf16")
    memory = to_device(x)
    host = fastopt.SGD(x.copy(), lr=0.5)
    fastopt.SGD(Interface(memory, typestr=name), lr=0.5).step(Interface(memory, typestr=name))
    host.step(host.params)
    assert_identical(to_host(memory), host.params)


def test_an_interface_without_optional_entries(stand_in):
    p, g = normal(1, 50).astype(np.float32), normal(2, 50).astype(np.float32)
    memory, grad = to_device(p), to_device(g)

    class Old:
        def __init__(self, of):
            about = of.__cuda_array_interface__
            self.__cuda_array_interface__ = {k: about[k] for k in ("shape", "typestr", "data")} | {"version": 0}
    host = fastopt.Adam(p, lr=0.1)
    host.step(g)
    fastopt.Adam(Old(memory), lr=0.1).step(Old(grad))
    assert_identical(to_host(memory), host.params)


def test_device_arrays_of_ours(stand_in):
    """Made of any memory; strides may be negative; copies keep the order."""
    x = normal(1, 4, 5).astype(np.float32)
    memory = to_device(x)
    address = memory.device_ctypes_pointer.value
    whole = DeviceArray(address, (4, 5), np.float32, owner=memory)
    assert (whole.strides, whole.device, whole.nbytes, whole.ndim) == ((20, 4), 0, 80, 2)
    assert_identical(np.asarray(whole), x)
    assert_identical(np.asarray(DeviceArray(address, (5, 4), np.float32, (4, 20))), x.T)
    assert_identical(DeviceArray(address + 19*4, (4, 5), np.float32, (-20, -4)).copy_to_host(), x[::-1, ::-1])
    empty = DeviceArray(0, (0, 3), np.float32)
    assert (empty.device, np.asarray(empty).shape, empty.__cuda_array_interface__["data"][0]) == (None, (0, 3), 0)
    assert device_arrays.library(whole) is device_arrays.LIBRARIES["fastopt"]
    fastopt.SGD(whole, lr=1.0).step(whole)
    assert not np.asarray(whole).any()


def test_gradients_are_not_kept(stand_in):
    """New ones at every step, as automatic differentiation makes them: the old ones are gone before the next come."""
    p = to_device(np.ones(500, np.float32))
    opt = fastopt.Adam(p, lr=0.1)
    for how in ({}, {"clip_norm": 1.0}, {}):
        g = Interface(to_device(np.ones(500, np.float32)))
        held = weakref.ref(g)
        opt.step(g, **how)
        del g
        assert held() is None
