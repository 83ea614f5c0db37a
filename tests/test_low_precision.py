"""Fewer bytes, the same promise: steps in any mix of formats give the bits of their rule on NumPy arrays, whatever is drawn and shared."""
import random

import numpy as np
import pytest
from conftest import (
    BFLOAT16,
    OPTIMIZERS,
    OWN,
    RULES,
    SHARED,
    assert_identical,
    nasty,
    normal,
    stored,
    unaligned,
)
from reference import MIXES, SIZES, Twin, gradients, made, tiles_of

from fastopt._formats.blocks import SIZE, STORED
from fastopt.storage import coded_bytes

LARGE = (100_003, 131_073)
each_rule = pytest.mark.parametrize("name", RULES)
each_mix = pytest.mark.parametrize("mix", MIXES)


def start(name, mix, sizes=(1_031,), seed=0, **hyper):
    params = [stored(normal(seed + k, n), MIXES[mix][0]) for k, n in enumerate(sizes)]
    return Twin(made(name, params if len(params) > 1 else params[0], mix, **hyper))


def bytes_of(opt):
    return [part.tobytes() for k in range(len(opt._tensors)) for slot in Twin(opt).have(k) for part in slot]


# The promise, for every rule

@pytest.mark.sampled("name", "mix")
@each_rule
@each_mix
def test_every_size(name, mix):
    """All in one call: elements behind vectors, pairs, blocks and companies of blocks."""
    twin = start(name, mix, SIZES, seed=1, **OWN[name][0])
    for t in range(4):
        twin.step(gradients(twin.opt, t))
    large = start(name, mix, LARGE, seed=2)
    for t in range(2):
        large.step(gradients(large.opt, t))
    assert not np.array_equal(large.want[0][0][0], stored(normal(2, LARGE[0]), MIXES[mix][0]))


@pytest.mark.sampled("name", "mix")
@each_rule
@each_mix
def test_hyperparameters(name, mix):
    for hyper in (*SHARED, *OWN[name]):
        twin = start(name, mix, (259,), **hyper)
        for t, how in enumerate(({}, {"clip_value": 0.4}, {"grad_factor": 0.37},
                                 {"clip_value": 0.3, "grad_factor": -1.7})):
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


@pytest.mark.sampled("name", "mix")
@each_rule
@each_mix
def test_nasty_numbers(name, mix):
    """Any bits in gradient, parameter and state: NaN and infinities at the same places, all other bits equal."""
    for how in ({}, {"clip_value": 1e30, "grad_factor": 0.5}):
        twin = start(name, mix, (4_099,), weight_decay=0.1).fill(anything)
        for t in range(3):
            twin.step([stored(nasty(4_099, 20 + t), MIXES[mix][0])], **how)


@pytest.mark.sampled("name", "mix")
@each_rule
@each_mix
@pytest.mark.parametrize("value", ["tiny", "smallest_subnormal", "max", "eps"])
def test_extreme_gradients(name, mix, value):
    twin = start(name, mix, (200,))
    with np.errstate(all="ignore"):
        g = np.full(200, getattr(np.finfo(np.float32), value))*np.linspace(0.3, 1, 200)
        for sign in (1, -1, 1):
            twin.step([stored((sign*g).astype(np.float32), MIXES[mix][0])])


# Formats

PARAMETERS = {"f64": ("f64", "nearest"), "f32": ("f32", "stochastic"), "f16": ("f16", "nearest"),
              "bf16": ("bf16", "nearest"),
              "f16s": ("f16", "stochastic"), "bf16s": ("bf16", "stochastic"), "split": ("bf16", "remainder")}
STATES = [f for f in STORED if f != "split"]
GRADIENTS = ["f32", "bf16", "f16", "f64"]
BY_STATES = ["sgd", "lion", "momentum", "adam", "amsgrad"]


def of_states(name):
    """What each state of a rule may be stored as: q44 has no sign, and q43 rounds to zero."""
    return [[f for f in STATES if f != ("q43" if state in RULES[name].nonnegative else "q44")]
            for state in RULES[name].state]


def mixes(name):
    """Formats of gradient, parameter and states such that every slot takes every format."""
    rng = random.Random(name)
    count = max(len(PARAMETERS), len(STATES) if RULES[name].state else 0)
    columns = [[rng.choice(GRADIENTS) for _ in range(count)]]
    columns[0][:4] = rng.sample(GRADIENTS, 4)
    columns += [(rng.sample(list(names), len(names)) + rng.sample(list(names), len(names)))[:count]
                for names in (PARAMETERS, *of_states(name))]
    return list(zip(*columns, strict=True))


def test_the_mixes_put_every_format_into_every_slot():
    for name in BY_STATES:
        assert [set(column) for column in zip(*mixes(name), strict=True)] == [
            set(GRADIENTS), set(PARAMETERS), *map(set, of_states(name))]


