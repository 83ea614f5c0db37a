"""A step like the last one: one compiled call looks at the arrays, puts the coefficients in place and runs the kernels.

Python decides nothing then: its code and objects have left the processor's caches when a program comes back from its
own work. The coefficients of the next steps are computed ahead, as no hyperparameter is a function of the step.
"""
import ctypes
import math
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
from numba import types

from .._kernels.compile import compiled, entry
from .._kernels.memory import WORD, get, get_single, put, put_single, record, word
from .._rule.groups import MOST_STEPS, Group
from .._tensors.arrays import address
from .._tensors.backend import Request
from . import pool
from .headers import COUNT, ITEMS, SAME, Headers, _refresh

# The rows are those of the steps from `first` on, so many of them; from the last that is kept on they are all the same
READY = record("headers steps first rows kept plan jobs left", "groups kinds tables")
# Of a float type: the rows, where one goes, its length in units of 4 bytes, and the bytes of a number
TABLE = record("source target singles itemsize")
TABLE_WORDS, SINGLE = len(TABLE), 4
DONE, MISSING, OTHER = range(3)
FEWEST, MOST = 64, 512  # rows that are computed ahead at most: 512, or as many as hold
LARGEST = 2**15         # numbers together (128 KB of float32), but not less than 64


@lru_cache(maxsize=1)
def _prepare():
    """prepare(gradients, ready, mailbox): put addresses and a row in place; MISSING rows, OTHER arrays, or DONE."""
    look = _refresh()

    def prepare(gradients, ready, mailbox):
        row = word(word(ready, READY.steps), 0) + 1 - word(ready, READY.first)
        if row < 0 or row >= word(ready, READY.rows):
            return MISSING
        row, headers = min(row, word(ready, READY.kept) - 1), word(ready, READY.headers)
        if word(gradients, ITEMS - 1) != word(headers, COUNT) or look(gradients, headers) != SAME:
            return OTHER
        for k in range(word(ready, READY.kinds)):
            table = ready + (READY.tables + k*TABLE_WORDS)*WORD
            source, target, singles = word(table, TABLE.source), word(table, TABLE.target), word(table, TABLE.singles)
            for j in range(singles):
                put_single(target, j, get_single(source, row*singles + j))
        return DONE
    return compiled("prepare", types.int64(*[types.int64]*3), prepare, nogil=False)


@lru_cache(maxsize=1)
def _alone():
    """alone(gradients, ready, mailbox): `prepare`, and take the step in this thread, while others wait for Python."""
    prepare, run = _prepare(), pool._run()

    def alone(gradients, ready, mailbox):
        found = prepare(gradients, ready, mailbox)
        if found == DONE:
            run(mailbox, word(ready, READY.plan), word(ready, READY.jobs), word(ready, READY.left), 0, 0,
                word(ready, READY.steps))
        return found
    return compiled("alone", types.int64(*[types.int64]*3), alone, nogil=False)


