"""Gradients that are None, parameters that come and go, norms from elsewhere, parts of larger tensors, given states."""
import copy
import json
import pickle

import numpy as np
import pytest
from conftest import KINDS, OPTIMIZERS, OWN, RULES, assert_identical, normal, stored

import fastopt

f32 = np.float32
SIZES = (5, 70, 33)
LIVE = [(0, 1, 2), (0, 1, 2), (0, 2), (0, 2), (1,), (0, 2), (1, 2), (), (0, 1, 2), (0,), (0, 1, 2)]
FORMATS = {"float32": "f32", "float64": "f64", "bfloat16": "bf16", "eight bits": "f32"}


def params(format="f32"):
    return [stored(normal(k, n), format) for k, n in enumerate(SIZES)]


def gradient(t, k):
    return (0.5 + normal(100*t + k, SIZES[k])).astype(f32)


def masked(t, live):
    return [gradient(t, k) if k in live else None for k in range(len(SIZES))]


class Alone:
    """An optimizer of each tensor, which steps when there is a gradient: what one optimizer of all must do."""

    def __init__(self, make, arrays):
        self.opts, self.arrays = [make(a) for a in arrays], arrays

    def step(self, t, live, **how):
        for k in live:
            self.opts[k].step(gradient(t, k), **how)

    @property
    def counts(self):
        return [opt.t for opt in self.opts]


def same(opt, alone, arrays):
    for k, (mine, theirs) in enumerate(zip(arrays, alone.arrays, strict=True)):
        assert_identical(mine, theirs, f"parameter {k}")
        for name, tree in opt.state.items():
            assert_identical(tree[k], alone.opts[k].state[name], name)
    assert opt.counts == alone.counts


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("name", KINDS)
@pytest.mark.sampled("name", "format")
def test_a_tensor_without_a_gradient_stays_and_does_not_count(name, format):
    stored_as, rule = FORMATS[format], RULES[name]
    hyper = {**OWN[name][0], "lr": 0.05, "weight_decay": 0.1}
    if format == "eight bits":  # of states that are not rounded by chance: random bits are those of a tensor's number
        hyper["state"] = {s: "q8" for s in rule.state if s not in rule.nonnegative}
    mine = params(stored_as)
    opt, alone = OPTIMIZERS[name](mine, **hyper), Alone(lambda p: OPTIMIZERS[name](p, **hyper), params(stored_as))
    for t, live in enumerate(LIVE):
        opt.step(masked(t, live))
        alone.step(t, live)
        same(opt, alone, mine)
    assert opt.t == sum(map(bool, LIVE))


def test_what_a_step_is_asked_for_holds_for_the_gradients_that_are_there():
    """The norm is that of those; masks are their own; the same set again takes no new preparation."""
    mine, theirs = params(), params()
    opt, some = fastopt.Adam(mine, lr=0.1), fastopt.Adam([theirs[0], theirs[2]], lr=0.1)
    mask = [np.arange(n) % 3 > 0 for n in SIZES]
    for t in range(3):
        how = {"clip_norm": 0.7, "clip_value": 0.1, "grad_factor": 0.5, "skip_nonfinite": True}
        g = masked(t, (0, 2))
        assert opt.norm(g, grad_factor=0.5) == some.norm([g[0], g[2]], grad_factor=0.5)
        opt.step(g, mask=mask, **how)
        some.step([g[0], g[2]], mask=[mask[0], mask[2]], **how)
        assert opt.grad_norm == some.grad_norm
    for k, array in zip((0, 2), (theirs[0], theirs[2]), strict=True):
        assert_identical(mine[k], array)
    assert_identical(mine[1], params()[1])
    opt.step([np.full(5, np.nan, f32), None, None], skip_nonfinite=True)
    assert (opt.t, opt.counts) == (3, [3, 0, 3])
    assert np.isnan(opt.grad_norm)
    opt.step([None]*3, clip_norm=1.0)
    assert opt.grad_norm is None


def test_schedules_go_by_the_steps_of_the_optimizer():
    seen, w = [], params()

    def lr(t):
        seen.append(t)
        return 0.1/t
    opt = fastopt.Adam(w, lr=lr)
    for t, live in enumerate([(0, 1, 2), (0,), (0,), (1, 2)]):
        opt.step(masked(t, live))
    assert sorted(set(seen)) == [1, 2, 3, 4]
    v = params()[1]
    twin = fastopt.Adam(v, lr=0.1)
    twin.step(gradient(0, 1))
    twin.groups[0]["lr"] = 0.1/4
    twin.step(gradient(3, 1))
    assert_identical(w[1], v)


