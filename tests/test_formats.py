"""Storage formats: every code of every 16-bit format, and the same bits from NumPy, compiled code and the formats' own libraries."""
import ml_dtypes
import numpy as np
import pytest
from conftest import assert_identical, assert_same_bits, bits, nasty
from numba import njit

from fastopt.formats import BF16, F16, F32, F64, FORMATS, NAMES, arithmetic

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
        assert_identical(encode(sign*np.nextafter(middle, np.float32(np.inf)), name), low + np.uint16(1) | np.uint16(bit))


@pytest.mark.parametrize(("name", "x", "code"), [
    ("f16", 65504.0, 0x7BFF), ("f16", 65519.996, 0x7BFF), ("f16", 65520.0, 0x7C00), ("f16", 65536.0, 0x7C00), ("f16", 3e38, 0x7C00),
    ("f16", -65520.0, 0xFC00), ("f16", np.inf, 0x7C00), ("f16", -np.inf, 0xFC00), ("f16", 2.0**-24, 1), ("f16", 2.0**-25, 0),
    ("f16", 2.0**-25*1.0000002, 1), ("f16", 3*2.0**-25, 2), ("f16", 2.0**-14, 0x0400), ("f16", 2.0**-14 - 2.0**-24, 0x03FF),
    ("f16", 2.0**-14 - 2.0**-25, 0x0400), ("f16", 1e-45, 0), ("f16", -1e-45, 0x8000), ("f16", -0.0, 0x8000), ("f16", 1.0, 0x3C00),
    ("bf16", 1.0, 0x3F80), ("bf16", -0.0, 0x8000), ("bf16", 1 + 2.0**-8, 0x3F80), ("bf16", 1 + 3*2.0**-8, 0x3F82),
    ("bf16", 3.4028235e38, 0x7F80), ("bf16", 3.3895314e38, 0x7F7F), ("bf16", 3.3961776e38, 0x7F80), ("bf16", 3.396177e38, 0x7F7F),
    ("bf16", 1e-45, 0), ("bf16", 2.0**-133, 1), ("bf16", 2.0**-134, 0), ("bf16", 3*2.0**-134, 2), ("bf16", -np.inf, 0xFF80)])
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
    assert [float(SIXTEEN[name].decode(np.uint16(u))).hex() for u in few] == [float(x).hex() for x in decode_all(name)[::997]]
    assert [int(encode(x, name)) for x in SAMPLES[::99_991]] == encode(SAMPLES[::99_991], name).tolist()


@pytest.mark.parametrize("format", [F32, F64], ids=["f32", "f64"])
def test_full_width_formats_store_what_they_get(format):
    x = nasty(1000, 2, format.dtype)
    assert_identical(format.encode(format.decode(x)), x)


def test_formats_say_what_they_are():
    assert {f.name: (f.itemsize, f.dtype.name, arithmetic(f).name) for f in FORMATS.values()} == {
        "f64": (8, "float64", "f64"), "f32": (4, "float32", "f32"), "f16": (2, "float16", "f32"), "bf16": (2, "uint16", "f32")}
    long = {"float64": "f64", "float32": "f32", "float16": "f16", "bfloat16": "bf16"}
    assert {k: v.name for k, v in NAMES.items()} == {**long, **{v: v for v in long.values()}}
    assert all(decode_all(name)[ONES[name]] == 1 for name in SIXTEEN)
