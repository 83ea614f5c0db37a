"""Bad input on CUDA: a clear error before anything is enqueued, and nothing lost; what is missing is named. On the stand-in driver."""
import contextlib
import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import numpy as np
import pytest
from conftest import assert_identical, normal, storm

pytest.importorskip("numba_cuda", reason="the extra `cuda` is not installed")

from devices import Interface, numba_cuda, to_device, to_host
from test_cuda_steps import leaves, tree

import fastopt
from fastopt._cuda.driver import CudaError
from fastopt._tensors.device_array import DeviceArray


def numbers(n=6, dtype=np.float32):
    return to_device(np.arange(1, n + 1).astype(dtype))


def everything(opt, params):
    saved = opt.state_dict()
    return [*leaves(to_host(params)), *(a for state in saved["state"].values() for a in state)], (opt.t, saved["groups"])


# Gradients

def bad_gradients():
    whole = numbers(16)
    return {
        "shape": (numbers(5), ValueError, "grads[1]: shape (5,), but params[1] has (6,). Give a gradient of that shape."),
        "int": (numbers(dtype=np.int32), TypeError, "grads[1]: dtype int32, but one of float64, float32"),
        "host": (np.ones(6, np.float32), TypeError, "grads[1]: in this machine's memory, but params[1] is on a CUDA device. Copy"),
        "number": (1.0, ValueError, "grads[1]: shape (), but params[1] has (6,). Give a gradient of that shape."),
        "None": (None, TypeError, "grads[1]: a NoneType, but an array is needed"),
        "masked": (Interface(whole, mask=np.ones(16, bool)), TypeError, "grads[1]: a masked array"),
        "misaligned": (Interface(whole, data=(whole.device_ctypes_pointer.value + 2, False), shape=(6,), strides=None), ValueError,
                       "but CUDA needs a multiple of its 4-byte elements. Give a copy."),
        "foreign order": (Interface(whole, typestr=">f4", shape=(6,), strides=None), TypeError, "grads[1]: dtype >f4 in foreign byte"),
        "odd strides": (Interface(whole, shape=(6,), strides=(6,)), ValueError,
                        "grads[1]: strides (6,), but CUDA needs multiples of its 4-byte elements. Give a copy."),
        "nowhere": (Interface(whole, data=(0x1000, False), shape=(6,), strides=None), ValueError,
                    "the address 0x1000 is none of a CUDA device. The array was freed, or comes from before a fork. Make it anew."),
    }


@pytest.mark.parametrize("case", ["shape", "int", "host", "number", "None", "masked", "misaligned", "odd strides", "foreign order",
                                  "nowhere"])
@pytest.mark.parametrize("capturable", [None, 20])
def test_bad_gradients_change_nothing(case, capturable, stand_in):
    wrong, kind, message = bad_gradients()[case]
    params, twin = [numbers(), numbers()], [numbers(), numbers()]
    opt, other = fastopt.Adam(params, lr=0.1, capturable=capturable), fastopt.Adam(twin, lr=0.1)
    g = [numbers(), numbers()]
    opt.step(g)
    other.step(g)
    for how in ({}, {"clip_norm": 1.0, "skip_nonfinite": True}):
        with stand_in.watch() as seen, pytest.raises(kind) as error:
            opt.step([g[0], wrong], **how)
        assert message in str(error.value)
        assert seen.launched() == []
    opt.step(g)
    other.step(g)
    (have, facts), (want, wanted) = everything(opt, params), everything(other, twin)
    assert facts == wanted
    for x, y in zip(have, want, strict=True):
        assert_identical(x, y)


