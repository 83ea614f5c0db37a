"""All storage formats: how a number is stored, and how it gets from memory into arithmetic and back.

A new format is an entry of `STORED` and the functions that it names (scalars.py, blocks.py).
"""
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types

from . import blocks, scalars
from .bits import as_wide


class Instruction(NamedTuple):
    """An instruction of CUDA devices, and of some CPUs, that gives the bits of a function."""

    emit: Callable[..., Any]         # (builder, *numbers) -> number; of vectors, too, where CPUs have it
    since: tuple[int, int] = (0, 0)  # the first compute capability that has it
    feature: str = ""                # LLVM's name of what a CPU has that has it; "": none has


class Block(NamedTuple):
    """How numbers of a block share an exponent. While that is unknown, 16 bits of each are kept, as `words`."""

    size: int
    codes: np.dtype
    words: "Format"                # of 16 bits: `word` makes what it decodes, `encode` takes what it encodes
    word: Callable[..., Any]       # (code, exponent) -> the number as bfloat16
    magnitude: Callable[..., Any]  # encoded word -> its place among magnitudes: that of all finite numbers is higher
    share: Callable[..., Any]      # the highest such place -> exponent
    encode: Callable[..., Any]     # (encoded word, exponent) -> code, in a whole number as wide as the word's


@dataclass(frozen=True, eq=False)
class Format:
    """One way to store a number: its dtype in memory, the float type of its value, and the functions between them."""

    name: str
    dtype: np.dtype
    stored: Any                        # Numba's type of what is in memory
    value: Any                         # Numba's type of the decoded number
    decode: Any
    encode: Any
    long: str = ""                     # the other name that users may say
    random: bool = False               # whether `encode` takes random bits beside the number
    split: bool = False                # whether a number is stored as two of this dtype, in two arrays
    one_way: bool = False              # whether `encode` gives another form than `decode` takes
    block: Block | None = None         # how blocks of numbers share an exponent
    dtypes: tuple[str, ...] = ()       # the dtypes of arrays that mean this format
    decoding: Instruction | None = None
    encoding: Instruction | None = None
    device_pair: Instruction | None = None  # of two numbers: 32 bits, the first number in the lower half

    @property
    def itemsize(self) -> int:
        """Bytes of a number in one array."""
        return self.dtype.itemsize

    @property
    def columns(self) -> int:
        """The arrays that hold a number: addresses in a table."""
        return 2 if self.split or self.block else 1

    @property
    def parts(self) -> int:
        """The arrays that hold an entry for each number."""
        return 2 if self.split else 1

    @property
    def bytes(self) -> float:
        """Bytes of a number in all of its arrays."""
        return self.itemsize*self.parts + (1/self.block.size if self.block else 0)


FLOAT16, FLOAT32, BITS16, BITS32 = ir.HalfType(), ir.FloatType(), ir.IntType(16), ir.IntType(32)


def _rounding(instruction: str, count: int) -> Instruction:
    """An instruction that rounds one float32 number to 16 bits, or two to 32."""
    result, code = ((BITS16, "=h,f") if count == 1 else (BITS32, "=r,f,f"))
    operands = ", ".join(f"${k}" for k in range(count + 1))
    assembly = ir.InlineAsm(ir.FunctionType(result, [FLOAT32]*count), f"{instruction} {operands};", code)
    return Instruction(lambda builder, *numbers: builder.call(assembly, numbers[::-1]), (8, 0))


def _float(name: str, dtype: Any, kind: Any) -> Format:
    return Format(name, np.dtype(dtype), kind, kind, scalars.unchanged, scalars.unchanged, np.dtype(dtype).name,
                  dtypes=(np.dtype(dtype).name,))


F64 = _float("f64", np.float64, types.float64)
F32 = _float("f32", np.float32, types.float32)
F16 = Format("f16", np.dtype(np.float16), types.uint16, types.float32, scalars.decode_f16, scalars.encode_f16,
             "float16", dtypes=("float16",),
             decoding=Instruction(lambda builder, x: builder.fpext(
                 builder.bitcast(x, as_wide(FLOAT16, x)), as_wide(FLOAT32, x)), feature="f16c"),
             encoding=Instruction(lambda builder, x: builder.bitcast(
                 builder.fptrunc(x, as_wide(FLOAT16, x)), as_wide(BITS16, x)), feature="f16c"),
             device_pair=_rounding("cvt.rn.f16x2.f32", 2))
BF16 = Format("bf16", np.dtype(np.uint16), types.uint16, types.float32, scalars.decode_bf16, scalars.encode_bf16,
              "bfloat16", dtypes=("bfloat16", "uint16"),
              encoding=_rounding("cvt.rn.bf16.f32", 1), device_pair=_rounding("cvt.rn.bf16x2.f32", 2))
F16S, BF16S = (replace(of, name=f"{of.name}s", encode=encode, long=f"{of.long}_stochastic", random=True, dtypes=(),
                       encoding=None, device_pair=None)
               for of, encode in ((F16, scalars.encode_f16_stochastic), (BF16, scalars.encode_bf16_stochastic)))
SPLIT = Format("split", np.dtype(np.uint16), types.uint16, types.float32, scalars.decode_split, scalars.encode_split,
               "bfloat16_remainder", split=True)


def _blocks(name: str, stored: Any, random: bool, decode: Any, encode: Any, *functions: Any) -> Format:
    words = replace(BF16, name=f"{name} words", encode=encode, random=random, one_way=True, long="", dtypes=(),
                    encoding=None, device_pair=None)
    return Format(name, np.dtype(np.uint8), stored, types.float32, decode, None, random=random,
                  block=Block(blocks.SIZE, np.dtype(stored.name), words, *functions))


Q43 = _blocks("q43", types.int8, False, blocks.decode_q43, blocks.round_q43, blocks.word_q43, blocks.magnitude_q43,
              blocks.share_q43, blocks.encode_q43)
Q44 = _blocks("q44", types.uint8, True, blocks.decode_q44, blocks.round_q44, blocks.word_q44, blocks.magnitude_q44,
              blocks.share_q44, blocks.encode_q44)

STORED = {f.name: f for f in (F64, F32, F16, BF16, F16S, BF16S, SPLIT, Q43, Q44)}  # all in which kernels store numbers
FORMATS = {f.name: f for f in STORED.values() if f.dtypes}                         # those that an array's dtype tells
BY_DTYPE = {name: f for f in FORMATS.values() for name in f.dtypes}
_OF_STATES = [f for f in STORED.values() if f is not SPLIT]
NAMES = {**{f.long: f for f in _OF_STATES if f.long}, **{f.name: f for f in _OF_STATES}}  # what states may be stored as
SHARING = "q8"  # and this: q43, or q44 where a state is never negative
# Of parameters, by format and rounding
ROUNDED = {("f16", "stochastic"): F16S, ("bf16", "stochastic"): BF16S, ("bf16", "remainder"): SPLIT}
MASK = Format("mask", np.dtype(np.uint8), types.uint8, types.boolean, scalars.is_set, None)  # 0 keeps an element


def arithmetic(format: Format) -> Format:
    """The format in which parameters of this format are computed: float64 for float64, else float32."""
    return F64 if format is F64 else F32
