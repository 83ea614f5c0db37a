"""Copies of optimizers, by `copy` and by `pickle`: what they are made with anew, and the state that they then load.

Rules and classes are pickled by their names, as functions are. What has no name in a module is refused with its path.
"""
import copy
import pickle
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from .._rule.rule import importable
from .._signals import at_once
from .._tensors.parameters import grouped

if TYPE_CHECKING:
    from ..optimizer import Optimizer


class Named:
    """A part of an optimizer that pickle may refuse, and what errors call it."""

    def __init__(self, path: str, value: Any):
        self.path, self.value = path, value

    def __deepcopy__(self, memo: dict) -> "Named":
        return Named(self.path, copy.deepcopy(self.value, memo))

    def __reduce__(self) -> tuple:
        try:
            pickle.dumps(self.value)
        except Exception as error:
            raise TypeError(f"{self.path}: it cannot be pickled ({error}), but a copy in another process needs it. "
                            "Define it in a module, under a name of its own; or save opt.state_dict(), make a new "
                            "optimizer there, and load it.") from None
        return Named, (self.path, self.value)


def _named(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Values, functions among which are `Named`; parameters are trees, whatever they can be called with."""
    return {k: Named(f"{where}[{k!r}]", v) if callable(v) and k != "params" else v for k, v in values.items()}


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v.value if isinstance(v, Named) else v for k, v in values.items()}


def _formats(by_path: Mapping[str, Mapping[str, str]], path: str, array: Any) -> Mapping[str, str]:
    return by_path[path]


def reduced(opt: "Optimizer") -> tuple[Callable[..., Any], tuple]:
    """What `pickle` makes an optimizer of, and `copy` a copy: a function and its arguments."""
    backend, kind, name = opt._backend, type(opt), type(opt).__name__
    origin = (kind, ()) if importable(kind) else kind.origin
    groups = [_named(group, f"groups[{k}]") for k, group in enumerate(opt.groups)]
    params = [_named(g, f"params[{k}]") for k, g in enumerate(opt.params)] if grouped(opt.params) else opt.params
    formats = {t.path: {s: slot.formats[k].name for s, slot in backend.states.items()}
               for k, t in enumerate(backend.tensors)}
    firsts = [t.first//2 if t.complex else t.first for t in backend.tensors]
    places = [(t.number, first) if opt._numbered else first for t, first in zip(backend.tensors, firsts, strict=True)]
    options = {**_named(opt._asked.hyper, name), "rounding": opt._asked.rounding, "seed": opt.seed,
               "state": partial(_formats, formats), "threads": opt.threads, "capturable": backend.capturable or None,
               "first": opt._structure.build(iter(places)) if opt._numbered or any(firsts) else 0}
    if backend.outputs:
        options["copy"] = opt._structure.build(iter(backend.outputs["copy"].originals))
    asked = Named(f"{name}: the formats", opt._asked.formats)
    return _restored, (Named(f"{name}: its class", origin), params, options, groups, asked, opt.state_dict())


def _restored(origin: Named, params: Any, options: dict[str, Any], groups: list[dict[str, Any]], asked: Named,
              saved: dict[str, Any]) -> "Optimizer":
    """An optimizer of the parts that `reduced` gave."""
    make, arguments = origin.value
    kind = make(*arguments) if arguments else make
    opt = kind.__new__(kind)
    opt._copied = True
    opt.__init__([_plain(g) for g in params] if grouped(params) else params, **_plain(options))
    at_once([group.change(_plain(values), group.where) for group, values in zip(opt.groups, groups, strict=True)])
    opt._asked = opt._asked._replace(formats=asked.value)
    opt.load_state_dict(saved)
    return opt
