"""Blocks of 128 elements whose codes share exponents, on CUDA devices: a warp takes a block, a thread four of it.

Their four codes are one word of 32 bits. What has a format of its own is one access, too, where all of a tensor's
arrays are aligned for it; elsewhere, and in the last, short block of a tensor, elements come one by one. Between the
passes bits lie in registers. A row begins at the first element of a tile; elements are counted from there, in 32 bits.
"""
from llvmlite import ir
from numba import types

from .._formats.blocks import SIZE
from .._kernels import block
from .._kernels.block import BlockElement, coded
from .._kernels.llvm import I1, I32, I64, call, call_llvm, code, i32, i64, pointer, tuple_of, unpacked
from .._kernels.memory import INT, U32, WORD, coefficients_kind, strided_offset
from .lanes import Lanes

WARP = 32
QUAD = SIZE//WARP   # elements of a thread
BUTTERFLY = 3       # a mode of NVVM's shuffle: the value comes from the thread whose number differs in these bits
EVERYONE, LAST_LANE = 0xFFFFFFFF, 31
REDUCES = (8, 0)    # from here on a warp finds the largest of its numbers in one instruction
LINE = 128          # bytes that one prefetch brings to the cache


class Shared(BlockElement):
    """An element of a block. What has 16 bits is computed in 32: a register has as many, and would be masked."""

    word = U32


def exponents_kind(layout):
    """Numba's type of a block's exponents, one of each slot that has them."""
    return tuple_of(types.uint32, len(layout.blocks))


def tops_kind(layout, pipeline):
    """Numba's type of the largest magnitudes in a block, one of each slot that is coded."""
    return tuple_of(types.uint32, len(coded(layout, pipeline)))


def filled(values):
    """Values of a tuple of `tuple_of`."""
    return values or [i32(0)]


def by_slot(builder, layout, shared):
    """{slot: its exponent} of a block."""
    return dict(zip(layout.blocks, unpacked(builder, shared), strict=False))


def exponents(layout):
    """exponents(row): the exponents of a block, from its row."""
    @code(exponents_kind(layout), layout.row)
    def exponents(context, builder, row):
        e = Shared(context, builder, layout)
        return filled(list(e.exponents(unpacked(builder, row)).values()))
    return exponents


def shares(layout, pipeline):
    """shares(old, top): the new exponents of a block: of slots that a step writes by their largest magnitudes."""
    @code(exponents_kind(layout), exponents_kind(layout), tops_kind(layout, pipeline))
    def shares(context, builder, old, top):
        e = Shared(context, builder, layout, pipeline)
        return filled(list({**by_slot(builder, layout, old), **e.shares(unpacked(builder, top))}.values()))
    return shares


def store_exponents(layout, pipeline):
    """store_exponents(row, shared): the exponents of a block, of slots that a step writes."""
    @code(types.void, layout.row, exponents_kind(layout))
    def store_exponents(context, builder, row, shared):
        e = Shared(context, builder, layout, pipeline)
        e.store_exponents(unpacked(builder, row), by_slot(builder, layout, shared))
    return store_exponents


def aligned_quads(layout):
    """aligned_quads(row): whether four elements at a multiple of four are one access; no for strided gradients."""
    @code(types.boolean, layout.row)
    def aligned_quads(context, builder, row):
        yes = ir.Constant(I1, 0 if layout.strided else 1)
        for f, at in zip(layout.formats, Shared(context, builder, layout).addresses(row), strict=True):
            for address in [] if f.block else at:
                behind = builder.and_(address, i64(QUAD*f.itemsize - 1))
                yes = builder.and_(yes, builder.icmp_unsigned("==", behind, i64(0)))
        return yes
    return aligned_quads


def exponents_at(layout):
    """exponents_at(row, i): the row with the addresses of exponents moved to the block that begins with element i."""
    @code(layout.row, layout.row, U32)
    def exponents_at(context, builder, row, i):
        moved, number = unpacked(builder, row), builder.zext(builder.udiv(i, i32(SIZE)), I64)
        for k in layout.blocks:
            at = layout.starts[k] + 1
            moved[at] = builder.add(moved[at], number)
        return moved
    return exponents_at


