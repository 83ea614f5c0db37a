"""The stand-in for the CUDA driver: what waits, what is ordered, what is refused, and that the libraries above it work on it."""
import ctypes
import re
import signal
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from ptx import PTXError
from ptx import driver as loader

N = 32
PLUS = """//
.version 8.0
.target sm_80
.address_size 64

.visible .entry plus(.param .u64 plus_y, .param .u64 plus_x, .param .f32 plus_a)
{
	.reg .b32 	%r<2>;
	.reg .f32 	%f<4>;
	.reg .b64 	%rd<6>;
	ld.param.u64 	%rd1, [plus_y];
	ld.param.u64 	%rd2, [plus_x];
	ld.param.f32 	%f1, [plus_a];
	mov.u32 	%r1, %tid.x;
	mul.wide.u32 	%rd3, %r1, 4;
	add.s64 	%rd4, %rd2, %rd3;
	add.s64 	%rd5, %rd1, %rd3;
	ld.global.f32 	%f2, [%rd4];
	add.rn.f32 	%f3, %f2, %f1;
	st.global.f32 	[%rd5], %f3;
	ret;
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
    """The stand-in, with the context of device 0 current."""
    do("cuInit", 0)
    do("cuCtxSetCurrent", do("cuDevicePrimaryCtxRetain", 0))
    yield stand_in
    stand_in.drain()
    do("cuCtxSetCurrent", None)
    do("cuDevicePrimaryCtxRelease", 0)


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


def function(text=PLUS, name=b"plus"):
    return do("cuModuleGetFunction", do("cuModuleLoadData", text.encode() + b"\0"), name)


def launch(kernel, y, x, a, stream=0, block=N, shared=0, how=do):
    """y = x + a, in one block."""
    parameters = (y, x, a), (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_float)
    return how("cuLaunchKernel", kernel, 1, 1, 1, block, 1, 1, shared, stream, parameters, 0)


def stream(flags=1):
    return do("cuStreamCreate", flags)


def event_after(s):
    event = do("cuEventCreate", 0)
    do("cuEventRecord", event, s)
    return event


def in_thread(call):
    """What a function returns in another thread."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(call).result()


# Loading, names, attributes

def test_there_is_one_for_all(stand_in):
    assert loader.load(devices=2) is stand_in
    with pytest.raises(ValueError, match="one driver"):
        loader.load(devices=1)
    do("cuInit", 0)
    count = ctypes.c_int()
    assert ctypes.CDLL("libcuda.so.1").cuDeviceGetCount(ctypes.byref(count)) == 0
    assert count.value == do("cuDeviceGetCount") == 2
    assert do("cuDriverGetVersion") == 13050


