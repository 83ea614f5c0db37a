"""Steps of some rows of tables: a table of addresses with a line for each run of neighbouring rows that are hit.

Kernels find an element by its number in the whole tensor, so that its random bits are those of any step. Lines differ
in the address of the gradient alone, whose rows lie close together: it is that of a whole gradient.
"""
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numba import types

from .._formats.blocks import SIZE
from .._formats.catalogue import BY_DTYPE, arithmetic
from .._formats.choice import AVERAGE
from .._kernels.atomics import DEFAULT_MODE, mode, set_mode
from .._kernels.compile import compiled
from .._kernels.layout import Layout, Slot
from .._kernels.memory import TILE
from .._tensors import arrays, tensors
from .._tensors.backend import Stored
from .._tensors.rows import STAND_IN, Read, read
from .._tensors.tensors import ABSENT, Place, Tensor
from .jobs import Binding, Bucket, Chance, tile_size


class Hit(NamedTuple):
    """The rows of a tensor that a gradient hits, each once, in order, and what it is there, in their memory order."""

    rows: np.ndarray
    values: np.ndarray  # of two dimensions


def _array(dtype: Any, ndim: int, readonly: bool = True) -> types.Array:
    """Numba's type of an array in C order."""
    return types.Array(getattr(types, np.dtype(dtype).name), ndim, "C", readonly=readonly)


@cache
def _adding(given: np.dtype, wanted: np.dtype) -> Any:
    """add(values, order, places, out): row places[j] of `out` is the sum of rows order[j] of `values`, in this order.

    Places go up from 0.
    """
    def add(values, order, places, out):
        before = mode()
        set_mode(DEFAULT_MODE)
        last = -1
        for j in range(len(order)):
            source, target, first = values[order[j]], out[places[j]], places[j] != last
            for i in range(len(target)):
                target[i] = source[i] if first else target[i] + source[i]
            last = places[j]
        set_mode(before)
    signature = types.void(_array(given, 2), _array(np.int64, 1), _array(np.int64, 1), _array(wanted, 2, False))
    return compiled(f"add rows {given} {wanted}", signature, add)


@cache
def _runs() -> Any:
    """runs(rows, width, size, group, line, step, tensor, lines, tiles) -> how many of both: a line for each run of
    neighbouring rows, and its tiles, elements of the whole tensor, of `size` at most.

    A line is that of the `tensor`, but for the gradient, whose numbers have `step` bytes: moved to where its first
    would be, if it were whole. `line`: the number of the first.
    """
    def runs(rows, width, size, group, line, step, tensor, lines, tiles):
        k = count = tile = 0
        while k < len(rows):
            end = k + 1
            while end < len(rows) and rows[end] == rows[end - 1] + 1:
                end += 1
            first, last = rows[k]*width, (rows[end - 1] + 1)*width
            lines[count] = tensor
            lines[count, 0] += (k*width - first)*step
            while first < last:
                tiles[tile, 0], tiles[tile, 1], tiles[tile, 2] = line + count, group, first
                first = min(first + size, last)
                tiles[tile, 3] = first
                tile += 1
            k, count = end, count + 1
        return count, tile
    writable = _array(np.int64, 2, False)
    signature = types.UniTuple(types.int64, 2)(_array(np.int64, 1), *[types.int64]*5, _array(np.int64, 1), writable,
                                               writable)
    return compiled("runs of rows", signature, runs)


def _hit(indices: np.ndarray, values: np.ndarray, of: Tensor, binding: Binding) -> Hit:
    """The rows once each; their gradients do not lie in the memory that a step writes."""
    axes = [d for d in range(1, values.ndim) if d not in of.order] + [d for d in of.order if d]
    width = values[:1].size if len(values) else 0
    flat = np.require(values.transpose([0, *axes]).reshape(len(values), width), requirements=("C", "A"))
    dtype = np.promote_types(arithmetic(of.format).dtype, flat.dtype)
    if dtype == flat.dtype and (indices[1:] > indices[:-1]).all():
        binding.taken = binding.taken or tensors.spans(binding.written)
        return Hit(indices, flat.copy() if arrays.touches(binding.taken, *arrays.bounds(flat)) else flat)
    order = np.argsort(indices, kind="stable")
    ordered = indices[order]
    new = np.ones(len(order), bool)
    new[1:] = ordered[1:] != ordered[:-1]
    if dtype == flat.dtype and new.all():
        return Hit(ordered, flat.take(order, axis=0))
    places = np.cumsum(new) - 1
    out = np.empty((len(places) and places[-1] + 1, width), dtype)
    _adding(flat.dtype, dtype)(flat, order, places, out)
    return Hit(ordered[new], out)


