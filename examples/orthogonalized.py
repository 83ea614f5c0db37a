"""Orthogonalized momentum (Muon, Jordan 2024) for the matrices of a network, AdamW for all else.

    python examples/orthogonalized.py

A step of this method multiplies matrices: it replaces the momentum of each weight matrix by the nearest orthogonal one,
found by five iterations of Newton and Schulz. That is work for a BLAS, and a few lines of NumPy, so fastopt has no such
optimizer. It steps the biases and the last layer, with one AdamW. Both ways train the network of digits.py, each at the
best learning rate of three by validation loss. The program exits with 1 unless both read 97 % of the test images.
"""
import argparse
import sys

import numpy as np

import fastopt

try:
    from digits import BATCH, GOAL, data, evaluate, gradient, initial, shifted
    from threadpoolctl import threadpool_limits
except ImportError as error:
    sys.exit(f'orthogonalized: {error}, but scikit-learn, matplotlib and rich are needed. Run: pip install '
             '"fastopt[examples]"')

HIDDEN = ("W1", "W2")  # the last layer's matrix is left to AdamW, as its author advises
RATES = {"AdamW": (1e-3, 3e-3, 1e-2), "orthogonalized": (0.01, 0.03, 0.1)}


def orthogonal(g):
    """Close to the orthogonal factor of g's polar decomposition: all singular values go to between 0.7 and 1.2."""
    x = (g.T if g.shape[0] > g.shape[1] else g)/(np.linalg.norm(g) + 1e-7)
    for _ in range(5):
        a = x @ x.T
        x = 3.4445*x + (2.0315*(a @ a) - 4.7750*a) @ x
    return x.T if g.shape[0] > g.shape[1] else x


def train(name, rate, sets, epochs, seed):
    """(the lowest validation loss, its epoch, the test accuracy there)."""
    (x, y), validation, test = sets
    rng = np.random.default_rng(seed)  # the same start and the same batches for both
    params, batches = initial(rng), len(y)//BATCH
    decay = fastopt.schedules.cosine(1.0, steps=epochs*batches, warmup=epochs*batches//20)
    hidden = HIDDEN if name == "orthogonalized" else ()
    rest = {k: p for k, p in params.items() if k not in hidden}
    adamw = fastopt.AdamW(rest, lr=lambda t: decay(t)*(3e-3 if hidden else rate), b2=0.99, weight_decay=0.05)
    velocity, best = {k: np.zeros_like(params[k]) for k in hidden}, (np.inf, 0, 0.0)
    for epoch in range(1, epochs + 1):
        for chosen in rng.permutation(len(y))[:batches*BATCH].reshape(batches, BATCH):
            grads = gradient(params, shifted(x[chosen], rng), y[chosen])
            adamw.step({k: grads[k] for k in rest})
            for k in hidden:
                velocity[k] = 0.95*velocity[k] + grads[k]
                change = orthogonal(0.95*velocity[k] + grads[k])*max(1, grads[k].shape[0]/grads[k].shape[1])**0.5
                params[k] -= decay(adamw.t)*rate*(change + 0.05*params[k])
        best = min(best, (evaluate(params, *validation)[0], epoch, evaluate(params, *test)[1]))
    return best


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=30,
                        help="passes over the training images (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0,
                        help="of the split, the start and the batches (default: %(default)s)")
    options = parser.parse_args()
    if options.epochs < 1:
        parser.error(f"--epochs is {options.epochs}, but at least 1 is needed.")
    sets, low = data(options.seed), []
    with threadpool_limits(1):
        for name, rates in RATES.items():
            found = {rate: train(name, rate, sets, options.epochs, options.seed) for rate in rates}
            rate = min(found, key=found.get)
            loss, epoch, accuracy = found[rate]
            print(f"{name:14} test accuracy {accuracy:.2%} (learning rate {rate}, epoch {epoch} of {options.epochs}, "
                  f"validation loss {loss:.4f})")
            low += [] if accuracy >= GOAL else [name]
    if low:
        sys.exit(f"orthogonalized: {', '.join(low)} read less than {GOAL:.0%} of the test images. Train for more "
                 "epochs.")


if __name__ == "__main__":
    main()
