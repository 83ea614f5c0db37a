"""Eigenvalues against exact ones and the gradients they took; suggested settings against the rates they promise."""
import numpy as np
import pytest
from scipy.sparse.linalg import cg, eigsh
from threadpoolctl import threadpool_limits

import fastopt
from fastopt import curvature, problems
from fastopt.curvature import eigenvalues

f64, f32 = np.float64, np.float32
RATIOS = {"geometric": np.geomspace, "linear": np.linspace}


class Counted:
    """A gradient that counts its calls, of a quadratic with a diagonal Hessian."""

    def __init__(self, spectrum, dtype=f64):
        self.d, self.calls = np.asarray(spectrum).astype(dtype), 0
        self.best, self.w = np.random.default_rng(0).standard_normal((2, len(self.d))).astype(dtype)

    def __call__(self, w):
        assert w.dtype == self.d.dtype
        self.calls += 1
        return self.d*(w - self.best)


@pytest.fixture(autouse=True)
def one_blas_thread():
    """ARPACK's vectors are short: beside a busy neighbour two BLAS threads took 63 s for what one does in 2."""
    with threadpool_limits(1, "blas"):
        yield


# Eigenvalues

@pytest.mark.parametrize(("condition", "spectrum", "dtype", "calls", "small", "large"), [
    # most gradients, errors of the smallest and of the largest: what the docstring reports, rounded up
    (10, "geometric", f64, 700, 2e-5, 1e-11), (1e5, "geometric", f64, 3700, 1e-9, 1e-11),
    (10, "linear", f64, 600, 1e-5, 1e-6), (1e5, "linear", f64, 900, 1e-6, 1e-10),
    (1e3, "geometric", f32, 3700, 1e-3, 1e-5), (1e5, "linear", f32, 600, 1e-2, 1e-5)])
def test_extreme_eigenvalues_of_a_thousand(condition, spectrum, dtype, calls, small, large):
    """Far fewer gradients than the 2,000 that would form the Hessian, if its spectrum is kind; more if it is not."""
    grad = Counted(RATIOS[spectrum](1, condition, 1000), dtype)
    before = grad.w.copy()
    low, high = curvature.extreme_eigenvalues(grad, grad.w)
    assert grad.calls < calls
    assert abs(low/grad.d[0] - 1) < small
    assert abs(high/grad.d[-1] - 1) < large
    assert np.array_equal(grad.w, before)
    assert (type(low), type(high)) == (float, float)


def test_the_largest_alone_is_cheap():
    for condition in (10, 1e3, 1e5):
        grad = Counted(np.geomspace(1, condition, 1000))
        assert curvature.largest_eigenvalue(grad, grad.w) == pytest.approx(condition, rel=1e-3)
        assert grad.calls < 200


@pytest.mark.parametrize("p", [
    problems.quadratic(1e4, 2), problems.quadratic(50, 9), problems.quadratic(1e3, 60), problems.rosenbrock(2),
    problems.rosenbrock(12), problems.beale(), problems.rastrigin(3), problems.rastrigin(30)], ids=str)
def test_eigenvalues_of_any_point_are_those_of_the_exact_hessian(p):
    for seed in range(5):
        w = p.initial() + np.random.default_rng(seed).standard_normal(p.start.shape)
        exact = np.linalg.eigvalsh(p.hess(w))
        low, high = curvature.extreme_eigenvalues(p.grad, w, rng=seed)
        noise = 1e-7*abs(exact).max()  # Rastrigin's hvp is that far off (tests/test_derivatives.py)
        assert low == pytest.approx(exact[0], rel=1e-3, abs=noise)
        assert high == pytest.approx(exact[-1], abs=1e-3*abs(exact[0]) + noise)
        by_hvp = curvature.extreme_eigenvalues(None, w, hvp=lambda w, v: p.hess(w) @ v)
        assert by_hvp == pytest.approx((exact[0], exact[-1]), rel=1e-3, abs=1e-12*abs(exact).max())


