"""Memory as kernels see it: the words of a job, rows of addresses, coefficients, strided gradients.

A kernel of the CPU takes one argument, the address of a job: words that say where its tables lie.

    table[tensor]  the addresses of each slot, the tensor's number among all of the optimizer's, that of its first
                   element, then for a strided gradient the number of its dimensions, the extents, the strides in bytes
    tiles[k]       a tile: tensor, group, first element, one past the last
    coefs[group]   a row of coefficients, in the float type of the arithmetic
"""
import math
from collections import namedtuple
from functools import cache
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import register_jitable

from .._formats.bits import emit
from .._formats.random_bits import key
from .llvm import DOUBLE, FLOAT, I32, I64, call, code, i32, i64, pointer, unpacked

INT, FLOAT64, U32 = types.int64, types.float64, types.uint32
WORD = 8                                          # bytes
BEYOND = {4: 2.0**128 - 2.0**103, 8: math.inf}    # {bytes: from where on numbers are infinite in that arithmetic}
STRIDED_TILE = 4096                               # elements of a strided gradient that the stack holds at a time
SHRUNK = 2.0**-600  # the squares of float64 numbers times this add up to a finite number, however many there are
SUMS = 64           # partial sums of the norm: one chain of additions would wait 4 cycles for each element
UNITS = (1.0, SHRUNK, 1/SHRUNK)  # by which float64 numbers are multiplied before measured pieces square them
SMALL_SUM, LARGE_SUM = 2.0**-900, 2.0**900  # a sum that does not lie between them is made in other units, too


def record(*lines: str) -> Any:
    """The numbers of named words, as attributes. Each line of names begins with a new cache line, of 8 words."""
    numbers = {name: 8*k + j for k, line in enumerate(lines) for j, name in enumerate(line.split())}
    return namedtuple("Record", numbers)(**numbers)  # type: ignore[misc]


def flags(names: str) -> Any:
    """Named bits, as attributes: they add up."""
    return namedtuple("Flags", names)(*(2**k for k in range(len(names.split()))))  # type: ignore[misc]


JOB = record("count batch table width tiles coefs out seed", "steps factor members shares")  # kernels write none
JOB_WORDS = 16
TILE = record("tensor group first end")


def words_of(kind, number):
    """get(address, k), put(address, k, value): number k of those of a type at an address."""
    @code(number, INT, INT)
    def get(context, builder, address, k):
        return builder.load(pointer(builder, address, kind, k))

    @code(types.void, INT, INT, number)
    def put(context, builder, address, k, value):
        builder.store(value, pointer(builder, address, kind, k))
    return get, put


word, put_word = words_of(I64, INT)
get, put = words_of(DOUBLE, FLOAT64)
get_single, put_single = words_of(FLOAT, types.float32)


@code(U32, INT, U32, INT)
def tile_word(context, builder, tiles, k, name):
    """tile_word(tiles, k, name): a word of tile k in 32 bits, which hold a tensor's or a group's number."""
    place = builder.add(builder.mul(builder.zext(k, I64), i64(4)), name)
    return builder.trunc(builder.load(pointer(builder, tiles, I64, place)), I32)


def units_of(itemsize):
    """The units in which the squares of measured pieces are summed: in float32 arithmetic no other than 1 is needed."""
    return UNITS[:1 if itemsize == 4 else len(UNITS)]


# Rows

def addresses(layout):
    """addresses(table_row): the addresses of all slots, from a row of the table."""
    @code(layout.row, INT)
    def addresses(context, builder, table_row):
        return [builder.load(pointer(builder, table_row, I64, i64(k))) for k in range(layout.columns)]
    return addresses


def row_from(builder, layout, row, first):
    """The addresses of a row, moved to element `first`. For blocks, one must begin there."""
    ways = []
    for f in layout.formats:
        ways += [builder.mul(first, i64(f.itemsize))]*f.parts
        ways += [builder.udiv(first, i64(f.block.size))] if f.block else []
    return [builder.add(address, way) for address, way in zip(unpacked(builder, row), ways, strict=True)]


def row_at(layout):
    """row_at(row, first): the row of a tensor, moved to element `first`."""
    @code(layout.row, layout.row, INT)
    def row_at(context, builder, row, first):
        return row_from(builder, layout, row, first)
    return row_at


