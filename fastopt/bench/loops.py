"""The loops that a user would write for a step, compiled: in C and with Numba. `rivals` times them against fastopt.

Both are made from the lines of a formula, such as ``(("v", "mu*v + a*g"), ("p", "p - v"))``: each line gives an array a
new value, from the arrays and coefficients that it names.
"""
import ctypes
import importlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

Lines = tuple[tuple[str, str], ...]
FLAGS = ["-O3", "-march=native", "-fno-math-errno", "-fopenmp", "-std=c11", "-shared", "-fPIC"]

# One parallel region serves all tensors. Threads get equal shares of the elements, cut at whole cache lines.
C = """
#include <stdint.h>
#include <tgmath.h>
#include <omp.h>
#define where(condition, x, y) ((condition) ? (x) : (y))

static void piece(int64_t n, const real *restrict coefficients, const real *restrict g_at, {arrays})
{{
    const real {coefficients};
    for (int64_t i = 0; i < n; i++) {{
        real g = g_at[i], {loads};
        {lines}
        {stores}
    }}
}}

void step(int64_t count, const int64_t *sizes, real *const *at, const real *coefficients, int64_t threads)
{{
    int64_t total = 0;
    for (int64_t k = 0; k < count; k++) total += sizes[k];
    int64_t team = total < 16384 ? 1 : threads;
    #pragma omp parallel num_threads(team) if (team > 1)
    {{
        int64_t me = omp_get_thread_num(), base = 0;
        int64_t first = total*me/team/16*16, last = me == team - 1 ? total : total*(me + 1)/team/16*16;
        for (int64_t k = 0; k < count; k++) {{
            real *const *of = at + {width}*k;
            int64_t end = base + sizes[k], lo = first > base ? first : base, hi = last < end ? last : end;
            if (lo < hi) piece(hi - lo, coefficients, {moved});
            base = end;
        }}
    }}
}}
"""


@cache
def in_c(lines: Lines, names: tuple[str, ...], coefficients: tuple[str, ...], real: str) -> Any:
    """``step(count, sizes, addresses, coefficients, threads)`` in C, `names` being the arrays beside the gradient."""
    compiler = os.environ.get("CC") or "cc"
    if not shutil.which(compiler.split()[0]):
        raise LookupError(f"no C compiler was found: {compiler}")
    source = C.format(
        arrays=", ".join(f"real *restrict {name}_at" for name in names), width=1 + len(names),
        coefficients=", ".join(f"{name} = coefficients[{k}]" for k, name in enumerate(coefficients)),
        loads=", ".join(f"{name} = {name}_at[i]" for name in names),
        lines=" ".join(f"{name} = {expression};" for name, expression in lines),
        stores=" ".join(f"{name}_at[i] = {name};" for name in names),
        moved=", ".join(f"of[{k}] + lo - base" for k in range(1 + len(names))))
    with TemporaryDirectory() as folder:
        path = Path(folder, "step.c")
        path.write_text(source)
        library = path.with_suffix(".so")
        made = subprocess.run([*compiler.split(), *FLAGS, f"-Dreal={real}", path, "-o", library, "-lm"],
                              capture_output=True, text=True, check=False)
        if made.returncode:
            raise LookupError(f"{compiler} failed: {made.stderr.strip().partition(chr(10))[0]}")
        try:
            step = ctypes.CDLL(str(library)).step
        except OSError as error:  # a temporary folder from which nothing may be executed, for example
            raise LookupError(f"what {compiler} made cannot be loaded: {error}") from None
    step.argtypes, step.restype = [ctypes.c_int64, *[ctypes.c_void_p]*3, ctypes.c_int64], None
    return step


Arrays = Sequence[np.ndarray]
Coefficients = Callable[[int], dict[str, float]]


def c_step(lines: Lines, tensors: Sequence[Arrays], names: tuple[str, ...], coefficients: Coefficients,
           threads: int) -> Callable[[int, Arrays], None]:
    """A step of all tensors by one call of C; the arrays of each belong to `names`, the first of which is ``p``."""
    fields, dtype = tuple(coefficients(1)), tensors[0][0].dtype
    run = in_c(lines, names, fields, {4: "float", 8: "double"}[dtype.itemsize])
    sizes = np.array([p.size for p, *_ in tensors])
    at = np.array([[0, *(a.ctypes.data for a in of)] for of in tensors], np.uintp)
    row = np.zeros(len(fields), dtype)
    addresses, given = [a.ctypes.data for a in (sizes, at, row)], [None]

    def step(t: int, grads: Any) -> None:
        if grads is not given[0]:
            at[:, 0] = [g.ctypes.data for g in grads]
            given[0] = grads
        row[:] = tuple(coefficients(t).values())
        run(sizes.size, *addresses, threads)
    step.kept = tensors  # type: ignore[attr-defined]  # C has nothing but their addresses
    return step


@cache
def in_numba(lines: Lines, names: tuple[str, ...], coefficients: tuple[str, ...]) -> Any:
    """``step(g, *arrays, *coefficients)``, a parallel loop over one tensor."""
    numba = importlib.import_module("numba")
    arrays = [f"{name}_at" for name in names]
    text = "\n".join([
        f"def step(g_at, {', '.join(arrays)}, {', '.join(coefficients)}):",
        "    for i in prange(g_at.size):",
        "        g = g_at[i]", *(f"        {name} = {name}_at[i]" for name in names),
        *(f"        {name} = {expression}" for name, expression in lines),
        *(f"        {name}_at[i] = {name}" for name in names)])
    # fastmath for the rival alone: nobody shall say that it was held back. fastopt's own kernels have none of it
    made: dict[str, Any] = {"prange": numba.prange, "sqrt": importlib.import_module("math").sqrt,
                            "where": numba.njit(lambda condition, x, y: x if condition else y)}
    exec(text, made)
    return numba.njit(parallel=True, fastmath=True)(made["step"])


def numba_step(lines: Lines, tensors: Sequence[Arrays], names: tuple[str, ...], coefficients: Coefficients,
               threads: int) -> Callable[[int, Arrays], None]:
    """A step of all tensors by Numba, one after the other."""
    if threads > (most := importlib.import_module("numba").config.NUMBA_NUM_THREADS):
        raise LookupError(f"Numba has {most} threads, not {threads}")
    run, scalar = in_numba(lines, names, tuple(coefficients(1))), tensors[0][0].dtype.type
    numba = sys.modules["numba"]
    flat = [[a.reshape(-1) for a in of] for of in tensors]

    def step(t: int, grads: Any) -> None:
        numba.set_num_threads(threads)
        c = [scalar(x) for x in coefficients(t).values()]
        for g, arrays in zip(grads, flat, strict=True):
            run(g.reshape(-1), *arrays, *c)
    return step
