"""Copies of optimizers: copy, deepcopy, pickle; and trees as anyone may use them."""
import copy
import dataclasses
import pickle
from collections import namedtuple

import numpy as np
import pytest
from conftest import assert_identical, normal, stored

import fastopt
from fastopt import trees

f32 = np.float32


@fastopt.rule(state="v", lr=0.1, mu=0.9)
def heavy(c, g, p, v):
    """v <- mu*v + g;  p <- p - lr*v"""
    v = c.mu*v + g
    u = c.lr*v
    return u, v


Own = fastopt.optimizer(heavy)


def decaying(t):
    return 0.1/t


def params(format="f32"):
    return {"a": stored(normal(1, 300), format), "b": [stored(normal(2, 7), format)]}


def gradients(t):
    return {"a": normal(t, 300).astype(f32), "b": [normal(t + 50, 7).astype(f32)]}


CASES = {
    "Adam": lambda: fastopt.Adam(params(), lr=0.05, b1=0.8),
    "schedule": lambda: fastopt.AdamW(params(), lr=decaying),
    "groups": lambda: fastopt.Momentum([{"params": params()["a"], "lr": decaying, "state": "bf16s"},
                                        {"params": params()["b"], "mask": [np.arange(7) > 2]}], seed=3),
    "own rule": lambda: Own(params()),
    "no class": lambda: fastopt.optimizer(heavy, name="Elsewhere")(params(), lr=0.2),
    "formats": lambda: fastopt.Adam(params("bf16"), rounding="stochastic", average=0.9, seed=7,
                                    state=lambda path, a: "q8" if "a" in path[6:] else {"m": "bf16"}),
    "remainder": lambda: fastopt.Adam(params("bf16"), rounding="remainder", threads=1),
    "copy": lambda: fastopt.Lion(params(), copy=params("bf16"), first={"a": 256, "b": [0]}),
    "NAdam": lambda: fastopt.NAdam(params("f64"), lr=0.05)}


@pytest.mark.parametrize("way", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))],
                         ids=["copy", "deepcopy", "pickle"])
@pytest.mark.parametrize("name", CASES)
def test_copies_go_on_alike(name, way):
    opt = CASES[name]()

    def step(one, t):
        g = gradients(t)
        if t == 2:
            g["a"] = None
        one.step([g["a"], g["b"]] if len(one.groups) > 1 else g)
    for t in range(4):
        if name == "NAdam":
            opt.groups[0]["b1"] = 0.8 + 0.02*t
        step(opt, t)
    if name == "formats" and way not in (copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match=r"Adam: the formats: it cannot be pickled \(.*Define it in a module"):
            way(opt)
        return
    before = [np.copy(x) for x in trees.flatten(opt.params)[0] if isinstance(x, np.ndarray)]
    twin = way(opt)
    assert (type(twin).__name__, twin.t, twin.counts, repr(twin)) == (type(opt).__name__, opt.t, opt.counts, repr(opt))
    assert (twin.threads, twin.seed) == (opt.threads, opt.seed)
    if way is copy.copy:
        assert twin.params is opt.params or name == "groups"
        step(opt, 5)
        after = [np.copy(x) for x in trees.flatten(opt.params)[0] if isinstance(x, np.ndarray)]
        for x, y in zip([x for x in trees.flatten(opt.params)[0] if isinstance(x, np.ndarray)], before, strict=True):
            x[...] = y
        if name == "remainder":
            return
        step(twin, 5)
        for x, y in zip([x for x in trees.flatten(twin.params)[0] if isinstance(x, np.ndarray)], after, strict=True):
            assert_identical(x, y)
        return
    for one in (opt, twin):
        step(one, 5)
        step(one, 6)
    mine, theirs = (trees.flatten([one.params, one.state])[0] for one in (opt, twin))
    for x, y in zip(mine, theirs, strict=True):
        if isinstance(x, np.ndarray):
            assert x is not y
            assert_identical(x, y)


def test_parameters_and_their_optimizer_stay_together():
    w = params()
    v, opt = pickle.loads(pickle.dumps((w, fastopt.Adam(w))))
    assert opt.params is v
    opt.step(gradients(0))
    assert not np.array_equal(v["a"], w["a"])


def test_what_has_no_name_is_refused_with_its_path():
    @fastopt.rule(lr=0.1)
    def local(c, g, p):
        return (c.lr*g,)
    for make, message in (
            (lambda: fastopt.Adam(params(), lr=lambda t: 0.1), r"Adam\['lr'\]: it cannot be pickled"),
            (lambda: fastopt.Adam([{"params": params(), "lr": lambda t: 0.1}]), r"params\[0\]\['lr'\]: it cannot"),
            (lambda: fastopt.optimizer(local)(params()), "Local: its class: it cannot be pickled")):
        opt = make()
        with pytest.raises(TypeError, match=message):
            pickle.dumps(opt)
        copy.deepcopy(opt).step(gradients(0) if len(opt.groups) == 1 and not isinstance(opt.params, list)
                                else [gradients(0)])


# Trees

Pair = namedtuple("Pair", "x y")


@dataclasses.dataclass
class Layer:
    w: object
    b: object


def test_trees():
    tree = {"a": [1, (2, Pair(3, None))], "layer": Layer(4, {"c": 5})}
    leaves, structure = trees.flatten(tree)
    assert leaves == [1, 2, 3, None, 4, 5]
    assert trees.unflatten(structure, leaves) == tree
    assert trees.map(lambda x: x, tree) == tree
    assert trees.map(lambda x, y: (x, y), {"a": 1, "b": 2}, {"b": 4, "a": 3}) == {"a": (1, 3), "b": (2, 4)}
    assert trees.paths(tree) == ["params['a'][0]", "params['a'][1][0]", "params['a'][1][1][0]", "params['a'][1][1][1]",
                                 "params['layer'].w", "params['layer'].b['c']"]
    for wrong in (leaves[:-1], [*leaves, 6]):
        with pytest.raises(ValueError, match=r"unflatten: too (few|many) leaves"):
            trees.unflatten(structure, wrong)
    with pytest.raises(ValueError, match="tree 2: "):
        trees.map(lambda x, y: x, [1], [1, 2])


@pytest.mark.parametrize("library", ["jax", "optree"])
def test_registered_classes_are_trees(library):
    module = pytest.importorskip(library)

    class Net:
        def __init__(self, w, b, name):
            self.w, self.b, self.name = w, b, name
    if library == "jax":
        module.tree_util.register_pytree_node(Net, lambda x: ((x.w, x.b), x.name), lambda name, of: Net(*of, name))
    else:
        module.register_pytree_node(Net, lambda x: ((x.w, x.b), x.name), lambda name, of: Net(*of, name),
                                    namespace=module.registry.__dict__["__GLOBAL_NAMESPACE"])
    net = Net(np.ones(3, f32), {"b": np.ones(2, f32)}, "first")
    opt = fastopt.SGD([net], lr=1.0)
    opt.step([Net(np.full(3, 0.25, f32), {"b": np.full(2, 0.5, f32)}, "any")])
    assert net.w.tolist() == [0.75]*3
    assert net.b["b"].tolist() == [0.5]*2
    assert opt.grads[0].name == "first"
    assert len(trees.paths(net)) == 2
    with pytest.raises(TypeError, match=r"grads\[0\]: found list, but params has a Net there"):
        opt.step([[net.w, net.b]])
