"""Every optimizer as a method of `scipy.optimize.minimize` (the extra `scipy`).

>>> scipy.optimize.minimize(fun, x0, jac=gradient, method=fastopt.scipy.method("adam", lr=0.05))

It serves wherever SciPy hands `method` on to `minimize`: `basinhopping` and `dual_annealing` take it in their
`minimizer_kwargs`.
"""
from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from numbers import Real
from typing import Any, NamedTuple

import numpy as np

from ._checks.extras import missing
from ._training.early_stopping import anew, plateaus
from ._training.progress import bar, check
from .optimizer import Optimizer
from .optimizers import chosen
from .proximal import project

try:
    from scipy.optimize import Bounds, OptimizeResult, OptimizeWarning
    from scipy.optimize._numdiff import approx_derivative  # no public function of SciPy takes differences within bounds
except ImportError as error:
    raise missing("fastopt.scipy", error, "scipy") from None

__all__ = ["Method", "method"]

DIFFERENCES = ("2-point", "3-point", "cs")
MESSAGES = {  # by status, in SciPy's words where it has them
    0: "Optimization terminated successfully.",
    1: "Maximum number of iterations has been exceeded.",
    2: "The last step led to where the function or its gradient is not finite: x is the best point so far. Lower lr.",
    3: "An error was raised: x is the best point so far.",
    4: "The function or its gradient is not finite at x0: no step was taken. Start elsewhere.",
    99: "`callback` raised `StopIteration`."}


def method(rule: Any = "adam", *, progress: bool = False, threads: int | None = None, like: str | None = None,
           **hyper: Any) -> Method:
    """A `method` for `scipy.optimize.minimize`: the steps are an optimizer's, all else is as in SciPy's own methods.

    Parameters
    ----------
    rule : str, type or rule
        The name of an optimizer in any case ("adam", "AMSGrad"), a class such as `fastopt.Adam`, or a rule made by
        `fastopt.rule`.
    progress : bool
        Draw a progress bar on stderr (the extra `progress`).
    threads, like, **hyper
        As the optimizer takes them: ``lr=0.05``, ``lr=schedules.cosine(0.1, 5000)``. A `schedules.ReduceOnPlateau` (a
        copy of it, in each run) is fed with every value.

    Returns
    -------
    Method
        It has no state: one serves any number of runs, each with an optimizer of its own.

    Raises
    ------
    TypeError, ValueError
        At once, for an unknown rule, and for hyperparameters that the optimizer refuses; ``maximize=True`` is refused
        too.
    ImportError
        With ``progress=True`` and without rich.

    Notes
    -----
    `fun` and its gradient are evaluated at x0 and after every step, both at the same point (``jac=True``: in one call),
    which for `Nesterov` in its textbook form is the look-ahead point p - mu*v. x is float32 if x0 is, else float64. The
    result is the first of these points whose projected gradient, x - clip(x - g, lb, ub), has no element larger than
    gtol: status 0, success. All other ends give the point of the lowest value: status 1 after `maxiter` steps, 2 where
    x, the value or the gradient became infinite or NaN, 99 where `callback` raised StopIteration; 4, without a step,
    where x0, or the value or gradient there, is not finite. An exception in the middle, KeyboardInterrupt too, has what
    was reached as its ``result`` (status 3).

    Options (``minimize(..., options={...})``): `maxiter` (default 10,000 steps), `gtol` (default: `tol`, or 1e-5),
    `finite_diff` ("2-point", the default, "3-point", "cs") and `finite_diff_rel_step` for a `jac` that is no function
    (that word SciPy keeps to itself), `return_all` (all points, as `allvecs`), `disp`. In float32, differences are too
    coarse for such a gtol (off by 0.1 at the end of a run on `rosen`, "3-point" by 0.01): give `jac`, or start in
    float64.

    Bounds hold wherever `fun` is evaluated, for differences too: x0, the steps and the look-ahead points are projected.
    In float32 a bound is the nearest float32 inside. Constraints are refused. Weight decay (AdamW: 0.01 unless told)
    pulls the steps away from the minimum of `fun`, to where gtol is hardly ever met.
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
    """What `method` returns: called by `scipy.optimize.minimize`, with what that hands to a method of one's own."""

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
                 bounds: Any = None,
                 constraints: Any = (), callback: Callable | None = None, **options: Any) -> OptimizeResult:
        """Minimise, see `method`."""
        if not (constraints is None or (isinstance(constraints, (list, tuple)) and not constraints)):
            raise ValueError(f"minimize: constraints are given, but {self!r} handles bounds only. Take method='SLSQP' "
                             f"or 'trust-constr'.")
        for given, what in ((hess, "Hessian information (hess)"),
                            (hessp, "Hessian-vector product information (hessp)")):
            if given is not None:
                warnings.warn(f"Method {self!r} does not use {what}.", RuntimeWarning, stacklevel=3)
        said, tell, x = _options(options, jac), _teller(callback), _start(x0)
        objective = _Objective(fun, jac, args if isinstance(args, tuple) else (args,), _box(bounds, x), said)
        so_far = _SoFar()
        try:
            with bar(self.progress, "fastopt.scipy", chosen(self.rule, "method", "rule").rule.name,
                     said.maxiter) as show:
                status, point = _walk(self.optimizer(x), x, objective, said, tell, show, so_far)
        except BaseException as error:
            if so_far.best is not None:
                with suppress(AttributeError):  # an exception of the caller's need not take it
                    error.result = _result(objective, said, 3, so_far, so_far.best)  # type: ignore[attr-defined]
            raise
        return _result(objective, said, status, so_far, point)


