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
from .._training.early_stopping import anew, plateaus
from .._training.fit import Fit, fit
from ..optimizer import Optimizer
from ..optimizers import chosen
from ._targets import Data, Task

try:
    from threadpoolctl import ThreadpoolController  # scikit-learn depends on it, and on SciPy

    from ..curvature import largest_eigenvalue
except ImportError as error:
    raise missing("fastopt.sklearn", error, "sklearn") from None

# Steps. Of 80 problems of 200 rows, Adam at tol=1e-5 missed the worst minimum by 0.4 standard errors; at 100 of
# patience by 1.2, at 10 by 98.
PATIENCE = 150
CURE = "Lower learning_rate, or standardise the features."
# What a loss is curved by an output, at most; and the solvers whose learning rate should be below 2 over the curvature.
CURVED = {"squared": 1.0, "softmax": 0.5, "logistic": 0.25}
DESCENTS = ("sgd", "momentum", "nesterov")
INITIALIZERS = {f"{kind}_{shape}": getattr(init, f"{kind}_{shape}")
                for kind in init.VARIANCES for shape in ("uniform", "normal")}

# What the parameters may be. `solver` checks the others.
OPTIONS = {**dict.fromkeys(("fit_intercept", "shuffle", "early_stopping", "warm_start"), (False, True)),
           "activation": tuple(networks.ACTIVATIONS), "initializer": tuple(INITIALIZERS)}
RANGES = {"alpha": NONNEGATIVE, "l1": NONNEGATIVE, "tol": NONNEGATIVE, "validation_fraction": interval("(0, 1)")}
WHOLE = {"max_iter": 1, "n_iter_no_change": 1, "batch_size": 1, "hidden_layer_sizes": 1, "verbose": 0}  # least
WORDS: dict[str, tuple[str | None, ...]] = {
    "tol": (None,), "n_iter_no_change": ("auto",), "batch_size": ("auto", None), "solver_options": (None,),
    "class_weight": ("balanced", None)}


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
                flag = name == "verbose" and isinstance(n, bool)
                check_whole(name, int(n) if flag else n, where, WHOLE[name], f"Change {name}{cure}.")
        elif name in ("solver_options", "class_weight") and not isinstance(value, dict):
            raise ValueError(f"{where}: {name} is {value!r}, but a dict or {' or '.join(map(repr, words))} is needed. "
                             f"Change it: {name}={{...}}.")


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


def paired(params: networks.Parameters, l1: float) -> list[networks.Parameters]:
    """The groups of the solver, see `Run`: weights and intercepts."""
    weights = {k: np.stack([np.maximum(w, 0), np.maximum(-w, 0)]) if l1 else w
               for k, w in params.items() if k[0] == "W"}
    return [weights, {k: b for k, b in params.items() if k[0] == "b"}]


def joined(point: list[networks.Parameters]) -> networks.Parameters:
    """The network of both groups. Pairs for W count from 0: Nesterov's look-ahead point, or a step, may lie beyond."""
    merged = {**point[0], **point[1]}
    return {k: np.maximum(w[0], 0) - np.maximum(w[1], 0) if w.ndim == 3 else w for k, w in merged.items()}


class Restarted:
    """Nesterov's momentum (k - 1)/(k + 2) in step k, counted anew when the loss rises: for convex losses without noise.

    Nesterov 1983; O'Donoghue and Candes 2015.
    """

    def __init__(self) -> None:
        self.since, self.last = 0, math.inf

    def __call__(self, t: int) -> float:
        return (t - self.since - 1)/(t - self.since + 2)

    def observe(self, loss: float, t: int) -> None:
        """Take in the loss that step t saw."""
        if loss > self.last:
            self.since = t
        self.last = loss


