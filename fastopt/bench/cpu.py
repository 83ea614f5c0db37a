"""``fastopt bench``: steps on one long vector, beside the ceiling and other ways to take the same step.

Each contender of a rule takes turns with our step in one process (interleave.py): a step that is not counted, and some
that are. Ratios are taken within a quartet of turns, so that a slow spell of a shared computer falls on both sides.
"""
import importlib
import statistics
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from .._cpu.pool import available_threads
from .._formats.catalogue import FORMATS
from ..optimizers import ALL, chosen
from . import interleave
from .ceiling import Traffic
from .rivals import RIVALS, Hyper, System

Step = Callable[[], Any]
CEILING, OURS = "ceiling", "fastopt"
DEFAULT_RULES = ["momentum", "nesterov", "adam"]
DEFAULT_RIVALS = ["c", "numba", "numpy", "numpy_in_place", "torch_fused", "torch_for_loop", "optax", "numexpr"]
LEAST_SWEPT, WORD = 64 << 20, 8  # bytes that are read to empty the caches, where Linux tells of smaller ones
TURN = 2e-3  # seconds of counted steps in a turn, at least one step
CHECKED, CHECK_STEPS, CHECK_LR = 1_000, 5, 1e-2  # elements, steps, and a rate that makes the step larger than rounding
# A right answer may be off by so many roundings of p, and this part of the longest way. torch keeps the running product
# of NAdam in float32, beside float64 parameters too.
ROUNDINGS, PART_OF_WAY = 16, {"f32": 1e-3, "f64": 1e-5}


@cache
def of(rule: str) -> Any:
    """The optimizer class of a rule's name, or of a rule or class of one's own, "package.module:name"."""
    if rule in ALL:
        return ALL[rule]
    module, _, name = rule.partition(":")
    return chosen(getattr(importlib.import_module(module), name), "bench", rule)


