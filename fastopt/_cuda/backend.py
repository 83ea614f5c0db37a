"""Steps on arrays of a CUDA device: what is enqueued, on which stream, and what happens in a capture.

A step enqueues these launches on the stream of the parameters' library: the sums of squares, where a norm is wanted;
`advance.advance`, which counts the step, or refuses to, and makes its coefficients current; one per mix of formats.
What changed on the host (a row of coefficients, addresses of gradients) goes along in the parameters of `advance`. The
host waits for nothing, reads nothing back and allocates nothing.
"""
import math
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from .._checks.numbers import check_number
from .._checks.warning import warn
from .._formats.catalogue import Format, arithmetic
from .._kernels.memory import WORD
from .._rule.groups import Group
from .._rule.pipeline import row_length
from .._rule.rule import Rule
from .._tensors.adapters import on_cuda, tell_autograd, view
from .._tensors.backend import Ahead, Pair, Request, Stored, clip_factor, state_dtype
from .._tensors.device_array import DeviceArray, dense_strides, place
from .._tensors.tensors import Tensor
from ..storage import coded_bytes, encode
from . import driver
from .advance import MODE, PARAMETERS
from .clock import Advance, Clock, Post
from .libraries import library
from .look import check_still, follow, sights
from .loops import CLOCK
from .streams import Makers, Streams, hand_over, makers
from .tables import REMEMBERED, Bound, Bucket, Gradients, Tables

KEPT_KINDS = 4  # of gradients whose tables are kept: of other formats, or in other memory orders
WAITS = "for this the host waits for the device"
ANOTHER_TIME = "{} before the capture begins, or after its end."
ALIGNED = 32    # elements: states start where their parameter does within so many, so that all slots are aligned alike


