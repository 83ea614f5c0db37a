"""CUDA schedules: the loops around a rule and around the norm, and the kernel that prepares a step.

`step`, `squares` and `advance` return the code for any architecture; no GPU is needed for that. Kernels take addresses
and numbers; `device.py` owns them and launches. Numba, and what it needs to know of CUDA, is imported when a kernel is
compiled, not before.

What changes from step to step lives in one small buffer on the device, the *clock* (words of 8 bytes, below), and in
the current coefficients beside it. `advance` counts the step, or refuses to, before `step` runs.
"""
from functools import cache

from .._formats.blocks import SIZE
from .._kernels.memory import BEYOND, LANES, SHRUNK, STRIDED_TILE, WORD, is_strided
from .._rule.digest import digest
from .._rule.rule import RULES
from .code import Code, code
from .lanes import lanes_of
from .warps import LANES as LANES_OF_BLOCKS
from .warps import in_blocks

THREADS = 256           # per block, for every kernel
ROUNDS = 2              # accesses of a thread per tile: enough for the loads of a tile's words to hide, short enough to spread evenly
BLOCK_ROUNDS = 4        # the same of blocks: a tile's words, coefficients and random key take some 150 instructions of a thread
WARP, TILE = 32, STRIDED_TILE  # the norm's tiles and lanes are those of the CPU, so that its sums have the same bits
WIDE = 32               # numbers that a thread holds at a time, above which it may have more registers
DOUBTFUL = 2.0**200     # a tile with a sum of squares from here on is looked at again: squares may overflow, and numbers float32
ABOVE, LEAST = 1 + 2.0**-30, 2.0**-500  # the root of a sum times this, plus this, is no less than any of its numbers
POSTED = 64             # words that one launch of `advance` brings along
# words of the clock
T, SKIP, MISSED, NORM, NORMED, LAST, FACTOR = range(7)
CLOCK_WORDS = 8
# what `advance` is asked for: `mode`
COUNT, POST, PEEK, CHECK, SINGLE = 1, 2, 4, 8, 16


def access_bytes(cc: tuple[int, int]) -> int:
    """The widest access of a thread to global memory: 32 bytes from Blackwell on, 16 before."""
    return 32 if cc >= (10, 0) else 16


def lanes(formats: str, cc: tuple[int, int]) -> int:
    """The elements that a thread takes at a time."""
    return LANES_OF_BLOCKS if in_blocks(formats) else lanes_of(formats, access_bytes(cc))


def tile_size(formats: str, cc: tuple[int, int]) -> int:
    """The elements of a tile of `step`: whole blocks, where there are any."""
    return (BLOCK_ROUNDS if in_blocks(formats) else ROUNDS)*THREADS*lanes(formats, cc)


@cache
def step(rule: str, formats: str, cc: tuple[int, int], form: str = "cubin") -> Code:
    """The fused update of all tiles, for a rule (its digest) and the formats of its slots.

    Blocks of threads walk the list of tiles; a thread takes `lanes` elements at a time where all slots are aligned
    alike, and single ones at the ends of a tile, and everywhere in a tensor whose slots are not aligned alike or whose
    gradient is strided. Where codes share exponents, a warp takes the 128 elements that do.
    """
    now = digest(RULES[rule].body)
    # ptxas aims at 64 registers of its own accord (80 with blocks), and spilled 5 of AMSGrad's on sm_100 (4 of Adam's
    # with 8-bit states on sm_90): two blocks per processor leave it 128
    bounds = (THREADS, 2) if in_blocks(formats) or lanes(formats, cc)*len(formats.split()) > WIDE else THREADS
    return code(f"step {rule} {now} {formats}", cc, form, lambda: _step(rule, formats, cc), bounds)


def _step(rule, formats, cc):
    from numba import cuda, int64, types

    from .._kernels.memory import addresses, coefficients, row_at, tile_key, word
    sweep = cuda.jit(device=True, inline="always")((_in_blocks if in_blocks(formats) else _in_lanes)(rule, formats, cc))
    width = WORD

    def step(count, table, words, tiles, coefs, clock, seed):
        if word(clock, SKIP) != 0:
            return
        k = int64(cuda.blockIdx.x)
        if k >= count:
            return
        group = word(tiles, 4*k + 1)
        c = coefficients(rule, formats, coefs, group, clock + FACTOR*width)
        while k < count:
            tensor, lo, hi = word(tiles, 4*k), word(tiles, 4*k + 2), word(tiles, 4*k + 3)
            if word(tiles, 4*k + 1) != group:
                group = word(tiles, 4*k + 1)
                c = coefficients(rule, formats, coefs, group, clock + FACTOR*width)
            table_row = table + tensor*words*width
            row, key = row_at(formats, addresses(formats, table_row), lo), tile_key(formats, table_row, seed, clock, 0)
            sweep(c, row, table_row, key, lo, hi)
            k += cuda.gridDim.x

    return step, types.void(*[types.int64]*7)


