"""scipy.optimize.minimize with fastopt: solutions against NumPy and L-BFGS-B, counts against functions that count, SciPy's ways."""
import contextlib
import os
import pickle
import re
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from conftest import OPTIMIZERS, assert_identical, normal
from scipy import optimize
from scipy.optimize import Bounds, OptimizeResult, OptimizeWarning, minimize, rosen, rosen_der

import fastopt
from fastopt import schedules
from fastopt.scipy import method

ROOT = Path(__file__).parent.parent
INF, NAN = np.inf, np.nan
FAST = {  # hyperparameters with which a rule gets to a gradient of 1e-5 within 10,000 steps on `Bowl`
    "sgd": {"lr": 0.2}, "momentum": {"lr": 0.05}, "nesterov": {"lr": 0.05},
          "rmsprop": {"lr": schedules.exponential(0.1, 0.99)},
    "adagrad": {"lr": 1.0}, "adam": {"lr": 0.1}, "adamw": {"lr": 0.1, "weight_decay": 0.0}, "amsgrad": {"lr": 0.1},
    "nadam": {"lr": schedules.exponential(0.1, 0.995)}, "radam": {"lr": 0.1},
          "lion": {"lr": schedules.exponential(0.1, 0.99)}}
each = pytest.mark.parametrize("name", OPTIMIZERS)


class Bowl:
    """f(x) = (x - m)'A(x - m)/2 with eigenvalues from 1 to 5, which counts and records what it is asked."""

    def __init__(self, seed=0, n=4, dtype=np.float64):
        q, _ = np.linalg.qr(normal(seed, n, n))
        self.A, self.m = ((q*np.linspace(1, 5, n)) @ q.T).astype(dtype), normal(seed + 1, n).astype(dtype)
        self.start = normal(seed + 2, n).astype(dtype)
        self.points, self.gradients = [], []

    def f(self, x):
        self.points.append(x.copy())
        return (x - self.m) @ self.A @ (x - self.m)/2

    def g(self, x):
        self.gradients.append(x.copy())
        return self.A @ (x - self.m)

    def both(self, x):
        return self.f(x), self.A @ (x - self.m)

    def solve(self, chosen=None, x0=None, **more):
        return minimize(self.f, self.start if x0 is None else x0,
                        **{"jac": self.g, "method": chosen or method("adam", lr=0.1), **more})


# What it finds

@each
def test_every_rule_minimises(name):
    bowl = Bowl()
    found = bowl.solve(method(name, **FAST[name]))
    assert (found.success, found.status, found.message) == (True, 0, "Optimization terminated successfully.")
    assert np.abs(found.jac).max() <= 1e-5
    assert np.abs(found.x - bowl.m).max() <= 2e-5  # the gradient's norm over the smallest eigenvalue, 1
    assert_identical(found.jac, bowl.A @ (found.x - bowl.m))
    assert found.fun == Bowl().f(found.x)
    assert found.nfev == found.njev == len(bowl.points) == len(bowl.gradients) == found.nit + 1
    assert 10 < found.nit < 10_000


@each
def test_the_points_are_the_optimizers(name):
    """Bit for bit those of a loop over `step`, each evaluated once, value and gradient at the same place."""
    bowl, hyper = Bowl(3), FAST[name]
    found = bowl.solve(method(name, **hyper), options={"maxiter": 25, "gtol": 0, "return_all": True})
    w, points = bowl.start.copy(), []
    opt = OPTIMIZERS[name](w, **hyper)
    for _ in range(26):
        points.append((opt.lookahead() if name == "nesterov" else w).copy())
        opt.step(bowl.A @ (points[-1] - bowl.m))
    for seen in (bowl.points, bowl.gradients, found.allvecs):
        assert_identical(np.array(seen), np.array(points))
    assert (found.nit, found.nfev, found.njev) == (25, 26, 26)


def test_nesterov_evaluates_at_the_look_ahead():
    bowl, p, v, points = Bowl(1), Bowl(1).start, np.zeros(4), []
    for _ in range(21):
        points.append(p - 0.8*v)
        v = 0.8*v + 0.03*(bowl.A @ (points[-1] - bowl.m))
        p = p - v
    bowl.solve(method("nesterov", lr=0.03, momentum=0.8), options={"maxiter": 20})
    assert np.abs(np.array(bowl.points) - points).max() < 1e-14
    assert np.abs(np.diff(points, axis=0)).max() > 0.01


def test_a_known_valley():
    found = minimize(rosen, [-1.2, 1.0], jac=rosen_der, method=method("Adam", lr=0.05), options={"gtol": 1e-7})
    assert found.success
    assert np.abs(found.x - 1).max() < 1e-6


def test_the_result_is_the_first_point_flat_enough():
    bowl = Bowl()
    found = bowl.solve(options={"gtol": 1e-3, "return_all": True})
    slopes = [np.abs(bowl.A @ (x - bowl.m)).max() for x in found.allvecs]
    assert slopes[-1] <= 1e-3 < min(slopes[:-1])
    assert_identical(found.x, found.allvecs[-1])


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


def test_no_steps():
    bowl = Bowl()
    found = bowl.solve(options={"maxiter": 0})
    assert (found.status, found.nit, found.nfev, found.njev) == (1, 0, 1, 1)
    assert_identical(found.x, bowl.start)
    found = bowl.solve(x0=bowl.m)
    assert (found.status, found.nit, found.nfev) == (0, 0, 1)


