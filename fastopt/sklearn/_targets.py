"""Rows to learn from, and their targets as a loss takes them."""
from typing import Any, NamedTuple

import numpy as np

from .. import networks


class Data(NamedTuple):
    """Rows to learn from, x dense or sparse by rows; s are the sample weights, or None."""

    x: Any
    y: np.ndarray
    s: np.ndarray | None

    def rows(self, chosen: Any) -> "Data":
        return Data(self.x[chosen], self.y[chosen], None if self.s is None else self.s[chosen])


class Task(NamedTuple):
    """Targets as the loss takes them. Outputs times scale plus mean are targets as they were given."""

    y: np.ndarray
    outputs: int
    loss: str
    scale: Any = 1.0
    mean: Any = 0.0

    def check(self, where: str, dtype: Any) -> None:
        """ValueError where weights in the targets' own units would leave the float type."""
        limits = np.finfo(dtype)
        low, high = float(limits.tiny/limits.eps), float(limits.max*limits.eps)
        for j, (mean, scale) in enumerate(zip(*np.atleast_1d(self.mean, self.scale), strict=True)):
            size = max(scale, abs(mean))
            if scale < low or size > high:
                raise ValueError(f"{where}: target {j} has the mean {mean:g} and the deviation {scale:g}, but a "
                                 f"deviation from {low:.0e} to {high:.0e}, and a mean no further from 0, are needed in "
                                 f"{np.dtype(dtype)}. Divide y by {size:.0e}.")

    def outward(self, params: networks.Parameters, l1: float) -> networks.Parameters:
        """A network for targets as they were given, of one that was trained on these.

        To add one number to a weight of all classes changes no probability: with an L2 penalty it is least where their
        sum is 0. (With L1, the minimum knows by itself.)
        """
        found, last = dict(params), len(params)//2
        for name, mean in ((f"W{last}", 0.0), (f"b{last}", self.mean)):
            with np.errstate(over="ignore"):
                found[name] = (found[name]*self.scale + mean).astype(found[name].dtype)
        if self.loss == "softmax" and last == 1:
            for name in ("b1",) if l1 else ("W1", "b1"):
                found[name] -= found[name].mean(axis=-1, keepdims=True)
        return found

    def inward(self, params: networks.Parameters) -> networks.Parameters:
        """What `outward` makes into this network, but for the sums over classes."""
        found, last = {k: a.copy() for k, a in params.items()}, len(params)//2
        for name, mean in ((f"W{last}", 0.0), (f"b{last}", self.mean)):
            found[name] = ((found[name] - mean)/self.scale).astype(found[name].dtype)
        return found


def standard(y: np.ndarray, s: np.ndarray | None, centre: bool) -> tuple[np.ndarray, np.ndarray]:
    """(mean, deviation) of each column, over the rows that weigh.

    The deviation of a constant is 1. Computed of y/max(abs(y)), whose squares are in range, less the first row, so that
    a constant has no deviation from rounding.
    """
    kept = slice(None) if s is None else s > 0
    weights = None if s is None else s[kept]
    top = np.abs(y[kept]).max(axis=0)
    top[top == 0] = 1
    with np.errstate(over="ignore", invalid="ignore"):  # of rows that weigh 0
        u = y/top
        first = u[kept][0]
        mean = first + np.average(u[kept] - first, axis=0, weights=weights) if centre else np.zeros(len(top))
        d = u - mean
        deviation = np.sqrt(np.average(d[kept]**2, axis=0, weights=weights))
        return mean*top, np.where(deviation == 0, 1, deviation*top)


def r2(y: np.ndarray, z: np.ndarray, s: np.ndarray | None) -> float:
    """scikit-learn's r2_score, which checks its arguments for longer than a small epoch takes.

    1 - sum((y - z)^2)/sum((y - mean)^2), the mean over the targets; of a constant one, 1 where z is exact, else 0.
    """
    error, total = (np.average((y - other)**2, axis=0, weights=s) for other in (z, np.average(y, axis=0, weights=s)))
    return float(np.where(total == 0, error == 0, 1 - error/np.where(total == 0, 1, total)).mean())
