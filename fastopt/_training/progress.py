"""Progress bars on stderr (the extra `progress`)."""
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .._checks.extras import missing


def check(where: str) -> None:
    """ImportError where bars cannot be drawn."""
    try:
        import rich.progress  # noqa: F401
    except ImportError as error:
        raise missing(where, error, "progress") from None


@contextmanager
def bar(shown: bool, where: str, what: str, steps: float | None) -> Iterator[Callable[[int, str], None]]:
    """What takes the number of steps done and what to say of them: draws a bar, or does nothing.

    `steps` is how many there will be at most; None or inf where that is not known.
    """
    if not shown:
        yield lambda done, info: None
        return
    check(where)
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    columns = (TextColumn("{task.description}"), MofNCompleteColumn(), BarColumn(), TimeElapsedColumn(),
               TimeRemainingColumn(),
               TextColumn("{task.fields[info]}"))
    with Progress(*columns, console=Console(stderr=True)) as drawn:
        task = drawn.add_task(what, total=None if steps is None or math.isinf(steps) else steps, info="")
        yield lambda done, info: drawn.update(task, completed=done, info=info)
