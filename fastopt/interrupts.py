"""What a signal must not cut in two. There are three ways, for three kinds of work; a step needs none: it is one call of compiled code.

- `at_once`: writes of arrays and attributes, one after the other (loads, new hyperparameters). Nothing is installed and nothing waits.
- `Held`: a step of `fit` with its `after_step`, which is the program's own: Ctrl-C waits, but a second one comes through.
- `undisturbed.UNDISTURBED`: compilations, which run much code of Python. All signals wait, and all handlers are replaced meanwhile.
"""
import signal
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from types import FrameType
from typing import Any


def at_once(calls: Iterable["partial[Any]"]) -> list[Any]:
    """What these return, called in turn within one instruction of the interpreter.

    Handlers of signals run between two instructions: what they raise comes before all calls or after all. So the calls must run none of
    Python's code and must not fail: functions written in C, of arguments that have been checked. Other threads see a part of it only while
    one of them lets go of the GIL.
    """
    return list(map(partial.__call__, calls))


class Held:
    """Within ``with held:`` a first Ctrl-C waits for the end, a second one does not; from `install` to `remove`."""

    def __init__(self) -> None:
        self.on = self.waiting = False
        self.old: Any = None

    def install(self) -> None:
        """Take the place of the handler of SIGINT: once, as that costs more than a small step."""
        self.old = signal.getsignal(signal.SIGINT)
        if callable(self.old):
            with suppress(ValueError):  # not the main thread of the main interpreter: no signals come here
                signal.signal(signal.SIGINT, self._came)

    def remove(self) -> None:
        if signal.getsignal(signal.SIGINT) == self._came:
            signal.signal(signal.SIGINT, self.old)

    def _came(self, number: int, frame: FrameType | None) -> None:
        self.waiting = self.on and not self.waiting
        if not self.waiting:
            self.old(number, frame)

    def __enter__(self) -> None:
        self.on = True

    def __exit__(self, *_: object) -> None:
        self.on = False
        if self.waiting:
            self.waiting = False
            self.old(signal.SIGINT, None)
