"""The kernels of CUDA devices: the loops around a pipeline and around the norm's sums.

`step` and `squares` return the code for any architecture; no GPU is needed for that. Kernels take addresses and
numbers; the backend owns the memory and launches. Numba, and what it needs to know of CUDA, is imported when a kernel
is compiled, not before. What a step needs from the one before it lies in the clock and the coefficients, which
`advance` (advance.py) has made current.
"""
import math
from collections.abc import Sequence
from functools import cache

from .._formats.blocks import SIZE
from .._kernels import element, memory
from .._kernels.layout import Layout
from .._kernels.memory import SHRUNK, STRIDED_TILE, SUMS, TILE, WORD, put, record, tile_word, word
from .._rule.digest import digest
from .._rule.pipeline import Pipeline
from . import lanes, warps
from .code import Code, code
from .warps import QUAD, WARP

THREADS = 256           # per block, for every kernel
ROUNDS = 2              # accesses of a thread per tile: the loads of a tile's words hide, and tiles spread evenly
BLOCK_ROUNDS = 4        # of blocks: a tile's words, coefficients and random key take some 150 instructions of a thread
NORM_TILE = STRIDED_TILE  # elements; as on the CPU, so that the norm has the same bits
WIDE = 32               # numbers that a thread holds at a time, above which it may have more registers
AGAIN = 2.0**200        # a tile with a sum of squares from here on is looked at again: something may overflow
ABOVE, LEAST = 1 + 2.0**-30, 2.0**-500  # the root of a sum times this, plus this, is no less than any of its numbers
CLOCK = record("t skip missed norm normed last factor")  # the words in which a device keeps the state of the steps
CLOCK_WORDS = 8
STEP = record("count table width tiles coefs clock seed exact")  # the parameters of `step`


def access_bytes(cc: tuple[int, int]) -> int:
    """The widest access of a thread to global memory: 32 bytes from Blackwell on, 16 before."""
    return 32 if cc >= (10, 0) else 16


def lanes_of(layout: Layout, cc: tuple[int, int]) -> int:
    """The elements that a thread takes at a time."""
    return QUAD if layout.blocks else lanes.lanes_of(layout, access_bytes(cc))


