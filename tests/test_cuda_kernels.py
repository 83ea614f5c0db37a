"""The promise about bits on CUDA: the PTX of every kernel, run by the interpreter, gives what the rule gives on NumPy arrays."""
import itertools
import random
import re

import numpy as np
import pytest
from conftest import DTYPES, OWN, RULES, SHARED, assert_identical, assert_same_bits, decoded, nasty, normal, stored

pytest.importorskip("numba_cuda", reason="the extra `cuda` is not installed")

from emulation import Launch, Squares

from fastopt._cpu.jobs import Bucket
from fastopt._cuda import loops as cuda
from fastopt._formats.scalars import FORMATS
from fastopt._kernels.memory import computed_in
from fastopt._tensors.tensors import gradient, tensor

HOPPER, BLACKWELL = (9, 0), (10, 0)
each_rule = pytest.mark.parametrize("name", RULES)
each_format = pytest.mark.parametrize("format", FORMATS)
each_chip = pytest.mark.parametrize("cc", [HOPPER, BLACKWELL], ids=["sm_90", "sm_100"])
SIZES = (1, 3, 8, 255, 0, 1025, 2048, 2063, 9_001)


def uniform(name, format):
    return " ".join([format]*(2 + len(RULES[name].state)))


def values(formats, n, seed, make=normal):
    """Stored numbers for every slot; the last state (a second moment, where there are two) not negative."""
    wide = [np.float64 if f == "f64" else np.float32 for f in formats.split()]
    plain = [make(seed + k, n) if make is normal else make(n, seed + k, w) for k, w in enumerate(wide)]
    if len(plain) > 2 and make is normal:
        plain[-1] = np.abs(plain[-1])
    with np.errstate(all="ignore"):
        return [stored(x, f) for x, f in zip(plain, formats.split(), strict=True)]


def reference(rule, c, formats, slots):
    """What the rule gives on NumPy arrays, stored."""
    dtype = computed_in(formats).dtype
    with np.errstate(all="ignore"):
        new = rule(c, *(decoded(a, f).astype(dtype) for a, f in zip(slots, formats.split(), strict=True)))
        return [stored(x, f) for x, f in zip(new, formats.split()[1:], strict=True)]


def assert_right(launch, rule, formats, tensors, coefficients, groups, gradients=None):
    """All of the parameter and the states, to the bit; the gradient and what lies around the arrays untouched."""
    for k, (slots, group) in enumerate(zip(tensors, groups, strict=True)):
        want = reference(rule, coefficients[group], formats, [gradients[k] if gradients else slots[0], *slots[1:]])
        names = ("p", *rule.state)
        for name, have, right, f in zip(names, launch.slots(k)[1:], want, formats.split()[1:], strict=True):
            assert_same_bits(have, right.reshape(-1), f"{rule.name} {formats}: {name} of tensor {k} ({right.size} "
                                                      f"elements)", f)
        assert_identical(launch.slots(k)[0], slots[0].reshape(-1), "gradient")
        assert all(placed.untouched_around() for placed in launch.tensors[k])


def two_groups(rule, formats, t=3):
    dtype = computed_in(formats).dtype.type
    return [rule.at(t, dtype, **hyper) for hyper in ({**OWN[rule.name][0], **SHARED[0]},
                                                     {**OWN[rule.name][-1], **SHARED[1], "lr": 0.07})]


@pytest.mark.sampled("name", "format", "cc")
@each_chip
@each_format
@each_rule
def test_bits(name, format, cc):
    """Tensors of many sizes, one launch, two groups, aligned in every way."""
    rule, formats = RULES[name], uniform(name, format)
    tensors = [values(formats, n, 10*k) for k, n in enumerate(SIZES)]
    groups = [k % 2 for k in range(len(SIZES))]
    skips = [[k]*len(slots) if k % 3 else list(range(len(slots))) for k,
             slots in enumerate(tensors)]  # alike, and each on its own
    coefficients = two_groups(rule, formats)
    launch = Launch(rule, formats, tensors, coefficients, groups, cc, skips, stats=True)
    assert_right(launch, rule, formats, tensors, coefficients, groups)


@pytest.mark.sampled("name", "format", "cc")
@each_chip
@each_format
@each_rule
def test_nasty_numbers(name, format, cc):
    """Any bits: NaN and infinities at the same places, all other bits equal, subnormals and -0 too; clipped, factored."""
    rule, formats, n = RULES[name], uniform(name, format), 4_099
    slots = values(formats, n, 7, nasty)
    c = rule.at(2, computed_in(formats).dtype.type, weight_decay=0.1, factor=-0.5, clip_value=1e30)
    launch = Launch(rule, formats, [slots], [c], cc=cc)
    assert_right(launch, rule, formats, [slots], [c], [0])
    assert not np.isnan(decoded(launch.slots()[1], format)).all()


