"""On which stream a device's steps run, and in which order with the streams of those who make and use the arrays.

Nothing here lets the host wait: events order streams on the device. Work that is put on one stream needs no event.
"""
from collections.abc import Sequence
from typing import Any, NamedTuple

from . import driver
from .device_arrays import Library, library, own_stream


class Makers(NamedTuple):
    """Who makes some arrays: streams of their own, and libraries that work on a current one."""

    streams: list[int]
    libraries: list[Library]

    def now(self, device: int) -> list[int]:
        """The streams at this moment."""
        return [*self.streams, *(of.current(device) for of in self.libraries if of.current)]


NOBODY = Makers([], [])


def makers(arrays: Sequence[Any], own: Library) -> Makers:
    """Those of arrays as their libraries gave them, beside the library on whose stream the steps run."""
    libraries = {id(of): of for of in map(library, arrays) if of.current is not None and of is not own}
    streams = {own_stream(x) for x in arrays}
    return Makers([s for s in streams if s is not None], list(libraries.values()))


class Streams:
    """The stream of an optimizer's steps, and what it waits for."""

    def __init__(self, gpu: driver.Gpu, parameters: Sequence[Any]):
        self.gpu = gpu
        self.library = library(parameters[0])
        self.fixed = own_stream(parameters[0]) or 0         # where that library has no current one
        self.owners = makers(parameters, self.library)
        self.fence = driver.Event(gpu)                      # between two streams; an event may be set anew once it is waited for
        self.end = driver.Event(gpu)                        # of the last work, whose stream may be gone when it is asked for
        self.last, self.open = 0, False                     # where that was, and whether its end is still to be marked
        self.pending: list[tuple[driver.Event, list]] = []  # gradients whose libraries must not take their memory back yet

    def now(self) -> int:
        """The stream on which the parameters' library works."""
        return self.library.current(self.gpu.ordinal) if self.library.current else self.fixed

    def capturing(self) -> bool:
        """Whether that stream's work is being recorded into a graph."""
        with self.gpu.current():
            return self.gpu.capturing(self.now())

    def begin(self, stream: int, others: Sequence[Makers], capturing: bool) -> list[int]:
        """Let the stream wait for our last work and for those who make gradients and parameters; their streams."""
        streams = [s for who in (self.owners, *others) if who != NOBODY for s in who.now(self.gpu.ordinal) if s != stream]
        if not capturing:
            if stream != self.last:
                if self.open or self.last == 0:  # an interrupt came before the end was marked; the default stream is never gone
                    self.end.record(self.last)
                self.end.hold(stream)
            self.last, self.open = stream, True
        for other in streams:
            self.fence.record(other)
            self.fence.hold(stream)
        return streams

    def finish(self, stream: int, streams: Sequence[int], packed: list) -> None:
        """After the launches: others may overwrite gradients, or take their memory back, when they have been read."""
        for other in streams:
            self.fence.record(stream)
            self.fence.hold(other)
        while self.pending and self.pending[0][0].reached():
            self.pending.pop(0)
        if packed:
            self.pending.append((driver.Event(self.gpu), packed))
            self.pending[-1][0].record(stream)
        if stream != 0:
            self.end.record(stream)
        self.open = False