def test_it_may_come_after_numba_and_the_host_cannot_reach_its_memory(stand_in):
    program = """
import ctypes, sys
import numpy as np
from numba import cuda
assert not cuda.is_available()
sys.path.insert(0, sys.argv[1])
from ptx.driver import load
load(cc=(10, 0))
assert cuda.is_available() and cuda.get_current_device().compute_capability == (10, 0)
array = cuda.to_device(np.arange(4))
print(array.copy_to_host().sum(), flush=True)
ctypes.string_at(array.device_ctypes_pointer.value, 1)
"""
    done = subprocess.run([sys.executable, "-c", program, Path(__file__).parent], capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("6\n", -signal.SIGSEGV), done.stderr


def alone(program):
    """What a program prints that has the stand-in for itself."""
    begin = "import os, sys\nsys.path.insert(0, sys.argv[1])\nfrom ptx.driver import load\nit = load(devices=2)\n"
    program = begin + "from test_stand_in import *" + program
    done = subprocess.run([sys.executable, "-c", program, Path(__file__).parent], capture_output=True, text=True,
                          check=True)
    return done.stdout.strip()


def test_it_does_not_survive_a_fork(stand_in):
    """In a process of its own: other tests' threads would not survive it either."""
    assert alone("""
do("cuInit", 0)
do("cuCtxSetCurrent", do("cuDevicePrimaryCtxRetain", 0))
child = os.fork()
if not child:
    os._exit(refused("cuCtxSynchronize") + 10*refused("cuInit", 0) + 100*refused("cuGetErrorName", 3))
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
do("cuCtxSynchronize")
""") == "33"


def test_why_not(monkeypatch):
    monkeypatch.setattr(loader, "_loaded", None)
    with monkeypatch.context() as patch:
        patch.setattr(loader.shutil, "which", lambda name: None)
        assert "no C compiler" in loader.available()
        with pytest.raises(RuntimeError, match="no C compiler"):
            loader.load()
    with monkeypatch.context() as patch:
        patch.setattr(loader, "find_spec", lambda name: None)
        assert "cuda-bindings" in loader.available()


@pytest.mark.parametrize("name", ["cuMemAlloc", "cuMemAlloc_v2", "cuLaunchKernel", "cuLaunchKernel_ptsz",
                                  "cuStreamGetCaptureInfo",
                                  "cuStreamBeginCapture_v2", "cuGetProcAddress", "cuGetProcAddress_v2",
                                  "cuCtxGetDevice"])
def test_names(stand_in, name):
    address, _ = do("cuGetProcAddress", name.encode(), 13000, 0)
    exported = getattr(stand_in.library, name + "_v3" if name == "cuStreamGetCaptureInfo" else name)
    if name not in ("cuGetProcAddress", "cuCtxGetDevice"):  # later versions of these are other functions
        assert int(address) == ctypes.cast(exported, ctypes.c_void_p).value
    assert int(do("cuGetProcAddress", b"cuNoSuchThing", 13000, 0)[0]) == 0


def test_device(device):
    from cuda.bindings.driver import CUdevice_attribute as attribute
    values = {"MULTIPROCESSOR_COUNT": 132, "WARP_SIZE": 32, "COMPUTE_CAPABILITY_MAJOR": 9,
              "MAX_THREADS_PER_MULTIPROCESSOR": 2048}
    for name, value in values.items():
        assert do("cuDeviceGetAttribute", getattr(attribute, f"CU_DEVICE_ATTRIBUTE_{name}"), 1) == value
    assert refused("cuDeviceGet", 2) == 101
    assert do("cuGetErrorName", 700) == b"CUDA_ERROR_ILLEGAL_ADDRESS"


def test_function(device):
    from cuda.bindings.driver import CUfunction_attribute as attribute
    kernel = function()
    assert do("cuFuncGetAttribute", attribute.CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK, kernel) == 1024
    assert [do("cuFuncGetParamInfo", kernel, i) for i in range(3)] == [[0, 8], [8, 8], [16, 4]]
    assert [do("cuOccupancyMaxActiveBlocksPerMultiprocessor", kernel, n, 0) for n in (256, 1024, 32)] == [8, 2, 32]
    assert launch(kernel, 0, 0, 0., block=1025, how=refused) == 1
    assert launch(kernel, 0, 0, 0., shared=50_000, how=refused) == 1
    do("cuFuncSetAttribute", kernel, attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, 50_000)
    assert do("cuFuncGetAttribute", attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, kernel) == 50_000
    x = new(1)
    launch(kernel, x, x, 1., shared=50_000)
    assert (read(x) == 2).all()


def test_code_that_does_not_fit(device):
    assert refused("cuModuleLoadData", PLUS.replace("sm_80", "sm_100").encode() + b"\0") == 218
    assert refused("cuModuleLoadData", b"\x01\x02\x03\x04\0") == 200
    module = do("cuModuleLoadData", PLUS.encode() + b"\0")
    assert refused("cuModuleGetFunction", module, b"minus") == 500
    cubin = do("cuModuleLoadData", b"\x7fELF" + bytes(60))
    assert refused("cuModuleGetFunction", cubin, b"plus") == 500
    device.ptx["plus"] = PLUS
    do("cuModuleGetFunction", cubin, b"plus")
    del device.ptx["plus"]
    kernel = do("cuModuleGetFunction", module, b"plus")
    do("cuModuleUnload", module)
    assert refused("cuModuleGetFunction", module, b"plus") == launch(kernel, 0, 0, 0., how=refused) == 400


# What waits

def test_launch_is_counted(device):
    kernel, x, y = function(), new(1), new(0)
    with device.watch() as seen:
        launch(kernel, y, x, 2.)
    assert seen.calls == {"cuLaunchKernel": 1}
    assert (seen.launched(), seen.launched("done"), seen.waited, seen.read, seen.allocated) == (["plus"], [], {}, {},
                                                                                                {})
    with device.watch() as seen:
        assert (read(y) == 3).all()
    assert seen.waited == seen.read == {"cuMemcpyDtoH": 1}
    assert seen.work[1] == ("done", "launch", "plus", 0, (1, 1, 1), (N, 1, 1), 0, 0)
    assert [(w.phase, w.kind, w.size) for w in seen.work if w.kind == "copy"] == [("given", "copy", 4*N),
                                                                                  ("done", "copy", 4*N)]


FORCES = ["cuStreamSynchronize", "cuCtxSynchronize", "cuEventSynchronize", "cuMemFree", "cuStreamQuery", "cuEventQuery"]


@pytest.mark.parametrize("force", FORCES)
def test_nothing_runs_before_it_must(device, force):
    kernel, x, y, other, s = function(), new(1), new(0), new(0), stream()
    launch(kernel, y, x, 2., s)
    event = event_after(s)
    assert (device.peek(y, N) == 0).all()
    handle = {"S": [s], "C": [], "E": [event], "M": [other]}[force[2]]
    if force.endswith("Query"):  # such a loop ends: every question lets one piece of work run
        assert [refused(force, *handle) for _ in range(3)] == [600, 600, 0]
    else:
        do(force, *handle)
    assert (device.peek(y, N) == 3).all()


def test_parameters_are_copied_at_the_launch(device):
    kernel, x, y = function(), new(1), new(0)
    words = np.array([y, x, np.float32(2).view(np.uint32)], np.uint64)
    pointers = words.ctypes.data + 8*np.arange(3, dtype=np.uint64)
    do("cuLaunchKernel", kernel, 1, 1, 1, N, 1, 1, 0, 0, pointers.ctypes.data, 0)
    words[:] = 0
    assert (read(y) == 3).all()


def test_pageable_memory_is_copied_at_once_and_pinned_memory_later(device):
    s, pageable, x, y = stream(), np.ones(N, np.float32), new(0), new(0)
    pinned = int(do("cuMemHostAlloc", 4*N, 0))
    view = np.frombuffer((ctypes.c_float*N).from_address(pinned), np.float32)
    view[:] = 1
    do("cuMemcpyHtoDAsync", x, pageable.ctypes.data, 4*N, s)
    do("cuMemcpyHtoDAsync", y, pinned, 4*N, s)
    pageable[:] = view[:] = 2
    do("cuStreamSynchronize", s)
    assert (read(x) == 1).all()
    assert (read(y) == 2).all()
    do("cuMemsetD32Async", x, 0, N, s)
    do("cuMemcpyDtoHAsync", pinned, x, 4*N, s)
    assert (view == 2).all()
    do("cuMemcpyDtoHAsync", pageable.ctypes.data, x, 4*N, s)  # waits, as it has nowhere to put the data later
    assert (pageable == 0).all()
    assert (view == 0).all()
    do("cuMemFreeHost", pinned)


def test_copies_on_the_device_and_memsets_do_not_wait(device):
    x, y = new(1), new(0)
    do("cuMemcpyDtoD", y, x, 4*N)
    do("cuMemsetD8", x, 0x40, 4*N)
    assert (device.peek(y, N) == 0).all()
    assert (device.peek(x, N) == 1).all()
    assert (read(y) == 1).all()
    assert (read(x, dtype=np.uint32) == 0x40404040).all()
    do("cuMemsetD16", x, 0x1234, 2*N)
    assert (read(x, dtype=np.uint32) == 0x12341234).all()
    assert refused("cuMemsetD32", x + 2, 0, 1) == 1
    assert refused("cuMemcpyDtoD", y + 4, x, 4*N) == 1


# What is ordered

def test_streams_of_threads(device):
    """The handle 2 is another stream in every thread, which the default stream orders."""
    kernel, x, y, z = function(), new(1), new(0), new(0)

    def elsewhere():
        do("cuCtxSetCurrent", do("cuDevicePrimaryCtxRetain", 0))
        launch(kernel, y, x, 1., 2)
        return int(do("cuStreamGetId", 2))
    assert in_thread(elsewhere) != int(do("cuStreamGetId", 2))
    launch(kernel, z, y, 1., 2)
    do("cuStreamSynchronize", 2)
    assert (device.peek(z, N) == 1).all()
    launch(kernel, z, y, 1., 0)
    do("cuStreamSynchronize", 0)
    assert (device.peek(z, N) == 3).all()


def test_handles_may_come_back(device):
    """The old stream does what it was given, and an event in it means it still."""
    kernel, x, y, z, old = function(), new(1), new(0), new(0), stream()
    number = int(do("cuStreamGetId", old))
    launch(kernel, y, x, 1., old)
    event = event_after(old)
    do("cuStreamDestroy", old)
    device.reuse_streams()
    again = stream()
    assert (int(again), int(do("cuStreamGetId", again)) != number) == (int(old), True)
    launch(kernel, z, y, 1., again)
    do("cuStreamSynchronize", again)
    assert (device.peek(z, N) == 1).all()
    do("cuEventSynchronize", event)
    assert (device.peek(y, N) == 2).all()

@pytest.mark.parametrize(("waits", "value"), [(True, 3), (False, 1)])
def test_a_missing_wait_shows(device, waits, value):
    kernel, x, y, z, first, second = function(), new(1), new(0), new(0), stream(), stream()
    launch(kernel, y, x, 1., first)                # y = 2
    event = event_after(first)
    if waits:
        do("cuStreamWaitEvent", second, event, 0)
    do("cuEventDestroy", event)                    # the driver keeps what it needs of it
    launch(kernel, z, y, 1., second)               # z = 3, or 1 where y is still 0
    do("cuStreamSynchronize", second)
    assert (read(z) == value).all()
    assert (device.peek(y, N) == (2 if waits else 0)).all()  # `first` ran only if it had to


def test_the_context_runs_streams_the_wrong_way_round(device):
    kernel, x, y, z, first, second = function(), new(1), new(0), new(0), stream(), stream()
    launch(kernel, y, x, 1., first)
    launch(kernel, z, y, 1., second)
    do("cuCtxSynchronize")
    assert (read(z) == 1).all()


def test_an_event_means_its_last_record(device):
    kernel, x, y, z, first, second = function(), new(1), new(0), new(0), stream(), stream()
    event = event_after(first)
    do("cuStreamWaitEvent", second, event, 0)
    launch(kernel, y, x, 1., first)
    do("cuEventRecord", event, first)              # comes too late for `second`
    launch(kernel, z, y, 1., second)
    do("cuStreamSynchronize", second)
    assert (read(z) == 1).all()
    do("cuEventSynchronize", event)
    assert (read(y) == 2).all()


@pytest.mark.parametrize(("flags", "default", "value"), [(0, 0, 3), (1, 0, 1), (0, 1, 3), (None, 0, 3), (None, 1, 3)])
@pytest.mark.parametrize("default_first", [True, False])
def test_the_default_stream_and_blocking_streams_wait_for_each_other(device, flags, default, value, default_first):
    kernel, x, y, z = function(), new(1), new(0), new(0)
    streams = [default, 2 if flags is None else stream(flags)]
    first, second = streams if default_first else streams[::-1]
    launch(kernel, y, x, 1., first)
    launch(kernel, z, y, 1., second)
    do("cuStreamSynchronize", second)
    assert (device.peek(z, N) == value).all()


def test_time_between_events(device):
    s = stream()
    a, b = event_after(s), event_after(s)
    assert refused("cuEventElapsedTime", a, b) == 600
    do("cuEventSynchronize", b)
    assert 0 <= do("cuEventElapsedTime", a, b) < 1000
    assert refused("cuEventElapsedTime", a, do("cuEventCreate", 2)) == 400
    assert refused("cuEventSynchronize", 12345) == 400


def test_host_functions_run_in_order_and_may_drop_memory(device):
    seen, x, y, s = [], new(1), new(0), stream()
    call = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda _: seen.append((float(device.peek(y, 1)[0]),
                                                                          refused("cuMemFree", x))))
    do("cuMemcpyDtoDAsync", y, x, 4*N, s)
    do("cuLaunchHostFunc", s, ctypes.cast(call, ctypes.c_void_p).value, 0)
    do("cuMemsetD8Async", y, 0, 4*N, s)
    do("cuMemcpyDtoDAsync", y, x, 4, s)            # was given before x was freed
    assert seen == []
    do("cuStreamSynchronize", s)
    assert seen == [(1., 0)]
    assert read(y).tolist() == [1] + [0]*(N - 1)
    assert refused("cuMemFree", x) == 1


