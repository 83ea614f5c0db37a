"""Validations in the course of a training: what they found, the parameters of the best, and the schedules that observe them."""
import math
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np

from ..optimizer import Optimizer
from ..schedules import ReduceOnPlateau, Schedule
from .batches import Batches, number, parameters


class Watch:
    """Validations: what they found, how patience stands, and the parameters of the best."""

    def __init__(self, opt: Optimizer, function: Any, every: int, patience: float, min_delta: float, keeps: bool):
        self.opt, self.function, self.every, self.patience, self.min_delta, self.keeps = opt, function, every, patience, min_delta, keeps
        self.seen: list[tuple[int, float]] = []
        self.bad = self.passes = 0  # validations in a row that were no better; complete passes
        self.best: tuple[int | None, float, list[np.ndarray],
                         list[np.ndarray]] = None, math.inf, [], []  # and what bfloat16 lacks
        self.plateaus = plateaus(opt)

    def due(self, before: int, batches: Batches) -> bool:
        """Whether a validation follows the step before which `opt.t` was `before`."""
        if self.function is None or self.every:
            return self.function is not None and self.opt.t > before and self.opt.t % self.every == 0
        last, self.passes = self.passes, batches.passes()
        return self.passes > last

    def validate(self) -> float:
        value = number(self.function(parameters(self.opt)), "validate")
        self.bad = 0 if value < self.best[1] - self.min_delta else self.bad + 1
        self.seen.append((self.opt.t, value))
        self.keep()
        for plateau in self.plateaus:
            plateau.observe(value)
        return value

    def said(self) -> str:
        """The last validation, for the progress bar."""
        return f"  validation {self.seen[-1][1]:.6g}" if self.seen else ""

    def keep(self) -> None:
        """Copy the parameters where the last validation was the best; unless that was done."""
        if self.seen and self.seen[-1][1] < self.best[1]:
            machine = self.opt._machine
            machine.look()
            copies = [machine.read(t.array, True) for t in self.opt._tensors] if self.keeps else []
            self.best = *self.seen[-1], copies, [machine.read(a, True)
                                                 for a in machine.remainders] if self.keeps else []

    def restore(self) -> None:
        """Make the parameters the best ones: all of them, even where a Ctrl-C comes."""
        _, _, parameters, remainders = self.best
        if parameters:
            machine, tensors = self.opt._machine, self.opt._tensors
            with self.opt._lock:
                machine.look()
                machine.put([*zip([t.array for t in tensors], parameters, strict=True),
                             *zip(machine.remainders, remainders, strict=True),
                             *machine.followers(machine.outputs.values(), parameters, remainders)])


def anew(value: Any) -> Any:
    """The value, or each of a dict, with its own copy of every ReduceOnPlateau, shared as before; all else is what was given, no copy."""
    return _anew(value, {})


def _anew(value: Any, copies: dict[int, Any]) -> Any:
    if isinstance(value, dict):
        return {k: _anew(part, copies) for k, part in value.items()}
    if not any(_plateaus(value)):
        return value
    if isinstance(value, Schedule):
        return replace(value, arguments=tuple(_anew(part, copies) for part in value.arguments))
    return deepcopy(value, copies)


def plateaus(opt: Optimizer) -> list[ReduceOnPlateau]:
    """The plateau schedules among the hyperparameters, each once: themselves, or what schedules are made of (a warm-up into one)."""
    values = (value for group in opt.groups for value in group.values())
    return list({id(p): p for value in values for p in _plateaus(value)}.values())


def _plateaus(value: Any) -> Iterator[ReduceOnPlateau]:
    if isinstance(value, ReduceOnPlateau):
        yield value
    elif isinstance(value, Schedule):
        for part in value.arguments:
            yield from _plateaus(part)
