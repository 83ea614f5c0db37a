"""The problems' gradients, Hessians and minima against differences and SciPy; and each is as hard as it says."""
import copy
import math

import numpy as np
import pytest
import scipy.optimize as so

import fastopt
from fastopt import networks, problems

FLAT = {"quadratic": lambda: problems.quadratic(50.0, 5, seed=3),
        "diagonal": lambda: problems.quadratic(1e3, 4, rotated=False, spectrum="linear"),
        "linear_regression": problems.linear_regression,
        "linear_scaled": lambda: problems.linear_regression(50, 4, collinearity=0.5, scales=100.0, l2=0.1, seed=2),
        "logistic_regression": problems.logistic_regression,
        "logistic_scaled": lambda: problems.logistic_regression(100, 3, l2=0.0, scales=10.0, seed=1),
        "rosenbrock": problems.rosenbrock, "rosenbrock_5": lambda: problems.rosenbrock(5), "beale": problems.beale,
        "rastrigin": problems.rastrigin, "rastrigin_3": lambda: problems.rastrigin(3)}
EVERY = {**FLAT, **{start: (lambda start=start: problems.network(start, seed=1)) for start in problems.STARTS}}
flat, every = pytest.mark.parametrize("name", FLAT), pytest.mark.parametrize("name", EVERY)


def leaves(w):
    return list(w.values()) if isinstance(w, dict) else [w]


def changed(w, function):
    return {k: function(v) for k, v in w.items()} if isinstance(w, dict) else function(w)


def near(problem, seed=0, size=0.3):
    """A random point near the start."""
    rng = np.random.default_rng(seed)
    return changed(problem.initial(), lambda a: a + size*rng.standard_normal(a.shape))


def difference(function, w, e, h):
    """The derivative along e, by central differences of fourth order: error h^4, and eps/h of the values."""
    far, near = (function(w + k*h*e) - function(w - k*h*e) for k in (2, 1))
    return (8*near - far)/(12*h)


# Every problem

@flat
def test_gradient_and_hessian(name):
    """Gradients by complex steps, to rounding, where values can be complex. (The networks': test_gradient_check.py.)"""
    problem = FLAT[name]()
    for w in (near(problem), near(problem, 1), problem.minimum[0]):
        g, h = problem.grad(w), problem.hess(w)
        want = np.stack([difference(problem.grad, w, e, 1e-4) for e in np.eye(w.size)])
        assert (h.shape, h.dtype) == ((w.size, w.size), np.float64)
        np.testing.assert_allclose(h, want, rtol=0, atol=1e-8*np.abs(want).max())
        np.testing.assert_allclose(h, h.T, rtol=0, atol=1e-15*np.abs(h).max())
        if "logistic" in name:
            slopes = [difference(problem.value, w, e, 1e-4) for e in np.eye(w.size)]
            np.testing.assert_allclose(slopes, g, rtol=0, atol=1e-8*max(1, np.abs(g).max()))
        elif w is not problem.minimum[0]:  # there only rounding is left of it
            slopes = [problem.value(w + 1e-30j*e).imag/1e-30 for e in np.eye(w.size)]
            np.testing.assert_allclose(slopes, g, rtol=1e-12, atol=1e-13*np.abs(g).max())
            assert problem.grad(w.astype(complex)).dtype == complex


@flat
def test_minimum(name):
    problem = FLAT[name]()
    best, value = problem.minimum
    assert type(value) is float
    assert problem.value(best) == value
    assert np.abs(problem.grad(best)).max() <= 1e-13*np.abs(problem.grad(problem.start)).max()
    assert np.linalg.eigvalsh(problem.hess(best))[0] > 0
    for seed in range(100):
        assert problem.value(near(problem, seed, 2.0)) > value
        assert problem.value(best + 1e-3*np.random.default_rng(seed).standard_normal(best.size)) > value
    if "rastrigin" not in name:
        found = so.minimize(problem.value, problem.start, jac=problem.grad, hess=problem.hess, method="trust-exact",
                            options={"gtol": 1e-10})
        np.testing.assert_allclose(found.x, best, rtol=1e-7, atol=1e-7)
        np.testing.assert_allclose(found.fun, value, rtol=1e-12, atol=1e-14)


