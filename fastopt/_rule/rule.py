"""What a rule is: the decorator that makes one, and the table in which every schedule finds it by name.

A rule is the update of one element, ``body(c, g, p, *state) -> (u, *state)``, with the coefficients ``c`` that its
``at`` computes once per step, on the host, in float64. What stands around every rule is in pieces.py.
"""
import inspect
import math
import sys
from collections import namedtuple
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
from numba.extending import register_jitable

from .._checks.numbers import Range, check_whole, interval
from .digest import digest
from .documentation import ARGUMENTS
from .hyperparameters import EVERY, SHARED, annotated, check_value
from .pieces import (
    COMMON,
    FIELDS,
    PIECES,
    STATES,
    coupled_decay,
    decoupled_decay,
    last,
    limited,
    modifiers,
    scaled,
    subtracted,
)

OURS = __name__.partition(".")[0] + ".rules"  # the module of the package's own rules
RESERVED = ("params", *ARGUMENTS, *(name for piece in PIECES.values() for name in piece.hyper))
RESERVED_STATES = (*STATES, "copy", "remainder")


class Rule(Protocol):
    """One optimizer: callable on scalars, on arrays, and inside jitted code; its facts are attributes."""

    name: str
    state: tuple[str, ...]
    outputs: tuple[str, ...]
    inputs: tuple[str, ...]
    nonnegative: tuple[str, ...]
    initial: dict[str, str]
    fields: tuple[str, ...]
    defaults: dict[str, Any]
    options: dict[str, tuple[Any, ...]]
    ranges: dict[str, Range]
    own_names: tuple[str, ...]
    digest: str
    pure: bool  # whether its coefficients depend on nothing but the step and the hyperparameters
    settled: int | None  # the step from which on they stay the same, while hyperparameters do
    Coefficients: Any
    own: Callable[..., dict[str, float]]
    at: Callable[..., Any]
    ahead: str | None
    momentum: tuple[str, ...]  # the hyperparameter that is 0 where there is none, and the state that is then not needed
    point: tuple[str, str] | None  # coefficient and state of the look-ahead point; "" and that of the point to evaluate
    history: Callable[..., float] | None
    docs: dict[str, str]
    class_name: str
    examples: tuple[dict[str, Any], ...]
    steady: dict[str, Any]

    def __call__(self, c, g, p, *state): ...

    def __hash__(self) -> int: ...


RULES: dict[str, Any] = {}  # by the digest of their code: rules that differ in defaults only share a kernel


def shared(hyper, factor=1.0, clip_value=math.inf):
    """The coefficients that all rules have, from a full set of hyperparameters (numbers)."""
    decay, weight_decay = hyper["decay"], hyper["weight_decay"]
    l2 = weight_decay if decay == "coupled" else 0.0
    wd = 0.0 if decay == "coupled" else weight_decay if decay == "independent" else hyper["lr"]*weight_decay
    return (-factor if hyper["maximize"] else factor), clip_value, l2, wd


@lru_cache(maxsize=1024)
def named(fields: tuple[str, ...]) -> Any:
    """The type of coefficients of these names."""
    return namedtuple("Coefficients", fields)  # type: ignore[misc]


def _identity(t, **hyper):
    return hyper


def _try_out(body, Coefficients, slots):
    """The coefficients of pieces that a rule reads; ValueError where it does not return what a step writes."""
    read: set[str] = set()

    def attribute(self, name):
        read.add(name)
        return Coefficients.__getattribute__(self, name)

    def item(self, k):
        read.update(COMMON)  # by its place: then all stay where they are
        return Coefficients.__getitem__(self, k)

    def each(self):
        read.update(COMMON)
        return Coefficients.__iter__(self)
    ways = {"__getattribute__": attribute, "__getitem__": item, "__iter__": each}
    watched = type("Coefficients", (Coefficients,), ways)
    try:
        with np.errstate(all="ignore"):
            found = body(watched(*[1.0]*len(Coefficients._fields)), *np.ones((2 + len(slots), 1)))
    except AttributeError as error:
        raise ValueError(f"rule {body.__name__}: {error}, but it has {', '.join(Coefficients._fields)}. Take one of "
                         "those.") from error
    except Exception as error:
        raise ValueError(f"rule {body.__name__}: its update fails ({error}), but arithmetic on numbers is needed. "
                         "Change it: what a comparison gives is no number, but the condition of where(condition, x, "
                         "y).") from error
    if not isinstance(found, tuple) or len(found) != 1 + len(slots):
        count = f"{len(found)} values" if isinstance(found, tuple) else "one value"
        raise ValueError(f"rule {body.__name__}: it returns {count}, but "
                         f"({', '.join(('u', *slots))}{'' if slots else ','}) is needed. Return a tuple of the update "
                         "and the new states.")
    return tuple(field for field in COMMON if field in read)


