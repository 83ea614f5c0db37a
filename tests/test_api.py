"""The Python side: trees, groups, buffers, arrays of others, look-ahead points, own rules, memory, imports."""
import array
import contextlib
import dataclasses
import gc
import inspect
import io
import os
import pickle
import subprocess
import sys
import tracemalloc
import weakref
from collections import OrderedDict, namedtuple
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from conftest import BFLOAT16, OPTIMIZERS, assert_identical, normal, stored
from numba import njit
from numba.core.errors import TypingError
from reference import Twin, gradients

import fastopt
from fastopt import kernels, optimizers, schedules
from fastopt.presets import PRESETS

f16, f32, f64 = np.float16, np.float32, np.float64
Pair = namedtuple("Pair", "W b")


@dataclasses.dataclass
class Layer:
    W: object
    b: object


@dataclasses.dataclass(frozen=True)
class Frozen:
    W: object
    b: object


@dataclasses.dataclass(frozen=True, slots=True)
class Slots:
    W: object
    b: object


@dataclasses.dataclass
class Model:
    """A tree that can be called, as models are: it is no function that makes gradients."""

    W: object
    b: object

    def __call__(self, x):
        raise AssertionError("a tree of gradients was called")


class Lazy(Mapping):
    """Makes an array whenever it is asked for one, and keeps none."""

    def __init__(self, **sizes):
        self.sizes = sizes

    def __getitem__(self, key):
        return np.full(self.sizes[key], 0.5, f32)

    def __iter__(self):
        return iter(self.sizes)

    def __len__(self):
        return len(self.sizes)


def numbers(seed, *shape, dtype=f32):
    return normal(seed, *shape).astype(dtype)


TREES = {"array": lambda a, b, c: a, "list": lambda a, b, c: [a, b, c], "tuple": lambda a, b, c: (a, b, c),
         "named tuple": lambda a, b, c: Pair(a, b), "dict": lambda a, b, c: {"a": a, "b": b, 3: c},
         "ordered": lambda a, b, c: OrderedDict(z=a, y=b), "dataclass": lambda a, b, c: Layer(a, b),
         "frozen": lambda a, b, c: Frozen(a, b), "slots": lambda a, b, c: Slots(a, b),
         "callable": lambda a, b, c: Model(a, b),
         "nested": lambda a, b, c: {"layers": [Pair(a, {"x": b}), (Slots([c], []),)], "none": {}, "void": [(), []]},
         "groups": lambda a, b, c: [{"params": [a, b], "lr": 0.5}, {"params": c}]}


def leaves_of(tree):
    """The arrays of a tree, by a walk of our own."""
    if isinstance(tree, np.ndarray):
        return [tree]
    if dataclasses.is_dataclass(tree):
        tree = [getattr(tree, f.name) for f in dataclasses.fields(tree)]
    return [a for x in (tree.values() if isinstance(tree, Mapping) else tree) for a in leaves_of(x)]


def without_groups(tree):
    return [g["params"] for g in tree] if isinstance(tree, list) and isinstance(tree[0], dict) else tree


@pytest.mark.parametrize("kind", TREES)
def test_a_tree_steps_as_its_arrays_do(kind):
    """Bit for bit; its state and its gradient buffers have its structure."""
    make = TREES[kind]
    shapes = [(3, 4), (5,), ()]
    own, apart = ([numbers(k, *s) for k, s in enumerate(shapes)] for _ in range(2))
    opt = fastopt.Adam(make(*own), lr=0.1)
    rates = [0.5, 0.5, 0.1] if kind == "groups" else [0.1]*3
    single = {id(a): fastopt.Adam(b, lr) for a, b, lr in zip(own, apart, rates, strict=True)}
    used = leaves_of(without_groups(opt.params))
    for step in range(3):
        gradients = [numbers(10*step + k, *s) for k, s in enumerate(shapes)]
        tree = without_groups(make(*gradients))
        if step == 2:  # the third through buffers
            assert opt.grads is opt.grads
            assert [b.shape for b in leaves_of(opt.grads)] == [p.shape for p in used]
            for buffer, g in zip(leaves_of(opt.grads), leaves_of(tree), strict=True):
                assert not buffer.any()
                buffer[...] = g
            opt.step()
        else:
            opt.step(tree)
        for a, g in zip(used, leaves_of(tree), strict=True):
            single[id(a)].step(g)
    assert opt.t == 3
    for name in ("m", "v"):
        states = opt.state[name]
        assert type(states) is type(without_groups(opt.params)) or kind == "ordered"
        for a, s in zip(used, leaves_of(states), strict=True):
            assert_identical(s, single[id(a)].state[name], kind)
    for a in used:
        assert_identical(a, single[id(a)].params, kind)


