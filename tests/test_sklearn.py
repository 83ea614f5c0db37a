"""The estimators against scikit-learn: its own checks of estimators, its solutions, its tools, and what its users expect in an error."""
import copy
import importlib
import inspect
import os
import pickle
import re
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
from conftest import assert_identical
from sklearn import linear_model, neural_network
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris, load_wine, make_friedman1
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler, scale
from sklearn.utils.estimator_checks import parametrize_with_checks
from threadpoolctl import threadpool_info, threadpool_limits

import fastopt
from fastopt import networks, proximal, schedules
from fastopt import sklearn as ours
from fastopt._training import early_stopping as validation
from fastopt.sklearn import _fit as estimators

LinearRegression, LogisticRegression, MLPClassifier, MLPRegressor = (getattr(ours, name) for name in ours.__all__)
ALL = [LinearRegression, LogisticRegression, MLPClassifier, MLPRegressor]
EXACT = {"batch_size": None, "tol": 1e-15, "n_iter_no_change": 50,
         "max_iter": 20_000}  # full batches, until the loss falls no more
SOLVERS = {  # settings that get to the minimum; Lion, whose steps do not shrink with the gradient, needs a rate that falls
    "sgd": {"learning_rate": 0.2}, "momentum": {"learning_rate": 0.1, "momentum": 0.8},
             "nesterov": {"learning_rate": 0.1},
    "adagrad": {"learning_rate": 0.2}, "adam": {}, "amsgrad": {}, "adamw": {"solver_options": {"weight_decay": 0.0}},
    "lion": {"learning_rate": schedules.exponential(0.01, 0.99)},
}
NEAR = 1e-6  # of the largest coefficient; 2e-7 was the most that was found


@fastopt.rule(state="v", lr=0.1, mu=0.9)
def heavy_ball(c, g, p, v):
    v = c.mu*v + g
    u = c.lr*v
    return u, v


@pytest.fixture(scope="module")
def diabetes():
    """442 rows of 7 features (without those that are nearly sums of others), and y of mean 152 and deviation 77."""
    x, y = load_diabetes(return_X_y=True)
    return scale(x[:, [0, 1, 2, 3, 6, 8, 9]]), y


@pytest.fixture(scope="module")
def weights():
    return np.random.default_rng(0).integers(0, 5, 442).astype(float)


@pytest.fixture(scope="module")
def digits():
    x, y = load_digits(return_X_y=True)
    x, test_x, y, test_y = train_test_split(x, y, test_size=0.25, random_state=0, stratify=y)
    scaler = StandardScaler().fit(x)
    return scaler.transform(x), y, scaler.transform(test_x), test_y


