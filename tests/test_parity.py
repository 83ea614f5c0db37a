"""Presets: each rule with ``like=`` walks with the system it is named after, in float64, at defaults and elsewhere. A
row of the table is a rule, the system's name for it, arguments that make it so there, and hyperparameters beside `like`
at which it is walked: ours, translated, or (ours, theirs). It is walked beside the system (the extra `parity`), with a
constant lr and with one that changes at every step."""
import importlib
import math
import operator
import os
from contextlib import ExitStack

os.environ.setdefault("KERAS_BACKEND", "jax")

import numpy as np
import pytest

import fastopt
from fastopt import rules
from fastopt.presets import PRESETS, preset

THEIRS = {"torch": {}, "optax": {"alpha": "decay"},
          "keras": {"lr": "learning_rate", "b1": "beta_1", "b2": "beta_2", "eps": "epsilon", "eps_root": "epsilon",
                    "alpha": "rho", "clip_value": "clipvalue"},
          "sklearn": {"lr": "learning_rate_init", "b1": "beta_1", "b2": "beta_2", "eps": "epsilon"}}
B, L2, DECOUPLED = {"b1": 0.8, "b2": 0.95}, {"weight_decay": 0.1}, {"weight_decay": 0.1, "decay": "decoupled"}
MOMENTUM, NESTEROV = {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True}
LARGE = {"lr": 0.1, **B, "eps": 0.1}
SMALL = {"weight_decay": 1e-2, "decay": "decoupled"}
AVERAGES = {**LARGE, "b3": 0.9, "alpha": 2.0, "eps_root": 0.2, **L2}
STEPS = 15

