"""An optimizer whose state is shared out: see `fastopt.mpi`."""
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from mpi4py import MPI

from .. import files
from .._checks.numbers import check_option, check_whole
from .._cpu.norm import all_finite, exact, global_norm
from .._formats.catalogue import BF16, FORMATS
from .._rule.groups import Group
from .._tensors import arrays, parameters
from .._tensors.backend import PLAIN, Request, clip_factor
from .._tensors.parameters import Parameters, grouped
from .._tensors.tensors import gradient, rows_of_masks
from ..optimizer import Optimizer
from .checkpoints import Checkpoints
from .memory import Memory
from .ranks import Ranks, wait

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
        The ranks; by default all processes of the program. A copy of it is used.
    mean : bool
        Whether steps take the mean of the gradients of all ranks, or their sum.
    copy : {"f32", "f16", "bf16"}, optional
        All ranks have the parameters in this format; each has those that are given of its share only. So bfloat16 has
        float32 masters, which take 4 bytes of an element on one rank.
    bucket : int
        The elements that are sent at once. Those of the next bucket are on their way while this one steps.
    state, rounding, **hyper
        As for that optimizer: lr, weight_decay, seed, average (of the weights), ... `threads` is by default the
        processor's share of a rank.

    Attributes
    ----------
    params
        The parameters, equal on all ranks: new arrays in the structure of those that were given. (Of groups: a list of
        trees.) bfloat16 of `copy` is uint16, its bits.
    grads
        Gradient buffers in that structure: write into them, then call ``step()``. Gradients that are given otherwise
        are copied here first. They are float32 (float64 for float64 parameters), in which they are added.
    shard : Optimizer
        That of this rank's share, in pieces, to look at.
    rank, size, comm
        Which rank this is, of how many, and their communicator.
    t, groups, threads, grad_norm
        As an optimizer has them. Change `groups` and `t` on all ranks alike.

    Notes
    -----
    Whatever the number of ranks, the parameters have the bits that `kind` gives them on one machine with the same sum
    of gradients, in every format. (MPI adds floating-point numbers in an order of its own, so sums may differ.)

    How far messages go on while a step runs is the MPI library's. Of MPICH, ``MPICH_ASYNC_PROGRESS=1`` has a thread for
    them. A KeyboardInterrupt within `step` may leave the ranks apart: load a checkpoint then.
    """

    grad_norm: float | None = None

    def __init__(self, kind: type[Optimizer], params: Any, *, comm: MPI.Comm | None = None, mean: bool = True,
                 copy: str | None = None, bucket: int = BUCKET, state: Any = None, rounding: str = "nearest",
                 **hyper: Any):
        self._ranks = ranks = Ranks(comm)
        self.rank, self.size, self.comm = ranks.rank, ranks.size, ranks.comm
        options = {"rounding": rounding, **hyper}
        self._mean, read = ranks.together(lambda: _read(kind, params, mean, copy, bucket, rounding))
        groups = parameters.groups_of(params)
        ranks.check_alike("Sharded", {
            "the rule": kind.rule.name, "bucket": bucket, "mean": self._mean, "copy": copy,
            **{f"{name}{of}": x for of, own in [("", options), *((f" of {g.path}", g.own) for g in groups)]
               for name, x in own.items() if isinstance(x, (int, float, str, type(None)))},
            **{t.path: f"{t.plain} of shape {t.shape} and memory order {t.order}" for t in read.tensors}})
        self._memory = memory = Memory(read.tensors, FORMATS[copy] if copy else None, bucket, ranks)
        self._structure, self._paths, self._grouped = read.structure, read.paths, grouped(params)
        self.params, self.grads = (self._structure.build(memory.given(flats))
                                   for flats in (memory.work, memory.sums))
        options = {"threads": ranks.threads(), **options}
        self.shard = ranks.together(lambda: self._make(kind, groups, state, read, options))
        self._checkpoints = Checkpoints(ranks, memory, self.shard)
        self._parts: list[Part] = []
        self._ahead: list[np.ndarray] = []
        memory.gather(memory.work)

    def _make(self, kind: type[Optimizer], groups: Sequence[parameters.Group], state: Any, read: Parameters,
              options: dict[str, Any]) -> Optimizer:
        """The optimizer of the pieces here."""
        memory, masks = self._memory, read.plain.masks
        count, asked = [0]*len(groups), dict[str, Any]()
        for piece in memory.pieces:
            t = memory.tensors[piece.tensor]
            of = groups[t.group].own.get("state", state)
            path = f"{groups[t.group].path}[{count[t.group]}]"
            asked[path] = of(t.path, read.tensors[piece.tensor].original) if callable(of) else of
            count[t.group] += 1
        options["state"] = lambda path, array: asked[path]
        if memory.format is not None:
            options["copy"] = self._tree(memory.cut(memory.rows(memory.work)))
        options["first"] = self._tree([(piece.tensor, lo) for piece, (lo, _) in
                                       zip(memory.pieces, memory.mine, strict=True)])
        own = [{**{k: v for k, v in g.own.items() if k != "state"}, "params": of}
               for g, of in zip(groups, self._by_group(memory.parameters), strict=True)]
        for group, mask in zip(own, self._by_group(memory.cut(masks)) if masks else (), strict=bool(masks)):
            group["mask"] = mask
        return kind(own if self._grouped else own[0]["params"], **options)

    def _by_group(self, values: Sequence[Any]) -> list[list[Any]]:
        """Values, one for each piece, by the groups of their tensors."""
        found: list[list[Any]] = [[] for _ in range(1 + max(t.group for t in self._memory.tensors))]
        for piece, value in zip(self._memory.pieces, values, strict=True):
            found[self._memory.tensors[piece.tensor].group].append(value)
        return found

    def _tree(self, values: Sequence[Any]) -> Any:
        """Values, one for each piece, as the optimizer of the pieces has its parameters."""
        found = self._by_group(values)
        return found if self._grouped else found[0]

    # Steps

    def step(self, grads: Any = None, *, clip_norm: float | None = None, clip_value: float | None = None,
             grad_factor: float = 1.0, skip_nonfinite: bool = False, mask: Any = None) -> None:
        """Update the parameters, alike on all ranks. Arguments are those of `Optimizer.step`.

        Gradients are of this rank, and are converted to the type of `grads` first. The norm, limits and what is not
        finite are judged of the mean (or sum) over all ranks: a step is skipped by all of them or by none.

        Raises
        ------
        TypeError, ValueError
            On the rank whose argument is wrong. Others then wait for it: start programs with ``-m mpi4py``.
        """
        if callable(grads) and not self._structure.holds(grads):
            grads = grads(self.lookahead() if self.shard.rule.ahead else self.params)
        if grads is not None:
            self._take(grads)
        opt: Any = self.shard
        masks = None
        if mask is not None:
            leaves: list[Any] = []
            self._structure.collect(mask, "mask", leaves)
            masks = self._tree(self._memory.cut(rows_of_masks(leaves, self._memory.tensors)))
        request = opt._request(clip_norm, clip_value, grad_factor, skip_nonfinite, False, masks, None, "global")
        request = request._replace(factor=request.factor/(self.size if self._mean else 1))
        parts = self._parts = self._parts or [Part(k, self._memory, opt, self._paths)
                                              for k in range(len(self._memory.buckets))]
        sums = [part.arriving(self._ranks) for part in parts]
        norm: float | None = None
        if clip_norm is not None or skip_nonfinite:
            wait(sums)
            found = [bucket for part in parts for bucket in part.bound(request)]
            norm = global_norm(found, opt.threads, request.factor, lambda of: self._ranks.pooled(of, exact))
            factor = request.factor*clip_factor(norm, request.clip_norm)
            if skip_nonfinite and not self._ranks.everywhere(all_finite(found, opt.threads, norm, factor)):
                self.grad_norm = norm
                return
            request = request._replace(norm=norm, skip_nonfinite=False)
        t, sent = opt.t, []
        for part, arriving in zip(parts, sums, strict=True):
            arriving.Wait()
            part.step(request, t, opt.threads)
            sent.append(part.leaving(self._ranks))
        wait(sent)
        opt.t, self.grad_norm = t + 1, norm

    def _take(self, grads: Any) -> None:
        """Copy gradients into the buffers. All are checked first."""
        leaves: list[Any] = []
        self._structure.collect(grads, "grads", leaves)
        found, targets = [], self._memory.views(self._memory.sums)
        for leaf, t, path in zip(leaves, self._memory.tensors, self._paths, strict=True):
            if leaf is None:
                raise ValueError(f"{path}: None, but no rank knows whether others have a gradient. Give zeros, or "
                                 f"leave {t.path} out of the parameters.")
            found.append(gradient(leaf, t, path).array)
        with np.errstate(all="ignore"):  # infinities and NaN pass through, as in the kernels
            for g, target, path in zip(found, targets, self._paths, strict=True):
                if arrays.address(g) != arrays.address(target):
                    bf16 = arrays.format_of(g, path) is BF16
                    np.copyto(target, BF16.decode(g.view(np.uint16)) if bf16 else g)

    def lookahead(self) -> Any:
        """Nesterov's look-ahead point, as `Optimizer.lookahead` gives it, of all parameters, on all ranks."""
        found: list[Any] = []
        self.shard._structure.collect(self.shard.lookahead(), "lookahead", found)
        memory = self._memory
        self._ahead = self._ahead or [np.zeros_like(flat) for flat in memory.work]
        for piece, target, row in zip(memory.pieces, memory.cut(memory.rows(self._ahead)), found, strict=True):
            target[...] = memory.worked(row, memory.tensors[piece.tensor])
        memory.gather(self._ahead)
        return self._structure.build(memory.given(self._ahead))

    @property
    def t(self) -> int:
        return self.shard.t

    @t.setter
    def t(self, steps: int) -> None:
        self.shard.t = steps

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
        self._parts = []

    def save(self, path: files.Path) -> None:
        """Have rank 0 write parameters and state to a file, which `fastopt.files.load` reads, too.

        The file is written whole, then it replaces what was there: a rank that dies meanwhile leaves the old one.
        """
        self._checkpoints.save(path)

    def load(self, path: files.Path) -> None:
        """Continue from a file that `save` or `fastopt.files.save` wrote, which rank 0 reads: parameters and state."""
        self._checkpoints.load(path)
        self._parts = []