def tile_size(layout: Layout, cc: tuple[int, int], sizes: Sequence[int] = (), processors: int = 0) -> int:
    """The elements of a tile of `step`: whole blocks, where there are any.

    Tiles have fewer rounds where tensors of these sizes would give work to fewer processors than there are.
    """
    once = THREADS*lanes_of(layout, cc)
    size = (BLOCK_ROUNDS if layout.blocks else ROUNDS)*once
    while size > once and sum(-(-n//size) for n in sizes) < processors:
        size //= 2
    return size


@cache
def step(pipeline: Pipeline, layout: Layout, cc: tuple[int, int], form: str = "cubin") -> Code:
    """The fused update of all tiles.

    Blocks of threads walk the list of tiles. Before the elements of a tile, a block asks whose the next one is: then
    that tensor's addresses need not wait for it. A thread takes several elements at a time where all slots are aligned
    alike. It takes single ones at the ends of a tile, and everywhere in a tensor whose slots are not aligned alike or
    whose gradient is strided. Where codes share exponents, a warp takes the 128 elements that do.
    """
    now = digest(pipeline.body)
    # ptxas aims at 64 registers of its own accord (80 with blocks), and spilled 5 of AMSGrad's on sm_100 (24 with
    # 8-bit states on sm_90): two blocks per processor leave it 128
    bounds = (THREADS, 2) if layout.blocks or lanes_of(layout, cc)*len(layout.slots) > WIDE else THREADS
    return code(f"step {pipeline.digest} {now} {layout}", cc, form, lambda: _step(pipeline, layout, cc), bounds)


def _step(pipeline, layout, cc):
    from numba import cuda, int64, types, uint32
    sweep = cuda.jit(device=True, inline="always")((_in_blocks if layout.blocks else _in_lanes)(layout, pipeline, cc))
    addresses, coefficients, row_at, tile_key = (memory.addresses(layout), memory.coefficients(layout, pipeline),
                                                 memory.row_at(layout), memory.tile_key(layout))

    row_bytes = len(pipeline.fields)*WORD

    def step(count, table, width, tiles, coefs, clock, seed, exact):
        if word(clock, CLOCK.skip) != 0:
            return
        k, end = uint32(cuda.blockIdx.x), uint32(count)
        if k >= end:
            return
        tensor, group = tile_word(tiles, k, TILE.tensor), tile_word(tiles, k, TILE.group)
        c = coefficients(coefs, int64(group), exact + group*row_bytes)
        while k < end:
            tile, table_row = tiles + 4*WORD*k, table + tensor*width*WORD
            lo, hi = word(tile, TILE.first), word(tile, TILE.end)
            row, key = row_at(addresses(table_row), lo), tile_key(table_row, seed, clock, 0)
            if tile_word(tiles, k, TILE.group) != group:
                group = tile_word(tiles, k, TILE.group)
                c = coefficients(coefs, int64(group), exact + group*row_bytes)
            k = uint32(k + uint32(cuda.gridDim.x))
            if k < end:
                tensor = tile_word(tiles, k, TILE.tensor)
            sweep(c, row, table_row, key, lo, hi)
    return step, types.void(*[types.int64]*len(STEP))


def _in_lanes(layout, pipeline, cc):
    """A tile by neighbours that a thread takes together, and by single elements at its ends."""
    from numba import cuda, uint32
    together, strided, start_of = lanes_of(layout, cc), layout.strided, element.start
    aligned_from, strided_row = lanes.aligned_from(layout, together), lanes.strided_row(layout)
    advance_lanes, advance = lanes.advance_lanes(layout, pipeline, cc, together), element.advance(layout, pipeline, cc)

    def sweep(c, row, table_row, key, lo, hi):
        n, first, thread = uint32(hi - lo), uint32(lo), uint32(cuda.threadIdx.x)
        start = whole = n
        if not strided:
            start = aligned_from(row, n)
            whole = uint32(start + uint32(uint32(n - start)//uint32(together))*uint32(together))
            j = uint32(start + uint32(thread*uint32(together)))
            while j < whole:
                advance_lanes(c, row, j, start_of(key, uint32(first + j)))
                j = uint32(j + uint32(THREADS*together))
        i, rest = thread, uint32(start + uint32(n - whole))
        while i < rest:
            single = i if i < start else uint32(uint32(i - start) + whole)
            advance(c, strided_row(row, table_row, lo, single), single, key, uint32(first + single))
            i = uint32(i + uint32(THREADS))
    return sweep


def _in_blocks(layout, pipeline, cc):
    """A tile by blocks, each of which a warp takes: aligned whole ones, then those whose elements come one by one."""
    from numba import cuda, uint32
    start_of, in_all = element.start, THREADS*QUAD
    exponents, exponents_at, aligned = (make(layout) for make in (
        warps.exponents, warps.exponents_at, warps.aligned_quads))
    shares, store_exponents, second_pass = (make(layout, pipeline) for make in (
        warps.shares, warps.store_exponents, warps.second_pass))
    largest, prefetch = warps.largest(layout, pipeline, cc), warps.prefetch(layout, pipeline, in_all)

    def part(whole):
        """The blocks from element i to `end` of a tile of `n`."""
        first_pass = warps.first_pass(layout, pipeline, cc, whole)

        def blocks(c, row, table_row, key, first, n, i, end):
            while i < end:
                here, bits = exponents_at(row, i), start_of(key, uint32(uint32(first) + i))
                shared = exponents(here)
                kept = first_pass(c, row, table_row, shared, first, n, i, bits)
                shared = shares(shared, largest(kept))
                second_pass(row, shared, kept, i)
                if uint32(cuda.threadIdx.x) % uint32(WARP) == uint32(0):
                    store_exponents(here, shared)
                i = uint32(i + uint32(in_all))
            return i
        return cuda.jit(device=True, inline="always")(blocks)

    together, singly = part(True), part(False)

    def sweep(c, row, table_row, key, lo, hi):
        n = uint32(hi - lo)
        prefetch(row, n, uint32(cuda.threadIdx.x))
        whole = uint32(n//uint32(SIZE)*uint32(SIZE)) if aligned(row) else uint32(0)
        i = together(c, row, table_row, key, lo, n, uint32(uint32(cuda.threadIdx.x)*uint32(QUAD)), whole)
        end = uint32(uint32(uint32(n + uint32(SIZE - 1))//uint32(SIZE))*uint32(SIZE))
        singly(c, row, table_row, key, lo, n, i, end)
    return sweep


@cache
def squares(layout: Layout, cc: tuple[int, int], form: str = "cubin") -> Code:
    """The sum of the squared gradient of every tile of NORM_TILE elements, in float64, with the CPU's bits.

    Three rows follow, `total` numbers apart. For tiles that are looked at again, the second holds the sum of the shrunk
    squares, the third (the fourth, if the arithmetic is float64) the largest magnitude; for others 0, and a bound above
    it. The one left over holds zeros. A warp takes a tile: its thread j holds the partial sums j and j + 32 of the 64.
    """
    return code(f"squares {layout}", cc, form, lambda: _squares(layout, cc), THREADS)


def _squares(layout, cc):
    from numba import cuda, float64, types, uint32
    together, strided = THREADS//WARP, layout.strided
    own, other = (2, 3) if layout.arithmetic.itemsize == 4 else (3, 2)
    gradient, strided_row = element.gradient(layout, cc), lanes.strided_row(layout)
    addresses, row_at = memory.addresses(layout), memory.row_at(layout)

    def squares(count, table, width, tiles, sums, total):
        lane = uint32(cuda.threadIdx.x % WARP)
        k, end = uint32(cuda.blockIdx.x*together + cuda.threadIdx.x//WARP), uint32(count)
        if k >= end:
            return
        tensor = tile_word(tiles, k, TILE.tensor)
        while k < end:
            tile, table_row = tiles + 4*WORD*k, table + tensor*width*WORD
            lo, n = word(tile, TILE.first), uint32(word(tile, TILE.end) - word(tile, TILE.first))
            row = row_at(addresses(table_row), lo)
            after = uint32(k + uint32(cuda.gridDim.x*together))
            if after < end:
                tensor = tile_word(tiles, after, TILE.tensor)

            def squared(i):
                g = gradient(strided_row(row, table_row, lo, i), i)  # noqa: B023 (Numba inlines it)
                return g*g

            low, high, i = float64(0), float64(0), lane
            if not strided:
                while uint32(i + uint32(3*SUMS + WARP)) < n:  # eight loads at a time: alone, each would be waited for
                    low += squared(i)
                    high += squared(uint32(i + uint32(WARP)))
                    low += squared(uint32(i + uint32(SUMS)))
                    high += squared(uint32(i + uint32(SUMS + WARP)))
                    low += squared(uint32(i + uint32(2*SUMS)))
                    high += squared(uint32(i + uint32(2*SUMS + WARP)))
                    low += squared(uint32(i + uint32(3*SUMS)))
                    high += squared(uint32(i + uint32(3*SUMS + WARP)))
                    i = uint32(i + uint32(4*SUMS))
            while i < n:
                low += squared(i)
                if uint32(i + uint32(WARP)) < n:
                    high += squared(uint32(i + uint32(WARP)))
                i = uint32(i + uint32(SUMS))
            low += high
            half = WARP//2
            while half > 0:
                low += cuda.shfl_down_sync(0xFFFFFFFF, low, half)
                half //= 2
            low = cuda.shfl_sync(0xFFFFFFFF, low, 0)
            shrunk, top = float64(0), math.sqrt(low)*ABOVE + LEAST
            if not low < AGAIN:
                top, high, i = float64(0), float64(0), lane
                while i < n:
                    g = abs(gradient(strided_row(row, table_row, lo, i), i))
                    top = g if g > top else top
                    shrunk += g*SHRUNK*(g*SHRUNK)
                    i = uint32(i + uint32(WARP))
                    if i < n:
                        g = abs(gradient(strided_row(row, table_row, lo, i), i))
                        top = g if g > top else top
                        high += g*SHRUNK*(g*SHRUNK)
                    i = uint32(i + uint32(WARP))
                shrunk += high
                half = WARP//2
                while half > 0:
                    shrunk += cuda.shfl_down_sync(0xFFFFFFFF, shrunk, half)
                    g = cuda.shfl_down_sync(0xFFFFFFFF, top, half)
                    top = g if g > top else top
                    half //= 2
            if lane == 0:
                put(sums, k, low)
                put(sums, total + k, shrunk)
                put(sums, own*total + k, top)
                put(sums, other*total + k, float64(0))
            k = after
    return squares, types.void(*[types.int64]*6)
