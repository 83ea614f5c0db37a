"""Every optimizer as a method of `scipy.optimize.minimize` (the extra `scipy`).

>>> scipy.optimize.minimize(fun, x0, jac=gradient, method=fastopt.scipy.method("adam", lr=0.05))

A method also works where SciPy hands it on to `minimize`: in the `minimizer_kwargs` of `basinhopping` and
`dual_annealing`.
"""
from __future__ import annotations

import inspect
import math
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from ._checks.extras import missing
from ._checks.numbers import check_number, check_option
from ._checks.warning import warn
from ._training.batches import number
from ._training.early_stopping import anew, plateaus
from ._training.progress import bar, check
from .optimizer import Optimizer
from .optimizers import chosen
from .proximal import project

try:
    from scipy.optimize import Bounds, OptimizeResult, OptimizeWarning
    from scipy.optimize._numdiff import approx_derivative  # SciPy has no public function for differences within bounds
except ImportError as error:
    raise missing("fastopt.scipy", error, "scipy") from None

__all__ = ["Method", "method"]

OPTIONS = {"maxiter": 10_000, "maxfev": math.inf, "gtol": 1e-5, "ftol": None, "xtol": None, "finite_diff": "2-point",
           "finite_diff_rel_step": None, "disp": False, "return_all": False}  # and their defaults
CALM = 10  # steps in a row, for ftol and xtol: what swings stands still for one or two wherever it turns
ENDS = {  # status and message of each reason, in SciPy's words where it has them
    "gtol": (0, "Optimization terminated successfully."),
    "ftol": (0, f"Optimization terminated successfully: {CALM} steps in a row changed the value by at most ftol."),
    "xtol": (0, f"Optimization terminated successfully: {CALM} steps in a row moved x by at most xtol."),
    "maxiter": (1, "Maximum number of iterations has been exceeded."),
    "nonfinite": (2, "The last step led to where the function or its gradient is not finite: x is the best point so "
                     "far. Lower lr."),
    "error": (3, "An error was raised: x is the best point so far."),
    "start": (4, "The function or its gradient is not finite at x0: no step was taken. Start elsewhere."),
    "maxfev": (5, "Maximum number of function evaluations has been exceeded."),
    "callback": (99, "`callback` raised `StopIteration`.")}


def method(rule: Any = "adam", *, progress: bool = False, threads: int | None = None, like: str | None = None,
           **hyper: Any) -> Method:
    """A `method` for `scipy.optimize.minimize`. Its steps are an optimizer's; all else is as in SciPy's own methods.

    Parameters
    ----------
    rule : str, type or rule
        The name of an optimizer in any case ("adam", "AMSGrad"), a class such as `fastopt.Adam`, or a rule.
    progress : bool
        Draw a progress bar on stderr (the extra `progress`).
    threads, like, **hyper
        As the optimizer takes them: ``lr=0.05``, ``lr=schedules.cosine(0.1, 5000)``. In each run a new copy of a
        `schedules.ReduceOnPlateau` observes every value.

    Returns
    -------
    Method
        It has no state. One works for any number of runs, and each run has an optimizer of its own.

    Raises
    ------
    TypeError, ValueError
        At once, for an unknown rule, for hyperparameters that the optimizer refuses, and for ``maximize=True``.
    ImportError
        With ``progress=True`` and without rich.

    Notes
    -----
    `fun` and its gradient are evaluated at x0 and after every step, both at the same point (``jac=True``: in one call).
    For `Nesterov` in its textbook form that is the look-ahead point p - mu*v. x is float32 if x0 is, else float64.
    The result is the first of these points whose projected gradient, x - clip(x - g, lb, ub), has no element larger
    than gtol: status 0, success. All other ends give the point of the lowest value. Their statuses:

    - 0: 10 steps in a row met ftol or xtol.
    - 1: `maxiter` steps were taken.
    - 2: x, the value or the gradient became infinite or NaN.
    - 3: an exception was raised, KeyboardInterrupt for example. It has what was reached as its ``result``.
    - 4: x0, or the value or gradient there, is not finite. No step was taken.
    - 5: the next point would need more than `maxfev` evaluations.
    - 99: `callback` raised StopIteration.

    Options are given by ``minimize(..., options={...})``:

    - `maxiter`: the most steps, by default 10,000.
    - `maxfev`: the most evaluations of `fun`, those for differences included. x0 is always evaluated. No limit by
      default.
    - `gtol`: by default `tol`, or 1e-5.
    - `ftol` and `xtol`: by default they stop nothing. A step from f to f' meets ftol if abs(f' - f) <=
      ftol*max(abs(f), abs(f'), 1). It meets xtol if this holds of x, with the largest element in the place of abs.
    - `return_all`: keep all points, as `allvecs`. `disp`: print the result.
    - `finite_diff` and `finite_diff_rel_step`, if `jac` is no function: "2-point" (the default), "3-point" or "cs".
      Give `finite_diff`, not ``jac="3-point"``: `minimize` does not hand that word on.

    In float32, differences are too coarse for such a gtol: off by 0.1 at the end of a run on `rosen`, or 0.01 with
    "3-point". Give `jac`, or start in float64.

    Bounds hold wherever `fun` is evaluated, for differences too: x0, the steps and the look-ahead points are projected.
    In float32 a bound is the nearest float32 inside. Constraints are refused. Weight decay (AdamW: 0.01 by default)
    pulls the steps away from the minimum of `fun`, so that gtol is hardly ever met.
    """
    if progress:
        check("fastopt.scipy")
    made = Method(rule, progress, {"threads": threads, "like": like, **hyper})
    if made.optimizer(np.zeros(1)).groups[0]["maximize"]:
        raise ValueError("method: maximize is True, but minimize looks for the lowest value. Leave it out, and "
                         "minimize -fun.")
    return made


