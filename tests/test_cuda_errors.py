"""Bad input on CUDA: a clear error before anything is enqueued, and nothing lost; what is missing is named."""
import contextlib
import gc
import os
import signal
import threading

import numpy as np
import pytest
from conftest import storm

pytest.importorskip("numba_cuda", reason="the extra `cuda` is not installed")

from devices import (
    Interface,
    backend,
    driver,
    in_thread,
    numba_cuda,
    on_second,
    plain,
    pointer,
    process,
    to_device,
    to_host,
)
from twins import Twins, adam, assert_same, leaves, tree

import fastopt
from fastopt._cuda.driver import CudaError
from fastopt._tensors.device_array import DeviceArray

f32 = np.float32


def numbers(n=6, dtype=f32):
    return to_device(np.arange(1, n + 1).astype(dtype))


def everything(opt, params):
    saved = opt.state_dict()
    return [*leaves(to_host(params)), *leaves(saved["state"])], (opt.t, saved["groups"])


def at(array, address, **entries):
    """An array whose interface says that it lies at this address."""
    return Interface(array, data=(address, False), **entries)


# Gradients

def bad_gradients():
    whole = numbers(16)
    six = {"shape": (6,), "strides": None}
    return {
        "shape": (numbers(5), ValueError,
                  "grads[1]: shape (5,), but params[1] has (6,). Give a gradient of that shape."),
        "int": (numbers(dtype=np.int32), TypeError, "grads[1]: dtype int32, but one of float64, float32"),
        "host": (np.ones(6, f32), TypeError,
                 "grads[1]: in this machine's memory, but params[1] is on a CUDA device. Copy"),
        "number": (1.0, ValueError, "grads[1]: shape (), but params[1] has (6,). Give a gradient of that shape."),
        "masked": (Interface(whole, mask=np.ones(16, bool)), TypeError, "grads[1]: a masked array"),
        "misaligned": (at(whole, pointer(whole) + 2, **six), ValueError,
                       "but CUDA needs a multiple of its 4-byte elements. Give a copy."),
        "foreign order": (Interface(whole, typestr=">f4", **six), TypeError, "grads[1]: dtype >f4 in foreign byte"),
        "odd strides": (Interface(whole, shape=(6,), strides=(6,)), ValueError,
                        "grads[1]: strides (6,), but CUDA needs multiples of its 4-byte elements. Give a copy."),
        "nowhere": (at(whole, 0x1000, **six), ValueError, "the address 0x1000 is none of a CUDA device. The array was "
                                                          "freed, or comes from before a fork. Make it anew.")}


@pytest.mark.parametrize("capturable", [None, 20])
def test_bad_gradients_change_nothing(capturable, stand_in):
    params, twin = [numbers(), numbers()], [numbers(), numbers()]
    opt, other = fastopt.Adam(params, lr=0.1, capturable=capturable), fastopt.Adam(twin, lr=0.1)
    g = [numbers(), numbers()]
    for case, (wrong, kind, message) in bad_gradients().items():
        opt.step(g)
        other.step(g)
        for how in ({}, {"clip_norm": 1.0, "skip_nonfinite": True}):
            with stand_in.watch() as seen, pytest.raises(kind) as error:
                opt.step([g[0], wrong], **how)
            assert message in str(error.value), case
            assert seen.launched() == []
    opt.step(g)
    other.step(g)
    (have, facts), (want, wanted) = everything(opt, params), everything(other, twin)
    assert facts == wanted
    assert_same(have, want)


def test_only_the_address_is_new_and_it_is_wrong(stand_in):
    """Of gradients like those of the step before."""
    whole, six = numbers(16), {"shape": (6,), "strides": None}
    opt = fastopt.Adam(numbers(), lr=0.1)
    opt.step(at(whole, pointer(whole), **six))
    for address, message in ((pointer(whole) + 2, "a multiple of its 4-byte"), (0x1000, "is none of a CUDA device")):
        with pytest.raises(ValueError, match=message):
            opt.step(at(whole, address, **six))
    assert opt.t == 1


