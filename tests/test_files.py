"""Checkpoints on disk: bit for bit, read by others, all or nothing, and errors that name the path."""
import dataclasses
import importlib
import importlib.util
import json
import os
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from conftest import BFLOAT16, OPTIMIZERS, assert_identical, normal, stored
from reference import arrays_of
from safetensors.numpy import load_file, save_file

import fastopt
from fastopt import files, schedules

f16, f32, f64, u16 = np.float16, np.float32, np.float64, np.uint16
ROOT = Path(__file__).parent.parent


@dataclasses.dataclass
class Layer:
    W: object
    b: object


def parameters(seed=0):
    """One of each: formats, ranks, memory orders, nothing at all; deep in a tree."""
    w = [normal(seed + k, 6).astype(f32) for k in range(6)]
    return {
        "layers": [Layer(w[0].reshape(2, 3), w[1]), Layer(np.asfortranarray(w[2].reshape(3, 2)), np.array(w[3][0]))],
        "half": w[4][:5].astype(f16), "bits": stored(w[5], "bf16"), 7: w[5].astype(BFLOAT16),
        "double": normal(seed + 9, 2, 2), "none": np.zeros((0, 3), f32), "empty": np.zeros(0),
        "ä/\"'": (normal(seed + 11, 5),)}


def everything(opt):
    return [a.copy(order="K") for a in arrays_of(opt)]


def assert_equal(opt, want, t):
    assert opt.t == t
    for have, expected in zip(arrays_of(opt), want, strict=True):
        assert_identical(have, expected)


def walk(opt, steps):
    for _ in range(steps):
        numbers = iter([normal(20*opt.t + i, *t.array.shape).astype(f32) for i, t in enumerate(opt._tensors)])
        opt.step(opt._structure.build(numbers))
    return opt


def shaken(opt, seed=5, t=3):
    """As after some steps, without any: small random numbers everywhere, and a step count. (No kernel is compiled.)"""
    for k, a in enumerate(arrays_of(opt)):
        numbers = np.abs(normal(100*seed + k, *a.shape))
        a[...] = stored(numbers, "bf16").reshape(a.shape) if a.dtype == u16 else numbers
    opt.t = t
    return opt


def make(name, seed=0, **options):
    return OPTIMIZERS[name](parameters(seed), lr=0.05, weight_decay=0.01, **options)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "checkpoint.safetensors"


# What comes back

def test_restored_bit_for_bit(path):
    """In place, in every memory order."""
    cases = [(name, state) for name in OPTIMIZERS for state in (None, "bfloat16")]
    for name, state in [*cases, ("adam", "float16"), ("momentum", "float64")]:
        opt = shaken(make(name, state=state))
        saved = everything(opt)
        files.save(path, opt)
        again = shaken(make(name, seed=50, state=state), seed=9, t=1)
        places = [(a.__array_interface__["data"][0], a.strides) for a in arrays_of(again)]
        files.load(path, again)
        for each in (again, opt):
            assert_equal(each, saved, 3)
        assert [(a.__array_interface__["data"][0], a.strides) for a in arrays_of(again)] == places
        assert dict(again.groups[0]) == dict(opt.groups[0])


def test_every_bit_pattern(path):
    """NaN with their payloads, infinities, subnormals, zeros of both signs."""
    for kind, bits in ((f32, np.uint32), (f64, np.uint64), (f16, u16), (u16, u16)):
        def some(seed, kind=kind, bits=bits):
            return np.random.default_rng(seed).integers(0, np.iinfo(bits).max, 70_000, bits, endpoint=True).view(kind)
        files.save(path, fastopt.SGD(some(1)))
        again = fastopt.SGD(some(2))
        files.load(path, again)
        assert_identical(again.params.view(bits), some(1).view(bits))


