"""Forks wait for steps, saves and loads of other threads: a child gets whole ones, and locks that are free.

Before a fork all locks of living optimizers are taken, those of nested steps in whatever order: all at once or none.
Meanwhile threads begin no step (`pause`), so that all come free at one time. A fork from within a step (a schedule, a
signal handler) has its thread go on with the step, in the child too.
"""
import os
import threading
import weakref
from functools import partial
from time import monotonic, sleep
from typing import Any

from .._signals import at_once
from . import pool  # noqa: F401 (their hooks are run behind these before a fork: a step may need the compiler to come to its end)

NAP = 1e-4       # seconds between two looks
PATIENCE = 10.0  # seconds: one step is long over, but two threads may wait for each other (a fork within a step whose optimizer the other's
                 # schedule steps, too), or a save may write for long. Then the child gets new locks for what could not
                 # be had
_LIVING: "weakref.WeakValueDictionary[int, Any]" = weakref.WeakValueDictionary()


class Fork:
    """One that is about to happen: its thread, and the locks that it has."""

    def __init__(self) -> None:
        self.thread = threading.get_ident()
        self.locks: list[Any] = []
        self.taken: list[bool] = []

    def take(self) -> bool:
        """Try to take all locks; those of optimizers that were made meanwhile count."""
        self.locks = [opt._lock for opt in living()]
        self.taken.extend(map(partial.__call__, [partial(lock.acquire, False)
                                                 for lock in self.locks]))  # one instruction, as in `at_once`
        return all(self.taken)

    def release(self) -> None:
        at_once([*(partial(lock.release) for lock, taken in zip(self.locks, self.taken, strict=False) if taken),
                 partial(self.taken.clear)])


WAITING: list[Fork] = []


def watch(opt: Any) -> None:
    """From now on forks wait for this optimizer."""
    _LIVING[id(opt)] = opt


def living() -> list[Any]:
    return [opt for ref in _LIVING.valuerefs() if (opt := ref()) is not None]


def pause() -> None:
    """Let forks of other threads go first: unless this thread is within a step of another optimizer, for which they wait."""
    end, me = monotonic() + PATIENCE, threading.get_ident()
    while any(fork.thread != me for fork in list(WAITING)) and monotonic() < end and not any(opt._lock._is_owned()
                                                                                             for opt in living()):
        sleep(NAP)


def _before() -> None:
    fork, end, said = Fork(), monotonic() + PATIENCE, None
    WAITING.append(fork)
    while True:
        try:
            if fork.take() or monotonic() > end:
                break
            fork.release()
            sleep(NAP)
        except BaseException as error:
            said = error
    if said:
        raise said  # Python prints it: what a hook raises does not reach the program


def _mine() -> Fork | None:
    """The fork that this thread has asked for."""
    return next((fork for fork in reversed(WAITING) if fork.thread == threading.get_ident()), None)


def _release() -> None:
    if fork := _mine():
        fork.release()
        WAITING.remove(fork)


def _after_in_parent() -> None:
    try:
        _release()
    finally:  # again, where a signal handler raised
        _release()


def _after_in_child() -> None:
    fork = _mine()
    WAITING.clear()
    for opt in living():
        if fork is None or not any(taken and lock is opt._lock for lock,
                                   taken in zip(fork.locks, fork.taken, strict=False)):
            opt._lock, opt._stepping = threading.RLock(), False  # of a thread that is not here
    if fork:
        fork.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
