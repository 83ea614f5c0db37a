"""Torch's optimizers with fastopt's steps: the same classes, arguments, states and checkpoints.

    opt = fastopt.torch.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)

Each class is a subclass of torch's own. So schedulers, hooks, closures, `GradScaler`, and what wraps optimizers
(`ZeroRedundancyOptimizer`, FSDP2, `torch.distributed.checkpoint`) take it as that. `optimizer` makes such a class of
any rule. Beside torch's arguments each class takes these:

- `state`: how states are stored, as in fastopt's optimizers: "bf16s", "q8", {"v": "q8"}, or a function of the path and
  the tensor. By default they are float32, and float64 for float64 parameters.
- `rounding`: how 16-bit parameters are rounded, "nearest", "stochastic" or "remainder". With the last, ``opt.state``
  holds what bfloat16 lacks of a float32. If no parameter has 16 bits, it has no effect, and this warns.
- `seed`: the seed of the random bits of stochastic rounding.
- `cautious`, `cautious_decay`, `update_clip`, `update_rms`, `adaptive_clip`, `trust_ratio`, `trust_coefficient`,
  `mars`, `grokfast` and `schedule_free`: modifiers, as in fastopt's optimizers. A group may have its own.

With `schedule_free`, call ``opt.eval()`` before you evaluate or save the model. The parameters are then at the point to
evaluate. Call ``opt.train()`` before you go on. ``betas[0]`` of Adam and its kin has no effect. Elsewhere `momentum`
stays at 0.

Steps work on the memory of the parameters and of the tensors in ``opt.state``, where they are. One optimizer of fastopt
takes them for each device, and for each rule that the groups ask for: SGD with and without momentum, for example.
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
