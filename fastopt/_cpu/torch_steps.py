"""What a step of torch's parameters like the last one needs of Python's objects, read by compiled code.

``p.grad`` makes an object for each gradient that `backward` left, and the entries of ``opt.state`` are dicts: asking
for them takes longer than a step of many small tensors (`benchmarks.studies.torch_steps`).
"""
import ctypes
from collections.abc import Mapping, Sequence
from functools import lru_cache
from operator import attrgetter
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from .._kernels.atomics import add
from .._kernels.compile import compiled, entry
from .._kernels.llvm import I64, code
from .._kernels.memory import INT, WORD, put_word, word
from .._tensors.device_array import address
from . import torch_headers as torchs
from .headers import ITEMS, TYPE
from .ready import OTHER, Ready, _alone

WIDTH = torchs.OBJECT + 1  # the words of an object of a tensor that compiled code reads
TENSORS, OBJECTS, LIST = range(3)  # what `again` reads; LIST: where what it takes for a list begins
GRADIENT = attrgetter("grad")


@lru_cache(maxsize=1)
def _again():
    """again(gradients, ready, mailbox): `alone`, of the gradients that tensors have now; OTHER where one has none."""
    alone = _alone()

    def again(gradients, ready, mailbox):
        tensors, objects = word(gradients, TENSORS), word(gradients, OBJECTS)
        listed = gradients + LIST*WORD
        for k in range(word(listed, ITEMS - 1)):
            autograd = word(word(word(tensors, k), torchs.OBJECT), torchs.AUTOGRAD)
            if autograd == 0:
                return OTHER
            put_word(objects, k*WIDTH + torchs.OBJECT, word(autograd, torchs.GRADIENT))
        return alone(listed, ready, mailbox)
    return compiled("again", types.int64(*[types.int64]*3), again, nogil=False)


@lru_cache(maxsize=1)
def _count():
    """count(tensors, n): count a change of each tensor, as torch does. Those made in inference mode have no counter."""
    def count(tensors, n):
        for k in range(n):
            counter = word(word(word(tensors, k), torchs.OBJECT), torchs.COUNTER)
            if counter != 0:
                add(counter, torchs.CHANGES, 1)
    return compiled("count", types.void(*[types.int64]*2), count, nogil=False)


@code(INT, INT, INT, INT)
def _item(context, builder, function, given, key):
    """Call PyDict_GetItemWithError, by its address: the address of an object, or 0."""
    return builder.call(builder.inttoptr(function, ir.FunctionType(I64, [I64, I64]).as_pointer()), [given, key])


@lru_cache(maxsize=1)
def _held():
    """held(function, dicts, keys, objects, n, count): 1 if n dicts have these objects under these keys, else 0."""
    def held(function, dicts, keys, objects, n, count):
        for k in range(n):
            for j in range(count):
                if _item(function, word(dicts, k), word(keys, j)) != word(objects, k*count + j):
                    return 0
        return 1
    return compiled("held", types.int64(*[types.int64]*6), held, nogil=False)


def _addresses(objects: Sequence[Any]) -> np.ndarray:
    return np.array([id(x) for x in objects], np.int64)


class Gradients:
    """The gradients of tensors, where compiled code finds them in the tensors themselves.

    It puts them into objects that say no more than where each is, for what looks at a list. Nothing keeps a gradient
    alive then, so all of that is one call, which keeps Python's lock.
    """

    def __init__(self, tensors: Sequence[Any], kind: type):
        """`kind` is the type of gradients."""
        self.tensors, self._own = tensors, _addresses(tensors)
        objects = np.zeros((len(tensors), WIDTH), np.int64)
        objects[:, TYPE] = id(kind)
        items = address(objects) + np.arange(len(tensors))*objects.strides[0]
        words = np.zeros(LIST + ITEMS + 1, np.int64)
        words[:LIST] = address(self._own), address(objects)
        words[LIST + ITEMS - 1:] = len(tensors), address(items)
        self._kept, self._address = (objects, items, words), address(words)

    def step(self, ready: Ready, threads: int) -> bool:
        """Take this step if they are like those of the last one, and say whether they were."""
        if ready.alone:
            return ready.look(self._address, entry(_again))
        held = [*map(GRADIENT, self.tensors)]  # other threads may drop them while kernels run without Python
        return ready.step(id(held), threads)

    def changed(self) -> None:
        """Tell autograd that the tensors have changed: a backward pass that needs their old values raises its error."""
        entry(_count)(address(self._own), len(self.tensors))


class Entries:
    """The objects that mappings have under some keys."""

    def __init__(self, mappings: Sequence[Mapping[str, Any]], keys: Sequence[str]):
        self.mappings, self.keys = mappings, keys
        self.objects = self._now()  # kept alive: an address means nothing without its object
        self._words = [_addresses(of) for of in (mappings, keys, self.objects)]
        function = ctypes.cast(ctypes.pythonapi.PyDict_GetItemWithError, ctypes.c_void_p).value
        self._given = function, *map(address, self._words), len(mappings), len(keys)
        self._dicts = all(isinstance(x, dict) for x in mappings)

    def _now(self) -> list[Any]:
        return [of.get(key) for of in self.mappings for key in self.keys]

    def same(self) -> bool:
        """Whether the mappings have these very objects there."""
        if not self._dicts:
            return [*map(id, self._now())] == self._words[2].tolist()
        return entry(_held)(*self._given) == 1
