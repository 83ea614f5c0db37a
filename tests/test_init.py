"""Fans against torch's, variances and ranges on large arrays."""
import itertools
import math

import numpy as np
import pytest
from scipy import stats

from fastopt import init

FUNCTIONS = {f"{kind}_{form}": getattr(init, f"{kind}_{form}") for kind in ("glorot", "he", "lecun")
             for form in ("uniform", "normal")}
SHAPE = (3, 3, 40, 90)  # 360 inputs, 810 outputs
VARIANCE = {"glorot": 2/1170, "he": 2/360, "lecun": 1/360}
everyone = pytest.mark.parametrize("name", FUNCTIONS)

# torch 2.13: torch.nn.init._calculate_fan_in_and_fan_out(torch.empty(shape)); the last three: Conv1d, grouped Conv2d
TORCH = [((3, 5), (5, 3)), ((64, 128), (128, 64)), ((1, 1), (1, 1)), ((8, 3, 5), (15, 40)), ((16, 3, 3, 3), (27, 144)),
         ((32, 16, 5, 7), (560, 1120)), ((4, 2, 3, 4, 5), (120, 240)), ((11, 7, 3), (21, 33)), ((6, 1, 3, 3), (9, 54)),
         ((16, 2, 3, 3), (18, 144))]
OURS = [((784, 100), (784, 100)), ((5, 7, 16, 32), (560, 1120)), ((3, 4, 5, 2, 4), (120, 240)), ((0, 4), (0, 4))]


def test_fans():
    for shape, fans in TORCH:
        assert init.fans(shape, layout="oi") == fans
        assert init.fans((*shape[2:], shape[1], shape[0])) == fans
        assert init.fans([np.int64(n) for n in shape], "oi") == fans
    for shape, fans in OURS:
        assert init.fans(shape) == init.fans(shape, "io") == fans


@everyone
def test_variance_range_and_distribution(name):
    kind, form = name.split("_")
    for gain in (1.0, 5/3, 0.5):
        w = FUNCTIONS[name](SHAPE, 1, np.float64, gain=gain)
        n, variance = w.size, gain**2*VARIANCE[kind]
        assert w.shape == SHAPE
        assert abs(w.mean()) < 5*math.sqrt(variance/n)
        spread = math.sqrt({"uniform": 0.8,
                            "normal": 2}[form]/n)  # relative standard error of a sample's variance: (kurtosis - 1)/n
        assert abs(w.var()/variance - 1) < 5*spread
        limit = math.sqrt(3*variance)
        right = stats.norm(0, math.sqrt(variance)) if form == "normal" else stats.uniform(-limit, 2*limit)
        assert stats.kstest(w.ravel(), right.cdf).pvalue > 1e-3
        assert form == "normal" or limit*(1 - 20/n) < np.abs(w).max() <= limit*(1 + 1e-15)


@everyone
def test_layouts_dtypes_seeds_and_empty_layers(name):
    draw, rng = FUNCTIONS[name], np.random.default_rng(5)
    w, turned = (draw((200, 50), 3, np.float64, layout=layout) for layout in ("io", "oi"))  # 200 inputs, or 50
    np.testing.assert_allclose(turned, {"glorot": 1, "he": 2, "lecun": 2}[name.split("_")[0]]*w, rtol=1e-15)
    for dtype in (np.float32, np.float16, "float32"):
        rounded = draw((200, 50), 3, dtype)
        assert rounded.dtype == dtype
        assert rounded.flags.c_contiguous
        assert rounded.flags.writeable
        assert np.array_equal(rounded, w.astype(dtype))
    assert draw((30, 40), 7).dtype == np.float32
    first, second = draw((4, 6), rng), draw((4, 6), rng)
    assert np.array_equal(first, draw((4, 6), 5))
    assert np.array_equal(first, draw((4, 6), np.int64(5)))
    assert np.unique(np.concatenate([first, second])).size == 48
    for shape in ((0, 4), (4, 0), (0, 0), (3, 0, 5)):
        assert draw(shape, 0).shape == shape


def test_numbers_are_the_same_on_every_platform():
    """From NumPy 2.4 on x86-64, where u are the first uniforms and z the first normals of PCG64(0)."""
    u, z = [0.6369616873214543, 0.2697867137638703, 0.04097352393619469], [0.12573022, -0.13210486, 0.64042265]
    np.testing.assert_allclose(init.glorot_uniform((1, 3), 0, np.float64)[0], [(2*x - 1)*math.sqrt(6/4) for x in u],
                               rtol=1e-14)
    np.testing.assert_allclose(init.he_normal((1, 3), 0, np.float64)[0], [x*math.sqrt(2) for x in z], rtol=1e-7)


# Errors

ERRORS = [
    ({"shape": (3,)}, ValueError,
     r"fans: shape is \(3,\), but at least two whole numbers, 0 or more, are needed\. .*biases start at 0"),
    ({"shape": (3, -1)}, ValueError, r"fans: shape is \(3, -1\)"),
    ({"shape": (3, 2.0)}, ValueError, r"fans: shape is \(3, 2.0\)"),
    ({"shape": (3, True)}, ValueError, r"fans: shape is \(3, True\)"),
    ({"shape": 3}, TypeError, r"fans: shape is 3, but a sequence"),
    ({"layout": "hwio"}, ValueError, r"fans: layout is 'hwio', but one of 'io', 'oi' is needed"),
    ({"rng": None}, TypeError, r"rng is None, but a numpy\.random\.Generator or a seed"),
    ({"rng": -1}, TypeError, r"rng is -1"), ({"rng": True}, TypeError, r"rng is True"),
    ({"rng": np.random.RandomState(0)}, TypeError, r"rng is RandomState"),
    ({"dtype": np.int32}, TypeError, r"dtype is int32, but a float type of NumPy is needed"),
    ({"dtype": np.complex64}, TypeError, r"dtype is complex64"),
    ({"gain": math.inf}, ValueError, r"gain is inf, but a finite number is needed"),
    ({"gain": "relu"}, TypeError, r"gain is 'relu'")]


def test_errors():
    for (change, kind, message), (name, draw) in itertools.product(ERRORS, FUNCTIONS.items()):
        with pytest.raises(kind, match=message) as caught:
            draw(**{"shape": (3, 2), "rng": 0, **change})
        assert str(caught.value).startswith(("fans:", f"{name}:"))
