"""The gate: its statistics, its figures on versions made slower on purpose, exit codes, the commit that it names."""
import functools
import importlib
import math
import random
import re
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import once

import fastopt
from fastopt._kernels.cache import directory

ROOT, SOURCE = Path(__file__).parents[1], Path(fastopt.__file__).parents[1]

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(ROOT))
    cold, duet, facts, figures, imports, inside, retired, timing, trial, verdict, versions = (
        importlib.import_module(f"benchmarks.gate.{name}") for name in (
            "cold", "duet", "facts", "figures", "imports", "inside", "retired", "timing", "trial", "verdict",
            "versions"))
    gate, cpu_code, steps = (importlib.import_module(f"benchmarks.{name}")
                             for name in ("gate.__main__", "machine_code.cpu_code", "steps"))

Step = steps.Step
PLANTS = {change.what: change for change in trial.PLANTS}
git_checkout = pytest.mark.skipif(not (ROOT/".git").exists(), reason="an unpacked archive has no commits")


def appended(into, code, file="__init__.py"):
    """A copy of the package with code at the end of a file."""
    return trial.plant(trial.Plant("", "", "", code, file=file), into)


@pytest.fixture(scope="module")
def slower(tmp_path_factory):
    """The package with 5 us more of Python in each step."""
    return trial.plant(PLANTS["5 us of Python per step"], tmp_path_factory.mktemp("slower"))


def test_every_plant_has_a_place(tmp_path):
    """In the package as it is: a trial would end at one that has none."""
    for k, change in enumerate(trial.PLANTS):
        trial.plant(change, tmp_path/str(k))


# Statistics

def test_interval():
    """Order statistics: in 1 % of samples at most the median lies outside, for numbers as skewed as times are."""
    for n, *found in ((1, 0, 0), (2, 0, 1), (8, 0, 7), (10, 0, 9), (11, 0, 10), (12, 1, 10), (40, 11, 28)):
        assert verdict.interval(random.Random(n).sample(range(n), n)) == tuple(found)
    chance, missed = random.Random(1), 0
    for _ in range(4_000):
        low, high = verdict.interval([chance.expovariate(1) for _ in range(12)])
        missed += not low <= math.log(2) <= high
    assert missed <= 0.01*4_000


def test_judge():
    for ratios, slower in (([1.05]*12, True), ([1.029]*12, False),                  # median above 1.03
                           ([1.05]*11 + [0.9], True), ([1.05]*10 + [0.9]*2, False),  # one may stray
                           ([1.2]*7 + [1.0]*5, False), ([0.9]*12, False), ([1.0]*12, False)):
        assert verdict.judge(ratios, timing.SLOWER, timing.SURELY).slower is slower, ratios


def test_risen():
    Growth = verdict.Growth
    for base, head, growth, found in (
            (100, 101, Growth(part=0.01), False), (100, 102, Growth(part=0.01), True), (0, 0, Growth(), False),
            (0, 1, Growth(), True), (100, 612, Growth(units=512), False), (100, 613, Growth(units=512), True),
            (100, 50, Growth(), False)):
        risen = verdict.risen("b", {"case": base, "gone": 1}, {"case": head, "new": 9}, growth)
        assert [finding[:4] for finding in risen] == [("b", "case", str(base), str(head))]*found


def suspect(benchmark, case, again=lambda folders: True, **more):
    finding = verdict.Finding(benchmark, case, "1", "2", "x 2.000 [1, 2]", 2.0)
    return figures.Suspect(finding, **{"of": None, **more}, again=again)


def test_more_instructions_may_be_a_good_trade():
    more = suspect("bench_cpu_code.track_instructions", "adam, f32, znver4", of=("adam", "f32"), trade=True)
    faster = {Step("adam", 1_000): 0.9, Step("adam", 100_000): 0.96, Step("sgd", 1_000): 1.0,
              Step("adam", 8, way="clip_norm"): 1.0}
    assert gate.good_trade(more, faster)
    assert not gate.good_trade(more, {**faster, Step("adam", 10): 0.98})
    assert not gate.good_trade(more._replace(trade=False), faster)
    assert not gate.good_trade(more._replace(of=("lion", "f32")), faster)


# Versions side by side

def test_versions_are_apart():
    one, two = (versions.load(SOURCE, alias) for alias in duet.ALIASES)  # whose kernels the duet takes, too
    assert one.Adam is not two.Adam
    assert inside.part(two, "nowhere", "none.at_all", "rules").__name__ == f"{duet.ALIASES[1]}.rules"
    shared = steps.arrays([(1_000,)], "f32")
    for package in (one, two):
        before = shared[0][0].copy()
        with duet.cache_of(package):
            Step("momentum", 1_000).of(package, *shared)()
        assert (shared[0][0] != before).any()


