"""The benchmark suite: every benchmark runs on tiny arrays, gives sane values, and says what it measures."""
import functools
import importlib
import inspect
import itertools
import json
import math
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fastopt.optimizers import ALL

ROOT = Path(__file__).parents[1]

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(ROOT))
    MODULES = [importlib.import_module(f"benchmarks.{path.stem}") for path in (ROOT/"benchmarks").glob("bench_*.py")]
    common, harness, steps, traffic = map(importlib.import_module, (
        "benchmarks.common", "benchmarks.gate.harness", "benchmarks.steps", "fastopt.bench.ceiling"))

CLASSES = sorted((c for module in MODULES for c in vars(module).values()
                  if inspect.isclass(c) and c.__module__ == module.__name__), key=lambda c: (c.__module__, c.__name__))
BENCHMARKS = [(c, name) for c in CLASSES for name in dir(c) if name.startswith(("time_", "track_"))]
SIGNED = {"track_refresh", "track_beyond_arrays"}    # differences, which may be zero or fall below it
NONE = {"track_spilled", "track_spills", "track_float64", "track_narrow", "track_calls"}  # of what should not be there
BESIDE = {"beside", "beside_both"}
ABSENT = {"bench_cpu_code", "bench_retired"}  # NaN: no x86-64 processor, no ptrace


def parameters(benchmark, name):
    """Those of the method, else those of its class."""
    return getattr(getattr(benchmark, name), "params", getattr(benchmark, "params", ()))


def cases(benchmark, name):
    """The first value of every parameter, and the last."""
    params = parameters(benchmark, name)
    return sorted({tuple(of[at] for of in params) for at in (0, -1)}, key=str) if params else [()]


def ids(value):
    return value.__module__.split(".")[-1] + "." + value.__name__ if inspect.isclass(value) else value


@pytest.fixture(scope="module")
def beside():
    """`common.beside` for the steps of all benchmarks: asked for together, so that they share two processes."""
    asked = {"ceiling": [], "golden": []}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(common, "beside", lambda other, steps: asked[other].extend(steps) or dict.fromkeys(steps))
        for benchmark in CLASSES:
            if hasattr(benchmark, "setup_cache") and BESIDE & {*benchmark.setup_cache.__code__.co_names}:
                benchmark.setup_cache(None)
    found = {other: common.beside(other, list(dict.fromkeys(steps))) for other, steps in asked.items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(common, "beside", lambda other, steps: {step: found[other][step] for step in steps})
        yield


@functools.cache
def cached(setup_cache):
    """What asv would hand to each benchmark: a function is called once for all classes; a file keeps the result."""
    return pickle.loads(pickle.dumps(setup_cache(None)))


@pytest.mark.filterwarnings("default")  # other people's
@pytest.mark.parametrize(("benchmark", "name"), BENCHMARKS, ids=ids)
def test_runs(benchmark, name, beside):
    cache = [cached(benchmark.setup_cache)] if hasattr(benchmark, "setup_cache") else []
    module = benchmark.__module__.split(".")[-1]
    for case in cases(benchmark, name):
        found = getattr(benchmark(), name)(*cache, *case)
        if name.startswith("time_"):
            assert found is None
            continue
        for x in found["samples"] if isinstance(found, dict) else [found]:
            if math.isnan(x) and ("times_faster_than" in name or "none" in case or module in ABSENT):
                continue  # not installed, or cannot run with so many threads
            assert math.isfinite(x), (name, case, x)
            assert x > 0 or name in SIGNED or (name in NONE and x == 0), (name, case, x)


def test_says_what_it_measures():
    for benchmark, name in BENCHMARKS:
        what = ids(benchmark), name
        assert benchmark.version, what
        assert name.startswith("time_") or getattr(benchmark, name).unit, what
        assert not hasattr(benchmark, "setup"), f"{what}: asv_runner reruns setup before every timed call"
        assert len(getattr(benchmark, "param_names", ())) == len(parameters(benchmark, name)), what


def test_the_full_suite_has_every_rule_and_size():
    """In a process of its own: here the suite is the quick one."""
    code = ("from benchmarks import bench_call, bench_step\n"
            "print(bench_step.Step.params[:2], bench_step.Others.params, bench_step.Large.params[1], "
            "bench_step.Formats.params[3], bench_call.Coefficients.params)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True,
                          env={**os.environ, "FASTOPT_BENCH": "full"})
    sizes, formats = [1_000, 10_000, 100_000, 300_000, 1_000_000, 10_000_000], [x for x in steps.FORMATS if x != "f32"]
    others = [rule for rule in ALL if rule not in steps.MAIN_RULES]
    assert done.stdout.strip() == (f"{(steps.MAIN_RULES, sizes)} {(others, [100_000, 10_000_000], [1])} "
                                   f"{[100_000_000, 'ResNet-50', 'GPT-2 small']} {formats} {(list(ALL),)}")


def test_the_suite_can_be_forked():
    """asv imports it once, and forks that process for each figure: no thread of a library may be lost by that."""
    code = (f"import importlib, sys; [importlib.import_module(name) for name in {[m.__name__ for m in MODULES]}]\n"
            "from fastopt._cpu import pool\n"
            "print(pool.POOL.workers, {'torch', 'jax', 'cuda.bindings.driver'} & sys.modules.keys())")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True,
                          env={**os.environ, "FASTOPT_BENCH": "full"})
    assert done.stdout.strip() == "0 set()"
    assert json.loads((ROOT/"asv.conf.json").read_text(encoding="utf-8"))["launch_method"] == "forkserver"