# Memory

def test_memory_is_aligned_dirty_and_out_of_the_host_s_reach(device):
    a, b = (int(do("cuMemAlloc", n)) for n in (1, 100))
    assert a % 256 == b % 256 == 0
    assert b - a > 256
    assert (device.peek(b, 100, np.uint8) == 0xCD).all()
    with open("/proc/self/maps") as file:
        ranges = [re.match(r"(\w+)-(\w+) (\S+)", line).groups() for line in file]
    assert [mode for low, high, mode in ranges if int(low, 16) <= a < int(high, 16)] == ["---p"]
    assert (device.block(b).base, device.block(b).bytes.size, device.block(b + 99).base, device.block(b + 100)) == (b,
                                                                                                                    100,
                                                                                                                    b,
                                                                                                                    None)


def test_attributes_of_pointers(device):
    from cuda.bindings.driver import CUpointer_attribute as names

    def attribute(name, address):
        return ask("cuPointerGetAttribute", getattr(names, f"CU_POINTER_ATTRIBUTE_{name}"), address)

    a, pinned, plain = int(do("cuMemAlloc", 100)), int(do("cuMemAllocHost", 64)), np.zeros(4)
    assert attribute("DEVICE_ORDINAL", a + 10) == (0, 0)
    assert [int(attribute("MEMORY_TYPE", x)[1]) for x in (a, pinned)] == [2, 1]
    assert int(attribute("CONTEXT", a)[1]) == int(do("cuCtxGetCurrent"))
    assert (int(attribute("RANGE_START_ADDR", a + 10)[1]), int(attribute("RANGE_SIZE", a + 10)[1])) == (a, 100)
    assert [int(x) for x in do("cuMemGetAddressRange", a + 10)] == [a, 100]
    assert attribute("DEVICE_ORDINAL", plain.ctypes.data)[0] == attribute("DEVICE_ORDINAL", a + 100)[0] == 1
    assert refused("cuMemFree", plain.ctypes.data) == refused("cuMemFree", a + 1) == refused("cuMemFreeHost", a) == 1
    do("cuMemFree", a)
    assert attribute("DEVICE_ORDINAL", a)[0] == refused("cuMemFree", a) == 1
    assert refused("cuMemcpyDtoH", plain.ctypes.data, a, 8) == refused("cuMemcpyHtoD", plain.ctypes.data, pinned,
                                                                       8) == 1


