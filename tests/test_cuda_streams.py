"""Streams, graph captures and several devices, on the stand-in driver: work runs late and out of order unless it was ordered."""
import contextlib
import gc
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from conftest import OPTIMIZERS, assert_identical, normal

pytest.importorskip("numba_cuda", reason="the extra `cuda` is not installed")

from devices import CuPy, Foreign, Interface, numba_cuda, to_device, to_host
from test_cuda_steps import bad, leaves, tree

import fastopt
from fastopt import schedules

NON_BLOCKING, GLOBAL = 1, 0
ONE = np.float32(1)


def do(name, *arguments):
    from fastopt._cuda import driver
    return driver.do(name, *arguments)


@pytest.fixture
def cupy(stand_in, monkeypatch):
    """What stands for CuPy, on a stream of its own that orders itself with no other."""
    import sys
    numba_cuda().current_context()
    monkeypatch.setitem(sys.modules, "cupy", CuPy)
    monkeypatch.setattr(CuPy.cuda, "current", new_stream())
    return CuPy


def new_stream():
    numba_cuda().current_context()
    return CuPy.cuda.Stream(int(do("cuStreamCreate", NON_BLOCKING)))


def given(seen):
    """Launches that were given to a stream; what ran meanwhile may be older."""
    return [w for w in seen.work if w.phase == "given" and w.kind == "launch"]


def foreign(tree):
    if isinstance(tree, dict):
        return {k: foreign(v) for k, v in tree.items()}
    return Foreign(numba_cuda().to_device(tree))


# Streams

def test_a_step_runs_on_the_current_stream_of_the_library(cupy, stand_in):
    p = normal(1, 5_000).astype(np.float32)
    on_device, g = foreign(p), foreign(ONE*p)
    opt = fastopt.Adam(on_device, lr=0.1)
    for _ in range(2):
        with stand_in.watch() as seen:
            opt.step(g, clip_norm=1.0)
        assert {w.stream for w in given(seen)} == {cupy.cuda.current.ptr}
        cupy.cuda.current = new_stream()


def late(array, value, stream):
    """Put a write into an array on a stream, from memory of the device: it runs when something forces it."""
    source = numba_cuda().to_device(np.full(array.size, value, np.float32))
    do("cuMemcpyDtoDAsync", array.device_ctypes_pointer.value, source.device_ctypes_pointer.value, array.size*4, stream)
    return source


@pytest.mark.parametrize("named", [True, False])
def test_gradients_of_another_stream_are_waited_for(named, cupy, stand_in):
    """With a stream in its interface (version 3) the step sees what is written there before it; without, nothing is promised."""
    maker = new_stream()
    memory = to_device(np.zeros(100, np.float32))
    g = Interface(memory, stream=maker.ptr) if named else Interface(memory, stream=None)
    p = foreign(np.zeros(100, np.float32))
    opt = fastopt.SGD(p, lr=1.0)
    opt.step(g)
    do("cuCtxSynchronize")
    keep = late(memory, 5, maker.ptr)
    with stand_in.watch() as seen:
        opt.step(g)
    assert (seen.waited, seen.read, seen.allocated) == ({}, {}, {})
    do("cuStreamSynchronize", cupy.cuda.current.ptr)
    assert stand_in.peek(p.data.ptr, 100).tolist() == ([-5.0]*100 if named else [0.0]*100)
    do("cuCtxSynchronize")
    del keep


def test_makers_may_overwrite_their_gradients_at_once(cupy, stand_in):
    """Their stream waits until the step has read them."""
    maker = new_stream()
    memory = to_device(np.full(100, 3, np.float32))
    p = foreign(np.zeros(100, np.float32))
    opt = fastopt.SGD(p, lr=1.0)
    do("cuCtxSynchronize")
    opt.step(Interface(memory, stream=maker.ptr))
    keep = late(memory, 99, maker.ptr)
    do("cuStreamSynchronize", maker.ptr)
    do("cuCtxSynchronize")
    assert stand_in.peek(p.data.ptr, 100).tolist() == [-3.0]*100
    del keep


