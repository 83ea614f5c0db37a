"""Threads, forks and signals: the same bits as one thread alone, whatever else the process does, and a clean end."""
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from conftest import assert_identical, normal, once

import fastopt
from fastopt._cpu import pool

f32 = np.float32
N = 200_003  # more than pool.SMALL: workers help
LINUX = sys.platform.startswith("linux")
only_linux = pytest.mark.skipif(not LINUX, reason="affinity and fork as on Linux")


def make(seed, threads=2, n=N):
    w = normal(seed, n).astype(f32)
    return fastopt.Adam(w, lr=0.01, threads=threads), [normal(seed + k, n).astype(f32) for k in (100, 200)]


def walk(opt, gradients, steps):
    for k in range(steps):
        opt.step(gradients[k % 2], clip_norm=1.0)
    return opt


def assert_equal(opt, want):
    assert opt.t == want.t
    for x, y in zip((opt.params, *opt.state.values()), (want.params, *want.state.values()), strict=True):
        assert_identical(x, y)


def serial(seed, steps, n=N):
    return walk(*make(seed, threads=1, n=n), steps)


PRELUDE = """
import faulthandler, os, signal, sys, threading
import numpy as np
import fastopt
from fastopt._cpu import pool
faulthandler.dump_traceback_later(500, exit=True)
N, f32 = 200_003, np.float32
def make(seed, threads=2, n=N):
    rng = np.random.default_rng(seed)
    return fastopt.Adam(rng.normal(size=n).astype(f32), lr=0.01, threads=threads), rng.normal(size=n).astype(f32)
def walk(seed, steps, threads=2):
    opt, g = make(seed, threads)
    for _ in range(steps):
        opt.step(g)
    return opt
def same(a, b):
    return a.t == b.t and all(np.array_equal(x.view(np.uint32), y.view(np.uint32))
                              for x, y in zip((a.params, *a.state.values()), (b.params, *b.state.values())))
"""


def python(code, timeout=600, **environment):
    """What a fresh interpreter prints; it must end with 0 and say nothing else."""
    root = str(Path(fastopt.__file__).parents[1])
    path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    done = subprocess.run([sys.executable, "-W", "ignore::DeprecationWarning", "-c", PRELUDE + code],
                          capture_output=True, text=True,
                          timeout=timeout, check=False, env={**os.environ, "PYTHONPATH": path, **environment})
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


# Threads

def test_threads_that_step_optimizers_of_their_own_or_one():
    """Of one every step is whole: with one gradient for all, the result is that of one thread."""
    made, (opt, (g, _)) = [make(seed) for seed in range(4)], make(0)
    with ThreadPoolExecutor(4) as executor:
        list(executor.map(lambda pair: walk(*pair, 10), made))
        list(executor.map(lambda _: opt.step(g), range(40)))
    for seed, (own, _) in enumerate(made):
        assert_equal(own, serial(seed, 10))
    twin, _ = make(0, threads=1)
    for _ in range(40):
        twin.step(g)
    assert_equal(opt, twin)


def test_the_number_of_threads_changes_no_bit():
    want = serial(1, 3)
    for threads in (2, 3, 7, 10_000):
        assert_equal(walk(*make(1, threads), 3), want)
    assert pool.POOL.workers < 100  # no more than there are tiles


def test_small_steps_start_no_worker(monkeypatch):
    monkeypatch.setattr(pool, "POOL", pool.Pool())
    for n, workers in ((pool.SMALL - 1, 0), (pool.SMALL, 1)):
        assert_equal(walk(*make(0, n=n), 3), serial(0, 3, n=n))
        assert pool.POOL.workers == workers


@pytest.mark.parametrize("allowed", [0, 1])
def test_a_system_that_lets_us_have_no_more_threads(monkeypatch, caplog, allowed):
    monkeypatch.setattr(pool, "POOL", pool.Pool())
    start, left = threading.Thread.start, [allowed]

    def limited(thread):
        left[0] -= 1
        if left[0] < 0:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", limited)
    assert_equal(walk(*make(2, threads=4), 5), serial(2, 5))
    assert (pool.POOL.workers, left[0]) == (allowed, -1)  # asked once, not at every step
    assert all(t.daemon for t in threading.enumerate() if t.name.startswith("fastopt-"))
    assert [r.message for r in caplog.records] == [f"fastopt: {allowed} worker threads instead of 3: can't start new "
                                                   "thread. Steps use fewer threads."]


def test_the_gil_is_released():
    """A step of 2e7 elements takes milliseconds; another Python thread runs meanwhile, if a core is free."""
    n = 20_000_000
    w, g = np.zeros(n, f32), np.ones(n, f32)
    opt = fastopt.SGD(w, threads=1)
    opt.step(g)

    def another_runs():
        go, ran = threading.Event(), []
        other = threading.Thread(target=lambda: ran.append(go.wait()))
        other.start()
        go.set()
        opt.step(g)
        seen = bool(ran)
        other.join()
        return seen
    interval = sys.getswitchinterval()
    sys.setswitchinterval(600)  # whoever holds the GIL keeps it, unless it gives it away
    try:
        assert once(another_runs, 100)
    finally:
        sys.setswitchinterval(interval)


