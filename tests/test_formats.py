"""Formats of 16 bits: every code, the same bits from NumPy, compiled code and the formats' own libraries; by chance; in two halves."""
import ml_dtypes
import numpy as np
import pytest
from conftest import assert_identical, assert_same_bits, bits, nasty
from numba import njit

from fastopt._formats.blocks import NAMES, STORED
from fastopt._formats.scalars import (
    BF16,
    BF16S,
    F16,
    F16S,
    F32,
    F64,
    FORMATS,
    ROUNDED,
    arithmetic,
    decode_split,
    encode_split,
)

CODES = np.arange(65_536, dtype=np.uint16)
SIXTEEN = {"f16": F16, "bf16": BF16}
LIBRARY = {"f16": np.dtype(np.float16), "bf16": np.dtype(ml_dtypes.bfloat16)}
ONES = {"f16": 0x3C00, "bf16": 0x3F80}
INFINITIES = {"f16": 0x7C00, "bf16": 0x7F80}
both = pytest.mark.parametrize("name", SIXTEEN)


def in_library(x, name):
    """The codes that NumPy or ml_dtypes gives float32 numbers."""
    with np.errstate(all="ignore"):
        return x.astype(LIBRARY[name]).view(np.uint16)


def compiled(function):
    inner = njit(error_model="numpy")(function)

    @njit(error_model="numpy")
    def each(x, out):
        for i in range(x.size):
            out[i] = inner(x[i])
        return out
    return each


def decode_all(name):
    return SIXTEEN[name].decode(CODES)


def encode(x, name):
    with np.errstate(all="ignore"):
        return SIXTEEN[name].encode(np.asarray(x, np.float32))


def float32_samples():
    """A million bit patterns, all neighbourhoods of 16-bit numbers and of their midpoints, all specials."""
    around = [(bits(FORMATS[name].decode(CODES)).astype(np.int64) + step) for name in SIXTEEN
              for step in (0, -1, 1, 0x7FFF, 0x8000, 0x8001, 0xFFF, 0x1000, 0x1001)]
    chosen = np.concatenate(around).astype(np.uint32).view(np.float32)
    return np.concatenate([nasty(1_000_000, 1), chosen])


SAMPLES = float32_samples()


@both
def test_every_code_decodes_as_its_library_does(name):
    assert_same_bits(decode_all(name), CODES.view(LIBRARY[name]).astype(np.float32))


@both
def test_every_code_survives_the_way_there_and_back(name):
    """NaN with its sign and payload, quiet or signalling."""
    assert_identical(encode(decode_all(name), name), CODES)
    assert np.isnan(decode_all(name)).sum() == {"f16": 2*1023, "bf16": 2*127}[name]


@both
def test_decoding_is_monotone(name):
    positive = decode_all(name)[:INFINITIES[name] + 1]
    assert (np.diff(positive) > 0).all()
    assert positive[0] == 0
    assert positive[-1] == np.inf
    assert_identical(decode_all(name)[0x8000:0x8000 + INFINITIES[name] + 1], -positive)


@both
def test_encoding_is_monotone(name):
    x = np.sort(SAMPLES[~np.isnan(SAMPLES)])
    codes = encode(x, name).astype(np.int32)
    ordered = np.where(codes >= 0x8000, 0x8000 - codes, codes)
    assert (np.diff(ordered) >= 0).all()


@both
def test_midpoints_go_to_the_even_code_and_their_neighbours_to_the_nearest(name):
    """Between all neighbouring finite codes, subnormals included; the last one lies between the largest number and infinity."""
    low = CODES[:INFINITIES[name]]
    a = decode_all(name)[low].astype(np.float64)
    step = np.diff(a)
    middle = (a + np.append(step, step[-1])/2).astype(np.float32)
    even = low + (low & 1)
    for sign, bit in ((1, 0), (-1, 0x8000)):
        assert_identical(encode(sign*middle, name), even | np.uint16(bit))
        assert_identical(encode(sign*np.nextafter(middle, np.float32(0)), name), low | np.uint16(bit))
        assert_identical(encode(sign*np.nextafter(middle, np.float32(np.inf)), name),
                         low + np.uint16(1) | np.uint16(bit))


