"""Training: `fit` takes an optimizer through batches, validates, stops early, and writes checkpoints."""
import math
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from .._checks.numbers import LIMIT, NONNEGATIVE, check_number, check_option, check_whole
from ..optimizer import Optimizer
from . import progress as bars
from .batches import END, Batches, evaluate, parameters, walkable
from .early_stopping import EarlyStopping
from .peers import ALONE, Found

ROW = struct.Struct("=qdd")  # t, value and learning rate of a step, in the history: appended as a whole or not at all
WHOLE = {"steps": 1, "accumulate": 1, "validate_every": 1, "patience": 0, "checkpoint_every": 1}  # least
ALIKE = (*WHOLE, "validate", "min_delta", "restore_best", "checkpoint", "after_step", "clip_norm", "clip_value",
         "skip_nonfinite")
NEEDS = {"validate_every": "validate", "patience": "validate", "checkpoint_every": "checkpoint"}


class Now(NamedTuple):
    """What a callback is told of a step. `t` is the count after it; `validation` is None where none followed it."""

    t: int
    value: float
    lr: float
    validation: float | None


class Fit(NamedTuple):
    """What `fit` did.

    Attributes
    ----------
    t : int64 array
        The optimizer's step count after each step. A step that was skipped repeats the count before it.
    value, lr : float64 arrays
        The value that each step saw, and the learning rate of its first group.
    validated, validation : int64 array, float64 array
        The step counts at which `validate` was called, and what it returned.
    best, best_value : int and float, or None
        Step count and value of the lowest validation.
    stopped : str
        Why it stopped: "steps", "batches", "patience", "callback" or "interrupted"; "error" in the ``result`` of an
        exception.
    steps : int
        Steps taken in this call.
    """

    t: np.ndarray
    value: np.ndarray
    lr: np.ndarray
    validated: np.ndarray
    validation: np.ndarray
    best: int | None
    best_value: float | None
    stopped: str
    steps: int

    def __repr__(self) -> str:
        last = f", t={self.t[-1]}, value={self.value[-1]:.6g}" if self.steps else ""
        best = "" if self.best is None else f", best={self.best}, best_value={self.best_value:.6g}"
        return f"Fit(steps={self.steps}, stopped={self.stopped!r}{last}{best})"


class BatchesEnded(ValueError):
    """The batches ended before the steps were taken; `result` is the `Fit` so far."""

    result: Fit


