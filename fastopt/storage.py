"""What parameters and states are stored as: the formats that a user asks for, and arrays of numbers in every format.

`encode`, `decode`, `split` and `join` are for arrays of any size outside of a step: checkpoints, conversions, tests.
"""
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ._checks.numbers import whole
from ._formats.blocks import NAMES, Q43, Q44, SHARING, SIZE, STORED
from ._formats.scalars import FORMATS, ROUNDED, U32, Format, arithmetic, decode_split, encode_split
from ._rule.rule import Rule

ROUNDINGS = ("nearest", "stochastic", "remainder")
HALF = U32(0x80000000)  # the random bits with which what is drawn goes to the nearest number
REMAINDER, AVERAGE = "remainder", "average"


def check_rounding(rounding: Any, where: str) -> str:
    if not isinstance(rounding, str) or rounding not in ROUNDINGS:
        raise ValueError(f"{where}: rounding is {rounding!r}, but one of {', '.join(ROUNDINGS)} is needed. Change it.")
    return rounding


def check_seed(seed: Any, where: str) -> int:
    found = whole(seed)
    if found is None or not 0 <= found < 2**63:
        raise ValueError(f"{where}: seed is {seed!r}, but a whole number from 0 to 2**63 - 1 is needed. Change it.")
    return found


def parameter_format(format: Format, rounding: str, where: str) -> Format:
    """How a parameter is stored whose array has this format; what is wider than 16 bits is as exact as its arithmetic."""
    if rounding == "nearest" or format.itemsize > 2:
        return format
    if (format.name, rounding) not in ROUNDED:
        raise TypeError(f"{where}: float16 with rounding={rounding!r}, but that is for bfloat16, the upper half of a "
                        f"float32. Take "
                        '"stochastic", or bfloat16 parameters.')
    return ROUNDED[format.name, rounding]


def state_formats(asked: Any, rule: Rule, where: str, path: str, array: Any, computed: Format) -> dict[str, Format]:
    """The formats of a tensor's states: those asked for, else that of the arithmetic. `asked` may be a function of path and array."""
    if callable(asked):
        asked = asked(path, array)
    if isinstance(asked, str):
        _check_name(asked, "".join([f"{where}: state format {asked!r}", *(f" for {name}" for name in rule.state[:1])]))
        asked = dict.fromkeys([name for name in rule.state if name != AVERAGE], asked)
    named = {} if asked is None else asked
    if not isinstance(named, Mapping):
        raise TypeError(f"{where}: state is {asked!r}, but the name of a format, a dict of them by state, or a "
                        f"function of path and array "
                        "that returns one is needed. Change state.")
    for name, format in named.items():
        if name not in rule.state:
            raise ValueError(f"{where}: state names {name!r}, but {rule.name} has {', '.join(rule.state) or 'none'}. "
                             f"Remove it.")
        _check_name(format, f"{where}: state format {format!r} for {name}")
    return {name: _named(named[name], name, rule, where) if name in named else computed for name in rule.state}


def _check_name(format: Any, found: str) -> None:
    if not isinstance(format, str) or format not in (*NAMES, SHARING):
        raise ValueError(f"{found}, but one of {', '.join((*NAMES, SHARING))} is needed. Change it.")


def _named(format: str, name: str, rule: Rule, where: str) -> Format:
    if format == SHARING:
        return Q44 if name in rule.nonnegative else Q43
    if NAMES[format] is (Q43 if name in rule.nonnegative else Q44):
        raise ValueError(f"{where}: state format {format} for {name} of {rule.name}, but q44 is for states that are "
                         f"never negative, and "
                         "q43 for others. Take q8.")
    return NAMES[format]


# Arrays

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
        if not of.block:
            found = of.encode(values, bits) if of.random else of.encode(values)
            return np.asarray(found).view(of.dtype).reshape(values.shape)
        return _encode_blocks(values, of, bits)


def _encode_blocks(values: np.ndarray, of: Format, bits: np.ndarray | np.generic) -> np.ndarray:
    block, n = of.block, values.size
    count = -(-n//SIZE)

    def rows(x):
        flat = np.zeros(count*SIZE, x.dtype)
        flat[:n] = x.reshape(-1)
        return flat.reshape(count, SIZE)
    drawn = np.broadcast_to(np.asarray(bits, np.uint32), values.shape)
    t = block.round(rows(values), rows(np.ascontiguousarray(drawn)))
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
        Needed for blocks, whose array does not tell.

    Raises
    ------
    ValueError
        Where a coded array does not have the bytes that this shape takes.
    """
    of, array = _chosen(format, "decode"), np.asarray(array)
    plain = [of.dtype] if of.block or of.value.name == of.stored.name else [of.dtype, np.dtype(np.uint16)]
    if array.dtype not in plain and array.dtype.name != of.long:
        raise ValueError(f"decode: {of.name} of dtype {array.dtype}, but {plain[-1]} is needed. Give the array that "
                         f"encode returned.")
    if not of.block:
        stored = array if of.value.name == of.stored.name else of.decode(np.ascontiguousarray(array).view(np.uint16))
        return np.array(stored, of.value.name).reshape(array.shape if shape is None else tuple(shape))
    if shape is None:
        raise ValueError(f"decode: {of.name} without a shape, but its bytes do not tell it. Give shape=.")
    n = int(np.prod(shape))
    if array.dtype != np.uint8 or array.shape != (coded_bytes(n),):
        raise ValueError(f"decode: {of.name} of shape {array.shape} and dtype {array.dtype}, but {coded_bytes(n)} "
                         f"bytes of uint8 are "
                         f"needed for {n} numbers. Give the array that encode returned.")
    count = -(-n//SIZE)
    codes = array[:count*SIZE].view(of.block.codes).reshape(count, SIZE)
    with np.errstate(all="ignore"):
        return of.decode(codes, array[count*SIZE:, None]).reshape(-1)[:n].reshape(tuple(shape))


def split(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Float32 numbers as bfloat16 (cut off towards zero; bits as uint16) and the rest: `join` returns every bit."""
    return encode_split(np.asarray(x).astype(np.float32))


def join(high: np.ndarray, low: np.ndarray) -> np.ndarray:
    """The float32 numbers of which `split` made these."""
    return np.asarray(decode_split(np.asarray(high).view(np.uint16), np.asarray(low)))


def table(rule: Rule, mixes: Mapping[str, tuple[str, str, str | None]]) -> dict[str, tuple[float, float]]:
    """{name: (bytes of parameter and state, bytes that a step moves)} per element, for (gradient, parameter, state) formats of a rule."""
    found = {}
    for name, (g, p, asked) in mixes.items():
        of = state_formats(asked, rule, "table", "", None, arithmetic(STORED[p])).values()
        kept = STORED[p].bytes + sum(f.bytes for f in of)
        found[name] = kept, FORMATS[g].bytes + 2*kept
    return found


Asked = str | Mapping[str, str] | Callable[[str, Any], Any] | None