def test_gradients_that_overlap_what_is_written(stand_in):
    memory = to_device(np.arange(32, dtype=np.float32))
    p, q = memory[:8], memory[8:16]
    opt = fastopt.Adam([p, q], lr=0.1)
    for g in (memory[4:12], q, opt.state["m"][1]):
        with pytest.raises(ValueError, match=r"grads\[0\]: overlaps memory that the step writes"):
            opt.step([g, memory[16:24]])
    opt.step([p, q])  # each its own
    opt.step([memory[16:24], memory[24:]])
    with pytest.raises(ValueError, match="overlaps memory"):
        opt.step([memory[4:12], memory[24:]])  # of the kind that is known: its address alone is new
    assert opt.t == 2


@pytest.mark.parametrize(("how", "kind", "message"), [
    ({"clip_norm": 0.0}, ValueError, "step: clip_norm is 0.0"), ({"clip_value": -1}, ValueError, "step: clip_value is -1"),
    ({"grad_factor": np.nan}, ValueError, "step: grad_factor is nan"), ({"clip_norm": "1"}, TypeError, "step: clip_norm is '1'"),
    ({"grad_factor": None}, TypeError, "step: grad_factor is None")])
def test_bad_arguments(how, kind, message, stand_in):
    p = numbers()
    opt = fastopt.Adam(p)
    with stand_in.watch() as seen, pytest.raises(kind) as error:
        opt.step(numbers(), **how)
    assert str(error.value).startswith(message)
    assert seen.launched() == []
    assert (opt.t, to_host(p).tolist()) == (0, [1, 2, 3, 4, 5, 6])


def test_a_schedule_that_fails_changes_nothing(stand_in):
    """At its first step, at a later one, and while the count is uncertain."""
    def lr(t):
        if lr.broken:
            raise ZeroDivisionError
        return 0.1
    lr.broken = False
    params, twin = tree(0), tree(0)
    device = to_device(params)
    opt, other = fastopt.Adam(device, lr=lr), fastopt.Adam(twin, lr=0.1)
    g = to_device(tree(1))
    for k in range(4):
        lr.broken = True
        with stand_in.watch() as seen, pytest.raises(ZeroDivisionError):
            opt.step(to_device(tree(2)) if k % 2 else g, skip_nonfinite=True)
        assert seen.launched() == []
        lr.broken = False
        opt.step(g, skip_nonfinite=k != 2)
        other.step(tree(1))
    assert opt.t == 4
    for x, y in zip(leaves(to_host(device)), leaves(twin), strict=True):
        assert_identical(x, y)


# Parameters

def test_bad_parameters(stand_in):
    whole = numbers(16)
    cases = [
        (Interface(whole, data=(whole.device_ctypes_pointer.value, True)), ValueError, "params: read-only, but it is updated in place."),
        (whole[::2], ValueError, "params: strides (8,) for shape (8,) and 4-byte elements, but memory without gaps is needed."),
        (numbers(dtype=np.int64), TypeError, "params: dtype int64, but one of"),
        ([whole[:9], whole[8:]], ValueError, "params[1]: its memory overlaps that of params[0]"),
        (Interface(whole, data=(0x1000, False)), ValueError, "the address 0x1000 is none of a CUDA device."),
        (Interface(whole, data=(whole.device_ctypes_pointer.value + 1, False), shape=(3,)), ValueError, "but CUDA needs a multiple of"),
    ]
    for params, kind, message in cases:
        with pytest.raises(kind) as error:
            fastopt.Adam(params)
        assert message in str(error.value)


ABOUT = [{"typestr": "|V0"}, {"typestr": None}, {"typestr": "?!"}, {"shape": (-6,)}, {"shape": 6}, {"strides": ()}, {"strides": (4, 4)},
         {"data": None}, {"data": (-1, False)}, {"data": (2**64, False)}]


@pytest.mark.parametrize("entries", ABOUT, ids=str)
def test_broken_interfaces(entries, stand_in):
    whole = numbers()
    with pytest.raises(TypeError) as error:
        fastopt.Adam([whole, Interface(whole, **entries)])
    assert str(error.value).startswith("params[1]: its __cuda_array_interface__ is {")
    assert "that go together are needed" in str(error.value)


