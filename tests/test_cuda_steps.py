"""Optimizers of device arrays: the bits of the CPU's, and nothing waited for. On the stand-in driver."""
import copy
import itertools
import pickle
from functools import partial

import numpy as np
import pytest
from conftest import KINDS, OPTIMIZERS, OWN, normal, stored

pytest.importorskip("numba_cuda", reason="the extra `cuda` is not installed")

from devices import Interface, quiet, to_device, to_host
from twins import SHAPES, Twins, adam, assert_same, bad, heavy_ball, leaves, singles, tree

import fastopt
from fastopt import schedules
from fastopt._cuda import clock as device_clock

pytestmark = pytest.mark.usefixtures("stand_in")
f32 = np.float32


@pytest.mark.parametrize("name", KINDS)
def test_trees_groups_and_schedules(name):
    """With all that may stand around a rule, in one kernel."""
    def make(p):
        scheduled = {**OWN[name][0], "lr": schedules.cosine(0.1, steps=10), "weight_decay": 0.2}
        return OPTIMIZERS[name]([{"params": p["a"], "weight_decay": 0.1}, {"params": [p["b"]], **scheduled}], lr=0.05)
    twins = Twins(make, {"a": tree(0), "b": tree(10)})
    for k, how in enumerate(({"clip_norm": 0.5}, {}, {"skip_nonfinite": True})):
        twins.step([tree(20 + k), [tree(30 + k)]], clip_value=0.1, grad_factor=-0.3, **how).same()


@pytest.mark.parametrize(("format", "state"), [("f64", None), ("f16", "bfloat16"), ("bf16", "float64")])
def test_formats(format, state):
    """Gradients have the format of the parameters, or another."""
    twins = Twins(lambda p: fastopt.Adam(p, lr=0.05, state=state), tree(0, format))
    for k, of_gradient in enumerate((format, "f32")):
        twins.step(tree(10 + k, of_gradient)).same()


def test_mixed_formats_take_one_launch_each(stand_in):
    formats = {"a": "f32", "b": "f64", "c": "bf16", "d": "f32"}
    params = {k: stored(normal(n, 50 + n), f) for n, (k, f) in enumerate(formats.items())}
    twins, grads = Twins(adam, params), {k: v.copy() for k, v in params.items()}
    given = to_device(grads)
    twins.step(grads, given).same()
    with stand_in.watch() as seen:
        twins.step(grads, given)
    assert len(seen.launched()) == 1 + 3
    twins.same()


def test_memory_orders():
    """Parameters in any permuted order; gradients in another, or strided."""
    base = singles(1, 4, 6, 10)
    strided = base[::-1, :, ::2]
    for g, view in ((np.asfortranarray(base), None), (base.T.copy().T, None), (strided, to_device(base)[::-1, :, ::2])):
        twins = Twins(adam, np.asfortranarray(singles(2, *g.shape)))
        view = to_device(g) if view is None else view
        twins.step(g, view, clip_norm=0.1).same().step(g, view, clip_norm=0.1).same()


# What a step asks of the driver

def test_a_step_waits_for_nothing(stand_in):
    """No synchronisation, copy to the host or allocation once the kernel is known; three launches for 150 addresses."""
    twins = Twins(lambda p: fastopt.Adam(p, lr=schedules.cosine(0.1, steps=50)),
                  [singles(k, 10 + k) for k in range(150)])
    grads = [singles(200 + k, 10 + k) for k in range(150)]
    one, other = to_device(grads), to_device(grads)
    twins.step(grads, one).step(grads, one, clip_norm=1.0).step(grads, one, clip_value=0.1, grad_factor=0.5)
    for given, how, launches in ((one, {}, 2), (one, {"clip_norm": 1.0}, 3), (other, {}, 2 + 3),
                                 (one, {"clip_norm": 1.0}, 3 + 3), (one, {}, 2), (one, {"skip_nonfinite": True}, 3),
                                 (one, {"clip_value": 0.1, "grad_factor": 0.5}, 2)):
        with stand_in.watch() as seen:
            twins.step(grads, given, **how)
        assert quiet(seen)
        assert len(seen.launched()) == launches, how
        assert set(seen.calls) <= {"cuLaunchKernel", "cuCtxGetCurrent", "cuPointerGetAttribute"}
        assert seen.calls["cuPointerGetAttribute"] in (0, 150)  # new addresses are asked on which device they are
    twins.same()


