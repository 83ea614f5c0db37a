"""Conversions, moves, and all ways to memory: mov, cvt, ld, st, atom, red, parameters and variables."""
import math
import operator
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from conftest import assert_identical, assert_same_bits, bits, nasty

from . import Kernel, Memory, PTXError, Run
from .snippets import (
    DTYPE,
    FORMAT,
    INDEX,
    INTEGERS,
    UNSIGNED,
    assert_floats,
    coded,
    computed,
    crossed,
    edges,
    expect_integers,
    float_words,
    launch,
    module,
    numbers_of,
    of,
    rounded,
    wrapped,
)

# Conversions

INTEGER_TYPES = ["u8", "s8", *INTEGERS]
ROUND = {"rni": round, "rzi": math.trunc, "rmi": math.floor, "rpi": math.ceil}


def limits(type):
    return np.iinfo(of(type)).min, np.iinfo(of(type)).max


@pytest.mark.parametrize("source", INTEGER_TYPES)
def test_integers_to_integers(source):
    x = edges(source)
    for target in INTEGER_TYPES:
        size = max(of(target).itemsize, 2)  # the sign, or zeros, in front of 8 bits
        expect_integers(f"cvt.{target}.{source} %x, %a;", "", lambda x, t=target: int(np.array(x).astype(of(t))), x,
                        out=size)
        low, high = limits(target)
        expect_integers(f"cvt.sat.{target}.{source} %x, %a;", "", lambda x, low=low, high=high: min(max(x, low), high),
                        x, out=size)
    wide = computed(f"cvt.s64.{source} %x, %a; cvt.{source}.{source} %x, %a;", 8,
                    x)  # a destination wider than the type
    assert_identical(wide, wrapped(x, 8))
    assert_identical(computed(f"cvt.u16.{source} %x, %a;", 2, edges("u64")),
                     wrapped(edges("u64").astype(of(source)), 2))


@pytest.mark.parametrize("name", FORMAT)
def test_floats_to_integers(name):
    """Clamped; NaN is zero, but only the highest bit is set where one type has 64 bits."""
    words = coded([0.0, -0.0, 0.5, -0.5, 1.5, 2.5, -2.5, 0.49, 127.5, 128, 255.5, -129, 32767.5, 65504, 2.0**31 - 0.5,
                   2.0**31, -2.0**31, 2.0**32, 2.0**62, 2.0**63, -2.0**63, 2.0**64, 1e30, -1e30, math.inf, -math.inf,
                   math.nan, 1e-40], name)
    for target in INTEGER_TYPES:
        (low, high), size = limits(target), max(of(target).itemsize, 2)
        nan = 2**(8*of(target).itemsize - 1)*(-1 if target[0] == "s" else 1) if "64" in name + target else 0
        for mode, to_integer in ROUND.items():
            want = [min(max(to_integer(x), low), high) if math.isfinite(x) else nan if math.isnan(x) else high if x > 0
                    else low for x in numbers_of(words, name)]
            code = f"cvt.{mode}.{target}.{name} %x, %a;"
            assert_identical(computed(code, size, words), wrapped(want, size), code)
        if name == "f32":
            assert_identical(computed(f"cvt.rpi.ftz.{target}.f32 %x, %a;", size, coded([1e-40, 0.5], "f32")),
                             np.array([0, 1], UNSIGNED[size]))


@pytest.mark.parametrize("name", FORMAT)
def test_integers_to_floats(name):
    for source in INTEGER_TYPES:
        if "64" in source and name in ("f16", "bf16"):
            continue
        x = edges(source, 20)
        if of(source).itemsize >= 4:  # a bit above half a unit, which float32 would round away before bfloat16 sees it
            x = np.append(x, np.array([2**30 + 2**22 + 1, 2**30 + 3*2**22 - 1], x.dtype))
        assert_floats(f"cvt.rn.{name}.{source} %x, %a;", name, [rounded(Fraction(int(v)), name) for v in x], x)


