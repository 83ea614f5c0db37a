"""Optimizers of device arrays, from `opt.step` to the kernels: the bits of the CPU's, and nothing waited for. On the stand-in driver."""
import copy
import itertools
import pickle

import numpy as np
import pytest
from conftest import OPTIMIZERS, OWN, RULES, SHARED, assert_identical, normal, stored

pytest.importorskip("numba_cuda", reason="the extra `cuda` is not installed")

from devices import Interface, to_device, to_host

import fastopt
from fastopt import schedules
from fastopt._cuda import clock as device_clock

each_rule = pytest.mark.parametrize("name", RULES)
SHAPES = {"W": (23, 45), "b": (45,), "s": (), "long": (5_001,), "none": (0, 3)}


def tree(seed, format="f32"):
    return {k: np.array(stored(np.array(normal(seed + n, *shape)), format)) for n,
            (k, shape) in enumerate(SHAPES.items())}


class Twins:
    """The same optimizer on the device and on the CPU, and their parameters."""

    def __init__(self, make, params):
        self.host, self.device = params, to_device(params)
        self.on_host, self.on_device = make(self.host), make(self.device)

    def step(self, grads, given=None, **how):
        with np.errstate(all="ignore"):
            self.on_host.step(grads, **how)
        self.on_device.step(to_device(grads) if given is None else given, **how)
        return self

    def same(self):
        """Every bit of parameters and states, and the counts."""
        for have, want in zip(leaves(to_host(self.device)), leaves(self.host), strict=True):
            assert_identical(have, want)
        a, b = self.on_device.state_dict(), self.on_host.state_dict()
        assert a.keys() == b.keys()
        for name in b["state"]:
            for k, (have, want) in enumerate(zip(a["state"][name], b["state"][name], strict=True)):
                assert_identical(have, want, f"{name} of tensor {k}")
                assert have.strides == want.strides or have.size <= 1
        assert all(a[k] == b[k] for k in ("t", "rule", "groups", "paths", "version"))
        have, want = self.on_device.grad_norm, self.on_host.grad_norm
        assert have == want or (np.isnan(have) and np.isnan(want))
        return self


def leaves(tree):
    if isinstance(tree, dict):
        return [x for value in tree.values() for x in leaves(value)]
    if isinstance(tree, (list, tuple)):
        return [x for value in tree for x in leaves(value)]
    return [tree]


@each_rule
def test_trees_groups_and_schedules(name, stand_in):
    def make(p):
        scheduled = {**OWN[name][0], "lr": schedules.cosine(0.1, steps=10)}
        return OPTIMIZERS[name]([{"params": p["a"], **SHARED[1]}, {"params": [p["b"]], **scheduled}], lr=0.05)
    twins = Twins(make, {"a": tree(0), "b": tree(10)})
    for k in range(5):
        how = [{}, {"clip_norm": 0.5}, {"clip_value": 0.1, "grad_factor": -0.3}, {"skip_nonfinite": True},
               {"clip_norm": 1e9}][k]
        twins.step([tree(20 + k), [tree(30 + k)]], **how).same()


@pytest.mark.parametrize("name", ["momentum", "adam", "amsgrad"])
@pytest.mark.parametrize("format", ["f64", "f16", "bf16"])
@pytest.mark.parametrize("state", [None, "bfloat16", "float16", "float64"])
def test_formats(name, format, state, stand_in):
    twins = Twins(lambda p: OPTIMIZERS[name](p, lr=0.05, weight_decay=0.1, state=state), tree(0, format))
    for k in range(3):
        twins.step(tree(10 + k, ["f32", format, "f64"][k]), clip_norm=[None, 0.7, 2.0][k]).same()


def test_mixed_formats_take_one_launch_each(stand_in):
    params = {k: stored(normal(n, 50 + n), f) for n, (k, f) in enumerate({"a": "f32", "b": "f64", "c": "bf16",
                                                                          "d": "f32"}.items())}
    twins = Twins(lambda p: fastopt.Adam(p, lr=0.1), params)
    grads = {k: v.copy() for k, v in params.items()}
    given = to_device(grads)
    twins.step(grads, given).same()
    with stand_in.watch() as seen:
        twins.step(grads, given)
    assert len(seen.launched()) == 1 + 3
    twins.same()


