"""The gate: its statistics, its exact figures on versions that were made slower on purpose, its exit codes, the commit that it names."""
import importlib
import math
import random
import re
import shutil
import statistics
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from conftest import once

import fastopt
from fastopt._kernels.cache import directory
from fastopt.optimizers import ALL

ROOT, SOURCE = Path(__file__).parents[1], Path(fastopt.__file__).parents[1]

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(ROOT))
    duet, facts, figures, gate, imports, retired, steps, timing, trial, verdict, versions = (
        importlib.import_module(f"benchmarks.{name}") for name in ("duet", "facts", "figures", "gate", "imports",
                                                                   "retired", "steps",
                                                                   "timing", "trial", "verdict", "versions"))

Step = steps.Step
PLANTS = {change.what: change for change in trial.PLANTS}
git_checkout = pytest.mark.skipif(not (ROOT/".git").exists(), reason="an unpacked archive has no commits")


def changed(into, file="host.py", old="        self.grad_norm = norm\n", new="        sum(range(1000))\n        "
                                                                             "self.grad_norm = norm\n"):
    return trial.plant(trial.Plant("", file, old, new, ""), into)


@pytest.fixture(scope="module")
def slower(tmp_path_factory):
    """The package with 5 us more of Python in each step."""
    return trial.plant(PLANTS["5 us of Python per step"], tmp_path_factory.mktemp("slower"))


# Statistics

@pytest.mark.parametrize(("n", "low", "high"), [(1, 0, 0), (2, 0, 1), (8, 0, 7), (10, 0, 9), (11, 0, 10), (12, 1, 10),
                                                (40, 11, 28)])
def test_interval_of_order_statistics(n, low, high):
    ratios = random.Random(n).sample(range(n), n)
    assert verdict.interval(ratios) == (low, high)


def test_interval_holds_the_median():
    """In 1 % of samples at most it does not, for a distribution as skewed as times are."""
    chance, missed, true = random.Random(1), 0, math.log(2)
    for _ in range(4_000):
        low, high = verdict.interval([chance.expovariate(1) for _ in range(12)])
        missed += not low <= true <= high
    assert missed <= 0.01*4_000


@pytest.mark.parametrize(("ratios", "slower"), [
    ([1.05]*12, True), ([1.029]*12, False),           # median above 1.03
    ([1.05]*11 + [0.9], True), ([1.05]*10 + [0.9]*2, False),  # one may stray
    ([1.2]*7 + [1.0]*5, False), ([0.9]*12, False), ([1.0]*12, False)])
def test_judge(ratios, slower):
    assert verdict.judge(ratios, timing.SLOWER, timing.SURELY).slower is slower


@pytest.mark.parametrize(("base", "head", "growth", "found"), [
    (100, 101, verdict.Growth(part=0.01), False), (100, 102, verdict.Growth(part=0.01), True),
                                                               (0, 0, verdict.Growth(), False),
    (0, 1, verdict.Growth(), True), (100, 612, verdict.Growth(units=512), False),
                                                               (100, 613, verdict.Growth(units=512), True),
    (100, 50, verdict.Growth(), False)])
def test_risen(base, head, growth, found):
    risen = verdict.risen("b", {"case": base, "gone": 1}, {"case": head, "new": 9}, growth)
    assert bool(risen) is found
    assert all((finding.case, finding.base, finding.head) == ("case", str(base), str(head)) for finding in risen)


def test_more_instructions_may_be_a_good_trade():
    finding = verdict.Finding("bench_cpu_code.track_instructions", "adam, f32, znver4", "1", "2", "x 2")
    suspect = figures.Suspect(finding, ("adam", "f32"), lambda folders: True, trade=True)
    faster = {Step("adam", 1_000): 0.9, Step("adam", 100_000): 0.96, Step("sgd", 1_000): 1.0,
              Step("adam", 8, way="clip_norm"): 1.0}
    assert gate.good_trade(suspect, faster)
    assert not gate.good_trade(suspect, {**faster, Step("adam", 10): 0.98})
    assert not gate.good_trade(suspect._replace(trade=False), faster)
    assert not gate.good_trade(suspect._replace(of=("lion", "f32")), faster)


