"""Jacobians and Hessian-vector products against exact ones, with the errors that theory predicts of their steps."""
import numpy as np
import pytest

from fastopt import curvature, networks, problems

f64, f32 = np.float64, np.float32
ONE = np.ones(2)


def smooth(w):
    a, b = w["a"], w["b"]
    values = [np.sin(a).sum()*b[0], np.exp(-b).sum() + a[0, 1]**3, np.cos(a[1] @ b[:2])]
    return np.array(values).astype(np.result_type(a, b))


def exact(w):
    a, b = w["a"].astype(f64), w["b"].astype(f64)
    da, db = np.zeros((3, 2, 2)), np.zeros((3, 3))
    da[0], db[0, 0], db[1], da[1, 0, 1] = np.cos(a)*b[0], np.sin(a).sum(), -np.exp(-b), 3*a[0, 1]**2
    da[2, 1], db[2, :2] = (-np.sin(a[1] @ b[:2])*x for x in (b[:2], a[1]))
    return {"a": da, "b": db}


def points(dtype, count=20):
    rng = np.random.default_rng(0)
    return [{"a": rng.standard_normal((2, 2)).astype(dtype), "b": rng.standard_normal(3).astype(dtype)}
            for _ in range(count)]


def distance(x, y):
    """The largest difference of two trees over the largest element of the second."""
    return max(abs(x[k] - y[k]).max() for k in y)/max(abs(y[k]).max() for k in y)


def small_network():
    """Parameters of 3-4-2 units; value and gradient of the squared loss on 9 random rows."""
    rng = np.random.default_rng(0)
    w, x, y = networks.initial((3, 4, 2), rng, dtype=f64), rng.standard_normal((9, 3)), rng.standard_normal((9, 2))
    return w, lambda w: networks.value_and_grad(w, x, y, "squared", "tanh")


@pytest.mark.parametrize(("method", "bound64", "bound32", "calls"), [
    ("2-point", 1e-7, 5e-3, 8), ("3-point", 2e-10, 1e-4, 15), ("cs", 2e-15, 2e-15, 8), ("adaptive", 3e-11, 2e-5, 78)])
def test_jacobian_of_a_tree(method, bound64, bound32, calls):
    for w in points(f64) + points(f32):
        before = {k: x.copy() for k, x in w.items()}
        found = curvature.jacobian(smooth, w, method)
        assert {k: (x.shape, x.dtype) for k, x in found.items()} == {"a": ((3, 2, 2), f64), "b": ((3, 3), f64)}
        assert distance(found, exact(w)) < (bound64 if w["a"].dtype == f64 else bound32)
        assert all(np.array_equal(w[k], before[k]) for k in w)

    seen, w = [], points(f64, 1)[0]

    def number(w):
        seen.append(w["a"].dtype)
        w["a"][:] = w["a"]*w["a"] + 0  # a function may do what it likes with its argument
        return w["a"].sum() + 3*w["b"].sum()
    assert distance(curvature.jacobian(number, w, method), {"a": 2*w["a"], "b": np.full(3, 3.0)}) < 1e-6
    assert len(seen) == calls
    assert (np.complex128 in seen) == (method == "cs")


def test_jacobians_of_values_are_gradients_and_those_of_gradients_are_hessians():
    w, both = small_network()
    for method, bound in [("2-point", 1e-6), ("3-point", 1e-8), ("adaptive", 1e-8)]:
        found = curvature.jacobian(lambda w: both(w)[0], w, method)
        assert {k: x.shape for k, x in found.items()} == {k: x.shape for k, x in w.items()}
        assert distance(found, both(w)[1]) < bound
    for p in (problems.rosenbrock(4), problems.beale(), problems.quadratic(1e3, 7)):
        w = p.initial() + 0.25
        for method, bound in [("3-point", 1e-8), ("cs", 1e-14), ("adaptive", 1e-9)]:
            assert abs(curvature.jacobian(p.grad, w, method) - p.hess(w)).max() < bound*abs(p.hess(w)).max()


def test_jacobian_step():
    """A larger step has the error that Taylor's formula says."""
    for h in (1e-2, 1e-3):
        step = 2.0**round(np.log2(h))
        for method, error in [("2-point", step/2), ("3-point", step**2/6)]:
            found = curvature.jacobian(np.exp, np.zeros(()), method, rel_step=h)
            assert found - 1 == pytest.approx(error, rel=0.01)


