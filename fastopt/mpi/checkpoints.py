"""Checkpoints of state that ranks share: rank 0 has all of one, as an optimizer on one machine has it."""
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .. import files
from .._formats.catalogue import Format
from .._formats.choice import REMAINDER
from .._state import state_dict
from .._state.state_dict import COUNTS, Snapshot
from .._tensors import arrays
from .._tensors.backend import Stored, in_memory_order
from .._tensors.parts import Parts
from .._tensors.tensors import PerTensor, Tensor
from ..optimizer import Optimizer
from ..storage import coded_bytes
from .memory import Memory, nothing, shaped
from .ranks import Ranks
from .shares import windows

PARAMETERS = ""  # no state is called so
Whole = dict[str, list[np.ndarray]]  # of each state, and maybe of the parameters: an array for each tensor


class Together(Stored):
    """What state dicts need of a backend: the arrays of all ranks, or what looks like them."""

    if not TYPE_CHECKING:
        def read(self, array: np.ndarray, copy: bool) -> np.ndarray:
            return np.array(array) if copy else array


class Slot(NamedTuple):
    """A state, or the parameters: a row for each piece here, and how it is stored, None where there is nothing."""

    rows: Sequence[np.ndarray]
    formats: Sequence[Format | None]

    def whole(self, j: int, size: int, room: Callable[..., np.ndarray]) -> np.ndarray:
        """Room for a tensor of so many elements, of which piece j is a part."""
        format, row = self.formats[j], self.rows[j]
        return room(0 if format is None else coded_bytes(size) if format.block else size, row.dtype)


