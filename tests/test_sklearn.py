"""The estimators against scikit-learn: its own checks, its solutions, its tools, and what errors say."""
import copy
import importlib
import inspect
import os
import pickle
import re
import sys
import threading
import warnings

import numpy as np
import pytest
from conftest import assert_identical
from fitted import (
    ALL,
    EXACT,
    NEAR,
    LinearRegression,
    LogisticRegression,
    MLPClassifier,
    MLPRegressor,
    assert_near,
    classes,
    few,
    learned,
)
from internals import OWN_RULE
from scipy import sparse
from sklearn import linear_model
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris, load_wine
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler, scale
from sklearn.utils.estimator_checks import parametrize_with_checks
from threadpoolctl import threadpool_info, threadpool_limits

import fastopt
from fastopt import networks, schedules
from fastopt._training.early_stopping import anew
from fastopt.sklearn import _fit, _targets


@pytest.fixture(scope="module")
def diabetes():
    """442 rows of 7 features (without those that are nearly sums of others), and y of mean 152 and deviation 77."""
    x, y = load_diabetes(return_X_y=True)
    return scale(x[:, [0, 1, 2, 3, 6, 8, 9]]), y


@pytest.fixture(scope="module")
def weights():
    return np.random.default_rng(0).integers(0, 5, 442).astype(float)


# scikit-learn's own checks: none is expected to fail

def pytest_generate_tests(metafunc):
    """Two estimators have all the code of the four; `list`, as pytest 9 warns of a generator."""
    if metafunc.function is test_check_estimator:
        quick = [LinearRegression(), MLPClassifier(max_iter=40, learning_rate=0.01)]
        checks = parametrize_with_checks([kind() for kind in ALL] if metafunc.config.getoption("--full") else quick)
        metafunc.parametrize(checks.args[0], list(checks.args[1]), **checks.kwargs)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning",
                            "ignore::sklearn.exceptions.SkipTestWarning")
def test_check_estimator(estimator, check):
    check(estimator)


# Linear models: the solutions of scikit-learn

@pytest.mark.parametrize(("solver", "options", "penalty", "reference"), [
    ("sgd", {"learning_rate": 0.2}, {}, linear_model.LinearRegression()),
    ("nesterov", {"learning_rate": 0.1}, {"alpha": 0.3}, linear_model.Ridge(alpha=0.3*442)),
    ("momentum", {"learning_rate": 0.1, "momentum": 0.8}, {"l1": 5.0}, linear_model.Lasso(alpha=5.0, tol=1e-12)),
    ("lion", {"learning_rate": schedules.exponential(0.01, 0.99)}, {"l1": 5.0},  # its steps shrink with it alone
     linear_model.Lasso(alpha=5.0, tol=1e-12)),
    ("adamw", {"solver_options": {"weight_decay": 0.0}}, {"l1": 6.0, "alpha": 0.1, "fit_intercept": False},
     linear_model.ElasticNet(alpha=6.1, l1_ratio=6/6.1, tol=1e-12, fit_intercept=False))])
def test_least_squares(diabetes, solver, options, penalty, reference):
    model = LinearRegression(solver=solver, **EXACT, **options, **penalty).fit(*diabetes)
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
    column = few(x, y[:, :1])
    assert (column.coef_.shape, column.predict(x).shape) == ((1, 7), (442, 1))


@pytest.mark.parametrize(("n", "solver", "rate"), [(2, "nesterov", 0.3), (3, "adam", 0.02)])
def test_logistic_regression(n, solver, rate):
    x, y = classes(n)
    s, names = np.random.default_rng(1).uniform(0, 3, len(y)), np.array(["b", "a", "c"])[:n]
    model = LogisticRegression(alpha=0.01, solver=solver, learning_rate=rate, **EXACT).fit(x, names[y], s)
    reference = linear_model.LogisticRegression(C=1/(0.01*s.sum()), tol=1e-10, max_iter=10_000).fit(x, names[y], s)
    assert_near(model, reference.coef_, reference.intercept_)
    assert (model.classes_ == reference.classes_).all()
    assert (model.predict(x) == reference.predict(x)).all()
    for name in ("predict_proba", "decision_function", "predict_log_proba"):
        have, want = getattr(model, name)(x), getattr(reference, name)(x)
        assert have.shape == want.shape
        assert np.abs(have - want).max() < 1e-5


@pytest.mark.parametrize(("n", "solver", "rate", "l1"), [(2, "sgd", 0.5, 0.15), (3, "adam", 0.02, 0.05)])
def test_sparse_logistic_regression_is_a_minimum(n, solver, rate, l1):
    """The slope of the loss is -l1*sign(w) where w is not 0, within l1 where it is, and 0 for intercepts."""
    x, y = classes(n)
    model = LogisticRegression(alpha=0, l1=l1, solver=solver, learning_rate=rate, **EXACT).fit(x, y)
    d = ((model.predict_proba(x) - np.eye(n)[y])/len(y))[:, n == 2:]
    slope, w = d.T @ x, model.coef_
    assert np.abs((slope + l1*np.sign(w))[w != 0]).max() < 1e-6
    assert np.abs(slope[w == 0]).max() < l1
    assert np.abs(d.sum(axis=0)).max() < 1e-6
    assert 0 < (w == 0).sum() < w.size


