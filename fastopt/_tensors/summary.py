"""What an optimizer holds, in words and numbers: for its repr, and as a table of HTML for notebooks."""
import math
from html import escape
from typing import Any, NamedTuple

from .._formats.choice import REMAINDER
from .backend import Stored

COLUMNS = ("group", "hyperparameters", "tensors", "elements", "parameters", "bytes", "state", "bytes")


class Summary(NamedTuple):
    """Some tensors: how many, of how many elements, how they and their states are stored, in how many bytes."""

    tensors: int
    elements: int
    parameters: str
    bytes: int
    state: str
    state_bytes: int


def held(backend: Stored, group: int | None = None) -> Summary:
    """What a group holds; None: all groups."""
    chosen = [k for k, t in enumerate(backend.tensors) if group in (None, t.group)]
    tensors = [backend.tensors[k] for k in chosen]
    states = [f"{name} {'/'.join(dict.fromkeys(slot.formats[k].name for k in chosen))}"
              for name, slot in backend.states.items()]
    if any(t.format.split for t in tensors):
        states.append(REMAINDER)
    drawn = ", stochastic" if any(t.format.random for t in tensors) else ""
    return Summary(
        tensors=len(tensors), elements=sum(math.prod(t.shape) for t in tensors),
        parameters="/".join(dict.fromkeys(f"complex {t.plain}" if t.complex else t.plain for t in tensors)) + drawn,
        bytes=sum(t.array.nbytes for t in tensors), state=", ".join(states),
        state_bytes=sum(of[k].nbytes for of in backend.state.values() for k in chosen))


def table(name: str, t: int, backend: Stored) -> str:
    """A row for each group, and one for all of them if there are several."""
    found = [(str(k), repr(group), held(backend, k)) for k, group in enumerate(backend.groups)]
    if len(found) > 1:
        found.append(("all", "", held(backend)))
    rows = [_row("td", group, hyper, f"{of.tensors:,}", f"{of.elements:,}", of.parameters, f"{of.bytes:,}",
                 of.state or "none", f"{of.state_bytes:,}") for group, hyper, of in found]
    caption = f"<caption>{escape(f'{name}, t = {t:,}{backend.where}')}</caption>"
    return f"<table>{caption}<thead>{_row('th', *COLUMNS)}</thead><tbody>{''.join(rows)}</tbody></table>"


def _row(kind: str, *cells: Any) -> str:
    return f"<tr>{''.join(f'<{kind}>{escape(cell)}</{kind}>' for cell in cells)}</tr>"
