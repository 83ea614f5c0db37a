"""Formats of 16 bits: every code, the bits of NumPy, compiled code and their libraries; random bits; two halves."""
import ml_dtypes
import numpy as np
import pytest
from conftest import assert_identical, assert_same_bits, bits, nasty
from internals import of_formula
from numba import njit, types

from fastopt._formats.bits import U16, U32, as_bits, where
from fastopt._formats.catalogue import BF16, BF16S, F16, F16S
from fastopt._formats.scalars import decode_split, encode_split

CODES = np.arange(65_536, dtype=np.uint16)
SIXTEEN = {"f16": F16, "bf16": BF16}
STOCHASTIC = {"f16": F16S, "bf16": BF16S}  # by the name of the format that rounds to nearest, whose codes they have
LIBRARY = {"f16": np.dtype(np.float16), "bf16": np.dtype(ml_dtypes.bfloat16)}
INFINITIES = {"f16": 0x7C00, "bf16": 0x7F80}
QUIET = {"f16": np.uint16(0x200), "bf16": np.uint16(0x40)}  # the bit of a NaN that signals nothing
WORDS = 2**32                              # how many random words there are
SEVERAL = [0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x12345678, 0xDEADBEEF]
both = pytest.mark.parametrize("name", SIXTEEN)


def encode(x, name):
    with np.errstate(all="ignore"):
        return SIXTEEN[name].encode(np.asarray(x, np.float32))


def draw(x, r, name):
    """The codes of numbers that are rounded up or down as random words say."""
    with np.errstate(all="ignore"):
        return STOCHASTIC[name].encode(np.asarray(x, np.float32), np.asarray(r, np.uint32))


def float32_samples():
    """A million bit patterns, all neighbourhoods of 16-bit numbers and of their midpoints, all specials."""
    around = [bits(f.decode(CODES)).astype(np.int64) + step for f in SIXTEEN.values()
              for step in (0, -1, 1, 0x7FFF, 0x8000, 0x8001, 0xFFF, 0x1000, 0x1001)]
    return np.concatenate([nasty(1_000_000, 1), np.concatenate(around).astype(np.uint32).view(np.float32)])


SAMPLES = float32_samples()


# To nearest

@both
def test_codes_decode_as_their_library_does_and_return(name):
    """NaN as a quiet one, with its sign and payload."""
    numbers = SIXTEEN[name].decode(CODES)
    with np.errstate(invalid="ignore"):  # a cast of a signalling NaN: ARM's instruction says so
        assert_same_bits(numbers, CODES.view(LIBRARY[name]).astype(np.float32))
    assert np.isnan(numbers).sum() == {"f16": 2*1023, "bf16": 2*127}[name]
    assert_identical(encode(numbers, name), np.where(np.isnan(numbers), CODES | QUIET[name], CODES))


@both
def test_numbers_encode_as_their_library_does(name):
    finite = ~np.isnan(SAMPLES)
    with np.errstate(all="ignore"):
        want = SAMPLES.astype(LIBRARY[name]).view(np.uint16)
    have = encode(SAMPLES, name)
    assert_identical(have[finite], want[finite])
    assert ((have[~finite] & 0x7FFF) > INFINITIES[name]).all()


@both
def test_midpoints_go_to_the_even_code_and_their_neighbours_to_the_nearest(name):
    """Between all neighbouring finite codes, subnormals included. The last lies below infinity."""
    low = CODES[:INFINITIES[name]]
    a = SIXTEEN[name].decode(low).astype(np.float64)
    step = np.diff(a)
    middle = (a + np.append(step, step[-1])/2).astype(np.float32)
    even = low + (low & 1)
    for sign, bit in ((1, 0), (-1, 0x8000)):
        assert_identical(encode(sign*middle, name), even | np.uint16(bit))
        assert_identical(encode(sign*np.nextafter(middle, np.float32(0)), name), low | np.uint16(bit))
        assert_identical(encode(sign*np.nextafter(middle, np.float32(np.inf)), name),
                         low + np.uint16(1) | np.uint16(bit))


