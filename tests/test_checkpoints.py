"""State dicts: plain, checked before anything is written, resumed bit for bit; and torch's own."""
import json
import pickle

import ml_dtypes
import numpy as np
import pytest
from conftest import BFLOAT16, OPTIMIZERS, assert_identical, normal

import fastopt
from fastopt import schedules

f16, f32, f64 = np.float16, np.float32, np.float64


def tree(seed, grads=False):
    """Of several formats, ranks and memory orders; W, F and b[1] are of several blocks."""
    w = [normal(seed + k, *shape).astype(f32) for k, shape in enumerate([(20, 33), (7,), (300,), (6,), (30, 14)])]
    if grads:
        return {"W": w[0], "b": [w[1].astype(f64), w[2]], "c": w[3], "F": w[4], "s": np.array(0.25, f32)}
    return {"W": w[0], "b": [w[1].astype(f64), w[2].astype(f16)], "c": w[3].astype(BFLOAT16),
            "F": np.asfortranarray(w[4]), "s": np.array(0.5, f32)}


def leaves(tree):
    return [tree["W"], *tree["b"], tree["c"], tree["F"], tree["s"]]


def copied(tree):
    return {k: [x.copy() for x in v] if isinstance(v, list) else v.copy(order="K") for k, v in tree.items()}


def make(name="adam", p=None, steps=0, **options):
    opt = OPTIMIZERS[name](tree(0) if p is None else p, lr=0.05, weight_decay=0.01, **options)
    for t in range(steps):
        opt.step(tree(10*t, grads=True))
    return opt


def bits(a):
    return np.ascontiguousarray(a).view(np.uint16) if a.dtype == BFLOAT16 else a


def held(opt):
    return [*(t.array for t in opt._tensors), *(a for state in opt._backend.state.values() for a in state)]


def assert_equal(opt, other):
    assert opt.t == other.t
    assert [dict(g) for g in opt.groups] == [dict(g) for g in other.groups]
    for x, y in zip(held(opt), held(other), strict=True):
        assert x.strides == y.strides
        assert_identical(bits(x), bits(y))


def through_json(saved):
    """Numbers and names through JSON; arrays through bytes."""
    arrays = []

    def default(x):
        assert type(x) is np.ndarray
        arrays.append(x.copy(order="K"))
        return {"array": len(arrays) - 1}

    text = json.dumps(saved, default=default)
    return json.loads(text, object_hook=lambda d: arrays[d["array"]] if list(d) == ["array"] else d)


RESUMED = {"nesterov": ("nesterov", "WbcFs", {}), "nadam": ("nadam", "Ws", {}), "amsgrad": ("amsgrad", "Wc", {}),
           "bfloat16": ("momentum", "Wb", {"state": "bfloat16"}), "q8": ("amsgrad", "WF", {"state": "q8"}),
           "stochastic": ("momentum", "Wbc", {"state": "bf16s", "rounding": "stochastic"}),
           "lean average": ("momentum", "Wc", {"average": 0.9, "state": {"v": "q8", "average": "bf16s"}}),
           "remainder": ("momentum", "Wc", {"rounding": "remainder", "state": "bf16s"})}


@pytest.mark.parametrize("case", RESUMED)
def test_resumed_is_continued_bit_for_bit(case):
    """With the seed of the saved run, whatever the new optimizer's is."""
    name, keys, options = RESUMED[case]

    def part(seed, grads=False):
        return {k: x for k, x in tree(seed, grads).items() if k in keys}

    def steps(opt, *at):
        for t in at:
            opt.step(part(10*t, grads=True))
        return opt

    opt = steps(make(name, part(0), seed=5, **options), 0, 1, 2)
    saved, p = opt.state_dict(), copied(opt.params)
    steps(opt, 3, 4, 5)
    for way in (through_json, lambda s: pickle.loads(pickle.dumps(s))):
        again = make(name, copied(p), seed=77, **options)
        again.load_state_dict(way(saved))
        assert_equal(steps(again, 3, 4, 5), opt)


