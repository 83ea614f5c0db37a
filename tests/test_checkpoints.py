"""State dicts: plain, checked before anything is written, resumed bit for bit; and torch's own."""
import json
import pickle
from itertools import product

import ml_dtypes
import numpy as np
import pytest
from conftest import BFLOAT16, OPTIMIZERS, assert_identical, normal

import fastopt
from fastopt import schedules

f16, f32, f64 = np.float16, np.float32, np.float64


def parameters():
    return {"W": normal(0, 3, 5).astype(f32), "b": [normal(1, 7), normal(2, 4).astype(f16)],
            "c": normal(3, 6).astype(f32).astype(BFLOAT16),
            "F": np.asfortranarray(normal(4, 3, 4).astype(f32)), "s": np.array(0.5, f32)}


def gradients(seed):
    return {"W": normal(seed, 3, 5).astype(f32), "b": [normal(seed + 1, 7), normal(seed + 2, 4).astype(f32)],
            "c": normal(seed + 3, 6).astype(f32), "F": normal(seed + 4, 3, 4).astype(f32), "s": np.array(0.25, f32)}


def leaves(tree):
    return [tree["W"], *tree["b"], tree["c"], tree["F"], tree["s"]]


def copied(tree):
    return {k: [x.copy() for x in v] if isinstance(v, list) else v.copy(order="K") for k, v in tree.items()}


def make(name, p=None, **options):
    return OPTIMIZERS[name](parameters() if p is None else p, lr=0.05, weight_decay=0.01, **options)


def walked(name, steps=3, **options):
    opt = make(name, **options)
    for t in range(steps):
        opt.step(gradients(10*t))
    return opt


def everything(opt):
    return [*leaves(opt.params), *(a for state in opt.state.values() for a in leaves(state))]


def plain_bits(a):
    return a.view(np.uint16) if a.dtype == BFLOAT16 else a


def assert_equal(opt, other):
    assert opt.t == other.t
    assert [dict(g) for g in opt.groups] == [dict(g) for g in other.groups]
    for x, y in zip(everything(opt), everything(other), strict=True):
        assert x.strides == y.strides
        assert_identical(plain_bits(x), plain_bits(y))


def through_json(saved):
    """Numbers and names through JSON; arrays through bytes."""
    arrays = []

    def default(x):
        assert type(x) is np.ndarray
        arrays.append(x.copy(order="K"))
        return {"array": len(arrays) - 1}

    text = json.dumps(saved, default=default)
    return json.loads(text, object_hook=lambda d: arrays[d["array"]] if list(d) == ["array"] else d)


@pytest.mark.parametrize(("name", "state"), [*product(OPTIMIZERS, (None, "bfloat16")), ("adam", "float16"), ("momentum",
                                                                                                             "float64")])
def test_resumed_is_continued_bit_for_bit(name, state):
    opt = walked(name, state=state)
    saved = opt.state_dict()
    p = copied(opt.params)
    for way in (through_json, lambda s: pickle.loads(pickle.dumps(s))):
        again = make(name, copied(p), state=state)
        again.load_state_dict(way(saved))
        assert again.t == 3
        straight = walked(name, state=state)
        for t in range(3, 6):
            for o in (again, straight):
                o.step(gradients(10*t), clip_norm=3.0)
        assert_equal(again, straight)
        assert again.t == 6


def test_what_a_state_dict_holds():
    opt = walked("amsgrad")
    saved = opt.state_dict()
    assert list(saved) == ["version", "rule", "t", "groups", "paths", "state"]
    assert (saved["version"], saved["rule"], saved["t"], type(saved["t"])) == (1, "amsgrad", 3, int)
    assert saved["paths"] == ["params['W']", "params['b'][0]", "params['b'][1]", "params['c']", "params['F']",
                              "params['s']"]
    assert saved["groups"] == [dict(opt.groups[0])]
    assert {type(x) for x in saved["groups"][0].values()} <= {float, str, bool}
    assert list(saved["state"]) == ["m", "v", "top"]
    assert "threads" not in json.dumps(saved, default=str)
    opt.t = 2**31 + 7
    again = make("amsgrad")
    again.load_state_dict(through_json(opt.state_dict()))
    assert again.t == 2**31 + 7


