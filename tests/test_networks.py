"""Networks against a second writing in complex numbers (gradients by complex steps), and at extremes."""
import math
from itertools import product

import numpy as np
import pytest

from fastopt import init, networks

H = 1e-30  # a complex step has no cancellation: the imaginary part is the derivative to rounding
ACT = {"identity": lambda z: z, "logistic": lambda z: 1/(1 + np.exp(-z)), "tanh": lambda z: np.sinh(z)/np.cosh(z),
       "relu": lambda z: z if z.real > 0 else 0*z}
OUTPUTS = {"squared": (1, 3), "softmax": (2, 4), "logistic": (1, 3)}
CASES = [((), 0.3, True), ((5,), 0.0, False), ((4, 6), 0.0, True), ((3, 2, 5), 0.3, False)]  # hidden, l2, weighted


def row_loss(loss, z, y):
    if loss == "squared":
        return sum((a - b)**2 for a, b in zip(z, np.atleast_1d(y), strict=True))/2
    if loss == "softmax":
        return -np.log(np.exp(z[y])/sum(np.exp(a) for a in z))
    chances = [1/(1 + np.exp(-a)) for a in z]
    return -sum(b*np.log(q) + (1 - b)*np.log(1 - q) for q, b in zip(chances, np.atleast_1d(y), strict=True))


def reference(params, x, y, loss, activation, l2, weights):
    """The loss, unit by unit."""
    depth, total = len(params)//2, 0
    for row, target, weight in zip(x, y, weights, strict=True):
        units = list(row)
        for k in range(1, depth + 1):
            w, b = params[f"W{k}"], params[f"b{k}"]
            units = [sum(units[i]*w[i, j] for i in range(len(units))) + b[j] for j in range(len(b))]
            units = [ACT[activation](z) for z in units] if k < depth else units
        total = total + weight*row_loss(loss, units, target)
    return total/sum(weights) + l2/2*sum(v**2 for k in range(1, depth + 1) for v in params[f"W{k}"].ravel())


def sample(loss, sizes, rows=4, seed=0, dtype=np.float64):
    """Parameters, x, y, sample weights. Nothing may be written into them."""
    rng = np.random.default_rng(seed)
    params = {k: (v + 0.3*rng.standard_normal(v.shape)).astype(dtype)
              for k, v in networks.initial(sizes, rng, dtype=np.float64).items()}
    y = {"squared": lambda: rng.standard_normal((rows, sizes[-1])),
         "softmax": lambda: rng.integers(sizes[-1], size=rows),
         "logistic": lambda: rng.integers(2, size=(rows, sizes[-1]))}[loss]()
    weights = np.array([0.5, 2.0, 0.0, 1.25, 3.0, 0.1, 1.0, 4.0])[np.arange(rows) % 8]
    x = rng.standard_normal((rows, sizes[0]))
    for a in (*params.values(), x, y, weights):
        a.flags.writeable = False
    return params, x, y, weights


@pytest.mark.parametrize(("loss", "activation"), list(product(OUTPUTS, ACT)))
def test_value_and_gradient(loss, activation):
    for outputs, (hidden, l2, weighted) in product(OUTPUTS[loss], CASES):
        params, x, y, weights = sample(loss, (3, *hidden, outputs), seed=len(hidden))
        weights, rng = weights if weighted else None, np.random.default_rng(1)
        value, grads = networks.value_and_grad(params, x, y, loss, activation, l2, weights)
        arguments = x, y, loss, activation, l2, weights if weighted else np.ones(len(x))
        assert type(value) is float
        assert value == networks.value(params, x, y, loss, activation, l2, weights)
        assert list(grads) == list(params)
        assert not any(np.shares_memory(g, a) for g in grads.values() for a in (*params.values(), x, y))
        np.testing.assert_allclose(value, reference(params, *arguments), rtol=1e-13)
        for name, g in grads.items():
            assert (g.shape, g.dtype) == (params[name].shape, np.float64)
            places = list(np.ndindex(g.shape))
            for k in rng.choice(len(places), min(3, len(places)), replace=False):
                moved = {k: v.astype(complex) for k, v in params.items()}
                moved[name][places[k]] += 1j*H
                exact = reference(moved, *arguments).imag/H
                assert abs(g[places[k]] - exact) <= 1e-13*max(1, abs(exact)), (name, places[k])


