"""The cure that an error message names works and loses nothing: each is executed, and no message is left out."""
import array
import copy
import ctypes
import re
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.lib.recfunctions
import pytest
import scipy.sparse
from conftest import BFLOAT16, assert_identical
from cures import MODULES, OTHERS, alike, check, lines, raises, same, values

import fastopt
from fastopt import SGD, init, networks, optimizers, storage, trees
from fastopt import schedules as s

f32, f64 = np.float32, np.float64
NUMBERS = np.array([1.5, -2.0, 3.25])
COMPLEX = np.array([[1 + 2j, 3 - 1j, 0.5j], [4 + 0.25j, -5 - 2j, 6]])
EXPRESSION = re.compile(r"(list\(x\.parameters\(\)\)|(?:numpy|torch)\.\S.*\)|x\.\S+\(.*\)|x\.T\.view\(.*\)|x\.data|"
                        r"list\(x\)|dict\(x\))")


BETA = pytest.mark.filterwarnings("ignore:Sparse:UserWarning", "ignore:torch.quantize:UserWarning",
                                  "ignore:torch.ao:DeprecationWarning", "ignore:ComplexHalf:UserWarning")


def ragged():
    x = np.empty(2, object)
    x[:] = [np.ones(2), np.ones(3)]
    return x


def structured():
    return np.array([(1.5, -2.0, 3.25)], "f4,f4,f8")


def generator():
    yield from (np.array([1.5, -2.0]), np.array([3.25]))


class Arrays:
    """What `__array__` alone tells, as pandas, xarray and polars have it."""

    def __init__(self, values):
        self.values = np.asarray(values)

    def __array__(self, dtype=None, copy=None):
        return self.values.copy() if copy else self.values


# Gradients and parameters that are no arrays of floats: what is given, and the numbers that it holds
OBJECTS = {
    "int": (lambda: np.array([1, -2, 3]), [1, -2, 3]), "int64": (lambda: np.array([2**53 - 1]), [2**53 - 1]),
    "bool": (lambda: np.array([True, False]), [1, 0]), "longdouble": (lambda: NUMBERS.astype(np.longdouble), NUMBERS),
    "object": (lambda: NUMBERS.astype(object), NUMBERS), "text": (lambda: np.array(["1.5", "-2"]), [1.5, -2]),
    "big-endian": (lambda: NUMBERS.astype(">f8"), NUMBERS),
    "big-endian float32": (lambda: NUMBERS.astype(">f4"), NUMBERS),
    "big-endian int": (lambda: np.array([1, -2], ">i4"), [1, -2]), "ragged": (ragged, [1]*5),
    "big-endian complex": (lambda: COMPLEX.astype(">c16"), COMPLEX),
    "big-endian complex64": (lambda: COMPLEX.astype(">c8"), COMPLEX),
    "long complex": (lambda: COMPLEX.astype(np.clongdouble), COMPLEX), "structured": (structured, [1.5, -2.0, 3.25]),
    "masked": (lambda: np.ma.array(NUMBERS.copy(), mask=[0, 1, 0]), NUMBERS),
    "bytes": (lambda: NUMBERS.astype(f32).tobytes(), NUMBERS),
    "bytearray": (lambda: bytearray(NUMBERS.astype(f32)), NUMBERS),
    "memory": (lambda: memoryview(NUMBERS.astype(f32).tobytes()), NUMBERS),
    "array of ints": (lambda: array.array("i", [1, -2]), [1, -2]),
    "ctypes ints": (lambda: (ctypes.c_int*2)(1, -2), [1, -2]), "range": (lambda: range(3), [0, 1, 2]),
    "generator": (generator, NUMBERS), "values": (lambda: {"a": NUMBERS.copy()}.values(), NUMBERS),
    "items": (lambda: {"a": NUMBERS.copy()}.items(), NUMBERS),
    "map": (lambda: map(np.array, [[1.5], [-2.0]]), [1.5, -2]),
    "csr": (lambda: scipy.sparse.csr_array(np.diag(NUMBERS)), np.diag(NUMBERS)),
    "coo matrix": (lambda: scipy.sparse.coo_matrix(np.diag(NUMBERS)), np.diag(NUMBERS)),
    "__array__ of ints": (lambda: Arrays([1, -2]), [1, -2]), "__array__ of complex": (lambda: Arrays(COMPLEX), COMPLEX)}
