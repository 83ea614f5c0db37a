"""Steps on arrays in this machine's memory: coefficients, the jobs of a step and of the look-ahead point, the step count."""
import ctypes
import math
import struct
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np

from .._checks.numbers import check_number
from .._formats.catalogue import Format, arithmetic
from .._kernels.memory import JOB
from .._rule.groups import Group
from .._rule.pipeline import LOOK_AHEAD
from .._rule.rule import Rule
from .._signals import at_once
from .._tensors import arrays
from .._tensors.backend import Machine, Pair, ahead_columns, ahead_layouts, state_dtype
from .._tensors.tensors import PerTensor, Tensor, beside, by_layout, moved
from ..storage import coded_bytes, encode
from . import norm as norms
from .headers import Watch
from .jobs import Binding, Chance, Job
from .loops import step_kernel
from .pool import Plan


class Host(Machine):
    """What carries out the steps of an optimizer whose parameters are NumPy arrays."""

    place = ""

    def __init__(self, rule: Rule, tensors: list[Tensor], groups: Sequence[Group], formats: dict[str, list[Format]],
                 outputs: dict[str, PerTensor], seed: int, threads: int):
        super().__init__(rule, tensors, groups, formats, outputs, seed)
        self.threads = threads
        self.grad_norm: float | None = None
        self._t = ctypes.c_int64(0)
        self._count = ctypes.addressof(self._t)
        dtypes = {arithmetic(t.format).dtype for t in tensors}
        self.coefs = {dtype: np.zeros((len(groups), len(rule.fields)), dtype) for dtype in dtypes}
        row = len(rule.fields)
        self._packers = [(struct.Struct(f"{row}{dtype.char}"), a.data.cast("B"), row*dtype.itemsize) for dtype, a in self.coefs.items()]
        self._ahead: _Ahead | None = None
        self._buffers: list[np.ndarray] = []
        self.watch = Watch(self.given)
        self._unseen = True  # whether there are arrays of ours that the program has not seen, and so cannot change
        self._rebind()

    @property
    def _chance(self) -> Chance:
        return Chance(self.seed, self._count)

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
        self._buffers = [arrays.zeros_like(t.array, t.array.dtype, t.order, place) for t in self.tensors]
        self._unseen = True
        return self._buffers

    @property
    def _own(self) -> list[tuple[str, list[np.ndarray]]]:
        """Arrays that are ours and that the program sees, by name."""
        ahead = [("lookahead()", self._ahead.buffers)] if self._ahead else []
        return [*((f"state[{name!r}]", found) for name, found in self.state.items()), ("grads", self._buffers), *ahead]

    def _rebind(self) -> None:
        """Bind the next step anew: something else is watched."""
        self.binding = Binding(self.rule, self.tensors, self.slots, self.remainders, self.written, self.watch, self.coefs, self._chance)

    def shown(self) -> None:
        if self._unseen:
            self._unseen = False
            self.watch.show([a for _, found in self._own for a in found])
            self._rebind()

    def check_own(self) -> None:
        for name, found in self._own:
            for k, array in enumerate(found):
                if self.watch.changed(array):
                    raise ValueError(f"{name}: array {k} of it was resized through its base, so that its memory is gone, or the base has "
                                     "another dtype, shape or flags. Change those back; where the memory is gone, make a new optimizer, "
                                     "load a checkpoint into it, and change values only.")

    def look(self) -> None:
        if self.watch.same():
            return
        self.check_own()
        arrays_of = {name: [moved(x, a, beside(t, name)) for x, a, t in zip(slot.originals, slot.arrays, self.tensors, strict=True)]
                     for name, slot in self.outputs.items()}
        tensors = [t._replace(array=moved(t.original, t.array, t.path)) for t in self.tensors]
        arrays.check_overlap([(t.path, t.array) for t in tensors]
                             + [(beside(t, name), a) for name, found in arrays_of.items() for t, a in zip(tensors, found, strict=True)]
                             + [(name, a) for name, found in self._own for a in found])
        self.tensors[:] = tensors
        self.outputs = {name: slot._replace(arrays=arrays_of[name]) for name, slot in self.outputs.items()}
        self._ahead = None  # its job holds addresses
        self.watch, self._unseen = Watch(self.given), True
        self.shown()

    def coefficients(self, factor: float, limit: float) -> list[tuple[float, ...]]:
        """The rows of the next step. Schedules may run any code: ask for these before arrays are looked at."""
        t, rows = self._t.value + 1, []
        for group in self.groups:  # a comprehension would be a call of its own before Python 3.12
            rows.append(group.coefficients(t, factor, limit))  # noqa: PERF401
        return rows

    def bind(self, leaves: list, paths: list[str], zeroed: bool = False) -> list:
        """Make the next step that of these gradients, which it then sets to zero if `zeroed`; what must live until it is done."""
        if self.binding.bound(leaves, zeroed):
            return leaves
        while True:
            self.look()
            held = self.binding.bind(leaves, paths, zeroed)
            if self.watch.same():  # views of gradients are their libraries' code, or the program's own
                return held

    def factor(self, given: Any) -> float:
        """The gradient factor of a step, checked."""
        return check_number("grad_factor", given, "step", "")

    def step(self, held: list, rows: list[tuple[float, ...]], factor: float, clip_norm: float | None, skip_nonfinite: bool) -> None:
        """Step with the bound gradients and these coefficients, checked numbers all."""
        if clip_norm is not None or skip_nonfinite:
            norm = norms.global_norm(self.binding.buckets, self.threads, factor)
            clip = norms.clip_factor(norm, clip_norm)
            factor *= clip
            if skip_nonfinite and not norms.all_finite(self.binding.buckets, self.threads, norm, factor):
                self.grad_norm = norm
                for gradient in self.binding.cleared:
                    gradient[...] = 0
                arrays.tell_autograd(self.binding.told)
                return
        else:
            norm, clip = None, 1.0
        for k, row in enumerate(rows):
            if clip != 1.0:
                row = (row[0]*clip, *row[1:])  # the gradient's factor
            for packer, buffer, size in self._packers:
                try:
                    packer.pack_into(buffer, k*size, *row)
                except OverflowError:  # noqa: PERF203 (a gradient factor beyond float32: infinite for gradients that are not wider)
                    packer.pack_into(buffer, k*size, math.copysign(math.inf, row[0]), *row[1:])
        for job in self.binding.wide:
            job.numbers[JOB.factor] = factor
        self.grad_norm = norm
        if self.told or self.binding.told:
            arrays.tell_autograd([*self.told, *self.binding.told])
        self.binding.plan.run(self.threads, self._count)  # a Ctrl-C comes before all of it or after all of it

    def resuming(self, t: int, seed: int, groups: Sequence[Group]) -> list["partial[Any]"]:
        """What to call so that t steps have been taken, with this seed."""
        return [partial(setattr, self._t, "value", t), partial(setattr, self, "seed", seed),
                *self.binding.reseeding(self._chance._replace(seed=seed))]

    def tabulate(self) -> None:
        """Coefficients are computed at every step here."""
        raise RuntimeError("tabulate: it is for optimizers on a CUDA device made with capturable=N. Leave it out.")

    def look_ahead(self) -> list[np.ndarray]:
        """The look-ahead point of the next step, in buffers that are allocated once."""
        rows = self.coefficients(1.0, math.inf)
        self.look()
        if self._ahead is None:
            self._ahead = _Ahead(self)
            self._unseen = True
        return self._ahead.point(self, rows)

    def visible(self, array: np.ndarray, t: Tensor) -> np.ndarray:
        """A state or buffer as its user sees it: with a header of its own."""
        self.shown()
        return array.view()

    def read(self, array: np.ndarray, copy: bool) -> np.ndarray:
        """A state as a NumPy array."""
        return array.copy(order="K") if copy else array.view()

    def put(self, pairs: Iterable[Pair], calls: Iterable["partial[Any]"] = ()) -> None:
        """Write arrays to their targets, as bits of the same shape and format, and make the calls: all of it or nothing."""
        pairs = list(pairs)
        self.tell(pairs)
        at_once([*(partial(np.ndarray.__setitem__, target, ..., source.view(target.dtype)) for target, source in pairs), *calls])


class _Ahead:
    """The look-ahead point's buffers and job."""

    def __init__(self, host: Host):
        tensors = host.tensors
        self.field = host.rule.fields.index(str(host.rule.ahead))
        place = 2 + len(host.rule.state)
        self.buffers = [arrays.zeros_like(t.array, t.array.dtype, t.order, place) for t in tensors]
        self.coefs = {dtype: np.zeros((len(host.groups), 1), dtype) for dtype in host.coefs}
        jobs = []
        for layout, indices in by_layout(ahead_layouts(tensors, host.states["v"])).items():
            columns = ahead_columns(indices, tensors, self.buffers, host.states["v"], host.remainders)
            coefs = self.coefs[layout.arithmetic.dtype]
            job = Job(layout, columns, [tensors[k].group for k in indices], coefs, chance=host.binding.chance)
            jobs.append((step_kernel(LOOK_AHEAD, layout), job))
        self.plan = Plan(jobs)

    def point(self, host: Host, rows: list[tuple[float, ...]]) -> list[np.ndarray]:
        for k, row in enumerate(rows):
            for coefs in self.coefs.values():
                coefs[k, 0] = row[self.field]
        self.plan.run(host.threads)
        return self.buffers
