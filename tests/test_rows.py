"""Gradients of some rows of a table: these get the bits of a step with the whole gradient, all others keep theirs."""
import copy
import pickle
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import BFLOAT16, OPTIMIZERS, OWN, SHARED, assert_identical, normal, stored
from cures import alike, check
from reference import MIXES, made
from test_floating_mode import MODES, in_mode

import fastopt
from fastopt import Rows

f16, f32, f64 = np.float16, np.float32, np.float64
N = 23
SPARSE = pytest.mark.filterwarnings("ignore:Sparse:UserWarning")  # torch's, of a check that is off


def draw(seed, count, *row, n=N):
    """Rows, of which some stand there several times, and the gradient of each."""
    return np.random.default_rng(seed).integers(0, n, count), normal(seed, count, *row)


def whole(indices, values, shape, kind=f32):
    """The gradient that is meant: rows are added in their order."""
    g, seen = np.zeros(shape, kind), set()
    for k, value in zip(indices, values, strict=True):
        g[k] = g[k] + value if k in seen else value
        seen.add(k)
    return g


def hit(indices, shape):
    mask = np.zeros(shape[:1], bool)
    mask[indices] = True
    return mask.reshape(-1, *[1]*(len(shape) - 1))


def parts(opt):
    """Parameters, remainders, and the numbers of states: blocks of zeros may be stored in two ways."""
    machine = opt._backend
    states = (x for name in machine.states for x in machine.numbers(name))
    return [*(t.array for t in opt._tensors), *machine.remainders, *states]


def same(opt, other, what=""):
    for k, (x, y) in enumerate(zip(parts(opt), parts(other), strict=True)):
        assert_identical(x, y, f"{what} {k}")


# A step of rows

@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("mix", MIXES)
@pytest.mark.sampled("name", "mix")
def test_bits_of_a_step(name, mix):
    """Those of a step with the whole gradient whose mask is true in these rows: parameters and states, random bits too.
    Of two tables; rows of 128 numbers are blocks of eight bits. Codes that a mask keeps may become others of a block
    that has a new largest number, so rows are whole blocks."""
    shapes, format = [(N, 128), (N + 40, 256)], MIXES[mix][0]
    # each set of pieces is a kernel, with a mask and without: two sets
    scaled = {"grad_factor": 0.5, "clip_value": 0.8}, {"grad_factor": -3.0, "clip_value": 2.0, "skip_nonfinite": True}
    for hyper, options in (({**OWN[name][0], **SHARED[1]}, ({}, {"skip_nonfinite": True})),
                           ({**OWN[name][-1], **SHARED[0], "maximize": True}, scaled)):
        opt, twin = (made(name, [stored(normal(k, *shape), format) for k, shape in enumerate(shapes)], mix, seed=5,
                          **hyper) for _ in range(2))
        kind = f64 if format == "f64" else f32
        for t, how in enumerate(2*options):
            drawn = [draw(10*t + k, 9*k + 7, *shape[1:], n=shape[0]) for k, shape in enumerate(shapes)]
            given = [(indices, values.astype(kind)) for indices, values in drawn]
            opt.step([Rows(*of) for of in given], **how)
            twin.step([whole(*of, shape, kind) for of, shape in zip(given, shapes, strict=True)], **how,
                      mask=[hit(indices, shape) for (indices, _), shape in zip(given, shapes, strict=True)])
            same(opt, twin, f"{name} {mix} {t}")
        assert opt.t == 4


@pytest.mark.parametrize("clip_norm", [None, 0.5])
def test_the_norm_is_that_of_the_rows(clip_norm):
    """A walk on the same rows is one on the table of these rows alone, norm and clipping included."""
    table, sub = normal(0, N, 7).astype(f32), np.array([3, 4, 5, 11, 20])
    part, order = table[sub].copy(), [2, 0, 4, 1, 3]
    before = table.copy()
    opt, twin = (fastopt.AdamW(w, lr=0.1, weight_decay=0.2) for w in (table, part))
    for t in range(4):
        g = normal(t, 5, 7).astype(f32)
        opt.step(Rows(sub[order], g[order]), clip_norm=clip_norm, skip_nonfinite=True)
        twin.step(g, clip_norm=clip_norm, skip_nonfinite=True)
        assert opt.grad_norm == twin.grad_norm
    assert_identical(table[sub], part)
    for name in opt.state:
        assert_identical(opt.state[name][sub], twin.state[name])
    others = np.setdiff1d(np.arange(N), sub)
    assert_identical(table[others], before[others])
    assert not any(state[others].any() for state in opt.state.values())