@pytest.mark.parametrize(("name", "x", "code"), [
    ("f16", 65504.0, 0x7BFF), ("f16", 65519.996, 0x7BFF), ("f16", 65520.0, 0x7C00), ("f16", 65536.0, 0x7C00),
                                                 ("f16", 3e38, 0x7C00),
    ("f16", -65520.0, 0xFC00), ("f16", np.inf, 0x7C00), ("f16", -np.inf, 0xFC00), ("f16", 2.0**-24, 1),
                                                 ("f16", 2.0**-25, 0),
    ("f16", 2.0**-25*1.0000002, 1), ("f16", 3*2.0**-25, 2), ("f16", 2.0**-14, 0x0400),
                                                 ("f16", 2.0**-14 - 2.0**-24, 0x03FF),
    ("f16", 2.0**-14 - 2.0**-25, 0x0400), ("f16", 1e-45, 0), ("f16", -1e-45, 0x8000), ("f16", -0.0, 0x8000),
                                                 ("f16", 1.0, 0x3C00),
    ("bf16", 1.0, 0x3F80), ("bf16", -0.0, 0x8000), ("bf16", 1 + 2.0**-8, 0x3F80), ("bf16", 1 + 3*2.0**-8, 0x3F82),
    ("bf16", 3.4028235e38, 0x7F80), ("bf16", 3.3895314e38, 0x7F7F), ("bf16", 3.3961776e38, 0x7F80),
                                                 ("bf16", 3.396177e38, 0x7F7F),
    ("bf16", 1e-45, 0), ("bf16", 2.0**-133, 1), ("bf16", 2.0**-134, 0), ("bf16", 3*2.0**-134, 2),
                                                 ("bf16", -np.inf, 0xFF80)])
def test_numbers_worth_knowing(name, x, code):
    assert encode([x], name).tolist() == [code]


@both
def test_no_nan_becomes_infinite(name):
    """NaN whose payload lies only in the bits that are cut off, or that rounding would carry out of."""
    low = np.arange(1, 0x2000, dtype=np.uint32)
    payloads = np.concatenate([low, low << 10 | np.uint32(1), np.uint32(0x7FFFFF) - low, np.uint32(0x400000) | low])
    for sign in (0, 0x80000000):
        x = (payloads | np.uint32(0x7F800000 | sign)).view(np.float32)
        assert np.isnan(x).all()
        codes = encode(x, name)
        assert ((codes & 0x7FFF) > INFINITIES[name]).all()
        assert_identical(codes & np.uint16(0x8000), np.full(len(x), sign >> 16, np.uint16))


@both
def test_encodes_as_its_library_does(name):
    have, want = encode(SAMPLES, name), in_library(SAMPLES, name)
    finite = ~np.isnan(SAMPLES)
    assert_identical(have[finite], want[finite])
    assert ((have[~finite] & 0x7FFF) > INFINITIES[name]).all()


@both
def test_compiled_decode_gives_numpys_bits(name):
    have = compiled(SIXTEEN[name].decode)(CODES, np.empty(len(CODES), np.float32))
    assert_same_bits(have, decode_all(name))
    assert_identical(np.signbit(have).astype(np.uint16), np.signbit(decode_all(name)).astype(np.uint16))


@both
def test_compiled_encode_gives_numpys_bits(name):
    assert_identical(compiled(SIXTEEN[name].encode)(SAMPLES, np.empty(len(SAMPLES), np.uint16)), encode(SAMPLES, name))


@both
def test_one_number_at_a_time_is_the_same(name):
    few = CODES[::997]
    assert [float(SIXTEEN[name].decode(np.uint16(u))).hex() for u in few] == [float(x).hex()
                                                                              for x in decode_all(name)[::997]]
    assert [int(encode(x, name)) for x in SAMPLES[::99_991]] == encode(SAMPLES[::99_991], name).tolist()


@pytest.mark.parametrize("format", [F32, F64], ids=["f32", "f64"])
def test_full_width_formats_store_what_they_get(format):
    x = nasty(1000, 2, format.dtype)
    assert_identical(format.encode(format.decode(x)), x)


def test_formats_say_what_they_are():
    assert {f.name: (f.itemsize, f.dtype.name, arithmetic(f).name) for f in FORMATS.values()} == {
        "f64": (8, "float64", "f64"), "f32": (4, "float32", "f32"), "f16": (2, "float16", "f32"), "bf16": (2, "uint16",
                                                                                                           "f32")}
    assert {f.name: (f.columns, f.bytes, f.random, f.split) for f in STORED.values()} == {
        "f64": (1, 8, False, False), "f32": (1, 4, False, False), "f16": (1, 2, False, False),
                                                                                          "bf16": (1, 2, False, False),
        "f16s": (1, 2, True, False), "bf16s": (1, 2, True, False), "split": (2, 4, False, True),
        "q43": (2, 1 + 1/128, False, False), "q44": (2, 1 + 1/128, True, False)}
    assert {k: f.name for k, f in ROUNDED.items()} == {
        ("f16", "stochastic"): "f16s", ("bf16", "stochastic"): "bf16s", ("bf16", "remainder"): "split"}
    long = {"float64": "f64", "float32": "f32", "float16": "f16", "bfloat16": "bf16", "float16_stochastic": "f16s",
            "bfloat16_stochastic": "bf16s"}
    assert {k: v.name for k, v in NAMES.items()} == {**long, **{v: v for v in (*long.values(), "q43", "q44")}}
    assert all(decode_all(name)[ONES[name]] == 1 for name in SIXTEEN)


