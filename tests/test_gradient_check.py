"""The gradient check against gradients known to be right, wrong in a chosen place, or of functions with kinks and noise."""
from collections import Counter

import numpy as np
import pytest

from fastopt import curvature, networks, problems

f64, f32 = np.float64, np.float32


def verdicts(check):
    return {leaf.path: leaf.verdict for leaf in check.leaves}


def network(seed, dtype, activation="tanh", loss="squared"):
    """(parameters, value, gradient) of 8-20-12-4 units on 100 random samples."""
    rng = np.random.default_rng(seed)
    w = networks.initial((8, 20, 12, 4), rng, dtype=dtype)
    for k, x in w.items():
        x += (0.1*(k[0] == "b")*rng.standard_normal(x.shape)).astype(dtype)
    x, y = rng.standard_normal((100, 8)).astype(dtype), rng.standard_normal((100, 4)).astype(dtype)
    y = y.argmax(axis=1) if loss == "softmax" else y
    return (w, lambda w: networks.value(w, x, y, loss, activation),
            lambda w: networks.value_and_grad(w, x, y, loss, activation)[1])


@pytest.mark.parametrize("p", [problems.quadratic(1e4, 30), problems.rosenbrock(5), problems.beale(),
                               problems.rastrigin(4),
                               problems.linear_regression(), problems.logistic_regression(), problems.network("glorot"),
                               problems.network("saturated"), problems.network("equal")], ids=str)
@pytest.mark.parametrize("seed", range(3))
def test_right_gradients_are_ok(p, seed):
    w, rng = p.initial(), np.random.default_rng(seed)
    for x in w.values() if isinstance(w, dict) else [w]:
        x += 0.1*rng.standard_normal(x.shape)
    check = curvature.check_gradient(p.value, p.grad, w, rng=seed)
    assert check, str(check)
    assert all(leaf.error <= check.rtol for leaf in check.leaves)
    assert check.rtol == pytest.approx(np.finfo(f64).eps**(1/3))


@pytest.mark.parametrize(("dtype", "activation", "loss", "allowed"), [
    (f64, "tanh", "squared", {"ok"}), (f64, "tanh", "softmax", {"ok"}), (f64, "relu", "squared", {"ok"}),
                                                                      (f64, "relu", "softmax", {"ok"}),
    (f32, "tanh", "squared", {"ok"}), (f32, "tanh", "softmax", {"ok"}), (f32, "logistic", "softmax", {"ok"}),
    (f32, "relu", "squared", {"ok", "unsure"})])
def test_right_gradients_of_networks(dtype, activation, loss, allowed):
    """float32 rounds too much for the small steps that avoid the kinks of relu: but right is never called wrong."""
    found = Counter()
    for seed in range(3):
        w, value, grad = network(seed, dtype, activation, loss)
        found.update(verdicts(curvature.check_gradient(value, grad, w, samples=5, rng=seed)).values())
    assert set(found) == allowed


def test_functions_that_compute_in_float32_and_return_float64():
    """At the tolerance of float64 the check is unsure of them, not wrong; at that of float32 they are ok. Wrong is wrong at both."""
    for seed in range(3):
        w, value, grad = network(seed, f32)
        wide = {k: x.astype(f64) for k, x in w.items()}

        def narrow(w):
            return {k: x.astype(f32) for k, x in w.items()}
        arguments = (lambda w: float(value(narrow(w))), lambda w: {k: x.astype(f64) for k,
                                                                   x in grad(narrow(w)).items()}, wide)  # noqa: B023
        assert set(verdicts(curvature.check_gradient(*arguments, samples=5)).values()) == {"unsure"}
        assert curvature.check_gradient(*arguments, samples=5, rtol=5e-3)
        assert curvature.check_gradient(arguments[0], lambda w: grad(narrow(w)), wide,
                                        samples=5)  # noqa: B023  (its dtype gives it away)
        mistaken = curvature.check_gradient(arguments[0], lambda w: {k: -x for k, x in arguments[1](w).items()}, wide,
                                            samples=5)  # noqa: B023
        assert set(verdicts(mistaken).values()) == {"wrong"}


PLANTED = [(f64, "tanh", 1e-3), (f64, "relu", 1e-3), (f32, "tanh",
                                                      1.0)]  # dtype, activation, error over the leaf's root mean square