@pytest.mark.parametrize(("shape", "order"), [
    ((N,), "C"), ((N, 1), "F"), ((N, 3, 5), "C"), ((N, 3, 5), (0, 2, 1)), ((N, 1, 4, 2), (0, 3, 1, 2)), ((1, 6), "C"),
    ((1, 6, 4), "F"), ((N, 0), "C"), ((N, 5), "read"), ((2000, 64), "C"), ((3, 30_000), "C")], ids=str)
@pytest.mark.parametrize("dense", [False, True])
def test_shapes_and_memory_orders(shape, order, dense):
    """Few rows, or each of them; long runs of rows, and long rows, are many tiles."""
    base = normal(0, *shape)
    if isinstance(order, tuple):
        base = np.ascontiguousarray(base.transpose(order)).transpose(np.argsort(order))
    elif order == "F":
        base = np.asfortranarray(base)
    opt, twin = (fastopt.Adam(base.copy(order="K"), lr=0.1, threads=2) for _ in range(2))
    for t in range(3):
        indices = np.random.default_rng(t).permutation(shape[0])[:None if dense else 1 + shape[0]//3]
        values = normal(t, len(indices), *shape[1:])
        if order == "read":
            values.flags.writeable = indices.flags.writeable = False
        opt.step(Rows(indices, values))
        twin.step(whole(indices, values, shape, f64), mask=hit(indices, shape))
        same(opt, twin)


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.uint64, ">i4", list])
def test_kinds_of_indices(kind):
    w = np.zeros((N, 2))
    indices = [4, 0, 22] if kind is list else np.array([4, 0, 22], kind)
    fastopt.SGD(w, lr=1.0).step(Rows(indices, np.arange(-6.0, 0).reshape(3, 2)))
    assert w[[4, 0, 22]].tolist() == [[6, 5], [4, 3], [2, 1]]
    assert np.count_nonzero(w) == 6


@pytest.mark.parametrize("given", ["f64", "f32", "f16", "bf16", "ml_dtypes"])
@pytest.mark.parametrize("parameter", ["f64", "f32", "bf16"])
def test_kinds_of_values(given, parameter):
    """Rows are added in the float type of the arithmetic, or in a wider one that they have; ordered or not."""
    for indices in ([3, 1, 3, 3, 0], [0, 1, 3, 5, 9]):
        opt, twin = (fastopt.SGD(stored(normal(0, N, 3), parameter), lr=0.1) for _ in range(2))
        values = stored(normal(1, 5, 3), "bf16" if given == "ml_dtypes" else given)
        values = values.view(BFLOAT16) if given == "ml_dtypes" else values
        numbers = values.view(BFLOAT16) if given == "bf16" else values
        kind = f64 if "f64" in (given, parameter) else f32
        opt.step(Rows(np.array(indices), values[:, ::1]), grad_factor=0.3)
        twin.step(whole(indices, numbers.astype(kind), (N, 3), kind), grad_factor=0.3)
        same(opt, twin)


def test_duplicates_are_added_in_their_order():
    w = np.zeros((4, 1), f32)
    opt = fastopt.SGD(w, lr=1.0)
    opt.step(Rows(np.array([2, 0, 2, 2, 0]), np.array([[1e8], [1], [3], [-1e8], [2**-30]], f32)))
    assert w.ravel().tolist() == [-1, 0, 0, 0]  # 1e8 + 3 is 1e8 in float32
    many = np.array([1.0, *[2.0**-24]*100, -1.0], f32)  # each is lost, though not their sum
    opt.step(Rows(np.full(len(many), 3), many[:, None]))
    assert w[3] == 0
    opt.step(Rows(np.zeros(2, int), many[-2:, None]))
    assert w[0] == np.float32(-1 - (2.0**-24 - 1))


@pytest.mark.parametrize("name", MODES)
def test_the_mode_of_the_thread_changes_no_sum(name):
    w, values = np.zeros((3, 4), f32), np.array([[1e-40]*4, [2e-40]*4, [1 + 2**-23]*4, [2**-24*1.5]*4], f32)
    opt = fastopt.SGD(w, lr=1.0)
    with in_mode(name):
        opt.step(Rows([1, 1, 2, 2], values))
    assert_identical(w, -np.array([[0]*4, (values[0] + values[1]), values[2] + values[3]], f32) + f32(0))