def test_gradients_of_another_library_are_waited_for(cupy, stand_in):
    """Parameters of Numba, gradients of CuPy on its current stream."""
    p = to_device(np.zeros(64, np.float32))
    memory = to_device(np.zeros(64, np.float32))
    opt = fastopt.SGD(p, lr=1.0)
    do("cuCtxSynchronize")
    for k in (1, 2):
        keep = late(memory, k, cupy.cuda.current.ptr)
        opt.step(Foreign(memory))
        cupy.cuda.current = new_stream()
    assert to_host(p).tolist() == [-3.0]*64
    del keep


def test_steps_follow_each_other_across_streams(cupy, stand_in):
    """Whatever stream is current: each step sees the last one, whose stream may be gone."""
    p, g = foreign(np.zeros(200, np.float32)), foreign(np.ones(200, np.float32))
    opt = fastopt.Momentum(p, lr=1.0, momentum=0.5)
    for k in range(5):
        old, cupy.cuda.current = cupy.cuda.current, new_stream() if k % 2 else CuPy.cuda.Stream(0)
        opt.step(g)
        if old.ptr and k > 1:
            do("cuStreamDestroy", old.ptr)
    do("cuStreamSynchronize", cupy.cuda.current.ptr)
    v, want = 0.0, 0.0
    for _ in range(5):
        v = 0.5*v + 1
        want -= v
    assert stand_in.peek(p.data.ptr, 200).tolist() == [want]*200


def test_parameters_with_a_stream_of_their_own(stand_in):
    s = new_stream()
    memory = to_device(np.zeros(10, np.float32))
    opt = fastopt.SGD(Interface(memory, stream=s.ptr), lr=1.0)
    with stand_in.watch() as seen:
        opt.step(Interface(to_device(np.ones(10, np.float32)), stream=s.ptr))
    assert {w.stream for w in given(seen)} == {s.ptr}
    default = fastopt.SGD(Interface(memory, stream=1), lr=1.0)  # 1: the default stream
    with stand_in.watch() as seen:
        default.step(to_device(np.ones(10, np.float32)))
    assert {w.stream for w in given(seen)} == {0}


def test_parameters_with_streams_of_their_own_are_waited_for(stand_in):
    """Steps run on the stream of the first; what is written to the other, on its stream, comes before the next step or after it."""
    one, two = new_stream(), new_stream()
    a, b = (to_device(np.zeros(60, np.float32)) for _ in range(2))
    opt = fastopt.SGD([Interface(a, stream=one.ptr), Interface(b, stream=two.ptr)], lr=1.0)
    g = [to_device(np.ones(60, np.float32)) for _ in range(2)]
    opt.step(g)
    do("cuCtxSynchronize")
    keep = late(b, 7, two.ptr)
    opt.step(g)
    keep = keep, late(b, 100, two.ptr)
    do("cuStreamSynchronize", two.ptr)
    assert stand_in.peek(b.device_ctypes_pointer.value, 60).tolist() == [100.0]*60
    opt.step(g)
    do("cuStreamSynchronize", one.ptr)
    assert stand_in.peek(b.device_ctypes_pointer.value, 60).tolist() == [99.0]*60
    assert stand_in.peek(a.device_ctypes_pointer.value, 60).tolist() == [-3.0]*60
    del keep


def test_a_gradient_factor_of_another_stream_is_waited_for(cupy, stand_in):
    maker = new_stream()
    factor, p, g = to_device(np.ones(1, np.float32)), foreign(np.zeros(9, np.float32)), foreign(np.ones(9, np.float32))
    opt = fastopt.SGD(p, lr=1.0)
    opt.step(g)
    do("cuCtxSynchronize")
    keep = late(factor, 5, maker.ptr)
    opt.step(g, grad_factor=Interface(factor, stream=maker.ptr))
    do("cuStreamSynchronize", cupy.cuda.current.ptr)
    assert stand_in.peek(p.data.ptr, 9).tolist() == [-6.0]*9
    do("cuCtxSynchronize")
    del keep


