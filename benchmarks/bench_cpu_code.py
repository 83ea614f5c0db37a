"""Figures of the CPU kernels as compiled code: exact, the same on every x86-64 machine, for other processors too.
Nothing is run: see cpu_code.py for what is counted. Lower is better. NaN: this machine cannot compile for x86-64."""
import math
import os
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from typing import Any

from . import common
from .gate import figures
from .machine_code import cpu_code

TARGETS = ["znver4"] if common.QUICK else list(figures.TARGETS)
NORMS = ["f32"] if common.QUICK else ["f32", "f64", "f16", "bf16"]


@lru_cache(maxsize=1)
def tables() -> dict[str, dict[str, dict[str, Any]]]:
    """{target: {kernel: figures}}; empty on other machines."""
    if not cpu_code.X86:
        return {}
    only = [f"{rule}, f32" for rule in common.RULES] + [
        f"{rule}, {format}" for rule in Formats.params[0] for format in Formats.params[2]]
    only += [f"squares, {format}" for format in NORMS]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return dict(zip(TARGETS, pool.map(partial(cpu_code.table, common.SOURCE, only=only), TARGETS), strict=True))


class Rules:
    """Every rule in float32."""

    params, param_names, version, timeout = (common.RULES, TARGETS), ["rule", "target"], "1", 600

    def setup_cache(self):
        """25 kernels for each processor, in a process each: 9 seconds of a core."""
        return tables()

    setup_cache.timeout = 1800

    def look_up(self, found, figure, rule, target, format="f32"):
        return found.get(target, {}).get(f"{rule}, {format}", {}).get(figure, math.nan)

    def track_instructions(self, found, *case):
        """Instructions for an element in the loop of wide vectors."""
        return self.look_up(found, "instructions", *case)

    def track_accesses(self, found, *case):
        """Loads and stores of arrays for an element: of a rule with one state 5 per vector, with two 7."""
        return self.look_up(found, "accesses", *case)

    def track_lanes_lost(self, found, *case):
        """Width of the vectors that suit the processor over the loop's: more than 1 where the loop lost its vectors."""
        return self.look_up(found, "lanes_lost", *case)

    def track_float64(self, found, *case):
        """Float64 arithmetic and conversions in a trip of that loop: 0, but for the norm and for float64 arrays."""
        return self.look_up(found, "float64", *case)

    def track_calls(self, found, *case):
        """Calls in the whole kernel, of a memory allocation for example: 0, but for the norm's sums."""
        return self.look_up(found, "calls", *case)

    def track_spills(self, found, *case):
        """Accesses in a trip of that loop to what found no register: spilled values and constants."""
        return self.look_up(found, "spills", *case)

    track_instructions.unit, track_accesses.unit = "instructions/element", "accesses/element"
    track_lanes_lost.unit, track_float64.unit, track_calls.unit = "want/have", "instructions", "calls"
    track_spills.unit = "accesses"


class Formats(Rules):
    """One rule with one state and one with two, in every other format."""

    params = (common.two_or("momentum", "adam"), TARGETS, common.OTHER_FORMATS)
    param_names = (*Rules.param_names, "format")


class Norm(Rules):
    """The sum of a gradient's squares, in float64."""

    params, param_names = (NORMS, TARGETS), ["format", "target"]

    def look_up(self, found, figure, format, target):
        return super().look_up(found, figure, "squares", target, format)