def test_weights_stand_for_rows():
    for loss in OUTPUTS:
        params, x, y, _ = sample(loss, (3, 5, OUTPUTS[loss][-1]), rows=5)
        n = np.array([2, 0, 1, 3, 1])
        value, grads = networks.value_and_grad(params, x, y, loss, weights=n)
        again, repeated = networks.value_and_grad(params, np.repeat(x, n, axis=0), np.repeat(y, n, axis=0), loss)
        scaled, _ = networks.value_and_grad(params, x, y, loss, weights=1e-200*n)
        np.testing.assert_allclose([value, value], [again, scaled], rtol=1e-14)
        for name, g in grads.items():
            np.testing.assert_allclose(g, repeated[name], rtol=1e-12, atol=1e-15)


# Extremes

def at_logits(z, y, loss, dtype=np.float64):
    """Value and gradient by b of one row whose logits are z."""
    z = np.array([z], dtype)
    params = {"W1": np.eye(z.shape[1], dtype=dtype), "b1": np.zeros(z.shape[1], dtype)}
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        value, grads = networks.value_and_grad(params, z, np.array([y]), loss)
    assert grads["b1"].dtype == dtype
    return value, grads["b1"].tolist()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_logits_of_ten_thousand(dtype):
    eps = np.finfo(dtype).eps
    for z, y, loss, value, slope in [
            ([1e4], 0, "logistic", 1e4, [1]), ([1e4], 1, "logistic", 0, [0]), ([-1e4], 0, "logistic", 0, [0]),
            ([-1e4], 1, "logistic", 1e4, [-1]), ([1e4, -1e4], 0, "softmax", 0, [0, 0]),
            ([1e4, -1e4], 1, "softmax", 2e4, [1, -1]), ([-1e4, -1e4], 1, "softmax", math.log(2), [0.5, -0.5]),
            ([1e4, 1e4, -1e4, 1e4], 2, "softmax", 2e4 + math.log(3), [1/3, 1/3, -1, 1/3])]:
        have, d = at_logits([np.float64(dtype(a)) for a in z], y, loss, dtype)
        assert abs(have - value) <= 2*eps*value, (z, y)
        np.testing.assert_allclose(d, slope, rtol=2*eps, atol=0)
    for z in (1e4, -1e4) if dtype is not np.float16 else ():
        assert at_logits([z], 1.0, "squared", dtype) == (float(dtype((z - 1)**2/2)), [z - 1])


def test_small_logistic_losses_keep_their_digits():
    for z, y in product([0.0, 1e-9, 1.0, 20.0, 40.0, 300.0, 700.0], (0, 1)):
        value, (d,) = at_logits([z if y else -z], y, "logistic")
        np.testing.assert_allclose(value, math.log1p(math.exp(-z)), rtol=1e-15)
        np.testing.assert_allclose(d, (1 - 2*y)*math.exp(-z)/(1 + math.exp(-z)), rtol=1e-15)


def test_activations_at_the_extremes():
    z = np.array([-1e4, -710.0, -40.0, 0.0, 40.0, 710.0, 1e4, np.inf, -np.inf])
    want = {"logistic": [0, math.exp(-710), math.exp(-40), 0.5, 1, 1, 1, 1, 0], "tanh": [-1, -1, -1, 0, 1, 1, 1, 1, -1],
            "relu": [0, 0, 0, 0, 40, 710, 1e4, np.inf, 0], "identity": z}
    slopes = {"logistic": [0, math.exp(-710), math.exp(-40), 0.25, 0, 0, 0, 0, 0], "tanh": [0, 0, 0, 1, 0, 0, 0, 0, 0],
              "relu": [0, 0, 0, 0, 1, 1, 1, 1, 0], "identity": np.ones(9)}
    assert set(want) == set(networks.ACTIVATIONS)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        for name, (act, slope) in networks.ACTIVATIONS.items():
            np.testing.assert_allclose(act(z), want[name], rtol=1e-14, atol=0)
            np.testing.assert_allclose(slope(act(z))*np.ones(9), slopes[name], rtol=1e-14, atol=0)
    assert all(np.isnan(act(np.array([np.nan]))).all() for act, _ in networks.ACTIVATIONS.values())  # not hidden


# Parameters, types, shapes

