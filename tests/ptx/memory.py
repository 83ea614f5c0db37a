"""Memory: buffers at made-up device addresses, what each block has of its own (shared), and the parameters.
Each has ``locate``: where in an array lies what these addresses name? It checks bounds and alignment."""
from bisect import bisect_right
from typing import NamedTuple

import numpy as np

from .races import Clock, Races
from .values import UNSIGNED, PTXError

FIRST_ADDRESS = 0x7F00_0000_0000
GAP = 1 << 20       # between buffers, so that a small overrun is in no buffer
ALIGNMENT = 256     # of every buffer, as cudaMalloc promises
UNWRITTEN = 0xFF    # every byte of memory and registers that nobody wrote: a NaN as a float, so that it shows
SECTOR = np.uint64(32)  # bytes that memory moves at once


class Place(NamedTuple):
    """Those accesses of an instruction that lie in one buffer: ``which`` of them touch the words ``table[rows]``."""

    which: object       # indices of the accesses, or a slice
    table: np.ndarray   # the buffer as rows of words, a row for each place where an access of this size may be
    rows: np.ndarray
    base: int           # the buffer's first address, a multiple of ALIGNMENT
    size: int           # bytes of the buffer


class Memory:
    """Arrays as buffers in global memory, read and written in place. ``find`` is the only way to a buffer: a subclass
    may resolve addresses as it likes."""

    def __init__(self):
        self._next, self._bases, self._buffers = FIRST_ADDRESS, [], []

    def add(self, array, name=""):
        """Give a C-contiguous array (`name` in errors) an address. Kernels write in place."""
        if not array.flags.c_contiguous:
            raise ValueError("only C-contiguous arrays have one address")
        raw, base = array.reshape(-1).view(np.uint8), self._next
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
            if base - GAP < hi and lo < base + raw.size + GAP:
                raise PTXError(f"out of bounds: bytes [{lo - base}, {hi - base}) of {name}, which has {raw.size}")
        raise PTXError(f"out of bounds: address {lo:#x} is in no buffer")

    def locate(self, addresses, size, word):
        """A `Place` for each buffer that these accesses of `size` bytes touch, as rows of words of `word` bytes."""
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
    """Memory that each of `owners` has of its own, addressed from 0."""

    def __init__(self, owners, size, name):
        self.size, self.name, self.stride = size, name, -(-size//32)*32 or 32
        self.raw = np.full(owners*self.stride, UNWRITTEN, np.uint8)

    def locate(self, addresses, owners, size, word):
        """The places in the memory of all owners."""
        beyond = addresses + np.uint64(size) > np.uint64(self.size)
        if beyond.any():
            first = int(addresses[beyond][0])
            raise PTXError(f"out of bounds: bytes [{first}, {first + size}) of {self.name} memory, which has "
                           f"{self.size}")
        flat = addresses + (owners*self.stride).astype(np.uint64)
        return [_place(slice(None), flat, 0, self.raw, size, word)]


def _place(which, addresses, base, raw, size, word):
    if base % size:
        raise PTXError(f"a buffer at {base:#x}, which is no multiple of {size}")
    table = raw[:raw.size//size*size].view(UNSIGNED[8*word]).reshape(-1, size//word)
    rows = ((addresses - np.uint64(base))//np.uint64(size)).astype(np.int64)
    return Place(which, table, rows, base, raw.size)


class Spaces:
    """The state spaces of a launch; `stats` counts the traffic with global memory, and finds races there too.
    `prefetched`: the addresses that were asked for, of each such instruction."""

    def __init__(self, kernel, threads, memory, args, stats):
        self.memory, self.threads, self.stats, self.prefetched = memory, threads, stats, []
        self.traffic = {f"{verb}_{what}": 0 for verb in ("loaded", "stored") for what in ("bytes", "sectors")}
        self.shared = Scratch(threads.blocks, kernel.shared, "shared")
        self.parameters = Scratch(1, kernel.param_bytes, "parameter")
        self._set(kernel.params, args)
        self.clock = Clock(threads.blocks, threads.warps)
        self.races = {space: Races(self.clock, kernel.granule(space))
                      for space in (("shared", "global") if stats else ("shared",))}

    def _set(self, parameters, args):
        if len(args) != len(parameters):
            raise PTXError(f"{len(parameters)} parameters, but {len(args)} arguments")
        for parameter, value in zip(parameters, args, strict=True):
            raw = value if isinstance(value, bytes) else np.asarray(value).tobytes()
            if len(raw) != parameter.bytes:
                raise PTXError(f"parameter {parameter.name} has {parameter.bytes} bytes, but its argument {len(raw)}")
            self.parameters.raw[parameter.offset:parameter.offset + parameter.bytes] = np.frombuffer(raw, np.uint8)

    def locate(self, space, addresses, threads, size, word):
        """The places that these threads access: one if all are equal."""
        wrong = addresses & np.uint64(size - 1)
        if wrong.any():
            raise PTXError(f"misaligned: {size} bytes at {int(addresses[wrong != 0][0]):#x}")
        if space == "global":
            return self.memory.locate(addresses, size, word)
        if space == "param":
            return self.parameters.locate(addresses, np.zeros(1, np.int64), size, word)
        return self.shared.locate(addresses, self.threads.block[threads], size, word)

    def watch(self, space, places, size, threads, stores):
        """Check accesses of these threads for collisions and races, if this space is watched; count the traffic."""
        if len(places) == 1 and places[0].rows.size < threads.size:
            places = [places[0]._replace(rows=np.broadcast_to(places[0].rows, threads.shape))]
        if space in self.races:
            self.races[space].check(places, size, self.threads.group(threads), stores)
        if space == "global" and self.stats:
            sectors = np.empty(threads.size, np.uint64)
            for place in places:
                sectors[place.which] = (np.uint64(place.base) + place.rows.astype(np.uint64)*np.uint64(size))//SECTOR
            pairs = self.threads.warp[threads].astype(np.uint64) << np.uint64(42) | sectors  # an address has 47 bits
            verb = "stored" if stores else "loaded"
            self.traffic[f"{verb}_bytes"] += threads.size*size
            self.traffic[f"{verb}_sectors"] += np.unique(pairs).size


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
        place.table[place.rows] = words[place.which]
