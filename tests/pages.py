"""Pages of the documentation as tests see them: their code blocks, run, and their tables.

A line ``expression  # -> value`` of a block states the value's repr. The blocks of a kind on a page share a namespace.
"""
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
STATED = re.compile(r"^(?P<expression>\S.*?) +# -> (?P<value>.+)$", re.MULTILINE)


def read(page):
    """The text of a page, named from the top of the repository."""
    return (ROOT/page).read_text(encoding="utf-8")


def blocks(text, language):
    return [code for kind, code in BLOCK.findall(text) if kind == language]


def rows(text):
    """{first cell: the other cells} of all tables."""
    return {cells[0]: cells[1:] for line in text.splitlines() if line.startswith("|")
            if (cells := [cell.strip() for cell in line.strip("|").split("|")])}


def run(page, kind, **names):
    """Execute the blocks of a kind on a page, in one namespace; what they state wrongly."""
    wrong, found = [], blocks(read(page), kind)

    def states(value, expected):
        if repr(value) != expected:
            wrong.append(f"{value!r}, not {expected}")

    namespace = {"states": states, **names}
    for code in found:
        code = STATED.sub(lambda m: f"states(({m['expression']}), {m['value']!r})", code)
        exec(compile(code, page, "exec"), namespace)
    assert found, f"{page}: no block of {kind}"
    return wrong
