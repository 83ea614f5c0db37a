"""The script for a machine with a CUDA device, `.ci/gpu`: what comes first, is kept, and counts as failed. No GPU."""
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOOLS = ("nvidia-smi", "compute-sanitizer", "ncu")
ORDER = [  # the words by which a part is known, by value
    "nvidia-smi", "-c ", "fastopt info", "sanitized.py 6", "--on 1e8 1e4 --against none", "test_cuda_aims.py",
    "cuda and not aims", "--tool memcheck", "--on 1e5 1e6 1e7", "q8 state", "--without-prefetch", "GPT-2 small",
    "--on 1e4 1e6 1e8", "--tool racecheck", "--tool initcheck", "--section Occupancy", "--formats f32, q8 state"]
FAKE = """#!/bin/sh
{body}
echo "ran $(basename "$0") $*"
"""


def run(tmp_path, body="", tools=TOOLS, **environment):
    """The script with programs that print what they are asked to do: its exit status, and the log, which is whole at
    the end, however slow `tee` is."""
    programs = tmp_path/"bin"
    programs.mkdir()
    texts = {"nproc": "#!/bin/sh\necho 6\n", "tee": '#!/bin/sh\nall=$(cat); sleep 1; echo "$all" >"$1"\n',
             **dict.fromkeys((*tools, "python3"), FAKE.format(body=body))}
    for name, text in texts.items():
        (programs/name).write_text(text)
        (programs/name).chmod(0o755)
    path = os.pathsep.join([str(programs), "/usr/bin", "/bin"])
    done = subprocess.run(["bash", str(ROOT/".ci/gpu")], stdout=subprocess.DEVNULL, check=False, cwd=tmp_path,
                          env={"PATH": path, "OUT": str(tmp_path/"out"), "PYTHON": str(programs/"python3"),
                               "TMPDIR": str(tmp_path), **environment})
    return done.returncode, (tmp_path/"out"/"log").read_text().splitlines()


def ran(log):
    return [line for line in log if line.startswith("ran ")]


def test_what_tells_most_comes_first(tmp_path):
    status, log = run(tmp_path)
    commands = ran(log)
    assert len(commands) == len(ORDER)
    for command, words in zip(commands, ORDER, strict=True):
        assert words in command
    assert (status, log[-1].endswith("all passed")) == (0, True)
    assert "-n 6 --dist worksteal" in commands[6]  # `import xdist` succeeds there
    assert all("--no-skips" in command for command in commands if "-m pytest" in command)


def test_without_xdist_tests_run_one_by_one(tmp_path):
    _, log = run(tmp_path, 'case "$*" in "-c import xdist") exit 1;; esac')
    assert "-n 6" not in "".join(ran(log))


def test_a_part_that_fails_stops_no_other(tmp_path):
    wrong = 'case "$*" in *sanitized.py\\ 6) echo "three are wrong"; exit 3;; esac'
    status, log = run(tmp_path, wrong, tools=["nvidia-smi"])
    assert status == 1
    assert "three are wrong" in log
    assert {"gpu: bits: exit status 3", "gpu: memcheck: exit status 127"} <= set(log)
    assert log[-1].endswith('failed: "bits" "memcheck" "racecheck" "initcheck" "profile of Adam" '
                            '"profile of Adam with 8-bit states"')
    assert len(ran(log)) == len(ORDER) - 6


def test_parts_can_be_chosen(tmp_path):
    """What a first run left no time for; wheels are always needed."""
    wheels = tmp_path/"wheels"
    wheels.mkdir()
    _, log = run(tmp_path, tools=[], PARTS="^(aims|initcheck)$|profile", WHEELS=str(wheels))
    lacking = ["initcheck", "profile of Adam", "profile of Adam with 8-bit states"]
    assert [line for line in log if line.startswith("gpu: ")] == [f"gpu: {name}: exit status 127" for name in lacking]
    install, aims = ran(log)
    assert "-m pip install" in install
    assert "test_cuda_aims" in aims


