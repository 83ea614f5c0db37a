"""The command: figures that add up, for every rule; pictures that show something; arguments that are refused by name."""
import json
import subprocess
import sys

import numpy as np
import pytest

from fastopt._cpu.pool import available_threads
from fastopt.bench import ceiling, cli, info, interleave, rivals
from fastopt.bench import compare as bench_compare
from fastopt.bench import cpu as bench
from fastopt.bench import numpy_steps as handwritten
from fastopt.optimizers import ALL

BYTES = {"sgd": 12, "momentum": 20, "nesterov": 20, "rmsprop": 20, "adagrad": 20, "adam": 28, "adamw": 28,
         "amsgrad": 36, "nadam": 28,
         "radam": 28, "lion": 20}


def figures(capsys, *arguments):
    assert cli.main(["bench", "--n", "2000", "--seconds", "0.02", "--json", *arguments]) == 0
    return json.loads(capsys.readouterr().out)["results"]


def test_every_rule_is_measured(capsys):
    results = figures(capsys, "--rules", ",".join(ALL), "--against", "numpy")
    assert [r["rule"] for r in results] == list(ALL)
    for r in results:
        assert r["bytes_per_element"] == BYTES[r["rule"]]
        assert 0 < r["fastest"] <= r["seconds"] < 1
        assert r["elements_per_second"] == pytest.approx(2000/r["seconds"])
        assert r["gb_per_second"] == pytest.approx(BYTES[r["rule"]]*r["elements_per_second"]/1e9)
        assert 0 < r["ceiling"] < 10
        assert 0 < r["times_faster"]["numpy"] < 1e4
        assert r["rival_seconds"]["numpy"] > 0
        assert r["turns"] >= 3


@pytest.mark.parametrize(("format", "rule", "expected"), [
    ("f64", "adam", 56), ("bf16", "adam", 22), ("f16", "momentum", 14), ("bf16", "sgd", 6)])
def test_bytes_follow_the_formats(capsys, format, rule, expected):
    rivals_here = [name for name in bench.DEFAULT_RIVALS if format not in rivals.RIVALS[name].formats]
    (r,) = figures(capsys, "--rules", rule, "--format", format, "--against", ",".join(rivals_here))
    assert r["bytes_per_element"] == expected
    assert r["times_faster"] == {}
    assert set(r["missing"]) == {name for name in bench.DEFAULT_RIVALS if format not in rivals.RIVALS[name].formats}


def test_a_rival_without_the_rule_is_said_to_be_missing(capsys):
    (r,) = figures(capsys, "--rules", "nadam", "--against", "numpy,numpy-in-place")
    assert list(r["times_faster"]) == ["numpy"]
    assert "nadam" in r["missing"]["numpy_in_place"]


def test_threads_are_those_asked_for(capsys):
    assert figures(capsys, "--threads", "1", "--rules", "adam", "--against", "none")[0]["threads"] == 1


@pytest.mark.parametrize(("arguments", "said"), [
    (["--rules", "adem"], "'adem' was found, but one of sgd, momentum"),
    (["--rules", ","], "no rule was found, but one of sgd, momentum"),
    (["--against", "tensorflow"], "'tensorflow' was found"),
    (["--format", "f8"], "invalid choice: 'f8'"),
    (["--n", "0"], "'0' was found, but a whole number"), (["--n", "1.5"], "'1.5' was found"),
                                                 (["--threads", "x"], "'x' was found")])
def test_bad_arguments_exit_with_2(capsys, arguments, said):
    with pytest.raises(SystemExit) as stop:
        cli.main(["bench", *arguments])
    assert stop.value.code == 2
    assert said in capsys.readouterr().err


def test_too_many_elements_are_refused_before_anything_is_allocated(capsys):
    assert cli.main(["bench", "--n", "1e14"]) == 2
    assert "GB are free" in capsys.readouterr().err


def test_the_table_shows_the_figures(capsys, tmp_path):
    file = tmp_path/"figures.json"
    assert cli.main(["bench", "--n", "2000", "--seconds", "0.02", "--against", "numpy", "--rules", "adam,lion",
                     "--json", str(file)]) == 0
    shown, results = capsys.readouterr().out, json.loads(file.read_text())["results"]
    for r in results:
        row = next(line.split() for line in shown.splitlines() if line.startswith(r["rule"]))
        assert float(row[-1]) == pytest.approx(r["times_faster"]["numpy"], rel=0.01)
        assert f"{100*r['ceiling']:.0f}" in row
    assert shown.splitlines()[0].startswith("2,000 elements, f32")


