"""The studies of losses: their statistics on made numbers, what they may see of the data, and small runs of them."""
import importlib
import json
import math
from pathlib import Path

import numpy as np
import pytest

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(Path(__file__).parents[1]))
    seeds, helps, transformer = (importlib.import_module(f"benchmarks.studies.{name}")
                                 for name in ("seeds", "helps", "transformer"))


def test_interval():
    """Student's t for three values: 4.303 standard deviations of the mean; for two, 12.706."""
    pytest.importorskip("scipy")
    assert seeds.interval([1, 2, 3]) == pytest.approx((2, 2 - 4.3027/3**0.5, 2 + 4.3027/3**0.5), abs=1e-4)
    assert seeds.interval([0, 2]) == pytest.approx((1, 1 - 12.7062, 1 + 12.7062), abs=1e-4)


def test_what_is_kept_is_not_worked_on_again(tmp_path, capsys):
    asked, file = [], tmp_path/"kept"

    def work(*case):
        asked.append(case)
        return {"of": case[1]}
    assert seeds.found(work, [("a", 1)], 1, str(file)) == {("a", 1): {"of": 1}}
    assert seeds.found(work, [("a", 1), ("b", 2)], 1, str(file)) == {("a", 1): {"of": 1}, ("b", 2): {"of": 2}}
    assert asked == [("a", 1), ("b", 2)]
    assert [json.loads(line) for line in file.read_text().splitlines()] == [[["a", 1], {"of": 1}],
                                                                            [["b", 2], {"of": 2}]]
    assert seeds.found(math.hypot, [(3, 4), (5, 12)], 2, None) == {(3, 4): 5, (5, 12): 13}  # two processes


@pytest.mark.parametrize("program", [helps, transformer])
def test_one_seed_has_no_interval(program, capsys):
    with pytest.raises(SystemExit, match="2"):
        program.main(["--seeds", "1"])
    assert "--seeds is 1, but at least 2 is needed" in capsys.readouterr().err


def test_trials_are_alike():
    """Each fifth of a range is drawn from once, by every method at the same places, but for the base's twin."""
    base, other, again = (helps.trials(name, 5, 3) for name in ("AdamW", "Lion", "AdamW, again"))
    of = [np.log10([t.rate/helps.METHODS[name].middle for t in found])/helps.DECADES + 0.5
          for name, found in (("AdamW", base), ("Lion", other), ("AdamW, again", again))]
    assert sorted(np.floor(5*of[0])) == [0, 1, 2, 3, 4]
    np.testing.assert_allclose(of[0], of[1], rtol=1e-12)
    assert np.abs(of[0] - of[2]).max() > 0.01
    assert [t.decay for t in base] == [t.decay for t in other]
    assert all(helps.DECAYS[0] <= t.decay <= helps.DECAYS[1] for t in base)
    assert {t.own["b1"] for t in base} == {0.8, 0.9, 0.95}
    assert [t.own["b1"] for t in helps.trials("AdamW, average", 5, 3)] == [t.own["b1"] for t in base]
    assert {t.own["average"] for t in helps.trials("AdamW, average", 5, 3)} == {0.9, 0.97, 0.99}
    assert helps.trials("AdamW", 5, 4) != base


def test_tuning_sees_no_test_row(monkeypatch):
    pytest.importorskip("sklearn")
    seen = []

    def loss(task, method, trial, learned, judged, steps, seed):
        seen.append((set(learned), set(judged)))
        return abs(math.log(trial.rate/0.03))
    monkeypatch.setattr(helps, "loss", loss)
    found, trial = helps.tuned("digits", "AdamW", 5, 7, 0)
    train, test = map(set, helps.halves("digits"))
    assert (train & test, len(train | test)) == (set(), 1797)
    assert len(seen) == 5*helps.FOLDS
    assert all(learned <= train and judged <= train and not learned & judged for learned, judged in seen)
    assert trial in helps.trials("AdamW", 5, 0)
    assert found == min(abs(math.log(t.rate/0.03)) for t in helps.trials("AdamW", 5, 0))


def made(*losses):
    return [{"trial": [0.1*k, 0, {}], "losses": [x, x/2]} for k, x in enumerate(losses, start=1)]