# Versions side by side

def test_versions_are_apart():
    one, two = (versions.load(SOURCE, f"fastopt_test_{k}") for k in (1, 2))
    assert one.Adam is not two.Adam
    assert versions.part(two, "cpu").__name__ == "fastopt_test_2.cpu"
    assert fastopt.Adam.__module__.startswith("fastopt.")
    shared = steps.arrays([(1_000,)], "f32")
    before = shared[0][0].copy()
    for package in (one, two):
        Step("adam", 1_000).of(package, *shared)()
    assert (shared[0][0] != before).all()


def test_what_is_no_package(tmp_path):
    with pytest.raises(ImportError, match=re.escape(f"load: there is no package fastopt in {tmp_path}. Name the folder "
                                                    f"that holds it.")):
        versions.load(tmp_path, "fastopt_test_3")


@git_checkout
def test_export_gives_the_files_of_a_commit(tmp_path):
    folder = versions.export("HEAD", tmp_path)
    shown = subprocess.run(["git", "show", "HEAD:fastopt/_rule/rule.py"], cwd=ROOT, capture_output=True,
                           check=True).stdout
    assert (folder/"fastopt"/"registry.py").read_bytes() == shown
    assert versions.export(str(SOURCE), tmp_path) == SOURCE.resolve()
    with pytest.raises(LookupError, match="git rev-parse"):
        versions.export("no-such-commit", tmp_path)


def test_the_first_release_is_whole_and_works(tmp_path):
    folder = versions.golden(tmp_path)
    assert "Version: 0.1.0" in next(folder.glob("*.dist-info/METADATA")).read_text()
    found = duet.process([folder, SOURCE], [Step("adam", 1_000)], 0.01, 0, directory())
    assert all(x > 0 for x in found[Step("adam", 1_000)])


@git_checkout
def test_the_first_release_is_that_of_its_commit(tmp_path):
    try:
        then = versions.export(versions.FIRST_RELEASE, tmp_path)
    except LookupError:
        pytest.skip("a shallow clone does not have that commit")
    with zipfile.ZipFile(next((ROOT/"benchmarks"/"golden").glob("*.whl"))) as wheel:
        kept = {name: wheel.read(name) for name in wheel.namelist() if name.startswith("fastopt/")}
    assert kept == {str(p.relative_to(then)): p.read_bytes() for p in (then/"fastopt").rglob("*") if p.is_file()}


# Times

def test_duet_times_what_it_is_told(slower):
    small, large = Step("momentum", 8), Step("momentum", 1_000_000)

    def right():
        found = duet.duet([SOURCE, slower], [small, large], 2, 0.1, directory())
        return (all(pair.ratio > 1.3 for pair in found[small])              # 2 us become 5
                and all(0.6 < pair.ratio < 1.6 for pair in found[large])    # 80 us and more become 5 us more
                and all(pair.base > 3*other.base for pair, other in zip(found[large], found[small], strict=True)))
    assert once(right)


def test_duet_with_the_ceiling():
    step = Step("adam", 300_000)

    def right():
        pair = duet.process([duet.CEILING, SOURCE], [step], 0.1, 0, directory())[step]
        return 0.5 < pair.ratio < 20 and pair.ratio == pytest.approx(pair.head/pair.base, rel=0.5)
    assert once(right)


def test_every_way_of_a_step_is_one_step():
    package = versions.load(SOURCE, "fastopt_test_4")
    for way in ("step", "clip_norm", "new gradients"):
        params, grads = steps.arrays([(5,), (7,)], "f32")
        before = [p.copy() for p in params]
        run = Step("sgd", "148 x 8", way=way).of(package, params, grads)
        run()
        for p, g, start in zip(params, grads, before, strict=True):  # three to warm up, one more
            assert p == pytest.approx(start - 4e-4*g, abs=1e-6)


