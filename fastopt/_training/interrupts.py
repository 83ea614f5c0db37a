"""Ctrl-C waits for the end of a step of `fit` and its `after_step`, which is the user's code; a second one does not."""
import signal
from contextlib import suppress
from types import FrameType
from typing import Any


class Held:
    """Within ``with held:`` a first Ctrl-C waits for the end, a second one does not; from `install` to `remove`."""

    always = False  # whether it is needed where a step is all that there is to wait for, too

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