@every
def test_w_of_any_float_type_is_left_as_it_is(name):
    problem = EVERY[name]()
    for dtype in (np.float32, np.float64):
        w = changed(near(problem), lambda a, dtype=dtype: a.astype(dtype))
        for a in leaves(w):
            a.flags.writeable = False
        before = copy.deepcopy(w)
        value, g = problem.value_and_grad(w)
        again, same = problem.value_and_grad(w, batch="ignored")
        assert type(value) is float
        assert value == again == problem.value(w)
        for a, b, c, d in zip(*map(leaves, (w, before, g, same)), strict=True):
            assert np.array_equal(a, b)
            assert np.array_equal(c, d)
            assert (c.shape, c.dtype) == (a.shape, np.dtype(dtype))
        assert not any(np.shares_memory(a, b) for a in leaves(g) for b in (*leaves(w), *leaves(same)))
        if name in FLAT:
            exact = w.astype(np.float64)
            assert value == problem.value(exact) == problem.value(w.tolist())
            assert np.array_equal(g, problem.grad(exact).astype(dtype))
            assert np.array_equal(problem.hess(w), problem.hess(exact))
            assert problem.grad(w.tolist()).dtype == np.float64
            for function in (problem.value, problem.grad, problem.hess):
                for other in (np.zeros(w.size + 1), w[:, None], w > 0, 0.0):
                    with pytest.raises(ValueError, match=rf"numbers of shape \({w.size},\) are needed"):
                        function(other)


@every
def test_initial_is_a_fresh_copy(name):
    problem, again = EVERY[name](), EVERY[name]()
    first, second = problem.initial(), problem.initial()
    assert isinstance(first, type(problem.start))
    for a, b, kept, other in zip(*map(leaves, (first, second, problem.start, again.start)), strict=True):
        assert (a.dtype, a.flags.writeable, kept.flags.writeable) == (np.float64, True, False)
        assert not np.shares_memory(a, b)
        assert not np.shares_memory(a, kept)
        assert np.array_equal(a, kept)
        assert np.array_equal(a, other)  # a problem made twice is the same
        a += 1
        assert np.array_equal(b, kept)
    assert problem.value(problem.initial()) == again.value(again.start)
    assert not any(a.flags.writeable for a in (*(problem.minimum or ())[:1], *(problem.data or ())))
    assert repr(problem) == f"Problem({problem.name})"
    assert len(repr(problem)) < 60
    scale = max(np.abs(a).max() for a in leaves(problem.grad(second)))
    fastopt.SGD(second, lr=1e-4/scale, threads=1).step(problem.value_and_grad(second, None)[1])
    assert problem.value(second) < problem.value(problem.start)


# Functions

def test_rastrigin_and_rosenbrock_are_their_formulas():
    w = np.array([0.3, -1.7])
    np.testing.assert_allclose(problems.rastrigin(2).value(w), 20 + (w**2 - 10*np.cos(2*math.pi*w)).sum(), rtol=1e-14)
    assert problems.rastrigin(2).value([1e-9, 0]) == pytest.approx((1 + 20*math.pi**2)*1e-18, rel=1e-12)
    for n in (2, 3, 7):
        w = near(problems.rosenbrock(n), size=1.0)
        np.testing.assert_allclose(problems.rosenbrock(n).value(w), so.rosen(w), rtol=1e-14)
    assert problems.rosenbrock(4).start.tolist() == [-1.2, 1, -1.2, 1]


def test_beale_at_known_points():
    problem = problems.beale()
    for w, value in [([1, 1], 14.203125), ([0, 7], 14.203125), ([2, -1], 2.5**2 + 2.25**2 + 1.375**2), ([3, 0.5], 0)]:
        assert problem.value(w) == value  # 14.203125 = 1.5^2 + 2.25^2 + 2.625^2
    x, y = 0.7, -0.4
    want = (1.5 - x + x*y)**2 + (2.25 - x + x*y**2)**2 + (2.625 - x + x*y**3)**2
    assert problem.value([x, y]) == pytest.approx(want, rel=1e-14)