def test_a_dict_of_gradients_may_have_another_order():
    w = {"a": np.zeros(3), "b": np.zeros(3)}
    fastopt.SGD(w, lr=1.0).step({"b": np.full(3, 2.0), "a": np.ones(3)})
    assert (w["a"].tolist(), w["b"].tolist()) == ([-1]*3, [-2]*3)


def test_arrays_that_a_mapping_makes_on_the_fly_live_through_the_step():
    """Their memory is given back, and used again, as soon as nobody holds them."""
    sizes = {"a": 100_000, "b": 50_000}
    w = {k: np.zeros(n, f32) for k, n in sizes.items()}
    opt = fastopt.SGD(w, lr=1.0)
    for step in range(1, 6):
        opt.step(Lazy(**sizes), clip_norm=1e9)
        assert all((x == -0.5*step).all() for x in w.values())


# Gradients

def test_own_buffers_cannot_be_swapped_unseen():
    """Assigning into the tree, instead of writing into its arrays, would train with zeros."""
    opt = fastopt.SGD({"W": np.zeros(2), "l": [np.zeros(2)]}, lr=1.0)
    with pytest.raises(TypeError, match="does not support item assignment"):
        opt.grads["W"] = np.ones(2)
    with pytest.raises(TypeError, match="does not support item assignment"):
        opt.grads["l"][0] = np.ones(2)
    opt.grads["W"][...] = 1
    opt.step()
    assert opt.params["W"].tolist() == [-1, -1]
    opt.step(opt.grads)  # and they are a tree like any other
    assert opt.params["W"].tolist() == [-2, -2]


def test_gradients_that_change_from_step_to_step():
    """New arrays, other strides, other float types, in any order: each step uses what it is given."""
    w = [np.zeros(12, f32).reshape(3, 4), np.zeros(12, f32).reshape(3, 4)]
    opt = fastopt.SGD(w, lr=1.0)
    want = np.zeros((3, 4), f32)
    make = [np.asarray, np.asfortranarray, lambda a: a.astype(f64), lambda a: np.repeat(a, 2, 1)[:, ::2],
            lambda a: a.astype(f16), lambda a: a.astype(BFLOAT16), lambda a: a[::-1].copy()[::-1],
            lambda a: a.astype(BFLOAT16).view(np.uint16)]
    for step in range(40):
        kinds = np.random.default_rng(step).integers(0, len(make), 2)
        values = np.random.default_rng(step).integers(-3, 4, (3, 4)).astype(f32)  # exact in every format
        opt.step([make[k](values) for k in kinds])
        want -= values
        assert np.array_equal(w[0], want)
        assert np.array_equal(w[1], want)


def test_one_gradient_buffer_for_two_tensors():
    w, g = [np.zeros(5), np.ones(5)], np.arange(5.0)
    fastopt.SGD(w, lr=1.0).step([g, g])
    assert w[0].tolist() == [0, -1, -2, -3, -4]
    assert w[1].tolist() == [1, 0, -1, -2, -3]


# The look-ahead point

LAYOUTS = {"C": lambda a: a, "F": np.asfortranarray,
           "permuted": lambda a: a.transpose(1, 2, 0).copy().transpose(2, 0, 1)}


@pytest.mark.parametrize(("form", "state"), [("f64", None), ("f32", "bfloat16"), ("f16", "float16"), ("bf16", None)])
def test_lookahead(form, state):
    """p - mu*v, of each group's momentum at the next step, in buffers that stay where they are; p stays as it is."""
    changing, kind = schedules.linear(0.5, 0.9, 4), f64 if form == "f64" else f32
    for layout in LAYOUTS.values():
        w = [layout(stored(normal(k, 2, 3, 4), form)) for k in range(2)]
        opt = fastopt.Nesterov([{"params": w[0]}, {"params": w[1], "momentum": changing}], lr=0.1, momentum=0.8,
                               state=state)
        addresses = [p.ctypes.data for p in opt.lookahead()]
        for t in range(1, 4):
            before = [a.copy() for a in w]
            points = opt.lookahead()
            assert [p.ctypes.data for p in points] == addresses
            for k, mu in enumerate((0.8, changing(t))):
                assert_identical(w[k], before[k])
                assert (points[k].dtype, points[k].strides) == (w[k].dtype, w[k].strides)
                p, v = (x if x.dtype in (f32, f64) else stored_back(x) for x in (w[k], opt.state["v"][k]))
                want = stored(p.astype(kind) - kind(mu)*v.astype(kind), form)
                assert_identical(points[k], want.reshape(p.shape), f"{t} {k}")
            seen = []
            opt.step(lambda ahead, seen=seen: seen.append(ahead)
                     or [a if form == "bf16" else a.astype(f32) for a in ahead])
            assert seen[0][0].ctypes.data == addresses[0]


