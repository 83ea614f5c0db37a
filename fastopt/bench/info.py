"""What ``fastopt info`` says: versions, processor, threads, cache, and what is there beside them."""
import importlib.metadata
import os
import platform
from pathlib import Path
from textwrap import fill
from typing import Any

from .. import __version__, storage
from .._cpu import pool
from .._cuda import code, driver
from .._kernels import cache
from ..rules import adam

FEATURES = ("sse4.2", "avx", "avx2", "fma", "f16c", "avx512f", "avx512bf16", "neon", "sve")
OTHERS = ("ml_dtypes", "torch", "jax", "optax", "keras", "numexpr", "cupy-cuda12x", "cupy-cuda13x", "matplotlib",
          "rich")
EXTRA = ("numba-cuda", "cuda-bindings", "cuda-core", "nvidia-nvjitlink", "nvidia-nvvm")
MIXES = {  # formats of gradient, parameter and state
    "float32": ("f32", "f32", None), "state bf16": ("f32", "f32", "bf16"),
    "bf16 with remainder, state bf16": ("bf16", "split", "bf16"), "all bf16": ("bf16", "bf16", "bf16"),
    "state q8": ("f32", "f32", "q8"), "bf16, state q8": ("bf16", "bf16", "q8")}
LAYERS = {"omp": "omppool", "tbb": "tbbpool", "workqueue": "workqueue"}


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _importable(module: str) -> bool:
    try:
        importlib.import_module(module)
    except ImportError:
        return False
    return True


def _cuda() -> dict[str, Any]:
    """The extra (of a system's toolkit the libraries' files), the driver and its devices; `missing` says what CUDA
    arrays lack here. No context is made."""
    facts: dict[str, Any] = {**{name: _version(name) for name in EXTRA}, "driver": None, "devices": [], "missing": None}
    try:
        facts |= {name: found.rsplit(" ", 2)[0] for name, found in (of.split(" ", 1) for of in code.versions())
                  if name in code.TOOLS}
        count = int(driver.do("cuDeviceGetCount"))
        major, minor = divmod(int(driver.do("cuDriverGetVersion"))//10, 100)
        facts["driver"] = f"{major}.{minor}"
        facts["devices"] = [driver.about(k) for k in range(count)]
    except Exception as error:  # an installation may be broken in any way, and that is what is asked for
        facts["missing"] = str(error) or repr(error)
    return facts


def _cache() -> dict[str, Any]:
    directory = cache.directory()
    files = list(directory.glob("*.kernel")) if directory.is_dir() else []
    at = directory
    while not at.exists() and at != at.parent:
        at = at.parent
    return {"directory": str(directory), "writable": at.is_dir() and os.access(at, os.W_OK),
            "refused": cache.refusal(directory), "kernels": len(files), "bytes": sum(f.stat().st_size for f in files)}


def collect() -> dict[str, Any]:
    """The facts, as plain data."""
    import llvmlite.binding as llvm
    features = llvm.get_host_cpu_features()
    quota = pool._cgroup_quota()
    return {
        "versions": {"fastopt": __version__, "python": platform.python_version(),
                     **{name: _version(name) for name in ("numpy", "numba", "llvmlite")}},
        "processor": {"name": llvm.get_host_cpu_name(), "machine": platform.machine(),
                      "features": [f for f in FEATURES if features.get(f)]},
        "threads": {"used": pool.available_threads(), "processors": os.cpu_count(),
                    "affinity": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
                    "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS"),
                    "quota": quota if quota < float("inf") else None, "alone below": f"{pool.SMALL:,} elements"},
        # Numba's layers: fastopt uses none of them, your own parallel code may
        "threading": {"used": "fastopt's own pool", "numba layers present": [
            name for name, module in LAYERS.items() if _importable(f"numba.np.ufunc.{module}")]},
        "cache": _cache(),
        "memory": {name: {"kept": round(kept, 2), "moved": round(moved, 2)}
                   for name, (kept, moved) in storage.table(adam, MIXES).items()},
        "cuda": _cuda(),
        "others": {name: _version(name) for name in OTHERS},
        "package": str(Path(__file__).parent),
    }


def _said(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {_said(v)}" for k, v in value.items())
    if isinstance(value, list):
        return ", ".join(map(_said, value)) or "none"
    return "none" if value is None else str(value)


def text(facts: dict[str, Any]) -> str:
    """The facts as lines, which fit into 80 columns."""
    memory = "; ".join(f"{name} {of['kept']:g} and {of['moved']:g}" for name, of in facts["memory"].items())
    said = {**facts, "memory": f"bytes of Adam's parameter and state, and moved per step, by format: {memory}"}
    return "\n".join(fill(_said(value), 80, initial_indent=f"{name:10}  ", subsequent_indent=" "*12,
                          break_long_words=False, break_on_hyphens=False) for name, value in said.items())