@pytest.mark.parametrize("initial", [0.0, 0.25])
@pytest.mark.parametrize("format", ["f32", "f64", "f16", "bf16"])
def test_initial_state(initial, format, stand_in):
    state = {"f16": "float16", "bf16": "bfloat16"}.get(format)
    twins = Twins(lambda p: fastopt.AdaGrad(p, lr=0.1, initial_accumulator_value=initial, state=state), tree(0, format))
    twins.same().step(tree(1, format)).same()


@pytest.mark.parametrize("change", [np.asfortranarray, lambda a: a.T.copy().T,
                                    lambda a: np.ascontiguousarray(a)[::-1, :, ::2]])
def test_memory_orders(change, stand_in):
    """Parameters in any permuted order; gradients in another, or strided."""
    shape = (4, 6, 10)
    g = change(normal(1, *shape).astype(np.float32))
    p = np.asfortranarray(normal(2, *g.shape).astype(np.float32))
    twins = Twins(lambda p: fastopt.Adam(p, lr=0.1), p)
    base = np.ascontiguousarray(normal(1, *shape).astype(np.float32))
    view = to_device(base)[::-1, :, ::2] if g.shape != shape else to_device(g)
    twins.step(g, view).same().step(g, view, clip_norm=0.1).same()


# What a step asks of the driver

def quiet(seen):
    assert (seen.waited, seen.read, seen.allocated) == ({}, {}, {})


def test_a_step_waits_for_nothing(stand_in):
    """No synchronisation, no copy to the host, no allocation, whatever changes; a launch per kernel, and three for 150 new addresses."""
    params = [normal(k, 100 + k).astype(np.float32) for k in range(150)]
    twins = Twins(lambda p: fastopt.Adam(p, lr=schedules.cosine(0.1, steps=50)), params)
    grads = [normal(200 + k, 100 + k).astype(np.float32) for k in range(150)]
    one, other = to_device(grads), to_device(grads)
    twins.step(grads, one).step(grads, one, clip_norm=1.0)
    for given, how, launches in ((one, {}, 2), (one, {"clip_norm": 1.0}, 3), (other, {}, 2 + 3),
                                 (one, {"clip_norm": 1.0}, 3 + 3),
                                 (one, {}, 2), (one, {"skip_nonfinite": True}, 3),
                                 (one, {"clip_value": 0.1, "grad_factor": 0.5}, 2)):
        with stand_in.watch() as seen:
            twins.step(grads, given, **how)
        quiet(seen)
        assert len(seen.launched()) == launches, how
        assert set(seen.calls) <= {"cuLaunchKernel", "cuCtxGetCurrent", "cuPointerGetAttribute"}
        assert seen.calls["cuPointerGetAttribute"] in (0, 150)  # new addresses are asked on which device they are
    twins.same()


def test_a_thousand_tensors_take_one_launch(stand_in):
    params = [normal(k, 10).astype(np.float32) for k in range(1_000)]
    twins = Twins(lambda p: fastopt.Momentum(p, lr=0.1), params)
    grads = [normal(-k - 1 + 2_000, 10).astype(np.float32) for k in range(1_000)]
    given = to_device(grads)
    twins.step(grads, given)
    with stand_in.watch() as seen:
        twins.step(grads, given)
    assert len(seen.launched()) == 2
    twins.same()


def test_more_groups_than_fit_into_one_launch(stand_in):
    params = [{"params": normal(k, 40).astype(np.float32), "lr": 0.01*k} for k in range(23)]
    host = [{**g, "params": g["params"].copy()} for g in params]
    device = [{**g, "params": to_device(g["params"])} for g in params]
    a, b = fastopt.Adam(host, weight_decay=0.1), fastopt.Adam(device, weight_decay=0.1)
    grads = [normal(100 + k, 40).astype(np.float32) for k in range(23)]
    for k in range(4):
        a.groups[k]["b1"] = b.groups[k]["b1"] = 0.5
        a.step(grads)
        b.step(to_device(grads))
    for x, y in zip(host, device, strict=True):
        assert_identical(to_host(y["params"]), x["params"])