def test_certain_classes_have_exact_logarithms():
    model = few(*classes(2), kind=LogisticRegression)
    model.coef_, model.intercept_ = np.array([[1000.0, 0, 0, 0, 0, 0]]), np.array([0.0])
    log = model.predict_log_proba(np.eye(6)[:2]*2)
    assert log.tolist() == [[-2000.0, 0.0], [-np.log(2), -np.log(2)]]
    assert model.predict(np.eye(6)[:2]).tolist() == [1, 0]  # the second is a tie: as argmax of the probabilities


# Units and weights

def test_units_of_the_target_do_not_matter(diabetes):
    x, y = diabetes
    for kind, l1 in ((LinearRegression, 5.0), (MLPRegressor, None)):
        one, other = (few(x, y*unit + far, kind=kind, max_iter=5, **({} if l1 is None else {"l1": l1*unit}))
                      for unit, far in ((1, 0), (1000, 1e6)))
        assert np.allclose(other.predict(x), 1000*one.predict(x) + 1e6, rtol=1e-10)
        assert np.allclose(one.loss_curve_, other.loss_curve_, rtol=1e-8)
    pair = np.stack([1e4*y, x[:, 0]], axis=1)
    model, twin = (few(x, pair*unit, kind=MLPRegressor, max_iter=60) for unit in (1, [1e-4, 1e3]))
    assert np.allclose(twin.predict(x), model.predict(x)*[1e-4, 1e3], rtol=1e-6)
    assert (r2_score(pair, model.predict(x), multioutput="raw_values") > 0.5).all()
    for unit in (1e-280, 1e-170, 1e160, 1e280):  # beyond the square of a float
        one, other = few(x, y), few(x, y*unit)
        assert np.allclose(other.coef_/unit, one.coef_, rtol=1e-10)
        assert other.intercept_/unit == pytest.approx(one.intercept_, rel=1e-10)


@pytest.mark.parametrize("penalty", [{}, {"l1": 400.0, "alpha": 0.1}], ids=str)
def test_targets_of_other_scales(diabetes, penalty):
    """A constant and three whose units differ by 1e9: at the minimum, by the objective's slope in the units given."""
    x, y = diabetes[0], scale(diabetes[1])
    many = np.stack([1e4*(x[:, 0] + y), 1e-5*y, np.full(442, 0.1), 5e3*y], axis=1)
    model = LinearRegression(**EXACT, **penalty).fit(x, many)
    l1, w, unit = penalty.get("l1", 0.0), model.coef_, np.array([[1e4], [1e-5], [0.1], [5e3]])
    slope = (model.predict(x) - many).T @ x/442 + penalty.get("alpha", 0.0)*w
    assert (np.abs(slope + l1*np.sign(w))/unit)[w != 0].max() < NEAR
    assert (np.abs(slope)/unit <= l1/unit + NEAR).all()
    assert (np.abs(model.intercept_ - many.mean(axis=0)) < NEAR*unit[:, 0]).all()
    assert (w[2] == 0).all()
    assert (w[1] == 0).all() == (w[3] == 0).any() == (l1 > 0)


def test_units_that_weights_cannot_have(diabetes):
    for dtype, unit in ((np.float64, 1e-310), (np.float64, 1e304), (np.float32, 1e-40), (np.float32, 1e36)):
        x = diabetes[0].astype(dtype)
        with pytest.raises(ValueError, match=rf"target 0 has the mean .* deviation .* in {np.dtype(dtype)}\. Divide y"):
            LinearRegression().fit(x, diabetes[1]*unit)
        few(x, np.full(442, min(unit, 1.0)))  # a constant has no deviation


@pytest.mark.parametrize("kind", [LinearRegression, LogisticRegression])
def test_weights(diabetes, weights, kind):
    """Rows of weight 0 are left out, whatever their target; units of weights do not matter; equal weights are none."""
    x, y = diabetes[0], diabetes[1] if kind is LinearRegression else (diabetes[1] > 150).astype(int)
    want, kept = learned(few(x, y, weights, kind)), weights > 0
    near = {"rtol": 1e-12, "atol": 0}
    assert np.allclose(learned(few(x[kept], y[kept], weights[kept], kind)), want, **near)
    for unit in (1e-300, 1e300):
        assert np.allclose(learned(few(x, y, weights*unit, kind)), want, **near)
        assert np.isfinite(few(x, y, weights*unit, kind, early_stopping=True).validation_scores_).all()
    for s in (1e307, 1e-320):
        assert np.allclose(learned(few(x, y, np.full(442, s), kind)), learned(few(x, y, kind=kind)), **near)
    if kind is LinearRegression:
        assert_identical(learned(few(x, np.where(kept, y, 1e300), weights)), want)