def _in_lanes(rule, formats, cc):
    """A tile by neighbours that a thread takes together, and by single elements at its ends."""
    from numba import cuda, uint32

    from .._formats.random_bits import start as start_of
    from .._kernels.element import element_bits, load, store, update
    from .lanes import aligned_from, strided_row, update_lanes
    together, strided = lanes(formats, cc), is_strided(formats)

    def sweep(c, row, table_row, key, lo, hi):
        n, first, thread = uint32(hi - lo), uint32(lo), uint32(cuda.threadIdx.x)
        start = whole = n
        if not strided:
            start = aligned_from(formats, together, row, n)
            whole = uint32(start + uint32(uint32(n - start)//uint32(together))*uint32(together))
            j = uint32(start + uint32(thread*uint32(together)))
            while j < whole:
                update_lanes(rule, formats, together, c, row, j, start_of(key, uint32(first + j)))
                j = uint32(j + uint32(THREADS*together))
        i, rest = thread, uint32(start + uint32(n - whole))
        while i < rest:
            single = i if i < start else uint32(uint32(i - start) + whole)
            here = strided_row(formats, row, table_row, lo, single)
            bits = element_bits(formats, key, uint32(first + single))
            store(formats, here, single, update(rule, c, load(formats, here, single)), bits)
            i = uint32(i + uint32(THREADS))
    return sweep


def _in_blocks(rule, formats, cc):
    """A tile by blocks, each of which a warp takes: whole ones that are aligned, then those whose elements come one by one."""
    from numba import cuda, uint32

    from .._formats.random_bits import start as start_of
    from .._kernels.block import exponents, shares, store_exponents
    from .warps import aligned_quads, exponents_at, largest, store_quads, update_quads
    quad, in_all = LANES_OF_BLOCKS, THREADS*LANES_OF_BLOCKS

    def part(whole):
        """The blocks from element i to `end` of a tile of `n`."""
        def blocks(c, row, table_row, key, first, n, i, end):
            while i < end:
                here, bits = exponents_at(formats, row, i), start_of(key, uint32(uint32(first) + i))
                shared = exponents(formats, here)
                kept = update_quads(rule, formats, whole, c, row, table_row, shared, first, n, i, bits)
                shared = shares(rule, formats, shared, largest(rule, formats, kept))
                store_quads(rule, formats, row, shared, kept, i)
                if cuda.threadIdx.x % WARP == 0:
                    store_exponents(rule, formats, here, shared)
                i = uint32(i + uint32(in_all))
            return i
        return cuda.jit(device=True, inline="always")(blocks)

    together, singly = part(1), part(0)

    def sweep(c, row, table_row, key, lo, hi):
        n = uint32(hi - lo)
        whole = uint32(n//uint32(SIZE)*uint32(SIZE)) if aligned_quads(formats, row) else uint32(0)
        i = together(c, row, table_row, key, lo, n, uint32(uint32(cuda.threadIdx.x)*uint32(quad)), whole)
        singly(c, row, table_row, key, lo, n, i, uint32(uint32(uint32(n
                                                                      + uint32(SIZE - 1))//uint32(SIZE))*uint32(SIZE)))
    return sweep


@cache
def squares(formats: str, cc: tuple[int, int], form: str = "cubin") -> Code:
    """The sum of the squared gradient of every tile of `TILE` elements, in float64, in the order and with the bits of
    cpu.squares_kernel.

    Three rows follow, `total` numbers apart. For tiles that are looked at again, the second holds what
    cpu.shrunk_kernel finds, the third (the fourth, if the arithmetic is float64) the largest magnitude; for others 0,
    and a bound above it. The one left over holds zeros. A warp takes a tile: its thread j holds the partial sums j and
    j + 32 of the 64.
    """
    return code(f"squares {formats}", cc, form, lambda: _squares(formats), THREADS)


def _squares(formats):
    import math

    from numba import cuda, float64, int64, types, uint32

    from .._kernels.element import load_gradient
    from .._kernels.memory import addresses, computed_in, put, row_at, word
    from .lanes import strided_row
    width, warps, row_of, strided = WORD, THREADS//WARP, LANES, is_strided(formats)
    own, other = (2, 3) if computed_in(formats).itemsize == 4 else (3, 2)

    def squares(count, table, words, tiles, sums, total):
        lane = uint32(cuda.threadIdx.x % WARP)
        k = int64(cuda.blockIdx.x)*warps + cuda.threadIdx.x//WARP
        while k < count:
            lo, n = word(tiles, 4*k + 2), uint32(word(tiles, 4*k + 3) - word(tiles, 4*k + 2))
            table_row = table + word(tiles, 4*k)*words*width
            row = row_at(formats, addresses(formats, table_row), lo)

            def squared(i):
                g = load_gradient(formats, strided_row(formats, row, table_row, lo, i),
                                  i)  # noqa: B023 (Numba inlines it)
                return g*g

            low, high, i = float64(0), float64(0), lane
            if not strided:
                while uint32(i + uint32(3*row_of
                                        + WARP)) < n:  # eight loads under way at a time: alone, each would be waited for
                    low += squared(i)
                    high += squared(uint32(i + uint32(WARP)))
                    low += squared(uint32(i + uint32(row_of)))
                    high += squared(uint32(i + uint32(row_of + WARP)))
                    low += squared(uint32(i + uint32(2*row_of)))
                    high += squared(uint32(i + uint32(2*row_of + WARP)))
                    low += squared(uint32(i + uint32(3*row_of)))
                    high += squared(uint32(i + uint32(3*row_of + WARP)))
                    i = uint32(i + uint32(4*row_of))
            while i < n:
                low += squared(i)
                if uint32(i + uint32(WARP)) < n:
                    high += squared(uint32(i + uint32(WARP)))
                i = uint32(i + uint32(row_of))
            low += high
            half = WARP//2
            while half > 0:
                low += cuda.shfl_down_sync(0xFFFFFFFF, low, half)
                half //= 2
            low = cuda.shfl_sync(0xFFFFFFFF, low, 0)
            shrunk, top = float64(0), math.sqrt(low)*ABOVE + LEAST
            if not low < DOUBTFUL:
                top, high, i = float64(0), float64(0), lane
                while i < n:
                    g = abs(load_gradient(formats, strided_row(formats, row, table_row, lo, i), i))
                    top = g if g > top else top
                    shrunk += g*SHRUNK*(g*SHRUNK)
                    i = uint32(i + uint32(WARP))
                    if i < n:
                        g = abs(load_gradient(formats, strided_row(formats, row, table_row, lo, i), i))
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
            k += int64(cuda.gridDim.x)*warps

    return squares, types.void(*[types.int64]*6)


@cache
def advance(cc: tuple[int, int], form: str = "cubin") -> Code:
    """What happens once per step, in one block: the norm, whether to step, the step count, the coefficients that `step`
    reads.

    ``mode`` adds up. POST writes ``posted`` of the ``words``, ``stride`` bytes apart. COUNT begins a step: with CHECK
    it is skipped if the norm, or a number that a rule would get, is not finite (norms.all_finite), and always if it
    lies beyond the clock's LAST (-1: no end); else it is counted. PEEK looks at the next step. ``known`` is the step
    count where the host knows it, else -1: then the clock's own is used. Row t-1 modulo ``period`` of ``rows`` holds
    the coefficients of step t, in float64; columns ``first`` to ``first + columns - 1`` of each group go to ``single``
    and ``double`` (addresses, or 0), rounded as NumPy rounds them. ``count`` is that of the partial sums, -1 if no norm
    is wanted. The gradient factor is ``factor``, or lies at the address ``factor_at``, as float32 with SINGLE.

    ``sums`` has the rows of `squares`; the second is added up where the first overflows. Partial sums are added in
    pairs of float64 numbers (hi, lo) that carry what is lost, twice the digits: the norm comes out as from math.fsum,
    which norms.py uses, whatever their order; unless what lies beyond twice the digits breaks a tie.
    """
    return code("advance", cc, form, _advance, THREADS)


def _advance():
    import math

    from numba import cuda, float64, int64, types

    from .._kernels.memory import put, word
    from .lanes import get, get_single, put_single, put_word, put_words
    width, one, enlarged, beyond_single = WORD, 1.0, 1/SHRUNK, BEYOND[4]

    def advance(mode, clock, known, rows, period, groups, fields, first, columns, single, double, sums, count, factor,
                limit,
                clip_norm, factor_at, target, stride, posted, words):
        hi, lo = cuda.shared.array(THREADS, float64), cuda.shared.array(THREADS, float64)
        chosen, multiplier = cuda.shared.array(1, int64), cuda.shared.array(1, float64)
        thread = cuda.threadIdx.x

        def add(k, b_hi, b_lo):  # Knuth's exact sum of two numbers and its error, which an infinity has none of
            a = hi[k]
            s = a + b_hi
            part = s - a
            error = (a - (s - part)) + (b_hi - part) + (lo[k] + b_lo)
            if s - s != 0:
                error = float64(0)
            hi[k] = s + error
            lo[k] = float64(0) if s - s != 0 else error - (hi[k] - s)

        if mode & POST and thread == 0:
            put_words(target, stride, posted, words)
        if mode & (COUNT | PEEK) == 0:
            return
        total, unit, part, top, top_double = float64(0), float64(1), int64(0), float64(0), float64(0)
        while part < 2 and count > 0:
            hi[thread], lo[thread] = float64(0), float64(0)
            i = int64(thread)
            while i < count:
                add(thread, get(sums, part*count + i), float64(0))
                i += THREADS
            half = THREADS//2
            while half > 0:
                cuda.syncthreads()
                if thread < half:
                    add(thread, hi[thread + half], lo[thread + half])
                half //= 2
            cuda.syncthreads()
            total, unit, part = hi[0] + lo[0], one if part == 0 else enlarged, part + (1 if hi[0] - hi[0] != 0 else 2)
            cuda.syncthreads()
        if mode & CHECK and count > 0:
            i = int64(thread)
            while i < count:
                top, top_double = max(top, get(sums, 2*count + i)), max(top_double, get(sums, 3*count + i))
                i += THREADS
            hi[thread], lo[thread] = top, top_double
            half = THREADS//2
            while half > 0:
                cuda.syncthreads()
                if thread < half:
                    hi[thread], lo[thread] = max(hi[thread], hi[thread + half]), max(lo[thread], lo[thread + half])
                half //= 2
        if thread == 0:
            t = (known if known >= 0 else word(clock, T)) + 1
            skip, norm, scale = int64(0), float64(0), factor
            if factor_at != 0:
                scale = get_single(factor_at) if mode & SINGLE else get(factor_at, 0)
            if count >= 0:
                norm = abs(scale)*unit*math.sqrt(total)
                put(clock, NORM, norm)
                if norm - norm != 0:
                    skip = int64(1) if mode & CHECK else int64(0)
                else:
                    if clip_norm < norm:
                        scale *= clip_norm/norm
                    if mode & CHECK and count > 0 and not (abs(scale)*hi[0] < beyond_single
                                                           and abs(scale)*lo[0] < math.inf):
                        skip = int64(1)
            last = word(clock, LAST)
            beyond = 0 <= last < t
            if mode & COUNT:
                if beyond:
                    put_word(clock, MISSED, word(clock, MISSED) + 1)
                    skip = int64(1)
                put_word(clock, T, t - skip)
                put_word(clock, SKIP, skip)
                put_word(clock, NORMED, int64(1) if count >= 0 else int64(0))
            else:
                put_word(clock, SKIP, 0)
            if beyond:
                t = last
            chosen[0], multiplier[0] = t, scale
            put(clock, FACTOR, scale)  # for gradients wider than the arithmetic
        cuda.syncthreads()
        row, i = rows + (chosen[0] - 1) % period*groups*fields*width, int64(thread)
        while i < groups*columns:
            field = first + i % columns
            value = get(row, i//columns*fields + field)
            if field == 0:
                value *= multiplier[0]
            elif field == 1:
                value = limit
            if single != 0:
                put_single(single, i, value)
            if double != 0:
                put(double, i, value)
            i += THREADS

    numbers = [types.int64]*13 + [types.float64]*3 + [types.int64]*4
    return advance, types.void(*numbers, types.UniTuple(types.float64, POSTED))