def _place(body, name):
    """Where pickle finds the rule: in the place of its function, or, where that is another's, under its own name."""
    there = getattr(sys.modules.get(body.__module__), body.__name__, None)
    return name if body.__name__ == "<lambda>" or getattr(there, "body", None) is body else body.__qualname__


def importable(thing: Any) -> bool:
    """Whether a module has this function or class under its name, so that pickle finds it in another process."""
    found: Any = sys.modules.get(thing.__module__)
    for name in thing.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is thing


def arithmetic(dtype, where):
    """The type of numbers of this dtype, float32 or float64."""
    with suppress(TypeError):
        if (kind := np.dtype(dtype).type) in (np.float32, np.float64):
            return kind
    raise TypeError(f"{where}: dtype is {dtype!r}, but that of the arithmetic is needed. Give numpy.float32, or "
                    "numpy.float64 for float64 arrays, and hyperparameters by name.")


def coefficients_at(rule):
    """The function that gives a rule's coefficients."""
    def at(t, dtype=np.float64, *, factor=1.0, clip_value=math.inf, **given):
        where = f"{rule.name}.at"
        unknown = set(given) - set(rule.defaults)
        if unknown:
            raise TypeError(f"{where}: unknown {', '.join(sorted(unknown))}, but it has "
                            f"{', '.join(rule.defaults)}. Take one of those.")
        t, kind = check_whole("t", t, where, cure="Count steps from 1."), arithmetic(dtype, where)
        for name, value in given.items():
            if callable(value):
                raise TypeError(f"{where}: {name} is a function, but the number of this step is needed. Call it: "
                                f"{name}=rate({t}) for example.")
            check_value(name, value, rule.options, where, rule.ranges, "")
        full = {**rule.defaults, **given}
        for piece, name in {**modifiers(full), **dict.fromkeys(["cautious_decay"]*full["cautious_decay"])}.items():
            if piece not in getattr(rule, "names", ()):
                name = name or piece
                raise ValueError(f"{where}: {name}={full[name]!r}, but a rule by itself computes no {name}. "
                                 "Make an optimizer with it, or compute it in your own code.")
        values = rule.own(t, **{k: full[k] for k in rule.own_names})
        row = (*shared(full, factor, clip_value), *values.values(), *last(full))
        return rule.Coefficients(*map(kind, row[:len(rule.Coefficients._fields)]))  # a rule by itself has not the last

    at.__doc__ = """Coefficients of this rule at step t = 1, 2, ...: computed in float64, given as `dtype`.

    `dtype` is that of the arithmetic, float32 or float64. It is float32 for parameters of 16 bits, too. Hyperparameters
    are given by name, as numbers. TypeError or ValueError where one is not what it may be."""
    return at


def _check_body(body, state, nonnegative):
    """An error where a function and the names of its states are not those of a rule."""
    if not hasattr(body, "__code__"):
        raise TypeError(f"rule: a {type(body).__name__}, but a function is needed, whose code is looked at. Write it "
                        "with def.")
    slots, found = state.split(), tuple(inspect.signature(body).parameters)
    if found != (expected := ("c", "g", "p", *slots)):
        raise ValueError(f"rule {body.__name__}: its arguments are {found}, but state={state!r} needs {expected}. "
                         "Rename one of them.")
    from .straight import check
    check(body)
    if reserved := set(slots) & set(RESERVED_STATES):
        raise ValueError(f"rule {body.__name__}: a state is called {reserved.pop()!r}, which an optimizer may keep "
                         "beside those of its rule. Take another name.")
    if not set(nonnegative.split()) <= set(slots):
        raise ValueError(f"rule {body.__name__}: nonnegative={nonnegative!r}, but its states are {state!r}. Name some "
                         "of those.")


