"""The arrays on a CUDA device that a step writes, as they were when tables were made of them; and what is done about
those that moved.

A library may give an array other memory (torch's ``data =``, ``set_``, ``share_memory_``) or change its shape in place.
What is of the same kind elsewhere is followed; anything else is an error that comes before anything is enqueued.
"""
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .._tensors import arrays
from .._tensors.device_array import DeviceArray
from .._tensors.tensors import BACK, Slot, beside, moved
from . import driver
from .libraries import library

if TYPE_CHECKING:
    from .backend import CudaBackend


class Sight:
    """An array of another library that a step writes, and what that library said of it."""

    def __init__(self, original: Any, column: "Slot | None", k: int, path: str):
        """`column` is the slot that it is array `k` of; None: it is parameter `k`."""
        self.original, self.column, self.k, self.path = original, column, k, path
        self.facts: Callable[[Any], tuple] = library(original).facts
        self.known = self.facts(original)


def sights(device: "CudaBackend") -> list[Sight]:
    """Those of an optimizer's parameters and copies; a `DeviceArray` does not change."""
    columns: list[tuple[Slot | None, list, str]] = [(None, [t.array for t in device.tensors], "params")]
    columns += [(slot, slot.arrays, name) for name, slot in device.outputs.items()]
    return [Sight(array.owner, column, k, beside(device.tensors[k], name))
            for column, views, name in columns for k, array in enumerate(views) if array.foreign]


def follow(device: "CudaBackend") -> None:
    """See parameters and copies where they are now; ValueError or TypeError where one is no longer what the optimizer was made for."""
    changed = [(sight, sight.facts(sight.original)) for sight in device.sights]
    others = []
    for sight, facts in changed:
        if facts != sight.known:
            old = sight.column.arrays[sight.k] if sight.column else device.tensors[sight.k].array
            new = _seen(sight, old, device.gpu.ordinal)
            if new.address != old.address:
                others.append((sight, new))
    if others:
        _check(device, others)
        device.bound, device.tables, device._ahead = None, {}, None  # first: what an interrupt leaves is looked at again
        for sight, new in others:
            if sight.column:
                sight.column.arrays[sight.k] = new
            else:
                device.tensors[sight.k] = device.tensors[sight.k]._replace(array=new)
    device.streams.look([t.original for t in device.tensors])
    for sight, facts in changed:
        sight.known = facts


def check_still(device: "CudaBackend", leaves: list) -> None:
    """RuntimeError where a schedule, which was asked after arrays were looked at, has moved one of them."""
    if any(sight.facts(sight.original) != sight.known for sight in device.sights):
        raise RuntimeError("step: a parameter or a copy moved while a schedule was asked. Let schedules compute "
                           "numbers only.")
    if device._bound().gradients.like(leaves) not in (None, device.addresses):
        raise RuntimeError("step: a gradient moved while a schedule was asked. Let schedules compute numbers only.")


def _seen(sight: Sight, old: DeviceArray, ordinal: int) -> DeviceArray:
    """The view of an array now; an error where it is not of the old one's kind."""
    try:
        new = moved(sight.original, old, sight.path)
        if new.size and driver.device_of(new.address) != ordinal:
            raise TypeError(f"{sight.path}: it is now on another CUDA device than when the optimizer was made. {BACK}")
    except ValueError as error:
        if str(error).startswith(sight.path):
            raise
        raise ValueError(f"{sight.path}: its memory is gone. {error}") from None
    return new


def _check(device: "CudaBackend", others: list[tuple[Sight, DeviceArray]]) -> None:
    """What moved can be followed: no graph knows the old memory, and the new one is not that of another array."""
    path = others[0][0].path
    if device.streams.capturing() or device.captured:
        raise RuntimeError(f"{path}: its memory moved, but a graph that is captured writes to the old one. Make a new "
                           f"optimizer when all "
                           "arrays are where they stay, load opt.state_dict() into it, and capture its steps.")
    new = {(id(sight.column), sight.k): array for sight, array in others}
    named = [(t.path, new.get((id(None), k), t.array)) for k, t in enumerate(device.tensors)]
    for name, slot in device.slots.items():
        named += [(beside(t, name), new.get((id(slot), k), slot.arrays[k])) for k, t in enumerate(device.tensors)]
    arrays.check_overlap([*named, *((f"remainder of {t.path}", a) for t,
                                    a in zip(device.tensors, device.remainders, strict=False))])