class CudaBackend(Stored):
    """What carries out the steps of an optimizer whose parameters are arrays of a CUDA device."""

    def __init__(self, rule: Rule, tensors: list[Tensor], groups: Sequence[Group], *arguments: Any, **more: Any):
        ordinal = next((t.array.device for t in tensors if t.array.device is not None), 0)
        self.gpu = driver.gpu(ordinal)
        self.streams = Streams(self.gpu, [t.original for t in tensors])
        self.streams.outside(groups[0].where, "memory for its states cannot be allocated now",
                             ANOTHER_TIME.format("Make the optimizer"))
        super().__init__(rule, tensors, groups, *arguments, **more)
        capturable = self.capturable
        self.sights = sights(self)
        self.where = f", on CUDA device {ordinal}"
        self.clock = Clock(self.gpu, rule, groups, capturable)
        self.coefs = self._coefs(row_length(rule))
        self.advance = Advance(self.clock, self.coefs, 0, row_length(rule))
        self.bound: Bound | None = None
        self.tables: dict[tuple, Tables] = {}    # of the kinds of gradients that came last
        self.dropped: set[tuple] | None = set()  # kinds whose tables are gone; None: their return has been said
        self.addresses: list[int] = []           # of the gradients of the next step
        self.captured: list = []                 # what graphs refer to
        self.normed = False
        self.known_norm: float | None = None     # of the last step, where it was found elsewhere
        self._masks: Sequence[np.ndarray] = []   # the last that were asked for
        self._copies: list[DeviceArray] = []
        self.ahead_buffers: list[DeviceArray] | None = None
        self._ahead: _AheadLaunches | None = None
        if capturable:
            # gradients like the parameters are ready to be captured
            self.bind([t.original for t in tensors], [t.path for t in tensors])
            self._plan(self._bound().tables, True, [], [], self._asked(Request()), Request())
            self.clock.tabulate()

    def _coefs(self, columns: int) -> dict[np.dtype, driver.Memory]:
        dtypes = {arithmetic(t.format).dtype for t in self.tensors} | {np.dtype(np.float64)}  # for measured pieces
        return {dtype: self.gpu.allocate(dtype.itemsize*columns*len(self.groups)) for dtype in dtypes}

    # Memory

    def filled(self, like: DeviceArray, dtype: Any, value: np.generic, bits: bool = False) -> DeviceArray:
        """New memory in the shape and the memory order of a parameter."""
        size, dtype = like.itemsize, np.dtype(dtype)
        memory = self.gpu.allocate((like.size + ALIGNED)*dtype.itemsize)
        start = memory.address + like.address//size % ALIGNED*dtype.itemsize
        strides = (tuple(s//size*dtype.itemsize for s in like.strides) if like.size
                   else dense_strides(like.shape, dtype.itemsize))
        new = DeviceArray(start, like.shape, dtype, strides, device=self.gpu.ordinal, owner=memory, bits=bits)
        self.gpu.fill(new.address, new.size, value)
        return new

    def new_state(self, name: str, format: Format, t: Tensor) -> DeviceArray:
        initial = self.initial(name, t)
        if not format.block:
            dtype = state_dtype(format, t)
            return self.filled(t.array, dtype, encode(np.array([initial]), format).view(dtype)[0])
        # alone in its memory, which begins at a multiple of 256 bytes: a thread loads four codes as one word
        memory = self.gpu.allocate(coded_bytes(t.array.size))
        new = DeviceArray(memory.address, (memory.size,), np.uint8, device=self.gpu.ordinal, owner=memory)
        self.gpu.fill(new.address, new.size, np.uint8(0))
        if initial:
            self.gpu.upload(new.address, encode(np.full(t.array.size, initial), format))
        return new

    def new_remainder(self, t: Tensor) -> DeviceArray:
        if t.format.split:
            return self.filled(t.array, np.uint16, np.uint16(0), bits=True)
        return DeviceArray(0, (0,), np.uint16, device=self.gpu.ordinal, bits=True)

    def buffers(self) -> list[DeviceArray]:
        self.streams.outside("grads", "buffers cannot be allocated now", "Read opt.grads once before it begins.")
        return [self.filled(t.array, t.array.dtype, t.array.dtype.type(0)) for t in self.tensors]

    def visible(self, array: DeviceArray, t: Tensor) -> Any:
        found = library(t.original).wrap(t.as_given(array), t.original)
        if not isinstance(found, DeviceArray):
            return found
        return found.guarded(partial(self.streams.outside, "DeviceArray", WAITS, ANOTHER_TIME.format("Read it")))

    def outside(self, where: str, do: str = "", counts: bool = False) -> None:
        if not counts or self.clock.uncertain:
            self.streams.outside(where, WAITS, ANOTHER_TIME.format(do or f"Call {where}"))

    def read(self, array: DeviceArray, copy: bool) -> np.ndarray:
        return array.copy_to_host()  # a copy always

    def put(self, pairs: Iterable[Pair], calls: Iterable["partial[Any]"] = ()) -> None:
        uploads = []
        pairs = list(pairs)
        for target, source in pairs:
            raw = np.empty(target.nbytes, np.uint8)
            np.ndarray(target.shape, target.dtype, raw, 0, target.strides)[...] = source.view(target.dtype)
            uploads += self.gpu.uploading(target.address, raw)
        self.tell(pairs)
        self.gpu.put([*uploads, *calls])

    def resuming(self, t: int, seed: int, groups: Sequence[Group]) -> list["partial[Any]"]:
        """See `Backend.resuming`. Graphs that were captured before keep their seed."""
        tables = (*self.tables.values(), *([self.bound.tables] if self.bound else []))
        return [*self.clock.setting(t, groups), partial(setattr, self, "seed", seed),
                *(call for of in tables for bucket in of.buckets for call in bucket.reseeding(seed))]

    # Arrays that moved

    def look(self) -> None:
        if self.streams.pending:
            self.streams.release()
        for sight in self.sights:
            if sight.facts(sight.original) != sight.known:
                follow(self)
                return

    def check_own(self) -> None:
        """Nothing to look at: the program has arrays of its own of our memory, and a `DeviceArray` is fixed."""

    def shown(self) -> None:
        """Nothing more to look at."""

    def forget(self) -> None:
        """Nothing is known of the next step."""

    # What is known of steps

    @property
    def taken(self) -> int:
        self.streams.release()
        return self.clock.t

    @taken.setter
    def taken(self, steps: int) -> None:
        self.put([], self.clock.setting(steps, self.groups))

    @property
    def grad_norm(self) -> float | None:
        if self.known_norm is not None:
            return self.known_norm
        if not (self.normed or self.clock.replayed):
            return None
        self.outside("grad_norm", "Read opt.grad_norm")
        return self.clock.norm()

    def no_norm(self) -> None:
        self.known_norm, self.normed = None, False

    def tabulate(self) -> None:
        if not self.capturable:
            raise RuntimeError("tabulate: coefficients come from the host at every step. It is for optimizers made "
                               "with capturable=N.")
        self.outside("tabulate")
        self.clock.tabulate()

    # Gradients

    def factor(self, given: Any) -> Any:
        """A gradient factor, checked: a number, or an array of one element on the device, read when the step runs."""
        array = given
        if not isinstance(given, (int, float)) and (hasattr(type(given), "__cuda_array_interface__") or on_cuda(given)):
            array = view(given, "grad_factor")
        if place(array) == "cpu":
            return check_number("grad_factor", given, "step")
        if array.size != 1 or array.dtype not in (np.float32, np.float64) or array.device != self.gpu.ordinal:
            raise ValueError(f"step: grad_factor has {array.size} elements of {array.dtype} on device {array.device}, "
                             f"but a number, or one float32 or float64 element on device {self.gpu.ordinal}, is "
                             "needed. Change grad_factor.")
        return array

    def bind(self, leaves: list, paths: list[str], zeroed: bool = False, masks: Sequence[np.ndarray] = ()) -> list:
        self.look()
        copies = self._copied(masks) if masks else []
        bound, asked = self.bound, (zeroed, bool(masks))
        addresses = bound.gradients.like(leaves) if bound and bound.gradients.kind[:2] == asked else None
        if addresses is None:
            gradients = Gradients(leaves, paths, self.tensors, self.written, self.streams.library, zeroed, copies)
            addresses = gradients.addresses
            tables = self._tables(gradients)
            gradients.release()
            self.bound = Bound(gradients, tables)  # together: an interrupt must not part them
        self.addresses = addresses
        return leaves

    def _copied(self, masks: Sequence[np.ndarray]) -> list[DeviceArray]:
        """Masks in memory of the device, whose addresses stay. To change them the host waits for the device."""
        same = masks is self._masks or (self._masks and all(map(np.array_equal, masks, self._masks)))
        if not same:
            self.streams.outside("step", "the mask is another than that of the last step, and it cannot be sent now",
                                 "Take one step with this mask first.")
            with self.gpu.current():
                driver.do("cuCtxSynchronize")
                self._masks = []  # a Ctrl-C may leave copies of two masks
                self._copies = self._copies or [self.filled(t.array, np.uint8, np.uint8(0)) for t in self.tensors]
                for copy, row in zip(self._copies, masks, strict=True):
                    self.gpu.upload(copy.address, row)
            self._masks = [row.copy() for row in masks]
        return self._copies

    def _tables(self, gradients: Gradients) -> Tables:
        """The tables of gradients of this kind: those that are there, or new ones."""
        if gradients.kind not in self.tables:
            self._check_capturable(self.streams.capturing())
            self.streams.outside("step", "gradients of these formats and memory orders were not stepped with before, "
                                 "and memory cannot be allocated now", "Take one step with such gradients first.")
            with self.gpu.current():
                new = Tables(self.gpu, self.rule, self.tensors, self.slots, self.remainders, gradients, self.coefs,
                             self.clock.memory, self.seed)
            if self.capturable:
                new.norm  # noqa: B018 (made now: a capture may want it)
            kept = list(self.tables.items())[-(KEPT_KINDS - 1):]
            self._say_dropped(gradients.kind, [kind for kind in self.tables if kind not in dict(kept)])
            self.tables = {**dict(kept), gradients.kind: new}
        return self.tables[gradients.kind]

    def _say_dropped(self, kind: tuple, gone: list[tuple]) -> None:
        """Say it once when tables are made again that were there: each time the host waits for the device."""
        if self.dropped is None or len(self.dropped) > REMEMBERED:
            return
        if kind not in self.dropped:
            self.dropped |= set(gone)
            return
        self.dropped = None
        warn(f"fastopt: gradients of more than {KEPT_KINDS} kinds (formats, memory orders, zero_grads) come in turn. "
             f"The tables of {KEPT_KINDS} are kept; to make others the host waits for the device. Give gradients of "
             "fewer kinds.", RuntimeWarning)

    def _check_capturable(self, capturing: int, where: str = "step") -> None:
        if capturing and not self.capturable:
            raise RuntimeError(f"{where}: the stream is being captured, but coefficients come from the host at every "
                               "step. Make the optimizer with capturable=N, N being the number of steps that the graph "
                               "will be replayed.")

    def _check_whole(self, where: str, leaves: list) -> None:
        """ValueError where steps would be of a part of the parameters, but graphs replay those of all."""
        live = sum(leaf is not None for leaf in leaves)
        if self.capturable and 0 < live < len(leaves):
            raise ValueError(f"{where}: a gradient is None, but with capturable= all steps are alike. Give all "
                             "gradients, or make the optimizer without.")
        if self.capturable and live and where == "step":
            raise ValueError("step: some parameters have had fewer steps than others, but with capturable= all steps "
                             "are alike. Make the optimizer without, and load its state_dict() there.")

    def _check_known(self, tables: Tables, asked: tuple, request: Request) -> None:
        if (asked, request.apart, request.measure) not in tables.known:
            found = ["measure=True"]*request.measure + ['clip="tensor"']*request.apart
            what = " and ".join(found) or "these hyperparameters and such gradients"
            raise RuntimeError(f"step: the stream is being captured, but a first step with {what} needs memory, which "
                               f"cannot be allocated now. Take one step with {what} first.")

    def _bound(self) -> Bound:
        if self.bound is None:
            raise RuntimeError("step: no gradients are bound. Pass them.")
        return self.bound

    # Steps

    def step(self, leaves: list, paths: list[str], request: Request) -> None:
        if (parts := self.parts) is not None and not (parts.even and all(leaf is not None for leaf in leaves)):
            self._check_capturable(self.streams.capturing())
            self._check_whole("step", leaves)
            parts.step(self, leaves, paths, request)
            return
        self.bind(leaves, paths, request.zero_grads, request.masks)
        if request.skip_nonfinite and request.zero_grads:
            raise ValueError("step: zero_grads together with skip_nonfinite, but a step that is skipped on the device "
                             "would leave the gradients. Set them to zero yourself, or leave out one of the two.")
        if (norm := request.norm) is not None:
            if place(request.factor) == "cuda":
                raise ValueError("step: norm with a grad_factor on the device, but they are multiplied here. Give "
                                 "grad_factor as a number, or leave out norm.")
            factor = request.factor*clip_factor(norm, request.clip_norm)
            request = request._replace(factor=factor, clip_norm=None)
            if request.skip_nonfinite and not math.isfinite(norm):
                self.known_norm = norm
                if request.measure:
                    self.survey_skipped()
                return
        before = driver.do("cuCtxGetCurrent")
        if int(before) == self.gpu.handle:  # the rule
            self._enqueue(leaves, request)
            return
        try:  # as `Gpu.current`, which takes longer
            driver.do("cuCtxSetCurrent", self.gpu.context)
            self._enqueue(leaves, request)
        finally:
            driver.do("cuCtxSetCurrent", before)

    def norm_of(self, leaves: list, paths: list[str], factor: float) -> float:
        self.streams.outside("norm", WAITS, ANOTHER_TIME.format("Step with clip_norm; or call norm"))
        self._check_whole("norm", leaves)
        return super().norm_of(leaves, paths, factor)

    def norm(self, leaves: list, paths: list[str], factor: float) -> float:
        self.bind(leaves, paths)
        with self.gpu.current():
            self._order(self.streams.now(), [self._bound().gradients.makers], "norm")  # before the host waits
        memory, last, found = self.clock.memory.address + WORD*CLOCK.norm, np.zeros(1), np.zeros(1)
        self.gpu.download(last, memory)
        with self.gpu.current():
            self._enqueue(leaves, Request(factor, clip_norm=math.inf), MODE.peek)
        self.gpu.download(found, memory)
        self.gpu.upload(memory, last)  # that of the last step
        return float(found[0])

    def _enqueue(self, leaves: list, request: Request, mode: int = MODE.count) -> None:
        """Enqueue a step; with `MODE.peek`, all of it but the update."""
        stream, clock, (gradients, tables) = self.streams.now(), self.clock, self._bound()
        factor, normed = request.factor, request.clip_norm is not None or request.skip_nonfinite
        steps = mode == MODE.count
        on_device = place(factor) == "cuda"
        lent = [factor.owner] if on_device else []
        others = [gradients.makers, makers(lent, self.streams.library)] if lent else [gradients.makers]
        capturing, streams = self._order(stream, others, "step" if steps else "norm")
        asked = self._asked(request) if steps else ()  # before schedules, which may change hyperparameters, for later
        coefficients = self._coefficients(capturing) if steps else []
        if steps and any(group.functions for group in self.groups):
            check_still(self, leaves)
        addresses = tables.posts(self.addresses, bool(capturing) or clock.replayed)
        if capturing and steps:
            self._check_known(tables, asked, request)
        plan = self._plan(tables, normed, addresses, coefficients, asked, request)
        if request.apart and request.clip_norm is not None:
            tables.limit(asked, request.clip_norm)
        main, at = self.advance.main, PARAMETERS
        main.words[at.sums], main.words[at.count] = (tables.norm.sums.address, tables.norm.count) if normed else (0, -1)
        main.words[at.factor_at] = factor.address if on_device else 0
        main.floats[at.factor], main.floats[at.limit] = 1.0 if on_device else factor, request.limit
        main.floats[at.clip_norm] = math.inf if request.apart or request.clip_norm is None else request.clip_norm
        mode += MODE.check if request.skip_nonfinite else 0
        mode += MODE.single if on_device and factor.itemsize == 4 else 0
        skip = self.advance.fill(mode, addresses, coefficients)
        tell_autograd(self.told)
        hand_over(self.streams.packed, stream)
        lent = lent if on_device and factor.foreign else []
        packed = gradients.hand_over(leaves, lent, stream)
        self.streams.begin(stream, streams, capturing)
        if request.measure:
            self.surveyed = partial(_norms, self.streams, tables, asked, request.apart)
        if capturing:
            self._capture([tables, factor, leaves])
            plan.run(stream, skip)
            return
        if addresses:
            tables.sent = [-1]*len(self.addresses)  # until it is certain that they have been
        if stream:
            gradients.record(leaves, lent, self.gpu.ordinal, stream)
        if steps:
            self.normed, self.known_norm = normed, request.norm
        try:
            plan.run(stream, skip, clock.done if steps else 0, 0 if request.skip_nonfinite else 1)
        except driver.CudaError:
            clock.refused()
            raise
        tables.sent = self.addresses
        if coefficients:
            clock.sent()
        self.streams.finish(stream, streams, packed)

    def _order(self, stream: int, others: Sequence[Makers], where: str) -> tuple[int, list[int]]:
        """The capture that records the stream, if any, and the other streams for which it must wait."""
        capturing = self.gpu.capture(stream)
        return capturing, self.streams.others(stream, others, capturing, where)

    def _asked(self, request: Request) -> tuple:
        """The pieces that a step asks for, as arguments of `pipelines`. Graphs hold those whose use may change, too."""
        if self.capturable:
            return (True, True, *[group.lasting for group in self.groups])
        scaled = request.clip_norm is not None or request.factor != 1.0
        return (scaled, request.limit != math.inf, *[group.pieces for group in self.groups])

    def _plan(self, tables: Tables, norm: bool, addresses: list[Post], coefficients: list[Post],
              asked: tuple, request: Request) -> driver.Launches:
        """The launches of a step, with room for these posts."""
        own = asked, request.apart, request.measure
        key = norm, self.advance.room(addresses, coefficients), own
        if key not in tables.plans:
            front, squares = self.advance.launches(), tables.norm.launches if norm else []
            updates = tables.launches(*own) if asked else []
            tables.plans[key] = driver.Launches([*front[:-1], *squares, front[-1], *updates])
        return tables.plans[key]

    def _capture(self, used: list) -> None:
        """Note what a graph will refer to, which must live as long as it. From now on steps may go uncounted here."""
        self.captured += [x for x in used if not any(x is y for y in self.captured)]
        self.clock.replayed = True

    def _coefficients(self, capturing: int, where: str = "step") -> list[Post]:
        """The coefficients that must be sent with the next step."""
        if not self.capturable:
            self._check_capturable(capturing, where)
            return self.clock.next()
        if not capturing:
            self.clock.tabulated()
        return []

    def look_ahead(self) -> list[DeviceArray]:
        where = "lookahead" if self.rule.ahead else "evaluation_point"
        self.look()
        if self._ahead is None:
            self.streams.outside(where, "its buffers cannot be allocated now",
                                 "Call it once before the capture begins.")
            with self.gpu.current():
                self.ahead_buffers = self.ahead_buffers or self.buffers()
                self._ahead = _AheadLaunches(self, self.ahead_buffers)
        with self.gpu.current():
            stream = self.streams.now()
            capturing, streams = self._order(stream, [], where)
            coefficients = self._coefficients(capturing, where) if self.rule.ahead else []
            plan, skip = self._ahead.prepared(coefficients)
            hand_over(self.streams.packed, stream)
            self.streams.begin(stream, streams, capturing)
            if capturing:
                self._capture([self._ahead])
            plan.run(stream, skip)
            if not capturing:
                if coefficients:
                    self.clock.sent()
                self.streams.finish(stream, streams, [])
        return self._ahead.buffers


def _norms(streams: Streams, tables: Tables, *of: Any) -> Mapping[int, np.ndarray]:
    """The norms that the last step which measured found. No method: a backend that holds itself is freed late."""
    streams.outside("measures", WAITS, ANOTHER_TIME.format("Read opt.measures"))
    return tables.norms(*of)


class _AheadLaunches(Ahead):
    """The look-ahead point's launches, and that of `advance`, which makes its coefficients."""

    def __init__(self, backend: CudaBackend, buffers: list[DeviceArray]):
        clock, gpu, seed = backend.clock, backend.gpu, backend.seed
        super().__init__(backend, buffers, backend._coefs(1), lambda layout, columns, groups, coefs, numbers:
                         Bucket(gpu, layout, columns, groups, [], coefs, clock.memory, numbers, seed))
        self.launches = [part.step for _, job in self.jobs for part in job.parts([self.kernel]*len(backend.groups))]
        self.advance = Advance(clock, self.coefs, self.field, self.fields)
        self.plan: driver.Launches | None = None
        self.room = 0

    def prepared(self, coefficients: list[Post]) -> tuple[driver.Launches, int]:
        """The launches, with room for these coefficients, and how many in front have nothing to do."""
        if self.advance.room([], coefficients) != self.room or self.plan is None:
            self.room = len(self.advance.extra)
            self.plan = driver.Launches([*self.advance.launches(), *self.launches])
        return self.plan, self.advance.fill(MODE.peek, [], coefficients)
