"""Threads for kernels: claimed work, no fork or reentrancy to fear, and never slower than one thread for long.

Worker threads are Python threads that live in compiled code without the GIL. The caller posts a job (a kernel's address
and its table), works on it itself, closes it, and waits only for tiles that a worker has already claimed: a worker that
a busy neighbour keeps from its core costs nothing but its help. A second Python thread that steps at the same time finds
the pool taken and works alone; a forked child starts workers of its own. None of Numba's threading layers is used:
workqueue aborts the process when two threads enter it, GNU OpenMP aborts a forked child, and both split the work in
advance, so that one held-up thread holds up the step.

The mailbox, int64 words 64 bytes apart: GENERATION counts jobs, FUNCTION and JOB say what to do (JOB = 0: closed),
HELPERS how many workers may join, INSIDE how many have, TAKEN the job of the caller that owns the pool (0: nobody does).
"""
import ctypes
import os
import queue
import threading
import time
from functools import lru_cache
from pathlib import Path

import numpy as np
from numba import types

from .atomics import add, call, exchange, pause, read, write
from .cpu import compiled

GENERATION, FUNCTION, JOB, HELPERS, INSIDE, TAKEN = range(0, 48, 8)
MAILBOX_WORDS = 48
SPINS = 4000       # pauses before a worker sleeps, about 60 us: back-to-back steps find it awake (waking takes 25 us)
PATIENCE = 20_000  # pauses for a worker's last tile before the caller sleeps: then an idle core can run a worker that lost its own
NAP = 5e-5         # seconds of that sleep
SMALL = 65_536     # elements under which the caller works alone: waking a worker costs 3 us, and 65,536 elements of Adam take 9 us


def _cgroup_quota() -> float:
    """How many processors the cgroup may use at a time; infinity without a limit."""
    def numbers(path):
        try:
            return Path("/sys/fs/cgroup", path).read_text().split()
        except OSError:
            return []
    limits = numbers("cpu.max") or numbers("cpu/cpu.cfs_quota_us") + numbers("cpu/cpu.cfs_period_us")
    try:
        quota, period = map(float, limits)
    except ValueError:  # "max", or no such file
        return float("inf")
    return quota/period if quota > 0 and period > 0 else float("inf")


@lru_cache(maxsize=1)
def available_threads() -> int:
    """The processors this process may use: its affinity, and no more than the cgroup's quota, rounded up."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return int(max(1, min(affinity, -(-_cgroup_quota() // 1))))


@lru_cache(maxsize=1)
def _run():
    """run(mailbox, function, job, helpers) -> whether all is done: post the job, work on it, close it, wait a while.

    Called again for a job that is not done, or was interrupted, it goes on where it stood.
    """
    def run(mailbox, function, job, helpers):
        posted = helpers > 0 and exchange(mailbox, TAKEN, 0, job)
        if posted:
            write(mailbox, FUNCTION, function)
            write(mailbox, HELPERS, helpers)
            write(mailbox, JOB, job)
            add(mailbox, GENERATION, 1)
        call(function, job)
        if not posted and read(mailbox, TAKEN) != job:
            return True
        write(mailbox, JOB, 0)
        for _ in range(PATIENCE):
            if read(mailbox, INSIDE) == 0:
                write(mailbox, TAKEN, 0)
                return True
            pause()
        return False

    return compiled("run", types.boolean(*[types.int64]*4), run)


@lru_cache(maxsize=1)
def _serve():
    """serve(mailbox, worker, seen) -> the last generation seen: help with jobs until none has come for a while."""
    def serve(mailbox, worker, seen):
        idle = 0
        while idle < SPINS:
            generation = read(mailbox, GENERATION)
            if generation == seen:
                idle += 1
                pause()
                continue
            seen, idle = generation, 0
            add(mailbox, INSIDE, 1)  # before JOB is read: the caller closes JOB, then waits for INSIDE
            job = read(mailbox, JOB)
            if job != 0 and worker < read(mailbox, HELPERS):
                call(read(mailbox, FUNCTION), job)
            add(mailbox, INSIDE, -1)
        return seen

    return compiled("serve", types.int64(types.int64, types.int64, types.int64), serve)


class Pool:
    """Workers of this process, started when a step first needs them."""

    def __init__(self) -> None:
        self.mailbox = np.zeros(MAILBOX_WORDS + 8, np.int64)
        self.address = (self.mailbox.ctypes.data + 63)//64*64
        self.generation = ctypes.c_int64.from_address(self.address + 8*GENERATION)
        self.workers = 0
        self.asleep: list[bool] = []
        self.bells: list[queue.SimpleQueue] = []
        self.starting = threading.Lock()

    def run(self, kernel, job: int, helpers: int) -> None:
        """Run a kernel on a job (the address of its words), with this many workers besides the caller."""
        if helpers > 0:
            if helpers > self.workers:
                self._start(helpers)
            for worker in range(helpers):
                if self.asleep[worker]:
                    self.asleep[worker] = False
                    self.bells[worker].put(None)
        while not _run()(self.address, kernel.address, job, helpers):
            time.sleep(NAP)

    def _start(self, helpers: int) -> None:
        with self.starting:
            _serve()  # compiled here: a worker that compiles would hold Numba's lock
            for worker in range(self.workers, helpers):
                self.asleep.append(False)
                self.bells.append(queue.SimpleQueue())
                threading.Thread(target=self._work, args=(worker,), name=f"fastopt-{worker}", daemon=True).start()
                self.workers = worker + 1

    def _work(self, worker: int) -> None:
        serve, seen = _serve(), self.generation.value - 1
        while True:
            seen = serve(self.address, worker, seen)
            if self.generation.value == seen:
                self.asleep[worker] = True
                self.bells[worker].get()


POOL = Pool()


def _forked() -> None:
    """A child has none of its parent's threads: give it a pool that knows."""
    global POOL
    POOL = Pool()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


def run(kernel, job: int, elements: int, threads: int) -> None:
    """Run a kernel over this many elements on up to this many threads; alone where that is faster."""
    POOL.run(kernel, job, 0 if elements < SMALL else threads - 1)
