"""Is a gradient right? Every leaf against numeric derivatives that know their own error: a kink, or noise, is not taken for a mistake."""
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .._checks.extras import missing
from .._checks.numbers import check_whole
from .flat import Flat, coordinate, power_of_two, precision

try:
    from scipy.differentiate import derivative
except ImportError as error:
    raise missing("fastopt.curvature", error, "scipy") from None

HALVINGS = 4
FIRST_STEPS = tuple(2.0**-k for k in range(1, 30, HALVINGS))  # each attempt goes on where the one before ended
ORDER, SURE = 8, 4.0
ROUNDING = 1024  # times eps*value is the least error that counts, at the scale of w: what rounding does to steps of 1/1024
NOTHING = 200    # times eps*value: a derivative below it is none, as of a constant, or at a minimum
POINTS = 2.0**np.arange(4)
JUMP = np.linalg.inv(POINTS[:, None]**[0, 1, 3, 5])[0]  # of s at t, 2t, 4t, 8t: the constant of c + c1*t + c3*t^3 + c5*t^5


class LeafCheck(NamedTuple):
    """One leaf. `verdict` is that of its worst derivative, to which the fields below belong.

    Attributes
    ----------
    path : str
        "w['bias']", for example.
    verdict : {"ok", "wrong", "unsure"}
    error : float
        abs(numeric - analytic) relative to the largest of both and of the root mean square of the leaf's gradient.
    at : str
        "[2, 0]", or "direction": along a random direction through the leaf, if no element that was drawn is as bad.
    analytic, numeric : float
        The derivatives compared.
    uncertainty : float
        The estimated error of `numeric`; half the jump of the derivative at a kink.
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
        return self.verdict == "ok"


class GradientCheck(NamedTuple):
    """The result of `check_gradient`: true if every leaf is ok; printed, it is a table. `rtol` is the relative error allowed."""

    leaves: tuple[LeafCheck, ...]
    rtol: float

    def __bool__(self) -> bool:
        return all(leaf.ok for leaf in self.leaves)

    def __str__(self) -> str:
        rows = [("leaf", "verdict", "error", "worst at", "analytic", "numeric", "uncertain by", "checked")]
        rows += [(k.path, k.verdict, f"{k.error:.1e}", k.at, f"{k.analytic:.6g}", f"{k.numeric:.6g}", f"{k.uncertainty:.1e}",
                  str(k.checked)) for k in self.leaves]
        wide = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join("  ".join(map(str.ljust, row, wide)).rstrip() for row in rows)


def check_gradient(value: Callable[[Any], float], grad: Callable[[Any], Any], w: Any, *, samples: int = 20,
                   rng: int | np.random.Generator = 0, rtol: float | None = None) -> GradientCheck:
    """Compare a gradient with numeric derivatives of the value: a verdict for each leaf.

    Of every leaf, `samples` elements are drawn (all where there are fewer), and one random direction that moves all elements at once: a
    single wrong element that was not drawn shows there, if its error is above some 5*rtol times the norm of the leaf's gradient.

    Parameters
    ----------
    value : callable
        value(w) -> a number.
    grad : callable
        grad(w) -> a tree like w. Both get new arrays of w's dtypes: give float64 arrays for the sharpest check.
    w : array, or tree of arrays
        Where: float64, float32 or float16. It is not changed.
    samples : int
        Elements per leaf. `value` is called 11 times for most that are right and smooth, up to 129 times for others.
    rng : int or numpy.random.Generator
        Draws elements and directions.
    rtol : float, optional
        The relative error allowed, of the derivative and of its numeric value. By default eps**(1/3) of the coarsest dtype among those
        of w, value and gradient: 6e-6 in float64, 5e-3 in float32. (Give 5e-3 where functions compute in float32 but return float64.)

    Returns
    -------
    GradientCheck
        ok: the numeric derivative is certain to rtol, and agrees. wrong: it disagrees by more than rtol and four times its uncertainty,
        for two sets of steps that differ by a factor of 16 or more, and none contradicts another. unsure: anything else, as at a kink, or
        where there is much noise.

    Raises
    ------
    TypeError, ValueError
        For arguments that do not fit.
    FloatingPointError
        Where value or gradient are not finite at w.

    Notes
    -----
    `scipy.differentiate.derivative` (order 8, steps halved until two results agree) estimates the derivative and its error from steps near
    max(1, abs(w))/2 and, where that is not enough, from smaller ones, down to 1e-11. Its differences are symmetric, and give 0 at the kink
    of abs(w): so the jump of the derivative, the limit of (f(w + t) + f(w - t) - 2f(w))/t, is extrapolated from the same values.

    Networks of 8-20-12-4 units (the tests): in float64 all leaves are ok with tanh and relu, and an element that is wrong by 0.1 % of the
    leaf's root mean square is found; in float32 all are ok with tanh, but two of three are unsure with relu: steps that noise allows cross
    kinks. Within 1e-5 of a kink a derivative may be unsure.
    """
    samples = check_whole("samples", samples, "check_gradient")
    if rtol is not None and not 0 < rtol < 1:
        raise ValueError(f"check_gradient: rtol is {rtol!r}, but a number between 0 and 1 is needed. Leave it out.")
    flat, rng = Flat(w, "check_gradient"), np.random.default_rng(rng)
    start = _number(value(flat.tree(flat.vector)))
    if not np.isfinite(start):
        raise FloatingPointError(f"check_gradient: value(w) is {start}, but a finite number is needed. Move w.")
    g, coarsest = flat.gradient(grad, flat.vector)
    eps = max(flat.eps, coarsest, precision(np.asarray(start)))
    noise = max(eps*abs(float(start)), _noise(value, flat, rng))
    subject = _Subject(value, flat, g, abs(float(start)), noise, eps, float(np.cbrt(eps)) if rtol is None else rtol)
    leaves = (_check_leaf(subject, k, samples, rng) for k, shape in enumerate(flat.shapes) if 0 not in shape)
    return GradientCheck(tuple(leaves), subject.rtol)


def _noise(value: Callable, flat: Flat, rng: np.random.Generator) -> float:
    """The noise of the value, by its fourth differences along steps of 1e-6 (More & Wild 2011): functions may compute in float32 inside."""
    move = rng.standard_normal(flat.size)
    move *= 1e-6*max(1.0, flat.norm)/np.linalg.norm(move)
    with np.errstate(all="ignore"):
        differences = np.diff([float(_number(value(flat.tree(flat.vector + k*move)))) for k in range(8)], 4)
    return _rms(differences)*24/math.sqrt(40320) if np.isfinite(differences).all() else 0.0  # (4!)^2/8!


def _number(x: Any) -> Any:
    array = np.asarray(x)
    if x is None or array.size != 1 or array.dtype.kind not in "fiu":
        found = f"an array of {array.dtype} and shape {array.shape}" if isinstance(x, np.ndarray) else f"a {type(x).__name__}"
        raise TypeError(f"check_gradient: value(w) is {found}, but one real number is needed. Return it.")
    return array.reshape(())[()]


class _Subject(NamedTuple):
    """What is checked: the function, the point, gradient, size and noise of the value there, the coarsest precision, what is allowed."""

    value: Callable[[Any], float]
    flat: Flat
    g: np.ndarray
    size: float
    noise: float
    eps: float
    rtol: float


class _Line(NamedTuple):
    """Where a derivative is taken: elements of w, how fast each moves, how large they are together, and the analytic derivative."""

    at: np.ndarray
    speed: np.ndarray
    reach: float
    analytic: float
    name: str


def _lines(of: _Subject, k: int, samples: int, rng: np.random.Generator) -> list[_Line]:
    begin, end = int(of.flat.edges[k]), int(of.flat.edges[k + 1])
    drawn = np.sort(rng.choice(end - begin, min(samples, end - begin), replace=False))
    every = rng.choice([-1.0, 1.0], end - begin)*rng.uniform(0.5, 1.5, end - begin)  # none is left out, and no two errors cancel
    moves = [(np.array([begin + i]), np.ones(1), coordinate(int(i), of.flat.shapes[k]) or "()") for i in drawn]
    moves += [(np.arange(begin, end), every/np.linalg.norm(every), "direction")]
    return [_Line(at, speed, float(np.linalg.norm(of.flat.vector[at])), float(of.g[at] @ speed), name) for at, speed, name in moves]


def _check_leaf(of: _Subject, k: int, samples: int, rng: np.random.Generator) -> LeafCheck:
    lines = _lines(of, k, samples, rng)
    rms = _rms(of.g[of.flat.edges[k]:of.flat.edges[k + 1]])
    scale = np.array([max(1.0, line.reach) for line in lines])
    least = np.minimum(ROUNDING*of.eps*of.size/of.rtol/scale, _rms(of.g))  # a small leaf beside larger ones need not be better than this
    floor = np.maximum(max(rms, np.finfo(float).tiny), least)
    analytic = np.array([line.analytic for line in lines])
    numeric, uncertain = np.full(len(lines), np.nan), np.full(len(lines), np.inf)
    right, votes = np.zeros(len(lines), bool), np.zeros(len(lines), int)
    low, high = np.full(len(lines), -np.inf), np.full(len(lines), np.inf)  # what all attempts allow: nothing, if one claims too much
    for step in FIRST_STEPS:
        todo = np.flatnonzero(~right)
        if not len(todo):
            break
        new, doubt = _differentiate(of, [lines[i] for i in todo], step*power_of_two(scale[todo]), of.rtol*floor.min())
        miss, allowed = abs(new - analytic[todo]), of.rtol*np.fmax(np.fmax(abs(new), abs(analytic[todo])), floor[todo])
        right[todo] = (np.fmax(doubt, miss) <= allowed) | ((miss <= doubt) & (doubt <= NOTHING*of.eps*of.size/scale[todo]))
        width = allowed + SURE*doubt
        votes[todo] += miss > width
        low[todo], high[todo] = np.fmax(low[todo], new - width), np.fmin(high[todo], new + width)
        better = right[todo] | (doubt < uncertain[todo])
        numeric[todo[better]], uncertain[todo[better]] = new[better], doubt[better]
    error = abs(numeric - analytic)/np.fmax(np.fmax(abs(numeric), abs(analytic)), floor)
    wrong = (votes >= 2) & (low <= high)
    worst = max(range(len(lines)), key=lambda i: (wrong[i], not right[i], i < len(lines) - 1 or right[i], np.nan_to_num(error[i])))
    return LeafCheck(of.flat.paths[k], "wrong" if wrong[worst] else "ok" if right[worst] else "unsure", float(error[worst]),
                     lines[worst].name, float(analytic[worst]), float(numeric[worst]), float(uncertain[worst]), len(lines))


def _rms(g: np.ndarray) -> float:
    """The root mean square, of any size."""
    most = float(abs(g).max())
    return most*float(np.sqrt(np.mean((g/most)**2))) if most else 0.0


def _differentiate(of: _Subject, lines: list[_Line], steps: np.ndarray, atol: float) -> tuple[np.ndarray, np.ndarray]:
    """The derivatives along the lines, and how uncertain each is: by SciPy's estimate, by half the derivative's jump, by rounding."""
    seen: list[dict[float, float]] = [{} for _ in lines]

    def along(t: np.ndarray, k: np.ndarray) -> np.ndarray:
        return np.vectorize(lambda ti, ki: _value_at(of, lines[int(ki)], ti, seen[int(ki)]), otypes=[np.float64])(t, k)

    with np.errstate(all="ignore"):  # w + t may leave the domain of the function
        found = derivative(along, np.zeros(len(lines)), args=(np.arange(len(lines)),), initial_step=steps, order=ORDER, maxiter=HALVINGS,
                           tolerances={"rtol": of.rtol, "atol": atol})
        jump = np.array([abs(_jump(values)) for values in seen])
        rounding = [(of.noise + of.eps*abs(line.analytic)*line.reach)/min(t for t in values if t > 0)
                    for line, values in zip(lines, seen, strict=True)]
        doubt = np.maximum(np.maximum(found.error, jump/2), rounding)
    return found.df, np.where(np.isfinite(found.df + doubt), doubt, np.inf)


def _value_at(of: _Subject, line: _Line, t: float, seen: dict[float, float]) -> float:
    if t not in seen:
        x = of.flat.vector.copy()
        x[line.at] += t*line.speed
        seen[t] = float(_number(of.value(of.flat.tree(x))))
    return seen[t]


def _jump(values: dict[float, float]) -> float:
    """How much the derivative jumps at 0: s(t) = (f(t) + f(-t) - 2f(0))/t is that plus odd powers of t where f is smooth on each side."""
    t = np.sort([t for t in values if t > 0])[:len(POINTS)]
    return float(JUMP @ [(values[x] + values[-x] - 2*values[0.0])/x for x in t])
