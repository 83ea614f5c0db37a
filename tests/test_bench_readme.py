"""benchmarks/README.md is true: its commands run, what it names exists, its figures are those of the code."""
import ast
import importlib
import itertools
import os
import re
import shlex
import statistics
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
MODULES = {path.name for path in HERE.glob("*.py")}

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(ROOT))
    common, duet, timing, trial, versions = (importlib.import_module(f"benchmarks.{name}")
                                             for name in ("common", "duet", "timing", "trial", "versions"))


def run(command, *more, home):
    words = shlex.split(command)
    given = dict(word.split("=") for word in words if re.fullmatch(r"[A-Z_]+=\w+", word))
    words = [sys.executable if word == "python" else word for word in words if word.partition("=")[0] not in given]
    environment = {**os.environ, **given, "HOME": str(home), "ASV_PYTHONPATH": str(Path(fastopt.__file__).parents[1])}
    return subprocess.run([*words, *more], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_there_is_a_command_for_each_purpose():
    said = "\n".join(COMMANDS)
    for what in ("asv run", "gate.py HEAD~1 HEAD", "record.py HEAD", "publish.py", "picture.py"):
        assert what in said


@pytest.mark.parametrize("command", [c for c in COMMANDS if "asv run" in c])
def test_asv_runs(command, tmp_path):
    pytest.importorskip("asv")
    if not (ROOT/".git").exists():
        pytest.skip("asv needs a git checkout with a commit; this is an unpacked archive")
    assert run("python -m asv machine --yes", home=tmp_path).returncode == 0
    done = run(command, home=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "failed" not in done.stdout
    assert re.search(r"bench_memory\.Bytes\.track_state\s", done.stdout)


@pytest.mark.parametrize("command", [c for c in COMMANDS if "asv run" not in c])
def test_programs_have_these_options(command, tmp_path):
    done = run(command.split(" --")[0].split(" HEAD")[0].split(" main")[0], "--help", home=tmp_path)
    assert done.returncode == 0, done.stderr
    assert all(option in done.stdout for option in re.findall(r"--\w+", command))


def test_every_module_is_explained_and_exists():
    named = {name for line in README.splitlines() if line.startswith("| `") for name in re.findall(r"`(\w+\.py)`",
                                                                                                   line)}
    assert named == {name for name in MODULES if not name.startswith(("bench_", "__"))}
    mentioned = set(re.findall(r"`(bench_\w+)`", README))
    assert mentioned <= {name[:-3] for name in MODULES}
    assert len(mentioned) >= 10


def test_figures_of_the_text():
    steps = timing.steps_of(common.RULES)
    two_threads = [step for step in steps if step.threads > 1]
    assert f"the duet: {len(steps) + 4*(not two_threads)} steps of both versions" in README.replace("\n", " ")
    text = " ".join(README.split())
    assert f"in {timing.FIRST} processes" in text
    assert f"looked at again by {timing.AGAIN} other processes, twice" in text
    assert timing.TIMES == 2
    assert f"What looks {round(100*(timing.SEEMS - 1))} % slower" in text
    assert f"the median is above {timing.SLOWER} and the 99 % interval of the median above {timing.SURELY}" in text
    assert "each of 8 fresh processes" in text


def test_the_table_of_the_trial_has_every_plant():
    rows = re.search(r"<!-- trial -->\n(.*?)<!-- /trial -->", README, re.DOTALL)[1]
    assert all(f"| {change.what} |" in rows for change in trial.PLANTS)
    assert re.search(r"no alarm in \d+ runs|\d+ alarms? in \d+ runs", " ".join(README.split()))


def test_how_far_equal_code_is_from_one():
    """What the table says of the record, from the record."""
    pytest.importorskip("asv")
    from asv.results import iter_results
    record = next(r for r in iter_results(str(HERE/"results")) if r.commit_hash.startswith("b368eb64"))

    def of(figure):
        key = f"bench_step.Step.{figure}"
        params = record.get_result_params(key)
        cases = itertools.product(*([ast.literal_eval(p) for p in axis] for axis in params))
        return list(zip(cases, record.get_result_value(key, params), record.get_result_stats(key, params), strict=True))
    one, two = (max(abs(value - 1) for case, value, _ in of("track_vs_golden") if case[2] == threads) for threads in (1,
                                                                                                                      2))
    half = [(s["ci_99_b"] - s["ci_99_a"])/2/value for case, value, s in of("track_vs_ceiling") if case[2] == 1]
    assert f"{100*one:.1f} % on one thread; on two, beside load, up to {100*two:.0f} %" in README
    assert f"half its interval: {100*statistics.median(half):.0f} %, at worst {100*max(half):.0f} %, on one thread" in README


def test_one_page():
    assert len(README.splitlines()) <= 120
    assert max(map(len, README.splitlines())) <= 160