def test_out_of_memory(device):
    free, total = do("cuMemGetInfo")
    assert refused("cuMemAlloc", free + 1) == 2
    device.fail_allocations(2)
    assert [ask("cuMemAlloc", 64)[0] for _ in range(3)] == [2, 2, 0]
    assert do("cuMemGetInfo") == [free - 64, total]
    assert refused("cuMemAlloc", 0) == 1


@pytest.mark.parametrize(("shift", "error", "message"), [(4, 700, "out of bounds"), (2, 716, "misaligned")])
def test_faults_stick(device, shift, error, message):
    kernel, x, y = function(), new(1), new(0)
    launch(kernel, y + shift, x, 1.)
    launch(kernel, x, x, 1.)
    assert [refused("cuCtxSynchronize"), launch(kernel, y, x, 1., how=refused), refused("cuMemAlloc", 4)] == [error]*3
    assert (device.peek(x, N) == 1).all()              # nothing ran after the fault
    with pytest.raises(PTXError, match=message):
        device.check()
    device.check()
    launch(kernel, y, x, 1.)
    assert (read(y) == 2).all()


def test_use_after_free_is_found(device):
    kernel, x, y = function(), new(1), new(0)
    launch(kernel, y, x, 1.)
    do("cuMemFree", x)                             # runs the launch first
    assert (device.peek(y, N) == 2).all()
    launch(kernel, y, x, 1.)
    assert refused("cuStreamSynchronize", 0) == 700
    with pytest.raises(PTXError, match="in no allocation"):
        device.check()


