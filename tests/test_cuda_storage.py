"""Optimizers of device arrays whose parameters and states are stored in fewer bytes: the bits of the CPU's, on the stand-in driver."""
import numpy as np
import pytest
from conftest import OPTIMIZERS, OWN, RULES, SHARED, assert_identical, normal, stored

pytest.importorskip("numba_cuda", reason="the extra `cuda` is not installed")

from devices import Foreign, Interface, numba_cuda, to_device, to_host
from test_cuda_steps import Twins, leaves, tree
from test_cuda_streams import Graph, assert_look_ahead_is_captured, cupy, do, foreign  # noqa: F401 (a fixture)

import fastopt
from fastopt import schedules
from fastopt._cuda import libraries
from fastopt._tensors.device_array import DeviceArray

STOCHASTIC = {"state": "bf16s", "rounding": "stochastic"}
MIXES = {  # the format of parameters and gradients, and how an optimizer is asked to store them
    "bf16s": ("bf16", STOCHASTIC), "split": ("bf16", {"state": "bf16s", "rounding": "remainder"}), "q8": ("f32", {"state": "q8"}),
    "bf16s q8": ("bf16", {"state": "q8", "rounding": "stochastic"}), "f16s": ("f16", {"state": "f16s", "rounding": "stochastic"}),
    "f64 q8": ("f64", {"state": "q8"})}
each_mix = pytest.mark.parametrize("mix", MIXES)
HOWS = ({}, {"clip_norm": 0.5}, {"clip_value": 0.1, "grad_factor": -0.3}, {"zero_grads": True}, {"skip_nonfinite": True}, {})


def made(name, mix, **more):
    """A function of the parameters that makes an optimizer."""
    return lambda p: OPTIMIZERS[name](p, seed=5, **{"lr": 0.05, **MIXES[mix][1], **more})


def both(name, mix, **more):
    return Twins(made(name, mix, **more), tree(0, MIXES[mix][0]))


def numbers_of(opt):
    return [leaves(opt.decoded(name)) for name in (*opt._backend.states, "params")]


def same_numbers(a, b):
    for have, want in zip(numbers_of(a), numbers_of(b), strict=True):
        for x, y in zip(have, want, strict=True):
            assert_identical(x, y)


@each_mix
@pytest.mark.parametrize("name", RULES)
def test_steps(name, mix, stand_in):
    """Two groups, a schedule, norms, steps that are skipped; gradients that are set to zero."""
    format, how = MIXES[mix]

    def make(p):
        groups = [{"params": p["a"], **SHARED[1]}, {"params": [p["b"]], **OWN[name][0], "lr": schedules.cosine(0.1, steps=10)}]
        return OPTIMIZERS[name](groups, lr=0.05, seed=3, **how)
    twins = Twins(make, {"a": tree(0, format), "b": tree(10, format)})
    twins.same()
    for k, asked in enumerate(HOWS):
        grads = [tree(20 + k, format), [tree(30 + k, format)]]
        if asked.get("skip_nonfinite"):
            grads[0]["long"][77] = stored(np.array(np.nan), format)
        given = to_device(grads)
        twins.step(grads, given, **asked).same()
        for have, want in zip(leaves(to_host(given)), leaves(grads), strict=True):
            assert_identical(have, want)
            assert not asked.get("zero_grads") or not np.any(have)
    assert twins.on_device.t == len(HOWS) - 1
    same_numbers(twins.on_device, twins.on_host)


@each_mix
def test_the_step_that_a_device_counts_is_the_one_that_is_drawn_for(mix, stand_in):
    """Any of the steps may have been skipped, which the host does not know: nothing is read back between them."""
    twins = both("adam", mix)
    format = MIXES[mix][0]
    for k in range(7):
        grads = tree(10 + k, format)
        if k in (0, 2, 3, 5):
            grads["W"][3, 4] = stored(np.array(np.inf), format)
        with np.errstate(all="ignore"):
            twins.on_host.step(grads, skip_nonfinite=True)
        twins.on_device.step(to_device(grads), skip_nonfinite=True)
    assert twins.on_host.t == 3
    twins.on_host.step(grads := tree(1, format))
    twins.on_device.step(to_device(grads))
    twins.on_host.step(grads, skip_nonfinite=True)
    twins.on_device.step(to_device(grads), skip_nonfinite=True)
    twins.same()