@dataclass
class _SoFar:
    """Steps taken, the point of the lowest value, and the points asked for by `return_all`."""

    steps: int = 0
    best: Any = None
    path: list[np.ndarray] = field(default_factory=list)


class _Options(NamedTuple):
    maxiter: float = 10_000
    gtol: float = 1e-5
    finite_diff: str = "2-point"
    finite_diff_rel_step: Any = None
    disp: bool = False
    return_all: bool = False


class _Point(NamedTuple):
    x: np.ndarray
    value: float
    gradient: np.ndarray
    slope: float  # the largest element of the projected gradient; NaN where anything is not finite


class _Objective:
    """The function and its gradient, checked and counted; a point equal to the last one is not evaluated again."""

    def __init__(self, fun: Callable, jac: Any, args: tuple, box: tuple[np.ndarray, np.ndarray] | None,
                 options: _Options):
        self.fun, self.jac, self.args, self.box, self.options = fun, jac if callable(jac) else None, args, box, options
        self.fixed = None if self.jac or box is None or (box[0] < box[1]).all() else box[0] == box[1]  # no room for differences
        self.nfev = self.njev = 0
        self.last: _Point | None = None

    def __call__(self, x: np.ndarray) -> _Point:
        if self.last is None or not np.array_equal(x, self.last.x):
            self.last = self.evaluate(x.copy())
        return self.last

    def inside(self, x: np.ndarray) -> np.ndarray:
        """x itself, projected."""
        if self.box:
            project(x, *self.box)
        return x

    def evaluate(self, x: np.ndarray) -> _Point:
        value, g = math.nan, np.full_like(x, math.nan)
        if np.isfinite(x).all():
            raw = self.raw(x)
            value = _number(raw)
            if math.isfinite(value):
                g = self.gradient(x, raw)
        if not np.isfinite(g).all():
            return _Point(x, value, g, math.nan)
        with np.errstate(over="ignore"):
            towards = g if self.box is None else np.clip(g, x - self.box[1],
                                                         x - self.box[0])  # x - clip(x - g) without cancellation
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
                             f"Return one per variable.")
        with np.errstate(over="ignore"):  # 1e300 is inf in float32, and ends the run as such
            return np.array(g.reshape(x.shape), x.dtype)

    def differences(self, x: np.ndarray, raw: Any) -> np.ndarray:
        """The gradient by finite differences within the bounds; 0 for fixed variables, which no step moves."""
        free = slice(None) if self.fixed is None else ~self.fixed
        g, step = np.zeros(x.shape), self.options.finite_diff_rel_step

        def fun(part: np.ndarray) -> np.ndarray:
            full = x.astype(np.complex128) if np.iscomplexobj(part) else x.copy()  # complex for "cs", whose real part stays
            full[free] = part
            return np.ravel(self.raw(full if np.iscomplexobj(part)
                                     else self.inside(full)))  # x + (ub - x) may be beyond ub

        if x[free].size:
            within = (-math.inf, math.inf) if self.box is None else tuple(side[free] for side in self.box)
            step = None if step is None else np.broadcast_to(step, x.shape)[free]
            g[free] = np.ravel(approx_derivative(fun, x[free], self.options.finite_diff, step, f0=np.ravel(raw),
                                                 bounds=within))
        return g


def _walk(opt: Optimizer, x: np.ndarray, objective: _Objective, options: _Options, tell: Callable, show: Callable,
          so_far: _SoFar) -> tuple[int, _Point]:
    """Evaluate, tell, decide, step: the status, and the result's point."""
    observers = plateaus(opt)
    best = objective(objective.inside(x))
    if math.isnan(best.slope):
        return 4, best
    while True:
        so_far.best = best
        point = objective(objective.inside(opt.lookahead()) if opt.rule.ahead else x)
        so_far.best = best = point if -math.inf < point.value < best.value else best
        if math.isnan(point.slope):
            return 2, best
        show(so_far.steps, f"value {point.value:.6g}, gradient {point.slope:.2g}")
        so_far.path += [point.x] if options.return_all else []
        if so_far.steps and tell(point):
            return 99, best
        if point.slope <= options.gtol:
            return 0, point
        if so_far.steps >= options.maxiter:
            return 1, best
        for plateau in observers:
            plateau.observe(point.value)
        opt.step(point.gradient)
        so_far.steps += 1
        objective.inside(x)


