"""Derivatives and curvature of functions of trees by finite differences, and what they say about hyperparameters.

>>> s = suggest(problem.grad, w)
>>> opt = fastopt.Momentum(w, **s.momentum)

Only gradients are asked for; all is computed in float64, from what functions of float64, float32 or float16 trees
return.
"""
from .derivatives import hvp, jacobian
from .eigenvalues import Suggestion, condition_number, extreme_eigenvalues, largest_eigenvalue, operator, suggest
from .gradient_check import GradientCheck, LeafCheck, check_gradient

__all__ = ["GradientCheck", "LeafCheck", "Suggestion", "check_gradient", "condition_number", "extreme_eigenvalues",
           "hvp", "jacobian",
           "largest_eigenvalue", "operator", "suggest"]
