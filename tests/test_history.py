"""NAdam under hyperparameters that change: P is the product of every mu that was used, however the run was cut."""
import math

import numpy as np
import pytest
from conftest import normal
from papers import PAPERS

import fastopt
from fastopt import kernels, rules
from fastopt._rule.pieces import LAST
from fastopt._rule.pipeline import pipeline

STEPS = 24
WARM = {"b1": lambda t: min(0.95, 0.5 + 0.05*t)}
DECAYING = {"momentum_decay": lambda t: 0.1/t}


def changed(opt, t):
    """New numbers in one group before some steps, and back again."""
    if t in (6, 7, 15):
        opt.groups[0]["b1"] = {6: 0.6, 7: 0.8, 15: 0.9}[t]
    if t == 11:
        opt.groups[0]["momentum_decay"] = 0.3
    if t == 19:
        opt.groups[0]["b1"] = lambda t: 0.5 + 0.01*t
    if t == 22:
        opt.groups[0]["b1"] = 0.7


def paper(start, group):
    """The paper's formula in float64, P being a product of numbers: a generator of the parameters after each step."""
    p, s = start.copy(), {}
    for t in range(1, STEPS + 1):
        p = PAPERS["nadam"](t, p, gradient(t, len(start)), s, **group(t))
        yield p


def gradient(t, n):
    return 1 + normal(t, n).astype(float)


def close(have, want):
    np.testing.assert_allclose(have, want, rtol=1e-12, atol=1e-14)


class Model:
    """An optimizer of two groups, of which the first changes, beside the formula."""

    def __init__(self, **hyper):
        self.w = [np.linspace(1, 2, 5), np.linspace(1, 2, 3)]
        self.hyper = {"lr": 0.01, **hyper}
        self.opt = self.made()

    def made(self):
        return fastopt.NAdam([{"params": self.w[0], **self.hyper}, {"params": self.w[1], "lr": 0.02}])

    def walk(self, between=lambda model, t: None, change=lambda opt, t: None):
        watched = [self.opt.groups]
        want = [paper(w.copy(), lambda t, k=k: watched[0][k].at(t)) for k, w in enumerate(self.w)]
        for t in range(1, STEPS + 1):
            between(self, t)
            change(self.opt, t)
            watched[0] = self.opt.groups
            self.opt.step([gradient(t, len(w)) for w in self.w])
            for w, p in zip(self.w, want, strict=True):
                close(w, next(p))


def resumed(model, t):
    if t in (4, 7, 12, 20, 23):
        saved, before = model.opt.state_dict(), model.opt.groups
        model.opt = model.made()
        for new, old in zip(model.opt.groups, before, strict=True):
            new.update({name: x for name, x in old.items() if callable(x)})
        model.opt.load_state_dict(saved)


def stepped_by_hand(model, t):
    """The state alone goes on, and `t` is set."""
    if t == 9:
        state, old = model.opt.state, model.opt
        model.opt = model.made()
        for name, trees in model.opt.state.items():
            for new, have in zip(trees, state[name], strict=True):
                new[...] = have
        model.opt.t = old.t


def skipped(model, t):
    if t in (5, 6, 19):
        before = model.opt.t
        model.opt.step([np.full(5, np.nan), np.ones(3)], skip_nonfinite=True)
        assert model.opt.t == before


CUTS = {"whole": lambda model, t: None, "resumed": resumed, "skipped": skipped}


@pytest.mark.filterwarnings(r"ignore:fastopt. groups\[0\]\[.b1.\] stays 0.9:UserWarning")  # between steps 19 and 22
@pytest.mark.parametrize("cut", CUTS)
def test_product_of_all_mu(cut):
    for hyper in ({}, WARM, DECAYING, {**WARM, **DECAYING}):
        Model(**hyper).walk(CUTS[cut])
    Model().walk(CUTS[cut], changed)
    Model(**DECAYING).walk(CUTS[cut], changed)


def test_steps_that_were_not_made():
    """A count set by hand (those before had the given hyperparameters), a number that no step has, a factor of 0."""
    for hyper in ({}, WARM, DECAYING):
        Model(**hyper).walk(stepped_by_hand)
    Model(b1=lambda t: 0.9 if t != 5 else 0.0).walk(resumed)

    def between(model, t):
        if t == 8:
            model.opt.groups[0]["b1"] = 0.1  # no step has it
            skipped(model, 5)
            model.opt.groups[0]["b1"] = 0.9
    Model().walk(between)