@dataclass(frozen=True)
class Method:
    """What `method` returns. `scipy.optimize.minimize` calls it like any method of a user's own."""

    rule: Any
    progress: bool
    hyper: dict[str, Any]

    def optimizer(self, x: np.ndarray) -> Optimizer:
        """A new optimizer of x."""
        return chosen(self.rule, "method", "rule")(x, **anew(self.hyper))

    def __repr__(self) -> str:
        name = repr(self.rule) if isinstance(self.rule, str) else self.rule.__name__
        given = [f"{k}={v!r}" for k, v in self.hyper.items() if v is not None]
        return f"fastopt.scipy.method({', '.join([name, *given])})"

    def __call__(self, fun: Callable, x0: Any, args: Any = (), jac: Any = None, hess: Any = None, hessp: Any = None,
                 bounds: Any = None, constraints: Any = (), callback: Callable | None = None,
                 **options: Any) -> OptimizeResult:
        """Minimise, as `method` says. `scipy.optimize.minimize` calls this."""
        if not (constraints is None or (isinstance(constraints, (list, tuple)) and not constraints)):
            raise ValueError(f"minimize: constraints are given, but {self!r} handles bounds only. Take method='SLSQP' "
                             "or 'trust-constr'.")
        for given, what in (hess, " information (hess)"), (hessp, "-vector product information (hessp)"):
            if given is not None:
                warn(f"Method {self!r} does not use Hessian{what}.", RuntimeWarning)
        said, tell, x = _options(options, jac), _teller(callback), _start(x0)
        run = _Run(fun, jac if callable(jac) else None, args if isinstance(args, tuple) else (args,), said,
                   _box(bounds, x))
        opt = self.optimizer(x)
        try:
            with bar(self.progress, "fastopt.scipy", opt.rule.name, said.maxiter) as show:
                end, point = run.walk(opt, x, tell, show)
        except BaseException as error:
            if run.best is not None:
                with suppress(AttributeError):  # an exception of the caller's need not take it
                    error.result = run.result("error", run.best)  # type: ignore[attr-defined]
            raise
        return run.result(end, point)


class _Point(NamedTuple):
    x: np.ndarray
    value: float
    gradient: np.ndarray
    slope: float  # the largest element of the projected gradient; NaN where anything is not finite


