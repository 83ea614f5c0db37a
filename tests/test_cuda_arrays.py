"""Device arrays of other libraries: what looks like torch's, CuPy's, JAX's or speaks DLPack alone. Stand-in driver."""
import ctypes
import sys
import types
import weakref

import numpy as np
import pytest
from conftest import assert_identical, normal, stored

pytest.importorskip("numba_cuda", reason="the extra `cuda` is not installed")

from devices import (
    BFLOAT,
    FLOAT,
    CuPy,
    Foreign,
    Interface,
    Packed,
    Tensor,
    Torch,
    adapters,
    backend,
    do,
    driver,
    foreign,
    late,
    new_stream,
    numba_cuda,
    of,
    on_second,
    pointer,
    to_device,
    to_host,
    wait,
)
from twins import Twins, adam, singles

import fastopt
from fastopt._tensors import arrays, tensors
from fastopt._tensors.device_array import DeviceArray

f32 = np.float32
pytestmark = pytest.mark.usefixtures("stand_in")


# Torch, CuPy

@pytest.fixture
def torch(stand_in, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", Torch)
    return Torch


@pytest.mark.parametrize(("format", "name", "state"),
                         [("f32", "float32", None), ("bf16", "bfloat16", {"m": "bfloat16"})])
def test_tensors_of_torch(format, name, state, torch, stand_in):
    """Also those that require a gradient, whose interface raises."""
    p, g = (stored(normal(k, 7, 9), format) for k in (1, 2))
    twins = Twins(lambda p: fastopt.Adam(p, lr=0.1, state=state), p, lambda x: Tensor(to_device(x), dtype=name))
    for _ in range(3):
        with stand_in.watch() as seen:
            twins.step(g, clip_norm=1.0).same()
    assert len(seen.launched()) == 1 + 3  # a new tensor of the kind that is known: only its address goes along
    m = twins.on_device.state["m"]
    assert isinstance(m, Tensor)
    assert m.dtype == f"torch.{name}"


def test_wide_and_short_tensors_of_torch(torch):
    for format, name in (("f64", "float64"), ("f16", "float16")):
        twins = Twins(lambda p: fastopt.SGD(p, lr=0.5), stored(normal(1, 12), format),
                      lambda x, name=name: Tensor(to_device(x), dtype=name))
        twins.step(twins.host, twins.device).same()


def test_torch_gradients_that_lie_in_another_order(torch):
    g = singles(2, 6, 8)
    twins = Twins(lambda p: fastopt.Momentum(p, lr=0.1), singles(1, 6, 8), lambda x: Tensor(to_device(x)))
    twins.step(g, Tensor(to_device(np.asfortranarray(g).T), shape=(6, 8), strides=(1, 6))).same()


def test_the_allocator_of_torch_is_told_who_reads_gradients(torch, monkeypatch):
    """It takes memory back in the order of the stream on which it gave it: the default one, unless it is told more."""
    tensor, side = Tensor(of(1)), new_stream().ptr
    for p, current in ((tensor, side), (Interface(of(1), stream=side), 0), (tensor, 0)):
        opt = fastopt.SGD(p, lr=1.0)
        monkeypatch.setattr(Torch.cuda, "stream", current)
        for _ in range(2):
            g, factor = Tensor(of(1)), Tensor(of(1, 1))
            opt.step(g, grad_factor=factor)
            for read in (g, factor):
                assert getattr(read, "recorded", []) == ([(side, 0)] if p is not tensor or current else [])


def test_tensors_that_cannot_be_used(torch):
    sparse, integers, elsewhere = Tensor(of(1)), Tensor(of(1), dtype="int64"), Tensor(of(1))
    sparse.layout, elsewhere.device.type = "torch.sparse_coo", "xpu"
    for bad, message in (
            (sparse, "params: a torch tensor of layout torch.sparse_coo, but a dense one is needed. Give x.to_dense()"),
            (integers, "params: dtype torch.int64, but one of float64, float32, float16, bfloat16, com"),
            (elsewhere, "but one on the CPU or on a CUDA device is needed")):
        with pytest.raises(TypeError) as error:
            fastopt.Adam(bad)
        assert message in str(error.value)


def test_arrays_of_cupy(cupy):
    twins = Twins(lambda p: fastopt.Nesterov(p, lr=0.1), singles(1, 300), foreign)
    for _ in range(2):
        assert isinstance(twins.on_device.lookahead(), Foreign)
        twins.step(singles(2, 300))
    wait()
    twins.same()


# DLPack

def test_dlpack():
    """Parameters and gradients; at every step the maker is told the stream that will read them."""
    twins = Twins(adam, singles(1, 5, 40), lambda x: Packed(to_device(x)))
    g = singles(2, 5, 40)
    grad = Packed(to_device(g))
    for k in range(3):
        twins.step(g, grad)
        assert grad.streams == [1]*(2*k + 3)  # when it is looked at, twice at first, and by the step
    m = twins.same().on_device.state["m"]
    assert isinstance(m, DeviceArray)
    assert m.shape == (5, 40)
    for dtype, code, format in ((np.float64, FLOAT, "f64"), (np.float16, FLOAT, "f16"), (np.uint16, BFLOAT, "bf16")):
        twins = Twins(lambda p: fastopt.SGD(p, lr=0.5), stored(normal(1, 12), format),
                      lambda x, code=code: Packed(to_device(x), code))
        twins.step(twins.host, twins.device).same()
        assert arrays.view(twins.device, "x").dtype == dtype


MANAGED, SHARED = 13, 1  # kDLCUDAManaged; CU_MEM_ATTACH_GLOBAL


class PackedManaged(Packed):
    """As CuPy exports what its allocator of managed memory gave."""

    def __dlpack_device__(self):
        return MANAGED, 0


@pytest.mark.parametrize("kind", [Interface, Foreign, PackedManaged])
def test_managed_memory(kind, cupy, stand_in):
    """Steps on the device, wherever its pages are: parameters, gradients and a factor."""
    def managed(x):
        address = int(do("cuMemAllocManaged", x.nbytes, SHARED))
        do("cuMemcpyHtoD", address, x.ctypes.data, x.nbytes)
        return kind(numba_cuda().as_cuda_array(DeviceArray(address, x.shape, x.dtype), sync=False))
    p, g = singles(1, 300), singles(2, 300)
    twins = Twins(lambda p: fastopt.Adam(p, lr=0.1), p, managed)
    for _ in range(2):
        twins.step(g, managed(g), grad_factor=0.5)
    twins.on_host.step(g, grad_factor=0.25)
    twins.on_device.step(managed(g), grad_factor=managed(np.array([0.25], f32)))
    wait()
    twins.same()


def test_arrays_of_numba_that_numpy_can_read():
    """Managed, and mapped from pinned memory: they are NumPy arrays too, and a step on the CPU is what NumPy's are."""
    for make in (numba_cuda().managed_array, numba_cuda().mapped_array):
        p = make(6, f32)
        p[:] = 1
        opt = fastopt.SGD(p, lr=0.5)
        opt.step(np.ones(6, f32))
        assert type(backend(opt)).__name__ == "HostBackend"
        assert p.tolist() == [0.5]*6


def test_a_gradient_factor_by_dlpack_is_handed_over():
    p, factor = of(1), Packed(of(0.5, 1))
    fastopt.SGD(p, lr=1.0).step(p, grad_factor=factor)
    assert len(factor.streams) == 2  # when it is looked at, and by the step
    assert to_host(p).tolist() == [0.5]*6


class Jax(Packed):
    """An array of JAX on a device: besides DLPack it has an interface of version 2, whose getter waits for nothing."""

    maker = None  # the stream on which its contents are made

    def __dlpack__(self, *, stream=None, **more):
        if self.maker:
            event = driver.Event(driver.gpu(0))
            event.record(self.maker)
            event.hold(stream if stream != 1 else 0)
        return super().__dlpack__(stream=stream, **more)

    @property
    def __cuda_array_interface__(self):
        if self.code == BFLOAT:
            raise AttributeError("__cuda_array_interface__ is not supported for bfloat16 buffers.")
        about = self.array.__cuda_array_interface__
        return {"shape": about["shape"], "typestr": about["typestr"], "data": (about["data"][0], True), "strides": None,
                "version": 2}


class Unnamed(Jax):
    """The same of a library that is not known here."""


Jax.__module__ = "jaxlib._jax"


def test_arrays_of_jax():
    """Immutable: refused as parameters, read as gradients."""
    array, p = Jax(of(2)), of(1)
    with pytest.raises(TypeError) as error:
        fastopt.Adam({"w": array})
    assert str(error.value) == ("params['w']: a JAX array, which is immutable. Keep the parameters where they can be "
                                "written: numpy.array(x), cupy.array(x), or torch's.")
    fastopt.SGD(p, lr=0.25).step(array)
    assert to_host(p).tolist() == [0.5]*6


@pytest.mark.parametrize("kind", [Jax, Unnamed])
@pytest.mark.parametrize("format", ["f32", "bf16"])
def test_contents_by_dlpack_are_waited_for(kind, format, stand_in):
    """Though there is an interface: it names no stream. As gradient and as factor, at all steps."""
    value = stored(np.full(6, 2.0), format)
    p, memory, opt, maker = of(0), to_device(np.zeros_like(value)), None, new_stream().ptr
    g, factor = kind(memory, BFLOAT if format == "bf16" else FLOAT), kind(of(0, 1))
    g.maker = factor.maker = maker
    opt = fastopt.SGD(p, lr=1.0)
    for k in range(1, 4):
        do("cuMemsetD8", pointer(memory), 0, value.nbytes)
        wait()
        late(memory, value[0], maker)
        with stand_in.watch() as seen:
            opt.step(g)
        assert not (seen.waited and k > 1)
        assert to_host(p).tolist() == [-2.0*k]*6
    wait()
    late(factor.array, 2, maker)
    opt.step(g, grad_factor=factor)
    assert to_host(p).tolist() == [-10.0]*6


def test_what_a_step_reads_is_held_until_it_has_been_read(stand_in):
    """DLPack's libraries may take memory back in an order of their own: any use of the optimizer after the step lets it
    go. Gradients are not kept at all: the old ones are gone before automatic differentiation makes the next."""
    p = of(1)
    opt = fastopt.SGD(p, lr=0.25)
    for kind, use in ((Packed, lambda: opt.step(Packed(of(1)))), (Jax, lambda: opt.t),
                      (Jax, lambda: backend(opt).look())):
        g = kind(of(1))
        held = weakref.ref(g)
        opt.step(g)
        del g
        if kind is Jax:
            use()
        assert held() is not None
        stand_in.drain()
        use()
        assert held() is None
    assert to_host(p).tolist() == [0.0]*6
    for how in ({}, {"clip_norm": 1.0}, {}):
        g = Interface(of(1))
        held = weakref.ref(g)
        opt.step(g, **how)
        del g
        assert held() is None


# What moves

KINDS = {"torch": Tensor, "cupy": Foreign, "interface": lambda x: Interface(x, stream=1), "dlpack": Packed}
each_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture
def libraries(torch, cupy, monkeypatch):
    monkeypatch.setattr(CuPy.cuda, "current", CuPy.cuda.Stream(0))


def moving(kind, x):
    """An array of a library whose memory may be replaced, and the function that does it."""
    made = KINDS[kind](to_device(x))
    return made, lambda new: vars(made).update(vars(KINDS[kind](new)))


@each_kind
def test_memory_that_moves_is_followed(kind, libraries):
    """Of a parameter and of a copy; steps, look-ahead points and the norm see the new memory, not the old."""
    x, g = singles(1, 5, 8), singles(2, 5, 8)
    p, move = moving(kind, x)
    c, move_copy = moving(kind, np.zeros_like(x))
    host_copy, grad = np.zeros_like(x), to_device(g)
    host, opt = fastopt.Nesterov([x], lr=0.1, copy=[host_copy]), fastopt.Nesterov([p], lr=0.1, copy=[c])
    memories = []
    for k in range(6):
        if k in (1, 4):
            memories.append((p.array, to_host(p.array)))
            move(to_device(memories[-1][1]))
        if k == 2:
            move_copy(to_device(np.full_like(x, 9)))
        assert_identical(to_host(opt.lookahead()[0]), host.lookahead()[0])
        opt.step([grad], clip_norm=1.0 if k % 2 else None)
        host.step([g], clip_norm=1.0 if k % 2 else None)
        assert_identical(to_host(p), x)
        assert_identical(to_host(c), host_copy)
    for memory, before in memories:
        assert_identical(to_host(memory), before)
    assert opt.t == 6


@each_kind
def test_memory_of_another_kind_is_refused(kind, libraries, stand_in):
    """Before anything is enqueued, with the path; changed back, all goes on."""
    x, g = singles(1, 4, 6), singles(2, 4, 6)
    p, move = moving(kind, x)
    twins = Twins(adam, {"w": x}, lambda _: {"w": p})
    own, given = p.array, {"w": to_device(g)}
    twins.step({"w": g}, given)
    spoilt = {"shape (6, 4)": np.zeros((6, 4), f32), "shape (2, 6)": np.zeros((2, 6), f32),
              "its strides have become (4, 16)": np.zeros((6, 4), f32).T}
    if kind not in ("torch", "dlpack"):
        spoilt["float16"] = np.zeros((4, 6), np.float16)
    for found, array in spoilt.items():
        move(to_device(array))
        for use in (lambda: twins.on_device.step(given), lambda: backend(twins.on_device).look()):
            with stand_in.watch() as seen, pytest.raises(ValueError) as raised:
                use()
            assert str(raised.value).startswith("params['w']: it")
            assert found in str(raised.value)
            assert str(raised.value).endswith((tensors.ANEW, "load opt.state_dict() into it."))
            assert seen.launched() == []
    move(own)
    twins.step({"w": g}, given).same()


def test_memory_that_moves_where_it_may_not(libraries, stand_in):
    """Freed, to another device or the host, onto another array of the optimizer, or read-only."""
    x = np.ones(6, f32)
    (p, move), (q, move_other) = moving("torch", x), moving("torch", x)
    opt = fastopt.Momentum([p, q], lr=0.5)
    g, own, other = [of(1), of(1)], of(1), of(1)
    with on_second():
        elsewhere = of(1)

    def refused(kind, message):
        with stand_in.watch() as seen, pytest.raises(kind) as raised:
            opt.step(g)
        assert str(raised.value).startswith(message)
        assert seen.launched() == []
    move(own)
    move_other(own)
    refused(ValueError, "params[1]: its memory overlaps that of params[0]")
    move_other(opt.state["v"][0].array)
    refused(ValueError, "v[0]: its memory overlaps that of params[1]")
    gone = ctypes.c_void_p(0x1000)
    move_other(types.SimpleNamespace(device_ctypes_pointer=gone, shape=(6,), strides=(4,), dtype=x.dtype))
    refused(ValueError, "params[1]: its memory is gone. CUDA arrays: the address 0x1000 is none of a CUDA device.")
    move_other(elsewhere)
    refused(TypeError, "params[1]: it is now on another CUDA device than when the optimizer was made.")
    q.device.index = 1
    refused(TypeError,
            "params[1]: it is now on CUDA device 1, but the optimizer was made for an array on CUDA device 0.")
    move_other(other)
    opt.step(g)
    assert to_host(other).tolist() == to_host(own).tolist() == [0.5]*6
    r = Interface(of(1), stream=1)
    opt, g = fastopt.SGD(r), of(1)
    r.entries["data"] = (pointer(r.array), True)
    refused(ValueError, "params: it has become read-only, but it is updated in place.")


def test_own_arrays_do_not_change():
    """Those that a user made, and those of an optimizer: none of a step's addresses can be reached through them."""
    memory = of(1)
    p = DeviceArray(pointer(memory), (6,), f32, owner=memory)
    opt = fastopt.Adam(p)
    for array in (p, opt.state["m"], opt.grads):
        for name in ("address", "shape", "dtype", "strides", "writeable", "owner", "other"):
            message = f"DeviceArray: {name} cannot be set, since a step may be bound to the array. Make a"
            with pytest.raises(AttributeError, match=message):
                setattr(array, name, None)


# The interface

class Old:
    """An interface of version 0, without optional entries."""

    def __init__(self, array):
        about, self.array = array.__cuda_array_interface__, array
        self.__cuda_array_interface__ = {k: about[k] for k in ("shape", "typestr", "data")} | {"version": 0}


@pytest.mark.parametrize("kind", ["<V2", "|V2", Old])
def test_forms_of_the_interface(kind):
    """bfloat16 goes by its bits."""
    x, g = (singles(k, 50) if kind is Old else stored(normal(k, 50), "bf16") for k in (1, 2))
    p, g_there = to_device(x), to_device(g)
    host = fastopt.Adam(x, lr=0.5)
    host.step(g)
    make = kind if kind is Old else lambda x: Interface(x, typestr=kind)
    fastopt.Adam(make(p), lr=0.5).step(make(g_there))
    assert_identical(to_host(p), x)


def test_device_arrays_of_ours():
    """Made of any memory; strides may be negative; copies keep the order."""
    x = singles(1, 4, 5)
    memory = to_device(x)
    address = pointer(memory)
    whole = DeviceArray(address, (4, 5), f32, owner=memory)
    assert (whole.strides, whole.device, whole.nbytes, whole.ndim) == ((20, 4), 0, 80, 2)
    assert_identical(np.asarray(whole), x)
    assert_identical(np.asarray(DeviceArray(address, (5, 4), f32, (4, 20))), x.T)
    assert_identical(DeviceArray(address + 19*4, (4, 5), f32, (-20, -4)).copy_to_host(), x[::-1, ::-1])
    empty = DeviceArray(0, (0, 3), f32)
    assert (empty.device, np.asarray(empty).shape, empty.__cuda_array_interface__["data"][0]) == (None, (0, 3), 0)
    assert adapters.library(whole) is adapters.LIBRARIES["fastopt"]
    fastopt.SGD(whole, lr=1.0).step(whole)
    assert not np.asarray(whole).any()
