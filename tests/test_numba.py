"""Numba's side: rules inside the user's jitted code, what LLVM makes of a kernel, what compiling costs, and the cache on disk."""
import errno
import hashlib
import inspect
import logging
import os
import platform
import re
import shutil
import subprocess
import sys
import textwrap
import types
from pathlib import Path

import llvmlite.binding
import numba
import numpy as np
import pytest
from conftest import OWN, RULES, assert_identical, normal
from numba import njit, prange

import fastopt
from fastopt import kernels
from fastopt._cpu import jobs as binding
from fastopt._cpu import loops as cpu
from fastopt._formats.catalogue import FORMATS
from fastopt._kernels import cache
from fastopt._rule import digest as digests

PACKAGE = Path(fastopt.__file__).parent
X86 = platform.machine().lower() in ("x86_64", "amd64")
AVX2 = X86 and llvmlite.binding.get_host_cpu_features().get("avx2", False)
each_rule = pytest.mark.parametrize("name", RULES)
DISTINCT = [name for name in RULES if name != "adamw"]  # AdamW's kernel is Adam's


# Rules inside the user's own compiled code

def loops(rule, **flags):
    """What a user would write: a loop that calls the rule, for each number of states; and one call that shows its types."""
    one = njit(lambda c, g, p, *state: rule(c, g, p, *state))

    def no_state(c, g, p):
        for i in prange(p.size):
            p[i], = rule(c, g[i], p[i])

    def one_state(c, g, p, v):
        for i in prange(p.size):
            p[i], v[i] = rule(c, g[i], p[i], v[i])

    def two_states(c, g, p, m, v):
        for i in prange(p.size):
            p[i], m[i], v[i] = rule(c, g[i], p[i], m[i], v[i])

    def three_states(c, g, p, m, v, top):
        for i in prange(p.size):
            p[i], m[i], v[i], top[i] = rule(c, g[i], p[i], m[i], v[i], top[i])

    return njit(**flags)([no_state, one_state, two_states, three_states][len(rule.state)]), one


def check_in_user_code(name, dtype, **flags):
    rule, n = RULES[name], 1_003
    loop, one = loops(rule, **flags)
    have = [normal(k, n).astype(dtype) if k == 0 else abs(normal(k, n)).astype(dtype)
            for k in range(1 + len(rule.state))]
    want = [a.copy() for a in have]
    for t in (1, 2, 3):
        g = normal(10 + t, n).astype(dtype)
        c = rule.at(t, dtype, **OWN[name][0], weight_decay=0.1, clip_value=1.5)
        loop(c, g, *have)
        want = rule(c, g, *want)
        for a, b in zip(have, want, strict=True):
            assert_identical(a, b, f"{name} step {t}")
    one(c, g[0], *(a[0] for a in have))
    value = numba.from_dtype(np.dtype(dtype))
    assert [tuple(s.return_type) for s in one.nopython_signatures] == [(value,)*(1 + len(rule.state))]


@each_rule
def test_rule_in_user_code(name):
    check_in_user_code(name, np.float32)


def test_rule_in_user_code_of_float64():
    check_in_user_code("nadam", np.float64)


@pytest.mark.parametrize("name", ["sgd", "lion", "radam", "amsgrad"])
def test_rule_in_parallel_user_code(name):
    check_in_user_code(name, np.float32, parallel=True)


def test_a_training_loop_inside_one_function():
    """fastopt.kernels in nopython code gives the bits of the Optimizer."""
    coefs, target = kernels.table(RULES["adam"], 20, lr=0.1), normal(1, 101).astype(np.float32)

    @njit
    def train(w, m, v, coefs):
        for t in range(len(coefs)):
            kernels.adam(coefs[t], w - target, w, m, v)

    w, m, v = np.zeros((3, 101), np.float32)
    train(w, m, v, coefs)
    p = np.zeros(101, np.float32)
    opt = fastopt.Adam(p, lr=0.1)
    for _ in range(20):
        opt.step(p - target)
    for have, want in ((w, p), (m, opt.state["m"]), (v, opt.state["v"])):
        assert_identical(have, want)


# What LLVM makes of a kernel

