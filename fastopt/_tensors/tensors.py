"""What an optimizer updates and what it is given, checked: parameters and gradients as kernels see them."""
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from .._formats.blocks import SIZE
from .._formats.catalogue import F32, MASK, Format
from .._formats.choice import parameter_format
from .._kernels.layout import Layout, Slot
from ..storage import coded_bytes
from . import arrays
from .arrays import Array
from .rows import STAND_IN, refuse

TILE_UNIT = 64  # tiles start at multiples of this, so two threads never write into one cache line of an aligned array


class Tensor(NamedTuple):
    """A parameter as the kernels see it: where it is complex, as real and imaginary parts along a last axis of 2."""

    path: str
    group: int
    original: object
    array: Array
    format: Format
    order: tuple[int, ...]
    plain: str  # the format of its array's dtype
    number: int = 0  # among the tensors of its optimizer
    first: int = 0   # the number of its first element, where it is a part of a larger tensor
    complex: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape that the program sees."""
        return self.array.shape[:-1] if self.complex else self.array.shape

    def as_given(self, array: Array) -> Array:
        """An array that goes with it, as the program sees it: complex if it is, where there is such a dtype."""
        return arrays.as_complex(array) if self.complex else array


Place = tuple[int, int]  # the number of a tensor, and that of its first element


def places_of(tensors: Sequence[Tensor], indices: Sequence[int]) -> list[Place]:
    return [(tensors[k].number, tensors[k].first) for k in indices]


class PerTensor(NamedTuple):
    """A state, or what else a step writes beside the parameters: an array for each tensor, and how it is stored."""

    arrays: list[Array]
    formats: list[Format]
    originals: Sequence[object] = ()  # of arrays that were given, None for those that are ours; or nothing

    @property
    def given(self) -> list[tuple[int, object]]:
        """The originals, each with the number of its tensor."""
        return [(k, x) for k, x in enumerate(self.originals) if x is not None]

    @property
    def own(self) -> list[Array]:
        """The arrays that are ours."""
        given = {k for k, _ in self.given}
        return [array for k, array in enumerate(self.arrays) if k not in given]

    def of(self, indices: Sequence[int]) -> "PerTensor":
        """The same of some of the tensors."""
        originals = [self.originals[k] for k in indices] if self.originals else []
        return PerTensor([self.arrays[k] for k in indices], [self.formats[k] for k in indices], originals)

    def then(self, more: "PerTensor") -> "PerTensor":
        """The same of these tensors and then of others."""
        originals = [[*(of.originals or [None]*len(of.arrays))] for of in (self, more)]
        return PerTensor(self.arrays + more.arrays, self.formats + more.formats, originals[0] + originals[1])


def tensor(leaf: object, where: str, group: int, rounding: str = "nearest", number: int = 0) -> Tensor:
    array = arrays.own_view(leaf, where)
    plain = arrays.format_of(array, where, leaf)
    order = arrays.check_parameter(array, leaf, where)
    return Tensor(where, group, leaf, arrays.as_real(array), parameter_format(plain, rounding, where), order,
                  plain.name, number, complex=array.dtype.kind == "c")


def _check_beside(array: Array, leaf: object, of: Tensor, where: str, cast: str, reshape: str, move: str) -> Format:
    """The format of an array that goes with a parameter; what is wrong with its type, shape or place, and cures."""
    format = arrays.format_of(array, where, leaf)  # first: its cure may change the shape
    if (array.dtype.kind == "c") != of.complex:
        raise TypeError(f"{where}: dtype {array.dtype}, but {of.path} is {'complex' if of.complex else 'real'}. {cast}")
    if array.shape != of.shape:
        raise ValueError(f"{where}: shape {array.shape}, but {of.path} has {of.shape}. {reshape}")
    _check_place(array, of, where, move)
    return format


def _check_place(array: Array, of: Tensor, where: str, move: str) -> None:
    if places := arrays.apart(array, of.array):
        raise TypeError(f"{where}: {places[0]}, but {of.path} is {places[1]}. {move}")


BESIDE = "Give an array where its parameter is."


def output(leaf: object, of: Tensor, where: str) -> tuple[Array, Format]:
    """An array that follows a parameter, element for element in memory, and how it is stored."""
    array = arrays.own_view(leaf, where)
    like = "Give an array like numpy.empty_like(parameter)."
    format = _check_beside(array, leaf, of, where, like, "Give an array of that shape.", BESIDE)
    if arrays.check_parameter(array, leaf, where) != of.order:
        raise ValueError(f"{where}: another memory order than {of.path}. {like}")
    return arrays.as_real(array), format


def adopted(leaf: object, of: Tensor, where: str, format: Format | None) -> tuple[Array, Format]:
    """A state that is given, and how it is stored: in this format, or as its dtype says."""
    if format is None or not format.block:
        if of.complex and arrays.own_view(leaf, where).shape == of.array.shape:  # codes of the parts
            of = of._replace(complex=False)
        array, found = output(leaf, of, where)
        if format is not None and found.name != format.name.rstrip("s"):  # stochastic rounding stores alike
            raise TypeError(f"{where}: stored as {found.name}, but {format.name} is asked for. Convert it, or name the "
                            "format that it has.")
        return array, format or found
    array, wanted = arrays.own_view(leaf, where), (coded_bytes(of.array.size),)
    if array.dtype != np.uint8 or array.shape != wanted:
        raise ValueError(f"{where}: shape {array.shape} of {array.dtype}, but {wanted} of uint8 is needed for "
                         f"{of.array.size} numbers in blocks. Make it with fastopt.storage.encode.")
    _check_place(array, of, where, BESIDE)
    arrays.check_parameter(array, leaf, where)
    return array, format


def beside(t: Tensor, name: str) -> str:
    """The path of what goes with a parameter: copy['w'] beside params['w']."""
    return name + t.path[len("params"):]


BACK = "Move it back, or make a new optimizer and load opt.state_dict() into it."
ANEW = ("Change it back; or make a new optimizer, which can load opt.state_dict() where the shape is the same, with "
        "convert=True where the dtype is not.")


def moved(original: Any, of: Tensor, array: Array, where: str) -> Array:
    """A view of an array that a step writes, where it is now; an error where it is not what `array` is a view of.

    The array is the parameter `of`, or goes with it.
    """
    now, array = arrays.own_view(original, where), of.as_given(array)
    if places := arrays.apart(now, array):
        raise TypeError(f"{where}: it is now {places[0]}, but the optimizer was made for an array {places[1]}. {BACK}")
    if (now.dtype, now.shape) != (array.dtype, array.shape):
        raise ValueError(f"{where}: it has become {now.dtype} of shape {now.shape}, but the optimizer was made for "
                         f"{array.dtype} of shape {array.shape}. {ANEW}")
    if not arrays.writable(now):
        raise ValueError(f"{where}: it has become read-only, but it is updated in place. Make it writable again, or "
                         "make a new optimizer of a copy and load opt.state_dict() into it.")
    if arrays.check_parameter(now, original, where) != arrays.memory_order(arrays.as_real(array)):
        raise ValueError(f"{where}: its strides have become {now.strides}, but the optimizer was made for "
                         f"{array.strides}. Change them back, or make a new optimizer and load opt.state_dict() into "
                         "it.")
    if arrays.homeless(original):
        raise ValueError(f"{where}: the array that it is a view of was resized, so that its memory is gone. Make a new "
                         "optimizer of a new view, and load opt.state_dict() into it.")
    return arrays.as_real(now)


def check_one_place(tensors: Sequence[Tensor]) -> None:
    """TypeError where parameters lie in different memories: one launch, or one loop, updates them all."""
    placed = (t for t in tensors if getattr(t.array, "device", None) is not None)  # empty ones are on none
    first = next(placed, tensors[0])
    for t in tensors:
        if places := arrays.apart(t.array, first.array):
            raise TypeError(f"{t.path}: {places[0]}, but {first.path} is {places[1]}. Give the arrays of each an "
                            "optimizer of their own.")


class Gradient(NamedTuple):
    """A gradient as the kernels see it: how it is stored, and the strides of one that is not dense."""

    array: Array
    slot: Slot
    strides: list[int]  # the number of dimensions, extents, strides in bytes; empty where it is dense
    given: Array        # as its library shows it: complex, where it is

    def like(self, t: Tensor) -> bool:
        """Whether it is stored as the array of its parameter is."""
        return not self.slot.strided and self.slot.format.name == t.plain


ABSENT = Gradient(STAND_IN, Slot(F32), [], STAND_IN)


def gradient(leaf: object, of: Tensor, where: str) -> Gradient:
    """Check a gradient against its parameter; TypeError or ValueError with its path."""
    refuse(leaf, where)  # steps in this machine's memory have taken rows apart
    given = arrays.view(leaf, where)
    cast = "Give dL/dx + 1j*dL/dy, a complex array." if of.complex else "Give its real part."
    format = _check_beside(given, leaf, of, where, cast, "Give a gradient of that shape.",
                           "Copy the gradient to where its parameter is.")
    if arrays.homeless(leaf):
        raise ValueError(f"{where}: the array that it is a view of was resized, so that its memory is gone. Give a new "
                         "view.")
    array = arrays.as_real(given)
    axes = [d for d in of.order if array.shape[d] > 1]
    strided = array.size > 1 and arrays.memory_order(array) != of.order
    strides = [len(axes), *(array.shape[d] for d in axes), *(array.strides[d] for d in axes)] if strided else []
    return Gradient(array, Slot(format, strided), strides, given)


def rows_of_masks(leaves: Sequence[Any], tensors: Sequence[Tensor]) -> list[np.ndarray]:
    """Which elements of each tensor change in a step, as rows of bytes in their memory order, from masks, checked."""
    return [_row_of_mask(leaf, t, beside(t, "mask")) for leaf, t in zip(leaves, tensors, strict=True)]


def _row_of_mask(leaf: Any, of: Tensor, where: str) -> np.ndarray:
    array = np.asarray(leaf) if isinstance(leaf, bool) else arrays.on_host(leaf, where)
    try:
        whole = np.broadcast_to(array, of.shape)
    except ValueError as error:
        raise ValueError(f"{where}: shape {array.shape}, but {of.path} has {of.shape}. Give a mask of that shape, or "
                         "one that broadcasts to it.") from error
    if array.dtype.names or (array.dtype != np.bool_ and not np.isin(array, (0, 1)).all()):
        raise ValueError(f"{where}: something in it is neither 0 nor 1, but true and false are needed. Give a boolean "
                         "array, mask != 0 for example.")
    if of.complex:  # its parts share their bit
        whole = np.broadcast_to(whole[..., None], of.array.shape)
    order = [*(d for d in range(whole.ndim) if d not in of.order), *of.order]
    return (whole.transpose(order).reshape(-1) != 0).view(np.uint8)


def spans(written: Iterable[Array]) -> list[tuple[int, int]]:
    """Where the memory that a step writes begins and ends, sorted."""
    return sorted((arrays.address(a), arrays.address(a) + a.nbytes) for a in written if a.size)


def check_apart(gradients: Sequence[Gradient], tensors: Sequence[Tensor], written: Sequence[Array],
                paths: Sequence[str]) -> None:
    """ValueError where a gradient lies in memory that the step writes. It may be its own parameter, just as it lies."""
    taken = spans(written)
    for g, t, where in zip(gradients, tensors, paths, strict=True):
        if not g.array.size or (arrays.address(g.array) == arrays.address(t.array) and g.like(t)):
            continue
        if arrays.touches(taken, *arrays.bounds(g.array)):
            raise ValueError(f"{where}: overlaps memory that the step writes (parameters, state or copies). Give a "
                             "copy: numpy.array(x), or x.clone() of a tensor.")


def check_zeroed(gradients: Sequence[Gradient], tensors: Sequence[Tensor], leaves: Sequence[Any],
                 paths: Sequence[str]) -> None:
    """A gradient that the step zeroes must be an array of its own: writable, dense, in its parameter's memory order."""
    for g, t, leaf, where in zip(gradients, tensors, leaves, paths, strict=True):
        if g.slot.strided:
            raise ValueError(f"{where}: strided, but zero_grads=True needs gradients in the memory order of their "
                             "parameters. Give such ones, or set them to zero yourself.")
        if not arrays.writable(g.array) or arrays.immutable(leaf):
            raise ValueError(f"{where}: read-only, but zero_grads=True would set it to zero. Give a copy, or leave out "
                             "zero_grads.")
        if g.array.size and arrays.address(g.array) == arrays.address(t.array):
            raise ValueError(f"{where}: the parameter itself, but zero_grads=True would set it to zero. Give a copy, "
                             "numpy.array(x).")
    arrays.check_overlap([(where, g.array) for g, where in zip(gradients, paths, strict=True)])


