"""What is kept on disk is used for one kernel only, made by the modules that run, and by nobody else than this user."""
import ast
import compileall
import importlib
import logging
import os
import subprocess
import sys
import threading
import zipfile
from pathlib import Path
from types import CodeType, SimpleNamespace

import pytest
from conftest import RULES
from test_numba import BAD_PLACE, EDITED, PACKAGE, compile_step, copy_of_the_package

from fastopt._cpu import headers, pool
from fastopt._cpu import loops as cpu
from fastopt._kernels import cache
from fastopt._signals import Undisturbed
from fastopt.bench import info

posix = pytest.mark.skipif(os.name != "posix", reason="owners and modes")


def kept(name, code=b"code"):
    """What the cache gives under a name, and whether it had it."""
    made = []
    return cache.cached(name, lambda: made.append(name) or code), not made


# One kernel's code under another's name

def test_a_renamed_file_is_compiled_again(fresh):
    kernels = [("sgd", "f32"), ("sgd", "f64"), ("momentum", "f32"), ("adam", "f32")]
    paths = [compile_step(*kernel).run._cache.path for kernel in kernels]
    code = [path.read_bytes() for path in paths]
    for path, other in zip(paths, [*code[1:], code[0]], strict=True):
        path.write_bytes(other)
    for name, format in kernels:
        assert [compile_step(name, format).run._cache.hit for _ in range(2)] == [False, True], (name, format)


def test_a_renamed_image_is_made_again(fresh):
    assert [kept("step a", b"a"), kept("step a"), kept("step b", b"b")] == [(b"a", False), (b"a", True), (b"b", False)]
    os.replace(cache._path("step a"), cache._path("step b"))
    assert [kept("step b", b"new"), kept("step b")] == [(b"new", False), (b"new", True)]


# Files and directories that others may have made

def a_pipe(path, good):
    os.mkfifo(path)


def a_link(path, good):
    path.symlink_to(good)


def a_link_to_a_device(path, good):
    path.symlink_to("/dev/zero")


def of_mode(mode):
    def make(path, good):
        path.write_bytes(good.read_bytes())
        path.chmod(mode)
    return make


@posix
@pytest.mark.parametrize("make", [a_pipe, a_link, a_link_to_a_device, of_mode(0o620), of_mode(0o602), of_mode(0o666)])
def test_files_that_others_may_have_written_are_made_again(make, fresh, caplog):
    kept("step a")
    path = cache._path("step a")
    good = path.rename(fresh.parent / "good")
    make(path, good)
    with caplog.at_level(logging.WARNING, "fastopt"):
        assert [kept("step a", b"new"), kept("step a")] == [(b"new", False), (b"new", True)]
    assert path.stat().st_mode & 0o077 == 0
    assert [str(fresh) in r.getMessage() for r in caplog.records] == [True]*len(caplog.records)
    assert len(caplog.records) == (make not in (a_link, a_link_to_a_device))


@posix
@pytest.mark.parametrize("mode", [0o770, 0o707, 0o1777])
def test_a_directory_that_others_may_write_to_is_not_used(mode, fresh, caplog):
    kept("step a")
    fresh.chmod(mode)
    with caplog.at_level(logging.WARNING, "fastopt"):
        assert [kept("step a", b"new") for _ in range(2)] == [(b"new", False)]*2
    assert [BAD_PLACE in r.getMessage() and str(fresh) in r.getMessage() for r in caplog.records] == [True]
    assert len(list(fresh.iterdir())) == 1
    fresh.chmod(0o755)
    assert kept("step a") == (b"code", True)


@posix
@pytest.mark.parametrize("part", ["file", "directory"])
def test_what_belongs_to_another_user_is_not_used(part, fresh, caplog, monkeypatch):
    kept("step a")
    info = (cache._path("step a") if part == "file" else fresh).stat()
    theirs = info.st_ino
    plain = cache._others

    def others(info):
        return plain(os.stat_result([*info[:4], 4321, *info[5:10]]) if info.st_ino == theirs else info)

    monkeypatch.setattr(cache, "_others", others)
    with caplog.at_level(logging.WARNING, "fastopt"):
        assert kept("step a", b"new") == (b"new", False)
    assert ["belongs to user 4321" in r.getMessage() for r in caplog.records] == [True]
    assert kept("step a") == ((b"new", True) if part == "file" else (b"code", False))


@posix
def test_what_belongs_to_root_is_used():
    info = SimpleNamespace(st_uid=0, st_mode=0o100644)
    assert cache._others(info) is None


@posix
def test_a_link_to_a_directory_is_followed(fresh, monkeypatch):
    kept("step a")
    (fresh.parent / "link").symlink_to(fresh)
    monkeypatch.setenv("FASTOPT_CACHE", str(fresh.parent / "link"))
    assert kept("step a") == (b"code", True)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have other places")