@both
def test_nan_stays_nan_with_its_sign(name):
    """Also where its payload lies only in bits that are cut off, or is all ones; for any random word."""
    low = np.arange(1, 0x4000, dtype=np.uint32)
    payloads = np.concatenate([low, low << 9 | np.uint32(1), np.uint32(0x7FFFFF) - low, np.uint32(0x400000) | low])
    for sign in (0, 0x80000000):
        x = (payloads | np.uint32(0x7F800000 | sign)).view(np.float32)
        assert np.isnan(x).all()
        for codes in (encode(x, name), *(draw(x, r, name) for r in SEVERAL)):
            assert ((codes & 0x7FFF) > INFINITIES[name]).all()
            assert_identical(codes & np.uint16(0x8000), np.full(len(x), sign >> 16, np.uint16))


@both
def test_compiled_code_gives_the_bits_of_numpy(name):
    """So do single numbers."""
    half, word, single = types.uint16, types.uint32, types.float32
    decode = of_formula(SIXTEEN[name].decode, single, half)
    nearest = of_formula(SIXTEEN[name].encode, half, single)
    drawn = of_formula(STOCHASTIC[name].encode, half, single, word)

    @njit
    def each(x, r, to_nearest, by_chance, codes, numbers):
        for i in range(x.size):
            to_nearest[i], by_chance[i] = nearest(x[i]), drawn(x[i], r[i])
        for i in range(codes.size):
            numbers[i] = decode(codes[i])
    r = np.random.default_rng(3).integers(0, WORDS, len(SAMPLES), np.uint32)
    to_nearest, by_chance, numbers = *np.empty((2, len(SAMPLES)), np.uint16), np.empty(len(CODES), np.float32)
    each(SAMPLES, r, to_nearest, by_chance, CODES, numbers)
    want = SIXTEEN[name].decode(CODES)
    assert_same_bits(numbers, want)
    assert np.array_equal(np.signbit(numbers), np.signbit(want))
    assert_identical(to_nearest, encode(SAMPLES, name))
    assert_identical(by_chance, draw(SAMPLES, r, name))
    assert_same_bits(np.array([SIXTEEN[name].decode(u) for u in CODES[::997]]), want[::997])
    assert_identical(np.array([encode(x, name) for x in SAMPLES[::99_991]]), to_nearest[::99_991])


def test_whole_numbers_take_the_type_beside_them():
    """Those that are chosen between two, too; where there is none, that of NumPy."""
    chosen = [of_formula(formula, result, types.uint16) for formula, result in (
        (lambda x: where(x > 7, x, 300), types.uint16), (lambda x: where(x > 7, 300, x), types.uint16),
        (lambda x: where(x > 7, U16(300), 5), types.uint16), (lambda x: where(x > 7, 300, 5), types.int64))]
    a, b, c, d = chosen
    compiled = njit(lambda x: (a(x), b(x), c(x), d(x)))
    assert [compiled(np.uint16(x)) for x in (7, 8)] == [(300, 7, 5, 5), (8, 300, 300, 300)]


def test_a_formula_of_two_types_is_no_kernel():
    """NumPy would widen one of them: its bits would be others than the kernel's."""
    mixed = of_formula(lambda x: as_bits(x) + U16(1), types.uint32, types.float32)
    with pytest.raises(TypeError, match="formula: uint16 beside uint32, but one type is needed"):
        njit(lambda x: mixed(x))(np.float32(1))
    relabelled = of_formula(lambda x: U32(x), types.uint32, types.float32)
    with pytest.raises(TypeError, match="formula: float32 to uint32, but whole numbers are needed"):
        njit(lambda x: relabelled(x))(np.float32(1))


# Up or down, as random words say

def floors(x, name):
    """The code below each magnitude, and the part of the way to the next. Infinity lies where one more would be."""
    a = SIXTEEN[name].decode(CODES)[:INFINITIES[name] + 1].astype(np.float64)
    a[-1] = 2*a[-2] - a[-3]
    magnitude = np.minimum(np.abs(x.astype(np.float64)), a[-1])
    below = np.searchsorted(a, magnitude, "right") - 1
    return below, (magnitude - a[below])/np.append(np.diff(a), 1)[below]


@both
def test_every_code_stays_whatever_is_drawn(name):
    """Infinities and zeros of both signs too; NaN as a quiet one, with its payload."""
    want = np.where(INFINITIES[name] < (CODES & 0x7FFF), CODES | QUIET[name], CODES)
    assert (STOCHASTIC[name].random, STOCHASTIC[name].decode) == (True, SIXTEEN[name].decode)
    for r in (*SEVERAL, np.random.default_rng(1).integers(0, WORDS, len(CODES), np.uint32)):
        assert_identical(draw(SIXTEEN[name].decode(CODES), r, name), want)


