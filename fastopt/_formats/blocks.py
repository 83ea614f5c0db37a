"""Functions of formats of 8 bits: blocks of 128 numbers that share a power of two, each a minifloat below it.

The largest number of a block lies in the uppermost of 16 binades (or the next, if rounding would give the last code).
Codes:

    q43   sign, 4 bits of exponent, 3 of mantissa, to nearest (ties away from zero): first moments, velocities
    q44   4 bits of exponent, 4 of mantissa, stochastically rounded: second moments, which are never negative

There are no subnormal codes: 0 is zero, 1 the smallest positive number; what lies below goes to the nearer of both
(q43), or up (q44: a second moment that became zero would make a step infinite). The last code is NaN, and infinities
become that; beside numbers above 1.8e38 they, and what rounds up to them, stay infinite. A block's exponent is that of
its largest finite number. Subnormal numbers, below 1.2e-38, go to 1.3e-38 (q43: from an eighth of it on) or to zero.

Rounding does not depend on the exponent, since that is a power of two: `round_q43` and `round_q44` leave 16 bits, while
the exponent is still unknown; the largest of them gives it, and all of them their codes, in 16-bit integers.

n numbers are stored as bytes: 128 codes per block (those behind the n-th are 0), then an exponent per block.
"""
from .bits import I16, I32, U16, U32, as_bits, where
from .scalars import MAGNITUDE32, decode_bf16

SIZE = 128
LOWEST = U16(16)           # of the exponents; 2**-126 is the smallest number then
NOT_A_NUMBER = U16(0x7FC0)
CODE_43, LAST_44 = U16(127 << 4), U16(255)
INFINITE = U16(0xFF0)      # infinity as `round_q43` and `round_q44` leave it: 8 bits of exponent, 4 of mantissa
MAGNITUDE, SIGN, SIGN_43 = U16(0xFFF), U16(0x8000), U16(0x80)
NEARER_ZERO_43 = I16(-14)  # half the smallest number, in 16ths of a binade from the block's lowest
ZERO, ONE, THREE, FOUR, SEVEN, EIGHT, FIFTEEN = map(U16, (0, 1, 3, 4, 7, 8, 15))


def _lowest(exponent, shift):
    """The lowest binade's first number, behind whose exponent stand `shift` bits of mantissa."""
    return (U16(exponent) - FIFTEEN) << shift


def _finite(magnitude):
    return where(magnitude < INFINITE, magnitude, ZERO)


def _limited(code, last):
    """A code from 1 to the last."""
    code = where(code < I16(1), I16(1), code)
    return U16(where(code > last, last, code))


def word_q43(code, exponent):
    """The number of a code as bfloat16: no code has more bits. `code` is a signed byte, with its sign where that is."""
    code = U16(I16(code))
    magnitude = (code << FOUR) & CODE_43
    u = where(magnitude == ZERO, ZERO, magnitude + _lowest(exponent, SEVEN))
    return where(magnitude == CODE_43, NOT_A_NUMBER, u) | (code & SIGN)


def decode_q43(code, exponent):
    return decode_bf16(word_q43(code, exponent))


def round_q43(x):
    """Sign, exponent and one bit of mantissa more than a code has: that decides which is nearer."""
    return U16(I32(as_bits(x)) >> I32(19))


def magnitude_q43(t):
    return _finite(t & MAGNITUDE)


def share_q43(largest):
    """The exponent of a block: that of its largest number, rounded, or the next where that would take the last code."""
    rounded = (largest + ONE) >> ONE
    exponent = (rounded + ONE) >> THREE
    return where(exponent < LOWEST, LOWEST, exponent)


def encode_q43(t, exponent):
    magnitude, lowest = t & MAGNITUDE, _lowest(exponent, THREE)
    code = _limited(I16(((magnitude + ONE) >> ONE) - lowest), I16(127)) | ((t >> EIGHT) & SIGN_43)
    return where(I16(magnitude - (lowest << ONE)) < NEARER_ZERO_43, ZERO, code)


def word_q44(code, exponent):
    code = U16(code)
    u = where(code == ZERO, ZERO, (code << THREE) + _lowest(exponent, SEVEN))
    return where(code == LAST_44, NOT_A_NUMBER, u)


def decode_q44(code, exponent):
    return decode_bf16(word_q44(code, exponent))


def round_q44(x, r):
    """Exponent and mantissa with random bits added behind them, whose carry rounds. Only zero becomes zero."""
    u = as_bits(x) & MAGNITUDE32  # -0 is 0, and so is what a rule of yours should not have given
    t = (u + (r >> U32(13))) >> U32(19)
    return U16(where(u == U32(0), U32(0), where(t > U32(1), t, U32(1))))


def magnitude_q44(t):
    return _finite(t)


def share_q44(largest):
    exponent = (largest + ONE) >> FOUR
    return where(exponent < LOWEST, LOWEST, exponent)


def encode_q44(t, exponent):
    return where(t == ZERO, ZERO, _limited(I16(t - _lowest(exponent, FOUR)), I16(255)))
