"""A tree of NumPy float arrays as one float64 vector and back, and checks of what functions of the tree return."""
from typing import Any

import numpy as np

from .. import trees
from .._checks import cures
from .._checks.numbers import interval

DTYPES = (np.float64, np.float32, np.float16)
EPS = float(np.finfo(np.float64).eps)
UNIT = interval("(0, 1)")


def precision(array: np.ndarray) -> float:
    """The relative spacing of an array's numbers; that of float64 where they are whole numbers."""
    return float(np.finfo(array.dtype).eps) if array.dtype.kind == "f" and array.size else EPS


def power_of_two(x: Any) -> Any:
    """The nearest powers of two. Adding one to a float is exact, unless the sum reaches the next power of two."""
    return np.exp2(np.round(np.log2(x)))


def coordinate(k: int, shape: tuple[int, ...]) -> str:
    """The index of the k-th element of an array, as Python writes it; nothing for an array without axes."""
    return f"[{', '.join(str(i) for i in np.unravel_index(k, shape))}]" if shape else ""


def numbers(x: Any, what: str, needed: str, kinds: str = "fiu", one: bool = False) -> np.ndarray:
    """What a function returned, as an array; TypeError where that has no numbers, or more than the one needed."""
    array = np.asarray(x)
    if x is None or array.dtype.kind not in kinds or not array.size or (one and array.size > 1):
        found = f"an array of {x.dtype} and shape {x.shape}" if isinstance(x, np.ndarray) else f"a {type(x).__name__}"
        raise TypeError(f"{what} is {found}, but {needed}")
    return array


def check_finite(array: np.ndarray, where: str, error: type[Exception]) -> None:
    """Raise the error where an element is NaN or infinite. It names the first one."""
    bad = np.flatnonzero(~np.isfinite(array))
    if len(bad):
        raise error(f"{where}{coordinate(int(bad[0]), array.shape)} is {array.flat[bad[0]]}, the first of {len(bad):,} "
                    "elements that are not finite. Give finite numbers.")


class Flat:
    """A point: a tree of float64, float32 or float16 arrays, and `vector`, its elements in float64.

    The vector holds leaf after leaf, each in C order. The arrays given are never handed on: every tree that `tree`
    builds has new ones, of the shapes and dtypes of the first.
    """

    def __init__(self, w: Any, where: str):
        leaves: list[tuple[str, Any]] = []
        self.where, self.structure = where, trees.structure(w, "w", leaves)
        for path, leaf in leaves:
            if not isinstance(leaf, np.ndarray) or leaf.dtype not in DTYPES:
                found = f"{leaf.dtype} array" if isinstance(leaf, np.ndarray) else type(leaf).__name__
                raise TypeError(f"{where}: {path} is a {found}, but a NumPy array of float64, float32 or float16 is "
                                f"needed. {cures.of_leaf(leaf)}")
            check_finite(leaf, f"{where}: {path}", ValueError)
        self.paths, arrays = [path for path, _ in leaves], [leaf for _, leaf in leaves]
        self.shapes, self.dtypes = [a.shape for a in arrays], [a.dtype for a in arrays]
        self.edges = np.cumsum([0, *(a.size for a in arrays)])
        self.size = int(self.edges[-1])
        if self.size == 0:
            raise ValueError(f"{where}: w has no elements, but at least one is needed. Give the parameters.")
        self.vector, self.eps = _joined(arrays)
        self.norm = float(np.linalg.norm(self.vector))

    def _cut(self, vector: np.ndarray, rows: tuple[int, ...] = ()) -> list[np.ndarray]:
        """The part of each leaf along the last axis, in its shape."""
        parts = zip(self.edges, self.edges[1:], self.shapes, strict=False)
        return [vector[..., a:b].reshape(rows + shape) for a, b, shape in parts]

    def tree(self, vector: np.ndarray) -> Any:
        """A new tree like w from a vector; its arrays are complex if the vector is."""
        kinds = [vector.dtype]*len(self.dtypes) if vector.dtype.kind == "c" else self.dtypes
        return self.structure.build(part.astype(kind) for part, kind in zip(self._cut(vector), kinds, strict=True))

    def columns(self, matrix: np.ndarray, rows: tuple[int, ...]) -> Any:
        """A tree of float64 arrays of shape rows + leaf.shape, from a matrix with a column for each element of w."""
        return self.structure.build(part.copy() for part in self._cut(matrix, rows))

    def element(self, k: int) -> str:
        """The path of the k-th element of the vector."""
        leaf = int(np.searchsorted(self.edges, k, "right")) - 1
        return self.paths[leaf] + coordinate(k - int(self.edges[leaf]), self.shapes[leaf])

    def collect(self, tree: Any, what: str, error: type[Exception] = FloatingPointError) -> tuple[np.ndarray, float]:
        """The float64 vector of a tree in the structure and shapes of w, and the coarsest precision of its leaves."""
        if tree is None:
            raise TypeError(f"{self.where}: {what} is None, but arrays like those of w are needed. Return them.")
        leaves: list[Any] = []
        self.structure.collect(tree, f"{self.where}: {what}", leaves)
        arrays = [np.asarray(leaf) for leaf in leaves]
        for array, path, shape in zip(arrays, self.paths, self.shapes, strict=True):
            at = f"{self.where}: {what}{path[1:]}"
            if array.dtype.kind not in "fiu":
                cure = "Return its real part, x.real." if array.dtype.kind == "c" else cures.of_dtype(array, None)
                raise TypeError(f"{at} has the dtype {array.dtype}, but real numbers are needed. {cure}")
            if array.shape != shape:
                raise ValueError(f"{at} has the shape {array.shape}, but {path} has {shape}. Give an element for each.")
            check_finite(array, at, error)
        return _joined(arrays)

    def gradient(self, grad: Any, vector: np.ndarray) -> tuple[np.ndarray, float]:
        """grad at a vector, as `collect` returns it."""
        return self.collect(grad(self.tree(vector)), "grad(w)")


def _joined(arrays: list[np.ndarray]) -> tuple[np.ndarray, float]:
    return np.concatenate([a.ravel() for a in arrays]).astype(np.float64), max(precision(a) for a in arrays)
