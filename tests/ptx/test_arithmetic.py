"""Arithmetic, logic, comparison and selection against Python integers, exact fractions, and the manual's loops."""
import math
import operator
from fractions import Fraction

import numpy as np
import pytest
from conftest import assert_identical, bits

from . import PTXError
from .snippets import (
    DTYPE,
    FORMAT,
    INTEGERS,
    UNSIGNED,
    assert_floats,
    coded,
    computed,
    crossed,
    divided,
    edges,
    expect_floats,
    expect_integers,
    float_words,
    numbers_of,
    of,
    rounded,
)

# Integers

def quotient(x, y):
    return abs(x)//abs(y)*(-1 if (x < 0) != (y < 0) else 1)


@pytest.mark.parametrize("type", INTEGERS)
def test_integer_arithmetic(type):
    width, wide = int(type[1:]), 2*of(type).itemsize
    x, y = crossed(edges(type), edges(type))
    z, (u, v) = x[::-1], (x[y != 0], y[y != 0])
    cases = [("add", operator.add, x, y), ("sub", operator.sub, x, y), ("mul.lo", operator.mul, x, y),
             ("mul.hi", lambda x, y: x*y >> width, x, y), ("min", min, x, y), ("max", max, x, y),
             ("mad.lo", lambda x, y, z: x*y + z, x, y, z), ("mad.hi", lambda x, y, z: (x*y >> width) + z, x, y, z),
             ("div", quotient, u, v), ("rem", lambda x, y: x - quotient(x, y)*y, u, v)]
    if type[0] == "s":
        cases += [("neg", operator.neg, x), ("abs", abs, x)]
    for op, reference, *inputs in cases:
        expect_integers(f"{op}.{type} %x, {', '.join(['%a', '%b', '%c'][:len(inputs)])};", type, reference, *inputs)
    if width < 64:
        z = np.arange(x.size).astype(UNSIGNED[wide]) << UNSIGNED[wide](9)
        expect_integers(f"mul.wide.{type} %x, %a, %b;", type, operator.mul, x, y, out=wide)
        expect_integers(f"mad.wide.{type} %x, %a, %b, %c;", type, lambda x, y, z: x*y + z, x, y, z, out=wide)


@pytest.mark.parametrize("width", [16, 32, 64])
def test_logic_and_shifts(width):
    x, y = crossed(edges(f"u{width}"), edges(f"u{width}"))
    for op in ("and", "or", "xor"):
        expect_integers(f"{op}.b{width} %x, %a, %b;", f"b{width}", getattr(operator, f"__{op}__"), x, y)
    expect_integers(f"not.b{width} %x, %a;", f"b{width}", operator.invert, x)
    x, n = crossed(edges(f"u{width}"), np.array([0, 1, 15, 16, 31, 32, 33, 63, 64, 65, 2**31, 2**32 - 1], np.uint32))
    expect_integers(f"shl.b{width} %x, %a, %b;", f"b{width}", lambda x, n: x << min(n, 64), x, n)
    for kind in "ubs":
        expect_integers(f"shr.{kind}{width} %x, %a, %b;", f"b{width}", operator.rshift, x.view(of(f"{kind}{width}")), n)


def extracted(a, pos, length, width, signed):
    """The manual's loop over bits."""
    pos, length = pos & 255, length & 255
    sign = a >> min(pos + length - 1, width - 1) & 1 if signed and length else 0
    return sum((a >> pos + i & 1 if i < length and pos + i < width else sign) << i for i in range(width))


def inserted(a, b, pos, length, width):
    for i in range(length & 255):
        if (pos & 255) + i < width:
            place = 1 << (pos & 255) + i
            b = b | place if a >> i & 1 else b & ~place
    return b


