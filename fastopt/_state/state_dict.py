"""State dicts: what a later run needs to continue bit for bit, as plain arrays, numbers and names.

States lie in a dict as they are stored (blocks of eight bits as their bytes), those of complex parameters as complex
arrays, unless they are codes. Where dtypes do not tell all (blocks, stochastic rounding, remainders), an entry
``storage`` holds the seed, the format of each state of each parameter, and the memory orders of the parameters, along
which blocks run. Dicts of torch and bitsandbytes are read, too.
"""
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from .._checks.numbers import whole
from .._checks.warning import warn
from .._formats.catalogue import STORED, Format
from .._formats.choice import REMAINDER
from .._rule import history, pieces
from .._rule.groups import Group
from .._signals import at_once
from .._tensors import arrays
from .._tensors.backend import Stored, as_codes, numbers
from .._tensors.parts import Parts
from .._tensors.tensors import Tensor, spans
from ..storage import coded_bytes
from . import torch_layout
from .torch_layout import count, few

VERSION = 1
COUNTS = {"behind": 0, "past": None}  # entries of what tensors have not in common, and what stands for the same as all
OURS = "Give what state_dict() returned."
DAMAGED = "The checkpoint is damaged."
FOREIGN = "It belongs to another model"


class Snapshot(NamedTuple):
    """What a checkpoint holds: arrays in the order of the parameters, and a state dict, which may be left out."""

    parameters: list[np.ndarray]
    remainders: list[np.ndarray]  # what bfloat16 parameters lack; of a state dict, it has its own
    saved: Any = None


def save(backend: Stored, copy: bool) -> dict[str, Any]:
    groups, tensors, states = backend.groups, backend.tensors, backend.states

    def given(of: Sequence[Any]) -> list[np.ndarray]:
        return [t.as_given(backend.read(a, copy)) for t, a in zip(tensors, of, strict=True)]
    found: dict[str, Any] = {"version": VERSION, "rule": backend.rule.name, "t": backend.t,
                             "groups": [{k: v for k, v in group.items() if not callable(v)} for group in groups],
                             "paths": [t.path for t in tensors],
                             "state": {name: given(of) for name, of in backend.state.items()}}
    if functions := [path for path, value in _paths_of(groups).items() if callable(value)]:
        found["functions"] = functions
    found |= history.saved(groups, found["t"])
    behind, past = backend.late()
    if any(behind) or any(past):
        found["behind"] = list(behind)
    if any(past):
        found["past"] = [groups[of.group].past(known, found["t"] - steps, steps)
                         for of, known, steps in zip(tensors, past, behind, strict=True)]
    formats = [f for slot in states.values() for f in slot.formats] + [t.format for t in tensors]
    if any(f.block or f.random or f.split for f in formats):
        found["storage"] = {"seed": backend.seed, "orders": [list(t.order) for t in tensors],
                            "formats": {name: [f.name for f in slot.formats] for name, slot in states.items()}}
    return found


def _paths_of(groups: Sequence[Group]) -> dict[str, Any]:
    """All hyperparameters under their paths."""
    return {f"groups[{k}][{name!r}]": value for k, group in enumerate(groups) for name, value in group.items()}


def load(backend: Stored, saved: Mapping[str, Any], convert: bool = False) -> None:
    _write(backend, fitted(backend, saved, convert))


def fitted(backend: Stored, saved: Mapping[str, Any], convert: bool = False) -> dict[str, Any]:
    """A state dict of ours, or of torch, as this backend stores it and in its order; or what is wrong with it."""
    if not isinstance(saved, Mapping):
        raise TypeError(f"load_state_dict: a {type(saved).__name__}, but a dict is needed. {OURS}")
    saved = torch_layout.read(backend, saved) if "param_groups" in saved else saved
    if convert and isinstance(saved.get("groups"), (list, tuple)):
        lacking = {name for piece in pieces.PIECES.values() for name in piece.hyper} - backend.rule.defaults.keys()
        saved = {**saved, "groups": [{k: v for k, v in g.items() if k not in lacking} if isinstance(g, Mapping) else g
                                     for g in saved["groups"]]}
    saved = arranged(saved, check(backend, saved, convert))
    _check_states(backend, saved, convert)
    return _converted(backend, saved) if convert else saved