def classes(n, seed=0, rows=300):
    """Well conditioned features, and n classes that overlap."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 6))
    return x, (x @ rng.normal(size=(6, n)) + rng.gumbel(size=(rows, n))).argmax(axis=1)


def assert_near(model, coef, intercept):
    coef, intercept = np.asarray(coef), np.asarray(intercept)
    assert (model.coef_.shape, np.shape(model.intercept_)) == (coef.shape, intercept.shape)
    assert np.abs(model.coef_ - coef).max() < NEAR*np.abs(coef).max()
    assert np.abs(model.intercept_ - intercept).max() <= NEAR*max(np.abs(intercept).max(), np.abs(coef).max())


def learned(model):
    """All that was learned, as one array."""
    arrays = [model.coef_, model.intercept_] if hasattr(model, "coef_") else [*model.coefs_, *model.intercepts_]
    return np.concatenate([np.ravel(a) for a in arrays])


# scikit-learn's own checks: none is expected to fail

CHECKS = parametrize_with_checks([kind()
                                  for kind in ALL])  # of a generator in scikit-learn 1.7, of which pytest 9 warns


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning",
                            "ignore::sklearn.exceptions.SkipTestWarning")
@pytest.mark.parametrize(CHECKS.args[0], list(CHECKS.args[1]), **CHECKS.kwargs)
def test_check_estimator(estimator, check):
    check(estimator)


# Linear models: the solutions of scikit-learn

@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize(("penalty", "reference"), [
    ({}, linear_model.LinearRegression()),
    ({"alpha": 0.3}, linear_model.Ridge(alpha=0.3*442)),
    ({"l1": 5.0}, linear_model.Lasso(alpha=5.0, tol=1e-12)),
    ({"l1": 6.0, "alpha": 0.1, "fit_intercept": False}, linear_model.ElasticNet(alpha=6.1, l1_ratio=6/6.1, tol=1e-12,
                                                                                fit_intercept=False)),
], ids=["plain", "ridge", "lasso", "elastic"])
def test_least_squares(diabetes, solver, penalty, reference):
    model = LinearRegression(solver=solver, **EXACT, **SOLVERS[solver], **penalty).fit(*diabetes)
    reference.fit(*diabetes)
    assert_near(model, reference.coef_, reference.intercept_)
    assert ((model.coef_ == 0) == (reference.coef_ == 0)).all()
    assert (reference.coef_ == 0).any() == ("l1" in penalty)
    assert np.allclose(model.predict(diabetes[0]), reference.predict(diabetes[0]), rtol=0, atol=1e-3)


def test_least_squares_of_several_targets_with_weights(diabetes, weights):
    x, y = diabetes
    y = np.stack([y, 0.01*y**2, x[:, 0] - 3], axis=1)
    model = LinearRegression(alpha=0.1, solver="nesterov", learning_rate=0.1, **EXACT).fit(x, y, weights)
    reference = linear_model.Ridge(alpha=0.1*weights.sum()).fit(x, y, weights)
    assert_near(model, reference.coef_, reference.intercept_)
    assert model.predict(x).shape == y.shape
    column = LinearRegression(alpha=0.1, solver="nesterov", learning_rate=0.1, **EXACT).fit(x, y[:, :1], weights)
    assert (column.coef_.shape, column.predict(x).shape) == ((1, 7), (442, 1))


def test_soft_thresholding_suits_sgd_alone(diabetes):
    """Why l1 is no threshold: the velocity that it does not touch leaves a tenth of the penalty."""
    x, y = diabetes[0], scale(diabetes[1])
    w = np.zeros(7)
    opt = fastopt.Momentum(w, lr=0.05, momentum=0.9)
    for _ in range(2000):
        opt.step(x.T @ (x @ w - y)/len(y))
        proximal.soft_threshold(w, 0.05*0.5)
    assert np.abs(w - linear_model.Lasso(alpha=0.05, tol=1e-12).fit(x, y).coef_).max() < 1e-9
    model = LinearRegression(solver="momentum", learning_rate=0.05, l1=0.5, **EXACT).fit(x, y)
    assert np.abs(model.coef_ - linear_model.Lasso(alpha=0.5, tol=1e-12).fit(x, y).coef_).max() < NEAR


@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize("solver", ["nesterov", "adam", "adagrad"])
def test_logistic_regression(n, solver):
    x, y = classes(n)
    s, names = np.random.default_rng(1).uniform(0, 3, len(y)), np.array(["b", "a", "c"])[:n]
    rate = {"nesterov": 0.3, "adam": 0.02, "adagrad": 0.3}[solver]
    model = LogisticRegression(alpha=0.01, solver=solver, learning_rate=rate, **EXACT).fit(x, names[y], s)
    reference = linear_model.LogisticRegression(C=1/(0.01*s.sum()), tol=1e-10, max_iter=10_000).fit(x, names[y], s)
    if n > 2:  # one number may be added to all intercepts
        model.intercept_ = model.intercept_ - model.intercept_.mean()
    assert_near(model, reference.coef_, reference.intercept_)
    assert (model.classes_ == reference.classes_).all()
    assert (model.predict(x) == reference.predict(x)).all()
    for have, want in ((model.predict_proba, reference.predict_proba),
                       (model.decision_function, reference.decision_function),
                       (model.predict_log_proba, reference.predict_log_proba)):
        assert have(x).shape == want(x).shape
        assert np.abs(have(x) - want(x)).max() < 1e-5


@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize("solver", ["sgd", "adam"])
def test_sparse_logistic_regression_is_a_minimum(n, solver):
    """The slope of the loss is -l1*sign(w) where w is not 0, within l1 where it is, and 0 for intercepts."""
    x, y = classes(n)
    rate = {"sgd": 0.5, "adam": 0.02}[solver]
    l1 = {2: 0.15, 3: 0.05}[n]
    model = LogisticRegression(alpha=0, l1=l1, solver=solver, learning_rate=rate, **EXACT).fit(x, y)
    d = (model.predict_proba(x) - np.eye(n)[y])/len(y)
    d = d if n > 2 else d[:, 1:]
    slope, w = d.T @ x, model.coef_
    assert np.abs((slope + l1*np.sign(w))[w != 0]).max() < 1e-6
    assert np.abs(slope[w == 0]).max() < l1
    assert np.abs(d.sum(axis=0)).max() < 1e-6
    assert 0 < (w == 0).sum() < w.size


def test_certain_classes_have_exact_logarithms():
    x, y = classes(2)
    model = LogisticRegression(random_state=0).fit(x, y)
    model.coef_, model.intercept_ = np.array([[1000.0, 0, 0, 0, 0, 0]]), np.array([0.0])
    log = model.predict_log_proba(np.eye(6)[:2]*2)
    assert log.tolist() == [[-2000.0, 0.0], [-np.log(2), -np.log(2)]]
    assert model.predict(np.eye(6)[:2]).tolist() == [1,
                                                     0]  # the second is a tie: the class that argmax of the probabilities gives


def test_batches_with_weights_have_no_bias(diabetes):
    """Rows sorted by weight, in batches of 17: means by the weights of each batch alone would be 0.75 off instead of 0.007."""
    x, y = diabetes
    s = np.random.default_rng(0).pareto(1.0, len(y)) + 1e-3
    order = np.argsort(s*(1 + (y > 150)))
    x, y, s = x[order], scale(y[order]), s[order]
    model = LinearRegression(solver="sgd", learning_rate=schedules.exponential(0.05, 0.998), batch_size=17,
                             shuffle=False, max_iter=150,
                             tol=None, alpha=0.05).fit(x, y, s)
    want = linear_model.Ridge(alpha=0.05*s.sum()).fit(x, y, s).coef_
    assert np.abs(model.coef_ - want).max() < 0.02*np.abs(want).max()


@pytest.mark.parametrize(("kind", "options", "scaled"), [(LinearRegression, {"l1": 5.0}, {"l1": 5000.0}), (MLPRegressor,
                                                                                                           {}, {})])
def test_units_of_the_target_do_not_matter(diabetes, kind, options, scaled):
    x, y = diabetes
    one = kind(random_state=0, tol=None, max_iter=5, **options).fit(x, y)
    other = kind(random_state=0, tol=None, max_iter=5, **scaled).fit(x, 1000*y + 1e6)
    assert np.allclose(other.predict(x), 1000*one.predict(x) + 1e6, rtol=1e-10)
    assert np.allclose(one.loss_curve_, other.loss_curve_, rtol=1e-8)


@pytest.mark.parametrize("penalty", [{}, {"alpha": 0.3}, {"l1": 500.0}, {"l1": 400.0, "alpha": 0.1}], ids=str)
def test_targets_of_other_scales(diabetes, penalty):
    """A constant and three whose units differ by 1e9: at the minimum of the objective, in the units given, by its slope."""
    x, y = diabetes[0], scale(diabetes[1])
    many = np.stack([1e4*(x[:, 0] + y), 1e-5*y, np.full(442, 0.1), 5e3*y], axis=1)
    model = LinearRegression(**EXACT, **penalty).fit(x, many)
    l1, w, unit = penalty.get("l1", 0.0), model.coef_, np.array([[1e4], [1e-5], [0.1], [5e3]])
    slope = (model.predict(x) - many).T @ x/442 + penalty.get("alpha", 0.0)*w
    assert (np.abs(slope + l1*np.sign(w))/unit)[w != 0].max() < NEAR
    assert (np.abs(slope)/unit <= l1/unit + NEAR).all()
    assert (np.abs(model.intercept_ - many.mean(axis=0)) < NEAR*unit[:, 0]).all()
    assert (w[2] == 0).all()
    assert (w[1] == 0).all() == (l1 > 0)
    assert (w[3] == 0).any() == (l1 > 0)


def test_network_of_targets_of_other_scales(diabetes):
    x, y = diabetes
    pair = np.stack([1e4*y, x[:, 0]], axis=1)
    model = MLPRegressor(random_state=0, tol=None).fit(x, pair)
    twin = MLPRegressor(random_state=0, tol=None).fit(x, pair*[1e-4, 1e3])
    assert np.allclose(twin.predict(x), model.predict(x)*[1e-4, 1e3], rtol=1e-6)
    assert (r2_score(pair, model.predict(x), multioutput="raw_values") > 0.5).all()


@pytest.mark.parametrize("unit", [1e-280, 1e-170, 1e160, 1e280])
def test_units_beyond_the_square_of_a_float(diabetes, unit):
    x, y = diabetes
    one, other = (LinearRegression(max_iter=20, tol=None, random_state=0).fit(x, y*k) for k in (1.0, unit))
    assert np.allclose(other.coef_/unit, one.coef_, rtol=1e-10)
    assert other.intercept_/unit == pytest.approx(one.intercept_, rel=1e-10)


@pytest.mark.parametrize(("dtype", "unit"), [(np.float64, 1e-310), (np.float64, 1e304), (np.float32, 1e-40),
                                             (np.float32, 1e36)])
def test_units_that_weights_cannot_have(diabetes, dtype, unit):
    with pytest.raises(ValueError, match=rf"target 0 has the mean .* deviation .* in {np.dtype(dtype)}\. Divide y by"):
        LinearRegression().fit(diabetes[0].astype(dtype), diabetes[1]*unit)
    LinearRegression(max_iter=1, tol=None).fit(diabetes[0].astype(dtype),
                                               np.full(442, min(unit, 1.0)))  # a constant has no deviation


@pytest.mark.parametrize("kind", [LinearRegression, LogisticRegression])
@pytest.mark.parametrize("unit", [1e-300, 1e300])
def test_units_of_sample_weights_do_not_matter(diabetes, weights, kind, unit):
    x, y = diabetes[0], diabetes[1] if kind is LinearRegression else (diabetes[1] > 150).astype(int)
    one, other, early = (kind(max_iter=5, tol=None, random_state=0, early_stopping=e).fit(x, y, weights*k)
                         for k, e in ((1.0, False), (unit, False), (unit, True)))
    assert np.allclose(learned(other), learned(one), rtol=1e-12)
    assert np.isfinite(early.validation_scores_).all()


@pytest.mark.parametrize("s", [1e307, 1e-320])
def test_equal_weights_are_none(diabetes, s):
    models = [LinearRegression(max_iter=5, tol=None, random_state=0).fit(*diabetes, w) for w in (None, np.full(442, s))]
    assert np.allclose(learned(models[1]), learned(models[0]), rtol=1e-12)


def test_units_of_rows_that_weigh_nothing_do_not_matter(diabetes, weights):
    x, y = diabetes
    s = weights + (np.arange(442) > 0)
    s[0] = 0
    models = [LinearRegression(max_iter=3, tol=None, random_state=0).fit(x, np.where(s == 0, odd, y), s) for odd in (y,
                                                                                                                     1e300)]
    assert_identical(learned(models[1]), learned(models[0]))


@pytest.mark.parametrize(("n", "size", "sizes"),
                         [(201, "auto", {100, 101}), (200, "auto", {200}), (442, "auto", {147, 148}), (10, 3, {2, 3})])
@pytest.mark.parametrize("shuffle", [False, True])
def test_batches_are_even(diabetes, monkeypatch, n, size, sizes, shuffle):
    seen, real = [], networks.value_and_grad
    monkeypatch.setattr(networks, "value_and_grad", lambda params, x,
                        *more: (seen.append(x), real(params, x, *more))[1])
    x = diabetes[0][:n]
    LinearRegression(batch_size=size, shuffle=shuffle, max_iter=1, tol=None).fit(x, diabetes[1][:n])
    assert {len(rows) for rows in seen} == sizes
    assert (sorted(map(tuple, np.concatenate(seen))) == sorted(map(tuple,
                                                                   x))) if shuffle else (np.concatenate(seen) == x).all()


def test_one_row_more_than_a_batch():
    rng = np.random.default_rng(0)
    x = scale(rng.normal(size=(201, 10)))
    y = x @ rng.normal(size=10) + 0.1*rng.normal(size=201)
    for n in (200, 201):
        assert LinearRegression(solver="nesterov", learning_rate=0.1, random_state=0).fit(x[:n], y[:n]).score(x[:n],
                                                                                                              y[:n]) > 0.99


@pytest.mark.parametrize(("y", "s"), [([40, 0, 0], None), ([40, 0, 0, 0], [1, 1, 1, 5]), ([40, 0, 0], [1, 3, 2])])
def test_uneven_batches_have_no_bias(y, s):
    """Of two rows and of one (13.3 is the mean of all, 10 that of the batches), of the weights 2 and 6, 4 and 2."""
    rate = schedules.exponential(0.1, 0.995)
    model = LinearRegression(solver="sgd", learning_rate=rate, batch_size=2, shuffle=False, max_iter=600, tol=None)
    assert model.fit(np.zeros((len(y), 1)), np.array(y, float), s).intercept_ == pytest.approx(np.average(y, weights=s),
                                                                                               rel=0.02)


def test_two_steps_of_gradient_descent(diabetes):
    """By hand; the rate is so high that the second loss is above the first, but there is nothing to go back to."""
    x, y = diabetes[0], scale(diabetes[1])
    w = np.zeros(7)
    for _ in range(2):
        w = w - 1.2*(x.T @ (x @ w - y)/len(y) + 0.1*w)
    with pytest.warns(ConvergenceWarning, match="the loss rose"):
        model = LinearRegression(solver="sgd", learning_rate=1.2, alpha=0.1, batch_size=None, max_iter=2).fit(x, y)
    assert np.allclose(model.coef_, w, rtol=1e-12)


def test_weights_of_zero_are_rows_left_out(diabetes, weights):
    x, y = diabetes
    kept = weights > 0
    some, all_rows = LinearRegression(random_state=0, max_iter=3, tol=None), LinearRegression(random_state=0,
                                                                                              max_iter=3, tol=None)
    some.fit(x[kept], y[kept], weights[kept])
    assert np.allclose(learned(all_rows.fit(x, y, weights)), learned(some), rtol=1e-12)


def test_loss_curve(diabetes, weights):
    """The objective over the variance of y: at the minimum, and without a step, from batches of 148, 147 and 147 rows."""
    x, y = diabetes
    model = LinearRegression(alpha=0.1, l1=5.0, **EXACT).fit(x, y)
    penalties = 0.1/2*(model.coef_**2).sum() + 5.0*np.abs(model.coef_).sum()
    assert model.loss_ == pytest.approx((((y - model.predict(x))**2).mean()/2 + penalties)/y.var(), rel=1e-9)
    for s in (None, np.where(weights == 0, 1, weights)):
        still = LinearRegression(learning_rate=0.0, max_iter=2, tol=None, random_state=0).fit(x, y, s)
        assert still.loss_curve_ == pytest.approx([0.5, 0.5], rel=1e-12)


# Networks

@pytest.mark.parametrize(("solver", "rate"), [("adam", 0.001), ("nesterov", 0.02)])
def test_digits(digits, solver, rate):
    x, y, test_x, test_y = digits
    model = MLPClassifier(solver=solver, learning_rate=rate, random_state=0).fit(x, y)
    with threadpool_limits(1):
        reference = neural_network.MLPClassifier(random_state=0).fit(x, y)
    assert model.score(test_x, test_y) >= reference.score(test_x, test_y) - 0.005 > 0.97
    assert model.score(x, y) == 1
    assert [w.shape for w in model.coefs_] == [w.shape for w in reference.coefs_]
    assert [b.shape for b in model.intercepts_] == [b.shape for b in reference.intercepts_]


def test_network_of_numbers():
    """Friedman's first function, as it comes: a linear model explains 0.72 of it."""
    x, y = make_friedman1(600, noise=1, random_state=0)
    x, pair = scale(x), np.stack([y, -3*y], axis=1)
    with pytest.warns(ConvergenceWarning, match="200 epochs"):
        model = MLPRegressor(random_state=0).fit(x[:400], y[:400])
    with pytest.warns(ConvergenceWarning, match="200 epochs"):
        two = MLPRegressor(random_state=0).fit(x[:400], pair[:400])
    assert model.score(x[400:], y[400:]) > 0.87
    assert two.score(x[400:], pair[400:]) > 0.86
    assert (model.predict(x).shape, two.predict(x).shape) == ((600,), (600, 2))
    assert LinearRegression(random_state=0).fit(x[:400], y[:400]).score(x[400:], y[400:]) < 0.73


