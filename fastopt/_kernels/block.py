"""Blocks of 128 elements whose codes share exponents: what the targets have in common.

A step leaves 16 bits of each number that shares an exponent, on the stack (CPU) or in registers (CUDA). The largest of
them gives the exponent. Then all become codes. Whole numbers in between have the element's type `word`.
"""
from .element import Element
from .llvm import I8, call_llvm, on_device, pointer


def coded(layout, pipeline):
    """The slots that share exponents and that a step writes."""
    return [k for k in layout.blocks if 0 < k <= pipeline.writes]


class BlockElement(Element):
    """An element of a block."""

    def _exponent_at(self, at, k, number=None):
        return pointer(self.builder, at[self.layout.starts[k] + 1], I8, number)

    def exponents(self, at, number=None):
        """{slot: the exponent} of the block at the addresses of a row, or of one behind it."""
        kind, places = self.context.get_data_type(self.word), {
            k: self._exponent_at(at, k, number) for k in self.layout.blocks}
        return {k: self.builder.zext(self.builder.load(place), kind) for k, place in places.items()}

    def store_exponents(self, at, exponents):
        """The exponents of a block, of slots that a step writes."""
        for k in coded(self.layout, self.pipeline):
            self.builder.store(self.builder.trunc(exponents[k], I8), self._exponent_at(at, k))

    def shares(self, tops):
        """{slot: its new exponent}, of slots that a step writes, by their largest magnitudes."""
        return {k: self.formula(self.layout.formats[k].block.share, [self.word], [top])
                for k, top in zip(coded(self.layout, self.pipeline), tops, strict=False)}

    def magnitude(self, k, bits):
        return self.formula(self.layout.formats[k].block.magnitude, [self.word], [bits])

    def code(self, k, bits, exponent):
        """The code of slot k, in the bits of a word."""
        return self.formula(self.layout.formats[k].block.encode, [self.word]*2, [bits, exponent])


def maximum(builder, x, y):
    """The larger of two. LLVM recognises its own function as a reduction; CUDA's toolkit is too old to know it."""
    if on_device(builder):
        return builder.select(builder.icmp_unsigned(">", x, y), x, y)
    return call_llvm(builder, f"llvm.umax.{x.type}", x.type, x, y)
