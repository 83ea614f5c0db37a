"""Steps on arrays of a CUDA device: what is enqueued, on which stream, and what happens in a capture.

A step is, on the stream of the parameters' library: the sums of squares, where a norm is wanted; `cuda.advance`, which counts the step,
or refuses to, and makes its coefficients current; one launch per mix of formats. What changed on the host (a row of coefficients,
addresses of gradients) goes along in the parameters of `advance`. The host waits for nothing, reads nothing back and allocates nothing.
"""
import math
import warnings
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np

from .._checks.numbers import check_number
from .._formats.catalogue import Format, arithmetic
from .._rule.groups import Group
from .._rule.pipeline import LOOK_AHEAD
from .._rule.rule import Rule
from .._tensors import arrays
from .._tensors.arrays import DeviceArray, view
from .._tensors.backend import Machine, Pair, ahead_columns, ahead_layouts, state_dtype
from .._tensors.device_array import dense_strides, library, on_cuda
from .._tensors.tensors import PerTensor, Tensor, by_layout
from ..storage import coded_bytes, encode
from . import driver
from .advance import MODE, PARAMETERS
from .clock import Advance, Clock, Post
from .look import check_still, follow, sights
from .streams import Streams, hand_over, makers
from .tables import MOST, Bound, Gradients, Job, Tables

KINDS = 4     # of gradients whose tables are kept: of other formats, or in other memory orders
ALIGNED = 32  # elements: states start where their parameter does within so many, so that all slots are aligned alike