def test_empty_rows_count_a_step():
    opt, twin = (fastopt.Adam([normal(0, N, 3).astype(f32), normal(1, 5)]) for _ in range(2))
    for values in (np.zeros((0, 3), f32), np.zeros((0, 3), f64)):
        opt.step([Rows([], values), np.ones(5)], clip_norm=1.0)
        twin.step([np.zeros((N, 3)), np.ones(5)], mask=[False, True], clip_norm=1.0)
        same(opt, twin)
    opt.step([Rows([], values), np.ones(5)])
    assert opt.t == 3
    none = fastopt.SGD(np.zeros((0, 3)))
    none.step(Rows([], np.zeros((0, 3))))
    assert none.t == 1


# Beside other gradients and options

def test_rows_beside_arrays():
    """Groups, dtypes and gradients of all kinds in one step; what is given as rows changes from step to step."""
    shapes = {"words": (N, 4), "places": (9, 3), "W": (6, 5), "half": (N, 4)}

    def fresh():
        p = {k: normal(n, *shape).astype(f16 if k == "half" else f32) for n, (k, shape) in enumerate(shapes.items())}
        groups = [{"params": {"words": p["words"], "W": p["W"]}, "lr": 0.3},
                  {"params": {"places": p["places"], "half": p["half"]}, "weight_decay": 0.1}]
        return fastopt.Adam(groups, lr=0.1, copy=[{k: np.zeros(shapes[k], f16) for k in g["params"]} for g in groups])
    opt, twin = fresh(), fresh()
    kinds = ["", "", "words", "words", "words half", "words half", "places", "", "", "", "words places half W", "words"]
    for t, kind in enumerate(kinds):
        dense, given, mask = {}, {}, {}
        for n, (k, shape) in enumerate(shapes.items()):
            indices, values = draw(100*t + n, 6, *shape[1:], n=shape[0])
            values = values.astype(f64 if k == "W" else f32)
            dense[k] = whole(indices, values, shape, values.dtype)
            given[k] = Rows(indices, values) if k in kind.split() else dense[k]
            mask[k] = hit(indices, shape) if k in kind.split() else True
        how = {"clip_norm": 1e4 if t % 3 else None, "grad_factor": 0.5 if t % 4 == 3 else 1.0}
        tree, whole_tree, masks = ([{k: of[k] for k in g["params"]} for g in opt.params] for of in (given, dense, mask))
        opt.step(tree, **how)
        twin.step(whole_tree, mask=masks, **how)
        same(opt, twin, kind)
        for copies in zip(opt._backend.outputs["copy"].arrays, twin._backend.outputs["copy"].arrays, strict=True):
            assert_identical(*copies)


def test_a_copy_follows_in_the_rows():
    w, small = normal(0, N, 3).astype(f32), np.zeros((N, 3), f16)
    opt = fastopt.Momentum(w, lr=0.5, copy=small)
    indices, values = draw(1, 8, 3)
    opt.step(Rows(indices, values))
    assert_identical(small, w.astype(f16))


def test_masks_and_rows():
    mask = normal(3, N, 3) > 0
    opt, twin = (fastopt.Adam([{"params": normal(0, N, 3), "mask": np.arange(3) != 1}]) for _ in range(2))
    indices, values = draw(1, 8, 3)
    for t in range(3):
        opt.step([Rows(indices, values)], mask=[mask] if t % 2 else None)
        twin.step([whole(indices, values, (N, 3), f64)],
                  mask=[(mask if t % 2 else True) & hit(indices, (N, 3))])
        same(opt, twin)


def test_what_is_not_finite_is_skipped():
    for bad in (np.nan, np.inf):
        w = normal(0, N, 3)
        opt, before = fastopt.Adam(w), w.copy()
        opt.step(Rows([1, 2, 1], np.array([[1.0]*3, [1, bad, 1], [2]*3])), skip_nonfinite=True)
        assert opt.t == 0
        assert_identical(w, before)
        opt.step(Rows([1, 2, 1], np.array([[1.0]*3, [1, bad, 1], [2]*3])))
        assert opt.t == 1
        assert_identical(w[3:], before[3:])
        assert not np.isfinite(w[2, 1])


def test_values_that_are_the_parameter():
    w = normal(0, N, 3).astype(f32)
    want = w.copy()
    opt = fastopt.SGD(w, lr=0.5)
    opt.step(Rows(np.arange(2, 9), w[1:8]))
    want[2:9] -= f32(0.5)*want[1:8]
    assert_identical(w, want)


