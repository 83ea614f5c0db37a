"""What an optimizer keeps for each tensor, wherever that lies: states, remainders, copies; as kernels see it and as numbers.

`host.Host` and `device.Device` are machines: they own the memory, and carry out the steps. Both offer `look`, `check_own`, `read`, `write`,
`visible`, `buffers`, `coefficients`, `bind`, `factor`, `step`, `look_ahead`, `reseed`, `tabulate`, `t` and `grad_norm`.
"""
from collections.abc import Sequence
from typing import Any

import numpy as np

from .formats import Format
from .groups import Group
from .registry import Rule
from .storage import AVERAGE, REMAINDER, decode, encode, join
from .tensors import Slot, Tensor, by_columns, parameter_parts, parts


class Machine:
    """The states of an optimizer, what bfloat16 parameters lack of a float32, and what follows the parameters."""

    def __init__(self, rule: Rule, tensors: list[Tensor], groups: Sequence[Group], formats: dict[str, list[Format]],
                 outputs: dict[str, Slot], seed: int):
        """`formats` says how each state of each tensor is stored; `outputs` are what a step writes and nothing reads."""
        self.rule, self.tensors, self.groups, self.outputs, self.seed = rule, tensors, groups, outputs, seed
        self.states = {name: Slot([self._new_state(name, f, t) for f, t in zip(formats[name], tensors, strict=True)], formats[name])
                       for name in rule.state}
        self.remainders = [self._new_remainder(t) for t in tensors] if any(t.format.split for t in tensors) else []
        self.parameters_changed()
        if AVERAGE in self.states:
            self._start_at_parameters(self.states[AVERAGE])

    def _new_state(self, name: str, format: Format, t: Tensor) -> Any:
        raise NotImplementedError

    def _new_remainder(self, t: Tensor) -> Any:
        raise NotImplementedError

    def look(self) -> None:
        """Look at every array that a step writes: follow what moved, or say what has become another array, before anything is written."""
        raise NotImplementedError

    def check_own(self) -> None:
        """The same for the arrays that are ours: states and buffers, which the program sees but must not move."""
        raise NotImplementedError

    def read(self, array: Any, copy: bool) -> np.ndarray:
        raise NotImplementedError

    def write(self, target: Any, source: np.ndarray) -> None:
        raise NotImplementedError

    def _initial(self, name: str, t: Tensor) -> float:
        """What each element of a new state is."""
        return float(self.groups[t.group][self.rule.initial[name]]) if name in self.rule.initial else 0.0

    @property
    def slots(self) -> dict[str, Slot]:
        """Everything that kernels see of a tensor behind its parameter."""
        return {**self.states, **self.outputs}

    @property
    def state(self) -> dict[str, list]:
        """What must be kept between steps."""
        found = {name: slot.arrays for name, slot in self.states.items()}
        return {**found, REMAINDER: self.remainders} if self.remainders else found

    @property
    def given(self) -> list:
        """The arrays that the program gave us to write, as it knows them."""
        return [t.original for t in self.tensors] + [x for slot in self.outputs.values() for x in slot.originals]

    @property
    def written(self) -> list:
        """All that a step writes, but for gradients that it sets to zero."""
        return [t.array for t in self.tensors] + self.remainders + [a for slot in self.slots.values() for a in slot.arrays]

    def numbers(self, name: str) -> list[np.ndarray]:
        """A state in float32, or float64, in the shapes of the parameters."""
        slot = self.states[name]
        return [numbers(self.read(a, True), f, t) for a, f, t in zip(slot.arrays, slot.formats, self.tensors, strict=True)]

    def masters(self) -> list[np.ndarray]:
        """The parameters in float32, or float64, with what their arrays lack."""
        found = []
        for k, t in enumerate(self.tensors):
            array = self.read(t.array, False)
            found.append(join(array, self.read(self.remainders[k], False)) if t.format.split else decode(array, t.plain))
        return found

    def parameters_changed(self) -> None:
        """Let copies follow parameters that something else than a step has written."""
        for slot in self.outputs.values():
            self._start_at_parameters(slot)

    def _start_at_parameters(self, slot: Slot) -> None:
        for array, format, t, values in zip(slot.arrays, slot.formats, self.tensors, self.masters(), strict=True):
            self.write(array, coded(values, format, t))


def state_dtype(format: Format, t: Tensor) -> np.dtype:
    """The dtype of a state's array: bfloat16 looks as the parameter does where that is bfloat16."""
    return t.array.dtype if format.dtype == t.format.dtype else format.dtype


def in_memory_order(array: np.ndarray, order: tuple[int, ...]) -> np.ndarray:
    """The elements of an array as a row, along the axes from the outermost in a parameter's memory to the innermost."""
    return array.transpose([d for d in range(array.ndim) if d not in order] + list(order)).reshape(-1)


def out_of_memory_order(row: np.ndarray, shape: tuple[int, ...], order: tuple[int, ...]) -> np.ndarray:
    """The array of this shape whose elements `in_memory_order` gives as this row."""
    outer = [d for d in range(len(shape)) if d not in order] + list(order)
    return row.reshape([shape[d] for d in outer]).transpose(np.argsort(outer))


def numbers(array: np.ndarray, format: Format, t: Tensor) -> np.ndarray:
    """The numbers of a state, in the shape of its parameter."""
    if format.block:
        return out_of_memory_order(decode(array, format, (t.array.size,)), t.array.shape, t.order)
    return decode(array, format)


def coded(values: np.ndarray, format: Format, t: Tensor) -> np.ndarray:
    """Numbers in the shape of a parameter, to the nearest as a state of this format."""
    return encode(in_memory_order(values, t.order), format) if format.block else encode(values, format)


# The look-ahead point, p - mu*v

def ahead_formats(tensors: Sequence[Tensor], velocity: Slot) -> list[list[str]]:
    """The formats of parameter, look-ahead point and velocity of every tensor."""
    return [[t.format.name, t.plain, f.name] for t, f in zip(tensors, velocity.formats, strict=True)]


def ahead_columns(indices: Sequence[int], tensors: Sequence[Tensor], buffers: Sequence[Any], velocity: Slot,
                  remainders: Sequence[Any]) -> list[list[Any]]:
    """The arrays of parameter, look-ahead point and velocity of these tensors, column by column."""
    return by_columns([[*parameter_parts(tensors[k], remainders, k), buffers[k], *parts(velocity.formats[k], velocity.arrays[k])]
                       for k in indices])
