"""Steps to a tolerance on standard problems: exact, the same everywhere; they change with the numerics of a rule. Fewer
is not better: the learning rates are those of a coarse grid, and four problems judge no rule."""
from . import common
from .studies import problems


class Tolerance:
    """A rule on a problem, one thread, with the learning rate that `problems` found for the two."""

    params = (list(problems.RATES), list(problems.PROBLEMS)[:1 if common.QUICK else None])
    param_names, version = ["rule", "problem"], "1"

    def track_steps(self, rule, problem):
        """Steps until the loss is within the tolerance for the first time; NaN where the limit is passed."""
        return problems.steps(rule, problem)

    track_steps.unit = "steps"
