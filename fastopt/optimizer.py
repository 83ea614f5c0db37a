"""The Optimizer: parameters and their groups, the step, the look-ahead point, the state."""
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from . import trees
from ._checks.numbers import LIMIT, check_number, check_option, check_whole, plain, whole
from ._cpu import forks, pool
from ._formats.choice import SCHEDULE_FREE, Asked, check_in_use, check_seed
from ._rule import pieces
from ._rule.attributes import read_only
from ._rule.groups import MOST_STEPS, Group
from ._rule.history import Known
from ._rule.pipeline import modified, pipeline
from ._rule.rule import Rule
from ._signals import at_once
from ._state import copies, state_dict
from ._state.state_dict import Snapshot
from ._state.torch_layout import few
from ._tensors import arrays, parameters, places, summary
from ._tensors.backend import Request, Stored
from ._tensors.parameters import NO_HYPER, Parameters, given_states, grouped
from ._tensors.parts import Parts
from ._tensors.sums import Sums
from ._tensors.tensors import PerTensor, Tensor, beside, check_one_place, rows_of_masks
from .presets import preset

MEASURES = "grads", "params", "updates"  # the order of `pieces.of_step`
GLOBAL, RAISE = "global", "raise"  # what a step does of its own accord
SHOW = "Show the optimizer"
NO_GRADIENTS = "{}: no gradients were given. Pass them, or write them into opt.grads first."


class Wanted(NamedTuple):
    """What an optimizer was made with that holds for parameters which are added later, too."""

    hyper: dict[str, Any]
    formats: Any
    rounding: str


