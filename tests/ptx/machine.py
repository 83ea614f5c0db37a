"""One launch: all threads of all blocks run in step, in groups that stand at the same basic block.

The group at the first block in the text goes next, so groups that parted meet again. An instruction that waits for
other threads starts a basic block; those threads of a group go on there whose partners have come, the others stay. When
nobody can go on, the kernel would hang on a GPU, and that is an error. A loop that waits for a store by threads that
stand behind it does not end here (see ``limit``).
"""
from functools import lru_cache

import numpy as np

from .memory import UNWRITTEN, Spaces
from .races import Group
from .text import Immediate, Register, Special, Symbol
from .values import PREDICATE, PTXError, decode, encode

LIMIT, WARP = 10_000_000, 32


class Threads:
    """The threads of all blocks, numbered one block after the other: how many ``blocks``, ``warps`` and ``threads``; of
    each thread its ``lane``, ``warp`` (numbered through all blocks) and ``block``; special registers."""

    def __init__(self, kernel, blocks, size):
        if not 0 < size <= kernel.max_threads or blocks < 1:
            raise PTXError(f"a launch of {blocks} blocks of {size} threads")
        self.blocks, self.threads, self.warps = blocks, blocks*size, blocks*-(-size//WARP)
        self.numbers = np.arange(self.threads)
        in_block, self.block = self.numbers % size, self.numbers//size
        self.lane, self.warp = in_block % WARP, self.block*-(-size//WARP) + in_block//WARP
        special = {"%tid.x": in_block, "%ntid.x": size, "%ctaid.x": self.block, "%nctaid.x": blocks}
        self.special = {name: np.atleast_1d(value).astype(np.uint32) for name, value in special.items()}

    def group(self, threads):
        """These threads, with their warps and blocks."""
        return Group(threads, self.warp[threads], self.block[threads])


class Run:
    """Run a kernel; returns when all threads have left it, and raises `PTXError` for every fault.

    ``args`` are a NumPy scalar, bytes, or an int of 64 bits for each parameter. With ``stats`` (several times slower)
    it counts the ``traffic`` with global memory (bytes that threads ask for, and sectors of 32 bytes), and looks for
    collisions and races there too; shared memory is always checked. ``limit`` bounds ``executed``, the instructions
    that groups of threads execute, before the kernel is taken for endless.
    """

    def __init__(self, kernel, blocks, block_size, args, memory, stats=False, *, limit=LIMIT):
        self.kernel, self.limit = kernel, limit
        self.threads = Threads(kernel, blocks, block_size)
        self.spaces = Spaces(kernel, self.threads, memory, args, stats)
        self.traffic = self.spaces.traffic
        self.registers, self.executed = {}, 0
        self.alive = np.ones(self.threads.threads, np.bool_)
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
        return self.threads.numbers if executing.all() else np.flatnonzero(executing)

    def each(self, values):
        """A value for each thread."""
        return np.broadcast_to(values, (self.threads.threads,))

    def gather(self, values, threads):
        """The values of these threads; still one if it is the same for all."""
        return values if values.size == 1 or threads is self.threads.numbers else values[threads]

    def scatter(self, values, threads):
        """The reverse: a value for each thread, those of these threads given (or one for all of them)."""
        if values.size == 1 or threads is self.threads.numbers:
            return values
        scattered = np.zeros(self.threads.threads, values.dtype)
        scattered[threads] = values
        return scattered

    # Values

    def words(self, operand, type):
        """The words of an operand, as wide as the type."""
        if isinstance(operand, Register):
            words = self.registers.get(operand.name)
            words = _unwritten(operand.type) if words is None else words
            if words.dtype != type.word:
                raise PTXError(f"{operand.name} has {operand.type.bits} bits, not {type.bits}")
            return words
        if isinstance(operand, Immediate):
            return _constant(operand, type)
        if isinstance(operand, Special) and type.bits == 32:
            return self.threads.special[operand.name]
        if isinstance(operand, Symbol) and type.bits in (32, 64):
            return np.array([self.kernel.symbols[operand.name]], type.word)
        raise PTXError(f"operand {operand} as .{type.name}")

    def read(self, operand, type):
        """The numbers in an operand."""
        return decode(self.words(operand, type), type)

    def write(self, operand, words, type):
        """Put words into a register."""
        if not isinstance(operand, Register):
            raise PTXError(f"destination {operand}")
        if operand.name == "_":
            return
        if operand.type.word != type.word:
            raise PTXError(f"{operand.name} has {operand.type.bits} bits, not {type.bits}")
        if self.mask is not None:
            old = self.registers.get(operand.name)
            words = np.where(self.mask, words, _unwritten(operand.type) if old is None else old)
        self.registers[operand.name] = words

    def put(self, operand, numbers, type):
        """Round numbers to the type and put them into a register."""
        self.write(operand, encode(numbers, type), type)

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
                ready = ready & self._partners_came(first.form.waits, ready)
            if ready.any():
                rest = groups.pop(block) & ~ready
                if rest.any():
                    groups[block] = rest
                return block, ready
        waiting = ", ".join(f"{groups[k].sum()} threads at '{self.kernel.blocks[k][0].text}'" for k in sorted(groups))
        raise PTXError(f"divergent: for ever wait {waiting}; {(~self.alive).sum()} have exited")

    def _partners_came(self, of, waiting):
        """Whether all partners of each thread wait too: its block, or what of its warp has not exited."""
        unit, away = (self.threads.block, ~waiting) if of == "block" else (self.threads.warp, self.alive & ~waiting)
        return np.bincount(unit, away)[unit] == 0

    def _block(self, index):
        """Execute a basic block; returns where its threads go: pairs of a block and a mask."""
        try:
            for instruction in self.kernel.blocks[index]:
                if instruction.form.leaves:
                    return self._leave(index, instruction)
                instruction.form.meaning(self, instruction.modifiers, *instruction.operands)
        except PTXError as error:
            raise PTXError(f"{error}, in: {instruction.text}") from None
        return [(index + 1, self.executing())]

    def _leave(self, index, instruction):
        here = taken = self.executing()
        if instruction.guard is not None:
            taken = here & (self.words(instruction.guard, PREDICATE) != instruction.negated)
        target = instruction.form.meaning(self, instruction.modifiers, *instruction.operands)
        return [(block, threads) for block, threads in ((target, taken), (index + 1, here & ~taken)) if threads.any()]


@lru_cache(None)
def _constant(immediate, type):
    """An immediate operand as a word; floats must be as wide as the type, integers are taken modulo its width."""
    value, width = immediate
    if type is PREDICATE:
        return np.array([bool(value)])
    if width != type.bits and (width or type.name in ("f32", "f64")):
        raise PTXError(f"the literal {value:#x} as .{type.name}")
    return np.array([value % 2**type.bits], type.word)


@lru_cache(None)
def _unwritten(type):
    return np.ones(1, np.bool_) if type is PREDICATE else np.full(type.bytes, UNWRITTEN, np.uint8).view(type.word)
