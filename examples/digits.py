"""Train a multilayer perceptron, written in NumPy, on scikit-learn's handwritten digits.

    python examples/digits.py --plot digits.png

Momentum, Nesterov and Adam in turn. There are 1,797 scans of 8 x 8 pixels: 60 % to train on, 20 % to choose the epoch
by (the lowest validation loss), 20 % to test with, once. The program prints the test accuracy of each optimizer and
draws the loss curves. It exits with 1 unless all are above 97 %.
"""
import argparse
import sys
from itertools import pairwise

import numpy as np

import fastopt

try:
    from matplotlib.figure import Figure
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
    from sklearn.datasets import load_digits
    from threadpoolctl import threadpool_limits
except ImportError as error:
    sys.exit(f'digits: {error}, but scikit-learn, matplotlib and rich are needed. Run: pip install "fastopt[examples]"')

GOAL, BATCH, SIZES = 0.97, 32, (64, 256, 128, 10)
RUNS = {  # optimizer, its highest learning rate, further hyperparameters, colour
    "Momentum": (fastopt.Momentum, 0.1, {"momentum": 0.9}, "#0072b2"),
    "Nesterov": (fastopt.Nesterov, 0.1, {"momentum": 0.9}, "#d55e00"),
    "Adam": (fastopt.Adam, 3e-3, {"b2": 0.99}, "#009e73"),
}


def data(seed):
    """(images, labels) to train, validate and test with: float32 of mean 0 and variance about 1."""
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(labels))
    x, y = ((images - images.mean()) / images.std()).astype(np.float32)[order], labels[order]
    first, second = len(y)*6//10, len(y)*8//10
    return (x[:first], y[:first]), (x[first:second], y[first:second]), (x[second:], y[second:])


def shifted(x, rng):
    """Each image moved by up to one pixel, at random: more digits to learn from than there are scans."""
    padded = np.pad(x.reshape(-1, 8, 8), ((0, 0), (1, 1), (1, 1)), constant_values=x.min())
    rows, columns = rng.integers(0, 3, (2, len(x), 1)) + np.arange(8)
    return padded[np.arange(len(x))[:, None, None], rows[:, :, None], columns[:, None, :]].reshape(-1, 64)


def initial(rng):
    """He et al. 2015: weights of variance 2/inputs, biases of 0."""
    params = {}
    for k, (n, m) in enumerate(pairwise(SIZES), start=1):
        params[f"W{k}"] = (rng.standard_normal((n, m))*np.sqrt(2/n)).astype(np.float32)
        params[f"b{k}"] = np.zeros(m, np.float32)
    return params


def forward(p, x):
    """The activations of all layers; the last are the logits."""
    layers, depth = [x], len(SIZES) - 1
    for k in range(1, depth + 1):
        x = x @ p[f"W{k}"] + p[f"b{k}"]
        x = np.maximum(x, 0) if k < depth else x
        layers.append(x)
    return layers


