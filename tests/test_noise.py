"""Random bits for rounding: the same everywhere, uniform, and unrelated between elements, slots, steps, tensors and seeds."""
import functools
import itertools

import numpy as np
import pytest
from conftest import assert_identical
from numba import njit

from fastopt._formats import random_bits as noise

N = 2**16
KNOWN_KEYS = {(0, 1, 0): "0x8209b481", (0, 2, 0): "0x6c23aacc", (0, 1, 1): "0xbab288aa", (1, 1, 0): "0x2d0f28c7",
              (2**63 - 1, 2**62, 1000): "0x99683085"}
KNOWN_WORDS = {(0, 0): "0x0", (0, 1): "0x646298f7", (0xC0FFEE, 0): "0xc4a6a491", (0xC0FFEE, 2**32 - 1): "0xa8470bbc",
               (0xFFFFFFFF, 123456789): "0x5b3c602f"}
FEW = [0, 1, 2, 3, 7, 1000, 2**31 - 1, 2**32, 2**53, 2**62]


def words(seed=0, step=1, tensor=0, n=N, first=0):
    with np.errstate(over="ignore"):
        return noise.word(noise.key(seed, step, tensor), np.arange(first, first + n, dtype=np.int64).astype(np.uint32))


def keys(seeds, steps, tensors):
    with np.errstate(over="ignore"):
        return np.array([noise.key(*which) for which in itertools.product(seeds, steps, tensors)], np.uint32)


STREAMS = {  # 65,536 words that differ in one thing each
    "elements": lambda: words(),
    "elements of another tensor": lambda: words(5, 77, 3),
    "elements past 2**31": lambda: words(first=2**31 - 100),
    "every 128th element": lambda: words(n=N*128)[::128],
    "steps": lambda: np.array([words(0, t, 0, 1)[0] for t in range(1, N + 1)]),
    "tensors": lambda: np.array([words(0, 1, k, 1)[0] for k in range(N)]),
    "seeds": lambda: np.array([words(s, 1, 0, 1)[0] for s in range(N)]),
    "steps of element 1000": lambda: np.array([words(9, t, 2, 1, 1000)[0] for t in range(1, N + 1)]),
    "second slot": lambda: words()*noise.SLOTS[1],  # has 16 bits
    "third slot": lambda: words()*noise.SLOTS[2],
    "last slot": lambda: words()*noise.SLOTS[-1],
}


@functools.cache
def stream_of(name):
    return STREAMS[name]()


def chi_square(values, count):
    """In standard deviations from what is expected of uniform numbers."""
    expected = len(values)/count
    return (((np.bincount(values, minlength=count) - expected)**2).sum()/expected - (count - 1))/np.sqrt(2*(count - 1))


def test_known_answers():
    """So that a checkpoint draws the same after an update: these numbers never change."""
    with np.errstate(over="ignore"):
        assert [hex(noise.key(*which)) for which in KNOWN_KEYS] == list(KNOWN_KEYS.values())
        assert [hex(noise.word(np.uint32(key), element)) for key, element in KNOWN_WORDS] == list(KNOWN_WORDS.values())
    assert [hex(f) for f in noise.SLOTS[:5]] == ["0x1", "0xcc9e2d51", "0x100193a1", "0xc0d102f1", "0x9c644b41"]
    assert len(noise.SLOTS) == len(set(noise.SLOTS))


def by_hand(seed, step, tensor, element):
    """The same in Python's whole numbers."""
    z = (seed*0x9E3779B97F4A7C15 + step*0xD1B54A32D192ED03 + tensor*0x8CB92BA72F3D8DD7) % 2**64
    z = (z ^ z >> 30)*0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ z >> 27)*0x94D049BB133111EB % 2**64
    x = (element*0x9E3779B9 + (z >> 32)) % 2**32
    x = (x ^ x >> 16)*0x21F0AAAD % 2**32
    return (x ^ x >> 15)*0x735A2D97 % 2**32


