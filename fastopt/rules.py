"""Every optimizer, once: the coefficients of a step and the update of one element, sorted by complexity.

``*_at(t, ...)`` runs on the host, once per step, in float64, from an integer step t = 1, 2, ...; the rule below it runs
on every element and returns its update and the new states. Rules see the gradient after ``registry.prepare`` (gradient
factor, clipping, coupled decay); ``registry.apply`` takes the update from the parameter, and decoupled decay. One
alphabet: g gradient, p parameter, u update, m first moment, v second moment or velocity, c coefficients.
"""
from functools import lru_cache
from math import exp, expm1, inf, log
from math import sqrt as root

from ._rule.rule import rule
from .notation import maximum, minimum, sign, sqrt

FORMS = {"form": ("textbook", "negative", "outside"), "first_step": ("zero", "copy")}
EPS = {"eps_mode": ("outside", "hat")}
SHARE, POSITIVE = "[0, 1)", "[0, inf)"
VELOCITY = {"momentum": SHARE, "dampening": "[0, 1]"}
MOMENTS = {"b1": SHARE, "b2": SHARE, "eps": POSITIVE, "eps_root": POSITIVE}


def unbias(b, t):
    """1 - b**t without cancellation, for any integer t: exact where a float32 counter stops at 2**24."""
    return -expm1(t*log(b)) if b > 0 else 1.0


def sgd_at(t, lr=1e-3):
    return {"lr": lr}


@rule(sgd_at)
def sgd(c, g, p):
    """Gradient descent: the step is the gradient times the learning rate.

    p <- p - lr*g
    """
    u = c.lr*g
    return (u,)


def velocity_at(t, lr, momentum, dampening, form, first_step):
    """(what g is multiplied by on its way into v, what v is multiplied by on its way into p)."""
    a = 1.0 if t == 1 and first_step == "copy" else 1 - dampening
    return {"textbook": (a*lr, 1.0), "negative": (-a*lr, -1.0), "outside": (a, lr)}[form]


def momentum_at(t, lr=1e-3, momentum=0.9, dampening=0.0, form="textbook", first_step="zero"):
    a, out = velocity_at(t, lr, momentum, dampening, form, first_step)
    return {"mu": momentum, "a": a, "lr": out}


@rule(momentum_at, state="v", options=FORMS, ranges=VELOCITY)
def momentum(c, g, p, v):
    """Momentum (Polyak 1964): a velocity that holds the learning rate.

    v <- mu*v + lr*g;  p <- p - v
    form="negative": v <- mu*v - lr*g;  p <- p + v      form="outside": v <- mu*v + (1-d)*g;  p <- p - lr*v
    The forms walk the same points while lr is constant; under a schedule "outside" applies today's lr to old gradients.
    """
    v = c.mu*v + c.a*g
    u = c.lr*v
    return u, v


def nesterov_at(t, lr=1e-3, momentum=0.9, dampening=0.0, form="textbook", first_step="zero", shifted=False):
    a, out = velocity_at(t, lr, momentum, dampening, form, first_step)
    if shifted:
        return {"mu": momentum, "a": a, "lr": out*momentum, "now": a*out, "ahead": 0.0}
    return {"mu": momentum, "a": a, "lr": out, "now": 0.0, "ahead": out*momentum}


@rule(nesterov_at, state="v", options={**FORMS, "shifted": (False, True)}, ranges=VELOCITY, ahead="ahead")
def nesterov(c, g, p, v):
    """Nesterov's accelerated gradient (1983): momentum whose gradient is taken at the look-ahead point.

    v <- mu*v + lr*g(p - mu*v);  p <- p - v
    shifted=True (torch, Keras, scikit-learn): the stored p is the look-ahead point, v <- mu*v + lr*g(p);  p <- p -
    (mu*v + lr*g). Both walk the same look-ahead points at constant lr and mu. They part when mu changes between steps,
    when lr does under form="outside", and with any weight decay, which pulls at the stored weights of each.
    """
    v = c.mu*v + c.a*g
    u = c.lr*v + c.now*g
    return u, v


def rmsprop_at(t, lr=1e-2, alpha=0.99, eps=1e-8, eps_root=0.0):
    return {"lr": lr, "b2": alpha, "a2": 1 - alpha, "eps": eps, "root": eps_root}


