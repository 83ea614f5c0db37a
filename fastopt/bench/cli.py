"""The command ``fastopt``: ``bench`` measures steps on this computer, ``info`` says what was found on it."""
import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from textwrap import fill
from typing import Any

from .. import __version__
from .._cpu import pool
from .._cuda import driver
from .._formats.catalogue import FORMATS
from ..optimizers import ALL
from . import compare, cpu, cuda, info

# OpenMP threads of other systems would spin for milliseconds after their step, and hold the cores that the next
# contender needs. So they wait as long as ours do, which finds them awake in steps back to back. Their libraries read
# this once, when they are loaded. fastopt itself does not use OpenMP.
WAIT = {"GOMP_SPINCOUNT": str(pool.SPINS), "KMP_BLOCKTIME": "0", "JAX_PLATFORMS": "cpu"}
LEGEND = """
step: the median time of a step. GB/s: the bytes that the step must read and
write, in a second. of ceiling: the time of a kernel that only moves these
bytes, over the step's. x ...: how many times longer the same step takes there."""
ON_DEVICE = """\
On the device: the L2 cache is empty before each step, and the ceiling is a
copy. host: the time until opt.step returns."""


def _choices(name: str, allowed: Sequence[str], none: bool = False) -> Callable[[str], list[str]]:
    def parse(value: str) -> list[str]:
        words = [w for w in value.lower().replace("-", "_").split(",") if w]
        if none and value == "none":
            return []
        wrong = [repr(w) for w in words if w not in allowed]
        if wrong or not words:
            found = f"{name} {wrong[0]}" if wrong else f"no {name}"
            raise argparse.ArgumentTypeError(f"{found} was found, but one of {', '.join(allowed)} is needed")
        return words
    return parse


def _rules(value: str) -> list[str]:
    """Names of rules, and of rules of one's own, which may lie where the program was started."""
    found = []
    for word in value.split(","):
        if ":" not in word:
            found += _choices("rule", list(ALL))(word)
            continue
        sys.path.insert(0, os.getcwd())
        try:
            cpu.of(word)
        except (ImportError, AttributeError, TypeError, ValueError) as error:
            raise argparse.ArgumentTypeError(f"rule {word!r} was found, but package.module:name of a rule or an "
                                             f"optimizer class is needed ({error})") from None
        finally:
            sys.path.pop(0)
        found.append(word)
    return found


def _whole(value: str) -> int:
    try:
        number = float(value)
    except ValueError:
        number = 0.0
    if not (1 <= number < float("inf") and number.is_integer()):
        raise argparse.ArgumentTypeError(f"{value!r} was found, but a whole number, 1 or more, is needed")
    return int(number)


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="fastopt", description="Fused optimizer updates at memory speed.")
    top.add_argument("--version", action="version", version=f"fastopt {__version__}")
    commands = top.add_subparsers(dest="command", required=True)
    here, there = ", ".join(cpu.RIVALS), ", ".join(cuda.RIVALS)
    bench = commands.add_parser(
        "bench", help="time steps on one long vector", formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        description="Time steps on one long vector, beside the ceiling (a kernel that only moves the same bytes) and "
                    "other ways to take the same step; all take turns in one process.")
    add = bench.add_argument
    add("--device", choices=["cpu", "cuda"], default="cpu", help="cuda: the first device that is visible")
    add("--n", type=_whole, default=10_000_000, help="elements; 1e6 is understood")
    add("--rules", type=_rules, default=",".join(cpu.DEFAULT_RULES), metavar="A,B",
        help=f"{', '.join(ALL)}, or package.module:rule")
    add("--against", type=_choices("rival", list({**cpu.RIVALS, **cuda.RIVALS}), none=True), default=argparse.SUPPRESS,
        metavar="A,B", help=f"none, or some of {here} (default: {','.join(cpu.DEFAULT_RIVALS)}), with --device cuda of "
                            f"{there} (default: all); those that are not installed are left out")
    add("--cold", action="store_true", help="empty the caches before each step, as a forward and backward pass does")
    add("--threads", type=_whole, help="for all contenders on the CPU; all that the process may use if left out")
    add("--format", choices=list(FORMATS), default="f32",
        help="storage of parameter and gradient; the state is float32 (f64: float64)")
    add("--seconds", type=float, default=3.0, help="to spend on each rule")
    add("--json", nargs="?", const="-", metavar="FILE",
        help="write the figures as JSON, to standard output without FILE")
    add("--compare", metavar="FILE",
        help="show them beside those that an earlier --json FILE kept; exit status 1: slower")
    add("--plot", metavar="FILE", help="draw the figures (the extra `plot`)")
    commands.add_parser("info", help="versions, processor, threads, cache").add_argument(
        "--json", action="store_true", help="as JSON")
    return top


