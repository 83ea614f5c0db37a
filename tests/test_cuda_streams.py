"""Streams, captures, several devices. On the stand-in driver work runs late and in a wrong order unless ordered."""
import copy
import gc
import warnings
from functools import partial

import numpy as np
import pytest
from conftest import assert_identical, normal

pytest.importorskip("numba_cuda", reason="the extra `cuda` is not installed")

from devices import (
    CuPy,
    Foreign,
    Interface,
    Packed,
    backend,
    do,
    foreign,
    given,
    in_thread,
    late,
    mapped,
    new_stream,
    numba_cuda,
    of,
    on_second,
    peek,
    quiet,
    to_device,
    to_host,
    wait,
)
from twins import Captured, Graph, Twins, adam, assert_same, bad, grouped, in_groups, tree

import fastopt

ONE = np.float32(1)
pytestmark = pytest.mark.usefixtures("cupy")


def cupy_of(value, n=6):
    return Foreign(of(value, n))


# Streams

def test_a_step_runs_on_the_current_stream_of_the_library(cupy, stand_in):
    p = normal(1, 5_000).astype(np.float32)
    g, opt = foreign(p), fastopt.Adam(foreign(p), lr=0.1)
    for _ in range(2):
        with stand_in.watch() as seen:
            opt.step(g, clip_norm=1.0)
        assert {w.stream for w in given(seen)} == {cupy.cuda.current.ptr}
        cupy.cuda.current = new_stream()


@pytest.mark.parametrize(("what", "want"),
                         [("gradient", -5), ("gradient without a stream", 0), ("gradient of CuPy", -5), ("factor", -5),
                          ("parameter", 4), ("look-ahead point", 5 - np.float32(0.9)*ONE)])
def test_what_another_stream_writes_is_waited_for(what, want, cupy, stand_in):
    """With a stream in its interface (version 3) the step sees what is written there before; else it need not."""
    maker = cupy.cuda.current if what == "gradient of CuPy" else new_stream()
    memory = of(0, 1 if what == "factor" else 6)
    named = Interface(memory, stream=None if what == "gradient without a stream" else maker.ptr)
    p = of(0) if what == "gradient of CuPy" else cupy_of(0)
    params = [p, named] if what in ("parameter", "look-ahead point") else [p]
    read = Foreign(memory) if what == "gradient of CuPy" else named
    grads = [read] if what.startswith("gradient") else [cupy_of(1) for _ in params]
    opt = (fastopt.Nesterov if what == "look-ahead point" else fastopt.SGD)(params, lr=1.0)

    def step():
        opt.step(grads, grad_factor=read if what == "factor" else 1.0)
    step()
    point = opt.lookahead()[1] if what == "look-ahead point" else params[-1]
    wait()
    late(memory, 5, maker.ptr)
    with stand_in.watch() as seen:
        opt.lookahead() if what == "look-ahead point" else step()
    assert quiet(seen)
    wait(0 if what == "gradient of CuPy" else cupy.cuda.current.ptr)
    assert peek(point).tolist() == [want]*6
    wait()


def test_makers_may_overwrite_their_gradients_at_once():
    """Their stream waits until the step has read them."""
    maker, memory, p = new_stream(), of(3), cupy_of(0)
    opt = fastopt.SGD(p, lr=1.0)
    wait()
    opt.step(Interface(memory, stream=maker.ptr))
    late(memory, 99, maker.ptr)
    wait(maker.ptr)
    wait()
    assert peek(p).tolist() == [-3.0]*6


@pytest.mark.parametrize("how", ["others", "gone", "a handle again"])
def test_steps_follow_each_other_across_streams(how, cupy, stand_in):
    """Whatever stream is current, each step sees the last one; its stream may be gone, or its handle used again."""
    twins = Twins(lambda p: fastopt.Momentum(p, lr=1.0, momentum=0.5), np.zeros(6, np.float32), foreign)
    g = np.ones(6, np.float32)
    twins.step(g)
    if how == "a handle again":
        stand_in.reuse_streams()
    for k in range(5):
        old = cupy.cuda.current
        if how == "a handle again":
            do("cuStreamDestroy", old.ptr)
        cupy.cuda.current = CuPy.cuda.Stream(0) if how != "a handle again" and k % 2 else new_stream()
        assert (cupy.cuda.current.ptr == old.ptr) == (how == "a handle again")
        twins.step(g, foreign(g))
        if how == "gone" and old.ptr and k > 1:
            do("cuStreamDestroy", old.ptr)
    wait(cupy.cuda.current.ptr)
    assert_identical(peek(twins.device), twins.host)


