"""The formula of every method: what a step does to one element.

``p, m, v = rules.adam(c, g, p, m, v)`` are the new parameter and states, for numbers, for NumPy arrays, and inside
``@njit``. ``c = rules.adam.at(t, dtype, **hyperparameters)`` are the coefficients of step t = 1, 2, ... They are
computed once per step, in float64.

Letters mean the same everywhere: g gradient, p parameter, u update, m first moment, v second moment or velocity, c
coefficients.
"""
# `*_at(t, ...)` takes an integer step, or an array of steps. Its arguments are the hyperparameters; their annotations
# say what each may be, and what it is. The function below it gets the gradient after gradient factor, clipping and
# coupled decay, and returns the update u, which is then taken from p. Rules are sorted by complexity.
from functools import lru_cache
from math import exp, expm1, inf, log
from math import sqrt as root
from typing import Annotated, Any, Literal

import numpy as np

from ._rule.rule import rule
from .notation import absolute, clip, maximum, minimum, sign, sqrt, where

# Hyperparameters that several rules have
MU = Annotated[float, "[0, 1)", "mu: the share of the velocity that a step keeps, in [0, 1)."]
DAMPENING = Annotated[float, "[0, 1]", "d: the gradient enters the velocity times 1 - d, in [0, 1]."]
FORM = Annotated[Literal["textbook", "negative", "outside"],
                 '"textbook": the velocity holds lr. "negative": it holds -lr. "outside": lr multiplies the velocity '
                 "on its way out."]
FIRST_STEP = Annotated[Literal["zero", "copy"],
                       '"zero": the velocity starts at 0. "copy": the first velocity is the gradient itself, whatever '
                       "dampening is (torch)."]
B1 = Annotated[float, "[0, 1)", "Decay of the first moment, in [0, 1)."]
B2 = Annotated[float, "[0, 1)", "Decay of the second moment, in [0, 1)."]
EPS = Annotated[float, "[0, inf)", "Added to the root of the second moment. With 0, a parameter whose gradient was 0 "
                                   "so far becomes NaN (0/0)."]
SHARE = Annotated[float, "[0, 1)", "The share of the squared average that a step keeps, in [0, 1)."]
EPS_ROOT = Annotated[float, "[0, inf)", "Added inside the root."]
EPS_MODE = Annotated[Literal["outside", "hat"],
                     '"outside": eps is added to sqrt(v/c2); "hat": to sqrt(v), as in the paper\'s shortcut.']


def each(function, x):
    """A function of `math` at x, or at each element of an array: NumPy's have other bits on some processors."""
    return np.array(list(map(function, x.tolist()))) if type(x) is np.ndarray else function(x)


def unbias(b, t):
    """1 - b**t without cancellation, for any integer t: exact where a float32 counter stops at 2**24."""
    return -each(expm1, t*log(b)) if b > 0 else 1.0


def sgd_at(t, lr=1e-3):
    return {"lr": lr}


@rule(sgd_at, class_name="SGD", settled=1, examples=[{"lr": 0.07}], steady={"lr": 1e-4})
def sgd(c, g, p):
    """Gradient descent: the step is the gradient times the learning rate.

        p <- p - lr*g

    Source: Robbins and Monro, "A Stochastic Approximation Method", https://doi.org/10.1214/aoms/1177729586.
    """
    u = c.lr*g
    return (u,)


def velocity_at(t, lr, momentum, dampening, form, first_step):
    """(what g is multiplied by on its way into v, what v is multiplied by on its way into p)."""
    a = 1.0 if t == 1 and first_step == "copy" else 1 - dampening
    return {"textbook": (a*lr, 1.0), "negative": (-a*lr, -1.0), "outside": (a, lr)}[form]


def momentum_at(t, lr=1e-3, momentum: MU = 0.9, dampening: DAMPENING = 0.0, form: FORM = "textbook",
                first_step: FIRST_STEP = "zero"):
    a, out = velocity_at(t, lr, momentum, dampening, form, first_step)
    return {"mu": momentum, "a": a, "lr": out}


@rule(momentum_at, state="v", momentum="momentum v", settled=2, steady={"lr": 1e-4, "momentum": 0.9}, examples=[
    {"momentum": 0.8, "form": "negative", "dampening": 0.1},
    {"form": "outside", "first_step": "copy", "dampening": 0.3}])
def momentum(c, g, p, v):
    """Momentum (Polyak 1964): a velocity that holds the learning rate.

        v <- mu*v + lr*g
        p <- p - v

    Here mu is the argument `momentum`, and d is `dampening`. `form` says where lr and the sign stand:

        form="negative":  v <- mu*v - lr*g;  p <- p + v
        form="outside":  v <- mu*v + (1-d)*g;  p <- p - lr*v

    All forms walk the same points while lr is constant. Under a schedule, "outside" multiplies old gradients by the lr
    of today.

    Source: Polyak, "Some Methods of Speeding Up the Convergence of Iteration Methods",
    https://doi.org/10.1016/0041-5553(64)90137-5.
    """
    v = c.mu*v + c.a*g
    u = c.lr*v
    return u, v


def nesterov_at(t, lr=1e-3, momentum: MU = 0.9, dampening: DAMPENING = 0.0, form: FORM = "textbook",
                first_step: FIRST_STEP = "zero",
                shifted: Annotated[bool, "True: the stored parameters are the look-ahead point (torch, Keras); "
                                         "gradients are then taken at them."] = False):
    a, out = velocity_at(t, lr, momentum, dampening, form, first_step)
    if shifted:
        return {"mu": momentum, "a": a, "lr": out*momentum, "now": a*out, "ahead": 0.0}
    return {"mu": momentum, "a": a, "lr": out, "now": 0.0, "ahead": out*momentum}


