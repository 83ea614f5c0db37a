"""Is a gradient right? Every leaf is compared with numeric derivatives that know their error, be it noise or a kink."""
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy.differentiate import derivative

from .._checks.numbers import check_number, check_whole
from .flat import UNIT, Flat, coordinate, numbers, power_of_two, precision

HALVINGS = 4
FIRST_STEPS = tuple(2.0**-k for k in range(1, 30, HALVINGS))  # each attempt goes on where the one before ended
ORDER, SURE = 8, 4.0
ROUNDING = 1024  # times eps*value is the least error that counts, at the scale of w: rounding, for steps of 1/1024
NO_SLOPE = 200    # times eps*value: a smaller derivative is taken for none, as of a constant, or at a minimum
POINTS = 2.0**np.arange(4)
JUMP = np.linalg.inv(POINTS[:, None]**[0, 1, 3, 5])[0]  # c from c + c1*t + c3*t^3 + c5*t^5 at t, 2t, 4t, 8t


class LeafCheck(NamedTuple):
    """One leaf. `verdict` is that of its worst derivative, to which the fields below belong.

    Attributes
    ----------
    path, at : str
        The leaf, such as "w['bias']", and the element, such as "[2, 0]". `at` is "direction", that is along a random
        direction through the leaf, if no element that was drawn is as bad.
    verdict : {"ok", "wrong", "unsure"}
    analytic, numeric, uncertainty : float
        The derivatives compared, and the estimated error of `numeric`: half the jump of the derivative at a kink.
    error : float
        abs(numeric - analytic) relative to the largest of both and of the root mean square of the leaf's gradient.
    checked : int
        How many derivatives were compared.
    """

    path: str
    verdict: str
    error: float
    at: str
    analytic: float
    numeric: float
    uncertainty: float
    checked: int

    @property
    def ok(self) -> bool:
        """Whether the verdict is "ok"."""
        return self.verdict == "ok"


class GradientCheck(NamedTuple):
    """The result of `check_gradient`: true if every leaf is ok. Printed, it is a table. `rtol` is the error allowed."""

    leaves: tuple[LeafCheck, ...]
    rtol: float

    def __bool__(self) -> bool:
        return all(leaf.ok for leaf in self.leaves)

    def __str__(self) -> str:
        rows = [("leaf", "verdict", "error", "worst at", "analytic", "numeric", "uncertain by", "checked")]
        rows += [(k.path, k.verdict, f"{k.error:.1e}", k.at, f"{k.analytic:.6g}", f"{k.numeric:.6g}",
                  f"{k.uncertainty:.1e}", str(k.checked)) for k in self.leaves]
        wide = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join("  ".join(map(str.ljust, row, wide)).rstrip() for row in rows)