def test_what_a_state_dict_holds():
    opt = make("amsgrad", steps=1)
    saved = opt.state_dict()
    assert list(saved) == ["version", "rule", "t", "groups", "paths", "state"]
    assert (saved["version"], saved["rule"], saved["t"], type(saved["t"])) == (1, "amsgrad", 1, int)
    assert saved["paths"] == ["params['W']", "params['b'][0]", "params['b'][1]", "params['c']", "params['F']",
                              "params['s']"]
    assert saved["groups"] == [dict(opt.groups[0])]
    assert {type(x) for x in saved["groups"][0].values()} <= {float, str, bool}
    assert list(saved["state"]) == ["m", "v", "top"]
    opt.t = 2**31 + 7
    again = make("amsgrad")
    again.load_state_dict(through_json(opt.state_dict()))
    assert again.t == 2**31 + 7
    coded = make(state={"v": "q8"}, seed=9).state_dict()
    assert list(coded) == [*saved, "storage"]
    assert coded["storage"] == {"seed": 9, "orders": [[0, 1], [0], [0], [0], [1, 0], []],
                                "formats": {"m": ["f32", "f64", "f32", "f32", "f32", "f32"], "v": ["q44"]*6}}
    assert [a.shape for a in coded["state"]["v"]] == [(6*129,), (129,), (3*129,), (129,), (4*129,), (129,)]


def test_copies_and_views():
    opt = make(steps=1)
    copies, views = opt.state_dict()["state"]["m"], opt.state_dict(copy=False)["state"]["m"]
    before = [a.copy() for a in copies]
    opt.step(tree(50, grads=True))
    for copy, view, now, old in zip(copies, views, leaves(opt.state["m"]), before, strict=True):
        assert_identical(bits(copy), bits(old))
        assert view is not now  # each has a header of its own
        assert np.shares_memory(view, now)
        assert not np.array_equal(copy, now)
    before = [a.copy(order="K") for a in held(opt)]
    opt.load_state_dict(opt.state_dict(copy=False))  # of itself: nothing moves
    for x, y in zip(held(opt), before, strict=True):
        assert_identical(bits(x), bits(y))


def test_functions_stay_and_numbers_come_from_the_checkpoint():
    rate, p = schedules.cosine(0.1, 100), np.ones(3)
    old = fastopt.Adam([{"params": p, "lr": rate}, {"params": p.copy(), "b1": 0.5}], lr=0.2)
    old.step([np.ones(3), np.ones(3)])
    saved = old.state_dict()
    assert "lr" not in saved["groups"][0]
    new = fastopt.Adam([{"params": p.copy(), "lr": 0.7}, {"params": p.copy(), "lr": rate, "b1": 0.6}], threads=1)
    new.load_state_dict(saved)
    assert [g["lr"] for g in new.groups] == [0.7, rate]
    assert (new.groups[1]["b1"], new.threads, new.t) == (0.5, 1, 1)


def test_bfloat16_bits_and_arrays_are_one_format():
    numbers, g = normal(1, 6).astype(f32).astype(BFLOAT16), normal(5, 6)
    old, bare = (fastopt.Adam(p, state="bfloat16") for p in (numbers, numbers.copy().view(np.uint16)))
    old.step(g)
    saved = old.state_dict()
    assert saved["state"]["m"][0].dtype == ml_dtypes.bfloat16
    bare.params[...] = old.params.view(np.uint16)
    bare.load_state_dict(saved)
    for opt in (old, bare):
        opt.step(g)
    assert_identical(bare.params, old.params.view(np.uint16))


# What is refused

def with_array(saved, name, k, array):
    return {**saved, "state": {n: [array if (n, j) == (name, k) else a for j, a in enumerate(arrays)]
                               for n, arrays in saved["state"].items()}}


def spoil(name, value):
    return lambda s: {**s, name: value(s) if callable(value) else value}