def test_groups_and_hyperparameters(path):
    """Numbers and words come from the file, functions stay; neither replaces the other."""
    rate = schedules.cosine(0.1, 100)
    def made(**second):
        return fastopt.Adam([{"params": normal(1, 3), "lr": rate}, {"params": {"b": normal(2, 2)}, **second}], lr=0.2)
    old = made(b1=0.5, eps_mode="hat", lr=0.1 + 0.2)
    walk(old, 2)
    files.save(path, old)
    new = made(b1=0.6, weight_decay=0.3)
    new.groups[1]["b2"] = flat = schedules.constant(0.9)
    files.load(path, new)
    assert new.groups[0]["lr"] is rate
    assert new.groups[1]["b2"] is flat
    assert [new.groups[1][k] for k in ("lr", "b1", "eps_mode", "weight_decay")] == [0.1 + 0.2, 0.5, "hat", 0.0]
    old.groups[1]["b2"] = flat
    assert_equal(walk(new, 2), everything(walk(old, 2)), 4)


def test_a_forgotten_schedule_is_said(path):
    """Loading leaves the number that is there, and warns. It leaves a schedule, too, but that was not forgotten."""
    def made(*rates):
        return fastopt.Adam([{"params": normal(k, 3), "lr": rate} for k, rate in enumerate(rates)])
    old = walk(made(0.1, schedules.cosine(0.1, 100)), 2)
    files.save(path, old)
    said = r"fastopt: groups\[1\]\['lr'\] stays 0.3\. The optimizer that was saved had a function of the step there,"
    for load in (lambda opt: files.load(path, opt), lambda opt: opt.load_state_dict(old.state_dict())):
        new = made(0.2, 0.3)
        with pytest.warns(UserWarning, match=said) as found:
            load(new)
        assert [w.filename for w in found] == [__file__]
        assert [(group["lr"], opt.t) for opt in (new,) for group in opt.groups] == [(0.1, 2), (0.3, 2)]
        same = made(0.2, old.groups[1]["lr"])
        load(same)
        assert same.groups[0]["lr"] == 0.1
        files.save(path.with_name("numbers"), new)
        files.load(path.with_name("numbers"), same)
        assert same.groups[1]["lr"] is old.groups[1]["lr"]


def test_what_others_read(path):
    """safetensors' own reader finds the numbers under the paths."""
    opt = shaken(make("adam", state={"v": "bfloat16"}), t=2)
    files.save(path, opt)
    found = load_file(path)
    names = [t.path for t in opt._tensors]
    assert names[3:6] == ["params['layers'][1].b", "params['half']", "params['bits']"]
    assert set(found) == {*names, *(f"{s} of {name}" for s in "mv" for name in names)}
    assert found["params['bits']"].dtype == found["v of params['half']"].dtype == u16
    for key, a in zip([*names, *(f"{s} of {name}" for s in "mv" for name in names)], arrays_of(opt), strict=True):
        assert_identical(found[key], a.view(found[key].dtype), key)
    raw = path.read_bytes()
    header = json.loads(raw[8:8 + int.from_bytes(raw[:8], "little")])
    about = json.loads(header["__metadata__"]["fastopt"])
    assert (about["rule"], about["t"], about["version"], about["paths"]) == ("adam", 2, 1, names)
    assert about["groups"] == [dict(opt.groups[0])]


# On the disk: all or nothing

class Failed(Exception):
    pass


def cause(monkeypatch, where, error):
    """Make a part of `files.save` fail: the writing, when a part is written, the flush to the disk, or the exchange."""
    calls = []

    def fail(*arguments, **options):
        calls.append(arguments)
        if where == "write":
            Path(arguments[1]).write_bytes(b"a part")
        raise error
    module, name = {"write": (files, "save_file"), "fsync": (files.os, "fsync"),
                    "replace": (files.os, "replace")}[where]
    monkeypatch.setattr(module, name, fail)
    return calls


