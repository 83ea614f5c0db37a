"""Random bits for rounding: known ones, uniform, and unrelated between elements, slots, steps, tensors and seeds."""
import itertools

import numpy as np
import pytest
from conftest import assert_identical
from internals import of_formula
from numba import njit, types

from fastopt._formats.random_bits import SLOTS, key, word

N = 2**16
FEW = [0, 1, 2, 3, 7, 1000, 2**31 - 1, 2**32, 2**53, 2**62]


def words(seed=0, step=1, tensor=0, n=N, first=0):
    with np.errstate(over="ignore"):
        return word(key(seed, step, tensor), np.arange(first, first + n, dtype=np.int64).astype(np.uint32))


def first_words(seeds=(0,), steps=(1,), tensors=(0,), element=0):
    """The words of one element for many seeds, steps or tensors."""
    which = np.broadcast_arrays(*(np.array(of, np.uint64) for of in (seeds, steps, tensors)))
    with np.errstate(over="ignore"):
        return word(key(*which), np.uint32(element))


MANY = range(1, N + 1)
STREAMS = {  # 65,536 words that differ in one thing each
    "elements": lambda: words(), "elements of another tensor": lambda: words(5, 77, 3),
    "elements past 2**31": lambda: words(first=2**31 - 100), "every 128th element": lambda: words(n=N*128)[::128],
    "steps": lambda: first_words(steps=MANY), "steps of element 1000": lambda: first_words([9], MANY, [2], 1000),
    "tensors": lambda: first_words(tensors=MANY), "seeds": lambda: first_words(seeds=MANY),
    "second slot": lambda: words()*SLOTS[1],  # has 16 bits
    "third slot": lambda: words()*SLOTS[2], "last slot": lambda: words()*SLOTS[-1]}


def chi_square(values, count):
    """In standard deviations from what is expected of uniform numbers."""
    expected = len(values)/count
    return (((np.bincount(values, minlength=count) - expected)**2).sum()/expected - (count - 1))/np.sqrt(2*(count - 1))


def test_known_answers():
    """So that a checkpoint draws the same after an update: these numbers never change."""
    keys = {(0, 1, 0): "0x8209b481", (0, 2, 0): "0x6c23aacc", (0, 1, 1): "0xbab288aa", (1, 1, 0): "0x2d0f28c7",
            (2**63 - 1, 2**62, 1000): "0x99683085"}
    known = {(0, 0): "0x0", (0, 1): "0x646298f7", (0xC0FFEE, 0): "0xc4a6a491", (0xC0FFEE, 2**32 - 1): "0xa8470bbc",
             (0xFFFFFFFF, 123456789): "0x5b3c602f"}
    with np.errstate(over="ignore"):
        assert {which: hex(key(*which)) for which in keys} == keys
        assert {(k, element): hex(word(np.uint32(k), element)) for k, element in known} == known
    assert [hex(f) for f in SLOTS[:5]] == ["0x1", "0xcc9e2d51", "0x100193a1", "0xc0d102f1", "0x9c644b41"]
    assert len(SLOTS) == len(set(SLOTS))


def by_hand(seed, step, tensor, element):
    """A word by Python's whole numbers."""
    z = (seed*0x9E3779B97F4A7C15 + step*0xD1B54A32D192ED03 + tensor*0x8CB92BA72F3D8DD7) % 2**64
    z = (z ^ z >> 30)*0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ z >> 27)*0x94D049BB133111EB % 2**64
    x = (element*0x9E3779B9 + (z >> 32)) % 2**32
    x = (x ^ x >> 16)*0x21F0AAAD % 2**32
    return (x ^ x >> 15)*0x735A2D97 % 2**32


def test_words_of_numpy_and_of_compiled_code_are_those_of_whole_numbers():
    for which in itertools.product(FEW, FEW, FEW[:6]):
        assert words(*which, n=3).tolist() == [by_hand(*which, i) for i in range(3)]
    for first in (2**31, 2**32 - 2, 2**33 + 5):
        assert words(1, 2, 3, 4, first).tolist() == [by_hand(1, 2, 3, first + i) for i in range(4)]

    key_of = of_formula(key, types.uint32, *[types.int64]*3)
    word_of = of_formula(word, types.uint32, types.uint32, types.int64)

    @njit
    def each(seeds, steps, tensors, elements, out):
        for i in range(len(out)):
            out[i] = word_of(key_of(seeds[i], steps[i], tensors[i]), elements[i])
        return out
    rng = np.random.default_rng(1)
    which = [rng.integers(0, most, 5000) for most in (2**63 - 1, 2**62, 2**20, 2**40)]
    want = [by_hand(*numbers) for numbers in zip(*(of.tolist() for of in which), strict=True)]
    assert_identical(each(*which, np.empty(5000, np.uint32)), np.array(want, np.uint32))


@pytest.mark.parametrize("name", STREAMS)
def test_words_of_a_stream_are_uniform_and_tell_nothing_of_each_other(name):
    x = STREAMS[name]()
    # every byte that rounding reads: not the lowest, which is less random, and is the lower byte of the second slot
    for shift in (24,) if name == "second slot" else (24, 16, 8):
        assert abs(chi_square((x >> np.uint32(shift)) & np.uint32(255), 256)) < 4.5, shift
    # Kolmogorov's test of the upper half: any part is rounded up as often as it should
    share = np.bincount(x >> np.uint32(16), minlength=N).cumsum()/N
    assert np.abs(share - np.arange(1, N + 1)/N).max()*np.sqrt(N) < 2.2
    # of words so far apart, pairs of the upper four bits are uniform, and as many of the upper bits differ as agree
    for apart in (1, 2, 7, 8, 128, 1024):
        first, second = x[:-apart], x[apart:]
        assert abs(chi_square((first >> np.uint32(28))*np.uint32(16) + (second >> np.uint32(28)), 256)) < 4.5, apart
        differ = np.unpackbits(((first ^ second) >> np.uint32(16)).astype(np.uint16).view(np.uint8))
        assert abs(differ.mean() - 0.5) < 4.5*0.5/np.sqrt(differ.size), apart


PAIRS = {"steps": ({"step": 1}, {"step": 2}), "tensors": ({"tensor": 0}, {"tensor": 1}), "seeds": ({}, {"seed": 1}),
         "far seeds": ({}, {"seed": 2**62}), "step and tensor": ({"step": 2, "tensor": 1}, {"step": 1, "tensor": 2}),
         "seed and step": ({"seed": 2, "step": 1}, {"seed": 1, "step": 2})}


def test_streams_are_unrelated():
    """The upper four bits of one tell nothing of those of the other, and their words are not correlated."""
    pairs = {name: (words(**one), words(**other)) for name, (one, other) in PAIRS.items()}
    pairs |= {f"slots {a} and {b}": (words()*SLOTS[a], words()*SLOTS[b])
              for a, b in itertools.combinations(range(5), 2)}
    for name, (first, second) in pairs.items():
        assert abs(chi_square((first >> np.uint32(28))*np.uint32(16) + (second >> np.uint32(28)), 256)) < 4.5, name
        assert abs(np.corrcoef(first, second)[0, 1]) < 4.5/np.sqrt(N), name


def test_no_two_keys_of_a_run_are_alike():
    """Of 10 seeds, 100 steps, 50 tensors: no more meet than among 50,000 random numbers of 32 bits."""
    with np.errstate(over="ignore"):
        found = key(*(numbers.astype(np.uint64) for numbers in np.ogrid[0:10, 1:101, 0:50]))
    assert found.size - len(np.unique(found)) <= 3
