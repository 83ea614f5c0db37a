"""What the tests of cures share: each message is provoked, its cure is executed, and no `raise` is left out."""
import ast
import importlib
import inspect
import re
import traceback
from functools import partial

from conftest import assert_identical

MODULES = {  # by the test file in which no `raise` of theirs is left out
    "arguments": ("_checks.numbers", "_formats.choice", "_rule.attributes", "_rule.groups", "_rule.pipeline",
                  "_tensors.adapters", "_tensors.arrays", "_tensors.parameters", "_tensors.tensors", "init", "networks",
                  "optimizer", "optimizers", "presets", "schedules.factory", "schedules.formulas", "schedules.plateau",
                  "storage", "trees"),
    "states": ("_rule.history", "_state.copies", "_state.state_dict", "_state.torch_layout", "files"),
    "rules": ("_cpu.backend", "_cpu.jobs", "_tensors.units", "_rule.rule", "_rule.straight"),
    "solvers": ("_training.batches", "_training.fit", "curvature.derivatives", "curvature.eigenvalues",
                "curvature.flat", "curvature.gradient_check", "problems", "proximal", "scipy", "sklearn._fit",
                "sklearn._base", "sklearn._targets"),
    "rows": ("_cpu.rows", "_tensors.rows", "_tensors.sums"),
    "device": ("_cuda.backend", "_cuda.libraries", "_cuda.look", "_tensors.device_array")}
OTHERS = {  # why those of the others are not looked for
    "__init__": "Python's words for an attribute that is not there", "_kernels.cache": "tests/test_cache.py",
    "_kernels.compile": "tests/test_undisturbed.py, in a process of its own",
    "_training.progress": "an extra that is missing", "kernels": "tests/test_cures_rules.py, in compiled code",
    "bitsandbytes": "tests/test_bitsandbytes.py",
    **dict.fromkeys(("mpi.gradients", "mpi.measured", "mpi.ranks", "mpi.sharded"),
                    "tests/sharded.py, on several ranks"),
    **dict.fromkeys(("torch._engine", "torch._tensors", "torch.optimizers"), "tests/test_torch.py"),
    "_formats.bits": "a formula of ours that mixes types: tests/test_formats.py",
    "_cuda.code": "what is not installed, or fails: tests/test_cuda_errors.py",
    "_cuda.driver": "what is not installed, or fails: tests/test_cuda_errors.py",
    "_cuda.streams": "captures: tests/test_cuda_streams.py",
    "_cuda.tables": "as `_cpu.jobs`, with the compiler for devices",
    **dict.fromkeys(("bench.cpu", "bench.compare", "bench.cuda", "bench.cli", "bench.loops", "bench.rivals"),
                    "the command's: tests/test_cli.py and the tests of the benchmark")}


def lines(call):
    """The lines that an error of this call went through; none without an error."""
    try:
        call()
    except Exception as error:
        found = str(error)
        assert re.match(r".+: .+\. \S", found), found
        return where(error)
    return set()


def where(error):
    """The lines of an error, and of those from which it was made."""
    here = {(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)} if error else set()
    return here | where(error.__context__) if error else here


def alike(cure, *bad):
    """Cases of one cure: it is a call, and so is each that raises."""
    return [(call, cure) for call in bad]


def values(call, **given):
    """Cases of one call: of each argument a value that is refused, and one that is taken."""
    return [(partial(call, **{name: bad}), partial(call, **{name: good})) for name, (bad, good) in given.items()]


def check(cases, of="", elsewhere=(), seen=()):
    """Each case is (what raises, what the message says to do instead, which checks what comes of it). Every `raise` of
    the modules `of` is then among the lines seen, here or before, or in functions tested elsewhere."""
    seen = set(seen)
    for k, (bad, cure) in enumerate(cases):
        found = lines(bad)
        assert found, f"case {k} raises nothing: {bad if isinstance(bad, partial) else inspect.getsource(bad)}"
        seen |= found
        cure()
    left = []
    for name in MODULES.get(of, ()):
        module = importlib.import_module(f"fastopt.{name}")  # fastopt.optimizer is a function
        for at in raises(inspect.getsource(module), elsewhere):
            left += [] if any((module.__file__, line) in seen for line in at) else [f"{name}: line {at[0]}"]
    assert not left, "no case provokes the error raised in " + ", ".join(left)


def raises(source, elsewhere=()):
    """The lines of each statement that raises a new error, in functions that are not tested elsewhere."""
    functions = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)
                 and node.name not in elsewhere]
    found = [node for function in functions for node in ast.walk(function) if isinstance(node, ast.Raise)]
    return [range(node.lineno, node.end_lineno + 1) for node in found if isinstance(node.exc, ast.Call)]


def same(have, want):
    """Two trees of arrays and numbers, bit for bit."""
    if isinstance(want, dict):
        assert list(have) == list(want)
        have, want = list(have.values()), list(want.values())
    if isinstance(want, (list, tuple)):
        assert len(have) == len(want)
        for x, y in zip(have, want, strict=True):
            same(x, y)
    elif hasattr(want, "dtype"):
        assert_identical(have, want)
    else:
        assert have == want
