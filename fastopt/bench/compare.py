"""``fastopt bench --compare FILE``: the figures of now beside those that ``--json FILE`` kept, to track a machine of
one's own.

What is compared is the time over the ceiling's, which the machine's mood of the day moves least; seconds are shown. On
a shared machine it differs by up to a tenth from run to run: a step is called slower where it rose by more than that
and the two intervals do not meet.
"""
import json
from collections.abc import Mapping, Sequence
from typing import Any

from .cpu import place

NOISE = 1.10
SAME = ("rule", "n", "format", "threads",
        "device")  # what two figures must share; the last two as far as they have them
HEAD = ["rule", "step then", "now", "x ceiling then", "now", "ratio", ""]


def read(path: str) -> dict[str, Any]:
    """What an earlier run kept; OSError where it is not that."""
    with open(path, encoding="utf-8") as file:
        try:
            kept = json.load(file)
            if kept["results"] and all(r["rule"] and r["n"] and r["format"] and r["seconds"] and r["ceiling"]
                                       for r in kept["results"]):
                return kept
        except (ValueError, KeyError, TypeError):
            pass
    raise OSError(f"--compare {path}: no figures of fastopt bench were found. Make such a file with: fastopt bench "
                  f"--json {path}")


def matched(kept: Mapping[str, Any], wanted: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The earlier figures of the same rule on as many elements, in the same format, on as many threads or the same device."""
    return next((r for r in kept["results"] if all(r.get(name) == wanted.get(name) for name in SAME)), None)


def check(kept: Mapping[str, Any], wanted: Sequence[Mapping[str, Any]], path: str) -> None:
    """OSError where none of what is to be measured stands in the file."""
    if not any(matched(kept, w) for w in wanted):
        held = "; ".join(f"{r['rule']}, {r['n']:,} elements, {r['format']}, {place(r)}" for r in kept["results"])
        raise OSError(f"--compare {path}: it holds {held}, but nothing of what is asked for. Take the same --rules, "
                      f"--n, --format "
                      "and --threads.")


def over_ceiling(figures: Mapping[str, Any]) -> tuple[float, float, float]:
    """Time over the ceiling's: the interval's lower end, the median, its upper end (older files have no interval)."""
    low, high = figures.get("ceiling_interval") or [figures["ceiling"]]*2
    return 1/high, 1/figures["ceiling"], 1/low


def slower(then: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether a step takes longer, seen beside the ceiling."""
    (_, before, highest), (lowest, after, _) = over_ceiling(then), over_ceiling(now)
    return after > NOISE*before and lowest > highest


def rows(kept: Mapping[str, Any], results: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """A table of both, the first row of it the heads; what the file lacks has dashes."""
    found = [HEAD]
    for now in results:
        then = matched(kept, now)
        if then is None:
            found.append([now["rule"], "-", f"{now['seconds']*1e6:.4g} us", "-", f"{1/now['ceiling']:.3f}", "-",
                          "not in the file"])
            continue
        before, after = over_ceiling(then)[1], over_ceiling(now)[1]
        verdict = "SLOWER" if slower(then, now) else "faster" if slower(now, then) else "same"
        found.append([now["rule"], f"{then['seconds']*1e6:.4g} us", f"{now['seconds']*1e6:.4g} us", f"{before:.3f}",
                      f"{after:.3f}",
                      f"{after/before:.3f}", verdict])
    return found


def other_machine(kept: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    """A sentence where the file tells of another processor, else nothing."""
    then, now = (json.dumps(x.get("processor"), sort_keys=True) for x in (kept, json.loads(json.dumps(facts))))
    return "" if then == now else "The file tells of another processor: what differs may be the machine's doing.\n"
