"""Stochastic rounding, remainders and blocks of eight bits on CUDA: the bits of NumPy and of the CPU, in the interpreter and by steps."""
import ctypes
import re

import numpy as np
import pytest
from conftest import OWN, RULES, SHARED, assert_identical, nasty, normal

pytest.importorskip("numba_cuda", reason="the extra `cuda` is not installed")

from emulation import Launch

from fastopt import storage
from fastopt._cpu.jobs import Bucket, Chance
from fastopt._cuda import loops as cuda
from fastopt._formats import random_bits as noise
from fastopt._formats.blocks import SIZE, STORED
from fastopt._kernels.memory import columns, computed_in, slots
from fastopt._rule.rule import LOOK_AHEAD, followed
from fastopt._tensors.tensors import gradient, tensor
from fastopt.storage import HALF, join, split

HOPPER, BLACKWELL = (9, 0), (10, 0)
each_rule = pytest.mark.parametrize("name", RULES)
each_chip = pytest.mark.parametrize("cc", [HOPPER, BLACKWELL], ids=["sm_90", "sm_100"])
SIZES = (1, 3, 127, 128, 129, 1_025, 4_099)
SEED, STEP = 2**62 + 12_345, 7
MIXES = {  # formats of gradient, parameter and states; q8 is q43, or q44 where a state is never negative
    "bf16s": ("bf16", "bf16s", "bf16s"), "split": ("bf16", "split", "bf16s"), "q8": ("f32", "f32", "q8"),
    "bf16s q8": ("bf16", "bf16s", "q8"), "f16s": ("f16", "f16s", "f16s")}
each_mix = pytest.mark.parametrize("mix", MIXES)


def formats_of(rule, mix):
    g, p, state = MIXES[mix]
    own = [("q44" if name in rule.nonnegative else "q43") if state == "q8" else state for name in rule.state
           if name != "average"]
    return [g, p, *own]


# Numbers and their columns

