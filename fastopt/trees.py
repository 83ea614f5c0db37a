"""Trees of arrays: lists, tuples, named tuples, dicts and dataclasses, nested in any way, with a path for every leaf.

Objects of classes that are registered with JAX or optree (`register_pytree_node` and its kin) are trees, too, once that
library is imported. All else is a leaf, None as well.

    leaves, structure = flatten(params)
    halves = unflatten(structure, [x/2 for x in leaves])     # or: map(lambda x: x/2, params)
    paths(params)                                            # ["params['w']", "params['b']"]
"""
import dataclasses
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, MappingView
from itertools import repeat
from types import MappingProxyType
from typing import Any

__all__ = ["flatten", "map", "paths", "unflatten"]

# A node knows how to collect the leaves of another tree of its structure and how to build such a tree from leaves
# (`fixed`: with tuples and read-only dicts, where putting another array in would go unseen).


NOTHING = object()
PLAIN = ("numpy", "builtins", "torch")  # modules whose objects are leaves, or trees that are known here


class Leaf:
    """An array, or whatever stands in its place. (`holds` tells callable trees from functions that make one.)"""

    def holds(self, tree: Any) -> bool:
        return False

    def collect(self, tree: Any, where: str, out: list) -> None:
        out.append(tree)

    def build(self, leaves: Iterator, fixed: bool = False) -> Any:
        return next(leaves)


def _mismatch(where: str, found: Any, needed: str, ordered: bool = False) -> TypeError:
    cure = " here: list(x)" if ordered and isinstance(found, (Iterator, MappingView)) else ""
    return TypeError(f"{where}: found {type(found).__name__}, but params has {needed} there. Give the structure of "
                     f"params{cure}.")


class Sequence:
    """A list, tuple or named tuple."""

    def __init__(self, tree: Any, children: list):
        self.kind, self.children = type(tree), children
        self.flat = all(isinstance(c, Leaf) for c in children)

    def holds(self, tree: Any) -> bool:
        return isinstance(tree, (list, tuple))

    def collect(self, tree: Any, where: str, out: list) -> None:
        if not isinstance(tree, (list, tuple)):
            raise _mismatch(where, tree, f"a {self.kind.__name__} of {len(self.children)}", True)
        if len(tree) != len(self.children):
            raise ValueError(f"{where}: {len(tree)} entries, but params has {len(self.children)} there. Give one for "
                             "each.")
        if self.flat:
            before = len(out)
            out.extend(tree)
            if len(out) - before != len(self.children):  # a class of its own may say another length than it has
                raise ValueError(f"{where}: {len(out) - before} entries, but params has {len(self.children)} there. "
                                 "Give one for each.")
            return
        for k, (child, value) in enumerate(zip(self.children, tree, strict=True)):
            child.collect(value, f"{where}[{k}]", out)

    def build(self, leaves: Iterator, fixed: bool = False) -> Any:
        values = [child.build(leaves, fixed) for child in self.children]
        if hasattr(self.kind, "_fields"):
            return self.kind(*values)
        return tuple(values) if fixed or issubclass(self.kind, tuple) else values


class Dict:
    """A mapping; another tree may hold its keys in any order."""

    def __init__(self, tree: Mapping, children: list):
        self.keys, self.children = list(tree), children
        self.flat = all(isinstance(c, Leaf) for c in children)

    def holds(self, tree: Any) -> bool:
        return isinstance(tree, Mapping)

    def collect(self, tree: Any, where: str, out: list) -> None:
        if not isinstance(tree, Mapping):
            raise _mismatch(where, tree, f"a dict with the keys {', '.join([repr(key) for key in self.keys])}")
        if len(tree) != len(self.keys) or any(k not in tree for k in self.keys):
            missing, extra = [k for k in self.keys if k not in tree], [k for k in tree if k not in self.keys]
            raise ValueError(f"{where}: {f'no {missing}' if missing else ''}{' and ' if missing and extra else ''}"
                             f"{f'unknown {extra}' if extra else ''}; params has the keys {self.keys} there. Give "
                             "exactly those.")
        try:
            values = [tree[k] for k in self.keys]
        except KeyError as error:
            raise ValueError(f"{where}: no {error}, though it says that it has this key. Give a plain dict: "
                             "dict(x).") from error
        if self.flat:
            out.extend(values)
            return
        for key, child, value in zip(self.keys, self.children, values, strict=True):
            child.collect(value, f"{where}[{key!r}]", out)

    def build(self, leaves: Iterator, fixed: bool = False) -> Any:
        values = {k: child.build(leaves, fixed) for k, child in zip(self.keys, self.children, strict=True)}
        return MappingProxyType(values) if fixed else values