def test_empty_tensors_are_on_no_device(stand_in):
    empty = Interface(to_device(np.ones((0, 3), np.float32)), data=(None, False))
    opt = fastopt.Adam([empty, numbers()], lr=0.1)
    for _ in range(3):
        opt.step([empty, numbers()], clip_norm=1.0)
    assert opt.t == 3
    with numba_cuda().gpus[1]:
        other = numbers()
    with pytest.raises(TypeError, match=r"params\[2\]: on CUDA device 1, but params\[1\] is on CUDA device 0"):
        fastopt.Adam([empty, numbers(), other])


def test_own_device_arrays_are_checked(stand_in):
    whole = numbers()
    with pytest.raises(ValueError, match="CUDA needs a multiple of its 4-byte elements"):
        fastopt.Adam(DeviceArray(whole.device_ctypes_pointer.value + 2, [1], np.float32))


def test_a_refused_launch_while_the_count_is_uncertain(stand_in):
    """Later steps ask the device how far it is, and take rows that were sent."""
    p, g = to_device(np.zeros(4, np.float32)), to_device(np.ones(4, np.float32))
    opt = fastopt.SGD(p, lr=lambda t: 1/t)
    for _ in range(3):
        opt.step(g, skip_nonfinite=True)
    plan = list(next(iter(opt._backend.tables.values())).plans.values())[-1]
    handle, plan.rows[-1, 0] = int(plan.rows[-1, 0]), 12345
    with pytest.raises(CudaError, match="cuLaunchKernel: "):
        opt.step(g, skip_nonfinite=True)
    plan.rows[-1, 0] = handle
    opt.step(g, skip_nonfinite=True)
    assert opt.t == 5  # the device had counted the one that was refused
    assert to_host(p).tolist() == [-(np.float32(1) + np.float32(1/2) + np.float32(1/3) + np.float32(1/5))]*4
    opt.step(g)
    assert opt.t == 6


def test_the_count_may_be_read_while_another_thread_steps(stand_in):
    p, g = to_device(np.zeros(4, np.float32)), to_device(np.ones(4, np.float32))
    host = fastopt.SGD(np.zeros(4, np.float32), lr=lambda t: 1/t)
    opt = fastopt.SGD(p, lr=lambda t: 1/t)
    def step():
        opt.step(g, skip_nonfinite=True)
        host.step(np.ones(4, np.float32))
    for _ in range(5):
        step()
        reader = threading.Thread(target=lambda: (opt.t, opt.grad_norm, repr(opt)))
        reader.start()
        while reader.is_alive():
            step()
        for _ in range(5):
            step()
    assert opt.t == host.t
    assert_identical(to_host(p), host.params)


def test_a_thread_without_a_context(stand_in):
    p = Interface(numbers(), stream=2)
    opt = fastopt.SGD(p, lr=1.0)
    found = []
    def work():
        try:
            opt.step(p)
        except Exception as error:
            found.append(error)
    worker = threading.Thread(target=work)
    worker.start()
    worker.join()
    assert found == []
    assert opt.t == 1


def test_a_thread_without_a_context_keeps_none(stand_in):
    """Other libraries' next arrays there would lie on the optimizer's device."""
    from fastopt._cuda import driver
    with numba_cuda().gpus[1]:
        p, g = Interface(numbers(), stream=1), Interface(numbers(), stream=1)
    found = []

    def work():
        for use in (lambda: found.append(fastopt.Nesterov(p, lr=1.0)), lambda: found[0].step(g), lambda: found[0].step(g, clip_norm=1.0),
                    lambda: found[0].t, lambda: found[0].state_dict(), lambda: found[0].lookahead(), lambda: setattr(found[0], "t", 7)):
            use()
            found.append(int(driver.do("cuCtxGetCurrent")))
    worker = threading.Thread(target=work)
    worker.start()
    worker.join()
    assert found[1:] == [0]*7
    assert found[0].t == 7


