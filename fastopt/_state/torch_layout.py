"""State dicts in torch's layout, of torch and of bitsandbytes, as ours.

    {"state": {key: {name: array}}, "param_groups": [{"params": [key, ...], "lr": 0.1, ...}]}

Every key of ``state`` is used or named in an error. A parameter that never had a gradient has no entry there: its state
is zero here, and so is the count of its steps. After loading, torch's conventions are in force (where eps
stands, what a maximum is over, ...), which its dict does not spell out, whatever this optimizer was made with.
"""
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from contextlib import suppress
from typing import Any

import numpy as np

from .._checks.numbers import whole
from .._checks.warning import warn
from .._formats.catalogue import arithmetic
from .._rule import history
from .._rule.groups import MOST_STEPS
from .._rule.hyperparameters import MODIFIERS
from .._rule.pieces import PIECES, STATES
from .._tensors.backend import Stored
from ..presets import preset

WHERE = "load_state_dict: torch's dict"
OURS = "Give what torch's state_dict() returned."
ANOTHER = "Make the optimizer whose state it is."
ADAM = {"m": "exp_avg", "v": "exp_avg_sq"}
TORCH = {  # torch's names for the states of a rule
    "sgd": {}, "momentum": {"v": "momentum_buffer"}, "nesterov": {"v": "momentum_buffer"},
    "rprop": {"old": "prev", "size": "step_size"}, "rmsprop": {"v": "square_avg"},
    "rmsprop_momentum": {"v": "square_avg", "b": "momentum_buffer"},
    "rmsprop_centered": {"v": "square_avg", "mean": "grad_avg"},
    "rmsprop_centered_momentum": {"v": "square_avg", "mean": "grad_avg", "b": "momentum_buffer"},
    "adagrad": {"v": "sum"}, "adadelta": {"v": "square_avg", "d": "acc_delta"}, "adam": ADAM, "adamw": ADAM,
    "adamax": {"m": "exp_avg", "top": "exp_inf"}, "amsgrad": {**ADAM, "top": "max_exp_avg_sq"}, "nadam": ADAM,
    "radam": ADAM}
LION = {"m": "exp_avg"}  # bitsandbytes has one
UNCOUNTED = ("sgd", "momentum", "nesterov")  # torch keeps no step count of these
PRODUCT = "mu_product"  # of NAdam's mu; its logarithm is the history of a group
BESIDE = ("step", PRODUCT)  # what an entry holds that is no array of a state
NUMBERS = ("lr", "momentum", "dampening", "alpha", "eps", "weight_decay", "lr_decay", "momentum_decay")
PAIRS = {"betas": ("b1", "b2"), "etas": ("eta_minus", "eta_plus"), "step_sizes": ("size_min", "size_max")}
GIVEN = (*NUMBERS, *(name for names in PAIRS.values() for name in names))  # hyperparameters that torch's groups have
RULES_OF_FLAGS = {"amsgrad": ("amsgrad",), "nesterov": ("nesterov",),  # the rules that are what a flag says
         "centered": ("rmsprop_centered", "rmsprop_centered_momentum")}
Entries = list[Mapping[str, Any]]


def _item(value: Any) -> Any:
    """The number in a value of any library, if it holds one alone; else None."""
    with suppress(TypeError, ValueError, RuntimeError):  # several elements; RuntimeError is torch's
        found = value.item() if hasattr(value, "item") else value
        return found if isinstance(found, (int, float)) else None
    return None


def count(value: Any) -> int | None:
    """A step count as an int, be it a float, as in torch, or an array of one element. None where it is none."""
    found = _item(value)
    steps = whole(int(found) if isinstance(found, float) and found.is_integer() else found)
    return steps if steps is not None and 0 <= steps <= MOST_STEPS else None


def few(names: Iterable[Any]) -> str:
    """Names in an error, not too many."""
    found = list(map(str, names))
    return ", ".join(found[:5]) + (f" and {len(found) - 5} more" if len(found) > 5 else "")


