"""Storage as it is asked for: formats by state and group, the average, the copy, zeroed gradients, errors."""
import pickle
import re
from copy import deepcopy
from itertools import product

import numpy as np
import pytest
from conftest import BFLOAT16, OPTIMIZERS, OWN, RULES, assert_identical, nasty, normal, stored
from reference import LEAN, Twin, encoded, gradients, made, numbers, random_words

import fastopt
from fastopt import storage
from fastopt._formats import random_bits as noise
from fastopt._formats.catalogue import STORED
from fastopt.storage import coded_bytes

each_mix = pytest.mark.parametrize("mix", LEAN)


def formats(opt, k=0):
    return [f.name for f in Twin(opt).formats(k)]


def zeros(*shape, dtype=np.float32):
    return np.zeros(shape, dtype)


# Which formats

def test_states_are_stored_as_asked():
    for state, want in ((None, ["f32", "f32"]), ("q8", ["q43", "q44"]), ("bf16s", ["bf16s", "bf16s"]),
                        ("bfloat16_stochastic", ["bf16s", "bf16s"]), ("float16", ["f16", "f16"]),
                        ({"v": "q8"}, ["f32", "q44"]), ({"m": "q8", "v": "f64"}, ["q43", "f64"]), ({}, ["f32", "f32"]),
                        ({"m": "q43", "v": "q44"}, ["q43", "q44"]), ({"m": "bf16", "v": "q44"}, ["bf16", "q44"])):
        opt = fastopt.Adam(zeros(300), state=state)
        assert formats(opt) == ["f32", *want]
        for name, f in zip("mv", want, strict=True):
            shape = (coded_bytes(300),) if STORED[f].block else (300,)
            assert (opt.state[name].dtype, opt.state[name].shape) == (STORED[f].dtype, shape)
            assert not opt.state[name].any()


def test_states_that_are_never_negative_are_unsigned():
    want = {"momentum": ["q43"], "nesterov": ["q43"], "rmsprop": ["q44"], "adagrad": ["q44"], "lion": ["q43"],
            "amsgrad": ["q43", "q44", "q44"], "rmsprop_momentum": ["q44", "q43"], "rmsprop_centered": ["q44", "q43"],
            "rmsprop_centered_momentum": ["q44", "q43", "q43"], "adadelta": ["q44"]*2,
            "ademamix": ["q43", "q43", "q44"], "adan": ["q43", "q43", "q44", "q43"]}
    for name, rule in RULES.items():
        opt = OPTIMIZERS[name](zeros(9), state="q8")
        assert formats(opt)[1:] == want.get(name, ["q43", "q44"])[:len(rule.state)], name


def test_an_initial_number_is_coded_too():
    opt = fastopt.AdaGrad(zeros(300), state="q8", initial_accumulator_value=0.375)
    assert (opt.decoded("v") == 0.375).all()
    Twin(opt).step([normal(1, 300).astype(np.float32)])


def test_parameters_are_rounded_as_asked():
    for dtype, rounding, want in (
            (np.float32, "nearest", "f32"), (np.float16, "nearest", "f16"), (np.float16, "stochastic", "f16s"),
            (np.uint16, "nearest", "bf16"), (BFLOAT16, "stochastic", "bf16s"), (np.uint16, "remainder", "split"),
            (BFLOAT16, "remainder", "split")):
        opt = fastopt.Adam(zeros(5, dtype=dtype), rounding=rounding)
        assert formats(opt)[0] == want
        assert ("remainder" in opt.state) == (want == "split")


def unused(make, rounding, where="Adam"):
    """What is made, with a warning, at the line that makes it, that its rounding has no effect."""
    with pytest.warns(UserWarning, match="rounding") as found:
        opt = make()
    states = ' To round states by chance, say state="bf16s".'*(rounding == "stochastic")
    assert [(str(w.message), w.filename) for w in found] == [(
        f"{where}: rounding={rounding!r} is for parameters of 16 bits, but none of these is, so that it has no effect. "
        f"Leave it out.{states}", __file__)]
    return opt