PARAMETERS = {  # these are gradients as they are
    "float": (lambda: 1.5, 1.5), "complex": (lambda: 1 + 2j, 1 + 2j), "number": (lambda: f32(1.5), 1.5),
    "integer": (lambda: 2, 2),
    "__array__": (lambda: Arrays(NUMBERS), NUMBERS), "read-only": (lambda: np.broadcast_to(f32(2), 3), [2, 2, 2])}


def torch_objects():
    torch = pytest.importorskip("torch")
    z = torch.tensor(COMPLEX)
    return {"sparse": (lambda: torch.eye(3).to_sparse(), np.eye(3)),
            "csr": (lambda: torch.eye(3).to_sparse_csr(), np.eye(3)),
            "quantized": (lambda: torch.quantize_per_tensor(torch.tensor([1.5, -2.0]), 0.5, 0, torch.qint8), [1.5, -2]),
            "float8": (lambda: torch.tensor([1.5, -2]).to(torch.float8_e4m3fn), [1.5, -2]),
            "int": (lambda: torch.tensor([1, -2]), [1, -2]), "int64": (lambda: torch.tensor([2**53 - 1]), [2**53 - 1]),
            "complex32": (lambda: z.to(torch.complex32), COMPLEX),
            "conjugate": (lambda: z.clone().conj(), COMPLEX.conj()),
            "negative": (lambda: z.clone().conj().imag, -COMPLEX.imag),
            "complex that needs a gradient": (lambda: z.clone().requires_grad_(), COMPLEX),
            "meta": (lambda: torch.ones(2, device="meta"), [0, 0]),
            "module": (lambda: filled(torch.nn.Linear(2, 1)), [1.5]*3)}


def filled(module):
    for p in module.parameters():
        p.data.fill_(1.5)
    return module


def cured(call, x, left=4):
    """What the cures of the messages make of x, until the call takes it: (the object, what the call returned)."""
    try:
        return x, call(x)
    except (TypeError, ValueError) as error:
        message = str(error)
    found = EXPRESSION.findall(message.rpartition("needed")[2].rpartition("updated in place. ")[2])
    assert found, message
    assert left, message
    names = {"x": x, "numpy": np, "torch": sys.modules.get("torch")}
    return cured(call, eval(found[0], names), left - 1)


def flat(tree):
    """The numbers of a tree in float64, complex ones in pairs."""
    leaves = []
    trees.structure(tree, "", leaves)
    parts = [np.asarray(leaf.detach() if hasattr(leaf, "detach") else leaf) for _, leaf in leaves]
    return np.concatenate([np.ravel(a).astype(complex).view(f64) if a.dtype.kind == "c" else np.ravel(a).astype(f64)
                           for a in parts])


@BETA
@pytest.mark.parametrize("library", ["NumPy", "torch"])
def test_parameters(library):
    for name, (make, numbers) in ({**OBJECTS, **PARAMETERS} if library == "NumPy" else torch_objects()).items():
        x, opt = cured(lambda x: SGD(x, lr=1.0), make())
        want = flat(np.asarray(numbers))
        assert np.array_equal(flat(x), want), name
        opt.step(copy.deepcopy(x))
        assert not flat(x).any(), name  # updated in place: no copy was


@BETA
@pytest.mark.parametrize("library", ["NumPy", "torch"])
def test_gradients(library):
    for name, (make, numbers) in (OBJECTS if library == "NumPy" else torch_objects()).items():
        if name in ("ragged", "generator", "items", "map", "values", "module"):
            continue  # they are several arrays: their structure is that of the parameters
        want = np.asarray(numbers)
        w = np.zeros((1, 3) if name == "structured" else want.shape, complex if want.dtype.kind == "c" else float)
        cured(lambda x, w=w: SGD(w, lr=1.0).step(x), make())
        assert np.array_equal(flat(-w), flat(want)), name


