"""The four estimators; what they share is in `_fit`."""
import copy
import math
import warnings
from typing import Any, ClassVar

import numpy as np

from .. import networks
from .._checks.extras import missing
from .._rule.rule import importable
from .._training.fit import Fit
from ._fit import CURE, INITIALIZERS, Data, Run, Task, check, r2, standard

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, MultiOutputMixin, RegressorMixin
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.model_selection import train_test_split
    from sklearn.utils import check_random_state
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data
except ImportError as error:
    raise missing("fastopt.sklearn", error, "sklearn") from None


class _Estimator(BaseEstimator):
    """What the four share. `_encode` and `_score` differ by the targets, `_store` and `_network` by the network."""

    hidden_layer_sizes: Any = ()  # this and what follows is for linear models: their minimum depends on no seed
    activation, fit_intercept, l1 = "identity", True, 0.0
    initializer = staticmethod(lambda shape, rng, dtype: np.zeros(shape, dtype))

    def _keep(self, given: dict[str, Any]) -> None:
        """Set the arguments of __init__ as they are; scikit-learn wants them checked in fit."""
        self.__dict__.update({name: value for name, value in given.items() if name != "self"})

    def __getstate__(self) -> dict[str, Any]:
        """For pickle, and so for other processes: a rule or class of one's own goes by its name."""
        kind: Any = self.solver  # type: ignore[attr-defined]
        if hasattr(kind, "__qualname__") and not importable(kind):
            raise TypeError(f"{type(self).__name__}: the solver {kind.__name__} is not found as {kind.__module__}."
                            f"{kind.__qualname__}, but pickle and other processes import it by that name. Define it at "
                            f"the top level of a module, as {kind.__name__}.")
        return super().__getstate__()

    def __copy__(self) -> Any:  # this and __deepcopy__ need no name: they do without __getstate__
        new = type(self).__new__(type(self))
        new.__dict__.update(self.__dict__)
        return new

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        memo[id(self)] = new = copy.copy(self)
        new.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return new

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """Train from the start.

        Parameters
        ----------
        X : array of shape (samples, features)
            float32 is trained on in float32, all else in float64.
        y : array of shape (samples,)
            Class labels, or numbers (also of shape (samples, targets)).
        sample_weight : array of shape (samples,), optional
            Finite, 0 or more: 0 is as good as no row; 2 as good as the row twice, where one batch holds all.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            For parameters out of range, data that scikit-learn refuses, and a loss that is infinite or NaN.

        Warns
        -----
        ConvergenceWarning
            If `max_iter` epochs ended before `tol` stopped it, or the last loss is a tenth and 10*tol above the lowest.
        """
        check(self)
        where = type(self).__name__
        X, y = validate_data(self, X, y, dtype=(np.float64, np.float32), **self._y_checks)
        s = sample_weight
        if s is not None:
            s = _check_sample_weight(s, X, dtype=np.float64, ensure_non_negative=True)
            if not s.any():
                raise ValueError(f"{where}: all sample weights are 0, but one above is needed. Change sample_weight.")
            s = s/s.max()
        task = self._encode(y, s)
        task.check(where, X.dtype)
        data, held = Data(X, task.y, s), None
        data = data if s is None else data.rows(s > 0)
        random = check_random_state(self.random_state)
        if self.early_stopping:
            data, held = self._hold_out(data, random)
        seed, other = random.randint(2**31 - 1, size=(2, 4))
        draw = self.initializer if callable(self.initializer) else INITIALIZERS[self.initializer]
        sizes = [X.shape[1], *np.ravel(self.hidden_layer_sizes).astype(int), task.outputs]
        run = Run(self, data, held, task, networks.initial(sizes, np.random.default_rng(seed), draw, X.dtype), other)
        done = run.train()
        self._store(run.result())
        self._tell(run, done)
        return self

    def _hold_out(self, data: Data, random: np.random.RandomState) -> tuple[Data, Data]:
        """Rows to train on and rows to validate with, the classes in proportion."""
        stratify = data.y if isinstance(self, ClassifierMixin) else None
        rows = train_test_split(np.arange(len(data.x)), test_size=self.validation_fraction, random_state=random,
                                stratify=stratify)
        if len(rows[1]) < 2:
            raise ValueError(f"{type(self).__name__}: {len(rows[1])} row to validate with, but 2 are needed. Raise "
                             "validation_fraction.")
        return data.rows(rows[0]), data.rows(rows[1])

    def _tell(self, run: Run, done: Fit) -> None:
        """Set what scikit-learn's estimators say about a run, and warn."""
        held, curve = run.held is not None, run.curve
        self.loss_curve_, self.n_iter_ = curve, len(curve)
        self.loss_, lowest = curve[-1] if curve else math.nan, min(curve, default=math.nan)
        self.best_loss_ = None if held else lowest
        self.validation_scores_ = run.scores if held else None
        self.best_validation_score_ = -done.best_value if held and done.best_value is not None else None
        said, kind = "", ConvergenceWarning
        if done.stopped == "interrupted":
            said, kind = f"training was interrupted after {self.n_iter_} epochs.", UserWarning
        elif done.stopped == "error":
            said = (f"the loss is not finite in epoch {self.n_iter_ + 1}. The weights are those of the best epoch "
                    f"before. {CURE}")
        elif not held and self.loss_ > 1.1*curve[0]:  # a stop where nothing improves any more comes then, too
            said = f"the loss rose from {curve[0]:g} in the first epoch to {self.loss_:g} in the last. {CURE}"
        elif done.stopped != "patience" and self.tol is not None:
            said = (f"{self.max_iter} epochs ended before the {'score' if held else 'loss'} stopped improving by more "
                    f"than tol={self.tol:g}. Raise max_iter or learning_rate.")
        elif not held and self.tol is not None and self.loss_ - lowest > max(10*self.tol, 0.1*lowest):
            said = (f"the loss was {lowest:g} in the best epoch, and is {self.loss_:g} in the last. Raise "
                    "n_iter_no_change, or lower learning_rate.")
        if said:
            warnings.warn(f"{type(self).__name__}: {said}", kind, stacklevel=3)

    def _outputs(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        X = validate_data(self, X, dtype=(np.float64, np.float32), reset=False)
        return networks.forward(self._network(), X, self.activation)[-1]


class _Regressor(MultiOutputMixin, RegressorMixin):
    _y_checks: ClassVar[dict[str, Any]] = {"multi_output": True, "y_numeric": True}

    def _encode(self, y: np.ndarray, s: np.ndarray | None) -> Task:
        """Targets of mean 0 and variance 1, each, so that learning_rate and tol suit every unit."""
        self._flat = y.ndim == 1
        t, mean, scale = standard(y.reshape(len(y), -1).astype(np.float64), s, self.fit_intercept)
        return Task(t, t.shape[1], "squared", scale, mean)

    def _score(self, outputs: np.ndarray, held: Data) -> float:
        return r2(held.y, outputs, held.s)

    def predict(self, X: Any) -> np.ndarray:
        """The targets expected, of shape (samples,) or (samples, targets), as they were in `fit`."""
        outputs = self._outputs(X)
        return outputs[:, 0] if self._flat else outputs


class _Classifier(ClassifierMixin):
    _y_checks: ClassVar[dict[str, Any]] = {}
    _flat = False

    def _encode(self, y: np.ndarray, s: np.ndarray | None) -> Task:
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"{type(self).__name__}: only one class, {self.classes_[0]!r}, but samples of two are "
                             "needed. Change y.")
        return Task(codes, 1, "logistic") if len(self.classes_) == 2 else Task(codes, len(self.classes_), "softmax")

    def _score(self, outputs: np.ndarray, held: Data) -> float:
        return float(np.average(held.y == self._codes(outputs), weights=held.s))  # accuracy

    def _codes(self, outputs: np.ndarray) -> np.ndarray:
        return (outputs[:, 0] > 0).astype(np.intp) if outputs.shape[1] == 1 else outputs.argmax(axis=1)

    def predict(self, X: Any) -> np.ndarray:
        """The most probable class of each sample."""
        codes = self._codes(self._outputs(X))  # which says first that a model is not fitted
        return self.classes_[codes]

    def decision_function(self, X: Any) -> np.ndarray:
        """Outputs before softmax, of shape (samples, classes); of two classes: before the logistic, (samples,)."""
        outputs = self._outputs(X)
        return outputs[:, 0] if outputs.shape[1] == 1 else outputs

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities, of shape (samples, classes), in the order of `classes_`."""
        return np.exp(self.predict_log_proba(X))

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Logarithms of the probabilities, exact where these are too small for a float."""
        outputs = self._outputs(X)
        return networks.log_softmax(np.hstack([np.zeros_like(outputs), outputs]) if outputs.shape[1] == 1 else outputs)


