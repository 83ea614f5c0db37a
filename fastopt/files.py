"""Checkpoints on disk: parameters, state, step count and hyperparameters of an optimizer in one safetensors file.

Every array is a tensor of the file: a parameter under its path, ``params['W1']``, a state under ``m of params['W1']``;
bfloat16 is U16, its bits, and a complex number its two parts, along a last axis. The entry "fastopt" of the file's
metadata is the rest of `Optimizer.state_dict`, as JSON.
"""
import errno
import json
import os
import re
import secrets
import stat
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

import numpy as np

from ._checks.extras import missing
from ._state.state_dict import Snapshot
from ._tensors.arrays import as_real
from .optimizer import Optimizer

try:
    from safetensors import SafetensorError, safe_open
    from safetensors.numpy import save_file
except ImportError as error:
    raise missing("fastopt.files", error, "files") from None

__all__ = ["load", "save"]

Path = str | os.PathLike[str]
Made = TypeVar("Made")


def save(path: Path, opt: Optimizer) -> None:
    """Write the parameters of an optimizer and all that it needs to continue, to one safetensors file.

    Parameters
    ----------
    path : str or path
        The file. A symbolic link is followed. What was there is replaced at once, when all is on the disk: a program
        that fails, is interrupted or is killed meanwhile leaves the old file as it was (and, where it was killed, a
        ``path.*.tmp`` beside it).
    opt : Optimizer
        With parameters of any kind and structure; those on a CUDA device are copied to this machine first.
        Hyperparameters that are functions of the step (schedules; `ReduceOnPlateau` with its state) are not saved: the
        program that resumes makes them again.

    Raises
    ------
    OSError
        With the path, where it cannot be written. `FileNotFoundError`: no such directory, or the path ends as one.
    TypeError, ValueError
        Where `path` is no path, or something else than a file, or two parameters have paths that print alike.
    """
    _check_optimizer("save", opt)
    path = target("save", path)
    with opt.snapshot(where="save") as snapshot:
        write(path, snapshot)


def write(path: str, snapshot: Snapshot) -> None:
    """Write a snapshot to a file, whose path is what `target` returned."""
    parameters, _, about = snapshot
    paths, states = about["paths"], about["state"]
    arrays = dict(zip(paths, parameters, strict=True))
    if len(arrays) < len(paths):
        twice = next(p for k, p in enumerate(paths) if p in paths[:k])
        raise ValueError(f"save: {path}: two parameters are {twice}, but each needs a name of its own. Give them "
                         "other keys.")
    for name, state in states.items():
        arrays |= zip(_names(name, paths), state, strict=True)
    _write(path, {**{k: v for k, v in about.items() if k != "state"}, "states": list(states)}, arrays)


def load(path: Path, opt: Optimizer) -> None:
    """Continue from a file that `save` wrote, bit for bit: the parameters are overwritten in place.

    Parameters
    ----------
    path : str or path
        The file.
    opt : Optimizer
        Made as the saved one was: the same rule, structure, groups, shapes and storage formats; on any device. Arrays
        are found by their paths, whatever the order of a dict's keys. Hyperparameters that are numbers come from the
        file, those that are functions here stay, as in `Optimizer.load_state_dict`, which also warns of functions that
        were forgotten.

    Raises
    ------
    OSError
        Where the file cannot be read.
    ValueError, TypeError
        With the path, where it is no such file, is damaged, or belongs to another optimizer. All is checked first.

    Notes
    -----
    A KeyboardInterrupt takes effect before the load or after it: all is what the file holds, or all is what it was.
    """
    _check_optimizer("load", opt)
    restored(path, lambda snapshot: opt.restore(snapshot, "load"))


def restored(path: Path, take: Callable[[Snapshot], Made]) -> Made:
    """What a function makes of the snapshot in a file; what it says is wrong with it is said of the file."""
    path = _text("load", path)
    saved, parameters = _read(path)
    try:
        return take(Snapshot(parameters, [], saved))
    except (TypeError, ValueError) as error:
        text = str(error).removeprefix("load_state_dict: ").replace(", or load with convert=True", "")
        raise type(error)(f"load: {path}: {text}") from None


def target(where: str, path: Path) -> str:
    """The absolute path of the file to be written; an error where none can be."""
    given = _text(where, path)
    path = os.path.realpath(given)
    if os.path.exists(path) and not os.path.isfile(path):  # a device would be replaced by a file
        raise ValueError(f"{where}: {path} is no file, but one is to be written. Give the path of a file.")
    if os.path.basename(given) in ("", ".", ".."):  # realpath takes "new/" for "new"
        raise FileNotFoundError(f"{where}: {given}: no such directory, but it ends as one. Give the path of a file.")
    if not os.path.isdir(os.path.dirname(path)):
        raise FileNotFoundError(f"{where}: {path}: no such directory, but one is needed to write into. Make it first.")
    return path