@git_checkout
def test_export_gives_the_files_of_a_commit(tmp_path):
    folder = versions.export("HEAD", tmp_path)
    shown = subprocess.run(["git", "show", "HEAD:fastopt/rules.py"], cwd=ROOT, capture_output=True, check=True).stdout
    assert (folder/"fastopt"/"rules.py").read_bytes() == shown
    assert versions.export(str(SOURCE), tmp_path) == SOURCE.resolve()
    with pytest.raises(LookupError, match="git rev-parse"):
        versions.export("no-such-commit", tmp_path)


def test_every_way_of_a_step_is_one_step():
    for way in ("step", "clip_norm", "new gradients", "schedule"):
        params, grads = steps.arrays([(5,), (7,)], "f32")
        before = [p.copy() for p in params]
        Step("sgd", "148 x 8", way=way).of(fastopt, params, grads)()
        for p, g, start in zip(params, grads, before, strict=True):  # three to warm up, one more
            assert p == pytest.approx(start - 4e-4*g, abs=1e-6)


# Times

def test_duet_times_what_it_is_told(slower):
    small, large = Step("momentum", 8), Step("momentum", 1_000_000)

    def right():
        found = duet.process([SOURCE, slower], [small, large, Step("no such rule", 8)], 0.1, 0, directory())
        return (found.keys() == {small, large} and found[small].ratio > 1.3   # 2 us become 5
                and 0.6 < found[large].ratio < 1.6                            # 80 us and more become 5 us more
                and found[large].base > 3*found[small].base)
    assert once(right)


def test_imports_are_timed_each_with_its_own_package(tmp_path):
    folders = [tmp_path/"base", tmp_path/"late"]
    for folder, code in zip(folders, ("", "import time\ntime.sleep(0.3)\n"), strict=True):
        (folder/"fastopt").mkdir(parents=True)
        (folder/"fastopt"/"__init__.py").write_text(code)
    assert once(lambda: statistics.median(head - base for base, head in imports.pairs(folders, 1)) > 0.15)
    # bytecode that one folder has and the other has not made a ratio of 0.6
    assert not list(tmp_path.rglob("__pycache__"))


A, B = Step("adam", 8), Step("sgd", 1_000)


@pytest.mark.parametrize(("looks", "slower"),
                         [([1.05]*3, True), ([1.019, 1.5, 1.5], False), ([1.05, 1.05, 1.0], False),
                          ([1.05, 1.0, 1.05], False), ([1.05, 1.021, 1.05], True), ([1.05, 1.021, 1.025], False)])
def test_a_step_is_slower_if_every_look_says_so(monkeypatch, looks, slower):
    asked = []

    def looked(folders, steps, processes, duration, cache, seed=0):
        asked.append((processes, seed))
        return {s: [duet.Pair(1e-6, 1e-6*r, r) for r in [looks[len(asked) - 1] if s is A else 1.0]*processes]
                for s in steps}
    monkeypatch.setattr(duet, "duet", looked)
    medians, found, again, left = timing.duets([], [A, B], Path())
    assert medians == {A: looks[0], B: 1.0}
    assert [(s.finding[:2], s.of) for s in found] == [((A.benchmark, str(A)), ("adam", "f32"))]*slower
    assert (again, left) == (looks[0] > timing.SEEMS, 0)
    assert [n for n, _ in asked] == [timing.FIRST, *[timing.AGAIN]*(len(asked) - 1)]
    assert len({seed for _, seed in asked}) == len(asked)


@pytest.mark.parametrize(("least", "slower"), [
    ([1.5, 1.0, 1.0], True), ([1.5]*3, True), ([1.05]*3, False),  # of three processes one finds both cores free
    ([1.5, 0.6, 1.0], False), ([1.5, *[1.0]*5], False)])         # or finds them free for one version; or too few do
def test_on_several_threads_the_least_seconds_count(monkeypatch, least, slower):
    """The medians say that a neighbour had a core."""
    step = Step("adam", 100_000, 2)
    monkeypatch.setattr(duet, "duet", lambda _, steps, count, *of, seed=0: {
        step: [duet.Pair(3.0, 1.0, 0.3, (1.0, least[k % len(least)])) for k in range(count)] for step in steps})
    found = timing.duets([], [step], Path()).slower
    assert [s.finding[2:5] for s in found] == [("1e+06 us", "1.5e+06 us", "x 1.500 [1.500, 1.500]")]*slower


