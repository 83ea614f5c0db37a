"""Blocks of 128 elements whose codes share exponents, on CUDA devices: a warp takes a block, each of its threads four
neighbours.

Their four codes are one word of 32 bits, and what has a format of its own is one access, too, where all of a tensor's
arrays are aligned for it; elsewhere (and in the last, short block of a tensor) elements come one by one. Between the
passes bits lie in registers. Rows are those of a tile, moved to its first element (`memory.row_at`); elements are
counted from there, in 32 bits.
"""
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .._formats import random_bits as noise
from .._formats.blocks import SIZE
from .._kernels.block import U16, coded_slots, element, filled, maximum, shared_slots, tuple_of
from .._kernels.element import encode
from .._kernels.memory import (
    GLOBAL,
    I8,
    I16,
    I32,
    I64,
    WORD,
    call,
    columns,
    computed_in,
    is_strided,
    is_zeroed,
    layout_word,
    literals,
    pointer,
    slots,
    strided_offset,
    word_pointer,
)
from .lanes import addresses_of, load_lanes, store_lanes, zero_lanes

WARP = 32
LANES = SIZE//WARP  # elements of a thread
BUTTERFLY = 3       # of the modes of NVVM's shuffle: the other's value is that of the thread whose number differs in these bits
EVERYONE, LAST_LANE = 0xFFFFFFFF, 31


def in_blocks(formats: str) -> bool:
    """Whether kernels of these formats work on blocks."""
    return bool(shared_slots(formats))


@intrinsic
def aligned_quads(typing, formats, row):
    """Whether four elements at a multiple of four are one access in every array; no where the gradient is strided."""
    literal = literals(formats)
    if literal is None:
        return None
    of = slots(literal[0])

    def emit(context, builder, signature, args):
        yes = ir.Constant(ir.IntType(1), 0 if is_strided(literal[0]) else 1)
        for f, at in zip(of, addresses_of(builder, literal[0], args[1]), strict=True):
            for address in [] if f.block else at:
                behind = builder.and_(address, ir.Constant(I64, LANES*f.itemsize - 1))
                yes = builder.and_(yes, builder.icmp_unsigned("==", behind, ir.Constant(I64, 0)))
        return yes
    return types.boolean(formats, row), emit


@intrinsic
def exponents_at(typing, formats, row, i):
    """The row with the addresses of exponents moved to the block that begins with element i."""
    literal = literals(formats)
    if literal is None:
        return None

    def emit(context, builder, signature, args):
        moved = cgutils.unpack_tuple(builder, args[1])
        block = builder.zext(builder.udiv(args[2], ir.Constant(I32, SIZE)), I64)
        for k in shared_slots(literal[0]):
            at = columns(literal[0])[0][k] + 1
            moved[at] = builder.add(moved[at], block)
        return context.make_tuple(builder, row, moved)
    return row(formats, row, types.uint32), emit


def _code_place(builder, address, i):
    """Where the four codes from element i on lie, as one word."""
    return builder.inttoptr(builder.add(address, builder.zext(i, I64)), I32.as_pointer(GLOBAL))


def _bytes(builder, word):
    return [builder.trunc(builder.lshr(word, ir.Constant(I32, 8*lane)) if lane else word, I8) for lane in range(LANES)]


def _single_places(context, builder, formats, row, table_row, first, i):
    """Where element i of each slot lies that has a format of its own, its gradient strided or not: a pointer for each array."""
    wide, found = builder.zext(i, I64), []
    for k, (f, at) in enumerate(zip(slots(formats), addresses_of(builder, formats, row), strict=True)):
        if k == 0 and is_strided(formats):
            layout = builder.add(table_row, ir.Constant(I64, WORD*layout_word(formats)))
            offset = call(context, builder, strided_offset, types.int64(types.int64, types.int64),
                          [layout, builder.add(first, wide)])
            start = builder.load(word_pointer(builder, table_row, ir.Constant(I64, 0)))
            found.append([pointer(builder, builder.add(start, offset), context.get_data_type(f.stored))])
        else:
            found.append([] if f.block else [pointer(builder, address, context.get_data_type(f.stored), wide)
                                             for address in at])
    return found


