"""State dicts: what a later run needs to continue bit for bit, as plain arrays, numbers and names. Also torch's layout."""
from typing import TYPE_CHECKING, Any

import numpy as np

from . import arrays

if TYPE_CHECKING:
    from .optimizer import Optimizer

VERSION = 1
TORCH = {"m": ("exp_avg",), "v": ("exp_avg_sq", "momentum_buffer", "square_avg", "sum"), "top": ("max_exp_avg_sq",)}
TORCH_HYPER = {"lr": "lr", "momentum": "momentum", "dampening": "dampening", "alpha": "alpha", "eps": "eps", "weight_decay": "weight_decay",
               "maximize": "maximize", "lr_decay": "lr_decay", "momentum_decay": "momentum_decay"}


def save(opt: "Optimizer", copy: bool) -> dict[str, Any]:
    numbers = [{k: v for k, v in group.items() if not callable(v)} for group in opt.groups]
    state = {name: [a.copy(order="K") if copy else a for a in new] for name, new in opt._state.items()}
    paths = [t.path for t in opt._tensors]
    return {"version": VERSION, "rule": opt.rule.name, "t": opt.t, "groups": numbers, "paths": paths, "state": state}


def load(opt: "Optimizer", saved: dict[str, Any]) -> None:
    saved = _from_torch(opt, saved) if "param_groups" in saved else saved
    _check(opt, saved)
    for name, new in opt._state.items():
        for target, source in zip(new, saved["state"][name], strict=True):
            target[...] = np.asarray(source).view(target.dtype)
    for group, numbers in zip(opt.groups, saved["groups"], strict=True):
        for name, value in numbers.items():
            if not callable(group[name]):
                group[name] = value
    opt.t = int(saved["t"])


def _check(opt: "Optimizer", saved: dict[str, Any]) -> None:
    missing = {"version", "rule", "t", "groups", "state"} - set(saved)
    if missing:
        raise ValueError(f"load_state_dict: no {', '.join(sorted(missing))} in it. Give what state_dict() returned.")
    if saved["version"] != VERSION:
        raise ValueError(f"load_state_dict: version {saved['version']}, but this fastopt reads {VERSION}. Update fastopt.")
    if saved["rule"] != opt.rule.name:
        raise ValueError(f"load_state_dict: the state of {saved['rule']}, but this optimizer is {opt.rule.name}. Make that one first.")
    t = saved["t"]
    if isinstance(t, bool) or not isinstance(t, (int, np.integer)) or t < 0:
        raise ValueError(f"load_state_dict: t is {t!r}, but a whole number, 0 or more, is needed. The checkpoint is damaged.")
    if len(saved["groups"]) != len(opt.groups):
        raise ValueError(f"load_state_dict: {len(saved['groups'])} groups, but this optimizer has {len(opt.groups)}. Make the same groups.")
    for k, (group, numbers) in enumerate(zip(opt.groups, saved["groups"], strict=True)):
        type(group)(opt.rule, dict(numbers), f"load_state_dict: group {k}")  # raises as the constructor would
    if set(saved["state"]) != set(opt.rule.state):
        raise ValueError(f"load_state_dict: state {sorted(saved['state'])}, but {opt.rule.name} has {list(opt.rule.state)}.")
    paths = saved.get("paths") or [t.path for t in opt._tensors]
    for name, new in opt._state.items():
        if len(saved["state"][name]) != len(new):
            raise ValueError(f"load_state_dict: {len(saved['state'][name])} arrays of {name}, but there are {len(new)} parameters.")
        for target, source, t_, path in zip(new, saved["state"][name], opt._tensors, paths, strict=True):
            source = np.asarray(source)
            where = f"load_state_dict: {name} of {t_.path}"
            if path != t_.path:
                raise ValueError(f"{where}: the checkpoint has {path} in its place. Give the parameters in the same structure.")
            if source.shape != target.shape:
                raise ValueError(f"{where}: shape {source.shape}, but {target.shape} is needed. It belongs to another model.")
            if arrays.format_of(source, where) is not arrays.format_of(target, where):
                raise ValueError(f"{where}: stored as {source.dtype}, but this optimizer keeps {target.dtype}. Make it with state=...")


def _from_torch(opt: "Optimizer", saved: dict[str, Any]) -> dict[str, Any]:
    """torch's layout, {"state": {index: {...}}, "param_groups": [...]}, as ours. Indices count the parameters in order."""
    order = [index for group in saved["param_groups"] for index in group["params"]]
    entries = [saved["state"].get(index, {}) for index in order]
    if len(entries) != len(opt._tensors):
        raise ValueError(f"load_state_dict: {len(entries)} parameters in torch's dict, but this optimizer has {len(opt._tensors)}.")
    state: dict[str, list] = {}
    for name, new in opt._state.items():
        keys = TORCH[name]
        values = [next((e[k] for k in keys if e.get(k) is not None), None) for e in entries]
        if opt.rule.name == "lion":
            raise ValueError("load_state_dict: torch has no Lion. Give what state_dict() returned.")
        where = f"load_state_dict: {name}"
        state[name] = [np.zeros_like(target) if v is None else arrays.view(v, where) for v, target in zip(values, new, strict=True)]
    steps = {int(e["step"]) for e in entries if "step" in e}
    if len(steps) > 1:
        raise ValueError(f"load_state_dict: parameters at different steps {sorted(steps)}, but one step count is needed.")
    groups = []
    for group in saved["param_groups"]:
        numbers = {ours: group[theirs] for ours, theirs in TORCH_HYPER.items() if theirs in group and ours in opt.rule.defaults}
        if "betas" in group:
            numbers["b1"], numbers["b2"] = group["betas"]
        groups.append({k: (v if isinstance(v, bool) else float(v)) for k, v in numbers.items()})
    t = steps.pop() if steps else (opt.t if opt.t else int(any(e for e in entries)))
    return {"version": VERSION, "rule": opt.rule.name, "t": t, "groups": groups, "state": state}
