"""Extreme eigenvalues, condition numbers, and the hyperparameters that they suggest, from Hessian-vector products."""
import math
from collections.abc import Callable
from contextlib import suppress
from math import sqrt
from typing import Any, NamedTuple

import numpy as np

from .._checks.extras import missing
from .._checks.numbers import NONNEGATIVE, check_number, check_whole
from .derivatives import product
from .flat import EPS, Flat

try:
    from scipy.linalg import norm
    from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh
except ImportError as error:
    raise missing("fastopt.curvature", error, "scipy") from None

DENSE = 10          # elements below which all products are made: eigsh wants more of them
BASES = (64, 1024)  # Lanczos vectors that are kept; the second where the first is not enough: eigenvalues at equal ratios, condition 1e3
BASIS = 2**30       # bytes that they may take
RESTARTS = 10       # with the first: 30 and 100 cost twice and six times the products there
Gradient = Callable[[Any], Any]
HVP = Callable[[Any, Any], Any]


class Hessian(LinearOperator):
    """The Hessian at w as SciPy sees it."""

    def __init__(self, grad: Gradient | None, w: Any, hvp: HVP | None, where: str):
        if not callable(grad if hvp is None else hvp):
            raise TypeError(f"{where}: grad is {grad!r} and hvp is {hvp!r}, but one function is needed. Give grad(w) or hvp(w, v).")
        self.flat, self.grad, self.hvp, self.products, self.most = Flat(w, where), grad, hvp, 0, math.inf
        self.eps, slope = (self.flat.eps, 0.0) if hvp else self._gradient()
        self.relative = 10*EPS if hvp else self.eps**(2/3)
        self.absolute = self.relative*slope/max(1.0, self.flat.norm)
        super().__init__(np.dtype(np.float64), (self.flat.size, self.flat.size))

    def _gradient(self) -> tuple[float, float]:
        g, eps = self.flat.gradient(self.grad, self.flat.vector)
        return max(eps, self.flat.eps), float(np.linalg.norm(g))

    def noise(self, size: float) -> float:
        """How uncertain the product with a unit vector is, for an operator of norm `size`: see the notes of `hvp`."""
        return self.relative*size + self.absolute

    def _matvec(self, v: np.ndarray) -> np.ndarray:
        v, flat = np.ravel(v).astype(np.float64), self.flat
        if self.products >= self.most:
            raise self.given_up()
        self.products += 1
        if self.hvp is None:
            return product(self.grad, flat, v, self.eps)
        return flat.collect(self.hvp(flat.tree(flat.vector), flat.tree(v)), "hvp(w, v)")[0]

    def _adjoint(self) -> "Hessian":
        return self

    def given_up(self) -> RuntimeError:
        return RuntimeError(f"{self.flat.where}: {self.products:,} products with the Hessian were not enough for an eigenvalue to within "
                            "tol. Raise max_products or tol; or add weight_decay (suggest), or ask for the largest_eigenvalue only.")


def operator(grad: Gradient | None, w: Any, *, hvp: HVP | None = None) -> LinearOperator:
    """The Hessian at w as a `scipy.sparse.linalg.LinearOperator`, for SciPy's solvers (`cg`, `minres`, `eigsh`).

    Parameters
    ----------
    grad : callable
        grad(w) -> a tree like w. Called once here and twice for each product, as in `hvp`.
    w : array, or tree of arrays
        Where: float64, float32 or float16. It is not changed.
    hvp : callable, optional
        hvp(w, v) -> the Hessian times v, a tree like w, if you have it exactly (``jax.jvp(grad, (w,), (v,))[1]``); then grad is not used
        and may be None.

    Returns
    -------
    LinearOperator
        Symmetric, float64, n x n for w of n elements, that are numbered leaf after leaf, each in C order.

    Raises
    ------
    TypeError, ValueError
        For arguments that do not fit, here or at the first product.
    FloatingPointError
        Where a gradient or product is not finite.
    """
    return Hessian(grad, w, hvp, "operator")


