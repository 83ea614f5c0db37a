"""The stand-in for the CUDA driver: what waits, what is ordered, what is refused. It must not hide a fault of ours."""
import ctypes
import re
from pathlib import Path

import numpy as np
import pytest
from devices import in_thread, process
from ptx import PTXError
from ptx import driver as loader

N = 32
PLUS = """//
.version 8.0
.target sm_80
.address_size 64

.visible .entry plus(.param .u64 y, .param .u64 x, .param .f32 a)
{
	.reg .b32 %r<2>; .reg .f32 %f<4>; .reg .b64 %d<6>;
	ld.param.u64 %d1, [y]; ld.param.u64 %d2, [x]; ld.param.f32 %f1, [a];
	mov.u32 %r1, %tid.x; mul.wide.u32 %d3, %r1, 4; add.s64 %d4, %d2, %d3; add.s64 %d5, %d1, %d3;
	ld.global.f32 %f2, [%d4]; add.rn.f32 %f3, %f2, %f1; st.global.f32 [%d5], %f3; ret;
}
"""


def ask(name, *arguments):
    """The error of a call, as a number, and what it returns."""
    from cuda.bindings import driver
    error, *found = getattr(driver, name)(*arguments)
    return int(error), found[0] if len(found) == 1 else found


def do(name, *arguments):
    error, found = ask(name, *arguments)
    assert error == 0, f"{name}: {error}"
    return found


def refused(name, *arguments):
    return ask(name, *arguments)[0]


@pytest.fixture
def device(stand_in):
    """The stand-in, with the context of device 0 current, and the kernel `plus`."""
    do("cuInit", 0)
    do("cuCtxSetCurrent", do("cuDevicePrimaryCtxRetain", 0))
    stand_in.plus = function()
    yield stand_in
    stand_in.drain()
    do("cuCtxSetCurrent", None)
    do("cuDevicePrimaryCtxRelease", 0)


@pytest.fixture
def scene(device):
    """Memory that holds ones, twice memory that holds zeros, and two streams."""
    return new(1), new(0), new(0), stream(), stream()


def new(value):
    """Device memory that holds N times this value."""
    array = np.full(N, value, np.float32)
    address = int(do("cuMemAlloc", array.nbytes))
    do("cuMemcpyHtoD", address, array.ctypes.data, array.nbytes)
    return address


def read(address, count=N, dtype=np.float32):
    """Values in device memory, copied by the driver."""
    array = np.empty(count, dtype)
    do("cuMemcpyDtoH", array.ctypes.data, address, array.nbytes)
    return array


def peek(address):
    """The first value in device memory. Nothing runs because of this."""
    return float(loader.load(devices=2).peek(address, 1)[0])


def function(text=PLUS, name=b"plus"):
    return do("cuModuleGetFunction", do("cuModuleLoadData", text.encode() + b"\0"), name)


def launch(y, x, a=1., stream=0, block=N, shared=0, how=do, kernel=None):
    """y = x + a, in one block."""
    parameters = (y, x, a), (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_float)
    kernel = kernel or loader.load(devices=2).plus
    return how("cuLaunchKernel", kernel, 1, 1, 1, block, 1, 1, shared, stream, parameters, 0)


def stream(flags=1):
    return do("cuStreamCreate", flags)


def event_after(s):
    event = do("cuEventCreate", 0)
    do("cuEventRecord", event, s)
    return event


# What waits

def test_calls_and_work_are_counted(scene, device):
    x, y, *_ = scene
    with device.watch() as seen:
        launch(y, x, 2.)
    assert seen.calls == {"cuLaunchKernel": 1}
    assert (seen.launched(), seen.launched("done")) == (["plus"], [])
    assert seen.waited == seen.read == seen.allocated == {}
    with device.watch() as seen:
        assert (read(y) == 3).all()
    assert seen.waited == seen.read == {"cuMemcpyDtoH": 1}
    assert seen.work[1] == ("done", "launch", "plus", 0, (1, 1, 1), (N, 1, 1), 0, 0)
    assert [(w.phase, w.size) for w in seen.work if w.kind == "copy"] == [("given", 4*N), ("done", 4*N)]


