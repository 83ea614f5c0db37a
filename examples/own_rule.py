"""An optimizer of your own in five lines: it gets the compiled kernel, groups, schedules, clipping and checkpoints.

    python examples/own_rule.py

The problem: find a point in 50 dimensions by gradients with heavy-tailed noise (Student's t, 1.5 degrees of freedom).
Momentum follows every outlier. SoftSign, which is not in the package, divides the velocity by its size plus one: a
large velocity counts by its sign, a small one as it is.
"""
import numpy as np

import fastopt
from fastopt.notation import absolute


@fastopt.rule(state="v", lr=0.01, mu=0.9, size=1.0)  # the state arrays; the hyperparameters and their defaults
def soft_sign(c, g, p, v):
    v = c.mu*v + g
    u = c.lr*v/(absolute(v) + c.size)
    return u, v


SoftSign = fastopt.optimizer(soft_sign)
STEPS, RATES = 2000, (1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2)


def problem():
    """The solution, and the noise in the gradient of every step."""
    rng = np.random.default_rng(0)
    return rng.standard_normal(50).astype(np.float32), rng.standard_t(1.5, (STEPS, 50)).astype(np.float32)


def fit(kind, lr):
    """The point that an optimizer finds."""
    target, noise = problem()
    w = np.zeros(50, np.float32)
    opt = kind(w, lr=fastopt.schedules.cosine(lr, steps=STEPS))
    for k in range(STEPS):
        opt.step(w - target + noise[k])
    return w


def by_hand(lr):
    """As `fit`, without a compiled kernel: a rule is a function of NumPy arrays too. `at` gives its coefficients."""
    target, noise = problem()
    w, v = np.zeros((2, 50), np.float32)
    rate = fastopt.schedules.cosine(lr, steps=STEPS)
    for k in range(STEPS):
        c = soft_sign.at(k + 1, np.float32, lr=rate(k + 1))
        w, v = soft_sign(c, w - target + noise[k], w, v)
    return w


def main():
    target, _ = problem()
    for kind in (SoftSign, fastopt.Momentum):
        errors = {lr: np.linalg.norm(fit(kind, lr) - target)/np.linalg.norm(target) for lr in RATES}
        best = min(errors, key=errors.get)
        print(f"{kind.__name__:8}: relative error {errors[best]:.3f} at the best of "
              f"{len(RATES)} learning rates, {best}")
    if not np.array_equal(fit(SoftSign, 0.005), by_hand(0.005)):
        raise SystemExit("own_rule: the kernel and the rule on NumPy arrays differ, but equal bits were needed. "
                         "Please report it.")
    print("the kernel and the rule on NumPy arrays: equal bits")
    half = SoftSign(np.zeros(1000, np.float32), state="bfloat16")
    half.step(np.ones(1000, np.float32), clip_norm=1.0)
    print(half)


if __name__ == "__main__":
    main()