def test_adaptive_knows_its_error():
    for dtype, most in [(f64, 1e-7), (f32, 1e-3)]:
        for w in points(dtype):
            found, error = curvature.jacobian(smooth, w, "adaptive", with_error=True)
            true = exact(w)
            top = max(abs(x).max() for x in true.values())
            assert all((abs(found[k] - true[k]) <= 2*error[k] + 30*np.finfo(dtype).eps*top).all() for k in w)
            assert all(x.max() < most*top for x in error.values())
    rng = np.random.default_rng(0)
    message = r"1 of 2 derivatives .* over 1e-08 of the largest, that by w\[1\] most: "
    with pytest.warns(RuntimeWarning, match=message) as said:
        curvature.jacobian(lambda w: w[0]**2 + w[1] + (1e-3*rng.standard_normal() if w[1] != 1 else 0),
                           np.array([0.5, 1.0]), "adaptive")
    assert [w.filename for w in said] == [__file__]


@pytest.mark.parametrize("method", ["2-point", "3-point", "adaptive"])
def test_a_function_may_use_its_array_again_and_must_return_real_numbers(method):
    out = np.empty(3)
    found = curvature.jacobian(lambda w: np.multiply(w, 2, out=out), np.array([1.0, 2.0, 3.0]), method)
    assert np.allclose(found, 2*np.eye(3), atol=1e-6)
    with pytest.raises(TypeError, match=r"jacobian: f\(w\) is an array of complex128"):
        curvature.jacobian(lambda w: np.exp(1j*w), ONE, method)


# Hessian-vector products

@pytest.mark.parametrize(("p", "worst64", "worst32"),
                         [(problems.quadratic(1e3, 50), 3e-11, 1e-5), (problems.quadratic(1e5, 50), 3e-11, 1e-5),
                          (problems.rosenbrock(6), 5e-11, 5e-5), (problems.beale(), 2e-9, 3e-4),
                          (problems.rastrigin(5), 2e-8, 1e-2)], ids=str)
def test_hvp_has_the_error_that_the_step_predicts(p, worst64, worst32):
    """d^2/6*T + eps*G/d, T from exact Hessians beside w, G = norm(grad) + norm(H)*norm(w); and the docstring's."""
    for dtype, worst in [(f64, worst64), (f32, worst32)]:
        rng, eps = np.random.default_rng(0), np.finfo(dtype).eps
        for _ in range(20):
            w = (p.start + rng.standard_normal(p.start.shape)).astype(dtype)
            v = rng.standard_normal(w.shape).astype(dtype)
            h, wide, unit = p.hess(w.astype(f64)), w.astype(f64), v/np.linalg.norm(v.astype(f64))
            size, d = np.linalg.norm(h, 2), np.cbrt(eps)*max(1, np.linalg.norm(wide))
            error = np.linalg.norm(curvature.hvp(p.grad, w, v) - h @ v)/np.linalg.norm(v)
            third = np.linalg.norm((p.hess(wide + d*unit) + p.hess(wide - d*unit) - 2*h) @ unit)/d**2
            assert error < 1.5*d**2/6*third + 2*eps*(np.linalg.norm(p.grad(w)) + size*np.linalg.norm(wide))/d
            assert error < worst*size


def test_the_step_is_that_of_the_coarsest_dtype():
    p = problems.rosenbrock(6)
    for w, g, calls, bound in [(f64, f64, 2, 1e-10), (f32, f32, 2, 1e-4), (f64, f32, 4, 1e-4), (f32, f64, 2, 1e-4)]:
        seen, v, point = [], np.arange(6)/7, p.initial().astype(w) + w(0.3)
        h = p.hess(point.astype(f64))
        found = curvature.hvp(lambda x: seen.append(x) or p.grad(x.astype(g)), point, v)  # noqa: B023
        assert found.dtype == w
        assert len(seen) == calls
        assert np.linalg.norm(found - h @ v) < bound*np.linalg.norm(h, 2)*np.linalg.norm(v)