@rule(nesterov_at, state="v", ahead="ahead", settled=2, steady={"lr": 1e-4, "momentum": 0.9}, examples=[
    {"momentum": 0.7, "form": "outside"}, {"shifted": True, "dampening": 0.2, "first_step": "copy"},
    {"form": "negative"}])
def nesterov(c, g, p, v):
    """Nesterov's accelerated gradient (1983): momentum whose gradient is taken at the look-ahead point.

        v <- mu*v + lr*g
        p <- p - v

    The gradient g is taken at the look-ahead point p - mu*v, with the v and p before the step. With shifted=True
    (torch, Keras, scikit-learn) the stored p is the look-ahead point, and g is taken there:

        v <- mu*v + lr*g;  p <- p - (mu*v + lr*g)

    Both walk the same look-ahead points while lr and mu are constant. They differ when mu changes between steps, when
    lr changes under form="outside", and with any weight decay: it pulls at the stored parameters.

    Source: Nesterov, "A Method for Solving the Convex Programming Problem with Convergence Rate O(1/k^2)", Doklady
    Akademii Nauk SSSR 269, 543-547.
    """
    v = c.mu*v + c.a*g
    u = c.lr*v + c.now*g
    return u, v


def signum_at(t, lr=1e-4, b1: B1 = 0.9):
    return {"lr": lr, "b1": b1, "a1": 1 - b1}


@rule(signum_at, state="m", momentum="b1 m", settled=1, steady={"lr": 1e-6}, examples=[
    {"lr": 0.01, "b1": 0.6}, {"b1": 0.0}])
def signum(c, g, p, m):
    """Signum (Bernstein et al. 2018): the sign of the momentum. With b1=0 it is signSGD.

        m <- b1*m + (1-b1)*g
        p <- p - lr*sign(m)

    Source: "signSGD: Compressed Optimisation for Non-Convex Problems", https://arxiv.org/abs/1802.04434.
    """
    m = c.b1*m + c.a1*g
    u = c.lr*sign(m)
    return u, m


def rprop_at(t, lr: Annotated[float, "[0, inf)", "The size of each first step. Later it has no effect."] = 1e-2,
             eta_minus: Annotated[float, "(0, 1)", "What a change of sign multiplies the size by, in (0, 1)."] = 0.5,
             eta_plus: Annotated[float, "(1, inf)", "What a sign that stays multiplies it by, above 1."] = 1.2,
             size_min: Annotated[float, "[0, inf)", "The smallest size."] = 1e-6,
             size_max: Annotated[float, "[0, inf)", "The largest size."] = 50.0):
    return {"start": lr*(t == 1), "minus": eta_minus, "plus": eta_plus, "least": size_min, "most": size_max,
            "zero": 0.0, "one": 1.0}


@rule(rprop_at, state="old size", nonnegative="size", settled=2, steady={"lr": 1e-4, "size_max": 1e-4}, examples=[
    {"lr": 0.05, "eta_minus": 0.4, "eta_plus": 1.5}, {"size_min": 0.005, "size_max": 0.015}])
def rprop(c, g, p, old, size):
    """Rprop (Riedmiller and Braun 1993): every element has a step size of its own.

        s = sign(g*old)
        k = where(s > 0, eta_plus, where(s < 0, eta_minus, 1))
        size <- min(max(k*(size if t > 1 else lr), size_min), size_max)
        old <- where(s < 0, 0, g)
        p <- p - size*sign(old)

    The size grows while the gradient keeps its sign. Where the sign changes, the size shrinks and the element waits one
    step. It is the form without backtracking, as in torch, and for gradients of all data at once.

    Source: "A Direct Adaptive Method for Faster Backpropagation Learning: The RPROP Algorithm",
    https://doi.org/10.1109/ICNN.1993.298623.
    """
    s = sign(g)*sign(old)
    size = (size + c.start)*where(s > c.zero, c.plus, where(s < c.zero, c.minus, c.one))
    size = minimum(maximum(size, c.least), c.most)
    g = where(s < c.zero, c.zero, g)
    u = size*sign(g)
    return u, g, size


def rmsprop_at(t, lr=1e-2, alpha: SHARE = 0.99, eps: EPS = 1e-8, eps_root: EPS_ROOT = 0.0):
    return {"lr": lr, "b2": alpha, "a2": 1 - alpha, "eps": eps, "root": eps_root}


@rule(rmsprop_at, state="v", nonnegative="v", class_name="RMSProp", settled=1, steady={"lr": 1e-5}, examples=[
    {"alpha": 0.8, "eps": 1e-3}, {"alpha": 0.0, "eps_root": 0.01}])
def rmsprop(c, g, p, v):
    """RMSProp (Tieleman and Hinton 2012): the gradient over a running root mean square of it.

        v <- alpha*v + (1-alpha)*g^2
        p <- p - lr*g/(sqrt(v + eps_root) + eps)

    Source: lecture 6.5 of the course "Neural Networks for Machine Learning", Coursera.
    """
    v = c.b2*v + c.a2*g*g
    u = c.lr*g / (sqrt(v + c.root) + c.eps)
    return u, v


def rmsprop_momentum_at(t, lr=1e-2, alpha: SHARE = 0.99, momentum: MU = 0.9, eps: EPS = 1e-8,
                        eps_root: EPS_ROOT = 0.0, form: FORM = "textbook"):
    a, out = velocity_at(t, lr, momentum, 0.0, form, "zero")
    return {"lr": out, "mu": momentum, "a": a, "b2": alpha, "a2": 1 - alpha, "eps": eps, "root": eps_root}


@rule(rmsprop_momentum_at, state="v b", momentum="momentum b", nonnegative="v", class_name="RMSPropMomentum",
      settled=1, steady={"lr": 1e-5}, examples=[
          {"alpha": 0.8, "momentum": 0.5, "eps": 1e-3, "form": "outside"}, {"form": "negative", "eps_root": 0.01}])
