"""Optimizers whose state is shared out among the processes of an MPI program, as in ZeRO-1 (Rajbhandari et al. 2020).

A process of such a program is called a rank. Every rank has all parameters, and computes the gradient of its part of
the data. A step sums the gradients of all ranks. Each rank gets the sums for its share of the elements
(reduce-scatter), updates its share, whose state no other rank has, and sends the new parameters to all others
(all-gather).

    opt = fastopt.mpi.Sharded(fastopt.Adam, params, lr=1e-3)
    params = opt.params                                  # equal on all ranks, those of rank 0
    for batch in batches_of(opt.rank, opt.size):
        opt.step(gradient(params, batch), clip_norm=1.0)

    mpirun -n 4 python -m mpi4py train.py                # -m mpi4py: an error on one rank ends them all
"""
from .._checks.extras import missing

try:
    import mpi4py.MPI  # noqa: F401
except ImportError as error:
    raise missing("fastopt.mpi", error, "mpi") from None
except RuntimeError as error:
    raise ImportError("fastopt.mpi: mpi4py finds no MPI library, but one is needed. Install that of your cluster, or: "
                      "pip install mpich") from error

from .sharded import Sharded

__all__ = ["Sharded"]