def test_unusual_spectra():
    """One element, equal eigenvalues (a Krylov space of one dimension), none above 0, one hidden among thousands."""
    for spectrum in ([3.0], [2.0, 2.0], np.full(500, 7.0), [-1.0, -5.0], np.r_[1e-2, np.ones(2999)],
                     np.r_[0.99, np.ones(2999)], [0.0, 0.0, 0.0], np.r_[np.full(50, 1e-3), np.full(50, 1e3)]):
        grad = Counted(spectrum)
        found = curvature.extreme_eigenvalues(grad, grad.w)
        assert found == pytest.approx((min(spectrum), max(spectrum)), rel=1e-3, abs=1e-9)
        assert grad.calls < 300


def test_the_largest_is_known_to_a_part_of_the_smallest():
    """A small eigenvalue far from the others is found at once, when the crowd at the other end is not resolved yet."""
    others = np.sort(1.001 - np.geomspace(1e-3, 0.3, 199))
    d, w = np.r_[1e-4, others/others[-1]], np.ones(200)
    s = curvature.suggest(lambda w: d*w, w)
    assert s.smallest == pytest.approx(1e-4, rel=1e-3)
    assert s.largest == pytest.approx(1, abs=1e-7)
    opt = fastopt.Momentum(w, **s.momentum, threads=1)
    for _ in range(round(-40/np.log(s.rates["momentum"]))):
        opt.step(d*w)
    assert np.linalg.norm(w) < 1e-12  # 0.66, for 500 elements, where the largest is 8e-5 off


def test_a_basis_that_does_not_fit_is_shorter(monkeypatch):
    seen = []
    monkeypatch.setattr(eigenvalues, "BASIS", 30*300*8)
    monkeypatch.setattr(eigenvalues, "eigsh", lambda *a, ncv, **k: seen.append(ncv) or eigsh(*a, ncv=ncv, **k))
    grad = Counted(np.geomspace(1, 40, 300))
    assert curvature.extreme_eigenvalues(grad, grad.w, rng=1) == pytest.approx((1, 40), rel=1e-3)
    assert set(seen) == {30}


def test_curvature_of_any_size():
    for n in (3, 40, 400):
        for factor in (1e-200, 1e200):
            d = factor*np.linspace(1, 10, n)
            low, high = curvature.extreme_eigenvalues(None, np.ones(n), hvp=lambda w, v: d*v)  # noqa: B023
            assert (low/factor, high/factor) == pytest.approx((1, 10), rel=1e-3)


def test_operator_is_what_scipy_wants():
    p = problems.quadratic(100, 40)
    w = p.initial()
    h, a = curvature.operator(p.grad, w), p.hess(w)
    v = np.random.default_rng(0).standard_normal((40, 3))
    assert (h.shape, h.dtype) == ((40, 40), f64)
    for found, true in [(h @ v[:, 0], a @ v[:, 0]), (h @ v, a @ v), (h.H @ v[:, :1], a @ v[:, :1]),
                        (h.T @ v[:, 1], a @ v[:, 1])]:
        assert found.shape == true.shape
        assert abs(found - true).max() < 1e-8*abs(true).max()
    newton, failed = cg(h, p.grad(w), rtol=1e-8)
    assert failed == 0
    assert np.allclose(w - newton, p.minimum[0], atol=1e-6)


def test_operator_of_a_tree_numbers_elements_leaf_after_leaf():
    w = {"b": np.ones((2, 2), f32), "a": [np.ones(3)]}
    h = curvature.operator(lambda t: {"a": [2*t["a"][0]], "b": 3*t["b"]}, w)
    assert np.allclose(h @ np.eye(7), np.diag([3, 3, 3, 3, 2, 2, 2]), atol=1e-4)
    exact = curvature.operator(None, w, hvp=lambda w, v: {"a": [2*v["a"][0]], "b": 3*v["b"]})
    assert np.array_equal(exact @ np.eye(7), np.diag([3, 3, 3, 3, 2, 2, 2]))