def test_hvp_of_a_tree():
    w, both = small_network()
    tree = [w["W1"], (w["b1"], {"last": (w["W2"], w["b2"])})]

    def grad(t):
        w1, (b1, last) = t
        g = both({"W1": w1, "b1": b1, "W2": last["last"][0], "b2": last["last"][1]})[1]
        t[0][:] = np.nan  # a gradient function may do what it likes with its argument
        return [g["W1"], (g["b1"], {"last": (g["W2"], g["b2"])})]
    found = curvature.hvp(grad, tree, tree)
    exact = curvature.jacobian(lambda t: both({k: a*(1 + t) for k, a in w.items()})[1]["W2"], np.zeros(()))
    assert abs(found[1][1]["last"][0] - exact).max() < 1e-9
    assert isinstance(found[1], tuple)
    assert np.isfinite(tree[0]).all()


def test_hvp_is_homogeneous():
    p = problems.beale()
    w, v = p.initial(), np.array([0.3, -2.0])
    one = curvature.hvp(p.grad, w, v)
    for factor in (2.0**500, 2.0**-500, 2.0**1000, -1.0, 0.0):
        assert np.array_equal(curvature.hvp(p.grad, w, factor*v), factor*one)


# Errors

W, NAN = {"a": ONE, "b": np.ones((2, 2))}, {"a": np.array([1, np.nan]), "b": np.ones((2, 2))}


def hvp(grad=lambda w: w, w=W, v=W):
    return lambda: curvature.hvp(grad, w, v)


def jacobian(f=lambda w: w, w=ONE, *method, **how):
    return lambda: curvature.jacobian(f, w, *method, **how)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy's own, of the planted inf
@pytest.mark.parametrize(("call", "error", "text"), [
    (hvp(lambda w: None), TypeError, "hvp: grad(w) is None, but arrays like those of w are needed."),
    (hvp(lambda w: {"a": ONE, "b": ONE}), ValueError, "hvp: grad(w)['b'] has the shape (2,), but w['b'] has (2, 2)."),
    (hvp(lambda w: {"a": ONE}), ValueError, "hvp: grad(w): no ['b']"),
    (hvp(lambda w: [ONE]), TypeError, "hvp: grad(w): found list, but params has a dict"),
    (hvp(lambda w: {**w, "b": None}), TypeError, "hvp: grad(w)['b'] has the dtype object"),
    (hvp(lambda w: NAN), FloatingPointError, "hvp: grad(w)['a'][1] is nan, the first of 1 elements that are not"),
    (hvp(w=NAN), ValueError, "hvp: w['a'][1] is nan"), (hvp(v=NAN), ValueError, "hvp: v['a'][1] is nan"),
    (hvp(v={"a": ONE}), ValueError, "hvp: v: no ['b']"), (hvp(w={}), ValueError, "hvp: w has no elements"),
    (hvp(w=[np.ones(0)]), ValueError, "hvp: w has no elements"),
    (hvp(w=[1.0]), TypeError, "hvp: w[0] is a float, but a NumPy array of float64, float32 or"),
    (hvp(w=np.arange(3)), TypeError, "hvp: w is a int64 array"),
    (jacobian(method="4-point"), ValueError, "jacobian: method is '4-point', but one of '2-point', '3-"),
    (jacobian(with_error=True), ValueError, "jacobian: with_error was asked of method '3-po"),
    (jacobian(rel_step=0.0), ValueError, "jacobian: rel_step is 0.0"),
    (jacobian(method="adaptive", rel_step=0.1), ValueError, "jacobian: rel_step is 0.1"),
    (jacobian(lambda w: None), TypeError, "jacobian: f(w) is a NoneType, but a number or an array"),
    (jacobian(w=W), TypeError, "jacobian: f(w) is a dict"),
    (jacobian(lambda w: w*np.inf), FloatingPointError, "jacobian: f(w)[0] is inf"),
    (jacobian(lambda w: np.where(w > 1, np.nan, w)), FloatingPointError,
     "jacobian: f is not finite beside w[0], the first of 2 elements."),
    (jacobian(lambda w: w[:1 + (w[0] != 1)]), ValueError, "f(w) has the shape (2,), but (1,) at first")])
def test_errors_name_place_find_and_need(call, error, text):
    with pytest.raises(error) as caught:
        call()
    assert text in str(caught.value)
    assert str(caught.value).endswith(".")
