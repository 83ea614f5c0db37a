"""The headers of a step's arrays, read straight from NumPy's memory in compiled code.

Asking 148 arrays for ``ctypes.data`` costs 190 us, and for shape, strides and dtype 230: more than the step they
precede. Here one compiled call looks at all arrays of a step:

- Those that the step writes (`Watch`): parameters, copies, states. Whatever a header says (type, dtype, shape, strides,
  address, whether it may be written) must be as it was when the addresses were taken: a program may have moved, resized
  or retyped the array since.
- The gradients (`Headers`): type, dtype, shape and strides must be those of the last step's. Their addresses may be
  others, and are stored where the kernels read them, unless they lie in memory that the step writes.

Anything else than "as before" goes the long way through arrays.py, with its checks and errors. The fields are those of
NumPy's and Python's public C structures (PyArrayObject_fields, PyListObject); `usable` proves the offsets once. Of
tensors of torch `torch_headers` says as much.
"""
from collections.abc import Sequence
from functools import lru_cache
from operator import attrgetter
from typing import Any

import numpy as np
from numba import types
from numba.extending import register_jitable

from .._kernels.atomics import write
from .._kernels.compile import compiled, entry
from .._kernels.memory import WORD, word
from .._tensors.adapters import facts, owners
from .._tensors.device_array import address, extent
from .._tensors.tensors import spans
from . import torch_headers as torchs

HEADER = object.__basicsize__          # PyObject_HEAD; the words below follow it
TYPE, DATA, NDIM, SHAPE, STRIDES, BASE, DTYPE, FLAGS = HEADER//WORD - 1, *(HEADER//WORD + k for k in range(7))
ITEMS = HEADER//WORD + 1               # of a list: behind its length
INT, WRITEABLE = 0xFFFFFFFF, 0x0400    # the bits of a C int; NPY_ARRAY_WRITEABLE
ARRAY, LOCATION, LOCKED, OFFSET, SIZE, FACTS = range(6)  # a row of `Watch`; FACTS: where `row_words` begin
COUNT, EXPECTED, COLUMNS, TARGETS, SPANS, TAKEN, NDARRAY, WATCHED, ROWS, WIDTH = range(10)  # what `refresh` reads
SAME = -1
TRACKED = attrgetter("requires_grad")


def row_words(x: Any, width: int) -> list[int]:
    """What must not change: type, 0 (of a tensor what it is not), dtype, number of dimensions, shape, strides; padded
    to `width` words."""
    words = [id(type(x)), 0, id(x.dtype), x.ndim, *x.shape, *x.strides] if isinstance(x, np.ndarray) else (
        torchs.words_of(x))
    return words + [0]*(width - len(words))


def widest(of: Sequence[Any]) -> int:
    """The words that `row_words` needs for the array of the most dimensions."""
    return 4 + 2*max((a.ndim for a in of), default=0)


def axes_alike(ndim, shape, strides, row):
    """Whether these are the axes of `row_words`; the stride of an axis that has one element does not matter."""
    if ndim != word(row, 3):
        return False
    for d in range(ndim):
        if word(shape, d) != word(row, 4 + d) or (word(strides, d) != word(row, 4 + ndim + d) and word(shape, d) > 1):
            return False
    return True


register_jitable(axes_alike)


def alike(header, row):
    """Whether a header has the type, dtype, shape and strides of `row_words`."""
    if word(header, TYPE) != word(row, 0) or word(header, DTYPE) != word(row, 2):
        return False
    return axes_alike(word(header, NDIM) & INT, word(header, SHAPE), word(header, STRIDES), row)


register_jitable(alike)


def tensor_alike(x, row):
    """As `alike`, of a tensor of torch."""
    impl = word(x, torchs.OBJECT)
    if (word(x, TYPE) != word(row, 0) or word(impl, torchs.KEYS) != word(row, 1)
            or word(impl, torchs.KIND) & torchs.DTYPE_AND_DEVICE != word(row, 2)):
        return False
    ndim, shape = word(impl, torchs.NDIM), impl + torchs.AXES*WORD
    strides = shape + torchs.INLINE*WORD
    if ndim > torchs.INLINE:
        shape = word(shape, 0)
        strides = shape + ndim*WORD
    return axes_alike(ndim, shape, strides, row)


register_jitable(tensor_alike)


def within(start, end, owner):
    """Whether memory from start to end lies in that of an array without gaps, which may have been resized."""
    size, longest, shape, strides = WORD, 0, word(owner, SHAPE), word(owner, STRIDES)  # one element has up to 8 bytes
    for d in range(word(owner, NDIM) & INT):
        if word(shape, d) != 1:  # the longest of the axes spans the array
            longest = max(longest, word(shape, d)*word(strides, d))
            size = longest
    return word(owner, DATA) <= start and end <= word(owner, DATA) + size


register_jitable(within)


def tensor_stays(x, row):
    """Whether a tensor is what a row of `Watch` says, and has the same memory."""
    impl = word(x, torchs.OBJECT)
    storage = word(impl, torchs.STORAGE)
    return (tensor_alike(x, row + FACTS*WORD) and word(impl, torchs.OFFSET) == word(row, OFFSET)
            and word(storage, torchs.DATA) == word(row, LOCATION) and word(storage, torchs.CONTEXT) == word(row, LOCKED)
            and word(storage, torchs.SIZE) == word(row, SIZE))