def stored_back(x):
    return x.astype(f32) if x.dtype == f16 else (x.astype(np.uint32) << 16).view(f32)


# Arrays of others

def test_memory_of_other_kinds(tmp_path):
    class Named(np.ndarray):
        pass

    mapped = np.memmap(tmp_path/"w", f32, "w+", shape=4)
    quarters = np.full(4, 0.25, f32)
    given = array.array("f", quarters), array.array("d", quarters), memoryview(quarters), quarters.view(Named)
    for w in (mapped, np.zeros(4, f32).view(Named), array.array("f", [0]*4), memoryview(bytearray(16)).cast("f")):
        opt = fastopt.SGD({"w": w}, lr=1.0)
        for g in given:
            opt.step({"w": g})
        assert np.asarray(w).tolist() == [-1]*4
    mapped.flush()
    assert np.fromfile(tmp_path/"w", f32).tolist() == [-1]*4


def test_tensors_of_torch():
    torch = pytest.importorskip("torch")
    for dtype, alike in ((torch.float32, f32), (torch.bfloat16, BFLOAT16)):
        values = normal(0, 3, 4).astype(f32)
        p = torch.nn.Parameter(torch.tensor(values).to(dtype))
        bits = p.detach().view(torch.int16).numpy() if dtype == torch.bfloat16 else p.detach().numpy()
        twin = bits.copy().view(alike)
        opt, other = fastopt.Momentum([p], 0.1), fastopt.Momentum([twin], 0.1)
        for k in range(3):
            g = torch.tensor(normal(k, 3, 4)).to(dtype)
            opt.step([g if k else g.t().contiguous().t()])
            other.step([(g.view(torch.int16).numpy().view(BFLOAT16) if dtype == torch.bfloat16 else g.numpy())])
        assert_identical(bits.view(twin.dtype), twin, str(dtype))
        assert p.requires_grad


def test_gradients_of_jax():
    jax = pytest.importorskip("jax")
    w, twin = numbers(0, 5), numbers(0, 5)
    opt, other = fastopt.Adam({"w": w}), fastopt.Adam({"w": twin})
    for dtype in (f32, jax.numpy.bfloat16, f16):
        g = jax.numpy.asarray(numbers(1, 5)).astype(dtype)
        opt.step({"w": g})
        other.step({"w": np.asarray(g)})
    opt.step(lambda params: jax.grad(lambda p: (p["w"]**2).sum())(params))
    other.step({"w": 2*twin})
    assert_identical(w, twin)


# Hyperparameters

def test_hyperparameters_changed_between_steps():
    twin = Twin(fastopt.Adam(numbers(0, 6), lr=0.1, weight_decay=0.1))
    group, now = twin.opt.groups[0], dict(twin.opt.groups[0])
    changes = [{}, {"lr": 0.5}, {"b1": 0.5, "decay": "decoupled"}, {"lr": lambda t: 1/t, "maximize": True}, {"lr": 0.1}]
    for t, change in enumerate(changes, 1):
        group.update(change)
        now.update(change)
        assert dict(group.at(t)) == {k: x(t) if callable(x) else x for k, x in now.items()}
        twin.step([numbers(t, 6)])


def test_functions_of_the_step_are_called_with_1_2_3():
    calls = {"lr": [], "b1": []}
    opt = fastopt.Adam([{"params": np.ones(3), "lr": lambda t: calls["lr"].append(t) or 0.1},
                        {"params": np.ones(2), "b1": lambda t: calls["b1"].append(t) or 0.9}])
    for _ in range(3):
        opt.step([np.ones(3), np.ones(2)])
    assert calls == {"lr": [1, 2, 3], "b1": [1, 2, 3]}
    for _ in range(2):  # asked for the step that follows if none was skipped
        opt.step([np.array([1, np.nan, 1]), np.ones(2)], skip_nonfinite=True)
    assert calls["lr"] == [1, 2, 3, 4, 4]
    opt.t = 2**31
    opt.step([np.ones(3), np.ones(2)])
    assert (opt.t, calls["lr"][-1]) == (2**31 + 1, 2**31 + 1)


