"""The words that a rule may use. On arrays they are NumPy's functions; in compiled code, one or two instructions.

A rule holds no number of its own and calls no library: ``1 - x`` or ``x**0.5`` would make a float32 kernel compute in
float64. It uses ``+ - * /``, its coefficients, and these words.
"""
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

__all__ = ["absolute", "clip", "maximum", "minimum", "sign", "sqrt", "where"]


def sqrt(x):
    """Square root, correctly rounded."""
    return np.sqrt(x)


def absolute(x):
    """Absolute value."""
    return np.abs(x)


def maximum(x, y):
    """The larger of both; NaN if either is NaN."""
    return np.maximum(x, y)


def minimum(x, y):
    """The smaller of both; NaN if either is NaN."""
    return np.minimum(x, y)


def sign(x):
    """-1, 0 or 1; NaN stays NaN."""
    return np.sign(x)


def where(condition, x, y):
    """x where the condition holds, else y."""
    return np.where(condition, x, y)


def clip(x, bound):
    """x limited to [-bound, bound]; NaN stays NaN."""
    return np.clip(x, -bound, bound)


# Below: the same words as LLVM instructions. emit(builder, *values) -> value, for float32 and float64 alike.

def _emit_sqrt(b, x):
    function = b.module.declare_intrinsic("llvm.sqrt", [x.type])
    return b.call(function, [x])


def _emit_absolute(b, x):
    bits = ir.IntType(32 if x.type == ir.FloatType() else 64)  # CUDA's compiler has no llvm.fabs
    return b.bitcast(b.and_(b.bitcast(x, bits), ir.Constant(bits, 2**(bits.width - 1) - 1)), x.type)


def _emit_extremum(comparison):
    def emit(b, x, y):
        take_x = b.or_(b.fcmp_ordered(comparison, x, y), b.fcmp_unordered("uno", x, x))
        return b.select(take_x, x, y)  # a NaN in y fails the comparison and is taken as y
    return emit


def _emit_sign(b, x):
    zero, one = ir.Constant(x.type, 0.0), ir.Constant(x.type, 1.0)
    negative = b.select(b.fcmp_ordered("<", x, zero), ir.Constant(x.type, -1.0),
                        b.select(b.fcmp_ordered("==", x, zero), zero, x))
    return b.select(b.fcmp_ordered(">", x, zero), one, negative)


def _emit_where(b, condition, x, y):
    return b.select(condition, x, y)


def _emit_clip(b, x, bound):
    low = b.fsub(ir.Constant(bound.type, -0.0), bound)  # CUDA's LLVM has no fneg; others make one of this
    x = b.select(b.fcmp_ordered("<", x, low), low, x)  # one vmaxps: a NaN fails the comparison and stays
    return b.select(b.fcmp_ordered(">", x, bound), bound, x)


EMIT = {sqrt: _emit_sqrt, absolute: _emit_absolute, maximum: _emit_extremum(">"), minimum: _emit_extremum("<"),
        sign: _emit_sign, where: _emit_where, clip: _emit_clip}


def _result(floats):
    """The type of a word's value, or None where an argument is no float (then Numba reports the call)."""
    if not all(isinstance(x, types.Float) for x in floats):
        return None
    return max(floats, key=lambda x: x.bitwidth)


def _overloads(word, emit, intrinsic):
    """The implementation that Numba compiles for calls of `word`, by its number of arguments."""
    def emit_cast(context, builder, signature, args):
        args = [context.cast(builder, a, have, need)
                for a, have, need in zip(args, signature.args, need_types(signature), strict=True)]
        return emit(builder, *args)

    def need_types(signature):
        return [a if isinstance(a, types.Boolean) else signature.return_type for a in signature.args]

    if word is where:
        @intrinsic
        def compiled(typing, condition, x, y):
            result = x if x == y else _result((x, y))
            return result and (result(types.boolean, x, y), emit_cast)
        return lambda condition, x, y: (lambda condition, x, y: compiled(condition, x, y))
    if word in (maximum, minimum):
        @intrinsic
        def compiled(typing, x, y):
            result = _result((x, y))
            return result and (result(x, y), emit_cast)
        return lambda x, y: (lambda x, y: compiled(x, y))
    if word is clip:
        @intrinsic
        def compiled(typing, x, bound):
            result = _result((x, bound))
            return result and (result(x, bound), emit_cast)
        return lambda x, bound: (lambda x, bound: compiled(x, bound))

    @intrinsic
    def compiled(typing, x):
        result = _result((x,))
        return result and (result(x), emit_cast)
    return lambda x: (lambda x: compiled(x))


def register(intrinsic, overload):
    """Teach a Numba target every word, given that target's own `intrinsic` and `overload`."""
    for word, emit in EMIT.items():
        overload(word)(_overloads(word, emit, intrinsic))


register(intrinsic, overload)
