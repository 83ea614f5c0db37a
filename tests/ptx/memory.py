"""Memory: buffers at made-up device addresses, and the memory that a block (shared) or a thread (local) has of its own.
Both have ``locate``: where in an array lies what these addresses name? It checks bounds and alignment."""
from bisect import bisect_right
from typing import NamedTuple

import numpy as np

from .values import UNSIGNED, PTXError

FIRST_ADDRESS = 0x7F00_0000_0000
GAP = 1 << 20       # between buffers, so that a small overrun is in no buffer
ALIGNMENT = 256     # of every buffer, as cudaMalloc promises
UNWRITTEN = 0xFF    # every byte of memory and registers that nobody wrote: a NaN as a float, so that it shows


class Place(NamedTuple):
    """Those accesses of an instruction that lie in one buffer: ``which`` of them touch the words ``table[rows]``."""

    which: object       # indices of the accesses, or a slice
    table: np.ndarray   # the buffer as rows of words, a row for each place where an access of this size may be
    rows: np.ndarray
    base: int           # the buffer's first address
    skipped: int        # bytes between it and the first row
    size: int           # bytes of the buffer


class Memory:
    """Arrays as buffers in global memory, read and written in place. ``find`` is the only way to a buffer: a subclass
    may resolve addresses as it likes."""

    def __init__(self, first=FIRST_ADDRESS):
        self._next = first
        self._bases = []
        self._buffers = []

    def add(self, array, name=""):
        """Give a C-contiguous array (`name` in errors) an address. Kernels write in place; a read-only one raises."""
        if not array.flags.c_contiguous:
            raise ValueError("only C-contiguous arrays have one address")
        raw = array.reshape(-1).view(np.uint8)
        base = self._next
        self._next += -(-(raw.size + GAP)//ALIGNMENT)*ALIGNMENT
        self._bases.append(base)
        self._buffers.append((base, raw, name or f"buffer {len(self._buffers)}"))
        return base

    def find(self, lo, hi):
        """The buffer that holds all bytes of [lo, hi): its first address and its bytes. If none does: `PTXError`."""
        below = bisect_right(self._bases, lo) - 1
        for base, raw, name in self._buffers[max(below, 0):below + 2]:
            if base <= lo and hi <= base + raw.size:
                return base, raw
            if base - GAP//2 < lo < base + raw.size + GAP//2:
                raise PTXError(f"out of bounds: bytes [{lo - base}, {hi - base}) of {name}, which has {raw.size}")
        raise PTXError(f"out of bounds: address {lo:#x} is in no buffer")

    def locate(self, addresses, size, word):
        """A `Place` for each buffer that these accesses of `size` bytes touch, as rows of words of `word` bytes."""
        check_alignment(addresses, size)
        base, raw = self.find(int(addresses[0]), int(addresses[0]) + size)
        if base <= int(addresses.min()) and int(addresses.max()) + size <= base + raw.size:
            return [_place(slice(None), addresses, base, raw, size, word)]
        return list(self._split(addresses, size, word))

    def _split(self, addresses, size, word):
        order = np.argsort(addresses, kind="stable")
        addresses = addresses[order]
        start = 0
        while start < order.size:
            base, raw = self.find(int(addresses[start]), int(addresses[start]) + size)
            stop = int(np.searchsorted(addresses, np.uint64(base + raw.size)))
            self.find(int(addresses[stop - 1]), int(addresses[stop - 1]) + size)
            yield _place(order[start:stop], addresses[start:stop], base, raw, size, word)
            start = stop


class Scratch:
    """Memory that each of `owners` has of its own, addressed from 0: shared (blocks), local (threads), parameters."""

    def __init__(self, owners, size, name):
        self.size, self.name = size, name
        self.stride = -(-size//32)*32 or 32
        self.raw = np.full(owners*self.stride, UNWRITTEN, np.uint8)

    def flat(self, addresses, owners, size):
        """Where in the memory of all owners these addresses lie."""
        if int(addresses.max()) + size > self.size:
            first = next(int(a) for a in addresses if int(a) + size > self.size)
            raise PTXError(f"out of bounds: bytes [{first}, {first + size}) of {self.name} memory, which has "
                           f"{self.size}")
        return addresses + (owners*self.stride).astype(np.uint64)

    def locate(self, addresses, size, word):
        check_alignment(addresses, size)
        return [_place(slice(None), addresses, 0, self.raw, size, word)]


def _place(which, addresses, base, raw, size, word):
    skipped = -base % size  # a buffer need not start at a multiple of the size of an access
    table = raw[skipped:skipped + max(raw.size - skipped, 0)//size*size].view(UNSIGNED[8*word]).reshape(-1, size//word)
    rows = ((addresses - np.uint64(base + skipped))//np.uint64(size)).astype(np.int64)
    return Place(which, table, rows, base, skipped, raw.size)


def check_alignment(addresses, size):
    wrong = addresses & np.uint64(size - 1)
    if wrong.any():
        raise PTXError(f"misaligned: {size} bytes at {int(addresses[wrong != 0][0]):#x}")


def load(places):
    """The words at these places, one row for each access."""
    if len(places) == 1:
        return places[0].table[places[0].rows]
    words = np.empty((sum(place.rows.size for place in places), places[0].table.shape[1]), places[0].table.dtype)
    for place in places:
        words[place.which] = place.table[place.rows]
    return words


def store(places, words):
    """Write rows of words, one for each access, to these places."""
    for place in places:
        if not place.table.flags.writeable:
            raise PTXError("store to a read-only array")
        place.table[place.rows] = words[place.which]
