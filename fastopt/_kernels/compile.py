"""Numba's compiler as kernels need it: one set of flags, our disk cache, alone in the process."""
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import NamedTuple

from llvmlite.binding import ffi
from numba import config, njit, types
from numba.core.compiler_lock import global_compiler_lock

from .._signals import UNDISTURBED
from .cache import KernelCache

FLAGS = {"error_model": "numpy", "nogil": True}  # no fastmath of any kind: the bits are a promise


def _before_fork() -> None:
    """Let another thread finish what it compiles, loads or frees: a child would wait for its lock for ever."""
    UNDISTURBED.__enter__()
    global_compiler_lock.acquire()
    ffi.lib._lock.__enter__()


def _after_fork() -> None:
    ffi.lib._lock.__exit__(None, None, None)
    global_compiler_lock.release()
    UNDISTURBED.end_of_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)


class Kernel(NamedTuple):
    """Compiled code: callable from Python, and its address for threads that call it without Python."""

    run: object
    address: int


@contextmanager
def compiling() -> Iterator[None]:
    """Alone in Numba's compiler and in LLVM: no thread, fork, or signal handler. While it waits, signals are heard."""
    with UNDISTURBED:
        while not global_compiler_lock._lock.acquire(timeout=0.1):
            UNDISTURBED.hear()
        try:
            yield
        finally:
            global_compiler_lock._lock.release()


def jitted(function, **flags):
    if config.DISABLE_JIT:
        raise RuntimeError("fastopt: NUMBA_DISABLE_JIT is set, but a step is compiled code. Unset it before Python "
                           "starts.")
    return njit(**{**FLAGS, **flags})(function)


def compiled(name, signature, function, **flags):
    """Compile a function for one signature, through the disk cache. `name` decides, with the sources, what it holds."""
    with compiling():
        dispatcher = jitted(function, **flags)
        dispatcher._cache = KernelCache(name)
        dispatcher.compile(signature)
        dispatcher.disable_compile()
        return dispatcher


@cache
def entry(make):
    """What `make` compiles, without Numba's dispatcher in front, which is a third of a short call."""
    return next(iter(make().overloads.values())).entry_point


def kernel(name, function):
    with compiling():
        run = compiled(name, types.void(types.int64, types.int64), function)
        result = run.overloads[(types.int64, types.int64)]
        return Kernel(run, result.library.get_pointer_to_function(result.fndesc.llvm_cfunc_wrapper_name))
