"""Storage formats: how a number lies in memory. Arithmetic never happens in them.

A format is a pair of functions: ``decode`` (stored bits to float) and ``encode`` (float to stored bits, to nearest, ties to
even), written in integer operations on unsigned 32-bit words, so that NumPy, LLVM and PTX give the same bits with no
half-precision hardware. Every unsigned operation is wrapped, because NumPy and Numba would widen it to 64 bits.
"""
from typing import Any, NamedTuple

import numpy as np
from numba import types
from numba.extending import intrinsic, overload, register_jitable

from .notation import where

U32, U16 = np.uint32, np.uint16
ONE, THIRTEEN, SIXTEEN = U32(1), U32(13), U32(16)
MAGNITUDE32, INFINITY32, QUIET32, UPPER32 = U32(0x7FFFFFFF), U32(0x7F800000), U32(0x00400000), U32(0xFFFF0000)
SIGN16, MAGNITUDE16, INFINITY16, QUIET16 = U32(0x8000), U32(0x7FFF), U32(0x7C00), U32(0x0200)
HALF_ULP_BF16, HALF_ULP_F16 = U32(0x7FFF), U32(0x0FFF)
SMALLEST_NORMAL_F16 = U32(0x38800000)  # 2**-14
OVERFLOW_F16 = U32(0x47800000)         # 2**16: everything above is infinite, what lies below rounds there by itself
REBIAS_F16 = U32(0xC8000000)           # (15 - 127) << 23, modulo 2**32
ALIGN_F16 = U32(0x3F000000)            # 0.5, whose unit in the last place is half the smallest float16
TWO_112 = np.float32(2.0**112)         # 2**(127 - 15)


def as_float(u):
    """The float32 of these 32 bits."""
    return np.asarray(u, np.uint32).view(np.float32)[()]


def as_bits(x):
    """The 32 bits of this float32."""
    return np.asarray(x, np.float32).view(np.uint32)[()]


def _bitcast(to):
    @intrinsic
    def cast(typing, x):
        return to(x), lambda context, builder, signature, args: builder.bitcast(args[0], context.get_data_type(to))
    return cast


_to_float, _to_bits = _bitcast(types.float32), _bitcast(types.uint32)
overload(as_float)(lambda u: (lambda u: _to_float(U32(u))))
overload(as_bits)(lambda x: (lambda x: _to_bits(np.float32(x))))


def decode_bf16(u):
    return as_float(U32(U32(u) << SIXTEEN))


def encode_bf16(x):
    u = as_bits(x)
    nearest = U32(U32(u + HALF_ULP_BF16) + U32(U32(u >> SIXTEEN) & ONE))
    top = U32(u & UPPER32)  # a NaN keeps its upper half: rounding could carry it into an infinity
    nan = where(U32(top & MAGNITUDE32) == INFINITY32, U32(top | QUIET32), top)
    return U16(U32(where(U32(u & MAGNITUDE32) > INFINITY32, nan, nearest) >> SIXTEEN))


def decode_f16(u):
    u = U32(u)
    sign = U32(U32(u & SIGN16) << SIXTEEN)
    shifted = U32(U32(u & MAGNITUDE16) << THIRTEEN)
    scaled = as_bits(as_float(shifted)*TWO_112)  # exact, subnormals included
    magnitude = where(U32(u & INFINITY16) == INFINITY16, U32(shifted | INFINITY32), scaled)
    return as_float(U32(magnitude | sign))


def encode_f16(x):
    u = as_bits(x)
    sign = U32(U32(u >> SIXTEEN) & SIGN16)
    magnitude = U32(u & MAGNITUDE32)
    odd = U32(U32(magnitude >> THIRTEEN) & ONE)
    normal = U32(U32(U32(U32(magnitude + REBIAS_F16) + HALF_ULP_F16) + odd) >> THIRTEEN)
    subnormal = U32(as_bits(as_float(magnitude) + as_float(ALIGN_F16)) - ALIGN_F16)  # the addition rounds
    top = U32(U32(magnitude >> THIRTEEN) & MAGNITUDE16)
    nan = where(top == INFINITY16, U32(top | QUIET16), top)
    finite = where(magnitude < SMALLEST_NORMAL_F16, subnormal, normal)
    finite = where(magnitude >= OVERFLOW_F16, INFINITY16, finite)
    return U16(U32(where(magnitude > INFINITY32, nan, finite) | sign))


def unchanged(x):
    return x


class Format(NamedTuple):
    """One way to store a number: its storage dtype, the float that its value becomes, and the way there and back."""

    name: str
    dtype: np.dtype
    stored: Any
    value: Any
    decode: Any
    encode: Any

    @property
    def itemsize(self) -> int:
        return self.dtype.itemsize


F64 = Format("f64", np.dtype(np.float64), types.float64, types.float64, unchanged, unchanged)
F32 = Format("f32", np.dtype(np.float32), types.float32, types.float32, unchanged, unchanged)
F16 = Format("f16", np.dtype(np.float16), types.uint16, types.float32, decode_f16, encode_f16)
BF16 = Format("bf16", np.dtype(np.uint16), types.uint16, types.float32, decode_bf16, encode_bf16)
FORMATS = {f.name: f for f in (F64, F32, F16, BF16)}
NAMES = {"float64": F64, "float32": F32, "float16": F16, "bfloat16": BF16, **FORMATS}

for _function in (decode_bf16, encode_bf16, decode_f16, encode_f16, unchanged):
    register_jitable(_function)


def arithmetic(format: Format) -> Format:
    """What parameters of this format are computed in: float64 for float64, else float32."""
    return F64 if format is F64 else F32