# Fork

@only_linux
def test_a_fork_after_a_parallel_step():
    assert python("""
import multiprocessing
def child(seed, queue):
    queue.put((seed, same(walk(seed, 5), walk(seed, 5, threads=1)), pool.POOL.workers))
parent = walk(0, 5)
context = multiprocessing.get_context("fork")
queue = context.Queue()
children = [context.Process(target=child, args=(k, queue)) for k in range(3)]
for c in children: c.start()
print(sorted(queue.get(timeout=400) for _ in children))
for c in children: c.join(400)
print([c.exitcode for c in children], same(parent, walk(0, 5, threads=1)))
g = make(0)[1]
parent.step(g)
print(same(parent, walk(0, 6, threads=1)), pool.POOL.workers)
""") == "[(0, True, 1), (1, True, 1), (2, True, 1)]\n[0, 0, 0] True\nTrue 1\n"


@only_linux
def test_a_fork_while_another_thread_compiles():
    """The child compiles its first step although a lock was taken by a thread that it does not have."""
    assert python("""
import numba, llvmlite.binding, time
def compiling(lock):
    with lock:
        taken.set()
        time.sleep(0.3)
for lock in (numba.core.compiler_lock.global_compiler_lock._lock, llvmlite.binding.ffi.lib._lock._lock):
    taken = threading.Event()
    other = threading.Thread(target=compiling, args=(lock,))
    other.start()
    taken.wait()
    pid = os.fork()
    if pid == 0:
        signal.alarm(300)
        os._exit(0 if same(walk(1, 3), walk(1, 3, threads=1)) else 1)
    print(os.waitpid(pid, 0)[1])
    other.join()
""") == "0\n0\n"


@only_linux
@pytest.mark.parametrize("layer", ["workqueue", "omp", "tbb"])
def test_beside_the_users_own_parallel_loops(layer):
    """Under every Numba threading layer that is there: a prange before, after and during steps, threads, and a fork."""
    out = python("""
import numba
@numba.njit(parallel=True, nogil=True)
def total(x):
    s = 0.0
    for i in numba.prange(x.size):
        s += x[i]
    return s
x = np.ones(100_000)
try:
    before = total(x)
except ValueError:
    print("absent")
    raise SystemExit
results = [None]*2
def run(k):
    results[k] = walk(k, 20)
threads = [threading.Thread(target=run, args=(k,)) for k in range(2)]
for t in threads: t.start()
during = [total(x) for _ in range(20)]
for t in threads: t.join()
after = total(x)
print(before, set(during), after, [same(r, walk(k, 20, threads=1)) for k, r in enumerate(results)])
sys.stdout.flush()
pid = os.fork()
if pid == 0:  # the user's own prange would abort here under GNU OpenMP; ours must not
    os._exit(0 if same(walk(5, 5), walk(5, 5, threads=1)) else 1)
print(os.waitpid(pid, 0)[1])
""", NUMBA_THREADING_LAYER=layer)
    if out == "absent\n":
        pytest.skip(f"no {layer} here")
    assert out == "100000.0 {100000.0} 100000.0 [True, True]\n0\n"


# Signals

@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no interval timers")
def test_interrupts_leave_whole_steps():
    """A storm of SIGINTs through steps of several kernels and threads: arrays hold exactly opt.t steps."""
    out = python("""
def start(threads):
    rng = np.random.default_rng(0)
    p = [rng.normal(size=n).astype(kind) for n, kind in ((100_003, f32), (5, float), (70_001, "f2"), (90_001, float))]
    return fastopt.Adam(p, lr=lambda t: 0.1/t, threads=threads), [x.astype(f32) for x in p]
def stamp(opt):
    return b"".join(x.tobytes() for x in (*opt.params, *opt.state["m"], *opt.state["v"]))
opt, g = start(2)
twin, _ = start(1)
opt.step(g, clip_norm=1.0); twin.step(g, clip_norm=1.0)
import random, time
began = time.perf_counter()
opt.step(g, clip_norm=1.0)
within = max(6e-3, 3*(time.perf_counter() - began))  # a slow machine, too, must end steps
interrupts, wrong, busy = 0, 0, [False]
random.seed(1)
def strike(*_):
    if busy[0]:
        signal.setitimer(signal.ITIMER_REAL, 10e-6 + random.random()*300e-6)
        raise KeyboardInterrupt
signal.signal(signal.SIGALRM, strike)
while interrupts < 80 or opt.t <= 30:
    try:
        busy[0] = True
        signal.setitimer(signal.ITIMER_REAL, 10e-6 + random.random()*within)
        while True:
            opt.step(g, clip_norm=1.0)
    except KeyboardInterrupt:
        busy[0] = False
    interrupts += 1
    while twin.t < opt.t:
        twin.step(g, clip_norm=1.0)
    wrong += stamp(opt) != stamp(twin)
print(wrong)
""")
    assert out == "0\n"


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no interval timers")
def test_a_signal_handler_saves_a_checkpoint():
    """As before a preemption: what is saved are whole steps, and nothing waits for itself."""
    assert python("""
import random
random.seed(2)
opt, g = make(0)
opt.step(g, clip_norm=1.0)  # compiles
saved = []
def save(*_):
    saved.append((opt.params.copy(), opt.state_dict()))
    signal.setitimer(signal.ITIMER_REAL, 1e-5 + random.random()*2e-3)
signal.signal(signal.SIGALRM, save)
signal.setitimer(signal.ITIMER_REAL, 1e-3)
while len(saved) < 60 or opt.t < 2:
    opt.step(g, clip_norm=1.0)
signal.setitimer(signal.ITIMER_REAL, 0)
twin, _ = make(0, threads=1)
wrong = 0
for params, state in saved:
    while twin.t < state["t"]:
        twin.step(g, clip_norm=1.0)
    wrong += not (np.array_equal(params, twin.params) and np.array_equal(state["state"]["v"][0], twin.state["v"]))
print(wrong)
""") == "0\n"


