"""The promise about bits: a step gives what its rule gives on NumPy arrays, over sizes, formats, layouts, addresses and step numbers."""
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
    SIZES,
    Walk,
    assert_identical,
    assert_same_bits,
    bits,
    decoded,
    nasty,
    normal,
    stored,
    unaligned,
)

from fastopt._cpu import jobs as binding
from fastopt._cpu.loops import step_kernel
from fastopt._formats.scalars import FORMATS

each_rule = pytest.mark.parametrize("name", RULES)
each_format = pytest.mark.parametrize("format", FORMATS)
COMPUTED = ("f32", "f64")
HALF = ("f16", "bf16")


def start(name, n, format="f32", seed=0, **hyper):
    """A walk from random parameters that lie between guards, at an odd address where the format has one."""
    return Walk(name, stored(normal(seed, n), format), [format] + ["f64" if format == "f64"
                                                                   else "f32"]*len(RULES[name].state), **hyper)


# The promise, for every rule

@each_rule
@pytest.mark.parametrize("format", COMPUTED)
def test_every_size(name, format):
    for n in SIZES:
        walk = start(name, n, format)
        for t in range(2 if n > 10_000 else 7):
            walk.step(stored(normal(100 + t, n), format))


@each_rule
@pytest.mark.parametrize("hyper", range(len(SHARED) + 3))
def test_hyperparameters(name, hyper):
    """Every set of its own and of those that all rules share, with and without clipping by value and a gradient factor."""
    sets = [*SHARED, *OWN[name]]
    for how in ({}, {"clip_value": 0.4}, {"grad_factor": 0.37}, {"clip_value": 0.3, "grad_factor": -1.7}):
        walk = start(name, 259, **sets[hyper % len(sets)])
        for t in range(6):
            walk.step(stored(normal(t, 259), "f32"), **how)


@each_rule
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("how", [{}, {"clip_value": 1e30, "grad_factor": 0.5}], ids=["plain", "clipped"])
def test_nasty_numbers(name, format, how):
    """Any bits in gradient, parameter and state: NaN and infinities at the same places, all other bits equal, subnormals and -0 too."""
    n, wide = 4_099, np.float64 if format == "f64" else np.float32
    with np.errstate(all="ignore"):
        walk = Walk(name, stored(nasty(n, 1, wide), format), [format]*(1 + len(RULES[name].state)), weight_decay=0.1)
        for k, state in enumerate(walk.have()[1:]):
            state[...] = stored(nasty(n, 10 + k, wide), format)
        walk.want = [a.copy() for a in walk.have()]
        for t in range(3):
            walk.step(stored(nasty(n, 20 + t, wide), format), **how)
    assert not np.isnan(decoded(walk.p, format)).all()


@each_rule
@pytest.mark.parametrize("value", ["tiny", "smallest_subnormal", "max", "eps"])
def test_extreme_gradients(name, value):
    g = np.full(37, getattr(np.finfo(np.float32), value))
    walk = start(name, 37)
    with np.errstate(all="ignore"):
        for sign in (1, -1, 1):
            walk.step((sign*g).astype(np.float32))


@each_rule
@each_format
def test_every_element_changes_and_nothing_beside_them(name, format):
    """Guards around the parameter keep their bytes."""
    n = 1_031
    lr = LARGE_LR.get(name, 0.05)
    raw = np.full((n + 128)*DTYPES[format]().itemsize, 0x5A, np.uint8)
    p = raw.view(DTYPES[format])[64:64 + n]
    p[...] = stored(np.linspace(0.5, 1, n), format)
    before, guards = p.copy(), (raw.view(DTYPES[format])[:64], raw.view(DTYPES[format])[64 + n:])
    g = np.where(np.arange(n) % 2, -1.0, 1.0)*np.linspace(1, 2, n)
    OPTIMIZERS[name](p, lr=lr, threads=1).step(stored(g, format))
    moved = decoded(p, format) - decoded(before, format)
    assert (np.sign(moved) == -np.sign(g)).all()
    assert all((guard.view(np.uint8) == 0x5A).all() for guard in guards)


@each_rule
@each_format
def test_any_byte_is_a_start(name, format):
    """Parameter, state and gradient at every offset of a 64-byte line, multiples of the element's size or not."""
    n, itemsize = 203, DTYPES[format]().itemsize
    offsets = random.Random(f"{name} {format}").sample(range(1, 64), 10)
    for offset in (*offsets, itemsize, 32, 33):
        p = unaligned(stored(normal(1, n), format), offset)
        assert p.ctypes.data % 64 == offset
        walk = start(name, n, format)
        walk.p, walk.opt = p, OPTIMIZERS[name](p, threads=1)
        walk.want = [a.copy() for a in walk.have()]
        for t in range(2):
            g = stored(normal(2 + t, n), format)
            walk.step(g, given=unaligned(g, (offset + 17*t) % 64))