@pytest.mark.parametrize("where", ["write", "fsync", "replace"])
def test_a_failed_save_leaves_the_old_file(where, path, monkeypatch):
    opt = shaken(make("adam"), 1, t=1)
    files.save(path, opt)
    before, content = everything(opt), path.read_bytes()
    for error in (OSError(28, "No space left on device"), KeyboardInterrupt(), Failed("x")):
        shaken(opt, 2, t=2)
        with monkeypatch.context() as patched:
            calls = cause(patched, where, error)
            with pytest.raises(type(error)) as raised:
                files.save(path, opt)
        assert calls
        if isinstance(error, OSError):
            assert raised.value.errno == 28
            assert str(raised.value) == f"[Errno 28] save: {path}: No space left on device. What was there is unchanged"
        assert os.listdir(path.parent) == [path.name]
        assert path.read_bytes() == content
        files.load(path, opt)
        assert_equal(opt, before, 1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_killed_program_leaves_the_old_file(path):
    """Wherever it is killed; and nothing is in the way of the next."""
    opt = fastopt.Adam([np.ones(1000, f32), np.ones(1000, f32)])
    files.save(path, opt)
    content = path.read_bytes()
    ran = subprocess.run([sys.executable, "-c", """
import os, signal, sys
import numpy as np, fastopt
from fastopt import files
opt = fastopt.Adam([np.zeros(1000, np.float32), np.zeros(1000, np.float32)])
for where in ("save_file", "fsync", "replace"):
    def kill(*arguments, **options):
        if where == "save_file":
            open(arguments[1], "wb").write(b"a part")
        os.kill(os.getpid(), signal.SIGKILL)
    child = os.fork()
    if child == 0:
        setattr(files if where == "save_file" else os, where, kill)
        files.save(sys.argv[1], opt)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
""", path], check=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert ran.stdout.split() == [str(-signal.SIGKILL)]*3
    assert len(os.listdir(path.parent)) == 1 + 3  # and what each left
    assert path.read_bytes() == content
    again = fastopt.Adam([np.zeros(1000, f32), np.zeros(1000, f32)])
    files.load(path, again)
    assert all((w == 1).all() for w in again.params)
    files.save(path, again)


def test_the_order_of_things(path, monkeypatch):
    """Written and on the disk before it takes the old file's place; then the directory."""
    done, sync, replace = [], os.fsync, os.replace

    def synced(fd):
        about = os.fstat(fd)
        done.append("directory" if stat.S_ISDIR(about.st_mode) else about.st_size)
        sync(fd)
    monkeypatch.setattr(files.os, "fsync", synced)
    monkeypatch.setattr(files.os, "replace", lambda a, b: (done.append((os.path.dirname(a), b)), replace(a, b)))
    files.save(path, make("adam"))
    assert done == [path.stat().st_size, (str(path.parent), str(path)), "directory"]


def test_no_step_comes_between(path, monkeypatch):
    opt, save, free = make("adam"), files.save_file, []

    def attempt():
        free.append(opt._turn.lock.acquire(blocking=False))
        if free[-1]:
            opt._turn.lock.release()

    def look(*arguments, **options):
        thread = threading.Thread(target=attempt)
        thread.start()
        thread.join()
        return save(*arguments, **options)
    monkeypatch.setattr(files, "save_file", look)
    files.save(path, opt)
    assert free == [False]
    monkeypatch.undo()
    attempt()
    assert free[-1]


class Spelled:
    def __init__(self, path):
        self.path = path

    def __fspath__(self):
        return os.fsencode(self.path)


def test_links_relative_paths_and_permissions(path, monkeypatch):
    link = path.with_name("latest")
    link.symlink_to(path.name)
    monkeypatch.chdir(path.parent)
    opt = make("sgd")
    old = os.umask(0o027)
    try:
        files.save(Spelled("latest"), opt)
    finally:
        os.umask(old)
    assert link.is_symlink()
    assert path.stat().st_mode & 0o777 == 0o640
    for spelled in ("latest", Spelled(path)):
        again = make("sgd", seed=50)
        files.load(spelled, again)
        assert_equal(again, everything(opt), 0)


NOT_WRITTEN = [  # what is to be done is in tests/test_cures_states.py
    (lambda p, opt: files.save(p.parent, opt), ValueError,
     "save: {dir} is no file, but one is to be written. Give the path of a file."),
    (lambda p, opt: files.save(os.devnull, opt), ValueError, "save: /dev/null is no file"),
    (lambda p, opt: files.save(p/"x"/"y", opt), FileNotFoundError,
     "save: {path}/x/y: no such directory, but one is needed"),
    (lambda p, opt: files.save(p, opt.params), TypeError,
     "save: opt is a dict, but an optimizer is needed. Call save(path, opt)."),
    (lambda p, opt: files.load(p, opt.state_dict()), TypeError,
     "load: opt is a dict, but an optimizer is needed. Call load(path, opt)."),
    (lambda p, opt: files.load(5, opt), TypeError, "load: 5, but the path of a file is needed. Give one."),
    (lambda p, opt: files.load("a\0b", opt), ValueError, "load: 'a\\x00b' can be no path of a file. Give another."),
    (lambda p, opt: files.save("\ud800", opt), ValueError, "save: '\\ud800' can be no path of a file."),
    (lambda p, opt: files.save(f"{p}/", opt), FileNotFoundError,
     "save: {path}/: no such directory, but it ends as one. Give the path of a file."),
    (lambda p, opt: files.save(f"{p.parent}/", opt), ValueError, "save: {dir} is no file, but one"),
    (lambda p, opt: files.save("", opt), ValueError, " is no file, but one is to be written."),
    (lambda p, opt: files.load(p, opt), FileNotFoundError, "[Errno 2] No such file or directory: '{path}'")]


def test_where_nothing_is_written(path):
    for call, error, message in NOT_WRITTEN:
        with pytest.raises(error) as raised:
            call(path, make("sgd"))
        assert message.format(path=path, dir=path.parent) in str(raised.value)
        assert os.listdir(path.parent) == []


# What is refused

def small(**options):
    return fastopt.Adam({"w": np.arange(6, dtype=f32).reshape(2, 3), "b": [np.ones(2, f16)]}, **options)


def changed(path, change):
    """The file with another account of itself."""
    raw = path.read_bytes()
    end = 8 + int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8:end])
    about = json.loads(header["__metadata__"]["fastopt"])
    data = change(header, about)
    header["__metadata__"] = {"fastopt": json.dumps(about)} | (data or {})
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + raw[end:])


