"""State dicts: what a later run needs to continue bit for bit, as plain arrays, numbers and names. Also torch's and bitsandbytes' layouts.

States lie in a dict as they are stored, blocks of eight bits as their bytes. Where dtypes do not tell all (blocks, stochastic rounding,
remainders) an entry ``storage`` says it: the seed, the format of each state of each parameter, and the memory orders of the parameters,
along which blocks run.
"""
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from . import arrays, history
from .blocks import STORED
from .formats import Format, arithmetic
from .machine import coded, numbers
from .presets import preset
from .storage import AVERAGE, REMAINDER, coded_bytes
from .tensors import Tensor

if TYPE_CHECKING:
    from .optimizer import Optimizer

VERSION = 1
ADAM = {"m": "exp_avg", "v": "exp_avg_sq"}
TORCH = {  # torch's names for the states of a rule
    "sgd": {}, "momentum": {"v": "momentum_buffer"}, "nesterov": {"v": "momentum_buffer"}, "rmsprop": {"v": "square_avg"},
    "adagrad": {"v": "sum"}, "adam": ADAM, "adamw": ADAM, "amsgrad": {**ADAM, "top": "max_exp_avg_sq"}, "nadam": ADAM, "radam": ADAM}
PRODUCT = "mu_product"  # that of NAdam's mu, for each parameter: its log is the history of a group
LION = {"m": "exp_avg"}  # bitsandbytes has one
TORCH_NUMBERS = ("lr", "momentum", "dampening", "alpha", "eps", "weight_decay", "lr_decay", "momentum_decay")
TORCH_FLAGS: dict[str, str | None] = {"amsgrad": "amsgrad", "nesterov": "nesterov", "centered": None}  # {flag: the rule that has it set}


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
    saved = _from_torch(opt, saved) if "param_groups" in saved else saved
    if convert and isinstance(saved.get("groups"), (list, tuple)) and AVERAGE not in opt.rule.defaults:
        groups = saved["groups"]
        saved = {**saved, "groups": [{k: v for k, v in g.items() if k != AVERAGE} if isinstance(g, Mapping) else g for g in groups]}
    check(opt, saved, convert)
    write(opt, _converted(opt, saved) if convert else saved)


def write(opt: "Optimizer", saved: Mapping[str, Any]) -> None:
    """Take over what `check` has found to fit."""
    for name, new in opt._machine.state.items():
        for target, source in zip(new, saved["state"][name], strict=True):
            opt._machine.write(target, arrays.on_host(source, name))
    for group, given in zip(opt.groups, saved["groups"], strict=True):
        for name, value in given.items():
            if not callable(group[name]):
                group[name] = value
    opt._machine.reseed(saved.get("storage", {}).get("seed", opt._machine.seed))
    opt.t = int(saved["t"])
    history.load(opt.groups, saved)


def check(opt: "Optimizer", saved: Mapping[str, Any], convert: bool = False) -> None:
    """What is wrong with a state dict of ours; with `convert`, states may be stored otherwise."""
    missing = {"version", "rule", "t", "groups", "state"} - set(saved)
    if missing:
        raise ValueError(f"load_state_dict: no {', '.join(sorted(missing))} in it. Give what state_dict() returned.")
    for name, kind in (("groups", (list, tuple)), ("state", Mapping)):
        if not isinstance(saved[name], kind):
            raise TypeError(f"load_state_dict: {name} is a {type(saved[name]).__name__}, but a "
                            f"{'dict' if kind is Mapping else 'list'} is needed. Give what state_dict() returned.")
    if saved["version"] != VERSION:
        raise ValueError(f"load_state_dict: version {saved['version']}, but this fastopt reads {VERSION}. Update fastopt.")
    if saved["rule"] != opt.rule.name:
        raise ValueError(f"load_state_dict: the state of {saved['rule']}, but this optimizer is {opt.rule.name}. Make that one first.")
    t = saved["t"]
    if isinstance(t, bool) or not isinstance(t, (int, np.integer)) or not 0 <= t < 2**62:
        raise ValueError(f"load_state_dict: t is {t!r}, but a whole number, 0 or more, is needed. The checkpoint is damaged.")
    if len(saved["groups"]) != len(opt.groups):
        raise ValueError(f"load_state_dict: {len(saved['groups'])} groups, but this optimizer has {len(opt.groups)}. Make the same groups.")
    for k, (group, given) in enumerate(zip(opt.groups, saved["groups"], strict=True)):
        if not isinstance(given, Mapping):
            raise TypeError(f"load_state_dict: group {k} is a {type(given).__name__}, but a dict is needed. The checkpoint is damaged.")
        type(group)(opt.rule, dict(given), f"load_state_dict: group {k}")  # raises as the constructor would
    history.check(opt.groups, saved)
    states = opt._machine.state
    if _kept(saved["state"], convert) != _kept(states, convert):
        raise ValueError(f"load_state_dict: state {sorted(saved['state'])}, but {opt.rule.name} has {list(states)}.")
    own = [t.path for t in opt._tensors]
    paths = saved.get("paths") or own
    if len(paths) != len(own):
        raise ValueError(f"load_state_dict: {len(paths)} parameters, but this optimizer has {len(own)}. It belongs to another model.")
    storage = _storage(saved, len(own))
    for name, new in states.items():
        if name not in saved["state"]:
            continue
        if len(saved["state"][name]) != len(new):
            raise ValueError(f"load_state_dict: {len(saved['state'][name])} arrays of {name}, but there are {len(new)} parameters.")
        for k, (target, source, t_, path) in enumerate(zip(new, saved["state"][name], opt._tensors, paths, strict=True)):
            where = f"load_state_dict: {name} of {t_.path}"
            source = arrays.view(np.asarray(source) if isinstance(source, np.generic) else source, where)
            if path != t_.path:
                raise ValueError(f"{where}: the checkpoint has {path} in its place. Give the parameters in the same structure.")
            have, need = _stored(storage, name, k), opt._machine.states[name].formats[k] if name != REMAINDER else None
            _check_state(source, target, t_, have, need, storage["orders"][k], convert and need is not None, where)


