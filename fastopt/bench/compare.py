"""``fastopt bench --compare FILE``: the figures of now beside those that ``--json FILE`` kept.

What is compared is the time over the ceiling's, which moves least from day to day. On a shared computer it differs by
up to a tenth from run to run. A step is called slower where it rose by more and the two intervals do not meet.
"""
import json
from collections.abc import Mapping, Sequence
from typing import Any

from .cpu import place

Figures = Mapping[str, Any]
NOISE = 1.10
SAME = ("rule", "n", "format", "threads", "device", "cold")  # what two figures share; the last three if they have them


def read(path: str) -> dict[str, Any]:
    """What an earlier run kept; OSError where it is not that."""
    with open(path, encoding="utf-8") as file:
        try:
            kept = json.load(file)
            if kept["results"] and all(r[k] for r in kept["results"] for k in (*SAME[:3], "seconds", "ceiling")):
                return kept
        except (ValueError, KeyError, TypeError):
            pass
    raise OSError(f"--compare {path}: no figures of fastopt bench were found. Make such a file with: fastopt bench "
                  f"--json {path}")


def matched(kept: Figures, wanted: Figures) -> Figures | None:
    """The earlier figures of the same rule, elements, format, and threads or device."""
    return next((r for r in kept["results"] if all(r.get(name) == wanted.get(name) for name in SAME)), None)


def check(kept: Figures, wanted: Sequence[Figures], path: str) -> None:
    """OSError where none of what is to be measured stands in the file."""
    if not any(matched(kept, w) for w in wanted):
        held = "; ".join(f"{r['rule']}, {r['n']:,} elements, {r['format']}, {place(r)}" for r in kept["results"])
        raise OSError(f"--compare {path}: it holds {held}, but nothing of what is asked for. Take the same --rules, "
                      "--n, --format and --threads.")


def over_ceiling(figures: Figures) -> tuple[float, float, float]:
    """Time over the ceiling's: the interval's lower end, the median, its upper end (older files have no interval)."""
    low, high = figures.get("ceiling_interval") or [figures["ceiling"]]*2
    return 1/high, 1/figures["ceiling"], 1/low


def slower(then: Figures, now: Figures) -> bool:
    """Whether a step takes longer, beside the ceiling."""
    (_, before, highest), (lowest, after, _) = over_ceiling(then), over_ceiling(now)
    return after > NOISE*before and lowest > highest


def rows(kept: Figures, results: Sequence[Figures]) -> list[list[str]]:
    """A table of both, the first row of it the heads; what the file lacks has dashes."""
    found = [["rule", "step then", "now", "x ceiling then", "now", "ratio", ""]]
    for now in results:
        then, after, took = matched(kept, now), over_ceiling(now)[1], f"{now['seconds']*1e6:.4g} us"
        if then is None:
            found.append([now["rule"], "-", took, "-", f"{after:.3f}", "-", "not in the file"])
            continue
        before = over_ceiling(then)[1]
        verdict = "SLOWER" if slower(then, now) else "faster" if slower(now, then) else "same"
        found.append([now["rule"], f"{then['seconds']*1e6:.4g} us", took, f"{before:.3f}", f"{after:.3f}",
                      f"{after/before:.3f}", verdict])
    return found


def other_processor(kept: Figures, facts: Figures) -> str:
    """A sentence where the file tells of another processor, else nothing."""
    if kept.get("processor") == json.loads(json.dumps(facts.get("processor"))):
        return ""
    return "The file tells of another processor, which may be why figures differ.\n"