def test_a_thousand_tensors_take_one_launch(stand_in):
    twins = Twins(lambda p: fastopt.Momentum(p, lr=0.1), [singles(k, 3) for k in range(1_000)])
    grads = [singles(2_000 + k, 3) for k in range(1_000)]
    given = to_device(grads)
    twins.step(grads, given)
    with stand_in.watch() as seen:
        twins.step(grads, given)
    assert len(seen.launched()) == 2
    twins.same()


def test_more_groups_than_fit_into_one_launch():
    """Of three kinds: no decay, decoupled, coupled."""
    kinds = [{}, {"weight_decay": 0.1}, {"weight_decay": 0.1, "decay": "coupled"}]
    twins = Twins(lambda p: fastopt.Adam([{"params": x, "lr": 0.01*k, **kinds[k % 3]} for k, x in enumerate(p)]),
                  [singles(k, 40) for k in range(23)])
    for k in range(4):
        for opt in (twins.on_host, twins.on_device):
            opt.groups[k]["b1"] = 0.5
        twins.step([singles(100 + n, 40) for n in range(23)])
    twins.same()


def test_gradient_buffers():
    twins, grads = Twins(adam, tree(0)), tree(5)
    with pytest.raises(ValueError, match="no gradients were given"):
        twins.on_device.step()
    for k, buffer in twins.on_device.grads.items():
        assert not to_host(buffer).any()
        if grads[k].size:
            buffer.copy_to_device(grads[k])
    for anew in (False, True):
        if anew:
            twins.on_device.grads = to_device(grads)
        twins.step_host(grads)
        twins.on_device.step()
        twins.same()


def test_a_gradient_may_be_its_parameter():
    twins = Twins(adam, singles(1, 3_000))
    twins.step(twins.host, twins.device).same()


# Skipped steps

def test_skipped_steps_change_nothing():
    """As the very first step, too; the count stays, and so does the schedule's place."""
    twins = Twins(lambda p: fastopt.Adam(p, lr=lambda t: 0.1/t), tree(0))
    twins.step(bad(tree(1)), skip_nonfinite=True).same()
    assert twins.on_device.t == 0
    for k, value in enumerate((np.nan, np.inf, -np.inf)):
        twins.step(tree(2 + k), skip_nonfinite=True, clip_norm=1.0)
        twins.step(bad(tree(9), value), skip_nonfinite=True, clip_norm=1.0)
    assert twins.same().on_device.t == 3


def test_the_count_need_not_be_known(stand_in):
    """Ten steps of which some are skipped, hyperparameters changed in between, and nothing is waited for."""
    twins = Twins(lambda p: fastopt.AdamW(p, lr=lambda t: 0.1/t), tree(0))
    given = [(g, to_device(g)) for g in (tree(1), bad(tree(2)), tree(3))]
    for k, (g, on_device) in enumerate(given):
        twins.step(g, on_device, skip_nonfinite=True, grad_factor=1.0 + k)  # with the factor and without
    twins.on_device.t  # noqa: B018 (asks the device)
    with stand_in.watch() as seen:
        for k in range(10):
            twins.set(b1=0.5 + 0.04*k)
            twins.step(*given[k % 3], skip_nonfinite=k < 8, grad_factor=1.0/(k + 1)) if k % 3 != 1 or k < 8 else None
    assert quiet(seen)
    twins.same()


def test_the_count_is_asked_for_when_rows_run_out(stand_in, monkeypatch):
    monkeypatch.setattr(device_clock, "PERIOD", 8)
    monkeypatch.setattr(device_clock, "REPOSTED", 3)
    twins = Twins(lambda p: fastopt.Adam(p, lr=lambda t: 0.1/t), tree(0))
    grads = [(g, to_device(g)) for g in (tree(1), bad(tree(2)))]
    with stand_in.watch() as seen:
        for k in range(30):
            if k in (20, 21, 25):
                twins.set(b2=0.9 + k/1000)
            twins.step(*grads[k % 2], skip_nonfinite=True)
    assert 1 <= sum(seen.read.values()) <= 8
    assert twins.same().on_device.t == 15