def by_layout(layouts: Iterable[Layout]) -> dict[Layout, list[int]]:
    """{layout: the tensors that have it}."""
    members: dict[Layout, list[int]] = {}
    for k, layout in enumerate(layouts):
        members.setdefault(layout, []).append(k)
    return members


def layouts_of(gradients: Sequence[Gradient], tensors: Sequence[Tensor], others: dict[str, PerTensor],
               zeroed: bool = False, masks: Sequence[Array] = ()) -> list[Layout]:
    """The layout of every tensor: gradient, parameter, states, outputs, and a mask where the step has one."""
    return [layout_of(k, g, t, others, zeroed, masks) for k, (g, t) in enumerate(zip(gradients, tensors, strict=True))]


def layout_of(k: int, g: Gradient, t: Tensor, others: dict[str, PerTensor], zeroed: bool = False,
              masks: Sequence[Array] = ()) -> Layout:
    return Layout((g.slot._replace(zeroed=zeroed), Slot(t.format), *(Slot(of.formats[k]) for of in others.values()),
                   *([Slot(MASK)] if masks else [])))


def parts(format: Format, array: Array, remainder: Array | None = None) -> list[Array]:
    """The arrays in which a slot's numbers lie: one, or two."""
    if format.split:
        return [array, remainder]
    if format.block:
        codes = array.size//(SIZE + 1)*SIZE
        return [arrays.piece(array, 0, codes), arrays.piece(array, codes, array.size)]
    return [array]


