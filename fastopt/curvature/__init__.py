"""Derivatives and curvature of functions of trees, by finite differences, and the hyperparameters that they suggest.

>>> s = suggest(problem.grad, w)
>>> opt = fastopt.Momentum(w, **s.momentum)

You give the gradient, a function of a tree of float64, float32 or float16 arrays; for `check_gradient` the value, too.
All else is computed in float64.
"""
from .._checks.extras import missing

try:
    from .derivatives import hvp, jacobian
    from .eigenvalues import Suggestion, condition_number, extreme_eigenvalues, largest_eigenvalue, operator, suggest
    from .gradient_check import GradientCheck, LeafCheck, check_gradient
except ImportError as error:
    raise missing("fastopt.curvature", error, "scipy") from None

__all__ = ["GradientCheck", "LeafCheck", "Suggestion", "check_gradient", "condition_number", "extreme_eigenvalues",
           "hvp", "jacobian", "largest_eigenvalue", "operator", "suggest"]