@pytest.mark.parametrize("capturable", [None, 4])
@pytest.mark.parametrize("b1", [0.9, lambda t: min(0.95, 0.5 + 0.05*t)])
def test_the_product_of_nadam_is_that_of_the_steps_that_were_made(b1, capturable):
    """Numbers change while the host does not know how many steps were skipped."""
    twins = Twins(lambda p, **more: fastopt.NAdam(p, lr=0.1, b1=b1, **more), tree(0), capturable=capturable)
    for k in range(16):
        if k in (4, 7, 8):
            twins.set(b1=0.5 + 0.04*k)
        if k == 12:
            twins.set(b1=lambda t: 0.6 + 0.3/t, momentum_decay=0.1)
        twins.step(bad(tree(k)) if k in (1, 3, 6, 7, 13) else tree(k), skip_nonfinite=True)
    assert_same(to_host(twins.device), twins.host)
    assert twins.on_device.state_dict()["history"] == twins.on_host.state_dict()["history"]


def test_setting_the_count():
    twins = Twins(adam, tree(0))
    for t in (7, 2**24 + 1, 0):
        twins.on_host.t = twins.on_device.t = t
        twins.step(tree(t % 5), skip_nonfinite=t == 7).step(tree(3)).same()


# Look-ahead, callables

@pytest.mark.parametrize("how", [{}, {"form": "outside", "momentum": lambda t: 0.5 + 0.1*(t % 4)}, {"shifted": True}])
def test_nesterov(how):
    """A skipped step among them: the next point is again that of the step that was not made."""
    twins = Twins(lambda p: fastopt.Nesterov(p, lr=lambda t: 0.1/t, **how), tree(0))
    before, seen = to_host(twins.device), []
    for k in range(4):
        assert_same(to_host(twins.on_device.lookahead()), twins.on_host.lookahead())
        twins.step(bad(tree(k + 1), np.inf) if k == 1 else tree(k + 1), skip_nonfinite=k % 2 == 1)
    assert twins.same().on_device.t == 3
    assert not all(np.array_equal(a, b) for a, b in zip(leaves(before), leaves(to_host(twins.device)), strict=True))
    twins.on_device.step(lambda ahead: seen.append(ahead) or to_device(tree(9)))
    twins.on_host.step(lambda ahead: tree(9))
    assert seen[0]["W"].shape == SHAPES["W"]
    twins.same()


def test_callables_get_the_parameters():
    opt = fastopt.Adam(to_device(singles(1, 10)), lr=0.1)
    opt.step(lambda given: given)
    assert opt.t == 1
    with pytest.raises(TypeError, match="lookahead: Adam takes its gradient at the parameters themselves"):
        opt.lookahead()


# State

def test_state_moves_both_ways():
    def make(lr):
        return lambda p: fastopt.AMSGrad(p, lr=lr, state={"m": "bfloat16"})
    twins = Twins(make(0.1), tree(0))
    twins.step(tree(1)).step(tree(2))
    saved = twins.on_device.state_dict(), twins.on_host.state_dict()
    again = Twins(make(0.3), to_host(twins.device))
    again.on_device.load_state_dict(saved[1])
    again.on_host.load_state_dict(saved[0])
    twins.step(tree(3))
    again.step(tree(3)).same()
    assert_same(again.host, twins.host)
    third = make(0.1)(tree(5))
    third.load_state_dict({**saved[0], "state": to_device(saved[0]["state"])})
    assert_same(third.state["v"]["W"], saved[1]["state"]["v"][0])


def test_state_is_seen_in_the_library_of_the_parameters():
    p = to_device(tree(0))
    opt = fastopt.Adam(p, lr=0.1)
    opt.step(to_device(tree(1)))
    m = opt.state["m"]["W"]
    assert type(m) is type(p["W"])
    assert to_host(m).any()
    m.copy_to_device(np.zeros(SHAPES["W"], f32))
    assert not opt.state_dict()["state"]["m"][0].any()
    raw = fastopt.Adam([Interface(p["W"])], lr=0.1).state["v"][0]
    assert np.asarray(raw).shape == SHAPES["W"]
    assert np.asarray(raw, np.float64).dtype == np.float64
    with pytest.raises(ValueError, match="NumPy needs a copy"):
        np.asarray(raw, copy=False)
    assert repr(raw) == "DeviceArray(shape=(23, 45), dtype=float32, device=0)"
    for copied in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match=r"cannot be copied or pickled\. Copy the numbers"):
            copied(raw)
    opt = fastopt.Adam(to_device(singles(1, 10)))
    assert repr(opt) == "Adam(lr=0.001; t=0, 10 parameters f32, on CUDA device 0, state m f32, v f32 (8 bytes each))"


