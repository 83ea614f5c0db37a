"""What the tests of cures have in common: where an error came from, and which `raise` of a module no test has provoked."""
import ast
import importlib
import inspect
import re
import traceback

from conftest import assert_identical

MODULES = {  # by the test file in which no `raise` of theirs is left out
    "arguments": ("arrays", "attributes", "classes", "groups", "hyper", "init", "networks", "optimizer", "optimizers",
                  "presets", "schedules", "storage", "tensors", "trees"),
    "states": ("checkpoints", "files", "history", "torch_dicts"),
    "rules": ("binding", "host", "registry", "straight"),
    "solvers": ("batches", "curvature", "derivatives", "estimators", "flat", "gradient_check", "problems", "proximal",
                "scipy", "sklearn",
                "training"),
    "device": ("device", "device_arrays", "device_look")}
OTHERS = {  # and why those of the others are not looked for
    "__init__": "Python's words for an attribute that is not there",
    "cpu": "tests/test_cures_rules.py, in a process of its own", "kernels": "tests/test_cures_rules.py, in compiled "
                                                                            "code",
    "bitsandbytes": "tests/test_bitsandbytes.py", "progress": "an extra that is missing",
            "rivals": "caught by the benchmark",
    **dict.fromkeys(("bench", "bench_compare", "bench_cuda", "cli"), "the command's: tests/test_cli.py and the tests "
                                                                     "of the benchmark"),
    **dict.fromkeys(("cuda_code", "driver"), "what is not installed, or fails: tests/test_cuda_errors.py, "
                                             "tests/test_cuda_code.py"),
    "device_streams": "captures: tests/test_cuda_streams.py", "device_tables": "as `binding`, with the compiler for "
                                                                               "devices"}


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


def check(cases):
    """Each case is what raises, and what the message says to do instead, which checks what comes of it."""
    for bad, cure in cases:
        assert lines(bad), inspect.getsource(bad)
        cure()


def left_out(modules, seen, elsewhere=()):
    """Where these modules raise an error of their own that is not among the lines seen, functions that are tested elsewhere aside."""
    left = []
    for name in modules:
        module = importlib.import_module(f"fastopt.{name}")  # fastopt.optimizer is a function
        there = raises(inspect.getsource(module), elsewhere)
        left += [f"{name}: line {at[0]}" for at in there if not any((module.__file__, line) in seen for line in at)]
    return left


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