def test_initial():
    params, rng = networks.initial((3, 5, 2), 4), np.random.default_rng(4)
    want = {"W1": init.glorot_uniform((3, 5), rng), "b1": np.zeros(5, np.float32),
            "W2": init.glorot_uniform((5, 2), rng), "b2": np.zeros(2, np.float32)}  # one generator for all layers
    assert list(params) == list(want)
    for name, a in want.items():
        assert params[name].dtype == np.float32
        assert np.array_equal(params[name], a)
        assert params[name].flags.writeable
    he = networks.initial([3, np.int64(5), 2], np.random.default_rng(9), init.he_normal, np.float64)
    assert np.array_equal(he["W1"], init.he_normal((3, 5), 9, np.float64))


def test_forward_gives_all_activations():
    params = {"W1": np.array([[1.0, -1.0]]), "b1": np.array([0.5, 0.0]), "W2": np.array([[2.0], [3.0]]),
              "b2": np.array([-1.0])}
    layers = [a.tolist() for a in networks.forward(params, [[1.0], [-2.0]])]
    assert layers == [[[1.0], [-2.0]], [[1.5, 0.0], [0.0, 2.0]], [[2.0], [5.0]]]
    assert networks.forward(params, np.empty((0, 1)))[-1].shape == (0, 1)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.longdouble])
def test_all_is_computed_in_the_parameters_dtype(dtype):
    bound = 30*max(np.finfo(dtype).eps, 2.3e-16)
    for loss, activation in product(OUTPUTS, ACT):
        params, x, y, weights = sample(loss, (4, 6, OUTPUTS[loss][-1]), dtype=dtype)
        assert {a.dtype for a in networks.forward(params, x, activation)} == {np.dtype(dtype)}
        value, grads = networks.value_and_grad(params, x, y, loss, activation, np.float64(0.1), weights)
        exact = {k: v.astype(np.float64) for k, v in params.items()}
        want, right = networks.value_and_grad(exact, x, y, loss, activation, 0.1, weights)
        assert abs(value - want) < bound*max(1, abs(want))
        for name, g in grads.items():
            assert g.dtype == dtype
            assert np.abs(g - right[name]).max() < bound*max(1, np.abs(right[name]).max()), name


def test_layout_and_type_of_the_data_do_not_matter():
    params, x, y, weights = sample("squared", (3, 5, 1))
    want, right = networks.value_and_grad(params, x, y, "squared", weights=weights)
    for x_, y_, s in ((np.asfortranarray(x), y[:, 0], weights), (x.tolist(), y.tolist(), weights.tolist()),
                      (x[::-1][::-1], y, weights)):
        value, grads = networks.value_and_grad(params, x_, y_, "squared", weights=s)
        np.testing.assert_allclose(value, want, rtol=1e-14)
        for name, g in grads.items():
            np.testing.assert_allclose(g, right[name], rtol=1e-13)
    for loss, y in [("squared", [1, 2]), ("logistic", [True, False])]:
        whole = networks.value(params, np.ones((2, 3), int), np.array(y)[:, None], loss)
        assert whole == networks.value(params, np.ones((2, 3)), np.array(y, float), loss)


@pytest.mark.parametrize("kind", ["csr_array", "csr_matrix", "csc_array", "coo_array"])
def test_sparse_rows_stay_sparse(kind, monkeypatch):
    scipy = pytest.importorskip("scipy.sparse")
    params, x, y, weights = sample("softmax", (5, 4, 2), rows=6)
    x = np.where(x > 0.5, x, 0)
    want, right = networks.value_and_grad(params, x, y, "softmax", "tanh", 0.1, weights)
    sparse = getattr(scipy, kind)(x)
    for name in ("toarray", "todense"):
        monkeypatch.setattr(type(sparse), name, lambda *_: pytest.fail("made dense"))
    for given in (sparse, sparse.astype(np.float32)):
        value, grads = networks.value_and_grad(params, given, y, "softmax", "tanh", 0.1, weights)
        near = 1e-13 if given is sparse else 1e-6
        assert type(networks.forward(params, given)[-1]) is np.ndarray
        np.testing.assert_allclose(value, want, rtol=near)
        for name, g in grads.items():
            assert (type(g), g.dtype) == (np.ndarray, np.float64)
            np.testing.assert_allclose(g, right[name], rtol=near, atol=near)
    with pytest.raises(ValueError, match=r"networks: x has shape \(6, 5\), but \(rows, 3\) is needed"):
        networks.forward(networks.initial((3, 2), 0), sparse)


# Errors

SQUARED, SOFTMAX, LOGISTIC = ({"loss": loss} for loss in OUTPUTS)
ARRAY = "but an array of a float type of NumPy is needed, that of W1"