# each kind of damage; the wording of all messages is in tests/test_cures_states.py, more damage in tests/test_whole.py
SPOILT = [(lambda s: [s], TypeError, "a list, but a dict is needed. Give what state_dict() returned."),
          (lambda s: {}, ValueError, "no groups, rule, state, t, version in it. Give what state_dict() returned."),
          (spoil("rule", "lion"), ValueError, "the state of lion, but this optimizer is adam. Make that one"),
          (spoil("t", 2**70), ValueError, "t is 1180591620717411303424, but"),
          (spoil("groups", [{"lr": -1.0}]), ValueError, "group 0: lr is -1.0, but a finite number, 0 or more,"),
          (spoil("paths", lambda s: ["params['V']", *s["paths"][1:]]), ValueError,
           "the checkpoint has no params['W'] and params['V'], which this optimizer has not. Give the "),
          (lambda s: with_array(s, "v", 0, np.zeros((33, 20), f32)), ValueError,
           "v of params['W']: shape (33, 20), but (20, 33) is needed. It belongs to another model."),
          (lambda s: with_array(s, "v", 5, "x"), TypeError, "v of params['s']: a str, but an array is needed")]
STORAGE = "its storage does not fit the parameters. The checkpoint is damaged."
SPOILT_BLOCKS = [
    *((spoil("storage", lambda s, change=change: {**s["storage"], **change}), ValueError, STORAGE)
      for change in ({"seed": -1}, {"orders": []}, {"formats": {"m": ["q9"]*6}})),
    (spoil("state", lambda s: {**s["state"], "m": [a[:-1] for a in s["state"]["m"]]}), ValueError,
     "m of params['W']: shape (773,) of uint8, but (774,) of uint8 is needed. It belongs to another model."),
    (lambda s: make().state_dict(), ValueError, "m of params['W']: stored as float32, but this optimizer keeps q43."),
    (lambda s: make(p={**tree(0), "W": np.asfortranarray(tree(0)["W"])}, state="q8").state_dict(), ValueError,
     "m of params['W']: its blocks run along axes (1, 0), but those of params['W'] along (0, 1).")]


@pytest.mark.parametrize(("state", "cases"), [(None, SPOILT), ("q8", SPOILT_BLOCKS)], ids=["plain", "blocks"])
def test_a_damaged_checkpoint_changes_nothing(state, cases):
    opt, twin = (make(steps=2, state=state) for _ in range(2))
    saved = make(steps=3, state=state).state_dict()
    for spoiled, kind, message in cases:
        with pytest.raises(kind) as error:
            opt.load_state_dict(spoiled(saved))
        assert str(error.value).startswith(f"load_state_dict: {message}")
        assert_equal(opt, twin)
    for o in (opt, twin):
        o.step(tree(70, grads=True))
    assert_equal(opt, twin)
    with pytest.raises(ValueError, match="stored as q43, but this optimizer keeps f32"):
        make().load_state_dict(make(state="q8").state_dict())


# Conversions

def near(opt, other, name, share):
    """Whether two states are the same numbers within this share of each, and a little of the largest."""
    for a, b in zip(leaves(opt.decoded(name)), leaves(other.decoded(name)), strict=True):
        assert (np.abs(a - b) <= share*np.abs(b) + (share > 0)*2.0**-15*np.abs(b).max(initial=0)).all()


