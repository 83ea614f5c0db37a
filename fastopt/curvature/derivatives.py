"""Derivatives of functions of trees by finite differences: the Jacobian, and the product of the Hessian and a vector."""
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from .._checks.extras import missing
from .flat import Flat, check_finite, power_of_two, precision

try:
    from scipy.differentiate import jacobian as adaptive_jacobian
    from scipy.optimize._numdiff import approx_derivative  # SciPy has 3-point differences nowhere else
except ImportError as error:
    raise missing("fastopt.curvature", error, "scipy") from None

ORDERS = {"2-point": 2, "3-point": 3}  # the step is eps**(1/order), which balances truncation and rounding
METHODS = (*ORDERS, "cs", "adaptive")


def jacobian(f: Callable[[Any], Any], w: Any, method: str = "3-point", *, rel_step: float | None = None,
             with_error: bool = False) -> Any:
    """The derivatives of f with respect to every element of w, by SciPy's finite differences.

    Parameters
    ----------
    f : callable
        f(w) -> a number, or an array of any shape. It gets a new tree like w for each evaluation (method "cs":
        complex128 arrays).
    w : array, or tree of arrays
        Where: float64, float32 or float16. It is not changed.
    method : {"2-point", "3-point", "cs", "adaptive"}
        "2-point": (f(w + h e) - f(w))/h, n + 1 evaluations for n elements; "3-point": (f(w + h e) - f(w - h e))/2h, 2n
        + 1; "cs": Im f(w + ih e)/h, n + 1, to rounding, where f is analytic and written for complex numbers (no abs, no
        comparison); "adaptive": `scipy.differentiate.jacobian`, order 8 with shrinking steps until they agree, from 11n
        + 1 on.
    rel_step : float, optional
        h/max(1, abs(w)) for the first three. By default eps**(1/2), eps**(1/3), and 2**-26 for "cs"; eps is that of the
        coarsest among the dtypes of w and of f(w). h is rounded to a power of two.
    with_error : bool
        "adaptive" only: return two trees, the derivatives and estimates of their errors.

    Returns
    -------
    tree of arrays
        In the structure of w, each leaf float64 of shape f(w).shape + leaf.shape (JAX's convention): the gradient of a
        number.

    Raises
    ------
    TypeError, ValueError
        For arguments that do not fit.
    FloatingPointError
        Where f is not finite at w or beside it; names the element.

    Warns
    -----
    RuntimeWarning
        "adaptive" without `with_error`, where an error estimate is above sqrt(eps) of the largest derivative.

    Notes
    -----
    Errors relative to the largest element, worst of 20 points of a smooth function (the tests): in float64 2-point
    3e-8, 3-point 6e-11, cs 6e-16, adaptive 7e-12; in float32 1e-3, 4e-5, -, 4e-6. (Numerical Recipes, 3rd edition,
    section 5.7.)
    """
    if method not in METHODS:
        raise ValueError(f"jacobian: method is {method!r}, but one of {', '.join(METHODS)} is needed. Change it.")
    if with_error and method != "adaptive":
        raise ValueError(f"jacobian: with_error was asked of method {method!r}, but only 'adaptive' estimates errors. "
                         f"Change method.")
    if rel_step is not None and not (method != "adaptive" and 0 < rel_step < np.inf):
        raise ValueError(f"jacobian: rel_step is {rel_step!r} with method {method!r}, but a number above 0 is needed, "
                         f"and none with "
                         "'adaptive'. Leave it out.")
    flat = Flat(w, "jacobian")
    values = _array(f(flat.tree(flat.vector)), "f(w)")
    check_finite(values, "jacobian: f(w)", FloatingPointError)
    scale, eps = np.maximum(1.0, abs(flat.vector)), max(flat.eps, precision(values))

    def flattened(x: np.ndarray) -> np.ndarray:
        new = _array(f(flat.tree(x)), "f(w)", "fiuc" if method == "cs" else "fiu")
        if new.shape != values.shape:
            raise ValueError(f"jacobian: f(w) has the shape {new.shape}, but {values.shape} at first. Return one "
                             f"shape.")
        return new.flatten()  # a copy: f may use its array again

    if method == "adaptive":
        return _adaptive(flattened, flat, values, power_of_two(scale)/2, eps, with_error)
    relative = rel_step or (2.0**-26 if method == "cs" else eps**(1/ORDERS[method]))
    start = values.ravel().astype(np.float64)
    matrix = approx_derivative(flattened, flat.vector, method, abs_step=power_of_two(relative*scale), f0=start)
    return _shaped(matrix.reshape(values.size, flat.size), flat, values.shape)