def fit(opt: Optimizer, value_and_grad: Callable[[Any, Any], tuple[Any, Any]], batches: Any = None,
        steps: int | None = None, *, accumulate: int = 1, validate: Callable[[Any], Any] | None = None,
        validate_every: int | None = None, patience: int | None = None, min_delta: float = 0.0,
        restore_best: bool = True, checkpoint: Any = None, checkpoint_every: int | None = None,
        after_step: Callable[[Optimizer], Any] | None = None, callback: Callable[[Now], Any] | None = None,
        progress: bool = False, clip_norm: float | None = None, clip_value: float | None = None,
        skip_nonfinite: bool = False) -> Fit:
    """Train: take steps with the gradients of batches, until all steps are taken or there is a reason to stop.

    Parameters
    ----------
    opt : Optimizer
        Its parameters change in place, and its `t` goes on from where it is. `fastopt.mpi.Sharded.fit` says what is
        different for an optimizer of many processes.
    value_and_grad : callable
        ``value_and_grad(params, batch) -> (value, gradients)``: a number, and a tree like `params`. `params` are the
        parameters of `opt`: with `Nesterov` the look-ahead point, with groups the list of their trees.
    batches : iterable, callable or None
        Batches of any kind. An iterable is walked again and again. An iterator, a generator for example, is used once.
        A callable, ``batches(epoch)`` for epoch = 0, 1, ..., returns the iterable of each pass. With None, each step
        gets None as its batch. Every call begins with epoch 0 and its first batch: to resume within a pass, give the
        batches from there on.
    steps : int, optional
        The steps to take in this call. If it is left out, one pass over the batches.
    accumulate : int
        How many batches make a step, which takes the mean of their values and gradients. Gradients are summed in
        float32, or in float64 where gradients or parameters are. The batches of a step may be of two passes. Not for
        parameters on a CUDA device.
    validate : callable, optional
        ``validate(params) -> value``, the lower the better. Each `ReduceOnPlateau` of the hyperparameters observes it.
        With ``schedule_free=``, `params` is `opt.evaluation_point()`.
    validate_every : int, optional
        Validate when `opt.t` reaches a multiple of this. By default, after the last step of each pass over the batches.
    patience : int, optional
        Stop when so many validations in a row (0 means 1) were not below the lowest before them by more than
        `min_delta`. NaN is never below.
    restore_best : bool
        At the end, give the parameters the values of the lowest validation. `opt.t` and the state stay those of the
        last step. With ``schedule_free=`` its state goes back, too: `opt.evaluation_point()` is then the point that was
        validated.
    checkpoint : path or callable, optional
        Where `fastopt.files.save` writes, or ``checkpoint(opt)`` to be called instead, when `opt.t` reaches a multiple
        of `checkpoint_every`, and at the end. A checkpoint holds the parameters of the last step, not the best ones. A
        run that goes on from it, with the batches that follow, takes the same steps as one that never stopped; patience
        and the best begin anew. To keep the best, save once more after `fit`.
    after_step : callable, optional
        ``after_step(opt)`` is called directly after every step that was not skipped. It may change the parameters in
        place, by projections and proximal steps (`fastopt.proximal`), for example. It is a part of the step:
        validation, the best copy, the checkpoint and the callback come after it, and a Ctrl-C waits for its end.
    callback : callable, optional
        ``callback(Now(t, value, lr, validation))`` is called after every step. To stop, it returns True or raises
        StopIteration. To change parameters, use `after_step`: a callback comes after the step's checkpoint.
    progress : bool
        Show a bar on stderr (extra ``progress``).
    clip_norm, clip_value, skip_nonfinite
        As in `Optimizer.step`. With `skip_nonfinite`, a value that is not finite is recorded, and is no error.

    Returns
    -------
    Fit
        A named tuple: `t`, `value` and `lr` of each step; `validated` and `validation`, the step counts at which
        `validate` was called and what it returned; `best` and `best_value`, those of the lowest; `stopped`, why it
        stopped; `steps`, how many were taken.

    Raises
    ------
    TypeError, ValueError, ImportError
        For arguments that do not fit, before the first step.
    BatchesEnded
        A ValueError: the batches ended before `steps`, within a group of `accumulate`, or there were none. The best is
        restored, and the checkpoint written, as at any other end.
    FloatingPointError
        The value is NaN or infinite; the step is not taken.

    Notes
    -----
    Ctrl-C ends the training as a stop does, with whole steps only: the checkpoint is written, the best parameters are
    restored, and `stopped` is "interrupted". A second Ctrl-C in the meantime is raised. Every exception has the `Fit`
    so far as its ``result``. After an exception other than BatchesEnded the parameters are those of the last step
    (without what a failed `after_step` still had to do), and no checkpoint is written.
    """
    arguments = locals()
    peers = getattr(opt, "_peers", ALONE)
    given = peers.together(lambda: _checked(arguments, peers))
    peers.check_alike({name: x if x is None or isinstance(x, (int, float)) else "given"
                       for name, x in vars(given).items() if name in ALIKE})
    run = _Run(given, peers)
    with bars.bar(given.progress and peers.first, "fit: progress", "", given.steps) as show:
        return run.all(show)