def test_gradient_buffers(stand_in):
    twins = Twins(lambda p: fastopt.Adam(p, lr=0.1), tree(0))
    grads = tree(5)
    with pytest.raises(ValueError, match="no gradients were given"):
        twins.on_device.step()
    for k, buffer in twins.on_device.grads.items():
        assert not to_host(buffer).any()
        if grads[k].size:
            buffer.copy_to_device(grads[k])
    twins.on_host.step(grads)
    twins.on_device.step()
    twins.same()
    twins.on_device.grads = to_device(grads)
    twins.on_host.step(grads)
    twins.on_device.step()
    twins.same()


def test_a_gradient_may_be_its_parameter(stand_in):
    p = normal(1, 3_000).astype(np.float32)
    twins = Twins(lambda p: fastopt.Adam(p, lr=0.1), p)
    twins.on_host.step(twins.host)
    twins.on_device.step(twins.device)
    twins.same()


# Skipped steps

def bad(grads, value=np.nan):
    grads = {k: v.copy() for k, v in grads.items()}
    grads["long"][4_500] = value
    return grads


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_skipped_steps_change_nothing(value, stand_in):
    """As the very first step, too; the count stays, and so does the schedule's place."""
    twins = Twins(lambda p: fastopt.Adam(p, lr=lambda t: 0.1/t), tree(0))
    twins.step(bad(tree(1), value), skip_nonfinite=True).same()
    assert twins.on_device.t == 0
    for k in range(3):
        twins.step(tree(2 + k), skip_nonfinite=True, clip_norm=1.0)
        twins.step(bad(tree(9), value), skip_nonfinite=True, clip_norm=1.0)
    assert twins.on_device.t == 3
    twins.same()


def test_the_count_need_not_be_known(stand_in):
    """Ten steps of which some are skipped, hyperparameters changed in between, and nothing is waited for."""
    twins = Twins(lambda p: fastopt.AdamW(p, lr=lambda t: 0.1/t), tree(0))
    given = [(g, to_device(g)) for g in (tree(1), bad(tree(2)), tree(3))]
    for g, on_device in given:
        twins.step(g, on_device, skip_nonfinite=True)
    twins.on_device.t  # noqa: B018 (asks the device)
    with stand_in.watch() as seen:
        for k in range(10):
            for opt in (twins.on_host, twins.on_device):
                opt.groups[0]["b1"] = 0.5 + 0.04*k
            twins.step(*given[k % 3], skip_nonfinite=k < 8, grad_factor=1.0/(k + 1)) if k % 3 != 1 or k < 8 else None
    quiet(seen)
    twins.same()


def test_the_count_is_asked_for_when_rows_run_out(stand_in, monkeypatch):
    monkeypatch.setattr(device_clock, "PERIOD", 8)
    monkeypatch.setattr(device_clock, "REPOSTED", 3)
    twins = Twins(lambda p: fastopt.Adam(p, lr=lambda t: 0.1/t), tree(0))
    grads = [(g, to_device(g)) for g in (tree(1), bad(tree(2)))]
    with stand_in.watch() as seen:
        for k in range(30):
            if k in (20, 21, 25):
                for opt in (twins.on_host, twins.on_device):
                    opt.groups[0]["b2"] = 0.9 + k/1000
            twins.step(*grads[k % 2], skip_nonfinite=True)
    assert 1 <= sum(seen.read.values()) <= 8
    twins.same()
    assert twins.on_device.t == 15


@pytest.mark.parametrize("capturable", [None, 4, 50])
@pytest.mark.parametrize("b1", [0.9, lambda t: min(0.95, 0.5 + 0.05*t)])
def test_the_product_of_nadam_is_that_of_the_steps_that_were_made(b1, capturable, stand_in):
    """Numbers change while the host does not know how many steps were skipped."""
    params = tree(0)
    device = to_device(params)
    opts = fastopt.NAdam(params, lr=0.1, b1=b1), fastopt.NAdam(device, lr=0.1, b1=b1, capturable=capturable)
    for k in range(16):
        for opt in opts:
            if k in (4, 7, 8):
                opt.groups[0]["b1"] = 0.5 + 0.04*k
            if k == 12:
                opt.groups[0].update({"b1": lambda t: 0.6 + 0.3/t, "momentum_decay": 0.1})
        g = bad(tree(k)) if k in (1, 3, 6, 7, 13) else tree(k)
        with np.errstate(all="ignore"):
            opts[0].step(g, skip_nonfinite=True)
        opts[1].step(to_device(g), skip_nonfinite=True)
    for x, y in zip(leaves(to_host(device)), leaves(params), strict=True):
        assert_identical(x, y)
    assert opts[0].state_dict()["history"] == opts[1].state_dict()["history"]