def test_copies_and_views():
    opt = walked("adam")
    copies, views = opt.state_dict(), opt.state_dict(copy=False)
    before = [a.copy() for a in copies["state"]["m"]]
    opt.step(gradients(50))
    for copy, view, now, old in zip(copies["state"]["m"], views["state"]["m"], leaves(opt.state["m"]), before,
                                    strict=True):
        assert_identical(plain_bits(copy), plain_bits(old))
        assert view is not now  # each has a header of its own
        assert np.shares_memory(view, now) or not now.size
        assert not np.array_equal(copy, now)
    opt.load_state_dict(views)  # of itself: nothing moves
    assert_equal(opt, _stepped_again())


def _stepped_again():
    opt = walked("adam")
    opt.step(gradients(50))
    opt.t = 3
    return opt


def test_functions_stay_and_numbers_come_from_the_checkpoint():
    rate = schedules.cosine(0.1, 100)
    p = np.ones(3)
    old = fastopt.Adam([{"params": p, "lr": rate}, {"params": p.copy(), "b1": 0.5}], lr=0.2)
    old.step([np.ones(3), np.ones(3)])
    saved = old.state_dict()
    assert "lr" not in saved["groups"][0]
    new = fastopt.Adam([{"params": p.copy(), "lr": 0.7}, {"params": p.copy(), "lr": rate, "b1": 0.6}], threads=1)
    new.load_state_dict(saved)
    assert [g["lr"] for g in new.groups] == [0.7, rate]
    assert new.groups[1]["b1"] == 0.5
    assert (new.threads, new.t) == (1, 1)


def test_bfloat16_bits_and_arrays_are_one_format():
    g = normal(5, 6)
    made = [fastopt.Adam(normal(1, 6).astype(f32).astype(BFLOAT16), state="bfloat16") for _ in range(2)]
    made.append(fastopt.Adam(normal(1, 6).astype(f32).astype(BFLOAT16).view(np.uint16), state="bfloat16"))
    made[0].step(g)
    saved = made[0].state_dict()
    for other in made[1:]:
        other.params.view(np.uint16)[...] = made[0].params.view(np.uint16)
        other.load_state_dict(saved)
        other.step(g)
    made[0].step(g)
    for other in made[1:]:
        assert_identical(other.params.view(np.uint16), made[0].params.view(np.uint16))
    assert saved["state"]["m"][0].dtype == ml_dtypes.bfloat16


# What is refused

def spoiled(saved, **changes):
    return {**saved, **changes}


def with_array(saved, name, k, array):
    state = {n: list(arrays) for n, arrays in saved["state"].items()}
    state[name][k] = array
    return {**saved, "state": state}