def test_ten_thousand_steps_unless_told():
    found = minimize(lambda x: x[0], [0.0], jac=lambda x: np.ones(1), method=method("sgd", lr=1e-3))
    assert (found.status, found.nit) == (1, 10_000)


@pytest.mark.parametrize("rule", [fastopt.Adam, "ADAM", "Adam", fastopt.rules.adam])
def test_names_classes_and_rules(rule):
    want, found = Bowl().solve(method("adam", lr=0.1)), Bowl().solve(method(rule, lr=0.1))
    assert_identical(found.x, want.x)
    assert found.nit == want.nit


@fastopt.rule(state="v", lr=0.05, mu=0.8)
def heavy_ball(c, g, p, v):
    """Polyak's heavy ball."""
    v = c.mu*v + g
    u = c.lr*v
    return u, v


@pytest.mark.parametrize("rule", [heavy_ball, fastopt.optimizer(heavy_ball)], ids=["rule", "class"])
def test_a_rule_of_ones_own(rule):
    bowl, v, points = Bowl(2), np.zeros(4), [Bowl(2).start]
    for _ in range(40):
        v = 0.6*v + bowl.A @ (points[-1] - bowl.m)
        points.append(points[-1] - 0.05*v)
    found = bowl.solve(method(rule, mu=0.6), options={"maxiter": 40, "gtol": 0})
    assert found.nit == 40
    assert np.abs(np.array(bowl.points) - points).max() < 1e-13
    assert Bowl(2).solve(method(rule)).success


def test_one_method_serves_many_runs():
    """No momentum, no step count and no lowered learning rate is left from the run before."""
    plateau = schedules.ReduceOnPlateau(0.3, factor=0.5, patience=0)
    for chosen in (method("nesterov", lr=schedules.cosine(0.05, 100)), method("adam", lr=plateau)):
        one, two = Bowl().solve(chosen, options={"maxiter": 60}), Bowl().solve(chosen, options={"maxiter": 60})
        assert_identical(one.x, two.x)
        assert one.nit == two.nit > 20
    assert plateau(1) == 0.3


def test_reduce_on_plateau_is_fed():
    rates, points = schedules.ReduceOnPlateau(0.9, factor=0.5, patience=0), []
    found = minimize(lambda x: points.append(x[0]) or x[0]**2, [1.0], jac=lambda x: 2*x, method=method("sgd", lr=rates),
                     options={"maxiter": 12, "gtol": 0})
    x, want, twin = 1.0, [], schedules.ReduceOnPlateau(0.9, factor=0.5, patience=0)
    for _ in range(13):
        want.append(x)
        twin.observe(x**2)
        x = x - twin(1)*2*x
    assert np.allclose(points, want, rtol=1e-12, atol=0)
    stuck = method("sgd", lr=schedules.ReduceOnPlateau(1.0, factor=0.5,
                                                       patience=0))  # 1, -1, 1, ... until the rate falls
    assert minimize(lambda x: x[0]**2, [1.0], jac=lambda x: 2*x, method=stuck).success
    assert found.fun == min(x**2 for x in points)


# How often it asks

def test_jac_true_is_one_call():
    bowl = Bowl()
    found = minimize(bowl.both, bowl.start, jac=True, method=method("adam", lr=0.1))
    want = Bowl().solve()
    assert_identical(found.x, want.x)
    assert len(bowl.points) == found.nfev == found.njev == want.nfev


@pytest.mark.parametrize(("scheme", "calls", "error"), [(None, 5, 1e-7), ("2-point", 5, 1e-7), ("3-point", 9, 1e-9),
                                                        ("cs", 5, 1e-14)])
def test_differences(scheme, calls, error):
    bowl = Bowl()
    found = bowl.solve(jac=None, options={} if scheme is None else {"finite_diff": scheme})
    assert found.success
    assert np.abs(found.jac - bowl.A @ (found.x - bowl.m)).max() < error
    assert found.nfev == len(bowl.points) == calls*found.njev
    assert found.njev == found.nit + 1


def test_the_word_of_jac_counts_where_it_arrives():
    bowl = Bowl()
    found = method("adam", lr=0.1)(bowl.f, bowl.start, jac="3-point")  # minimize would say jac=None
    assert found.nfev == len(bowl.points) == 9*found.njev
    assert found.success
    bowl = Bowl()
    assert bowl.solve(jac="3-point", options={"maxiter": 1}).nfev == len(bowl.points) == 5*2
    assert bowl.solve(jac=False, options={"maxiter": 1}).nfev == 5*2


def test_the_step_of_differences():
    bowl = Bowl()
    bowl.solve(jac=None, options={"maxiter": 0, "finite_diff_rel_step": [1e-3, 1e-4, 1e-3, 1e-4]})
    steps = np.diag(np.array(bowl.points[1:]) - bowl.start)/bowl.start
    assert np.allclose(np.abs(steps), [1e-3, 1e-4, 1e-3, 1e-4], rtol=1e-6)


def test_differences_of_a_float32_value():
    """The step fits the value's precision: with that of float64 the derivative would be noise."""
    found = minimize(lambda x: np.float32(((x - 1.25)**2).sum() + 100), np.zeros(2), method=method("adam", lr=0.1),
                     tol=0.3,
                     options={"maxiter": 300})
    assert found.success
    assert np.abs(found.x - 1.25).max() < 0.3