def test_going_back_to_an_earlier_step():
    """`t` is set back: the product is that of the steps before it, as they were."""
    def rows(opt, steps):
        found = []
        for t in steps:
            changed(opt, t)
            found.append(opt.groups[0].coefficients(t, 1.0, math.inf))
        return found

    for back in (1, 5, 9, 12, 20):
        one, two = (fastopt.NAdam(np.ones(3), lr=0.01) for _ in range(2))
        rows(one, range(1, 30))
        rows(two, range(1, back + 1))
        for opt in (one, two):
            opt.groups[0].update({"b1": 0.85, "momentum_decay": 0.02})
        assert rows(one, range(back + 1, 30)) == rows(two, range(back + 1, 30))


@pytest.mark.filterwarnings(r"ignore:fastopt. groups\[0\]\[.b1.\] stays 0.9:UserWarning")  # between steps 19 and 22
def test_resumed_runs_have_equal_bits(tmp_path):
    pytest.importorskip("safetensors")
    for hyper in ({}, WARM):
        opts = [fastopt.NAdam([np.linspace(1, 2, 5)], lr=0.01, **hyper) for _ in range(2)]
        for t in range(1, 25):
            for opt in opts:
                changed(opt, t)
                opt.step([gradient(t, 5)])
            if t % 5 == 0:
                fastopt.files.save(tmp_path/"run", opts[1])
                w = opts[1].params
                opts[1] = fastopt.NAdam(w, lr=0.01, **hyper)
                opts[1].groups[0].update(opts[0].groups[0])  # a file holds no functions
                fastopt.files.load(tmp_path/"run", opts[1])
            assert (opts[0].params[0] == opts[1].params[0]).all(), t


def test_constant_hyperparameters_leave_no_trace():
    opt, of = fastopt.NAdam(np.ones(3), lr=0.01), pipeline(rules.nadam)
    for t in range(1, 200):
        assert opt.groups[0].coefficients(t, 1.0, math.inf) == tuple(of.at(t, lr=0.01))
    opt.t = 10**6
    assert "history" not in opt.state_dict()
    assert opt.groups[0].coefficients(10**6 + 1, 1.0, math.inf) == tuple(of.at(10**6 + 1, lr=0.01))


def test_tables_for_compiled_loops():
    rows = kernels.table(rules.nadam, 40, **WARM)
    opt = fastopt.NAdam(np.ones(3), **WARM)
    for t, row in enumerate(rows, 1):
        assert (row == opt.groups[0].coefficients(t, 1.0, math.inf)[:-len(LAST)]).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_warm_up_begun_in_torch(dtype):
    torch = pytest.importorskip("torch")
    torch.set_default_dtype(getattr(torch, dtype))  # of its product
    try:
        tensor = torch.nn.Parameter(torch.linspace(1, 2, 5, dtype=torch.float64))
        reference = torch.optim.NAdam([tensor], lr=0.01)
        w = opt = None
        for t in range(1, 31):
            g = gradient(t, 5)
            b1 = WARM["b1"](t) if t < 20 else 0.8
            if t == 12:
                w = tensor.detach().numpy().copy()
                opt = fastopt.NAdam([w], like="torch")
                opt.load_state_dict(reference.state_dict())
            reference.param_groups[0]["betas"] = (b1, 0.999)
            tensor.grad = torch.tensor(g, dtype=torch.float64)
            reference.step()
            if opt is not None:
                opt.groups[0]["b1"] = b1
                opt.step([g])
                np.testing.assert_allclose(w, tensor.detach().numpy(), rtol=1e-12 if dtype == "float64" else 1e-8)
    finally:
        torch.set_default_dtype(torch.float32)


def test_damaged_histories():
    opt = fastopt.NAdam(np.ones(3))
    saved = opt.state_dict()
    for history in ([[0, 0.0]]*2, 7, [[1]], [["a", 0.0]], [[1, math.nan]], [[-1, 0.0]], [[9, 0.0]], [[0.5, 0.0]],
                    [[1, "x"]]):
        with pytest.raises(ValueError, match="load_state_dict: its history does not fit the groups"):
            opt.load_state_dict({**saved, "t": 3, "history": history})
        assert opt.t == 0


def test_a_history_of_a_rule_of_ones_own():
    """Any rule may have one: here the sum of all learning rates."""
    def total(first, last, lr):
        return (last - first + 1)*lr

    @fastopt.rule(lambda t, lr=0.5, past=None: {"step": total(1, t, lr) if past is None else past}, history=total)
    def climbing(c, g, p):
        return (c.step*g,)

    w = np.zeros(1)
    opt = fastopt.optimizer(climbing)(w, lr=0.5)
    for lr in (0.5, 0.25, 1.0):
        opt.groups[0]["lr"] = lr
        opt.step(-np.ones(1))
    assert w == [0.5 + 0.75 + 1.75]
    assert climbing.at(3, lr=0.5).step == 1.5