# Batches

@pytest.mark.parametrize(("y", "s"), [([40, 0, 0], None), ([40, 0, 0, 0], [1, 1, 1, 5]), ([40, 0, 0], [1, 3, 2])])
def test_uneven_batches_have_no_bias(y, s):
    """Of two rows and of one (13.3 is the mean of all, 10 that of the batches), of the weights 2 and 6, 4 and 2."""
    model = few(np.zeros((len(y), 1)), np.array(y, float), s, solver="sgd", batch_size=2, shuffle=False, max_iter=600,
                learning_rate=schedules.exponential(0.1, 0.995))
    assert model.intercept_ == pytest.approx(np.average(y, weights=s), rel=0.02)


@pytest.mark.parametrize(("n", "size", "sizes"),
                         [(201, "auto", [100, 101]), (200, "auto", [200]), (442, "auto", [147, 147, 148]),
                          (10, 3, [2, 2, 3, 3]), (442, None, [442]), (100, 1000, [100])])
def test_batches_are_even(diabetes, monkeypatch, n, size, sizes):
    seen, asked, real, x = [], [], networks.value_and_grad, diabetes[0][:n]
    monkeypatch.setattr(networks, "value_and_grad", lambda p, x, *more: (seen.append(x), real(p, x, *more))[1])
    for shuffle in (False, True):
        seen.clear()
        few(x, diabetes[1][:n], batch_size=size, shuffle=shuffle, max_iter=1,
            learning_rate=lambda t: asked.append(t) or 0)
        assert sorted(len(rows) for rows in seen) == sizes
        assert max(asked) == len(sizes)  # steps
        rows = np.concatenate(seen)
        assert (sorted(map(tuple, rows)) == sorted(map(tuple, x))) if shuffle else (rows == x).all()


def test_loss_curve(diabetes, weights):
    """The objective over the variance of y: at the minimum, and without a step, from batches of 148, 147, 147 rows."""
    x, y = diabetes
    model = LinearRegression(alpha=0.1, l1=5.0, **EXACT).fit(x, y)
    penalties = 0.1/2*(model.coef_**2).sum() + 5.0*np.abs(model.coef_).sum()
    assert model.loss_ == pytest.approx((((y - model.predict(x))**2).mean()/2 + penalties)/y.var(), rel=1e-9)
    for s in (None, np.where(weights == 0, 1, weights)):
        assert few(x, y, s, learning_rate=0.0, max_iter=2).loss_curve_ == pytest.approx([0.5, 0.5], rel=1e-12)


# Networks

def test_digits():
    x, y = load_digits(return_X_y=True)
    x, test_x, y, test_y = train_test_split(x, y, test_size=0.25, random_state=0, stratify=y)
    scaler = StandardScaler().fit(x)
    model = few(scaler.transform(x), y, kind=MLPClassifier, solver="nesterov", learning_rate=0.02, max_iter=20)
    assert model.score(scaler.transform(test_x), test_y) > 0.96  # 0.98 after 143 epochs, as scikit-learn's
    assert [a.shape for a in (*model.coefs_, *model.intercepts_)] == [(64, 100), (100, 10), (100,), (10,)]


def test_network_without_hidden_layers_is_the_linear_model(diabetes):
    x, y = diabetes[0], (diabetes[1] > 150).astype(int)
    network = MLPClassifier((), alpha=0.01, **EXACT, learning_rate=0.02, random_state=0).fit(x, y)
    model = LogisticRegression(alpha=0.01, **EXACT).fit(x, y)
    assert np.abs(network.coefs_[0].T - model.coef_).max() < NEAR
    assert np.abs(network.predict_proba(x) - model.predict_proba(x)).max() < NEAR


# Parameters

DATA = {"iris": load_iris, "wine": load_wine, "breast_cancer": load_breast_cancer}


@pytest.mark.parametrize(("name", "C"), [("iris", 1), ("iris", 150), ("wine", 1), ("wine", 178), ("breast_cancer", 1)])
def test_defaults_are_as_exact_as_scikit_learns(name, C):
    """Both against Newton's solution. In the worst case, wine at 178, ours is off by 0.03 of the largest, theirs 0.15.

    The rows of coef_ sum to 0 as in scikit-learn's test_multinomial_identifiability_on_iris.
    """
    x, y = DATA[name](return_X_y=True)
    x = scale(x)
    best = linear_model.LogisticRegression(C=C, solver="newton-cholesky", tol=1e-12).fit(x, y)
    theirs, model = linear_model.LogisticRegression(C=C).fit(x, y), LogisticRegression(alpha=1/(C*len(y))).fit(x, y)
    ours, other = (np.abs(m.coef_ - best.coef_).max()/np.abs(best.coef_).max() for m in (model, theirs))
    assert ours < other/3
    d = model.predict_proba(x) - np.eye(len(model.classes_))[y]
    slope = d.T @ x/len(y) if len(d[0]) > 2 else d[:, 1] @ x/len(y)
    assert np.abs(slope + model.alpha*model.coef_).max() < 1e-5  # scikit-learn's tol is 1e-4
    if len(model.classes_) > 2:
        assert np.abs(model.coef_.sum(axis=0)).max() < 1e-10
        assert abs(model.intercept_.sum()) < 1e-11