def test_nadam_keeps_the_product_of_each_tensor():
    mine = params("f64")
    def make(p):
        return fastopt.NAdam(p, lr=0.05)
    opt, alone = make(mine), Alone(make, params("f64"))
    for t, live in enumerate(LIVE):
        for one in (opt, *alone.opts):
            one.groups[0]["b1"] = 0.9 - 0.02*t
        opt.step(masked(t, live))
        alone.step(t, live)
        if t == 6:
            saved, opt = json.loads(json.dumps(opt.state_dict(), default=np.ndarray.tolist)), make(mine)
            saved["state"] = {k: [np.array(x) for x in v] for k, v in saved["state"].items()}
            opt.load_state_dict(saved)
        for k in range(3):
            np.testing.assert_allclose(mine[k], alone.arrays[k], rtol=1e-13)


def test_counts_are_in_checkpoints():
    mine, others = {"b": params()[0], "a": params()[1]}, {"a": params()[1], "b": params()[0]}
    opt = fastopt.Adam(mine, lr=0.1)
    for t, live in enumerate(["ba", "a", "a", "ba", "b"]):
        opt.step({k: gradient(t, "ba".index(k)) if k in live else None for k in "ba"})
    saved = opt.state_dict()
    assert (saved["t"], saved["behind"], opt.counts) == (5, [2, 1], {"b": 3, "a": 4})
    for k in others:
        others[k][...] = mine[k]
    twin = fastopt.Adam(others, lr=0.1)
    twin.load_state_dict(saved)
    assert twin.counts == {"a": 4, "b": 3}
    for one, w in ((opt, mine), (twin, others)):
        one.step({k: gradient(9, "ba".index(k)) for k in w})
        one.step({"a": None, "b": gradient(10, 0)})
    for k in others:
        assert_identical(others[k], mine[k])
    before = twin.state_dict()
    for bad in ([1], [1, -1], [1, 7], [1, "x"], 3):
        with pytest.raises(ValueError, match="load_state_dict: behind does not fit the parameters and t=5"):
            twin.load_state_dict({**saved, "behind": bad})
    assert twin.state_dict()["behind"] == before["behind"]
    twin.t = 7
    assert twin.counts == {"a": 7, "b": 7}
    assert "behind" not in twin.state_dict()


def test_memory_that_moves_is_followed_in_steps_of_some():
    class Box:
        def __init__(self, a):
            self.a = a

    torch = pytest.importorskip("torch")
    w = [torch.from_numpy(a) for a in params()]
    v = params()
    opt, twin = fastopt.Adam(w, lr=0.1), fastopt.Adam(v, lr=0.1)
    for t, live in enumerate(LIVE):
        k = t % 3
        w[k].data = w[k].data.clone()
        opt.step(masked(t, live))
        twin.step(masked(t, live))
    for x, y in zip(w, v, strict=True):
        assert_identical(x.numpy(), y)


def test_parameters_that_are_added_begin_and_all_others_go_on():
    w, v = params(), params()
    opt, alone = fastopt.Adam(w[:2], lr=0.1, average=0.9), Alone(lambda p: fastopt.Adam(p, lr=0.1, average=0.9), v)
    for t in range(3):
        opt.step(masked(t, (0, 1))[:2])
        alone.step(t, (0, 1))
    opt.add({"new": w[2]}, lr=0.02, weight_decay=0.1)
    alone.opts[2].groups[0].update({"lr": 0.02, "weight_decay": 0.1})
    assert opt.counts == [[3, 3], {"new": 0}]
    for t in range(3, 6):
        g = masked(t, (0, 1, 2))
        opt.step([g[:2], {"new": g[2]}])
        alone.step(t, (0, 1, 2))
    assert opt.counts == [[6, 6], {"new": 3}]
    assert opt.state_dict()["paths"] == ["params[0][0]", "params[0][1]", "params[1]['new']"]
    opt.remove("params[0][0]")
    assert opt.counts == [[6], {"new": 3}]
    g = masked(6, (1, 2))
    opt.step([[g[1]], {"new": g[2]}])
    alone.step(6, (1, 2))
    opt.remove("params[1]")
    opt.step([[gradient(7, 1)]])
    alone.step(7, (1,))
    assert (opt.counts, len(opt.groups), opt.params[0]["params"][0] is w[1]) == ([[8]], 1, True)
    for mine, theirs in zip(w, v, strict=True):
        assert_identical(mine, theirs)
    assert_identical(opt.state["average"][0][0], alone.opts[1].state["average"])


