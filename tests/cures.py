"""What the tests of cures have in common: where an error came from, and which `raise` of a module no test has provoked."""
import ast
import importlib
import inspect
import re
import traceback

from conftest import assert_identical


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
        for function in ast.walk(ast.parse(inspect.getsource(module))):
            if isinstance(function, ast.FunctionDef) and function.name not in elsewhere:
                raises = [node for node in ast.walk(function) if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)]
                there = [range(node.lineno, node.end_lineno + 1) for node in raises]
                left += [f"{name}: line {at[0]}" for at in there if not any((module.__file__, line) in seen for line in at)]
    return left


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