@pytest.mark.parametrize("name", BY_STATES)
def test_any_format_in_any_slot(name):
    for g, p, *states in mixes(name):
        plain, rounding = PARAMETERS[p]
        sizes = (5, 128, 517, 2_049)
        params = [stored(normal(k, n), plain) for k, n in enumerate(sizes)]
        twin = Twin(OPTIMIZERS[name](params, state=dict(zip(RULES[name].state, states, strict=True)), rounding=rounding,
                                     weight_decay=0.05,
                                     seed=2**63 - 1))
        assert [f.name for f in twin.formats(0)] == [p, *states]
        for t in range(3):
            twin.step(gradients(twin.opt, t, g))
        with np.errstate(all="ignore"):
            twin.step([stored(nasty(n, 5), g) for n in sizes], clip_value=1e20)


def test_tensors_of_one_optimizer_may_have_different_formats():
    """Each draws bits of its own, by its place among all; a float32 one does not change by a bit."""
    kinds = ["f32", "bf16", "f16", "f64", "bf16", "f32"]
    params = [stored(normal(k, 300 + k), f) for k, f in enumerate(kinds)]
    choice = {"params[0]": None, "params[1]": "q8", "params[2]": {"m": "q43"}, "params[3]": {"v": "q44"},
              "params[4]": "f32",
              "params[5]": {"m": "bf16s", "v": "f16s"}}
    alone = [params[0].copy(), params[3].copy()]
    twin = Twin(OPTIMIZERS["adam"]([*params], state=lambda path, array: choice[path], rounding="stochastic"))
    plain = OPTIMIZERS["adam"](alone)
    for t in range(4):
        g = gradients(twin.opt, t)
        twin.step(g)
        plain.step([g[0], g[3]])
    for name in ("m", "v"):
        assert_identical(twin.opt.state[name][0], plain.state[name][0])
    assert_identical(params[0], alone[0])
    assert [[f.name for f in twin.formats(k)] for k in range(6)] == [
        ["f32", "f32", "f32"], ["bf16s", "q43", "q44"], ["f16s", "q43", "f32"], ["f64", "f64", "q44"],
                                                                     ["bf16s", "f32", "f32"],
        ["f32", "bf16s", "f16s"]]


# Memory

def views(g):
    """Arrays of the same numbers whose elements lie elsewhere."""
    sliced = np.zeros([3*n + 2 for n in g.shape], g.dtype)[tuple(slice(1, 3*n + 1, 3) for n in g.shape)]
    back = np.zeros([2*n for n in g.shape], g.dtype)[tuple(slice(None, None, -2) for _ in g.shape)]
    columns = np.zeros((*g.shape[:-1], g.shape[-1] + 3), g.dtype)[..., 2:-1]
    turned = np.zeros(g.shape[::-1], g.dtype).T
    for view in (sliced, back, columns, turned):
        view[...] = g
    return sliced, back, columns, turned


@pytest.mark.parametrize("name", ["momentum", "adam"])
@each_mix
@pytest.mark.parametrize("shape", [(70, 131), (3, 4, 5), (1, 129), (7, 0)], ids=str)
def test_strided_gradients_and_parameters_in_any_order(name, mix, shape):
    """Elements, their random bits and their blocks are counted in the memory order of the parameter."""
    for order in "CF":
        twin = Twin(made(name, np.array(stored(normal(1, *shape), MIXES[mix][0]), order=order), mix, weight_decay=0.1))
        g = stored(normal(2, *shape), MIXES[mix][0])
        for view in (np.array(g, order=order), *views(g)):
            twin.step([g], [view])


def ways(name, mix, sizes):
    """Bytes after three steps, for any threads, tiles and addresses."""
    offsets = random.Random(mix).sample(range(1, 64), 3)
    for threads, tile, offset in [(1, 0, 0), (2, 0, 0), (3, 1024, offsets[0]), (4, 128, offsets[1]),
                                  (1, 100, offsets[2]), (2, 5_000, 2)]:
        params = [unaligned(stored(normal(k, n), MIXES[mix][0]), offset) for k, n in enumerate(sizes)]
        opt = made(name, params, mix, threads=threads)
        with tiles_of(opt, tile):
            for t in range(3):
                opt.step([unaligned(g, (offset + 17*t) % 64) for g in gradients(opt, t)])
        yield (threads, tile, offset), bytes_of(opt)


@pytest.mark.sampled("name", "mix")
@each_rule
@each_mix
def test_threads_tiles_and_addresses_do_not_matter(name, mix):
    (_, first), *others = ways(name, mix, (70_001, 1_025, 129))
    for how, other in others:
        assert other == first, how


@each_mix
def test_nothing_beside_the_arrays_is_written(mix):
    """Guards around the parameter keep their bytes, also where a last block is not whole."""
    for n in (1, 127, 129, 1_031):
        plain = MIXES[mix][0]
        wide = stored(np.full(n + 256, 3.0), plain)
        opt = made("adam", wide[128:128 + n], mix, lr=0.5)
        for t in range(2):
            opt.step(gradients(opt, t)[0])
        assert (wide[:128] == stored(np.array([3.0]), plain)).all()
        assert (wide[128 + n:] == stored(np.array([3.0]), plain)).all()
        assert not (wide[128:128 + n] == stored(np.array([3.0]), plain)).any()