class Optimizer:
    """What all optimizers have. Make one by the class of a rule, `fastopt.Adam` for example.

    Attributes
    ----------
    t : int
        The steps taken. It may be set between steps.
    counts
        The steps in which each parameter had a gradient, in the structure of the parameters.
    groups : tuple of mappings
        The hyperparameters of each group. They may be changed between steps: ``opt.groups[0]["lr"] = 0.1``.
    params
        The parameters, as they were given.
    state : dict
        {name: the tree of state arrays}, in the structure of the parameters.
    grads
        Gradient buffers in the structure of the parameters. Write into them, then call ``step()`` without an argument.
    grad_norm : float or None
        The global norm of the last step's gradients, after ``grad_factor`` and before clipping. None if that step did
        not need it, or all of its gradients were None.
    threads : int
        The most threads that a step uses. It may be changed between steps.
    rule
        The formula and its hyperparameters, one of `fastopt.rules`.

    Notes
    -----
    On a CUDA device a step is enqueued on the current stream of the parameters' library, and `step` returns without
    waiting. The device is waited for where you read `grad_norm` or a state dict, and `t` after a step that may have
    been skipped.

    A complex parameter x + iy (complex64, complex128) is a pair of real ones, as in torch. The real and the imaginary
    part have states of their own, the second moment too, and `clip_value` limits each. (optax's own optimizers take the
    second moment of the modulus.) The norm of the gradients is that of the moduli. Masks have the parameter's own
    shape. States, `grads`, the look-ahead point and copies are complex. States in 16 or 8 bits are codes of the parts,
    in 16 bits along a last axis of 2; `decoded` gives their complex numbers.
    """

    rule: Rule
    origin: tuple  # a function, and with which arguments it makes the class
    _params: Any
    _groups: tuple[Group, ...]
    _tensors: list[Tensor]
    _paths: list[str]  # of their gradients
    _structure: trees.Node
    _plain: Request  # what a step without further arguments is asked for
    _backend: Stored
    _grads: Any
    _numbered: bool  # whether its tensors have numbers that were given; else they are counted
    _copied = False  # whether it is made as a copy of another, which was warned of

    def __init__(self, params: Any, lr: Any = None, *, like: str | None = None, state: Asked = None,
                 rounding: str = "nearest", average: Any = None, grokfast: Any = None, mars: Any = None,
                 schedule_free: Any = None, copy: Any = None, seed: int = 0, first: Any = 0,
                 threads: int | None = None, capturable: int | None = None, **hyper: Any):
        where = type(self).__name__
        if not hasattr(self, "rule"):
            raise TypeError("Optimizer: no rule. Take one of the optimizers, fastopt.Adam for example, or "
                            "fastopt.optimizer(rule).")
        given = {**(preset(like, self.rule.name) if like is not None else {}), **hyper,
                 **({} if lr is None else {"lr": lr})}
        asked = {"average": average, "grokfast": grokfast, "mars": mars, "schedule_free": schedule_free}
        given, further = modified(self.rule, asked, given, where)
        if further or copy is not None:
            further += [] if copy is None else ["copy"]
            vars(self)["rule"] = pipeline(self.rule, (*pieces.PLAIN, *further))
        threads, seed = check_threads(threads, where), check_seed(seed, where)
        formats, adopted = given_states(state, self.rule)
        self._asked = Wanted(given, formats, rounding)
        groups = self._groups_of(params, where)
        read = parameters.read(params, self.rule, formats, rounding, where)
        check_one_place(read.tensors)
        if not self._copied:
            parameters.check_roundings_in_use(read, rounding, where)
        states = read.states(self.rule)
        states |= {name: read.adopted(name, tree, states[name], name in formats) for name, tree in adopted.items()}
        read.tensors[:], numbered = parameters.numbered(read, first, states)
        outputs = {} if copy is None else {"copy": read.outputs("copy", copy)}
        self._turn = forks.Turn()
        capturable = check_capturable(capturable, where, arrays.place(read.tensors[0].array))
        self._take(read, groups, states, (), outputs, seed, threads, capturable, numbered=numbered)

    def _groups_of(self, params: Any, where: str, first: int = 0) -> list[Group]:
        """The hyperparameters of each group of parameters, the first of which has this number."""
        return [Group(self.rule, {**self._asked.hyper, **{k: v for k, v in group.own.items() if k not in NO_HYPER}},
                      f"{where} group {first + k}" if grouped(params) else where)
                for k, group in enumerate(parameters.groups_of(params))]

    def _take(self, read: Parameters, groups: Iterable[Group], states: dict[str, PerTensor], remainders: Sequence[Any],
              outputs: dict[str, PerTensor], *arguments: Any, numbered: bool, t: int = 0,
              parts: Parts | None = None) -> None:
        """Be an optimizer of these parameters, at step t. What fails, fails before anything changes."""
        named = [(t.path, t.array) for t in read.tensors]
        named += [(beside(t, name), array) for name, slot in {**states, **outputs}.items()
                  for t, array in zip(read.tensors, slot.arrays, strict=True) if array is not None]
        arrays.check_overlap(named)
        make, groups = places.at(arrays.place(read.tensors[0].array), "backend"), tuple(groups)
        backend: Stored = make(self.rule, read.tensors, groups, states, remainders, outputs, *arguments)
        if parts is not None:
            backend.taken, backend.parts = t, parts
        new = {"_params": read.given, "_groups": groups, "_tensors": read.tensors, "_paths": read.paths,
               "_structure": read.structure, "_plain": read.plain, "_backend": backend, "_grads": None,
               "_numbered": numbered}
        at_once([partial(setattr, self, name, value) for name, value in new.items()])  # vars() makes access slower

    def _go_on(self, read: Parameters, groups: Sequence[Group], old: list[int], copy: Any = None,
               first: Any = 0) -> None:
        """Be an optimizer of other parameters: of these tensors of now, and behind them of what is new."""
        backend, t, new = self._backend, self.t, read.tensors[len(old):]
        if backend.capturable:
            raise ValueError(f"{type(self).__name__}: made with capturable=, so that graphs may hold its arrays. Make "
                             "a new optimizer of other parameters.")
        fresh = {name: PerTensor([None]*len(new), [of[name] for of in read.formats[len(old):]])
                 for name in backend.states}
        states, numbered = {name: slot.of(old).then(fresh[name]) for name, slot in backend.states.items()}, False
        if new:
            group = read.structure.children[-1]  # type: ignore[union-attr]  # a list of groups
            after = 1 + max(t.number for t in self._tensors)
            added = read._replace(tensors=[t._replace(number=after + k) for k, t in enumerate(new)], structure=group)
            copied = added.outputs("copy", copy) if copy is not None or backend.outputs else None
            read.tensors[len(old):], numbered = parameters.numbered(added, first, fresh)
        for k, before in enumerate(map(self._tensors.__getitem__, old)):
            number = before.number if self._numbered else k
            read.tensors[k] = read.tensors[k]._replace(number=number, first=before.first)
        outputs = {name: slot.of(old).then(copied) if new else slot.of(old)  # type: ignore[arg-type]
                   for name, slot in backend.outputs.items()}
        remainders = [*(backend.remainders[k] if backend.remainders else None for k in old), *[None]*len(new)]
        behind, past = backend.counted() if new and t else backend.late()
        unborn = Known(0, 0.0, None) if self.rule.history else None
        parts = Parts([*(behind[k] for k in old), *[t]*len(new)], [*(past[k] for k in old), *[unborn]*len(new)])
        self._take(read, groups, states, remainders, outputs, self.seed, self.threads, t=t, parts=parts,
                   numbered=self._numbered or numbered)

    def add(self, params: Any, *, copy: Any = None, first: Any = 0, **own: Any) -> None:
        """Add a group of parameters. All others keep their state. The first step of the new ones is their step 1.

        From then on the parameters are in groups, and gradients are a list of trees, one for each group.

        Parameters
        ----------
        params : tree of arrays
            As for a new optimizer.
        copy : tree of arrays, optional
            Arrays that steps write the new parameters to as well, if the optimizer was made with `copy`.
        first : int or tree of int, optional
            As for a new optimizer: where the new arrays begin in larger ones.
        **own
            Hyperparameters of the group, and its `state`, `rounding` and `mask`. What is left out is as the optimizer
            was made.

        Raises
        ------
        TypeError, ValueError
            Before anything changes. The message has the path of the array or the name of the argument.
        """
        where = f"{type(self).__name__}.add"
        with self._turn.lock:
            self._check_idle("add")
            self._backend.outside("add")
            if (copy is None) == ("copy" in self._backend.outputs):
                found, cure = ("no copy", "Give one.") if copy is None else ("a copy", "Leave it out.")
                has = "one" if copy is None else "none"
                raise ValueError(f"{where}: {found} was given, but the optimizer has {has} of its other parameters. "
                                 f"{cure}")
            before = list(self._params) if grouped(self._params) else [{"params": self._params}]
            groups = self._groups_of([{"params": params, **own}], type(self).__name__, len(before))
            read = parameters.read([*before, {"params": params, **own}], self.rule, self._asked.formats,
                                   self._asked.rounding, where)
            check_one_place(read.tensors)
            new = read.tensors[len(self._tensors):]
            check_in_use(own.get("rounding", "nearest"), [t.format.itemsize for t in new], where)
            self._go_on(read, [*self._groups, *groups], list(range(len(self._tensors))), copy, first)

    def remove(self, path: str) -> None:
        """Remove an array or a subtree from the parameters, with its state. All others keep theirs.

        `params` is then a new tree of the same arrays. In a list, the entries behind the removed one move up.

        Parameters
        ----------
        path : str
            The path, as errors and ``state_dict()["paths"]`` show it: ``"params['head']"``, or ``"params[1]"`` for a
            group.

        Raises
        ------
        ValueError
            If there is no such path, nothing would be left, or a dataclass or named tuple would lack a field.
        """
        where = f"{type(self).__name__}.remove"
        with self._turn.lock:
            self._check_idle("remove")
            self._backend.outside("remove")
            old = left(self._tensors, path, where)
            left_of = [trees.without(*group[:2], path) for group in parameters.groups_of(self._params)]
            kept = [group for group, tree in zip(self._groups, left_of, strict=True) if tree is not trees.NOTHING]
            params = left_of[0]
            if grouped(self._params):
                params = [{**g, **{name: trees.without(g[name], f"params[{k}]", path) for name in ("params", "mask")
                                   if name in g}} for k, g in enumerate(self._params)
                          if left_of[k] is not trees.NOTHING]
            read = parameters.read(params, self.rule, self._asked.formats, self._asked.rounding, where)
            self._go_on(read, kept, old)

    def step(self, grads: Any = None, *, clip_norm: float | None = None, clip: str = GLOBAL,
             norm: float | None = None, clip_value: float | None = None, grad_factor: float = 1.0,
             skip_nonfinite: bool = False, zero_grads: bool = False, mask: Any = None,
             missing: str = RAISE, measure: bool = False) -> None:
        """Update the parameters in place, in one pass over memory.

        Parameters
        ----------
        grads : tree of arrays, callable, or None
            The gradients, in the structure of the parameters: of the same shapes, of any supported float type, strided
            or not. A callable gets the parameters (`Nesterov`: the look-ahead point) and returns the gradients. None
            stands for the buffers `opt.grads`.

            A single gradient may be None: its parameter and states stay as they are, and it does not count the step
            (see `counts`). For a table of which a batch hits some rows, it may be `fastopt.Rows`, or a sparse tensor of
            torch. For a complex parameter x + iy it is dL/dx + i*dL/dy, which is 2*dL/dconj(z). This is what torch
            computes; `jax.grad` returns the conjugate.
        clip_norm : float, optional
            The gradients are multiplied by min(1, clip_norm/norm). The norm is that of all gradients together, after
            `grad_factor`.
        clip : {"global", "tensor"}
            "tensor": each gradient is clipped by its own norm, as Keras does with `clipnorm`.
        norm : float, optional
            The norm of all gradients after `grad_factor`, if you know it already: where each machine has a part of the
            gradients, for example. The step then does not compute it. For `clip_norm` and `skip_nonfinite`.
        clip_value : float, optional
            Each element is limited to [-clip_value, clip_value], after `grad_factor` and `clip_norm`.
        grad_factor : float, or array of one element on the parameters' CUDA device
            The gradients are multiplied by this first: 1/loss_scale, or 1/batches for accumulated gradients. If a
            gradient is float64 and its parameter is not, it is multiplied by this and by the factor of `clip_norm` in
            float64, and then converted to float32. An array is read when the step runs, also when a graph is replayed.
        skip_nonfinite : bool
            If an element of the gradients, or their norm, is infinite or NaN, do nothing: parameters, state and `t`
            stay as they are. What counts is the gradient that the rule gets, after both factors and in its float type:
            1e100 in a float64 gradient is infinite for a float32 parameter, but not with ``grad_factor=1e-100``.
            Schedules are asked for their value before it is known whether the step is skipped.
        zero_grads : bool
            Set the gradients to zero in the same pass over memory. Each must be a writable array in the memory order of
            its parameter. A step that is skipped sets them to zero, too. (On a CUDA device, choose one of the two.)
        mask : tree of arrays, optional
            Which elements change, in the structure of the parameters, of shapes that broadcast to theirs. Where a mask
            is false or 0, the element of the parameter, of its states and of its weight average keeps its bits. (In
            states of 8 bits it keeps its number, which may be lost if it is 2^15 times smaller than the largest of its
            block.) A copy gets the parameter; gradients are set to zero as without a mask; and `clip_norm` takes the
            norm of all gradients. A group may have a mask of its own, ``{"params": ..., "mask": ...}``, which is read
            when the optimizer is made. On a CUDA device, a step with another mask than the last one waits for the
            device.
        missing : {"raise", "skip"}
            "skip": where the gradients lack a key of the parameters, the step takes None in its place.
        measure : bool
            Find the norms of each parameter, gradient and update, and leave them in `measures`. This takes one more
            pass over what the step reads.

        Raises
        ------
        TypeError, ValueError
            Before anything is written. The message has the path of the array or the name of the argument.

        Notes
        -----
        A KeyboardInterrupt takes effect before the step or after it: a step is done for all tensors or for none.
        """
        if callable(grads) and not self._structure.holds(grads):
            grads = gradients_at(self, self.rule, grads)
        request = self._plain
        if not (clip_norm is None and clip_value is None and skip_nonfinite is False and zero_grads is False
                and type(grad_factor) is float and grad_factor == 1.0 and mask is None and norm is None
                and clip is GLOBAL and missing is RAISE and measure is False):
            if missing != RAISE and check_option("missing", missing, (RAISE, "skip"), "step") and grads is not None:
                grads = trees.filled(self._structure, grads)
            request = self._request(clip_norm, clip_value, grad_factor, skip_nonfinite, zero_grads, mask, norm, clip,
                                    measure)
        if forks.WAITING:
            forks.pause()
        turn = self._turn
        with turn.lock:  # two threads that step one optimizer take turns
            if turn.stepping:
                self._check_idle("step")
            turn.stepping = True
            try:
                if grads is None and (grads := self._grads) is None:
                    raise ValueError(NO_GRADIENTS.format("step"))
                leaves: list = []
                self._structure.collect(grads, "grads", leaves)
                self._backend.step(leaves, self._paths, request)
            finally:
                turn.stepping = False

    def _again(self, gradients: Any) -> bool:
        """Take a step like the last one, of the `Gradients` of a backend, and say whether it was one."""
        if forks.WAITING:
            forks.pause()
        turn = self._turn
        with turn.lock:
            self._check_idle("step")
            turn.stepping = True
            try:
                return self._backend.again(gradients)
            finally:
                turn.stepping = False

    def _check_idle(self, where: str) -> None:
        """A schedule or a signal handler may read an optimizer in the middle of its step, but not change it."""
        if self._turn.stepping:
            raise RuntimeError(f"{where}: called within a step of the same optimizer. Call it when that one has "
                               "returned.")

    def _request(self, clip_norm: Any, clip_value: Any, grad_factor: Any, skip_nonfinite: Any,
                 zero_grads: Any, mask: Any, norm: Any, clip: Any, measure: Any) -> Request:
        """What a step is asked for, checked."""
        if skip_nonfinite is not False or zero_grads is not False:
            skip_nonfinite = check_option("skip_nonfinite", skip_nonfinite, (False, True), "step")
            zero_grads = check_option("zero_grads", zero_grads, (False, True), "step")
        plain = type(grad_factor) is float and grad_factor == 1.0
        limit = math.inf if clip_value is None else check_number("clip_value", clip_value, "step", allowed=LIMIT)
        wanted = None if clip_norm is None else check_number("clip_norm", clip_norm, "step", allowed=LIMIT)
        factor = 1.0 if plain else self._backend.factor(grad_factor)
        masks = self._plain.masks if mask is None else self._masks(mask)
        apart = clip != GLOBAL and check_option("clip", clip, (GLOBAL, "tensor"), "step") == "tensor"
        if apart and (wanted is None or norm is not None):
            found = "no clip_norm" if wanted is None else "norm=, which is that of all gradients together"
            raise ValueError(f'step: clip="tensor" with {found}, but it clips each gradient by a norm of its own. '
                             "Leave it out, or give clip_norm alone.")
        if norm is not None:
            norm = check_norm(norm)
            if wanted is None and not skip_nonfinite:
                raise ValueError("step: norm without clip_norm or skip_nonfinite, but it is for these. Leave it out.")
        measure = measure is not False and check_option("measure", measure, (False, True), "step")
        return Request(factor, limit, wanted, skip_nonfinite, zero_grads, masks, norm, apart, measure)

    def norm(self, grads: Any = None, *, grad_factor: float = 1.0) -> float:
        """The Euclidean norm of all gradients together, times the size of `grad_factor`, in float64.

        Gradients are given as to `step`; those that are None are left out. The norm may be infinite or NaN. On a CUDA
        device this waits for the device.
        """
        factor = check_number("grad_factor", grad_factor, "norm")
        with self._turn.lock:
            self._check_idle("norm")
            if grads is None and (grads := self._grads) is None:
                raise ValueError(NO_GRADIENTS.format("norm"))
            leaves: list = []
            self._structure.collect(grads, "grads", leaves)
            return self._backend.norm_of(leaves, self._paths, factor)

    @property
    def measures(self) -> dict[str, Any]:
        """The Euclidean norms that the last step with ``measure=True`` found, in the structure of the parameters.

        "grads" are the norms of the gradients, after `grad_factor` and `clip_norm`; "params" those of the parameters
        before the step; "updates" those of what the step added to them, before it was rounded to their format. A norm
        is NaN where a parameter had no gradient, where that step was skipped, and before the first such step; `add` and
        `remove` begin anew. Norms are float64, and of all elements, also of those that a mask kept. On CUDA this waits
        for the device.
        """
        with self._turn.lock:
            return measures_of(self._structure, self._backend.measured())

    def _masks(self, tree: Any) -> list:
        """Which elements of each tensor change in a step: where its mask and that of its group are set."""
        leaves: list = []
        self._structure.collect(tree, "mask", leaves)
        found = rows_of_masks(leaves, self._tensors)
        return [a & b for a, b in zip(found, self._plain.masks, strict=True)] if self._plain.masks else found

    def lookahead(self) -> Any:
        """The point p - mu*v, at which Nesterov's gradient is taken, in the structure of the parameters.

        mu is that of the next step. The point lies in buffers, which the next call overwrites; the parameters stay as
        they are. In the shifted form (torch, Keras) the stored parameters are that point already: this is a copy of
        them.
        """
        if self.rule.ahead is None:
            raise TypeError(f"lookahead: {type(self).__name__} takes its gradient at the parameters themselves. Use "
                            "fastopt.Nesterov.")
        with self._turn.lock:
            return self._build(self._backend.look_ahead())

    def evaluation_point(self) -> Any:
        """With ``schedule_free=``: the point x, at which to evaluate, and which to keep, like the parameters.

        x is the average of the points z. Gradients are taken at the parameters themselves. The point lies in buffers,
        which the next call overwrites; the parameters stay as they are.
        """
        if SCHEDULE_FREE not in self.rule.state:
            raise TypeError(f"evaluation_point: {type(self).__name__} is evaluated at the parameters themselves. Make "
                            "it with schedule_free=True.")
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
            return self._backend.last.grad_norm

    @property
    def seed(self) -> int:
        """The seed of the random bits of stochastic rounding."""
        return self._backend.seed

    @property
    def t(self) -> int:
        return self._steps("t", "Read opt.t")

    @t.setter
    def t(self, steps: int) -> None:
        found = whole(steps)
        if found is None or not 0 <= found <= MOST_STEPS:
            raise ValueError(f"t: found {steps!r}, but a whole number from 0 to 2**62 is needed. Give the number of "
                             "steps taken.")
        with self._turn.lock:
            self._check_idle("t")
            self._backend.outside("t", "Set opt.t")
            self._backend.t = found

    def _steps(self, where: str, do: str) -> int:
        """The steps taken, for a call of this name; `do`: what its user may do outside of a capture."""
        with self._turn.lock:  # a step in another thread counts on while the device is asked
            self._backend.last.outside(where, do, counts=True)
            return self._backend.t

    @property
    def counts(self) -> Any:
        """The steps that each parameter had, in the structure of the parameters: `t`, less those without a gradient."""
        with self._turn.lock:
            t, (behind, _) = self._steps("counts", "Read opt.counts"), self._backend.late()
            return self._structure.build(iter([t - steps for steps in behind]))

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
        """A state in float32, or float64 if it is stored so: new NumPy arrays in the parameters' structure and shapes.

        Parameters
        ----------
        name : str
            A state, ``"average"`` (the weight average) or ``"params"``. With ``rounding="remainder"`` the last are the
            parameters with what bfloat16 drops of them.
        """
        backend = self._backend
        with self._turn.lock:
            backend.outside("decoded")
            backend.look()
            if name != "params" and name not in backend.states:
                raise ValueError(f"decoded: {name!r}, but this optimizer has {', '.join((*backend.states, 'params'))}. "
                                 "Take one of those.")
            found = backend.masters() if name == "params" else backend.numbers(name)
            return self._structure.build((t.as_given(a) for t, a in zip(self._tensors, found, strict=True)), False)

    def tabulate(self) -> None:
        """Put the coefficients of the next `capturable` steps on the device, from the hyperparameters of now.

        Replayed graphs read the coefficients there, in float64 as on the CPU. Call this after you change a
        hyperparameter, and before replays run beyond the last of these steps: beyond it they do nothing, and reading
        `t` warns. This waits for the device.
        """
        with self._turn.lock:
            self._check_idle("tabulate")
            self._backend.tabulate()

    def state_dict(self, copy: bool = True) -> dict[str, Any]:
        """Everything that a later run needs beside the parameters: a plain dict of arrays, numbers and names.

        With ``copy=False`` it holds the state arrays themselves, not copies: to write them to disk at once.
        """
        with self._turn.lock:
            self._backend.outside("state_dict")
            self._backend.check_own()
            if not copy:
                self._backend.shown()
            return state_dict.save(self._backend, copy)

    def load_state_dict(self, saved: dict[str, Any], convert: bool = False) -> None:
        """Continue from a `state_dict`, bit for bit. The layout of torch is understood, too.

        All is checked before anything is written. Hyperparameters that are functions in this optimizer stay; those that
        are numbers are taken from the dict. The dict holds neither `threads` nor functions: a number stays where the
        saved optimizer had a function, and this warns.

        With ``convert=True`` the states may be stored in another way there. Their numbers become the nearest that this
        optimizer stores: from float32 to eight bits, back, or from bitsandbytes' 8-bit optimizers, whose dict is in
        torch's layout.
        """
        with self._turn.lock:
            self._check_idle("load_state_dict")
            self._backend.outside("load_state_dict")
            self._backend.look()
            state_dict.load(self._backend, saved, bool(convert))

    # What checkpoints on disk and training need

    @contextmanager
    def snapshot(self, state: bool = True, copy: bool = False, where: str = "snapshot") -> Iterator[Snapshot]:
        """For ``with``: what a checkpoint holds, as it lies in memory, or with `copy` copies of it.

        Other threads cannot step within ``with``; do not step there either. Without `state` it is what the parameters
        alone need: they, and what bfloat16 lacks of them.
        """
        backend = self._backend
        with self._turn.lock:
            backend.outside(where)
            backend.look()
            saved = self.state_dict(copy) if state else None
            parameters, remainders = ([backend.read(a, copy) for a in of]
                                      for of in ([t.array for t in self._tensors], backend.remainders))
            yield Snapshot(parameters, remainders, saved)

    def restore(self, snapshot: Snapshot, where: str = "restore") -> None:
        """Take over a snapshot: all is checked and prepared, then written at once, whatever signals come."""
        with self._turn.lock:
            self._check_idle(where)
            self._backend.outside(where)
            self._backend.look()
            state_dict.restore(self._backend, snapshot)

    def accumulate(self, where: str = "accumulate") -> Sums:
        """Room for the sums of the gradients of several batches, which are then the gradients of one step."""
        if arrays.place(self._tensors[0].array) != "cpu":
            raise ValueError(f"{where}, but the parameters are on a CUDA device, where gradients are not summed here. "
                             "Sum them in value_and_grad.")
        return Sums(self._tensors, self._paths, self._structure, 1 + len(self.rule.state))

    def _repr_html_(self) -> str:
        """A table of the groups, for notebooks."""
        return summary.table(type(self).__name__, self._steps("repr", SHOW), self._backend)

    def __repr__(self) -> str:
        of = summary.held(self._backend)
        each = round(of.state_bytes/max(of.elements, 1), 3)
        state = f"state {of.state} ({each:g} bytes each)" if of.state else "no state"
        many = f"{of.tensors} tensors, " if of.tensors > 1 else ""
        t = self._steps("repr", SHOW)
        about = f"t={t}, {many}{of.elements:,} parameters {of.parameters}{self._backend.where}, {state}"
        return f"{type(self).__name__}({'; '.join(map(repr, self.groups))}; {about})"

    def __reduce__(self) -> tuple:
        """For `copy` and `pickle`. A copy made by copy.copy steps the same arrays, with a state of its own."""
        with self._turn.lock:
            self._backend.outside("copy", "Copy or pickle the optimizer")
            return copies.reduced(self)


