"""The README is true: its code, its tables, its commands and links."""
import math
import re
import shlex

import numpy as np
import pytest
from conftest import OPTIMIZERS
from pages import ROOT, STATED, blocks, read, rows, run

import fastopt
from fastopt.bench import cli

README = read("README.md")
ROWS = {name: cells for name, cells in rows(README).items() if re.fullmatch(r"`[A-Z]\w+`", name)}


def test_python_blocks(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert STATED.search(README)
    assert not run("README.md", "python")


def test_it_is_short():
    assert README.count("\n") <= 150


# The table of optimizers

def test_table_facts():
    """Every optimizer, in the order of their complexity."""
    assert list(ROWS) == [f"`{cls.__name__}`" for cls in OPTIMIZERS.values()]
    for cls in OPTIMIZERS.values():
        _, lr, state, moved = ROWS[f"`{cls.__name__}`"]
        assert float(lr) == cls.rule.defaults["lr"]
        assert tuple(state.replace("none", "").split()) == cls.rule.state
        assert int(moved) == (1 + 2*(1 + len(cls.rule.state)))*4
    for page in ("README.md", "docs/index.md"):  # beside SGD, Momentum, Adam and AdamW
        assert f"{len(OPTIMIZERS) - 4} other methods" in read(page).replace("[", "")


def test_lamb_and_lars_are_what_the_text_says():
    lamb, lars = fastopt.LAMB.rule, fastopt.LARS.rule
    assert (lamb.body, lars.body) == (fastopt.AdamW.rule.body, fastopt.Momentum.rule.body)
    for rule, trust in ((lamb, f'`trust_ratio="update"` and eps {lamb.defaults["eps"]:.0e}'.replace("e-0", "e-")),
                        (lars, '`trust_ratio="gradient"` and')):
        assert f'trust_ratio="{rule.defaults["trust_ratio"]}"' in trust
        assert f"`{rule.class_name}` is" in README
        assert trust in README
    assert f"`trust_coefficient={lars.defaults['trust_coefficient']}`" in README


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


# The table of speed

def speeds(page):
    """{size and rule: {column: figure}}, of the table of speed on a page."""
    table = rows(read(page).partition("| float32, 2 threads |")[2].partition("\n\n")[0])
    heads = read(page).partition("| float32, 2 threads |")[2].partition("\n")[0].strip("|").split("|")
    return {case: dict(zip((head.strip() for head in heads), cells, strict=True)) for case, cells in table.items()
            if case.startswith("1e")}


def test_speeds_are_rows_of_the_guide():
    """And among them is every row in which a rival is faster."""
    here, there = speeds("README.md"), speeds("docs/guides/speed.md")
    assert len(here) >= 8
    for case, figures in here.items():
        full = there[case.replace("Momentum", "momentum")]
        assert figures == {head: full[head] for head in figures}
    assert {case for case, figures in there.items() if "**" in "".join(figures.values())} <= here.keys()
    for figures in there.values():
        for figure in list(figures.values())[3:]:
            assert not figure.strip("*") or ("**" in figure) == (float(figure.strip("*")) < 1)


# Commands and links

def test_commands_parse(capsys):
    """Those for the main job and the tests are where CI looks for them; `fastopt ...` names a subcommand."""
    found = [code.splitlines() for code in blocks(README, "bash")]
    assert [lines[0] for lines in found] == ["# main job", "# tests"]
    used = [words[1:] for lines in found for command in " && ".join(lines[1:]).split("&&")
            if (words := shlex.split(command))[0] == "fastopt"]
    assert used == [["bench"]]
    with pytest.raises(SystemExit) as end:
        cli.main(["bench", "--help"])
    assert not end.value.code
    assert "usage" in capsys.readouterr().out


def test_modules_and_extras_exist():
    for module in set(re.findall(r"python -m (benchmarks[\w.]*)", README)):
        place = ROOT.joinpath(*module.split("."))
        assert place.with_suffix(".py").is_file() or (place/"__main__.py").is_file(), module
    pyproject = read("pyproject.toml")
    extras = {e for found in re.findall(r"\.\[([\w,]+)\]", README) for e in found.split(",")}
    assert extras >= {"test", "parity"}
    assert not [e for e in extras if not re.search(rf"^{e} = \[", pyproject, re.MULTILINE)]


def slugs(page):
    """The names by which headings of a page are linked to."""
    text = re.sub(r"^```.*?^```$", "", read(page), flags=re.MULTILINE | re.DOTALL)
    heads = (re.sub(r"[`*]", "", head).lower() for head in re.findall(r"^#+ (.+)$", text, re.MULTILINE))
    return {re.sub(r"[^\w\- ]", "", head).replace(" ", "-") for head in heads}


def test_links():
    """Of the README and of the pages; to headings, too."""
    pages = ["README.md", *(str(path.relative_to(ROOT)) for name in ("start", "guides", "how_it_works")
                            for path in (ROOT/"docs"/name).glob("*.md")), "docs/index.md"]
    count = 0
    for page in pages:
        for path, _, heading in (link.partition("#") for link in re.findall(r"\]\(([^)]+)\)", read(page))):
            assert ":" not in path or path.startswith("https://"), (page, path)
            target = (ROOT/page).parent/path if path else ROOT/page
            if heading and ":" not in path:
                count += 1
                assert heading in slugs(target.resolve().relative_to(ROOT)), (page, path, heading)
            assert page != "README.md" or target.exists(), path
    assert count > 30
