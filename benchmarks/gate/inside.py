"""The inside of a version of the package: the one module of the benchmarks that knows where things lie there. Each
function takes a loaded package (`versions.load`, or `fastopt` itself). Old versions, the first release among them, are
flat: modules without packages, and kernels that are named by the digest of a rule and a text of formats."""
import importlib
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np


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
    own = getattr(optimizers(package)[rule].rule, "steady", None)
    return own or part(package, "bench.rivals", "rivals").STEADY[rule]


def stores(package: ModuleType, state: str | None) -> bool:
    """Whether states can be stored so."""
    try:
        optimizers(package)["adam"](np.ones(1, np.float32), state=state)
    except (TypeError, ValueError):
        return False
    return True


def traffic(package: ModuleType) -> Callable[..., Any]:
    """The class of the ceiling: ``Traffic(elements, dtypes, threads)()`` moves the bytes of a step."""
    return part(package, "bench.ceiling", "ceiling").Traffic


def cache(package: ModuleType) -> Path:
    """The folder of its compiled kernels."""
    return part(package, "_kernels.cache", "cache").directory()


def cpu_kernel(package: ModuleType, rule: str, formats: str) -> Any:
    """Numba's dispatcher of a compiled kernel: of a rule, of "look-ahead", or of the norm (""), and the formats of its
    slots: gradient, parameter, states. A rule has the pieces around it for which its steady settings ask."""
    loops = part(package, "_cpu.loops", "cpu")
    if not rule:
        return loops.squares_kernel(_layout(package, formats)).run
    return loops.step_kernel(_steps(package, rule), _layout(package, formats)).run


def cuda_image(package: ModuleType, rule: str, formats: str, cc: tuple[int, int], *, all_pieces: bool = False) -> bytes:
    """The cubin of a rule's step for an architecture."""
    loops = part(package, "_cuda.loops", "cuda")
    return loops.step(_steps(package, rule, all_pieces), _layout(package, formats), cc).image


def _flat(package: ModuleType) -> bool:
    return find_spec(f"{package.__name__}._kernels") is None


def _layout(package: ModuleType, formats: str) -> Any:
    """The slots of a kernel: a layout, in old versions a text."""
    if _flat(package):
        return formats
    known = part(package, "_formats.catalogue").STORED
    return part(package, "_kernels.layout").Layout.of(*(known[name] for name in formats.split()))


def _steps(package: ModuleType, rule: str, all_pieces: bool = False) -> Any:
    """What a kernel does with them: a rule and pieces around it, in old versions the digest of a rule."""
    ahead = rule == "look-ahead"
    if _flat(package):
        return part(package, "registry").LOOK_AHEAD.digest if ahead else optimizers(package)[rule].rule.digest
    pipelines = part(package, "_rule.pipeline")
    if ahead:
        return pipelines.LOOK_AHEAD
    opt = optimizers(package)[rule](np.ones(1, np.float32), **steady(package, rule))
    return pipelines.pipeline(opt.rule, None if all_pieces else opt.groups[0].pieces)
