"""Presets: each rule with ``like=`` walks with the system it is named after, in float64, at defaults and elsewhere.

One table: a line is a system, a rule, what the user gives fastopt beside `like`, the system's own name for that
optimizer, and what its user writes there. Each line is walked against the float64 twin in papers.py, always, and
against the system itself where it is installed; with a constant lr, and with one that changes at every step.
"""
import importlib
import math
import os
from contextlib import ExitStack

os.environ.setdefault("KERAS_BACKEND", "jax")

import numpy as np
import pytest
from papers import SYSTEMS

from fastopt import rules
from fastopt.presets import PRESETS, preset

BETAS, MOMENTUM = (0.8, 0.95), {"momentum": 0.9}
LR = {"torch": "lr", "optax": "lr", "keras": "learning_rate", "sklearn": "learning_rate_init"}  # in papers.py
L2, DECAY = {"weight_decay": 0.1}, {"weight_decay": 0.1, "decay": "decoupled"}
B, KB = {"b1": 0.8, "b2": 0.95}, {"beta_1": 0.8, "beta_2": 0.95}

CASES = [
    ("torch", "sgd", {}, "SGD", {}),
    ("torch", "sgd", {"lr": 0.2, **L2, "maximize": True}, "SGD", {"lr": 0.2, **L2, "maximize": True}),
    ("torch", "momentum", {}, "SGD", MOMENTUM),
    ("torch", "momentum", {"lr": 0.2, "momentum": 0.7, "dampening": 0.3, **L2}, "SGD",
     {"lr": 0.2, "momentum": 0.7, "dampening": 0.3, **L2}),
    ("torch", "nesterov", {}, "SGD", {**MOMENTUM, "nesterov": True}),
    ("torch", "nesterov", {"lr": 0.2, "momentum": 0.7, **L2, "maximize": True}, "SGD",
     {"lr": 0.2, "momentum": 0.7, **L2, "maximize": True, "nesterov": True}),
    ("torch", "rmsprop", {}, "RMSprop", {}),
    ("torch", "rmsprop", {"lr": 0.1, "alpha": 0.8, "eps": 0.01, **L2}, "RMSprop",
     {"lr": 0.1, "alpha": 0.8, "eps": 0.01, **L2}),
    ("torch", "adagrad", {}, "Adagrad", {}),
    ("torch", "adagrad", {"lr_decay": 0.2, "initial_accumulator_value": 0.5, "eps": 0.1, **L2}, "Adagrad",
     {"lr_decay": 0.2, "initial_accumulator_value": 0.5, "eps": 0.1, **L2}),
    ("torch", "adam", {}, "Adam", {}),
    ("torch", "adam", {**B, "eps": 0.1, **L2}, "Adam", {"betas": BETAS, "eps": 0.1, **L2}),
    ("torch", "adam", {"lr": 0.1, **DECAY, "maximize": True}, "Adam",
     {"lr": 0.1, **L2, "decoupled_weight_decay": True, "maximize": True}),
    ("torch", "adamw", {}, "AdamW", {}),
    ("torch", "adamw", {"lr": 0.1, **B, "eps": 0.1, **L2}, "AdamW", {"lr": 0.1, "betas": BETAS, "eps": 0.1, **L2}),
    ("torch", "amsgrad", {}, "Adam", {"amsgrad": True}),
    ("torch", "amsgrad", {"lr": 0.1, **B, "eps": 0.1, **L2}, "Adam",
     {"amsgrad": True, "lr": 0.1, "betas": BETAS, "eps": 0.1, **L2}),
    ("torch", "amsgrad", {**B, "weight_decay": 1e-2, "decay": "decoupled"}, "AdamW", {"amsgrad": True, "betas": BETAS}),
    ("torch", "nadam", {}, "NAdam", {}),
    ("torch", "nadam", {"lr": 0.1, **B, "eps": 0.1, "momentum_decay": 0.1, **L2}, "NAdam",
     {"lr": 0.1, "betas": BETAS, "eps": 0.1, "momentum_decay": 0.1, **L2}),
    ("torch", "nadam", {**DECAY, "maximize": True}, "NAdam", {**L2, "decoupled_weight_decay": True, "maximize": True}),
    ("torch", "radam", {}, "RAdam", {}),
    ("torch", "radam", {"lr": 0.1, **B, "eps": 0.1, **L2}, "RAdam", {"lr": 0.1, "betas": BETAS, "eps": 0.1, **L2}),
    ("torch", "radam", {**B, **DECAY}, "RAdam", {"betas": BETAS, **L2, "decoupled_weight_decay": True}),

    ("optax", "sgd", {}, "sgd", {}),
    ("optax", "sgd", {"lr": 0.2}, "sgd", {"lr": 0.2}),
    ("optax", "momentum", {}, "sgd", MOMENTUM),
    ("optax", "momentum", {"lr": 0.2, "momentum": 0.6}, "sgd", {"lr": 0.2, "momentum": 0.6}),
    ("optax", "nesterov", {}, "sgd", {**MOMENTUM, "nesterov": True}),
    ("optax", "nesterov", {"lr": 0.2, "momentum": 0.6}, "sgd", {"lr": 0.2, "momentum": 0.6, "nesterov": True}),
    ("optax", "rmsprop", {}, "rmsprop", {}),
    ("optax", "rmsprop", {"alpha": 0.7, "eps_root": 0.1}, "rmsprop", {"decay": 0.7, "eps": 0.1}),
    ("optax", "rmsprop", {"alpha": 0.7, "eps": 0.1, "eps_root": 0.0}, "rmsprop",
     {"decay": 0.7, "eps": 0.1, "eps_in_sqrt": False}),
    ("optax", "adagrad", {}, "adagrad", {}),
    ("optax", "adagrad", {"lr": 0.2, "initial_accumulator_value": 0.4, "eps_root": 0.1}, "adagrad",
     {"lr": 0.2, "initial_accumulator_value": 0.4, "eps": 0.1}),
    ("optax", "adam", {}, "adam", {}),
    ("optax", "adam", {**B, "eps": 0.1, "eps_root": 0.2}, "adam", {**B, "eps": 0.1, "eps_root": 0.2}),
    ("optax", "adamw", {}, "adamw", {}),
    ("optax", "adamw", {"lr": 0.1, **B, "eps": 0.1, "eps_root": 0.2, **L2}, "adamw",
     {"lr": 0.1, **B, "eps": 0.1, "eps_root": 0.2, **L2}),
    ("optax", "amsgrad", {}, "amsgrad", {}),
    ("optax", "amsgrad", {**B, "eps": 0.1, "eps_root": 0.2}, "amsgrad", {**B, "eps": 0.1, "eps_root": 0.2}),
    ("optax", "nadam", {}, "nadam", {}),
    ("optax", "nadam", {"lr": 0.1, **B, "eps": 0.1}, "nadam", {"lr": 0.1, **B, "eps": 0.1}),
    ("optax", "nadam", {"weight_decay": 1e-4, "decay": "decoupled"}, "nadamw", {}),
    ("optax", "radam", {}, "radam", {}),
    ("optax", "radam", {"lr": 0.1, **B, "eps": 0.1, "threshold": 6.5}, "radam",
     {"lr": 0.1, **B, "eps": 0.1, "threshold": 6.5}),
    ("optax", "lion", {}, "lion", {}),
    ("optax", "lion", {"lr": 0.1, **B, **L2}, "lion", {"lr": 0.1, **B, **L2}),

    ("keras", "sgd", {}, "SGD", {}),
    ("keras", "sgd", {"lr": 0.2, **L2}, "SGD", {"learning_rate": 0.2, **L2}),
    ("keras", "momentum", {}, "SGD", MOMENTUM),
    ("keras", "momentum", {"lr": 0.2, "momentum": 0.6, **L2}, "SGD", {"learning_rate": 0.2, "momentum": 0.6, **L2}),
    ("keras", "nesterov", {}, "SGD", {**MOMENTUM, "nesterov": True}),
    ("keras", "nesterov", {"lr": 0.2, "momentum": 0.6, **L2}, "SGD",
     {"learning_rate": 0.2, "momentum": 0.6, **L2, "nesterov": True}),
    ("keras", "rmsprop", {}, "RMSprop", {}),
    ("keras", "rmsprop", {"lr": 0.1, "alpha": 0.7, "eps_root": 0.1, **L2}, "RMSprop",
     {"learning_rate": 0.1, "rho": 0.7, "epsilon": 0.1, **L2}),
    ("keras", "adagrad", {}, "Adagrad", {}),
    ("keras", "adagrad", {"lr": 0.1, "initial_accumulator_value": 0.5, "eps_root": 0.1, **L2}, "Adagrad",
     {"learning_rate": 0.1, "initial_accumulator_value": 0.5, "epsilon": 0.1, **L2}),
    ("keras", "adam", {}, "Adam", {}),
    ("keras", "adam", {"lr": 0.1, **B, "eps": 0.1, **L2, "clip_value": 0.7}, "Adam",
     {"learning_rate": 0.1, **KB, "epsilon": 0.1, **L2, "clipvalue": 0.7}),
    ("keras", "adamw", {}, "AdamW", {}),
    ("keras", "adamw", {"lr": 0.1, **B, "eps": 0.1, **L2}, "AdamW", {"learning_rate": 0.1, **KB, "epsilon": 0.1, **L2}),
    ("keras", "amsgrad", {}, "Adam", {"amsgrad": True}),
    ("keras", "amsgrad", {"lr": 0.1, **B, "eps": 0.1, **L2}, "Adam",
     {"amsgrad": True, "learning_rate": 0.1, **KB, "epsilon": 0.1, **L2}),
    ("keras", "nadam", {}, "Nadam", {}),
    ("keras", "nadam", {"lr": 0.1, **B, "eps": 0.1, **L2}, "Nadam", {"learning_rate": 0.1, **KB, "epsilon": 0.1, **L2}),
    ("keras", "lion", {}, "Lion", {}),
    ("keras", "lion", {"lr": 0.1, **B, **L2}, "Lion", {"learning_rate": 0.1, **KB, **L2}),

    ("sklearn", "sgd", {}, "SGDOptimizer", {"momentum": 0, "nesterov": False}),
    ("sklearn", "sgd", {"lr": 0.02}, "SGDOptimizer", {"learning_rate_init": 0.02, "momentum": 0, "nesterov": False}),
    ("sklearn", "momentum", {}, "SGDOptimizer", {"nesterov": False}),
    ("sklearn", "momentum", {"lr": 0.02, "momentum": 0.6}, "SGDOptimizer",
     {"learning_rate_init": 0.02, "momentum": 0.6, "nesterov": False}),
    ("sklearn", "nesterov", {}, "SGDOptimizer", {}),
    ("sklearn", "nesterov", {"lr": 0.02, "momentum": 0.6}, "SGDOptimizer",
     {"learning_rate_init": 0.02, "momentum": 0.6}),
    ("sklearn", "adam", {}, "AdamOptimizer", {}),
    ("sklearn", "adam", {"lr": 0.1, **B, "eps": 0.1}, "AdamOptimizer",
     {"learning_rate_init": 0.1, **KB, "epsilon": 0.1}),
]


