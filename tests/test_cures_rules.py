"""Cures of messages about rules of one's own and compiled code: each is executed, and no message is left out."""
import functools
import importlib.metadata
import itertools
import re
from pathlib import Path

import numpy as np
import pytest
from cures import check, same
from numba import njit
from numba.core.errors import TypingError

import fastopt
from fastopt import kernels, rules
from fastopt.notation import maximum, where

HALF, COUNT = 0.5, itertools.count()


def made(body, **how):
    return fastopt.rule(**{"lr": 0.5, "name": f"cured{next(COUNT)}", **how})(body)


def works(body, want=0.5, steps=1, **how):
    """One element that starts at 1 goes there, with gradients of 1."""
    w = np.ones(1)
    opt = fastopt.optimizer(made(body, **how))(w)
    for _ in range(steps):
        opt.step(np.ones(1))
    assert w == want, w
    return True


def plain(c, g, p):
    return (c.lr*g,)


def velocity(c, g, p, v):
    v = c.mu*v + g
    return c.lr*v, v


def changing(t, lr=0.5):
    return {"lr": lr, **({"late": 1.0} if t > 1 else {})}


def same_each_step(t, lr=0.5):
    return {"lr": lr, "late": float(t > 1)}


def two_steps(at):
    opt = fastopt.optimizer(fastopt.rule(at, name=f"cured{next(COUNT)}")(plain))(np.ones(1))
    for _ in range(2):
        opt.step(np.ones(1))
    assert opt.params == 0


def halved(c, g, p):
    return (c.lr*c.half*g,)


def positive(c, g, p):
    return (c.lr*maximum(g, c.floor),)


def branching(c, g, p):
    return (c.lr*g if g > c.floor else c.lr*c.floor,)


MU = {"state": "v", "mu": 0.5}
ROWS = fastopt.Rows([1], np.ones((1, 4)))
SQUARED = fastopt.rule(state="v", lr=0.5, mu=0.5, name="squared")(velocity)

def by_rows(g=None, order=np.array, **how):
    """A step whose gradient is clipped by rows, each to half the length of the parameter's."""
    p = order(np.ones((3, 4)))
    how = how if "trust_ratio" in how else {"adaptive_clip": 0.5, **how}
    opt = fastopt.Momentum(p, lr=1.0, **how)
    try:
        opt.step(np.ones((3, 4)) if g is None else g)
    finally:
        assert (p == (1.0 if opt.t == 0 else 0.0 if "trust_ratio" in how else 0.5)).all()


