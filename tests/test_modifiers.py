"""Modifiers: pieces that change the gradient, the update or the decay of any rule. Each is its paper."""
import itertools
import math
import pickle
from fractions import Fraction

import numpy as np
import pytest
from conftest import OPTIMIZERS, RULES, assert_identical, normal, stored
from internals import with_pieces
from papers import PAPERS
from reference import MIXES, Twin, gradients, made, measured

import fastopt
from fastopt import rules
from fastopt._rule.pieces import modifiers

DECAYS = {"weight_decay": 0.1, "decay": "decoupled"}
MODIFIERS = {
    "cautious": {"cautious": True}, "cautious_decay": {"cautious_decay": True, **DECAYS},
    "independent": {"cautious_decay": True, "weight_decay": 0.02, "decay": "independent"},
    "update_clip": {"update_clip": 0.4}, "grokfast": {"grokfast_share": 0.7, "grokfast_factor": 1.5},
    "schedule_free": {"schedule_free": 0.8, **DECAYS},
    "scaled": {"cautious": "scaled"}, "update_rms": {"update_rms": 0.4}, "adaptive_clip": {"adaptive_clip": 0.3},
    "lars": {"trust_ratio": "gradient", "trust_coefficient": 0.7, "weight_decay": 0.1},
    "lamb": {"trust_ratio": "update", "trust_coefficient": 0.8, **DECAYS},
    "mars": {"mars": 0.3},
    "all": {"cautious": True, "cautious_decay": True, **DECAYS, "update_clip": 0.6, "grokfast_share": 0.9,
            "grokfast_factor": 3.0, "maximize": True, "schedule_free": 0.9},
    "measured": {"adaptive_clip": 0.5, "cautious": True, "update_clip": 0.6, "trust_ratio": "update", **DECAYS,
                 "cautious_decay": True, "schedule_free": 0.7}}
ALL = MODIFIERS["all"]
GENTLE = ("sgd", "rprop", "rmsprop", "rmsprop_centered", "adagrad", "adadelta")  # updates with the gradient's sign
BLIND = {("adadelta", "update_clip"), ("adadelta", "update_rms"), ("rprop", "adaptive_clip"),
         *((name, "cautious") for name in GENTLE)}  # AdaDelta begins with tiny steps; Rprop sees signs alone


def pieces_of(hyper):
    """The names of the pieces for which these hyperparameters ask."""
    names = [*modifiers(hyper), *["cautious_decay"]*bool(hyper.get("cautious_decay"))]
    decays = [] if "cautious_decay" in names else ["coupled", "decoupled"]
    further = {"grokfast": "grokfast_share", "mars": "mars", "schedule_free": "schedule_free"}
    return ["scale", *decays, *names, *(name for name, given in further.items() if given in hyper)]


@pytest.mark.parametrize("name", RULES)
def test_a_modified_rule_is_its_paper(name):
    """Each modifier alone and all together, in float64; none is without effect."""
    rule, start = RULES[name], normal(1, 23)
    plain = {}
    for modifier, hyper in {"none": {}, **MODIFIERS}.items():
        if rule.ahead or rule.history:
            hyper = {k: v for k, v in hyper.items() if k != "schedule_free"}
        if modifier == "mars" and "b1" not in rule.defaults:
            continue
        modified = with_pieces(rule, *pieces_of(hyper), plain=())
        full = {**rule.defaults, "lr": 0.05, **hyper}
        gone = dict.fromkeys(rule.defaults.keys() - modified.defaults.keys(), 0.0)  # momentum
        initial = [np.full_like(start, full[rule.initial[slot]] if slot in rule.initial else 0.0)
                   for slot in modified.state]
        p, state, theta, s = start, initial, start, {}
        for t in range(1, 16):
            g = normal(t + 7, 23) + 0.5
            c = modified.at(t, **{k: v for k, v in full.items() if k not in gone})
            p, *state = modified(measured(modified, c, np.float64, g, p, *state), g, p, *state)
            theta = PAPERS[name](t, theta, g, s, **{**full, **gone})
            for slot, have, want in zip(("p", *modified.state), (p, *state), (theta, *map(s.get, modified.state)),
                                        strict=True):
                np.testing.assert_allclose(have, want, rtol=1e-11, atol=1e-13, err_msg=f"{modifier}: {slot} at {t}")
        plain.setdefault("none", p)
        blind = modifier == "none" or (name, modifier) in BLIND
        assert blind or not np.array_equal(p, plain["none"]), modifier


