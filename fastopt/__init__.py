"""Optimizers for NumPy and CUDA arrays: each step is one compiled loop over memory.

You compute the gradients, with any library or by hand. ``opt.step(gradients)`` updates the parameters in place.
"""
from importlib import import_module
from typing import TYPE_CHECKING, Any

from . import notation, rules, schedules, storage
from ._checks.versions import warn_of_newer
from ._rule.rule import rule
from ._tensors.rows import Rows
from .optimizer import Optimizer
from .optimizers import *  # noqa: F403
from .optimizers import __all__ as _of_rules

__version__ = "0.1.0"
__all__ = [*_of_rules, "Optimizer", "Rows", "fit", "notation", "rule", "rules", "schedules", "storage"]
LAZY = ("bitsandbytes", "cuda_code", "curvature", "files", "init", "kernels", "mpi", "networks", "presets", "problems",
        "proximal", "scipy", "sklearn", "torch", "trees")

if TYPE_CHECKING:  # for editors and type checkers: LAZY, each under its own name
    from . import bitsandbytes as bitsandbytes
    from . import cuda_code as cuda_code
    from . import curvature as curvature
    from . import files as files
    from . import init as init
    from . import kernels as kernels
    from . import mpi as mpi
    from . import networks as networks
    from . import presets as presets
    from . import problems as problems
    from . import proximal as proximal
    from . import scipy as scipy
    from . import sklearn as sklearn
    from . import torch as torch
    from . import trees as trees
    from ._training.fit import fit
else:
    def __getattr__(name: str) -> Any:
        """Import a module that a step does not need when it is first named: importing fastopt takes 12 % less so."""
        if name == "fit":
            return import_module(f"{__name__}._training.fit").fit
        if name in LAZY:
            return import_module(f"{__name__}.{name}")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name,
                             obj=import_module(__name__))  # so that Python suggests RMSProp for RMSprop


def __dir__() -> list[str]:
    return sorted([*__all__, *LAZY, "__version__"])


warn_of_newer()
