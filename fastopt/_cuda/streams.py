"""On which stream a device's steps run, and in which order with the streams of those who make and use the arrays.

The host waits only after an interrupt: events order streams on the device. Work on one stream needs no event.
"""
import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

from . import driver
from .libraries import LEGACY, Library, by_dlpack, library, own_stream

PER_THREAD = 2  # the handle of a thread's own default stream
_THREAD = threading.local()


def key_of(stream: int) -> tuple[int, object]:
    """What tells a stream from all others, even gone ones: handles are given again, and 2 is another per thread."""
    if stream == 0:
        return -1, None
    if stream == PER_THREAD and not hasattr(_THREAD, "token"):
        _THREAD.token = object()  # no number of the thread: those are given again, too
    return int(driver.do("cuStreamGetId", stream)), _THREAD.token if stream == PER_THREAD else None


class Makers(NamedTuple):
    """Who makes some arrays: streams of their own, and libraries that work on a current one."""

    streams: list[int]
    libraries: list[Library]

    def now(self, device: int) -> list[int]:
        """The streams at this moment."""
        return [*self.streams, *(of.current(device) for of in self.libraries if of.current)]


NOBODY = Makers([], [])


def makers(arrays: Sequence[Any], own: Library) -> Makers:
    """The makers of arrays as their libraries gave them, but the library on whose stream the steps run."""
    libraries = {id(of): of for of in map(library, arrays) if of.current is not None and of is not own}
    streams = {own_stream(x) for x in arrays}
    return Makers([s for s in streams if s is not None], list(libraries.values()))


def hand_over(arrays: Sequence[Any], stream: int) -> None:
    """Tell those who speak DLPack which stream reads their arrays: they let it wait for their own work."""
    for x in arrays:
        x.__dlpack__(stream=stream or LEGACY)


class Streams:
    """The stream of an optimizer's steps, and what it waits for."""

    def __init__(self, gpu: driver.Gpu, parameters: Sequence[Any]):
        self.gpu = gpu
        self.look(parameters)
        self.fence = driver.Event(gpu)                      # between two streams; may be set anew once it is waited for
        self.end = driver.Event(gpu)                        # of the last work, whose stream may be gone
        self.last, self.open = 0, False                     # where that was, and whether its end is still to be marked
        self.key = key_of(0)                                # of that stream
        self.pending: list[tuple[driver.Event, list]] = []  # gradients whose libraries may not take memory back yet
        self.spare: list[driver.Event] = []                 # that were waited for

    def look(self, parameters: Sequence[Any]) -> None:
        """See whose the parameters are, and on which stream."""
        self.library = library(parameters[0])
        self.fixed = own_stream(parameters[0]) or 0         # where that library has no current one
        self.owners = makers(parameters, self.library)
        self.packed = [x for x in parameters if by_dlpack(x)]

    def now(self) -> int:
        """The stream on which the parameters' library works."""
        return self.library.current(self.gpu.ordinal) if self.library.current else self.fixed

    def capturing(self) -> bool:
        """Whether that stream's work is being recorded into a graph."""
        with self.gpu.current():
            return self.gpu.capture(self.now()) != 0

    def outside(self, where: str, why: str, cure: str) -> None:
        """RuntimeError within a capture, of a stream of parameters too, before what the driver would end it for."""
        with self.gpu.current():
            captured = any(map(self.gpu.capture, (self.now(), *self.owners.now(self.gpu.ordinal))))
        if captured:
            raise RuntimeError(f"{where}: the stream is being captured, but {why}. {cure}")

    def others(self, stream: int, others: Sequence[Makers], capture: int, where: str) -> list[int]:
        """The streams of array makers; RuntimeError if a capture has only some: waiting would spread or end it."""
        streams = [s for who in (self.owners, *others) if who != NOBODY for s in who.now(self.gpu.ordinal)
                   if s != stream]
        for other in streams:
            if self.gpu.capture(other) != capture:
                found = "the optimizer's stream" if capture else "a stream of gradients, parameters or grad_factor"
                raise RuntimeError(f"{where}: {found} is being captured, but of two streams that wait for each other "
                                   "the same graph must record both. Make gradients, parameters and factor on the "
                                   f"captured stream, or call {where} outside of the capture.")
        return streams

    def begin(self, stream: int, streams: Sequence[int], capture: int) -> None:
        """Let the stream wait for our last work and for these others."""
        if not capture:
            key = key_of(stream)
            if key != self.key:
                self._mark_end()
                self.end.hold(stream)
            self.last, self.key, self.open = stream, key, True
        for other in streams:
            self.fence.record(other)
            self.fence.hold(stream)

    def _mark_end(self) -> None:
        """Mark the end of the last work where that was not done: on the default stream, and after an interrupt."""
        if self.last == 0:
            self.end.record(0)
        elif self.open:
            if key_of(self.last) == self.key:
                self.end.record(self.last)
            else:  # of another thread, or gone
                with driver.relaxed():
                    driver.do("cuCtxSynchronize")

    def finish(self, stream: int, streams: Sequence[int], packed: list) -> None:
        """After the launches: others may overwrite gradients, or take their memory back, when they have been read."""
        for other in streams:
            self.fence.record(stream)
            self.fence.hold(other)
        if packed:
            event = self.spare.pop() if self.spare else driver.Event(self.gpu)
            event.record(stream)
            self.pending.append((event, packed))
        if stream != 0:
            self.end.record(stream)
        self.open = False

    def release(self) -> None:
        """Let go of the gradients that have been read by now."""
        while self.pending and self.pending[0][0].reached():
            self.spare.append(self.pending.pop(0)[0])