def test_float32_parameters_with_a_float64_gradient():
    """The step must not be lost in the rounding of w."""
    d, w = np.geomspace(1, 100, 40), np.random.default_rng(0).standard_normal(40).astype(f32)
    found = curvature.extreme_eigenvalues(lambda w: d*w, w)
    assert found == pytest.approx((1, 100), rel=2e-3)
    assert curvature.extreme_eigenvalues(lambda w: d*w, w) == found  # it repeats


# Suggestions

RATES = [(10, 2, "geometric"), (10, 200, "linear"), (1e3, 2, "geometric"), (1e3, 30, "geometric"), (1e5, 20, "linear")]
OPTIMIZERS = {"gradient_descent": fastopt.SGD, "momentum": fastopt.Momentum, "nesterov": fastopt.Nesterov}
THEORY = {"gradient_descent": lambda k: (k - 1)/(k + 1), "momentum": lambda k: (k**0.5 - 1)/(k**0.5 + 1),
          "nesterov": lambda k: 1 - 2/(3*k + 1)**0.5}


def log_rate(name, settings, w, grad, k):
    """log of the factor by which the distance to the minimum, 0, shrinks in a step, relative to the theory for k. It is
    the slope of a line fitted to the last three quarters of the way. The minimum is 0, so that no rounding stops the
    way, a factor of e^-100 (gradient descent: e^-30). At the best momentum the iteration has a Jordan block (`double`),
    and the distance is (a + b*t)*rate^t: log(distance/t) is a line for large t, with waves."""
    double, theory = name != "gradient_descent", np.log(THEORY[name](k))
    opt = OPTIMIZERS[name](w, **settings, threads=1)
    steps = int((100 if double else 30)/-theory)
    t, logs = np.arange(1, steps + 1), np.empty(steps)
    for i in range(steps):
        opt.step(grad(opt.lookahead() if opt.rule.ahead else w))
        logs[i] = np.log(np.linalg.norm(w))
    late = t > steps//4
    return np.polyfit(t[late], (logs - np.log(t) if double else logs)[late], 1)[0]/theory


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_suggested_settings_reach_their_rate(name):
    for k, n, spectrum in RATES[:-1] if name == "gradient_descent" else RATES:  # at 1e5 it takes 1.5 million steps
        p = problems.quadratic(k, n, spectrum=spectrum)
        s = curvature.suggest(p.grad, p.start)
        assert np.log(s.rates[name]) == pytest.approx(np.log(THEORY[name](k)), rel=1e-3)
        w, a = p.start - p.minimum[0], p.hess(p.start)
        assert log_rate(name, getattr(s, name), w, a.__matmul__, k) == pytest.approx(1, rel=0.02)


def test_weight_decay_makes_a_flat_direction_convex():
    """Eigenvalues 0 to 1, with a decay of 0.01: a condition of 101."""
    d = np.linspace(0, 1, 20)
    s = curvature.suggest(lambda w: d*w, np.ones(20), weight_decay=0.01)
    assert s.condition == pytest.approx(101, rel=1e-3)
    for name in OPTIMIZERS:
        assert log_rate(name, getattr(s, name), np.ones(20), lambda w: d*w, 101) == pytest.approx(1, rel=0.02)


def test_suggestion_is_what_its_docstring_says():
    def hvp(low, high):
        return lambda w, v: np.array([low, high])*v
    k, w = 64.0, np.ones(2)
    s = curvature.suggest(None, w, hvp=hvp(0.5, 32.0))
    assert s[:4] == pytest.approx((0.5, 32.0, k, 1/16))
    assert s.gradient_descent == pytest.approx({"lr": 2/32.5})
    assert s.momentum == pytest.approx({"lr": (2/(32**0.5 + 0.5**0.5))**2, "momentum": (7/9)**2})
    assert s.nesterov == pytest.approx({"lr": 4/96.5, "momentum": (193**0.5 - 2)/(193**0.5 + 2)})
    assert s.rates == pytest.approx({"gradient_descent": 63/65, "momentum": 7/9, "nesterov": 1 - 2/193**0.5})
    assert curvature.condition_number(None, w, hvp=hvp(0.5, 32.0)) == pytest.approx(k)
    decayed = curvature.suggest(None, w, hvp=hvp(0.25, 31.75), weight_decay=0.25)
    for name, more in [("gradient_descent", {}), ("momentum", {}), ("nesterov", {"shifted": True})]:
        assert getattr(decayed, name) == pytest.approx({**getattr(s, name), "weight_decay": 0.25, **more})
    equal = curvature.suggest(lambda w: 4*w, np.ones(3))
    assert equal.momentum == pytest.approx({"lr": 0.25, "momentum": 0}, abs=1e-9)
    assert max(equal.rates.values()) < 1e-9


