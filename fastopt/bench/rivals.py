"""Other ways to take the same step: the formulas as other people write them, or as other systems ship them.

One entry each in `RIVALS`; nothing is imported before it is asked for. ``RIVALS[name](rule, hyper, params, grads,
threads)`` makes one: it works on copies of the parameters, in their float type (no float64 sneaks into a float32
comparison), and is used as its manual says. With ``states=`` it works on the given arrays themselves, and a loop on
those states too: where arrays lie in memory moves the time of a step in cache by a fifth and more. Hyperparameters are
those of fastopt's rule, in the rival's conventions (`fastopt.presets`). ImportError where it is not installed,
LookupError where it lacks the optimizer or the threads.
"""
import importlib
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from .._cpu.pool import available_threads
from ..optimizers import ALL
from ..presets import preset
from .loops import c_step, numba_step
from .numpy_steps import IN_PLACE, WRITTEN

Hyper = dict[str, Any]
Arrays = list[np.ndarray]


class Rival(NamedTuple):
    """A step, where the parameters are now, and how to give other gradients."""

    step: Callable[[], object]
    params: Callable[[], Arrays]
    load: Callable[[Arrays], object]


class System(NamedTuple):
    """How to make a rival: ``make(rules[rule], rule, hyper, tensors, grads, threads)``, with all hyperparameters.
    Each of `tensors` is a parameter and its states."""

    like: str | None
    formats: tuple[str, ...]
    rules: Mapping[str, Any]
    make: Callable[[Any, str, Hyper, list[Arrays], Arrays, int], Rival]

    def hyper(self, rule: str, given: Hyper) -> Hyper:
        """All hyperparameters: the rule's defaults, in this system's conventions, and what is given."""
        return {**ALL[rule].rule.defaults, **(preset(self.like, rule) if self.like else {}), **given}

    def __call__(self, rule: str, hyper: Hyper, params: Sequence[np.ndarray], grads: Sequence[np.ndarray],
                 threads: int, states: Sequence[Sequence[np.ndarray]] | None = None) -> Rival:
        if rule not in self.rules:
            raise LookupError(f"no {rule} there")
        if states is None:
            params, states = zip(*((p.copy(), [np.zeros_like(p) for _ in ALL[rule].rule.state]) for p in params),
                                 strict=True)
        tensors = [[p, *of] for p, of in zip(params, states, strict=True)]
        return self.make(self.rules[rule], rule, self.hyper(rule, hyper), tensors, list(grads), threads)


def named(function: Callable[..., Any], values: Hyper) -> Hyper:
    """The values that a function names."""
    return {k: values[k] for k in inspect.signature(function).parameters if k in values}


def folded(rule: str, hyper: Hyper) -> Callable[[int], Hyper]:
    """t -> the coefficients of step t, as floats."""
    of = ALL[rule].rule
    own, wd = {k: hyper[k] for k in of.own_names}, {"wd": hyper["lr"]*hyper["weight_decay"]}
    return lambda t: {**of.own(t, **own), **wd}


def first(tensors: Sequence[Arrays]) -> Arrays:
    """The parameters."""
    return [p for p, *_ in tensors]


def counted(step: Callable[[int, Arrays], object], params: Arrays, grads: Arrays) -> Rival:
    """The rival whose step takes the step's number and the gradients."""
    now = SimpleNamespace(t=0, grads=grads)

    def next_step():
        now.t += 1
        step(now.t, now.grads)
    return Rival(next_step, lambda: params, lambda new: setattr(now, "grads", new))


# NumPy (numpy_steps.py); one thread

def written(formula, rule, hyper, tensors, grads, threads):
    own = named(formula, hyper)

    def step(t, grads):
        for g, of in zip(grads, tensors, strict=True):
            of[1:] = formula(t, g, *of, **own)
    return counted(step, first(tensors), grads)


