"""A fastopt optimizer that steps the memory of torch's tensors: parameters, and the states that torch sees."""
import math
from bisect import insort
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import accumulate, chain, groupby, pairwise, repeat
from operator import is_, itemgetter
from typing import Any, NamedTuple

import numpy as np
import torch

from .. import optimizers, rules
from .._cpu import torch_headers
from .._cpu.headers import Listed, Watch
from .._cpu.torch_steps import Entries, Gradients
from .._formats.blocks import SIZE
from .._formats.catalogue import Q43, Q44, SPLIT, Format, arithmetic
from .._formats.choice import AVERAGE, REMAINDER, SCHEDULE_FREE, parameter_format, state_formats
from .._rule import history
from .._rule.groups import Group
from .._rule.pieces import PLAIN as PIECES
from .._rule.pieces import STATES, schedule_free_past
from .._rule.pipeline import is_asked, modified, pipeline
from .._rule.rule import Rule, rule
from .._signals import at_once
from .._state.torch_layout import ADAM, LION, PAIRS, PRODUCT, TORCH, UNCOUNTED, count
from .._tensors import arrays
from ..presets import PRESETS
from ._tensors import (
    DENSE_RULES,
    PLAIN,
    cut_as,
    first_of,
    fitting,
    given,
    local,
    numbers_of,
    resolved,
    spread,
    tensor_of,
    usual,
)

# Adam with SparseAdam's place of eps
sparse_adam = rule(rules.adam_at, name="sparse_adam", state="m v", nonnegative="v", defaults={"eps_mode": "hat"})(
    rules.adam.body)
NAMES = {**TORCH, "lion": LION, sparse_adam.name: ADAM}  # of states, in torch
WITH_STATE = tuple([name for name in STATES if name != AVERAGE])  # modifiers that have one
WEIGHTS = "lr_squares"  # of schedule_free, beside its state: (sum over the first steps, how many these are, lr since)
NO_WEIGHTS = 0.0, 0.0, math.nan


class Options(NamedTuple):
    """What an optimizer is made with, beside what torch's is.

    `modifiers` are those of groups that say no others. `defaults` are those of the class, under torch's names.
    """

    where: str  # the name of the class, for errors
    state: Any
    rounding: str
    seed: int
    modifiers: Mapping[str, Any] = {}
    defaults: Mapping[str, Any] = {}


@cache
def optimizer_of(rule: Rule) -> Any:
    """The class of a rule."""
    return optimizers.ALL[rule.name] if rules.ALL.get(rule.name) is rule else optimizers.optimizer(rule)


def number(x: Any) -> Any:
    return x.item() if isinstance(x, torch.Tensor) else x


def fixed(x: Any) -> bool:
    """Whether a value is one that no program changes in place."""
    return all(map(fixed, x)) if type(x) is tuple else x is None or type(x) in (bool, int, float, str)


def around(rule: Rule, group: Mapping[str, Any]) -> Any:
    """The rule of a group, and around it the modifiers with a state for which the group asks."""
    if group.keys().isdisjoint(WITH_STATE):  # each step asks, of each group
        return rule
    asked = [name for name in WITH_STATE if is_asked(group.get(name))]
    return pipeline(rule, (*PIECES, *asked)) if asked else rule


def renamed(rule: Rule, group: Mapping[str, Any]) -> dict[str, Any]:
    """The hyperparameters of one of torch's groups, under our names."""
    found = {name: number(group[name]) for name in rule.defaults if name in group}
    for word, names in {**PAIRS, "betas": [f"b{k}" for k in range(1, 10)]}.items():
        found.update(zip(names, map(number, group.get(word, ())), strict=False))
    if "rho" in group:
        found["alpha"] = number(group["rho"])
    return found