def test_nesterov_looks_ahead():
    opt, twin = (fastopt.Nesterov(normal(0, N, 3), lr=0.1, momentum=0.9) for _ in range(2))
    for t in range(4):
        indices, _ = draw(t, 9)
        opt.step(lambda p, at=indices: Rows(at, p[at]))
        twin.step(lambda p, at=indices: whole(at, p[at], (N, 3), f64), mask=hit(indices, (N, 3)))
        same(opt, twin)


def test_buffers_and_checkpoints():
    opt, twin = (fastopt.Adam({"t": normal(0, N, 3), "b": normal(1, 4)}) for _ in range(2))
    indices, values = draw(1, 8, 3)
    opt.grads = {"t": Rows(indices, values), "b": np.ones(4)}
    opt.step()
    saved = copy.deepcopy(opt.state_dict())
    twin.params["t"][...], twin.params["b"][...] = opt.params["t"], opt.params["b"]
    twin.load_state_dict(saved)
    opt.step()
    twin.step({"t": pickle.loads(pickle.dumps(opt.grads["t"])), "b": np.ones(4)})
    same(opt, twin)
    assert opt.t == twin.t == 2


def test_fit_adds_the_rows_of_batches():
    """Embeddings, a batch of words each: the sum of two batches is the step of both, whatever buffers they come in."""
    words, room = np.random.default_rng(0).integers(0, N, (6, 5)), np.zeros((5, 3))

    def gradients(p, batch):
        room[...] = p["table"][batch] - 1
        return float((room**2).sum()), {"table": Rows(batch, room), "b": np.full(2, float(batch[0]))}
    opt, twin = (fastopt.AdaGrad({"table": normal(0, N, 3), "b": np.zeros(2)}, lr=0.1) for _ in range(2))
    fastopt.fit(opt, gradients, list(words), accumulate=2, clip_norm=9.0)
    for pair in words.reshape(3, 10):
        both = Rows(pair, twin.params["table"][pair] - 1)
        twin.step({"table": both, "b": np.full(2, float(pair[0] + pair[5]))}, grad_factor=0.5, clip_norm=9.0)
    same(opt, twin)
    fastopt.fit(opt, lambda p, k: (0.0, {"table": [Rows([1], np.ones((1, 3))), np.ones((N, 3))][k], "b": np.ones(2)}),
                [0, 0, 1, 1, 0, 0], accumulate=2)
    assert opt.t == 6


# What a step costs

def test_a_step_works_on_the_rows_alone():
    """Its tiles are the elements of these rows; two threads share them, and give the bits of one."""
    shape, opts = (5000, 40), []
    indices = np.random.default_rng(0).choice(5000, 3000, replace=False)
    values = normal(0, 3000, 40).astype(f32)
    for threads in (1, 2):
        opts.append(fastopt.Adam(normal(1, *shape).astype(f32), threads=threads))
        opts[-1].step(Rows(indices, values))
    same(*opts)
    job, = opts[0]._backend.binding.plan.jobs
    found = np.concatenate([np.arange(lo, hi) for _, _, lo, hi in job.tiles])
    assert np.array_equal(found, np.flatnonzero(np.broadcast_to(hit(indices, shape), shape)))
    assert job.elements == values.size


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory in use as Linux tells it")
def test_memory_of_other_rows_is_not_touched():
    def resident():
        return int(Path("/proc/self/statm").read_text().split()[1])*4096
    w = np.zeros((1_000_000, 64), f32)
    opt = fastopt.Adam(w)
    opt.step(Rows([0], np.ones((1, 64), f32)))
    before = resident()
    for t in range(3):
        indices, values = draw(t, 1000, 64, n=10_000)  # pages may be huge
        opt.step(Rows(indices, values.astype(f32)), clip_norm=1.0)
    assert resident() - before < 60e6 < w.nbytes


def test_memory_that_moved_is_followed():
    torch = pytest.importorskip("torch")
    w = torch.tensor(normal(0, N, 3))
    opt, twin = fastopt.Adam(w), fastopt.Adam(normal(0, N, 3))
    for t in range(4):
        old = w.numpy()
        kept = old.copy()
        if t in (1, 3):
            w.data = w.data.clone()
        indices, values = draw(t, 8, 3)
        opt.step(Rows(indices, values))
        twin.step(Rows(indices, values))
        assert_identical(w.numpy(), twin.params)
        if t in (1, 3):
            assert_identical(old, kept)


# Other systems

