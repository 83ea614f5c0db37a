"""The pages of the site are true: names, figures, what they say of other libraries.

tests/test_docs.py runs their code, and looks at what is the same on all pages.
"""
import ast
import importlib
import inspect
import operator
import re

import numpy as np
import pytest
from pages import ROOT, read, rows
from test_parity import DRIVERS

import fastopt
from fastopt import presets, rules, schedules, storage
from fastopt._cpu.jobs import LARGEST_TILE, SMALLEST_TILE
from fastopt._cpu.pool import SMALL
from fastopt._cuda.clock import PERIOD, REPOSTED
from fastopt._formats.blocks import SIZE
from fastopt._formats.catalogue import STORED
from fastopt._rule.hyperparameters import DECAYS, MODIFIERS
from fastopt._rule.pieces import PIECES
from fastopt.bench import cli

GUIDES = "docs/guides"
TEXT = {str(path.relative_to(ROOT/"docs").with_suffix("")): path.read_text(encoding="utf-8")
        for path in (ROOT/"docs").rglob("*.md") if path.parent.name in ("docs", "start", "guides", "how_it_works")}


def table(page, head):
    """The table whose first line begins so, as {first cell: the others}."""
    found = TEXT[page].partition(f"\n{head}")
    assert found[1], (page, head)
    return {name: cells for name, cells in rows(f"{head}{found[2]}".partition("\n\n")[0]).items()
            if not head.startswith(f"| {name}") and set(name) != {"-"}}


def quoted(cells):
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


# Other libraries

def test_schedules_side_by_side_exist():
    homes = ["fastopt.schedules", "torch.optim.lr_scheduler", "optax", "keras.optimizers.schedules"]
    for name in ("torch", "optax", "keras"):
        pytest.importorskip(name)
    for ours, theirs in table("guides/coming_from", "| fastopt | torch | optax | Keras |").items():
        for home, cell in zip(homes, (ours, *theirs), strict=True):
            for name in quoted([cell]) if "callback" not in cell else ():
                assert "=" in name or operator.attrgetter(name)(importlib.import_module(home))


def test_like():
    assert list(table("guides/conventions", "| `like=` |")) == [f'`"{name}"`' for name in presets.PRESETS]
    assert list(table("guides/conventions", "| `form=` |")) == [
        '`"textbook"` (default)', '`"negative"`', '`"outside"`']
    assert list(table("guides/conventions", "| `decay=` |")) == [f'`"{name}"`' for name in DECAYS]
    decoupled = [cls.__name__ for cls in fastopt.optimizers.NAMED.values() if cls.rule.defaults["decay"] == "decoupled"]
    assert table("guides/conventions", "| `decay=` |")['`"decoupled"`'][-1].split(", ") == sorted(
        decoupled, key=["AdamW", "AdEMAMix", "Lion", "Adan", "LAMB"].index)


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


PLACES = {"torch": "torch.optim", "optax": "optax", "keras": "keras.optimizers"}


@pytest.mark.parametrize("library", PLACES)
def test_names_side_by_side_take_the_same_steps(library):
    drive, libraries = DRIVERS[library]
    for name in libraries:
        pytest.importorskip(name)
    rng = np.random.default_rng(3)
    w, gradients, found = rng.normal(size=11), rng.normal(size=(6, 11)), table(
        "guides/coming_from", f"| {PLACES[library]} | fastopt |")
    for theirs, ours in ((theirs.strip("`"), ours.strip("`")) for theirs, (ours,) in found.items()):
        call = ast.parse(theirs, mode="eval").body
        given = {k.arg: ast.literal_eval(k.value) for k in call.keywords}
        if library == "optax":
            given["lr"] = ast.literal_eval(call.args[0])
        walked = drive(ast.unparse(call.func), given, w.copy(), gradients, None)
        p = w.copy()
        opt = eval(ours, {**vars(fastopt), "params": p})
        for t, (g, (its, *_)) in enumerate(zip(gradients, walked, strict=True), 1):
            opt.step(g)
            np.testing.assert_allclose(p, its, rtol=1e-12, atol=1e-14, err_msg=f"{theirs} at step {t}")
    named = {ours.strip("`").partition("(")[0] for ours, in found.values()}
    assert {fastopt.optimizers.NAMED[name].__name__ for name in presets.PRESETS[library]} <= named


# Modifiers

NAMES = {"grad_factor and clip_norm": "scale", "clip_value": "limit", 'trust_ratio="gradient"': "gradient_trust",
         "coupled decay": "coupled", 'trust_ratio="update"': "update_trust", "decoupled decay": "decoupled",
         "p - u, or Schedule-Free's step": "schedule_free"}


