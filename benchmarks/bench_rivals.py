"""How many times faster than others, in one process, with the same threads, in turn, on the same arrays. Higher is
better; NaN: missing. On one thread time is that of the thread itself, which stands still while a neighbour has its
core: by the wall's clock, beside three busy processes, torch had seemed 3.6 times as fast as the memory. On more than
one thread only a quiet machine gives figures worth quoting: OpenMP's threads (torch) wait milliseconds for one whose
core a neighbour holds."""
import math
import os
from importlib.util import find_spec
from itertools import product
from time import perf_counter

import fastopt
from fastopt.bench.cli import WAIT
from fastopt.bench.rivals import RIVALS

from . import common
from .gate import inside
from .gate.harness import clock_of

TENSORS = common.SIZES if common.QUICK else [*common.SIZES, *common.LISTS]
THREADS = {"c": common.THREADS, "numba": common.THREADS, "torch_fused": common.THREADS,
           "numpy": [1], "numpy_in_place": [1], "optax": common.THREADS[-1:]}  # XLA takes all threads, NumPy one
LARGE = ("c", "numba", "torch_fused")


def cases(name: str) -> list[tuple[str, int | str, int]]:
    """What is measured of a rival."""
    large = product(Large.params[0], common.LARGE, THREADS[name]) if name in LARGE else ()
    return [*product(common.MAIN, TENSORS, THREADS[name]), *large]


def times_faster(name: str, rule: str, tensors: int | str, threads: int) -> float:
    """Than a rival, by quartets."""
    case = common.case_of(rule, tensors, threads)
    try:
        params, trees = case.opt.params, case.opt.state.values()
        rival = RIVALS[name](rule, inside.steady(fastopt, rule), params, case.grads, threads,
                             [[tree[k] for tree in trees] for k in range(len(params))])
    except (ImportError, LookupError):
        return math.nan
    for _ in range(3):
        rival.step()
    clock = perf_counter if name == "optax" else clock_of(threads)  # XLA's work is never in our thread
    return round(1/common.abba(case.step, rival.step, clock)[2], 2)


def measured(name: str) -> list[float]:
    """All cases of a rival. Its threads wait as long as ours: as OpenMP has them, they hold the cores for
    milliseconds, and steps in cache seem several times as long."""
    os.environ.update(WAIT)
    return [times_faster(name, *case) for case in cases(name)]


def tables():
    """{rival: {case: times}}, each rival in a process of its own, which imports nobody else's library."""
    return {name: dict(zip(cases(name), common.apart(measured, name), strict=True)) for name in THREADS}


class Rivals:
    """``opt.step(grads)`` on one vector or on a list of tensors, float32."""

    params, param_names = (common.MAIN, TENSORS, common.THREADS), ["rule", "tensors", "threads"]
    version, timeout = "4", 600

    def setup_cache(self):
        """Every rival in a process."""
        return tables()

    setup_cache.timeout = 3600

    def track_times_faster_than_c(self, found, *case):
        """C as people write it, compiled for this machine, one call for all tensors, OpenMP's threads."""
        return found["c"][case]

    def track_times_faster_than_numba(self, found, *case):
        """A plain loop under ``@njit(parallel=True, fastmath=True)``, a call for each tensor."""
        return found["numba"][case]

    def track_times_faster_than_numpy(self, found, *case):
        """NumPy as people write it."""
        return found["numpy"][case]

    def track_times_faster_than_numpy_in_place(self, found, *case):
        """NumPy with ``out=``."""
        return found["numpy_in_place"][case]

    def track_times_faster_than_torch_fused(self, found, *case):
        """torch.optim with fused=True."""
        return found["torch_fused"][case]

    def track_times_faster_than_optax(self, found, *case):
        """optax under jax.jit with donated arguments."""
        return found["optax"][case]

    track_times_faster_than_numpy.params = track_times_faster_than_numpy_in_place.params = (*params[:2], [1])
    track_times_faster_than_optax.params = (*params[:2], common.THREADS[-1:])


class Large:
    """Adam on a vector of 1e8 elements, and on the tensors of ResNet-50 and GPT-2 small."""

    params, param_names, version, timeout = (["adam"], common.LARGE, common.THREADS), Rivals.param_names, "3", 600
    setup_cache = Rivals.setup_cache
    track_times_faster_than_c = Rivals.track_times_faster_than_c
    track_times_faster_than_numba = Rivals.track_times_faster_than_numba
    track_times_faster_than_torch_fused = Rivals.track_times_faster_than_torch_fused


for _rival, _library in (("torch_fused", "torch"), ("optax", "optax")):
    if find_spec(_library) is None:  # asv would look up each of its figures, only to find none
        del THREADS[_rival]
        for _class in (Rivals, Large):
            if hasattr(_class, f"track_times_faster_than_{_rival}"):
                delattr(_class, f"track_times_faster_than_{_rival}")

for _name, _function in vars(Rivals).items():
    if _name.startswith("track_"):
        _function.unit = "x"