CALLS = [  # what raises; and what the message says to do instead
    (lambda: made(lambda c, g, p: c.lr*g), lambda: works(plain)),
    (lambda: made(lambda c, g, p, v: (g, v, v), state="v"), lambda: works(velocity, **MU)),
    (lambda: fastopt.rule(lambda t, lr, mu=0.5: {"lr": lr}),
     lambda: fastopt.rule(lambda t, lr=0.01, mu=0.5: {"lr": lr, "mu": mu})),
    (lambda: fastopt.rule(lr=0.5, class_name="heavy ball"), lambda: works(plain, class_name="HeavyBall")),
    (lambda: fastopt.rule(rate=0.5), lambda: works(plain, lr=0.5)),
    (lambda: fastopt.rule(lr=0.5, weight_decay=0.1), lambda: works(plain, 0.0, defaults={"weight_decay": 1.0}, lr=0.5)),
    (lambda: fastopt.rule(lr=0.5, threads=2.0), lambda: works(lambda c, g, p: (c.lr*g*c.count,), 0.0, count=2.0)),
    (lambda: SQUARED.at(1, moment=0.9), lambda: SQUARED.at(1, mu=0.9)),
    (lambda: SQUARED.at(1, cautious=True), lambda: fastopt.optimizer(SQUARED)(np.ones(3), cautious=True)),
    (lambda: SQUARED.at(0), lambda: SQUARED.at(1)), (lambda: SQUARED.at(1.5), lambda: SQUARED.at(np.int64(1))),
    (lambda: SQUARED.at(1, lr=lambda t: 0.5/t), lambda: SQUARED.at(1, lr=(lambda t: 0.5/t)(1))),
    (lambda: SQUARED.at(1, 0.5), lambda: SQUARED.at(1, np.float32, lr=0.5)),
    (lambda: SQUARED.at(1, np.complex64), lambda: same(SQUARED.at(1, np.float32([1]).dtype).lr, np.float32(0.5))),
    (lambda: SQUARED.at(1, np.float16), lambda: SQUARED.at(1, np.float64)),
    (lambda: made(lambda c, g, p, m: (g, m), state="v"), lambda: works(velocity, **MU)),
    (lambda: made(lambda c, g, p, average: (g, average), state="average"), lambda: works(velocity, **MU)),
    (lambda: made(velocity, nonnegative="m", **MU), lambda: works(velocity, nonnegative="v", **MU)),
    (lambda: made(plain, clip=1.0), lambda: works(lambda c, g, p: (c.lr*g*c.top,), top=1.0)),
    (lambda: made(velocity, ahead="far", **MU), lambda: works(velocity, ahead="mu", **MU)),
    (lambda: made(velocity, momentum="mu", **MU), lambda: works(velocity, momentum="mu v", **MU)),
    (lambda: made(plain, ranges={"rate": "[0, 1)"}), lambda: works(plain, ranges={"lr": "[0, 1)"})),
    (lambda: two_steps(changing), lambda: two_steps(same_each_step)),
    (lambda: made(lambda c, g, p: (0.5*g,)), lambda: works(halved, 0.75, half=0.5)),
    (lambda: made(lambda c, g, p: (HALF*g,)), lambda: works(halved, 0.75, half=HALF)),
    (lambda: made(branching, floor=0.0), lambda: works(positive, floor=0.0)),
    (lambda: made(lambda c, g, p: (c.lr*abs(g),)), lambda: works(lambda c, g, p: (c.lr*maximum(g, -g),))),
    (lambda: made(lambda c, g, p: (c.lr*np.tanh(g),)), lambda: works(plain)),
    (lambda: made(lambda c, g, p: (c.lr*g.real,)), lambda: works(plain)),
    (lambda: made(lambda c, g, p: (c.rate*g,)), lambda: works(plain)),
    (lambda: made(lambda c, g, p: ((g > p) - (p > g),)),
     lambda: works(lambda c, g, p: (where(g > p, c.lr, -c.lr),), 1.5)),
    (lambda: made(functools.partial(plain)), lambda: works(plain)),
    (lambda: fastopt.optimizer(made(lambda c, g, p: (c,)))(np.ones(1)).step(np.ones(1)), lambda: works(plain)),
    (lambda: fastopt.SGD(np.ones(1)).tabulate(), lambda: works(plain)),
    (lambda: by_rows(ROWS), by_rows), (lambda: by_rows(order=np.asfortranarray), by_rows),
    (lambda: by_rows(state="q8"), lambda: by_rows(state="bf16s")),
    (lambda: by_rows(ROWS, trust_ratio="update"), lambda: by_rows(trust_ratio="update")),
    (lambda: fastopt.SGD(np.ones((3, 4))).step(ROWS, measure=True),
     lambda: fastopt.SGD(np.ones((3, 4))).step(np.ones((3, 4)), measure=True))]


def test_what_the_messages_say_to_do_works():
    check(CALLS, "rules", ("check_own",))  # tests/test_cures_states.py


@njit
def compiled(c, g, p, v):
    STEP(c, g, p, v)


