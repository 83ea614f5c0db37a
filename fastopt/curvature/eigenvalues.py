"""Extreme eigenvalues, condition numbers, and the hyperparameters that they suggest, from Hessian-vector products."""
import math
from collections.abc import Callable
from contextlib import suppress
from math import sqrt
from typing import Any, NamedTuple

import numpy as np
from scipy.linalg import norm  # it neither overflows nor underflows
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

from .._checks.numbers import NONNEGATIVE, check_number, check_whole
from .derivatives import product
from .flat import EPS, UNIT, Flat

DENSE = 10          # elements below which the whole Hessian is formed: eigsh wants more of them
BASES = (64, 1024)  # Lanczos vectors kept; the second if the first is not enough (eigenvalues at equal ratios, k = 1e3)
BASIS = 2**30       # the most bytes that they take
RESTARTS = 10       # with the first basis: 30 and 100 cost twice and six times the products there
Gradient = Callable[[Any], Any]
HVP = Callable[[Any, Any], Any]


class Hessian(LinearOperator):
    """The Hessian at w as SciPy sees it. `tol` and `most` are the accuracy and the number of products allowed."""

    def __init__(self, where: str, grad: Gradient | None, w: Any, hvp: HVP | None, tol: float = 1e-3,
                 most: int | None = None):
        self.tol = check_number("tol", tol, where, allowed=UNIT)
        self.most = math.inf if most is None else check_whole("max_products", most, where)
        if not callable(grad if hvp is None else hvp):
            raise TypeError(f"{where}: grad is {grad!r} and hvp is {hvp!r}, but one function is needed. Give grad(w) "
                            "or hvp(w, v).")
        self.flat, self.grad, self.hvp, self.products = Flat(w, where), grad, hvp, 0
        if hvp:
            self.relative, self.absolute = 10*EPS, 0.0
        else:
            g, eps = self.flat.gradient(grad, self.flat.vector)
            self.eps = max(eps, self.flat.eps)
            self.relative = self.eps**(2/3)
            self.absolute = self.relative*float(np.linalg.norm(g))/max(1.0, self.flat.norm)
        super().__init__(np.dtype(np.float64), (self.flat.size, self.flat.size))

    def noise(self, size: float) -> float:
        """How uncertain the product with a unit vector is, if the Hessian's norm is `size` (see the notes of `hvp`)."""
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
        return RuntimeError(f"{self.flat.where}: {self.products:,} products with the Hessian were not enough for an "
                            "eigenvalue to within tol. Raise max_products or tol; or add weight_decay (suggest), or "
                            "ask for the largest_eigenvalue only.")


def operator(grad: Gradient | None, w: Any, *, hvp: HVP | None = None) -> LinearOperator:
    """The Hessian at w as a `scipy.sparse.linalg.LinearOperator`, for SciPy's solvers (`cg`, `minres`, `eigsh`).

    Parameters
    ----------
    grad : callable
        grad(w) -> a tree like w. It is called once here, and twice for each product, as in `hvp`.
    w : array, or tree of arrays
        The point: float64, float32 or float16. It is not changed.
    hvp : callable, optional
        hvp(w, v) -> the Hessian times v, a tree like w. Give it if you have the exact product
        (``jax.jvp(grad, (w,), (v,))[1]``). Then grad is not used and may be None.

    Returns
    -------
    LinearOperator
        Symmetric, float64, n x n for w of n elements. They are numbered leaf after leaf, each in C order.

    Raises
    ------
    TypeError, ValueError, FloatingPointError
        For arguments that do not fit, here or at the first product; where a gradient or product is not finite.
    """
    return Hessian("operator", grad, w, hvp)