def test_presets_reach_the_groups_and_yield_to_arguments():
    for like, name in ((like, name) for like, presets in PRESETS.items() for name in presets):
        cls, mine = fastopt.optimizers.NAMED[name], {"lr": 0.123, "weight_decay": 0.3, "decay": "independent"}
        want = {**cls.rule.defaults, **PRESETS[like][name]}
        assert dict(cls(np.ones(2), like=like).groups[0]) == want
        assert dict(cls(np.ones(2), like=like, **mine).groups[0]) == {**want, **mine}
        assert cls([{"params": np.ones(2), "lr": 0.7}], like=like).groups[0]["lr"] == 0.7


# A rule of one's own

@fastopt.rule(state="v", lr=0.01, mu=0.9)
def heavy_ball(c, g, p, v):
    """Polyak's heavy ball."""
    v = c.mu*v + g
    u = c.lr*v
    return u, v


HeavyBall = fastopt.optimizer(heavy_ball)


def test_a_rule_of_ones_own():
    """Groups, schedules, clipping, decay and checkpoints; bit for bit what the rule gives on arrays."""
    hyper = [{"lr": 0.1, "weight_decay": 0.01}, {"lr": schedules.cosine(0.2, 10), "mu": 0.5}]
    opt, again = (HeavyBall([{"params": stored(normal(k, 7), "bf16"), **h} for k, h in enumerate(hyper)])
                  for _ in range(2))
    twin = Twin(opt)
    for t in range(1, 6):
        g = gradients(opt, t)
        twin.step(g, clip_value=0.8, grad_factor=0.5)
    again.load_state_dict(opt.state_dict())
    for x, y in zip(opt.params, again.params, strict=True):
        y["params"][...] = x["params"]
    for o in (opt, again):
        o.step(g, clip_norm=0.3)
    for x, y in zip(opt.params, again.params, strict=True):
        assert_identical(x["params"], y["params"])
    assert again.t == 6


def test_a_rule_of_ones_own_describes_itself():
    assert (HeavyBall.__name__, HeavyBall.__doc__) == ("HeavyBall", "Polyak's heavy ball.")
    assert str(inspect.signature(HeavyBall)) == (
        "(params, lr=0.01, *, mu=0.9, weight_decay=0.0, decay='coupled', maximize=False, cautious=False, "
        "cautious_decay=False, update_clip=0.0, update_rms=0.0, adaptive_clip=0.0, trust_ratio=False, "
        "trust_coefficient=1.0, like=None, state=None, rounding='nearest', average=None, grokfast=None, mars=None, "
        "schedule_free=None, copy=None, seed=0, first=0, threads=None, capturable=None)")
    assert repr(HeavyBall(np.zeros(3), mu=0.5)) == (
        "HeavyBall(lr=0.01, mu=0.5; t=0, 3 parameters f64, state v f64 (8 bytes each))")
    assert not issubclass(HeavyBall, fastopt.SGD)


# What is shown

def test_repr():
    groups = [{"params": np.zeros((1000, 10), f32)}, {"params": np.zeros(5, f16), "lr": 0.1}]
    opt = fastopt.AdamW(groups, lr=schedules.constant(0.5), b2=0.9, state={"m": "bfloat16"})
    opt.t = 12
    assert repr(opt) == ("AdamW(lr=constant(value=0.5), b2=0.9; lr=0.1, b2=0.9; t=12, 2 tensors, 10,005 parameters "
                         "f32/f16, state m bf16, v f32 (6 bytes each))")
    assert repr(fastopt.SGD(np.zeros(2))) == "SGD(lr=0.001; t=0, 2 parameters f64, no state)"
    assert "nan" not in repr(fastopt.Adam(np.zeros(0)))


class Cells(HTMLParser):
    """The text of a page's cells, row by row."""

    def __init__(self, page):
        super().__init__()
        self.rows = [[]]
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        assert tag in ("table", "caption", "thead", "tbody", "tr", "th", "td")
        if tag == "tr":
            self.rows.append([])
        elif tag in ("th", "td", "caption"):
            self.rows[-1].append("")

    def handle_data(self, data):
        self.rows[-1][-1] += data


