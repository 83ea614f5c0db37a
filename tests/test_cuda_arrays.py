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
from fastopt._cuda.libraries import LIBRARIES, library
from fastopt._tensors import arrays, tensors
from fastopt._tensors.device_array import DeviceArray


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

    def record_stream(self, stream):
        self.recorded = [*getattr(self, "recorded", []), (stream.pointer, stream.device)]

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

        class ExternalStream:
            def __init__(self, pointer, device=None):
                self.pointer, self.device = pointer, device

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


def test_the_allocator_of_torch_is_told_who_reads_gradients(torch, stand_in, monkeypatch):
    """It takes memory back in the order of the stream on which it gave it: the default one, unless it is told more."""
    from fastopt._cuda import driver
    x = np.ones(6, np.float32)
    tensor = Tensor(to_device(x))
    side = int(driver.do("cuStreamCreate", 1))
    for p, current in ((tensor, side), (Interface(to_device(x), stream=side), 0), (tensor, 0)):
        opt = fastopt.SGD(p, lr=1.0)
        monkeypatch.setattr(Torch.cuda, "stream", current)
        for _ in range(2):
            g, factor = Tensor(to_device(x)), Tensor(to_device(np.ones(1, np.float32)))
            opt.step(g, grad_factor=factor)
            for read in (g, factor):
                assert getattr(read, "recorded", []) == ([(side, 0)] if p is not tensor or current else [])