def hyperparameters(rule: Rule, group: Mapping[str, Any], defaults: Mapping[str, Any], where: str) -> dict[str, Any]:
    """What one of torch's groups says, under our names, with torch's conventions. `defaults` are those of the class."""
    found = dict(PRESETS["torch"].get(rule.name, {})) if rules.ALL.get(rule.name) is rule else {}
    found |= renamed(rule, group)
    if "decoupled_weight_decay" in group:
        found["decay"] = "decoupled" if group["decoupled_weight_decay"] else "coupled"
    asked = {name: group.get(name) for name in WITH_STATE}
    if is_asked(asked[SCHEDULE_FREE]) and rule.momentum and (gone := rule.momentum[0]) in found:
        value, usual = found.pop(gone), renamed(rule, {**rule.defaults, **defaults})[gone]
        if value not in (0, usual):  # torch's groups always have one
            raise ValueError(f"{where}: {'betas[0]' if gone == 'b1' else gone} is {value} with schedule_free, which "
                             f"takes its place. Leave it at {usual}, and give schedule_free={value} for example.")
    found, _ = modified(rule, asked, found, where)
    if found.get("cautious_decay") and found.get("decay", rule.defaults["decay"]) == "coupled":
        raise ValueError(f"{where}: cautious_decay where weight decay is a part of the gradient, but it chooses where "
                         'decay is taken from a parameter. Take AdamW, or another rule with decay="decoupled": '
                         "fastopt.torch.optimizer(rule).")
    return found


def checked(rule: Rule, group: Mapping[str, Any], defaults: Mapping[str, Any], where: str) -> dict[str, Any]:
    """As `hyperparameters`, each of which is a number or a word that it may be."""
    found = hyperparameters(rule, group, defaults, where)
    Group(around(rule, group), found, where)
    return found


def averaged(weights: Sequence[float], steps: int, lr: Any) -> tuple[int, float]:
    """The history of a `schedule_free` parameter, of this many steps, those to come having this lr."""
    total, first, since = weights
    if math.isnan(since) or since == lr or first >= steps:
        return (int(first), total) if first <= steps else (0, 0.0)
    return steps, total + schedule_free_past(int(first) + 1, steps, since)


class Member:
    """A parameter of an engine: the memory that is stepped, and how its numbers and states are stored."""

    def __init__(self, parameter: torch.Tensor, place: int, group: int, path: str, rule: Rule, options: Options):
        """`place`: among all parameters."""
        self.parameter, self.place, self.group, self.path = parameter, place, group, path
        x = local(parameter).detach()
        self.memory = resolved(x)
        array = arrays.view(self.memory, path)
        self.copied = self.memory is not x or arrays.memory_order(array) is None  # memory with gaps: a copy is stepped
        if self.copied:
            self.memory = torch.empty_like(self.memory)
        self.stored: Format = parameter_format(arrays.format_of(array, path, x), options.rounding, path)
        self.formats = state_formats(options.state, rule, path, path, x, arithmetic(self.stored))
        self.kind = (group, *(format.name for format in self.formats.values()))

    def layer(self, layers: list[list[tuple[int, int]]]) -> int:
        """The first of the layers, sorted spans of memory, that has none of this parameter's, which is added there."""
        span = arrays.bounds(arrays.view(resolved(local(self.parameter).detach()), self.path))
        free = [k for k, taken in enumerate(layers) if not arrays.touches(taken, *span)] or [len(layers)]
        layers += [[]]*(free[0] == len(layers))
        insort(layers[free[0]], span)
        return free[0]

    @property
    def random(self) -> bool:
        return any(format.random for format in (self.stored, *self.formats.values()))


