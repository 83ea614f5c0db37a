"""The final loss of a network whose parameters or state are stored in fewer bits, over that of float32. Losses follow
BLAS and processor, whose rounding differs: a change exceeds the spread that `training` prints."""
from importlib.util import find_spec

from . import common
from .studies import training

SEEDS, STEPS = 1, 3 if common.QUICK else None  # one: it is the same in every run
CONFIGURATIONS = list(training.CONFIGURATIONS)[1:2 if common.QUICK else None]


class Loss:
    """Adam on the digits of `training`, one thread: the same first weights and batches for both."""

    params, param_names, version, timeout = (["digits"], CONFIGURATIONS), ["task", "configuration"], "2", 600

    def setup_cache(self):
        """All trainings in one process, which trains in float32 once. The study's other task, the names, takes a minute
        for each configuration."""
        return {of: float(training.ratios("digits", of, SEEDS, STEPS)[1].mean()) for of in CONFIGURATIONS}

    setup_cache.timeout = 600

    def track_loss_ratio(self, found, task, configuration):
        """The final loss over float32's, of one seed: see whether it changed, and not which is better."""
        return round(found[configuration], 4)

    track_loss_ratio.unit = "of float32's"


if find_spec("sklearn") is None:
    del Loss  # it has the digits
