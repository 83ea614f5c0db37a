"""Memory: what a step needs beyond its arrays, and the bytes that each format keeps."""
import fastopt

from . import common
from .gate import facts

PEAK = """
import re
import numpy as np
from fastopt.optimizers import ALL

def kilobytes(name):
    return int(re.search(name + r":\\s+(\\d+) kB", open("/proc/self/status").read())[1])

def optimizer(n):
    rng = np.random.default_rng(0)
    params, grads = rng.standard_normal(n, np.float32), rng.standard_normal(n, np.float32)
    opt = ALL[%r](params, lr=1e-5)
    for state in opt.state.values():
        state += 0                                 # every page of the state is there
    return lambda: opt.step(grads, **%r)

optimizer(100_000)()                               # code is loaded, threads run
step = optimizer(%d)
open("/proc/self/clear_refs", "w").write("5")      # the high-water mark starts anew
before = kilobytes("VmRSS")
for _ in range(3):
    step()
print((kilobytes("VmHWM") - before)*1024/1e6)
"""
STEPS = {"step": {}, "clip_norm": {"clip_norm": 1.0}}
FORMATS = list(common.FORMATS)[:1 if common.QUICK else None]


class Peak:
    """A step's memory beyond parameters, gradients and state."""

    params, param_names, version = (common.two_or("momentum", "adam"), list(STEPS)), ["rule", "way"], "1"

    def track_beyond_arrays(self, rule, way):
        """Growth of the resident set over steps on 1e7 elements, in a fresh process. Linux only, NaN elsewhere."""
        try:
            open("/proc/self/clear_refs", "w").close()
        except OSError:
            return float("nan")
        program = PEAK % (rule, STEPS[way], 1_000_000 if common.QUICK else 10_000_000)
        return round(float(common.fresh(program, str(common.cache()))), 3)

    def track_python(self, rule, way):
        """Peak of what Python and NumPy allocate in a step on 100,000 elements: 400,000 would be a temporary array."""
        return facts.python_bytes(fastopt, rule, way)

    track_beyond_arrays.unit, track_python.unit = "MB", "bytes"


class Bytes:
    """Exact numbers, from arrays of 1,000 elements, or 100,000."""

    params, param_names, version = (common.RULES, FORMATS), ["rule", "format"], "1"

    def track_state(self, rule, format):
        """Bytes of state per element; a step moves these twice, the parameter twice and the gradient once."""
        return facts.state_bytes_per_element(fastopt, rule, format)

    def track_made(self, rule, format):
        """Peak of what Python and NumPy allocate while an optimizer is made: its states once, and little else."""
        return facts.made_bytes(fastopt, rule, format)

    track_state.unit = track_made.unit = "bytes/element"
