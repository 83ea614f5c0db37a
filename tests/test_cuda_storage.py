"""Device arrays whose parameters and states are stored in fewer bytes: the bits of the CPU's. Stand-in driver."""
import sys
from functools import partial

import numpy as np
import pytest
from conftest import OPTIMIZERS, normal, stored

pytest.importorskip("numba_cuda", reason="the extra `cuda` is not installed")

from devices import Foreign, Interface, adapters, backend, foreign, pointer, to_device, to_host, wait
from twins import Captured, Graph, Twins, assert_same, bad, leaves, singles, tree, write

import fastopt
from fastopt import schedules
from fastopt._tensors.device_array import DeviceArray

f32 = np.float32
MIXES = {  # the format of parameters and gradients, and how an optimizer is asked to store them
    "bf16s": ("bf16", {"state": "bf16s", "rounding": "stochastic"}),
    "split": ("bf16", {"state": "bf16s", "rounding": "remainder"}), "q8": ("f32", {"state": "q8"}),
    "bf16s q8": ("bf16", {"state": "q8", "rounding": "stochastic"}),
    "f16s": ("f16", {"state": "f16s", "rounding": "stochastic"}), "f64 q8": ("f64", {"state": "q8"})}
each_mix = pytest.mark.parametrize("mix", MIXES)
each_storage = pytest.mark.parametrize("mix", ["bf16s", "split", "q8", "f16s"])  # once
in_parts = pytest.mark.parametrize("mix", ["split", "q8"])  # numbers of two parts, and blocks: slots of several arrays
pytestmark = pytest.mark.usefixtures("stand_in")


def made(name, mix, **hyper):
    """A function of the parameters that makes an optimizer."""
    return lambda p, **more: OPTIMIZERS[name](p, **{"seed": 5, "lr": 0.05, **MIXES[mix][1], **hyper, **more})


def both(name, mix, **hyper):
    return Twins(made(name, mix, **hyper), tree(0, MIXES[mix][0]))


def same(twins):
    """All bits of the arrays, and the numbers that they hold."""
    twins.same()
    for name in (*backend(twins.on_device).states, "params"):
        assert_same(twins.on_device.decoded(name), twins.on_host.decoded(name), name)


# Kernels have the bits of every rule in every format (test_cuda_kernels.py): here Adam's tell what is around them.

@each_storage
def test_steps(mix):
    """Two groups, a schedule, norms, gradients that are set to zero, steps that are skipped."""
    format = MIXES[mix][0]

    def make(p):
        groups = [{"params": p["a"]}, {"params": [p["b"]], "b1": 0.8}]
        return made("adam", mix, lr=schedules.cosine(0.1, steps=10))(groups)
    twins = Twins(make, {"a": tree(0, format), "b": tree(10, format)})
    same(twins)
    zeroed = {"zero_grads": True, "clip_norm": 0.5, "clip_value": 0.1, "grad_factor": -0.3}
    for k, asked in enumerate((zeroed, {"skip_nonfinite": True}, {"skip_nonfinite": True})):
        grads = [tree(20 + k, format), [tree(30 + k, format)]]
        if k == 1:
            grads[0] = bad(grads[0])
        given = to_device(grads)
        twins.step(grads, given, **asked).same()
        assert_same(to_host(given), grads)
        assert any(np.any(x) for x in leaves(grads)) == ("zero_grads" not in asked)
    assert twins.on_device.t == 2
    same(twins)


@each_mix
def test_the_step_that_a_device_counts_is_the_one_that_is_drawn_for(mix):
    """Any of the steps may have been skipped, which the host does not know: nothing is read back between them."""
    twins, format = both("adam", mix), MIXES[mix][0]
    for k in range(7):
        grads = tree(10 + k, format)
        twins.step(bad(grads, np.inf) if k in (0, 2, 3, 5) else grads, skip_nonfinite=True)
    assert twins.on_host.t == 3
    twins.step(tree(1, format)).step(tree(1, format), skip_nonfinite=True).same()


@in_parts
def test_average_and_copy(mix):
    """Parameters, their average, and the copy, which lie side by side in the tree that is compared."""
    format, copies = MIXES[mix][0], [tree(0, "bf16"), to_device(tree(0, "bf16"))]
    left = copies.copy()
    twins = Twins(lambda p: made("adam", mix, average=0.9, copy=left.pop(0))(p), tree(0, format))
    for k in range(2):
        twins.step(tree(10 + k, format))
        assert_same(to_host(copies[1]), copies[0])
        same(twins)


