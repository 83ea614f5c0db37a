"""Multilayer perceptrons as pure functions of NumPy arrays: parameters, activations of all layers, loss, gradient.

A network is a dict {"W1": (inputs, width), "b1": (width,), "W2": ..., ...}. Layer k computes activation(x @ Wk + bk);
the last layer has no activation. All arithmetic is in the parameters' dtype: x (and the y of a squared loss) are
converted to it. x may be a sparse matrix or array of SciPy, which stays sparse. Nothing that you give is modified.
"""
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from . import init
from ._checks.numbers import check_option, whole

__all__ = ["ACTIVATIONS", "LOSSES", "forward", "initial", "log_softmax", "logistic", "value", "value_and_grad"]

Array = NDArray[Any]
Parameters = dict[str, Array]


def logistic(z: Array) -> Array:
    """1/(1 + exp(-z)) of any z, without overflow, to the precision of z's dtype (1 - logistic(z) is logistic(-z))."""
    e = np.exp(-np.abs(z))
    return np.where(z < 0, e, 1)/(1 + e)


def log_softmax(z: Array) -> Array:
    """z - log(sum(exp(z))) along the last axis, of any finite z without overflow; np.exp of it is the softmax."""
    z = z - z.max(axis=-1, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=-1, keepdims=True))


#: {name: (the value of z, the derivative from that value)}
ACTIVATIONS: dict[str, tuple[Callable[[Array], Array], Callable[[Array], Any]]] = {
    "identity": (lambda z: z, lambda a: 1),
    "logistic": (logistic, lambda a: a*(1 - a)),
    "tanh": (np.tanh, lambda a: 1 - a*a),
    "relu": (lambda z: np.maximum(z, 0), lambda a: a > 0),
}


def _numbers(z: Array, y: Array) -> Array:
    y = y.reshape(-1, 1) if y.shape == (len(z),) and z.shape[1] == 1 else y
    if y.shape != z.shape:
        raise ValueError(f"networks: y has shape {y.shape}, but the outputs have {z.shape}. Give one number for each "
                         "output.")
    return y.astype(z.dtype, copy=False)


def _squared(z: Array, y: Array) -> tuple[Array, Array]:
    r = z - _numbers(z, y)
    return (r*r).sum(axis=1)/2, r


def _softmax(z: Array, y: Array) -> tuple[Array, Array]:
    if y.shape != (len(z),) or not np.issubdtype(y.dtype, np.integer):
        raise ValueError(f"networks: y is {y.dtype} of shape {y.shape}, but the softmax loss needs integers of shape "
                         f"{(len(z),)}. Give class numbers, not one-hot rows.")
    if y.min() < 0 or y.max() >= z.shape[1]:
        raise ValueError(f"networks: y has labels from {y.min()} to {y.max()}, but there are {z.shape[1]} outputs. "
                         f"Give labels from 0 to {z.shape[1] - 1}.")
    scores, own = log_softmax(z), (np.arange(len(y)), y)
    slope = np.exp(scores)
    slope[own] -= 1
    return -scores[own], slope


def _logistic(z: Array, y: Array) -> tuple[Array, Array]:
    if not ((y == 0) | (y == 1)).all():
        raise ValueError("networks: y has other values than 0 and 1, which the logistic loss needs. Give 1 for one "
                         "class, 0 for the other.")
    sign = 1 - 2*_numbers(z, y)  # log(1 + exp(-z)) for y = 1, log(1 + exp(z)) for y = 0
    return np.logaddexp(0, sign*z).sum(axis=1), sign*logistic(sign*z)


#: {name: (outputs z, targets y) -> (the loss of each row, its derivative by z)}
LOSSES: dict[str, Callable[[Array, Array], tuple[Array, Array]]] = {
    "squared": _squared, "softmax": _softmax, "logistic": _logistic}


