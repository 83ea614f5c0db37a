"""Recorded results: named for the machine and not for its owner, drawn always the same, published for a browser with no network."""
import base64
import hashlib
import importlib
import io
import json
import math
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

asv = pytest.importorskip("asv")
pytest.importorskip("matplotlib")

ROOT = Path(__file__).parents[1]

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(ROOT))
    record, picture, publish = (importlib.import_module(f"benchmarks.{name}") for name in ("record", "picture",
                                                                                           "publish"))

CEILING, RIVAL = picture.CEILING, picture.RIVAL
SIZES = [1_000, 100_000, 10_000_000]


def save(folder, commit="c0ffee00"*5, date=0, values=None, machine="amd-epyc-zen4-2-cores", samples=None, **more):
    """A result as asv writes it. values: {benchmark: {(rule, n, threads): value}}; samples: the same, for `track_` with samples."""
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
        results.add_result({"name": name, "version": "1", "params": [list(map(repr, axis)) for axis in axes]}, found,
                           record_samples=True)
    results.save(str(folder))
    return folder/machine/f"{commit[:8]}-{given['env_name']}.json"


def table(**values):
    """{rule: (value at 1e3, at 1e5, at 1e7)} on one thread; on two threads another number, which nobody may look at."""
    return {(rule, n, threads): x if threads == 1 else 99.0 for rule, row in values.items()
            for n, x in zip(SIZES, row, strict=True) for threads in (1, 2)}


VALUES = {
    CEILING: table(momentum=(4.0, 2.0, 1.0), nesterov=(4.0, 2.0, 1.25), adam=(8.0, 2.0, 0.8), sgd=(9.0, 9.0, 9.0)),
    f"{RIVAL}numpy": {**table(momentum=(0.5, 4.0, 5.0), adam=(2.0, 10.0, 5.0)), ("adam", "GPT-2 small", 1): 7.0},
    f"{RIVAL}torch_fused": table(momentum=(20.0, 8.0, math.nan), nesterov=(20.0, 8.0, 1.0), adam=(20.0, None, 1.0)),
    f"{RIVAL}numexpr": table(momentum=(math.nan,)*3, adam=(math.nan,)*3),
    f"{RIVAL}abacus": table(adam=(1.0, 1.0, 1.0)),
}


def test_every_environment_imports_them():
    """asv imports all modules of the suite in its own environments, which have neither asv nor matplotlib, nor always fastopt."""
    code = "import sys; sys.modules.update(fastopt=None, asv=None, matplotlib=None); from benchmarks import picture, publish, record"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


# record

def cpuinfo(**lines):
    one = "\n".join(f"{key.replace('_', ' ')}\t: {value}" for key, value in lines.items()).replace("vendor id",
                                                                                                   "vendor_id")
    return f"processor\t: 0\n{one}\n\nprocessor\t: 1\n{one}\n\n"


AMD = {"vendor_id": "AuthenticAMD", "model_name": "AMD EPYC"}


@pytest.mark.parametrize(("lines", "name"), [
    ({**AMD, "cpu_family": 25, "model": 17, "flags": "fpu avx512f clwb"}, "AMD EPYC Zen4"),
    ({**AMD, "cpu_family": 25, "model": 1, "flags": "fpu clwb"}, "AMD EPYC Zen3"),
    ({**AMD, "cpu_family": 26, "model": 2, "flags": "fpu avx512f"}, "AMD EPYC Zen5"),
    ({**AMD, "cpu_family": 99, "model": 2, "flags": ""}, "AMD EPYC family 99 model 2"),
    ({"model_name": "AMD EPYC 9R14 96-Core Processor"}, "AMD EPYC 9R14"),
    ({"model_name": "Intel(R) Core(TM) i5-2520M CPU @ 2.50GHz"}, "Intel Core i5-2520M"),
    ({"vendor_id": "GenuineIntel", "model_name": "Intel(R) Xeon(R) Processor @ 2.60GHz", "cpu_family": 6, "model": 143},
     "Intel Xeon family 6 model 143"),
], ids=str)
def test_processor(lines, name):
    assert record.processor(cpuinfo(**lines)) == name


def test_processor_of_other_systems(monkeypatch):
    monkeypatch.setattr("platform.processor", lambda: "arm")
    assert record.processor("") == "arm"


