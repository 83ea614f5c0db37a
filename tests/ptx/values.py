"""The types of PTX and how NumPy holds them: a register is an array of unsigned words (or bools), one for each thread.
An array of shape (1,) stands for the same value in all threads. Arrays in registers are never changed in place."""
import numpy as np

UNSIGNED = {8: np.dtype(np.uint8), 16: np.dtype(np.uint16), 32: np.dtype(np.uint32), 64: np.dtype(np.uint64)}
SIGNED = {8: np.dtype(np.int8), 16: np.dtype(np.int16), 32: np.dtype(np.int32), 64: np.dtype(np.int64)}
FLOAT = {32: np.dtype(np.float32), 64: np.dtype(np.float64)}


class PTXError(Exception):
    """A kernel that the interpreter does not understand, or that does what a correct kernel never does."""


class Type:
    """A fundamental type: ``kind`` is b (bits), u, s, f or p (predicate), ``bits`` the width of its registers. ``word``
    is the register's dtype, ``number`` its values': float32 for 16-bit floats, two lanes in f16x2 and bf16x2."""

    def __init__(self, name, kind, bits, lanes=1):
        self.name, self.kind, self.bits, self.lanes, self.bytes = name, kind, bits, lanes, bits//8
        self.word = np.dtype(np.bool_) if kind == "p" else UNSIGNED[bits]
        number = {"s": SIGNED, "f": FLOAT}.get(kind, {}).get(bits//lanes, self.word)
        self.number = FLOAT[32] if kind == "f" and number is self.word else number

    @property
    def lane(self):
        """The type of one of the two numbers in f16x2 and bf16x2; other types are their own lane."""
        return TYPES[self.name.removesuffix("x2")]

    def doubled(self):
        """The integer type of the same kind and twice the width, for .wide."""
        return TYPES[f"{self.kind}{2*self.bits}"]


TYPES = {f"{kind}{bits}": Type(f"{kind}{bits}", kind, bits) for kind in "bus" for bits in UNSIGNED}
TYPES |= {name: Type(name, "f", bits) for name, bits in (("f16", 16), ("bf16", 16), ("f32", 32), ("f64", 64))}
TYPES |= {name: Type(name, "f", 32, lanes=2) for name in ("f16x2", "bf16x2")}
TYPES["pred"] = Type("pred", "p", 1)
PREDICATE, B16, B32, U32, B64, U64 = (TYPES[name] for name in ("pred", "b16", "b32", "u32", "b64", "u64"))


def low_bits(count, word):
    """Words whose lowest `count` bits are set; `count` may be 0 or all of them."""
    bits = 8*word.itemsize
    count = np.asarray(count).astype(word)
    ones = word.type(2**bits - 1)
    return np.where(count >= bits, ones, (word.type(1) << np.minimum(count, word.type(bits - 1))) - word.type(1))
