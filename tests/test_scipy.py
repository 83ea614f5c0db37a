"""scipy.optimize.minimize with fastopt: solutions against NumPy and L-BFGS-B, counts against functions that count."""
import itertools
import pickle
import re

import numpy as np
import pytest
from conftest import OPTIMIZERS, assert_identical, normal
from scipy import optimize
from scipy.optimize import Bounds, LinearConstraint, OptimizeResult, OptimizeWarning, minimize, rosen, rosen_der

import fastopt
from fastopt import schedules
from fastopt.scipy import method

INF, NAN = np.inf, np.nan
FAST = {"momentum": 0.05, "nesterov": 0.05, "adam": 0.1}  # learning rates that solve `Bowl` in 10,000 steps
ADAM = method("adam", lr=0.1)


class Bowl:
    """f(x) = (x - m)'A(x - m)/2 with eigenvalues from 1 to 5, which counts and records what it is asked."""

    def __init__(self, seed=0, n=4):
        q, _ = np.linalg.qr(normal(seed, n, n))
        self.A, self.m, self.start = (q*np.linspace(1, 5, n)) @ q.T, normal(seed + 1, n), normal(seed + 2, n)
        self.points, self.gradients = [], []

    def f(self, x):
        self.points.append(x.copy())
        return (x - self.m) @ self.A @ (x - self.m)/2

    def g(self, x):
        self.gradients.append(x.copy())
        return self.A @ (x - self.m)

    def solve(self, chosen=ADAM, **more):
        return minimize(self.f, **{"x0": self.start, "jac": self.g, "method": chosen, **more})


# What it finds

@pytest.mark.parametrize("name", FAST)
def test_the_points_are_the_optimizers(name):
    """Bit for bit those of a loop over `step`, each evaluated once, value and gradient at one place, to the minimum."""
    bowl, chosen = Bowl(), method(name, lr=FAST[name])
    found = bowl.solve(chosen, options={"return_all": True})
    assert (found.success, found.status, found.message) == (True, 0, "Optimization terminated successfully.")
    slopes = [np.abs(bowl.A @ (x - bowl.m)).max() for x in found.allvecs]
    assert slopes[-1] <= 1e-5 < min(slopes[:-1])  # the first point that is flat enough
    assert np.abs(found.x - bowl.m).max() <= 2e-5  # the gradient's norm over the smallest eigenvalue, 1
    w, points = bowl.start.copy(), []
    opt = OPTIMIZERS[name](w, lr=FAST[name])
    for _ in range(found.nit + 1):
        points.append((opt.lookahead() if name == "nesterov" else w).copy())
        opt.step(bowl.A @ (points[-1] - bowl.m))
    for seen in (bowl.points, bowl.gradients, found.allvecs):
        assert_identical(np.array(seen), np.array(points))
    assert 10 < found.nit < 10_000
    assert found.nfev == found.njev == found.nit + 1
    assert_identical(found.x, points[-1])
    assert_identical(found.jac, bowl.A @ (found.x - bowl.m))
    assert found.fun == Bowl().f(found.x)


def test_steps_that_do_not_suffice_give_the_lowest_point():
    bowl = Bowl()
    found = bowl.solve(method("momentum", lr=0.3, momentum=0.9), options={"maxiter": 30, "return_all": True})
    values = [Bowl().f(x) for x in found.allvecs]
    lowest = int(np.argmin(values))
    assert 0 < lowest < 30  # it swings
    assert (found.status, found.success, found.message) == (1, False, "Maximum number of iterations has been exceeded.")
    assert_identical(found.x, found.allvecs[lowest])
    assert found.fun == values[lowest]
    assert_identical(found.jac, bowl.A @ (found.x - bowl.m))
    assert (found.nit, found.nfev, len(bowl.points)) == (30, 31, 31)


def test_how_many_steps():
    bowl = Bowl()
    found = bowl.solve(options={"maxiter": 0})
    assert (found.status, found.nit, found.nfev, found.njev) == (1, 0, 1, 1)
    assert_identical(found.x, bowl.start)
    found = bowl.solve(x0=bowl.m)
    assert (found.status, found.nit, found.nfev) == (0, 0, 1)
    found = minimize(lambda x: x[0], [0.0], jac=lambda x: np.ones(1), method=method("momentum", lr=1e-3))
    assert (found.status, found.nit) == (1, 10_000)


def test_names_classes_and_rules():
    first, *others = [Bowl().solve(method(rule, lr=0.1), options={"maxiter": 20})
                      for rule in ("adam", fastopt.Adam, "ADAM", fastopt.rules.adam)]
    for other in others:
        assert_identical(other.x, first.x)


