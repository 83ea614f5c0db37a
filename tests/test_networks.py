"""Networks against a second writing of them in complex numbers (gradients by complex steps), scikit-learn, torch; and at extreme logits."""
import math
from itertools import product

import numpy as np
import pytest
from sklearn.metrics import log_loss

from fastopt import init, networks

H = 1e-30  # a complex step has no cancellation: the imaginary part is the derivative to rounding
ACT = {"identity": lambda z: z, "logistic": lambda z: 1/(1 + np.exp(-z)), "tanh": lambda z: np.sinh(z)/np.cosh(z),
       "relu": lambda z: z if z.real > 0 else 0*z}
OUTPUTS = {"squared": (1, 3), "softmax": (2, 4), "logistic": (1,)}
HIDDEN = ((), (5,), (4, 6), (3, 2, 5))
PAIRS = list(product(OUTPUTS, ACT))
CASES = [(loss, activation, (3, *hidden, outputs)) for loss,
         activation in PAIRS for outputs in OUTPUTS[loss] for hidden in HIDDEN]


def row_loss(loss, z, y):
    if loss == "squared":
        return sum((a - b)**2 for a, b in zip(z, np.atleast_1d(y), strict=True))/2
    if loss == "softmax":
        return -np.log(np.exp(z[y])/sum(np.exp(a) for a in z))
    q = 1/(1 + np.exp(-z[0]))
    return -(y*np.log(q) + (1 - y)*np.log(1 - q))


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
    rng = np.random.default_rng(seed)
    params = {k: (v + 0.3*rng.standard_normal(v.shape)).astype(dtype) for k,
              v in networks.initial(sizes, rng, dtype=np.float64).items()}
    y = {"squared": lambda: rng.standard_normal((rows, sizes[-1])),
         "softmax": lambda: rng.integers(sizes[-1], size=rows),
         "logistic": lambda: rng.integers(2, size=rows)}[loss]()
    return params, rng.standard_normal((rows, sizes[0])), y, np.array([0.5, 2.0, 0.0, 1.25, 3.0, 0.1, 1.0,
                                                                       4.0])[np.arange(rows) % 8]


def perturbed(params, name, at, by):
    new = {k: v.astype(complex) for k, v in params.items()}
    new[name][at] += by
    return new


@pytest.mark.parametrize("case", CASES, ids=str)
def test_value_and_gradient(case):
    loss, activation, sizes = case
    params, x, y, some = sample(loss, sizes, seed=len(sizes))
    rng = np.random.default_rng(1)
    for l2, weights in product((0.0, 0.3), (None, some)):
        value, grads = networks.value_and_grad(params, x, y, loss, activation, l2, weights)
        arguments = x, y, loss, activation, l2, np.ones(len(x)) if weights is None else weights
        assert type(value) is float
        assert value == networks.value(params, x, y, loss, activation, l2, weights)
        assert list(grads) == list(params)
        np.testing.assert_allclose(value, reference(params, *arguments), rtol=1e-13)
        for name, g in grads.items():
            assert (g.shape, g.dtype) == (params[name].shape, np.float64)
            places = list(np.ndindex(g.shape))
            for at in [places[k] for k in rng.choice(len(places), min(4, len(places)), replace=False)]:
                exact = reference(perturbed(params, name, at, 1j*H), *arguments).imag/H
                assert abs(g[at] - exact) <= 1e-13*max(1, abs(exact)), (name, at, g[at], exact)


@pytest.mark.parametrize(("loss", "activation"), PAIRS)
def test_every_element_of_the_gradient_by_differences(loss, activation):
    """Central differences of `value` itself; their error is about h^2 = 1e-10 and eps/h = 2e-11."""
    params, x, y, weights = sample(loss, (4, 7, 5, OUTPUTS[loss][-1]), rows=9, seed=5)
    given = x, y, loss, activation, 0.1, weights
    _, grads = networks.value_and_grad(params, *given)
    for name, p in params.items():
        for at in np.ndindex(p.shape):
            kept = p[at]
            p[at] = kept + 1e-5
            above = networks.value(params, *given)
            p[at] = kept - 1e-5
            below = networks.value(params, *given)
            p[at] = kept
            assert abs((above - below)/2e-5 - grads[name][at]) < 1e-8, (name, at)


