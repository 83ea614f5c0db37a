"""The command: figures that add up, pictures that show something, arguments that are refused by name."""
import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

import fastopt
from fastopt._cpu.pool import available_threads
from fastopt.bench import ceiling, cli, compare, cpu, info, interleave, loops, numpy_steps, rivals
from fastopt.optimizers import ALL

QUICK = ["bench", "--n", "2000", "--seconds", "0.01", "--threads", "1"]


def figures(capsys, *arguments):
    assert cli.main([*QUICK, "--json", *arguments]) == 0
    return json.loads(capsys.readouterr().out)["results"]


def test_figures_add_up(capsys, tmp_path):
    image = pytest.importorskip("matplotlib.image")
    file, picture = tmp_path/"figures.json", tmp_path/"bench.png"
    arguments = ["--against", "numpy", "--rules", "sgd,adam", "--json", str(file), "--plot", str(picture)]
    assert cli.main([*QUICK, *arguments]) == 0
    shown, results = capsys.readouterr().out.splitlines(), json.loads(file.read_text())["results"]
    assert shown[0].startswith("2,000 elements, f32, 1 threads")
    for r, (rule, size) in zip(results, [("sgd", 12), ("adam", 28)], strict=True):
        assert (r["rule"], r["bytes_per_element"], r["threads"]) == (rule, size, 1)
        assert 0 < r["fastest"] <= r["seconds"] < 1
        assert r["elements_per_second"] == pytest.approx(2000/r["seconds"])
        assert r["gb_per_second"] == pytest.approx(size*r["elements_per_second"]/1e9)
        assert 0 < r["ceiling"] < 10
        assert 0 < r["times_faster"]["numpy"] < 1e4
        assert r["rival_seconds"]["numpy"] > 0
        assert r["turns"] >= 3
        row = next(line.split() for line in shown if line.startswith(rule))
        assert float(row[-1]) == pytest.approx(r["times_faster"]["numpy"], rel=0.01)
        assert f"{100*r['ceiling']:.0f}" in row
    pixels = image.imread(picture)[..., :3]
    ours = np.abs(pixels - np.array([0xd1, 0x49, 0x5b])/255).max(-1) < 0.02
    assert ours.sum() > 500  # our bars


def test_a_rule_of_ones_own_with_empty_caches(capsys, tmp_path, monkeypatch):
    """Every sweep is seen, and none is timed."""
    (tmp_path/"rules_of_mine.py").write_text("import fastopt\n@fastopt.rule(state='v', lr=1e-4, mu=0.9)\n"
                                             "def heavy(c, g, p, v):\n    v = c.mu*v + g\n    return c.lr*v, v\n")
    monkeypatch.chdir(tmp_path)
    sweeps = []

    class Swept(np.ndarray):
        def max(self):
            sweeps.append(self.nbytes)
    monkeypatch.setattr(cpu, "LEAST_SWEPT", 1 << 16)
    monkeypatch.setattr(cpu, "cache_bytes", lambda: 1 << 17)
    monkeypatch.setattr(cpu.np, "ones", lambda *shape: np.zeros(*shape).view(Swept))
    (r,) = figures(capsys, "--rules", "rules_of_mine:heavy", "--cold", "--against", "numpy")
    assert (r["rule"], r["cold"], r["bytes_per_element"]) == ("rules_of_mine:heavy", True, 20)
    assert r["missing"] == {"numpy": "no rules_of_mine:heavy there"}
    assert set(sweeps) == {1 << 18}
    assert len(sweeps) == 4*r["turns"]
    assert str(tmp_path) not in sys.path


def test_every_rule_has_steady_settings():
    for cls in ALL.values():
        opt = cls(np.ones(3, np.float32), **cls.rule.steady)
        assert opt.groups[0]["lr"] == cls.rule.steady["lr"]


