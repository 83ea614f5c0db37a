"""Draw the newest recorded throughput of each machine against the ceiling and the rivals, for the README.

``python -m benchmarks.record.picture [--results FOLDER] [--out FILE]``. Same input, same bytes. Exit 0: drawn; 2: not.
"""
import argparse
import ast
import itertools
import math
import sys
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from .__main__ import RESULTS, status

RULES, THREADS = ("momentum", "nesterov", "adam"), 1
CEILING, RIVAL = "bench_step.Step.track_vs_ceiling", "bench_rivals.Rivals.track_times_faster_than_"
STYLES = {  # name, colour (Okabe and Ito: told apart by the colour-blind), marker
    "fastopt": ("fastopt", "#0072b2", "o"), "c": ("C", "#999999", "p"), "numba": ("Numba", "#882255", "<"),
    "torch_fused": ("torch, fused", "#d55e00", "s"),
    "torch_foreach": ("torch, foreach", "#cc79a7", "D"), "torch_for_loop": ("torch, for loop", "#e69f00", "v"),
    "optax": ("optax, jit", "#7f7f00", "P"), "numexpr": ("numexpr", "#56b4e9", "^"),
    "numpy_in_place": ("NumPy, in place", "#009e73", "X"), "numpy": ("NumPy", "#000000", "*")}
GAP = 0.055  # between the names at the lines' ends, as a part of the axis: two lines of text
Points = dict[tuple[str, str], list[tuple[int, float]]]


def measured(results: Any, key: str) -> Iterator[tuple[str, int, float]]:
    """Rule, elements and value of a benchmark, for the picture's rules, vectors and threads, where it has one."""
    if key not in results.get_all_result_keys():
        return
    params = results.get_result_params(key)
    cases = itertools.product(*([ast.literal_eval(p) for p in axis] for axis in params))
    for (rule, n, threads), value in zip(cases, results.get_result_value(key, params), strict=True):
        if rule in RULES and isinstance(n, int) and threads == THREADS and value is not None and math.isfinite(value):
            yield rule, n, value


def fractions(results: Any) -> Points:
    """{(rule, system): [(n, fraction of the ceiling's speed), ...]} of one asv result. fastopt's is 1/track_vs_ceiling;
    a rival's is that over how many times faster fastopt was."""
    own = {(rule, n): 1/x for rule, n, x in measured(results, CEILING)}
    found = {(rule, n, "fastopt"): x for (rule, n), x in own.items()}
    for system in STYLES:
        for rule, n, faster in measured(results, RIVAL + system):
            if (rule, n) in own:
                found[rule, n, system] = own[rule, n]/faster
    points: Points = {}
    for (rule, n, system), x in sorted(found.items()):
        points.setdefault((rule, system), []).append((n, x))
    return points


def newest(folder: Path) -> list[Any]:
    """Of each machine the result of the newest commit that says something of the picture; of several, that with the
    most points. The machine that was measured last comes first."""
    from asv.results import iter_results
    found = sorted(((results.date, sum(map(len, points.values())), results.params["machine"], results.env_name, results)
                    for results in iter_results(str(folder)) if (points := fractions(results))),
                   key=lambda one: one[:-1])
    if not found:
        raise RuntimeError(f"picture: {folder} holds no result of {CEILING} for {', '.join(RULES)} on {THREADS} "
                           "thread. Measure one: python -m benchmarks.record HEAD")
    by_machine = {machine: results for _, _, machine, _, results in found}
    last = [machine for _, _, machine, _, _ in reversed(found)]
    return [by_machine[machine] for machine in dict.fromkeys(last)]


def caption(results: Any) -> str:
    """What was measured, where, and which commit."""
    said, day = results.params, datetime.fromtimestamp(results.date/1000, timezone.utc)
    return (f"float32, {THREADS} thread; {said['cpu']}, {said['num_cpu']} cores, {said['ram']}, {said['os']}; "
            f"commit {results.commit_hash[:8]} of {day:%Y-%m-%d}")


def apart(heights: Sequence[float], gap: float) -> list[float]:
    """Where names go whose lines end at these heights: in that order, at least a gap apart, as low as possible."""
    places = [0.0]*len(heights)
    last = -math.inf
    for k in sorted(range(len(heights)), key=heights.__getitem__):
        places[k] = last = max(heights[k], last + gap)
    return places


def panel(axes: Any, points: Points, rule: str) -> list[tuple[str, float]]:
    """Draw a rule's lines; the system of each, and the height at which it ends."""
    axes.axhline(1, color="0.4", linestyle="--", linewidth=1)
    ends = []
    for system, (_, colour, marker) in STYLES.items():
        if line := points.get((rule, system)):
            width, order = (2.5, 3) if system == "fastopt" else (1.2, 2)
            axes.plot(*zip(*line, strict=True), color=colour, marker=marker, markersize=5, linewidth=width,
                      zorder=order)
            ends.append((system, line[-1][1]))
    axes.set(title=rule.capitalize(), xscale="log", xlabel="elements")
    axes.spines[["top", "right"]].set_visible(False)
    return ends


def draw(machines: Sequence[Any], out: Path) -> None:
    """A row for each machine, with a panel for each rule."""
    import matplotlib
    from matplotlib.figure import Figure
    with matplotlib.rc_context({"svg.hashsalt": "fastopt", "svg.fonttype": "none", "font.size": 10}):
        figure = Figure(figsize=(10, 4*len(machines)), layout="constrained")
        for part, results in zip(figure.subfigures(len(machines), 1, squeeze=False)[:, 0], machines, strict=True):
            _draw(part, results)
        out.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})


def _draw(part: Any, results: Any) -> None:
    """A machine's row; systems are named once, at the ends of their lines in the last panel that has them."""
    points = fractions(results)
    row = part.subplots(1, len(RULES), sharex=True, sharey=True)
    top, named = 1.1*max(1, *(x for line in points.values() for _, x in line)), {}
    for axes, rule in zip(row, RULES, strict=True):
        named |= {system: (axes, height) for system, height in panel(axes, points, rule)}
    text = "ceiling: a loop that only moves the same bytes\n"
    row[0].set(ylim=(0, top), ylabel="speed, as a fraction of the ceiling's")
    row[0].text(0.02, 1, text, transform=row[0].get_yaxis_transform(), va="center", fontsize=8)
    places = apart([height for _, height in named.values()], GAP*top)
    for (system, (axes, _)), y in zip(named.items(), places, strict=True):
        axes.text(1.02, y, STYLES[system][0], color=STYLES[system][1], va="center",
                  transform=axes.get_yaxis_transform())
    part.supxlabel(caption(results), fontsize=8, color="0.3")


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="picture", description=__doc__.split("\n")[0])
    parser.add_argument("--results", type=Path, default=RESULTS, help="default: %(default)s")
    parser.add_argument("--out", type=Path, default=RESULTS.with_name("throughput.svg"), help="default: %(default)s")
    given = parser.parse_args(words)

    def work() -> None:
        draw(newest(given.results), given.out)
        print(f"picture: {given.out}")
    return status(work)


if __name__ == "__main__":
    sys.exit(main())
