"""The promise about bits on CUDA: the PTX of every kernel, in the interpreter, gives what its rule gives on NumPy."""
import itertools
import random
import re

import numpy as np
import pytest
from conftest import OWN, RULES, SHARED, assert_identical, layout, nasty, normal, stored

pytest.importorskip("numba_cuda", reason="the extra `cuda` is not installed")

import emulation
from emulation import Launch, Memory, Squares, itemsizes
from internals import cuda_code, cuda_lanes, float_type, slots_of, strided_gradient, sums_of_squares, with_pieces
from reference import assert_same_parts, encoded, next_slots, numbers

from fastopt._cuda.loops import tile_size
from fastopt._formats.blocks import SIZE
from fastopt._formats.catalogue import FORMATS
from fastopt._formats.random_bits import key, word
from fastopt._rule.pipeline import LOOK_AHEAD

HOPPER, BLACKWELL = CHIPS = (9, 0), (10, 0)
SIZES = (0, 1, 3, 127, 128, 129, 1_025, 2_048, 2_063, 4_099)
SEED, STEP = 2**62 + 12_345, 7
MIXES = {  # formats of gradient, parameter and states; q8 is q43, or q44 where a state is never negative
    **{f: (f, f, f) for f in FORMATS}, "bf16s": ("bf16", "bf16s", "bf16s"), "split": ("bf16", "split", "bf16s"),
    "q8": ("f32", "f32", "q8"), "bf16s q8": ("bf16", "bf16s", "q8"), "f16s": ("f16", "f16s", "f16s")}
each_rule = pytest.mark.parametrize("name", RULES)
each_mix = pytest.mark.parametrize("mix", MIXES)


def one_of_two(thing, among, full):
    """One of the two chips for each of a few things, in turn; both with --full."""
    return CHIPS if full else CHIPS[list(among).index(thing) % 2:][:1]


@pytest.fixture
def cases(name, full):
    """(mix, chip): float32 and every sixth other mix, which ones depends on the rule; all with --full."""
    at, others = list(RULES).index(name), [mix for mix in MIXES if mix != "f32"]
    some = [(mix, CHIPS[(at + k) % 2]) for k, mix in enumerate(["f32", *others[at % 6::6]])]
    return list(itertools.product(MIXES, CHIPS)) if full else some


def formats_of(rule, mix, mark=""):
    g, p, state = MIXES[mix]
    own = [("q44" if name in rule.nonnegative else "q43") if state == "q8" else state for name in rule.state]
    return " ".join([g + mark, p, *own])


def coefficients(rule, formats):
    """Those of two groups."""
    hyper = {**OWN[rule.name][0], **SHARED[0]}, {**OWN[rule.name][-1], **SHARED[1], "lr": 0.07}
    return [rule.at(3, float_type(formats), **of) for of in hyper]


