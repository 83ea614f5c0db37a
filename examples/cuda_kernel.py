"""A rule inside your own CUDA kernel: the gradient is computed where it is applied, and never stored.

    python examples/cuda_kernel.py

It needs a GPU and the extra `cuda`. The problem is that of own_kernel.py: denoise a signal y, by Adam on |w - y|^2/2 +
strength*|w[1:] - w[:-1]|^2/2. There are two ways: a kernel for the gradient and `opt.step`, and one kernel that does
both. The gradient of an element needs its neighbours as they were, so the fused kernel reads one buffer and writes
another. Numba contracts products and sums in your kernels (fused multiply-add): both ways agree to rounding.
"""
import argparse

import numpy as np
from numba import cuda

import fastopt
from fastopt.rules import adam

fastopt.cuda_code.import_registries()  # numba-cuda needs it beside NumPy 2.5
LR, STRENGTH, THREADS = 0.05, np.float32(20), 256


@cuda.jit(device=True)
def gradient_at(w, y, i):
    """The gradient of one element. At an end, the missing neighbour is the element itself."""
    left, right = w[max(i - 1, 0)], w[min(i + 1, w.size - 1)]
    return w[i] - y[i] + STRENGTH*(w[i] - left + w[i] - right)


@cuda.jit
def gradient(w, y, g):
    i = cuda.grid(1)
    if i < w.size:
        g[i] = gradient_at(w, y, i)


@cuda.jit
def fused(c, old, new, y, m, v):
    """One step of Adam: the formula of one element is its gradient, then what the rule returns."""
    i = cuda.grid(1)
    if i < old.size:
        new[i], m[i], v[i] = adam(c, gradient_at(old, y, i), old[i], m[i], v[i])


def with_step(y, steps):
    w, g = cuda.to_device(y), cuda.device_array_like(y)
    y = cuda.to_device(y)
    opt = fastopt.Adam(w, lr=LR)
    for _ in range(steps):
        gradient[-(-y.size//THREADS), THREADS](w, y, g)
        opt.step(g)
    return w.copy_to_host()


def with_rule(y, steps):
    old, new, y = cuda.to_device(y), cuda.device_array_like(y), cuda.to_device(y)
    m, v = (cuda.to_device(np.zeros(y.shape, y.dtype)) for _ in range(2))
    for t in range(1, steps + 1):
        fused[-(-y.size//THREADS), THREADS](adam.at(t, np.float32, lr=LR), old, new, y, m, v)
        old, new = new, old
    return old.copy_to_host()


def milliseconds(solve, *arguments):
    """What `solve` returns, and the time between two events around it."""
    begin, end = cuda.event(), cuda.event()
    begin.record()
    found = solve(*arguments)
    end.record()
    end.synchronize()
    return found, cuda.event_elapsed_time(begin, end)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=1_000_000, help="samples of the signal")
    parser.add_argument("--steps", type=int, default=30)
    given = parser.parse_args()
    x = np.linspace(0, 6*np.pi, given.n)
    clean = np.sign(np.sin(x)) + np.sin(x/3)
    y = (clean + np.random.default_rng(0).normal(0, 0.3, x.size)).astype(np.float32)
    print(f"error of the signal  {np.sqrt(np.mean((y - clean)**2)):.4f}")
    results = []
    for name, solve in (("a kernel for the gradient, and opt.step", with_step), ("one kernel for both", with_rule)):
        solve(y, 1)  # compiles
        found, took = milliseconds(solve, y, given.steps)
        results.append(found)
        error = np.sqrt(np.mean((found - clean)**2))
        print(f"error after denoising {error:.4f}, {took/given.steps:5.2f} ms a step, copies counted: {name}")
    apart = np.abs(results[0] - results[1]).max()
    print(f"the two results are {apart:.1e} apart")
    if not apart < 1e-3:
        raise SystemExit("cuda_kernel: the two results differ by more than rounding. Please report it.")


if __name__ == "__main__":
    main()
