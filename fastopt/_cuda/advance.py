"""The kernel that runs before a step on a CUDA device: the norm, the step count, the step's coefficients."""
import math
from functools import cache

from numba import types
from numba.core import cgutils

from .._kernels import llvm
from .._kernels.llvm import DOUBLE, i64, pointer
from .._kernels.memory import (
    BEYOND,
    FLOAT64,
    INT,
    SHRUNK,
    WORD,
    flags,
    get,
    get_single,
    put,
    put_single,
    put_word,
    record,
    word,
)
from .code import Code, code
from .loops import CLOCK, THREADS

POSTED = 64  # words that one launch brings along
PARAMETERS = record("mode clock known rows period groups fields first columns single double sums count factor limit "
                    "clip_norm factor_at target stride posted")  # 64-bit words; those that are posted follow
FLOATS = ("factor", "limit", "clip_norm")
MODE = flags("count post peek check single")  # what is asked for


@llvm.code(types.void, INT, INT, INT, types.UniTuple(FLOAT64, POSTED))
def put_words(context, builder, address, stride, count, words):
    """Write the first `count` of a tuple of float64 numbers from an address on, `stride` bytes apart."""
    for k, value in enumerate(cgutils.unpack_tuple(builder, words)):
        with builder.if_then(builder.icmp_signed("<", i64(k), count)):
            place = builder.add(address, builder.mul(stride, i64(k)))
            builder.store(value, pointer(builder, place, DOUBLE))


def exact_sum():
    """exact_sum(hi, lo, sums, first, end): the sum of float64 numbers in a block, of which each thread has all.

    They are added in pairs (hi, lo) that carry what is lost, twice the digits: it is that of math.fsum, which
    `_cpu.norm` uses, whatever their order; unless what lies beyond twice the digits breaks a tie. `hi` and `lo` are
    shared by the block.
    """
    from numba import cuda, float64

    def add(hi, lo, k, b_hi, b_lo):  # Knuth's exact sum of two numbers and its error, which an infinity has none of
        a = hi[k]
        s = a + b_hi
        part = s - a
        error = (a - (s - part)) + (b_hi - part) + (lo[k] + b_lo)
        if s - s != 0:
            error = float64(0)
        hi[k] = s + error
        lo[k] = float64(0) if s - s != 0 else error - (hi[k] - s)
    add = cuda.jit(device=True, inline="always")(add)

    def exact_sum(hi, lo, sums, first, end):
        thread = cuda.threadIdx.x
        hi[thread], lo[thread] = float64(0), float64(0)
        i = first + thread
        while i < end:
            add(hi, lo, thread, get(sums, i), float64(0))
            i += THREADS
        half = THREADS//2
        while half > 0:
            cuda.syncthreads()
            if thread < half:
                add(hi, lo, thread, hi[thread + half], lo[thread + half])
            half //= 2
        cuda.syncthreads()
        total = hi[0] + lo[0]
        cuda.syncthreads()
        return total
    return cuda.jit(device=True, inline="always")(exact_sum)


@cache
def advance(cc: tuple[int, int], form: str = "cubin") -> Code:
    """What happens once per step, in one block: the norm, whether to step, the step count, the step's coefficients.

    ``mode`` adds up. POST writes ``posted`` of the ``words``, ``stride`` bytes apart. COUNT begins a step: with CHECK
    it is skipped if the norm, or a number that a rule would get, is not finite (`_cpu.norm`), and always if it lies
    beyond the clock's LAST (-1: no end); else it is counted. PEEK looks at the next step. ``known`` is the step count
    where the host knows it, else -1: then the clock's own is used. Row t-1 modulo ``period`` of ``rows`` holds the
    coefficients of step t, in float64; columns ``first`` to ``first + columns - 1`` of each group go to ``single`` and
    ``double`` (addresses, or 0), rounded as NumPy rounds them. ``count`` is that of the partial sums, -1 if no norm is
    wanted. The gradient factor is ``factor``, or lies at the address ``factor_at``, as float32 with SINGLE.

    ``sums`` has the rows of `squares`; the second is added up where the first overflows.
    """
    return code("advance", cc, form, _advance, THREADS)


def _advance():
    from numba import cuda, float64, int64, types
    one, enlarged, beyond_single, of = 1.0, 1/SHRUNK, BEYOND[4], exact_sum()

    def advance(mode, clock, known, rows, period, groups, fields, first, columns, single, double, sums, count, factor,
                limit, clip_norm, factor_at, target, stride, posted, words):  # the order of PARAMETERS
        hi, lo = cuda.shared.array(THREADS, float64), cuda.shared.array(THREADS, float64)
        chosen, multiplier = cuda.shared.array(1, int64), cuda.shared.array(1, float64)
        thread = cuda.threadIdx.x

        if mode & MODE.post and thread == 0:
            put_words(target, stride, posted, words)
        if mode & (MODE.count | MODE.peek) == 0:
            return
        total, unit, part, top, top_double = float64(0), float64(1), int64(0), float64(0), float64(0)
        while part < 2 and count > 0:
            total = of(hi, lo, sums, part*count, (part + 1)*count)
            unit, part = one if part == 0 else enlarged, part + (1 if total - total != 0 else 2)
        if mode & MODE.check and count > 0:
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
            t = (known if known >= 0 else word(clock, CLOCK.t)) + 1
            skip, norm, scale = int64(0), float64(0), factor
            if factor_at != 0:
                scale = float64(get_single(factor_at, 0)) if mode & MODE.single else get(factor_at, 0)
            if count >= 0:
                norm = abs(scale)*unit*math.sqrt(total)
                put(clock, CLOCK.norm, norm)
                if norm - norm != 0:
                    skip = int64(1) if mode & MODE.check else int64(0)
                else:
                    if clip_norm < norm:
                        scale *= clip_norm/norm
                    if mode & MODE.check and count > 0 and not (abs(scale)*hi[0] < beyond_single
                                                           and abs(scale)*lo[0] < math.inf):
                        skip = int64(1)
            last = word(clock, CLOCK.last)
            beyond = 0 <= last < t
            if mode & MODE.count:
                if beyond:
                    put_word(clock, CLOCK.missed, word(clock, CLOCK.missed) + 1)
                    skip = int64(1)
                put_word(clock, CLOCK.t, t - skip)
                put_word(clock, CLOCK.skip, skip)
                put_word(clock, CLOCK.normed, int64(1) if count >= 0 else int64(0))
            else:
                put_word(clock, CLOCK.skip, 0)
            if beyond:
                t = last
            chosen[0], multiplier[0] = t, scale
            put(clock, CLOCK.factor, scale)  # `clipped` reads it
        cuda.syncthreads()
        row, i = rows + (chosen[0] - 1) % period*groups*fields*WORD, int64(thread)
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

    kinds = [types.float64 if name in FLOATS else types.int64 for name in PARAMETERS._fields]
    return advance, types.void(*kinds, types.UniTuple(types.float64, POSTED))