def test_parameters_with_a_stream_of_their_own(stand_in):
    s, memory = new_stream(), of(0)
    for stream, want in ((s.ptr, s.ptr), (1, 0)):  # 1: the default stream
        opt = fastopt.SGD(Interface(memory, stream=stream), lr=1.0)
        with stand_in.watch() as seen:
            opt.step(Interface(of(1), stream=stream))
        assert {w.stream for w in given(seen)} == {want}


def test_parameters_with_streams_of_their_own_are_waited_for():
    """Steps run on the stream of the first; what is written to the other, on its stream, comes before or after."""
    one, two, a, b = new_stream(), new_stream(), of(0), of(0)
    opt = fastopt.SGD([Interface(a, stream=one.ptr), Interface(b, stream=two.ptr)], lr=1.0)
    g = [of(1), of(1)]
    opt.step(g)
    wait()
    late(b, 7, two.ptr)
    opt.step(g)
    late(b, 100, two.ptr)
    wait(two.ptr)
    assert peek(b).tolist() == [100.0]*6
    opt.step(g)
    wait(one.ptr)
    assert (peek(a).tolist(), peek(b).tolist()) == ([-3.0]*6, [99.0]*6)


@pytest.mark.parametrize("interrupted", [False, True])
def test_every_thread_has_a_default_stream_of_its_own(interrupted, cupy, monkeypatch):
    """All have the handle 2; a step in one thread follows that of another, even after an interrupt before its end."""
    cupy.cuda.current = CuPy.cuda.Stream(2)
    twins = Twins(lambda p: fastopt.Momentum(p, lr=1.0, momentum=0.5), np.ones(30, np.float32), foreign)
    opt, g = twins.on_device, cupy_of(1, 30)

    def broken(*_):
        raise KeyboardInterrupt
    opt.step(g)
    wait()
    for k in range(4):
        if k == 1 and interrupted:
            with monkeypatch.context() as patch:
                patch.setattr(backend(opt).streams, "finish", broken)
                with pytest.raises(KeyboardInterrupt):
                    in_thread(lambda: opt.step(g))
        else:
            in_thread(lambda: opt.step(g))
    opt.step(g)
    wait(2)
    for _ in range(6):
        twins.step_host(np.ones(30, np.float32))
    assert_identical(peek(twins.device), twins.host)


# Captures

@pytest.mark.parametrize(("name", "how"), [
    ("radam", {"clip_norm": 0.7}), ("nesterov", {"clip_value": 0.2, "grad_factor": 0.5}), ("nadam", {}),
    ("adam", {"clip_norm": 2.0, "skip_nonfinite": True})])
def test_replays_are_steps(name, how):
    """Bit for bit, schedules and skipped steps included."""
    twins = Captured(partial(in_groups, name, 60), grads=grouped(tree(1)), capturable=80).capture(**how)
    assert twins.on_device.t == 0
    for k in range(20):
        skipped = k % 9 == 4 and "skip_nonfinite" in how
        twins.replay(grouped(bad(tree(k % 7)) if skipped else tree(k % 7)))
    assert twins.on_device.t == (18 if "skip_nonfinite" in how else 20)
    twins.same()


def test_replays_and_steps_may_alternate():
    """A step outside takes gradients elsewhere; the next replay reads those of its capture again. Its norm is known."""
    twins = Captured(lambda p, **more: fastopt.Adam(p, lr=lambda t: 0.1/t, **more))
    twins.step(twins.values, twins.g)
    twins.capture()
    for k in range(6):
        twins.replay()
        twins.step(tree(10 + k), clip_norm=1.0).same()
    assert twins.on_device.t == 13


def test_replays_with_modifiers():
    """They stay in the graph; the numbers that they have come from the table."""
    twins = Captured(lambda p, **more: fastopt.AdamW(p, cautious=True, cautious_decay=True, grokfast=(0.8, 1.5), lr=0.1,
                                                     update_clip=lambda t: 1/t, weight_decay=0.2, schedule_free=True,
                                                     **more),
                     capturable=8).capture()
    for k in range(5):
        twins.replay(tree(k))
    point = twins.on_device.evaluation_point()
    twins.same()
    assert_same(to_host(point), twins.on_host.evaluation_point())