def in_place(formula, rule, hyper, tensors, grads, threads):
    at, params = folded(rule, hyper), first(tensors)
    block = np.empty(max(p.size for p in params), params[0].dtype)
    scratch = [block[:p.size].reshape(p.shape) for p in params]
    names = list(named(formula, at(1)))

    def step(t, grads):
        c = at(t)
        own = {k: c[k] for k in names}
        for s, g, of in zip(scratch, grads, tensors, strict=True):
            formula(s, g, *of, **own)
    return counted(step, params, grads)


# numexpr: one evaluation, threaded and in blocks, for each array that is written

MOMENTUM = (("v", "mu*v + a*g"), ("p", "p - v"))
MOMENTS = (("m", "b1*m + a1*g"), ("v", "b2*v + a2*g*g"))
EXPRESSIONS: dict[str, tuple[tuple[str, str], ...]] = {
    "sgd": (("p", "p - lr*g"),),
    "momentum": MOMENTUM,
    "nesterov": MOMENTUM,
    "rmsprop": (("v", "b2*v + a2*g*g"), ("p", "p - lr*g/(sqrt(v) + eps)")),
    "adagrad": (("v", "v + g*g"), ("p", "p - lr*g/(sqrt(v) + eps)")),
    "adam": (*MOMENTS, ("p", "p - lr*m/(sqrt(v) + eps)")),
    "adamw": (*MOMENTS, ("p", "p - wd*p - lr*m/(sqrt(v) + eps)")),
    "amsgrad": (*MOMENTS, ("top", "where(v > top, v, top)"), ("p", "p - lr*m/(sqrt(top) + eps)")),
    "nadam": (*MOMENTS, ("p", "p - (lr*m + now*g)/(sqrt(v) + eps)")),
    "radam": (*MOMENTS, ("p", "p - lr*m/(where(sqrt(v) < cap, sqrt(v), cap) + eps)")),
}


def numexpr(lines, rule, hyper, tensors, grads, threads):
    library = importlib.import_module("numexpr")
    library.set_num_threads(threads)
    at, scalar = folded(rule, hyper), tensors[0][0].dtype.type  # a Python float would make the expression float64
    named_arrays = [dict(zip(("p", *ALL[rule].rule.state), of, strict=True)) for of in tensors]

    def step(t, grads):
        c = {k: scalar(x) for k, x in at(t).items()}
        for g, arrays in zip(grads, named_arrays, strict=True):
            values = {**c, **arrays, "g": g}
            for name, expression in lines:
                library.evaluate(expression, local_dict=values, global_dict={}, out=arrays[name])
    return counted(step, first(tensors), grads)


# The same expressions as the loops that a user would write (loops.py)

def looped(of):
    def make(lines, rule, hyper, tensors, grads, threads):
        needed = {name for _, expression in lines for name in re.findall(r"\w+", expression)}
        at = folded(rule, hyper)
        return counted(of(lines, tensors, ("p", *ALL[rule].rule.state),
                          lambda t: {k: x for k, x in at(t).items() if k in needed}, threads), first(tensors), grads)
    return make


# torch.optim

def betas(h: Hyper) -> Hyper:
    return {"betas": (h["b1"], h["b2"]), "eps": h["eps"]}


TORCH: dict[str, tuple[str, Callable[[Hyper], Hyper]]] = {
    "sgd": ("SGD", lambda h: {}),
    "momentum": ("SGD", lambda h: {"momentum": h["momentum"]}),
    "nesterov": ("SGD", lambda h: {"momentum": h["momentum"], "nesterov": True}),
    "rmsprop": ("RMSprop", lambda h: {"alpha": h["alpha"], "eps": h["eps"]}),
    "adagrad": ("Adagrad", lambda h: {"eps": h["eps"]}),
    "adam": ("Adam", betas),
    "adamw": ("AdamW", lambda h: {**betas(h), "weight_decay": h["weight_decay"]}),
    "amsgrad": ("Adam", lambda h: {**betas(h), "amsgrad": True}),
    "nadam": ("NAdam", lambda h: {**betas(h), "momentum_decay": h["momentum_decay"]}),
    "radam": ("RAdam", betas),
}
FUSED = {k: v for k, v in TORCH.items() if v[0] in ("SGD", "Adagrad", "Adam", "AdamW")}