@pytest.mark.parametrize("mix", ["f32", "split", "q8"])
@pytest.mark.parametrize("name", ["momentum", "adam", "lion"])
def test_bits_of_modified_steps(name, mix, full):
    """Of kernels: those of the same pieces on NumPy's arrays, in groups that ask for different ones."""
    check_bits(name, mix)
    for other in (other for other in MIXES if full and other != mix):
        check_bits(name, other)


def test_bits_of_all_modified_rules(full):
    for name in RULES if full else ["rprop", "ademamix"]:
        check_bits(name, "f32")


@pytest.mark.parametrize("mix", ["f32", "split", "q8"])
@pytest.mark.parametrize("name", ["sgd", "adam", "lion"])
def test_bits_of_schedule_free_steps(name, mix):
    check_bits(name, mix, schedule_free=True)


def check_bits(name, mix, **more):
    format = MIXES[mix][0]
    params = [stored(normal(k, n), format) for k, n in enumerate((129, 257, 31))]
    first = {k: v for k, v in ALL.items() if k not in ("grokfast_share", "grokfast_factor", "schedule_free")}
    groups = [{"params": params[0], **first}, {"params": params[1], "update_clip": lambda t: 0.1*t}, params[2]]
    groups[2] = {"params": groups[2], "cautious": True, "weight_decay": 0.1}
    opt = made(name, groups, mix, lr=0.05, grokfast=(0.8, 1.5), seed=3, **more)
    twin = Twin(opt)
    for t in range(3):
        grads = gradients(opt, t)
        twin.reference(grads)
        opt.step(grads)
        twin.check()


@pytest.mark.parametrize("mix", ["f32", "f64", "split", "q8"])
def test_bits_of_measured_steps(mix, full):
    """Of whole tensors and rows, in groups that measure different things, with any number of threads, beside None."""
    for name in RULES if full else ["adam"]:
        check_measured_bits(name, mix)


def check_measured_bits(name, mix):
    shapes = (3, 128), (70_001,), (1,), (0,), (2, 5, 128), (5_000,)
    hows = ({"adaptive_clip": 0.5, "trust_ratio": "update", "weight_decay": 0.1, "decay": "decoupled"},
            {"trust_ratio": "gradient", "trust_coefficient": 0.01, "weight_decay": 0.1}, {"cautious": "scaled"},
            {"trust_ratio": "update"}, {"adaptive_clip": 0.1, "update_rms": 0.5, "maximize": True}, {})
    format = MIXES[mix][0]
    params = [{"params": stored(normal(k, *shape), format), **how}
              for k, (shape, how) in enumerate(zip(shapes, hows, strict=True))]
    opt = made(name, params, mix, lr=0.05, seed=3, threads=2)
    twin = Twin(opt)
    for t in range(3):
        grads = gradients(opt, t, "f64" if t == 2 else None)
        opt.threads = 1 + t % 2
        twin.step(grads, grad_factor=0.5 + 0.5*(t == 0))
    before = opt.params[0]["params"].copy()
    opt.step([None, *grads[1:]], clip_norm=1.0)
    assert_identical(opt.params[0]["params"], before)


@pytest.mark.parametrize(("order", "columns", "state"), [("F", 128, None), ("C", 100, "q8")])
def test_rows_count_where_a_group_asks_for_them(order, columns, state):
    """adaptive_clip of one group asks nothing of the arrays of another, which may lie otherwise."""
    p, other = normal(1, 4, 128), normal(2, 4, columns).copy(order)
    groups, start = [{"params": p, "adaptive_clip": 1e-3}, {"params": other}], other.copy(order)
    fastopt.Momentum(groups, lr=0.5, state=state).step([normal(3, 4, 128), start])
    np.testing.assert_allclose(other, 0.5*start)


@pytest.mark.parametrize("name", ["LAMB", "LARS"])
def test_a_trust_ratio_beyond_float32_leaves_numbers(name):
    """Where |p|/|g| is too large for the format, infinity times an element that is 0 would be NaN."""
    p, g = np.full(9, 1e3, np.float32), np.zeros(9, np.float32)
    g[0] = 1e-42
    getattr(fastopt, name)(p, lr=1.0, weight_decay=0.0).step(g)
    assert np.isfinite(p).all()
    assert (p[1:] == 1e3).all()


