"""Recorded results: named for the machine and not for its owner, drawn always the same, published."""
import contextlib
import importlib
import json
import math
import re
import subprocess
import sys
from pathlib import Path

import pytest

asv = pytest.importorskip("asv")
pytest.importorskip("matplotlib")

ROOT = Path(__file__).parents[1]

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(ROOT))
    record, picture, publish = (importlib.import_module(f"benchmarks.record.{name}")
                                for name in ("__main__", "picture", "publish"))

CEILING, RIVAL = picture.CEILING, picture.RIVAL
SIZES = [1_000, 100_000, 10_000_000]


def save(folder, commit="c0ffee00"*5, date=0, values=None, machine="amd-epyc-zen4-2-cores", samples=None, **more):
    """A result as asv writes it. values: {benchmark: {(rule, n, threads): value}}; samples: lists in their place."""
    from asv.results import Results
    from asv.runner import BenchmarkResult
    described = {"machine": machine, "cpu": "AMD EPYC Zen4", "num_cpu": "2", "ram": "24 GB", "os": "Linux 6",
                 "arch": "x86_64"}
    asv.util.write_json(str(folder/machine/"machine.json"), described, 1)
    given = {"params": described, "requirements": {}, "python": "3.11", "env_name": "virtualenv-py3.11", "env_vars": {},
             **more}
    profile = given.pop("profile", None)
    results = Results(commit_hash=commit, date=date, **given)
    for name, cases in (values or {CEILING: {("adam", 1_000, 1): 2.0}}).items():
        axes = [sorted({case[k] for case in cases}, key=str) for k in range(3)]
        grid = [(a, b, c) for a in axes[0] for b in axes[1] for c in axes[2]]
        taken = [(samples or {}).get(name, {}).get(case) for case in grid]
        found = BenchmarkResult([cases.get(case) for case in grid], taken, [1 if x else None for x in taken], 0, "",
                                profile)
        about = {"name": name, "version": "1", "params": [list(map(repr, axis)) for axis in axes]}
        results.add_result(about, found, record_samples=True)
    results.save(str(folder))
    return folder/machine/f"{commit[:8]}-{given['env_name']}.json"


def table(**values):
    """{rule: values at SIZES} on one thread; on two threads another number, which nobody may look at."""
    return {(rule, n, threads): x if threads == 1 else 99.0 for rule, row in values.items()
            for n, x in zip(SIZES, row, strict=True) for threads in (1, 2)}


VALUES = {
    CEILING: table(momentum=(4.0, 2.0, 1.0), nesterov=(4.0, 2.0, 1.25), adam=(8.0, 2.0, 0.8), sgd=(9.0, 9.0, 9.0)),
    f"{RIVAL}numpy": {**table(momentum=(0.5, 4.0, 5.0), adam=(2.0, 10.0, 5.0)), ("adam", "GPT-2 small", 1): 7.0},
    f"{RIVAL}torch_fused": table(momentum=(20.0, 8.0, math.nan), nesterov=(20.0, 8.0, 1.0), adam=(20.0, None, 1.0)),
    f"{RIVAL}numexpr": table(momentum=(math.nan,)*3, adam=(math.nan,)*3)}


def test_every_environment_imports_them():
    """asv imports all modules of the suite in its own environments, without asv, matplotlib, or even fastopt."""
    code = ("import sys; sys.modules.update(fastopt=None, asv=None, matplotlib=None); "
            "from benchmarks.record import __main__, picture, publish")
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


# record

def test_processor(monkeypatch):
    amd = {"vendor_id": "AuthenticAMD", "model name": "AMD EPYC", "cpu family": 25}
    for lines, name in (({**amd, "model": 17, "flags": "fpu avx512f clwb"}, "AMD EPYC Zen4"),
                        ({**amd, "model": 1, "flags": "fpu clwb"}, "AMD EPYC Zen3"),
                        ({"model name": "AMD EPYC 9R14 96-Core Processor"}, "AMD EPYC 9R14"),
                        ({"model name": "Intel(R) Core(TM) i5-2520M CPU @ 2.50GHz"}, "Intel Core i5-2520M"),
                        ({"vendor_id": "GenuineIntel", "model name": "Intel(R) Xeon(R) Processor @ 2.60GHz",
                          "cpu family": 6, "model": 143}, "Intel Xeon family 6 model 143")):
        one = "\n".join(f"{key}\t: {value}" for key, value in lines.items())
        assert record.processor(f"processor\t: 0\n{one}\n\nprocessor\t: 1\n{one}\n\n") == name