@pytest.mark.parametrize("wide", [np.float32, np.float64, np.complex64])
@pytest.mark.parametrize("rounding", ["stochastic", "remainder"])
def test_a_rounding_that_has_no_effect_is_said(wide, rounding):
    """All parameters that it is for are wider. Where one is not, it is silent for the others."""
    opt = unused(lambda: fastopt.Adam([zeros(5, dtype=wide)], rounding=rounding), rounding)
    assert formats(opt)[0] == ("f64" if wide is np.float64 else "f32")
    both = {"w": zeros(5, dtype=BFLOAT16), "b": zeros(2, dtype=wide)}
    groups = [{"params": both}, {"params": zeros(3, dtype=wide)}]
    assert len(formats(fastopt.Adam(groups, rounding=rounding))) == 3
    unused(lambda: fastopt.Adam([groups[1], {"params": both, "rounding": "nearest"}], rounding=rounding), rounding)
    groups[1]["rounding"] = rounding
    opt = unused(lambda: fastopt.Adam(groups), rounding, "Adam group 1")
    opt.add(zeros(4, dtype=wide))
    unused(lambda: opt.add(zeros(4, dtype=wide), rounding=rounding), rounding, "Adam.add")
    for new in (deepcopy(opt), pickle.loads(pickle.dumps(opt))):  # of copies it is not said again
        assert [group.get("rounding") for group in new.params] == [group.get("rounding") for group in opt.params]
    opt.add(zeros(4, dtype=BFLOAT16), rounding=rounding)


def test_groups_and_functions_choose_by_themselves():
    asked = []

    def state(path, array):
        asked.append((path, array.shape))
        return {"m": "q8"} if array.size > 5 else None
    groups = [{"params": {"w": zeros(9, dtype=np.uint16), "b": zeros(2)}},
              {"params": zeros(7, dtype=np.uint16), "rounding": "remainder"},
              {"params": [zeros(6)], "state": "bf16", "lr": 0.5}]
    opt = fastopt.Adam(groups, state=state, rounding="stochastic")
    assert asked == [("params[0]['w']", (9,)), ("params[0]['b']", (2,)), ("params[1]", (7,))]
    assert [formats(opt, k) for k in range(4)] == [["bf16s", "q43", "f32"], ["f32", "f32", "f32"],
                                                   ["split", "q43", "f32"], ["f32", "bf16", "bf16"]]
    assert [g["lr"] for g in opt.groups] == [1e-3, 1e-3, 0.5]
    twin = Twin(opt)
    for t in range(3):
        g = gradients(opt, t)
        twin.reference(g)
        opt.step([{"w": g[0], "b": g[1]}, g[2], [g[3]]])
        twin.check()


# Average

AVERAGED = {"f32": ("f32", "nearest", "f32"), "bf16s": ("bf16", "stochastic", "bf16s"),
            "bf16s in f32": ("bf16", "stochastic", "f32"),
            "split": ("bf16", "remainder", "f32"), "f32 in q43": ("f32", "nearest", "q8")}


def averaged(how, average):
    """Momentum with an average whose numbers are stored in a format of its own."""
    plain, rounding, stored_as = AVERAGED[how]
    return fastopt.Momentum(stored(normal(1, 517), plain), average=average, state={"average": stored_as},
                            rounding=rounding, **OWN["momentum"][0])


def exact_new(opt, twin, g, step, **hyper):
    """The new parameter before it is stored, by the rule without its average."""
    rule = RULES[opt.rule.name]
    slots = [numbers(parts, f, g.size) for parts, f in zip(twin.want[0], twin.formats(0), strict=True)]
    return rule(rule.at(step, np.float32, **hyper), g.astype(np.float32), *slots[:1 + len(rule.state)])[0]


@pytest.mark.parametrize("how", AVERAGED)
def test_the_average_is_numpys(how):
    """average <- average + (1 - d)*(p - average), from the parameters on, of the new ones before they are rounded."""
    schedule = lambda t: min(0.95, t/(t + 9))  # noqa: E731
    for average in (0.9, 0.0, schedule):
        opt = averaged(how, average)
        plain, form = AVERAGED[how][0], Twin(opt).formats(0)[-1]
        start = encoded(storage.decode(opt.params, plain), form)
        assert opt.state["average"].tobytes() == start[0].tobytes()
        twin = Twin(opt)
        random_before = sum(f.random for f in twin.formats(0)[:-1])
        for t in range(1, 5):
            g = stored(normal(10 + t, 517), plain)
            d = average(t) if callable(average) else average
            old = numbers(twin.want[0][-1], form, 517)
            new = exact_new(opt, twin, storage.decode(g, plain), t, **OWN["momentum"][0])
            words = random_words(0, t, 0, 517)*noise.SLOTS[random_before]
            want = encoded(old + np.float32(1 - d)*(new - old), form, words)
            twin.step([g])
            assert opt.state["average"].tobytes() == want[0].tobytes(), (t, average)


