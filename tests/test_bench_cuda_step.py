"""The benchmarks of steps on a CUDA device: NaN without one, and finite on the stand-in, in processes of their own."""
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
STAND_IN = """
from ptx import driver as loader
stand_in = loader.load()
from fastopt.bench import cuda
from fastopt._cuda import driver
driver.Gpu.form = "ptx"
stand_in.skip_kernels()  # times mean nothing there
cuda.CALLS, cuda.EMPTIED = 2, 1/100
"""
FOUND = """
import itertools, json, os, sys
sys.path.insert(0, {root!r})
{before}
from benchmarks import bench_cuda_step as b
b.Formats.params = (["adam"], [1_000], ["f64", "bf16, bf16 state"])
found = b.Step().setup_cache()
print(json.dumps([[c.__name__, name, case, getattr(c(), name)(found, *case)] for c in (b.Step, b.Formats)
                  for name in dir(c) if name.startswith("track_") for case in itertools.product(*c.params)]))
"""


def values(before):
    code = FOUND.format(root=str(HERE.parent), before=before)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=HERE, check=False)
    assert done.returncode == 0, done.stderr
    found = {(of, name, *case): value for of, name, case, value in json.loads(done.stdout.splitlines()[-1])}
    assert {name for _, name, *_ in found} == {"track_gbps", "track_microseconds", "track_vs_ceiling"}
    assert len(found) == 3*(1 + 2)
    return found


def test_on_the_stand_in():
    pytest.importorskip("numba_cuda", reason="the extra `cuda` is not installed")
    from ptx import driver as loader
    if reason := loader.available():
        pytest.skip(reason)
    found = values(STAND_IN)
    assert all(0 < x < math.inf for x in found.values())
    for size, of, *case in ((28, "Step", "adam", 1_000), (56, "Formats", "adam", 1_000, "f64"),
                            (14, "Formats", "adam", 1_000, "bf16, bf16 state")):
        us, gbps = (found[(of, name, *case)] for name in ("track_microseconds", "track_gbps"))
        assert us*gbps*1e3 == pytest.approx(size*1_000, rel=0.05)  # both are rounded


def test_without_a_device_or_the_extra(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    for before in ("", "sys.modules['cuda'] = sys.modules['numba_cuda'] = None"):
        assert all(math.isnan(x) for x in values(before).values())