def test_machine_is_named_without_its_owner(monkeypatch):
    host, user = "-".join(["some", "machine", "17"]), "_".join(["some",
                                                                "user"])  # in pieces: what the repository says is no secret
    monkeypatch.setattr("platform.node", lambda: f"{host}.example.org")
    monkeypatch.setenv("LOGNAME", user)
    said = record.machine()
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*-\d+-cores", said["machine"])
    assert set(said) == {"machine", "os", "arch", "cpu", "num_cpu", "ram"}
    for text in said.values():
        assert not any(name in text for name in (host, user, "/"))
    assert {host, f"{host}.example.org", user} <= set(record.secrets())


def test_a_name_that_the_repository_contains_is_no_secret(monkeypatch):
    monkeypatch.setenv("LOGNAME", "adam")
    monkeypatch.setattr("platform.node", lambda: "Nesterov")
    assert {"adam", "Nesterov"}.isdisjoint(record.secrets())


def test_what_is_found_is_kept(tmp_path):
    old = save(tmp_path, "0123456789"*4)
    files = record.record("HEAD", ["--quick"], tmp_path, lambda commit, options: save(tmp_path) and 2)
    assert [file.name for file in files] == ["c0ffee00-virtualenv-py3.11.json"]
    assert record.numbers(files[0]) == "1 of 1 benchmarks have numbers"
    assert old.exists()
    nothing = save(tmp_path, values={CEILING: {("adam", 1, 1): None}, f"{RIVAL}numpy": {("adam", 1, 1): math.nan}})
    assert record.numbers(nothing) == "0 of 2 benchmarks have numbers"


@pytest.mark.parametrize(("planted", "said"), [
    ({"env_name": "existing-python"}, None),
    ({"env_name": "existing-_home_ada_l_venv"}, "existing-_home_ada_l_venv"),
    ({"env_vars": {"HOST": "on Build-Host-17:80"}}, "on Build-Host-17:80"),
    ({"env_vars": {"HOST": "rebuild-host-170"}}, None),
    ({"python": "/opt/python3.11/bin/python"}, "/opt/python3.11/bin/python"),
    ({"requirements": {"pip+~/wheels/numba.whl": ""}}, "pip+~/wheels/numba.whl"),
    ({"requirements": {"pip+numba-cuda[cu13]": "0.30.4", "pip+nvidia-nvvm": "13"}}, None),
    ({"env_vars": {"CACHE": r"C:\Users\x"}}, r"C:\\Users\\x"),
    ({"values": {CEILING: {("adam", "/tmp/data/x.npy", 1): 1.0}}}, "/tmp/data/x.npy"),
    ({"profile": b"names of files"}, "a profile"),
    ({"machine": "build-host-17"}, "build-host-17"),
], ids=str)
def test_results_that_tell_too_much_are_refused(planted, said, tmp_path, monkeypatch):
    monkeypatch.setattr(record, "secrets", lambda: ["build-host-17", "ada_l"])
    old = save(tmp_path, values={CEILING: {("adam", 1, 1): 3.0}})
    before = {file: file.read_bytes() for file in tmp_path.rglob("*.json")}
    if said is None:
        assert record.record("HEAD", [], tmp_path, lambda *_: save(tmp_path, date=1, **planted) and 0)
        return
    with pytest.raises(RuntimeError, match=re.escape(said)) as error:
        record.record("HEAD", [], tmp_path, lambda *_: save(tmp_path, date=1, **planted) and 0)
    assert re.fullmatch(r"record: .+\.json holds .+, needed no name or path of this machine\. .+", str(error.value))
    assert {file: file.read_bytes() for file in tmp_path.rglob("*.json")} == before
    assert old.exists()


def test_sources_of_benchmarks_may_hold_paths(tmp_path):
    file = tmp_path/"benchmarks.json"
    file.write_text(json.dumps({"bench.f": {"name": "bench.f", "code": "open('/proc/self/maps')"}, "version": 2}))
    assert record.leak(file, []) is None


def test_nothing_recorded_is_an_error(tmp_path):
    old = save(tmp_path)
    with pytest.raises(RuntimeError, match=r"record: asv ended with 1 and wrote no result of v1 to .+\. Read what it "
                                           r"says above\."):
        record.record("v1", [], tmp_path, lambda *_: asv.util.write_json(str(tmp_path/"new"/"machine.json"), {}) or 1)
    assert [file for file in tmp_path.rglob("*.json") if file.name != "machine.json"] == [old]
    assert not (tmp_path/"new"/"machine.json").exists()