@pytest.mark.parametrize("force", ["cuStreamSynchronize", "cuCtxSynchronize", "cuEventSynchronize", "cuMemFree"])
def test_nothing_runs_before_it_must(force, scene):
    x, y, other, s, _ = scene
    launch(y, x, 2., s)
    handle = {"S": [s], "C": [], "E": [event_after(s)], "M": [other]}[force[2]]
    assert peek(y) == 0
    do(force, *handle)
    assert peek(y) == 3


def parameters(y, x, a):
    """The words of a launch's parameters, which may be changed, and pointers to them."""
    words = np.array([y, x, np.float32(a).view(np.uint32)], np.uint64)
    return words, words.ctypes.data + 8*np.arange(3, dtype=np.uint64)


def test_parameters_are_copied_at_the_launch(scene, device):
    x, y, *_ = scene
    words, pointers = parameters(y, x, 2.)
    do("cuLaunchKernel", device.plus, 1, 1, 1, N, 1, 1, 0, 0, pointers.ctypes.data, 0)
    words[:] = 0
    assert (read(y) == 3).all()


def test_copies_on_the_device_and_memsets_do_not_wait(scene):
    (x, y, z, *_), host = scene, np.full(N, 7, np.float32)
    do("cuMemcpyHtoD", z, host.ctypes.data, 4*N)
    host[:] = 8                                    # what is pageable was copied at once
    assert (read(z) == 7).all()
    do("cuMemcpyDtoD", y, x, 4*N)
    do("cuMemsetD8", x, 0x40, 4*N)
    assert (peek(y), peek(x)) == (0, 1)
    assert (read(y) == 1).all()
    assert (read(x, dtype=np.uint32) == 0x40404040).all()
    do("cuMemsetD16", x, 0x1234, 2*N)
    assert (read(x, dtype=np.uint32) == 0x12341234).all()
    assert refused("cuMemsetD32", x + 2, 0, 1) == refused("cuMemcpyDtoD", y + 4, x, 4*N) == 1


# What is ordered

def test_streams_of_threads(scene):
    """The handle 2 is another stream in every thread, which the default stream orders."""
    x, y, z, *_ = scene

    def elsewhere():
        do("cuCtxSetCurrent", do("cuDevicePrimaryCtxRetain", 0))
        launch(y, x, stream=2)
        return int(do("cuStreamGetId", 2))
    assert in_thread(elsewhere) != int(do("cuStreamGetId", 2))
    launch(z, y, stream=2)
    do("cuStreamSynchronize", 2)
    assert peek(z) == 1
    launch(z, y)
    do("cuStreamSynchronize", 0)
    assert peek(z) == 3


def test_handles_may_come_back(scene, device):
    """The old stream does what it was given, and an event in it means it still."""
    x, y, z, old, _ = scene
    number = int(do("cuStreamGetId", old))
    launch(y, x, stream=old)
    event = event_after(old)
    do("cuStreamDestroy", old)
    device.reuse_streams()
    again = stream()
    assert (int(again), int(do("cuStreamGetId", again)) != number) == (int(old), True)
    launch(z, y, stream=again)
    do("cuStreamSynchronize", again)
    assert peek(z) == 1
    do("cuEventSynchronize", event)
    assert peek(y) == 2