def encoded(x, name, bits=HALF):
    """The arrays of a slot that holds these numbers."""
    f = STORED[name.rstrip("*!")]
    if f.split:
        return list(split(x))
    found = storage.encode(x, f, bits)
    return [found[:-(-x.size//SIZE)*SIZE], found[-(-x.size//SIZE)*SIZE:]] if f.block else [found]


def decoded(arrays, name, n):
    f = STORED[name.rstrip("*!")]
    return join(*arrays) if f.split else storage.decode(np.concatenate(arrays) if f.block else arrays[0], f, (n,))


def by_slot(formats, arrays):
    starts, _ = columns(formats)
    return [list(arrays[start:start + f.columns]) for f, start in zip(slots(formats), starts, strict=True)]


def reference(rule, c, formats, arrays, number, seed=SEED, step=STEP, begin=0):
    """What a step gives: the rule on NumPy arrays, encoded with the random bits of this tensor."""
    names, n = formats.split(), arrays[0].size
    dtype = computed_in(formats).dtype
    with np.errstate(all="ignore"):
        values = [decoded(a, name, n).astype(dtype) for a, name in zip(by_slot(formats, arrays), names, strict=True)]
        new = rule(c, *values)
        word = noise.word(noise.key(seed, step, number), np.arange(begin, begin + n).astype(np.uint32))
        rank, found = 0, []
        for x, name in zip(new, names[1:], strict=False):
            random = STORED[name].random
            bits = np.uint32(word*noise.SLOTS[rank]) if random else HALF
            rank += random
            found.append(encoded(x, name, bits))
    return [[np.zeros_like(arrays[0]) if "!" in names[0] else arrays[0]], *found]


def assert_same(have, want, name, n, what):
    """Equal bits in all arrays of a slot, but for NaN, which must be at the same places; nothing behind the last element."""
    x, y = decoded(have, name, n), decoded(want, name, n)
    with np.errstate(all="ignore"):
        both = np.isnan(x) & np.isnan(y)
    for k, (a, b) in enumerate(zip(have, want, strict=True)):
        spared = np.zeros(a.size, bool)
        spared[:n] = both if len(a) >= n and not (STORED[name].block and k) else False
        wrong = np.flatnonzero((a.view(f"u{a.itemsize}") != b.view(f"u{a.itemsize}")) & ~spared).tolist()
        assert not wrong, f"{what}, array {k}: {len(wrong)} of {n} differ, first at {wrong[0]}: {a[wrong[0]]}, but {b[wrong[0]]} is right"


def on_cpu(rule, c, formats, tensors, numbers, layouts=()):
    """The same step by the CPU's kernel, in copies."""
    copies = [[a.copy() for a in arrays] for arrays in tensors]
    steps = ctypes.c_int64(STEP - 1)
    coefs = np.array([tuple(c)], computed_in(formats).dtype)
    bucket = Bucket(rule.digest, formats, [list(column) for column in zip(*copies, strict=True)], [0]*len(copies),
                    coefs, list(layouts), 0,
                    numbers, Chance(SEED, ctypes.addressof(steps)))
    bucket.run(bucket.kernel, 1)
    return copies


def check(launch, rule, c, formats, tensors, order):
    """Every slot of every tensor, against NumPy and against the CPU; what lies around the arrays is untouched."""
    cpu = on_cpu(rule, c, formats, tensors, order)
    for k, (arrays, number) in enumerate(zip(tensors, order, strict=True)):
        n, have = arrays[0].size, by_slot(formats, launch.slots(k))
        for source, want in (("NumPy", reference(rule, c, formats, arrays, number)),
                             ("the CPU", by_slot(formats, cpu[k]))):
            assert_identical(have[0][0], want[0][0], "gradient")
            for slot, name in enumerate(formats.split()[1:], 1):
                right = want[slot] if slot < len(want) else by_slot(formats, arrays)[slot]
                assert_same(have[slot], right, name, n, f"{formats}, slot {slot} of tensor {k} ({n} elements), against "
                                                        f"{source}")
        assert all(placed.untouched_around() for placed in launch.tensors[k])


def numbers(formats, n, seed, make=normal):
    """Numbers for every slot, stored; second moments not negative."""
    found = []
    for k, name in enumerate(formats.split()):
        x = (normal(seed + k, n)*10.0**(seed % 5 - 2)).astype(np.float32) if make is normal else make(n, seed + k)
        with np.errstate(all="ignore"):
            found += encoded(np.abs(x) if name == "q44" or (k == 3 and make is normal) else x, name)
    return found


def skips_of(formats, skip):
    """Where the arrays of a tensor start, behind a multiple of 256 bytes, in elements: codes at multiples of 16 bytes always."""
    found = []
    for k, f in enumerate(slots(formats)):
        at = skip(k)
        found += [16*at, at] if f.block else [at, (at + 3) % 8 if skip(1) != skip(0) else at][:f.columns]
    return found


ALIGNED, ALIKE, APART = (lambda k: 0), (lambda k: 3), (lambda k: k % 4)


def launched(rule, formats, c, sizes, cc, make=normal, **how):
    tensors = [numbers(formats, n, 10*k, make) for k, n in enumerate(sizes)]
    kinds = [(ALIGNED, ALIKE, APART)[k % 3] for k in range(len(sizes))]
    order = [(3*k + 1) % 97 for k in range(len(sizes))]
    launch = Launch(rule, formats, tensors, [c], cc=cc, skips=[skips_of(formats, kind) for kind in kinds],
                    numbers=order, seed=SEED,
                    step=STEP, **how)
    check(launch, rule, c, formats, tensors, order)
    return launch


def of(rule, mix, marks="", **hyper):
    """Formats, and coefficients of step 3."""
    g, *rest = formats_of(rule, mix)
    formats = " ".join([g + marks, *rest])
    return formats, rule.at(3, computed_in(formats).dtype.type, **{**OWN.get(rule.name, [{}])[0], **SHARED[1], **hyper})


@pytest.mark.sampled("name", "mix", "cc")
@each_chip
@each_mix
@each_rule
def test_bits(name, mix, cc):
    """Sizes around those of blocks and vectors, aligned, alike, and each on its own."""
    rule = RULES[name]
    launched(rule, *of(rule, mix), (*SIZES, *SIZES[::-1], *SIZES[3:], 0), cc, stats=True)


@pytest.mark.sampled("name", "mix", "cc")
@each_chip
@each_mix
@each_rule
def test_nasty_numbers(name, mix, cc):
    """Infinities, NaN, subnormal numbers: the same bits in all that is a number."""
    rule = RULES[name]
    formats, _ = of(rule, mix)
    c = rule.at(2, computed_in(formats).dtype.type, weight_decay=0.1, factor=-0.5, clip_value=1e30)
    launched(rule, formats, c, (4_099, 129), cc, nasty)


@each_chip
@each_mix
def test_zeroed_gradients(mix, cc):
    rule = RULES["adam"]
    launched(rule, *of(rule, mix, "!"), (1, 129, 4_099, 2_048), cc, stats=True)


@each_chip
@pytest.mark.parametrize("formats", ["f32! f32 f32 f32", "f64! f64 f64 f64", "f16! bf16 f32 f16", "f64 f64 q43 q44"])
def test_zeroed_gradients_and_blocks_in_other_formats(formats, cc):
    rule = RULES["adam"]
    launched(rule, formats, rule.at(3, computed_in(formats).dtype.type), (1, 129, 4_099, 2_048), cc, stats=True)


@each_chip
@pytest.mark.parametrize("mix", [*MIXES, "f32"])
@pytest.mark.parametrize("extra", [("f32", "bf16"), ("f32", "f16"), ("bf16s", "f32"), ("q43", "bf16")], ids=str)
def test_average_and_copy(mix, extra, cc):
    """Both follow the new parameter in the same pass; what was in the copy is not read."""
    base = RULES["adam"]
    rule = followed(base, ("average", "copy"))
    formats, _ = of(base, mix) if mix in MIXES else ("f32 f32 f32 f32", None)
    formats = f"{formats} {' '.join(extra)}"
    c = rule.at(3, computed_in(formats).dtype.type, average=0.9)
    launched(rule, formats, c, (1, 129, 2_051, 1_025), cc, stats=True)


@each_chip
@pytest.mark.parametrize("formats", ["f32 f32 q43", "split bf16 q43", "bf16s bf16 q43", "split bf16 bf16s",
                                     "f64 f64 q44", "f16s f16 f16s"])
def test_look_ahead(formats, cc):
    """The point is written, all else is read."""
    c = LOOK_AHEAD.Coefficients(np.dtype(computed_in(formats).dtype).type(0.9))
    tensors = [numbers(formats, n, 10*k) for k, n in enumerate(SIZES)]
    launch = Launch(LOOK_AHEAD, formats, tensors, [c], cc=cc,
                    skips=[skips_of(formats, ALIGNED)]*6 + [skips_of(formats, APART)], stats=True)
    for k, (arrays, n) in enumerate(zip(tensors, SIZES, strict=True)):
        have, given = by_slot(formats, launch.slots(k)), by_slot(formats, arrays)
        p, v = (decoded(given[j], name, n) for j, name in ((0, formats.split()[0]), (2, formats.split()[2])))
        with np.errstate(all="ignore"):
            want = encoded(p - c.ahead*v.astype(p.dtype), formats.split()[1])
        assert_same(have[1], want, formats.split()[1], n, f"{n} elements")
        for slot in (0, 2):
            for x, y in zip(have[slot], given[slot], strict=True):
                assert np.array_equal(x, y)
        assert all(placed.untouched_around() for placed in launch.tensors[k])


@each_chip
@pytest.mark.parametrize("mix", MIXES)
@pytest.mark.parametrize("how", ["transposed", "reversed"])
def test_strided_gradients(how, mix, cc):
    """Of a parameter in the order of C, the gradient in that of Fortran, or backwards."""
    rule, shape = RULES["adam"], (37, 61)
    formats, c = of(rule, mix)
    arrays = numbers(formats, shape[0]*shape[1], 2)
    g = arrays[0].reshape(shape)
    view = np.asfortranarray(g) if how == "transposed" else g[::-1, ::-1].copy()[::-1, ::-1]
    raw, first = (view.reshape(-1, order="F"), 0) if how == "transposed" else (view[::-1, ::-1].reshape(-1), g.size - 1)
    bound = gradient(view, tensor(np.zeros(shape, arrays[1].dtype), "params", 0), "grads")
    assert bound.format.endswith("*")
    launch = Launch(rule, formats.replace(" ", "* ", 1), [[raw, *arrays[1:]]], [c], cc=cc, layouts=[bound.layout],
                    first=first, seed=SEED,
                    step=STEP, numbers=[5], stats=True)
    have = by_slot(formats, launch.slots())
    for slot, want in enumerate(reference(rule, c, formats, arrays, 5)[1:], 1):
        assert_same(have[slot], want, formats.split()[slot], g.size, f"slot {slot}")


@each_chip
@pytest.mark.parametrize("mix", MIXES)
@pytest.mark.parametrize("begin", [2**32 - 2_048, 2**33 + 128])
def test_elements_far_behind(begin, mix, cc):
    """Random bits of the elements are counted modulo 2**32."""
    rule, n = RULES["adam"], 3_000
    formats, c = of(rule, mix)
    arrays = numbers(formats, n, 3)
    launch = Launch(rule, formats, [arrays], [c], cc=cc, begin=begin, seed=SEED, step=STEP, numbers=[9], stats=True)
    have = by_slot(formats, launch.slots())
    for slot, want in enumerate(reference(rule, c, formats, arrays, 9, begin=begin)[1:], 1):
        assert_same(have[slot], want, formats.split()[slot], n, f"slot {slot}")


@pytest.mark.parametrize("mix", MIXES)
def test_any_grid_and_tile_give_the_same(mix):
    rule = RULES["adam"]
    formats, c = of(rule, mix)
    arrays = numbers(formats, 5_000, 3)
    found = [Launch(rule, formats, [arrays], [c], blocks=blocks, tile=tile, seed=SEED, step=STEP).slots()
             for blocks, tile in ((1, 0), (2, 512), (50, 128), (3, 4_992), (1, 2_048))]
    for other in found[1:]:
        for x, y in zip(found[0], other, strict=True):
            assert_identical(x, y)


def test_codes_of_every_kind():
    """Blocks of all 256 codes under exponents from the lowest to the highest, some of zeros only."""
    rule, n = RULES["adam"], 128*60
    formats, c = of(rule, "q8")
    rng = np.random.default_rng(1)
    arrays = numbers(formats, n, 1)
    for at in (2, 4):
        arrays[at][:] = rng.integers(0, 256, n)
        arrays[at + 1][:] = np.linspace(16, 254, 60)
        arrays[at][128*7:128*9] = 0
        arrays[at + 1][7:9] = 0, 16
    arrays[0][128*7:128*8] = 0
    launch = Launch(rule, formats, [arrays], [c], seed=SEED, step=STEP)
    check(launch, rule, c, formats, [arrays], [0])


@pytest.mark.parametrize("mix", MIXES)
def test_a_skipped_step_writes_nothing(mix):
    rule = RULES["adam"]
    formats, c = of(rule, mix, "!")
    arrays = numbers(formats, 3_000, 4)
    launch = Launch(rule, formats, [arrays], [c], skip=1, stats=True)
    for have, want in zip(launch.slots(), arrays, strict=True):
        assert_identical(have, want)
    assert launch.run.traffic["stored_bytes"] == 0


def test_no_more_bytes_than_a_step_must_move():
    """Sectors of 32 bytes: within 6 % of the bytes of the slots, or one byte, with tables and coefficients. Exponents take sectors for
    themselves as they are counted here, four times a block of two slots: a byte an element more, but 16 blocks share it
    in the cache."""
    for mix, moved, exponents in (("q8", 16, 1), ("bf16s q8", 10, 1), ("bf16s", 14, 0), ("split", 18, 0)):
        rule = RULES["adam"]
        formats, c = of(rule, mix)
        launch = Launch(rule, formats, [numbers(formats, 65_536, 1)], [c], blocks=4, stats=True)
        sectors = launch.run.traffic["loaded_sectors"] + launch.run.traffic["stored_sectors"]
        assert moved <= 32*sectors/65_536 - exponents <= max(1.06*moved, moved + 1), mix


@pytest.mark.sampled("name", "mix", "cc")
@each_rule
@each_mix
@pytest.mark.parametrize("cc", [HOPPER, BLACKWELL, (8, 0)], ids=["sm_90", "sm_100", "sm_80"])
def test_code(name, mix, cc):
    """Machine code for every chip; wide accesses, no contraction, no approximation, no local or shared memory, no float64."""
    formats, _ = of(RULES[name], mix)
    code = cuda.step(RULES[name].digest, formats, cc)
    assert code.image[:4] == b"\x7fELF"
    ptx = cuda.step(RULES[name].digest, formats, cc, "ptx").image.decode()
    assert not re.findall(r"fma|approx|ftz|\.full|\.f64|\.local|\.shared", ptx)
    wide = re.findall(r"(?:ld|st)\.global\.v(\d)\.[a-z](\d+)", ptx)
    assert {int(count)*int(bits)//8 for count, bits in wide} == {cuda.lanes(formats, cc)*f.itemsize
                                                                 for f in slots(formats) if not f.block}