def test_network_without_hidden_layers_is_the_linear_model(diabetes):
    x, y = diabetes
    y = (y > 150).astype(int)
    network = MLPClassifier((), alpha=0.01, **EXACT, learning_rate=0.02, random_state=0).fit(x, y)
    model = LogisticRegression(alpha=0.01, **EXACT).fit(x, y)
    assert np.abs(network.coefs_[0].T - model.coef_).max() < NEAR
    assert np.abs(network.predict_proba(x) - model.predict_proba(x)).max() < NEAR


# Parameters

@pytest.mark.parametrize(("load", "kind", "reference"), [
    (load_diabetes, LinearRegression, linear_model.LinearRegression),
    *((load, LogisticRegression, linear_model.LogisticRegression) for load in (load_iris, load_wine,
                                                                               load_breast_cancer)),
])
def test_defaults_serve_standardised_data(load, kind, reference):
    x, y = load(return_X_y=True)
    have, want = (cross_val_score(make_pipeline(StandardScaler(), model), x, y, cv=3).mean()
                  for model in (kind(random_state=0), reference()))
    assert have > want - 0.01


def test_solver_by_name_class_and_rule(diabetes):
    models = [LinearRegression(solver=solver, learning_rate=0.02, random_state=0).fit(*diabetes)
              for solver in ("adam", "Adam", fastopt.Adam, fastopt.rules.adam)]
    for model in models[1:]:
        assert_identical(learned(model), learned(models[0]))
    own = LinearRegression(solver=heavy_ball, solver_options={"mu": 0.5},
                           **{**EXACT, "learning_rate": 0.05}).fit(*diabetes)
    assert_near(own, *(lambda m: (m.coef_, m.intercept_))(linear_model.LinearRegression().fit(*diabetes)))