@rule(rmsprop_at, state="v", nonnegative="v", ranges={"alpha": SHARE, "eps": POSITIVE, "eps_root": POSITIVE})
def rmsprop(c, g, p, v):
    """RMSProp (Tieleman and Hinton 2012): the gradient over a running root mean square of it.

    v <- alpha*v + (1-alpha)*g^2;  p <- p - lr*g / (sqrt(v + eps_root) + eps)
    """
    v = c.b2*v + c.a2*g*g
    u = c.lr*g / (sqrt(v + c.root) + c.eps)
    return u, v


def adagrad_at(t, lr=1e-2, lr_decay=0.0, eps=1e-10, eps_root=0.0):
    return {"lr": lr / (1 + (t - 1)*lr_decay), "eps": eps, "root": eps_root}


@rule(adagrad_at, state="v", nonnegative="v", initial={"v": "initial_accumulator_value"},
      ranges=dict.fromkeys(("lr_decay", "eps", "eps_root", "initial_accumulator_value"), POSITIVE))
def adagrad(c, g, p, v):
    """AdaGrad (Duchi, Hazan and Singer 2011): the gradient over the root of the sum of its squares.

    v <- v + g^2;  p <- p - lr_t*g / (sqrt(v + eps_root) + eps),  lr_t = lr / (1 + (t-1)*lr_decay)
    """
    v = v + g*g
    u = c.lr*g / (sqrt(v + c.root) + c.eps)
    return u, v


def adam_at(t, lr=1e-3, b1=0.9, b2=0.999, eps=1e-8, eps_root=0.0, eps_mode="outside", bias_correction=True):
    c1, c2 = (unbias(b1, t), unbias(b2, t)) if bias_correction else (1.0, 1.0)
    fix = root(c2)  # lr*(m/c1)/(sqrt(v/c2) + eps) = lr*fix/c1 * m/(sqrt(v) + eps*fix)
    return {"lr": lr*fix/c1, "b1": b1, "a1": 1 - b1, "b2": b2, "a2": 1 - b2,
            "eps": eps*fix if eps_mode == "outside" else eps, "root": eps_root*c2}


@rule(adam_at, state="m v", nonnegative="v", options={**EPS, "bias_correction": (False, True)}, ranges=MOMENTS)
def adam(c, g, p, m, v):
    """Adam (Kingma and Ba 2015): momentum over a running root mean square, both corrected for their zero start.

    m <- b1*m + (1-b1)*g;  v <- b2*v + (1-b2)*g^2;  p <- p - lr * (m/c1) / (sqrt(v/c2 + eps_root) + eps),  ci = 1 - bi^t
    eps_mode="hat" (Keras, scikit-learn, the paper's own shortcut) divides by sqrt(v) + eps, with lr*sqrt(c2)/c1.
    """
    m = c.b1*m + c.a1*g
    v = c.b2*v + c.a2*g*g
    u = c.lr*m / (sqrt(v + c.root) + c.eps)
    return u, m, v


adamw = rule(adam_at, name="adamw", state="m v", nonnegative="v", options={**EPS, "bias_correction": (False, True)},
             ranges=MOMENTS,
             defaults={"weight_decay": 1e-2, "decay": "decoupled"})(adam.body)
adamw.__doc__ = """AdamW (Loshchilov and Hutter 2019): Adam with decoupled weight decay, p <- p - lr*wd*p beside the step.

    The formula is Adam's; only the defaults differ: weight_decay=0.01, decay="decoupled".
    """


def amsgrad_at(t, lr=1e-3, b1=0.9, b2=0.999, eps=1e-8, eps_root=0.0, eps_mode="outside", maximum_of="raw"):
    c = adam_at(t, lr, b1, b2, eps, eps_root, eps_mode)
    if maximum_of == "raw":
        return {**c, "hat": 1.0}
    c2 = unbias(b2, t)  # the maximum is over v/c2, so the denominator needs no correction any more
    return {**c, "lr": lr/unbias(b1, t), "eps": eps, "root": eps_root, "hat": 1/c2}