def test_a_point_that_stays_is_evaluated_once():
    for jac in (True, None):
        bowl = Bowl()
        fun = bowl.both if jac else bowl.f
        found = minimize(fun, bowl.start, jac=jac, method=method("sgd", lr=schedules.multi_step(0.1, [2], 1e-30)),
                         options={"maxiter": 9})
        assert found.nit == 9
        assert found.nfev == len(bowl.points) == (3 if jac else 15)


def test_args():
    def f(x, a, b):
        return a*((x - b)**2).sum()

    def g(x, a, b):
        return 2*a*(x - b)
    for given in ({"jac": g}, {"jac": None}, {"jac": None, "options": {"finite_diff": "3-point"}}):
        found = minimize(f, [0.0, 0.0], args=(2.0, 3.0), method=method("adam", lr=0.1), **given)
        assert np.abs(found.x - 3).max() < 1e-5
    single = minimize(lambda x, a: ((x - a)**2).sum(), [0.0], args=2.0, method=method("adam", lr=0.1))
    assert abs(single.x[0] - 2) < 1e-5
    assert abs(method("adam", lr=0.1)(lambda x, a: ((x - a)**2).sum(), [0.0], args=2.0).x[0] - 2) < 1e-5


# Tolerances and options

def test_tol_and_gtol():
    runs = {str(k): Bowl().solve(**k) for k in ({"tol": 1e-2}, {"options": {"gtol": 1e-2}},
                                                {"tol": 1e-8, "options": {"gtol": 1e-2}}, {},
                                               {"tol": 1e-5},
                                                {"options": {"gtol": None, "maxiter": None, "tol": None}})}
    first, second, both, *default = [found.nit for found in runs.values()]
    assert first == second == both < default[0]
    assert len(set(default)) == 1


def test_unknown_options_warn_as_scipy_does():
    bowl = Bowl()
    for options in ({"ftol": 1e-3, "maxfun": 3}, {"lr": 1}):
        with pytest.warns(OptimizeWarning, match=f"Unknown solver options: {', '.join(options)}$") as seen:
            assert minimize(bowl.f, bowl.start, jac=bowl.g, method=method("adam", lr=0.1), options=options).success
        assert [Path(w.filename).name for w in seen] == ["test_scipy.py"]


def test_hessians_warn_as_scipy_does():
    bowl = Bowl()
    for given, what in (({"hess": lambda x: bowl.A}, "Hessian information (hess)"),
                        ({"hessp": lambda x, p: bowl.A @ p}, "Hessian-vector product information (hessp)")):
        with pytest.warns(RuntimeWarning, match=re.escape(f"Method fastopt.scipy.method('adam', lr=0.1) does not use "
                                                          f"{what}.")) as seen:
            assert minimize(bowl.f, bowl.start, jac=bowl.g, method=method("adam", lr=0.1), **given).success
        assert [Path(w.filename).name for w in seen] == ["test_scipy.py"]


def test_disp_prints_what_scipy_prints(capsys):
    bowl = Bowl()
    bowl.solve()
    assert capsys.readouterr() == ("", "")
    found = bowl.solve(options={"disp": True})
    mine, theirs = capsys.readouterr().out, minimize(bowl.f, bowl.start, jac=bowl.g, options={"disp": True})
    scipys = capsys.readouterr().out
    assert re.sub(r"[\d.]+\n", "N\n", mine) == re.sub(r"[\d.]+\n", "N\n", scipys)
    assert re.findall(r"[\d.]+\n", mine) == [".\n", "0.000000\n", f"{found.nit}\n", f"{found.nfev}\n",
                                             f"{found.njev}\n"]
    assert theirs.success
    with pytest.warns(OptimizeWarning, match="Maximum number of iterations"):
        bowl.solve(options={"disp": True, "maxiter": 3})
    assert [line.split(":") for line in capsys.readouterr().out.splitlines()[1:]] == [
        ["         Iterations", " 3"], ["         Function evaluations", " 4"], ["         Gradient evaluations", " 4"]]


# Callbacks

def test_both_kinds_of_callback():
    xs, results = [], []
    one = Bowl().solve(callback=lambda x: xs.append(x) or True,
                       options={"return_all": True})  # what it returns does not matter
    bowl = Bowl()
    two = bowl.solve(callback=lambda intermediate_result: results.append(intermediate_result))
    assert_identical(np.array(xs), np.array(one.allvecs[1:]))
    assert len(xs) == one.nit == two.nit == len(results)
    assert all(isinstance(r, OptimizeResult) and set(r) == {"x", "fun"} for r in results)
    assert_identical(np.array([r.x for r in results]), np.array(xs))
    assert [r.fun for r in results] == [Bowl().f(x) for x in xs]


@pytest.mark.parametrize("steps", [1, 2, 7, 30])
@pytest.mark.parametrize("kind", ["x", "intermediate_result"])
def test_stop_iteration_after_n_steps_is_maxiter_n(steps, kind):
    seen = []

    def stop(x):
        seen.append(x)
        if len(seen) == steps:
            raise StopIteration

    chosen = method("momentum", lr=0.3)
    found = Bowl().solve(chosen, callback=stop if kind == "x"
                         else lambda intermediate_result: stop(intermediate_result.x))
    want = Bowl().solve(chosen, options={"maxiter": steps})
    assert (found.status, found.success, found.message) == (99, False, "`callback` raised `StopIteration`.")
    assert_identical(found.x, want.x)
    assert_identical(found.jac, want.jac)
    assert [found[k] for k in ("fun", "nit", "nfev", "njev")] == [want[k] for k in ("fun", "nit", "nfev", "njev")]


