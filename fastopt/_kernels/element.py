"""One element of every slot: loaded and decoded, updated by a rule, encoded and stored; two at a time where all slots
have 16 bits.

Written once, as LLVM instructions for any Numba target, like memory.py. Formats whose numbers share something are in
sharing.py.
"""
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .._formats import random_bits as noise
from .._rule.rule import RULES, apply, prepare
from .memory import (
    I32,
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

DEVICE_CONVERSIONS: dict = {}  # {a format's decode or encode: emit(builder, x)}, where a CUDA device has an instruction (cuda_code.py)


def convert(context, builder, function, signature, args):
    """A format's decode or encode of one value: by the device's instruction where it has one, else by the formula."""
    native = DEVICE_CONVERSIONS.get(function) if on_device(builder) else None
    return native(builder, *args) if native else call(context, builder, function, signature, args)


def decode(context, builder, format, parts, value):
    """What stored numbers stand for, in the float type of the arithmetic."""
    decoded = convert(context, builder, format.decode, format.value(*[format.stored]*len(parts)), parts)
    return context.cast(builder, decoded, format.value, value)


def encode(context, builder, format, x, have, bits=None):
    """How a number is stored that was computed in the float type `have`: one number, or two. `bits` are random ones, if it takes any."""
    value = context.cast(builder, x, have, format.value)
    given, kinds = ([value, bits], [format.value, types.uint32]) if format.random else ([value], [format.value])
    result = types.UniTuple(format.stored, 2) if format.split else format.stored
    stored = convert(context, builder, format.encode, result(*kinds), given)
    return cgutils.unpack_tuple(builder, stored) if format.split else [stored]


def drawn(builder, of, word):
    """{slot: its 32 random bits}, for those that take any: a product of the element's word for each."""
    random = [k for k, f in enumerate(of) if k and f.random]
    return {k: builder.mul(word, ir.Constant(I32, int(factor))) if rank else word
            for rank, (k, factor) in enumerate(zip(random, noise.SLOTS, strict=False))}


@intrinsic
def element_bits(typing, formats, key, i):
    """The random bits of element i; 0 where none are drawn."""
    literal = literals(formats)
    if literal is None:
        return None

    def emit(context, builder, signature, args):
        if not is_random(literal[0]):
            return ir.Constant(I32, 0)
        element = context.cast(builder, args[2], signature.args[2], types.uint32)
        return call(context, builder, noise.word, types.uint32(types.uint32, types.uint32), [args[1], element])
    return types.uint32(formats, types.uint32, i), emit


def alignment(builder, format):
    """What loads and stores may rely on: anything on the CPU; a device's instructions need whole elements (binding checks it)."""
    return format.itemsize if on_device(builder) else 1


def places(context, builder, formats, row, i):
    """Where element i of every slot lies: a pointer per array."""
    starts, _ = columns(formats)
    return [[pointer(builder, builder.extract_value(row, start + part), context.get_data_type(f.stored), i)
             for part in range(1 + f.split)]
            for f, start in zip(slots(formats), starts, strict=True)]


def _loaded(context, builder, format, at, value):
    parts = [builder.load(place, align=alignment(builder, format)) for place in at]
    return decode(context, builder, format, parts, value)


@intrinsic
def load(typing, formats, row, i):
    """Element i of every slot, decoded, in the float type of the arithmetic; a wider gradient in its own."""
    literal = literals(formats)
    if literal is None:
        return None
    kinds, of = values_of(literal[0]), slots(literal[0])
    result = types.BaseTuple.from_types(kinds)

    def emit(context, builder, signature, args):
        at = places(context, builder, literal[0], args[1], args[2])
        return context.make_tuple(builder, result, [_loaded(context, builder, *one) for one in zip(of, at, kinds,
                                                                                                   strict=True)])
    return result(formats, row, types.int64), emit


@intrinsic
def load_gradient(typing, formats, row, i):
    """Element i of slot 0, decoded, as float64: the norm is summed in it."""
    literal = literals(formats)
    if literal is None:
        return None

    def emit(context, builder, signature, args):
        at = places(context, builder, literal[0], args[1], args[2])
        return _loaded(context, builder, slots(literal[0])[0], at[0], types.float64)
    return types.float64(formats, row, types.int64), emit


@intrinsic
def store(typing, formats, row, i, new, bits):
    """Encode new values into slots 1, 2, ...: as many as there are; a gradient that is to be zeroed becomes zero."""
    literal = literals(formats)
    if literal is None:
        return None
    of = slots(literal[0])

    def emit(context, builder, signature, args):
        at = places(context, builder, literal[0], args[1], args[2])
        random = drawn(builder, of, args[4])
        for k, have in enumerate(signature.args[3], 1):
            parts = encode(context, builder, of[k], builder.extract_value(args[3], k - 1), have, random.get(k))
            for part, place in zip(parts, at[k], strict=True):
                builder.store(part, place, align=alignment(builder, of[k]))
        if is_zeroed(literal[0]):
            builder.store(ir.Constant(at[0][0].type.pointee, 0), at[0][0], align=alignment(builder, of[0]))
        return context.get_dummy_value()
    return types.void(formats, row, types.int64, new, types.uint32), emit


def narrowed(context, builder, coefficients, c, scalar, values):
    """The coefficients' type and value, and the values, all `scalar`: a wider gradient is scaled in its own type, then converted."""
    if coefficients[0] == scalar:
        return coefficients, c, values
    scale, *rest = cgutils.unpack_tuple(builder, c)
    g = context.cast(builder, builder.fmul(scale, values[0]), coefficients[0], scalar)
    kind = types.NamedUniTuple(scalar, len(coefficients), coefficients.instance_class)
    return kind, context.make_tuple(builder, kind, [context.get_constant(scalar, 1), *rest]), [g, *values[1:]]


def updated(context, builder, rule, coefficients, c, scalar, values):
    """What a rule makes of one element: a tuple of `scalar`s. `c` is the value of the coefficients, `coefficients` its type."""
    coefficients, c, values = narrowed(context, builder, coefficients, c, scalar, values)
    own = rule.writes - len(rule.follows)
    g, p, *state = values[:len(values) - len(rule.follows)]
    if rule.prepared:
        g = call(context, builder, prepare, scalar(coefficients, scalar, scalar), [c, g, p])
    signature = types.UniTuple(scalar, own)(coefficients, *[scalar]*(2 + len(state)))
    new = cgutils.unpack_tuple(builder, call(context, builder, rule.body, signature, [c, g, p, *state]))
    if rule.prepared:
        new[0] = call(context, builder, apply, scalar(coefficients, scalar, scalar), [c, p, new[0]])
    for function, old in zip(rule.follows, values[len(values) - len(rule.follows):], strict=True):
        new.append(call(context, builder, function, scalar(coefficients, scalar, scalar), [c, new[0], old]))
    return context.make_tuple(builder, types.UniTuple(scalar, rule.writes), new)


@intrinsic
def update(typing, rule, c, values):
    """The rule on one element: (gradient, parameter, *state) -> (parameter, *state)."""
    literal = literals(rule)
    if literal is None:
        return None
    function, scalar = RULES[literal[0]], values[1]

    def emit(context, builder, signature, args):
        return updated(context, builder, function, c, args[1], scalar, cgutils.unpack_tuple(builder, args[2]))
    return types.UniTuple(scalar, function.writes)(rule, c, values), emit


@intrinsic
def update_pair(typing, rule, formats, c, row, i, start):
    """The rule on elements i and i + 1, where all slots have 16 bits: 32-bit words in memory, which spares vectors
    their shuffles.

    The random bits of the first begin at `start`.

    An even element is the lower half of its word, an odd one the upper: a shift, or a mask, and no element changes its
    place.
    """
    literal = literals(rule, formats)
    if literal is None:
        return None
    function, of, scalar = RULES[literal[0]], slots(literal[1]), computed_in(literal[1]).value
    starts, _ = columns(literal[1])

    def emit(context, builder, signature, args):
        half, sixteen = ir.IntType(16), ir.Constant(I32, 16)
        at = [[builder.bitcast(pointer(builder, builder.extract_value(args[3], start + part), half, args[4]),
                               I32.as_pointer())
               for part in range(1 + f.split)] for f, start in zip(of, starts, strict=True)]
        words = [[builder.load(place, align=1) for place in where] for where in at]
        new = []
        for lane in range(2):
            shifted = [[builder.lshr(w, sixteen) if lane else w for w in parts] for parts in words]
            stored = [[builder.trunc(w, half) for w in parts] for parts in shifted]
            values = [decode(context, builder, f, parts, scalar) for f, parts in zip(of, stored, strict=True)]
            results = cgutils.unpack_tuple(builder, updated(context, builder, function, c, args[2], scalar, values))
            random = {}
            if is_random(literal[1]):
                begin = builder.add(args[5], ir.Constant(I32, lane*int(noise.ELEMENT)))
                random = drawn(builder, of, call(context, builder, noise.mixed, types.uint32(types.uint32), [begin]))
            new.append([encode(context, builder, of[k], x, scalar, random.get(k)) for k, x in enumerate(results, 1)])
        for k, (low, high) in enumerate(zip(*new, strict=True), 1):
            for first, second, place in zip(low, high, at[k], strict=True):
                word = builder.or_(builder.zext(first, I32), builder.shl(builder.zext(second, I32), sixteen))
                builder.store(word, place, align=1)
        if is_zeroed(literal[1]):
            builder.store(ir.Constant(I32, 0), at[0][0], align=1)
        return context.get_dummy_value()
    return types.void(rule, formats, c, row, types.int64, types.uint32), emit