@pytest.mark.parametrize(("source", "target"), [(s, t) for s in FORMAT for t in FORMAT if s != t])
def test_floats_to_floats(source, target):
    words = float_words(source, 1_000, 13)
    if source in ("f32", "f64") and target != "f64":  # halfway between neighbours, and beside it
        more = np.array(numbers_of(float_words(target, 300, 14), target), DTYPE[source])
        with np.errstate(all="ignore"):
            middle = bits((more*(1 + 2.0**-FORMAT[target][0])).astype(DTYPE[source]))
        words = np.concatenate([words, middle, middle + words.dtype.type(1), middle - words.dtype.type(1)])
    numbers = numbers_of(words, source)
    nearest = [rounded(Fraction(x), target) if math.isfinite(x) and x else x for x in numbers]
    exact = DTYPE[source].itemsize < DTYPE[target].itemsize
    assert_floats(f"cvt{'' if exact else '.rn'}.{target}.{source} %x, %a;", target, nearest, words)
    if not exact:
        nearest = coded(nearest, target)
        beyond = np.array([abs(y) > abs(x) for x, y in zip(numbers, numbers_of(nearest, target), strict=True)])
        down = computed(f"cvt.rz.{target}.{source} %x, %a;", nearest.itemsize, words)
        assert_identical(down, nearest - beyond.astype(nearest.dtype))  # the neighbour towards zero is the word below


def test_every_half_and_bfloat16_has_its_value():
    codes = np.arange(65536, dtype=np.uint16)
    for name in ("f16", "bf16"):
        assert_same_bits(computed(f"cvt.f32.{name} %x, %a;", 4, codes).view(np.float32),
                         codes.view(DTYPE[name]).astype(np.float32))
    x = nasty(20_000, 15)
    with np.errstate(all="ignore"):
        want = x.astype(ml_dtypes.bfloat16)
    assert_same_bits(computed("cvt.rn.bf16.f32 %x, %a;", 2, bits(x)).view(ml_dtypes.bfloat16).astype(np.float32),
                     want.astype(np.float32))


def test_two_conversions_at_once():
    """The first source goes to the upper half."""
    x, y = float_words("f32", 300, 16), float_words("f32", 300, 17)
    for kind in ("rn.f16", "rz.f16", "rn.bf16", "rz.bf16"):
        have = computed(f"cvt.{kind}x2.f32 %x, %a, %b;", 4, x, y)
        upper, lower = (computed(f"cvt.{kind}.f32 %x, %a;", 2, w).astype(np.uint32) for w in (x, y))
        assert_identical(have, upper << np.uint32(16) | lower)


def test_floats_rounded_to_integers_and_saturated():
    for name in ("f16", "f32", "f64"):
        words = coded([-2.5, -0.5, -0.0, 0.4, 0.5, 1.5, 1e10, math.inf, -math.inf, math.nan], name)
        some = numbers_of(words, name)
        for mode, to_integer in ROUND.items():
            want = [math.copysign(to_integer(x), x) if math.isfinite(x) else x for x in some]
            assert_floats(f"cvt.{mode}.{name}.{name} %x, %a;", name, want, words)
        assert_identical(computed(f"cvt.sat.{name}.{name} %x, %a;", words.itemsize, words),
                         coded([0, 0, 0, some[3], 0.5, 1, 1, 1, 0, 0], name))


def test_moves_pack_and_unpack():
    x, y = crossed(edges("u32"), edges("u32"))
    for code, reference, out in (
            ("mov.b64 %x, {%a, %b};", lambda x, y: y << 32 | x, 8),
            ("mov.b64 %d9, {%a, %b}; mov.b64 {_, %x}, %d9;", lambda x, y: y, 4),
            ("mov.b32 {%h0, %h1}, %a; mov.b32 %x, {%h1, %h0};", lambda x, y: x << 16 | x >> 16, 4),
            ("mov.b64 %d9, {%a, %b}; mov.b64 {%h0, %h1, %h2, %h3}, %d9; mov.b64 %x, {%h3, %h2, %h1, %h0};",
             lambda x, y: sum(((y << 32 | x) >> 48 - 16*k & 0xFFFF) << 16*k for k in range(4)), 8)):
        expect_integers(code, "", reference, x, y, out=out)
    for code, want in (("f32 %x, 0f3FC00000", np.float32(1.5)), ("b64 %x, 0dBFF8000000000000", np.float64(-1.5)),
                       ("s32 %x, -7", np.int32(-7)), ("u32 %x, 0x1fU", np.uint32(31)), ("b16 %x, 017", np.uint16(15))):
        assert computed(f"mov.{code};", want.itemsize, x[:1]).view(want.dtype) == want


# Memory

SIZES = {"b8": 1, "u16": 2, "b32": 4, "f32": 4, "b64": 8, "f64": 8}
COUNTS = [(type, count) for type, size in SIZES.items() for count in (1, 2, 4, 8)
          if size*count <= 32 and (count < 8 or size == 4)]


