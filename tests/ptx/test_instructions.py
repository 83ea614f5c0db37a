"""What instructions mean, where NumPy does not have it in a function of its own: against Python's integers and floats,
exact fractions, and the library of bfloat16. Kernels use no others (`ptx.instructions`)."""
import math
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from conftest import assert_identical, assert_same_bits, bits, nasty

from . import Kernel, Memory, PTXError, Run
from .snippets import UNSIGNED, computed, launch, module, own

DTYPE = {"f16": np.dtype(np.float16), "bf16": np.dtype(ml_dtypes.bfloat16), "f32": np.dtype(np.float32),
         "f64": np.dtype(np.float64)}
DIGITS = {"f16": 11, "bf16": 8}
TO_WORD = "selp.b32 %x, 1, 0, %p0;"


def crossed(*columns):
    return [x.ravel() for x in np.meshgrid(*columns, indexing="ij")]


def edges(type):
    dtype = np.dtype({"u": "uint", "s": "int", "b": "uint"}[type[0]] + type[1:])
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    return np.unique(np.array([0, 1, 2, 3, 31, 100, high//3, high//2, high - 1, high, low, low + 1], dtype))


def expect(code, out, reference, *inputs):
    """The code computes this function of Python's integers, modulo the width of its result."""
    want = [reference(*map(int, row)) % 2**(8*out) for row in zip(*inputs, strict=True)]
    assert_identical(computed(code, out, *inputs), np.array(want, UNSIGNED[out]), code)


# Integers

def quotient(x, y):
    return abs(x)//abs(y)*(-1 if (x < 0) != (y < 0) else 1)


@pytest.mark.parametrize("type", ["u16", "s16", "u32", "s32", "u64", "s64"])
def test_integers(type):
    """Sums, products, quotients toward zero, and shifts by more than the width."""
    width, size = int(type[1:]), int(type[1:])//8
    x, y = crossed(edges(type), edges(type))
    for op, reference in (("sub", lambda x, y: x - y), ("mul.lo", lambda x, y: x*y), ("min", min), ("max", max)):
        expect(f"{op}.{type} %x, %a, %b;", size, reference, x, y)
    expect(f"mad.lo.{type} %x, %a, %b, %c;", size, lambda x, y, z: x*y + z, x, y, x[::-1])
    if width > 16:
        u, v = x[y != 0], y[y != 0]
        expect(f"div.{type} %x, %a, %b;", size, quotient, u, v)
        expect(f"rem.{type} %x, %a, %b;", size, lambda x, y: x - quotient(x, y)*y, u, v)
    if width < 64:
        expect(f"mul.wide.{type} %x, %a, %b;", 2*size, lambda x, y: x*y, x, y)
    for name, compare in (("lt", lambda x, y: x < y), ("ge", lambda x, y: x >= y), ("ne", lambda x, y: x != y)):
        expect(f"setp.{name}.{type} %p0, %a, %b; {TO_WORD}", 4, compare, x, y)
    x, n = crossed(edges(type), np.array([0, 1, 15, 16, 31, 32, 33, 63, 64, 65, 2**31, 2**32 - 1], np.uint32))
    expect(f"shl.b{width} %x, %a, %b;", size, lambda x, n: x << min(n, 64), x, n)
    expect(f"shr.{type} %x, %a, %b;", size, lambda x, n: x >> n, x, n)


def test_bits_and_bytes():
    a, b = crossed(edges("u32"), edges("u32"))
    for selector in (0x0654, 0x1054, 0x3210, 0x7654):
        expect(f"prmt.b32 %x, %a, %b, {selector};", 4, lambda a, b, s=selector: int.from_bytes(bytes(
            (b << 32 | a).to_bytes(8, "little")[s >> 4*k & 7] for k in range(4)), "little"), a, b)
    for start, length in ((0, 32), (8, 8), (24, 8), (3, 1)):
        expect(f"bfe.s32 %x, %a, {start}, {length};", 4,
               lambda a, b, s=start, n=length: (a >> s & 2**n - 1) - (a >> s + n - 1 & 1) * 2**n, a, b)
    for code, out, reference in (
            ("mov.b64 %x, {%a, %b};", 8, lambda a, b: b << 32 | a),
            ("mov.b64 %d9, {%a, %b}; mov.b64 {_, %x}, %d9;", 4, lambda a, b: b),
            ("mov.b32 {%h0, %h1}, %a; mov.b32 %x, {%h1, %h0};", 4, lambda a, b: a << 16 | a >> 16),
            ("cvt.u64.u32 %d8, %a; cvt.u64.u32 %d9, %b; bfi.b64 %x, %d9, %d8, 32, 32;", 8, lambda a, b: b << 32 | a),
            ("cvt.u64.u32 %x, %a;", 8, lambda a, b: a), ("cvt.s64.s32 %x, %a;", 8, lambda a, b: a - (a >> 31 << 32)),
            ("cvt.u16.u32 %x, %a;", 2, lambda a, b: a), ("cvt.s8.s32 %x, %a;", 2, lambda a, b: (a + 128) % 256 - 128),
            ("not.b32 %x, %a;", 4, lambda a, b: ~a)):
        expect(code, out, reference, a, b)
    expect("""mov.pred %p1, 0; setp.lt.u32 %p0, %a, %b; not.pred %p0, %p0; or.pred %p0, %p0, %p1;
        selp.u32 %x, 5, 6, %p0;""", 4, lambda a, b: 6 if a < b else 5, a, b)
    for code, want in (("b32 %x, 0f3FC00000", np.float32(1.5)), ("b64 %x, 0dBFF8000000000000", np.float64(-1.5)),
                       ("u32 %x, -7", np.int32(-7))):
        assert computed(f"mov.{code};", want.itemsize, a[:1]).view(want.dtype) == want


# Floats

def values(words, name):
    return [float(x) for x in words.view(DTYPE[name])]


@pytest.mark.parametrize("name", ["f16", "f32", "f64"])
def test_float_comparisons(name):
    some = bits(np.array([math.nan, -math.inf, -1.5, -0.0, 0.0, 6e-8, 1.5, math.inf], DTYPE[name]))
    x, y = crossed(some, some)
    pairs = list(zip(values(x, name), values(y, name), strict=True))
    unordered = [math.isnan(u) or math.isnan(v) for u, v in pairs]
    cases = {"nan": unordered, "num": [not n for n in unordered]}
    for op, f in (("eq", lambda u, v: u == v), ("ne", lambda u, v: u != v), ("lt", lambda u, v: u < v),
                  ("le", lambda u, v: u <= v), ("gt", lambda u, v: u > v), ("ge", lambda u, v: u >= v)):
        cases[op] = [f(u, v) and not n for (u, v), n in zip(pairs, unordered, strict=True)]
        cases[f"{op}u"] = [f(u, v) or n for (u, v), n in zip(pairs, unordered, strict=True)]
    for op, want in cases.items():
        assert computed(f"setp.{op}.{name} %p0, %a, %b; {TO_WORD}", 4, x, y).tolist() == want, op


def test_larger_number():
    """The other one beside a NaN, +0 beside -0."""
    x, y = crossed(*[np.array([math.nan, -0.0, 0.0, 3.0, -math.inf])]*2)
    want = [v if math.isnan(u) else u if math.isnan(v) else max(u, v, key=lambda w: (w, math.copysign(1, w)))
            for u, v in zip(x.tolist(), y.tolist(), strict=True)]
    assert_same_bits(computed("max.f64 %x, %a, %b;", 8, bits(x), bits(y)).view(np.float64), np.array(want))


def test_operations_round_once():
    """Products, quotients and roots are NumPy's, a NaN the canonical one; a fused product and sum is exact before."""
    rng = np.random.default_rng(3)
    x, y = nasty(600, 1), nasty(600, 2)
    with np.errstate(all="ignore"):
        for code, want in (("mul.rn.f32 %x, %a, %b;", x*y), ("div.rn.f32 %x, %a, %b;", x/y),
                           ("sub.f32 %x, %a, %b;", x - y), ("sqrt.rn.f32 %x, %a;", np.sqrt(x)),
                           ("rcp.rn.f32 %x, %a;", 1/x)):
            want = np.where(np.isnan(want), np.uint32(0x7FFFFFFF).view(np.float32), want)
            assert_identical(computed(code, 4, bits(x), bits(y)).view(np.float32), want, code)
    u, v = (rng.normal(size=500).astype(np.float32) for _ in range(2))
    halves = (1 + 2.0**-23*rng.integers(0, 8, 500)).astype(np.float32)
    dust = (rng.choice([-1, 0, 1], 500)*2.0**-148).astype(np.float32)
    for a, b, c in ((u, v, (-u*v).astype(np.float32)), (halves, halves[::-1], dust), (u, v, dust)):
        exact = [Fraction(float(p))*Fraction(float(q)) + Fraction(float(r)) for p, q, r in zip(a, b, c, strict=True)]
        have = computed("fma.rn.f32 %x, %a, %b, %c;", 4, *map(bits, (a, b, c))).view(np.float32)
        for found, right in zip(have, exact, strict=True):
            near = [np.nextafter(found, np.float32(s*np.inf)) for s in (-1, 1)]
            assert all(abs(Fraction(float(found)) - right) <= abs(Fraction(float(other)) - right) for other in near)


@pytest.mark.parametrize("name", ["f16", "bf16"])
def test_halves(name):
    """Each has its value; float32 is rounded to nearest and even, also halfway between neighbours and beside that."""
    codes = np.arange(65536, dtype=np.uint16)
    neighbours = codes.view(DTYPE[name]).astype(np.float32)
    if name == "f16":
        assert_same_bits(computed("cvt.f32.f16 %x, %a;", 4, codes).view(np.float32), neighbours)
        one = bits(nasty(65536, 3))
        with np.errstate(all="ignore"):
            for op, want in (("add", neighbours + one.view(np.float32)), ("sub", neighbours - one.view(np.float32))):
                have = computed(f"{op}.rn.f32.f16 %x, %a, %b;", 4, codes, one)
                assert_same_bits(have.view(np.float32), want)
    with np.errstate(all="ignore"):
        middle = bits(neighbours*np.float32(1 + 2.0**-DIGITS[name]))[::7]
        words = np.concatenate([bits(nasty(3_000, 15)), middle, middle + np.uint32(1), middle - np.uint32(1)])
        want = words.view(np.float32).astype(DTYPE[name])
    want = np.where(np.isnan(want), np.uint16(0x7FFF), bits(want))
    assert_identical(computed(f"cvt.rn.{name}.f32 %x, %a;", 2, words), want)
    both = computed(f"cvt.rn.{name}x2.f32 %x, %a, %b;", 4, words, words[::-1].copy())
    assert_identical(both, want.astype(np.uint32) << np.uint32(16) | want[::-1])  # the first goes to the upper half


def test_signs_and_wide_floats():
    x = nasty(300, 5)
    wide = nasty(300, 6, np.float64)
    assert_identical(computed("neg.f32 %x, %a;", 4, bits(x)), bits(x) ^ np.uint32(2**31))
    assert_identical(computed("abs.f64 %x, %a;", 8, bits(wide)), bits(wide) & np.uint64(2**63 - 1))
    with np.errstate(all="ignore"):
        assert_same_bits(computed("cvt.f64.f32 %x, %a;", 8, bits(x)).view(np.float64), x.astype(np.float64))
        assert_same_bits(computed("cvt.rn.f32.f64 %x, %a;", 4, bits(wide)).view(np.float32), wide.astype(np.float32))


# Memory

SIZES = {"b8": 1, "u16": 2, "b32": 4, "f32": 4, "b64": 8, "f64": 8}


@pytest.mark.parametrize("space", ["global", "shared"])
def test_loads_and_stores(space):
    """A vector travels through the state space and back, its parts in reverse."""
    for (type, size), count in ((t, n) for t in SIZES.items() for n in (1, 2, 4, 8)):
        total = size*count
        if total > (32 if space == "global" else 16) or (count == 8 and size != 4):
            continue
        vector, kind = f".v{count}" if count > 1 else "", {1: "%h", 2: "%h", 4: "%r", 8: "%d"}[size]
        names = [f"{kind}{k + 2}" for k in range(count)]
        there, back = (f"{{{', '.join(x)}}}" if count > 1 else x[0] for x in (names, names[::-1]))
        body = f"""{own('%d20', total, base='%d0')} {own('%d21', total, base='%d1')}
            ld.global{vector}.{type} {there}, [%d20];"""
        if space == "shared":
            body += f"""mov.u64 %d22, buffer; {own('%d22', total, of='%r29')}
                st.shared{vector}.{type} [%d22], {there}; ld.shared{vector}.{type} {there}, [%d22+0];"""
        x = np.random.default_rng(18).integers(0, 256, (96, count, size)).astype(np.uint8)
        y = np.zeros_like(x)
        launch(f"{body} st.global{vector}.{type} [%d21], {back};", x, y, grid=3, cc=100 if total > 16 else 90,
               stats=True, declarations=f".shared .align 16 .b8 buffer[{32*total}];")
        assert np.array_equal(y, x[:, ::-1]), (type, count)


def test_a_signed_byte_fills_its_register_with_its_sign():
    x, y = np.arange(256, dtype=np.uint8), np.zeros(256, np.uint16)
    launch(f"{own('%d20', 1, base='%d0')} {own('%d21', 2, base='%d1')} ld.global.s8 %h2, [%d20]; "
           "st.global.b16 [%d21], %h2;", x, y, grid=8)
    assert np.array_equal(y.view(np.int16), x.view(np.int8))


def test_one_access_may_touch_many_buffers():
    """A table of pointers, as for a step on many tensors; buffers of odd sizes, an address in the middle of one."""
    rng, memory = np.random.default_rng(19), Memory()
    arrays = [rng.integers(0, 2**32, n).astype(np.uint32) for n in (1, 7, 40, 3, 64)]
    before = [a.copy() for a in arrays]
    table = np.array([memory.add(a) + 4*(a.size//2) for a in arrays], np.uint64)
    code = f"""ld.param.u64 %d0, [q0]; mov.u32 %r31, %ctaid.x; mov.u32 %r29, %tid.x; {own("%d0", 8, of="%r31")}
        ld.global.u64 %d2, [%d0]; ld.global.u32 %r0, [%d2]; setp.ne.u32 %p0, %r29, 0; @%p0 bra end; not.b32 %r0, %r0;
        st.global.u32 [%d2], %r0; end:"""
    Run(Kernel(module(code, ".param .u64 q0")), 5, 8, [memory.add(table)], memory)
    for a, old in zip(arrays, before, strict=True):
        old[old.size//2] ^= 0xFFFFFFFF
        assert_identical(a, old)


def test_parameters_and_variables():
    """Parameters are aligned, variables too; what nobody wrote reads as ones, a NaN."""
    kernel = Kernel(module("""ld.param.u64 %d0, [out]; ld.param.f32 %r0, [real]; ld.param.b32 %r1, [small];
        ld.param.b64 %d2, [last]; mov.u64 %d1, second; ld.shared.b32 %r2, [first]; cvt.u32.u64 %r3, %d1;
        st.global.v4.b32 [%d0], {%r0, %r1, %r2, %r3}; st.global.b64 [%d0+16], %d2;""",
                           ".param .u64 out, .param .f32 real, .param .u32 small, .param .u64 last",
                           ".shared .b8 before; .shared .align 4 .b8 first[6]; .shared .align 8 .f64 second;"))
    assert [p.offset for p in kernel.params] == [0, 8, 12, 16]
    memory, out = Memory(), np.zeros(6, np.uint32)
    args = [memory.add(out), np.float32(1.5), np.int32(-5), b"\1" + bytes(7)]
    Run(kernel, 1, 1, args, memory)
    assert out.tolist() == [0x3FC00000, 2**32 - 5, 2**32 - 1, 16, 1, 0]
    for wrong, message in ((args[:3], "4 parameters, but 3"), ([*args[:3], np.float32(1)], "8 bytes, but its")):
        with pytest.raises(PTXError, match=message):
            Run(kernel, 1, 1, wrong, memory)
