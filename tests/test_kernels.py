"""The promise about bits: a step gives what its rule gives on NumPy arrays, for all formats, sizes, addresses."""
import itertools
import os
import random

import numpy as np
import pytest
from conftest import (
    BFLOAT16,
    DTYPES,
    LARGE_LR,
    OPTIMIZERS,
    OWN,
    RULES,
    SHARED,
    assert_identical,
    assert_same_bits,
    decoded,
    nasty,
    normal,
    stored,
    unaligned,
)
from internals import cpu_kernel, float_type, formats_of, job
from reference import MIXES, SIZES, Twin, gradients, made, tiles_of

from fastopt._formats.blocks import SIZE
from fastopt._formats.catalogue import FORMATS, STORED
from fastopt._tensors.tensors import make_tiles
from fastopt.storage import coded_bytes

LARGE = (100_003,)
ALL_PIECES = {"clip_value": 0.3, "grad_factor": -1.7}  # with a weight decay: each set of pieces is a kernel of its own
each_rule = pytest.mark.parametrize("name", RULES)


@pytest.fixture
def mixes(name, full):
    """float32 and every fifth other mix of formats, which ones depends on the rule; all with --full."""
    first = list(RULES).index(name) % 5
    return list(MIXES) if full else ["f32", *list(MIXES)[1 + first::5]]


def start(name, mix, sizes=(1_031,), seed=0, **hyper):
    params = [stored(normal(seed + k, n), MIXES[mix][0]) for k, n in enumerate(sizes)]
    return Twin(made(name, params if len(params) > 1 else params[0], mix, **hyper))


# The promise, for every rule

@each_rule
def test_every_size(name, mixes):
    """Small ones in one call: elements behind vectors, pairs, blocks and companies of blocks."""
    for mix in mixes:
        twin = start(name, mix, SIZES, seed=1, **OWN[name][0])
        for t in range(4):
            twin.step(gradients(twin.opt, t))
        large = start(name, mix, LARGE, seed=2)
        for t in range(2):
            large.step(gradients(large.opt, t))


@each_rule
def test_hyperparameters(name, mixes):
    """Every set of its own, without pieces around the rule; in float32 with all, and the sets that rules share."""
    bare = [(mix, hyper, {}) for mix in mixes for hyper in OWN[name]]
    for mix, hyper, how in (*bare, *(("f32", hyper, ALL_PIECES) for hyper in (*OWN[name], *SHARED))):
        twin = start(name, mix, (259,), **{**(SHARED[1] if how else {}), **hyper})
        for t in range(4):
            twin.step(gradients(twin.opt, t), **how)


def test_any_pieces(full):
    """A kernel holds those for which the group and the step ask."""
    hows = {}, {"clip_value": 0.4}, {"grad_factor": 0.37}, ALL_PIECES
    for name, hyper, how in itertools.product(RULES if full else ["adam"], ({}, *SHARED), hows):
        twin = start(name, "f32", (259,), **hyper)
        for t in range(3):
            twin.step(gradients(twin.opt, t), **how)


