"""Each optimizer from its paper, unfolded (m_hat, v_hat, explicit 1 - beta**t), in plain float64; nothing of fastopt.
``step(t, theta, g, s, **hyperparameters) -> theta``: t = 1, 2, ...; s is a dict that holds the state, at first {}."""
from fractions import Fraction

import numpy as np

# {name of the rule: step}, sorted by complexity.
PAPERS = {}


def paper(step):
    """Add what every optimizer shares: gradient factor, sign, clipping by value, the three weight decays."""
    def full(t, theta, g, s, *, lr, weight_decay=0.0, decay="coupled", maximize=False, factor=1.0, clip_value=np.inf,
             **hyper):
        g = factor * g
        if maximize:
            g = -g
        g = np.minimum(np.maximum(g, -clip_value), clip_value)
        if decay == "coupled":
            g = g + weight_decay * theta
        elif decay == "decoupled":
            theta = theta - lr * weight_decay * theta
        else:
            theta = theta - weight_decay * theta
        return step(t, theta, g, s, lr=lr, **hyper)

    PAPERS[step.__name__] = full
    return full


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
def rmsprop(t, theta, g, s, *, lr, alpha, eps, eps_root):
    s["v"] = alpha * s.get("v", 0.0) + (1 - alpha) * g**2
    return theta - lr * g / (np.sqrt(s["v"] + eps_root) + eps)


@paper
def adagrad(t, theta, g, s, *, lr, lr_decay, eps, eps_root, initial_accumulator_value):
    eta = lr / (1 + (t - 1) * lr_decay)
    s["v"] = s.get("v", initial_accumulator_value) + g**2
    return theta - eta * g / (np.sqrt(s["v"] + eps_root) + eps)


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