def _bench(given: argparse.Namespace) -> int:
    for name, value in WAIT.items():
        os.environ.setdefault(name, value)
    where: Any = cuda if given.device == "cuda" else cpu
    given.against = getattr(given, "against", where.DEFAULT_RIVALS)
    for name in given.against:
        if name not in where.RIVALS:
            raise OSError(f"rival {name!r} was found, but with --device {given.device} one of "
                          f"{', '.join(where.RIVALS)} is needed")
    if given.threads and given.device == "cuda":
        raise OSError("--threads was found, but a step on a CUDA device has no threads to choose. Leave it out, or "
                      "take --device cpu.")
    if given.cold and given.device == "cuda":
        raise OSError("--cold was found, but on a CUDA device caches are always emptied. Leave it out.")
    how = {} if given.device == "cuda" else {"threads": given.threads, "cold": given.cold}
    where.check_memory(given.n, given.against, given.format)
    if given.plot:
        cpu.check_picture(given.plot)  # now, not after the measurement
    kept = _kept(given) if given.compare else None
    results, quiet = [], given.json == "-"
    for rule in given.rules:
        if not quiet and sys.stderr.isatty():
            print(f"{rule} ...", file=sys.stderr)
        results.append(where.measure(rule, given.n, given.against, format=given.format, seconds=given.seconds, **how))
    if given.json:
        facts = info.collect()
        told = ["versions", "others", "processor", "threads", *(["cuda"] if given.device == "cuda" else [])]
        data = json.dumps({**{k: facts[k] for k in told}, "results": results}, indent=1)
        if quiet:
            print(data)
        else:
            with open(given.json, "w") as file:
                file.write(data + "\n")
    if given.plot:
        cpu.plot(results, given.plot)
    if not quiet:
        _print(results, given)
    if kept is None:
        return 0
    print(f"\n{cpu.text(compare.rows(kept, results))}\n{compare.other_processor(kept, info.collect())}",
          file=sys.stderr if quiet else sys.stdout)
    return int(any((then := compare.matched(kept, r)) and compare.slower(then, r) for r in results))


def _kept(given: argparse.Namespace) -> dict[str, Any]:
    """The earlier figures, checked before anything is measured."""
    kept = compare.read(given.compare)
    where = ({"device": driver.name(cuda.device().device)} if given.device == "cuda" else
             {"threads": given.threads or pool.available_threads(), **({"cold": True} if given.cold else {})})
    wanted = [{"rule": rule, "n": given.n, "format": given.format, **where} for rule in given.rules]
    compare.check(kept, wanted, given.compare)
    return kept


def _print(results: list[dict], given: argparse.Namespace) -> None:
    first, turns = results[0], min(r["turns"] for r in results)
    shown = [name for name in given.against if any(name in r["times_faster"] for r in results)]
    print(f"{first['n']:,} elements, {first['format']}, {cpu.place(first)}, medians of {turns} turns or more\n")
    print(cpu.text(cpu.table(results, shown)), LEGEND, sep="\n")
    if given.device == "cuda":
        print(ON_DEVICE)
    for name in given.against:
        if name not in shown:
            print(fill(f"{name}: not measured ({first['missing'].get(name, 'no such optimizer')})", 80))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its exit status. 2: the arguments do not fit."""
    given = parser().parse_args(arguments)
    if given.command == "info":
        facts = info.collect()
        print(json.dumps(facts, indent=1) if given.json else info.text(facts))
        return 0
    try:
        return _bench(given)
    except (ImportError, OSError) as error:
        print(f"fastopt {given.command}: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
