"""Blocks of 8-bit numbers: every code at every exponent, rounding, and the neighbours of zeros, NaN and extremes."""
import itertools

import numpy as np
import pytest
from conftest import assert_identical, normal
from internals import of_formula
from numba import types, vectorize

from fastopt import storage
from fastopt._formats.blocks import SIZE
from fastopt._formats.catalogue import NAMES

EXPONENTS = range(16, 256)
SOME = [16, 17, 18, 31, 60, 100, 126, 127, 128, 129, 200, 253, 254, 255]
WORDS = 2**32                                           # how many random words there are
SIGNED = {"q43": True, "q44": False}
LAST = {"q43": 127, "q44": 255}                         # the code that is NaN
MANTISSA = {"q43": 3, "q44": 4}
TOP_255 = {"q43": 119, "q44": 239}                      # the last code of exponent 255 that is a float32
BOUND = {"q43": 1.8125*2.0**15, "q44": 1.9375*2.0**15}  # what rounded numbers are below, in units of the lowest binade
both = pytest.mark.parametrize("name", SIGNED)


def unit(exponent):
    """The lower end of a block's lowest binade."""
    return 2.0**(exponent - 15 - 127)


def value(code, exponent, name):
    """What a code without a sign stands for, in float64. The last code is meant as the number that it would be."""
    code, bits = np.asarray(code, np.float64), MANTISSA[name]
    scale, part = np.divmod(code, 2**bits)
    return np.where(code == 0, 0, (1 + part/2**bits)*2.0**scale)*unit(exponent)


def there(x, name, r=storage.HALF):
    """(codes, exponents) of numbers in whole blocks."""
    array = storage.encode(np.asarray(x, np.float32), name, r)
    count = array.size//(SIZE + 1)
    return array[:count*SIZE].reshape(count, SIZE), array[count*SIZE:]


def back(codes, exponents, name):
    array = np.concatenate([np.reshape(codes, -1), np.reshape(exponents, -1)]).astype(np.uint8)
    return storage.decode(array, name, (np.size(codes),)).reshape(np.shape(codes))


def block_of(exponent, name, numbers=()):
    """A block of these numbers behind the largest of those that fix this exponent."""
    x = np.zeros(SIZE, np.float32)
    x[0] = value(TOP_255[name] if exponent == 255 else LAST[name] - 1, exponent, name)
    x[1:1 + len(numbers)] = numbers
    return x


def spread(exponent, name, seed=0, count=SIZE - 1):
    """Numbers of all binades of a block, and of three below."""
    rng = np.random.default_rng(seed)
    sign = np.where(SIGNED[name] & (rng.random(count) < 0.5), -1, 1)
    return (unit(exponent)*2.0**rng.uniform(-3, 14.5, count)*sign).astype(np.float32)


# Codes

@both
def test_every_code_at_every_exponent(name):
    codes = np.broadcast_to(np.arange(256), (len(EXPONENTS), 256)).reshape(-1, SIZE)
    have = back(codes, np.repeat(list(EXPONENTS), 2), name).reshape(len(EXPONENTS), 256)
    sign = 1 - 2*(np.arange(256) >> 7) if SIGNED[name] else 1
    magnitude = np.arange(256) & LAST[name]
    for row, exponent in zip(have, EXPONENTS, strict=True):
        want = sign*value(magnitude, exponent, name)
        finite = (magnitude != LAST[name]) & (np.abs(want) < 2.0**128)
        assert_identical(row[finite], want[finite].astype(np.float32), f"exponent {exponent}")
        assert np.isnan(row[magnitude == LAST[name]]).all()
        assert not np.isfinite(row[~finite]).any()


@both
def test_a_block_of_zeros_is_zeros_from_the_start(name):
    """The bytes of a new state, all zero, and what zeros of both signs become."""
    assert_identical(back(np.zeros((2, SIZE)), [0, 0], name), np.zeros((2, SIZE), np.float32))
    for zero in (0.0, -0.0):
        codes, exponents = there(np.full((1, SIZE), zero), name, np.uint32(0xFFFFFFFF))
        assert (codes.max(), exponents.tolist()) == (0, [16])


@both
def test_codes_stay_what_they_are_at_every_exponent(name):
    """With the largest and the smallest number of those that fix the exponent beside them; codes of both signs."""
    lowest = LAST[name] - (8 if name == "q43" else 15)  # from here on a number fixes its block's exponent
    for exponent in EXPONENTS:
        for top in (lowest, LAST[name] - 1):
            if value(top, exponent, name) >= 2.0**128:
                continue
            codes = np.arange(top + 1)
            codes = np.concatenate([codes, codes[1:] + 128]) if SIGNED[name] else codes
            codes = np.append(codes, np.zeros(-len(codes) % (SIZE - 1), int)).reshape(-1, SIZE - 1)
            codes = np.insert(codes, 0, top, axis=1)
            for r in (0, 0x80000000, 0xFFFFFFFF) if name == "q44" else (0,):
                x = back(codes, [exponent]*len(codes), name)
                again, exponents = there(x, name, np.uint32(0 if exponent == 16 and name == "q44" else r))
                assert exponents.tolist() == [exponent]*len(codes)
                assert np.array_equal(again, codes)