SPOILT = {
    "number": (lambda s: 5, TypeError, "load_state_dict: a int, but a dict is needed. Give what state_dict() returned."),
    "None": (lambda s: None, TypeError, "load_state_dict: a NoneType, but a dict is needed."),
    "list": (lambda s: [s], TypeError, "load_state_dict: a list, but a dict is needed."),
    "empty": (lambda s: {}, ValueError, "load_state_dict: no groups, rule, state, t, version in it. Give what "
                                        "state_dict() returned."),
    "weights": (lambda s: {"W": np.ones(3)}, ValueError, "load_state_dict: no groups, rule,"),
    "version": (lambda s: spoiled(s, version=2), ValueError, "load_state_dict: version 2, but this fastopt reads 1. "
                                                             "Update fastopt."),
    "rule": (lambda s: spoiled(s, rule="lion"), ValueError,
             "load_state_dict: the state of lion, but this optimizer is adam. Make that one"),
    "t negative": (lambda s: spoiled(s, t=-1), ValueError, "load_state_dict: t is -1, but a whole number, 0 or more, "
                                                           "is needed."),
    "t fraction": (lambda s: spoiled(s, t=2.5), ValueError, "load_state_dict: t is 2.5, but"),
    "t true": (lambda s: spoiled(s, t=True), ValueError, "load_state_dict: t is True, but"),
    "t huge": (lambda s: spoiled(s, t=2**70), ValueError, "load_state_dict: t is 1180591620717411303424, but"),
    "groups": (lambda s: spoiled(s, groups=5), TypeError, "load_state_dict: groups is a int, but a list is needed."),
    "no groups": (lambda s: spoiled(s, groups=[]), ValueError,
                  "load_state_dict: 0 groups, but this optimizer has 1. Make the same groups."),
    "group": (lambda s: spoiled(s, groups=[7]), TypeError,
              "load_state_dict: group 0 is a int, but a dict is needed. The checkpoint is damaged."),
    "lr": (lambda s: spoiled(s, groups=[{"lr": -1.0}]), ValueError,
           "load_state_dict: group 0: lr is -1.0, but a finite number, 0 or more,"),
    "unknown": (lambda s: spoiled(s, groups=[{"rate": 1.0}]), TypeError, "load_state_dict: group 0: 'rate' is no "
                                                                         "hyperparameter of adam"),
    "state": (lambda s: spoiled(s, state=[1]), TypeError, "load_state_dict: state is a list, but a dict is needed."),
    "states": (lambda s: spoiled(s, state={"m": s["state"]["m"]}), ValueError, "load_state_dict: state ['m'], but adam "
                                                                               "has ['m', 'v']"),
    "fewer": (lambda s: spoiled(s, state={k: v[:2] for k, v in s["state"].items()}), ValueError,
              "load_state_dict: 2 arrays of m, but there are 6 parameters"),
    "paths": (lambda s: spoiled(s, paths=s["paths"][:2]), ValueError,
              "load_state_dict: 2 parameters, but this optimizer has 6. It belongs to"),
    "path": (lambda s: spoiled(s, paths=["params['V']", *s["paths"][1:]]), ValueError,
             "load_state_dict: the checkpoint has no params['W'] and params['V'], which this optimizer has not. Give "
             "the "),
    "shape": (lambda s: with_array(s, "v", 0, np.zeros((5, 3), f32)), ValueError,
              "load_state_dict: v of params['W']: shape (5, 3), but (3, 5) is needed. It belongs to another model."),
    "dtype": (lambda s: with_array(s, "v", 0, np.zeros((3, 5))), ValueError,
              "load_state_dict: v of params['W']: stored as float64, but this optimizer keeps float32. Make it with "
              "state="),
    "object": (lambda s: with_array(s, "v", 4, np.zeros((3, 4), object)), TypeError,
               "load_state_dict: v of params['F']: dtype object, but one of"),
    "text": (lambda s: with_array(s, "v", 5, "x"), TypeError, "load_state_dict: v of params['s']: a str, but an array "
                                                              "is needed"),
}


@pytest.mark.parametrize("case", SPOILT)
def test_a_damaged_checkpoint_changes_nothing(case):
    spoil, kind, message = SPOILT[case]
    opt, twin = walked("adam", 2), walked("adam", 2)
    with pytest.raises(kind) as error:
        opt.load_state_dict(spoil(walked("adam", 3).state_dict()))
    assert str(error.value).startswith(message)
    for _ in range(2):
        assert_equal(opt, twin)
        for o in (opt, twin):
            o.step(gradients(70))


# torch

def torch_cases(torch):
    optim = torch.optim
    return {
        "sgd": ("sgd", optim.SGD, {"lr": 0.1, "weight_decay": 0.01}),
        "momentum": ("momentum", optim.SGD, {"lr": 0.1, "momentum": 0.8}),
        "dampened": ("momentum", optim.SGD, {"lr": 0.1, "momentum": 0.8, "dampening": 0.3, "weight_decay": 0.01,
                                             "maximize": True}),
        "nesterov": ("nesterov", optim.SGD, {"lr": 0.1, "momentum": 0.8, "nesterov": True}),
        "rmsprop": ("rmsprop", optim.RMSprop, {"lr": 0.01, "alpha": 0.9, "eps": 1e-6}),
        "adagrad": ("adagrad", optim.Adagrad, {"lr": 0.1, "lr_decay": 0.1}),
        "adam": ("adam", optim.Adam, {"lr": 0.01, "betas": (0.8, 0.95), "weight_decay": 0.1}),
        "adamw": ("adamw", optim.AdamW, {"lr": 0.01, "weight_decay": 0.2}),
        "adamw as adam": ("adam", optim.AdamW, {"lr": 0.01, "weight_decay": 0.2}),
        "amsgrad": ("amsgrad", optim.Adam, {"lr": 0.01, "betas": (0.8, 0.9), "amsgrad": True}),
        "nadam": ("nadam", optim.NAdam, {"lr": 0.01, "momentum_decay": 0.01}),
        "radam": ("radam", optim.RAdam, {"lr": 0.01, "betas": (0.8, 0.9), "decoupled_weight_decay": True,
                                         "weight_decay": 0.1}),
    }


