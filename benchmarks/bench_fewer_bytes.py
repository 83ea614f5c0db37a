"""Adam with parameters or state in fewer bits, against its float32 step in turn: out of cache the bytes decide, in cache the codes."""
import statistics

from . import common, fewer_bytes

QUICK = common.SCALE == "quick"
SIZES = [1_000] if QUICK else [100_000, 10_000_000]
SECONDS = 0.02 if QUICK else 1.0


class Storage:
    """One long vector, one thread."""

    params, param_names, version = (list(fewer_bytes.CONFIGURATIONS)[1:], SIZES), ["configuration", "n"], "1"

    def track_time_over_float32(self, configuration, n):
        """Time of a step over that of float32: the median of quartets."""
        return round(statistics.median(b/a for a, b in fewer_bytes.turns(configuration, n, 1, SECONDS)), 4)

    track_time_over_float32.unit = "of float32's"