@rule(amsgrad_at, state="m v top", nonnegative="v top", options={**EPS, "maximum_of": ("raw", "corrected")},
      ranges=MOMENTS)
def amsgrad(c, g, p, m, v, top):
    """AMSGrad (Reddi, Kale and Kumar 2018): Adam whose denominator never falls.

    m, v as in Adam;  top <- max(top, v);  p <- p - lr * (m/c1) / (sqrt(top/c2) + eps)
    maximum_of="corrected" (optax) takes the maximum over v/c2 instead, another sequence.
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
    """log of the product over i = 1..t of 1 - 0.5*0.96**(i*psi), as a function of t alone (a resumed run needs no
    history).

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


def nadam_at(t, lr=2e-3, b1=0.9, b2=0.999, eps=1e-8, momentum_decay=4e-3, schedule="torch", past=None):
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


@rule(nadam_at, state="m v", nonnegative="v", options={"schedule": ("torch", "optax")}, history=nadam_past,
      ranges={"b1": SHARE, "b2": SHARE, "eps": POSITIVE, "momentum_decay": POSITIVE})
def nadam(c, g, p, m, v):
    """NAdam (Dozat 2016): Adam with Nesterov's look-ahead, by way of a decaying momentum schedule.

    m, v as in Adam;  p <- p - lr * (mu'*m/(1-P*mu') + (1-mu)*g/(1-P)) / (sqrt(v/c2) + eps)
    with mu = b1*(1 - 0.5*0.96^(t*momentum_decay)), mu' that of the next step, P the product of all mu so far, whatever
    b1 was. schedule="optax": mu = b1 throughout.
    """
    m = c.b1*m + c.a1*g
    v = c.b2*v + c.a2*g*g
    u = (c.lr*m + c.now*g) / (sqrt(v + c.root) + c.eps)
    return u, m, v


def radam_at(t, lr=1e-3, b1=0.9, b2=0.999, eps=1e-8, eps_mode="hat", threshold=5.0):
    c = adam_at(t, lr, b1, b2, eps, 0.0, eps_mode)
    c2, longest = unbias(b2, t), 2/(1 - b2) - 1
    length = longest - 2*t*(1 - c2)/c2
    if length <= threshold:  # too few gradients to trust v: plain momentum, the denominator is min(sqrt(v), 0) + 1
        return {**c, "lr": lr/unbias(b1, t), "eps": 1.0, "cap": 0.0}
    r = root((length - 4)*(length - 2)*longest / ((longest - 4)*(longest - 2)*length))
    return {**c, "lr": r*c["lr"], "cap": inf}


@rule(radam_at, state="m v", nonnegative="v", options=EPS,
      ranges={"b1": SHARE, "b2": SHARE, "eps": POSITIVE, "threshold": "[4, inf)"})  # its root is real above 4
def radam(c, g, p, m, v):
    """RAdam (Liu et al. 2020): Adam that waits until its second moment can be trusted.

    m, v as in Adam; rho = rho_inf - 2*t*b2^t/c2 with rho_inf = 2/(1-b2) - 1, the length of the average
    rho > 5: p <- p - lr * r * (m/c1) * sqrt(c2) / (sqrt(v) + eps), r^2 = (rho-4)(rho-2)rho_inf /
    ((rho_inf-4)(rho_inf-2)rho) else:    p <- p - lr * (m/c1)
    """
    m = c.b1*m + c.a1*g
    v = c.b2*v + c.a2*g*g
    u = c.lr*m / (minimum(sqrt(v), c.cap) + c.eps)
    return u, m, v


def lion_at(t, lr=1e-4, b1=0.9, b2=0.99):
    return {"lr": lr, "b1": b1, "a1": 1 - b1, "b2": b2, "a2": 1 - b2}


@rule(lion_at, state="m", ranges={"b1": SHARE, "b2": SHARE}, defaults={"decay": "decoupled"})
def lion(c, g, p, m):
    """Lion (Chen et al. 2023): the sign of an interpolated momentum. Typical lr is 3-10 times smaller than AdamW's.

    p <- p - lr*sign(b1*m + (1-b1)*g);  m <- b2*m + (1-b2)*g
    """
    u = c.lr*sign(c.b1*m + c.a1*g)
    m = c.b2*m + c.a2*g
    return u, m