def test_hyperparameters_of_replays_are_changed_by_tabulate():
    twins = Captured(adam, capturable=8).capture()
    for k in range(4):
        twins.set(lr=0.1/(k + 1))
        twins.on_device.tabulate()
        twins.replay(times=6)
    assert twins.same().on_device.t == 24


def test_replays_beyond_the_table_change_nothing_and_are_reported():
    twins = Captured(adam, capturable=3).capture()
    twins.replay(times=3).graph.replay(2)
    message = "2 replays went beyond step 3, the last one with coefficients, and changed nothing"
    for read in (lambda opt: opt.t, lambda opt: opt.state_dict()["t"]):
        with pytest.warns(RuntimeWarning, match=message) as said:
            assert read(twins.on_device) == 3
        assert [w.filename for w in said] == [__file__]
        twins.same().graph.replay(2)
    with pytest.warns(RuntimeWarning, match=message):
        twins.on_device.tabulate()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert twins.on_device.t == 3  # said once
        twins.on_device.tabulate()
        twins.graph.replay()
        assert twins.on_device.t == 4
        twins.graph.replay(5)
        twins.on_device.t = 0  # forgets it
        assert twins.on_device.t == 0


def test_steps_outside_make_new_tables():
    twins = Captured(lambda p, **more: fastopt.Adam(p, lr=lambda t: 0.1/t, **more), capturable=3)
    for k in range(10):
        if k == 5:
            twins.set(b1=0.5)
        twins.step(twins.values, twins.g)
    twins.same()


def test_a_factor_that_changes_between_replays():
    twins, factor = Captured(adam), to_device(np.ones(1, np.float32))
    with Graph() as graph:
        twins.on_device.step(twins.g, grad_factor=factor, clip_norm=1.0)
    for k in range(5):
        wait()
        factor.copy_to_device(np.full(1, 2.0**-k, np.float32))
        graph.replay()
        twins.step_host(twins.values, grad_factor=2.0**-k, clip_norm=1.0)
    twins.same()


@pytest.mark.parametrize("how", ["t", "load_state_dict"])
def test_the_count_may_be_set_after_a_capture(how):
    """Warm up, capture, load the start, replay: graphs are not forgotten."""
    twins = Captured(lambda p, **more: fastopt.SGD(p, lr=lambda t: 0.1*t, **more), capturable=3)
    opt, start = twins.on_device, twins.on_device.state_dict()
    twins.capture()
    if how == "t":
        opt.t = 0
    else:
        opt.load_state_dict(start)
    for k in range(6):
        if k == 3:
            opt.tabulate()
        twins.replay()
        assert opt.state_dict()["t"] == opt.t == k + 1
    twins.step(tree(5)).same()


def test_a_capture_with_a_norm_after_a_step_without():
    """Of gradients unlike the parameters: all for a capture is made with their tables. Steps outside have no norm."""
    half = {k: v.astype(np.float16) for k, v in tree(1).items()}
    twins = Captured(adam, grads=half, capturable=9)
    twins.step(half, twins.g).step(tree(2))
    assert twins.on_device.grad_norm is None
    twins.capture(clip_norm=1.0).replay().same()


