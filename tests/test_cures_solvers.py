"""Cures of messages of fit, minimize, estimators and what looks at functions: each is executed, none is left out."""
import pickle

import numpy as np
import pytest
from conftest import BFLOAT16
from cures import alike, check, values

pytest.importorskip("sklearn")

from scipy.optimize import Bounds, LinearConstraint, minimize

import fastopt
from fastopt import curvature, problems, proximal, scipy, sklearn
from fastopt._tensors.device_array import DeviceArray

f32 = np.float32


# fit

def slope(p, batch):
    """Of (p - batch)^2/2."""
    return float(((p - batch)**2).sum()/2), p - batch


def fitted(function=slope, batches=(0.0, 0.0, 0.0), want=0.125, lr=0.5, **how):
    """A number that starts at 1; the same batches, unless told otherwise, halve it in each of three steps."""
    w = np.ones(1)
    fastopt.fit(fastopt.SGD(w, lr=lr), function, batches, **how)
    assert w == want, w


def on_a_device():
    opt = fastopt.SGD(np.ones(1))
    opt._tensors[0] = opt._tensors[0]._replace(array=DeviceArray(0, [0], f32))
    fastopt.fit(opt, slope, [0.0], accumulate=2)


def mean(p, pair):
    values, gradients = zip(*(slope(p, batch) for batch in pair), strict=True)
    return sum(values)/2, sum(gradients)/2


def diverging(p, batch):
    return slope(p, batch) if np.abs(p).max() <= 1 else (np.inf, np.full(1, np.inf))


def steep(p, batch):
    return diverging(p, batch)[0], 100*diverging(p, batch)[1]


def sometimes(p, batch):
    return (np.nan, p*np.nan) if batch else slope(p, batch)


FIT = [  # what raises; and what the message says to do instead
    *alike(fitted, lambda: fastopt.fit(np.ones(3), slope, [0.0]), lambda: fitted(1), lambda: fitted(lambda p, batch: p),
           lambda: fitted(lambda p, batch: (1.0, None)), lambda: fitted(batches=[], steps=1)),
    *values(fitted, min_delta=(-1.0, 1.0), batches=(5, [0.0]*3), steps=(0, 3), accumulate=("2", 1)),
    (lambda: fitted(batches=None), lambda: fitted(lambda p, _: slope(p, 0.0), None, steps=3)),
    (lambda: fitted(patience=2), lambda: fitted(validate=lambda p: 1.0, patience=2)),
    (lambda: fitted(batches=iter([0.0]*3), validate=np.sum),
     lambda: fitted(batches=iter([0.0]*3), validate=np.sum, validate_every=1)),
    (on_a_device, lambda: (fitted(mean, [(0.0, 1.0)], 0.75), fitted(slope, [0.0, 1.0], 0.75, accumulate=2))),
    (lambda: fitted(batches=iter([0.0]), steps=3),
     lambda: (fitted(batches=iter([0.0]*3), steps=3), fitted(batches=[0.0], steps=3),
              fitted(batches=lambda epoch: [0.0], steps=3), fitted(batches=iter([0.0]), steps=1, want=0.5))),
    (lambda: fitted(batches=lambda epoch: 5),
     lambda: (fitted(batches=lambda epoch: [0.0]*3), fitted(batches=lambda epoch: iter([0.0]*3)))),
    (lambda: fitted(lambda p, batch: (np.vdot(1j*p, 1j*p)/2, p)),
     lambda: fitted(lambda p, batch: ((np.vdot(1j*p, 1j*p)/2).real, p))),
    (lambda: fitted(lambda p, batch: ([[1], [1, 2]], p)), lambda: fitted(lambda p, batch: (float("1"), p))),
    (lambda: fitted(lambda p, batch: (p.repeat(2), p)), lambda: fitted(lambda p, batch: (float((p**2).sum()/2), p))),
    (lambda: fitted(steep, lr=0.5), lambda: (fitted(steep, lr=0.005), fitted(steep, want=0.0, clip_norm=1.0))),
    (lambda: fitted(sometimes, [0.0, 1.0, 0.0, 0.0]),
     lambda: fitted(sometimes, [0.0, 1.0, 0.0, 0.0], skip_nonfinite=True))]


# proximal, problems

def point(w, *bounds):
    proximal.project(w, *bounds)
    return w


def shrunk(w, amount=0.5):
    proximal.soft_threshold(w, amount)
    return w