def test_bytes_follow_the_formats(capsys):
    for format, rule, expected in (("f64", "adam", 56), ("bf16", "adam", 22)):
        others = [name for name in cpu.DEFAULT_RIVALS if format not in rivals.RIVALS[name].formats]
        (r,) = figures(capsys, "--rules", rule, "--format", format, "--against", ",".join(others))
        assert r["bytes_per_element"] == expected
        assert r["times_faster"] == {}
        assert set(r["missing"]) == set(others)


def test_a_rival_without_the_rule_is_said_to_be_missing():
    steps, missing = cpu.checked("nadam", cpu.vectors(10, "f32"), ["numpy", "numpy_in_place"], 1, "f32")
    assert list(steps) == ["numpy"]
    assert missing == {"numpy_in_place": "no nadam there"}


def test_bad_arguments_exit_with_2(capsys):
    for option, value, said in (("--rules", "adem", "rule 'adem' was found, but one of sgd, momentum"),
                                ("--rules", ",", "no rule was found, but one of sgd, momentum"),
                                ("--rules", "json:dumps", "rule 'json:dumps' was found, but package.module:name"),
                                ("--rules", "no.such:rule", "rule 'no.such:rule' was found, but package.module:name"),
                                ("--against", "tensorflow", "rival 'tensorflow' was found"),
                                ("--n", "0", "'0' was found, but a whole number"), ("--n", "1.5", "'1.5' was found")):
        with pytest.raises(SystemExit) as stop:
            cli.main(["bench", option, value])
        assert stop.value.code == 2
        assert said in capsys.readouterr().err


def result(ceiling, spread=0.01, **given):
    return {"rule": "adam", "n": 2000, "format": "f32", "threads": 1, "seconds": 1e-6, "ceiling": ceiling,
            "ceiling_interval": [ceiling*(1 - spread), ceiling*(1 + spread)], **given}


