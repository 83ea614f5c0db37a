"""Short PTX programs around one instruction, and what floats are by definition: what the interpreter's tests share."""
import math
from fractions import Fraction

import ml_dtypes
import numpy as np
from conftest import assert_identical, assert_same_bits, bits, nasty

from . import Kernel, Memory, Run

MODULE = """.version 8.7
.target sm_{cc}
.address_size 64
{module}
.visible .entry k({params})
{{
.reg .pred %p<9>; .reg .b16 %h<9>; .reg .b32 %r<33>; .reg .b64 %d<33>;
{registers}
{body}
ret;
}}
"""
INDEX = "mov.u32 %r31, %ctaid.x; mov.u32 %r30, %ntid.x; mov.u32 %r29, %tid.x; mad.lo.u32 %r28, %r31, %r30, %r29;"
UNSIGNED = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}
NAN = {"f16": 0x7FFF, "bf16": 0x7FFF, "f32": 0x7FFFFFFF, "f64": None}
FORMAT = {"f16": (11, -24), "bf16": (8, -133), "f32": (24, -149), "f64": (53, -1074)}  # digits, smallest exponent
DTYPE = {"f16": np.dtype(np.float16), "bf16": np.dtype(ml_dtypes.bfloat16), "f32": np.dtype(np.float32),
         "f64": np.dtype(np.float64)}
LARGEST = {name: float(ml_dtypes.finfo(dtype).max) for name, dtype in DTYPE.items()}
INTEGERS = [f"{kind}{width}" for width in (16, 32, 64) for kind in "us"]


def module(body, params="", module="", registers="", cc=90):
    return MODULE.format(body=body, params=params, module=module, registers=registers, cc=cc)


def launch(body, *arrays, grid=1, block=32, cc=90, top="", registers="", **how):
    """Run a body on arrays, whose addresses are in %d0, %d1, ...; %r28 is the number of the thread."""
    params = ", ".join(f".param .u64 q{k}" for k in range(len(arrays)))
    pointers = "\n".join(f"ld.param.u64 %d{k}, [q{k}];" for k in range(len(arrays)))
    memory = Memory()
    args = [memory.add(np.ascontiguousarray(array), f"q{k}") for k, array in enumerate(arrays)]
    return Run(Kernel(module(f"{INDEX}\n{pointers}\n{body}", params, top, registers, cc)), grid, block, args, memory,
               **how)


def computed(code, out, *inputs, cc=90, **how):
    """What the code leaves in %x, as words of `out` bytes: a thread for each element of %a, %b, %c and %e."""
    names, n = "abce"[:len(inputs)], len(inputs[0])
    result = np.zeros(n, UNSIGNED[out])
    registers = [f".reg .b{max(8*out, 16)} %x;"]
    body = [f"setp.ge.u32 %p8, %r28, {n};", "@%p8 exit;"]
    for k, (name, x) in enumerate(zip(names, inputs, strict=True), 1):
        registers.append(f".reg .b{max(8*x.itemsize, 16)} %{name};")
        body += [f"mad.wide.u32 %d{k}, %r28, {x.itemsize}, %d{k};", f"ld.global.b{8*x.itemsize} %{name}, [%d{k}];"]
    body += [code, f"mad.wide.u32 %d0, %r28, {out}, %d0;", f"st.global.b{8*out} [%d0], %x;"]
    launch("\n".join(body), result, *inputs, grid=-(-n//64), block=64, cc=cc, registers="\n".join(registers), **how)
    return result


def of(type):
    return np.dtype({"u": "uint", "s": "int", "b": "uint"}[type[0]] + type[1:])


def crossed(*columns):
    return [x.ravel() for x in np.meshgrid(*columns, indexing="ij")]


def edges(type, more=3):
    dtype = of(type)
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    random = np.random.default_rng(int(type[1:])).integers(low, high, more, dtype, endpoint=True)
    return np.unique([*np.array([0, 1, 2, 3, 31, 100, high//2, high - 1, high, low, low + 1], dtype), *random])


def wrapped(numbers, itemsize):
    return np.array([int(x) % 2**(8*itemsize) for x in numbers], UNSIGNED[itemsize])


def expect_integers(code, type, reference, *inputs, out=None):
    size = out or of(type).itemsize
    want = wrapped([reference(*map(int, row)) for row in zip(*inputs, strict=True)], size)
    assert_identical(computed(code, size, *inputs), want, code)


# What floats are, from the definition

def rounded(x, name):
    """An exact number, rounded to nearest and even, as a Python float."""
    if x == 0:
        return 0.0
    digits, smallest = FORMAT[name]
    exponent = x.numerator.bit_length() - x.denominator.bit_length()
    exponent -= Fraction(2)**exponent > abs(x)
    unit = Fraction(2)**max(exponent - digits + 1, smallest)
    y = round(x/unit)*unit
    return math.copysign(float(y) if abs(y) <= LARGEST[name] else math.inf, 1 if x > 0 else -1)


def ieee(exact, in_floats, name, *numbers):
    """An operation on floats of a format: exact arithmetic and one rounding, or Python's where there is no number."""
    if all(map(math.isfinite, numbers)):
        try:
            result = exact(*map(Fraction, numbers))
            return rounded(result, name) if result else in_floats(*numbers)
        except ZeroDivisionError:
            pass
    return in_floats(*numbers)


def divided(x, y):
    with np.errstate(all="ignore"):
        return float(np.float64(x)/np.float64(y))


def coded(numbers, name):
    """Python floats that are numbers of a format, as words; NaN canonical."""
    with np.errstate(over="ignore", invalid="ignore"):
        words = bits(np.array(numbers, np.float64).astype(DTYPE[name]))
    return np.where(np.isnan(numbers), NAN[name], words).astype(words.dtype) if NAN[name] else words


def numbers_of(words, name):
    return [float(x) for x in words.view(DTYPE[name])]


def float_words(name, n=300, seed=0):
    """Words of a format: specials and random bits."""
    if name in ("f32", "f64"):
        return bits(nasty(n, seed, np.float64 if name == "f64" else np.float32))
    special = coded([0.0, -0.0, 1, -1.5, math.inf, -math.inf, math.nan, LARGEST[name], 2.0**FORMAT[name][1]], name)
    rng = np.random.default_rng(seed)
    return np.where(rng.random(n) < 0.5, rng.integers(0, 65536, n).astype(np.uint16), rng.choice(special, n))


def assert_floats(code, name, want, *words, **how):
    """The code gives these numbers of a format: the same words, but for a float64's NaN."""
    want = coded(want, name)
    have = computed(code, want.itemsize, *words, **how)
    if name == "f64":
        have, want = have.view(np.float64), want.view(np.float64)
    (assert_same_bits if name == "f64" else assert_identical)(have, want, code)


def expect_floats(code, name, exact, in_floats, *words):
    rows = zip(*(numbers_of(w, name) for w in words), strict=True)
    assert_floats(code, name, [ieee(exact, in_floats, name, *row) for row in rows], *words)
