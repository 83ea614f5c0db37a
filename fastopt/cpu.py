"""CPU schedules: the loops around a rule and around the norm, their compile flags, and the only @njit of kernels."""
import os
from functools import cache
from typing import NamedTuple

import numpy as np
from llvmlite.binding import ffi
from numba import njit, types
from numba.core.compiler_lock import global_compiler_lock

from .cache import KernelCache
from .digests import digest
from .memory import (
    BATCH,
    COEFS,
    COUNT,
    OUT,
    TABLE,
    TILE_WORDS,
    TILES,
    WIDTH,
    WORD,
    addresses,
    claim,
    coefficients,
    dense,
    load,
    load_gradient,
    put,
    store,
    update,
    word,
)
from .registry import RULES

FLAGS = {"error_model": "numpy", "nogil": True}  # no fastmath of any kind: the bits are a promise
LANES = 64  # partial sums of the norm: one chain of additions would wait 4 cycles for each element


def _before_fork() -> None:
    """Let another thread finish what it compiles, loads or frees: a child would wait for its lock for ever."""
    global_compiler_lock.acquire()
    ffi.lib._lock.__enter__()


def _after_fork() -> None:
    ffi.lib._lock.__exit__(None, None, None)
    global_compiler_lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)


class Kernel(NamedTuple):
    """Compiled code: callable from Python, and its address for threads that call it without Python."""

    run: object
    address: int


def compiled(name, signature, function, **flags):
    """Compile a function for one signature, through the disk cache. `name` decides, with the sources, what it holds."""
    dispatcher = njit(**{**FLAGS, **flags})(function)
    dispatcher._cache = KernelCache(name)
    dispatcher.compile(signature)
    dispatcher.disable_compile()
    return dispatcher


def kernel(name, function):
    with global_compiler_lock:  # LLVM has a lock of its own: no fork while this thread holds it
        run = compiled(name, types.void(types.int64), function)
        result = run.overloads[(types.int64,)]
        return Kernel(run, result.library.get_pointer_to_function(result.fndesc.llvm_cfunc_wrapper_name))


@cache
def step_kernel(rule: str, formats: str) -> Kernel:
    """The fused update of every claimed tile, for a rule (its digest) and the formats of its slots."""
    def step(job):
        count, batch, table, width, tiles, coefs = (word(job, COUNT), word(job, BATCH), word(job, TABLE), word(job, WIDTH),
                                                    word(job, TILES), word(job, COEFS))
        first = claim(job, batch)
        while first < count:
            for k in range(first, min(first + batch, count)):
                tile = tiles + k*TILE_WORDS*WORD
                lo, hi = word(tile, 2), word(tile, 3)
                table_row = table + word(tile, 0)*width*WORD
                row = dense(formats, addresses(formats, table_row), table_row, lo, hi)
                c = coefficients(rule, formats, coefs, word(tile, 1))
                for i in range(lo, hi):
                    store(formats, row, i, update(rule, c, load(formats, row, i)))
            first = claim(job, batch)

    now = digest(RULES[rule].body)  # with its globals as Numba freezes them, which may not be those of its decoration
    return kernel(f"step {rule} {now} {formats}", step)


@cache
def squares_kernel(formats: str) -> Kernel:
    """The sum of the squared gradient of every claimed tile, in float64 and in an order that depends on the tile alone."""
    def squares(job):
        count, batch, table, width, tiles, out = (word(job, COUNT), word(job, BATCH), word(job, TABLE), word(job, WIDTH),
                                                  word(job, TILES), word(job, OUT))
        lanes = np.empty(LANES)
        first = claim(job, batch)
        while first < count:
            for k in range(first, min(first + batch, count)):
                tile = tiles + k*TILE_WORDS*WORD
                lo, hi = word(tile, 2), word(tile, 3)
                table_row = table + word(tile, 0)*width*WORD
                row = dense(formats, addresses(formats, table_row), table_row, lo, hi)
                lanes[:] = 0
                whole = hi - (hi - lo) % LANES
                for i in range(lo, whole, LANES):
                    for j in range(LANES):
                        g = load_gradient(formats, row, i + j)
                        lanes[j] += g*g
                for i in range(whole, hi):
                    g = load_gradient(formats, row, i)
                    lanes[i - whole] += g*g
                half = LANES//2
                while half > 0:  # in pairs: one after the other would wait 4 cycles for each
                    for j in range(half):
                        lanes[j] += lanes[j + half]
                    half //= 2
                put(out, k, lanes[0])
            first = claim(job, batch)

    return kernel(f"squares {formats}", squares)
