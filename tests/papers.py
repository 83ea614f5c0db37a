"""Each optimizer from its paper, unfolded (m_hat, v_hat, explicit 1 - beta**t), in plain float64; nothing of fastopt.
``step(t, theta, g, s, **hyperparameters) -> theta``: t = 1, 2, ...; s is a dict that holds the state, at first {}."""
import math
from fractions import Fraction

import numpy as np

# {name of the rule: step}, sorted by complexity.
PAPERS = {}


def paper(step):
    """Add what every optimizer shares: gradient factor, sign, clipping by value, the three weight decays, modifiers."""
    def full(t, theta, g, s, *, lr, weight_decay=0.0, decay="coupled", maximize=False, factor=1.0, clip_value=np.inf,
             cautious=False, cautious_decay=False, update_clip=0.0, update_rms=0.0, adaptive_clip=0.0,
             trust_ratio=False, trust_coefficient=1.0, mars=None, grokfast_share=0.0, grokfast_factor=None,
             schedule_free=None, **hyper):
        g = factor * g  # a copy
        if maximize:
            g = -g
        g = np.minimum(np.maximum(g, -clip_value), clip_value)
        if adaptive_clip:  # Brock et al. 2021, equation 3, of each row
            for row, weights in zip(np.atleast_2d(g), np.atleast_2d(theta), strict=True):
                most = adaptive_clip * max(length(weights), 1e-3)
                if length(row) > most:
                    row *= most / length(row)
        if mars is not None:  # Yuan et al. 2024, equations 2.6 and 2.7, with the last gradient in place of a new one
            old, s["mars"] = s.get("mars", 0.0), g
            g = g + mars * hyper["b1"] / (1 - hyper["b1"]) * (g - old)
            g = g / max(1.0, length(g))
        if grokfast_factor is not None:  # Lee et al. 2024, algorithm 2: h <- a*h + (1-a)*g, g_hat <- g + lambda*h
            s["grokfast"] = grokfast_share * s.get("grokfast", 0.0) + (1 - grokfast_share) * g
            g = g + grokfast_factor * s["grokfast"]
        shrinks = weight_decay * {"coupled": 0.0, "decoupled": lr, "independent": 1.0}[decay] * theta
        l2 = weight_decay if decay == "coupled" else 0.0
        if trust_ratio == "gradient":  # You et al. 2017, algorithm 1: the local learning rate of gradient and decay
            local = trust_coefficient * length(theta) / (length(g) + l2 * length(theta))
            g, l2 = local * g, local * l2
        g = g + l2 * theta
        u = -step(t, np.zeros_like(theta), g, s, lr=lr, **hyper)
        if cautious == "scaled":  # the same with alpha = d/(the elements of phi that are not 0, + 1)
            phi = np.array([float(x) for x in (u * g > 0).flat]).reshape(u.shape)
            u = u * phi * (phi.size / (phi.sum() + 1))
        elif cautious:  # Liang et al. 2024, algorithm 1, line 4: phi(u o g), 1 where it is positive
            u = u * np.array([float(x) for x in u * g > 0])
        if update_clip:
            u = np.minimum(np.maximum(u, -lr * update_clip), lr * update_clip)
        if update_rms:  # Shazeer and Stern 2018, section 6: U/max(1, RMS(U)/d), U being the update over the rate
            u = u / max(1.0, length(u) / u.size**0.5 / lr / update_rms)
        if trust_ratio == "update":  # You et al. 2020, algorithm 2: |x|/|r + lambda*x|
            trust = lr * trust_coefficient * length(theta) / length(u + shrinks)
            u, shrinks = trust * u, trust * shrinks
        if cautious_decay:  # Chen et al. 2025, algorithm 1: the indicator of u o x >= 0
            shrinks = shrinks * np.array([float(x) for x in u * theta >= 0])
        if schedule_free is None:
            return theta - shrinks - u
        s["weights"] = s.get("weights", 0.0) + lr**2  # Defazio et al. 2024, algorithm 1: theta is y
        c = lr**2 / s["weights"]
        s["z"] = s.get("z", theta) - shrinks - u
        s["x"] = (1 - c) * s.get("x", theta) + c * s["z"]
        y = (1 - schedule_free) * s["z"] + schedule_free * s["x"]
        s["schedule_free"] = s["x"] - y
        return y

    PAPERS[step.__name__] = full
    return full


