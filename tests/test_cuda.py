"""On a real CUDA device (`pytest -m cuda`): every kernel gives the bits of the CPU, and so of the PTX interpreter."""
import numpy as np
import pytest
from conftest import DTYPES, OPTIMIZERS, OWN, RULES, SHARED, assert_same_bits, nasty, normal, stored
from hardware import Placed
from twins import leaves

import fastopt
from fastopt import schedules
from fastopt._cuda import driver
from fastopt._tensors.arrays import format_of
from fastopt._tensors.device_array import DeviceArray

pytestmark = [pytest.mark.cuda, pytest.mark.filterwarnings("default")]  # Numba and the toolkit may warn

each_rule = pytest.mark.parametrize("name", RULES)
each_format = pytest.mark.parametrize("format", DTYPES)
SIZES = (1, 3, 8, 0, 255, 1_025, 4_097, 100_003, 1_000_001)
HOWS = ({}, {"clip_norm": 0.5}, {"clip_value": 0.1, "grad_factor": -0.3}, {"skip_nonfinite": True, "clip_norm": 1e9})


class Twins:
    """The same optimizer on the CPU and on the device, whose arrays start anywhere; `form` makes trees of lists."""

    def __init__(self, make, arrays, form=list):
        self.form, self.host = form, [a.copy() for a in arrays]
        self.device = [Placed(a, skip=k % 5) for k, a in enumerate(arrays)]
        self.on_host, self.on_device = make(form(self.host)), make(form([placed.array for placed in self.device]))

    def step(self, grads, **how):
        # aligned like the parameter, or not
        given = [Placed(g, skip=k % 5 if k % 2 else 3*k % 7) for k, g in enumerate(grads)]
        with np.errstate(all="ignore"):
            self.on_host.step(self.form(grads), **how)
        self.on_device.step(self.form([placed.array for placed in given]), **how)
        for placed, g in zip(given, grads, strict=True):  # waits for the step, which still needs them
            same(placed.read(), g, "gradient")
        return self

    def same(self):
        for k, (placed, want) in enumerate(zip(self.device, self.host, strict=True)):
            same(placed.read(), want, f"p of tensor {k}")
        have, want = self.on_device.state_dict(), self.on_host.state_dict()
        assert have["t"] == want["t"]
        for name, arrays in want["state"].items():
            for k, (x, y) in enumerate(zip(have["state"][name], arrays, strict=True)):
                same(x, y, f"{name} of tensor {k}")
        have, want = self.on_device.grad_norm, self.on_host.grad_norm
        assert have == want or np.isnan([have, want]).all()
        return self


def same(have, want, what):
    assert_same_bits(have, want, what, format_of(want, "").name)


def numbers(seed, format, sizes=SIZES, make=normal):
    wide = np.float64 if format == "f64" else np.float32
    with np.errstate(all="ignore"):
        return [np.asarray(stored(normal(seed + n, n) if make is normal else make(n, seed + n, wide), format))
                for n in sizes]


@each_format
@each_rule
def test_bits(name, format, gpu):
    """Two groups, a schedule, all sizes and alignments, the norm and its uses; then any bits, NaN alike."""
    def make(p):
        scheduled = {**OWN[name][0], "lr": schedules.cosine(0.1, steps=10)}
        return OPTIMIZERS[name]([{"params": p[0], **SHARED[1]}, {"params": p[1], **scheduled}], lr=0.05)
    twins = Twins(make, numbers(0, format), lambda arrays: [arrays[::2], arrays[1::2]])
    for k, how in enumerate(HOWS):
        twins.step(numbers(20 + k, format), **how).same()
    twins = Twins(lambda p: OPTIMIZERS[name](p, lr=0.05, weight_decay=0.1), numbers(1, format, (50_001,), nasty))
    for k in range(2):
        twins.step(numbers(3 + k, format, (50_001,), nasty), clip_value=1e30, grad_factor=-0.5).same()


@pytest.mark.parametrize("format", ["f64", "f16", "bf16"])
@pytest.mark.parametrize("state", ["bfloat16", "float16", "float64"])
def test_mixed_formats(format, state, gpu):
    twins = Twins(lambda p: fastopt.Adam(p, lr=0.05, state=state), numbers(0, format, (5_001, 70_000)))
    for k, other in enumerate(("f32", format)):
        twins.step(numbers(4 + k, other, (5_001, 70_000)), clip_norm=0.7).same()


