"""Sums of gradients of several batches, for one step."""
from collections.abc import Sequence
from typing import Any

import numpy as np

from .._formats.catalogue import BF16, arithmetic
from . import arrays
from .tensors import Tensor, gradient


class Sums:
    """An array per parameter, in the float type of its arithmetic, or in a wider one that a gradient has."""

    def __init__(self, tensors: Sequence[Tensor], paths: Sequence[str], structure: Any, slot: int):
        """`slot` staggers the arrays: see `arrays.zeros_like`."""
        self.tensors, self.paths, self.structure, self.slot = tensors, paths, structure, slot
        self.arrays = [self._zeros(t, arithmetic(t.format).dtype) for t in tensors]

    def add(self, grads: Any, first: bool) -> None:
        """Add a tree of gradients; the first of a step is copied."""
        leaves: list[Any] = []
        self.structure.collect(grads, "grads", leaves)
        found = [gradient(leaf, t, path) for leaf, t, path in zip(leaves, self.tensors, self.paths, strict=True)]
        with np.errstate(all="ignore"):  # infinities and NaN pass through, as in the kernels
            for k, (t, g) in enumerate(zip(self.tensors, found, strict=True)):
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
        return self.structure.build(t.as_given(a) for t, a in zip(self.tensors, self.arrays, strict=True))

    def _zeros(self, t: Tensor, dtype: np.dtype) -> np.ndarray:
        return arrays.zeros_like(t.array, dtype, t.order, self.slot)