@pytest.mark.parametrize(("words", "asked"), [
    ([], [("HEAD", [])]),
    (["v1", "v2", "--", "-b", "Step"], [("v1", ["-b", "Step"]), ("v2", ["-b", "Step"])]),
])
def test_commits_come_before_the_options_of_asv(words, asked, monkeypatch, capsys):
    def refuse(commit, options):
        seen.append((commit, options))
        if commit == "v2":
            raise RuntimeError("record: refused")
        return []
    seen = []
    monkeypatch.setattr(record, "record", refuse)
    assert record.main(words) == (2 if words else 0)
    assert seen == asked
    assert capsys.readouterr().err == ("record: refused\n" if words else "")


ASV = """
import os, sys
home, config = os.path.expanduser("~"), sys.argv[2]
found = [home, sys.argv[1:], open(home + "/.asv-machine.json").read(), open(config).read(), os.listdir(os.path.dirname(config))]
open("said", "w").write(repr(found))
sys.exit(2)
"""


def test_asv_runs_in_a_home_of_its_own(tmp_path, monkeypatch):
    """An asv that prints its arguments and its machine file."""
    (tmp_path/"asv").mkdir()
    (tmp_path/"asv"/"__init__.py").touch()
    (tmp_path/"asv.conf.json").write_text('{"version": 1, "env_dir": ".asv/env", "pythons": ["3.11"], "results_dir": '
                                          '"elsewhere"}')
    (tmp_path/"pyproject.toml").write_text("[build-system]")
    (tmp_path/"asv"/"__main__.py").write_text(ASV)
    assert record.run("HEAD", ["-b", "Step"], tmp_path) == 2
    home, arguments, machine, config, beside = eval((tmp_path/"said").read_text())
    assert home != str(Path.home())
    assert not Path(home).exists()
    assert json.loads(config) == {"version": 1, "pythons": ["3.11"], "repo": str(tmp_path),
                                  "benchmark_dir": str(tmp_path/"benchmarks"),
                                  "env_dir": str(tmp_path/".asv"/"env"), "html_dir": str(tmp_path/"html"),
                                  "results_dir": str(tmp_path/"benchmarks"/"results")}
    assert "pyproject.toml" in beside
    assert arguments[0] == "--config"
    assert arguments[2:] == ["run", "HEAD^!", "--machine", record.machine()["machine"], "-b", "Step"]
    assert json.loads(machine) == {record.machine()["machine"]: record.machine(), "version": 1}


# picture

def test_fractions(tmp_path):
    save(tmp_path, values=VALUES)
    assert picture.fractions(picture.newest(tmp_path)) == {
        ("momentum", "fastopt"): [(1_000, 0.25), (100_000, 0.5), (10_000_000, 1.0)],
        ("momentum", "numpy"): [(1_000, 0.5), (100_000, 0.125), (10_000_000, 0.2)],
        ("momentum", "torch_fused"): [(1_000, 0.0125), (100_000, 0.0625)],
        ("nesterov", "fastopt"): [(1_000, 0.25), (100_000, 0.5), (10_000_000, 0.8)],
        ("nesterov", "torch_fused"): [(1_000, 0.0125), (100_000, 0.0625), (10_000_000, 0.8)],
        ("adam", "fastopt"): [(1_000, 0.125), (100_000, 0.5), (10_000_000, 1.25)],
        ("adam", "numpy"): [(1_000, 0.0625), (100_000, 0.05), (10_000_000, 0.25)],
        ("adam", "torch_fused"): [(1_000, 0.00625), (10_000_000, 1.25)],
    }


def test_samples_count_by_their_median(tmp_path):
    case = ("adam", 1_000, 1)
    save(tmp_path, values={CEILING: {case: 1.0}}, samples={CEILING: {case: [2.0, 4.0, 50.0]}})
    assert picture.fractions(picture.newest(tmp_path)) == {("adam", "fastopt"): [(1_000, 0.25)]}


