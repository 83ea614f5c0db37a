"""Several neighbouring elements at a time, for CUDA devices: one access of 16 or 32 bytes per slot, the rule on each
element.

Memory that several threads of a warp read together moves in sectors of 32 bytes, and a request of 16 bytes a thread
fills them with the fewest instructions. ``lanes`` elements are what the widest slot holds in one such access; a
narrower slot takes fewer bytes, but still whole sectors per warp (two accesses of 16 bytes side by side would touch
every sector twice).
"""
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .._formats import random_bits as noise
from .._kernels.element import decode, drawn, encode, updated
from .._kernels.memory import (
    GLOBAL,
    I16,
    I32,
    I64,
    WORD,
    call,
    columns,
    computed_in,
    is_random,
    is_strided,
    is_zeroed,
    layout_word,
    literals,
    pointer,
    slots,
    strided_offset,
    values_of,
)
from .._rule.rule import RULES

PAIR: dict = {}  # {a format's encode: emit(builder, low, high) -> 32 bits}, where a device rounds two numbers by one instruction (cuda.py)


def lanes_of(formats: str, width: int) -> int:
    """How many elements the widest slot holds in an access of `width` bytes."""
    return width//max(f.itemsize for f in slots(formats))


def column_sizes(formats: str) -> list[int]:
    """The bytes of an element in each array of a row."""
    return [f.itemsize for f in slots(formats) for _ in range(f.columns)]


@intrinsic
def aligned_from(typing, formats, lanes, row, n):
    """The first of n elements at which every slot starts a whole access, or n where the slots never do together."""
    literal = literals(formats, lanes)
    if literal is None:
        return None
    sizes, width = column_sizes(literal[0]), literal[1]

    def emit(context, builder, signature, args):
        last = ir.Constant(I64, width - 1)
        places = [builder.and_(builder.udiv(address, ir.Constant(I64, size)), last)
                  for size, address in zip(sizes, cgutils.unpack_tuple(builder, args[2]), strict=True)]
        alike = ir.Constant(ir.IntType(1), 1)
        for place in places[1:]:
            alike = builder.and_(alike, builder.icmp_unsigned("==", place, places[0]))
        skip = builder.trunc(builder.and_(builder.neg(places[0]), last), I32)
        reachable = builder.and_(alike, builder.icmp_unsigned("<", skip, args[3]))
        return builder.select(reachable, skip, args[3])
    return types.uint32(formats, lanes, row, types.uint32), emit


