"""Who may import whom: each room of fastopt (a public module, or a package) only from the lines above its own."""
import ast
from graphlib import TopologicalSorter
from pathlib import Path

import fastopt

HOME = Path(fastopt.__file__).parent
LAYERS = [line.split() for line in """
_checks _signals trees notation presets proximal
_rule schedules
rules _formats init curvature
_kernels storage networks
_tensors kernels problems
_cpu | _cuda bitsandbytes
_state cuda_code
optimizer
optimizers files
_training mpi
scipy sklearn torch
bench
""".strip().splitlines()]
FLOOR = {room: k for k, rooms in enumerate(LAYERS) for room in rooms if room != "|"}


def room(path):
    return path.relative_to(HOME).parts[0].removesuffix(".py")


def runs(tree):
    """The nodes of a module but for what only type checkers read."""
    if isinstance(tree, ast.If) and isinstance(tree.test, ast.Name) and tree.test.id == "TYPE_CHECKING":
        return
    yield tree
    for node in ast.iter_child_nodes(tree):
        yield from runs(node)


def imports(path):
    """(path of a module, line) of every import from within the package, lazy ones too."""
    here = path.relative_to(HOME).parts
    for node in runs(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = [*here[:len(here) - node.level], *(node.module.split(".") if node.module else [])]
            for name in node.names if not node.module or (HOME.joinpath(*base)).is_dir() else [None]:
                yield tuple([*base, name.name] if name else base), node.lineno


FILES = sorted(path for path in HOME.rglob("*.py") if room(path) not in ("__init__", "__main__"))


def test_every_room_has_its_layer():
    assert {room(path) for path in FILES} == FLOOR.keys()


def test_rooms_import_downwards():
    wrong = [f"{path}:{line} imports {other[0]}" for path in FILES for other, line in imports(path)
             if FLOOR.get(other[0], -1) > FLOOR[room(path)] or {other[0], room(path)} == {"_cpu", "_cuda"}]
    assert not wrong, "\n".join(wrong)


def test_modules_import_in_no_circle():
    """Not even where an import stands within a function."""
    paths = {path.relative_to(HOME).with_suffix("").parts: path for path in FILES}
    graph = {parts: {other for other, _ in imports(path) if other in paths} for parts, path in paths.items()}
    TopologicalSorter(graph).prepare()  # CycleError names one