def rows_apart(leaves: list, paths: Sequence[str], of: Stored, zeroed: bool) -> tuple[list, dict[int, Read]]:
    """The gradients, with a stand-in for each that hits rows alone, and what those say, by tensor."""
    found = {k: pair for k, (leaf, t, where) in enumerate(zip(leaves, of.tensors, paths, strict=True))
             if (pair := read(leaf, t, where)) is not None}
    for k in found:
        _check(k, of, paths[k], zeroed)
    return [STAND_IN if k in found else leaf for k, leaf in enumerate(leaves)] if found else leaves, found


def _check(k: int, of: Stored, where: str, zeroed: bool) -> None:
    """An error where a step of these rows alone would not do what is asked for, or cannot."""
    t = of.tensors[k]
    n, width = t.array.shape[0], t.array[:1].size
    if zeroed:
        raise ValueError(f"{where}: Rows, but zero_grads=True is for gradients that are arrays. Leave it out, and make "
                         "new Rows for each step.")
    if AVERAGE in of.states:
        raise ValueError(f"{where}: Rows, but this optimizer has average=, which changes in all rows at each step. "
                         f"Give an array as gradient, or make an optimizer without average= for {t.path}.")
    for name, slot in of.states.items():
        if slot.formats[k].block and width % SIZE and n > 1:
            raise ValueError(f"{where}: Rows, but {name} of {t.path} is stored in blocks of {SIZE} numbers, and a row "
                             f"has {width}. Store it otherwise, state=None for example, or make rows of a multiple of "
                             f"{SIZE} numbers.")


class RowsBucket(Bucket):
    """The tensors of one layout of which steps hit some rows: to the norm's kernels, the gradients of these rows."""

    def __init__(self, members: list[int], layout: Layout, columns: list[list[np.ndarray]], groups: list[int],
                 coefs: np.ndarray, places: Sequence[Place], chance: Chance):
        super().__init__(layout, columns, groups, coefs, places=places, chance=chance)
        self.members, self.chosen, self.tensors = members, [True]*len(members), self.table
        self.hits: list[tuple[np.ndarray, int]] = []  # for each tensor the rows, and the elements of a row

    def take(self, hits: Sequence[Hit]) -> None:
        """The next step hits these rows. Jobs see it when they are renewed."""
        self.hits[:] = [(hit.rows, hit.values.shape[1]) for hit in hits]
        self.sizes[:] = [hit.values.size for hit in hits]
        self.tensors[:, 0] = [arrays.address(hit.values) for hit in hits]
        self.measures.clear()

    def _choose(self, chosen: Sequence[bool]) -> None:
        self.chosen = list(chosen)
        self._cut([0]*len(self.sizes), 1)

    def renew(self) -> None:
        hits = [(k, *hit) for k, hit in enumerate(self.hits) if self.chosen[k]]
        elements, count = sum(len(rows)*width for _, rows, width in hits), sum(len(rows) for _, rows, _ in hits)
        size, step = -(-tile_size(elements)//SIZE)*SIZE, self.layout.formats[0].itemsize
        self.table = np.empty((count, self.tensors.shape[1]), np.int64)
        tiles, line, tile = np.empty((count + elements//size, len(TILE)), np.int64), 0, 0
        for k, rows, width in hits:
            lines, more = _runs()(rows, width, size, self.groups[k], line, step, self.tensors[k], self.table[line:],
                                  tiles[tile:])
            line, tile = line + lines, tile + more
        self._lay(tiles[:tile], elements)


def _buckets(binding: Binding, values: dict[int, np.ndarray], masks: Sequence[np.ndarray]) -> list["RowsBucket"]:
    """The buckets of steps that hit rows of these tensors, with gradients of these dtypes."""
    of, members = binding.tensors, list(values)
    layouts = [tensors.layout_of(k, ABSENT._replace(slot=Slot(BY_DTYPE[values[k].dtype.name])), of[k],
                                 binding.slots, masks=masks) for k in members]
    buckets: list[RowsBucket] = []
    for layout, places in binding.parted(layouts):
        numbers = [members[place] for place in places]
        columns = tensors.columns_of(numbers, values, of, binding.slots, binding.remainders, masks)
        buckets.append(RowsBucket(numbers, layout, columns, [of[k].group for k in numbers],
                                  binding.coefs[layout.arithmetic.dtype], tensors.places_of(of, numbers),
                                  binding.chance))
    return buckets


def take_rows(binding: Binding, found: dict[int, Read], masks: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Make these rows those of the next step, beside the dense gradients that are bound; what must live until then."""
    hits = {k: _hit(*pair, binding.tensors[k], binding) for k, pair in found.items()}
    kinds = [(k, hit.values.dtype) for k, hit in hits.items()]
    binding.asked = None
    if kinds != binding.kinds:
        dense = [bucket for bucket in binding.buckets if bucket not in binding.rows]
        rows = _buckets(binding, {k: hit.values for k, hit in hits.items()}, masks)
        binding.buckets, binding.rows, binding.plans, binding.kinds = [*dense, *rows], rows, {}, kinds
    for bucket in binding.rows:
        bucket.take([hits[k] for k in bucket.members])
    return [hit.values for hit in hits.values()]
