"""Sums of gradients of several batches, for one step."""
from collections.abc import Sequence
from typing import Any

import numpy as np

from .._formats.catalogue import BF16, arithmetic
from . import arrays
from .rows import Read, joined, read
from .tensors import Gradient, Tensor, gradient


class Sums:
    """An array per parameter, in the float type of its arithmetic, or in a wider one that a gradient has.

    Of gradients that hit some rows alone all rows are kept, to be added by the step.
    """

    def __init__(self, tensors: Sequence[Tensor], paths: Sequence[str], structure: Any, slot: int):
        """`slot` staggers the arrays: see `arrays.zeros_like`."""
        self.tensors, self.paths, self.structure, self.slot = tensors, paths, structure, slot
        self.arrays = [self._zeros(t, arithmetic(t.format).dtype) for t in tensors]
        self.rows: dict[int, list[Read]] = {}

    def add(self, grads: Any, first: bool) -> None:
        """Add a tree of gradients; the first of a step is copied."""
        leaves: list[Any] = []
        self.structure.collect(grads, "grads", leaves)
        found = [read(*of) or gradient(*of) for of in zip(leaves, self.tensors, self.paths, strict=True)]
        self._check_kinds(found, first)
        with np.errstate(all="ignore"):  # infinities and NaN pass through, as in the kernels
            for k, (t, g) in enumerate(zip(self.tensors, found, strict=True)):
                if not isinstance(g, Gradient):
                    self.rows[k].append((g[0].copy(), g[1].copy()))
                    continue
                plain = BF16.decode(g.array.view(np.uint16)) if arrays.format_of(g.array, "grads") is BF16 else g.array
                dtype = np.promote_types(arithmetic(t.format).dtype, plain.dtype)
                if first:
                    self.arrays[k] = self.arrays[k] if self.arrays[k].dtype == dtype else self._zeros(t, dtype)
                    np.copyto(self.arrays[k], plain)
                    continue
                if (wider := np.promote_types(dtype, self.arrays[k].dtype)) != self.arrays[k].dtype:
                    old, self.arrays[k] = self.arrays[k], self._zeros(t, wider)
                    self.arrays[k][...] = old
                np.add(self.arrays[k], plain, out=self.arrays[k])

    def tree(self) -> Any:
        """The sums, in the structure of the parameters."""
        return self.structure.build(joined(self.rows[k]) if k in self.rows else t.as_given(a)
                                    for k, (t, a) in enumerate(zip(self.tensors, self.arrays, strict=True)))

    def _check_kinds(self, found: Sequence[Read | Gradient], first: bool) -> None:
        """An error where a gradient hits some rows alone in one batch of a step, and in another is an array."""
        of_rows = {k for k, g in enumerate(found) if not isinstance(g, Gradient)}
        if first:
            self.rows = {k: [] for k in of_rows}
        for k in of_rows ^ self.rows.keys():
            raise ValueError(f"{self.paths[k]}: Rows in one batch of a step and an array in another, but they are "
                             "added. Give Rows in all of them, or arrays.")

    def _zeros(self, t: Tensor, dtype: np.dtype) -> np.ndarray:
        return arrays.zeros_like(t.array, dtype, t.order, self.slot)
