"""The ceiling of this machine: a loop that moves the bytes of a step and computes next to nothing.

It reads every slot and writes every slot but the gradient's: integer additions as wide as the slot, so that no format
has to be decoded. It shares the step's threads and nothing else, so that a slower schedule does not lower its own bar:
no rule and no table. Each thread's share is cut into up to 8 contiguous parts: it helps others when its own are done,
since a static split waits for the thread that a neighbour holds up. The arrays
start at different places in their pages, since equal ones meet in the same cache sets.
"""
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from .._cpu.pool import Plan
from .._formats.catalogue import BF16, F32, F64
from .._kernels import memory
from .._kernels.atomics import BITS, LOW_HALF, take
from .._kernels.compile import Kernel, kernel
from .._kernels.layout import Layout
from .._kernels.llvm import code, pointer, unpacked
from .._kernels.memory import INT, JOB, JOB_WORDS, WORD, word
from .._tensors.arrays import LINE, PAGE, STAGGER, address

PARTS = 8                    # contiguous parts of a thread's share
SMALLEST = 16_384            # elements of a part at least, whole lines of them: a short loop is mostly its ends
OF_SIZE = {f.itemsize: f for f in (BF16, F32, F64)}  # any format of that size: the bits are moved, not decoded


def move(layout: Layout) -> Any:
    """move(row, i): read element i of all slots; write all but the gradient's, plus it (or 1, if it is not as wide)."""
    @code(types.void, layout.row, INT)
    def move(context, builder, row, i):
        at = [pointer(builder, address, ir.IntType(8*f.itemsize), i)
              for address, f in zip(unpacked(builder, row), layout.formats, strict=True)]
        g, *values = [builder.load(place, align=1) for place in at]
        for place, x in zip(at[1:], values, strict=True):
            builder.store(builder.add(x, g if x.type == g.type else ir.Constant(x.type, 1)), place, align=1)
    return move


@cache
def ceiling_kernel(layout: Layout) -> Kernel:
    """The loop for slots of this layout."""
    addresses, move_one = memory.addresses(layout), move(layout)

    def ceiling(job, thread):
        n, part = word(job, JOB_WORDS), word(job, JOB_WORDS + 1)
        row = addresses(job + (JOB_WORDS + 2)*WORD)
        while True:
            taken = take(job, thread)
            if taken == 0:
                break
            for i in range((taken >> BITS)*part, min((taken & LOW_HALF)*part, n)):
                move_one(row, i)
    return kernel(f"ceiling {layout}", ceiling)


def staggered(n: int, dtype: np.dtype, k: int) -> np.ndarray:
    """Ones, every page touched, that start 17 cache lines further into a page for each k."""
    size = n*np.dtype(dtype).itemsize
    block = np.ones(size + 2*PAGE, np.uint8)
    start = -address(block) % PAGE + k*STAGGER % PAGE
    return block[start:start + size].view(dtype)


class Traffic:
    """A step's traffic on its own arrays of these dtypes: gradient, parameter, states. A call moves the bytes once."""

    def __init__(self, n: int, dtypes: Sequence[np.dtype], threads: int):
        self.arrays = [staggered(n, dtype, k) for k, dtype in enumerate(dtypes)]
        self.kernel = ceiling_kernel(Layout.of(*(OF_SIZE[a.itemsize] for a in self.arrays)))
        part = -(-max(SMALLEST, -(-n//(PARTS*threads)))//LINE)*LINE
        self.extents, self.elements, self.threads = np.diff([*range(0, n, part), n]), n, threads
        self.tiles = self.extents
        self.words = np.zeros(JOB_WORDS + 2 + len(self.arrays), np.int64)
        self.words[[JOB.count, JOB.batch]] = len(self.extents), 1
        self.words[JOB_WORDS:] = [n, part, *(address(a) for a in self.arrays)]
        self.address = address(self.words)
        self.plan = Plan([(self.kernel, self)])
        for _ in range(3):
            self()

    @property
    def moved_bytes(self) -> int:
        return sum(a.nbytes for a in self.arrays)*2 - self.arrays[0].nbytes

    def __call__(self) -> None:
        self.plan.run(self.threads)
