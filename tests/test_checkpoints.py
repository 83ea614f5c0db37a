"""State dicts: plain, checked before anything is written, resumed bit for bit; and torch's own."""
import copy
import json
import pickle

import ml_dtypes
import numpy as np
import pytest
from conftest import BFLOAT16, OPTIMIZERS, assert_identical, normal
from reference import arrays_of

import fastopt
from fastopt._rule.hyperparameters import MODIFIERS
from fastopt.presets import PRESETS

f16, f32, f64 = np.float16, np.float32, np.float64
COUNTED = ("rmsprop", "adagrad", "adam", "adamw", "amsgrad", "nadam", "radam")  # by torch


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


def assert_equal(opt, other):
    assert opt.t == other.t
    assert [dict(g) for g in opt.groups] == [dict(g) for g in other.groups]
    for x, y in zip(arrays_of(opt), arrays_of(other), strict=True):
        assert x.strides == y.strides
        assert_identical(x, y)


def through_json(saved):
    """Numbers and names through JSON; arrays through bytes."""
    arrays = []

    def default(x):
        assert type(x) is np.ndarray
        arrays.append(x.copy(order="K"))
        return {"array": len(arrays) - 1}

    text = json.dumps(saved, default=default)
    return json.loads(text, object_hook=lambda d: arrays[d["array"]] if list(d) == ["array"] else d)