@each_mix
def test_average_and_copy(mix, stand_in):
    format, host = MIXES[mix][0], tree(0, MIXES[mix][0])
    copies = {k: np.array(stored(np.full(x.shape, 9.0), "bf16")) for k, x in host.items()}
    there, device = to_device(copies), to_device(host)
    a = made("adam", mix, average=0.9, copy=copies)(host)
    b = made("adam", mix, average=0.9, copy=there)(device)
    for k in range(3):
        for x, y in zip(leaves(to_host(there)), leaves(copies), strict=True):
            assert_identical(x, y)
        same_numbers(b, a)
        grads = tree(10 + k, format)
        a.step(grads, zero_grads=k == 1)
        b.step(to_device(grads) if k != 1 else to_device(tree(10 + k, format)), zero_grads=k == 1)
    for x, y in zip(leaves(to_host([device, there])), leaves([host, copies]), strict=True):
        assert_identical(x, y)
    same_numbers(b, a)


@pytest.mark.parametrize("initial", [0.0, 0.25])
@each_mix
def test_initial_state(mix, initial, stand_in):
    twins = both("adagrad", mix, initial_accumulator_value=initial)
    twins.same().step(tree(1, MIXES[mix][0])).same()


@each_mix
def test_look_ahead(mix, stand_in):
    """With the next step's momentum; the parameters stay."""
    twins = both("nesterov", mix, lr=0.1, momentum=lambda t: 0.5 + 0.1*(t % 4))
    for k in range(3):
        for have, want in zip(leaves(to_host(twins.on_device.lookahead())), leaves(twins.on_host.lookahead()), strict=True):
            assert_identical(have, want)
        twins.step(tree(k + 1, MIXES[mix][0])).same()


@each_mix
def test_memory_orders_and_strided_gradients(mix, stand_in):
    """A parameter in the order of Fortran, whose blocks run along its memory; a gradient in that of C."""
    format = MIXES[mix][0]
    p = np.asfortranarray(stored(normal(1, 37, 61), format))
    g = np.ascontiguousarray(stored(normal(2, 37, 61), format))
    twins = Twins(made("adam", mix), p)
    for how in ({}, {"clip_norm": 0.1}):
        twins.step(g, to_device(g), **how).same()
    same_numbers(twins.on_device, twins.on_host)


@each_mix
def test_a_checkpoint_continues(mix, stand_in):
    """From the device on another device and on the CPU, from the CPU on the device; the seed comes along."""
    format = MIXES[mix][0]
    twins = both("adam", mix)
    twins.step(tree(1, format)).step(tree(2, format))
    saved, params = twins.on_device.state_dict(), to_host(twins.device)
    here, there = {k: x.copy() for k, x in params.items()}, to_device(params)
    more = {**MIXES[mix][1], "lr": 0.9}
    again, on_host = fastopt.Adam(there, seed=77, **more), fastopt.Adam(here, seed=78, **more)
    grads = tree(4, format)
    again.step(to_device(grads))  # tables are there, with the other seed
    for name, x in params.items():
        there[name].copy_to_device(x) if x.size else None
    again.load_state_dict(twins.on_host.state_dict())
    on_host.load_state_dict(saved)
    assert (again.t, again.groups[0]["lr"]) == (2, 0.05)
    for k in range(2):
        grads = tree(8 + k, format)
        twins.step(grads).same()
        again.step(to_device(grads))
        on_host.step(grads)
    for have in (to_host(there), here):
        for x, y in zip(leaves(have), leaves(twins.host), strict=True):
            assert_identical(x, y)
    same_numbers(again, on_host)


@each_mix
@pytest.mark.parametrize("how", [{}, {"clip_norm": 0.7, "skip_nonfinite": True}, {"zero_grads": True}], ids=["plain", "skip", "zero"])
def test_replays_draw_anew(mix, how, cupy):  # noqa: F811
    """A graph that is replayed takes the steps that the CPU takes, each with random bits of its own."""
    format = MIXES[mix][0]
    a, b = tree(0, format), foreign(tree(0, format))
    eager, captured = made("adam", mix)(a), made("adam", mix, capturable=50)(b)
    g, values = foreign(tree(1, format)), tree(1, format)
    captured.step(g, **how)
    eager.step(values, **how)
    do("cuCtxSynchronize")
    with Graph() as graph:
        captured.step(g, **how)
    for _ in range(6):
        graph.replay()
        eager.step(values, **how)
    do("cuCtxSynchronize")
    assert captured.t == eager.t == 7
    for x, y in zip(leaves(to_host([b, g])), leaves([a, values]), strict=True):
        assert_identical(x, y)
    same_numbers(captured, eager)


def test_look_ahead_in_a_capture(cupy):  # noqa: F811
    assert_look_ahead_is_captured(state="q8")


# Gradients that a step sets to zero