@SPARSE
@pytest.mark.parametrize("name", ["SparseAdam", "SGD", "Adagrad"])
def test_beside_torch(name):
    """An embedding whose gradients are sparse: the walks are those of torch's own optimizers."""
    torch = pytest.importorskip("torch")
    kind, how = {"SparseAdam": (fastopt.Adam, {"eps_mode": "hat"}), "SGD": (fastopt.SGD, {}),
                 "Adagrad": (fastopt.AdaGrad, {"lr_decay": 0.1})}[name]
    layers = [torch.nn.Embedding(N, 5, sparse=True, dtype=torch.float64) for _ in range(2)]
    layers[1].load_state_dict(layers[0].state_dict())
    theirs = getattr(torch.optim, name)(layers[1].parameters(), lr=0.1, **({} if kind is fastopt.Adam else how))
    opt = kind(layers[0].weight, lr=0.1, **how)
    for t in range(12):
        words = torch.tensor(draw(t, 7)[0])
        for layer in layers:
            layer.weight.grad = None
            (layer(words)**2 - layer(words)).sum().backward()
        assert layers[0].weight.grad.is_sparse
        opt.step(layers[0].weight.grad)
        theirs.step()
    assert np.allclose(*(layer.weight.detach().numpy() for layer in layers), rtol=1e-12, atol=1e-14)


@SPARSE
def test_sparse_tensors_of_torch():
    torch = pytest.importorskip("torch")
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        values = torch.tensor(normal(0, 4, 3)).to(dtype)
        g = torch.sparse_coo_tensor(torch.tensor([[3, 1, 3, 0]]), values, (N, 3))
        for given in (g, g.coalesce()) if dtype is torch.float64 else (g,):
            opt, twin = (fastopt.SGD(normal(0, N, 3)) for _ in range(2))
            opt.step(given)
            twin.step(Rows([3, 1, 3, 0], values))
            same(opt, twin)
    w = np.zeros((N, 3))
    for wrong, match in ((torch.zeros(N, 3).to_sparse(), r"Give x.to_dense\(\)"),
                         (torch.sparse_coo_tensor([[0]], torch.ones(1, 3), (N + 1, 3)), "Give a gradient of that")):
        with pytest.raises((TypeError, ValueError), match=match):
            fastopt.SGD(w).step(wrong)
    assert not w.any()


# Errors

def step(indices=(0, 1), values=None, w=None, **how):
    """A step that is refused changes nothing, whatever came before it."""
    w = np.ones((4, 3)) if w is None else w
    opt, before = fastopt.SGD([w, np.ones(2)], lr=0.5, **how.pop("of", {})), w.copy()
    values = np.ones((len(indices), 3)) if values is None else values
    try:
        opt.step([Rows(indices, values), np.ones(2)], **how)
    except Exception:
        assert_identical(w, before)
        assert opt.params[1].tolist() == [1, 1]
        raise
    assert not np.array_equal(w, before)


def lean(width=64, **how):
    opt = fastopt.Adam(np.ones((4, width), f32), **how)
    opt.step(Rows([1], np.ones((1, width), f32)))


def homeless(again=False):
    base = np.ones(10_000)
    values = base[9_000:9_006].reshape(2, 3)
    base.resize(5 if not again else 10_000, refcheck=False)
    step(values=values)


def accumulated(*kinds):
    """A step of several batches, whose gradients are of these kinds."""
    opt = fastopt.SGD(np.zeros((4, 3)))
    fastopt.fit(opt, lambda p, kind: (0.0, Rows([1], np.ones((1, 3))) if kind is Rows else np.ones((4, 3))), kinds,
                accumulate=len(kinds))
    assert opt.params.any()


TABLE = np.arange(12.0).reshape(4, 3)
CASES = [
    *alike(step, lambda: step([0, 4]), lambda: step([-1, 0]), lambda: step([0.0, 1.0]), lambda: step([True, False]),
           lambda: step([[0, 1]]), lambda: step([2**64, 1]), lambda: step(np.array([2**63, 1], np.uint64)),
           lambda: step(values=np.ones((3, 3))), lambda: step(values=np.ones((2, 4))), lambda: step(values=np.ones(2)),
           lambda: step(values=np.ones((2, 3), int)), lambda: step(values="text"), lambda: step(zero_grads=True)),
    (lambda: step(values=np.ma.ones((2, 3))), lambda: step(values=np.ma.ones((2, 3)).data)),
    (lambda: step(w=np.asfortranarray(TABLE)), lambda: step(w=np.ascontiguousarray(np.asfortranarray(TABLE)))),
    (lambda: step([0], [1.0], np.array(1.0)), lambda: fastopt.SGD(np.array(1.0)).step(np.array(1.0))),
    (lambda: accumulated(Rows, None), lambda: (accumulated(Rows, Rows), accumulated(None, None))),
    (lambda: step(of={"average": 0.9}), step), (lambda: homeless(), lambda: homeless(True)),
    (lambda: lean(state="q8"), lambda: (lean(state=None), lean(128, state="q8")))]