def told(change):
    """A file with another account of itself."""
    return lambda p: changed(p, lambda header, about: change(about) and None)


def other(metadata, *arrays):
    return lambda p: save_file({"w": np.ones(3, *arrays)}, p, metadata)


WHOLE = "no whole checkpoint of fastopt "
BROKEN = [(lambda p: p.write_bytes(b""), WHOLE + "(SafetensorError: "),
          (lambda p: p.write_text("nothing of the kind"), WHOLE + "(SafetensorError: "),
          (lambda p: p.write_bytes(p.read_bytes()[:-1]), WHOLE + "(SafetensorError: "),
          (other(None), WHOLE + "(KeyError: 'fastopt'), but a file that fastopt.files.save wrote is needed. Give the "
                                "path of one."),
          (other({"fastopt": "{}"}, np.int64), WHOLE + "(KeyError: 'paths')"),
          (other({"fastopt": "[1]"}), WHOLE + "(TypeError: "), (other({"fastopt": "{"}), WHOLE + "(JSONDecodeError: "),
          (other({"fastopt": "["*100_000}), WHOLE + "(RecursionError: "),
          (told(lambda a: a["paths"].append("params['c']")), WHOLE + "(SafetensorError: "),
          (told(lambda a: a.update(param_groups=[{"params": [0, 1]}], version=a.pop("groups"))), "no groups in it."),
          (told(lambda a: a.update(version=2)), "version 2, but this fastopt reads 1. Update fastopt."),
          (told(lambda a: a["groups"][0].update(lr=-1.0)), "group 0: lr is -1.0, but a finite number, 0 or more,")]
