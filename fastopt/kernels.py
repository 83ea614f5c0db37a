"""Steps of whole arrays for compiled code of your own: a training loop can run inside one ``@njit``.

``kernels.adam(c, g, p, m, v)`` updates p, m and v in place, on one thread, with the bits of `fastopt.Adam`. There is
such a function for every rule, with the states in the order of the rule's arguments. Arrays are C-contiguous and of one
size; float16 and bfloat16 (uint16) are understood. ``c`` is a row of `table`, or what ``rule.at`` gives. Outside of
compiled code the same functions work on float32 and float64 arrays.

>>> coefs = kernels.table(rules.adam, 1000, lr=schedules.cosine(1e-2, steps=1000))
>>> @njit
... def train(w, m, v, coefs):
...     for t in range(len(coefs)):
...         kernels.adam(coefs[t], gradient(w), w, m, v)
"""
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numba import types
from numba.core.errors import TypingError
from numba.extending import intrinsic, overload
from numba.np.numpy_support import from_dtype

from . import rules
from ._checks.numbers import check_whole
from ._formats.catalogue import FORMATS
from ._kernels import element
from ._kernels.layout import Layout
from ._kernels.llvm import i64, unpacked
from ._kernels.memory import coefficients_kind
from ._rule.groups import Group
from ._rule.hyperparameters import MODIFIERS
from ._rule.pipeline import Pipeline, pipeline, row_length
from ._rule.rule import Rule

__all__ = ["array_step", "table", *rules.ALL]

FORMAT_OF = {from_dtype(f.dtype): f for f in FORMATS.values()}  # by Numba's type of an array's elements
STEPS: dict[str, tuple[Pipeline, Layout]] = {}                  # by the literal that stands for them in compiled code


def known(step):
    """The pipeline and the layout that a literal stands for; None where Numba must first ask again, with literals.

    Users' own Numba caches keep what calls these intrinsics, and they cannot keep a closure.
    """
    return STEPS[step.literal_value] if isinstance(step, types.StringLiteral) else None


@intrinsic
def rows_of(typing, arrays):
    """The addresses of the first elements of a tuple of arrays, and their numbers of elements."""
    result = types.UniTuple(types.int64, len(arrays))

    def emit(context, builder, signature, args):
        made = [context.make_array(kind)(context, builder, part)
                for kind, part in zip(signature.args[0], unpacked(builder, args[0]), strict=True)]
        row = context.make_tuple(builder, result, [builder.ptrtoint(array.data, i64(0).type) for array in made])
        return context.make_tuple(builder, signature.return_type,
                                  [row, context.make_tuple(builder, result, [x.nitems for x in made])])
    return types.Tuple((result, result))(arrays), emit


@intrinsic
def coefficients_of(typing, step, c):
    """Coefficients, given as a row of a table or as a named tuple, in the float type of the arithmetic."""
    if (of := known(step)) is None:
        return None
    result = coefficients_kind(of[1], of[0])

    def emit(context, builder, signature, args):
        kind = signature.args[1]
        if isinstance(kind, types.Array):
            data = context.make_array(kind)(context, builder, args[1]).data
            given = [builder.load(builder.gep(data, [i64(k)])) for k in of[0].columns]
        else:
            given = [builder.extract_value(args[1], k) for k in of[0].columns]
        cast = [context.cast(builder, x, kind.dtype, to) for x, to in zip(given, result, strict=True)]
        return context.make_tuple(builder, result, cast)
    return result(step, c), emit


@intrinsic
def advance(typing, step, c, row, i):
    """A step of element i of every array."""
    if (of := known(step)) is None:
        return None

    def emit(context, builder, signature, args):
        element.emit_advance(element.Element(context, builder, of[1], of[0]), *args[1:])
        return context.get_dummy_value()
    return types.void(step, c, row, types.int64), emit


def table(rule: Rule, steps: int, **hyper: Any) -> np.ndarray:
    """Coefficients of steps 1 to `steps`, a row each, in float64. Hyperparameters may be functions of the step.

    Raises
    ------
    TypeError, ValueError
        As the optimizer of this rule does.
    """
    if not hasattr(rule, "digest"):
        raise TypeError(f"kernels.table: {rule!r} is no rule. Give one, fastopt.rules.adam or fastopt.Adam.rule for "
                        "example.")
    steps = check_whole("steps", steps, "kernels.table", 0)
    rule.at(1, **{name: hyper[name] for name in MODIFIERS if name in hyper})  # raises: a rule by itself has no modifier
    group = Group(rule, hyper, "kernels.table")
    rows = [group.coefficients(t, 1.0, math.inf) for t in range(1, steps + 1)]
    return np.array(rows, np.float64).reshape(steps, row_length(rule))[:, :len(rule.fields)].copy()


