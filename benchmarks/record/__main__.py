"""Measure commits with asv and keep the results, under a name that tells which machine, not whose.

``python -m benchmarks.record [COMMIT ...] [-- OPTIONS OF asv run]`` writes into benchmarks/record/results. Exit 0:
recorded. 2: not recorded, and the folder is as it was before.
"""
import argparse
import getpass
import json
import math
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT/"benchmarks"/"record"/"results"
NOISE = re.compile(r"\((?:R|TM)\)|@.*|\b(?:CPU|Processor|\d+-Core|with Radeon.*)\b", re.I)
ZEN = {"23": ("Zen1", "Zen2", "clwb"), "25": ("Zen3", "Zen4", "avx512f"),
       "26": ("Zen5", "Zen5", "avx512f")}  # older, newer, what tells
PATH = re.compile(r"(?<![\w.)\]])~?(?:/[\w.+@-]+){2,}|\b[a-z]:[\\/]", re.I)
SOURCES = ("code", "pretty_source")  # of benchmarks, in benchmarks.json: they are in the repository anyway
# what only the record is measured with, beside the versions in asv.conf.json: rivals, the compilers of CUDA, the digits
PINS = {"torch": "2.13.0", "jax": "0.10.2", "optax": "0.2.8", "scikit-learn": "1.9.1", "numba-cuda": "0.30.4",
        "cuda-core": "1.2.2", "cuda-bindings": "13.5.0", "nvidia-nvvm": "13.5.37", "nvidia-nvjitlink": "13.5.37",
        "nvidia-cuda-nvrtc": "13.5.37", "nvidia-cuda-nvdisasm": "13.5.37"}


def processor(cpuinfo: str) -> str:
    """Name of the first processor in a /proc/cpuinfo; clouds hide the model's number, but not its family."""
    said = dict(re.findall(r"^(.+?)\s*: (.*)$", cpuinfo.split("\n\n")[0], re.M))
    name = " ".join(NOISE.sub(" ", said.get("model name", "")).split())
    if not name or re.search(r"\d", name):
        return name or platform.processor() or platform.machine()
    family, model = said.get("cpu family", "?"), said.get("model", "?")
    if said.get("vendor_id") != "AuthenticAMD" or family not in ZEN:
        return f"{name} family {family} model {model}"
    older, newer, feature = ZEN[family]
    return f"{name} {newer if feature in said.get('flags', '').split() else older}"


def machine() -> dict[str, str]:
    """What asv keeps of a machine. Rounded: asv draws a new line where a value changes, be it by one page of memory."""
    cpuinfo, cores, memory = Path("/proc/cpuinfo"), str(os.cpu_count()), "unknown"
    with suppress(AttributeError, ValueError, OSError):
        memory = f"{round(os.sysconf('SC_PHYS_PAGES')*os.sysconf('SC_PAGE_SIZE')/2**30)} GB"
    cpu = processor(cpuinfo.read_text() if cpuinfo.exists() else "")
    name = re.sub(r"[^a-z0-9]+", "-", f"{cpu} {cores} cores".lower()).strip("-")
    system = f"{platform.system()} {platform.release().split('.')[0]}"
    return {"machine": name, "os": system, "arch": platform.machine(), "cpu": cpu, "num_cpu": cores, "ram": memory}


def configured(folder: Path, root: Path = ROOT) -> Path:
    """asv's configuration with the record as its results and its versions, in a folder that asv works in; it reads
    pyproject.toml there. The project's own keeps results in .asv: everyday runs leave the record alone."""
    said = json.loads((root/"asv.conf.json").read_text(encoding="utf-8"))
    places = {"repo": ".", "benchmark_dir": "benchmarks", "env_dir": "env", "html_dir": "html"}
    said |= {key: str(root/said.get(key, usual)) for key, usual in places.items()}
    said.get("matrix", {}).get("req", {}).update({f"pip+{name}": [version] for name, version in PINS.items()})
    (folder/"asv.conf.json").write_text(json.dumps({**said, "results_dir": str(root/"benchmarks"/"record"/"results")}),
                                        encoding="utf-8")
    if (root/"pyproject.toml").exists():
        shutil.copy(root/"pyproject.toml", folder)
    return folder/"asv.conf.json"


def run(commit: str, options: Sequence[str], root: Path = ROOT) -> int:
    """``asv run`` with a home of its own, so that no ~/.asv-machine.json is read or written; its exit status. The file
    is written here: ``asv machine --cpu ...`` leaves out every value that is what it would have guessed."""
    from asv.machine import MachineCollection
    home, described = Path.home(), machine()
    kept = {"XDG_CACHE_HOME": ".cache", "XDG_CONFIG_HOME": ".config",
            "GIT_CONFIG_GLOBAL": ".gitconfig"}  # pip's downloads, git's settings
    with tempfile.TemporaryDirectory() as empty:
        MachineCollection.save(described["machine"], described, _path=str(Path(empty)/".asv-machine.json"))
        environment = {**{k: str(home/v) for k, v in kept.items()}, **os.environ, "HOME": empty, "USERPROFILE": empty}
        command = [sys.executable, "-m", "asv", "--config", str(configured(Path(empty), root)), "run", f"{commit}^!",
                   "--machine", described["machine"], *options]
        return subprocess.run(command, cwd=root, env=environment, check=False).returncode


