"""Signals during a compilation: it ends whole, then handlers are called; every kernel can be compiled later."""
import contextlib
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numba.core.event as event
import numpy as np
import pytest
from internals import compile_step, norm_kernel, of_the_disk, steps_right
from numba.core.compiler_lock import global_compiler_lock

import fastopt
from fastopt._cpu import loops as cpu
from fastopt._cpu import pool
from fastopt._cuda import code as cuda_code
from fastopt._kernels.cache import KernelCache
from fastopt._signals import UNDISTURBED

pytestmark = pytest.mark.usefixtures("python_handler")
NUMBER = getattr(signal, "SIGUSR1", signal.SIGTERM)


class AlarmError(Exception):
    """What a handler raises."""


@pytest.fixture
def handler():
    """Install a handler for a signal; the old one comes back."""
    before = {}

    def install(number, function):
        before.setdefault(number, signal.signal(number, function))
    yield install
    for number, function in before.items():
        signal.signal(number, function)


class Raising(event.Listener):
    """Raise a signal at the beginning of the k-th stage of a compilation."""

    def __init__(self, number, at):
        self.number, self.at, self.began, self.ended = number, at, 0, 0

    def on_start(self, happened):
        self.began += 1
        if self.began == self.at:
            signal.raise_signal(self.number)

    def on_end(self, happened):
        self.ended += 1


@contextlib.contextmanager
def interrupted(number, at, error=KeyboardInterrupt):
    """A signal comes at the beginning of the k-th stage of a compilation, and is heard after it."""
    listener = Raising(number, at)
    event.register("numba:run_pass", listener)
    try:
        with pytest.raises(error):
            yield
    finally:
        event.unregister("numba:run_pass", listener)
    assert listener.ended == listener.began > at


def alarm(*_):
    raise AlarmError


def test_a_signal_waits_for_the_end_of_a_compilation(fresh, handler):
    """In the first, a middle and a late stage: compiled, kept, then the handler."""
    handler(NUMBER, alarm)
    for rule, at, number, error in (("adam", 1, signal.SIGINT, KeyboardInterrupt), ("sgd", 8, NUMBER, AlarmError),
                                    ("momentum", 16, signal.SIGINT, KeyboardInterrupt)):
        with interrupted(number, at, error):
            compile_step(rule)
        assert of_the_disk(compile_step(rule))
    assert steps_right(compile_step("adam"))


def test_loading_is_not_interrupted_either(fresh, monkeypatch):
    for make in (lambda: compile_step("sgd"), lambda: norm_kernel("f32 f32"),
                 lambda: pool._run.__wrapped__(), lambda: cpu.kernel("squares f32", lambda job, thread: None)):
        make()
        plain, ended = KernelCache.load_overload, []

        def struck(self, *args, plain=plain, ended=ended):
            signal.raise_signal(signal.SIGINT)
            ended.append(plain(self, *args))
            return ended[-1]

        with monkeypatch.context() as patched:
            patched.setattr(KernelCache, "load_overload", struck)
            with pytest.raises(KeyboardInterrupt):
                make()
        assert len(ended) == 1
        assert ended[0] is not None


def test_code_for_cuda_is_not_interrupted(monkeypatch):
    made = []

    def cached(name, make):
        signal.raise_signal(signal.SIGINT)
        made.append(name)
        return b".entry k"

    monkeypatch.setattr(cuda_code, "cached", cached)
    monkeypatch.setattr(cuda_code, "versions", tuple)
    with pytest.raises(KeyboardInterrupt):
        cuda_code.code("step", (9, 0), "ptx", None, None)
    assert len(made) == 1


def test_a_step_that_was_interrupted_can_be_taken(fresh):
    """Nothing was written by the first; the second compiles nothing anew and is right."""
    cpu.step_kernel.cache_clear()
    p, g = np.ones(9, np.float32), np.ones(9, np.float32)
    opt = fastopt.SGD(p, lr=0.5)
    with interrupted(signal.SIGINT, 5):
        opt.step(g)
    assert (opt.t, p.tolist()) == (0, [1]*9)
    opt.step(g)
    assert (opt.t, p.tolist()) == (1, [0.5]*9)


