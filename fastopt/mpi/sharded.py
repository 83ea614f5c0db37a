"""An optimizer whose state is shared out: see `fastopt.mpi`."""
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
from mpi4py import MPI

from .. import files, trees
from .._checks.numbers import check_number, check_option, check_whole
from .._cpu.norm import all_finite, global_norm, norms
from .._formats.catalogue import FORMATS
from .._rule.groups import Group
from .._rule.rule import Rule
from .._state.state_dict import Snapshot
from .._tensors import arrays, parameters
from .._tensors.backend import PLAIN, Request, Stored, clip_factor
from .._tensors.parameters import Parameters, grouped
from .._tensors.parts import KEPT
from .._tensors.sums import Sums
from .._tensors.tensors import rows_of_masks
from .._training.fit import Fit, fit
from ..optimizer import GLOBAL, RAISE, Optimizer, gradients_at, left, measures_of
from .checkpoints import Checkpoints
from .gradients import agreed
from .measured import find, stages, surveyed
from .memory import Memory
from .part import Part, of_tensors
from .ranks import Ranks, wait
from .training import Peers

BUCKET = 2**22  # elements: 16 MB of float32


class Sharded:
    """An optimizer whose state is shared out among the ranks of an MPI program (ZeRO-1).

    All ranks make it, with the same arguments, and call the same methods in the same order.

    Parameters
    ----------
    kind : class
        `fastopt.Adam`, or any other optimizer.
    params : tree of arrays, or groups
        As for that optimizer, in this machine's memory. All ranks start from what rank 0 gives.
    comm : mpi4py.MPI.Comm, optional
        The ranks; by default all processes of the program. All optimizers use one copy of it.
    mean : bool
        Whether steps take the mean of the gradients of all ranks, or their sum.
    copy : {"f32", "f16", "bf16"}, optional
        All ranks have the parameters in this format, and each rank has the given parameters of its share only. So
        bfloat16 parameters have float32 masters, each on one rank.
    bucket : int
        How many elements are sent at once. While one bucket steps, the next one is on its way.
    state, rounding, **hyper
        As for that optimizer: lr, weight_decay, seed, average (of the weights), ... `threads` is by default the
        processor's share of a rank.

    Attributes
    ----------
    params
        The parameters, equal on all ranks: new arrays in the structure of those that were given; for groups, a list of
        trees. bfloat16 of `copy` is uint16, its bits.
    grads
        Gradient buffers in that structure: write into them, then call ``step()``. A step copies gradients that it gets
        otherwise to them first. They are float32, or float64 for float64 parameters, in which gradients are added.
    shard : Optimizer
        That of this rank's share, in pieces, to look at.
    rank, size, comm
        Which rank this is, of how many, and their communicator.
    t, counts, groups, threads, grad_norm, measures
        As an optimizer has them. Change `groups` and `t` on all ranks alike.

    Notes
    -----
    For any number of ranks, the parameters have the bits that `kind` gives them on one machine with the same sum of
    gradients, in every format. (MPI adds floating-point numbers in an order of its own, so sums may differ.)

    The MPI library decides how far messages go on while a step runs. With MPICH, ``MPICH_ASYNC_PROGRESS=1`` has a
    thread for them. A KeyboardInterrupt within `step` may leave the ranks in different states: load a checkpoint then.
    """

    grad_norm: float | None = None

    def __init__(self, kind: type[Optimizer], params: Any, *, comm: MPI.Comm | None = None, mean: bool = True,
                 copy: str | None = None, bucket: int = BUCKET, state: Any = None, rounding: str = "nearest",
                 **hyper: Any):
        self._ranks = ranks = Ranks(comm)
        self.rank, self.size, self.comm = ranks.rank, ranks.size, ranks.comm
        options = {"rounding": rounding, **hyper}
        self._mean, read = ranks.together(lambda: _checked(kind, params, mean, copy, bucket, rounding))
        self._grouped, self._bucket, self._state = grouped(params), bucket, state
        groups = parameters.groups_of(params)
        self._check_alike("Sharded", read, [("", options), *((f" of {g.path}", g.own) for g in groups)], {
            "the rule": kind.rule.name, "bucket": bucket, "mean": self._mean, "copy": copy})
        self._memory = Memory(read.tensors, FORMATS[copy] if copy else None, bucket, ranks)
        self._formats: dict[int, Any] = {}  # of the states of each piece, as they are asked for
        options = {"threads": ranks.threads(), **options, "state": lambda path, array: self._formats[id(array)]}
        self.shard = ranks.together(lambda: self._make(kind, groups, read, options))
        self._follow(read.structure.build(iter(range(len(read.tensors)))))

    def _check_alike(self, where: str, read: Parameters, options: Sequence[tuple[str, Mapping[str, Any]]],
                     more: dict[str, Any]) -> None:
        """An error on all ranks where their parameters and options differ, as far as that can be seen."""
        self._ranks.check_alike(where, {
            **more, **{f"{name}{of}": x for of, own in options for name, x in own.items()
                       if isinstance(x, (int, float, str, type(None)))},
            **{t.path: f"{t.plain} of shape {t.shape} and memory order {t.order}" for t in read.tensors}})

    def _make(self, kind: type[Optimizer], groups: Sequence[parameters.Given], read: Parameters,
              options: dict[str, Any]) -> Optimizer:
        """The optimizer of the pieces here."""
        own = self._pieces(self._memory, groups, read)
        copies = [group.pop("copy", None) for group in own]
        if self._memory.format is not None:
            options["copy"] = copies if self._grouped else copies[0]
        return kind(own if self._grouped else own[0]["params"], **options)

    def _pieces(self, memory: Memory, groups: Sequence[parameters.Given], read: Parameters) -> list[dict[str, Any]]:
        """Groups, of the pieces of a memory."""
        own = [{k: v for k, v in g.own.items() if k not in ("state", "mask")} for g in groups]
        first = read.tensors[0].group
        for piece, array in zip(memory.pieces, memory.parameters, strict=True):
            t = read.tensors[piece.tensor]
            of = groups[t.group - first].own.get("state", self._state)
            self._formats[id(array)] = of(t.path, t.original) if callable(of) else of
        copies = None if memory.format is None else memory.cut(memory.rows(memory.work))
        masks = memory.cut(read.plain.masks) if read.plain.masks else None
        for name, values in (("params", memory.parameters), ("copy", copies), ("mask", masks)):
            for group, of in zip(own, memory.by_group(values, first) if values else (), strict=bool(values)):
                group[name] = of
        return own

    def _follow(self, numbers: Any) -> None:
        """Have the structure of these groups, or of this tree: numbers in the places of the tensors."""
        memory = self._memory
        memory.follow(numbers, self._grouped)
        self.params, self.grads = (memory.structure.build(memory.given(flats)) for flats in (memory.work, memory.sums))
        places = zip(self.shard._tensors, memory.pieces, memory.mine, strict=True)
        self.shard._tensors[:] = [t._replace(number=piece.tensor, first=lo) for t, piece, (lo, _) in places]
        self.shard._numbered = True
        self._checkpoints = Checkpoints(self._ranks, memory, self.shard)
        self._parts: dict[Stored, list[Part]] = {}
        self._norms, self.grad_norm = surveyed([], memory, self._ranks, False), None
        self._ahead: list[np.ndarray] = []

    # Other parameters: only what is new is cut and sent; what was there stays where it is

    def add(self, params: Any, **own: Any) -> None:
        """Add a group of parameters, as `Optimizer.add` does, on all ranks alike. They start from what rank 0 gives.

        `params` and `grads` are new trees then, of the same arrays and of new ones.
        """
        shard, ranks, where = self.shard, self._ranks, "Sharded.add"
        given, count = [{**own, "params": params}], len(self.groups)

        def checked() -> Parameters:
            shard._groups_of(given, type(shard).__name__, count)
            return _read(given, shard.rule, shard._asked.rounding, where, count)
        read = ranks.together(checked)
        self._check_alike(where, read, [("", own)], {})
        more = Memory(read.tensors, self._memory.format, self._bucket, ranks)
        groups = parameters.groups_of(given, count)
        ranks.together(lambda: shard.add(**self._pieces(more, groups, read)[0]))
        numbers = self._numbers()
        self._grouped = True
        self._memory.join(more)
        self._follow([*numbers, read.structure.build(iter(range(len(read.tensors))))[0]])

    def remove(self, path: str) -> None:
        """Remove an array, or a subtree, from the parameters, as `Optimizer.remove` does, on all ranks alike.

        Parameters and gradients are sent in buckets of many. Memory is freed only where a whole bucket goes. To free
        all of it, make a new optimizer and load a checkpoint.
        """
        def checked() -> tuple[list[int], list[Any]]:
            found = left(self._memory.tensors, path, "Sharded.remove")
            return found, [trees.without(tree, f"params[{k}]" if self._grouped else "params", path)
                           for k, tree in enumerate(self._numbers())]
        kept, numbers = self._ranks.together(checked)
        gone = [t.path for t, piece in zip(self.shard._tensors, self._memory.pieces, strict=True)
                if piece.tensor not in kept]
        for piece in reversed(gone):
            self.shard.remove(piece)
        self._memory.keep(kept)
        self._follow([tree for tree in numbers if tree is not trees.NOTHING] if self._grouped else numbers[0])

    def _numbers(self) -> list[Any]:
        """The trees of all groups, with the numbers of the tensors in their places."""
        tree = self._memory.structure.build(iter(range(len(self._memory.tensors))))
        return tree if self._grouped else [tree]

    # Steps

    def step(self, grads: Any = None, *, clip_norm: float | None = None, clip: str = GLOBAL, norm: float | None = None,
             clip_value: float | None = None, grad_factor: float = 1.0, skip_nonfinite: bool = False, mask: Any = None,
             missing: str = RAISE, measure: bool = False) -> None:
        """Update the parameters, alike on all ranks. Arguments are those of `Optimizer.step`.

        Each rank gives its own gradients, which are converted to the type of `grads` first. Norms and limits are those
        of the mean (or sum) over all ranks. So are infinities and NaN: a step is skipped by all ranks or by none. A
        gradient that is None on some ranks counts as zeros there. If it is None on all, that parameter does not count
        the step. `norm` is the norm of the mean (or sum), the same on all ranks.

        Raises
        ------
        TypeError, ValueError
            On the rank whose argument is wrong, before anything is written; on the others RuntimeError.

        Notes
        -----
        Ranks first tell each other which gradients they have, a byte for each, while they copy them.
        """
        if callable(grads) and not self._memory.structure.holds(grads):
            grads = gradients_at(self, self.rule, grads)

        def asked() -> Request:
            stages(self.rule, self.groups)
            masks = None
            if mask is not None:
                leaves: list[Any] = []
                self._memory.structure.collect(mask, "mask", leaves)
                masks = self._memory.by_group(self._memory.cut(rows_of_masks(leaves, self._memory.tensors)))
                masks = masks if self._grouped else masks[0]
            found = self.shard._request(clip_norm, clip_value, grad_factor, skip_nonfinite, False, masks, norm, clip,
                                        measure)
            return found._replace(factor=found.factor/self._shares)
        request, live = agreed(self._ranks, self._memory, asked, grads, missing, "step")
        memory, ranks, threads, norm = self._memory, self._ranks, self.threads, request.norm
        if request.measure:
            self._norms = surveyed([], memory, ranks, False)
        if not live:
            self.grad_norm = None
            return
        backend, parts = self._turn_to(live, request.apart)
        sums = [part.arriving(ranks) for part in parts]
        if clip_norm is not None or skip_nonfinite:
            wait(sums)
            buckets = [bucket for part in parts for bucket in part.bound(request)]
            norm = self._norm(buckets, request.factor) if norm is None else norm
            factor = request.factor*(1.0 if request.apart else clip_factor(norm, request.clip_norm))
            if skip_nonfinite and not ranks.everywhere(all_finite(buckets, threads, norm, factor)):
                self.grad_norm = norm
                if request.measure:
                    self._norms = surveyed(parts, memory, ranks, False)
                return
            request = request._replace(norm=norm, skip_nonfinite=False)
            if request.apart:
                each = norms(lambda kernel: ranks.pooled(of_tensors(parts, threads, kernel)), factor)
                request = request._replace(norm=each)
        t, sent = backend.taken, []
        if wanted := stages(self.rule, self.groups):
            wait(sums)
            find(wanted, parts, memory, ranks, request, t, threads)
            request = request._replace(known=True)
        for part, arriving in zip(parts, sums, strict=True):
            wait([arriving])
            part.step(request, t, threads)
            sent.append(part.leaving(ranks))
        wait(sent)
        backend.taken, self.grad_norm = t + 1, norm
        if request.measure:
            self._norms = surveyed(parts, memory, ranks, True)

    @property
    def measures(self) -> dict[str, Any]:
        """The norms that the last step with ``measure=True`` found, as `Optimizer.measures`, the same on all ranks.

        "grads" are the norms of the mean (or sum) over all ranks.
        """
        return measures_of(self._memory.structure, self._norms)

    def norm(self, grads: Any = None, *, grad_factor: float = 1.0) -> float:
        """As `Optimizer.norm`, of the mean (or sum) of the gradients of all ranks. All ranks get it."""
        factor, live = agreed(self._ranks, self._memory, lambda: check_number("grad_factor", grad_factor, "norm"),
                              grads, RAISE, "norm")
        parts = self._turn_to(live, False)[1] if live else []
        wait([part.arriving(self._ranks) for part in parts])
        return self._norm([bucket for part in parts for bucket in part.bound(PLAIN)], factor/self._shares)

    def _norm(self, buckets: Sequence[Any], factor: float) -> float:
        """The norm of the gradients of all ranks, with a factor."""
        return global_norm(buckets, self.threads, factor, lambda of: self._ranks.pooled({0: of})[0])

    def _turn_to(self, live: tuple[int, ...], apart: bool) -> tuple[Stored, list[Part]]:
        """What steps these pieces, and its parts, a bucket each."""
        whole: Any = self.shard._backend
        backend = whole.parts.turn_to(whole, live, apart)
        if backend not in self._parts:
            buckets = dict.fromkeys(self._memory.pieces[j].bucket for j in live)
            parts = [Part(k, self._memory, backend, live) for k in buckets]
            self._parts = dict([*self._parts.items()][1 - KEPT:]) | {backend: parts}
        return backend, self._parts[backend]

    @property
    def _shares(self) -> int:
        """What the sums over all ranks are divided by."""
        return self.size if self._mean else 1

    def lookahead(self) -> Any:
        """Nesterov's look-ahead point, as `Optimizer.lookahead` gives it, of all parameters, on all ranks."""
        return self._gathered(self.shard.lookahead())

    def evaluation_point(self) -> Any:
        """With ``schedule_free=`` the point to evaluate, as `Optimizer.evaluation_point` gives it, on all ranks."""
        return self._gathered(self.shard.evaluation_point())

    def _gathered(self, point: Any) -> Any:
        """A point of all parameters, of which this rank has its share."""
        found: list[Any] = []
        self.shard._structure.collect(point, "point", found)
        memory = self._memory
        self._ahead = self._ahead or [np.zeros_like(flat) for flat in memory.work]
        for piece, target, row in zip(memory.pieces, memory.cut(memory.rows(self._ahead)), found, strict=True):
            target[...] = memory.worked(row, memory.tensors[piece.tensor])
        memory.gather(self._ahead)
        return self._memory.structure.build(memory.given(self._ahead))

    # Training: what `fastopt.fit` needs

    def fit(self, value_and_grad: Callable[[Any, Any], tuple[Any, Any]], batches: Any = None,
            steps: int | None = None, **options: Any) -> Fit:
        """Train on all ranks, as `fastopt.fit` does on one machine: ``fastopt.fit(opt, ...)`` is the same.

        Each rank gives its own batches and computes their gradients. Steps take the mean over all ranks, and the
        history has the mean of the values; with ``mean=False`` both are sums. `validate` may look at a part of the data
        on each rank. The mean over all ranks counts, for patience, plateaus and the best parameters, which are the same
        everywhere. Training ends on all ranks if the batches of one end, or if a `callback` of one stops it.

        Parameters
        ----------
        value_and_grad, batches, steps, **options
            As for `fastopt.fit`. Give the same numbers on all ranks, and `validate` and `after_step` on all or on none.
            `callback` and `progress` may be given on some ranks; rank 0 draws the bar. `after_step` must change the
            parameters alike on all ranks. A pass over the batches, after which `validate` is called, is one of rank 0.
        checkpoint : path or callable, optional
            Rank 0 writes the file, with the state of all ranks. ``checkpoint(opt)`` is called on all.

        Returns
        -------
        Fit
            The same on all ranks.

        Raises
        ------
        TypeError, ValueError, FloatingPointError
            As `fastopt.fit`, on the rank where it happens, of the functions too; on the others RuntimeError.

        Notes
        -----
        A Ctrl-C on one rank ends the training on all, after the same step.
        """
        return fit(self, value_and_grad, batches, steps, **options)  # type: ignore[arg-type]

    @property
    def _peers(self) -> Peers:
        return Peers(self._ranks, self._shares)

    def accumulate(self, where: str = "accumulate") -> Sums:
        """Room for the sums of the gradients of several batches on this rank."""
        return Sums(self._memory.tensors, self._memory.paths, self._memory.structure, 1 + len(self.shard.rule.state))

    def snapshot(self, state: bool = True, copy: bool = False,
                 where: str = "snapshot") -> AbstractContextManager[Snapshot]:
        """What this rank has of a checkpoint, as `Optimizer.snapshot` gives it."""
        return self.shard.snapshot(state, copy, where)

    def restore(self, snapshot: Snapshot, where: str = "restore") -> None:
        """Take over the snapshots of all ranks."""
        self.shard.restore(snapshot, where)
        self._memory.gather(self._memory.work)

    @property
    def t(self) -> int:
        return self.shard.t

    @t.setter
    def t(self, steps: int) -> None:
        self.shard.t = steps

    @property
    def counts(self) -> Any:
        """The steps that each parameter had, in the structure of the parameters."""
        behind = self._checkpoints.of_tensors(self.shard._backend.late()[0])
        return self._memory.structure.build(iter([self.t - steps for steps in behind]))

    @property
    def rule(self) -> Any:
        """The rule of `kind`."""
        return self.shard.rule

    @property
    def groups(self) -> tuple[Group, ...]:
        return self.shard.groups

    @property
    def threads(self) -> int:
        return self.shard.threads

    @threads.setter
    def threads(self, threads: int | None) -> None:
        self.shard.threads = threads

    def __repr__(self) -> str:
        return f"Sharded(rank {self.rank} of {self.size}, {self.shard!r})"

    def __reduce__(self) -> tuple:
        """For `copy` and `pickle`, which no communicator passes."""
        raise TypeError("Sharded: it has a communicator, which can be neither copied nor pickled. Save it, "
                        "opt.save(path), and load the file into a new one, on any number of ranks.")

    # Checkpoints: rank 0 has all of it, which is that of `kind` on one machine

    def state_dict(self) -> dict[str, Any] | None:
        """On rank 0, what `Optimizer.state_dict` gives of all parameters together; None on the others.

        Any number of ranks can load it, and an optimizer on one machine.
        """
        found = self._checkpoints.state_dict()
        return found and found.saved

    def load_state_dict(self, saved: Mapping[str, Any] | None = None, convert: bool = False) -> None:
        """Continue from what rank 0 gives, as `Optimizer.load_state_dict` does; the others may leave it out.

        An error on rank 0 is an error on all ranks, before anything is written.
        """
        self._checkpoints.load_state_dict(saved, bool(convert))
        self._parts = {}

    def save(self, path: files.Path) -> None:
        """Have rank 0 write parameters and state to a file, which `fastopt.files.load` reads, too.

        The file is written whole, then it replaces what was there: a rank that dies meanwhile leaves the old one.
        """
        self._checkpoints.save(path)

    def load(self, path: files.Path) -> None:
        """Continue from a file that `save` or `fastopt.files.save` wrote, which rank 0 reads: parameters and state."""
        self._checkpoints.load(path)
        self._parts = {}