def test_defaults_find_what_glmnet_finds():
    """R's glmnet at thresh=1e-12, alpha=0, lambda=1: the figures of scikit-learn's test_logistic_glmnet."""
    x = np.array([[-4, -3, -2, -1, 0, 1, 2, 3, 4], [0, 0, 1, 0, 1, 1, 1, 0, 0]]).T
    for y, coef, intercept in (
            ([0, 0, 0, 1, 1, 1, 1, 1, 1], [[0.44464569182, 0.01457563448]], [0.89230405539]),
            ([0, 0, 0, 1, 1, 1, 2, 2, 2],
             [[-0.38023389305, -0.01226499932], [-8.164030176e-05, 4.734548012e-02], [0.3803155334, -0.0350804808]],
             [-0.12004759652, 2.251747383e-01, -0.1051271418])):
        assert_near(LogisticRegression(alpha=1).fit(x, y), coef, intercept)


@pytest.mark.parametrize("l1", [0.001, 0.01, 0.1])
def test_a_small_penalty_takes_no_thousands_of_steps(l1, diabetes):
    """What W+ and W- have in common wears off by lr*l1 in a step; it is taken from both, as it hides the penalty."""
    x, y = diabetes
    coef = linear_model.Lasso(alpha=l1, tol=1e-14, max_iter=100_000).fit(x, y).coef_
    model = LinearRegression(l1=l1, tol=1e-12).fit(x, y)
    assert np.abs(model.coef_ - coef).max() < 1e-10*np.abs(coef).max()
    assert model.n_iter_ < 500


def test_defaults_of_least_squares_are_as_exact_as_scikit_learns(diabetes):
    x, y = diabetes
    for reference, options in ((linear_model.Lasso(5.0), {"l1": 5.0}), (linear_model.Lasso(0.5), {"l1": 0.5}),
                               (linear_model.ElasticNet(5.0), {"l1": 2.5, "alpha": 2.5})):
        model, rough = LinearRegression(**options).fit(x, y), clone(reference).fit(x, y)
        best = reference.set_params(tol=1e-14, max_iter=100_000).fit(x, y)
        assert np.abs(model.coef_ - best.coef_).max() < np.abs(rough.coef_ - best.coef_).max()
        assert ((model.coef_ == 0) == (best.coef_ == 0)).all()
    for reference, options in ((linear_model.LinearRegression(), {}), (linear_model.Ridge(1.0), {"alpha": 1/442})):
        assert_near(LinearRegression(**options).fit(x, y), reference.fit(x, y).coef_, reference.intercept_)


def test_units_of_the_features_do_not_matter_to_auto(diabetes):
    """Without a StandardScaler: a learning rate of one over the curvature suits features of any unit."""
    x, y = diabetes
    for unit in (1e-6, 1e6):
        model, same = LinearRegression(fit_intercept=False).fit(x*unit, y), LinearRegression(fit_intercept=False)
        assert np.allclose(model.coef_*unit, same.fit(x, y).coef_, rtol=1e-9)
    for options in ({}, {"alpha": 0.1}, {"l1": 1.0}, {"fit_intercept": False}):
        for solver in ("sgd", "momentum", "nesterov"):
            for far in (x, x + 3, sparse.csr_array(x)):
                for size in (None, 50):
                    model = few(far, y, solver=solver, batch_size=size, max_iter=30, **options)
                    assert model.loss_curve_[-1] < model.loss_curve_[0] < 1
    assert LinearRegression().fit(np.zeros((10, 2)), np.arange(10)).intercept_ == pytest.approx(4.5)


@pytest.mark.parametrize("kind", [LinearRegression, LogisticRegression])
def test_adam_converges_where_a_batch_holds_all(kind):
    """Ten steps of patience missed half of such minima by more than 0.3 (logistic), 0.7 (linear) standard errors."""
    for n, seed in ((50, 0), (50, 1), (200, 2)):
        rng = np.random.default_rng(seed)
        x = scale(rng.normal(size=(n, 5)) + rng.normal(size=(n, 1)))
        z = x @ rng.normal(size=5)
        y = z + 0.3*rng.normal(size=n) if kind is LinearRegression else (z + rng.logistic(size=n) > 0).astype(int)
        best = {"solver": "newton-cholesky", "C": 1/(1e-3*n), "tol": 1e-10} if kind is LogisticRegression else {}
        model = kind(solver="adam", tol=1e-5).fit(x, y)
        reference = getattr(linear_model, kind.__name__)(**best).fit(x, y)
        spread = np.ones(n)*((y - reference.predict(x)).var() if not best else 1)
        odds = reference.predict_proba(x).prod(axis=1) if best else 1/spread
        errors = np.sqrt(np.diag(np.linalg.inv((x.T*odds) @ x)))
        assert (np.abs(np.ravel(model.coef_ - reference.coef_))/errors).max() < 0.2