def test_table_for_notebooks():
    def rate(t):
        return 0.1

    rate.__qualname__ = "<b>&rate</b>"  # what stands in a name is text, not a part of the page
    groups = [{"params": [np.zeros((1000, 10), f32), np.zeros(5, f16)], "lr": rate},
              {"params": np.zeros(128, BFLOAT16), "rounding": "remainder", "state": {"m": "f32", "v": "q8"}}]
    opt = fastopt.AdamW(groups, b2=0.9, state={"m": "bfloat16"})
    opt.t = 1234
    found = Cells(opt._repr_html_()).rows
    assert found == [
        ["AdamW, t = 1,234"],
        ["group", "hyperparameters", "tensors", "elements", "parameters", "bytes", "state", "bytes"],
        ["0", f"lr={rate!r}, b2=0.9", "2", "10,005", "f32/f16", "40,010", "m bf16, v f32", "60,030"],
        ["1", "lr=0.001, b2=0.9", "1", "128", "bf16", "256", "m f32, v q44, remainder", f"{128*(4 + 1 + 2) + 1:,}"],
        ["all", "", "3", "10,133", "f32/f16/bf16", "40,266", "m bf16/f32, v f32/q44, remainder", "60,927"]]
    assert "<b>" not in opt._repr_html_()
    assert Cells(fastopt.SGD(np.zeros(2))._repr_html_()).rows[2:] == [
        ["0", "lr=0.001", "1", "2", "f64", "16", "none", "0"]]


def test_help_and_signature():
    for cls in OPTIMIZERS.values():
        parameters = inspect.signature(cls).parameters
        assert list(parameters)[:2] == ["params", "lr"]
        assert {k: p.default for k, p in parameters.items() if k in cls.rule.defaults} == cls.rule.defaults
        assert all(p.kind is p.KEYWORD_ONLY for k, p in parameters.items() if k not in ("params", "lr"))
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            help(cls)
        text = out.getvalue()
        assert text.splitlines()[2].strip().startswith(f"class {cls.__name__}(fastopt.optimizer.Optimizer)")
        assert all(f"{k} : " in text for k in (*cls.rule.defaults, "params", "like", "state", "threads"))
        assert f"lr={cls.rule.defaults['lr']!r}" in text
        assert cls.__mro__[1] is fastopt.Optimizer  # made from its rule, not from another optimizer
        assert pickle.loads(pickle.dumps(cls)) is cls


def test_the_stub_is_what_the_optimizers_are():
    path = Path(fastopt.__file__).with_name("optimizers.pyi")
    text = path.read_text()
    assert text == optimizers.stub()
    command = text.splitlines()[0]
    assert command.startswith('"""Generated: python -c ') and path.name in command  # noqa: PT018
    assert Path(fastopt.__file__).with_name("py.typed").exists()


# Cost

def test_a_step_of_two_million_needs_no_memory():
    n = 2_000_000
    w, g = np.zeros(n, f32), np.ones(n, f32)
    opt = fastopt.Adam(w, lr=0.1)
    fastopt.Adam(np.zeros(1, f32)).step(np.ones(1, f32), clip_norm=1.0)  # what compiling needs is not the step's
    tracemalloc.start()
    try:
        opt.step(g, clip_norm=1.0)
        first = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        g = np.ones(n, f32)  # as a training loop makes one per step: the last one is not kept
        opt.step(g)
        del g
        kept = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert first < 4e5
    assert kept < 4e5
    assert opt.t == 2


def test_two_hundred_steps_need_no_more_memory_than_ten():
    w = [numbers(k, 50) for k in range(5)]
    opt = fastopt.Nesterov(w, lr=1e-3)
    kinds = [[numbers(k, 50) for k in range(5)], [numbers(k, 50)[::-1] for k in range(5)]]

    def steps(count):
        for k in range(count):
            opt.step(kinds[k % 2], clip_norm=1.0)
            opt.step(lambda ahead: ahead)

    steps(20)
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        steps(10)
        assert gc.collect() == 0  # nothing in circles. It empties Python's own lists of free tuples, too
        before = tracemalloc.get_traced_memory()[0]
        steps(100)
        assert gc.collect() == 0
        assert tracemalloc.get_traced_memory()[0] - before < 20_000
    finally:
        tracemalloc.stop()
        gc.enable()