@pytest.mark.parametrize("how", ["waits", "does not", "waits for an earlier record", "whole context"])
def test_a_missing_wait_shows(how, scene):
    """The second stream reads what the first writes: too early, unless it waits. Streams run in a wrong order."""
    x, y, z, first, second = scene
    if early := how == "waits for an earlier record":
        do("cuStreamWaitEvent", second, event := event_after(first), 0)
    launch(y, x, stream=first)                     # y = 2
    if early:
        do("cuEventRecord", event, first)
    else:
        event = event_after(first)
    if how == "waits":
        do("cuStreamWaitEvent", second, event, 0)
        do("cuEventDestroy", event)                # the driver keeps what it needs of it
    launch(z, y, stream=second)                    # z = 3, or 1 where y is still 0
    do(*(["cuCtxSynchronize"] if how == "whole context" else ["cuStreamSynchronize", second]))
    assert (read(z) == (3 if how == "waits" else 1)).all()
    assert peek(y) == (2 if how in ("waits", "whole context") else 0)  # `first` ran only if it had to
    if early:
        do("cuEventSynchronize", event)
        assert peek(y) == 2


@pytest.mark.parametrize("default_first", [True, False])
def test_the_default_stream_and_blocking_streams_wait_for_each_other(default_first, scene):
    for flags, default, value in ((0, 0, 3), (1, 0, 1), (0, 1, 3), (None, 0, 3), (None, 1, 3)):
        x, y, z = new(1), new(0), new(0)
        streams = [default, 2 if flags is None else stream(flags)]
        first, second = streams if default_first else streams[::-1]
        launch(y, x, stream=first)
        launch(z, y, stream=second)
        do("cuStreamSynchronize", second)
        assert peek(z) == value, (flags, default)


# Memory

def test_memory_is_aligned_dirty_and_out_of_the_reach_of_the_host(device):
    a, b = (int(do("cuMemAlloc", n)) for n in (1, 100))
    assert a % 256 == b % 256 == 0
    assert b - a > 256
    assert (device.peek(b, 100, np.uint8) == 0xCD).all()
    lines = Path("/proc/self/maps").read_text().splitlines()
    ranges = [re.match(r"(\w+)-(\w+) (\S+)", line).groups() for line in lines]
    assert [mode for low, high, mode in ranges if int(low, 16) <= a < int(high, 16)] == ["---p"]
    assert (device.block(b + 99).base, device.block(b).bytes.size, device.block(b + 100)) == (b, 100, None)


def test_attributes_of_pointers(device):
    from cuda.bindings.driver import CUpointer_attribute

    def device_of(address):
        error, found = ask("cuPointerGetAttribute", CUpointer_attribute.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, address)
        return -error or int(found)
    a, plain = int(do("cuMemAlloc", 100)), np.zeros(4).ctypes.data
    assert [device_of(x) for x in (a, a + 99, a + 100, plain)] == [0, 0, -1, -1]
    assert refused("cuMemFree", plain) == refused("cuMemFree", a + 1) == 1
    do("cuMemFree", a)
    assert (device_of(a), refused("cuMemFree", a), refused("cuMemcpyDtoH", plain, a, 8)) == (-1, 1, 1)


@pytest.mark.parametrize(("shift", "error", "message"), [(4, 700, "out of bounds"), (2, 716, "misaligned")])
def test_faults_stick(shift, error, message, scene, device):
    x, y, *_ = scene
    launch(y + shift, x)
    launch(x, x)
    assert [refused("cuCtxSynchronize"), launch(y, x, how=refused), refused("cuMemAlloc", 4)] == [error]*3
    assert peek(x) == 1                            # nothing ran after the fault
    with pytest.raises(PTXError, match=message):
        device.check()
    device.check()
    launch(y, x)
    assert (read(y) == 2).all()


def test_use_after_free_is_found(scene, device):
    x, y, *_ = scene
    launch(y, x)
    do("cuMemFree", x)                             # runs the launch first
    assert peek(y) == 2
    launch(y, x)
    assert refused("cuStreamSynchronize", 0) == 700
    with pytest.raises(PTXError, match="in no allocation"):
        device.check()


# Devices and contexts