def test_gradients_that_need_no_cure():
    for w, g in ((np.array(1.0), 2.5), (np.array(1.0, f32), 2), (np.array(1.0), f32(2.5)),
                 (np.ones(3), Arrays(NUMBERS)), (np.ones(3, f32), Arrays(NUMBERS.astype(f32))),
                 (np.ones(3), array.array("d", NUMBERS)), (np.ones(3), memoryview(NUMBERS))):
        want = w - np.asarray(g, w.dtype)
        opt = SGD({"w": w}, lr=1.0)
        for _ in range(2):  # bound, and bound again
            opt.step({"w": g})
        assert_identical(w, (want - np.asarray(g, w.dtype)).astype(w.dtype).reshape(w.shape))
    with pytest.raises(ValueError, match="read-only, but zero_grads=True would set it to zero"):
        SGD(np.array(1.0)).step(2.5, zero_grads=True)


def test_gradients_of_pandas():
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame(np.eye(3), columns=list("abc"))
    g = table.T @ np.full(3, -1.0)
    for given, want in ((g, [1]*3), (table, -np.eye(3))):
        w = np.zeros(np.shape(want))
        SGD(w, lr=1.0).step(given)
        assert np.array_equal(w, want)
    x, opt = cured(lambda x: SGD(x, lr=1.0), g)
    opt.step(np.array(g))
    assert (x.tolist(), g.tolist()) == ([0]*3, [-1]*3)
    for kind in ("int64", "object", "Float64"):
        w = np.zeros(3)
        cured(lambda x, w=w: SGD(w, lr=1.0).step(x), pandas.Series([1, 2, 3], dtype=kind))
        assert w.tolist() == [-1, -2, -3]


def test_no_cure_is_named_that_would_lose_numbers():
    for x in (np.array([1.0, None]), np.array(["a"]), np.array([0], "M8[D]"), np.zeros(2, "f4,U3"), "text", object(),
              [1.0, None]):
        with pytest.raises(TypeError) as error:
            SGD(np.zeros(2)).step(x)
        assert not EXPRESSION.search(str(error.value).rpartition("needed")[2]), x


# Calls that are refused

class Lying(dict):
    def __contains__(self, key):
        return True

    def __len__(self):
        return 2


class Device:
    __cuda_array_interface__ = {"shape": (3,), "typestr": "<f8", "data": (0, False), "version": 3}  # noqa: RUF012


@dataclass
class Pair:
    a: np.ndarray


class Long(list):
    def __len__(self):
        return 1

    def __iter__(self):
        return iter([*super().__iter__(), np.ones(6)])


class Moving(array.array):
    """A buffer that may say it lies on a device."""


def sgd(**more):
    return SGD(np.ones(3), **more)


def adagrad(**more):
    return fastopt.AdaGrad(np.ones(3), **more)


def two():
    return fastopt.Adam({"a": np.ones(3), "b": np.ones((3, 4))})


def step(**other):
    """Of two parameters; the gradients are right but for those that are given."""
    two().step({"a": np.ones(3), "b": np.ones((3, 4)), **other})


def buffers(a):
    two().grads = {"a": a, "b": np.ones((3, 4))}


def registered(gradients):
    """A step of an object of a class that JAX knows."""
    jax = pytest.importorskip("jax")

    class Net:
        def __init__(self, *arrays):
            self.arrays = arrays
    jax.tree_util.register_pytree_node(Net, lambda net: (net.arrays, None), lambda _, arrays: Net(*arrays))
    opt = SGD(Net(np.ones(3), np.ones(2)))
    opt.step(Net(np.ones(3), np.ones(2), np.ones(1)) if gradients == "more" else
             Net(np.ones(3), np.ones(2)) if gradients == "alike" else gradients)


def coming(copied=None, of=None):
    """Parameters that are added to an optimizer with a copy of its own, or without."""
    opt = SGD([np.ones(2)], copy=None if of is None else [np.ones(2)])
    opt.add([np.ones(3)], copy=None if copied is None else [np.ones(3)])


def stepped(**how):
    SGD(np.ones(6)).step(np.ones(6), **how)


def given(m, format=None, size=6):
    fastopt.Momentum(np.ones(size), state={"v": m if format is None else (format, m)})


def codes(dtype=np.uint8, count=129, step=1):
    return np.zeros(count*step, dtype)[::step]


def one(gradients=None, of=list):
    """A step of a tree of one array."""
    SGD(of([np.ones(6)]) if of is list else of(np.ones(6))).step([np.ones(6)] if gradients is None else gradients)


def near(gradient, w=None, **how):
    """A step with a gradient that may lie where the parameter does."""
    SGD(np.ones(3) if w is None else w).step(gradient, **how)


