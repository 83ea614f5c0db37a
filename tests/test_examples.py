"""The examples run as their docstrings say, print what they promise, and fail with a cure where something is missing."""
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted(path.name for path in (ROOT / "examples").glob("*.py"))
ACCURACY = re.compile(r"^(\w+) +test accuracy ([\d.]+)% \(epoch (\d+) of (\d+), validation loss ([\d.]+)\)$", re.MULTILINE)
COLOURS = {"Momentum": (0, 114, 178), "Nesterov": (213, 94, 0), "Adam": (0, 158, 115)}


def run(*arguments, check=True):
    """A Python process with warnings as errors, as a user in another directory would start it."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    ran = subprocess.run([sys.executable, "-W", "error", *map(str, arguments)], capture_output=True, text=True, check=False, env=env)
    assert not check or ran.returncode == 0, ran.stdout + ran.stderr
    return ran


def example(name, *arguments, **options):
    return run(ROOT / "examples" / name, *arguments, **options)


def numbers(pattern, text):
    return [float(x) for x in re.findall(pattern, text)]


def test_every_example_is_tested():
    assert EXAMPLES == ["cuda_kernel.py", "digits.py", "own_kernel.py", "own_rule.py"]  # the first in test_cuda_numba.py


def test_digits(tmp_path):
    plot = tmp_path / "curves.png"
    found = ACCURACY.findall(example("digits.py", "--plot", plot).stdout)
    assert [name for name, *_ in found] == ["Momentum", "Nesterov", "Adam"]
    for _, accuracy, epoch, epochs, loss in found:
        assert 97 < float(accuracy) <= 100
        assert 1 <= int(epoch) <= int(epochs) == 100
        assert 0 < float(loss) < 0.15
    picture = np.round(imread(plot)[..., :3]*255).astype(int)
    assert picture.shape[0] > 700
    assert picture.shape[1] > 1000
    left, right = np.array_split(picture[:picture.shape[0]*3//4], 2, axis=1)
    for side in (left, right):
        for name, colour in COLOURS.items():
            assert (np.abs(side - colour).max(axis=2) < 4).sum() > 300, name


def test_digits_is_deterministic_and_says_when_it_fails(tmp_path):
    plot = tmp_path / "curves.png"
    first, second = (example("digits.py", "--epochs", 1, "--seed", 3, "--plot", plot, check=False) for _ in range(2))
    assert first.returncode == second.returncode == 1
    assert ACCURACY.findall(first.stdout) == ACCURACY.findall(second.stdout)
    assert len(ACCURACY.findall(first.stdout)) == 3
    assert "did not get above 97%" in first.stderr
    assert "Traceback" not in first.stderr


def test_digits_refuses_no_epochs():
    ran = example("digits.py", "--epochs", 0, check=False)
    assert ran.returncode == 2
    assert "--epochs is 0, but at least 1 is needed" in ran.stderr


@pytest.mark.parametrize("missing", ["sklearn", "matplotlib", "rich"])
def test_digits_names_the_extra(missing):
    code = f"import runpy, sys; sys.modules[{missing!r}] = None; runpy.run_path(sys.argv[1], run_name='__main__')"
    ran = run("-c", code, ROOT / "examples" / "digits.py", check=False)
    assert ran.returncode == 1
    assert missing in ran.stderr
    assert 'pip install "fastopt[examples]"' in ran.stderr
    assert "Traceback" not in ran.stderr


def test_own_rule():
    out = example("own_rule.py").stdout
    signum, momentum = numbers(r"relative error ([\d.]+) at the best", out)
    assert signum < 0.15
    assert signum < momentum < 1
    assert "equal bits" in out
    assert "Signum(lr=0.01; t=1, 1,000 parameters f32, state v bf16 (2 bytes each))" in out


def test_own_kernel():
    out = example("own_kernel.py").stdout
    before, = numbers(r"error of the signal +([\d.]+)", out)
    after = numbers(r"error after denoising ([\d.]+)", out)
    assert len(after) == 3
    assert len(set(after)) == 1
    assert after[0] < 0.4*before
    assert all(took > 0 for took in numbers(r"([\d.]+) ms a step", out))
    assert "the three results: equal bits" in out
