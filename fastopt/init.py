"""Initial weights: Glorot, He and LeCun, from uniform or normal distributions, for dense and convolutional layers.

Each function draws weights of mean 0 and variance gain^2*v. v follows from the fans of the layer: the number of inputs
of an output, and of outputs of an input. With it, signals and gradients neither vanish nor explode on their way through
the layers:

    glorot  2/(fan_in + fan_out)   tanh, logistic, identity; between what signals need forwards and gradients backwards
    he      2/fan_in               relu, which keeps half of the mean square
    lecun   1/fan_in               tanh, identity; for the signals alone

Tanh shrinks its input. Behind 10 layers of 256 units the variance is 0.06 with gain 1. With gain 5/3 it is 0.42, as
behind any number of layers. Biases start at 0: ``np.zeros(fan_out, dtype)``.
"""
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ._checks.numbers import check_number, check_option, whole

__all__ = ["fans", "glorot_normal", "glorot_uniform", "he_normal", "he_uniform", "lecun_normal", "lecun_uniform"]

Layout = Literal["io", "oi"]
Shape = Sequence[int]
Rng = np.random.Generator | int
Weights = NDArray[Any]
VARIANCES: dict[str, Callable[[int, int], float]] = {
    "glorot": lambda fan_in, fan_out: 2/(fan_in + fan_out),
    "he": lambda fan_in, fan_out: 2/fan_in,
    "lecun": lambda fan_in, fan_out: 1/fan_in,
}


def fans(shape: Shape, layout: Layout = "io") -> tuple[int, int]:
    """The number of inputs that one output of a layer sees, and the number of outputs that one input reaches.

    Parameters
    ----------
    shape : sequence of at least two whole numbers
        "io": (inputs, outputs) of a dense layer y = x @ W; (*kernel, inputs, outputs) of a convolution (Keras, JAX).
        "oi": (outputs, inputs) and (outputs, inputs, *kernel), as torch stores them.
    layout : "io" or "oi"

    Returns
    -------
    fan_in, fan_out : int
        Channels times the elements of the kernel; with groups, the channels of one group (as in torch).

    Raises
    ------
    TypeError, ValueError
        If the shape has fewer than two dimensions or an entry is not a whole number, 0 or more; for an unknown layout.
    """
    check_option("layout", layout, ("io", "oi"), "fans")
    try:
        sizes = tuple(n for n in map(whole, shape) if n is not None and n >= 0)
        given = len(shape)
    except TypeError:
        raise TypeError(f"fans: shape is {shape!r}, but a sequence of whole numbers is needed. Give (inputs, "
                        "outputs).") from None
    if len(sizes) < max(given, 2):
        raise ValueError(f"fans: shape is {tuple(shape)}, but at least two whole numbers, 0 or more, are needed. Give "
                         "(inputs, outputs) of the weights; biases start at 0.")
    (*kernel, inputs, outputs) = sizes if layout == "io" else (*sizes[2:], sizes[1], sizes[0])
    field = math.prod(kernel)
    return inputs*field, outputs*field


def generator(rng: Rng, where: str, name: str = "rng") -> np.random.Generator:
    """The Generator itself, or a new one from a seed."""
    if isinstance(rng, np.random.Generator):
        return rng
    seed = whole(rng)
    if seed is None or seed < 0:
        raise TypeError(f"{where}: {name} is {rng!r}, but a numpy.random.Generator or a seed, 0 or more, is needed. "
                        "Give np.random.default_rng(0).")
    return np.random.default_rng(seed)


def glorot_uniform(shape: Shape, rng: Rng, dtype: DTypeLike = np.float32, gain: float = 1.0,
                   layout: Layout = "io") -> Weights:
    """Glorot & Bengio 2010, eq. 16: uniform on [-a, a], a = gain*sqrt(6/(fan_in + fan_out)).

    Parameters
    ----------
    shape : sequence of int
        (inputs, outputs), or (*kernel, inputs, outputs); see `fans`.
    rng : numpy.random.Generator or int
        Drawn from, or the seed of a new one. Numbers are drawn in float64, then rounded to the dtype.
    dtype : a NumPy float type
    gain : float
        The standard deviation is multiplied by it; torch's `calculate_gain` is one.
    layout : "io" or "oi"
        "oi" where the shape is (outputs, inputs, *kernel).

    Returns
    -------
    ndarray of `shape` and `dtype`

    Raises
    ------
    TypeError, ValueError
        For a shape, rng, dtype, gain or layout that is none.

    Notes
    -----
    The same as torch's `xavier_uniform_` and Keras's `GlorotUniform`, but for the random numbers.
    """
    return _drawn("glorot", "uniform", shape, rng, dtype, gain, layout)