def reentrant(again=True):
    o = sgd(lr=lambda t: 0.1 if not again else o.step(np.ones(3)))
    o.step(np.ones(3))


def params(**other):
    return {**networks.initial([2, 3, 1], 0), **other}


def loss(x=None, y=None, p=None, loss="squared", weights=None):
    x = np.ones((4, 2)) if x is None else x
    return networks.value_and_grad(params() if p is None else p, x, np.ones((4, 1)) if y is None else y, loss, "relu",
                                   0.0, weights)


def decoded(format, shape=(6,), array=None):
    return storage.decode(storage.encode(w64, format) if array is None else array, format, shape)


def plateau(value=None, state=None, **how):
    of = s.ReduceOnPlateau(1.0, **how)
    of.load_state_dict(of.state_dict() if state is None else state)
    of.observe(1.0 if value is None else value)


def put(name, value):
    setattr(sgd(), name, value)


def on_device(moved=True):
    w = Moving("d", [0.0, 0.0])
    of = SGD(w, lr=1.0)
    w.__cuda_array_interface__ = {"shape": (2,), "typestr": "<f8", "data": (4096, False), "version": 2}
    if not moved:
        del w.__cuda_array_interface__
    of.step(np.ones(2))
    assert w.tolist() == [-1, -1]


def resized(left):
    g = pytest.importorskip("torch").ones(3)
    g.untyped_storage().resize_(left)
    return SGD(np.ones(3)).step(g)


def frozen(data=True):
    torch = pytest.importorskip("torch")
    w = torch.nn.Parameter(torch.ones(3), requires_grad=False)
    SGD(w.data if data else w, lr=1.0).step(np.ones(3, f32))
    assert not w.any()


def ranged(text):
    return fastopt.rule(lr=0.1, ranges={"lr": text})(lambda c, g, p: (c.lr*g,))


def without_field():
    found = Pair(w64)
    del found.a
    return found


def counted(t):
    opt = sgd(lr=1.0)
    opt.t = t
    opt.step(np.ones(3))
    assert not opt.params.any()


def homeless(again=False):
    base = np.ones(10_000)
    gradient = base[9_000:9_003]
    base.resize(5, refcheck=False)
    w = np.ones(3)
    SGD(w, lr=1.0).step(base[:3] if again else gradient)
    same(w, np.zeros(3))


# A parameter that becomes another array after a step

def spoiled(spoil, cure, shape):
    """With the cure of the message the next step is a twin's."""
    base, other = np.zeros(60), fastopt.Momentum(np.zeros(shape), lr=1.0)
    w = base[:6].reshape(shape)
    opt = fastopt.Momentum(w, lr=1.0)
    for o in (opt, other):
        o.step(np.ones(shape))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        spoil(w, base)
        opt = cure(w, opt) or opt
    for o in (opt, other):
        o.step(np.full(shape, 2.0))
    same(opt.params, other.params)
    same(opt.state, other.state)


def moved(spoil, *cures, shape=(6,)):
    """A case: what is done to the parameter, and the cures of the message."""
    return (lambda: spoiled(spoil, lambda *_: None, shape)), lambda: [spoiled(spoil, cure, shape) for cure in cures]


def change(name, value):
    return lambda w, *_: setattr(w.flags if name == "writeable" else w, name, value)


def anew(w, old):
    opt = fastopt.Momentum(w, lr=1.0)
    opt.load_state_dict(old.state_dict(), convert=True)
    return opt


MOVED = [moved(change("dtype", f32), change("dtype", f64)), moved(change("shape", (2, 3)), change("shape", (6,))),
         moved(change("writeable", False), change("writeable", True), lambda w, opt: anew(w.copy(), opt)),
         moved(change("strides", (8, 24)), change("strides", (16, 8)), anew, shape=(3, 2)),
         moved(lambda w, base: base.resize(5, refcheck=False), lambda w, opt: anew(np.full(60, -1.0)[20:26], opt))]

