"""Blocks of 128 elements whose codes share exponents, in two passes.

The first decodes, computes, stores what has a format of its own, and keeps 16 bits of what shares an exponent; the
second finds the exponent and makes codes. Between them the bits lie on the stack (CPU) or in registers (CUDA). Rows are
those of a block (`memory.row_at`). Written once, as LLVM instructions for any Numba target.
"""
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .._formats import random_bits as noise
from .._formats.blocks import SIZE
from .._rule.rule import RULES
from .element import decode, drawn, encode, places, updated
from .memory import (
    I8,
    I16,
    I32,
    I64,
    call,
    columns,
    computed_in,
    is_random,
    is_zeroed,
    literals,
    on_device,
    pointer,
    slots,
    values_of,
)

U16, U32 = types.uint16, types.uint32
COMPANY = 8  # blocks that the CPU works on at a time


def shared_slots(formats):
    """The slots whose numbers share exponents."""
    return [k for k, f in enumerate(slots(formats)) if f.block]


def coded_slots(rule, formats):
    """Those of them that a step writes."""
    return [k for k in shared_slots(formats) if 0 < k <= RULES[rule].writes]


def tuple_of(kind, count):
    """A type for so many values; one at least, since Numba knows no empty tuple of one kind."""
    return types.UniTuple(kind, max(1, count))


def filled(context, builder, kind, values):
    values = values or [context.get_constant(kind.dtype, 0)]
    return context.make_tuple(builder, kind, values)


class Apart:
    """Tells LLVM that no two arrays of a step overlap, which it cannot know of addresses.

    A gradient may be its parameter, so these two may meet. Without, every block of 128 elements begins with a dozen
    comparisons.
    """

    def __init__(self, builder, formats):
        self.module = None if on_device(builder) else builder.module
        if self.module:
            domain, count = self.module.add_metadata(["fastopt arrays"]), len(slots(formats))
            self.scopes = {k: self.module.add_metadata([f"fastopt array {k}", domain]) for k in (*range(1, count),
                                                                                                 *range(-count, 0))}

    def mark(self, access, slot):
        """An access to a slot's array; `slot` -1, -2, ...: to what lies on the stack for slot 1, 2, ..."""
        if self.module:
            mine = slot or 1
            access.set_metadata("alias.scope", self.module.add_metadata([self.scopes[mine]]))
            access.set_metadata("noalias", self.module.add_metadata([scope for k, scope in self.scopes.items()
                                                                     if k != mine]))
        return access


def exponent_place(builder, formats, row, k):
    """Where the exponent of a block lies."""
    return pointer(builder, builder.extract_value(row, columns(formats)[0][k] + 1), I8)


@intrinsic
def exponents(typing, formats, row):
    """The exponents of a block, of each slot that has one."""
    literal = literals(formats)
    if literal is None:
        return None
    result = tuple_of(U16, len(shared_slots(literal[0])))

    def emit(context, builder, signature, args):
        values = [builder.zext(builder.load(exponent_place(builder, literal[0], args[1], k)), I16)
                  for k in shared_slots(literal[0])]
        return filled(context, builder, result, values)
    return result(formats, row), emit


def element(context, builder, rule, formats, coefficients, c, stored, shared, start):
    """The rule on one element of a block, from what is `stored` of it in each slot; its random bits begin at `start`.

    Of slots with a format of their own: (slot, new number, its random bits); of the others 16 bits of each number.
    """
    function, of, scalar, kinds = RULES[rule], slots(formats), computed_in(formats).value, values_of(formats)
    exponent = dict(zip(shared_slots(formats), cgutils.unpack_tuple(builder, shared), strict=False))

    def decoded(k):
        f = of[k]
        if not f.block:
            return decode(context, builder, f, stored[k], kinds[k])
        value = call(context, builder, f.decode, f.value(f.stored, U16), [*stored[k], exponent[k]])
        return context.cast(builder, value, f.value, scalar)

    results = updated(context, builder, function, coefficients, c, scalar, [decoded(k) for k in range(len(of))])
    random = drawn(builder, of, call(context, builder, noise.mixed, U32(U32), [start])) if is_random(formats) else {}
    new, kept = [], []
    for k, x in enumerate(cgutils.unpack_tuple(builder, results), 1):
        f = of[k]
        if f.block:
            value = context.cast(builder, x, scalar, f.value)
            kept.append(call(context, builder, f.block.round, U16(f.value, U32),
                             [value, random.get(k, ir.Constant(I32, 0))]))
        else:
            new.append((k, x, random.get(k)))
    return new, kept


