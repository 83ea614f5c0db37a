"""What an optimizer updates and what it is given: parameters and gradients as kernels see them, checked; and which share a kernel."""
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from .._formats.blocks import SIZE
from .._formats.catalogue import Format
from .._formats.choice import parameter_format
from . import arrays
from .arrays import Array

LINE = 64  # tiles start at multiples of this, so that two threads never write into one cache line of an aligned array


class Tensor(NamedTuple):
    """A parameter as the kernels see it."""

    path: str
    group: int
    original: object
    array: Array
    format: Format
    order: tuple[int, ...]
    plain: str  # the format of its array's dtype


class Slot(NamedTuple):
    """A state, or what else a step writes beside the parameters: an array for each tensor, and how it is stored."""

    arrays: list[Array]
    formats: list[Format]
    originals: Sequence[object] = ()  # of arrays that were given; states are ours


def tensor(leaf: object, where: str, group: int, rounding: str = "nearest") -> Tensor:
    array = arrays.own_view(leaf, where)
    plain = arrays.format_of(array, where, leaf)
    order = arrays.check_parameter(array, leaf, where)
    return Tensor(where, group, leaf, array, parameter_format(plain, rounding, where), order, plain.name)


def _check_beside(array: Array, leaf: object, of: Tensor, where: str, reshape: str, move: str) -> Format:
    """The format of an array that goes with a parameter; what is wrong with its shape or place, and these cures."""
    format = arrays.format_of(array, where,
                              leaf)  # before the shape, which a cure may change: complex numbers are seen in pairs
    if array.shape != of.array.shape:
        raise ValueError(f"{where}: shape {array.shape}, but {of.path} has {of.array.shape}. {reshape}")
    if places := arrays.apart(array, of.array):
        raise TypeError(f"{where}: {places[0]}, but {of.path} is {places[1]}. {move}")
    return format


def output(leaf: object, of: Tensor, where: str) -> tuple[Array, Format]:
    """An array that follows a parameter, element for element in memory, and how it is stored."""
    array = arrays.own_view(leaf, where)
    format = _check_beside(array, leaf, of, where, "Give an array of that shape.", "Give an array where its parameter "
                                                                                   "is.")
    if arrays.check_parameter(array, leaf, where) != of.order:
        raise ValueError(f"{where}: another memory order than {of.path}. Give an array like "
                         f"numpy.empty_like(parameter).")
    return array, format


def beside(t: Tensor, name: str) -> str:
    """The path of what goes with a parameter: copy['w'] beside params['w']."""
    return name + t.path[len("params"):]


BACK = "Move it back, or make a new optimizer and load opt.state_dict() into it."
ANEW = ("Change it back; or make a new optimizer, which can load opt.state_dict() where the shape is the same, with "
        "convert=True "
        "where the dtype is not.")


def moved(original: Any, array: Array, where: str) -> Array:
    """A view of an array that a step writes, where it is now; an error where it is no longer the array that `array` was a view of."""
    now = arrays.own_view(original, where)
    if places := arrays.apart(now, array):
        raise TypeError(f"{where}: it is now {places[0]}, but the optimizer was made for an array {places[1]}. {BACK}")
    if (now.dtype, now.shape) != (array.dtype, array.shape):
        raise ValueError(f"{where}: it has become {now.dtype} of shape {now.shape}, but the optimizer was made for "
                         f"{array.dtype} of shape "
                         f"{array.shape}. {ANEW}")
    if not arrays.writable(now):
        raise ValueError(f"{where}: it has become read-only, but it is updated in place. Make it writable again, or "
                         f"make a new optimizer "
                         "of a copy and load opt.state_dict() into it.")
    if arrays.check_parameter(now, original, where) != arrays.memory_order(array):
        raise ValueError(f"{where}: its strides have become {now.strides}, but the optimizer was made for "
                         f"{array.strides}. Change them "
                         "back, or make a new optimizer and load opt.state_dict() into it.")
    if arrays.homeless(original):
        raise ValueError(f"{where}: the array that it is a view of was resized, so that its memory is gone. Make a new "
                         f"optimizer of a new "
                         "view, and load opt.state_dict() into it.")
    return now


def check_one_place(tensors: Sequence[Tensor]) -> None:
    """TypeError where parameters lie in different memories: one launch, or one loop, updates them all."""
    first = next((t for t in tensors if getattr(t.array, "device", None) is not None),
                 tensors[0])  # empty arrays are on none
    for t in tensors:
        if places := arrays.apart(t.array, first.array):
            raise TypeError(f"{t.path}: {places[0]}, but {first.path} is {places[1]}. Give the arrays of each an "
                            f"optimizer of their own.")


class Gradient(NamedTuple):
    """A gradient as the kernels see it: its format (``*``: strided), and where its elements lie."""

    array: Array
    format: str
    layout: list[int]


def gradient(leaf: object, of: Tensor, where: str) -> Gradient:
    """Check a gradient against its parameter; TypeError or ValueError with its path."""
    array = arrays.view(leaf, where)
    format = _check_beside(array, leaf, of, where, "Give a gradient of that shape.", "Copy the gradient to where its "
                                                                                     "parameter is.")
    if arrays.homeless(leaf):
        raise ValueError(f"{where}: the array that it is a view of was resized, so that its memory is gone. Give a new "
                         f"view.")
    axes = [d for d in of.order if array.shape[d] > 1]
    layout = [len(axes), *(array.shape[d] for d in axes), *(array.strides[d] for d in axes)]
    dense = array.size <= 1 or arrays.memory_order(array) == of.order
    return Gradient(array, format.name if dense else format.name + "*", [] if dense else layout)