# How many threads

@only_linux
def test_threads_follow_the_affinity():
    assert python("""
all_of_them = sorted(os.sched_getaffinity(0))
print(fastopt.SGD(np.zeros(1)).threads == pool.available_threads() <= len(all_of_them))
os.sched_setaffinity(0, all_of_them[:1])
print(fastopt.SGD(np.zeros(1)).threads, fastopt.SGD(np.zeros(1), threads=3).threads)
print(same(walk(0, 5), walk(0, 5, threads=1)))  # two threads on one core
""") == "True\n1 3\nTrue\n"


V1 = "cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"
QUOTAS = [
    ({}, np.inf), ({"cpu.max": "max 100000\n"}, np.inf), ({"cpu.max": "150000 100000\n"}, 1.5),
    ({"cpu.max": "50000 100000"}, 0.5), ({"cpu.max": "400000 100000\n", V1[0]: "100000\n", V1[1]: "100000\n"}, 4.0),
    ({V1[0]: "250000\n", V1[1]: "100000\n"}, 2.5), ({V1[0]: "-1\n", V1[1]: "100000\n"}, np.inf),
    ({V1[0]: "250000\n"}, np.inf),
    *(({"cpu.max": text}, np.inf)
      for text in ("", "many of them", "100000 0", "0 100000", "nan 100000", b"\xff\xfe\x00"))]


def test_threads_follow_the_quota_of_the_cgroup(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    for k, (files, quota) in enumerate(QUOTAS):
        for name, content in files.items():
            path = tmp_path/str(k)/name
            path.parent.mkdir(exist_ok=True, parents=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        monkeypatch.setattr(pool, "CGROUP", tmp_path/str(k))
        assert pool._cgroup_quota() == quota
        want = 64 if quota == np.inf else int(np.ceil(quota))
        assert pool.available_threads() == want
        assert fastopt.SGD(np.zeros(1)).threads == want


def test_threads_follow_omp_num_threads(monkeypatch, tmp_path):
    """Within what affinity and quota allow; what is no number is as good as nothing."""
    (tmp_path/"cpu.max").write_text("800000 100000\n")
    monkeypatch.setattr(pool, "CGROUP", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    for said, want in (("3", 3), (" 4 ", 4), ("4,2", 4), ("1", 1), ("64", 8), ("9"*5000, 8), ("0", 8), ("-2", 8),
                       ("", 8), ("two", 8), ("2.5", 8), (",3", 8)):
        monkeypatch.setenv("OMP_NUM_THREADS", said)
        opt = fastopt.SGD(np.zeros(1))
        assert pool.available_threads() == opt.threads == want
        opt.threads = 7
        assert opt.threads == 7
        opt.threads = None
        assert opt.threads == want


# Ends

@pytest.mark.parametrize("ending", [
    "raise SystemExit(0)", "import time; time.sleep(0.05)",
    "import atexit; atexit.register(lambda: make(1)[0].step(g))",
    "import gc; fastopt._cpu.pool.POOL = None; del opt; gc.collect()",
    "keep = threading.Thread(target=lambda: [opt.step(g) for _ in range(50)]); keep.start()",
    "keep = threading.Thread(target=lambda: [opt.step(g) for _ in range(10**9)], daemon=True); keep.start()"])
def test_the_interpreter_ends_cleanly(ending):
    """With workers awake and asleep, with steps at exit, and with a thread that is still stepping."""
    code = "opt, g = make(0)\nfor _ in range(20): opt.step(g)\nassert pool.POOL.workers == 1\n"
    assert python(f"{code}faulthandler.cancel_dump_traceback_later()\n{ending}") == ""