@pytest.mark.parametrize("format", ["f32", "bf16"])
def test_strided_gradients(format, gpu):
    p, g = (x.reshape(130, 77) for n in (3, 4) for x in numbers(n, format, (130*77,)))
    there, placed = Placed(p), Placed(np.asfortranarray(g).reshape(-1, order="F"))
    strided = DeviceArray(placed.array.address, g.shape, g.dtype, (g.itemsize, 130*g.itemsize), owner=placed)
    here, device = fastopt.Momentum(p, lr=0.1), fastopt.Momentum(there.array, lr=0.1)
    for how in ({}, {"clip_norm": 0.1}):
        here.step(g, **how)
        device.step(strided, **how)
        assert_same_bits(there.read(), p, "p", format)
        assert here.grad_norm == device.grad_norm


@each_format
def test_the_norm_has_the_bits_of_the_cpu(format, gpu):
    """Of 300 tensors, over many orders of magnitude where the format has them."""
    sizes = [37*k % 1_000 + 1 for k in range(299)] + [3_000_001]
    twins = Twins(lambda p: fastopt.SGD(p, lr=1e-3), numbers(0, format, sizes))
    for k in range(3):
        with np.errstate(all="ignore"):
            grads = [stored(normal(k*n, n)*10.0**(n % 7 - 3), format) for n in sizes]
        twins.step(grads, clip_norm=1.0).same()
        assert np.isfinite(twins.on_device.grad_norm)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_skipped_steps_change_nothing(bad, gpu):
    twins = Twins(lambda p: fastopt.Adam(p, lr=lambda t: 0.1/t), numbers(0, "f32"))
    for k in range(6):
        grads = numbers(7 + k, "f32")
        if k % 2 == 0:
            grads[-1][-1] = bad
        twins.step(grads, skip_nonfinite=True).same()
    assert twins.on_device.t == 3


def test_look_ahead(gpu):
    twins = Twins(lambda p: fastopt.Nesterov(p, lr=0.1, momentum=lambda t: 0.5 + 0.1*(t % 4)), numbers(0, "f32"))
    for k in range(3):
        for have, want in zip(leaves(twins.on_device.lookahead()), leaves(twins.on_host.lookahead()), strict=True):
            assert_same_bits(np.asarray(have), want, "look-ahead point")
        twins.step(numbers(k + 1, "f32")).same()


# More elements than a 32-bit index counts

HUGE, WINDOW = 2**31 + 70_001, 4_000
STARTS = (0, 2**30 - WINDOW//2, 2**31 - WINDOW//2, HUGE - WINDOW)  # bytes pass 2^31 at the 2nd, elements at the 3rd
BETWEEN = (2**29 + 1, 2**31 + 30_000)


def test_more_than_two_to_the_31_elements(gpu):
    """Both ends, and where 32-bit numbers of elements and bytes end; between them the number is the same."""
    with gpu.current():
        free, _ = driver.do("cuMemGetInfo")
    if free < 3.2*2*HUGE:
        pytest.skip(f"{3.2*2*HUGE/1e9:.0f} GB are needed, but {free/1e9:.0f} GB are free")
    memory, host = [], []
    for k, value in enumerate((np.array([0.5], np.float16), np.array([0.25], np.float16))):
        memory.append(gpu.allocate(2*HUGE))
        gpu.fill(memory[k].address, HUGE, value[0])
        windows = [stored(normal(10*k + j, WINDOW), "f16") for j in range(len(STARTS))]
        for start, window in zip(STARTS, windows, strict=True):
            gpu.upload(memory[k].address + 2*start, window)
        host.append(np.concatenate([*windows, value]))
    p, g = (DeviceArray(m.address, (HUGE,), np.float16, owner=m) for m in memory)
    opt, want = (fastopt.Momentum(x, lr=0.1, state="float16") for x in (p, host[0]))

    def same_windows():
        for array, right in ((p, host[0]), (opt.state["v"], want.state["v"])):
            for k, start in enumerate((*STARTS, *BETWEEN)):
                part = right[k*WINDOW:(k + 1)*WINDOW] if k < len(STARTS) else np.repeat(right[-1:], 999)
                found = np.empty(part.size, np.float16)
                gpu.download(found, array.address + 2*start)
                assert_same_bits(found, part, f"elements from {start}", "f16")

    for factor in (1.0, -0.5):
        opt.step(g, grad_factor=factor)
        want.step(host[1], grad_factor=factor)
        same_windows()
    gpu.upload(g.address + 2*(STARTS[2] + WINDOW - 3), np.array([np.inf], np.float16))
    opt.step(g, skip_nonfinite=True)
    assert (opt.t, opt.grad_norm) == (2, np.inf)
    same_windows()
