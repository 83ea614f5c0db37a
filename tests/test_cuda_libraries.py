"""On a real CUDA device (`pytest -m cuda`): arrays, streams and captures of CuPy, PyTorch and Numba, beside the CPU's optimizers."""
from contextlib import nullcontext

import numpy as np
import pytest
from conftest import OPTIMIZERS, assert_same_bits, normal, stored
from test_cuda_steps import bad, leaves, tree

import fastopt
from fastopt import schedules
from fastopt._cuda import driver

pytestmark = [pytest.mark.cuda, pytest.mark.filterwarnings("default")]  # what libraries warn of is not ours
BUSY, TIMES = 256 << 20, 100  # bytes copied, and how often, to keep a stream busy: some 15 ms, while a step is enqueued in 15 us


class CuPy:
    name = "cupy"

    def __init__(self):
        self.library = pytest.importorskip("cupy")
        self.stream = self.library.cuda.Stream(non_blocking=True)
        self.pointer = self.stream.ptr

    def current(self):
        return self.stream

    def put(self, x):
        return self.library.asarray(x)

    def get(self, array):
        return self.library.asnumpy(array)


class Torch:
    name = "torch"

    def __init__(self):
        self.library = pytest.importorskip("torch")
        if not self.library.cuda.is_available():
            pytest.skip("torch finds no CUDA device")
        self.stream = self.library.cuda.Stream()
        self.pointer = self.stream.cuda_stream

    def current(self):
        return self.library.cuda.stream(self.stream)

    def put(self, x):
        if x.dtype == np.uint16:  # bfloat16
            return self.library.from_numpy(x.view(np.int16)).cuda().view(self.library.bfloat16)
        return self.library.from_numpy(x).cuda()

    def get(self, array):
        if array.dtype == self.library.bfloat16:
            return array.view(self.library.int16).cpu().numpy().view(np.uint16)
        return array.cpu().numpy()


class Numba:
    """No stream is current there: every array has its own."""

    name = "numba"

    def __init__(self):
        self.library = pytest.importorskip("numba.cuda")
        self.stream = self.library.stream()
        self.pointer = int(self.stream)

    def current(self):
        return nullcontext()

    def put(self, x):
        return self.library.to_device(x, stream=self.stream)

    def get(self, array):
        found = array.copy_to_host(stream=self.stream)
        self.stream.synchronize()
        return found


LIBRARIES = {kind.name: kind for kind in (CuPy, Torch, Numba)}
each_library = pytest.mark.parametrize("name", LIBRARIES)


@pytest.fixture
def late(gpu):
    """Puts the writing of numbers into an array on a stream, behind work that takes long."""
    buffers, kept = [gpu.allocate(BUSY) for _ in range(2)], []

    def write(array, x, stream):
        with gpu.current():
            source = driver.uploaded(gpu, x)
            kept.append(source)  # until all is done
            for _ in range(TIMES):
                driver.do("cuMemcpyDtoDAsync", buffers[0].address, buffers[1].address, BUSY, stream)
            driver.do("cuMemcpyDtoDAsync", fastopt._tensors.arrays.view(array, "array").address, source.address,
                      x.nbytes, stream)
    yield write
    with gpu.current():
        driver.do("cuCtxSynchronize")


def wait(gpu):
    with gpu.current():
        driver.do("cuCtxSynchronize")


@each_library
def test_a_step_runs_on_the_stream_of_the_library(name, gpu, late):
    """It sees what was put there before it, however late that is done, and what comes after sees it."""
    library, host = LIBRARIES[name](), normal(0, 70_001).astype(np.float32)
    with library.current():
        p, g = library.put(host), library.put(np.zeros_like(host))
        on_device, on_host = fastopt.Adam(p, lr=0.1), fastopt.Adam(host, lr=0.1)
        wait(gpu)
        for k in range(3):
            grads = normal(k + 1, host.size).astype(np.float32)
            late(g, grads, library.pointer)
            on_device.step(g, clip_norm=1.0)
            on_host.step(grads, clip_norm=1.0)
        assert_same_bits(library.get(p), host, "p")
        assert on_device.grad_norm == on_host.grad_norm


@pytest.mark.parametrize(("ours", "theirs"), [(a, b) for a in LIBRARIES for b in LIBRARIES if a != b])
def test_gradients_of_another_library(ours, theirs, gpu, late):
    """The step waits for the stream on which they are made; that stream waits for the step before it writes them anew."""
    one, other, host = LIBRARIES[ours](), LIBRARIES[theirs](), normal(0, 70_001).astype(np.float32)
    with one.current(), other.current():
        p, g = one.put(host), other.put(np.zeros_like(host))
        on_device, on_host = fastopt.Adam(p, lr=0.1), fastopt.Adam(host, lr=0.1)
        wait(gpu)
        for k in range(3):
            grads = normal(k + 1, host.size).astype(np.float32)
            late(g, grads, other.pointer)
            on_device.step(g)
            on_host.step(grads)
        late(g, np.full_like(host, np.nan), other.pointer)
        wait(gpu)
        assert_same_bits(one.get(p), host, "p")


