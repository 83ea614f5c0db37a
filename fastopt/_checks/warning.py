"""Warnings that point at the program's own line, whatever lies between."""
import sys
import warnings
from types import FrameType

BETWEEN = {__name__.partition(".")[0], "importlib", "joblib", "scipy", "sklearn", "torch"}  # packages that may call us


def warn(message: str, kind: type[Warning] = UserWarning) -> None:
    """Warn at the line that called this package, or one of those that call it."""
    frame = sys._getframe(1)
    while frame.f_back is not None and _module(frame).partition(".")[0] in BETWEEN:
        frame = frame.f_back
    seen = frame.f_globals.setdefault("__warningregistry__", {})
    warnings.warn_explicit(message, kind, frame.f_code.co_filename, frame.f_lineno, _module(frame), seen)


def _module(frame: FrameType) -> str:
    """The name of a frame's module; Python drops a warning of a module that has none, as a program in `exec` may be."""
    return str(frame.f_globals.get("__name__") or "<string>")