def test_what_goes_to_the_solver(diabetes):
    """The solver by name, class and rule; momentum; the rule's own learning rate."""
    constant, momentum = schedules.constant(0.5), {"solver": "momentum", "learning_rate": 0.01}
    for same, other in (
            ([{"solver": solver} for solver in ("adam", "Adam", fastopt.Adam, fastopt.rules.adam)], {"solver": "sgd"}),
            ([{**momentum, **how} for how in ({"momentum": 0.5}, {"momentum": constant},
                                              {"solver_options": {"momentum": 0.5}})], momentum),
            ([momentum, {**momentum, "momentum": 0.9}], {**momentum, "momentum": 0.5}),
            ([{"solver": "adam", "learning_rate": rate} for rate in (None, 0.001)], {"solver": "adam"}),
            ([{}, {"solver": "nesterov", "learning_rate": "auto"}], {"learning_rate": 0.1}),
            ([{"solver": "adam"}, {"solver": "adam", "learning_rate": 0.02}], {})):
        first, *others = [learned(few(*diabetes, batch_size="auto", **options)) for options in same]
        for found in others:
            assert_identical(found, first)
        assert np.abs(learned(few(*diabetes, batch_size="auto", **other)) - first).max() > 1


def test_decay_is_for_weights_not_for_intercepts(diabetes):
    """An Adam step of a slope that keeps its sign is lr, decay lr*100*w: w is 1/100. The intercept is what is left."""
    x, y = diabetes[0][:, [2, 5, 6]], (diabetes[1] > 200).astype(int)
    model = few(x, y, kind=LogisticRegression, solver="adamw", alpha=0, solver_options={"weight_decay": 100.0},
                learning_rate=schedules.exponential(0.01, 0.997), batch_size=None, max_iter=1000)
    assert np.abs(model.coef_) == pytest.approx(0.01, rel=1e-2)
    assert model.intercept_[0] == pytest.approx(np.log(y.mean()/(1 - y.mean())), rel=0.05)


