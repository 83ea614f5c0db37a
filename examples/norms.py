"""The norms of parameters, gradients and updates while a network learns, for a log; what LAMB does to them.

    python examples/norms.py [--log FOLDER]

The network of digits.py takes 200 steps with AdamW, and 200 with LAMB. Every tenth step measures. The table has, for
each tensor, the median of |update|/|parameters|. Under AdamW it differs from tensor to tensor; under LAMB it is the
learning rate. With --log the norms go to files for TensorBoard (pip install tensorboard torch; then
tensorboard --logdir FOLDER). The program exits with 1 unless LAMB's ratios are its rate, and AdamW's are not alike.
"""
import argparse
import sys

import numpy as np

import fastopt

try:
    from digits import BATCH, data, gradient, initial, shifted
except ImportError as error:
    sys.exit(f'norms: {error}, but scikit-learn, matplotlib and rich are needed. Run: pip install "fastopt[examples]"')

STEPS, EVERY, RATE = 200, 10, 1e-2


def writer(folder):
    """What writes numbers for TensorBoard; None without a folder."""
    if folder is None:
        return None
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        sys.exit(f"norms: {error}, but --log needs it. Run: pip install tensorboard torch")
    return SummaryWriter(folder)


def train(kind, x, y, log):
    """{tensor: its ratios |update|/|parameters|}, of every tenth step."""
    rng = np.random.default_rng(0)
    params = initial(rng)
    opt, ratios = kind(params, lr=RATE), {name: [] for name in params}
    for t in range(STEPS):
        chosen = rng.integers(len(y), size=BATCH)
        opt.step(gradient(params, shifted(x[chosen], rng), y[chosen]), measure=t % EVERY == 0)
        if t % EVERY == 0:
            for what, norms in opt.measures.items():
                for name, norm in norms.items():
                    if log is not None:
                        log.add_scalar(f"{kind.__name__} {what}/{name}", norm, t)
            for name, norm in opt.measures["updates"].items():
                ratios[name].append(norm/max(opt.measures["params"][name], 1e-30))
    return {name: np.median(of[1:]) for name, of in ratios.items()}  # biases begin at 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--log", metavar="FOLDER", help="where to write files for TensorBoard")
    log = writer(parser.parse_args().log)
    (x, y), _, _ = data(0)
    found = {kind.__name__: train(kind, x, y, log) for kind in (fastopt.AdamW, fastopt.LAMB)}
    print(f"{'|update|/|parameters|':24}" + "".join(f"{name:>12}" for name in found))
    for name in found["LAMB"]:
        print(f"{name:24}" + "".join(f"{ratios[name]:12.5f}" for ratios in found.values()))
    if log is not None:
        log.close()
    spread = max(found["AdamW"].values())/min(found["AdamW"].values())
    exact = all(abs(ratio/RATE - 1) < 1e-4 for ratio in found["LAMB"].values())
    print(f"AdamW's largest is {spread:.1f} times its smallest; LAMB's are {'all' if exact else 'NOT all'} {RATE}")
    return 0 if exact and spread > 2 else 1


if __name__ == "__main__":
    sys.exit(main())
