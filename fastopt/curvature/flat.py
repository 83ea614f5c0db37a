"""Trees of NumPy float arrays as one float64 vector and back, for what asks for vectors; what functions of a tree return, checked."""
from typing import Any

import numpy as np

from .. import _trees as trees
from .._checks import cures as advice

KINDS = (np.float64, np.float32, np.float16)
EPS = float(np.finfo(np.float64).eps)


def precision(array: np.ndarray) -> float:
    """The relative spacing of an array's numbers; that of float64 where they are whole numbers."""
    return float(np.finfo(array.dtype).eps) if array.dtype.kind == "f" and array.size else EPS


def power_of_two(x: np.ndarray) -> np.ndarray:
    """The nearest powers of two: adding one to a number of any format is exact, but where the sum reaches the next binade."""
    return np.exp2(np.round(np.log2(x)))


def coordinate(k: int, shape: tuple[int, ...]) -> str:
    """Where the k-th element of an array is, as it is written in Python; nothing for an array without axes."""
    return f"[{', '.join(str(i) for i in np.unravel_index(k, shape))}]" if shape else ""


class Flat:
    """A point: a tree of float64, float32 or float16 arrays and its float64 vector, leaf after leaf, each in C order.

    The arrays given are never handed on: every tree that `tree` builds has new ones, of the same shapes and dtypes.
    """

    def __init__(self, w: Any, where: str):
        leaves: list[tuple[str, Any]] = []
        self.where, self.structure = where, trees.structure(w, "w", leaves)
        for path, leaf in leaves:
            if not isinstance(leaf, np.ndarray) or leaf.dtype not in KINDS:
                found = f"{leaf.dtype} array" if isinstance(leaf, np.ndarray) else type(leaf).__name__
                raise TypeError(f"{where}: {path} is a {found}, but a NumPy array of float64, float32 or float16 is "
                                f"needed. "
                                f"{advice.of_leaf(leaf)}")
            check_finite(leaf, f"{where}: {path}", ValueError)
        self.paths, arrays = [path for path, _ in leaves], [leaf for _, leaf in leaves]
        self.shapes, self.dtypes = [a.shape for a in arrays], [a.dtype for a in arrays]
        self.edges = np.cumsum([0, *(a.size for a in arrays)])
        self.size = int(self.edges[-1])
        if self.size == 0:
            raise ValueError(f"{where}: w has no elements, but at least one is needed. Give the parameters.")
        self.vector = np.concatenate([a.ravel() for a in arrays]).astype(np.float64)
        self.eps = max(precision(a) for a in arrays)
        self.norm = float(np.linalg.norm(self.vector))

    def _cut(self, vector: np.ndarray) -> list[np.ndarray]:
        return [vector[..., a:b] for a, b in zip(self.edges, self.edges[1:], strict=False)]

    def tree(self, vector: np.ndarray) -> Any:
        """A new tree like w from a vector; complex where the vector is."""
        kinds = [vector.dtype]*len(self.dtypes) if vector.dtype.kind == "c" else self.dtypes
        parts = zip(self._cut(vector), self.shapes, kinds, strict=True)
        return self.structure.build(part.reshape(shape).astype(kind) for part, shape, kind in parts)

    def columns(self, matrix: np.ndarray, rows: tuple[int, ...]) -> Any:
        """A tree of float64 arrays rows + leaf's shape, from a matrix with a column for each element of w."""
        parts = zip(self._cut(matrix), self.shapes, strict=True)
        return self.structure.build(np.array(part.reshape(rows + shape)) for part, shape in parts)

    def element(self, k: int) -> str:
        """The path of the k-th element of the vector."""
        leaf = int(np.searchsorted(self.edges, k, "right")) - 1
        return self.paths[leaf] + coordinate(k - int(self.edges[leaf]), self.shapes[leaf])

    def collect(self, tree: Any, what: str, error: type[Exception] = FloatingPointError) -> tuple[np.ndarray, float]:
        """The float64 vector of a tree in w's structure and shapes, and the coarsest precision of its leaves."""
        if tree is None:
            raise TypeError(f"{self.where}: {what} is None, but arrays like those of w are needed. Return them.")
        leaves: list[Any] = []
        self.structure.collect(tree, f"{self.where}: {what}", leaves)
        arrays = [np.asarray(leaf) for leaf in leaves]
        for array, path, shape in zip(arrays, self.paths, self.shapes, strict=True):
            at = f"{self.where}: {what}{path[1:]}"
            if array.dtype.kind not in "fiu":
                cure = "Return its real part, x.real." if array.dtype.kind == "c" else advice.of_dtype(array, None)
                raise TypeError(f"{at} has the dtype {array.dtype}, but real numbers are needed. {cure}")
            if array.shape != shape:
                raise ValueError(f"{at} has the shape {array.shape}, but {path} has {shape}. Give an element for each.")
            check_finite(array, at, error)
        return np.concatenate([a.ravel() for a in arrays]).astype(np.float64), max(precision(a) for a in arrays)

    def gradient(self, grad: Any, vector: np.ndarray) -> tuple[np.ndarray, float]:
        """What `collect` makes of grad at a vector."""
        return self.collect(grad(self.tree(vector)), "grad(w)")


def check_finite(array: np.ndarray, where: str, error: type[Exception]) -> None:
    """Raise the error where an element is NaN or infinite, naming the first."""
    bad = np.flatnonzero(~np.isfinite(array))
    if len(bad):
        raise error(f"{where}{coordinate(int(bad[0]), array.shape)} is {array.flat[bad[0]]}, the first of {len(bad):,} "
                    f"elements that are "
                    "not finite. Give finite numbers.")
