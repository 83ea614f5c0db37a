"""What may stand in a rule: arithmetic, coefficients, words of `notation`. Its bytecode tells, without its source."""
import dis
import inspect
import numbers
import types
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from .. import notation
from .digest import codes

WORDS = [getattr(notation, name) for name in notation.__all__]
NUMBER = ("but a rule holds no numbers of its own, which would make a float32 kernel compute in float64. Make it a "
          "hyperparameter of the decorator, or a coefficient that `at` returns, and write c.NAME")
STRAIGHT = ("but the update of an element is straight arithmetic, without `if`, `and`, `or` and loops. Write "
            "where(condition, x, y); what depends on the step alone is a coefficient that `at` returns")
CALL = (f"but a rule calls only {', '.join(notation.__all__)} of fastopt.notation, and functions under numba.njit that "
        "obey the same. Use those; what does not depend on the element is a coefficient that `at` returns")


class Fault(NamedTuple):
    """What was found where, and what is needed."""

    what: str
    code: types.CodeType
    line: int | None
    needed: str


def check(body: types.FunctionType) -> None:
    """ValueError with the line and the cure for the first thing that may not stand in a rule."""
    fault = next(_faults(body, body.__code__.co_varnames[0], {id(body)}), None)
    if fault is not None:
        raise ValueError(f"rule {body.__name__}: {fault.what} in {fault.code.co_filename}, line {fault.line}, "
                         f"{fault.needed}.")


def _faults(function: types.FunctionType, coefficients: str | None, seen: set[int]) -> Iterator[Fault]:
    """The faults of a function and of those it calls. Only its argument `coefficients` has attributes (None: any)."""
    for value in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()):
        if _is_number(value):
            code = function.__code__
            yield Fault(f"the number {value!r}, a default of {function.__name__},", code, code.co_firstlineno, NUMBER)
    known = {**function.__globals__, **inspect.getclosurevars(function).nonlocals}
    for code in codes(function.__code__):
        yield from _in_code(code, known, coefficients, seen)


def _in_code(code: types.CodeType, known: dict[str, Any], coefficients: str | None, seen: set[int]) -> Iterator[Fault]:
    lines = {offset: line for start, end, line in code.co_lines() for offset in range(start, end, 2)}
    steps = list(dis.get_instructions(code))
    for k, step in enumerate(steps):
        name, line = step.opname, lines.get(step.offset)
        if step.opcode in dis.hasjrel or step.opcode in dis.hasjabs:
            yield Fault("a condition or a loop", code, line, STRAIGHT)
        elif name in ("STORE_GLOBAL", "DELETE_GLOBAL", "STORE_DEREF") and step.argval not in code.co_cellvars:
            yield Fault(f"{step.argval}, which is not the rule's own, set", code, line,
                        "but an update only returns. Return it")
        elif name in ("LOAD_CONST", "RETURN_CONST", "LOAD_SMALL_INT") and _is_number(step.argval):
            yield Fault(f"the number {step.argval!r}", code, line, NUMBER)
        elif name in ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_DEREF") and step.argval in known:
            yield from _of_value(step.argval, known[step.argval], steps[k + 1:], code, line, seen)
        elif name == "LOAD_GLOBAL":  # a builtin
            yield Fault(f"a call of {step.argval}", code, line, CALL)
        elif name in ("LOAD_ATTR", "LOAD_METHOD") and coefficients and steps[k - 1].opname.startswith("LOAD_FAST"):
            of = steps[k - 1].argval
            of = of[-1] if isinstance(of, tuple) else of
            if of != coefficients:
                yield Fault(f"{of}.{step.argval}", code, line, CALL)


def _of_value(name: str, value: Any, following: list[dis.Instruction], code: types.CodeType, line: int | None,
              seen: set[int]) -> Iterator[Fault]:
    """What a name outside the function stands for, attributes of modules included."""
    for step in following:
        if not isinstance(value, types.ModuleType) or step.opname not in ("LOAD_ATTR", "LOAD_METHOD"):
            break
        name, value = f"{name}.{step.argval}", getattr(value, step.argval, None)
    function = getattr(value, "py_func", value)  # of what Numba compiles
    if any(value is word for word in WORDS):
        return
    if _is_number(value):
        yield Fault(f"the number {name}", code, line, NUMBER)
    elif isinstance(function, types.FunctionType) and (function.__module__ or "").partition(".")[0] != "numpy":
        if id(function) not in seen:
            seen.add(id(function))
            yield from _faults(function, None, seen)
    elif callable(value):
        yield Fault(f"a call of {name}", code, line, CALL)


def _is_number(value: Any) -> bool:
    return (isinstance(value, (numbers.Number, np.generic, np.ndarray))
            or (isinstance(value, tuple) and any(map(_is_number, value))))