def test_handlers_are_called_in_order_each_of_them_and_have_their_place_again(handler):
    calls = []

    def note(number, frame):
        calls.append(number)
        raise AlarmError(str(len(calls)))

    handler(signal.SIGINT, note)
    handler(NUMBER, note)
    def come():
        with UNDISTURBED:
            for number in (NUMBER, signal.SIGINT, NUMBER):
                with UNDISTURBED:
                    signal.raise_signal(number)
            assert calls == []

    with pytest.raises(AlarmError, match="3") as raised:
        come()
    assert calls == [NUMBER, signal.SIGINT, NUMBER]
    assert raised.value.__context__.args == ("2",)
    assert [signal.getsignal(number) for number in (signal.SIGINT, NUMBER)] == [note, note]
    assert (UNDISTURBED.depth, UNDISTURBED.old, UNDISTURBED.came) == (0, {}, [])


def test_a_signal_between_two_handlers_replacements(handler, monkeypatch):
    """While handlers are replaced, and while they get their places back: heard, and all have their places."""
    handler(signal.SIGINT, alarm)
    handler(NUMBER, alarm)
    for at in range(8):
        plain, calls, inside = signal.signal, [], []

        def replace(number, function, at=at, plain=plain, calls=calls):
            calls.append(number)
            if len(calls) == at//2 + 1 and at % 2 == 0:
                signal.raise_signal(NUMBER)
            plain(number, function)
            if len(calls) == at//2 + 1 and at % 2 == 1:
                signal.raise_signal(NUMBER)

        with monkeypatch.context() as patched:
            patched.setattr(signal, "signal", replace)
            with pytest.raises(AlarmError), UNDISTURBED:
                inside.append(1)
        assert inside == ([] if at < 3 else [1])  # 3: the last handler was replaced
        assert [signal.getsignal(number) for number in (signal.SIGINT, NUMBER)] == [alarm, alarm]
        assert (UNDISTURBED.depth, UNDISTURBED.old, UNDISTURBED.came) == (0, {}, [])


def test_other_threads_leave_handlers_alone():
    def look():
        with UNDISTURBED:
            return UNDISTURBED.depth, signal.getsignal(signal.SIGINT)

    with ThreadPoolExecutor(1) as executor:
        assert executor.submit(look).result() == (0, signal.getsignal(signal.SIGINT))


def test_signals_are_heard_while_another_thread_compiles(fresh):
    def compiling():
        with global_compiler_lock:
            os.kill(os.getpid(), signal.SIGINT)
            released.append(release.wait(60))

    def main():
        thread.start()
        compile_step("adam")
        release.wait(60)

    release, released = threading.Event(), []
    thread = threading.Thread(target=compiling)
    with pytest.raises(KeyboardInterrupt):
        main()
    release.set()
    thread.join()
    assert released == [True]
    assert steps_right(compile_step("adam"))


# Processes of their own

def python(code, **environment):
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True,
                          text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_the_child_of_a_fork_by_another_thread_hears_signals():
    """The main thread is about to compile, and there is none in the child."""
    assert python("""
import os, signal, threading
from fastopt._signals import UNDISTURBED
def fork():
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            os._exit(signal.getsignal(signal.SIGINT) is not signal.default_int_handler or UNDISTURBED.depth)
        os._exit(2)
    print(os.waitpid(child, 0)[1])
with UNDISTURBED:
    thread = threading.Thread(target=fork)
    thread.start()
    thread.join()
print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)
""") == ["0", "True"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_fork_that_is_interrupted_while_it_waits():
    """The Ctrl-C comes when it is done. Both processes can compile, and have their handlers."""
    assert python("""
import os, signal, sys, threading, time
import numpy as np
import fastopt
from numba.core.compiler_lock import global_compiler_lock
def compiling():
    with global_compiler_lock:
        taken.set()
        while signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)
def step():
    p = np.ones(3, np.float32)
    fastopt.SGD(p, lr=0.5, threads=1).step(p.copy())
    return p.tolist() == [0.5]*3 and signal.getsignal(signal.SIGINT) is signal.default_int_handler
taken = threading.Event()
thread = threading.Thread(target=compiling)
thread.start()
taken.wait()
child = None
try:
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        os._exit(not step())
    for _ in range(6000):  # Python's own interrupt ends no sleep
        time.sleep(0.01)
except KeyboardInterrupt:
    print("heard")
thread.join()
print(step(), os.wait()[1])
""") == ["heard", "True 0"]


def test_without_a_compiler_a_step_says_what_to_do():
    assert python("""
import numpy as np, fastopt
w = np.ones(3, np.float32)
opt = fastopt.SGD(w, lr=0.5)
try:
    opt.step(w.copy())
except RuntimeError as error:
    print(error, opt.t, *w, sep="|")
""", NUMBA_DISABLE_JIT="1") == [
        "fastopt: NUMBA_DISABLE_JIT is set, but a step is compiled code. Unset it before Python starts.|0|1.0|1.0|1.0"]