def test_what_callbacks_and_functions_are_given_is_theirs():
    def spoil(x):
        x[:] = NAN

    bowl = Bowl()

    def f(x):
        value = bowl.f(x)
        spoil(x)
        return value

    gradient = np.empty(4)

    def g(x):
        gradient[:] = bowl.g(x)  # one array for all gradients
        spoil(x)
        return gradient

    want = Bowl().solve(options={"return_all": True})
    for callback in (spoil, lambda intermediate_result: spoil(intermediate_result.x)):
        found = minimize(f, bowl.start, jac=g, method=method("adam", lr=0.1), callback=callback,
                         options={"return_all": True})
        gradient[:] = NAN
        assert_identical(found.x, want.x)
        assert_identical(found.jac, want.jac)
        assert_identical(np.array(found.allvecs), np.array(want.allvecs))
    best = minimize(f, bowl.start, jac=g, method=method("momentum", lr=0.3),
                    options={"maxiter": 30})  # not the last of the points
    assert_identical(best.jac, bowl.A @ (best.x - bowl.m))


def test_other_errors_of_callbacks_and_functions_pass_through():
    for error in (ZeroDivisionError, KeyboardInterrupt):
        calls = []

        def fail(x, error=error, calls=calls):
            calls.append(1)
            if len(calls) >= 3:
                raise error
            return 0.0
        with pytest.raises(error):
            Bowl().solve(callback=fail)
        with pytest.raises(error):
            minimize(lambda x, fail=fail: x[0] + fail(x), [1.0], jac=lambda x: 2*x, method=method())
        assert len(calls) == 4
    with pytest.raises(StopIteration):
        minimize(lambda x: next(iter([])), [1.0], jac=lambda x: x, method=method())


# Bounds

BOUNDS = [  # as SciPy takes them, for 4 variables
    [(0, 0.5), (-0.2, 0.1), (0.3, 2), (-1, 1)], [(None, 0), (0, None), (None, None), (-0.1, 0.1)], [(-INF, -0.1)]*4,
            [(0, 0.5)],
    Bounds([0, -1, -INF, 0.2], [1, 0, 0, INF]), Bounds(0, 0.5), Bounds(lb=-0.3), np.array([[-0.5, 0.2]]*4),
            [(np.array([0.0]), None)]*4,
    [(0.25, 0.25), (None, None), (-0.4, -0.4), (0, 1)], [(0, 1e-9), (None, None), (1 - 1e-12, 1), (0, 1)],
    Bounds([0.1, 0.2, 0.3, 0.4], [0.1, 0.2, 0.3, 0.4])]


@pytest.mark.parametrize("name", ["sgd", "momentum", "nesterov", "adam"])
@pytest.mark.parametrize("bounds", BOUNDS, ids=range(len(BOUNDS)))
def test_bounds(name, bounds):
    """The solution is L-BFGS-B's, and every point that f is asked for lies inside, those of differences and look-aheads too."""
    new = bounds if isinstance(bounds, Bounds) else Bounds(*np.array(
        [[-INF if low is None else np.ravel(low)[0], INF if high is None else np.ravel(high)[0]] for low,
         high in bounds]).T)
    low, high = np.broadcast_to(new.lb, 4), np.broadcast_to(new.ub, 4)
    theirs = minimize(Bowl(5).f, Bowl(5).start, jac=Bowl(5).g, method="L-BFGS-B", bounds=new,
                      options={"ftol": 0, "gtol": 1e-10})
    for given, gtol in (({}, 1e-7), ({"jac": None}, 1e-5), ({"jac": None, "options": {"finite_diff": "3-point"}},
                                                            1e-6)):
        bowl = Bowl(5)
        found = bowl.solve(method(name, **FAST[name]), bounds=bounds, tol=gtol, **given)
        assert found.success
        assert np.abs(found.x - theirs.x).max() < 3*gtol
        for x in (*bowl.points, *bowl.gradients, found.x):
            assert ((low <= x) & (x <= high)).all()
        assert found.nfev == len(bowl.points)
        wrong = np.abs(found.jac - bowl.A @ (found.x - bowl.m))
        room = (high - low > 1e-6) | (not given)  # for differences
        assert wrong[room].max(initial=0) < 1e-6
        assert wrong[~room & (high > low)].max(initial=0) < 0.1  # roundings of f, which differ with the BLAS, over 1e-12
        assert np.isnan(wrong[(high == low) & bool(given)]).all()  # as SciPy says it


def test_the_solution_is_on_the_bounds():
    """What the test above would not see if no bound mattered."""
    found = Bowl(5).solve(bounds=BOUNDS[0])
    free = Bowl(5).solve()
    assert (np.abs(found.x - free.x) > 0.01).any()
    assert sum(x in pair for x, pair in zip(found.x, BOUNDS[0], strict=True)) >= 2
    assert np.abs(found.jac).max() > 0.01


