"""The benchmark behind ``fastopt bench --device cuda``: steps on one long vector, beside a copy and other libraries.

Everybody works on the default stream. A sample is one step between two events, and contenders take turns as on the CPU.
A memset of twice the L2 cache empties that cache before each sample. The memset is repeated until it takes longer than
the host needs to enqueue the step: so the device does not wait for the host within a sample. What the host needs is a
figure of its own. The memset leaves lines in the cache that must be written back, which all contenders and the copy pay
alike: absolute times of small vectors are upper bounds.
"""
import gc
from collections.abc import Callable, Sequence
from statistics import median
from time import perf_counter
from typing import Any

from .._cuda import code, driver
from .._tensors.device_array import DeviceArray
from . import cpu, rivals_cuda
from .cpu import CEILING, OURS, Step
from .rivals_cuda import RIVALS

DEFAULT_RIVALS = list(RIVALS)
EMPTIED = 2                           # memory that is set between samples, in sizes of the L2 cache
COVER = 2                             # the memset takes so many times what the host needs for a step
CALLS, BATCHES, ENOUGH = 20, 25, 0.3  # steps in the stream at a time; batches of them; seconds after which 5 will do
STREAM = 0                            # of our steps, and what other libraries use unless told otherwise
FILL = 0x3F9D70A4                     # neither all zeros nor all ones: 1.23 in float32


def device() -> driver.Gpu:
    """The first device; ImportError or OSError that says what is missing."""
    code.versions()
    try:
        return driver.gpu(0)
    except driver.CudaError as error:
        raise OSError(str(error)) from None


class Stopwatch:
    """Seconds that the device takes, by two events; before them the L2 cache is emptied."""

    def __init__(self, gpu: driver.Gpu):
        self.memory = gpu.allocate(int(EMPTIED*driver.attribute("DEVICE_ATTRIBUTE_L2_CACHE_SIZE", gpu.device)))
        self.start, self.end = (driver.do("cuEventCreate", 0) for _ in range(2))
        self.flush()
        self.flush_seconds = median(self.seconds(self.flush, 0) for _ in range(5))

    def flush(self) -> None:
        driver.do("cuMemsetD32Async", self.memory.address, FILL, self.memory.size//4, STREAM)

    def seconds(self, step: Step, flushes: int) -> float:
        for _ in range(flushes):
            self.flush()
        driver.do("cuEventRecord", self.start, STREAM)
        step()
        driver.do("cuEventRecord", self.end, STREAM)
        driver.do("cuEventSynchronize", self.end)
        return driver.do("cuEventElapsedTime", self.start, self.end)/1e3

    def close(self) -> None:
        for event in (self.start, self.end):
            driver.do("cuEventDestroy", event)


def host_seconds(step: Step) -> float:
    """Seconds of the host for a step that it enqueues: the median over batches, each of which finds the device idle."""
    found: list[float] = []
    end = perf_counter() + ENOUGH
    while len(found) < 5 or (len(found) < BATCHES and perf_counter() < end):
        driver.do("cuCtxSynchronize")
        start = perf_counter()
        for _ in range(CALLS):
            step()
        found.append((perf_counter() - start)/CALLS)
    driver.do("cuCtxSynchronize")
    return median(found)


class Timed:
    """A contender's step, and how it is timed."""

    def __init__(self, step: Step, watch: Stopwatch):
        self.step, self.watch = step, watch
        step()  # compiled and loaded now
        self.host = host_seconds(step)
        self.flushes = 1 + int(COVER*self.host/watch.flush_seconds)

    def __call__(self) -> None:
        self.step()

    def turn(self, calls: int) -> float:
        """Seconds of one step, however many calls would fit into a turn: the cache is emptied before each."""
        return self.watch.seconds(self.step, self.flushes)


def copier(gpu: driver.Gpu, moved: int, pattern: DeviceArray) -> Callable[[], Any]:
    """The ceiling: a copy on the device that reads half of these bytes and writes the other half."""
    half = moved//2
    source, target = gpu.allocate(half), gpu.allocate(half)
    for k in range(0, half, pattern.nbytes):  # not zeros, which may move faster
        driver.do("cuMemcpyDtoD", source.address + k, pattern.address, min(pattern.nbytes, half - k))
    return lambda: driver.do("cuMemcpyDtoDAsync", target.address, source.address, half, STREAM)


def contenders(gpu: driver.Gpu, rule: str, sizes: Sequence[int], against: Sequence[str], format: str,
               state: Any = None) -> tuple[dict[str, Step], dict[str, str], int]:
    """{name: what enqueues a step of tensors of these sizes}, {name: why it is missing}, the bytes that it moves."""
    vectors = [cpu.vectors(n, format, k) for k, n in enumerate(sizes)]
    params, grads = ([DeviceArray(m.address, x.shape, x.dtype, device=gpu.ordinal, owner=m)
                      for x in xs for m in [driver.uploaded(gpu, x)]] for xs in zip(*vectors, strict=True))
    opt = cpu.of(rule)(params, state=state, **cpu.of(rule).rule.steady)
    moved = sum(2*a.nbytes for of in (params, *opt.state.values()) for a in of) + sum(g.nbytes for g in grads)
    # whatever goes wrong with another library is told beside the figures, not instead of them
    others, missing = cpu.checked(rule, vectors, against, 1, format, RIVALS, (Exception,))
    return {CEILING: copier(gpu, moved, params[0]), OURS: lambda: opt.step(grads), **others}, missing, moved


def measure(rule: str, n: int | Sequence[int], against: Sequence[str] = (), format: str = "f32", seconds: float = 4.0,
            state: Any = None) -> dict:
    """Time the steps of one rule on the first CUDA device.

    Parameters and figures are those of `cpu.measure`, with ``device``, its name, in place of ``threads``. ``n`` may be
    the sizes of several tensors, ``against`` names keys of `RIVALS`, ``state`` the storage of the state. ``ceiling`` is
    a copy on the device that moves as many bytes. ``host_seconds`` is {name: what the host takes to enqueue a step}.
    """
    sizes = [n] if isinstance(n, int) else n
    gc.collect()  # arrays of the rule before, whose memory this one may need
    gpu = device()
    with gpu.current():
        watch = Stopwatch(gpu)
        try:
            steps, missing, moved = contenders(gpu, rule, sizes, against, format, state)
            timed = {name: Timed(step, watch) for name, step in steps.items()}
            turns = cpu.in_turn(timed, seconds, Timed.turn)
            host = {name: t.host for name, t in timed.items() if name != CEILING}
        finally:
            steps, timed = {}, {}
            gc.collect()
            watch.close()
            rivals_cuda.release()
    return {"rule": rule, "n": sum(sizes), "format": format, "device": driver.name(gpu.device),
            **cpu.figures(turns, sum(sizes), moved, against), "host_seconds": host, "missing": missing}


def memory_needed(n: int, against: Sequence[str], format: str) -> int:
    """An upper estimate of the bytes on the device that the contenders of one rule hold at a time."""
    return (8 if format == "f64" else 4)*n*(14 + 8*len(against))


def check_memory(n: int, against: Sequence[str], format: str) -> None:
    """OSError where the contenders do not fit into the device's memory, or their vectors into the host's."""
    gpu = device()
    with gpu.current():
        free, _ = driver.do("cuMemGetInfo")
    cpu.check_free(n, memory_needed(n, against, format), free, f"are free on {driver.name(gpu.device)}")
    cpu.check_free(n, cpu.memory_needed(n, ()), cpu.memory_available(), "of the host's memory are free")
