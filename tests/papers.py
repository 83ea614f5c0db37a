"""Each optimizer from its paper, unfolded (m_hat, v_hat, explicit 1 - beta**t), in plain float64; nothing of fastopt.
``step(t, theta, g, s, **hyperparameters) -> theta``: t = 1, 2, ...; s is a dict that holds the state and starts empty.
The first half are the papers, in their symbols; the second half are the optimizers of torch, optax, Keras and
scikit-learn line by line from their sources, with their argument names and defaults."""
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


# The systems. SYSTEMS[system, class or function name of that system] -> step with that system's arguments and defaults.
SYSTEMS = {}


def system(*names):
    def add(step):
        for name in names:
            SYSTEMS[name] = step
        return step
    return add


def torch_gradient(theta, g, maximize, weight_decay):
    return (-g if maximize else g) + weight_decay * theta


@system("torch.SGD")
def torch_sgd(t, theta, g, s, lr=1e-3, momentum=0, dampening=0, weight_decay=0, nesterov=False, maximize=False):
    g = torch_gradient(theta, g, maximize, weight_decay)
    if momentum != 0:
        s["buf"] = momentum * s["buf"] + (1 - dampening) * g if "buf" in s else g
        g = g + momentum * s["buf"] if nesterov else s["buf"]
    return theta - lr * g


@system("torch.RMSprop")
def torch_rmsprop(t, theta, g, s, lr=1e-2, alpha=0.99, eps=1e-8, weight_decay=0, maximize=False):
    g = torch_gradient(theta, g, maximize, weight_decay)
    s["avg"] = alpha * s.get("avg", 0.0) + (1 - alpha) * g * g
    return theta - lr * g / (np.sqrt(s["avg"]) + eps)


@system("torch.Adagrad")
def torch_adagrad(t, theta, g, s, lr=1e-2, lr_decay=0, weight_decay=0, initial_accumulator_value=0, eps=1e-10,
                  maximize=False):
    g = torch_gradient(theta, g, maximize, weight_decay)
    s["sum"] = s.get("sum", initial_accumulator_value) + g * g
    return theta - lr / (1 + (t - 1) * lr_decay) * g / (np.sqrt(s["sum"]) + eps)


@system("torch.Adam")
def torch_adam(t, theta, g, s, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0, amsgrad=False, maximize=False,
               decoupled_weight_decay=False):
    if decoupled_weight_decay:
        theta = theta * (1 - lr * weight_decay)
    g = torch_gradient(theta, g, maximize, 0 if decoupled_weight_decay else weight_decay)
    m, v = moments(g, s, *betas)
    if amsgrad:
        v = s["max"] = np.maximum(s.get("max", 0.0), v)
    denominator = np.sqrt(v) / np.sqrt(correction(betas[1], t)) + eps
    return theta - lr / correction(betas[0], t) * m / denominator


@system("torch.AdamW")
def torch_adamw(t, theta, g, s, weight_decay=1e-2, **rest):
    return torch_adam(t, theta, g, s, weight_decay=weight_decay, decoupled_weight_decay=True, **rest)


@system("torch.NAdam")
def torch_nadam(t, theta, g, s, lr=2e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0, momentum_decay=4e-3,
                maximize=False, decoupled_weight_decay=False):
    if decoupled_weight_decay:
        theta = theta * (1 - lr * weight_decay)
    g = torch_gradient(theta, g, maximize, 0 if decoupled_weight_decay else weight_decay)
    m, v = moments(g, s, *betas)
    mu = betas[0] * (1.0 - 0.5 * 0.96 ** (t * momentum_decay))
    mu_next = betas[0] * (1.0 - 0.5 * 0.96 ** ((t + 1) * momentum_decay))
    s["product"] = s.get("product", 1.0) * mu
    denominator = np.sqrt(v / correction(betas[1], t)) + eps
    theta = theta - lr * (1 - mu) / (1 - s["product"]) * g / denominator
    return theta - lr * mu_next / (1 - s["product"] * mu_next) * m / denominator