def test_the_newest_that_says_something(tmp_path):
    save(tmp_path, "a"*40, 1_000, {CEILING: table(adam=(1.0, 1.0, 1.0))})
    save(tmp_path, "b"*40, 2_000, {CEILING: {("adam", 1_000, 1): 1.0}}, "arm-4-cores")
    save(tmp_path, "b"*40, 2_000, {CEILING: table(adam=(1.0, 1.0, 1.0))})
    save(tmp_path, "c"*40, 3_000, {CEILING: table(lion=(1.0, 1.0, 1.0))})
    results = picture.newest(tmp_path)
    assert (results.commit_hash, results.params["machine"]) == ("b"*40, "amd-epyc-zen4-2-cores")


def test_the_picture_is_always_the_same(tmp_path):
    save(tmp_path/"results", values=VALUES, date=1_795_508_420_000)
    for name in ("one", "two"):
        assert picture.main(["--results", str(tmp_path/"results"), "--out", str(tmp_path/name/"throughput.svg")]) == 0
    one, two = ((tmp_path/name/"throughput.svg").read_bytes() for name in ("one", "two"))
    assert one == two
    assert len(one) < 100_000
    text = one.decode()
    words = re.findall(r"<text[^>]*>([^<]+)</text>", text)
    assert "float32, 1 thread; AMD EPYC Zen4, 2 cores, 24 GB, Linux 6; commit c0ffee00 of 2026-11-24" in words
    assert {"Momentum", "Nesterov", "Adam", "fastopt", "torch, fused", "NumPy"} <= set(words)
    assert "numexpr" not in words
    assert str(tmp_path) not in text
    assert not re.search(r"(?<!:/)/(home|root|tmp|usr|work)/", text)


def test_names_do_not_overlap():
    assert picture.apart([0.5, 0.1, 0.11, 0.9], 0.05) == pytest.approx([0.5, 0.1, 0.15, 0.9])


def test_no_picture_without_results(tmp_path, capsys):
    save(tmp_path, values={CEILING: table(lion=(1.0, 1.0, 1.0))})
    assert picture.main(["--results", str(tmp_path), "--out", str(tmp_path/"x.svg")]) == 2
    assert capsys.readouterr().err == (f"picture: {tmp_path} holds no result of bench_step.Step.track_vs_ceiling for "
                                       f"momentum, nesterov, "
                                       "adam on 1 thread. Measure one: python benchmarks/record.py HEAD\n")
    assert not (tmp_path/"x.svg").exists()


# site

def pack(folder, styles="@font-face{src:url(../fonts/a.woff)}"):
    """Tarballs that hold just what the site takes from npm's."""
    made = {}
    for name, library in publish.LIBRARIES.items():
        made[name] = folder/f"{name.replace('@', '-')}.tgz"
        fonts = [f"{library.fonts}a.woff"] if library.fonts != "none" else []
        with tarfile.open(made[name], "w:gz") as archive:
            for member in [*library.files.values(), *fonts, "README.md"]:
                content = (styles if member.endswith(".css") else f"/* {member} */").encode()
                entry = tarfile.TarInfo(f"package/{member}")
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
    return made


@pytest.fixture
def published(tmp_path):
    """What `asv publish` leaves, from the asv that is installed."""
    out = tmp_path/"html"
    shutil.copytree(Path(asv.__file__).parent/"www", out)
    (out/"graphs"/"summary").mkdir(parents=True)
    (out/"info.json").write_text('{"timestamp": 1}')
    (out/"graphs"/"summary"/"bench_step.Step.json").write_text("[[1, NaN], [2, 0.5]]")
    return out


def test_the_site_loads_nothing_from_a_network(published, tmp_path):
    assert len(list(publish.remote(published))) == 10
    publish.make_local(published, pack(tmp_path))
    assert list(publish.remote(published)) == []
    page = (published/"index.html").read_text()
    tags = re.findall(r'<(?:script|link)\b[^>]*?\s(?:src|href)="([^"]+)"', page)
    assert all((published/tag).exists() for tag in tags if tag != "regressions.xml")
    assert not re.search("integrity|crossorigin|referrerpolicy", page)
    order = [tags.index(file) for file in ("vendor/jquery/dist/jquery.min.js", "data.js", "vendor/local.js", "asv.js")]
    assert order == sorted(order)
    assert (published/"vendor/bootstrap/dist/fonts/a.woff").exists()
    assert not (published/"vendor/bootstrap/README.md").exists()
    assert '<a href="https://github.com/airspeed-velocity/asv/"' in page