def test_torch_layout_is_read():
    p = singles(1, 6)
    saved = {"state": {0: {"step": f32(3), "exp_avg": p + 1, "exp_avg_sq": p**2}},
             "param_groups": [{"params": [0], "lr": 0.02, "betas": (0.8, 0.9), "eps": 1e-6, "weight_decay": 0.0}]}
    twins = Twins(fastopt.Adam, p)
    for opt in (twins.on_host, twins.on_device):
        opt.load_state_dict(saved)
    assert twins.on_device.t == 3
    twins.step(p.copy()).same()


def test_own_rule():
    twins = Twins(lambda p: fastopt.optimizer(heavy_ball)(p, lr=0.1), tree(0))
    twins.step(tree(1)).step(tree(2)).same()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_gradient_factor_on_the_device(dtype):
    """One element, read when the step runs."""
    twins, factor = Twins(adam, tree(0)), to_device(np.array([0.3], dtype))
    for k in range(3):
        factor.copy_to_device(np.array([0.3 + k], dtype))
        twins.on_host.step(tree(k), grad_factor=float(dtype(0.3 + k)), clip_norm=0.5)
        twins.on_device.step(to_device(tree(k)), grad_factor=factor, clip_norm=0.5)
        twins.same()
    for wrong in (to_device(np.ones(2, f32)), to_device(np.ones(1, np.float16))):
        with pytest.raises(ValueError, match="step: grad_factor has"):
            twins.on_device.step(to_device(tree(1)), grad_factor=wrong)
    twins.same()