RESUMED = {"any format": ("adam", "WbcFs", {}), "q8": ("adam", "WF", {"state": "q8"}),
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
    opt = make("adam", steps=1)
    saved = opt.state_dict()
    assert list(saved) == ["version", "rule", "t", "groups", "paths", "state"]
    assert (saved["version"], saved["rule"], saved["t"], type(saved["t"])) == (1, "adam", 1, int)
    assert saved["paths"] == ["params['W']", "params['b'][0]", "params['b'][1]", "params['c']", "params['F']",
                              "params['s']"]
    assert saved["groups"] == [dict(opt.groups[0])]
    assert {type(x) for x in saved["groups"][0].values()} <= {float, str, bool}
    assert list(saved["state"]) == ["m", "v"]
    opt.t = 2**31 + 7
    again = make("adam")
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
    for kept, view, now, old in zip(copies, views, leaves(opt.state["m"]), before, strict=True):
        assert_identical(kept, old)
        assert view is not now  # each has a header of its own
        assert np.shares_memory(view, now)
        assert not np.array_equal(kept, now)
    before = [a.copy(order="K") for a in arrays_of(opt)]
    opt.load_state_dict(opt.state_dict(copy=False))  # of itself: nothing moves
    for x, y in zip(arrays_of(opt), before, strict=True):
        assert_identical(x, y)


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

DAMAGED = [  # of each kind one: tests/test_whole.py has more, and tests/test_cures_states.py what is to be done
    (lambda s: [s], TypeError, "a list, but a dict is needed. Give what state_dict() returned."),
    (lambda s: {}, ValueError, "no groups, rule, state, t, version in it. Give what state_dict() returned."),
    (lambda s: {**s, "rule": "lion"}, ValueError, "the state of lion, but this optimizer is adam. Make that one"),
    (lambda s: {**s, "groups": [{"lr": -1.0}]}, ValueError, "group 0: lr is -1.0, but a finite number, 0 or more,"),
    (lambda s: {**s, "paths": ["params['V']"]}, ValueError,
     "the checkpoint has no params['W'] and params['V'], which this optimizer has not. Give the "),
    (lambda s: {**s, "state": {**s["state"], "v": ["x"]}}, TypeError, "v of params['W']: a str, but an array is"),
    *((lambda s, change=change: {**s, "storage": {**s["storage"], **change}}, ValueError,
       "its storage does not fit the parameters. The checkpoint is damaged.")
      for change in ({"seed": -1}, {"orders": []}, {"formats": {"m": ["q9"]}})),
    (lambda s: {**s, "state": {**s["state"], "m": [s["state"]["m"][0][:-1]]}}, ValueError,
     "m of params['W']: shape (773,) of uint8, but (774,) of uint8 is needed. It belongs to another model."),
    (lambda s: blocks_of(state=None).state_dict(), ValueError,
     "m of params['W']: stored as float32, but this optimizer keeps q43."),
    (lambda s: blocks_of(np.ones((20, 33), f32, "F")).state_dict(), ValueError,
     "m of params['W']: its blocks run along axes (1, 0), but those of params['W'] along (0, 1).")]


def blocks_of(array=None, state="q8"):
    return make("adam", {"W": tree(0)["W"] if array is None else array}, state=state)


def test_a_damaged_checkpoint_changes_nothing():
    opt, twin = blocks_of(), blocks_of()
    for o in (opt, twin):
        o.step({"W": tree(10)["W"]})
    for spoil, kind, message in DAMAGED:
        with pytest.raises(kind) as error:
            opt.load_state_dict(spoil(twin.state_dict()))
        assert str(error.value).startswith(f"load_state_dict: {message}")
        assert_equal(opt, twin)
    with pytest.raises(ValueError, match="stored as q43, but this optimizer keeps f32"):
        blocks_of(state=None).load_state_dict(twin.state_dict())


# Conversions

def near(opt, other, name, share):
    """Whether two states are the same numbers within this share of each, and a little of the largest."""
    for a, b in zip(opt.decoded(name).values(), other.decoded(name).values(), strict=True):
        assert (np.abs(a - b) <= share*np.abs(b) + (share > 0)*2.0**-15*np.abs(b).max(initial=0)).all()


def test_conversions():
    """To float32 and back nothing changes; from float32, and in another memory order, numbers go to the nearest."""
    def matrices(seed):
        return {k: x for k, x in tree(seed).items() if k in "WF"}

    def loaded(old, state, p):
        new = make("adam", p, state=state)
        new.load_state_dict(old.state_dict(), convert=True)
        assert new.t == old.t
        return new
    opt = make("adam", matrices(0), state="q8")
    for t in range(3):
        opt.step(matrices(10*t))
    p = opt.params
    wide = loaded(opt, "f32", copied(p))
    back = loaded(wide, "q8", copied(p))
    for state in "mv":
        near(wide, opt, state, 0)
        near(back, opt, state, 0)
    wide.step(matrices(90))
    turned = {"W": np.asfortranarray(p["W"]), "F": np.ascontiguousarray(p["F"])}
    back, turned = loaded(wide, "q8", copied(p)), loaded(opt, "q8", turned)
    for state, share in (("m", 1/16), ("v", 1/32)):
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


# torch's dicts

@pytest.fixture
def torch():
    torch = pytest.importorskip("torch")
    torch.set_default_dtype(torch.float64)  # of its step counts
    yield torch
    torch.set_default_dtype(torch.float32)


def runs(torch):
    optim = torch.optim
    return {"sgd": ("sgd", optim.SGD, {"lr": 0.1, "weight_decay": 0.01}),
            "momentum": ("momentum", optim.SGD, {"lr": 0.1, "momentum": 0.8, "dampening": 0.3, "maximize": True}),
            "nesterov": ("nesterov", optim.SGD, {"lr": 0.1, "momentum": 0.8, "nesterov": True}),
            "rmsprop": ("rmsprop", optim.RMSprop, {"lr": 0.01, "alpha": 0.9, "eps": 1e-6}),
            "rmsprop_centered_momentum": ("rmsprop_centered_momentum", optim.RMSprop,
                                          {"lr": 0.01, "alpha": 0.9, "eps": 0.1, "momentum": 0.7, "centered": True}),
            "rprop": ("rprop", optim.Rprop, {"lr": 0.02, "etas": (0.4, 1.3), "step_sizes": (0.015, 0.03)}),
            "adadelta": ("adadelta", optim.Adadelta, {"lr": 0.3, "rho": 0.8, "eps": 0.01}),
            "adamax": ("adamax", optim.Adamax, {"lr": 0.01, "betas": (0.8, 0.9), "eps": 0.1, "weight_decay": 0.1}),
            "adagrad": ("adagrad", optim.Adagrad, {"lr": 0.1, "lr_decay": 0.1, "initial_accumulator_value": 0.1}),
            "adam": ("adam", optim.Adam, {"lr": 0.01, "betas": (0.8, 0.95), "weight_decay": 0.1}),
            "adamw": ("adamw", optim.AdamW, {"lr": 0.01, "weight_decay": 0.2}),
            "adamw as adam": ("adam", optim.AdamW, {"lr": 0.01, "weight_decay": 0.2}),
            "amsgrad": ("amsgrad", optim.Adam, {"lr": 0.01, "amsgrad": True}),
            "nadam": ("nadam", optim.NAdam, {"lr": 0.01, "momentum_decay": 0.01}),
            "radam": ("radam", optim.RAdam,
                      {"lr": 0.01, "betas": (0.8, 0.9), "decoupled_weight_decay": True, "weight_decay": 0.1})}


def begun(torch, case, apart=False):
    """A run of three steps in torch, of one group or two, and its parameters: also as arrays."""
    _, cls, hyper = runs(torch)[case]
    tensors = [torch.nn.Parameter(torch.tensor(normal(k, *shape))) for k, shape in enumerate(((3, 2), (4,)))]
    theirs = cls([{"params": tensors[:1]}, {"params": tensors[1:], "lr": 0.02}] if apart else tensors, **hyper)
    for t in range(3):
        further(torch, theirs, tensors, t)
    return theirs, tensors, [p.detach().numpy().copy() for p in tensors]


def further(torch, theirs, tensors, t):
    g = [normal(10*t + k, *p.shape) for k, p in enumerate(tensors)]
    for p, x in zip(tensors, g, strict=True):
        p.grad = torch.tensor(x)
    theirs.step()
    return g


def test_a_run_begun_in_torch_goes_on_here(torch):
    """Every rule, every like=, and every word that another value than torch's: what is in force comes from the dict."""
    tried = 0
    for case, (name, _, hyper) in runs(torch).items():
        cls = OPTIMIZERS[name]
        more = [{}, *({"like": like} for like in PRESETS if name in PRESETS[like])]
        more += [{k: v} for k, options in cls.rule.options.items() if k not in MODIFIERS for v in options]
        more += [{"eps_root": 0.1}]*("eps_root" in cls.rule.defaults) + [{"threshold": 4.5}]*(name == "radam")
        for options in more:
            theirs, tensors, w = begun(torch, case, apart=True)
            opt = cls([{"params": x} for x in w], **options)
            opt.t = 3  # SGD's dict holds none
            opt.load_state_dict(theirs.state_dict())
            assert [group["lr"] for group in opt.groups] == [hyper["lr"], 0.02]
            for t in range(3, 8):
                opt.step(further(torch, theirs, tensors, t))
            for x, p in zip(w, tensors, strict=True):
                np.testing.assert_allclose(x, p.detach().numpy(), rtol=1e-12, atol=1e-12, err_msg=f"{case} {options}")
            tried += 1
    assert tried > 80


def test_every_key_of_torchs_state_is_used_or_named(torch):
    theirs, _, w = begun(torch, "adam")
    saved = theirs.state_dict()
    names = ["net.0.weight", "net.0.bias"]

    def keyed(key, **group):
        d = copy.deepcopy(saved)
        d["state"] = {key(k): e for k, e in d["state"].items()}
        d["param_groups"][0].update(group)
        return d

    good = {"text": keyed(str), "text everywhere": keyed(str, params=["0", "1"]),
            "NumPy": keyed(np.int64, params=np.array([0, 1])), "names": keyed(names.__getitem__, param_names=names),
            "names as ids": keyed(names.__getitem__, params=names), "names in order": keyed(names.__getitem__)}
    turned = keyed(names.__getitem__, param_names=names)
    turned["state"] = dict(reversed(turned["state"].items()))
    good["names out of order"] = turned
    for case, d in good.items():
        for params in (w, *([dict(zip(names, w, strict=True)), dict(zip(names[::-1], w[::-1], strict=True))]
                            if "param_names" in d["param_groups"][0] or case == "names as ids" else [])):
            opt = fastopt.Adam(copy.deepcopy(params))
            opt.load_state_dict(d)
            assert opt.t == 3, case
            for path, m in zip([t.path for t in opt._tensors], opt._backend.states["m"].arrays, strict=True):
                k = names.index(path[8:-2]) if isinstance(params, dict) else int(path[7])
                assert_identical(m, saved["state"][k]["exp_avg"].numpy())
    first, second = saved["state"].values()
    for d, message in (
            ({**turned, "param_groups": saved["param_groups"]}, "state has the keys 'net.0.bias', 'net.0.weight', but"),
            ({**saved, "state": {0: first, 1: second, "1": second}}, "1 stands for two parameters"),
            ({**saved, "state": {0: {**first, "max_exp_avg_sq": w[0]}}}, "parameter 0 has max_exp_avg_sq, for which")):
        opt = fastopt.Adam(copy.deepcopy(w))
        with pytest.raises(ValueError, match=f"^load_state_dict: torch's dict: .*{message}"):
            opt.load_state_dict(d)
        assert opt.t == 0


def test_parameters_that_never_had_a_gradient(torch):
    """Zero state, and the others' count of steps, for states in other formats too."""
    for name, cls, hyper in runs(torch).values():
        body, head = (torch.nn.Parameter(torch.ones(k)) for k in (2, 3))
        theirs = cls([body, head], **{**hyper, **({"initial_accumulator_value": 0.0} if name == "adagrad" else {})})
        for _ in range(4):
            body.grad = torch.ones(2)
            theirs.step()
        opt = OPTIMIZERS[name]([np.ones(2), np.ones(3)])
        if name not in COUNTED:
            opt.t = 4
        opt.load_state_dict(theirs.state_dict())
        assert opt.t == 4
        assert all(a[0].all() and not a[1].any() for a in opt.state.values())
    half = [torch.nn.Parameter(torch.ones(n, dtype=torch.bfloat16)) for n in (2, 3)]
    theirs = torch.optim.Adam(half)
    half[0].grad = torch.ones(2, dtype=torch.bfloat16)
    theirs.step()
    opt = fastopt.Adam([np.ones(2, BFLOAT16), np.ones(3, BFLOAT16)], state="bfloat16")
    opt.load_state_dict(theirs.state_dict())
    assert (opt.t, [a.any() for a in opt.state["m"]]) == (1, [True, False])


def test_the_missing_step_count_of_sgd_is_said(torch):
    for name in ("sgd", "momentum", "nesterov"):
        theirs, _, w = begun(torch, name)
        opt = OPTIMIZERS[name](w)
        with pytest.warns(UserWarning, match=r"SGD's holds no step count, so t is [01] here. Set opt.t to the number "
                                             r"of steps") as said:
            opt.load_state_dict(theirs.state_dict())
        assert said[0].filename == __file__
        opt.t = 3
        opt.load_state_dict(theirs.state_dict())  # the cure, and nothing more is said
        assert opt.t == 3


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


def test_a_snapshot_of_other_parameters_writes_nothing():
    mine = [np.ones(5, f32), np.ones(3, f32)]
    opt = fastopt.SGD(mine)
    for shapes, kind, message in (([5, 1], f32, "It belongs to another"), ([5, 4], f32, "It belongs to another"),
                                  ([5], f32, "It belongs to another"), ([5, 3, 2], f32, "It belongs to another"),
                                  ([5, 3], f64, "stored as f64")):
        of = fastopt.SGD([np.zeros(n, kind) for n in shapes])
        with of.snapshot(state=False, copy=True) as snapshot, pytest.raises(ValueError, match=message):
            opt.restore(snapshot)
        assert all((a == 1).all() for a in mine)
