"""The site is true: its code gives what it says, its commands, links and names exist, its formulas are steps."""
import importlib
import re
import shlex

import numpy as np
import pytest
from pages import BLOCK, ROOT, blocks, read, run

import fastopt
from fastopt import optimizers, presets
from fastopt._rule.modifiers import FACTS
from fastopt._rule.pieces import PIECES
from fastopt.bench import cli

MADE = ("_build", "methods/rules", "methods/modifiers", "reference/modules")  # when the site is built
PAGES = sorted(str(path.relative_to(ROOT)) for path in (ROOT/"docs").rglob("*.md")
               if not str(path.relative_to(ROOT/"docs")).startswith(MADE))
TEXT = {page: read(page) for page in PAGES}
WITH = {"python": {}, "py": {"np": np, "fastopt": fastopt}, "python3": {"fastopt": fastopt}}


def having(kind):
    return pytest.mark.parametrize("page", [page for page in PAGES if blocks(TEXT[page], kind)])


# What is named

def test_every_block_of_python_is_one_that_runs():
    """`py3` runs in tests/test_mpi.py; code of other kinds is no Python."""
    kinds = {kind for text in TEXT.values() for kind, _ in BLOCK.findall(text)}
    assert kinds <= {"python", "py", "python3", "py3", "bash", "text"}


def test_commands():
    """Every `fastopt ...` has such options; every `python -m benchmarks...` is a program; every extra exists."""
    pyproject = read("pyproject.toml")
    options = {}
    for page, text in TEXT.items():
        for command in re.findall(r"`((?:fastopt|python -m) [^`]+)`", text) + [
                part for code in blocks(text, "bash") for line in code.splitlines() for part in line.split("&&")]:
            words = shlex.split(command, comments=True)
            if words[:1] == ["fastopt"] and len(words) > 1:
                options.setdefault(words[1], []).extend((w.partition("=")[0], page) for w in words if w[:2] == "--")
        for module in re.findall(r"python -m (benchmarks[\w.]*)", text):
            place = ROOT.joinpath(*module.split("."))
            assert place.with_suffix(".py").is_file() or (place/"__main__.py").is_file(), (page, module)
        for extras in re.findall(r"(?:\.|fastopt)\[([\w,]+)\]", text):
            assert not [e for e in extras.split(",") if not re.search(rf"^{e} = \[", pyproject, re.MULTILINE)], page
    said = {name: cli.parser()._subparsers._group_actions[0].choices[name].format_help() for name in options
            if not name.startswith("-")}
    assert said
    assert not [found for name in said for found in options[name] if found[0] not in said[name]]


@pytest.mark.parametrize("page", PAGES)
def test_links(page):
    """Of files; the build looks at headings. What the build makes is known by its folder."""
    for link in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", re.sub(r"^```.*?^```$", "", TEXT[page], flags=re.M | re.S)):
        path = (ROOT/page).parent/link
        assert path.exists() or str(path.resolve().relative_to(ROOT/"docs")).startswith(MADE), link


def test_pictures_have_words():
    """What a picture shows, for those who do not see it."""
    pages = {**TEXT, **{page: read(page) for page in ("README.md", "examples/README.md", "benchmarks/README.md")}}
    pictures = [(page, words) for page, text in pages.items() for words in re.findall(r"!\[(.*?)\]\(", text)]
    assert len(pictures) >= 9
    assert not [page for page, words in pictures if len(words.split()) < 4]


def resolved(name):
    """What a dotted name stands for; AttributeError where it stands for nothing."""
    head, *rest = name.split(".")
    thing = importlib.import_module(head)
    for part in rest:
        thing = getattr(thing, part) if hasattr(thing, part) else importlib.import_module(f"{thing.__name__}.{part}")
    return thing


@pytest.mark.parametrize("page", PAGES)
def test_names(page):
    """Every `fastopt.x.y` is there, and every `opt.x` is what an optimizer has."""
    quoted = " ".join(re.findall(r"`([^`\n]+)`", TEXT[page]) + [code for _, code in BLOCK.findall(TEXT[page])])
    for name in set(re.findall(r"(?<![\w./\[])fastopt(?:\.[A-Za-z_]\w*)+", quoted)):
        for optional in ("torch", "mpi"):
            if name.startswith(f"fastopt.{optional}"):
                pytest.importorskip({"mpi": "mpi4py"}.get(optional, optional))
        resolved(name)
    if not re.search(r"^opt = (?!fastopt\.[A-Z])", TEXT[page], re.MULTILINE):
        assert not [name for name in re.findall(r"(?<![\w.])opt\.(\w+)", quoted) if not hasattr(fastopt.AdamW, name)]


# Formulas and twins

def test_every_preset_has_its_twin():
    assert {system: [*rules] for system, rules in presets.TWINS.items()} == {
        system: [*sorted(rules, key=[*optimizers.NAMED].index)] for system, rules in presets.PRESETS.items()}
    for system, rules in presets.TWINS.items():
        assert all((differs.startswith(("nothing", "no momentum")) or bool(presets.PRESETS[system][name]))
                   for name, (_, differs) in rules.items())
        assert system in presets.__doc__


WORDS = {"sqrt": np.sqrt, "sign": np.sign, "abs": np.abs, "min": np.minimum, "max": np.maximum, "where": np.where,
         "norm": np.linalg.norm, "sum": np.sum, "rms": lambda x: np.sqrt(np.mean(x*x))}


