"""Memory as kernels see it: rows of addresses, loads and stores through formats, coefficients, claimed work.

Everything here is written once as LLVM instructions, for any Numba target; no kernel touches Numba's internals elsewhere.
A `formats` argument is a literal such as ``"bf16 f32 f32 f32"``: the format of each slot, the first slot read-only (the
gradient; a ``*`` behind its format says that it is strided). A `rule` argument is the literal digest of a registered rule.
"""
from llvmlite import ir
from numba import types
from numba.core.targetconfig import ConfigStack
from numba.extending import intrinsic

from .formats import FORMATS, arithmetic
from .registry import RULES, prepare

I64 = ir.IntType(64)
NEXT, FINISHED, BATCH = 0, 8, 16  # words of the `work` array; 64 bytes apart, so that no two share a cache line
WORK_WORDS = 24


def slots(formats):
    """The formats of a literal's slots."""
    return [FORMATS[name.rstrip("*")] for name in formats.split()]


def computed_in(formats):
    """The float type of a literal's arithmetic: that of the parameters, slot 1."""
    return arithmetic(slots(formats)[1]).value


def _literal(*arguments):
    """The values of literal arguments, or None where one is not literal yet: Numba then calls again with literals."""
    if all(isinstance(a, types.StringLiteral) for a in arguments):
        return [a.literal_value for a in arguments]
    return None


def _call(context, builder, function, signature, args):
    """Call an ordinary Python function of scalars, inlined. Unlike context.compile_internal, division does not branch
    to raise ZeroDivisionError: that branch keeps LLVM from vectorising the loop."""
    flags = type(ConfigStack().top())()
    flags.error_model = "numpy"
    compiled = context.compile_subroutine(builder, function, signature, flags=flags)
    return context.call_internal(builder, compiled.fndesc, signature, args)


def _words(context, builder, array_type, array, index, width, count):
    """The first `count` words of row `index` of a C-contiguous 2-d array whose rows hold `width` words."""
    data = context.make_array(array_type)(context, builder, array).data
    base = builder.gep(data, [builder.mul(index, width)])
    return [builder.load(builder.gep(base, [ir.Constant(I64, k)])) for k in range(count)]


def _row_width(context, builder, array_type, array):
    return builder.extract_value(context.make_array(array_type)(context, builder, array).shape, 1)


def _pointer(context, builder, format, row, k, i):
    address = builder.inttoptr(builder.extract_value(row, k), context.get_data_type(format.stored).as_pointer())
    return builder.gep(address, [i])


@intrinsic
def addresses(typing, formats, table, t):
    """Row t of the table: one address per slot."""
    literal = _literal(formats)
    if literal is None:
        return None
    result = types.UniTuple(types.int64, len(slots(literal[0])))

    def emit(context, builder, signature, args):
        width = _row_width(context, builder, signature.args[1], args[1])
        words = _words(context, builder, signature.args[1], args[1], args[2], width, len(result))
        return context.make_tuple(builder, result, words)
    return result(formats, table, t), emit


@intrinsic
def coefficients(typing, rule, coefs, group):
    """Row `group` of the coefficients, as the rule's named tuple."""
    literal = _literal(rule)
    if literal is None:
        return None
    named = RULES[literal[0]].Coefficients
    result = types.NamedUniTuple(coefs.dtype, len(named._fields), named)

    def emit(context, builder, signature, args):
        width = ir.Constant(I64, len(result))
        return context.make_tuple(builder, result, _words(context, builder, signature.args[1], args[1], args[2], width, len(result)))
    return result(rule, coefs, group), emit


@intrinsic
def load(typing, formats, row, i):
    """Element i of every slot, decoded."""
    literal = _literal(formats)
    if literal is None:
        return None
    value, formats_ = computed_in(literal[0]), slots(literal[0])
    result = types.UniTuple(value, len(formats_))

    def emit(context, builder, signature, args):
        values = []
        for k, f in enumerate(formats_):
            stored = builder.load(_pointer(context, builder, f, args[1], k, args[2]), align=f.itemsize)
            decoded = _call(context, builder, f.decode, f.value(f.stored), [stored])
            values.append(context.cast(builder, decoded, f.value, value))
        return context.make_tuple(builder, result, values)
    return result(formats, row, i), emit


@intrinsic
def store(typing, formats, row, i, new):
    """Encode the new values into slots 1, 2, ...: as many as there are."""
    literal = _literal(formats)
    if literal is None:
        return None
    formats_ = slots(literal[0])

    def emit(context, builder, signature, args):
        new_type = signature.args[3]
        for k in range(len(new_type)):
            f = formats_[k + 1]
            value = context.cast(builder, builder.extract_value(args[3], k), new_type[k], f.value)
            stored = _call(context, builder, f.encode, f.stored(f.value), [value])
            builder.store(stored, _pointer(context, builder, f, args[1], k + 1, args[2]), align=f.itemsize)
        return context.get_dummy_value()
    return types.void(formats, row, i, new), emit


@intrinsic
def update(typing, rule, c, values):
    """The rule on one element: (gradient, parameter, *state) -> (parameter, *state)."""
    literal = _literal(rule)
    if literal is None:
        return None
    function = RULES[literal[0]]
    result = types.UniTuple(values.dtype, function.writes)
    scalars = [values.dtype]*len(values)

    def emit(context, builder, signature, args):
        g, p, *state = [builder.extract_value(args[2], k) for k in range(len(values))]
        prepared = _call(context, builder, prepare, types.UniTuple(values.dtype, 2)(c, *scalars[:2]), [args[1], g, p])
        g, p = builder.extract_value(prepared, 0), builder.extract_value(prepared, 1)
        return _call(context, builder, function.body, result(c, *scalars), [args[1], g, p, *state])
    return result(rule, c, values), emit


@intrinsic
def claim(typing, work, count):
    """Take the next `count` tiles: their first index. Every tile is taken once, whoever calls and however often."""
    def emit(context, builder, signature, args):
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        return builder.atomic_rmw("add", builder.gep(data, [ir.Constant(I64, NEXT)]), args[1], "monotonic")
    return types.int64(work, types.int64), emit


@intrinsic
def finish(typing, work, count):
    """Say that `count` claimed tiles are done; what they wrote is visible to whoever reads the sum."""
    def emit(context, builder, signature, args):
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        builder.atomic_rmw("add", builder.gep(data, [ir.Constant(I64, FINISHED)]), args[1], "release")
        return context.get_dummy_value()
    return types.void(work, types.int64), emit