def parts():
    """A complex array, its two parts each for itself."""
    z = np.array([-1 + 2j, 3 - 4j])
    point(z.real, 0)
    shrunk(z.imag)
    assert z.tolist() == [1.5j, 3 - 3.5j]


FIXED = np.broadcast_to(1.0, 3)
NEAR = [*values(lambda amount: shrunk(np.ones(2), amount), amount=(-1, 0)),
        (lambda: point(np.ones(2), 2, 1), lambda: point(np.ones(2), 1, 2)),
        (lambda: point(np.ones(2, f32), -np.inf, -1e300),
         lambda: (point(np.ones(2, f32), -np.inf, np.inf), point(np.ones(2, f32), 0, np.inf))),
        *alike(lambda: [point(w, 2) for w in (np.ones(1), np.ones(2, BFLOAT16), FIXED.copy())],
               lambda: point([1.0], 2), lambda: point([[1], [1, 2]], 2), lambda: point(np.ones(2, int), 2),
               lambda: point(FIXED, 2)),
        *alike(parts, lambda: point(1j*np.ones(2), 0), lambda: shrunk(1j*np.ones(2))),
        *alike(lambda: (point(np.ones(2)), point(np.ones(2), 0)), lambda: point(np.ones(2), 0, None)),
        *alike(lambda: [point(np.ones(2), bound) for bound in (0, np.ones(2))],
               lambda: point(np.ones(2), "a"), lambda: point(np.ones(2), np.ones(3))),
        *values(problems.linear_regression, collinearity=(2, 0.99), l2=(-1, 1), samples=(0, 1)),
        (lambda: problems.rosenbrock(3).value(np.ones(2)),
         lambda: problems.rosenbrock(3).value(np.zeros_like(problems.rosenbrock(3).start))),
        (lambda: problems.logistic_regression(9, 5, l2=0),
         lambda: (problems.logistic_regression(9, 5, l2=1e-3), problems.logistic_regression(2000, 5, l2=0)))]


# curvature and gradients: value (w^4)/4 + w^2/2, whose Hessian at w is diagonal

def grad(w):
    return w**3 + w


def value(w):
    return float((w**4/4 + w**2/2).sum())


def hessian(w=None, gradient=grad, **how):
    assert np.isclose(curvature.largest_eigenvalue(gradient, np.arange(4.0) if w is None else w, **how), 28, rtol=1e-3)


def spectrum(gradient=lambda w: w*np.arange(1.0, 41), n=40, want=(1, 40), **how):
    assert np.allclose(curvature.extreme_eigenvalues(gradient, np.ones(n), **how), want, rtol=0.1)


def suggested(gradient, w, **how):
    assert curvature.suggest(gradient, w, **how).momentum["lr"] > 0


def jacobian(f=lambda w: w**2, w=None, want=None, **how):
    w = np.arange(1.0, 3.0) if w is None else w
    found = curvature.jacobian(f, w, **how)
    assert np.allclose(found[0] if how.get("with_error") else found, np.diag(2*w) if want is None else want, rtol=1e-3)


def checked(f=value, gradient=grad, w=None, **how):
    assert curvature.check_gradient(f, gradient, np.arange(3.0) if w is None else w, **how)


def root(w):
    with np.errstate(invalid="ignore"):
        return np.sqrt(w)


def shapes():
    sizes = iter([2, 3, 3, 3, 3])
    return lambda w: np.ones(next(sizes))


def of_torch(kind="float32"):
    torch = pytest.importorskip("torch")
    return torch.arange(4, dtype=getattr(torch, kind)).requires_grad_(kind.startswith("float") or kind == "bfloat16")


def flat(w):
    return w*np.array([1.0, 0.0])


def saddle(w):
    return w*np.array([1.0, -1.0])