def runnable(formula):
    return formula.replace("^", "**").replace("<-", "=")


@pytest.mark.parametrize("cls", optimizers.NAMED.values(), ids=lambda cls: cls.__name__)
def test_the_formula_of_a_rule_is_what_a_step_does(cls):
    """That of its docstring, evaluated, against ten steps in float64."""
    rule = cls.rule
    formula = re.sub(r"^ +", "", re.split(r"\n\s*\n", rule.__doc__)[1], flags=re.MULTILINE)
    hyper = {**{k: v for k, v in rule.defaults.items() if type(v) is float}, "lr": 0.01}
    hyper |= {k: 0.3 for k in ("lr_decay", "initial_accumulator_value", "eps_root") if k in hyper}
    rng = np.random.default_rng(0)
    p = rng.normal(size=5)
    here = {"p": p.copy(), "P": 1.0, **{name: hyper.get(rule.initial.get(name), 0.0) for name in rule.state}}
    opt = cls(p, **{k: v for k, v in hyper.items() if k in rule.defaults})
    for t in range(1, 11):
        g = rng.normal(size=5)
        opt.step(g)
        here |= {**WORDS, **hyper, "mu": hyper.get("momentum"), "t": t, "g": g}
        exec(runnable(formula), {}, here)
    np.testing.assert_allclose(p, here["p"], rtol=1e-12)


GIVEN = {  # what a modifier is asked for, and what its formula calls these numbers
    "adaptive_clip": ({"adaptive_clip": 0.3}, {"adaptive_clip": 0.3}), "mars": ({"mars": 0.3}, {"gamma": 0.3}),
    "grokfast": ({"grokfast": (0.7, 1.5)}, {"share": 0.7, "factor": 1.5}),
    "gradient_trust": ({"trust_ratio": "gradient", "trust_coefficient": 0.7, "decay": "coupled"},
                       {"trust_coefficient": 0.7}),
    "cautious": ({"cautious": True}, {}), "cautious_scaled": ({"cautious": "scaled"}, {"n": 7}),
    "update_clip": ({"update_clip": 0.4}, {"update_clip": 0.4}),
    "update_rms": ({"update_rms": 0.4}, {"update_rms": 0.4}),
    "update_trust": ({"trust_ratio": "update", "trust_coefficient": 0.8}, {"trust_coefficient": 0.8}),
    "cautious_decay": ({"cautious_decay": True}, {}), "schedule_free": ({"schedule_free": 0.8}, {"b": 0.8, "b1": 0.0}),
    "average": ({"average": 0.8}, {"d": 0.8})}


def test_every_modifier_has_its_facts():
    kept = {name for name, piece in PIECES.items() if piece.terms or piece.slot == "state"}
    assert [*FACTS] == [name for name in PIECES if name in FACTS] == [*GIVEN]
    assert kept <= FACTS.keys()


@pytest.mark.parametrize("name", FACTS)
def test_the_formula_of_a_modifier_is_what_a_step_does(name):
    """With AdamW, or where momentum goes, with what is left of it: ten steps in float64."""
    asked, numbers = GIVEN[name]
    rng, lr, wd = np.random.default_rng(1), 0.05, 0.1
    p = rng.normal(size=7)
    opt = fastopt.AdamW(p, lr=lr, weight_decay=wd, **asked)
    b1 = numbers.get("b1", 0.9)
    here = {"p": p.copy(), "m": 0.0, "v": 0.0, "old": 0.0, "h": 0.0, "total": 0.0, "z": p.copy(), "x": p.copy(),
            "average": p.copy()}
    formula = runnable(FACTS[name].formula)
    for t in range(1, 11):
        g = rng.normal(size=7)
        opt.step(g)
        here |= {**WORDS, **numbers, "g": g, "lr": lr, "wd": wd, "b1": b1, "t": t}
        stage, before = PIECES[name].stage, here["p"]
        if stage == "gradient":
            exec(formula, {}, here)
        here["m"], here["v"] = b1*here["m"] + (1 - b1)*here["g"], 0.999*here["v"] + 0.001*here["g"]**2
        here["u"] = lr*here["m"]/(1 - b1**t)/(np.sqrt(here["v"]/(1 - 0.999**t)) + 1e-8)
        if stage in ("update", "decay"):
            exec(formula, {}, here)
        if stage == "apply":
            here["u"] = here["u"] + lr*wd*before
            exec(formula, {}, here)
        elif here["p"] is before:
            here["p"] = before - here["u"] - lr*wd*before*(asked.get("decay") != "coupled")
        if stage == "after":
            exec(formula, {}, here)
            np.testing.assert_allclose(opt.state["average"], here["average"], rtol=1e-6)  # which is in float32
    np.testing.assert_allclose(p, here["p"], rtol=1e-6 if opt.state.get("schedule_free") is not None else 1e-11)


# Code

@having("python")
def test_python_blocks(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    assert not run(page, "python")


@having("py")
def test_blocks_for_a_device(page, stand_in, tmp_path, monkeypatch):
    """On the stand-in for the CUDA driver."""
    pytest.importorskip("numba_cuda", reason="the extra `cuda` is not installed")
    monkeypatch.chdir(tmp_path)
    assert not run(page, "py", **WITH["py"])


@having("python3")
def test_blocks_for_torch(page, tmp_path, monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    assert not run(page, "python3", **WITH["python3"])
