"""Arrays of numbers in every storage format, outside of a step: for checkpoints, conversions, tests."""
from collections.abc import Mapping, Sequence

import numpy as np

from ._formats.bits import U32
from ._formats.blocks import SIZE
from ._formats.catalogue import FORMATS, NAMES, STORED, Block, Format, arithmetic
from ._formats.choice import state_formats
from ._formats.scalars import decode_split, encode_split
from ._rule.rule import Rule

__all__ = ["decode", "encode", "join", "split", "table"]

HALF = U32(0x80000000)  # the random bits with which a number goes to the nearest code


def coded_bytes(n: int) -> int:
    """The bytes of n numbers in blocks: a code for each place, an exponent for each block."""
    return -(-n//SIZE)*(SIZE + 1)


def _chosen(format: str | Format, where: str) -> Format:
    if isinstance(format, Format):
        return format
    if format not in NAMES:
        raise ValueError(f"{where}: format {format!r}, but one of {', '.join(NAMES)} is needed. Change it.")
    return NAMES[format]


def encode(x: np.ndarray, format: str | Format, bits: np.ndarray | np.generic = HALF) -> np.ndarray:
    """Numbers in a storage format.

    Parameters
    ----------
    x : array
        Any shape.
    format : str
        "float64", "float32", "float16", "bfloat16" or "f64", "f32", "f16", "bf16"; "bf16s", "f16s" (stochastic); "q43",
        "q44" (blocks).
    bits : array of uint32, optional
        For stochastic formats, the random bits of each element; without them numbers go to the nearest code.

    Returns
    -------
    array
        Of the format's dtype (bfloat16: its bits as uint16) and the shape of `x`; blocks: one row of bytes, the 128
        codes of each block then the exponents. Blocks run through `x` in C order.
    """
    of = _chosen(format, "encode")
    values = np.asarray(x)
    with np.errstate(all="ignore"):
        if of.value.name == of.stored.name:
            return values.astype(of.dtype)
        values = values.astype(np.float32)
        if of.block:
            return _encode_blocks(values, of.block, bits)
        found = of.encode(values, bits) if of.random else of.encode(values)
        return np.asarray(found).view(of.dtype).reshape(values.shape)


def _encode_blocks(values: np.ndarray, block: Block, bits: np.ndarray | np.generic) -> np.ndarray:
    n = values.size
    count = -(-n//SIZE)

    def rows(x):
        flat = np.zeros(count*SIZE, x.dtype)
        flat[:n] = x.reshape(-1)
        return flat.reshape(count, SIZE)
    drawn = np.broadcast_to(np.asarray(bits, np.uint32), values.shape)
    t = block.words.encode(rows(values), *([rows(np.ascontiguousarray(drawn))] if block.words.random else []))
    exponents = block.share(block.magnitude(t).max(axis=1, initial=0))
    codes = block.encode(t, exponents[:, None])
    return np.concatenate([codes.reshape(-1), exponents]).astype(np.uint8)


def decode(array: np.ndarray, format: str | Format, shape: Sequence[int] | None = None) -> np.ndarray:
    """The numbers of an array in a storage format: float32, or float64 for float64.

    Parameters
    ----------
    array : array
        What `encode` returned.
    format : str
        Its format.
    shape : sequence of int, optional
        Needed for blocks only: their array does not tell it.

    Raises
    ------
    ValueError
        Where a coded array does not have the bytes that this shape takes.
    """
    of, array = _chosen(format, "decode"), np.asarray(array)
    plain = [of.dtype] if of.block or of.value.name == of.stored.name else [of.dtype, np.dtype(np.uint16)]
    if array.dtype not in plain and array.dtype.name != of.long:
        raise ValueError(f"decode: {of.name} of dtype {array.dtype}, but {plain[-1]} is needed. Give the array that "
                         "encode returned.")
    if not of.block:
        stored = array if of.value.name == of.stored.name else of.decode(np.ascontiguousarray(array).view(np.uint16))
        return np.array(stored, of.value.name).reshape(array.shape if shape is None else tuple(shape))
    if shape is None:
        raise ValueError(f"decode: {of.name} without a shape, but its bytes do not tell it. Give shape=.")
    n = int(np.prod(shape))
    if array.dtype != np.uint8 or array.shape != (coded_bytes(n),):
        raise ValueError(f"decode: {of.name} of shape {array.shape} and dtype {array.dtype}, but {coded_bytes(n)} "
                         f"bytes of uint8 are needed for {n} numbers. Give the array that encode returned.")
    count = -(-n//SIZE)
    codes = array[:count*SIZE].view(of.block.codes).reshape(count, SIZE)
    with np.errstate(all="ignore"):
        return of.decode(codes, array[count*SIZE:, None]).reshape(-1)[:n].reshape(tuple(shape))


def split(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Float32 numbers as bfloat16, and the rest. `join` puts both together again, bit for bit.

    The bfloat16 are cut off towards zero; they and the rest are bits, as uint16.
    """
    return encode_split(np.asarray(x).astype(np.float32))


def join(high: np.ndarray, low: np.ndarray) -> np.ndarray:
    """The float32 numbers that `split` took apart."""
    return np.asarray(decode_split(np.asarray(high).view(np.uint16), np.asarray(low)))


def table(rule: Rule, mixes: Mapping[str, tuple[str, str, str | None]]) -> dict[str, tuple[float, float]]:
    """{name: (bytes of parameter and state, bytes that a step moves)}, each for one element.

    `mixes` is {name: (format of the gradient, of the parameter, of the state)}; the last may be None, for the default.
    """
    found = {}
    for name, (g, p, asked) in mixes.items():
        of = state_formats(asked, rule, "table", "", None, arithmetic(STORED[p])).values()
        kept = STORED[p].bytes + sum(f.bytes for f in of)
        found[name] = kept, FORMATS[g].bytes + 2*kept
    return found