# Quadratics

@pytest.mark.parametrize(("condition", "n", "spectrum", "eigenvalues"), [
    (100.0, 2, "geometric", [1, 100]), (1, 3, "geometric", [1, 1, 1]), (1e4, 5, "geometric", [1, 10, 100, 1e3, 1e4]),
    (9, 5, "linear", [1, 3, 5, 7, 9]), (50.0, 5, "two", [1, 1, 1, 50, 50]), (50.0, 4, "two", [1, 1, 50, 50]),
    (1e8, 3, "linear", [1, 50000000.5, 1e8])])
def test_eigenvalues_are_as_asked(condition, n, spectrum, eigenvalues):
    for rotated in (True, False):
        problem = problems.quadratic(condition, n, seed=1, rotated=rotated, spectrum=spectrum)
        a, d = problem.hess(problem.start), problem.start - problem.minimum[0]
        assert np.array_equal(a, a.T)
        np.testing.assert_allclose(np.linalg.eigvalsh(a), eigenvalues, rtol=1e-14, atol=1e-14*condition)
        if condition > 1:
            assert np.any(a - np.diag(np.diag(a))) == rotated
        np.testing.assert_allclose(problem.value(problem.start), d @ a @ d/2, rtol=1e-9)
        np.testing.assert_allclose(d @ d, n, rtol=1e-13)  # 1 in each direction ...
        np.testing.assert_allclose(d @ a @ d, np.sum(eigenvalues), rtol=1e-9)  # ... of an eigenvector


def test_quadratic_options_change_nothing_else():
    first, other = problems.quadratic(seed=4), problems.quadratic(7.0, seed=4, rotated=False, spectrum="two", noise=0.3)
    assert np.array_equal(first.minimum[0], other.minimum[0])
    assert not np.array_equal(first.minimum[0], problems.quadratic(seed=5).minimum[0])


def test_rotations_do_not_depend_on_lapack():
    """A rotation is the one orthogonal factor whose triangular partner has a positive diagonal: that of Gram-Schmidt.
    That of normal numbers is uniform."""
    for seed in range(20):
        problem = problems.quadratic(seed=seed)
        a, b = np.random.default_rng(seed).spawn(3)[1].standard_normal((2, 2)).T
        a /= np.linalg.norm(a)
        b = b - (a @ b)*a
        distance = problem.start - problem.minimum[0]
        np.testing.assert_allclose(distance, a + b/np.linalg.norm(b), atol=1e-12/np.linalg.norm(b))


def test_noise_of_the_gradient():
    noisy, again, exact = (problems.quadratic(30.0, 6, seed=2, noise=noise) for noise in (0.5, 0.5, 0))
    w = near(exact)
    draws = np.stack([noisy.grad(w) - exact.grad(w) for _ in range(2000)])
    assert np.array_equal(draws, np.stack([again.grad(w) - exact.grad(w) for _ in range(2000)]))
    assert abs(draws.std()/0.5 - 1) < 5/math.sqrt(2*draws.size)
    assert np.abs(draws.mean(axis=0)).max() < 5*0.5/math.sqrt(2000)
    assert noisy.value(w) == exact.value(w)
    assert noisy.grad(w.astype(np.float32)).dtype == np.float32


# Regressions

def test_columns_are_collinear_as_asked():
    n, k = 20_000, 6
    for c in (0.0, 0.9, 0.99, 0.9999):
        for scales in (1.0, 1000.0):
            problem = problems.linear_regression(n, k, collinearity=c, scales=scales, seed=1)
            correlations = np.corrcoef(problem.data[0].T)
            pairs = correlations[np.triu_indices(k, 1)]
            assert np.abs(pairs - c).max() < 5*(1 - c*c)/math.sqrt(n) + 1e-12  # 5 standard errors of a correlation
            np.testing.assert_allclose(problem.data[0].std(axis=0), np.geomspace(1, scales, k), rtol=0.03)
            for a in (correlations, problem.hess(problem.start)) if scales == 1 else (correlations,):
                assert np.linalg.cond(a) == pytest.approx(1 + k*c/(1 - c), rel=0.1)
            assert problem.minimum[1] == pytest.approx(0.1**2/2, rel=0.05)  # the noise, unexplained


