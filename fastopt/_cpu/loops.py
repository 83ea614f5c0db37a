"""The kernels of the CPU: the loops around a pipeline and around the norm's sums."""
from functools import cache

import numpy as np

from .._kernels import element, memory
from .._kernels.atomics import BITS, LOW_HALF, take
from .._kernels.compile import Kernel, jitted, kernel
from .._kernels.element import halved
from .._kernels.layout import Layout
from .._kernels.memory import JOB, LARGE_SUM, SHRUNK, SMALL_SUM, SUMS, TILE, WORD, put, units_of, word
from .._rule.digest import digest
from .._rule.pieces import MEASURED
from .._rule.pipeline import Pipeline
from .._signals import UNDISTURBED
from .blocks import in_blocks, of_words, seen_in_blocks
from .pairs import in_pairs


def _sweep(layout, pipeline):
    if layout.blocks:
        return jitted(in_blocks(layout, pipeline, _sweep(of_words(layout), pipeline)), inline="always")
    in_words = all(f.itemsize == 2 or f.value.name == "bool" for f in layout.formats)
    return jitted(in_pairs(layout, pipeline), inline="always") if in_words else element.sweep(layout, pipeline)


def _over_tiles(name, layout, work, room):
    """The kernel that takes tiles until none is left, and works on each, with room that it has made once."""
    work, room = jitted(work, inline="always"), jitted(room, inline="always")
    addresses, dense = memory.addresses(layout), memory.dense(layout)

    def over_tiles(job, thread):
        table, width, tiles = word(job, JOB.table), word(job, JOB.width)*WORD, word(job, JOB.tiles)
        place = room()
        while True:
            taken = take(job, thread)
            if taken == 0:
                break
            for k in range(taken >> BITS, taken & LOW_HALF):
                tile = tiles + k*4*WORD
                lo, hi = word(tile, TILE.first), word(tile, TILE.end)
                table_row = table + word(tile, TILE.tensor)*width
                work(job, k, tile, table_row, dense(addresses(table_row), table_row, lo, hi), lo, hi, place)
    return kernel(f"{name} {layout}", over_tiles)


@cache
@UNDISTURBED
def step_kernel(pipeline: Pipeline, layout: Layout) -> Kernel:
    """The fused update of every tile that is taken."""
    sweep = _sweep(layout, pipeline)
    coefficients, tile_key = memory.coefficients(layout, pipeline), memory.tile_key(layout)
    wide = element.wide_vectors(layout)

    def step(job, k, tile, table_row, row, lo, hi, place):
        wide()
        c = coefficients(word(job, JOB.coefs), word(tile, TILE.group), job + JOB.factor*WORD)
        sweep(c, row, lo, hi, tile_key(table_row, word(job, JOB.seed), word(job, JOB.steps), 1))

    now = digest(pipeline.body)  # with its globals as Numba freezes them, which may not be those of its decoration
    return _over_tiles(f"step {pipeline.digest} {now}", layout, step, lambda: 0)


@cache
@UNDISTURBED
def sums_kernel(pipeline: Pipeline, layout: Layout, name: str) -> Kernel:
    """The sums of the squares of a measured piece's terms, of every tile, in float64. Nothing else is written.

    In units other than 1 only those tiles are looked at whose squares may leave the range. Of others the sums are 0.
    """
    piece, units = MEASURED[name], units_of(layout.arithmetic.itemsize)
    words, count, coefficients = of_words(layout), piece.many, memory.coefficients(layout, pipeline)
    add_squares = element.add_squares(words, pipeline, piece)

    def chunks(c, row, lo, hi, sums):
        for first in range(lo, hi, SUMS):
            add_squares(c, row, first, hi if hi - first < SUMS else first + SUMS, sums)
    over = jitted(chunks, inline="always")
    if layout.blocks:
        over = jitted(seen_in_blocks(layout, over), inline="always")

    def work(job, k, tile, table_row, row, lo, hi, lanes):
        c = coefficients(word(job, JOB.coefs), word(tile, TILE.group), job + JOB.factor*WORD)
        large = small = False
        for look in range(len(units)):
            lanes[:] = 0
            lanes[-1] = units[look]
            if look == 0 or (large if look == 1 else small):
                over(c, row, lo, hi, lanes.ctypes.data)
            for term in range(count):
                found = halved(lanes.ctypes.data + term*SUMS*WORD)
                put(word(job, JOB.out), (k*len(units) + look)*count + term, found)
                if look == 0:
                    large, small = large or not found < LARGE_SUM, small or found < SMALL_SUM
    of = f"sums {name} {pipeline.digest} {digest(pipeline.body)}"
    return _over_tiles(of, layout, work, lambda: np.empty(count*SUMS + 1))


def _measured(name, layout, measure):
    """The kernel that writes what `measure` makes of the gradient in every tile."""
    measure = jitted(measure, inline="always")

    def work(job, k, tile, table_row, row, lo, hi, lanes):
        put(word(job, JOB.out), k, measure(row, lo, hi, lanes))
    return _over_tiles(name, layout, work, lambda: np.empty(SUMS))


def _squares(name, layout, unit):
    gradient, squares = element.gradient(layout), element.squares(layout, unit)

    def summed(row, lo, hi, lanes):
        whole = hi - (hi - lo) % SUMS
        squares(row, lo, (hi - lo)//SUMS, lanes.ctypes.data)
        for i in range(whole, hi):
            g = unit*gradient(row, i)
            lanes[i - whole] += g*g
        return halved(lanes.ctypes.data)
    return _measured(name, layout, summed)


@cache
@UNDISTURBED
def squares_kernel(layout: Layout) -> Kernel:
    """The sum of the squared gradient of every tile, in float64, in an order that depends on the tile."""
    return _squares("squares", layout, 1.0)


@cache
@UNDISTURBED
def shrunk_kernel(layout: Layout) -> Kernel:
    """The sum of the squares of the gradient times SHRUNK."""
    return _squares("shrunk squares", layout, SHRUNK)


@cache
@UNDISTURBED
def largest_kernel(layout: Layout) -> Kernel:
    """The largest magnitude in every tile, but for NaN."""
    gradient = element.gradient(layout)

    def largest(row, lo, hi, lanes):
        top = 0.0
        for i in range(lo, hi):
            g = abs(gradient(row, i))
            top = g if g > top else top
        return top
    return _measured("largest", layout, largest)
