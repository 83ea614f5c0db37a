"""An interpreter of PTX in NumPy: runs what a GPU would run, on real data, and finds what a GPU would let pass.

Kernels run on ordinary arrays; every access is checked for bounds, alignment and races, every value rounded as in PTX:

>>> memory = Memory()
>>> x = np.arange(1000, dtype=np.float32)
>>> Run(Kernel(ptx), 4, 256, [np.uint64(memory.add(x)), np.uint32(x.size)], memory)

It knows what the kernels of this project consist of. All else (an instruction, a modifier, a state space) raises
`PTXError`. It executes PTX, not the machine code that ptxas makes of it (which may contract products and sums that lack
a ``.rn``), knows nothing of time, caches or weak memory, and runs threads in step.
"""
from . import instructions  # noqa: F401 (it fills the table of instructions)
from .machine import Run
from .memory import Memory
from .text import Kernel
from .values import PTXError

__all__ = ["Kernel", "Memory", "PTXError", "Run"]