def test_momentum_is_the_solvers(diabetes):
    options = {"solver": "momentum", "learning_rate": 0.01, "max_iter": 5, "tol": None, "random_state": 0}
    have = [learned(LinearRegression(**options, **how).fit(*diabetes))
            for how in ({"momentum": 0.5}, {"solver_options": {"momentum": 0.5}}, {"momentum": schedules.constant(0.5)},
                        {})]
    assert_identical(have[0], have[1])
    assert_identical(have[0], have[2])
    assert np.abs(have[3] - have[0]).max() > 1
    default = LinearRegression(**options, momentum=0.9).fit(*diabetes)
    assert_identical(learned(default), have[3])


@pytest.mark.parametrize(("batch_size", "rows", "steps"),
                         [("auto", 442, 3), ("auto", 150, 1), (None, 442, 1), (100, 442, 5), (1000, 442, 1)])
def test_steps_of_an_epoch(diabetes, batch_size, rows, steps):
    seen = []

    def rate(t):
        seen.append(t)
        return 0.01

    model = LinearRegression(learning_rate=rate, batch_size=batch_size, max_iter=4, tol=None).fit(diabetes[0][:rows],
                                                                                                  diabetes[1][:rows])
    assert max(seen) == 4*steps
    assert model.n_iter_ == len(model.loss_curve_) == 4