def restore(backend: Stored, snapshot: Snapshot) -> None:
    """Take over a snapshot; TypeError or ValueError, before anything is written, where it does not fit."""
    parameters, remainders, saved = snapshot
    if saved is None:
        _check_parameters(backend, parameters, remainders)
        backend.put([*zip([t.array for t in backend.tensors], parameters, strict=True),
                     *zip(backend.remainders, remainders, strict=True),
                     *backend.followers(backend.outputs.values(), parameters, remainders)])
        return
    _write(backend, *fitted_whole(backend, snapshot))


def fitted_whole(backend: Stored, snapshot: Snapshot) -> tuple[dict[str, Any], list[np.ndarray]]:
    """The state dict and the parameters of a snapshot in the order of this backend; or what is wrong with them."""
    places = check(backend, snapshot.saved)
    parameters, saved = [snapshot.parameters[k] for k in places], arranged(snapshot.saved, places)
    _check_parameters(backend, parameters, backend.remainders)  # first: states are mostly stored as these are
    _check_states(backend, saved, False)
    return saved, parameters


def _foreign(found: tuple[int, ...], needed: tuple[int, ...]) -> str:
    """What to say of a shape that does not fit."""
    pairs = (*found, 2) == needed or found == (*needed, 2)
    return f"{FOREIGN}, or one of the two is complex and has pairs" if pairs else FOREIGN


def _check_parameters(backend: Stored, parameters: Sequence[np.ndarray], remainders: Sequence[np.ndarray]) -> None:
    """What is wrong with the parameters of a snapshot, which are in our order, and what they lack."""
    shapes = [a.shape for a in backend.remainders]
    if len(parameters) != len(backend.tensors) or [a.shape for a in remainders] != shapes:
        raise ValueError(f"restore: {len(parameters)} parameters and {len(remainders)} remainders, but not those of "
                         f"this optimizer. {FOREIGN}.")
    for t, source in zip(backend.tensors, parameters, strict=True):
        if source.shape != t.array.shape:
            raise ValueError(f"{t.path}: shape {source.shape}, but {t.array.shape} is needed. "
                             f"{_foreign(source.shape, t.array.shape)}.")
        if (found := arrays.format_of(source, t.path).name) != t.plain:
            raise ValueError(f"{t.path}: stored as {found}, but the parameter is {t.plain}. Load it into an optimizer "
                             f"of {found} parameters, convert those, and give its state_dict() to an optimizer of "
                             "them, with convert=True.")


def _write(backend: Stored, saved: Mapping[str, Any], parameters: list[np.ndarray] | None = None) -> None:
    """Take over what has been checked and arranged. All of it or nothing, whatever signals come."""
    functions = {path for path in saved.get("functions", ()) if isinstance(path, str)}
    if forgotten := [f"{path} stays {value!r}" for path, value in _paths_of(backend.groups).items()
                     if path in functions and not callable(value)]:
        warn(f"fastopt: {few(forgotten)}. The optimizer that was saved had a function of the step there, a schedule "
             "for example, and functions are not saved. Make the optimizer with it before you load.")
    found = {name: [arrays.as_real(arrays.on_host(source, name)) for source in saved["state"][name]]
             for name in backend.state}
    pairs = [pair for name, targets in backend.state.items() for pair in zip(targets, found[name], strict=True)]
    if parameters is not None:
        pairs += zip([t.array for t in backend.tensors], parameters, strict=True)
    pairs += backend.followers(backend.outputs.values(), parameters, found.get(REMAINDER))
    taken = spans(backend.written)
    pairs = [(target, source.copy() if _of_another(source, target, taken) else source) for target, source in pairs]
    groups = backend.groups
    changes = [{name: value for name, value in given.items() if not callable(group[name])}
               for group, given in zip(groups, saved["groups"], strict=True)]
    # copies of the groups make the table of coefficients on a device; our own change with all the rest
    new = list(zip(groups, changes, strict=True))
    then = [Group(backend.rule, {**group, **change}, group.where) for group, change in new]
    at_once(history.resuming(then, saved))
    seed = int(saved.get("storage", {}).get("seed", backend.seed))
    behind, past = (saved.get(name) or [none]*len(backend.tensors) for name, none in COUNTS.items())
    known = [None if one is None else groups[t.group].history_of(0).restored(one, saved["groups"][t.group])
             for one, t in zip(past, backend.tensors, strict=True)]
    parts = Parts(list(map(int, behind)), known)
    backend.put(pairs, [*backend.resuming(count(saved["t"]) or 0, seed, then),
                        partial(setattr, backend, "parts", parts),
                        *(group.change(change, group.where) for group, change in new),
                        *history.resuming(groups, saved)])


