"""Blocks of 128 elements whose codes share exponents, on the CPU: loops that LLVM turns into vectors.

The codes of a block become words of 16 bits on the stack: bfloat16 numbers. A step puts 16 bits of each new number
where its word was. The largest of them gives the exponent; then all become codes. What has 8 and 16 bits gets loops of
its own, because a vector holds more of them than of float32 numbers. Blocks take the passes in company: while the
largest number of one is waited for, others' are looked for.
"""
from llvmlite import ir
from numba import types
from numba.core import cgutils

from .._formats import random_bits
from .._formats.blocks import SIZE
from .._formats.scalars import decode_bf16
from .._kernels import block
from .._kernels.block import BlockElement, coded, exponents_kind, filled, tops_kind
from .._kernels.element import U16
from .._kernels.llvm import I8, I16, I32, I64, code, i64, independent, pointer, unpacked
from .._kernels.memory import INT, U32, coefficients_kind, row_at

COMPANY = 8  # blocks that take the passes together
WORD = 2     # bytes


class Words(BlockElement):
    """An element of a block whose codes have become words, which lie at `room`."""

    def __init__(self, context, builder, layout, pipeline, room):
        super().__init__(context, builder, layout, pipeline)
        self.room = room

    def word_at(self, k, i):
        start = i64(self.layout.blocks.index(k)*COMPANY*SIZE)
        return pointer(self.builder, self.room, I16, self.builder.add(i, start))

    def code_at(self, row, k, i):
        return pointer(self.builder, self.builder.extract_value(row, self.layout.starts[k]), I8, i)

    def places(self, row, i):
        return [[self.word_at(k, i)] if self.layout.formats[k].block else places
                for k, places in enumerate(super().places(row, i))]

    def decode(self, k, parts, exponent=None, kind=None):
        f = self.layout.formats[k]
        if not f.block:
            return super().decode(k, parts, exponent, kind)
        return self.cast(self.formula(decode_bf16, [U16], parts), f.value, kind or self.layout.values[k])


