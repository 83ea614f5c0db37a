"""The gradient check against gradients that are right, wrong in a chosen place, or beside kinks and noise."""
import numpy as np
import pytest

from fastopt import curvature, networks, problems

f64, f32 = np.float64, np.float32


def verdicts(value, grad, w, **how):
    return {leaf.path: leaf.verdict for leaf in curvature.check_gradient(value, grad, w, **how).leaves}


def network(seed, dtype, activation="tanh", loss="squared", hidden=(20, 12)):
    """(value, gradient, parameters) of a network with 8 inputs and 4 outputs on 100 random samples."""
    rng = np.random.default_rng(seed)
    w = networks.initial((8, *hidden, 4), rng, dtype=dtype)
    for k, x in w.items():
        x += (0.1*(k[0] == "b")*rng.standard_normal(x.shape)).astype(dtype)
    x, y = rng.standard_normal((100, 8)).astype(dtype), rng.standard_normal((100, 4)).astype(dtype)
    y = y.argmax(axis=1) if loss == "softmax" else y
    return (lambda w: networks.value(w, x, y, loss, activation),
            lambda w: networks.value_and_grad(w, x, y, loss, activation)[1], w)


def changed(g, function):
    return {k: function(x) for k, x in g.items()} if isinstance(g, dict) else function(g)


@pytest.mark.parametrize("p",
                         [problems.quadratic(1e4, 30), problems.rosenbrock(5), problems.beale(), problems.rastrigin(4),
                          problems.linear_regression(), problems.logistic_regression(),
                          *map(problems.network, ("glorot", "saturated", "equal"))], ids=str)
def test_right_gradients_are_ok(p):
    for seed in range(3 if p.hess else 1):
        rng = np.random.default_rng(seed)
        w = changed(p.initial(), lambda x: x + 0.1*rng.standard_normal(x.shape))  # noqa: B023
        check = curvature.check_gradient(p.value, p.grad, w, rng=seed, samples=8)
        assert check, str(check)
        assert all(leaf.error <= check.rtol for leaf in check.leaves)
        assert check.rtol == pytest.approx(np.finfo(f64).eps**(1/3))


@pytest.mark.parametrize(("dtype", "activation", "loss", "allowed"), [
    (f64, "tanh", "squared", {"ok"}), (f64, "tanh", "softmax", {"ok"}), (f64, "relu", "squared", {"ok"}),
    (f64, "relu", "softmax", {"ok"}), (f32, "tanh", "squared", {"ok"}), (f32, "tanh", "softmax", {"ok"}),
    (f32, "logistic", "softmax", {"ok"}), (f32, "relu", "squared", {"ok", "unsure"})])
def test_right_gradients_of_networks(dtype, activation, loss, allowed):
    """float32 rounds too much for the small steps that avoid the kinks of relu: but right is never called wrong."""
    found = [verdicts(*network(seed, dtype, activation, loss), samples=5, rng=seed) for seed in range(2)]
    assert {verdict for leaves in found for verdict in leaves.values()} == allowed


def test_functions_that_compute_in_float32_and_return_float64():
    """At float64's tolerance the check is unsure of them, at float32's they are ok. What is wrong is wrong."""
    value, grad, w = network(0, f32)
    wide = changed(w, lambda x: x.astype(f64))

    def inside(function, dtype=f64, factor=1):
        return lambda w: changed(function(changed(w, lambda x: x.astype(f32))), lambda x: dtype(factor*x))
    values = inside(value)
    assert set(verdicts(values, inside(grad), wide, samples=3).values()) == {"unsure"}
    assert curvature.check_gradient(values, inside(grad), wide, samples=3, rtol=5e-3)
    assert curvature.check_gradient(values, inside(grad, f32), wide, samples=3)  # its dtype gives it away
    assert set(verdicts(values, inside(grad, factor=-1), wide, samples=3).values()) == {"wrong"}


@pytest.mark.parametrize(("dtype", "activation", "size"), [  # the size is over the leaf's root mean square
    (f64, "tanh", 1e-3), (f64, "relu", 1e-3), (f32, "tanh", 1.0)])
@pytest.mark.parametrize("all_drawn", [True, False])
def test_one_wrong_element_is_found(dtype, activation, size, all_drawn):
    """By drawing it, or, if it is not drawn, by the direction that moves all 240 elements of its leaf."""
    hidden = (6, 5) if all_drawn else (20, 12)
    for seed in range(1 if all_drawn else 3):
        value, grad, w = network(seed, dtype, activation, hidden=hidden)
        place = tuple(np.random.default_rng(seed).integers(hidden))

        def wrong(w):
            g = grad(w)  # noqa: B023
            g["W2"][place] += dtype(size*np.sqrt(np.mean(g["W2"]**2)))  # noqa: B023
            return g
        check = curvature.check_gradient(value, wrong, w, samples=30 if all_drawn else 3, rng=seed)
        found = {leaf.path: leaf for leaf in check.leaves}
        leaf = found.pop("w['W2']")
        assert not check
        assert leaf.verdict in (("wrong",) if dtype is f64 or all_drawn else ("wrong", "unsure"))
        assert {other.verdict for other in found.values()} == {"ok"}
        assert leaf.error > check.rtol
        if all_drawn:
            assert leaf.at == f"[{place[0]}, {place[1]}]"
            assert leaf.analytic == pytest.approx(wrong(w)["W2"][place])
            assert leaf.numeric == pytest.approx(grad(w)["W2"][place], abs=5*check.rtol*abs(leaf.analytic))
            assert leaf.checked == 31


