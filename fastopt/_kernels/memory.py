"""Memory as kernels see it: a job's words, rows of addresses, claimed tiles, strided gradients.

Written once, as LLVM instructions for any Numba target. Kernels of the CPU take one
argument, the address of a *job*: int64 words that say where its tables lie. ``formats`` is a literal such as
``"bf16 f32 f32 f32"``, the format of each slot; slot 0 is the gradient. Behind its format a ``*`` says that it is
strided, a ``!`` that the step sets it to zero (else it is read-only). ``rule`` is the literal digest of a registered
rule.

    table[tensor]  the addresses of each slot (one, or two where a format has two arrays), the tensor's number among all
    of the optimizer's,
                   then (strided gradients) the number of dimensions, the extents, the strides in bytes
    tiles[k]       tensor, group, first element, one past the last
    coefs[group]   the coefficients, in the float type of the arithmetic
"""
import math

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.targetconfig import ConfigStack
from numba.extending import intrinsic, register_jitable

from .._formats.catalogue import STORED
from .._formats.random_bits import key
from .._formats.catalogue import arithmetic
from .._rule.rule import RULES

I8, I16, I32, I64 = ir.IntType(8), ir.IntType(16), ir.IntType(32), ir.IntType(64)
GLOBAL = 1                                                  # the address space of a CUDA device's memory
NEXT = 0                                                    # the only word that kernels write, alone in its cache line
COUNT, BATCH, TABLE, WIDTH, TILES, COEFS, OUT, SEED, STEPS, FACTOR = range(8, 18)
JOB_WORDS = 24
WORD, TILE_WORDS = 8, 4
BEYOND = {4: 2.0**128 - 2.0**103, 8: math.inf}  # {bytes of the arithmetic: from where on numbers become infinite in it}
STRIDED_TILE = 4096                                         # elements of a strided gradient that are gathered on the stack at a time
SHRUNK = 2.0**-600  # the squares of float64 numbers times this add up to a finite number, however many there are
LANES = 64  # partial sums of the norm: one chain of additions would wait 4 cycles for each element


def slots(formats):
    """The formats of a literal's slots."""
    return [STORED[name.rstrip("*!")] for name in formats.split()]


def columns(formats):
    """Where in a row the addresses of each slot begin, and how many there are of all."""
    starts = [0]
    for format in slots(formats):
        starts.append(starts[-1] + format.columns)
    return starts[:-1], starts[-1]


def computed_in(formats):
    """The format of a literal's arithmetic: that of the parameters, slot 1."""
    return arithmetic(slots(formats)[1])


def values_of(formats):
    """The float types that the numbers of each slot are decoded to: that of the arithmetic, or a wider one for a wider
    gradient.

    Such a gradient is scaled in its own type, and converted after that.
    """
    value, gradient = computed_in(formats).value, slots(formats)[0].value
    return [max(value, gradient, key=lambda kind: kind.bitwidth), *[value]*(len(slots(formats)) - 1)]


def is_wide(formats):
    """Whether the gradient's numbers are wider than the arithmetic."""
    return values_of(formats)[0] != values_of(formats)[1]


def layout_word(formats):
    """Where in a row of the table the layout of a strided gradient begins: behind the addresses and the tensor's number."""
    return columns(formats)[1] + 1


def is_strided(formats):
    """Whether the gradient is strided: its layout follows the addresses in the table."""
    return "*" in formats.split()[0]


def is_zeroed(formats):
    """Whether the step sets the gradient to zero."""
    return "!" in formats.split()[0]


def is_random(formats):
    """Whether a slot is rounded by chance."""
    return any(f.random for f in slots(formats)[1:])


def norm_formats(formats):
    """Those that the sums of squares depend on: gradient and parameter, or all where the layout of a strided gradient follows them."""
    return formats.replace("!", "") if is_strided(formats) else " ".join(formats.replace("!", "").split()[:2])


def coefficients_type(rule, formats):
    """The type of a rule's coefficients, by its digest: its named tuple, in the float type of the arithmetic; `scale` in the gradient's."""
    named, (scale, value, *_) = RULES[rule].Coefficients, values_of(formats)
    return types.BaseTuple.from_types([scale, *[value]*(len(named._fields) - 1)], named)


