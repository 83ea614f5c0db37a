"""State dicts: what a later run needs to continue bit for bit, as plain arrays, numbers and names. Also torch's and bitsandbytes' layouts.

States lie in a dict as they are stored, blocks of eight bits as their bytes. Where dtypes do not tell all (blocks, stochastic rounding,
remainders) an entry ``storage`` says it: the seed, the format of each state of each parameter, and the memory orders of the parameters,
along which blocks run.
"""
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from .._formats.catalogue import STORED
from .._formats.catalogue import Format
from .._rule import history
from .._rule.groups import Group
from .._signals import at_once
from .._tensors import arrays
from .._tensors.backend import coded, numbers
from .._tensors.tensors import Tensor, spans
from .._formats.choice import AVERAGE, REMAINDER
from ..storage import coded_bytes
from . import torch_layout as torch_dicts
from .torch_layout import count, few

if TYPE_CHECKING:
    from ..optimizer import Optimizer

VERSION = 1


def save(opt: "Optimizer", copy: bool) -> dict[str, Any]:
    given = [{k: v for k, v in group.items() if not callable(v)} for group in opt.groups]
    machine = opt._machine
    state = {name: [machine.read(a, copy) for a in new] for name, new in machine.state.items()}
    paths = [t.path for t in opt._tensors]
    found = {"version": VERSION, "rule": opt.rule.name, "t": opt.t, "groups": given, "paths": paths, "state": state}
    found |= history.saved(opt.groups, opt.t)
    formats = [f for slot in machine.states.values() for f in slot.formats] + [t.format for t in opt._tensors]
    if any(f.block or f.random or f.split for f in formats):
        found["storage"] = {"seed": machine.seed, "orders": [list(t.order) for t in opt._tensors],
                            "formats": {name: [f.name for f in slot.formats] for name, slot in machine.states.items()}}
    return found


def load(opt: "Optimizer", saved: dict[str, Any], convert: bool = False) -> None:
    if not isinstance(saved, Mapping):
        raise TypeError(f"load_state_dict: a {type(saved).__name__}, but a dict is needed. Give what state_dict() returned.")
    saved = torch_dicts.read(opt, saved) if "param_groups" in saved else saved
    if convert and isinstance(saved.get("groups"), (list, tuple)) and AVERAGE not in opt.rule.defaults:
        groups = saved["groups"]
        saved = {**saved, "groups": [{k: v for k, v in g.items() if k != AVERAGE} if isinstance(g, Mapping) else g for g in groups]}
    saved = arranged(saved, check(opt, saved, convert))
    write(opt, _converted(opt, saved) if convert else saved)


def write(opt: "Optimizer", saved: Mapping[str, Any], parameters: list[np.ndarray] | None = None) -> None:
    """Take over what `check` has found to fit, and has been arranged; and parameters. All of it or nothing, whatever signals come."""
    machine = opt._machine
    found = {name: [arrays.on_host(source, name) for source in saved["state"][name]] for name in machine.state}
    pairs = [pair for name, targets in machine.state.items() for pair in zip(targets, found[name], strict=True)]
    if parameters is not None:
        pairs += zip([t.array for t in opt._tensors], parameters, strict=True)
    pairs += machine.followers(machine.outputs.values(), parameters, found.get(REMAINDER))
    taken = spans(machine.written)
    pairs = [(target, source.copy() if _of_another(source, target, taken) else source) for target, source in pairs]
    changes = [{name: value for name, value in given.items() if not callable(group[name])}
               for group, given in zip(opt.groups, saved["groups"], strict=True)]
    then = [Group(opt.rule, {**group, **change}, group.where) for group, change in zip(opt.groups, changes, strict=True)]
    at_once(history.resuming(then, saved))  # of these groups, which make the table of coefficients on a device; ours come with the rest
    seed = int(saved.get("storage", {}).get("seed", machine.seed))
    machine.put(pairs, [*machine.resuming(int(count(saved["t"]) or 0), seed, then),
                        *(group.change(change, group.where) for group, change in zip(opt.groups, changes, strict=True)),
                        *history.resuming(opt.groups, saved)])


def _of_another(source: np.ndarray, target: Any, taken: list[tuple[int, int]]) -> bool:
    """Whether an array lies where another one is written."""
    return source.size > 0 and arrays.address(source) != arrays.address(target) and arrays.touches(taken, *arrays.bounds(source))


def arranged(saved: Mapping[str, Any], places: list[int]) -> dict[str, Any]:
    """A state dict in the order of the optimizer's parameters, each of which it holds at its place of `places`."""
    def turned(values: Any) -> list:
        return [values[k] for k in places]
    new = {**saved, "state": {name: turned(new) for name, new in saved["state"].items()}}
    if "storage" in saved:
        storage = _storage(saved, len(places))
        new["storage"] = {**storage, "orders": turned(storage["orders"]),
                          "formats": {name: turned(names) for name, names in storage["formats"].items()}}
    return new