def test_learning_rate_none_is_the_rules(diabetes):
    models = [LinearRegression(solver="rmsprop", learning_rate=rate, max_iter=3, tol=None,
                               random_state=0).fit(*diabetes)
              for rate in (None, 0.01)]
    assert_identical(learned(models[0]), learned(models[1]))


def test_decay_is_for_weights_not_for_intercepts():
    """An Adam step of a slope that keeps its sign is lr, decay lr*1000*w: w is 1/1000. The intercept is what is left: the odds."""
    x, y = load_breast_cancer(return_X_y=True)
    x, rate = scale(x[:, :5]), schedules.exponential(1e-3, 0.999)
    model = LogisticRegression(solver="adamw", alpha=0, solver_options={"weight_decay": 1000.0}, learning_rate=rate,
                               batch_size=None,
                               max_iter=3000, tol=None).fit(x, y)
    assert np.abs(model.coef_) == pytest.approx(1e-3, rel=1e-2)
    assert model.intercept_[0] == pytest.approx(np.log(y.mean()/(1 - y.mean())), rel=0.05)


def test_plateau_schedule_observes_and_starts_anew(diabetes):
    schedule = schedules.ReduceOnPlateau(0.1, factor=0.5, patience=1)
    before = copy.deepcopy(schedule.state_dict())
    models = [LinearRegression(learning_rate=rate, random_state=0, max_iter=40, tol=None).fit(*diabetes)
              for rate in (schedule, schedule, 0.1)]
    assert schedule.state_dict() == before
    assert_identical(learned(models[0]), learned(models[1]))
    assert models[0].loss_ < models[2].loss_ - 1e-4


class Own:
    """A schedule of the user's, with a lock and a state that a callback may share."""

    def __init__(self):
        self.lock, self.asked = threading.Lock(), 0

    def __call__(self, t):
        self.asked += 1
        return 0.01


def test_own_schedules_are_no_copies(diabetes):
    rate, decay = Own(), Own()
    LinearRegression(solver="adamw", learning_rate=rate, solver_options={"weight_decay": decay}, max_iter=3,
                     tol=None).fit(*diabetes)
    assert min(rate.asked, decay.asked) >= 9


def test_anew_copies_plateaus_alone():
    plateau, own = schedules.ReduceOnPlateau(0.1), Own()
    nested = schedules.warmup(5, schedules.warmup(2, plateau))
    given = {"lr": nested, "momentum": plateau, "b1": own, "b2": schedules.warmup(3, own), "like": "torch"}
    made = validation.anew(given)
    assert list(made) == list(given)
    assert all(made[k] is given[k] for k in ("b1", "b2", "like"))
    assert made["momentum"] is not plateau
    assert made["momentum"].state_dict() == plateau.state_dict()
    assert made["lr"].arguments[1].arguments[1] is made["momentum"]  # shared, as before
    assert (nested.arguments[1].arguments[1], repr(made["lr"])) == (plateau, repr(nested))
    assert validation.anew(own) is own


@pytest.mark.parametrize("early", [False, True])
def test_stops_where_tol_says(diabetes, early):
    """The rule, applied to what the estimator says of its epochs."""
    model = LinearRegression(tol=1e-3, n_iter_no_change=4, early_stopping=early, random_state=0,
                             max_iter=1000).fit(*diabetes)
    curve = -np.array(model.validation_scores_) if early else np.array(model.loss_curve_)
    lowest = np.minimum.accumulate(np.concatenate([[np.inf], curve]))[:-1]
    better = curve < lowest - 1e-3
    assert len(curve) == model.n_iter_ < 1000
    assert not better[-4:].any()
    assert all(better[k:k + 4].any() for k in range(len(curve) - 4))
    assert (model.best_loss_, model.best_validation_score_) == ((None, -curve.min()) if early else (curve.min(), None))


@pytest.mark.parametrize("kind", ALL)
def test_early_stopping_keeps_the_best_epoch(diabetes, kind):
    x, y = diabetes
    y = y if kind in (LinearRegression, MLPRegressor) else (y > 150).astype(int)
    options = {"early_stopping": True, "validation_fraction": 0.3, "random_state": 3, "learning_rate": 0.02}
    model = kind(**options, n_iter_no_change=8, max_iter=1000).fit(x, y)
    best = int(np.argmax(model.validation_scores_)) + 1
    assert best < model.n_iter_ < 1000
    assert_identical(learned(kind(**options, tol=None, max_iter=best).fit(x, y)), learned(model))
    assert model.best_validation_score_ == max(model.validation_scores_)


def test_score_of_the_rows_held_out(diabetes, weights):
    """Of a model that learns nothing: the mean of all targets, or the first class."""
    x, y = diabetes
    still = {"early_stopping": True, "validation_fraction": 0.3, "learning_rate": 0.0, "max_iter": 1, "tol": None,
             "random_state": 0}
    s, labels = weights + 1, (y > 200).astype(int)
    _, held = train_test_split(np.arange(442), test_size=0.3, random_state=np.random.RandomState(0), stratify=labels)
    model = LogisticRegression(**still).fit(x, labels, s)
    assert model.validation_scores_ == pytest.approx([s[held][labels[held] == 0].sum()/s[held].sum()], rel=1e-12)
    _, held = train_test_split(np.arange(442), test_size=0.3, random_state=np.random.RandomState(0))
    model = LinearRegression(**still).fit(x, y, s)
    assert model.validation_scores_ == pytest.approx([r2_score(y[held], np.full(133, np.average(y, weights=s)),
                                                               sample_weight=s[held])],
                                                     rel=1e-9)