def _checked(arguments: dict[str, Any], peers: Any) -> SimpleNamespace:
    """The arguments of `fit`, checked each and together; whole numbers as ints."""
    given = SimpleNamespace(**arguments)
    if not isinstance(given.opt, Optimizer) and peers is ALONE:
        raise TypeError(f"fit: opt is a {type(given.opt).__name__}, but an optimizer is needed. Make one: "
                        "fastopt.Adam(params).")
    for name in ("value_and_grad", "validate", "after_step", "callback"):
        if not callable(arguments[name]) and (arguments[name] is not None or name == "value_and_grad"):
            raise TypeError(f"fit: {name} is {arguments[name]!r}, but a function is needed. Change {name}.")
    for name, least in WHOLE.items():
        if arguments[name] is not None or name == "accumulate":
            setattr(given, name, check_whole(name, arguments[name], "fit", least, kind=TypeError))
    for name in ("restore_best", "progress", "skip_nonfinite"):
        check_option(name, arguments[name], (False, True), "fit")
    for name, allowed in {"min_delta": NONNEGATIVE, "clip_norm": LIMIT, "clip_value": LIMIT}.items():
        if arguments[name] is not None or name == "min_delta":
            check_number(name, arguments[name], "fit", allowed=allowed)
    if not (given.batches is None or callable(given.batches) or walkable(given.batches)):
        raise TypeError(f"fit: batches is {given.batches!r}, but what can be iterated over, or a function, is needed. "
                        "Give a list of batches.")
    if given.batches is None and given.steps is None:
        raise ValueError("fit: neither batches nor steps, but one of them is needed to know when to stop. Give steps.")
    for name, other in NEEDS.items():
        if arguments[name] is not None and arguments[other] is None:
            raise ValueError(f"fit: {name} is {arguments[name]}, but {other}, without which it means nothing, is "
                             f"missing. Give {other}.")
    once = given.batches is None or isinstance(given.batches, Iterator)
    if given.validate is not None and given.validate_every is None and once:
        raise ValueError(f"fit: validate with {'no batches' if given.batches is None else 'an iterator'}, but it is "
                         "called after each pass over the batches, and there are no passes. Give validate_every.")
    if given.progress and peers.first:
        bars.check("fit: progress")
    return given