OTHERS = [
    (lambda: fastopt.AMSGrad(small().params), "the state of adam, but this optimizer is amsgrad. Make that one first."),
    (lambda: fastopt.Adam({"w": np.ones((2, 3), f32), "c": [np.ones(2, f16)]}),
     "the checkpoint has no params['c'][0] and params['b'][0], which this optimizer has not."),
    (lambda: small(state="bfloat16"), "m of params['w']: stored as float32, but this optimizer keeps uint16."),
    (lambda: fastopt.Adam({"w": np.ones((2, 3), f32), "b": [np.ones(2, f32)]}),
     "params['b'][0]: stored as f16, but the parameter is f32. Load it into"),
    (lambda: fastopt.Adam({"w": np.ones((2, 3)), "b": [np.ones(2, f16)]}),  # its states are float64, too
     "params['w']: stored as f32, but the parameter is f64. Load it into an optimizer of f32 parameters, convert")]
STATELESS = [(lambda: fastopt.SGD({"v": np.ones((2, 3), f32)}),
              "no params['v'] and params['w'], which this optimizer has not. Give the"),
             (lambda: fastopt.SGD({"w": np.ones((1, 3), f32)}), "params['w']: shape (2, 3), but (1, 3) is needed.")]


def test_what_does_not_fit_changes_nothing(path):
    """A broken file; that of another optimizer; parameters where there is no state to tell."""
    for spoil, message in BROKEN:
        files.save(path, small())
        spoil(path)
        refused(path, small(), message)
    for saved, cases in ((small(), OTHERS), (fastopt.SGD({"w": np.ones((2, 3), f32)}), STATELESS)):
        files.save(path, saved)
        for make_other, message in cases:
            refused(path, make_other(), message)


def refused(path, opt, message):
    shaken(opt, t=1)
    before, groups = everything(opt), [dict(g) for g in opt.groups]
    with pytest.raises(ValueError) as raised:
        files.load(path, opt)
    assert str(raised.value).startswith(f"load: {path}: ")
    assert message in str(raised.value)
    assert "load_state_dict" not in str(raised.value)
    assert_equal(opt, before, 1)
    assert [dict(g) for g in opt.groups] == groups


def test_what_is_checked_is_what_is_loaded(path):
    """A key of torch's layout beside those of ours does not make it another: all is loaded or nothing."""
    opt = shaken(small(), t=3)
    files.save(path, opt)
    changed(path, lambda header, about: about.update(param_groups=[]))
    again = shaken(small(), seed=9, t=1)
    files.load(path, again)
    assert_equal(again, everything(opt), 3)


def test_within_a_step(path):
    """A schedule may save, as it may read the state, but not load."""
    said = []

    def rate(t):
        files.save(path, opt)
        with pytest.raises(RuntimeError, match="load: called within a step of the same optimizer"):
            files.load(path, opt)
        said.append(t)
        return 0.5
    opt = fastopt.SGD(np.zeros(3), lr=rate)
    opt.step(np.ones(3))
    assert said == [1]
    assert opt.params.tolist() == [-0.5]*3
    files.load(path, opt)
    assert opt.params.tolist() == [0]*3
    assert opt.t == 0


def test_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.delitem(sys.modules, "fastopt.files")
    with pytest.raises(ImportError, match=r'^fastopt\.files: .* Install it with: pip install "fastopt\[files\]"$'):
        importlib.import_module("fastopt.files")


# On a device

@pytest.mark.skipif(importlib.util.find_spec("numba_cuda") is None, reason="the extra `cuda` is not installed")
def test_from_a_device_and_back(stand_in, path):
    """The stand-in driver's device: the same bits on both sides."""
    from devices import to_device

    def host(seed):
        return {"w": normal(seed, 3, 5).astype(f32), "b": [normal(1, 7).astype(f32)],
                "F": np.asfortranarray(normal(seed, 2, 3), f32)}
    g = host(30)
    here, there = fastopt.Momentum(host(0), lr=0.1), fastopt.Momentum(to_device(host(0)), lr=0.1)
    for _ in range(2):
        here.step(g)
        there.step(to_device(g))
    files.save(path, there)
    again, back = fastopt.Momentum(host(50)), fastopt.Momentum(to_device(host(60)))
    files.load(path, again)
    assert_equal(again, everything(here), 2)
    files.save(path, here)
    files.load(path, back)
    back.step(to_device(g))
    here.step(g)
    files.save(path, back)
    files.load(path, again)
    assert_equal(again, everything(here), 3)