# One driver per system: drive(class, arguments, w, gradients, lrs) yields (parameters,) after every step; lrs is the
# learning rate of each step, or None for the system's own.

def drive_torch(name, given, w, gs, lrs):
    torch = pytest.importorskip("torch")
    with ExitStack() as stack:  # torch keeps NAdam's product and every step count in its default dtype, whatever the parameters have
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
    jax, optax = pytest.importorskip("jax"), pytest.importorskip("optax")
    given = dict(given)
    lr = given.pop("lr")
    with double(jax):
        schedule = None if lrs is None else jax.numpy.asarray(lrs)
        optimizer = getattr(optax, name)(lr if lrs is None else lambda count: schedule[count], **given)
        p = jax.numpy.asarray(w)
        state = optimizer.init(p)
        for g in gs:
            update, state = optimizer.update(jax.numpy.asarray(g), state, p)
            p = optax.apply_updates(p, update)
            yield (np.asarray(p),)


def drive_keras(name, given, w, gs, lrs):
    jax, keras = pytest.importorskip("jax"), pytest.importorskip("keras")
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
            yield (np.asarray(p.value),)


def drive_sklearn(name, given, w, gs, lrs):
    pytest.importorskip("sklearn")
    p = w.copy()
    optimizer = getattr(importlib.import_module("sklearn.neural_network._stochastic_optimizers"), name)([p], **given)
    for t, g in enumerate(gs):
        if lrs is not None:
            optimizer.learning_rate = optimizer.learning_rate_init = lrs[t]
        optimizer.update_params([p], [g])
        yield (p.copy(),)


