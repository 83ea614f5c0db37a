"""Other ways to take the same step on the same arrays: a maker for each, (rule, hyper, params, grads, threads) -> Rival.

Every rival gets float32 arrays of its own, is used as its manual says, and computes what fastopt computes (tests/test_bench_suite.py).
Makers import what they need: where that is not installed, ImportError; where a rival has no such optimizer, LookupError.
"""
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .optimizers import ALL
from .pool import available_threads

# Hyperparameters of each rule: thousands of steps with one gradient must stay finite and far from subnormal numbers.
STEADY: dict[str, dict[str, Any]] = {
    "sgd": {"lr": 1e-4},
    "momentum": {"lr": 1e-4, "momentum": 0.9},
    "nesterov": {"lr": 1e-4, "momentum": 0.9},
    "rmsprop": {"lr": 1e-5},
    "adagrad": {"lr": 1e-4},
    "adam": {"lr": 1e-5},
    "adamw": {"lr": 1e-5, "weight_decay": 0.01},
    "amsgrad": {"lr": 1e-5},
    "nadam": {"lr": 1e-5},
    "radam": {"lr": 1e-5},
    "lion": {"lr": 1e-6},
}
RULES = ["momentum", "nesterov", "adam", "adamw"]  # those that all rivals here have


class Rival(NamedTuple):
    step: Callable[[], object]
    params: Callable[[], list[np.ndarray]]


def _known(rule: str, name: str) -> None:
    if rule not in RULES:
        raise LookupError(f"{name}: no {rule} here, only {', '.join(RULES)}")


def _tensors(rule: str, params, grads):
    """[gradient, parameter, states] for each tensor."""
    return [[g.copy(), p.copy(), *(np.zeros_like(p) for _ in ALL[rule].rule.state)] for p, g in zip(params, grads, strict=True)]


def _textbook_momentum(t, g, p, v, lr, momentum):
    v = momentum*v + lr*g
    return p - v, v


def _textbook_adam(t, g, p, m, v, lr, b1=0.9, b2=0.999, eps=1e-8, weight_decay=0.0):
    m = b1*m + (1 - b1)*g
    v = b2*v + (1 - b2)*g**2
    m_hat = m/(1 - b1**t)
    v_hat = v/(1 - b2**t)
    if weight_decay:
        p = p - lr*weight_decay*p
    return p - lr*m_hat/(np.sqrt(v_hat) + eps), m, v


TEXTBOOK = {"momentum": _textbook_momentum, "nesterov": _textbook_momentum, "adam": _textbook_adam, "adamw": _textbook_adam}


def numpy(rule, hyper, params, grads, threads):
    """The formula on NumPy arrays, as people write it; for rules that are not in TEXTBOOK the rule itself, with its coefficients."""
    of, tensors, t = ALL[rule].rule, _tensors(rule, params, grads), 0

    def step():
        nonlocal t
        t += 1
        for slots in tensors:
            if rule in TEXTBOOK:
                slots[1:] = TEXTBOOK[rule](t, *slots, **hyper)
            else:
                slots[1:] = of.body(of.at(t, np.float32, **hyper), *slots)
    return Rival(step, lambda: [slots[1] for slots in tensors])


def _momentum_in_place(c, g, p, v, u, w):
    v *= c.mu
    np.multiply(g, c.a, out=u)
    v += u
    p -= v


def _adam_in_place(c, g, p, m, v, u, w):
    if c.wd:
        np.multiply(p, c.wd, out=u)
        p -= u
    m *= c.b1
    np.multiply(g, c.a1, out=u)
    m += u
    v *= c.b2
    np.multiply(g, g, out=u)
    u *= c.a2
    v += u
    np.sqrt(v, out=u)
    u += c.eps
    np.divide(m, u, out=w)
    w *= c.lr
    p -= w