def test_remainders_come_and_go_with_their_parameters():
    """Where no parameter had one before, too."""
    w, v = (stored(normal(1, 70), "bf16") for _ in "ab")
    opt, alone = fastopt.Adam([params()[0]], lr=0.1), fastopt.Adam(v, lr=0.1, rounding="remainder")
    opt.step([gradient(0, 0)])
    opt.add(w, rounding="remainder")
    for t in range(3):
        opt.step([[gradient(t, 0)], gradient(t, 1)])
        alone.step(gradient(t, 1))
    assert_identical(w, v)
    assert_identical(opt.state["remainder"][1], alone.state["remainder"])
    opt.remove("params[1]")
    assert sorted(opt.state) == ["m", "v"]
    opt.step([[gradient(3, 0)]])


def test_masks_of_a_group_follow_what_is_removed():
    w, v = params(), params()
    keep = np.arange(w[1].size).reshape(w[1].shape) % 2
    opt = fastopt.Adam([{"params": w[:2], "mask": [False, keep]}, {"params": w[2:]}])
    twin = fastopt.Adam([{"params": v[1:2], "mask": [keep]}, {"params": v[2:]}])
    opt.remove("params[0][0]")
    for one in (opt, twin):
        one.step([[gradient(1, 1)], [gradient(1, 2)]])
    assert_identical(w[1], v[1])
    assert "mask" not in opt.params[1]


def test_what_cannot_be_added_or_removed_changes_nothing():
    from collections import namedtuple
    pair = namedtuple("Pair", "a b")(*params()[:2])
    opt = fastopt.Adam({"p": pair, "c": params()[2]}, copy={"p": pair._make(np.zeros_like(x) for x in pair),
                                                            "c": np.zeros(33, f32)})
    for call, message in (
            (lambda: opt.remove("params['x']"), r"\"params\['x'\]\" is no path of the parameters, which has params"),
            (lambda: opt.remove("params"), "'params' would leave no parameters"),
            (lambda: opt.remove("params['p'].a"), "is no path"),
            (lambda: opt.remove("params['p'][0]"), r"params\['p'\]: a part of a Pair was to be removed"),
            (lambda: opt.add([np.zeros(3, f32)]), r"Adam.add: no copy was given"),
            (lambda: opt.add([np.zeros(3, f32)], copy=[np.zeros(4, f32)]), r"copy\[1\]\[0\]: shape"),
            (lambda: opt.add([pair.a], copy=[np.zeros(5, f32)]), "overlaps"),
            (lambda: opt.add([np.zeros(3, f32)], copy=[np.zeros(3, f32)], b3=1), "b3"),
            (lambda: opt.add([], copy=[]), r"params\[1\]: no arrays")):
        before = opt.state_dict(), opt.params, opt.groups
        with pytest.raises((ValueError, TypeError), match=message):
            call()
        assert before[1] is opt.params
        assert before[2] is opt.groups
        assert before[0]["paths"] == opt.state_dict()["paths"]
    new, copy = params()[0], np.zeros(5, f32)
    opt.add([new], copy=[copy])
    opt.step([{"p": pair, "c": None}, [gradient(0, 0)]])
    assert_identical(new, copy)


