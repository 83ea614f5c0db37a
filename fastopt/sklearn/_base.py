"""What the four estimators share: `fit` and `partial_fit`; targets and scores by what they predict."""
import copy
import math
from typing import Any, ClassVar

import numpy as np

from .. import networks
from .._checks.extras import missing
from .._checks.numbers import NONNEGATIVE, check_number
from .._checks.warning import warn
from .._rule.rule import importable
from .._training.fit import Fit
from ._fit import CURE, INITIALIZERS, Run, check
from ._targets import Data, Task, r2, standard

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, MultiOutputMixin, RegressorMixin
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.model_selection import train_test_split
    from sklearn.utils import check_random_state
    from sklearn.utils.multiclass import check_classification_targets, type_of_target
    from sklearn.utils.validation import _check_sample_weight, check_is_fitted, column_or_1d, validate_data
except ImportError as error:
    raise missing("fastopt.sklearn", error, "sklearn") from None


class Estimator(BaseEstimator):
    """What the four share. `_encode` and `_score` differ by the targets, `_store` and `_network` by the network."""

    hidden_layer_sizes: Any = ()  # this and what follows is for linear models: their minimum depends on no seed
    activation, fit_intercept, l1 = "identity", True, 0.0
    _live: Any = None  # neither copied nor pickled
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
        return {name: value for name, value in super().__getstate__().items() if name != "_live"}

    def __copy__(self) -> Any:  # this and __deepcopy__ need no name: they do without __getstate__
        new = type(self).__new__(type(self))
        new.__dict__.update({name: value for name, value in self.__dict__.items() if name != "_live"})
        return new

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        memo[id(self)] = new = copy.copy(self)
        new.__dict__.update(copy.deepcopy(new.__dict__, memo))
        return new

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """Train from the start, or with `warm_start` from the weights that are there.

        Parameters
        ----------
        X : array, or sparse array of SciPy, of shape (samples, features)
            float32 is trained on in float32, all else in float64. What is sparse stays so.
        y : array of shape (samples,), or (samples, columns)
            Class labels, or a column of 0 and 1 for each label that a row may have; numbers, of one target or several.
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
        return self._learn(X, y, sample_weight)

    def _learn(self, X: Any, y: Any, sample_weight: Any, more: bool = False, classes: Any = None) -> Any:
        """`fit`, or where there is `more` to come `partial_fit`."""
        check(self)
        where = type(self).__name__
        if more and self.early_stopping:
            raise ValueError(f"{where}: early_stopping is True, but False is needed for partial_fit, which holds no "
                             "rows out. Change it.")
        kept = getattr(self, "_kept", None) if more or self.warm_start else None
        X, y = validate_data(self, X, y, accept_sparse="csr", dtype=(np.float64, np.float32), multi_output=True,
                             reset=kept is None, **self._y_checks)
        s = None
        if sample_weight is not None:
            s = self._some(_check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True))
        task, s = self._encode(y, s if s is None or more else s/s.max(), kept, more, classes)
        task.check(where, X.dtype)
        data, held = Data(X, task.y, s), None
        if s is not None:
            data = data.rows(self._some(s) > 0)
        random = check_random_state(self.random_state)
        if self.early_stopping:
            data, held = self._hold_out(data, random)
        seed, other = random.randint(2**31 - 1, size=(2, 4))
        rng, sizes = np.random.default_rng(other), [X.shape[1], *map(int, np.ravel(self.hidden_layer_sizes)),
                                                    task.outputs]
        if kept is None:
            draw = self.initializer if callable(self.initializer) else INITIALIZERS[self.initializer]
            params = networks.initial(sizes, np.random.default_rng(seed), draw, X.dtype)
        else:
            params = self._going_on(kept, task, sizes)
            if more:
                rng.bit_generator.state = kept["rng"]
        run = Run(self, data, held, task, params, rng, more)
        live, self._live = self._live, None  # a training that fails leaves none
        done = run.train(kept if more else None, live)
        self._store(run.result())
        self._kept = run.keep()
        self._live = run.live(self._kept)
        self._tell(run, done, more)
        return self

    def _some(self, s: np.ndarray) -> np.ndarray:
        if not s.any():
            raise ValueError(f"{type(self).__name__}: all sample weights are 0, but one above is needed. Change "
                             "sample_weight.")
        return s

    def _going_on(self, kept: dict[str, Any], task: Task, sizes: list[int]) -> networks.Parameters:
        """The network to go on from: as it was trained, or what has been written into the weights since."""
        now, params = self._network(), kept["params"]
        have = [len(now["W1"]), *(len(a) for name, a in now.items() if name[0] == "b")]
        if have != sizes:
            raise ValueError(f"{type(self).__name__}: layers of the sizes {sizes} are asked for, but there are {have} "
                             "from the training before. Change hidden_layer_sizes or y, or take a new model.")
        given = task.outward(params, self.l1)
        same = all(np.array_equal(a, now[name]) for name, a in given.items())
        return {name: a.copy() for name, a in params.items()} if same else task.inward(now)

    def _hold_out(self, data: Data, random: np.random.RandomState) -> tuple[Data, Data]:
        """Rows to train on and rows to validate with, the classes in proportion."""
        stratify = data.y if isinstance(self, ClassifierMixin) and data.y.ndim == 1 else None
        rows = train_test_split(np.arange(len(data.y)), test_size=self.validation_fraction, random_state=random,
                                stratify=stratify)
        if len(rows[1]) < 2:
            raise ValueError(f"{type(self).__name__}: {len(rows[1])} row to validate with, but 2 are needed. Raise "
                             "validation_fraction.")
        return data.rows(rows[0]), data.rows(rows[1])

    def _tell(self, run: Run, done: Fit, more: bool) -> None:
        """Set what scikit-learn's estimators say about a run, and warn."""
        held, curve = run.held is not None, run.curve
        self.loss_curve_, self.n_iter_ = curve, len(curve)
        self.loss_, lowest = curve[-1] if curve else math.nan, min(curve, default=math.nan)
        self.best_loss_ = None if held else lowest
        self.validation_scores_ = run.scores if held else None
        self.best_validation_score_ = -done.best_value if held and done.best_value is not None else None
        if more and done.stopped == "steps":
            return
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
            warn(f"{type(self).__name__}: {said}", kind)

    def _outputs(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        X = validate_data(self, X, accept_sparse="csr", dtype=(np.float64, np.float32), reset=False)
        return networks.forward(self._network(), X, self.activation)[-1]


class Regressor(MultiOutputMixin, RegressorMixin):
    _y_checks: ClassVar[dict[str, Any]] = {"y_numeric": True}

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """One epoch more over these rows: weights, solver and step count go on from where the last training ended.

        The first call, or `fit` before it, sets the mean and deviation by which targets are standardised. Weights of
        rows multiply their losses: their mean should be near 1. Arguments and errors are those of `fit`.
        """
        return self._learn(X, y, sample_weight, more=True)  # type: ignore[attr-defined]

    def _encode(self, y: Any, s: np.ndarray | None, kept: Any, more: bool, classes: Any) -> tuple[Task, Any]:
        """Targets of mean 0 and variance 1, each, so that learning_rate and tol suit every unit."""
        t = (y.toarray() if hasattr(y, "tocsr") else y).reshape(y.shape[0], -1).astype(np.float64)
        if kept is None:
            self._flat = y.ndim == 1
            mean, scale = standard(t, s, self.fit_intercept)
        else:
            mean, scale = kept["mean"], kept["scale"]
        if t.shape[1] == len(mean):  # else `_going_on` says the error
            with np.errstate(all="ignore"):  # rows that weigh 0, and units that `Task.check` refuses
                t = (t - mean)/scale
        return Task(t, t.shape[1], "squared", scale, mean), s

    def _score(self, outputs: np.ndarray, held: Data) -> float:
        return r2(held.y, outputs, held.s)

    def predict(self, X: Any) -> np.ndarray:
        """The targets expected, of shape (samples,) or (samples, targets), as they were in `fit`."""
        outputs = self._outputs(X)
        return outputs[:, 0] if self._flat else outputs


class Classifier(ClassifierMixin):
    _y_checks: ClassVar[dict[str, Any]] = {}
    _flat = False
    classes_: np.ndarray
    _several: bool

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Any:
        """One epoch more over these rows: weights, solver and step count go on from where the last training ended.

        `classes` are all labels that will ever come: the first call needs them, unless `fit` came before it, or y has a
        column for each label. Weights of rows, and `class_weight`, multiply the losses: their mean should be near 1.
        Other arguments and errors are those of `fit`.
        """
        return self._learn(X, y, sample_weight, True, classes)  # type: ignore[attr-defined]

    def _encode(self, y: Any, s: np.ndarray | None, kept: Any, more: bool, classes: Any) -> tuple[Task, Any]:
        """Numbers for classes; sample weights with those of the classes in them."""
        where, kind = type(self).__name__, type_of_target(y)
        check_classification_targets(y)
        several = kind in ("multilabel-indicator", "multiclass-multioutput")
        if several:
            codes = y.toarray() if hasattr(y, "tocsr") else y
            if not ((codes == 0) | (codes == 1)).all():
                raise ValueError(f"{where}: y has {y.shape[1]} columns of classes, but one is needed, or columns of 0 "
                                 "and 1 for labels. Fit a model for each column.")
            codes, found = codes.astype(np.intp), np.arange(codes.shape[1])
        else:
            y = column_or_1d(y, warn=True)
            found = np.unique(y)
        if kept is None:
            if more and classes is None and not several:
                raise ValueError(f"{where}: no classes, but the first partial_fit needs all that will ever come. Give "
                                 "classes=numpy.unique(y).")
            known = found if classes is None else np.unique(classes)
        else:
            known = self.classes_
        for name, labels, whole in ("classes", classes, True), ("y", found, several or not more):
            if labels is None:
                continue
            fits = np.array_equal(np.unique(labels), known) if whole else np.isin(labels, known).all()
            if not fits or (kept is not None and several != self._several):
                raise ValueError(f"{where}: {name} has the labels {np.unique(labels)}, but those of the training "
                                 f"before, or of classes, {known}, are needed. Change {name}, or take a new model.")
        if len(known) < 2:
            raise ValueError(f"{where}: only one class, {known[0]!r}, but samples of two are needed. Change y.")
        self.classes_, self._several = known, several
        codes = codes if several else np.searchsorted(known, y)
        outputs = 1 if len(known) == 2 and not several else len(known)
        return (Task(codes, outputs, "logistic" if several or outputs == 1 else "softmax"),
                s if self.class_weight is None else self._weights(codes, s, more))

    def _weights(self, codes: np.ndarray, s: np.ndarray | None, more: bool) -> np.ndarray:
        """Sample weights times those of the classes."""
        where, given, names = type(self).__name__, self.class_weight, self.classes_.tolist()
        if self._several or (more and given == "balanced"):
            raise ValueError(f"{where}: class_weight is {given!r}, but None is needed where rows have several labels, "
                             "and None or a dict for partial_fit. Give sample_weight instead.")
        s = np.ones(len(codes)) if s is None else s
        if given == "balanced":
            totals = np.bincount(codes, s, len(names))
            shares = s.sum()/np.where(totals > 0, totals, 1)/len(names)
        else:
            if unknown := [label for label in given if label not in names]:
                raise ValueError(f"{where}: class_weight has {unknown[0]!r}, but only labels of y are needed, {names}. "
                                 "Change class_weight.")
            shares = np.array([check_number(f"class_weight[{label!r}]", given.get(label, 1), where, allowed=NONNEGATIVE)
                               for label in names])
        return s*shares[codes]

    def _score(self, outputs: np.ndarray, held: Data) -> float:
        right = held.y == self._codes(outputs)
        return float(np.average(right.all(axis=1) if self._several else right, weights=held.s))  # accuracy

    def _codes(self, outputs: np.ndarray) -> np.ndarray:
        single = outputs.shape[1] == 1
        if single or self._several:
            return ((outputs[:, 0] if single else outputs) > 0).astype(np.intp)
        return outputs.argmax(axis=1)

    def predict(self, X: Any) -> np.ndarray:
        """The most probable class of each sample; or 1 for each label of probability above 1/2."""
        codes = self._codes(self._outputs(X))  # which says first that a model is not fitted
        return codes if self._several else self.classes_[codes]

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
        if self._several:
            return -np.logaddexp(0, -outputs)
        return networks.log_softmax(np.hstack([np.zeros_like(outputs), outputs]) if outputs.shape[1] == 1 else outputs)