def test_what_would_end_a_capture_is_refused_before_it_does(cupy, tmp_path):
    """What waits for the device or allocates memory, by its name. The capture goes on; afterwards all of it works."""
    twins, p = Captured(adam, capturable=9).step(tree(1), clip_norm=1.0), foreign(tree(0))
    opt, free, late = twins.on_device, fastopt.SGD(p, schedule_free=True, capturable=3), adam(p, capturable=5)
    other, pair, new = adam([cupy_of(1), cupy_of(2)]), [cupy_of(3), cupy_of(4)], cupy_of(5)
    saved, changed = opt.state_dict(), adam(p, capturable=5)
    shown = fastopt.Nesterov([Interface(of(1), stream=cupy.cuda.current.ptr)], capturable=3)  # its arrays are ours
    ahead, = shown.lookahead()
    shown.grads  # noqa: B018 (from now on they are there)
    with opt.snapshot(copy=True) as whole:
        changed.groups[0]["cautious"] = True
    late.step(p, measure=True)
    other.step(pair, skip_nonfinite=True)
    late.grads = foreign(mapped(lambda x: x.astype(np.float16), tree(1)))  # of a kind with which no step was taken
    refused = [
        ("t", lambda: opt.t), ("t", lambda: other.t), ("counts", lambda: opt.counts), ("repr", lambda: repr(opt)),
        ("repr", opt._repr_html_), ("snapshot", lambda: opt.snapshot().__enter__()),
        ("save", lambda: fastopt.files.save(tmp_path/"file", opt)), ("copy", lambda: copy.copy(opt)),
        ("grad_norm", lambda: opt.grad_norm), ("grad_norm", lambda: other.grad_norm),
        ("measures", lambda: late.measures), ("norm", lambda: opt.norm(twins.g)),
        ("norm", lambda: other.norm([None, pair[1]])), ("grads", lambda: opt.grads), ("tabulate", opt.tabulate),
        ("evaluation_point", free.evaluation_point), ("Adam", lambda: adam(p)), ("state_dict", opt.state_dict),
        ("decoded", lambda: opt.decoded("m")), ("t", lambda: setattr(opt, "t", 3)), ("step", late.step),
        ("load_state_dict", lambda: opt.load_state_dict(saved)), ("restore", lambda: opt.restore(whole)),
        ("step", lambda: changed.step(p)), ("step", lambda: other.step([None, pair[1]])),
        ("DeviceArray", lambda: np.asarray(shown.grads[0])), ("DeviceArray", shown.state["v"][0].copy_to_host),
        ("DeviceArray", lambda: np.asarray(ahead)), ("Adam group 0", lambda: adam([{"params": p}])),
        ("remove", lambda: other.remove("params[0]")), ("add", lambda: other.add(new))]
    twins.how = {"clip_norm": 1.0}
    with Graph() as twins.graph:
        opt.step(twins.g, **twins.how)
        for where, call in [*refused, ("copy", lambda: copy.deepcopy(opt))]:  # which takes arrays of no test's library
            with pytest.raises(RuntimeError, match=rf"^{where}: the stream is being captured, but .+\. [A-Z].+ "
                                                   r"(before (the capture|it) begins|first|graph)\b"):
                call()
    twins.replay(times=2).same()
    for _, call in refused:
        call()


def test_what_a_capture_refuses(stand_in):
    p, g, given = foreign(tree(0)), foreign(tree(1)), foreign(mapped(lambda x: x.astype(np.float16), tree(1)))
    opt, captured = fastopt.Adam(p, lr=0.1), fastopt.Adam(p, lr=0.1, capturable=5)
    ahead, other = fastopt.Nesterov(p, capturable=3), fastopt.Nesterov(p)
    other.lookahead()
    opt.step(g)
    for call, message in (
            (lambda: opt.step(g), r"Make the optimizer with capturable=N"),
            (ahead.lookahead, r"lookahead: the stream is being captured.*Call it once before"),
            (other.lookahead, r"lookahead: the stream is being captured.*Make the optimizer with capturable=N"),
            (lambda: captured.step(g, measure=True), r"needs memory.*Take one step with measure=True first"),
            (lambda: captured.step(g, clip="tensor", clip_norm=1.0), r'Take one step with clip="tensor" first'),
            (lambda: captured.step(given), r"were not stepped with before.*Take one step with such gradients first")):
        with pytest.raises(RuntimeError, match=message), Graph():
            call()
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
def test_arrays_of_another_stream_are_refused_within_a_capture(which, stand_in):
    """Before anything is recorded: the capture goes on, and so does the optimizer."""
    stream = 1 if which == "default stream" else new_stream().ptr
    p, g = [cupy_of(1, 20), cupy_of(1, 20)], [cupy_of(1, 20), cupy_of(1, 20)]
    if which == "parameter":
        p[1] = Interface(p[1].array, stream=stream)
    wrong = [g[0], Interface(g[1].array, stream=stream)] if which in ("gradient", "default stream") else g
    opt = fastopt.Momentum(p, lr=0.25, capturable=5)
    opt.step(wrong)
    how = {"grad_factor": Interface(of(1, 1), stream=stream)} if which == "factor" else {}
    with Graph() as graph:
        with stand_in.watch() as seen, pytest.raises(RuntimeError) as error:
            opt.step(wrong, **how)
        if which != "parameter":
            opt.step(g)
    assert str(error.value) == (
        "step: the optimizer's stream is being captured, but of two streams that wait for each other the same graph "
        "must record both. Make gradients, parameters and factor on the captured stream, or call step outside of the "
        "capture.")
    assert not seen.launched() + seen.launched("captured") + [w for w in seen.work if w.kind in ("record", "wait")]
    graph.replay()
    assert opt.t == (1 if which == "parameter" else 2)