def test_the_plot_is_a_picture(capsys, tmp_path):
    image = pytest.importorskip("matplotlib.image")
    path = tmp_path/"bench.png"
    figures(capsys, "--rules", "adam,momentum", "--against", "numpy", "--plot", str(path))
    pixels = image.imread(path)
    assert min(pixels.shape[:2]) > 200
    assert np.unique(pixels.reshape(-1, pixels.shape[-1]), axis=0).shape[0] > 20
    red = np.abs(pixels[..., :3] - np.array([0xd1, 0x49, 0x5b])/255).max(-1) < 0.02  # our bar
    assert red.sum() > 500


def test_a_missing_matplotlib_names_the_extra(capsys, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    quick = ["bench", "--n", "100", "--seconds", "0.01", "--rules", "sgd", "--against", "none"]
    assert cli.main([*quick, "--plot", str(tmp_path/"x.png")]) == 2
    assert 'fastopt[plot]' in capsys.readouterr().err


@pytest.mark.parametrize(("file", "said"), [("x.foo", "ends in one of"), ("none/x.png", "there is no folder")])
def test_a_file_that_cannot_be_drawn_is_refused_before_the_measurement(capsys, tmp_path, monkeypatch, file, said):
    monkeypatch.setattr(bench, "measure", None)
    assert cli.main(["bench", "--n", "100", "--rules", "sgd", "--against", "none", "--plot", str(tmp_path/file)]) == 2
    assert said in capsys.readouterr().err


STEPS = [(name, rule, format) for name, system in rivals.RIVALS.items() for rule in system.rules
         for format in system.formats]


@pytest.mark.filterwarnings("default")  # other people's
@pytest.mark.parametrize(("name", "rule", "format"), STEPS)
def test_rivals_compute_the_rule(name, rule, format):
    try:
        assert bench.mistake(name, rule, format, available_threads(), {"lr": 0.01}) is None
    except ImportError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("wrong", [{"b1": 0.8}, {"b2": 0.99}, {"lr": 1.01e-2}, {"eps": 1e-4}])
def test_a_rival_that_computes_something_else_is_not_timed(capsys, monkeypatch, wrong):
    def off(t, g, p, m, v, **own):
        return handwritten.adam(t, g, p, m, v, **{"lr": 1e-2, "b1": 0.9, "b2": 0.999, "eps": 1e-8, **wrong})
    monkeypatch.setitem(rivals.RIVALS, "numpy", rivals.RIVALS["numpy"]._replace(rules={"adam": off}))
    (r,) = figures(capsys, "--rules", "adam", "--against", "numpy")
    assert r["times_faster"] == {}
    assert r["missing"]["numpy"].startswith("computes something else: ")


@pytest.mark.parametrize("dtypes", [["f4"]*2, ["f4"]*3, ["f4"]*4, ["f4"]*5, ["f8"]*4, ["u2", "u2", "f4", "f4"]],
                         ids=str)
def test_the_ceiling_is_vectorised(fresh, monkeypatch, dtypes):
    monkeypatch.setattr(ceiling, "ceiling_kernel", ceiling.ceiling_kernel.__wrapped__)
    code = next(iter(ceiling.Traffic(64, list(map(np.dtype, dtypes)), 1).kernel.run.inspect_asm().values()))
    assert any(register in code for register in ("ymm", "zmm", ".4s", "z0.s"))


def test_a_slow_contender_takes_no_more_than_its_share(monkeypatch):
    now = [0.0]  # a clock that only the steps move
    monkeypatch.setattr(interleave, "perf_counter", lambda: now[0])
    monkeypatch.setattr(interleave.seconds, "__defaults__", (1, lambda: now[0]))
    costs = {"ceiling": 0.01, "fastopt": 0.02, "slow": 0.1}
    steps = {name: (lambda cost=cost: now.__setitem__(0, now[0] + cost)) for name, cost in costs.items()}
    pairs = bench.in_turn(steps, 3.0)
    assert len(pairs["slow"]) == 4            # 3 at least; a quartet of 0.48 s, half of them not counted
    assert len(pairs["ceiling"]) == 13
    for name, of in pairs.items():
        for ours, theirs in of:
            assert (ours, theirs) == pytest.approx((costs["fastopt"], costs[name]))
    found = bench.figures(pairs, 100, 2800, ["slow"])
    assert found["seconds"] == pytest.approx(0.02)
    assert found["ceiling"] == pytest.approx(0.5)
    assert found["ceiling_interval"] == pytest.approx((0.5, 0.5))
    assert found["times_faster"] == pytest.approx({"slow": 5.0})
    assert found["turns"] == 4


# Beside an earlier run

QUICK = ["bench", "--n", "2000", "--seconds", "0.05", "--threads", "1", "--rules", "adam", "--against", "none"]


def result(ceiling, spread=0.01, **given):
    return {"rule": "adam", "n": 2000, "format": "f32", "threads": 1, "seconds": 1e-6, "ceiling": ceiling,
            "ceiling_interval": [ceiling*(1 - spread), ceiling*(1 + spread)], **given}


@pytest.mark.parametrize(("then", "now", "slower"), [
    (result(0.9), result(0.8), True), (result(0.9), result(0.83), False),     # by more than a tenth
    (result(0.9, 0.1), result(0.8, 0.1), False),                             # intervals that meet
    (result(0.8), result(0.9), False), (result(0.8), result(0.8), False)])
def test_slower_than_then(then, now, slower):
    assert bench_compare.slower(then, now) is slower
    row, = bench_compare.rows({"results": [then]}, [now])[1:]
    assert (row[-1] == "SLOWER") is slower
    assert row[-1] == "faster" or not bench_compare.slower(now, then)
    assert float(row[-2]) == pytest.approx(then["ceiling"]/now["ceiling"], abs=1e-3)


def test_an_older_file_has_no_intervals():
    then = result(0.9)
    del then["ceiling_interval"]
    assert bench_compare.slower(then, result(0.7))


@pytest.mark.parametrize(("factor", "status", "said"), [(1.0, (0, 1), "adam"), (50.0, (1,), "SLOWER"), (0.02, (0,),
                                                                                                        "faster")])
def test_compare(capsys, tmp_path, factor, status, said):
    file = tmp_path/"then.json"
    assert cli.main([*QUICK, "--json", str(file)]) == 0
    kept = json.loads(file.read_text())
    kept["results"][0]["ceiling"] *= factor
    kept["results"][0]["ceiling_interval"] = [x*factor for x in kept["results"][0]["ceiling_interval"]]
    file.write_text(json.dumps(kept))
    capsys.readouterr()
    assert cli.main([*QUICK, "--compare", str(file)]) in status
    out = capsys.readouterr().out
    assert "x ceiling then" in out
    assert said in out
    assert "another processor" not in out


def test_json_stays_json_beside_a_comparison(capsys, tmp_path):
    file = tmp_path/"then.json"
    assert cli.main([*QUICK, "--json", str(file)]) == 0
    file.write_text(json.dumps({**json.loads(file.read_text()), "processor": {"name": "another"}}))
    capsys.readouterr()
    cli.main([*QUICK, "--compare", str(file), "--json"])
    said = capsys.readouterr()
    assert json.loads(said.out)["results"][0]["rule"] == "adam"
    assert "x ceiling then" in said.err
    assert "The file tells of another processor" in said.err


@pytest.mark.parametrize(("text", "said"), [
    ("{", "no figures of fastopt bench were found. Make such a file with: fastopt bench --json"), ("[]", "no figures"),
    ('{"results": []}', "no figures"), ('{"results": [{"rule": "adam"}]}', "no figures"), (None, "No such file"),
    (json.dumps({"results": [result(0.9, n=7)]}), "it holds adam, 7 elements, f32, 1 threads, but nothing of what is "
                                                  "asked for")])
def test_what_cannot_be_compared_is_refused_before_the_measurement(capsys, tmp_path, monkeypatch, text, said):
    monkeypatch.setattr(bench, "measure", None)
    if text is not None:
        (tmp_path/"then.json").write_text(text)
    assert cli.main([*QUICK, "--compare", str(tmp_path/"then.json")]) == 2
    assert said in capsys.readouterr().err


def test_info():
    done = subprocess.run([sys.executable, "-m", "fastopt", "info", "--json"], capture_output=True, text=True,
                          check=True)
    facts = json.loads(done.stdout)
    assert facts["versions"]["numpy"] == np.__version__
    assert facts["threads"]["used"] >= 1
    assert facts["cache"]["bytes"] >= facts["cache"]["kernels"]*1000
    assert set(info.text(facts).split()) > {"versions", "processor", "threads", "cache", "cuda"}