def vectors(n: int, format: str, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A parameter and a gradient: normal random numbers away from zero, every page touched."""
    stored_as, rng = FORMATS[format], np.random.default_rng(seed)
    both = []
    for scale in (1.0, 0.01):
        x = rng.standard_normal(n, np.float32)
        x += np.copysign(np.float32(0.1), x)
        x *= np.float32(scale)
        stored = x if stored_as.value.name == stored_as.stored.name else stored_as.encode(x)
        same = stored.dtype.itemsize == stored_as.itemsize
        both.append(stored.view(stored_as.dtype) if same else stored.astype(stored_as.dtype))
    return both[0], both[1]


def reference(rule: str, hyper: Hyper, p: np.ndarray, gradients: Sequence[np.ndarray]) -> np.ndarray:
    """Where the rule goes in float64, on NumPy arrays."""
    formula, point = of(rule).rule, p.astype(np.float64)
    state = [np.full_like(point, hyper[formula.initial[name]] if name in formula.initial else 0.0)
             for name in formula.state]
    for t, g in enumerate(gradients, 1):
        point, *state = formula(formula.at(t, **hyper), g.astype(np.float64), point, *state)
    return point


def mistake(name: str, rule: str, format: str, threads: int, given: Hyper,
            systems: Mapping[str, System] = RIVALS) -> str | None:
    """How a rival goes wrong on a small vector, with another gradient at each step, or None."""
    drawn = [vectors(CHECKED, format, seed) for seed in range(CHECK_STEPS)]
    p, gradients = drawn[0][0], [g for _, g in drawn]
    rival = systems[name](rule, given, [p], gradients[:1], threads)
    wanted, start = reference(rule, systems[name].hyper(rule, given), p, gradients), p.astype(np.float64)
    for g in gradients:
        rival.load([g])
        rival.step()
    found = np.asarray(rival.params()[0], np.float64)
    allowed = ROUNDINGS*float(np.finfo(p.dtype).eps)*np.abs(start) + PART_OF_WAY[format]*np.abs(wanted - start).max()
    wrong = np.flatnonzero(~(np.abs(found - wanted) <= allowed))
    if not wrong.size:
        return None
    k = int(wrong[0])
    return (f"{wrong.size} of {CHECKED} elements are wrong after {CHECK_STEPS} steps; element {k} is {found[k]:.9g}, "
            f"not {wanted[k]:.9g}")


def contenders(rule: str, n: int, against: Sequence[str], threads: int,
               format: str) -> tuple[dict[str, Step], dict[str, str], int]:
    """{name: a step}, {name: why it is missing}, and the bytes that a step must move."""
    params, grads = vectors(n, format)
    opt = of(rule)(params, threads=threads, **of(rule).rule.steady)
    ceiling = Traffic(n, [grads.dtype, params.dtype, *(tree.dtype for tree in opt.state.values())], threads)
    others, missing = checked(rule, (params, grads), against, threads, format, states=[[*opt.state.values()]])
    return {CEILING: ceiling, OURS: lambda: opt.step(grads), **others}, missing, ceiling.moved_bytes


def checked(rule: str, vector: tuple[np.ndarray, np.ndarray], against: Sequence[str], threads: int, format: str,
            systems: Mapping[str, System] = RIVALS, survived: tuple[type[Exception], ...] = (ImportError, LookupError),
            states: list[list[np.ndarray]] | None = None) -> tuple[dict[str, Step], dict[str, str]]:
    """{rival: its step} for those that compute the rule, {name: why it is missing}; `survived`: what one may raise.
    `states`: on which they work, and on the vector itself, like our step: one memory for all."""
    steps: dict[str, Step] = {}
    missing: dict[str, str] = {}
    for name in against:
        if format not in systems[name].formats:
            missing[name] = f"measured with {' and '.join(systems[name].formats)} only"
            continue
        try:
            if wrong := mistake(name, rule, format, threads, {**of(rule).rule.steady, "lr": CHECK_LR}, systems):
                raise LookupError(f"computes something else: {wrong}")
            steps[name] = systems[name](rule, of(rule).rule.steady, [vector[0]], [vector[1]], threads, states).step
        except survived as error:
            missing[name] = str(error)
    return steps, missing


def _turn(step: Step, calls: int) -> float:
    step()  # wakes its threads, fills its caches
    return interleave.seconds(step, calls)


def cache_bytes() -> int:
    """The largest cache that Linux tells of, or 0."""
    sizes = [path.read_text().strip() for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size")]
    return max((int(size[:-1])*{"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}[size[-1]] for size in sizes), default=0)


def emptied() -> Callable[[Step, int], float]:
    """A turn of one step that finds nothing in the caches: twice their size is read before it, and not timed."""
    swept = np.ones(max(2*cache_bytes(), LEAST_SWEPT)//WORD, np.int64)

    def turn(step: Step, calls: int) -> float:
        swept.max()
        return interleave.seconds(step)
    return turn


def in_turn(steps: Mapping[str, Any], seconds: float,
            turn: Callable[[Any, int], float] = _turn) -> dict[str, interleave.Pairs]:
    """{contender: seconds of our step and of its, quartet by quartet}: each takes turns with ours and has an equal
    share of the time. ``turn(step, calls)`` gives the seconds of a call of one of them."""
    calls, others = {k: interleave.batch(step, TURN) for k, step in steps.items()}, [k for k in steps if k != OURS]
    return {k: interleave.quartets((steps[OURS], steps[k]), seconds/len(others), turn, (calls[OURS], calls[k]))
            for k in others}


def measure(rule: str, n: int, against: Sequence[str] = (), threads: int | None = None, format: str = "f32",
            seconds: float = 4.0, cold: bool = False) -> dict:
    """Time the steps of a rule, a name that `of` knows, on a vector of `n` elements.

    With `cold` caches are emptied before each step, as they are after a forward and a backward pass.
    `against`: keys of `RIVALS`. `threads`: for all contenders that let one choose, by default all that the process may
    use. `format`: storage of parameter and gradient. `seconds`: to spend, compilation not counted.

    Returns {``seconds``: the median of a step, ``fastest``, ``elements_per_second``, ``gb_per_second`` and
    ``bytes_per_element`` of what it must read and write, ``ceiling``: the ceiling's time over ours,
    ``ceiling_interval``: holds its median 99 times of 100, ``times_faster``: {rival: its time over ours},
    ``rival_seconds``, ``missing``: {rival: why}, ``turns``: that each contender took, at least}.
    """
    threads = threads or available_threads()
    steps, missing, moved = contenders(rule, n, against, threads, format)
    pairs = in_turn(steps, seconds, emptied() if cold else _turn)
    return {"rule": rule, "n": n, "format": format, "threads": threads, **({"cold": True} if cold else {}),
            **figures(pairs, n, moved, against), "missing": missing}


def figures(pairs: Mapping[str, interleave.Pairs], n: int, moved: int, against: Sequence[str]) -> dict:
    """What `measure` says of the seconds of our step and of each contender, quartet by quartet."""
    ours = [mine for of in pairs.values() for mine, _ in of]
    ratios = {name: [theirs/mine for mine, theirs in of] for name, of in pairs.items()}
    median, ratio = statistics.median(ours), {name: statistics.median(of) for name, of in ratios.items()}
    return {"seconds": median, "fastest": min(ours), "elements_per_second": n/median, "gb_per_second": moved/median/1e9,
            "bytes_per_element": moved/n, "ceiling": ratio[CEILING],
            "ceiling_interval": interleave.interval(ratios[CEILING]),
            "times_faster": {name: ratio[name] for name in against if name in ratio},
            "rival_seconds": {name: statistics.median(theirs for _, theirs in pairs[name])
                              for name in (CEILING, *against) if name in pairs},
            "turns": min(map(len, pairs.values()))}


def memory_needed(n: int, against: Sequence[str]) -> int:
    """An upper estimate of the bytes that the contenders of one rule hold at a time."""
    return 4*n*(8 + 10*len(against))


def memory_available() -> float:
    """What can be allocated without swapping, in bytes: free pages alone would leave out what files are cached in."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(float(line.split()[1])*1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return float("inf")


def check_memory(n: int, against: Sequence[str], format: str) -> None:
    """OSError where the contenders do not fit into memory."""
    check_free(n, memory_needed(n, against), memory_available(), "are free")


def check_free(n: int, needed: float, available: float, where: str) -> None:
    if needed > available:
        raise OSError(f"{n:,} elements with these rivals need up to {needed/1e9:.1f} GB, but {available/1e9:.1f} GB "
                      f"{where}. Take fewer with --against, or a smaller --n.")


def _si(value: float, unit: str) -> str:
    for factor, prefix in ((1.0, ""), (1e-3, "m"), (1e-6, "u")):
        if value >= factor:
            return f"{value/factor:.3g} {prefix}{unit}"
    return f"{value/1e-9:.3g} n{unit}"


def table(results: Sequence[dict], against: Sequence[str]) -> list[list[str]]:
    """The figures as rows of text, the first of them the heads."""
    enqueued = any("host_seconds" in r for r in results)
    head = ["rule", "step", "fastest", "elements/s", "GB/s", "of ceiling", *(["host"] if enqueued else []),
            *(f"x {name.replace('_', ' ')}" for name in against)]
    rows = [head]
    for r in results:
        host = [_si(r["host_seconds"][OURS], "s")] if enqueued else []
        faster = [f"{r['times_faster'][name]:.3g}" if name in r["times_faster"] else "-" for name in against]
        rows.append([r["rule"], _si(r["seconds"], "s"), _si(r["fastest"], "s"), f"{r['elements_per_second']/1e9:.3g}e9",
                     f"{r['gb_per_second']:.3g}", f"{100*r['ceiling']:.0f} %", *host, *faster])
    return rows


def place(result: Mapping[str, Any]) -> str:
    """Where a rule was measured: a device's name, or so many threads."""
    where = result["device"] if "device" in result else f"{result['threads']} threads"
    return f"{where}, empty caches" if result.get("cold") else where


def text(rows: Sequence[Sequence[str]], width: int = 80) -> str:
    """Rows as aligned columns, in as many tables, one below the other, as are needed for this width."""
    first, *others = zip(*rows, strict=True)
    names = [cell.ljust(max(map(len, first))) for cell in first]
    tables = [names]
    for column in others:
        cells = [f"  {cell.rjust(max(map(len, column)))}" for cell in column]
        if tables[-1] is not names and len(tables[-1][0] + cells[0]) > width:
            tables.append(names)
        tables[-1] = [row + cell for row, cell in zip(tables[-1], cells, strict=True)]
    return "\n\n".join("\n".join(table) for table in tables)


def check_picture(path: str) -> None:
    """ImportError or OSError where `plot` could not draw into this file."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError('plot: matplotlib is not installed. Install it with: pip install "fastopt[plot]"') from None
    kinds = Figure().canvas.get_supported_filetypes()
    if Path(path).suffix[1:].lower() not in kinds:
        raise OSError(f"plot: {path!r} was found, but a file name that ends in one of {', '.join(kinds)} is needed. "
                      "Name a .png.")
    if not Path(path).parent.is_dir():
        raise OSError(f"plot: there is no folder {str(Path(path).parent)!r}. Make it, or name another file.")


def plot(results: Sequence[dict], path: str) -> None:
    """Horizontal bars: the time of each contender over the ceiling's, one panel for each rule."""
    check_picture(path)
    from matplotlib.figure import Figure
    names = list(dict.fromkeys(name for r in results for name in (OURS, *r["times_faster"])))
    figure = Figure(figsize=(9, 0.6 + len(results)*(0.7 + 0.32*len(names))), layout="constrained")
    for axes, r in zip(np.atleast_1d(figure.subplots(len(results), 1, sharex=True)), results, strict=True):
        over = {OURS: 1/r["ceiling"], **{name: x/r["ceiling"] for name, x in r["times_faster"].items()}}
        over = dict(sorted(over.items(), key=lambda bar: -bar[1]))
        bars = axes.barh([name.replace("_", " ") for name in over], list(over.values()),
                         color=["#d1495b" if name == OURS else "#9aa5b1" for name in over])
        labels = [f"{x:.3g} x  ({_si(x*r['ceiling']*r['seconds'], 's')})" for x in over.values()]
        axes.bar_label(bars, labels, padding=4, fontsize=8)
        axes.axvline(1, color="black", linewidth=1)
        axes.set(xscale="log", xlim=(0.8, 2.5*max(over.values())))
        axes.set_title(f"{r['rule']}: {r['n']:,} x {r['format']}, {place(r)}", loc="left", fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel("time of a step over that of the ceiling, a kernel that only moves the same bytes (log scale; left "
                    "is better)")
    figure.savefig(path, dpi=130)
