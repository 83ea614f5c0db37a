"""Every instruction: arithmetic, bits, moves, conversions, memory, control, and threads that wait for each other."""
import inspect

import numpy as np

from .forms import instruction
from .memory import load, store
from .text import Pair, Register, Vector
from .values import B32, PREDICATE, TYPES, U32, U64, PTXError, encode, fma

SIGNED = "s16|s32|s64"
INTEGERS = f"u16|u32|u64|{SIGNED}"
WORDS = f"b16|b32|b64|{INTEGERS}|f32|f64"
COMPARE = {"eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater,
           "ge": np.greater_equal}
BINARY = {"add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "min": np.minimum,
          "max": np.maximum, "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor}
UNARY = {"sqrt": np.sqrt, "rcp": np.reciprocal, "neg": np.negative, "not": np.invert}


def compute(function, *patterns):
    """Register: d = function(form, operands), of numbers of the instruction's type."""
    def meaning(run, form, d, *operands):
        run.put(d, function(form, *(run.read(x, form.type) for x in operands)), form.type)
    for pattern in patterns:
        instruction(pattern, operands=len(inspect.signature(function).parameters))(meaning)


compute(lambda form, a, b: BINARY[form.opcode](a, b), f"add|sub|min|max type={INTEGERS}",
        "and|or|xor type=pred|b16|b32|b64", "add|sub|mul ?rn type=f32", "add|sub|mul rn type=f64",
        "div rn type=f32|f64")
compute(lambda form, a: UNARY[form.opcode](a), f"neg type={SIGNED}", "sqrt|rcp rn type=f32|f64",
        "not type=pred|b16|b32|b64")
compute(lambda form, a, b, c: fma(a, b, c), "fma rn type=f32")
compute(lambda form, a, b: a*b, f"mul lo type={INTEGERS}")
compute(lambda form, a, b, c: a*b + c, f"mad lo type={INTEGERS}")
# The larger number, +0 above -0, the other one beside a NaN
compute(lambda form, a, b: np.where((a > b) | ((a == b) & ~np.signbit(a)) | np.isnan(b), a, b), "max type=f64")


@instruction("add|sub rn to=f32 type=f16")
def mixed_operation(run, form, d, a, b):
    run.put(d, BINARY[form.opcode](run.read(a, form.type), run.read(b, form.to)), form.to)


@instruction("mul wide type=u16|u32|s16|s32")
def wide_product(run, form, d, a, b):
    wide = TYPES[f"{form.type.kind}{2*form.type.bits}"]
    run.put(d, run.read(a, form.type).astype(wide.number)*run.read(b, form.type).astype(wide.number), wide)


@instruction("div|rem type=u32|u64|s32|s64")
def quotient(run, form, d, a, b):
    """Toward zero, as in C; a GPU does not define what division by zero gives."""
    x, y = run.read(a, form.type), run.read(b, form.type)
    if (run.executing() & (y == 0)).any():
        raise PTXError("division by zero")
    y = np.where(y == 0, y.dtype.type(1), y)
    rest = np.fmod(x, y)
    run.put(d, rest if form.opcode == "rem" else (x - rest)//y, form.type)


@instruction("bfe type=s32")
def field(run, form, d, a, start, length):
    """Some bits, the uppermost of them as the sign; beyond the word's end is not in use."""
    x, start, length = (run.read(operand, form.type) for operand in (a, start, length))
    if ((length < 1) | (start + length > form.type.bits)).any():
        raise PTXError("bits beyond a word, or none")
    run.put(d, x << form.type.bits - length - start >> form.type.bits - length, form.type)


@instruction("neg|abs type=f32|f64")
def float_sign(run, form, d, a):
    """On the bits: a NaN keeps its payload (a GPU leaves that open)."""
    words, sign = run.words(a, form.type), form.type.word.type(1 << form.type.bits - 1)
    run.write(d, words ^ sign if form.opcode == "neg" else words & ~sign, form.type)


@instruction("setp compare=eq|ne type=b16|b32|b64")
@instruction(f"setp compare=eq|ne|lt|le|gt|ge type={INTEGERS}")
@instruction("setp compare=eq|ne|lt|le|gt|ge|equ|neu|ltu|leu|gtu|geu|num|nan type=f16|f32|f64")
def set_predicate(run, form, d, a, b):
    """With a NaN a comparison of floats is false, or true if its name ends with u."""
    x, y, compare = run.read(a, form.type), run.read(b, form.type), form.compare
    if form.type.kind == "f":
        nan = np.isnan(x) | np.isnan(y)
        found = {"nan": nan, "num": ~nan}.get(compare)
        if found is None:
            found = COMPARE[compare[:2]](x, y) & ~nan | (nan if len(compare) == 3 else False)
    else:
        found = COMPARE[compare](x, y)
    run.write(d, found, PREDICATE)


@instruction(f"selp type={WORDS}")
def select(run, form, d, a, b, c):
    run.write(d, np.where(run.words(c, PREDICATE), run.words(a, form.type), run.words(b, form.type)), form.type)


# Bits

def _shifted(words, amount, left):
    """Shifted words, zero (or the sign) where the amount is the width or more."""
    bits = 8*words.dtype.itemsize
    inside = np.minimum(amount, np.uint32(bits - 1)).astype(words.dtype)
    shifted = words << inside if left else words >> inside
    return shifted if words.dtype.kind == "i" else np.where(amount < bits, shifted, words.dtype.type(0))


@instruction("shl type=b16|b32|b64")
@instruction(f"shr type={INTEGERS}")
def shift(run, form, d, a, b):
    run.put(d, _shifted(run.read(a, form.type), run.words(b, U32), form.opcode == "shl"), form.type)


@instruction("bfi type=b64")
def insert_field(run, form, d, a, b, position, length):
    """The lowest bits of a in place of those of b; position and length are constants that fit."""
    field = np.uint64((1 << length.value) - 1 << position.value)
    inserted = run.words(a, U64) << np.uint64(position.value)
    run.write(d, (run.words(b, U64) & ~field) | (inserted & field), U64)


@instruction("prmt type=b32")
def permute_bytes(run, form, d, a, b, c):
    """Each nibble of c picks a byte of b and a (lower)."""
    source = run.words(b, B32).astype(np.uint64) << np.uint64(32) | run.words(a, B32)
    result = np.uint64(0)
    for lane in range(4):
        nibble = c.value >> 4*lane & 15
        if nibble > 7:
            raise PTXError("the sign of a byte")
        result = result | (source >> np.uint64(8*nibble) & np.uint64(255)) << np.uint64(8*lane)
    run.write(d, result.astype(np.uint32), B32)


# Moves and conversions

@instruction(f"mov type=pred|{WORDS}")
def move(run, form, d, a):
    """Also packs and unpacks two halves, the first item lowest, and takes the address of a variable."""
    vector = d if isinstance(d, Vector) else a
    if not isinstance(vector, Vector):
        return run.write(d, run.words(a, form.type), form.type)
    half, (low, high) = TYPES[f"b{form.type.bits//2}"], vector.items
    shift = form.type.word.type(half.bits)
    if vector is a:
        packed = run.words(high, half).astype(form.type.word) << shift | run.words(low, half)
        return run.write(d, packed, form.type)
    words = run.words(a, form.type)
    run.write(low, words.astype(half.word), half)
    return run.write(high, (words >> shift).astype(half.word), half)


@instruction("cvta to global type=u64")
def global_address(run, form, d, a):
    """Generic addresses of global memory are its own."""
    run.write(d, run.words(a, form.type), form.type)


@instruction("cvt to=u16|u32|u64|s64 type=u16|u32|u64|s32")
@instruction("cvt to=f32|f64 type=f16")
@instruction("cvt to=f64 type=f32")
@instruction("cvt rn to=f32 type=f64")
@instruction("cvt rn to=f16|bf16 type=f32")
def convert(run, form, d, a):
    run.put(d, run.read(a, form.type).astype(form.to.number), form.to)


@instruction("cvt to=s8 type=s32")
def convert_to_byte(run, form, d, a):
    """A register has 16 bits at least, which take the byte's sign."""
    run.put(d, run.read(a, form.type).astype(np.int8).astype(np.int16), TYPES["s16"])


@instruction("cvt rn to=f16x2|bf16x2 type=f32")
def convert_two(run, form, d, a, b):
    """The first source goes to the upper half."""
    of = TYPES[form.to.removesuffix("x2")]
    upper, lower = (encode(run.read(x, form.type), of).astype(np.uint32) for x in (a, b))
    run.write(d, upper << np.uint32(16) | lower, B32)


# Memory

def _items(operand):
    return operand.items if isinstance(operand, Vector) else (operand,)


def _addresses(run, address, threads):
    """What the threads address; still one if it is the same for all."""
    return run.gather(run.words(address.base, U64) + np.uint64(address.offset % 2**64), threads)


def _places(run, form, operand, address, threads):
    """Where the threads access, and how many bytes: as many as the architecture can at once."""
    count = len(_items(operand))
    size, most = count*form.type.bytes, 32 if form.space == "global" and run.kernel.target >= 100 else 16
    if count != int((form.vector or "v1")[1:]) or size > most or (count == 8 and form.type.bytes != 4):
        raise PTXError(f"an access of {count} x {form.type.bytes} bytes on sm_{run.kernel.target}")
    found = _addresses(run, address, threads)
    if form.opcode == "st":
        found = np.broadcast_to(found, threads.shape)
    return run.spaces.locate(form.space, found, threads, size, form.type.bytes), size


@instruction(f"ld space=global|shared|param ?vector=v2|v4|v8 type=b8|u8|s8|{WORDS}")
def load_words(run, form, d, address):
    """A register that is wider than the number gets zeros in front, or copies of a signed number's sign."""
    threads = run.numbers()
    places, size = _places(run, form, d, address, threads)
    run.spaces.watch(form.space, places, size, threads, stores=False)
    for item, column in zip(_items(d), load(places).T, strict=True):
        wide = TYPES[f"{form.type.kind}{item.type.bits}"] if item.type.bits > form.type.bits else form.type
        run.write(item, run.scatter(column.view(form.type.number).astype(wide.number).view(wide.word), threads), wide)


@instruction(f"st space=global|shared ?vector=v2|v4|v8 type=b8|u8|{WORDS}")
def store_words(run, form, address, source):
    """A register that is wider than the number lends its lowest bits."""
    threads = run.numbers()
    words = np.empty((threads.size, len(_items(source))), form.type.word)
    for i, item in enumerate(_items(source)):
        wider = isinstance(item, Register) and item.type.bits > form.type.bits
        words[:, i] = run.gather(run.words(item, item.type if wider else form.type), threads)
    places, size = _places(run, form, source, address, threads)
    run.spaces.watch(form.space, places, size, threads, stores=True)
    store(places, words)


@instruction("prefetch global L2")
def ask_for_line(run, form, address):
    """A GPU ignores addresses where nothing is; here they are errors. Those that are asked for are kept."""
    threads = run.numbers()
    found = np.broadcast_to(_addresses(run, address, threads), threads.shape)
    run.spaces.locate("global", found, threads, 1, 1)
    run.spaces.prefetched.append(found)


# Control, threads

@instruction("bra ?uni", leaves=True)
def branch(run, form, target):
    return run.kernel.labels[target.name]


@instruction("ret", leaves=True)
def leave(run, form):
    return len(run.kernel.blocks)


@instruction("bar sync", waits="block")
def block_barrier(run, form, barrier):
    """All threads of a block have come, or the machine would not have gone on."""
    run.spaces.clock.block[np.unique(run.threads.block[run.executing()])] = run.spaces.clock.tick()


@instruction("bar warp sync", waits="warp")
def warp_barrier(run, form, members):
    _check(run, members, 2**32 - 1, "a part of a warp")
    run.spaces.clock.warp[np.unique(run.threads.warp[run.executing()])] = run.spaces.clock.tick()


@instruction("shfl sync mode=down|bfly|idx type=b32", waits="warp")
def shuffle(run, form, d, a, b, c, members):
    """The value of a in another lane; one that does not execute it gives an undefined value, here all bits."""
    _check(run, members, 2**32 - 1, "a part of a warp")
    _check(run, c, 31, "a shuffle within a part of a warp")
    threads, values, by = run.threads, run.each(run.words(a, B32)), run.words(b, B32).astype(np.int64) & 31
    source = {"down": threads.lane + by, "bfly": threads.lane ^ by, "idx": by}[form.mode]
    inside = source < 32
    source = np.where(inside, source, threads.lane)
    thread = np.minimum(threads.numbers - threads.lane + source, threads.threads - 1)
    there = (threads.warp[thread] == threads.warp) & (threads.lane[thread] == source)
    defined = there & run.executing()[thread]
    register, predicate = d if isinstance(d, Pair) else (d, None)
    run.write(register, np.where(defined, values[thread], np.uint32(2**32 - 1)), B32)
    if predicate is not None:
        run.write(predicate, inside, PREDICATE)


@instruction("redux sync op=max type=u32", waits="warp")
def reduce(run, form, d, a, members):
    """The largest of a warp's numbers, in all of its lanes."""
    _check(run, members, 2**32 - 1, "a part of a warp")
    values, executing, warp = run.each(run.words(a, B32)), run.executing(), run.threads.warp
    top = np.zeros(warp.max() + 1, np.uint32)
    np.maximum.at(top, warp[executing], values[executing])
    run.write(d, top[warp], B32)


def _check(run, operand, only, message):
    """The operand has this value in all threads that execute the instruction."""
    if (run.each(run.words(operand, B32))[run.executing()] != only).any():
        raise PTXError(message)