def check(opt: "Optimizer", saved: Mapping[str, Any], convert: bool = False) -> list[int]:
    """Where a state dict of ours holds each parameter, or what is wrong with it; with `convert`, states may be stored otherwise."""
    missing = {"version", "rule", "t", "groups", "state"} - set(saved)
    if missing:
        raise ValueError(f"load_state_dict: no {', '.join(sorted(missing))} in it. Give what state_dict() returned.")
    for name, kind in (("groups", (list, tuple)), ("state", Mapping)):
        if not isinstance(saved[name], kind):
            raise TypeError(f"load_state_dict: {name} is a {type(saved[name]).__name__}, but a "
                            f"{'dict' if kind is Mapping else 'list'} is needed. Give what state_dict() returned.")
    if not isinstance(saved["version"], (int, np.integer)) or saved["version"] != VERSION:
        raise ValueError(f"load_state_dict: version {saved['version']}, but this fastopt reads {VERSION}. Update fastopt.")
    if not isinstance(saved["rule"], str) or saved["rule"] != opt.rule.name:
        raise ValueError(f"load_state_dict: the state of {saved['rule']}, but this optimizer is {opt.rule.name}. Make that one first.")
    t = saved["t"]
    if count(t) is None:
        raise ValueError(f"load_state_dict: t is {t!r}, but a whole number, 0 or more, is needed. The checkpoint is damaged.")
    if len(saved["groups"]) != len(opt.groups):
        raise ValueError(f"load_state_dict: {len(saved['groups'])} groups, but this optimizer has {len(opt.groups)}. Make the same groups.")
    for k, (group, given) in enumerate(zip(opt.groups, saved["groups"], strict=True)):
        if not isinstance(given, Mapping):
            raise TypeError(f"load_state_dict: group {k} is a {type(given).__name__}, but a dict is needed. The checkpoint is damaged.")
        Group(opt.rule, dict(given), f"load_state_dict: group {k}")  # raises as the constructor would
        group.change({name: v for name, v in given.items() if not callable(group[name])}, f"load_state_dict: group {k}")
    history.check(opt.groups, saved)
    states = opt._machine.state
    if _kept(saved["state"], convert) != _kept(states, convert):
        raise ValueError(f"load_state_dict: state {sorted(map(str, saved['state']))}, but {opt.rule.name} has {list(states)}. "
                         "Make it with the rounding and average that the saved one had, or load with convert=True.")
    places = _places(saved.get("paths"), [t.path for t in opt._tensors])
    for name, new in saved["state"].items():
        if not isinstance(new, (list, tuple)):
            raise TypeError(f"load_state_dict: {name} is a {type(new).__name__}, but a list is needed. The checkpoint is damaged.")
        if len(new) != len(opt._tensors):
            raise ValueError(f"load_state_dict: {len(new)} arrays of {name}, but there are {len(opt._tensors)} parameters. "
                             "It belongs to another model, or is damaged.")
    saved = arranged(saved, places)
    storage = _storage(saved, len(places))
    for name, new in states.items():
        if name not in saved["state"]:
            continue
        for k, (target, source, t_) in enumerate(zip(new, saved["state"][name], opt._tensors, strict=True)):
            where = f"load_state_dict: {name} of {t_.path}"
            source = arrays.view(np.asarray(source) if isinstance(source, np.generic) else source, where)
            have, need = _stored(storage, name, k), opt._machine.states[name].formats[k] if name != REMAINDER else None
            _check_state(source, target, t_, have, need, storage["orders"][k], convert and need is not None, where)
    return places


def _places(paths: Any, own: list[str]) -> list[int]:
    """Where each of our parameters is among these paths. Without paths, which old checkpoints do not have, the order decides."""
    if paths is None or (isinstance(paths, (list, tuple)) and not paths):
        return list(range(len(own)))
    if not isinstance(paths, (list, tuple)) or not all(isinstance(p, str) for p in paths):
        raise TypeError(f"load_state_dict: paths is a {type(paths).__name__}, but a list of names is needed. The checkpoint is damaged.")
    lacking, extra = [p for p in own if p not in set(paths)], [p for p in paths if p not in set(own)]
    differ = " and ".join([f"no {few(lacking)}"]*bool(lacking) + [f"{few(extra)}, which this optimizer has not"]*bool(extra))
    if len(paths) != len(own):
        raise ValueError(f"load_state_dict: {len(paths)} parameters, but this optimizer has {len(own)}. It belongs to another model: it "
                         f"has {differ or 'two of one path'}.")
    if differ:
        raise ValueError(f"load_state_dict: the checkpoint has {differ}. Give the parameters in the same structure.")
    if list(paths) == own:
        return list(range(len(own)))
    if len(set(own)) < len(own) or len(set(paths)) < len(own):
        raise ValueError("load_state_dict: two parameters have the same path, and the checkpoint has another order. Give the parameters in "
                         "its order.")
    at = {p: k for k, p in enumerate(paths)}
    return [at[p] for p in own]


