"""Forks wait for steps, saves and loads of other threads: a child gets whole ones, and locks that are free.

Before a fork all locks of living optimizers are taken, those of nested steps in whatever order: all at once or none.
Meanwhile threads begin no step (`pause`), so that all locks come free at one time. After a fork from within a step (a
schedule, a signal handler) its thread goes on with the step, in the child too.
"""
import os
import threading
import weakref
from functools import partial
from time import monotonic, sleep
from typing import Any

from .._signals import at_once
from . import pool  # noqa: F401 (its hooks run behind these: a step may need the compiler to end)

NAP = 1e-4       # seconds between two looks
# Seconds: one step is long over. But two threads may wait for each other (a fork within a step whose optimizer the
# other's schedule steps, too), or a save may write for long. Then the child gets new locks for what could not be had.
PATIENCE = 10.0
_LIVING: "weakref.WeakValueDictionary[int, Turn]" = weakref.WeakValueDictionary()


class Turn:
    """Who has an optimizer: the lock that its steps, saves and loads take, and whether a step is under way."""

    def __init__(self) -> None:
        self.lock = threading.RLock()  # a signal handler may save a checkpoint in the middle of step's Python
        self.stepping = False
        _LIVING[id(self)] = self       # from now on forks wait


def living() -> list[Turn]:
    return [turn for ref in _LIVING.valuerefs() if (turn := ref()) is not None]


class Fork:
    """One that is about to happen: its thread, and the locks that it has."""

    def __init__(self) -> None:
        self.thread = threading.get_ident()
        self.locks: list[Any] = []
        self.taken: list[bool] = []

    def take(self) -> bool:
        """Try to take all locks; those of optimizers that were made meanwhile count."""
        self.locks = [turn.lock for turn in living()]
        calls = [partial(lock.acquire, False) for lock in self.locks]
        self.taken.extend(map(partial.__call__, calls))  # as in `at_once`
        return all(self.taken)

    def release(self) -> None:
        own = [partial(lock.release) for lock, taken in zip(self.locks, self.taken, strict=False) if taken]
        at_once([*own, partial(self.taken.clear)])


WAITING: list[Fork] = []


def pause() -> None:
    """Let forks of other threads go first, unless they wait for a step of another optimizer in this one."""
    end, me = monotonic() + PATIENCE, threading.get_ident()
    while any(fork.thread != me for fork in list(WAITING)) and monotonic() < end:
        if any(turn.lock._is_owned() for turn in living()):  # type: ignore[attr-defined]
            return
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
    held = [lock for lock, taken in zip(fork.locks, fork.taken, strict=False) if taken] if fork else []
    for turn in living():
        if not any(turn.lock is lock for lock in held):
            turn.lock, turn.stepping = threading.RLock(), False  # of a thread that is not here
    if fork:
        fork.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