@pytest.mark.parametrize(("slow", "found", "again", "left"), [(0, 0, 30, 0), (1, 1, 24, 6), (12, 12, 12, 18)])
def test_no_suspect_is_dropped(monkeypatch, slow, found, again, left):
    """30 that seem slower, the first of them in the second dozen."""
    steps_ = [Step("adam", n) for n in range(30)]
    really = steps_[13:13 + slow] if slow == 1 else steps_[:slow]

    def looked(folders, steps, processes, duration, cache, seed=0):
        ratios = {s: 1.1 - s.tensors/1e3 if not seed or s in really else 1.0 for s in steps}
        return {s: [duet.Pair(1, r, r)]*processes for s, r in ratios.items()}
    monkeypatch.setattr(duet, "duet", looked)
    result = timing.duets([], steps_, Path())
    assert (len(result.slower), result.again, result.left) == (found, again, left)


def test_an_import_is_slower(monkeypatch):
    for first, then, slower in ((1.2, 1.2, True), (1.04, 2, False), (1.2, 1.09, False)):
        monkeypatch.setattr(imports, "pairs", lambda _, n, looks=(first, then): [(1.0, looks[n != timing.IMPORTS])]*n)
        assert len(timing.imports_of([])[1]) == slower


def test_first_steps_are_timed(tmp_path):
    """Three steps, for the one kernel of two of these."""
    slow = trial.plant(trial.Plant("", "", "", trial._around_step(
        "end = thread_time() + 0.5\n        while thread_time() < end: pass"), file="optimizer.py"), tmp_path)
    few = [Step("momentum", 1_000), Step("momentum", 8), Step("no such rule", 8)]

    def right():
        (base, head), = cold.pairs([SOURCE, slow], few, directory())
        return 0 < base < head - 1
    assert once(right)


def test_compiling_is_slower(monkeypatch):
    for first, then, slower in ((1.3, 1.3, True), (1.04, 2, False), (1.3, 1.09, False)):
        monkeypatch.setattr(cold, "pairs", lambda *_, seed=0, looks=(first, then): [(1.0, looks[seed > 0])]*20)
        assert len(timing.compiling_of([], [], Path())[1]) == slower


def test_the_duet_has_what_differs():
    """Sizes at which a second thread begins to help, and a format whose loops are of another kind."""
    timed = {(s.tensors, s.threads, s.format, s.way) for s in timing.steps_of(list(fastopt.optimizers.ALL))}
    assert {(100_000, 1, "f32, q8 state", "step"), (8, 1, "f32", "schedule")} <= timed
    if timing.threads() > 1:
        assert {(n, timing.threads(), "f32", "step") for n in (100_000, 300_000, 1_000_000)} <= timed
    assert duet.known([None, fastopt], Step("adam", 8, 1, "f32, q8 state"))
    assert not inside.stores(fastopt, "q7")


# Exact figures

needs_counts = pytest.mark.skipif(retired.method() is None, reason="neither a hardware counter nor ptrace here")


@needs_counts
def test_instructions_are_counted():
    """In a process of its own, as the gate does: JAX, which another test loads, warns of every fork."""
    code = ("from benchmarks.gate.retired import retired\n"
            "print(retired(lambda: None), *(retired(lambda: list(range(k))) for k in (100, 200)))")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    nothing, few, many = map(int, done.stdout.split())
    assert abs(nothing) < 200
    assert 1_000 < many - few < 100_000  # 156 for each number of the list, in Python 3.11


def test_more_instructions_are_counted_again(monkeypatch):
    """A rise that a second count does not show was chance."""
    for second, found in ((2_000, 1), (1_000, 0)):
        counts = iter([{A: {"call": 1_000}}, {A: {"call": 2_000}}, {A: {"call": 1_000}}, {A: {"call": second}}])
        monkeypatch.setattr(retired, "table", lambda *of, counts=counts: next(counts))
        compared, slower = figures.instructions([Path(), Path()], [A], Path())
        assert (compared, [s.finding[:3] for s in slower]) == (1, [("bench_retired.track_call", str(A), "1000")]*found)


@needs_counts
def test_counting_ends_at_three_times_the_base():
    """A count of 50,000,000 would take half an hour."""
    step = Step("sgd", "148 x 8")
    code = ("from benchmarks.gate import retired\nfrom benchmarks.steps import Step\n"
            "def run():\n    for _ in range(1_000_000): pass\n"
            "Step.of = lambda *of: run\n"
            f"print(retired.figures({str(SOURCE)!r}, {step!r}, {{'call': 1000}}), retired.method())")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    if done.stdout.endswith("single steps\n"):
        assert done.stdout.startswith("{'call': 3000} ")