def _of_another(source: np.ndarray, target: Any, taken: list[tuple[int, int]]) -> bool:
    """Whether an array lies where another one is written."""
    return (source.size > 0 and arrays.address(source) != arrays.address(target)
            and arrays.touches(taken, *arrays.bounds(source)))


def arranged(saved: Mapping[str, Any], places: list[int]) -> dict[str, Any]:
    """A state dict in the order of the optimizer's parameters, each of which it holds at its place of `places`."""
    def turned(of: Mapping[str, Any]) -> dict[str, list]:
        return {name: [values[k] for k in places] for name, values in of.items()}
    new = {**saved, "state": turned(saved["state"]), **turned({k: saved[k] for k in COUNTS if k in saved})}
    if "storage" in saved:
        storage = _storage(saved, len(places))
        new["storage"] = {**storage, **turned({"orders": storage["orders"]}), "formats": turned(storage["formats"])}
    return new


def check(backend: Stored, saved: Mapping[str, Any], convert: bool = False) -> list[int]:
    """Where a state dict holds each parameter, or what is wrong with all but its arrays."""
    where, rule = "load_state_dict", backend.rule.name
    if missing := {"version", "rule", "t", "groups", "state"} - set(saved):
        raise ValueError(f"{where}: no {', '.join(sorted(missing))} in it. {OURS}")
    for name, kind, word in (("groups", (list, tuple), "list"), ("state", Mapping, "dict"),
                             ("functions", (list, tuple), "list")):
        if not isinstance(found := saved.get(name, ()), kind):  # type: ignore[arg-type]
            raise TypeError(f"{where}: {name} is a {type(found).__name__}, but a {word} is needed. {OURS}")
    if not isinstance(saved["version"], (int, np.integer)) or saved["version"] != VERSION:
        raise ValueError(f"{where}: version {saved['version']}, but this fastopt reads {VERSION}. Update fastopt.")
    if not isinstance(saved["rule"], str) or saved["rule"] != rule:
        raise ValueError(f"{where}: the state of {saved['rule']}, but this optimizer is {rule}. Make that one first.")
    if count(saved["t"]) is None:
        raise ValueError(f"{where}: t is {saved['t']!r}, but a whole number, 0 or more, is needed. {DAMAGED}")
    _check_groups(backend, saved["groups"], where)
    history.check(backend.groups, saved)
    if _kept(saved["state"], convert) != _kept(backend.state, convert):
        raise ValueError(f"{where}: state {sorted(map(str, saved['state']))}, but {rule} has {list(backend.state)}. "
                         "Make it with the rounding, average, grokfast, mars and schedule_free that the saved one had, "
                         "or load with convert=True.")
    places = _places(saved.get("paths"), [t.path for t in backend.tensors])
    for name, new in saved["state"].items():
        if not isinstance(new, (list, tuple)):
            raise TypeError(f"{where}: {name} is a {type(new).__name__}, but a list is needed. {DAMAGED}")
        if len(new) != len(places):
            raise ValueError(f"{where}: {len(new)} arrays of {name}, but there are {len(places)} parameters. "
                             f"{FOREIGN}, or is damaged.")
    _check_counts(backend, saved)
    return places