LOOK = [
    (lambda: hessian([0, 1, 2, 3]),
     lambda: hessian([np.asarray(k, float) for k in range(4)], lambda w: [grad(x) for x in w])),
    (lambda: hessian(np.arange(4)), lambda: hessian(np.asarray(np.arange(4), np.float64))),
    (lambda: hessian(np.arange(4).astype(BFLOAT16)),
     lambda: hessian(np.asarray(np.arange(4).astype(BFLOAT16), np.float64))),
    (lambda: hessian(np.arange(4)[::3]*1j),
     lambda: hessian(np.ascontiguousarray(np.arange(4)[::3]*1j, np.complex128).view(np.float64))),
    (lambda: hessian(of_torch()), lambda: hessian(of_torch().double().numpy(force=True))),
    (lambda: hessian(of_torch("bfloat16")), lambda: hessian(of_torch("bfloat16").double().numpy(force=True))),
    *alike(hessian, lambda: hessian({"a": None, "b": np.arange(4.0)}), lambda: hessian(np.zeros(0)),
           lambda: hessian(np.array([np.nan, 3])), lambda: hessian(gradient=lambda w: None),
           lambda: hessian(gradient=lambda w: grad(w)[:2])),
    *values(hessian, tol=(2, 1e-6), max_products=(0, 100)),
    (lambda: hessian(gradient=lambda w: grad(w).astype(complex)),
     lambda: hessian(gradient=lambda w: grad(w).astype(complex).real)),
    (lambda: hessian(gradient=lambda w: grad(w).astype(object)),
     lambda: hessian(gradient=lambda w: np.asarray(grad(w).astype(object), np.float64))),
    (lambda: hessian(gradient=None), lambda: (hessian(), hessian(gradient=None, hvp=lambda w, v: (3*w**2 + 1)*v))),
    (lambda: spectrum(max_products=2), lambda: (spectrum(max_products=200), spectrum(tol=0.1),
                                                suggested(lambda w: w*np.arange(40), np.ones(40), weight_decay=1.0))),
    (lambda: suggested(saddle, np.ones(2)),
     lambda: (suggested(saddle, np.ones(2), weight_decay=2.0), suggested(grad, np.ones(2)),
              curvature.extreme_eigenvalues(saddle, np.ones(2)))),
    (lambda: suggested(flat, np.ones(2)), lambda: suggested(flat, np.ones(2), weight_decay=0.1)),
    (lambda: jacobian(method="4-point"),
     lambda: [jacobian(method=m) for m in ("2-point", "3-point", "cs", "adaptive")]),
    (lambda: jacobian(method="cs", with_error=True), lambda: jacobian(method="adaptive", with_error=True)),
    (lambda: jacobian(method="adaptive", rel_step=1e-3), lambda: jacobian(method="adaptive")),
    *alike(jacobian, lambda: jacobian(lambda w: None), lambda: jacobian(lambda w: {"a": w}),
           lambda: jacobian(shapes())),
    (lambda: jacobian(root, np.zeros(1), method="3-point"), lambda: jacobian(root, np.ones(1), 0.5, method="3-point")),
    (lambda: jacobian(root, np.full(1, 1e-3), method="3-point", rel_step=0.01),
     lambda: jacobian(root, np.full(1, 1e-3), 0.5/np.sqrt(1e-3), method="3-point", rel_step=1e-5)),
    *alike(lambda: checked(samples=1), lambda: checked(samples=0), lambda: checked(rtol=2),
           lambda: checked(f=lambda w: np.inf), lambda: checked(f=lambda w: w), lambda: checked(f=lambda w: None))]


# minimize

def found(fun=value, x0=(2.0, -1.0), jac=grad, sign=1, method=None, **how):
    done = minimize(fun, x0, jac=jac, method=method or scipy.method("nesterov", lr=0.05), **how)
    assert np.allclose(done.x, how["bounds"].lb if "bounds" in how else 0, atol=1e-3), done


def bump(x):
    """What has a highest value, at 0."""
    return -float((x**2).sum())


ABOVE = LinearConstraint([[1.0, 0.0]], -1)
MINIMIZE = [
    (lambda: found(method=scipy.method("sgd", maximize=True)), lambda: found(lambda x: -bump(x), jac=lambda x: 2*x)),
    (lambda: found(constraints=ABOVE),
     lambda: (found(constraints=ABOVE, method="SLSQP"),
              found(constraints=ABOVE, method="trust-constr", hess=lambda x: np.diag(3*x**2 + 1)))),
    *alike(found, lambda: found(jac=lambda x: None), lambda: found(jac=lambda x: np.ones(3)),
           lambda: found(lambda x: x), lambda: found(x0=np.ones(2, complex))),
    (lambda: found(jac=None, options={"finite_diff": "4-point"}),
     lambda: found(jac=None, options={"finite_diff": "3-point"})),
    *values(found, options=({"gtol": -1}, {"gtol": 1e-5})),
    (lambda: found(callback=5), lambda: (found(callback=None), found(callback=lambda x: None))),
    (lambda: found(bounds=[(0, 1)]*3), lambda: found(bounds=Bounds([1, 1], [2, 2]))),
    (lambda: found(bounds=Bounds([2, 1], [1, 2])), lambda: found(bounds=Bounds([1, 1], [2, np.inf])))]


