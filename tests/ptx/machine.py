"""One launch: all threads of all blocks run in step, in groups that stand at the same basic block.

The group at the first block in the text goes next, so groups that parted meet again. An instruction that waits for
other threads starts a basic block; those threads of a group go on there whose partners have come, the others stay. When
nobody can go on, the kernel would hang on a GPU, and that is an error. A loop that waits for a store by threads that
stand behind it does not end here (see ``limit``).
"""
from functools import lru_cache

import numpy as np

from .access import Spaces
from .floats import decode, encode
from .grid import Grid
from .memory import UNWRITTEN
from .text import Immediate, Register, Special, Symbol
from .values import B32, PREDICATE, SIGNED, UNSIGNED, PTXError

LIMIT = 10_000_000


class Run:
    """Run a kernel; returns when all threads have left it, and raises `PTXError` for every fault.

    ``grid`` and ``block`` are ints or up to three ints, ``args`` a NumPy scalar, bytes, or an int for each parameter.
    With ``stats`` (several times slower) it counts the ``traffic`` with global memory, atomics excluded (bytes that
    threads ask for, sectors of 32 bytes, requests of warps), and looks for collisions and races there too; shared
    memory is always checked. ``dynamic_shared`` are bytes of shared memory. ``approximate`` allows instructions whose
    results are approximate on a GPU (``div.full``, ``ex2.approx``, ...); they are computed accurately here. ``limit``
    bounds ``executed``, the instructions that groups of threads execute, before the kernel is taken for endless.
    """

    def __init__(self, kernel, grid, block, args, memory, stats=False, dynamic_shared=0, *, approximate=False,
                 limit=LIMIT):
        self.kernel, self.limit = kernel, limit
        if not approximate:
            _refuse_approximations(kernel)
        self.grid = Grid(kernel, grid, block)
        self.spaces = Spaces(kernel, self.grid, memory, dynamic_shared, stats)
        self.spaces.set_parameters(args)
        self.special = self.grid.special | self.spaces.special
        self.traffic = self.spaces.traffic
        self.registers, self.executed = {}, 0
        self.alive = np.ones(self.grid.threads, np.bool_)
        self.mask = None  # the threads that execute; None for all that are alive
        with np.errstate(all="ignore"):
            self._run()

    # Threads

    def executing(self):
        """Which threads execute the instruction."""
        return self.alive if self.mask is None else self.mask

    def numbers(self):
        """The numbers of the threads that execute the instruction."""
        executing = self.executing()
        return self.grid.numbers if executing.all() else np.flatnonzero(executing)

    def each(self, values):
        """A value for each thread."""
        return np.broadcast_to(values, (self.grid.threads,))

    def gather(self, values, threads):
        """The values of these threads; still one if it is the same for all."""
        return values if values.size == 1 or threads is self.grid.numbers else values[threads]

    def scatter(self, values, threads):
        """The reverse: a value for each thread, those of these threads given (or one for all of them)."""
        if values.size == 1 or threads is self.grid.numbers:
            return values
        scattered = np.zeros(self.grid.threads, values.dtype)
        scattered[threads] = values
        return scattered

    # Values

    def words(self, operand, type, wider=False):
        """The words of an operand, as wide as the type; `wider` registers lend their lower bits where allowed."""
        if isinstance(operand, Register):
            return self._register(operand, type, wider)
        if isinstance(operand, Immediate):
            return _constant(operand, type)
        if isinstance(operand, Special) and type.bits == 32:
            return self.special[operand.name]
        if isinstance(operand, Symbol) and operand.name in self.spaces.symbols and type.bits in (32, 64):
            return np.array([(self.spaces.symbols[operand.name] + operand.offset) % 2**type.bits], type.word)
        raise PTXError(f"operand {operand} as .{type.name}")

    def _register(self, register, type, wider):
        words = self.registers.get(register.name)
        if words is None:
            words = _unwritten(register.type)
        if words.dtype != type.word:
            if not (wider and register.type.bits > type.bits > 1):
                raise PTXError(f"{register.name} has {register.type.bits} bits, not {type.bits}")
            words = words.astype(type.word)
        if not register.negated:
            return words
        if type is not PREDICATE:
            raise PTXError(f"{register.name} is not a predicate")
        return ~words

    def read(self, operand, type, wider=False):
        """The numbers in an operand."""
        return decode(self.words(operand, type, wider), type)

    def write(self, operand, words, type, extend=False):
        """Put words into a register; a wider one gets the sign or zeros in front where `extend` allows it."""
        if not isinstance(operand, Register):
            raise PTXError(f"destination {operand}")
        if operand.name == "_":
            return
        if operand.type.word != type.word:
            if not (extend and operand.type.bits > type.bits > 1):
                raise PTXError(f"{operand.name} has {operand.type.bits} bits, not {type.bits}")
            if type.kind == "s":
                words = words.view(type.number).astype(SIGNED[operand.type.bits])
            words = words.astype(UNSIGNED[operand.type.bits])
        if self.mask is not None:
            old = self.registers.get(operand.name)
            words = np.where(self.mask, words, _unwritten(operand.type) if old is None else old)
        self.registers[operand.name] = words

    def put(self, operand, numbers, type, rounding="rn", extend=False):
        """Round numbers to the type and put them into a register."""
        self.write(operand, encode(numbers, type, rounding), type, extend)

    # Control

    def _run(self):
        groups, end = {0: self.alive}, len(self.kernel.blocks)
        while groups:
            block, mask = self._next(groups)
            self.mask = mask if groups or not np.array_equal(mask, self.alive) else None
            self.executed += len(self.kernel.blocks[block])
            if self.executed > self.limit:
                raise PTXError(f"no end after {self.limit} instructions")
            for target, threads in self._block(block):
                if target >= end:
                    self.alive = self.alive & ~threads
                else:
                    groups[target] = groups[target] | threads if target in groups else threads

    def _next(self, groups):
        """Take the first block with threads that can go on, and those threads, out of `groups`."""
        for block in sorted(groups):
            ready, first = groups[block], self.kernel.blocks[block][0]
            if first.form.waits:
                ready = ready & self._partners_came(first, ready)
            if ready.any():
                rest = groups.pop(block) & ~ready
                if rest.any():
                    groups[block] = rest
                return block, ready
        waiting = ", ".join(f"{groups[k].sum()} threads at '{self.kernel.blocks[k][0].text}'" for k in sorted(groups))
        raise PTXError(f"divergent: for ever wait {waiting}; {(~self.alive).sum()} have exited")

    def _partners_came(self, instruction, waiting):
        """Whether all partners of each thread that have not exited wait too: its block, or the lanes that it names."""
        grid = self.grid
        if instruction.form.waits == "block":
            return (np.bincount(grid.block[waiting], minlength=grid.blocks) == grid.block_size)[grid.block]
        members = self.each(self.words(instruction.operands[-1], B32))
        if (waiting & ((members >> grid.lane.astype(np.uint32) & np.uint32(1)) == 0)).any():
            raise PTXError(f"a thread executes what its mask of threads excludes it from, in: {instruction.text}")
        missing = grid.bits_of_warps(self.alive) & ~grid.bits_of_warps(waiting)
        return (members & missing[grid.warp]) == 0

    def _block(self, index):
        """Execute a basic block; returns where its threads go: pairs of a block and a mask."""
        block, mask = self.kernel.blocks[index], self.mask
        for instruction in block:
            form = instruction.form
            try:
                if instruction.guard is not None:
                    self.mask = self.words(instruction.guard, PREDICATE) & self.executing()
                if form.leaves:
                    return self._leave(index, instruction, mask)
                if instruction.guard is None or self.mask.any():
                    form.meaning(self, instruction.modifiers, *instruction.operands)
            except PTXError as error:
                raise PTXError(f"{error}, in: {instruction.text}") from None
            self.mask = mask
        return [(index + 1, self.executing())]

    def _leave(self, index, instruction, mask):
        taken = self.executing()
        rest = (self.alive if mask is None else mask) & ~taken
        target = instruction.form.meaning(self, instruction.modifiers, *instruction.operands)
        return [(block, threads) for block, threads in ((target, taken), (index + 1, rest)) if threads.any()]


def _refuse_approximations(kernel):
    for block in kernel.blocks:
        for instruction in block:
            if instruction.form.approximate:
                raise PTXError(f"approximate, in: {instruction.text}")


@lru_cache(None)
def _constant(immediate, type):
    """An immediate operand as a word; floats must be as wide as the type, integers are taken modulo its width."""
    value, width = immediate
    if type is PREDICATE:
        return np.array([bool(value)])
    float_ = type.name in ("f32", "f64")
    if width != type.bits and (float_ or width):
        raise PTXError(f"the literal {value:#x} as .{type.name}")
    return np.array([value % 2**type.bits], type.word)


@lru_cache(None)
def _unwritten(type):
    return np.ones(1, np.bool_) if type is PREDICATE else np.full(type.bytes, UNWRITTEN, np.uint8).view(type.word)