STEP = kernels.momentum
ROW = kernels.table(rules.momentum, 1, lr=0.5)
KERNELS = [  # arguments that it is not compiled for, and what is needed
    ((ROW[0], np.ones(3), np.ones(3), 1.0), (ROW[0], np.ones(3), np.ones(3), np.zeros(3))),
    ((ROW[0], np.ones(6)[::2], np.ones(3), np.zeros(3)), (ROW[0], np.ones(6)[::2].copy(), np.ones(3), np.zeros(3))),
    ((ROW[0], np.ones(3), np.broadcast_to(1.0, 3), np.zeros(3)),
     (ROW[0], np.ones(3), np.broadcast_to(1.0, 3).copy(), np.zeros(3))),
    ((0.5, np.ones(3), np.ones(3), np.zeros(3)), (rules.momentum.at(1, lr=0.5), np.ones(3), np.ones(3), np.zeros(3))),
    ((ROW[0], np.ones(3), np.ones(3), np.zeros(2)), (ROW[0], np.ones(3), np.ones(3), np.zeros(3))),
    ((ROW[0, :2].copy(), np.ones(3), np.ones(3), np.zeros(3)), (ROW[0], np.ones(3), np.ones(3), np.zeros(3)))]


def test_steps_in_compiled_code():
    for bad, good in KERNELS:
        with pytest.raises((TypingError, ValueError), match=r"kernels.*: (.|\n)+\. [GM]\w+ \w"):
            compiled(*bad)
        compiled(*good)
        assert good[2].tolist() == [0.5]*3


HALVES, TWO = np.ones(3, np.float16), np.ones((3, 1))
IN_PYTHON = [  # the same outside of compiled code
    ((ROW[0], np.ones(3), np.ones(3)), (ROW[0], np.ones(3), np.ones(3), np.zeros(3))),
    ((ROW[0], np.ones(3), np.ones(3), 1.0), (ROW[0], np.ones(3), np.ones(3), np.zeros(3))),
    ((ROW[0], np.ones(3), HALVES, np.zeros(3)), (ROW[0], np.ones(3), np.ones(3, np.float32), np.zeros(3))),
    ((ROW[0], 1j*np.ones(3), np.ones(3), np.zeros(3)), (ROW[0], np.ones(3), np.ones(3), np.zeros(3))),
    ((ROW[0], np.ones(3), np.ones(3), np.zeros(1)), (ROW[0], np.ones(3), np.ones(3), np.zeros(3))),
    ((ROW[0], np.ones(3), np.ones(3), TWO), (ROW[0], np.ones(3), np.ones(3), np.zeros(3))),
    ((ROW[0], np.ones(3), np.broadcast_to(1.0, 3), np.zeros(3)),
     (ROW[0], np.ones(3), np.broadcast_to(1.0, 3).copy(), np.zeros(3))),
    ((ROW, np.ones(3), np.ones(3), np.zeros(3)), (ROW[0], np.ones(3), np.ones(3), np.zeros(3))),
    ((0.5, np.ones(3), np.ones(3), np.zeros(3)), (rules.momentum.at(1, lr=0.5), np.ones(3), np.ones(3), np.zeros(3)))]


def test_steps_of_whole_arrays_in_python():
    """Nothing is written before an error."""
    for bad, good in IN_PYTHON:
        with pytest.raises((TypeError, ValueError), match=r"kernels\.momentum: .+\. G\w+ \w"):
            STEP(*bad)
        assert (np.asarray(bad[2]) == 1).all()
        STEP(*good)
        assert good[2].tolist() == [0.5]*3


def test_tables():
    rule = rules.momentum
    for bad in ((fastopt.Momentum, 1), ("momentum", 1), (1, rule), (rule, 1.5), (rule, -1)):
        with pytest.raises((TypeError, ValueError), match=r"kernels\.table: .+\. [GC]\w+ \w"):
            kernels.table(*bad, lr=0.5)
    with pytest.raises(ValueError, match=r"^kernels\.table: lr is -1"):
        kernels.table(rule, 1, lr=-1)
    same(kernels.table(fastopt.Momentum.rule, np.int64(1), lr=0.5), ROW)


def test_the_extras_that_messages_name_exist():
    named = set()
    for path in Path(fastopt.__file__).parent.rglob("*.py"):
        named |= set(re.findall(r'"fastopt\[(\w+)\]"|missing\(.*, "(\w+)"\)', path.read_text("utf-8")))
    assert {"".join(name) for name in named} <= set(importlib.metadata.metadata("fastopt").get_all("Provides-Extra"))