@pytest.mark.parametrize("ahead", [False, True])
def test_parameters_of_another_library_are_waited_for(ahead, cupy, stand_in):
    """One on CuPy's stream, one on the default stream by its interface: steps and look-ahead points see what is written to both."""
    memory = to_device(np.zeros(50, np.float32))
    opt = fastopt.Nesterov([foreign(np.zeros(50, np.float32)), Interface(memory, stream=1)], lr=1.0)
    g = [foreign(np.ones(50, np.float32)), foreign(np.ones(50, np.float32))]
    opt.step(g)
    opt.lookahead()
    do("cuCtxSynchronize")
    keep = late(memory, 10, 0)
    if ahead:
        point = opt.lookahead()[1]
        do("cuStreamSynchronize", cupy.cuda.current.ptr)
        assert stand_in.peek(point.address, 50).tolist() == [np.float32(10) - np.float32(0.9)*np.float32(1)]*50
    else:
        opt.step(g)
        do("cuStreamSynchronize", cupy.cuda.current.ptr)
        v = np.float32(0.9) + np.float32(1)
        assert stand_in.peek(memory.device_ctypes_pointer.value, 50).tolist() == [np.float32(10) - v]*50
    do("cuCtxSynchronize")
    del keep


def in_thread(call):
    """What a function returns in another thread."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(call).result()


@pytest.mark.parametrize("interrupted", [False, True])
def test_every_thread_has_a_default_stream_of_its_own(interrupted, cupy, stand_in, monkeypatch):
    """All have the handle 2; a step in one thread comes after that of another, also where an interrupt came before its end was marked."""
    cupy.cuda.current = CuPy.cuda.Stream(2)
    p, g = foreign(np.ones(30, np.float32)), foreign(np.ones(30, np.float32))
    opt = fastopt.Momentum(p, lr=1.0, momentum=0.5)
    opt.step(g)
    do("cuCtxSynchronize")

    def broken(*_):
        raise KeyboardInterrupt
    for k in range(4):
        if k == 1 and interrupted:
            with monkeypatch.context() as patch:
                patch.setattr(opt._backend.streams, "finish", broken)
                with pytest.raises(KeyboardInterrupt):
                    in_thread(lambda: opt.step(g))
        else:
            in_thread(lambda: opt.step(g))
    opt.step(g)
    do("cuStreamSynchronize", 2)
    v, want = 0.0, 1.0
    for _ in range(6):
        v = 0.5*v + 1
        want -= v
    assert stand_in.peek(p.data.ptr, 30).tolist() == [want]*30


def test_a_stream_with_the_handle_of_one_that_is_gone(cupy, stand_in):
    p, g = foreign(np.zeros(30, np.float32)), foreign(np.ones(30, np.float32))
    opt = fastopt.SGD(p, lr=1.0)
    opt.step(g)
    stand_in.reuse_streams()
    for _ in range(3):
        old = cupy.cuda.current
        do("cuStreamDestroy", old.ptr)
        cupy.cuda.current = new_stream()
        assert cupy.cuda.current.ptr == old.ptr
        opt.step(g)
    do("cuStreamSynchronize", cupy.cuda.current.ptr)
    assert stand_in.peek(p.data.ptr, 30).tolist() == [-4.0]*30


# Captures

class Graph:
    """A capture of what is called within, on CuPy's current stream."""

    def __enter__(self):
        gc.collect()
        gc.disable()  # what other tests have left is not to be freed within the capture, which that would end
        numba_cuda().current_context().deallocations.clear()
        do("cuStreamBeginCapture", CuPy.cuda.current.ptr, mode(GLOBAL))
        return self

    def __exit__(self, kind, error, trace):
        gc.enable()
        if kind is not None:
            with contextlib.suppress(RuntimeError):  # an invalid capture ends with an error of its own
                do("cuStreamEndCapture", CuPy.cuda.current.ptr)
            return
        self.graph = do("cuStreamEndCapture", CuPy.cuda.current.ptr)
        self.ready = do("cuGraphInstantiate", self.graph, 0)

    def replay(self):
        do("cuGraphLaunch", self.ready, CuPy.cuda.current.ptr)


def mode(number):
    from cuda.bindings import driver
    return driver.CUstreamCaptureMode(number)


def write(tree, values):
    """New numbers in the same memory, when all that is enqueued is done."""
    do("cuCtxSynchronize")
    for a, x in zip(leaves(tree), leaves(values), strict=True):
        if x.size:
            a.array.copy_to_device(x)
    do("cuCtxSynchronize")