@pytest.mark.parametrize("size", [1, 3])
def test_norms_from_elsewhere(size):
    """Shards of one vector, each with the norm of all, step as the whole does, clipped."""
    g, whole, shards = np.linspace(-1, 2, 30, dtype=f32), np.ones(30, f32), np.ones(30, f32)
    opts = [fastopt.Momentum(part, lr=0.1) for part in np.split(shards, size)]
    opt = fastopt.Momentum(whole, lr=0.1)
    for factor in (1.0, 0.5):
        norms = [one.norm(part, grad_factor=factor) for one, part in zip(opts, np.split(g, size), strict=True)]
        norm = sum(x*x for x in norms)**0.5
        np.testing.assert_allclose(norm, factor*np.linalg.norm(g.astype(float)), rtol=1e-15)
        opt.step(g, clip_norm=1.0, grad_factor=factor)
        for one, part in zip(opts, np.split(g, size), strict=True):
            one.step(part, clip_norm=1.0, norm=opt.grad_norm, grad_factor=factor)
            assert one.grad_norm == opt.grad_norm
    assert_identical(shards, whole)
    for one, part in zip(opts, np.split(g, size), strict=True):
        one.step(part, norm=np.inf, skip_nonfinite=True)
        assert one.t == 2
        for bad in (-1.0, "x", None, True):
            if bad is not None:
                with pytest.raises(ValueError, match="step: norm is"):
                    one.step(part, norm=bad, clip_norm=1.0)
        with pytest.raises(ValueError, match="norm without clip_norm or skip_nonfinite"):
            one.step(part, norm=1.0)


@pytest.mark.parametrize("format", ["f32", "f64", "bf16"])
def test_each_gradient_is_clipped_by_its_own_norm(format):
    mine, theirs = params(format), params(format)
    opt, alone = fastopt.Adam(mine, lr=0.1), Alone(lambda p: fastopt.Adam(p, lr=0.1), theirs)
    for t, live in enumerate(LIVE):
        g = masked(t, live)
        if format != "bf16":
            g = [x if x is None or k else x.astype(float) for k, x in enumerate(g)]  # wider than the arithmetic
        opt.step(g, clip_norm=3.0, clip="tensor", grad_factor=-0.5, skip_nonfinite=t % 2 == 0)
        for k in live:
            alone.opts[k].step(g[k], clip_norm=3.0, grad_factor=-0.5)
        if live:
            assert opt.grad_norm == pytest.approx(sum(alone.opts[k].grad_norm**2 for k in live)**0.5, rel=1e-15)
        same(opt, alone, mine)
        opt.step(g)
        alone.step(t, live)
        same(opt, alone, mine)
    with np.errstate(over="ignore"):
        huge = [np.full(n, 1e200) for n in SIZES[:2]] + [gradient(0, 2).astype(float)]
    opt.step(huge, clip_norm=1.0, clip="tensor")
    for k in range(3):
        alone.opts[k].step(huge[k], clip_norm=1.0)
    same(opt, alone, mine)
    for how, message in (({}, "no clip_norm"), ({"clip_norm": 1.0, "norm": 2.0}, "norm=, which")):
        with pytest.raises(ValueError, match=f'step: clip="tensor" with {message}'):
            opt.step(huge, clip="tensor", **how)
    with pytest.raises(ValueError, match="step: clip is 'each', but"):
        opt.step(huge, clip="each", clip_norm=1.0)


@pytest.mark.parametrize(("format", "how"), [("bf16", {"rounding": "stochastic"}), ("f32", {"state": "bf16s"}),
                                             ("f32", {"state": "q8"}),
                                             ("bf16", {"state": "q8", "rounding": "remainder"})])
def test_a_part_draws_the_random_bits_of_its_place(format, how):
    n, cuts = 1_000, [128, 640]
    whole, parts = stored(normal(1, n), format), np.split(stored(normal(1, n), format), cuts)
    opt = fastopt.Adam(whole, lr=0.1, seed=5, **how)
    opts = [fastopt.Adam(part, lr=0.1, seed=5, first=at, **how)
            for part, at in zip(parts, [0, *cuts], strict=True)]
    for t in range(3):
        g = normal(t + 10, n).astype(f32)
        opt.step(g)
        for one, part in zip(opts, np.split(g, cuts), strict=True):
            one.step(part)
    assert_identical(np.concatenate(parts), whole)
    for name in opt.state:
        found = [one.state[name] if name == "remainder" else one.decoded(name) for one in (*opts, opt)]
        assert_identical(np.concatenate(found[:-1]), found[-1], name)