def mixes():
    """Every format in every slot of rules with no, one, two and three states, by a fixed seed."""
    chance = random.Random(1)
    for name in ("sgd", "momentum", "adam", "amsgrad"):
        count = 2 + len(RULES[name].state)
        columns = [chance.sample(list(FORMATS), len(FORMATS)) for _ in range(count)]
        for formats in zip(*columns, strict=True):
            if len(set(formats)) > 1:
                yield name, " ".join(formats)


@each_chip
@pytest.mark.parametrize(("name", "formats"), [*mixes(), ("adam", "bf16 bf16 f32 f32"), ("adam", "f16 f32 f32 f32")])
def test_mixed_formats(name, formats, cc):
    rule, dtype = RULES[name], computed_in(formats).dtype.type
    tensors = [values(formats, n, 5*n) for n in (37, 4_101)]
    c = rule.at(4, dtype, **SHARED[3])
    launch = Launch(rule, formats, tensors, [c], cc=cc, skips=[[1]*len(s) for s in tensors], stats=True)
    assert_right(launch, rule, formats, tensors, [c], [0, 0])


@each_chip
@each_rule
@pytest.mark.parametrize("hyper", range(len(SHARED) + 2))
def test_hyperparameters(name, hyper, cc):
    """Each set of a rule's own and of the shared ones, at the first and at a late step."""
    sets, rule, formats = [*OWN[name], *SHARED], RULES[name], uniform(name, "f32")
    slots = values(formats, 700, hyper)
    for t in (1, 2**31 + 1):
        c = rule.at(t, np.float32, factor=0.37, clip_value=0.4, **sets[hyper % len(sets)])
        launch = Launch(rule, formats, [slots], [c], cc=cc)
        assert_right(launch, rule, formats, [slots], [c], [0])


def test_any_grid_and_tile_give_the_same():
    rule, formats = RULES["adam"], uniform("adam", "f32")
    slots, c = values(formats, 5_000, 3), RULES["adam"].at(1, np.float32)
    ways = ((1, 0), (2, 500), (50, 64), (3, 4_999))
    found = [Launch(rule, formats, [slots], [c], blocks=blocks, tile=tile).slots() for blocks, tile in ways]
    for other, (k, want) in itertools.product(found[1:], enumerate(found[0])):
        assert_identical(other[k], want)


@each_chip
@pytest.mark.parametrize("begin", [2**31 - 1_000, 2**32 - 7, 2**33 + 5])
@pytest.mark.parametrize("formats", ["f32 f32 f32 f32", "f16 f16 f16 f16", "bf16 f32 f64 bf16"])
def test_elements_far_behind(formats, begin, cc):
    """Indices beyond 2**31, 2**32 and 2**33: tiles that begin there, of tensors of which only that part exists."""
    rule, n = RULES["adam"], 3_000
    slots, c = values(formats, n, 5), rule.at(1, computed_in(formats).dtype.type)
    launch = Launch(rule, formats, [slots], [c], cc=cc, begin=begin, stats=True)
    assert_right(launch, rule, formats, [slots], [c], [0])


STRIDED = {"transposed": ((17, 33), lambda a: np.asfortranarray(a)),
           "every other": ((300,), lambda a: np.repeat(a, 2)[::2]),
           "reversed": ((5, 6, 7), lambda a: a[::-1, :, ::-1].copy()[::-1, :, ::-1]),
           "one number": ((40, 3), lambda a: np.broadcast_to(a[:1, :1], a.shape))}


@each_chip
@each_format
@pytest.mark.parametrize("how", STRIDED)
def test_strided_gradients(how, format, cc):
    shape, change = STRIDED[how]
    rule, formats = RULES["momentum"], f"{format}* {format} {'f64' if format == 'f64' else 'f32'}"
    slots = [a.reshape(shape) for a in values(formats.replace("*", ""), int(np.prod(shape)), 2)]
    g = change(slots[0])
    bound = gradient(g, tensor(slots[1].copy(), "params", 0), "grads")
    assert bound.format == f"{format}*"
    memory = np.lib.array_utils.byte_bounds(g)
    raw = np.ctypeslib.as_array((np.ctypeslib.ctypes.c_uint8*(memory[1] - memory[0])).from_address(memory[0])).view(DTYPES[format])
    first = (g.ctypes.data - memory[0])//g.itemsize
    c = rule.at(1, computed_in(formats).dtype.type)
    tensors = [[raw, *(a.reshape(-1) for a in slots[1:])]]
    launch = Launch(rule, formats, tensors, [c], cc=cc, layouts=[bound.layout], first=first, stats=True)
    assert_right(launch, rule, formats.replace("*", ""), tensors, [c], [0], [np.ascontiguousarray(g).reshape(-1)])


