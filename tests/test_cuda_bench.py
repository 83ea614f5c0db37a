"""`fastopt bench --device cuda` and `fastopt info` on the stand-in driver, where times themselves mean nothing."""
import json
import re
import subprocess
import sys
import time
import types
from pathlib import Path

import numpy as np
import pytest
from conftest import assert_identical, once

pytest.importorskip("numba_cuda", reason="the extra `cuda` is not installed")

from ptx import driver as loader

import fastopt
from fastopt._cuda import driver
from fastopt.bench import cli, cpu, cuda, info, rivals, rivals_cuda
from fastopt.bench.rivals import System
from fastopt.optimizers import ALL

L2 = loader.H100["L2_CACHE_SIZE"]
needs_stand_in = pytest.mark.skipif(bool(loader.available()), reason=loader.available() or "here")


@pytest.fixture
def quick(stand_in, monkeypatch):
    """Kernels that do nothing, few calls, and a small cache."""
    monkeypatch.setattr(cuda, "CALLS", 2)
    monkeypatch.setattr(cuda, "EMPTIED", 1/100)
    stand_in.skip_kernels()
    return stand_in


COMMAND = ["bench", "--device", "cuda", "--n", "2000", "--seconds", "0.02"]


def figures(capsys, *arguments):
    assert cli.main([*COMMAND, "--json", *arguments]) == 0
    return json.loads(capsys.readouterr().out)["results"]


def test_figures_add_up(quick, cupy, capsys, tmp_path):
    file = tmp_path/"figures.json"
    assert cli.main([*COMMAND, "--rules", "sgd,adam", "--against", "cupy", "--json", str(file)]) == 0
    shown, found = capsys.readouterr().out.splitlines(), json.loads(file.read_text())
    assert found["cuda"]["devices"][0]["name"] == "stand-in 0"
    head, *rows = (re.split(r"\s{2,}", line) for line in shown[2:5])
    assert head == ["rule", "step", "fastest", "elements/s", "GB/s", "of ceiling", "host", "x cupy"]
    for r, row, (rule, size) in zip(found["results"], rows, [("sgd", 12), ("adam", 28)], strict=True):
        assert (r["rule"], r["device"], r["format"], r["bytes_per_element"]) == (rule, "stand-in 0", "f32", size)
        assert 0 < r["fastest"] <= r["seconds"] < 1
        assert r["gb_per_second"] == pytest.approx(size*2000/r["seconds"]/1e9)
        assert r["ceiling"] > 0
        assert r["turns"] >= 3
        assert set(r["host_seconds"]) == {"fastopt", "cupy"}
        assert 0 < r["host_seconds"]["fastopt"] < 0.1
        assert float(row[-1]) == pytest.approx(r["times_faster"]["cupy"], rel=0.01)
        assert float(row[-2].split()[0]) == pytest.approx(r["host_seconds"]["fastopt"]*1e6, rel=0.01)
    assert cupy.freed == 2  # the memory that CuPy keeps


def test_what_is_timed(stand_in, monkeypatch):
    """Between two events one step, or one copy of half the bytes; before them at least twice the L2 cache is set."""
    monkeypatch.setattr(cuda, "CALLS", 2)
    stand_in.skip_kernels()
    with stand_in.watch() as seen:
        result = cuda.measure("adam", 5_000, seconds=0.01)
    work = [w for w in seen.work if w.phase == "given"]
    records = [k for k, w in enumerate(work) if w.kind == "record"]
    samples = [(work[a - 1], work[a + 1:b]) for a, b in zip(records[::2], records[1::2], strict=True)]
    timed = [(before, within) for before, within in samples if within[0].kind != "set"]
    assert len(samples) - len(timed) == 5  # the memset itself
    assert all(before.kind == "set" and before.size >= 2*L2 for before, _ in timed)
    kinds = {tuple(w.kind for w in within) for _, within in timed}
    assert kinds == {("copy",), ("launch", "launch")}
    assert {w.size for _, within in timed for w in within if w.kind == "copy"} == {14*5_000}
    assert {w.stream for w in work} == {0}
    assert len(timed) == 4*result["turns"]  # quartets of two contenders