@pytest.mark.parametrize("name", ["amsgrad", "lion"])
def test_conversions(name):
    """To float32 and back nothing changes; from float32, and in another memory order, numbers go to the nearest."""
    opt = make(name, steps=3, state="q8")
    p = opt.params
    wide, back = (make(name, copied(p), state=state) for state in ("f32", "q8"))
    wide.load_state_dict(opt.state_dict(), convert=True)
    back.load_state_dict(wide.state_dict(), convert=True)
    assert back.t == wide.t == 3
    for state in opt.rule.state:
        near(wide, opt, state, 0)
        near(back, opt, state, 0)
    wide.step(tree(90, grads=True))
    back.load_state_dict(wide.state_dict(), convert=True)
    turned = make(name, {**copied(p), "W": np.asfortranarray(p["W"]), "F": np.ascontiguousarray(p["F"])}, state="q8")
    turned.load_state_dict(opt.state_dict(), convert=True)
    for state, share in zip(opt.rule.state, (1/16, 1/32, 1/32), strict=False):
        near(back, wide, state, share)
        near(turned, opt, state, share)
    saved = opt.state_dict()
    saved["storage"]["orders"][0] = [0, 0]
    with pytest.raises(ValueError, match=r"its blocks run along axes \(0, 0\)"):
        turned.load_state_dict(saved, convert=True)


def test_remainders_are_made_and_dropped():
    p = normal(1, 300).astype(f32).astype(BFLOAT16).view(np.uint16)
    plain, exact = fastopt.Momentum(p.copy()), fastopt.Momentum(p.copy(), rounding="remainder")
    exact.step(normal(2, 300))
    plain.params[...] = exact.params
    plain.load_state_dict(exact.state_dict(), convert=True)
    assert "remainder" not in plain.state
    exact.load_state_dict(plain.state_dict(), convert=True)
    assert_identical(exact.decoded("params"), plain.decoded("params"))


# torch

def torch_cases(torch):
    optim = torch.optim
    return {"sgd": ("sgd", optim.SGD, {"lr": 0.1, "weight_decay": 0.01}),
            "momentum": ("momentum", optim.SGD, {"lr": 0.1, "momentum": 0.8}),
            "dampened": ("momentum", optim.SGD,
                         {"lr": 0.1, "momentum": 0.8, "dampening": 0.3, "weight_decay": 0.01, "maximize": True}),
            "nesterov": ("nesterov", optim.SGD, {"lr": 0.1, "momentum": 0.8, "nesterov": True}),
            "rmsprop": ("rmsprop", optim.RMSprop, {"lr": 0.01, "alpha": 0.9, "eps": 1e-6}),
            "adagrad": ("adagrad", optim.Adagrad, {"lr": 0.1, "lr_decay": 0.1}),
            "adam": ("adam", optim.Adam, {"lr": 0.01, "betas": (0.8, 0.95), "weight_decay": 0.1}),
            "adamw": ("adamw", optim.AdamW, {"lr": 0.01, "weight_decay": 0.2}),
            "adamw as adam": ("adam", optim.AdamW, {"lr": 0.01, "weight_decay": 0.2}),
            "amsgrad": ("amsgrad", optim.Adam, {"lr": 0.01, "betas": (0.8, 0.9), "amsgrad": True}),
            "nadam": ("nadam", optim.NAdam, {"lr": 0.01, "momentum_decay": 0.01}),
            "radam": ("radam", optim.RAdam,
                      {"lr": 0.01, "betas": (0.8, 0.9), "decoupled_weight_decay": True, "weight_decay": 0.1})}


