"""The benchmark suite: every benchmark runs on tiny arrays, gives sane values, and says what it measures."""
import functools
import importlib
import inspect
import itertools
import math
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import once

import fastopt
from fastopt.optimizers import ALL

ROOT = Path(__file__).parents[1]

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(ROOT))
    MODULES = [importlib.import_module(f"benchmarks.{path.stem}")
               for path in sorted((ROOT/"benchmarks").glob("bench_*.py"))]
    common, compare, rivals, traffic = map(importlib.import_module,
                                           ("benchmarks.common", "benchmarks.compare", "fastopt.bench.rivals",
                                                                     "fastopt.bench.ceiling"))

sys.modules["benchmarks.bench_cuda_step"].at_hand()  # asked before another test loads the stand-in driver: there it would take 90 s
CLASSES = [c for module in MODULES for c in vars(module).values() if inspect.isclass(c)
           and c.__module__ == module.__name__]
BENCHMARKS = [(c, name) for c in CLASSES for name in dir(c) if name.startswith(("time_", "track_"))]
PROCESSES = {"Import", "Compile", "FirstStep", "Peak", "Emptied"}  # a process for each case: one case is enough
SIGNED = {"track_refresh", "track_beyond_arrays"}       # differences, which may be zero or fall below it
NONE = {"track_spilled", "track_spills", "track_float64", "track_narrow",
        "track_calls"}  # counts of what should not be there
ABSENT = {"bench_cuda_step", "bench_cpu_code",
          "bench_retired"}  # NaN without a device, another processor than x86-64, no ptrace


def cases(benchmark):
    """Every value of every parameter at least once, not their product."""
    params = benchmark.params if hasattr(benchmark, "params") else ()
    longest = 1 if benchmark.__name__ in PROCESSES else max(map(len, params), default=1)
    return list(itertools.islice(zip(*map(itertools.cycle, params), strict=False), longest)) if params else [()]


def ids(value):
    return value.__module__.split(".")[-1] + "." + value.__name__ if inspect.isclass(value) else value


@functools.cache
def cached(setup_cache, benchmark):
    """What asv would hand to each benchmark: a function is called once, however many classes have it; a file keeps what it returns."""
    return pickle.loads(pickle.dumps(setup_cache(benchmark())))


@pytest.mark.parametrize(("benchmark", "name"), BENCHMARKS, ids=ids)
def test_runs(benchmark, name):
    cache = [cached(benchmark.setup_cache, benchmark)] if hasattr(benchmark, "setup_cache") else []
    for case in cases(benchmark):
        found = getattr(benchmark(), name)(*cache, *case)
        if name.startswith("time_"):
            assert found is None
            continue
        for x in found["samples"] if isinstance(found, dict) else [found]:
            if math.isnan(x) and ("times_faster_than" in name or "none" in case
                                  or benchmark.__module__.split(".")[-1] in ABSENT):
                continue  # not installed, or cannot run with so many threads
            assert math.isfinite(x), (name, case, x)
            assert x > 0 or name in SIGNED or (name in NONE and x == 0) or (name, case[0]) == ("track_state",
                                                                                               "sgd"), (name, case, x)


@pytest.mark.parametrize(("benchmark", "name"), BENCHMARKS, ids=ids)
def test_says_what_it_measures(benchmark, name):
    function = getattr(benchmark, name)
    assert benchmark.version
    assert benchmark.__doc__
    assert function.__doc__
    assert name.startswith("time_") or function.unit
    assert not hasattr(benchmark, "setup"), "asv_runner reruns setup before every timed call; use a cached factory"
    assert len(getattr(benchmark, "param_names", ())) == len(getattr(benchmark, "params", ()))


def test_every_rule_is_measured():
    assert set(common.CASES) == set(ALL)
    for module, name in (("step", "Step"), ("step", "Time"), ("call", "Small"), ("memory", "Peak"),
                         ("start", "Compile")):
        measured, = (c.params[0] for c in CLASSES if (c.__module__, c.__name__) == (f"benchmarks.bench_{module}", name))
        assert set(measured) == set(ALL), (module, name)


def test_a_rule_without_a_case_is_an_import_error():
    code = "from fastopt import optimizers\noptimizers.ALL['new'] = optimizers.SGD\nimport benchmarks.common"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert "ImportError: benchmarks: no case for ['new'], no rule for []. Edit fastopt/bench/rivals.py." in done.stderr


@pytest.mark.parametrize(("name", "tensors", "elements"),
                         [("200 x 1,000", 200, 200_000), ("ResNet-50", 161, 25_557_032),
                          ("GPT-2 small", 148, 124_439_808)])
def test_shape_lists(name, tensors, elements):
    of = common.SHAPES[name]
    assert (len(of), sum(map(math.prod, of))) == (tensors, elements)


