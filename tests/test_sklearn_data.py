"""What estimators learn from: sparse X, weights of classes, several labels a row. All against scikit-learn's own."""
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
from scipy import sparse
from sklearn import linear_model, multioutput
from sklearn.datasets import make_multilabel_classification
from sklearn.preprocessing import scale

KINDS = ["csr_array", "csr_matrix", "csc_array", "coo_matrix", "lil_array"]


def rare(rows=300, features=40):
    """Features of which nine in ten are 0, numbers, and three classes."""
    rng = np.random.default_rng(0)
    x = np.where(rng.random((rows, features)) < 0.1, rng.normal(size=(rows, features)), 0)
    z = x @ rng.normal(size=(features, 3)) + 0.3*rng.normal(size=(rows, 3))
    return x, z[:, 0] + 2, z.argmax(axis=1)


@pytest.fixture
def stays_sparse(monkeypatch):
    for kind in (sparse.csr_array, sparse.csr_matrix):
        for name in ("toarray", "todense"):
            monkeypatch.setattr(kind, name, lambda *_, **__: pytest.fail("X was made dense"))


@pytest.mark.parametrize("kind", ALL)
def test_sparse_rows_teach_what_dense_ones_do(kind, stays_sparse):
    """In batches, with weights, with rows held out, in partial_fit; and they predict the same."""
    x, y, labels = rare()
    y = y if kind in (LinearRegression, MLPRegressor) else labels
    s = np.random.default_rng(1).integers(0, 3, 300).astype(float)
    for options, weights in (({}, None), ({"batch_size": None, "early_stopping": True}, s), ({"batch_size": 37}, s)):
        model = few(x, y, weights, kind, **options)
        for name in KINDS if not options else KINDS[:1]:
            given = getattr(sparse, name)(x)
            twin = few(given, y, weights, kind, **options)
            assert np.abs(learned(twin) - learned(model)).max() < 1e-11
            for method in {"predict", "predict_proba", "decision_function"} & set(dir(model)):
                assert np.allclose(getattr(twin, method)(given), getattr(model, method)(x), rtol=1e-9, atol=1e-11)
            assert twin.score(given, y) == pytest.approx(model.score(x, y))
        if "early_stopping" not in options:
            again = twin.partial_fit(sparse.csr_array(x), y, sample_weight=weights)
            assert np.abs(learned(again) - learned(model.partial_fit(x, y, sample_weight=weights))).max() < 1e-11
    light = few(sparse.csr_array(x.astype(np.float32)), y, None, kind)
    assert learned(light).dtype == np.float32


def test_a_sparse_matrix_that_would_not_fit_into_memory():
    """A hundred thousand rows of a million features, three of them not 0: dense they would need 800 GB."""
    rng = np.random.default_rng(0)
    rows, wide = 100_000, 1_000_000
    places = rng.integers(0, 1000, (rows, 3))*1000  # a thousand of the features occur
    x = sparse.csr_array((np.ones(3*rows), places.ravel(), np.arange(0, 3*rows + 1, 3)), (rows, wide))
    x.indices, x.indptr = x.indices.astype(np.int64), x.indptr.astype(np.int64)
    truth = np.where(np.arange(wide) % 2000 == 0, 2.0, -2.0)
    model = LogisticRegression(alpha=0, batch_size=20_000, learning_rate=0.3, max_iter=2, tol=None, random_state=0)
    model.fit(x, (x @ truth > 0).astype(int))
    assert np.count_nonzero(model.coef_) == 1000
    assert model.score(x, (x @ truth > 0).astype(int)) > 0.98


@pytest.mark.parametrize("l1", [0.0, 0.01])
def test_sparse_minima_are_scikit_learns(l1, stays_sparse):
    x, y, labels = rare()
    given = sparse.csr_array(x)
    line = LinearRegression(alpha=0.01, l1=l1, **EXACT).fit(given, y)
    reference = linear_model.ElasticNet(alpha=0.01 + l1, l1_ratio=l1/(0.01 + l1), tol=1e-12, max_iter=100_000)
    reference.fit(x, y)
    assert_near(line, reference.coef_, reference.intercept_)
    if l1 == 0:
        model = LogisticRegression(alpha=0.01, **EXACT).fit(given, labels)
        best = linear_model.LogisticRegression(C=1/3, tol=1e-10, max_iter=10_000).fit(given, labels)
        assert_near(model, best.coef_, best.intercept_)


# Weights of classes

@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize("given", [{"b": 3.0, "a": 0.5, "c": 2.0}, {"a": 7.0}, "balanced"], ids=str)
def test_class_weight_is_scikit_learns(n, given):
    x, y = classes(n)
    rare = np.random.default_rng(2).random(300) < np.array([1, 0.4, 0.7])[y]
    x, y, s = x[rare], np.array(["b", "a", "c"])[y[rare]], np.random.default_rng(1).uniform(0.5, 2, rare.sum())
    if isinstance(given, dict):
        given = {k: v for k, v in given.items() if k in y}
    for weights in (None, s):
        model = LogisticRegression(alpha=0.02, class_weight=given, **EXACT).fit(x, y, weights)
        total = np.ones(len(y)) if weights is None else weights
        if given == "balanced":
            share = {k: total.sum()/n/total[y == k].sum() for k in np.unique(y)}
        else:
            share = given
        weight = total*[share.get(k, 1) for k in y]
        reference = linear_model.LogisticRegression(C=1/(0.02*weight.sum()), class_weight=share, tol=1e-10,
                                                    max_iter=10_000).fit(x, y, weights)
        assert_near(model, reference.coef_, reference.intercept_)
        if given == "balanced" and weights is None:
            assert_near(model, *(getattr(reference.set_params(class_weight="balanced").fit(x, y), name)
                                 for name in ("coef_", "intercept_")))