def test_import_is_light():
    """Nothing that Numba does not import itself: no library of arrays or of an extra, no CUDA; nothing is compiled."""
    code = """
import sys
import numba, numba.extending, numba.core.typing, numba.core.caching
from numba.core import event
already = set(sys.modules)
with event.install_recorder("numba:compile") as compiled:
    import fastopt
new = set(sys.modules) - already
own = {name for name in new if name.partition(".")[0] == "fastopt"}
print(sorted(name for name in new - own if name.partition(".")[0] not in {"numpy", *sys.stdlib_module_names}))
print(len(compiled.buffer), len(new - own))
"""
    root = str(Path(fastopt.__file__).parents[1])
    path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                         env={**os.environ, "PYTHONPATH": path})
    foreign, counts = ran.stdout.splitlines()
    compiled, standard = map(int, counts.split())
    assert (foreign, compiled) == ("[]", 0)
    assert standard < 10


# What a reader found

def test_buffers_whose_views_are_made_on_the_fly_stay_alive():
    w, g = np.zeros(4, np.float32), array.array("f", [1.0]*4)
    opt = fastopt.SGD(w, lr=1.0)
    opt.grads = g
    opt.step()
    g.extend([0.0]*100_000)  # its memory moves
    with pytest.raises(ValueError, match=r"grads: shape \(100004,\), but params has \(4,\)"):
        opt.step()
    del g[4:]
    opt.step()
    assert np.array_equal(w, np.full(4, -2, np.float32))
    zero = np.zeros((), np.float32)
    opt = fastopt.SGD(zero, lr=1.0)
    opt.grads = np.float32(3)
    for _ in range(5):
        opt.step()
    assert zero == -15


def test_coefficients_are_matched_by_name():
    def at(t, lr=0.1, mu=0.9):
        return {"lr": lr, "mu": mu} if t == 1 else {"mu": mu, "lr": lr}

    @fastopt.rule(at)
    def changing(c, g, p):
        u = c.lr*g
        return (u,)

    w = np.zeros(3)
    opt = fastopt.optimizer(changing)(w)
    opt.step(np.ones(3))
    opt.step(np.ones(3))
    assert np.array_equal(w, np.zeros(3) - 0.1 - 0.1)


def test_a_step_within_a_step_is_refused():
    w, inner = np.zeros(2), []

    def rate(t):
        for name, change in {"step": lambda: opt.step(np.ones(2)), "t": lambda: setattr(opt, "t", 100),
                             "load_state_dict": lambda: opt.load_state_dict(saved),
                             "grads": lambda: setattr(opt, "grads", np.ones(2))}.items():
            with pytest.raises(RuntimeError, match=rf"^{name}: called within a step of the same optimizer\."):
                change()
            inner.append(t)
        return 0.5
    opt = fastopt.SGD(w, lr=rate)
    saved = opt.state_dict()
    opt.step(np.ones(2))
    assert np.array_equal(w, [-0.5, -0.5])
    assert (opt.t, inner) == (1, [1]*4)


def test_kernels_refuse_coefficients_with_gaps():
    p = np.zeros(3)
    with pytest.raises(TypingError, match="kernels"):
        njit(lambda c, g, p: kernels.sgd(c, g, p))(np.asfortranarray(np.ones((3, 5)))[0], np.ones(3), p)
    assert not p.any()


def test_memory_is_given_back_when_the_optimizer_goes():
    """Not when the garbage is collected: no reference leads back to it."""
    gc.collect()
    gc.disable()
    try:
        opt = fastopt.Nesterov(np.ones(10, np.float32))
        opt.step(opt.lookahead(), clip_norm=1.0)
        held = [weakref.ref(opt), weakref.ref(opt.state["v"])]
        del opt
        assert [x() for x in held] == [None, None]
    finally:
        gc.enable()


def test_names_are_there_when_they_are_named():
    from fastopt import fit
    from fastopt._training import fit as training
    assert fit is fastopt.fit is training.fit
    for name in fastopt.LAZY:
        assert getattr(fastopt, name).__name__ == f"fastopt.{name}"
    assert callable(fastopt.cuda_code.import_registries)
    with pytest.raises(AttributeError, match="module 'fastopt' has no attribute 'adam'"):
        _ = fastopt.adam