def test_tensors_that_cannot_be_used(torch):
    memory = to_device(np.ones(6, np.float32))
    sparse = Tensor(memory)
    sparse.layout = "torch.sparse_coo"
    for bad, message in ((sparse, "params: a torch tensor of layout torch.sparse_coo, but a dense one is needed. Give x.to_dense()."),
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
        assert grad.streams == [1]*(2*k + 3)  # when it is looked at, twice at first, and by the step
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
    """An array of JAX on a device: besides DLPack it has an interface of version 2, whose getter waits for nothing."""

    maker = None  # the stream on which its contents are made

    def __dlpack__(self, *, stream=None, **more):
        if self.maker:
            from fastopt._cuda import driver
            event = driver.Event(driver.gpu(0))
            event.record(self.maker)
            event.hold(stream if stream != 1 else 0)
        return super().__dlpack__(stream=stream, **more)

    @property
    def __cuda_array_interface__(self):
        if self.code == BFLOAT:
            raise AttributeError("__cuda_array_interface__ is not supported for bfloat16 buffers.")
        about = self.array.__cuda_array_interface__
        return {"shape": about["shape"], "typestr": about["typestr"], "data": (about["data"][0], True), "strides": None, "version": 2}


class Jax(Jaxlike):
    pass


class Unnamed(Jaxlike):
    """The same of a library that is not known here."""


Jax.__module__ = "jaxlib._jax"


def test_arrays_of_jax(stand_in):
    """Immutable: refused as parameters, read as gradients."""
    array = Jax(to_device(np.full(4, 2, np.float32)))
    with pytest.raises(TypeError) as error:
        fastopt.Adam({"w": array})
    assert str(error.value) == ("params['w']: a JAX array, which is immutable. Keep the parameters where they can be written: "
                                "numpy.array(x), cupy.array(x), or torch's.")
    p = to_device(np.ones(4, np.float32))
    fastopt.SGD(p, lr=0.25).step(array)
    assert to_host(p).tolist() == [0.5]*4


@pytest.mark.parametrize("kind", [Jax, Unnamed])
@pytest.mark.parametrize("format", ["f32", "bf16"])
def test_contents_by_dlpack_are_waited_for(kind, format, stand_in):
    """Though there is an interface: it names no stream. As gradient and as factor, at the first step and at later ones."""
    from fastopt._cuda import driver
    numba_cuda().current_context()
    maker = int(driver.do("cuStreamCreate", 1))
    value = stored(np.full(40, 2.0), format)
    p, memory, source = to_device(np.zeros(40, np.float32)), to_device(np.zeros_like(value)), to_device(value)
    g = kind(memory, BFLOAT if format == "bf16" else FLOAT)
    g.maker = maker
    opt = fastopt.SGD(p, lr=1.0)
    for k in range(1, 4):
        driver.do("cuMemsetD8", memory.device_ctypes_pointer.value, 0, value.nbytes)
        driver.do("cuCtxSynchronize")
        driver.do("cuMemcpyDtoDAsync", memory.device_ctypes_pointer.value, source.device_ctypes_pointer.value, value.nbytes, maker)
        with stand_in.watch() as seen:
            opt.step(g)
        assert not (seen.waited and k > 1)
        assert to_host(p).tolist() == [-2.0*k]*40
    if format == "f32":
        factor = kind(to_device(np.zeros(1, np.float32)))
        factor.maker = maker
        driver.do("cuCtxSynchronize")
        driver.do("cuMemcpyDtoDAsync", factor.array.device_ctypes_pointer.value, source.device_ctypes_pointer.value, 4, maker)
        opt.step(g, grad_factor=factor)
        assert to_host(p).tolist() == [-10.0]*40


def test_any_use_of_the_optimizer_lets_read_gradients_go(stand_in):
    p = to_device(np.ones(10, np.float32))
    opt = fastopt.SGD(p, lr=0.5)
    for use in (lambda: opt.t, lambda: opt._backend.look()):
        g = Jax(to_device(np.ones(10, np.float32)))
        held = weakref.ref(g)
        opt.step(g)
        del g
        use()
        assert held() is not None
        stand_in.drain()
        use()
        assert held() is None


# What moves

def views(kind, x):
    """An array of a library whose memory may be replaced, and the function that does it."""
    array = to_device(x)
    if kind == "torch":
        made = Tensor(array)
        return made, lambda new: vars(made).update(vars(Tensor(new)))
    if kind == "cupy":
        made = Foreign(array)
        return made, lambda new: vars(made).update(vars(Foreign(new)))
    made = Interface(array, stream=1) if kind == "interface" else Packed(array)
    return made, lambda new: setattr(made, "array", new)


each_kind = pytest.mark.parametrize("kind", ["torch", "cupy", "interface", "dlpack"])


@pytest.fixture
def libraries(torch, monkeypatch):
    numba_cuda().current_context()
    monkeypatch.setitem(sys.modules, "cupy", CuPy)
    monkeypatch.setattr(CuPy.cuda, "current", CuPy.cuda.Stream(0))


@each_kind
def test_memory_that_moves_is_followed(kind, libraries, stand_in):
    """Of a parameter and of a copy; steps, look-ahead points and the norm see the new memory, and the old one is left alone."""
    x, g = normal(1, 5, 8).astype(np.float32), normal(2, 5, 8).astype(np.float32)
    p, move = views(kind, x)
    c, move_copy = views(kind, np.zeros_like(x))
    host_copy = np.zeros_like(x)
    host, opt = fastopt.Nesterov([x], lr=0.1, copy=[host_copy]), fastopt.Nesterov([p], lr=0.1, copy=[c])
    grad = to_device(g)
    memories = [to_device(x)]
    for k in range(6):
        if k in (1, 4):
            memories.append(to_device(np.asarray(to_host(memories[-1] if k == 4 else p.memory if kind == "torch" else p.array))))
            before = to_host(memories[-2]) if k == 4 else None
            move(memories[-1])
        if k == 2:
            copied = to_device(np.full_like(x, 9))
            move_copy(copied)
        ahead = opt.lookahead()[0]
        assert_identical(to_host(ahead.memory if kind == "torch" else ahead), host.lookahead()[0])
        opt.step([grad], clip_norm=1.0 if k % 2 else None)
        host.step([g], clip_norm=1.0 if k % 2 else None)
        if k >= 1:
            assert_identical(to_host(memories[-1]), x)
        if k >= 2:
            assert_identical(to_host(copied), host_copy)
    assert_identical(to_host(memories[1]), before)
    assert opt.t == 6


@each_kind
def test_memory_of_another_kind_is_refused(kind, libraries, stand_in):
    """Before anything is enqueued, with the path; changed back, all goes on."""
    x, g = normal(1, 4, 6).astype(np.float32), to_device(normal(2, 4, 6).astype(np.float32))
    p, move = views(kind, x)
    opt, host = fastopt.Adam({"w": p}, lr=0.1), fastopt.Adam({"w": x.copy()}, lr=0.1)
    own = to_device(x)
    move(own)
    opt.step({"w": g})
    host.step({"w": to_host(g)})
    spoilt = {"shape (6, 4)": (np.zeros((6, 4), np.float32), ValueError), "shape (2, 6)": (np.zeros((2, 6), np.float32), ValueError),
              "its strides have become (4, 16)": (np.zeros((6, 4), np.float32).T, ValueError)}
    if kind not in ("torch", "dlpack"):
        spoilt["float16"] = np.zeros((4, 6), np.float16), ValueError
    for found, (array, error) in spoilt.items():
        move(to_device(array))
        for use in (lambda: opt.step({"w": g}), lambda: opt._backend.look()):
            with stand_in.watch() as seen, pytest.raises(error) as raised:
                use()
            assert str(raised.value).startswith("params['w']: it")
            assert found in str(raised.value)
            assert str(raised.value).endswith((tensors.ANEW, "load opt.state_dict() into it."))
            assert seen.launched() == []
    move(own)
    opt.step({"w": g})
    host.step({"w": to_host(g)})
    assert opt.t == 2
    assert_identical(to_host(own), host.params["w"])


def test_memory_that_moves_where_it_may_not(libraries, stand_in):
    """Freed, to another device or the host, onto another array of the optimizer, or read-only."""
    x = np.ones(6, np.float32)
    (p, move), (q, move_other) = views("torch", x), views("torch", x)
    opt = fastopt.Momentum([p, q], lr=0.5)
    g = [to_device(x), to_device(x)]
    own, other = to_device(x), to_device(x)
    with numba_cuda().gpus[1]:
        elsewhere = to_device(x)

    def refused(kind, message):
        with stand_in.watch() as seen, pytest.raises(kind) as raised:
            opt.step(g)
        assert str(raised.value).startswith(message)
        assert seen.launched() == []
    move(own)
    move_other(own)
    refused(ValueError, "params[1]: its memory overlaps that of params[0]")
    move_other(opt.state["v"][0].memory)
    refused(ValueError, "v[0]: its memory overlaps that of params[1]")
    move_other(types.SimpleNamespace(device_ctypes_pointer=ctypes.c_void_p(0x1000), shape=(6,), strides=(4,), dtype=x.dtype))
    refused(ValueError, "params[1]: its memory is gone. CUDA arrays: the address 0x1000 is none of a CUDA device.")
    move_other(elsewhere)
    refused(TypeError, "params[1]: it is now on another CUDA device than when the optimizer was made.")
    q.device.index = 1
    refused(TypeError, "params[1]: it is now on CUDA device 1, but the optimizer was made for an array on CUDA device 0.")
    q.device = types.SimpleNamespace(type="cuda", index=0)
    move_other(other)
    opt.step(g)
    assert to_host(other).tolist() == to_host(own).tolist() == [0.5]*6
    r = Interface(to_device(x), stream=1)
    opt = fastopt.SGD(r)
    r.entries["data"] = (r.array.device_ctypes_pointer.value, True)
    g = to_device(x)
    refused(ValueError, "params: it has become read-only, but it is updated in place.")


def test_own_arrays_do_not_change(stand_in):
    """Those that a user made, and those that an optimizer hands out: none of a step's addresses can be reached through them."""
    memory = to_device(np.ones(6, np.float32))
    p = DeviceArray(memory.device_ctypes_pointer.value, (6,), np.float32, owner=memory)
    opt = fastopt.Adam(p)
    for array in (p, opt.state["m"], opt.grads):
        for name in ("address", "shape", "dtype", "strides", "writeable", "owner", "other"):
            with pytest.raises(AttributeError, match=f"DeviceArray: {name} cannot be set, since a step may be bound to the array. Make a"):
                setattr(array, name, None)


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
    assert library(whole) is LIBRARIES["fastopt"]
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
