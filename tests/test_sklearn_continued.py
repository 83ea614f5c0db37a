"""Estimators that go on: partial_fit and warm_start, against one long training and against scikit-learn's networks."""
import copy
import pickle
import re

import numpy as np
import pytest
from conftest import assert_identical
from fitted import EXACT, LinearRegression, LogisticRegression, MLPClassifier, MLPRegressor, assert_near, few, learned
from sklearn import linear_model, neural_network
from sklearn.base import clone
from sklearn.datasets import load_iris, make_multilabel_classification
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import scale

from fastopt import schedules

X = scale(load_iris().data)
Y = load_iris().target
FIRST = {"max_iter": 1, "tol": None, "random_state": 0}


def numbers(unit=1.0, far=0.0):
    return far + unit*(X @ [1.0, -2.0, 0.5, 3.0] + Y)


def several():
    return make_multilabel_classification(150, 6, n_classes=4, random_state=0)


# Many calls of partial_fit are one training

SOLVERS = [("adam", {}), ("nesterov", {"learning_rate": schedules.cosine(0.05, 40)}),
           ("nadam", {"solver_options": {"state": "q8"}}),
           ("sgd", {"learning_rate": schedules.ReduceOnPlateau(0.5, factor=0.5, patience=0)})]


@pytest.mark.parametrize(("solver", "options"), SOLVERS, ids=[name for name, _ in SOLVERS])
@pytest.mark.parametrize("kind", [LogisticRegression, MLPClassifier])
def test_calls_of_partial_fit_are_epochs(kind, solver, options):
    """Bit for bit, in shuffled batches, also through pickle, after a first `fit`, and with a schedule that observes."""
    options = {"random_state": 0, "batch_size": 40, "tol": None, "solver": solver, **options}
    whole = kind(**options, max_iter=7).fit(X, Y)
    parts, after = kind(**options), kind(**options, max_iter=4).fit(X, Y)
    for k in range(7):
        parts.partial_fit(X, Y, np.unique(Y) if k == 0 else None)
        parts = pickle.loads(pickle.dumps(parts))
        assert parts.n_iter_ == k + 1
        if k < 3:
            after.partial_fit(X, Y)
    for model in (parts, after):
        assert_identical(learned(model), learned(whole))
        assert model.loss_curve_ == whole.loss_curve_
        assert (model.n_iter_, model.loss_, model.best_loss_) == (7, whole.loss_, whole.best_loss_)


@pytest.mark.parametrize("options", [
    {"solver": "adam", "solver_options": {"average": 0.9, "state": "q8"}}, {"learning_rate": "auto"},
    {"l1": 0.02, "solver": "momentum", "momentum": 0.8, "learning_rate": 0.2},
    {"learning_rate": schedules.ReduceOnPlateau(0.5, factor=0.5, patience=0)}], ids=str)