def test_machine_is_named_without_its_owner(monkeypatch):
    # in pieces: a name that the repository contains is no secret
    host, user = "-".join(["some", "machine", "17"]), "_".join(["some", "user"])
    monkeypatch.setattr("platform.node", lambda: f"{host}.example.org")
    monkeypatch.setenv("LOGNAME", user)
    said = record.machine()
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*-\d+-cores", said["machine"])
    assert set(said) == {"machine", "os", "arch", "cpu", "num_cpu", "ram"}
    assert not [text for text in said.values() if any(name in text for name in (host, user, "/"))]
    assert {host, f"{host}.example.org", user} <= set(record.secrets())
    monkeypatch.setenv("LOGNAME", "adam")
    monkeypatch.setattr("platform.node", lambda: "Nesterov")
    assert {"adam", "Nesterov"}.isdisjoint(record.secrets())


def test_what_is_found_is_kept(tmp_path):
    old = save(tmp_path, "0123456789"*4)
    files = record.record("HEAD", ["--quick"], tmp_path, lambda commit, options: save(tmp_path) and 2)
    assert [file.name for file in files] == ["c0ffee00-virtualenv-py3.11.json"]
    assert old.exists()
    with pytest.raises(RuntimeError, match="asv ended with 1 and wrote no result of v1"):
        record.record("v1", [], tmp_path, lambda *_: asv.util.write_json(str(tmp_path/"new"/"machine.json"), {}) or 1)
    assert not (tmp_path/"new"/"machine.json").exists()


LEAKS = [  # what a result holds, and what of it is refused
    ({"env_name": "existing-python"}, None), ({"env_name": "existing-_home_ada_l_venv"}, "existing-_home_ada_l_venv"),
    ({"env_vars": {"HOST": "on Build-Host-17:80"}}, "on Build-Host-17:80"),
    ({"env_vars": {"HOST": "rebuild-host-170"}}, None), ({"env_vars": {"CACHE": r"C:\Users\x"}}, r"C:\\Users\\x"),
    ({"python": "/opt/python3.11/bin/python"}, "/opt/python3.11/bin/python"),
    ({"requirements": {"pip+~/wheels/numba.whl": ""}}, "pip+~/wheels/numba.whl"),
    ({"requirements": {"pip+numba-cuda[cu13]": "0.30.4", "pip+nvidia-nvvm": "13"}}, None),
    ({"values": {CEILING: {("adam", "/tmp/data/x.npy", 1): 1.0}}}, "/tmp/data/x.npy"),
    ({"profile": b"names of files"}, "a profile"), ({"machine": "build-host-17"}, "build-host-17")]


def test_results_that_tell_too_much_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(record, "secrets", lambda: ["build-host-17", "ada_l"])
    for k, (planted, said) in enumerate(LEAKS):
        folder = tmp_path/str(k)
        save(folder, values={CEILING: {("adam", 1, 1): 3.0}})
        before = {file: file.read_bytes() for file in folder.rglob("*.json")}
        with pytest.raises(RuntimeError, match=re.escape(said)) if said else contextlib.nullcontext():
            record.record("HEAD", [], folder, lambda *_: save(folder, date=1, **planted) and 0)  # noqa: B023
        assert ({file: file.read_bytes() for file in folder.rglob("*.json")} == before) is bool(said), planted


def test_what_others_can_measure_stays_listed(tmp_path):
    def listed(**benchmarks):
        return {"version": 2, **{name: {"version": "1", "param_names": ["n", "threads"], "params": params}
                                 for name, params in benchmarks.items()}}

    def run(*_):
        asv.util.write_json(str(tmp_path/"benchmarks.json"), listed(step=[["2", "3"], ["1"]], new=[["1"], ["1"]]))
        save(tmp_path)
    asv.util.write_json(str(tmp_path/"benchmarks.json"), listed(step=[["1", "2"], ["1", "2"]], cuda=[["9"], ["1"]]))
    record.record("HEAD", [], tmp_path, run)
    assert json.loads((tmp_path/"benchmarks.json").read_text()) == listed(
        step=[["2", "3", "1"], ["1", "2"]], new=[["1"], ["1"]], cuda=[["9"], ["1"]])


def test_the_record_has_versions_of_its_own(tmp_path):
    wanted = json.loads((ROOT/"asv.conf.json").read_text(encoding="utf-8"))["matrix"]["req"]
    asked = json.loads(record.configured(tmp_path).read_text(encoding="utf-8"))["matrix"]["req"]
    assert asked == {**wanted, **{f"pip+{name}": [version] for name, version in record.PINS.items()}}


# picture

