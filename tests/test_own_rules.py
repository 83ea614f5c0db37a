"""What a rule of one's own may hold, the ranges of its hyperparameters, and how it gets to other processes."""
import copy
import functools
import math
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pytest
from numba import njit

import fastopt
from fastopt import notation, optimizer
from fastopt.notation import sqrt, where

HALF, TABLE = 0.5, np.ones(3)


@njit
def twice(x):
    return x + x


@njit
def product(x, y):
    return x*y


def halved(x):
    return x/2


def scaled(x, by=2.0):
    return x*by


NAMES = {"np": np, "math": math, "fastopt": fastopt, "notation": notation, "sqrt": sqrt, "where": where, "HALF": HALF,
         "TABLE": TABLE, "twice": twice, "product": product, "halved": halved, "scaled": scaled}
REFUSED = {  # what is needed; the second line of a rule and what is found in it
    "but a rule holds no numbers": {
        "u = 0.9*g": "the number 0.9", "u = -1*g": "the number -1", "u = g**2": "the number 2",
        "u = g[0]": "the number 0", "u = True*g": "the number True", "u = HALF*g": "the number HALF",
        "u = math.pi*g": "the number math.pi", "u = TABLE*g": "the number TABLE", "u = np.pi*g": "the number np.pi",
        "u = (lambda x: x*3)(g)": "the number 3"},
    "but the update of an element is straight": dict.fromkeys(
        ("u = g if g > p else p", "u = g and p", "for u in g: pass", "u = [x for x in g]", "while g > p: g = p"),
        "a condition or a loop"),
    "but a rule calls only absolute": {"u = math.exp(g)": "a call of math.exp", "u = np.sqrt(g)": "a call of np.sqrt",
                                       "u = abs(g)": "a call of abs", "u = np.float32(g)": "a call of np.float32",
                                       "u = g.sum()": "g.sum", "u = sqrt(np.add(g, p))": "a call of np.add"},
    "but an update only returns": {"global SET; SET = u = g": "SET, which is not the rule's own, set"}}
TAKEN = ["u = -c.lr*g + g**c.lr", "u = notation.sqrt(g*g) + fastopt.notation.sqrt(g*g)",
         "u, v = where(g > p, g, p), p", "half = lambda x: x*c.lr\n    u = half(twice(product(g, c.lr)))"]


def written(line, name="mine"):
    """A rule with this line, of a source that no file holds."""
    names = dict(NAMES)
    source = f"@fastopt.rule(lr=0.1)\ndef {name}(c, g, p):\n    {line}\n    return (u,)\n"
    exec(compile(source, "/nowhere/mine.py", "exec"), names)
    return names[name]


def test_what_is_no_update_of_an_element():
    """Said when the rule is decorated, in words of its own."""
    class Called:
        def __call__(self, c, g, p):
            return (c.lr*g,)

    for body in (Called(), functools.partial(lambda c, g, p: (c.lr*g,))):
        with pytest.raises(TypeError, match=f"rule: a {type(body).__name__}, but a function is needed"):
            fastopt.rule(lr=0.1)(body)
    fails = "its update fails .*, but arithmetic on numbers is needed"
    for line, what in (("u = c.mu*g", "no attribute 'mu', but it has scale, clip, l2, wd, lr. Take one of those"),
                       ("u = (g > p) - (p > g)", fails), ("u = g*q", "a call of q"), ("u = g*None", fails)):
        with pytest.raises(ValueError, match=f"rule mine: .*{what}"):
            written(line)


def test_what_may_not_stand_in_a_rule():
    for needed, lines in REFUSED.items():
        for line, what in lines.items():
            with pytest.raises(ValueError) as error:
                written(line)
            assert str(error.value).startswith(f"rule mine: {what} in /nowhere/mine.py, line 3, {needed}")
    for line, what in (("u = halved(g)", "the number 2"), ("u = scaled(g)", "the number 2.0, a default of scaled,")):
        with pytest.raises(ValueError) as error:
            written(line)
        assert str(error.value).startswith(f"rule mine: {what} in {__file__}, line ")
    rate = 0.5
    with pytest.raises(ValueError, match=r"rule <lambda>: the number rate in .*test_own_rules\.py, line \d+, but"):
        fastopt.rule(lr=0.1)(lambda c, g, p: (rate*g,))