def values(formats, n, seed, make=normal):
    """Arrays of numbers for every slot; the last state (a second moment, where there are two) is not negative."""
    found, blocks = [], -(-n//SIZE)
    for k, (f, *_) in enumerate(slots_of(formats)):
        kind = np.float64 if f.name == "f64" else np.float32
        x = (normal(seed + k, n)*10.0**(seed % 5 - 2)).astype(kind) if make is normal else make(n, seed + k, kind)
        last = make is normal and k > 1 and k == len(formats.split()) - 1
        with np.errstate(all="ignore"):
            parts = encoded(np.abs(x) if f.name == "q44" or last else x, f)
        found += [parts[0][:blocks*SIZE], parts[0][blocks*SIZE:]] if f.block else parts
    return found


def by_slot(formats, arrays):
    """The arrays of every slot: one, or a number and its remainder; blocks are one array, as for `storage`."""
    rows = [(f, list(arrays[start:end])) for f, start, end in slots_of(formats)]
    return [[np.concatenate(row)] if f.block else row for f, row in rows]


def check(launch, rule, c, formats, arrays, number, k=0, g=None, begin=0):
    """Every slot of a tensor has the bits of the rule on NumPy arrays; what lies around them is untouched. `g` holds
    the numbers of a strided gradient. `number` is that of the tensor, `begin` that of its first element here."""
    (of_g, *_), *written = slots_of(formats)
    given, have = by_slot(formats, arrays), by_slot(formats, launch.slots(k))
    assert_identical(have[0][0], np.zeros_like(given[0][0]) if "!" in formats else given[0][0].reshape(-1), "gradient")
    row = arrays[0] if g is None else g
    g = numbers([row], of_g, row.size)
    with np.errstate(over="ignore"):
        words = word(key(SEED, STEP, number), np.arange(begin, begin + g.size).astype(np.uint32))
    with np.errstate(all="ignore"):
        g = g.astype(float_type(formats))
    want = next_slots(rule, c, g, given[1:], [f for f, *_ in written], words)
    for slot, (f, *_) in enumerate(written):
        what = f"{formats}: slot {slot + 1} of tensor {k} ({g.size} elements)"
        assert_same_parts(have[1 + slot], want[slot], f, g.size, what)
    assert all(placed.untouched_around() for placed in launch.tensors[k])


def skips_of(formats, skip):
    """Where the arrays of a tensor start, in elements behind a multiple of 256 bytes; codes lie at multiples of 16."""
    found = []
    for k, (f, start, end) in enumerate(slots_of(formats)):
        at = skip(k)
        found += [16*at, at] if f.block else [at, (at + 3) % 8 if skip(1) != skip(0) else at][:end - start]
    return found


ALIGNMENTS = ALIGNED, _, APART = (lambda k: 0), (lambda k: 3), (lambda k: k % 4)


def launched(rule, formats, cs, sizes, cc, make=normal, begin=0, **how):
    """Launch a step of tensors of these sizes, aligned in every way, and check it."""
    tensors = [values(formats, n, 10*k, make) for k, n in enumerate(sizes)]
    skips = [skips_of(formats, ALIGNMENTS[k % 3]) for k in range(len(sizes))]
    groups, order = [k % len(cs) for k in range(len(sizes))], [(3*k + 1) % 97 for k in range(len(sizes))]
    how |= {"numbers": order, "seed": SEED, "step": STEP, "begin": begin}
    launch = Launch(rule, formats, tensors, cs, groups, cc, skips, **how)
    for k, arrays in enumerate(tensors):
        check(launch, rule, cs[groups[k]], formats, arrays, order[k], k, begin=begin)
    return launch


# The promise, for every rule

@each_rule
def test_bits(name, cases):
    """Sizes around those of blocks and vectors, one launch, two groups, every size aligned in several ways."""
    for mix, cc in cases:
        formats = formats_of(RULES[name], mix)
        sizes = (*SIZES, *SIZES[::-1], *SIZES[3:], 0)
        launched(RULES[name], formats, coefficients(RULES[name], formats), sizes, cc, stats=True)


@each_rule
def test_nasty_numbers(name, cases):
    """Any bits: NaN and infinities at the right places, all other bits equal; clipped, with a factor."""
    for mix, cc in cases:
        formats = formats_of(RULES[name], mix)
        c = RULES[name].at(2, float_type(formats), weight_decay=0.1, factor=-0.5, clip_value=1e30)
        launched(RULES[name], formats, [c], (4_099, 129), cc, nasty)


PIECES = (), ("scale",), ("limit", "decoupled")  # a kernel holds these and no others


@each_rule
def test_hyperparameters(name, cases, full):
    """Each set of a rule's own and of the shared ones, at the first and a late step; then fewer pieces."""
    rule, formats, at = RULES[name], formats_of(RULES[name], "f32"), list(RULES).index(name)
    for hyper in (*OWN[name], *SHARED):
        cs = [rule.at(t, np.float32, factor=0.37, clip_value=0.4, **hyper) for t in (1, 2**31 + 1)]
        for _, cc in (case for case in cases if case[0] == "f32"):
            launched(rule, formats, cs, (300, 41), cc)
    for k, pieces in enumerate(PIECES if full else PIECES[at % 3:][:1]):
        some = with_pieces(rule, *pieces, plain=())
        c = some.at(2, np.float32, factor=0.37, clip_value=0.4, weight_decay=0.1, decay="decoupled")
        launched(some, formats, [c], (300, 41), CHIPS[(at + k) % 2])


# Formats

def table():
    """(rule, formats): every format in every slot of rules with no, one, two and three states, and zeroed gradients."""
    chance = random.Random(1)
    for name in ("sgd", "momentum", "adam", "amsgrad"):
        columns = [chance.sample(list(FORMATS), len(FORMATS)) for _ in range(2 + len(RULES[name].state))]
        yield from ((name, " ".join(formats)) for formats in zip(*columns, strict=True))
    for formats in ("bf16 bf16 f32 f32", "f16 f32 f32 f32", "f16! bf16 f32 f16", "f64 f64 q43 q44"):
        yield "adam", formats
    for mix in MIXES:
        yield "adam", formats_of(RULES["adam"], mix, "!")


TABLE = list(table())


@pytest.mark.parametrize(("name", "formats"), TABLE)
def test_mixed_formats_and_zeroed_gradients(name, formats, full):
    for cc in one_of_two((name, formats), TABLE, full):
        cs = coefficients(RULES[name], formats)
        launched(RULES[name], formats, cs, (1, 129, 4_099, 37, 2_048), cc, stats=True)


FOLLOWED = list(zip(["f32", "bf16s", "split", "q8", "bf16s q8", "f16s"],
                    [("f32", "bf16"), ("f32", "f16"), ("bf16s", "f32"), ("q43", "bf16")]*2, strict=False))


@pytest.mark.parametrize(("mix", "extra"), FOLLOWED)
def test_average_and_copy(mix, extra, full):
    """Both follow the new parameter in the same pass; what was in the copy is not read."""
    rule = with_pieces(RULES["adam"], "average", "copy")
    formats = f"{formats_of(RULES['adam'], mix)} {' '.join(extra)}"
    c = rule.at(3, float_type(formats), average=0.9)
    for cc in one_of_two((mix, extra), FOLLOWED, full):
        launched(rule, formats, [c], (1, 129, 2_051, 1_025), cc, stats=True)


def test_modifiers(full):
    """Pieces between gradient, rule and parameter, one with a state of its own."""
    pieces = ("scale", "limit", "cautious", "update_clip", "cautious_decay", "grokfast")
    rule, mixes = with_pieces(RULES["adam"], *pieces, plain=()), {"f32": "f32", "split": "bf16s", "q8": "q43"}
    for mix, slow in mixes.items():
        formats = f"{formats_of(RULES['adam'], mix)} {slow}"
        c = rule.at(3, float_type(formats), cautious=True, cautious_decay=True, weight_decay=0.1, decay="decoupled",
                    update_clip=0.5, factor=0.5, clip_value=2.0, lr=0.05)
        for cc in one_of_two(mix, mixes, full):
            launched(rule, formats, [c], (1, 129, 2_051, 1_025), cc, stats=True)


def test_schedule_free(full):
    """In the place of Adam's first moment, and beside that of Lion."""
    mixes = {"f32": "f32 f32", "split": "bf16s bf16s", "q8": "q44 q43"}
    for name, mix in (*(("adam", mix) for mix in mixes), ("lion", "f32")):
        rule = with_pieces(RULES[name], "schedule_free", "decoupled", plain=())
        formats = f"{formats_of(RULES['sgd'], mix)} {mixes[mix]}"
        c = rule.at(3, float_type(formats), weight_decay=0.1, decay="decoupled", lr=0.05)
        for cc in one_of_two(mix, mixes, full):
            launched(rule, formats, [c], (1, 129, 2_051, 1_025), cc, stats=True)


AHEAD = ["f32 f32 q43", "split bf16 q43", "bf16s bf16 q43", "split bf16 bf16s", "f64 f64 q44", "f16s f16 f16s"]


@pytest.mark.parametrize("formats", AHEAD)
def test_look_ahead(formats, full):
    """The point is written, all else is read."""
    c = LOOK_AHEAD.Coefficients(float_type(formats)(0.9))
    (of_p, *_), (of_out, *_), (of_v, *_) = slots_of(formats)
    tensors = [values(formats, n, 10*k) for k, n in enumerate(SIZES)]
    skips = [skips_of(formats, (ALIGNED, APART)[k % 2]) for k in range(len(SIZES))]
    for cc in one_of_two(formats, AHEAD, full):
        launch = Launch(LOOK_AHEAD, formats, tensors, [c], cc=cc, skips=skips, stats=True)
        for k, (arrays, n) in enumerate(zip(tensors, SIZES, strict=True)):
            have, (p, _, v) = by_slot(formats, launch.slots(k)), by_slot(formats, arrays)
            ahead, x = numbers(v, of_v, n), numbers(p, of_p, n)
            with np.errstate(all="ignore"):
                want = encoded(x - c.ahead*ahead.astype(x.dtype), of_out)
            assert_same_parts(have[1], want, of_out, n, f"{formats}: {n} elements")
            for a, b in zip((*have[0], *have[2]), (*p, *v), strict=True):
                assert_identical(a, b)
            assert all(placed.untouched_around() for placed in launch.tensors[k])


def test_codes_of_every_kind():
    """Blocks of all 256 codes under exponents from the lowest to the highest, some of zeros only."""
    rule, n = RULES["adam"], 128*60
    formats, rng = formats_of(rule, "q8"), np.random.default_rng(1)
    arrays = values(formats, n, 1)
    for at in (2, 4):
        arrays[at][:] = rng.integers(0, 256, n)
        arrays[at + 1][:] = np.linspace(16, 254, 60)
        arrays[at][128*7:128*9] = 0
        arrays[at + 1][7:9] = 0, 16
    arrays[0][128*7:128*8] = 0
    c = rule.at(3, np.float32)
    check(Launch(rule, formats, [arrays], [c], seed=SEED, step=STEP), rule, c, formats, arrays, 0)


def test_no_half_precision_hardware_is_needed_for_bfloat16():
    """On Turing the formula rounds, with the same bits."""
    rule, formats = RULES["adam"], formats_of(RULES["adam"], "bf16")
    assert "cvt.rn.bf16" not in cuda_code(rule, formats, (7, 5), "ptx")
    launched(rule, formats, [rule.at(1, np.float32)], (2_000,), (7, 5), nasty)


def test_without_an_instruction_that_reduces_a_warp():
    """On Turing shuffles find the largest number of a block, with the same bits."""
    rule, formats = RULES["adam"], formats_of(RULES["adam"], "q8")
    for cc, shuffles, reductions in (((7, 5), True, False), ((8, 0), False, True)):
        ptx = cuda_code(rule, formats, cc, "ptx")
        assert ("shfl.sync.bfly" in ptx, "redux.sync.max.u32" in ptx) == (shuffles, reductions)
    launched(rule, formats, [rule.at(1, np.float32)], (1_030,), (7, 5), nasty)


# Tiles, strides and skipped steps

@pytest.mark.parametrize("mix", ["f32", "split", "bf16s q8", "f16s"])
def test_any_grid_and_tile_give_the_same(mix):
    rule, formats = RULES["adam"], formats_of(RULES["adam"], mix)
    arrays, c = values(formats, 5_000, 3), rule.at(1, np.float32)
    found = [Launch(rule, formats, [arrays], [c], blocks=blocks, tile=tile, seed=SEED, step=STEP).slots()
             for blocks, tile in ((1, 0), (2, 512), (50, 128), (3, 4_992), (1, 2_048),
                                  *([(50, 60)] if mix == "f32" else []))]
    for other, (k, want) in itertools.product(found[1:], enumerate(found[0])):
        assert_identical(other[k], want)


@pytest.mark.parametrize("cc", CHIPS)
def test_whose_the_next_tile_is_is_asked_before_the_elements(cc, monkeypatch):
    """Then the addresses of its tensor need not wait for that."""
    at, asked = {}, []

    class Watched(Memory):
        def add(self, array, name=""):
            at[name] = super().add(array, name)
            return at[name]

        def locate(self, addresses, size, word):
            asked.append(int(addresses[0]))
            return super().locate(addresses, size, word)

    def before(first_element, tile):
        return at["tiles"] + 32*tile in asked[:asked.index(first_element)]

    monkeypatch.setattr(emulation, "Memory", Watched)
    rule = RULES["adam"]
    for formats in (formats_of(rule, "f32"), formats_of(rule, "q8")):
        asked.clear()
        two = Launch(rule, formats, [values(formats, 1_000, k) for k in range(2)], [rule.at(1, np.float32)], cc=cc,
                     blocks=1)
        assert before(two.tensors[0][0].address, 1)
    asked.clear()
    Squares("f32 f32", [np.ones(40_000, np.float32)], cc, blocks=1)  # eight warps take the first eight tiles
    assert before(at["gradient 0"] + 4*emulation.GUARD, 8)


@pytest.mark.parametrize(("formats", "cc", "most", "least"), [
    ("f32 f32 f32 f32", HOPPER, 2_048, 1_024), ("f32 f32 q43 q44", HOPPER, 4_096, 1_024),
    ("bf16 bf16 bf16 bf16", BLACKWELL, 8_192, 4_096)])
def test_few_elements_are_spread_over_all_processors(formats, cc, most, least):
    """In tiles of fewer rounds; blocks stay whole."""
    def tile(*sizes):
        return tile_size(layout(formats), cc, sizes, 132)
    assert tile(132*most) == tile(*[most//2]*132) == tile_size(layout(formats), cc) == most
    assert tile(132*most//2) == most//2
    assert tile(100_000) == tile(1) == tile(*[3]*131) == least


@pytest.mark.parametrize("cc", CHIPS)
def test_lines_behind_the_first_round_of_a_tile_are_asked_for(cc):
    """Each line once: of what a step reads, not of a copy, the point of a look-ahead, or a gradient with strides."""
    copied = with_pieces(RULES["adam"], "copy", plain=())
    for rule, formats, read in (
            (RULES["adam"], "f32 f32 q43 q44", (0, 1, 2, 4)), (copied, "f32 split q43 q44 bf16", (0, 1, 2, 3, 5)),
            (LOOK_AHEAD, "f32 f32 q43", (0, 2))):
        c = rule.Coefficients(np.float32(0.9)) if rule is LOOK_AHEAD else rule.at(1, np.float32)
        tile = 4*1_024
        for n in (1, 1_024, 1_025, tile, tile + 1_030, 2*tile + 500):
            launch = Launch(rule, formats, [values(formats, n, 1)], [c], cc=cc, seed=SEED, step=STEP)
            asked = np.concatenate([[], *launch.run.spaces.prefetched]).astype(np.int64)
            want = [launch.tensors[0][k].address + begin*size + 128*line for k in read
                    for size in [itemsizes(formats)[k]//SIZE] for first in range(0, n, tile)
                    for begin in [first + 1_024] for line in range(-(-(min(n, first + tile) - begin)*size//128))]
            assert sorted(asked) == sorted(want), (formats, n)
    formats, arrays = "f32* f32 q43 q44", values("f32 f32 q43 q44", 77*91, 1)
    g = np.asfortranarray(arrays[0].reshape(77, 91))
    launch = Launch(RULES["adam"], formats, [[g.reshape(-1, order="F"), *arrays[1:]]],
                    [RULES["adam"].at(1, np.float32)], cc=cc, layouts=[strided_gradient(g, arrays[1].reshape(77, 91))])
    low, asked = launch.tensors[0][0].address, np.concatenate(launch.run.spaces.prefetched).astype(np.int64)
    assert asked.size > 0
    assert not ((low <= asked) & (asked < low + g.nbytes)).any()


FAR = ["bf16 f32 f64 bf16", *(formats_of(RULES["adam"], mix) for mix in MIXES if mix not in ("f64", "bf16"))]


@pytest.mark.parametrize("formats", FAR)
def test_elements_far_behind(formats):
    """Tiles that begin beyond 2**31, 2**32 and 2**33, of tensors of which only that part exists."""
    for begin in (2**31 - 1_024, 2**32 - 2_048, 2**33 + 128):
        c = RULES["adam"].at(3, float_type(formats))
        launched(RULES["adam"], formats, [c], (3_000,), CHIPS[FAR.index(formats) % 2], begin=begin, stats=True)


def backwards(a):
    return a[(slice(None, None, -1),)*a.ndim].copy()[(slice(None, None, -1),)*a.ndim]


STRIDED = [((37, 61), np.asfortranarray), ((37, 61), backwards), ((300,), lambda a: np.repeat(a, 2)[::2]),
           ((5, 6, 7), lambda a: a[::-1, :, ::-1].copy()[::-1, :, ::-1]),
           ((40, 3), lambda a: np.broadcast_to(a[:1, :1], a.shape))]


@each_mix
def test_strided_gradients(mix, full):
    """Of the transpose, backwards, every other number, and one number for all."""
    rule = RULES["adam"]
    formats = formats_of(rule, mix)
    for cc, (shape, change) in itertools.product(one_of_two(mix, MIXES, full), STRIDED):
        arrays = values(formats, int(np.prod(shape)), 2)
        view = change(arrays[0].reshape(shape))
        low, high = np.lib.array_utils.byte_bounds(view)
        memory = np.ctypeslib.as_array((np.ctypeslib.ctypes.c_uint8*(high - low)).from_address(low)).view(view.dtype)
        given, c = [memory, *arrays[1:]], rule.at(3, float_type(formats))
        layout = strided_gradient(view, np.zeros(shape, arrays[1].dtype))
        how = {"first": (view.ctypes.data - low)//view.itemsize, "seed": SEED, "step": STEP, "numbers": [5]}
        launch = Launch(rule, formats.replace(" ", "* ", 1), [given], [c], cc=cc, layouts=[layout], stats=True, **how)
        check(launch, rule, c, formats, given, 5, g=np.ascontiguousarray(view).reshape(-1))


@each_mix
def test_a_skipped_step_writes_nothing(mix):
    formats = formats_of(RULES["adam"], mix, "!")
    arrays = values(formats, 3_000, 4)
    launch = Launch(RULES["adam"], formats, [arrays], [RULES["adam"].at(1, float_type(formats))], skip=1, stats=True)
    for have, want in zip(launch.slots(), arrays, strict=True):
        assert_identical(have, want)
    assert launch.run.traffic["stored_bytes"] == 0


# Sums of squares

def test_sums_of_squares_are_those_of_the_cpu(full):
    """Partial sums of 4,096 elements in the same order, so with the same bits; those of a strided gradient too."""
    for format in FORMATS:
        formats, sizes = f"{format} {format}", (1, 31, 33, 63, 64, 65, 4_095, 4_096, 4_097, 10_000)
        gs = [stored(normal(n, n)*10.0**(n % 7 - 3), format) for n in sizes]
        for cc in one_of_two(format, FORMATS, full):
            assert_identical(Squares(formats, gs, cc).sums, sums_of_squares(formats, gs))
    g, cc = np.asfortranarray(normal(1, 77, 91).astype(np.float32)), one_of_two("f32", FORMATS, False)[0]
    strided = Squares("f32* f32", [g.reshape(-1, order="F")], cc,
                      layouts=[strided_gradient(g, np.ascontiguousarray(g))])
    assert_identical(strided.sums, Squares("f32 f32", [np.ascontiguousarray(g).reshape(-1)], cc).sums)


def test_sums_of_squares_see_one_bad_element():
    for bad, k in itertools.product((np.inf, -np.inf, np.nan), (0, 1_000, 4_095, 4_096, 5_000)):
        g = np.ones(5_001, np.float32)
        g[k] = bad
        assert np.isfinite(Squares("f32 f32", [g], HOPPER).sums).tolist() == [k >= 4_096, k < 4_096]


# The code itself

@each_rule
def test_code(name, cases):
    """Wide accesses, no contraction, no approximation, no local or shared memory; of float32 the machine code too."""
    rule, older = RULES[name], (list(MIXES)[list(RULES).index(name) % 9], (8, 0))
    for mix, cc in (*cases, older):
        formats = formats_of(rule, mix)
        if mix == "f32":
            function, image = cuda_code(rule, formats, cc)
            assert image[:4] == b"\x7fELF"
            assert function.encode() in image
        ptx = cuda_code(rule, formats, cc, "ptx")
        assert not re.findall(r"fma|approx|ftz|\.full|\.local|\.shared", ptx), (mix, cc)
        assert (".f64" in ptx) == (mix == "f64"), (mix, cc)
        wide = re.findall(r"(?:ld|st)\.global\.v(\d)\.[a-z](\d+)", ptx)
        plain = [f for f, *_ in slots_of(formats) if not f.block]
        widths = {int(count)*int(bits)//8 for count, bits in wide}
        assert widths == {cuda_lanes(formats, cc)*f.itemsize for f in plain}, (mix, cc)
        if mix in FORMATS:
            assert widths == {32 if cc == BLACKWELL else 16}
            assert len(wide) == 2*len(plain) - 1


def test_no_more_bytes_than_a_step_must_move():
    """Sectors of 32 bytes: within 6 % of the bytes of the slots, or 1.02 bytes, with tables and coefficients. Exponents
    take sectors for themselves as they are counted here, four times for a block of two slots. That is a byte more for
    an element, but in the cache 16 blocks share a sector."""
    for formats, moved, exponents in (
            ("f32 f32 f32 f32", 28, 0), ("bf16 bf16 f32 f32", 22, 0), ("bf16 bf16 bf16 bf16", 14, 0),
            ("f64 f64 f64 f64", 56, 0), ("f32 f32 q43 q44", 16, 1), ("bf16 bf16s q43 q44", 10, 1),
            ("bf16 bf16s bf16s bf16s", 14, 0), ("bf16 split bf16s bf16s", 18, 0)):
        c = RULES["adam"].at(1, float_type(formats))
        launch = Launch(RULES["adam"], formats, [values(formats, 32_768, 1)], [c], blocks=2, stats=True)
        sectors = launch.run.traffic["loaded_sectors"] + launch.run.traffic["stored_sectors"]
        most = 1.06*moved if formats.split()[1] in FORMATS and not exponents else max(1.06*moved, moved + 1.02)
        assert moved <= 32*sectors/32_768 - exponents <= most, formats