def _result(objective: _Objective, options: _Options, status: int, so_far: _SoFar, point: _Point) -> OptimizeResult:
    fixed = False if objective.fixed is None else objective.fixed
    found = OptimizeResult(
        x=point.x, fun=point.value, jac=np.where(fixed, np.asarray(math.nan, point.x.dtype),
                                                 point.gradient),  # NaN: not known, as SciPy
        nit=so_far.steps, nfev=objective.nfev, njev=objective.njev, success=status == 0, status=status,
                           message=MESSAGES[status])
    if options.return_all:
        found["allvecs"] = so_far.path
    if options.disp and status != 3:  # SciPy's option, and its lines
        if status:
            warnings.warn(found.message, OptimizeWarning, stacklevel=4)
        print(*[found.message]*(not status), f"         Current function value: {found.fun:f}", f"         Iterations: "
                                                                                                f"{found.nit:d}",
              f"         Function evaluations: {found.nfev:d}", f"         Gradient evaluations: {found.njev:d}",
              sep="\n")
    return found


def _options(given: dict[str, Any], jac: Any) -> _Options:
    """The options of a run, checked."""
    if unknown := [k for k in given if k not in (*_Options._fields, "tol")]:
        warnings.warn(f"Unknown solver options: {', '.join(unknown)}", OptimizeWarning, stacklevel=4)
    known: dict[str, Any] = {"gtol": given.get("tol"), "finite_diff": jac if isinstance(jac, str)
                             else None}  # minimize hands on no word
    known.update((k, v) for k, v in given.items() if k in _Options._fields and v is not None)
    options = _Options(**{k: v for k, v in known.items() if v is not None})
    for name, value in (("maxiter", options.maxiter), ("gtol", options.gtol)):
        if not isinstance(value, Real) or isinstance(value, bool) or not float(value) >= 0:
            raise ValueError(f"minimize: {name} is {value!r}, but a number, 0 or more, is needed. Change it in "
                             f"options.")
    if options.finite_diff not in DIFFERENCES:
        raise ValueError(f"minimize: finite_diff is {options.finite_diff!r}, but one of {', '.join(DIFFERENCES)} is "
                         f"needed. Change it.")
    return options


def _teller(callback: Callable | None) -> Callable[[_Point], bool]:
    """What calls back in either of SciPy's two ways, and says whether to stop."""
    if callback is None:
        return lambda point: False
    if not callable(callback):
        raise TypeError(f"minimize: callback is {callback!r}, but a function is needed. Pass one, or None.")
    by_name = set(inspect.signature(callback).parameters) == {"intermediate_result"}

    def tell(point: _Point) -> bool:
        try:
            callback(intermediate_result=OptimizeResult(x=point.x.copy(),
                                                        fun=point.value)) if by_name else callback(point.x.copy())
        except StopIteration:
            return True
        return False

    return tell


def _start(x0: Any) -> np.ndarray:
    """A copy of x0, in float32 if it is, else in float64."""
    x = np.atleast_1d(np.asarray(x0))
    if x.ndim != 1 or x.dtype.kind not in "biuf":
        raise ValueError(f"minimize: x0 has shape {x.shape} and dtype {x.dtype}, but real numbers in one dimension are "
                         f"needed. Change x0.")
    return np.array(x, np.float32 if x.dtype == np.float32 else np.float64)


def _number(raw: Any) -> float:
    """What fun returned, as a float; an array of one element is a number to SciPy too."""
    try:
        return float(raw.item() if hasattr(raw, "item") else np.asarray(raw).item())
    except (TypeError, ValueError, RuntimeError):
        what = f"an array of shape {raw.shape}" if isinstance(raw, np.ndarray) else repr(raw)
        raise ValueError(f"minimize: fun returned {what}, but one real number is needed. Return a float.") from None


def _box(bounds: Any, x: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Lower and upper bounds in x's dtype, rounded inwards, from a Bounds or from pairs in which None is no bound."""
    if bounds is None:
        return None
    try:
        pairs = (bounds.lb, bounds.ub) if isinstance(bounds, Bounds) else np.array(
            [[end if b is None else np.asarray(b, float).item() for b,
              end in zip(pair, (-math.inf, math.inf), strict=True)]
             for pair in bounds], float).reshape(-1, 2).T
        low, high = (np.broadcast_to(np.asarray(side, float), x.shape) for side in pairs)
    except (TypeError, ValueError):
        raise ValueError(f"minimize: bounds is {bounds!r}, but a Bounds, or a pair (lb, ub) for each of the {x.size} "
                         f"variables, is needed. "
                         "Change bounds.") from None
    with np.errstate(over="ignore"):
        lower, upper = low.astype(x.dtype), high.astype(x.dtype)
    lower = np.where(lower < low, np.nextafter(lower, np.asarray(math.inf, x.dtype)), lower)
    upper = np.where(upper > high, np.nextafter(upper, np.asarray(-math.inf, x.dtype)), upper)
    wrong = np.flatnonzero(~((low <= high) & (lower < math.inf) & (upper > -math.inf)))
    if wrong.size:
        k = wrong[0]
        raise ValueError(f"minimize: the bounds of x[{k}] are {low[k]} and {high[k]}, but lb <= ub and a finite number "
                         f"between are needed. "
                         "Change bounds; None or an infinity is no bound.")
    return lower, np.maximum(lower, upper)  # where no float32 lies between, the next one above