def tile_key(layout):
    """tile_key(table_row, seed, steps_at, more): the key of random bits, or 0; step: the word at `steps_at` + more."""
    @code(U32, INT, INT, INT, INT)
    def tile_key(context, builder, table_row, seed, steps_at, more):
        if not layout.random:
            return i32(0)
        tensor, first = (builder.load(pointer(builder, table_row, I64, i64(layout.columns + k))) for k in range(2))
        step = builder.add(builder.load(pointer(builder, steps_at, I64, i64(0))), more)
        return emit(builder, key, [INT]*4, [seed, step, tensor, first])
    return tile_key


# Coefficients

def coefficients_kind(layout, pipeline):
    """Numba's type of a kernel's coefficients: in the arithmetic's float type, `scale` in a wider gradient's."""
    kinds = [layout.values[0] if layout.wide and field == "scale" else layout.scalar for field in pipeline.loaded]
    return types.BaseTuple.from_types(kinds, pipeline.Loaded)


def with_sign(builder, wide, narrow):
    """A float64 number with the sign of a float32 number: by bits, as no instruction is there on all targets."""
    sign = builder.shl(builder.zext(builder.lshr(builder.bitcast(narrow, I32), i32(31)), I64), i64(63))
    magnitude = builder.and_(builder.bitcast(wide, I64), i64(2**63 - 1))
    return builder.bitcast(builder.or_(magnitude, sign), DOUBLE)


def coefficients(layout, pipeline):
    """coefficients(coefs, group, factor_at): those that the pipeline reads of a group's row.

    A gradient wider than the arithmetic takes its factor's size from the float64 at `factor_at`, the sign from the row.
    """
    kind = coefficients_kind(layout, pipeline)
    number = FLOAT if layout.arithmetic.itemsize == 4 else DOUBLE

    @code(kind, INT, INT, INT)
    def coefficients(context, builder, coefs, group, factor_at):
        data = pointer(builder, coefs, number, builder.mul(group, i64(len(pipeline.fields))))
        values = [builder.load(builder.gep(data, [i64(k)])) for k in pipeline.columns]
        if layout.wide:
            values[0] = with_sign(builder, builder.load(pointer(builder, factor_at, DOUBLE)), values[0])
        return values
    return coefficients


# Strided gradients

def strided_offset(strides, i):
    """Where element i of a strided array lies, in bytes from its first, in the order of the parameter's memory."""
    ndim, rest, offset = word(strides, 0), i, 0
    for d in range(ndim, 0, -1):
        extent = word(strides, d)
        offset += rest % extent*word(strides, ndim + d)
        rest //= extent
    return offset


register_jitable(strided_offset)


@cache
def _gather(itemsize):
    """gather(source, strides, lo, hi, target): copy elements lo to hi - 1 of a strided array to a dense target."""
    @code(types.void, INT, INT)
    def move(context, builder, target, source):
        kind = ir.IntType(8*itemsize)
        builder.store(builder.load(pointer(builder, source, kind), align=1), pointer(builder, target, kind), align=1)

    def gather(source, strides, lo, hi, target):
        ndim = word(strides, 0)
        extent, stride = word(strides, ndim), word(strides, 2*ndim)
        i = lo
        while i < hi:
            run = min(extent - i % extent, hi - i)
            start = source + strided_offset(strides, i)
            for j in range(run):
                move(target, start + j*stride)
                target += itemsize
            i += run
    return gather


def dense(layout):
    """dense(row, table_row, lo, hi): the row; a strided gradient has become a dense copy of this tile."""
    size = layout.formats[0].itemsize

    @code(layout.row, layout.row, INT, INT, INT)
    def dense(context, builder, row, table_row, lo, hi):
        if not layout.strided:
            return row
        copy = builder.ptrtoint(cgutils.alloca_once(builder, ir.ArrayType(I64, STRIDED_TILE*size//WORD)), I64)
        strides = builder.add(table_row, i64(WORD*layout.strides_at))
        source, *others = unpacked(builder, row)
        call(context, builder, _gather(size), types.none(*[INT]*5), [source, strides, lo, hi, copy])
        return [builder.sub(copy, builder.mul(lo, i64(size))), *others]
    return dense