def rmsprop_momentum(c, g, p, v, b):
    """RMSProp with momentum (torch, optax, Keras): its update goes through a velocity.

        v <- alpha*v + (1-alpha)*g^2
        b <- mu*b + lr*g/(sqrt(v + eps_root) + eps)
        p <- p - b

    Here mu is the argument `momentum`. `form` is as in Momentum:

        form="outside" (torch):  b <- mu*b + g/(...);  p <- p - lr*b
        form="negative":  b <- mu*b - lr*g/(...);  p <- p + b

    Source: Graves, "Generating Sequences With Recurrent Neural Networks", equations 38 to 41,
    https://arxiv.org/abs/1308.0850.
    """
    v = c.b2*v + c.a2*g*g
    b = c.mu*b + c.a*g / (sqrt(v + c.root) + c.eps)
    u = c.lr*b
    return u, v, b


def rmsprop_centered_at(t, lr=1e-2, alpha: SHARE = 0.99, eps: EPS = 1e-8, eps_root: EPS_ROOT = 0.0):
    return {**rmsprop_at(t, lr, alpha, eps, eps_root), "zero": 0.0}


@rule(rmsprop_centered_at, state="v mean", nonnegative="v", class_name="RMSPropCentered", settled=1,
      steady={"lr": 1e-5, "eps_root": 1e-3}, examples=[
          {"alpha": 0.8, "eps": 1e-3}, {"alpha": 0.0, "eps_root": 0.01}])
def rmsprop_centered(c, g, p, v, mean):
    """Centered RMSProp (Graves 2013): the gradient over a running standard deviation of it.

        v <- alpha*v + (1-alpha)*g^2
        mean <- alpha*mean + (1-alpha)*g
        p <- p - lr*g/(sqrt(max(v - mean^2, 0) + eps_root) + eps)

    The difference v - mean^2 is small where gradients hardly change: keep both states in float32, or take a larger
    eps_root.

    Source: Graves, "Generating Sequences With Recurrent Neural Networks", equations 38 to 41,
    https://arxiv.org/abs/1308.0850.
    """
    v = c.b2*v + c.a2*g*g
    mean = c.b2*mean + c.a2*g
    u = c.lr*g / (sqrt(maximum(v - mean*mean, c.zero) + c.root) + c.eps)
    return u, v, mean


def rmsprop_centered_momentum_at(t, lr=1e-2, alpha: SHARE = 0.99, momentum: MU = 0.9, eps: EPS = 1e-8,
                                 eps_root: EPS_ROOT = 0.0, form: FORM = "textbook"):
    return {**rmsprop_momentum_at(t, lr, alpha, momentum, eps, eps_root, form), "zero": 0.0}


@rule(rmsprop_centered_momentum_at, state="v mean b", momentum="momentum b", nonnegative="v",
      class_name="RMSPropCenteredMomentum", settled=1, steady={"lr": 1e-5, "eps_root": 1e-3}, examples=[
          {"alpha": 0.8, "momentum": 0.5, "eps": 1e-3, "form": "outside"}, {"form": "negative", "eps_root": 0.01}])
def rmsprop_centered_momentum(c, g, p, v, mean, b):
    """Centered RMSProp with momentum (Graves 2013; torch, optax, Keras).

        v <- alpha*v + (1-alpha)*g^2
        mean <- alpha*mean + (1-alpha)*g
        b <- mu*b + lr*g/(sqrt(max(v - mean^2, 0) + eps_root) + eps)
        p <- p - b

    Here mu is the argument `momentum`. `form` is as in RMSPropMomentum.

    Source: Graves, "Generating Sequences With Recurrent Neural Networks", equations 38 to 41,
    https://arxiv.org/abs/1308.0850.
    """
    v = c.b2*v + c.a2*g*g
    mean = c.b2*mean + c.a2*g
    b = c.mu*b + c.a*g / (sqrt(maximum(v - mean*mean, c.zero) + c.root) + c.eps)
    u = c.lr*b
    return u, v, mean, b


def adagrad_at(t, lr=1e-2,
               lr_decay: Annotated[float, "[0, inf)", "The learning rate of step t is lr/(1 + (t-1)*lr_decay)."] = 0.0,
               eps: EPS = 1e-10, eps_root: EPS_ROOT = 0.0):
    return {"lr": lr / (1 + (t - 1)*lr_decay), "eps": eps, "root": eps_root}


@rule(adagrad_at, state="v", nonnegative="v", class_name="AdaGrad", steady={"lr": 1e-4},
      initial={"v": "initial_accumulator_value"}, ranges={"initial_accumulator_value": "[0, inf)"},
      docs={"initial_accumulator_value": "What the sum of squares starts from."},
      examples=[{"lr_decay": 0.2, "eps": 1e-3}, {"initial_accumulator_value": 0.3, "eps_root": 0.01}])
def adagrad(c, g, p, v):
    """AdaGrad (Duchi, Hazan and Singer 2011): the gradient over the root of the sum of its squares.

        v <- v + g^2
        p <- p - lr/(1 + (t-1)*lr_decay)*g/(sqrt(v + eps_root) + eps)

    v starts at initial_accumulator_value.

    Source: "Adaptive Subgradient Methods for Online Learning and Stochastic Optimization",
    https://jmlr.org/papers/v12/duchi11a.html.
    """
    v = v + g*g
    u = c.lr*g / (sqrt(v + c.root) + c.eps)
    return u, v


def adadelta_at(t, lr=1.0, alpha: SHARE = 0.9,
                eps: Annotated[float, "[0, inf)", "Added inside both roots. With 0 no step is ever taken."] = 1e-6):
    return {"lr": lr, "b2": alpha, "a2": 1 - alpha, "eps": eps}


@rule(adadelta_at, state="v d", nonnegative="v d", settled=1, class_name="AdaDelta", steady={"lr": 1e-2}, examples=[
    {"lr": 0.5, "alpha": 0.8, "eps": 1e-3}, {"alpha": 0.0}])