def test_zeroed_gradients_are_checked_at_every_step(stand_in):
    """Also those that differ from the last ones in nothing but their address, or in being read-only; nothing is enqueued."""
    p, n = to_device([normal(k, 300).astype(np.float32) for k in range(2)]), 300
    opt, memory = fastopt.Momentum(p, lr=0.1), to_device(np.ones(1_000, np.float32))
    good, overlapping = [memory[:n], memory[n:2*n]], [memory[:n], memory[n//2:n//2 + n]]
    opt.step(good, zero_grads=True)
    locked = [Interface(x, data=(x.__cuda_array_interface__["data"][0], True)) for x in good]
    fixed = [DeviceArray(x.__cuda_array_interface__["data"][0], (n,), np.float32, writeable=False, owner=x) for x in good]
    opened = [Interface(x) for x in good]
    before = to_host(p)
    for first in (good, opened):
        for grads, error in ((overlapping, "overlaps that of"), (locked, "read-only, but zero_grads=True"), ([good[0], p[1]], "grads.1.: "),
                             (fixed, "read-only, but zero_grads=True"), ([memory[:2*n:2], good[1]], "strided, but zero_grads=True needs")):
            opt.step(first, zero_grads=True)
            memory.copy_to_device(np.ones(1_000, np.float32))
            before = to_host([*p, memory])
            with stand_in.watch() as seen, pytest.raises(ValueError, match=error):
                opt.step(grads, zero_grads=True)
            assert not seen.launched()
            for x, y in zip(to_host([*p, memory]), before, strict=True):
                assert_identical(x, y)
    opt.step(locked)  # nothing is written there
    opt.step([memory[n:2*n], memory[2*n:3*n]], zero_grads=True)
    assert not to_host(memory)[n:3*n].any()


def test_zeroed_gradients_cannot_be_skipped(stand_in):
    """A step that is skipped on the device writes nothing."""
    p, g = to_device(normal(1, 300).astype(np.float32)), to_device(np.ones(300, np.float32))
    opt = fastopt.Adam(p)
    with stand_in.watch() as seen, pytest.raises(ValueError, match="zero_grads together with skip_nonfinite, but a step that is skipped"):
        opt.step(g, zero_grads=True, skip_nonfinite=True)
    assert not seen.launched()
    assert (opt.t, to_host(g).sum()) == (0, 300)
    opt.step(g, zero_grads=True)
    assert (opt.t, to_host(g).any()) == (1, False)


def test_zeroed_buffers(stand_in):
    p = to_device(tree(0))
    opt = fastopt.Adam(p)
    for k, buffer in opt.grads.items():
        if buffer.size:
            buffer.copy_to_device(tree(1)[k])
    opt.step(zero_grads=True)
    assert not any(x.any() for x in leaves(to_host(dict(opt.grads))))
    opt.step()
    assert opt.t == 2


# What is seen of it

def test_states_are_arrays_of_the_library(stand_in):
    p = to_device(stored(normal(1, 20, 30), "bf16"))
    opt = fastopt.Adam([p, to_device(normal(2, 7).astype(np.float32))], state="q8", rounding="remainder")
    m, rest = opt.state["m"], opt.state["remainder"]
    assert all(type(x) is type(p) for x in (*m, *opt.state["v"], *rest))
    assert [(x.dtype, x.shape) for x in (*m, *rest)] == [(np.uint8, (645,)), (np.uint8, (129,)), (np.uint16, (20, 30)), (np.uint16, (0,))]
    assert "state m q43, v q44, remainder" in repr(opt)
    assert m[0].__cuda_array_interface__["data"][0] % 16 == 0


def test_remainders_are_no_bfloat16_to_torch(monkeypatch):
    """torch shows 16-bit numbers of ours as bfloat16, but bare bits as they are."""
    class Tensor:
        dtype = "torch.uint16"

        def view(self, dtype):
            return dtype

    class Torch:
        bfloat16 = "bfloat16"
        as_tensor = staticmethod(lambda array, device: Tensor())
    monkeypatch.setitem(__import__("sys").modules, "torch", Torch)
    like = type("Like", (), {"device": "cuda:0"})()
    wrap = libraries.LIBRARIES["torch"].wrap
    assert wrap(DeviceArray(256, (3,), np.uint16), like) == "bfloat16"
    assert type(wrap(DeviceArray(256, (3,), np.uint16, bits=True), like)) is Tensor


def test_other_libraries_see_states(cupy):  # noqa: F811
    p = Foreign(numba_cuda().to_device(stored(normal(1, 300), "bf16")))
    opt = fastopt.Adam([p, Foreign(numba_cuda().to_device(normal(1, 3).astype(np.float32)))], state="q8", rounding="remainder")
    assert all(type(x) is Foreign for name in ("m", "v") for x in opt.state[name])
    raw = fastopt.Adam([Interface(to_device(stored(normal(1, 300), "bf16")))], state="q8", rounding="remainder")
    assert all(type(x) is DeviceArray for x in leaves(raw.state))
