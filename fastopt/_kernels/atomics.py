"""Words that threads share, calls by address, a thread's floating-point mode: what the pool needs."""
import platform

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import register_jitable

from .llvm import I8, I32, I64, call_llvm, code, i32, i64, pointer
from .memory import INT, JOB, word

ROOM = 8                        # words of a cache line: what two threads write lies in two
BITS, LOW_HALF = 32, 2**32 - 1  # two numbers in a word

X86, ARM = (platform.machine().lower() in names for names in (("x86_64", "amd64", "i686"), ("aarch64", "arm64")))


@code(types.boolean, INT, INT, INT, INT)
def exchange(context, builder, address, k, expected, new):
    """Set word k from `expected` to `new`: whether it was `expected`."""
    result = builder.cmpxchg(pointer(builder, address, I64, k), expected, new, "seq_cst", "seq_cst")
    return builder.extract_value(result, 1)


@code(INT, INT, INT, INT)
def add(context, builder, address, k, amount):
    """Add to word k, atomically: what it was."""
    return builder.atomic_rmw("add", pointer(builder, address, I64, k), amount, "seq_cst")


@code(INT, INT, INT)
def read(context, builder, address, k):
    """Word k as it is now in memory."""
    return builder.load_atomic(pointer(builder, address, I64, k), "seq_cst", 8)


@code(types.void, INT, INT, INT)
def write(context, builder, address, k, value):
    """Set word k, visible to all threads before anything that follows."""
    builder.store_atomic(value, pointer(builder, address, I64, k), "seq_cst", 8)


@code(types.void, INT, INT, INT)
def call(context, builder, function, job, thread):
    """Call a kernel by its address."""
    builder.call(builder.inttoptr(function, ir.FunctionType(ir.VoidType(), [I64, I64]).as_pointer()), [job, thread])


@code(types.void, INT, INT)
def nap(context, builder, usleep, microseconds):
    """Call libc's usleep by its address."""
    kind = ir.FunctionType(I32, [I32])
    builder.call(builder.inttoptr(usleep, kind.as_pointer()), [builder.trunc(microseconds, I32)])


@register_jitable
def take(job, thread):
    """The next tiles for a thread, first*2**32 + end; 0: none is left. They are the first of its own share, or, when
    that is done, the last of another's: so a thread has the same tiles step after step, and a slow one gets help."""
    members, batch, shares, of = word(job, JOB.members), word(job, JOB.batch), word(job, JOB.shares), thread
    for _ in range(members):
        held = read(shares, ROOM*of)
        first, end = held >> BITS, held & LOW_HALF
        while first < end:
            count = min(batch, end - first)
            mine, rest = (first << BITS) + first + count, ((first + count) << BITS) + end
            if of != thread:
                mine, rest = ((end - count) << BITS) + end, (first << BITS) + end - count
            if exchange(shares, ROOM*of, held, rest):
                return mine
            held = read(shares, ROOM*of)
            first, end = held >> BITS, held & LOW_HALF
        of = of + 1 if of + 1 < members else 0
    return 0


@code(types.void)
def pause(context, builder):
    """Tell the core that this thread is waiting: a hardware thread beside it gets the core's units."""
    if X86:
        call_llvm(builder, "llvm.x86.sse2.pause", ir.VoidType())
    elif ARM:
        call_llvm(builder, "llvm.aarch64.hint", ir.VoidType(), i32(1))


def _mxcsr(builder, name, word):
    """Store the floating-point mode of an x86 processor to `word`, or load it from there."""
    call_llvm(builder, f"llvm.x86.sse.{name}", ir.VoidType(), builder.bitcast(word, I8.as_pointer()))


@code(INT)
def mode(context, builder):
    """How this thread rounds and treats subnormal numbers: the processor's own word; 0 where none is known."""
    if X86:
        word = cgutils.alloca_once(builder, I32)
        _mxcsr(builder, "stmxcsr", word)
        return builder.zext(builder.load(word), I64)
    return call_llvm(builder, "llvm.aarch64.get.fpcr", I64) if ARM else i64(0)


@code(types.void, INT)
def set_mode(context, builder, mode):
    """Set what `mode` tells. Nothing happens where no such word is known."""
    if X86:
        word = cgutils.alloca_once(builder, I32)
        builder.store(builder.trunc(mode, I32), word)
        _mxcsr(builder, "ldmxcsr", word)
    elif ARM:
        call_llvm(builder, "llvm.aarch64.set.fpcr", ir.VoidType(), mode)


# Rounding to nearest, subnormal numbers kept, no exception traps: of x86 (bits 7 to 12 mask exceptions), and of ARM
DEFAULT_MODE = 0x1F80 if X86 else 0


@code(INT, *[INT]*6)
def call_driver(context, builder, launcher, function, blocks, threads, stream, parameters):
    """Launch a kernel by the address of cuLaunchKernel, in one dimension: the driver's error, or 0."""
    kind = ir.FunctionType(I32, [I64, *[I32]*7, I64, I64, I64])
    one, blocks, threads = i32(1), builder.trunc(blocks, I32), builder.trunc(threads, I32)
    error = builder.call(builder.inttoptr(launcher, kind.as_pointer()),
                         [function, blocks, one, one, threads, one, one, i32(0), stream, parameters, i64(0)])
    return builder.zext(error, I64)