def test_where_counting_ended_is_said(monkeypatch):
    counts = {"base": {A: {"call": 1_000}}, "head": {A: {"call": 3_000}}}
    monkeypatch.setattr(retired, "table", lambda folder, *of: counts[folder])
    _, (found,) = figures.instructions(["base", "head"], [A], Path())
    assert str(found.finding) == f"bench_retired.track_call ({A}): 1000 -> 3000 or more, x 3.000"


def test_a_counter_counts():
    """The way to the hardware counter, with one that the kernel keeps: nanoseconds of this thread."""
    file = retired.counter(1, 1)
    if file is None:
        pytest.skip("the system does not lend a counter")

    def right():
        short, long = (min(retired.counted(lambda k=k: sum(range(k)), file) for _ in range(5))
                       for k in (1_000, 1_000_000))
        return 0 < 50*short < long
    assert once(right)


def test_states_that_are_allocated_twice_are_seen(tmp_path):
    twice = versions.load(trial.plant(PLANTS["states that are allocated twice"], tmp_path), "fastopt_test_twice")
    for rule, format, n in (("sgd", "f32", 0), ("adam", "f32", 8), ("adam", "f32, q8 state", 2), ("adan", "f64", 32)):
        assert n <= facts.made_bytes(fastopt, rule, format) <= n + 0.5
    assert facts.made_bytes(twice, "adam", "f32") >= 12  # one lives on, the other until the next is there


def test_worse_machine_code_is_found(tmp_path, monkeypatch):
    if not cpu_code.X86:
        pytest.skip("Numba compiles for x86-64 on x86-64 only")
    monkeypatch.setattr(cpu_code, "table", functools.cache(cpu_code.table))
    change, one = PLANTS["a lost vectorisation"], {"znver4": ("adam, f32",)}
    _, found = figures.code([SOURCE, trial.plant(change, tmp_path)], one)
    assert (f"bench_cpu_code.{change.named}", "adam, f32, znver4") in {s.finding[:2] for s in found}
    assert figures.code([SOURCE, SOURCE], one) == (5, [])


# The program

