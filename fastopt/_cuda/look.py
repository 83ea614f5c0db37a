"""The arrays on a CUDA device that a step writes, as they were when tables were made; what is done when they move.

A library may give an array other memory (torch's ``data =``, ``set_``, ``share_memory_``) or change its shape in place.
An array of the same kind elsewhere is followed. Anything else is an error that comes before anything is enqueued.
"""
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from .._tensors import arrays
from .._tensors.device_array import DeviceArray
from .._tensors.tensors import BACK, Tensor, beside, moved
from . import driver
from .libraries import library

if TYPE_CHECKING:
    from .backend import CudaBackend


class Sight:
    """An array of another library that a step writes: our view of it, and what its library said of it."""

    def __init__(self, view: DeviceArray, of: Tensor, path: str, put: Callable[[DeviceArray], None]):
        """It is the parameter `of`, or goes with it. `put` makes another view that of the step."""
        self.original, self.view, self.of, self.path, self.put = view.owner, view, of, path, put
        self.facts: Callable[[Any], tuple] = library(view.owner).facts
        self.known = self.facts(view.owner)


def sights(backend: "CudaBackend") -> list[Sight]:
    """The sights of an optimizer's parameters and copies; a `DeviceArray` does not change."""
    found = [(t.array, t, t.path, partial(_put_parameter, backend.tensors, k)) for k, t in enumerate(backend.tensors)]
    found += [(view, t, beside(t, name), partial(slot.arrays.__setitem__, k)) for name, slot in backend.slots.items()
              for k, (t, view) in enumerate(zip(backend.tensors, slot.arrays, strict=True))]
    return [Sight(*of) for of in found if of[0].foreign]


def _put_parameter(tensors: list[Tensor], k: int, view: DeviceArray) -> None:
    tensors[k] = tensors[k]._replace(array=view)


def follow(backend: "CudaBackend") -> None:
    """See parameters and copies where they are now; an error where one is no longer what it was."""
    changed = [(sight, facts) for sight in backend.sights if (facts := sight.facts(sight.original)) != sight.known]
    views = [(sight, _seen(sight, backend.gpu.ordinal)) for sight, _ in changed]
    if others := [(sight, view) for sight, view in views if view.address != sight.view.address]:
        _check(backend, others)
        backend.bound, backend.tables, backend._ahead = None, {}, None  # first: an interrupt may follow
        for sight, view in others:
            sight.put(view)
            sight.view = view
    backend.streams.look([t.original for t in backend.tensors])
    for sight, facts in changed:
        sight.known = facts


def check_still(backend: "CudaBackend", leaves: list) -> None:
    """RuntimeError where a schedule, which was asked after arrays were looked at, has moved one of them."""
    if any(sight.facts(sight.original) != sight.known for sight in backend.sights):
        raise RuntimeError("step: a parameter or a copy moved while a schedule was asked. Let schedules compute "
                           "numbers only.")
    if backend._bound().gradients.like(leaves) not in (None, backend.addresses):
        raise RuntimeError("step: a gradient moved while a schedule was asked. Let schedules compute numbers only.")


def _seen(sight: Sight, ordinal: int) -> DeviceArray:
    """The view of an array now; an error where it is not of the old one's kind."""
    try:
        new = moved(sight.original, sight.of, sight.view, sight.path)
        if new.size and driver.device_of(new.address) != ordinal:
            raise TypeError(f"{sight.path}: it is now on another CUDA device than when the optimizer was made. {BACK}")
    except ValueError as error:
        if str(error).startswith(sight.path):
            raise
        raise ValueError(f"{sight.path}: its memory is gone. {error}") from None
    return new


def _check(backend: "CudaBackend", others: list[tuple[Sight, DeviceArray]]) -> None:
    """What moved can be followed: no graph knows the old memory, and the new one is not that of another array."""
    if backend.streams.capturing() or backend.captured:
        raise RuntimeError(f"{others[0][0].path}: its memory moved, but a graph that is captured writes to the old "
                           "one. Make a new optimizer when all arrays are where they stay, load opt.state_dict() into "
                           "it, and capture its steps.")
    new = {id(sight.view): view for sight, view in others}
    named = [(t.path, t.array) for t in backend.tensors]
    named += [(beside(t, name), a) for name, slot in backend.slots.items()
              for t, a in zip(backend.tensors, slot.arrays, strict=True)]
    named += [(f"remainder of {t.path}", a) for t, a in zip(backend.tensors, backend.remainders, strict=False)]
    arrays.check_overlap([(path, new.get(id(array), array)) for path, array in named])
