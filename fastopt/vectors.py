"""Several neighbouring elements at a time, for CUDA devices: one access of 16 or 32 bytes per slot, the rule on each element.

Memory that several threads of a warp read together moves in sectors of 32 bytes, and a request of 16 bytes a thread fills them
with the fewest instructions. ``lanes`` elements are what the widest slot holds in one such access; a narrower slot takes fewer
bytes, but still whole sectors per warp (two accesses of 16 bytes side by side would touch every sector twice).
"""
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .memory import (
    GLOBAL,
    I16,
    I32,
    I64,
    WORD,
    call,
    computed_in,
    decode,
    encode,
    is_strided,
    literals,
    pointer,
    slots,
    strided_offset,
    updated,
)
from .registry import RULES

PAIR: dict = {}  # {a format's encode: emit(builder, low, high) -> 32 bits}, where a device rounds two numbers by one instruction (cuda.py)


def lanes_of(formats: str, width: int) -> int:
    """How many elements the widest slot holds in an access of `width` bytes."""
    return width//max(f.itemsize for f in slots(formats))


@intrinsic
def at(typing, formats, row, first):
    """The row of a tensor, moved to its element `first`: 64-bit arithmetic once per tile, 32-bit within."""
    literal = literals(formats)
    if literal is None:
        return None
    of = slots(literal[0])

    def emit(context, builder, signature, args):
        moved = [builder.add(address, builder.mul(args[2], ir.Constant(I64, f.itemsize)))
                 for f, address in zip(of, cgutils.unpack_tuple(builder, args[1]), strict=True)]
        return context.make_tuple(builder, row, moved)
    return row(formats, row, types.int64), emit


@intrinsic
def aligned_from(typing, formats, lanes, row, n):
    """The first of n elements at which every slot starts a whole access, or n where the slots never do together."""
    literal = literals(formats, lanes)
    if literal is None:
        return None
    of, width = slots(literal[0]), literal[1]

    def emit(context, builder, signature, args):
        last = ir.Constant(I64, width - 1)
        places = [builder.and_(builder.udiv(address, ir.Constant(I64, f.itemsize)), last)
                  for f, address in zip(of, cgutils.unpack_tuple(builder, args[2]), strict=True)]
        alike = ir.Constant(ir.IntType(1), 1)
        for place in places[1:]:
            alike = builder.and_(alike, builder.icmp_unsigned("==", place, places[0]))
        skip = builder.trunc(builder.and_(builder.neg(places[0]), last), I32)
        reachable = builder.and_(alike, builder.icmp_unsigned("<", skip, args[3]))
        return builder.select(reachable, skip, args[3])
    return types.uint32(formats, lanes, row, types.uint32), emit