def prefetch(layout, pipeline, once):
    """prefetch(row, n, thread): ask for the elements behind the first `once` of a tile of `n`: a line for each thread.

    They come to the level-2 cache while threads work on the first ones, and need no registers. What a step only writes
    is not asked for, nor is a strided gradient. CUB does so, too: github.com/NVIDIA/cccl, kernels/transform.cuh.
    """
    unread = {*pipeline.unread, *([0] if layout.strided else [])}
    arrays = [(k, part) for k, f in enumerate(layout.formats) if k not in unread for part in range(f.parts)]
    asked = ir.InlineAsm(ir.FunctionType(ir.VoidType(), [I64]), "prefetch.global.L2 [$0];", "l", side_effect=True)

    @code(types.void, layout.row, U32, U32)
    def prefetch(context, builder, row, n, thread):
        addresses = Shared(context, builder, layout).addresses(row)
        with builder.if_then(builder.icmp_unsigned(">", n, i32(once))):
            rest, line = builder.sub(n, i32(once)), builder.mul(thread, i32(LINE))
            for k, part in arrays:
                size = layout.formats[k].itemsize
                with builder.if_then(builder.icmp_unsigned("<", line, builder.mul(rest, i32(size)))):
                    behind = builder.add(builder.zext(line, I64), i64(once*size))
                    builder.call(asked, [builder.add(addresses[k][part], behind)])
    return prefetch


class Quads(Lanes, Shared):
    """Four neighbours, each array in one access."""

    def __init__(self, context, builder, layout, pipeline, cc, row, i):
        super().__init__(context, builder, layout, pipeline, cc, row, i, QUAD)

    def first_pass(self, c, stored, word, exponents):
        """What a step makes of an element: a `New` for each slot with its own format, and 16 bits of each other one."""
        new = self.advance(c, stored, word, exponents)
        words = {k: self.layout.formats[k].block.words for k in self.layout.blocks}
        bits = [part for x in new if x.slot in words for part in self.encode(x, words[x.slot])]
        return [x for x in new if x.slot not in words], [self.builder.zext(x, I32) for x in bits]

    def present(self, lane, bits):
        """16 bits of an element's number; 0 where there is no such element."""
        return bits


class Singles(Quads):
    """Four neighbours one by one, if among the first `n` of a tile. Their codes are one word all the same."""

    def __init__(self, context, builder, layout, pipeline, cc, row, i, table_row, first, n):
        super().__init__(context, builder, layout, pipeline, cc, row, i)
        each = [builder.add(i, i32(lane)) for lane in range(QUAD)]
        self.there = [builder.icmp_unsigned("<", lane, n) for lane in each]
        self.found = [self._places(table_row, first, builder.zext(lane, I64)) for lane in each]

    def _places(self, table_row, first, i):
        """Pointers to element i of each slot that has a format of its own; of a gradient, strided or not."""
        builder, layout, found = self.builder, self.layout, []
        for k, (f, at) in enumerate(zip(layout.formats, self.at, strict=True)):
            kind = self.context.get_data_type(f.stored)
            if k == 0 and layout.strided:
                strides = builder.add(table_row, i64(WORD*layout.strides_at))
                offset = call(self.context, builder, strided_offset, INT(INT, INT), [strides, builder.add(first, i)])
                start = builder.load(pointer(builder, table_row, I64, i64(0)))
                found.append([pointer(builder, builder.add(start, offset), kind)])
            else:
                found.append([] if f.block else [pointer(builder, address, kind, i) for address in at])
        return found

    def load_all(self, k):
        if self.layout.formats[k].block:
            return super().load_all(k)
        return [self._loaded_if(there, k, places[k]) for there, places in zip(self.there, self.found, strict=True)]

    def _loaded_if(self, there, k, places):
        """What is stored at these places if an element is there, else zeros."""
        builder = self.builder
        before = builder.block
        with builder.if_then(there):
            values = [builder.load(place, align=self.layout.formats[k].itemsize) for place in places]
            inside = builder.block
        found = []
        for value in values:
            found.append(builder.phi(value.type))
            found[-1].add_incoming(ir.Constant(value.type, 0), before)
            found[-1].add_incoming(value, inside)
        return found

    def store_all(self, news):
        for lane, new in enumerate(news):
            with self.builder.if_then(self.there[lane]):
                for part, place in zip(self.encode(new), self.found[lane][new.slot], strict=True):
                    self.builder.store(part, place, align=self.layout.formats[new.slot].itemsize)

    def zero(self):
        for there, places in zip(self.there, self.found, strict=True):
            with self.builder.if_then(there):
                place, = places[0]
                self.builder.store(ir.Constant(place.type.pointee, 0), place, align=self.layout.formats[0].itemsize)

    def present(self, lane, bits):
        return self.builder.select(self.there[lane], bits, i32(0))