def spans(written: Iterable[Array]) -> list[tuple[int, int]]:
    """Where the memory that a step writes begins and ends, sorted."""
    return sorted((arrays.address(a), arrays.address(a) + a.nbytes) for a in written if a.size)


def check_apart(gradients: Sequence[Gradient], tensors: Sequence[Tensor], written: Sequence[Array],
                paths: Sequence[str]) -> None:
    """A gradient may be its own parameter, element for element; other memory that the step writes it may not touch."""
    taken = spans(written)
    for g, t, where in zip(gradients, tensors, paths, strict=True):
        if not g.array.size or (arrays.address(g.array) == arrays.address(t.array) and g.format == t.plain):
            continue
        if arrays.touches(taken, *arrays.bounds(g.array)):
            raise ValueError(f"{where}: overlaps memory that the step writes (parameters, state or copies). Give a "
                             f"copy, numpy.array(x).")


def check_zeroed(gradients: Sequence[Gradient], tensors: Sequence[Tensor], leaves: Sequence[Any],
                 paths: Sequence[str]) -> None:
    """A gradient that the step sets to zero must be an array of its own: writable, without gaps, in its parameter's memory order."""
    for g, t, leaf, where in zip(gradients, tensors, leaves, paths, strict=True):
        if "*" in g.format:
            raise ValueError(f"{where}: strided, but zero_grads=True needs gradients in the memory order of their "
                             f"parameters. Give such "
                             "ones, or set them to zero yourself.")
        if not arrays.writable(g.array) or arrays.immutable(leaf):
            raise ValueError(f"{where}: read-only, but zero_grads=True would set it to zero. Give a copy, or leave out "
                             f"zero_grads.")
        if g.array.size and arrays.address(g.array) == arrays.address(t.array):
            raise ValueError(f"{where}: the parameter itself, but zero_grads=True would set it to zero. Give a copy, "
                             f"numpy.array(x).")
    arrays.check_overlap([(where, g.array) for g, where in zip(gradients, paths, strict=True)])


def by_formats(formats: Iterable[Sequence[str]]) -> dict[str, list[int]]:
    """{the formats of all slots: the tensors that have them}: each entry is one kernel."""
    members: dict[str, list[int]] = {}
    for k, names in enumerate(formats):
        members.setdefault(" ".join(names), []).append(k)
    return members


def formats_of(gradients: Sequence[Gradient], tensors: Sequence[Tensor], slots: dict[str, Slot],
               zeroed: bool = False) -> list[list[str]]:
    """The formats of gradient, parameter and states of every tensor; a gradient that the step sets to zero is marked."""
    return [[g.format + "!"*zeroed, t.format.name, *(slot.formats[k].name for slot in slots.values())]
            for k, (g, t) in enumerate(zip(gradients, tensors, strict=True))]


def parts(format: Format, array: Array, remainder: Array | None = None) -> list[Array]:
    """The arrays in which a slot's numbers lie: one, or two."""
    if format.split:
        return [array, remainder]
    if format.block:
        codes = array.size//(SIZE + 1)*SIZE
        return [arrays.piece(array, 0, codes), arrays.piece(array, codes, array.size)]
    return [array]


def parameter_parts(t: Tensor, remainders: Sequence[Array], k: int) -> list[Array]:
    """The same of tensor k; `remainders` holds one for each, or none."""
    return parts(t.format, t.array, remainders[k] if remainders else None)


def columns_of(indices: Sequence[int], gradients: Sequence[Array], tensors: Sequence[Tensor], slots: dict[str, Slot],
               remainders: Sequence[Array]) -> list[list[Array]]:
    """The arrays of these tensors' slots, column by column, as kernels of their formats find them in a row of the table."""
    return by_columns([[gradients[k], *parameter_parts(tensors[k], remainders, k),
                        *(a for slot in slots.values() for a in parts(slot.formats[k], slot.arrays[k]))]
                       for k in indices])


def by_columns(rows: list[list[Array]]) -> list[list[Array]]:
    return [list(column) for column in zip(*rows, strict=True)]


def make_table(columns: Sequence[Sequence[Array]], layouts: Sequence[Sequence[int]] = (),
               numbers: Sequence[int] = ()) -> np.ndarray:
    """A row per tensor: the addresses of its arrays (`columns` holds the arrays of each), its number, the layout of a strided gradient."""
    widest = max(map(len, layouts), default=0)
    rows = [list(map(arrays.address, row)) for row in zip(*columns, strict=True)]
    rows = [[*row, number] for row, number in zip(rows, numbers or range(len(rows)), strict=True)]
    if widest:
        rows = [[*row, *layout, *[0]*(widest - len(layout))] for row, layout in zip(rows, layouts, strict=True)]
    return np.array(rows, np.int64).reshape(len(rows), len(columns) + 1 + widest)


def make_tiles(sizes: list[int], groups: list[int], size: int, heads: Sequence[int] = ()) -> np.ndarray:
    """(tensor, group, first element, one past the last) for every tile: `size` elements each, behind a head where there is one."""
    bounds = [[*([0] if skip else []), *range(skip, n, size), n] for n,
              skip in zip(sizes, heads or [0]*len(sizes), strict=True) if n]
    counts = [len(b) - 1 for b in bounds]
    owners = np.repeat([k for k, n in enumerate(sizes) if n], counts).astype(np.int64)
    lows, highs = ([x for b in bounds for x in part(b)] for part in (lambda b: b[:-1], lambda b: b[1:]))
    return np.array([owners, np.asarray(groups, np.int64)[owners], lows, highs], np.int64).T.copy()