@in_parts
def test_point_to_evaluate(mix):
    """Weights are those of all learning rates so far; a skipped step has none."""
    format = MIXES[mix][0]
    twins = both("adamw", mix, lr=lambda t: 0.1*min(t/3, 1.0), schedule_free=True)
    for k in range(4):
        twins.step(bad(tree(k, format)) if k == 1 else tree(k, format), skip_nonfinite=True).same()
        assert_same(to_host(twins.on_device.evaluation_point()), twins.on_host.evaluation_point())


def test_initial_state():
    """Of every storage, and of states in the format of the parameters."""
    whole = {"f64": ("f64", {}), "f16": ("f16", {"state": "float16"}), "bf16": ("bf16", {"state": "bfloat16"})}
    for format, how in (*MIXES.values(), *whole.values()):
        for initial in (0.0, 0.25):
            same(Twins(partial(fastopt.AdaGrad, initial_accumulator_value=initial, **how), tree(0, format)))


@in_parts
def test_look_ahead(mix):
    """With the next step's momentum; the parameters stay."""
    twins = both("nesterov", mix, lr=0.1, momentum=lambda t: 0.5 + 0.1*(t % 4))
    for k in range(3):
        assert_same(to_host(twins.on_device.lookahead()), twins.on_host.lookahead())
        twins.step(tree(k + 1, MIXES[mix][0])).same()


@in_parts
def test_memory_orders_and_strided_gradients(mix):
    """A parameter in the order of Fortran, whose blocks run along its memory; a gradient in that of C."""
    p, g = (stored(normal(k, 37, 61), MIXES[mix][0]) for k in (1, 2))
    twins = Twins(made("adam", mix), np.asfortranarray(p))
    for _ in range(2):
        twins.step(np.ascontiguousarray(g), clip_norm=0.1).same()
    same(twins)


@each_mix
def test_a_checkpoint_continues(mix):
    """From the device on another device and on the CPU, from the CPU on the device; the seed comes along."""
    format, twins = MIXES[mix][0], both("adam", mix)
    twins.step(tree(1, format)).step(tree(2, format))
    again = Twins(lambda p: made("adam", mix, lr=0.9)(p, seed=77), to_host(twins.device))
    saved, before = [twins.on_host.state_dict(), twins.on_device.state_dict()], to_host(twins.device)
    again.on_device.step(to_device(tree(4, format)))  # tables are there, with the other seed
    write(again.device, before)
    again.on_device.load_state_dict(saved[0])
    again.on_host.load_state_dict(saved[1])
    assert (again.on_device.t, again.on_device.groups[0]["lr"]) == (2, 0.05)
    for k in range(2):
        twins.step(tree(8 + k, format)).same()
        again.step(tree(8 + k, format))
    assert_same(again.host, twins.host)
    same(again)


def test_replays_draw_anew(cupy):
    """A graph that is replayed takes the steps that the CPU takes, each with random bits of its own."""
    twins = Captured(made("adam", "bf16s q8"), tree(0, "bf16"), tree(1, "bf16"))
    twins.step(twins.values, twins.g, clip_norm=0.7, zero_grads=True)
    twins.capture(clip_norm=0.7, zero_grads=True).replay(times=5)
    assert twins.on_device.t == 6
    same(twins)
    assert_same(to_host(twins.g), twins.values)


def test_look_ahead_in_a_capture(cupy):
    """The gradient of |w|^2/2 at the look-ahead point is that point: a whole training step in one graph."""
    twins = Twins(lambda p, **more: fastopt.Nesterov(p, lr=0.1, state="q8", **more), singles(1, 300), foreign,
                  capturable=20)
    twins.on_device.lookahead()
    wait()
    with Graph() as graph:
        twins.on_device.step(twins.on_device.lookahead())
    for _ in range(10):
        graph.replay()
        twins.on_host.step(twins.on_host.lookahead())
    wait()
    twins.same()


# Gradients that a step sets to zero