def test_imports_are_timed_each_with_its_own_package(tmp_path):
    late = tmp_path/"late"
    changed(late, "__init__.py", "from . import rules, schedules\n", "import time\ntime.sleep(0.3)\nfrom . import "
                                                                     "rules, schedules\n")
    assert once(lambda: statistics.median(head - base for base, head in imports.pairs([SOURCE, late], 5)) > 0.15)
    assert not list(late.rglob("__pycache__"))  # bytecode that one folder has and the other has not made a ratio of 0.6
    with pytest.raises(RuntimeError, match="could not be imported"):
        imports.pairs([SOURCE, tmp_path], 1)


A, B = Step("adam", 8), Step("sgd", 1_000)


@pytest.mark.parametrize(("looks", "slower"), [
    ([1.05]*3, True), ([1.019, 1.5, 1.5], False), ([1.05, 1.05, 1.0], False), ([1.05, 1.0, 1.05], False),
                                               ([1.05, 1.021, 1.05], True),
    ([1.05, 1.021, 1.025], False)])
def test_a_step_is_slower_if_every_look_says_so(monkeypatch, looks, slower):
    asked = []

    def looked(folders, steps, processes, duration, cache, seed=0):
        asked.append((processes, seed))
        return {s: [duet.Pair(1e-6, 1e-6*r, r) for r in [looks[len(asked) - 1] if s is A else 1.0]*processes]
                for s in steps}
    monkeypatch.setattr(duet, "duet", looked)
    medians, found, again, left = timing.duets([], [A, B], Path())
    assert medians == {A: looks[0], B: 1.0}
    assert [(s.finding.benchmark, s.finding.case, s.of) for s in found] == [(A.benchmark, str(A),
                                                                             ("adam", "f32"))]*slower
    assert (again, left) == (looks[0] > timing.SEEMS, 0)
    assert asked[0] == (timing.FIRST, 0)
    assert all(n == timing.AGAIN for n, _ in asked[1:])
    assert len({seed for _, seed in asked}) == len(asked)


@pytest.mark.parametrize(("slow", "found", "again", "left"), [(0, 0, 30, 0), (1, 1, 24, 6), (12, 12, 12, 18)])
def test_no_suspect_is_dropped(monkeypatch, slow, found, again, left):
    """30 that seem slower, the first of them in the second dozen."""
    steps_ = [Step("adam", n) for n in range(30)]
    really = steps_[13:13 + slow] if slow == 1 else steps_[:slow]

    def looked(folders, steps, processes, duration, cache, seed=0):
        return {s: [duet.Pair(1, r, r) for r in [1.1 - s.tensors/1e3 if not seed or s in really else 1.0]*processes]
                for s in steps}
    monkeypatch.setattr(duet, "duet", looked)
    result = timing.duets([], steps_, Path())
    assert (len(result.slower), result.again, result.left) == (found, again, left)


@pytest.mark.parametrize(("first", "then", "slower"), [(1.2, 1.2, True), (1.04, 2, False), (1.2, 1.09, False)])
def test_an_import_is_slower(monkeypatch, first, then, slower):
    monkeypatch.setattr(imports, "pairs", lambda folders, n: [(1.0, first if n == timing.IMPORTS else then)]*n)
    assert len(timing.imports_of([])[1]) == slower


# Exact figures

needs_counts = pytest.mark.skipif(retired.method() is None, reason="neither a hardware counter nor ptrace here")


@needs_counts
def test_instructions_are_counted():
    """In a process of its own, as the gate does: JAX, which another test loads, warns of every fork."""
    code = ("from benchmarks.retired import retired\n"
            "print(retired(lambda: None), *(retired(lambda: list(range(k))) for k in (1_000, 2_000)))")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    nothing, few, many = map(int, done.stdout.split())
    assert abs(nothing) < 200
    assert 10_000 < many - few < 1_000_000  # 156 for each number of the list, in Python 3.11


@needs_counts
def test_more_python_retires_more_instructions(slower):
    compared, found = figures.instructions([SOURCE, slower], [Step("momentum", 8)], directory())
    assert compared == 2
    call, = (s for s in found if s.finding.benchmark == "bench_retired.track_call")  # that of an element may differ by chance
    assert call.finding.case == "momentum, 8 elements, 1 thread, f32"
    assert int(call.finding.head) - int(call.finding.base) > 10_000
    assert once(lambda: not call.again([SOURCE, SOURCE]))