def length(x):
    """The Euclidean norm, rounded once."""
    return math.sqrt(math.fsum((x * x).flat))


def correction(beta, t):
    """1 - beta**t of the float64 beta, exactly, then rounded once."""
    return float(1 - Fraction(beta) ** t)


def moments(g, s, beta1, beta2):
    s["m"] = beta1 * s.get("m", 0.0) + (1 - beta1) * g
    s["v"] = beta2 * s.get("v", 0.0) + (1 - beta2) * g * g
    return s["m"], s["v"]


@paper
def sgd(t, theta, g, s, *, lr):
    return theta - lr * g


def dampened(t, g, dampening, first_step):
    return g if t == 1 and first_step == "copy" else (1 - dampening) * g


def velocity(t, g, s, eta, mu, dampening, form, first_step):
    share = dampened(t, g, dampening, first_step)
    v = s.get("v", 0.0)
    if form == "textbook":
        s["v"] = mu * v + eta * share
    elif form == "negative":
        s["v"] = mu * v - eta * share
    else:
        s["v"] = mu * v + share
    return {"textbook": s["v"], "negative": -s["v"], "outside": eta * s["v"]}[form]


@paper
def momentum(t, theta, g, s, *, lr, momentum, dampening, form, first_step):
    return theta - velocity(t, g, s, lr, momentum, dampening, form, first_step)


@paper
def nesterov(t, theta, g, s, *, lr, momentum, dampening, form, first_step, shifted):
    v = velocity(t, g, s, lr, momentum, dampening, form, first_step)
    return theta - (momentum * v + lr * dampened(t, g, dampening, first_step)) if shifted else theta - v


@paper
def signum(t, theta, g, s, *, lr, b1):
    s["m"] = b1 * s.get("m", 0.0) + (1 - b1) * g
    return theta - lr * np.sign(s["m"])


@paper
def rprop(t, theta, g, s, *, lr, eta_minus, eta_plus, size_min, size_max):
    old, size = s.get("old", np.zeros_like(g)), s.get("size", np.full_like(g, lr))
    new, theta = np.array(g), np.array(theta)
    for i, (now, before) in enumerate(zip(g, old, strict=True)):  # element by element, as the paper's figure 1
        if now * before > 0:
            size[i] = size[i] * eta_plus
        elif now * before < 0:
            size[i] = size[i] * eta_minus
            new[i] = 0.0
        size[i] = min(max(size[i], size_min), size_max)
        theta[i] = theta[i] - np.sign(new[i]) * size[i]
    s["old"], s["size"] = new, size
    return theta


@paper
def rmsprop(t, theta, g, s, *, lr, alpha, eps, eps_root):
    s["v"] = alpha * s.get("v", 0.0) + (1 - alpha) * g**2
    return theta - lr * g / (np.sqrt(s["v"] + eps_root) + eps)


def graves(t, theta, g, s, eta, alpha, mu, eps, eps_root, form, centered):
    s["v"] = alpha * s.get("v", 0.0) + (1 - alpha) * g**2
    n = s["v"]
    if centered:
        s["mean"] = alpha * s.get("mean", 0.0) + (1 - alpha) * g
        n = np.maximum(n - s["mean"] ** 2, 0.0)
    sign = {"textbook": eta, "negative": -eta, "outside": 1.0}[form]
    s["b"] = mu * s.get("b", 0.0) + sign * g / (np.sqrt(n + eps_root) + eps)
    return theta - {"textbook": s["b"], "negative": -s["b"], "outside": eta * s["b"]}[form]


@paper
def rmsprop_momentum(t, theta, g, s, *, lr, alpha, momentum, eps, eps_root, form):
    return graves(t, theta, g, s, lr, alpha, momentum, eps, eps_root, form, False)


@paper
def rmsprop_centered(t, theta, g, s, *, lr, alpha, eps, eps_root):
    return graves(t, theta, g, s, lr, alpha, 0.0, eps, eps_root, "textbook", True)