def maximum(builder, x, y):
    """As LLVM's own intrinsic, which it recognises as a reduction; that of CUDA's toolkit is too old to know it."""
    if on_device(builder):
        return builder.select(builder.icmp_unsigned(">", x, y), x, y)
    return builder.call(builder.module.declare_intrinsic("llvm.umax", [x.type],
                                                         ir.FunctionType(x.type, [x.type, x.type])), [x, y])


@intrinsic
def shares(typing, rule, formats, old, top):
    """The new exponents of a block: of the slots that a step writes from their largest magnitudes, of others as they were."""
    literal = literals(rule, formats)
    if literal is None:
        return None
    coded, own, of = coded_slots(*literal), shared_slots(literal[1]), slots(literal[1])

    def emit(context, builder, signature, args):
        values = cgutils.unpack_tuple(builder, args[2])
        for slot, k in enumerate(coded):
            values[own.index(k)] = call(context, builder, of[k].block.share, U16(U16),
                                        [builder.extract_value(args[3], slot)])
        return context.make_tuple(builder, old, values)
    return old(rule, formats, old, top), emit


@intrinsic
def store_exponents(typing, rule, formats, row, shared):
    """The exponents of a block, of each slot that a step writes."""
    literal = literals(rule, formats)
    if literal is None:
        return None

    def emit(context, builder, signature, args):
        for k in coded_slots(*literal):
            exponent = builder.extract_value(args[3], shared_slots(literal[1]).index(k))
            builder.store(builder.trunc(exponent, I8), exponent_place(builder, literal[1], args[2], k))
        return context.get_dummy_value()
    return types.void(rule, formats, row, shared), emit


# On the CPU: one element after the other, which LLVM turns into vectors; between the passes 16 bits of each lie on the
# stack

def _copies(formats):
    """(column, bytes of an element) of all arrays that hold one number per element."""
    starts, _ = columns(formats)
    return [(start + part, f.itemsize) for f, start in zip(slots(formats), starts, strict=True) if not f.block
            for part in range(f.columns)]