def secrets(root: Path = ROOT) -> list[str]:
    """Names of this host and user, but for those that the repository's own text contains (root, adam)."""
    names = {platform.node(), platform.node().split(".")[0], Path.home().name}
    with suppress(KeyError, OSError, ImportError):
        names.add(getpass.getuser())
    search = ["git", "-C", str(root), "grep", "-qwiF"]
    return [x for x in sorted(names - {""})
            if subprocess.run([*search, "-e", x, "--", ":!benchmarks/record/results"], check=False).returncode]


def strings(data: Any) -> Iterator[str]:
    """Every string in parsed JSON, keys too."""
    if isinstance(data, str):
        yield data
    elif isinstance(data, dict):
        for key, value in data.items():
            yield key
            yield from () if key in SOURCES else strings(value)
    elif isinstance(data, list):
        for value in data:
            yield from strings(value)


def leak(file: Path, names: Sequence[str]) -> str | None:
    """The first thing in a result that tells where it was measured: a name, a path, or a profile (it names files)."""
    data = json.loads(file.read_text(encoding="utf-8"))
    patterns = [PATH, *(re.compile(rf"(?<![a-z0-9]){re.escape(name)}(?![a-z0-9])", re.I) for name in names)]
    for text in (file.parent.name, file.name, *strings(data)):
        if any(pattern.search(text) for pattern in patterns):
            return repr(text)
    rows = data["results"].values() if "result_columns" in data else ()
    profiled = any(dict(zip(data["result_columns"], row, strict=False)).get("profile") for row in rows)
    return "a profile" if profiled else None


def numbers(file: Path) -> str:
    """How many benchmarks of a result have a number: what an old commit or this environment lacks gives none."""
    rows = json.loads(file.read_text(encoding="utf-8"))["results"].values()
    found = sum(any(x is not None and math.isfinite(x) for x in row[0] or ()) for row in rows)
    return f"{found} of {len(rows)} benchmarks have numbers"


def joined(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """asv lists what this machine can measure, and shows nothing else. What another has (a GPU, more threads), or a
    suite before this one had, stays on the site: its benchmarks, and its values of parameters."""
    for name, was in old.items():
        now = new.setdefault(name, was)
        if isinstance(was, dict) and all(now[key] == was[key] for key in ("version", "param_names")):
            now["params"] = [axis + [x for x in other if x not in axis]
                             for axis, other in zip(now["params"], was["params"], strict=True)]
    return new


def record(commit: str, options: Sequence[str] = (), results: Path = RESULTS,
           run: Callable[..., int] = run) -> list[Path]:
    """Measure a commit; the new or changed results. Files are as before if there are none, or one tells too much."""
    def take_back(why: str) -> RuntimeError:
        for file in changed:
            file.write_bytes(before[file]) if file in before else file.unlink()
        return RuntimeError(f"record: {why}")
    before = {file: file.read_bytes() for file in results.rglob("*.json")}
    status = run(commit, options)
    changed = [file for file in sorted(results.rglob("*.json")) if before.get(file) != file.read_bytes()]
    new = [file for file in changed if file.parent.parent == results and file.name != "machine.json"]
    if not new:
        raise take_back(f"asv ended with {status} and wrote no result of {commit} to {results}. "
                        "Read what it says above.")
    if (listed := results/"benchmarks.json") in changed and listed in before:
        both = joined(*(json.loads(text) for text in (before[listed], listed.read_bytes())))
        listed.write_text(json.dumps(both, indent=4, sort_keys=True), encoding="utf-8")
    names = secrets()
    for file in changed:
        if said := leak(file, names):
            raise take_back(f"{file.name} holds {said}, needed no name or path of this machine. "
                            "It was taken back; look at the options, the matrix and the parameters.")
    return new


def status(work: Callable[[], None]) -> int:
    """0, or 2 where the work could not be done, and why on standard error."""
    try:
        work()
    except ImportError as error:
        name = str(error.name).partition(".")[0]
        print(f'{name} is not installed. Install what this needs: python -m pip install ".[test]"', file=sys.stderr)
        return 2
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def main(words: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if words is None else words)
    cut = words.index("--") if "--" in words else len(words)
    parser = argparse.ArgumentParser(prog="record", description=__doc__.split("\n")[0],
                                     epilog="After --: options of asv run.")
    parser.add_argument("commits", nargs="*", metavar="COMMIT", help="default: HEAD")
    commits = parser.parse_args(words[:cut]).commits or ["HEAD"]

    def work() -> None:
        for commit in commits:
            for file in record(commit, words[cut + 1:]):
                print(f"record: {file}: {numbers(file)}")
    return status(work)


if __name__ == "__main__":
    sys.exit(main())
