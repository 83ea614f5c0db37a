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
from .binding import Binding, Job
from .cpu import step_kernel
from .formats import Format, arithmetic
from .groups import Group
from .hyper import check_number
from .memory import computed_in
from .pool import Plan
from .registry import LOOK_AHEAD, Rule
from .tensors import Tensor, by_formats


class Host:
    """What carries out the steps of an optimizer whose parameters are NumPy arrays."""

    place = ""

    def __init__(self, rule: Rule, tensors: list[Tensor], groups: Sequence[Group], formats: dict[str, Format], threads: int):
        self.rule, self.tensors, self.groups, self.threads = rule, tensors, groups, threads
        self.grad_norm: float | None = None
        self._t = ctypes.c_int64(0)
        self.state = {name: [self._new_state(name, formats.get(name), t) for t in tensors] for name in rule.state}
        dtypes = {arithmetic(t.format).dtype for t in tensors}
        self.coefs = {dtype: np.zeros((len(groups), len(rule.fields)), dtype) for dtype in dtypes}
        row = len(rule.fields)
        self._packers = [(struct.Struct(f"{row}{dtype.char}"), a.data.cast("B"), row*dtype.itemsize) for dtype, a in self.coefs.items()]
        self.binding = Binding(rule, tensors, self.state, self.coefs)
        self._ahead: _Ahead | None = None

    def _new_state(self, name: str, format: Format | None, t: Tensor) -> np.ndarray:
        dtype, initial = initial_state(self.rule, self.groups[t.group], name, format, t)
        new = arrays.zeros_like(t.array, dtype, t.order, 1 + self.rule.state.index(name))
        if initial.any():
            new[...] = initial
        return new

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

    def bind(self, leaves: list, paths: list[str]) -> list:
        """Make the next step that of these gradients; what must live until it is done."""
        return self.binding.bind(leaves, paths)

    def factor(self, given: Any) -> float:
        """The gradient factor of a step, checked."""
        return check_number("grad_factor", given, "step", "")

    def step(self, held: list, factor: float, limit: float, clip_norm: float | None, skip_nonfinite: bool) -> None:
        """Step with the bound gradients, checked numbers all."""
        if clip_norm is not None or skip_nonfinite:
            norm = abs(factor)*norms.global_norm(self.binding.buckets, self.threads)
            if skip_nonfinite and not math.isfinite(norm):
                self.grad_norm = norm
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


def initial_state(rule: Rule, group: Group, name: str, format: Format | None, t: Tensor) -> tuple[np.dtype, np.ndarray]:
    """The dtype of a new state, and what each of its elements is, as an array of one."""
    format = format or arithmetic(t.format)
    dtype = t.array.dtype if format is t.format else format.dtype
    number = float(group[rule.initial[name]] if name in rule.initial else 0.0)
    if format.value.name == format.stored.name:
        return dtype, np.array([number], format.dtype)
    return dtype, format.encode(np.array([number], np.float32)).view(dtype)


class _Ahead:
    """The look-ahead point's buffers and job."""

    def __init__(self, host: Host):
        tensors, velocity = host.tensors, host.state["v"]
        self.field = host.rule.fields.index(str(host.rule.ahead))
        place = 2 + len(host.rule.state)
        self.buffers = [arrays.zeros_like(t.array, t.array.dtype, t.order, place) for t in tensors]
        self.coefs = {dtype: np.zeros((len(host.groups), 1), dtype) for dtype in host.coefs}
        jobs = []
        for formats, indices in by_formats(ahead_formats(tensors, velocity)).items():
            columns = [[tensors[k].array for k in indices], [self.buffers[k] for k in indices], [velocity[k] for k in indices]]
            coefs = self.coefs[computed_in(formats).dtype]
            jobs.append((step_kernel(LOOK_AHEAD.digest, formats), Job(columns, [tensors[k].group for k in indices], coefs)))
        self.plan = Plan(jobs)

    def point(self, host: Host) -> list[np.ndarray]:
        for k, group in enumerate(host.groups):
            row = group.coefficients(host.t + 1, 1.0, math.inf)
            for coefs in self.coefs.values():
                coefs[k, 0] = row[self.field]
        self.plan.run(host.threads)
        return self.buffers


def ahead_formats(tensors: Sequence[Tensor], velocity: Sequence[Any]) -> list[list[str]]:
    """The formats of parameter, look-ahead point and velocity of every tensor."""
    return [[t.format.name, t.format.name, arrays.format_of(v, "state").name] for t, v in zip(tensors, velocity, strict=True)]
