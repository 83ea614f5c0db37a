"""What an optimizer updates and what it is given: parameters and gradients as kernels see them, checked; and which share a kernel."""
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from . import arrays
from .arrays import Array
from .formats import Format

LINE = 64  # tiles start at multiples of this, so that two threads never write into one cache line of an aligned array


class Tensor(NamedTuple):
    """A parameter as the kernels see it."""

    path: str
    group: int
    original: object
    array: Array
    format: Format
    order: tuple[int, ...]


def tensor(leaf: object, where: str, group: int) -> Tensor:
    array = arrays.view(leaf, where)
    return Tensor(where, group, leaf, array, arrays.format_of(array, where), arrays.check_parameter(array, leaf, where))


def check_one_place(tensors: Sequence[Tensor]) -> None:
    """TypeError where parameters lie in different memories: one launch, or one loop, updates them all."""
    first = next((t for t in tensors if getattr(t.array, "device", None) is not None), tensors[0])  # empty arrays are on none
    for t in tensors:
        if places := arrays.apart(t.array, first.array):
            raise TypeError(f"{t.path}: {places[0]}, but {first.path} is {places[1]}. Give the arrays of each an optimizer of their own.")


class Gradient(NamedTuple):
    """A gradient as the kernels see it: its format (``*``: strided), and where its elements lie."""

    array: Array
    format: str
    layout: list[int]


def gradient(leaf: object, of: Tensor, where: str) -> Gradient:
    """Check a gradient against its parameter; TypeError or ValueError with its path."""
    array = arrays.view(leaf, where)
    if array.shape != of.array.shape:
        raise ValueError(f"{where}: shape {array.shape}, but {of.path} has {of.array.shape}. Give a gradient of that shape.")
    if places := arrays.apart(array, of.array):
        raise TypeError(f"{where}: {places[0]}, but {of.path} is {places[1]}. Copy the gradient to where its parameter is.")
    format = arrays.format_of(array, where)
    axes = [d for d in of.order if array.shape[d] > 1]
    layout = [len(axes), *(array.shape[d] for d in axes), *(array.strides[d] for d in axes)]
    dense = array.size <= 1 or arrays.memory_order(array) == of.order
    return Gradient(array, format.name if dense else format.name + "*", [] if dense else layout)


def spans(written: Iterable[Array]) -> list[tuple[int, int]]:
    """Where the memory that a step writes begins and ends, sorted."""
    return sorted((arrays.address(a), arrays.address(a) + a.nbytes) for a in written if a.size)


def check_apart(gradients: Sequence[Gradient], tensors: Sequence[Tensor], written: Sequence[Array], paths: Sequence[str]) -> None:
    """A gradient may be its own parameter, element for element; other memory that the step writes it may not touch."""
    taken = spans(written)
    for g, t, where in zip(gradients, tensors, paths, strict=True):
        if not g.array.size or (arrays.address(g.array) == arrays.address(t.array) and g.format == t.format.name):
            continue
        if arrays.touches(taken, *arrays.bounds(g.array)):
            raise ValueError(f"{where}: overlaps memory that the step writes (parameters or state). Give a copy, numpy.array(x).")


def by_formats(formats: Iterable[Sequence[str]]) -> dict[str, list[int]]:
    """{the formats of all slots: the tensors that have them}: each entry is one kernel."""
    members: dict[str, list[int]] = {}
    for k, names in enumerate(formats):
        members.setdefault(" ".join(names), []).append(k)
    return members


def formats_of(gradients: Sequence[Gradient], tensors: Sequence[Tensor], states: dict[str, list[Any]]) -> list[list[str]]:
    """The formats of gradient, parameter and states of every tensor."""
    return [[g.format, t.format.name, *(arrays.format_of(state[k], "state").name for state in states.values())]
            for k, (g, t) in enumerate(zip(gradients, tensors, strict=True))]


def make_table(columns: Sequence[Sequence[Array]], layouts: Sequence[Sequence[int]] = ()) -> np.ndarray:
    """A row per tensor: the addresses of its slots (`columns` holds the arrays of each), then the layout of a strided gradient."""
    widest = max(map(len, layouts), default=0)
    rows = [list(map(arrays.address, slots)) for slots in zip(*columns, strict=True)]
    if widest:
        rows = [[*row, *layout, *[0]*(widest - len(layout))] for row, layout in zip(rows, layouts, strict=True)]
    return np.array(rows, np.int64).reshape(len(rows), len(columns) + widest)


def make_tiles(sizes: list[int], groups: list[int], size: int, heads: Sequence[int] = ()) -> np.ndarray:
    """(tensor, group, first element, one past the last) for every tile: `size` elements each, behind a head where there is one."""
    bounds = [[*([0] if skip else []), *range(skip, n, size), n] for n, skip in zip(sizes, heads or [0]*len(sizes), strict=True) if n]
    counts = [len(b) - 1 for b in bounds]
    owners = np.repeat([k for k, n in enumerate(sizes) if n], counts).astype(np.int64)
    lows, highs = ([x for b in bounds for x in part(b)] for part in (lambda b: b[:-1], lambda b: b[1:]))
    return np.array([owners, np.asarray(groups, np.int64)[owners], lows, highs], np.int64).T.copy()