w64, OVER, FIXED, LABELS = np.ones(6), np.ones(6), np.ones(3), np.zeros(4, int)
FIXED.flags.writeable = False
TREES = [
    (homeless, lambda: homeless(True)), *alike(step, lambda: step(c=1), lambda: two().step([1]), lambda: step(
        a=np.ones(4)), lambda: two().step(Lying(a=1))), (lambda: buffers(None), lambda: buffers(np.zeros(3))),
    *alike(one, lambda: one(iter([w64])), lambda: one([]), lambda: one(Long([w64]))),
    *alike(lambda: one(Pair(w64), Pair), lambda: one([w64], Pair), lambda: one(without_field(), Pair)),
    (lambda: SGD({"a": None, "b": w64}), lambda: SGD({"b": w64})),
    *alike(lambda: registered("alike"), lambda: registered("more"), lambda: registered([np.ones(3), np.ones(2)])),
    *alike(lambda: trees.unflatten(trees.flatten([1, 2])[1], [3, 4]),
           lambda: trees.unflatten(trees.flatten([1, 2])[1], [3]),
           lambda: trees.unflatten(trees.flatten([1, 2])[1], [3, 4, 5])),
    *alike(lambda: two().remove("params['a']"), lambda: two().remove("params['c']"), lambda: two().remove("params")),
    (lambda: SGD([Pair(np.ones(2)), np.ones(3)]).remove("params[0].a"),
     lambda: SGD([Pair(np.ones(2)), np.ones(3)]).remove("params[0]")),
    *alike(lambda: (coming(), coming(1, 1)), lambda: coming(1), lambda: coming(None, 1)),
    *alike(lambda: (stepped(clip_norm=1.0, clip="tensor"), stepped()), lambda: stepped(clip="tensor"),
           lambda: stepped(clip_norm=1.0, clip="tensor", norm=1.0)),
    (lambda: sgd().norm(), lambda: SGD(np.ones(6)).norm(np.ones(6))),
    *alike(lambda: (stepped(), stepped(norm=1.0, clip_norm=1.0)), lambda: stepped(norm=1.0),
           lambda: stepped(norm=-1.0, clip_norm=1.0)),
    *alike(lambda: fastopt.Adam(w64, first=256, state="q8"), lambda: fastopt.Adam(w64, first=-1),
           lambda: fastopt.Adam(w64, first=3, state="q8")),
    *alike(lambda: (given(np.zeros(6)), given(codes(), "q8"), given(np.zeros(6, np.uint16), "bf16s")),
           lambda: given(np.zeros(6), "bf16"), lambda: given(np.zeros(6), "q8"), lambda: given(codes(step=2), "q8")),
    (lambda: SGD(w64, copy=np.ones((2, 3)).T), lambda: SGD(w64, copy=np.ones(6))),
    (lambda: SGD(w64, copy=w64.astype(complex)), lambda: SGD(w64, copy=np.empty_like(w64))),
    (lambda: near(FIXED.astype(complex)), lambda: near(FIXED.astype(complex).real)),
    (lambda: near(FIXED, FIXED*1j), lambda: near(FIXED + 0j, FIXED*1j)),
    (lambda: SGD(np.ones((2, 3)), copy=np.ones((3, 2)).T),
     lambda: SGD(np.ones((2, 3)), copy=np.empty_like(np.ones((2, 3))))),
    (lambda: near(OVER[1:4], OVER[:3]), lambda: near(np.array(OVER[1:4]), OVER[:3])),
    (lambda: near(w64, w64, zero_grads=True), lambda: near(np.array(w64), w64, zero_grads=True)),
    (lambda: SGD([OVER, OVER[3:]]), lambda: SGD([OVER, OVER[3:].copy()])),
    (lambda: SGD(OVER[::2]), lambda: (SGD(OVER), SGD(OVER[::2].copy()))),
    (lambda: near(OVER[::2], zero_grads=True), lambda: (near(OVER[::2].copy(), zero_grads=True), near(OVER[::2]))),
    (lambda: near(FIXED, zero_grads=True), lambda: (near(FIXED.copy(), zero_grads=True), near(FIXED))),
    (lambda: near(Device()), lambda: near(w64[:3])), (on_device, lambda: on_device(False)),
    (lambda: near(FIXED, mask=np.ones(2)), lambda: near(FIXED, mask=np.ones(1))),
    (lambda: near(FIXED, mask=np.arange(3)), lambda: near(FIXED, mask=np.arange(3) != 0)),
    (lambda: near(lambda w: None), lambda: near(lambda w: w.copy())), (lambda: sgd().step(), lambda: near(sgd().grads)),
    (lambda: SGD([{"params": w64}, {"params": []}]), lambda: SGD([{"params": w64}])),
    (lambda: frozen(False), frozen), (lambda: resized(8), lambda: resized(12))]