@pytest.mark.parametrize(("dtype", "activation", "size"), PLANTED)
@pytest.mark.parametrize("all_drawn", [True, False])
def test_one_wrong_element_is_found(dtype, activation, size, all_drawn):
    """By drawing it, or, if it is not drawn, by the direction that moves all 240 elements of its leaf."""
    for seed in range(2 if all_drawn else 6):
        w, value, grad = network(seed, dtype, activation)
        place = tuple(np.random.default_rng(seed).integers((20, 12)))

        def wrong(w):
            g = grad(w)  # noqa: B023
            g["W2"][place] += dtype(size*np.sqrt(np.mean(g["W2"]**2)))  # noqa: B023
            return g
        check = curvature.check_gradient(value, wrong, w, samples=240 if all_drawn else 3, rng=seed)
        assert not check
        found = verdicts(check)
        assert found.pop("w['W2']") in (("wrong",) if dtype is f64 or all_drawn else ("wrong", "unsure"))
        assert set(found.values()) <= ({"ok"})
        leaf = next(leaf for leaf in check.leaves if leaf.path == "w['W2']")
        if all_drawn:
            assert leaf.at == f"[{place[0]}, {place[1]}]"
            assert leaf.analytic == pytest.approx(wrong(w)["W2"][place])
            assert leaf.numeric == pytest.approx(grad(w)["W2"][place], abs=5*check.rtol*abs(leaf.analytic))
            assert leaf.checked == 241
        assert leaf.error > check.rtol


@pytest.mark.parametrize("dtype", [f64, f32])
@pytest.mark.parametrize("mistake", [lambda g: 1.05*g, lambda g: -g, lambda g: 0*g, lambda g: g + 0.05*abs(g).max(),
                                     lambda g: g[::-1]])
def test_one_wrong_leaf_is_found(dtype, mistake):
    w, value, grad = network(1, dtype)
    check = curvature.check_gradient(value, lambda w: {**(g := grad(w)), "W1": mistake(g["W1"]).astype(dtype)}, w)
    assert verdicts(check) == {**dict.fromkeys((f"w['{k}']" for k in w), "ok"), "w['W1']": "wrong"}
    assert not check


def test_an_element_is_named_before_the_direction():
    """Where both are wrong, also if the direction is more so."""
    a = np.array([1.0, 100.0])
    for seed in range(6):
        check = curvature.check_gradient(lambda w: a @ w, lambda w: 1.05*a, np.ones(2), samples=1, rng=seed)
        assert check.leaves[0].verdict == "wrong"
        assert check.leaves[0].at in ("[0]", "[1]")


def test_right_is_never_wrong_and_wrong_never_ok():
    """Where the numbers mislead: float32 steps across kinks, waves in step with the steps, noise that looks like a slope."""
    for seed in range(10):
        w, value, grad = network(seed, f32, "relu")
        c, start, rng = 2*np.pi*2.0**seed, np.random.default_rng(seed).standard_normal(6), np.random.default_rng(seed)
        cases = [(value, grad, w), (lambda w: np.sin(c*w).sum() + w @ w, lambda w: c*np.cos(c*w) + 2*w,
                                    start),  # noqa: B023
                 *((lambda w: np.sin(w).sum() + size*np.sin(1e9*w.sum() + seed), np.cos, start) for size in (1e-6,
                                                                                                             1e-3)),  # noqa: B023
                 (lambda w: np.sin(w).sum() + 1e-6*rng.standard_normal(), np.cos, start)]  # noqa: B023
        for value, grad, w in cases:
            assert "wrong" not in verdicts(curvature.check_gradient(value, grad, w, samples=3, rng=seed)).values()
            mistaken = curvature.check_gradient(value, lambda w: _scaled(grad(w), 1.02), w, samples=3,
                                                rng=seed)  # noqa: B023
            assert "ok" not in verdicts(mistaken).values()


def _scaled(g, factor):
    return {k: x*x.dtype.type(factor) for k, x in g.items()} if isinstance(g, dict) else factor*g


def hinge(w):
    return np.maximum(w, 0).sum() + (w**2).sum()


