"""What an optimizer keeps for each tensor, wherever that lies: states, remainders, copies; as kernels see it and as numbers.

`host.Host` and `device.Device` are machines: they own the memory, and carry out the steps. Both offer `look`, `check_own`, `read`, `put`,
`resuming`, `visible`, `buffers`, `coefficients`, `bind`, `factor`, `step`, `look_ahead`, `tabulate`, `t` and `grad_norm`.
"""
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np

from .._formats.catalogue import FORMATS, Format
from .._rule.groups import Group
from .._rule.rule import Rule
from .._formats.choice import AVERAGE, REMAINDER
from .._kernels.layout import Layout
from ..storage import decode, encode, join
from . import arrays
from .tensors import PerTensor, Tensor, by_columns, parameter_parts, parts

Pair = tuple[Any, np.ndarray]  # (an array of the optimizer's, what it shall hold)


class Machine:
    """The states of an optimizer, what bfloat16 parameters lack of a float32, and what follows the parameters."""

    def __init__(self, rule: Rule, tensors: list[Tensor], groups: Sequence[Group], formats: dict[str, list[Format]],
                 outputs: dict[str, PerTensor], seed: int):
        """`formats` says how each state of each tensor is stored; `outputs` are what a step writes and nothing reads."""
        self.rule, self.tensors, self.groups, self.outputs, self.seed = rule, tensors, groups, outputs, seed
        self.told = arrays.torch_tensors(self.given)  # they do not change, wherever their memory is
        self.states = {name: PerTensor([self._new_state(name, f, t) for f, t in zip(formats[name], tensors, strict=True)], formats[name])
                       for name in rule.state}
        self.remainders = [self._new_remainder(t) for t in tensors] if any(t.format.split for t in tensors) else []
        self.put(self.followers(self.outputs.values()))
        if AVERAGE in self.states:
            self.put(self.followers([self.states[AVERAGE]]))

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

    def shown(self) -> None:
        """From now on the program sees arrays that are ours: `look` has more to look at."""

    def read(self, array: Any, copy: bool) -> np.ndarray:
        raise NotImplementedError

    def put(self, pairs: Iterable[Pair], calls: Iterable["partial[Any]"] = ()) -> None:
        """Write arrays of this machine's memory to their targets and make the calls, all of it or nothing, whatever signals come.

        Each pair is (target, source) of one shape and format. Calls are such as `interrupts.at_once` takes.
        """
        raise NotImplementedError

    def resuming(self, t: int, seed: int, groups: Sequence[Group]) -> list["partial[Any]"]:
        """What to call so that t steps have been taken, with this seed; `groups` hold the hyperparameters that will then be in force."""
        raise NotImplementedError

    def _initial(self, name: str, t: Tensor) -> float:
        """What each element of a new state is."""
        return float(self.groups[t.group][self.rule.initial[name]]) if name in self.rule.initial else 0.0

    @property
    def slots(self) -> dict[str, PerTensor]:
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

    def tell(self, pairs: Iterable[Pair]) -> None:
        """Tell torch which of its tensors `put` is about to write."""
        targets = {id(target) for target, _ in pairs}
        own = [t.array for t in self.tensors] + [a for slot in self.outputs.values() for a in slot.arrays]
        arrays.tell_autograd(arrays.torch_tensors([x for x, a in zip(self.given, own, strict=True) if id(a) in targets]))

    @property
    def written(self) -> list:
        """All that a step writes, but for gradients that it sets to zero."""
        return [t.array for t in self.tensors] + self.remainders + [a for slot in self.slots.values() for a in slot.arrays]

    def numbers(self, name: str) -> list[np.ndarray]:
        """A state in float32, or float64, in the shapes of the parameters."""
        slot = self.states[name]
        return [numbers(self.read(a, True), f, t) for a, f, t in zip(slot.arrays, slot.formats, self.tensors, strict=True)]

    def masters(self, parameters: Sequence[np.ndarray] | None = None, remainders: Sequence[np.ndarray] | None = None) -> list[np.ndarray]:
        """The parameters, those of now or these, in float32, or float64, with what their arrays lack."""
        found = []
        for k, t in enumerate(self.tensors):
            array = self.read(t.array, False) if parameters is None else parameters[k]
            if t.format.split:
                found.append(join(array, self.read(self.remainders[k], False) if remainders is None else remainders[k]))
            else:
                found.append(decode(array, t.plain))
        return found

    def followers(self, slots: Iterable[PerTensor], parameters: Sequence[np.ndarray] | None = None,
                  remainders: Sequence[np.ndarray] | None = None) -> list[Pair]:
        """What slots that follow the parameters (those of now, or these) must be: pairs for `put`."""
        slots = list(slots)
        values = self.masters(parameters, remainders) if slots else []
        return [(array, coded(x, format, t)) for slot in slots
                for array, format, t, x in zip(slot.arrays, slot.formats, self.tensors, values, strict=True)]


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

def ahead_layouts(tensors: Sequence[Tensor], velocity: PerTensor) -> list[Layout]:
    """The layout of parameter, look-ahead point and velocity of every tensor."""
    return [Layout.of(t.format, FORMATS[t.plain], f) for t, f in zip(tensors, velocity.formats, strict=True)]


def ahead_columns(indices: Sequence[int], tensors: Sequence[Tensor], buffers: Sequence[Any], velocity: PerTensor,
                  remainders: Sequence[Any]) -> list[list[Any]]:
    """The arrays of parameter, look-ahead point and velocity of these tensors, column by column."""
    return by_columns([[*parameter_parts(tensors[k], remainders, k), buffers[k], *parts(velocity.formats[k], velocity.arrays[k])]
                       for k in indices])
