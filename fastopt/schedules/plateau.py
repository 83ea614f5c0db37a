"""The one schedule that has a state."""
from __future__ import annotations

import math
from collections.abc import Mapping

from .factory import Count, Fraction, Goal, Number, Size, ThresholdMode, checked


class ReduceOnPlateau:
    """Lower the value when a loss stops improving. This is the one schedule with a state; hand losses to `observe`.

    A loss is better if it is below best - threshold*abs(best), or with `threshold_mode` "abs" below best - threshold.
    (With mode "max": above best + threshold*abs(best), and so on.) NaN is never better. After more than `patience`
    observations without a better one, the value becomes max(value*factor, min_lr), and the next `cooldown` observations
    do not count. patience and cooldown are in observations, not steps. factor is above 0 and below 1, and a relative
    threshold from 0 to 1.

    torch: ``ReduceLROnPlateau(optimizer, eps=0)`` with these arguments, except that its relative threshold calls a
    slightly worse negative loss better. optax: ``contrib.reduce_on_plateau(factor, patience + 1, rtol=threshold,
    atol=0.0, cooldown=cooldown)``, "abs" with rtol and atol the other way round. Keras: the callback
    ``ReduceLROnPlateau(patience=patience + 1, min_delta=threshold, cooldown=cooldown + 1)``, "abs".
    """

    def __init__(self, lr: Number, factor: Fraction = 0.1, patience: Count = 10, threshold: Size = 1e-4,
                 mode: Goal = "min", cooldown: Count = 0, min_lr: Number = 0.0,
                 threshold_mode: ThresholdMode = "rel") -> None:
        given = locals()
        domains = {k: str(v) for k, v in ReduceOnPlateau.__init__.__annotations__.items() if k != "return"}
        self._options = {k: checked(f"ReduceOnPlateau.{k}", given[k], domain) for k, domain in domains.items()}
        if not 0 < factor < 1:
            raise ValueError(f"ReduceOnPlateau.factor: found {factor}, needed above 0 and below 1. 0.1 divides by ten.")
        if threshold_mode == "rel" and threshold > 1:
            raise ValueError(f"ReduceOnPlateau.threshold: found {threshold}, needed a number from 0 to 1. Pass a "
                             "fraction of 1, or threshold_mode='abs'.")
        if min_lr > lr:
            raise ValueError(f"ReduceOnPlateau.min_lr: found {min_lr}, needed at most lr = {lr}. Lower min_lr.")
        self._sign = 1.0 if mode == "min" else -1.0
        self._state = {"lr": self._options["lr"], "best": self._sign * math.inf, "bad": 0, "cooling": 0}

    def __call__(self, t: int) -> float:
        """The value now, whatever the step."""
        return float(self._state["lr"])

    def __repr__(self) -> str:
        return f"ReduceOnPlateau({', '.join(f'{k}={v!r}' for k, v in self._options.items())}, state={self._state})"

    @property
    def version(self) -> int:
        """A number that changes when the value does. Optimizers look at it before they use what they have computed."""
        return hash(self._state["lr"])

    def observe(self, loss: float) -> None:
        """Take in one loss (one score, for mode "max"): a number."""
        try:
            value = float(loss) * self._sign
        except (TypeError, ValueError):
            raise TypeError(f"ReduceOnPlateau.observe: found {loss!r}, needed one number. Pass float(loss).") from None
        o, s, best = self._options, self._state, self._state["best"] * self._sign
        margin = o["threshold"] * (abs(best) if o["threshold_mode"] == "rel" else 1.0)
        better = value < (best - margin if math.isfinite(best) else best)
        if better:
            s["best"] = float(loss)
        s["bad"] = 0 if better or s["cooling"] else s["bad"] + 1
        s["cooling"] = max(s["cooling"] - 1, 0)
        if s["bad"] > o["patience"]:
            s.update(lr=max(s["lr"] * o["factor"], o["min_lr"]), bad=0, cooling=o["cooldown"])

    def state_dict(self) -> dict[str, float]:
        """The state in numbers: lr, best, bad (observations without a better one) and cooling (observations left)."""
        return dict(self._state)

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Continue from what `state_dict` returned; ValueError for other keys."""
        if set(state) != set(self._state):
            raise ValueError(f"ReduceOnPlateau.load_state_dict: found the keys {sorted(state)}, needed "
                             f"{sorted(self._state)}. Load what state_dict returned.")
        domains = {"lr": "Number", "best": "Loss", "bad": "Count", "cooling": "Count"}
        self._state = {k: checked(f"ReduceOnPlateau.load_state_dict[{k!r}]", state[k], d) for k, d in domains.items()}