@pytest.mark.parametrize("name", ["adam", "nesterov", "radam"])
@pytest.mark.parametrize("how", [{}, {"clip_norm": 0.7}, {"clip_value": 0.2, "grad_factor": 0.5},
                                 {"clip_norm": 2.0, "skip_nonfinite": True}], ids=["plain", "norm", "value", "skip"])
def test_a_hundred_replays_are_a_hundred_steps(name, how, cupy):
    """Bit for bit, schedules and skipped steps included."""
    def make(p, **more):
        return OPTIMIZERS[name]([{"params": p["long"], "weight_decay": 0.1}, {"params": [p["W"], p["b"]], "lr": lambda t: 0.2/t}],
                                lr=schedules.one_cycle(0.1, steps=120), **more)

    def grouped(g):
        return [g["long"], [g["W"], g["b"]]]
    a, b = tree(0), foreign(tree(0))
    eager, captured = make(a), make(b, capturable=200)
    g = foreign(tree(1))
    with Graph() as graph:
        captured.step(grouped(g), **how)
    assert captured.t == 0
    for k in range(100):
        values = bad(tree(k % 7)) if k % 9 == 4 and "skip_nonfinite" in how else tree(k % 7)
        write(g, values)
        graph.replay()
        with np.errstate(all="ignore"):
            eager.step(grouped(values), **how)
    assert captured.t == eager.t == (89 if "skip_nonfinite" in how else 100)
    have, want = captured.state_dict(), eager.state_dict()
    for name in want["state"]:
        for x, y in zip(have["state"][name], want["state"][name], strict=True):
            assert_identical(x, y)
    for x, y in zip(leaves(to_host(b)), leaves(a), strict=True):
        assert_identical(x, y)
    assert captured.grad_norm == eager.grad_norm


def test_replays_and_steps_may_alternate(cupy):
    """A step outside takes gradients elsewhere; the next replay reads those of its capture again."""
    a, b = tree(0), foreign(tree(0))
    eager, captured = fastopt.Adam(a, lr=lambda t: 0.1/t), fastopt.Adam(b, lr=lambda t: 0.1/t, capturable=50)
    inside, values = foreign(tree(1)), tree(1)
    captured.step(inside)
    eager.step(values)
    with Graph() as graph:
        captured.step(inside)
    for k in range(6):
        graph.replay()
        eager.step(values)
        outside = tree(10 + k)
        captured.step(foreign(outside), clip_norm=1.0)
        eager.step(outside, clip_norm=1.0)
    assert captured.t == eager.t == 13
    for x, y in zip(leaves(to_host(b)), leaves(a), strict=True):
        assert_identical(x, y)


def test_hyperparameters_of_replays_are_changed_by_tabulate(cupy):
    a, b = tree(0), foreign(tree(0))
    eager, captured = fastopt.Adam(a, lr=0.1), fastopt.Adam(b, lr=0.1, capturable=8)
    g, values = foreign(tree(1)), tree(1)
    with Graph() as graph:
        captured.step(g)
    for k in range(4):
        for opt in (eager, captured):
            opt.groups[0]["lr"] = 0.1/(k + 1)
        captured.tabulate()
        for _ in range(6):
            graph.replay()
            eager.step(values)
    assert captured.t == 24
    for x, y in zip(leaves(to_host(b)), leaves(a), strict=True):
        assert_identical(x, y)