def test_gradients_that_overlap_what_is_written(stand_in):
    memory = to_device(np.arange(32, dtype=f32))
    p, q = memory[:8], memory[8:16]
    opt = fastopt.Adam([p, q], lr=0.1)
    for g in (memory[4:12], q, opt.state["m"][1]):
        with pytest.raises(ValueError, match=r"grads\[0\]: overlaps memory that the step writes"):
            opt.step([g, memory[16:24]])
    opt.step([p, q])  # each its own
    opt.step([memory[16:24], memory[24:]])
    with pytest.raises(ValueError, match="overlaps memory"):
        opt.step([memory[4:12], memory[24:]])  # of the kind that is known: its address alone is new
    opt.step([p, memory[24:]])
    with pytest.raises(ValueError, match=r"grads\[1\]: overlaps memory"):
        opt.step([memory[16:24], p])  # which the other tensor may have
    assert opt.t == 3


def test_a_schedule_that_fails_changes_nothing(stand_in):
    """At its first step, at a later one, and while the count is uncertain."""
    def lr(t):
        if lr.broken:
            raise ZeroDivisionError
        return 0.1
    lr.broken = False
    twins = Twins(lambda p: fastopt.Adam(p, lr=lr), tree(0))
    g = to_device(tree(1))
    for k in range(4):
        lr.broken = True
        with stand_in.watch() as seen, pytest.raises(ZeroDivisionError):
            twins.on_device.step(to_device(tree(2)) if k % 2 else g, skip_nonfinite=True)
        assert seen.launched() == []
        lr.broken = False
        twins.step(tree(1), g, skip_nonfinite=k != 2)
    twins.same()


# Parameters

def test_bad_parameters(stand_in):
    whole = numbers(16)
    here = pointer(whole)
    odd = "CUDA needs a multiple of its 4-byte elements"
    cases = [
        (Interface(whole, data=(here, True)), "params: read-only, but it is updated in place."),
        (whole[::2], "params: strides (8,) for shape (8,) and 4-byte elements, but memory without gaps is needed."),
        ([whole[:9], whole[8:]], "params[1]: its memory overlaps that of params[0]"),
        (at(whole, 0x1000), "the address 0x1000 is none of a CUDA device."), (at(whole, here + 1, shape=(3,)), odd),
        (lambda: DeviceArray(here + 2, [1], f32), odd), (numbers(dtype=np.int64), "params: dtype int64, but one of")]
    for params, message in cases:
        with pytest.raises(TypeError if "dtype" in message else ValueError) as error:
            fastopt.Adam(params() if callable(params) else params)
        assert message in str(error.value)
    for entries in ({"typestr": "|V0"}, {"typestr": None}, {"typestr": "?!"}, {"shape": (-6,)}, {"shape": 6},
                    {"strides": ()}, {"strides": (4, 4)}, {"data": None}, {"data": (-1, False)},
                    {"data": (2**64, False)}):
        with pytest.raises(TypeError) as error:
            fastopt.Adam([whole, Interface(whole, **entries)])
        assert str(error.value).startswith("params[1]: its __cuda_array_interface__ is {")
        assert "that go together are needed" in str(error.value)


def test_empty_tensors_are_on_no_device(stand_in):
    empty = Interface(to_device(np.ones((0, 3), f32)), data=(None, False))
    opt = fastopt.Adam([empty, numbers()], lr=0.1)
    for _ in range(3):
        opt.step([empty, numbers()], clip_norm=1.0)
    assert opt.t == 3
    with on_second():
        other = numbers()
    with pytest.raises(TypeError, match=r"params\[2\]: on CUDA device 1, but params\[1\] is on CUDA device 0"):
        fastopt.Adam([empty, numbers(), other])


def test_memory_of_another_context(stand_in, monkeypatch):
    """As PyCUDA makes one; launches are in the device's primary context."""
    p = numbers()
    monkeypatch.setattr(driver.gpu(0), "handle", 1)
    with pytest.raises(ValueError, match="belongs to a context of its own"):
        fastopt.Adam([p, p])


def test_bad_checkpoints_change_nothing(stand_in):
    p = numbers()
    opt = fastopt.Adam(p, lr=0.1)
    opt.step(numbers())
    saved, (before, facts) = opt.state_dict(), everything(opt, p)
    for wrong in ({"t": -1}, {"state": {**saved["state"], "v": [np.ones(5, f32)]}},
                  {"state": {**saved["state"], "v": [np.ones(6)]}}, {"rule": "sgd"}):
        with pytest.raises(ValueError, match="load_state_dict"):
            opt.load_state_dict({**saved, **wrong})
        after, same = everything(opt, p)
        assert same == facts
        assert_same(after, before)