@pytest.mark.parametrize("width", [32, 64])
def test_bits(width):
    """Fields, counts, and all bits turned round."""
    dtype, places = UNSIGNED[width//8], np.array([0, 1, 7, 31, 32, 40, 63, 64, 255, 258], np.uint32)
    a, pos, length = crossed(np.array([0, 0x9ABCDEF1, 2**(width - 1) | 5, 2**width - 1], dtype), places, places)
    for kind in "us":
        expect_integers(f"bfe.{kind}{width} %x, %a, %b, %c;", f"u{width}",
                        lambda *row, k=kind: extracted(*row, width, k == "s"), a, pos, length)
    expect_integers(f"bfi.b{width} %x, %e, %a, %b, %c;", f"b{width}",
                    lambda b, pos, length, a: inserted(a, b, pos, length, width), a, pos, length, a[::-1])
    x = np.concatenate([edges(f"u{width}", 20), dtype(1) << np.arange(width).astype(dtype)])
    expect_integers(f"popc.b{width} %x, %a;", "b32", int.bit_count, x)
    expect_integers(f"clz.b{width} %x, %a;", "b32", lambda x: width - x.bit_length(), x)
    expect_integers(f"brev.b{width} %x, %a;", f"b{width}", lambda x: int(f"{x:0{width}b}"[::-1], 2), x)


def test_bytes_and_tables():
    def permuted(a, b, selector):
        source, result = (b << 32 | a).to_bytes(8, "little"), []
        for lane in range(4):
            nibble = selector >> 4*lane & 15
            byte = source[nibble & 7]
            result.append((255 if byte & 128 else 0) if nibble & 8 else byte)
        return int.from_bytes(bytes(result), "little")

    a, b, selector = crossed(np.array([0x807F01FF, 0x12345678], np.uint32), np.array([0x80C0FFEE, 0], np.uint32),
                             np.array([0x3210, 0x7654, 0x5410, 0x7632, 0xFEDC, 0xBA98, 0x0F80, 0x1234], np.uint32))
    expect_integers("prmt.b32 %x, %a, %b, %c;", "b32", permuted, a, b, selector)
    a, b, n = crossed(edges("u32", 1), edges("u32", 1), np.array([0, 1, 31, 32, 33, 63, 64, 2**32 - 1], np.uint32))
    for mode, amount in (("wrap", lambda n: n & 31), ("clamp", lambda n: min(n, 32))):
        expect_integers(f"shf.l.{mode}.b32 %x, %a, %b, %c;", "b32",
                        lambda a, b, n, f=amount: (b << 32 | a) << f(n) >> 32, a, b, n)
        expect_integers(f"shf.r.{mode}.b32 %x, %a, %b, %c;", "b32",
                        lambda a, b, n, f=amount: (b << 32 | a) >> f(n), a, b, n)
    a, b, c = crossed(*[np.array([0, 0xF0F0F0F0, 0xCCCCCCCC, 0x12345678], np.uint32)]*3)
    for table, reference in ((0x80, lambda a, b, c: a & b & c), (0x96, lambda a, b, c: a ^ b ^ c),
                             (0xCA, lambda a, b, c: a & b | ~a & c), (0x1A, lambda a, b, c: (a & b | c) ^ a)):
        expect_integers(f"lop3.b32 %x, %a, %b, %c, {table};", "b32", reference, a, b, c)


# Predicates

COMPARE = {name: getattr(operator, name) for name in ("eq", "ne", "lt", "le", "gt", "ge")}
UNSIGNED_NAMES = {"lo": "lt", "ls": "le", "hi": "gt", "hs": "ge"}
TO_WORD = "selp.b32 %x, 1, 0, %p0;"


@pytest.mark.parametrize("type", ["b16", "b32", "b64", *INTEGERS])
def test_integer_comparisons(type):
    x, y = crossed(edges(type), edges(type))
    for name in ["eq", "ne"] if type[0] == "b" else [*COMPARE, *(UNSIGNED_NAMES if type[0] == "u" else ())]:
        compare = COMPARE[UNSIGNED_NAMES.get(name, name)]
        expect_integers(f"setp.{name}.{type} %p0, %a, %b; {TO_WORD}", "b32", compare, x, y)


@pytest.mark.parametrize("name", FORMAT)
def test_float_comparisons(name):
    some = coded([math.nan, -math.inf, -1.5, -0.0, 0.0, 2.0**FORMAT[name][1], 1.5, math.inf], name)
    x, y = crossed(some, some)
    pairs = list(zip(numbers_of(x, name), numbers_of(y, name), strict=True))
    unordered = [math.isnan(u) or math.isnan(v) for u, v in pairs]
    cases = {"nan": unordered, "num": [not n for n in unordered]}
    for op, f in COMPARE.items():
        cases[op] = [f(u, v) and not n for (u, v), n in zip(pairs, unordered, strict=True)]
        cases[f"{op}u"] = [f(u, v) or n for (u, v), n in zip(pairs, unordered, strict=True)]
    for op, want in cases.items():
        assert computed(f"setp.{op}.{name} %p0, %a, %b; {TO_WORD}", 4, x, y).tolist() == want, op


def test_predicates_and_selection():
    """Joined comparisons with both destinations and a third source that may be negated; logic; choices by a sign."""
    a, b, c = crossed(*[np.array([0, 1], np.uint32)]*3)
    code = """setp.ne.u32 %p2, %c, 0; setp.lt.{join}.u32 %p0|%p1, %a, %b, {third};
        selp.b32 %r0, 1, 0, %p0; selp.b32 %x, 2, 0, %p1; or.b32 %x, %x, %r0;"""
    for join in ("and", "or", "xor"):
        f = getattr(operator, f"__{join}__")
        for third, value in (("%p2", bool), ("!%p2", operator.not_)):
            expect_integers(code.format(join=join, third=third), "b32",
                            lambda a, b, c, f=f, v=value: f(a < b, v(c)) + 2*f(a >= b, v(c)), a, b, c)
        expect_integers(f"""setp.ne.u32 %p0, %a, 0; setp.ne.u32 %p1, %b, 0; {join}.pred %p2, %p0, %p1;
            not.pred %p3, %p2; selp.u32 %x, 5, 6, %p3;""", "b32", lambda a, b, f=f: 6 if f(a, b) else 5, a, b)
    expect_integers("mov.pred %p0, 1; mov.pred %p1, 0; selp.b32 %r0, 1, 2, %p0; selp.b32 %r1, 3, 4, %p1; "
                    "add.u32 %x, %r0, %r1;", "b32", lambda a: 5, a)
    by = coded([math.nan, -1, -0.0, 0.0, 1e-45, -1e-45], "f32")
    assert computed("slct.b32.f32 %x, 1, 2, %a;", 4, by).tolist() == [2, 2, 1, 1, 1, 2]
    assert computed("slct.ftz.b32.f32 %x, 1, 2, %a;", 4, by).tolist() == [2, 2, 1, 1, 1, 1]
    assert computed("slct.f64.s32 %x, 0d0000000000000001, 0d0000000000000002, %a;", 8,
                    np.array([-1, 0, 5], np.int32)).tolist() == [2, 1, 1]


# Floats

@pytest.mark.parametrize("name", FORMAT)
def test_float_arithmetic(name):
    x, y = float_words(name, 600, 1), float_words(name, 600, 2)
    for op in ("add.rn", "sub", "mul.rn"):
        f = getattr(operator, op[:3])
        expect_floats(f"{op}.{name} %x, %a, %b;", name, f, f, x, y)
    if name in ("f32", "f64"):
        expect_floats(f"div.rn.{name} %x, %a, %b;", name, operator.truediv, divided, x, y)
        expect_floats(f"rcp.rn.{name} %x, %a;", name, lambda x: 1/x, lambda x: divided(1, x), x)
        assert_floats(f"sqrt.rn.{name} %x, %a;", name,  # rounded a second time without harm
                      [math.sqrt(v) if v >= 0 else math.nan for v in numbers_of(x, name)], x)


def hard_triples(name, n=500):
    """Random numbers, some that nearly cancel, some where half a unit in the last place decides, and the extremes."""
    rng, dtype = np.random.default_rng(3), DTYPE[name]
    x, y = (rng.normal(size=n).astype(dtype) for _ in range(2))
    with np.errstate(all="ignore"):
        near = -(x.astype(np.float64)*y.astype(np.float64)).astype(dtype)
        tiny = (x*dtype.type(2.0**(FORMAT[name][1]//2))).astype(dtype)
    one, unit = np.ones(n, dtype), 2.0**(1 - FORMAT[name][0])
    halves = (1 + unit*rng.integers(0, 8, n)).astype(dtype)
    dust = (rng.choice([-1, 0, 1], n)*2.0**(FORMAT[name][1] + 1)).astype(dtype)
    columns = [(x, y, near), (halves, (one*dtype.type(1 + unit)).astype(dtype), dust), (tiny, tiny[::-1], dust),
               (x, y, tiny), tuple(float_words(name, n, s).view(dtype) for s in (4, 5, 6))]
    return [bits(np.concatenate(column)) for column in zip(*columns, strict=True)]


@pytest.mark.parametrize("name", FORMAT)
def test_fused_multiply_add_rounds_once(name):
    words = hard_triples(name)
    for op in ("fma", "mad") if name == "f32" else ("fma",):
        expect_floats(f"{op}.rn.{name} %x, %a, %b, %c;", name, *[lambda x, y, z: x*y + z]*2, *words)


@pytest.mark.parametrize("name", ["f16", "bf16"])
def test_halves(name):
    """Two in a register; and sub.rn.f32.f16 and its like, which the code generator for sm_100 makes of a conversion."""
    words = [np.ascontiguousarray(float_words(name, 200, seed)).view(np.uint32) for seed in (7, 8, 9)]
    for code in ("add.rn.{} %x, %a, %b;", "mul.rn.{} %x, %a, %b;", "fma.rn.{} %x, %a, %b, %c;", "min.{} %x, %a, %b;",
                 "max.NaN.{} %x, %a, %b;", "neg.{} %x, %a;", "abs.{} %x, %b;"):
        one = computed(code.format(name), 2, *(w.view(np.uint16) for w in words))
        assert_identical(computed(code.format(f"{name}x2"), 4, *words).view(np.uint16), one, code)
    halves, singles = float_words(name, 300, 10), float_words("f32", 300, 11)
    single = coded(numbers_of(halves, name), "f32")
    for code in ("add.rn.f32{} %x, %a, %b;", "sub.rn.f32{} %x, %a, %b;", "fma.rn.f32{} %x, %a, %a, %b;"):
        want = computed(code.format(""), 4, single, singles)
        assert_identical(computed(code.format(f".{name}"), 4, halves, singles), want, code)


def test_subnormals_are_flushed_where_the_instruction_says_so():
    tiny, least, normal = 2.0**-149, 2.0**-127, 2.0**-126
    x, y = (coded(column, "f32")
            for column in ([tiny, -tiny, normal, -normal, 3.0, -least], [1.0, -0.0, 0.5, 0.5, tiny, 4.0]))
    wide = bits(np.array([tiny, -least, 1.0]))
    for code, want, *inputs in (
            ("mul.rn.ftz.f32 %x, %a, %b;", [0.0, 0.0, 0.0, -0.0, 0.0, -0.0], x, y),
            ("mul.rn.f32 %x, %a, %b;", [tiny, 0.0, least, -least, 3*tiny, -2.0**-125], x, y),
            ("add.ftz.f32 %x, %a, %b;", [1.0, -0.0, 0.5, 0.5, 3.0, 4.0], x, y),
            ("sqrt.rn.ftz.f32 %x, %a;", [0.0, -0.0, 2.0], coded([tiny, -tiny, 4.0], "f32")),
            ("neg.ftz.f32 %x, %a;", [-0.0, 0.0, -normal, normal, -3.0, 0.0], x),
            ("cvt.rn.ftz.f32.f64 %x, %a;", [0.0, -0.0, 1.0], wide),
            ("fma.rn.ftz.f32 %x, %a, %b, %c;", [0.0], *(coded([v], "f32") for v in (normal, 0.5, -tiny)))):
        assert_floats(code, "f32", want, *inputs)
    assert_floats("cvt.ftz.f64.f32 %x, %a;", "f64", [0.0, -0.0, 1.0], coded([tiny, -least, 1.0], "f32"))
    assert computed(f"setp.gt.ftz.f32 %p0, %a, 0f00000000; {TO_WORD}", 4, x).tolist() == [0, 0, 1, 0, 1, 0]


@pytest.mark.parametrize("name", FORMAT)
def test_minimum_and_maximum(name):
    """One NaN gives the other operand, two the canonical NaN, .NaN always that; -0 lies below +0."""
    some = [math.nan, -math.inf, -2.0, -0.0, 0.0, 2.0**FORMAT[name][1], 3.0, math.inf]
    words = coded(some, name)
    words[0] = {"f16": 0xFC01, "bf16": 0xFF81, "f32": 0xFF800001, "f64": 0xFFF0000000000001}[name]  # signalling
    x, y = crossed(words, words)
    ranks = list(np.ndindex(len(some), len(some)))  # the numbers are in order, behind the NaN
    for op, best in (("min", min), ("max", max)):
        want = [some[best((k for k in rank if k), default=0)] for rank in ranks]
        assert_floats(f"{op}.{name} %x, %a, %b;", name, want, x, y)
        if name != "f64":
            wins = [math.nan if 0 in rank else w for rank, w in zip(ranks, want, strict=True)]
            assert_floats(f"{op}.NaN.{name} %x, %a, %b;", name, wins, x, y)
    if name == "f32":
        three = [coded(column, "f32") for column in ([3, 1, math.nan, -0.0], [2, 2, 5, 0.0], [1, 3, math.nan, 0.0])]
        assert_floats("min.f32 %x, %a, %b, %c;", name, [1, 1, 5, -0.0], *three, cc=100)
        assert_floats("max.NaN.f32 %x, %a, %b, %c;", name, [3, 3, math.nan, 0.0], *three, cc=100)


@pytest.mark.parametrize("name", FORMAT)
def test_signs_and_classes(name):
    words, size = float_words(name, 200, 12), DTYPE[name].itemsize
    sign = 1 << 8*size - 1
    expect_integers(f"neg.{name} %x, %a;", "", lambda a: a ^ sign, words, out=size)
    expect_integers(f"abs.{name} %x, %a;", "", lambda a: a & ~sign, words, out=size)
    if name in ("f32", "f64"):
        expect_integers(f"copysign.{name} %x, %a, %b;", "", lambda a, b: a & sign | b & ~sign, words, words[::-1],
                        out=size)
        normal = 2.0**(FORMAT[name][1] + FORMAT[name][0] - 1)
        for op, test in (("finite", math.isfinite), ("infinite", math.isinf), ("notanumber", math.isnan),
                         ("number", lambda v: not math.isnan(v)), ("subnormal", lambda v: 0 < abs(v) < normal),
                         ("normal", lambda v: v == 0 or normal <= abs(v) < math.inf)):
            have = computed(f"testp.{op}.{name} %p0, %a; {TO_WORD}", 4, words)
            assert have.tolist() == [test(v) for v in numbers_of(words, name)], op


def test_approximate_instructions_must_be_allowed():
    x, y = np.array([0.5, 2.0, 3.25], np.float32), np.array([3.0, 7.0, 0.1], np.float32)
    for code, function in (
            ("div.full.f32 %x, %a, %b;", lambda x, y: x/y), ("div.approx.ftz.f32 %x, %a, %b;", lambda x, y: x/y),
            ("sqrt.approx.f32 %x, %a;", lambda x, y: math.sqrt(x)), ("rcp.approx.ftz.f32 %x, %a;", lambda x, y: 1/x),
            ("rsqrt.approx.f32 %x, %a;", lambda x, y: 1/math.sqrt(x)), ("ex2.approx.f32 %x, %a;", lambda x, y: 2.0**x),
            ("lg2.approx.f32 %x, %a;", lambda x, y: math.log2(x)), ("sin.approx.f32 %x, %a;", lambda x, y: math.sin(x)),
            ("cos.approx.f32 %x, %a;", lambda x, y: math.cos(x)),
            ("tanh.approx.f32 %x, %a;", lambda x, y: math.tanh(x))):
        with pytest.raises(PTXError, match=f"approximate, in: {code[:8]}"):
            computed(code, 4, bits(x), bits(y))
        want = [rounded(Fraction(function(float(u), float(v))), "f32") for u, v in zip(x, y, strict=True)]
        assert_floats(code, "f32", want, bits(x), bits(y), approximate=True)
