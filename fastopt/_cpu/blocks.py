"""Blocks of 128 elements whose codes share exponents, on the CPU: loops that LLVM turns into vectors.

The codes of up to eight blocks become words of 16 bits on the stack, which are bfloat16 numbers. A step reads them as
an array, and writes 16 bits of each new number there. The largest of a block gives its exponent; then all become codes.
What has 8 and 16 bits gets loops of its own, because a vector holds more of them than of float32 numbers.
"""
from llvmlite import ir
from numba import types
from numba.core import cgutils

from .._formats.blocks import SIZE
from .._kernels import block
from .._kernels.block import BlockElement, coded
from .._kernels.layout import Layout
from .._kernels.llvm import I8, I16, I64, code, i64, independent, pointer, unpacked
from .._kernels.memory import INT, row_from

COMPANY = 8*SIZE  # elements that take the loops together: blocks do not wait for each other's largest number
HALFWORD = 2      # bytes
TOGETHER = 32     # elements that the loop of codes takes at a time: two vectors of words become one of codes


def of_words(layout):
    """The layout that a step sees: words in place of codes."""
    return Layout(tuple(slot._replace(format=slot.format.block.words) if slot.format.block else slot
                        for slot in layout.slots))


class Words(BlockElement):
    """An element of a block whose words lie at `room`, and whose codes a row of addresses tells."""

    def __init__(self, context, builder, layout, pipeline, addresses, room):
        super().__init__(context, builder, layout, pipeline)
        self.at, self.room = addresses, room

    def word_at(self, k, i):
        start = i64(self.layout.blocks.index(k)*COMPANY*HALFWORD)
        return pointer(self.builder, self.builder.add(self.room, start), I16, i)

    def code_at(self, k, i):
        return pointer(self.builder, self.at[self.layout.starts[k]], I8, i)


def make_room(layout):
    """make_room(): the address of room on the stack for the words of a company."""
    @code(INT)
    def make_room(context, builder):
        room = ir.ArrayType(I64, HALFWORD*COMPANY*len(layout.blocks)//8)
        return builder.ptrtoint(cgutils.alloca_once(builder, room), I64)
    return make_room


def of_company(layout, pipeline=None):
    """Make ``f(row, room, begin, end)``, which does what ``emit(builder, e, count)`` does with each block of a company.

    `e` are its words; `count` of them there are, where the last block of a tensor is short.
    """
    def decorate(emit):
        @code(types.void, layout.row, INT, INT, INT)
        def of_blocks(context, builder, row, room, begin, end):
            with cgutils.for_range_slice(builder, begin, end, i64(SIZE), I64) as (first, _):
                behind = builder.mul(builder.sub(first, begin), i64(HALFWORD))
                here = row_from(builder, layout, row, first)
                e = Words(context, builder, layout, pipeline, here, builder.add(room, behind))
                emit(builder, e, builder.sub(end, first))
        return of_blocks
    return decorate


def unpack(layout):
    """unpack(row, room, begin, end): make words out of codes; zeros behind the last."""
    @of_company(layout)
    def unpack(builder, e, count):
        exponents = e.exponents(e.at)
        with independent(builder, i64(0), i64(SIZE)) as i:
            for k, exponent in exponents.items():
                f, stored = layout.formats[k], builder.load(e.code_at(k, i))
                builder.store(e.formula(f.block.word, [f.stored, e.word], [stored, exponent]), e.word_at(k, i))
        with builder.if_then(builder.icmp_signed("<", count, i64(SIZE)), likely=False):
            for k in layout.blocks:
                behind = builder.bitcast(e.word_at(k, count), I8.as_pointer())
                cgutils.memset(builder, behind, builder.mul(builder.sub(i64(SIZE), count), i64(HALFWORD)), 0)
    return unpack


def put_exponents(layout, pipeline):
    """put_exponents(row, room, begin, end): the exponents of blocks, by the largest of their words."""
    slots = coded(layout, pipeline)

    @of_company(layout, pipeline)
    def put_exponents(builder, e, count):
        with independent(builder, i64(0), i64(SIZE), carried=[ir.Constant(I16, 0)]*len(slots)) as (i, tops):
            largest = list(tops)
            for number, k in enumerate(slots):
                tops[number] = block.maximum(builder, tops[number], e.magnitude(k, builder.load(e.word_at(k, i))))
        e.store_exponents(e.at, e.shares(largest))
    return put_exponents


def pack(layout, pipeline):
    """pack(row, room, begin, end): make codes out of words."""
    @of_company(layout, pipeline)
    def pack(builder, e, count):
        exponents = e.exponents(e.at)
        with independent(builder, i64(0), i64(SIZE), TOGETHER) as i:
            for k in coded(layout, pipeline):
                number = e.code(k, builder.load(e.word_at(k, i)), exponents[k])
                builder.store(builder.trunc(number, I8), e.code_at(k, i))
    return pack


def seen(layout):
    """seen(row, room, begin): the row that a step sees: words at `room`, the first of them element `begin`'s."""
    @code(of_words(layout).row, layout.row, INT, INT)
    def seen(context, builder, row, room, begin):
        old, new = unpacked(builder, row), []
        e = Words(context, builder, layout, None, old, room)
        for k, (f, start) in enumerate(zip(layout.formats, layout.starts, strict=True)):
            if f.block:
                new.append(builder.ptrtoint(e.word_at(k, builder.neg(begin)), I64))
            else:
                new += old[start:start + f.columns]
        return new
    return seen


def seen_in_blocks(layout, work):
    """The loop over a tile's blocks of what only reads them: ``work(c, row, first, end, out)`` sees words."""
    room_of, to_words, row_seen = make_room(layout), unpack(layout), seen(layout)

    def see(c, row, lo, hi, out):
        room = room_of()
        for begin in range(lo, hi, COMPANY):
            end = hi if hi - begin < COMPANY else begin + COMPANY
            to_words(row, room, begin, end)
            work(c, row_seen(row, room, begin), begin, end, out)
    return see


def in_blocks(layout, pipeline, step):
    """The loops over a tile's blocks: tiles begin with whole ones. `step` is the loop of a step that sees words."""
    room_of, to_words, row_seen = make_room(layout), unpack(layout), seen(layout)
    to_exponents, to_codes = put_exponents(layout, pipeline), pack(layout, pipeline)

    def sweep(c, row, lo, hi, key):
        room = room_of()
        for begin in range(lo, hi, COMPANY):
            end = hi if hi - begin < COMPANY else begin + COMPANY  # `min` would be compiled for this alone
            to_words(row, room, begin, end)
            step(c, row_seen(row, room, begin), begin, end, key)
            to_exponents(row, room, begin, end)  # of all blocks first: codes would wait for the largest number
            to_codes(row, room, begin, end)
    return sweep