def literals(*arguments):
    """The values of literal strings and ints, or None where one is not literal yet: Numba then asks again with literals."""
    if all(isinstance(a, (types.StringLiteral, types.IntegerLiteral)) for a in arguments):
        return [a.literal_value for a in arguments]
    return None


def on_device(builder):
    """Whether this is code for a CUDA device: its memory is an address space of its own, and it converts formats by instructions."""
    return builder.module.triple.startswith("nvptx")


def call(context, builder, function, signature, args):
    """Call an ordinary Python function of scalars, inlined. Unlike context.compile_internal, a division does not branch
    to raise ZeroDivisionError: that branch keeps LLVM from vectorising the loop."""
    flags = type(ConfigStack().top())()
    flags.error_model = "numpy"
    compiled = context.compile_subroutine(builder, function, signature, flags=flags)
    return context.call_internal(builder, compiled.fndesc, signature, args)


def pointer(builder, address, llvm_type, index=None):
    start = builder.inttoptr(address, llvm_type.as_pointer(GLOBAL if on_device(builder) else 0))
    return start if index is None else builder.gep(start, [index])


def word_pointer(builder, address, k):
    """Where word k of the words at an address lies."""
    return pointer(builder, address, I64, k)


def _words(builder, address, count):
    return [builder.load(word_pointer(builder, address, ir.Constant(I64, k))) for k in range(count)]


@intrinsic
def word(typing, address, k):
    """Word k of the words at an address."""
    def emit(context, builder, signature, args):
        return builder.load(word_pointer(builder, args[0], args[1]))
    return types.int64(types.int64, types.int64), emit


@intrinsic
def addresses(typing, formats, table_row):
    """The addresses of all slots, from a row of the table."""
    literal = literals(formats)
    if literal is None:
        return None
    result = types.UniTuple(types.int64, columns(literal[0])[1])

    def emit(context, builder, signature, args):
        return context.make_tuple(builder, result, _words(builder, args[1], len(result)))
    return result(formats, types.int64), emit


@intrinsic
def row_at(typing, formats, row, first):
    """The row of a tensor, moved to its element `first`, which begins a block where codes share exponents."""
    literal = literals(formats)
    if literal is None:
        return None
    of, (starts, _) = slots(literal[0]), columns(literal[0])

    def emit(context, builder, signature, args):
        moved = []
        for f, start in zip(of, starts, strict=True):
            ways = [builder.mul(args[2], ir.Constant(I64, f.itemsize))]*f.columns
            if f.block:
                ways[1] = builder.udiv(args[2], ir.Constant(I64, f.block.size))
            moved += [builder.add(builder.extract_value(args[1], start + part), way) for part, way in enumerate(ways)]
        return context.make_tuple(builder, row, moved)
    return row(formats, row, types.int64), emit


@intrinsic
def tile_key(typing, formats, table_row, seed, steps_at, more):
    """What the random bits of a tensor depend on at a step, whose number is the word at `steps_at` plus `more`; 0 where none are drawn."""
    literal = literals(formats)
    if literal is None:
        return None
    drawn, number = is_random(literal[0]), columns(literal[0])[1]

    def emit(context, builder, signature, args):
        if not drawn:
            return ir.Constant(I32, 0)
        tensor = builder.load(word_pointer(builder, args[1], ir.Constant(I64, number)))
        step = builder.add(builder.load(word_pointer(builder, args[3], ir.Constant(I64, 0))), args[4])
        return call(context, builder, key, types.uint32(types.int64, types.int64, types.int64), [args[2], step, tensor])
    return types.uint32(formats, types.int64, types.int64, types.int64, types.int64), emit


def with_sign(builder, wide, narrow):
    """A float64 number with the sign of a float32 number: by bits, as no target has an instruction that all have."""
    sign = builder.shl(builder.zext(builder.lshr(builder.bitcast(narrow, I32), ir.Constant(I32, 31)), I64),
                       ir.Constant(I64, 63))
    magnitude = builder.and_(builder.bitcast(wide, I64), ir.Constant(I64, 2**63 - 1))
    return builder.bitcast(builder.or_(magnitude, sign), ir.DoubleType())


