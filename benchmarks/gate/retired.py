"""Instructions that a call retires, exactly: ``python -m benchmarks.gate.retired FOLDER STEPS`` counts those of steps.

By a hardware counter where the processor lends one; else a forked child is single-stepped by ptrace, at 15,000
instructions per second on a virtual machine and faster elsewhere. Both count what runs in user mode. Addresses are not
randomised and hashes have a fixed seed, so that a step's count differs by less than 0.5 % from process to process; the
first calls, in which Python specialises its bytecode, are not counted. Single steps end at three times what another
version retires.
"""
import ctypes
import gc
import json
import math
import os
import platform
import signal
import struct
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from time import perf_counter
from types import MappingProxyType

from ..steps import Step, arrays
from .versions import ALONE, load, worker

LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
SYSCALLS = {"x86_64": 298, "aarch64": 241}  # perf_event_open
HARDWARE, INSTRUCTIONS = 0, 1               # PERF_TYPE_HARDWARE, PERF_COUNT_HW_INSTRUCTIONS
ENABLE, DISABLE = 0x2400, 0x2401            # ioctl requests of a counter
DISABLED, USER_ONLY = 1, 0b1100000          # bits of its attributes: starts stopped, leaves out kernel and hypervisor
TRACEME, SINGLESTEP = 0, 9                  # ptrace requests
DIE_WITH_PARENT = 1                         # of prctl: a signal when the parent ends
NO_RANDOMIZE, ASK = 0x0040000, 0xFFFFFFFF   # personality: addresses are the same in every process; what it is
WARM = 30                                   # calls before the one that is counted
PATIENCE = 5                                # seconds after which fewer of them will do
STOP = 3                                    # times the base's count: where counting ends, as single steps are slow
FEW, MANY = 8, 8 + 8_192                    # elements whose counts give those of a call, and of an element


def counter(kind: int = HARDWARE, what: int = INSTRUCTIONS) -> int | None:
    """The file descriptor of a counter of this thread, or None where there is none."""
    number = SYSCALLS.get(platform.machine())
    if LIBC is None or number is None:
        return None
    attributes = struct.pack("=IIQQQQQ", kind, 112, what, 0, 0, 0, DISABLED | USER_ONLY).ljust(112, b"\0")
    found = LIBC.syscall(ctypes.c_long(number), attributes, 0, -1, -1, 0)
    return found if found >= 0 else None


def counted(run: Callable[[], object], file: int) -> int:
    """What a counter says of one call."""
    import fcntl
    before = int.from_bytes(os.read(file, 8), sys.byteorder)
    fcntl.ioctl(file, ENABLE, 0)
    run()
    fcntl.ioctl(file, DISABLE, 0)
    return int.from_bytes(os.read(file, 8), sys.byteorder) - before


def _child(run: Callable[[], object]) -> None:
    LIBC.prctl(DIE_WITH_PARENT, signal.SIGKILL)
    gc.disable()
    run()  # a fork gives the pool anew: not part of the count
    run()
    me, kill = os.getpid(), os.kill
    if LIBC.ptrace(TRACEME, 0, None, None):
        os._exit(1)
    kill(me, signal.SIGSTOP)
    run()
    kill(me, signal.SIGUSR1)


def stepped(run: Callable[[], object], most: float = math.inf) -> int | None:
    """Single steps of a child's call, `most` of them, or None where the system forbids to trace one."""
    child = os.fork()
    if child == 0:
        try:
            _child(run)
        finally:
            os._exit(1)
    LIBC.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    step, wait, count = LIBC.ptrace, os.waitpid, 0
    while True:
        status = wait(child, 0)[1]
        if not os.WIFSTOPPED(status):
            return None
        if os.WSTOPSIG(status) == signal.SIGUSR1 or count >= most:
            break
        count += os.WSTOPSIG(status) == signal.SIGTRAP
        step(SINGLESTEP, child, None, None)
    os.kill(child, signal.SIGKILL)
    wait(child, 0)
    return count


@lru_cache(maxsize=1)
def method() -> str | None:
    """How instructions are counted here: "counter", "single steps", or None."""
    if (file := counter()) is not None:
        works = counted(lambda: sum(range(1_000)), file) > 0  # some virtual machines lend one that stands still
        os.close(file)
        if works:
            return "counter"
    return "single steps" if LIBC is not None and hasattr(os, "fork") and stepped(lambda: None) else None


def retired(run: Callable[[], object], most: float = math.inf) -> int:
    """Instructions of one call, beyond those of an empty one; single steps end at `most`."""
    end = perf_counter() + PATIENCE
    for _ in range(WARM):
        run()
        if perf_counter() > end:
            break
    if method() == "single steps":
        empty = stepped(lambda: None)
        return stepped(run, most + empty) - empty
    file = counter()
    try:
        return min(counted(run, file) for _ in range(WARM)) - min(counted(lambda: None, file) for _ in range(WARM))
    finally:
        os.close(file)


def figures(folder: str, step: Step, base: Mapping[str, float]) -> dict[str, float]:
    """Instructions of a call and of an element: a step on a few elements, and what more elements add to it. What `base`
    says of another version ends the count at `STOP` times as many."""
    package, most = sys.modules.get(ALONE) or load(folder, ALONE), STOP*base.get("call", math.inf)
    call = retired(step.of(package, *arrays(step.shapes, step.format)), most)
    if step.tensors != FEW or call >= most:
        return {"call": call}
    most = call + STOP*base.get("element", math.inf)*(MANY - FEW)
    more = retired(step._replace(tensors=MANY).of(package, *arrays([(MANY,)], step.format)), most)
    return {"call": call, "element": round((more - call)/(MANY - FEW), 3)}


def table(folder: Path, steps: Sequence[Step], cache: Path,
          base: Mapping[Step, Mapping[str, float]] = MappingProxyType({})) -> dict[Step, dict[str, float]]:
    """The figures of some steps, from one fresh process; empty where nothing can be counted. `base`: another version's,
    which says where counting ends."""
    asked = json.dumps([(step, base.get(step, {})) for step in steps])
    return {Step(*step): found for step, found in worker("gate.retired", str(folder), asked, cache=cache/ALONE)}


def fix_addresses() -> None:
    """Start this program again where addresses are random; where the system forbids to change that, they stay so."""
    if LIBC is not None and not LIBC.personality(ASK) & NO_RANDOMIZE and LIBC.personality(NO_RANDOMIZE) != -1:
        os.execv(sys.executable, sys.orig_argv)


def main(folder: str, steps: str) -> None:
    fix_addresses()
    asked = [(Step(*step), base) for step, base in json.loads(steps)]
    print(json.dumps([(step, figures(folder, step, base)) for step, base in asked] if method() else []))


if __name__ == "__main__":
    main(*sys.argv[1:])