def rectification(t, beta2):
    power = Fraction(beta2) ** t
    rho_inf = 2 / (1 - Fraction(beta2)) - 1
    rho = rho_inf - 2 * t * power / (1 - power)
    square = (rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho)
    return float(rho), float(max(square, 0)) ** 0.5


@system("torch.RAdam")
def torch_radam(t, theta, g, s, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0, maximize=False,
                decoupled_weight_decay=False):
    if decoupled_weight_decay:
        theta = theta * (1 - lr * weight_decay)
    g = torch_gradient(theta, g, maximize, 0 if decoupled_weight_decay else weight_decay)
    m, v = moments(g, s, *betas)
    rho, r = rectification(t, betas[1])
    adaptive = correction(betas[1], t) ** 0.5 / (np.sqrt(v) + eps) * r if rho > 5.0 else 1.0
    return theta - m / correction(betas[0], t) * lr * adaptive


@system("optax.sgd")
def optax_sgd(t, theta, g, s, lr, momentum=None, nesterov=False):
    if momentum is not None:
        s["trace"] = g + momentum * s.get("trace", 0.0)
        g = g + momentum * s["trace"] if nesterov else s["trace"]
    return theta - lr * g


@system("optax.rmsprop")
def optax_rmsprop(t, theta, g, s, lr, decay=0.9, eps=1e-8, eps_in_sqrt=True):
    s["nu"] = (1 - decay) * g**2 + decay * s.get("nu", 0.0)
    return theta - lr * (1 / np.sqrt(s["nu"] + eps) if eps_in_sqrt else 1 / (np.sqrt(s["nu"]) + eps)) * g


@system("optax.adagrad")
def optax_adagrad(t, theta, g, s, lr, initial_accumulator_value=0.1, eps=1e-7):
    s["sum"] = g * g + s.get("sum", initial_accumulator_value)
    return theta - lr * g / np.sqrt(s["sum"] + eps)


def optax_mu_hat(t, g, mu, b1, nesterov):
    if nesterov:
        return b1 * (mu / correction(b1, t + 1)) + (1 - b1) * (g / correction(b1, t))
    return mu / correction(b1, t)


@system("optax.adam")
def optax_adam(t, theta, g, s, lr, b1=0.9, b2=0.999, eps=1e-8, eps_root=0.0, weight_decay=0.0, nesterov=False):
    mu, nu = moments(g, s, b1, b2)
    update = optax_mu_hat(t, g, mu, b1, nesterov) / (np.sqrt(nu / correction(b2, t) + eps_root) + eps)
    return theta - lr * (update + weight_decay * theta)


@system("optax.adamw")
def optax_adamw(t, theta, g, s, lr, weight_decay=1e-4, **rest):
    return optax_adam(t, theta, g, s, lr, weight_decay=weight_decay, **rest)


@system("optax.nadam")
def optax_nadam(t, theta, g, s, lr, **rest):
    return optax_adam(t, theta, g, s, lr, nesterov=True, **rest)


@system("optax.nadamw")
def optax_nadamw(t, theta, g, s, lr, weight_decay=1e-4, **rest):
    return optax_adam(t, theta, g, s, lr, weight_decay=weight_decay, nesterov=True, **rest)


@system("optax.amsgrad")
def optax_amsgrad(t, theta, g, s, lr, b1=0.9, b2=0.999, eps=1e-8, eps_root=0.0):
    mu, nu = moments(g, s, b1, b2)
    s["max"] = np.maximum(s.get("max", 0.0), nu / correction(b2, t))
    return theta - lr * (mu / correction(b1, t)) / (np.sqrt(s["max"] + eps_root) + eps)


@system("optax.radam")
def optax_radam(t, theta, g, s, lr, b1=0.9, b2=0.999, eps=1e-8, threshold=5.0):
    mu, nu = moments(g, s, b1, b2)
    mu_hat, (rho, r) = mu / correction(b1, t), rectification(t, b2)
    return theta - lr * (r * mu_hat / (np.sqrt(nu / correction(b2, t)) + eps) if rho >= threshold else mu_hat)


@system("optax.lion")
def optax_lion(t, theta, g, s, lr, b1=0.9, b2=0.99, weight_decay=1e-3):
    mu = s.get("mu", 0.0)
    s["mu"] = (1 - b2) * g + b2 * mu
    return theta - lr * (np.sign((1 - b1) * g + b1 * mu) + weight_decay * theta)