def _extremes(h: Hessian, tol: float, most: int, rng: Any, both: bool = True, decay: float = 0.0) -> tuple[float, float]:
    """The smallest and the largest eigenvalue of h + decay to within tol of the smallest; unless `both`, the largest, twice."""
    n, h.most = h.flat.size, most
    if n < DENSE:
        matrix = h @ np.eye(n)
        values = np.linalg.eigvalsh((matrix + matrix.T)/2) + decay
        return float(values[0 if both else -1]), float(values[-1])
    start = np.random.default_rng(rng).standard_normal(n)
    size, v = 0.0, start
    for _ in range(3):  # of the power method: how large h is, roughly, and so the noise of its products
        v = h.matvec(v/norm(v))
        size = float(norm(v))  # SciPy's neither overflows nor underflows
        if size <= h.noise(0):
            return decay, decay
    lift = decay + h.noise(size)/tol  # ARPACK's tolerance is tol*abs(eigenvalue): of h + lift it is tol*abs(smallest + decay) + noise
    moved = LinearOperator(h.shape, matvec=lambda v: h.matvec(v) + lift*np.ravel(v), dtype=h.dtype)
    if not both:
        high, _ = _eigsh(h, moved, 1, "LA", tol, start)
        return float(high[0]) - lift + decay, float(high[0]) - lift + decay
    values, vectors = _eigsh(h, moved, 2, "BE", tol, start)
    if n > BASES[0]:  # else the basis was whole. The larger is known to tol of itself, where eigenvalues crowd there
        values[1:], _ = _eigsh(h, moved, 1, "LA", tol*abs(values[0]/values[1]), vectors[:, 1])
    return float(values[0]) - lift + decay, float(values[1]) - lift + decay