@each_library
@pytest.mark.parametrize("format", ["f64", "f32", "f16", "bf16"])
def test_formats(name, format, gpu):
    """Trees, whose states and gradient buffers are seen as arrays of the library."""
    library, host = LIBRARIES[name](), tree(0, format)
    with library.current():
        device = {k: library.put(x) for k, x in host.items()}
        on_device, on_host = fastopt.Adam(device, lr=0.1), fastopt.Adam(host, lr=0.1)
        for k in range(2):
            grads = {key: stored(normal(k + 5, *x.shape), format) for key, x in host.items()}
            on_device.step({key: library.put(np.asarray(x)) for key, x in grads.items()})
            on_host.step(grads)
        wait(gpu)
        for key, want in host.items():
            assert_same_bits(library.get(device[key]), want, key, format)
            assert_same_bits(library.get(on_device.state["v"][key]), on_host.state["v"][key], key)
            assert type(on_device.grads[key]) is type(device[key])
        on_device.step()
        on_host.step({key: np.zeros_like(x) for key, x in host.items()})
        wait(gpu)
        assert_same_bits(library.get(device["long"]), host["long"], "long", format)


# Captures

def twins(name, library, **more):
    """The same optimizer of two groups on the CPU and on the device, made to be captured there, and both their parameters."""
    def make(p, **more):
        return OPTIMIZERS[name]([{"params": p["long"], "weight_decay": 0.1},
                                 {"params": [p["W"], p["b"]], "lr": lambda t: 0.2/t}],
                                lr=schedules.one_cycle(0.1, steps=120), **more)
    host = {k: x for k, x in tree(0).items() if k in ("long", "W", "b")}
    device = {k: library.put(x) for k, x in host.items()}
    return make(host), make(device, capturable=200, **more), host, device


def grouped(g):
    return [g["long"], [g["W"], g["b"]]]


def hundred(library, replay, write, eager, captured, host, device, how):
    """A hundred replays, beside as many steps of the CPU: equal bits, skipped steps included."""
    for k in range(100):
        values = bad(tree(k % 7)) if k % 9 == 4 and "skip_nonfinite" in how else tree(k % 7)
        write(values)
        replay()
        with np.errstate(all="ignore"):
            eager.step(grouped(values), **how)
    assert captured.t == eager.t == (89 if "skip_nonfinite" in how else 100)
    for key, want in host.items():
        assert_same_bits(library.get(device[key]), want, key)
    have, want = captured.state_dict()["state"], eager.state_dict()["state"]
    for x, y in zip(leaves(have), leaves(want), strict=True):
        assert_same_bits(x, y, "state")
    assert captured.grad_norm == eager.grad_norm


captures = pytest.mark.parametrize(("name", "how"), [
    ("adam", {}), ("radam", {"clip_norm": 0.7}), ("nesterov", {"clip_value": 0.2, "grad_factor": 0.5}),
    ("adam", {"clip_norm": 2.0, "skip_nonfinite": True})])


@captures
def test_graphs_of_torch(name, how, gpu):
    library = Torch()
    torch = library.library
    eager, captured, host, device = twins(name, library)
    grads = {k: torch.zeros_like(x) for k, x in device.items()}
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured.step(grouped(grads), **how)
    assert captured.t == 0

    def write(values):
        for k, x in grads.items():
            x.copy_(torch.from_numpy(values[k]))
    hundred(library, graph.replay, write, eager, captured, host, device, how)


@captures
def test_graphs_of_cupy(name, how, gpu):
    library = CuPy()
    with library.current():
        eager, captured, host, device = twins(name, library)
        grads = {k: library.library.zeros_like(x) for k, x in device.items()}
        library.stream.begin_capture()
        captured.step(grouped(grads), **how)
        graph = library.stream.end_capture()
        assert captured.t == 0

        def write(values):
            for k, x in grads.items():
                x.set(values[k])
        hundred(library, lambda: graph.launch(library.stream), write, eager, captured, host, device, how)


def test_a_training_step_in_a_graph_of_torch(gpu):
    """The gradient of |w|^2/2 at the look-ahead point is that point; a library's own work in the same graph."""
    library = Torch()
    torch, host = library.library, normal(1, 30_001).astype(np.float32)
    w = library.put(host)
    eager, captured = fastopt.Nesterov(host, lr=0.1), fastopt.Nesterov(w, lr=0.1, capturable=50)
    captured.lookahead()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured.step(captured.lookahead()*1.0)
    for _ in range(50):
        graph.replay()
        eager.step(eager.lookahead().copy())
    assert captured.t == 50
    assert_same_bits(library.get(w), host, "w")
