"""Train the network of digits.py on several processes, each of which keeps a share of the optimizer's state.

    mpirun -n 4 python -m mpi4py examples/digits_mpi.py

Every batch is shared out, too. The first process prints what all of them keep in memory, and the test accuracy of the
epoch with the lowest validation loss. The program exits with 1 unless that is above 97 %.
"""
import argparse
import sys

import numpy as np

import fastopt

try:
    from digits import GOAL, data, evaluate, gradient, initial, shifted
    from threadpoolctl import threadpool_limits

    from fastopt.mpi import Sharded
except ImportError as error:
    sys.exit(f'digits_mpi: {error}. Or all that it needs: pip install "fastopt[examples,mpi]" mpich')


BATCH = 96  # images, of all ranks together


def train(opt, sets, epochs, seed):
    """(the lowest validation loss, its epoch, the test accuracy there); all ranks find the same."""
    (x, y), validation, test = sets
    rng, best = np.random.default_rng(seed), (np.inf, 0, 0.0)
    for epoch in range(1, epochs + 1):
        for chosen in rng.permutation(len(y))[:len(y)//BATCH*BATCH].reshape(-1, BATCH):
            images, labels = shifted(x[chosen], rng), y[chosen]  # all ranks draw alike, and take their rows
            opt.step(gradient(opt.params, images[opt.rank::opt.size], labels[opt.rank::opt.size]))
        best = min(best, (evaluate(opt.params, *validation)[0], epoch, evaluate(opt.params, *test)[1]))
    return best


def bytes_of(tree):
    return sum(array.nbytes for array in fastopt.trees.flatten(tree)[0])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=40,
                        help="passes over the training images (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0,
                        help="of the split, the start and the batches (default: %(default)s)")
    options = parser.parse_args()
    if options.epochs < 1:
        parser.error(f"--epochs is {options.epochs}, but at least 1 is needed.")
    sets = data(options.seed)
    steps = options.epochs*(len(sets[0][1])//BATCH)
    opt = Sharded(fastopt.Adam, initial(np.random.default_rng(options.seed)), b2=0.99, weight_decay=5e-4,
                  lr=fastopt.schedules.cosine(6e-3, steps=steps, warmup=steps//20))
    if BATCH % opt.size:
        sys.exit(f"digits_mpi: {opt.size} ranks, but each needs as many of the {BATCH} images of a batch. Take 4.")
    with threadpool_limits(1):
        loss, epoch, accuracy = train(opt, sets, options.epochs, options.seed)
    kept = opt.comm.gather([bytes_of(tree) for tree in (opt.params, opt.grads, opt.shard.state)])
    if opt.rank > 0:
        return
    whole = sum(state for *_, state in kept)
    for rank, (params, grads, state) in enumerate(kept):
        print(f"rank {rank}: parameters {params/1e3:.0f} kB, gradients {grads/1e3:.0f} kB, state {state/1e3:.0f} of "
              f"{whole/1e3:.0f} kB")
    print(f"test accuracy {accuracy:.2%} (epoch {epoch} of {options.epochs}, validation loss {loss:.4f})")
    if not accuracy > GOAL:
        sys.exit(f"digits_mpi: not above {GOAL:.0%} of the test images. Train for more epochs.")


if __name__ == "__main__":
    main()