def test_a_start_outside_is_moved_inside():
    x0 = np.array([9.0, -9.0])
    found = minimize(rosen, x0, jac=rosen_der, method=method("adam", lr=0.01), bounds=[(-2, 0.8), (-1, 2)],
                     options={"maxiter": 0})
    assert_identical(found.x, np.array([0.8, -1.0]))
    assert x0.tolist() == [9, -9]


def test_all_fixed():
    bowl = Bowl()
    for jac in (bowl.g, None):
        found = bowl.solve(jac=jac, bounds=[(1, 1)]*4)
        assert (found.status, found.nit, found.nfev) == (0, 0, 1)
        assert_identical(found.x, np.ones(4))


def test_huge_bounds():
    found = Bowl().solve(bounds=[(-1.7e308, 1.7e308)]*4)
    assert_identical(found.x, Bowl().solve().x)
    found = minimize(lambda x: x[0]/1e308, [1.5e308], jac=lambda x: [1.0], method=method("sgd", lr=1e300),
                     bounds=[(-1.7e308, 1.7e308)],
                     options={"maxiter": 2})
    assert (found.status, found.nit) == (1, 2)


def test_differences_in_a_box_where_x_plus_the_distance_to_a_bound_is_beyond_it():
    low, high, x = -2.427399735430677e-10, 5.5818297328801194e-09, 9.63860411094096e-10
    assert x + (high - x) > high
    points = []
    minimize(lambda x: points.append(x[0]) or x[0], [x], method=method(), bounds=[(low, high)], options={"maxiter": 0})
    assert points == [x, high]


# What x is

@pytest.mark.parametrize("x0", [[1, 2], 3.0, np.arange(2.0)[::-1],
                                *(np.array([1, 0], t) for t in ("u1", "i8", "?", "f2", "f4", "g"))],
                         ids=repr)
def test_dtypes(x0):
    before, seen = np.array(x0), []
    dtype = np.float32 if before.dtype == np.float32 else np.float64

    def f(x):
        seen.append(x)
        return (x*x).sum()

    for given in ({"jac": lambda x: seen.append(x) or 2*x}, {"jac": None}, {"jac": lambda x: 2*x.astype(np.float64)},
                  {"bounds": [(-5, 5)]*before.size}):
        found = minimize(f, x0, method=method("adam", lr=0.1), tol=1e-2, **given)
        assert found.success
        assert found.x.dtype == found.jac.dtype == dtype
        assert {x.dtype for x in seen} == {np.dtype(dtype)}
        assert isinstance(found.fun, float)
        assert np.array_equal(np.array(x0), before)


