"""`.ci/gpu` without a device: on the stand-in for the driver.

    START="import dry_gpu" PYTHONPATH=$PWD/tests OUT=/tmp/dry bash .ci/gpu

It shows that every command of the script runs. Bits are those of the interpreter of PTX. Times mean nothing: benchmarks
take a thousand elements, and launches do nothing there. nvidia-smi, compute-sanitizer and ncu have no stand-in.
"""
import functools

import devices
import hardware

from fastopt.bench import cuda

MOST = 1_000  # elements of a tensor
stand_in = devices.load()
measure = cuda.measure


@functools.wraps(measure)
def small(rule, n, *arguments, **how):
    """`cuda.measure` of few elements, while kernels do nothing."""
    stand_in.skip_kernels()
    try:
        return measure(rule, [min(size, MOST) for size in ([n] if isinstance(n, int) else n)], *arguments, **how)
    finally:
        stand_in.skip_kernels(False)


hardware.missing = lambda: None  # why there is no device
cuda.measure, cuda.CALLS, cuda.EMPTIED = small, 2, 1/100