TABLE = {
    "torch": [("sgd", "SGD", {}, {"lr": 0.2, **L2, "maximize": True}),
              ("momentum", "SGD", MOMENTUM, {"lr": 0.2, "momentum": 0.7, "dampening": 0.3, **L2}),
              ("nesterov", "SGD", NESTEROV, {"lr": 0.2, "momentum": 0.7, **L2, "maximize": True}),
              ("rmsprop", "RMSprop", {}, {"lr": 0.1, "alpha": 0.8, "eps": 0.01, **L2}),
              ("rmsprop_momentum", "RMSprop", {"momentum": 0.9}, {"lr": 0.1, "alpha": 0.8, "momentum": 0.5, **L2}),
              ("rmsprop_centered", "RMSprop", {"centered": True}, {"lr": 0.1, "alpha": 0.8, "eps": 0.01, **L2}),
              ("rmsprop_centered_momentum", "RMSprop", {"momentum": 0.9, "centered": True},
               {"lr": 0.1, "alpha": 0.8, "momentum": 0.5, "eps": 0.01}),
              ("rprop", "Rprop", {}, ({"lr": 0.1, "eta_minus": 0.4, "eta_plus": 1.5, "size_min": 0.05, "size_max": 0.2},
                                      {"lr": 0.1, "etas": (0.4, 1.5), "step_sizes": (0.05, 0.2)})),
              ("adadelta", "Adadelta", {}, ({"lr": 0.2, "alpha": 0.8, "eps": 0.01, **L2},
                                            {"lr": 0.2, "rho": 0.8, "eps": 0.01, **L2})),
              ("adamax", "Adamax", {}, {**LARGE, **L2, "maximize": True}),
              ("adagrad", "Adagrad", {}, {"lr_decay": 0.2, "initial_accumulator_value": 0.5, "eps": 0.1, **L2}),
              ("adam", "Adam", {}, {**B, "eps": 0.1, **L2}, {"lr": 0.1, **DECOUPLED, "maximize": True}),
              ("adamw", "AdamW", {}, {**LARGE, **L2}), ("amsgrad", "Adam", {"amsgrad": True}, {**LARGE, **L2}),
              ("amsgrad", "AdamW", {"amsgrad": True}, ({**B, **SMALL}, {"betas": (0.8, 0.95)})),
              ("nadam", "NAdam", {}, {**LARGE, "momentum_decay": 0.1, **L2}, {**DECOUPLED, "maximize": True}),
              ("radam", "RAdam", {}, {**LARGE, **L2}, {**B, **DECOUPLED})],
    "optax": [("sgd", "sgd", {}, {"lr": 0.2}), ("momentum", "sgd", MOMENTUM, {"lr": 0.2, "momentum": 0.6}),
              ("nesterov", "sgd", NESTEROV, {"lr": 0.2, "momentum": 0.6}),
              ("rmsprop", "rmsprop", {}, ({"alpha": 0.7, "eps_root": 0.1}, {"decay": 0.7, "eps": 0.1}),
               ({"alpha": 0.7, "eps": 0.1, "eps_root": 0.0}, {"decay": 0.7, "eps": 0.1, "eps_in_sqrt": False})),
              ("rmsprop_momentum", "rmsprop", {"momentum": 0.9}, {"alpha": 0.7, "momentum": 0.5}),
              ("rmsprop_centered", "rmsprop", {"centered": True}, ({"alpha": 0.7, "eps_root": 0.1},
                                                                   {"decay": 0.7, "eps": 0.1})),
              ("rmsprop_centered_momentum", "rmsprop", {"momentum": 0.9, "centered": True},
               {"alpha": 0.7, "momentum": 0.5}),
              ("signum", "sign_sgd", {}, {"lr": 0.1}),
              ("adadelta", "adadelta", {}, ({"alpha": 0.7, "eps": 0.1}, {"rho": 0.7, "eps": 0.1})),
              ("adamax", "adamax", {}, LARGE), ("adabelief", "adabelief", {}, {**LARGE, "eps_root": 0.01}),
              ("yogi", "yogi", {}, {"lr": 0.1, **B, "eps": 0.1}), ("adopt", "contrib.adopt", {}, LARGE),
              ("adopt", "contrib.adopt", {}, ({"clipping": False}, {"use_clipping": False})),
              ("ademamix", "contrib.ademamix", {}, (AVERAGES, AVERAGES)),
              ("adagrad", "adagrad", {}, ({"lr": 0.2, "initial_accumulator_value": 0.4, "eps_root": 0.1},
                                          {"lr": 0.2, "initial_accumulator_value": 0.4, "eps": 0.1})),
              ("adam", "adam", {}, {**B, "eps": 0.1, "eps_root": 0.2}),
              ("adamw", "adamw", {}, {**LARGE, "eps_root": 0.2, **L2}),
              ("amsgrad", "amsgrad", {}, {**B, "eps": 0.1, "eps_root": 0.2}), ("nadam", "nadam", {}, LARGE),
              ("nadam", "nadamw", {}, ({"weight_decay": 1e-4, "decay": "decoupled"}, {})),
              ("radam", "radam", {}, {**LARGE, "threshold": 6.5}), ("lion", "lion", {}, {"lr": 0.1, **B, **L2})],
    "keras": [("sgd", "SGD", {}, {"lr": 0.2, **L2}), ("momentum", "SGD", MOMENTUM, {"lr": 0.2, "momentum": 0.6, **L2}),
              ("nesterov", "SGD", NESTEROV, {"lr": 0.2, "momentum": 0.6, **L2}),
              ("rmsprop", "RMSprop", {}, {"lr": 0.1, "alpha": 0.7, "eps_root": 0.1, **L2}),
              ("rmsprop_momentum", "RMSprop", {"momentum": 0.9}, {"lr": 0.1, "momentum": 0.5, "eps_root": 0.1, **L2}),
              ("rmsprop_centered", "RMSprop", {"centered": True}, {"lr": 0.1, "alpha": 0.7, "eps_root": 0.1, **L2}),
              ("rmsprop_centered_momentum", "RMSprop", {"momentum": 0.9, "centered": True}, {"momentum": 0.5, **L2}),
              ("adadelta", "Adadelta", {}, {"lr": 0.1, "alpha": 0.7, "eps": 0.1, **L2}),
              ("adamax", "Adamax", {}, {**LARGE, **L2}),
              ("adagrad", "Adagrad", {}, {"lr": 0.1, "initial_accumulator_value": 0.5, "eps_root": 0.1, **L2}),
              ("adam", "Adam", {}, {**LARGE, **L2, "clip_value": 0.7}), ("adamw", "AdamW", {}, {**LARGE, **L2}),
              ("amsgrad", "Adam", {"amsgrad": True}, {**LARGE, **L2}), ("nadam", "Nadam", {}, {**LARGE, **L2}),
              ("lion", "Lion", {}, {"lr": 0.1, **B, **L2})],
    "sklearn": [("sgd", "SGDOptimizer", {"momentum": 0, "nesterov": False}, {"lr": 0.02}),
                ("momentum", "SGDOptimizer", {"nesterov": False}, {"lr": 0.02, "momentum": 0.6}),
                ("nesterov", "SGDOptimizer", {}, {"lr": 0.02, "momentum": 0.6}), ("adam", "AdamOptimizer", {}, LARGE)]}


