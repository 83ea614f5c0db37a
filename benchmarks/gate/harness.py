"""The harness: `fastopt/bench/interleave.py` of this checkout, whatever version is measured, and nothing else of it."""
import importlib.util
from pathlib import Path
from time import perf_counter, thread_time

_path = Path(__file__).resolve().parents[2]/"fastopt"/"bench"/"interleave.py"
_spec = importlib.util.spec_from_file_location("interleave", _path)
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)
Clock, Pairs, seconds, batch = _module.Clock, _module.Pairs, _module.seconds, _module.batch
quartets, medians, interval = _module.quartets, _module.medians, _module.interval


def clock_of(threads: int) -> Clock:
    """One thread is timed by its own clock, which stands still while a busy neighbour has its core."""
    return thread_time if threads == 1 else perf_counter