def _checked(kind: Any, params: Any, mean: Any, copy: Any, bucket: Any, rounding: Any) -> tuple[bool, Parameters]:
    """`mean`, and the parameters; or what is wrong with the arguments."""
    if not (isinstance(kind, type) and issubclass(kind, Optimizer) and hasattr(kind, "rule")):
        raise TypeError(f"Sharded: {kind!r}, but the class of an optimizer is needed. Give fastopt.Adam, for example.")
    mean = check_option("mean", mean, (False, True), "Sharded")
    check_whole("bucket", bucket, "Sharded", cure="Leave it out.", kind=ValueError)
    if copy is not None:
        check_option("copy", copy, tuple(FORMATS), "Sharded")
    return mean, _read(params, kind.rule, rounding, kind.__name__)


def _read(params: Any, rule: Rule, rounding: str, where: str, first: int = 0) -> Parameters:
    """Parameters, which must lie in this machine's memory; `first`: the number of their first group."""
    plain = [{k: v for k, v in g.items() if k != "state"} for g in params] if grouped(params) else params
    read = parameters.read(plain, rule, None, rounding, where, first)
    for t in read.tensors:
        if arrays.place(t.array) != "cpu":
            raise TypeError(f"{t.path}: on a CUDA device, but state is shared out among processes in this machine's "
                            "memory only. Give NumPy arrays.")
    return read