def _eigsh(h: Hessian, moved: LinearOperator, k: int, which: str, tol: float, start: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues and their vectors by SciPy's Lanczos (ARPACK), with a longer basis where a short one does not get there."""
    n = len(start)
    for basis in BASES:
        with suppress(ArpackNoConvergence):
            return eigsh(moved, k, which=which, tol=tol, v0=start, ncv=min(n, max(20, min(basis, BASIS//(8*n)))), maxiter=RESTARTS)
    raise h.given_up()


def _checked(where: str, tol: float, max_products: int) -> None:
    if not 0 < check_number("tol", tol, where, "") < 1:
        raise ValueError(f"{where}: tol is {tol!r}, but a number between 0 and 1 is needed. Change tol.")
    check_whole("max_products", max_products, where)


def extreme_eigenvalues(grad: Gradient | None, w: Any, *, hvp: HVP | None = None, tol: float = 1e-3, max_products: int = 2000,
                        rng: int | np.random.Generator = 0) -> tuple[float, float]:
    """The smallest and the largest eigenvalue of the Hessian at w, from products with it: it is never formed.

    Parameters
    ----------
    grad, w, hvp
        As in `operator`.
    tol : float
        Both are found to within tol*abs(smallest), as far as the noise of the products allows.
    max_products : int
        The most products, of two gradients each.
    rng : int or numpy.random.Generator
        Draws the vector to start from.

    Returns
    -------
    (float, float)
        The smallest (below 0 where the function is not convex) and the largest.

    Raises
    ------
    TypeError, ValueError, FloatingPointError
        As `operator`.
    RuntimeError
        Where `max_products`, or the longest basis that is kept (1,024 vectors, 1 GB), were not enough.

    Notes
    -----
    `scipy.sparse.linalg.eigsh` (implicitly restarted Lanczos) finds both ends, and then the larger more closely. Gradients and relative
    errors, the worst of 5 quadratics of 1,000 elements with eigenvalues at equal ratios (at equal distances 510, 640, 760 are enough),
    eigenvectors along the axes: rotated, the products are noisier, and the smallest eigenvalue is 80 to 2,000 times less exact.

    | largest/smallest | gradients | error of the smallest | of the largest | float32: gradients | smallest | largest |
    |---|---|---|---|---|---|---|
    | 10 | 630 | 4e-6 | 7e-13 | 630 | 4e-6 | 3e-7 |
    | 1e3 | 3,500 | 3e-12 | 7e-13 | 3,500 | 3e-6 | 5e-7 |
    | 1e5 | 3,500 | 1e-11 | 6e-13 | 3,500 | 4e-5 | 5e-7 |
    """
    _checked("extreme_eigenvalues", tol, max_products)
    return _extremes(Hessian(grad, w, hvp, "extreme_eigenvalues"), tol, max_products, rng)


def largest_eigenvalue(grad: Gradient | None, w: Any, *, hvp: HVP | None = None, tol: float = 1e-3, max_products: int = 2000,
                       rng: int | np.random.Generator = 0) -> float:
    """The largest eigenvalue of the Hessian at w (its sharpness) to within tol of it: far fewer products than `extreme_eigenvalues`.

    Gradient descent is stable for a learning rate below 2 over it. Arguments and errors are those of `extreme_eigenvalues`.
    """
    _checked("largest_eigenvalue", tol, max_products)
    return _extremes(Hessian(grad, w, hvp, "largest_eigenvalue"), tol, max_products, rng, both=False)[1]


def _convex(h: Hessian, decay: float, tol: float, max_products: int, rng: Any) -> tuple[float, float]:
    """The extreme eigenvalues of h + decay, where the smallest is known to be above 0."""
    low, high = _extremes(h, tol, max_products, rng, decay=decay)
    noise = h.noise(max(abs(low), abs(high)))
    if low > 4*noise:
        return low, high
    stable = f"; the largest stable lr is {2/high:.6g}" if high > 0 else ""
    cure = ("Add weight_decay (suggest), look at extreme_eigenvalues, or go where the function is convex." if low < -4*noise else
            "Add weight_decay (suggest), or give hvp or gradients of a finer dtype.")
    raise ValueError(f"{h.flat.where}: the smallest eigenvalue of the Hessian is {low:.3g} within {4*noise:.1g}, but one above 0 is "
                     f"needed. The largest is {high:.6g}{stable}. {cure}")


def condition_number(grad: Gradient | None, w: Any, *, hvp: HVP | None = None, tol: float = 1e-3, max_products: int = 2000,
                     rng: int | np.random.Generator = 0) -> float:
    """The largest eigenvalue of the Hessian over the smallest, which must be above 0: a ValueError, as in `suggest`, where it is not.

    Arguments and other errors are those of `extreme_eigenvalues`.
    """
    _checked("condition_number", tol, max_products)
    low, high = _convex(Hessian(grad, w, hvp, "condition_number"), 0.0, tol, max_products, rng)
    return high/low


class Suggestion(NamedTuple):
    """What `suggest` returns. The dicts are keyword arguments of SGD, Momentum and Nesterov; `rates` has their names as keys."""

    smallest: float
    largest: float
    condition: float
    largest_stable_lr: float
    gradient_descent: dict[str, Any]
    momentum: dict[str, Any]
    nesterov: dict[str, Any]
    rates: dict[str, float]


def suggest(grad: Gradient | None, w: Any, *, hvp: HVP | None = None, weight_decay: float = 0.0, tol: float = 1e-3,
            max_products: int = 2000, rng: int | np.random.Generator = 0) -> Suggestion:
    """The learning rates and momenta that are the fastest near a minimum with the curvature of w.

    With m and L the smallest and the largest eigenvalue of the Hessian, k = L/m:

        largest_stable_lr = 2/L                                     of gradient descent: above it, it diverges
        gradient_descent   lr = 2/(L + m)                                                                 rate (k - 1)/(k + 1)
        momentum           lr = (2/(sqrt(L) + sqrt(m)))^2   momentum = ((sqrt(k) - 1)/(sqrt(k) + 1))^2     rate (sqrt(k) - 1)/(sqrt(k) + 1)
        nesterov           lr = 4/(3L + m)   momentum = (sqrt(3k + 1) - 2)/(sqrt(3k + 1) + 2)              rate 1 - 2/sqrt(3k + 1)

    The rate is the factor by which the distance to the minimum shrinks in a step, in the long run, if the function is quadratic.

    Parameters
    ----------
    grad, w, hvp
        As in `operator`.
    weight_decay : float
        Will be given to the optimizer (coupled): it is added to the eigenvalues and put into the dicts. Nesterov's then has shifted=True:
        the stored parameters are the look-ahead point, so that gradient and decay are taken at the same one.
    tol, max_products, rng
        As in `extreme_eigenvalues`.

    Returns
    -------
    Suggestion
        ``fastopt.Momentum(w, **suggest(grad, w).momentum)``.

    Raises
    ------
    ValueError
        Where the smallest eigenvalue is not above 0 by more than the noise of the gradients; names the largest stable lr.
    TypeError, FloatingPointError, RuntimeError
        As `extreme_eigenvalues`.

    Notes
    -----
    Lessard, Recht & Packard 2016. Momentum and Nesterov at these settings have a double eigenvalue without a second eigenvector (a Jordan
    block) in their iteration: the distance falls as t*rate^t. Measured with the optimizers in float64 for k of 10, 1e3 and 1e5 and 2 to 200
    dimensions, with that factor taken out (the tests): log(rate) is within 0.1 % (gradient descent, in fewer steps: 1.2 %). Momentum's
    setting is for functions that are close to quadratic: on other convex ones it may cycle for ever (same paper).
    """
    decay = check_number("weight_decay", weight_decay, "suggest", allowed=NONNEGATIVE)
    _checked("suggest", tol, max_products)
    m, L = _convex(Hessian(grad, w, hvp, "suggest"), decay, tol, max_products, rng)
    k, extra = L/m, {"weight_decay": decay} if decay else {}
    r, a = sqrt(k), sqrt(3*k + 1)
    return Suggestion(
        smallest=m, largest=L, condition=k, largest_stable_lr=2/L,
        gradient_descent={"lr": 2/(L + m), **extra},
        momentum={"lr": (2/(sqrt(L) + sqrt(m)))**2, "momentum": ((r - 1)/(r + 1))**2, **extra},
        nesterov={"lr": 4/(3*L + m), "momentum": (a - 2)/(a + 2), **extra, **({"shifted": True} if decay else {})},
        rates={"gradient_descent": (k - 1)/(k + 1), "momentum": (r - 1)/(r + 1), "nesterov": 1 - 2/a})