def test_one_wrong_leaf_is_found():
    for dtype in (f64, f32):
        value, grad, w = network(1, dtype)
        for mistake in (lambda g: 1.05*g, lambda g: -g, lambda g: 0*g, lambda g: g + 0.05*abs(g).max(),
                        lambda g: g[::-1]):
            found = verdicts(value, lambda w: {**(g := grad(w)), "W1": mistake(g["W1"]).astype(dtype)}, w,  # noqa: B023
                             samples=5)
            assert found == {**{f"w['{k}']": "ok" for k in w}, "w['W1']": "wrong"}


def test_an_element_is_named_before_the_direction():
    """Where both are wrong, also if the direction is more so."""
    a = np.array([1.0, 100.0])
    for seed in range(6):
        check = curvature.check_gradient(lambda w: a @ w, lambda w: 1.05*a, np.ones(2), samples=1, rng=seed)
        assert check.leaves[0].verdict == "wrong"
        assert check.leaves[0].at in ("[0]", "[1]")


def test_right_is_never_wrong_and_wrong_never_ok():
    """Where the numbers mislead: float32 steps across kinks, waves in step with ours, noise that looks like a slope."""
    for seed in (0, 1, 4, 9):
        c, start, rng = 2*np.pi*2.0**seed, np.random.default_rng(seed).standard_normal(6), np.random.default_rng(seed)
        cases = [*([network(seed, f32, "relu")] if seed < 2 else []),
                 (lambda w: np.sin(c*w).sum() + w @ w, lambda w: c*np.cos(c*w) + 2*w, start),  # noqa: B023
                 *((lambda w: np.sin(w).sum() + size*np.sin(1e9*w.sum() + seed), np.cos, start)  # noqa: B023
                   for size in (1e-6, 1e-3)),
                 (lambda w: np.sin(w).sum() + 1e-6*rng.standard_normal(), np.cos, start)]  # noqa: B023
        for value, grad, w in cases:
            how = {"samples": 3, "rng": seed}
            assert "wrong" not in verdicts(value, grad, w, **how).values()
            mistaken = verdicts(value, lambda w: changed(grad(w), lambda x: x*x.dtype.type(1.02)), w, **how)  # noqa: B023
            assert "ok" not in mistaken.values()


# Kinks, noise, scales

def hinge(w):
    return np.maximum(w, 0).sum() + (w**2).sum()


def test_a_kink_is_unsure():
    """Whatever a gradient says at the kink of max(w, 0): also 1/2, the slope that symmetric differences see."""
    for slope in (0.0, 0.5, 1.0):
        for where in (0.0, 1e-13):
            w = np.array([1.0, where, -2.0])
            check = curvature.check_gradient(hinge, lambda w: np.where(abs(w) > 1e-12, w > 0, slope) + 2*w, w)  # noqa: B023
            (leaf,) = check.leaves
            assert leaf.verdict == "unsure"
            assert leaf.at == "[1]" or slope == 0.5  # then the direction, which crosses it too, may be as doubtful
            assert leaf.uncertainty == pytest.approx(0.5, rel=0.1) or leaf.at == "direction"
            assert not check


def test_noise_is_unsure():
    rng = np.random.default_rng(0)
    check = curvature.check_gradient(lambda w: (w**2).sum() + 1e-3*rng.standard_normal(), lambda w: 2*w, np.ones(3))
    assert [leaf.verdict for leaf in check.leaves] == ["unsure"]
    assert check.leaves[0].uncertainty > 1e-5