def test_one_method_serves_many_runs():
    """No momentum, no step count and no lowered learning rate is left from the run before."""
    plateau = schedules.ReduceOnPlateau(0.3, factor=0.5, patience=0)
    for chosen in (method("nesterov", lr=schedules.cosine(0.05, 100)), method("adam", lr=plateau)):
        one, two = Bowl().solve(chosen, options={"maxiter": 60}), Bowl().solve(chosen, options={"maxiter": 60})
        assert_identical(one.x, two.x)
        assert one.nit == two.nit > 20
    assert plateau(1) == 0.3


def test_reduce_on_plateau_is_fed():
    rates, points = schedules.ReduceOnPlateau(1.1, factor=0.5, patience=0), []
    minimize(lambda x: points.append(x[0]) or x[0]**2, [1.0], jac=lambda x: 2*x, method=method("sgd", lr=rates),
             options={"maxiter": 12, "gtol": 0})
    x, want, twin = 1.0, [], schedules.ReduceOnPlateau(1.1, factor=0.5, patience=0)
    for _ in range(13):
        want.append(x)
        twin.observe(x**2)
        x = x - twin(1)*2*x
    assert np.allclose(points, want, rtol=1e-12, atol=0)
    assert twin(1) < 1.1


# How often it asks

@pytest.mark.parametrize(("scheme", "calls", "error"),
                         [(None, 5, 1e-7), ("2-point", 5, 1e-7), ("3-point", 9, 1e-9), ("cs", 5, 1e-14)])
def test_differences(scheme, calls, error):
    """The word arrives as an option, and as `jac` where `minimize` does not swallow it."""
    bowl = Bowl()
    found = bowl.solve(jac=None, options={} if scheme is None else {"finite_diff": scheme})
    assert found.success
    assert np.abs(found.jac - bowl.A @ (found.x - bowl.m)).max() < error
    assert found.nfev == len(bowl.points) == calls*found.njev
    assert found.njev == found.nit + 1
    assert_identical(ADAM(Bowl().f, bowl.start, jac=scheme).x, found.x)
    assert Bowl().solve(jac=scheme or False, options={"maxiter": 1}).nfev == 5*2


def test_the_step_of_differences():
    bowl = Bowl()
    bowl.solve(jac=None, options={"maxiter": 0, "finite_diff_rel_step": [1e-3, 1e-4, 1e-3, 1e-4]})
    steps = np.diag(np.array(bowl.points[1:]) - bowl.start)/bowl.start
    assert np.allclose(np.abs(steps), [1e-3, 1e-4, 1e-3, 1e-4], rtol=1e-6)


def test_differences_of_a_float32_value():
    """The step fits the value's precision: with that of float64 the derivative would be noise."""
    found = minimize(lambda x: np.float32(((x - 1.25)**2).sum() + 100), np.zeros(2), method=ADAM, tol=0.3,
                     options={"maxiter": 300})
    assert found.success
    assert np.abs(found.x - 1.25).max() < 0.3


def test_what_is_evaluated_once():
    """Value and gradient with jac=True; and a point that stays."""
    def both(x):
        return bowl.f(x), bowl.g(x)

    def alone(x):
        return bowl.f(x)
    bowl, want = Bowl(), Bowl().solve()
    found = minimize(both, bowl.start, jac=True, method=ADAM)
    assert_identical(found.x, want.x)
    assert len(bowl.points) == found.nfev == found.njev == want.nfev
    stays = method("sgd", lr=schedules.multi_step(0.1, [2], 1e-30))
    for fun, jac, calls in ((both, True, 3), (alone, None, 15)):
        bowl = Bowl()
        found = minimize(fun, bowl.start, jac=jac, method=stays, options={"maxiter": 9})
        assert (found.nit, found.nfev, len(bowl.points)) == (9, calls, calls)


def test_args():
    def f(x, a, b=1.0):
        return b*((x - a)**2).sum()
    for given in ({"jac": lambda x, a, b: 2*b*(x - a)}, {"jac": None}, {"options": {"finite_diff": "3-point"}}):
        assert np.abs(minimize(f, [0.0, 0.0], args=(3.0, 2.0), method=ADAM, **given).x - 3).max() < 1e-5
    assert abs(minimize(f, [0.0], args=2.0, method=ADAM).x[0] - 2) < 1e-5
    assert abs(ADAM(f, [0.0], args=2.0).x[0] - 2) < 1e-5


# Tolerances and options

def test_tol_and_gtol():
    first, second, both, *default = [Bowl().solve(**given).nit for given in (
        {"tol": 1e-2}, {"options": {"gtol": 1e-2}}, {"tol": 1e-8, "options": {"gtol": 1e-2}}, {}, {"tol": 1e-5},
        {"options": {"gtol": None, "maxiter": None, "tol": None}})]
    assert first == second == both < default[0]
    assert len(set(default)) == 1


