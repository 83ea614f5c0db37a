"""CPU schedules: the loops around a rule and around the norm."""
from functools import cache

import numpy as np

from .._formats.blocks import COMPANY, SIZE
from .._formats.random_bits import ELEMENT, start
from .._kernels.compile import Kernel, jitted, kernel
from .._kernels.element import element_bits, load, load_gradient, store, update, update_pair
from .._kernels.memory import (
    BATCH,
    COEFS,
    COUNT,
    FACTOR,
    LANES,
    OUT,
    SEED,
    SHRUNK,
    STEPS,
    TABLE,
    TILE_WORDS,
    TILES,
    WIDTH,
    WORD,
    addresses,
    claim,
    coefficients,
    dense,
    put,
    row_at,
    slots,
    tile_key,
    word,
)
from .._rule.digest import digest
from .._rule.rule import RULES
from .._signals import UNDISTURBED

PAIR = np.uint32(2*int(ELEMENT) % 2**32)


def _one_by_one(rule, formats):
    """The loop over a tile's elements, which LLVM turns into vectors."""
    def sweep(c, row, lo, hi, key):
        for i in range(lo, hi):
            store(formats, row, i, update(rule, c, load(formats, row, i)), element_bits(formats, key, i))
    return sweep


def _in_pairs(rule, formats):
    """The same by two elements in a 32-bit word."""
    def sweep(c, row, lo, hi, key):
        even, bits = hi - (hi - lo) % 2, start(key, lo)
        for i in range(lo, even, 2):
            update_pair(rule, formats, c, row, i, bits)
            bits = np.uint32(bits + PAIR)
        for i in range(even, hi):
            store(formats, row, i, update(rule, c, load(formats, row, i)), element_bits(formats, key, i))
    return sweep


def _in_blocks(rule, formats):
    """The loops over a tile's blocks, for formats that share exponents: tiles begin with whole blocks.

    Blocks take the passes in company: the largest number of one is waited for while others' are looked for. With COMPANY = 1 Adam's step
    took 18 % longer (benchmarks/studies/fewer_bytes.py --n 1e5 --threads 1).
    """
    from .._kernels.block import (
        exponents,
        larger,
        no_magnitudes,
        padded,
        scratch,
        shares,
        store_codes,
        store_exponents,
        unpadded,
        update_shared,
    )

    def whole(c, row, lo, hi, key):
        room = scratch(rule, formats)
        for begin in range(lo, hi, COMPANY*SIZE):
            end = min(begin + COMPANY*SIZE, hi)
            for first in range(begin, end, SIZE):
                here, bits = row_at(formats, row, first), start(key, first)
                shared = exponents(formats, here)
                for i in range(SIZE):
                    update_shared(rule, formats, c, here, shared, i, bits, room, first - begin)
                    bits = np.uint32(bits + ELEMENT)
            for first in range(begin, end, SIZE):
                here, top = row_at(formats, row, first), no_magnitudes(rule, formats)
                for i in range(first - begin, first - begin + SIZE):
                    top = larger(rule, formats, room, i, top)
                store_exponents(rule, formats, here, shares(rule, formats, exponents(formats, here), top))
            for first in range(begin, end, SIZE):
                here = row_at(formats, row, first)
                shared = exponents(formats, here)
                for i in range(SIZE):
                    store_codes(rule, formats, here, shared, room, i, first - begin)

    def rest(c, row, first, count, key):
        """A last block of less than 128 elements: a copy of them on the stack, with zeros behind, takes the first pass."""
        room, there, bits, top = scratch(rule, formats), row_at(formats, row, first), start(key, first), no_magnitudes(rule, formats)
        here, shared = padded(formats, there, count), exponents(formats, there)
        for i in range(SIZE):
            update_shared(rule, formats, c, here, shared, i, bits, room, 0)
            bits = np.uint32(bits + ELEMENT)
        unpadded(formats, there, here, count)
        for i in range(count):  # what a rule makes of the zeros is not looked at
            top = larger(rule, formats, room, i, top)
        shared = shares(rule, formats, shared, top)
        store_exponents(rule, formats, there, shared)
        for i in range(count):
            store_codes(rule, formats, there, shared, room, i, 0)

    whole, rest = jitted(whole, inline="always"), jitted(rest)

    def sweep(c, row, lo, hi, key):
        end = hi - (hi - lo) % SIZE
        whole(c, row, lo, end, key)
        if end < hi:
            rest(c, row, end, hi - end, key)
    return sweep