def check_gradient(value: Callable[[Any], float], grad: Callable[[Any], Any], w: Any, *, samples: int = 20,
                   rng: int | np.random.Generator = 0, rtol: float | None = None) -> GradientCheck:
    """Compare a gradient with numeric derivatives of the value: a verdict for each leaf.

    Of every leaf, `samples` elements are checked (all where there are fewer), and one random direction that moves all
    elements at once. A single wrong element that was not drawn shows there, if its error is above some 5*rtol times the
    norm of the leaf's gradient.

    Parameters
    ----------
    value : callable
        value(w) -> a number.
    grad : callable
        grad(w) -> a tree like w. Both get new arrays of w's dtypes: give float64 arrays for the sharpest check.
    w : array, or tree of arrays
        The point: float64, float32 or float16. It is not changed.
    samples : int
        Elements per leaf. `value` is called 11 times for most that are right and smooth, up to 71 times for others.
    rng : int or numpy.random.Generator
        Draws elements and directions.
    rtol : float, optional
        The relative error allowed, of the derivative and of its numeric value. By default eps**(1/3) of the coarsest
        dtype among those of w, value and gradient: 6e-6 in float64, 5e-3 in float32. (Give 5e-3 where functions compute
        in float32 but return float64.)

    Returns
    -------
    GradientCheck
        ok: the numeric derivative is certain to rtol, and agrees.
        wrong: it disagrees by more than rtol and four times its uncertainty, for two sets of steps that differ by a
        factor of 16 or more, and none contradicts another.
        unsure: anything else, as at a kink, or where there is much noise.

    Raises
    ------
    TypeError, ValueError, FloatingPointError
        For arguments that do not fit; where value or gradient are not finite at w.

    Notes
    -----
    `scipy.differentiate.derivative` (order 8, steps halved until two results agree) estimates the derivative and its
    error, from steps near max(1, abs(w))/2 and, where that is not enough, from smaller ones, down to 1e-11. Its
    differences are symmetric, and give 0 at the kink of abs(w). So the jump of the derivative, the limit of
    (f(w + t) + f(w - t) - 2f(w))/t, is extrapolated from the same values.

    Networks of 8-20-12-4 units (the tests): in float64 all leaves are ok with tanh and relu, and an element that is
    wrong by 0.1 % of the leaf's root mean square is found; in float32 all are ok with tanh, but two of three are unsure
    with relu: steps that noise allows cross kinks. Within 1e-5 of a kink a derivative may be unsure.
    """
    samples = check_whole("samples", samples, "check_gradient")
    rtol = None if rtol is None else check_number("rtol", rtol, "check_gradient", allowed=UNIT)
    flat, rng = Flat(w, "check_gradient"), np.random.default_rng(rng)
    start = _number(value(flat.tree(flat.vector)))
    if not np.isfinite(start):
        raise FloatingPointError(f"check_gradient: value(w) is {start}, but a finite number is needed. Move w.")
    g, coarsest = flat.gradient(grad, flat.vector)
    eps, size = max(flat.eps, coarsest, precision(start)), abs(float(start))
    noise = max(eps*size, _noise(value, flat, rng))
    point = _Point(value, flat, g, size, noise, eps, float(np.cbrt(eps)) if rtol is None else rtol)
    leaves = (_check_leaf(point, k, samples, rng) for k, shape in enumerate(flat.shapes) if 0 not in shape)
    return GradientCheck(tuple(leaves), point.rtol)


def _number(x: Any) -> np.ndarray:
    return numbers(x, "check_gradient: value(w)", "one real number is needed. Return it.", one=True).reshape(())


def _noise(value: Callable, flat: Flat, rng: np.random.Generator) -> float:
    """The noise of the value, by fourth differences along steps of 1e-6 (More & Wild 2011): dtypes do not tell it."""
    move = rng.standard_normal(flat.size)
    move *= 1e-6*max(1.0, flat.norm)/np.linalg.norm(move)
    with np.errstate(all="ignore"):
        differences = np.diff([float(_number(value(flat.tree(flat.vector + k*move)))) for k in range(8)], 4)
    return _rms(differences)*24/math.sqrt(40320) if np.isfinite(differences).all() else 0.0  # (4!)^2/8!


def _rms(g: np.ndarray) -> float:
    """The root mean square, of numbers of any size."""
    most = float(abs(g).max())
    return most*float(np.sqrt(np.mean((g/most)**2))) if most else 0.0


class _Point(NamedTuple):
    """Where a gradient is checked: function, w, gradient, size and noise of the value, precision, error allowed."""

    value: Callable[[Any], float]
    flat: Flat
    g: np.ndarray
    size: float
    noise: float
    eps: float
    rtol: float


class _Line:
    """A line through w, along which a derivative is taken: `speed` is how fast each of the elements `at` moves."""

    def __init__(self, point: _Point, at: np.ndarray, speed: np.ndarray, name: str):
        self.point, self.at, self.speed, self.name = point, at, speed, name
        self.reach, self.analytic = float(np.linalg.norm(point.flat.vector[at])), float(point.g[at] @ speed)
        self.values: dict[float, float] = {}  # by the distance t from w

    def value(self, t: float) -> float:
        if t not in self.values:
            x = self.point.flat.vector.copy()
            x[self.at] += t*self.speed
            self.values[t] = float(_number(self.point.value(self.point.flat.tree(x))))
        return self.values[t]

    def doubt(self) -> float:
        """How uncertain any derivative is: by half its jump at w, or by the noise over the shortest step.

        (f(t) + f(-t) - 2f(0))/t is the jump, plus odd powers of t where f is smooth on each side.
        """
        f, steps = self.values, sorted(t for t in self.values if t > 0)
        jump = JUMP @ [(f[t] + f[-t] - 2*f[0.0])/t for t in steps[:len(POINTS)]]
        rounding = (self.point.noise + self.point.eps*abs(self.analytic)*self.reach)/steps[0]
        return float(np.maximum(abs(jump)/2, rounding))