MOVED = {"sgd": 12, "momentum": 20, "nesterov": 20, "rmsprop": 20, "adagrad": 20, "lion": 20,
         "adam": 28, "adamw": 28, "nadam": 28, "radam": 28, "amsgrad": 36}


@pytest.mark.parametrize("rule", ALL)
def test_bytes_per_element(rule):
    case = common.make(rule, [(8, 3), (5,)], 1)
    assert case.elements == 29
    assert case.moved_bytes == 29*MOVED[rule]


@pytest.mark.parametrize(("rule", "format", "expected"), [("adam", "f64", 56), ("adam", "f16", 22), ("adam", "bf16",
                                                                                                     22),
                                                          ("adam", "f32, bf16 state", 20),
                                                          ("adam", "bf16, bf16 state", 14)])
def test_bytes_per_element_of_formats(rule, format, expected):
    case = common.make(rule, [(100,)], 1, format)
    assert case.moved_bytes == 100*expected


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("dtypes", [["f4"]*2, ["f4"]*3, ["u2", "u2", "f4", "f4"], ["f8"]*5], ids=str)
def test_the_ceiling_moves_every_byte(dtypes, threads):
    """Parameter and states change in every element, the gradient in none."""
    moved = traffic.Traffic(200_003, list(map(np.dtype, dtypes)), threads)
    before = [a.copy() for a in moved.arrays]
    moved()
    for k, (a, b) in enumerate(zip(moved.arrays, before, strict=True)):
        bits = f"u{a.itemsize}"
        assert np.all(a.view(bits) != b.view(bits)) == (k > 0)
        assert np.array_equal(a.view(bits), b.view(bits)) == (k == 0)
    assert moved.moved_bytes == 200_003*(2*sum(d.itemsize for d in map(np.dtype,
                                                                       dtypes)) - np.dtype(dtypes[0]).itemsize)


@pytest.mark.filterwarnings("default")  # other people's
@pytest.mark.parametrize("rule", rivals.RULES)
@pytest.mark.parametrize("name", rivals.RIVALS)
def test_rivals_take_the_same_steps(name, rule):
    hyper = {**common.CASES[rule], "lr": 0.01}
    params, grads = ([common.filled(shape, "f32", 1.0, seed) for shape in ((5, 7), (300,))] for seed in (1, 2))
    own = [p.copy() for p in params]
    opt = ALL[rule](own, threads=1, like=rivals.LIKE.get(name), **hyper)
    try:
        rival = rivals.RIVALS[name](rule, hyper, params, grads, fastopt._cpu.pool.available_threads())
    except ImportError as error:
        pytest.skip(str(error))
    for _ in range(1 if (name, rule) == ("torch_foreach", "nesterov") else 5):  # that one changes its gradients
        opt.step(grads)
        rival.step()
    for ours, theirs, start in zip(own, rival.params(), params, strict=True):
        assert np.all(ours != start)
        np.testing.assert_allclose(theirs, ours, rtol=2e-6, atol=2e-6)


def test_abba_compares():
    def right():
        quick, slow, ratio = common.abba(lambda: sum(range(1_000)), lambda: sum(range(100_000)))
        return quick < slow and ratio < 0.5
    assert once(right)


def test_each_is_called_as_often_as_asked():
    calls = [0, 0]

    def run(which, size):
        calls[which] += 1
        sum(range(size))
    runs = [functools.partial(run, 0, 1_000), functools.partial(run, 1, 100_000)]
    found = compare.quartets(runs, 0.01, calls=(5, 5))
    assert calls[0] == calls[1] == 10*len(found) >= 30
    calls[:] = 0, 0
    compare.quartets(runs, 0.01)
    assert calls[0] > calls[1]


def test_one_harness():
    """The suite times by the package's own code."""
    from fastopt.bench import interleave
    assert Path(compare.quartets.__code__.co_filename) == Path(interleave.__file__)
    assert not [path.name for path in (ROOT/"benchmarks").glob("*.py") if "(1, 0, 0, 1)" in path.read_text()]


def test_no_element_is_zero_or_subnormal():
    for format in common.DTYPES:
        x = common.filled((10_000,), format, 0.01, 0)
        value = (x.astype(np.uint32) << 16).view(np.float32) if format == "bf16" else x.astype(np.float64)
        assert np.all(np.abs(value) > 5e-4)
        assert np.all(np.isfinite(value))


def test_asv_check(tmp_path):
    """asv itself finds the suite, imports it, and its arguments fit; in this interpreter, with no network."""
    pytest.importorskip("asv")
    git = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    if git.returncode:
        pytest.skip("asv needs a git checkout with a commit; this is an unpacked archive")
    environment = {**os.environ, "HOME": str(tmp_path), "ASV_PYTHONPATH": str(Path(fastopt.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-m", "asv", "check", "--environment", f"existing:{sys.executable}"],
                          cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "No problems found" in done.stdout
