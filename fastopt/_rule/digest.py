"""A name for what a function computes: two functions have one digest only if they, and all that they call, do the same.

Compiled kernels are kept under it, so whatever it leaves out can go stale. Not looked into: this package, Numba, NumPy
and the standard library, whose code or versions are part of `cache.sources`.
"""
import hashlib
import inspect
import sys
import types
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

LIBRARIES = {"fastopt", "numba", "numpy", *sys.stdlib_module_names}


def digest(function: Any, *also: str) -> str:
    """A hash of a function's bytecode, constants and names, of the functions it calls, and of the values it reads."""
    return hashlib.sha256("\n".join((*also, *_function(function, set()))).encode()).hexdigest()[:16]


def _of_library(module: str | None) -> bool:
    return (module or "").partition(".")[0] in LIBRARIES


def codes(code: types.CodeType) -> list[types.CodeType]:
    """A function's code, and that of the functions within."""
    found = [code]
    for part in found:  # grows
        found += [k for k in part.co_consts if isinstance(k, types.CodeType)]
    return found


def code_facts(code: types.CodeType) -> Iterator[str]:
    """What code does, without the lines and the files that it comes from."""
    for part in codes(code):
        constants = [sorted(map(repr, k)) if isinstance(k, frozenset) else k for k in part.co_consts
                     if not isinstance(k, types.CodeType)]
        yield repr((part.co_code, part.co_names, part.co_varnames, part.co_freevars, constants))


def _function(function: types.FunctionType, seen: set[int]) -> Iterator[str]:
    yield repr((function.__defaults__, function.__kwdefaults__))
    yield from code_facts(function.__code__)
    names = {name for code in codes(function.__code__) for name in code.co_names}
    known = {**function.__globals__, **inspect.getclosurevars(function).nonlocals}
    yield from _values(known, {*names, *function.__code__.co_freevars}, seen)


def _values(known: dict[str, Any], names: Iterable[str], seen: set[int]) -> Iterator[str]:
    """What those of the names that are known stand for."""
    for name in sorted(known.keys() & set(names)):
        value = inspect.unwrap(known[name]) if callable(known[name]) else known[name]
        if isinstance(value, (types.FunctionType, types.ModuleType)):
            yield name
            if id(value) in seen:
                continue
            seen.add(id(value))
        if isinstance(value, types.FunctionType):
            yield from (value.__qualname__,) if _of_library(value.__module__) else _function(value, seen)
        elif isinstance(value, types.ModuleType):
            yield from (value.__name__,) if _of_library(value.__name__) else _values(vars(value), names, seen)
        elif isinstance(value, np.ndarray):
            yield repr((name, value.dtype.str, value.shape, hashlib.sha256(value.tobytes()).hexdigest()))
        else:
            yield repr((name, value))
