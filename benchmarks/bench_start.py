"""Import, cold compile, cached load, and what a program compiles: fresh processes, each with a cache of its own."""
import tempfile
from functools import lru_cache

from . import common

IMPORT = """
import numba, sys, time
modules, start = len(sys.modules), time.perf_counter()
import fastopt
print({"ms": (time.perf_counter() - start)*1e3, "modules": len(sys.modules) - modules}[%r])
"""
KERNEL = """
import time
import numpy as np
from fastopt.optimizers import ALL
ALL["sgd"](np.ones(1)).step(np.ones(1))  # in float64: what every first step needs beside its kernel
opt, g = ALL[%r](np.ones(1, np.float32)), np.ones(1, np.float32)
start = time.perf_counter()
opt.step(g)
print(time.perf_counter() - start)
"""
FIRST_STEP = """
import time
import numpy as np
import fastopt
w, g = np.ones(1000, np.float32), np.ones(1000, np.float32)
start = time.perf_counter()
fastopt.optimizers.ALL[%r](w).step(g)
print(time.perf_counter() - start)
"""
PROGRAMS = {  # what people do, and what must not compile a kernel for each array, group or step
    "adam": """
opt = fastopt.Adam([ones(1000), ones(20, 30)])
for _ in range(5):
    opt.step([ones(1000), ones(20, 30)])
""",
    "adam, clip_norm, groups": """
opt = fastopt.Adam([{"params": ones(20, 30), "weight_decay": 0.1}, {"params": ones(30), "weight_decay": 0.0}])
for _ in range(5):
    opt.step([ones(20, 30), ones(30)], clip_norm=1.0, skip_nonfinite=True)
""",
    "nesterov, look-ahead": """
opt = fastopt.Nesterov(ones(1000), lr=0.1)
for _ in range(5):
    opt.step(lambda point: 2*point)
""",
    "mixed formats": """
bfloat16 = np.full(1000, 0x3f80, np.uint16)
opt = fastopt.Adam([ones(1000), bfloat16])
for _ in range(5):
    opt.step([ones(1000), bfloat16.copy()])
"""}
COUNTED = """
import os, pathlib
import numpy as np, fastopt
ones = lambda *shape: np.ones(shape, np.float32)
%s
print(len(list(pathlib.Path(os.environ["FASTOPT_CACHE"]).rglob("*.kernel"))))
"""


@lru_cache(maxsize=1)
def warm(program: str) -> str:
    """A cache that holds what the program compiles; it lives as long as the process."""
    common.fresh(program, directory().name)
    return directory().name


@lru_cache(maxsize=1)
def directory() -> tempfile.TemporaryDirectory:
    return tempfile.TemporaryDirectory()


class Import:
    """``import fastopt`` where Numba is imported already."""

    version = "1"

    def track_import(self):
        """Time beyond Numba's own import."""
        return common.samples(IMPORT % "ms")

    def track_modules(self):
        """Modules that are loaded beyond Numba's: an exact number."""
        return int(common.fresh(IMPORT % "modules"))

    track_import.unit, track_modules.unit = "ms", "modules"


class Compile:
    """One kernel, float32, and the first step that needs it."""

    params, param_names, version, timeout = (common.two_or("momentum", "adam"),), ["rule"], "2", 600

    def track_cold(self, rule):
        """Compiled on an empty cache."""
        return common.samples(KERNEL % rule)

    def track_cached(self, rule):
        """Loaded from the disk cache."""
        program = KERNEL % rule
        return common.samples(program, warm(program))

    track_cold.unit = track_cached.unit = "seconds"


class FirstStep:
    """An optimizer made and stepped once in a new process: all kernels that it needs, and Numba's own start."""

    params, param_names, version, timeout = (["adam"],), ["rule"], "1", 600

    def track_cold(self, rule):
        """On an empty cache."""
        return common.samples(FIRST_STEP % rule)

    def track_cached(self, rule):
        """From the disk cache."""
        program = FIRST_STEP % rule
        return common.samples(program, warm(program))

    track_cold.unit = track_cached.unit = "seconds"


class Specialisations:
    """What a typical program compiles, on an empty cache."""

    params, param_names, version, timeout = (list(PROGRAMS)[:1 if common.QUICK else None],), ["program"], "1", 600

    def track_kernels(self, program):
        """Kernels that are on disk afterwards, two of the host and the pool among them: the same on every machine."""
        return int(common.fresh(COUNTED % PROGRAMS[program]))

    track_kernels.unit = "kernels"