def _check_counts(backend: Stored, saved: Mapping[str, Any]) -> None:
    """ValueError where the entries that say how many steps each parameter had do not fit."""
    n, t = len(backend.tensors), count(saved["t"]) or 0
    tests = [lambda x: whole(x) is not None and 0 <= x <= t, lambda x: history.fits(x, t)]
    for name, fits in zip(COUNTS, tests, strict=True):
        found = saved.get(name, [])
        if not isinstance(found, (list, tuple)) or (name in saved and len(found) != n) or not all(map(fits, found)):
            raise ValueError(f"load_state_dict: {name} does not fit the parameters and t={t}. {DAMAGED}")


def _check_groups(backend: Stored, given: Sequence[Any], where: str) -> None:
    if len(given) != len(backend.groups):
        raise ValueError(f"{where}: {len(given)} groups, but this optimizer has {len(backend.groups)}. Make the same "
                         "groups.")
    for k, (group, values) in enumerate(zip(backend.groups, given, strict=True)):
        if not isinstance(values, Mapping):
            raise TypeError(f"{where}: group {k} is a {type(values).__name__}, but a dict is needed. {DAMAGED}")
        Group(backend.rule, dict(values), f"{where}: group {k}")  # raises as the constructor would
        group.change({name: v for name, v in values.items() if not callable(group[name])}, f"{where}: group {k}")


def _places(paths: Any, own: list[str]) -> list[int]:
    """Where each of our parameters is among these paths; without paths (old checkpoints), the order decides."""
    if paths is None or (isinstance(paths, (list, tuple)) and not paths):
        return list(range(len(own)))
    if not isinstance(paths, (list, tuple)) or not all(isinstance(p, str) for p in paths):
        raise TypeError(f"load_state_dict: paths is a {type(paths).__name__}, but a list of names is needed. {DAMAGED}")
    known, at = set(own), {p: k for k, p in enumerate(paths)}
    lacking, extra = [p for p in own if p not in at], [p for p in paths if p not in known]
    differ = " and ".join([f"no {few(lacking)}"]*bool(lacking)
                          + [f"{few(extra)}, which this optimizer has not"]*bool(extra))
    if len(paths) != len(own):
        raise ValueError(f"load_state_dict: {len(paths)} parameters, but this optimizer has {len(own)}. {FOREIGN}: it "
                         f"has {differ or 'two of one path'}.")
    if differ:
        raise ValueError(f"load_state_dict: the checkpoint has {differ}. Give the parameters in the same structure.")
    if list(paths) == own:
        return list(range(len(own)))
    if len(known) < len(own) or len(at) < len(own):
        raise ValueError("load_state_dict: two parameters have the same path, and the checkpoint has another order. "
                         "Give the parameters in its order.")
    return [at[p] for p in own]


def _kept(names: Any, convert: bool) -> set[str]:
    """The states that a checkpoint must have; conversions drop remainders and those of pieces, or leave ours."""
    return set(names) - ({REMAINDER, *pieces.STATES} if convert else set())


def _storage(saved: Mapping[str, Any], count: int) -> Mapping[str, Any]:
    """The entry that says how states are stored, complete; an error where it is no such entry."""
    try:
        given = {"seed": 0, "orders": [[]]*count, "formats": {}, **saved.get("storage", {})}
        seed, orders, formats = whole(given["seed"]), given["orders"], given["formats"]
        fits = (seed is not None and 0 <= seed < 2**63 and len(orders) == count
                and all(isinstance(order, (list, tuple)) and None not in map(whole, order) for order in orders)
                and all(len(names) == count and all(n in STORED for n in names) for names in formats.values()))
    except (AttributeError, TypeError):
        fits = False
    if not fits:
        raise ValueError(f"load_state_dict: its storage does not fit the parameters. {DAMAGED}")
    return {name: given[name] for name in ("seed", "orders", "formats")}