def test_parameters_and_gradients_of_many_dimensions():
    for shape in [(), (1,), (5, 7), (3, 1, 4), (2, 3, 4, 5), (2, 1, 3, 2, 5), (0,), (3, 0, 2), (1, 1, 1, 1, 1)]:
        walk = Walk("adam", np.array(normal(1, *shape), np.float32), weight_decay=0.1, decay="decoupled")
        for t in range(3):
            walk.step(np.array(normal(t, *shape), np.float32))
        assert walk.opt.t == 3


# Formats

def mixes(full):
    """(rule, formats of all its slots, gradient first): all, or those in which every slot of every rule takes every format."""
    for name, rule in RULES.items():
        if name == "adamw":  # Adam's formula
            continue
        slots = 2 + len(rule.state)
        if full:
            yield from ((name, mix) for mix in itertools.product(FORMATS, repeat=slots))
            continue
        rng = random.Random(name)
        columns = [rng.sample(list(FORMATS), 4) + rng.sample(list(FORMATS), 2) for _ in range(slots)]
        yield from ((name, mix) for mix in sorted(set(zip(*columns, strict=True))))


def test_the_sample_of_mixes_covers_every_slot_of_every_rule():
    seen = {(name, slot, format) for name, mix in mixes(False) for slot, format in enumerate(mix)}
    assert seen == {(name, slot, format) for name, rule in RULES.items() if name != "adamw" for slot in range(2
                                                                                                              + len(rule.state))
                    for format in FORMATS}


def check_mix(name, mix, n=517):
    g, p, *states = mix
    walk = Walk(name, stored(normal(3, n), p), [p, *states], weight_decay=0.05)
    for t in range(3):
        walk.step(stored(normal(t, n), g), g)
    with np.errstate(all="ignore"):
        walk.step(stored(nasty(n, 5), g), g)


@each_rule
def test_mixed_formats(name, full):
    for rule, mix in mixes(full):
        if rule == name:
            check_mix(name, mix)


@each_rule
@each_format
def test_one_format_throughout(name, format):
    check_mix(name, [format]*(2 + len(RULES[name].state)), 2_048)


@each_rule
@pytest.mark.parametrize("format", HALF)
def test_16_bit_parameters_with_float32_state_by_default(name, format):
    walk = start(name, 999, format, **OWN[name][0])
    fresh = OPTIMIZERS[name](walk.p)
    assert all(fresh.state[s].dtype == np.float32 for s in walk.rule.state)
    for t in range(4):
        walk.step(stored(normal(t, 999), format))


@each_rule
def test_bits_of_bfloat16_are_bfloat16(name):
    """ml_dtypes arrays and their uint16 views: parameters, states and gradients, in all pairings."""
    results = []
    for p_type, g_type in itertools.product((np.uint16, BFLOAT16), repeat=2):
        p = stored(normal(1, 333), "bf16").view(p_type)
        opt = OPTIMIZERS[name](p, lr=0.1, state="bfloat16")
        for t in range(3):
            opt.step(stored(normal(t, 333), "bf16").view(g_type))
        assert p.dtype == p_type
        results.append([bits(a) for a in (p, *opt.state.values())])
    assert all(np.array_equal(a, b) for other in results[1:] for a, b in zip(results[0], other, strict=True))
    assert not np.array_equal(results[0][0], stored(normal(1, 333), "bf16"))


# Layouts

def views(a):
    """Arrays of the same numbers as `a` (2-d or more) whose elements lie elsewhere: name -> array."""
    wide = np.zeros([3*n + 2 for n in a.shape], a.dtype)
    sliced = wide[tuple(slice(1, 3*n + 1, 3) for n in a.shape)]
    back = np.zeros([2*n for n in a.shape], a.dtype)[tuple(slice(None, None, -2) for _ in a.shape)]
    turned, rows = np.zeros(a.shape[::-1], a.dtype).T, np.zeros((a.shape[0] + 2, *a.shape[1:]), a.dtype)[1:-1][::-1]
    columns = np.zeros((*a.shape[:-1], a.shape[-1] + 3), a.dtype)[..., 2:-1]
    records = np.zeros(a.shape, [("flag", np.uint8), ("g",
                                                      a.dtype)])["g"]  # strides and addresses that are no multiples of the item
    made = {"sliced": sliced, "backwards": back, "transposed": turned, "rows backwards": rows, "columns": columns,
            "records": records}
    for view in made.values():
        view[...] = a
    return made


def run(name, p, g, **how):
    p = p.copy(order="K")
    opt = OPTIMIZERS[name](p, lr=0.1, threads=1, weight_decay=0.01)
    for _ in range(2):
        opt.step(g, **how)
    return [p, *(opt.state[s] for s in opt.rule.state)]