def numpy_in_place(rule, hyper, params, grads, threads):
    """The same with ``out=`` and two scratch arrays: no memory is allocated."""
    _known(rule, "numpy_in_place")
    of, tensors, t = ALL[rule].rule, _tensors(rule, params, grads), 0
    size = max(p.size for p in params)
    scratch = np.empty(size, np.float32), np.empty(size, np.float32)
    formula = _adam_in_place if rule.startswith("adam") else _momentum_in_place
    views = [[*slots, *(s[:slots[1].size].reshape(slots[1].shape) for s in scratch)] for slots in tensors]

    def step():
        nonlocal t
        t += 1
        c = of.at(t, np.float32, **hyper)
        for arrays in views:
            formula(c, *arrays)
    return Rival(step, lambda: [slots[1] for slots in tensors])


MOMENTUM = [("v", "mu*v + a*g"), ("p", "p - v")]
ADAM = [("m", "b1*m + a1*g"), ("v", "b2*v + a2*g*g"), ("p", "p - wd*p - lr*m/(sqrt(v) + eps)")]


def numexpr(rule, hyper, params, grads, threads):
    """One expression for each array that changes."""
    import numexpr as ne

    _known(rule, "numexpr")
    ne.set_num_threads(threads)
    of, tensors, t = ALL[rule].rule, _tensors(rule, params, grads), 0
    names = ("g", "p", *of.state)
    formulas = ADAM if rule.startswith("adam") else MOMENTUM

    def step():
        nonlocal t
        t += 1
        c = of.at(t, np.float32, **hyper)._asdict()
        for slots in tensors:
            known = {**c, **dict(zip(names, slots, strict=True))}
            for name, formula in formulas:
                ne.evaluate(formula, known, {}, out=known[name])
    return Rival(step, lambda: [slots[1] for slots in tensors])


def _torch(**how):
    def make(rule, hyper, params, grads, threads):
        import torch

        _known(rule, "torch")
        torch.set_num_threads(threads)
        leaves = [torch.nn.Parameter(torch.from_numpy(p.copy())) for p in params]
        for leaf, g in zip(leaves, grads, strict=True):
            leaf.grad = torch.from_numpy(g.copy())
        if rule.startswith("adam"):
            opt = (torch.optim.AdamW if rule == "adamw" else torch.optim.Adam)(leaves, **hyper, **how)
        else:
            opt = torch.optim.SGD(leaves, **hyper, nesterov=rule == "nesterov", **how)
        return Rival(opt.step, lambda: [leaf.detach().numpy() for leaf in leaves])
    return make


def optax(rule, hyper, params, grads, threads):
    """The whole step, update and addition, in one jitted function that may reuse its arguments' memory."""
    _known(rule, "optax")
    if threads != available_threads():
        raise LookupError("optax: XLA takes all threads of the process")
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    import jax
    import optax as ox

    given = {"learning_rate" if name == "lr" else name: value for name, value in hyper.items()}
    if rule.startswith("adam"):
        chain = (ox.adamw if rule == "adamw" else ox.adam)(**given)
    else:
        chain = ox.sgd(**given, nesterov=rule == "nesterov")

    def update(g, p, s):
        u, s = chain.update(g, s, p)
        return ox.apply_updates(p, u), s

    jitted = jax.jit(update, donate_argnums=(1, 2))
    g = [jax.numpy.array(x) for x in grads]
    now = [[jax.numpy.array(x) for x in params]]
    now.append(chain.init(now[0]))

    def step():
        now[:] = jitted(g, *now)
        jax.block_until_ready(now)
    return Rival(step, lambda: [np.asarray(x) for x in now[0]])


RIVALS = {"numpy": numpy, "numpy_in_place": numpy_in_place, "numexpr": numexpr, "torch_fused": _torch(fused=True),
          "torch_foreach": _torch(foreach=True),  # its Nesterov adds mu*v to the gradient array itself, at every step
          "torch_for_loop": _torch(foreach=False), "optax": optax}
LIKE = {"torch_fused": "torch", "torch_foreach": "torch", "torch_for_loop": "torch", "optax": "optax"}  # whose conventions they follow