# By chance: `name` is that of the format to nearest, whose codes these are

STOCHASTIC = {"f16": F16S, "bf16": BF16S}
WORDS = 2**32                                # that random bits may be
SEVERAL = [0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x12345678, 0xDEADBEEF]


def draw(x, r, name):
    with np.errstate(all="ignore"):
        return STOCHASTIC[name].encode(np.asarray(x, np.float32), np.asarray(r, np.uint32))


def floors(x, name):
    """The code below each magnitude, and which part of the way to the next it has gone; infinity is where the next number would be."""
    a = decode_all(name)[:INFINITIES[name] + 1].astype(np.float64)
    a[-1] = 2*a[-2] - a[-3]
    magnitude = np.minimum(np.abs(x.astype(np.float64)), a[-1])
    below = np.searchsorted(a, magnitude, "right") - 1
    return below, (magnitude - a[below])/np.append(np.diff(a), 1)[below]


@both
def test_every_code_stays_whatever_is_drawn(name):
    """Infinities and zeros of both signs too; NaN with its payload, of bfloat16 as a quiet one."""
    want = CODES.copy() if name == "f16" else np.where((CODES & 0x7FFF) > 0x7F80, CODES | 0x40, CODES).astype(np.uint16)
    assert (STOCHASTIC[name].random, STOCHASTIC[name].decode) == (True, SIXTEEN[name].decode)
    rng = np.random.default_rng(1)
    for r in (*SEVERAL, rng.integers(0, WORDS, len(CODES), np.uint32)):
        assert_identical(draw(decode_all(name), r, name), want)


@both
def test_exactly_as_many_words_round_up_as_are_cut_off(name):
    """Of the 2**32 words the upper ones do, as many as the number is above the code below it, in 2**-31 of the way to the next: the
    expected value is the number itself, subnormals included. The result is one of the two neighbours, and monotone in
    the word."""
    x = SAMPLES[~np.isnan(SAMPLES)]
    below, way = floors(x, name)
    up = 2*np.floor(way*2.0**31).astype(np.int64)
    assert (up == way*WORDS).mean() > {"f16": 0.6,
                                       "bf16": 1 - 1e-9}[name]  # exact but for tiny ones that need more than 31 bits
    sign = np.signbit(x)*np.uint16(0x8000)
    rng = np.random.default_rng(2)
    for words in (WORDS - up, WORDS - up - 1, rng.integers(0, WORDS, len(x)), np.zeros(len(x)),
                  np.full(len(x), WORDS - 1)):
        r = np.clip(words, 0, WORDS - 1).astype(np.int64)
        assert_identical(draw(x, r, name), (below + (r >= WORDS - up)).astype(np.uint16) | sign)


@both
@pytest.mark.parametrize("x", [1.003, -3.14159, 1e-3, 6.1e-5, 3.3e-6, -2.0**-24*0.37, 2.0**-30*1.003, 1e-39, 60_001.7])
def test_the_mean_over_evenly_spread_words_is_the_number(name, x):
    x = np.float32(x)
    r = np.arange(0, WORDS, 2**16, np.int64) + 2**15
    mean = SIXTEEN[name].decode(draw(np.full(len(r), x), r, name)).astype(np.float64).mean()
    _, way = floors(np.array([x]), name)
    unit = 2.0**-24 if name == "f16" and abs(x) < 2**-14 else 2.0**-133 if abs(x) < 2**-126 else abs(x)*2.0**-7
    assert abs(mean - x) <= unit*2.0**-16
    assert 0 < way[0] < 1


@both
@pytest.mark.parametrize("r", SEVERAL)
def test_drawing_is_monotone_for_any_word(name, r):
    codes = draw(np.sort(SAMPLES[~np.isnan(SAMPLES)]), r, name).astype(np.int32)
    assert (np.diff(np.where(codes >= 0x8000, 0x8000 - codes, codes)) >= 0).all()


