"""Pieces: what may stand around a rule in a kernel. A kernel holds those that are in use, in this order:

    gradient --scale--limit--grokfast--coupled decay--> RULE --> u
    u --cautious--update clip--[+ decay]--> p - u, or schedule-free --mask--> average, copy

A piece is a function of coefficients `c`, its own among them, and of numbers of one element. It may have a slot.
"""
from collections.abc import Callable
from typing import Any, NamedTuple

from numba.extending import register_jitable

from ..notation import clip, where


def scaled(c, g, p):
    """The gradient times the gradient factor."""
    return c.scale*g


def limited(c, g, p):
    """The gradient, clipped by value."""
    return clip(g, c.clip)


def grokfast(c, g, p, slow):
    """The gradient plus a multiple of its running average, and that average (Lee et al. 2024)."""
    slow = c.grokfast_share*slow + c.grokfast_rest*g
    return g + c.grokfast_factor*slow, slow


def coupled_decay(c, g, p):
    """The gradient plus that of weight_decay/2*p^2."""
    return g + c.l2*p


def cautious(c, u, g):
    """The update where its sign is the gradient's, else 0 (Liang et al. 2024)."""
    return where(u*g > c.nothing, u, c.nothing)


def limited_update(c, u, g):
    """The update, clipped by value."""
    return clip(u, c.update_limit)


def decoupled_decay(c, p, u):
    """Update and decoupled decay: together they are taken from p, for a decay may be less than half a unit of p."""
    return u + c.wd*p


def cautious_decay(c, p, u):
    """As `decoupled_decay`, but decay acts only where the update does not lead away from zero (Chen et al. 2025)."""
    return u + c.wd*where(u*p >= c.nothing, p, c.nothing)


def subtracted(c, p, u):
    """The new parameter, p less the update u."""
    return p - u


def schedule_free(c, p, u, way):
    """The new parameter, and the way from it to x, the average of the points z of plain steps (Defazio et al. 2024).

    The paper's z <- z - u;  x <- (1-w)*x + w*z;  y <- (1-b)*z + b*x, where p = y, way = x - y = (1-b)*(x - z).
    """
    return p - (c.free_now*u + c.free_pull*way), c.free_keep*way + c.free_add*u


def nothing(c):
    """What stands for the state of a momentum that is 0."""
    return c.nothing


def masked(c, new, old, mask):
    """The new number where the mask is not 0, else the old one."""
    return where(mask, new, old)


def weight_average(c, p, average):
    """The running average of the parameters: average <- average + (1 - d)*(p - average)."""
    return average + c.average_share*(p - average)


def parameter_copy(c, p, copy):
    """The new parameter again, for a slot with a format of its own. What was there is not read."""
    return p


def schedule_free_at(t, past, lr, schedule_free):
    """The coefficients of `schedule_free`. A step weighs lr^2 in the average x; `past` is the sum of those."""
    total = t*lr*lr if past is None else past
    w, b = lr*lr/total if total else 0.0, schedule_free
    return {"free_now": 1 - b*(1 - w), "free_pull": w*b/(1 - b), "free_keep": 1 - w, "free_add": (1 - b)*(1 - w)}


def schedule_free_past(first, last, lr):
    """The weights of these steps."""
    return (last - first + 1)*lr*lr


def last(hyper):
    """The coefficients `LAST`."""
    return 0.0, hyper["lr"]*hyper["update_clip"]


class Piece(NamedTuple):
    """A piece: where it stands, its function, and what it adds to the rule that it goes with."""

    name: str
    stage: str                                    # gradient, update, decay, apply, mask or after
    function: Callable[..., Any]
    fields: tuple[str, ...] = ()                  # its coefficients
    slot: str = ""                                # the slot that has its name: a state, an output or an input
    hyper: dict[str, float] = {}                  # its hyperparameters, with defaults  # noqa: RUF012
    at: Callable[..., dict[str, float]] = dict    # its coefficients, from these
    history: Callable[..., float] | None = None   # if it takes the place of momentum; `at` gets t and lr, too


PIECES = {piece.name: piece for piece in (
    Piece("scale", "gradient", scaled, ("scale",)),
    Piece("limit", "gradient", limited, ("clip",)),
    Piece("grokfast", "gradient", grokfast, ("grokfast_share", "grokfast_rest", "grokfast_factor"), "state",
          {"grokfast_share": 0.98, "grokfast_factor": 2.0}, lambda grokfast_share, grokfast_factor: {
              "grokfast_share": grokfast_share, "grokfast_rest": 1 - grokfast_share,
              "grokfast_factor": grokfast_factor}),
    Piece("coupled", "gradient", coupled_decay, ("l2",)),
    Piece("cautious", "update", cautious, ("nothing",)),
    Piece("update_clip", "update", limited_update, ("update_limit",)),
    Piece("decoupled", "decay", decoupled_decay, ("wd",)),
    Piece("cautious_decay", "decay", cautious_decay, ("wd", "nothing")),
    Piece("schedule_free", "apply", schedule_free,
          ("free_now", "free_pull", "free_keep", "free_add", "nothing"), "state", {"schedule_free": 0.9},
          schedule_free_at, schedule_free_past),
    Piece("mask", "mask", masked, slot="input"),
    Piece("average", "after", weight_average, ("average_share",), "state", {"average": 0.999},
          lambda average: {"average_share": 1 - average}),
    Piece("copy", "after", parameter_copy, slot="output"))}
PLAIN = ("scale", "limit", "coupled", "decoupled")  # of every rule; their coefficients come first in a group's row
ASKED = ("cautious", "update_clip", "cautious_decay")  # where a group asks for them; theirs come last
COMMON = tuple(field for name in PLAIN for field in PIECES[name].fields)
LAST = ("nothing", "update_limit")
STATES = tuple(piece.name for piece in PIECES.values() if piece.slot == "state")
FIELDS = tuple(field for piece in PIECES.values() for field in piece.fields)

_functions: list[Callable[..., Any]] = [subtracted, nothing, *(piece.function for piece in PIECES.values())]
for _function in _functions:
    register_jitable(_function)