def test_the_average_changes_nothing_else():
    results = []
    for more in ({}, {"average": 0.9}, {"average": 0.9, "copy": zeros(300, dtype=np.float16)}):
        p = normal(1, 300).astype(np.float32)
        opt = fastopt.Momentum(p, state="bf16s", seed=3, **more)
        for t in range(3):
            opt.step(normal(t, 300).astype(np.float32))
        results.append([p.tobytes(), opt.state["v"].tobytes()])
    assert results[1:] == results[:1]*2


def test_the_average_may_differ_by_group_and_change():
    params = [normal(k, 9).astype(np.float32) for k in range(2)]
    opt = fastopt.SGD([{"params": params[0]}, {"params": params[1], "average": 0.5}], lr=0.1, average=0.9)
    twin, g = Twin(opt), [np.ones(9, np.float32)]*2
    twin.step(g)
    opt.groups[0]["average"] = 0.25
    twin.step(g)
    assert [dict(group)["average"] for group in opt.groups] == [0.25, 0.5]
    have = opt.decoded("average")
    # of -0.1 and -0.2: 0.1 of the first, then 0.75 of the rest
    assert np.allclose(have[0], params[0] + 0.0475, atol=1e-6)
    assert np.allclose(have[1], params[1] + 0.075, atol=1e-6)


# Copy

@pytest.mark.sampled("mix", "kind")
@each_mix
@pytest.mark.parametrize("kind", ["f32", "bf16", "f16", "f64"])
def test_the_copy_is_the_new_parameter_before_it_is_rounded(mix, kind):
    for n in (1, 129, 517):
        p = stored(normal(1, n), LEAN[mix][0])
        target = stored(np.full(n, 7.0), kind)
        opt = made("momentum", p, mix, copy=target, weight_decay=0.1)
        assert_identical(target, stored(storage.decode(p, LEAN[mix][0]), kind))
        twin = Twin(opt)
        for t in range(3):
            g = stored(normal(2 + t, n), LEAN[mix][0])
            new = exact_new(opt, twin, storage.decode(g, LEAN[mix][0]), t + 1, weight_decay=0.1)
            twin.step([g])
            assert_identical(target, stored(new, kind))
        if LEAN[mix][1] == "remainder":
            assert_identical(target, stored(opt.decoded("params"), kind))


def test_copies_of_one_optimizer_may_have_different_formats():
    params = [normal(k, n).astype(np.float32) for k, n in enumerate((129, 257, 300))]
    copies = [np.empty(129, np.float16), np.empty(257, np.float32), np.empty(300, np.float64)]
    twin = Twin(fastopt.Momentum(params, copy=copies))
    for t in range(3):
        twin.step(gradients(twin.opt, t))
        assert_identical(copies[0], stored(params[0], "f16"))
        assert_identical(copies[1], params[1])
        assert_identical(copies[2], params[2].astype(np.float64))


# Zeroed gradients

@pytest.mark.parametrize("mix", ["bf16s", "q8"])
def test_gradients_are_zeroed_in_the_same_step(mix):
    sizes = (0, 1, 127, 128, 129, 1_025, 20_003)
    for more in ({}, {"clip_norm": 0.1}, {"skip_nonfinite": True}):
        params = [[stored(normal(k, n), LEAN[mix][0]) for k, n in enumerate(sizes)] for _ in range(2)]
        one, other = (made("momentum", p, mix, threads=2) for p in params)
        for t in range(3):
            g = gradients(one, t)
            other.step([a.copy() for a in g], **more)
            one.step(g, zero_grads=True, **more)
            assert all(not a.any() for a in g)
            assert all(a.tobytes() == b.tobytes() for a, b in zip(*params, strict=True))
            assert one.t == other.t == t + 1


def test_zeroed_gradients_in_any_dense_order_and_format():
    for order in "CF":
        p = np.array(normal(1, 30, 40), np.float32, order=order)
        for kind in ("f64", "f32", "f16", "bf16"):
            values = nasty(1200, 2).reshape(30, 40) if kind == "bf16" else normal(2, 30, 40)
            g = np.array(stored(values, kind), order=order)
            fastopt.SGD(p, lr=0.1).step(g, zero_grads=True)
            assert not g.any()


