"""The smallest kernel with the successor of numba-cuda: Momentum's own rule, run by the interpreter of PTX.

``python -m benchmarks.studies.mlir_kernel`` prints whether its bits are those of NumPy, and the instructions that touch
memory or compute. It needs no GPU, and ``pip install numba-cuda-mlir==0.6.0`` in an environment of its own that has
fastopt's extra `cuda`. docs/how_it_works/cuda_compiler.md says what came of it.
"""
import re
import sys
from pathlib import Path

import numpy as np

from fastopt._cuda import code
from fastopt.rules import momentum

SM_90, N, THREADS, GLOBAL, BYTES = (9, 0), 1_003, 128, 1, 4


def load(start, i):
    """Element i behind an address: in a kernel only."""


def store(start, i, x):
    """Put a number there."""


def compiled() -> str:
    """PTX of step(c, g, p, v, n), whose arrays are addresses: loads and stores are intrinsics, as fastopt's are."""
    from numba_cuda_mlir import cuda, tools, types
    from numba_cuda_mlir._mlir import ir
    from numba_cuda_mlir._mlir.dialects import arith, llvm
    from numba_cuda_mlir.compiler import compile
    from numba_cuda_mlir.extending import lowering_registry, typing_registry
    from numba_cuda_mlir.numba_cuda.types import NamedUniTuple
    from numba_cuda_mlir.numba_cuda.typing.templates import ConcreteTemplate, signature
    number, address = types.float32, types.int64

    def pointer(builder, start, i):
        size = arith.constant(ir.IntegerType.get_signless(64), BYTES)
        at = arith.addi(builder.load_var(start), arith.muli(builder.load_var(i), size))
        return llvm.inttoptr(llvm.PointerType.get(GLOBAL), at)

    @typing_registry.register_global(load)
    class Load(ConcreteTemplate):
        cases = (signature(number, address, address),)

    @typing_registry.register_global(store)
    class Store(ConcreteTemplate):
        cases = (signature(types.none, address, address, number),)

    @lowering_registry.lower(load, address, address)
    def lower_load(builder, target, arguments, named):
        builder.store_var(target, llvm.load(ir.F32Type.get(), pointer(builder, *arguments)))

    @lowering_registry.lower(store, address, address, number)
    def lower_store(builder, target, arguments, named):
        start, i, x = arguments
        llvm.store(builder.load_var(x), pointer(builder, start, i))

    rule = cuda.jit(device=True)(momentum.body)

    def step(c, g, p, v, n):
        i = types.int64(cuda.blockIdx.x)*cuda.blockDim.x + cuda.threadIdx.x
        if i < n:
            u, new = rule(c, load(g, i), load(p, i), load(v, i))
            store(p, i, load(p, i) - u)
            store(v, i, new)

    tools._cached_cc = SM_90  # it asks the device, whatever architecture `compile` is given
    kinds = types.void(NamedUniTuple(number, len(momentum.fields), momentum.Coefficients), *[address]*4)
    ltoir, _ = compile(step, kinds, cc=SM_90, output="ltoir", device=False, abi="numba")
    return code.link(ltoir, SM_90, "ptx").decode().rstrip("\0")


def main() -> int:
    sys.path.insert(0, str(Path(__file__).parents[2]/"tests"))
    from ptx import Kernel, Memory, Run
    ptx, c = compiled(), momentum.at(1, np.float32, lr=0.1, momentum=0.9)
    g, p, v = np.random.default_rng(0).normal(size=(3, N)).astype(np.float32)
    want, memory = momentum(c, g, p, v), Memory()
    places = [np.int64(memory.add(x, name)) for x, name in ((g, "g"), (p, "p"), (v, "v"))]
    Run(Kernel(ptx), -(-N//THREADS), THREADS, [*map(np.float32, c), *places, np.int64(N)], memory)
    same = all(np.array_equal(x.view(np.uint32), y.view(np.uint32)) for x, y in zip((p, v), want, strict=True))
    print(f"{N} elements, sm_90: {'the bits of NumPy' if same else 'other bits than those of NumPy'};",
          ", ".join(re.findall(r"\b(?:ld\.global|st\.global|add|sub|mul|fma)\S*f32", ptx)))
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