# Estimators

X = np.random.default_rng(0).normal(size=(40, 3))
LINE = X @ [1.0, -2.0, 0.5] + 3


class Mine(fastopt.Adam):
    pass


def local():
    class Inside(fastopt.Adam):
        pass
    return Inside


def regression(y=LINE, x=X, **how):
    model = sklearn.LinearRegression(**{"max_iter": 300, "tol": None, "learning_rate": 0.05, **how})
    model.fit(x, y)
    assert model.score(x, y) > 0.9
    return model


def classes(y):
    sklearn.LogisticRegression(tol=None, max_iter=5).fit(X, y)


def kept(solver):
    model = regression(solver=solver)
    assert (pickle.loads(pickle.dumps(model)).predict(X) == model.predict(X)).all()


THREE = np.digitize(LINE, [2, 4])
COLUMNS = np.eye(3, dtype=int)[THREE]


def labels(classes=(0, 1), y=THREE % 2, columns=None, **how):
    model = sklearn.LogisticRegression(random_state=0, **how)
    model.partial_fit(X, y, classes)
    if columns is not None:
        sklearn.LogisticRegression().fit(X, columns)


def weighted(**how):
    sklearn.LogisticRegression(max_iter=5, tol=None, **how).fit(X, THREE % 2)


def again(**how):
    model = sklearn.MLPRegressor(4, warm_start=True, max_iter=5, tol=None).fit(X, LINE)
    model.set_params(**how).fit(X, LINE)


HUGE, TINY = X.astype(f32), (X/1000).astype(f32)
FITTED = [
    (lambda: kept(local()), lambda: kept(Mine)),
    (lambda: regression(early_stopping=True, validation_fraction=0.01),
     lambda: regression(early_stopping=True, validation_fraction=0.1)),
    (lambda: classes(np.zeros(40)), lambda: classes((LINE > 3).astype(int))),
    *values(regression, alpha=(-1, 0)),
    (lambda: regression(solver_options={"lr": 0.1}), lambda: regression(learning_rate=0.1)),
    (lambda: regression(solver_options=5), lambda: (regression(solver_options={}), regression(solver_options=None))),
    (lambda: regression(momentum=0.9, solver="adam"),
     lambda: (regression(solver="adam"), regression(solver="adam", solver_options={"b1": 0.8}))),
    (lambda: regression(solver_options={"maximize": True}), regression),
    (lambda: regression(LINE*1e36, HUGE), lambda: regression(LINE*1e36/1e37, HUGE)),
    (lambda: regression(LINE*1e-36, HUGE), lambda: regression(LINE*1e-36/1e-36, HUGE)),
    (lambda: regression(solver="sgd", learning_rate=1e9), lambda: regression(solver="sgd", learning_rate=1e-2)),
    (lambda: regression(LINE*1e31, TINY, learning_rate=1e9, max_iter=1, solver="adam"),
     lambda: regression(LINE*1e31, TINY/f32(1e-3), solver="adam")),
    *alike(lambda: regression(x=X*1e200/1e200, solver="sgd"), lambda: regression(x=X*1e200, solver="sgd"),
           lambda: regression(x=X*1e200, solver="sgd", learning_rate="auto")),
    *values(labels, early_stopping=(True, False), classes=(None, np.unique(THREE)), y=(THREE, THREE % 2),
            columns=(2*COLUMNS, COLUMNS), class_weight=("balanced", None)),
    *values(weighted, class_weight=({5: 1.0}, {1: 2.0})),
    *alike(lambda: (weighted(class_weight="balanced"), weighted(class_weight=None)),
           lambda: weighted(class_weight="even"), lambda: weighted(class_weight={0: 0.0, 1: 0.0})),
    (lambda: again(hidden_layer_sizes=5), lambda: (again(), again(warm_start=False, hidden_layer_sizes=5)))]
# weights that are all 0, which scikit-learn refuses itself; eigenvalues that Lanczos does not find, as `Hessian` says
ELSEWHERE = ("fit", "_eigsh")


def test_what_the_messages_say_to_do_works():
    check([*FIT, *NEAR, *LOOK, *MINIMIZE, *FITTED], "solvers", ELSEWHERE)