def _kept(names: Any, convert: bool) -> set[str]:
    """The states that a checkpoint must have; a conversion drops remainders and averages, or leaves ours as they are."""
    return set(names) - ({REMAINDER, AVERAGE} if convert else set())


def _storage(saved: Mapping[str, Any], count: int) -> Mapping[str, Any]:
    """The entry that says how states are stored, complete; an error where it is no such entry."""
    storage = saved.get("storage", {})
    try:
        seed, orders, formats = storage.get("seed", 0), storage.get("orders", [[]]*count), storage.get("formats", {})
        whole = (isinstance(seed, (int, np.integer)) and 0 <= seed < 2**63 and len(orders) == count
                 and all(isinstance(order, (list, tuple)) and all(isinstance(d, (int, np.integer)) for d in order) for order in orders)
                 and all(len(names) == count and all(n in STORED for n in names) for names in formats.values()))
    except (AttributeError, TypeError):
        whole = False
    if not whole:
        raise ValueError("load_state_dict: its storage does not fit the parameters. The checkpoint is damaged.")
    return {"seed": seed, "orders": orders, "formats": formats}


def _stored(storage: Mapping[str, Any], name: str, k: int) -> Format | None:
    """How a state of the checkpoint is stored, where that is written down."""
    return STORED[storage["formats"][name][k]] if name in storage["formats"] else None


def _check_state(source: Any, target: Any, t: Tensor, have: Format | None, need: Format | None, order: Any, convert: bool,
                 where: str) -> None:
    """What is wrong with one array of a checkpoint; its format is `have`, or that of its dtype, and `need` is the optimizer's."""
    blocks = have is not None and have.block is not None
    if blocks or (need is not None and need.block is not None and not convert):
        if have is not need and not convert:
            raise ValueError(f"{where}: stored as {have.name if have else source.dtype}, but this optimizer keeps "
                             f"{need.name if need else target.dtype}. Make it with state=..., or load with convert=True.")
        if blocks and tuple(order) != t.order and not (convert and sorted(order, key=repr) == sorted(t.order)):
            raise ValueError(f"{where}: its blocks run along axes {tuple(order)}, but those of {t.path} along {t.order}. Give a parameter "
                             "in the memory order that the saved one had, or load with convert=True.")
        wanted = (coded_bytes(t.array.size),)
        if source.dtype != np.uint8 or source.shape != wanted:
            raise ValueError(f"{where}: shape {source.shape} of {source.dtype}, but {wanted} of uint8 is needed. It belongs to another "
                             "model.")
        return
    shape = t.array.shape if need is not None else target.shape
    if source.shape != shape:
        raise ValueError(f"{where}: shape {source.shape}, but {shape} is needed. It belongs to another model.")
    plain = arrays.format_of(source, where)
    if not convert and plain is not arrays.format_of(target, where):
        raise ValueError(f"{where}: stored as {source.dtype}, but this optimizer keeps {target.dtype}. Make it with state=..., or load "
                         "with convert=True.")


def _converted(opt: "Optimizer", saved: Mapping[str, Any]) -> dict[str, Any]:
    """A checked state dict whose states are stored as the optimizer stores them, numbers to the nearest."""
    machine, storage = opt._machine, _storage(saved, len(opt._tensors))
    state: dict[str, list] = {}
    for name, slot in machine.states.items():
        if name not in saved["state"]:
            state[name] = [machine.read(a, True) for a in slot.arrays]
            continue
        state[name] = []
        for k, (source, format, t) in enumerate(zip(saved["state"][name], slot.formats, opt._tensors, strict=True)):
            array = arrays.on_host(source, name)
            have = _stored(storage, name, k)
            have = have if have and have.block else arrays.format_of(array, name)
            then = t._replace(order=tuple(storage["orders"][k])) if have.block else t
            same = have.name == format.name.rstrip("s") and then.order == t.order  # stochastic rounding stores alike
            state[name].append(array if same else coded(numbers(array, have, then), format, t))
    if machine.remainders:
        state[REMAINDER] = saved["state"].get(REMAINDER) or [np.zeros(a.shape, np.uint16) for a in machine.remainders]
    return {**saved, "state": state}
