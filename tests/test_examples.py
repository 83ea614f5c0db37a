"""The examples run as their docstrings say, print what they promise, and fail with a cure where something lacks."""
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
ACCURACY = re.compile(r"^(\w+) +test accuracy ([\d.]+)% \(epoch (\d+) of (\d+), validation loss ([\d.]+)\)$",
                      re.MULTILINE)
COLOURS = {"Momentum": (0, 114, 178), "Nesterov": (213, 94, 0), "Adam": (0, 158, 115)}


def run(*arguments, check=True):
    """A Python process with warnings as errors, as a user in another directory would start it."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    ran = subprocess.run([sys.executable, "-W", "error", *map(str, arguments)], capture_output=True, text=True,
                         check=False, env=env)
    assert not check or ran.returncode == 0, ran.stdout + ran.stderr
    return ran


def example(name, *arguments, **options):
    return run(ROOT / "examples" / name, *arguments, **options)


def numbers(pattern, text):
    return [float(x) for x in re.findall(pattern, text)]


def test_every_example_is_tested_and_in_the_index():
    # the first in test_cuda_numba.py, the third in test_mpi.py
    others = ["cuda_kernel.py", "digits.py", "digits_mpi.py", "norms.py", "orthogonalized.py", "own_kernel.py",
              "own_rule.py", "phase_retrieval.py"]
    assert sorted([*(f"{name}.py" for name in PICTURES), *others]) == EXAMPLES
    index = (ROOT/"examples"/"README.md").read_text(encoding="utf-8")
    assert sorted(set(re.findall(r"\]\((\w+\.py)\)", index))) == EXAMPLES
    pictures = {path.stem for path in (ROOT/"examples"/"pictures").iterdir()}
    assert {*re.findall(r"!\[[^]]+\]\(pictures/(\w+)\.png\)", index)} == pictures == {*PICTURES, "digits"}


def assert_shows(plot, colours):
    """The picture is large, and has lines of these colours."""
    picture = np.round(imread(plot)[..., :3]*255).astype(int)
    assert picture.shape[0] > 700
    assert picture.shape[1] > 1000
    for colour in colours:
        assert (np.abs(picture - colour).max(axis=2) < 4).sum() > 300, colour


def test_digits(tmp_path, full):
    """In 40 epochs; in as many as it takes by itself, 100, with --full."""
    plot = tmp_path / "curves.png"
    found = ACCURACY.findall(example("digits.py", "--plot", plot, *([] if full else ["--epochs", 40])).stdout)
    assert [name for name, *_ in found] == ["Momentum", "Nesterov", "Adam"]
    for _, accuracy, epoch, epochs, loss in found:
        assert 97 < float(accuracy) <= 100
        assert 1 <= int(epoch) <= int(epochs) == (100 if full else 40)
        assert 0 < float(loss) < 0.15
    assert_shows(plot, COLOURS.values())
    short = example("digits.py", "--epochs", 1, "--plot", plot, check=False)
    assert short.returncode == 1
    assert "did not get above 97%" in short.stderr


WITHOUT = """
import runpy, sys
def modules():
    return [name for name in sys.modules if name.partition(".")[0] == missing]
for path, missing in list(zip(sys.argv[1::2], sys.argv[2::2])):
    imported = {name: sys.modules.pop(name) for name in modules()}
    sys.argv[1:], sys.modules[missing] = [], None
    try:
        runpy.run_path(path, run_name="__main__")
    except SystemExit as end:
        print(end)
    for name in modules():
        del sys.modules[name]
    sys.modules.update(imported)