class _Linear(_Estimator):
    def __init__(self, *, solver="adam", learning_rate=0.02, momentum=None, alpha=0.0, l1=0.0, fit_intercept=True,
                 batch_size="auto", max_iter=2000, shuffle=True, random_state=None, tol=1e-5, n_iter_no_change="auto",
                 early_stopping=False, validation_fraction=0.1, solver_options=None):
        self._keep(locals())

    def _store(self, params: networks.Parameters) -> None:
        coef, intercept = np.ascontiguousarray(params["W1"].T), params["b1"]
        self.coef_: Any = coef[0] if self._flat else coef
        self.intercept_: Any = intercept[0] if self._flat else intercept

    def _network(self) -> networks.Parameters:
        return {"W1": np.atleast_2d(self.coef_).T, "b1": np.atleast_1d(self.intercept_)}


class _MLP(_Estimator):
    def __init__(self, hidden_layer_sizes=(100,), activation="relu", *, solver="adam", learning_rate=0.001,
                 momentum=None, alpha=1e-4, batch_size="auto", max_iter=200, initializer="glorot_uniform", shuffle=True,
                 random_state=None, tol=1e-4, n_iter_no_change="auto", early_stopping=False, validation_fraction=0.1,
                 solver_options=None):
        self._keep(locals())

    def _store(self, params: networks.Parameters) -> None:
        self.coefs_, self.intercepts_ = ([a for name, a in params.items() if name[0] == kind] for kind in "Wb")

    def _network(self) -> networks.Parameters:
        kinds = {"W": self.coefs_, "b": self.intercepts_}
        return {f"{kind}{k}": a for kind, arrays in kinds.items() for k, a in enumerate(arrays, start=1)}