def adadelta(c, g, p, v, d):
    """AdaDelta (Zeiler 2012): the gradient times the ratio of two running root mean squares.

        v <- alpha*v + (1-alpha)*g^2
        s = sqrt(d + eps)/sqrt(v + eps)*g
        d <- alpha*d + (1-alpha)*s^2
        p <- p - lr*s

    v is the running mean square of gradients, and d that of updates.

    Source: "ADADELTA: An Adaptive Learning Rate Method", https://arxiv.org/abs/1212.5701.
    """
    v = c.b2*v + c.a2*g*g
    s = sqrt(d + c.eps)/sqrt(v + c.eps)*g
    d = c.b2*d + c.a2*s*s
    u = c.lr*s
    return u, v, d


def adam_at(t, lr=1e-3, b1: B1 = 0.9, b2: B2 = 0.999, eps: EPS = 1e-8, eps_root: EPS_ROOT = 0.0,
            eps_mode: EPS_MODE = "outside",
            bias_correction: Annotated[bool, "False: the moments are used as they are."] = True):
    c1, c2 = (unbias(b1, t), unbias(b2, t)) if bias_correction else (1.0, 1.0)
    fix = each(root, c2)  # lr*(m/c1)/(sqrt(v/c2) + eps) = lr*fix/c1 * m/(sqrt(v) + eps*fix)
    return {"lr": lr*fix/c1, "b1": b1, "a1": 1 - b1, "b2": b2, "a2": 1 - b2,
            "eps": eps*fix if eps_mode == "outside" else eps, "root": eps_root*c2}


@rule(adam_at, state="m v", momentum="b1 m", nonnegative="v", steady={"lr": 1e-5}, examples=[
    {"b1": 0.8, "b2": 0.95, "eps": 1e-3}, {"eps_mode": "hat", "eps_root": 0.01}, {"bias_correction": False, "b1": 0.0}])
def adam(c, g, p, m, v):
    """Adam (Kingma and Ba 2015): momentum over a running root mean square, both corrected for their zero start.

        c1 = 1 - b1^t;  c2 = 1 - b2^t
        m <- b1*m + (1-b1)*g
        v <- b2*v + (1-b2)*g^2
        p <- p - lr*(m/c1)/(sqrt(v/c2 + eps_root) + eps)

    eps_mode="hat" (Keras, scikit-learn, the paper's own shortcut) adds eps to sqrt(v): the step is then lr*sqrt(c2)/c1
    * m/(sqrt(v) + eps).

    Source: Kingma and Ba, "Adam: A Method for Stochastic Optimization", https://arxiv.org/abs/1412.6980.
    """
    m = c.b1*m + c.a1*g
    v = c.b2*v + c.a2*g*g
    u = c.lr*m / (sqrt(v + c.root) + c.eps)
    return u, m, v


adamw = rule(
    adam_at, name="adamw", class_name="AdamW", state="m v", momentum="b1 m", nonnegative="v",
    steady={"lr": 1e-5, "weight_decay": 0.01}, defaults={"weight_decay": 1e-2, "decay": "decoupled"},
    examples=[{"b1": 0.7, "b2": 0.9, "eps": 1e-2}, {"eps_mode": "hat", "bias_correction": False}])(adam.body)
adamw.__doc__ = """AdamW (Loshchilov and Hutter 2019): Adam with decoupled weight decay.

        p <- p - lr*weight_decay*p
        c1 = 1 - b1^t;  c2 = 1 - b2^t
        m <- b1*m + (1-b1)*g
        v <- b2*v + (1-b2)*g^2
        p <- p - lr*(m/c1)/(sqrt(v/c2 + eps_root) + eps)

    The formula is Adam's. Only the defaults differ: weight_decay=0.01, decay="decoupled".

    Source: "Decoupled Weight Decay Regularization", https://arxiv.org/abs/1711.05101.
    """


def adamax_at(t, lr=2e-3, b1: B1 = 0.9, b2: B2 = 0.999, eps: EPS = 1e-8,
              eps_mode: Annotated[Literal["inside", "outside"], '"inside": eps is added to |g| (torch, optax); '
                                  '"outside": to top (Keras).'] = "inside"):
    inside = eps_mode == "inside"
    return {"lr": lr/unbias(b1, t), "b1": b1, "a1": 1 - b1, "b2": b2, "inner": eps*inside, "eps": eps*(not inside)}


@rule(adamax_at, state="m top", momentum="b1 m", nonnegative="top", class_name="AdaMax", steady={"lr": 1e-5}, examples=[
    {"b1": 0.8, "b2": 0.9, "eps": 1e-3}, {"eps_mode": "outside", "eps": 0.02}])
def adamax(c, g, p, m, top):
    """AdaMax (Kingma and Ba 2015, section 7.1): Adam with a decaying maximum in place of the second moment.

        c1 = 1 - b1^t
        m <- b1*m + (1-b1)*g
        top <- max(b2*top, abs(g) + eps)
        p <- p - lr*(m/c1)/top

    With eps_mode="outside" (Keras) eps is added to top in the last line instead. The paper has no eps.

    Source: Kingma and Ba, "Adam: A Method for Stochastic Optimization", https://arxiv.org/abs/1412.6980.
    """
    m = c.b1*m + c.a1*g
    top = maximum(c.b2*top, absolute(g) + c.inner)
    u = c.lr*m / (top + c.eps)
    return u, m, top


def adabelief_at(t, lr=1e-3, b1: B1 = 0.9, b2: B2 = 0.999, eps: EPS = 1e-16,
                 eps_root: Annotated[float, "[0, inf)", "Added to v in every step."] = 1e-16):
    c = adam_at(t, lr, b1, b2, eps)
    return {**c, "root": eps_root}