def test_what_cannot_be_is_refused_before_the_measurement(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(cpu, "measure", None)
    then = tmp_path/"then.json"
    for words, said in ((["--n", "1e14"], "GB are free"), (["--plot", str(tmp_path/"x.foo")], "ends in one of"),
                        (["--plot", str(tmp_path/"none"/"x.png")], "there is no folder")):
        assert cli.main([*QUICK, *words]) == 2
        assert said in capsys.readouterr().err
    no_figures = "no figures of fastopt bench were found. Make such a file with: fastopt bench --json"
    for text, said in (
            (None, "No such file"), ("{", no_figures), ("[]", no_figures), ('{"results": []}', no_figures),
            ('{"results": [{"rule": "adam"}]}', no_figures),
            (json.dumps({"results": [result(0.9, n=7)]}), "it holds adam, 7 elements, f32, 1 threads, but nothing of")):
        if text is not None:
            then.write_text(text)
        assert cli.main([*QUICK, "--rules", "adam", "--compare", str(then)]) == 2
        assert said in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert cli.main([*QUICK, "--plot", str(tmp_path/"x.png")]) == 2
    assert "fastopt[plot]" in capsys.readouterr().err


# Rivals

@pytest.mark.filterwarnings("default")  # other people's
@pytest.mark.parametrize("name", rivals.RIVALS)
def test_rivals_compute_the_rule(name):
    """Every rule in float32; float64, another dtype of one code, for Adam."""
    system = rivals.RIVALS[name]
    rules = ("momentum", "adam", "amsgrad") if name == "numba" else system.rules  # 3 s to compile each
    if name == "c" and not shutil.which("cc"):
        pytest.skip("no C compiler")
    try:
        for rule, format in [*((rule, "f32") for rule in rules), *(("adam", f) for f in system.formats[1:])]:
            assert cpu.mistake(name, rule, format, available_threads(), {"lr": 0.01}) is None, (rule, format)
    except ImportError as error:
        pytest.skip(str(error))


def test_contenders_take_turns_on_the_same_arrays(monkeypatch):
    """A loop that has arrays of its own finds them in other places of the caches, which moves its time by a fifth."""
    made = []
    monkeypatch.setattr(cpu, "checked", lambda *given, states: made.append((given[1], *states)) or ({}, {}))
    steps, _, _ = cpu.contenders("momentum", 10, [], 1, "f32")
    (p, g), (m,) = made[0]
    rival = rivals.RIVALS["numpy_in_place"]("momentum", {}, [p], [g], 1, [[m]])
    for step in (steps["fastopt"], rival.step):
        point, state = p.copy(), m.copy()
        step()
        assert (p != point).all()
        assert (m != state).all()


def test_loops_that_cannot_be_compiled_or_run_are_missing(monkeypatch):
    vector = cpu.vectors(10, "f32")
    for given, said in (("no-such-compiler -O1", "no C compiler was found: no-such"), ("false", "false failed")):
        monkeypatch.setenv("CC", given)
        loops.in_c.cache_clear()
        steps, missing = cpu.checked("sgd", vector, ["c"], 1, "f32")
        assert steps == {}
        assert missing["c"].startswith(said)
    steps, missing = cpu.checked("sgd", vector, ["numba"], 10_000, "f32")
    assert steps == {}
    assert missing["numba"].endswith("threads, not 10000")


def test_a_rival_that_computes_something_else_is_not_timed(monkeypatch):
    for wrong in ({"b1": 0.8}, {"b2": 0.99}, {"lr": 1.01e-2}, {"eps": 1e-4}):
        def off(t, g, p, m, v, wrong=wrong, **own):
            right = {"lr": 1e-2, "b1": 0.9, "b2": 0.999, "eps": 1e-8}
            return numpy_steps.adam(t, g, p, m, v, **{**right, **wrong})
        systems = {"numpy": rivals.RIVALS["numpy"]._replace(rules={"adam": off})}
        steps, missing = cpu.checked("adam", cpu.vectors(10, "f32"), ["numpy"], 1, "f32", systems)
        assert steps == {}
        assert missing["numpy"].startswith("computes something else: ")


@pytest.mark.parametrize("dtypes", [["f4"]*5, ["u2", "u2", "f4", "f4"]], ids=str)
def test_the_ceiling_is_vectorised(fresh, monkeypatch, dtypes):
    monkeypatch.setattr(ceiling, "ceiling_kernel", ceiling.ceiling_kernel.__wrapped__)
    run = ceiling.Traffic(64, list(map(np.dtype, dtypes)), 1).kernel.run
    assert any(register in next(iter(run.inspect_asm().values())) for register in ("ymm", "zmm", ".4s", "z0.s"))


def test_a_slow_contender_takes_no_more_than_its_share(monkeypatch):
    now = [0.0]  # a clock that only the steps move
    monkeypatch.setattr(interleave, "perf_counter", lambda: now[0])
    monkeypatch.setattr(interleave.seconds, "__defaults__", (1, lambda: now[0]))
    costs = {"ceiling": 0.01, "fastopt": 0.02, "slow": 0.1}
    steps = {name: (lambda cost=cost: now.__setitem__(0, now[0] + cost)) for name, cost in costs.items()}
    pairs = cpu.in_turn(steps, 3.0)
    assert len(pairs["slow"]) == 4            # 3 at least; a quartet of 0.48 s, half of them not counted
    assert len(pairs["ceiling"]) == 13
    for name, of in pairs.items():
        for ours, theirs in of:
            assert (ours, theirs) == pytest.approx((costs["fastopt"], costs[name]))
    found = cpu.figures(pairs, 100, 2800, ["slow"])
    assert found["seconds"] == pytest.approx(0.02)
    assert found["ceiling"] == pytest.approx(0.5)
    assert found["ceiling_interval"] == pytest.approx((0.5, 0.5))
    assert found["times_faster"] == pytest.approx({"slow": 5.0})
    assert found["turns"] == 4


# Beside an earlier run

def test_slower_than_then():
    for then, now, slower in (
            (result(0.9), result(0.8), True), (result(0.9), result(0.83), False),     # by more than a tenth
            (result(0.9, 0.1), result(0.8, 0.1), False),                              # intervals that meet
            (result(0.8), result(0.9), False), (result(0.8), result(0.8), False),
            (result(0.9, ceiling_interval=None), result(0.7), True)):                 # an older file
        assert compare.slower(then, now) is slower
        row, = compare.rows({"results": [then]}, [now])[1:]
        assert (row[-1] == "SLOWER") is slower
        assert (row[-1] == "faster") is compare.slower(now, then)
        assert float(row[-2]) == pytest.approx(then["ceiling"]/now["ceiling"], abs=1e-3)


def test_compare(capsys, tmp_path, monkeypatch):
    """A run beside the run before it, and beside runs that were 50 times faster and slower."""
    def measured(rule, n, against, **how):
        found = cpu.figures({"ceiling": [(2e-6, 1e-6)]*9}, n, 28*n, against)
        return {"rule": rule, "n": n, "format": how["format"], "threads": how["threads"], **found, "missing": {}}
    monkeypatch.setattr(cpu, "measure", measured)
    file = tmp_path/"then.json"
    quick = [*QUICK, "--rules", "adam", "--against", "none"]
    assert cli.main([*quick, "--json", str(file)]) == 0
    capsys.readouterr()
    kept = json.loads(file.read_text())
    (r,) = kept["results"]
    for factor, status, said in ((1.0, 0, "same"), (50.0, 1, "SLOWER"), (0.02, 0, "faster")):
        then = {**r, "ceiling": r["ceiling"]*factor, "ceiling_interval": [x*factor for x in r["ceiling_interval"]]}
        file.write_text(json.dumps({**kept, "results": [then]}))
        assert cli.main([*quick, "--compare", str(file)]) == status
        out = capsys.readouterr().out
        assert said in out
        assert "another processor" not in out
    file.write_text(json.dumps({**kept, "processor": {"name": "another"}}))
    cli.main([*quick, "--compare", str(file), "--json"])
    said = capsys.readouterr()
    assert json.loads(said.out)["results"][0]["rule"] == "adam"
    assert "The file tells of another processor" in said.err


def test_version(capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["--version"])
    assert not end.value.code
    assert capsys.readouterr().out == f"fastopt {fastopt.__version__}\n"


def test_info():
    command = [sys.executable, "-m", "fastopt", "info", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    facts = json.loads(done.stdout)
    assert facts["versions"]["numpy"] == np.__version__
    assert facts["threads"]["used"] >= 1
    assert facts["cache"]["bytes"] >= facts["cache"]["kernels"]*1000
    assert set(info.text(facts).split()) > {"versions", "processor", "threads", "cache", "cuda"}
    wide = [line for line in info.text(facts).splitlines() if len(line) > 80]
    assert not [line for line in wide if len(line.split()) > 2]  # a path is not broken


def test_tables_fit_into_80_columns():
    rows = [["rule", "step", "x numpy"], ["adam", "2 us", "8.1"]]
    assert cpu.text(rows) == "rule  step  x numpy\nadam  2 us      8.1"
    assert cpu.text(rows, 12) == "rule  step\nadam  2 us\n\nrule  x numpy\nadam      8.1"
    results = [{"rule": "rmsprop_centered_momentum", "seconds": 1e-6, "fastest": 1e-6, "elements_per_second": 1e9,
                "gb_per_second": 100.0, "ceiling": 1.0, "times_faster": dict.fromkeys(cpu.DEFAULT_RIVALS, 1.0)}]
    shown = cpu.text(cpu.table(results, cpu.DEFAULT_RIVALS))
    assert max(map(len, shown.splitlines())) <= 80
    assert re.findall(r"x (?:\w| (?! ))+", shown) == [f"x {name.replace('_', ' ')}" for name in cpu.DEFAULT_RIVALS]
    assert max(map(len, f"{cli.LEGEND}\n{cli.ON_DEVICE}".splitlines())) <= 80