def check_arrays(rule: Rule, c: Any, arrays: tuple[Any, ...]) -> None:
    """An error where these are no arguments of a step outside of compiled code."""
    where, p = f"kernels.{rule.name}", arrays[1]
    if len(arrays) != 2 + len(rule.state) or not all(isinstance(a, np.ndarray) for a in arrays):
        found = ", ".join(type(a).__name__ for a in arrays)
        raise TypeError(f"{where}: found {found}, but arrays {', '.join(('g', 'p', *rule.state))} are needed. Give "
                        "those.")
    if not {a.dtype.type for a in arrays} <= {np.float32, np.float64}:
        raise TypeError(f"{where}: arrays of {', '.join(a.dtype.name for a in arrays)}, but outside of compiled code "
                        "float32 or float64 is needed. Give such arrays, or call it inside @njit.")
    if not all(a.shape == p.shape for a in arrays):
        raise ValueError(f"{where}: arrays of shapes {', '.join(str(a.shape) for a in arrays)}, but g, p and the "
                         "states need one shape. Give such arrays.")
    if not all(a.flags.writeable for a in arrays[1:]):
        raise ValueError(f"{where}: a read-only array, but p and the states are updated in place. Give copies.")
    if np.shape(c) != (len(rule.fields),):
        raise TypeError(f"{where}: c is {c!r}, but a row of kernels.table or what rule.at gives is needed. Give that.")


def array_step(rule: Rule):
    """The step of whole arrays of a rule, yours for example: ``step(c, g, p, *state)``, in place.

    It works in Python, and in nopython code.
    """
    of, needed = pipeline(rule), 2 + len(rule.state)

    def step(c, g, p, *state):
        check_arrays(rule, c, (g, p, *state))
        if g.dtype.itemsize > p.dtype.itemsize:  # scaled in its own type, as in compiled code
            g, c = (g.dtype.type(c[0])*g).astype(p.dtype), (1, *c[1:])
        given = rule.Coefficients(*(p.dtype.type(x) for x in c))
        for target, new in zip((p, *state), rule(given, g, p, *state), strict=True):
            target[...] = new

    def compiled(c, g, p, *state):
        arrays = (g, p, *(state[0] if len(state) == 1 and isinstance(state[0], types.BaseTuple) else state))
        if len(arrays) != needed or not all(isinstance(a, types.Array) for a in arrays):
            raise TypingError(f"kernels.{rule.name}: found {arrays}, but arrays g, p, {', '.join(rule.state)} are "
                              "needed. Give those.")
        if not all(a.layout == "C" and a.dtype in FORMAT_OF for a in arrays):
            raise TypingError(f"kernels.{rule.name}: found {arrays}, but C-contiguous float arrays are needed. Give "
                              "those, or copies (which are then what is updated).")
        if not all(a.mutable for a in arrays[1:]):
            raise TypingError(f"kernels.{rule.name}: a read-only array, but p and the states are updated in place. "
                              "Give copies.")
        as_row, fields = isinstance(c, types.Array), len(rule.fields)
        if not (c.ndim == 1 and c.layout == "C" if as_row else isinstance(c, types.NamedUniTuple) and len(c) == fields):
            raise TypingError(f"kernels.{rule.name}: c is {c}, but a row of kernels.table or what rule.at gives is "
                              "needed. Give that.")
        layout = Layout.of(*(FORMAT_OF[a.dtype] for a in arrays))
        name = f"{of.digest} {layout}"
        STEPS[name] = of, layout

        def implementation(c, g, p, *state):
            arrays = (g, p) + state  # noqa: RUF005 (Numba has no starred tuples)
            row, counts = rows_of(arrays)
            for count in counts:
                if count != p.size:
                    raise ValueError("kernels: arrays of different sizes, but g, p and the states need one size. Give "
                                     "such arrays.")
            if as_row and len(c) != fields:
                raise ValueError("kernels: c has another number of coefficients than the rule. Make it with "
                                 "kernels.table(rule, ...).")
            k = coefficients_of(name, c)
            for i in range(p.size):
                advance(name, k, row, i)
        return implementation

    step.__name__ = step.__qualname__ = rule.name
    step.__doc__ = f"Update p and {', '.join(rule.state) or 'no state'} in place: {rule.__doc__}"
    overload(step, jit_options={"error_model": "numpy"})(compiled)
    return step


globals().update({name: array_step(rule) for name, rule in rules.ALL.items()})
if TYPE_CHECKING:
    def __getattr__(name: str) -> Callable[..., None]: ...