def test_setting_the_count(stand_in):
    twins = Twins(lambda p: fastopt.Adam(p, lr=0.1), tree(0))
    for t in (7, 2**24 + 1, 0):
        twins.on_host.t = twins.on_device.t = t
        twins.step(tree(t % 5), skip_nonfinite=t == 7).step(tree(3)).same()


# Look-ahead, callables

@pytest.mark.parametrize("how", [{}, {"form": "outside", "momentum": lambda t: 0.5 + 0.1*(t % 4)}, {"shifted": True}])
@pytest.mark.parametrize("format", ["f32", "f16"])
def test_nesterov(how, format, stand_in):
    twins = Twins(lambda p: fastopt.Nesterov(p, lr=0.1, **how), tree(0, format))
    before = to_host(twins.device)
    for k in range(4):
        ahead, want = to_host(twins.on_device.lookahead()), twins.on_host.lookahead()
        for a, b in zip(leaves(ahead), leaves(want), strict=True):
            assert_identical(a, b)
        twins.step(tree(k + 1, format), skip_nonfinite=k % 2 == 1)
    twins.same()
    assert not all(np.array_equal(a, b) for a, b in zip(leaves(before), leaves(to_host(twins.device)), strict=True))
    seen = []
    twins.on_device.step(lambda ahead: seen.append(ahead) or to_device(tree(9, format)))
    twins.on_host.step(lambda ahead: tree(9, format))
    assert seen[0]["W"].shape == SHAPES["W"]
    twins.same()


def test_look_ahead_after_a_skipped_step(stand_in):
    twins = Twins(lambda p: fastopt.Nesterov(p, lr=lambda t: 0.1*t), tree(0))
    twins.step(tree(1)).step(bad(tree(2)), skip_nonfinite=True)
    for a, b in zip(leaves(to_host(twins.on_device.lookahead())), leaves(twins.on_host.lookahead()), strict=True):
        assert_identical(a, b)
    twins.step(tree(3)).same()


def test_callables_get_the_parameters(stand_in):
    p = to_device(normal(1, 10).astype(np.float32))
    opt = fastopt.Adam(p, lr=0.1)
    opt.step(lambda given: given)
    assert opt.t == 1
    with pytest.raises(TypeError, match="lookahead: Adam takes its gradient at the parameters themselves"):
        opt.lookahead()


# State

def test_state_moves_both_ways(stand_in):
    twins = Twins(lambda p: fastopt.AMSGrad(p, lr=0.1, state={"m": "bfloat16"}), tree(0))
    twins.step(tree(1)).step(tree(2))
    saved = twins.on_device.state_dict(), twins.on_host.state_dict()
    again = Twins(lambda p: fastopt.AMSGrad(p, lr=0.3, state={"m": "bfloat16"}), to_host(twins.device))
    again.on_device.load_state_dict(saved[1])
    again.on_host.load_state_dict(saved[0])
    twins.step(tree(3))
    again.step(tree(3)).same()
    for a, b in zip(leaves(again.host), leaves(twins.host), strict=True):
        assert_identical(a, b)
    third = fastopt.AMSGrad(tree(5), state={"m": "bfloat16"})
    third.load_state_dict({**saved[0], "state": {k: to_device(v) for k,
                                                 v in saved[0]["state"].items()}})  # arrays on the device
    assert_identical(third.state["v"]["W"], saved[1]["state"]["v"][0])