def test_the_table_says_what_intervals_bear_out():
    pytest.importorskip("scipy")
    base = np.array([1.0, 1.1, 0.9, 1.2, 1.0])
    results = {"AdamW": made(*base), "less": made(*base*[0.9, 0.91, 0.89, 0.9, 0.9]), "luck": made(*base[::-1]),
               "more": made(*base*[1.5, 1.02, 1.1, 1.6, 1.3]), helps.CONSTANT: made(*base*2),
               helps.AVERAGE: made(*base*[1.8, 1.82, 1.78, 1.8, 1.8])}
    lines = helps.table(results, {name: [1.25, 1.2, 1.3] for name in results})
    less, luck, more = (next(line for line in lines if line.startswith(f"| {name} ")) for name in list(results)[1:4])
    assert "| 0.1 to 0.5 | 0.9" in less
    assert "| **0.900** (0.891 to 0.909) | 1.25 (1.20 to 1.30) | 0.450 (0" in less
    assert "| 1.000 (" in luck
    assert "| **1.285** (" in more
    assert "At a constant rate, the loss with `average` over that without: 0.900 (0.891 to 0.909)." in lines
    assert lines[-1].startswith("In equal steps 4 of 5 intervals exclude 1")
    assert lines[-1].endswith("(each of 99.00%) exclude 1 for: lower loss: less; higher loss: "
                              f"{helps.CONSTANT}, {helps.AVERAGE}.")


def test_methods_train():
    """Every one, on the digits, with the middle of its learning rates: better than chance after 40 steps."""
    pytest.importorskip("sklearn")
    for name in ("AdamW", "AdamW, constant rate, average", "Nesterov", "SGD"):
        of = helps.METHODS[name]
        trial = helps.Trial(of.middle, 1e-4, {key: values[0] for key, values in of.drawn.items()})
        assert helps.loss("digits", name, trial, *helps.halves("digits"), 40, 0) < 1.0, name
    assert helps.loss("digits", "SGD", helps.Trial(1e9, 0.0, {}), *helps.halves("digits"), 5, 0) == math.inf


def test_helps_runs(tmp_path, capsys):
    pytest.importorskip("sklearn")
    numbers = {"seeds": 2, "trials": 2, "steps": 3, "seconds": 0.01, "jobs": 1, "keep": tmp_path/"kept"}
    words = [f"--{name}={value}" for name, value in numbers.items()] + ["--tasks", "digits", "--methods", "Lion"]
    assert helps.main(words) == 0
    first = capsys.readouterr().out
    rows = [line.split(" | ") for line in first.splitlines() if line.startswith(("| AdamW", "| Lion"))]
    assert [len(row) for row in rows] == [6, 6]
    assert all(math.isfinite(float(row[2])) for row in rows)
    assert helps.main(words) == 0  # from what was kept
    assert capsys.readouterr().out == first


def test_the_text_held_out_is_not_learned():
    learned, held, letters = transformer.text()
    assert letters == max(learned.max(), held.max()) + 1
    assert len(held) == pytest.approx(len(learned)/9, rel=1e-4)
    where = learned.astype(np.uint8).tobytes()
    pieces = [held[k:k + 200].astype(np.uint8).tobytes() for k in range(0, len(held) - 200, 200)]
    assert sum(piece in where for piece in pieces) <= len(pieces)/100  # a paragraph was there with another line end


def test_transformer():
    torch = pytest.importorskip("torch")
    of, (learned, _, letters) = transformer.SIZES["tiny"], transformer.text()
    first, full = (transformer.initial(transformer.SIZES[size], letters, np.random.default_rng(0))
                   for size in ("tiny", "full"))
    assert sum(p.size for p in full.values()) >= 5e6
    weights, windows = {name: torch.from_numpy(p) for name, p in first.items()}, learned[:18].reshape(2, of.context + 1)
    assert float(transformer.loss(of, weights, windows)) == pytest.approx(math.log(letters), rel=0.01)
    # no place sees what comes after it: with large weights, so that what it sees would show
    weights = {name: w*20 for name, w in weights.items()}
    changed = windows.copy()
    changed[:, 5] = (changed[:, 5] + 1) % letters
    before, after = (transformer.scores(of, weights, torch.from_numpy(w[:, :-1])) for w in (windows, changed))
    assert torch.equal(before[:, :5], after[:, :5])
    assert all(not torch.equal(before[:, k], after[:, k]) for k in (5, 6, 7))


def test_transformer_runs(capsys):
    pytest.importorskip("torch")
    words = ["--seeds", "2", "--steps", "40", "--size", "tiny", "--jobs", "1", "--also", "8-bit state"]
    assert transformer.main(words) == 0
    table = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if line[:5] in ("| flo", "| 8-b")]
    assert [row[1] for row in table] == ["12.00", "6.13"]
    for row in table:
        marks = [float(x) for x in row[2:2 + transformer.MARKS]]
        assert marks == sorted(marks, reverse=True)
        assert marks[-1] < math.log(103)
    assert table[0][-2:] == ["0", "0 |"]
    assert abs(float(table[1][-1].split(" (")[0])) < 0.05
