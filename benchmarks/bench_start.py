"""Import, cold compile and cached load, each in fresh processes with a compile cache of their own."""
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
from fastopt.cpu import step_kernel
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