def test_plateau_schedule_observes_and_starts_anew(diabetes):
    schedule = schedules.ReduceOnPlateau(0.1, factor=0.5, patience=1)
    before = copy.deepcopy(schedule.state_dict())
    models = [few(*diabetes, solver="adam", batch_size="auto", learning_rate=rate, max_iter=40)
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


def test_anew_copies_plateaus_alone(diabetes):
    plateau, own = schedules.ReduceOnPlateau(0.1), Own()
    nested = schedules.warmup(5, schedules.warmup(2, plateau))
    given = {"lr": nested, "momentum": plateau, "b1": own, "b2": schedules.warmup(3, own), "like": "torch"}
    made = anew(given)
    assert list(made) == list(given)
    assert (made["b1"], made["b2"], made["like"]) == (own, given["b2"], "torch")
    assert made["momentum"] is not plateau
    assert made["momentum"].state_dict() == plateau.state_dict()
    assert made["lr"].arguments[1].arguments[1] is made["momentum"]  # shared, as before
    assert (nested.arguments[1].arguments[1], repr(made["lr"])) == (plateau, repr(nested))
    rate, decay = Own(), Own()
    few(*diabetes, solver="adamw", learning_rate=rate, solver_options={"weight_decay": decay})
    assert min(rate.asked, decay.asked) >= 3


# Stopping

@pytest.mark.parametrize("early", [False, True])
def test_stops_where_tol_says(diabetes, early):
    """The rule, applied to what the estimator says of its epochs."""
    model = LinearRegression(tol=1e-3, n_iter_no_change=4, early_stopping=early, random_state=0, max_iter=1000)
    model.fit(*diabetes)
    curve = -np.array(model.validation_scores_) if early else np.array(model.loss_curve_)
    lowest = np.minimum.accumulate(np.concatenate([[np.inf], curve]))[:-1]
    better = curve < lowest - 1e-3
    assert len(curve) == model.n_iter_ < 1000
    assert not better[-4:].any()
    assert all(better[k:k + 4].any() for k in range(len(curve) - 4))
    assert (model.best_loss_, model.best_validation_score_) == ((None, -curve.min()) if early else (curve.min(), None))


@pytest.mark.parametrize("kind", [LinearRegression, MLPClassifier])
def test_early_stopping_keeps_the_best_epoch(diabetes, kind):
    x, y = diabetes[0], diabetes[1] if kind is LinearRegression else (diabetes[1] > 150).astype(int)
    options = {"early_stopping": True, "validation_fraction": 0.3, "random_state": 3, "learning_rate": 0.02}
    model = kind(**options, n_iter_no_change=8, max_iter=1000).fit(x, y)
    best = int(np.argmax(model.validation_scores_)) + 1
    assert best < model.n_iter_ < 1000
    assert_identical(learned(kind(**options, tol=None, max_iter=best).fit(x, y)), learned(model))
    assert model.best_validation_score_ == max(model.validation_scores_)


def test_score_of_the_rows_held_out(diabetes, weights):
    """Of a model that learns nothing: the mean of all targets, or the first class."""
    x, y = diabetes
    s, labels = weights + 1, (y > 200).astype(int)
    for kind, targets, found, score in ((LogisticRegression, labels, 0, accuracy_score),
                                        (LinearRegression, y, np.average(y, weights=s), r2_score)):
        _, held = train_test_split(np.arange(442), test_size=0.3, random_state=np.random.RandomState(0),
                                   stratify=labels if kind is LogisticRegression else None)
        model = few(x, targets, s, kind, early_stopping=True, validation_fraction=0.3, learning_rate=0.0, max_iter=1)
        want = score(targets[held], np.full(133, found), sample_weight=s[held])
        assert model.validation_scores_ == pytest.approx([want], rel=1e-9)


@pytest.mark.parametrize(("rows", "auto"), [(200, 150), (442, 50), (442*12, 10)])
def test_patience_auto_is_150_steps_or_10_epochs(diabetes, rows, auto):
    x, y = (np.resize(a, (rows, *a.shape[1:])) for a in diabetes)
    model = LinearRegression(learning_rate=0.0, random_state=0, tol=1e-3, batch_size="auto")
    assert model.fit(x, y).n_iter_ == 1 + auto


def test_r2_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    y = np.stack([rng.normal(size=30), 1e5 + rng.normal(size=30), np.full(30, 3.0), np.full(30, 7.0)], axis=1)
    z = y + np.outer(rng.normal(size=30), [1, 2, 0, 0.1])
    for s in (None, rng.uniform(0.1, 3, 30)):
        for columns in ([0], [1], [2], [3], [0, 1, 2, 3]):
            want = r2_score(y[:, columns], z[:, columns], sample_weight=s)
            assert _targets.r2(y[:, columns], z[:, columns], s) == pytest.approx(want, rel=1e-9)


def test_warns_where_there_is_no_convergence(diabetes):
    """In the last case, ten steps are within a swing of Adam: its loss is 0.19 of the variance then, and was 0.11."""
    rng = np.random.default_rng(3)
    x = scale(rng.normal(size=(200, 5)) + rng.normal(size=(200, 1)))
    swing = x, x @ rng.normal(size=5) + 0.1*rng.normal(size=200)
    for model, data, says in (
            (LinearRegression(solver="sgd", learning_rate=100.0, max_iter=5), diabetes,
             "LinearRegression: the loss rose from .* in the first epoch to .*e.* Lower learning_rate"),
            (MLPRegressor(max_iter=3), diabetes,
             r"MLPRegressor: 3 epochs ended before the loss .* tol=0.0001\. Raise max_iter"),
            (LinearRegression(n_iter_no_change=10, learning_rate=0.1), swing,
             "the loss was .* in the best epoch, and is .* in the last. Raise n_iter_no_change")):
        with pytest.warns(ConvergenceWarning, match=says) as found:
            model.fit(*data)
        with pytest.warns(ConvergenceWarning) as more:
            make_pipeline(StandardScaler(), model).fit(*data)
        assert {w.filename for w in [*found, *more]} == {__file__}
    assert model.loss_ > 1.1*model.best_loss_


@pytest.mark.parametrize("kind", [MLPRegressor, MLPClassifier])
def test_a_late_divergence_keeps_the_best_weights(kind):
    """With early stopping, as in scikit-learn; without it, or before the first score, it is an error."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((120, 4))
    y = X @ [1.0, -2.0, 0.5, 3.0]
    y = y if kind is MLPRegressor else (y > 0).astype(int)

    def fitted(last, epochs):
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            model = few(X, y, None, kind, hidden_layer_sizes=8, solver="sgd", max_iter=epochs, early_stopping=True,
                        batch_size=None, learning_rate=lambda t: 0.05 if t <= last else 1e300)
        return model, [str(w.message) for w in said]
    whole, said = fitted(12, 12)
    assert not said
    late, said = fitted(12, 40)
    assert said == [f"{kind.__name__}: the loss is not finite in epoch {late.n_iter_ + 1}. The weights are those of "
                    "the best epoch before. Lower learning_rate, or standardise the features."]
    assert late.best_validation_score_ == whole.best_validation_score_ > 0.2
    assert_identical(learned(late), learned(whole))
    with pytest.raises(ValueError, match=r"the (loss is not finite in epoch 2|weights are not finite)"):
        fitted(0, 40)


def test_interrupted(diabetes, monkeypatch):
    calls, real = [], networks.value_and_grad

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == 8:  # in the third epoch of three batches
            raise KeyboardInterrupt
        return real(*arguments)
    monkeypatch.setattr(networks, "value_and_grad", interrupted)
    with pytest.warns(UserWarning, match="interrupted after 2 epochs"):
        model = LinearRegression(random_state=0, batch_size="auto").fit(*diabetes)
    assert model.n_iter_ == len(model.loss_curve_) == 2
    assert np.isfinite(learned(model)).all()


# Numbers and threads

def test_dtype():
    x, y = load_iris(return_X_y=True)
    for kind in ALL:
        for given, kept in ((np.float32, np.float32), (np.float64, np.float64), (np.int64, np.float64)):
            model = few(x.astype(given), y, kind=kind, max_iter=1)
            assert learned(model).dtype == kept
            assert getattr(model, "predict_proba", model.predict)(x.astype(given)).dtype == kept


def test_seed(diabetes):
    one, two, other, drawn = (learned(few(*diabetes, kind=MLPRegressor, random_state=seed))
                              for seed in (0, 0, 1, np.random.RandomState(0)))
    assert_identical(one, two)
    assert_identical(one, drawn)
    assert np.abs(one - other).max() > 1
    shuffled, ordered, again = (learned(few(*diabetes, random_state=k, shuffle=k > 1, batch_size=200))
                                for k in (2, 1, 0))
    assert_identical(ordered, again)
    assert (shuffled != ordered).all()


def test_any_number_of_threads_gives_the_same_bits():
    """129,210 parameters: enough for the step to be shared. In float32, two BLAS threads would round otherwise."""
    x, y = load_digits(return_X_y=True)
    have = []
    for threads in (1, 2):
        with threadpool_limits(threads):
            before = threadpool_info()
            have.append(learned(few((x/16).astype(np.float32), y, None, MLPClassifier, max_iter=1,
                                    hidden_layer_sizes=(600, 150), solver_options={"threads": threads})))
            assert threadpool_info() == before
    assert_identical(have[0], have[1])


def test_blas_threads_come_back_after_the_last_fit():
    """Also in a child that a fork during a fit has made, which has none of the parent's other threads."""
    def seen():
        return f"{_fit.ONE_THREAD.fits} {[i['num_threads'] for i in threadpool_info() if i['user_api'] == 'blas'][:1]}"
    with threadpool_limits(2, user_api="blas"):
        with _fit.ONE_THREAD:
            with _fit.ONE_THREAD:  # a fit in another thread, meanwhile
                assert seen() == "2 [1]"
            assert seen() == "1 [1]"
            if hasattr(os, "fork"):
                source, end = os.pipe()
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # Python 3.12 and JAX warn of forks
                    child = os.fork()
                if not child:
                    try:
                        os.write(end, seen().encode())
                        with _fit.ONE_THREAD:
                            os.write(end, f", {seen()}, ".encode())
                        os.write(end, seen().encode())
                    finally:
                        os._exit(0)
                os.waitpid(child, 0)
                assert os.read(source, 99) == b"0 [2], 1 [1], 0 [2]"
                assert seen() == "1 [1]"
        assert seen() == "0 [2]"


# scikit-learn's tools

def test_own_rules_pickle_by_their_names(tmp_path, monkeypatch, diabetes):
    """Models with them go to other processes, which import their module."""
    (tmp_path/"rules_for_processes.py").write_text(f"import fastopt\n{OWN_RULE}Mine = fastopt.optimizer(mine)\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("mine", "Mine"):
        own = importlib.import_module("rules_for_processes")
        model = few(*diabetes, solver=getattr(own, name))
        pickled = pickle.dumps(model)
        monkeypatch.delitem(sys.modules, "rules_for_processes")
        twin = pickle.loads(pickled)
        assert twin.solver is getattr(sys.modules["rules_for_processes"], name) is not getattr(own, name)
        assert_identical(twin.predict(diabetes[0]), model.predict(diabetes[0]))
        assert_identical(learned(twin.fit(*diabetes)), learned(model))


def test_a_rule_that_cannot_be_imported_is_named(diabetes):
    @fastopt.rule(state="v", lr=0.1, mu=0.9)
    def hidden(c, g, p, v):
        v = c.mu*v + g
        return c.lr*v, v

    for solver in (hidden, fastopt.optimizer(hidden)):
        model, name = few(*diabetes, solver=solver), solver.__name__
        with pytest.raises(TypeError) as error:
            pickle.dumps(model)
        assert str(error.value) == (
            f"LinearRegression: the solver {name} is not found as {__name__}.{solver.__qualname__}, but pickle and "
            f"other processes import it by that name. Define it at the top level of a module, as {name}.")
        for twin in (copy.copy(model), copy.deepcopy(model), clone(model).fit(*diabetes)):
            assert twin.solver is solver
            assert_identical(learned(twin), learned(model))


def is_plain(value):
    if isinstance(value, (list, tuple, dict)):
        return all(map(is_plain, value.values() if isinstance(value, dict) else value))
    return isinstance(value, (np.ndarray, np.generic, int, float, bool, str, type(None)))


@pytest.mark.parametrize("kind", [LinearRegression, MLPClassifier])
def test_clone_and_pickle(diabetes, kind):
    x, y = diabetes[0], (diabetes[1] > 150).astype(int)
    for solver in ("nesterov", fastopt.Nesterov):
        options = {"solver": solver, "learning_rate": schedules.cosine(0.02, 6), "early_stopping": True,
                   "solver_options": {"dampening": 0.1}}
        model = few(x, y, kind=kind, **options)
        for twin in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model), clone(model).fit(x, y)):
            assert_identical(learned(twin), learned(model))
            assert (twin.predict(x) == model.predict(x)).all()
            assert {k: v for k, v in twin.get_params().items() if k in options} == options
        assert all(is_plain(v) for k, v in vars(model).items() if k not in model.get_params())


