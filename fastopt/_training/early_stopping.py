"""Early stopping: validations during a training, the parameters of the best, and `ReduceOnPlateau` schedules."""
import math
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from .._formats.choice import SCHEDULE_FREE
from ..optimizer import Optimizer
from ..schedules import ReduceOnPlateau, Schedule
from ..schedules.factory import functions
from .batches import Batches, number, parameters


class EarlyStopping:
    """What validations found, how many in a row were no better, and the parameters of the best."""

    def __init__(self, given: SimpleNamespace, peers: Any):
        """From the arguments of `fit`."""
        self.peers = peers
        self.opt, self.function, self.every = given.opt, given.validate, given.validate_every
        self.patience = math.inf if given.patience is None else max(given.patience, 1)
        self.min_delta, self.keeps = given.min_delta, given.restore_best
        self.averages = SCHEDULE_FREE in self.opt.rule.state  # then the point to evaluate depends on the state, too
        self.seen: list[tuple[int, float]] = []
        self.bad = self.passes = 0  # validations in a row that were no better; complete passes
        self.best: tuple[int | None, float, Any] = None, math.inf, None  # step, value, and a snapshot
        self.plateaus = plateaus(self.opt)

    def due(self, before: int, batches: Batches) -> bool:
        """Whether to validate after the step that began at `opt.t == before`."""
        if self.function is None or self.every:
            return self.function is not None and self.opt.t > before and self.opt.t % self.every == 0
        last, self.passes = self.passes, self.peers.as_first(batches.passes)
        return self.passes > last

    def validate(self) -> float:
        point = self.opt.evaluation_point() if self.averages else parameters(self.opt)
        value = self.peers.mean(lambda: number(self.function(point), "fit: validate"))
        self.bad = 0 if value < self.best[1] - self.min_delta else self.bad + 1
        self.seen.append((self.opt.t, value))
        self.keep()
        for plateau in self.plateaus:
            plateau.observe(value)
        return value

    def keep(self) -> None:
        """Copy the parameters if the last validation was the best, unless that has been done."""
        if self.seen and self.seen[-1][1] < self.best[1]:
            with self.opt.snapshot(self.averages, True, "fit") if self.keeps else nullcontext() as found:
                self.best = *self.seen[-1], found

    def restore(self) -> None:
        """Make the parameters the best ones: all of them, even if a Ctrl-C comes meanwhile."""
        if (best := self.best[2]) is not None:
            saved = best.saved and {k: x for k, x in best.saved.items() if k != "functions"}  # none is forgotten here
            self.opt.restore(best._replace(saved=saved), "fit")


def anew(value: Any, copies: dict[int, Any] | None = None) -> Any:
    """The value, or a dict of values, with a copy of every `ReduceOnPlateau`. One that is shared stays shared."""
    copies = {} if copies is None else copies
    if isinstance(value, ReduceOnPlateau):
        return deepcopy(value, copies)
    if isinstance(value, dict):
        return {k: anew(part, copies) for k, part in value.items()}
    if isinstance(value, tuple):
        return tuple(anew(part, copies) for part in value)
    if isinstance(value, Schedule):
        return replace(value, arguments=anew(value.arguments, copies))
    return value


def plateaus(opt: Optimizer) -> list[ReduceOnPlateau]:
    """Every `ReduceOnPlateau` among the hyperparameters, once; also where it is a part of a schedule (a warm-up)."""
    parts = (part for group in opt.groups for value in group.values() for part in functions(value))
    return list({id(part): part for part in parts if isinstance(part, ReduceOnPlateau)}.values())
