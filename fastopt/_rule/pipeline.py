"""A pipeline: a rule and the pieces around it. It is a rule, too, of more slots; kernels are made of it."""
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

from numba.extending import register_jitable

from .._checks.numbers import plain
from .digest import digest
from .pieces import COMMON, LAST, MEASURE, PIECES, PLAIN, STATES, Piece, masked, nothing, subtracted
from .rule import coefficients_at, named


class Pipeline:
    """A rule with pieces. It has the facts of its rule, and adds what the pieces need.

    Called with arrays it is the reference for kernels: ``pipeline(c, g, p, *slots) -> (p, *slots that are written)``.
    Its slots are the states, outputs and inputs, in this order. A kernel's layout begins with gradient and parameter.
    """

    name: str
    rule: Any
    body: Callable[..., Any]
    returns: str
    Coefficients: Any
    Loaded: Any
    unread: range

    def __init__(self, rule: Any, names: Iterable[str]):
        vars(self).update(vars(rule), rule=rule, __doc__=rule.__doc__)
        pieces = self.pieces = tuple(piece for piece in PIECES.values() if piece.name in names)
        self.names = tuple(piece.name for piece in pieces)
        of_kind = {kind: tuple(piece.name for piece in pieces if piece.slot == kind)
                   for kind in ("state", "output", "input")}
        instead = next((piece for piece in pieces if piece.history), None)
        gone, idle = (rule.momentum if instead else ()) or ("", "")  # a hyperparameter and a state
        if instead:
            self.history, self.point = instead.history, ("", instead.name)
        self.state = (*(name for name in rule.state if name != idle), *of_kind["state"])
        self.outputs = rule.outputs + of_kind["output"]
        self.inputs = rule.inputs + of_kind["input"]
        self.writes = 1 + len(self.state) + len(self.outputs)
        self.unread = range(2 + len(self.state), 1 + self.writes)  # the slots of a layout that are only written
        of_pieces = [field for piece in pieces for field in piece.fields]
        some = (*COMMON, *LAST)
        further = [field for field in of_pieces if field not in some]
        self.fields = (*rule.fields, *further, *(LAST if rule.returns == "u" else ()))
        if self.fields != rule.fields:
            self.Coefficients = named(self.fields)
        of_rule = {name: value for name, value in rule.defaults.items() if name != gone}
        self.defaults = {**of_rule, **{name: value for piece in pieces for name, value in piece.hyper.items()}}
        self.own_names = (*(name for name in rule.own_names if name != gone),
                          *(name for piece in pieces for name in piece.hyper))
        self.own = _own(rule, [piece for piece in pieces if piece.hyper], {gone: 0.0} if gone else {})
        self.at = coefficients_at(self)
        used = {*rule.reads, *of_pieces}
        self.loaded = tuple(x for x in self.fields if x not in some or x in used)  # what a kernel reads of a row
        self.columns = tuple(map(self.fields.index, self.loaded))
        self.Loaded = named(self.loaded)
        # A rule that reads all that every rule has may do it by place: it gets its own coefficients and no others
        self.own_loaded = len(rule.fields) if self.fields != rule.fields and {*COMMON} <= {*rule.reads} else None
        self.masked = "mask" in self.names
        self.measured = [piece for piece in pieces if piece.terms]
        self.digest = " ".join((rule.digest, *self.names, *[idle]*bool(idle)))

    def __hash__(self) -> int:
        return hash(self.digest)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pipeline) and self.digest == other.digest

    def __call__(self, c, g, p, *slots):
        """The step on scalars or arrays of the arithmetic's type."""
        if self.masked:
            slots = (*slots[:-1], slots[-1] != 0)
        def called(function, *numbers, results=1, first=None):
            return function(c if first is None else self.rule.Coefficients(*c[:first]), *numbers)
        new = self.compose(called, g, p, *slots)
        kept = 1 + len(self.state) if self.masked else 0
        return (*(masked(c, x, old, slots[-1]) for x, old in zip(new[:kept], (p, *slots), strict=False)), *new[kept:])

    def compose(self, call: Callable[..., Any], g: Any, p: Any, *slots: Any, until: Piece | None = None) -> list[Any]:
        """The new numbers of all slots that are written, without the mask: what it keeps, the caller keeps bit for bit.

        ``call(function, *numbers, results=1, first=None)`` calls a function with the coefficients, or the first so
        many, and these numbers; it gives a number, or a tuple of so many. `until`: the terms of this measured piece
        instead.
        """
        own, old = self.rule.state, dict(zip((*self.state, *self.outputs, *self.inputs), slots, strict=True))
        new: dict[str, Any] = {}
        given = g
        for piece in self._at("gradient"):
            kept = (old[piece.name],) if piece.slot else ()
            if piece is until:
                return call(piece.terms, g, p, *kept, results=piece.many)
            if kept:
                g, new[piece.name] = call(piece.function, g, p, *kept, results=2)
            else:
                g = call(piece.function, g, p)
            given = g if piece.name == "scale" else given
        of_body = (old[name] if name in old else call(nothing) for name in (*own, *self.rule.inputs))
        u, *of_rule = call(self.body, g, p, *of_body, results=1 + len(own), first=self.own_loaded)
        new |= zip(own, of_rule, strict=True)
        for piece in self._at("update"):
            if piece is until:
                return call(piece.terms, u, g, p, results=piece.many)
            u = call(piece.function, u, g)
        for piece in self._at("decay"):
            u = call(piece.function, p, u)
        if self.returns == "p":
            p_new = u
        elif moves := self._at("apply"):
            p_new, new[moves[0].name] = call(moves[0].function, p, u, old[moves[0].name], results=2)
        else:
            p_new = call(subtracted, p, u)
        if until is MEASURE:
            return call(MEASURE.terms, given, p, p_new, results=MEASURE.many)
        after = self._at("after")
        followed = call(masked, p_new, p, old["mask"]) if after and self.masked else p_new
        new |= {piece.name: call(piece.function, followed, old[piece.name]) for piece in after}
        return [p_new, *(new[name] for name in (*self.state, *self.outputs))]

    def _at(self, stage: str) -> list[Piece]:
        return [piece for piece in self.pieces if piece.stage == stage]

    def having(self, name: str, there: bool = True) -> "Pipeline":
        """The pipeline with this piece, or without it."""
        return _made(self.rule, frozenset(self.names) | {name} if there else frozenset(self.names) - {name})