def test_only_steps_with_zero_grads_zero_gradients_and_buffers():
    g = [np.ones(9, np.float32), np.ones(300, np.float32)]
    opt = fastopt.SGD([zeros(9), zeros(300)], lr=1.0)
    for zero in (False, True, False, True):
        for a in g:
            a[:] = 1
        opt.step(g, zero_grads=zero)
        assert all((a == (not zero)).all() for a in g)
    for a, more in zip(opt.grads, (1, 2), strict=True):
        a[:] = more
    opt.step(zero_grads=True)
    assert not any(a.any() for a in opt.grads)
    assert [p[0] for p in opt.params] == [-5, -6]
    g[0][0] = np.inf
    opt.step(g, skip_nonfinite=True, zero_grads=True)  # a step that is skipped zeroes too
    assert (opt.t, any(a.any() for a in g)) == (5, False)


def read_only():
    array = np.ones(4, np.float32)
    array.flags.writeable = False
    return array


STRIDED = ("strided, but zero_grads=True needs gradients in the memory order of their parameters. Give such ones, or "
           "set them to zero yourself.")
READ_ONLY = "read-only, but zero_grads=True would set it to zero. Give a copy, or leave out zero_grads."
OWN_PARAMETER = "the parameter itself, but zero_grads=True would set it to zero. Give a copy, numpy.array(x)."
OVERLAP = "its memory overlaps that of grads[0], but each needs its own. Give one of them as a copy."
WRITTEN = ("overlaps memory that the step writes (parameters, state or copies). Give a copy: numpy.array(x), or "
           "x.clone() of a tensor.")


def test_gradients_that_cannot_be_zeroed():
    """Nothing is changed, and the optimizer goes on, before and after a good step with others."""
    wide, good = np.ones(8, np.float32), [np.ones(4, np.float32), np.ones(4, np.float32)]
    p = [np.ones(4, np.float32), np.ones(4, np.float32)]
    opt = fastopt.Adam(p)
    for first, second, message in ((good[0], wide[::2], STRIDED), (good[0], read_only(), READ_ONLY),
                                   (good[0], p[1], OWN_PARAMETER), (good[0], p[0], WRITTEN),
                                   (good[0], good[0], OVERLAP), (wide[:4], wide[3:7], OVERLAP)):
        wide[...] = good[0][...] = good[1][...] = 1
        kept, had = [a.copy() for a in (*p, first, second, *opt.state["m"])], opt.t
        with pytest.raises(ValueError, match=f"^{re.escape('grads[1]: ' + message)}$"):
            opt.step([first, second], zero_grads=True)
        assert opt.t == had
        for a, b in zip((*p, first, second, *opt.state["m"]), kept, strict=True):
            assert_identical(a, b)
        opt.step(good, zero_grads=True)
        assert (opt.t, good[0].any(), good[1].any()) == (had + 1, False, False)


def test_the_same_gradients_that_became_read_only_or_shared():
    g, shared = np.ones(4, np.float32), np.ones(4, np.float32)
    opt = fastopt.Adam([zeros(4), zeros(4)])
    opt.step([shared, g], zero_grads=True)
    g.flags.writeable = False
    with pytest.raises(ValueError, match="read-only, but zero_grads"):
        opt.step([shared, g], zero_grads=True)
    opt.step([shared, g])
    opt.step([shared, shared])
    with pytest.raises(ValueError, match=re.escape(OVERLAP)):
        opt.step([shared, shared], zero_grads=True)


# Errors

def refused(message, params=None, **hyper):
    with pytest.raises((ValueError, TypeError), match=f"^{re.escape(message)}"):
        fastopt.Adam(zeros(4) if params is None else params, **hyper)


def test_what_is_asked_is_checked():
    """Each by its name (what is to be done instead is in tests/test_cures.py)."""
    for state, f, name in (("q44", "q44", "m"), ({"average": "q44"}, "q44", "average"), ("q43", "q43", "v")):
        refused(f"Adam: state format {f} for {name} of adam, but q44 is for states that are", state=state, average=0.9)
    refused("Adam: state format 'split' for v", state={"v": "split"})
    refused("Adam: state names 'copy', but adam has m, v, average. Remove it, or name one of those.",
            state={"copy": "q8"}, average=0.9)
    for name, x in (("seed", 2**63), ("seed", 1.5), ("average", 1.0), ("average", -0.1), ("average", "x")):
        refused(f"Adam: {name} is {x!r}, but ", **{name: x})
    wide = zeros(8)
    for copy, message in ((zeros(3), "shape (3,), but params has (4,)."), (zeros(4, dtype=np.int32), "dtype int32"),
                          (read_only(), "read-only, but it is updated"), (wide[::2], "strides (8,) for shape"),
                          ([zeros(4)], "a list, but an array is needed")):
        refused(f"copy: {message}", copy=copy)
    refused("copy[1]: its memory overlaps that of copy[0]", [zeros(4), zeros(4)], copy=[wide[:4], wide[2:6]])
    refused("copy[0]: its memory overlaps that of params[0]", [wide[:4]], copy=[wide[2:6]])