NAMES = ("sgd", "momentum", "dampened", "nesterov", "rmsprop", "adagrad", "adam", "adamw", "adamw as adam", "amsgrad",
         "nadam", "radam")


@pytest.fixture
def torch():
    torch = pytest.importorskip("torch")
    yield torch
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("given", ["like", "bare"])
@pytest.mark.parametrize("case", NAMES)
def test_a_run_begun_in_torch_goes_on_here(torch, case, dtype, given):
    """20 steps there, its state dict, 20 more in both. "bare": its numbers and conventions come from the dict alone."""
    name, theirs, hyper = torch_cases(torch)[case]
    torch.set_default_dtype(getattr(torch, dtype))  # of its step counts
    kind, tolerance = {"float32": (f32, 2e-6), "float64": (f64, 1e-12)}[dtype]
    start = [normal(0, 4, 3).astype(kind), normal(1, 5).astype(kind)]
    tensors = [torch.nn.Parameter(torch.tensor(x)) for x in start]
    reference = theirs([{"params": tensors[:1]}, {"params": tensors[1:], "lr": 0.02}], **hyper)

    def step(t):
        g = [normal(100 + 2*t + k, *x.shape).astype(kind) for k, x in enumerate(start)]
        for p, x in zip(tensors, g, strict=True):
            p.grad = torch.tensor(x)
        reference.step()
        return g

    for t in range(20):
        step(t)
    w = [p.detach().numpy().copy() for p in tensors]
    opt = OPTIMIZERS[name]([{"params": w[0]}, {"params": w[1]}], **({"like": "torch"} if given == "like" else {}))
    opt.t = 20  # SGD's dict holds none
    opt.load_state_dict(reference.state_dict())
    assert [g["lr"] for g in opt.groups] == [hyper["lr"], 0.02]
    for t in range(20, 40):
        opt.step(step(t))
    for x, p in zip(w, tensors, strict=True):
        np.testing.assert_allclose(x, p.detach().numpy(), rtol=tolerance, atol=tolerance)
    assert opt.t == 40
    assert not np.allclose(w[0], start[0], atol=1e-3)


def test_states_of_another_torch_optimizer_are_refused(torch):
    w = torch.nn.Parameter(torch.ones(3))

    def saved(cls, **hyper):
        opt = cls([w], **hyper)
        w.grad = torch.ones(3)
        opt.step()
        return opt.state_dict()

    optim = torch.optim
    cases = [
        ("lion", saved(optim.Adam), "torch has no lion. Give what state_dict() returned."),
        ("momentum", saved(optim.Adam), "momentum needs momentum_buffer. Make the optimizer whose state it is."),
        ("rmsprop", saved(optim.Adam), "rmsprop needs square_avg."),
        ("rmsprop", saved(optim.Adagrad), "rmsprop needs square_avg."),
        ("adam", saved(optim.RMSprop), "adam needs exp_avg."),
        ("amsgrad", saved(optim.Adam), "amsgrad needs max_exp_avg_sq."),
        ("adam", saved(optim.Adam, amsgrad=True), "amsgrad=True, but this optimizer is adam. Make the one whose state "
                                                  "it is."),
        ("momentum", saved(optim.SGD, lr=0.1, momentum=0.9, nesterov=True), "nesterov=True, but this optimizer is "
                                                                            "momentum."),
        ("nesterov", saved(optim.SGD, lr=0.1, momentum=0.9), "nesterov=False, but this optimizer is nesterov."),
        ("sgd", saved(optim.SGD, lr=0.1, momentum=0.9), "momentum=0.9, but sgd has none."),
        ("rmsprop", saved(optim.RMSprop, momentum=0.9), "momentum=0.9, but rmsprop has none."),
        ("rmsprop", saved(optim.RMSprop, centered=True), "centered=True, but this optimizer is rmsprop."),
    ]
    for name, state, message in cases:
        p = np.ones(3, f32)
        opt = OPTIMIZERS[name](p)
        with pytest.raises(ValueError) as error:
            opt.load_state_dict(state)
        assert str(error.value).startswith("load_state_dict: torch's dict: ")
        assert message in str(error.value)
        assert (opt.t, dict(opt.groups[0])) == (0, OPTIMIZERS[name].rule.defaults)
        assert not any(s.any() for s in opt.state.values())