def access(builder, itemsize, address, i, lanes):
    """Pointer and type of the elements i, i + 1, ... of an array as one access, in 32-bit words for 16-bit numbers."""
    element = {2: I16, 4: ir.FloatType(), 8: ir.DoubleType()}[itemsize]
    element, count = (I32, lanes//2) if element is I16 and lanes > 1 else (element, lanes)
    start = builder.add(address, builder.mul(builder.zext(i, I64), ir.Constant(I64, itemsize)))
    kind = ir.VectorType(element, count) if count > 1 else element
    return builder.inttoptr(start, kind.as_pointer(GLOBAL)), kind


def load_lanes(builder, itemsize, address, i, lanes):
    """The stored values of `lanes` elements of an array."""
    start, kind = access(builder, itemsize, address, i, lanes)
    loaded = builder.load(start, align=itemsize*lanes)
    parts = [loaded]
    if isinstance(kind, ir.VectorType):
        parts = [builder.extract_element(loaded, ir.Constant(I32, k)) for k in range(kind.count)]
    if parts[0].type != I32:
        return parts
    return [builder.trunc(builder.lshr(part, ir.Constant(I32, shift)), I16) for part in parts for shift in (0, 16)]


def _store_whole(builder, itemsize, address, i, parts, lanes):
    """One access; `parts` are what it consists of."""
    start, kind = access(builder, itemsize, address, i, lanes)
    if isinstance(kind, ir.VectorType):
        whole = ir.Constant(kind, ir.Undefined)
        for k, part in enumerate(parts):
            whole = builder.insert_element(whole, part, ir.Constant(I32, k))
    else:
        whole, = parts
    builder.store(whole, start, align=itemsize*lanes)


def _in_words(builder, stored):
    """Pairs of 16-bit numbers as 32-bit words."""
    wide = [builder.zext(x, I32) for x in stored]
    return [builder.or_(low, builder.shl(high, ir.Constant(I32, 16))) for low,
            high in zip(wide[::2], wide[1::2], strict=True)]


def store_lanes(context, builder, format, addresses, i, values, have, random):
    """Encode `values`, one per lane, and store them in one access per array; `random` holds the bits of each lane, if any are drawn."""
    lanes, pair = len(values), PAIR.get(format.encode)
    if pair and have == format.value and lanes > 1:
        columns_of = [[pair(builder, low, high) for low, high in zip(values[::2], values[1::2], strict=True)]]
    else:
        stored = [encode(context, builder, format, x, have, bits) for x, bits in zip(values, random, strict=True)]
        columns_of = list(zip(*stored, strict=True))
        if format.itemsize == 2 and lanes > 1:
            columns_of = [_in_words(builder, column) for column in columns_of]
    for address, parts in zip(addresses, columns_of, strict=True):
        _store_whole(builder, format.itemsize, address, i, parts, lanes)


def zero_lanes(builder, format, address, i, lanes):
    """Set as many elements of a gradient to zero."""
    start, kind = access(builder, format.itemsize, address, i, lanes)
    builder.store(ir.Constant(kind, None), start, align=format.itemsize*lanes)


def addresses_of(builder, formats, row):
    """The addresses of the arrays of each slot, of those that hold numbers."""
    of, (starts, _) = slots(formats), columns(formats)
    return [[builder.extract_value(row, start + part) for part in range(1 + f.split)] for f,
            start in zip(of, starts, strict=True)]


def random_lanes(context, builder, formats, start, lanes):
    """{slot: random bits} of as many neighbouring elements, the first of which has its bits from `start` on."""
    of, found = slots(formats), []
    for lane in range(lanes):
        if not is_random(formats):
            found.append({})
            continue
        here = builder.add(start, ir.Constant(I32, lane*int(noise.ELEMENT) % 2**32))
        found.append(drawn(builder, of, call(context, builder, noise.mixed, types.uint32(types.uint32), [here])))
    return found


@intrinsic
def update_lanes(typing, rule, formats, lanes, c, row, i, start):
    """The rule on the elements i to i + lanes - 1 of a tensor: every slot is loaded, then computed with, then stored.

    Random bits of the first element begin at `start`.
    """
    literal = literals(rule, formats, lanes)
    if literal is None:
        return None
    function, of, width, scalar = RULES[literal[0]], slots(literal[1]), literal[2], computed_in(literal[1]).value

    def emit(context, builder, signature, args):
        at_of = addresses_of(builder, literal[1], args[4])
        stored = [[load_lanes(builder, f.itemsize, address, args[5], width) for address in at] for f,
                  at in zip(of, at_of, strict=True)]
        new = []
        for lane in range(width):
            values = [decode(context, builder, f, [part[lane] for part in parts], kind)
                      for f, parts, kind in zip(of, stored, values_of(literal[1]), strict=True)]
            new.append(cgutils.unpack_tuple(builder, updated(context, builder, function, c, args[3], scalar, values)))
        random = random_lanes(context, builder, literal[1], args[6], width)
        for k, values in enumerate(zip(*new, strict=True), 1):
            store_lanes(context, builder, of[k], at_of[k], args[5], values, scalar, [bits.get(k) for bits in random])
        if is_zeroed(literal[1]):
            zero_lanes(builder, of[0], at_of[0][0], args[5], width)
        return context.get_dummy_value()
    return types.void(rule, formats, lanes, c, row, types.uint32, types.uint32), emit


@intrinsic
def strided_row(typing, formats, row, table_row, first, i):
    """The row of a tile that begins at element `first`, its gradient's address such that element i of the tile lies where a
    strided gradient has it; any other row as it is."""
    literal = literals(formats)
    if literal is None:
        return None
    strided, of, layout_at = is_strided(literal[0]), slots(literal[0]), layout_word(literal[0])

    def emit(context, builder, signature, args):
        if not strided:
            return args[1]
        old, size = cgutils.unpack_tuple(builder, args[1]), ir.Constant(I64, of[0].itemsize)
        layout, within = builder.add(args[2], ir.Constant(I64, WORD*layout_at)), builder.zext(args[4], I64)
        offset = call(context, builder, strided_offset, types.int64(types.int64, types.int64),
                      [layout, builder.add(args[3], within)])
        dense = builder.mul(builder.add(args[3], within),
                            size)  # where the row's address would lead, from the array's first element
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