def test_what_the_gate_names_exists():
    timing = importlib.import_module("benchmarks.gate.timing")
    known = {f"{ids(benchmark)}.{name}" for benchmark, name in BENCHMARKS}
    assert {step.benchmark for step in timing.steps_of(list(ALL))} <= known


def test_shape_lists():
    counted = {name: (len(of), sum(map(math.prod, of))) for name, of in steps.SHAPES.items()}
    assert counted == {"200 x 1,000": (200, 200_000), "1,000 x 100": (1_000, 100_000), "148 x 8": (148, 1_184),
                       "1,000 x 1,000": (1_000, 1_000_000), "ResNet-50": (161, 25_557_032),
                       "GPT-2 small": (148, 124_439_808)}


def test_bytes_per_element():
    for rule, cls in ALL.items():
        case = common.make(rule, [(8, 3), (5,)], 1)
        assert (case.elements, case.moved_bytes) == (29, 29*4*(3 + 2*len(cls.rule.state)))
    for format, moved in {"f64": 56, "f16": 22, "bf16": 22, "f32, bf16 state": 20, "bf16, bf16 state": 14}.items():
        assert common.make("adam", [(100,)], 1, format).moved_bytes == 100*moved, format


def test_the_ceiling_moves_every_byte():
    """Parameter and states change in every element, the gradient in none."""
    for dtypes, threads in itertools.product((["f4"]*2, ["u2", "u2", "f4", "f4"], ["f8"]*5), (1, 2)):
        moved = traffic.Traffic(200_003, list(map(np.dtype, dtypes)), threads)
        before = [a.copy() for a in moved.arrays]
        moved()
        for k, (a, b) in enumerate(zip(moved.arrays, before, strict=True)):
            changed = a.view(f"u{a.itemsize}") != b.view(f"u{a.itemsize}")
            assert changed.all() if k else not changed.any(), (dtypes, threads, k)
        sizes = [np.dtype(d).itemsize for d in dtypes]
        assert moved.moved_bytes == 200_003*(2*sum(sizes) - sizes[0])


def test_each_is_called_as_often_as_asked():
    calls = [0, 0]

    def run(which, size):
        calls[which] += 1
        sum(range(size))
    runs = [functools.partial(run, 0, 1_000), functools.partial(run, 1, 100_000)]
    found = harness.quartets(runs, 0.01, calls=(5, 5))
    assert calls[0] == calls[1] == 10*len(found) >= 30
    calls[:] = 0, 0
    harness.quartets(runs, 0.01)
    assert calls[0] > calls[1]
    first, second, ratio = harness.medians(found)
    assert first/second == pytest.approx(ratio, rel=0.9)


def test_no_element_is_zero_or_subnormal():
    for format in steps.DTYPES:
        x = steps.filled((10_000,), format, 0.01, 0)
        value = (x.astype(np.uint32) << 16).view(np.float32) if format == "bf16" else x.astype(np.float64)
        assert np.all(np.abs(value) > 5e-4)
        assert np.all(np.isfinite(value))