def test_a_counter_counts():
    """The way to the hardware counter, with one that the kernel keeps: nanoseconds of this thread."""
    file = retired.counter(1, 1)
    if file is None:
        pytest.skip("the system does not lend a counter")

    def right():
        short, long = (min(retired.counted(lambda k=k: sum(range(k)), file) for _ in range(5)) for k in (1_000,
                                                                                                         1_000_000))
        return 0 < 50*short < long
    assert once(right)


def test_a_new_temporary_is_found(tmp_path):
    copies = trial.plant(PLANTS["a new temporary"], tmp_path)
    sides = figures.both(lambda folder: facts.table(folder, directory()), [SOURCE, copies])
    compared, found = figures.memory(*sides, directory())
    assert compared > 100
    assert {s.finding.benchmark for s in found} == {"bench_memory.Peak.track_python"}
    assert len(found) == 2*len(facts.rules(SOURCE))
    assert all(float(s.finding.head) - float(s.finding.base) >= 400_000 for s in found)
    assert figures.memory(sides[0], sides[0], directory()) == (compared, [])


@pytest.mark.parametrize("what", ["a lost vectorisation", "an accidental float64"])
def test_worse_machine_code_is_found(tmp_path, what):
    if not figures.cpu_code.X86:
        pytest.skip("Numba compiles for x86-64 on x86-64 only")
    worse = trial.plant(PLANTS[what], tmp_path)
    _, found = figures.code([SOURCE, worse], ["znver4"], ["adam, f32"])
    assert (f"bench_cpu_code.{PLANTS[what].named}", "adam, f32, znver4") in {s.finding[:2] for s in found}
    assert figures.code([SOURCE, SOURCE], ["znver4"], ["adam, f32"]) == (5, [])


# The program

def test_plants_fit_the_package(tmp_path):
    for k, change in enumerate(trial.PLANTS):
        folder = trial.plant(change, tmp_path/str(k))
        assert (folder/"fastopt"/change.file).read_text() != (ROOT/"fastopt"/change.file).read_text()
        compile((folder/"fastopt"/change.file).read_text(), change.file, "exec")


def test_the_same_sources_need_no_measuring(tmp_path, capsys):
    shutil.copytree(SOURCE/"fastopt", tmp_path/"fastopt", ignore=shutil.ignore_patterns("__pycache__"))
    assert gate.main([str(SOURCE), str(tmp_path)]) == 0
    assert "fine: the sources of the package are the same, byte for byte" in capsys.readouterr().out


@pytest.mark.parametrize("head", ["no-such-commit", "broken"])
def test_what_cannot_be_measured_is_not_slower(tmp_path, capsys, head):
    if head == "broken":
        changed(tmp_path, "__init__.py", "from . import rules, schedules\n", "raise ImportError('no')\n")
    assert gate.main([str(SOURCE), str(tmp_path) if head == "broken" else head]) == 2
    said = capsys.readouterr().err
    assert said.startswith("gate: could not measure: ")
    assert ("ImportError: no" if head == "broken" else "no-such-commit") in said


@pytest.fixture
def history(tmp_path, monkeypatch):
    """A repository of three commits, the second of which makes every step copy its gradients."""
    def git(*words):
        settings = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", *settings, *words], cwd=tmp_path, check=True, capture_output=True)
    git("init", "-q")
    shutil.copytree(ROOT/"fastopt", tmp_path/"fastopt", ignore=shutil.ignore_patterns("__pycache__"))
    texts = ["a start", "Copy the gradients", "Say more"]
    for k, text in enumerate(texts):
        if k == 1:
            change = PLANTS["a new temporary"]
            file = tmp_path/"fastopt"/change.file
            file.write_text(file.read_text().replace(change.old, change.new))
        (tmp_path/"fastopt"/"note.py").write_text(f"# {text}\n")
        git("add", "-A")
        git("commit", "-q", "-m", text, *(["-m", "Slower: track_python (new gradients), because a test\n says so"]
                                          if k == 1 else []))
    monkeypatch.setattr(versions, "ROOT", tmp_path)
    return tmp_path