def test_parts_keep_their_places_when_parameters_come_and_go():
    """In each of two machines some of three tensors, one of them cut; the bits are those of all together."""
    how = {"lr": 0.1, "seed": 5, "state": "bf16s"}
    w = [normal(k, n).astype(f32) for k, n in enumerate((300, 500, 200))]
    opt, rest = fastopt.Adam([x.copy() for x in w], **how), w[1][256:].copy()
    one = fastopt.Adam([w[0].copy(), w[1][:256].copy(), w[2].copy()], first=[(0, 0), (1, 0), (2, 0)], **how)
    two = fastopt.Adam([w[0].copy()], first=[(0, 0)], **how)
    two.add([rest, w[2].copy()], first=[(1, 256), (2, 0)])
    for t in range(6):
        g = [normal(9*t + k, len(x)).astype(f32) for k, x in enumerate(w)]
        opt.step(g)
        one.step([g[0], g[1][:256], g[2]][-len(one.params):])
        two.step([*[[g[0]]]*(t < 3), [g[1][256:], g[2]]])
        assert_identical(np.concatenate([one.params[-2], two.params[-1]["params"][0]]), opt.params[1])
        for x in (one.params[-1], two.params[-1]["params"][1]):
            assert_identical(x, opt.params[2])
        if t == 1:
            one.remove("params[0]")
            one = pickle.loads(pickle.dumps(one))
        if t == 2:
            two.remove("params[0]")
    one.add([np.ones(300, f32)])
    assert [of.number for of in one._tensors] == [1, 2, 3]
    with pytest.raises(ValueError, match=r"first\[1\]\[0\]: found -1"):
        two.add([np.ones(3, f32)], first=[-1])


def test_numbers_that_were_not_given_are_counted_anew():
    """As in a new optimizer of what is left, in which a checkpoint goes on."""
    w, how = [normal(k, 300).astype(f32) for k in range(3)], {"state": "bf16s", "seed": 1}
    opt = fastopt.Adam([x.copy() for x in w], first=[128, 0, 256], **how)
    opt.remove("params[0]")
    opt.add([w[0].copy()], first=128)
    opt = copy.copy(opt)
    new = fastopt.Adam([{"params": [w[1], w[2]]}, {"params": [w[0]]}], first=[[0, 256], [128]], **how)
    for t in range(3):
        g = [[normal(t, 300).astype(f32)]*2, [normal(t + 5, 300).astype(f32)]]
        opt.step(g)
        new.step(g)
    for of, other in zip(opt.params, new.params, strict=True):
        assert_identical(np.array(of["params"]), np.array(other["params"]))


def test_firsts_are_checked():
    w = {"a": np.zeros(5, f32), "b": np.zeros(300, f32)}
    for first, message in (({"a": 1}, r"first: no \['b'\]"), ({"a": 0, "b": -1}, r"first\['b'\]: found -1"),
                           ({"a": 0, "b": 1.5}, r"first\['b'\]: found 1.5"), (None, r"first: found NoneType"),
                           (3, r"first\['a'\]: 3, but states of eight bits are cut between blocks of 128")):
        with pytest.raises((ValueError, TypeError), match=message):
            fastopt.Adam(w, first=first, state="q8")
    fastopt.Adam(w, first={"a": 256, "b": 0}, state="q8").step(w)


def test_states_are_adopted():
    """The arrays themselves, in formats that are named or in those of their dtypes, and where they move to."""
    torch = pytest.importorskip("torch")
    w, v = params(), params()
    opt = fastopt.Adam(w, lr=0.1, state={"m": "bf16s", "v": "q8"})
    for t in range(2):
        opt.step(masked(t, (0, 1, 2)))
    m, second = ([np.array(x) for x in opt.state[name]] for name in "mv")
    for x, y in zip(v, w, strict=True):
        x[...] = y
    tensors = [torch.from_numpy(x.view(np.int16)).view(torch.bfloat16) for x in m]
    twin = fastopt.Adam(v, lr=0.1, state={"m": ("bf16s", tensors), "v": ("q8", second)})
    twin.t = 2
    for t in range(2, 5):
        tensors[1].data = tensors[1].data.clone()
        for one in (opt, twin):
            one.step(masked(t, (0, 1, 2)))
    for k in range(3):
        assert_identical(v[k], w[k])
        assert_identical(tensors[k].view(torch.int16).numpy().view(np.uint16), opt.state["m"][k])
        assert_identical(second[k], opt.state["v"][k])
    twin.add([np.zeros(4, f32)])
    twin.step([masked(5, (0, 1, 2)), [None]])
    opt.step(masked(5, (0, 1, 2)))
    assert_identical(tensors[1].view(torch.int16).numpy().view(np.uint16), opt.state["m"][1])