def solver(model: Any, params: list[networks.Parameters], auto: dict[str, Any]) -> Optimizer:
    """The solver. Weights and intercepts are groups of it: weight decay in solver_options is for weights alone.

    `auto` is what it has for learning_rate="auto", unless the model says otherwise.
    """
    where = type(model).__name__
    kind = chosen(model.solver, where, "solver")
    options = model.solver_options or {}
    given = {k: v for k, v in (("lr", model.learning_rate), ("momentum", model.momentum)) if v is not None}
    if twice := options.keys() & {"lr", *given}:
        raise ValueError(f"{where}: solver_options has {', '.join(sorted(twice))}, but learning_rate and momentum are "
                         "parameters of their own. Give them there.")
    given = {**{k: v for k, v in auto.items() if k not in options}, **given, **({"lr": auto["lr"]} if auto else {})}
    if "momentum" in given and "momentum" not in kind.rule.defaults:
        raise ValueError(f"{where}: momentum is {model.momentum!r}, but {kind.__name__} has none. Leave it None; "
                         f"solver_options may hold {', '.join(k for k in kind.rule.defaults if k != 'lr')}.")
    opt = kind([{"params": params[0]}, {"params": params[1], "weight_decay": 0.0}], **anew({**given, **options}))
    if opt.groups[0]["maximize"]:
        raise ValueError(f"{where}: maximize is True in solver_options, but a loss should fall. Leave it out.")
    return opt


def resume(opt: Optimizer, kept: dict[str, Any]) -> None:
    """Take over the state of an optimizer before, but no hyperparameter: those are what the model says now."""
    now = [dict(group) for group in opt.groups]
    opt.load_state_dict({k: v for k, v in kept["state"].items() if k != "functions"}, convert=True)
    for group, values in zip(opt.groups, now, strict=True):
        group.update({k: v for k, v in values.items() if group[k] is not v and group[k] != v})
    for plateau, state in zip(plateaus(opt), kept["plateaus"], strict=False):
        plateau.load_state_dict(state)


class Live(NamedTuple):
    """A solver that a training has left, what it was asked for with, its parameters, and what was kept of it."""

    opt: Optimizer
    asked: tuple[Any, ...]
    params: list[networks.Parameters]
    kept: dict[str, Any]

    def takes(self, asked: tuple[Any, ...], params: list[networks.Parameters], kept: Any) -> bool:
        """Whether it is what `solver` and `resume` would make of this, which are its parameters then."""
        kinds = [[[(name, a.shape, a.dtype) for name, a in group.items()] for group in of]
                 for of in (self.params, params)]
        fits = kept is self.kept and asked == self.asked and kinds[0] == kinds[1]
        if fits:
            for mine, given in zip(self.params, params, strict=True):
                for name, a in given.items():
                    mine[name][...] = a
        return fits


def stays(value: Any) -> bool:
    """Whether nobody can change a value in place, and it equals another where it does the same."""
    return all(map(stays, value)) if type(value) is tuple else value is None or callable(value) or isinstance(
        value, (bool, int, float, str))