def anything(format, n, index):
    """Random bits among specials; blocks of any codes with any exponents but those that no step leaves."""
    if not format.block:
        return nasty(n, index, np.float64 if format.name == "f64" else np.float32)
    rng = np.random.default_rng(index)
    array = rng.integers(0, 256, coded_bytes(n)).astype(np.uint8)
    array[n:len(array)//(SIZE + 1)*SIZE] = 0
    array[len(array)//(SIZE + 1)*SIZE:] = rng.integers(16, 255, len(array)//(SIZE + 1))
    return array


@each_rule
def test_nasty_numbers(name, mixes):
    """Any bits in gradient, parameter and state: NaN and infinities at the right places, all other bits equal."""
    for mix, how in (*((mix, {}) for mix in mixes), ("f32", {"clip_value": 1e30, "grad_factor": 0.5})):
        twin, format = start(name, mix, (4_099,), **(SHARED[1] if how else {})).fill(anything), MIXES[mix][0]
        for t in range(3):
            with np.errstate(all="ignore"):
                g = stored(nasty(4_099, 20 + t, np.float64 if format == "f64" else np.float32), format)
            twin.step([g], **how)
        assert not np.isnan(decoded(twin.opt.params, format)).all()


@each_rule
def test_every_element_changes_and_nothing_beside_them(name, mixes):
    """Guards around the parameter keep their bytes, also where a last block is not whole."""
    for mix, n in itertools.product(mixes, (1, 127, 129, 1_031)):
        format = MIXES[mix][0]
        wide = stored(np.full(n + 256, 3.0), format)
        guard, p = wide[:128].copy(), wide[128:128 + n]
        p[...] = stored(np.linspace(0.5, 1, n), format)
        before, g = decoded(p, format), np.where(np.arange(n) % 2, -1.0, 1.0)*np.linspace(1, 2, n)
        opt = made(name, p, mix, lr=LARGE_LR.get(name, 0.05))
        for _ in range(2 if name == "adopt" else 1):  # its first step moves nothing
            opt.step(stored(g, format))
        assert (np.sign(decoded(p, format) - before) == -np.sign(g)).all(), (mix, n)
        assert_identical(wide[:128], guard, mix)
        assert_identical(wide[128 + n:], guard, mix)


def ways(name, mix, sizes):
    """Bytes after three steps, for any threads, tiles and addresses (most are no multiples of an element's size)."""
    offsets = random.Random(f"{name} {mix}").sample(range(1, 64), 5)
    for threads, tile, offset in zip((1, 2, 2, 3, 4, 1, 2, 1), (0, 0, 5_000, 1024, 128, 100, 0, 0),
                                     (0, 0, 2, *offsets), strict=True):
        params = [unaligned(stored(normal(k, n), MIXES[mix][0]), offset) for k, n in enumerate(sizes)]
        opt = made(name, params, mix, threads=threads)
        with tiles_of(opt, tile):
            for t in range(3):
                opt.step([unaligned(g, (offset + 17*t) % 64) for g in gradients(opt, t)])
        slots = [slot for k in range(len(sizes)) for slot in Twin(opt).have(k)]
        yield (mix, threads, tile, offset), [part.tobytes() for slot in slots for part in slot]


@pytest.mark.parametrize("name", ["sgd", "momentum", "adam", "amsgrad"])  # of no, one, two and three states
def test_threads_tiles_and_addresses_do_not_matter(name, mixes):
    for mix in mixes:
        (_, first), *others = ways(name, mix, (70_001, 1_025, 129))
        for how, other in others:
            assert other == first, how


@each_rule
def test_step_numbers(name):
    """Of any size, in float32 and where they decide what is drawn."""
    mixes = ("f32", "bf16s q8") if name == "rmsprop" else ("f32",)
    for mix, t in itertools.product(mixes, (2**24, 2**31 - 1, 2**32 - 1, 2**53)):
        twin = start(name, mix, (129,), seed=4, **({"b2": 1 - 1e-8} if "b2" in RULES[name].defaults else {}))
        twin.opt.t = t - 1
        twin.step(gradients(twin.opt, 1)).step(gradients(twin.opt, 2))
        assert twin.opt.t == t + 1
        assert np.isfinite(decoded(twin.opt.params, MIXES[mix][0])).all()


# Formats

PARAMETERS = {"f64": ("f64", "nearest"), "f32": ("f32", "nearest"), "f16": ("f16", "nearest"),
              "bf16": ("bf16", "nearest"), "f16s": ("f16", "stochastic"), "bf16s": ("bf16", "stochastic"),
              "split": ("bf16", "remainder")}
STATES = [f for f in STORED if f != "split"]


def in_every_slot(name):
    """Formats of gradient, parameter and states such that every slot takes every format that it may have. Of the
    blocks, q44 has no sign, and q43 would round a small second moment to zero."""
    rng, states = random.Random(name), RULES[name].state
    of_states = [[f for f in STATES if f != ("q43" if state in RULES[name].nonnegative else "q44")] for state in states]
    columns = [list(FORMATS), list(PARAMETERS), *of_states]
    count = max(map(len, columns))
    shuffled = [(rng.sample(column, len(column))*count)[:count] for column in columns]
    return list(zip(*shuffled, strict=True))


def test_any_format_in_any_slot(full):
    """Of a rule of three states; with --full of all."""
    rows = [(name, *row) for name in (RULES if full else ["amsgrad"]) for row in in_every_slot(name)]
    for name, g, p, *states in rows:
        plain, rounding = PARAMETERS[p]
        sizes = (5, 128, 517, 2_049)
        params = [stored(normal(k, n), plain) for k, n in enumerate(sizes)]
        asked = dict(zip(RULES[name].state, states, strict=True))
        twin = Twin(OPTIMIZERS[name](params, state=asked, rounding=rounding, seed=2**63 - 1, **SHARED[1]))
        assert [f.name for f in twin.formats(0)] == [p, *states]
        for t in range(3):
            twin.step(gradients(twin.opt, t, g), **ALL_PIECES)
        with np.errstate(all="ignore"):
            twin.step([stored(nasty(n, 5), g) for n in sizes], clip_value=1e20, grad_factor=2.0)


def test_bits_of_bfloat16_are_bfloat16():
    """Arrays of ml_dtypes and their uint16 views, parameters and gradients, in all pairings."""
    for mix in ("bf16s", "split"):
        results = []
        for of_p, of_g in itertools.product((np.uint16, BFLOAT16), repeat=2):
            p = stored(normal(1, 333), "bf16").view(of_p)
            opt = made("adam", p, mix, lr=0.1)
            for t in range(3):
                opt.step(stored(normal(t, 333), "bf16").view(of_g))
            results.append([p.view(np.uint16).tobytes(), *(a.tobytes() for a in opt.state.values())])
        assert results == [results[0]]*4, mix


# Strides

SHAPES = [(1,), (3, 4, 5), (1, 33), (33, 1), (2, 3, 1, 4, 5), (7, 0), (70, 131)]


def views(a):
    """Arrays with the numbers of `a` whose elements lie elsewhere."""
    wide = np.zeros([3*n + 2 for n in a.shape], a.dtype)
    sliced = wide[tuple(slice(1, 3*n + 1, 3) for n in a.shape)]
    back = np.zeros([2*n for n in a.shape], a.dtype)[tuple(slice(None, None, -2) for _ in a.shape)]
    turned, rows = np.zeros(a.shape[::-1], a.dtype).T, np.zeros((a.shape[0] + 2, *a.shape[1:]), a.dtype)[1:-1][::-1]
    columns = np.zeros((*a.shape[:-1], a.shape[-1] + 3), a.dtype)[..., 2:-1]
    records = np.zeros(a.shape, [("", np.uint8), ("g", a.dtype)])["g"]  # strides are no multiples of the item
    found = [sliced, back, turned, rows, columns, records]
    for view in found:
        view[...] = a
    return found


def orders(a):
    """`a` in memory ordered by its axes, by their reverse, and with the first one last."""
    axes = tuple(range(a.ndim))
    ways = {axes, axes[::-1], axes[1:] + axes[:1]}
    return [np.ascontiguousarray(a.transpose(way)).transpose(np.argsort(way)) for way in ways]


def broadcast(a):
    """Arrays that repeat a part of `a` along its first axes, or along all but the last."""
    parts = [a[..., :1], *(a[(slice(1),)*k] for k in range(1, a.ndim + 1))]
    return [np.broadcast_to(part, a.shape) for part in parts]


@pytest.mark.parametrize("mix", ["f32", "split", "bf16s q8"])
def test_strided_gradients_and_parameters_in_any_order(mix, full):
    """Elements, their random bits and their blocks are counted in the memory order of the parameter."""
    format = MIXES[mix][0]
    for name in RULES if full else ("adam",):
        for shape in SHAPES:
            g = stored(normal(2, *shape), format)
            for p in orders(stored(normal(1, *shape), format)):
                twin = Twin(made(name, p, mix, **SHARED[1]))
                for view in (*orders(g), *views(g), *(broadcast(g) if g.size else ())):
                    twin.step([np.ascontiguousarray(view)], [view], **ALL_PIECES)


def test_the_norm_of_strided_gradients_is_that_of_their_copies():
    for shape in ((40, 50), (3, 4, 5), (7, 0)):
        g, found = stored(normal(2, *shape), "bf16"), []
        for view in (*views(g), *(broadcast(g) if g.size else ())):
            for given in (view, np.ascontiguousarray(view)):
                found.append(stored(normal(1, *shape), "bf16"))
                OPTIMIZERS["sgd"](found[-1], threads=1).step(given, clip_norm=0.5)
            assert_identical(found[-2], found[-1], f"{shape}")


def test_size_1_dimensions_and_0_d_gradients_may_have_any_strides():
    odd, g = np.lib.stride_tricks.as_strided, stored(normal(2, 9), "f32")
    for shape, strides in (((9, 1), (4, 12_344)), ((1, 9), (-77, 4)), ((), ())):
        for p in (np.array(normal(1, *shape), np.float32), odd(g.copy(), shape, strides)):
            twin = Twin(OPTIMIZERS["adam"](p))
            twin.step([g[:9 if shape else 1].reshape(shape)], [odd(g, shape, strides)])


@pytest.mark.parametrize(("name", "mix"), [("adam", "f32"), ("momentum", "split"), ("amsgrad", "q8")])
def test_the_gradient_may_be_the_parameter(name, mix):
    twin = start(name, mix, (1_025,))
    twin.step([twin.opt.params.copy()], [twin.opt.params])


# Beyond 2**31

@pytest.mark.parametrize(("name", "format"), [("adam", "f64"), ("adam", "bf16"), ("momentum", "f32")])
def test_elements_past_2_to_the_31(name, format):
    """Of imaginary tensors: their addresses lie `first` elements before real memory. Momentum's gradient is strided."""
    rule, itemsize, strided, n = RULES[name], DTYPES[format]().itemsize, name == "momentum", 500
    _, *written = formats_of(rule, format).split()
    formats = " ".join([format + "*"*strided, *written])
    kernel = cpu_kernel(rule, formats)
    for first in (2**31 - 250, 2**31, 2**32 - 250, 2**32 + 1, 2**33 + 7, 2**34 + 100, 2**40 + 3):
        g, p = stored(normal(1, n), format), stored(normal(2, n), format)
        slots = [p, *(stored(abs(normal(3 + k, n)), f) for k, f in enumerate(written[1:]))]
        memory = [np.concatenate([np.full(64, 1, a.dtype), a, np.full(64, 1, a.dtype)]) for a in slots]
        c = rule.at(5, float_type(formats), weight_decay=0.1)
        # the product of the extents may be more than 2**63: only positions and strides matter
        layout = [[2, 2**35, 2**33 + 5, 2*itemsize*(2**33 + 5), 2*itemsize]] if strided else []
        columns = [[np.repeat(g, 2)[::2] if strided else g], *([a[64:-64]] for a in memory)]
        it = job(formats, columns, c, layout, tile=100)
        steps = np.array([itemsize*(1 + strided), *(a.itemsize for a in memory)])
        it.table[0, :len(steps)] -= first*steps
        it.tiles[:, 2:] += first
        it.run(kernel, 1)
        values = [decoded(a, f) for a, f in zip((g, *slots), (format, *written), strict=True)]
        new = rule(c, *(x.astype(float_type(formats)) for x in values))
        for a, right, f in zip(memory, new, written, strict=True):
            assert_same_bits(a[64:-64], stored(right, f), f"{first}", f)
            assert (a[:64] == 1).all()
            assert (a[-64:] == 1).all()


def test_tiles_of_tensors_past_2_to_the_31():
    sizes, groups = [2**33 + 7, 0, 5, 2**31 + 1], [0, 0, 1, 2]
    tiles = make_tiles(sizes, groups, 131_072)
    for tensor, n in enumerate(sizes):
        own = tiles[tiles[:, 0] == tensor]
        assert (own[:, 3] - own[:, 2]).sum() == n
        assert np.array_equal(own[1:, 2], own[:-1, 3])
        assert not n or (own[0, 2], own[-1, 3]) == (0, n)
        assert (own[:, 1] == groups[tensor]).all()


def test_a_float16_array_past_2_to_the_31_elements(full):
    n = 2**31 + 4_097
    if not full or os.sysconf("SC_AVPHYS_PAGES")*os.sysconf("SC_PAGE_SIZE") < 3*n:
        pytest.skip("needs --full and 6.4 GB of free memory")
    p = np.zeros(n, np.float16)
    OPTIMIZERS["sgd"](p, lr=0.5).step(np.broadcast_to(np.float16(1), n))
    assert (p.view(np.uint16).min(), p.view(np.uint16).max()) == (0xB800, 0xB800)


def test_a_clip_value_beyond_float32_clips_nothing():
    found = []
    for how in ({}, {"clip_value": 1e39}, {"clip_value": 1e300, "grad_factor": 1.0}):
        opt = start("adam", "f32", (65,)).opt
        for t in range(2):
            opt.step(stored(normal(t, 65), "f32"), **how)
        found.append(opt.params)
    for other in found[1:]:
        assert_identical(other, found[0])


# What is drawn

def three_steps(sizes=(500,), t=0, **how):
    params = [stored(np.ones(n), "bf16") for n in sizes]
    opt = OPTIMIZERS["sgd"](params, lr=1e-3, rounding="stochastic", **how)
    for step in range(3):
        if t is None:  # one that was loaded anew for every step
            opt = OPTIMIZERS["sgd"](params, lr=1e-3, rounding="stochastic", **how)
        opt.t = (t or 0) + step
        opt.step([stored(np.full(n, 0.37), "bf16") for n in sizes])
    return params


def test_the_seed_the_step_and_the_tensor_decide_what_is_drawn():
    """`t` counts, not how many steps this optimizer took: a run that goes on draws what it would have drawn."""
    first, = three_steps()
    for one in (three_steps(), three_steps(seed=0), three_steps((500, 500)), three_steps(t=None)):
        assert_identical(one[0], first)
    for other in (three_steps(seed=1)[0], three_steps(seed=2**63 - 1)[0], three_steps(t=7)[0],
                  three_steps((500, 500))[1]):
        assert 0.02 < (other != first).mean() < 0.6
    assert len(np.unique(first)) > 1


# What low precision does to training

def effective_step(state):
    """Adam's mean step after gradients became 10 times smaller, in units of lr*sign(g): about 1 if v has followed."""
    n = 1_024
    p = np.zeros(n, np.float32)
    opt = OPTIMIZERS["adam"](p, lr=1e-3, b1=0.0, b2=0.999, state=state)
    large = np.random.default_rng(1).choice([0.9, 1.0, 1.1], (50, n)).astype(np.float32)
    small = large*np.float32(0.1)
    for t in range(8_000):
        if t == 7_900:
            before = p.copy()
        opt.step((large if t < 1_000 else small)[t % 50])
    return (before - p).mean()/(100*1e-3)


def test_second_moments_follow_smaller_gradients_unless_rounded_to_nearest():
    """bfloat16 to nearest freezes: (1 - b2)*v is less than half a unit of v."""
    want = effective_step(None)
    assert 0.95 < want < 1.05
    assert effective_step("bf16")/want < 0.5
    for state in ("bf16s", {"v": "q44"}):
        assert abs(effective_step(state)/want - 1) < 0.03, state


NOT_ZERO = {("rprop", "size"), ("adamax", "top"), ("adabelief", "v"), ("yogi", "v")}  # beside a gradient of 0


@each_rule
def test_weights_without_gradients_stay(name, mixes):
    """Whatever is drawn, and beside others of their block that get gradients of all sizes."""
    n, quiet = 300, np.arange(300) % 3 == 0
    for mix in mixes:
        plain, rng = MIXES[mix][0], np.random.default_rng(2)
        p = stored(np.linspace(-2, 2, n), plain)
        lr = LARGE_LR[name] if name == "adadelta" else 0.05
        before, opt = p.copy(), made(name, p, mix, lr=lr, weight_decay=0.0)
        for t in range(100):
            opt.step(stored(np.where(quiet, 0, normal(t, n)*10.0**rng.uniform(-4, 4, n)), plain))
        assert_identical(p[quiet], before[quiet])
        assert (p[~quiet] != before[~quiet]).mean() > 0.9, mix
        for state in opt.rule.state:
            assert (name, state) in NOT_ZERO or (opt.decoded(state)[quiet] == 0).all(), (mix, state)