def test_float32_is_refused_where_it_cannot_tell_the_smallest_from_zero():
    for condition in (1e2, 1e3, 1e5):
        grad = Counted(np.geomspace(1, condition, 50), f32)
        if condition < 1e4:
            assert curvature.suggest(grad, grad.w).condition == pytest.approx(condition, rel=0.02)
        else:
            with pytest.raises(ValueError, match=r"suggest: the smallest eigenvalue .* is \S+ within 2e\+01, but one "
                               r"above 0 .* stable lr is (2|1\.9999\d)e-05\. .*, or give hvp or gradients of a finer"):
                curvature.suggest(grad, grad.w)
        exact = curvature.suggest(grad, grad.w.astype(f64), hvp=lambda w, v: grad.d*v)  # noqa: B023
        assert exact.condition == pytest.approx(condition, rel=1e-6)


# Errors

def call(name, grad, w=(1.0, 1.0), **how):
    return lambda: getattr(curvature, name)(grad, np.array(w), **how)


def saddle(w):
    return np.array([-3.0, 8.0])*w


@pytest.mark.parametrize(("call", "error", "text"), [
    (call("suggest", saddle), ValueError,
     r"suggest: the smallest eigenvalue of the Hessian is -3 within \S+, but one above 0 is needed\. The largest is 8; "
     r"the largest stable lr is 0\.25\. Add weight_decay \(suggest\), look at extreme_eigenvalues, or go where the"),
    (call("suggest", lambda w: -w), ValueError, r"The largest is -1\. Add weight_decay"),
    (call("suggest", lambda w: w*[0, 1]), ValueError, r"stable lr is 2\. Add weight_decay \(suggest\), or give hvp"),
    (call("condition_number", saddle), ValueError, "condition_number: the smallest eigenvalue of the Hessian is -3"),
    (call("suggest", saddle, weight_decay=-1.0), ValueError, "suggest: weight_decay is -1.0, but a finite number, 0"),
    (call("extreme_eigenvalues", lambda w: np.geomspace(1, 1e5, 999)*w, np.ones(999), max_products=30), RuntimeError,
     "extreme_eigenvalues: 30 products with the Hessian were not enough for an eigenvalue to within tol"),
    (call("largest_eigenvalue", saddle, tol=0), ValueError, r"largest_eigenvalue: tol is 0, but a number in \(0, 1\)"),
    (call("suggest", saddle, max_products=0), ValueError, "suggest: max_products is 0, but a whole number"),
    (call("extreme_eigenvalues", None), TypeError, "extreme_eigenvalues: grad is None and hvp is None, but one"),
    (call("operator", saddle, hvp=3), TypeError, "operator: grad is <function .* and hvp is 3, but one"),
    (call("suggest", lambda w: w + np.nan), FloatingPointError, r"suggest: grad\(w\)\[0\] is nan, the first of 2"),
    (call("extreme_eigenvalues", None, hvp=lambda w, v: v[:1]), ValueError, r"hvp\(w, v\) has the shape \(1,\), but"),
    (call("extreme_eigenvalues", None, hvp=lambda w, v: v*np.nan), FloatingPointError, r"hvp\(w, v\)\[0\] is nan")])
def test_errors_name_place_find_and_need(call, error, text):
    with pytest.raises(error, match=text) as caught:
        call()
    assert str(caught.value).endswith(".")