def _extremes(h: Hessian, rng: Any, both: bool = True, decay: float = 0.0) -> tuple[float, float]:
    """The extreme eigenvalues of h + decay, to tol of the smallest; unless `both`, the largest, to tol of it, twice."""
    n, tol = h.flat.size, h.tol
    if n < DENSE:
        matrix = h @ np.eye(n)
        low, high = np.linalg.eigvalsh((matrix + matrix.T)/2)[[0, -1]] + decay
        return float(low), float(high)
    start = np.random.default_rng(rng).standard_normal(n)
    size, v = 0.0, start
    for _ in range(3):  # the power method tells roughly how large h is, and so the noise of its products
        v = h.matvec(v/norm(v))
        size = float(norm(v))
        if size <= h.noise(0):
            return decay, decay
    # ARPACK's tolerance is tol*abs(eigenvalue): of h + lift, that is tol*abs(smallest + decay) + noise
    lift = decay + h.noise(size)/tol
    lifted = LinearOperator(h.shape, matvec=lambda v: h.matvec(v) + lift*np.ravel(v), dtype=h.dtype)
    if both:
        values, vectors = _eigsh(h, lifted, 2, "BE", tol, start)
        if n > BASES[0]:  # else the basis was whole. Where eigenvalues crowd, the larger is only known to tol of itself
            values[1:], _ = _eigsh(h, lifted, 1, "LA", tol*abs(values[0]/values[1]), vectors[:, 1])
    else:
        values, _ = _eigsh(h, lifted, 1, "LA", tol, start)
    return float(values[0]) - lift + decay, float(values[-1]) - lift + decay