@pytest.mark.parametrize("space", ["global", "shared", "local", "generic"])
def test_loads_and_stores(space):
    """A vector travels through the state space and back, its parts in reverse."""
    for type, count in COUNTS:
        total = SIZES[type]*count
        if total > 16 and space != "global":
            continue  # only global memory has accesses of 32 bytes
        vector, kind = f".v{count}" if count > 1 else "", {1: "%h", 2: "%h", 4: "%r", 8: "%d"}[SIZES[type]]
        names = [f"{kind}{k + 2}" for k in range(count)]
        there, back = (f"{{{', '.join(x)}}}" if count > 1 else x[0] for x in (names, names[::-1]))
        body = [f"mad.wide.u32 %d20, %r28, {total}, %d0; mad.wide.u32 %d21, %r28, {total}, %d1;"
                f"ld.global{vector}.{type} {there}, [%d20];"]
        if space == "generic":
            body += [f"mov.u32 %r20, buffer; cvt.u64.u32 %d22, %r20; cvta.shared.u64 %d22, %d22;"
                     f"mad.wide.u32 %d22, %r29, {total}, %d22; st{vector}.{type} [%d22], {there};"
                     f"ld{vector}.{type} {there}, [%d22];"]
        elif space != "global":
            body += ["mov.u64 %d22, buffer;", f"mad.wide.u32 %d22, %r29, {total}, %d22;" if space == "shared" else "",
                     f"st.{space}{vector}.{type} [%d22], {there}; ld.{space}{vector}.{type} {there}, [%d22+0];"]
        x = np.random.default_rng(18).integers(0, 256, (96, count, SIZES[type])).astype(np.uint8)
        y = np.zeros_like(x)
        launch("\n".join([*body, f"st.global{vector}.{type} [%d21], {back};"]), x, y, grid=3,
               cc=100 if total > 16 else 90, stats=True,
               top=f".shared .align 16 .b8 buffer[{32*total}];" if space in ("shared", "generic") else "",
               registers=f".local .align 16 .b8 buffer[{total}];" if space == "local" else "")
        assert np.array_equal(y, x[:, ::-1]), (type, count)


def test_narrow_loads_extend_into_wider_registers():
    x, y = np.array([0x80, 0x7F, 0xFF, 0], np.uint8), np.zeros((2, 4), np.uint32)
    launch("""cvt.u64.u32 %d9, %r28; add.s64 %d2, %d0, %d9; ld.global.s8 %r0, [%d2]; ld.global.u8 %r1, [%d2];
        mad.wide.u32 %d3, %r28, 4, %d1; st.global.u32 [%d3], %r0; st.global.u32 [%d3+16], %r1;""", x, y, block=4)
    assert y[0].view(np.int32).tolist() == x.view(np.int8).tolist()
    assert y[1].tolist() == x.tolist()
    launch("mad.wide.u32 %d3, %r28, 4, %d1; st.global.u8 [%d3+-0], %r28;", x, y,
           block=4)  # the lowest byte of a register
    assert y[0].view(np.uint8).reshape(4, 4)[:, 0].tolist() == [0, 1, 2, 3]


def test_hints_change_no_value():
    x = np.arange(32, dtype=np.float32)
    loads = ("ld.global.nc", "ld.global.cs", "ld.global.ca.nc.L1::evict_last", "ld.global.L1::no_allocate.L2::128B",
             "ld.volatile.global", "ld.relaxed.gpu.global", "ld.acquire.sys.global", "ld.weak.global.L2::evict_first",
             "ld.global.nc.L1::no_allocate.L2::256B")
    stores = ("st.global.cs", "st.global.L1::no_allocate", "st.volatile.global", "st.release.gpu.global",
              "st.relaxed.cta.global", "st")
    for load, store in [*((load, "st.global") for load in loads), *(("ld.global", store) for store in stores)]:
        y = np.zeros_like(x)
        launch(f"mad.wide.u32 %d2, %r28, 4, %d0; mad.wide.u32 %d3, %r28, 4, %d1; {load}.f32 %r0, [%d2];"
               f"{store}.f32 [%d3], %r0;", x, y)
        assert_identical(y, x)


