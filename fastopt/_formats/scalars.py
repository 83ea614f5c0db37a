"""Functions of formats that store each number alone: ``decode`` (stored bits to float) and ``encode`` (back).

They are integer operations on unsigned 32-bit words. NumPy, LLVM and PTX give equal bits for them, with no
half-precision hardware. `encode` rounds to nearest, ties to even. A stochastic one takes 32 random bits and rounds up
or down by chance, so that the expected value is the number itself.
"""
import numpy as np

from .bits import U16, U32, as_bits, as_float, where

NOT_SET = np.uint8(0)
ONE, THIRTEEN, SIXTEEN = U32(1), U32(13), U32(16)
MAGNITUDE32, INFINITY32, QUIET32 = U32(0x7FFFFFFF), U32(0x7F800000), U32(0x00400000)
SIGN16, MAGNITUDE16, INFINITY16, QUIET16 = U32(0x8000), U32(0x7FFF), U32(0x7C00), U32(0x0200)
HALF_ULP_BF16, HALF_ULP_F16 = U32(0x7FFF), U32(0x0FFF)
ZERO, NINETEEN, TWENTYTHREE, THIRTYONE, THIRTYTWO = U32(0), U32(19), U32(23), U32(31), U32(32)
LOWER32, MANTISSA32, MANTISSA_ONE32 = U32(0xFFFF), U32(0x007FFFFF), U32(0x00800000)
SUBNORMAL_SHIFT_F16 = U32(126)         # 2**-24 is the unit, behind a bias of 127 stand 23 bits
SMALLEST_NORMAL_F16 = U32(0x38800000)  # 2**-14
OVERFLOW_F16 = U32(0x47800000)         # 2**16: everything above is infinite, what lies below rounds there by itself
REBIAS_F16 = U32(0xC8000000)           # (15 - 127) << 23, modulo 2**32
ALIGN_F16 = U32(0x3F000000)            # 0.5, whose unit in the last place is half the smallest float16
TWO_112 = np.float32(2.0**112)         # 2**(127 - 15)


def decode_bf16(u):
    return as_float(U32(u) << SIXTEEN)


def encode_bf16(x):
    """A NaN becomes a quiet one: rounding could make a number of it."""
    u = as_bits(x)
    nearest = u + HALF_ULP_BF16 + ((u >> SIXTEEN) & ONE)
    return U16(where(x != x, u | QUIET32, nearest) >> SIXTEEN)


def encode_bf16_stochastic(x, r):
    """Up with the probability of what is cut off: the carry of 16 random bits."""
    u = as_bits(x)
    return U16(where(x != x, u | QUIET32, u + (r >> SIXTEEN)) >> SIXTEEN)


def decode_split(high, low):
    """The float32 of these halves."""
    return as_float((U32(high) << SIXTEEN) | U32(low))


def encode_split(x):
    """The halves of a float32: a bfloat16, cut off towards zero, and the rest.

    Rounding to nearest would not do. There are 65,535 NaN of either sign more than pairs with a NaN in front, and all
    other pairs but those of zero with a negative rest are taken: a parameter that its user sets to zero beside an old
    rest would become NaN.
    """
    u = as_bits(x)
    return U16(u >> SIXTEEN), U16(u & LOWER32)


def decode_f16(u):
    u = U32(u)
    sign = (u & SIGN16) << SIXTEEN
    shifted = (u & MAGNITUDE16) << THIRTEEN
    scaled = as_bits(as_float(shifted)*TWO_112)  # exact, subnormals included
    magnitude = where((u & INFINITY16) == INFINITY16, shifted | INFINITY32, scaled)
    return as_float(magnitude | sign)


def _f16(u, normal, subnormal):
    """The float16 of a float32 with these bits, of what a number and a subnormal number would be rounded to.

    A NaN becomes a quiet one, as processors make it.
    """
    magnitude = u & MAGNITUDE32
    top = (magnitude >> THIRTEEN) & MAGNITUDE16
    finite = where(magnitude < SMALLEST_NORMAL_F16, subnormal, normal)
    finite = where(magnitude >= OVERFLOW_F16, INFINITY16, finite)
    return U16(where(magnitude > INFINITY32, top | QUIET16, finite) | ((u >> SIXTEEN) & SIGN16))


def encode_f16(x):
    u = as_bits(x)
    magnitude = u & MAGNITUDE32
    odd = (magnitude >> THIRTEEN) & ONE
    normal = (magnitude + REBIAS_F16 + HALF_ULP_F16 + odd) >> THIRTEEN
    return _f16(u, normal, as_bits(as_float(magnitude) + as_float(ALIGN_F16)) - ALIGN_F16)  # the addition rounds


def encode_f16_stochastic(x, r):
    """As `encode_bf16_stochastic`; a subnormal number lacks more bits, of which up to 31 are drawn."""
    u = as_bits(x)
    magnitude = u & MAGNITUDE32
    normal = (magnitude + REBIAS_F16 + (r >> NINETEEN)) >> THIRTEEN
    shift = SUBNORMAL_SHIFT_F16 - (magnitude >> TWENTYTHREE)         # of the mantissa above the unit 2**-24
    beyond = where(shift > THIRTYONE, shift - THIRTYONE, ZERO)       # (wraps for normal numbers, which `normal` gives)
    beyond, shift = where(beyond > THIRTYONE, THIRTYONE, beyond), where(shift > THIRTYONE, THIRTYONE, shift)
    mantissa = where(magnitude < MANTISSA_ONE32, ZERO, MANTISSA_ONE32) | (magnitude & MANTISSA32)
    return _f16(u, normal, ((mantissa >> beyond) + (r >> (THIRTYTWO - shift))) >> shift)


def unchanged(x):
    return x


def is_set(u):
    return u != NOT_SET
