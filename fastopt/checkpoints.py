"""State dicts: what a later run needs to continue bit for bit, as plain arrays, numbers and names. Also torch's layout."""
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from . import arrays
from .presets import preset

if TYPE_CHECKING:
    from .optimizer import Optimizer

VERSION = 1
ADAM = {"m": "exp_avg", "v": "exp_avg_sq"}
TORCH = {  # torch's names for the states of a rule
    "sgd": {}, "momentum": {"v": "momentum_buffer"}, "nesterov": {"v": "momentum_buffer"}, "rmsprop": {"v": "square_avg"},
    "adagrad": {"v": "sum"}, "adam": ADAM, "adamw": ADAM, "amsgrad": {**ADAM, "top": "max_exp_avg_sq"}, "nadam": ADAM, "radam": ADAM}
TORCH_NUMBERS = ("lr", "momentum", "dampening", "alpha", "eps", "weight_decay", "lr_decay", "momentum_decay")
TORCH_FLAGS: dict[str, str | None] = {"amsgrad": "amsgrad", "nesterov": "nesterov", "centered": None}  # {flag: the rule that has it set}


def save(opt: "Optimizer", copy: bool) -> dict[str, Any]:
    numbers = [{k: v for k, v in group.items() if not callable(v)} for group in opt.groups]
    machine = opt._machine
    state = {name: [machine.read(a, copy) for a in new] for name, new in machine.state.items()}
    paths = [t.path for t in opt._tensors]
    return {"version": VERSION, "rule": opt.rule.name, "t": opt.t, "groups": numbers, "paths": paths, "state": state}


def load(opt: "Optimizer", saved: dict[str, Any]) -> None:
    if not isinstance(saved, Mapping):
        raise TypeError(f"load_state_dict: a {type(saved).__name__}, but a dict is needed. Give what state_dict() returned.")
    saved = _from_torch(opt, saved) if "param_groups" in saved else saved
    check(opt, saved)
    write(opt, saved)


def write(opt: "Optimizer", saved: Mapping[str, Any]) -> None:
    """Take over what `check` has found to fit."""
    for name, new in opt._machine.state.items():
        for target, source in zip(new, saved["state"][name], strict=True):
            opt._machine.write(target, arrays.on_host(source, name))
    for group, numbers in zip(opt.groups, saved["groups"], strict=True):
        for name, value in numbers.items():
            if not callable(group[name]):
                group[name] = value
    opt.t = int(saved["t"])


def check(opt: "Optimizer", saved: Mapping[str, Any]) -> None:
    """What is wrong with a state dict of ours."""
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
    for k, (group, numbers) in enumerate(zip(opt.groups, saved["groups"], strict=True)):
        if not isinstance(numbers, Mapping):
            raise TypeError(f"load_state_dict: group {k} is a {type(numbers).__name__}, but a dict is needed. The checkpoint is damaged.")
        type(group)(opt.rule, dict(numbers), f"load_state_dict: group {k}")  # raises as the constructor would
    if set(saved["state"]) != set(opt.rule.state):
        raise ValueError(f"load_state_dict: state {sorted(saved['state'])}, but {opt.rule.name} has {list(opt.rule.state)}.")
    own = [t.path for t in opt._tensors]
    paths = saved.get("paths") or own
    if len(paths) != len(own):
        raise ValueError(f"load_state_dict: {len(paths)} parameters, but this optimizer has {len(own)}. It belongs to another model.")
    for name, new in opt._machine.state.items():
        if len(saved["state"][name]) != len(new):
            raise ValueError(f"load_state_dict: {len(saved['state'][name])} arrays of {name}, but there are {len(new)} parameters.")
        for target, source, t_, path in zip(new, saved["state"][name], opt._tensors, paths, strict=True):
            where = f"load_state_dict: {name} of {t_.path}"
            source = arrays.view(np.asarray(source) if isinstance(source, np.generic) else source, where)
            if path != t_.path:
                raise ValueError(f"{where}: the checkpoint has {path} in its place. Give the parameters in the same structure.")
            if source.shape != target.shape:
                raise ValueError(f"{where}: shape {source.shape}, but {target.shape} is needed. It belongs to another model.")
            if arrays.format_of(source, where) is not arrays.format_of(target, where):
                raise ValueError(f"{where}: stored as {source.dtype}, but this optimizer keeps {target.dtype}. Make it with state=...")


def _from_torch(opt: "Optimizer", saved: Mapping[str, Any]) -> dict[str, Any]:
    """torch's layout, {"state": {index: {...}}, "param_groups": [...]}, as ours. Indices count the parameters in order."""
    rule, where = opt.rule.name, "load_state_dict: torch's dict"
    names = TORCH.get(rule)
    if names is None:
        raise ValueError(f"{where}: torch has no {rule}. Give what state_dict() returned.")
    counts = [len(group["params"]) for group in saved["param_groups"]]
    own = [sum(t.group == k for t in opt._tensors) for k in range(len(opt.groups))]
    if counts != own:
        raise ValueError(f"{where}: groups of {counts} parameters, but this optimizer has {own}. Make the same groups.")
    entries = [saved["state"].get(index, {}) for group in saved["param_groups"] for index in group["params"]]
    steps = {int(e["step"]) if "step" in e else 0 for e in entries} if any("step" in e for e in entries) else set()
    if len(steps) > 1:
        raise ValueError(f"{where}: parameters at different steps {sorted(steps)}, but one step count is needed.")
    state: dict[str, list] = {}
    for name, new in opt._machine.state.items():
        lacking = [k for k, e in enumerate(entries) if e and names[name] not in e]
        if lacking:
            raise ValueError(f"{where}: parameter {lacking[0]} has {', '.join(entries[lacking[0]])}, but {rule} needs {names[name]}. "
                             "Make the optimizer whose state it is.")
        given = [e.get(names[name]) for e in entries]
        state[name] = [np.zeros(target.shape, target.dtype) if v is None else v for v, target in zip(given, new, strict=True)]
    groups = [_numbers_from_torch(opt.rule, group, f"{where}: group {k}") for k, group in enumerate(saved["param_groups"])]
    return {"version": VERSION, "rule": rule, "t": steps.pop() if steps else opt.t or int(any(entries)), "groups": groups, "state": state}


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
    return {**preset("torch", rule.name), **numbers, "maximize": bool(group.get("maximize", False))}
