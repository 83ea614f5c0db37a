"""Arithmetic, comparison and selection."""
import inspect

import numpy as np

from .floats import decode, flush, fma, maximum, minimum
from .forms import instruction
from .values import PREDICATE, PTXError

SIGNS = "s16|s32|s64"
INTEGERS = f"u16|u32|u64|{SIGNS}"
WORDS = f"b16|b32|b64|{INTEGERS}"
HALVES = "f16|f16x2|bf16|bf16x2"
COMPARE = {"eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater,
           "ge": np.greater_equal}
UNSIGNED_COMPARE = {"lo": "lt", "ls": "le", "hi": "gt", "hs": "ge"}
JOIN = {None: lambda a, b: a, "and": np.logical_and, "or": np.logical_or, "xor": np.logical_xor}
BINARY = {"add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "min": np.minimum, "max": np.maximum}
UNARY = {"sqrt": np.sqrt, "rcp": np.reciprocal, "rsqrt": lambda x: 1/np.sqrt(x), "ex2": np.exp2, "lg2": np.log2,
         "sin": np.sin, "cos": np.cos, "tanh": np.tanh, "neg": np.negative, "abs": np.abs}


def compute(function, *patterns, words=False, result=None, approximate=False):
    """Register: d = function(form, operands), of their numbers, or of their words. The result is of the instruction's
    type if no other is named. Subnormal numbers are flushed where the instruction says so."""
    count = len(inspect.signature(function).parameters)

    def meaning(run, form, d, *operands):
        type = form.type
        if words:
            return run.write(d, function(form, *(run.words(x, type) for x in operands)), result or type)
        numbers, ftz = [run.read(x, type) for x in operands], type.name == "f32" and getattr(form, "ftz", False)
        if type.kind == "f" and type.bits//type.lanes == 16:
            numbers = [x.astype(np.float64) for x in numbers]  # wide enough that rounding twice does no harm
        value = function(form, *(map(flush, numbers) if ftz else numbers))
        return run.put(d, flush(value) if ftz else value, type)
    for pattern in patterns:
        instruction(pattern, approximate=approximate, operands=range(count, count + 1))(meaning)


compute(lambda form, a, b: BINARY[form.opcode](a, b), f"add|sub|min|max type={INTEGERS}", "add|sub|mul ?rn ?ftz "
                                                                                          "type=f32",
        f"add|sub|mul ?rn type=f64|{HALVES}", "div rn ?ftz type=f32", "div rn type=f64")
compute(lambda form, a: UNARY[form.opcode](a), f"neg|abs type={SIGNS}", "sqrt|rcp rn ?ftz type=f32",
        "sqrt|rcp rn type=f64")
compute(lambda form, a, b, c: fma(a, b, c, form.type), "fma|mad rn ?ftz type=f32", "fma|mad rn type=f64",
        f"fma rn type={HALVES}")
compute(lambda form, a: UNARY[form.opcode](a.astype(np.float64)).astype(a.dtype),
        "sqrt|rcp|rsqrt|ex2|lg2|sin|cos approx ?ftz type=f32", "rcp|rsqrt approx ftz type=f64", "tanh approx type=f32",
        approximate=True)
compute(lambda form, a, b: a/b, "div mode=approx|full ?ftz type=f32", approximate=True)


@instruction("add|sub ?rn to=f32 type=f16|bf16")
def mixed_operation(run, form, d, a, c):
    run.put(d, BINARY[form.opcode](run.read(a, form.type), run.read(c, form.to)), form.to)


@instruction("fma rn to=f32 type=f16|bf16")
def mixed_fused(run, form, d, a, b, c):
    run.put(d, fma(run.read(a, form.type), run.read(b, form.type), run.read(c, form.to), form.to), form.to)


@instruction(f"mul part=lo|hi|wide type={INTEGERS}")
def multiply(run, form, d, a, b):
    run.put(d, *_product(run, form, a, b))


@instruction(f"mad part=lo|hi|wide type={INTEGERS}")
def multiply_add(run, form, d, a, b, c):
    product, type = _product(run, form, a, b)
    run.put(d, product + run.read(c, type), type)


def _product(run, form, a, b):
    """The asked part of an integer product and its type."""
    type, x, y = form.type, run.read(a, form.type), run.read(b, form.type)
    if form.part == "lo":
        return x*y, type
    if type.bits < 64:
        wide = type.doubled()
        product = x.astype(wide.number)*y.astype(wide.number)
        if form.part == "wide":
            return product, wide
        return (product >> wide.number.type(type.bits)).astype(type.number), type
    if form.part == "wide":
        raise PTXError("a product of 128 bits")
    high = _high_half(x.view(np.uint64), y.view(np.uint64))
    if type.kind == "s":  # a negative factor counts 2**64 too much in the unsigned product
        high = high - np.where(x < 0, y, 0).view(np.uint64) - np.where(y < 0, x, 0).view(np.uint64)
    return high.view(type.number), type


def _high_half(x, y):
    """The upper 64 bits of unsigned products, from products of halves."""
    half, lower = np.uint64(32), np.uint64(2**32 - 1)
    x1, x0, y1, y0 = x >> half, x & lower, y >> half, y & lower
    middle = x1*y0 + (x0*y0 >> half)
    return x1*y1 + (middle >> half) + ((middle & lower) + x0*y1 >> half)


@instruction(f"div|rem type={INTEGERS}")
def quotient(run, form, d, a, b):
    """Toward zero, as in C; a GPU does not define what division by zero gives."""
    x, y = run.read(a, form.type), run.read(b, form.type)
    if (run.executing() & (y == 0)).any():
        raise PTXError("division by zero")
    y = np.where(y == 0, y.dtype.type(1), y)
    rest = np.fmod(x, y)
    run.put(d, rest if form.opcode == "rem" else (x - rest)//y, form.type)


EXTREMA = {"min": minimum, "max": maximum}
compute(lambda form, a, b: EXTREMA[form.opcode](a, b, getattr(form, "NaN", False)), "min|max ?ftz ?NaN type=f32",
        "min|max type=f64", f"min|max ?NaN type={HALVES}")
compute(lambda form, a, b, c: EXTREMA[form.opcode](EXTREMA[form.opcode](a, b, form.NaN), c, form.NaN),
        "min|max ?ftz ?NaN type=f32")


@instruction("neg|abs ?ftz type=f32")
@instruction(f"neg|abs type=f64|{HALVES}")
def float_sign(run, form, d, a):
    """On the bits: a NaN keeps its payload (a GPU leaves that open)."""
    words = run.words(a, form.type)
    if getattr(form, "ftz", False):
        words = flush(decode(words, form.type)).view(form.type.word)
    sign = words.dtype.type(sum(1 << form.type.bits*(lane + 1)//form.type.lanes - 1 for lane in range(form.type.lanes)))
    run.write(d, words ^ sign if form.opcode == "neg" else words & ~sign, form.type)


def _copied_sign(form, a, b):
    """The sign of a on the value of b: the other way round than in C."""
    sign = form.type.word.type(1 << form.type.bits - 1)
    return (a & sign) | (b & ~sign)


compute(_copied_sign, "copysign type=f32|f64", words=True)


@instruction("testp property=finite|infinite|number|notanumber|normal|subnormal type=f32|f64")
def test_property(run, form, d, a):
    x = run.read(a, form.type)
    tiny = (np.abs(x) < np.finfo(x.dtype).smallest_normal) & (x != 0)
    result = {"finite": np.isfinite, "infinite": np.isinf, "number": lambda x: ~np.isnan(x), "notanumber": np.isnan,
              "normal": lambda x: np.isfinite(x) & ~tiny, "subnormal": lambda x: tiny}[form.property](x)
    run.write(d, result, PREDICATE)


@instruction("setp compare=eq|ne ?join=and|or|xor type=b16|b32|b64")
@instruction("setp compare=eq|ne|lt|le|gt|ge ?join=and|or|xor type=s16|s32|s64")
@instruction("setp compare=eq|ne|lt|le|gt|ge|lo|ls|hi|hs ?join=and|or|xor type=u16|u32|u64")
@instruction("setp compare=eq|ne|lt|le|gt|ge|equ|neu|ltu|leu|gtu|geu|num|nan ?join=and|or|xor ?ftz type=f32")
@instruction("setp compare=eq|ne|lt|le|gt|ge|equ|neu|ltu|leu|gtu|geu|num|nan ?join=and|or|xor type=f64|f16|bf16")
def set_predicate(run, form, d, a, b, c=None):
    if (c is None) != (form.join is None):
        raise PTXError("a third source goes with .and, .or, .xor")
    x, y = run.read(a, form.type), run.read(b, form.type)
    if getattr(form, "ftz", False):
        x, y = flush(x), flush(y)
    result = _compared(x, y, form.compare, form.type.kind == "f")
    both = getattr(d, "first", d), getattr(d, "second", None)
    third = run.words(c, PREDICATE) if c is not None else None
    for register, value in zip(both, (result, ~result), strict=True):
        if register is not None:
            run.write(register, JOIN[form.join](value, third), PREDICATE)


def _compared(x, y, compare, float_):
    if not float_:
        return COMPARE[UNSIGNED_COMPARE.get(compare, compare)](x, y)
    nan = np.isnan(x) | np.isnan(y)
    if compare in ("num", "nan"):
        return nan if compare == "nan" else ~nan
    result = COMPARE[compare[:2]](x, y)
    return result | nan if len(compare) == 3 else result & ~nan


@instruction(f"selp type={WORDS}|f32|f64")
def select(run, form, d, a, b, c):
    run.write(d, np.where(run.words(c, PREDICATE), run.words(a, form.type), run.words(b, form.type)), form.type)


@instruction(f"slct type={WORDS}|f32|f64 by=s32")
@instruction(f"slct ?ftz type={WORDS}|f32|f64 by=f32")
def select_by_sign(run, form, d, a, b, c):
    by = run.read(c, form.by)
    by = flush(by) if getattr(form, "ftz", False) else by
    run.write(d, np.where(by >= 0, run.words(a, form.type), run.words(b, form.type)), form.type)