def test_replays_beyond_the_table_change_nothing_and_are_reported(cupy):
    a, b = tree(0), foreign(tree(0))
    eager, captured = fastopt.Adam(a, lr=0.1), fastopt.Adam(b, lr=0.1, capturable=3)
    g, values = foreign(tree(1)), tree(1)
    with Graph() as graph:
        captured.step(g)
    for k in range(5):
        graph.replay()
        if k < 3:
            eager.step(values)
    with pytest.warns(RuntimeWarning, match="2 replays went beyond step 3, the last one with coefficients, and changed nothing"):
        assert captured.t == 3
    for x, y in zip(leaves(to_host(b)), leaves(a), strict=True):
        assert_identical(x, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert captured.t == 3  # said once
        captured.tabulate()
        graph.replay()
        assert captured.t == 4


def test_steps_outside_make_new_tables(cupy):
    a, b = tree(0), foreign(tree(0))
    eager, captured = fastopt.Adam(a, lr=lambda t: 0.1/t), fastopt.Adam(b, lr=lambda t: 0.1/t, capturable=3)
    g, values = foreign(tree(1)), tree(1)
    for k in range(10):
        if k == 5:
            for opt in (eager, captured):
                opt.groups[0]["b1"] = 0.5
        captured.step(g)
        eager.step(values)
    assert captured.t == 10
    do("cuCtxSynchronize")
    for x, y in zip(leaves(to_host(b)), leaves(a), strict=True):
        assert_identical(x, y)


def assert_look_ahead_is_captured(**options):
    """A step at the look-ahead point, in one graph: its replays walk as steps without one do."""
    a, b = normal(1, 300).astype(np.float32), foreign(normal(1, 300).astype(np.float32))
    eager, captured = fastopt.Nesterov(a, lr=0.1, **options), fastopt.Nesterov(b, lr=0.1, capturable=20, **options)
    captured.lookahead()
    do("cuCtxSynchronize")
    with Graph() as graph:
        captured.step(captured.lookahead())
    for _ in range(10):
        graph.replay()
        eager.step(eager.lookahead())
    assert captured.t == 10
    assert_identical(to_host(b), a)


def test_look_ahead_in_a_capture(cupy):
    """The gradient of |w|^2/2 at the look-ahead point is that point: a whole training step in one graph."""
    assert_look_ahead_is_captured()


def test_a_factor_that_changes_between_replays(cupy):
    a, b = tree(0), foreign(tree(0))
    eager, captured = fastopt.Adam(a, lr=0.1), fastopt.Adam(b, lr=0.1, capturable=9)
    g, values, factor = foreign(tree(1)), tree(1), to_device(np.ones(1, np.float32))
    with Graph() as graph:
        captured.step(g, grad_factor=factor, clip_norm=1.0)
    for k in range(5):
        do("cuCtxSynchronize")
        factor.copy_to_device(np.full(1, 2.0**-k, np.float32))
        graph.replay()
        eager.step(values, grad_factor=2.0**-k, clip_norm=1.0)
    do("cuCtxSynchronize")
    for x, y in zip(leaves(to_host(b)), leaves(a), strict=True):
        assert_identical(x, y)


@pytest.mark.parametrize("how", ["t", "load_state_dict"])
def test_the_count_may_be_set_after_a_capture(how, cupy):
    """Warm up, capture, load the start, replay: graphs are not forgotten."""
    a, b = tree(0), foreign(tree(0))
    eager, captured = fastopt.SGD(a, lr=lambda t: 0.1*t), fastopt.SGD(b, lr=lambda t: 0.1*t, capturable=3)
    start = captured.state_dict()
    g, values = foreign(tree(1)), tree(1)
    with Graph() as graph:
        captured.step(g)
    if how == "t":
        captured.t = 0
    else:
        captured.load_state_dict(start)
    for k in range(6):
        if k == 3:
            captured.tabulate()
        graph.replay()
        eager.step(values)
        assert captured.state_dict()["t"] == captured.t == k + 1
    outside = tree(5)
    captured.step(foreign(outside))
    eager.step(outside)
    do("cuCtxSynchronize")
    for x, y in zip(leaves(to_host(b)), leaves(a), strict=True):
        assert_identical(x, y)


def test_misses_are_forgotten_when_the_count_is_set(cupy):
    p = foreign(tree(0))
    opt = fastopt.Adam(p, capturable=1)
    g = foreign(tree(1))
    with Graph() as graph:
        opt.step(g)
    for _ in range(3):
        graph.replay()
    opt.t = 0
    assert opt.t == 0


def test_the_norm_of_a_replay(cupy):
    p, g = foreign(tree(0)), foreign(tree(1))
    opt, host = fastopt.Adam(p, capturable=9), fastopt.Adam(tree(0))
    with Graph() as graph:
        opt.step(g, clip_norm=1.0)
    opt.step(g)
    assert opt.grad_norm is None
    graph.replay()
    host.step(tree(1), clip_norm=1.0)
    assert opt.grad_norm == host.grad_norm


def test_a_capture_with_a_norm_after_a_step_without(cupy):
    """Of gradients unlike the parameters: all that a capture may want is made with their tables."""
    p = foreign(tree(0))
    opt, host = fastopt.Adam(p, lr=0.1, capturable=9), fastopt.Adam(tree(0), lr=0.1)
    half = {k: v.astype(np.float16) for k, v in tree(1).items()}
    g = foreign(half)
    opt.step(g)
    opt.step(foreign(tree(2)))
    with Graph() as graph:
        opt.step(g, clip_norm=1.0)
    graph.replay()
    do("cuCtxSynchronize")
    for given, how in ((half, {}), (tree(2), {}), (half, {"clip_norm": 1.0})):
        host.step(given, **how)
    for x, y in zip(leaves(to_host(p)), leaves(host.params), strict=True):
        assert_identical(x, y)


def test_two_kinds_of_gradients_in_turn(cupy, stand_in):
    p = foreign(tree(0))
    opt = fastopt.Adam(p, lr=0.1)
    kinds = [foreign(tree(1)), foreign({k: v.astype(np.float16) for k, v in tree(2).items()})]
    for g in kinds:
        opt.step(g)
    with stand_in.watch() as seen:
        for k in range(6):
            opt.step(kinds[k % 2])
    assert (seen.waited, seen.read, seen.allocated) == ({}, {}, {})


def test_the_first_look_ahead_is_not_in_a_capture(cupy, stand_in):
    opt = fastopt.Nesterov(foreign(tree(0)), capturable=3)
    with pytest.raises(RuntimeError, match=r"lookahead: the stream is being captured.*Call it once before"), Graph():
        opt.lookahead()
    stand_in.forgive()


def test_what_a_capture_refuses(cupy, stand_in):
    p = foreign(tree(0))
    opt = fastopt.Adam(p, lr=0.1)
    g = foreign(tree(1))
    opt.step(g)
    with pytest.raises(RuntimeError, match="Make the optimizer with capturable=N"), Graph():
        opt.step(g)
    stand_in.forgive()
    captured = fastopt.Adam(p, lr=0.1, capturable=5)
    other = {k: v.astype(np.float16) for k, v in tree(1).items()}
    given = foreign(other)
    with pytest.raises(RuntimeError, match=r"were not stepped with before.*Take one step with such gradients first"), Graph():
        captured.step(given)
    stand_in.forgive()
    captured.step(given)
    with Graph() as graph:
        captured.step(given)
    graph.replay()
    assert captured.t == 2
    with pytest.raises(RuntimeError, match="tabulate: coefficients come from the host at every step"):
        opt.tabulate()
    with pytest.raises(RuntimeError, match="tabulate: it is for optimizers on a CUDA device"):
        fastopt.Adam(np.ones(3)).tabulate()
    with pytest.raises(ValueError, match="capturable=5, but the parameters are in this machine's memory"):
        fastopt.Adam(np.ones(3), capturable=5)
    for wrong in (0, -1, True, 2.5):
        with pytest.raises(ValueError, match="capturable is"):
            fastopt.Adam(p, capturable=wrong)


@pytest.mark.parametrize("which", ["gradient", "default stream", "parameter", "factor"])
def test_arrays_of_another_stream_are_refused_within_a_capture(which, cupy, stand_in):
    """Before anything is recorded: the capture goes on, and so does the optimizer."""
    other = new_stream()
    stream = 1 if which == "default stream" else other.ptr
    memory = [to_device(np.full(20, 1.0, np.float32)) for _ in range(4)]
    factor = Interface(to_device(np.ones(1, np.float32)), stream=stream)
    p = [Foreign(memory[0]), Interface(memory[1], stream=stream) if which == "parameter" else Foreign(memory[1])]
    g = [Foreign(memory[2]), Foreign(memory[3])]
    bad = [g[0], Interface(memory[3], stream=stream)] if which in ("gradient", "default stream") else g
    opt = fastopt.Momentum(p, lr=0.25, capturable=5)
    opt.step(bad)
    how = {"grad_factor": factor} if which == "factor" else {}
    with Graph() as graph:
        with stand_in.watch() as seen, pytest.raises(RuntimeError) as error:
            opt.step(bad, **how)
        if which != "parameter":
            opt.step(g)
    assert str(error.value) == ("step: the step's stream is being captured, but of two streams that wait for each other the same graph "
                                "must record both. Make gradients, parameters and factor on the captured stream, or step outside of the "
                                "capture.")
    assert (seen.launched(), seen.launched("captured"), [w for w in seen.work if w.kind in ("record", "wait")]) == ([], [], [])
    graph.replay()
    assert opt.t == (1 if which == "parameter" else 2)


@pytest.mark.parametrize("ahead", [False, True])
def test_a_step_is_not_pulled_into_a_capture(ahead, cupy, stand_in):
    """Of the stream on which its gradients, or another parameter, are made: it would be recorded and not run."""
    captured = new_stream()
    memory = to_device(np.ones(20, np.float32))
    p = [Foreign(to_device(np.ones(20, np.float32))), Interface(memory, stream=captured.ptr)]
    opt = fastopt.Nesterov(p, lr=0.5)
    g = [Foreign(to_device(np.ones(20, np.float32))) for _ in p]
    opt.step(g)
    opt.lookahead()
    before = opt.state_dict()["state"]["v"][0].tolist()
    do("cuStreamBeginCapture", captured.ptr, mode(GLOBAL))
    with stand_in.watch() as seen, pytest.raises(RuntimeError, match="step: a stream of gradients, parameters or grad_factor is being"):
        opt.lookahead() if ahead else opt.step(g)
    do("cuStreamEndCapture", captured.ptr)
    assert seen.launched() == seen.launched("captured") == []
    assert opt.t == 1
    assert opt.state_dict()["state"]["v"][0].tolist() == before
    opt.step(g)
    assert opt.t == 2


def test_steps_of_another_thread_do_not_end_a_capture(cupy, stand_in):
    """Those that ask for the end of what was handed over by DLPack, and make events for it."""
    from test_cuda_arrays import Packed
    p, mine = to_device(np.ones(20, np.float32)), foreign(np.ones(20, np.float32))
    opt, other = fastopt.SGD(mine, lr=0.5, capturable=3), fastopt.SGD(p, lr=0.25)
    g = foreign(np.ones(20, np.float32))
    for _ in range(2):
        other.step(Packed(to_device(np.ones(20, np.float32))))
    packed = [Packed(to_device(np.ones(20, np.float32))) for _ in range(3)]
    do("cuCtxSynchronize")

    def work():
        numba_cuda().current_context()
        for x in packed:
            other.step(x)
        return other.t
    with Graph() as graph:
        assert in_thread(work) == 5
        opt.step(g)
    graph.replay()
    assert opt.t == 1


def test_many_kinds_of_gradients_are_said_to_wait(cupy, stand_in):
    """Five in turn are made anew each time, which is said once; four are not."""
    p = foreign(np.zeros((4, 6), np.float32))
    x = np.ones((4, 6), np.float32)
    kinds = [Foreign(to_device(a)) for a in (x, x.astype(np.float16), x.astype(np.float64), np.asfortranarray(x),
                                             np.asfortranarray(x.astype(np.float16)))]
    opt = fastopt.SGD(p, lr=1.0)
    for k in (0, 1, 2, 3, 0, 1, 2, 3, 4):
        opt.step(kinds[k])
    with pytest.warns(RuntimeWarning, match=r"fastopt: gradients of more than 4 kinds .*the host waits for the device\. Give gradients of"):
        opt.step(kinds[0])
    for g in kinds:
        opt.step(g)
    assert opt.t == 15
    do("cuCtxSynchronize")
    assert to_host(p).tolist() == (-15*x).tolist()


@pytest.mark.parametrize("when", ["within", "after"])
def test_memory_that_moves_is_refused_where_a_graph_knows_it(when, cupy, stand_in):
    x = np.ones(9, np.float32)
    p, g = foreign(x), foreign(x)
    opt = fastopt.SGD(p, lr=0.25, capturable=5)
    opt.step(g)
    old, new = p.array, Foreign(to_device(x))

    def move():
        vars(p).update(vars(new))
        with stand_in.watch() as seen, pytest.raises(RuntimeError, match="params: its memory moved, but a graph that is captured writes"):
            opt.step(g)
        vars(p).update(vars(Foreign(old)))
        assert seen.launched() == seen.launched("captured") == []
    with Graph() as graph:
        if when == "within":
            move()
        opt.step(g)
    if when == "after":
        move()
    graph.replay()
    opt.step(g)
    assert opt.t == 3
    assert to_host(p).tolist() == [0.25]*9


def test_an_optimizer_may_go_within_a_capture(cupy, stand_in):
    """Its memory is freed, and the capture of another goes on."""
    p = foreign(tree(0))
    g = foreign(tree(1))
    own = foreign(tree(2))
    other, opt = fastopt.Adam(own, lr=0.1), fastopt.Adam(p, lr=0.1, capturable=5)
    other.step(g)
    gc.collect()  # Numba's own memory, which it would free within the capture
    numba_cuda().current_context().deallocations.clear()
    do("cuCtxSynchronize")
    with stand_in.watch() as seen, Graph() as graph:
        opt.step(g)
        del other
    assert seen.calls["cuMemFree"] > 5
    graph.replay()
    assert opt.t == 1


# Devices

@pytest.fixture
def second(stand_in):
    """Makes arrays on the second device."""
    cuda = numba_cuda()

    def make(x):
        with cuda.gpus[1]:
            return cuda.to_device(x)
    return make


def test_each_device_has_its_own(second, stand_in):
    """Two optimizers, stepped in turn whatever device is current, each launch on its own."""
    cuda = numba_cuda()
    values, g = normal(1, 3_000).astype(np.float32), normal(2, 3_000).astype(np.float32)
    host = fastopt.Adam(values.copy(), lr=0.1)
    one, two = to_device(values), second(values)
    first, other = fastopt.Adam(one, lr=0.1), fastopt.Adam(two, lr=0.1)
    assert "on CUDA device 1" in repr(other)
    here, there = to_device(g), second(g)
    for k in range(3):
        with stand_in.watch() as seen:
            first.step(here, clip_norm=1.0)
            if k == 1:
                with cuda.gpus[1]:
                    other.step(there, clip_norm=1.0)
                    first.step(here)
            else:
                other.step(there, clip_norm=1.0)
                first.step(here)
        assert [w.device for w in given(seen)][:3] == [0]*3
        assert {w.device for w in given(seen)} == {0, 1}
        host.step(g, clip_norm=1.0)
    assert other.t == 3
    with cuda.gpus[1]:
        assert_identical(two.copy_to_host(), host.params)
    assert int(do("cuCtxGetDevice")) == 0


def test_buffers_in_cupy_on_another_device_than_the_current_one(cupy, second, stand_in):
    """CuPy would copy them: what is written to a copy of opt.grads is lost."""
    cupy.cuda.current = cupy.cuda.Stream(0)
    p = Foreign(second(np.zeros(6, np.float32)), 1)
    opt = fastopt.SGD(p, lr=1.0)
    with numba_cuda().gpus[1]:
        opt.grads.array.copy_to_device(np.arange(6, dtype=np.float32))
        opt.step()
        assert p.array.copy_to_host().tolist() == [0, -1, -2, -3, -4, -5]


def test_arrays_of_two_devices(second, stand_in):
    one, two = to_device(np.ones(4, np.float32)), second(np.ones(4, np.float32))
    with pytest.raises(TypeError) as error:
        fastopt.Adam([one, two])
    assert str(error.value) == ("params[1]: on CUDA device 1, but params[0] is on CUDA device 0. Give the arrays of each an optimizer of "
                                "their own.")
    with pytest.raises(TypeError) as error:
        fastopt.Adam([one, np.ones(4, np.float32)])
    assert str(error.value).startswith("params[1]: in this machine's memory, but params[0] is on a CUDA device.")
    opt = fastopt.Adam(one)
    for wrong, found in ((two, "on CUDA device 1, but params is on CUDA device 0"), (one.copy_to_host(), "in this machine's memory, but")):
        with pytest.raises(TypeError) as error:
            opt.step(wrong)
        assert str(error.value).startswith(f"grads: {found}")
    g = to_device(np.ones(4, np.float32))
    opt.step(g)
    with pytest.raises(TypeError, match="grads: on CUDA device 1"):  # of a kind that is known
        opt.step(two)
    assert opt.t == 1
    opt.t = 0
    with pytest.raises(TypeError, match=r"grads: on a CUDA device, but params is in this machine's memory\. Copy the gradient"):
        fastopt.Adam(np.ones(4, np.float32)).step(one)
    assert opt.t == 0
