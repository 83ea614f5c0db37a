"""Schedule-Free learning around any rule: points, history (tests/test_modifiers.py has its formula and bits)."""
import importlib
import pickle

import numpy as np
import pytest
from conftest import OPTIMIZERS, assert_identical, normal
from test_parity import double

import fastopt


def averaged(zs, lrs):
    """The average of points, each with the square of its learning rate as weight."""
    return sum(lr**2*z for z, lr in zip(zs, lrs, strict=True))/sum(lr**2 for lr in lrs)


def optax_walk(base, lr, b, w, gs):
    """The points of optax: those at which gradients are taken, and those to evaluate. Weights count from 1."""
    jax, contrib = importlib.import_module("jax"), importlib.import_module("optax.contrib")
    with double(jax):
        optimizer = contrib.schedule_free(base(lr), learning_rate=lambda count: lr(count - 1), b1=b)
        p = jax.numpy.asarray(w)
        state = optimizer.init(p)
        for g in gs:
            update, state = optimizer.update(jax.numpy.asarray(g), state, p)
            p = p + update
            yield np.asarray(p), np.asarray(contrib.schedule_free_eval_params(state, p))


@pytest.mark.parametrize("name", ["sgd", "rmsprop", "adamw"])
def test_it_walks_with_optax(name):
    """With a warm-up: optax weighs by the largest lr so far, which is then that of the step."""
    pytest.importorskip("jax")
    optax = pytest.importorskip("optax")
    w, gs, steps = normal(1, 37), [normal(k, 37) + 0.5 for k in range(2, 17)], 6
    bases = {"sgd": optax.sgd, "rmsprop": lambda lr: optax.rmsprop(lr, decay=0.8),
             "adamw": lambda lr: optax.adamw(lr, b1=0.0, b2=0.9, eps=1e-3, weight_decay=0.1)}
    hyper = {"sgd": {}, "rmsprop": {"like": "optax", "alpha": 0.8},
             "adamw": {"b2": 0.9, "eps": 1e-3, "weight_decay": 0.1}}
    p = w.copy()
    opt = OPTIMIZERS[name](p, lr=fastopt.schedules.warmup(steps, 0.1), schedule_free=0.8, **hyper[name])
    theirs = optax_walk(bases[name], lambda count: 0.1*(1 + count).clip(0, steps)/steps, 0.8, w, gs)
    for g, (y, x) in zip(gs, theirs, strict=True):
        opt.step(g)
        np.testing.assert_allclose(p, y, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(opt.evaluation_point(), x, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("b", [0.0, 0.7])
def test_the_point_to_evaluate_is_the_average_of_plain_steps(b):
    """Weights are those that each step had, be lr a function, or a number that changes; 0 at first weighs nothing."""
    lrs, p = [0.0, 0.1, 0.3, 0.3, 0.05, 0.2], [normal(1, 9), normal(1, 9)]
    opt = fastopt.SGD([{"params": p[0], "lr": lambda t: lrs[t - 1]}, {"params": p[1], "lr": 0.0}], schedule_free=b)
    z, zs = normal(1, 9), []
    assert_identical(opt.evaluation_point()[0], p[0])
    for t, lr in enumerate(lrs):
        g, opt.groups[1]["lr"] = normal(t + 2, 9), lr
        opt.step([g, g])
        z = z - lr*g
        zs.append(z)
        x = averaged(zs, lrs[:len(zs)]) if lr else z
        y = [a.copy() for a in p]
        for now, at in zip(p, opt.evaluation_point(), strict=True):  # the schedule is not asked for what lies beyond it
            np.testing.assert_allclose(now, (1 - b)*z + b*x, rtol=1e-12, atol=1e-14)
            np.testing.assert_allclose(at, x, rtol=1e-12, atol=1e-14)
        for now, before in zip(p, y, strict=True):
            assert_identical(now, before)


def test_it_takes_the_place_of_momentum():
    """Steps are those of the rule without one, bit for bit, and its state is gone. Lion keeps its own."""
    gs = [normal(k, 50).astype(np.float32) for k in range(4)]

    def walked(kind, **how):
        p = np.ones(50, np.float32)
        opt = kind(p, lr=0.1, **how)
        for g in gs:
            opt.step(g)
        return p, list(opt.state)
    for kind, other, states in ((fastopt.Momentum, fastopt.SGD, []), (fastopt.RMSPropMomentum, fastopt.RMSProp, ["v"])):
        p, kept = walked(kind, schedule_free=True)
        assert kept == [*states, "schedule_free"]
        assert_identical(p, walked(other, schedule_free=True)[0])
    assert walked(fastopt.AdamW, schedule_free=True)[1] == ["v", "schedule_free"]
    assert walked(fastopt.Lion, schedule_free=True)[1] == ["m", "schedule_free"]
    assert_identical(walked(fastopt.Adam, b1=0.0, schedule_free=True)[0],
                     walked(fastopt.Adam, like="torch", schedule_free=0.9)[0])


def test_what_carries_the_model_is_stored_otherwise_only_where_it_is_named():
    p = np.ones(300, np.float32)
    assert fastopt.Adam(p, schedule_free=True, state="q8").state["schedule_free"].dtype == np.float32
    opt = fastopt.Adam(p, schedule_free=True, state={"schedule_free": "bf16s"})
    opt.step(normal(1, 300).astype(np.float32))
    opt.step(normal(2, 300).astype(np.float32))
    assert opt.state["schedule_free"].dtype == np.uint16
    assert_identical(opt.evaluation_point(), p + opt.decoded("schedule_free"))


def test_checkpoints_and_copies():
    """They go on with the same bits, also where weights of earlier steps are known from the checkpoint alone."""
    def made(lr):
        return fastopt.AdamW(np.ones(50), lr=lr, schedule_free=0.8)
    opt, gs = made(lambda t: 0.1*t), [normal(k, 50) for k in range(5)]
    for g in gs[:3]:
        opt.step(g)
    opt.groups[0]["lr"] = 0.05
    again, other = made(0.05), pickle.loads(pickle.dumps(made(0.05)))
    for one in (again, other):
        one.params[...] = opt.params
        one.load_state_dict(opt.state_dict())
    for g in gs[3:]:
        for one in (opt, again, other):
            one.step(g)
            assert_identical(one.params, opt.params)
            assert_identical(one.evaluation_point(), opt.evaluation_point())
    late = made(0.05)  # a run of the same steps with one lr throughout has other weights
    late.t = 3
    saved = {k: v for k, v in opt.state_dict().items() if k != "history"}
    late.load_state_dict(saved)
    late.params[...] = opt.params
    late.step(gs[0])
    opt.step(gs[0])
    assert not np.array_equal(late.params, opt.params)
    with pytest.raises(TypeError, match="'schedule_free' is no hyperparameter of adamw"):
        fastopt.AdamW(np.ones(50)).load_state_dict(saved)
    with pytest.raises(TypeError, match="'b1' is no hyperparameter of adamw, which has lr, b2"):
        late.load_state_dict(fastopt.AdamW(np.ones(50)).state_dict())


def test_a_parameter_without_a_gradient_has_an_average_of_its_own():
    p, alone = [np.ones(9), np.ones(9)], np.ones(9)
    opt, twin = (fastopt.SGD(x, lr=0.1, schedule_free=True) for x in (p, alone))
    for t in range(4):
        g = normal(t, 9)
        opt.step([g, None if t in (0, 2) else g])
        if t in (1, 3):
            twin.step(g)
    assert_identical(p[1], alone)
    assert_identical(opt.evaluation_point()[1], twin.evaluation_point())
    assert not np.array_equal(p[0], p[1])


def test_torchs_state_dicts_are_read():
    """AdamW's second moment and hyperparameters; the average begins where the parameters are."""
    torch = pytest.importorskip("torch")
    w = torch.ones(9, dtype=torch.float64)
    theirs = torch.optim.AdamW([w], lr=0.3, betas=(0.8, 0.7))
    w.grad = torch.from_numpy(normal(1, 9))
    theirs.step()
    opt = fastopt.AdamW(w.numpy(), schedule_free=True)
    opt.load_state_dict(theirs.state_dict())
    assert (opt.t, opt.groups[0]["lr"], opt.groups[0]["b2"]) == (1, 0.3, 0.7)
    assert_identical(opt.state["v"], theirs.state[w]["exp_avg_sq"].numpy())
    assert_identical(opt.evaluation_point(), w.numpy())


def test_noise_averages_out():
    """On a parabola with noisy gradients x ends nearer to the minimum than the points y, with a constant lr."""
    p, rng = np.full(1000, 5.0), np.random.default_rng(1)
    opt = fastopt.SGD(p, lr=0.3, schedule_free=True)
    for _ in range(300):
        opt.step(p + rng.normal(size=1000))
    y, x = (np.sqrt(np.mean(point**2)) for point in (p, opt.evaluation_point()))
    assert x < y < 0.2


@pytest.mark.parametrize(("call", "message"), [
    (lambda p: fastopt.SGD(p, average=0.9, schedule_free=True), "SGD: average with schedule_free, whose "
     "evaluation_point() is an average already. Leave one of them out."),
    (lambda p: fastopt.NAdam(p, schedule_free=True), "NAdam: schedule_free, but nadam looks ahead by itself or has a "
     "history of its own. Take fastopt.SGD, fastopt.AdamW or another rule."),
    (lambda p: fastopt.Nesterov(p, schedule_free=0.9), "Nesterov: schedule_free, but nesterov looks ahead by itself or "
     "has a history of its own. Take fastopt.SGD, fastopt.AdamW or another rule."),
    (lambda p: fastopt.AdamW(p, b1=0.9, schedule_free=True), "AdamW: b1 with schedule_free, which takes its place. "
     "Leave b1 out, and give schedule_free=0.9 for example."),
    (lambda p: fastopt.SGD(p, schedule_free=1.0), "SGD: schedule_free is 1.0, but a number in [0, 1) or a function of "
     "the step is needed. Change schedule_free.")])
def test_errors(call, message):
    with pytest.raises(ValueError) as caught:
        call(np.ones(3))
    assert str(caught.value) == message
