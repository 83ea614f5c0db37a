"""Trees of arrays: lists, tuples, named tuples, dicts and dataclasses, nested in any way, with a path for every leaf.

A node knows how to collect the leaves of another tree of its structure and how to build such a tree from leaves
(`fixed`: with tuples and read-only dicts, where putting another array in would go unseen).
"""
import dataclasses
from collections.abc import Iterator, Mapping, MappingView
from types import MappingProxyType
from typing import Any


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
            raise _mismatch(where, tree, f"a dict with the keys {', '.join(map(repr, self.keys))}")
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


Node = Leaf | Sequence | Dict | Record


def structure(tree: Any, where: str, leaves: list[tuple[str, Any]]) -> Node:
    """The structure of a tree; its leaves and their paths are appended to `leaves`."""
    if isinstance(tree, (list, tuple)):
        return Sequence(tree, [structure(x, f"{where}[{k}]", leaves) for k, x in enumerate(tree)])
    if isinstance(tree, Mapping):
        return Dict(tree, [structure(x, f"{where}[{k!r}]", leaves) for k, x in tree.items()])
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        return Record(tree, [structure(getattr(tree, f.name), f"{where}.{f.name}", leaves)
                             for f in dataclasses.fields(tree)])
    leaves.append((where, tree))
    return Leaf()
