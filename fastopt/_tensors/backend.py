"""The contract of backends, which carry out an optimizer's steps where its arrays lie, and what all backends share.

`_cpu.backend.HostBackend` and `_cuda.backend.CudaBackend` are chosen by `places.PLACES`.
"""
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

import numpy as np

from .._formats.catalogue import FORMATS, Format
from .._formats.choice import AVERAGE, REMAINDER
from .._kernels.layout import Layout
from .._rule.groups import Group
from .._rule.history import Known
from .._rule.pieces import MEASURE
from .._rule.pipeline import EVALUATED, LOOK_AHEAD
from .._rule.rule import Rule
from ..storage import decode, encode, join
from . import adapters
from .parts import Parts
from .tensors import PerTensor, Tensor, by_columns, by_layout, parameter_parts, parts, places_of


def clip_factor(norm: float, limit: float | None) -> float:
    """min(1, limit/norm); 1 where the norm is not finite: 0 or NaN would carry one bad element into all others."""
    return limit/norm if limit is not None and limit < norm < math.inf else 1.0


Pair = tuple[Any, np.ndarray]  # (an array of the optimizer's, what it shall hold)


class Request(NamedTuple):
    """What a step is asked for beside the gradients. All of it has been checked."""

    factor: Any = 1.0                # gradients are multiplied by it: a float, or an array of one element on the device
    limit: float = math.inf          # elements are then limited to this size
    clip_norm: float | None = None
    skip_nonfinite: bool = False
    zero_grads: bool = False
    masks: Sequence[np.ndarray] = ()  # for each tensor which elements change: bytes in its memory order; or none
    norm: Any = None                  # of all gradients, or with `apart` {tensor: its own}, if found elsewhere
    apart: bool = False               # clip each gradient by a norm of its own
    measure: bool = False             # find the norm of each parameter, gradient and update
    known: bool = False               # the coefficients of measured pieces were found by `measuring`


PLAIN = Request()


class Backend(Protocol):
    """What carries out the steps of an optimizer. It owns the memory of the states."""

    taken: int  # steps taken, as far as this backend knows; `Stored.t` asks the one that takes them now
    where: str  # the place, as `repr` says it
    surveyed: Callable[[], Mapping[int, np.ndarray]]  # the norms that the last step which measured found, by tensor

    @property
    def grad_norm(self) -> float | None:
        """The norm of the last step's gradients, or None where it had none."""
    def no_norm(self) -> None:
        """Note that the last step had none."""
    def new_state(self, name: str, format: Format, t: Tensor) -> Any:
        """A state of a tensor, filled with its first value."""
    def new_remainder(self, t: Tensor) -> Any:
        """Room for what a bfloat16 parameter lacks of a float32; of no elements for other parameters."""
    def buffers(self) -> list:
        """Zeros like the parameters, for gradients."""
    def look(self) -> None:
        """Look at every array that a step writes: follow what moved, or raise before anything is written."""
    def check_own(self) -> None:
        """Look at the states and buffers, which the program sees but must not move."""
    def shown(self) -> None:
        """From now on the program sees states and buffers: `look` has more to look at."""
    def factor(self, given: Any) -> Any:
        """A gradient factor, checked."""
    def bind(self, leaves: list, paths: list[str], zeroed: bool = False, masks: Sequence[np.ndarray] = ()) -> list:
        """Prepare a step of these gradients, which it zeroes if `zeroed`. Returned is what must live until its end."""
    def step(self, leaves: list, paths: list[str], request: Request) -> None:
        """Bind these gradients and take a step. What is wrong with one is said before anything is written."""
    def norm(self, leaves: list, paths: list[str], factor: float) -> float:
        """The norm of these gradients together, times this factor."""
    def forget(self) -> None:
        """Look at all that the next step depends on."""
    def look_ahead(self) -> list:
        """The rule's other point, look-ahead or to evaluate, in buffers that are allocated once."""
    def tabulate(self) -> None:
        """Make the coefficients of the steps to come, where graphs replay them."""
    def visible(self, array: Any, t: Tensor) -> Any:
        """A state or buffer as its user sees it."""
    def read(self, array: Any, copy: bool) -> np.ndarray:
        """A state or parameter as a NumPy array."""
    def outside(self, where: str, do: str = "", counts: bool = False) -> None:
        """RuntimeError where a call of this name would end a capture, as the host waits for a device, and what to `do`.

        With `counts` it waits only if the count of steps is not known here.
        """
    def put(self, pairs: Iterable[Pair], calls: Iterable["partial[Any]"] = ()) -> None:
        """Write (target, source) pairs as bits and make the calls: all or nothing, whatever signals come."""
    def resuming(self, t: int, seed: int, groups: Sequence[Group]) -> list["partial[Any]"]:
        """What to call so that t steps have been taken, with this seed, and these hyperparameters will be in force.

        (How many of them each tensor had is `Stored.parts`.)
        """