read_only(Optimizer)


def left(tensors: Sequence[Tensor], path: str, where: str) -> list[int]:
    """The tensors that are left where one, or all in a subtree, are removed."""
    found = [k for k, t in enumerate(tensors) if not trees.within(t.path, path)]
    if len(found) in (0, len(tensors)):
        raise ValueError(f"{where}: {path!r} would leave no parameters. Keep one." if not found else
                         f"{where}: {path!r} is no path of the parameters, which has {few(t.path for t in tensors)}. "
                         "Give one of those.")
    return found


def gradients_at(opt: Any, rule: Rule, function: Callable[[Any], Any]) -> Any:
    """The gradients that a function gives for the parameters, or the look-ahead point, of an optimizer."""
    found = function(opt.lookahead() if rule.ahead else opt.params)
    if found is None:
        raise TypeError("step: the function returned None, but the gradients are needed. Return them.")
    return found


def measures_of(structure: Any, rows: np.ndarray) -> dict[str, Any]:
    """The norms of each tensor, a row each, as `measures` has them."""
    return {name: structure.build(iter(column)) for name, column in zip(MEASURES, rows.T.tolist(), strict=True)}


def check_norm(given: Any) -> float:
    found = plain(given)
    if isinstance(found, bool) or not isinstance(found, (int, float)) or found < 0:
        raise ValueError(f"step: norm is {given!r}, but the norm of gradients is needed, 0 or more, or NaN. Change it.")
    return float(found)


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
