"""Steps on arrays in this machine's memory: coefficients, jobs, the look-ahead point, the step count."""
import ctypes
import math
import struct
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np

from .._checks.numbers import check_number
from .._formats.catalogue import Format, arithmetic
from .._formats.choice import REMAINDER
from .._kernels.memory import JOB
from .._rule.groups import Group
from .._rule.pieces import MEASURE
from .._rule.pipeline import row_length
from .._signals import at_once
from .._tensors import arrays
from .._tensors.backend import PLAIN, Ahead, Pair, Request, Stored, clip_factor, state_dtype
from .._tensors.tensors import Tensor, beside, moved
from ..storage import coded_bytes, encode
from .headers import Headers, Watch
from .jobs import NO_MASKS, Binding, Chance, Job
from .loops import step_kernel
from .measured import Measured
from .norm import all_finite, global_norm, norms, squares
from .pool import Plan
from .ready import Ready
from .rows import rows_apart, take_rows
from .torch_steps import Gradients


class HostBackend(Stored):
    """What carries out the steps of an optimizer whose parameters are NumPy arrays."""

    where = ""
    grad_norm: float | None = None

    def __init__(self, *arguments: Any, **more: Any):
        super().__init__(*arguments, **more)
        self._t = ctypes.c_int64(0)
        self._count = ctypes.addressof(self._t)
        row, dtypes = row_length(self.rule), {arithmetic(t.format).dtype for t in self.tensors}
        self.coefs = {dtype: np.zeros((len(self.groups), row), dtype) for dtype in dtypes}
        self._packers = [(struct.Struct(f"{row}{dtype.char}"), a.data.cast("B"), row*dtype.itemsize)
                         for dtype, a in self.coefs.items()]
        self._ahead: tuple[Ahead, Plan] | None = None
        self._buffers: list[np.ndarray] = []
        self._ready: Ready | None = None
        self._masks: Sequence[np.ndarray] = NO_MASKS  # the last that were asked for
        self._copies: Sequence[np.ndarray] = NO_MASKS
        self.watch = Watch(self.given)
        self._unseen = True  # whether there are arrays of ours that the program has not seen, and so cannot change
        self._rebind()

    @property
    def _chance(self) -> Chance:
        return Chance(self.seed, self._count)

    @property
    def taken(self) -> int:
        return self._t.value

    @taken.setter
    def taken(self, steps: int) -> None:
        self._t.value = steps

    # Memory

    def _zeros(self, t: Tensor, dtype: np.dtype, slot: int) -> np.ndarray:
        return arrays.zeros_like(t.array, dtype, t.order, slot)

    def new_state(self, name: str, format: Format, t: Tensor) -> np.ndarray:
        initial, n = self.initial(name, t), t.array.size
        if format.block:
            return encode(np.full(n, initial), format) if initial else np.zeros(coded_bytes(n), np.uint8)
        new = self._zeros(t, state_dtype(format, t), 1 + self.rule.state.index(name))
        if initial:
            new[...] = encode(np.array([initial]), format).view(new.dtype)
        return new

    def new_remainder(self, t: Tensor) -> np.ndarray:
        dtype = np.dtype(np.uint16)
        return self._zeros(t, dtype, 1 + len(self.rule.state)) if t.format.split else np.zeros(0, dtype)

    def buffers(self) -> list[np.ndarray]:
        self._buffers = [self._zeros(t, t.array.dtype, 1 + len(self.rule.state)) for t in self.tensors]
        self._unseen = True
        return self._buffers

    def visible(self, array: np.ndarray, t: Tensor) -> np.ndarray:
        self.shown()
        return t.as_given(array.view())  # with a header of its own

    def read(self, array: np.ndarray, copy: bool) -> np.ndarray:
        return array.copy(order="K") if copy else array.view()

    def put(self, pairs: Iterable[Pair], calls: Iterable["partial[Any]"] = ()) -> None:
        pairs = list(pairs)
        self.tell(pairs)
        writes = (partial(np.ndarray.__setitem__, target, ..., source.view(target.dtype)) for target, source in pairs)
        at_once([*writes, *calls])

    def resuming(self, t: int, seed: int, groups: Sequence[Group]) -> list["partial[Any]"]:
        return [partial(setattr, self._t, "value", t), partial(setattr, self, "seed", seed),
                partial(setattr, self, "_ready", None),
                *self.binding.reseeding(self._chance._replace(seed=seed))]

    # Arrays that moved

    @property
    def _own(self) -> list[tuple[str, list[np.ndarray]]]:
        """Arrays that are ours and that the program sees, by name."""
        point = "lookahead()" if self.rule.ahead else "evaluation_point()"
        ahead = [(point, self._ahead[0].buffers)] if self._ahead else []
        states = {name: slot.own for name, slot in self.states.items()}
        states |= {REMAINDER: self.remainders} if self.remainders else {}
        return [*((f"state[{name!r}]", found) for name, found in states.items()), ("grads", self._buffers), *ahead]

    def _rebind(self) -> None:
        """Bind the next step anew: something else is watched."""
        self._ready = None
        self.binding = Binding(self.rule, self.tensors, self.slots, self.remainders, self.written, self.watch,
                               self.coefs, self._chance, self.apart)

    def shown(self) -> None:
        if self._unseen:
            self._unseen = False
            self.watch.show([a for _, found in self._own for a in found])
            self._rebind()

    def check_own(self) -> None:
        for name, found in self._own:
            for k, array in enumerate(found):
                if self.watch.changed(array):
                    raise ValueError(f"{name}: array {k} of it was resized through its base, so that its memory is "
                                     "gone, or the base has another dtype, shape or flags. Change those back; where "
                                     "the memory is gone, make a new optimizer, load a checkpoint into it, and change "
                                     "values only.")

    def look(self) -> None:
        if self.watch.same():
            return
        self.check_own()
        named = [(name, a) for name, found in self._own for a in found]
        tensors = [t._replace(array=moved(t.original, t, t.array, t.path)) for t in self.tensors]
        slots = {}
        for name, slot in self.slots.items():
            found = list(slot.arrays)
            for k, original in slot.given:
                path = beside(tensors[k], name)
                found[k] = moved(original, tensors[k], found[k], path)
                named.append((path, found[k]))
            slots[name] = slot._replace(arrays=found)
        arrays.check_overlap([*((t.path, t.array) for t in tensors), *named])
        self.tensors[:] = tensors
        self.states, self.outputs = ({name: slots[name] for name in of} for of in (self.states, self.outputs))
        self._ahead = None  # its job holds addresses
        self.watch, self._unseen = Watch(self.given), True
        self.shown()

    # Steps

    def no_norm(self) -> None:
        self.grad_norm = None

    def factor(self, given: Any) -> float:
        return check_number("grad_factor", given, "step")

    def bind(self, leaves: list, paths: list[str], zeroed: bool = False, masks: Sequence[np.ndarray] = ()) -> list:
        if masks and masks is not self._masks:  # kernels read copies, whose addresses stay
            self._copies = self._copies or [row.copy() for row in masks]
            self._masks = NO_MASKS  # a Ctrl-C may leave copies of two masks
            for copy, row in zip(self._copies, masks, strict=True):
                copy[...] = row
            self._masks = masks
        copies = self._copies if masks else NO_MASKS
        if not self.binding.rows and self.binding.bound(leaves, zeroed, copies):
            return leaves
        self._ready = None
        dense, hit = rows_apart(leaves, paths, self, zeroed)
        held = [leaves, hit]
        while not (hit and self.binding.bound(dense, zeroed, copies)):
            self.look()
            held += self.binding.bind(dense, paths, zeroed, copies)
            if self.watch.same():  # views of gradients are their libraries' code, or the program's own
                break
        if hit:
            held += take_rows(self.binding, hit, copies)
        return held

    def step(self, leaves: list, paths: list[str], request: Request) -> None:
        if (ready := self._ready) is not None and (not self.told or self.watch.others_same()):
            if request is PLAIN and ready.plain and not self.told:
                if ready.step(id(leaves), self.threads):
                    self.grad_norm = None
                    return
            elif ready.suits(request) and ready.look(id(leaves)):
                if (factor := self._factor(request)) is not None:
                    ready.run(factor, self.threads)
                return
            self._ready = None
        if (parts := self.parts) is not None:
            even = parts.even and not request.apart
            for leaf in leaves:  # a generator takes 20 times as many instructions
                if leaf is None:
                    even = False
            if not even:
                parts.step(self, leaves, paths, request)
                return
        bound = self.binding.headers
        rows, _held = self._prepare(leaves, paths, request)
        factor, _, clip_norm, skip_nonfinite, _, _, norm, apart, measure, known = request
        binding = self.binding
        if measure:
            binding.survey()
        self.grad_norm = None
        factors: Sequence[float] = ()
        if clip_norm is not None or skip_nonfinite or binding.wide or binding.told or self.told:
            if (found := self._factor(request)) is None:
                if measure:
                    self.survey_skipped()
                return
            factor = found
            if apart:
                factors = self._clipped(found, clip_norm, norm)
        for k, row in enumerate(rows):
            if apart:
                factor = factors[k]
            if factor != 1.0:
                row = (row[0]*factor, *row[1:])
            for packer, buffer, size in self._packers:
                try:
                    packer.pack_into(buffer, k*size, *row)
                except OverflowError:  # noqa: PERF203 (a factor beyond float32 is infinite there)
                    packer.pack_into(buffer, k*size, math.copysign(math.inf, row[0]), *row[1:])
        if binding.plan.measured and not known:
            table = scaled(rows, factors or factor)
            for measured in binding.plan.measured:
                measured.fill(table, self.threads)
        if measure:
            self._survey()
        binding.plan.run(self.threads, self._count)  # a Ctrl-C comes before all of it or after all of it
        if bound is not None and bound is binding.headers and self.groups[0].ahead and self._repeats(bound, request):
            self._ready = Ready(binding.plan, bound, self.groups, self.coefs, self._t, request)

    def again(self, gradients: Gradients) -> bool:
        if (parts := self.parts) is not None and (part := parts.current) is not None:
            part.threads = self.threads
            return len(parts.live) == len(self.tensors) and part.again(gradients)
        ready = self._ready
        if ready is None or not ready.plain or self.told or not gradients.step(ready, self.threads):
            return False
        self.grad_norm = None
        return True

    def _prepare(self, leaves: list, paths: list[str], request: Request) -> tuple[list[tuple[float, ...]], list]:
        """Bind a step, and make its plan: rows of coefficients, and what must live until it has run."""
        t, limit, rows = self._t.value + 1, request.limit, []
        asked: list = [request.clip_norm is not None or request.factor != 1.0, limit != math.inf]
        for group in self.groups:  # first: schedules may run any code. No comprehension, which Python 3.11 calls
            asked.append(group.pieces)  # of the numbers from which the row is made, which schedules may change
            rows.append(group.coefficients(t, 1.0, limit))
        held = self.bind(leaves, paths, request.zero_grads, request.masks)
        if asked != self.binding.asked:
            self.binding.use(asked)
        return rows, held

    def measuring(self, leaves: list, paths: list[str], request: Request) -> list[Measured]:
        """What finds the coefficients of a step with such pieces. Its sums are to be found together with others'."""
        rows, _ = self._prepare(leaves, paths, request)
        factor: Any = self._factor(request)  # no number where the step is skipped, and then nobody asks
        table = scaled(rows, self._clipped(factor, request.clip_norm, request.norm) if request.apart else factor)
        for measured in self.binding.plan.measured:
            measured.begin(table)
        return self.binding.plan.measured

    def _factor(self, request: Request) -> float | None:
        """What multiplies the gradients, clipping included; None where the step is skipped, as they are not finite."""
        binding, factor, norm = self.binding, request.factor, request.norm
        if request.clip_norm is not None or request.skip_nonfinite:
            norm = global_norm(binding.buckets, self.threads, factor) if norm is None else norm
            factor *= 1.0 if request.apart else clip_factor(norm, request.clip_norm)
        self.grad_norm = norm
        if request.skip_nonfinite and not all_finite(binding.buckets, self.threads, norm or 0.0, factor):
            for gradient in binding.cleared:  # also of a step that is skipped
                gradient[...] = 0
            arrays.tell_autograd(binding.told)
            return None
        for job in binding.wide:
            job.numbers[JOB.factor] = factor
        if self.told or binding.told:
            arrays.tell_autograd([*self.told, *binding.told])
        return factor

    def _clipped(self, factor: float, limit: float | None, given: Any) -> list[float]:
        """The factor of each tensor's gradient, which is clipped by its own norm, if that is not given."""
        binding, factors = self.binding, [factor]*len(self.tensors)
        found = given or norms(partial(squares, binding.buckets, self.threads), factor)
        for k, norm in found.items():
            factors[k] *= clip_factor(norm, limit)
        for job in binding.wide:
            job.numbers[JOB.factor] = factors[job.members[0]]
        return factors

    def _survey(self) -> None:
        """Find the norms of each gradient, parameter and update."""
        measures = {k: np.zeros(MEASURE.many) for bucket in self.binding.buckets for k in bucket.members}
        for sums in self.binding.plan.surveys:
            found = sums.spans.norms(sums.of_tiles(self.threads))
            measures |= {sums.job.members[k]: found[:, j] for j, k in enumerate(sums.spans.of)}
        self.surveyed = lambda: measures

    def norm(self, leaves: list, paths: list[str], factor: float) -> float:
        held = self.bind(leaves, paths)  # noqa: F841 (arrays must live until the end)
        return global_norm(self.binding.buckets, self.threads, factor)

    def forget(self) -> None:
        self._ready = None

    def _repeats(self, headers: Headers, request: Request) -> bool:
        """Whether a step like this one, which has been taken, needs no look at anything but arrays."""
        return (headers.known and not headers.others and not self.binding.rows
                and not request.zero_grads and request.limit == math.inf and request.norm is None
                and not request.apart and not self.binding.plan.measured and all(group.ahead for group in self.groups))

    def tabulate(self) -> None:
        raise RuntimeError("tabulate: it is for optimizers on a CUDA device made with capturable=N. Leave it out.")

    def look_ahead(self) -> list[np.ndarray]:
        rows = [group.coefficients(self.t + 1, 1.0, math.inf) for group in self.groups] if self.rule.ahead else []
        self.look()
        if self._ahead is None:
            buffers = [self._zeros(t, t.array.dtype, 2 + len(self.rule.state)) for t in self.tensors]
            coefs = {dtype: np.zeros((len(self.groups), 1), dtype) for dtype in self.coefs}
            chance = self._chance
            ahead = Ahead(self, buffers, coefs, lambda layout, columns, groups, coefs, numbers:
                          Job(layout, columns, groups, coefs, chance=chance))
            plan = Plan([(step_kernel(ahead.kernel, layout), job) for layout, job in ahead.jobs])
            self._ahead, self._unseen = (ahead, plan), True
        ahead, plan = self._ahead
        for coefs in ahead.coefs.values() if rows else ():
            coefs[:, 0] = [row[ahead.field] for row in rows]
        plan.run(self.threads)
        return ahead.buffers


def scaled(rows: Sequence[tuple[float, ...]], factor: float | Sequence[float]) -> np.ndarray:
    """A row of coefficients for each group, in float64, with the factor of the gradients, or of those of each group."""
    table = np.array(rows)
    table[:, 0] *= factor
    return table
