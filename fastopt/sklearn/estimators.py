"""The four estimators; what they share is in `_base`."""
from typing import Any

import numpy as np

from .. import networks
from ._base import Classifier, Estimator, Regressor


class _Linear(Estimator):
    def __init__(self, *, solver="nesterov", learning_rate="auto", momentum=None, alpha=0.0, l1=0.0,
                 fit_intercept=True, batch_size=None, max_iter=10_000, shuffle=True, random_state=None, tol=1e-8,
                 n_iter_no_change="auto", early_stopping=False, validation_fraction=0.1, warm_start=False,
                 verbose=False, solver_options=None):
        self._keep(locals())

    def _store(self, params: networks.Parameters) -> None:
        coef, intercept = np.ascontiguousarray(params["W1"].T), params["b1"]
        self.coef_: Any = coef[0] if self._flat else coef
        self.intercept_: Any = intercept[0] if self._flat else intercept

    def _network(self) -> networks.Parameters:
        return {"W1": np.atleast_2d(self.coef_).T, "b1": np.atleast_1d(self.intercept_)}


class _MLP(Estimator):
    def __init__(self, hidden_layer_sizes=(100,), activation="relu", *, solver="adam", learning_rate=0.001,
                 momentum=None, alpha=1e-4, batch_size="auto", max_iter=200, initializer="glorot_uniform", shuffle=True,
                 random_state=None, tol=1e-4, n_iter_no_change="auto", early_stopping=False, validation_fraction=0.1,
                 warm_start=False, verbose=False, solver_options=None):
        self._keep(locals())

    def _store(self, params: networks.Parameters) -> None:
        self.coefs_, self.intercepts_ = ([a for name, a in params.items() if name[0] == kind] for kind in "Wb")

    def _network(self) -> networks.Parameters:
        kinds = {"W": self.coefs_, "b": self.intercepts_}
        return {f"{kind}{k}": a for kind, arrays in kinds.items() for k, a in enumerate(arrays, start=1)}


class LinearRegression(Regressor, _Linear):
    """Least squares, ridge, lasso and elastic net: z = X @ coef_.T + intercept_.

    Minimises mean((y - z)^2)/2 + alpha/2*sum(coef_^2) + l1*sum(abs(coef_)), all in y's units, the mean over rows
    weighted by `sample_weight`. scikit-learn's `Ridge(a)` has alpha = a/samples, `Lasso(a)` has l1 = a,
    `ElasticNet(a, l1_ratio=r)` has l1 = a*r, alpha = a*(1 - r).

    Parameters
    ----------
    solver : str, optimizer class or rule
        A name ("adam", "nesterov", "lion", ...; see `fastopt.optimizers.ALL`), a class such as `fastopt.Adam`, or your
        own rule, made by `fastopt.rule`. To be pickled, rules and classes of your own must be at a module's top level.
    learning_rate : "auto", float, function of the step, or None
        A function gets t = 1, 2, ...; an epoch has ceil(samples/batch_size) steps. None is the solver's own default.
        "auto" is 0.02 for Adam and its relatives, which move a weight by about that much in a step. For gradient
        descent ("sgd", "momentum", "nesterov") "auto" is one over the largest curvature that the loss can have, for
        features of any unit; in batches and in `partial_fit` a tenth of that. A `ReduceOnPlateau` observes the loss of
        each epoch.
    momentum : float or function of the step, optional
        For the solvers "momentum" and "nesterov"; an error for others. None is the solver's default. For "nesterov"
        with "auto" and all rows in a batch, None is (k - 1)/(k + 2) in step k, counted anew when the loss rises.
    alpha : float
        Strength of the L2 penalty, which is part of the loss. Decoupled decay is the solver's: ``solver="adamw"`` with
        ``solver_options={"weight_decay": 0.1}`` (by default 0.01). Intercepts are neither penalised nor decayed.
    l1 : float
        Strength of the L1 penalty. Weights become exactly 0, with every solver.
    fit_intercept : bool
        Whether there are intercepts. False: they are 0.
    batch_size : int, "auto" or None
        The most rows in a step. All batches of an epoch have one size, give or take a row. "auto" is 200. None is all
        rows, for an exact minimum.
    max_iter : int
        The most epochs.
    shuffle : bool
        Draw the batches of each epoch anew.
    random_state : int, RandomState or None
        For initial weights, batches and rows held out. A seed gives the same bits with any number of threads.
    tol, n_iter_no_change : float or None, int or "auto"
        Stop after so many epochs in a row whose loss is not below the lowest before them by more than tol; with None
        never. "auto" is 10, or as many as have 150 steps. Where an epoch has several steps, noise keeps the weights off
        the minimum unless the rate falls: try "adam" and ``ReduceOnPlateau(0.02, factor=0.3, patience=4)`` with 20
        epochs here, or all rows in a batch.
    early_stopping, validation_fraction : bool, float
        Hold out a part of the rows, watch the score there (R^2, accuracy) instead of the loss, and keep the weights of
        the best epoch. A later divergence is then a warning; else it is an error.
    warm_start : bool
        `fit` begins at the weights that are there, from a `fit` or `partial_fit` before it, with a new solver. The mean
        and deviation of the targets stay those of the first training.
    verbose : bool or int
        Print the loss of each epoch, in scikit-learn's words.
    solver_options : dict, optional
        More of what the solver takes: {"b2": 0.99}, {"like": "torch"}, {"threads": 1}.

    Attributes
    ----------
    coef_ : array
        The weights, of shape (features,), or (targets, features) for y of two dimensions.
    intercept_ : float, or array of shape (targets,)
        The intercept of each target.
    n_iter_ : int
        The epochs done.
    loss_curve_ : list of float
        The mean loss of each epoch, penalties included, as the steps saw it. For regression it is the sum over the
        targets of the loss over the target's variance. `loss_` is the last, `best_loss_` the lowest.
    validation_scores_ : list of float, or None
        The score of each epoch on the rows held out; None without `early_stopping`. `best_validation_score_` is the
        highest.
    n_features_in_, feature_names_in_
        As everywhere in scikit-learn.

    Notes
    -----
    Trained on (y - mean)/deviation, with l1/deviation, for each target: the minimum is the same, and one learning_rate
    and tol suit all units. W starts at 0. At the default settings, and for features that are standardised, minima are
    at least as exact as those of scikit-learn's `LogisticRegression`, `Lasso` and `ElasticNet` at theirs
    (tests/test_sklearn.py). For features of other sizes lower tol, to 1e-12 for example.
    """