def theirs(system, ours):
    """Our hyperparameters in the words of a system."""
    found = {THEIRS[system].get(k, k): v for k, v in ours.items() if k != "decay"}
    if system == "torch" and "b1" in found:
        found["betas"] = (found.pop("b1"), found.pop("b2"))
    return found | ({"decoupled_weight_decay": True} if "decay" in ours else {})


CASES = [(system, rule, *(given if isinstance(given, tuple) else (given, theirs(system, given))), name, fixed)
         for system, rows in TABLE.items() for rule, name, fixed, *all_given in rows
         for given in ([{}] if (rule, name) not in (("amsgrad", "AdamW"), ("nadam", "nadamw")) else []) + all_given]


# One driver per system: drive(class, arguments, w, gradients, lrs or None) yields the parameters after every step,
# and behind them the velocity where one can be seen, whose sign is a convention of the system.

def drive_torch(name, given, w, gs, lrs):
    torch = importlib.import_module("torch")
    with ExitStack() as stack:  # torch keeps NAdam's product and every step count in its default dtype
        stack.callback(torch.set_default_dtype, torch.get_default_dtype())
        torch.set_default_dtype(torch.float64)
        p = torch.tensor(w)
        optimizer = getattr(torch.optim, name)([p], foreach=False, **given)
        for t, g in enumerate(gs):
            if lrs is not None:
                optimizer.param_groups[0]["lr"] = lrs[t]
            p.grad = torch.tensor(g)
            optimizer.step()
            yield (p.numpy().copy(),)


def double(jax):
    """The context in which jax has float64, under its new name or its old one."""
    return jax.enable_x64(True) if hasattr(jax, "enable_x64") else jax.experimental.enable_x64(True)


def drive_optax(name, given, w, gs, lrs):
    jax, optax = importlib.import_module("jax"), importlib.import_module("optax")
    given = dict(given)
    lr = given.pop("lr")
    with double(jax):
        schedule = None if lrs is None else jax.numpy.asarray(lrs)
        optimizer = operator.attrgetter(name)(optax)(lr if lrs is None else lambda count: schedule[count], **given)
        p = jax.numpy.asarray(w)
        state = optimizer.init(p)
        for g in gs:
            update, state = optimizer.update(jax.numpy.asarray(g), state, p)
            p = optax.apply_updates(p, update)
            yield (np.asarray(p),)


def drive_keras(name, given, w, gs, lrs):
    jax, keras = importlib.import_module("jax"), importlib.import_module("keras")
    with ExitStack() as stack:
        stack.enter_context(double(jax))
        stack.callback(keras.config.set_floatx, keras.config.floatx())
        keras.config.set_floatx("float64")
        p = keras.Variable(w, dtype="float64")
        optimizer = getattr(keras.optimizers, name)(**given)
        optimizer.build([p])
        for t, g in enumerate(gs):
            if lrs is not None:
                optimizer.learning_rate = lrs[t]
            optimizer.apply([jax.numpy.asarray(g)])
            yield (np.asarray(p.value), *(np.asarray(v.value) for v in getattr(optimizer, "momentums", [])))


def drive_sklearn(name, given, w, gs, lrs):
    p = w.copy()
    optimizer = getattr(importlib.import_module("sklearn.neural_network._stochastic_optimizers"), name)([p], **given)
    for t, g in enumerate(gs):
        if lrs is not None:
            optimizer.learning_rate = optimizer.learning_rate_init = lrs[t]
        optimizer.update_params([p], [g])
        yield (p.copy(), *getattr(optimizer, "velocities", []))


DRIVERS = {"torch": (drive_torch, ["torch"]), "optax": (drive_optax, ["jax", "optax"]),
           "keras": (drive_keras, ["jax", "keras"]), "sklearn": (drive_sklearn, ["sklearn"])}


def drive_fastopt(system, rule, given, w, gs, lrs):
    hyper = {**rule.defaults, **preset(system, rule.name), **given}
    state = [np.full_like(w, hyper[rule.initial[slot]] if slot in rule.initial else 0.0) for slot in rule.state]
    for t, g in enumerate(gs, 1):
        w, *state = rule(rule.at(t, **(hyper if lrs is None else {**hyper, "lr": lrs[t - 1]})), g, w, *state)
        yield (w, *state)


