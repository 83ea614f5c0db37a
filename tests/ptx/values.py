"""The types of PTX and how NumPy holds them: a register is an array of unsigned words (or bools), one for each thread.
An array of shape (1,) stands for the same value in all threads. Arrays in registers are never changed in place."""
import numpy as np

UNSIGNED = {8: np.dtype(np.uint8), 16: np.dtype(np.uint16), 32: np.dtype(np.uint32), 64: np.dtype(np.uint64)}
SIGNED = {8: np.dtype(np.int8), 16: np.dtype(np.int16), 32: np.dtype(np.int32), 64: np.dtype(np.int64)}
FLOAT = {16: np.dtype(np.float32), 32: np.dtype(np.float32), 64: np.dtype(np.float64)}  # decoded
NAN = {"f16": 0x7FFF, "bf16": 0x7FFF, "f32": 0x7FFFFFFF}


class PTXError(Exception):
    """A kernel that the interpreter does not understand, or that does what a correct kernel never does."""


class Type:
    """A fundamental type: ``kind`` is b (bits), u, s, f or p (predicate), ``bits`` the width of its registers. ``word``
    is the register's dtype, ``number`` that of its values: float32 for 16-bit floats."""

    def __init__(self, name, kind, bits):
        self.name, self.kind, self.bits, self.bytes = name, kind, bits, bits//8
        self.word = np.dtype(np.bool_) if kind == "p" else UNSIGNED[bits]
        self.number = {"s": SIGNED, "f": FLOAT}.get(kind, {}).get(bits, self.word)


TYPES = {f"{kind}{bits}": Type(f"{kind}{bits}", kind, bits) for kind in "bus" for bits in UNSIGNED}
TYPES |= {name: Type(name, "f", bits) for name, bits in (("f16", 16), ("bf16", 16), ("f32", 32), ("f64", 64))}
TYPES["pred"] = Type("pred", "p", 1)
PREDICATE, B32, U32, U64 = (TYPES[name] for name in ("pred", "b32", "u32", "u64"))


def decode(words, type):
    """The numbers that words of this type hold."""
    if type.name == "f16":
        return words.view(np.float16).astype(np.float32)
    if type.name == "bf16":
        return (words.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return words.view(type.number)


def encode(numbers, type):
    """Words of this type for numbers: integers as they are, floats rounded once, to nearest and even. A NaN becomes the
    canonical one of its format, but in f64 NumPy's."""
    if type.kind != "f":
        return numbers.view(type.word)
    if type.name == "bf16":
        words = numbers.view(np.uint32)
        half = np.uint32(0x7FFF) + (words >> np.uint32(16) & np.uint32(1))
        words = ((words + half) >> np.uint32(16)).astype(np.uint16)
    else:
        words = numbers.astype(np.float16 if type.name == "f16" else type.number, copy=False).view(type.word)
    return np.where(np.isnan(numbers), type.word.type(NAN[type.name]), words) if type.name in NAN else words


def fma(a, b, c):
    """a*b + c of float32 numbers, rounded once: the exact product's sum is rounded to odd in float64 first."""
    a, b, c = (x.astype(np.float64) for x in (a, b, c))
    a, total = a*b, a*b + c
    part = total - a
    error = (a - (total - part)) + (c - part)  # Knuth's exact error of the sum
    words = total.view(np.int64)
    inexact = (error != 0) & np.isfinite(total) & np.isfinite(error) & ((words & 1) == 0)
    step = np.where((error > 0) == (total > 0), 1, -1)
    return np.where(inexact, words + step, words).view(np.float64).astype(np.float32)