def log_softmax(logits):
    logits = logits - logits.max(axis=1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def gradient(p, x, y):
    """The gradient of the mean cross-entropy, by backpropagation, in the structure of the parameters."""
    layers, grads = forward(p, x), {}
    d = np.exp(log_softmax(layers[-1]))
    d[np.arange(len(y)), y] -= 1
    d /= len(y)
    for k in range(len(SIZES) - 1, 0, -1):
        grads[f"W{k}"], grads[f"b{k}"] = layers[k - 1].T @ d, d.sum(axis=0)
        d = (d @ p[f"W{k}"].T)*(layers[k - 1] > 0)
    return grads


def evaluate(p, x, y):
    """(mean cross-entropy, accuracy)."""
    scores = log_softmax(forward(p, x)[-1])
    return -float(scores[np.arange(len(y)), y].mean()), float((scores.argmax(axis=1) == y).mean())


def train(name, sets, epochs, seed, progress):
    """The parameters of the epoch with the lowest validation loss, that epoch, and both losses after every epoch."""
    (x, y), validation, _ = sets
    rng = np.random.default_rng(seed)  # the same start and the same batches for every optimizer
    kind, rate, hyper, _ = RUNS[name]
    batches = len(y)//BATCH
    params, steps = initial(rng), epochs*batches
    opt = kind(params, lr=fastopt.schedules.cosine(rate, steps=steps, warmup=steps//20), weight_decay=5e-4, **hyper)
    losses, best, bar = [], None, progress.add_task(name, total=epochs, info="")
    for epoch in range(1, epochs + 1):
        for chosen in rng.permutation(len(y))[:batches*BATCH].reshape(batches, BATCH):
            images, labels = shifted(x[chosen], rng), y[chosen]
            opt.step(lambda point, x=images, y=labels: gradient(point, x, y))  # Nesterov: point is the look-ahead point
        losses.append((evaluate(params, x, y)[0], evaluate(params, *validation)[0]))
        if best is None or losses[-1][1] < losses[best[1] - 1][1]:
            best = {k: v.copy() for k, v in params.items()}, epoch
        progress.update(bar, advance=1, info=f"loss {losses[-1][0]:.4f}, validation {losses[-1][1]:.4f}")
    return *best, np.array(losses)


def draw(path, results, test):
    """Both loss curves of each optimizer, the chosen epochs, and test images that were misread."""
    figure = Figure(figsize=(11, 7.2), layout="constrained")
    figure.suptitle("Handwritten digits: one network, three optimizers", fontsize=14, fontweight="bold", x=0.01,
                    ha="left")
    curves, mistakes = figure.subfigures(2, 1, height_ratios=(3, 1))
    axes = curves.subplots(1, 2, sharey=True)
    for ax, column, title in zip(axes, (0, 1), ("Training loss", "Validation loss (dot: the epoch chosen)"),
                                 strict=True):
        ax.set_title(title, fontsize=11, loc="left")
        ax.set(xlabel="epoch", yscale="log")
        ax.grid(axis="y", color="0.9")
        ax.spines[["top", "right"]].set_visible(False)
        for name, (_, epoch, losses, accuracy) in results.items():
            colour = RUNS[name][3]
            label = f"{name}: {accuracy:.2%} of the test images"
            ax.plot(np.arange(1, len(losses) + 1), losses[:, column], color=colour, lw=1.6, label=label)
            if column:
                ax.plot(epoch, losses[epoch - 1, 1], "o", color=colour, ms=8, mec="white", zorder=3)
    axes[0].set_ylabel("cross-entropy")
    axes[1].legend(frameon=False)
    wrong = [(name, k, read) for name, (params, *_) in results.items()
             for k, read in enumerate(forward(params, test[0])[-1].argmax(axis=1)) if read != test[1][k]]
    images = sorted({k for _, k, _ in wrong})
    mistakes.suptitle(f"Misread by at least one: {len(images)} of {len(test[1])} test images", fontsize=11, x=0.01,
                      ha="left")
    images = images[:10]
    for ax, k in zip(mistakes.subplots(1, 10), images + [None]*(10 - len(images)), strict=True):
        ax.axis("off")
        if k is not None:
            ax.imshow(test[0][k].reshape(8, 8), cmap="gray_r")
            readers = [f"{name}: {read}" for name, at, read in wrong if at == k]
            ax.set_title("\n".join([f"a {test[1][k]}", *readers]), fontsize=8)
    figure.savefig(path, dpi=130)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--plot", default="digits.png", metavar="FILE",
                        help="where to draw the loss curves (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=100,
                        help="passes over the training images (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0,
                        help="of the split, the start and the batches (default: %(default)s)")
    options = parser.parse_args()
    if options.epochs < 1:
        parser.error(f"--epochs is {options.epochs}, but at least 1 is needed.")
    sets, results = data(options.seed), {}
    columns = (TextColumn("{task.description:9}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
               TextColumn("{task.fields[info]}"))
    # matrices this small gain nothing from two BLAS threads; beside a busy neighbour two took ten times as long as one
    with threadpool_limits(1), Progress(*columns) as progress:
        for name in RUNS:
            params, epoch, losses = train(name, sets, options.epochs, options.seed, progress)
            results[name] = params, epoch, losses, evaluate(params, *sets[2])[1]
    for name, (_, epoch, losses, accuracy) in results.items():
        print(f"{name:9} test accuracy {accuracy:.2%} (epoch {epoch} of {options.epochs}, validation loss "
              f"{losses[epoch - 1, 1]:.4f})")
    draw(options.plot, results, sets[2])
    print(f"loss curves: {options.plot}")
    low = [name for name, (*_, accuracy) in results.items() if not accuracy > GOAL]
    if low:
        sys.exit(f"digits: {', '.join(low)} did not get above {GOAL:.0%} of the test images. Train for more epochs.")


if __name__ == "__main__":
    main()