def _array(x: Any, what: str, kinds: str = "fiu") -> np.ndarray:
    array = np.asarray(x)
    if x is None or array.dtype.kind not in kinds or not array.size:
        found = f"an array of {array.dtype} and shape {array.shape}" if isinstance(x,
                                                                                   np.ndarray) else f"a {type(x).__name__}"
        raise TypeError(f"jacobian: {what} is {found}, but a number or an array of numbers is needed. Return one, from "
                        f"trees joined.")
    return array


def _adaptive(f: Callable, flat: Flat, values: np.ndarray, steps: np.ndarray, eps: float, with_error: bool) -> Any:
    def many(x: np.ndarray) -> np.ndarray:  # (n, ...) -> (m, ...)
        return np.stack([f(column) for column in x.reshape(flat.size, -1).T], axis=-1).reshape(-1,
                                                                                               *x.shape[1:]).astype(np.float64)

    rtol, atol = eps**0.5, 100*eps*float(abs(values).max())  # rounding f alone changes a derivative by eps*f over the shortest step, 1/32
    found = adaptive_jacobian(many, flat.vector, initial_step=steps, tolerances={"rtol": rtol, "atol": atol})
    derivatives = _shaped(found.df, flat, values.shape)
    if with_error:
        return derivatives, flat.columns(found.error, values.shape)
    doubtful = found.error > rtol*abs(found.df).max() + atol
    if doubtful.any():
        i, k = divmod(int(np.argmax(found.error)), flat.size)
        warnings.warn(f"jacobian: {doubtful.sum():,} of {doubtful.size:,} derivatives are uncertain by over {rtol:.0e} "
                      f"of the largest, "
                      f"that by {flat.element(k)} most: {found.df[i, k]:.6g} by {found.error[i, k]:.1g}. See "
                      f"with_error=True.",
                      RuntimeWarning, stacklevel=3)
    return derivatives


def _shaped(matrix: np.ndarray, flat: Flat, shape: tuple[int, ...]) -> Any:
    bad = np.flatnonzero(~np.isfinite(matrix).all(axis=0))
    if len(bad):
        raise FloatingPointError(f"jacobian: f is not finite beside {flat.element(int(bad[0]))}, the first of "
                                 f"{len(bad):,} elements. "
                                 "Move w into the domain of f, or take a smaller rel_step.")
    return flat.columns(matrix, shape)


def hvp(grad: Callable[[Any], Any], w: Any, v: Any) -> Any:
    """The Hessian times v, by a central difference of gradients: (grad(w + h v) - grad(w - h v))/2h.

    Parameters
    ----------
    grad : callable
        grad(w) -> the gradient, a tree like w. It gets new arrays; it is called twice.
    w : array, or tree of arrays
        Where: float64, float32 or float16. It is not changed.
    v : array, or tree of arrays
        The direction, in the structure and shapes of w.

    Returns
    -------
    tree of arrays
        In the structure, shapes and dtypes of w.

    Raises
    ------
    TypeError, ValueError
        For trees that do not fit, and w or v that are not finite.
    FloatingPointError
        Where the gradient is not finite.

    Notes
    -----
    The displacement d = h*norm(v) is eps**(1/3)*max(1, norm(w)), eps being that of the coarsest dtype among those of w
    and of the gradient. The error over norm(v) is d^2/6*T + eps*G/d: T is the third derivative of the gradient along v,
    G the size of the gradient's terms, about norm(H)*norm(w); rounding w + h v, which is eps*norm(w)/d of the step, is
    of that size too. The minimum over d is at (3*eps*G/T)**(1/3), which is d where nothing is known of G/T but its
    scale, max(1, norm(w))**3 (Nocedal & Wright 2006, section 8.1; Numerical Recipes, 3rd edition, section 5.7). It
    leaves about eps**(2/3) of norm(H): 4e-11 in float64, 2e-5 in float32. Worst of 20 points (the tests): Rosenbrock
    2e-11 and 2e-5, quadratics 2e-11 and 3e-6, Beale 5e-10 and 1e-4, and Rastrigin, whose T is (2 pi)**2 times norm(H),
    8e-9 and 5e-3.
    """
    flat = Flat(w, "hvp")
    return flat.tree(product(grad, flat, flat.collect(v, "v", ValueError)[0], flat.eps))


def product(grad: Any, flat: Flat, v: np.ndarray, eps: float) -> np.ndarray:
    """The Hessian times a float64 vector; eps is what the gradient's precision is expected to be (if coarser, it is done again)."""
    top = abs(v).max()
    if top == 0:
        return np.zeros_like(v)
    h = np.cbrt(eps)*max(1.0, flat.norm)/(top*np.linalg.norm(v/top))
    (ahead, e1), (behind, e2) = flat.gradient(grad, flat.vector + h*v), flat.gradient(grad, flat.vector - h*v)
    if max(e1, e2) > eps:
        return product(grad, flat, v, max(e1, e2))
    return (ahead - behind)/(2*h)