@both
def test_nan_stays_nan_with_its_sign_whatever_is_drawn(name):
    payloads = np.unique(np.concatenate([np.arange(1, 0x4000), 0x7FFFFF - np.arange(0x4000),
                                         np.arange(1, 0x800000, 997)]))
    for sign in (0, 0x80000000):
        x = (payloads.astype(np.uint32) | np.uint32(0x7F800000 | sign)).view(np.float32)
        for r in SEVERAL:
            codes = draw(x, r, name)
            assert ((codes & 0x7FFF) > INFINITIES[name]).all()
            assert_identical(codes & np.uint16(0x8000), np.full(len(x), sign >> 16, np.uint16))


@both
def test_what_draws_half_the_words_goes_to_the_nearest(name):
    """0x80000000, which `storage.encode` takes by default: the nearest code, ties away from zero."""
    x = SAMPLES[np.isfinite(SAMPLES)]
    below, way = floors(x, name)
    assert_identical(draw(x, 0x80000000, name) & np.uint16(0x7FFF), (below + (way >= 0.5)).astype(np.uint16))


@both
def test_compiled_drawing_gives_numpys_bits(name):
    inner = njit(error_model="numpy")(STOCHASTIC[name].encode)

    @njit(error_model="numpy")
    def each(x, r, out):
        for i in range(x.size):
            out[i] = inner(x[i], r[i])
        return out
    r = np.random.default_rng(3).integers(0, WORDS, len(SAMPLES), np.uint32)
    assert_identical(each(SAMPLES, r, np.empty(len(SAMPLES), np.uint16)), draw(SAMPLES, r, name))


# In two halves

def check_split(u):
    """These bit patterns return from the halves, of which the visible one is the bfloat16 next to the number on the way to zero."""
    x = u.view(np.float32)
    high, low = encode_split(x)
    assert (high.dtype, low.dtype) == (np.uint16, np.uint16)
    assert_identical(decode_split(high, low), x)
    assert_identical(high, (u >> 16).astype(np.uint16))
    quiet = ((u & np.uint32(0x7FFFFFFF)) > 0x7F800000) & ((u & np.uint32(0x00400000)) != 0)
    assert np.isnan(BF16.decode(high[quiet])).all()


EDGES = [0x0000, 0x0001, 0x007F, 0x0080, 0x3F7F, 0x3F80, 0x7F7E, 0x7F7F, 0x7F80, 0x7F81, 0x7FBE, 0x7FBF, 0x7FC0, 0x7FC1,
         0x7FFE, 0x7FFF]


def test_every_pattern_returns_from_two_halves(full):
    highs = range(2**16) if full else sorted({sign | edge for edge in EDGES for sign in (0, 0x8000)}
                                             | set(range(77, 2**16, 1009)))
    low = np.arange(2**16, dtype=np.uint32)
    for first in range(0, len(highs), 64):
        check_split((np.array(highs[first:first + 64], np.uint32)[:, None] << np.uint32(16) | low).reshape(-1))


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


def test_the_visible_half_is_cut_off():
    x = SAMPLES[~np.isnan(SAMPLES)]
    assert_identical(encode_split(x)[0], floors(x, "bf16")[0].astype(np.uint16) | np.signbit(x)*np.uint16(0x8000))


@pytest.mark.parametrize("sign", [0, 0x80000000])
def test_every_nan_returns_and_all_but_65_535_signalling_ones_are_seen(sign):
    u = np.arange(0x7F800001, 0x80000000, dtype=np.uint32) | np.uint32(sign)
    check_split(u)
    hidden = u[~np.isnan(BF16.decode(encode_split(u.view(np.float32))[0]))] & np.uint32(0x7FFFFFFF)
    assert_identical(hidden, np.arange(0x7F800001, 0x7F810000).astype(np.uint32))


def test_compiled_halves_are_numpys():
    there, back = njit(error_model="numpy")(encode_split), njit(error_model="numpy")(decode_split)

    @njit(error_model="numpy")
    def each(x, high, low, again):
        for i in range(x.size):
            high[i], low[i] = there(x[i])
            again[i] = back(high[i], low[i])
    u = np.concatenate([bits(SAMPLES), np.array(EDGES, np.uint32)[:, None].repeat(3, 1).reshape(-1) << np.uint32(16)])
    high, low, again = np.empty(len(u), np.uint16), np.empty(len(u), np.uint16), np.empty(len(u), np.uint32)
    each(u.view(np.float32), high, low, again.view(np.float32))
    for have, want in zip((high, low), encode_split(u.view(np.float32)), strict=True):
        assert_identical(have, want)
    assert_identical(again, u)