def test_weights_stand_for_rows():
    for loss in OUTPUTS:
        params, x, y, _ = sample(loss, (3, 5, OUTPUTS[loss][-1]), rows=5)
        count = np.array([2, 0, 1, 3, 1])
        value, grads = networks.value_and_grad(params, x, y, loss, weights=count)
        again, repeated = networks.value_and_grad(params, np.repeat(x, count, axis=0), np.repeat(y, count, axis=0),
                                                  loss)
        scaled, _ = networks.value_and_grad(params, x, y, loss, weights=1e-200*count)
        np.testing.assert_allclose([value, value], [again, scaled], rtol=1e-14)
        for name, g in grads.items():
            np.testing.assert_allclose(g, repeated[name], rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("weighted", [False, True])
def test_log_loss_of_scikit_learn(weighted):
    params, x, y, weights = sample("softmax", (3, 6, 4), rows=40)
    given = weights if weighted else None
    chance = np.exp(networks.log_softmax(networks.forward(params, x, "tanh")[-1]))
    want = log_loss(y, chance, sample_weight=given, labels=range(4))
    np.testing.assert_allclose(networks.value(params, x, y, "softmax", "tanh", weights=given), want, rtol=1e-13)
    params, x, y, _ = sample("logistic", (3, 6, 1), rows=40)
    chance = networks.logistic(networks.forward(params, x, "tanh")[-1][:, 0])
    want = log_loss(y, chance, sample_weight=given)
    np.testing.assert_allclose(networks.value(params, x, y, "logistic", "tanh", weights=given), want, rtol=1e-13)
    np.testing.assert_allclose(networks.value(params, x, y[:, None].astype(bool), "logistic", "tanh", weights=given),
                               want, rtol=1e-13)


@pytest.mark.parametrize(("loss", "activation"), PAIRS)
def test_gradients_of_torch(loss, activation):
    torch = pytest.importorskip("torch")
    from torch.nn import functional as F
    params, x, y, weights = sample(loss, (5, 16, 8, OUTPUTS[loss][-1]), rows=30)
    value, grads = networks.value_and_grad(params, x, y, loss, activation, 0.2, weights)
    p = {k: torch.tensor(v, requires_grad=True) for k, v in params.items()}
    z, act = torch.tensor(x), {"identity": lambda z: z, "logistic": torch.sigmoid, "tanh": torch.tanh,
                               "relu": torch.relu}[activation]
    for k in (1, 2, 3):
        z = z @ p[f"W{k}"] + p[f"b{k}"]
        z = act(z) if k < 3 else z
    target = torch.tensor(y)
    rows = {"squared": lambda: ((z - target)**2).sum(1)/2, "softmax": lambda: F.cross_entropy(z, target,
                                                                                              reduction="none"),
            "logistic": lambda: F.binary_cross_entropy_with_logits(z[:, 0], target.double(), reduction="none")}[loss]()
    share = torch.tensor(weights/weights.sum())
    total = (rows*share).sum() + 0.1*sum((p[f"W{k}"]**2).sum() for k in (1, 2, 3))
    total.backward()
    np.testing.assert_allclose(value, total.item(), rtol=1e-13)
    for name, g in grads.items():
        np.testing.assert_allclose(g, p[name].grad.numpy(), rtol=1e-11, atol=1e-15)


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
@pytest.mark.parametrize(("z", "y", "loss", "value", "slope"), [
    ([1e4], 0, "logistic", 1e4, [1]), ([1e4], 1, "logistic", 0, [0]), ([-1e4], 0, "logistic", 0, [0]),
                                                                ([-1e4], 1, "logistic", 1e4, [-1]),
    ([1e4, -1e4], 0, "softmax", 0, [0, 0]), ([1e4, -1e4], 1, "softmax", 2e4, [1, -1]),
    ([-1e4, -1e4], 1, "softmax", math.log(2), [0.5, -0.5]),
    ([1e4, 1e4, -1e4, 1e4], 2, "softmax", 2e4 + math.log(3), [1/3, 1/3, -1, 1/3])])
def test_logits_of_ten_thousand(z, y, loss, value, slope, dtype):
    have, d = at_logits([np.float64(dtype(a)) for a in z], y, loss, dtype)
    eps = np.finfo(dtype).eps
    assert abs(have - value) <= 2*eps*value
    np.testing.assert_allclose(d, slope, rtol=2*eps, atol=0)


@pytest.mark.parametrize("z", [1e4, -1e4])
def test_squared_loss_at_ten_thousand(z):
    for dtype in (np.float32, np.float64):
        assert at_logits([z], 1.0, "squared", dtype) == (float(dtype((z - 1)**2/2)), [z - 1])


@pytest.mark.parametrize("z", [0.0, 1e-9, 1.0, 20.0, 40.0, 300.0, 700.0])
def test_small_logistic_losses_keep_their_digits(z):
    want = math.log1p(math.exp(-z))
    for y in (0, 1):
        value, (d,) = at_logits([z if y else -z], y, "logistic")
        np.testing.assert_allclose(value, want, rtol=1e-15)
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
    for act, _ in networks.ACTIVATIONS.values():
        assert np.isnan(act(np.array([np.nan]))).all()  # a NaN is not hidden


def test_probabilities():
    z = np.array([[1e4, -1e4, 1e4], [0.0, math.log(2), math.log(5)], [-300.0, -301.0, -302.0]])
    e = np.exp([0, -1, -2])
    np.testing.assert_allclose(np.exp(networks.log_softmax(z)), [[0.5, 0, 0.5], [1/8, 2/8, 5/8], e/e.sum()], rtol=1e-13)
    a = np.linspace(-30, 30, 61)
    np.testing.assert_allclose(networks.logistic(a) + networks.logistic(-a), 1, rtol=1e-15)
    np.testing.assert_allclose(networks.logistic(a), 0.5 + 0.5*np.tanh(a/2), rtol=1e-12, atol=1e-16)


# Parameters, types, shapes

def test_initial():
    params = networks.initial((3, 5, 2), 4)
    assert {k: (v.shape, v.dtype) for k, v in params.items()} == {
        "W1": ((3, 5), np.float32), "b1": ((5,), np.float32), "W2": ((5, 2), np.float32), "b2": ((2,), np.float32)}
    assert list(params) == ["W1", "b1", "W2", "b2"]
    rng = np.random.default_rng(4)
    assert np.array_equal(params["W1"], init.glorot_uniform((3, 5), rng))
    assert np.array_equal(params["W2"], init.glorot_uniform((5, 2), rng))  # one generator for all layers
    assert not params["b1"].any()
    assert not params["b2"].any()
    assert params["b1"].flags.writeable
    he = networks.initial([3, np.int64(5), 2], np.random.default_rng(9), init.he_normal, np.float64)
    assert np.array_equal(he["W1"], init.he_normal((3, 5), 9, np.float64))


def test_forward_gives_all_activations():
    params = {"W1": np.array([[1.0, -1.0]]), "b1": np.array([0.5, 0.0]), "W2": np.array([[2.0], [3.0]]),
              "b2": np.array([-1.0])}
    x, hidden, out = networks.forward(params, [[1.0], [-2.0]])
    assert x.tolist() == [[1.0], [-2.0]]
    assert hidden.tolist() == [[1.5, 0.0], [0.0, 2.0]]
    assert out.tolist() == [[2.0], [5.0]]
    assert networks.forward(params, np.empty((0, 1)))[-1].shape == (0, 1)


@pytest.mark.parametrize(("loss", "dtype"), list(product(OUTPUTS, [np.float16, np.float32, np.longdouble])))
def test_all_is_computed_in_the_parameters_dtype(loss, dtype):
    sizes = (4, 6, OUTPUTS[loss][-1])
    params, x, y, weights = sample(loss, sizes, dtype=dtype)
    exact = {k: v.astype(np.float64) for k, v in params.items()}
    for activation in ACT:
        assert {a.dtype for a in networks.forward(params, x, activation)} == {np.dtype(dtype)}
        value, grads = networks.value_and_grad(params, x, y, loss, activation, np.float64(0.1), weights)
        want, right = networks.value_and_grad(exact, x, y, loss, activation, 0.1, weights)
        bound = 30*max(np.finfo(dtype).eps, 2.3e-16)
        assert abs(value - want) < bound*max(1, abs(want))
        for name, g in grads.items():
            assert g.dtype == dtype
            assert np.abs(g - right[name]).max() < bound*max(1, np.abs(right[name]).max()), name


def test_nothing_given_is_modified():
    for loss, activation in PAIRS:
        params, x, y, weights = sample(loss, (3, 5, OUTPUTS[loss][-1]))
        for a in (*params.values(), x, y, weights):
            a.flags.writeable = False
        before = [a.copy() for a in (*params.values(), x, y, weights)]
        _, grads = networks.value_and_grad(params, x, y, loss, activation, 0.5, weights)
        assert all(np.array_equal(a, b) for a, b in zip((*params.values(), x, y, weights), before, strict=True))
        assert not any(np.shares_memory(g, a) for g in grads.values() for a in (*params.values(), x, y))


def test_layout_and_type_of_the_data_do_not_matter():
    params, x, y, weights = sample("squared", (3, 5, 1))
    want, right = networks.value_and_grad(params, x, y, "squared", weights=weights)
    for data in ((np.asfortranarray(x), y[:, 0], weights), (x.tolist(), y.tolist(), weights.tolist()),
                 (x[::-1][::-1], y, weights)):
        value, grads = networks.value_and_grad(params, data[0], data[1], "squared", weights=data[2])
        np.testing.assert_allclose(value, want, rtol=1e-14)
        for name, g in grads.items():
            np.testing.assert_allclose(g, right[name], rtol=1e-13)
    whole = networks.value(params, np.ones((2, 3), int), np.array([1, 2]), "squared")
    assert whole == networks.value(params, np.ones((2, 3)), np.array([1.0, 2.0]), "squared")


# Errors

@pytest.mark.parametrize(("change", "kind", "message"), [
    ({"loss": "hinge"}, ValueError, "networks: loss is 'hinge', but one of 'squared', 'softmax', 'logistic' is needed"),
    ({"activation": "elu"}, ValueError, "networks: activation is 'elu', but one of 'identity', 'logistic', 'tanh', "
                                        "'relu' is needed"),
    ({"x": np.zeros((4, 2))}, ValueError, r"networks: x has shape \(4, 2\), but \(rows, 3\) is needed"),
    ({"x": np.zeros(3)}, ValueError, r"networks: x has shape \(3,\)"),
    ({"x": np.zeros((0, 3)), "y": np.zeros((0, 2))}, ValueError, "networks: x has 0 rows"),
    ({"y": np.zeros((3, 2))}, ValueError, r"networks: x has 4 rows, y has shape \(3, 2\)"),
    ({"y": 1.0}, ValueError, r"networks: x has 4 rows, y has shape \(\)"),
    ({"y": np.zeros(4)}, ValueError, r"networks: y has shape \(4,\), but the outputs have \(4, 2\)"),
    ({"loss": "softmax"}, ValueError, r"y is float64 of shape \(4, 2\), but the softmax loss needs integers of shape "
                                      r"\(4,\)"),
    ({"loss": "softmax", "y": np.zeros(4)}, ValueError, "y is float64"),
    ({"loss": "softmax", "y": [0, 1, 2, 1]}, ValueError, "y has labels from 0 to 2, but there are 2 outputs"),
    ({"loss": "softmax", "y": [0, -1, 0, 1]}, ValueError, "y has labels from -1 to 1"),
    ({"loss": "logistic", "y": [0, 1, 0, 1]}, ValueError, "networks: 2 outputs, but the logistic loss needs 1"),
    ({"weights": np.ones(3)}, ValueError, r"networks: weights of shape \(3,\), but \(4,\) is needed"),
    ({"weights": np.zeros(4)}, ValueError, "at least one above 0"),
    ({"weights": [1, 1, 1, -1]}, ValueError, "each finite, 0 or more"),
    ({"weights": [1, 1, 1, np.nan]}, ValueError, "each finite, 0 or more"),
    ({"weights": [1, 1, 1, np.inf]}, ValueError, "each finite, 0 or more"),
    ({"params": {}}, ValueError, r"params has the keys \[\]"),
    ({"params": {"W1": np.zeros((3, 2))}}, ValueError, r"params has the keys \['W1'\], but W1, b1, W2, b2, \.\.\. are "
                                                       r"needed"),
    ({"params": {"W1": np.zeros((3, 2)), "b2": np.zeros(2)}}, ValueError, r"params has the keys \['W1', 'b2'\]"),
    ({"params": {"W1": np.zeros((3, 2), int), "b1": np.zeros(2)}}, TypeError, r"params\['W1'\] is int64, but an array "
                                                                              r"of a float type"),
])
def test_errors(change, kind, message):
    given = {"params": networks.initial((3, 2), 0), "x": np.zeros((4, 3)), "y": np.zeros((4, 2)), "loss": "squared",
             **change}
    for function in (networks.value, networks.value_and_grad):
        with pytest.raises(kind, match=message):
            function(**given)


def test_logistic_targets_are_0_and_1():
    params = networks.initial((3, 1), 0)
    for y in ([0, 1, 2, 0], [-1, 1, 1, -1], [0.5, 0, 0, 1], [np.nan, 0, 0, 1]):
        with pytest.raises(ValueError, match="y has other values than 0 and 1"):
            networks.value(params, np.zeros((4, 3)), y, "logistic")


@pytest.mark.parametrize("sizes", [(), (3,), (3, 0), (3, 2.0), (3, True), (-1, 2)])
def test_errors_of_initial(sizes):
    with pytest.raises(ValueError, match=r"networks\.initial: sizes is .*, but two or more whole numbers, 1 or more, "
                                         r"are needed"):
        networks.initial(sizes, 0)
    with pytest.raises(TypeError, match=r"networks\.initial: dtype is int64"):
        networks.initial((3, 2), 0, dtype=np.int64)
    with pytest.raises(TypeError, match=r"networks\.initial: rng is None"):
        networks.initial((3, 2), None)


BAD = {
    "shapes": ({"b1": np.zeros((1, 4))}, ValueError,
               r"params\['W1'\] has shape \(3, 4\) and params\['b1'\] \(1, 4\), but \(3, m\) and \(m,\)"),
    "one bias": ({"b2": np.zeros(1)}, ValueError, r"params\['W2'\] has shape \(4, 2\) and params\['b2'\] \(1,\), but "
                                                  r"\(4, m\)"),
    "chain": ({"W2": np.zeros((5, 2))}, ValueError, r"params\['W2'\] has shape \(5, 2\) .* but \(4, m\)"),
    "dtypes": ({"b2": np.zeros(2, np.float32)}, TypeError, r"params\['b2'\] float32, but float64 is needed"),
    "list": ({"W1": [[1.0]*4]*3}, TypeError, r"params\['W1'\] is a list, but an array of a float type"),
    "integers": ({"W1": np.ones((3, 4), int)}, TypeError, r"params\['W1'\] is int64"),
}


@pytest.mark.parametrize("how", BAD)
def test_arrays_that_make_no_network(how):
    change, error, message = BAD[how]
    params = {**networks.initial((3, 4, 2), 0, dtype=np.float64), **change}
    with pytest.raises(error, match=message):
        networks.value_and_grad(params, np.ones((5, 3)), np.ones((5, 2)), "squared")