def test_torch_dicts_of_another_model_are_refused(torch):
    tensors = [torch.nn.Parameter(torch.ones(3)), torch.nn.Parameter(torch.ones(2))]
    opt = torch.optim.Adam(tensors)
    tensors[0].grad = torch.ones(3)
    opt.step()
    tensors[1].grad = torch.ones(2)
    opt.step()
    three, two = np.ones(3, f32), np.ones(2, f32)
    for params, message in (([three], "groups of [2] parameters, but this optimizer has [1]. Make the same groups."),
                            ([{"params": [three]}, {"params": two}], "groups of [2] parameters, but this optimizer has "
                                                                     "[1, 1]."),
                            ([three, two], "parameters at different steps [1, 2], but one step count is needed.")):
        with pytest.raises(ValueError) as error:
            fastopt.Adam(params).load_state_dict(opt.state_dict())
        assert message in str(error.value)
    opt = torch.optim.Adam(tensors)
    opt.step()
    with pytest.raises(ValueError, match=r"load_state_dict: m of params\[0\]: shape \(3,\), but \(2,\) is needed"):
        fastopt.Adam([np.ones(2, f32), np.ones(3, f32)]).load_state_dict(opt.state_dict())
    with pytest.raises(ValueError, match=r"load_state_dict: m of params\[0\]: stored as .*float32, but this optimizer "
                                         r"keeps float64"):
        fastopt.Adam([np.ones(3), np.ones(2)]).load_state_dict(opt.state_dict())


def test_a_torch_state_in_bfloat16(torch):
    """bfloat16 parameters keep bfloat16 moments in torch: taken where the state here is bfloat16 too."""
    w = torch.nn.Parameter(torch.ones(3, dtype=torch.bfloat16))
    theirs = torch.optim.Adam([w])
    w.grad = torch.tensor([1.0, 2.0, 3.0], dtype=torch.bfloat16)
    theirs.step()
    opt = fastopt.Adam([np.ones(3, BFLOAT16)], state="bfloat16")
    opt.load_state_dict(theirs.state_dict())
    want = theirs.state_dict()["state"][0]["exp_avg"].view(torch.int16).numpy().view(np.uint16)
    assert_identical(opt.state["m"][0].view(np.uint16), want)
    assert want.any()


# States that are stored in fewer bytes

LEAN = {"q8": {"state": "q8"}, "stochastic": {"state": {"m": "bf16s", "v": "f16s"}, "rounding": "stochastic"},
        "average": {"average": 0.9},
        "lean average": {"average": 0.9, "state": {"m": "q8", "average": "bf16s"}}}


def lean_parameters():
    """Of several blocks, in both memory orders, and 16 bits."""
    return {"W": normal(0, 20, 33).astype(f32), "b": [normal(1, 7), normal(2, 300).astype(f32).astype(BFLOAT16)],
            "c": normal(3, 6).astype(f32).astype(BFLOAT16), "F": np.asfortranarray(normal(4, 30, 14).astype(f32)),
            "s": np.array(0.5, f32)}


def lean_gradients(seed):
    return {"W": normal(seed, 20, 33).astype(f32), "b": [normal(seed + 1, 7), normal(seed + 2, 300).astype(f32)],
            "c": normal(seed + 3, 6).astype(f32), "F": normal(seed + 4, 30, 14).astype(f32), "s": np.array(0.25, f32)}


def lean(options, p=None, steps=0, name="adam", **more):
    opt = OPTIMIZERS[name](lean_parameters() if p is None else p, lr=0.05, **options, **more)
    for t in range(steps):
        opt.step(lean_gradients(10*t))
    return opt


@pytest.mark.parametrize("kind", [*LEAN, "remainder"])
def test_coded_states_resume_bit_for_bit(kind):
    """With the seed of the saved run, whatever the new optimizer's is."""
    def make(p, steps=0, **more):
        if kind != "remainder":
            return lean(LEAN[kind], p, steps, **more)
        opt = OPTIMIZERS["adamw"](p["c"], lr=0.05, state={"m": "bf16", "v": "bf16s"}, rounding="remainder", **more)
        for t in range(steps):
            opt.step(lean_gradients(10*t)["c"])
        return opt

    straight, opt = make(lean_parameters(), 6, seed=5), make(lean_parameters(), 3, seed=5)
    again = make(copied(opt.params) if kind != "remainder" else {"c": opt.params.copy()}, seed=77)
    again.load_state_dict(through_json(opt.state_dict()))
    for t in range(3, 6):
        again.step(lean_gradients(10*t) if kind != "remainder" else lean_gradients(10*t)["c"])
    for a, b in zip(again._backend.state.items(), straight._backend.state.items(), strict=True):
        assert a[0] == b[0]
        for x, y in zip(a[1], b[1], strict=True):
            assert_identical(plain_bits(x), plain_bits(y))
    for x, y in zip(again._tensors, straight._tensors, strict=True):
        assert_identical(plain_bits(x.array), plain_bits(y.array))