@pytest.mark.parametrize("n", [50, 200])
@pytest.mark.parametrize("kind", [LinearRegression, LogisticRegression])
def test_defaults_converge_where_a_batch_holds_all(kind, n):
    """Ten steps of patience missed half of such minima by more than 0.3 (logistic) and 0.7 (linear) standard errors."""
    for seed in range(4):
        rng = np.random.default_rng(seed)
        x = scale(rng.normal(size=(n, 5)) + rng.normal(size=(n, 1)))
        z = x @ rng.normal(size=5)
        y = z + 0.3*rng.normal(size=n) if kind is LinearRegression else (z + rng.logistic(size=n) > 0).astype(int)
        best = {"solver": "newton-cholesky", "C": 1/(1e-3*n), "tol": 1e-10} if kind is LogisticRegression else {}
        model, reference = kind().fit(x, y), getattr(linear_model, kind.__name__)(**best).fit(x, y)
        spread = np.ones(n)*((y - reference.predict(x)).var() if not best else 1)
        odds = reference.predict_proba(x).prod(axis=1) if best else 1/spread
        errors = np.sqrt(np.diag(np.linalg.inv((x.T*odds) @ x)))
        assert (np.abs(np.ravel(model.coef_ - reference.coef_))/errors).max() < 0.2


@pytest.mark.parametrize(("rows", "auto"), [(200, 150), (442, 50), (442*12, 10)])
def test_patience_auto_is_150_steps_or_10_epochs(diabetes, rows, auto):
    x, y = (np.resize(a, (rows, *a.shape[1:])) for a in diabetes)
    model = LinearRegression(learning_rate=0.0, random_state=0, tol=1e-3).fit(x, y)
    assert model.n_iter_ == 1 + auto


@pytest.mark.parametrize("s", [None, np.random.default_rng(1).uniform(0.1, 3, 30)], ids=["equal", "weights"])
def test_scores_are_those_of_scikit_learn(s):
    rng = np.random.default_rng(0)
    y = np.stack([rng.normal(size=30), 1e5 + rng.normal(size=30), np.full(30, 3.0), np.full(30, 7.0)], axis=1)
    z = y + np.outer(rng.normal(size=30), [1, 2, 0, 0.1])
    for columns in ([0], [1], [2], [3], [0, 1, 2, 3]):
        want = r2_score(y[:, columns], z[:, columns], sample_weight=s)
        assert estimators.r2(y[:, columns], z[:, columns], s) == pytest.approx(want, rel=1e-9)
    codes, found = rng.integers(0, 3, (2, 30))
    want = accuracy_score(codes, found, sample_weight=s)
    assert estimators.accuracy(codes, found, s) == pytest.approx(want, rel=1e-14)


def test_warns_where_the_last_loss_is_above_the_lowest():
    """Ten steps are within one swing of Adam: its loss is 0.19 of the variance then, and was 0.11."""
    rng = np.random.default_rng(3)
    x = scale(rng.normal(size=(200, 5)) + rng.normal(size=(200, 1)))
    y = x @ rng.normal(size=5) + 0.1*rng.normal(size=200)
    with pytest.warns(ConvergenceWarning, match="the loss was .* in the best epoch, and is .* in the last. Raise "
                                                "n_iter_no_change"):
        model = LinearRegression(n_iter_no_change=10, learning_rate=0.1).fit(x, y)
    assert model.loss_ > 1.1*model.best_loss_


def test_warns_where_there_is_no_convergence(diabetes):
    with pytest.warns(ConvergenceWarning, match="LinearRegression: the loss rose from .* in the first epoch to .*e.* "
                                                "Lower learning_rate"):
        LinearRegression(solver="sgd", learning_rate=100.0, max_iter=5).fit(*diabetes)
    with pytest.warns(ConvergenceWarning, match=r"MLPRegressor: 3 epochs ended before the loss .* tol=0.0001\. Raise "
                                                r"max_iter"):
        MLPRegressor(max_iter=3).fit(*diabetes)


# Numbers

@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize(("given", "kept"), [(np.float32, np.float32), (np.float64, np.float64), (np.int64,
                                                                                                  np.float64)])
def test_dtype(kind, given, kept):
    x, y = load_iris(return_X_y=True)
    model = kind(max_iter=2, tol=None).fit(x.astype(given), y)
    assert learned(model).dtype == kept
    assert getattr(model, "predict_proba", model.predict)(x.astype(given)).dtype == kept


def test_seed(diabetes):
    have = [learned(MLPRegressor(max_iter=2, tol=None, random_state=seed).fit(*diabetes)) for seed in (0, 0, 1,
                                                                                                       np.random.RandomState(0))]
    assert_identical(have[0], have[1])
    assert_identical(have[0], have[3])
    assert np.abs(have[0] - have[2]).max() > 1
    shuffled, ordered, again = (learned(LinearRegression(max_iter=2, tol=None, random_state=k,
                                                         shuffle=k > 1).fit(*diabetes))
                                for k in (2, 1, 0))
    assert_identical(ordered, again)
    assert (shuffled != ordered).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_any_number_of_threads_gives_the_same_bits(digits, dtype):
    """129,210 parameters: enough for the step to be shared; products of these sizes are rounded in another way by two BLAS threads."""
    have, x = [], digits[0].astype(dtype)
    for blas, threads in ((1, 1), (2, 2)):
        with threadpool_limits(blas):
            before = threadpool_info()
            have.append(learned(MLPClassifier((600, 150), max_iter=2, tol=None, random_state=0,
                                              solver_options={"threads": threads})
                                .fit(x, digits[1])))
            assert threadpool_info() == before
    assert_identical(have[0], have[1])


def test_blas_threads_come_back_after_the_last_fit():
    def threads():
        return {info["num_threads"] for info in threadpool_info() if info["user_api"] == "blas"}

    with threadpool_limits(2, user_api="blas"):
        before, seen = threads(), []
        with estimators.ONE_THREAD:
            with estimators.ONE_THREAD:  # a fit in another thread, meanwhile
                seen.append(threads())
            seen.append(threads())
        assert (seen, threads()) == ([{1}, {1}], before)