def test_a_solver_that_is_there_goes_on(options, monkeypatch):
    """With the bits of one that each call makes anew, whatever comes between; but where it observes, as it is copied.

    Between calls: other parameters of the model, weights that are written, a call that fails, copies, a `fit`.
    """
    from fastopt.sklearn import _fit
    made, solver = [], _fit.solver
    monkeypatch.setattr(_fit, "solver", lambda *given: made.append(1) or solver(*given))
    here = LogisticRegression(random_state=0, batch_size=40, **options)
    anew, rows = clone(here), np.arange(150)
    calls = []

    def step(**more):
        nonlocal anew
        anew = pickle.loads(pickle.dumps(anew))
        for model in (here, anew):
            before = len(made)
            model.partial_fit(X[rows], Y[rows], [0, 1, 2], **more)
            calls.append(len(made) - before)
        assert_identical(learned(here), learned(anew))
        assert here.loss_curve_ == anew.loss_curve_
        np.random.default_rng(len(calls)).shuffle(rows)

    def both(change):
        for model in (here, anew):
            change(model)
        step()
    step()
    step()
    step(sample_weight=np.linspace(0.5, 1.5, 150))

    def fail(model):
        left, given = [1, 2], _fit.Run.value_and_grad
        with monkeypatch.context() as patch:
            patch.setattr(_fit.Run, "value_and_grad", lambda run, *of: (left.pop(), given(run, *of))[1])
            with pytest.raises(IndexError):
                model.partial_fit(X, Y)
    both(fail)
    both(lambda model: model.set_params(alpha=0.3, learning_rate=0.01))
    both(lambda model: model.set_params(learning_rate=0.01, batch_size=None))
    both(lambda model: model.coef_.__imul__(0.5))
    both(lambda model: copy.copy(model).partial_fit(X, Y))
    both(lambda model: copy.deepcopy(model).partial_fit(X, Y))
    both(lambda model: model.set_params(warm_start=True, max_iter=3, tol=None).fit(X[50:], np.arange(100) % 3))
    both(lambda model: model.set_params(solver_options={"weight_decay": 0.1}))
    both(lambda model: model.solver_options.update(weight_decay=0.2))
    observes = isinstance(options.get("learning_rate"), schedules.ReduceOnPlateau)
    assert calls[1::2] == [1]*(len(calls)//2)
    assert calls[0::2] == [1, observes, observes, 1, 1, 0, 0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize("kind", [LinearRegression, MLPRegressor])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_far_targets_lose_nothing_between_calls(kind, dtype):
    """Of targets a million deviations from 0, no digit of float32 is left in the intercept that one sees."""
    x, y = X.astype(dtype), numbers(0.01, 1e6)
    options = {"random_state": 0, "batch_size": 40, "tol": None}
    whole, parts = kind(**options, max_iter=6).fit(x, y), kind(**options)
    for _ in range(6):
        parts.partial_fit(x, y)
    assert_identical(learned(parts), learned(whole))


def test_a_stream_of_batches_finds_the_lasso():
    """Rows come in batches; W is in pairs; the mean and deviation are those of the first batch."""
    y = numbers(3.0, 100.0)
    model = LinearRegression(l1=1.5, random_state=0, solver="momentum", learning_rate=0.2, momentum=0.9)
    model.partial_fit(X[40:60], y[40:60])
    for _ in range(250):
        model.partial_fit(X, y)
    reference = linear_model.Lasso(alpha=1.5, tol=1e-12).fit(X, y)
    assert np.abs(model.coef_ - reference.coef_).max() < 1e-4*np.abs(reference.coef_).max()
    assert ((model.coef_ == 0) == (reference.coef_ == 0)).all()
    assert (reference.coef_ == 0).any()


def test_what_has_changed_between_calls_counts():
    """A learning rate, from the next call on; a penalty; another solver, which begins anew; weights that are set."""
    def two(then, change=lambda model: None):
        model = LogisticRegression(solver="adam", **FIRST).partial_fit(X, Y, [0, 1, 2])
        change(model)
        return learned(model.set_params(**then).partial_fit(X, Y))
    one, plain = (learned(few(X, Y, None, LogisticRegression, solver="adam", max_iter=n)) for n in (1, 2))
    assert_identical(two({"learning_rate": 0.0}), one)
    assert_identical(two({}), plain)
    for then in ({"solver": "sgd", "learning_rate": 0.1}, {"l1": 0.01}, {"alpha": 1.0}, {"learning_rate": 0.03}):
        assert 0 < np.abs(two(then) - plain).max() < 0.1
    moved = two({}, lambda model: model.coef_.__iadd__(np.eye(3, 4)))
    assert 0.6 < np.abs(moved - plain).max() < 1  # by 1 less the mean over classes, which is 1/3


@pytest.mark.parametrize("kind", [LogisticRegression, MLPClassifier])
def test_classes_that_come_later(kind):
    y = np.array(["a", "b", "c", "d"])[Y]
    model = kind(random_state=0, learning_rate=0.05)
    for k in range(60):
        rows = np.flatnonzero(k % 3 == Y) if k < 3 else slice(None)
        model.partial_fit(X[rows], y[rows], classes=["d", "c", "b", "a"] if k == 0 else None)
    assert model.classes_.tolist() == ["a", "b", "c", "d"]
    assert model.predict_proba(X).shape == (150, 4)
    assert model.score(X, y) > 0.9


# scikit-learn's own steps

def same_start(ours, theirs, x, y, epochs=8, **how):
    """Both models after some epochs from the weights that scikit-learn draws, each with a new solver."""
    for model in (ours, theirs):
        model.set_params(max_iter=1, warm_start=True, shuffle=False, **how)
        with pytest.warns(ConvergenceWarning) if model is theirs else np.errstate():
            model.fit(x, y)
    ours.coefs_, ours.intercepts_ = [a.copy() for a in theirs.coefs_], [a.copy() for a in theirs.intercepts_]
    for model in (ours, theirs):
        model.set_params(max_iter=epochs)
        with pytest.warns(ConvergenceWarning) if model is theirs else np.errstate():
            model.fit(x, y)
    return learned(ours), learned(theirs)


STEPS = [("sgd", 0.05, {}, {"solver": "sgd", "momentum": 0}),
         ("momentum", 0.05, {"momentum": 0.8}, {"solver": "sgd", "momentum": 0.8, "nesterovs_momentum": False}),
         ("nesterov", 0.05, {"solver_options": {"like": "sklearn"}}, {"solver": "sgd"}),
         ("adam", 0.01, {"solver_options": {"like": "sklearn"}}, {"solver": "adam"})]


@pytest.mark.parametrize(("solver", "rate", "more", "theirs"), STEPS, ids=[case[0] for case in STEPS])
def test_the_steps_are_scikit_learns(solver, rate, more, theirs):
    """Of two classes, of three, of several labels at once, and of numbers: the weights agree to the last digits."""
    x, labels = several()
    for kind, other, rows, y in ((MLPClassifier, neural_network.MLPClassifier, X, Y == 1),
                                 (MLPClassifier, neural_network.MLPClassifier, X, Y),
                                 (MLPClassifier, neural_network.MLPClassifier, scale(x), labels),
                                 (MLPRegressor, neural_network.MLPRegressor, X, scale(numbers()))):
        for activation in ("relu", "tanh"):
            ours = kind((5, 3), activation, solver=solver, learning_rate=rate, alpha=0.01, tol=None, **more)
            twin = other(hidden_layer_sizes=(5, 3), activation=activation, learning_rate_init=rate, alpha=1.5, tol=0.0,
                         n_iter_no_change=100, random_state=1, **theirs)
            have, want = same_start(ours, twin, rows, y, batch_size=150)
            assert np.abs(have - want).max() < 1e-11
            assert np.abs(np.subtract(ours.loss_curve_, twin.loss_curve_[1:])).max() < 1e-11
            assert (ours.predict(rows) == twin.predict(rows)).all() or kind is MLPRegressor
            if kind is MLPClassifier:
                assert np.abs(ours.predict_proba(rows) - twin.predict_proba(rows)).max() < 1e-11


def test_partial_fit_with_weights_is_scikit_learns():
    """Weights multiply the losses of their rows, here as there, in plain gradient descent of two classes."""
    rng, y = np.random.default_rng(0), (Y == 1).astype(int)
    ours = LogisticRegression(solver="sgd", learning_rate=0.1, alpha=0, batch_size=1, shuffle=False)
    theirs = linear_model.SGDClassifier(loss="log_loss", penalty=None, learning_rate="constant", eta0=0.1,
                                        shuffle=False)
    for _ in range(3):
        s = rng.uniform(0.1, 3, 150)
        ours.partial_fit(X, y, [0, 1], s)
        theirs.partial_fit(X, y, [0, 1], s)
        assert np.abs(learned(ours) - learned(theirs)).max() < 1e-12


# warm_start

@pytest.mark.parametrize("kind", [LinearRegression, LogisticRegression, MLPRegressor, MLPClassifier])
def test_warm_start_begins_where_the_last_fit_ended(kind):
    """Plain gradient descent has no state: two fits of three epochs are one of six. Without warm_start they are not."""
    y = Y if kind in (LogisticRegression, MLPClassifier) else numbers(5.0, 30.0)
    how = {"solver": "sgd", "learning_rate": 0.05, "batch_size": None}
    warm = few(X, y, None, kind, warm_start=True, **how)
    assert_identical(learned(warm.fit(X, y)), learned(few(X, y, None, kind, max_iter=6, **how)))
    assert warm.n_iter_ == len(warm.loss_curve_) == 3
    cold = few(X, y, None, kind, **how)
    assert_identical(learned(cold.fit(X, y)), learned(few(X, y, None, kind, **how)))


def test_warm_start_saves_epochs_along_a_path():
    """A path of penalties: each minimum is near the last; all are scikit-learn's."""
    y = (Y > 0).astype(int)
    model = LogisticRegression(warm_start=True, **{**EXACT, "tol": 1e-10})
    spent = []
    for alpha in (0.1, 0.09, 0.08):
        model.set_params(alpha=alpha).fit(X, y)
        reference = linear_model.LogisticRegression(C=1/(150*alpha), solver="newton-cholesky", tol=1e-12).fit(X, y)
        assert np.abs(model.coef_ - reference.coef_).max() < 1e-4
        spent.append(model.n_iter_)
    assert max(spent[1:]) < spent[0]


def test_warm_start_takes_written_weights():
    best = linear_model.LogisticRegression(C=1, solver="newton-cholesky", tol=1e-12).fit(X, Y)
    model = few(X, Y, None, LogisticRegression, alpha=1/150, warm_start=True, solver="sgd", batch_size=None)
    model.coef_[...], model.intercept_[...] = best.coef_, best.intercept_
    assert_near(model.fit(X, Y), best.coef_, best.intercept_)
    line = few(X, numbers(), warm_start=True, solver="sgd", batch_size=None, max_iter=1, learning_rate=0.0)
    line.coef_, line.intercept_ = np.array([1.0, 2.0, 3.0, 4.0]), 5.0
    assert_near(line.fit(X, numbers()), [1, 2, 3, 4], 5)


# What is refused, and what is said

def test_errors_of_going_on():
    line = few(X, numbers(), warm_start=True)
    net = few(X, Y, None, MLPClassifier, hidden_layer_sizes=5, warm_start=True)
    labels = np.eye(3, dtype=int)[Y]
    for call, says in (
            (lambda: MLPClassifier(early_stopping=True).partial_fit(X, Y, [0, 1, 2]), "early_stopping is True, but Fa"),
            (lambda: MLPClassifier().partial_fit(X, Y), "no classes, but the first partial_fit needs all that will"),
            (lambda: MLPClassifier().partial_fit(X, Y, [0, 1]), r"y has the labels \[0 1 2\], but .*, \[0 1\], are ne"),
            (lambda: net.partial_fit(X, Y, [0, 1]), r"classes has the labels \[0 1\], but .*, \[0 1 2\], are needed"),
            (lambda: net.partial_fit(X, Y + 1), r"y has the labels \[1 2 3\], but those of the training before"),
            (lambda: net.partial_fit(X, labels | (Y < 1)[:, None]), r"y has the labels \[0 1 2\], but those of the tr"),
            (lambda: net.fit(X, np.minimum(Y, 1)), r"y has the labels \[0 1\], but .* \[0 1 2\], are needed"),
            (lambda: net.set_params(hidden_layer_sizes=6).fit(X, Y), r"layers of the sizes \[4, 6, 3\] are asked for"),
            (lambda: line.fit(X, np.stack([numbers()]*2, axis=1)), r"layers of the sizes \[4, 2\] .* there are \[4, 1"),
            (lambda: line.fit(X[:, :3], numbers()), "X has 3 features, but LinearRegression is expecting 4"),
            (lambda: line.partial_fit(X, numbers(), np.zeros(150)), r"all sample weights are 0|at least one non-zero"),
            (lambda: LogisticRegression(class_weight="balanced").partial_fit(X, Y, [0, 1, 2]),
             "class_weight is 'balanced', but None is needed where rows have several labels, and None or a dict for")):
        with pytest.raises(ValueError, match=says):
            call()


def test_a_call_that_diverges_changes_nothing():
    model = LinearRegression(random_state=0, solver="sgd", learning_rate=0.1).partial_fit(X, numbers())
    before, curve = learned(model), list(model.loss_curve_)
    with pytest.raises(ValueError, match="not finite"):
        model.set_params(learning_rate=1e200, batch_size=10).partial_fit(X, numbers())
    assert_identical(learned(model), before)
    assert model.loss_curve_ == curve
    model.set_params(learning_rate=0.1, batch_size="auto").partial_fit(X, numbers())
    assert model.loss_ < curve[0]


@pytest.mark.parametrize("early", [False, True])
def test_verbose_prints_what_scikit_learn_prints(early, capsys):
    """The same lines, but for the numbers."""
    said = []
    for kind, how in ((MLPClassifier, {}), (neural_network.MLPClassifier, {"learning_rate_init": 0.001})):
        kind(5, verbose=True, tol=0.5, n_iter_no_change=3, early_stopping=early, max_iter=9, random_state=0,
             **how).fit(np.resize(X, (100, 4)), np.resize(Y, 100))
        said.append(capsys.readouterr().out)
    mine, theirs = (re.sub(r"(\d|\.)+(?=\n)", "N", text).splitlines() for text in said)
    assert mine[:4] == theirs[:4]
    assert mine[-1] == theirs[-1].replace("N", "N")
    model = few(X, Y, None, MLPClassifier, verbose=2).partial_fit(X, Y)
    assert re.findall(r"Iteration (\d), loss = ([\d.]+)\n", capsys.readouterr().out) == [
        (str(k), f"{loss:.8f}") for k, loss in enumerate(model.loss_curve_, start=1)]
    few(X, Y, None, MLPClassifier)
    assert capsys.readouterr().out == ""