class Record:
    """A dataclass instance."""

    def __init__(self, tree: Any, children: list):
        self.kind, self.children = type(tree), children
        self.names = [f.name for f in dataclasses.fields(tree)]

    def holds(self, tree: Any) -> bool:
        return isinstance(tree, self.kind)

    def collect(self, tree: Any, where: str, out: list) -> None:
        if not isinstance(tree, self.kind):
            raise _mismatch(where, tree, f"a {self.kind.__name__}")
        for name, child in zip(self.names, self.children, strict=True):
            if not hasattr(tree, name):
                raise ValueError(f"{where}: no {name}; params has the fields {self.names} there. Give exactly those.")
            child.collect(getattr(tree, name), f"{where}.{name}", out)

    def build(self, leaves: Iterator, fixed: bool = False) -> Any:
        new = object.__new__(self.kind)
        for name, child in zip(self.names, self.children, strict=True):
            object.__setattr__(new, name, child.build(leaves, fixed))  # frozen dataclasses too
        return new


class Registered:
    """An object of a class that is registered with JAX or optree."""

    def __init__(self, tree: Any, opened: "Opened", children: list):
        self.kind, self.children, self.close = type(tree), children, opened.close

    def holds(self, tree: Any) -> bool:
        return isinstance(tree, self.kind)

    def collect(self, tree: Any, where: str, out: list) -> None:
        found = opened(tree) if isinstance(tree, self.kind) else None
        if found is None:
            raise _mismatch(where, tree, f"a {self.kind.__name__}")
        if len(found.children) != len(self.children):
            raise ValueError(f"{where}: {len(found.children)} entries, but params has {len(self.children)} there. Give "
                             "one for each.")
        for child, name, value in zip(self.children, found.names, found.children, strict=True):
            child.collect(value, where + name, out)

    def build(self, leaves: Iterator, fixed: bool = False) -> Any:
        return self.close([child.build(leaves, fixed) for child in self.children])


class Opened:
    """What an object of a registered class holds: children, their names in paths, and what makes such an object."""

    def __init__(self, children: list, names: list[str], close: Callable[[list], Any]):
        self.children, self.names, self.close = children, names, close


def opened(tree: Any) -> Opened | None:
    """The inside of an object of a class that is registered with JAX or optree; None for a leaf."""
    if (jax := sys.modules.get("jax")) is not None:
        found, structure = jax.tree_util.tree_flatten_with_path(tree, is_leaf=lambda x: x is not tree)
        if not (len(found) == 1 and found[0][1] is tree) and tree is not None:
            return Opened([x for _, x in found], [jax.tree_util.keystr(key) for key, _ in found], structure.unflatten)
    if (optree := sys.modules.get("optree")) is not None:
        names, found, structure = optree.tree_flatten_with_accessor(tree, is_leaf=lambda x: x is not tree)
        if not (len(found) == 1 and found[0] is tree) and tree is not None:
            return Opened(found, [name.codify("") for name in names], structure.unflatten)
    return None


Node = Leaf | Sequence | Dict | Record | Registered


def structure(tree: Any, where: str, leaves: list[tuple[str, Any]]) -> Node:
    """The structure of a tree; its leaves and their paths are appended to `leaves`."""
    if isinstance(tree, (list, tuple)):
        return Sequence(tree, [structure(x, f"{where}[{k}]", leaves) for k, x in enumerate(tree)])
    if isinstance(tree, Mapping):
        return Dict(tree, [structure(x, f"{where}[{k!r}]", leaves) for k, x in tree.items()])
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        return Record(tree, [structure(getattr(tree, f.name), f"{where}.{f.name}", leaves)
                             for f in dataclasses.fields(tree)])
    if type(tree).__module__ not in PLAIN and (found := opened(tree)) is not None:
        children = zip(found.names, found.children, strict=True)
        return Registered(tree, found, [structure(x, where + name, leaves) for name, x in children])
    leaves.append((where, tree))
    return Leaf()


