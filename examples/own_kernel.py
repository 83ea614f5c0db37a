"""A rule inside your own compiled code: the gradient is computed in the pass that applies it, and never stored.

    python examples/own_kernel.py

The problem: denoise a signal y of a million samples, by Adam on |w - y|^2/2 + strength*|w[1:] - w[:-1]|^2/2. Three ways
give equal bits: NumPy's gradient and `opt.step`; a whole training loop in nopython code; gradient and update fused in
one loop.
"""
import time

import numpy as np
from numba import njit

import fastopt
from fastopt import kernels
from fastopt.rules import adam

STEPS, LR, STRENGTH = 30, 0.05, np.float32(20)


def gradient(w, y):
    """The gradient in NumPy. At an end, the missing neighbour is the element itself."""
    left, right = np.concatenate([w[:1], w[:-1]]), np.concatenate([w[1:], w[-1:]])
    return w - y + STRENGTH*(w - left + w - right)


def with_step(y):
    w = y.copy()
    opt = fastopt.Adam(w, lr=LR)
    for _ in range(STEPS):
        opt.step(gradient(w, y))
    return w


@njit(error_model="numpy")
def fused(c, w, y, m, v):
    """One step of Adam. The loop has the formula of one element: its gradient, and then what the rule returns."""
    left = w[0]
    for i in range(w.size):
        here = w[i]
        right = w[i + 1] if i + 1 < w.size else here
        g = here - y[i] + STRENGTH*(here - left + here - right)
        w[i], m[i], v[i] = adam(c, g, here, m[i], v[i])
        left = here


def with_rule(y):
    w, m, v = y.copy(), np.zeros_like(y), np.zeros_like(y)
    for t in range(1, STEPS + 1):
        fused(adam.at(t, np.float32, lr=LR), w, y, m, v)
    return w


@njit(error_model="numpy")
def train(coefs, w, y, m, v):
    """All steps without returning to Python."""
    g = np.empty_like(w)
    for t in range(len(coefs)):
        for i in range(w.size):
            left, right = w[max(i - 1, 0)], w[min(i + 1, w.size - 1)]
            g[i] = w[i] - y[i] + STRENGTH*(w[i] - left + w[i] - right)
        kernels.adam(coefs[t], g, w, m, v)


def with_kernels(y):
    w = y.copy()
    train(kernels.table(adam, STEPS, lr=LR), w, y, np.zeros_like(y), np.zeros_like(y))
    return w


def main():
    x = np.linspace(0, 6*np.pi, 1_000_000)
    clean = np.sign(np.sin(x)) + np.sin(x/3)
    y = (clean + np.random.default_rng(0).normal(0, 0.3, x.size)).astype(np.float32)
    print(f"error of the signal  {np.sqrt(np.mean((y - clean)**2)):.4f}")
    results = []
    for name, solve in (("opt.step", with_step), ("kernels.adam, all in nopython", with_kernels),
                        ("fused with the gradient", with_rule)):
        solve(y[:10])  # compiles
        begin = time.perf_counter()
        results.append(solve(y))
        took, error = (time.perf_counter() - begin)/STEPS, np.sqrt(np.mean((results[-1] - clean)**2))
        print(f"error after denoising {error:.4f}, {took*1e3:5.1f} ms a step: {name}")
    if not all(np.array_equal(results[0], other) for other in results[1:]):
        raise SystemExit("own_kernel: the three results differ, but equal bits were needed. Please report it.")
    print("the three results: equal bits")


if __name__ == "__main__":
    main()