def test_every_modifier_is_there_and_in_order():
    rows_of = [name.strip("`").partition("=")[0] for name in table("guides/modifiers", "| argument | what it does |")]
    known = [*MODIFIERS, *(name for name, piece in PIECES.items() if piece.hyper)]
    assert set(rows_of) == set(known) - {"trust_coefficient", "average"}
    text = re.sub(r"\n +->", " ->", TEXT["guides/modifiers"])
    lines = re.findall(r"^(?:gradient|update|parameter): +(.*)$", text, re.MULTILINE)
    order = [NAMES.get(word.strip(), word.strip()) for line in lines for word in line.split("->")]
    assert order == [name for name in PIECES if name not in ("cautious_scaled", "cautious_decay")]


def test_modifiers_of_the_classes_of_torch():
    pytest.importorskip("torch")
    from fastopt.torch.optimizers import MODIFIERS as there
    lacking = {*MODIFIERS, *(name for name, piece in PIECES.items() if piece.hyper)} - {*there, "average"}
    assert lacking == {"mars", "schedule_free"}
    for page in ("guides/modifiers", "guides/torch"):
        assert re.search(r"[Ee]very class takes every (modifier|\[modifier\]\(modifiers.md\)) but `mars` and "
                         "`schedule_free`", TEXT[page])


# Storage

def test_bytes_of_the_formats():
    """What the table says is kept and moved, per element of a whole block."""
    moments = '`{"m": "bf16", "v": "bf16s"}`'
    mixes = {"float32, float32": ("f32", "f32", None), f"float32, {moments}": ("f32", "f32", "bf16"),
             'float32, `"q8"`': ("f32", "f32", "q8"), f'bfloat16 `"remainder"`, {moments}': ("bf16", "split", "bf16"),
             'bfloat16 `"stochastic"`, `"bf16s"`': ("bf16", "bf16s", "bf16s"),
             'bfloat16 `"stochastic"`, `"q8"`': ("bf16", "bf16s", "q8")}
    for name, (kept, moved) in storage.table(rules.adam, mixes).items():
        assert f"| {name} | {round(kept, 2):g} | {round(moved, 2):g} |" in TEXT["guides/fewer_bytes"]


def test_formats():
    assert quoted(table("how_it_works/formats", "| format | a number in memory |")) == STORED.keys()
    assert f"blocks of {SIZE} numbers" in TEXT["guides/fewer_bytes"]
    for names, (counts, _) in table("guides/fewer_bytes", "| name | bytes | what it is |").items():
        formats = [STORED[{"q8": "q43"}.get(name, name)] for name in re.findall(r'"(\w+)"', names)]
        assert {f"{f.bytes:.4g}" for f in formats} == {*counts.split(", ")}


# Names and numbers

def test_every_public_name_is_on_some_page():
    text = "\n".join([*TEXT.values(), read("README.md")])
    names = [*fastopt.__all__, *fastopt.LAZY]
    assert not [name for name in names if f"`{name}`" not in text and f"fastopt.{name}" not in text]
    made = quoted(cell for cells in table("guides/parameters", "| what for | schedules |").values() for cell in cells)
    assert not [name for name in schedules.__all__ if name not in ("Schedule", "evaluate", "schedule")
                and name not in made]


def test_the_package_s_own_numbers():
    for page in ("how_it_works/threads", "guides/speed"):
        assert f"{SMALL:,}" in TEXT[page]
    kernels, cuda = (" ".join(TEXT[page].split()) for page in ("how_it_works/kernels", "guides/cuda"))
    assert f"at least {SMALLEST_TILE:,} and at most {LARGEST_TILE:,} elements" in kernels
    assert f"after {PERIOD - 1:,} such steps in a row" in cuda
    assert f"if {REPOSTED} or more of them came before" in cuda


def test_extras():
    optional = read("pyproject.toml").partition("[project.optional-dependencies]")[2].partition("\n[")[0]
    there = set(re.findall(r"^(\w+) = \[", optional, re.MULTILINE))
    assert quoted(table("start/install", "| extra | what it is for |")) >= there


def test_options_of_the_benchmark(capsys):
    with pytest.raises(SystemExit):
        cli.main(["bench", "--help"])
    said = capsys.readouterr().out
    named = [name.split()[0] for name in quoted(table("guides/speed", "| option | what it does |"))]
    assert len(named) >= 8
    assert not [name for name in named if name not in said]


def test_arguments_of_fit():
    """All are in the table, but for those that the text shows."""
    named = {name.partition("=")[0] for name in quoted(table("guides/training", "| argument | what it does |"))}
    further = {"opt", "value_and_grad", "steps", "validate_every", "min_delta"}
    assert named | further == {*inspect.signature(fastopt.fit).parameters}