FORK = """
import os
from threadpoolctl import threadpool_info, threadpool_limits
from fastopt.sklearn import _fit as estimators

def threads():
    return {info["num_threads"] for info in threadpool_info() if info["user_api"] == "blas"}

with threadpool_limits(2, user_api="blas"):
    with estimators.ONE_THREAD:
        if not (pid := os.fork()):
            seen = [estimators.ONE_THREAD.fits, threads()]
            with estimators.ONE_THREAD:
                seen.append(threads())
            print(*seen, estimators.ONE_THREAD.fits, threads(), flush=True)
            os._exit(0)
        os.waitpid(pid, 0)
        print(estimators.ONE_THREAD.fits, threads())
    print(threads())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_fork_during_a_fit_leaves_the_child_its_threads():
    """In a process of its own: JAX, which another test loads, warns of every fork."""
    ran = subprocess.run([sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORK], capture_output=True,
                         text=True, check=True)
    assert ran.stdout.splitlines() == ["0 {2} {1} 0 {2}", "1 {1}", "{2}"]


# scikit-learn's tools

def test_grid_search_in_a_pipeline(diabetes):
    model = make_pipeline(StandardScaler(), LinearRegression(random_state=0, max_iter=100, tol=1e-4,
                                                             n_iter_no_change=10))
    grid = {"linearregression__solver": ["adam", "nesterov"],
            "linearregression__learning_rate": [1e-5, schedules.cosine(0.05, 300)]}
    search = GridSearchCV(model, grid, cv=3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # at 1e-5
        search.fit(*diabetes)
    assert search.best_params_["linearregression__learning_rate"] == schedules.cosine(0.05, 300)
    assert search.best_score_ > 0.4
    assert cross_val_score(search.best_estimator_, *diabetes, cv=3).min() > 0.4


OWN_RULES = """
import fastopt
@fastopt.rule(state="v", lr=0.1, mu=0.9)
def own_rule(c, g, p, v):
    v = c.mu*v + g
    return c.lr*v, v