@both
def test_exactly_as_many_words_round_up_as_are_cut_off(name):
    """As many of the 2**32 words (the upper ones) as the number is above the code below it, in 2**-31 of the way to the
    next code. So the expected value is the number itself. The result is one of two neighbours, and grows with the word.
    The word 0x80000000, which `storage.encode` takes by default, gives the nearest code, ties away from zero."""
    x = SAMPLES[~np.isnan(SAMPLES)]
    below, way = floors(x, name)
    up = 2*np.floor(way*2.0**31).astype(np.int64)
    assert (up == way*WORDS).mean() > {"f16": 0.6,
                                       "bf16": 1 - 1e-9}[name]  # exact but for tiny ones that need more than 31 bits
    sign, rng = np.signbit(x)*np.uint16(0x8000), np.random.default_rng(2)
    for words in (WORDS - up, WORDS - up - 1, rng.integers(0, WORDS, len(x)),
                  *(np.full(len(x), word) for word in SEVERAL)):
        r = np.clip(words, 0, WORDS - 1).astype(np.int64)
        assert_identical(draw(x, r, name), (below + (r >= WORDS - up)).astype(np.uint16) | sign)


# In two halves

EDGES = [0x0000, 0x0001, 0x007F, 0x0080, 0x3F7F, 0x3F80, 0x7F7E, 0x7F7F, 0x7F80, 0x7F81, 0x7FBE, 0x7FBF, 0x7FC0,
         0x7FC1, 0x7FFE, 0x7FFF]


def check_halves(u):
    """These bit patterns return from the halves. The visible one is the next bfloat16 on the way to zero."""
    x = u.view(np.float32)
    high, low = encode_split(x)
    assert (high.dtype, low.dtype) == (np.uint16, np.uint16)
    assert_identical(decode_split(high, low), x)
    assert_identical(high, (u >> 16).astype(np.uint16))
    quiet = ((u & np.uint32(0x7FFFFFFF)) > 0x7F800000) & ((u & np.uint32(0x00400000)) != 0)
    assert np.isnan(BF16.decode(high[quiet])).all()


def test_every_pattern_returns_from_two_halves(full):
    highs = range(2**16) if full else sorted({sign | edge for edge in EDGES for sign in (0, 0x8000)}
                                             | set(range(77, 2**16, 1009)))
    low = np.arange(2**16, dtype=np.uint32)
    for first in range(0, len(highs), 64):
        check_halves((np.array(highs[first:first + 64], np.uint32)[:, None] << np.uint32(16) | low).reshape(-1))


def test_without_a_rest_the_bfloat16_is_the_number():
    """So parameters that were just handed over stand for themselves: all codes, NaN and infinities too."""
    have = decode_split(CODES, np.zeros(len(CODES), np.uint16))
    assert_identical(have, (CODES.astype(np.uint32) << np.uint32(16)).view(np.float32))


def test_a_number_written_beside_an_old_rest_stays_within_its_unit():
    """Zero above all: no rest makes it more than a subnormal, and none makes a finite number NaN."""
    low = np.arange(2**16, dtype=np.uint16)
    for code in (0x0000, 0x8000, 0x3F80, 0x7F7F, 0xFF7F, 0x0080):
        have = decode_split(np.full(2**16, code, np.uint16), low)
        below, above = (np.abs(BF16.decode(np.array([code + k], np.uint16))) for k in (0, 1))
        assert ((below <= np.abs(have)) & (np.abs(have) < above)).all()
    assert np.abs(decode_split(np.zeros(2**16, np.uint16), low)).max() < 1e-40


def test_every_nan_returns_and_all_but_65_535_signalling_ones_are_seen():
    for sign in (0, 0x80000000):
        u = np.arange(0x7F800001, 0x80000000, dtype=np.uint32) | np.uint32(sign)
        check_halves(u)
        hidden = u[~np.isnan(BF16.decode(encode_split(u.view(np.float32))[0]))] & np.uint32(0x7FFFFFFF)
        assert_identical(hidden, np.arange(0x7F800001, 0x7F810000).astype(np.uint32))