def test_states_that_do_not_fit_are_refused():
    w = np.zeros((3, 4), f32)
    good = np.zeros((3, 4), f32)
    for given, message in (
            ({"m": w}, "overlaps that of"), ({"x": good}, "state names 'x'"),
            ({"m": np.zeros(12, f32)}, r"state\['m'\]: shape \(12,\), but params has \(3, 4\)"),
            ({"m": np.zeros((4, 3), f32).T}, r"state\['m'\]: another memory order than params"),
            ({"m": np.zeros((3, 4), int)}, r"state\['m'\]: dtype int64"),
            ({"m": ("bf16", good)}, r"state\['m'\]: stored as f32, but bf16 is asked for"),
            ({"m": ("q8", good)}, r"state\['m'\]: shape \(3, 4\) of float32, but \(129,\) of uint8"),
            ({"m": [good]}, r"state\['m'\]: a list"), ({"m": ("q9", good)}, "state format 'q9' for m"),
            ({"m": good, "v": good}, "overlaps"), ({"m": np.broadcast_to(f32(0), (3, 4))}, "read-only")):
        with pytest.raises((ValueError, TypeError), match=message):
            fastopt.Adam(w, state=given)


def test_keys_that_are_missing():
    w = {"a": np.ones(3, f32), "deep": {"b": np.ones(2, f32), "c": [np.ones(1, f32)]}, "d": np.ones(1, f32)}
    opt, g = fastopt.SGD(w, lr=1.0), np.full(1, 0.5, f32)
    opt.step({"d": g, "deep": {"c": [g]}}, missing="skip")
    assert opt.counts == {"a": 0, "deep": {"b": 0, "c": [1]}, "d": 1}
    assert [w["a"][0], w["deep"]["b"][0], w["deep"]["c"][0][0], w["d"][0]] == [1, 1, 0.5, 0.5]
    opt.step({"d": g}, missing="skip")
    for grads, how, message in (({"d": g}, {}, r"grads: no \['a', 'deep'\]"),
                                ({"x": g}, {"missing": "skip"}, "unknown"),
                                ({"d": g}, {"missing": "no"}, "step: missing is 'no', but")):
        with pytest.raises(ValueError, match=message):
            opt.step(grads, **how)
    with pytest.raises(TypeError, match=r"grads\['a'\]: a NoneType, but an array is needed"):
        opt.grads = {"a": None, "deep": w["deep"], "d": g}
    assert opt.t == 2


def test_complex_parameters_are_pairs_in_all_of_this():
    """Parts of a vector draw the bits of the whole; states are given as numbers or as codes; gradients may be None."""
    n, cuts = 512, [64, 320]

    def z(seed):
        return (normal(seed, n) + 1j*normal(seed + 1, n)).astype(np.complex64)
    whole, parts, other = z(0), np.split(z(0), cuts), np.ones(3, np.complex64)
    opt = fastopt.Adam([whole, other], lr=0.1, state={"m": "bf16s", "v": "q8"}, seed=2)
    opts = [fastopt.Adam([part, other.copy()], lr=0.1, state={"m": "bf16s", "v": "q8"}, seed=2, first=[at, 0])
            for part, at in zip(parts, [0, *cuts], strict=True)]
    for t in range(3):
        opt.step([z(10 + t), None])
        for one, g in zip(opts, np.split(z(10 + t), cuts), strict=True):
            one.step([g, None])
    assert_identical(np.concatenate(parts), whole)
    m, v = np.copy(opt.state["m"][0]), np.copy(opt.state["v"][0])
    again = whole.copy()
    twin = fastopt.Adam(again, lr=0.1, state={"m": ("bf16s", m), "v": ("q8", v)}, seed=2)
    twin.t = 3
    twin.step(z(20))
    opt.step([z(20), None])
    assert_identical(again, whole)
    v, again = np.zeros(n, np.complex64), whole.copy()
    momentum = fastopt.Momentum(again, lr=1.0, state={"v": v})
    momentum.step(z(3), clip_norm=1.0, clip="tensor")
    assert_identical(whole - v, again)
    with pytest.raises(TypeError, match="dtype float32, but params is complex"):
        fastopt.Momentum(again, state={"v": np.zeros(n, f32)})
