"""Instructions on bits: logic, shifts, bit fields, bytes, counting."""
import numpy as np

from .arithmetic import INTEGERS, compute
from .forms import instruction
from .values import B32, B64, U32, low_bits

LOGIC = {"and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor}


compute(lambda form, a, b: LOGIC[form.opcode](a, b), "and|or|xor type=pred|b16|b32|b64", words=True)
compute(lambda form, a: ~a, "not type=pred|b16|b32|b64", words=True)
compute(lambda form, a: np.bitwise_count(a).astype(np.uint32), "popc type=b32|b64", words=True, result=U32)


def _shifted(words, amount, left):
    """Shifted words, zero (or the sign) where the amount is the width or more."""
    bits = 8*words.dtype.itemsize
    inside = np.minimum(amount, np.uint32(bits - 1)).astype(words.dtype)
    shifted = words << inside if left else words >> inside
    return shifted if words.dtype.kind == "i" else np.where(amount < bits, shifted, words.dtype.type(0))


@instruction("shl type=b16|b32|b64")
def shift_left(run, form, d, a, b):
    run.write(d, _shifted(run.words(a, form.type), run.words(b, U32), left=True), form.type)


@instruction(f"shr type=b16|b32|b64|{INTEGERS}")
def shift_right(run, form, d, a, b):
    run.put(d, _shifted(run.read(a, form.type), run.words(b, U32), left=False), form.type)


@instruction("shf direction=l|r mode=clamp|wrap type=b32")
def funnel_shift(run, form, d, a, b, c):
    """32 bits of the 64 in b (upper) and a (lower)."""
    both = run.words(b, B32).astype(np.uint64) << np.uint64(32) | run.words(a, B32)
    amount = run.words(c, U32)
    amount = (amount & np.uint32(31) if form.mode == "wrap" else np.minimum(amount, np.uint32(32))).astype(np.uint64)
    shifted = both << amount >> np.uint64(32) if form.direction == "l" else both >> amount
    run.write(d, shifted.astype(np.uint32), B32)


def _field(run, position, length):
    """The lowest eight bits of both, as words of 32 bits."""
    return tuple(run.words(x, U32) & np.uint32(255) for x in (position, length))


@instruction("bfe type=u32|u64|s32|s64")
def extract_field(run, form, d, a, position, length):
    """Bits beyond the field or the word are zero, or the field's highest bit if signed."""
    words, bits = run.words(a, form.type), form.type.bits
    position, length = _field(run, position, length)
    kept = _shifted(low_bits(np.minimum(length, np.uint32(bits)), form.type.word), np.uint32(0), left=True)
    kept = kept & low_bits(bits - np.minimum(position, np.uint32(bits)), form.type.word)
    result = _shifted(words, position, left=False) & kept
    if form.type.kind == "s":
        top = np.minimum(position.astype(np.int64) + length - 1, bits - 1).clip(0).astype(form.type.word)
        negative = (length > 0) & ((words >> top & form.type.word.type(1)) == 1)
        result = np.where(negative, result | ~kept, result)
    run.write(d, result, form.type)


@instruction("bfi type=b32|b64")
def insert_field(run, form, d, a, b, position, length):
    position, length = _field(run, position, length)
    field = _shifted(low_bits(np.minimum(length, np.uint32(form.type.bits)), form.type.word), position, left=True)
    inserted = _shifted(run.words(a, form.type), position, left=True)
    run.write(d, (run.words(b, form.type) & ~field) | (inserted & field), form.type)


@instruction("prmt type=b32")
def permute_bytes(run, form, d, a, b, c):
    """Each nibble of c picks a byte of b and a (lower); its highest bit asks for the sign of that byte instead."""
    source = run.words(b, B32).astype(np.uint64) << np.uint64(32) | run.words(a, B32)
    selector, result = run.words(c, B32).astype(np.uint64), np.uint64(0)
    for lane in range(4):
        nibble = selector >> np.uint64(4*lane) & np.uint64(15)
        byte = source >> (nibble & np.uint64(7))*np.uint64(8) & np.uint64(255)
        sign = np.where(byte & np.uint64(128), np.uint64(255), np.uint64(0))
        result = result | np.where(nibble & np.uint64(8), sign, byte) << np.uint64(8*lane)
    run.write(d, result.astype(np.uint32), B32)


@instruction("lop3 type=b32")
def logic_of_three(run, form, d, a, b, c, table):
    """Bit 4*a + 2*b + c of the table, for each bit of a, b and c."""
    a, b, c = (run.words(x, B32) for x in (a, b, c))
    result = np.zeros(1, np.uint32)
    for index in range(8):
        if table.value >> index & 1:
            result = result | (a if index & 4 else ~a) & (b if index & 2 else ~b) & (c if index & 1 else ~c)
    run.write(d, result, B32)


def _leading_zeros(form, words):
    for shift in (1, 2, 4, 8, 16, 32)[:5 + (form.type is B64)]:  # fill all bits below the highest one
        words = words | words >> words.dtype.type(shift)
    return np.uint32(form.type.bits) - np.bitwise_count(words).astype(np.uint32)


def _reversed(form, words):
    bits = np.unpackbits(np.ascontiguousarray(words).view(np.uint8).reshape(words.size, -1), axis=1, bitorder="little")
    return np.packbits(bits[:, ::-1], axis=1, bitorder="little").view(form.type.word).reshape(-1)


compute(_leading_zeros, "clz type=b32|b64", words=True, result=U32)
compute(_reversed, "brev type=b32|b64", words=True)