def torch(device="cpu", **how):
    def make(entry, rule, hyper, tensors, grads, threads):
        library = importlib.import_module("torch")
        if device == "cpu":
            library.set_num_threads(threads)
        elif not library.cuda.is_available():
            raise LookupError("torch finds no CUDA device, or was built without CUDA")
        name, arguments = entry
        leaves = [library.nn.Parameter(library.from_numpy(p).to(device)) for p in first(tensors)]
        opt = getattr(library.optim, name)(leaves, lr=hyper["lr"], **arguments(hyper), **how)

        def load(grads):
            # a copy: Nesterov with foreach=True adds mu*v to the gradient array itself
            for leaf, g in zip(leaves, grads, strict=True):
                leaf.grad = library.tensor(g, device=device)
        load(grads)
        return Rival(opt.step, lambda: [leaf.detach().cpu().numpy() for leaf in leaves], load)
    return make


# optax, compiled by XLA with the old parameters and state donated

def moments_of(h: Hyper) -> Hyper:
    return {k: h[k] for k in ("b1", "b2", "eps")}


OPTAX: dict[str, tuple[str, Callable[[Hyper], Hyper]]] = {
    "sgd": ("sgd", lambda h: {}),
    "momentum": ("sgd", lambda h: {"momentum": h["momentum"]}),
    "nesterov": ("sgd", lambda h: {"momentum": h["momentum"], "nesterov": True}),
    "rmsprop": ("rmsprop", lambda h: {"decay": h["alpha"], "eps": h["eps_root"]}),
    "adagrad": ("adagrad", lambda h: {"initial_accumulator_value": h["initial_accumulator_value"],
                                      "eps": h["eps_root"]}),
    "adam": ("adam", moments_of),
    "adamw": ("adamw", lambda h: {**moments_of(h), "weight_decay": h["weight_decay"]}),
    "amsgrad": ("amsgrad", moments_of),
    "nadam": ("nadam", moments_of),
    "radam": ("radam", lambda h: {**moments_of(h), "threshold": h["threshold"]}),
    "lion": ("lion", lambda h: {"b1": h["b1"], "b2": h["b2"], "weight_decay": h["weight_decay"]}),
}


def optax(entry, rule, hyper, tensors, grads, threads):
    jax, library = importlib.import_module("jax"), importlib.import_module("optax")
    if threads != available_threads():
        raise LookupError("XLA takes all threads of the process")
    cpu = jax.devices("cpu")[0]
    name, arguments = entry
    opt = getattr(library, name)(hyper["lr"], **arguments(hyper))

    def update(p, state, g):
        change, state = opt.update(g, state, p)
        return library.apply_updates(p, change), state

    compiled = jax.jit(update, donate_argnums=(0, 1))
    with jax.default_device(cpu):
        now = SimpleNamespace(p=[jax.numpy.array(p) for p in first(tensors)])
        now.state = opt.init(now.p)

    def load(grads):
        with jax.default_device(cpu):
            now.g = [jax.numpy.array(g) for g in grads]

    def step():
        now.p, now.state = compiled(now.p, now.state, now.g)
        jax.block_until_ready(now.p)
    load(grads)
    return Rival(step, lambda: [np.asarray(p) for p in now.p], load)


FLOATS = ("f32", "f64")
RIVALS: dict[str, System] = {
    "numpy": System(None, FLOATS, WRITTEN, written),
    "numpy_in_place": System(None, FLOATS, IN_PLACE, in_place),
    "numexpr": System(None, FLOATS, EXPRESSIONS, numexpr),
    "c": System(None, FLOATS, EXPRESSIONS, looped(c_step)),
    "numba": System(None, FLOATS, EXPRESSIONS, looped(numba_step)),
    "torch_fused": System("torch", FLOATS, FUSED, torch(fused=True)),
    "torch_foreach": System("torch", FLOATS, TORCH, torch(foreach=True)),
    "torch_for_loop": System("torch", FLOATS, TORCH, torch(foreach=False)),
    "optax": System("optax", ("f32",), OPTAX, optax),
}