@rule(adabelief_at, state="m v", nonnegative="v", class_name="AdaBelief", steady={"lr": 1e-5, "eps_root": 1e-3},
      examples=[{"b1": 0.8, "b2": 0.95, "eps": 1e-3}, {"eps_root": 0.01, "b1": 0.0}])
def adabelief(c, g, p, m, v):
    """AdaBelief (Zhuang et al. 2020): Adam whose second moment is of the gradient's distance from the first.

        c1 = 1 - b1^t;  c2 = 1 - b2^t
        m <- b1*m + (1-b1)*g
        v <- b2*v + (1-b2)*(g-m)^2 + eps_root
        p <- p - lr*(m/c1)/(sqrt(v/c2) + eps)

    Source: "AdaBelief Optimizer: Adapting Stepsizes by the Belief in Observed Gradients",
    https://arxiv.org/abs/2010.07468.
    """
    m = c.b1*m + c.a1*g
    v = c.b2*v + c.a2*(g - m)*(g - m) + c.root
    u = c.lr*m / (sqrt(v) + c.eps)
    return u, m, v


def yogi_at(t, lr=1e-3, b1: B1 = 0.9, b2: B2 = 0.999, eps: EPS = 1e-3,
            bias_correction: Annotated[bool, "False, as in the paper: the moments are used as they are."] = True):
    return adam_at(t, lr, b1, b2, eps, bias_correction=bias_correction)


@rule(yogi_at, state="m v", momentum="b1 m", nonnegative="v",
      initial={"m": "initial_moment", "v": "initial_accumulator_value"},
      ranges={"initial_accumulator_value": "[0, inf)"}, defaults={"initial_accumulator_value": 1e-6},
      docs={"initial_moment": "What the first moment starts from; optax: 1e-6.",
            "initial_accumulator_value": "What the second moment starts from."},
      steady={"lr": 1e-5}, examples=[{"b1": 0.8, "b2": 0.95, "eps": 1e-2}, {"initial_accumulator_value": 0.3},
                                     {"initial_moment": 0.1, "bias_correction": False}])
def yogi(c, g, p, m, v):
    """Yogi (Zaheer et al. 2018): Adam whose second moment moves by steps of its own size, so that it cannot fall fast.

        c1 = 1 - b1^t;  c2 = 1 - b2^t
        m <- b1*m + (1-b1)*g
        v <- v - (1-b2)*sign(v - g^2)*g^2
        p <- p - lr*(m/c1)/(sqrt(v/c2) + eps)

    v starts at initial_accumulator_value. The corrections c1 and c2 are those of optax and of the authors' code; the
    paper has none.

    Source: "Adaptive Methods for Nonconvex Optimization", Advances in Neural Information Processing Systems 31.
    """
    m = c.b1*m + c.a1*g
    s = g*g
    v = v - c.a2*sign(v - s)*s
    u = c.lr*m / (sqrt(v + c.root) + c.eps)
    return u, m, v


def laprop_at(t, lr=4e-4, b1: B1 = 0.9, b2: B2 = 0.999, eps: EPS = 1e-15):
    fix = each(root, unbias(b2, t))
    return {"lr": lr/unbias(b1, t), "b1": b1, "a1": (1 - b1)*fix, "b2": b2, "a2": 1 - b2, "eps": eps*fix}


@rule(laprop_at, state="m v", momentum="b1 m", nonnegative="v", class_name="LaProp", steady={"lr": 1e-5}, examples=[
    {"b1": 0.8, "b2": 0.95, "eps": 1e-3}, {"b1": 0.0, "lr": 0.01}])
def laprop(c, g, p, m, v):
    """LaProp (Ziyin, Wang and Ueda 2020): momentum of normalized gradients, where Adam normalizes the momentum.

        c1 = 1 - b1^t;  c2 = 1 - b2^t
        v <- b2*v + (1-b2)*g^2
        m <- b1*m + (1-b1)*g/(sqrt(v/c2) + eps)
        p <- p - lr*m/c1

    Source: "LaProp: Separating Momentum and Adaptivity in Adam", https://arxiv.org/abs/2002.04839.
    """
    v = c.b2*v + c.a2*g*g
    m = c.b1*m + c.a1*g / (sqrt(v) + c.eps)
    u = c.lr*m
    return u, m, v


def adopt_at(t, lr=1e-3, b1: B1 = 0.9, b2: B2 = 0.9999,
             eps: Annotated[float, "[0, inf)", "The denominator is at least this."] = 1e-6,
             clipping: Annotated[bool, "False: normalized gradients are not clipped (the paper's first form)."] = True):
    first, most = 1.0*(t == 1), each(lambda k: k**0.25 if clipping or k == 0 else inf, t - 1)
    return {"lr": lr, "b1": b1, "a1": (1 - b1)*(1 - first), "b2": b2*(1 - first), "a2": first + (1 - b2)*(1 - first),
            "eps": eps + first, "most": most}


@rule(adopt_at, state="m v", momentum="b1 m", nonnegative="v", class_name="ADOPT", steady={"lr": 1e-5}, examples=[
    {"b1": 0.8, "b2": 0.95, "eps": 1e-2}, {"clipping": False, "b1": 0.0, "b2": 0.9}])
def adopt(c, g, p, m, v):
    """ADOPT (Taniguchi et al. 2024): Adam that converges with any b2.

        n = g/max(sqrt(v), eps) if t > 1 else 0*g
        k = (t-1)^0.25
        m <- b1*m + (1-b1)*min(max(n, -k), k)
        v <- b2*v + (1-b2)*g^2 if t > 1 else g^2
        p <- p - lr*m

    v is one step behind, and the momentum is of normalized gradients. In the first step v becomes g^2, and p stays.
    With clipping=False there is no limit k.

    Source: "ADOPT: Modified Adam Can Converge with Any beta2 with the Optimal Rate", https://arxiv.org/abs/2411.02853.
    """
    m = c.b1*m + c.a1*clip(g/maximum(sqrt(v), c.eps), c.most)
    v = c.b2*v + c.a2*g*g
    u = c.lr*m
    return u, m, v


