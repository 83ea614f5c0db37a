"""Rules that only torch has: RMSprop whose update goes through a velocity, or whose second moment is centered; Adam
with SparseAdam's place of eps."""
from typing import Annotated

from .._rule.rule import rule
from ..notation import maximum, sqrt
from ..rules import EPS, MU, adam, adam_at

SHARE = Annotated[float, "[0, 1)", "The share of the averages that a step keeps, in [0, 1)."]


def rmsprop_at(t, lr=1e-2, alpha: SHARE = 0.99, eps: EPS = 1e-8, momentum: MU = 0.0):
    return {"lr": lr, "b2": alpha, "a2": 1 - alpha, "eps": eps, "mu": momentum, "none": 0.0}


@rule(rmsprop_at, state="v b", nonnegative="v", settled=1)
def rmsprop_momentum(c, g, p, v, b):
    """RMSprop(momentum=mu).

    v <- alpha*v + (1-alpha)*g^2;  b <- mu*b + g/(sqrt(v) + eps);  p <- p - lr*b
    """
    v = c.b2*v + c.a2*g*g
    b = c.mu*b + g/(sqrt(v) + c.eps)
    u = c.lr*b
    return u, v, b


@rule(rmsprop_at, state="v a", nonnegative="v", settled=1)
def rmsprop_centered(c, g, p, v, a):
    """RMSprop(centered=True): the variance, which rounding does not make negative here.

    v <- alpha*v + (1-alpha)*g^2;  a <- alpha*a + (1-alpha)*g;  p <- p - lr*g/(sqrt(v - a^2) + eps)
    """
    v = c.b2*v + c.a2*g*g
    a = c.b2*a + c.a2*g
    u = c.lr*g/(sqrt(maximum(v - a*a, c.none)) + c.eps)
    return u, v, a


@rule(rmsprop_at, state="v a b", nonnegative="v", settled=1)
def rmsprop_both(c, g, p, v, a, b):
    """RMSprop(momentum=mu, centered=True)."""
    v = c.b2*v + c.a2*g*g
    a = c.b2*a + c.a2*g
    b = c.mu*b + g/(sqrt(maximum(v - a*a, c.none)) + c.eps)
    u = c.lr*b
    return u, v, a, b


sparse_adam = rule(adam_at, name="sparse_adam", state="m v", nonnegative="v", defaults={"eps_mode": "hat"})(adam.body)

RMSPROP = {(False, True): rmsprop_momentum, (True, False): rmsprop_centered, (True, True): rmsprop_both}
NAMES = {"v": "square_avg", "a": "grad_avg", "b": "momentum_buffer"}  # torch's, of the states
