"""Threads for kernels: no fork or reentrancy to fear, and never slower than one thread for long.

Worker threads are Python threads that live in compiled code without the GIL. The caller posts a job (a kernel's address
and its table), works on it, closes it, and waits only for workers that are inside it. Each thread has a share of the
tiles, the same at every step, so that they stay in its core's cache; when it has done its own it helps others (`take`).
A worker that a busy neighbour keeps from its core costs nothing but its help. A second Python thread that steps at the
same time finds the pool taken and works alone; a forked child starts workers of its own. None of Numba's threading
layers is used: workqueue aborts the process when two threads enter it, GNU OpenMP aborts a forked child, and in both
one held-up thread holds up the step.

A plan is the list of the jobs of a step: (kernel, job, elements, where its shares are) each. Running it is one call of
compiled code, which counts the step at its end: an exception out of a signal handler (Ctrl-C) comes before all of it or
after all of it. Kernels run in the default floating-point mode, whatever mode the thread is in, so that bits are those
of any thread. (On x86 and 64-bit ARM; on other processors the mode is left alone.)

The mailbox holds int64 words 64 bytes apart: `generation` counts jobs, `function` and `job` say what to do (0:
closed), `helpers` how many workers may join, `inside` how many have, `taken` whether a caller owns the pool, `usleep`
where libc's usleep is (0: there is none).
"""
import ctypes
import logging
import os
import queue
import sys
import threading
from functools import lru_cache
from pathlib import Path

import numpy as np
from numba import types

from .._kernels.atomics import BITS, DEFAULT_MODE, ROOM, add, call, exchange, mode, nap, pause, read, set_mode, write
from .._kernels.compile import compiled, entry
from .._kernels.memory import JOB, WORD, put_word, record, word

log = logging.getLogger("fastopt")

MAILBOX = record("generation", "function", "job", "helpers", "inside", "taken", "usleep")
MAILBOX_WORDS = 56
SPINS = 4000       # pauses before a worker sleeps, about 60 us: back-to-back steps find it awake (waking takes 25 us)
PATIENCE = 20_000  # pauses for a worker's last tile before the caller sleeps and leaves it the core
NAP = 50           # microseconds of that sleep
SMALL = 65_536     # elements under which the caller works alone: waking takes 3 us, Adam on 65,536 elements 9

CGROUP = Path("/sys/fs/cgroup")


def _cgroup_quota() -> float:
    """How many processors the cgroup may use at a time; infinity without a limit."""
    def numbers(path):
        try:
            return Path(CGROUP, path).read_text().split()
        except (OSError, ValueError):
            return []
    limits = numbers("cpu.max") or numbers("cpu/cpu.cfs_quota_us") + numbers("cpu/cpu.cfs_period_us")
    try:
        quota, period = map(float, limits)
    except ValueError:  # "max", or no such file
        return float("inf")
    return quota/period if quota > 0 and period > 0 else float("inf")


def omp_threads() -> float:
    """What OMP_NUM_THREADS allows, of a list its first number; infinity where it says no such number."""
    first = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    try:
        return int(first) if first.isdecimal() and int(first) >= 1 else float("inf")
    except ValueError:  # thousands of digits
        return float("inf")


def available_threads() -> int:
    """The processors of the process: by its affinity, the cgroup's quota, rounded up, and OMP_NUM_THREADS."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return int(max(1, min(affinity, -(-_cgroup_quota() // 1), omp_threads())))


@lru_cache(maxsize=1)
def _usleep() -> int:
    """The address of libc's usleep, or 0 where there is none."""
    try:
        return ctypes.cast(ctypes.CDLL(None).usleep, ctypes.c_void_p).value or 0
    except (TypeError, OSError, AttributeError):  # Windows
        return 0


@lru_cache(maxsize=1)
def _run():
    """run(mailbox, plan, count, shares, helpers, small, done): each job of a plan, then add 1 to the word `done`.

    A job with `small` elements or more is posted, worked on, closed, and over when no worker is inside. `shares` has a
    cache line for each thread, in which lies what is left of its share of the tiles.
    """
    def run(mailbox, plan, count, shares, helpers, small, done):
        before = mode()
        set_mode(DEFAULT_MODE)
        for k in range(count):
            row = plan + 4*WORD*k
            function, job, elements, own = word(row, 0), word(row, 1), word(row, 2), word(row, 3)
            posted = helpers > 0 and elements >= small and exchange(mailbox, MAILBOX.taken, 0, 1)
            put_word(job, JOB.shares, shares)
            put_word(job, JOB.members, helpers + 1 if posted else 1)
            put_word(shares, 0, word(job, JOB.count))
            if posted:
                for thread in range(helpers + 1):
                    put_word(shares, ROOM*thread, word(own, thread))
                write(mailbox, MAILBOX.function, function)
                write(mailbox, MAILBOX.helpers, helpers)
                write(mailbox, MAILBOX.job, job)
                add(mailbox, MAILBOX.generation, 1)
            call(function, job, 0)
            if posted:
                write(mailbox, MAILBOX.job, 0)
                patience, usleep = PATIENCE, word(mailbox, MAILBOX.usleep)
                while read(mailbox, MAILBOX.inside) > 0:
                    if patience > 0 or usleep == 0:
                        patience -= 1
                        pause()
                    else:
                        nap(usleep, NAP)
                write(mailbox, MAILBOX.taken, 0)
        set_mode(before)
        if done != 0:
            add(done, 0, 1)
    return compiled("run", types.void(*[types.int64]*7), run)