def test_class_weights_are_sample_weights():
    """In networks, with rows held out, in partial_fit; a class of weight 0 is left out, and stays a class."""
    x, y = classes(3)
    s = np.array([2.0, 0.5, 1.0])[y]
    given = {0: 2.0, 1: 0.5}
    for options in ({}, {"early_stopping": True}, {"batch_size": 64}):
        assert np.allclose(learned(few(x, y, None, MLPClassifier, class_weight=given, **options)),
                           learned(few(x, y, s, MLPClassifier, **options)), rtol=1e-12, atol=1e-14)
    one, two = (LogisticRegression(random_state=0, class_weight=w, batch_size=50) for w in (given, None))
    for rows in (slice(0, 100), slice(100, 101), slice(101, 300)):
        one.partial_fit(x[rows], y[rows], [0, 1, 2])
        two.partial_fit(x[rows], y[rows], [0, 1, 2], s[rows])
    assert_identical(learned(one), learned(two))
    none = few(x, y, None, LogisticRegression, class_weight={2: 0.0}, max_iter=100)
    assert none.classes_.tolist() == [0, 1, 2]
    assert set(none.predict(x)) == {0, 1}


# Several labels a row

def labelled():
    x, y = make_multilabel_classification(200, 8, n_classes=4, n_labels=2, random_state=0)
    return scale(x), y


def test_labels_are_problems_of_their_own():
    """Each column is scikit-learn's logistic regression of it."""
    x, y = labelled()
    s = np.random.default_rng(0).uniform(0.5, 2, 200)
    model = LogisticRegression(alpha=0.02, **EXACT).fit(x, y, s)
    reference = multioutput.MultiOutputClassifier(linear_model.LogisticRegression(
        C=1/(0.02*s.sum()), tol=1e-10, max_iter=10_000)).fit(x, y, s)
    parts = reference.estimators_
    assert_near(model, np.concatenate([part.coef_ for part in parts]), np.ravel([part.intercept_ for part in parts]))
    assert (model.predict(x) == reference.predict(x)).all()
    assert np.abs(model.predict_proba(x) - np.stack([p[:, 1] for p in reference.predict_proba(x)], axis=1)).max() < NEAR
    assert np.allclose(np.exp(model.predict_log_proba(x)), model.predict_proba(x), rtol=1e-15, atol=0)
    assert np.allclose(model.decision_function(x), np.stack([p.decision_function(x) for p in parts], axis=1), atol=1e-4)
    assert model.score(x, y) == (model.predict(x) == y).all(axis=1).mean()
    assert model.classes_.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("kind", [LogisticRegression, MLPClassifier])
def test_labels_sparse_as_lists_in_parts_and_held_out(kind):
    x, y = labelled()
    model = few(x, y, None, kind, batch_size=50)
    for given in (y.tolist(), list(y), y.astype(bool), y.astype(float), sparse.csr_array(y), sparse.csc_matrix(y)):
        twin = few(x, given, None, kind, batch_size=50)
        assert_identical(learned(twin), learned(model))
        assert (twin.predict(x).dtype, twin.predict(x).shape) == (np.dtype(np.intp), y.shape)
    parts = kind(random_state=0, batch_size=50)
    for k in range(3):
        parts.partial_fit(x, y, classes=[0, 1, 2, 3] if k else None)
    assert_identical(learned(parts), learned(model))
    early = kind(early_stopping=True, random_state=0, learning_rate=0.05, max_iter=30, tol=None).fit(x, y)
    assert early.best_validation_score_ == max(early.validation_scores_) > 0.3
    none = few(x, np.column_stack([y[:, :2], np.zeros(200, int)]), None, kind, max_iter=40)  # a label that never is
    assert (none.predict(x)[:, 2] == 0).all()


def test_errors_of_labels_and_class_weights():
    x, y = classes(3)
    labels = np.eye(3, dtype=int)[y]
    for options, targets, says in (
            ({"class_weight": {0: 1, 5: 2}}, y, r"class_weight has 5, but only labels of y are needed, \[0, 1, 2\]"),
            ({"class_weight": {0: -1}}, y, r"class_weight\[0\] is -1, but a finite number, 0 or more, is needed"),
            ({"class_weight": "even"}, y, "class_weight is 'even', but a dict or 'balanced' or None is needed. Chang"),
            ({"class_weight": dict.fromkeys(range(3), 0.0)}, y, "all sample weights are 0, but one above is needed"),
            ({"class_weight": "balanced"}, labels, "class_weight is 'balanced', but None is needed where rows have se"),
            ({}, 2*labels + 1, "y has 3 columns of classes, but one is needed, or columns of 0 and 1 for labels"),
            ({}, x[:, 0], "Unknown label type: continuous")):
        with pytest.raises(ValueError, match=says):
            LogisticRegression(**options).fit(x, targets)