def test_memory_of_another_context(stand_in, monkeypatch):
    """As PyCUDA makes one; launches are in the device's primary context."""
    from fastopt._cuda import driver
    p = numbers()
    monkeypatch.setattr(driver.gpu(0), "handle", 1)
    with pytest.raises(ValueError, match="belongs to a context of its own"):
        fastopt.Adam([p, p])


def test_bad_checkpoints_change_nothing(stand_in):
    p = numbers()
    opt = fastopt.Adam(p, lr=0.1)
    opt.step(numbers())
    saved = opt.state_dict()
    before, facts = everything(opt, p)
    for wrong in ({**saved, "t": -1}, {**saved, "state": {**saved["state"], "v": [np.ones(5, np.float32)]}},
                  {**saved, "state": {**saved["state"], "v": [np.ones(6)]}}, {**saved, "rule": "sgd"}):
        with pytest.raises(ValueError, match="load_state_dict"):
            opt.load_state_dict(wrong)
        after, same = everything(opt, p)
        assert same == facts
        for x, y in zip(after, before, strict=True):
            assert_identical(x, y)


def test_no_memory(stand_in):
    """The error names what to do, and all is as before: another try works."""
    p, g = numbers(1_000), numbers(1_000)
    stand_in.fail_allocations(1)
    with pytest.raises(CudaError, match=r"CUDA_ERROR_OUT_OF_MEMORY.*Free memory on the device"):
        fastopt.Adam(p)
    opt = fastopt.Adam(p, lr=0.1)
    for how in ({}, {"clip_norm": 1.0}):  # the tables of the first gradients; the sums of the first norm
        stand_in.fail_allocations(1)
        with pytest.raises(CudaError, match="OUT_OF_MEMORY"):
            opt.step(g, **how)
        opt.step(g, **how)
    assert opt.t == 2


def test_a_device_that_failed(stand_in):
    """Parameters freed before their step ran: the driver's error comes at the next call that asks, with a hint."""
    from fastopt._cuda import driver
    memory, g = driver.uploaded(driver.gpu(0), np.ones(100, np.float32)), numbers(100)
    opt = fastopt.Adam(DeviceArray(memory.address, (100,), np.float32), lr=0.1)
    opt.step(g)
    del memory
    opt.step(g)
    with pytest.raises(CudaError, match="keep parameters alive as long as their optimizer"):
        opt.state_dict()
    assert len(stand_in.errors) == 1
    stand_in.forgive()


def test_memory_is_given_back(stand_in):
    """When the optimizer goes, not when the garbage is collected."""
    def live():
        calls = stand_in.calls
        return calls["cuMemAlloc"] - calls["cuMemFree"]
    p, g = numbers(5_000), numbers(5_000)
    gc.collect()
    numba_cuda().current_context().deallocations.clear()
    before = live()
    opt = fastopt.Nesterov(p, lr=0.1)
    opt.step(g, clip_norm=1.0)
    opt.lookahead()
    assert live() > before + 5
    del opt
    assert live() == before


# Threads, signals, processes

def test_two_threads_step_one_optimizer(stand_in):
    p, g = numbers(2_000), numbers(2_000)
    host = fastopt.Adam(to_host(p), lr=0.1)
    opt = fastopt.Adam(p, lr=0.1)
    def work():
        for _ in range(20):
            opt.step(g)
    workers = [threading.Thread(target=work) for _ in range(3)]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    for _ in range(60):
        host.step(to_host(g))
    assert opt.t == 60
    assert_identical(to_host(p), host.params)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers")