@pytest.fixture
def torch():
    torch = pytest.importorskip("torch")
    yield torch
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(("dtype", "kind", "tolerance"), [("float32", f32, 2e-6), ("float64", f64, 1e-12)])
def test_a_run_begun_in_torch_goes_on_here(torch, dtype, kind, tolerance):
    """20 steps there, its state dict, 20 more in both; without like= all comes from the dict alone."""
    torch.set_default_dtype(getattr(torch, dtype))  # of its step counts
    for case, (name, theirs, hyper) in torch_cases(torch).items():
        start = [normal(0, 4, 3).astype(kind), normal(1, 5).astype(kind)]
        tensors = [torch.nn.Parameter(torch.tensor(x)) for x in start]
        reference = theirs([{"params": tensors[:1]}, {"params": tensors[1:], "lr": 0.02}], **hyper)
        runs = []
        for t in range(40):
            g = [normal(100 + 2*t + k, *x.shape).astype(kind) for k, x in enumerate(start)]
            if t == 20:
                for options in ({"like": "torch"}, {}):
                    w = [p.detach().numpy().copy() for p in tensors]
                    runs.append(OPTIMIZERS[name]([{"params": w[0]}, {"params": w[1]}], **options))
                    runs[-1].t = 20  # SGD's dict holds none
                    runs[-1].load_state_dict(reference.state_dict())
                    assert [group["lr"] for group in runs[-1].groups] == [hyper["lr"], 0.02]
            for p, x in zip(tensors, g, strict=True):
                p.grad = torch.tensor(x)
            reference.step()
            for opt in runs:
                opt.step(g)
        for opt in runs:
            for group, p in zip(opt.params, tensors, strict=True):
                np.testing.assert_allclose(group["params"], p.detach().numpy(), rtol=tolerance, atol=tolerance,
                                           err_msg=case)
            assert opt.t == 40
        assert not np.allclose(runs[0].params[0]["params"], start[0], atol=1e-3)


def test_torch_dicts_that_do_not_fit_are_refused(torch):
    """Those of another optimizer, of another model, and of parameters that went apart."""
    optim, three, two = torch.optim, np.ones(3, f32), np.ones(2, f32)

    def saved(cls, sizes=(3,), steps=1, apart=False, **hyper):
        tensors = [torch.nn.Parameter(torch.ones(n)) for n in sizes]
        opt = cls(tensors, **hyper)
        for k in range(steps):
            for p in tensors[:1] if apart and not k else tensors:
                p.grad = torch.ones(len(p))
            opt.step()
        return opt.state_dict()

    pair = saved(optim.Adam, (3, 2))
    cases = [
        ("lion", [three], saved(optim.Adam), "torch's dict: torch has no lion. Give what state_dict() returned."),
        ("momentum", [three], saved(optim.Adam),
         "momentum needs momentum_buffer. Make the optimizer whose state it is."),
        ("rmsprop", [three], saved(optim.Adam), "rmsprop needs square_avg."),
        ("rmsprop", [three], saved(optim.Adagrad), "rmsprop needs square_avg."),
        ("adam", [three], saved(optim.RMSprop), "adam needs exp_avg."),
        ("amsgrad", [three], saved(optim.Adam), "amsgrad needs max_exp_avg_sq."),
        ("adam", [three], saved(optim.Adam, amsgrad=True),
         "amsgrad=True, but this optimizer is adam. Make the one whose"),
        ("momentum", [three], saved(optim.SGD, lr=0.1, momentum=0.9, nesterov=True),
         "nesterov=True, but this optimizer is"),
        ("nesterov", [three], saved(optim.SGD, lr=0.1, momentum=0.9),
         "nesterov=False, but this optimizer is nesterov."),
        ("sgd", [three], saved(optim.SGD, lr=0.1, momentum=0.9), "momentum=0.9, but sgd has none."),
        ("rmsprop", [three], saved(optim.RMSprop, momentum=0.9), "momentum=0.9, but rmsprop has none."),
        ("rmsprop", [three], saved(optim.RMSprop, centered=True), "centered=True, but this optimizer is rmsprop."),
        ("adam", [three], pair, "groups of [2] parameters, but this optimizer has [1]. Make the same groups."),
        ("adam", [{"params": [three]}, {"params": two}], pair,
         "groups of [2] parameters, but this optimizer has [1, 1]."),
        ("adam", [three, two], saved(optim.Adam, (3, 2), 2, True),
         "parameters at different steps [1, 2], but one step"),
        ("adam", [two, three], pair, "load_state_dict: m of params[0]: shape (3,), but (2,) is needed"),
        ("adam", [np.ones(3), np.ones(2)], pair, "m of params[0]: stored as torch.float32, but this optimizer keeps")]
    for name, params, state, message in cases:
        opt = OPTIMIZERS[name](params)
        with pytest.raises(ValueError) as error:
            opt.load_state_dict(state)
        assert message in str(error.value).replace("as float32", "as torch.float32")
        assert (opt.t, dict(opt.groups[0])) == (0, OPTIMIZERS[name].rule.defaults)
        assert not any(a.any() for state in opt._backend.state.values() for a in state)


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


