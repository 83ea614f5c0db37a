"""What the package says of itself: versions, what is public, and the files beside it."""
import ast
import inspect
import re
import subprocess
import sys
import warnings
from pathlib import Path

import numba
import numpy as np
import pytest

import fastopt
from fastopt._checks import versions

ROOT = Path(__file__).parent.parent
PYPROJECT = (ROOT/"pyproject.toml").read_text(encoding="utf-8")


def said(key):
    """What pyproject.toml says, on a line or in a list."""
    found, = re.findall(rf"^{key} = (\[.*?\]|\".*?\")$", PYPROJECT, re.MULTILINE | re.DOTALL)
    return ast.literal_eval(found)


def test_one_version():
    citation = (ROOT/"CITATION.cff").read_text(encoding="utf-8")
    assert said("version") == fastopt.__version__ == re.search(r"^version: (.*)$", citation, re.MULTILINE)[1]


def test_bounds():
    """None above for Python, NumPy and Numba; the oldest Numba is the one that .ci/run tests, too."""
    assert re.fullmatch(r">=3\.\d+", said("requires-python"))
    assert said("dependencies") == ["numpy>=2.0", "numba>={}.{}".format(*versions.OLDEST)]
    here = tuple(map(int, numba.__version__.split(".")[:2]))
    assert here in (versions.OLDEST, versions.NEWEST)


def test_classifiers_are_known():
    known = pytest.importorskip("trove_classifiers").classifiers
    found = said("classifiers")
    assert len(found) > 5
    assert not [x for x in found if x not in known]
    assert found == sorted(found)


def test_files_beside_the_package_are_in_its_source_archive():
    found = said("include")
    assert {"CITATION.cff", "CONTRIBUTING.md", "SECURITY.md", "LICENSE"} <= {*found}
    assert not [name for name in found if not (ROOT/name).exists()]


def test_a_newer_numba_gives_one_warning():
    major, minor = versions.NEWEST
    for known in ("0.67.0", "0.68.1", f"{major}.{minor}.9", f"{major}.{minor}.0rc1", "0.5.1", "0+unknown"):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            versions.warn_of_newer(known)
    for newer in (f"{major}.{minor + 1}.0", f"{major}.{minor + 1}.0dev0+9.gabc", "1.0.0"):
        with pytest.warns(UserWarning, match=rf"Numba {re.escape(newer)} was found, newer than {major}\.{minor}, "):
            versions.warn_of_newer(newer)
    program = "import numba; numba.__version__ = '9.1.2'\nimport fastopt; fastopt.SGD; import fastopt.storage"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr.count("Numba 9.1.2 was found") == done.stderr.count("<string>:2: UserWarning: fastopt: ") == 1


def test_warnings_point_at_the_program():
    """All are made by `_checks.warning.warn`, which finds its line."""
    warns = re.compile(r"\bwarn(ings\.warn|_explicit)\(")
    found = [path.name for path in Path(fastopt.__file__).parent.rglob("*.py") if warns.search(path.read_text())]
    assert found == ["warning.py"]


@pytest.mark.parametrize("names", [{}, {"__name__": None}, {"__name__": 3}], ids=repr)
def test_programs_without_a_name_are_warned(names):
    """As `exec` runs them."""
    with pytest.warns(UserWarning, match="rounding='stochastic' is for parameters of 16 bits") as said:
        exec(compile("opt = SGD(p, rounding='stochastic')", "program", "exec"),
             {"SGD": fastopt.SGD, "p": np.ones(3), **names})
    assert [(w.filename, w.lineno) for w in said] == [("program", 1)]


def test_what_is_public():
    assert dir(fastopt) == sorted({*fastopt.__all__, *fastopt.LAZY, "__version__"})
    assert not [name for name in dir(fastopt) if not hasattr(fastopt, name)]
    modules = {path.stem for path in Path(fastopt.__file__).parent.iterdir() if path.suffix == ".py" or path.is_dir()}
    private = {name for name in modules if name.startswith("_")}
    assert modules - private - {*dir(fastopt)} == {"bench", "optimizers"}  # the command, and what `fastopt` repeats


def test_public_names_are_listed_and_documented():
    for name in (name for name in dir(fastopt) if not name.startswith("_")):
        try:
            thing = getattr(fastopt, name)
        except ImportError:  # an extra that is not installed
            continue
        if inspect.ismodule(thing):
            assert len(thing.__doc__) > 20, name
            public = {k: getattr(thing, k) for k in thing.__all__}
            assert not [k for k, of in public.items() if callable(of) and not inspect.getdoc(of)], name


def test_type_checkers_see_every_lazy_module():
    tree = ast.parse(inspect.getsource(fastopt))
    hidden, = (node for node in tree.body if isinstance(node, ast.If))
    names = [(node.module, *(name.asname for name in node.names)) for node in hidden.body]
    assert names == [*((None, name) for name in fastopt.LAZY), ("_training.fit", None)]