@pytest.mark.parametrize("tol", [1e-3, 1e-6])
@pytest.mark.parametrize(("name", "word"), [("ftol", "changed the value"), ("xtol", "moved x")])
def test_ftol_and_xtol(name, word, tol):
    """They end a run after the first ten steps in a row that meet them, near the point that SciPy's methods find."""
    bowl, chosen = Bowl(), method("momentum", lr=0.05)
    found = bowl.solve(chosen, options={name: tol, "gtol": 0, "return_all": True})
    assert (found.status, found.success) == (0, True)
    assert found.message == f"Optimization terminated successfully: 10 steps in a row {word} by at most {name}."
    of = [Bowl().f(x) for x in found.allvecs] if name == "ftol" else found.allvecs
    met = [np.abs(b - a).max() <= tol*max(1, np.abs(a).max(), np.abs(b).max())
           for a, b in itertools.pairwise(map(np.asarray, of))]
    assert all(met[-10:])
    assert not any(all(met[k:k + 10]) for k in range(len(met) - 10))
    assert found.fun == min(Bowl().f(x) for x in found.allvecs)
    reference = minimize(bowl.f, bowl.start, jac=bowl.g, method="L-BFGS-B", options={"ftol": 1e-15, "gtol": 1e-10})
    assert np.abs(found.x - reference.x).max() < (30*tol if name == "xtol" else 3*tol**0.5)
    assert bowl.solve(chosen, options={name: None, "maxiter": found.nit, "gtol": 0}).status == 1


def test_a_turn_is_no_rest():
    """Momentum that swings stands still where it turns, for less than ten steps: a step alone would meet xtol there."""
    found = minimize(lambda x: x[0]**2/2, [1.0], jac=lambda x: x, method=method("momentum", lr=1e-3, momentum=0.999),
                     options={"xtol": 2e-4, "ftol": 0, "maxiter": 600, "return_all": True})
    moves = np.abs(np.diff(np.ravel(found.allvecs)))
    assert (moves[40:] <= 2e-4).any()
    assert (found.status, found.nit) == (1, 600)