def _own(rule: Any, pieces: list[Piece], fixed: dict[str, float]) -> Callable[..., dict[str, float]]:
    if not pieces:
        return rule.own
    names = {name for piece in pieces for name in piece.hyper}
    with_history = any(piece.history for piece in pieces)

    def own(t, **given):
        past = given.pop("past", None) if with_history else None
        values = dict(rule.own(t, **{k: v for k, v in given.items() if k not in names}, **fixed))
        for piece in pieces:
            with_past = {"t": t, "past": past} if piece.history else {}
            values |= piece.at(**{name: given[name] for name in (*piece.hyper, *piece.needs)}, **with_past)
        return values
    return own


_made = lru_cache(maxsize=1024)(Pipeline)


@lru_cache(maxsize=1024)
def pipeline(rule: Any, names: tuple[str, ...] | None = None) -> Pipeline:
    """A rule with these pieces (None: those of every rule) around it, beside those with slots that it has already."""
    if names is None and isinstance(rule, Pipeline):
        return rule
    kept = [piece.name for piece in getattr(rule, "pieces", ()) if piece.slot]
    return _made(getattr(rule, "rule", rule), frozenset((*(PLAIN if names is None else names), *kept)))


def is_asked(value: Any) -> bool:
    """Whether this value asks for the modifier that it is given for."""
    return value is not None and plain(value) is not False


