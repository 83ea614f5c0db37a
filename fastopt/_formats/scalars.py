"""Functions of formats that store each number alone: ``decode`` (stored bits to float) and ``encode`` (back).

They are integer operations on unsigned 32-bit words. NumPy, LLVM and PTX give equal bits for them, with no
half-precision hardware. Every unsigned operation is wrapped, because NumPy and Numba would widen its result to 64 bits.
`encode` rounds to nearest, ties to even. A stochastic one takes 32 random bits and rounds up or down by chance, so that
the expected value is the number itself.
"""
import numpy as np
from numba import types
from numba.extending import intrinsic, overload, register_jitable

from ..notation import where

U32, U16 = np.uint32, np.uint16
NOT_SET = np.uint8(0)
ONE, THIRTEEN, SIXTEEN = U32(1), U32(13), U32(16)
MAGNITUDE32, INFINITY32, QUIET32 = U32(0x7FFFFFFF), U32(0x7F800000), U32(0x00400000)
SIGN16, MAGNITUDE16, INFINITY16, QUIET16 = U32(0x8000), U32(0x7FFF), U32(0x7C00), U32(0x0200)
HALF_ULP_BF16, HALF_ULP_F16 = U32(0x7FFF), U32(0x0FFF)
ZERO, NINETEEN, TWENTYTHREE, THIRTYONE, THIRTYTWO = U32(0), U32(19), U32(23), U32(31), U32(32)
SIGN32, LOWER32, MANTISSA32, MANTISSA_ONE32 = U32(0x80000000), U32(0xFFFF), U32(0x007FFFFF), U32(0x00800000)
SUBNORMAL_SHIFT_F16 = U32(126)         # 2**-24 is the unit, behind a bias of 127 stand 23 bits
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
    """A NaN becomes a quiet one: rounding could make a number of it."""
    u = as_bits(x)
    nearest = U32(U32(u + HALF_ULP_BF16) + U32(U32(u >> SIXTEEN) & ONE))
    return U16(U32(where(x != x, U32(u | QUIET32), nearest) >> SIXTEEN))


def encode_bf16_stochastic(x, r):
    """Up with the probability of what is cut off: the carry of 16 random bits."""
    u = as_bits(x)
    return U16(U32(where(x != x, U32(u | QUIET32), U32(u + U32(r >> SIXTEEN))) >> SIXTEEN))


def decode_split(high, low):
    """The float32 of these halves."""
    return as_float(U32(U32(U32(high) << SIXTEEN) | U32(low)))


def encode_split(x):
    """The halves of a float32: a bfloat16, cut off towards zero, and the rest.

    Rounding to nearest would not do. There are 65,535 NaN of either sign more than pairs with a NaN in front, and all
    other pairs but those of zero with a negative rest are taken: a parameter that its user sets to zero beside an old
    rest would become NaN.
    """
    u = as_bits(x)
    return U16(U32(u >> SIXTEEN)), U16(U32(u & LOWER32))


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


def encode_f16_stochastic(x, r):
    """As `encode_bf16_stochastic`; a subnormal number lacks more bits, of which up to 31 are drawn."""
    u = as_bits(x)
    sign = U32(U32(u >> SIXTEEN) & SIGN16)
    magnitude = U32(u & MAGNITUDE32)
    normal = U32(U32(U32(magnitude + REBIAS_F16) + U32(r >> NINETEEN)) >> THIRTEEN)
    shift = U32(SUBNORMAL_SHIFT_F16 - U32(magnitude >> TWENTYTHREE))  # of the mantissa above the unit 2**-24
    beyond = where(shift > THIRTYONE, U32(shift - THIRTYONE), ZERO)  # (wraps for normal numbers, which `normal` gives)
    beyond, shift = where(beyond > THIRTYONE, THIRTYONE, beyond), where(shift > THIRTYONE, THIRTYONE, shift)
    mantissa = U32(where(magnitude < MANTISSA_ONE32, ZERO, MANTISSA_ONE32) | U32(magnitude & MANTISSA32))
    subnormal = U32(U32(U32(mantissa >> beyond) + U32(r >> U32(THIRTYTWO - shift))) >> shift)
    top = U32(U32(magnitude >> THIRTEEN) & MAGNITUDE16)
    nan = where(top == INFINITY16, U32(top | QUIET16), top)
    finite = where(magnitude < SMALLEST_NORMAL_F16, subnormal, normal)
    finite = where(magnitude >= OVERFLOW_F16, INFINITY16, finite)
    return U16(U32(where(magnitude > INFINITY32, nan, finite) | sign))


def unchanged(x):
    return x


def is_set(u):
    return u != NOT_SET


for _function in (decode_bf16, encode_bf16, decode_f16, encode_f16, unchanged, is_set):
    register_jitable(_function)