"""
LACKING = [("digits", "sklearn"), ("digits", "rich"), ("adam_first_steps", "matplotlib"), ("curvature", "scipy"),
           ("generalisation", "sklearn"), ("ill_conditioned", "matplotlib"), ("minimize", "scipy"),
           ("surfaces", "matplotlib")]


def test_names_the_extra():
    """In a process of their own: here the libraries may have been imported already."""
    said = run("-c", WITHOUT, *(word for name, missing in LACKING for word in (ROOT/"examples"/f"{name}.py", missing)))
    for line, (name, missing) in zip(said.stdout.splitlines(), LACKING, strict=True):
        assert line.startswith(f"{name}: ")
        assert missing in line
        assert 'pip install "fastopt[examples]"' in line


def test_own_rule():
    out = example("own_rule.py").stdout
    soft_sign, momentum = numbers(r"relative error ([\d.]+) at the best", out)
    assert soft_sign < 0.15
    assert soft_sign < momentum < 1
    assert "equal bits" in out
    assert "SoftSign(lr=0.01; t=1, 1,000 parameters f32, state v bf16 (2 bytes each))" in out


def test_own_kernel():
    out = example("own_kernel.py").stdout
    before, = numbers(r"error of the signal +([\d.]+)", out)
    after = numbers(r"error after denoising ([\d.]+)", out)
    assert len(after) == 3
    assert len(set(after)) == 1
    assert after[0] < 0.4*before
    assert all(took > 0 for took in numbers(r"([\d.]+) ms a step", out))
    assert "the three results: equal bits" in out


def test_norms():
    found = dict(re.findall(r"^(\w+) +[\d.]+ +([\d.]+)$", example("norms.py").stdout, re.MULTILINE))
    assert found == dict.fromkeys(("W1", "b1", "W2", "b2", "W3", "b3"), "0.01000")


def test_orthogonalized():
    found = re.findall(r"^(\w+) +test accuracy ([\d.]+)% \(learning rate ([\d.]+), epoch", example(
        "orthogonalized.py", "--epochs", 20).stdout, re.MULTILINE)
    assert [name for name, *_ in found] == ["AdamW", "orthogonalized"]
    assert all(float(accuracy) >= 97 for _, accuracy, _ in found)


def test_phase_retrieval():
    exact, counted, conjugate = numbers(r"error ([\d.]+e[-+]\d+)", example("phase_retrieval.py").stdout)
    assert exact < 1e-3
    assert exact < counted < 0.1
    assert conjugate > 0.9


# Those with pictures, in their short mode

MOMENTUM, NESTEROV, ADAM = COLOURS.values()
PICTURES = {  # example: colours that its picture has
    "adam_first_steps": [MOMENTUM, NESTEROV, ADAM], "curvature": [MOMENTUM, NESTEROV],
    "generalisation": [MOMENTUM, NESTEROV], "ill_conditioned": [MOMENTUM, NESTEROV, ADAM],
    "minimize": [MOMENTUM, NESTEROV, ADAM], "surfaces": [MOMENTUM, NESTEROV, ADAM]}


@pytest.fixture
def said(request, tmp_path):
    """What the example of a test prints."""
    name, plot = request.node.name.removeprefix("test_"), tmp_path/"plot.png"
    text = example(f"{name}.py", "--short", "--plot", plot).stdout
    assert text.endswith(f"picture: {plot}\n")
    assert_shows(plot, PICTURES[name])
    return text


def row(text, start):
    """The numbers of the first line that starts so."""
    line = next(line for line in text.splitlines() if line.startswith(start))
    return numbers(r"[-+]?\d[\d,]*\.?\d*(?:e[-+]?\d+)?", line[len(start):].replace(",", ""))


def test_adam_first_steps(said):
    assert row(said, "always 0.5   Adam")[::2] == [1]*6                     # exactly lr, whatever the gradient's size
    assert row(said, "always 0.5   no correction")[0] == 3.16               # (1 - b1)/sqrt(1 - b2)
    assert row(said, "normal       no correction")[0] > 5*row(said, "normal       no correction")[-2]
    assert row(said, "normal       warm-up")[0] == 0.01
    radam = row(said, "normal       RAdam")
    assert radam[4] < 0.02 < 0.3 < radam[2]  # momentum until t = 5, then rectified
    have, theory = row(said, "v/c2: standard deviation"), row(said, "   in theory")
    assert have == pytest.approx(theory, rel=0.05)


def test_curvature(said):
    off = numbers(r"([-+]?[\d.]+) %$",
                  "\n".join(line for line in said.splitlines() if re.search(r"0\.\d{5} +0\.\d{5}", line)))
    assert len(re.findall(r"(?:gradient descent|momentum|Nesterov) +[\d.]+ +0\.\d{4} +0\.\d{5} +0\.\d{5}", said)) == 9
    assert all(abs(x) < 5 for x in off)
    assert numbers(r"becomes ([\d.e+-]+) of the first", said)[0] < 0.01 < 100 < numbers(r"([\d.e+-]+) with one 2 % "
                                                                                        r"above", said)[0]
    assert re.findall(r"^(\S+) +wrong", said, re.MULTILINE) == ["w['W2']"]
    assert all(x > 33 for x in numbers(r"(\d+) %$", said[said.index("once more after"):said.index("Gradient check")]))


def test_minimize(said):
    least, most = map(float, re.search(r"L-BFGS-B takes ([\d.]+) to ([\d.]+) times fewer", said).groups())
    assert least > 1
    assert most > 5
    exact, noisy = said.split("Quadratic with noisy gradients")
    rows = re.findall(r"^  (?:L-BFGS-B|CG|momentum.*|nesterov.*|adam.*?) +(\d) +\d+ +\d+ +\d+ +([\d.e+-]+) +\S+$",
                      exact, re.MULTILINE)
    assert len(rows) == 19
    assert all(status == "0" and float(above) < 1e-6 for status, above in rows)
    ends = {name: float(above) for name, above in re.findall(r"^  (\S+).* ([\d.]+e[+-]\d+) +\S+$", noisy, re.MULTILINE)}
    assert max(ends["momentum"], ends["nesterov"], ends["adam"]) < min(ends["L-BFGS-B"], ends["CG"])/2


def test_surfaces(said):
    assert len(re.findall(r"^(?:Quadratic|Rosenbrock|Beale|Rastrigin).* \(-?[\d.]+, -?[\d.]+\) +[\d.]+e[+-]\d+$", said,
                          re.MULTILINE)) == 16
    ratios = re.search(r"^SGD's steps over the others'.*$", said, re.MULTILINE).group()
    assert len(numbers(r"\d+\.\d", ratios)) == 9
    assert all(x >= 2 for x in numbers(r"\d+\.\d", ratios))
    heights = re.search(r"^On Rastrigin's surface.*$", said, re.MULTILINE).group()
    assert all(x > 0.9 for x in numbers(r"\d+\.\d", heights))


def test_generalisation(said):
    for name, least in {"wine": 0.88, "diabetes": 0.2}.items():
        momentum, adam = row(said, name)[:2]
        assert least < momentum <= 1
        assert least < adam <= 1
    assert re.search(r"test score, Momentum - Adam: \d of 2 intervals include equality", said)
    assert len(re.findall(r"^\s*\w+ .*\d+ of 45: ", said, re.MULTILINE)) == 2


def test_ill_conditioned(said):
    along, rotated = row(said, "quadratic along the axes"), row(said, "the same, rotated")
    assert re.search(r"^the same, rotated.* > 3,000 +\d+$", said,
                     re.MULTILINE)  # RMSProp, which is the fastest along the axes
    assert abs(along[2] - rotated[2]) <= 1                                       # Momentum
    assert along[4] < along[2] < rotated[4]                                      # Adam
    assert row(said, "features, scales 1 to 100")[2] > 5*row(said, "the same, scaled")[2]
    zeros = [row(said, start)[0] for start in ("least squares", "L1 in the gradient", "L1 by proximal step")]
    assert zeros[:2] == [0, 0]
    assert zeros[2] >= 37
    losses = row(said[said.index("loss of the network"):], "Adam")[::2]  # the learning rates stand between them
    assert losses[0] > 0.5
    assert max(losses[2:]) < 0.05
    assert all(x > 1 for x in numbers(r"([\d.]+) times", said[said.index("A cosine ends"):]))
