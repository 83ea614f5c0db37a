"""What is kept on disk is used for one kernel only, made by the modules that run, and by nobody else than this user."""
import ast
import compileall
import cProfile
import errno
import hashlib
import importlib
import logging
import os
import shutil
import subprocess
import sys
import threading
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import RULES
from internals import OWN_RULE, compile_step, cpu_kernel, norm_kernel, of_the_disk, steps_right
from numba.core.bytecode import FunctionIdentity

import fastopt
from fastopt._cpu import headers, pool
from fastopt._kernels import cache
from fastopt.bench import info

PACKAGE = Path(fastopt.__file__).parent
BAD_PLACE = "not kept on disk"
posix = pytest.mark.skipif(os.name != "posix", reason="owners and modes")
linux = pytest.mark.skipif(sys.platform != "linux", reason="other systems have other places")


def kept(name, code=b"code"):
    """What the cache gives under a name, and whether it had it."""
    made = []
    return cache.cached(name, lambda: made.append(name) or code), not made


@pytest.fixture
def warnings(caplog):
    """Gives a function that returns the warnings since the last call."""
    caplog.set_level(logging.WARNING, "fastopt")

    def said():
        messages = [record.getMessage() for record in caplog.records]
        caplog.clear()
        return messages
    return said


# Kernels under other names, and damaged ones

def test_what_was_renamed_is_made_again(fresh):
    kernels = [("sgd", "f32"), ("sgd", "f64"), ("momentum", "f32")]
    paths = [compile_step(*kernel).run._cache.path for kernel in kernels]
    code = [path.read_bytes() for path in paths]
    for path, other in zip(paths, [*code[1:], code[0]], strict=True):
        path.write_bytes(other)
    for kernel in kernels:
        assert [of_the_disk(compile_step(*kernel)) for _ in range(2)] == [False, True], kernel
    assert [kept("step a", b"a"), kept("step a"), kept("step b", b"b")] == [(b"a", False), (b"a", True), (b"b", False)]
    os.replace(cache._path("step a"), cache._path("step b"))
    assert [kept("step b", b"new"), kept("step b")] == [(b"new", False), (b"new", True)]