@pytest.mark.parametrize("tag", ["<link rel='stylesheet' href='//x.example.org/a.css'>",
                                 '<script src="https://cdn.example.org/new-1.0.js"></script>',
                                 '<script src="https://code.example.org/jquery-3.4.0.min.js"></script>'])
def test_an_unknown_library_is_an_error(tag, published, tmp_path):
    page = published/"index.html"
    page.write_text(page.read_text().replace("</head>", f"{tag}</head>"))
    with pytest.raises(RuntimeError, match=r"publish: asv's page loads (https:)?//.*, needed one of jquery@3\.3\.1, .* "
                                           r"Add it to LIB"):
        publish.make_local(published, pack(tmp_path))


@pytest.mark.parametrize(("file", "text", "address"), [
    ("styles", '@import "https://fonts.example.org/x"', "https://fonts.example.org/x"),
    ("styles", "a{src:url( '//fonts.example.org/x.woff')}", "//fonts.example.org/x.woff"),
    ("asv.js", "script.src = 'https://cdn.example.org/x.js';", "https://cdn.example.org/x.js"),
    ("asv.js", 'import("https://cdn.example.org/x.js")', "https://cdn.example.org/x.js"),
    ("index.html", '<script src="asv.js"></script><script>a.src="//cdn.example.org/x.js"</script>',
     "//cdn.example.org/x.js"),
    ("index.html", '<script src="asv.js"></script><img src="http://example.org/x.png">', "http://example.org/x.png"),
])
def test_what_still_loads_something_is_an_error(file, text, address, published, tmp_path):
    if file != "styles":
        (published/file).write_text(text)
    with pytest.raises(RuntimeError, match=f"still loads {re.escape(address)}, needed nothing from a network"):
        publish.make_local(published, pack(tmp_path, text if file == "styles" else ""))


def test_a_page_without_the_place_for_the_data_is_an_error():
    with pytest.raises(RuntimeError, match=r"publish: asv's page has 0 tags for asv\.js, needed 1"):
        publish.localized('<script src="main.js"></script>')