def formats_of(name, format):
    return " ".join([format, format, *["f64" if format == "f64" else "f32"]*len(RULES[name].state)])


def compile_step(name, format="f32"):
    return cpu.step_kernel.__wrapped__(RULES[name].digest, formats_of(name, format))


def text(kernel, kind):
    return next(iter(getattr(kernel.run, f"inspect_{kind}")().values()))


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("name", DISTINCT)
def test_machine_code(name, format, fresh):
    """No float64 in a kernel of float32 arithmetic, and every operation of the rule on whole vectors."""
    kernel = compile_step(name, format)
    wide = format == "f64"
    assert ("double" in text(kernel, "llvm")) == wide
    asm = text(kernel, "asm")
    if X86:
        assert not re.findall(r"v?cvt(?:ss2sd|sd2ss|ps2pd|pd2ps)", asm)
        assert wide or not re.findall(r"\bv?(?:mov|add|sub|mul|div|sqrt|max|min)[su]?[sp]d\s", asm)
    if AVX2:
        source = inspect.getsource(RULES[name].body)
        wanted = {op for op, sign in {"mul": "*", "sub": " - ", "div": " / ", "sqrt": "sqrt("}.items()
                  if sign in source}
        packed = {op for op, width in re.findall(r"\bv(mul|sub|div|sqrt)p([sd])\s[^\n]*%[yz]mm", asm)
                  if (width == "d") == wide}
        assert wanted <= packed
        assert f"{'double' if wide else 'float'}>" in text(kernel, "llvm")


@pytest.mark.skipif(not AVX2, reason="looks for AVX registers")
def test_the_norm_is_vectorised(fresh):
    for format in FORMATS:
        asm = text(cpu.squares_kernel.__wrapped__(f"{format} {format}"), "asm")
        assert re.search(r"\bvmulpd\s[^\n]*%[yz]mm", asm), format
        assert re.search(r"\bvaddpd\s[^\n]*%[yz]mm", asm), format


# Processes of their own

STEP = """
import hashlib
import numpy as np
import fastopt
from fastopt._cpu import loops as cpu
from numba.core import event
with event.install_recorder("numba:compile") as compiled:
    kernel = cpu.step_kernel(fastopt.rules.adam.digest, "f32 f32 f32 f32")
p = np.linspace(-1, 1, 300, dtype=np.float32)
opt = fastopt.Adam(p, lr=0.1, threads=1)
for k in range(3):
    opt.step(p*p + np.float32(k), clip_norm=1.0)
print(hashlib.sha256(p).hexdigest(), kernel.run._cache.hit, len(compiled.buffer))
"""


def expected():
    p = np.linspace(-1, 1, 300, dtype=np.float32)
    opt = fastopt.Adam(p, lr=0.1, threads=1)
    for k in range(3):
        opt.step(p*p + np.float32(k), clip_norm=1.0)
    return hashlib.sha256(p).hexdigest()


