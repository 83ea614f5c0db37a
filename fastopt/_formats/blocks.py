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
the exponent is still unknown; the largest of them gives it, and all of them their codes. That takes whole numbers of 16
bits or of 32, whatever t or `exponent` has: vectors of a CPU hold more of 16, registers of a GPU have 32.

n numbers are stored as bytes: 128 codes per block (those behind the n-th are 0), then an exponent per block.
"""
from .bits import I32, U16, U32, as_bits, as_float, kind_of, signed, unsigned, where
from .scalars import MAGNITUDE32

SIZE = 128
LOWEST = 16                # of the exponents; 2**-126 is the smallest number then
NOT_A_NUMBER = 0x7FC0      # a bfloat16
LAST_43, LAST_44 = 127, 255
NOT_FINITE = 16            # words of `round_q43` and `round_q44` that mean infinity and NaN: the last of 12 bits
MAGNITUDE, SIGN_43 = 0xFFF, 0x80
NEARER_ZERO_43 = 14        # 16ths of a binade: half the smallest number is so far below the block's lowest


def _lowest(exponent, shift):
    """The lowest binade's first number, behind whose exponent stand `shift` bits of mantissa."""
    return (exponent - 15) << shift


def _number(magnitude, last, exponent, behind):
    """The bfloat16 of a code with this magnitude, of which the last is NaN, and bits behind it."""
    u = where(magnitude == 0, 0, magnitude + _lowest(exponent, 7 + behind))
    return where(magnitude == last, NOT_A_NUMBER << behind, u)


def _finite_first(magnitude):
    """Magnitudes in their order, but those of infinities and NaN come before all others."""
    return (magnitude + NOT_FINITE) & MAGNITUDE


def _at_least_lowest(exponent):
    return unsigned(where(exponent < LOWEST, LOWEST, exponent))


def _limited(code, first, last):
    code = where(code < first, first, code)
    return unsigned(where(code > last, last, code))


def word_q43(code, exponent, behind=0):
    """The number of a code as bfloat16, with so many bits behind it: no code has more bits.

    `code` is a signed byte, and its sign is the first bit of a wider number, too.
    """
    code = kind_of(exponent)(code)
    last = LAST_43 << (4 + behind)
    return _number((code << (4 + behind)) & last, last, exponent, behind) | (code & (0x8000 << behind))


def decode_q43(code, exponent):
    return as_float(word_q43(code, U32(exponent), 16))


def round_q43(x):
    """Sign, exponent and one bit of mantissa more than a code has: that decides which is nearer."""
    return U16(I32(as_bits(x)) >> I32(19))


def magnitude_q43(t):
    return _finite_first(t)


def share_q43(largest):
    """The exponent of a block: that of its largest number, rounded, or the next where that would take the last code."""
    rounded = (signed(largest) - (NOT_FINITE - 1)) >> 1
    return _at_least_lowest((rounded + 1) >> 3)


def encode_q43(t, exponent):
    magnitude, lowest = t & MAGNITUDE, _lowest(exponent, 4)
    twice = _limited(signed(magnitude - (lowest - 1)), 2, 2*LAST_43 + 1)
    code = (twice >> 1) | ((t >> 8) & SIGN_43)
    return where(signed(magnitude) < signed(lowest - NEARER_ZERO_43), 0, code)


def word_q44(code, exponent, behind=0):
    return _number(kind_of(exponent)(code) << (3 + behind), LAST_44 << (3 + behind), exponent, behind)


def decode_q44(code, exponent):
    return as_float(word_q44(code, U32(exponent), 16))


def round_q44(x, r):
    """Exponent and mantissa with random bits added behind them, whose carry rounds. Only zero becomes zero."""
    u = as_bits(x) & MAGNITUDE32  # -0 is 0, and so is what a rule of yours should not have given
    t = (u + (r >> U32(13))) >> U32(19)
    return U16(where(u == U32(0), U32(0), where(t > U32(1), t, U32(1))))


def magnitude_q44(t):
    return _finite_first(t)


def share_q44(largest):
    return _at_least_lowest((signed(largest) - (NOT_FINITE - 1)) >> 4)


def encode_q44(t, exponent):
    return where(t == 0, 0, _limited(signed(t - _lowest(exponent, 4)), 1, LAST_44))