def _sweep(rule, formats):
    of = slots(formats)
    if any(f.block for f in of):
        return _in_blocks(rule, formats)
    return _in_pairs(rule, formats) if all(f.itemsize == 2 for f in of) else _one_by_one(rule, formats)


@cache
@UNDISTURBED
def step_kernel(rule: str, formats: str) -> Kernel:
    """The fused update of every claimed tile, for a rule (its digest) and the formats of its slots."""
    sweep = jitted(_sweep(rule, formats), inline="always")

    def step(job):
        count, batch, table, width, tiles, coefs = (word(job, COUNT), word(job, BATCH), word(job, TABLE), word(job, WIDTH),
                                                    word(job, TILES), word(job, COEFS))
        first = claim(job, batch)
        while first < count:
            for k in range(first, min(first + batch, count)):
                tile = tiles + k*TILE_WORDS*WORD
                lo, hi = word(tile, 2), word(tile, 3)
                table_row = table + word(tile, 0)*width*WORD
                row = dense(formats, addresses(formats, table_row), table_row, lo, hi)
                sweep(coefficients(rule, formats, coefs, word(tile, 1), job + FACTOR*WORD), row, lo, hi,
                      tile_key(formats, table_row, word(job, SEED), word(job, STEPS), 1))
            first = claim(job, batch)

    now = digest(RULES[rule].body)  # with its globals as Numba freezes them, which may not be those of its decoration
    return kernel(f"step {rule} {now} {formats}", step)


def _of_tiles(name, formats, measured):
    """The kernel that writes what `measured` makes of the gradient in every claimed tile."""
    measured = jitted(measured, inline="always")

    def measure(job):
        count, batch, table, width, tiles, out = (word(job, COUNT), word(job, BATCH), word(job, TABLE), word(job, WIDTH),
                                                  word(job, TILES), word(job, OUT))
        lanes = np.empty(LANES)
        first = claim(job, batch)
        while first < count:
            for k in range(first, min(first + batch, count)):
                tile = tiles + k*TILE_WORDS*WORD
                lo, hi = word(tile, 2), word(tile, 3)
                table_row = table + word(tile, 0)*width*WORD
                row = dense(formats, addresses(formats, table_row), table_row, lo, hi)
                put(out, k, measured(row, lo, hi, lanes))
            first = claim(job, batch)

    return kernel(f"{name} {formats}", measure)


def _squares(name, formats, unit):
    def summed(row, lo, hi, lanes):
        lanes[:] = 0
        whole = hi - (hi - lo) % LANES
        for i in range(lo, whole, LANES):
            for j in range(LANES):
                g = unit*load_gradient(formats, row, i + j)
                lanes[j] += g*g
        for i in range(whole, hi):
            g = unit*load_gradient(formats, row, i)
            lanes[i - whole] += g*g
        half = LANES//2
        while half > 0:  # in pairs: one after the other would wait 4 cycles for each
            for j in range(half):
                lanes[j] += lanes[j + half]
            half //= 2
        return lanes[0]

    return _of_tiles(name, formats, summed)


@cache
@UNDISTURBED
def squares_kernel(formats: str) -> Kernel:
    """The sum of the squared gradient of every claimed tile, in float64 and in an order that depends on the tile alone."""
    return _squares("squares", formats, 1.0)


@cache
@UNDISTURBED
def shrunk_kernel(formats: str) -> Kernel:
    """The same of the gradient times SHRUNK."""
    return _squares("shrunk squares", formats, SHRUNK)


@cache
@UNDISTURBED
def largest_kernel(formats: str) -> Kernel:
    """The largest magnitude in every claimed tile, but for NaN."""
    def largest(row, lo, hi, lanes):
        top = 0.0
        for i in range(lo, hi):
            g = abs(load_gradient(formats, row, i))
            top = g if g > top else top
        return top

    return _of_tiles("largest", formats, largest)
