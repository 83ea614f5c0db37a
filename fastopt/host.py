"""Steps on arrays in this machine's memory: coefficients, the jobs of a step and of the look-ahead point, the step count."""
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
from .machine import Machine, ahead_columns, ahead_formats, state_dtype
from .memory import FACTOR, computed_in
from .pool import Plan
from .registry import LOOK_AHEAD, Rule
from .storage import coded_bytes, encode
from .tensors import Slot, Tensor, by_formats


class Host(Machine):
    """What carries out the steps of an optimizer whose parameters are NumPy arrays."""

    place = ""

    def __init__(self, rule: Rule, tensors: list[Tensor], groups: Sequence[Group], formats: dict[str, list[Format]],
                 outputs: dict[str, Slot], seed: int, threads: int):
        super().__init__(rule, tensors, groups, formats, outputs, seed)
        self.threads = threads
        self.grad_norm: float | None = None
        self._t = ctypes.c_int64(0)
        dtypes = {arithmetic(t.format).dtype for t in tensors}
        self.coefs = {dtype: np.zeros((len(groups), len(rule.fields)), dtype) for dtype in dtypes}
        row = len(rule.fields)
        self._packers = [(struct.Struct(f"{row}{dtype.char}"), a.data.cast("B"), row*dtype.itemsize) for dtype, a in self.coefs.items()]
        self.binding = Binding(rule, tensors, self.slots, self.remainders, self.written, self.coefs, self._chance)
        self._ahead: _Ahead | None = None

    @property
    def _chance(self) -> Chance:
        return Chance(self.seed, ctypes.addressof(self._t))

    def _new_state(self, name: str, format: Format, t: Tensor) -> np.ndarray:
        initial = self._initial(name, t)
        if format.block:
            return encode(np.full(t.array.size, initial), format) if initial else np.zeros(coded_bytes(t.array.size), np.uint8)
        new = arrays.zeros_like(t.array, state_dtype(format, t), t.order, 1 + self.rule.state.index(name))
        if initial:
            new[...] = encode(np.array([initial]), format).view(new.dtype)
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

    def step(self, held: list, factor: float, limit: float, clip_norm: float | None, skip_nonfinite: bool) -> None:
        """Step with the bound gradients, checked numbers all."""
        if clip_norm is not None or skip_nonfinite:
            norm = norms.global_norm(self.binding.buckets, self.threads, factor)
            factor *= norms.clip_factor(norm, clip_norm)
            if skip_nonfinite and not norms.all_finite(self.binding.buckets, self.threads, norm, factor):
                self.grad_norm = norm
                for gradient in self.binding.cleared:
                    gradient[...] = 0
                return
        else:
            norm = None
        for k, group in enumerate(self.groups):
            row = group.coefficients(self.t + 1, factor, limit)
            for packer, buffer, size in self._packers:
                try:
                    packer.pack_into(buffer, k*size, *row)
                except OverflowError:  # noqa: PERF203 (a gradient factor beyond float32: infinite for gradients that are not wider)
                    packer.pack_into(buffer, k*size, math.copysign(math.inf, row[0]), *row[1:])
        for bucket in self.binding.wide:
            bucket.numbers[FACTOR] = factor
        self.grad_norm = norm
        self.binding.plan.run(self.threads, ctypes.addressof(self._t))  # a Ctrl-C comes before all of it or after all of it

    def reseed(self, seed: int) -> None:
        """Draw random bits from another seed from now on."""
        self.seed = seed
        self.binding.reseed(self._chance)

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
            job = Job(formats, columns, [tensors[k].group for k in indices], coefs, chance=host.binding.chance)
            jobs.append((step_kernel(LOOK_AHEAD.digest, formats), job))
        self.plan = Plan(jobs)

    def point(self, host: Host) -> list[np.ndarray]:
        for k, group in enumerate(host.groups):
            row = group.coefficients(host.t + 1, 1.0, math.inf)
            for coefs in self.coefs.values():
                coefs[k, 0] = row[self.field]
        self.plan.run(host.threads)
        return self.buffers
