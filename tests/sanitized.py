"""A program for compute-sanitizer: steps of every rule and format, on the smallest arrays that take every path.

    compute-sanitizer --tool memcheck --error-exitcode 1 python3 tests/sanitized.py

Also for racecheck and initcheck. It needs no other library, and exits with 1 where a bit is not that of the CPU.
`sanitized.py 8` spreads the cases over 8 processes, which compile at the same time.
"""
import signal
import sys
from multiprocessing import get_context

import numpy as np
from hardware import Placed, missing

import fastopt
from fastopt._formats.catalogue import FORMATS
from fastopt._tensors.device_array import DeviceArray
from fastopt.optimizers import ALL

SIZES = (1, 3, 1_025, 10_007)
HOWS = ({}, {"clip_norm": 0.5, "skip_nonfinite": True}, {"clip_value": 0.1, "grad_factor": -0.5})


def numbers(seed, n, format):
    of, x = FORMATS[format], np.random.default_rng(seed).normal(size=n).astype(np.float32)
    return of.encode(x).view(of.dtype) if format == "bf16" else x.astype(of.dtype)


def steps(name, format):
    """How many arrays are wrong after steps with dense gradients, one of which is skipped, and with a strided one."""
    host = [numbers(n, n, format) for n in SIZES]
    device = [Placed(p, skip=k) for k, p in enumerate(host)]
    here, there = ALL[name](host, lr=0.05), ALL[name]([placed.array for placed in device], lr=0.05)
    for t, how in enumerate((*HOWS, HOWS[1])):
        grads = [numbers(100*t + n, n, format) for n in SIZES]
        if t == len(HOWS):
            grads[-1][-1] = 0x7FC0 if format == "bf16" else np.nan
        given = [Placed(g, skip=2*k) for k, g in enumerate(grads)]
        here.step(grads, **how)
        there.step([placed.array for placed in given], **how)
        if name == "nesterov":
            there.lookahead()
        there.state_dict()  # waits: the gradients go
    p, g = numbers(1, 31*33, format).reshape(31, 33), numbers(2, 31*33, format).reshape(31, 33)
    placed, turned = Placed(p), Placed(g.T.copy())
    strided = DeviceArray(turned.array.address, g.shape, g.dtype, (g.itemsize, 31*g.itemsize), owner=turned)
    one, other = ALL[name](p, lr=0.05), ALL[name](placed.array, lr=0.05)
    one.step(g, clip_norm=1.0)
    other.step(strided, clip_norm=1.0)
    pairs = [(placed.read(), p), *((x.read(), y) for x, y in zip(device, host, strict=True))]
    for a, b in ((here, there), (one, other)):
        want, have = a.state_dict()["state"], b.state_dict()["state"]
        pairs += [(y, x) for name in want for x, y in zip(want[name], have[name], strict=True)]
    return sum(have.tobytes() != want.tobytes() for have, want in pairs) + (there.t != 3)


def wrong(case):
    """A case and how many of its arrays are wrong, or the error that it raises."""
    try:
        with np.errstate(all="ignore"):
            return case, steps(*case)
    except Exception as error:
        return case, repr(error)


def main():
    if reason := missing():
        print(f"sanitized: {reason}", file=sys.stderr)
        return 2
    cases = [*((name, "f32") for name in ALL), *(("adam", format) for format in ("f64", "f16", "bf16"))]
    processes = int(sys.argv[1]) if sys.argv[1:] else 1
    if processes == 1:
        return told(cases, map(wrong, cases))
    with get_context("spawn").Pool(processes, signal.signal, (signal.SIGINT, signal.SIG_IGN)) as pool:
        return told(cases, pool.imap_unordered(wrong, cases))


def told(cases, results):
    """Print what was found, as it comes, and what of it was not looked at; the exit status."""
    counts = {}
    try:
        for (name, format), count in results:
            counts[name, format] = count
            print(f"sanitized: {name}, {format}: arrays that differ from the CPU's: {count}", flush=True)
    except KeyboardInterrupt:
        print("sanitized: interrupted")
    bad = [case for case in cases if counts.get(case)]
    print(f"sanitized: fastopt {fastopt.__version__}, of {len(cases)} rules and formats {len(cases) - len(counts)} not "
          f"run, {len(bad)} wrong {bad or ''}")
    return 0 if len(counts) == len(cases) and not bad else 1


if __name__ == "__main__":
    sys.exit(main())