def _kept(names: Any, convert: bool) -> set[str]:
    """The states that a checkpoint must have; a conversion drops remainders and averages, or leaves ours as they are."""
    return set(names) - ({REMAINDER, AVERAGE} if convert else set())


def _storage(saved: Mapping[str, Any], count: int) -> Mapping[str, Any]:
    """The entry that says how states are stored, complete; an error where it is no such entry."""
    storage = saved.get("storage", {})
    try:
        seed, orders, formats = storage.get("seed", 0), storage.get("orders", [[]]*count), storage.get("formats", {})
        whole = (isinstance(seed, (int, np.integer)) and 0 <= seed < 2**63 and len(orders) == count
                 and all(isinstance(order, (list, tuple)) for order in orders)
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


def _from_torch(opt: "Optimizer", saved: Mapping[str, Any]) -> dict[str, Any]:
    """torch's layout, {"state": {index: {...}}, "param_groups": [...]}, as ours. Indices count the parameters in order."""
    from . import bitsandbytes  # here: importing the package is timed
    rule, where = opt.rule.name, "load_state_dict: torch's dict"
    bits = any(bitsandbytes.is_coded(e) for e in saved["state"].values())
    names = LION if bits and rule == "lion" else TORCH.get(rule)
    if names is None or (bits and rule not in bitsandbytes.NAMES):
        raise ValueError(f"{where}: {'bitsandbytes' if bits else 'torch'} has no {rule}. Give what state_dict() returned.")
    counts = [len(group["params"]) for group in saved["param_groups"]]
    own = [sum(t.group == k for t in opt._tensors) for k in range(len(opt.groups))]
    if counts != own:
        raise ValueError(f"{where}: groups of {counts} parameters, but this optimizer has {own}. Make the same groups.")
    entries = [saved["state"].get(index, {}) for group in saved["param_groups"] for index in group["params"]]
    if bits:
        entries = [bitsandbytes.decoded(e, bitsandbytes.NAMES[rule], f"{where}: parameter {k}") if e else e for k, e in enumerate(entries)]
    steps = {int(e["step"]) if "step" in e else 0 for e in entries} if any("step" in e for e in entries) else set()
    if len(steps) > 1:
        raise ValueError(f"{where}: parameters at different steps {sorted(steps)}, but one step count is needed.")
    state: dict[str, list] = {}
    for name in opt.rule.state:
        if name == AVERAGE:  # which no other system keeps: it goes on from where it is
            state[name] = opt._machine.numbers(name)
            continue
        lacking = [k for k, e in enumerate(entries) if e and names[name] not in e]
        if lacking:
            raise ValueError(f"{where}: parameter {lacking[0]} has {', '.join(entries[lacking[0]])}, but {rule} needs {names[name]}. "
                             "Make the optimizer whose state it is.")
        given = [e.get(names[name]) for e in entries]
        state[name] = [np.zeros(t.array.shape, arithmetic(t.format).dtype) if v is None else v
                       for v, t in zip(given, opt._tensors, strict=True)]
    groups = [_numbers_from_torch(opt.rule, {**group, **bitsandbytes.numbers(rule, group)} if bits else group, f"{where}: group {k}")
              for k, group in enumerate(saved["param_groups"])]
    t = steps.pop() if steps else opt.t or int(any(entries))
    firsts = [next((e for e in entries[sum(own[:k]):sum(own[:k + 1])] if PRODUCT in e), None) for k in range(len(own))]
    given = [first and history.of_product(opt.rule, {**opt.groups[k], **groups[k]}, t, first[PRODUCT]) for k, first in enumerate(firsts)]
    return {"version": VERSION, "rule": rule, "t": t, "groups": groups, "state": state, **({"history": given} if any(given) else {})}


def _numbers_from_torch(rule: Any, group: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The hyperparameters of one of torch's groups, with torch's conventions, which its dict does not spell out."""
    for flag, name in TORCH_FLAGS.items():
        if flag in group and bool(group[flag]) != (rule.name == name):
            raise ValueError(f"{where}: {flag}={group[flag]}, but this optimizer is {rule.name}. Make the one whose state it is.")
    if group.get("momentum") and "momentum" not in rule.defaults:
        raise ValueError(f"{where}: momentum={group['momentum']}, but {rule.name} has none. Make the one whose state it is.")
    numbers: dict[str, Any] = {name: float(group[name]) for name in TORCH_NUMBERS if name in group and name in rule.defaults}
    if "betas" in group and "b1" in rule.defaults:
        numbers["b1"], numbers["b2"] = map(float, group["betas"])
    if "decoupled_weight_decay" in group:
        numbers["decay"] = "decoupled" if group["decoupled_weight_decay"] else "coupled"
    return {**(preset("torch", rule.name) if rule.name in TORCH else {}), **numbers, "maximize": bool(group.get("maximize", False))}