def keras(step):
    """Keras' base optimizer: clipping by value, then decoupled decay, in every optimizer."""
    def full(t, theta, g, s, learning_rate=step.__defaults__[0], weight_decay=None, clipvalue=None, **rest):
        if clipvalue:
            g = np.clip(g, -clipvalue, clipvalue)
        if weight_decay is not None:
            theta = theta - theta * weight_decay * learning_rate
        return step(t, theta, g, s, learning_rate, **rest)
    return full


@system("keras.SGD")
@keras
def keras_sgd(t, theta, g, s, learning_rate=0.01, momentum=0.0, nesterov=False):
    if momentum == 0:
        return theta - g * learning_rate
    m = s["m"] = s.get("m", 0.0) * momentum - g * learning_rate
    return theta + (m * momentum - g * learning_rate if nesterov else m)


@system("keras.RMSprop")
@keras
def keras_rmsprop(t, theta, g, s, learning_rate=0.001, rho=0.9, epsilon=1e-7):
    s["velocity"] = rho * s.get("velocity", 0.0) + (1 - rho) * g**2
    return theta - learning_rate * g / np.sqrt(s["velocity"] + epsilon)


@system("keras.Adagrad")
@keras
def keras_adagrad(t, theta, g, s, learning_rate=0.001, initial_accumulator_value=0.1, epsilon=1e-7):
    s["sum"] = s.get("sum", initial_accumulator_value) + g**2
    return theta - learning_rate * g / np.sqrt(s["sum"] + epsilon)


@system("keras.Adam")
@keras
def keras_adam(t, theta, g, s, learning_rate=0.001, beta_1=0.9, beta_2=0.999, epsilon=1e-7, amsgrad=False):
    m, v = moments(g, s, beta_1, beta_2)
    alpha = learning_rate * np.sqrt(correction(beta_2, t)) / correction(beta_1, t)
    if amsgrad:
        v = s["hat"] = np.maximum(s.get("hat", 0.0), v)
    return theta - m * alpha / (np.sqrt(v) + epsilon)


@system("keras.AdamW")
def keras_adamw(t, theta, g, s, weight_decay=0.004, **rest):
    return keras_adam(t, theta, g, s, weight_decay=weight_decay, **rest)


@system("keras.Nadam")
@keras
def keras_nadam(t, theta, g, s, learning_rate=0.001, beta_1=0.9, beta_2=0.999, epsilon=1e-7):
    m, v = moments(g, s, beta_1, beta_2)
    u, u_next = (beta_1 * (1.0 - 0.5 * 0.96**i) for i in (t, t + 1))
    s["product"] = s.get("product", 1.0) * u
    m_hat = u_next * m / (1 - s["product"] * u_next) + (1 - u) * g / (1 - s["product"])
    return theta - m_hat * learning_rate / (np.sqrt(v / correction(beta_2, t)) + epsilon)


@system("keras.Lion")
@keras
def keras_lion(t, theta, g, s, learning_rate=0.001, beta_1=0.9, beta_2=0.99):
    m = s.get("m", 0.0)
    s["m"] = m * beta_2 + g * (1.0 - beta_2)
    return theta - learning_rate * np.sign(m * beta_1 + g * (1.0 - beta_1))


@system("sklearn.SGDOptimizer")
def sklearn_sgd(t, theta, g, s, learning_rate_init=0.1, momentum=0.9, nesterov=True):
    s["velocity"] = momentum * s.get("velocity", 0.0) - learning_rate_init * g
    return theta + (momentum * s["velocity"] - learning_rate_init * g if nesterov else s["velocity"])


@system("sklearn.AdamOptimizer")
def sklearn_adam(t, theta, g, s, learning_rate_init=0.001, beta_1=0.9, beta_2=0.999, epsilon=1e-8):
    m, v = moments(g, s, beta_1, beta_2)
    rate = learning_rate_init * np.sqrt(correction(beta_2, t)) / correction(beta_1, t)
    return theta - rate * m / (np.sqrt(v) + epsilon)