def _stored(storage: Mapping[str, Any], name: str, k: int) -> Format | None:
    """How a state of the checkpoint is stored, where that is written down."""
    return STORED[storage["formats"][name][k]] if name in storage["formats"] else None


def _check_states(backend: Stored, saved: Mapping[str, Any], convert: bool) -> None:
    """Raise what is wrong with an array of a checkpoint, whose arrays are in our order."""
    storage = _storage(saved, len(backend.tensors))
    for name, targets in backend.state.items():
        found = saved["state"].get(name, ())
        for k, (target, source, t) in enumerate(zip(targets, found, backend.tensors, strict=False)):
            where = f"load_state_dict: {name} of {t.path}"
            array = arrays.as_real(arrays.view(source, where))
            have, need = _stored(storage, name, k), backend.states[name].formats[k] if name != REMAINDER else None
            if (have and have.block) or (need and need.block and not convert):
                _check_blocks(array, target, t, have, need, storage["orders"][k], bool(convert and need), where)
                continue
            format, shape = arrays.format_of(array, where), t.array.shape if need else target.shape
            if array.shape != shape:
                raise ValueError(f"{where}: shape {array.shape}, but {shape} is needed. "
                                 f"{_foreign(array.shape, shape)}.")
            if not (convert and need) and format is not arrays.format_of(target, where):
                raise ValueError(f"{where}: stored as {array.dtype}, but this optimizer keeps {target.dtype}. Make it "
                                 "with state=..., or load with convert=True.")


def _check_blocks(array: Any, target: Any, t: Tensor, have: Format | None, need: Format | None, order: Any,
                  convert: bool, where: str) -> None:
    """Raise what is wrong with an array that has blocks, or for which blocks (`need`) are kept here."""
    if have is not need and not convert:
        raise ValueError(f"{where}: stored as {have.name if have else array.dtype}, but this optimizer keeps "
                         f"{need.name if need else target.dtype}. Make it with state=..., or load with convert=True.")
    if have and have.block and tuple(order) != t.order and not (convert and sorted(order, key=repr) == sorted(t.order)):
        raise ValueError(f"{where}: its blocks run along axes {tuple(order)}, but those of {t.path} along {t.order}. "
                         "Give a parameter in the memory order that the saved one had, or load with convert=True.")
    wanted = (coded_bytes(t.array.size),)
    if array.dtype != np.uint8 or array.shape != wanted:
        raise ValueError(f"{where}: shape {array.shape} of {array.dtype}, but {wanted} of uint8 is needed. {FOREIGN}.")


def _converted(backend: Stored, saved: Mapping[str, Any]) -> dict[str, Any]:
    """A checked state dict whose states are stored as the optimizer stores them, numbers to the nearest."""
    tensors, storage = backend.tensors, _storage(saved, len(backend.tensors))
    state: dict[str, list] = {}
    for name, slot in backend.states.items():
        if name not in saved["state"]:
            state[name] = [backend.read(a, True) for a in slot.arrays]
            continue
        state[name] = []
        for k, (source, format, t) in enumerate(zip(saved["state"][name], slot.formats, tensors, strict=True)):
            array = arrays.as_real(arrays.on_host(source, name))
            have = _stored(storage, name, k)
            have = have if have and have.block else arrays.format_of(array, name)
            then = t._replace(order=tuple(storage["orders"][k])) if have.block else t
            same = have.name == format.name.rstrip("s") and then.order == t.order  # stochastic rounding stores alike
            state[name].append(array if same else as_codes(numbers(array, have, then), format, t))
    if backend.remainders:
        state[REMAINDER] = saved["state"].get(REMAINDER) or [np.zeros(a.shape, np.uint16) for a in backend.remainders]
    return {**saved, "state": state}
