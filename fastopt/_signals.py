"""What a signal must not cut in two: `at_once` for a few writes, `UNDISTURBED` for compilations.

- `at_once`: a few writes, one after the other (loads, new hyperparameters). Nothing is installed, nothing waits.
- `UNDISTURBED`: compilations, which run much code of Python. All signals wait, and all handlers are replaced meanwhile.

(A step of `fit` has `_training.interrupts.Held`. A step of an optimizer needs none: it is one call of compiled code.)

Python runs signal handlers in the main thread, between any two bytecodes. One that raises (Ctrl-C does) would leave
Numba's registries half filled, and this process could compile no kernel any more. (A helper thread would keep handlers
out, too. But it waits for ever for a lock that the main thread holds, such as that of a module that is being imported,
and it is still inside LLVM when a Ctrl-C ends the process.)
"""
import _thread
import os
import signal
import threading
from collections.abc import Callable, Iterable
from contextlib import ContextDecorator
from functools import partial
from types import FrameType
from typing import Any


def at_once(calls: Iterable["partial[Any]"]) -> list[Any]:
    """What these return, called in turn within one instruction of the interpreter.

    Handlers of signals run between two instructions: what they raise comes before all calls or after all. So the calls
    must run none of Python's code and must not fail: functions written in C, of arguments that have been checked. Other
    threads see a part of it only while one of them lets go of the GIL.
    """
    return list(map(partial.__call__, calls))


class Undisturbed(ContextDecorator):
    """Within ``with UNDISTURBED:`` signal handlers wait for the end, in order. It nests; other threads have none."""

    def __init__(self) -> None:
        self.depth = self.thread = 0
        self.old: dict[int, Any] = {}
        self.came: list[tuple[Callable, int, FrameType | None]] = []

    def __enter__(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        before = self.depth
        try:
            self.depth, self.thread = before + 1, threading.get_ident()
            if before == 0:
                self._install()
        except BaseException:  # out of a handler that had not been replaced yet
            self._leave()
            raise

    def __exit__(self, *_: object) -> None:
        if self.depth == 0 or self.thread != threading.get_ident():
            return
        if self.depth == 1:
            self._leave()
        else:
            self.depth -= 1

    def hear(self) -> None:
        """Call the handlers of the signals that came, each of them, whatever the others raise."""
        while self.came:
            handler, number, frame = self.came.pop(0)
            try:
                handler(number, frame)
            except BaseException:
                self.hear()
                raise

    def _install(self) -> None:
        for number in signal.valid_signals():
            handler = signal.getsignal(number)
            if callable(handler) and handler != self._comes:
                self.old[number] = handler
                signal.signal(number, self._comes)

    def _comes(self, number: int, frame: FrameType | None) -> None:
        if self.depth:
            self.came.append((self.old[number], number, frame))
        else:  # an interrupt of `_restore` has left it in place
            self.old[number](number, frame)

    def _leave(self) -> None:
        try:
            self._restore()
        finally:
            self.depth = 0
            self.hear()

    def _restore(self) -> None:
        """Give every signal its handler back. What one of them raises meanwhile is raised when all are back."""
        try:
            for number in list(self.old):
                if signal.getsignal(number) == self._comes:
                    signal.signal(number, self.old[number])
                del self.old[number]
        except BaseException:
            self._restore()
            raise

    def end_of_fork(self) -> None:
        """`__exit__` in a hook of fork, of which Python ignores errors: a thread sends the signals anew, for later."""
        came: list = []
        if self.depth == 1 and self.thread == threading.get_ident():
            came, self.came = self.came, came
        self.__exit__()
        for _, number, _ in came:
            _thread.start_new_thread(_thread.interrupt_main, (number,))

    def forked(self) -> None:
        """In the child. Signals that came are its parent's; the thread that would have left may not be there."""
        self.came.clear()
        if self.depth and self.thread != threading.get_ident():
            self._leave()


UNDISTURBED = Undisturbed()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=UNDISTURBED.forked)