class Stored(Backend):
    """What all backends share: the arrays that a step writes, as kernels see them and as numbers."""

    def __init__(self, rule: Rule, tensors: list[Tensor], groups: Sequence[Group], states: dict[str, PerTensor],
                 remainders: Sequence[Any], outputs: dict[str, PerTensor], seed: int, threads: int,
                 capturable: int = 0, follow: bool = True, apart: bool = False):
        """States and remainders that are None are made. With `follow`, copies get the numbers of the parameters."""
        self.rule, self.tensors, self.groups, self.outputs, self.seed = rule, tensors, groups, outputs, seed
        self.threads, self.capturable, self.apart = threads, capturable, apart
        self.surveyed: Callable[[], Mapping[int, np.ndarray]] = dict
        self.parts: Parts | None = Parts([0]*len(tensors), [None]*len(tensors))  # None: this is a part
        self.states = {name: slot._replace(arrays=[
            self.new_state(name, format, t) if array is None else array
            for array, format, t in zip(slot.arrays, slot.formats, tensors, strict=True)])
            for name, slot in states.items()}
        self.remainders = [self.new_remainder(t) if array is None else array
                           for array, t in zip(remainders or [None]*len(tensors), tensors, strict=True)
                           ] if any(t.format.split for t in tensors) else []
        self.told = adapters.torch_tensors(self.given)  # they do not change, wherever their memory is
        if follow:
            self.put(self.followers(self.outputs.values()))
        if AVERAGE in states and any(array is None for array in states[AVERAGE].arrays):
            new = zip(self.followers([self.states[AVERAGE]]), states[AVERAGE].arrays, strict=True)
            self.put([pair for pair, array in new if array is None])

    def part(self, indices: Sequence[int], tensors: list[Tensor], groups: Sequence[Any], apart: bool) -> "Stored":
        """A backend of some of the tensors, on the same arrays, with these groups; `apart`: one for each tensor."""
        states, outputs = ({name: slot.of(indices) for name, slot in of.items()} for of in (self.states, self.outputs))
        remainders = [self.remainders[k] for k in indices] if self.remainders else ()
        part = type(self)(self.rule, tensors, groups, states, remainders, outputs, self.seed, self.threads,
                          follow=False, apart=apart)
        part.parts = None
        part.shown()
        return part

    def again(self, gradients: Any) -> bool:
        """Take a step that asks for nothing, if it is like the last one, and say whether it was. (Of `Gradients`.)"""
        return False

    def norm_of(self, leaves: list, paths: list[str], factor: float) -> float:
        """The norm of these gradients together, of which some may be None."""
        parts, live = self.parts, tuple([k for k, leaf in enumerate(leaves) if leaf is not None])
        if not live:
            return 0.0
        if parts is None or len(live) == len(leaves):
            return self.norm(leaves, paths, factor)
        return parts.turn_to(self, live).norm(parts.of(leaves), parts.of(paths), factor)

    def counted(self) -> tuple[Sequence[int], Sequence[Known | None]]:
        """How many steps each tensor is behind, and the history of each, where the rule has one."""
        behind, past = self.late()
        if self.rule.history and not any(past):
            saved = [group.history.known(self.t) for group in self.groups]  # type: ignore[union-attr]
            past = [saved[tensor.group] for tensor in self.tensors]
        return behind, past

    def measured(self) -> np.ndarray:
        """The norms that the last step which measured found of each tensor, a row each; NaN where it found none."""
        rows = np.full((len(self.tensors), MEASURE.many), np.nan)
        for k, found in self.surveyed().items():
            rows[k] = found
        return rows

    def survey_skipped(self) -> None:
        """Note that the last step which measured was skipped."""
        empty = {k: np.zeros(MEASURE.many) for k, t in enumerate(self.tensors) if not t.array.size}
        self.surveyed = lambda: empty

    @property
    def last(self) -> "Stored":
        """The backend that took the last step."""
        return (self.parts and self.parts.current) or self

    def late(self) -> tuple[Sequence[int], Sequence[Known | None]]:
        """How many steps each tensor is behind, and the history of each that has one of its own."""
        return self.parts.counted() if self.parts else ((), ())

    @property
    def t(self) -> int:
        """Steps taken."""
        return self.last.taken

    @t.setter
    def t(self, steps: int) -> None:
        self.taken, self.parts = steps, Parts([0]*len(self.tensors), [None]*len(self.tensors))

    def initial(self, name: str, t: Tensor) -> float:
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
        return [t.original for t in self.tensors] + [x for slot in self.slots.values() for _, x in slot.given]

    @property
    def written(self) -> list:
        """All that a step writes, but for gradients that it sets to zero."""
        states = (a for slot in self.slots.values() for a in slot.arrays)
        return [*(t.array for t in self.tensors), *self.remainders, *states]

    def tell(self, pairs: Iterable[Pair]) -> None:
        """Tell torch which of its tensors `put` is about to write."""
        targets = {id(target) for target, _ in pairs}
        own = [t.array for t in self.tensors] + [slot.arrays[k] for slot in self.slots.values() for k, _ in slot.given]
        written = [x for x, a in zip(self.given, own, strict=True) if id(a) in targets]
        adapters.tell_autograd(adapters.torch_tensors(written))

    def numbers(self, name: str) -> list[np.ndarray]:
        """A state in float32, or float64, in the shapes of the parameters."""
        slot = self.states[name]
        return [numbers(self.read(a, True), f, t)
                for a, f, t in zip(slot.arrays, slot.formats, self.tensors, strict=True)]

    def masters(self, parameters: Sequence[np.ndarray] | None = None,
                remainders: Sequence[np.ndarray] | None = None) -> list[np.ndarray]:
        """The parameters (these, or those of now) in float32, or float64, with what their arrays lack."""
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
        """Pairs for `put`: arrays that follow parameters, with the numbers of these parameters or of those of now."""
        slots = list(slots)
        values = self.masters(parameters, remainders) if slots else []
        return [(array, as_codes(x, format, t)) for slot in slots
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


def as_codes(values: np.ndarray, format: Format, t: Tensor) -> np.ndarray:
    """Numbers in the shape of a parameter, to the nearest as a state of this format."""
    return encode(in_memory_order(values, t.order), format) if format.block else encode(values, format)


class Ahead:
    """The rule's `point`, p - mu*v or p + way: its buffers, a coefficient per group (of the former), and the jobs."""

    def __init__(self, backend: Stored, buffers: list, coefs: dict[np.dtype, Any], job: Callable[..., Any]):
        """`job` gets a layout, columns of arrays, groups, coefficients and the places of the tensors."""
        self.buffers, self.coefs = buffers, coefs
        coefficient, state = backend.rule.point  # type: ignore[misc]
        self.kernel, self.fields = (LOOK_AHEAD, 1) if coefficient else (EVALUATED, 0)
        self.field = backend.rule.fields.index(coefficient) if coefficient else 0
        tensors, velocity = backend.tensors, backend.states[state]
        layouts = [Layout.of(t.format, FORMATS[t.plain], f) for t, f in zip(tensors, velocity.formats, strict=True)]
        self.jobs = []
        for layout, indices in by_layout(layouts).items():
            rows = [[*parameter_parts(tensors[k], backend.remainders, k), buffers[k],
                     *parts(velocity.formats[k], velocity.arrays[k])] for k in indices]
            groups = [tensors[k].group for k in indices]
            self.jobs.append((layout, job(layout, by_columns(rows), groups, coefs[layout.arithmetic.dtype],
                                          places_of(tensors, indices))))
