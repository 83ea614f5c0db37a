"""Import, cold compile and cached load, and what a program compiles, each in fresh processes with a compile cache of their own."""
import tempfile
from functools import lru_cache

from fastopt.optimizers import ALL

from . import common

IMPORT = """
import numba, sys, time
modules, start = len(sys.modules), time.perf_counter()
import fastopt
print({"ms": (time.perf_counter() - start)*1e3, "modules": len(sys.modules) - modules}[%r])
"""
KERNEL = """
import time
from numba import njit, types
from fastopt import rules
from fastopt._cpu.loops import step_kernel
njit(types.int64(types.int64))(lambda x: x)  # Numba's own start is not ours
start = time.perf_counter()
step_kernel(rules.%s.digest, %r)
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
""",
}
COUNTED = """
import numpy as np, fastopt
from fastopt._kernels.cache import directory
ones = lambda *shape: np.ones(shape, np.float32)
%s
print(len(list(directory().glob("*.kernel"))))
"""


def kernel_program(rule: str) -> str:
    return KERNEL % (rule, " ".join(["f32"]*(2 + len(ALL[rule].rule.state))))


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
    """One kernel, float32."""

    params, param_names, version, timeout = (common.RULES,), ["rule"], "1", 600

    def track_cold(self, rule):
        """Compiled on an empty cache."""
        return common.samples(kernel_program(rule))

    def track_cached(self, rule):
        """Loaded from the disk cache."""
        program = kernel_program(rule)
        return common.samples(program, warm(program))

    track_cold.unit = track_cached.unit = "seconds"


class FirstStep:
    """An optimizer made and stepped once in a new process: all kernels that it needs, and Numba's own start."""

    params, param_names, version, timeout = (["momentum", "adam"],), ["rule"], "1", 600

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

    params, param_names, version, timeout = (list(PROGRAMS),), ["program"], "1", 600

    def track_kernels(self, program):
        """Kernels that are on disk afterwards, two of the host and the pool among them: an exact number, the same on every machine."""
        return int(common.fresh(COUNTED % PROGRAMS[program]))

    track_kernels.unit = "kernels"
