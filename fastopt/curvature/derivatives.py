"""Derivatives of functions of trees by finite differences: the Jacobian, and products of the Hessian with a vector."""
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.differentiate import jacobian as adaptive_jacobian
from scipy.optimize._numdiff import approx_derivative  # SciPy has 3-point differences nowhere else

from .._checks.numbers import check_option
from .._checks.warning import warn
from .flat import Flat, check_finite, numbers, power_of_two, precision

ORDERS = {"2-point": 2, "3-point": 3}  # the step is eps**(1/order), which balances truncation and rounding


def jacobian(f: Callable[[Any], Any], w: Any, method: str = "3-point", *, rel_step: float | None = None,
             with_error: bool = False) -> Any:
    """The derivatives of f with respect to every element of w, by SciPy's finite differences.

    Parameters
    ----------
    f : callable
        f(w) -> a number, or an array of any shape. Each call gets a new tree like w ("cs": of complex128 arrays).
    w : array, or tree of arrays
        The point: float64, float32 or float16. It is not changed.
    method : {"2-point", "3-point", "cs", "adaptive"}
        For w of n elements:
        "2-point": (f(w + h e) - f(w))/h, n + 1 evaluations.
        "3-point": (f(w + h e) - f(w - h e))/2h, 2n + 1 evaluations.
        "cs": Im f(w + ih e)/h, n + 1 evaluations, exact to rounding. f must be analytic and take complex numbers: no
        abs, no comparison.
        "adaptive": `scipy.differentiate.jacobian` of order 8, whose steps shrink until two results agree; 11n + 1
        evaluations or more.
    rel_step : float, optional
        h/max(1, abs(w)), not for "adaptive". By default eps**(1/2) for "2-point", eps**(1/3) for "3-point", and 2**-26
        for "cs"; eps is that of the coarsest dtype among those of w and of f(w). h is rounded to a power of two.
    with_error : bool
        "adaptive" only: return two trees, the derivatives and estimates of their errors. Otherwise a RuntimeWarning is
        given where such an estimate is above sqrt(eps) of the largest derivative.

    Returns
    -------
    tree of arrays
        In the structure of w. Each leaf is float64, of shape f(w).shape + leaf.shape, as in JAX: for a number, the
        gradient.

    Raises
    ------
    TypeError, ValueError, FloatingPointError
        For arguments that do not fit; where f is not finite at w or beside it.

    Notes
    -----
    Numerical Recipes, 3rd edition, section 5.7. Errors relative to the largest element, the worst of 20 points of a
    smooth function: in float64 2-point 3e-8, 3-point 6e-11, cs 6e-16, adaptive 7e-12; in float32 1e-3, 4e-5, -, 4e-6.
    """
    method = check_option("method", method, (*ORDERS, "cs", "adaptive"), "jacobian")
    if with_error and method != "adaptive":
        raise ValueError(f"jacobian: with_error was asked of method {method!r}, but only 'adaptive' estimates errors. "
                         "Change method.")
    if rel_step is not None and not (method != "adaptive" and 0 < rel_step < np.inf):
        raise ValueError(f"jacobian: rel_step is {rel_step!r} with method {method!r}, but a number above 0 is needed, "
                         "and none with 'adaptive'. Leave it out.")
    flat = Flat(w, "jacobian")

    def at(x: np.ndarray, kinds: str = "fiu") -> np.ndarray:
        needed = "a number or an array of numbers is needed. Return one, from trees joined."
        return numbers(f(flat.tree(x)), "jacobian: f(w)", needed, kinds)

    values = at(flat.vector)
    check_finite(values, "jacobian: f(w)", FloatingPointError)
    scale, eps = np.maximum(1.0, abs(flat.vector)), max(flat.eps, precision(values))

    def flattened(x: np.ndarray) -> np.ndarray:
        new = at(x, "fiuc" if method == "cs" else "fiu")
        if new.shape != values.shape:
            raise ValueError(f"jacobian: f(w) has the shape {new.shape}, but {values.shape} at first. "
                             "Return one shape.")
        return new.flatten()  # a copy: f may use its array again

    if method == "adaptive":
        return _adaptive(flattened, flat, values, power_of_two(scale)/2, eps, with_error)
    relative = rel_step or (2.0**-26 if method == "cs" else eps**(1/ORDERS[method]))
    start = values.ravel().astype(np.float64)
    matrix = approx_derivative(flattened, flat.vector, method, abs_step=power_of_two(relative*scale), f0=start)
    return _shaped(matrix.reshape(values.size, flat.size), flat, values.shape)


