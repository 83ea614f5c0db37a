"""Test problems for optimizers: quadratics, regressions, Rosenbrock, Beale, Rastrigin, and a network with many starts.

    problem = rosenbrock()
    w = problem.initial()
    opt = fastopt.Adam(w, lr=0.05)
    for _ in range(2000):
        opt.step(problem.grad(w))

Value, gradient and Hessian take any w in the structure of `problem.start`, of any float type, and never modify it. They
compute in float64, but the network in the dtype of its parameters. The gradient has the dtype of w. Analytic problems
take complex w, too, for the complex step.
"""
import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import init, networks
from ._checks.numbers import check_number, check_option, check_whole, interval

__all__ = ["Problem", "beale", "linear_regression", "logistic_regression", "network", "quadratic", "rastrigin",
           "rosenbrock"]

Array = NDArray[Any]
RANGES = {"condition": interval("[1, inf)"), "scales": interval("[1, inf)"), "collinearity": interval("[0, 1]"),
          "noise": interval("[0, inf)"), "l2": interval("[0, inf)")}


@dataclass(frozen=True, eq=False, repr=False)
class Problem:
    """A function to minimise.

    Attributes
    ----------
    name : str
        The call that made it.
    start : array or dict of arrays
        Where to begin: float64 and read-only. `initial` gives a copy to work on.
    value, grad, hess : callable
        Functions of w: the value, a float; the gradient, in the structure and dtype of w; the Hessian, float64 of shape
        (n, n), or None.
    minimum : (w, value) or None
        Where the global minimum is, read-only, and its value, if it is known.
    data : (X, y) or None
        The samples and targets of a problem that has some, read-only.
    """

    name: str
    start: Any
    value: Callable[[Any], float]
    grad: Callable[[Any], Any]
    hess: Callable[[Any], Array] | None = None
    minimum: tuple[Any, float] | None = None
    data: tuple[Array, Array] | None = None

    def __post_init__(self) -> None:
        arrays = self.start.values() if isinstance(self.start, dict) else [self.start]
        for array in (*arrays, *(self.minimum or ())[:1], *(self.data or ())):
            array.flags.writeable = False

    def __repr__(self) -> str:
        return f"Problem({self.name})"

    def initial(self) -> Any:
        """A new copy of `start`, to be trained in place."""
        return copy.deepcopy(self.start)

    def value_and_grad(self, w: Any, batch: Any = None) -> tuple[float, Any]:
        """Value and gradient at w. The batch is there for `fastopt.fit`, and is ignored."""
        return self.value(w), self.grad(w)