def test_sizes_and_addresses():
    """Sizes around the widths of vectors, from every address that a multiple of an element may have."""
    cases = list(itertools.product((1, 3, 4, 5, 31, 33, 2_049), (0, 1, 2, 3, 5)))
    sizes, skips = [n for n, _ in cases], np.array([skip for _, skip in cases])
    at = np.cumsum([0, *(64*(2 + n//64) for n in sizes)])

    def put(arrays, skips):
        """Each in a memory for all, so many elements behind a multiple of 256 bytes."""
        memory = to_device(np.zeros(at[-1], f32))
        starts = (at[:-1] + skips).tolist()
        parts = [memory[start:start + x.size] for start, x in zip(starts, arrays, strict=True)]
        for part, x in zip(parts, arrays, strict=True):
            part.copy_to_device(x)
        return parts
    p, g = [singles(n, n) for n in sizes], [singles(n + 1, n) for n in sizes]
    twins = Twins(adam, p, lambda p: put(p, skips))
    twins.step(g, put(g, 0*skips)).step(g, put(g, 2*skips % 7)).same()


def test_a_plateau_is_heard_at_once():
    """A schedule that is fed, not a function of the step alone: rows that lie on the device already are sent again."""
    for capturable, around in itertools.product((None, 50), (lambda rate: rate, partial(schedules.warmup, 3))):
        rates = [schedules.ReduceOnPlateau(0.5, patience=0) for _ in range(2)]

        def make(p, left=iter(rates), around=around, **more):  # noqa: B008 (the host's, then the device's)
            return fastopt.SGD(p, lr=around(next(left)), **more)
        twins = Twins(make, tree(0), capturable=capturable)
        for k in range(8):
            for rate in rates:
                rate.observe(1.0 + k)
            twins.step(bad(tree(k)) if k in (1, 2, 5) else tree(k), skip_nonfinite=True)
        assert twins.on_device.t == twins.on_host.t == 5
        assert_same(to_host(twins.device), twins.host)


# Gradients wider than their parameters

@pytest.mark.parametrize(("format", "how"), [("f32", {}), ("bf16", {"rounding": "remainder"})])
def test_wide_gradients_are_scaled_in_float64(format, how):
    """Two groups of other signs, gradients of several formats in a step, a factor from the host or the device."""
    twins = Twins(lambda p: fastopt.Adam([{"params": p[0]}, {"params": p[1], "maximize": True}], lr=0.05, **how),
                  [tree(0, format), stored(normal(9, 700), format)])

    def grads(seed, size):
        """One of them float32, whose numbers are not large."""
        found = {k: v*size for k, v in tree(seed, "f64").items()}
        return [{**found, "b": stored(normal(seed, 45)*min(size, 1), "f32")}, normal(seed, 700)*size]
    for seed, (size, options) in enumerate([(1e100, {"clip_norm": 0.5}), (1e-37, {"grad_factor": -1e37}),
                                            (1e30, {"clip_norm": 3.0, "grad_factor": 1e-10, "skip_nonfinite": True})]):
        twins.step(grads(seed, size), **options).same()
    given = grads(7, 1e60)
    twins.on_host.step(given, grad_factor=1e-60, clip_norm=0.5)
    twins.on_device.step(to_device(given), grad_factor=to_device(np.array([1e-60])), clip_norm=0.5)
    twins.same()


def test_strided_wide_gradients():
    twins = Twins(lambda p: fastopt.Momentum(p, lr=0.05), singles(2, 37, 41))
    for g in (np.asfortranarray(normal(3, 37, 41)*1e60), normal(4, 37, 82)*1e60):
        part = slice(None, None, g.shape[1]//41)
        twins.step(g[:, part], to_device(g)[:, part], grad_factor=1e-60).same()


def test_what_is_not_finite_for_the_rule_is_skipped():
    """As on the CPU (test_wide_gradients.py), at the edge of float32 and of float64's squares."""
    edge = float(np.finfo(f32).max) + 2.0**103
    for dtype, g, factor, clip, skipped in (
            ("f32", 1e100, 1, None, 1), ("f32", 1e100, 1e-100, None, 0), ("f32", 1e100, 1, 1.0, 0),
            ("f32", edge, 1, None, 1), ("f32", np.nextafter(edge, 0), -1, None, 0), ("f32", edge/2, -2, None, 1),
            ("f32", 1.7e308, 1e-300, None, 0), ("f32", np.inf, 1e-300, 1.0, 1), ("f64", 1e200, 1, 0.5, 0),
            ("f64", 1.7e308, 2, None, 1), ("f64", np.nan, 1, None, 1)):
        twins = Twins(lambda p: fastopt.SGD(p, lr=0.1), stored(np.ones(600), dtype))
        given = np.zeros(600)
        given[432] = g
        twins.step(given, grad_factor=factor, clip_norm=clip, skip_nonfinite=True).same()
        assert twins.on_host.t == 1 - skipped, (dtype, g, factor, clip)


def test_gradients_that_are_none(stand_in):
    """Each tensor counts its steps; norms of those that are there; a graph may hold all steps alike."""
    twins = Twins(lambda p: fastopt.Adam(p, lr=0.05, weight_decay=0.1), tree(0))
    for t, lacking in enumerate(["", "W", "W", "bs", "", "long"]):
        g = tree(10 + t)
        given = to_device(g)
        g, given = ({k: None if k in lacking else x for k, x in of.items()} for of in (g, given))
        assert twins.on_device.norm(given, grad_factor=-0.5) == twins.on_host.norm(g, grad_factor=-0.5)
        twins.step(g, given, clip_norm=0.5 if t % 2 else None).same()
        assert twins.on_device.counts == twins.on_host.counts
        assert twins.on_device.grad_norm == twins.on_host.grad_norm
    saved = twins.on_device.state_dict()
    assert saved["behind"] == twins.on_host.state_dict()["behind"] == [2, 1, 1, 1, 0]
    twins.on_device.load_state_dict(saved)
    twins.step(tree(30), norm=3.0, clip_norm=1.0).same()
    captured = fastopt.Adam(to_device(tree(0)), capturable=10)
    with pytest.raises(ValueError, match="step: a gradient is None, but with capturable= all steps are alike"):
        captured.step({**to_device(tree(1)), "W": None})
    with pytest.raises(ValueError, match="made with capturable=, so that graphs may hold"):
        captured.remove("params['W']")


def test_parameters_that_are_added_and_removed_on_a_device():
    twins = Twins(adam, tree(0))
    twins.step(tree(1)).same()
    new = singles(5, 40)
    on_device = to_device(new)
    twins.on_host.add([new])
    twins.on_device.add([on_device])
    for t in range(2):
        g = singles(6 + t, 40)
        twins.on_host.step([tree(2 + t), [g]])
        twins.on_device.step([to_device(tree(2 + t)), [to_device(g)]])
    twins.same()
    assert_same(to_host(on_device), new)
    twins.on_device.remove("params[0]['W']")
    assert twins.on_device.counts == [{"b": 3, "s": 3, "long": 3, "none": 3}, [2]]