C = 64*np.pi
RIGHT_AND_WRONG = {  # value, gradient, a wrong one, and points
    "beside a kink the steps become small enough": (
        hinge, lambda w: (w > 0) + 2*w, lambda w: (w > 0) + 2*w + [0, 1e-3, 0],
        [np.array([1.0, x, -x]) for x in (1e-1, 1e-3, 1e-5)]),
    "a border nearby: the first steps, near 1/2, lead out of the domain of log": (
        lambda w: np.log(w).sum(), lambda w: 1/w, lambda w: 1.001/w,
        [np.array([x, 3*x]) for x in (1e-6, 1e-3, 1.0, 1e6)]),
    "float32 where w is large: short steps are lost in its rounding": (
        lambda w: np.log(w*w).sum(), lambda w: 2/w, lambda w: f32(1.05)*2/w,
        [np.array([x, 3*x, -5*x], f32) for x in (1e-3, 1e3, 1e6)]),
    "derivatives far smaller than the value": (
        lambda w: (w - w[0]).sum(), lambda w: f32([-2, 1, 1]), lambda w: f32([-2, 1, 1.1]),
        [np.array([x, 3*x, -5*x], f32) for x in (1e-3, 1e3, 1e6)]),
    "steps of 1/2, 1/4, ..., 1/32 see this wave vanish everywhere": (
        lambda w: np.sin(C*w).sum(), lambda w: C*np.cos(C*w), lambda w: 1.01*C*np.cos(C*w), [np.zeros(2)]),
    "no slope at all": (lambda w: 3.0, np.zeros_like, lambda w: 1e-3*w, [np.ones(2)]),
    "no slope beside a large value": (lambda w: 1e8 + 0*w.sum(), np.zeros_like, lambda w: w, [np.ones(2)]),
    "what rounding leaves of none": (lambda w: 1 + 0*w.sum(), lambda w: 1e-18*w, lambda w: 1e-3*w, [np.ones(2)]),
    "a minimum": (lambda w: 3 + ((w - 1.1)**2).sum(), lambda w: 2*(w - 1.1), lambda w: 2*(w - 1), [np.full(4, 1.1)]),
    "numbers near the end of float64": (
        lambda w: 1e200*(w*w).sum(), lambda w: 2e200*w, lambda w: 3e200*w, [np.ones(4)]),
    "a large value in float32": (lambda w: f32(1e5 + (w*w).sum()), None, lambda w: 0*w, [np.ones(4, f32)]),
    "a large value in float64": (lambda w: 1e13 + (w*w).sum(), None, lambda w: 0*w, [np.ones(4)])}


@pytest.mark.parametrize("case", RIGHT_AND_WRONG)
def test_right_is_ok_and_wrong_is_not(case):
    value, right, wrong, points = RIGHT_AND_WRONG[case]
    for w in points:
        if right:
            assert curvature.check_gradient(value, right, w), w
            assert verdicts(value, wrong, w) == {"w": "wrong"}, w
        else:
            assert not curvature.check_gradient(value, wrong, w)


# What comes of it

def test_trees_paths_and_samples():
    w, calls = [np.ones(()), {"a": (np.full((2, 3), 0.5, f32), np.ones(0))}, np.arange(50.0)], []

    def value(t):
        calls.append(1)
        result = float(t[0])**2 + (t[1]["a"][0]**3).sum() + np.sin(t[2]).sum()
        t[2][:] = 0  # it may do what it likes with its argument
        return result
    grad = lambda t: [2*t[0], {"a": [3*t[1]["a"][0]**2, np.ones(0)]}, np.cos(t[2])]  # noqa: E731
    check = curvature.check_gradient(value, grad, w, samples=20)
    assert [(leaf.path, leaf.verdict, leaf.checked) for leaf in check.leaves] == [
        ("w[0]", "ok", 2), ("w[1]['a'][0]", "ok", 7), ("w[2]", "ok", 21)]
    assert 1 + 10*30 <= len(calls) <= 1 + 20*30
    assert np.array_equal(w[2], np.arange(50))
    assert check.rtol == pytest.approx(np.finfo(f32).eps**(1/3), rel=1e-6)


def test_it_repeats_and_prints():
    p = problems.rosenbrock(40)
    checks = [curvature.check_gradient(p.value, lambda w: 1.5*p.grad(w), p.start, samples=3, rng=seed)
              for seed in (0, 0, 1)]
    assert checks[0] == checks[1] != checks[2]
    head, row = str(checks[0]).split("\n")
    assert head.split("  ")[0] == "leaf"
    assert row.split()[:2] == ["w", "wrong"]
    assert row.split()[-1] == "4"
    assert isinstance(checks[0].leaves[0], curvature.LeafCheck)
    assert not checks[0].leaves[0].ok


@pytest.mark.parametrize(("value", "grad", "w", "how", "error", "text"), [
    (np.sum, lambda w: w*np.nan, [1, 1], {}, FloatingPointError, "grad(w)[0] is nan, the first of 2 elements that are"),
    (lambda w: None, np.ones_like, [1, 1], {}, TypeError, "value(w) is a NoneType, but one real number is needed."),
    (lambda w: w, np.ones_like, [1, 1], {}, TypeError, "value(w) is an array of float64 and shape (2,), but one real"),
    (lambda w: np.nan, np.ones_like, [1, 1], {}, FloatingPointError, "value(w) is nan, but a finite number is needed."),
    (np.sum, np.ones_like, [1, 1], {"samples": 0}, ValueError, "samples is 0, but a whole number, 1 or more, is"),
    (np.sum, np.ones_like, [1, 1], {"rtol": 0.0}, ValueError, "rtol is 0.0, but a number in (0, 1) is needed.")])
def test_errors_name_place_find_and_need(value, grad, w, how, error, text):
    with pytest.raises(error) as caught:
        curvature.check_gradient(value, grad, np.array(w, f64), **how)
    assert str(caught.value).startswith(f"check_gradient: {text}")
    assert str(caught.value).endswith(".")