class LogisticRegression(Classifier, _Linear):
    """Logistic regression of two classes, softmax regression of more: z = X @ coef_.T + intercept_.

    Minimises mean(-log(probability of y)) + alpha/2*sum(coef_^2) + l1*sum(abs(coef_)), the mean over rows weighted by
    `sample_weight`. scikit-learn's `LogisticRegression(C=c)` has alpha = 1/(c*samples), or l1 = 1/(c*samples) with its
    L1 penalty.

    For rows with any number of labels, y has a column of 0 and 1 for each: then each column is a problem of two classes
    of its own, and the losses are summed.

    All other parameters (but alpha is 0.001) and attributes are those of `LinearRegression`.

    Parameters
    ----------
    class_weight : dict, "balanced" or None
        Weights of labels, {label: weight}, which multiply those of their rows; 1 unless told. "balanced": all classes
        weigh as much.

    Attributes
    ----------
    classes_ : array
        The sorted labels; of columns their numbers. coef_ has the shape (classes, features), intercept_ (classes,); of
        two classes there is one row, for the second. Of more, without l1, the rows of coef_ sum to 0.
    """

    def __init__(self, *, solver="nesterov", learning_rate="auto", momentum=None, alpha=1e-3, l1=0.0,
                 fit_intercept=True, batch_size=None, max_iter=10_000, shuffle=True, random_state=None, tol=1e-8,
                 n_iter_no_change="auto", early_stopping=False, validation_fraction=0.1, warm_start=False,
                 class_weight=None, verbose=False, solver_options=None):
        self._keep(locals())


class MLPRegressor(Regressor, _MLP):
    """A multilayer perceptron for numbers: z = activation(...activation(X @ W1 + b1)...) @ Wk + bk.

    Minimises mean(sum over targets of (y - z)^2)/2 + alpha/2*sum(W^2), for (y - mean)/deviation of each target in place
    of y. The last layer gives y in its own units. scikit-learn's alpha is ours times the batch size.

    Parameters
    ----------
    hidden_layer_sizes : int or list of int
        Widths of the hidden layers.
    activation : "relu", "tanh", "logistic" or "identity"
        Of the hidden layers.
    initializer : str or callable
        The name of a function in `fastopt.init`, "glorot_uniform", "he_normal", ..., or one with its arguments.
        Intercepts start at 0.
    learning_rate
        A number, function or None: "auto" is for linear models. 0.001 is for Adam and its relatives. Good on
        scikit-learn's digits: 0.1 for "sgd", 0.02 for "momentum" and "nesterov", 0.001 for "rmsprop", 0.01 for
        "adagrad", 0.0003 for "lion".

    All others are those of `LinearRegression`, except for l1 and fit_intercept, which are not here. Batches are of 200
    rows unless told.

    Attributes
    ----------
    coefs_, intercepts_ : lists of arrays
        W1 of shape (features, width), W2, ...; b1 of shape (width,), b2, ...

    All others are those of `LinearRegression`, except for coef_ and intercept_.
    """


class MLPClassifier(Classifier, _MLP):
    """A multilayer perceptron for classes: softmax of its outputs, or of two classes the logistic of one output.

    Minimises mean(-log(probability of y)) + alpha/2*sum(W^2), the mean over rows weighted by `sample_weight`.

    Parameters and attributes are those of `MLPRegressor`, and `class_weight` and `classes_`, see `LogisticRegression`.
    """

    def __init__(self, hidden_layer_sizes=(100,), activation="relu", *, solver="adam", learning_rate=0.001,
                 momentum=None, alpha=1e-4, batch_size="auto", max_iter=200, initializer="glorot_uniform", shuffle=True,
                 random_state=None, tol=1e-4, n_iter_no_change="auto", early_stopping=False, validation_fraction=0.1,
                 warm_start=False, class_weight=None, verbose=False, solver_options=None):
        self._keep(locals())