def test_how_coded_states_are_saved():
    saved = lean({"state": {"v": "q8"}}, seed=9).state_dict()
    assert list(saved) == ["version", "rule", "t", "groups", "paths", "state", "storage"]
    assert saved["storage"] == {"seed": 9, "orders": [[0, 1], [0], [0], [0], [1, 0], []],
                                "formats": {"m": ["f32", "f64", "f32", "f32", "f32", "f32"], "v": ["q44"]*6}}
    assert [a.shape for a in saved["state"]["v"]] == [(6*129,), (129,), (3*129,), (129,), (4*129,), (129,)]


@pytest.mark.parametrize("name", ["adam", "amsgrad", "lion", "momentum"])
def test_conversions(name):
    """To float32 and back nothing changes; from float32 numbers go to the nearest."""
    opt = lean({"state": "q8"}, steps=3, name=name)
    wide = lean({"state": "f32"}, copied(opt.params), name=name)
    wide.load_state_dict(opt.state_dict(), convert=True)
    for state in opt.rule.state:
        for a, b in zip(leaves(wide.state[state]), leaves(opt.decoded(state)), strict=True):
            assert_identical(np.ascontiguousarray(a), np.ascontiguousarray(b))
    back = lean({"state": "q8"}, copied(opt.params), name=name)
    back.load_state_dict(wide.state_dict(), convert=True)
    assert back.t == wide.t == 3
    for state in opt.rule.state:
        for a, b in zip(leaves(back.decoded(state)), leaves(opt.decoded(state)), strict=True):
            assert_identical(np.ascontiguousarray(a), np.ascontiguousarray(b))
    wide.step(lean_gradients(90))
    back.load_state_dict(wide.state_dict(), convert=True)
    near = {"m": 1/16, "v": 1/32 if name != "momentum" else 1/16, "top": 1/32}
    for state in opt.rule.state:
        for a, b in zip(leaves(back.decoded(state)), leaves(wide.decoded(state)), strict=True):
            assert (np.abs(a - b) <= near[state]*np.abs(b) + 2.0**-15*np.abs(b).max(initial=0)).all()


def test_blocks_are_turned_into_another_memory_order():
    """Each number goes to the nearest again, beside others: within the two roundings."""
    opt = lean({"state": "q8"}, steps=3)
    p = copied(opt.params)
    turned = lean({"state": "q8"}, {**p, "W": np.asfortranarray(p["W"]), "F": np.ascontiguousarray(p["F"])})
    turned.load_state_dict(opt.state_dict(), convert=True)
    for name, near in (("m", 1/16), ("v", 1/32)):
        for key in ("W", "F"):
            have, want = turned.decoded(name)[key], opt.decoded(name)[key]
            assert (np.abs(have - want) <= near*np.abs(want) + 2.0**-15*np.abs(want).max()).all()
        assert_identical(turned.decoded(name)["c"], opt.decoded(name)["c"])
    damaged_order = damaged(opt.state_dict(), orders=[[0, 0], [0], [0], [0], [1, 0], []])
    with pytest.raises(ValueError, match=r"its blocks run along axes \(0, 0\)"):
        turned.load_state_dict(damaged_order, convert=True)


def test_remainders_are_made_and_dropped():
    p = normal(1, 300).astype(f32).astype(BFLOAT16).view(np.uint16)
    plain, exact = fastopt.Adam(p.copy()), fastopt.Adam(p.copy(), rounding="remainder")
    exact.step(normal(2, 300))
    plain.params[...] = exact.params
    plain.load_state_dict(exact.state_dict(), convert=True)
    assert "remainder" not in plain.state
    exact.load_state_dict(plain.state_dict(), convert=True)
    assert_identical(exact.decoded("params"), plain.decoded("params"))


def damaged(saved, **changes):
    return {**saved, "storage": {**saved["storage"], **changes}}