def test_what_may_stand_in_a_rule():
    for line in TAKEN:
        w, g = np.full(3, 2.0), np.full(3, 0.5)
        own = written(line)
        want = own(own.at(1), g, w)[0]
        optimizer(own)(w).step(g)
        assert (w == want).all()


def test_names_that_optimizers_have_are_refused():
    for name in ("weight_decay", "average", "grokfast", "grokfast_share", "schedule_free", "cautious"):
        with pytest.raises(ValueError, match=f"the hyperparameter '{name}' is there for every rule"):
            fastopt.rule(**{"lr": 0.1, name: 0.5})


def test_annotations_say_what_hyperparameters_are():
    def at(t, lr=0.1, mu: Annotated[float, "[0, 1)", "What is kept."] = 0.9,
           form: Annotated[Literal["a", "b"], "A word."] = "a",
           flag: Annotated[bool, "A flag."] = False, free: Annotated[float, "Any number."] = 1.0):
        return {"lr": lr}

    own = fastopt.rule(at, name="annotated")(lambda c, g, p: (c.lr*g,))
    for name, bad, message in (("mu", 1.0, "mu is 1.0, but a number in"),
                               ("form", "c", "form is 'c', but one of 'a', 'b'"),
                               ("flag", 2, "flag is 2, but one of False, True"), ("free", math.inf, "free is inf")):
        with pytest.raises(ValueError, match=re.escape(f"Annotated: {message}")):
            optimizer(own)(np.ones(2), **{name: bad})
    text = optimizer(own).__doc__
    for line in ("mu : float or callable, default 0.9", "What is kept.", "form : {'a', 'b'}, default 'a'", "A flag.",
                 "params : "):
        assert line in text
    assert optimizer(fastopt.rule(lr=0.1, mu=0.9)(lambda c, g, p: (c.lr*g,))).__doc__ is None


# Ranges

def test_names_have_no_ranges_of_their_own():
    for name in ("alpha", "b1", "mu", "eps", "threshold", "lr_decay"):
        own = fastopt.rule(lr=0.1, name="free", **{name: -7.5})(lambda c, g, p: (c.lr*g,))
        opt = optimizer(own)(np.ones(2))
        assert opt.groups[0][name] == -7.5
        opt.groups[0][name] = 1e30
        with pytest.raises(ValueError, match=f"{name} is nan, but a finite number or a function of the step is needed"):
            opt.groups[0][name] = math.nan
        with pytest.raises(ValueError, match=r"lr is -1, but a finite number, 0 or more, or a function of the step is "
                                             r"needed\. Change"):
            opt.groups[0]["lr"] = -1


def test_ranges_of_ones_own():
    for text, inside, outside, needed in (
            ("[0, 1)", [0, 0.5], [-0.1, 1, math.nan], "a number in [0, 1)"),
            ("(0, inf)", [1e-9, 1e300], [0, math.inf], "a finite number, above 0"),
            ("(0, inf]", [math.inf], [0], "a number above 0"),
            ("(-inf, 2]", [-5, 2], [2.5, -math.inf], "a number in (-inf, 2]")):
        own = fastopt.rule(lr=0.1, rate=0.5, name="limited", ranges={"rate": text})(lambda c, g, p: (c.lr*g,))
        for x in inside:
            assert own.at(1, rate=x).rate == x
        for x in outside:
            with pytest.raises(ValueError, match=re.escape(f"limited.at: rate is {x!r}, but {needed}")):
                own.at(1, rate=x)
    for text in ("0..1", "[1, 0]", "[a, 1]", "[0, nan)"):
        with pytest.raises(ValueError, match="but an interval is needed"):
            fastopt.rule(lr=0.1, name="limited", ranges={"lr": text})(lambda c, g, p: (c.lr*g,))