@paper
def rmsprop_centered_momentum(t, theta, g, s, *, lr, alpha, momentum, eps, eps_root, form):
    return graves(t, theta, g, s, lr, alpha, momentum, eps, eps_root, form, True)


@paper
def adagrad(t, theta, g, s, *, lr, lr_decay, eps, eps_root, initial_accumulator_value):
    eta = lr / (1 + (t - 1) * lr_decay)
    s["v"] = s.get("v", initial_accumulator_value) + g**2
    return theta - eta * g / (np.sqrt(s["v"] + eps_root) + eps)


@paper
def adadelta(t, theta, g, s, *, lr, alpha, eps):
    def rms(x):
        return np.sqrt(x + eps)

    s["v"] = alpha * s.get("v", 0.0) + (1 - alpha) * g**2
    delta = -rms(s.get("d", 0.0)) / rms(s["v"]) * g
    s["d"] = alpha * s.get("d", 0.0) + (1 - alpha) * delta**2
    return theta + lr * delta


@paper
def adam(t, theta, g, s, *, lr, b1, b2, eps, eps_root, eps_mode, bias_correction):
    m, v = moments(g, s, b1, b2)
    c1, c2 = (correction(b1, t), correction(b2, t)) if bias_correction else (1.0, 1.0)
    m_hat, v_hat = m / c1, v / c2
    root = np.sqrt(v_hat + eps_root)
    if eps_mode == "hat":  # end of section 2: alpha_t = alpha*sqrt(1 - beta2^t)/(1 - beta1^t), eps beside sqrt(v)
        return theta - lr * np.sqrt(c2) * m_hat / (np.sqrt(c2) * root + eps)
    return theta - lr * m_hat / (root + eps)


PAPERS["adamw"] = adam  # Loshchilov and Hutter's line 12 is the decoupled decay of `paper`


@paper
def adamax(t, theta, g, s, *, lr, b1, b2, eps, eps_mode):
    s["m"] = b1 * s.get("m", 0.0) + (1 - b1) * g
    inside, outside = (eps, 0.0) if eps_mode == "inside" else (0.0, eps)
    s["top"] = np.maximum(b2 * s.get("top", 0.0), np.abs(g) + inside)
    return theta - lr / correction(b1, t) * s["m"] / (s["top"] + outside)


@paper
def adabelief(t, theta, g, s, *, lr, b1, b2, eps, eps_root):
    s["m"] = b1 * s.get("m", 0.0) + (1 - b1) * g
    s["v"] = b2 * s.get("v", 0.0) + (1 - b2) * (g - s["m"]) ** 2 + eps_root
    return theta - lr * (s["m"] / correction(b1, t)) / (np.sqrt(s["v"] / correction(b2, t)) + eps)


@paper
def yogi(t, theta, g, s, *, lr, b1, b2, eps, bias_correction, initial_moment, initial_accumulator_value):
    s["m"] = b1 * s.get("m", initial_moment) + (1 - b1) * g
    v = s.get("v", initial_accumulator_value)
    s["v"] = v - (1 - b2) * np.sign(v - g**2) * g**2
    c1, c2 = (correction(b1, t), correction(b2, t)) if bias_correction else (1.0, 1.0)
    return theta - lr * (s["m"] / c1) / (np.sqrt(s["v"] / c2) + eps)


@paper
def laprop(t, theta, g, s, *, lr, b1, b2, eps):
    s["v"] = b2 * s.get("v", 0.0) + (1 - b2) * g**2
    s["m"] = b1 * s.get("m", 0.0) + (1 - b1) * g / (np.sqrt(s["v"] / correction(b2, t)) + eps)
    return theta - lr * s["m"] / correction(b1, t)


@paper
def adopt(t, theta, g, s, *, lr, b1, b2, eps, clipping):
    if t == 1:  # algorithm 2: v_0 = g_0^2, before the first update
        s["m"], s["v"] = np.zeros_like(g), g**2
        return theta
    n = g / np.maximum(np.sqrt(s["v"]), eps)
    bound = (t - 1) ** 0.25
    s["m"] = b1 * s["m"] + (1 - b1) * (np.clip(n, -bound, bound) if clipping else n)
    s["v"] = b2 * s["v"] + (1 - b2) * g**2
    return theta - lr * s["m"]