@each_format
def test_a_skipped_step_writes_nothing(format):
    rule, formats = RULES["adam"], uniform("adam", format)
    slots = values(formats, 3_000, 4)
    launch = Launch(rule, formats, [slots], [rule.at(1, computed_in(formats).dtype.type)], skip=1, stats=True)
    for have, want in zip(launch.slots(), slots, strict=True):
        assert_identical(have, want)
    assert launch.run.traffic["stored_bytes"] == 0


def test_no_more_bytes_than_a_step_must_move():
    """Sectors of 32 bytes: within 6 % of the bytes of the slots, tables and coefficients counted, for uniform and mixed formats."""
    for formats, moved in (("f32 f32 f32 f32", 28), ("bf16 bf16 f32 f32", 22), ("bf16 bf16 bf16 bf16", 14),
                           ("f64 f64 f64 f64", 56)):
        rule, n = RULES["adam"], 65_536
        slots = values(formats, n, 1)
        launch = Launch(rule, formats, [slots], [rule.at(1, computed_in(formats).dtype.type)], blocks=4, stats=True)
        sectors = launch.run.traffic["loaded_sectors"] + launch.run.traffic["stored_sectors"]
        assert moved <= 32*sectors/n <= 1.06*moved, formats


# The code itself

@pytest.mark.sampled("name", "format", "cc")
@each_rule
@each_format
@pytest.mark.parametrize("cc", [HOPPER, BLACKWELL, (8, 0)], ids=["sm_90", "sm_100", "sm_80"])
def test_code(name, format, cc):
    """Machine code for every chip; wide accesses, no contraction, no approximation, no local memory, float64 only where asked for."""
    formats = uniform(name, format)
    code = cuda.step(RULES[name].digest, formats, cc)
    assert code.image[:4] == b"\x7fELF"
    assert code.name.encode() in code.image
    ptx = cuda.step(RULES[name].digest, formats, cc, "ptx").image.decode()
    assert not re.findall(r"fma|approx|ftz|\.full", ptx)
    assert ".local" not in ptx
    assert (".f64" in ptx) == (format == "f64")
    wide = re.findall(r"(?:ld|st)\.global\.v(\d)\.[a-z](\d+)", ptx)
    assert {int(count)*int(bits)//8 for count, bits in wide} == {32 if cc == BLACKWELL else 16}
    assert len(wide) == 2*len(formats.split()) - 1


def test_no_half_precision_hardware_is_needed_for_bfloat16():
    """On Turing the formula rounds, with the same bits."""
    rule, formats = RULES["adam"], "bf16 bf16 bf16 bf16"
    assert "cvt.rn.bf16" not in cuda.step(rule.digest, formats, (7, 5), "ptx").image.decode()
    slots = values(formats, 2_000, 1, nasty)
    c = rule.at(1, np.float32)
    launch = Launch(rule, formats, [slots], [c], cc=(7, 5))
    assert_right(launch, rule, formats, [slots], [c], [0])


# Sums of squares

@each_chip
@each_format
def test_sums_of_squares_are_those_of_the_cpu(format, cc):
    """Partial sums of 4,096 elements in the same order, so with the same bits."""
    sizes = (1, 31, 33, 63, 64, 65, 4_095, 4_096, 4_097, 10_000)
    gs = [stored(normal(n, n)*10.0**(n % 7 - 3), format) for n in sizes]
    formats = f"{format} {format}"
    coefs = np.zeros((1, len(RULES["sgd"].fields)), computed_in(formats).dtype)
    on_cpu = Bucket(RULES["sgd"].digest, formats, [gs, [g.copy() for g in gs]], [0]*len(gs), coefs, [])
    assert_identical(Squares(formats, gs, cc).sums, np.array(on_cpu.sums_of_squares(1)))


@each_chip
def test_sums_of_squares_of_strided_gradients(cc):
    g = np.asfortranarray(normal(1, 77, 91).astype(np.float32))
    bound = gradient(g, tensor(np.ascontiguousarray(g), "params", 0), "grads")
    flat = np.ascontiguousarray(g).reshape(-1)
    want = Squares("f32 f32", [flat], cc).sums
    assert_identical(Squares("f32* f32", [g.reshape(-1, order="F")], cc, layouts=[bound.layout]).sums, want)


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_sums_of_squares_see_one_bad_element(bad):
    for k in (0, 1_000, 4_095, 4_096, 5_000):
        g = np.ones(5_001, np.float32)
        g[k] = bad
        sums = Squares("f32 f32", [g], HOPPER).sums
        assert np.isfinite(sums).tolist() == [k >= 4_096, k < 4_096]
