"""The classes: torch's own, whose step is fastopt's, and those of other rules."""
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from itertools import chain, dropwhile
from typing import Any

import torch
from torch.autograd import profiler
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks

from .. import rules
from .._cpu.headers import Listed
from .._cpu.torch_steps import GRADIENT
from .._formats.catalogue import NAMES
from .._formats.choice import SCHEDULE_FREE, check_in_use, check_rounding, check_seed, state_formats
from .._rule.hyperparameters import MODIFIERS as OF_GROUPS
from .._rule.pipeline import is_asked
from .._rule.rule import Rule
from ._engine import WITH_STATE, Engine, Member, Options, around, checked, sparse_adam
from ._tensors import local, spread

MODIFIERS = (*OF_GROUPS, *WITH_STATE)
TRAINED = "train_point"  # where a parameter was before `eval`
MORE = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default)
        for name, default in {"state": None, "rounding": "nearest", "seed": 0, **dict.fromkeys(MODIFIERS)}.items()]


class Kept:
    """A tensor that torch's `load_state_dict` does not convert to the type of its parameter."""

    def __init__(self, value: Any):
        self.value = value


def kept(entry: Any, own: set[int]) -> Any:
    """An entry of a state dict, its tensors copied, but for our own, and `Kept`."""
    if not isinstance(entry, Mapping):
        return entry
    return {name: Kept(x if id(x) in own else x.detach().clone()) if isinstance(x, torch.Tensor) else x
            for name, x in entry.items()}


def _check_rate(lr: Any, where: str) -> None:
    """TypeError where a learning rate is a function: torch's groups hold numbers."""
    if callable(lr):
        raise TypeError(f"{where}: lr is {lr!r}, but torch's schedulers change a number. Give lr=1.0, and then "
                        "torch.optim.lr_scheduler.LambdaLR(opt, lambda t: rate(t + 1)), as torch counts from 0.")


