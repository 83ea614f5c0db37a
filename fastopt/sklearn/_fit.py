"""How the estimators of `fastopt.sklearn` are trained: checks of parameters, the solver, the loss of batches."""
import math
import os
import threading
from collections.abc import Iterator
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from .. import init, networks, proximal
from .._checks.extras import missing
from .._checks.numbers import NONNEGATIVE, check_number, check_option, check_whole, interval
from .._training.early_stopping import anew
from .._training.fit import Fit, fit
from ..optimizer import Optimizer
from ..optimizers import chosen

try:
    from threadpoolctl import ThreadpoolController  # scikit-learn depends on it
except ImportError as error:
    raise missing("fastopt.sklearn", error, "sklearn") from None

# Steps. Of 80 problems of 200 rows, the worst minimum is missed by 0.4 standard errors; by 1.2 at 100, by 98 at 10.
PATIENCE = 150
CURE = "Lower learning_rate, or standardise the features."
INITIALIZERS = {f"{kind}_{shape}": getattr(init, f"{kind}_{shape}")
                for kind in init.VARIANCES for shape in ("uniform", "normal")}

# What the parameters may be. `solver` checks the others.
OPTIONS = {**dict.fromkeys(("fit_intercept", "shuffle", "early_stopping"), (False, True)),
           "activation": tuple(networks.ACTIVATIONS), "initializer": tuple(INITIALIZERS)}
RANGES = {"alpha": NONNEGATIVE, "l1": NONNEGATIVE, "tol": NONNEGATIVE, "validation_fraction": interval("(0, 1)")}
WHOLE = ("max_iter", "n_iter_no_change", "batch_size", "hidden_layer_sizes")
WORDS: dict[str, tuple[str | None, ...]] = {"tol": (None,), "n_iter_no_change": ("auto",), "batch_size": ("auto", None)}


def check(model: Any) -> None:
    """TypeError or ValueError where a parameter of the estimator is none that it may be."""
    where = type(model).__name__
    for name, value in model.get_params(deep=False).items():
        words = WORDS.get(name, ())
        if (isinstance(value, (str, type(None))) and value in words) or (name == "initializer" and callable(value)):
            continue
        if name in OPTIONS:
            check_option(name, value, OPTIONS[name], where)
        elif name in RANGES:
            check_number(name, value, where, " or None" if words else "", RANGES[name])
        elif name in WHOLE:
            several = name == "hidden_layer_sizes" and isinstance(value, (list, tuple, np.ndarray))
            cure = f", or give {' or '.join(map(repr, words))}" if words else ""
            for n in value if several else [value]:
                check_whole(name, n, where, cure=f"Change {name}{cure}.")
        elif name == "solver_options" and not isinstance(value, (dict, type(None))):
            raise ValueError(f"{where}: solver_options is {value!r}, but a dict or None is needed. Change it: "
                             "solver_options={...}.")


class OneThread:
    """While a fit runs, matrix products use one thread: their last bits depend on how many (those of steps do not)."""

    def __init__(self) -> None:
        self.lock, self.fits = threading.RLock(), 0
        if hasattr(os, "register_at_fork"):  # Unix
            os.register_at_fork(before=self.lock.acquire, after_in_parent=self.lock.release, after_in_child=self.forked)

    @cached_property
    def controller(self) -> Any:
        return ThreadpoolController()  # looks through all libraries for 7 ms

    def __enter__(self) -> None:
        with self.lock:
            if self.fits == 0:
                self.limits = self.controller.limit(limits=1, user_api="blas")
            self.fits += 1

    def __exit__(self, *_: object) -> None:
        with self.lock:
            if self.fits == 1:
                self.limits.restore_original_limits()
            self.fits = max(self.fits - 1, 0)  # 0 in a child, at the end of a fit that had begun before the fork

    def forked(self) -> None:
        """A child has none of the threads whose fits would give its limits back at their ends."""
        if self.fits:
            self.limits.restore_original_limits()
        self.fits = 0
        self.lock.release()


ONE_THREAD = OneThread()