def test_what_the_messages_say_to_do_works():
    check(CASES, "rows", ("_given", "_values", "refuse"))  # of torch, on a device: above, below


def test_messages():
    for bad, message in (
            ({"indices": [0, 4]}, "grads[0].indices: 4 is among them, but params[0] has 4 rows, counted from 0. Give"),
            ({"indices": [-1, 0]}, "grads[0].indices: -1 is among them, but params[0] has 4 rows, counted from 0."),
            ({"values": np.ones((3, 3))}, "grads[0].values: shape (3, 3), but 2 rows of params[0] need (2, 3). Give a"),
            ({"indices": np.array([True, False])}, "grads[0].indices: bool of shape (2,), but whole numbers in one "),
            ({"values": np.ones((2, 3), complex)}, "grads[0].values: dtype complex128, but params[0] is real. Give"),
            ({"zero_grads": True}, "grads[0]: Rows, but zero_grads=True is for gradients that are arrays."),
            ({"of": {"average": 0.9}}, "grads[0]: Rows, but this optimizer has average=, which changes in all rows")):
        with pytest.raises((TypeError, ValueError), match=re.escape(message)):
            step(**bad)
    with pytest.raises(ValueError, match="m of params is stored in blocks of 128 numbers, and a row has 64"):
        lean(state="q8")
    with pytest.raises(TypeError, match="params: a Rows, but an array is needed"):
        fastopt.SGD(Rows([1], np.ones((1, 3))))
    assert repr(Rows([1], [2.0])) == "Rows([1], [2.0])"


def test_on_a_device(stand_in):
    from devices import to_device, to_host
    w, values = np.ones((4, 3), f32), np.ones((1, 3), f32)
    there = to_device(w)
    with pytest.raises(TypeError, match="grads: Rows, but a step on a CUDA device passes over whole arrays"):
        fastopt.SGD(there).step(Rows([1], values))
    with pytest.raises(TypeError, match=r"grads\.values: on a CUDA device, but params is in this machine"):
        fastopt.SGD(w).step(Rows([1], to_device(values)))
    assert (to_host(there) == 1).all()
    assert (w == 1).all()


def test_rows_of_complex_tables_none_beside_them_and_norms_of_their_own():
    """A table of complex numbers; gradients of others may be None; clip="tensor" takes the norm of the added values."""
    def made():
        return np.ones((50, 3), np.complex64), np.ones((40, 2), np.float32), np.ones(4, np.float32)
    indices, values = np.array([7, 3, 7]), (np.arange(9).reshape(3, 3) + 1j).astype(np.complex64)
    dense = np.zeros((50, 3), np.complex64)
    np.add.at(dense, indices, values)
    other = fastopt.Rows([1], np.full((1, 2), 9, np.float64))
    for how in ({}, {"clip_norm": 1.0}, {"clip_norm": 1.0, "clip": "tensor"}):
        (z, w, b), (y, v, c) = made(), made()
        opt, twin = fastopt.Adam([z, w, b], lr=0.1), fastopt.Adam([y, v, c], lr=0.1)
        mask = np.isin(np.arange(50), indices)[:, None]
        whole = np.zeros((40, 2))
        whole[1] = 9
        for last in (None, c + 1):
            opt.step([fastopt.Rows(indices, values), other, last], **how)
            twin.step([dense, whole, last], mask=[mask, (whole != 0), True], **how)
            assert opt.grad_norm == pytest.approx(twin.grad_norm, rel=1e-15) if how else opt.grad_norm is None
        for have, want in ((z, y), (w, v), (b, c)):
            np.testing.assert_allclose(have, want, rtol=1e-6)
        assert opt.counts == twin.counts == [2, 2, 1]
    with pytest.raises(TypeError, match=r"grads\[0\]\.values: dtype float32, but params\[0\] is complex"):
        opt.step([fastopt.Rows(indices, values.real), other, None])