def test_memory_that_is_freed_in_order(device):
    s, y = stream(0), new(0)
    x = int(do("cuMemAllocAsync", 4*N, s))
    do("cuMemsetD32Async", x, 1, N, s)
    do("cuMemcpyDtoDAsync", y, x, 4*N, s)
    do("cuMemFreeAsync", x, s)
    assert device.block(x).base == x
    assert (read(y, dtype=np.uint32) == 1).all()
    assert device.block(x) is None


# Devices and contexts

@pytest.fixture
def other(device):
    """The context of device 1, not current."""
    yield do("cuDevicePrimaryCtxRetain", 1)
    do("cuDevicePrimaryCtxRelease", 1)


def test_contexts(device, other):
    first = do("cuCtxGetCurrent")
    assert do("cuDevicePrimaryCtxGetState", 1) == [0, 1]
    do("cuCtxPushCurrent", other)
    assert int(do("cuCtxGetDevice")) == 1
    a = new(1)
    assert int(do("cuCtxPopCurrent")) == int(other)
    assert int(do("cuCtxGetDevice")) == 0
    assert (device.block(a).device, device.block(new(1)).device) == (1, 0)
    elsewhere = in_thread(lambda: (int(do("cuCtxGetCurrent")), refused("cuMemAlloc", 4),
                                   refused("cuStreamSynchronize", 0)))
    assert elsewhere == (0, 201, 201)              # each thread has contexts of its own
    do("cuCtxSetCurrent", None)
    assert refused("cuCtxPopCurrent") == refused("cuCtxGetDevice") == 201
    do("cuCtxSetCurrent", first)


def test_things_of_another_device(device, other):
    kernel, y = function(), new(0)
    do("cuCtxPushCurrent", other)
    theirs, s, x = function(), stream(), new(1)
    event = do("cuEventCreate", 0)
    assert launch(kernel, x, x, 1., how=refused) == 400
    do("cuCtxPopCurrent")
    assert launch(kernel, y, y, 1., s, how=refused) == launch(theirs, y, y, 1., how=refused) == refused("cuEventRecord",
                                                                                                        event, 0) == 400
    do("cuMemcpyDtoDAsync", y, x, 4*N, s)          # copies may cross
    do("cuEventRecord", event, s)
    do("cuStreamWaitEvent", 0, event, 0)           # and so may waits
    assert (read(y) == 1).all()
    launch(kernel, y, x, 1.)
    assert refused("cuCtxSynchronize") == 700
    with pytest.raises(PTXError, match="is of device 1"):
        device.check()
    do("cuCtxSetCurrent", None)
    assert launch(kernel, y, y, 1., how=refused) == 201