def read(backend: Stored, saved: Mapping[str, Any]) -> dict[str, Any]:
    """A state dict in torch's layout as one of ours."""
    from .. import bitsandbytes  # here: importing the package is timed
    rule, tensors, (state, given) = backend.rule, backend.tensors, _parts(saved)
    bits = any(bitsandbytes.is_coded(e) for e in state.values())
    names = LION if bits and rule.name == "lion" else TORCH.get(rule.name)
    if names is None or (bits and rule.name not in bitsandbytes.NAMES):
        raise ValueError(f"{WHERE}: {'bitsandbytes' if bits else 'torch'} has no {rule.name}. Give what state_dict() "
                         "returned.")
    sizes = [len(group["params"]) for group in given]
    own = [sum(t.group == k for t in tensors) for k in range(len(backend.groups))]
    if sizes != own:
        raise ValueError(f"{WHERE}: groups of {sizes} parameters, but this optimizer has {own}. Make the same groups.")
    entries = _by_name(backend, given, _entries(backend, state, given))
    if bits:
        entries = [bitsandbytes.decoded(e, bitsandbytes.NAMES[rule.name], f"{WHERE}: parameter {k}") if e else e
                   for k, e in enumerate(entries)]
    arrays = {name: _state(backend, name, names, entries) for name in rule.state}
    groups = [_hyperparameters(rule, {**group, **bitsandbytes.numbers(rule.name, group)} if bits else group,
                               f"{WHERE}: group {k}") for k, group in enumerate(given)]
    for k, entry in enumerate(entries):
        for key, value in entry.items():
            if value is not None and key not in (*BESIDE, *names.values()):
                raise ValueError(f"{WHERE}: parameter {k} has {key}, for which {rule.name} has no place. {ANOTHER}")
    counts = _steps(backend, entries)
    t = max(counts)
    found = {"version": 1, "rule": rule.name, "t": t, "groups": groups, "state": arrays}
    if rule.history:  # of the product of mu, which torch keeps for each parameter
        past = [history.of_product(rule, {**backend.groups[of.group], **groups[of.group]}, steps, e[PRODUCT])
                if PRODUCT in e else (0, 0.0) for e, of, steps in zip(entries, tensors, counts, strict=True)]
        of_groups = [[one for one, of in zip(past, tensors, strict=True) if of.group == k] for k in range(len(own))]
        if min(counts) < t or any(len(set(of)) > 1 for of in of_groups):
            found["past"] = past
        elif any(one != (0, 0.0) for one in past):
            found["history"] = [of[0] for of in of_groups]
    return {**found, **({"behind": [t - steps for steps in counts]} if min(counts) < t else {})}


def _parts(saved: Mapping[str, Any]) -> tuple[Mapping[Any, Any], Entries]:
    """The two parts of a dict, once they are what torch makes."""
    if "state" not in saved:
        raise ValueError(f"{WHERE}: no state in it. {OURS}")
    state, groups = saved["state"], saved["param_groups"]
    if not isinstance(groups, (list, tuple)):
        raise TypeError(f"{WHERE}: param_groups is a {type(groups).__name__}, but a list is needed. {OURS}")
    _check_dict(state, "state")
    for key, entry in state.items():
        _check_dict(entry, f"the entry {key!r} of state")
    for k, group in enumerate(groups):
        _check_dict(group, f"group {k}")
        if not _is_list(group.get("params")):
            raise ValueError(f"{WHERE}: group {k} has no list of params. {OURS}")
        if not all(isinstance(key, Hashable) for key in group["params"]):
            raise TypeError(f"{WHERE}: group {k} has params that are no keys. {OURS}")
    return state, list(groups)


def _is_list(value: Any) -> bool:
    return isinstance(value, (list, tuple)) or (isinstance(value, np.ndarray) and value.ndim == 1)


def _check_dict(value: Any, what: str) -> None:
    if not isinstance(value, Mapping):
        raise TypeError(f"{WHERE}: {what} is a {type(value).__name__}, but a dict is needed. {OURS}")


# Whose entry is whose

def _key(key: Any) -> Any:
    """A key of a parameter: numbers may have become text (JSON, HDF5) or numbers of NumPy (npz) on their way."""
    if isinstance(key, str):
        return int(key) if key.isascii() and key.isdecimal() else key
    return key if (number := count(key)) is None else number


def _entries(backend: Stored, state: Mapping[Any, Any], groups: Entries) -> Entries:
    """The entries in the order of the groups' parameters; an empty one where there is none."""
    ids = [_key(key) for group in groups for key in group["params"]]
    found = [(_key(key), entry) for key, entry in state.items()]
    twice = [key for keys in (ids, [key for key, _ in found]) for key, n in Counter(keys).items() if n > 1]
    if twice:
        raise ValueError(f"{WHERE}: {twice[0]!r} stands for two parameters, but each needs a key of its own. {OURS}")
    if unknown := [key for key, _ in found if key not in ids]:
        names = _names(groups)
        if names and all(key in names for key, _ in found):
            ids = names
        elif len(unknown) == len(ids) == len(found) and _in_order(backend, [entry for _, entry in found]):
            ids = unknown
        else:
            raise ValueError(f"{WHERE}: state has the keys {few(map(repr, unknown))}, but its groups hold the "
                             f"parameters {few(map(repr, ids))}. Rename the keys of state to those, in the order of "
                             "torch's parameters.")
    return [dict(found).get(key, {}) for key in ids]


def _in_order(backend: Stored, entries: Entries) -> bool:
    """Whether entries under unknown names must be those of the parameters in this order: all shapes differ."""
    shapes = [t.shape for t in backend.tensors]
    found = [next((tuple(v.shape) for key, v in e.items() if key not in BESIDE and hasattr(v, "shape")), None)
             for e in entries]
    return len(set(shapes)) == len(shapes) and found == shapes


def _names(groups: Entries) -> list[Any]:
    """The names of the parameters, where torch's dict holds them all; else nothing."""
    names = [list(group["param_names"]) if isinstance(group.get("param_names"), (list, tuple)) else []
             for group in groups]
    complete = all(len(of) == len(group["params"]) and all(isinstance(name, str) for name in of)
                   for of, group in zip(names, groups, strict=True))
    flat = [name for of in names for name in of]
    return flat if complete and len(set(flat)) == len(flat) else []