def test_a_refused_gradient_of_rows_names_the_hyperparameter():
    for how, name in (({"trust_ratio": "gradient"}, "trust_ratio"), ({"cautious": "scaled"}, "cautious"),
                      ({"update_rms": 1.0}, "update_rms")):
        opt = fastopt.SGD(np.ones((3, 4)), lr=0.5, **how)
        with pytest.raises(ValueError, match=f"but {name} measures"):
            opt.step(fastopt.Rows([1], np.ones((1, 4))))


@pytest.mark.parametrize("name", ["update_clip", "update_rms", "adaptive_clip"])
def test_a_limit_of_0_is_none(name):
    """Also where a function gives it."""
    ends = []
    for limit in (0.0, lambda t: 0.0 if t < 3 else 1e-3, lambda t: 1e-3):
        p = normal(1, 40)
        opt = fastopt.Momentum(p, lr=0.1, **{name: limit})
        for t in range(2):
            opt.step(normal(t + 2, 40))
        ends.append(p)
    assert_identical(ends[0], ends[1])
    assert np.all(ends[0] != ends[2])


def test_measures():
    """The norms of one step's gradients, parameters and updates, of each parameter; NaN where there was no gradient."""
    params = {"a": normal(1, 3, 50), "b": normal(2, 9_000), "c": np.zeros((0, 2)), "d": normal(3, 4)}
    opt = fastopt.AdamW(params, lr=0.1, trust_ratio="update")
    assert np.isnan(opt.measures["params"]["a"])
    for t in range(2):
        grads = {name: normal(t + k, *p.shape) for k, (name, p) in enumerate(params.items())}
        before = {name: p.copy() for name, p in params.items()}
        opt.step(grads, grad_factor=0.5, measure=True)
        for name, p in params.items():
            for what, array in (("grads", 0.5*grads[name]), ("params", before[name]), ("updates", p - before[name])):
                assert opt.measures[what][name] == pytest.approx(np.linalg.norm(array), rel=1e-12)
    opt.step({**grads, "d": None}, measure=True)
    assert np.isnan(opt.measures["updates"]["d"])
    assert opt.measures["updates"]["a"] > 0


