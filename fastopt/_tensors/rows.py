"""Gradients that are zero but in some rows of a table: `Rows`, the tensors of torch that mean it, what they must be."""
from typing import TYPE_CHECKING, Any

import numpy as np

from .._formats.catalogue import BF16
from . import arrays

if TYPE_CHECKING:
    from .tensors import Tensor


class Rows:
    """The gradient of a table that is zero except in some rows. A table is a parameter of one dimension or more.

    A step reads and writes these rows of the parameter and of its states, and no others. So weight decay, momentum and
    averages of squares act on a row only in the steps that hit it, as in torch's SparseAdam; the step count is that of
    the optimizer. A row that is hit gets the bits of a step with the whole gradient and with a mask of these rows.

    Parameters
    ----------
    indices : array of whole numbers, of one dimension
        The rows, from 0 on, in any order. If a row stands there several times, its values are added first, one after
        the other, in the float type of the arithmetic.
    values : array
        The gradient of each row: of shape ``(len(indices), *parameter.shape[1:])``, of any supported float type.

    Notes
    -----
    Only for parameters in this machine's memory whose rows lie one behind the other (C order). The norm is that of the
    added values. ``zero_grads=True`` and ``average=`` are refused. States of eight bits are refused, too, unless a row
    is a multiple of 128 numbers. Errors come before anything is written.
    """

    __slots__ = ("indices", "values")

    def __init__(self, indices: Any, values: Any):
        self.indices, self.values = indices, values

    def __repr__(self) -> str:
        return f"Rows({self.indices!r}, {self.values!r})"


Read = tuple[np.ndarray, np.ndarray]  # rows, in any order and several times, and the gradient of each

STAND_IN = np.zeros(0, "V1")  # a gradient that is no array, where arrays are listed: no gradient is of this dtype


def _given(leaf: Any, of: "Tensor", where: str) -> Rows | None:
    """A gradient as `Rows`, if it is that, or a tensor of torch that is sparse in its first dimension alone."""
    if isinstance(leaf, Rows):
        return leaf
    if not arrays.in_coordinates(leaf) or leaf.sparse_dim() != 1:
        return None
    if tuple(leaf.shape) != of.shape:
        raise ValueError(f"{where}: shape {tuple(leaf.shape)}, but {of.path} has {of.shape}. Give a gradient of "
                         "that shape.")
    leaf = leaf.detach()
    return Rows(leaf._indices()[0], leaf._values())


def read(leaf: Any, of: "Tensor", where: str) -> Read | None:
    """The rows that a gradient hits (int64) and their gradients (float32 or float64), as they stand; None: it is dense.

    TypeError or ValueError where they do not fit their parameter.
    """
    given = _given(leaf, of, where)
    if given is None:
        return None
    shape = of.shape
    if not shape:
        raise ValueError(f"{where}: Rows, but {of.path} has no dimension, and so no rows. Give an array of shape ().")
    if 0 in of.order[1:]:
        raise ValueError(f"{where}: Rows, but the rows of {of.path} do not lie one behind the other in memory: its "
                         f"strides are {of.array.strides}. Make the optimizer for numpy.ascontiguousarray(x), or give "
                         "a gradient that is an array.")
    indices = _indices(given.indices, shape[0], of.path, f"{where}.indices")
    values = _values(given.values, (len(indices), *shape[1:]), of, f"{where}.values")
    return indices, values


def _indices(x: Any, n: int, path: str, where: str) -> np.ndarray:
    listed = isinstance(x, (list, tuple, range))
    array = np.array(x, None if len(x) else np.int64) if listed else arrays.on_host(x, where)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise TypeError(f"{where}: {array.dtype} of shape {array.shape}, but whole numbers in one dimension are "
                        "needed: numpy.ravel(x), x.astype(numpy.int64), or of a mask numpy.flatnonzero(x). Convert "
                        "them.")
    wrong = next((int(x) for x in (array.min(), array.max()) if not 0 <= x < n), None) if array.size else None
    if wrong is not None:
        raise ValueError(f"{where}: {wrong} is among them, but {path} has {n} rows, counted from 0. Give only rows of "
                         "it; those that were counted from the end are x % n.")
    return np.require(array, np.int64, ("C", "A"))


def _values(x: Any, shape: tuple[int, ...], of: "Tensor", where: str) -> np.ndarray:
    array = arrays.view(x, where)
    format = arrays.format_of(array, where, x)
    if (array.dtype.kind == "c") != of.complex:
        raise TypeError(f"{where}: dtype {array.dtype}, but {of.path} is {'complex' if of.complex else 'real'}. "
                        f"{'Give complex values' if of.complex else 'Give their real parts'}.")
    if array.shape != shape:
        raise ValueError(f"{where}: shape {array.shape}, but {shape[0]} rows of {of.path} need {shape}. Give a "
                         "gradient for each row.")
    if places := arrays.apart(array, of.array):
        raise TypeError(f"{where}: {places[0]}, but {of.path} is {places[1]}. Copy them to where their parameter is.")
    if arrays.homeless(x):
        raise ValueError(f"{where}: the array that it is a view of was resized, so that its memory is gone. Give a new "
                         "view.")
    if format is BF16:
        return BF16.decode(array.view(np.uint16))
    array = arrays.as_real(array)
    return array if array.itemsize >= 4 else array.astype(np.float32)  # exact


def refuse(leaf: Any, where: str) -> None:
    """TypeError for rows where there are no steps of them."""
    if isinstance(leaf, Rows):
        raise TypeError(f"{where}: Rows, but a step on a CUDA device passes over whole arrays. Give an array, or keep "
                        "the table in this machine's memory, in an optimizer of its own.")


def joined(parts: list[Read]) -> Rows:
    """The sum of several gradients, as `read` gives them."""
    return Rows(*(np.concatenate(of) for of in zip(*parts, strict=True)))