@lru_cache(maxsize=1)
def _scaled():
    """scaled(ready, mailbox, factor, alone): multiply the gradient's factors; if `alone`, take the step in this thread.

    The factor is the first coefficient of each group.
    """
    run = pool._run()

    def scaled(ready, mailbox, factor, alone):
        row, groups = word(word(ready, READY.steps), 0) + 1 - word(ready, READY.first), word(ready, READY.groups)
        row = min(row, word(ready, READY.kept) - 1)
        for k in range(word(ready, READY.kinds)):
            table = ready + (READY.tables + k*TABLE_WORDS)*WORD
            singles, target = word(table, TABLE.singles), word(table, TABLE.target)
            source = word(table, TABLE.source) + row*singles*SINGLE
            for group in range(groups):
                at = group*(singles//groups)*SINGLE
                if word(table, TABLE.itemsize) == WORD:
                    put(target + at, 0, get(source + at, 0)*factor)
                else:
                    put_single(target + at, 0, np.float32(np.float64(get_single(source + at, 0))*factor))
        if alone:
            run(mailbox, word(ready, READY.plan), word(ready, READY.jobs), word(ready, READY.left), 0, 0,
                word(ready, READY.steps))
    return compiled("scaled", types.void(types.int64, types.int64, types.float64, types.boolean), scaled, nogil=False)


class Ready:
    """The next step, if it asks for no more than the last one and its arrays are alike."""

    def __init__(self, plan: pool.Plan, headers: Headers, groups: Sequence[Group], coefs: dict[np.dtype, np.ndarray],
                 steps: ctypes.c_int64, request: Request):
        """`coefs` holds, for each float type, where kernels read a row for each group. `request`: of the last step."""
        self.masks, self.scaled = request.masks, request.clip_norm is not None or request.factor != 1.0
        self.plain = not self.masks and not self.scaled
        self.plan, self.headers, self.groups, self.steps = plan, headers, groups, steps
        self.count, self.ahead = ctypes.addressof(steps), 1
        self.versions, self.pieces = [(group, -1) for group in groups], [group.pieces for group in groups]
        self.most = max(FEWEST, min(MOST, LARGEST//max(a.size for a in coefs.values())))
        self.tables = [np.zeros((self.most, a.size), dtype) for dtype, a in coefs.items()]
        self.words = np.array([
            self.headers.address, self.count, 0, 0, 0, self.plan.address, len(self.plan.jobs), self.plan.left_at,
            len(groups), len(coefs), *(x for a, table in zip(coefs.values(), self.tables, strict=True)
                          for x in (address(table), address(a), a.nbytes//SINGLE, a.itemsize))], np.int64)
        self.address = address(self.words)
        self.alone = self.plan.largest < pool.SMALL
        self.whole, self.prepare = entry(_alone if self.alone else _prepare), entry(_prepare)

    def suits(self, request: Request) -> bool:
        """Whether a step that asks for this needs the same pieces."""
        return (self.scaled == (request.clip_norm is not None or request.factor != 1.0) and request.limit == math.inf
                and request.masks is self.masks and not request.zero_grads and request.norm is None
                and not request.apart and not request.measure)

    def step(self, leaves: int, threads: int) -> bool:
        """Take a step that asks for nothing, if its arrays, a list at this address, are alike: whether they were."""
        if not self.look(leaves, self.whole):
            return False
        if not self.alone:
            self.plan.run(threads, self.count)
        return True

    def run(self, factor: float, threads: int) -> None:
        """Take a step, after `look`, whose gradients are multiplied by this factor."""
        entry(_scaled)(self.address, pool.POOL.address, factor, self.alone)
        if not self.alone:
            self.plan.run(threads, self.count)

    def look(self, leaves: int, call: Callable[[int, int, int], int] | None = None) -> bool:
        """Put addresses and coefficients in place if arrays are alike, and say whether they were."""
        call = call or self.prepare
        for group, version in self.versions:
            if group.version != version:
                if [of.pieces for of in self.groups] != self.pieces or not all(of.ahead for of in self.groups):
                    return False
                self.ahead = 1
                self._tabulate()
                break
        while (found := call(leaves, self.address, pool.POOL.address)) == MISSING:
            self._tabulate()
        return found == DONE

    def _tabulate(self) -> None:
        """Compute the rows of the next steps, twice as many as before, up to `most`."""
        self.words[READY.rows], first = 0, self.steps.value + 1
        most, settled = max(1, MOST_STEPS + 1 - first), self.groups[0].rule.settled
        same = settled is not None and first - max(group.behind for group in self.groups) >= settled
        kept = 1 if same else min(self.ahead, most)
        rows = np.concatenate([group.rows(first, kept) for group in self.groups], axis=1)
        with np.errstate(over="ignore"):
            for table in self.tables:
                table[:kept] = rows
        self.versions = [(group, group.version) for group in self.groups]
        self.words[READY.first], self.words[READY.kept] = first, kept
        self.words[READY.rows] = most if same else kept
        self.ahead = min(2*self.ahead, FEWEST if any(group.one_by_one for group in self.groups) else self.most)