class Device(Machine):
    """What carries out the steps of an optimizer whose parameters are arrays of a CUDA device."""

    def __init__(self, rule: Rule, tensors: list[Tensor], groups: Sequence[Group], formats: dict[str, list[Format]],
                 outputs: dict[str, PerTensor], seed: int, capturable: int):
        ordinal = next((t.array.device for t in tensors if t.array.device is not None), 0)
        self.gpu = driver.gpu(ordinal)
        super().__init__(rule, tensors, groups, formats, outputs, seed)
        self.sights = sights(self)
        self.capturable = capturable
        self.place = f", on CUDA device {ordinal}"
        self.streams = Streams(self.gpu, [t.original for t in tensors])
        self.clock = Clock(self.gpu, rule, groups, capturable)
        self.dtypes = {arithmetic(t.format).dtype for t in tensors}
        self.coefs = self._coefs(len(rule.fields))
        self.advance = Advance(self.clock, self.coefs, 0, len(rule.fields))
        self.bound: Bound | None = None
        self.tables: dict[tuple, Tables] = {}   # of the kinds of gradients that came last
        self.dropped: set[tuple] | None = set() # kinds whose tables are gone; None: that they come back has been said
        self.addresses: list[int] = []          # of the gradients of the next step
        self.captured: list = []                # what graphs refer to
        self.normed = False
        self._ahead: _Ahead | None = None
        self.ahead_buffers: list[DeviceArray] | None = None
        if capturable:
            self.bind([t.original for t in tensors], [t.path for t in tensors])  # gradients like the parameters are ready to be captured
            self._plan(self._bound().tables, True, [], [])
            self.clock.tabulate()

    def _coefs(self, columns: int) -> dict[np.dtype, driver.Memory]:
        return {dtype: self.gpu.allocate(dtype.itemsize*columns*len(self.groups)) for dtype in self.dtypes}

    # Memory

    def filled(self, like: DeviceArray, dtype: Any, value: np.generic, bits: bool = False) -> DeviceArray:
        """New memory in the shape and the memory order of a parameter."""
        dtype = np.dtype(dtype)
        memory = self.gpu.allocate((like.size + ALIGNED)*dtype.itemsize)
        place = like.address//like.itemsize % ALIGNED
        strides = tuple(s//like.itemsize*dtype.itemsize for s in like.strides) if like.size else dense_strides(like.shape, dtype.itemsize)
        new = DeviceArray(memory.address + place*dtype.itemsize, like.shape, dtype, strides, device=self.gpu.ordinal, owner=memory,
                          bits=bits)
        self.gpu.fill(new.address, new.size, value)
        return new

    def _new_state(self, name: str, format: Format, t: Tensor) -> DeviceArray:
        initial = self._initial(name, t)
        if format.block:  # alone in its memory, which begins at a multiple of 256 bytes: a thread loads four codes as one word
            memory = self.gpu.allocate(coded_bytes(t.array.size))
            new = DeviceArray(memory.address, (memory.size,), np.uint8, device=self.gpu.ordinal, owner=memory)
            self.gpu.fill(new.address, new.size, np.uint8(0))
            if initial:
                self.gpu.upload(new.address, encode(np.full(t.array.size, initial), format))
            return new
        dtype = state_dtype(format, t)
        return self.filled(t.array, dtype, encode(np.array([initial]), format).view(dtype)[0])

    def _new_remainder(self, t: Tensor) -> DeviceArray:
        if t.format.split:
            return self.filled(t.array, np.uint16, np.uint16(0), bits=True)
        return DeviceArray(0, (0,), np.uint16, device=self.gpu.ordinal, bits=True)

    def buffers(self) -> list[DeviceArray]:
        """Zeros like the parameters, for gradients."""
        return [self.filled(t.array, t.array.dtype, t.array.dtype.type(0)) for t in self.tensors]

    def visible(self, array: DeviceArray, t: Tensor) -> Any:
        """A state or buffer as an array of its parameter's library."""
        return library(t.original).wrap(array, t.original)

    def read(self, array: DeviceArray, copy: bool) -> np.ndarray:
        """A state as a NumPy array; a copy always."""
        return array.copy_to_host()

    def put(self, pairs: Iterable[Pair], calls: Iterable["partial[Any]"] = ()) -> None:
        """Write arrays to their targets, as bits of the same shape and format, and make the calls: all of it or nothing."""
        uploads = []
        pairs = list(pairs)
        for target, source in pairs:
            raw = np.empty(target.nbytes, np.uint8)
            np.ndarray(target.shape, target.dtype, raw, 0, target.strides)[...] = source.view(target.dtype)
            uploads += self.gpu.uploading(target.address, raw)
        self.tell(pairs)
        self.gpu.put([*uploads, *calls])

    # Steps

    def look(self) -> None:
        """Look at every array that a step writes: follow what moved, or raise before anything is written."""
        if self.streams.pending:
            self.streams.release()
        for sight in self.sights:
            if sight.facts(sight.original) != sight.known:
                follow(self)
                return

    def check_own(self) -> None:
        """Nothing to look at: the program sees our memory through arrays of its own, and a `DeviceArray` does not change."""

    @property
    def t(self) -> int:
        self.streams.release()
        return self.clock.t

    @t.setter
    def t(self, steps: int) -> None:
        self.put([], self.clock.setting(steps, self.groups))

    @property
    def grad_norm(self) -> float | None:
        return self.clock.norm() if self.normed or self.clock.replayed else None

    def factor(self, given: Any) -> Any:
        """The gradient factor of a step, checked: a number, or an array of one element on the device, read when the step runs."""
        if isinstance(given, (int, float)) or not (hasattr(type(given), "__cuda_array_interface__") or on_cuda(given)):
            return check_number("grad_factor", given, "step", "")
        array = view(given, "grad_factor")
        if not isinstance(array, DeviceArray):
            return check_number("grad_factor", given, "step", "")
        if array.size != 1 or array.dtype not in (np.float32, np.float64) or array.device != self.gpu.ordinal:
            raise ValueError(f"step: grad_factor has {array.size} elements of {array.dtype} on device {array.device}, but a number, or one "
                             f"float32 or float64 element on device {self.gpu.ordinal}, is needed. Change grad_factor.")
        return array

    def resuming(self, t: int, seed: int, groups: Sequence[Group]) -> list["partial[Any]"]:
        """What to call so that t steps have been taken, with this seed; graphs that were captured before keep theirs."""
        tables = (*self.tables.values(), *([self.bound.tables] if self.bound else []))
        return [*self.clock.setting(t, groups), partial(setattr, self, "seed", seed),
                *(call for of in tables for job in of.jobs for call in job.reseeding(seed))]

    def bind(self, leaves: list, paths: list[str], zeroed: bool = False) -> list:
        """Make the next step that of these gradients, which it then sets to zero if `zeroed`.

        Whatever is wrong with one is said before anything is enqueued.
        """
        self.look()
        bound = self.bound
        addresses = bound.gradients.like(leaves) if bound and bound.gradients.zeroed == zeroed else None
        if addresses is None:
            gradients = Gradients(leaves, paths, self.tensors, self.written, self.streams.library, zeroed)
            addresses = gradients.addresses
            tables = self._tables(gradients)
            gradients.release()
            self.bound = Bound(gradients, tables)  # together: an interrupt must not part them
        self.addresses = addresses
        return leaves

    def _tables(self, gradients: Gradients) -> Tables:
        """The tables of gradients of this kind: those that are there, or new ones."""
        if gradients.kind not in self.tables:
            if self.streams.capturing():
                self._check_capturable()
                raise RuntimeError("step: the stream is being captured, but gradients of these formats and memory orders were not stepped "
                                   "with before, and memory cannot be allocated now. Take one step with such gradients first.")
            with self.gpu.current():
                new = Tables(self.gpu, self.rule, self.tensors, self.slots, self.remainders, gradients, self.coefs, self.clock.memory,
                             self.seed)
            if self.capturable:
                new.norm  # noqa: B018 (made now: a capture may want it)
            kept = list(self.tables.items())[-(KINDS - 1):]
            self._say_dropped(gradients.kind, [kind for kind in self.tables if kind not in dict(kept)])
            self.tables = {**dict(kept), gradients.kind: new}
        return self.tables[gradients.kind]

    def _say_dropped(self, kind: tuple, gone: list[tuple]) -> None:
        """Say it once when tables are made again that were there: each time the host waits for the device."""
        if self.dropped is None or len(self.dropped) > MOST:
            return
        if kind in self.dropped:
            self.dropped = None
            warnings.warn(f"fastopt: gradients of more than {KINDS} kinds (formats, memory orders, zero_grads) come in turn. The tables of "
                          f"{KINDS} are kept; to make others the host waits for the device. Give gradients of fewer kinds.", RuntimeWarning,
                          stacklevel=2)
        else:
            self.dropped |= set(gone)

    def _check_capturable(self) -> None:
        if not self.capturable:
            raise RuntimeError("step: the stream is being captured, but coefficients come from the host at every step. Make the optimizer "
                               "with capturable=N, N being the number of steps that the graph will be replayed.")

    def _bound(self) -> Bound:
        if self.bound is None:
            raise RuntimeError("step: no gradients are bound. Pass them.")
        return self.bound

    def _plan(self, tables: Tables, norm: bool, addresses: list[Post], coefficients: list[Post]) -> driver.Launches:
        """The launches of a step, with room for these posts."""
        key = norm, self.advance.room(addresses, coefficients)
        if key not in tables.plans:
            front, squares = self.advance.launches(), tables.norm.launches if norm else []
            tables.plans[key] = driver.Launches([*front[:-1], *squares, front[-1], *tables.launches])
        return tables.plans[key]

    def coefficients(self, factor: Any, limit: float) -> float:
        """The limit alone: the rest is sent, or lies on the device already, when the step is enqueued."""
        return limit

    def step(self, leaves: list, limit: float, factor: Any, clip_norm: float | None, skip_nonfinite: bool) -> None:
        """Enqueue a step with the bound gradients; all numbers are checked."""
        if skip_nonfinite and self._bound().gradients.zeroed:
            raise ValueError("step: zero_grads together with skip_nonfinite, but a step that is skipped on the device would leave the "
                             "gradients. Set them to zero yourself, or leave out one of the two.")
        before = driver.do("cuCtxGetCurrent")
        if int(before) == self.gpu.handle:  # the rule
            self._enqueue(leaves, factor, limit, clip_norm, skip_nonfinite)
            return
        try:  # as `Gpu.current`, which takes longer
            driver.do("cuCtxSetCurrent", self.gpu.context)
            self._enqueue(leaves, factor, limit, clip_norm, skip_nonfinite)
        finally:
            driver.do("cuCtxSetCurrent", before)

    def _enqueue(self, leaves: list, factor: Any, limit: float, clip_norm: float | None, skip_nonfinite: bool) -> None:
        stream, clock, (gradients, tables) = self.streams.now(), self.clock, self._bound()
        capturing, normed = self.gpu.capture(stream), clip_norm is not None or skip_nonfinite
        on_device = isinstance(factor, DeviceArray)
        others = [gradients.makers, makers([factor.owner], self.streams.library)] if on_device else [gradients.makers]
        streams = self.streams.others(stream, others, capturing)
        coefficients = self._coefficients(capturing)
        if any(group.functions for group in self.groups):
            check_still(self, leaves)
        addresses = tables.posts(self.addresses, bool(capturing) or clock.replayed)
        plan, main = self._plan(tables, normed, addresses, coefficients), self.advance.main
        main.words[PARAMETERS.sums], main.words[PARAMETERS.count] = (tables.norm.sums.address, tables.norm.count) if normed else (0, -1)
        main.words[PARAMETERS.factor_at] = factor.address if on_device else 0
        main.floats[PARAMETERS.factor], main.floats[PARAMETERS.limit] = 1.0 if on_device else factor, limit
        main.floats[PARAMETERS.clip_norm] = math.inf if clip_norm is None else clip_norm
        mode = MODE.count + (MODE.check if skip_nonfinite else 0) + (MODE.single if on_device and factor.itemsize == 4 else 0)
        skip = self.advance.fill(mode, addresses, coefficients)
        arrays.tell_autograd(self.told)
        hand_over(self.streams.packed, stream)
        packed = gradients.hand_over(leaves, factor, stream)
        self.streams.begin(stream, streams, capturing)
        if capturing:
            self._capture([tables, factor, leaves])
            plan.run(stream, skip)
            return
        if addresses:
            tables.sent = [-1]*len(self.addresses)  # until it is certain that they have been
        if stream:
            gradients.record(leaves, factor, self.gpu.ordinal, stream)
        self.normed = normed
        try:
            plan.run(stream, skip, clock.done, 0 if skip_nonfinite else 1)
        except driver.CudaError:
            clock.refused()
            raise
        tables.sent = self.addresses
        if coefficients:
            clock.sent()
        self.streams.finish(stream, streams, packed)

    def _capture(self, used: list) -> None:
        """Note, before a graph refers to them, what must live as long as it may be replayed; and that steps may go uncounted here."""
        self.captured += [x for x in used if not any(x is y for y in self.captured)]
        self.clock.replayed = True

    def _coefficients(self, capturing: int) -> list[Post]:
        """The coefficients that must be sent with the next step."""
        if not self.capturable:
            if capturing:
                self._check_capturable()
            return self.clock.next()
        if not capturing:
            self.clock.tabulated()
        return []

    def tabulate(self) -> None:
        """Coefficients for the next `capturable` steps, with the hyperparameters of now."""
        if not self.capturable:
            raise RuntimeError("tabulate: coefficients come from the host at every step. It is for optimizers made with capturable=N.")
        self.clock.tabulate()

    def look_ahead(self) -> list[DeviceArray]:
        """The look-ahead point of the next step, in buffers that are allocated once."""
        self.look()
        if self._ahead is None:
            if self.streams.capturing():
                raise RuntimeError("lookahead: the stream is being captured, and its buffers cannot be allocated now. Call it once before.")
            with self.gpu.current():
                self.ahead_buffers = self.ahead_buffers or self.buffers()
                self._ahead = _Ahead(self, self.ahead_buffers)
        with self.gpu.current():
            self._ahead.point(self)
        return self._ahead.buffers


class _Ahead:
    """The look-ahead point's buffers and launches."""

    def __init__(self, device: Device, buffers: list[DeviceArray]):
        tensors, velocity = device.tensors, device.states["v"]
        self.buffers = buffers
        self.coefs = device._coefs(1)
        self.advance = Advance(device.clock, self.coefs, device.rule.fields.index(str(device.rule.ahead)), 1)
        self.jobs = []
        for layout, indices in by_layout(ahead_layouts(tensors, velocity)).items():
            columns = ahead_columns(indices, tensors, self.buffers, velocity, device.remainders)
            self.jobs.append(Job(device.gpu, layout, columns, [tensors[k].group for k in indices], [],
                                 self.coefs[layout.arithmetic.dtype], device.clock.memory, indices, device.seed))
        self.launches = [launch for job in self.jobs for launch in job.launches([LOOK_AHEAD]*len(device.groups))]
        self.plan: driver.Launches | None = None
        self.room = 0

    def point(self, device: Device) -> None:
        stream = device.streams.now()
        capturing = device.gpu.capture(stream)
        streams = device.streams.others(stream, [], capturing)
        coefficients = device._coefficients(capturing)
        if self.advance.room([], coefficients) != self.room or self.plan is None:
            self.room = len(self.advance.extra)
            self.plan = driver.Launches([*self.advance.launches(), *self.launches])
        skip = self.advance.fill(MODE.peek, [], coefficients)
        hand_over(device.streams.packed, stream)
        device.streams.begin(stream, streams, capturing)
        if capturing:
            device._capture([self])
            self.plan.run(stream, skip)
            return
        self.plan.run(stream, skip)
        if coefficients:
            device.clock.sent()
        device.streams.finish(stream, streams, [])