def _access(builder, format, address, i, lanes):
    """Pointer and type of the elements i, i + 1, ... of a slot as one access, in 32-bit words for 16-bit numbers."""
    element = {2: I16, 4: ir.FloatType(), 8: ir.DoubleType()}[format.itemsize]
    element, count = (I32, lanes//2) if element is I16 and lanes > 1 else (element, lanes)
    start = builder.add(address, builder.mul(builder.zext(i, I64), ir.Constant(I64, format.itemsize)))
    kind = ir.VectorType(element, count) if count > 1 else element
    return builder.inttoptr(start, kind.as_pointer(GLOBAL)), kind


def _load(builder, format, address, i, lanes):
    """The stored values of `lanes` elements."""
    start, kind = _access(builder, format, address, i, lanes)
    loaded = builder.load(start, align=format.itemsize*lanes)
    parts = [loaded]
    if isinstance(kind, ir.VectorType):
        parts = [builder.extract_element(loaded, ir.Constant(I32, k)) for k in range(kind.count)]
    if parts[0].type != I32:
        return parts
    return [builder.trunc(builder.lshr(part, ir.Constant(I32, shift)), I16) for part in parts for shift in (0, 16)]


def _store(context, builder, format, address, i, values, have):
    """Encode `values`, one per lane, and store them in one access."""
    start, kind = _access(builder, format, address, i, len(values))
    pair = PAIR.get(format.encode)
    if kind is I16 or format.itemsize > 2:
        parts = [encode(context, builder, format, x, have) for x in values]
    elif pair and have == format.value:
        parts = [pair(builder, low, high) for low, high in zip(values[::2], values[1::2], strict=True)]
    else:
        stored = [builder.zext(encode(context, builder, format, x, have), I32) for x in values]
        parts = [builder.or_(low, builder.shl(high, ir.Constant(I32, 16))) for low, high in zip(stored[::2], stored[1::2], strict=True)]
    if isinstance(kind, ir.VectorType):
        whole = ir.Constant(kind, ir.Undefined)
        for k, part in enumerate(parts):
            whole = builder.insert_element(whole, part, ir.Constant(I32, k))
    else:
        whole, = parts
    builder.store(whole, start, align=format.itemsize*len(values))


@intrinsic
def update_lanes(typing, rule, formats, lanes, c, row, i):
    """The rule on the elements i to i + lanes - 1 of a tensor: every slot is loaded, then computed with, then stored."""
    literal = literals(rule, formats, lanes)
    if literal is None:
        return None
    function, of, width, scalar = RULES[literal[0]], slots(literal[1]), literal[2], computed_in(literal[1]).value

    def emit(context, builder, signature, args):
        row_of = cgutils.unpack_tuple(builder, args[4])
        stored = [_load(builder, f, address, args[5], width) for f, address in zip(of, row_of, strict=True)]
        new = []
        for lane in range(width):
            values = [decode(context, builder, f, slot[lane], scalar) for f, slot in zip(of, stored, strict=True)]
            new.append(cgutils.unpack_tuple(builder, updated(context, builder, function, c, args[3], scalar, values)))
        for k, values in enumerate(zip(*new, strict=True), 1):
            _store(context, builder, of[k], row_of[k], args[5], values, scalar)
        return context.get_dummy_value()
    return types.void(rule, formats, lanes, c, row, types.uint32), emit


@intrinsic
def strided_row(typing, formats, row, table_row, first, i):
    """The row of a tile that begins at element `first`, its gradient's address such that element i of the tile lies where a
    strided gradient has it; any other row as it is."""
    literal = literals(formats)
    if literal is None:
        return None
    strided, of = is_strided(literal[0]), slots(literal[0])

    def emit(context, builder, signature, args):
        if not strided:
            return args[1]
        old, size = cgutils.unpack_tuple(builder, args[1]), ir.Constant(I64, of[0].itemsize)
        layout, within = builder.add(args[2], ir.Constant(I64, WORD*len(of))), builder.zext(args[4], I64)
        offset = call(context, builder, strided_offset, types.int64(types.int64, types.int64), [layout, builder.add(args[3], within)])
        dense = builder.mul(builder.add(args[3], within), size)  # where the row's address would lead, from the array's first element
        return context.make_tuple(builder, row, [builder.add(old[0], builder.sub(offset, dense)), *old[1:]])
    return row(formats, row, types.int64, types.int64, types.uint32), emit


@intrinsic
def put_words(typing, address, stride, count, words):
    """Write the first `count` of a tuple of float64 numbers from an address on, `stride` bytes apart."""
    def emit(context, builder, signature, args):
        for k, value in enumerate(cgutils.unpack_tuple(builder, args[3])):
            with builder.if_then(builder.icmp_signed("<", ir.Constant(I64, k), args[2])):
                place = builder.add(args[0], builder.mul(args[1], ir.Constant(I64, k)))
                builder.store(value, pointer(builder, place, ir.DoubleType()))
        return context.get_dummy_value()
    return types.void(types.int64, types.int64, types.int64, words), emit


@intrinsic
def get(typing, address, i):
    """The float64 number i of those at an address."""
    def emit(context, builder, signature, args):
        return builder.load(pointer(builder, args[0], ir.DoubleType(), args[1]))
    return types.float64(types.int64, types.int64), emit


@intrinsic
def get_single(typing, address):
    """The float32 number at an address, as float64."""
    def emit(context, builder, signature, args):
        return builder.fpext(builder.load(pointer(builder, args[0], ir.FloatType())), ir.DoubleType())
    return types.float64(types.int64), emit


@intrinsic
def put_single(typing, address, i, value):
    """Write a float64 number as the float32 number i of those at an address."""
    def emit(context, builder, signature, args):
        builder.store(builder.fptrunc(args[2], ir.FloatType()), pointer(builder, args[0], ir.FloatType(), args[1]))
        return context.get_dummy_value()
    return types.void(types.int64, types.int64, types.float64), emit


@intrinsic
def put_word(typing, address, i, value):
    """Write word i of the words at an address."""
    def emit(context, builder, signature, args):
        builder.store(args[2], pointer(builder, args[0], I64, args[1]))
        return context.get_dummy_value()
    return types.void(types.int64, types.int64, types.int64), emit