def test_the_same_sources_need_no_measuring(tmp_path):
    """As a program."""
    shutil.copytree(SOURCE/"fastopt", tmp_path/"fastopt", ignore=shutil.ignore_patterns("__pycache__"))
    done = subprocess.run([sys.executable, "-m", "benchmarks.gate", str(SOURCE), str(tmp_path)], capture_output=True,
                          text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert "fine: the sources of the package are the same, byte for byte" in done.stdout


def test_what_cannot_be_measured_is_not_slower(tmp_path, capsys):
    for head, said in (("no-such-commit", "no-such-commit"),
                       (str(appended(tmp_path, "raise ImportError('no')\n")), "ImportError: no")):
        assert gate.main([str(SOURCE), head]) == 2
        assert said in capsys.readouterr().err


MEMORY, MEASURED = facts.table, {}


def memory(folder, cache):
    """The figures of memory of a version, measured once for those that differ in a comment."""
    text = (folder/"fastopt"/"optimizer.py").read_text()
    MEASURED[text] = MEASURED.get(text) or MEMORY(folder, directory())
    return MEASURED[text]


@pytest.fixture
def history(tmp_path, monkeypatch):
    """A repository of three commits, the second of which makes every step copy its gradients. The gate measures no
    times."""
    def git(*words):
        settings = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", *settings, *words], cwd=tmp_path, check=True, capture_output=True)
    git("init", "-q")
    shutil.copytree(ROOT/"fastopt", tmp_path/"fastopt", ignore=shutil.ignore_patterns("__pycache__"))
    change = PLANTS["a new temporary"]
    for k, text in enumerate(["a start", "Copy the gradients", "Say more"]):
        with (tmp_path/"fastopt"/(change.file if k == 1 else "proximal.py")).open("a") as file:
            file.write(change.new if k == 1 else f"# {text}\n")
        git("add", "-A")
        trailer = ["-m", "Slower: track_python (new gradients), because a test\n says so"]
        git("commit", "-q", "-m", text, *trailer*(k == 1))
    monkeypatch.setattr(facts, "table", memory)
    monkeypatch.setattr(facts, "rules", lambda folder: ["momentum", "adam"])
    monkeypatch.setattr(versions, "ROOT", tmp_path)
    monkeypatch.setattr(figures, "code", lambda *_: 1/0)  # a part that fails
    monkeypatch.setattr(figures, "instructions", lambda *_: (7, []))
    for name in ("imports_of", "compiling_of"):
        monkeypatch.setattr(timing, name, lambda *_: ("", []))
    monkeypatch.setattr(duet, "duet", lambda *_: 1/0)
    return tmp_path


def test_names_benchmark_figures_and_commit(history, capsys):
    """What was found stays found when another part fails; without a finding a part that fails is exit code 2."""
    assert gate.main(["HEAD~2", "HEAD"]) == 1
    said = capsys.readouterr()
    assert re.search(r"SLOWER bench_memory\.Peak\.track_python \(adam, step\): \d+ -> 4\d{5}, x \d+\.\d+", said.out)
    assert re.search(r"slower: 4 of \d+ figures\nbench_memory\S+ \(momentum, step\): commit [0-9a-f]{7,} Copy the gra",
                     said.out)
    assert "machine code: could not be measured" in said.err
    assert gate.main(["HEAD~1", "HEAD"]) == 2
    assert "gate: could not measure: machine code, duet; nothing else is slower" in capsys.readouterr().err


def test_findings_may_be_wanted(history, capsys, monkeypatch):
    """By a text as it is printed, or a regular expression; what is wanted does not stop the gate."""
    assert gate.allowed("HEAD~2", "HEAD", ["mine", ""]) == ["mine", "track_python (new gradients)"]
    assert gate.allowed("HEAD", "HEAD", []) == []
    monkeypatch.setattr(figures, "code", lambda *_: (0, []))
    monkeypatch.setattr(timing, "duets", lambda _, steps, cache: timing.Duets(dict.fromkeys(steps, 1.0), [], 0, 0))
    for pattern, code in (("track_python (", 0), ("P.*k.track_p.* .(adam|momentum)", 0), ("track_python (adam", 1)):
        assert gate.main(["HEAD~2", "HEAD", "--stop", "--allow", pattern]) == code
        said = capsys.readouterr().out
        assert ("noted  bench_memory.Peak.track_python (adam, step)" in said, "duet: " in said) == (True, not code)


def test_the_worst_is_said_first(capsys):
    log = gate.Log()
    log.slower = [suspect("b", f"x {ratio}")._replace(finding=verdict.Finding("b", f"x {ratio}", "", "", "", ratio))
                  for ratio in (1.1, 3.0, 1.5, math.inf)]
    gate.verdict(log, lambda s: s.finding.ratio == 3.0)
    assert re.findall(r"(SLOWER|noted) +b \(x (\S+)\)", capsys.readouterr().out) == [
        ("SLOWER", "inf"), ("SLOWER", "1.5"), ("SLOWER", "1.1"), ("noted", "3.0")]


def test_a_part_without_an_end_is_a_finding(capsys):
    """If it is the head's: a base that has no end says nothing of the head."""
    def measure(folders):
        if "endless" in folders:
            versions.worker("gate.facts", str(SOURCE), "rules", timeout=0.01)
        return 7, [], ""
    for folders, found, failed in ((["base", "endless"], ["gate, duet"], []), (["endless", "head"], [], ["duet"])):
        log = gate.Log()
        log.phase("duet", measure, folders)
        assert ([s.finding.benchmark for s in log.slower], log.failed) == (found, failed)
        for of in log.slower:
            assert (of.again(["base", "endless"]), of.again(["base", "head"])) == (True, False)
    assert "TimeoutExpired" in capsys.readouterr().err


def test_a_folder_has_no_commits(history):
    """``main .`` would be read as main...HEAD by git."""
    assert len(gate.commits_between("HEAD~2", "HEAD")) == 2
    assert gate.commits_between("HEAD~2", str(history)) == []
    assert gate.commits_between(str(history), "HEAD") == []
    assert gate.commits_between("HEAD", "HEAD~2") == []  # no successor
    assert gate.allowed("HEAD~2", str(history), []) == ["track_python (new gradients)"]


def test_bisection_passes_over_what_does_not_run(history, tmp_path):
    def again(folders):
        asked.append(folders[1].name)
        raise RuntimeError("it does not import")
    asked = []
    commits = gate.commits_between("HEAD~2", "HEAD")
    found = gate.culprit(suspect("b", "c", again), SOURCE, commits, tmp_path/"work")
    assert re.fullmatch(r"commit [0-9a-f]{7,} Say more", found)
    assert asked == ["bisected-0"]
