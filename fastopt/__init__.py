"""Fused optimizer updates at memory speed, for NumPy arrays."""
from importlib import import_module
from types import ModuleType

from . import rules, schedules
from .optimizer import Optimizer, optimizer
from .optimizers import SGD, AdaGrad, Adam, AdamW, AMSGrad, Lion, Momentum, NAdam, Nesterov, RAdam, RMSProp
from .registry import rule
from .training import fit

__version__ = "0.1.0"
__all__ = ["SGD", "AMSGrad", "AdaGrad", "Adam", "AdamW", "Lion", "Momentum", "NAdam", "Nesterov", "Optimizer", "RAdam", "RMSProp", "fit",
           "optimizer", "rule", "rules", "schedules"]
LAZY = ("curvature", "files", "init", "kernels", "networks", "presets", "problems", "proximal", "scipy", "sklearn")


def __getattr__(name: str) -> ModuleType:
    """Modules that a step does not need, some of which need an extra, are imported where they are first named."""
    if name in LAZY:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *LAZY})