def _lines(point: _Point, k: int, samples: int, rng: np.random.Generator) -> list[_Line]:
    """A line for each element that is drawn from a leaf, and one that moves them all."""
    begin, shape = int(point.flat.edges[k]), point.flat.shapes[k]
    n = math.prod(shape)
    drawn = np.sort(rng.choice(n, min(samples, n), replace=False))
    every = rng.choice([-1.0, 1.0], n)*rng.uniform(0.5, 1.5, n)  # none is left out, and no two errors cancel
    lines = [_Line(point, np.array([begin + i]), np.ones(1), coordinate(int(i), shape) or "()") for i in drawn]
    return [*lines, _Line(point, np.arange(begin, begin + n), every/np.linalg.norm(every), "direction")]


def _check_leaf(point: _Point, k: int, samples: int, rng: np.random.Generator) -> LeafCheck:
    lines, rtol, rounding = _lines(point, k, samples, rng), point.rtol, point.eps*point.size
    analytic, scale = np.array([line.analytic for line in lines]), np.array([max(1.0, line.reach) for line in lines])
    least = np.minimum(ROUNDING*rounding/rtol/scale, _rms(point.g))  # a leaf of small slopes need not be better
    floor = np.maximum(max(_rms(point.g[lines[-1].at]), np.finfo(float).tiny), least)
    numeric, uncertain = np.full(len(lines), np.nan), np.full(len(lines), np.inf)
    right, votes = np.zeros(len(lines), bool), np.zeros(len(lines), int)
    low, high = -uncertain, uncertain.copy()  # where all attempts allow the derivative: nowhere, if one claims too much
    for step in FIRST_STEPS:
        i = np.flatnonzero(~right)
        if not len(i):
            break
        new, doubt = _differentiate([lines[j] for j in i], step*power_of_two(scale[i]), rtol, rtol*floor.min())
        miss, allowed = abs(new - analytic[i]), rtol*np.fmax(np.fmax(abs(new), abs(analytic[i])), floor[i])
        right[i] = (np.fmax(doubt, miss) <= allowed) | ((miss <= doubt) & (doubt <= NO_SLOPE*rounding/scale[i]))
        width = allowed + SURE*doubt
        votes[i] += miss > width
        low[i], high[i] = np.fmax(low[i], new - width), np.fmin(high[i], new + width)
        better = right[i] | (doubt < uncertain[i])
        numeric[i[better]], uncertain[i[better]] = new[better], doubt[better]
    error = abs(numeric - analytic)/np.fmax(np.fmax(abs(numeric), abs(analytic)), floor)
    wrong = (votes >= 2) & (low <= high)

    def badness(i: int) -> tuple:  # an element is named before the direction
        return wrong[i], not right[i], i < len(lines) - 1 or right[i], np.nan_to_num(error[i])

    worst = max(range(len(lines)), key=badness)
    verdict = "wrong" if wrong[worst] else "ok" if right[worst] else "unsure"
    return LeafCheck(point.flat.paths[k], verdict, float(error[worst]), lines[worst].name, float(analytic[worst]),
                     float(numeric[worst]), float(uncertain[worst]), len(lines))


def _differentiate(lines: list[_Line], steps: np.ndarray, rtol: float, atol: float) -> tuple[np.ndarray, np.ndarray]:
    """The derivatives along the lines, and how uncertain each is: SciPy's estimate, or ours where that is larger."""
    along = np.vectorize(lambda t, k: lines[int(k)].value(t), otypes=[np.float64])
    with np.errstate(all="ignore"):  # w + t may leave the domain of the function
        found = derivative(along, np.zeros(len(lines)), args=(np.arange(len(lines)),), initial_step=steps, order=ORDER,
                           maxiter=HALVINGS, tolerances={"rtol": rtol, "atol": atol})
        doubt = np.maximum(found.error, [line.doubt() for line in lines])
    return found.df, np.where(np.isfinite(found.df + doubt), doubt, np.inf)
