"""The Optimizer: parameters and their groups, the step, the look-ahead point, the state."""
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from . import _trees
from ._checks.numbers import LIMIT, check_number, check_option, check_whole, plain, whole
from ._cpu import forks, pool
from ._formats.catalogue import Format, arithmetic
from ._formats.choice import Asked, check_rounding, check_seed, state_formats
from ._rule import pieces
from ._rule.attributes import read_only
from ._rule.groups import MOST_STEPS, Group
from ._rule.pipeline import pipeline
from ._rule.rule import Rule
from ._state import state_dict
from ._state.state_dict import Snapshot
from ._tensors import arrays, places
from ._tensors.backend import PLAIN, Request, Stored
from ._tensors.sums import Sums
from ._tensors.tensors import PerTensor, Tensor, beside, check_one_place, output, rows_of_masks, tensor
from .presets import preset

STORED = ("state", "rounding", "mask")  # what a group of parameters may say beside its hyperparameters


class Optimizer:
    """What all optimizers share; their formulas and hyperparameters are in `rule`.

    Attributes
    ----------
    t : int
        Steps taken.
    groups : tuple of mappings
        The hyperparameters of each group; may be changed between steps: ``opt.groups[0]["lr"] = 0.1``.
    params
        The parameters, as they were given.
    state : dict
        {name: the tree of state arrays}, in the structure of the parameters.
    grads
        Gradient buffers in the structure of the parameters: write into them, then call ``step()`` without an argument.
    grad_norm : float or None
        The global norm of the last step's gradients (after ``grad_factor``, before clipping) where it was asked for.
    threads : int
        The most threads that a step uses; may be changed between steps.

    Notes
    -----
    On a CUDA device a step is enqueued on the current stream of the parameters' library, and `step` returns without
    waiting. Reading `t` after a step that may have been skipped, `grad_norm`, or a state dict waits for the device.
    """

    rule: Rule

    def __init__(self, params: Any, lr: Any = None, *, like: str | None = None, state: Asked = None,
                 rounding: str = "nearest", average: Any = None, copy: Any = None, seed: int = 0,
                 threads: int | None = None, capturable: int | None = None, **hyper: Any):
        where = type(self).__name__
        if not hasattr(self, "rule"):
            raise TypeError("Optimizer: no rule. Take one of the optimizers, fastopt.Adam for example, or "
                            "fastopt.optimizer(rule).")
        given = {**(preset(like, self.rule.name) if like is not None else {}), **hyper,
                 **({} if lr is None else {"lr": lr})}
        followers = tuple(k for k, v in (("average", average), ("copy", copy)) if v is not None)
        if followers:
            vars(self)["rule"] = pipeline(self.rule, (*pieces.PLAIN, *followers))
        self._params = params
        threads, seed = check_threads(threads, where), check_seed(seed, where)
        parts = self._read_groups(params, given if average is None else {**given, "average": average}, where)
        formats = self._read_tensors(parts, state, rounding, where)
        self._paths = [beside(t, "grads") for t in self._tensors]
        check_one_place(self._tensors)
        outputs = {"copy": self._read_copy(copy)} if copy is not None else {}
        arrays.check_overlap([(t.path, t.array) for t in self._tensors] + [
            (beside(t, "copy"), a) for of in outputs.values() for t, a in zip(self._tensors, of.arrays, strict=True)])
        place = arrays.place(self._tensors[0].array)
        capturable = check_capturable(capturable, where, place)
        make = places.at(place, "backend")
        self._backend: Stored = make(self.rule, self._tensors, self.groups, formats, outputs, seed, threads, capturable)
        self._grads: Any = None
        self._turn = forks.Turn()

    def _read_tensors(self, parts: list[tuple[Any, str, dict[str, Any]]], state: Asked, rounding: str,
                      where: str) -> dict[str, list[Format]]:
        """Make the tensors of all groups and their structure; return how each state of each tensor is stored."""
        self._tensors: list[Tensor] = []
        formats: list[dict[str, Format]] = []
        roots: list[_trees.Node] = []
        masks: list[Any] = []
        for k, (tree, path, own) in enumerate(parts):
            leaves: list[tuple[str, Any]] = []
            roots.append(_trees.structure(tree, path, leaves))
            if not leaves:
                raise ValueError(f"{path}: no arrays, but at least one is needed. Remove the group or give it "
                                 "parameters.")
            group = f"{where} group {k}" if own else where
            kind, asked = check_rounding(own.get("rounding", rounding), group), own.get("state", state)
            new = [tensor(leaf, at, k, kind) for at, leaf in leaves]
            formats += [state_formats(asked, self.rule, group, t.path, t.original, arithmetic(t.format)) for t in new]
            self._tensors += new
            if own.get("mask") is not None:
                roots[-1].collect(own["mask"], "mask" + path[len("params"):], masks)
            masks += [True]*(len(self._tensors) - len(masks))
        self._structure = _trees.Sequence([part[0] for part in parts], roots) if grouped(self._params) else roots[0]
        masked = any(own.get("mask") is not None for _, _, own in parts)
        self._plain = PLAIN._replace(masks=rows_of_masks(masks, self._tensors)) if masked else PLAIN
        return {name: [of[name] for of in formats] for name in self.rule.state}

    def _read_copy(self, tree: Any) -> PerTensor:
        """The arrays into which a step writes the new parameters."""
        leaves: list = []
        self._structure.collect(tree, "copy", leaves)
        found = [output(leaf, t, beside(t, "copy")) for leaf, t in zip(leaves, self._tensors, strict=True)]
        return PerTensor([array for array, _ in found], [format for _, format in found], leaves)

    def _read_groups(self, params: Any, given: dict[str, Any], where: str) -> list[tuple[Any, str, dict[str, Any]]]:
        """Make the groups; return the tree of each group, its path, and how it wants its tensors stored."""
        if not grouped(params):
            self._groups: tuple[Group, ...] = (Group(self.rule, given, where),)
            return [(params, "params", {})]
        own = [{k: v for k, v in g.items() if k not in ("params", *STORED)} for g in params]
        self._groups = tuple(Group(self.rule, {**given, **of}, f"{where} group {k}") for k, of in enumerate(own))
        return [(g["params"], f"params[{k}]", {name: g[name] for name in STORED if name in g})
                for k, g in enumerate(params)]

    def step(self, grads: Any = None, *, clip_norm: float | None = None, clip_value: float | None = None,
             grad_factor: float = 1.0, skip_nonfinite: bool = False, zero_grads: bool = False,
             mask: Any = None) -> None:
        """Update the parameters in place, in one pass over memory.

        Parameters
        ----------
        grads : tree of arrays, callable, or None
            The gradients, in the structure of the parameters: same shapes, any supported float type, strided or not. A
            callable gets the parameters (`Nesterov`: the look-ahead point) and returns the gradients. None: the buffers
            `opt.grads`.
        clip_norm : float, optional
            Gradients are scaled by min(1, clip_norm/norm), norm being that of all together after `grad_factor`.
        clip_value : float, optional
            Each element is then limited to [-clip_value, clip_value].
        grad_factor : float, or array of one element on the parameters' CUDA device
            The gradients are multiplied by this first: 1/loss_scale, or 1/batches for accumulated gradients. Where a
            gradient is float64 and its parameter is not, this and `clip_norm` multiply in float64; then it is converted
            to float32. An array is read when the step runs, by replayed graphs too.
        skip_nonfinite : bool
            If an element of the gradients, or their norm, is infinite or NaN, do nothing: parameters, state and `t`
            stay as they are. Judged is what the rule gets, after both factors and in its float type: 1e100 in a float64
            gradient is infinite for a float32 parameter, but not with ``grad_factor=1e-100``. Schedules are asked for
            the step before that is known.
        zero_grads : bool
            Set the gradients to zero, in the same pass over memory: each must be a writable array in its parameter's
            memory order. A step that is skipped zeroes them, too (on a CUDA device the two exclude each other).
        mask : tree of arrays, optional
            In the structure of the parameters, of any shapes that broadcast to theirs. Where a mask is false, or 0, an
            element of the parameter, of its states and of its weight average keeps its bits. (In states of 8 bits it
            keeps its number, which may be lost more than 15 binades below the largest of its block.) A copy gets the
            parameter, gradients are zeroed all the same, and `clip_norm` takes the norm of all gradients. A group of
            parameters may have a mask of its own, ``{"params": ..., "mask": ...}``, read when the optimizer is made.
            On a CUDA device, a step with another mask than that of the last one waits for the device.

        Raises
        ------
        TypeError, ValueError
            Before anything is written, with the path of the array or the name of the argument.

        Notes
        -----
        A KeyboardInterrupt takes effect before the step or after it: a step is done for all tensors or for none.
        """
        if callable(grads) and not self._structure.holds(grads):
            grads = grads(self.lookahead() if self.rule.ahead else self.params)
            if grads is None:
                raise TypeError("step: the function returned None, but the gradients are needed. Return them.")
        request = self._plain
        if not (clip_norm is None and clip_value is None and skip_nonfinite is False and zero_grads is False
                and type(grad_factor) is float and grad_factor == 1.0 and mask is None):
            request = self._request(clip_norm, clip_value, grad_factor, skip_nonfinite, zero_grads, mask)
        if forks.WAITING:
            forks.pause()
        turn = self._turn
        with turn.lock:  # two threads that step one optimizer take turns
            if turn.stepping:
                self._check_idle("step")
            turn.stepping = True
            try:
                if grads is None and (grads := self._grads) is None:
                    raise ValueError("step: no gradients were given. Pass them, or write them into opt.grads first.")
                leaves: list = []
                self._structure.collect(grads, "grads", leaves)
                self._backend.step(leaves, self._paths, request)
            finally:
                turn.stepping = False

    def _check_idle(self, where: str) -> None:
        """A schedule or a signal handler may read an optimizer in the middle of its step, but not change it."""
        if self._turn.stepping:
            raise RuntimeError(f"{where}: called within a step of the same optimizer. Call it when that one has "
                               "returned.")

    def _request(self, clip_norm: Any, clip_value: Any, grad_factor: Any, skip_nonfinite: Any,
                 zero_grads: Any, mask: Any) -> Request:
        """What a step is asked for, checked."""
        if skip_nonfinite is not False or zero_grads is not False:
            skip_nonfinite = check_option("skip_nonfinite", skip_nonfinite, (False, True), "step")
            zero_grads = check_option("zero_grads", zero_grads, (False, True), "step")
        plain = type(grad_factor) is float and grad_factor == 1.0
        limit = math.inf if clip_value is None else check_number("clip_value", clip_value, "step", allowed=LIMIT)
        wanted = None if clip_norm is None else check_number("clip_norm", clip_norm, "step", allowed=LIMIT)
        factor = 1.0 if plain else self._backend.factor(grad_factor)
        masks = self._plain.masks if mask is None else self._masks(mask)
        return Request(factor, limit, wanted, skip_nonfinite, zero_grads, masks)

    def _masks(self, tree: Any) -> list:
        """Which elements of each tensor change in a step: where its mask and that of its group are set."""
        leaves: list = []
        self._structure.collect(tree, "mask", leaves)
        found = rows_of_masks(leaves, self._tensors)
        return [a & b for a, b in zip(found, self._plain.masks, strict=True)] if self._plain.masks else found

    def lookahead(self) -> Any:
        """The point at which Nesterov's gradient is taken, p - mu*v (with the next step's mu), like the parameters.

        The point lies in buffers that are allocated once and overwritten by the next call; the parameters stay as they
        are. In the shifted form (torch, Keras) the stored parameters are that point already, and the copy equals them.
        """
        if self.rule.ahead is None:
            raise TypeError(f"lookahead: {type(self).__name__} takes its gradient at the parameters themselves. Use "
                            "fastopt.Nesterov.")
        with self._turn.lock:
            return self._build(self._backend.look_ahead())

    def _build(self, new: list, fixed: bool = False) -> Any:
        """A tree like the parameters of arrays of ours, as their user sees them."""
        seen = (self._backend.visible(array, t) for array, t in zip(new, self._tensors, strict=True))
        return self._structure.build(seen, fixed)

    @property
    def params(self) -> Any:
        return self._params

    @property
    def groups(self) -> tuple[Group, ...]:
        return self._groups

    @property
    def threads(self) -> int:
        return self._backend.threads

    @threads.setter
    def threads(self, threads: int | None) -> None:
        self._backend.threads = check_threads(threads, type(self).__name__)

    @property
    def grad_norm(self) -> float | None:
        with self._turn.lock:
            return self._backend.grad_norm

    @property
    def seed(self) -> int:
        """The seed of the random bits of stochastic rounding."""
        return self._backend.seed

    @property
    def t(self) -> int:
        with self._turn.lock:  # a step in another thread counts on while the device is asked
            return self._backend.t

    @t.setter
    def t(self, steps: int) -> None:
        found = whole(steps)
        if found is None or not 0 <= found <= MOST_STEPS:
            raise ValueError(f"t: found {steps!r}, but a whole number from 0 to 2**62 is needed. Give the number of "
                             "steps taken.")
        with self._turn.lock:
            self._check_idle("t")
            self._backend.t = found

    @property
    def grads(self) -> Any:
        with self._turn.lock:
            if self._grads is None:
                self._grads = self._build(self._backend.buffers(), fixed=True)
            return self._grads

    @grads.setter
    def grads(self, tree: Any) -> None:
        leaves: list = []
        self._structure.collect(tree, "grads", leaves)
        with self._turn.lock:
            self._check_idle("grads")
            self._backend.bind(leaves, self._paths)
            self._grads = tree

    @property
    def state(self) -> dict[str, Any]:
        return {name: self._build(new) for name, new in self._backend.state.items()}

    def decoded(self, name: str) -> Any:
        """A state in float32 (float64 if it is stored so), as a tree of new NumPy arrays in the parameters' shapes.

        Parameters
        ----------
        name : str
            A state; ``"average"``, the weight average; or ``"params"``, the parameters with what bfloat16 drops of them
            (``rounding="remainder"``).
        """
        backend = self._backend
        with self._turn.lock:
            backend.look()
            if name != "params" and name not in backend.states:
                raise ValueError(f"decoded: {name!r}, but this optimizer has {', '.join((*backend.states, 'params'))}. "
                                 "Take one of those.")
            found = backend.masters() if name == "params" else backend.numbers(name)
            return self._structure.build(iter(found), False)

    def tabulate(self) -> None:
        """Put the coefficients of the next `capturable` steps on the device, from the hyperparameters of now.

        Replayed graphs read the coefficients there, in float64 as on the CPU. Call it after changing a hyperparameter,
        and before replays run beyond the last step (they do nothing then; reading `t` warns). Waits for the device.
        """
        with self._turn.lock:
            self._check_idle("tabulate")
            self._backend.tabulate()

    def state_dict(self, copy: bool = True) -> dict[str, Any]:
        """Everything a later run needs beside the parameters: a plain dict of arrays, numbers and names.

        ``copy=False`` gives the state arrays themselves (to write them to disk at once), not copies.
        """
        with self._turn.lock:
            self._backend.check_own()
            if not copy:
                self._backend.shown()
            return state_dict.save(self._backend, copy)

    def load_state_dict(self, saved: dict[str, Any], convert: bool = False) -> None:
        """Continue from a `state_dict`, bit for bit; torch's layout is understood too.

        All is checked before anything is written. Hyperparameters that are functions here stay; those that are numbers
        are taken from the checkpoint. `threads` is not part of it. With ``convert=True`` states that are stored
        otherwise there become what this optimizer stores, numbers to the nearest: from float32 to blocks of eight bits,
        back, or from bitsandbytes' 8-bit optimizers (their dict is in torch's layout).
        """
        with self._turn.lock:
            self._check_idle("load_state_dict")
            self._backend.look()
            state_dict.load(self._backend, saved, bool(convert))

    # What checkpoints on disk and training need

    @contextmanager
    def snapshot(self, state: bool = True, copy: bool = False) -> Iterator[Snapshot]:
        """What a checkpoint holds, as it lies in memory, or with `copy` copies of it. Other threads cannot step within
        ``with``; do not step there either.

        Without `state` it is what the parameters alone need: they, and what bfloat16 lacks of them.
        """
        backend = self._backend
        with self._turn.lock:
            backend.look()
            saved = self.state_dict(copy) if state else None
            parameters, remainders = ([backend.read(a, copy) for a in of]
                                      for of in ([t.array for t in self._tensors], backend.remainders))
            yield Snapshot(parameters, remainders, saved)

    def restore(self, snapshot: Snapshot, where: str = "restore") -> None:
        """Take over a snapshot: all is checked and prepared, then written at once, whatever signals come."""
        with self._turn.lock:
            self._check_idle(where)
            self._backend.look()
            state_dict.restore(self._backend, snapshot)

    def accumulate(self, where: str = "accumulate") -> Sums:
        """Room for the sums of the gradients of several batches, which are then the gradients of one step."""
        if arrays.place(self._tensors[0].array) != "cpu":
            raise ValueError(f"{where}, but the parameters are on a CUDA device, where gradients are not summed here. "
                             "Sum them in value_and_grad.")
        return Sums(self._tensors, self._paths, self._structure, 1 + len(self.rule.state))

    def __repr__(self) -> str:
        backend = self._backend
        n, size = sum(t.array.size for t in self._tensors), sum(a.nbytes for of in backend.state.values() for a in of)
        formats = {name: "/".join(dict.fromkeys(f.name for f in slot.formats)) for name, slot in backend.states.items()}
        stored = "/".join(dict.fromkeys(t.plain for t in self._tensors))
        kinds = [*(f"{k} {v}" for k, v in formats.items()), *(["remainder"] if backend.remainders else [])]
        state = f"state {', '.join(kinds)} ({round(size/max(n, 1), 3):g} bytes each)" if kinds else "no state"
        drawn = ", stochastic" if any(t.format.random for t in self._tensors) else ""
        many = f"{len(self._tensors)} tensors, " if len(self._tensors) > 1 else ""
        about = f"t={self.t}, {many}{n:,} parameters {stored}{drawn}{backend.where}, {state}"
        return f"{type(self).__name__}({'; '.join(map(repr, self.groups))}; {about})"

    def __reduce__(self):
        raise TypeError(f"{type(self).__name__}: an optimizer holds the addresses of its arrays and cannot be copied "
                        "or pickled. Save opt.state_dict(), make a new optimizer, and load it there.")


read_only(Optimizer)


def grouped(params: Any) -> bool:
    """Whether parameters come in groups: a list of dicts with the entry "params"."""
    return (isinstance(params, (list, tuple)) and len(params) > 0
            and all(isinstance(g, dict) and "params" in g for g in params))


def check_capturable(capturable: Any, where: str, place: str) -> int:
    if capturable is None or plain(capturable) is False:
        return 0
    steps = whole(capturable)
    if steps is None or steps < 1:
        raise ValueError(f"{where}: capturable is {capturable!r}, but the number of steps that a graph may be replayed "
                         "is needed. Give one, capturable=10_000 for example.")
    if steps >= 2**31:
        raise ValueError(f"{where}: capturable is {capturable}, but there must be room for the coefficients of so many "
                         "steps. Take fewer, and call tabulate() in time.")
    if place == "cpu":
        raise ValueError(f"{where}: capturable={steps}, but the parameters are in this machine's memory, where there "
                         "are no graphs to capture. Leave it out.")
    return steps


def check_threads(threads: Any, where: str) -> int:
    if threads is None:
        return pool.available_threads()
    return check_whole("threads", threads, where, cure="Give None to use all.", kind=ValueError)