def test_things_of_another_device(device):
    y, other = new(0), do("cuDevicePrimaryCtxRetain", 1)
    do("cuCtxPushCurrent", other)
    theirs, s, x = function(), stream(), new(1)
    event = do("cuEventCreate", 0)
    assert launch(x, x, how=refused) == 400
    do("cuCtxPopCurrent")
    assert launch(y, y, stream=s, how=refused) == launch(y, y, how=refused, kernel=theirs) == 400
    assert refused("cuEventRecord", event, 0) == 400
    do("cuMemcpyDtoDAsync", y, x, 4*N, s)          # copies may cross
    do("cuEventRecord", event, s)
    do("cuStreamWaitEvent", 0, event, 0)           # and so may waits
    assert (read(y) == 1).all()
    launch(y, x)
    assert refused("cuCtxSynchronize") == 700
    with pytest.raises(PTXError, match="is of device 1"):
        device.check()
    assert in_thread(lambda: (int(do("cuCtxGetCurrent")), launch(y, y, how=refused))) == (0, 201)  # each has its own


# Graphs

def mode(name="GLOBAL"):
    from cuda.bindings.driver import CUstreamCaptureMode
    return getattr(CUstreamCaptureMode, f"CU_STREAM_CAPTURE_MODE_{name}")


def begin(s, how=do):
    return how("cuStreamBeginCapture", s, mode())


def end(s):
    return refused("cuStreamEndCapture", s)


def status(s):
    return int(do("cuStreamIsCapturing", s))


def test_a_graph_repeats_what_was_captured(scene, device):
    x, y, _, s, _ = scene
    words, pointers = parameters(x, x, 2.)
    begin(s)
    with device.watch() as seen:
        do("cuLaunchKernel", device.plus, 1, 1, 1, N, 1, 1, 0, s, pointers.ctypes.data, 0)
        do("cuMemcpyDtoDAsync", y, x, 4*N, s)
        do("cuMemsetD32Async", x, 0, 1, s)
    words[:] = 0                                   # parameters were copied when the launch was captured
    assert (seen.launched(), seen.launched("captured")) == ([], ["plus"])
    state, number, graph, *_ = do("cuStreamGetCaptureInfo", s)
    assert (int(state), status(s), int(number) > 0) == (1, 1, True)
    captured = do("cuStreamEndCapture", s)
    assert int(captured) == int(graph)
    ready = do("cuGraphInstantiate", captured, 0)
    do("cuGraphDestroy", captured)
    do("cuStreamSynchronize", s)
    assert peek(x) == 1                            # nothing ran yet
    for k in (1, 2, 3):
        do("cuGraphLaunch", ready, s)
        do("cuStreamSynchronize", s)
        assert device.peek(y, N).tolist() == [2 if k > 1 else 3] + [1 + 2*k]*(N - 1)
    do("cuGraphExecDestroy", ready)
    assert refused("cuGraphLaunch", ready, s) == 1


def test_streams_fork_into_a_capture_and_join(scene):
    x, y, z, first, second = scene
    begin(first)
    launch(y, x, stream=first)
    do("cuStreamWaitEvent", second, event_after(first), 0)
    assert status(second) == 1
    launch(z, y, stream=second)
    do("cuStreamWaitEvent", first, event_after(second), 0)
    launch(y, z, stream=first)
    ready = do("cuGraphInstantiate", do("cuStreamEndCapture", first), 0)
    assert status(second) == 0
    do("cuGraphLaunch", ready, second)
    do("cuStreamSynchronize", second)
    assert [peek(at) for at in (x, y, z)] == [1, 4, 3]


@pytest.mark.parametrize(("steps", "error"),
                         [("fork work join", 0), ("fork join work join", 0), ("fork", 904), ("fork join work", 904),
                          ("fork early work late", 904)])
