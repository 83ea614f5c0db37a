"""The pages of docs/guides and docs/how_it_works are true: names, figures, what they say of other libraries."""
import ast
import importlib
import operator

import numpy as np
import pytest
from pages import read, rows
from test_parity import DRIVERS

import fastopt

PLACES = {"torch": "torch.optim", "optax": "optax", "keras": "keras.optimizers"}


def twins(library):
    """(the other library's call, ours), from the table of a library."""
    text = read("docs/guides/coming_from.md")
    table = text.partition(f"| {PLACES[library]} | fastopt |\n|---|---|\n")[2].partition("\n\n")[0]
    return [(theirs.strip("`"), cells[0].strip("`")) for theirs, cells in rows(table).items()]


@pytest.mark.parametrize("library", PLACES)
def test_names_side_by_side_take_the_same_steps(library):
    drive, libraries = DRIVERS[library]
    for name in libraries:
        pytest.importorskip(name)
    rng = np.random.default_rng(3)
    w, gradients, found = rng.normal(size=11), rng.normal(size=(6, 11)), twins(library)
    assert len(found) >= 15
    for theirs, ours in found:
        call = ast.parse(theirs, mode="eval").body
        given = {**{"lr": ast.literal_eval(x) for x in call.args if library == "optax"},
                 **{k.arg: ast.literal_eval(k.value) for k in call.keywords}}
        walked = drive(ast.unparse(call.func), given, w.copy(), gradients, None)
        p = w.copy()
        opt = eval(ours, {**vars(fastopt), "params": p})
        for t, (g, (its, *_)) in enumerate(zip(gradients, walked, strict=True), 1):
            opt.step(g)
            np.testing.assert_allclose(p, its, rtol=1e-12, atol=1e-14, err_msg=f"{theirs} at step {t}")


def test_schedules_side_by_side_exist():
    text = read("docs/guides/coming_from.md").partition("| fastopt | torch | optax | Keras |\n|---|---|---|---|\n")[2]
    homes = ["fastopt.schedules", "torch.optim.lr_scheduler", "optax", "keras.optimizers.schedules"]
    for name in ("torch", "optax", "keras"):
        pytest.importorskip(name)
    table = rows(text)
    assert len(table) > 10
    for ours, theirs in table.items():
        for home, cell in zip(homes, (ours, *theirs), strict=True):
            names = [name for name in cell.split("`")[1::2] if "=" not in name]
            for name in names if "callback" not in cell else []:
                assert operator.attrgetter(name)(importlib.import_module(home))
