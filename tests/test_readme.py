"""The README is true: its code gives what it says, its table is the rules', its commands, names and links exist.

Its Python blocks run from top to bottom in one namespace. A line ``expression  # -> value`` states the value's repr.
"""
import math
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from conftest import OPTIMIZERS

import fastopt
from fastopt import presets, rules, schedules, storage
from fastopt._cpu.pool import SMALL
from fastopt._cuda.clock import PERIOD, REPOSTED
from fastopt.bench import cli

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
STATED = re.compile(r"^(?P<expression>\S.*?) +# -> (?P<value>.+)$", re.MULTILINE)
ROWS = {cells[0]: cells[1:] for line in README.splitlines()
        if (cells := [c.strip() for c in line.strip("|").split("|")]) and re.fullmatch(r"`[A-Z]\w+`", cells[0])}


def blocks(language):
    return [code for kind, code in BLOCKS if kind == language]


def run(kind, **names):
    """Execute the blocks of a kind in one namespace; what they state wrongly."""
    wrong, count = [], 0

    def states(value, expected):
        if repr(value) != expected:
            wrong.append(f"{value!r}, not {expected}")

    namespace = {"states": states, **names}
    for code in blocks(kind):
        count += 1
        code = STATED.sub(lambda m: f"states(({m['expression']}), {m['value']!r})", code)
        exec(compile(code, "README.md", "exec"), namespace)
    assert count
    return wrong