def test_forked_streams_must_join(steps, error, scene):
    x, _, _, first, second = scene
    events = []
    do_step = {"fork": lambda: do("cuStreamWaitEvent", second, event_after(first), 0),
               "join": lambda: do("cuStreamWaitEvent", first, event_after(second), 0),
               "work": lambda: launch(x, x, stream=second), "early": lambda: events.append(event_after(second)),
               "late": lambda: do("cuStreamWaitEvent", first, events.pop(), 0)}
    for _ in range(2):
        begin(first)
        for step in steps.split():
            do_step[step]()
        assert end(first) == error


def test_what_a_capture_forbids(scene):
    (x, _, _, s, other), host = scene, np.zeros(N, np.float32).ctypes.data
    event = event_after(other)
    calls = [("cuMemAlloc", 4), ("cuMemHostAlloc", 4, 0), ("cuMemFree", x), ("cuMemcpyDtoH", host, x, 4),
             ("cuMemcpyHtoD", x, host, 4), ("cuMemcpyDtoD", x, x + 4, 4), ("cuMemsetD8", x, 0, 4),
             ("cuCtxSynchronize",), ("cuStreamSynchronize", other), ("cuStreamQuery", other),
             ("cuEventSynchronize", event), ("cuEventQuery", event), ("cuStreamSynchronize", s)]
    for call in calls:
        begin(s)
        assert (refused(*call), status(s)) == (900, 2), call
        assert (refused("cuMemsetD8Async", x, 0, 4, s), end(s), status(s)) == (901, 901, 0), call


def test_other_threads_end_a_capture_too(scene):
    """But for what a thread does in the relaxed mode."""
    def elsewhere():
        do("cuCtxSetCurrent", do("cuDevicePrimaryCtxRetain", 0))
        found = refused("cuMemAlloc", 4)
        do("cuDevicePrimaryCtxRelease", 0)
        return found
    begin(scene[-1])
    assert (in_thread(elsewhere), end(scene[-1])) == (900, 901)
    begin(scene[-1])
    do("cuThreadExchangeStreamCaptureMode", mode("RELAXED"))
    do("cuMemAlloc", 4)
    do("cuThreadExchangeStreamCaptureMode", mode())
    assert (refused("cuMemAlloc", 4), end(scene[-1])) == (900, 901)


def test_the_default_stream_during_a_capture(scene):
    (x, _, _, free, _), blocking = scene, stream(0)
    assert begin(0, refused) == 900
    begin(blocking)
    assert begin(blocking, refused) == 401
    assert (launch(x, x, how=refused), end(blocking)) == (906, 901)
    begin(blocking)
    assert (refused("cuStreamIsCapturing", 0), end(blocking)) == (906, 0)
    begin(free)
    launch(x, x)                                   # it does not wait for this one
    do("cuStreamEndCapture", free)
    assert (read(x) == 2).all()


def test_events_do_not_cross_the_edge_of_a_capture(scene):
    *_, s, outside = scene
    before = event_after(outside)
    begin(s)
    assert (refused("cuStreamWaitEvent", s, before, 0), end(s)) == (905, 901)
    begin(s)
    within = event_after(s)
    assert (refused("cuEventQuery", within), end(s)) == (907, 901)
    begin(s)
    begin(outside)
    assert refused("cuStreamWaitEvent", outside, event_after(s), 0) == 902
    assert [end(s), end(outside), end(s)] == [901, 901, 401]
    assert refused("cuEventSynchronize", within) == refused("cuStreamWaitEvent", s, within, 0) == 907
    do("cuEventRecord", within, s)
    do("cuEventSynchronize", within)


@pytest.mark.usefixtures("stand_in")
def test_nvrtc_compiles_beside_it():
    """It asks the driver for a table that no other library knows, and takes no for an answer, but not silence."""
    assert process("""
        import devices
        from cuda.bindings import nvrtc
        devices.load()
        program = nvrtc.nvrtcCreateProgram(b"__global__ void walk() {}", b"kernel.cu", 0, [], [])[1]
        print(int(nvrtc.nvrtcCompileProgram(program, 0, [])[0]))
    """) == "0"