@both
def test_the_exponent_is_the_lowest_that_holds_the_largest_number(name):
    """From that of float32's subnormal numbers to that of its largest; ties of signed numbers go away from zero."""
    rng = np.random.default_rng(3)
    near = np.array([unit(e)*BOUND[name]*f for e in EXPONENTS for f in (1 - 2.0**-20, 1, 1 + 2.0**-20, 0.6, 0.99)])
    top = np.concatenate([near[near < 3.39e38], 2.0**rng.uniform(-149, 127.9, 5000), [1e-45, 1e-38, 1.17e-38, 1.2e-38]])
    top = top.astype(np.float32)
    x = top[:, None]*rng.uniform(0, 1, (len(top), SIZE)).astype(np.float32)
    x[np.arange(len(top)), rng.integers(0, SIZE, len(top))] = top
    fit = np.array([unit(e)*BOUND[name] for e in EXPONENTS])
    assert np.array_equal(there(x, name, np.uint32(0))[1], 16 + np.searchsorted(fit, top.astype(np.float64), "right"))


# Rounding

def test_q43_gives_the_nearest_code_ties_away_from_zero():
    """Also around half of the smallest number, where zero is the other neighbour (subnormal at exponent 16)."""
    for exponent in SOME[1:]:
        a = value(np.arange(127), exponent, "q43")
        a = a[a < 2.0**128]
        middle = (a[1:] + a[:-1])/2
        near = [middle*(1 + s*2.0**-k) for s in (1, -1) for k in (22, 10)]
        x = np.concatenate([middle, *near, np.abs(spread(exponent, "q43", 2, 1000))])
        x = np.concatenate([x, -x]).astype(np.float32)
        x = x[np.abs(x) < 1.8*2.0**15*unit(exponent)] if exponent < 255 else x[np.abs(x) < a[-1]]
        x = np.append(x, np.zeros(-len(x) % (SIZE - 1), np.float32)).reshape(-1, SIZE - 1)
        found, exponents = there([block_of(exponent, "q43", row) for row in x], "q43")
        assert (exponents == exponent).all()
        magnitude = np.abs(x.astype(np.float64))
        above = np.clip(np.searchsorted(a, magnitude), 1, len(a) - 1)
        want = np.where(magnitude - a[above - 1] < a[above] - magnitude, above - 1, above)
        assert np.array_equal(found[:, 1:], want + 128*((x < 0) & (want > 0)))


def test_q44_rounds_up_for_exactly_as_many_words_as_are_cut_off():
    """Numbers from the smallest code on: the expected value over the 2**32 words is the number itself."""
    rng = np.random.default_rng(5)
    for exponent in SOME:
        x = np.abs(spread(exponent, "q44", 4, 4000))
        x = x[(x > 17/16*unit(exponent)) & (x < min(1.9*2.0**15*unit(exponent), value(237, 255, "q44")))]
        x = np.resize(x, (30, SIZE - 1))
        blocks = np.stack([block_of(exponent, "q44", row) for row in x]).astype(np.float64)
        below = np.searchsorted(value(np.arange(256), exponent, "q44"), blocks, "right") - 1
        low, high = value(below, exponent, "q44"), value(below + 1, exponent, "q44")
        up = ((blocks - low)/(high - low)*WORDS).astype(np.int64)*(blocks > 0)
        for words in (WORDS - up, WORDS - up - 1, rng.integers(0, WORDS, up.shape)):
            r = np.clip(words, 0, WORDS - 1)
            codes, exponents = there(blocks, "q44", r.astype(np.uint32))
            assert (exponents == exponent).all()
            assert np.array_equal(codes, below + (r >= WORDS - up))


def test_a_positive_second_moment_never_becomes_zero():
    tiny = np.float32([1e-45, 3e-45, 1e-39, 1.17e-38, 2e-38, 1e-30])
    for r in (0, 0x80000000, 0xFFFFFFFF):
        for exponent in SOME:
            small = np.concatenate([tiny, unit(exponent)*np.float64([0.01, 0.5, 0.99, 1.03])])
            small = small[small < unit(exponent)*17/16]
            codes, _ = there(block_of(exponent, "q44", small)[None], "q44", np.uint32(r))
            assert (codes[0, 1:1 + len(small)] == 1).all()
            assert (codes[0, 1 + len(small):] == 0).all()
            assert (back(codes, [exponent], "q44")[0, :1 + len(small)] > 0).all()
        codes, exponents = there(np.full((1, SIZE), 1e-45), "q44", np.uint32(r))
        assert (np.unique(codes).tolist(), exponents.tolist()) == ([1], [16])