def test_a_released_context_is_empty(stand_in):
    """In a process of its own: fastopt keeps the contexts that it has used."""
    assert alone("""
do("cuInit", 0)
other = do("cuDevicePrimaryCtxRetain", 1)
do("cuCtxPushCurrent", other)
s, x = stream(), new(1)
do("cuCtxPopCurrent")
do("cuDevicePrimaryCtxRetain", 1)
do("cuDevicePrimaryCtxRelease", 1)
do("cuStreamSynchronize", s)
do("cuDevicePrimaryCtxRelease", 1)
print(do("cuDevicePrimaryCtxGetState", 1), it.block(x), refused("cuStreamSynchronize", s), refused("cuCtxPushCurrent", other))
""") == "[0, 0] None 400 201"


# Graphs

def mode(name):
    from cuda.bindings.driver import CUstreamCaptureMode
    return getattr(CUstreamCaptureMode, f"CU_STREAM_CAPTURE_MODE_{name}")


def begin(s, name="GLOBAL"):
    do("cuStreamBeginCapture", s, mode(name))


def status(s):
    return int(do("cuStreamIsCapturing", s))


def test_a_graph_repeats_what_was_captured(device):
    kernel, x, y, s = function(), new(1), new(5), stream()
    words = np.array([x, x, np.float32(2).view(np.uint32)], np.uint64)
    pointers = words.ctypes.data + 8*np.arange(3, dtype=np.uint64)
    begin(s)
    with device.watch() as seen:
        do("cuLaunchKernel", kernel, 1, 1, 1, N, 1, 1, 0, s, pointers.ctypes.data, 0)
        do("cuMemcpyDtoDAsync", y, x, 4*N, s)
        do("cuMemsetD32Async", x, 0, 1, s)
    words[:] = 0                                   # parameters were copied when the launch was captured
    assert (seen.launched(), seen.launched("captured")) == ([], ["plus"])
    state, number, graph, *_ = do("cuStreamGetCaptureInfo", s)
    assert (int(state), status(s)) == (1, 1)
    captured = do("cuStreamEndCapture", s)
    assert int(captured) == int(graph)
    assert int(number) > 0
    assert do("cuGraphGetNodes", captured, 0)[1] == 3
    ready = do("cuGraphInstantiate", captured, 0)
    do("cuGraphDestroy", captured)
    do("cuStreamSynchronize", s)
    assert (device.peek(x, N) == 1).all()          # nothing ran yet
    for k in (1, 2, 3):
        do("cuGraphLaunch", ready, s)
        do("cuStreamSynchronize", s)
        np.testing.assert_array_equal(device.peek(y, N), [2 if k > 1 else 3] + [1 + 2*k]*(N - 1))
    do("cuGraphExecDestroy", ready)
    assert refused("cuGraphLaunch", ready, s) == 1


def test_streams_fork_into_a_capture_and_join(device):
    kernel, x, y, z, first, second = function(), new(1), new(0), new(0), stream(), stream()
    begin(first)
    launch(kernel, y, x, 1., first)
    do("cuStreamWaitEvent", second, event_after(first), 0)
    assert status(second) == 1
    launch(kernel, z, y, 1., second)
    do("cuStreamWaitEvent", first, event_after(second), 0)
    launch(kernel, y, z, 1., first)
    ready = do("cuGraphInstantiate", do("cuStreamEndCapture", first), 0)
    assert status(second) == 0
    do("cuGraphLaunch", ready, second)
    do("cuStreamSynchronize", second)
    assert [float(device.peek(at, 1)[0]) for at in (x, y, z)] == [1, 4, 3]


@pytest.mark.parametrize(("steps", "error"), [
    ("", 0), ("fork join", 0), ("fork work join", 0), ("fork join work join", 0), ("fork", 904),
                                              ("fork join work", 904),
    ("fork join fork", 904), ("fork early work late", 904)])
def test_forked_streams_must_join(device, steps, error):
    kernel, x, first, second = function(), new(1), stream(), stream()
    events = []
    do_step = {"fork": lambda: do("cuStreamWaitEvent", second, event_after(first), 0),
               "join": lambda: do("cuStreamWaitEvent", first, event_after(second), 0),
               "work": lambda: launch(kernel, x, x, 1., second),
               "early": lambda: events.append(event_after(second)),
               "late": lambda: do("cuStreamWaitEvent", first, events.pop(), 0)}
    for _ in range(2):
        begin(first)
        for step in steps.split():
            do_step[step]()
        assert refused("cuStreamEndCapture", first) == error