def test_columns_that_are_equal():
    problem = problems.linear_regression(30, 4, collinearity=1.0)
    assert np.linalg.matrix_rank(problem.data[0]) == 1
    best, value = problem.minimum
    assert np.abs(problem.grad(best)).max() < 1e-14
    assert np.ptp(best) < 1e-14  # the nearest to 0 of all solutions
    assert problem.value(best + np.array([1, -1, 2, -2])) == pytest.approx(value, rel=1e-10)


def test_regressions_are_what_their_docstrings_say():
    for samples, features, l2 in [(100, 8, 0.5), (5, 8, 1e-3)]:
        problem = problems.linear_regression(samples, features, l2=l2, seed=3)
        (x, y), w = problem.data, near(problem)
        np.testing.assert_allclose(problem.value(w), np.mean((x @ w - y)**2)/2 + l2/2*np.sum(w**2), rtol=1e-14)
    problem = problems.logistic_regression(300, 5, l2=0.01, scales=30.0, seed=3)
    (x, y), w = problem.data, near(problem)
    assert set(y) == {0, 1}
    want = np.mean(np.log(1 + np.exp(-(2*y - 1)*(x @ w)))) + 0.005*np.sum(w**2)
    np.testing.assert_allclose(problem.value(w), want, rtol=1e-13)
    np.testing.assert_allclose(x.std(axis=0), np.geomspace(1, 30, 5), rtol=0.2)


def test_logistic_minima_are_found_to_rounding():
    for scales in (1.0, 1e3, 1e6):
        for seed in range(10):
            for l2 in (0.0, 1e-3):
                problem = problems.logistic_regression(seed=seed, scales=scales, l2=l2)
                size = np.abs(problem.data[0]).mean(axis=0)
                assert np.all(np.abs(problem.grad(problem.minimum[0])) < 1e-14*size)


def test_separable_classes_are_refused_and_no_others():
    """Whether a plane through 0 parts them is a linear program: is there a w with s_i x_i'w >= 1?"""
    found = set()
    for seed in range(30):
        x, y = problems.logistic_regression(30, 8, l2=1.0, seed=seed).data
        parted = so.linprog(np.zeros(8), A_ub=-(2*y - 1)[:, None]*x, b_ub=-np.ones(30), bounds=(None, None)).status == 0
        found.add(parted)
        if parted:
            with pytest.raises(ValueError, match="logistic_regression: no minimum was found, but one is needed"):
                problems.logistic_regression(30, 8, l2=0.0, seed=seed)
        else:
            problem = problems.logistic_regression(30, 8, l2=0.0, seed=seed)
            assert np.abs(problem.grad(problem.minimum[0])).max() < 1e-13
    assert found == {True, False}


# Networks

def trained(problem, rule, lr, steps=1000):
    w = problem.initial()
    opt = getattr(fastopt, rule)(w, lr=lr, threads=1)
    for _ in range(steps):
        opt.step(problem.grad)
    return w


@pytest.mark.parametrize(("start", "seed", "rule", "lr"),
                         [("glorot", 0, "SGD", 0.3), ("he", 1, "Adam", 0.01), ("lecun", 0, "Nesterov", 0.1)])
def test_good_starts_train(start, seed, rule, lr):
    problem = problems.network(start, seed)
    assert 0.6 < problem.value(problem.start) < 0.9
    assert problem.value(trained(problem, rule, lr)) < 0.06