class _Run:
    """The loop, and how it ends."""

    def __init__(self, given: SimpleNamespace, peers: Any):
        self.given, self.opt, self.peers = given, given.opt, peers
        self.batches, self.stopping = Batches(given.batches, given.steps is not None), EarlyStopping(given, peers)
        accumulate = given.accumulate
        self.sums = self.opt.accumulate(f"fit: accumulate is {accumulate}") if accumulate > 1 else None
        self.watched = peers.any(lambda: given.callback is not None)
        self.options = {"clip_norm": given.clip_norm, "clip_value": given.clip_value,
                        "skip_nonfinite": given.skip_nonfinite, "grad_factor": 1/accumulate}
        self.write, self.written = peers.writer(given.checkpoint, self.opt), -1  # `opt.t` in the last checkpoint
        self.held, self.rows = peers.held(), bytearray()
        # The step in progress: where its row belongs, `opt.t` before it, value, learning rate; its batches; and whether
        # `after_step` is at work, so that the parameters are between two steps.
        self.pending, self.taken, self.cut = (-1, 0, 0.0, 0.0), 0, False

    @property
    def count(self) -> int:
        return len(self.rows)//ROW.size

    def all(self, show: Callable[[int, str], None]) -> Fit:
        try:
            try:
                if self.given.after_step or self.held.always:
                    self.held.install()
                stopped = self.loop(show)
                self.finish()
            except KeyboardInterrupt:
                if self.cut and self.opt.t > self.pending[1]:
                    raise
                stopped = "interrupted"
                self.finish()  # a second Ctrl-C is raised
            if stopped == "batches" and (self.given.steps or self.taken or not self.count):
                raise BatchesEnded(self.short())
            return self.result(stopped)
        except (Exception, KeyboardInterrupt) as error:
            self.record(skipped=False)
            with suppress(AttributeError):  # an exception of the caller's need not take it
                error.result = self.result(  # type: ignore[union-attr]
                    "batches" if isinstance(error, BatchesEnded) else "error")
            raise
        finally:
            self.held.remove()

    def loop(self, show: Callable[[int, str], None]) -> str:
        while self.given.steps is None or self.count < self.given.steps:
            now = self.step()
            if now is None:
                return "batches"
            seen = self.stopping.seen
            show(self.count, f"value {now.value:.6g}" + (f"  validation {seen[-1][1]:.6g}" if seen else ""))
            if self.told(now):
                return "callback"
            if self.stopping.bad >= self.stopping.patience:
                return "patience"
        return "steps"

    def step(self) -> Now | None:
        """Take a step, validate and save where it is time; None where there are no batches for it."""
        opt, before, after_step = self.opt, self.opt.t, self.given.after_step
        found = self.peers.found(self.gradients, self.held)
        self.taken = found.batches
        if found.grads is None:
            return None
        value, lr = found.value, opt.groups[0].at(before + 1)["lr"]
        self.pending = len(self.rows), before, value, lr
        with self.held:
            self.cut = after_step is not None
            opt.step(found.grads, **self.options)
            self.record(skipped=True)
            if after_step and opt.t > before:
                self.peers.together(lambda: after_step(opt))
            self.cut = False
        validation = self.stopping.validate() if self.stopping.due(before, self.batches) else None
        if self.given.checkpoint_every and opt.t % self.given.checkpoint_every == 0:
            self.save()
        return Now(opt.t, value, lr, validation)

    def gradients(self) -> Found:
        """What the next step needs: of several batches, mean of the values and sum of the gradients."""
        point = self.opt.lookahead() if self.opt.groups[0].rule.ahead else parameters(self.opt)
        taken, total = 0, 0.0
        while taken < self.given.accumulate:
            batch = self.batches.next()
            if batch is END:
                return Found(taken, 0.0, None)
            value, grads = evaluate(self.given.value_and_grad, point, batch)
            if not (self.given.skip_nonfinite or math.isfinite(value)):
                raise FloatingPointError(f"fit: the value of step {self.opt.t + 1} is {value}, but a finite one is "
                                         "needed. Lower the learning rate, clip the gradients, or give "
                                         "skip_nonfinite=True: steps with such gradients are then left out.")
            if self.sums:
                self.sums.add(grads, first=taken == 0)
            taken, total = taken + 1, total + value
        return Found(taken, total/taken, self.sums.tree() if self.sums else grads)

    def record(self, skipped: bool) -> None:
        """Note the step in progress in the history, once, if it was taken or is known to be `skipped`."""
        place, before, value, lr = self.pending
        if len(self.rows) == place and (skipped or self.opt.t > before):
            self.rows += ROW.pack(self.opt.t, value, lr)

    def told(self, now: Now) -> bool:
        """Call the callback; return whether it wants to stop."""
        def wants() -> bool:
            try:
                answer = self.given.callback(now) if self.given.callback else False
            except StopIteration:
                return True
            return isinstance(answer, (bool, np.bool_)) and bool(answer)
        return self.watched and self.peers.any(wants)

    def save(self) -> None:
        if self.write and self.written != self.opt.t:
            self.write()
            self.written = self.opt.t

    def finish(self) -> None:
        """Save what was reached, then restore the best. After a Ctrl-C within it, it is called again."""
        self.record(skipped=False)
        self.stopping.keep()
        try:
            self.save()
        except Exception:
            self.stopping.restore()
            raise
        self.stopping.restore()

    def short(self) -> str:
        """The message for batches that ended too early."""
        steps, count, taken = self.given.steps, self.count, self.taken
        done = f"{count} of {steps} steps" if steps else f"{count} step{'s'*(count != 1)}"
        cut = f", and {taken} of the {self.given.accumulate} for the next" if taken else ""
        return (f"fit: the batches ended after {done}{cut}, but whole steps are needed, all of them and at least one. "
                "Give more batches; a list or a function, which begins anew when it ends; or fewer steps.")

    def result(self, stopped: str) -> Fit:
        rows = np.frombuffer(bytes(self.rows), np.dtype([("t", np.int64), ("value", np.float64), ("lr", np.float64)]))
        (best, lowest, _), seen = self.stopping.best, self.stopping.seen
        return Fit(rows["t"].copy(), rows["value"].copy(), rows["lr"].copy(), np.array([t for t, _ in seen], np.int64),
                   np.array([value for _, value in seen], np.float64), best, None if best is None else lowest, stopped,
                   self.count)
