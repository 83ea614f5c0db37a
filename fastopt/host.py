"""Steps on arrays in this machine's memory: coefficients, the jobs of a step and of the look-ahead point, the step count.

`Host` and `device.Device` offer an optimizer the same: states and buffers, `bind`, `step`, `look_ahead`, `t`, `grad_norm`.
"""
import ctypes
import math
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from . import arrays, norms
from .binding import Binding, Chance, Job
from .cpu import step_kernel
from .formats import Format, arithmetic
from .groups import Group
from .hyper import check_number
from .memory import computed_in
from .pool import Plan
from .registry import LOOK_AHEAD, Rule
from .storage import AVERAGE, REMAINDER, coded_bytes, decode, encode, join
from .tensors import Slot, Tensor, by_formats, parts


class Host:
    """What carries out the steps of an optimizer whose parameters are NumPy arrays."""

    place = ""

    def __init__(self, rule: Rule, tensors: list[Tensor], groups: Sequence[Group], formats: dict[str, list[Format]],
                 outputs: dict[str, Slot], seed: int, threads: int):
        """`formats` says how each state of each tensor is stored; `outputs` are what a step writes and nothing reads."""
        self.rule, self.tensors, self.groups, self.threads, self.seed = rule, tensors, groups, threads, seed
        self.grad_norm: float | None = None
        self._t = ctypes.c_int64(0)
        self.states = {name: Slot([self._new_state(name, f, t) for f, t in zip(formats[name], tensors, strict=True)], formats[name])
                       for name in rule.state}
        self.outputs = outputs
        self.remainders = [self._new_remainder(t) for t in tensors] if any(t.format.split for t in tensors) else []
        dtypes = {arithmetic(t.format).dtype for t in tensors}
        self.coefs = {dtype: np.zeros((len(groups), len(rule.fields)), dtype) for dtype in dtypes}
        row = len(rule.fields)
        self._packers = [(struct.Struct(f"{row}{dtype.char}"), a.data.cast("B"), row*dtype.itemsize) for dtype, a in self.coefs.items()]
        self.binding = Binding(rule, tensors, {**self.states, **outputs}, self.remainders, self.coefs,
                               Chance(seed, ctypes.addressof(self._t)))
        self._ahead: _Ahead | None = None
        for name in (*outputs, *(AVERAGE,)*(AVERAGE in rule.state)):
            start_at_parameters(self, self.slots[name])

    @property
    def slots(self) -> dict[str, Slot]:
        """Everything that kernels see of a tensor behind its parameter."""
        return {**self.states, **self.outputs}

    @property
    def state(self) -> dict[str, list]:
        """What must be kept between steps."""
        found = {name: slot.arrays for name, slot in self.states.items()}
        return {**found, REMAINDER: self.remainders} if self.remainders else found

    def _new_state(self, name: str, format: Format, t: Tensor) -> np.ndarray:
        place = 1 + self.rule.state.index(name)
        initial = initial_number(self.rule, self.groups[t.group], name)
        if format.block:
            new = np.zeros(coded_bytes(t.array.size), np.uint8)
            return encode(np.full(t.array.size, initial), format) if initial else new
        dtype = state_dtype(format, t)
        new = arrays.zeros_like(t.array, dtype, t.order, place)
        if initial:
            new[...] = encode(np.array([initial]), format).view(dtype)
        return new

    def _new_remainder(self, t: Tensor) -> np.ndarray:
        if not t.format.split:
            return np.zeros(0, np.uint16)
        return arrays.zeros_like(t.array, np.dtype(np.uint16), t.order, 1 + len(self.rule.state))

    @property
    def t(self) -> int:
        return self._t.value

    @t.setter
    def t(self, steps: int) -> None:
        self._t.value = steps

    def buffers(self) -> list[np.ndarray]:
        """Zeros like the parameters, for gradients."""
        place = 1 + len(self.rule.state)
        return [arrays.zeros_like(t.array, t.array.dtype, t.order, place) for t in self.tensors]

    def bind(self, leaves: list, paths: list[str], zeroed: bool = False) -> list:
        """Make the next step that of these gradients, which it then sets to zero if `zeroed`; what must live until it is done."""
        return self.binding.bind(leaves, paths, zeroed)

    def factor(self, given: Any) -> float:
        """The gradient factor of a step, checked."""
        return check_number("grad_factor", given, "step", "")

    def masters(self) -> list[np.ndarray]:
        """The parameters in float32, or float64, with what their arrays lack."""
        return masters(self)

    def step(self, held: list, factor: float, limit: float, clip_norm: float | None, skip_nonfinite: bool) -> None:
        """Step with the bound gradients, checked numbers all."""
        if clip_norm is not None or skip_nonfinite:
            norm = abs(factor)*norms.global_norm(self.binding.buckets, self.threads)
            if skip_nonfinite and not math.isfinite(norm):
                self.grad_norm = norm
                for gradient in self.binding.cleared:
                    gradient[...] = 0
                return
            factor *= norms.clip_factor(norm, clip_norm)
        else:
            norm = None
        for k, group in enumerate(self.groups):
            row = group.coefficients(self.t + 1, factor, limit)
            for packer, buffer, size in self._packers:
                packer.pack_into(buffer, k*size, *row)
        self.grad_norm = norm
        self.binding.plan.run(self.threads, ctypes.addressof(self._t))  # a Ctrl-C comes before all of it or after all of it

    def reseed(self, seed: int) -> None:
        """Draw random bits from another seed from now on."""
        self.seed = seed
        self.binding.reseed(Chance(seed, ctypes.addressof(self._t)))

    def tabulate(self) -> None:
        """Coefficients are computed at every step here."""
        raise RuntimeError("tabulate: it is for optimizers on a CUDA device made with capturable=N. Leave it out.")

    def look_ahead(self) -> list[np.ndarray]:
        """The look-ahead point of the next step, in buffers that are allocated once."""
        if self._ahead is None:
            self._ahead = _Ahead(self)
        return self._ahead.point(self)

    def visible(self, array: np.ndarray, t: Tensor) -> np.ndarray:
        """A state or buffer as its user sees it."""
        return array

    def read(self, array: np.ndarray, copy: bool) -> np.ndarray:
        """A state as a NumPy array."""
        return array.copy(order="K") if copy else array

    def write(self, target: np.ndarray, source: np.ndarray) -> None:
        """Set a state to the bits of an array of the same shape and format."""
        target[...] = source.view(target.dtype)


