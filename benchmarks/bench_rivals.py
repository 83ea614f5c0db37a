"""How many times faster than others, in one process, with the same threads, in turn. Higher is better; NaN: missing. On
one thread time is that of the thread itself, which stands still while a neighbour has its core: by the wall's clock,
beside three busy processes, torch had seemed 3.6 times as fast as the memory. On more than one thread only a quiet
machine gives figures worth quoting: OpenMP's threads (torch) wait milliseconds for one whose core a neighbour holds."""
from time import perf_counter, thread_time

import fastopt
from fastopt.bench.rivals import RIVALS

from . import common
from .gate import inside


def times_faster(name: str, rule: str, tensors: int | str, threads: int) -> float:
    case = common.tensors(rule, tensors, threads) if isinstance(tensors, str) else common.vector(rule, tensors, threads)
    try:
        hyper = inside.steady(fastopt, rule)
        rival = RIVALS[name](rule, hyper, [p.copy() for p in case.opt.params], case.grads, threads)
    except (ImportError, LookupError):
        return float("nan")
    for _ in range(3):
        rival.step()
    clock = thread_time if threads == 1 and name != "optax" else perf_counter  # XLA's work is never in our thread
    return round(1/common.abba(case.step, rival.step, clock)[2], 2)


class Rivals:
    """``opt.step(grads)`` on one vector or on a list of tensors, float32."""

    params = (common.two_or("momentum", "nesterov", "adam", "adamw"),
              common.SIZES if common.QUICK else [*common.SIZES, *common.LISTS], common.THREADS)
    param_names, version, timeout = ["rule", "tensors", "threads"], "2", 600

    def track_times_faster_than_c(self, *case):
        """C as people write it, compiled for this machine, one call for all tensors, OpenMP's threads."""
        return times_faster("c", *case)

    def track_times_faster_than_numba(self, *case):
        """A plain loop under ``@njit(parallel=True, fastmath=True)``, a call for each tensor."""
        return times_faster("numba", *case)

    def track_times_faster_than_numpy(self, *case):
        """NumPy as people write it; one thread, whatever ours are."""
        return times_faster("numpy", *case)

    def track_times_faster_than_numpy_in_place(self, *case):
        """NumPy with ``out=``; one thread, whatever ours are."""
        return times_faster("numpy_in_place", *case)

    def track_times_faster_than_numexpr(self, *case):
        """numexpr, one expression for each array that changes."""
        return times_faster("numexpr", *case)

    def track_times_faster_than_torch_fused(self, *case):
        """torch.optim with fused=True."""
        return times_faster("torch_fused", *case)

    def track_times_faster_than_torch_foreach(self, *case):
        """torch.optim with foreach=True."""
        return times_faster("torch_foreach", *case)

    def track_times_faster_than_torch_for_loop(self, *case):
        """torch.optim with foreach=False, its default on the CPU."""
        return times_faster("torch_for_loop", *case)

    def track_times_faster_than_optax(self, *case):
        """optax under jax.jit with donated arguments; only with all threads, which XLA takes."""
        return times_faster("optax", *case)


for _name, _function in vars(Rivals).items():
    if _name.startswith("track_"):
        _function.unit = "x"