def test_only_the_first_stream_ends_a_capture(device):
    first, second = stream(), stream()
    begin(first)
    do("cuStreamWaitEvent", second, event_after(first), 0)
    assert refused("cuStreamEndCapture", second) == 903
    assert refused("cuStreamDestroy", second) == 900
    assert refused("cuStreamEndCapture", first) == 901


FORBIDDEN = ["cuMemAlloc", "cuMemHostAlloc", "cuMemFree", "cuMemcpyDtoH", "cuMemcpyHtoD", "cuMemcpyDtoD", "cuMemsetD8",
             "cuCtxSynchronize",
             "cuStreamSynchronize", "cuStreamQuery", "cuEventSynchronize", "cuEventQuery", "the captured stream"]


@pytest.mark.parametrize("name", FORBIDDEN)
def test_what_a_capture_forbids(device, name):
    x, s, other, array = new(1), stream(), stream(), np.zeros(N, np.float32)
    host = array.ctypes.data
    arguments = {"cuMemAlloc": [4], "cuMemHostAlloc": [4, 0], "cuMemFree": [x], "cuMemcpyDtoH": [host, x, 4],
                 "cuMemcpyHtoD": [x, host, 4],
                 "cuMemcpyDtoD": [x, x + 4, 4], "cuMemsetD8": [x, 0, 4], "cuCtxSynchronize": [],
                 "the captured stream": [s]}
    event = event_after(other)
    call = [name if name[:2] == "cu" else "cuStreamSynchronize",
            *arguments.get(name, [event if "Event" in name else other])]
    for kind in ("GLOBAL", "THREAD_LOCAL"):
        begin(s, kind)
        assert refused(*call) == 900
        assert status(s) == 2
        assert refused("cuMemsetD8Async", x, 0, 4, s) == 901
        assert refused("cuStreamEndCapture", s) == 901
        assert status(s) == 0
    if name != "the captured stream":
        begin(s, "RELAXED")
        assert refused(*call) in (0, 600)
        do("cuStreamEndCapture", s)


def test_modes_of_threads(device):
    s = stream()

    def elsewhere():
        do("cuCtxSetCurrent", do("cuDevicePrimaryCtxRetain", 0))
        found = []
        for name in ("GLOBAL", "THREAD_LOCAL", "RELAXED"):
            do("cuThreadExchangeStreamCaptureMode", mode(name))
            found.append(refused("cuMemAlloc", 4))
        do("cuDevicePrimaryCtxRelease", 0)
        return [*found, refused("cuStreamEndCapture", s)]

    def run():
        return [*in_thread(elsewhere), refused("cuStreamEndCapture", s)]

    begin(s)
    assert run() == [900, 0, 0, 908, 901]
    begin(s, "THREAD_LOCAL")
    assert run() == [0, 0, 0, 908, 901]
    begin(s, "RELAXED")
    assert run() == [0, 0, 0, 0, 401]
    begin(s)
    assert int(do("cuThreadExchangeStreamCaptureMode", mode("RELAXED"))) == 0
    do("cuMemAlloc", 4)
    assert int(do("cuThreadExchangeStreamCaptureMode", mode("GLOBAL"))) == 2
    do("cuStreamEndCapture", s)


def test_the_default_stream_during_a_capture(device):
    kernel, x, blocking, free = function(), new(1), stream(0), stream(1)
    assert refused("cuStreamBeginCapture", 0, mode("GLOBAL")) == 900
    begin(blocking)
    assert refused("cuStreamBeginCapture", blocking, mode("GLOBAL")) == 401
    assert launch(kernel, x, x, 1., how=refused) == 906
    assert refused("cuStreamEndCapture", blocking) == 901
    begin(blocking)
    assert refused("cuStreamIsCapturing", 0) == 906
    do("cuStreamEndCapture", blocking)
    begin(free)
    launch(kernel, x, x, 1.)                       # it does not wait for this one
    do("cuStreamEndCapture", free)
    assert (read(x) == 2).all()


def test_events_do_not_cross_the_edge_of_a_capture(device):
    s, outside = stream(), stream()
    before = event_after(outside)
    begin(s)
    assert refused("cuStreamWaitEvent", s, before, 0) == 905
    assert refused("cuStreamEndCapture", s) == 901
    begin(s)
    within = event_after(s)
    assert refused("cuEventQuery", within) == 907
    assert refused("cuStreamEndCapture", s) == 901
    begin(s)
    begin(outside)
    assert refused("cuStreamWaitEvent", outside, event_after(s), 0) == 902
    assert [refused("cuStreamEndCapture", x) for x in (s, outside)] == [901, 901]
    assert refused("cuStreamEndCapture", s) == 401
    assert refused("cuEventSynchronize", within) == refused("cuStreamWaitEvent", s, within, 0) == 907
    do("cuEventRecord", within, s)
    do("cuEventSynchronize", within)