def _read(kind: Any, params: Any, mean: Any, copy: Any, bucket: Any, rounding: Any) -> tuple[bool, Parameters]:
    """`mean`, and the parameters; or what is wrong with the arguments."""
    if not (isinstance(kind, type) and issubclass(kind, Optimizer) and hasattr(kind, "rule")):
        raise TypeError(f"Sharded: {kind!r}, but the class of an optimizer is needed. Give fastopt.Adam, for example.")
    mean = check_option("mean", mean, (False, True), "Sharded")
    check_whole("bucket", bucket, "Sharded", cure="Leave it out.", kind=ValueError)
    if copy is not None:
        check_option("copy", copy, tuple(FORMATS), "Sharded")
    plain = [{k: v for k, v in g.items() if k != "state"} for g in params] if grouped(params) else params
    read = parameters.read(plain, kind.rule, None, rounding, kind.__name__)
    for t in read.tensors:
        if arrays.place(t.array) != "cpu":
            raise TypeError(f"{t.path}: on a CUDA device, but state is shared out among processes in this machine's "
                            "memory only. Give NumPy arrays.")
    return mean, read


class Part:
    """A bucket as this rank steps it."""

    def __init__(self, k: int, memory: Memory, opt: Optimizer, paths: Sequence[str]):
        """Bucket k of this memory, whose pieces here the optimizer has."""
        self.bucket = bucket = memory.buckets[k]
        self.sums, self.work = (flats[bucket.flat][bucket.span] for flats in (memory.sums, memory.work))
        self.indices, self.mine, self.leaves = memory.room(k)
        self.paths = [paths[memory.pieces[j].tensor] for j in self.indices]
        tensors = [opt._tensors[j] for j in self.indices]
        self.backend: Any = opt._backend.part(self.indices, tensors, opt._groups, False)
        self._masks: tuple[Any, Any] = (), ()

    def arriving(self, ranks: Ranks) -> Any:
        """Begin to add the gradients of all ranks."""
        return ranks.sum(self.sums, self.mine, self.bucket.counts)

    def leaving(self, ranks: Ranks) -> Any:
        """Begin to send this rank's parameters to all ranks."""
        return ranks.share(self.work, self.bucket.counts)

    def bound(self, request: Request) -> list[Any]:
        """The buckets of the backend, bound to the sums."""
        self.backend.bind(self.leaves, self.paths, False, self._of(request.masks))
        return self.backend.binding.buckets

    def step(self, request: Request, t: int, threads: int) -> None:
        """Take the step that follows t steps."""
        request = request._replace(masks=self._of(request.masks))
        self.backend.taken, self.backend.threads = t, threads
        self.backend.step(self.leaves, self.paths, PLAIN if request == PLAIN else request)

    def _of(self, masks: Sequence[Any]) -> Sequence[Any]:
        """The masks of these pieces."""
        if masks and self._masks[0] is not masks:
            self._masks = masks, [masks[j] for j in self.indices]
        return self._masks[1] if masks else ()