DRIVERS = {"torch": drive_torch, "optax": drive_optax, "keras": drive_keras, "sklearn": drive_sklearn}


def twin_of(system):
    def drive(name, given, w, gs, lrs):
        step, s = SYSTEMS[f"{system}.{name}"], {}
        for t, g in enumerate(gs, 1):
            w = step(t, w, g, s, **{**given, **({} if lrs is None else {LR[system]: lrs[t - 1]})})
            yield (w, *s.values())
    return drive


def drive_fastopt(system, rule, given, w, gs, lrs):
    hyper = {**rule.defaults, **preset(system, rule.name), **given}
    state = [np.full_like(w, hyper[rule.initial[slot]] if slot in rule.initial else 0.0) for slot in rule.state]
    for t, g in enumerate(gs, 1):
        w, *state = rule(rule.at(t, **(hyper if lrs is None else {**hyper, "lr": lrs[t - 1]})), g, w, *state)
        yield (w, *state)


def walk(case, drive, changing):
    system, name, ours, theirs_name, theirs = case
    rule, rng = getattr(rules, name), np.random.default_rng(7)
    w, gs = rng.normal(size=37), rng.normal(size=(25, 37))
    lr = {**rule.defaults, **preset(system, name), **ours}["lr"]
    lrs = [lr*(1 + 0.5*math.cos(t)) for t in range(25)] if changing else None
    if system == "optax":  # has no default lr
        theirs = {"lr": lr, **theirs}
    walked = zip(drive_fastopt(system, rule, ours, w, gs, lrs), drive(theirs_name, theirs, w, gs, lrs), strict=True)
    for t, (mine, its) in enumerate(walked, 1):
        for slot, a, b in zip(("p", *rule.state), mine, its,
                              strict=False):  # a twin shows its state too, NAdam's with the product
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14, err_msg=f"{slot} at step {t}")