@pytest.mark.parametrize(("change", "message"), [
    ({"loss": "hinge"}, "loss is 'hinge', but one of 'squared', 'softmax', 'logistic' is needed"),
    ({"activation": "elu"}, "activation is 'elu', but one of 'identity', 'logistic', 'tanh', 'relu' is needed"),
    ({"x": np.zeros((4, 2))}, "x has shape (4, 2), but (rows, 3) is needed"), ({"x": np.zeros(3)}, "x has shape (3,)"),
    ({"x": np.zeros((0, 3)), "y": np.zeros((0, 2))}, "x has 0 rows"), ({"y": 1.0}, "x has 4 rows, y has shape ()"),
    ({"y": np.zeros((3, 2))}, "x has 4 rows, y has shape (3, 2)"),
    ({"y": np.zeros(4)}, "y has shape (4,), but the outputs have (4, 2)"),
    (SOFTMAX, "y is float64 of shape (4, 2), but the softmax loss needs integers of shape (4,)"),
    ({**SOFTMAX, "y": np.zeros(4)}, "y is float64"),
    ({**SOFTMAX, "y": [0, 1, 2, 1]}, "y has labels from 0 to 2, but there are 2 outputs"),
    ({**SOFTMAX, "y": [0, -1, 0, 1]}, "y has labels from -1 to 1"),
    ({**LOGISTIC, "y": [0, 1, 0, 1]}, "y has shape (4,), but the outputs have (4, 2)"),
    *(({**LOGISTIC, "params": networks.initial((3, 1), 0), "y": y}, "y has other values than 0 and 1")
      for y in ([0, 1, 2, 0], [-1, 1, 1, -1], [0.5, 0, 0, 1], [np.nan, 0, 0, 1])),
    *(({"weights": s}, f"weights of shape {np.shape(s)}, but (4,) is needed, each finite, 0 or more, and at least one")
      for s in (np.ones(3), np.zeros(4), [1, 1, 1, -1], [1, 1, 1, np.nan], [1, 1, 1, np.inf])),
    ({"params": {}}, "params has the keys []"),
    ({"params": {"W1": np.zeros((3, 2))}}, "params has the keys ['W1'], but W1, b1, W2, b2, ... are needed"),
    ({"params": {"W1": np.zeros((3, 2)), "b2": np.zeros(2)}}, "params has the keys ['W1', 'b2']"),
    ({"b1": np.zeros((1, 4))}, "params['W1'] has shape (3, 4) and params['b1'] (1, 4), but (3, m) and (m,)"),
    ({"b2": np.zeros(1)}, "params['W2'] has shape (4, 2) and params['b2'] (1,), but (4, m) and (m,)"),
    ({"W2": np.zeros((5, 2))}, "params['W2'] has shape (5, 2) and params['b2'] (2,), but (4, m)"),
    ({"b2": np.zeros(2, np.float32)}, f"params['b2'] is float32, {ARRAY}"),
    ({"W2": [[1.0]]}, f"params['W2'] is a list, {ARRAY}"), ({"W1": [[1.0]*4]*3}, f"params['W1'] is a list, {ARRAY}"),
    ({"W1": np.ones((3, 4), int)}, f"params['W1'] is int64, {ARRAY}")])
def test_errors(change, message):
    given = {"params": networks.initial((3, 2), 0), "x": np.zeros((4, 3)), "y": np.zeros((4, 2)), **SQUARED}
    if change.keys() & {"W1", "b1", "W2", "b2"}:
        change = {"params": {**networks.initial((3, 4, 2), 0, dtype=np.float64), **change}}
    for function in (networks.value, networks.value_and_grad):
        with pytest.raises(TypeError if ARRAY in message else ValueError) as caught:
            function(**{**given, **change})
        assert str(caught.value).startswith(f"networks: {message}")


def test_errors_of_initial():
    for sizes in [(), (3,), (3, 0), (3, 2.0), (3, True), (-1, 2)]:
        with pytest.raises(ValueError, match=r"networks\.initial: sizes is .*, but two or more whole numbers, 1 or"):
            networks.initial(sizes, 0)
    with pytest.raises(TypeError, match=r"networks\.initial: dtype is int64"):
        networks.initial((3, 2), 0, dtype=np.int64)
    with pytest.raises(TypeError, match=r"networks\.initial: rng is None"):
        networks.initial((3, 2), None)