# Other processes

MODULE = """
import fastopt
@fastopt.rule(state="v", lr=0.01, mu=0.9)
def own_rule(c, g, p, v):
    v = c.mu*v + g
    return c.lr*v, v
OwnRule = fastopt.optimizer(own_rule)
named = fastopt.rule(name="named", lr=0.5)(lambda c, g, p: (c.lr*g,))
again = fastopt.rule(name="again", state="v", lr=0.02, mu=0.8)(own_rule.body)
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path/"rules_of_a_test.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{Path(fastopt.__file__).parents[1]}")
    import rules_of_a_test
    yield rules_of_a_test
    del sys.modules["rules_of_a_test"]


def test_rules_and_classes_pickle_by_name(module):
    for thing in (module.own_rule, module.OwnRule, module.named, module.again, fastopt.rules.adamw, fastopt.AdamW):
        assert pickle.loads(pickle.dumps(thing)) is thing
        assert copy.deepcopy(thing) is thing
    code = "import pickle, sys; print(pickle.load(sys.stdin.buffer).rule.name)"
    done = subprocess.run([sys.executable, "-c", code], input=pickle.dumps(module.OwnRule), capture_output=True,
                          check=True)
    assert done.stdout.split() == [b"own_rule"]


def test_a_rule_that_came_by_value_steps(module):
    """As those of a script do, to the workers of joblib: the process has never seen its decoration."""
    values = pytest.importorskip("cloudpickle")
    values.register_pickle_by_value(module)
    try:
        sent = values.dumps((module.own_rule, module.OwnRule))
    finally:
        values.unregister_pickle_by_value(module)
    code = """
import pickle, sys, numpy as np, fastopt
rule, kind = pickle.load(sys.stdin.buffer)
for make in (fastopt.optimizer(rule), kind):
    w = np.ones(2, np.float32)
    make(w, lr=0.5).step(w)
    print(*w)
"""
    done = subprocess.run([sys.executable, "-c", code], input=sent, capture_output=True, check=False)
    assert done.stdout.split() == [b"0.5"]*4, done.stderr.decode()


@fastopt.rule(state="v", lr=0.1, mu=0.9)
def reads_scale(c, g, p, v):
    v = c.mu*v + c.scale*g
    return c.lr*v + c.wd*p, v


def test_a_rule_that_reads_the_scale_gets_1_of_wider_gradients():
    """They are scaled already, in their own type, as in `fastopt.kernels`."""
    w = np.ones(4, np.float32)
    opt = fastopt.optimizer(reads_scale)(w)
    opt.step(np.arange(4.0), grad_factor=0.5)
    assert opt.state["v"].tolist() == [0, 0.5, 1, 1.5]


def test_a_rule_may_take_its_coefficients_apart():
    @fastopt.rule(state="v", lr=0.1, mu=0.9)
    def apart(c, g, p, v):
        _, _, _, _, lr, mu = c
        v = mu*v + g
        return lr*v, v

    for more in ({}, {"average": 0.9, "cautious": True, "grokfast": (0.5, 1.0), "update_clip": 0.3},
                 {"weight_decay": 0.1, "update_clip": 0.2}):
        w, of_it = np.ones((2, 4), np.float32)
        opt = fastopt.optimizer(apart)(w, lr=0.1, **more)
        other = fastopt.Momentum(of_it, lr=0.1, momentum=0.9, form="outside", **more)
        for dtype, how in ((np.float32, {}), (np.float32, {"clip_norm": 0.5}), (np.float64, {"grad_factor": 0.3})):
            opt.step(np.arange(4, dtype=dtype), **how)
            other.step(np.arange(4, dtype=dtype), **how)
        assert np.array_equal(w, of_it)
        assert not np.array_equal(w, np.ones(4))
        numbers = [0.5, 1.0, *[0.25]*len(opt.rule.state)]
        assert opt.rule(opt.rule.at(1, lr=0.1), *numbers) == other.rule(
            other.rule.at(1, lr=0.1, momentum=0.9, form="outside"), *numbers)
