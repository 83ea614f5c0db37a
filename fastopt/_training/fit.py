"""Training: `fit` takes an optimizer through batches, validates, stops early, writes checkpoints, and ends in order at a Ctrl-C."""
import math
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from .._checks.numbers import LIMIT, NONNEGATIVE, check_number, check_option, check_whole, plain
from ..optimizer import Optimizer
from .batches import Batches, Gradients, walkable
from .early_stopping import Watch
from .interrupts import Held
from .progress import bar

ROW = struct.Struct("=qdd")  # t, value and learning rate of a step: 24 bytes of the history, added at once or not at all


class Now(NamedTuple):
    """What a callback is told after a step: the optimizer's step count, the value and the learning rate of the step, and the validation
    value, or None where no validation followed it."""

    t: int
    value: float
    lr: float
    validation: float | None


class Fit(NamedTuple):
    """What `fit` did.

    Attributes
    ----------
    t : int64 array
        The optimizer's step count after each step. (A step that was skipped repeats the one before.)
    value, lr : float64 arrays
        The value that each step saw, and its learning rate (of the first group).
    validated, validation : int64 array, float64 array
        The step counts at which `validate` was called, and what it returned.
    best, best_value : int and float, or None
        Step count and value of the lowest validation.
    stopped : str
        "steps", "batches", "patience", "callback", "interrupted"; "error" in an exception's ``result``.
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


def fit(opt: Optimizer, value_and_grad: Callable[[Any, Any], tuple[Any, Any]], batches: Any = None, steps: int | None = None, *,
        accumulate: int = 1, validate: Callable[[Any], Any] | None = None, validate_every: int | None = None, patience: int | None = None,
        min_delta: float = 0.0, restore_best: bool = True, checkpoint: Any = None, checkpoint_every: int | None = None,
        after_step: Callable[[Optimizer], Any] | None = None, callback: Callable[[Now], Any] | None = None, progress: bool = False,
        clip_norm: float | None = None, clip_value: float | None = None, skip_nonfinite: bool = False) -> Fit:
    """Train: take steps of an optimizer with the gradients of batches, until the steps are taken or there is a reason to stop.

    Parameters
    ----------
    opt : Optimizer
        Holds the parameters, which change in place, and the schedules. `t` goes on from where it is.
    value_and_grad : callable
        ``value_and_grad(params, batch) -> (value, gradients)``: a number, and a tree like `params`. `params` are those of `opt`
        (`Nesterov`: the look-ahead point; groups: the list of their trees).
    batches : iterable, callable or None
        Batches of any kind, handed on as they are. An iterable is walked again and again; a callable, ``batches(epoch)`` for epoch = 0, 1,
        ..., returns the iterable of each pass; an iterator (a generator) is used once. None: every step gets None as its batch.
        Every call begins with epoch 0 and its first batch, whatever `opt.t` is: a run that resumes in the middle of a pass must be given
        the batches from there on.
    steps : int, optional
        Steps to take in this call. Left out: as many as one pass over the batches gives.
    accumulate : int
        A step takes so many batches: the mean of their values and gradients, which are summed in float32 (float64 where gradients or
        parameters are).
        A pass that ends within such a group goes on in the next pass. Not for parameters on a CUDA device.
    validate : callable, optional
        ``validate(params) -> value``, the lower the better. Every `ReduceOnPlateau` among the hyperparameters observes it.
    validate_every : int, optional
        Validate when `opt.t` reaches a multiple of this; by default after the last step of each pass over the batches.
    patience : int, optional
        Stop when so many validations in a row were not below the lowest before them by more than `min_delta` (NaN never is). With 1 the
        first such validation stops; 0 means the same as 1.
    restore_best : bool
        At the end the parameters are those of the lowest validation; `opt.t` and the state stay those of the last step.
    checkpoint : path or callable, optional
        Where `fastopt.files.save` writes, or ``checkpoint(opt)`` to be called instead: when `opt.t` reaches a multiple of
        `checkpoint_every`, and at the end. It holds the parameters as the last step left them, not the best ones: a run that goes on from
        it, with the batches that follow, takes the steps of one that never stopped; patience and the best begin anew. To keep the best,
        save once more after `fit`.
    after_step : callable, optional
        ``after_step(opt)``, directly after every step that was not skipped: projections and proximal steps (`fastopt.proximal`), which
        change the parameters in place, or an average of the weights. It is a part of the step: validation, the best copy, the checkpoint
        and the callback come after it, and a Ctrl-C waits for its end.
    callback : callable, optional
        ``callback(Now(t, value, lr, validation))`` after every step, to observe. Returning True or raising StopIteration stops.
        What it changes in the parameters may come too late for the validation, best copy and checkpoint of that step: see `after_step`.
    progress : bool
        Show a bar on stderr (extra ``progress``).
    clip_norm, clip_value, skip_nonfinite
        As in `Optimizer.step`. With `skip_nonfinite` a value that is not finite is recorded, and no error.

    Returns
    -------
    Fit
        The history, the best validation and the reason to stop.

    Raises
    ------
    TypeError, ValueError, ImportError
        For arguments that do not fit, before the first step.
    BatchesEnded
        A ValueError: the batches ended before `steps`, within a group of `accumulate`, or there were none. What was reached is restored
        and saved as at any other end.
    FloatingPointError
        The value is NaN or infinite; the step is not taken.

    Notes
    -----
    Ctrl-C ends the training as a stop does, with whole steps only: the checkpoint is written, the best parameters are restored, and
    `stopped` is "interrupted". A second one, meanwhile, is raised. Every exception has the `Fit` so far as its ``result``; but for
    BatchesEnded the parameters are then those of the last step (without what `after_step` still had to do, where it is the one that
    failed), and no checkpoint is written.
    """
    _check(locals())
    steps, accumulate, validate_every, patience, checkpoint_every = map(plain, (steps, accumulate, validate_every, patience,
                                                                                checkpoint_every))
    gradients = Gradients(opt, value_and_grad, Batches(batches), accumulate, skip_nonfinite)
    watch = Watch(opt, validate, validate_every or 0, math.inf if patience is None else max(patience, 1), min_delta, restore_best)
    options = {"clip_norm": clip_norm, "clip_value": clip_value, "skip_nonfinite": skip_nonfinite, "grad_factor": 1/accumulate}
    run = _Run(opt, gradients, watch, steps, options, _writer(checkpoint, opt), checkpoint_every, after_step, callback)
    with bar(progress, "fit: progress", "", steps) as show:
        return run.all(show)


def _check(given: dict[str, Any]) -> None:
    """What is wrong with the arguments of `fit`, each and together."""
    opt, batches = given["opt"], given["batches"]
    if not isinstance(opt, Optimizer):
        raise TypeError(f"fit: opt is a {type(opt).__name__}, but an optimizer is needed. Make one: fastopt.Adam(params).")
    for name in ("value_and_grad", "validate", "after_step", "callback"):
        if not callable(given[name]) and (given[name] is not None or name == "value_and_grad"):
            raise TypeError(f"fit: {name} is {given[name]!r}, but a function is needed. Change {name}.")
    for name, least in {"steps": 1, "accumulate": 1, "validate_every": 1, "patience": 0, "checkpoint_every": 1}.items():
        if given[name] is not None or name == "accumulate":
            check_whole(name, given[name], "fit", least)
    for name in ("restore_best", "progress", "skip_nonfinite"):
        check_option(name, given[name], (False, True), "fit")
    for name, allowed in {"clip_norm": LIMIT, "clip_value": LIMIT, "min_delta": NONNEGATIVE}.items():
        if given[name] is not None or name == "min_delta":
            check_number(name, given[name], "fit", allowed=allowed)
    if not (batches is None or callable(batches) or walkable(batches)):
        raise TypeError(f"fit: batches is {batches!r}, but what can be iterated over, or a function, is needed. Give a list of batches.")
    if batches is None and given["steps"] is None:
        raise ValueError("fit: neither batches nor steps, but one of them is needed to know when to stop. Give steps.")
    for name, other in {"validate_every": "validate", "patience": "validate", "checkpoint_every": "checkpoint"}.items():
        if given[name] is not None and given[other] is None:
            raise ValueError(f"fit: {name} is {given[name]}, but {other}, without which it means nothing, is missing. Give {other}.")
    if given["validate"] is not None and given["validate_every"] is None and (batches is None or isinstance(batches, Iterator)):
        raise ValueError(f"fit: validate with {'no batches' if batches is None else 'an iterator'}, but it is called after each pass over "
                         "the batches, and there are no passes. Give validate_every.")


def _writer(checkpoint: Any, opt: Optimizer) -> Callable[[], Any] | None:
    """What writes a checkpoint."""
    if checkpoint is None or callable(checkpoint):
        return None if checkpoint is None else lambda: checkpoint(opt)
    from .. import files
    path = files.tried("fit: checkpoint", checkpoint)
    return lambda: files.save(path, opt)


@dataclass
class _Run:
    """The loop, and how it ends."""

    opt: Optimizer
    gradients: Gradients
    watch: Watch
    steps: int | None
    options: dict[str, Any]
    write: Callable[[], Any] | None
    write_every: int | None
    after_step: Callable[[Optimizer], Any] | None
    callback: Callable[[Now], Any] | None
    held: Held = field(default_factory=Held)
    rows: bytearray = field(default_factory=bytearray)
    pending: tuple[int, int, float, float] = -1, 0, 0.0, 0.0  # of the step in progress: where its row belongs, `opt.t` before, value, lr
    cut: bool = False                                         # within `after_step`: the parameters are between two steps
    written: int | None = None                                # `opt.t` in the last checkpoint

    @property
    def count(self) -> int:
        return len(self.rows)//ROW.size

    def all(self, show: Callable[[int, str], None]) -> Fit:
        try:
            try:
                if self.after_step:
                    self.held.install()
                stopped = self.loop(show)
                self.finish()
            except KeyboardInterrupt:
                if self.cut and self.opt.t > self.pending[1]:
                    raise
                stopped = "interrupted"
                self.finish()  # a second Ctrl-C is raised
            if stopped == "batches" and (self.steps or self.gradients.taken or not self.count):
                raise BatchesEnded(self.short())
            return self.result(stopped)
        except (Exception, KeyboardInterrupt) as error:
            self.record(skipped=False)
            with suppress(AttributeError):  # an exception of the caller's need not take it
                error.result = self.result("batches" if isinstance(error, BatchesEnded) else "error")  # type: ignore[union-attr]
            raise
        finally:
            self.held.remove()

    def loop(self, show: Callable[[int, str], None]) -> str:
        while self.steps is None or self.count < self.steps:
            now = self.step()
            if now is None:
                return "batches"
            show(self.count, f"value {now.value:.6g}{self.watch.said()}")
            if self.told(now):
                return "callback"
            if self.watch.bad >= self.watch.patience:
                return "patience"
        return "steps"

    def step(self) -> Now | None:
        """Take a step, validate and save where it is time; None where there are no batches for it."""
        opt, before = self.opt, self.opt.t
        found = self.gradients(again=self.steps is not None)
        if found is None:
            return None
        value, lr = found[0], opt.groups[0].at(before + 1)["lr"]
        self.pending = len(self.rows), before, value, lr
        with self.held:
            self.cut = self.after_step is not None
            opt.step(found[1], **self.options)
            self.record(skipped=True)
            if self.after_step and opt.t > before:
                self.after_step(opt)
            self.cut = False
        validation = self.watch.validate() if self.watch.due(before, self.gradients.batches) else None
        if self.write_every and opt.t % self.write_every == 0:
            self.save()
        return Now(opt.t, value, lr, validation)

    def record(self, skipped: bool) -> None:
        """Note the step in progress, once, where it was taken (or `skipped`)."""
        place, before, value, lr = self.pending
        if len(self.rows) == place and (skipped or self.opt.t > before):
            self.rows += ROW.pack(self.opt.t, value, lr)

    def told(self, now: Now) -> bool:
        """Tell the callback; whether it wants to stop."""
        try:
            answer = self.callback(now) if self.callback else False
        except StopIteration:
            return True
        return isinstance(answer, (bool, np.bool_)) and bool(answer)

    def save(self) -> None:
        if self.write and self.written != self.opt.t:
            self.write()
            self.written = self.opt.t

    def finish(self) -> None:
        """Save what was reached, then restore the best. Where a Ctrl-C cuts it short, it is done again."""
        self.record(skipped=False)
        self.watch.keep()
        try:
            self.save()
        except Exception:
            self.watch.restore()
            raise
        self.watch.restore()

    def short(self) -> str:
        of = f" of {self.steps}" if self.steps else ""
        plural = "s" if self.steps or self.count != 1 else ""
        cut = f", and {self.gradients.taken} of the {self.gradients.accumulate} for the next" if self.gradients.taken else ""
        return (f"fit: the batches ended after {self.count}{of} step{plural}{cut}, but whole steps are needed, all of them and at least "
                "one. Give more batches; a list or a function, which begins anew when it ends; or fewer steps.")

    def result(self, stopped: str) -> Fit:
        rows = np.frombuffer(bytes(self.rows), np.dtype([("t", np.int64), ("value", np.float64), ("lr", np.float64)]))
        seen, (best, lowest, *_) = self.watch.seen, self.watch.best
        return Fit(rows["t"].copy(), rows["value"].copy(), rows["lr"].copy(), np.array([t for t, _ in seen], np.int64),
                   np.array([value for _, value in seen], np.float64), best, None if best is None else lowest, stopped, self.count)