@pytest.mark.parametrize("exact", [True, False])
def test_bounds_in_float32(exact):
    """The float32 nearest to 0.7 is below it, that nearest to 1.1 above it: x stays between them."""
    points, goal = [], np.array([-2, 4, 4], np.float32)
    found = minimize(lambda x: points.append(x) or ((x - goal)**2).sum(), np.ones(3, np.float32),
                     method=method("adam", lr=0.1),
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
        n = 100_000
        found = minimize(lambda x: ((x - 1)**2).sum()/2, np.zeros(n), jac=lambda x: x - 1,
                         method=method(name, lr=0.05, threads=1),
                         bounds=Bounds(0, 0.5))
        assert found.success
        assert (found.x == 0.5).all()
    scalar = minimize(lambda x: (x - 2)**2, 0.0, jac=lambda x: 2*(x[0] - 2),
                      method=method("adam", lr=0.1))  # a gradient of shape ()
    assert abs(scalar.x[0] - 2) < 1e-5


# Where it goes wrong

def barrier(x):
    with np.errstate(all="ignore"):
        return float((x - np.log(x)).sum())


def test_divergence_gives_the_best_point_so_far():
    seen = []
    chosen = method("momentum", lr=0.05, momentum=0.99)
    found = minimize(lambda x: seen.append(x) or barrier(x), [8.0], jac=lambda x: 1 - 1/x, method=chosen)
    values = [barrier(x) for x in seen]
    assert np.isnan(values[-1])
    assert (found.status, found.success) == (2, False)
    assert "not finite" in found.message
    assert "Lower lr" in found.message
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
    assert found.nfev == len(bowl.points) == found.nit + 1
    assert len(told) == found.nit - 1
    points = []
    found = minimize(lambda x: points.append(x) or abs(x[0]), [1.0], jac=lambda x: np.array([1e308]),
                     method=method("sgd", lr=100.0))
    assert (found.status, found.nit, found.nfev) == (2, 1, 1)
    assert points == [[1.0]]


@pytest.mark.parametrize(("f", "g", "x"), [
    (lambda x: x[0] if x > 0 else -INF, lambda x: np.ones(1), 0.25),
                                           (lambda x: x[0] if x > 0 else INF, lambda x: np.ones(1), 0.25),
    (lambda x: x[0], lambda x: [1.0] if x > 0 else [NAN], -0.25),
                                           (lambda x: x[0], lambda x: [1.0] if x > 0 else [INF], -0.25)])
def test_infinities_and_nan_end_the_run(f, g, x):
    found = minimize(f, [1.25], jac=g, method=method("sgd", lr=0.5))
    assert (found.status, found.nit, found.x.tolist(), found.fun) == (2, 3, [x], x)


def test_a_gradient_beyond_float32():
    found = minimize(lambda x: 0.0 if x == 1 else 1.0, np.ones(1, np.float32), jac=lambda x: [1.0 if x == 1 else 1e300],
                     method=method("sgd", lr=0.1))
    assert (found.status, found.x.tolist()) == (2, [1])


@pytest.mark.parametrize(("f", "x0", "g"), [
    (rosen, [NAN, 1], rosen_der), (rosen, [1, INF], rosen_der), (lambda x: NAN, [1.0], lambda x: x),
                                            (lambda x: INF, [1.0], lambda x: x),
    (lambda x: -INF, [1.0], None), (lambda x: 1.0, [1.0], lambda x: [NAN]),
                                            (lambda x: 1.0, [1.0, 2.0], lambda x: [0, -INF])])
def test_a_start_that_is_not_finite_is_no_success(f, x0, g):
    """An OptimizeResult, as SciPy's own methods return there."""
    for kind in ("adam", "nesterov"):
        found = minimize(f, x0, jac=g, method=method(kind))
        assert (found.status, found.success, found.nit) == (4, False, 0)
        assert found.message == "The function or its gradient is not finite at x0: no step was taken. Start elsewhere."
        assert_identical(found.x, np.array(x0, float))
        assert found.fun == f(np.array(x0, float)) or np.isnan(found.fun)


START = [  # fun, x0, jac, what is said
    (lambda x: 1.0, [1j], lambda x: x, "x0 has shape .* and dtype complex128, but real numbers"),
    (lambda x: 1.0, ["a"], lambda x: x, "x0 has shape .* and dtype <U1"),
    (lambda x: 1.0, [None], lambda x: x, "x0 has shape .* and dtype object"),
    (lambda x: x, [1.0, 2.0], lambda x: x, re.escape("fun returned an array of shape (2,), but one real number is "
                                                     "needed")),
    (lambda x: None, [1.0], lambda x: x, "fun returned None"),
    (lambda x: 1j, [1.0], lambda x: x, "fun returned 1j"),
    (lambda x: "a", [1.0], lambda x: x, "fun returned 'a'"),
    (lambda x: (1.0, x), [1.0], lambda x: x, "fun returned"),
    (lambda x: 1.0, [1.0, 2.0], lambda x: [1.0], re.escape("gradient is of shape (1,) and dtype float64, but real "
                                                           "numbers of shape (2,)")),
    (lambda x: 1.0, [1.0, 2.0], lambda x: [[1.0, 2.0]], re.escape("the gradient is of shape (1, 2)")),
    (lambda x: 1.0, [1.0, 2.0], lambda x: 1.0, re.escape("the gradient is of shape ()")),
    (lambda x: 1.0, [1.0, 2.0], lambda x: (1.0, x), "the gradient is a tuple, but real numbers of shape"),
    (lambda x: 1.0, [1.0], lambda x: 1j*x, "dtype complex128"),
    (lambda x: 1.0, [1.0], lambda x: "a", "dtype <U1"),
    (lambda x: 1.0, [1.0], lambda x: {}, "the gradient is a dict"),
]


@pytest.mark.parametrize(("f", "x0", "g", "says"), START, ids=range(len(START)))
def test_bad_starts_values_and_gradients(f, x0, g, says):
    with pytest.raises(ValueError, match=says):
        minimize(f, x0, jac=g, method=method())


def test_a_gradient_that_is_forgotten():
    with pytest.raises(TypeError, match=r"the gradient is None, but an array is needed. Return it"):
        minimize(lambda x: 1.0, [1.0], jac=lambda x: None, method=method())
    with pytest.raises(TypeError, match="the gradient is None"):
        minimize(lambda x: (1.0, None), [1.0], jac=True, method=method())


def test_a_gradient_that_changes_its_shape():
    calls = []
    with pytest.raises(ValueError, match=re.escape("the gradient is of shape (3,)")) as caught:
        minimize(lambda x: 1.0 + x[0], [1.0, 2.0], jac=lambda x: calls.append(1) or np.ones(2 if len(calls) < 4 else 3),
                 method=method())
    assert len(calls) == 4
    found = caught.value.result
    assert (found.status, found.success, found.nit, found.nfev, found.njev) == (3, False, 3, 4, 4)
    assert found.x == pytest.approx([0.998, 1.998])  # two steps of lr = 0.001: the last point that was evaluated
    assert found.fun == 1 + found.x[0]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_an_exception_has_what_was_reached(error):
    bowl = Bowl()

    def callback(x):
        if len(seen) == 5:
            raise error
        seen.append(bowl.f(x))
    seen = []
    with pytest.raises(error) as caught:
        minimize(bowl.f, bowl.start, jac=bowl.g, method=method("sgd", lr=0.01), callback=callback)
    found = caught.value.result
    assert (found.status, found.nit) == (3, 6)
    assert found.fun < min(seen)
    assert found.fun == bowl.f(found.x)


ARGUMENTS = [  # what minimize is given, the error
    ({"bounds": [(1, 0), (0, 1)]}, ValueError, re.escape("minimize: the bounds of x[0] are 1.0 and 0.0, but lb <= ub")),
    ({"bounds": [(0, 1), (NAN, 1)]}, ValueError, re.escape("the bounds of x[1] are nan and 1.0")),
    ({"bounds": Bounds([0, 0], [1, NAN])}, ValueError, re.escape("the bounds of x[1] are 0.0 and nan")),
    ({"bounds": Bounds(2, 1)}, ValueError, re.escape("the bounds of x[0] are 2.0 and 1.0")),
    ({"bounds": [(INF, INF), (0, 1)]}, ValueError, re.escape("the bounds of x[0] are inf and inf")),
    ({"bounds": [(-INF, -INF), (0, 1)]}, ValueError, re.escape("the bounds of x[0] are -inf and -inf")),
    ({"bounds": [(0, 1)]*3}, ValueError, "a pair .* for each of the 2 variables, is needed"),
    ({"bounds": Bounds([0]*3, 1)}, ValueError, "for each of the 2 variables"),
    ({"bounds": []}, ValueError, "for each of the 2 variables"),
    ({"bounds": (0, 1)}, ValueError, re.escape("bounds is (0, 1), but a Bounds, or a pair")),
    ({"bounds": [(0, 1, 2)]*2}, ValueError, "but a Bounds, or a pair"),
    ({"bounds": [("a", 1)]*2}, ValueError, "but a Bounds, or a pair"),
    ({"bounds": 3}, ValueError, "bounds is 3"),
    ({"constraints": {"type": "eq", "fun": rosen}}, ValueError, "constraints are given, but .* handles bounds only. "
                                                                "Take method='SLSQP'"),
    ({"constraints": [{"type": "eq", "fun": rosen}]}, ValueError, "handles bounds only"),
    ({"constraints": optimize.LinearConstraint(np.eye(2), 0, 1)}, ValueError, "handles bounds only"),
    ({"options": {"maxiter": -1}}, ValueError, "maxiter is -1, but a number, 0 or more, is needed"),
    ({"options": {"maxiter": "9"}}, ValueError, "maxiter is '9'"),
    ({"options": {"maxiter": True}}, ValueError, "maxiter is True"),
    ({"options": {"maxiter": NAN}}, ValueError, "maxiter is nan"),
    ({"options": {"gtol": -1e-3}}, ValueError, "gtol is -0.001"),
    ({"tol": NAN}, ValueError, "gtol is nan"),
    ({"tol": [1]}, ValueError, re.escape("gtol is [1]")),
    ({"options": {"finite_diff": "4-point"}}, ValueError, "finite_diff is '4-point', but one of 2-point, 3-point, cs "
                                                          "is needed"),
    ({"callback": 3}, TypeError, "callback is 3, but a function is needed"),
]


@pytest.mark.parametrize(("given", "error", "says"), ARGUMENTS, ids=range(len(ARGUMENTS)))
def test_bad_arguments_before_anything_is_evaluated(given, error, says):
    calls = []
    with pytest.raises(error, match=says):
        minimize(lambda x: calls.append(1) or 1.0, [0.5, 0.5], jac=lambda x: calls.append(1) or x, method=method(),
                 **given)
    assert not calls


def test_no_constraints_and_whole_floats_are_fine():
    bowl = Bowl()
    for given in ({"constraints": ()}, {"constraints": []}, {"constraints": None}, {"maxiter": 1e4}, {"maxiter": INF},
                  {"bounds": None},
                  {"bounds": zip([-9]*4, [9]*4, strict=True)}):
        assert method("adam", lr=0.1)(bowl.f, bowl.start, jac=bowl.g, **given).success


METHODS = [
    (("adm",), {}, ValueError, "method: rule is 'adm', but one of sgd, momentum, .* or a rule is needed"),
    ((3,), {}, TypeError, "rule is 3, but one of sgd, .*, an optimizer class or a rule is needed"),
    ((None,), {}, TypeError, "rule is None"),
    ((lambda c, g, p: p,), {}, TypeError, "Rules are made by fastopt.rule"),
    ((int,), {}, TypeError, "rule is <class 'int'>"),
    ((fastopt.Adam(np.zeros(1)),), {}, TypeError, "an optimizer class or a rule is needed"),
    ((fastopt.Optimizer,), {}, TypeError, "an optimizer class or a rule is needed"),
    (("adam",), {"momentum": 0.9}, TypeError, "'momentum' is no hyperparameter of adam"),
    (("adam",), {"learning_rate": 0.9}, TypeError, "Say lr="),
    (("adam",), {"lr": -1}, ValueError, "lr is -1"),
    (("adam",), {"lr": "fast"}, TypeError, "lr is 'fast'"),
    (("adam",), {"maximize": True}, ValueError, "method: maximize is True, but minimize looks for the lowest value"),
    (("adam",), {"threads": 0}, ValueError, "threads is 0"),
    (("adam",), {"like": "caffe"}, ValueError, "caffe"),
]


@pytest.mark.parametrize(("arguments", "hyper", "error", "says"), METHODS, ids=range(len(METHODS)))
def test_bad_methods_are_refused_at_once(arguments, hyper, error, says):
    with pytest.raises(error, match=says):
        method(*arguments, **hyper)


def test_conventions_of_other_systems():
    """like="torch": Nesterov in the shifted form, which evaluates at the stored parameters."""
    bowl, w, points = Bowl(), Bowl().start, []
    opt = fastopt.Nesterov(w, lr=0.02, like="torch", momentum=0.7)
    for _ in range(11):
        points.append(w.copy())
        opt.step(bowl.A @ (w - bowl.m))
    bowl.solve(method("nesterov", lr=0.02, like="torch", momentum=0.7), options={"maxiter": 10})
    assert_identical(np.array(bowl.points), np.array(points))


def test_repr_and_pickle():
    chosen = method("adam", lr=0.1, b1=0.8, threads=1)
    assert repr(chosen) == "fastopt.scipy.method('adam', threads=1, lr=0.1, b1=0.8)"
    assert repr(method(fastopt.Lion)) == "fastopt.scipy.method(Lion)"
    assert repr(method(heavy_ball, mu=0.5)) == "fastopt.scipy.method(heavy_ball, mu=0.5)"
    again = pickle.loads(pickle.dumps(chosen))
    assert again == chosen
    assert_identical(Bowl().solve(again).x, Bowl().solve(chosen).x)


# Beside minimize

def wells(x):
    """Two wells; the deeper one is at x = -1.0241."""
    return float((x[0]**2 - 1)**2 + 0.2*x[0] + x[1]**2)


def wells_gradient(x):
    return np.array([4*x[0]*(x[0]**2 - 1) + 0.2, 2*x[1]])


def test_basinhopping():
    f_calls, g_calls = [], []
    kwargs = {"method": method("nesterov", lr=0.02), "jac": lambda x: g_calls.append(1) or wells_gradient(x),
              "options": {"gtol": 1e-7}}
    found = optimize.basinhopping(lambda x: f_calls.append(1) or wells(x), [1.0, 1.0], 10, stepsize=1.5,
                                  minimizer_kwargs=kwargs, rng=1)
    root = min(np.roots([4, 0, -4, 0.2]).real)
    assert np.abs(found.x - [root, 0]).max() < 1e-6
    assert found.lowest_optimization_result.success
    assert found.minimization_failures == 0
    assert (found.nfev, found.njev) == (len(f_calls), len(g_calls))
    assert wells([1.0, 0.0]) > found.fun + 0.3


def test_dual_annealing():
    bounds = [(-2, 2), (-2, 2)]
    kwargs = {"method": method("adam", lr=0.05), "bounds": bounds}
    found = optimize.dual_annealing(wells, bounds, minimizer_kwargs=kwargs, maxiter=20, rng=1)
    assert np.abs(found.x - [min(np.roots([4, 0, -4, 0.2]).real), 0]).max() < 1e-4


# Extras

def run(code, check=True):
    """A Python process with warnings as errors."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])}
    ran = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False,
                         env=env)
    assert not check or ran.returncode == 0, ran.stdout + ran.stderr
    return ran


def test_without_scipy():
    ran = run("import sys; sys.modules['scipy'] = None; import fastopt; fastopt.Adam; fastopt.scipy", check=False)
    assert ran.returncode == 1
    assert ran.stderr.splitlines()[-1].startswith("ImportError: fastopt.scipy: ")
    assert 'pip install "fastopt[scipy]"' in ran.stderr
    assert "During handling" not in ran.stderr


def test_without_rich():
    code = "import sys; sys.modules['rich'] = None; from fastopt.scipy import method; method(); print('fine'); method(progress=True)"
    ran = run(code, check=False)
    assert ran.returncode == 1
    assert ran.stdout == "fine\n"
    assert ran.stderr.splitlines()[-1].startswith("ImportError: fastopt.scipy: ")
    assert 'pip install "fastopt[progress]"' in ran.stderr


def test_progress(capfd):
    bowl = Bowl()
    found = bowl.solve(method("adam", lr=0.1, progress=True), options={"maxiter": 77, "gtol": 0})
    out, err = capfd.readouterr()
    assert out == ""
    assert "adam" in err
    assert "77/77" in err
    assert re.search(r"value [\d.e-]+, gradient [\d.e-]+", err)
    assert_identical(found.x, Bowl().solve(method("adam", lr=0.1), options={"maxiter": 77, "gtol": 0}).x)
    assert capfd.readouterr() == ("", "")
    assert bowl.solve(method("adam", lr=0.1, progress=True), options={"maxiter": INF}).success
    assert "adam" in capfd.readouterr().err
    with contextlib.suppress(ValueError):
        minimize(lambda x: NAN, [1.0], jac=lambda x: x, method=method(progress=True))
    assert bowl.solve(method("adam", lr=0.1, progress=True)).success  # the bar of a run that failed is gone


@pytest.mark.parametrize("differences", ["2-point", "3-point"])
def test_fun_may_use_its_array_again(differences):
    out = np.empty(1)

    def fun(x):
        out[0] = x @ x
        return out
    found = minimize(fun, [3.0, 4.0], method=method("adam", lr=0.1), options={"finite_diff": differences, "gtol": 1e-4})
    assert found.success
    assert abs(found.x).max() < 1e-3


def test_a_schedule_of_ones_own_is_asked_not_copied():
    class Rate:
        value = 0.1

        def __init__(self):
            self.lock = threading.Lock()  # which no copy can have

        def __call__(self, t):
            return self.value
    rate, bowl = Rate(), Bowl()

    def callback(x):
        rate.value = 0.0
    options = {"maxiter": 5, "return_all": True}
    found = minimize(bowl.f, bowl.start, jac=bowl.g, method=method("sgd", lr=rate), callback=callback, options=options)
    assert not np.array_equal(found.allvecs[0], found.allvecs[1])
    assert all(np.array_equal(x, found.allvecs[1]) for x in found.allvecs[1:])