class Fused(torch.optim.Optimizer):
    """What the optimizers of this module share; `fastopt.torch` documents the arguments that they have beside torch's.

    Modifiers that are given stand in `param_groups`, and a state dict that lacks one leaves it as it is. `opt.state`
    holds the states of mars, grokfast and schedule_free, under these names.
    """

    _step_supports_amp_scaling = True  # `GradScaler` gives `found_inf` and `grad_scale`, and does not unscale itself

    def __init__(self, params: Any, *args: Any, state: Any = None, rounding: str = "nearest", seed: int = 0,
                 **hyper: Any):
        where = type(self).__name__
        modifiers = {name: x for name in MODIFIERS if (x := hyper.pop(name, None)) is not None}
        usual = {name: one.default for name, one in inspect.signature(type(self)).parameters.items()}
        check_rounding(rounding, where)
        self._options = Options(where, state, rounding, check_seed(seed, where), modifiers, usual)
        self._evaluates = self._looked = False
        self._forget()
        _check_rate(hyper.get("lr", args[0] if args else None), where)
        super().__init__(params, *args, **hyper)

    def __init_subclass__(cls, **more: Any):
        super().__init_subclass__(**more)
        if not {"__init__", "__signature__"} & vars(cls).keys():
            theirs = inspect.signature(super().__init__).parameters
            cls.__signature__ = inspect.Signature([*list(theirs.values())[1:], *MORE])  # type: ignore[attr-defined]

    def _forget(self) -> None:
        """Have no engines; the next step makes them."""
        self._engines: list[Engine] = []
        self._asked: Any = None                    # what they were made for: rules and sizes of the groups,
        self._idle: list[int] = []                 # which parameters have had no gradient yet,
        self._known: Any = None                    # and all of them, with the entries of the state

    def _rule(self, group: Mapping[str, Any]) -> Rule:
        """The rule that a group asks for."""
        raise NotImplementedError

    def _check_state(self, rule: Rule, where: str) -> None:
        """An error where `state` is none for this rule. The first step asks a function, and for states of other rules:
        a state dict that is loaded may bring those."""
        if not callable(asked := self._options.state):
            if isinstance(asked, Mapping):
                later = {*WITH_STATE, *chain.from_iterable(one.state for one in rules.ALL.values())} - {*rule.state}
                asked = {name: format for name, format in asked.items() if name not in later}
            state_formats(asked, rule, where, where, None, NAMES["f32"])

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        self.defaults.update(self._options.modifiers)
        super().add_param_group(param_group)
        k, group, where = len(self.param_groups) - 1, self.param_groups[-1], type(self).__name__
        try:
            if group.get("differentiable"):
                raise ValueError(f"{where}: differentiable=True, but the step is compiled, and autograd sees nothing "
                                 "of it. Leave it out.")
            for j, p in enumerate(group["params"]):
                if not (p.is_floating_point() or p.is_complex()) or p.layout is not torch.strided:
                    found = p.dtype if p.layout is torch.strided else p.layout
                    raise TypeError(f"{where}: params[{k}][{j}] is {found}, but a dense tensor of real or complex "
                                    "numbers is needed. Leave it out, or give it as p.to_dense().")
            _check_rate(group["lr"], where)
            rule, where = self._rule(group), f"{where} group {k}"
            checked(rule, group, self._options.defaults, where)
            self._check_state(around(rule, group), where)
        except Exception:
            self.param_groups.pop()
            raise

    @torch.compiler.disable
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update the parameters that have a gradient.

        Parameters
        ----------
        closure : callable, optional
            Computes the gradients anew and returns the loss, which is returned then.
        """
        if (profiler._is_profiler_enabled or self._optimizer_step_pre_hooks or self._optimizer_step_post_hooks
                or _global_optimizer_pre_hooks or _global_optimizer_post_hooks):
            return self._hooked(*[closure]*(closure is not None))
        return self._step(closure)

    step.hooked = True  # type: ignore[attr-defined]  # torch's `profile_hook_step` takes time even where it has nothing to do

    def _step(self, closure: Callable[[], Any] | None = None) -> Any:
        if self._evaluates:
            raise RuntimeError(f"{type(self).__name__}.step: the parameters are at the point to evaluate, where eval() "
                               "put them, but a step begins where training was. Call opt.train() before you compute "
                               "the gradients.")
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        found, scale = getattr(self, "found_inf", None), getattr(self, "grad_scale", None)
        if found is not None and found.item():
            return loss
        parameters = self._look(GRADIENT)
        for engine in self._engines:
            engine.adjust(self.param_groups)
        left: Sequence[Engine] = self._engines
        if scale is None and all(engine.usual for engine in left):  # then nothing can be wrong with what others gather
            left = [*dropwhile(Engine.again, left)]
        if left:
            self._take(left, parameters, 1.0 if scale is None else 1.0/scale.item())
        return loss

    _hooked = torch.optim.Optimizer.profile_hook_step(_step)

    @torch.no_grad()
    def _take(self, engines: Sequence[Engine], parameters: list[torch.Tensor], factor: float) -> None:
        """Take the step of these engines, of all parameters' gradients times the factor."""
        gradients = [*map(GRADIENT, parameters)]
        gathered = [engine.gather(gradients) for engine in engines]
        for engine, leaves in zip(engines, gathered, strict=True):
            engine.step(leaves, factor)

    def _look(self, gradient: Callable[[torch.Tensor], Any]) -> list[torch.Tensor]:
        """All parameters. There are engines then of those that have a gradient, by this function, or had one."""
        groups = self.param_groups
        parameters = [p for group in groups for p in group["params"]]
        asked = [around(self._rule(group), group) for group in groups], [len(group["params"]) for group in groups]
        if not (self._asked == asked and self._known.same([*parameters, *self.state.values()])
                and all(gradient(parameters[k]) is None for k in self._idle)
                and all(engine.holds() for engine in self._engines)):
            self._make(asked, parameters, [*map(gradient, parameters)])
        return parameters

    @torch.no_grad()
    def _make(self, asked: Any, parameters: list[torch.Tensor], gradients: list[Any]) -> None:
        """Make the engines of what is asked, where parameters and their states are now."""
        if not self._looked and any(g is not None for g in gradients):  # the first step: before it, groups may be added
            self._looked, sizes = True, [p.dtype.itemsize//(2 if p.is_complex() else 1) for p in parameters]
            check_in_use(self._options.rounding, sizes, type(self).__name__)
        before = {id(p): int(steps) for engine in self._engines
                  for p, steps in zip(engine.parameters, engine.counts, strict=True)}
        members: dict[Any, list[Member]] = {}
        paths: dict[int, str] = {}
        layers: list[list[tuple[int, int]]] = []  # memory that parameters share is stepped by one after the other
        places = [(k, j) for k, group in enumerate(self.param_groups) for j in range(len(group["params"]))]
        for place, (p, g, (k, j)) in enumerate(zip(parameters, gradients, places, strict=True)):
            if g is not None or id(p) in before:
                rule, path = asked[0][k], f"params[{k}][{j}]"
                if (first := paths.setdefault(id(p), path)) != path:
                    raise ValueError(f"{type(self).__name__}: {path} is {first} again, but each parameter has one step "
                                     "and one state. Leave it out.")
                member = Member(p, place, k, path, rule, self._options)
                members.setdefault((rule, p.device, member.layer(layers)), []).append(member)
        self._engines = [Engine(rule, of, self.param_groups, self.state, self._options, before)
                         for (rule, *_), of in members.items()]
        stepped = {k for engine in self._engines for k in engine.places}
        self._asked, self._known = asked, Listed([*parameters, *self.state.values()])
        self._idle = [k for k in range(len(parameters)) if k not in stepped]

    @torch.compiler.disable
    @torch.no_grad()
    def eval(self) -> None:
        """Put the parameters of groups with `schedule_free` at the point to evaluate, the average of the points z.

        Until `train` is called, `opt.state` holds where they were; so do state dicts. A second call changes nothing.
        (`torch.distributed.checkpoint` reads only what a new optimizer has: save with it after `train`.)
        """
        averaged = {id(p) for group in self.param_groups if is_asked(group.get(SCHEDULE_FREE)) for p in group["params"]}
        if self._evaluates or not averaged:
            return
        self._look(lambda p: self.state.get(p, {}).get(SCHEDULE_FREE) if id(p) in averaged else None)
        points = [found for engine in self._engines for found in engine.points()]
        for p, _ in points:
            self.state[p][TRAINED] = spread(local(p).detach().clone(), p)
        self._evaluates = True
        for p, x in points:
            local(p).copy_(x)

    @torch.compiler.disable
    @torch.no_grad()
    def train(self) -> None:
        """Put the parameters back to where they were before `eval`, with the same bits. A second call changes nothing.
        """
        moved = [(p, entry) for p, entry in self.state.items() if isinstance(entry, dict) and TRAINED in entry]
        for p, entry in moved:
            local(p).copy_(local(entry[TRAINED]))
        self._evaluates = False
        for _, entry in moved:
            del entry[TRAINED]

    def state_dict(self) -> dict[str, Any]:
        """Torch's state dict. Of a `DTensor` states in blocks of eight bits are there in float32, to be cut anew."""
        places = {id(p): k for k, p in enumerate(p for group in self.param_groups for p in group["params"])}
        saved = super().state_dict()
        for engine in self._engines:
            for p, name, numbers in engine.decoded():
                key = places[id(p)]
                saved["state"][key] = {**saved["state"][key], name: numbers}
        return saved

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over a state dict, of this class or of torch's, whose tensors are copied. No state is rounded."""
        def keep(_: Any, saved: dict[str, Any]) -> dict[str, Any]:
            own = {id(x) for entry in self.state.values() for x in entry.values()}
            return {**saved, "state": {key: kept(entry, own) for key, entry in saved["state"].items()}}
        last = self.register_load_state_dict_pre_hook(keep)
        try:
            super().load_state_dict(state_dict)
        finally:
            last.remove()

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_options": self._options, "_looked": self._looked}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for entry in state["state"].values():
            if isinstance(entry, dict):
                entry |= {name: x.value for name, x in entry.items() if isinstance(x, Kept)}
        self._evaluates = any(isinstance(entry, dict) and TRAINED in entry for entry in state["state"].values())
        for group, before in zip(state["param_groups"], getattr(self, "param_groups", ()), strict=False):
            group |= {name: before[name] for name in MODIFIERS if name in before and name not in group}
        self._forget()
        super().__setstate__(state)


class SGD(Fused, torch.optim.SGD):
    """`torch.optim.SGD` with fastopt's steps. Each group has its momentum, or Nesterov's, or none."""

    def _rule(self, group: Mapping[str, Any]) -> Rule:
        return (rules.nesterov if group["nesterov"] else rules.momentum) if group["momentum"] else rules.sgd


class Adam(Fused, torch.optim.Adam):
    """`torch.optim.Adam` with fastopt's steps. Each group may be AMSGrad."""

    def _rule(self, group: Mapping[str, Any]) -> Rule:
        return rules.amsgrad if group["amsgrad"] else rules.adam


class AdamW(Fused, torch.optim.AdamW):
    """`torch.optim.AdamW` with fastopt's steps. Each group may be AMSGrad."""

    def _rule(self, group: Mapping[str, Any]) -> Rule:
        return rules.amsgrad if group["amsgrad"] else rules.adamw


class SparseAdam(Fused, torch.optim.SparseAdam):
    """`torch.optim.SparseAdam` with fastopt's steps: Adam of the rows that a sparse gradient hits.

    A dense gradient hits all rows.
    """

    def _rule(self, group: Mapping[str, Any]) -> Rule:
        return sparse_adam


class NAdam(Fused, torch.optim.NAdam):
    """`torch.optim.NAdam` with fastopt's steps."""

    def _rule(self, group: Mapping[str, Any]) -> Rule:
        return rules.nadam


class RAdam(Fused, torch.optim.RAdam):
    """`torch.optim.RAdam` with fastopt's steps."""

    def _rule(self, group: Mapping[str, Any]) -> Rule:
        return rules.radam


class RMSprop(Fused, torch.optim.RMSprop):
    """`torch.optim.RMSprop` with fastopt's steps. Each group may have momentum, and be centered."""

    def _rule(self, group: Mapping[str, Any]) -> Rule:
        if group["centered"]:
            return rules.rmsprop_centered_momentum if group["momentum"] else rules.rmsprop_centered
        return rules.rmsprop_momentum if group["momentum"] else rules.rmsprop


class Rprop(Fused, torch.optim.Rprop):
    """`torch.optim.Rprop` with fastopt's steps."""

    def _rule(self, group: Mapping[str, Any]) -> Rule:
        return rules.rprop


class Adadelta(Fused, torch.optim.Adadelta):
    """`torch.optim.Adadelta` with fastopt's steps."""

    def _rule(self, group: Mapping[str, Any]) -> Rule:
        return rules.adadelta


class Adamax(Fused, torch.optim.Adamax):
    """`torch.optim.Adamax` with fastopt's steps."""

    def _rule(self, group: Mapping[str, Any]) -> Rule:
        return rules.adamax


class Adagrad(Fused, torch.optim.Adagrad):
    """`torch.optim.Adagrad` with fastopt's steps."""

    def _rule(self, group: Mapping[str, Any]) -> Rule:
        return rules.adagrad


class OfRule(torch.optim.Optimizer):
    """Below `Fused`: the arguments of a rule. Its hyperparameters b1, b2, ... are ``betas``, as schedulers have it."""

    rule: Rule

    def __init__(self, params: Any, *args: Any, **hyper: Any):
        bound = type(self).__signature__.bind(params, *args, **hyper)  # type: ignore[attr-defined]
        bound.apply_defaults()
        bound.arguments.pop("params")
        for one in MORE:
            bound.arguments.pop(one.name)
        super().__init__(params, bound.arguments)


def optimizer(rule: Rule, name: str | None = None) -> Any:
    """The class of a rule, yours included, as an optimizer of torch.

    Parameters
    ----------
    rule : rule
        Made with `fastopt.rule`, or one of `fastopt.rules`.
    name : str, optional
        The class's name; by default the rule's `class_name`.

    Returns
    -------
    type
        To be called as ``Name(params, lr=..., **hyperparameters)``; b1, b2, ... are ``betas=(b1, b2)``.
    """
    if not hasattr(rule, "digest"):
        raise TypeError(f"optimizer: {rule!r} is no rule, but one is needed. Decorate it with fastopt.rule first.")
    betas = [k for k in rule.defaults if k[0] == "b" and k[1:].isdecimal()]
    first = {"lr": rule.defaults["lr"], **({"betas": tuple(rule.defaults[k] for k in betas)} if betas else {}),
             "weight_decay": rule.defaults["weight_decay"]}
    more = {k: v for k, v in rule.defaults.items() if k not in (*first, *betas, *MODIFIERS)}
    kinds = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY
    given = [inspect.Parameter(k, kind, default=v) for kind, of in zip(kinds, (first, more), strict=True)
             for k, v in of.items()]
    module = sys._getframe(1).f_globals.get("__name__", rule.__module__)  # where pickle finds it
    return type(name or rule.class_name, (Fused, OfRule), {
        "_rule": lambda self, group: rule, "__doc__": rule.__doc__, "__module__": module,
        "__signature__": inspect.Signature([inspect.Parameter("params", kinds[0]), *given, *MORE])})


Lion = optimizer(rules.lion)
