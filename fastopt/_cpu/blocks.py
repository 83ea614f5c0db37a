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
from .._kernels.block import BlockElement, coded, exponents_kind, filled, tops_kind
from .._kernels.element import U16
from .._kernels.layout import Layout
from .._kernels.llvm import I8, I16, I64, code, i64, independent, pointer, unpacked
from .._kernels.memory import INT, row_at

COMPANY = 8*SIZE  # elements that take the loops together: blocks do not wait for each other's largest number
WORD = 2          # bytes
LANES = 32        # elements that the loop of codes takes at a time: two vectors of words become one of codes


def of_words(layout):
    """The layout that a step sees: words in place of codes."""
    return Layout(tuple(slot._replace(format=slot.format.block.words) if slot.format.block else slot
                        for slot in layout.slots))


class Words(BlockElement):
    """An element of a block whose words lie at `room`."""

    def __init__(self, context, builder, layout, room):
        super().__init__(context, builder, layout)
        self.room = room

    def word_at(self, k, i):
        start = i64(self.layout.blocks.index(k)*COMPANY*WORD)
        return pointer(self.builder, self.builder.add(self.room, start), I16, i)

    def code_at(self, row, k, i):
        return pointer(self.builder, self.builder.extract_value(row, self.layout.starts[k]), I8, i)


def make_room(layout):
    """make_room(): the address of room on the stack for the words of a company."""
    @code(INT)
    def make_room(context, builder):
        room = ir.ArrayType(I64, WORD*COMPANY*len(layout.blocks)//8)
        return builder.ptrtoint(cgutils.alloca_once(builder, room), I64)
    return make_room


def unpack(layout):
    """unpack(row, shared, room, count): make the words of a block out of its codes; zeros behind the first `count`."""
    @code(types.void, layout.row, exponents_kind(layout), INT, INT)
    def unpack(context, builder, row, shared, room, count):
        e, exponents = Words(context, builder, layout, room), block.by_slot(builder, layout, shared)
        with independent(builder, i64(0), i64(SIZE)) as i:
            for k, exponent in exponents.items():
                f, stored = layout.formats[k], builder.load(e.code_at(row, k, i))
                builder.store(e.formula(f.block.word, [f.stored, U16], [stored, exponent]), e.word_at(k, i))
        with builder.if_then(builder.icmp_signed("<", count, i64(SIZE)), likely=False):
            for k in layout.blocks:
                behind = builder.bitcast(e.word_at(k, count), I8.as_pointer())
                cgutils.memset(builder, behind, builder.mul(builder.sub(i64(SIZE), count), i64(WORD)), 0)
    return unpack


def seen(layout):
    """seen(row, room, begin): the row that a step sees: words at `room`, the first of them element `begin`'s."""
    @code(of_words(layout).row, layout.row, INT, INT)
    def seen(context, builder, row, room, begin):
        e, old, new = Words(context, builder, layout, room), unpacked(builder, row), []
        for k, (f, start) in enumerate(zip(layout.formats, layout.starts, strict=True)):
            if f.block:
                new.append(builder.ptrtoint(e.word_at(k, builder.neg(begin)), I64))
            else:
                new += old[start:start + f.columns]
        return new
    return seen


def no_tops(layout, pipeline):
    """no_tops(): the largest magnitudes of no elements."""
    @code(tops_kind(layout, pipeline))
    def no_tops(context, builder):
        return filled([ir.Constant(I16, 0) for _ in coded(layout, pipeline)])
    return no_tops


def larger(layout, pipeline):
    """larger(room, i, top): the largest magnitudes of each coded slot: those so far, and those of element i."""
    @code(tops_kind(layout, pipeline), INT, INT, tops_kind(layout, pipeline))
    def larger(context, builder, room, i, top):
        e, found = Words(context, builder, layout, room), unpacked(builder, top)
        for number, k in enumerate(coded(layout, pipeline)):
            found[number] = block.maximum(builder, found[number], e.magnitude(k, builder.load(e.word_at(k, i))))
        return found
    return larger


def pack(layout, pipeline):
    """pack(row, shared, room): make the codes of a block out of its words."""
    @code(types.void, layout.row, exponents_kind(layout), INT)
    def pack(context, builder, row, shared, room):
        e = Words(context, builder, layout, room)
        with independent(builder, i64(0), i64(SIZE), LANES) as i:
            for k in coded(layout, pipeline):
                number = e.code(k, builder.load(e.word_at(k, i)), shared)
                builder.store(builder.trunc(number, I8), e.code_at(row, k, i))
    return pack


def seen_in_blocks(layout, work):
    """The loop over a tile's blocks of what only reads them: ``work(c, row, first, end, out)`` sees words."""
    room_of, exponents, row_of, to_words, row_seen = (make(layout) for make in (
        make_room, block.exponents, row_at, unpack, seen))

    def see(c, row, lo, hi, out):
        room = room_of()
        for begin in range(lo, hi, COMPANY):
            end = hi if hi - begin < COMPANY else begin + COMPANY
            for first in range(begin, end, SIZE):
                here = row_of(row, first)
                to_words(here, exponents(here), room + (first - begin)*WORD, end - first)
            work(c, row_seen(row, room, begin), begin, end, out)
    return see


def in_blocks(layout, pipeline, step):
    """The loops over a tile's blocks: tiles begin with whole ones. `step` is the loop of a step that sees words."""
    room_of, exponents, row_of, to_words, row_seen = (make(layout) for make in (
        make_room, block.exponents, row_at, unpack, seen))
    none, top_of, share, put_exponents, to_codes = (make(layout, pipeline) for make in (
        no_tops, larger, block.shares, block.store_exponents, pack))

    def sweep(c, row, lo, hi, key):
        room = room_of()
        for begin in range(lo, hi, COMPANY):
            end = hi if hi - begin < COMPANY else begin + COMPANY  # `min` would be compiled for this alone
            for first in range(begin, end, SIZE):
                here = row_of(row, first)
                to_words(here, exponents(here), room + (first - begin)*WORD, end - first)
            step(c, row_seen(row, room, begin), begin, end, key)
            for first in range(begin, end, SIZE):
                here, words, top = row_of(row, first), room + (first - begin)*WORD, none()
                for i in range(SIZE):
                    top = top_of(words, i, top)
                put_exponents(here, share(exponents(here), top))
            for first in range(begin, end, SIZE):
                here = row_of(row, first)
                to_codes(here, exponents(here), room + (first - begin)*WORD)
    return sweep