def test_fractions(tmp_path):
    save(tmp_path, values=VALUES)
    assert picture.fractions(*picture.newest(tmp_path)) == {
        ("momentum", "fastopt"): [(1_000, 0.25), (100_000, 0.5), (10_000_000, 1.0)],
        ("momentum", "numpy"): [(1_000, 0.5), (100_000, 0.125), (10_000_000, 0.2)],
        ("momentum", "torch_fused"): [(1_000, 0.0125), (100_000, 0.0625)],
        ("nesterov", "fastopt"): [(1_000, 0.25), (100_000, 0.5), (10_000_000, 0.8)],
        ("nesterov", "torch_fused"): [(1_000, 0.0125), (100_000, 0.0625), (10_000_000, 0.8)],
        ("adam", "fastopt"): [(1_000, 0.125), (100_000, 0.5), (10_000_000, 1.25)],
        ("adam", "numpy"): [(1_000, 0.0625), (100_000, 0.05), (10_000_000, 0.25)],
        ("adam", "torch_fused"): [(1_000, 0.00625), (10_000_000, 1.25)]}
    case = ("adam", 1_000, 1)
    save(tmp_path/"more", values={CEILING: {case: 1.0}}, samples={CEILING: {case: [2.0, 4.0, 50.0]}})
    assert picture.fractions(*picture.newest(tmp_path/"more")) == {("adam", "fastopt"): [(1_000, 0.25)]}  # their median


def test_the_newest_that_says_something(tmp_path):
    save(tmp_path, "a"*40, 1_000, {CEILING: table(adam=(1.0, 1.0, 1.0))})
    save(tmp_path, "b"*40, 2_000, {CEILING: {("adam", 1_000, 1): 1.0}}, "arm-4-cores")
    save(tmp_path, "b"*40, 2_000, {CEILING: table(adam=(1.0, 1.0, 1.0))})
    save(tmp_path, "c"*40, 3_000, {CEILING: table(lion=(1.0, 1.0, 1.0))})
    assert [(results.commit_hash, results.params["machine"]) for results in picture.newest(tmp_path)] == [
        ("b"*40, "amd-epyc-zen4-2-cores"), ("b"*40, "arm-4-cores")]


def test_the_picture_is_always_the_same(tmp_path):
    save(tmp_path/"results", values=VALUES, date=1_795_508_420_000)
    save(tmp_path/"results", values=VALUES, date=1_795_508_410_000, machine="another")
    for name in ("one", "two"):
        assert picture.main(["--results", str(tmp_path/"results"), "--out", str(tmp_path/name/"throughput.svg")]) == 0
    one, two = ((tmp_path/name/"throughput.svg").read_bytes() for name in ("one", "two"))
    assert one == two
    text = one.decode()
    words = re.findall(r"<text[^>]*>([^<]+)</text>", text)
    assert "float32, 1 thread; AMD EPYC Zen4, 2 cores, 24 GB, Linux 6; commit c0ffee00 of 2026-11-24" in words
    assert {"Momentum", "Nesterov", "Adam", "fastopt", "torch, fused", "NumPy"} <= set(words)
    assert words.count("Nesterov") == 2
    assert "numexpr" not in words
    assert not re.search(r"(?<!:/)/(home|root|tmp|usr)/", text)


# site

def test_publish(tmp_path, monkeypatch):
    """With the real asv, in a repository of one commit: twice into one folder."""
    git = ["git", "-C", str(tmp_path), "-c", "user.name=x", "-c", "user.email=x@example.org"]
    for words in (["init", "-q", "-b", "main"], ["commit", "-q", "--allow-empty", "-m", "one"]):
        subprocess.run([*git, *words], check=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    said = {"version": 1, "project": "x", "repo": ".", "branches": ["main"], "dvcs": "git", "benchmark_dir": "b"}
    (tmp_path/"asv.conf.json").write_text(json.dumps(said))
    monkeypatch.setattr(publish, "ROOT", tmp_path)
    results = tmp_path/"benchmarks"/"record"/"results"
    save(results, commit, 1_795_508_420_000)
    benchmark = {"name": CEILING, "version": "1", "params": [["'adam'"], ["1000"], ["1"]], "type": "track",
                 "param_names": ["rule", "n", "threads"], "unit": "x ceiling", "code": ""}
    asv.util.write_json(str(results/"benchmarks.json"), {CEILING: benchmark}, 2)
    for _ in range(2):
        assert publish.main(["--out", str(tmp_path/"html")]) == 0
    assert json.loads((tmp_path/"html"/"graphs"/"summary"/f"{CEILING}.json").read_text()) == [[0, 2.0]]


def test_other_folders_are_not_emptied(tmp_path):
    (tmp_path/"thesis.tex").touch()
    assert publish.main(["--out", str(tmp_path)]) == 2
    assert (tmp_path/"thesis.tex").exists()