def test_a_gradient_may_not_lie_in_a_copy_or_a_remainder():
    target = zeros(4)
    opt = fastopt.Adam(zeros(4), copy=target, average=0.9)
    for g in (target, opt.state["average"]):
        with pytest.raises(ValueError, match=f"^{re.escape('grads: ' + WRITTEN)}$"):
            opt.step(g)
    opt = fastopt.SGD(zeros(4, dtype=np.uint16), rounding="remainder")
    with pytest.raises(ValueError, match=f"^{re.escape('grads: ' + WRITTEN)}$"):
        opt.step(opt.state["remainder"])
    assert opt.t == 0


def test_an_average_that_is_none_at_its_step():
    for average in (lambda t: 1.0, lambda t: "x"):
        p = zeros(4)
        opt = fastopt.Adam(p, average=average)
        with pytest.raises((ValueError, TypeError), match=r"^Adam at step 1: average is .*, but a number in \[0, 1\)"):
            opt.step(np.ones(4, np.float32))
        assert (opt.t, p.any(), opt.state["average"].any()) == (0, False, False)


# Numbers of a state, and what it says of itself

@pytest.mark.parametrize("mix", ["bf16s", "split", "q8"])
def test_decoded_gives_numbers_in_the_shape_of_the_parameters(mix):
    """As new arrays, in float32; blocks run through the memory order of the parameter."""
    for shape, order in product([(), (3, 50), (2, 70, 3)], "CF"):
        p = np.array(stored(normal(1, *shape), LEAN[mix][0]), order=order)
        opt = made("momentum", {"w": p}, mix, average=0.5)
        opt.step({"w": np.array(stored(normal(2, *shape), LEAN[mix][0]), order=order)})
        twin = Twin(opt)
        for name, parts, f in zip(("params", "v", "average"), twin.have(0), twin.formats(0), strict=True):
            have = opt.decoded(name)["w"]
            assert (have.dtype, have.shape) == (np.float32, shape)
            flat = numbers(parts, f, p.size)
            assert_identical(np.asarray(have).reshape(-1, order=order), flat)
            have[...] = 77
            assert_identical(opt.decoded(name)["w"].reshape(-1, order=order), flat)


def test_decoded_of_float64_is_float64():
    opt = fastopt.Adam(zeros(3, dtype=np.float64), state={"m": "q8"})
    assert [opt.decoded(name).dtype.name for name in ("params", "m", "v")] == ["float64", "float32", "float64"]


def test_repr_says_what_is_stored():
    b, f = zeros(1000, dtype=np.uint16), zeros(1000)
    for opt, says in (
            (fastopt.Adam(b, rounding="stochastic", state="q8"),
             "1,000 parameters bf16, stochastic, state m q43, v q44 (2.064 bytes each)"),
            (fastopt.Adam(b, rounding="remainder", state="bf16"),
             "1,000 parameters bf16, state m bf16, v bf16, remainder (6 bytes each)"),
            (fastopt.SGD(f, copy=b), "1,000 parameters f32, no state"),
            (fastopt.Adam([b, f], state=lambda path, a: "q8" if a is b else None, rounding="stochastic"),
             "2 tensors, 2,000 parameters bf16/f32, stochastic, state m q43/f32, v q44/f32 (5.032 bytes each)"),
            (fastopt.Adam(zeros(0), state="q8"), "0 parameters f32, state m q43, v q44 (0 bytes each)")):
        assert repr(opt).partition("t=0, ")[2] == f"{says})"


def test_nesterov_looks_ahead_from_any_format():
    """p - mu*v in the parameter's own format, to nearest; with the remainder from what the parameter really is."""
    for mix in ("split", "q8"):
        p = stored(normal(1, 300), LEAN[mix][0])
        opt = made("nesterov", p, mix, lr=0.1, momentum=0.8)
        for t in range(3):
            opt.step(stored(normal(t, 300), LEAN[mix][0]))
        before = p.copy()
        want = opt.decoded("params") - np.float32(0.8)*opt.decoded("v")
        assert_identical(opt.lookahead(), stored(want, LEAN[mix][0]))
        assert_identical(p, before)