def ids(case):
    return "-".join(map(str, case[:2])) + "".join(f"-{k}={v}" for k, v in case[2].items())


@pytest.mark.parametrize("changing", [False, True], ids=["constant", "changing"])
@pytest.mark.parametrize("case", CASES, ids=ids)
def test_preset_is_the_twin(case, changing):
    walk(case, twin_of(case[0]), changing)


@pytest.mark.parametrize("changing", [False, True], ids=["constant", "changing"])
@pytest.mark.parametrize("case", CASES, ids=ids)
def test_preset_is_the_system(case, changing):
    walk(case, DRIVERS[case[0]], changing)


def test_rmsprop_with_bias_correction_is_adam_without_b1():
    """As the docstring of presets says."""
    walk(("optax", "adam", {"b1": 0.0, "b2": 0.9, "eps": 0.0, "eps_root": 1e-8}, "rmsprop", {"bias_correction": True}),
         drive_optax, True)


def test_the_table_covers_every_preset_twice():
    have = [(system, name) for system, name, *_ in CASES]
    assert set(have) == {(system, name) for system, table in PRESETS.items() for name in table}
    assert set(have) == {(system, name) for system, name, given, *_ in CASES if not given}
    assert set(have) == {(system, name) for system, name, given, *_ in CASES if given}
    assert {f"{system}.{name}" for system, _, _, name, _ in CASES} == set(SYSTEMS)


@pytest.mark.parametrize(("system", "name"), [(s, n) for s, table in PRESETS.items() for n in table])
def test_presets_are_hyperparameters_that_change_something(system, name):
    rule, given = getattr(rules, name), preset(system, name)
    assert set(given) <= set(rule.defaults)
    for hyper, value in given.items():
        assert value != rule.defaults[hyper]
        assert value in rule.options.get(hyper, (value,))
    given["lr"] = -1.0
    assert preset(system, name) != given  # the caller's dict is its own


@pytest.mark.parametrize(("system", "name", "hyper"), [(s, n, k) for s, table in PRESETS.items() for n in table
                                                       for k in table[n]])
def test_no_override_is_idle(system, name, hyper, monkeypatch):
    """Without any one of its overrides a preset parts from its system in some line of the table."""
    monkeypatch.delitem(PRESETS[system][name], hyper)
    lines = [case for case in CASES if case[:2] == (system, name)]
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        [walk(case, twin_of(system), changing) for case in lines for changing in (False, True)]


ERRORS = [
    (("tensorflow", "adam"), "like: 'tensorflow' was found, one of torch, optax, keras, sklearn was needed. Take one "
                             "of these, or leave `like` out."),
    (("sklearn", "lion"), "like='sklearn': the rule lion was found, one that sklearn has was needed: sgd, momentum, "
                          "nesterov, adam. Leave `like` out and give the hyperparameters."),
]


@pytest.mark.parametrize(("arguments", "message"), ERRORS, ids=["system", "rule"])
def test_errors(arguments, message):
    with pytest.raises(ValueError) as caught:
        preset(*arguments)
    assert str(caught.value) == message
