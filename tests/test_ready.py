"""Steps like the last one, which one compiled call takes: they are those that Python would take, whatever changes."""
import numpy as np
import pytest
from conftest import KINDS, OWN, RULES, assert_identical, normal

import fastopt
from fastopt._cpu import pool
from fastopt._rule.groups import Group

F32, F64 = np.float32, np.float64
ASKED = [{}, {"clip_norm": 0.5}, {"clip_norm": 100.0}, {"grad_factor": -0.3}, {"skip_nonfinite": True},
         {"clip_norm": 0.25, "grad_factor": 3.0, "skip_nonfinite": True}, {"clip_value": 0.2}]


def slow(opt):
    """The optimizer without steps that are ready: each goes through Python."""
    opt._backend._repeats = lambda *asked: False
    return opt


def pair(cls, **hyper):
    """Two equal optimizers, the second slow: two groups of two float types, one gradient wider than its parameter."""
    def made():
        w = [normal(k, 5 + k).astype(dtype) for k, dtype in enumerate((F32, F64, F32))]
        return cls([{"params": w[:2]}, {"params": w[2:], "lr": 0.25}], **hyper)
    return made(), slow(made())


def same(a, b):
    assert (a.t, a.grad_norm) == (b.t, b.grad_norm)
    for have, want in zip([g["params"] for g in a.params], [g["params"] for g in b.params], strict=True):
        for x, y in zip(have, want, strict=True):
            assert_identical(x, y)


@pytest.mark.parametrize("name", KINDS)
def test_many_steps_with_changes_in_between(name):
    hyper = {"lr": 0.125, **OWN[name][0], **({"warmup": 90.0} if name == "ademamix" else {})}
    opts, rng = pair(fastopt.optimizers.ALL[name], **hyper), np.random.default_rng(0)
    gradients = [[normal(10*k + j, 5 + j).astype(F64 if j else F32) for j in range(3)] for k in range(4)]
    asked, ready = ASKED[0], 0
    for step in range(150):
        if rng.random() < 0.15:
            asked = ASKED[rng.integers(len(ASKED))]
        change = rng.integers(40)
        for opt in opts:
            if change == 0:
                opt.groups[1]["lr"] *= 0.75
            elif change == 1:
                opt.groups[0]["weight_decay"] = 0.0 if opt.groups[0]["weight_decay"] else 0.125
            elif change == 2:
                opt.t += 40
            elif change == 3:
                opt.load_state_dict(opt.state_dict())
            elif change == 4:
                opt.groups[0]["lr"] = (lambda t: 1/t) if change == step % 8 else 0.0625
            elif change == 5:
                opt.threads = 1 + step % 3
            grads = gradients[step % 4]
            opt.step([grads[:2], grads[2:]] if step % 5 else [[g[::-1] for g in grads[:2]], grads[2:]], **asked)
        ready += opts[0]._backend._ready is not None
        same(*opts)
    assert ready > 30 or name == "nadam"  # which remembers the hyperparameters of all steps


def test_a_skipped_step_changes_nothing_and_the_next_is_right():
    opts = pair(fastopt.Adam, lr=0.5)
    good = [normal(1, 5).astype(F32), normal(2, 6)], [normal(3, 7).astype(F32)]
    bad = [np.full(5, np.inf, F32), good[0][1]], good[1]
    for grads in (good, good, good, bad, good, bad, bad, good):
        for opt in opts:
            opt.step(list(grads), skip_nonfinite=True)
        same(*opts)
    assert opts[0].t == 5


def test_coefficients_of_many_steps_are_those_of_each():
    for name, rule in RULES.items():
        for hyper in ({}, *OWN[name], {"weight_decay": 0.25, "decay": "independent", "maximize": True}):
            group = Group(rule, {**hyper, "lr": 0.3}, "here")
            for first in (1, 2, 3, 1000, 2**24 + 1, 2**53 + 1) if group.ahead else ():
                rows = [group.coefficients(t, 1.0, np.inf) for t in range(first, first + 40)]
                assert group.rows(first, 40).tolist() == [list(map(float, row)) for row in rows], (name, hyper, first)


def test_coefficients_settle_when_a_rule_says_so():
    for name, rule in RULES.items():
        for hyper in ({}, *OWN[name]):
            rows = [rule.at(t, **hyper) for t in range(rule.settled or 1, 100)]
            assert rule.settled is None or rows == rows[:1]*len(rows), name


def test_a_rule_of_ones_own_is_asked_at_every_step():
    rates = [1.0]

    @fastopt.rule(lambda t, lr=1.0: {"lr": rates[-1]})
    def asked(c, g, p):
        return (c.lr*g,)

    opt = fastopt.optimizer(asked)(np.zeros(3))
    for rate in range(1, 9):
        rates.append(float(rate))
        opt.step(np.ones(3))
    assert opt.params.tolist() == [-36.0]*3


def test_counts_end_where_they_did():
    opt = fastopt.SGD(np.zeros(3), lr=1.0)
    opt.t = 2**62 - 5
    for _ in range(5):
        opt.step(np.ones(3))
    with pytest.raises(ValueError, match="counts end there"):
        opt.step(np.ones(3))
    assert (opt.t, opt.params.tolist()) == (2**62, [-5.0]*3)


def test_shares_are_of_equal_elements():
    for extents in ([], [7], [8]*16, [8]*13, [3, *[8]*12], [100, 1, 1, 1, 1], [1, 1, 1, 1, 100]):
        for threads in (1, 2, 3, 16):
            found = pool.shares(np.array(extents, np.int64), threads)
            first, end = found >> 32, found & 0xFFFFFFFF
            assert (first[0], *first[1:], len(extents)) == (0, *end)
            assert (first <= end).all()
            sums = [sum(extents[a:b]) for a, b in zip(first, end, strict=True)]
            assert max(sums) <= sum(extents)/threads + max(extents, default=0), (extents, threads)