def modified(rule: Any, asked: Mapping[str, Any], hyper: Mapping[str, Any],
             where: str) -> tuple[dict[str, Any], list[str]]:
    """These hyperparameters and those of the modifiers with a state that are asked for, and the names of these.

    `asked` has, by name, the hyperparameter of a modifier, a tuple of several, or True, which stands for the defaults.
    """
    found = dict(hyper)
    for name in STATES:
        if is_asked(given := asked.get(name)):
            names = PIECES[name].hyper
            first = tuple(names.values())
            values = first if plain(given) is True else given if len(names) > 1 else (given,)
            if not isinstance(values, (tuple, list)) or len(values) != len(names):
                words = ", ".join(one.removeprefix(f"{name}_") for one in names)
                raise ValueError(f"{where}: {name} is {given!r}, but ({words}) is needed, {first} for example. Change "
                                 "it, or give True.")
            found |= zip(names, values, strict=True)
    modifiers = [name for name in STATES if PIECES[name].hyper.keys() & found.keys()]
    for piece in map(PIECES.__getitem__, modifiers):
        if lacking := [name for name in piece.needs if name not in rule.defaults]:
            raise TypeError(f"{where}: {piece.name}, but it needs the hyperparameter {lacking[0]}, which {rule.name} "
                            "has not. Take an optimizer that has it, AdamW for example.")
        if piece.history:
            _replace_momentum(rule, found, where)
    return found, modifiers


def _replace_momentum(rule: Any, hyper: dict[str, Any], where: str) -> None:
    """Take out the hyperparameter whose place schedule_free takes; ValueError where it does not go with others."""
    if "average" in hyper:
        raise ValueError(f"{where}: average with schedule_free, whose evaluation_point() is an average already. Leave "
                         "one of them out.")
    if rule.ahead or rule.history:
        raise ValueError(f"{where}: schedule_free, but {rule.name} looks ahead by itself or has a history of its own. "
                         "Take fastopt.SGD, fastopt.AdamW or another rule.")
    for name in rule.momentum[:1]:
        if "mars" in hyper and name == "b1":
            raise ValueError(f"{where}: mars with schedule_free, which takes the place of b1, but mars needs it. Leave "
                             "one of them out.")
        if hyper.pop(name, 0.0) != 0:
            raise ValueError(f"{where}: {name} with schedule_free, which takes its place. Leave {name} out, and give "
                             "schedule_free=0.9 for example.")


def row_length(rule: Any) -> int:
    """How many coefficients the row of a group has, whatever pieces it asks for."""
    return len(pipeline(rule).fields)


def pipelines(rule: Any, scaled: bool, limited: bool, *own: tuple[str, ...]) -> list[Pipeline]:
    """The pipelines of groups that ask for their own pieces, in a step that scales or limits gradients, or does not."""
    of_step = (*(["scale"] if scaled else []), *(["limit"] if limited else []))
    return [pipeline(rule, (*of_step, *names)) for names in own]


def of_tensors(groups: list[int], of: Sequence[Pipeline], layout: Any) -> list[Pipeline]:
    """The pipelines of these groups' tensors in this layout. Gradients wider than the arithmetic are always scaled."""
    found = [of[group] for group in groups]
    for name, needed in (("scale", layout.wide), ("mask", layout.masked)):
        found = [one.having(name) for one in found] if needed else found
    return found


def _look_ahead(c, p, out, v):
    """The point at which Nesterov's gradient is taken: p - mu*v. p stands for the gradient, the point is written."""
    return (p - c.ahead*v,)


def _evaluated(c, p, out, way):
    """The point that schedule-free learning evaluates."""
    return (p + way,)


def _point(body: Callable[..., Any]) -> Pipeline:
    register_jitable(body)
    made = Pipeline(SimpleNamespace(
        name=body.__name__, state=(), outputs=(), inputs=("v",), fields=("ahead",), Coefficients=named(("ahead",)),
        defaults={}, own_names=(), own=dict, body=body, reads=(), returns="p", digest=digest(body, "ahead")), ())
    made.unread = range(1, 2)
    return made


LOOK_AHEAD, EVALUATED = _point(_look_ahead), _point(_evaluated)