def test_interrupts_come_before_a_step_or_after_it(stand_in):
    """Hundreds of signals at any point of step's Python: the count and the device agree with a CPU optimizer that took as many steps."""
    p, g = numbers(500), numbers(500)
    start, gradient = to_host(p), to_host(g)
    opt = fastopt.Adam(p, lr=0.1)
    opt.step(g)

    class Interrupted(Exception):
        pass

    def strike():
        raise Interrupted
    with storm(strike, Interrupted) as arm:
        for hits in range(60):
            with contextlib.suppress(Interrupted):
                arm(1e-5*(1 + hits % 17))
                while True:
                    opt.step(g)
            if hits % 20 == 0:
                stand_in.drain()
    host = fastopt.Adam(start, lr=0.1)
    for _ in range(opt.t):
        host.step(gradient)
    assert_identical(to_host(p), host.params)
    assert_identical(opt.state_dict()["state"]["v"][0], host.state["v"])


FAKE = '''
import numpy as np, fastopt, sys
class Fake:
    __cuda_array_interface__ = {"shape": (5,), "typestr": "<f4", "data": (4096, False), "version": 3}
def error():
    try:
        fastopt.Adam(Fake())
    except Exception as error:
        return f"{type(error).__name__}: {error}"
'''


@pytest.mark.parametrize("where", ["after the launches", "a launch is refused"])
def test_a_step_that_fails_or_is_interrupted_leaves_no_wrong_addresses(where, stand_in, monkeypatch):
    """The next step reads its own gradient, though the device has been told another's address."""
    from fastopt._cuda import driver
    p, g, other = (to_device(np.full(8, x, np.float32)) for x in (0, 1, 100))
    opt = fastopt.SGD(p, lr=1.0)
    opt.step(g)
    run = driver.Launches.run

    def broken(self, stream, skip=0, done=0, sure=0):
        if where == "a launch is refused":
            rows, self.rows = self.rows, self.rows[:-1]
            run(self, stream, skip)
            self.rows = rows
            raise CudaError("cuLaunchKernel: refused")
        run(self, stream, skip, done, sure)
        raise KeyboardInterrupt
    with monkeypatch.context() as patch:
        patch.setattr(driver.Launches, "run", broken)
        with pytest.raises((KeyboardInterrupt, CudaError)):
            opt.step(other)
    before = to_host(p)
    opt.step(g)
    assert (before - to_host(p)).tolist() == [1.0]*8


def test_kernels_of_two_processes_are_not_taken_for_each_other(tmp_path):
    """Compiled apart, kept on disk, loaded together: Numba's names for them are the same."""
    code = FAKE.split("class Fake")[0] + '''
from ptx import driver as loader
loader.load()
from fastopt._cuda import driver
driver.Gpu.form = "ptx"
from fastopt._tensors.device_array import DeviceArray
for name in sys.argv[1:]:
    p, host = np.linspace(1, 2, 50, dtype=np.float32), np.linspace(1, 2, 50, dtype=np.float32)
    memory, grad = (driver.uploaded(driver.gpu(0), p) for _ in range(2))
    array, g = (DeviceArray(m.address, (50,), np.float32, owner=m) for m in (memory, grad))
    opt, on_cpu = getattr(fastopt, name)(array, lr=0.1), getattr(fastopt, name)(host, lr=0.1)
    for _ in range(3):
        opt.step(g)
        on_cpu.step(p)
    print(np.array_equal(array.copy_to_host(), host))
'''
    assert process(code, "Lion", FASTOPT_CACHE=str(tmp_path)) == "True"
    assert process(code, "Adam", FASTOPT_CACHE=str(tmp_path)) == "True"
    assert process(code, "Momentum", "Lion", "Adam", FASTOPT_CACHE=str(tmp_path)).split() == ["True"]*3


def process(code, *arguments, **environment):
    """What a program prints, in a process of its own."""
    here = str(Path(__file__).parent)
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code), *arguments], capture_output=True, text=True, check=False, cwd=here,
                          env={**os.environ, "PYTHONPATH": os.pathsep.join([here, os.environ.get("PYTHONPATH", "")]), **environment})
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_without_a_driver():
    found = process(FAKE + 'print(error())')
    if "is none of a CUDA device" in found:
        pytest.skip("a driver is installed here")
    assert found.startswith("CudaError: CUDA arrays: no driver was found (")
    assert found.endswith("Install NVIDIA's driver, or give NumPy arrays.")