@pytest.mark.parametrize("slope", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("where", [0.0, 1e-13])
def test_a_kink_is_unsure(slope, where):
    """Whatever a gradient says at the kink of max(w, 0): the mean of both slopes too, which symmetric differences give."""
    w = np.array([1.0, where, -2.0])
    check = curvature.check_gradient(hinge, lambda w: np.where(abs(w) > 1e-12, w > 0, slope) + 2*w, w)
    (leaf,) = check.leaves
    assert leaf.verdict == "unsure"
    assert leaf.at == "[1]" or slope == 0.5  # then the direction, which crosses it too, may be as doubtful
    assert leaf.uncertainty == pytest.approx(0.5, rel=0.1) or leaf.at == "direction"
    assert not check


@pytest.mark.parametrize("where", [1e-1, 1e-3, 1e-5])
def test_beside_a_kink_the_steps_become_small_enough(where):
    w = np.array([1.0, where, -where])
    assert curvature.check_gradient(hinge, lambda w: (w > 0) + 2*w, w)
    wrong = curvature.check_gradient(hinge, lambda w: (w > 0) + 2*w + [0, 1e-3, 0], w)
    assert verdicts(wrong) == {"w": "wrong"}


def test_noise_is_unsure():
    rng = np.random.default_rng(0)
    check = curvature.check_gradient(lambda w: (w**2).sum() + 1e-3*rng.standard_normal(), lambda w: 2*w, np.ones(3))
    assert verdicts(check) == {"w": "unsure"}
    assert check.leaves[0].uncertainty > 1e-5


@pytest.mark.parametrize("w", [1e-6, 1e-3, 1.0, 1e6])
def test_functions_with_a_border_nearby_and_of_any_scale(w):
    """log ends at 0: the first steps, near 1/2, lead out of its domain."""
    w = np.array([w, 3*w])
    assert curvature.check_gradient(lambda w: np.log(w).sum(), lambda w: 1/w, w)
    wrong = curvature.check_gradient(lambda w: np.log(w).sum(), lambda w: 1.001/w, w)
    assert verdicts(wrong) == {"w": "wrong"}


@pytest.mark.parametrize("w", [1e-3, 1e3, 1e6])
def test_any_scale_in_float32(w):
    """Where w is large, short steps are lost in its rounding, and derivatives may be far smaller than the value."""
    w = np.array([w, 3*w, -5*w], f32)
    for value, grad in [(lambda w: np.log(w*w).sum(), lambda w: 2/w), (lambda t: (t - w).sum(), np.ones_like)]:
        assert curvature.check_gradient(value, grad, w), w
        assert verdicts(curvature.check_gradient(value, lambda w: f32(1.05)*grad(w), w)) == {"w": "wrong"}  # noqa: B023


def test_fast_waves_do_not_fool_the_first_steps():
    """Steps of 1/2, 1/4, ..., 1/32 see sin(64 pi w) vanish everywhere: a derivative of 0, it seems."""
    c = 64*np.pi
    assert curvature.check_gradient(lambda w: np.sin(c*w).sum(), lambda w: c*np.cos(c*w), np.zeros(2))
    assert verdicts(curvature.check_gradient(lambda w: np.sin(c*w).sum(), lambda w: 1.01*c*np.cos(c*w),
                                             np.zeros(2))) == {"w": "wrong"}


def test_a_gradient_of_zero():
    assert curvature.check_gradient(lambda w: 3.0, np.zeros_like, np.ones(2))
    assert curvature.check_gradient(lambda w: 1e8 + 0*w.sum(), np.zeros_like, np.ones(2))
    assert curvature.check_gradient(lambda w: 1.0 + 0*w.sum(), lambda w: 1e-18*w, np.ones(2))  # what rounding leaves
    assert verdicts(curvature.check_gradient(lambda w: 1.0 + 0*w.sum(), lambda w: 1e-3*w, np.ones(2))) == {"w": "wrong"}


def test_trees_paths_and_samples():
    w = [np.ones(()), {"a": (np.full((2, 3), 0.5, f32), np.ones(0))}, np.arange(50.0)]

    def value(t):
        result = float(t[0])**2 + (t[1]["a"][0]**3).sum() + np.sin(t[2]).sum()
        t[2][:] = 0  # it may do what it likes with its argument
        return result
    calls = []
    check = curvature.check_gradient(lambda t: calls.append(1) or value(t),
                                     lambda t: [2*t[0], {"a": [3*t[1]["a"][0]**2, np.ones(0)]}, np.cos(t[2])], w,
                                     samples=20)
    assert [(leaf.path, leaf.verdict, leaf.checked) for leaf in check.leaves] == [
        ("w[0]", "ok", 2), ("w[1]['a'][0]", "ok", 7), ("w[2]", "ok", 21)]
    assert 1 + 10*30 <= len(calls) <= 1 + 20*30
    assert np.array_equal(w[2], np.arange(50))
    assert check.rtol == pytest.approx(np.finfo(f32).eps**(1/3), rel=1e-6)


def test_it_repeats_and_prints():
    p = problems.rosenbrock(40)
    checks = [curvature.check_gradient(p.value, lambda w: 1.5*p.grad(w), p.start, samples=3, rng=seed) for seed in (0,
                                                                                                                    0,
                                                                                                                    1)]
    assert checks[0] == checks[1] != checks[2]
    lines = str(checks[0]).split("\n")
    assert lines[0].split("  ")[0] == "leaf"
    assert lines[1].split()[:2] == ["w", "wrong"]
    assert lines[1].split()[-1] == "4"
    assert len(lines) == 2
    assert isinstance(checks[0].leaves[0], curvature.LeafCheck)
    assert not checks[0].leaves[0].ok


def check(value, grad, w=None, **options):
    return lambda: curvature.check_gradient(value, grad, np.ones(2) if w is None else w, **options)


ERRORS = [
    (check(np.sum, lambda w: None), TypeError, "check_gradient: grad(w) is None, but arrays like those of w are "
                                               "needed."),
    (check(np.sum, lambda w: w[:1]), ValueError, "check_gradient: grad(w) has the shape (1,), but w has (2,)."),
    (check(np.sum, lambda w: w*np.nan), FloatingPointError, "check_gradient: grad(w)[0] is nan, the first of 2 "
                                                            "elements that are not"),
    (check(lambda w: None, np.ones_like), TypeError, "check_gradient: value(w) is a NoneType, but one real number is "
                                                     "needed."),
    (check(lambda w: w, np.ones_like), TypeError, "check_gradient: value(w) is an array of float64 and shape (2,), but "
                                                  "one real number"),
    (check(lambda w: np.nan, np.ones_like), FloatingPointError, "check_gradient: value(w) is nan, but a finite number "
                                                                "is needed."),
    (check(np.sum, np.ones_like, np.full(2, np.inf)), ValueError, "check_gradient: w[0] is inf, the first of 2 "
                                                                  "elements"),
    (check(np.sum, np.ones_like, {}), ValueError, "check_gradient: w has no elements"),
    (check(np.sum, np.ones_like, samples=0), ValueError, "check_gradient: samples is 0, but a whole number, 1 or more, "
                                                         "is needed."),
    (check(np.sum, np.ones_like, rtol=0.0), ValueError, "check_gradient: rtol is 0.0, but a number between 0 and 1 is "
                                                        "needed."),
]


@pytest.mark.parametrize(("call", "error", "text"), ERRORS, ids=[text for *_, text in ERRORS])
def test_errors_name_place_find_and_need(call, error, text):
    with pytest.raises(error) as caught:
        call()
    assert text in str(caught.value)
    assert str(caught.value).endswith(".")


@pytest.mark.parametrize(("value", "dtype"), [(lambda w: np.float32(1e5 + (w*w).sum()), np.float32),
                                              (lambda w: 1e13 + (w*w).sum(), np.float64)])
def test_a_large_value_does_not_hide_a_wrong_gradient(value, dtype):
    assert not curvature.check_gradient(value, lambda w: 0*w, np.ones(4, dtype))


def test_gradients_of_any_size():
    assert curvature.check_gradient(lambda w: 1e200*(w*w).sum(), lambda w: 2e200*w, np.ones(4))
    assert not curvature.check_gradient(lambda w: 1e200*(w*w).sum(), lambda w: 3e200*w, np.ones(4))


def test_at_a_minimum():
    assert curvature.check_gradient(lambda w: 3 + ((w - 1.1)**2).sum(), lambda w: 2*(w - 1.1), np.full(4, 1.1))