def test_python_blocks(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # they write a file
    assert len(STATED.findall(README)) >= 5
    assert not run("python")


def test_blocks_for_a_device(stand_in):
    """Those marked `py`, on the stand-in for the CUDA driver."""
    pytest.importorskip("numba_cuda", reason="the extra `cuda` is not installed")
    assert not run("py", np=np, fastopt=fastopt)


def test_blocks_for_torch():
    pytest.importorskip("torch")
    assert not run("python3", fastopt=fastopt)


# The table of optimizers

def test_table_facts():
    """Every optimizer, in the order of their complexity."""
    assert list(ROWS) == [f"`{cls.__name__}`" for cls in OPTIMIZERS.values()]
    for cls in OPTIMIZERS.values():
        _, lr, state, moved = ROWS[f"`{cls.__name__}`"]
        assert float(lr) == cls.rule.defaults["lr"]
        assert tuple(state.replace("none", "").split()) == cls.rule.state
        assert int(moved) == (1 + 2*(1 + len(cls.rule.state)))*4


def definitions(t, b1, b2, momentum_decay, **_):
    """What the text under the table defines, as written there."""
    def mu(t):
        return b1*(1 - 0.96**(t*momentum_decay)/2)
    n = 2/(1 - b2) - 1
    rho = n - 2*t*b2**t/(1 - b2**t)
    r = math.sqrt((rho - 4)*(rho - 2)*n/((n - 4)*(n - 2)*rho)) if rho > 5 else math.nan
    product = math.prod(mu(i) for i in range(1, t + 1))
    return {"c1": 1 - b1**t, "c2": 1 - b2**t, "mu1": mu(t), "mu2": mu(t + 1), "P": product, "rho": rho, "r": r}


@pytest.mark.parametrize("cls", OPTIMIZERS.values(), ids=lambda cls: cls.__name__)
def test_table_formula_is_what_a_step_does(cls):
    """The code of the cell, evaluated, against ten float64 steps of the optimizer."""
    code = "\n".join(re.findall("`(.*?)`", ROWS[f"`{cls.__name__}`"][0])).replace("^", "**")
    defaults = {**dict.fromkeys(("b1", "b2", "momentum_decay", "lr_decay"), 0.5), **cls.rule.defaults}
    hyper = {**{k: v for k, v in defaults.items() if isinstance(v, float)}, "lr": 0.01}
    if "lr_decay" in cls.rule.defaults:
        hyper["lr_decay"] = 0.3
    given = {k: v for k, v in hyper.items() if k in cls.rule.defaults}
    rng = np.random.default_rng(0)
    p = rng.normal(size=5)
    here = {"p": p.copy(), **{name: hyper.get(cls.rule.initial.get(name), 0.0) for name in cls.rule.state}}
    opt = cls(p, **given)
    for t in range(1, 11):
        g = rng.normal(size=5)
        opt.step(g)
        words = {"sqrt": np.sqrt, "sign": np.sign, "abs": np.abs, "min": np.minimum, "max": np.maximum,
                 "where": np.where, "mu": hyper.get("momentum"),
                 "wd": hyper["weight_decay"]}
        exec(code, {}, here := {**here, **hyper, **definitions(t, **hyper), **words, "t": t, "g": g})
    np.testing.assert_allclose(p, here["p"], rtol=1e-12)


# What the text says

def test_names():
    missing = [name for name in fastopt.__all__ if f"`{name}`" not in README and f"fastopt.{name}" not in README]
    assert not missing
    assert not [name for name in schedules.__all__ if name not in ("Schedule", "evaluate") and f"`{name}`" not in README
                and f"schedules.{name}`" not in README]
    assert not [name for name in presets.PRESETS if f'| `"{name}"` |' not in README]
    assert f"{SMALL:,}" in README
    assert f"a step after {PERIOD - 1:,} of those, or when a hyperparameter changes after {REPOSTED} of them" in README


def points(mu, lr, form, weight_decay=0.0):
    """How far apart the look-ahead points of the two Nesterovs are, and their stored weights, after 30 steps."""
    scale, w, stored = np.array([1.0, 10.0]), np.ones(2), np.ones(2)
    book = fastopt.Nesterov(w, lr=lr, momentum=mu, form=form, weight_decay=weight_decay)
    shifted = fastopt.Nesterov(stored, lr=lr, momentum=mu, form=form, weight_decay=weight_decay, shifted=True)
    for _ in range(30):
        book.step(lambda ahead: scale*ahead)
        shifted.step(scale*stored)
    assert np.abs(w - stored).max() > 1e-4
    return np.abs(book.lookahead() - stored).max()


def test_where_the_two_nesterovs_part():
    for form in ("textbook", "negative", "outside"):
        assert points(0.9, 0.05, form) < 1e-12
        assert points(lambda t: 0.9 - 0.5/t, 0.05, form) > 1e-4
        assert points(0.9, 0.05, form, weight_decay=0.1) > 1e-4
        apart = points(0.9, lambda t: 0.05/t**0.5, form)
        assert apart > 1e-4 if form == "outside" else apart < 1e-12


# Commands and links

def commands():
    return [shlex.split(command) for code in blocks("bash") for line in code.splitlines() if not line.startswith("#")
            for command in line.split("&&")]


def test_commands_parse(capsys):
    """Every `fastopt ...` names a subcommand and options that it has."""
    used = [(words[1], [w for w in words[2:] if w.startswith("--")]) for words in commands() if words[0] == "fastopt"]
    for name, options in [*used, ("bench", re.findall(r"`(--\w+)", README)), ("info", [])]:
        with pytest.raises(SystemExit) as end:
            cli.main([name, "--help"])
        assert not end.value.code
        said = capsys.readouterr().out
        assert not [option for option in options if option not in said]


def test_modules_and_extras_exist():
    for module in set(re.findall(r"python -m (benchmarks[\w.]*)", README)):
        place = ROOT.joinpath(*module.split("."))
        assert place.with_suffix(".py").is_file() or (place/"__main__.py").is_file(), module
    pyproject = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    extras = {e for found in re.findall(r"\.\[([\w,]+)\]", README) for e in found.split(",")}
    assert extras >= {"test", "parity"}
    assert not [e for e in extras if not re.search(rf"^{e} = \[", pyproject, re.MULTILINE)]


def test_links():
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert links
    assert not [link for link in links if ":" in link or not (ROOT / link).exists()]


def test_bytes_of_the_formats():
    """What the table says is kept and moved, per element of a whole block."""
    moments = '`{"m": "bf16", "v": "bf16s"}`'
    mixes = {"float32, float32": ("f32", "f32", None), f"float32, {moments}": ("f32", "f32", "bf16"),
             'float32, `"q8"`': ("f32", "f32", "q8"), f'bfloat16 `"remainder"`, {moments}': ("bf16", "split", "bf16"),
             'bfloat16 `"stochastic"`, `"bf16s"`': ("bf16", "bf16s", "bf16s"),
             'bfloat16 `"stochastic"`, `"q8"`': ("bf16", "bf16s", "q8")}
    for name, (kept, moved) in storage.table(rules.adam, mixes).items():
        assert f"| {name} | {round(kept, 2):g} | {round(moved, 2):g} |" in README