def amsgrad_at(t, lr=1e-3, b1: B1 = 0.9, b2: B2 = 0.999, eps: EPS = 1e-8, eps_root: EPS_ROOT = 0.0,
               eps_mode: EPS_MODE = "outside",
               maximum_of: Annotated[Literal["raw", "corrected"],
                                     '"raw": the maximum is over v (torch); "corrected": over v/c2 (optax).'] = "raw"):
    c = adam_at(t, lr, b1, b2, eps, eps_root, eps_mode)
    if maximum_of == "raw":
        return {**c, "hat": 1.0}
    c2 = unbias(b2, t)  # the maximum is over v/c2, so the denominator needs no correction any more
    return {**c, "lr": lr/unbias(b1, t), "eps": eps, "root": eps_root, "hat": 1/c2}


@rule(amsgrad_at, state="m v top", momentum="b1 m", nonnegative="v top", class_name="AMSGrad", steady={"lr": 1e-5},
      examples=[{"b1": 0.8, "b2": 0.6, "eps": 1e-3}, {"maximum_of": "corrected", "eps_root": 0.01},
                {"eps_mode": "hat"}])
def amsgrad(c, g, p, m, v, top):
    """AMSGrad (Reddi, Kale and Kumar 2018): Adam whose denominator never falls.

        c1 = 1 - b1^t;  c2 = 1 - b2^t
        m <- b1*m + (1-b1)*g
        v <- b2*v + (1-b2)*g^2
        top <- max(top, v)
        p <- p - lr*(m/c1)/(sqrt(top/c2 + eps_root) + eps)

    maximum_of="corrected" (optax) takes the maximum over v/c2 instead, which is another sequence.

    Source: "On the Convergence of Adam and Beyond", https://arxiv.org/abs/1904.09237.
    """
    m = c.b1*m + c.a1*g
    v = c.b2*v + c.a2*g*g
    top = maximum(top, c.hat*v)
    u = c.lr*m / (sqrt(top + c.root) + c.eps)
    return u, m, v, top


@lru_cache(maxsize=64)
def _nadam_weights(psi):
    """(log(q**k), (1/2)**k/k * q**k/(1 - q**k)) for k = 1, 2, ...: what `nadam_log_product` sums."""
    q = psi*log(0.96)
    return [(k*q, 0.5**k/k * exp(k*q)/-expm1(k*q)) for k in range(1, 56)]


def nadam_log_product(t, psi):
    """log of the product over i = 1..t of 1 - 0.5*0.96**(i*psi), from t alone: a resumed run needs no history.

    With q = 0.96**psi:  sum over i of log(1 - q**i/2) = -sum over k of (1/2)**k/k * q**k*(1 - q**(k*t))/(1 - q**k).
    55 terms: the next is below 2**-56.
    """
    if psi == 0:
        return t*log(0.5)
    return sum(weight*expm1(x*t) for x, weight in _nadam_weights(psi))


def nadam_past(first, last, b1, momentum_decay, schedule):
    """log of the product of mu over the steps from first to last."""
    if b1 == 0:
        return -inf
    if schedule == "optax":
        return (last - first + 1)*log(b1)
    if first == last > 1:
        return log(b1*(1 - 0.5*0.96**(last*momentum_decay)))
    until, before = (t*log(b1) + nadam_log_product(t, momentum_decay) if t else 0.0 for t in (last, first - 1))
    return until - before


def nadam_at(t, lr=2e-3, b1: B1 = 0.9, b2: B2 = 0.999, eps: EPS = 1e-8,
             momentum_decay: Annotated[float, "[0, inf)",
                                       "psi in the momentum schedule b1*(1 - 0.5*0.96^(t*psi))."] = 4e-3,
             schedule: Annotated[Literal["torch", "optax"],
                                 '"torch": the decaying momentum schedule; "optax": b1 at every step.'] = "torch",
             past=None):
    c = adam_at(t, lr, b1, b2, eps)
    fix = root(unbias(b2, t))
    if schedule == "torch":
        mu, ahead = (b1*(1 - 0.5*0.96**(i*momentum_decay)) for i in (t, t + 1))
        product = -expm1(nadam_past(1, t, b1, momentum_decay, schedule) if past is None else past)  # 1 - P
        further = 1 - (1 - product)*ahead
        now, moment = lr*(1 - mu)/product, lr*ahead/further
    else:  # optax, and Keras without its decay: b1 at every step, corrected one step further for m
        now, moment = lr*(1 - b1)/unbias(b1, t), lr*b1/unbias(b1, t + 1)
    return {**c, "lr": moment*fix, "now": now*fix}


@rule(nadam_at, state="m v", nonnegative="v", history=nadam_past, class_name="NAdam", steady={"lr": 1e-5}, examples=[
    {"b1": 0.8, "b2": 0.9, "momentum_decay": 0.1}, {"schedule": "optax", "eps": 1e-3}])
def nadam(c, g, p, m, v):
    """NAdam (Dozat 2016): Adam with Nesterov's look-ahead, by way of a decaying momentum schedule.

        c2 = 1 - b2^t
        mu1 = b1*(1 - 0.5*0.96^(t*momentum_decay))
        mu2 = b1*(1 - 0.5*0.96^((t+1)*momentum_decay))
        P <- P*mu1
        m <- b1*m + (1-b1)*g
        v <- b2*v + (1-b2)*g^2
        p <- p - lr*(mu2*m/(1-P*mu2) + (1-mu1)*g/(1-P))/(sqrt(v/c2) + eps)

    P is 1 at first: it is the product of all mu1 so far, whatever b1 was in each step. schedule="optax" has b1 in place
    of mu1 and mu2.

    Source: "Incorporating Nesterov Momentum into Adam", ICLR 2016 workshop,
    https://openreview.net/forum?id=OM0jvwB8jIp57ZJjtNEZ.
    """
    m = c.b1*m + c.a1*g
    v = c.b2*v + c.a2*g*g
    u = (c.lr*m + c.now*g) / (sqrt(v + c.root) + c.eps)
    return u, m, v