def _loaded_if(builder, there, format, places):
    """What is stored at these places if an element is there, else zeros."""
    before = builder.block
    with builder.if_then(there):
        values, inside = [builder.load(place, align=format.itemsize) for place in places], builder.block
    found = []
    for value in values:
        found.append(builder.phi(value.type))
        found[-1].add_incoming(ir.Constant(value.type, 0), before)
        found[-1].add_incoming(value, inside)
    return found


def _zero(kind):
    return ir.Constant(kind, 0)


class _Quads:
    """Loads and stores of four neighbours, as one access per array."""

    def __init__(self, context, builder, formats, row, i):
        self.context, self.builder, self.of, self.i = context, builder, slots(formats), i
        self.at = addresses_of(builder, formats, row)

    def load(self, k):
        f = self.of[k]
        return list(zip(*[load_lanes(self.builder, f.itemsize, address, self.i, LANES) for address in self.at[k]],
                        strict=True))

    def store(self, k, values, have, random):
        store_lanes(self.context, self.builder, self.of[k], self.at[k], self.i, values, have, random)

    def zero(self):
        zero_lanes(self.builder, self.of[0], self.at[0][0], self.i, LANES)


class _Singles:
    """The same one by one, of those that are among the first `n` of a tile."""

    def __init__(self, context, builder, formats, row, i, table_row, first, n):
        self.context, self.builder, self.of = context, builder, slots(formats)
        each = [builder.add(i, ir.Constant(I32, lane)) for lane in range(LANES)]
        self.there = [builder.icmp_unsigned("<", lane, n) for lane in each]
        self.at = [_single_places(context, builder, formats, row, table_row, first, lane) for lane in each]

    def load(self, k):
        return [_loaded_if(self.builder, there, self.of[k], at[k]) for there,
                at in zip(self.there, self.at, strict=True)]

    def store(self, k, values, have, random):
        for there, at, x, bits in zip(self.there, self.at, values, random, strict=True):
            with self.builder.if_then(there):
                for part, place in zip(encode(self.context, self.builder, self.of[k], x, have, bits), at[k],
                                       strict=True):
                    self.builder.store(part, place, align=self.of[k].itemsize)

    def zero(self):
        for there, at in zip(self.there, self.at, strict=True):
            with self.builder.if_then(there):
                self.builder.store(_zero(at[0][0].type.pointee), at[0][0], align=self.of[0].itemsize)


@intrinsic
def update_quads(typing, rule, formats, whole, c, row, table_row, shared, first, n, i, start):
    """The first pass for the elements i to i + 3 of a tile that begins with element `first` and has `n`: what has a
    format of its own is stored; 16 bits of each number that shares an exponent are returned, slot by slot, 0 for
    elements that are not there.

    `whole` says that all are there, and may be loaded together. Random bits of the first of them begin at `start`.
    """
    literal = literals(rule, formats, whole)
    if literal is None:
        return None
    of, scalar, coded = slots(literal[1]), computed_in(literal[1]).value, coded_slots(*literal[:2])
    result = tuple_of(U16, LANES*len(coded))

    def emit(context, builder, signature, args):
        _, _, _, c, row, table_row, shared, first, n, i, start = args
        codes = addresses_of(builder, literal[1], row)
        others = _Quads(context, builder, literal[1], row, i) if literal[2] else _Singles(context, builder, literal[1],
                                                                                          row, i, table_row,
                                                                                          first, n)
        stored = [[[byte] for byte in _bytes(builder, builder.load(_code_place(builder, codes[k][0], i), align=LANES))]
                  if f.block else
                  others.load(k) for k, f in enumerate(of)]
        new, kept = [], []
        for lane in range(LANES):
            bits = builder.add(start, ir.Constant(I32, lane*int(noise.ELEMENT) % 2**32))
            one, rest = element(context, builder, *literal[:2], signature.args[3], c, [parts[lane] for parts in stored],
                                shared, bits)
            new.append(one)
            kept.append(rest if literal[2] else [builder.select(others.there[lane], x, _zero(I16)) for x in rest])
        for same in zip(*new, strict=True):
            slots_of, values, random = zip(*same, strict=True)
            others.store(slots_of[0], values, scalar, random)
        if is_zeroed(literal[1]):
            others.zero()
        return filled(context, builder, result, [x for column in zip(*kept, strict=True) for x in column])
    return result(rule, formats, whole, c, row, types.int64, shared, types.int64, types.uint32, types.uint32,
                  types.uint32), emit


