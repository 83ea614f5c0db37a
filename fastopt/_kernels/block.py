"""Blocks of 128 elements whose codes share exponents: what the targets have in common.

A step leaves 16 bits of each number that shares an exponent, on the stack (CPU) or in registers (CUDA). The largest of
them gives the exponent. Then all become codes.
"""
from llvmlite import ir
from numba import types

from .._formats.bits import emit
from .element import U16, Element
from .llvm import I8, I16, call_llvm, code, on_device, pointer, tuple_of, unpacked


def coded(layout, pipeline):
    """The slots that share exponents and that a step writes."""
    return [k for k in layout.blocks if 0 < k <= pipeline.writes]


def exponents_kind(layout):
    """Numba's type of a block's exponents, one of each slot that has them."""
    return tuple_of(U16, len(layout.blocks))


def tops_kind(layout, pipeline):
    """Numba's type of the largest magnitudes in a block, one of each slot that is coded."""
    return tuple_of(U16, len(coded(layout, pipeline)))


def filled(values):
    """Values of a tuple of `tuple_of`."""
    return values or [ir.Constant(I16, 0)]


def _exponent(builder, layout, row, k):
    """Where the exponent of a block lies."""
    return pointer(builder, builder.extract_value(row, layout.starts[k] + 1), I8)


def by_slot(builder, layout, shared):
    """{slot: its exponent} of a block."""
    return dict(zip(layout.blocks, unpacked(builder, shared), strict=False))


def exponents(layout):
    """exponents(row): the exponents of a block, from its row."""
    @code(exponents_kind(layout), layout.row)
    def exponents(context, builder, row):
        return filled([builder.zext(builder.load(_exponent(builder, layout, row, k)), I16) for k in layout.blocks])
    return exponents


def shares(layout, pipeline):
    """shares(old, top): the new exponents of a block: of slots that a step writes by their largest magnitudes."""
    @code(exponents_kind(layout), exponents_kind(layout), tops_kind(layout, pipeline))
    def shares(context, builder, old, top):
        values = unpacked(builder, old)
        for number, k in enumerate(coded(layout, pipeline)):
            share, largest = layout.formats[k].block.share, builder.extract_value(top, number)
            values[layout.blocks.index(k)] = emit(builder, share, [U16], [largest])
        return values
    return shares


def store_exponents(layout, pipeline):
    """store_exponents(row, shared): the exponents of a block, of slots that a step writes."""
    @code(types.void, layout.row, exponents_kind(layout))
    def store_exponents(context, builder, row, shared):
        for k in coded(layout, pipeline):
            exponent = builder.extract_value(shared, layout.blocks.index(k))
            builder.store(builder.trunc(exponent, I8), _exponent(builder, layout, row, k))
    return store_exponents


class BlockElement(Element):
    """An element of a block."""

    def magnitude(self, k, bits):
        return self.formula(self.layout.formats[k].block.magnitude, [U16], [bits])

    def code(self, k, bits, shared):
        """The code of slot k, in 16 bits."""
        exponent = self.builder.extract_value(shared, self.layout.blocks.index(k))
        return self.formula(self.layout.formats[k].block.encode, [U16, U16], [bits, exponent])


def maximum(builder, x, y):
    """The larger of two. LLVM recognises its own function as a reduction; CUDA's toolkit is too old to know it."""
    if on_device(builder):
        return builder.select(builder.icmp_unsigned(">", x, y), x, y)
    return call_llvm(builder, f"llvm.umax.{x.type}", x.type, x, y)