def quadratic(condition: float = 100.0, n: int = 2, seed: int = 0, rotated: bool = True, spectrum: str = "geometric",
              noise: float = 0.0) -> Problem:
    """A quadratic, (w - w*)' A (w - w*)/2, where A has eigenvalues from 1 to `condition`.

    It starts at distance 1 from w* in the direction of each eigenvector.

    Parameters
    ----------
    condition : float
        The largest eigenvalue, 1 or more; the smallest is 1.
    n : int
        The dimension, 2 or more.
    seed : int
        Of w*, which is standard normal, and of the rotation.
    rotated : bool
        False: A is diagonal, with growing eigenvalues.
    spectrum : "geometric", "linear" or "two"
        Eigenvalues at equal ratios, at equal distances, or one half of them 1 and the other `condition`.
    noise : float
        Standard deviation of a normal number added to each element of the gradient. The k-th call of `grad` gets the
        k-th draw of a generator: the same calls on a new problem give the same gradients. Value and Hessian are exact.
    """
    where = "quadratic"
    condition, noise = _number("condition", condition, where), _number("noise", noise, where)
    n = check_whole("n", n, where, 2)
    check_option("spectrum", spectrum, ("geometric", "linear", "two"), where)
    check_option("rotated", rotated, (False, True), where)
    place, turn, disturb = init.generator(seed, where, "seed").spawn(3)  # w* does not depend on the other arguments
    e = {"geometric": np.geomspace(1, condition, n), "linear": np.linspace(1, condition, n),
         "two": np.where(np.arange(n) < (n + 1)//2, 1.0, condition)}[spectrum]
    q, best = np.eye(n), place.standard_normal(n)
    if rotated:  # uniformly among all (Stewart 1980); the signs make q unique, whichever LAPACK factors
        q, r = np.linalg.qr(turn.standard_normal((n, n)))
        q *= np.sign(np.diag(r))

    def grad(w: Array) -> Array:
        exact = q @ (e*((w - best) @ q))
        return exact + noise*disturb.standard_normal(n) if noise else exact

    def hess(w: Array) -> Array:
        a = (q*e) @ q.T
        return (a + a.T)/2
    return _flat(f"{where}: condition {condition:g}, n = {n}", best + q.sum(axis=1),
                 lambda w: (e*((w - best) @ q)**2).sum()/2, grad, (best, 0.0), hess)


def linear_regression(samples: int = 200, features: int = 10, collinearity: float = 0.99, scales: float = 1.0,
                      noise: float = 0.1, l2: float = 0.0, seed: int = 0) -> Problem:
    """Least squares with collinear columns of different scales.

        abs(X w - y)^2/(2 samples) + l2/2 abs(w)^2

    It starts at 0. The minimum is by least squares (the one nearest to 0 where there are many). `data` is (X, y).

    Parameters
    ----------
    samples, features : int
        The shape of X.
    collinearity : float
        c in [0, 1]: columns are sqrt(c)*common + sqrt(1 - c)*own, all standard normal, so that any two have correlation
        c. The condition number of their correlation matrix is 1 + features*c/(1 - c), but for the sampling.
    scales : float
        1 or more: the largest over the smallest scale of the columns, which grow at equal ratios from 1.
    noise, l2 : float
        Standard deviation of what is added to X @ truth; the strength of the penalty. 0 or more.
    """
    where = "linear_regression"
    rng, size = _plan(where, samples, features, scales, l2, seed)
    noise, c = _number("noise", noise, where), _number("collinearity", collinearity, where)
    common, own = rng.standard_normal((samples, 1)), rng.standard_normal((samples, features))
    x = (np.sqrt(c)*common + np.sqrt(1 - c)*own)*size
    y = x @ (rng.standard_normal(features)/size) + noise*rng.standard_normal(samples)
    tall, right = np.vstack([x, np.sqrt(samples*l2)*np.eye(features)]), np.concatenate([y, np.zeros(features)])
    return _regression(where, x, y, "squared", np.ones_like, l2, lambda *_: np.linalg.lstsq(tall, right)[0])


def logistic_regression(samples: int = 200, features: int = 10, l2: float = 1e-3, scales: float = 1.0,
                        seed: int = 0) -> Problem:
    """Logistic regression without intercept.

        mean(log(1 + exp(-s_i x_i'w))) + l2/2 abs(w)^2,   s_i = 1 for y_i = 1, and -1 for y_i = 0

    Arguments are those of `linear_regression`. The columns of X are independent, and y is drawn from a logistic model.
    It starts at 0. The minimum is by Newton's method, to rounding. `data` is (X, y), y of 0 and 1. ValueError where l2
    is 0 and a plane parts the classes: then there is no minimum.
    """
    where = "logistic_regression"
    rng, size = _plan(where, samples, features, scales, l2, seed)
    x = rng.standard_normal((samples, features))*size
    y = (rng.random(samples) < networks.logistic(x @ (rng.standard_normal(features)/size))).astype(float)
    return _regression(where, x, y, "logistic", lambda z: networks.logistic(z)*networks.logistic(-z), l2, _newton)


def rosenbrock(n: int = 2) -> Problem:
    """Rosenbrock 1960: sum_i(100*(w_(i+1) - w_i^2)^2 + (1 - w_i)^2), i = 1 ... n - 1; the minimum is 0 at (1, ..., 1).

    It starts at (-1.2, 1, -1.2, 1, ...). For n from 4 to 30 a local minimum has w_1 below 0 (Shang & Qiu 2006).
    """
    n = check_whole("n", n, "rosenbrock", 2)

    def grad(w: Array) -> Array:
        g, d = np.zeros_like(w), w[1:] - w[:-1]**2
        g[:-1] = -400*w[:-1]*d - 2*(1 - w[:-1])
        g[1:] += 200*d
        return g
    return _flat(f"rosenbrock: n = {n}", np.resize([-1.2, 1.0], n),
                 lambda w: (100*(w[1:] - w[:-1]**2)**2 + (1 - w[:-1])**2).sum(), grad, (np.ones(n), 0.0))


def beale() -> Problem:
    """Beale 1958: sum_k(c_k - x*(1 - y^k))^2, k = 1, 2, 3, c = (1.5, 2.25, 2.625), w = (x, y).

    The minimum is 0 at (3, 0.5). It starts at (1, 1), where the value is 14.203125 (Moré, Garbow & Hillstrom 1981,
    problem 5). A narrow curved valley in a plain, with steep sides far out.
    """
    c, k = np.array([1.5, 2.25, 2.625]), np.arange(1, 4)

    def parts(w: Array) -> tuple[Array, Array]:
        """The residuals, and their derivatives by x and y."""
        x, y = w
        powers = np.stack([np.ones_like(y), y, y**2])  # y^(k - 1)
        return c - x*(1 - y*powers), np.stack([y*powers - 1, x*k*powers])

    def grad(w: Array) -> Array:
        r, jacobian = parts(w)
        return 2*(jacobian @ r)
    return _flat("beale", np.ones(2), lambda w: (parts(w)[0]**2).sum(), grad, (np.array([3, 0.5]), 0.0))


def rastrigin(n: int = 2) -> Problem:
    """Rastrigin 1974: 10*n + sum_i(w_i^2 - 10*cos(2*pi*w_i)); the minimum is 0 at 0.

    There are local minima near whole numbers, up to 31. It is computed as sum_i(w_i^2 + 20*sin(pi*w_i)^2), which does
    not cancel near 0. It starts at (2.7, -3.3, 2.7, ...).
    """
    n, pi = check_whole("n", n, "rastrigin"), np.pi
    return _flat(f"rastrigin: n = {n}", np.resize([2.7, -3.3], n), lambda w: (w**2 + 20*np.sin(pi*w)**2).sum(),
                 lambda w: 2*w + 20*pi*np.sin(2*pi*w), (np.zeros(n), 0.0))


SIZES = (2, 16, 16, 1)
STARTS = {  # the initializer and the activation it is for
    "glorot": (init.glorot_uniform, "tanh"), "he": (init.he_normal, "relu"), "lecun": (init.lecun_normal, "tanh"),
    "saturated": (init.glorot_uniform, "tanh"), "equal": (init.glorot_uniform, "tanh")}


def network(start: str = "glorot", seed: int = 0) -> Problem:
    """The mean logistic loss of a network with two hidden layers of 16 units, on 256 points of a chessboard.

    The points are uniform on the square [-1, 1]^2, always the same; y is 1 where both coordinates have the same sign,
    else 0: one unit alone cannot tell. w is a dict {"W1": (2, 16), "b1": (16,), ..., "b3": (1,)}, whose arithmetic is
    that of `fastopt.networks`. `data` is (X, y). There is no Hessian, and the minimum is unknown.

    Parameters
    ----------
    start : "glorot", "he", "lecun", "saturated" or "equal"
        glorot, lecun: uniform and normal weights as in `fastopt.init`, tanh units.
        he: normal weights, relu units.
        saturated: Glorot's weights, 10 times as large in the hidden layers, and biases that keep the input of every
        hidden tanh 8 or more away from 0 at every sample. Its slope there is at most 4.5e-7, so that hidden layers
        hardly get a gradient.
        equal: all weights 0.1, so that the hidden units of a layer are equal, get equal gradients, and stay equal.
    seed : int
        Of the weights (not of the points).
    """
    initializer, activation = STARTS[check_option("start", start, tuple(STARTS), "network")]
    x = np.random.default_rng(0).uniform(-1, 1, (256, 2))
    y = (x[:, 0]*x[:, 1] > 0).astype(np.int64)
    w = networks.initial(SIZES, init.generator(seed, "network", "seed"), initializer, np.float64)
    if start == "equal":
        w.update({name: np.full_like(a, 0.1) for name, a in w.items() if name[0] == "W"})
    if start == "saturated":  # every hidden unit is driven to one side; 8 is the least input of its tanh
        for k in range(1, len(SIZES) - 1):
            w[f"W{k}"] *= 10
            z = networks.forward({name: w[name] for j in range(1, k + 1) for name in (f"W{j}", f"b{j}")}, x, "tanh")[-1]
            w[f"b{k}"][...] = np.where(np.arange(z.shape[1]) % 2, 8 - z.min(axis=0), -8 - z.max(axis=0))
    return Problem(f"network: {start}", w, lambda w: networks.value(w, x, y, "logistic", activation),
                   lambda w: networks.value_and_grad(w, x, y, "logistic", activation)[1], data=(x, y))


def _flat(name: str, start: Array, value: Callable, grad: Callable, minimum: tuple[Array, float],
          hess: Callable | None = None, data: tuple[Array, Array] | None = None) -> Problem:
    """A problem of one array. It is computed in float64, complex128 or a longer type; gradients have w's dtype.

    Without `hess` the gradient is analytic and exact: complex steps give the Hessian to rounding.
    """
    def read(w: Any) -> tuple[Array, np.dtype]:
        given = np.asarray(w)
        if given.shape != start.shape or given.dtype.kind not in "fcui":
            raise ValueError(f"{name.split(':')[0]}: w is {given.dtype} of shape {given.shape}, but numbers of shape "
                             f"{start.shape} are needed. Give an array like problem.start.")
        dtype = given.dtype if given.dtype.kind in "fc" else np.dtype(float)
        return given.astype(np.result_type(dtype, float), copy=False), dtype

    def gradient(w: Any) -> Array:
        wide, dtype = read(w)
        return grad(wide).astype(dtype, copy=False)

    def hessian(w: Any) -> Array:
        wide, step = read(w)[0], 1e-30
        if hess is not None:
            return hess(wide)
        h = np.stack([grad(wide + 1j*step*e).imag/step for e in np.eye(start.size)])
        return (h + h.T)/2
    return Problem(name, start, lambda w: value(read(w)[0]).item(), gradient, hessian, minimum, data)


def _number(name: str, value: Any, where: str) -> float:
    return check_number(name, value, where, allowed=RANGES[name])


def _plan(where: str, samples: int, features: int, scales: float, l2: float,
          seed: int) -> tuple[np.random.Generator, Array]:
    """The generator, and the scales of the columns."""
    check_whole("samples", samples, where)
    features = check_whole("features", features, where)
    _number("l2", l2, where)
    return init.generator(seed, where, "seed"), np.geomspace(1, _number("scales", scales, where), features)


def _regression(where: str, x: Array, y: Array, loss: str, curvature: Callable, l2: float, solve: Callable) -> Problem:
    """One linear unit without bias; `curvature` is the loss's second derivative by the output."""
    rows, (n, features) = networks.LOSSES[loss], x.shape

    def value(w: Array) -> Any:
        return rows((x @ w)[:, None], y)[0].mean() + l2/2*(w @ w)

    def grad(w: Array) -> Array:
        return rows((x @ w)[:, None], y)[1][:, 0] @ x/n + l2*w

    def hess(w: Array) -> Array:
        return (x.T*curvature(x @ w)) @ x/n + l2*np.eye(features)

    best = solve(value, grad, hess, np.zeros(features), where)
    minimum = best, value(best).item()
    return _flat(f"{where}: {n} x {features}", np.zeros(features), value, grad, minimum, hess, (x, y))


def _newton(value: Callable, grad: Callable, hess: Callable, w: Array, where: str) -> Array:
    """Newton's method with halved steps, until the decrement is down to rounding and the gradient shrinks no more."""
    for _ in range(100):
        g = grad(w)
        try:
            d = np.linalg.solve(hess(w), -g)
        except np.linalg.LinAlgError:
            break
        slope = g @ d
        if -slope <= 1e-24 and np.linalg.norm(grad(w + d)) >= np.linalg.norm(g):
            return w
        whole = -slope < 1e-10  # there, rounding drowns differences of values, and whole steps converge quadratically
        w = w + next((h*d for h in 0.5**np.arange(40) if whole or value(w + h*d) <= value(w) + 1e-4*h*slope), d)
    raise ValueError(f"{where}: no minimum was found, but one is needed. A plane parts the classes, or the columns "
                     "depend on each other: give l2=1e-3 or so, or more samples.")