def test_saturated_units_hardly_learn():
    problem, good = problems.network("saturated"), problems.network("glorot")
    units = networks.forward(problem.start, problem.data[0], "tanh")
    for k in (1, 2):
        inputs = units[k - 1] @ problem.start[f"W{k}"] + problem.start[f"b{k}"]
        assert np.abs(inputs).min() == pytest.approx(8, rel=1e-12)
        assert (1 - units[k]**2).max() < 4.6e-7
        assert set(np.sign(inputs[0])) == {-1, 1}
    g, normal = problem.grad(problem.start), good.grad(good.start)
    for name, most in {"W1": 1e-12, "b1": 1e-12, "W2": 1e-6, "b2": 1e-6}.items():
        assert 0 < np.abs(g[name]).max() < most, name
        assert np.abs(normal[name]).max() > 1e-3, name
    assert np.abs(g["W3"]).max() > 0.1  # the output layer has no tanh
    for name, factor in {"W1": 10, "W2": 10, "W3": 1}.items():
        assert np.array_equal(problem.start[name], factor*good.start[name])
    for rule, lr in (("SGD", 0.3), ("Adam", 0.01)):  # log(2) = 0.693 is what a constant gives
        assert problem.value(trained(problem, rule, lr)) > 0.69, rule


def test_equal_units_stay_equal():
    problem = problems.network("equal")
    assert {float(v) for name in ("W1", "W2", "W3") for v in problem.start[name].ravel()} == {0.1}
    for rule, lr in (("SGD", 0.3), ("Adam", 0.01)):
        w = trained(problem, rule, lr, 500)
        assert np.abs(w["W1"] - problem.start["W1"]).max() > 0.1, rule  # they do learn
        for name, axis in (("W1", 1), ("b1", 0), ("W2", 0), ("W2", 1), ("b2", 0), ("W3", 0)):
            assert np.ptp(w[name], axis=axis).max() == 0, (rule, name)
        assert problem.value(w) > 0.5, rule  # one unit's worth; good starts end below 0.06


def test_network_data_and_seeds():
    first, other = problems.network("glorot", 0), problems.network("glorot", 1)
    x, y = first.data
    assert np.array_equal(x, other.data[0])
    assert x.shape == (256, 2)
    assert np.array_equal(y, (np.prod(x, axis=1) > 0).astype(int))
    assert 100 < y.sum() < 156
    assert not np.array_equal(first.start["W1"], other.start["W1"])
    for p, activation in [(first, "tanh"), (problems.network("he"), "relu")]:
        value, g = networks.value_and_grad(p.start, *p.data, "logistic", activation)
        assert p.value(p.start) == value
        assert all(np.array_equal(a, g[name]) for name, a in p.grad(p.start).items())


@pytest.mark.parametrize(("make", "name", "needed", "values"), [
    ("quadratic", "condition", "a finite number, 1 or more,", (0.5, math.inf, "ten")),
    ("quadratic", "n", "a whole number, 2 or more,", (1, 2.0, True)),
    ("quadratic", "noise", "a finite number, 0 or more,", (-1,)),
    ("quadratic", "spectrum", "one of 'geometric', 'linear', 'two'", ("flat",)),
    ("quadratic", "rotated", "one of False, True", (2,)),
    ("quadratic", "seed", "a numpy.random.Generator or a seed, 0 or more,", (None,)),
    ("linear_regression", "samples", "a whole number, 1 or more,", (0,)),
    ("linear_regression", "features", "a whole number, 1 or more,", (0,)),
    ("linear_regression", "collinearity", "a number in [0, 1]", (1.1, -0.1)),
    ("linear_regression", "scales", "a finite number, 1 or more,", (0.5,)),
    ("linear_regression", "noise", "a finite number, 0 or more,", (math.nan,)),
    ("linear_regression", "l2", "a finite number, 0 or more,", (-1,)),
    ("logistic_regression", "samples", "a whole number, 1 or more,", (1.5,)),
    ("logistic_regression", "l2", "a finite number, 0 or more,", (-1,)),
    ("rosenbrock", "n", "a whole number, 2 or more,", (1,)), ("rastrigin", "n", "a whole number, 1 or more,", (0,)),
    ("network", "start", "one of 'glorot', 'he', 'lecun', 'saturated', 'equal'", ("zero",)),
    ("network", "seed", "a numpy.random.Generator or a seed, 0 or more,", (-1,))])
def test_bad_arguments(make, name, needed, values):
    for value in values:
        with pytest.raises((TypeError, ValueError)) as caught:
            getattr(problems, make)(**{name: value})
        assert str(caught.value).startswith(f"{make}: {name} is {value!r}, but {needed} is needed. ")
