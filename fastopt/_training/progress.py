"""Progress bars on stderr (the extra `progress`)."""
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from .._checks.extras import missing


def check(where: str) -> Any:
    """The module that draws bars; ImportError where it is missing."""
    try:
        return import_module("rich.progress")
    except ImportError as error:
        raise missing(where, error, "progress") from None


@contextmanager
def bar(shown: bool, where: str, what: str, steps: float | None) -> Iterator[Callable[[int, str], None]]:
    """A function of the number of steps done and a text about them. It draws a bar where that should be `shown`.

    `steps` is the most that there will be; None or inf where that is not known.
    """
    if not shown:
        yield lambda done, info: None
        return
    rich = check(where)
    from rich.console import Console
    columns = (rich.TextColumn("{task.description}"), rich.MofNCompleteColumn(), rich.BarColumn(),
               rich.TimeElapsedColumn(), rich.TimeRemainingColumn(), rich.TextColumn("{task.fields[info]}"))
    with rich.Progress(*columns, console=Console(stderr=True)) as drawn:
        task = drawn.add_task(what, total=None if steps is None or math.isinf(steps) else steps, info="")
        yield lambda done, info: drawn.update(task, completed=done, info=info)