def state_dtype(format: Format, t: Tensor) -> np.dtype:
    """The dtype of a state's array: bfloat16 looks as the parameter does where that is bfloat16."""
    return t.array.dtype if format.dtype == t.format.dtype else format.dtype


def initial_number(rule: Rule, group: Group, name: str) -> float:
    """What each element of a new state is."""
    return float(group[rule.initial[name]]) if name in rule.initial else 0.0


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


def masters(machine: Any) -> list[np.ndarray]:
    """The parameters of a machine as numbers, with their remainders."""
    found = []
    for k, t in enumerate(machine.tensors):
        array = machine.read(t.array, False)
        if t.format.split:
            found.append(np.asarray(join(array, machine.read(machine.remainders[k], False))))
        else:
            found.append(decode(array, t.plain))
    return found


def parameters_changed(machine: Any, masters: bool = False) -> None:
    """Take notice that the parameters were written from outside: copies follow; with `masters`, what they lacked of a float32 is gone."""
    if masters:
        for array in machine.remainders:
            machine.write(array, np.zeros(array.shape, np.uint16))
    for slot in machine.outputs.values():
        start_at_parameters(machine, slot)


def start_at_parameters(machine: Any, slot: Slot) -> None:
    """Set what follows the parameters to them."""
    for array, format, t in zip(slot.arrays, slot.formats, machine.tensors, strict=True):
        machine.write(array, coded(decode(machine.read(t.array, False), t.plain), format, t))


class _Ahead:
    """The look-ahead point's buffers and job."""

    def __init__(self, host: Host):
        tensors = host.tensors
        self.field = host.rule.fields.index(str(host.rule.ahead))
        place = 2 + len(host.rule.state)
        self.buffers = [arrays.zeros_like(t.array, t.array.dtype, t.order, place) for t in tensors]
        self.coefs = {dtype: np.zeros((len(host.groups), 1), dtype) for dtype in host.coefs}
        jobs = []
        for formats, indices in by_formats(ahead_formats(tensors, host.states["v"])).items():
            columns = ahead_columns(indices, tensors, self.buffers, host.states["v"], host.remainders)
            coefs = self.coefs[computed_in(formats).dtype]
            jobs.append((step_kernel(LOOK_AHEAD.digest, formats), Job(formats, columns, [tensors[k].group for k in indices], coefs,
                                                                           chance=host.binding.chance)))
        self.plan = Plan(jobs)

    def point(self, host: Host) -> list[np.ndarray]:
        for k, group in enumerate(host.groups):
            row = group.coefficients(host.t + 1, 1.0, math.inf)
            for coefs in self.coefs.values():
                coefs[k, 0] = row[self.field]
        self.plan.run(host.threads)
        return self.buffers


def ahead_formats(tensors: Sequence[Tensor], velocity: Slot) -> list[list[str]]:
    """The formats of parameter, look-ahead point and velocity of every tensor."""
    return [[t.format.name, t.plain, f.name] for t, f in zip(tensors, velocity.formats, strict=True)]


def ahead_columns(indices: Sequence[int], tensors: Sequence[Tensor], buffers: Sequence[Any], velocity: Slot,
                  remainders: Sequence[Any]) -> list[list[Any]]:
    """The arrays of parameter, look-ahead point and velocity, column by column."""
    rows = [[*parts(tensors[k].format, tensors[k].array, remainders[k] if remainders else None), buffers[k],
             *parts(velocity.formats[k], velocity.arrays[k])] for k in indices]
    return [list(column) for column in zip(*rows, strict=True)]