@pytest.mark.parametrize(("missing", "message"), [
    ("cuda", 'ImportError: CUDA arrays: cuda-bindings is not installed. Install the extra: pip install "fastopt[cuda]"')])
def test_without_the_extra(missing, message):
    assert process(f"import sys; sys.modules[{missing!r}] = None" + FAKE + "print(error())") == message


def test_without_a_device():
    loaded = "from ptx import driver; driver.load(devices=0)"
    assert "CUDA_ERROR_NO_DEVICE" in process(loaded + FAKE + "print(error())")


def test_a_driver_that_is_too_old():
    found = process("from ptx import driver; driver.load().speak(12080)" + FAKE + "print(error())")
    assert found == ("CudaError: CUDA arrays: the driver is of CUDA 12.8, but cuda-bindings is of CUDA 13. Update NVIDIA's driver "
                     "(nvidia-smi shows it): CUDA 13 needs 580 or newer.")


def test_nothing_of_cuda_is_imported_until_a_device_array_comes():
    code = "import numpy as np, fastopt, sys; fastopt.Adam(np.ones(3)).step(np.ones(3)); print({'cuda', 'numba.cuda'} & {*sys.modules})"
    assert process(code) == "set()"


def test_kernels_come_from_the_disk_without_numba_cuda(tmp_path):
    """A second process loads them: numba.cuda, 0.4 s of imports, is not needed then."""
    code = '''
        from ptx import driver as loader
        loader.load()
        from fastopt._cuda import driver
        driver.Gpu.form = "ptx"
        import sys, numpy as np, fastopt
        p = np.arange(1000, dtype=np.float32)
        from fastopt._tensors.device_array import DeviceArray
        gpu = driver.gpu(0)
        memory = driver.uploaded(gpu, p)
        a = DeviceArray(memory.address, (1000,), np.float32, owner=memory)
        opt = fastopt.Momentum(a, lr=0.1)
        opt.step(a, clip_norm=1.0)
        print(float(a.copy_to_host().sum()), "numba.cuda.compiler" in sys.modules)
    '''
    first, second = (process(code, FASTOPT_CACHE=str(tmp_path)).split() for _ in range(2))
    assert first[1:] == ["True"]
    assert second == [first[0], "False"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_forks():
    """CUDA does not survive a fork: the child gets an error that says so, its NumPy optimizers work, and the parent goes on."""
    found = process('''
        from ptx import driver as loader
        loader.load()
        from fastopt._cuda import driver
        driver.Gpu.form = "ptx"
        import os, numpy as np, fastopt
        from devices import to_device
        p = to_device(np.ones(10, np.float32))
        g = to_device(np.ones(10, np.float32))
        opt = fastopt.SGD(p, lr=0.5)
        opt.step(g)
        child = os.fork()
        if child == 0:
            try:
                opt.step(g)
            except RuntimeError as error:
                said = str(error)
            a = np.ones(3, np.float32)
            fastopt.SGD(a, lr=0.5).step(np.ones(3, np.float32))
            os._exit(0 if "CUDA does not survive a fork" in said and a.tolist() == [0.5]*3 else 1)
        status = os.waitpid(child, 0)[1]
        opt.step(g)
        print(os.waitstatus_to_exitcode(status), p.copy_to_host().tolist() == [0.0]*10)
    ''')
    assert found == "0 True"


def test_misuse_of_states_and_counts(stand_in):
    opt = fastopt.Adam(numbers(), lr=0.1)
    with pytest.raises(ValueError, match="t: found -1"):
        opt.t = -1
    with pytest.raises(ValueError, match="state format 'int8'"):
        fastopt.Adam(numbers(), state="int8")
    opt.groups[0]["lr"] = 0.2
    opt.step(numbers())
    assert opt.t == 1
    assert np.isfinite(normal(1, 3)).all()