register_jitable(tensor_stays)


def tensor_first(x, row, behind):
    """The address of a tensor's first element, or SAME where it is not what its row says, or has lost its memory."""
    if not tensor_alike(x, row):
        return SAME
    impl = word(x, torchs.OBJECT)
    storage = word(impl, torchs.STORAGE)
    low = word(storage, torchs.DATA)
    first = low + word(impl, torchs.OFFSET)*word(row, behind + 3)
    start, end = first + word(row, behind), first + word(row, behind + 1)
    return SAME if start < end and (start < low or end > low + word(storage, torchs.SIZE)) else first


register_jitable(tensor_first)


@lru_cache(maxsize=1)
def _refresh():
    """refresh(gradients, job): store the addresses of listed gradients; SAME, or another number where an array differs.

    The job's words: EXPECTED holds per gradient `row_words`, then where its memory begins and ends, seen from its first
    element, the address of its parameter, and of what type its owner is (of NumPy's own: NDARRAY), in COLUMNS words;
    TARGETS where to store its address; SPANS the TAKEN sorted (start, end) that the step writes; ROWS the WATCHED rows
    of `Watch`, of WIDTH words."""
    def refresh(gradients, job):
        width = word(job, WIDTH)
        for k in range(word(job, WATCHED)):
            row = word(job, ROWS) + k*width*WORD
            header = word(row, ARRAY)
            if word(row, FACTS + 1) != 0:
                if not tensor_stays(header, row):
                    return k
                continue
            locked = 0 if word(header, FLAGS) & WRITEABLE else 1
            if word(header, DATA) != word(row, LOCATION) or locked != word(row, LOCKED):
                return k
            if not alike(header, row + FACTS*WORD):
                return k
        if gradients == 0:
            return SAME
        items, columns, taken, n = word(gradients, ITEMS), word(job, COLUMNS), word(job, SPANS), word(job, TAKEN)
        for k in range(word(job, COUNT)):
            header, row, behind = word(items, k), word(job, EXPECTED) + k*columns*WORD, columns - 4
            if word(row, 1) != 0:
                first = tensor_first(header, row, behind)
                if first == SAME:
                    return k
            else:
                if not alike(header, row):
                    return k
                first, owner = word(header, DATA), word(header, BASE)
                if owner != 0:
                    start, end = first + word(row, behind), first + word(row, behind + 1)
                    kind = word(owner, TYPE)
                    if start < end and (kind != word(row, behind + 3) or (
                            kind == word(job, NDARRAY) and not within(start, end, owner))):
                        return k
            start, end, own = first + word(row, behind), first + word(row, behind + 1), word(row, behind + 2)
            if first != own and start < end:
                lo, hi = 0, n
                while lo < hi:  # the first span that ends behind the start
                    middle = (lo + hi)//2
                    if word(taken, 2*middle + 1) <= start:
                        lo = middle + 1
                    else:
                        hi = middle
                if lo < n and word(taken, 2*lo) < end:
                    return k
            write(word(word(job, TARGETS), k), 0, first)
        return SAME
    return compiled("refresh", types.int64(types.int64, types.int64), refresh, nogil=False)  # 1 us: not worth a switch


@lru_cache(maxsize=1)
def _listed():
    """listed(objects, words, n): 1 if a list holds the n objects at these addresses, in this order, else 0."""
    def listed(objects, words, n):
        if word(objects, ITEMS - 1) != n:
            return 0
        items = word(objects, ITEMS)
        for k in range(n):
            if word(items, k) != word(words, k):
                return 0
        return 1
    return compiled("listed", types.int64(*[types.int64]*3), listed, nogil=False)


@lru_cache(maxsize=1)
def usable() -> bool:
    """Whether array headers lie as expected in this interpreter."""
    a = np.zeros((3, 5, 7), np.float32)[1:, ::2, ::-1]
    locked = a.view()
    locked.flags.writeable = False
    pair = [a, locked]

    read = torchs.read
    header = [*(read(id(a), k) for k in (TYPE, DTYPE, DATA, BASE)), read(id(a), NDIM) & INT]
    if header != [id(np.ndarray), id(a.dtype), address(a), id(a.base), 3]:
        return False
    axes = [[read(read(id(a), of), d) for d in range(3)] for of in (SHAPE, STRIDES)]
    items = [read(read(id(pair), ITEMS), k) for k in range(2)]
    locks = [bool(read(id(x), FLAGS) & WRITEABLE) for x in pair]
    return axes == [list(a.shape), list(a.strides)] and items == [id(a), id(locked)] and locks == [True, False]


class Listed:
    """A list of objects, which it keeps alive."""

    def __init__(self, objects: list):
        self.objects, self.words = objects, np.array([id(x) for x in objects], np.int64)
        self.address, self.listed = address(self.words), entry(_listed) if usable() else None

    def same(self, objects: list) -> bool:
        """Whether a list holds these very objects."""
        if self.listed is None:
            return [*map(id, objects)] == self.words.tolist()
        return self.listed(id(objects), self.address, len(self.objects)) == 1