@intrinsic
def coefficients(typing, rule, formats, coefs, group, factor_at):
    """Row `group` of the coefficients, as the rule's named tuple.

    A gradient wider than the arithmetic takes the size of its factor from the float64 number at `factor_at`, and the
    sign from the row.
    """
    literal = literals(rule, formats)
    if literal is None:
        return None
    result = coefficients_type(*literal)

    def emit(context, builder, signature, args):
        base = builder.mul(args[3], ir.Constant(I64, len(result)))
        data = pointer(builder, args[2], context.get_data_type(computed_in(literal[1]).value), base)
        values = [builder.load(builder.gep(data, [ir.Constant(I64, k)])) for k in range(len(result))]
        if is_wide(literal[1]):
            values[0] = with_sign(builder, builder.load(pointer(builder, args[4], ir.DoubleType())), values[0])
        return context.make_tuple(builder, result, values)
    return result(rule, formats, types.int64, types.int64, types.int64), emit


@intrinsic
def claim(typing, job, count):
    """Take the next `count` tiles: their first index. A tile is taken once, whoever asks and however often."""
    def emit(context, builder, signature, args):
        return builder.atomic_rmw("add", word_pointer(builder, args[0], ir.Constant(I64, NEXT)), args[1], "monotonic")
    return types.int64(types.int64, types.int64), emit


@intrinsic
def put(typing, address, i, value):
    """Write the float64 number i of those at an address."""
    def emit(context, builder, signature, args):
        builder.store(args[2], pointer(builder, args[0], ir.DoubleType(), args[1]))
        return context.get_dummy_value()
    return types.void(types.int64, types.int64, types.float64), emit


def _mover(bits):
    @intrinsic
    def move(typing, target, source):
        def emit(context, builder, signature, args):
            value = builder.load(pointer(builder, args[1], ir.IntType(bits)), align=1)
            builder.store(value, pointer(builder, args[0], ir.IntType(bits)), align=1)
            return context.get_dummy_value()
        return types.void(types.int64, types.int64), emit
    return move


move_2, move_4, move_8 = _mover(16), _mover(32), _mover(64)


def strided_offset(layout, i):
    """Where element i of a strided array lies, in bytes from its first, counted in the order of the parameter's memory."""
    ndim, rest, offset = word(layout, 0), i, 0
    for d in range(ndim, 0, -1):
        extent = word(layout, d)
        offset += rest % extent*word(layout, ndim + d)
        rest //= extent
    return offset


register_jitable(strided_offset)


def gather(source, layout, lo, hi, target, itemsize):
    """Copy elements lo..hi of a strided array to a dense target."""
    ndim = word(layout, 0)
    extent, stride = word(layout, ndim), word(layout, 2*ndim)
    i = lo
    while i < hi:
        run = min(extent - i % extent, hi - i)
        start = source + strided_offset(layout, i)
        for j in range(run):
            if itemsize == 4:
                move_4(target, start + j*stride)
            elif itemsize == 2:
                move_2(target, start + j*stride)
            else:
                move_8(target, start + j*stride)
            target += itemsize
        i += run


@intrinsic
def dense(typing, formats, row, table_row, lo, hi):
    """The row, where a strided gradient has become a dense copy of this tile on the stack; any other row as it is."""
    literal = literals(formats)
    if literal is None:
        return None
    strided, of, layout_at = is_strided(literal[0]), slots(literal[0]), layout_word(literal[0])

    def emit(context, builder, signature, args):
        if not strided:
            return args[1]
        size = ir.Constant(I64, of[0].itemsize)
        scratch = cgutils.alloca_once(builder, ir.ArrayType(I64, STRIDED_TILE*of[0].itemsize//WORD))
        target = builder.ptrtoint(scratch, I64)
        layout = builder.add(args[2], ir.Constant(I64, WORD*layout_at))
        old = cgutils.unpack_tuple(builder, args[1])
        call(context, builder, gather, types.none(*[types.int64]*6), [old[0], layout, args[3], args[4], target, size])
        return context.make_tuple(builder, row, [builder.sub(target, builder.mul(args[3], size)), *old[1:]])
    return row(formats, row, types.int64, types.int64, types.int64), emit
