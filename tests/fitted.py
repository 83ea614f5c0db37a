"""What the tests of estimators share: data, short trainings, and what was learned."""
import numpy as np

from fastopt import sklearn

LinearRegression, LogisticRegression, MLPClassifier, MLPRegressor = ALL = [getattr(sklearn, k) for k in sklearn.__all__]
EXACT = {"batch_size": None, "tol": 1e-15, "n_iter_no_change": 50, "max_iter": 20_000}  # until the loss falls no more
NEAR = 1e-6  # of the largest coefficient; 2e-7 was the most that was found


def classes(n):
    """Well conditioned features, and n classes that overlap."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 6))
    return x, (x @ rng.normal(size=(6, n)) + rng.gumbel(size=(300, n))).argmax(axis=1)


def assert_near(model, coef, intercept):
    coef, intercept = np.asarray(coef), np.asarray(intercept)
    assert (model.coef_.shape, np.shape(model.intercept_)) == (coef.shape, intercept.shape)
    assert np.abs(model.coef_ - coef).max() < NEAR*np.abs(coef).max()
    assert np.abs(model.intercept_ - intercept).max() <= NEAR*max(np.abs(intercept).max(), np.abs(coef).max())


def learned(model):
    """All that was learned, as one array."""
    arrays = [model.coef_, model.intercept_] if hasattr(model, "coef_") else [*model.coefs_, *model.intercepts_]
    return np.concatenate([np.ravel(a) for a in arrays])


def few(x, y, s=None, kind=LinearRegression, **options):
    """A model that was trained for a few epochs."""
    return kind(**{"max_iter": 3, "tol": None, "random_state": 0, **options}).fit(x, y, s)