ASK = """
const fs = require("fs"), asked = {}, said = [];
globalThis.jQuery = {ajaxTransport: (kind, make) => { asked.make = make; asked.kind = kind; }};
const out = process.argv[1];
(0, eval)(fs.readFileSync(out + "/data.js", "utf8"));
(0, eval)(fs.readFileSync(out + "/vendor/local.js", "utf8"));
for (const [url, type] of JSON.parse(process.argv[2])) {
    const way = asked.make({url: url, dataTypes: [type]});
    let now = true;
    const told = (answer) => answer ? answer[type === "*" ? "json" : type] : null;
    if (way) { way.send({}, (status, text, answer) => said.push([url, now, status, told(answer)])); }
    else { said.push([url, "elsewhere"]); }
    now = false;
}
setTimeout(() => console.log(JSON.stringify([asked.kind, said])), 20);
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
def test_the_data_answers(published, tmp_path):
    """As asv asks: with the time behind a question mark, path components encoded; later, not at once."""
    (published/"graphs"/"a [x] 100%").mkdir()
    (published/"graphs"/"a [x] 100%"/"b+c.json").write_text("[1]")
    publish.make_local(published, pack(tmp_path))
    asked = [("info.json?_=17", "json"), ("./info.json", "*"),
             ("graphs/a%20%5Bx%5D%20100%25/b%2Bc.json?timestamp=17", "json"),
             ("graphs/summary/bench_step.Step.json?timestamp=undefined", "json"), ("graphs/none.json", "json"),
             ("swallow.ico?_=3", "text"),
             ("https://example.org/info.json", "json"), ("//example.org/info.json", "json"), ("asv.css", "text")]
    done = subprocess.run(["node", "-e", ASK, "--", str(published), json.dumps(asked)], capture_output=True, text=True,
                          check=True)
    kind, said = json.loads(done.stdout)
    assert kind == "+*"
    answers = {url: rest for url, *rest in said}
    assert answers == {"info.json?_=17": [False, 200, {"timestamp": 1}], "./info.json": [False, 200, {"timestamp": 1}],
                       asked[2][0]: [False, 200, [1]], asked[3][0]: [False, 200, [[1, None], [2, 0.5]]],
                       "graphs/none.json": [False, 404, None], "swallow.ico?_=3": [False, 200, ""],
                       **{url: ["elsewhere"] for url, _ in asked[6:]}}


def test_packages_are_checked(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    file = tmp_path/"flot-0.8.3.tgz"
    file.write_bytes(b"as published")
    own = base64.b64encode(hashlib.sha512(b"as published").digest()).decode()
    assert publish.tarball("flot@0.8.3", own, tmp_path) == file
    with pytest.raises(RuntimeError, match=r"flot-0\.8\.3\.tgz has sha512-.*, needed sha512-abc\. Delete it and run "
                                           r"this again\."):
        publish.tarball("flot@0.8.3", "abc", tmp_path)
    assert all(len(base64.b64decode(library.sha512)) == 64 for library in publish.LIBRARIES.values())


NPM = {"none": None, "failing": "#!/bin/sh\necho no network >&2\nexit 1\n", "saying nothing": "#!/bin/sh\nexit 0\n"}


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script stands for npm")
@pytest.mark.parametrize(("npm", "said"), [
    ("none", "found no npm, needed jquery@3.3.1. Install Node.js"),
    ("failing", "npm pack jquery@3.3.1 ended with 1"),
    ("saying nothing", "ended with 0, needed jquery-3.3.1.tgz"),
])
def test_without_npm(npm, said, tmp_path, monkeypatch, capsys):
    if NPM[npm]:
        (tmp_path/"npm").write_text(NPM[npm])
        (tmp_path/"npm").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert publish.main(["--out", str(tmp_path/"html"), "--scripts", str(tmp_path/"scripts")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("publish: ")
    assert said in error
    assert "no network" in error or npm != "failing"


def test_other_folders_are_not_emptied(tmp_path, capsys):
    (tmp_path/"thesis.tex").touch()
    assert publish.main(["--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err == (f"publish: {tmp_path} holds other files, needed a new folder or an old site: "
                                       f"asv empties it. "
                                       "Name another.\n")
    assert (tmp_path/"thesis.tex").exists()


def test_publish(tmp_path, monkeypatch, capfd):
    """With the real asv, in a repository of one commit: twice into one folder; without results an error."""
    git = ["git", "-C", str(tmp_path), "-c", "user.name=x", "-c", "user.email=x@example.org"]
    for words in (["init", "-q", "-b", "main"], ["commit", "-q", "--allow-empty", "-m", "one"]):
        subprocess.run([*git, *words], check=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    said = {"version": 1, "project": "x", "repo": ".", "branches": ["main"], "dvcs": "git", "benchmark_dir": "b"}
    (tmp_path/"asv.conf.json").write_text(json.dumps(said))
    monkeypatch.setattr(publish, "ROOT", tmp_path)
    made = pack(tmp_path)
    monkeypatch.setattr(publish, "tarball", lambda name, sha512, folder: made[name])
    assert publish.main(["--out", str(tmp_path/"html")]) == 2
    assert "publish: asv publish ended with 1, needed 0." in capfd.readouterr().err
    save(tmp_path/"benchmarks"/"results", commit, 1_795_508_420_000)
    benchmark = {"name": CEILING, "version": "1", "params": [["'adam'"], ["1000"], ["1"]],
                 "param_names": ["rule", "n", "threads"],
                 "type": "track", "unit": "x ceiling", "code": ""}
    asv.util.write_json(str(tmp_path/"benchmarks"/"results"/"benchmarks.json"), {CEILING: benchmark}, 2)
    for _ in range(2):
        assert publish.main(["--out", str(tmp_path/"html")]) == 0
    data = (tmp_path/"html"/"data.js").read_text()
    assert f'"graphs/summary/{CEILING}.json":[[0,2.0]]' in data
    assert list(publish.remote(tmp_path/"html")) == []


@pytest.mark.parametrize("name", ["record", "picture", "publish"])
def test_a_missing_asv_names_the_extra(name, monkeypatch, capsys):
    for module in [m for m in sys.modules if m == "asv" or m.startswith("asv.")]:
        monkeypatch.setitem(sys.modules, module, None)
    assert {"record": record, "picture": picture, "publish": publish}[name].main([]) == 2
    assert capsys.readouterr().err == 'asv is not installed. Install what this needs: python -m pip install ".[test]"\n'