def _other_lane(builder, value, distance):
    """The value of the thread whose number in its warp differs by these bits."""
    kind = ir.FunctionType(ir.LiteralStructType([I32, ir.IntType(1)]), [I32]*5)
    shuffle = cgutils.get_or_insert_function(builder.module, kind, "llvm.nvvm.shfl.sync.i32")
    numbers = [ir.Constant(I32, x) for x in (EVERYONE, BUTTERFLY, distance, LAST_LANE)]
    return builder.extract_value(builder.call(shuffle, [*numbers[:2], value, *numbers[2:]]), 0)


def _meet(builder):
    """Threads of a warp wait for each other: what they have loaded may then be overwritten by any of them."""
    barrier = cgutils.get_or_insert_function(builder.module, ir.FunctionType(ir.VoidType(), [I32]),
                                             "llvm.nvvm.bar.warp.sync")
    builder.call(barrier, [ir.Constant(I32, EVERYONE)])


@intrinsic
def largest(typing, rule, formats, kept):
    """The largest magnitude of each slot in a block: of a thread's four, then of the warp, which must be all there; it meets here."""
    literal = literals(rule, formats)
    if literal is None:
        return None
    coded, of = coded_slots(*literal), slots(literal[1])
    result = tuple_of(U16, len(coded))

    def emit(context, builder, signature, args):
        found, bits = [], cgutils.unpack_tuple(builder, args[2])
        if coded:
            _meet(builder)
        for slot, k in enumerate(coded):
            own = [call(context, builder, of[k].block.magnitude, U16(U16), [x])
                   for x in bits[LANES*slot:LANES*(slot + 1)]]
            top = builder.zext(own[0], I32)
            for x in own[1:]:
                top = maximum(builder, top, builder.zext(x, I32))
            distance = WARP//2
            while distance:
                top = maximum(builder, top, _other_lane(builder, top, distance))
                distance //= 2
            found.append(builder.trunc(top, I16))
        return filled(context, builder, result, found)
    return result(rule, formats, kept), emit


@intrinsic
def store_quads(typing, rule, formats, row, shared, kept, i):
    """The second pass for the elements i to i + 3: their codes, a word for each slot."""
    literal = literals(rule, formats)
    if literal is None:
        return None
    of, own = slots(literal[1]), shared_slots(literal[1])

    def emit(context, builder, signature, args):
        _, _, row, shared, kept, i = args
        bits, at = cgutils.unpack_tuple(builder, kept), addresses_of(builder, literal[1], row)
        for slot, k in enumerate(coded_slots(*literal)):
            exponent, word = builder.extract_value(shared, own.index(k)), _zero(I32)
            for lane, x in enumerate(bits[LANES*slot:LANES*(slot + 1)]):
                code = builder.zext(call(context, builder, of[k].block.encode, U16(U16, U16), [x, exponent]), I32)
                code = builder.and_(code, ir.Constant(I32, 0xFF))
                word = builder.or_(word, builder.shl(code, ir.Constant(I32, 8*lane)))
            builder.store(word, _code_place(builder, at[k][0], i), align=LANES)
        return context.get_dummy_value()
    return types.void(rule, formats, row, shared, kept, types.uint32), emit