def make_room(layout):
    """make_room(): the address of room on the stack for the words of a company of blocks."""
    @code(INT)
    def make_room(context, builder):
        room = ir.ArrayType(I64, WORD*COMPANY*SIZE*len(layout.blocks)//8)
        return builder.ptrtoint(cgutils.alloca_once(builder, room), I64)
    return make_room


def unpack(layout, pipeline):
    """unpack(row, shared, room): make the words of a block out of its codes."""
    @code(types.void, layout.row, exponents_kind(layout), INT)
    def unpack(context, builder, row, shared, room):
        e, exponents = Words(context, builder, layout, pipeline, room), block.by_slot(builder, layout, shared)
        with independent(builder, i64(0), i64(SIZE)) as i:
            for k, exponent in exponents.items():
                f, stored = layout.formats[k], builder.load(e.code_at(row, k, i))
                builder.store(e.formula(f.block.word, [f.stored, U16], [stored, exponent]), e.word_at(k, i))
    return unpack


def _copied(layout):
    """(column, bytes of an element) of all arrays that hold a number, or a mask, per element."""
    return [(start + part, f.itemsize) for f, start in zip(layout.formats, layout.starts, strict=True) if not f.block
            for part in range(f.columns)]


def padded(layout):
    """padded(row, count): the row of a block; a shorter one has become a copy on the stack, with zeros behind."""
    @code(layout.row, layout.row, INT)
    def padded(context, builder, row, count):
        old = unpacked(builder, row)
        short, new = builder.icmp_signed("<", count, i64(SIZE)), list(old)
        for column, size in _copied(layout):
            buffer = cgutils.alloca_once(builder, ir.ArrayType(I64, SIZE*size//8))
            with builder.if_then(short, likely=False):
                target = builder.bitcast(buffer, I8.as_pointer())
                cgutils.memset(builder, target, i64(SIZE*size), 0)
                cgutils.raw_memcpy(builder, target, pointer(builder, old[column], I8), count, size, align=1)
            new[column] = builder.select(short, builder.ptrtoint(buffer, I64), old[column])
        return new
    return padded


def unpadded(layout, pipeline):
    """unpadded(row, copy, count, room): bring back what a step has made of a padded copy; zero the words behind it."""
    last = pipeline.writes + 1
    written = range(0 if layout.zeroed else layout.starts[1], (*layout.starts, layout.columns)[last])

    @code(types.void, layout.row, layout.row, INT, INT)
    def unpadded(context, builder, row, copy, count, room):
        e = Words(context, builder, layout, pipeline, room)
        with builder.if_then(builder.icmp_signed("<", count, i64(SIZE)), likely=False):
            for column, size in _copied(layout):
                if column in written:
                    target, source = (pointer(builder, builder.extract_value(x, column), I8) for x in (row, copy))
                    cgutils.raw_memcpy(builder, target, source, count, size, align=1)
            for k in coded(layout, pipeline):  # what a rule makes of zeros is no number of the block
                behind = builder.bitcast(e.word_at(k, count), I8.as_pointer())
                cgutils.memset(builder, behind, builder.mul(builder.sub(i64(SIZE), count), i64(WORD)), 0)
    return unpadded


def first_pass(layout, pipeline):
    """first_pass(c, row, room, key, first): a step of a block, whose elements are numbered from `first` on."""
    @code(types.void, coefficients_kind(layout, pipeline), layout.row, INT, U32, INT)
    def first_pass(context, builder, c, row, room, key, first):
        e = Words(context, builder, layout, pipeline, room)
        start = e.formula(random_bits.start, [U32, U32], [key, builder.trunc(first, I32)])
        with independent(builder, i64(0), i64(SIZE)) as i:
            at = e.places(row, i)
            stored = [[builder.load(place, align=1) for place in places] for places in at]
            behind = e.formula(random_bits.start, [U32, U32], [start, builder.trunc(i, I32)])
            own, kept = e.first_pass(c, stored, e.random_word(behind))
            for k, bits in reversed(list(zip(coded(layout, pipeline), kept, strict=True))):
                builder.store(bits, e.word_at(k, i))
            for new in reversed(own):
                e.store(new.slot, e.encode(new), at[new.slot])
            if layout.zeroed:
                builder.store(ir.Constant(at[0][0].type.pointee, 0), at[0][0], align=1)
    return first_pass


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
        e, found = Words(context, builder, layout, pipeline, room), unpacked(builder, top)
        for number, k in enumerate(coded(layout, pipeline)):
            magnitude = e.magnitude(k, builder.load(e.word_at(k, i)))
            found[number] = block.maximum(builder, found[number], magnitude)
        return found
    return larger


def second_pass(layout, pipeline):
    """second_pass(row, shared, room): make the codes of a block out of its words."""
    @code(types.void, layout.row, exponents_kind(layout), INT)
    def second_pass(context, builder, row, shared, room):
        e = Words(context, builder, layout, pipeline, room)
        with independent(builder, i64(0), i64(SIZE)) as i:
            for k in coded(layout, pipeline):
                number = e.code(k, builder.load(e.word_at(k, i)), shared)
                builder.store(builder.trunc(number, I8), e.code_at(row, k, i))
    return second_pass


def in_blocks(layout, pipeline):
    """The loops over a tile's blocks: tiles begin with whole ones."""
    room_of, exponents, row_of, fill = make_room(layout), block.exponents(layout), row_at(layout), padded(layout)
    decode, update, restore, none, top_of, share, put_exponents, encode = (make(layout, pipeline) for make in (
        unpack, first_pass, unpadded, no_tops, larger, block.shares, block.store_exponents, second_pass))

    def sweep(c, row, lo, hi, key):
        room = room_of()
        for begin in range(lo, hi, COMPANY*SIZE):
            end = min(begin + COMPANY*SIZE, hi)
            for first in range(begin, end, SIZE):
                here, words, count = row_of(row, first), room + (first - begin)*WORD, end - first
                copy = fill(here, count)
                decode(here, exponents(here), words)
                update(c, copy, words, key, first)
                restore(here, copy, count, words)
            for first in range(begin, end, SIZE):
                here, words, top = row_of(row, first), room + (first - begin)*WORD, none()
                for i in range(SIZE):
                    top = top_of(words, i, top)
                put_exponents(here, share(exponents(here), top))
            for first in range(begin, end, SIZE):
                here = row_of(row, first)
                encode(here, exponents(here), room + (first - begin)*WORD)
    return sweep