# What the driver refuses

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
    own, g = plain(np.ones(100, f32)), numbers(100)
    opt = fastopt.Adam(DeviceArray(own.address, (100,), f32), lr=0.1)
    opt.step(g)
    del own
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
    p, g, empty = numbers(5_000), numbers(5_000), numbers(0)
    gc.collect()
    numba_cuda().current_context().deallocations.clear()
    before = live()
    opt = fastopt.Nesterov(p, lr=0.1, trust_ratio="update")
    opt.step(g, clip_norm=1.0, measure=True)
    opt.lookahead()
    assert live() > before + 5
    del opt
    assert live() == before
    for how in ({}, {"skip_nonfinite": True, "norm": np.inf}):
        opt = fastopt.SGD([p, empty])
        opt.step([g, None], measure=True, **how)
        assert live() > before
        del opt
        assert live() == before


def test_a_refused_launch_while_the_count_is_uncertain(stand_in):
    """Later steps ask the device how far it is, and take rows that were sent."""
    p, g = to_device(np.zeros(4, f32)), to_device(np.ones(4, f32))
    opt = fastopt.SGD(p, lr=lambda t: 1/t)
    for _ in range(3):
        opt.step(g, skip_nonfinite=True)
    plan = list(next(iter(backend(opt).tables.values())).plans.values())[-1]
    handle, plan.rows[-1, 0] = int(plan.rows[-1, 0]), 12345
    with pytest.raises(CudaError, match="cuLaunchKernel: "):
        opt.step(g, skip_nonfinite=True)
    plan.rows[-1, 0] = handle
    opt.step(g, skip_nonfinite=True)
    assert opt.t == 5  # the device had counted the one that was refused
    assert to_host(p).tolist() == [-(f32(1) + f32(1/2) + f32(1/3) + f32(1/5))]*4
    opt.step(g)
    assert opt.t == 6


@pytest.mark.parametrize("where", ["after the launches", "a launch is refused"])
def test_a_step_that_fails_or_is_interrupted_leaves_no_wrong_addresses(where, stand_in, monkeypatch):
    """The next step reads its own gradient, though the device has been told another's address."""
    p, g, other = (to_device(np.full(8, x, f32)) for x in (0, 1, 100))
    opt = fastopt.SGD(p, lr=1.0)
    opt.step(g)
    run = driver.Launches.run

    def broken(self, stream, *how):
        if where == "a launch is refused":
            rows, self.rows = self.rows, self.rows[:-1]
            run(self, stream, *how[:1])
            self.rows = rows
            raise CudaError("cuLaunchKernel: refused")
        run(self, stream, *how)
        raise KeyboardInterrupt
    with monkeypatch.context() as patch:
        patch.setattr(driver.Launches, "run", broken)
        with pytest.raises((KeyboardInterrupt, CudaError)):
            opt.step(other)
    before = to_host(p)
    opt.step(g)
    assert (before - to_host(p)).tolist() == [1.0]*8


# Threads and signals

def test_the_count_may_be_read_while_another_thread_steps(stand_in):
    twins, g = Twins(lambda p: fastopt.SGD(p, lr=lambda t: 1/t), np.zeros(4, f32)), np.ones(4, f32)
    given, opt = to_device(g), twins.on_device

    def step():
        twins.step(g, given, skip_nonfinite=True)
    for _ in range(3):
        step()
        reader = threading.Thread(target=lambda: (opt.t, opt.grad_norm, repr(opt)))
        reader.start()
        for _ in range(8):
            step()
        reader.join()
        step()
    twins.same()


def test_two_threads_step_one_optimizer(stand_in):
    twins, g = Twins(adam, np.arange(300, dtype=f32)), np.arange(300, dtype=f32)
    given = to_device(g)

    def work():
        for _ in range(7):
            twins.on_device.step(given)
    workers = [threading.Thread(target=work) for _ in range(3)]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    for _ in range(21):
        twins.step_host(g)
    twins.same()


