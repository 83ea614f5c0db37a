"""The same optimizer on a device and on the CPU: after any steps both hold the same bits. And graphs of steps."""
import contextlib
import gc

import numpy as np
from conftest import OPTIMIZERS, assert_identical, normal, stored
from devices import CuPy, do, foreign, numba_cuda, to_device, to_host, wait

import fastopt
from fastopt import schedules

SHAPES = {"W": (23, 45), "b": (45,), "s": (), "long": (4_201,), "none": (0, 3)}


def singles(seed, *shape):
    return normal(seed, *shape).astype(np.float32)


def tree(seed, format="f32"):
    return {k: np.array(stored(np.array(normal(seed + n, *shape)), format))
            for n, (k, shape) in enumerate(SHAPES.items())}


def bad(grads, value=np.nan):
    """These gradients, one element of which is not finite."""
    kind, long = grads["long"].dtype, grads["long"].copy()
    long[4_150] = stored(value, "bf16") if kind == np.uint16 else value
    return {**grads, "long": long}


def leaves(tree):
    if isinstance(tree, dict):
        return [x for value in tree.values() for x in leaves(value)]
    if isinstance(tree, (list, tuple)):
        return [x for value in tree for x in leaves(value)]
    return [tree]


def assert_same(have, want, what=""):
    """Every bit of the arrays of two trees."""
    for x, y in zip(leaves(have), leaves(want), strict=True):
        assert_identical(x, y, what)


class Twins:
    """The same optimizer on the device and on the CPU, and their parameters; `more` is for the device alone."""

    def __init__(self, make, params, put=to_device, **more):
        self.put, self.host, self.device = put, params, put(params)
        self.on_host, self.on_device = make(self.host), make(self.device, **more)

    def step(self, grads, given=None, **how):
        given = self.put(grads) if given is None else given  # before the host's step may set them to zero
        self.step_host(grads, **how)
        self.on_device.step(given, **how)
        return self

    def step_host(self, grads, **how):
        with np.errstate(all="ignore"):
            self.on_host.step(grads, **how)

    def set(self, **numbers):
        """Hyperparameters of the first group."""
        for opt in (self.on_host, self.on_device):
            opt.groups[0].update(numbers)

    def same(self):
        """Every bit of parameters, states and norms, and the counts."""
        assert_same(to_host(self.device), self.host)
        a, b = self.on_device.state_dict(), self.on_host.state_dict()
        assert a.keys() == b.keys()
        for name in b["state"]:
            for k, (have, want) in enumerate(zip(a["state"][name], b["state"][name], strict=True)):
                assert_identical(have, want, f"{name} of tensor {k}")
                assert have.strides == want.strides or have.size <= 1
        assert all(a[k] == b[k] for k in ("t", "rule", "groups", "paths", "version"))
        assert self.on_device.t == self.on_host.t
        have, want = self.on_device.grad_norm, self.on_host.grad_norm
        assert have == want or (np.isnan(have) and np.isnan(want))
        return self


# Captures

class Graph:
    """A capture of what is called within, on CuPy's current stream."""

    def __enter__(self):
        from cuda.bindings.driver import CUstreamCaptureMode
        gc.collect()
        gc.disable()  # what other tests have left is not to be freed within the capture, which that would end
        numba_cuda().current_context().deallocations.clear()
        do("cuStreamBeginCapture", CuPy.cuda.current.ptr, CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_GLOBAL)
        return self

    def __exit__(self, kind, error, trace):
        gc.enable()
        if kind is not None:
            with contextlib.suppress(RuntimeError):  # an invalid capture ends with an error of its own
                do("cuStreamEndCapture", CuPy.cuda.current.ptr)
            return
        self.graph = do("cuStreamEndCapture", CuPy.cuda.current.ptr)
        self.ready = do("cuGraphInstantiate", self.graph, 0)

    def replay(self, times=1):
        for _ in range(times):
            do("cuGraphLaunch", self.ready, CuPy.cuda.current.ptr)


def write(tree, values):
    """New numbers in the same memory, when all that is enqueued is done."""
    wait()
    for a, x in zip(leaves(tree), leaves(values), strict=True):
        if x.size:
            getattr(a, "array", a).copy_to_device(x)
    wait()


class Captured(Twins):
    """Twins of which CuPy's, on the device, is captured: it takes the gradients in `g`, first those of seed 1."""

    def __init__(self, make, params=None, grads=None, capturable=50):
        super().__init__(make, tree(0) if params is None else params, foreign, capturable=capturable)
        self.values = tree(1) if grads is None else grads
        self.g = foreign(self.values)

    def capture(self, **how):
        self.how = how
        with Graph() as self.graph:
            self.on_device.step(self.g, **how)
        return self

    def replay(self, values=None, times=1):
        """Replays, beside as many steps on the host; with new gradients if they are given."""
        if values is not None:
            self.values = values
            write(self.g, values)
        for _ in range(times):
            self.graph.replay()
            self.step_host(self.values, **self.how)
        return self

    def same(self):
        wait()
        return super().same()


def adam(p, **more):
    """What most tests ask of Adam."""
    return fastopt.Adam(p, lr=0.1, **more)


@fastopt.rule(state="v", lr=0.01, mu=0.9)
def heavy_ball(c, g, p, v):
    """A rule of a user's own."""
    v = c.mu*v + g
    u = c.lr*v
    return u, v


def in_groups(name, steps, p, **more):
    """An optimizer of two groups with a decay, and with schedules of their own, the first for so many steps."""
    return OPTIMIZERS[name]([{"params": p["long"], "weight_decay": 0.1},
                             {"params": [p["W"], p["b"]], "lr": lambda t: 0.2/t}],
                            lr=schedules.one_cycle(0.1, steps=steps), **more)


def grouped(grads):
    """Gradients in its groups."""
    return [grads["long"], [grads["W"], grads["b"]]]