def radam_at(t, lr=1e-3, b1: B1 = 0.9, b2: B2 = 0.999, eps: EPS = 1e-8, eps_mode: EPS_MODE = "hat",
             threshold: Annotated[float, "[4, inf)",  # the root is real above 4
                                  "The average length above which the second moment is trusted (the paper: 4; torch "
                                  "and optax: 5)."] = 5.0):
    c = adam_at(t, lr, b1, b2, eps, 0.0, eps_mode)
    c2, longest = unbias(b2, t), 2/(1 - b2) - 1
    length = longest - 2*t*(1 - c2)/c2
    if length <= threshold:  # too few gradients to trust v: plain momentum, the denominator is min(sqrt(v), 0) + 1
        return {**c, "lr": lr/unbias(b1, t), "eps": 1.0, "cap": 0.0}
    r = root((length - 4)*(length - 2)*longest / ((longest - 4)*(longest - 2)*length))
    return {**c, "lr": r*c["lr"], "cap": inf}


@rule(radam_at, state="m v", momentum="b1 m", nonnegative="v", class_name="RAdam", steady={"lr": 1e-5}, examples=[
    {"b1": 0.8, "b2": 0.9, "eps": 1e-3}, {"eps_mode": "outside", "threshold": 4.0, "b2": 0.7}])
def radam(c, g, p, m, v):
    """RAdam (Liu et al. 2020): Adam that waits until its second moment can be trusted.

        c1 = 1 - b1^t;  c2 = 1 - b2^t
        n = 2/(1-b2) - 1;  rho = n - 2*t*b2^t/c2
        r = sqrt((rho-4)*(rho-2)*n/((n-4)*(n-2)*rho)) if rho > 5 else 0
        m <- b1*m + (1-b1)*g
        v <- b2*v + (1-b2)*g^2
        p <- p - lr*(m/c1)*(r*sqrt(c2)/(sqrt(v) + eps) if rho > 5 else 1)

    rho is the length of the average that v is. `threshold` is the 5.

    Source: "On the Variance of the Adaptive Learning Rate and Beyond", https://arxiv.org/abs/1908.03265.
    """
    m = c.b1*m + c.a1*g
    v = c.b2*v + c.a2*g*g
    u = c.lr*m / (minimum(sqrt(v), c.cap) + c.eps)
    return u, m, v


def ademamix_at(t, lr=1e-3, b1: B1 = 0.9, b2: B2 = 0.999,
                b3: Annotated[float, "[0, 1)", "Decay of the slow moment, in [0, 1)."] = 0.9999,
                alpha: Annotated[float, "[0, inf)", "Weight of the slow moment in the update."] = 5.0,
                eps: EPS = 1e-8, eps_root: EPS_ROOT = 0.0,
                warmup: Annotated[float, "[0, inf)", "T: steps in which alpha and b3 grow; 0: they do not."] = 0.0):
    c = adam_at(t, lr, b1, b2, eps, eps_root)
    share = min(t/warmup, 1.0) if warmup else 1.0
    keeps = b3
    if share < 1 and b3 > 0:
        keeps = min(exp(1/((1 - share)/log(b1) + share/log(b3))) if b1 > 0 else b3**(1/share), b3)
    slow = lr*alpha*share*each(root, unbias(b2, t))
    return {**c, "b3": keeps, "a3": 1 - keeps, "slow": slow}


@rule(ademamix_at, state="m slow v", nonnegative="v", class_name="AdEMAMix", defaults={"decay": "decoupled"},
      steady={"lr": 1e-5}, examples=[
          {"b1": 0.8, "b2": 0.95, "b3": 0.99, "alpha": 2.0, "eps": 1e-3}, {"warmup": 8.0, "eps_root": 0.01},
          {"warmup": 20.0, "b1": 0.0, "b3": 0.9}, {"warmup": 3.0, "b3": 0.0}])
def ademamix(c, g, p, m, slow, v):
    """AdEMAMix (Pagliardini, Ablin and Grangier 2024): Adam with a second, slower momentum.

        c1 = 1 - b1^t;  c2 = 1 - b2^t
        m <- b1*m + (1-b1)*g
        slow <- b3*slow + (1-b3)*g
        v <- b2*v + (1-b2)*g^2
        p <- p - lr*(m/c1 + alpha*slow)/(sqrt(v/c2 + eps_root) + eps)

    With `warmup`, T in the paper, alpha and b3 grow in the first T steps. In step t < T they are

        alpha*t/T
        min(exp(1/((1-t/T)/log(b1) + (t/T)/log(b3))), b3)

    Source: "The AdEMAMix Optimizer: Better, Faster, Older", https://arxiv.org/abs/2409.03137.
    """
    m = c.b1*m + c.a1*g
    slow = c.b3*slow + c.a3*g
    v = c.b2*v + c.a2*g*g
    u = (c.lr*m + c.slow*slow) / (sqrt(v + c.root) + c.eps)
    return u, m, slow, v


def lion_at(t, lr=1e-4, b1: Annotated[float, "[0, 1)", "Weight of the momentum in the update, in [0, 1)."] = 0.9,
            b2: Annotated[float, "[0, 1)", "Decay of the momentum, in [0, 1)."] = 0.99):
    return {"lr": lr, "b1": b1, "a1": 1 - b1, "b2": b2, "a2": 1 - b2}


@rule(lion_at, state="m", settled=1, defaults={"decay": "decoupled"}, steady={"lr": 1e-6}, examples=[
    {"lr": 0.01, "b1": 0.6, "b2": 0.8}])