def test_one_access_may_touch_many_buffers():
    """A table of pointers, as for a step on many tensors; buffers of odd sizes, an address in the middle of one."""
    rng, memory = np.random.default_rng(19), Memory()
    arrays = [rng.integers(0, 2**32, n).astype(np.uint32) for n in (1, 7, 40, 3, 64)]
    before = [a.copy() for a in arrays]
    table = np.array([memory.add(a) + 4*(a.size//2) for a in arrays], np.uint64)
    code = f"""{INDEX} ld.param.u64 %d0, [q0]; mad.wide.u32 %d1, %r31, 8, %d0; ld.global.u64 %d2, [%d1];
        ld.global.u32 %r0, [%d2]; setp.ne.u32 %p0, %r29, 0; @%p0 exit; not.b32 %r0, %r0; st.global.u32 [%d2], %r0;"""
    Run(Kernel(module(code, ".param .u64 q0")), 5, 8, [memory.add(table)], memory)
    for a, old in zip(arrays, before, strict=True):
        old[old.size//2] ^= 0xFFFFFFFF
        assert_identical(a, old)


def test_parameters_of_all_kinds():
    """Integers of any sign, NumPy scalars, structures with padding, an address of a parameter."""
    text = module("""ld.param.u64 %d0, [out]; ld.param.s16 %r0, [small]; ld.param.f32 %r1, [real];
        ld.param.u32 %r2, [many+8]; mov.b64 %d1, many; ld.param.v2.b32 {%r3, %r4}, [%d1]; ld.param.b64 %d2, [last];
        st.global.v4.b32 [%d0], {%r0, %r1, %r2, %r3}; st.global.u64 [%d0+16], %d2;""",
                  """.param .u64 .ptr .global .align 16 out, .param .u16 small, .param .f32 real,
                  .param .align 8 .b8 many[12], .param .u64 last""")
    kernel, memory, out = Kernel(text), Memory(), np.zeros(6, np.uint32)
    assert kernel.params == [("out", "u64", 8, 0), ("small", "u16", 2, 8), ("real", "f32", 4, 12),
                             ("many", "b8", 12, 16), ("last", "u64", 8, 32)]
    Run(kernel, 1, 1,
        [np.uint64(memory.add(out)), -5, np.float32(1.5), np.array([7, 8, 9], np.uint32).tobytes(), 2**64 - 1], memory)
    assert out.view(np.int32).tolist() == [-5, 0x3FC00000, 9, 7, -1, -1]
    for args, message in (([0, -5, 1.0], "5 parameters, but 3"), ([0, 70000, 1, b"", 0], "2 bytes, too few for 70000"),
                          ([0, 1, 1, b"", 0], r"is \.f32, but its argument an int"),
                          ([0, 1, np.float64(1), b"", 0], "has 4 bytes, but its argument 8"),
                          ([0, 1, np.float32(1), bytes(11), 0], "has 12 bytes, but its argument 11")):
        with pytest.raises(PTXError, match=message):
            Run(kernel, 1, 1, args, memory)


def test_variables():
    """Constants keep their values, globals their changes between launches. What nobody wrote reads as ones, a NaN."""
    kernel = Kernel(module("""ld.param.u64 %d0, [q]; mov.u64 %d1, table; mov.u32 %r0, %tid.x;
        mad.wide.u32 %d2, %r0, 4, %d1;
        ld.const.f32 %r1, [%d2]; mov.u64 %d3, calls; cvta.global.u64 %d4, %d3; atom.add.u32 %r2, [%d4], 1;
        mad.wide.u32 %d5, %r0, 8, %d0; st.global.v2.b32 [%d5], {%r1, %r2};""",
                           ".param .u64 q", """.const .align 4 .f32 table[2] = {0f3F800000, 0fC0000000};
                           .visible .global .align 4 .u32 calls[1] = {40};"""))
    for start in (40, 42):
        memory, out = Memory(), np.zeros((2, 2), np.uint32)
        Run(kernel, 1, 2, [memory.add(out)], memory)
        assert out.tolist() == [[0x3F800000, start], [0xC0000000, start + 1]]
    y = np.zeros(8, np.uint32)
    launch("""mov.u64 %d1, first; ld.shared.u8 %r0, [%d1]; mov.u64 %d2, own; ld.local.u32 %r1, [%d2];
        st.global.v4.u32 [%d0], {%r0, %r1, %r2, 0};
        mov.u32 %r0, first; mov.u32 %r1, second; mov.u32 %r2, third; mov.u32 %r3, third+2;
        st.global.v4.u32 [%d0+16], {%r0, %r1, %r2, %r3};""", y, block=1, registers=".local .b32 own;",
           top=".shared .b8 first[3]; .shared .align 8 .b32 second[2][3]; .shared .b16 third[4];")
    assert y.tolist() == [255, 2**32 - 1, 2**32 - 1, 0, 0, 8, 32, 34]


def test_dynamic_shared_memory_lies_behind_the_static_one():
    y = np.zeros(64, np.uint32)
    launch("""mov.u32 %r0, own; mov.u32 %r1, rest; sub.u32 %r2, %r1, %r0; shl.b32 %r3, %r29, 2; add.u32 %r4, %r1, %r3;
        st.shared.u32 [%r4], %r29; bar.sync 0; xor.b32 %r3, %r3, 124; add.u32 %r4, %r1, %r3; ld.shared.u32 %r5, [%r4];
        mad.wide.u32 %d1, %r28, 4, %d0; mov.u32 %r6, %dynamic_smem_size; mad.lo.u32 %r5, %r6, 1000, %r5;
        mad.lo.u32 %r5, %r2, 1000000, %r5; st.global.u32 [%d1], %r5;""", y, grid=2, dynamic_shared=128,
           top=".shared .align 4 .b8 own[20];\n.extern .shared .align 16 .b8 rest[];")
    assert y.tolist() == [32_128_000 + 31 - t for _ in range(2) for t in range(32)]


class Elsewhere(Memory):
    """Addresses that mean what a driver says: one array, at an address that is no multiple of 32."""

    def __init__(self, array):
        super().__init__()
        self.array = array

    def find(self, lo, hi):
        if not 0x1008 <= lo <= hi <= 0x1008 + self.array.nbytes:
            raise PTXError("not here")
        return 0x1008, self.array.view(np.uint8)


def test_memory_can_be_resolved_by_a_subclass():
    y = np.zeros(11, np.uint32)
    code = "ld.param.u64 %d0, [q]; mad.wide.u32 %d1, %r28, 16, %d0; st.global.v4.u32 [%d1], {%r28, 7, 8, 9};"
    text = module(f"{INDEX}\n{code}", ".param .u64 q")
    Run(Kernel(text), 1, 2, [0x1010], Elsewhere(y), stats=True)
    assert y.tolist() == [0, 0, 0, 7, 8, 9, 1, 7, 8, 9, 0]
    with pytest.raises(PTXError, match=r"not here, in: st.global.v4.u32 \[%d1\]"):
        Run(Kernel(text), 1, 3, [0x1010], Elsewhere(y))
    with pytest.raises(ValueError, match="C-contiguous"):
        Memory().add(np.zeros((4, 4))[:, 1])


@pytest.mark.parametrize("space", ["global", "shared"])
def test_atomic_operations(space):
    """In the order of the threads here; what they find, and what is left."""
    steps = {"add.u32": operator.add, "min.s32": min, "max.u32": max, "and.b32": operator.and_, "or.b32": operator.or_,
             "xor.b32": operator.xor, "exch.b32": lambda m, b: b, "inc.u32": lambda m, b: 0 if m >= b else m + 1,
             "dec.u32": lambda m, b: b if m == 0 or m > b else m - 1}
    for op, step in steps.items():
        b = np.random.default_rng(20).integers(0, 40, 64).astype(np.uint32)
        out, cell = np.zeros(64, np.uint32), np.array([17], np.uint32)
        act = f"atom.relaxed.gpu.global.{op} %r1, [%d2], %r0;" if space == "global" else f"""
            setp.eq.u32 %p0, %r28, 0; mov.u64 %d5, cell; @%p0 st.shared.u32 [%d5], 17; bar.sync 0;
            atom.shared.{op} %r1, [%d5], %r0; bar.sync 0; ld.shared.u32 %r2, [%d5]; @%p0 st.global.u32 [%d2], %r2;"""
        launch(f"""mad.wide.u32 %d3, %r28, 4, %d0; ld.global.u32 %r0, [%d3]; mad.wide.u32 %d4, %r28, 4, %d1; {act}
            st.global.u32 [%d4], %r1;""", b, out, cell, block=64, top=".shared .b32 cell;")
        want = [17]
        for x in b.tolist():
            want.append(step(want[-1], x))
        assert (out.tolist(), cell.tolist()) == (want[:-1], want[-1:]), op


def test_atomics_on_floats_and_compare_and_swap():
    total, x = np.zeros(1), np.random.default_rng(21).normal(size=96)
    launch("mad.wide.u32 %d2, %r28, 8, %d0; ld.global.f64 %d3, [%d2]; red.global.add.f64 [%d1], %d3;", x, total, grid=3)
    assert total[0] == sum(x.tolist())
    cells = np.array([1e-40, 1.0], np.float32)  # subnormals are flushed
    launch("""mov.b32 %r0, 0f00000001; atom.global.add.f32 %r1, [%d0], %r0;
        atom.global.add.f32 %r1, [%d0+4], 0f40000000;""", cells, block=1)
    assert cells.tolist() == [0.0, 3.0]
    cells = np.array([5, 0], np.uint64)
    launch("""atom.global.cas.b64 %d1, [%d0], 5, 9; atom.global.cas.b64 %d2, [%d0], 5, 7;
        st.global.u64 [%d0+8], %d2;""", cells, block=1)
    assert cells.tolist() == [9, 9]
