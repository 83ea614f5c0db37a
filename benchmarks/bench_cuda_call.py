"""What a step on CUDA arrays costs the host, with no GPU: on the tests' stand-in driver, whose launches do nothing.
Real drivers need 2 to 3 us more for a launch (cuLaunchKernel). Each figure is a process of its own; NaN: none."""
import sys
from functools import lru_cache
from pathlib import Path

from . import common
from .shapes import GPT2

TESTS = Path(__file__).parents[1] / "tests"
CASES = {"step": {}, "step, clip_norm": {"clip_norm": 1.0}, "step, skip_nonfinite": {"skip_nonfinite": True}}
MEASURED = list(CASES)[:1 if common.QUICK else None]
BATCHES, CALLS = (2, 5) if common.QUICK else (20, 100)
PROGRAM = '''
import itertools, sys, time
sys.path.insert(0, {tests!r})
from ptx import driver as loader
stand_in = loader.load()
from fastopt._cuda import driver
driver.Gpu.form = "ptx"
import numpy as np, fastopt
from fastopt._tensors.device_array import DeviceArray

def arrays():
    made = [driver.uploaded(driver.gpu(0), np.ones({n}, np.float32)) for _ in range({tensors})]
    return [DeviceArray(memory.address, ({n},), np.float32, owner=memory) for memory in made]

opt, sets = fastopt.Adam(arrays()), itertools.cycle([arrays() for _ in range({sets})])
stand_in.skip_kernels()
driver.do("cuCtxSetCurrent", driver.gpu(0).context)  # as libraries do
how, best = {how!r}, float("inf")
for _ in range({batches}):
    start = time.perf_counter()
    for _ in range({calls}):
        opt.step(next(sets), **how)
    best = min(best, (time.perf_counter() - start)/{calls})
    opt.t
    stand_in.drain()
print(best)
'''


@lru_cache(maxsize=1)
def reason() -> str | None:
    """Why the stand-in cannot be used, or None."""
    sys.path.insert(0, str(TESTS))
    try:
        from ptx import driver as loader
        return loader.available()
    except ImportError as error:
        return str(error)
    finally:
        sys.path.remove(str(TESTS))


def microseconds(tensors: int, sets: int, how: dict) -> float:
    """The fastest of 20 batches of 100 steps."""
    if reason():
        return float("nan")
    return round(1e6*float(common.fresh(PROGRAM.format(tests=str(TESTS), n=8, tensors=tensors, sets=sets, how=how,
                                                       batches=BATCHES, calls=CALLS))), 2)


class Launch:
    """One tensor of 8 elements."""

    params, param_names, version, unit = (MEASURED,), ["case"], "1", "us"

    def track_host(self, case):
        """``opt.step(g)``: from the call until it returns, nothing of it on a device."""
        return microseconds(1, 1, CASES[case])

    track_host.unit = "us"


class Addresses:
    """148 tensors, as many as GPT-2 small has, of 8 elements."""

    params, param_names, version = ([2] if common.QUICK else [1, 2],), ["sets of gradients"], "1"

    def track_host(self, sets):
        """The same gradients at every step, or two sets in turn, whose addresses go along."""
        return microseconds(len(GPT2), sets, {})

    track_host.unit = "us"