@intrinsic
def padded(typing, formats, row, count):
    """The row of a block, where one of less than 128 elements has become a copy on the stack, with zeros behind them."""
    literal = literals(formats)
    if literal is None:
        return None

    def emit(context, builder, signature, args):
        old = cgutils.unpack_tuple(builder, args[1])
        short = builder.icmp_signed("<", args[2], ir.Constant(I64, SIZE))
        new = list(old)
        for column, size in _copies(literal[0]):
            buffer = cgutils.alloca_once(builder, ir.ArrayType(I64, SIZE*size//8))
            with builder.if_then(short, likely=False):
                target = builder.bitcast(buffer, I8.as_pointer())
                cgutils.memset(builder, target, ir.Constant(I64, SIZE*size), 0)
                cgutils.raw_memcpy(builder, target, pointer(builder, old[column], I8), args[2], size, align=1)
            new[column] = builder.select(short, builder.ptrtoint(buffer, I64), old[column])
        return context.make_tuple(builder, row, new)
    return row(formats, row, types.int64), emit


@intrinsic
def unpadded(typing, formats, row, copy, count):
    """Bring the elements of a padded copy back."""
    literal = literals(formats)
    if literal is None:
        return None
    first = 0 if is_zeroed(literal[0]) else slots(literal[0])[0].columns

    def emit(context, builder, signature, args):
        with builder.if_then(builder.icmp_signed("<", args[3], ir.Constant(I64, SIZE)), likely=False):
            for column, size in _copies(literal[0]):
                if column >= first:
                    target, source = (pointer(builder, builder.extract_value(which, column), I8) for which in args[1:3])
                    cgutils.raw_memcpy(builder, target, source, args[3], size, align=1)
        return context.get_dummy_value()
    return types.void(formats, row, row, types.int64), emit


@intrinsic
def scratch(typing, rule, formats):
    """The address of room for the bits of a company of blocks, on the stack: a half-word for each element of each slot that is coded."""
    literal = literals(rule, formats)
    if literal is None:
        return None

    def emit(context, builder, signature, args):
        room = cgutils.alloca_once(builder, ir.ArrayType(I64, max(1, COMPANY*SIZE//4*len(coded_slots(*literal)))))
        return builder.ptrtoint(room, I64)
    return types.int64(rule, formats), emit


def _kept(builder, room, slot, i):
    return pointer(builder, room, I16, builder.add(i, ir.Constant(I64, slot*COMPANY*SIZE)))


@intrinsic
def update_shared(typing, rule, formats, c, row, shared, i, start, room, first):
    """The first pass for element i of a block, number `first` + i of its company; its random bits begin at `start`."""
    literal = literals(rule, formats)
    if literal is None:
        return None
    of, scalar = slots(literal[1]), computed_in(literal[1]).value

    def emit(context, builder, signature, args):
        _, _, c, row, shared, i, start, room, first = args
        apart, at = Apart(builder, literal[1]), places(context, builder, literal[1], row, i)
        stored = [[apart.mark(builder.load(place, align=1), k) for place in parts] for k, parts in enumerate(at)]
        new, kept = element(context, builder, *literal, signature.args[2], c, stored, shared, start)
        for k, x, random in new:
            for part, place in zip(encode(context, builder, of[k], x, scalar, random), at[k], strict=True):
                apart.mark(builder.store(part, place, align=1), k)
        if is_zeroed(literal[1]):
            apart.mark(builder.store(ir.Constant(at[0][0].type.pointee, 0), at[0][0], align=1), 0)
        for slot, value in enumerate(kept):
            apart.mark(builder.store(value, _kept(builder, room, slot, builder.add(first, i))), -1 - slot)
        return context.get_dummy_value()
    return types.void(rule, formats, c, row, shared, types.int64, types.uint32, types.int64, types.int64), emit


@intrinsic
def no_magnitudes(typing, rule, formats):
    """The magnitudes to start from."""
    literal = literals(rule, formats)
    if literal is None:
        return None
    result = tuple_of(U16, len(coded_slots(*literal)))

    def emit(context, builder, signature, args):
        return filled(context, builder, result, [ir.Constant(I16, 0) for _ in coded_slots(*literal)])
    return result(rule, formats), emit


@intrinsic
def larger(typing, rule, formats, room, i, top):
    """The largest magnitudes of each slot: those so far, and those of element i."""
    literal = literals(rule, formats)
    if literal is None:
        return None
    of = slots(literal[1])

    def emit(context, builder, signature, args):
        found, apart = cgutils.unpack_tuple(builder, args[4]), Apart(builder, literal[1])
        for slot, k in enumerate(coded_slots(*literal)):
            bits = apart.mark(builder.load(_kept(builder, args[2], slot, args[3])), -1 - slot)
            found[slot] = maximum(builder, found[slot], call(context, builder, of[k].block.magnitude, U16(U16), [bits]))
        return context.make_tuple(builder, top, found)
    return top(rule, formats, types.int64, types.int64, top), emit


@intrinsic
def store_codes(typing, rule, formats, row, shared, room, i, first):
    """The second pass for element i of a block, number `first` + i of its company."""
    literal = literals(rule, formats)
    if literal is None:
        return None
    of, starts, own = slots(literal[1]), columns(literal[1])[0], shared_slots(literal[1])

    def emit(context, builder, signature, args):
        _, _, row, shared, room, i, first = args
        apart = Apart(builder, literal[1])
        for slot, k in enumerate(coded_slots(*literal)):
            bits = apart.mark(builder.load(_kept(builder, room, slot, builder.add(first, i))), -1 - slot)
            code = call(context, builder, of[k].block.encode, U16(U16, U16),
                        [bits, builder.extract_value(shared, own.index(k))])
            apart.mark(builder.store(builder.trunc(code, I8),
                                     pointer(builder, builder.extract_value(row, starts[k]), I8, i)), k)
        return context.get_dummy_value()
    return types.void(rule, formats, row, shared, types.int64, types.int64, types.int64), emit