class Run:
    """One training: the functions that `fastopt.fit` calls, and what they note.

    With l1 > 0, W is a pair (W+, W-), both 0 or more: W is their difference, and abs(W) their sum. So the penalty has a
    constant gradient, its kink is a bound to which each step is projected, and the minimum is where any rule rests.
    (Soft-thresholding by lr*l1 suits plain SGD alone: with Momentum at 0.9 it leaves a tenth of the penalty.)
    """

    def __init__(self, model: Any, data: Data, held: Data | None, task: Task, params: networks.Parameters, rng: Any,
                 more: bool):
        self.model, self.held, self.task, self.rng, self.more = model, held, task, rng, more
        self.data = data if data.s is None or more else data._replace(s=data.s/data.s.mean())
        # The slopes of (y - mean)/scale are at most max(abs(x)) at W = 0: with such an l1 or a larger one all of W is 0
        self.l1 = np.minimum(float(model.l1)/task.scale, 10*float(np.abs(data.x).max())) if model.l1 else 0.0
        self.params = paired(params, model.l1)
        n, size = len(data.y), model.batch_size
        self.epoch = -(-n//(n if size is None else min(n, 200 if size == "auto" else size)))  # steps
        auto = max(10, -(-PATIENCE//self.epoch)) if model.n_iter_no_change == "auto" else model.n_iter_no_change
        self.epochs = 1 if more else model.max_iter
        self.patience = None if more or model.tol is None else auto
        self.values: list[float] = []  # of the steps of the epoch
        self.curve: list[float] = list(model.loss_curve_) if more and hasattr(model, "loss_curve_") else []
        self.scores: list[float] = []
        self.momentum = Restarted()
        self.top, self.best = -math.inf, list[np.ndarray]()  # the best score, and the parameters that had it

    def auto(self) -> dict[str, Any]:
        """What the solver has for learning_rate="auto" of a linear model: 1/curvature, and Nesterov's momentum for it.

        In batches, or with more to come, a tenth of it, and the solver's own momentum: the sum of ten such steps.
        """
        model = self.model
        if len(self.params[1]) > 1 or not (isinstance(model.learning_rate, str) and model.learning_rate == "auto"):
            return {}
        name = chosen(model.solver, type(model).__name__, "solver").rule.name
        if name not in DESCENTS:
            return {"lr": 0.02}
        curved = self.curvature()
        noisy = self.more or self.epoch > 1
        return {"lr": (0.1 if noisy else 1)/curved if curved else 1.0,
                **({"momentum": self.momentum} if name == "nesterov" and not noisy else {})}

    def curvature(self) -> float:
        """The largest eigenvalue that the objective's Hessian may have, of weights and intercept of a linear model."""
        x, s, with_intercept = self.data.x, self.data.s, float(self.model.fit_intercept)

        def product(_: Any, v: list[np.ndarray]) -> list[np.ndarray]:
            u = (x @ v[0].astype(x.dtype) + with_intercept*v[1])/len(self.data.y)*(1 if s is None else s)
            return [x.T @ u.astype(x.dtype), with_intercept*u.sum(keepdims=True)]
        try:
            with np.errstate(over="ignore", invalid="ignore"):
                largest = largest_eigenvalue(None, [np.zeros(x.shape[1]), np.zeros(1)], hvp=product, tol=0.01)
        except FloatingPointError as error:
            raise ValueError(f"{type(self.model).__name__}: the features are too large for learning_rate='auto', which "
                             "needs finite squares of them. Standardise the features.") from error
        return CURVED[self.task.loss]*largest*(2 if self.model.l1 else 1) + self.model.alpha

    def batches(self, epoch: int) -> Iterator[Any]:
        """The rows of each batch, as many in each, give or take one. Where one batch holds all, they stay in order."""
        n = len(self.data.y)
        if self.epoch == 1:
            return iter([None])
        return iter(np.array_split(self.rng.permutation(n) if self.model.shuffle else np.arange(n), self.epoch))

    def value_and_grad(self, point: list[networks.Parameters], rows: Any) -> tuple[float, list[networks.Parameters]]:
        batch, params, model = self.data if rows is None else self.data.rows(rows), joined(point), self.model
        total = len(batch.y) if batch.s is None else float(batch.s.sum())
        share = total*self.epoch/len(self.data.y)  # above 1 for heavy batches: the mean of an epoch is the objective
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
        """After each step: the pairs of W stay 0 or more.

        What both of a pair have in common changes no W, but while it is there, neither does the penalty: it would wear
        off by lr*l1 in a step, which takes thousands of steps where l1 is small. (In batches it is left there, as noise
        moves W by more, and by less where both can move.)
        """
        if self.model.l1:
            for w in self.params[0].values():
                proximal.project(w, low=0)
                if self.epoch == 1:
                    w -= w.min(axis=0)

    def validate(self, params: Any) -> float:
        """After each epoch: its mean loss, or the score of the rows held out with the sign turned."""
        self.curve.append(sum(self.values)/len(self.values))
        self.values.clear()
        self.momentum.observe(self.curve[-1], self.opt.t)
        self.say(f"Iteration {len(self.curve)}, loss = {self.curve[-1]:.8f}")
        if self.held is None:
            return self.curve[-1]
        outputs = networks.forward(joined(self.params), self.held.x, self.model.activation)[-1]
        score = self.model._score(outputs, self.held) if np.isfinite(outputs).all() else math.nan
        self.scores.append(score)
        self.say(f"Validation score: {score:f}")
        if score > self.top:
            self.top, self.best = score, [a.copy() for group in self.params for a in group.values()]
        return -score

    def say(self, line: str) -> None:
        """Print a line, in scikit-learn's words."""
        if self.model.verbose:
            print(line)

    def train(self, kept: dict[str, Any] | None, live: Live | None) -> Fit:
        """Run the solver, which goes on from what is kept of a training before, if that was by such a solver.

        `live` is the solver of then, if it is there. What diverges late has the weights of the best epoch, and
        `stopped` is "error".
        """
        model = self.model
        try:
            with ONE_THREAD, np.errstate(over="ignore", invalid="ignore"):  # infinity is an error in a moment
                auto = self.auto()
                asked = (model.solver, model.learning_rate, model.momentum, bool(model.l1), tuple(auto),
                         tuple((model.solver_options or {}).items()))
                if live and live.takes(asked, self.params, kept):
                    opt, self.params = live.opt, live.params
                    for of in opt.groups:
                        of.update(auto)
                else:
                    opt = solver(model, self.params, auto)
                    if kept and (kept["state"]["rule"], kept["pairs"]) == (opt.rule.name, bool(model.l1)):
                        resume(opt, kept)
                self.opt, self.asked = opt, asked
                done = fit(opt, self.value_and_grad, self.batches, self.epochs*self.epoch, validate=self.validate,
                           patience=self.patience, min_delta=model.tol or 0.0, restore_best=model.early_stopping,
                           callback=self.project)
            if done.stopped == "patience":
                self.say(f"{'Training loss' if self.held is None else 'Validation score'} did not improve more than "
                         f"tol={model.tol:f} for {self.patience} consecutive epochs. Stopping.")
            return done
        except FloatingPointError as error:
            if self.best:  # as in scikit-learn
                for group in self.params:
                    for a in group.values():
                        a[...] = self.best.pop(0)
                return error.result  # type: ignore[attr-defined]
            raise ValueError(f"{type(model).__name__}: the loss is not finite in epoch {len(self.curve) + 1}. "
                             f"{CURE}") from error

    @cached_property
    def network(self) -> networks.Parameters:
        """What was trained, in arrays that no later training changes."""
        return {name: a.copy() for name, a in joined(self.params).items()}

    def result(self) -> networks.Parameters:
        """The network for targets as they were given."""
        params = self.task.outward(self.network, self.model.l1)
        if not all(np.isfinite(a).all() for a in params.values()):
            raise ValueError(f"{type(self.model).__name__}: the weights are not finite after epoch {len(self.curve)}. "
                             f"{CURE}")
        return params

    def keep(self) -> dict[str, Any]:
        """What a later training needs to go on, in plain arrays and numbers."""
        return {"params": self.network, "state": self.opt.state_dict(), "pairs": bool(self.model.l1),
                "plateaus": [plateau.state_dict() for plateau in plateaus(self.opt)],
                "rng": self.rng.bit_generator.state, "scale": self.task.scale, "mean": self.task.mean}

    def live(self, kept: dict[str, Any]) -> Live | None:
        """The solver, for the next call of `partial_fit`, where that would make the same."""
        same = self.more and stays(self.asked) and not plateaus(self.opt)
        return Live(self.opt, self.asked, self.params, kept) if same else None