@pytest.mark.parametrize("variable", ["FASTOPT_CACHE", "XDG_CACHE_HOME", "HOME"])
def test_a_relative_path_is_not_used(variable, tmp_path, fresh, monkeypatch, caplog):
    for name in ("FASTOPT_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, "here")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    with caplog.at_level(logging.WARNING, "fastopt"):
        assert [kept("step a") for _ in range(2)] == [(b"code", False)]*2
    assert ["relative path" in r.getMessage() and "FASTOPT_CACHE" in r.getMessage() for r in caplog.records] == [True]
    assert [p.name for p in tmp_path.rglob("*")] == ["here"]


# What makes kernels

RUN = """
import numpy as np
import fastopt
p = np.array([1, 2], np.float32)
fastopt.SGD(p, lr=0.5).step(np.array([1, 1], np.float32))
print(*p, fastopt._cpu.loops.step_kernel(fastopt.rules.sgd.digest, "f32 f32").run._cache.hit)
"""


def in_a_folder(package, to):
    return package.parent


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


def edited(package, name):
    old, new = EDITED[name]
    text = (package / name).read_text()
    assert text.count(old) == 1
    (package / name).write_text(text.replace(old, new))


@pytest.mark.parametrize("installed", [in_a_folder, in_a_zip, without_sources])
def test_another_release_is_not_stale(installed, tmp_path):
    """With sources or without: a formula that changed is compiled anew, and nothing is after a change elsewhere."""
    package, seen = copy_of_the_package(tmp_path), []
    environment = {**os.environ, "FASTOPT_CACHE": str(tmp_path / "cache"), "PYTHONDONTWRITEBYTECODE": "1"}
    for release in range(3):
        if release == 1:
            with (package / "sklearn.py").open("a") as file:
                file.write("# a comment\nNEW = 1\n")
        if release == 2:
            edited(package, "registry.py")
        to = tmp_path / str(release)
        to.mkdir()
        done = subprocess.run([sys.executable, "-W", "error", "-c", RUN],
                              env={**environment, "PYTHONPATH": str(installed(package, to))},
                              cwd=to, capture_output=True, text=True, check=True)
        assert done.stderr == ""
        seen.append(done.stdout.split())
    assert seen == [["0.5", "1.5", "False"], ["0.5", "1.5", "True"], ["0.0", "1.0", "False"]]


class Frozen:
    """The loader of an application that has code and no files."""

    def __init__(self, **source):
        self.source = source

    def get_code(self, name):
        return compile(self.source[name.rpartition(".")[2]], f"<frozen {name}>", "exec")


def test_the_code_of_a_frozen_application_is_digested(monkeypatch):
    def executed(loader):
        spec = SimpleNamespace(loader=loader, origin="frozen")
        monkeypatch.setattr("importlib.util.find_spec", lambda name: spec)
        return cache._executed("cpu")

    one = executed(Frozen(cpu="def f(x):\n    return x + 1"))
    assert one == executed(Frozen(cpu="# a comment\ndef f(x):\n\n    return x + 1")) != b""
    for other in ("def f(x):\n    return x + 2", "def f(x):\n    return x - 1", "def f(x):\n    return x + 1\nK = 2"):
        assert executed(Frozen(cpu=other)) != one, other


@pytest.mark.parametrize("spec", [None, SimpleNamespace(loader=None, origin=None),
                                  SimpleNamespace(loader=object(), origin="x")])
def test_without_a_digest_nothing_is_kept(spec, fresh, monkeypatch, caplog):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: spec)
    monkeypatch.setattr(cache, "OWN", cache._own())
    with caplog.at_level(logging.WARNING, "fastopt"):
        assert [kept("step a") for _ in range(2)] == [(b"code", False)]*2
    assert ["the loader of fastopt does not tell" in r.getMessage() for r in caplog.records] == [True]
    assert not fresh.exists() or list(fresh.iterdir()) == []


HOST = {"arrays", "device_arrays", "hyper", "interrupts", "storage", "straight", "tensors", "undisturbed"}
# are imported where kernels are made, but never into one


def imports(module):
    """{module of the package: names taken from it} of a module, wherever in it they stand."""
    found = {}
    for node in ast.walk(ast.parse((PACKAGE / f"{module}.py").read_text())):
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            for alias in node.names:
                found.setdefault(node.module or alias.name, set()).add(alias.name)
    return found


def test_the_makers_are_those_that_compile_and_what_they_import():
    modules = {path.stem for path in PACKAGE.glob("*.py")}
    takes = {module: imports(module) for module in modules}
    ways = {"cpu": {"compiled", "kernel", "jitted"}, "cuda_code": {"code"}, "cache": {"cached", "KernelCache"}}
    seen, todo = set(), ["rules", *ways, *(m for m, of in takes.items() if any(of.get(at, set()) & names for at,
                                                                               names in ways.items()))]
    while todo:
        module = todo.pop()
        if module not in seen and module not in HOST:
            seen.add(module)
            todo += takes[module]
    assert seen == set(cache.MAKERS)
    for module in cache.MAKERS:
        for host in HOST & takes[module].keys():
            names = takes[module][host] - {"LINE", "PAGE", "STAGGER",
                                           "RANGES"}  # where arrays of the ceiling lie; what is refused
            values = [getattr(importlib.import_module(f"fastopt.{host}"), name) for name in names]
            assert all(callable(value) or isinstance(value, (str, Undisturbed)) for value in values), (module, host)


def test_code_that_runs_while_kernels_are_made_is_of_makers(fresh):
    """Everything of the package that Python executes meanwhile, in a thread of its own, where nothing else runs."""
    ran = set()

    def note(frame, event, argument):
        code: CodeType = frame.f_code
        if event == "call" and Path(code.co_filename).parent == PACKAGE:
            ran.add(Path(code.co_filename).stem)

    def make():
        sys.setprofile(note)
        for name, format in (("adam", "f32"), ("lion", "bf16")):
            compile_step(name, format)
        cpu.step_kernel.__wrapped__(RULES["momentum"].digest, "f32 f32 q43")
        cpu.squares_kernel.__wrapped__("f32 f32")
        for function in (pool._run, pool._serve, headers._refresh):
            function.__wrapped__()
        sys.setprofile(None)

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    assert len(ran) > 10
    assert ran <= {*cache.MAKERS, "undisturbed"}


def test_info_says_why_a_directory_is_refused(monkeypatch):
    assert info._cache()["refused"] is None
    monkeypatch.setenv("FASTOPT_CACHE", "here")
    assert info._cache()["refused"] == "'here' is a relative path"