OPTIMIZERS = [
    *values(sgd, lr=("x", 0.1), decay=("x", "coupled"), threads=(0, None), rounding=("x", "nearest"), seed=(-1, 0),
            like=("x", "torch"), grokfast=(0.98, (0.98, 2.0))),
    (lambda: sgd(adaptive_clip=0.1, trust_ratio="gradient"), lambda: sgd(adaptive_clip=0.1)),
    (lambda: sgd(mars=0.1), lambda: fastopt.AdamW(np.ones(3), mars=0.1)),
    (lambda: sgd(schedule_free=True, average=0.9), lambda: (sgd(schedule_free=True), sgd(average=0.9))),
    (lambda: fastopt.NAdam(np.ones(3), schedule_free=True),
     lambda: [cls(np.ones(3), schedule_free=True) for cls in (fastopt.SGD, fastopt.AdamW)]),
    (lambda: fastopt.Adam(np.ones(3), b1=0.9, schedule_free=True), lambda: fastopt.Adam(np.ones(3), schedule_free=0.9)),
    (lambda: fastopt.Adam(np.ones(3), mars=0.025, schedule_free=True), lambda: fastopt.Adam(np.ones(3), mars=0.025)),
    (lambda: sgd().evaluation_point(), lambda: sgd(schedule_free=True).evaluation_point()),
    (lambda: sgd(cautious_decay=True), lambda: sgd(cautious_decay=True, decay="decoupled")),
    *alike(sgd, lambda: sgd(capturable="x"), lambda: sgd(capturable=2**31), lambda: sgd(capturable=9)),
    (lambda: fastopt.Adam(FIXED, betas=1), lambda: fastopt.Adam(np.ones(3), b1=0.9, b2=0.99)),
    *alike(lambda: sgd(lr=1), lambda: sgd(lrate=1), lambda: sgd(betas=1)),
    (lambda: sgd().groups[0].__delitem__("lr"), lambda: sgd().groups[0].__setitem__("lr", 0.5)),
    (lambda: fastopt.optimizer(max), lambda: fastopt.optimizer(fastopt.rules.sgd)),
    (lambda: fastopt.Optimizer(w64), lambda: (fastopt.Adam(w64), fastopt.optimizer(fastopt.rules.adam)(w64))),
    (reentrant, lambda: reentrant(False)), (lambda: sgd().lookahead(), lambda: fastopt.Nesterov(FIXED+0).lookahead()),
    (lambda: put("t", -1), lambda: put("t", 1)), (lambda: put("seed", 1), lambda: sgd(seed=1)),
    (lambda: put("lr", 1), lambda: sgd().groups[0].update(lr=1)),
    (lambda: two().decoded("x"), lambda: [two().decoded(name) for name in ("m", "v", "params")]),
    (lambda: SGD(np.ones(3, np.float16), rounding="remainder"),
     lambda: (SGD(np.ones(3, np.float16), rounding="stochastic"), SGD(np.ones(3, BFLOAT16), rounding="remainder"))),
    *alike(lambda: [adagrad(state=name) for name in ("f32", "q8")], lambda: adagrad(state=1),
           lambda: adagrad(state="x"), lambda: adagrad(state={"x": "f32"}), lambda: adagrad(state="q43")),
    (lambda: storage.encode(w64, "x"), lambda: storage.encode(w64, "q43")),
    (lambda: decoded("bf16", array=np.ones(3, int)), lambda: decoded("bf16")),
    *alike(lambda: decoded("q43"), lambda: decoded("q43", None), lambda: decoded("q43", array=np.zeros(3, np.uint8))),
    (lambda: fastopt.Lion(w64, like="torch"), lambda: fastopt.Lion(w64, lr=1e-4, b1=0.9)),
    (lambda: optimizers.chosen("x", "here", "rule"), lambda: optimizers.chosen(fastopt.rules.adam, "here", "rule")),
    (lambda: counted(2**62), lambda: counted(5)),
    (lambda: ranged("0 to 1"), lambda: [ranged(text) for text in ("[0, 1)", "(0, inf)")])]