def glorot_normal(shape: Shape, rng: Rng, dtype: DTypeLike = np.float32, gain: float = 1.0,
                  layout: Layout = "io") -> Weights:
    """Glorot & Bengio 2010: normal, of variance gain^2*2/(fan_in + fan_out); arguments as of `glorot_uniform`.

    torch: `xavier_normal_`. Keras's `GlorotNormal` has this variance, but draws nothing beyond two standard deviations.
    """
    return _drawn("glorot", "normal", shape, rng, dtype, gain, layout)


def he_uniform(shape: Shape, rng: Rng, dtype: DTypeLike = np.float32, gain: float = 1.0,
               layout: Layout = "io") -> Weights:
    """He et al. 2015: uniform on [-a, a], a = gain*sqrt(6/fan_in); arguments as of `glorot_uniform`.

    The factor 2 for relu is in it: gain stays 1. torch: ``kaiming_uniform_(nonlinearity="relu")``, Keras: `HeUniform`.
    """
    return _drawn("he", "uniform", shape, rng, dtype, gain, layout)


def he_normal(shape: Shape, rng: Rng, dtype: DTypeLike = np.float32, gain: float = 1.0,
              layout: Layout = "io") -> Weights:
    """He et al. 2015, eq. 10: normal, of variance gain^2*2/fan_in; arguments as of `glorot_uniform`.

    The factor 2 for relu is in it: gain stays 1. torch: ``kaiming_normal_(nonlinearity="relu")``. Keras cuts off.
    """
    return _drawn("he", "normal", shape, rng, dtype, gain, layout)


def lecun_uniform(shape: Shape, rng: Rng, dtype: DTypeLike = np.float32, gain: float = 1.0,
                  layout: Layout = "io") -> Weights:
    """LeCun et al. 1998: uniform on [-a, a], a = gain*sqrt(3/fan_in); arguments as of `glorot_uniform`.

    torch: ``kaiming_uniform_(nonlinearity="linear")``, Keras: `LecunUniform`.
    """
    return _drawn("lecun", "uniform", shape, rng, dtype, gain, layout)


def lecun_normal(shape: Shape, rng: Rng, dtype: DTypeLike = np.float32, gain: float = 1.0,
                 layout: Layout = "io") -> Weights:
    """LeCun et al. 1998, eq. 16: normal, of variance gain^2/fan_in; arguments as of `glorot_uniform`.

    torch: ``kaiming_normal_(nonlinearity="linear")``. Keras's `LecunNormal` is cut off.
    """
    return _drawn("lecun", "normal", shape, rng, dtype, gain, layout)


def _drawn(kind: str, form: str, shape: Shape, rng: Rng, dtype: DTypeLike, gain: float, layout: Layout) -> Weights:
    where = f"{kind}_{form}"
    fan_in, fan_out = fans(shape, layout)
    new = np.empty(tuple(shape), check_dtype(dtype, where))
    scale, source = check_number("gain", gain, where), generator(rng, where)
    deviation = scale*math.sqrt(VARIANCES[kind](fan_in, fan_out)) if new.size else 0.0
    if form == "normal":
        new[...] = deviation*source.standard_normal(new.shape)
    else:
        new[...] = math.sqrt(3)*deviation*source.uniform(-1, 1, new.shape)
    return new


def check_dtype(dtype: DTypeLike, where: str) -> np.dtype[Any]:
    """The NumPy float type; TypeError where it is none."""
    kept = np.dtype(dtype)
    if not np.issubdtype(kept, np.floating):
        raise TypeError(f"{where}: dtype is {kept}, but a float type of NumPy is needed. Give np.float32, np.float64.")
    return kept