def test_the_memset_covers_the_host(quick):
    """A step that takes long to enqueue is behind more memsets; after each batch of calls the device is waited for."""
    with driver.gpu(0).current():
        watch = cuda.Stopwatch(driver.gpu(0))
        watch.flush_seconds = 0.01
        with quick.watch() as seen:
            slow = cuda.Timed(lambda: time.sleep(0.05), watch)
        assert seen.calls["cuCtxSynchronize"] == 6
        assert slow.host >= 0.05
        assert slow.flushes == 1 + int(2*slow.host/watch.flush_seconds) > 2
        with quick.watch() as seen:
            slow.turn(1_000)
        watch.close()
    sets = [w.size for w in seen.work if w.phase == "given" and w.kind == "set"]
    assert sets == [watch.memory.size//4*4]*slow.flushes


def test_our_steps_are_the_rule(stand_in, monkeypatch):
    seen = []

    class Adam(fastopt.Adam):
        def __init__(self, p, **hyper):
            seen.append(p)
            super().__init__(p, **hyper)
    monkeypatch.setattr(cpu, "of", lambda rule: Adam)
    p, g = cpu.vectors(3_000, "f32")
    opt = fastopt.Adam(p, **ALL["adam"].rule.steady)
    with driver.gpu(0).current():
        steps, missing, moved = cuda.contenders(driver.gpu(0), "adam", [3_000], [], "f32")
        for _ in range(2):
            steps["fastopt"]()
            opt.step(g)
    assert_identical(np.asarray(seen[0][0]), p)
    assert (missing, moved) == ({}, 28*3_000)


def test_the_ceiling_copies(stand_in):
    gpu = driver.gpu(0)
    pattern = driver.uploaded(gpu, np.arange(100, dtype=np.float32))
    array = fastopt._tensors.device_array.DeviceArray(pattern.address, (100,), np.float32, owner=pattern)
    with gpu.current(), stand_in.watch() as seen:
        cuda.copier(gpu, 2*1_000, array)()
        driver.do("cuCtxSynchronize")
    assert [w.size for w in seen.work if w.phase == "done"] == [400, 400, 200, 1_000]


# Rivals

class FakeCuPy(types.ModuleType):
    """CuPy's functions that are used, on NumPy arrays; kernels are evaluated line by line."""

    def __init__(self):
        super().__init__("cupy")
        self.freed = 0
        self.asarray = np.array  # it copies
        self.asnumpy, self.zeros_like = np.array, np.zeros_like

    def get_default_memory_pool(self):
        return types.SimpleNamespace(free_all_blocks=lambda: setattr(self, "freed", self.freed + 1))

    def ElementwiseKernel(self, inputs, outputs, operation, name, preamble):
        names = [p.removeprefix("T ") for p in f"{inputs}, {outputs}".split(", ")]
        lines = [line.split(" = ") for line in operation.split("; ")]

        def kernel(*arguments):
            values = dict(zip(names, arguments, strict=True))
            scalars = {k: x if isinstance(x, np.ndarray) else values["p"].dtype.type(x) for k, x in values.items()}
            for target, expression in lines:
                values[target][...] = eval(expression, {"sqrt": np.sqrt, "where": np.where}, scalars)
        return kernel


@pytest.fixture
def cupy(monkeypatch):
    fake = FakeCuPy()
    monkeypatch.setitem(sys.modules, "cupy", fake)
    return fake


def test_the_cupy_rival_computes_the_rule(cupy):
    for rule, format in [*((rule, "f32") for rule in rivals_cuda.RIVALS["cupy"].rules), ("adam", "f64")]:
        assert cpu.mistake("cupy", rule, format, 1, {"lr": 0.01}, rivals_cuda.RIVALS) is None, (rule, format)


def test_a_rival_that_is_wrong_or_fails_is_not_timed(quick, cupy, capsys, monkeypatch):
    lines = {"adam": (*rivals.MOMENTS, ("p", "p - lr*m/(sqrt(v) + eps + eps*eps + lr)"))}
    monkeypatch.setitem(rivals_cuda.RIVALS, "cupy", System(None, rivals.FLOATS, lines, rivals_cuda.cupy))

    def broken(*_):
        raise RuntimeError("its kernel was not built")
    monkeypatch.setitem(rivals_cuda.RIVALS, "torch_fused", System("torch", rivals.FLOATS, rivals.FUSED, broken))
    (r,) = figures(capsys, "--rules", "adam", "--against", "cupy,torch-fused")
    assert r["times_faster"] == {}
    assert r["missing"]["cupy"].startswith("computes something else: ")
    assert r["missing"]["torch_fused"] == "its kernel was not built"


def test_torch_without_a_device(stand_in):
    torch = pytest.importorskip("torch")
    if torch.version.cuda:
        pytest.skip("this torch was built with CUDA, and would look for a device")
    found = cpu.checked("adam", [cpu.vectors(10, "f32")], ["torch_fused"], 1, "f32", rivals_cuda.RIVALS)
    assert found == ({}, {"torch_fused": "torch finds no CUDA device, or was built without CUDA"})


def clocks_agree(gpu):
    """Of 100 memsets, the device's clock shows most of what the host's does, which also enqueues them and waits."""
    with gpu.current():
        watch = cuda.Stopwatch(gpu)
        start = time.perf_counter()
        seconds = watch.seconds(lambda: [watch.flush() for _ in range(100)], 0)
        host = time.perf_counter() - start
        watch.close()
    return host/2 < seconds < 1.01*host


def test_figures_are_seconds(quick):
    assert once(lambda: clocks_agree(driver.gpu(0)))


@pytest.mark.cuda
@pytest.mark.filterwarnings("default")  # other people's
def test_on_a_device(gpu, capsys):
    """Where a system is installed and has the rule, it computes the same and is timed, in seconds."""
    assert once(lambda: clocks_agree(gpu))
    for r in figures(capsys, "--rules", ",".join(ALL)):
        for name, reason in r["missing"].items():
            absent = "No module named" in reason or reason == f"no {r['rule']} there"
            # older versions of torch have it on the CPU only
            assert absent or "aten::_fused_adagrad_" in reason, (name, reason)
        assert set(r["times_faster"]) | set(r["missing"]) == set(rivals_cuda.RIVALS)
        assert 0 < r["fastest"] <= r["seconds"] < 1e-3


# What is refused

def test_what_does_not_fit_exits_with_2(stand_in, capsys, monkeypatch):
    monkeypatch.setattr(cpu, "memory_available", lambda: 8e9)
    for arguments, said in (
            (["--threads", "2"], "--threads was found, but a step on a CUDA device has no threads to choose. Leave it"),
            (["--against", "numpy"],
             "rival 'numpy' was found, but with --device cuda one of torch_fused, torch_foreach, cupy is needed"),
            (["--n", "1e10"], "10,000,000,000 elements with these rivals need up to 1520.0 GB, but 85.9 GB are free on "
                              "stand-in 0. Take fewer"),
            (["--n", "1.5e9", "--against", "none"], "GB of the host's memory are free. Take fewer with --against, or")):
        assert cli.main(["bench", "--device", "cuda", *arguments]) == 2
        assert said in capsys.readouterr().err
    assert cli.main(["bench", "--against", "cupy"]) == 2
    assert "rival 'cupy' was found, but with --device cpu one of numpy" in capsys.readouterr().err


# Processes of their own: with the stand-in, without a driver, without the extra

STAND_IN = """
from ptx import driver
driver.load(devices=2)
"""
NO_EXTRA = """
import importlib.metadata as metadata
found = metadata.version
def version(name):
    if name == "numba-cuda":
        raise metadata.PackageNotFoundError(name)
    return found(name)
metadata.version = version
"""
NO_BINDINGS = """
import sys
sys.modules["cuda.bindings"] = None
"""
TOOLKIT = NO_EXTRA.replace('name == "numba-cuda"', 'name.startswith("nvidia-nv")')
COMMANDS = """
import sys
from fastopt.bench import cli
status = cli.main(["info", "--json"])
print(status, cli.main(["bench", "--device", "cuda"]) if sys.argv[1:] else "", "numba.cuda" in sys.modules)
"""


def run(before, *bench):
    """What `fastopt info` says of CUDA after some Python; what `fastopt bench` prints that finds no device."""
    done = subprocess.run([sys.executable, "-c", before + COMMANDS, *bench], capture_output=True, text=True,
                          cwd=Path(__file__).parent, check=True)
    *said, last = done.stdout.splitlines()
    assert last.split() == ["0", *["2" for _ in bench], "False"]  # numba.cuda is not imported
    return json.loads("\n".join(said))["cuda"], done.stderr


@needs_stand_in
def test_info_of_a_driver():
    cuda, _ = run(STAND_IN)
    assert all(cuda.pop(name) for name in ("numba-cuda", "cuda-bindings", "cuda-core", "nvidia-nvjitlink",
                                           "nvidia-nvvm"))
    devices = [{"name": f"stand-in {k}", "compute capability": "9.0", "memory": 80*2**30} for k in (0, 1)]
    assert cuda == {"driver": "13.5", "devices": devices, "missing": None}
    said = " ".join(info.text({"cuda": cuda, "memory": {}}).split())
    assert "devices name stand-in 0, compute capability 9.0, memory 85899345920, name stand-in 1" in said


@needs_stand_in
def test_info_of_a_toolkit():
    """NVIDIA's libraries that are no packages are told by their files."""
    cuda, _ = run(STAND_IN + TOOLKIT)
    assert [Path(cuda[name]).name.partition(".")[0] for name in ("nvidia-nvjitlink", "nvidia-nvvm")] == [
        "libnvJitLink", "libnvvm"]


@pytest.mark.parametrize(("before", "missing"), [
    pytest.param("", "no driver was found", marks=needs_stand_in),
    (NO_BINDINGS, "cuda-bindings is not installed. Install the extra: pip install"),
    (NO_EXTRA, "numba-cuda is not installed. Install the extra: pip install")])
def test_what_is_missing_is_said(before, missing):
    cuda, said = run(before, "bench")
    assert missing in cuda["missing"]
    assert (cuda["driver"], cuda["devices"]) == (None, [])
    assert said.startswith("fastopt bench: CUDA arrays: ")
    assert missing in said
