"""Pieces: what may stand around a rule in a kernel. A kernel holds those that are in use, in this order:

    gradient --scale--limit--coupled decay--> RULE --> u --> p - u, or p - (u + wd*p) --mask--> average, copy

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


def coupled_decay(c, g, p):
    """The gradient plus that of weight_decay/2*p^2."""
    return g + c.l2*p


def subtracted(c, p, u):
    """The new parameter, p less the update u."""
    return p - u


def decoupled_decay(c, p, u):
    """p less update and decoupled decay: rounded once, for a decay may be less than half a unit of p."""
    return p - (u + c.wd*p)


def masked(c, new, old, mask):
    """The new number where the mask is not 0, else the old one."""
    return where(mask, new, old)


def weight_average(c, p, average):
    """The running average of the parameters: average <- average + (1 - d)*(p - average)."""
    return average + c.average_share*(p - average)


def parameter_copy(c, p, copy):
    """The new parameter again, for a slot with a format of its own. What was there is not read."""
    return p


class Piece(NamedTuple):
    """A piece: where it stands, its function, and what it adds to the rule that it goes with."""

    name: str
    stage: str                                    # gradient, update, mask or after
    function: Callable[..., Any]
    fields: tuple[str, ...] = ()                  # its coefficients
    slot: str = ""                                # the slot that has its name: a state, an output or an input
    hyper: dict[str, float] = {}                  # its hyperparameters, with defaults  # noqa: RUF012
    at: Callable[..., dict[str, float]] = dict    # its coefficients, from these


PIECES = {piece.name: piece for piece in (
    Piece("scale", "gradient", scaled, ("scale",)),
    Piece("limit", "gradient", limited, ("clip",)),
    Piece("coupled", "gradient", coupled_decay, ("l2",)),
    Piece("decoupled", "update", decoupled_decay, ("wd",)),
    Piece("mask", "mask", masked, slot="input"),
    Piece("average", "after", weight_average, ("average_share",), "state", {"average": 0.999},
          lambda average: {"average_share": 1 - average}),
    Piece("copy", "after", parameter_copy, slot="output"))}
PLAIN = ("scale", "limit", "coupled", "decoupled")  # of every rule; their coefficients come first in a group's row
COMMON = tuple(field for name in PLAIN for field in PIECES[name].fields)
FIELDS = tuple(field for piece in PIECES.values() for field in piece.fields)

for _function in (subtracted, *(piece.function for piece in PIECES.values())):
    register_jitable(_function)
