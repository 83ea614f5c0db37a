"""The benchmarks of steps on a CUDA device: none without a driver, NaN without a device, finite on the stand-in."""
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
NO_DEVICE = """
def device():
    raise OSError
cuda.device = device
"""
NO_DRIVER = """
import ctypes
known = ctypes.CDLL
def library(name, *more, **how):
    if name == "libcuda.so.1":
        raise OSError
    return known(name, *more, **how)
ctypes.CDLL = library
"""
FOUND = """
import itertools, json, os, sys
sys.path.insert(0, {root!r})
{before}
from benchmarks import bench_cuda_step as b
if not hasattr(b, "Step"):
    print([])
    sys.exit()
b.Formats.params = (["adam"], [1_000], ["f64", "bf16, bf16 state"])
found = b.Step().setup_cache()
print(json.dumps([[c.__name__, name, case, getattr(c(), name)(found, *case)] for c in (b.Step, b.Formats)
                  for name in dir(c) if name.startswith("track_") for case in itertools.product(*c.params)]))
"""


def values(before):
    code = FOUND.format(root=str(HERE.parent), before=before)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=HERE, check=False)
    assert done.returncode == 0, done.stderr
    return {(of, name, *case): value for of, name, case, value in json.loads(done.stdout.splitlines()[-1])}


def test_on_the_stand_in():
    pytest.importorskip("numba_cuda", reason="the extra `cuda` is not installed")
    from ptx import driver as loader
    if reason := loader.available():
        pytest.skip(reason)
    found = values(STAND_IN)
    assert {name for _, name, *_ in found} == {"track_microseconds", "track_vs_ceiling"}
    assert len(found) == 2*(1 + 2)
    assert all(0 < x < math.inf for x in found.values())


def test_without_a_device():
    """A driver that answers with an error: the figures are asked for, and are NaN."""
    pytest.importorskip("numba_cuda", reason="the extra `cuda` is not installed")
    from ptx import driver as loader
    if reason := loader.available():
        pytest.skip(reason)
    found = values(STAND_IN + NO_DEVICE)
    assert len(found) == 2*(1 + 2)
    assert all(map(math.isnan, found.values()))


def test_without_the_driver_or_the_extra():
    """asv has nothing to ask for."""
    for before in (NO_DRIVER, STAND_IN + "sys.modules['numba_cuda'] = None"):
        assert values(before) == {}
