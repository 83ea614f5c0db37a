"""What an optimizer is given, read: a tree of parameters or groups of them, and states that are there already."""
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from .. import trees
from .._checks.numbers import whole
from .._formats.blocks import SIZE
from .._formats.catalogue import Format, arithmetic
from .._formats.choice import check_in_use, check_rounding, state_formats
from .._rule.groups import MOST_STEPS
from .._rule.rule import Rule
from .backend import PLAIN, Request
from .tensors import PerTensor, Tensor, adopted, beside, output, rows_of_masks, tensor

NO_HYPER = ("state", "rounding", "mask")  # what a group of parameters may say beside its hyperparameters


class Given(NamedTuple):
    """A group of parameters as it was given."""

    tree: Any
    path: str
    own: Mapping[str, Any]  # what it says beside its parameters


class Parameters(NamedTuple):
    """Parameters that were read."""

    given: Any
    tensors: list[Tensor]
    structure: trees.Node
    formats: list[dict[str, Format]]  # how the states of each are to be stored
    plain: Request                    # what a step without further arguments is asked for

    @property
    def paths(self) -> list[str]:
        """What errors call their gradients."""
        return [beside(t, "grads") for t in self.tensors]

    def states(self, rule: Rule) -> dict[str, PerTensor]:
        """The states of the rule, in their formats; the arrays are still to be made."""
        return {name: PerTensor([None]*len(self.tensors), [of[name] for of in self.formats]) for name in rule.state}

    def adopted(self, name: str, tree: Any, states: PerTensor, named: bool) -> PerTensor:
        """A state whose arrays are given.

        Its formats are those of `states` if the program `named` them, else what the dtypes of the arrays say.
        """
        prefix, leaves = f"state[{name!r}]", list[Any]()
        self.structure.collect(tree, prefix, leaves)
        found = [adopted(leaf, t, beside(t, prefix), format if named else None)
                 for leaf, t, format in zip(leaves, self.tensors, states.formats, strict=True)]
        return PerTensor([array for array, _ in found], [format for _, format in found], leaves)

    def outputs(self, name: str, tree: Any) -> PerTensor:
        """A tree of given arrays that follow the parameters: steps write them, too."""
        leaves: list[Any] = []
        self.structure.collect(tree, name, leaves)
        found = [output(leaf, t, beside(t, name)) for leaf, t in zip(leaves, self.tensors, strict=True)]
        return PerTensor([array for array, _ in found], [format for _, format in found], leaves)


def grouped(params: Any) -> bool:
    """Whether parameters come in groups: a list of dicts with the entry "params"."""
    return (isinstance(params, (list, tuple)) and len(params) > 0
            and all(isinstance(g, dict) and "params" in g for g in params))


def groups_of(params: Any, first: int = 0) -> list[Given]:
    """The groups of parameters, numbered from `first` on. A tree is one group."""
    if not grouped(params):
        return [Given(params, "params", {})]
    return [Given(g["params"], f"params[{first + k}]", {name: x for name, x in g.items() if name != "params"})
            for k, g in enumerate(params)]


def read(params: Any, rule: Rule, state: Any, rounding: str, where: str, first: int = 0) -> Parameters:
    """Read parameters, and check them: a tree, or groups, which are numbered from `first` on."""
    tensors: list[Tensor] = []
    formats: list[dict[str, Format]] = []
    roots: list[trees.Node] = []
    masks: list[Any] = []
    groups = groups_of(params, first)
    for k, (tree, path, own) in enumerate(groups, first):
        leaves: list[tuple[str, Any]] = []
        roots.append(trees.structure(tree, path, leaves))
        if not leaves:
            raise ValueError(f"{path}: no arrays, but at least one is needed. Remove the group or give it parameters.")
        group = f"{where} group {k}" if own else where
        kind, asked = check_rounding(own.get("rounding", rounding), group), own.get("state", state)
        new = [tensor(leaf, at, k, kind, len(tensors) + j) for j, (at, leaf) in enumerate(leaves)]
        formats += [state_formats(asked, rule, group, t.path, t.original, arithmetic(t.format)) for t in new]
        tensors += new
        if own.get("mask") is not None:
            roots[-1].collect(own["mask"], "mask" + path[len("params"):], masks)
        masks += [True]*(len(tensors) - len(masks))
    structure = trees.Sequence([group.tree for group in groups], roots) if grouped(params) else roots[0]
    masked = any(group.own.get("mask") is not None for group in groups)
    plain = PLAIN._replace(masks=rows_of_masks(masks, tensors)) if masked else PLAIN
    return Parameters(params, tensors, structure, formats, plain)


def check_roundings_in_use(read: Parameters, rounding: str, where: str) -> None:
    """Warn of each rounding that none of its parameters uses.

    Groups may have a rounding of their own; `rounding` is that of all others.
    """
    own = {k: group.own["rounding"] for k, group in enumerate(groups_of(read.given)) if "rounding" in group.own}
    for k, asked in [(None, rounding), *own.items()]:
        of = [t.format.itemsize for t in read.tensors if (t.group if t.group in own else None) == k]
        check_in_use(asked, of, where if k is None else f"{where} group {k}")


def given_states(state: Any, rule: Rule) -> tuple[Any, dict[str, Any]]:
    """The argument `state` in two parts: the formats that it asks for, and the states that are there already.

    Of a dict, a value is a format, or a tree of arrays, or (format, tree).
    """
    if not isinstance(state, Mapping):
        return state, {}
    formats, given = {}, {}
    for name, value in state.items():
        pair = isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str)
        if pair:
            formats[name], given[name] = value
        elif value is None or callable(value) or isinstance(value, (str, int, float, np.dtype)):
            formats[name] = value
        else:
            given[name] = value
            if name not in rule.state:
                formats[name] = ""  # it is said with what else is wrong with formats
    return formats, given


def numbered(parameters: Parameters, first: Any, states: Mapping[str, PerTensor]) -> tuple[list[Tensor], bool]:
    """The tensors, each with the number of its first element in a larger array, which `first` says.

    It is one number for all tensors, or a tree of them. The tree may hold pairs (number of the tensor, number of its
    first element). Tensors keep such numbers of theirs, whatever place they come to have; returned is whether they do.
    """
    if whole(first) is not None:
        leaves: Sequence[Any] = [first]*len(parameters.tensors)
    else:
        leaves = []
        parameters.structure.collect(first, "first", leaves)
    new, given = [], False
    for k, (t, leaf) in enumerate(zip(parameters.tensors, leaves, strict=True)):
        number = t.number
        if isinstance(leaf, tuple) and len(leaf) == 2:
            (number, leaf), given = leaf, True
        at, path = whole(leaf), beside(t, "first")
        if at is None or not 0 <= at < MOST_STEPS:
            raise ValueError(f"{path}: found {leaf!r}, but a whole number from 0 to 2**62 is needed: how many elements "
                             "lie before this array in the whole. Change it.")
        at *= 2 if t.complex else 1  # the kernels' elements are its parts
        if at % SIZE and any(slot.formats[k].block for slot in states.values()):
            raise ValueError(f"{path}: {leaf}, but states of eight bits are cut between blocks of {SIZE} numbers only. "
                             f"Cut at a multiple of {SIZE//2 if t.complex else SIZE}.")
        new.append(t._replace(number=number, first=at))
    return new, given