@lru_cache(maxsize=1)
def _serve():
    """serve(mailbox, worker, seen) -> the last generation seen: help with jobs until none has come for a while."""
    def serve(mailbox, worker, seen):
        idle, before = 0, mode()
        set_mode(DEFAULT_MODE)
        while idle < SPINS:
            generation = read(mailbox, MAILBOX.generation)
            if generation == seen:
                idle += 1
                pause()
                continue
            seen, idle = generation, 0
            add(mailbox, MAILBOX.inside, 1)  # before the job is read: the caller closes it, then waits
            job = read(mailbox, MAILBOX.job)
            if job != 0 and worker < read(mailbox, MAILBOX.helpers):
                call(read(mailbox, MAILBOX.function), job, worker + 1)
            add(mailbox, MAILBOX.inside, -1)
        set_mode(before)
        return seen
    return compiled("serve", types.int64(types.int64, types.int64, types.int64), serve)


class Pool:
    """Workers of this process, started when a step first needs them."""

    def __init__(self) -> None:
        self.mailbox = np.zeros(MAILBOX_WORDS + 8, np.int64)
        self.address = (self.mailbox.ctypes.data + 63)//64*64
        self.generation = ctypes.c_int64.from_address(self.address + 8*MAILBOX.generation)
        ctypes.c_int64.from_address(self.address + 8*MAILBOX.usleep).value = _usleep()
        self.workers = 0
        self.limit = sys.maxsize
        self.asleep: list[bool] = []
        self.bells: list[queue.SimpleQueue] = []
        self.starting = threading.Lock()

    def awake(self, helpers: int) -> int:
        """Wake so many workers, or start them; how many there are."""
        if helpers > self.workers:
            helpers = self._start(helpers)
        for worker in range(helpers):
            if self.asleep[worker]:
                self.asleep[worker] = False
                self.bells[worker].put(None)
        return helpers

    def _start(self, helpers: int) -> int:
        """Start workers until there are this many, or as many as the system lets us have; how many there are."""
        _serve()  # compiled here: a worker that compiles would hold Numba's lock
        with self.starting:
            while self.workers < min(helpers, self.limit):
                worker = self.workers
                self.asleep[worker:], self.bells[worker:] = [False], [queue.SimpleQueue()]
                try:
                    threading.Thread(target=self._work, args=(worker,), name=f"fastopt-{worker}", daemon=True).start()
                except RuntimeError as error:  # the limit of a container, or Python is shutting down
                    log.warning("fastopt: %s worker threads instead of %s: %s. Steps use fewer threads.", worker,
                                helpers, error)
                    self.limit = worker
                else:
                    self.workers = worker + 1
            return min(helpers, self.workers)

    def _work(self, worker: int) -> None:
        serve, seen = _serve(), self.generation.value - 1
        while True:
            seen = serve(self.address, worker, seen)
            if self.generation.value == seen:
                self.asleep[worker] = True
                self.bells[worker].get()


POOL = Pool()


def _forked() -> None:
    """Give a child, which lacks its parent's threads, a pool of its own. A step on the old one waits for nobody."""
    global POOL
    POOL.mailbox[:] = 0
    POOL = Pool()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


def shares(extents: np.ndarray, threads: int) -> np.ndarray:
    """The share of each thread in tiles of so many elements: first*2**32 + end, for `take`."""
    ends = np.cumsum(extents)
    wanted = (ends[-1] if ends.size else 0)*np.arange(1, threads)/threads
    cuts = np.searchsorted(ends - extents/2, wanted)
    return (np.array([0, *cuts], np.int64) << BITS) + np.array([*cuts, len(extents)])


class Plan:
    """The jobs of a step, each with its kernel, to be run in turn."""

    def __init__(self, jobs):
        """`jobs` holds (kernel, job) pairs; a job has an address, its elements, and `extents`: those of its tiles."""
        self.jobs = [job for _, job in jobs]  # kept alive
        rows = [(kernel.address, job.address, job.elements, 0) for kernel, job in jobs]
        self.rows = np.array([*rows, (0, 0, 0, 0)], np.int64)
        self.address = self.rows.ctypes.data
        self._count()

    def _count(self) -> None:
        self.threads, self.left_at = 1, self.address + self.rows[:-1].nbytes  # where the share of one thread is
        self.largest = max((job.elements for job in self.jobs), default=0)
        self.tiles = max((len(job.tiles) for job in self.jobs), default=0)

    def renew(self) -> None:
        """Take over what its jobs have become."""
        for job in self.jobs:
            job.renew()
        self.rows[:-1, 2] = [job.elements for job in self.jobs]
        self._count()

    def _share(self, threads: int) -> None:
        """Give each of so many threads a share of the tiles of each job, of about as many elements."""
        self.own = [shares(job.extents, threads) for job in self.jobs]
        self.rows[:-1, 3] = [own.ctypes.data for own in self.own]
        self.left = np.zeros(ROOM*(threads + 1), np.int64)
        self.threads, self.left_at = threads, (self.left.ctypes.data + 63)//64*64

    def run(self, threads: int, done: int = 0) -> None:
        """Run the jobs on up to this many threads, on one where that is faster, and add 1 to the word at `done`."""
        helpers = min(threads, self.tiles) - 1 if self.largest >= SMALL else 0
        if helpers > 0 and (helpers := POOL.awake(helpers)) + 1 != self.threads:
            self._share(helpers + 1)
        entry(_run)(POOL.address, self.address, len(self.jobs), self.left_at, helpers, SMALL, done)