def lion(c, g, p, m):
    """Lion (Chen et al. 2023): the sign of an interpolated momentum.

        p <- p - lr*sign(b1*m + (1-b1)*g)
        m <- b2*m + (1-b2)*g

    Take an lr that is 3 to 10 times smaller than AdamW's.

    Source: "Symbolic Discovery of Optimization Algorithms", https://arxiv.org/abs/2302.06675.
    """
    u = c.lr*sign(c.b1*m + c.a1*g)
    m = c.b2*m + c.a2*g
    return u, m


def adan_at(t, lr=1e-3, b1: B1 = 0.98,
            b2: Annotated[float, "[0, 1)", "Decay of the average difference of gradients, in [0, 1)."] = 0.92,
            b3: Annotated[float, "[0, 1)", "Decay of the second moment, in [0, 1)."] = 0.99, eps: EPS = 1e-8):
    c1, c2, fix = unbias(b1, t), unbias(b2, t), each(root, unbias(b3, t))
    return {"lr": lr*fix/c1, "ahead": lr*b2*fix/c2, "b1": b1, "a1": 1 - b1, "b2": b2, "a2": 1 - b2,
            "b3": b3, "a3": 1 - b3, "eps": eps*fix, "known": 1.0*(t > 1)}


@rule(adan_at, state="m d v old", nonnegative="v", defaults={"decay": "decoupled"}, steady={"lr": 1e-5}, examples=[
    {"b1": 0.8, "b2": 0.7, "b3": 0.9, "eps": 1e-3}, {"b2": 0.0, "b3": 0.95}])
def adan(c, g, p, m, d, v, old):
    """Adan (Xie et al. 2022): Adam with Nesterov's look-ahead, by the difference of two gradients in a row.

        c1 = 1 - b1^t;  c2 = 1 - b2^t;  c3 = 1 - b3^t
        k = g - old if t > 1 else 0*g
        m <- b1*m + (1-b1)*g
        d <- b2*d + (1-b2)*k
        v <- b3*v + (1-b3)*(g + b2*k)^2
        old <- g
        p <- p - lr*(m/c1 + b2*d/c2)/(sqrt(v/c3) + eps)

    The paper's betas are 1 - b1, 1 - b2 and 1 - b3. These b, their defaults and the corrections c1, c2 and c3 are those
    of the authors' code. The paper's decay is proximal, (p - lr*u)/(1 + lr*weight_decay). Here it is decoupled, as in
    that code with no_prox=True.

    Source: "Adan: Adaptive Nesterov Momentum Algorithm for Faster Optimizing Deep Models",
    https://arxiv.org/abs/2208.06677.
    """
    k = c.known*(g - old)
    n = g + c.b2*k
    m = c.b1*m + c.a1*g
    d = c.b2*d + c.a2*k
    v = c.b3*v + c.a3*n*n
    u = (c.lr*m + c.ahead*d) / (sqrt(v) + c.eps)
    return u, m, d, v, g


#: {name: rule}, in the order of this file. Classes, kernels, tests and benchmarks loop over it.
ALL: dict[str, Any] = {thing.name: thing for thing in list(globals().values()) if hasattr(thing, "digest")}

lamb = rule(
    adam_at, name="lamb", class_name="LAMB", state="m v", momentum="b1 m", nonnegative="v",
    steady={"lr": 1e-5, "weight_decay": 0.01},
    defaults={"eps": 1e-6, "weight_decay": 1e-2, "decay": "decoupled", "trust_ratio": "update"})(adam.body)
lamb.__doc__ = """LAMB (You et al. 2020): Adam whose update of each tensor, decay included, is as long as the tensor.

        c1 = 1 - b1^t;  c2 = 1 - b2^t
        m <- b1*m + (1-b1)*g
        v <- b2*v + (1-b2)*g^2
        r = (m/c1)/(sqrt(v/c2 + eps_root) + eps) + weight_decay*p
        p <- p - lr*norm(p)/norm(r)*r

    It is AdamW with trust_ratio="update" and eps=1e-6. Where norm(p) or norm(r) is 0, their ratio counts as 1. Biases
    and the scales of layers are mostly left out, in a group of their own: {"params": biases, "trust_ratio": False,
    "weight_decay": 0}.

    Source: "Large Batch Optimization for Deep Learning: Training BERT in 76 Minutes", https://arxiv.org/abs/1904.00962.
    """
lars = rule(
    momentum_at, name="lars", class_name="LARS", state="v", momentum="momentum v", settled=2,
    steady={"lr": 1e-4, "momentum": 0.9},
    defaults={"weight_decay": 5e-4, "trust_ratio": "gradient", "trust_coefficient": 1e-3})(momentum.body)
lars.__doc__ = """LARS (You et al. 2017): Momentum with a learning rate for each tensor.

        trust = trust_coefficient*norm(p)/(norm(g) + weight_decay*norm(p))
        v <- mu*v + lr*trust*(g + weight_decay*p)
        p <- p - v

    It is Momentum with trust_ratio="gradient", and mu is the argument `momentum`. The first step moves a tensor by at
    most lr*trust_coefficient of its length, which is 1e-6 with the defaults: give a larger lr. Where norm(p) or norm(g)
    is 0, trust is 1. Biases are mostly left out, in a group with an lr of its own: {"params": biases, "trust_ratio":
    False, "weight_decay": 0, "lr": 0.01}.

    Source: "Large Batch Training of Convolutional Networks", https://arxiv.org/abs/1708.03888.
    """
#: {name: rule} of those with a trust ratio. Optimizers alone compute it, for it depends on whole tensors.
MODIFIED: dict[str, Any] = {"lamb": lamb, "lars": lars}
__all__ = ["ALL", "MODIFIED", *ALL, *MODIFIED]
