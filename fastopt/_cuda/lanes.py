"""Several neighbouring elements at a time, for CUDA devices: one access of 16 or 32 bytes per slot.

Memory that several threads of a warp read together moves in sectors of 32 bytes, and a request of 16 bytes a thread
fills them with the fewest instructions. ``lanes`` elements are what the widest slot holds in one such access. A
narrower slot takes fewer bytes, but still whole sectors per warp (two accesses side by side would touch each twice).
"""
from llvmlite import ir
from numba import types

from .._kernels.element import Element
from .._kernels.llvm import DOUBLE, FLOAT, GLOBAL, I1, I32, I64, call, code, i32, i64, unpacked
from .._kernels.memory import INT, U32, WORD, coefficients_kind, strided_offset


def lanes_of(layout, width: int) -> int:
    """How many elements the widest slot holds in an access of `width` bytes."""
    return width//max(f.itemsize for f in layout.formats)


class Lanes(Element):
    """`lanes` neighbours from element i of a row on, each array in one access."""

    def __init__(self, context, builder, layout, pipeline, cc, row, i, lanes):
        super().__init__(context, builder, layout, pipeline, cc)
        self.at, self.i, self.lanes = self.addresses(row), i, lanes

    def access(self, k, address):
        """Pointer, type and alignment of a slot's elements as one access: in words where elements are smaller."""
        size, builder = self.layout.formats[k].itemsize, self.builder
        whole = size*self.lanes
        element = {4: FLOAT, 8: DOUBLE}.get(size) or ir.IntType(8*min(4, whole))
        count = whole//max(size, min(4, whole))
        start = builder.add(address, builder.mul(builder.zext(self.i, I64), i64(size)))
        kind = ir.VectorType(element, count) if count > 1 else element
        return builder.inttoptr(start, kind.as_pointer(GLOBAL)), kind, whole

    def load_all(self, k):
        """The parts of slot k in each lane."""
        return list(zip(*[self._load(k, address) for address in self.at[k]], strict=True))

    def _load(self, k, address):
        start, kind, align = self.access(k, address)
        loaded, size = self.builder.load(start, align=align), 8*self.layout.formats[k].itemsize
        vector = isinstance(kind, ir.VectorType)
        parts = [self.builder.extract_element(loaded, i32(j)) for j in range(kind.count)] if vector else [loaded]
        word = parts[0].type
        if not isinstance(word, ir.IntType) or word.width == size:
            return parts
        return [self.builder.trunc(self.builder.lshr(part, ir.Constant(word, shift)), ir.IntType(size))
                for part in parts for shift in range(0, word.width, size)]

    def store_all(self, news):
        """Encode the new numbers of a slot, one of each lane, and store them."""
        k = news[0].slot
        pair, single = self.layout.formats[k].device_pair, self.layout.scalar == types.float32
        if pair and self.cc >= pair.since and single and self.lanes > 1 and news[0].change is None:
            both = zip(news[::2], news[1::2], strict=True)
            arrays = [[pair.emit(self.builder, low.number, high.number) for low, high in both]]
        else:
            arrays = list(zip(*map(self.encode, news), strict=True))
        for address, parts in zip(self.at[k], arrays, strict=True):
            self.store_parts(k, address, parts)

    def store_parts(self, k, address, parts):
        """Store the elements of an array, or the words that they are in."""
        start, kind, align = self.access(k, address)
        builder, word = self.builder, getattr(kind, "element", kind)
        if parts[0].type != word:  # smaller elements, of which `each` are in a word
            each, size = word.width//parts[0].type.width, parts[0].type.width
            words = []
            for j in range(0, len(parts), each):
                whole, *others = [builder.zext(part, word) for part in parts[j:j + each]]
                for lane, part in enumerate(others, 1):
                    whole = builder.or_(whole, builder.shl(part, ir.Constant(word, size*lane)))
                words.append(whole)
            parts = words
        whole = parts[0]
        if isinstance(kind, ir.VectorType):
            whole = ir.Constant(kind, ir.Undefined)
            for j, part in enumerate(parts):
                whole = builder.insert_element(whole, part, i32(j))
        builder.store(whole, start, align=align)

    def zero(self):
        """Set as many elements of the gradient to zero."""
        start, kind, align = self.access(0, self.at[0][0])
        self.builder.store(ir.Constant(kind, None), start, align=align)


def aligned_from(layout, lanes):
    """aligned_from(row, n): the first of n elements at which every slot starts a whole access; n: there is none."""
    sizes = [f.itemsize for f in layout.formats for _ in range(f.parts)]

    @code(U32, layout.row, U32)
    def aligned_from(context, builder, row, n):
        last = i64(lanes - 1)
        places = [builder.and_(builder.udiv(address, i64(size)), last)
                  for size, address in zip(sizes, unpacked(builder, row), strict=True)]
        alike = ir.Constant(I1, 1)
        for place in places[1:]:
            alike = builder.and_(alike, builder.icmp_unsigned("==", place, places[0]))
        skip = builder.trunc(builder.and_(builder.neg(places[0]), last), I32)
        return builder.select(builder.and_(alike, builder.icmp_unsigned("<", skip, n)), skip, n)
    return aligned_from


def advance_lanes(layout, pipeline, cc, lanes):
    """advance_lanes(c, row, i, start): a step of `lanes` elements from i on, whose random bits begin at `start`."""
    @code(types.void, coefficients_kind(layout, pipeline), layout.row, U32, U32)
    def advance_lanes(context, builder, c, row, i, start):
        e = Lanes(context, builder, layout, pipeline, cc, row, i, lanes)
        stored = [e.load_all(k) for k in range(len(layout.slots))]
        new = [e.advance(c, [parts[lane] for parts in stored], e.random_word(start, lane)) for lane in range(lanes)]
        for of_slot in zip(*new, strict=True):
            e.store_all(of_slot)
        if layout.zeroed:
            e.zero()
    return advance_lanes


def strided_row(layout):
    """strided_row(row, table_row, first, i): a tile's row, with a strided gradient's address set for element i."""
    @code(layout.row, layout.row, INT, INT, U32)
    def strided_row(context, builder, row, table_row, first, i):
        if not layout.strided:
            return row
        address, *others = unpacked(builder, row)
        number = builder.add(first, builder.zext(i, I64))
        strides = builder.add(table_row, i64(WORD*layout.strides_at))
        offset = call(context, builder, strided_offset, INT(INT, INT), [strides, number])
        dense = builder.mul(number, i64(layout.formats[0].itemsize))  # where the row's address leads
        return [builder.add(address, builder.sub(offset, dense)), *others]
    return strided_row