class LinearRegression(_Regressor, _Linear):
    """Least squares, ridge, lasso and elastic net: z = X @ coef_.T + intercept_.

    Minimises mean((y - z)^2)/2 + alpha/2*sum(coef_^2) + l1*sum(abs(coef_)), all in y's units, the mean over rows
    weighted by `sample_weight`. scikit-learn's `Ridge(a)` has alpha = a/samples, `Lasso(a)` has l1 = a,
    `ElasticNet(a, l1_ratio=r)` has l1 = a*r, alpha = a*(1 - r).

    Parameters
    ----------
    solver : str, optimizer class or rule
        A name ("adam", "nesterov", "lion", ...; see `fastopt.optimizers.ALL`), a class such as `fastopt.Adam`, or your
        own rule, made by `fastopt.rule`. To be pickled, rules and classes of your own must be at a module's top level.
    learning_rate : float, function of the step t = 1, 2, ..., or None (the solver's own default)
        An epoch has ceil(samples/batch_size) steps. Adam and its relatives move a weight by about that much in a step;
        gradient descent ("sgd", "momentum", "nesterov") wants more, 0.1 for example. A `ReduceOnPlateau` observes the
        loss of each epoch.
    momentum : float or function of the step, optional
        Of "momentum" and "nesterov"; None: the solver's default. An error where the solver has none.
    alpha : float
        Strength of the L2 penalty, which is part of the loss. Decoupled decay is the solver's: ``solver="adamw"`` with
        ``solver_options={"weight_decay": 0.1}`` (0.01 unless told). Intercepts are neither penalised nor decayed.
    l1 : float
        Strength of the L1 penalty: weights become exactly 0, with every solver.
    fit_intercept : bool
    batch_size : int, "auto" or None
        Most rows in a step. All batches of an epoch are of one size, give or take a row; "auto": 200; None: all rows.
    max_iter : int
        Most epochs.
    shuffle : bool
        Draw the batches of each epoch anew.
    random_state : int, RandomState or None
        For initial weights, batches and rows held out. A seed gives the same bits with any number of threads.
    tol, n_iter_no_change : float or None, int or "auto"
        Stop after so many epochs in a row whose loss is not below the lowest before by more than tol (None: never).
        "auto": 10, or as many as have 150 steps. Where an epoch has several steps, noise keeps the weights off the
        minimum unless the rate falls: try `ReduceOnPlateau`(0.02, factor=0.3, patience=4) with 20 epochs here, or all
        rows in a batch.
    early_stopping, validation_fraction : bool, float
        Hold out a part of the rows, watch the score there (R^2, accuracy) instead of the loss, and keep the weights of
        the best epoch. A later divergence is then a warning; else it is an error.
    solver_options : dict, optional
        More of what the solver takes: {"b2": 0.99}, {"like": "torch"}, {"threads": 1}.

    Attributes
    ----------
    coef_ : array of shape (features,), or (targets, features) for y of two dimensions
    intercept_ : float, or array of shape (targets,)
    n_iter_ : int
        Epochs done.
    loss_curve_ : list of float
        The mean loss of each epoch, penalties included, as the steps saw it; for regression over the variance of each
        target, summed. `loss_` is the last, `best_loss_` the lowest.
    validation_scores_ : list of float, or None without `early_stopping`
        `best_validation_score_` is the highest.
    n_features_in_, feature_names_in_
        As everywhere in scikit-learn.

    Notes
    -----
    Trained on (y - mean)/deviation, with l1/deviation, for each target: the minimum is the same, and one learning_rate
    and tol suit all units. W starts at 0.
    """