def _adaptive(f: Callable, flat: Flat, values: np.ndarray, steps: np.ndarray, eps: float, with_error: bool) -> Any:
    def many(x: np.ndarray) -> np.ndarray:  # SciPy asks for points of shape (n, ...), and wants values (m, ...)
        columns = [f(column) for column in x.reshape(flat.size, -1).T]
        return np.stack(columns, axis=-1).reshape(-1, *x.shape[1:]).astype(np.float64)

    # rounding f changes a derivative by eps*f over the shortest step, 1/32
    rtol, atol = eps**0.5, 100*eps*float(abs(values).max())
    found = adaptive_jacobian(many, flat.vector, initial_step=steps, tolerances={"rtol": rtol, "atol": atol})
    derivatives = _shaped(found.df, flat, values.shape)
    if with_error:
        return derivatives, flat.columns(found.error, values.shape)
    doubtful = found.error > rtol*abs(found.df).max() + atol
    if doubtful.any():
        i, k = divmod(int(np.argmax(found.error)), flat.size)
        warn(f"jacobian: {doubtful.sum():,} of {doubtful.size:,} derivatives are uncertain by over {rtol:.0e} of the "
             f"largest, that by {flat.element(k)} most: {found.df[i, k]:.6g} by {found.error[i, k]:.1g}. See "
             "with_error=True.", RuntimeWarning)
    return derivatives


def _shaped(matrix: np.ndarray, flat: Flat, shape: tuple[int, ...]) -> Any:
    bad = np.flatnonzero(~np.isfinite(matrix).all(axis=0))
    if len(bad):
        raise FloatingPointError(f"jacobian: f is not finite beside {flat.element(int(bad[0]))}, the first of "
                                 f"{len(bad):,} elements. Move w into the domain of f, or take a smaller rel_step.")
    return flat.columns(matrix, shape)


def hvp(grad: Callable[[Any], Any], w: Any, v: Any) -> Any:
    """The Hessian times v, by a central difference of gradients: (grad(w + h v) - grad(w - h v))/2h.

    Parameters
    ----------
    grad : callable
        grad(w) -> the gradient, a tree like w. It is called twice, with new arrays.
    w : array, or tree of arrays
        The point: float64, float32 or float16. It is not changed.
    v : array, or tree of arrays
        The direction, in the structure and shapes of w.

    Returns
    -------
    tree of arrays
        In the structure, shapes and dtypes of w.

    Raises
    ------
    TypeError, ValueError, FloatingPointError
        For trees that do not fit, and w or v that are not finite; where the gradient is not finite.

    Notes
    -----
    The displacement d = h*norm(v) is eps**(1/3)*max(1, norm(w)). eps is that of the coarsest dtype among those of w and
    of the gradient. If the gradient's is the coarser one, it is called four times.

    The error over norm(v) is d^2/6*T + eps*G/d. T is the third derivative of the gradient along v. G is the size of the
    gradient's terms, about norm(H)*norm(w); rounding w + h v adds as much. The error is least where d is
    (3*eps*G/T)**(1/3). That is the d above if G/T is max(1, norm(w))**3: only its scale is known (Nocedal & Wright
    2006, section 8.1; Numerical Recipes, 3rd edition, section 5.7).

    About eps**(2/3) of norm(H) is left: 4e-11 in float64, 2e-5 in float32. The worst of 20 points (the tests):
    Rosenbrock 2e-11 and 2e-5, quadratics 2e-11 and 3e-6, Beale 5e-10 and 1e-4, and Rastrigin, whose T is (2 pi)**2
    times norm(H), 8e-9 and 5e-3.
    """
    flat = Flat(w, "hvp")
    return flat.tree(product(grad, flat, flat.collect(v, "v", ValueError)[0], flat.eps))


def product(grad: Any, flat: Flat, v: np.ndarray, eps: float) -> np.ndarray:
    """The Hessian times a float64 vector. `eps` is the gradient's expected precision; a coarser one is done again."""
    top = abs(v).max()
    if top == 0:
        return np.zeros_like(v)
    h = np.cbrt(eps)*max(1.0, flat.norm)/(top*np.linalg.norm(v/top))
    (ahead, e1), (behind, e2) = flat.gradient(grad, flat.vector + h*v), flat.gradient(grad, flat.vector - h*v)
    if max(e1, e2) > eps:
        return product(grad, flat, v, max(e1, e2))
    return (ahead - behind)/(2*h)
