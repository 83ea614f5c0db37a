"""Pieces: what may stand around a rule in a kernel. A kernel holds those that are in use, in this order:

    gradient --scale--limit--adaptive clip--mars--grokfast--trust--coupled decay--> RULE --> u
    u --cautious--update clip--update rms--trust--[+ decay]--> p - u, or schedule-free --mask--> average, copy

A piece is a function of coefficients `c`, its own among them, and of numbers of one element. It may have a slot.

A measured piece has a coefficient that depends on a whole tensor, or on each of its rows. Its `terms` are numbers of
one element; they are made where the piece stands. The sums of their squares, `Sums`, give the coefficient.
"""
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from numba.extending import register_jitable

from ..notation import clip, maximum, sqrt, where


def scaled(c, g, p):
    """The gradient times the gradient factor."""
    return c.scale*g


def limited(c, g, p):
    """The gradient, clipped by value."""
    return clip(g, c.clip)


def multiplied_gradient(c, g, p):
    """The gradient times the coefficient of its tensor or row."""
    return c.by_gradient*g


def sizes(c, g, p):
    """What measured pieces of the gradient look at: it, and the parameter."""
    return g, p


def mars(c, g, p, old):
    """The gradient plus a multiple of its change, no longer than 1 as a tensor, and it itself (Yuan et al. 2024)."""
    return c.by_gradient*(g + c.mars_factor*(g - old)), g


def corrected(c, g, p, old):
    """What `mars` looks at: the gradient that it makes."""
    return (g + c.mars_factor*(g - old),)


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


def cautious_scaled(c, u, g):
    """As `cautious`, times what makes up for the elements that stay (Liang et al. 2024)."""
    return where(u*g > c.nothing, c.by_update*u, c.nothing)


def agreeing(c, u, g, p):
    """1 where the update has the gradient's sign, else 0."""
    return (where(u*g > c.nothing, c.by_update, c.nothing),)


def multiplied_update(c, u, g):
    """The update times the coefficient of its tensor."""
    return c.by_update*u


def update_size(c, u, g, p):
    """What the root mean square of the update is made of."""
    return (u,)


def update_sizes(c, u, g, p):
    """Update with decoupled decay, and the parameter."""
    return u + c.wd*p, p


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


def of_step(c, g, p, new):
    """What `measure` looks at: gradient, parameter, and how far that moved."""
    return g, p, new - p


# Functions of sums. They are given coefficients, a pair for each term, and the number of elements, all in float64: of
# each tensor or row. A pair is the sum of the term's squares, in some unit, and what brings its root to unit 1. They
# give the coefficients that their piece `gives`. They compile for a device.

LEAST_SIZE = 1e-3  # a row of parameters counts as so long at least (Brock et al. 2021)
ONE, INFINITY = 1.0, math.inf


def _size(pair):
    """The Euclidean norm, infinite beyond 1.8e308."""
    return sqrt(pair[0])*pair[1]


def _finite(size):
    return (size > 0) & (size < INFINITY)


def _ratio(size, other):
    """size/other, 1 where one of them is 0 or not finite."""
    return where(_finite(size) & _finite(other), size/other, ONE)


def clipped_by_row(c, sums, n):
    """min(1, adaptive_clip*max(|p|, 1e-3)/|g|) (Brock et al. 2021); 1 where |g| is not finite."""
    g, most = _size(sums[0]), c.by_gradient*maximum(_size(sums[1]), LEAST_SIZE)
    return (where((most < g) & (g < INFINITY), most/g, ONE),)


def no_longer_than_one(c, sums, n):
    """min(1, 1/|g|); 1 where |g| is not finite."""
    g = _size(sums[0])
    return (where((g > ONE) & (g < INFINITY), ONE/g, ONE),)


def gradient_trust(c, sums, n):
    """trust_coefficient*|p|/(|g| + weight_decay*|p|), for gradient and coupled decay (You et al. 2017)."""
    g, p = _size(sums[0]), _size(sums[1])
    trust = _ratio(c.by_gradient*p, g + c.l2*p)
    return trust, trust*c.l2


def update_trust(c, sums, n):
    """trust_coefficient*lr*|p|/|u + wd*p|, for update and decoupled decay (You et al. 2020)."""
    trust = _ratio(c.by_update*_size(sums[1]), _size(sums[0]))
    return trust, trust*c.wd


def share_that_agrees(c, sums, n):
    """n/(k + 1) where k of n elements agree (Liang et al. 2024)."""
    return (n/(sums[0][0] + ONE),)


def limited_rms(c, sums, n):
    """min(1, lr*update_rms/the root mean square of the update) (Shazeer and Stern 2018)."""
    rms = sqrt(sums[0][0]/maximum(n, ONE))*sums[0][1]
    return (where((c.by_update < rms) & (rms < INFINITY), c.by_update/rms, ONE),)


def last(hyper):
    """The coefficients `LAST`. Those of measured pieces are what their functions of sums begin with."""
    lr, trust, coefficient = hyper["lr"], hyper["trust_ratio"], hyper["trust_coefficient"]
    by_gradient = coefficient if trust == "gradient" else hyper["adaptive_clip"] or math.inf
    by_update = lr*coefficient if trust == "update" else _limit("update_rms", hyper)
    if hyper["cautious"] == "scaled":
        by_update = 1.0
    return 0.0, _limit("update_clip", hyper), by_gradient, by_update


def _limit(name, hyper):
    """So many times lr; 0 stands for no limit."""
    return hyper["lr"]*hyper[name] if hyper[name] else math.inf