class LogisticRegression(_Classifier, _Linear):
    """Logistic regression of two classes, softmax regression of more: z = X @ coef_.T + intercept_.

    Minimises mean(-log(probability of y)) + alpha/2*sum(coef_^2) + l1*sum(abs(coef_)), the mean over rows weighted by
    `sample_weight`. scikit-learn's `LogisticRegression(C=c)` has alpha = 1/(c*samples), or l1 = 1/(c*samples) with its
    L1 penalty.

    Parameters (but alpha = 0.001) and attributes are those of `LinearRegression`, and `classes_`: the sorted labels.
    coef_ has the shape (classes, features), intercept_ (classes,); of two classes there is one row, for the second.
    """

    def __init__(self, *, solver="adam", learning_rate=0.02, momentum=None, alpha=1e-3, l1=0.0, fit_intercept=True,
                 batch_size="auto", max_iter=2000, shuffle=True, random_state=None, tol=1e-5, n_iter_no_change="auto",
                 early_stopping=False, validation_fraction=0.1, solver_options=None):
        self._keep(locals())


class MLPRegressor(_Regressor, _MLP):
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
        0.001 is for Adam and its relatives. Good on scikit-learn's digits: 0.1 for "sgd", 0.02 for "momentum" and
        "nesterov", 0.001 for "rmsprop", 0.01 for "adagrad", 0.0003 for "lion".

    All others are those of `LinearRegression`, except for l1 and fit_intercept, which are not here.

    Attributes
    ----------
    coefs_, intercepts_ : lists of arrays
        W1 of shape (features, width), W2, ...; b1 of shape (width,), b2, ...

    All others are those of `LinearRegression`, except for coef_ and intercept_.
    """


class MLPClassifier(_Classifier, _MLP):
    """A multilayer perceptron for classes: softmax of its outputs, or of two classes the logistic of one output.

    Minimises mean(-log(probability of y)) + alpha/2*sum(W^2), the mean over rows weighted by `sample_weight`.

    Parameters and attributes are those of `MLPRegressor`, and `classes_`: the sorted labels.
    """
