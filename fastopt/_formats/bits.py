"""Numbers in which formats are computed. Each formula is written once: NumPy's numbers go in, or LLVM's values.

``U16``, ``U32``, ... convert a number, as np.uint16, np.uint32, ... do. Given an `Emitted` value, they and all
operators emit LLVM's instructions, for any target. An operator takes two numbers of one type. Arithmetic gives that
type, a comparison a truth value. A whole number of Python's takes the type of what stands beside it.
"""
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from llvmlite import ir

INTEGER = {"+": "add", "-": "sub", "*": "mul", "&": "and_", "|": "or_", "^": "xor", "<<": "shl"}
FLOATING = {"+": "fadd", "-": "fsub", "*": "fmul"}


class Kind:
    """A type of numbers. Calling it converts to it; where LLVM's values are meant, between whole numbers only."""

    def __init__(self, dtype: Any):
        self.dtype = np.dtype(dtype)
        self.bits, self.signed, self.floating = 8*self.dtype.itemsize, self.dtype.kind == "i", self.dtype.kind == "f"
        self.whole = self.dtype.kind in "iu"
        self.llvm = ((ir.FloatType() if self.bits == 32 else ir.DoubleType()) if self.floating
                     else ir.IntType(1 if self.dtype.kind == "b" else self.bits))

    def __call__(self, x: Any) -> Any:
        if not isinstance(x, Emitted):
            return self.dtype.type(x)
        if not (x.kind.whole and self.whole):
            raise TypeError(f"formula: {x.kind.dtype} to {self.dtype}, but whole numbers are needed. Use as_bits.")
        if x.kind.bits == self.bits:
            return Emitted(x.builder, x.value, self)
        change = "trunc" if self.bits < x.kind.bits else "sext" if x.kind.signed else "zext"
        return Emitted(x.builder, getattr(x.builder, change)(x.value, as_wide(self.llvm, x.value)), self)


U8, U16, U32, U64 = map(Kind, (np.uint8, np.uint16, np.uint32, np.uint64))
I8, I16, I32, I64 = map(Kind, (np.int8, np.int16, np.int32, np.int64))
F32, F64, BOOL = Kind(np.float32), Kind(np.float64), Kind(np.bool_)
KINDS = {kind.dtype: kind for kind in (U8, U16, U32, U64, I8, I16, I32, I64, F32, F64, BOOL)}


def as_wide(kind: Any, value: Any) -> Any:
    """A type of LLVM's numbers; of a vector of as many, where the value is a vector."""
    return ir.VectorType(kind, value.type.count) if isinstance(value.type, ir.VectorType) else kind


class Emitted:
    """A value of LLVM's, a number or a vector of them, and its kind."""

    __array_ufunc__ = None  # NumPy's numbers leave their operators to this class
    __hash__ = None         # type: ignore[assignment]

    def __init__(self, builder: Any, value: Any, kind: Kind):
        self.builder, self.value, self.kind = builder, value, kind

    def _value(self, other: Any) -> Any:
        return _emitted(self, other, self.kind).value

    def _operation(self, sign: str, x: Any, y: Any) -> "Emitted":
        name = FLOATING[sign] if self.kind.floating else INTEGER.get(sign, "ashr" if self.kind.signed else "lshr")
        return Emitted(self.builder, getattr(self.builder, name)(x, y), self.kind)

    def _comparison(self, sign: str, other: Any) -> "Emitted":
        b, kind = self.builder, self.kind
        compare = ((b.fcmp_unordered if sign == "!=" else b.fcmp_ordered) if kind.floating
                   else b.icmp_signed if kind.signed else b.icmp_unsigned)
        return Emitted(b, compare(sign, self.value, self._value(other)), BOOL)


def _emitted(beside: Emitted, x: Any, needed: Kind | None = None) -> Emitted:
    """A value, or a number of NumPy's as one, a vector where the value beside it is; of the kind that is needed."""
    if not isinstance(x, Emitted):
        kind = (needed or beside.kind) if type(x) is int else KINDS[np.asarray(x).dtype]
        of, number = as_wide(kind.llvm, beside.value), kind.dtype.type(x).item()
        x = Emitted(beside.builder, ir.Constant(of, number if of is kind.llvm else [number]*of.count), kind)
    if needed and x.kind is not needed:
        raise TypeError(f"formula: {x.kind.dtype} beside {needed.dtype}, but one type is needed. Convert one of them.")
    return x


def _define(name: str, sign: str) -> None:
    setattr(Emitted, f"__{name}__", lambda x, y: x._operation(sign, x.value, x._value(y)))
    setattr(Emitted, f"__r{name}__", lambda x, y: x._operation(sign, x._value(y), x.value))


for _name, _sign in (("add", "+"), ("sub", "-"), ("mul", "*"), ("and", "&"), ("or", "|"), ("xor", "^"),
                     ("lshift", "<<"), ("rshift", ">>")):
    _define(_name, _sign)
for _name, _sign in (("lt", "<"), ("le", "<="), ("gt", ">"), ("ge", ">="), ("eq", "=="), ("ne", "!=")):
    setattr(Emitted, f"__{_name}__", lambda x, y, sign=_sign: x._comparison(sign, y))


def where(condition: Any, x: Any, y: Any) -> Any:
    """x where the condition holds, else y."""
    if not isinstance(condition, Emitted):
        return np.where(condition, x, y)
    x = _emitted(condition, x, kind_of(y if type(x) is int else x))
    return Emitted(x.builder, x.builder.select(condition.value, x.value, x._value(y)), x.kind)


def kind_of(x: Any) -> Kind:
    """The type of a number."""
    return x.kind if isinstance(x, Emitted) else KINDS[np.asarray(x).dtype]


def signed(x: Any) -> Any:
    """A whole number of the same bits that may be negative."""
    return KINDS[np.dtype(f"i{kind_of(x).bits//8}")](x)


def unsigned(x: Any) -> Any:
    """A whole number of the same bits that is not negative."""
    return KINDS[np.dtype(f"u{kind_of(x).bits//8}")](x)


def as_float(u: Any) -> Any:
    """The float32 of these 32 bits."""
    if isinstance(u, Emitted):
        return Emitted(u.builder, u.builder.bitcast(u.value, as_wide(F32.llvm, u.value)), F32)
    return np.asarray(u, np.uint32).view(np.float32)[()]


def as_bits(x: Any) -> Any:
    """The 32 bits of this float32."""
    if isinstance(x, Emitted):
        return Emitted(x.builder, x.builder.bitcast(x.value, as_wide(U32.llvm, x.value)), U32)
    return np.asarray(x, np.float32).view(np.uint32)[()]


def emit(builder: Any, formula: Callable[..., Any], kinds: Sequence[Any], values: Sequence[Any]) -> Any:
    """Emit a formula of values of these types of Numba's; its value, or a list of them."""
    named = [KINDS[np.dtype(str(kind))] for kind in kinds]
    found = formula(*[Emitted(builder, value, kind) for value, kind in zip(values, named, strict=True)])
    return [x.value for x in found] if isinstance(found, tuple) else found.value
