"""Instructions that a step retires: exact, on a busy machine too. Lower is better; NaN: they cannot be counted."""
import math

from . import common
from .gate import figures, retired

STEPS = figures.counted_steps(common.MAIN)[:2 if common.QUICK else None]


def table():
    """All steps in one process; 8 s each where instructions are single steps on a virtual machine."""
    return retired.table(common.SOURCE, STEPS, common.cache()/"benchmarks")


class Retired:
    """``opt.step(g)`` on one thread, float32."""

    params, param_names, version, timeout = ([step.rule for step in STEPS if step.way == "step"],), ["rule"], "1", 600

    def setup_cache(self):
        """All steps at once."""
        return table()

    setup_cache.timeout = 1800

    def track_call(self, found, rule):
        """Of a step on 8 elements: nearly all of it is Python."""
        return found.get(common.Step(rule, retired.FEW), {}).get("call", math.nan)

    def track_element(self, found, rule):
        """What each of 8,192 more elements adds."""
        return found.get(common.Step(rule, retired.FEW), {}).get("element", math.nan)

    track_call.unit, track_element.unit = "instructions", "instructions/element"


class Ways:
    """Adam: with a norm to clip by (8 elements), new arrays for 148 gradients of 8, a schedule (1 element)."""

    params, param_names, version, timeout = ([step.way for step in STEPS if step.way != "step"],), ["way"], "1", 600
    setup_cache = Retired.setup_cache

    def track_call(self, found, way):
        """Of a step."""
        return next((figures["call"] for step, figures in found.items() if step.way == way), math.nan)

    track_call.unit = "instructions"