def begin(code, directory, package=PACKAGE):
    """Python code in a new process, with this cache directory and this copy of the package."""
    environment = {**os.environ, "FASTOPT_CACHE": str(directory), "PYTHONPATH": str(package.parent),
                   "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.Popen([sys.executable, "-W", "error", "-c", code], env=environment, cwd=package.parent, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def finish(process):
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    return out.split(), err


def run(code, directory, package=PACKAGE):
    return finish(begin(code, directory, package))


def leftovers(directory):
    return [path.name for path in directory.iterdir() if path.suffix != ".kernel"]


def test_four_processes_on_a_fresh_cache_then_a_fifth(tmp_path):
    """All right at once; the fifth finds the kernel and compiles nothing."""
    directory = tmp_path / "cache"
    for out, err in map(finish, [begin(STEP, directory) for _ in range(4)]):
        assert (out[0], err) == (expected(), "")
    assert leftovers(directory) == []
    kept = sorted(directory.iterdir())
    assert len(kept) >= 2
    out, err = run(STEP, directory)
    assert (out, err) == ([expected(), "True", "0"], "")
    assert sorted(directory.iterdir()) == kept


FORK = """
import os, signal, threading
import numba.core.event as event
import numpy as np
import fastopt
compiling = threading.Event()
class Listener(event.Listener):
    def on_start(self, happened):
        compiling.set()
    def on_end(self, happened):
        pass
event.register("numba:compile", Listener())
other = threading.Thread(target=fastopt._cpu.loops.step_kernel, args=(fastopt.rules.adam.digest, "f32 f32 f32 f32"))
other.start()
compiling.wait()
child = os.fork()
if child == 0:
    signal.alarm(300)
    p = np.ones(3, np.float32)
    fastopt.SGD(p, lr=0.5, threads=1).step(p.copy())
    os._exit(0 if p.tolist() == [0.5]*3 else 1)
print(os.waitpid(child, 0)[1])
other.join()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_fork_while_another_thread_compiles(tmp_path):
    """The child inherits no lock that nobody will release: it compiles and steps."""
    assert run(FORK, tmp_path / "cache") == (["0"], "")


def copy_of_the_package(tmp_path):
    target = tmp_path / "copy" / "fastopt"
    shutil.copytree(PACKAGE, target, ignore=shutil.ignore_patterns("__pycache__"))
    return target


SGD = """
import numpy as np
import fastopt
p = np.array([1, 2], np.float32)
opt = fastopt.SGD(p, lr=0.5)
opt.step(np.array([1, 1], np.float32))
print(*p)
"""


EDITED = {  # of a rule, and of a file that no rule names
    "rules.py": ("u = c.lr*g\n    return (u,)", "u = -c.lr*g*g - c.lr\n    return (u,)"),
    "registry.py": ("return clip(c.scale*g, c.clip) + c.l2*p\n", "return clip(c.scale*g, c.clip) + c.l2*p + c.scale\n"),
}


def test_an_edited_package_is_not_stale(tmp_path):
    package, seen = copy_of_the_package(tmp_path), [run(SGD, tmp_path / "cache")[0]]
    for name, (old, new) in EDITED.items():
        before = (package / name).read_text()
        assert before.count(old) == 1
        (package / name).write_text(before.replace(old, new))
        seen.append(run(SGD, tmp_path / "cache", package)[0])
    assert seen == [["0.5", "1.5"], ["2.0", "3.0"], ["3.5", "4.5"]]


USER = """
import numpy as np
import fastopt
@fastopt.rule(state="v", lr=0.5)
def mine(c, g, p, v):
    v = v + g
    u = c.lr*v
    return u, v
p = np.array([1, 2], np.float32)
fastopt.optimizer(mine)(p, lr=0.5).step(np.array([1, 1], np.float32))
print(*p, fastopt._cpu.loops.step_kernel(mine.digest, "f32 f32 f32").run._cache.hit)
"""


def test_an_edited_rule_of_a_script_is_not_stale(tmp_path):
    script, seen = tmp_path / "train.py", []
    start = f"exec(compile(open({str(script)!r}).read(), {str(script)!r}, 'exec'))"
    for text_of_script in (USER, USER, USER.replace("v = v + g", "v = v + g + g"), USER):
        script.write_text(text_of_script)
        seen.append(run(start, tmp_path / "cache")[0])
    assert seen == [["0.5", "1.5", "False"], ["0.5", "1.5", "True"], ["0.0", "1.0", "False"], ["0.5", "1.5", "True"]]


def digest(source):
    """The digest of the rule `mine` in this source, whose imports `helpers` and `deeper` are modules of the same source."""
    module = types.ModuleType("user")
    bare = types.SimpleNamespace(rule=lambda **hyper: lambda body: types.SimpleNamespace(digest=digests.digest(body)))
    module.__dict__.update(fastopt=bare, np=np, njit=njit,
                           types=types)  # a rule holds no numbers, which a digest must see all the same
    exec(source, module.__dict__)
    return module.mine.digest


BODY = "@fastopt.rule(lr=0.1)\ndef mine(c, g, p):\n    {}\n    return (p,)\n"
MODULE = "helpers = types.ModuleType('helpers')\nexec('''{}''', helpers.__dict__)\n"
EDITS = {
    "constant": (BODY.format("p = p - np.float32(2)*g"), "(2)", "(3)"),
    "sign": (BODY.format("p = p - c.lr*g"), "p - c", "p + c"),
    "order of arguments": (BODY.format("p = p/g"), "p/g", "g/p"),
    "helper": ("def f(x):\n    return x + x\n" + BODY.format("p = f(g)"), "x + x", "x*x"),
    "helper of a helper": ("def h(x):\n    return x + x\ndef f(x):\n    return h(x)\n" + BODY.format("p = f(g)"),
                           "x + x", "x*x"),
    "compiled helper": ("@njit\ndef f(x):\n    return x + x\n" + BODY.format("p = f(g)"), "x + x", "x*x"),
    "global number": ("K = 2.5\n" + BODY.format("p = p - K*g"), "2.5", "3.5"),
    "global array": ("K = np.arange(5_000.)\nK[2_500] = 7\n" + BODY.format("p = p - K[2_500]*g"), "7", "8"),
    "default of a helper": ("def f(x, k=2.0):\n    return x*k\n" + BODY.format("p = f(g)"), "2.0", "3.0"),
    "closure": (
        "def make(k):\n" + textwrap.indent(BODY.format("p = p - k*g"), "    ") + "    return mine\nmine = make(2.5)\n",
                "2.5", "3.5"),
    "nested function": (BODY.format("f = lambda x: x*np.float32(2)\n    p = f(g)"), "2)", "3)"),
    "global number of a nested function": ("K = 2.5\n" + BODY.format("f = lambda x: x*K\n    p = f(g)"), "2.5", "3.5"),
    "function of a module": (MODULE.format("def f(x):\\n    return x + x\\n") + BODY.format("p = helpers.f(g)"),
                             "x + x", "x*x"),
    "number of a module": (MODULE.format("K = 2.5") + BODY.format("p = p - helpers.K*g"), "2.5", "3.5"),
}


@pytest.mark.parametrize("edit", EDITS)
def test_every_edit_of_a_rule_changes_its_digest(edit):
    source, old, new = EDITS[edit]
    assert source.count(old) >= 1
    assert digest(source) == digest(source)
    assert digest(source) != digest(source.replace(old, new))


# Caches that cannot be written

BAD_PLACE = "not kept on disk"


def test_a_read_only_package_and_an_impossible_cache_directory(tmp_path):
    package = copy_of_the_package(tmp_path)
    (tmp_path / "file").write_text("no directory")
    paths = [package, *package.rglob("*")]
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        before = sorted(path.name for path in package.rglob("*"))
        out, err = run(STEP, tmp_path / "file" / "cache", package)
        assert sorted(path.name for path in package.rglob("*")) == before
    finally:
        for path in paths:
            path.chmod(0o755)
    assert out[:2] == [expected(), "False"]
    assert err.count(BAD_PLACE) == 1
    assert "FASTOPT_CACHE" in err
    assert len(err.splitlines()) == 1


def steps_right(kernel):
    """Whether this kernel of Adam's float32 step does what the rule does."""
    rule, (g, p, m, v) = RULES["adam"], [abs(normal(k, 77)).astype(np.float32) for k in range(4)]
    c = rule.at(3, np.float32)
    want = rule(c, g, p.copy(), m.copy(), v.copy())
    binding.Job("f32 f32 f32 f32", [[g], [p], [m], [v]], [0], np.array([c], np.float32)).run(kernel, 1)
    return all(np.array_equal(a, b) for a, b in zip((p, m, v), want, strict=True))


def sealed(data):
    """Contents with the right checksum for the file of Adam's float32 kernel."""
    return cache._checksum(cpu.step_kernel(RULES["adam"].digest, formats_of("adam", "f32")).run._cache.name,
                           data) + data


def damaged(path, how):
    data = path.read_bytes()
    flipped = bytearray(data)
    flipped[len(data)//2] ^= 1
    path.write_bytes({"empty": b"", "10 bytes": data[:10], "32 bytes": data[:32], "half": data[:len(data)//2],
                      "all but one": data[:-1],
                      "one more": data + b"x", "one bit": bytes(flipped), "garbage": os.urandom(len(data)),
                      "zeros": bytes(len(data)),
                      "text": b"not a kernel at all, but longer than a checksum", "checksum of nothing": sealed(b""),
                      "checksum of garbage": sealed(b"junk"), "another pickle": sealed(b"\x80\x04N.")}[how])


@pytest.fixture(scope="module")
def good_file(tmp_path_factory):
    """The file of Adam's float32 kernel."""
    directory = tmp_path_factory.mktemp("good")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASTOPT_CACHE", str(directory))
        hits = [compile_step("adam").run._cache.hit for _ in range(2)]
    assert hits == [False, True]
    return next(directory.iterdir())


@pytest.mark.parametrize("how", ["empty", "10 bytes", "32 bytes", "half", "all but one", "one more", "one bit",
                                 "garbage", "zeros", "text",
                                 "checksum of nothing", "checksum of garbage", "another pickle"])
def test_damaged_files_are_compiled_again(how, fresh, good_file):
    fresh.mkdir()
    path = fresh / good_file.name
    shutil.copy(good_file, path)
    damaged(path, how)
    hits = []
    for _ in range(2):
        kernel = compile_step("adam")
        hits.append(kernel.run._cache.hit)
        assert steps_right(kernel)
    assert hits == [False, True]
    assert [p.name for p in fresh.iterdir()] == [path.name]


class FullDisk:
    """A file that takes nothing."""

    def __init__(self, handle, mode):
        self.handle = handle

    def __enter__(self):
        return self

    def __exit__(self, *error):
        os.close(self.handle)

    def write(self, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def raising(number):
    def fail(*args, **kwargs):
        raise OSError(number, os.strerror(number))
    return fail


TROUBLE = {
    "full disk while writing": ("os.fdopen", FullDisk, "No space left"),
    "full disk while moving": ("os.replace", raising(errno.ENOSPC), "No space left"),
    "full disk from the start": ("tempfile.mkstemp", raising(errno.ENOSPC), "No space left"),
    "read-only disk": ("pathlib.Path.mkdir", raising(errno.EROFS), "Read-only"),
    "forbidden": ("tempfile.mkstemp", raising(errno.EACCES), "Permission denied"),
}


@pytest.mark.parametrize("trouble", TROUBLE)
def test_a_cache_that_cannot_be_written_is_said_once(trouble, fresh, monkeypatch, caplog):
    name, replacement, words = TROUBLE[trouble]
    fresh.mkdir()
    monkeypatch.setattr(name, replacement)
    with caplog.at_level(logging.WARNING, "fastopt"):
        for _ in range(2):
            kernel = compile_step("adam")
            assert steps_right(kernel)
            assert not kernel.run._cache.hit
    monkeypatch.undo()
    assert [words in record.getMessage() and BAD_PLACE in record.getMessage() for record in caplog.records] == [True]
    assert list(fresh.iterdir()) == []


def test_a_user_without_a_home_directory(fresh, monkeypatch, caplog):
    """A container with an unknown user: nothing is kept, and that is said once."""
    def no_home():
        raise RuntimeError("Could not determine home directory.")
    for variable in ("FASTOPT_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    with caplog.at_level(logging.WARNING, "fastopt"):
        for _ in range(2):
            assert steps_right(compile_step("adam"))
    assert [BAD_PLACE in record.getMessage() for record in caplog.records] == [True]


@pytest.mark.parametrize(("variables", "path"), [
    ({"FASTOPT_CACHE": "/a/b", "XDG_CACHE_HOME": "/x"}, "/a/b"),
                                                 ({"FASTOPT_CACHE": "", "XDG_CACHE_HOME": "/x"}, "/x/fastopt"),
    ({"HOME": "/h"}, "/h/.cache/fastopt")])
@pytest.mark.skipif(sys.platform != "linux", reason="other systems have other places")
def test_where_kernels_are_kept(variables, path, monkeypatch):
    for variable in ("FASTOPT_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    assert cache.directory() == Path(path)


def test_file_names_tell_kernels_apart(fresh):
    """Rule, formats and strides are part of the name; processors and versions are part of `sources`."""
    names = ("step a f32 f32", "step b f32 f32", "step a f32* f32", "step a f32 f64", "squares f32 f32")
    paths = [cache.KernelCache(name).path for name in names]
    assert len(set(paths)) == len(names)
    assert {path.parent for path in paths} == {fresh}