def initial(sizes: Sequence[int], rng: np.random.Generator | int,
            initializer: Callable[..., Array] = init.glorot_uniform, dtype: DTypeLike = np.float32) -> Parameters:
    """The parameters of a new network, {"W1": (sizes[0], sizes[1]), "b1": (sizes[1],), "W2": ...}; biases are 0.

    Parameters
    ----------
    sizes : sequence of int
        (inputs, widths of the hidden layers ..., outputs): two or more, each 1 or more.
    rng : numpy.random.Generator or int
        Drawn from, layer by layer; or a seed.
    initializer : callable
        ``initializer((inputs, outputs), rng, dtype=dtype)``, one of `fastopt.init` for example (he_uniform for relu).
    dtype : a NumPy float type

    Raises
    ------
    TypeError, ValueError
        For sizes that are not whole numbers, 1 or more; for an rng or a dtype that is none.
    """
    if len(sizes) < 2 or any((whole(n) or 0) < 1 for n in sizes):
        raise ValueError(f"networks.initial: sizes is {sizes!r}, but two or more whole numbers, 1 or more, are needed. "
                         "Give (inputs, hidden, outputs).")
    source, kept = init.generator(rng, "networks.initial"), init.check_dtype(dtype, "networks.initial")
    params: Parameters = {}
    for k, (n, m) in enumerate(pairwise(map(int, sizes)), start=1):
        params[f"W{k}"], params[f"b{k}"] = initializer((n, m), source, dtype=kept), np.zeros(m, kept)
    return params


def forward(params: Mapping[str, Array], x: ArrayLike, activation: str = "relu") -> list[Array]:
    """The activations of all layers, of shapes (rows, sizes[k]): first x, last the outputs (logits).

    x of shape (rows, inputs) is converted to the parameters' dtype. The outputs have no activation. Other arguments and
    errors are those of `value_and_grad`.
    """
    act, _ = ACTIVATIONS[check_option("activation", activation, tuple(ACTIVATIONS), "networks")]
    depth, first = _depth(params), params["W1"]
    sparse: Any = x if hasattr(x, "tocsr") else None
    layers = [np.asarray(x, first.dtype) if sparse is None else sparse.astype(first.dtype, copy=False)]
    if layers[0].ndim != 2 or layers[0].shape[1] != len(first):
        raise ValueError(f"networks: x has shape {layers[0].shape}, but (rows, {len(first)}) is needed. Give one row "
                         "for each sample.")
    for k in range(1, depth + 1):
        z = layers[-1] @ params[f"W{k}"] + params[f"b{k}"]
        layers.append(act(z) if k < depth else z)
    return layers


def value(params: Mapping[str, Array], x: ArrayLike, y: ArrayLike, loss: str, activation: str = "relu", l2: float = 0.0,
          weights: ArrayLike | None = None) -> float:
    """The loss alone. Arguments and errors are those of `value_and_grad`."""
    return _loss(params, forward(params, x, activation)[-1], y, loss, l2, weights)[0]


