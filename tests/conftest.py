"""What the tests share: rules and formats as cases, nasty numbers, odd memory, comparing bits. All seeds are fixed."""
import atexit
import contextlib
import itertools
import os
import random
import re
import shutil
import signal
import sys
import tempfile

# Before fastopt compiles anything: the user's cache is none of our business. The workers of pytest-xdist inherit that
# of the process which starts them, so none compiles what another has compiled. `.ci/gpu` gives one for all its parts.
if "FASTOPT_TESTS_CACHE" in os.environ:
    os.environ["FASTOPT_CACHE"] = os.environ["FASTOPT_TESTS_CACHE"]
elif "PYTEST_XDIST_WORKER" not in os.environ:
    os.environ["FASTOPT_CACHE"] = tempfile.mkdtemp(prefix="fastopt-tests-")
    atexit.register(shutil.rmtree, os.environ["FASTOPT_CACHE"], ignore_errors=True)
CACHE = os.environ["FASTOPT_CACHE"]
os.environ["FASTOPT_BENCH"] = "quick"  # small benchmarks, whichever test imports them first: full ones take an hour

import ml_dtypes  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402

from fastopt import optimizers  # noqa: E402
from fastopt._formats.catalogue import FORMATS, MASK, STORED  # noqa: E402
from fastopt._kernels import cache  # noqa: E402
from fastopt._kernels.layout import Layout, Slot  # noqa: E402
from fastopt._rule.pieces import modifiers  # noqa: E402
from fastopt._rule.pipeline import pipeline  # noqa: E402

OPTIMIZERS = dict(optimizers.ALL)
RULES = {name: cls.rule for name, cls in OPTIMIZERS.items()}
DTYPES = {"f64": np.float64, "f32": np.float32, "f16": np.float16, "bf16": np.uint16}
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
LARGE_LR = {"sgd": 0.3, "momentum": 0.3, "nesterov": 0.3, "adadelta": 30.0}  # whose steps are small otherwise

# no state; coefficients that settle at once, at the second step, or never; a history; rows that are made one by one
KINDS = ("sgd", "lion", "nesterov", "rprop", "adamw", "nadam", "ademamix")

OWN = {name: rule.examples for name, rule in RULES.items()}  # several sets of hyperparameters, not the defaults
SHARED = [{"weight_decay": 0.1, "decay": "coupled"}, {"weight_decay": 0.1, "decay": "decoupled"},
          {"weight_decay": 0.01, "decay": "independent"}, {"maximize": True, "weight_decay": 0.03}]


def label(case):
    """What a case is called: its text without addresses. The workers of pytest-xdist must find the same names."""
    return re.sub(r" at 0x[0-9a-f]+", "", str(case))


# `pytest -m quick` runs, of each file, the first case of its first two tests, but for these, which take long
SLOW = {"test_mutants_of_adams_kernel_are_found", "test_every_rule_is_measured", "test_on_the_stand_in",
        "test_bits_of_a_step", "test_python_blocks", "test_what_the_messages_about_state_dicts_say_to_do_works",
        "test_walks", "test_asv_runs", "test_what_the_messages_about_torch_say_to_do_works",
        "test_what_a_step_writes_has_changed", "test_interrupted_loads_are_whole", "test_memory_that_moved_is_followed",
        "test_any_number_of_ranks_gives_the_bits_of_one_machine", "test_digits"}


def pytest_addoption(parser):
    parser.addoption("--full", action="store_true", help="all sampled cases, and arrays of several gigabytes")
    parser.addoption("--no-skips", action="store_true", help="exit status 1 where a test was skipped")