def readable(x: Any) -> bool:
    """Whether compiled code can read where an array lies."""
    return usable() if isinstance(x, np.ndarray) else torchs.readable(x)


class Watch:
    """Arrays that a step writes, as they were when their addresses were taken."""

    def __init__(self, given: Sequence[Any]):
        """`given` holds arrays of any library, as the program knows them."""
        self.arrays: list[Any] = []       # NumPy's, and tensors of torch,
        self.dtypes: list[Any] = []       # kept alive: an identity means nothing without its object
        self.others: list[Any] = []       # of no such library
        self.facts: list[Any] = []
        self.tensors: list[Any] = []
        self.tracked: list[bool] = []     # whether autograd does, of the tensors
        self.width = FACTS
        self.rows = np.zeros((0, FACTS), np.int64)
        self._add([x for a in given for x in (a, *owners(a))])

    def show(self, own: Sequence[np.ndarray]) -> None:
        """Watch arrays of ours, too: the program gets views of them, through which it can reach their bases."""
        self._add([x for a in own for x in owners(a) or [a]])

    def _add(self, new: Sequence[Any]) -> None:
        known = {id(x) for x in (*self.arrays, *self.others)}
        new = [x for x in new if id(x) not in known]
        plain, others = [x for x in new if readable(x)], [x for x in new if not readable(x)]
        tensors = [x for x in plain if not isinstance(x, np.ndarray)]
        self.arrays, self.dtypes = [*self.arrays, *plain], [*self.dtypes, *(a.dtype for a in plain)]
        self.others, self.facts = [*self.others, *others], [*self.facts, *facts(others)]
        self.tensors, self.tracked = [*self.tensors, *tensors], [*self.tracked, *map(TRACKED, tensors)]
        before, self.width = self.rows, max(self.width, FACTS + widest(plain))
        self.rows = np.zeros((len(self.arrays), self.width), np.int64)
        self.rows[:len(before), :before.shape[1]] = before  # as they were when their addresses were taken
        self.rows[len(before):] = np.array(list(map(self._row, plain)), np.int64).reshape(-1, self.width)
        self.job = np.array([*[0]*WATCHED, len(self.rows), address(self.rows), self.width], np.int64)
        self.address = address(self.job)

    def _row(self, x: Any) -> list[int]:
        place = [address(x), int(not x.flags.writeable), 0, 0] if isinstance(x, np.ndarray) else torchs.place_of(x)
        return [id(x), *place, *row_words(x, self.width - FACTS)]

    def changed(self, array: np.ndarray) -> bool:
        """Whether an array, or the one that it is a view of, is not as it was."""
        return any(self._row(a) != row for a, row in zip(self.arrays, self.rows.tolist(), strict=True)
                   if a is array or a is array.base)

    def stays(self) -> bool:
        """Whether all memory is where it was, and of the same type and shape."""
        return entry(_refresh)(0, self.address) == SAME and (not self.others or facts(self.others) == self.facts)

    def others_same(self) -> bool:
        """Whether what no row tells is as it was."""
        return ((not self.others or facts(self.others) == self.facts)
                and (not self.tensors or [*map(TRACKED, self.tensors)] == self.tracked))

    def same(self) -> bool:
        """Whether all arrays are as they were."""
        return entry(_refresh)(0, self.address) == SAME and self.others_same()


class Headers:
    """The gradients that a step was last bound to, and where their addresses go."""

    def __init__(self, leaves: list, views: list[np.ndarray], own: list[int], targets: list[int],
                 written: list[np.ndarray], watch: Watch):
        """`views` are those of the leaves. `own` holds the addresses of the parameters that may be their own gradients,
        `targets` where addresses go."""
        self.known = usable() and all(type(x) is np.ndarray or torchs.readable(x) for leaf in leaves
                                      for x in (leaf, *owners(leaf)))
        if not self.known:
            return
        self.dtypes = [a.dtype for a in leaves]  # kept alive, too
        self.kinds = [np.ndarray if a.base is None else type(a.base) for a in views]
        width = widest(leaves)
        rows = [[*row_words(leaf, width), *extent(view), parameter, id(kind) if leaf is view else view.itemsize]
                for leaf, view, parameter, kind in zip(leaves, views, own, self.kinds, strict=True)]
        taken = spans(written)
        self.tables = [np.array(x, np.int64) for x in (rows, targets, taken)]
        expected, to, taken_at = map(address, self.tables)
        self.watch, self.others, self.count = watch, watch.others, len(leaves)
        self.job = np.array([self.count, expected, width + 4, to, taken_at, len(taken), id(np.ndarray),
                             *watch.job[WATCHED:]], np.int64)
        self.address = address(self.job)
        self.refresh = entry(_refresh)

    def same(self, gradients: list) -> bool:
        """Whether these, and all that the step writes, are like the bound ones; then the addresses are in place."""
        return (self.known and len(gradients) == self.count and self.refresh(id(gradients), self.address) == SAME
                and self.watch.others_same())
