"""Whole-array steps for nopython code: a training loop can run inside one ``@njit``.

``kernels.adam(c, g, p, m, v)`` updates ``p, m, v`` in place, on one thread, in the bits of `fastopt.Adam`; likewise for every
rule, with its states in the order of its arguments. Arrays are C-contiguous, of one size; float16 and bfloat16 (uint16) too.
``c`` is a row of `table`, or what ``rule.at`` gives. Outside jitted code the same functions work on float32 and float64 arrays.

>>> coefs = kernels.table(rules.adam, 1000, lr=schedules.cosine(1e-2, steps=1000))
>>> @njit
... def train(w, m, v, coefs):
...     for t in range(len(coefs)):
...         kernels.adam(coefs[t], gradient(w), w, m, v)
"""
import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.errors import TypingError
from numba.extending import intrinsic, overload

from . import rules
from ._kernels.element import load, store, update
from ._kernels.memory import I64, coefficients_type, literals
from ._rule.groups import Group
from ._rule.rule import Rule

NONE = np.uint32(0)  # random bits: these formats round to nearest
FORMAT_OF = {types.float64: "f64", types.float32: "f32", types.float16: "f16", types.uint16: "bf16"}


# Arrays of nopython code, for memory.py's loads and stores

@intrinsic
def data_addresses(typing, arrays):
    """The addresses of the first elements of a tuple of arrays."""
    result = types.UniTuple(types.int64, len(arrays))

    def emit(context, builder, signature, args):
        kinds, parts = signature.args[0], cgutils.unpack_tuple(builder, args[0])
        data = [context.make_array(kind)(context, builder, part).data for kind, part in zip(kinds, parts, strict=True)]
        return context.make_tuple(builder, result, [builder.ptrtoint(d, I64) for d in data])
    return result(arrays), emit


@intrinsic
def element_counts(typing, arrays):
    """The numbers of elements of a tuple of arrays."""
    result = types.UniTuple(types.int64, len(arrays))

    def emit(context, builder, signature, args):
        kinds, parts = signature.args[0], cgutils.unpack_tuple(builder, args[0])
        return context.make_tuple(builder, result, [context.make_array(kind)(context, builder, part).nitems
                                                    for kind, part in zip(kinds, parts, strict=True)])
    return result(arrays), emit


@intrinsic
def coefficients_of(typing, rule, formats, c):
    """Coefficients, given as a row of a table or as a named tuple, in the float type of the arithmetic."""
    literal = literals(rule, formats)
    if literal is None:
        return None
    result = coefficients_type(*literal)

    def emit(context, builder, signature, args):
        kind = signature.args[2]
        if isinstance(kind, types.Array):
            data = context.make_array(kind)(context, builder, args[2]).data
            given = [builder.load(builder.gep(data, [ir.Constant(I64, k)])) for k in range(len(result))]
        else:
            given = cgutils.unpack_tuple(builder, args[2])
        return context.make_tuple(builder, result, [context.cast(builder, x, kind.dtype, to) for x, to in zip(given, result, strict=True)])
    return result(rule, formats, c), emit


def table(rule: Rule, steps: int, **hyper: Any) -> np.ndarray:
    """Coefficients of steps 1 to `steps`, one row each, in float64; hyperparameters are numbers or functions of the step.

    Raises
    ------
    TypeError, ValueError
        As the optimizer of this rule does.
    """
    group = Group(rule, hyper, "table")
    rows = [group.coefficients(t, 1.0, math.inf) for t in range(1, steps + 1)]
    return np.array(rows, np.float64).reshape(steps, len(rule.fields))


def array_step(rule: Rule):
    """The whole-array step of a rule: ``step(c, g, p, *state)``, in place, in Python and in nopython code."""
    digest, needed = rule.digest, 2 + len(rule.state)

    def step(c, g, p, *state):
        if g.dtype.itemsize > p.dtype.itemsize:  # scaled in its own type, as in compiled code
            g, c = (g.dtype.type(c[0])*g).astype(p.dtype), (1, *c[1:])
        given = rule.Coefficients(*(p.dtype.type(x) for x in c))
        for target, new in zip((p, *state), rule(given, g, p, *state), strict=True):
            target[...] = new

    def compiled(c, g, p, *state):
        arrays = (g, p, *(state[0] if len(state) == 1 and isinstance(state[0], types.BaseTuple) else state))
        if len(arrays) != needed or not all(isinstance(a, types.Array) for a in arrays):
            raise TypingError(f"kernels.{rule.name}: found {arrays}, but arrays g, p, {', '.join(rule.state)} are needed. Give those.")
        if not all(a.layout == "C" and a.dtype in FORMAT_OF for a in arrays):
            raise TypingError(f"kernels.{rule.name}: found {arrays}, but C-contiguous float arrays are needed. "
                              "Give those, or copies (which are then what is updated).")
        if not all(a.mutable for a in arrays[1:]):
            raise TypingError(f"kernels.{rule.name}: a read-only array, but p and the states are updated in place. Give copies.")
        as_row, fields = isinstance(c, types.Array), len(rule.fields)
        if not (c.ndim == 1 and c.layout == "C" if as_row else isinstance(c, types.NamedUniTuple) and len(c) == fields):
            raise TypingError(f"kernels.{rule.name}: c is {c}, but a row of kernels.table or what rule.at gives is needed. Give that.")
        formats = " ".join(FORMAT_OF[a.dtype] for a in arrays)

        def implementation(c, g, p, *state):
            arrays = (g, p) + state  # noqa: RUF005 (Numba has no starred tuples)
            for count in element_counts(arrays):
                if count != p.size:
                    raise ValueError("kernels: arrays of different sizes, but g, p and the states need one size. Give such arrays.")
            if as_row and len(c) != fields:
                raise ValueError("kernels: c has another number of coefficients than the rule. Make it with kernels.table(rule, ...).")
            row = data_addresses(arrays)
            k = coefficients_of(digest, formats, c)
            for i in range(p.size):
                store(formats, row, i, update(digest, k, load(formats, row, i)), NONE)
        return implementation

    step.__name__ = step.__qualname__ = rule.name
    step.__doc__ = f"Update p and {', '.join(rule.state) or 'no state'} in place: {rule.__doc__}"
    overload(step, jit_options={"error_model": "numpy"})(compiled)
    return step


globals().update({name: array_step(rule) for name, rule in rules.ALL.items()})
