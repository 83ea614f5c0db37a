"""Steps in which some tensors have no gradient: those stay as they are, and each tensor counts the steps that it had.

A backend steps all of its tensors. For some of them it makes another, of the same arrays, in whose groups are tensors
that have had equally many steps. That one takes the steps as long as the same tensors have gradients.
"""
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from .._rule.groups import Late
from .._rule.history import Known

if TYPE_CHECKING:
    from .backend import Request, Stored

KEPT = 8  # backends of parts


def _of_whole(surveyed: Callable[[], Mapping[int, Any]], live: Sequence[int]) -> dict[int, Any]:
    """What a part has found of its tensors, by their numbers in the whole."""
    return {live[k]: found for k, found in surveyed().items()}


class Parts:
    """How many steps each tensor of a backend, the `whole`, has had, and which backend takes the steps now."""

    def __init__(self, behind: Sequence[int], past: Sequence[Known | None]):
        """Of tensors that are so many steps behind; `past` has the history of each that has one of its own."""
        self.behind, self.past = behind, past  # when `current` took over, at step `since`
        self.even = not any(behind) and not any(past)
        self.current: Stored | None = None     # None: the whole
        self.since = 0
        self.live: tuple[int, ...] = ()        # the tensors of `current`
        self.apart = False                     # whether each has a group of its own
        self.kept: dict[tuple, tuple[Stored, list[Late]]] = {}
        self._masks: tuple[Any, Any] = (), ()

    def counted(self) -> tuple[Sequence[int], Sequence[Known | None]]:
        """How many steps each tensor is behind now, and the history of each that has one of its own."""
        part = self.current
        steps = 0 if part is None else part.taken - self.since
        if part is None or not steps:
            return self.behind, self.past
        live, past = set(self.live), list(self.past)
        behind = [b if k in live else b + steps for k, b in enumerate(self.behind)]
        for k, tensor in zip(self.live, part.tensors, strict=True):
            if (history := part.groups[tensor.group].history) is not None:
                past[k] = history.known(self.since + steps - behind[k])
        return behind, past

    def step(self, whole: "Stored", leaves: list, paths: list[str], request: "Request") -> None:
        """Step the tensors that have a gradient."""
        live = tuple([k for k, leaf in enumerate(leaves) if leaf is not None])
        if live and (part := self.turn_to(whole, live, request.apart)) is not whole:
            part.threads = whole.threads
            if request.masks:
                if self._masks[0] is not request.masks:
                    self._masks = request.masks, self.of(request.masks)
                request = request._replace(masks=self._masks[1])
            part.step(self.of(leaves), self.of(paths), request)
            if request.measure:
                whole.surveyed = partial(_of_whole, part.surveyed, live)
        elif live:
            whole.step(leaves, paths, request)
        else:
            whole.last.no_norm()
            if request.measure:
                whole.surveyed = dict

    def of(self, values: Sequence[Any]) -> list[Any]:
        """Of values for all tensors, those for the tensors that `current` steps."""
        return [values[k] for k in self.live]

    def turn_to(self, whole: "Stored", live: tuple[int, ...], apart: bool = False) -> "Stored":
        """The backend that steps these tensors from now on; `apart`: each with a factor of its own."""
        if self.even and len(live) == len(self.behind) and not apart:
            return whole
        if self.current is not None and live == self.live and apart == self.apart:
            return self.current
        (behind, past), t = self.counted(), whole.t
        if len(live) == len(behind) and not (apart or any(behind) or whole.rule.history):
            whole.taken = t
            whole.parts = Parts(behind, past)
            return whole
        behind, past = whole.counted()
        alike = [(k if apart else 0, whole.tensors[k].group, behind[k], past[k]) for k in live]
        groups = list(dict.fromkeys(alike))
        part, late = self._part(whole, live, apart, [groups.index(one) for one in alike],
                                [group for _, group, *_ in groups])
        for one, (*_, steps, history) in zip(late, groups, strict=True):
            one.set(steps, history)
        part.taken = t
        self.live, self.apart, self.behind, self.past, self.since = live, apart, behind, past, t
        self.even, self.current, self._masks = False, part, ((), ())
        whole.forget()
        return part

    def _part(self, whole: "Stored", live: tuple[int, ...], apart: bool, members: Iterable[int],
              groups: list[int]) -> tuple["Stored", list[Late]]:
        """A backend of these tensors, members of groups that come from these, and what it has as groups."""
        key = live, apart, *members, *groups
        if key not in self.kept:
            whole.look()
            late = [Late(whole.groups[group]) for group in groups]
            tensors = [whole.tensors[k]._replace(group=j) for k, j in zip(live, members, strict=True)]
            self.kept = dict([*self.kept.items()][1 - KEPT:]) | {key: (whole.part(live, tensors, late, apart), late)}
        return self.kept[key]