NUMBERS_OF = [
    *alike(lambda: s.constant(1.0), lambda: s.constant("x"), lambda: s.constant(np.nan), s.constant),
    (lambda: s.exponential(1.0, 1e300)(9), lambda: (s.exponential(1.0, 1.0)(9), s.exponential(1.0, 1e300)(2))),
    (lambda: s.cosine(1.0, 3, warmup=5), lambda: (s.cosine(1.0, 3, warmup=1), s.cosine(1.0, 9, warmup=5))),
    *values(lambda **how: s.one_cycle(1.0, 5, **how), warmup_fraction=(1.0, 0.4)),
    (lambda: s.one_cycle(1.0, 5, 0.6, three_phase=True), lambda: s.one_cycle(1.0, 5, 0.5, three_phase=True)),
    (lambda: s.join([1.0, 2.0, 3.0], [4]), lambda: s.join([1.0, 2.0, 3.0], [4, 5])),
    (lambda: s.piecewise([1.0, 2.0], [4, 5]), lambda: s.piecewise([1.0, 2.0], [4])),
    (lambda: s.cyclical(0.1, 1.0, 4, "triangular2", scale_fn=np.cos),
     lambda: (s.cyclical(0.1, 1.0, 4, scale_fn=np.cos), s.cyclical(0.1, 1.0, 4, "triangular2"))),
    (lambda: s.cyclical(0.1, 1.0, 4, gamma=0.5),
     lambda: (s.cyclical(0.1, 1.0, 4, gamma=0.5, mode="exp_range"), s.cyclical(0.1, 1.0, 4))),
    (lambda: plateau(threshold=2.0), lambda: (plateau(threshold=0.5), plateau(threshold=2.0, threshold_mode="abs"))),
    *values(plateau, factor=(1.0, 0.1), min_lr=(2.0, 0.5), state=({}, None), value=([1], 1.0)),
    *alike(lambda: init.fans((5, 1)), lambda: init.fans(5), lambda: init.fans((5,))),
    *values(lambda **how: init.he_normal((2, 3), **{"rng": 0, **how}), rng=("x", np.random.default_rng(0)),
            dtype=(int, f32)),
    *alike(loss, lambda: loss(y=np.ones((4, 2))), lambda: loss(x=np.ones((4, 3))), lambda: loss(y=np.ones((3, 1))),
           lambda: loss(p={"W": np.ones((2, 1))}), lambda: loss(p=params(W1=np.ones((2, 3), int))),
           lambda: loss(p=params(b1=np.ones(2, f32)))),
    *alike(lambda: loss(y=LABELS, loss="softmax"), lambda: loss(y=np.ones((4, 1)), loss="softmax"),
           lambda: loss(y=np.arange(4), loss="softmax")),
    *values(lambda y: loss(y=y, loss="logistic"), y=(np.arange(4), np.array([0, 1, 1, 0]))),
    *values(lambda sizes: networks.initial(sizes, 0), sizes=([2], (2, 3, 1))),
    *values(loss, weights=(np.zeros(4), np.ones(4))),
    (lambda: loss(p=params(b1=np.zeros(3))),
     lambda: loss(p={k: a.astype(f64) for k, a in params(b1=np.zeros(3)).items()}))]
# Tested with CUDA arrays, above, and by `fit`
ELSEWHERE = ("check_one_place", "_jax", "accumulate", "_go_on")


@BETA
def test_what_the_messages_say_to_do_works():
    seen = set()
    for make, _ in [*OBJECTS.values(), *PARAMETERS.values(), *torch_objects().values()]:
        x = make()
        seen |= lines(lambda x=x: SGD(x)) | lines(lambda x=x: SGD([np.zeros(1)]).step([x]))
    seen |= lines(lambda: SGD(pytest.importorskip("jax").numpy.ones(3)))
    check([*TREES, *OPTIMIZERS, *NUMBERS_OF, *MOVED], "arguments", ELSEWHERE, seen)


def test_every_module_is_looked_at():
    known = {*OTHERS, *(name for names in MODULES.values() for name in names)}
    home = Path(fastopt.__file__).parent
    found = {".".join(path.relative_to(home).with_suffix("").parts) for path in home.rglob("*.py")
             if raises(path.read_text(encoding="utf-8"))}
    assert found == known