# Threads, and the libraries above

def test_launches_from_compiled_code_in_many_threads(device):
    from numba import njit
    kernel, x, streams = function(), new(0), [stream() for _ in range(4)]
    address, _ = do("cuGetProcAddress", b"cuLaunchKernel", 4000, 0)
    call = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, *[ctypes.c_uint]*7, *[ctypes.c_void_p]*3)(int(address))

    @njit(nogil=True)
    def many(kernel, stream, parameters, count):
        for _ in range(count):
            error = call(kernel, 1, 1, 1, 8, 1, 1, 0, stream, parameters, 0)
            if error:
                return error
        return 0

    def work(k):
        do("cuCtxSetCurrent", context)
        words = np.array([x + 32*k, x + 32*k, np.float32(k + 1).view(np.uint32)], np.uint64)
        pointers = words.ctypes.data + 8*np.arange(3, dtype=np.uint64)
        for _ in range(5):
            yield many(int(kernel), int(streams[k]), pointers.ctypes.data, 10)
            yield refused("cuStreamSynchronize", streams[k])

    context = do("cuCtxGetCurrent")
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda k: list(work(k)), range(4)))
    assert found == [[0]*10]*4
    np.testing.assert_array_equal(read(x), np.repeat([50, 100, 150, 200], 8))


def test_kernels_can_be_skipped(device):
    kernel, x = function(), new(1)
    device.skip_kernels()
    launch(kernel, x, x, 1.)
    assert (read(x) == 1).all()


def test_statistics(device):
    kernel, x = function(), new(1)
    device.options["stats"] = True
    launch(kernel, x, x, 1.)
    do("cuCtxSynchronize")
    (name, run), = device.runs
    assert (name, run.traffic["loaded_bytes"], run.traffic["stored_bytes"]) == ("plus", 4*N, 4*N)


def test_numba(stand_in, monkeypatch):
    pytest.importorskip("numba.cuda")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from numba import cuda
    from numba.cuda.core import config
    monkeypatch.setattr(config, "CUDA_LOW_OCCUPANCY_WARNINGS", 0)
    loader.record_numba_ptx()

    @cuda.jit
    def axpy(a, x, y):
        i = cuda.grid(1)
        if i < x.size:
            y[i] += a*x[i]

    assert cuda.is_available()
    assert cuda.get_current_device().compute_capability == (9, 0)
    x, y = np.arange(1000, dtype=np.float64), np.full(1000, 0.5)
    s = cuda.stream()
    on_device, out = cuda.to_device(x), cuda.to_device(y, stream=s)
    assert on_device.__cuda_array_interface__["shape"] == (1000,)
    axpy[8, 128, s](2., on_device, out)
    before, after = cuda.event(), cuda.event()
    before.record(s)
    axpy[8, 128, s](1., on_device, out)
    after.record(s)
    s.synchronize()
    assert before.elapsed_time(after) > 0
    np.testing.assert_array_equal(out.copy_to_host(), 3*x + 0.5)
    np.testing.assert_array_equal(out[10:20].copy_to_host(), 3*x[10:20] + 0.5)
    out[:] = 7
    assert (out.copy_to_host() == 7).all()
    cuda.pinned_array(10)
    stand_in.check()


def test_cuda_core(stand_in):
    core = pytest.importorskip("cuda.core")
    device = core.Device(0)
    device.set_current()
    assert (device.name, tuple(device.compute_capability)) == ("stand-in 0", (9, 0))
    s = device.create_stream()
    kernel = core.ObjectCode.from_ptx(PLUS.encode()).get_kernel("plus")
    buffer = device.allocate(4*N, stream=s)
    assert (stand_in.peek(int(buffer.handle), 4*N, np.uint8) == 0xCD).all()
    do("cuMemsetD32Async", int(buffer.handle), 0, N, s.handle)
    core.launch(s, core.LaunchConfig(grid=1, block=N), kernel, buffer, buffer, np.float32(1.5))
    event = s.record()
    assert not event.is_done
    s.sync()
    assert event.is_done
    assert (stand_in.peek(int(buffer.handle), N) == 1.5).all()
    builder = s.create_graph_builder()
    builder.begin_building()
    core.launch(builder, core.LaunchConfig(grid=1, block=N), kernel, buffer, buffer, np.float32(1))
    graph = builder.end_building().complete()
    for _ in range(3):
        graph.launch(s)
    s.sync()
    assert (stand_in.peek(int(buffer.handle), N) == 4.5).all()
    buffer.close()
    stand_in.check()
