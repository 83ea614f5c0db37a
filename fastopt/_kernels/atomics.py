"""Words that threads share, calls by address, and a thread's floating-point mode: what the pool needs beyond ordinary code."""
import platform

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .memory import I64, WORD, word_pointer


@intrinsic
def exchange(typing, address, k, expected, new):
    """Set word k from `expected` to `new`: whether it was `expected`."""
    def emit(context, builder, signature, args):
        result = builder.cmpxchg(word_pointer(builder, args[0], args[1]), args[2], args[3], "seq_cst", "seq_cst")
        return builder.extract_value(result, 1)
    return types.boolean(types.int64, types.int64, types.int64, types.int64), emit


@intrinsic
def add(typing, address, k, amount):
    """Add to word k, atomically."""
    def emit(context, builder, signature, args):
        return builder.atomic_rmw("add", word_pointer(builder, args[0], args[1]), args[2], "seq_cst")
    return types.int64(types.int64, types.int64, types.int64), emit


@intrinsic
def read(typing, address, k):
    """Word k as it is now in memory."""
    def emit(context, builder, signature, args):
        return builder.load_atomic(word_pointer(builder, args[0], args[1]), "seq_cst", WORD)
    return types.int64(types.int64, types.int64), emit


@intrinsic
def write(typing, address, k, value):
    """Set word k, visible to all threads before anything that follows."""
    def emit(context, builder, signature, args):
        builder.store_atomic(args[2], word_pointer(builder, args[0], args[1]), "seq_cst", WORD)
        return context.get_dummy_value()
    return types.void(types.int64, types.int64, types.int64), emit


@intrinsic
def call(typing, function, job):
    """Call a kernel by its address."""
    def emit(context, builder, signature, args):
        kind = ir.FunctionType(ir.VoidType(), [I64])
        builder.call(builder.inttoptr(args[0], kind.as_pointer()), [args[1]])
        return context.get_dummy_value()
    return types.void(types.int64, types.int64), emit


X86, ARM = ("x86_64", "amd64", "i686"), ("aarch64", "arm64")


@intrinsic
def pause(typing):
    """Tell the core that this thread is waiting: a hardware thread beside it gets the core's units."""
    def emit(context, builder, signature, args):
        machine = platform.machine().lower()
        if machine in X86:
            builder.call(cgutils.get_or_insert_function(builder.module, ir.FunctionType(ir.VoidType(), []),
                                                        "llvm.x86.sse2.pause"), [])
        elif machine in ARM:
            hint = ir.FunctionType(ir.VoidType(), [ir.IntType(32)])
            builder.call(cgutils.get_or_insert_function(builder.module, hint, "llvm.aarch64.hint"),
                         [ir.Constant(ir.IntType(32), 1)])
        return context.get_dummy_value()
    return types.void(), emit


def _mxcsr(builder, name, word):
    """Store the floating-point mode of an x86 processor to `word`, or load it from there."""
    kind = ir.FunctionType(ir.VoidType(), [ir.IntType(8).as_pointer()])
    builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.x86.sse.{name}"),
                 [builder.bitcast(word, ir.IntType(8).as_pointer())])


@intrinsic
def mode(typing):
    """How this thread rounds, and what it does with subnormal numbers: the processor's own word; 0 where it is not known how to ask."""
    def emit(context, builder, signature, args):
        machine = platform.machine().lower()
        if machine in X86:
            word = cgutils.alloca_once(builder, ir.IntType(32))
            _mxcsr(builder, "stmxcsr", word)
            return builder.zext(builder.load(word), I64)
        if machine in ARM:
            return builder.call(cgutils.get_or_insert_function(builder.module, ir.FunctionType(I64, []),
                                                               "llvm.aarch64.get.fpcr"), [])
        return ir.Constant(I64, 0)
    return types.int64(), emit


@intrinsic
def set_mode(typing, word):
    """Set what `mode` tells. Nothing happens where it is not known how."""
    def emit(context, builder, signature, args):
        machine = platform.machine().lower()
        if machine in X86:
            word = cgutils.alloca_once(builder, ir.IntType(32))
            builder.store(builder.trunc(args[0], ir.IntType(32)), word)
            _mxcsr(builder, "ldmxcsr", word)
        elif machine in ARM:
            kind = ir.FunctionType(ir.VoidType(), [I64])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.aarch64.set.fpcr"), [args[0]])
        return context.get_dummy_value()
    return types.void(types.int64), emit


# Rounding to nearest, subnormal numbers kept, no exception traps: of x86, where bits 7 to 12 mask exceptions, and of
# ARM
DEFAULT_MODE = 0x1F80 if platform.machine().lower() in X86 else 0


@intrinsic
def call_driver(typing, launcher, function, blocks, threads, stream, parameters):
    """Launch a kernel by the address of cuLaunchKernel, in one dimension: the driver's error, or 0."""
    word, whole = I64, ir.IntType(32)

    def emit(context, builder, signature, args):
        kind = ir.FunctionType(whole, [word, *[whole]*7, word, word, word])
        one, none = ir.Constant(whole, 1), ir.Constant(word, 0)
        blocks, threads = (builder.trunc(x, whole) for x in args[2:4])
        error = builder.call(builder.inttoptr(args[0], kind.as_pointer()),
                             [args[1], blocks, one, one, threads, one, one, ir.Constant(whole, 0), args[4], args[5],
                              none])
        return builder.zext(error, word)
    return types.int64(*[types.int64]*6), emit