def test_parameters_are_documented():
    told = "".join(map(inspect.getdoc, (LinearRegression, LogisticRegression, MLPRegressor)))
    for kind in ALL:
        for name in kind().get_params():
            assert re.search(rf"^(\w+, )*{name}(, \w+)* : ", told, re.MULTILINE), name


# Errors

WRONG = [  # of LinearRegression, or of MLPRegressor where it alone has the parameter
    ({"solver": "lbfgs"}, r"solver is 'lbfgs', but one of sgd, .*, an optimizer class or a rule"),
    ({"solver": fastopt.Optimizer}, "solver is <class"), ({"solver": np.mean}, "solver is <"),
    ({"solver": "adam", "momentum": 0.5}, "momentum is 0.5, but Adam has none. Leave it None; solver_options may hold"),
    ({"solver": "momentum", "momentum": 0.5, "solver_options": {"momentum": 0.5}}, "solver_options has momentum"),
    ({"solver_options": {"lr": 0.5}}, "solver_options has lr, but learning_rate and momentum are parameters"),
    ({"solver_options": {"maximize": True}}, "maximize is True in solver_options"),
    ({"solver_options": "threads"}, "solver_options is 'threads', but a dict or None is needed"),
    ({"verbose": -1}, "verbose is -1, but a whole number, 0 or more, is needed"),
    ({"verbose": "yes"}, "verbose is 'yes"),
    ({"learning_rate": -1.0}, "lr is -1.0"),
    *(({name: x}, f"LinearRegression: {name} is {x!r}, but a finite number, 0 or more, is needed. Change {name}")
      for name, x in (("alpha", -1.0), ("alpha", np.inf), ("l1", "1"))),
    ({"tol": -1e-4}, "tol is -0.0001, but a finite number, 0 or more, or None is needed"),
    ({"validation_fraction": 1.0}, r"validation_fraction is 1.0, but a number in \(0, 1\) is needed"),
    *(({name: x}, f"{name} is {x!r}, but one of False, True is needed")
      for name, x in {"fit_intercept": 1, "shuffle": None, "early_stopping": "yes", "warm_start": 1}.items()),
    ({"batch_size": 0}, "batch_size is 0, but a whole number, 1 or more, is needed. Change .*, or give 'auto' or None"),
    ({"batch_size": "all"}, "batch_size is 'all'"), ({"n_iter_no_change": True}, "n_iter_no_change is True"),
    ({"max_iter": 0}, "max_iter is 0"), ({"max_iter": 10.0}, "max_iter is 10.0"),
    ({"early_stopping": True, "validation_fraction": 0.001}, "1 row to validate with, but 2 are needed"),
    ({"hidden_layer_sizes": (10, 0)}, "hidden_layer_sizes is 0, but a whole number, 1 or more, is needed"),
    ({"hidden_layer_sizes": "10"}, "hidden_layer_sizes is '10'"),
    ({"activation": "swish"}, "activation is 'swish', but one of 'identity', 'logistic', 'tanh', 'relu' is needed"),
    ({"initializer": "zeros"}, "initializer is 'zeros', but one of 'glorot_uniform', .*'lecun_normal' is needed"),
    ({"solver": "sgd", "learning_rate": 1e50}, r"the loss is not finite in epoch \d. Lower learning_rate, or stand"),
    ({"solver": "sgd", "learning_rate": 1e308, "batch_size": None, "max_iter": 1},
     "the weights are not finite after epoch 1. Lower learning_rate"),
    ({"hidden_layer_sizes": 3, "learning_rate": "auto"}, "lr is 'auto'")]


def test_parameter_errors(diabetes):
    for options, message in WRONG:
        network = options.keys() & {"hidden_layer_sizes", "activation", "initializer"}
        with pytest.raises((TypeError, ValueError), match=message):
            (MLPRegressor if network else LinearRegression)(**options).fit(*diabetes)


def test_data_errors(diabetes):
    x, y = diabetes[0], (diabetes[1] > 150).astype(int)
    for labels, s, message in ((y, np.zeros(len(y)), r"all sample weights are 0|at least one non-zero"),
                               (y, -np.ones(len(y)), "Negative values"),
                               (0*y, None, r"only one class, .*0.*, but samples of two are needed")):
        with pytest.raises(ValueError, match=message):
            LogisticRegression().fit(x, labels, s)
