"""The final loss of a network whose parameters or state are stored in fewer bits, over that of float32. Losses follow
BLAS and processor, whose rounding differs: a change exceeds the spread that `training` prints."""
import math

from . import common
from .studies import training

SEEDS, STEPS = (1, 3) if common.QUICK else (5, None)
TASKS, CONFIGURATIONS = (list(of)[:1 if common.QUICK else None] for of in (training.TASKS, training.CONFIGURATIONS))


class Loss:
    """Adam on a task of `training`, one thread: the same first weights and batches for both."""

    params, param_names, version, timeout = (TASKS, CONFIGURATIONS), ["task", "configuration"], "1", 600

    def track_loss_ratio(self, task, configuration):
        """Mean over the seeds of the final loss over float32's; NaN without scikit-learn, which has the digits."""
        try:
            return round(float(training.ratios(task, configuration, SEEDS, STEPS)[1].mean()), 4)
        except ImportError:
            return math.nan

    track_loss_ratio.unit = "of float32's"