def tried(where: str, path: Path) -> str:
    """As `target`, having made and removed a file beside it: permissions alone tell less."""
    path = target(where, path)
    beside = _beside(path)
    try:
        open(beside, "xb").close()
        os.remove(beside)
    except OSError as error:
        said = f"{where}: {path}: {error.strerror}. Give a path where a file can be written"
        raise OSError(error.errno, said) from None
    return path


def _text(where: str, path: Any) -> str:
    """A path as a string that the system takes."""
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"{where}: {path!r}, but the path of a file is needed. Give one.")
    text = os.fsdecode(path)
    try:
        wrong = b"\0" in os.fsencode(text)
    except UnicodeEncodeError:  # a lone surrogate
        wrong = True
    if wrong:
        raise ValueError(f"{where}: {text!r} can be no path of a file. Give another.")
    return text


def _beside(path: str) -> str:
    return f"{path}.{secrets.token_hex(4)}.tmp"


def _check_optimizer(where: str, opt: Any) -> None:
    if not isinstance(opt, Optimizer):
        of_torch, cure = hasattr(opt, "param_groups"), f"Call {where}(path, opt)."
        if of_torch:  # of fastopt.torch, too
            cure = ("Save it as torch does: torch.save(opt.state_dict(), path)." if where == "save" else
                    "Load it as torch does: opt.load_state_dict(torch.load(path)).")
        raise TypeError(f"{where}: opt is a {type(opt).__name__}{' of torch' if of_torch else ''}, but an optimizer"
                        f"{' of arrays' if of_torch else ''} is needed. {cure}")


def _names(state: str, paths: list[str]) -> list[str]:
    """What the arrays of a state are called in the file."""
    return [f"{state} of {path}" for path in paths]


def _write(path: str, about: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    dense = {name: np.require(as_real(a), requirements="C") for name, a in arrays.items()}
    _replace(path, lambda beside: save_file(dense, beside, {"fastopt": json.dumps(about)}))


def _replace(path: str, write: Callable[[str], None]) -> None:
    """Have a file written beside `path`; it takes its place when it is on the disk."""
    beside = _beside(path)
    try:
        with open(beside, "xb") as file:
            mode = os.fstat(file.fileno()).st_mode
        write(beside)
        os.chmod(beside, mode)  # safetensors' own is 0600, whatever the umask says
        _sync(beside, os.O_RDWR)
        os.replace(beside, path)
    except BaseException as error:
        with suppress(OSError):
            os.remove(beside)
        if isinstance(error, (OSError, SafetensorError)):
            number, text = _reason(error)
            raise OSError(number, f"save: {path}: {text}. What was there is unchanged") from None
        raise
    with suppress(OSError):  # the name, too, reaches the disk; not every system lets directories be opened
        _sync(os.path.dirname(path), os.O_RDONLY)


def _reason(error: Any) -> tuple[int, str]:
    """An error's number and words. safetensors writes the number of the system into its words: "... (os error 28)"."""
    if isinstance(error, OSError):
        return error.errno or errno.EIO, error.strerror or str(error)
    number = re.search(r"\(os error (\d+)\)", str(error))
    return (int(number[1]), os.strerror(int(number[1]))) if number else (errno.EIO, str(error))


def _sync(path: str, flags: int) -> None:
    file = os.open(path, flags)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _read(path: str) -> tuple[dict[str, Any], list[np.ndarray]]:
    """The state dict and the parameters of a file, all in memory: no error of the disk comes when half is loaded."""
    if not stat.S_ISREG((found := os.stat(path)).st_mode) and not stat.S_ISDIR(found.st_mode):  # a pipe
        raise ValueError(f"load: {path} is no file, but one that fastopt.files.save wrote is needed. Give the path of "
                         "one.")
    open(path, "rb").close()  # an OSError of Python's, with its number; safetensors' have none
    try:
        with safe_open(path, "np") as file:
            saved = json.loads((file.metadata() or {})["fastopt"])
            paths = saved["paths"]
            saved["state"] = {name: [file.get_tensor(key) for key in _names(name, paths)]
                              for name in saved.pop("states")}
            return saved, [file.get_tensor(p) for p in paths]
    except (SafetensorError, KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise ValueError(f"load: {path}: no whole checkpoint of fastopt ({type(error).__name__}: {error}), but a file "
                         "that fastopt.files.save wrote is needed. Give the path of one.") from None
