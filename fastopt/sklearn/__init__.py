"""scikit-learn estimators whose solver is any optimizer of fastopt: linear and logistic regression, perceptrons.

>>> model = make_pipeline(StandardScaler(), fastopt.sklearn.LogisticRegression())
>>> grid = {"logisticregression__solver": ["adam", "lion"], "logisticregression__alpha": [1e-4, 1e-2]}
>>> GridSearchCV(model, grid).fit(X, y)

All minimise, in batches, over the weights W and intercepts b of a network with the outputs z,

    sum_i(s_i*loss(z_i, y_i)) + alpha/2*sum(W^2) + l1*sum(abs(W)),  s_i = sample_weight_i/sum(sample_weight)

For regression the loss is (z - y)^2/2, summed over the targets. For classification it is cross-entropy; with two
classes that of the logistic of one output. The defaults are for features of mean 0 and variance 1: put a StandardScaler
before.
"""
from .estimators import LinearRegression, LogisticRegression, MLPClassifier, MLPRegressor

__all__ = ["LinearRegression", "LogisticRegression", "MLPClassifier", "MLPRegressor"]