def test_what_the_driver_lacks_is_no_fault_of_memory(tmp_path):
    """cuda-bindings asks for every function that it knows. compute-sanitizer would count each refusal."""
    _, log = run(tmp_path)
    assert [("--report-api-errors no " in line) for line in ran(log) if "--tool" in line] == [True]*3


def test_parts_share_kernels(tmp_path):
    """Tests find what `bits` has compiled, though their cache is not the user's; and load no plugins of others."""
    _, log = run(tmp_path, 'echo "cache $FASTOPT_CACHE $FASTOPT_TESTS_CACHE $PYTEST_DISABLE_PLUGIN_AUTOLOAD"')
    (cache,) = {line for line in log if line.startswith("cache ")}
    _, bits, tests, alone = cache.split()
    assert (bits == tests, alone) == (True, "1")
    code = "import conftest; print(conftest.CACHE)"
    own = {name: x for name, x in os.environ.items() if name != "PYTEST_XDIST_WORKER"}  # these are no workers
    found = [subprocess.run([sys.executable, "-c", code], cwd=ROOT/"tests", capture_output=True, text=True, check=True,
                            env={**own, "FASTOPT_CACHE": "/mine", **more}).stdout.strip()
             for more in ({}, {"FASTOPT_TESTS_CACHE": str(tmp_path)})]
    assert found[0] != "/mine"
    assert found[1] == str(tmp_path)


@pytest.mark.parametrize(("answer", "reports"), [("trap 'echo report; exit 2' INT", True), ("trap '' INT", False)])
def test_a_part_that_takes_too_long_is_interrupted(answer, reports, tmp_path):
    """What it printed before, and what it says to that, is kept; it ends, whatever it does."""
    slow = f'case "$*" in *test_cuda_aims*) {answer}; echo figure; for k in 1 2 3 4 5 6 7 8; do sleep 1; done;; esac'
    found, log = run(tmp_path, slow, MOST="4", GRACE="1")
    at = log.index("figure")
    assert found == 1
    assert ("report" in log[at:]) == reports
    assert "gpu: aims: took too long" in log[at:]
    assert "gpu: tests: left out, no time is left" in log
    assert len(ran(log)) == ORDER.index("test_cuda_aims.py")


def test_an_interrupt_comes_once(tmp_path):
    """timeout interrupts its child, and then the child's group: the child must be another program than the one that is
    to report."""
    _, log = run(tmp_path, 'echo "called by $(cat /proc/$PPID/comm)"', PARTS="^aims$")
    assert "called by bash" in log


def test_a_skipped_test_counts_as_failed():
    """On a machine without a device all tests of one are skipped."""
    command = [sys.executable, "-m", "pytest", "tests/test_cuda.py", "-m", "cuda", "-k", "look_ahead"]
    none = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    status = [subprocess.run([*command, *more], cwd=ROOT, capture_output=True, check=False, env=none).returncode
              for more in ([], ["--no-skips"])]
    assert status == [0, 1]


def test_figures_on_the_stand_in(tmp_path):
    """benchmarks.device: of a vector, of a list, and what cannot be measured."""
    pytest.importorskip("numba_cuda", reason="the extra `cuda` is not installed")
    from ptx import driver as loader
    if reason := loader.available():
        pytest.skip(reason)
    program = f"""
import sys
sys.path[:0] = {[str(ROOT), str(ROOT/"tests")]!r}
import dry_gpu
from benchmarks import device
sys.argv = ["device", "--on", "1e8", "1,000 x 1,000", "0", "--formats", "f32, q8 state", "--against", "cupy",
            "--seconds", "0.01", "--json", {str(tmp_path/"figures")!r}]
sys.exit(device.main())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()
    assert (done.returncode, len(lines)) == (1, 3), done.stderr
    assert lines[0].startswith("adam, 1e8, f32, q8 state: ")
    assert "copy " in lines[0]
    assert "cupy: " in lines[0]
    assert "0, f32, q8 state: not measured: " in lines[2]
    found = [json.loads(text) for text in (tmp_path/"figures").read_text().splitlines()]
    assert [(x["on"], x["n"], x["storage"]) for x in found] == [("1e8", 1_000, "f32, q8 state"),
                                                               ("1,000 x 1,000", 1_000_000, "f32, q8 state")]