@pytest.mark.parametrize("call", ["step", "lookahead", "norm", "state_dict"])
def test_a_step_is_not_pulled_into_a_capture(call, cupy, stand_in):
    """Of the stream on which its gradients, or another parameter, are made: it would be recorded and not run.

    What waits for the device would end the capture.
    """
    captured, current = new_stream(), cupy.cuda.current
    opt = fastopt.Nesterov([cupy_of(1), Interface(of(1), stream=captured.ptr)], lr=0.5)
    g = [cupy_of(1), cupy_of(1)]
    opt.step(g)
    opt.lookahead()
    before = opt.state_dict()["state"]["v"][0].tolist()
    cupy.cuda.current = captured
    graph = Graph()
    graph.__enter__()
    cupy.cuda.current = current
    pulled = f"{call}: a stream of gradients, parameters or grad_factor is being captured, .* or call {call} outside"
    waits = f"{call}: the stream is being captured, but for this the host waits"
    message = waits if call in ("norm", "state_dict") else pulled
    with stand_in.watch() as seen, pytest.raises(RuntimeError, match=f"^{message}"):
        getattr(opt, call)(*[g]*(call in ("step", "norm")))
    cupy.cuda.current = captured
    graph.__exit__(None, None, None)
    cupy.cuda.current = current
    assert seen.launched() == seen.launched("captured") == []
    assert (opt.t, opt.state_dict()["state"]["v"][0].tolist()) == (1, before)
    opt.step(g)
    assert opt.t == 2


def test_the_norm_of_gradients_of_a_captured_stream_is_refused(cupy):
    """Before the host waits for the device, which would end the capture."""
    captured, current = new_stream(), cupy.cuda.current
    opt, g = fastopt.SGD(cupy_of(1)), Interface(of(2), stream=captured.ptr)
    want = opt.norm(g)
    cupy.cuda.current = captured
    with Graph():
        cupy.cuda.current = current
        with pytest.raises(RuntimeError, match=r"^norm: a stream of gradients, parameters or grad_factor is being"):
            opt.norm(g)
        cupy.cuda.current = captured
    cupy.cuda.current = current
    assert opt.norm(g) == want == 24**0.5


def test_steps_of_another_thread_do_not_end_a_capture():
    """Those that ask for the end of what was handed over by DLPack, and make events for it."""
    opt, other = fastopt.SGD(cupy_of(1, 20), lr=0.5, capturable=3), fastopt.SGD(of(1, 20), lr=0.25)
    g, packed = cupy_of(1, 20), [Packed(of(1, 20)) for _ in range(5)]
    for x in packed[:2]:
        other.step(x)
    wait()

    def work():
        numba_cuda().current_context()
        for x in packed[2:]:
            other.step(x)
        return other.t
    with Graph() as graph:
        assert in_thread(work) == 5
        opt.step(g)
    graph.replay()
    assert opt.t == 1


def test_many_kinds_of_gradients_are_said_to_wait(stand_in):
    """Five in turn are made anew each time, which is said once; four are not, and wait for nothing."""
    p, x = foreign(np.zeros((4, 6), np.float32)), np.ones((4, 6), np.float32)
    kinds = [foreign(a) for a in (x, x.astype(np.float16), x.astype(np.float64), np.asfortranarray(x),
                                  np.asfortranarray(x.astype(np.float16)))]
    opt = fastopt.SGD(p, lr=1.0)
    for k in range(4):
        opt.step(kinds[k])
    with stand_in.watch() as seen:
        for k in range(4):
            opt.step(kinds[k])
    assert quiet(seen)
    opt.step(kinds[4])
    message = r"fastopt: gradients of more than 4 kinds .*the host waits for the device\. Give gradients of"
    with pytest.warns(RuntimeWarning, match=message) as said:
        opt.step(kinds[0])
    assert [w.filename for w in said] == [__file__]
    for g in kinds:
        opt.step(g)
    assert opt.t == 15
    wait()
    assert to_host(p).tolist() == (-15*x).tolist()