def flatten(tree: Any) -> tuple[list[Any], Node]:
    """The leaves of a tree, in order, and its structure."""
    leaves: list[tuple[str, Any]] = []
    node = structure(tree, "tree", leaves)
    return [leaf for _, leaf in leaves], node


def unflatten(structure: Node, leaves: Iterable[Any]) -> Any:
    """The tree of this structure with these leaves."""
    values = iter(leaves)
    try:
        tree = structure.build(values)
    except StopIteration:
        tree = NOTHING
    if tree is NOTHING or next(values, NOTHING) is not NOTHING:
        raise ValueError(f"unflatten: {'too few' if tree is NOTHING else 'too many'} leaves, but one for each of the "
                         "structure is needed. Give as many as flatten() returned.")
    return tree


def map(function: Callable[..., Any], tree: Any, *others: Any) -> Any:
    """The tree of what a function returns for each leaf. It also gets the leaves of other trees of that structure."""
    leaves, node = flatten(tree)
    columns: list[list[Any]] = [[] for _ in others]
    for k, (other, column) in enumerate(zip(others, columns, strict=True)):
        node.collect(other, f"tree {k + 2}", column)
    return node.build(iter([function(*of) for of in zip(leaves, *columns, strict=True)]))


def paths(tree: Any, root: str = "params") -> list[str]:
    """The path of each leaf, as errors and state dicts show it. Paths begin with `root`."""
    leaves: list[tuple[str, Any]] = []
    structure(tree, root, leaves)
    return [path for path, _ in leaves]


def filled(node: Node, tree: Any) -> Any:
    """A tree with None for the leaves whose keys it lacks."""
    if isinstance(node, Dict) and isinstance(tree, Mapping):
        lacking = {k: child.build(repeat(None)) for k, child in zip(node.keys, node.children, strict=True)}
        return {**lacking, **{k: filled(child, tree[k]) for k, child in zip(node.keys, node.children, strict=True)
                              if k in tree}, **{k: x for k, x in tree.items() if k not in lacking}}
    if isinstance(node, Sequence) and isinstance(tree, (list, tuple)) and len(tree) == len(node.children):
        return [filled(child, x) for child, x in zip(node.children, tree, strict=True)]
    return tree


def within(path: str, tree: str) -> bool:
    """Whether a path is this one, or leads on from it."""
    return path == tree or (path.startswith(tree) and path[len(tree)] in "[.")


def without(tree: Any, where: str, path: str) -> Any:
    """A tree without what stands at a path; NOTHING where nothing is left. Its leaves are the same objects."""
    if where == path:
        return NOTHING
    if not path.startswith(where):
        return tree
    if isinstance(tree, (list, tuple)):
        new = [without(x, f"{where}[{k}]", path) for k, x in enumerate(tree)]
        left = [x for x in new if x is not NOTHING]
        if hasattr(tree, "_fields"):
            _check_fields(len(left) == len(new), where, tree)
            return type(tree)(*left)
        return (tuple(left) if isinstance(tree, tuple) else left) if left else NOTHING
    if isinstance(tree, Mapping):
        kept = {k: without(x, f"{where}[{k!r}]", path) for k, x in tree.items()}
        return {k: x for k, x in kept.items() if x is not NOTHING} or NOTHING
    leaves: list[tuple[str, Any]] = []
    node = structure(tree, where, leaves)
    _check_fields(not any(within(at, path) for at, _ in leaves), where, tree)
    return node.build(iter([leaf for _, leaf in leaves]))


def _check_fields(whole: bool, where: str, tree: Any) -> None:
    if not whole:
        raise ValueError(f"{where}: a part of a {type(tree).__name__} was to be removed, but it needs all of its "
                         "fields. Remove it whole, or keep its arrays in a dict.")
