"""What all code generation needs: LLVM's types and addresses, calls of functions, intrinsics."""
import inspect
from contextlib import contextmanager

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.targetconfig import ConfigStack
from numba.extending import intrinsic

I1, I8, I16, I32, I64 = map(ir.IntType, (1, 8, 16, 32, 64))
FLOAT, DOUBLE = ir.FloatType(), ir.DoubleType()
GLOBAL = 1  # the address space of a CUDA device's memory


def i32(x):
    return ir.Constant(I32, x)


def i64(x):
    return ir.Constant(I64, x)


def code(result, *kinds):
    """Make an intrinsic that takes and gives these types of Numba, out of ``emit(context, builder, *arguments)``."""
    def decorate(emit):
        def called(typing, *given):
            def lower(context, builder, signature, arguments):
                value = emit(context, builder, *arguments)
                if isinstance(value, list):
                    return context.make_tuple(builder, result, value)
                return context.get_dummy_value() if value is None else value
            return result(*kinds), lower

        called.__name__, called.__doc__ = emit.__name__, emit.__doc__
        parameters = list(inspect.signature(emit).parameters.values())
        called.__signature__ = inspect.Signature(parameters[1:])  # Numba drops the first, which is `typing` to it
        return intrinsic(called)
    return decorate


def on_device(builder):
    """Whether this is code for a CUDA device, whose memory is an address space of its own."""
    return builder.module.triple.startswith("nvptx")


def call(context, builder, function, signature, args):
    """Call a function of scalars inline. `compile_internal` would branch at divisions, and LLVM make no vectors."""
    flags = type(ConfigStack().top())()
    flags.error_model = "numpy"
    compiled = context.compile_subroutine(builder, function, signature, flags=flags)
    return context.call_internal(builder, compiled.fndesc, signature, args)


def call_llvm(builder, name, result, *args):
    """Call one of LLVM's own functions by its name."""
    kind = ir.FunctionType(result, [x.type for x in args])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), args)


class _Distinct(ir.values.MDValue):
    """Metadata that is equal to no other, and may name itself."""

    def __init__(self, module):
        super().__init__(module, (), name=str(len(module.metadata)))

    def descr(self, buf):
        buf += (f"distinct !{{{', '.join(x.get_reference() for x in self.operands)}}}", "\n")

    def __eq__(self, other):
        return self is other

    def __hash__(self):
        return id(self)


@contextmanager
def independent(builder, first, end, lanes=None, carried=None):
    """Emit a loop over i whose trips touch no memory of each other: LLVM compares no addresses for its vectors.

    `lanes`: of a vector; None: as many as the widest type in the loop allows. `carried`: values before the first trip.
    With i then comes a list of them in a trip, into which the loop's body puts those of the next.
    """
    module, function, before = builder.module, builder.function, builder.block
    head, body, behind = (builder.append_basic_block(name) for name in ("head", "body", "behind"))
    builder.branch(head)
    builder.position_at_end(head)
    i = builder.phi(I64)
    i.add_incoming(first, before)
    held = [builder.phi(value.type) for value in carried or ()]
    builder.cbranch(builder.icmp_signed("<", i, end), body, behind)
    builder.position_at_end(body)
    values = list(held)
    yield i if carried is None else (i, values)
    i.add_incoming(builder.add(i, i64(1), flags=("nsw",)), builder.block)
    for phi, value, after in zip(held, carried or (), values, strict=True):
        phi.add_incoming(value, before)
        phi.add_incoming(after, builder.block)
    group, loop = _Distinct(module), _Distinct(module)
    wishes = [["llvm.loop.parallel_accesses", group], *([["llvm.loop.vectorize.width", i32(lanes)]] if lanes else [])]
    loop.operands = loop, *map(module.add_metadata, wishes)
    builder.branch(head).set_metadata("llvm.loop", loop)
    for block in function.blocks[function.blocks.index(body):]:
        for instruction in block.instructions:
            if instruction.opname in ("load", "store", "call"):
                instruction.set_metadata("llvm.access.group", group)
    builder.position_at_end(behind)


def pointer(builder, address, kind, index=None):
    """A pointer to element `index` of an array of this LLVM type at an address."""
    start = builder.inttoptr(address, kind.as_pointer(GLOBAL if on_device(builder) else 0))
    return start if index is None else builder.gep(start, [index])


def tuple_of(kind, count):
    """A type for so many values; for one at least, since Numba knows no empty tuple of one kind."""
    return types.UniTuple(kind, max(1, count))


def unpacked(builder, value):
    return cgutils.unpack_tuple(builder, value)
