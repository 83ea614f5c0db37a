"""The command ``fastopt``: ``bench`` measures steps on this machine, ``info`` says what was found on it."""
import argparse
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

# Other systems' OpenMP threads would spin for milliseconds after their step and hold the cores that the next contender
# needs. Their runtimes read this once, when they are loaded, so `bench` sets it before anything else; fastopt itself
# does not use OpenMP.
PASSIVE = {"OMP_WAIT_POLICY": "passive", "JAX_PLATFORMS": "cpu"}


def _choices(name: str, allowed: Sequence[str], none: bool = False):
    def parse(value: str) -> list[str]:
        if none and value == "none":
            return []
        words = [w for w in value.lower().replace("-", "_").split(",") if w]
        if not words:
            raise argparse.ArgumentTypeError(f"no {name} was found, but one of {', '.join(allowed)} is needed")
        for w in words:
            if w not in allowed:
                raise argparse.ArgumentTypeError(f"{name} {w!r} was found, but one of {', '.join(allowed)} is needed")
        return words
    return parse


def _whole(value: str) -> int:
    try:
        number = float(value)
    except ValueError:
        number = 0.0
    if not (1 <= number < float("inf") and number.is_integer()):
        raise argparse.ArgumentTypeError(f"{value!r} was found, but a whole number, 1 or more, is needed")
    return int(number)


def parser() -> argparse.ArgumentParser:
    from .._formats.catalogue import FORMATS
    from ..optimizers import ALL
    from . import cpu as bench
    from . import cuda as bench_cuda
    top = argparse.ArgumentParser(prog="fastopt", description="Fused optimizer updates at memory speed.")
    commands = top.add_subparsers(dest="command", required=True)
    cpu, gpu = bench.RIVALS, bench_cuda.RIVALS
    b = commands.add_parser("bench", help="time steps on one long vector",
                            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
                            description="Time steps on one long vector, beside this machine's ceiling (a kernel that "
                                        "only moves the same "
                                        "bytes) and other ways to take the same step; all take turns in one process.")
    b.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="cuda: the first device that is visible")
    b.add_argument("--n", type=_whole, default=10_000_000, help="elements; 1e6 is understood")
    b.add_argument("--rules", type=_choices("rule", list(ALL)), default=",".join(bench.DEFAULT_RULES), metavar="A,B",
                   help=", ".join(ALL))
    b.add_argument("--against", type=_choices("rival", [*cpu, *(name for name in gpu if name not in cpu)], none=True),
                   default=argparse.SUPPRESS, metavar="A,B",
                   help=f"none, or some of {', '.join(cpu)} (default: {','.join(bench.DEFAULT_RIVALS)}), with --device "
                        f"cuda of "
                        f"{', '.join(gpu)} (default: all); those that are not installed are left out")
    b.add_argument("--threads", type=_whole, default=None, help="for all contenders on the CPU; all that the process "
                                                                "may use if left out")
    b.add_argument("--format", choices=list(FORMATS), default="f32",
                   help="storage of parameter and gradient; the state is float32 (f64: float64)")
    b.add_argument("--seconds", type=float, default=3.0, help="to spend on each rule")
    b.add_argument("--json", nargs="?", const="-", metavar="FILE", help="write the figures as JSON, to standard output "
                                                                        "without FILE")
    b.add_argument("--compare", metavar="FILE", help="show them beside those that an earlier --json FILE kept; exit "
                                                     "status 1: slower")
    b.add_argument("--plot", metavar="FILE", help="draw the figures (needs matplotlib: the extra `examples`)")
    i = commands.add_parser("info", help="versions, processor, threads, cache")
    i.add_argument("--json", action="store_true", help="as JSON")
    return top


def _bench(given: argparse.Namespace) -> int:
    for name, value in PASSIVE.items():
        os.environ.setdefault(name, value)
    from . import compare as bench_compare
    from . import cpu as bench
    from . import cuda as bench_cuda
    from . import info
    machine: Any = bench_cuda if given.device == "cuda" else bench
    given.against = getattr(given, "against", machine.DEFAULT_RIVALS)
    for name in given.against:
        if name not in machine.RIVALS:
            raise OSError(f"rival {name!r} was found, but with --device {given.device} one of "
                          f"{', '.join(machine.RIVALS)} is needed")
    if given.threads and given.device == "cuda":
        raise OSError("--threads was found, but a step on a CUDA device has no threads to choose. Leave it out, or "
                      "take --device cpu.")
    how = {} if given.device == "cuda" else {"threads": given.threads}
    machine.check_memory(given.n, given.against, given.format)
    if given.plot:
        bench.check_picture(given.plot)  # now, not after the measurement
    kept = _kept(given) if given.compare else None
    results, quiet = [], given.json == "-"
    for rule in given.rules:
        if not quiet and sys.stderr.isatty():
            print(f"{rule} ...", file=sys.stderr)
        results.append(machine.measure(rule, given.n, given.against, format=given.format, seconds=given.seconds, **how))
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
        bench.plot(results, given.plot)
    if not quiet:
        _print(results, given)
    if kept is None:
        return 0
    print(f"\n{bench.text(bench_compare.rows(kept, results))}\n{bench_compare.other_machine(kept, info.collect())}",
          file=sys.stderr if quiet else sys.stdout)
    return int(any((then := bench_compare.matched(kept, r)) and bench_compare.slower(then, r) for r in results))


def _kept(given: argparse.Namespace) -> dict[str, Any]:
    """The earlier figures, checked before anything is measured."""
    from .._cpu import pool
    from .._cuda import driver
    from . import compare as bench_compare
    from . import cuda as bench_cuda
    kept = bench_compare.read(given.compare)
    where = ({"device": driver.name(bench_cuda.device().device)} if given.device == "cuda" else
             {"threads": given.threads or pool.available_threads()})
    wanted = [{"rule": rule, "n": given.n, "format": given.format, **where} for rule in given.rules]
    bench_compare.check(kept, wanted, given.compare)
    return kept


def _print(results: list[dict], given: argparse.Namespace) -> None:
    from . import cpu as bench
    first = results[0]
    shown = [name for name in given.against if any(name in r["times_faster"] for r in results)]
    turns = min(r["turns"] for r in results)
    print(f"{first['n']:,} elements, {first['format']}, {bench.place(first)}, medians of {turns} turns or more\n")
    print(bench.text(bench.table(results, shown)))
    print("\nstep: median time of a step. GB/s: bytes that the step must read and write. of ceiling: the time of a "
          "kernel that only moves\n"
          "these bytes, over the step's. x ...: how many times longer the same step takes there.")
    if given.device == "cuda":
        print("On the device: the L2 cache is empty before each step, and the ceiling is a copy. host: time until "
              "opt.step returns.")
    for name in given.against:
        if name not in shown:
            print(f"{name}: not measured ({first['missing'].get(name, 'no such optimizer')})")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its exit status. 2: the arguments do not fit."""
    given = parser().parse_args(arguments)
    if given.command == "info":
        from . import info
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
