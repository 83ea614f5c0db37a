"""Warnings that point at the program's own line, whatever lies between."""
import sys
import warnings

PACKAGE = __name__.partition(".")[0]


def warn(message: str, kind: type[Warning] = UserWarning) -> None:
    """Warn at the line that called this package."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == PACKAGE:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, kind, stacklevel=level)