def parameter_parts(t: Tensor, remainders: Sequence[Array], k: int) -> list[Array]:
    """The arrays of parameter k; `remainders` holds one for each parameter, or none."""
    return parts(t.format, t.array, remainders[k] if remainders else None)


def columns_of(indices: Sequence[int], gradients: Sequence[Array] | Mapping[int, Array], tensors: Sequence[Tensor],
               others: dict[str, PerTensor], remainders: Sequence[Array],
               masks: Sequence[Array] = ()) -> list[list[Array]]:
    """The arrays of these tensors' slots, column by column, as kernels of their layout find them in a row."""
    return by_columns([[gradients[k], *parameter_parts(tensors[k], remainders, k),
                        *(a for of in others.values() for a in parts(of.formats[k], of.arrays[k])),
                        *masks[k:k + 1]] for k in indices])


def by_columns(rows: list[list[Array]]) -> list[list[Array]]:
    return [list(column) for column in zip(*rows, strict=True)]


def make_table(columns: Sequence[Sequence[Array]], strides: Sequence[Sequence[int]] = (),
               places: Sequence[Place] = ()) -> np.ndarray:
    """A row per tensor: the addresses of its arrays, its place, the strides of its gradient."""
    widest = max(map(len, strides), default=0)
    rows = [[*map(arrays.address, row)] for row in zip(*columns, strict=True)]
    more = [[*of, *[0]*(widest - len(of))] for of in strides] or [[]]*len(rows)
    places = places or [(k, 0) for k in range(len(rows))]
    rows = [[*row, *place, *of] for row, place, of in zip(rows, places, more, strict=True)]
    return np.array(rows, np.int64).reshape(len(rows), len(columns) + 2 + widest)


def make_tiles(sizes: list[int], groups: list[int], size: int, heads: Sequence[int] = ()) -> np.ndarray:
    """(tensor, group, first element, one past the last) of every tile: `size` elements each, behind any head."""
    bounds = [[*([0] if skip else []), *range(skip, n, size), n] if n else []
              for n, skip in zip(sizes, heads or [0]*len(sizes), strict=True)]
    tiles = [(k, groups[k], lo, hi) for k, ends in enumerate(bounds) for lo, hi in pairwise(ends)]
    return np.array(tiles, np.int64).reshape(len(tiles), 4)