def kept_kind(layout, pipeline):
    """Numba's type of what a thread keeps between the passes: 16 bits of four numbers of each coded slot."""
    return tuple_of(types.uint32, QUAD*len(coded(layout, pipeline)))


def first_pass(layout, pipeline, cc, whole):
    """first_pass(c, row, table_row, shared, first, n, i, start): of elements i to i + 3 of a tile.

    The tile begins with element `first` and has `n`. What has a format of its own is stored. 16 bits of each number
    that shares an exponent are returned, slot by slot, 0 for elements that are not there. `whole`: all are there, and
    may be loaded together. Random bits of the first begin at `start`.
    """
    @code(kept_kind(layout, pipeline), coefficients_kind(layout, pipeline), layout.row, INT, exponents_kind(layout),
          INT, U32, U32, U32)
    def first_pass(context, builder, c, row, table_row, shared, first, n, i, start):
        e = (Quads(context, builder, layout, pipeline, cc, row, i) if whole else
             Singles(context, builder, layout, pipeline, cc, row, i, table_row, first, n))
        stored, exponents = [e.load_all(k) for k in range(len(layout.slots))], by_slot(builder, layout, shared)
        own, kept = [], []
        for lane in range(QUAD):
            word = e.random_word(start, lane)
            new, bits = e.first_pass(c, [parts[lane] for parts in stored], word, exponents)
            own.append(new)
            kept.append([e.present(lane, x) for x in bits])
        for of_slot in zip(*own, strict=True):
            e.store_all(of_slot)
        if layout.zeroed:
            e.zero()
        return filled([x for of_slot in zip(*kept, strict=True) for x in of_slot])
    return first_pass


def _of_warp(builder, value, cc):
    """The largest of the warp's numbers of 32 bits, none negative: one instruction from sm_80 on, else ten."""
    if cc >= REDUCES:
        assembly = ir.InlineAsm(ir.FunctionType(I32, [I32]), f"redux.sync.max.u32 $0, $1, {EVERYONE};", "=r,r",
                                side_effect=True)
        return builder.call(assembly, [value])
    distance = WARP//2
    while distance:
        value = block.maximum(builder, value, _other_lane(builder, value, distance))
        distance //= 2
    return value


def _other_lane(builder, value, distance):
    """The value of the thread whose number in its warp differs by these bits."""
    kind = ir.LiteralStructType([I32, I1])
    numbers = i32(EVERYONE), i32(BUTTERFLY), value, i32(distance), i32(LAST_LANE)
    return builder.extract_value(call_llvm(builder, "llvm.nvvm.shfl.sync.i32", kind, *numbers), 0)


def largest(layout, pipeline, cc):
    """largest(kept): the largest magnitude of each coded slot in a block: of a thread's four, then of the warp.

    All threads of the warp must be here. They wait for each other: what they have loaded may then be overwritten.
    """
    @code(tops_kind(layout, pipeline), kept_kind(layout, pipeline))
    def largest(context, builder, kept):
        e, found = Shared(context, builder, layout), []
        bits, slots = unpacked(builder, kept), coded(layout, pipeline)
        if slots:
            call_llvm(builder, "llvm.nvvm.bar.warp.sync", ir.VoidType(), i32(EVERYONE))
        for number, k in enumerate(slots):
            top, *others = [e.magnitude(k, x) for x in bits[QUAD*number:QUAD*(number + 1)]]
            for x in others:
                top = block.maximum(builder, top, x)
            found.append(_of_warp(builder, top, cc))
        return filled(found)
    return largest


def second_pass(layout, pipeline):
    """second_pass(row, shared, kept, i): the codes of the elements i to i + 3, a word for each slot."""
    @code(types.void, layout.row, exponents_kind(layout), kept_kind(layout, pipeline), U32)
    def second_pass(context, builder, row, shared, kept, i):
        e, bits = Quads(context, builder, layout, pipeline, None, row, i), unpacked(builder, kept)
        exponents = by_slot(builder, layout, shared)
        for number, k in enumerate(coded(layout, pipeline)):
            whole, *others = [e.code(k, x, exponents[k]) for x in reversed(bits[QUAD*number:QUAD*(number + 1)])]
            for x in others:
                whole = builder.add(builder.shl(whole, i32(8)), x)
            e.store_parts(k, e.at[k][0], [whole])
    return second_pass