class Engine:
    """An optimizer of some parameters, all of one rule and on one device."""

    def __init__(self, rule: Rule, members: Sequence[Member], groups: Sequence[Mapping[str, Any]], state: Any,
                 options: Options, before: Mapping[int, int]):
        """`state` is torch's. `before`: the steps that parameters had, by their `id`, which torch may not count.

        The rule is as `around` gives it; `self.rule` is what stands in the middle.
        """
        self.rule, self.defaults, self.where = getattr(rule, "rule", rule), options.defaults, options.where
        self.averages = SCHEDULE_FREE in rule.state
        self.names = {name: NAMES.get(rule.name, {}).get(name, name) for name in rule.state}
        self.members = list(members)
        alike = [(kind, len(list(of))) for kind, of in groupby(members, key=lambda m: m.kind)]
        self.cuts = list(pairwise(accumulate((n for _, n in alike), initial=0)))
        self.groups = [kind[0] for kind, _ in alike]  # each of ours is of one of torch's
        self.parameters, self.places = [m.parameter for m in self.members], [m.place for m in self.members]
        self.copied = [m for m in self.members if m.copied]
        counted = rule.name not in UNCOUNTED or self.averages or any(m.random for m in members)
        self.entries = [state[p] if counted or rule.state else {} for p in self.parameters]
        counts = [self._count(entry, before.get(id(p), 1)) if counted or rule.state else before.get(id(p), 0)
                  for entry, p in zip(self.entries, self.parameters, strict=True)]
        numbers = torch.float64 if torch.get_default_dtype() == torch.float64 else torch.float32  # as torch has it
        self.steps = torch.tensor(counts, dtype=numbers)
        self.counts = self.steps.numpy()  # the same memory
        self.expected = self.counts.tobytes()  # as the last step left them
        products = torch.tensor([number(entry.get(PRODUCT, 1.0)) for entry in self.entries], dtype=numbers)
        self.products = products.numpy()
        weights = torch.tensor([[*map(float, entry.get(WEIGHTS, NO_WEIGHTS))] for entry in self.entries],
                               dtype=torch.float64)
        self.weights, self.weighed = weights.numpy(), list[Any]()
        remainders = [entry.get(REMAINDER) for entry in self.entries]
        self.hyper = [checked(self.rule, groups[k], self.defaults, self._named(k)) for k in self.groups]
        self.given: list[Any] = [None]*len(self.groups)
        for k, (m, entry) in enumerate(zip(self.members, self.entries, strict=True)):
            if counted:
                entry["step"] = self.steps[k]
            if self.rule.history:
                entry[PRODUCT] = products[k]
            if self.averages:
                entry[WEIGHTS] = weights[k]
            for slot, (name, theirs) in enumerate(self.names.items(), 1):
                first = float(groups[m.group].get(rule.initial.get(name, ""), 0.0))
                coded = Q44 if name in rule.nonnegative else Q43
                entry[theirs] = fitting(entry.get(theirs), m.parameter, m.memory, m.formats[name], coded, slot, first,
                                        f"state: {theirs} of {m.path}")
        self.states = [entry[theirs] for theirs in self.names.values() for entry in self.entries]
        self.plain = all(type(x) in PLAIN for x in self.parameters)
        self.usual = (self.plain and self.rule not in DENSE_RULES and not any(x.is_complex() for x in self.parameters)
                      and torch_headers.usable())  # whether gradients are taken as they are, until `opt` refuses one
        self.takes = [itemgetter(*of) if len(of) > 1 else itemgetter(slice(of[0], of[0] + 1))
                      for of in self._nested(self.places)]
        self.opt = self._make(options)
        self._resume(counts, remainders)
        found = chain.from_iterable(self.opt.state.get(REMAINDER, []))
        for m, entry, array in zip(self.members, self.entries, found, strict=False):
            if m.stored is SPLIT:
                entry[REMAINDER] = spread(tensor_of(array, SPLIT), m.parameter)
        kept = [*self.names.values(), *["step"]*counted, *[PRODUCT]*bool(self.rule.history), *[WEIGHTS]*self.averages]
        self.watch, self.held, self.here = Watch(self._here()), Entries(self.entries, kept), Listed(self._here())
        self.gradients = (Gradients(self.parameters, torch.Tensor) if self.usual and not self.copied and
                          self.parameters[0].is_cpu and torch_headers.gradients_usable() else None)

    def _named(self, k: int) -> str:
        """One of torch's groups, as errors name it."""
        return f"{self.where} group {k}"

    def _count(self, entry: Mapping[str, Any], before: int) -> int:
        """The steps that a parameter had: torch's count; or none where there is no velocity, which the first copies."""
        if "step" in entry:
            if (found := count(entry["step"])) is None:
                raise ValueError(f"state: step is {entry['step']!r}, but a whole number, 0 or more, is needed. Change "
                                 "it.")
            return found
        return before if any(entry.get(name) is not None for name in self.names.values()) else 0

    def _nested(self, values: Sequence[Any]) -> list[list[Any]]:
        """Values of the members, in the groups of `opt`."""
        return [list(values[lo:hi]) for lo, hi in self.cuts]

    def _make(self, options: Options) -> Any:
        memory = self._nested([given(m.memory, m.path) for m in self.members])
        states = {name: ("f32", self._nested([given(local(entry[theirs]), m.path)
                                              for m, entry in zip(self.members, self.entries, strict=True)]))
                  for name, theirs in self.names.items()}  # "f32" gives way to what each group says
        groups = [{**hyper, "params": of, "state": {name: f.name for name, f in self.members[lo].formats.items()}}
                  for hyper, of, (lo, _) in zip(self.hyper, memory, self.cuts, strict=True)]
        blocks = any(format.block for m in self.members for format in m.formats.values())
        firsts = [first - first % SIZE if blocks else first for first in map(first_of, self.parameters)]
        rounding = options.rounding if any(m.stored.itemsize == 2 for m in self.members) else "nearest"
        opt = optimizer_of(self.rule)(groups, state=states, rounding=rounding, seed=options.seed,
                                      first=self._nested(firsts), **dict.fromkeys(states.keys() & WITH_STATE, True))
        for group, k in zip(opt.groups, self.groups, strict=True):
            group.where = self._named(k)
        opt._paths[:] = [f"the gradient of {m.path}" for m in self.members]
        return opt

    def _resume(self, counts: list[int], remainders: list[Any]) -> None:
        """Go on from these step counts, and from what bfloat16 parameters lack."""
        t = max(counts)
        if not t and all(x is None for x in remainders):
            return
        saved = self.opt.state_dict(copy=False)
        saved |= {"t": t, "behind": [t - steps for steps in counts]}
        if REMAINDER in saved["state"]:
            saved["state"][REMAINDER] = [
                old if x is None else local(x).numpy(force=True).view(np.uint16)
                for old, x in zip(saved["state"][REMAINDER], remainders, strict=True)]
        if self.averages or self.rule.history:
            of = [k for k, (lo, hi) in enumerate(self.cuts) for _ in range(lo, hi)]
            past = [averaged(weights, steps, self.hyper[k]["lr"]) if self.averages else
                    history.of_product(self.rule, {**self.rule.defaults, **self.hyper[k]}, steps, product)
                    for k, steps, product, weights in zip(of, counts, self.products, self.weights.tolist(),
                                                          strict=True)]
            if any(len(set(past[lo:hi])) > 1 for lo, hi in self.cuts) or min(counts) < t:
                saved["past"] = past
            else:
                saved["history"] = [past[lo] for lo, _ in self.cuts]
        self.opt.load_state_dict(saved)

    def _here(self) -> list[torch.Tensor]:
        """All whose memory a step writes, but for copies."""
        written = self.parameters + self.states
        return written if self.plain else [local(x) for x in written]

    def holds(self) -> bool:
        """Whether parameters, states and counts are where they were, and as the last step left them."""
        return (self.held.same() and (self.plain or self.here.same(self._here())) and self.watch.stays()
                and self.counts.tobytes() == self.expected)

    def adjust(self, groups: Sequence[Mapping[str, Any]]) -> None:
        """Take over torch's threads, and the hyperparameters of now, which schedulers write into torch's groups."""
        if (threads := torch.get_num_threads()) != self.opt.threads:
            self.opt.threads = threads
        for number, (own, k, known) in enumerate(zip(self.opt.groups, self.groups, self.hyper, strict=True)):
            given = [x for name, x in groups[k].items() if name != "params"]
            if given == self.given[number]:
                continue
            now = {**own.rule.defaults, **hyperparameters(self.rule, groups[k], self.defaults, own.where)}
            if changed := {name: x for name, x in now.items() if x != own[name]}:
                at_once([own.change(changed, own.where)])
            known.update(now)
            self.given[number] = given if all(map(fixed, given)) else None
        if not self.plain and any(group.measures for group in self.opt.groups):
            for m in self.members:
                if local(m.parameter).shape != m.parameter.shape:
                    raise ValueError(f"{m.path}: cut among processes, but a modifier of it measures whole tensors. "
                                     "Leave the modifier out, or keep the parameter whole.")

    def gather(self, gradients: list[Any]) -> Sequence[Sequence[Any]]:
        """The gradients of the members, of which some may be None, as `opt` takes them."""
        if self.usual:
            return [take(gradients) for take in self.takes]
        found = [gradients[k] for k in self.places]
        if not self.plain:
            found = [None if g is None else cut_as(g, p) for g, p in zip(found, self.parameters, strict=True)]
        found = [usual(g, self.rule) for g in found]
        if not torch_headers.usable():
            found = [g if g is None or g.is_sparse else given(g, where)
                     for g, where in zip(found, self.opt._paths, strict=True)]
        return self._nested(found)

    def again(self) -> bool:
        """Take a step like the last one, if all have a gradient as they had then, and say whether that was so."""
        if self.gradients is None or not self.opt._again(self.gradients):
            return False
        self._taken(1)
        self.gradients.changed()
        return True

    def step(self, leaves: Sequence[Sequence[Any]], factor: float) -> None:
        for m in self.copied:
            m.memory.copy_(local(m.parameter))
        try:
            self.opt.step(leaves, grad_factor=factor)
        except TypeError:  # a gradient that is sparse in several dimensions, for example
            other = [[usual(g, self.rule) for g in of] for of in leaves]
            if all(map(is_, chain(*other), chain(*leaves))):
                raise
            self.opt.step(other, grad_factor=factor)
        for m in self.copied:
            local(m.parameter).copy_(m.memory)
        live: Any = 1
        stepped = self.parameters
        if any(any(map(is_, of, repeat(None))) for of in leaves):
            live = np.array([leaf is not None for of in leaves for leaf in of])
            stepped = [p for p, alive in zip(stepped, live, strict=True) if alive]
        self._taken(live)
        torch.autograd.graph.increment_version(stepped)

    def _taken(self, live: Any) -> None:
        """Count a step of the parameters that are `live`, 1 or 0 of each, or 1."""
        self.counts += live
        self.expected = self.counts.tobytes()
        if self.rule.history:
            live = np.broadcast_to(live, len(self.members))
            for hyper, (lo, hi) in zip(self.hyper, self.cuts, strict=True):
                mu = hyper["b1"]*(1 - 0.5*0.96**(self.counts[lo:hi]*hyper["momentum_decay"]))
                self.products[lo:hi] *= np.where(live[lo:hi], mu, 1)
        if self.averages:
            _, known = self.opt._backend.counted()
            if not (self.weighed and all(map(is_, known, self.weighed))):
                self.weights[...] = [(past.total, past.t, *(past.numbers or (math.nan,))) for past in known]
                self.weighed = list(known)

    def points(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Each parameter with the point at which to evaluate it, where that is another one."""
        if not self.averages:
            return []
        for m in self.copied:
            m.memory.copy_(local(m.parameter))
        found = chain.from_iterable(self.opt.evaluation_point())
        return [(m.parameter, x if isinstance(x, torch.Tensor) else tensor_of(x, m.stored).view(m.memory.dtype))
                for m, x in zip(self.members, found, strict=True)]

    def decoded(self) -> Iterator[tuple[torch.Tensor, str, torch.Tensor]]:
        """Of parameters that are cut among processes, states that are not: (parameter, torch's name, numbers)."""
        for m, entry in zip(self.members, self.entries, strict=True):
            for name, theirs in self.names.items():
                if m.formats[name].block and local(m.parameter) is not m.parameter:
                    yield m.parameter, theirs, spread(numbers_of(entry[theirs], m.memory, m.formats[name]), m.parameter)