def test_numpys_words_are_those_of_whole_numbers():
    for which in itertools.product(FEW, FEW, FEW[:6]):
        assert words(*which, n=3).tolist() == [by_hand(*which, i) for i in range(3)]
    for first in (2**31, 2**32 - 2, 2**33 + 5):
        assert words(1, 2, 3, 4, first).tolist() == [by_hand(1, 2, 3, first + i) for i in range(4)]


def test_compiled_words_are_numpys():
    @njit
    def each(seeds, steps, tensors, elements, out):
        for i in range(len(out)):
            out[i] = noise.word(noise.key(seeds[i], steps[i], tensors[i]), elements[i])
        return out
    rng = np.random.default_rng(1)
    seeds, steps, tensors, elements = (rng.integers(0, most, 5000) for most in (2**63 - 1, 2**62, 2**20, 2**40))
    with np.errstate(over="ignore"):
        key = noise.key(seeds.astype(np.uint64), steps.astype(np.uint64), tensors.astype(np.uint64))
        want = noise.word(key, elements.astype(np.uint32))
    assert_identical(each(seeds, steps, tensors, elements, np.empty(5000, np.uint32)), want)


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("shift", [24, 16, 8])
def test_every_byte_that_rounding_reads_is_uniform(stream, shift):
    """Upper and lower half, but for the lowest byte, which is less so; it is the lower one of the second slot."""
    if stream == "second slot":
        shift = 24
    assert abs(chi_square((stream_of(stream) >> np.uint32(shift)) & np.uint32(255), 256)) < 4.5


@pytest.mark.parametrize("stream", STREAMS)
def test_any_part_is_rounded_up_as_often_as_it_should(stream):
    """Kolmogorov's test of the upper half: the share of words above any threshold is that of uniform numbers."""
    share = np.bincount(stream_of(stream) >> np.uint32(16), minlength=N).cumsum()/N
    assert np.abs(share - np.arange(1, N + 1)/N).max()*np.sqrt(N) < 2.2


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("apart", [1, 2, 7, 8, 128, 1024])
def test_words_tell_nothing_of_those_behind_them(stream, apart):
    """Pairs of the upper four bits are uniform, and as many of the upper bits differ as agree."""
    x = stream_of(stream)
    first, second = x[:-apart], x[apart:]
    assert abs(chi_square((first >> np.uint32(28))*np.uint32(16) + (second >> np.uint32(28)), 256)) < 4.5
    differ = np.unpackbits(((first ^ second) >> np.uint32(16)).astype(np.uint16).view(np.uint8))
    assert abs(differ.mean() - 0.5) < 4.5*0.5/np.sqrt(differ.size)


PAIRS = {
    "steps": (lambda: words(step=1), lambda: words(step=2)),
         "tensors": (lambda: words(tensor=0), lambda: words(tensor=1)),
    "seeds": (lambda: words(seed=0), lambda: words(seed=1)),
         "far seeds": (lambda: words(seed=0), lambda: words(seed=2**62)),
    "step and tensor": (lambda: words(step=2, tensor=1), lambda: words(step=1, tensor=2)),
    "seed and step": (lambda: words(seed=2, step=1), lambda: words(seed=1, step=2)),
    **{f"slots {a} and {b}": (lambda a=a: words()*noise.SLOTS[a], lambda b=b: words()*noise.SLOTS[b])
       for a, b in itertools.combinations(range(5), 2)}}


@pytest.mark.parametrize("pair", PAIRS)
def test_streams_are_unrelated(pair):
    """The upper four bits of one tell nothing of those of the other, and whole words are not correlated."""
    first, second = (make() for make in PAIRS[pair])
    assert abs(chi_square((first >> np.uint32(28))*np.uint32(16) + (second >> np.uint32(28)), 256)) < 4.5
    assert abs(np.corrcoef(first, second)[0, 1]) < 4.5/np.sqrt(N)


def test_no_two_keys_of_a_run_are_alike():
    """Of 10 seeds, 100 steps, 50 tensors: no more meet than among 50,000 random numbers of 32 bits."""
    found = keys(range(10), range(1, 101), range(50))
    assert len(found) - len(np.unique(found)) <= 3