def test_zeroed_gradients_are_checked_at_every_step(stand_in):
    """Also those that differ in nothing but their address, or in being read-only; nothing is enqueued."""
    p, n = to_device([normal(k, 300).astype(f32) for k in range(2)]), 300
    opt, memory = fastopt.Momentum(p, lr=0.1), to_device(np.ones(1_000, f32))
    good, overlapping = [memory[:n], memory[n:2*n]], [memory[:n], memory[n//2:n//2 + n]]
    opt.step(good, zero_grads=True)
    locked = [Interface(x, data=(pointer(x), True)) for x in good]
    fixed = [DeviceArray(pointer(x), (n,), f32, writeable=False, owner=x) for x in good]
    for first in (good, [Interface(x) for x in good]):
        for grads, error in ((overlapping, "overlaps that of"), (locked, "read-only, but zero_grads=True"),
                             ([good[0], p[1]], "grads.1.: "), (fixed, "read-only, but zero_grads=True"),
                             ([memory[:2*n:2], good[1]], "strided, but zero_grads=True needs")):
            opt.step(first, zero_grads=True)
            memory.copy_to_device(np.ones(1_000, f32))
            before = to_host([*p, memory])
            with stand_in.watch() as seen, pytest.raises(ValueError, match=error):
                opt.step(grads, zero_grads=True)
            assert not seen.launched()
            assert_same(to_host([*p, memory]), before)
    message = "zero_grads together with skip_nonfinite, but a step that is skipped"
    with stand_in.watch() as seen, pytest.raises(ValueError, match=message):
        opt.step(good, zero_grads=True, skip_nonfinite=True)  # writes nothing
    assert not seen.launched()
    opt.step(locked)  # nothing is written there
    opt.step([memory[n:2*n], memory[2*n:3*n]], zero_grads=True)
    assert not to_host(memory)[n:3*n].any()


def test_zeroed_buffers():
    opt = fastopt.Adam(to_device(tree(0)))
    for k, buffer in opt.grads.items():
        if buffer.size:
            buffer.copy_to_device(tree(1)[k])
    opt.step(zero_grads=True)
    assert not any(x.any() for x in leaves(to_host(dict(opt.grads))))
    opt.step()
    assert opt.t == 2


# What is seen of it

def test_states_are_arrays_of_the_library(cupy):
    p = to_device(stored(normal(1, 20, 30), "bf16"))
    opt = fastopt.Adam([p, to_device(normal(2, 7).astype(f32))], state="q8", rounding="remainder")
    m, rest = opt.state["m"], opt.state["remainder"]
    assert all(type(x) is type(p) for x in (*m, *opt.state["v"], *rest))
    assert [(x.dtype, x.shape) for x in (*m, *rest)] == [(np.uint8, (645,)), (np.uint8, (129,)), (np.uint16, (20, 30)),
                                                         (np.uint16, (0,))]
    assert "state m q43, v q44, remainder" in repr(opt)
    assert pointer(m[0]) % 16 == 0
    for wrap, kind in ((foreign, Foreign), (lambda x: Interface(to_device(x)), DeviceArray)):
        params = [wrap(stored(normal(1, 300), "bf16")), wrap(normal(1, 3).astype(f32))]
        opt = fastopt.Adam(params, state="q8", rounding="remainder")
        assert all(type(x) is kind for x in leaves(dict(opt.state)))


def test_a_rounding_that_has_no_effect_is_said():
    with pytest.warns(UserWarning, match="Adam: rounding='stochastic' is for parameters of 16 bits, but none of these"):
        fastopt.Adam(to_device(normal(1, 3).astype(f32)), rounding="stochastic")


def test_remainders_are_no_bfloat16_to_torch(monkeypatch):
    """torch shows 16-bit numbers of ours as bfloat16, but bare bits as they are."""
    class Tensor:
        dtype = "torch.uint16"

        def view(self, dtype):
            return dtype

    class Torch:
        bfloat16 = "bfloat16"
        as_tensor = staticmethod(lambda array, device: Tensor())
    monkeypatch.setitem(sys.modules, "torch", Torch)
    like = type("Like", (), {"device": "cuda:0"})()
    wrap = adapters.LIBRARIES["torch"].wrap
    assert wrap(DeviceArray(256, (3,), np.uint16), like) == "bfloat16"
    assert type(wrap(DeviceArray(256, (3,), np.uint16, bits=True), like)) is Tensor