def assert_same_step(name, p, g, other_g, what, **how):
    for have, want in zip(run(name, p, other_g, **how), run(name, p, g, **how), strict=True):
        assert_identical(have, want, what)


SHAPES = [(40, 50), (3, 4, 5), (1, 33), (33, 1), (2, 3, 1, 4, 5), (7, 0), (130, 131)]


@each_format
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_strided_gradients(format, shape):
    p, g = stored(normal(1, *shape), format), stored(normal(2, *shape), format)
    for what, view in views(g).items():
        for how in ({}, {"clip_norm": 0.5}, {"clip_value": 0.3, "grad_factor": 0.5}):
            assert_same_step("adam", p, g, view, f"{what} {how}", **how)


@each_rule
def test_strided_gradients_of_every_rule(name):
    g = stored(normal(2, 30, 41), "f32")
    for what, view in views(g).items():
        assert_same_step(name, stored(normal(1, 30, 41), "f32"), g, view, what, clip_norm=1.0)


@each_format
@pytest.mark.parametrize("shape", [(40, 50), (2, 3, 4, 5, 6), (200, 100)], ids=str)
def test_broadcast_gradients(format, shape):
    for axis in range(len(shape) + 1):
        small = stored(normal(2, *(1 if d <= axis - 1 else n for d, n in enumerate(shape))), format)
        for g in (np.broadcast_to(small, shape), np.broadcast_to(small[..., :1], shape)):
            assert_same_step("momentum", stored(normal(1, *shape), format), np.ascontiguousarray(g), g, f"axis {axis}",
                             clip_norm=0.5)


def permuted(a, axes):
    """The same numbers, in memory ordered by these axes."""
    return np.ascontiguousarray(a.transpose(axes)).transpose(np.argsort(axes))


@each_rule
def test_parameters_in_any_dense_order(name):
    p, g = stored(normal(1, 5, 1, 7, 4), "f32"), stored(normal(2, 5, 1, 7, 4), "f32")
    want = run(name, p, g, clip_value=0.5)
    for axes, other in itertools.product([(3, 2, 1, 0), (2, 0, 3, 1), (0, 1, 3, 2)],
                                         [(0, 1, 2, 3), (3, 2, 1, 0), (1, 3, 0, 2)]):
        for have, right in zip(run(name, permuted(p, axes), permuted(g, other), clip_value=0.5), want, strict=True):
            assert_identical(have, right, f"{axes} {other}")


@each_format
def test_fortran_parameters_large_enough_for_many_tiles(format):
    shape = (177, 211)
    p, g = stored(normal(1, *shape), format), stored(normal(2, *shape), format)
    for a, b in itertools.product("CF", repeat=2):
        for have, want in zip(run("adam", np.array(p, order=a), np.array(g, order=b)), run("adam", p, g), strict=True):
            assert_identical(have, want, f"{a} {b}")


def test_size_1_dimensions_and_0_d_gradients_may_have_any_strides():
    odd = np.lib.stride_tricks.as_strided
    g = stored(normal(2, 9), "f32")
    assert_same_step("adam", stored(normal(1, 9, 1), "f32"), g.reshape(9, 1), odd(g, (9, 1), (4, 12_344)), "9 x 1")
    assert_same_step("adam", stored(normal(1, 1, 9), "f32"), g.reshape(1, 9), odd(g, (1, 9), (-77, 4)), "1 x 9")
    assert_same_step("adam", np.array(0.5, np.float32), np.array(g[3]), g[3:4].reshape(()), "0-d")


# Beyond 2**31

def shifted_step(name, format, first, n, strided=False):
    """Step elements first..first+n of imaginary tensors: their addresses lie `first` elements before real memory of n."""
    rule, itemsize = RULES[name], DTYPES[format]().itemsize
    wide = "f64" if format == "f64" else "f32"
    g, p = stored(normal(1, n), format), stored(normal(2, n), format)
    g_memory = np.repeat(g, 2)[::2] if strided else g
    states = [stored(abs(normal(3 + k, n)), wide) for k in range(len(rule.state))]
    memory = [np.concatenate([np.full(64, 1, a.dtype), a, np.full(64, 1, a.dtype)]) for a in (p, *states)]
    columns = [[a] for a in (g_memory, *(a[64:-64] for a in memory))]
    c = rule.at(5, DTYPES[wide], weight_decay=0.1)
    # 3 extents whose product is more than 2**63 elements would not matter: only position and strides do
    layout = [[2, 2**35, 2**33 + 5, 2*itemsize*(2**33 + 5), 2*itemsize]] if strided else []
    formats = " ".join([format + "*"*strided, format, *[wide]*len(states)])
    job = binding.Job(formats, columns, [0], np.array([c], DTYPES[wide]), layout, tile=100)
    step = np.array([itemsize*(2 if strided else 1), itemsize] + [DTYPES[wide]().itemsize]*len(states))
    job.table[0, :len(step)] -= first*step
    job.tiles[:, 2:] += first
    job.run(step_kernel(rule.digest, formats), 1)
    values = [decoded(a, f).astype(DTYPES[wide]) for a, f in zip((g, p, *states), [format, format] + [wide]*len(states),
                                                                 strict=True)]
    new = [stored(x, f) for x, f in zip(rule(c, *values), [format] + [wide]*len(states), strict=True)]
    for a, right in zip(memory, new, strict=True):
        assert_same_bits(a[64:-64], right, f"{first}", format if a is memory[0] else wide)
        assert (a[:64] == 1).all()
        assert (a[-64:] == 1).all()