def _by_name(backend: Stored, groups: Entries, entries: Entries) -> Entries:
    """Entries in the order of this optimizer's parameters: by name where both have the same names, else as they are."""
    names = _names(groups) or [key for group in groups for key in group["params"] if isinstance(key, str)]
    places: dict[str, int] = {}
    if len(names) == len(entries):
        owners = [k for k, group in enumerate(groups) for _ in group["params"]]
        places = {f"params{root}[{name!r}]": n for n, (k, name) in enumerate(zip(owners, names, strict=True))
                  for root in ("", f"[{k}]")}
    if any(t.path not in places for t in backend.tensors):
        return entries
    return [entries[places[t.path]] for t in backend.tensors]


# What entries hold

def _state(backend: Stored, name: str, names: Mapping[str, str], entries: Entries) -> list[Any]:
    """The arrays of one state."""
    if name in STATES:  # which torch does not keep: it goes on from where it is
        return backend.numbers(name)
    theirs, slot, found = names[name], backend.states[name], []
    for k, (e, t) in enumerate(zip(entries, backend.tensors, strict=True)):
        none = not e or (theirs == "momentum_buffer" and theirs in e and e[theirs] is None)
        if not none and e.get(theirs) is None:
            raise ValueError(f"{WHERE}: parameter {k} has {', '.join(map(str, e))}, but {backend.rule.name} needs "
                             f"{theirs}. {ANOTHER}")
        dtype = arithmetic(t.format).dtype if slot.formats[k].block else slot.arrays[k].dtype
        found.append(np.zeros(t.array.shape, dtype) if none else e[theirs])
    return found


def _steps(backend: Stored, entries: Entries) -> list[int]:
    """The steps that each parameter had."""
    lacking = [k for k, e in enumerate(entries) if e and e.get("step") is None]
    if backend.rule.name in UNCOUNTED and len(lacking) == sum(map(bool, entries)):
        t = backend.t or int(any(v is not None for e in entries for v in e.values()))
        if not backend.t:
            warn(f"{WHERE}: SGD's holds no step count, so t is {t} here. Set opt.t to the number of steps taken if a "
                 "hyperparameter depends on it: after loading, or before, and this is not said.")
        begun = [any(value is not None for value in e.values()) for e in entries]
        return [t if one or not any(begun) else 0 for one in begun]
    if lacking:
        raise ValueError(f"{WHERE}: parameter {lacking[0]} has no step, but its count of steps is needed. {OURS}")
    found = {k: count(e["step"]) for k, e in enumerate(entries) if e}
    for k, steps in found.items():
        if steps is None:
            raise ValueError(f"{WHERE}: parameter {k} has step {entries[k]['step']!r}, but a whole number, 0 or more, "
                             f"is needed. {OURS}")
    return [found.get(k) or 0 for k in range(len(entries))]


def _number(name: str, value: Any, where: str) -> float:
    with suppress(OverflowError):
        if (found := _item(value)) is not None:
            return float(found)
    raise ValueError(f"{where}: {name} is {value!r}, but a number is needed. {OURS}")


def _flag(group: Mapping[str, Any], name: str, where: str) -> bool:
    try:
        return bool(group.get(name, False))
    except (TypeError, ValueError, RuntimeError):  # an array of several elements
        raise ValueError(f"{where}: {name} is {group[name]!r}, but True or False is needed. {OURS}") from None


def _hyperparameters(rule: Any, group: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The hyperparameters of one of torch's groups, with torch's conventions, which its dict does not spell out."""
    for flag, names in RULES_OF_FLAGS.items():
        if flag in group and _flag(group, flag, where) != (rule.name in names):
            raise ValueError(f"{where}: {flag}={group[flag]}, but this optimizer is {rule.name}. {ANOTHER}")
    if "momentum" not in rule.defaults and _number("momentum", group.get("momentum", 0.0), where):
        raise ValueError(f"{where}: momentum={group['momentum']}, but {rule.name} has none. {ANOTHER}")
    given = {name: group[name] for name in NUMBERS if name in group and name in rule.defaults}
    if rule.name == "adadelta" and "rho" in group:
        given["alpha"] = group["rho"]
    for pair, names in PAIRS.items():
        if pair in group and names[1] in rule.defaults:
            if not _is_list(group[pair]) or len(group[pair]) != 2:
                raise ValueError(f"{where}: {pair} is {group[pair]!r}, but two numbers are needed. {OURS}")
            given.update((k, v) for k, v in zip(names, group[pair], strict=True) if k in rule.defaults)
    numbers: dict[str, Any] = {name: _number(name, value, where) for name, value in given.items()}
    if "decoupled_weight_decay" in group:
        numbers["decay"] = "decoupled" if _flag(group, "decoupled_weight_decay", where) else "coupled"
    further = [*MODIFIERS, *(name for piece in PIECES.values() for name in piece.hyper)]
    conventions = {name: value for name, value in rule.defaults.items() if name not in (*GIVEN, *further)}
    return {**conventions, **(preset("torch", rule.name) if rule.name in TORCH else {}), **numbers,
            "maximize": _flag(group, "maximize", where)}
