"""Other ways to take the same step on a CUDA device: as torch ships it, and as people write it with CuPy.

One entry each in `RIVALS`, made and used like those of `rivals`: from arrays in this machine's memory, of which they
make copies on the current device. They work on their library's current stream, the default one if nobody changed it.
"""
import importlib
import re
import sys
from contextlib import suppress

from ..optimizers import ALL
from .rivals import EXPRESSIONS, FLOATS, FUSED, TORCH, Rival, System, counted, first, folded, torch

WHERE = "template <class T> __device__ T where(bool condition, T yes, T no) { return condition ? yes : no; }"


def cupy(lines, rule, hyper, tensors, grads, threads):
    """One elementwise kernel for the whole step, from the lines that numexpr gets too."""
    library = importlib.import_module("cupy")
    at, slots = folded(rule, hyper), ("p", *ALL[rule].rule.state)
    operation = "; ".join(f"{name} = {expression}" for name, expression in lines)
    names = [k for k in at(1) if re.search(rf"\b{k}\b", operation)]
    kernel = library.ElementwiseKernel(", ".join(f"T {k}" for k in ("g", *names)), ", ".join(f"T {k}" for k in slots),
                                       operation, f"{rule}_step", preamble=WHERE)
    arrays = [[library.asarray(a) for a in of] for of in tensors]

    def step(t, grads):
        c = at(t)
        values = [c[k] for k in names]
        for g, written in zip(grads, arrays, strict=True):
            kernel(g, *values, *written)

    rival = counted(step, first(arrays), [library.asarray(g) for g in grads])
    return Rival(rival.step, lambda: [library.asnumpy(p) for p in first(arrays)],
                 lambda new: rival.load([library.asarray(g) for g in new]))


RIVALS: dict[str, System] = {
    "torch_fused": System("torch", FLOATS, FUSED, torch("cuda", fused=True)),
    "torch_foreach": System("torch", FLOATS, TORCH, torch("cuda", foreach=True)),
    "cupy": System(None, FLOATS, EXPRESSIONS, cupy),
}
KEPT = {  # what frees the memory that a library keeps for its next arrays
    "torch": lambda library: library.cuda.empty_cache(),
    "cupy": lambda library: library.get_default_memory_pool().free_all_blocks(),
}


def release() -> None:
    """Free what the libraries keep of arrays that are gone: others cannot have it otherwise."""
    for name, free in KEPT.items():
        if name in sys.modules:
            with suppress(Exception):  # it found no device, and keeps nothing
                free(sys.modules[name])