OwnRule = fastopt.optimizer(own_rule)
"""


def test_own_rules_in_processes(tmp_path, monkeypatch, diabetes):
    """They go there by their names, and pickle with fitted models."""
    from joblib.externals.loky import get_reusable_executor
    (tmp_path/"rules_for_processes.py").write_text(OWN_RULES)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(Path(fastopt.__file__).parents[1])]))
    import rules_for_processes as own
    x, y = diabetes
    get_reusable_executor().shutdown()  # those of other tests have not heard of the folder
    for solver in (own.own_rule, own.OwnRule):
        model = LinearRegression(solver=solver, max_iter=3, tol=None, random_state=0)
        search = GridSearchCV(model, {"learning_rate": [0.1, 0.2]}, n_jobs=2, cv=2, error_score="raise").fit(x, y)
        assert search.best_params_ == GridSearchCV(model, {"learning_rate": [0.1, 0.2]}, cv=2).fit(x, y).best_params_
        twin = pickle.loads(pickle.dumps(model.fit(x, y)))
        assert twin.solver is solver
        assert (twin.predict(x) == model.predict(x)).all()
    get_reusable_executor().shutdown()


def test_a_rule_that_cannot_be_imported_is_named(diabetes):
    x, y = diabetes

    @fastopt.rule(lr=0.1)
    def hidden(c, g, p):
        return (c.lr*g,)

    for solver in (hidden, fastopt.optimizer(hidden)):
        model = LinearRegression(solver=solver, max_iter=2, tol=None, random_state=0).fit(x, y)
        name = solver.__name__
        message = (f"LinearRegression: the solver {name} is not found as {__name__}.{solver.__qualname__}, but pickle "
                   f"and other processes "
                   "import it")
        with pytest.raises(TypeError) as error:
            pickle.dumps(model)
        assert str(error.value) == f"{message} by that name. Define it at the top level of a module, as {name}."
        for twin in (copy.copy(model), copy.deepcopy(model), clone(model).fit(x, y)):
            assert twin.solver is solver
            np.testing.assert_allclose(twin.predict(x), model.predict(x))


@pytest.mark.parametrize("solver", ["nesterov", fastopt.Nesterov], ids=["name", "class"])
@pytest.mark.parametrize("kind", ALL)
def test_clone_and_pickle(diabetes, kind, solver):
    x, y = diabetes[0], (diabetes[1] > 150).astype(int)
    options = {"solver": solver, "learning_rate": schedules.cosine(0.02, 6), "solver_options": {"dampening": 0.1},
               "random_state": 0,
               "max_iter": 2, "tol": None, "early_stopping": True}
    model = kind(**options).fit(x, y)
    for twin in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model), clone(model).fit(x, y)):
        assert_identical(learned(twin), learned(model))
        assert (twin.predict(x) == model.predict(x)).all()
        assert {k: v for k, v in twin.get_params().items() if k in options} == options
    plain = (np.ndarray, np.generic, list, int, float, bool, type(None))
    assert all(isinstance(v, plain) for k, v in vars(model).items() if k not in model.get_params())


def test_interrupted(diabetes, monkeypatch):
    calls, real = [], networks.value_and_grad

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == 8:  # in the third epoch of three batches
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(networks, "value_and_grad", interrupted)
    with pytest.warns(UserWarning, match="interrupted after 2 epochs"):
        model = LinearRegression(random_state=0).fit(*diabetes)
    assert model.n_iter_ == len(model.loss_curve_) == 2
    assert np.isfinite(model.predict(diabetes[0])).all()


def test_parameters_are_documented():
    told = inspect.getdoc(LinearRegression) + inspect.getdoc(MLPRegressor)
    for kind in ALL:
        for name in kind().get_params():
            assert re.search(rf"^(\w+, )*{name}(, \w+)* : ", told, re.MULTILINE), name


# Errors

@pytest.mark.parametrize(("kind", "options", "message"), [
    (LinearRegression, {"solver": "lbfgs"}, "LinearRegression: solver is 'lbfgs', but one of sgd, .*lion, an optimizer "
                                            "class or a rule"),
    (LinearRegression, {"solver": fastopt.Optimizer}, "LinearRegression: solver is <class"),
    (LinearRegression, {"solver": np.mean}, "LinearRegression: solver is <"),
    (LinearRegression, {"momentum": 0.5}, "momentum is 0.5, but Adam has none. Leave it None; solver_options may hold "
                                          "b1, b2"),
    (LinearRegression, {"solver": "momentum", "momentum": 0.5, "solver_options": {"momentum": 0.5}},
     "solver_options has momentum"),
    (LinearRegression, {"solver_options": {"lr": 0.5}}, "solver_options has lr, but learning_rate and momentum are "
                                                        "parameters"),
    (LinearRegression, {"solver_options": {"maximize": True}}, "maximize is True in solver_options"),
    (LinearRegression, {"solver_options": "threads"}, "solver_options is 'threads', but a dict or None is needed"),
    (LinearRegression, {"learning_rate": -1.0}, "lr is -1.0"),
    (LinearRegression, {"alpha": -1.0}, "LinearRegression: alpha is -1.0, but a finite number, 0 or more, is needed. "
                                        "Change alpha"),
    (LinearRegression, {"alpha": np.inf}, "alpha is inf"), (LinearRegression, {"l1": "1"}, "l1 is '1'"),
    (LinearRegression, {"fit_intercept": 1}, "fit_intercept is 1, but True or False is needed"),
    (LinearRegression, {"batch_size": 0}, 'batch_size is 0, but "auto", None or a whole number'),
    (LinearRegression, {"batch_size": "all"}, "batch_size is 'all'"),
                                                          (LinearRegression, {"max_iter": 0}, "max_iter is 0"),
    (LinearRegression, {"max_iter": 10.0}, "max_iter is 10.0"), (LinearRegression, {"tol": -1e-4}, "tol is -0.0001"),
    (LinearRegression, {"n_iter_no_change": True}, "n_iter_no_change is True"),
                                                          (LinearRegression, {"shuffle": None}, "shuffle is None"),
    (LinearRegression, {"early_stopping": "yes"}, "early_stopping is 'yes'"),
    (LinearRegression, {"validation_fraction": 1.0}, "validation_fraction is 1.0, but a number above 0 and below 1"),
    (LinearRegression, {"early_stopping": True, "validation_fraction": 0.001}, "1 row to validate with, but 2 are "
                                                                               "needed"),
    (MLPRegressor, {"hidden_layer_sizes": (10, 0)}, r"hidden_layer_sizes is \(10, 0\), but a whole number, or a list "
                                                    r"of them"),
    (MLPRegressor, {"hidden_layer_sizes": "10"}, "hidden_layer_sizes is '10'"),
    (MLPRegressor, {"activation": "swish"}, "activation is 'swish', but one of identity, logistic, tanh, relu is "
                                            "needed"),
    (MLPRegressor, {"initializer": "zeros"}, "initializer is 'zeros', but a function or one of glorot_uniform, "
                                             ".*lecun_normal is needed"),
    (LinearRegression, {"solver": "sgd", "learning_rate": 1e50}, r"the loss is not finite in epoch \d. Lower "
                                                                 r"learning_rate, or stand"),
    (LinearRegression, {"solver": "sgd", "learning_rate": 1e308, "batch_size": None, "max_iter": 1},
     "the weights are not finite after epoch 1. Lower learning_rate"),
])
def test_parameter_errors(diabetes, kind, options, message):
    with pytest.raises((TypeError, ValueError), match=message):
        kind(**options).fit(*diabetes)


@pytest.mark.parametrize("kind", ALL)
def test_data_errors(diabetes, kind):
    x, y = diabetes[0], (diabetes[1] > 150).astype(int)
    with pytest.raises(ValueError, match=r"all sample weights are 0|at least one non-zero"):
        kind().fit(x, y, np.zeros(len(y)))
    with pytest.raises(ValueError, match="Negative values"):
        kind().fit(x, y, -np.ones(len(y)))
    with pytest.raises(ValueError, match="expecting 7 features"):
        kind(max_iter=1, tol=None).fit(x, y).predict(x[:, :6])
    if kind in (LogisticRegression, MLPClassifier):
        with pytest.raises(ValueError, match=r"only one class, .*0.*, but samples of two are needed"):
            kind().fit(x, 0*y)
        with pytest.raises(ValueError, match="1d array"):
            kind().fit(x, np.stack([y, 1 - y], axis=1))


def test_missing_scikit_learn_names_the_extra(monkeypatch):
    monkeypatch.delitem(sys.modules, "fastopt.sklearn")
    for name in ("sklearn", "sklearn.base"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r'fastopt.sklearn: .*sklearn.* Install it with: pip install '
                                          r'"fastopt\[sklearn\]"'):
        importlib.import_module("fastopt.sklearn")


@pytest.mark.parametrize("kind", ["regressor", "classifier"])
def test_a_late_divergence_keeps_the_best_weights(kind):
    """With early stopping, as in scikit-learn; without it, or before the first score, it is an error."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((120, 4))
    y = X @ [1.0, -2.0, 0.5, 3.0]
    y = y if kind == "regressor" else (y > 0).astype(int)
    make = fastopt.sklearn.MLPRegressor if kind == "regressor" else fastopt.sklearn.MLPClassifier

    def fitted(last, epochs, **more):
        model = make((8,), solver="sgd", learning_rate=lambda t: 0.05 if t <= last else 1e300, random_state=0, tol=None,
                     max_iter=epochs,
                     early_stopping=True, batch_size=None, **more)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            model.fit(X, y)
        return model, [str(w.message) for w in said]

    whole, said = fitted(12, 12)
    assert not said
    late, said = fitted(12, 40)
    assert said == [f"{make.__name__}: the loss is not finite in epoch {late.n_iter_ + 1}. The weights are those of "
                    f"the best epoch before. "
                    "Lower learning_rate, or standardise the features."]
    assert late.best_validation_score_ == whole.best_validation_score_ > 0.2
    for have, want in zip(late.coefs_ + late.intercepts_, whole.coefs_ + whole.intercepts_, strict=True):
        assert np.array_equal(have, want)
    with pytest.raises(ValueError, match=r"the (loss is not finite in epoch 2|weights are not finite)"):
        fitted(0, 40)
