"""What ``fastopt info`` says: versions, processor, threads, cache, and what is there beside them."""
import importlib.metadata
import importlib.util
import os
import platform
from pathlib import Path
from typing import Any

from . import __version__, cache, pool

FEATURES = ("sse4.2", "avx", "avx2", "fma", "f16c", "avx512f", "avx512bf16", "neon", "sve")
OTHERS = ("ml_dtypes", "torch", "jax", "optax", "keras", "numexpr", "matplotlib", "rich")
LAYERS = {"omp": "omppool", "tbb": "tbbpool", "workqueue": "workqueue"}


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _layers() -> list[str]:
    """Numba's threading layers that can be imported; fastopt uses none of them, your own parallel code may."""
    found = []
    for name, module in LAYERS.items():
        try:
            importlib.import_module(f"numba.np.ufunc.{module}")
        except ImportError:
            continue
        found.append(name)
    return found


def _cuda() -> str:
    if importlib.util.find_spec("numba_cuda") is None:
        return "no: this version updates arrays in main memory only (numba-cuda is not installed either)"
    return "no: this version updates arrays in main memory only"


def _cache() -> dict[str, Any]:
    directory = cache.directory()
    files = list(directory.glob("*.kernel")) if directory.is_dir() else []
    at = directory
    while not at.exists() and at != at.parent:
        at = at.parent
    return {"directory": str(directory), "writable": at.is_dir() and os.access(at, os.W_OK), "kernels": len(files),
            "bytes": sum(f.stat().st_size for f in files)}


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
                    "quota": quota if quota < float("inf") else None, "alone below": f"{pool.SMALL:,} elements"},
        "threading": {"used": "fastopt's own pool", "numba layers present": _layers()},
        "cache": _cache(),
        "cuda": _cuda(),
        "others": {name: _version(name) for name in OTHERS},
        "package": str(Path(__file__).parent),
    }


def text(facts: dict[str, Any]) -> str:
    """The facts as lines."""
    lines = []
    for name, value in facts.items():
        if isinstance(value, dict):
            value = ", ".join(f"{k} {', '.join(v) if isinstance(v, list) else 'none' if v is None else v}" for k, v in value.items())
        lines.append(f"{name:10}  {value}")
    return "\n".join(lines)
