"""The optimizers in NumPy, by hand: as people write them from the paper, and in place with the fewest passes.

Hyperparameters and coefficients are Python floats, so float32 arrays stay float32. `rivals` times them against fastopt.
"""
import math

import numpy as np

from ..rules import nadam_log_product, radam_at

# NumPy as people write it: the lines of the paper. p changes in place; the new states are returned.

def sgd(t, g, p, lr):
    p -= lr*g
    return ()


def momentum(t, g, p, v, lr, momentum):
    v = momentum*v + lr*g
    p -= v
    return (v,)


def rmsprop(t, g, p, v, lr, alpha, eps):
    v = alpha*v + (1 - alpha)*g**2
    p -= lr*g / (np.sqrt(v) + eps)
    return (v,)


def adagrad(t, g, p, v, lr, eps):
    v = v + g**2
    p -= lr*g / (np.sqrt(v) + eps)
    return (v,)


def moments(g, m, v, b1, b2):
    return b1*m + (1 - b1)*g, b2*v + (1 - b2)*g**2


def adam(t, g, p, m, v, lr, b1, b2, eps):
    m, v = moments(g, m, v, b1, b2)
    m_hat, v_hat = m/(1 - b1**t), v/(1 - b2**t)
    p -= lr*m_hat / (np.sqrt(v_hat) + eps)
    return m, v


def adamw(t, g, p, m, v, lr, b1, b2, eps, weight_decay):
    p -= lr*weight_decay*p
    return adam(t, g, p, m, v, lr, b1, b2, eps)


def amsgrad(t, g, p, m, v, top, lr, b1, b2, eps):
    m, v = moments(g, m, v, b1, b2)
    top = np.maximum(top, v)
    p -= lr*(m/(1 - b1**t)) / (np.sqrt(top/(1 - b2**t)) + eps)
    return m, v, top


def nadam(t, g, p, m, v, lr, b1, b2, eps, momentum_decay):
    m, v = moments(g, m, v, b1, b2)
    now, ahead = (b1*(1 - 0.5*0.96**(i*momentum_decay)) for i in (t, t + 1))
    product = b1**t*math.exp(nadam_log_product(t, momentum_decay))
    m_hat = ahead/(1 - product*ahead)*m + (1 - now)/(1 - product)*g
    p -= lr*m_hat / (np.sqrt(v/(1 - b2**t)) + eps)
    return m, v


def radam(t, g, p, m, v, lr, b1, b2, eps):
    m, v = moments(g, m, v, b1, b2)
    c = radam_at(t, lr, b1, b2, eps)
    p -= c["lr"]*m / (np.minimum(np.sqrt(v), c["cap"]) + c["eps"])
    return m, v


def lion(t, g, p, m, lr, b1, b2):
    p -= lr*np.sign(b1*m + (1 - b1)*g)
    return (b2*m + (1 - b2)*g,)


WRITTEN = {f.__name__: f for f in (sgd, momentum, rmsprop, adagrad, adam, adamw, amsgrad, nadam, radam, lion)}
WRITTEN["nesterov"] = momentum  # the textbook's: its gradient comes from the look-ahead point, and the step is the same


# NumPy in place, with as few passes as it allows and one scratch array; coefficients are folded as fastopt's are

def blend(x, b, y, a, s):
    """x <- b*x + a*y"""
    x *= b
    np.multiply(y, a, out=s)
    x += s


def blend_square(v, b, g, a, s):
    """v <- b*v + a*g^2"""
    v *= b
    np.multiply(g, g, out=s)
    s *= a
    v += s


def descend(p, lr, x, v, eps, s, cap=np.inf):
    """p <- p - lr*x / (min(sqrt(v), cap) + eps)"""
    np.sqrt(v, out=s)
    if cap < np.inf:
        np.minimum(s, cap, out=s)
    s += eps
    np.divide(x, s, out=s)
    s *= lr
    p -= s


def sgd_out(s, g, p, lr):
    np.multiply(g, lr, out=s)
    p -= s


def momentum_out(s, g, p, v, mu, a):
    blend(v, mu, g, a, s)
    p -= v


def rmsprop_out(s, g, p, v, lr, b2, a2, eps):
    blend_square(v, b2, g, a2, s)
    descend(p, lr, g, v, eps, s)


def adagrad_out(s, g, p, v, lr, eps):
    np.multiply(g, g, out=s)
    v += s
    descend(p, lr, g, v, eps, s)


def adam_out(s, g, p, m, v, lr, b1, a1, b2, a2, eps):
    blend(m, b1, g, a1, s)
    blend_square(v, b2, g, a2, s)
    descend(p, lr, m, v, eps, s)


def adamw_out(s, g, p, m, v, lr, b1, a1, b2, a2, eps, wd):
    p *= 1 - wd
    adam_out(s, g, p, m, v, lr, b1, a1, b2, a2, eps)


def amsgrad_out(s, g, p, m, v, top, lr, b1, a1, b2, a2, eps):
    blend(m, b1, g, a1, s)
    blend_square(v, b2, g, a2, s)
    np.maximum(top, v, out=top)
    descend(p, lr, m, top, eps, s)


def radam_out(s, g, p, m, v, lr, b1, a1, b2, a2, eps, cap):
    blend(m, b1, g, a1, s)
    blend_square(v, b2, g, a2, s)
    descend(p, lr, m, v, eps, s, cap)


def lion_out(s, g, p, m, lr, b1, a1, b2, a2):
    np.multiply(m, b1/a1, out=s)  # sign(b1*m + a1*g) = sign(b1/a1*m + g)
    s += g
    np.sign(s, out=s)
    s *= lr
    p -= s
    blend(m, b2, g, a2, s)


IN_PLACE = {f.__name__.removesuffix("_out"): f for f in (
    sgd_out, momentum_out, rmsprop_out, adagrad_out, adam_out, adamw_out, amsgrad_out, radam_out, lion_out)}
IN_PLACE["nesterov"] = momentum_out