@paper
def amsgrad(t, theta, g, s, *, lr, b1, b2, eps, eps_root, eps_mode, maximum_of):
    m, v = moments(g, s, b1, b2)
    c1, c2 = correction(b1, t), correction(b2, t)
    if maximum_of == "corrected":
        s["top"] = np.maximum(s.get("top", 0.0), v / c2)
        return theta - lr * (m / c1) / (np.sqrt(s["top"] + eps_root) + eps)
    s["top"] = np.maximum(s.get("top", 0.0), v)
    root = np.sqrt(s["top"] / c2 + eps_root)
    if eps_mode == "hat":
        return theta - lr * np.sqrt(c2) * (m / c1) / (np.sqrt(c2) * root + eps)
    return theta - lr * (m / c1) / (root + eps)


@paper
def nadam(t, theta, g, s, *, lr, b1, b2, eps, momentum_decay, schedule):
    n, v = moments(g, s, b1, b2)
    psi = momentum_decay
    if schedule == "torch":
        mu, mu_next = (b1 * (1 - 0.5 * 0.96 ** (i * psi)) for i in (t, t + 1))
    else:
        mu = mu_next = b1
    s["product"] = s.get("product", 1.0) * mu
    g_hat = g / (1 - s["product"])
    m_hat = n / (1 - s["product"] * mu_next)
    m_bar = (1 - mu) * g_hat + mu_next * m_hat
    return theta - lr * m_bar / (np.sqrt(v / correction(b2, t)) + eps)


@paper
def radam(t, theta, g, s, *, lr, b1, b2, eps, eps_mode, threshold):
    m, v = moments(g, s, b1, b2)
    m_hat = m / correction(b1, t)
    power = Fraction(b2) ** t
    rho_inf = 2 / (1 - Fraction(b2)) - 1
    rho = float(rho_inf - 2 * t * power / (1 - power))
    if rho <= threshold:
        return theta - lr * m_hat
    rho_inf = float(rho_inf)
    r = np.sqrt((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho))
    root_c2 = np.sqrt(correction(b2, t))
    ell = root_c2 / (np.sqrt(v) + eps) if eps_mode == "hat" else 1 / (np.sqrt(v) / root_c2 + eps)
    return theta - lr * m_hat * r * ell


@paper
def ademamix(t, theta, g, s, *, lr, b1, b2, b3, alpha, eps, eps_root, warmup):
    m, v = moments(g, s, b1, b2)
    if warmup and t < warmup:
        alpha = t * alpha / warmup
        with np.errstate(divide="ignore"):
            start, end = np.log(b1), np.log(b3)  # the paper's schedule, written as two weights of 1/log
        weights = (1 - t / warmup) / start + t / warmup / end
        b3 = min(np.exp(1 / weights), b3) if b3 else 0.0
    s["slow"] = b3 * s.get("slow", 0.0) + (1 - b3) * g
    c1, c2 = correction(b1, t), correction(b2, t)
    return theta - lr * (m / c1 + alpha * s["slow"]) / (np.sqrt(v / c2 + eps_root) + eps)


@paper
def lion(t, theta, g, s, *, lr, b1, b2):
    m = s.get("m", 0.0)
    update = np.sign(b1 * m + (1 - b1) * g)
    s["m"] = b2 * m + (1 - b2) * g
    return theta - lr * update


@paper
def adan(t, theta, g, s, *, lr, b1, b2, b3, eps):
    beta1, beta2, beta3 = 1 - b1, 1 - b2, 1 - b3  # the paper's
    old = s.get("old", g)  # algorithm 1 starts from v_0 = 0: the first gradient is its own predecessor
    s["m"] = (1 - beta1) * s.get("m", 0.0) + beta1 * g
    s["d"] = (1 - beta2) * s.get("d", 0.0) + beta2 * (g - old)
    s["v"] = (1 - beta3) * s.get("v", 0.0) + beta3 * (g + (1 - beta2) * (g - old)) ** 2
    s["old"] = g
    m_hat, d_hat, v_hat = s["m"] / correction(b1, t), s["d"] / correction(b2, t), s["v"] / correction(b3, t)
    return theta - lr * (m_hat + (1 - beta2) * d_hat) / (np.sqrt(v_hat) + eps)