class Data(NamedTuple):
    """Rows to learn from; s are the sample weights, or None."""

    x: np.ndarray
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


def standard(y: np.ndarray, s: np.ndarray | None, centre: bool) -> tuple[np.ndarray, Any, np.ndarray]:
    """(t, mean, deviation) with y = t*deviation + mean, for each column, over the rows that weigh.

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
        constant = deviation == 0
        return d/np.where(constant, 1, deviation), mean*top, np.where(constant, 1, deviation*top)


def r2(y: np.ndarray, z: np.ndarray, s: np.ndarray | None) -> float:
    """scikit-learn's r2_score, which checks its arguments for longer than a small epoch takes.

    1 - sum((y - z)^2)/sum((y - mean)^2), the mean over the targets; of a constant one, 1 where z is exact, else 0.
    """
    error, total = (np.average((y - other)**2, axis=0, weights=s) for other in (z, np.average(y, axis=0, weights=s)))
    return float(np.where(total == 0, error == 0, 1 - error/np.where(total == 0, 1, total)).mean())


def joined(point: list[networks.Parameters]) -> networks.Parameters:
    """The network of both groups. Pairs for W count from 0: Nesterov's look-ahead point, or a step, may lie beyond."""
    merged = {**point[0], **point[1]}
    return {k: np.maximum(w[0], 0) - np.maximum(w[1], 0) if w.ndim == 3 else w for k, w in merged.items()}


def solver(model: Any, params: list[networks.Parameters]) -> Optimizer:
    """The solver. Weights and intercepts are groups of it: weight decay in solver_options is for weights alone."""
    where = type(model).__name__
    kind = chosen(model.solver, where, "solver")
    options = model.solver_options or {}
    given = {k: v for k, v in (("lr", model.learning_rate), ("momentum", model.momentum)) if v is not None}
    if twice := options.keys() & {"lr", *given}:
        raise ValueError(f"{where}: solver_options has {', '.join(sorted(twice))}, but learning_rate and momentum are "
                         "parameters of their own. Give them there.")
    if "momentum" in given and "momentum" not in kind.rule.defaults:
        raise ValueError(f"{where}: momentum is {model.momentum!r}, but {kind.__name__} has none. Leave it None; "
                         f"solver_options may hold {', '.join(k for k in kind.rule.defaults if k != 'lr')}.")
    opt = kind([{"params": params[0]}, {"params": params[1], "weight_decay": 0.0}], **anew({**given, **options}))
    if opt.groups[0]["maximize"]:
        raise ValueError(f"{where}: maximize is True in solver_options, but a loss should fall. Leave it out.")
    return opt


