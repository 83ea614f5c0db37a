"""The ceiling: a loop that moves the bytes of a step and computes next to nothing.

It shares only the thread pool with the package, so that a slower schedule does not lower its own bar: gradient words are read, parameter
and state words are read, changed by one exclusive or, and written, as unsigned integers of their size, in chunks that threads claim.
"""
from functools import cache
from types import SimpleNamespace

import numpy as np
from numba import carray, cfunc, types
from numba.extending import intrinsic

from .memory import claim, word
from .pool import Plan

SIZE, CHUNK, FIRST = 8, 9, 10        # words of the job; the addresses of gradient, parameter and states follow
PAGE = 4096
LARGEST = 131_072                    # elements of a chunk, and at least 16 chunks from 16 x 8,192 elements up: as the package's tiles


def _pointer_to(item):
    @intrinsic
    def pointer(typing, address):
        def emit(context, builder, signature, args):
            return builder.inttoptr(args[0], context.get_value_type(types.CPointer(item)))
        return types.CPointer(item)(types.int64), emit
    return pointer


POINTERS = {1: _pointer_to(types.uint8), 2: _pointer_to(types.uint16), 4: _pointer_to(types.uint32), 8: _pointer_to(types.uint64)}


@cache
def kernel(*sizes: int):
    """Compiled for the item sizes of gradient, parameter and states; up to three states."""
    at = [POINTERS[size] for size in sizes] + [POINTERS[1]]*(5 - len(sizes))
    G, P, A, B, C = at
    states = len(sizes) - 2

    def move(job):
        n, chunk = word(job, SIZE), word(job, CHUNK)
        first = claim(job, 1)*chunk
        while first < n:
            last = min(first + chunk, n)
            g, p = carray(G(word(job, FIRST)), n)[first:last], carray(P(word(job, FIRST + 1)), n)[first:last]
            a, b, c = (carray(A(word(job, FIRST + 2)), n)[first:last], carray(B(word(job, FIRST + 3)), n)[first:last],
                       carray(C(word(job, FIRST + 4)), n)[first:last])
            for i in range(len(g)):
                p[i] ^= g[i]
                if states > 0:
                    a[i] ^= g[i]
                if states > 1:
                    b[i] ^= g[i]
                if states > 2:
                    c[i] ^= g[i]
            first = claim(job, 1)*chunk

    return SimpleNamespace(address=cfunc(types.void(types.int64))(move).address)


def staggered(n: int, dtype: np.dtype, k: int) -> np.ndarray:
    """Filled memory that starts 17 cache lines further into its page for each k: equal offsets would meet in the same cache sets."""
    size = n*np.dtype(dtype).itemsize
    block = np.ones(size + 2*PAGE, np.uint8)
    start = -block.ctypes.data % PAGE + 17*64*k % PAGE
    return block[start:start + size].view(dtype)


class Traffic:
    """Arrays of its own, of these dtypes: gradient, parameter, states."""

    def __init__(self, n: int, dtypes: list[np.dtype], threads: int):
        self.arrays = [staggered(n, dtype, k) for k, dtype in enumerate(dtypes)]
        move = kernel(*(a.itemsize for a in self.arrays))
        chunk = min(LARGEST, max(8_192, -(-n//16)))
        self.words = np.zeros(FIRST + 5, np.int64)
        self.words[[SIZE, CHUNK]] = n, chunk
        self.words[FIRST:FIRST + len(dtypes)] = [a.ctypes.data for a in self.arrays]
        job = SimpleNamespace(address=self.words.ctypes.data, elements=n, tiles=range(-(-n//chunk)))
        self.plan, self.threads = Plan([(move, job)]), threads
        for _ in range(3):
            self()

    @property
    def moved_bytes(self) -> int:
        return sum(a.nbytes for a in self.arrays)*2 - self.arrays[0].nbytes

    def __call__(self) -> None:
        self.plan.run(self.threads)
