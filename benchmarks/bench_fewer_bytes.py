"""Adam with parameters or state in fewer bits, beside float32. Out of cache bytes decide; in cache the coding does."""
import statistics

from . import common
from .studies import fewer_bytes

CONFIGURATIONS = list(fewer_bytes.CONFIGURATIONS)[1:2 if common.QUICK else None]
SIZES, SECONDS = ([1_000], 0.01) if common.QUICK else ([100_000, 50_000_000], 1.0)


class Storage:
    """One vector, in cache and out of it."""

    params, param_names, version = (CONFIGURATIONS, SIZES, common.THREADS), ["configuration", "n", "threads"], "2"

    def track_time_over_float32(self, *case):
        """Time of a step over that of float32: the median of quartets."""
        return round(statistics.median(b/a for a, b in fewer_bytes.turns(*case, SECONDS)), 4)

    track_time_over_float32.unit = "of float32's"