def test_of_a_negative_second_moment_the_magnitude_is_kept():
    x = np.abs(normal(1, 3, SIZE))
    assert np.array_equal(there(-x, "q44")[0], there(x, "q44")[0])


# Neighbours

@both
def test_what_is_not_finite_is_nan_and_its_neighbours_stay(name):
    r = np.random.default_rng(8).integers(0, WORDS, (1, SIZE), np.uint32)
    for exponent in SOME[:-1]:
        whole = block_of(exponent, name, spread(exponent, name, 7))
        want, _ = there(whole[None], name, r)
        for x, where in itertools.product((np.nan, -np.nan, np.inf, -np.inf), ([5], [1, 2, 127], range(1, SIZE))):
            block = whole.copy()
            block[where] = x
            codes, exponents = there(block[None], name, r)
            assert exponents.tolist() == [exponent]
            assert ((codes[0, where] & LAST[name]) == LAST[name]).all()
            others = np.setdiff1d(np.arange(SIZE), where)
            assert np.array_equal(codes[0, others], want[0, others])
            assert np.isnan(back(codes, exponents, name)[0, where]).all()
    codes, exponents = there(np.full((1, SIZE), np.inf), name)
    assert (np.unique(codes).tolist(), exponents.tolist()) == ([LAST[name]], [16])


# Arrays

def mapped(formula, result, *kinds):
    """A ufunc that Numba compiles, of a format's formula."""
    one = of_formula(formula, result, *kinds)
    return vectorize([result(*kinds)])((lambda x: one(x)) if len(kinds) == 1 else (lambda x, y: one(x, y)))


@pytest.mark.parametrize("kind", [types.uint16, types.uint32], ids=str)
@both
def test_formulas_in_whole_numbers_of_either_size(name, kind):
    """A CPU's vectors have those of 16 bits, a GPU's registers of 32. All words and codes, as NumPy has them."""
    of, block, dtype = NAMES[name], NAMES[name].block, kind.name
    words = np.arange(2**16 if SIGNED[name] else 2**12 + 1, dtype=np.uint16)  # a rounded NaN of q44 may have 13 bits
    codes, places = np.arange(256, dtype=np.uint8).view(block.codes), block.magnitude(words)
    assert_identical(mapped(block.magnitude, kind, kind)(words.astype(dtype)), places.astype(dtype))
    assert_identical(mapped(block.share, kind, kind)(places.astype(dtype)), block.share(places).astype(dtype))
    encode, word = mapped(block.encode, kind, kind, kind), mapped(block.word, kind, of.stored, kind)
    decode = mapped(of.decode, types.float32, of.stored, kind)
    for exponent in SOME:
        want = block.encode(words, np.full_like(words, exponent))
        assert_identical(encode(words.astype(dtype), np.array(exponent, dtype)), want.astype(dtype))
    for exponent in (0, 1, 14, 15, *SOME):
        shared = np.full(256, exponent, np.uint16)
        want = block.word(codes, shared)
        assert_identical(word(codes, shared.astype(dtype)).astype(np.uint16), want)
        assert_identical(decode(codes, shared.astype(dtype)), of.decode(codes, shared))
        assert_identical(of.decode(codes, shared), (want.astype(np.uint32) << 16).view(np.float32))


@both
def test_arrays_of_any_size(name):
    """As whole blocks padded with zeros; codes behind the last number are 0."""
    for n in (0, 1, 3, 7, 8, 9, 127, 128, 129, 255, 256, 257, 1023, 1024, 1025, 8193):
        rng = np.random.default_rng(n)
        x = (np.abs(normal(n, n))*10.0**rng.uniform(-9, 9, n)).astype(np.float32)
        r = rng.integers(0, WORDS, n, np.uint32)
        array = storage.encode(x, name, r)
        assert (array.dtype, array.shape) == (np.uint8, (storage.coded_bytes(n),))
        blocks = -(-n//SIZE)
        assert not array[n:blocks*SIZE].any()
        for k in range(blocks):
            part = slice(k*SIZE, min((k + 1)*SIZE, n))
            alone = storage.encode(x[part], name, r[part])
            want = alone[:part.stop - part.start].tolist(), alone[-1]
            assert (array[part].tolist(), array[blocks*SIZE + k]) == want, (n, k)
        have = storage.decode(array, name, (n,))
        assert (have.dtype, have.shape) == (np.float32, (n,))
        assert_identical(storage.decode(array, name, (1, n, 1)).reshape(-1), have)


def test_arrays_of_any_shape_run_in_c_order():
    x = np.asfortranarray(normal(1, 7, 50).astype(np.float32))
    assert_identical(storage.encode(x, "q43"), storage.encode(x.reshape(-1), "q43"))
    assert storage.decode(storage.encode(x, "q43"), "q43", x.shape).shape == (7, 50)
