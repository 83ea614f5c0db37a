"""What a CUDA device should reach (`pytest -m aims`): a miss is a finding about speed. Figures are printed."""
import numpy as np
import pytest
from conftest import normal

from fastopt import optimizers
from fastopt.bench import cuda

pytest.importorskip("numba_cuda", reason="the extra `cuda` is not installed")
pytestmark = [pytest.mark.cuda, pytest.mark.aims, pytest.mark.filterwarnings("default")]
OF_COPY, HOST = 0.92, 15e-6  # of the bandwidth of a copy on the device; seconds of the host for a step


@pytest.fixture
def say(capsys):
    def say(line):
        with capsys.disabled():
            print(f"\n{line}", end="")
    return say


@pytest.mark.parametrize("rule", ["momentum", "adam"])
def test_bandwidth(rule, gpu, say):
    r = cuda.measure(rule, 100_000_000, seconds=2.0)
    say(f"{rule}, 1e8 x float32: {r['seconds']*1e3:.3f} ms, {r['gb_per_second']:.0f} GB/s, {100*r['ceiling']:.1f} % of "
        f"the copy")
    assert r["ceiling"] >= OF_COPY


@pytest.mark.parametrize("library", ["fastopt", "torch", "cupy"])
def test_host_overhead(library, gpu, say):
    """Parameters of our own, and of the libraries."""
    x, g = (normal(k, 10_000).astype(np.float32) for k in range(2))
    if library == "fastopt":
        seconds = cuda.measure("adam", 10_000, seconds=0.5)["host_seconds"]["fastopt"]
    else:
        there = pytest.importorskip(library)
        put = there.asarray if library == "cupy" else lambda a: there.from_numpy(a).cuda()
        opt, grads = optimizers.Adam(put(x), **optimizers.ALL["adam"].rule.steady), put(g)
        with gpu.current():
            opt.step(grads)
            seconds = cuda.host_seconds(lambda: opt.step(grads))
    say(f"Adam, 1e4 x float32, arrays of {library}: {seconds*1e6:.1f} us of the host")
    assert seconds < HOST


@pytest.mark.parametrize("n", [10_000, 100_000, 1_000_000, 10_000_000, 100_000_000])
def test_torch_fused_is_not_faster(n, gpu, say):
    pytest.importorskip("torch")
    r = cuda.measure("adam", n, ["torch_fused"], seconds=1.5)
    assert r["missing"] == {}
    say(f"Adam, {n:,} x float32: {r['seconds']*1e6:.1f} us, torch fused {r['times_faster']['torch_fused']:.2f} times "
        f"that; host {r['host_seconds']['fastopt']*1e6:.1f} and {r['host_seconds']['torch_fused']*1e6:.1f} us")
    assert r["times_faster"]["torch_fused"] >= 1