@dataclass
class _Run:
    """The function and its gradient, checked and counted, and what was reached."""

    fun: Callable
    jac: Callable | None
    args: tuple
    options: SimpleNamespace
    box: tuple[np.ndarray, np.ndarray] | None
    nfev: int = 0
    njev: int = 0
    steps: int = 0
    last: _Point | None = None  # the point evaluated last; it is not evaluated again
    best: Any = None            # the point of the lowest value
    path: list[np.ndarray] = field(default_factory=list)  # all points, for `return_all`
    calm: Counter = field(default_factory=Counter)  # how many steps in a row met each tolerance

    def walk(self, opt: Optimizer, x: np.ndarray, tell: Callable, show: Callable) -> tuple[str, _Point]:
        """Evaluate, call back, decide, step; return the reason to end and the point of the result."""
        observers = plateaus(opt)
        point = start = self.at(self.inside(x))
        price = self.nfev  # of a point, in evaluations
        if math.isnan(start.slope):
            return "start", start
        self.best = start
        while True:
            before = point
            point = self.at(self.inside(opt.lookahead()) if opt.rule.ahead else x)
            if -math.inf < point.value < self.best.value:
                self.best = point
            if math.isnan(point.slope):
                return "nonfinite", self.best
            show(self.steps, f"value {point.value:.6g}, gradient {point.slope:.2g}")
            if self.options.return_all:
                self.path.append(point.x)
            try:
                if self.steps:
                    tell(point)
            except StopIteration:
                return "callback", self.best
            if point.slope <= self.options.gtol:
                return "gtol", point
            for name, new, old in ("ftol", point.value, before.value), ("xtol", point.x, before.x):
                met = self.steps > 0 and _near(new, old, getattr(self.options, name))
                self.calm[name] = self.calm[name] + 1 if met else 0
                if self.calm[name] == CALM:
                    return name, self.best
            if self.steps >= self.options.maxiter:
                return "maxiter", self.best
            if self.nfev + price > self.options.maxfev:
                return "maxfev", self.best
            for plateau in observers:
                plateau.observe(point.value)
            opt.step(point.gradient)
            self.steps += 1
            self.inside(x)

    def inside(self, x: np.ndarray) -> np.ndarray:
        """x itself, projected to the bounds."""
        if self.box:
            project(x, *self.box)
        return x

    def at(self, x: np.ndarray) -> _Point:
        if self.last is None or not np.array_equal(x, self.last.x):
            self.last = self.evaluate(x.copy())
        return self.last

    def evaluate(self, x: np.ndarray) -> _Point:
        value, g = math.nan, np.full_like(x, math.nan)
        if np.isfinite(x).all():
            raw = self.raw(x)
            value = number(raw, "minimize: fun", ValueError)
            if math.isfinite(value):
                g = self.gradient(x, raw)
        if not np.isfinite(g).all():
            return _Point(x, value, g, math.nan)
        with np.errstate(over="ignore"):  # x - clip(x - g) without cancellation
            towards = g if self.box is None else np.clip(g, x - self.box[1], x - self.box[0])
        return _Point(x, value, g, float(np.abs(towards).max(initial=0)))

    def raw(self, x: np.ndarray) -> Any:
        self.nfev += 1
        found = self.fun(x.copy(), *self.args)  # a copy: it may be kept, or written into
        return found.copy() if isinstance(found, np.ndarray) else found  # fun may use its array again

    def gradient(self, x: np.ndarray, raw: Any) -> np.ndarray:
        self.njev += 1
        found = self.jac(x.copy(), *self.args) if self.jac else self.differences(x, raw)
        if found is None:
            raise TypeError("minimize: the gradient is None, but an array is needed. Return it (where jac is True: "
                            "beside the value).")
        try:
            g = np.asarray(found)
        except ValueError:  # no array: a pair of a number and an array, for example
            g = np.asarray(None)
        if g.dtype.kind not in "biuf" or (g.shape != x.shape and (g.size, x.size) != (1, 1)):
            what = f"a {type(found).__name__}" if g.dtype == object else f"of shape {g.shape} and dtype {g.dtype}"
            raise ValueError(f"minimize: the gradient is {what}, but real numbers of shape {x.shape} are needed. "
                             "Return one per variable.")
        with np.errstate(over="ignore"):  # 1e300 is inf in float32, and ends the run as such
            return np.array(g.reshape(x.shape), x.dtype)

    def fixed(self, x: np.ndarray) -> np.ndarray:
        """The variables without room for differences. No step moves them."""
        return np.zeros(x.shape, bool) if self.jac or self.box is None else self.box[0] == self.box[1]

    def differences(self, x: np.ndarray, raw: Any) -> np.ndarray:
        """The gradient by finite differences within the bounds; 0 for fixed variables."""
        free, g, step = ~self.fixed(x), np.zeros(x.shape), self.options.finite_diff_rel_step

        def fun(part: np.ndarray) -> np.ndarray:
            full = x.astype(np.complex128 if np.iscomplexobj(part) else x.dtype)  # "cs": its real part stays inside
            full[free] = part
            return np.ravel(self.raw(full if np.iscomplexobj(part) else self.inside(full)))  # x + (ub - x) may pass ub

        if free.any():
            within = (-math.inf, math.inf) if self.box is None else tuple(side[free] for side in self.box)
            step = None if step is None else np.broadcast_to(step, x.shape)[free]
            g[free] = np.ravel(approx_derivative(fun, x[free], self.options.finite_diff, step, f0=np.ravel(raw),
                                                 bounds=within))
        return g

    def result(self, end: str, point: _Point) -> OptimizeResult:
        status, message = ENDS[end]
        unknown = np.asarray(math.nan, point.x.dtype)  # as SciPy says it
        found = OptimizeResult(x=point.x, fun=point.value, jac=np.where(self.fixed(point.x), unknown, point.gradient),
                               nit=self.steps, nfev=self.nfev, njev=self.njev, success=status == 0, status=status,
                               message=message)
        if self.options.return_all:
            found["allvecs"] = self.path
        if self.options.disp and end != "error":  # SciPy's option, and its lines
            if status:
                warn(found.message, OptimizeWarning)
            else:
                print(found.message)
            print(f"         Current function value: {found.fun:f}\n         Iterations: {found.nit:d}\n         "
                  f"Function evaluations: {found.nfev:d}\n         Gradient evaluations: {found.njev:d}")
        return found