class Piece(NamedTuple):
    """A piece: where it stands, its function, and what it adds to the rule that it goes with."""

    name: str
    stage: str                                    # gradient, update, decay, apply, mask or after
    function: Callable[..., Any]
    fields: tuple[str, ...] = ()                  # its coefficients
    slot: str = ""                                # the slot that has its name: a state, an output or an input
    hyper: dict[str, float] = {}                  # its hyperparameters, with defaults  # noqa: RUF012
    at: Callable[..., dict[str, float]] = dict    # its coefficients, from these
    needs: tuple[str, ...] = ()                   # and from these of the rule
    terms: Callable[..., tuple] | None = None     # a measured piece: numbers of one element, so many,
    many: int = 0
    of_sums: Callable[[Any, Any, Any], tuple] | None = None  # and from the sums
    gives: tuple[str, ...] = ()                   # these coefficients
    by_row: bool = False                          # of each row; otherwise of each tensor
    history: Callable[..., float] | None = None   # if it takes the place of momentum; `at` gets t and the sum


PIECES = {piece.name: piece for piece in (
    Piece("scale", "gradient", scaled, ("scale",)),
    Piece("limit", "gradient", limited, ("clip",)),
    Piece("adaptive_clip", "gradient", multiplied_gradient, ("by_gradient",), terms=sizes, many=2,
          of_sums=clipped_by_row, gives=("by_gradient",), by_row=True),
    Piece("mars", "gradient", mars, ("mars_factor", "by_gradient"), "state", {"mars": 0.025},
          lambda mars, b1: {"mars_factor": mars*b1/(1 - b1)}, ("b1",), corrected, 1, no_longer_than_one,
          ("by_gradient",)),
    Piece("grokfast", "gradient", grokfast, ("grokfast_share", "grokfast_rest", "grokfast_factor"), "state",
          {"grokfast_share": 0.98, "grokfast_factor": 2.0}, lambda grokfast_share, grokfast_factor: {
              "grokfast_share": grokfast_share, "grokfast_rest": 1 - grokfast_share,
              "grokfast_factor": grokfast_factor}),
    Piece("gradient_trust", "gradient", multiplied_gradient, ("by_gradient", "l2"), terms=sizes, many=2,
          of_sums=gradient_trust, gives=("by_gradient", "l2")),
    Piece("coupled", "gradient", coupled_decay, ("l2",)),
    Piece("cautious", "update", cautious, ("nothing",)),
    Piece("cautious_scaled", "update", cautious_scaled, ("nothing", "by_update"), terms=agreeing, many=1,
          of_sums=share_that_agrees, gives=("by_update",)),
    Piece("update_clip", "update", limited_update, ("update_limit",)),
    Piece("update_rms", "update", multiplied_update, ("by_update",), terms=update_size, many=1, of_sums=limited_rms,
          gives=("by_update",)),
    Piece("update_trust", "update", multiplied_update, ("by_update", "wd"), terms=update_sizes, many=2,
          of_sums=update_trust, gives=("by_update", "wd")),
    Piece("decoupled", "decay", decoupled_decay, ("wd",)),
    Piece("cautious_decay", "decay", cautious_decay, ("wd", "nothing")),
    Piece("schedule_free", "apply", schedule_free,
          ("free_now", "free_pull", "free_keep", "free_add", "nothing"), "state", {"schedule_free": 0.9},
          schedule_free_at, ("lr",), history=schedule_free_past),
    Piece("mask", "mask", masked, slot="input"),
    Piece("average", "after", weight_average, ("average_share",), "state", {"average": 0.999},
          lambda average: {"average_share": 1 - average}),
    Piece("copy", "after", parameter_copy, slot="output"))}
PLAIN = ("scale", "limit", "coupled", "decoupled")  # of every rule; their coefficients come first in a group's row
ASKED = ("adaptive_clip", "gradient_trust", "cautious", "cautious_scaled", "update_clip", "update_rms", "update_trust",
         "cautious_decay")  # where a group asks for them; theirs come last
MEASURE = Piece("measure", "end", of_step, terms=of_step, many=3)  # of a step that measures; in no pipeline
COMMON = tuple(field for name in PLAIN for field in PIECES[name].fields)
MEASURED = {piece.name: piece for piece in (*PIECES.values(), MEASURE) if piece.terms}
LAST = ("nothing", "update_limit", "by_gradient", "by_update")
STATES = tuple(piece.name for piece in PIECES.values() if piece.slot == "state")
FIELDS = tuple(field for piece in PIECES.values() for field in piece.fields)

for _function in (subtracted, nothing, _size, _finite, _ratio, *(
        of for piece in (*PIECES.values(), MEASURE) for of in (piece.function, piece.terms, piece.of_sums))):
    if _function is not None:
        register_jitable(_function)


CHOSEN: dict[str, dict[Any, str]] = {  # by the values of these hyperparameters
    "cautious": {True: "cautious", "scaled": "cautious_scaled"},
    "trust_ratio": {"gradient": "gradient_trust", "update": "update_trust"}}


def asker(piece: str) -> str:
    """The hyperparameter that asks for a piece."""
    return next((name for name, chosen in CHOSEN.items() if piece in chosen.values()), piece)


def modifiers(hyper: Mapping[str, Any]) -> dict[str, str]:
    """{piece: the hyperparameter that asks for it}, of those among these hyperparameters that are not decays."""
    found = {name: name for name in ("adaptive_clip", "update_clip", "update_rms") if hyper.get(name, 0) != 0}
    for name, pieces in CHOSEN.items():
        if (value := hyper.get(name, False)) in pieces:
            found[pieces[value]] = name
    return found


def measuring(hyper: Mapping[str, Any], stage: str = "") -> list[str]:
    """The hyperparameters that ask for measured pieces, in this stage or any."""
    return [by for name, by in modifiers(hyper).items() if name in MEASURED and PIECES[name].stage.startswith(stage)]