def _eigsh(h: Hessian, lifted: LinearOperator, k: int, which: str, tol: float, start: np.ndarray) -> Any:
    """Eigenvalues and their vectors by SciPy's Lanczos (ARPACK), with a longer basis if a short one is not enough."""
    n = len(start)
    for basis in BASES:
        with suppress(ArpackNoConvergence):
            longest = max(20, min(basis, BASIS//(8*n)))
            return eigsh(lifted, k, which=which, tol=tol, v0=start, ncv=min(n, longest), maxiter=RESTARTS)
    raise h.given_up()


def extreme_eigenvalues(grad: Gradient | None, w: Any, *, hvp: HVP | None = None, tol: float = 1e-3,
                        max_products: int = 2000, rng: int | np.random.Generator = 0) -> tuple[float, float]:
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
    `scipy.sparse.linalg.eigsh` (implicitly restarted Lanczos) finds both ends, and then the larger more closely. Of 5
    quadratics of 1,000 elements, eigenvalues at equal ratios, eigenvectors along the axes, the worst relative errors:

    ================ ========= ======== ======= ================= =======
    largest/smallest gradients smallest largest float32: smallest largest
    ================ ========= ======== ======= ================= =======
    10               630       4e-6     7e-13   4e-6              3e-7
    1e3, 1e5         3,500     1e-11    7e-13   4e-5              5e-7
    ================ ========= ======== ======= ================= =======

    For eigenvalues at equal distances, 510 to 760 gradients are enough. Rotated eigenvectors make products noisier, and
    the smallest eigenvalue 80 to 2,000 times less exact.
    """
    return _extremes(Hessian("extreme_eigenvalues", grad, w, hvp, tol, max_products), rng)


def largest_eigenvalue(grad: Gradient | None, w: Any, *, hvp: HVP | None = None, tol: float = 1e-3,
                       max_products: int = 2000, rng: int | np.random.Generator = 0) -> float:
    """The largest eigenvalue of the Hessian at w (its sharpness), to within tol of it.

    It takes far fewer products than `extreme_eigenvalues`, whose arguments and errors it has. Gradient descent is
    stable for learning rates below 2 over it.
    """
    return _extremes(Hessian("largest_eigenvalue", grad, w, hvp, tol, max_products), rng, both=False)[1]


def _convex(h: Hessian, rng: Any, decay: float = 0.0) -> tuple[float, float]:
    """The extreme eigenvalues of h + decay; ValueError unless the smallest is above 0 by more than noise."""
    low, high = _extremes(h, rng, decay=decay)
    noise = h.noise(max(abs(low), abs(high)))
    if low > 4*noise:
        return low, high
    stable = f"; the largest stable lr is {2/high:.6g}" if high > 0 else ""
    cure = ("look at extreme_eigenvalues, or go where the function is convex." if low < -4*noise else
            "or give hvp or gradients of a finer dtype.")
    raise ValueError(f"{h.flat.where}: the smallest eigenvalue of the Hessian is {low:.3g} within {4*noise:.1g}, but "
                     f"one above 0 is needed. The largest is {high:.6g}{stable}. Add weight_decay (suggest), {cure}")


def condition_number(grad: Gradient | None, w: Any, *, hvp: HVP | None = None, tol: float = 1e-3,
                     max_products: int = 2000, rng: int | np.random.Generator = 0) -> float:
    """The largest eigenvalue of the Hessian over the smallest, which must be above 0 as in `suggest`.

    Arguments and other errors are those of `extreme_eigenvalues`.
    """
    low, high = _convex(Hessian("condition_number", grad, w, hvp, tol, max_products), rng)
    return high/low


class Suggestion(NamedTuple):
    """What `suggest` returns. The dicts are keyword arguments of SGD, Momentum and Nesterov; `rates` has their keys."""

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

        largest_stable_lr  2/L: with a larger lr, gradient descent diverges
        gradient_descent   lr = 2/(L + m)
                           rate (k - 1)/(k + 1)
        momentum           lr = (2/(sqrt(L) + sqrt(m)))^2, momentum = ((sqrt(k) - 1)/(sqrt(k) + 1))^2
                           rate (sqrt(k) - 1)/(sqrt(k) + 1)
        nesterov           lr = 4/(3L + m), momentum = (sqrt(3k + 1) - 2)/(sqrt(3k + 1) + 2)
                           rate 1 - 2/sqrt(3k + 1)

    The rate is the factor by which a step shrinks the distance to the minimum of a quadratic, in the long run.

    Parameters
    ----------
    grad, w, hvp
        As in `operator`.
    weight_decay : float
        The decay that the optimizer will get (coupled). It is added to the eigenvalues and put into the dicts. That of
        Nesterov then has shifted=True too: the stored parameters are the look-ahead point, so that gradient and decay
        are taken at one point.
    tol, max_products, rng
        As in `extreme_eigenvalues`.

    Returns
    -------
    Suggestion
        ``fastopt.Momentum(w, **suggest(grad, w).momentum)``.

    Raises
    ------
    TypeError, ValueError, FloatingPointError, RuntimeError
        As `extreme_eigenvalues`; ValueError too where the smallest eigenvalue is not above 0 by more than the noise of
        the gradients. Its message has the largest stable lr.

    Notes
    -----
    Lessard, Recht & Packard 2016. Momentum and Nesterov at these settings have a double eigenvalue without a second
    eigenvector (a Jordan block) in their iteration: the distance falls as t*rate^t. The optimizers were measured in
    float64, for k of 10, 1e3 and 1e5 and 2 to 200 dimensions, with the factor t taken out (the tests): log(rate) is
    within 0.1 % (gradient descent, in fewer steps: 1.2 %). The setting of momentum is for functions that are close to
    quadratic: on other convex ones it may cycle for ever (same paper).
    """
    decay = check_number("weight_decay", weight_decay, "suggest", allowed=NONNEGATIVE)
    m, L = _convex(Hessian("suggest", grad, w, hvp, tol, max_products), rng, decay)
    k, extra = L/m, {"weight_decay": decay} if decay else {}
    r, a = sqrt(k), sqrt(3*k + 1)
    return Suggestion(
        smallest=m, largest=L, condition=k, largest_stable_lr=2/L,
        gradient_descent={"lr": 2/(L + m), **extra},
        momentum={"lr": (2/(sqrt(L) + sqrt(m)))**2, "momentum": ((r - 1)/(r + 1))**2, **extra},
        nesterov={"lr": 4/(3*L + m), "momentum": (a - 2)/(a + 2), **extra, **({"shifted": True} if decay else {})},
        rates={"gradient_descent": (k - 1)/(k + 1), "momentum": (r - 1)/(r + 1), "nesterov": 1 - 2/a})