@pytest.mark.parametrize("jac", [True, None])
def test_maxfev_is_never_passed(jac):
    """With gradients exactly that many, as Nelder-Mead; with differences no point begins that would pass it."""
    for limit in (1, 10, 50):
        rng, calls = np.random.default_rng(0), []

        def noise(x, rng=rng, calls=calls):
            calls.append(1)
            return rng.random()*1000
        given = {"jac": lambda x: np.ones(3)} if jac else {}
        found = minimize(noise, np.ones(3), method=ADAM, options={"maxfev": limit, "finite_diff_rel_step": 0.1},
                         **given)
        assert (found.status, found.success) == (5, False)
        assert found.message == "Maximum number of function evaluations has been exceeded."
        assert found.nfev == len(calls) == (limit if jac else max(4, limit//4*4))
        theirs = minimize(noise, np.ones(3), method="Nelder-Mead", options={"maxfev": limit})
        assert theirs.message == found.message
        assert theirs.nfev == limit


@pytest.mark.parametrize(("given", "kind", "says"), [
    ({"options": {"eps": 1e-3, "maxfun": 3}}, OptimizeWarning, "Unknown solver options: eps, maxfun$"),
    ({"hess": len}, RuntimeWarning, r"Method fastopt.scipy.method\('adam', lr=0.1\) does not use Hessian information"),
    ({"hessp": lambda x, p: p}, RuntimeWarning, r"does not use Hessian-vector product information \(hessp\)\."),
    ({"options": {"disp": True, "maxiter": 1}}, OptimizeWarning, "Maximum number of iterations")])
def test_warnings_as_scipys(given, kind, says):
    bowl, given = Bowl(), {"method": ADAM, **given}
    for call in (lambda: minimize(bowl.f, bowl.start, jac=bowl.g, **given),
                 lambda: optimize.basinhopping(bowl.f, bowl.start, niter=0, minimizer_kwargs={"jac": bowl.g, **given})):
        with pytest.warns(kind, match=says) as seen:
            call()
        assert [w.filename for w in seen] == [__file__]


def test_disp_prints_what_scipy_prints(capsys):
    bowl = Bowl()
    found = bowl.solve(options={"disp": True})
    mine = capsys.readouterr().out
    assert minimize(bowl.f, bowl.start, jac=bowl.g, options={"disp": True}).success
    assert re.sub(r"[\d.]+\n", "N\n", mine) == re.sub(r"[\d.]+\n", "N\n", capsys.readouterr().out)
    assert re.findall(r"[\d.]+\n", mine) == [".\n", "0.000000\n", *(f"{found[k]}\n" for k in ("nit", "nfev", "njev"))]
    bowl.solve()
    assert capsys.readouterr() == ("", "")


# Callbacks

def test_both_kinds_of_callback():
    xs, results = [], []
    one = Bowl().solve(callback=lambda x: xs.append(x) or True, options={"return_all": True})  # True does not matter
    two = Bowl().solve(callback=lambda intermediate_result: results.append(intermediate_result))
    assert_identical(np.array(xs), np.array(one.allvecs[1:]))
    assert len(xs) == one.nit == two.nit == len(results)
    assert all(isinstance(r, OptimizeResult) and set(r) == {"x", "fun"} for r in results)
    assert_identical(np.array([r.x for r in results]), np.array(xs))
    assert [r.fun for r in results] == [Bowl().f(x) for x in xs]


def test_stop_iteration_after_n_steps_is_maxiter_n():
    chosen = method("momentum", lr=0.3)
    for steps in (1, 2, 7, 30):
        left = iter(range(1, steps))  # `next` raises StopIteration
        found = Bowl().solve(chosen, callback=lambda x, left=left: next(left))
        want = Bowl().solve(chosen, options={"maxiter": steps})
        assert (found.status, found.success, found.message) == (99, False, "`callback` raised `StopIteration`.")
        assert_identical(found.x, want.x)
        assert_identical(found.jac, want.jac)
        assert [found[k] for k in ("fun", "nit", "nfev", "njev")] == [want[k] for k in ("fun", "nit", "nfev", "njev")]


def test_what_callbacks_and_functions_are_given_is_theirs():
    """They may write into it; and use one array for all that they return."""
    def spoil(x):
        x[:] = NAN
    bowl, value, gradient = Bowl(), np.empty(1), np.empty(4)

    def f(x):
        value[0] = bowl.f(x)
        spoil(x)
        return value

    def g(x):
        gradient[:] = bowl.g(x)
        spoil(x)
        return gradient
    for jac in (g, None):
        want = Bowl().solve(jac=jac and Bowl().g, options={"return_all": True})
        for callback in (spoil, lambda intermediate_result: spoil(intermediate_result.x)):
            found = minimize(f, bowl.start, jac=jac, method=ADAM, callback=callback, options={"return_all": True})
            gradient[:] = NAN
            assert_identical(found.x, want.x)
            assert_identical(found.jac, want.jac)
            assert_identical(np.array(found.allvecs), np.array(want.allvecs))
    best = minimize(f, bowl.start, jac=g, method=method("momentum", lr=0.3), options={"maxiter": 30})  # not the last
    assert_identical(best.jac, bowl.A @ (best.x - bowl.m))


# Bounds

BOUNDS = [  # as SciPy takes them, for 4 variables
    [(0, 0.5), (-0.2, 0.1), (0.3, 2), (-1, 1)], [(None, 0), (0, None), (None, None), (-0.1, 0.1)],
    Bounds([0, -1, -INF, 0.2], [1, 0, 0, INF]), Bounds(0, 0.5), Bounds(lb=-0.3), np.array([[-0.5, 0.2]]*4),
    [(np.array([0.0]), None)]*4, [(0.25, 0.25), (None, None), (-0.4, -0.4), (0, 1)],
    [(0, 1e-9), (None, None), (1 - 1e-10, 1), (1 - 1e-12, 1)], Bounds([0.1, 0.2, 0.3, 0.4], [0.1, 0.2, 0.3, 0.4])]


@pytest.mark.parametrize("bounds", BOUNDS, ids=range(len(BOUNDS)))
def test_bounds(bounds):
    """The solution is L-BFGS-B's. Every point that f is asked for is inside, also for differences and look-aheads.

    How far a difference may be off where a variable has a room w < 1e-6: f = d'Ad/2 with d = x - m rounds d once, on
    both sides, and each of two sums of four products four times, in whatever order a BLAS adds. So f is off by at most
    10*2^-53*|d|'|A||d|/2. And x + h is off by a spacing of x, which counts |g| times as much. "2-point" divides the
    difference of two such values by h >= w/2; "3-point" has the weights 3, 4, 1 and divides by 2h >= w/2. The curvature
    adds at most 5*w. For w = 1e-10 and these seeds that makes 0.006 at most, for w = 1e-12 a hundred times as much.
    """
    new = bounds if isinstance(bounds, Bounds) else Bounds(*np.array(
        [[none if end is None else np.ravel(end)[0] for end, none in zip(pair, (-INF, INF), strict=True)]
         for pair in bounds]).T)
    low, high = np.broadcast_to(new.lb, 4), np.broadcast_to(new.ub, 4)
    room = high - low
    chosen = method("nesterov", lr=0.15, momentum=0.4), method("sgd", lr=0.3)
    for seed, (scheme, weight, gtol) in itertools.product((5, 6), ((None, 0, 1e-7), ("2-point", 4, 1e-5),
                                                             ("3-point", 16, 1e-6))):
        bowl, twin = Bowl(seed), Bowl(seed)
        theirs = minimize(twin.f, twin.start, jac=twin.g, method="L-BFGS-B", bounds=new,
                          options={"ftol": 0, "gtol": 1e-10})
        found = bowl.solve(chosen[seed % 2], bounds=bounds, tol=gtol,
                           **({"jac": None, "options": {"finite_diff": scheme}} if scheme else {}))
        assert found.success
        assert np.abs(found.x - theirs.x).max() < 3*gtol
        for x in (*bowl.points, *bowl.gradients, found.x):
            assert ((low <= x) & (x <= high)).all()
        assert found.nfev == len(bowl.points)
        d = found.x - bowl.m
        g, fixed = bowl.A @ d, (room == 0) & (scheme is not None)
        roundings = 10*2.0**-53*(np.abs(d) @ np.abs(bowl.A) @ np.abs(d))/2 + np.abs(g)*np.spacing(np.abs(found.x))
        limit = np.where(room > 1e-6, 1e-6, weight*roundings/np.where(room > 0, room, 1) + 5*room)
        assert (np.abs(found.jac - g) < limit)[~fixed].all() if scheme else (found.jac == g).all()
        assert np.isnan(found.jac[fixed]).all()  # as SciPy says it


def test_starts_outside_fixed_variables_and_huge_bounds():
    x0 = np.array([9.0, -9.0])
    found = minimize(rosen, x0, jac=rosen_der, method=ADAM, bounds=[(-2, 0.8), (-1, 2)], options={"maxiter": 0})
    assert_identical(found.x, np.array([0.8, -1.0]))
    assert x0.tolist() == [9, -9]
    for jac in (Bowl().g, None):
        found = Bowl().solve(jac=jac, bounds=[(1, 1)]*4)
        assert (found.status, found.nit, found.nfev) == (0, 0, 1)
        assert_identical(found.x, np.ones(4))
    assert_identical(Bowl().solve(bounds=[(-1.7e308, 1.7e308)]*4).x, Bowl().solve().x)
    found = minimize(lambda x: x[0]/1e308, [1.5e308], jac=lambda x: [1.0], method=method("sgd", lr=1e300),
                     bounds=[(-1.7e308, 1.7e308)], options={"maxiter": 2})
    assert (found.status, found.nit) == (1, 2)


def test_differences_in_a_box_where_x_plus_the_distance_to_a_bound_is_beyond_it():
    low, high, x = -2.427399735430677e-10, 5.5818297328801194e-09, 9.63860411094096e-10
    assert x + (high - x) > high
    points = []
    minimize(lambda x: points.append(x[0]) or x[0], [x], method=ADAM, bounds=[(low, high)], options={"maxiter": 0})
    assert points == [x, high]


# What x is

def test_dtypes():
    """float32 stays; all else is float64."""
    starts = ([1, 2], 3.0, np.arange(2.0)[::-1], *(np.array([1, 0], t) for t in ("u1", "i8", "?", "f2", "f4", "g")))
    for x0 in starts:
        before, seen = np.array(x0), []
        dtype = np.float32 if before.dtype == np.float32 else np.float64
        for given in ({"jac": lambda x, seen=seen: seen.append(x) or 2*x}, {}, {"bounds": [(-5, 5)]*before.size},
                      {"jac": lambda x: 2*x.astype(np.float64)}):
            found = minimize(lambda x, seen=seen: seen.append(x) or (x*x).sum(), x0, method=ADAM, tol=1e-2, **given)
            assert found.success
            assert found.x.dtype == found.jac.dtype == dtype
            assert {x.dtype for x in seen} == {np.dtype(dtype)}
            assert isinstance(found.fun, float)
            assert np.array_equal(np.array(x0), before)


@pytest.mark.parametrize("exact", [True, False])
def test_bounds_in_float32(exact):
    """The float32 nearest to 0.7 is below it, that nearest to 1.1 above it: x stays between them."""
    points, goal = [], np.array([-2, 4, 4], np.float32)
    found = minimize(lambda x: points.append(x) or ((x - goal)**2).sum(), np.ones(3, np.float32), method=ADAM,
                     jac=(lambda x: 2*(x - goal)) if exact else None, bounds=[(0.7, 1.1), (0.7, 1.1), (0.6, 0.6)],
                     options={"maxiter": 50})
    assert found.success
    assert {x.dtype for x in points} == {np.dtype(np.float32)}
    inside = np.array(points, np.float64)[:, :2]
    assert ((inside >= 0.7) & (inside <= 1.1)).all()
    assert found.x[0] == np.nextafter(np.float32(0.7), np.float32(1))
    assert found.x[1] == np.nextafter(np.float32(1.1), np.float32(1))
    assert abs(found.x[2] - 0.6) <= np.spacing(np.float32(0.6))  # no float32 is 0.6


def test_sizes():
    for name in ("nesterov", "adam"):
        found = minimize(lambda x: 1.0, np.zeros(0), jac=lambda x: x, method=method(name), bounds=[])
        assert (found.status, found.nfev, found.x.shape) == (0, 1, (0,))
        found = minimize(lambda x: ((x - 1)**2).sum()/2, np.zeros(20_000), jac=lambda x: x - 1,
                         method=method(name, lr=0.05), bounds=Bounds(0, 0.5))
        assert found.success
        assert (found.x == 0.5).all()
    scalar = minimize(lambda x: (x - 2)**2, 0.0, jac=lambda x: 2*(x[0] - 2), method=ADAM)  # a gradient of shape ()
    assert abs(scalar.x[0] - 2) < 1e-5


# Where it goes wrong

def barrier(x):
    with np.errstate(all="ignore"):
        return float((x - np.log(x)).sum())


def test_divergence_gives_the_best_point_so_far():
    seen = []
    found = minimize(lambda x: seen.append(x) or barrier(x), [8.0], jac=lambda x: 1 - 1/x,
                     method=method("momentum", lr=0.05, momentum=0.99))
    values = [barrier(x) for x in seen]
    assert np.isnan(values[-1])
    assert (found.status, found.success) == (2, False)
    assert re.search("not finite.* Lower lr", found.message)
    lowest = int(np.nanargmin(values))
    assert 5 < lowest < len(values) - 2
    assert_identical(found.x, seen[lowest])
    assert found.fun == values[lowest]
    assert_identical(found.jac, 1 - 1/seen[lowest])
    assert (found.nfev, found.njev, found.nit) == (len(seen), len(seen) - 1, len(seen) - 1)


def test_overflow_on_the_way():
    """Neither f nor its gradient is ever asked for a point that is not finite, nor is a callback."""
    bowl, told = Bowl(), []
    with np.errstate(over="ignore"):
        found = bowl.solve(method("sgd", lr=10.0), callback=told.append)
    assert found.status == 2
    assert_identical(found.x, bowl.start)
    assert len(bowl.points) == found.nfev == found.nit + 1 == len(told) + 2
    found = minimize(abs, [1.0], jac=lambda x: np.array([1e308]), method=method("sgd", lr=100.0))
    assert (found.status, found.nit, found.nfev) == (2, 1, 1)


@pytest.mark.parametrize(("f", "g", "x"),
                         [*((lambda x, y=bad: x[0] if x > 0 else y, lambda x: [1.0], 0.25) for bad in (INF, -INF, NAN)),
                          *((lambda x: x[0], lambda x, y=bad: [1.0 if x > 0 else y], -0.25) for bad in (NAN, INF)),
                          (lambda x: x[0], lambda x: [1.0 if x > 0 else 1e300], np.float32(-0.25))])  # beyond float32
def test_infinities_and_nan_end_the_run(f, g, x):
    found = minimize(f, np.array([1.25], np.asarray(x).dtype), jac=g, method=method("sgd", lr=0.5))
    assert (found.status, found.nit, found.x.tolist(), found.fun) == (2, 3, [x], x)


def test_a_start_that_is_not_finite_is_no_success():
    """An OptimizeResult without success, as SciPy's own methods return there."""
    for f, x0, g in ((rosen, [NAN, 1], rosen_der), (rosen, [1, INF], rosen_der), (lambda x: NAN, [1.0], lambda x: x),
                     (lambda x: -INF, [1.0], None), (lambda x: 1.0, [1.0], lambda x: [NAN]),
                     (lambda x: 1.0, [1.0, 2.0], lambda x: [0, -INF])):
        with np.errstate(invalid="ignore"):
            assert not any(minimize(f, x0, jac=g, method=kind).success for kind in ("BFGS", "CG"))
        for kind in ("adam", "nesterov"):
            found = minimize(f, x0, jac=g, method=method(kind))
            assert (found.status, found.success, found.nit) == (4, False, 0)
            assert found.message == ("The function or its gradient is not finite at x0: no step was taken. Start "
                                     "elsewhere.")
            assert_identical(found.x, np.array(x0, float))
            assert found.fun == f(np.array(x0, float)) or np.isnan(found.fun)


ONES = [1.0, 1.0]
WRONG = [  # x0, fun, jac; the error and what is said
    ([1j], 1.0, ONES, ValueError, "x0 has shape (1,) and dtype complex128, but real numbers in one dimension are need"),
    (["a"], 1.0, ONES, ValueError, "x0 has shape (1,) and dtype <U1"),
    ([None], 1.0, ONES, ValueError, "x0 has shape (1,) and dtype object"),
    *((ONES, value, ONES, ValueError, f"fun returned {value!r}, but one number is needed. Return {cure}.")
      for value, cure in (*((x, "float(value)") for x in (np.ones(2), None, "a", (1.0, 2.0))), (1j, "value.real"))),
    *((ONES, 1.0, gradient, ValueError, f"the gradient is {what}, but real numbers of shape (2,) are needed. Return")
      for gradient, what in (([1.0], "of shape (1,) and dtype float64"), ([ONES], "of shape (1, 2) and dtype float64"),
                             (1.0, "of shape () and dtype float64"), ((1.0, ONES), "a tuple"), ({}, "a dict"),
                             ([1j, 1j], "of shape (2,) and dtype complex128"), ("a", "of shape () and dtype <U1"))),
    (ONES, 1.0, None, TypeError, "the gradient is None, but an array is needed. Return it (where jac is True: beside")]


def test_wrong_starts_values_and_gradients():
    for x0, value, gradient, error, says in WRONG:
        with pytest.raises(error) as raised:
            minimize(lambda x, v=value: v, x0, jac=lambda x, g=gradient: g, method=method())
        assert str(raised.value).startswith(f"minimize: {says}")
    with pytest.raises(TypeError, match="the gradient is None"):
        minimize(lambda x: (1.0, None), [1.0], jac=True, method=method())


def test_an_exception_has_what_was_reached():
    """From a callback, from the function, and for a gradient that changes its shape."""
    for error in (KeyboardInterrupt, ZeroDivisionError):
        bowl, seen = Bowl(), []

        def callback(x, bowl=bowl, seen=seen, error=error):
            if len(seen) == 5:
                raise error
            seen.append(bowl.f(x))
        with pytest.raises(error) as caught:
            minimize(bowl.f, bowl.start, jac=bowl.g, method=method("sgd", lr=0.01), callback=callback)
        found = caught.value.result
        assert (found.status, found.nit) == (3, 6)
        assert found.fun == bowl.f(found.x) < min(seen)
    with pytest.raises(StopIteration):
        minimize(lambda x: next(iter([])), [1.0], jac=lambda x: x, method=method())
    calls = []
    with pytest.raises(ValueError, match=re.escape("the gradient is of shape (3,)")) as caught:
        minimize(lambda x: 1.0 + x[0], [1.0, 2.0], jac=lambda x: calls.append(1) or np.ones(2 + (len(calls) > 3)),
                 method=method())
    found = caught.value.result
    assert (found.status, found.success, found.nit, found.nfev, found.njev) == (3, False, 3, 4, 4)
    assert found.x == pytest.approx([0.998, 1.998])  # two steps of lr = 0.001: the last point that was evaluated
    assert found.fun == 1 + found.x[0]


ARGUMENTS = [  # what minimize is given, the error
    ({"bounds": [(1, 0), (0, 1)]}, ValueError, "the bounds of x[0] are 1.0 and 0.0, but lb <= ub and a finite number"),
    ({"bounds": [(0, 1), (NAN, 1)]}, ValueError, "the bounds of x[1] are nan and 1.0"),
    ({"bounds": Bounds(2, 1)}, ValueError, "the bounds of x[0] are 2.0 and 1.0"),
    ({"bounds": [(INF, INF), (0, 1)]}, ValueError, "the bounds of x[0] are inf and inf"),
    ({"bounds": [(-INF, -INF), (0, 1)]}, ValueError, "the bounds of x[0] are -inf and -inf"),
    *(({"bounds": x}, ValueError, f"bounds is {x!r}, but a Bounds, or a pair (lb, ub) for each of the 2 variables, is")
      for x in ([(0, 1)]*3, Bounds([0]*3, 1), [], (0, 1), [(0, 1, 2)]*2, [("a", 1)]*2, 3)),
    *(({"constraints": x}, ValueError, "constraints are given, but fastopt.scipy.method('adam') handles bounds only. ")
      for x in ({"type": "eq", "fun": rosen}, [{"type": "eq", "fun": rosen}], LinearConstraint(np.eye(2), 0, 1))),
    *(({"options": {name: x}}, error, f"{name} is {x!r}, but a number, 0 or more, is needed. Change {name}.")
      for name in ("maxiter", "maxfev", "gtol", "ftol", "xtol")
      for x, error in ((-1, ValueError), ("9", TypeError), (True, ValueError), (NAN, ValueError))),
    ({"tol": [1]}, TypeError, "gtol is [1]"), ({"callback": 3}, TypeError, "callback is 3, but a function is needed"),
    ({"options": {"finite_diff": "4-point"}}, ValueError, "finite_diff is '4-point', but one of '2-point', '3-poi")]


def test_wrong_arguments_before_anything_is_evaluated():
    calls = []
    for given, error, says in ARGUMENTS:
        with pytest.raises(error) as raised:
            minimize(lambda x: calls.append(1) or 1.0, [0.5, 0.5], jac=lambda x: calls.append(1) or x, method=method(),
                     **given)
        assert str(raised.value).startswith(f"minimize: {says}"), raised.value
    assert not calls
    bowl = Bowl()
    for given in ({"constraints": ()}, {"constraints": []}, {"constraints": None}, {"maxiter": 1e4}, {"maxiter": INF},
                  {"bounds": None}, {"bounds": zip([-9]*4, [9]*4, strict=True)}):
        assert ADAM(bowl.f, bowl.start, jac=bowl.g, **given).success


METHODS = [
    ("adm", {}, ValueError, "method: rule is 'adm', but one of sgd, momentum, .* or a rule is needed"),
    *((rule, {}, TypeError, "method: rule is .*, but one of sgd, .*, an optimizer class or a rule is needed. Rules")
      for rule in (None, lambda c, g, p: p, int, fastopt.Adam(np.zeros(1)), fastopt.Optimizer)),
    ("adam", {"lr": -1}, ValueError, "lr is -1"), ("adam", {"threads": 0}, ValueError, "threads is 0"),
    ("adam", {"maximize": True}, ValueError, "method: maximize is True, but minimize looks for the lowest value")]


def test_wrong_methods_are_refused_at_once():
    for rule, hyper, error, says in METHODS:
        with pytest.raises(error, match=says):
            method(rule, **hyper)


def test_repr_and_pickle():
    chosen = method("adam", lr=0.1, b1=0.8, threads=1)
    assert repr(chosen) == "fastopt.scipy.method('adam', threads=1, lr=0.1, b1=0.8)"
    assert repr(method(fastopt.Lion)) == "fastopt.scipy.method(Lion)"
    assert repr(method(fastopt.rules.lion, lr=0.5)) == "fastopt.scipy.method(lion, lr=0.5)"
    again = pickle.loads(pickle.dumps(chosen))
    assert again == chosen
    assert_identical(Bowl().solve(again).x, Bowl().solve(chosen).x)


# Beside minimize

def wells(x):
    """Two wells; the deeper one is at x = -1.0241."""
    return float((x[0]**2 - 1)**2 + 0.2*x[0] + x[1]**2)


def test_basinhopping_and_dual_annealing():
    f_calls, g_calls, root = [], [], [min(np.roots([4, 0, -4, 0.2]).real), 0]
    kwargs = {"method": method("nesterov", lr=0.02), "options": {"gtol": 1e-7},
              "jac": lambda x: g_calls.append(1) or np.array([4*x[0]*(x[0]**2 - 1) + 0.2, 2*x[1]])}
    found = optimize.basinhopping(lambda x: f_calls.append(1) or wells(x), [1.0, 1.0], 5, stepsize=1.5, rng=1,
                                  minimizer_kwargs=kwargs)
    assert np.abs(found.x - root).max() < 1e-6
    assert found.lowest_optimization_result.success
    assert (found.nfev, found.njev) == (len(f_calls), len(g_calls))
    bounds = [(-2, 2), (-2, 2)]
    kwargs = {"method": method("adam", lr=0.05), "bounds": bounds}
    found = optimize.dual_annealing(wells, bounds, minimizer_kwargs=kwargs, maxiter=20, rng=1)
    assert np.abs(found.x - root).max() < 1e-4


def test_progress(capfd):
    bowl, drawn = Bowl(), method("adam", lr=0.1, progress=True)
    found = bowl.solve(drawn, options={"maxiter": 77, "gtol": 0})
    out, err = capfd.readouterr()
    assert out == ""
    for part in ("adam", "77/77", r"value [\d.e-]+, gradient [\d.e-]+"):
        assert re.search(part, err)
    assert_identical(found.x, Bowl().solve(options={"maxiter": 77, "gtol": 0}).x)
    assert capfd.readouterr() == ("", "")
    assert bowl.solve(drawn, options={"maxiter": INF}).success
