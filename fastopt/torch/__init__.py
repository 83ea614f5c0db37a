"""Torch's optimizers with fastopt's steps: the same classes, arguments, states and checkpoints.

    opt = fastopt.torch.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)

Each class is a subclass of torch's own, so that schedulers, hooks, closures, `GradScaler`, and what wraps optimizers
(`ZeroRedundancyOptimizer`, FSDP2, `torch.distributed.checkpoint`) take it as that. `optimizer` makes one of any rule.
Beside torch's arguments each takes ``state=``, ``rounding=`` and ``seed=``, as fastopt's optimizers do.

An optimizer of fastopt does the steps: one for each rule that the groups ask for (SGD with and without momentum, for
example) and each device. It steps the memory of the parameters and of the tensors in ``opt.state``, where they are.
"""
from .._checks.extras import missing

try:
    import torch  # noqa: F401
except ImportError as error:
    raise missing("fastopt.torch", error, "torch") from None

from .optimizers import (
    SGD,
    Adadelta,
    Adagrad,
    Adam,
    Adamax,
    AdamW,
    Lion,
    NAdam,
    RAdam,
    RMSprop,
    Rprop,
    SparseAdam,
    optimizer,
)

__all__ = ["SGD", "Adadelta", "Adagrad", "Adam", "AdamW", "Adamax", "Lion", "NAdam", "RAdam", "RMSprop", "Rprop",
           "SparseAdam", "optimizer"]