def _near(new: Any, old: Any, tol: float | None) -> bool:
    """Whether two values, or two points, differ by at most tol*max(|new|, |old|, 1); never for None."""
    if tol is None:
        return False
    with np.errstate(over="ignore"):
        change, size = (np.abs(a).max(initial=0) for a in (np.subtract(new, old), np.stack([new, old])))
    return bool(change <= tol*max(size, 1))


def _options(given: dict[str, Any], jac: Any) -> SimpleNamespace:
    """The options of a run, checked. Those that are None count as left out."""
    words = {"gtol": given.pop("tol", None), "finite_diff": jac if isinstance(jac, str) else None}
    if unknown := [k for k in given if k not in OPTIONS]:
        warn(f"Unknown solver options: {', '.join(unknown)}", OptimizeWarning)
    said = {k: v for k, v in (*words.items(), *given.items()) if v is not None and k in OPTIONS}
    found = SimpleNamespace(**{**OPTIONS, **said})
    for name in ("maxiter", "maxfev", "gtol", "ftol", "xtol"):
        if getattr(found, name) is not None:
            check_number(name, getattr(found, name), "minimize", allowed=(lambda x: x >= 0, "a number, 0 or more,"))
    check_option("finite_diff", found.finite_diff, ("2-point", "3-point", "cs"), "minimize")
    return found


def _teller(callback: Callable | None) -> Callable[[_Point], Any]:
    """A function of a point that calls the callback in the one of SciPy's two ways that it takes."""
    if callback is None:
        return lambda point: None
    if not callable(callback):
        raise TypeError(f"minimize: callback is {callback!r}, but a function is needed. Pass one, or None.")
    if set(inspect.signature(callback).parameters) == {"intermediate_result"}:
        return lambda point: callback(intermediate_result=OptimizeResult(x=point.x.copy(), fun=point.value))
    return lambda point: callback(point.x.copy())


def _start(x0: Any) -> np.ndarray:
    """A copy of x0, in float32 if it is, else in float64."""
    x = np.atleast_1d(np.asarray(x0))
    if x.ndim != 1 or x.dtype.kind not in "biuf":
        raise ValueError(f"minimize: x0 has shape {x.shape} and dtype {x.dtype}, but real numbers in one dimension are "
                         "needed. Change x0.")
    return np.array(x, np.float32 if x.dtype == np.float32 else np.float64)


def _box(bounds: Any, x: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Lower and upper bounds in x's dtype, rounded inwards, from a Bounds or from pairs in which None is no bound."""
    if bounds is None:
        return None
    try:
        sides = (bounds.lb, bounds.ub) if isinstance(bounds, Bounds) else np.array(
            [[none if b is None else np.asarray(b, float).item()
              for b, none in zip(pair, (-math.inf, math.inf), strict=True)] for pair in bounds], float).reshape(-1, 2).T
        low, high = (np.broadcast_to(np.asarray(side, float), x.shape) for side in sides)
    except (TypeError, ValueError):
        raise ValueError(f"minimize: bounds is {bounds!r}, but a Bounds, or a pair (lb, ub) for each of the {x.size} "
                         "variables, is needed. Change bounds.") from None
    with np.errstate(over="ignore"):
        lower, upper = low.astype(x.dtype), high.astype(x.dtype)
    lower = np.where(lower < low, np.nextafter(lower, np.asarray(math.inf, x.dtype)), lower)
    upper = np.where(upper > high, np.nextafter(upper, np.asarray(-math.inf, x.dtype)), upper)
    for k in np.flatnonzero(~((low <= high) & (lower < math.inf) & (upper > -math.inf))):
        raise ValueError(f"minimize: the bounds of x[{k}] are {low[k]} and {high[k]}, but lb <= ub and a finite number "
                         "between are needed. Change bounds; None or an infinity is no bound.")
    return lower, np.maximum(lower, upper)  # where no float32 lies between, the next one above
