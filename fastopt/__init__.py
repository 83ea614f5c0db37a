"""Fused optimizer updates at memory speed, for NumPy arrays."""
from . import rules, schedules
from .optimizer import Optimizer, optimizer
from .optimizers import SGD, AdaGrad, Adam, AdamW, AMSGrad, Lion, Momentum, NAdam, Nesterov, RAdam, RMSProp
from .registry import rule

__version__ = "0.1.0"
__all__ = ["SGD", "AMSGrad", "AdaGrad", "Adam", "AdamW", "Lion", "Momentum", "NAdam", "Nesterov", "Optimizer", "RAdam", "RMSProp",
           "optimizer", "rule", "rules", "schedules"]
