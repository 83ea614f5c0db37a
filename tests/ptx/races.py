"""Who accessed what last: finds accesses of two threads to the same bytes, one a store, that nothing orders.

The interpreter runs all threads in step, which hides a forgotten barrier. So each granule of memory remembers its last
loads and stores. Two accesses are in order if one thread makes both, or if a barrier of their block or of their warp
came between. Nothing orders two blocks.
"""
from collections import namedtuple

import numpy as np

from .values import PTXError

MANY = -1  # more than one thread, warp or block


class Clock:
    """When each block and warp last passed a barrier, in accesses."""

    def __init__(self, blocks, warps):
        self.now = 1
        self.block, self.warp = np.zeros(blocks, np.int32), np.zeros(warps, np.int32)

    def tick(self):
        self.now += 1
        return self.now


Group = namedtuple("Group", "thread warp block")  # of each access


class Last:
    """The last loads, or the last stores, to each granule of a buffer: when, and by whom."""

    def __init__(self, granules):
        self.time = np.zeros(granules, np.int32)
        self.by = Group(*(np.full(granules, MANY, np.int32) for _ in Group._fields))

    def in_order(self, at, group, clock):
        """Whether nobody accessed these granules, or somebody whose access is in order with one of the group's now."""
        time = self.time[at]
        return ((time == 0) | (self.by.thread[at] == group.thread)
                | ((self.by.block[at] == group.block) & (clock.block[group.block] > time))
                | ((self.by.warp[at] == group.warp) & (clock.warp[group.warp] > time)))

    def add(self, at, group, clock):
        """Remember accesses: in place of earlier ones that are in order with them, else together with them."""
        fresh = self.in_order(at, group, clock)
        for kept, mine in zip(self.by, group, strict=True):
            new = np.where(fresh | (kept[at] == mine), mine, MANY)
            kept[at] = new
            kept[at[kept[at] != new]] = MANY  # several threads of this instruction at one granule
        self.time[at] = clock.now


class Races:
    """Checks every access to a memory; `granule` bytes are watched together, those of the smallest access."""

    def __init__(self, clock, granule):
        self.clock, self.granule, self.histories = clock, granule, {}

    def check(self, places, size, group, stores):
        """Raise `PTXError` if accesses of `size` bytes collide or race with earlier ones, else remember them."""
        self.clock.tick()
        count = size//self.granule
        for place in places:
            if place.base not in self.histories:
                granules = place.size//self.granule + 1
                self.histories[place.base] = Last(granules), Last(granules)
            first = place.rows*size//self.granule
            at = (first[:, None] + np.arange(count)).reshape(-1)
            mine = Group(*(np.repeat(x[place.which], count) for x in group))
            self._check(self.histories[place.base], at, mine, stores)

    def _check(self, history, at, group, stores):
        if stores and np.unique(at).size != at.size:
            raise PTXError("collision: two threads store to one address")
        for last, verb in zip(history[:1 + stores], ("stored", "loaded"), strict=False):
            wrong = ~last.in_order(at, group, self.clock)
            if wrong.any():
                first = np.flatnonzero(wrong)[0]
                raise PTXError(f"race: thread {group.thread[first]} {'stores' if stores else 'loads'} what "
                               f"{_who(last.by.thread[at[first]])} {verb}, with no barrier between them")
        history[0 if stores else 1].add(at, group, self.clock)


def _who(thread):
    return "several threads" if thread == MANY else f"thread {thread}"