class Checkpoints:
    """The state of an optimizer of pieces, gathered on rank 0 and given out from there."""

    def __init__(self, ranks: Ranks, memory: Memory, opt: Optimizer):
        self.ranks, self.memory, self.opt = ranks, memory, opt
        of = [piece.tensor for piece in memory.pieces]
        self._pieces = [of.index(k) for k in range(len(memory.tensors))]  # one of each tensor

    def of_tensors(self, values: Sequence[Any]) -> list[Any]:
        """Values, one for each piece, of the tensors, all pieces of which have the same."""
        return [values[j] for j in self._pieces]

    # On all ranks

    def state_dict(self, parameters: bool = False) -> Snapshot | None:
        """On rank 0 the state dict of all, and maybe the parameters."""
        slots = self._slots(parameters)
        rows = {name: self._room(slot, np.empty) if self.ranks.rank == 0 else [] for name, slot in slots.items()}
        for name, slot in slots.items():
            self._move(slot, rows[name], True)
        if self.ranks.rank:
            return None
        of = self._shaped(slots[PARAMETERS], rows.pop(PARAMETERS)) if parameters else []
        return Snapshot(of, [], state_dict.save(self._backend(rows), False))

    def load_state_dict(self, saved: Any, convert: bool) -> None:
        """Load a state dict that rank 0 has."""
        def fitted() -> tuple[dict[str, Any], Whole]:
            return _parted(state_dict.fitted(self._likeness(), saved, convert), {})
        self.opt.load_state_dict(self._given_out(self.ranks.on_first(fitted)).saved)

    def save(self, path: files.Path) -> None:
        target = self.ranks.on_first(lambda: files.target("save", path)) or ""
        snapshot = self.state_dict(bool(self.memory.format))
        if snapshot and not self.memory.format:  # rank 0 has them, as they are
            snapshot = snapshot._replace(parameters=[t.array for t in self.memory.tensors])
        self.ranks.on_first(partial(files.write, target, snapshot))  # type: ignore[arg-type]

    def load(self, path: files.Path) -> None:
        def fitted(snapshot: Snapshot) -> tuple[dict[str, Any], Whole]:
            saved, parameters = state_dict.fitted_whole(self._likeness(), snapshot)
            return _parted(saved, {PARAMETERS: parameters})
        self.opt.restore(self._given_out(self.ranks.on_first(lambda: files.restored(path, fitted))), "load")
        self.memory.gather(self.memory.work)

    # Pieces and whole tensors

    def _slots(self, parameters: bool) -> dict[str, Slot]:
        """The states, and maybe the parameters."""
        backend = self.opt._backend
        found = {name: Slot(slot.arrays, slot.formats) for name, slot in backend.states.items()}
        if backend.remainders:
            formats = [t.format if t.format.split else None for t in backend.tensors]
            found[REMAINDER] = Slot(backend.remainders, formats)
        if parameters:
            found[PARAMETERS] = Slot([t.array for t in backend.tensors], [t.format for t in backend.tensors])
        return found

    def _room(self, slot: Slot, room: Callable[..., np.ndarray]) -> list[np.ndarray]:
        """Rows for all tensors of a slot."""
        return [slot.whole(j, t.array.size, room) for j, t in zip(self._pieces, self.memory.tensors, strict=True)]

    def _shaped(self, slot: Slot, rows: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Rows of a slot in the shapes of the tensors, but for blocks, and nothing, which have no shape."""
        return [row if (format := slot.formats[j]) is None or format.block else shaped(row, t)
                for row, j, t in zip(rows, self._pieces, self.memory.tensors, strict=True)]

    def _backend(self, rows: Whole) -> Stored:
        """The states of all ranks as those of one backend."""
        backend, slots, found = self.opt._backend, self._slots(False), {}
        for name, of in rows.items():
            formats: list[Any] = [slots[name].formats[j] for j in self._pieces]
            found[name] = PerTensor(self._shaped(slots[name], of), formats)
        remainders = found.pop(REMAINDER).arrays if REMAINDER in found else ()
        make: Any = Together
        whole = make(backend.rule, self.memory.tensors, backend.groups, found, remainders, {}, backend.seed, 1,
                     follow=False)
        whole.taken = backend.t
        whole.parts = Parts(*map(self.of_tensors, backend.late()))
        return whole

    def _likeness(self) -> Stored:
        """What looks like all ranks' states, but takes no memory."""
        return self._backend({name: self._room(slot, nothing) for name, slot in self._slots(False).items()})

    def _move(self, slot: Slot, rows: Sequence[np.ndarray], inward: bool) -> None:
        """Copy between the pieces and the rows of whole tensors, which rank 0 has."""
        here = self.ranks.rank
        for piece, format, row in zip(self.memory.pieces, slot.formats, slot.rows, strict=True):
            for rank, (lo, hi) in enumerate(piece.bounds):
                if format is None or lo == hi or here not in (0, rank):
                    continue
                mine = windows(row, format, 0, hi - lo) if here == rank else [None, None]
                whole = windows(rows[piece.tensor], format, lo, hi) if here == 0 else [None, None]
                for a, b in zip(mine, whole, strict=False):
                    self.ranks.copy(*((a, b, rank, 0) if inward else (b, a, 0, rank)))

    def _given_out(self, given: tuple[dict[str, Any], Whole] | None) -> Snapshot:
        """What the optimizer here has of a state dict, and maybe of the parameters, which rank 0 has."""
        rest, wholes = given or ({}, {})
        rest, names = self.ranks.said((rest, list(wholes)))
        slots, found = self._slots(True), {}
        for name in names:
            rows = [_in_row(a, t) for a, t in zip(wholes.get(name, ()), self.memory.tensors, strict=False)]
            found[name] = [np.empty_like(row) for row in slots[name].rows]
            self._move(slots[name]._replace(rows=found[name]), rows, False)
        own = self.opt.state_dict(copy=False)
        parameters = found.pop(PARAMETERS, [])
        mine = {**{k: own[k] for k in ("version", "rule", "paths")}, "state": {**own["state"], **found},
                **{k: rest[k] for k in ("t", "groups", "history", "functions") if k in rest},
                **{k: [rest[k][piece.tensor] for piece in self.memory.pieces] for k in COUNTS if k in rest}}
        if "storage" in own:
            mine["storage"] = {**own["storage"], "seed": rest.get("storage", own["storage"])["seed"]}
        return Snapshot(parameters, [], mine)


def _parted(saved: Mapping[str, Any], more: Whole) -> tuple[dict[str, Any], Whole]:
    """A state dict without its arrays, and these and others."""
    return {k: v for k, v in saved.items() if k != "state"}, {**saved["state"], **more}


def _in_row(array: Any, t: Tensor) -> np.ndarray:
    """An array of a state dict as a row of memory: blocks are one already."""
    array = arrays.as_real(arrays.on_host(array, t.path))
    return np.ascontiguousarray(in_memory_order(array, t.order) if array.shape == t.array.shape else array)