def test_state_is_seen_in_the_library_of_the_parameters(stand_in):
    p = to_device(tree(0))
    opt = fastopt.Adam(p, lr=0.1)
    opt.step(to_device(tree(1)))
    assert type(opt.state["m"]["W"]) is type(p["W"])
    m = opt.state["m"]["W"]
    assert to_host(m).any()
    m.copy_to_device(np.zeros(SHAPES["W"], np.float32))
    assert not opt.state_dict()["state"]["m"][0].any()
    raw = fastopt.Adam([Interface(p["W"])], lr=0.1).state["v"][0]
    assert np.asarray(raw).shape == SHAPES["W"]
    assert np.asarray(raw, np.float64).dtype == np.float64
    with pytest.raises(ValueError, match="NumPy needs a copy"):
        np.asarray(raw, copy=False)
    assert repr(raw) == "DeviceArray(shape=(23, 45), dtype=float32, device=0)"


def test_torch_layout_is_read(stand_in):
    p = normal(1, 6).astype(np.float32)
    saved = {"state": {0: {"step": np.float32(3), "exp_avg": p + 1, "exp_avg_sq": p**2}},
             "param_groups": [{"params": [0], "lr": 0.02, "betas": (0.8, 0.9), "eps": 1e-6, "weight_decay": 0.0}]}
    twins = Twins(fastopt.Adam, p)
    for opt in (twins.on_host, twins.on_device):
        opt.load_state_dict(saved)
    assert twins.on_device.t == 3
    twins.step(p.copy()).same()


def test_own_rule(stand_in):
    @fastopt.rule(state="v", lr=0.01, mu=0.9)
    def heavy_ball(c, g, p, v):
        v = c.mu*v + g
        u = c.lr*v
        return u, v

    twins = Twins(lambda p: fastopt.optimizer(heavy_ball)(p, lr=0.1), tree(0))
    for k in range(3):
        twins.step(tree(k), clip_norm=1.0).same()


def test_repr(stand_in):
    opt = fastopt.Adam(to_device(normal(1, 10).astype(np.float32)))
    assert repr(opt) == "Adam(lr=0.001; t=0, 10 parameters f32, on CUDA device 0, state m f32, v f32 (8 bytes each))"


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_gradient_factor_on_the_device(dtype, stand_in):
    """One element, read when the step runs."""
    factor = to_device(np.array([0.3], dtype))
    twins = Twins(lambda p: fastopt.Adam(p, lr=0.1), tree(0))
    for k in range(3):
        factor.copy_to_device(np.array([0.3 + k], dtype))
        g = tree(k)
        twins.on_host.step(g, grad_factor=float(dtype(0.3 + k)), clip_norm=0.5)
        twins.on_device.step(to_device(g), grad_factor=factor, clip_norm=0.5)
        twins.same()
    for wrong in (to_device(np.ones(2, np.float32)), to_device(np.ones(1, np.float16))):
        with pytest.raises(ValueError, match="step: grad_factor has"):
            twins.on_device.step(to_device(tree(1)), grad_factor=wrong)
    twins.same()


def test_sizes_and_addresses(stand_in):
    """Sizes around the widths of vectors, from every address that a multiple of an element may have."""
    for n, skip in itertools.product((1, 3, 4, 5, 31, 33, 2_047, 2_049), (0, 1, 2, 3, 5)):
        twins = Twins(lambda p: fastopt.Adam(p, lr=0.1), normal(n, n).astype(np.float32))
        memory = to_device(np.zeros(n + skip, np.float32))
        twins.device = memory[skip:]
        twins.device.copy_to_device(twins.host)
        twins.on_device = fastopt.Adam(twins.device, lr=0.1)
        g = normal(n + 1, n).astype(np.float32)
        shifted = to_device(np.concatenate([np.zeros(skip*2 % 7, np.float32), g]))[skip*2 % 7:]
        twins.step(g).step(g, shifted).same()