@pytest.mark.parametrize("when", ["within", "after"])
def test_memory_that_moves_is_refused_where_a_graph_knows_it(when, stand_in):
    p, g, new = cupy_of(1), cupy_of(1), cupy_of(1)
    opt = fastopt.SGD(p, lr=0.25, capturable=5)
    opt.step(g)
    old = vars(p).copy()

    def move():
        vars(p).update(vars(new))
        message = "params: its memory moved, but a graph that is captured writes"
        with stand_in.watch() as seen, pytest.raises(RuntimeError, match=message):
            opt.step(g)
        vars(p).update(old)
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
    assert to_host(p).tolist() == [0.25]*6


def test_an_optimizer_may_go_within_a_capture(stand_in):
    """Its memory is freed, and the capture of another goes on."""
    g, own = foreign(tree(1)), foreign(tree(2))
    other, opt = fastopt.Adam(own, lr=0.1), fastopt.Adam(foreign(tree(0)), lr=0.1, capturable=5)
    other.step(g)
    gc.collect()  # Numba's own memory, which it would free within the capture
    numba_cuda().current_context().deallocations.clear()
    wait()
    with stand_in.watch() as seen, Graph() as graph:
        opt.step(g)
        del other
    assert seen.calls["cuMemFree"] > 5
    graph.replay()
    assert opt.t == 1


# Devices

def second(x):
    """A copy on the second device."""
    with on_second():
        return to_device(x)


def test_each_device_has_its_own(stand_in):
    """Two optimizers, stepped in turn whatever device is current, each launch on its own."""
    values, g = normal(1, 3_000).astype(np.float32), normal(2, 3_000).astype(np.float32)
    host, two = fastopt.Adam(values.copy(), lr=0.1), second(values)
    first, other = fastopt.Adam(to_device(values), lr=0.1), fastopt.Adam(two, lr=0.1)
    assert "on CUDA device 1" in repr(other)
    here, there = to_device(g), second(g)
    for k in range(3):
        with stand_in.watch() as seen:
            first.step(here, clip_norm=1.0)
            with numba_cuda().gpus[k % 2]:
                other.step(there, clip_norm=1.0)
                first.step(here)
        assert [w.device for w in given(seen)][:3] == [0]*3
        assert {w.device for w in given(seen)} == {0, 1}
        host.step(g, clip_norm=1.0)
    assert other.t == 3
    with on_second():
        assert_same(to_host(two), host.params)
    assert int(do("cuCtxGetDevice")) == 0


def test_buffers_in_cupy_on_another_device_than_the_current_one(cupy):
    """CuPy would copy them: what is written to a copy of opt.grads is lost."""
    cupy.cuda.current = cupy.cuda.Stream(0)
    p = Foreign(second(np.zeros(6, np.float32)), 1)
    opt = fastopt.SGD(p, lr=1.0)
    with on_second():
        opt.grads.array.copy_to_device(np.arange(6, dtype=np.float32))
        opt.step()
        assert p.array.copy_to_host().tolist() == [0, -1, -2, -3, -4, -5]


def test_arrays_of_two_devices():
    one, two, host = of(1, 4), second(np.ones(4, np.float32)), np.ones(4, np.float32)
    opt, on_host = fastopt.Adam(one), fastopt.Adam(np.ones(4, np.float32))

    def refused(call, message):
        with pytest.raises(TypeError) as error:
            call()
        assert str(error.value).startswith(message)
    refused(lambda: fastopt.Adam([one, two]), "params[1]: on CUDA device 1, but params[0] is on CUDA device 0. Give "
                                              "the arrays of each an optimizer of their own.")
    refused(lambda: fastopt.Adam([one, host]),
            "params[1]: in this machine's memory, but params[0] is on a CUDA device.")
    refused(lambda: opt.step(two), "grads: on CUDA device 1, but params is on CUDA device 0")
    refused(lambda: opt.step(host), "grads: in this machine's memory, but")
    opt.step(of(1, 4))
    refused(lambda: opt.step(two), "grads: on CUDA device 1")  # of a kind that is known
    assert opt.t == 1
    refused(lambda: on_host.step(one),
            "grads: on a CUDA device, but params is in this machine's memory. Copy the gradient")
    assert on_host.t == 0