def test_what_is_wrong_with_coded_states_is_said():
    opt, wide = lean({"state": "q8"}, steps=2), lean({}, steps=1)
    saved = opt.state_dict()
    before = [a.copy() for state in opt._backend.state.values() for a in state]
    turned = lean({"state": "q8"}, {**lean_parameters(), "W": np.asfortranarray(lean_parameters()["W"])})
    wrong = "load_state_dict: its storage does not fit the parameters. The checkpoint is damaged."
    for target, given, message in (
            (opt, wide.state_dict(), "load_state_dict: m of params['W']: stored as float32, but this optimizer keeps "
                                     "q43. Make it with "
             "state=..., or load with convert=True."),
            (wide, saved, "load_state_dict: m of params['W']: stored as q43, but this optimizer keeps f32. Make it "
                          "with state=..., or load "
             "with convert=True."),
            (turned, saved, "load_state_dict: m of params['W']: its blocks run along axes (0, 1), but those of "
                            "params['W'] along (1, 0). "
             "Give a parameter in the memory order that the saved one had, or load with convert=True."),
            (opt, damaged(saved, seed=-1), wrong), (opt, damaged(saved, orders=[]), wrong),
            (opt, damaged(saved, formats={"m": ["q9"]*6}), wrong), (opt, {**saved, "storage": 7}, wrong),
            (opt, {**saved, "state": {**saved["state"], "m": [a[:-1] for a in saved["state"]["m"]]}},
             "load_state_dict: m of params['W']: shape (773,) of uint8, but (774,) of uint8 is needed. It belongs to "
             "another model.")):
        with pytest.raises(ValueError, match="load_state_dict: ") as error:
            target.load_state_dict(given)
        assert str(error.value) == message
    for a, b in zip(before, (a for state in opt._backend.state.values() for a in state), strict=True):
        assert_identical(plain_bits(a), plain_bits(b))
    assert opt.t == 2


def test_states_of_bitsandbytes():
    """Codes of 8 bits by its own map, into float32 and into blocks; its hyperparameters."""
    from fastopt import bitsandbytes
    n, rng = 5_000, np.random.default_rng(3)
    codes = [rng.integers(0, 256, n).astype(np.uint8) for _ in range(2)]
    scales = [rng.random(-(-n//256)).astype(f32) + f32(0.1) for _ in range(2)]
    maps = [bitsandbytes.dynamic_map(signed) for signed in (True, False)]
    entry = {"step": 7, **{f"state{k + 1}": codes[k] for k in (0, 1)}, **{f"absmax{k + 1}": scales[k] for k in (0, 1)},
             **{f"qmap{k + 1}": maps[k] for k in (0, 1)}}
    group = {"params": [0], "lr": 0.25, "betas": (0.8, 0.95), "eps": 1e-6, "weight_decay": 0.125, "alpha": 0.0}
    want = [maps[k][codes[k]]*np.repeat(scales[k], 256)[:n] for k in (0, 1)]
    for state, exact in (("f32", True), ("q8", False)):
        opt = fastopt.Adam(np.ones(n, f32), state=state)
        opt.load_state_dict({"state": {0: entry}, "param_groups": [group]}, convert=not exact)
        for name, right in zip("mv", want, strict=True):
            have = opt.decoded(name)
            assert np.array_equal(have, right) if exact else (np.abs(have - right) <= np.abs(right)/16
                                                              + np.abs(right).max()*2.0**-14).all()
        assert opt.t == 7
        assert {k: opt.groups[0][k] for k in ("lr", "b1", "b2", "eps", "weight_decay", "decay")} == {
            "lr": 0.25, "b1": 0.8, "b2": 0.95, "eps": 1e-6, "weight_decay": 0.125, "decay": "decoupled"}
    with pytest.raises(ValueError, match="bitsandbytes has no nadam"):
        fastopt.NAdam(np.ones(n, f32)).load_state_dict({"state": {0: entry}, "param_groups": [group]})
    momentum = fastopt.Momentum(np.ones(n, f32), like="torch")
    one = {k: v for k, v in entry.items() if not k.endswith("2")}
    momentum.load_state_dict({"state": {0: one}, "param_groups": [{"params": [0], "lr": 0.5, "betas": (0.7, 0.3),
                                                                   "weight_decay": 0.0}]})
    assert np.array_equal(momentum.decoded("v"), want[0])
    assert (momentum.groups[0]["momentum"], momentum.groups[0]["dampening"], momentum.t) == (0.7, 0.0, 7)
