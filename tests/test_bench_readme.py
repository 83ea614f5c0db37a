"""benchmarks/README.md is true: its commands run, and what it names exists."""
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import fastopt

ROOT = Path(__file__).parents[1]
HERE = ROOT/"benchmarks"
README = (HERE/"README.md").read_text(encoding="utf-8")
COMMANDS = [line for block in re.findall(r"^```bash\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
            for line in block.splitlines()]


def run(command, home):
    words = shlex.split(command)
    given = dict(word.split("=") for word in words if re.fullmatch(r"[A-Z_]+=\w+", word))
    words = [sys.executable if word == "python" else word for word in words if word.partition("=")[0] not in given]
    environment = {**os.environ, **given, "HOME": str(home), "ASV_PYTHONPATH": str(Path(fastopt.__file__).parents[1])}
    return subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_asv_runs(tmp_path):
    pytest.importorskip("asv")
    if not (ROOT/".git").exists():
        pytest.skip("asv needs a git checkout with a commit; this is an unpacked archive")
    assert run("python -m asv machine --yes", tmp_path).returncode == 0
    command, = (c for c in COMMANDS if "--quick" in c)
    done = run(command, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "failed" not in done.stdout
    assert re.search(r"bench_memory\.Bytes\.track_state\s", done.stdout)


def test_asv_has_these_options():
    """Of the commands that measure for minutes."""
    commands = pytest.importorskip("asv.commands")
    parser = commands.make_argparser()[0]
    for command in (c for c in COMMANDS if " asv " in c):
        words = shlex.split(command)
        parser.parse_args(words[words.index("asv") + 1:])
    assert sum(" asv " in c for c in COMMANDS) == 7


def test_programs_have_these_options(tmp_path):
    """All programs that the text names, the studies too."""
    assert len(COMMANDS) == 14
    named = {*re.findall(r"python -m (benchmarks[\w.]*)", README), "benchmarks.studies.training",
             "benchmarks.studies.fewer_bytes", "benchmarks.studies.rows", "benchmarks.studies.modifiers",
             "benchmarks.studies.helps", "benchmarks.studies.transformer"}
    for program in sorted(named):
        done = run(f"python -m {program} --help", tmp_path)
        assert done.returncode == 0, done.stderr
        options = {o for c in COMMANDS if f"{program} " in c for o in re.findall(r"--\w+", c)}
        assert not [option for option in options if option not in done.stdout]


def test_what_it_names_exists():
    rows = [line for line in README.splitlines() if line.startswith("| `")]
    places = {name for row in rows for name in re.findall(r"`([\w/.]+)`", row)}
    here = {path.name + "/"*path.is_dir() for path in HERE.iterdir() if not path.name.startswith(("_", "bench_"))}
    assert here - {"README.md"} == {name for name in places if not name.startswith("bench_")}
    assert {f"{name}.py" for name in re.findall(r"`(bench_\w+)`", README)} <= {path.name for path in HERE.iterdir()}