@each_format
@pytest.mark.parametrize("name", ["sgd", "adam"])
@pytest.mark.parametrize("first", [2**31 - 250, 2**31, 2**32 - 250, 2**32 + 1, 2**33 + 7, 2**40 + 3])
def test_elements_past_2_to_the_31(name, format, first):
    shifted_step(name, format, first, 500)


@each_format
@pytest.mark.parametrize("first", [2**31 - 250, 2**32 - 250, 2**33 - 250, 2**34 + 100, 2**40 + 3])
def test_strided_elements_past_2_to_the_31(format, first):
    shifted_step("momentum", format, first, 500, strided=True)


def test_tiles_of_tensors_past_2_to_the_31():
    sizes = [2**33 + 7, 0, 5, 2**31 + 1]
    tiles = binding.make_tiles(sizes, [0, 0, 1, 2], 131_072)
    for tensor, n in enumerate(sizes):
        own = tiles[tiles[:, 0] == tensor]
        assert (own[:, 3] - own[:, 2]).sum() == n
        assert np.array_equal(own[1:, 2], own[:-1, 3])
        assert not n or (own[0, 2], own[-1, 3]) == (0, n)
        assert (own[:, 1] == [0, 0, 1, 2][tensor]).all()


@pytest.mark.parametrize("shift", [0, 4, 16, 60, 2])  # 2: not even an element's start
def test_tiles_behind_the_first_start_at_a_cache_line(shift):
    n = 100_003
    p = np.zeros(n*4 + 128, np.uint8)
    p = p[-p.ctypes.data % 64 + shift:][:4*n].view(np.float32)
    skip = binding.head(p)
    assert skip == (64 - shift)//4 % 16
    tiles = binding.make_tiles([n], [0], 8_192, [skip])
    assert np.array_equal(tiles[1:, 2], tiles[:-1, 3])
    assert (tiles[0, 2], tiles[-1, 3]) == (0, n)
    starts = binding.arrays.address(p) + 4*tiles[1:, 2]
    assert (starts[tiles[1:, 2] % 8_192 == skip] % 64 < 4).all() or shift % 4
    assert not shift % 4 or (starts % 64 == (64 - 4 + shift % 4) % 64).all()


def test_a_float16_array_past_2_to_the_31_elements(full):
    n = 2**31 + 4_097
    if not full or os.sysconf("SC_AVPHYS_PAGES")*os.sysconf("SC_PAGE_SIZE") < 3*n:
        pytest.skip("needs --full and 6.4 GB of free memory")
    p = np.zeros(n, np.float16)
    OPTIMIZERS["sgd"](p, lr=0.5).step(np.broadcast_to(np.float16(1), n))
    assert (p.view(np.uint16).min(), p.view(np.uint16).max()) == (0xB800, 0xB800)


# Step numbers

@each_rule
@pytest.mark.parametrize("t", [2**24, 2**24 + 1, 2**31 - 1, 2**31, 2**31 + 1, 2**53])
def test_step_numbers(name, t):
    for hyper in ({}, {"b2": 1 - 1e-8} if "b2" in RULES[name].defaults else OWN[name][0]):
        walk = start(name, 129, **hyper)
        walk.opt.t = t - 1
        walk.step(stored(normal(1, 129), "f32")).step(stored(normal(2, 129), "f32"))
        assert walk.opt.t == t + 1
        assert np.isfinite(walk.p).all()


# Coefficients beyond float32

@pytest.mark.parametrize("how", [{"clip_value": 1e39}, {"clip_value": 1e300, "grad_factor": 1.0}])
def test_a_clip_value_beyond_float32_clips_nothing(how):
    walk = start("adam", 65)
    for t in range(2):
        walk.opt.step(stored(normal(t, 65), "f32"), **how)
    want = start("adam", 65)
    for t in range(2):
        want.opt.step(stored(normal(t, 65), "f32"))
    assert_identical(walk.p, want.p)