def test_a_thread_without_a_context_keeps_none(stand_in):
    """Its steps work, but other libraries' next arrays there would lie on the optimizer's device."""
    own = Interface(numbers(), stream=2)
    opt = fastopt.SGD(own, lr=1.0)
    in_thread(lambda: opt.step(own))
    assert opt.t == 1
    with on_second():
        p, g = Interface(numbers(), stream=1), Interface(numbers(), stream=1)
    made = []

    def work():
        for use in (lambda: made.append(fastopt.Nesterov(p, lr=1.0)), lambda: made[0].step(g),
                    lambda: made[0].step(g, clip_norm=1.0), lambda: made[0].t, lambda: made[0].state_dict(),
                    lambda: made[0].lookahead(), lambda: setattr(made[0], "t", 7)):
            use()
            yield int(driver.do("cuCtxGetCurrent"))
    assert in_thread(lambda: list(work())) == [0]*7
    assert made[0].t == 7


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers")
def test_interrupts_come_before_a_step_or_after_it(stand_in):
    """Signals at any point of step's Python: count and device agree with a CPU optimizer that took as many steps."""
    gradient = np.arange(1, 61, dtype=f32)
    twins, g = Twins(adam, gradient.copy()), to_device(gradient)
    opt = twins.on_device
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
    for _ in range(opt.t):
        twins.on_host.step(gradient)
    twins.same()


# Processes

FAKE = '''
import numpy as np, fastopt, sys
class Fake:
    __cuda_array_interface__ = {"shape": (5,), "typestr": "<f4", "data": (4096, False), "version": 3}
try:
    fastopt.Adam(Fake())
except Exception as error:
    print(f"{type(error).__name__}: {error}")
'''
STEPS = '''
import sys, numpy as np, fastopt
import devices
devices.load()
for name in sys.argv[1:]:
    array = devices.plain(np.linspace(1, 2, 50, dtype=np.float32))
    opt = getattr(fastopt, name)(array, lr=0.1)
    opt.step(array)
    print(name, array.copy_to_host().tobytes().hex()[:300], "numba.cuda.compiler" in sys.modules)
'''


def test_kernels_of_two_processes_are_not_taken_for_each_other(tmp_path):
    """One is kept on disk, one compiled in the process that loads it: Numba names them alike. Without a need to compile
    numba.cuda, 0.4 s, is not imported."""
    def line(name, compiled):
        array = np.linspace(1, 2, 50, dtype=f32)
        getattr(fastopt, name)(array, lr=0.1).step(array)
        return f"{name} {array.tobytes().hex()[:300]} {compiled}"
    cache = {"FASTOPT_CACHE": str(tmp_path)}
    assert process(STEPS, "SGD", **cache) == line("SGD", True)
    assert process(STEPS, "SGD", "Lion", **cache).splitlines() == [line("SGD", False), line("Lion", True)]


@pytest.mark.parametrize(("before", "message"), [
    ("import fastopt, numpy as np, sys; fastopt.SGD(np.ones(3)).step(np.ones(3));"
     "print({'cuda', 'numba.cuda'} & {*sys.modules})", "CudaError: CUDA arrays: no driver was found ("),
    ("import sys; sys.modules['cuda'] = None",
     'ImportError: CUDA arrays: cuda-bindings is not installed. Install the extra: pip install "fastopt[cuda]"'),
    ("from ptx import driver; driver.load(devices=0)", "CUDA_ERROR_NO_DEVICE"),
    ("from ptx import driver; driver.load().speak(12080)",
     "CudaError: CUDA arrays: the driver is of CUDA 12.8, but cuda-bindings is of CUDA 13. Update NVIDIA's driver "
     "(nvidia-smi shows it): CUDA 13 needs 580 or newer.")],
                         ids=["no driver", "no extra", "no device", "an old driver"])
def test_what_is_missing_is_named(before, message):
    """Nothing of CUDA is imported until a device array comes."""
    found = process(f"{before}\n{FAKE}")
    if "is none of a CUDA device" in found:
        pytest.skip("a driver is installed here")
    assert message in found
    if "no driver" in message:
        assert found.startswith("set()")
        assert found.endswith("Install NVIDIA's driver, or give NumPy arrays.")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_forks():
    """CUDA does not survive a fork: the child gets an error that says so, its NumPy optimizers and the parent go on."""
    assert process('''
        import os, numpy as np, fastopt
        import devices
        devices.load()
        p, g = (devices.plain(np.ones(10, np.float32)) for _ in range(2))
        opt = fastopt.SGD(p, lr=0.5)
        opt.step(g)
        child = os.fork()
        if child == 0:
            try:
                opt.step(g)
            except RuntimeError as error:
                said = str(error)
            a = np.ones(3, np.float32)
            fastopt.SGD(a, lr=0.5).step(a.copy())
            os._exit(0 if "CUDA does not survive a fork" in said and a.tolist() == [0.5]*3 else 1)
        status = os.waitpid(child, 0)[1]
        opt.step(g)
        print(os.waitstatus_to_exitcode(status), p.copy_to_host().tolist() == [0.0]*10)
    ''') == "0 True"
