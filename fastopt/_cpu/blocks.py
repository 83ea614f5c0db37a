"""Blocks of 128 elements whose codes share exponents, on the CPU: loops that LLVM turns into vectors.

Between the passes 16 bits of each element lie on the stack. Blocks take the passes in company: while the largest number
of one is waited for, others' are looked for. With COMPANY = 1 Adam's step took 18 % longer
(benchmarks/studies/fewer_bytes.py --n 1e5 --threads 1).
"""
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from .._formats.blocks import SIZE
from .._formats.random_bits import ELEMENT, start
from .._kernels import block
from .._kernels.block import BlockElement, coded, filled, tops_kind
from .._kernels.compile import jitted
from .._kernels.llvm import I8, I16, I64, code, i64, pointer, unpacked
from .._kernels.memory import INT, U32, coefficients_kind, row_at

COMPANY = 8  # blocks that take the passes together


class Apart:
    """Tells LLVM that arrays but gradient and parameter lie apart: else a block begins with a dozen comparisons."""

    def __init__(self, builder, layout):
        self.module, count = builder.module, len(layout.slots)
        domain = self.module.add_metadata(["fastopt arrays"])
        self.scopes = {k: self.module.add_metadata([f"fastopt array {k}", domain])
                       for k in (*range(1, count), *range(-count, 0))}

    def mark(self, access, slot):
        """An access to a slot's array; `slot` -1, -2, ...: to what lies on the stack for coded slot 0, 1, ..."""
        mine = slot or 1
        access.set_metadata("alias.scope", self.module.add_metadata([self.scopes[mine]]))
        others = [scope for k, scope in self.scopes.items() if k != mine]
        access.set_metadata("noalias", self.module.add_metadata(others))
        return access


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
    """unpadded(row, copy, count): bring the elements of a padded copy back, of what a step writes."""
    last = pipeline.writes + 1
    written = range(0 if layout.zeroed else layout.starts[1], (*layout.starts, layout.columns)[last])

    @code(types.void, layout.row, layout.row, INT)
    def unpadded(context, builder, row, copy, count):
        with builder.if_then(builder.icmp_signed("<", count, i64(SIZE)), likely=False):
            for column, size in _copied(layout):
                if column in written:
                    target, source = (pointer(builder, builder.extract_value(x, column), I8) for x in (row, copy))
                    cgutils.raw_memcpy(builder, target, source, count, size, align=1)
    return unpadded


def scratch(layout, pipeline):
    """scratch(): the address of room on the stack for a company of blocks: a half-word for each coded number."""
    @code(INT)
    def scratch(context, builder):
        size = max(1, COMPANY*SIZE//4*len(coded(layout, pipeline)))
        return builder.ptrtoint(cgutils.alloca_once(builder, ir.ArrayType(I64, size)), I64)
    return scratch


def _kept(builder, room, number, i):
    return pointer(builder, room, I16, builder.add(i, i64(number*COMPANY*SIZE)))


def first_pass(layout, pipeline):
    """first_pass(c, row, shared, i, start, room, first): of element i of a block, number `first` + i of its company."""
    @code(types.void, coefficients_kind(layout, pipeline), layout.row, block.exponents_kind(layout), INT, U32, INT, INT)
    def first_pass(context, builder, c, row, shared, i, start, room, first):
        e, apart = BlockElement(context, builder, layout, pipeline), Apart(builder, layout)
        at = e.places(row, i)
        stored = [[apart.mark(builder.load(place, align=1), k) for place in places] for k, places in enumerate(at)]
        own, kept = e.first_pass(c, stored, shared, start)
        for new in own:
            for part, place in zip(e.encode(new), at[new.slot], strict=True):
                apart.mark(builder.store(part, place, align=1), new.slot)
        if layout.zeroed:
            apart.mark(builder.store(ir.Constant(at[0][0].type.pointee, 0), at[0][0], align=1), 0)
        for number, bits in enumerate(kept):
            apart.mark(builder.store(bits, _kept(builder, room, number, builder.add(first, i))), -1 - number)
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
        e, apart, found = BlockElement(context, builder, layout), Apart(builder, layout), unpacked(builder, top)
        for number, k in enumerate(coded(layout, pipeline)):
            bits = apart.mark(builder.load(_kept(builder, room, number, i)), -1 - number)
            found[number] = block.maximum(builder, found[number], e.magnitude(k, bits))
        return found
    return larger


def second_pass(layout, pipeline):
    """second_pass(row, shared, room, i, first): codes of element i of a block, number `first` + i of its company."""
    @code(types.void, layout.row, block.exponents_kind(layout), INT, INT, INT)
    def second_pass(context, builder, row, shared, room, i, first):
        e, apart = BlockElement(context, builder, layout), Apart(builder, layout)
        for number, k in enumerate(coded(layout, pipeline)):
            bits = apart.mark(builder.load(_kept(builder, room, number, builder.add(first, i))), -1 - number)
            place = pointer(builder, builder.extract_value(row, layout.starts[k]), I8, i)
            apart.mark(builder.store(builder.trunc(e.code(k, bits, shared), I8), place), k)
    return second_pass


def in_blocks(layout, pipeline):
    """The loops over a tile's blocks: tiles begin with whole ones."""
    exponents, row_of, fill = block.exponents(layout), row_at(layout), padded(layout)
    make_room, first_of, none, top_of, code_of, share, put_exponents, restore = (make(layout, pipeline) for make in (
        scratch, first_pass, no_tops, larger, second_pass, block.shares, block.store_exponents, unpadded))

    def whole(c, row, lo, hi, key):
        room = make_room()
        for begin in range(lo, hi, COMPANY*SIZE):
            end = min(begin + COMPANY*SIZE, hi)
            for first in range(begin, end, SIZE):
                here, bits = row_of(row, first), start(key, first)
                shared = exponents(here)
                for i in range(SIZE):
                    first_of(c, here, shared, i, bits, room, first - begin)
                    bits = np.uint32(bits + ELEMENT)
            for first in range(begin, end, SIZE):
                here, top = row_of(row, first), none()
                for i in range(first - begin, first - begin + SIZE):
                    top = top_of(room, i, top)
                put_exponents(here, share(exponents(here), top))
            for first in range(begin, end, SIZE):
                here = row_of(row, first)
                shared = exponents(here)
                for i in range(SIZE):
                    code_of(here, shared, room, i, first - begin)

    def rest(c, row, first, count, key):
        """A last block of less than 128 elements: a copy on the stack, with zeros behind, takes the first pass."""
        room, there, bits, top = make_room(), row_of(row, first), start(key, first), none()
        here, shared = fill(there, count), exponents(there)
        for i in range(SIZE):
            first_of(c, here, shared, i, bits, room, 0)
            bits = np.uint32(bits + ELEMENT)
        restore(there, here, count)
        for i in range(count):  # what a rule makes of the zeros is not looked at
            top = top_of(room, i, top)
        shared = share(shared, top)
        put_exponents(there, shared)
        for i in range(count):
            code_of(there, shared, room, i, 0)

    whole, rest = jitted(whole, inline="always"), jitted(rest)

    def sweep(c, row, lo, hi, key):
        end = hi - (hi - lo) % SIZE
        whole(c, row, lo, end, key)
        if end < hi:
            rest(c, row, end, hi - end, key)
    return sweep