def length(x):
    """The exact Euclidean norm of float64 numbers, as a fraction."""
    units = (n*(2**1200//d) for n, d in map(float.as_integer_ratio, x.ravel().tolist()))
    return Fraction(math.isqrt(sum(n*n for n in units)), 2**1200)


@pytest.mark.parametrize("scale", [1e-310, 1e-170, 1.0, 1.7e152, 1e160, 1e306])
def test_squares_beyond_the_range(scale):
    """Modifiers that measure tensors, and norms, of float64 numbers, are right where squares are infinite or 0, or add
    up to infinity."""
    for (shape, power), p_scale in itertools.product((((3,), 0), ((9_001,), 0), ((9_001,), 100)), {1.0, scale}):
        p, g = p_scale*normal(1, *shape), scale*normal(2, *shape)
        g[1:4_200] *= 10.0**-power  # of a tile, the squares of all but one may be 0
        rms = length(0.5*g)/Fraction(math.sqrt(g.size))
        for how, factor in (
                ({}, 1), ({"trust_ratio": "update"}, length(p)/length(0.5*g)*Fraction(0.5)),
                ({"trust_ratio": "gradient", "trust_coefficient": 0.25}, length(p)/length(g)/4),
                ({"update_rms": 0.25*scale}, min(1, Fraction(0.125*scale)/rms)),
                ({"adaptive_clip": 0.25}, min(1, max(Fraction(1e-3), length(p))/length(g)/4))):
            if not 1e-250 < factor < 1e250:
                continue
            q = p.copy()
            opt = fastopt.SGD(q, lr=0.5, **how)
            opt.step(g, measure=True)
            tiny = 1e-14*p_scale + 1e-322
            np.testing.assert_allclose(q, p - float(factor)*0.5*g, 1e-12, tiny, err_msg=f"{how}, {p_scale}")
            for what, exact in (("grads", length(g)), ("params", length(p)), ("updates", factor*length(0.5*g))):
                rounded = 1e-320 + (what == "updates")*1e-14*float(length(p))
                assert opt.measures[what] == pytest.approx(float(exact), rel=1e-12, abs=rounded), f"{how}: {what}"
        opt = fastopt.AdamW(p.copy(), b1=0.5, mars=0.5)  # g is 1.5 times as long, for there was none
        opt.step(g)
        np.testing.assert_allclose(opt.state["m"], 0.5*float(min(Fraction(1.5), 1/length(g)))*g, 1e-12, 1e-322)


@pytest.mark.parametrize("scale", [1e-40, 1e-20, 1e37])
def test_all_numbers_of_float32(scale):
    """Small ones have few digits."""
    for trust_ratio in ("gradient", "update"):
        p, g = np.full(9, scale, np.float32), np.full(9, 0.25*scale, np.float32)
        fastopt.SGD(p, lr=0.5, trust_ratio=trust_ratio, trust_coefficient=1.0).step(g)
        np.testing.assert_allclose(p, 0.5*scale, 1e-4)


def test_measures_are_of_the_last_step_that_measured():
    """Other tensors may have gradients in steps after it, and groups may be others; it may have been skipped."""
    p, nan = [np.full(4, 3.0), np.full(9, 2.0), np.zeros(0)], np.nan
    opt, g = fastopt.SGD(p, lr=0.5), [np.ones(4), np.full(9, 2.0), np.zeros(0)]
    part = [None, *g[1:]]
    for grads, how, found, then in (
            (g, {}, [2, 6, 0], (part, g)), (part, {}, [nan, 6, 0], (g, part, [*g[:2], None])),
            (g, {}, [2, 6, 0], (part,)),
            ([None]*3, {}, [nan]*3, (g,)), (g, {"clip": "tensor", "clip_norm": 1.0}, [1, 1, 0], (g,)),
            (g, {"skip_nonfinite": True, "norm": np.inf}, [nan, nan, 0], (g,)),
            (part, {"skip_nonfinite": True, "norm": np.inf}, [nan, nan, 0], (g,))):
        opt.step(grads, measure=True, **how)
        for later in ((), *then):
            if later:
                opt.step(later)
            assert opt.measures["grads"] == pytest.approx(found, nan_ok=True)
    opt.step(g, measure=True)
    opt.remove("params[0]")
    assert np.isnan(opt.measures["params"]).all()


def test_measuring_changes_no_bit():
    ends = []
    for measure in (False, True):
        p = [normal(1, 3, 50), normal(2, 70_000)]
        opt = fastopt.Nesterov(p, lr=0.1, state="q8")
        for t in range(4):
            opt.step(gradients(opt, t), measure=measure and t > 1)
        ends.append([*p, *opt.state["v"]])
    for one, other in zip(*ends, strict=True):
        assert_identical(one, other)


def test_laws():
    """SGD's update agrees with its gradient; a factor of 0 adds nothing; no element moves further than the limit."""
    start, gs = normal(1, 1000), [normal(k + 2, 1000) for k in range(5)]

    def walked(cls, **how):
        p = start.copy()
        opt = cls(p, lr=0.1, **how)
        for g in gs:
            before = p.copy()
            opt.step(g)
            yield p.copy(), p - before

    for cls, how in ((fastopt.SGD, {"cautious": True}), (fastopt.Adam, {"grokfast": (0.9, 0.0)}),
                     (fastopt.Adam, {"cautious_decay": True, "decay": "decoupled"})):
        for (a, _), (b, _) in zip(walked(cls), walked(cls, **how), strict=True):
            assert_identical(a, b)
    moved = [np.abs(change).max() for _, change in walked(fastopt.Momentum, update_clip=0.5)]
    assert max(moved) == pytest.approx(0.05, rel=1e-12)
    for (_, change), g in zip(walked(fastopt.Momentum, cautious=True), gs, strict=True):
        assert np.all(change*g <= 0)
        assert np.any(change == 0) == (g is not gs[0])


def test_masked_elements_keep_the_average_of_grokfast():
    p, mask = normal(1, 40), np.arange(40) % 2
    opt = fastopt.Adam(p, grokfast=True)
    opt.step(normal(2, 40))
    before = p.copy(), opt.state["grokfast"].copy()
    opt.step(normal(3, 40), mask=mask)
    for old, new in zip(before, (p, opt.state["grokfast"]), strict=True):
        assert_identical(new[mask == 0], old[mask == 0])
        assert np.all(new[mask == 1] != old[mask == 1])


def test_checkpoints_and_copies():
    """They go on with the same bits; a dict from before there were modifiers leaves those of the optimizer alone."""
    opts = [fastopt.AdamW(normal(1, 50), lr=0.1, grokfast=(0.5, 1.0), cautious=True, update_clip=0.6) for _ in range(2)]
    opts[0].step(normal(2, 50))
    opts[1].params[...] = opts[0].params
    opts[1].load_state_dict(opts[0].state_dict())
    opts.append(pickle.loads(pickle.dumps(opts[0])))
    for opt in opts:
        opt.step(normal(3, 50))
        assert (opt.groups[0]["update_clip"], opt.groups[0]["grokfast_factor"]) == (0.6, 1.0)
        assert_identical(opt.params, opts[0].params)
        assert_identical(opt.state["grokfast"], opts[0].state["grokfast"])
    old = fastopt.AdamW(normal(1, 50))
    old.step(normal(2, 50))
    saved = old.state_dict()
    saved["groups"] = [{k: v for k, v in saved["groups"][0].items() if k not in MODIFIERS}]
    new = fastopt.AdamW(normal(1, 50), cautious=True)
    new.load_state_dict(saved)
    assert (new.groups[0]["cautious"], new.t) == (True, 1)
    with pytest.raises(TypeError, match="'grokfast_share' is no hyperparameter of adamw"):
        old.load_state_dict(opts[0].state_dict())
    old.load_state_dict(opts[0].state_dict(), convert=True)
    opts[0].load_state_dict(old.state_dict(), convert=True)
    assert_identical(old.state["m"], opts[0].state["m"])
    assert np.all(opts[0].state["grokfast"] != 0)


def test_groups_may_change_their_modifiers():
    p = np.ones(8)
    opt = fastopt.Momentum(p, lr=1.0, momentum=0.5)
    opt.step(np.ones(8))
    opt.groups[0]["cautious"] = True
    opt.step(-0.1*np.ones(8))  # the velocity is 0.4 now, against the gradient
    assert np.array_equal(p, np.zeros(8))
    opt.groups[0]["cautious"] = False
    opt.step(np.zeros(8))
    assert np.array_equal(p, np.full(8, -0.2))


@pytest.mark.parametrize(("call", "message"), [
    (lambda p: fastopt.Adam(p, cautious_decay=True, weight_decay=0.1),
     'Adam: cautious_decay with decay="coupled", but it chooses where decay is subtracted from a parameter. Give '
     'decay="decoupled" or decay="independent", too.'),
    (lambda p: fastopt.Adam(p, grokfast=0.98), "Adam: grokfast is 0.98, but (share, factor) is needed, (0.98, 2.0) for "
     "example. Change it, or give True."),
    (lambda p: rules.adam.at(1, cautious=True), "adam.at: cautious=True, but a rule by itself computes no cautious. "
     "Make an optimizer with it, or compute it in your own code.")])
def test_errors(call, message):
    with pytest.raises(ValueError) as caught:
        call(np.ones(3))
    assert str(caught.value) == message


def test_true_stands_for_the_defaults():
    names = "average", "grokfast", "mars", "schedule_free"
    values = {"grokfast_share": 0.98, "grokfast_factor": 2.0, "mars": 0.025, "average": 0.999}
    opt = fastopt.AdamW(np.ones(3), **dict.fromkeys(names[:3], True), schedule_free=False)
    assert {k: opt.groups[0].get(k) for k in values} == values
    assert fastopt.AdamW(np.ones(3), schedule_free=True).groups[0]["schedule_free"] == 0.9
    assert list(fastopt.AdamW(np.ones(3), **dict.fromkeys(names, False)).state) == ["m", "v"]


def test_every_optimizer_takes_them():
    for name, cls in OPTIMIZERS.items():
        p = np.ones(3)
        opt = cls(p, lr=0.01, cautious=True, grokfast=True, update_clip=0.5)
        assert "grokfast" in opt.state, name
