"""The gradients of this rank, checked and put where ranks add them, and which of them some rank has."""
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import trees
from .._checks.numbers import check_option
from .._formats.catalogue import BF16
from .._tensors import arrays
from .._tensors.rows import Rows
from .._tensors.tensors import gradient
from ..optimizer import RAISE
from .memory import Memory
from .ranks import UNDER_WAY, Made, Ranks, tried, wait


def agreed(ranks: Ranks, memory: Memory, make: Callable[[], Made], grads: Any, missing: str,
           where: str) -> tuple[Made, tuple[int, ...]]:
    """What a function returns, and the pieces that have gradients on some rank, which are in the buffers then.

    An error on one rank, of the function or of gradients, is an error on all.
    """
    def checked() -> tuple[Made, list[np.ndarray | None]]:
        check_option("missing", missing, (RAISE, "skip"), where)
        return make(), [] if grads is None else _read(memory, grads, missing)
    made, error = tried(checked)
    found, flags = made[1] if made else [], np.ones(1 + len(memory.tensors), np.uint8)
    flags[0] = error is not None
    if found:
        flags[1:] = [g is not None for g in found]
    wait(UNDER_WAY)  # of a step that an error has left: it uses the same buffers
    telling = ranks.any(flags)
    with np.errstate(all="ignore"):  # infinities and NaN pass through, as in the kernels
        for g, target in zip(found, memory.views(memory.sums) if found else (), strict=True):
            if g is None:
                target[...] = 0
            elif arrays.address(g) != arrays.address(target):
                np.copyto(target, g)
    wait([telling])
    if flags[0]:
        ranks.agreed(made, error)
    pieces, has = range(len(memory.pieces)), flags[1:].tolist()
    return made[0], tuple(pieces if all(has) else [j for j in pieces if has[memory.pieces[j].tensor]])  # type: ignore


def _read(memory: Memory, grads: Any, missing: str) -> list[np.ndarray | None]:
    """Gradients as they are to be copied, or None."""
    leaves, found = list[Any](), list[np.ndarray | None]()
    memory.structure.collect(trees.filled(memory.structure, grads) if missing != RAISE else grads, "grads", leaves)
    for leaf, t, path in zip(leaves, memory.tensors, memory.paths, strict=True):
        if isinstance(leaf, Rows):
            raise TypeError(f"{path}: Rows, but ranks add whole arrays. Give an array; or give {t.path} an optimizer "
                            "of its own on every rank, and that the rows of all, by comm.allgather.")
        g = None if leaf is None else gradient(leaf, t, path).array
        found.append(BF16.decode(g.view(np.uint16)) if g is not None and arrays.format_of(g, path) is BF16 else g)
    return found