def test_a_plateau_is_heard_at_once(stand_in):
    """A schedule that is fed, not a function of the step alone: rows that lie on the device already are sent again."""
    for capturable in (None, 50):
        rates = [schedules.ReduceOnPlateau(0.5, patience=0) for _ in range(2)]
        params = tree(0)
        device = to_device(params)
        host, opt = fastopt.SGD(params, lr=rates[0]), fastopt.SGD(device, lr=rates[1], capturable=capturable)
        for k in range(8):
            for rate in rates:
                rate.observe(1.0 + k)
            g = bad(tree(k)) if k in (1, 2, 5) else tree(k)
            with np.errstate(all="ignore"):
                host.step(g, skip_nonfinite=True)
            opt.step(to_device(g), skip_nonfinite=True)
        assert opt.t == host.t == 5
        for x, y in zip(leaves(to_host(device)), leaves(params), strict=True):
            assert_identical(x, y)


def test_states_are_not_copied_by_reference(stand_in):
    opt = fastopt.Momentum(Interface(to_device(np.ones(4, np.float32))))
    for copied in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match=r"cannot be copied or pickled\. Copy the numbers"):
            copied(opt.state["v"])


# Gradients wider than their parameters

WIDE = {"f32": ("f32", {}), "f16": ("f16", {"state": "float16"}), "q8": ("f32", {"state": "q8"}),
        "split": ("bf16", {"rounding": "remainder"})}


@pytest.mark.parametrize("mix", WIDE)
def test_wide_gradients_are_scaled_in_float64(mix, stand_in):
    """Two groups of other signs, gradients of several formats in a step, a factor from the host or the device."""
    format, how = WIDE[mix]
    twins = Twins(lambda p: fastopt.Adam([{"params": p[0]}, {"params": p[1], "maximize": True}], lr=0.05, **how),
                  [tree(0, format), stored(normal(9, 700), format)])

    def grads(seed, size):
        """One of them float32, whose numbers are not large."""
        found = {k: v*size for k, v in tree(seed, "f64").items()}
        return [{**found, "b": stored(normal(seed, 45)*min(size, 1), "f32")}, normal(seed, 700)*size]
    for seed, (size, options) in enumerate([(1e100, {"clip_norm": 0.5}), (1e-37, {"grad_factor": -1e37}),
                                            (1.0, {"skip_nonfinite": True}),
                                            (1e30, {"clip_norm": 3.0, "grad_factor": 1e-10, "clip_value": 0.4})]):
        twins.step(grads(seed, size), **options).same()
    given = grads(7, 1e60)
    twins.on_host.step(given, grad_factor=1e-60, clip_norm=0.5)
    twins.on_device.step(to_device(given), grad_factor=to_device(np.array([1e-60])), clip_norm=0.5)
    twins.same()


def test_strided_wide_gradients(stand_in):
    twins = Twins(lambda p: fastopt.Momentum(p, lr=0.05), normal(2, 37, 41).astype(np.float32))
    for g in (np.asfortranarray(normal(3, 37, 41)*1e60), normal(4, 37, 82)*1e60):
        part = slice(None, None, g.shape[1]//41)
        twins.step(g[:, part], to_device(g)[:, part], grad_factor=1e-60).same()


def test_what_is_not_finite_for_the_rule_is_skipped(stand_in):
    """As on the CPU (test_wide_gradients.py), at the edge of float32 and of float64's squares."""
    edge = float(np.finfo(np.float32).max) + 2.0**103
    for dtype, g, factor, clip, skipped in (
            ("f32", 1e100, 1, None, 1), ("f32", 1e100, 1e-100, None, 0), ("f32", 1e100, 1, 1.0, 0),
                                            ("bf16", edge, 1, None, 1),
            ("f32", np.nextafter(edge, 0), -1, None, 0), ("f32", edge/2, -2, None, 1),
                                            ("f16", 1.7e308, 1e-300, None, 0),
            ("f32", np.inf, 1e-300, 1.0, 1), ("f64", 1e200, 1, 0.5, 0), ("f64", 1.7e308, 2, None, 1),
                                            ("f64", np.nan, 1, None, 1)):
        twins = Twins(lambda p: fastopt.SGD(p, lr=0.1), stored(np.ones(5_000), dtype))
        given = np.zeros(5_000)
        given[4_321] = g
        twins.step(given, grad_factor=factor, clip_norm=clip, skip_nonfinite=True).same()
        assert twins.on_host.t == 1 - skipped, (dtype, g, factor, clip)