def test_states_of_bitsandbytes():
    """Codes of 8 bits by its own map, into float32 and into blocks; its hyperparameters."""
    from fastopt import bitsandbytes
    n, rng = 5_000, np.random.default_rng(3)
    codes = [rng.integers(0, 256, n).astype(np.uint8) for _ in range(2)]
    scales = [rng.random(-(-n//256)).astype(f32) + f32(0.1) for _ in range(2)]
    maps = [bitsandbytes.dynamic_map(signed) for signed in (True, False)]
    entry = {"step": 7, **{f"{name}{k + 1}": of[k]
                           for name, of in (("state", codes), ("absmax", scales), ("qmap", maps)) for k in (0, 1)}}
    group = {"params": [0], "lr": 0.25, "betas": (0.8, 0.95), "eps": 1e-6, "weight_decay": 0.125, "alpha": 0.0}
    want = [maps[k][codes[k]]*np.repeat(scales[k], 256)[:n] for k in (0, 1)]
    for state, share in (("f32", 0), ("q8", 1/16)):
        opt = fastopt.Adam(np.ones(n, f32), state=state)
        opt.load_state_dict({"state": {0: entry}, "param_groups": [group]}, convert=share > 0)
        for name, right in zip("mv", want, strict=True):
            small = np.abs(right).max()*2.0**-14 if share else 0
            assert (np.abs(opt.decoded(name) - right) <= np.abs(right)*share + small).all()
        assert opt.t == 7
        assert {k: opt.groups[0][k] for k in ("lr", "b1", "b2", "eps", "weight_decay", "decay")} == {
            "lr": 0.25, "b1": 0.8, "b2": 0.95, "eps": 1e-6, "weight_decay": 0.125, "decay": "decoupled"}
    with pytest.raises(ValueError, match="bitsandbytes has no nadam"):
        fastopt.NAdam(np.ones(n, f32)).load_state_dict({"state": {0: entry}, "param_groups": [group]})
    momentum = fastopt.Momentum(np.ones(n, f32), like="torch")
    one = {k: v for k, v in entry.items() if not k.endswith("2")}
    group = {"params": [0], "lr": 0.5, "betas": (0.7, 0.3), "weight_decay": 0.0}
    momentum.load_state_dict({"state": {0: one}, "param_groups": [group]})
    assert np.array_equal(momentum.decoded("v"), want[0])
    assert (momentum.groups[0]["momentum"], momentum.groups[0]["dampening"], momentum.t) == (0.7, 0.0, 7)


@pytest.mark.parametrize("other", [[(5,), (1,)], [(5,), (4,)], [(5,)], [(5,), (3,), (2,)]])
def test_a_snapshot_of_other_parameters_writes_nothing(other):
    mine = [np.ones(5, f32), np.ones(3, f32)]
    opt, of = fastopt.SGD(mine), fastopt.SGD([np.zeros(shape, f32) for shape in other])
    with of.snapshot(state=False, copy=True) as snapshot, pytest.raises(ValueError, match="It belongs to another"):
        opt.restore(snapshot)
    assert all((a == 1).all() for a in mine)


def test_a_snapshot_of_another_format_writes_nothing():
    mine = [np.ones(5, f32), np.ones(2, f32)]
    opt, of = fastopt.SGD(mine), fastopt.SGD([np.zeros(5, f32), np.zeros(2, f64)])
    with of.snapshot(state=False, copy=True) as snapshot, pytest.raises(ValueError, match="stored as f64"):
        opt.restore(snapshot)
    assert all((a == 1).all() for a in mine)