def walk(case):
    system, name, ours, given, theirs_name, fixed = case
    drive, libraries = DRIVERS[system]
    for library in libraries:
        pytest.importorskip(library)
    rule, rng = getattr(rules, name), np.random.default_rng(7)
    w, gs = rng.normal(size=37), rng.normal(size=(STEPS, 37))
    lr = {**rule.defaults, **preset(system, name), **ours}["lr"]
    given = {**({"lr": lr} if system == "optax" else {}), **fixed, **given}  # optax has no default lr
    for lrs in (None, [lr*(1 + 0.5*math.cos(t)) for t in range(STEPS)]):
        walked = zip(drive_fastopt(system, rule, ours, w, gs, lrs), drive(theirs_name, given, w, gs, lrs), strict=True)
        for t, (mine, its) in enumerate(walked, 1):
            for slot, a, b in zip(("p", *rule.state), mine, its, strict=False):
                np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14, err_msg=f"{slot} at step {t}")


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case[:2]))
                         + "".join(f"-{k}={v}" for k, v in case[2].items()))
def test_preset_is_the_system(case):
    walk(case)


@pytest.mark.parametrize(("cls", "ours", "theirs"), [
    (fastopt.LAMB, {"like": "optax", "lr": 0.1}, lambda o: o.lamb(0.1)),
    (fastopt.LAMB, {"lr": 0.1, **B, "eps": 0.1, **L2}, lambda o: o.lamb(0.1, **B, eps=0.1, **L2)),
    (fastopt.LARS, {"like": "optax", "lr": 0.2}, lambda o: o.lars(0.2)),
    (fastopt.LARS, {"like": "optax", "lr": 0.1, "momentum": 0.6}, lambda o: o.lars(0.1, momentum=0.6)),
    (fastopt.SGD, {"lr": 1.0, "update_rms": 0.3}, lambda o: o.chain(o.clip_by_block_rms(0.3), o.sgd(1.0))),
    # optax clips columns, as weights of flax have a row for each input
    (fastopt.Adam, {"lr": 0.1, "adaptive_clip": 0.1}, lambda o: o.chain(o.adaptive_grad_clip(0.1), o.adam(0.1)))])
def test_whole_tensors_are_measured_as_in_optax(cls, ours, theirs):
    jax, optax = pytest.importorskip("jax"), pytest.importorskip("optax")
    rng = np.random.default_rng(3)
    ps, steps = [rng.normal(size=(4, 7)), rng.normal(size=5), np.zeros(3)], 8
    gs = [[rng.normal(size=p.shape) for p in ps] for _ in range(steps)]
    with jax.enable_x64(True):
        its, opt = [jax.numpy.array(p.T) for p in ps], theirs(optax)
        state, mine = opt.init(its), cls([p.copy() for p in ps], **ours)
        for g in gs:
            change, state = opt.update([jax.numpy.array(x.T) for x in g], state, its)
            its = optax.apply_updates(its, change)
            mine.step(g)
        for have, want in zip(mine.params, its, strict=True):
            np.testing.assert_allclose(have, np.asarray(want).T, rtol=1e-12, atol=1e-14)


def test_rmsprop_with_bias_correction_is_adam_without_b1():
    """As the docstring of presets says."""
    walk(("optax", "adam", {"b1": 0.0, "b2": 0.9, "eps": 0.0, "eps_root": 1e-8}, {}, "rmsprop",
          {"bias_correction": True}))


def test_presets_are_covered():
    """Each is walked at its defaults and elsewhere. Its overrides are none of the rule's own defaults."""
    for elsewhere in (False, True):
        assert {case[:2] for case in CASES if bool(case[2]) == elsewhere} == {
            (s, name) for s in PRESETS for name in PRESETS[s] if name not in rules.MODIFIED}
    for system, table in PRESETS.items():
        for name, overrides in table.items():
            rule, given = getattr(rules, name), preset(system, name)
            for hyper, value in overrides.items():
                assert value != rule.defaults[hyper]
                assert value in rule.options.get(hyper, (value,))
            given["lr"] = -1.0
            assert preset(system, name) != given  # the caller's dict is its own


def test_errors():
    for arguments, message in (
            (("tensorflow", "adam"), "like: 'tensorflow' was found, one of torch, optax, keras, sklearn was needed. "
                                     "Take one of these, or leave `like` out."),
            (("sklearn", "lion"), "like='sklearn': the rule lion was found, one that sklearn has was needed: sgd, "
                                  "momentum, nesterov, adam. Leave `like` out and give the hyperparameters.")):
        with pytest.raises(ValueError) as caught:
            preset(*arguments)
        assert str(caught.value) == message