def test_names_benchmark_figures_and_commit(history, capsys):
    assert gate.main(["HEAD~2", "HEAD", "--stop"]) == 1
    said = capsys.readouterr().out
    assert re.search(r"SLOWER bench_memory\.Peak\.track_python \(adam, step\): \d+ -> 4\d{5}, x \d+\.\d+", said)
    assert re.search(rf"slower: {2*len(ALL)} of \d+ figures\nbench_memory\S+ \(sgd, step\): commit [0-9a-f]{{7,}} Copy "
                     rf"the gradients", said)


def only(monkeypatch, *names):
    """Leave out the other parts of the gate."""
    phase = gate.Log.phase
    monkeypatch.setattr(gate.Log, "phase", lambda self, name,
                        measure: phase(self, name, measure) if name in names else None)


def test_findings_may_be_wanted(history, capsys, monkeypatch):
    assert gate.allowed("HEAD~2", "HEAD", ["mine", ""]) == ["mine", "track_python (new gradients)"]
    assert gate.allowed("HEAD", "HEAD", []) == []
    only(monkeypatch, "memory", "import")
    monkeypatch.setattr(timing, "IMPORTS", 1)
    monkeypatch.setattr(timing, "SEEMS_LATER", 99)
    assert gate.main(["HEAD~2", "HEAD", "--stop", "--allow", "track_python ("]) == 0
    said = capsys.readouterr().out
    assert "noted  bench_memory.Peak.track_python (adam, step)" in said
    assert "  import: 1 compared" in said  # what is wanted does not stop it


def test_a_folder_has_no_commits(history):
    """``main .`` would be read as main...HEAD by git."""
    assert len(gate.commits_between("HEAD~2", "HEAD")) == 2
    assert gate.commits_between("HEAD~2", str(history)) == []
    assert gate.commits_between(str(history), "HEAD") == []
    assert gate.commits_between("HEAD", "HEAD~2") == []  # no successor
    assert gate.allowed("HEAD~2", str(history), []) == ["track_python (new gradients)"]


def test_patterns():
    finding = verdict.Finding("bench_x.track_call", "adam, 8 elements", "1", "2", "x 2.000 [1, 2]")
    suspect = figures.Suspect(finding, None, lambda folders: True)
    assert gate.matches("track_call (adam, 8", suspect)       # as it is printed: no regular expression
    assert gate.matches("track_c.* .adam", suspect)
    assert not gate.matches("track_call .lion", suspect)


def test_what_was_found_stays_found_when_another_part_fails(history, capsys, monkeypatch):
    def fails(*_):
        raise OSError("no more processes")
    only(monkeypatch, "memory", "machine code")
    monkeypatch.setattr(figures, "code", fails)
    assert gate.main(["HEAD~2", "HEAD"]) == 1
    said = capsys.readouterr()
    assert "SLOWER bench_memory.Peak.track_python (adam, step)" in said.out
    assert "machine code: could not be measured" in said.err
    assert gate.main(["HEAD~1", "HEAD"]) == 2
    assert "gate: could not measure: machine code; nothing else is slower" in capsys.readouterr().err


def test_bisection_passes_over_what_does_not_run(history, tmp_path):
    def again(folders):
        asked.append(folders[1].name)
        raise RuntimeError("it does not import")
    asked = []
    commits = gate.commits_between("HEAD~2", "HEAD")
    suspect = figures.Suspect(verdict.Finding("b", "c", "1", "2", "x 2"), None, again)
    assert re.fullmatch(r"commit [0-9a-f]{7,} Say more", gate.culprit(suspect, SOURCE, commits, tmp_path/"work"))
    assert asked == ["bisected-0"]


def test_as_a_program():
    done = subprocess.run([sys.executable, str(ROOT/"benchmarks"/"gate.py"), str(SOURCE), str(SOURCE)],
                          capture_output=True, text=True,
                          cwd=Path(sys.prefix), check=False)
    assert done.returncode == 0, done.stderr
    assert "fine: the sources of the package are the same" in done.stdout