class Run:
    """One training: the functions that `fastopt.fit` calls, and what they note.

    With l1 > 0, W is a pair (W+, W-), both 0 or more: W is their difference, and abs(W) their sum. So the penalty has a
    constant gradient, its kink is a bound to which each step is projected, and the minimum is where any rule rests.
    (Soft-thresholding by lr*l1 suits plain SGD alone: with Momentum at 0.9 it leaves a tenth of the penalty.)
    """

    def __init__(self, model: Any, data: Data, held: Data | None, task: Task, params: networks.Parameters, seed: Any):
        self.model, self.held, self.task, self.rng = model, held, task, np.random.default_rng(seed)
        self.data = data if data.s is None else data._replace(s=data.s/data.s.mean())
        # The slopes of (y - mean)/scale are at most max(abs(x)) at W = 0: with such an l1 or a larger one all of W is 0
        self.l1 = np.minimum(float(model.l1)/task.scale, 10*float(np.abs(data.x).max())) if model.l1 else 0.0
        weights = {k: np.stack([np.maximum(w, 0), np.maximum(-w, 0)]) if model.l1 else w
                   for k, w in params.items() if k[0] == "W"}
        self.params = [weights, {k: b for k, b in params.items() if k[0] == "b"}]
        n, size = len(data.x), model.batch_size
        self.epoch = -(-n//(n if size is None else min(n, 200 if size == "auto" else size)))  # steps
        auto = max(10, -(-PATIENCE//self.epoch)) if model.n_iter_no_change == "auto" else model.n_iter_no_change
        self.patience = None if model.tol is None else auto
        self.values: list[float] = []  # of the steps of the epoch
        self.curve: list[float] = []
        self.scores: list[float] = []
        self.top, self.best = -math.inf, list[np.ndarray]()  # the best score, and the parameters that had it

    def batches(self, epoch: int) -> Iterator[Any]:
        """The rows of each batch, as many in each, give or take one. Where one batch holds all, they stay in order."""
        n = len(self.data.x)
        if self.epoch == 1:
            return iter([slice(None)])
        return iter(np.array_split(self.rng.permutation(n) if self.model.shuffle else np.arange(n), self.epoch))

    def value_and_grad(self, point: list[networks.Parameters], rows: Any) -> tuple[float, list[networks.Parameters]]:
        batch, params, model = self.data.rows(rows), joined(point), self.model
        total = len(batch.x) if batch.s is None else float(batch.s.sum())
        share = total*self.epoch/len(self.data.x)  # above 1 for heavy batches: the mean of an epoch is the objective
        value, grads = networks.value_and_grad(params, batch.x, batch.y, self.task.loss, model.activation, model.alpha,
                                               batch.s)
        if share != 1:
            value, grads = share*value, {k: share*g for k, g in grads.items()}
        if model.l1:
            value += sum(float((self.l1*np.abs(params[k])).sum()) for k in point[0])
            grads.update({k: np.stack([self.l1 + grads[k], self.l1 - grads[k]]) for k in point[0]})
        if not model.fit_intercept:
            grads["b1"][...] = 0
        self.values.append(value)
        return value, [{k: grads[k] for k in group} for group in point]

    def project(self, now: Any) -> None:
        """After each step: the pairs of W stay 0 or more."""
        if self.model.l1:
            for w in self.params[0].values():
                proximal.project(w, low=0)

    def validate(self, params: Any) -> float:
        """After each epoch: its mean loss, or the score of the rows held out with the sign turned."""
        self.curve.append(sum(self.values)/len(self.values))
        self.values.clear()
        if self.held is None:
            return self.curve[-1]
        outputs = networks.forward(joined(self.params), self.held.x, self.model.activation)[-1]
        score = self.model._score(outputs, self.held) if np.isfinite(outputs).all() else math.nan
        self.scores.append(score)
        if score > self.top:
            self.top, self.best = score, [a.copy() for group in self.params for a in group.values()]
        return -score

    def train(self) -> Fit:
        """Run the solver. What diverges late has the weights of the best epoch, and `stopped` is "error"."""
        model = self.model
        try:
            with ONE_THREAD, np.errstate(over="ignore", invalid="ignore"):  # infinity is an error in a moment
                return fit(solver(model, self.params), self.value_and_grad, self.batches, model.max_iter*self.epoch,
                           validate=self.validate, validate_every=self.epoch, patience=self.patience,
                           min_delta=model.tol or 0.0, restore_best=model.early_stopping, callback=self.project)
        except FloatingPointError as error:
            if self.best:  # as in scikit-learn
                for group in self.params:
                    for a in group.values():
                        a[...] = self.best.pop(0)
                return error.result  # type: ignore[attr-defined]
            raise ValueError(f"{type(model).__name__}: the loss is not finite in epoch {len(self.curve) + 1}. "
                             f"{CURE}") from error

    def result(self) -> networks.Parameters:
        """The network for targets as they were given."""
        params = joined(self.params)
        last = len(params)//2
        for name, mean in ((f"W{last}", 0.0), (f"b{last}", self.task.mean)):
            with np.errstate(over="ignore"):
                params[name] = (params[name]*self.task.scale + mean).astype(params[name].dtype)
        if not all(np.isfinite(a).all() for a in params.values()):
            raise ValueError(f"{type(self.model).__name__}: the weights are not finite after epoch {len(self.curve)}. "
                             f"{CURE}")
        return params