def damages(data):
    """Contents that are not `data`."""
    flipped = bytearray(data)
    flipped[len(data)//2] ^= 1
    return [b"", data[:10], data[:32], data[:len(data)//2], data[:-1], data + b"x", bytes(flipped),
            os.urandom(len(data)), bytes(len(data)), b"not a kernel at all, but longer than a checksum"]


def test_damaged_files_are_made_again(fresh):
    kept("step a", b"x"*100)
    path = cache._path("step a")
    for data in damages(path.read_bytes()):
        path.write_bytes(data)
        assert [kept("step a", b"new"), kept("step a")] == [(b"new", False), (b"new", True)]
    kernel = compile_step("adam").run._cache
    whole = kernel.path.read_bytes()
    for data in (b"", b"junk", b"\x80\x04N."):  # under a right checksum: nothing, garbage, another pickle
        kernel.path.write_bytes(cache._checksum(kernel.name, data) + data)
        again = [compile_step("adam") for _ in range(2)]
        assert [of_the_disk(one) for one in again] == [False, True]
        assert all(map(steps_right, again))
    kernel.path.write_bytes(whole[:len(whole)//2])
    assert [of_the_disk(compile_step("adam")) for _ in range(2)] == [False, True]
    assert {file.suffix for file in fresh.iterdir()} == {".kernel"}


# Files and directories that others may have made

def of_mode(mode):
    def make(path, good):
        path.write_bytes(good.read_bytes())
        path.chmod(mode)
    return make


FOREIGN = [  # how to make a file that is not used, and whether that is said
    (lambda path, good: os.mkfifo(path), True), (lambda path, good: path.symlink_to(good), False),
    (lambda path, good: path.symlink_to("/dev/zero"), False), *((of_mode(m), True) for m in (0o620, 0o602, 0o666))]


@posix
def test_files_that_others_may_have_written_are_made_again(fresh, warnings):
    for make, said in FOREIGN:
        kept("step a")
        path = cache._path("step a")
        make(path, path.rename(fresh.parent / "good"))
        assert [kept("step a", b"new"), kept("step a")] == [(b"new", False), (b"new", True)]
        assert path.stat().st_mode & 0o077 == 0
        assert [str(fresh) in message for message in warnings()] == [True]*said
        cache._say_once.cache_clear()


@posix
def test_a_directory_that_others_may_write_to_is_not_used(fresh, monkeypatch, warnings):
    """A link to one that only this user may write to is followed."""
    kept("step a")
    for mode in (0o770, 0o707, 0o1777):
        fresh.chmod(mode)
        assert [kept("step a", b"new") for _ in range(2)] == [(b"new", False)]*2
        assert [BAD_PLACE in message and str(fresh) in message for message in warnings()] == [True]
    assert len(list(fresh.iterdir())) == 1
    fresh.chmod(0o755)
    (fresh.parent / "link").symlink_to(fresh)
    monkeypatch.setenv("FASTOPT_CACHE", str(fresh.parent / "link"))
    assert kept("step a") == (b"code", True)


@posix
@pytest.mark.parametrize("part", ["file", "directory"])
def test_what_belongs_to_another_user_is_not_used(part, fresh, warnings, monkeypatch):
    kept("step a")
    theirs, plain = (cache._path("step a") if part == "file" else fresh).stat().st_ino, cache._others

    def others(info):
        return plain(os.stat_result([*info[:4], 4321, *info[5:10]]) if info.st_ino == theirs else info)

    monkeypatch.setattr(cache, "_others", others)
    assert kept("step a", b"new") == (b"new", False)
    assert ["belongs to user 4321" in message for message in warnings()] == [True]
    assert kept("step a") == ((b"new", True) if part == "file" else (b"code", False))
    assert plain(SimpleNamespace(st_uid=0, st_mode=0o100644)) is None  # what belongs to root is used


# Places

def no_home():
    raise RuntimeError("Could not determine home directory.")


@linux
def test_places(tmp_path, fresh, monkeypatch, warnings):
    """Relative ones are not used. A user whom the system does not know (in a container) has none."""
    assert info._cache()["refused"] is None
    (tmp_path / "here").mkdir()
    for variables, path in (
            ({"FASTOPT_CACHE": "/a/b", "XDG_CACHE_HOME": "/x"}, "/a/b"), ({"HOME": "/h"}, "/h/.cache/fastopt"),
            ({"FASTOPT_CACHE": "", "XDG_CACHE_HOME": "/x"}, "/x/fastopt"), ({"FASTOPT_CACHE": "here"}, "relative path"),
            ({"XDG_CACHE_HOME": "here"}, "relative path"), ({"HOME": "here"}, "relative path"), ({}, "")):
        with monkeypatch.context() as patch:
            for name in ("FASTOPT_CACHE", "XDG_CACHE_HOME", "HOME"):
                patch.delenv(name, raising=False)
            for name, value in variables.items():
                patch.setenv(name, value)
            patch.chdir(tmp_path)
            if path.startswith("/"):
                assert cache.directory() == Path(path)
                continue
            if not variables:
                patch.setattr(Path, "home", no_home)
            cache._say_once.cache_clear()
            assert [kept("step a") for _ in range(2)] == [(b"code", False)]*2
            said, = warnings()
            assert all(part in said for part in (path, BAD_PLACE, "FASTOPT_CACHE"))
            assert not path or info._cache()["refused"].endswith("is a relative path")
    assert [p.name for p in tmp_path.rglob("*")] == ["here"]


def raising(number):
    def fail(*args, **kwargs):
        raise OSError(number, os.strerror(number))
    return fail


def test_a_cache_that_cannot_be_written_is_said_once(fresh, monkeypatch, warnings):
    fresh.mkdir()
    for name, number, words in (("os.fdopen", errno.ENOSPC, "No space left"),
                                ("os.replace", errno.ENOSPC, "No space left"),
                                ("pathlib.Path.mkdir", errno.EROFS, "Read-only"),
                                ("tempfile.mkstemp", errno.EACCES, "Permission denied")):
        with monkeypatch.context() as patch:
            patch.setattr(name, raising(number))
            assert [kept("step a") for _ in range(2)] == [(b"code", False)]*2
        assert [words in message and BAD_PLACE in message for message in warnings()] == [True]
        assert list(fresh.iterdir()) == []
        cache._say_once.cache_clear()


# Processes of their own

STEPS = """
import hashlib, sys
import numpy as np
import fastopt
from numba.core import event
""" + OWN_RULE + """
p = np.linspace(-1, 1, 300, dtype=np.float32)
with event.install_recorder("numba:compile") as compiled:
    for opt in (fastopt.Adam(p, lr=0.1, threads=1), fastopt.optimizer(mine)(p, threads=1)):
        for k in range(3):
            opt.step(p*p + np.float32(k), clip_norm=1.0)
print(hashlib.sha256(p).hexdigest(), len(compiled.buffer) > 0)
"""
SGD = """
import numpy as np
import fastopt
from fastopt._kernels.compile import KernelCache
hits, load = [], KernelCache.load_overload
def loads(self, *args):
    result = load(self, *args)
    hits.append(self.hit)
    return result
KernelCache.load_overload = loads
p = np.array([1, 2], np.float32)
fastopt.SGD(p, lr=0.5).step(np.array([1, 1], np.float32))
print(*p, hits[0])
"""


def begin(code, directory, folder=PACKAGE.parent):
    """Python code in a new process, with this cache directory and the package of this folder (or zip)."""
    given = {"FASTOPT_CACHE": str(directory), "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.Popen([sys.executable, "-W", "error", "-c", code], env={**os.environ, **given}, text=True,
                            cwd=folder if folder.is_dir() else folder.parent, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE)


def finish(process):
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    return out.split(), err


def test_two_processes_on_a_fresh_cache_then_a_third(tmp_path):
    """All right at once; the third finds the kernels and compiles nothing."""
    scope = {}
    exec(STEPS.replace("print(", "right = ("), scope)
    right, directory = scope["right"][0], tmp_path / "cache"
    for out, err in map(finish, [begin(STEPS, directory) for _ in range(2)]):
        assert (out[0], err) == (right, "")
    found = sorted(directory.iterdir())
    assert len(found) >= 3
    assert {path.suffix for path in found} == {".kernel"}
    assert finish(begin(STEPS, directory)) == ([right, "False"], "")
    assert sorted(directory.iterdir()) == found


# What makes kernels

def copied(to, name="fastopt"):
    """A copy of the package, without compiled files."""
    shutil.copytree(PACKAGE, to / name, ignore=shutil.ignore_patterns("__pycache__"))
    return to / name


def in_a_folder(package, to):
    shutil.copytree(package, to / package.name)
    return to


def in_a_zip(package, to):
    with zipfile.ZipFile(to / "app.zip", "w") as file:
        for path in package.rglob("*.py"):
            file.write(path, path.relative_to(package.parent))
    return to / "app.zip"


def without_sources(package, to):
    compileall.compile_dir(package, quiet=2, legacy=True)
    for path in package.rglob("*.pyc"):
        target = to / path.relative_to(package.parent)
        target.parent.mkdir(exist_ok=True)
        path.rename(target)
    return to


def edit(path, old="", new="# a comment\n"):
    text = path.read_text()
    assert not old or text.count(old) == 1
    path.write_text(text.replace(old, new) if old else text + new)


FORMULA = "u = c.lr*g\n    return (u,)", "u = -c.lr*g*g - c.lr\n    return (u,)"  # of SGD
CALLERS = ("optimizer.py", "sklearn/estimators.py", "_training/fit.py")  # they call kernels


def test_another_release_is_not_stale(tmp_path):
    """A changed formula is compiled anew. What only calls kernels may change."""
    package, seen = copied(tmp_path), []
    for changed in ((), CALLERS, ("rules.py",)):
        for name in changed:
            edit(package / name, *FORMULA if name == "rules.py" else ())
        out, err = finish(begin(SGD, tmp_path / "cache", tmp_path))
        assert err == ""
        seen.append(" ".join(out))
    assert seen == ["0.5 1.5 False", "0.5 1.5 True", "2.0 3.0 False"]


@pytest.mark.parametrize("installed", [in_a_folder, in_a_zip, without_sources])
def test_the_digest_is_of_what_makes_kernels(installed, tmp_path, monkeypatch):
    """With sources or without: of copies of the package that do nothing when they are imported."""
    package = copied(tmp_path, "copy_of_fastopt")
    (package / "__init__.py").write_text("")
    monkeypatch.setattr(cache, "PACKAGE", package.name)

    def digest(k):
        to = tmp_path / str(k)
        to.mkdir()
        with monkeypatch.context() as patch:
            patch.syspath_prepend(str(installed(package, to)))
            found = cache._own()
        for name in [name for name in sys.modules if name.partition(".")[0] == package.name]:
            del sys.modules[name]
        assert found
        return hashlib.sha256(found).hexdigest()

    seen = [digest(0)]
    for name in CALLERS:
        edit(package / name, new="NEW = 1\n")
    assert digest(1) == seen[0]
    edit(package / "rules.py", *FORMULA)
    seen.append(digest(2))
    for k, name in enumerate(("_kernels/memory.py", "notation.py", "bench/ceiling.py")):
        edit(package / name, new="NEW = 1\n")
        seen.append(digest(3 + k))
    (package / "_rule" / "new.py").write_text("NEW = 1\n")
    seen.append(digest(6))
    assert len(set(seen)) == len(seen)


def test_a_package_in_a_zip_keeps_kernels(tmp_path):
    folder = in_a_zip(copied(tmp_path), tmp_path)
    seen = [finish(begin(SGD, tmp_path / "cache", folder)) for _ in range(2)]
    assert seen == [(["0.5", "1.5", "False"], ""), (["0.5", "1.5", "True"], "")]


def test_a_package_without_sources_and_an_impossible_cache_directory(tmp_path):
    """A warning, and nothing is written elsewhere."""
    (tmp_path / "app").mkdir()
    (tmp_path / "file").write_text("no directory")
    folder = without_sources(copied(tmp_path), tmp_path / "app")
    before = sorted(folder.rglob("*"))
    out, err = finish(begin(SGD, tmp_path / "file" / "cache", folder))
    assert out == ["0.5", "1.5", "False"]
    assert (err.count(BAD_PLACE), err.count("FASTOPT_CACHE"), len(err.splitlines())) == (1, 1, 1)
    assert sorted(folder.rglob("*")) == before


class Frozen:
    """The loader of an application that has code and no files."""

    def __init__(self, source):
        self.source = source

    def get_code(self, name):
        return compile(self.source, f"<frozen {name}>", "exec")


def test_the_code_of_a_frozen_application_is_digested(monkeypatch):
    def executed(source):
        spec = SimpleNamespace(loader=Frozen(source), origin="frozen")
        monkeypatch.setattr("importlib.util.find_spec", lambda name: spec)
        return cache._executed("cpu")

    one = executed("def f(x):\n    return x + 1")
    assert one == executed("# a comment\ndef f(x):\n\n    return x + 1") != b""
    for other in ("def f(x):\n    return x + 2", "def f(x):\n    return x - 1", "def f(x):\n    return x + 1\nK = 2"):
        assert executed(other) != one, other


def test_without_a_digest_nothing_is_kept(fresh, monkeypatch, warnings):
    for spec in (None, SimpleNamespace(loader=None, origin=None, submodule_search_locations=None),
                 SimpleNamespace(loader=object(), origin="x", submodule_search_locations=None),
                 SimpleNamespace(loader=object(), origin="x",
                                 submodule_search_locations=[])):  # it does not list its modules
        with monkeypatch.context() as patch:
            patch.setattr("importlib.util.find_spec", lambda name, spec=spec: spec)
            found = cache._own()
        assert found is None
    monkeypatch.setattr(cache, "OWN", None)
    assert [kept("step a") for _ in range(2)] == [(b"code", False)]*2
    assert ["the loader of fastopt does not tell" in message for message in warnings()] == [True]
    assert not fresh.exists() or list(fresh.iterdir()) == []


def makes_kernels(module):
    return any(f"{module}.".startswith(f"{maker}.") for maker in cache.MAKERS)


def numbers_from_elsewhere(module):
    """What a module imports from modules that make no kernels, and what would become part of one while nothing runs."""
    package = f"fastopt.{module}".rpartition(".")[0]
    tree = ast.parse((PACKAGE / f"{module.replace('.', '/')}.py").read_text())
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom):
            continue
        name = importlib.util.resolve_name("."*node.level + (node.module or ""), package)
        if name.startswith("fastopt.") and not makes_kernels(name.removeprefix("fastopt.")):
            yield from (alias.name for alias in node.names
                        if isinstance(getattr(importlib.import_module(name), alias.name), (int, float)))


def test_code_that_runs_while_kernels_are_made_is_of_makers(fresh, monkeypatch):
    """What Python executes, in a thread of its own where nothing else runs, and what Numba reads."""
    files, plain, profile = set(), FunctionIdentity.from_function, cProfile.Profile(builtins=False)
    monkeypatch.setattr(FunctionIdentity, "from_function",
                        lambda function: files.add(function.__code__.co_filename) or plain(function))

    def make():
        profile.enable()
        for name, format in (("adam", "f32"), ("lion", "bf16")):
            compile_step(name, format)
        cpu_kernel(RULES["momentum"], "f32 f32 q43", anew=True)
        norm_kernel("f32 f32")
        for function in (pool._run, pool._serve, headers._refresh):
            function.__wrapped__()
        profile.disable()

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    files |= {entry.code.co_filename for entry in profile.getstats() if not isinstance(entry.code, str)}
    paths = [Path(file).relative_to(PACKAGE) for file in files if Path(file).is_relative_to(PACKAGE)]
    ran = {".".join(path.with_suffix("").parts) for path in paths}
    assert len(ran) > 10
    assert [module for module in ran if not makes_kernels(module)] in ([], ["_signals"])
    assert [name for module in ran for name in numbers_from_elsewhere(module)] == []
