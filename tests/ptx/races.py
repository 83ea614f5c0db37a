"""Who accessed what last: finds accesses of two threads to the same bytes, one a store, that nothing orders.

The interpreter runs all threads in step, which hides a forgotten barrier. So each granule of memory remembers its last
loads and stores. Two accesses are in order if one thread makes both, if a barrier of their block or of their warp came
between, or if the blocks of both executed a fence since the first one (the usual way from block to block is store,
fence, atomic, fence, load; whether it is the right atomic is not checked). Volatile, relaxed and atomic accesses do not
race.
"""
from collections import namedtuple

import numpy as np

from .values import PTXError

MANY = -1  # more than one thread, warp or block


class Clock:
    """When each block and warp last passed a barrier or a fence, in accesses."""

    def __init__(self, blocks, warps):
        self.now = 1
        self.barrier = np.zeros(blocks, np.int32)
        self.fence = np.zeros(blocks, np.int32)
        self.warp = np.zeros(warps, np.int32)

    def tick(self):
        self.now += 1
        return self.now

    def pass_barrier(self, blocks):
        self.barrier[blocks] = self.tick()

    def pass_fence(self, blocks):
        self.fence[blocks] = self.tick()

    def pass_warp_barrier(self, warps):
        self.warp[warps] = self.tick()


Group = namedtuple("Group", "thread warp block")  # of each access


class Last:
    """The last loads, or the last stores, to each granule of a buffer: when, by whom, whether all were strong."""

    def __init__(self, granules):
        self.time = np.zeros(granules, np.int32)
        self.thread, self.warp, self.block = (np.full(granules, MANY, np.int32) for _ in range(3))
        self.strong = np.zeros(granules, np.bool_)

    def in_order(self, at, group, clock):
        """Whether nobody accessed these granules, or somebody whose access is in order with one of the group's now."""
        time, block = self.time[at], self.block[at]
        same_block = block == group.block
        theirs = np.where(block == MANY, clock.now, clock.fence[block])
        return ((time == 0) | (self.thread[at] == group.thread) | (same_block & (clock.barrier[group.block] > time))
                | ((self.warp[at] == group.warp) & (clock.warp[group.warp] > time))
                | (~same_block & (clock.fence[group.block] > time) & (theirs > time)))

    def add(self, at, group, clock, strong):
        """Remember accesses: in place of earlier ones that are in order with them, else together with them."""
        fresh = self.in_order(at, group, clock)
        self.strong[at] = strong & (self.strong[at] | (fresh & (self.thread[at] != group.thread)))
        for kept, mine in ((self.thread, group.thread), (self.warp, group.warp), (self.block, group.block)):
            new = np.where(fresh | (kept[at] == mine), mine, MANY)
            kept[at] = new
            kept[at[kept[at] != new]] = MANY  # several threads of this instruction at one granule
        self.time[at] = clock.now


class History:
    """The accesses to one buffer."""

    def __init__(self, granules):
        self.loads, self.stores = Last(granules), Last(granules)
        self.constant = np.zeros(granules, np.bool_)  # read by ld.global.nc, which promises that nobody writes


class Races:
    """Checks every access to a memory; `granule` bytes are watched together, those of the smallest access."""

    def __init__(self, clock, granule):
        self.clock, self.granule = clock, granule
        self.histories = {}

    def check(self, places, size, group, *, stores, strong=False, atomic=False, constant=False):
        """Raise `PTXError` if accesses of `size` bytes collide or race with earlier ones, else remember them."""
        self.clock.tick()
        count = size//self.granule
        for place in places:
            history = self.histories.get(place.base)
            if history is None:
                history = self.histories[place.base] = History(place.size//self.granule + 1)
            first = (place.skipped + place.rows*size)//self.granule
            at = (first[:, None] + np.arange(count)).reshape(-1)
            mine = Group(*(np.repeat(x[place.which], count) for x in group))
            self._check(history, at, mine, stores, strong or atomic, atomic, constant)

    def _check(self, history, at, group, stores, strong, atomic, constant):
        if stores and not atomic and np.unique(at).size != at.size:
            raise PTXError("collision: two threads store to one address")
        for last, verb in ((history.stores, "stored"), (history.loads, "loaded"))[:1 + stores]:
            wrong = ~last.in_order(at, group, self.clock) & ~(strong & last.strong[at])
            if wrong.any():
                first = np.flatnonzero(wrong)[0]
                raise PTXError(f"race: thread {group.thread[first]} {'stores' if stores else 'loads'} what "
                               f"{_who(last.thread[at[first]])} {verb}, with no barrier between them")
        if (constant and (history.stores.time[at] > 0).any()) or (stores and history.constant[at].any()):
            raise PTXError("race: memory that the kernel stores to is read by ld.global.nc")
        if constant:
            history.constant[at] = True
        (history.stores if stores else history.loads).add(at, group, self.clock, strong)


def _who(thread):
    return "several threads" if thread == MANY else f"thread {thread}"