def pytest_sessionfinish(session):
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if session.config.getoption("--no-skips") and reporter and reporter.stats.get("skipped") and not session.exitstatus:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_collection_modifyitems(config, items):
    """Take a sample of the tests that are marked `sampled`, unless --full asks for all, and mark the quick set."""
    cases = {}  # of each sampled test: the parameters that are named, and each item with its values of them
    for item in () if config.getoption("--full") else items:
        for mark in item.iter_markers("sampled"):
            values = [item.callspec.params[name] for name in mark.args]
            cases.setdefault((item.function, mark.args), []).append((item, values))
    kept = {item for (_, names), found in cases.items() for item in sample(names, found)}
    left_out = {item for found in cases.values() for item, _ in found} - kept
    config.hook.pytest_deselected(items=list(left_out))
    items[:] = [item for item in items if item not in left_out]
    tests = {}  # of each file, with their first case
    for item in items:
        if item.get_closest_marker("cuda") is None:
            tests.setdefault(item.path.name, {}).setdefault(getattr(item, "originalname", item.name), item)
    for found in tests.values():
        for name in list(found)[:2]:
            if name not in SLOW:
                found[name].add_marker("quick")


def sample(names, cases):
    """The items of some of the cases (item, values), by a fixed seed: each value of the parameter that has most of them
    occurs, and each mix of the others. Tests of equal parameters get equal cases, so that they share their kernels."""
    places = [dict(zip({label(v[k]): 0 for _, v in cases}, itertools.count())) for k in range(len(names))]
    longest = max(range(len(names)), key=lambda k: len(places[k]))
    mixes = list(itertools.product(*(range(len(p)) for k, p in enumerate(places) if k != longest)))
    random.Random(" ".join(names)).shuffle(mixes)
    count = len(places[longest])
    chosen = {(k % count, *mixes[k % len(mixes)]) for k in range(max(count, len(mixes)))}
    for item, values in cases:
        at = [places[k][label(v)] for k, v in enumerate(values)]
        if (at.pop(longest), *at) in chosen:
            yield item


@pytest.fixture
def python_handler():
    """SIGINT as at a terminal: a program in the background may have inherited that it is ignored."""
    old = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, old)


@pytest.fixture
def full(request):
    return request.config.getoption("--full")


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    """Kernels are compiled anew, into a directory of their own."""
    monkeypatch.setenv("FASTOPT_CACHE", str(tmp_path / "cache"))
    cache._say_once.cache_clear()
    return tmp_path / "cache"


@pytest.fixture
def stand_in():
    """The stand-in for the CUDA driver, with two devices: fastopt hands it PTX, which the interpreter runs."""
    from ptx import driver as loader
    if reason := loader.available():
        pytest.skip(reason)
    import devices
    it = devices.load(devices=2)
    it.reset()
    yield it
    it.drain()
    it.check()  # a fault of a kernel that no test accounts for


@pytest.fixture
def cupy(stand_in, monkeypatch):
    """What stands for CuPy, on a stream of its own that orders itself with no other."""
    from devices import CuPy, new_stream
    monkeypatch.setitem(sys.modules, "cupy", CuPy)
    monkeypatch.setattr(CuPy.cuda, "current", new_stream())
    return CuPy


@pytest.fixture
def gpu():
    """The first device of a real driver. Tests that need one are marked `cuda`, and run with ``pytest -m cuda``."""
    import hardware
    if reason := hardware.missing():
        pytest.skip(reason)
    from fastopt._cuda import driver
    return driver.gpu(0)


# Numbers

def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def nasty(n, seed=0, dtype=np.float32):
    """Every 32-bit float, in principle: random bits among zeros, subnormals, extremes, infinities and NaN."""
    tiny, most = np.finfo(dtype).smallest_subnormal, np.finfo(dtype).max
    special = np.array([0, 1, tiny, 3*tiny, np.finfo(dtype).tiny, 1e-20, 1e-7, 1e19, 3e37, most, np.inf, np.nan], dtype)
    rng = np.random.default_rng(seed)
    word = {4: np.uint32, 8: np.uint64}[np.dtype(dtype).itemsize]
    values = rng.integers(0, np.iinfo(word).max, n, word, endpoint=True).view(dtype)
    return np.where(rng.random(n) < 0.5, values, np.copysign(rng.choice(special, n), rng.normal(size=n).astype(dtype)))


def layout(text):
    """A layout in short: the formats of its slots. A gradient with ``*`` is strided; the step zeroes one with ``!``."""
    known = {**STORED, "mask": MASK}
    return Layout(tuple(Slot(known[name.rstrip("*!")], "*" in name, "!" in name) for name in text.split()))