@each_mix
def test_the_gradient_may_be_the_parameter(mix):
    twin = start("adam", mix, (1_025,))
    twin.step([twin.opt.params.copy()], [twin.opt.params])


def test_bits_of_bfloat16_are_bfloat16():
    for mix in ("bf16s", "split", "bf16s q8"):
        results = []
        for kind in (np.uint16, BFLOAT16):
            p = stored(normal(1, 333), "bf16").view(kind)
            opt = made("adam", p, mix)
            for t in range(3):
                opt.step(stored(normal(t, 333), "bf16").view(kind))
            results.append([p.view(np.uint16).tobytes(), *(a.tobytes() for a in opt.state.values())])
        assert results[0] == results[1]


# What is drawn

def three_steps(sizes=(500,), t=0, **how):
    params = [stored(np.ones(n), "bf16") for n in sizes]
    opt = OPTIMIZERS["sgd"](params, lr=1e-3, rounding="stochastic", **how)
    opt.t = t
    for _ in range(3):
        opt.step([stored(np.full(n, 0.37), "bf16") for n in sizes])
    return params


def test_the_seed_the_step_and_the_tensor_decide_what_is_drawn():
    first, = three_steps()
    assert_identical(three_steps()[0], first)
    assert_identical(three_steps(seed=0)[0], first)
    assert_identical(three_steps((500, 500))[0], first)
    for other in (three_steps(seed=1)[0], three_steps(seed=2**63 - 1)[0], three_steps(t=7)[0],
                  three_steps((500, 500))[1]):
        assert 0.02 < (other != first).mean() < 0.6
    assert len(np.unique(first)) > 1


def test_the_step_number_is_that_of_the_step_and_not_how_many_were_taken():
    """A run that goes on after `t` was set draws what it would have drawn."""
    p = stored(np.ones(500), "bf16")
    g = stored(np.full(500, 0.37), "bf16")
    for t in range(3):
        opt = OPTIMIZERS["sgd"](p, lr=1e-3, rounding="stochastic")
        opt.t = t
        opt.step(g)
    assert_identical(p, three_steps()[0])


@pytest.mark.parametrize("t", [2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**53])
def test_step_numbers(t):
    for mix in MIXES:
        twin = start("adam", mix, (129,), seed=4)
        twin.opt.t = t - 1
        twin.step(gradients(twin.opt, 1)).step(gradients(twin.opt, 2))


# What low precision does to training

def effective_step(state):
    """The mean step of Adam after gradients became 10 times smaller, in units of lr*sign(g): about 1 where v has followed."""
    n, b2 = 4_096, 0.999
    p = np.zeros(n, np.float32)
    opt = OPTIMIZERS["adam"](p, lr=1e-3, b1=0.0, b2=b2, state=state)
    rng = np.random.default_rng(1)
    for t in range(8_000):
        if t == 7_900:
            before = p.copy()
        opt.step((rng.choice([0.9, 1.0, 1.1], n)*(1.0 if t < 1_000 else 0.1)).astype(np.float32))
    return (before - p).mean()/(100*1e-3)


def test_second_moments_follow_smaller_gradients_unless_rounded_to_nearest():
    """bfloat16 to nearest freezes: (1 - b2)*v is less than half a unit of v."""
    want = effective_step(None)
    assert 0.95 < want < 1.05
    assert effective_step("bf16")/want < 0.5
    for state in ("bf16s", "q8", {"v": "q44"}):
        assert abs(effective_step(state)/want - 1) < 0.03, state


FORMS = {**MIXES, "bf16": ("bf16", "nearest", "bf16"), "q8 by format": ("f16", "stochastic", "q8")}


@pytest.mark.sampled("name", "mix")
@each_rule
@pytest.mark.parametrize("mix", FORMS)
def test_weights_without_gradients_stay(name, mix):
    """500 steps in which others of the block get gradients of all sizes."""
    plain, rounding, state = FORMS[mix]
    n = 300
    p = stored(np.linspace(-2, 2, n), plain)
    before = p.copy()
    cls = OPTIMIZERS[name]
    asked = dict(zip(cls.rule.state, state, strict=False)) if isinstance(state, tuple) else state
    opt = cls(p, lr=0.05, weight_decay=0.0, state=asked, rounding=rounding)
    quiet = np.arange(n) % 3 == 0
    rng = np.random.default_rng(2)
    for t in range(500):
        g = np.where(quiet, 0, normal(t, n)*10.0**rng.uniform(-4, 4, n))
        opt.step(stored(g, plain))
    assert_identical(p[quiet], before[quiet])
    assert (p[~quiet] != before[~quiet]).mean() > 0.9
    for state in opt.rule.state:
        assert (opt.decoded(state)[quiet] == 0).all()
