"""How the arrays of a tensor are stored: the format of each slot, and what follows for rows, loads and stores.

Slot 0 is the gradient, slot 1 the parameter. Then come states, outputs (written only) and inputs (read only).
"""
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from numba import types

from .._formats.catalogue import MASK, Format, arithmetic


class Slot(NamedTuple):
    """How one array of a tensor is stored, or two where its format has two."""

    format: Format
    strided: bool = False  # its strides stand in the table; only a gradient's may
    zeroed: bool = False   # the step sets it to zero; only a gradient is

    def __str__(self):
        return self.format.name + "*"*self.strided + "!"*self.zeroed


@dataclass(frozen=True)
class Layout:
    """The slots of a tensor, in order."""

    slots: tuple[Slot, ...]

    @classmethod
    def of(cls, *formats: Format) -> "Layout":
        """The layout of dense arrays in these formats."""
        return cls(tuple(map(Slot, formats)))

    def __str__(self):
        return " ".join(map(str, self.slots))  # in the names of kernels on disk, and in messages

    @cached_property
    def formats(self):
        return tuple(slot.format for slot in self.slots)

    @cached_property
    def starts(self):
        """Where in a row the addresses of each slot begin."""
        return tuple(sum(f.columns for f in self.formats[:k]) for k in range(len(self.formats)))

    @cached_property
    def columns(self):
        """The addresses in a row."""
        return sum(f.columns for f in self.formats)

    @cached_property
    def row(self):
        """Numba's type of a row: the addresses of all slots."""
        return types.UniTuple(types.int64, self.columns)

    @property
    def strides_at(self):
        """Where in a row of the table the strides of a gradient begin: behind addresses and the tensor's place."""
        return self.columns + 2

    @cached_property
    def arithmetic(self):
        """The format in which is computed: float64 for float64 parameters, else float32."""
        return arithmetic(self.formats[1])

    @property
    def scalar(self):
        """Numba's type of numbers in the arithmetic."""
        return self.arithmetic.value

    @cached_property
    def values(self):
        """Numba's type of each slot's numbers: that of the arithmetic, but for masks and wider gradients."""
        gradient = max(self.scalar, self.formats[0].value, key=lambda kind: kind.bitwidth)
        return (gradient, *(f.value if f.value is types.boolean else self.scalar for f in self.formats[1:]))

    @cached_property
    def wide(self):
        """Whether the gradient is wider than the arithmetic. It is scaled in its own type, then converted."""
        return self.values[0] != self.scalar

    @cached_property
    def strided(self):
        return self.slots[0].strided

    @cached_property
    def zeroed(self):
        return self.slots[0].zeroed

    @cached_property
    def masked(self):
        """Whether the last slot is a mask."""
        return self.formats[-1] is MASK

    @cached_property
    def random(self):
        """The slots that are rounded by chance."""
        return tuple(k for k, f in enumerate(self.formats) if k and f.random)

    @cached_property
    def blocks(self):
        """The slots whose numbers share exponents."""
        return tuple(k for k, f in enumerate(self.formats) if f.block)

    @cached_property
    def read(self):
        """The layout of a pass that only reads."""
        return Layout((self.slots[0]._replace(zeroed=False), *self.slots[1:]))

    @cached_property
    def norm(self):
        """What the norm's kernels depend on: gradient and parameter; all slots where strides stand behind them."""
        return Layout(self.read.slots[:None if self.strided else 2])