def rule(at: Callable[..., dict[str, float]] | None = None, *, state: str = "", nonnegative: str = "",
         initial: dict[str, str] | None = None, options: dict[str, tuple[Any, ...]] | None = None,
         ranges: dict[str, str] | None = None, docs: dict[str, str] | None = None,
         defaults: dict[str, Any] | None = None, ahead: str | None = None, momentum: str = "",
         history: Callable[..., float] | None = None, name: str | None = None, class_name: str | None = None,
         examples: Sequence[dict[str, Any]] = (), steady: dict[str, float] | None = None,
         settled: int | None = None, **hyper: float) -> Callable[[Callable[..., Any]], Any]:
    """Make a rule of a function that computes the update of one element.

    ``function(c, g, p, *state) -> (u, *state)`` gets coefficients, gradient, parameter and states, and returns the
    update and the new states. The new parameter is then p - u, or with decoupled decay p - (u + wd*p). Return u, and
    never the new parameter: nothing could tell the one from the other.

    Parameters
    ----------
    at : callable, optional
        ``at(t, **hyperparameters) -> dict`` gives the coefficients of step t = 1, 2, ... in float64. The keys of the
        dict are the fields of ``c``; the keyword arguments of `at`, and their defaults, are the hyperparameters. An
        annotation may say what one is: ``mu: Annotated[float, "[0, 1)", "What the velocity keeps."] = 0.9`` gives a
        range and a line of documentation, ``Annotated[Literal["one", "two"], "..."]`` the words that are allowed,
        ``Annotated[bool, "..."]`` a flag. Without `at`, the coefficients are the hyperparameters themselves, which are
        keywords of the decorator.
    state : str
        The names of the state arrays, separated by spaces, in the order of the function's arguments.
    nonnegative : str
        The states that are never negative (second moments). ``state="q8"`` stores them unsigned, rounded by chance.
    initial : dict, optional
        {state name: hyperparameter that gives its initial value}; zero otherwise.
    options : dict, optional
        {hyperparameter: allowed values} for words and flags, where no annotation says them.
    ranges : dict, optional
        {hyperparameter: interval} for numbers that may not be any finite number, where no annotation says it:
        ``{"mu": "[0, 1)", "eps": "[0, inf)"}``.
    docs : dict, optional
        {hyperparameter: a line about it}, where no annotation says it.
    defaults : dict, optional
        Other defaults for the hyperparameters of every rule, ``weight_decay`` and ``decay`` for example.
    ahead : str, optional
        The coefficient that, times the state ``v``, leads to the look-ahead point ``p - c.ahead*v``.
    momentum : str, optional
        ``"mu v"`` names a hyperparameter and a state. Where mu is 0 the rule has no momentum, and does not need v. With
        ``schedule_free=`` an optimizer has neither of the two.
    history : callable, optional
        For coefficients that depend on all steps so far. ``history(first, last, *hyperparameters) -> float`` is what
        the steps from first to last add to a sum, if all have these hyperparameters, which are named as in `at`. `at`
        gets the sum over steps 1 to t as ``past``; None means that all steps had the hyperparameters of now. The sum is
        part of state dicts.
    name : str, optional
        The rule's name. By default the function's.
    class_name : str, optional
        The name of its optimizer class. By default the rule's in capitals: ``heavy_ball`` becomes ``HeavyBall``.
    examples : sequence of dict
        For tests: several sets of hyperparameters that are not the defaults.
    steady : dict, optional
        For benchmarks: hyperparameters with which thousands of steps along one gradient stay finite and normal.
    settled : int, optional
        The first step from which on `at` gives the same coefficients, as long as the hyperparameters stay.
    **hyper : float
        Hyperparameters and their defaults, if there is no `at`. One of them must be ``lr``.

    Returns
    -------
    callable
        A decorator, which returns the rule: ``rule(c, g, p, *state) -> (p, *state)``, for numbers and arrays, also
        inside ``@njit``. ``rule.at(t, dtype=numpy.float32, **hyperparameters)`` gives ``c``.

    Examples
    --------
    >>> @fastopt.rule(state="v", lr=0.01, mu=0.9)
    ... def heavy_ball(c, g, p, v):
    ...     v = c.mu*v + g
    ...     u = c.lr*v
    ...     return u, v
    >>> opt = fastopt.optimizer(heavy_ball)(w, lr=0.1)
    """
    own = at or _identity
    own_defaults = hyper or {k: v.default for k, v in inspect.signature(own).parameters.items()
                             if k not in ("t", "past")}
    bare = [k for k, v in own_defaults.items() if v is inspect.Parameter.empty]
    if bare:
        raise ValueError(f"rule: the hyperparameter {bare[0]} has no default. Give it one, {bare[0]}=0.01 for example.")
    if class_name is not None and not class_name.isidentifier():
        raise ValueError(f"rule: class_name is {class_name!r}, but a name of letters, digits and underscores is "
                         "needed. Change it.")
    if "lr" not in own_defaults:
        raise ValueError("rule: no hyperparameter `lr` was found. Give the rule one, lr=0.01 for example.")
    taken = [k for k in own_defaults if k in SHARED or k in RESERVED]
    if taken:
        raise ValueError(f"rule: the hyperparameter {taken[0]!r} is there for every rule. Take another name, or set "
                         "its default with defaults={...}.")
    everything = {**own_defaults, **SHARED, **dict.fromkeys((initial or {}).values(), 0.0), **(defaults or {})}

    def decorate(body):
        ours = body.__module__ == OURS  # a test looks at them, as the import is timed
        if not ours:
            _check_body(body, state, nonnegative)
        slots = tuple(state.split())
        register_jitable(body)

        def update(c, g, p, *state):  # not functools.wraps: Numba would read the signature of the body
            new = body(c, coupled_decay(c, limited(c, scaled(c, g, p), p), p), p, *state)
            u = decoupled_decay(c, p, new[0])
            return (subtracted(c, p, u),) + new[1:]  # noqa: RUF005 (Numba has no starred tuples)

        fields = (*COMMON, *own(1, **own_defaults))
        repeated = [field for field in fields[len(COMMON):] if field in FIELDS]
        if repeated:
            raise ValueError(f"rule {body.__name__}: its coefficient {repeated[0]!r} is one that every rule has. Take "
                             "another name.")
        if ahead is not None and (ahead not in fields or "v" not in slots):
            raise ValueError(f"rule {body.__name__}: ahead={ahead!r}, but the name of a coefficient and a state v are "
                             "needed. Rename them.")
        without = tuple(momentum.split())
        if without and not (len(without) == 2 and without[0] in own_defaults and without[1] in slots):
            raise ValueError(f"rule {body.__name__}: momentum={momentum!r}, but the names of a hyperparameter and of a "
                             "state are needed. Rename them.")
        Coefficients = named(fields)
        reads = () if ours else _try_out(body, Coefficients, slots)
        names = fields[len(COMMON):]

        def ordered(t, **full):
            values = own(t, **full)
            if tuple(values) == names:
                return values
            if values.keys() != set(names):
                raise ValueError(f"rule {body.__name__}: the coefficients of step {t} are {', '.join(values)}, but "
                                 f"those of step 1 are {', '.join(names)}. Give the same at every step.")
            return {k: values[k] for k in names}

        pure = own is _identity or own.__module__ == OURS
        if pure:
            ordered = own  # theirs always are: the check takes 0.3 us of a 3.5 us step
        for what, given in (("a range", ranges), ("a line", docs), ("a steady value", steady),
                            *(("an example", example) for example in examples)):
            if strangers := [k for k in given or {} if k not in everything]:
                raise ValueError(f"rule {body.__name__}: {what} of {strangers[0]!r}, but its hyperparameters are "
                                 f"{', '.join(everything)}. Name one of those.")
        said, title = annotated(own), name or body.__name__
        facts = {
            "name": title, "__name__": title, "__qualname__": _place(body, title), "__module__": body.__module__,
            "__doc__": body.__doc__, "class_name": class_name or "".join(map(str.capitalize, title.split("_"))),
            "state": slots, "outputs": (), "inputs": (), "nonnegative": tuple(nonnegative.split()),
            "initial": initial or {}, "fields": fields, "defaults": everything,
            "options": {**EVERY.options, **said.options, **(options or {})},
            "ranges": {**EVERY.ranges, **said.ranges, **{k: interval(text) for k, text in (ranges or {}).items()}},
            "docs": {**EVERY.docs, **said.docs, **(docs or {})}, "examples": tuple(examples), "steady": steady or {},
            "own": ordered, "pure": pure, "settled": 1 if own is _identity else settled,
            "own_names": tuple(own_defaults), "at": coefficients_at(update),
            "Coefficients": Coefficients, "ahead": ahead, "momentum": without,
            "point": ahead and (ahead, "v"), "history": history, "body": body, "reads": reads,
            "returns": "u", "digest": digest(body, *fields)}
        for fact, value in facts.items():
            setattr(update, fact, value)
        register_jitable(update)
        RULES[facts["digest"]] = update
        return update
    return decorate
