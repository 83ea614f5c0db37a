"""The inside of a version of the package: the one module of the benchmarks that knows where things lie there.

Each function takes a loaded package (`versions.load`, or `fastopt` itself). Old versions, the first release among them,
are flat: modules without packages, and kernels that are named by the digest of a rule and a text of formats.
"""
import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any


def part(package: ModuleType, *names: str) -> ModuleType:
    """The first of these modules that a package has; the newest name comes first."""
    name = f"{package.__name__}.{names[0]}"
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if len(names) == 1 or not f"{name}.".startswith(f"{error.name}."):  # it is there, and lacks another
            raise
    return part(package, *names[1:])


def optimizers(package: ModuleType) -> dict[str, Any]:
    """{rule: class}, the simplest rule first."""
    return part(package, "optimizers").ALL


def steady(package: ModuleType, rule: str) -> dict[str, float]:
    """Hyperparameters with which thousands of steps with one gradient stay finite and far from subnormal numbers."""
    return part(package, "bench.rivals", "rivals").STEADY[rule]


def traffic(package: ModuleType) -> Callable[..., Any]:
    """The class of the ceiling: ``Traffic(elements, dtypes, threads)()`` moves the bytes of a step."""
    return part(package, "bench.ceiling", "ceiling").Traffic


def cache(package: ModuleType) -> Path:
    """The folder of its compiled kernels."""
    return part(package, "_kernels.cache", "cache").directory()


def cpu_kernel(package: ModuleType, rule: str, formats: str) -> Any:
    """Numba's dispatcher of a compiled kernel: of a rule, of "look-ahead", or of the norm (""), and the formats of its
    slots: gradient, parameter, states."""
    loops, (of, layout) = part(package, "_cpu.loops", "cpu"), _asked(package, rule, formats)
    return (loops.step_kernel(of, layout) if rule else loops.squares_kernel(layout)).run


def cuda_image(package: ModuleType, rule: str, formats: str, cc: tuple[int, int]) -> bytes:
    """The cubin of a rule's step for an architecture."""
    return part(package, "_cuda.loops", "cuda").step(*_asked(package, rule, formats), cc).image


def _asked(package: ModuleType, rule: str, formats: str) -> tuple[Any, Any]:
    """What kernels are asked for by: a pipeline and a layout; in old versions the digest of a rule, and the formats."""
    body = optimizers(package)[rule].rule if rule not in ("", "look-ahead") else None
    try:
        layouts = part(package, "_kernels.layout")
    except ModuleNotFoundError:
        return (body or part(package, "_rule.rule", "registry").LOOK_AHEAD).digest, formats
    pipelines, known = part(package, "_rule.pipeline"), part(package, "_formats.catalogue").STORED
    layout = layouts.Layout.of(*(known[format] for format in formats.split()))
    return pipelines.pipeline(body) if body else pipelines.LOOK_AHEAD, layout