def stored(x, format):
    """Float numbers as an array of this format (bfloat16 as its bits)."""
    if format in ("f16", "bf16"):
        with np.errstate(all="ignore"):
            return FORMATS[format].encode(np.asarray(x).astype(np.float32)).view(DTYPES[format])
    return np.asarray(x).astype(DTYPES[format])


def decoded(array, format):
    """The numbers that an array of this format holds: float64 for f64, else float32."""
    return FORMATS[format].decode(array.view(np.uint16)) if format in ("f16", "bf16") else array.copy()


# Memory

def unaligned(array, offset):
    """A copy that starts `offset` bytes behind a multiple of 64."""
    raw = np.empty(array.nbytes + 128, np.uint8)
    start = -raw.ctypes.data % 64 + offset
    copy = raw[start:start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


# What neither load nor a callback may spoil

def once(look, looks=10):
    """Whether what `look` measures is right in one of several looks: load spoils some of them, a fault spoils all."""
    return any(look() for _ in range(looks))


@contextlib.contextmanager
def storm(strike, kind):
    """Gives a function that lets `strike` come once, in so many seconds, in whatever runs then. A callback may swallow
    the error that is raised in it (JAX has one that runs at every garbage collection): then `strike` comes again."""
    armed = [False]

    def arm(seconds):
        armed[0] = True
        signal.setitimer(signal.ITIMER_REAL, seconds)

    def alarm(*_):
        if armed[0]:
            armed[0] = False
            strike()

    def swallowed(what):
        arm(1e-4) if what.exc_type is kind else hook(what)
    old, hook = signal.signal(signal.SIGALRM, alarm), sys.unraisablehook
    sys.unraisablehook = swallowed
    try:
        yield arm
    finally:
        armed[0] = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        sys.unraisablehook = hook
        signal.signal(signal.SIGALRM, old)


# Bits

def bits(array):
    return np.ascontiguousarray(array).view({1: np.uint8, 2: np.uint16, 4: np.uint32,
                                             8: np.uint64, 16: np.uint64}[array.dtype.itemsize])


def not_a_number(array, format=None):
    return np.isnan(decoded(array, format)) if format else np.isnan(array)


def assert_same_bits(have, want, what="", format=None):
    """Equal bits, and NaN at the same places (whose payload IEEE leaves open)."""
    assert (have.dtype, have.shape) == (want.dtype, want.shape), what
    different = (bits(have) != bits(want)) & ~(not_a_number(have, format) & not_a_number(want, format))
    at = np.argwhere(different.reshape(have.shape)).tolist()
    assert not at, (f"{what}: {len(at)} of {have.size} differ, first at {at[0]}: {have[tuple(at[0])]!r}, but "
                    f"{want[tuple(at[0])]!r} is right")


def assert_identical(have, want, what=""):
    """Every bit, those of NaN too."""
    assert (have.dtype, have.shape) == (want.dtype, want.shape), what
    assert np.array_equal(bits(have), bits(want)), what


# Steps

def coefficients_and_gradient(rule, t, g, kind, **how):
    """What a rule gets at step t in the float type `kind`: a wider gradient is scaled in its own type first."""
    c = rule.at(t, kind, **how)
    if g.dtype.itemsize <= np.dtype(kind).itemsize:
        return c, g.astype(kind)
    return c._replace(scale=kind(1)), (rule.at(t, np.float64, **how).scale*g).astype(kind)


def in_use(opt, group, factor=1.0, clip_value=np.inf):
    """The rule with the pieces around it for which a step and this group ask: what a kernel should compute."""
    asked, names = opt.groups[group], []
    if factor != 1 or asked["maximize"]:
        names.append("scale")
    if clip_value != np.inf:
        names.append("limit")
    if asked["weight_decay"] != 0:
        names.append("coupled" if asked["decay"] == "coupled" else
                     "cautious_decay" if asked["cautious_decay"] else "decoupled")
    names += modifiers(asked)
    return pipeline(opt.rule, tuple(names))