def value_and_grad(params: Mapping[str, Array], x: ArrayLike, y: ArrayLike, loss: str, activation: str = "relu",
                   l2: float = 0.0, weights: ArrayLike | None = None) -> tuple[float, Parameters]:
    """The loss of a network and its gradient, by backpropagation.

        sum_i(s_i*loss(z_i, y_i)) + l2/2*sum(W^2)

    z are the outputs, and s_i is 1/rows, or weights_i/sum(weights). The last sum is over weights, not biases.

    Parameters
    ----------
    params : mapping
        {"W1": ..., "b1": ..., "W2": ...} as from `initial`, all of one float dtype, in which all is computed.
    x : array or sparse array of shape (rows, inputs)
        At least one row.
    y : array
        What the loss needs:
        "squared": sum over the outputs of (z - y)^2/2; y of shape (rows, outputs), or (rows,) for one output.
        "softmax": cross-entropy, -log(softmax(z)[y]); y integer labels 0 ... outputs - 1 of shape (rows,).
        "logistic": sum over the outputs of log(1 + exp(-z)) for y = 1, log(1 + exp(z)) for y = 0; y of shape
        (rows, outputs), or (rows,) for one output.
        None of them overflows, whatever the logits are.
    loss : "squared", "softmax" or "logistic"
    activation : "identity", "logistic", "tanh" or "relu"
        Of the hidden layers; relu's derivative at 0 is 0.
    l2 : float
    weights : array of shape (rows,), optional
        Sample weights, 0 or more, with a sum above 0. A weight of 2 does what the row twice would do.

    Returns
    -------
    value : float
    gradient : dict
        New arrays, in the structure and dtype of `params`.

    Raises
    ------
    TypeError, ValueError
        For unknown names, and for arrays of the wrong shape, type or range.
    """
    layers = forward(params, x, activation)
    total, d = _loss(params, layers[-1], y, loss, l2, weights)
    _, slope = ACTIVATIONS[activation]
    grads: Parameters = {}
    for k in range(len(layers) - 1, 0, -1):
        w, a = params[f"W{k}"], layers[k - 1]
        grads[f"W{k}"], grads[f"b{k}"] = a.T @ d, d.sum(axis=0)
        if l2:
            grads[f"W{k}"] += float(l2)*w
        if k > 1:
            d = (d @ w.T)*slope(a)
    return total, {name: grads[name] for name in params}


def _loss(params: Mapping[str, Array], z: Array, y: ArrayLike, loss: str, l2: float,
          weights: ArrayLike | None) -> tuple[float, Array]:
    """The value, and its derivative by the outputs z."""
    rows = LOSSES[check_option("loss", loss, tuple(LOSSES), "networks")]
    targets = np.asarray(y)
    if len(z) == 0 or targets.ndim == 0 or len(targets) != len(z):
        raise ValueError(f"networks: x has {len(z)} rows, y has shape {targets.shape}, but as many are needed, and at "
                         "least one. Give a target for each row.")
    losses, slope = rows(z, targets)
    share: Any = 1/len(z)
    if weights is not None:
        s = np.asarray(weights, float)
        if s.shape != (len(z),) or not (s >= 0).all() or not 0 < s.sum() < np.inf:
            raise ValueError(f"networks: weights of shape {s.shape}, but {(len(z),)} is needed, each finite, 0 or "
                             "more, and at least one above 0. Leave the rows out whose weight should be 0.")
        share = (s/s.sum()).astype(z.dtype)
    decay = sum(float(np.vdot(w, w)) for name, w in params.items() if name[0] == "W") if l2 else 0.0
    return float((losses*share).sum()) + float(l2)/2*decay, slope*(share if weights is None else share[:, None])


def _depth(params: Mapping[str, Array]) -> int:
    """The number of layers; an error where the arrays do not make a network."""
    depth = len(params)//2
    if not params or set(params) != {f"{kind}{k}" for kind in "Wb" for k in range(1, depth + 1)}:
        raise ValueError(f"networks: params has the keys {list(params)}, but W1, b1, W2, b2, ... are needed. Use "
                         "networks.initial.")
    for name in ("W1", *params):
        a = params[name]
        if not isinstance(a, np.ndarray) or a.dtype.kind != "f" or a.dtype != params["W1"].dtype:
            found = a.dtype if isinstance(a, np.ndarray) else f"a {type(a).__name__}"
            raise TypeError(f"networks: params[{name!r}] is {found}, but an array of a float type of NumPy is needed, "
                            "that of W1. Use float32 for all, or float64.")
    width = params["W1"].shape[0] if params["W1"].ndim else 0
    for k in range(1, depth + 1):
        w, b = params[f"W{k}"], params[f"b{k}"]
        if w.ndim != 2 or len(w) != width or b.shape != w.shape[1:]:
            raise ValueError(f"networks: params['W{k}'] has shape {w.shape} and params['b{k}'] {b.shape}, but "
                             f"({width}, m) and (m,) are needed. Use networks.initial.")
        width = w.shape[1]
    return depth
