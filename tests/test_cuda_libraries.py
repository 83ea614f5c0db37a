"""On a real CUDA device (`pytest -m cuda`): arrays, streams and captures of CuPy, PyTorch and Numba, beside the CPU."""
from contextlib import nullcontext
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import assert_same_bits, normal, stored
from twins import bad, grouped, in_groups, leaves, tree

import fastopt
from fastopt._cuda import driver
from fastopt._tensors import arrays

pytestmark = [pytest.mark.cuda, pytest.mark.filterwarnings("default")]  # what libraries warn of is not ours
BUSY, TIMES = 256 << 20, 100  # bytes copied, and how often, to keep a stream busy: 15 ms; a step is enqueued in 15 us


def cupy():
    library = pytest.importorskip("cupy")
    stream = library.cuda.Stream(non_blocking=True)
    return SimpleNamespace(library=library, stream=stream, pointer=stream.ptr, current=lambda: stream,
                           put=library.asarray, get=library.asnumpy)


def torch():
    library = pytest.importorskip("torch")
    if not library.cuda.is_available():
        pytest.skip("torch finds no CUDA device")
    stream = library.cuda.Stream()

    def put(x):
        if x.dtype == np.uint16:  # bfloat16
            return library.from_numpy(x.view(np.int16)).cuda().view(library.bfloat16)
        return library.from_numpy(x).cuda()

    def get(array):
        if array.dtype == library.bfloat16:
            return array.view(library.int16).cpu().numpy().view(np.uint16)
        return array.cpu().numpy()
    return SimpleNamespace(library=library, pointer=stream.cuda_stream, current=lambda: library.cuda.stream(stream),
                           put=put, get=get)


def numba():
    """No stream is current there: every array has its own."""
    library = pytest.importorskip("numba.cuda")
    stream = library.stream()

    def get(array):
        found = array.copy_to_host(stream=stream)
        stream.synchronize()
        return found
    return SimpleNamespace(library=library, pointer=int(stream), current=nullcontext,
                           put=lambda x: library.to_device(x, stream=stream), get=get)


LIBRARIES = {"cupy": cupy, "torch": torch, "numba": numba}
each_library = pytest.mark.parametrize("name", LIBRARIES)


@pytest.fixture
def late(gpu):
    """Puts the writing of numbers into an array on a stream, behind work that takes long."""
    buffers, kept = [gpu.allocate(BUSY) for _ in range(2)], []

    def write(array, x, stream):
        with gpu.current():
            kept.append(driver.uploaded(gpu, x))  # until all is done
            for _ in range(TIMES):
                driver.do("cuMemcpyDtoDAsync", buffers[0].address, buffers[1].address, BUSY, stream)
            driver.do("cuMemcpyDtoDAsync", arrays.view(array, "array").address, kept[-1].address, x.nbytes, stream)
    yield write
    wait(gpu)


def wait(gpu):
    with gpu.current():
        driver.do("cuCtxSynchronize")


@pytest.mark.parametrize(("ours", "theirs"), [(a, b) for a in LIBRARIES for b in LIBRARIES])
def test_a_step_is_ordered_with_the_streams_of_libraries(ours, theirs, gpu, late):
    """It runs on its library's stream, after what was put there before it, however late that is done. It waits for the
    stream on which another library makes gradients; that stream waits for the step before it writes them anew."""
    one, host = LIBRARIES[ours](), normal(0, 70_001).astype(np.float32)
    other = one if ours == theirs else LIBRARIES[theirs]()
    with one.current(), other.current():
        p, g = one.put(host), other.put(np.zeros_like(host))
        on_device, on_host = fastopt.Adam(p, lr=0.1), fastopt.Adam(host, lr=0.1)
        wait(gpu)
        for k in range(3):
            grads = normal(k + 1, host.size).astype(np.float32)
            late(g, grads, other.pointer)
            how = {"clip_norm": 1.0} if ours == theirs else {}
            on_device.step(g, **how)
            on_host.step(grads, **how)
        if ours != theirs:
            late(g, np.full_like(host, np.nan), other.pointer)
            wait(gpu)
        assert_same_bits(one.get(p), host, "p")
        assert on_device.grad_norm == on_host.grad_norm


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

@pytest.mark.parametrize("which", ["torch", "cupy"])
@pytest.mark.parametrize(("name", "how"), [
    ("adam", {}), ("radam", {"clip_norm": 0.7}), ("nesterov", {"clip_value": 0.2, "grad_factor": 0.5}),
    ("adam", {"clip_norm": 2.0, "skip_nonfinite": True})])
def test_graphs(which, name, how, gpu):
    """A hundred replays, beside as many steps of the CPU: equal bits, skipped steps included."""
    make = partial(in_groups, name, 120)
    library = LIBRARIES[which]()
    with library.current() if which == "cupy" else nullcontext():
        host = {k: x for k, x in tree(0).items() if k in ("long", "W", "b")}
        device = {k: library.put(x) for k, x in host.items()}
        grads = {k: library.library.zeros_like(x) for k, x in device.items()}
        eager, captured = make(host), make(device, capturable=200)
        if which == "torch":
            graph = library.library.cuda.CUDAGraph()
            with library.library.cuda.graph(graph):
                captured.step(grouped(grads), **how)
            replay = graph.replay
        else:
            library.stream.begin_capture()
            captured.step(grouped(grads), **how)
            graph = library.stream.end_capture()

            def replay():
                graph.launch(library.stream)
        assert captured.t == 0
        for k in range(100):
            values = bad(tree(k % 7)) if k % 9 == 4 and "skip_nonfinite" in how else tree(k % 7)
            for key, x in grads.items():
                x.copy_(library.library.from_numpy(values[key])) if which == "torch" else x.set(values[key])
            replay()
            with np.errstate(all="ignore"):
                eager.step(grouped(values), **how)
        assert captured.t == eager.t == (89 if "skip_nonfinite" in how else 100)
        for key, want in host.items():
            assert_same_bits(library.get(device[key]), want, key)
        for x, y in zip(leaves(captured.state_dict()["state"]), leaves(eager.state_dict()["state"]), strict=True):
            assert_same_bits(x, y, "state")
        assert captured.grad_norm == eager.grad_norm


def test_a_training_step_in_a_graph_of_torch(gpu):
    """The gradient of |w|^2/2 at the look-ahead point is that point; a library's own work in the same graph."""
    library, host = torch(), normal(1, 30_001).astype(np.float32)
    w = library.put(host)
    eager, captured = fastopt.Nesterov(host, lr=0.1), fastopt.Nesterov(w, lr=0.1, capturable=50)
    captured.lookahead()
    graph = library.library.cuda.CUDAGraph()
    with library.library.cuda.graph(graph):
        captured.step(captured.lookahead()*1.0)
    for _ in range(50):
        graph.replay()
        eager.step(eager.lookahead().copy())
    assert captured.t == 50
    assert_same_bits(library.get(w), host, "w")
