"""Arrays that move or change under the optimizer are followed, or refused before anything is written."""
import array
import contextlib
import ctypes
import mmap
import warnings

import ml_dtypes
import numpy as np
import pytest
from conftest import OPTIMIZERS, assert_identical, normal
from reference import Twin, gradients, made

import fastopt
from fastopt import files, storage
from fastopt._cpu import headers, torch_headers

f32 = np.float32
GUARD = 0xA5
CHANGES = ("dtype", "shape", "strides", "read-only", "resize down", "resize up", "setstate smaller")


def guarded(values):
    """An array that owns no memory of its own, between bytes that nobody may write; and those bytes."""
    raw = np.full(values.nbytes + 8192, GUARD, np.uint8)
    own = raw[4096:4096 + values.nbytes].view(values.dtype).reshape(values.shape)
    own[...] = values
    return own, raw


def unharmed(raw, nbytes):
    return (raw[:4096] == GUARD).all() and (raw[4096 + nbytes:] == GUARD).all()


@contextlib.contextmanager
def changed(a, how):
    """An array whose header says something else, and, behind the block, what it said before."""
    before = a.dtype, a.shape, a.strides, a.tobytes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy deprecates such changes, and allows them
        if how == "dtype":
            a.dtype = np.float16 if a.dtype == np.uint16 else {2: np.uint16, 4: np.int32, 8: np.float32}[a.itemsize]
        elif how == "shape":
            a.shape = (1, *a.shape)
        elif how == "strides":
            a.strides = (0,)*a.ndim
        elif how == "read-only":
            a.flags.writeable = False
        elif how.startswith("resize"):
            a.resize(a.size//3 if how == "resize down" else 40*a.size + 5, refcheck=False)
        else:
            a.__setstate__((1, (2,), a.dtype, False, bytes(2*a.itemsize)))
        yield
        dtype, shape, strides, data = before
        if how.startswith(("resize", "setstate")):
            a.__setstate__((1, shape, dtype, False, data))
        elif how == "read-only":
            a.flags.writeable = True
        else:
            a.dtype = dtype
            a.shape = shape
            a.strides = strides


@pytest.mark.parametrize("how", CHANGES)
@pytest.mark.parametrize("slot", ["parameter", "copy"])
def test_what_a_step_writes_has_changed(how, slot):
    """An error names the array, nothing is written, no step counted; changed back, the step is the rule's."""
    owning = how.startswith(("resize", "setstate"))
    for k, (name, mix, n) in enumerate((("sgd", "split", 257), ("momentum", "q8", 70_001))):
        values = [normal(k + j, n).astype(f32) for j in range(2)]
        values = [storage.encode(x, "bf16") if mix in ("split", "bf16s") else x for x in values]
        values += [np.zeros(n, f32), np.zeros(n, f32)]
        pairs = [(np.array(x), np.full(8192 + x.nbytes, GUARD, np.uint8)) if owning else guarded(x) for x in values]
        first, second, *copies = [x for x, _ in pairs]
        opt = made(name, [first, second], mix, lr=0.1, copy=copies, threads=1 + k % 2)
        twin = Twin(opt)
        twin.step(gradients(opt, k))
        victim, path = (second, r"params\[1\]: ") if slot == "parameter" else (copies[1], r"copy\[1\]: ")
        g, before = gradients(opt, k + 10), (first.copy(), copies[0].copy())
        with changed(victim, how):
            for act in (lambda opt=opt, g=g: opt.step(g), lambda opt=opt: opt.decoded("params"),
                        lambda opt=opt: opt.load_state_dict(opt.state_dict()),
                        lambda opt=opt: files.save("never", opt)):
                with pytest.raises(ValueError, match=path):
                    act()
            assert opt.t == 1
            assert_identical(first, before[0])
            assert_identical(copies[0], before[1])
        twin.step(g)
        assert all(unharmed(raw, x.nbytes) for x, raw in pairs)


def test_memory_that_moved_is_followed():
    """__setstate__ puts an array elsewhere: the step goes on there, and no byte is written where it was."""
    for name in ("sgd", "nesterov"):
        for n in (1, 257, 70_001):
            w, copy = normal(1, n).astype(f32), np.zeros(n, f32)
            opt = OPTIMIZERS[name](w, lr=0.1, copy=copy, average=0.9)
            twin = Twin(opt)
            twin.step([normal(2, n).astype(f32)])
            if name == "nesterov":
                opt.lookahead()
            for a in (w, copy):
                a.__setstate__((1, a.shape, a.dtype, False, a.tobytes()))
            twin.step([normal(3, n).astype(f32)])
            if name == "nesterov":
                assert opt.lookahead().shape == w.shape
            assert_identical(w, copy)


def test_the_owner_of_a_view_was_resized():
    """A view, one of a class's view, and those of what ctypes has made: whoever owns the memory is looked at."""
    class Kind(np.ndarray):
        pass

    class Record(ctypes.Structure):
        _fields_ = [("values", ctypes.c_float*1000)]

    def of_an_array(view):
        base = np.ones((2, 1000), f32, "F")
        return view(base), lambda: base.resize(5, refcheck=False)

    def of_ctypes(kind, view):
        made = kind()
        return view(made), lambda: ctypes.resize(made, 40_000_000)

    numbers, view_of = ctypes.c_float*1000, {"params": "params", "copy": "copy", "grads": "grads", "buffers": "grads"}
    for slot in view_of:
        for view, resize in (of_an_array(lambda x: x.ravel("K")[500:1500]),
                             of_an_array(lambda x: x.view(Kind).ravel("K")[:1000]),
                             of_ctypes(numbers, np.ctypeslib.as_array),
                             of_ctypes(numbers, lambda x: np.frombuffer(x, f32)),
                             of_ctypes(Record, lambda x: np.ctypeslib.as_array(x.values))):
            other, g = np.zeros(1000, f32), [np.ones(1000, f32)]
            opt = fastopt.Adam(view if slot == "params" else other, lr=0.1, copy=view if slot == "copy" else None)
            if slot == "grads":
                g = [view]
            elif slot == "buffers":
                opt.grads, g = view, []
            for _ in range(2):
                opt.step(*g)
            resize()
            before = other.copy()
            acts = [lambda opt=opt, g=g: opt.step(*g), lambda opt=opt: opt.decoded("params")]
            for act in acts if slot in ("params", "copy") else acts[:1]:
                with pytest.raises(ValueError, match=f"{view_of[slot]}: the array that it is a view of was resized"):
                    act()
            assert opt.t == 2
            assert_identical(other, before)


def test_states_that_a_program_sees_are_views():
    """Their headers may change; where memory itself is taken away, that is said, and nothing is written."""
    for asked in (None, "q8"):
        n = 20_001
        opt = fastopt.Momentum(normal(1, n).astype(f32), lr=0.1, state=asked, average=0.99)
        twin = Twin(opt)
        twin.step([normal(2, n).astype(f32)])
        first = next(iter(opt.state))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for state in (opt.state[first], opt.state["average"], opt.state_dict(copy=False)["state"][first][0]):
                state.dtype = np.uint8
                state.shape = (1, -1)
                state.flags.writeable = False
        twin.step([normal(3, n).astype(f32)])
        opt.state[first].base.resize(3, refcheck=False)
        for act in (lambda opt=opt, n=n: opt.step(np.ones(n, f32)), opt.state_dict,
                    lambda opt=opt: opt.decoded("average")):
            with pytest.raises(ValueError, match=r"state\['.*'\]: array 0 of it was resized"):
                act()
        assert opt.t == 2


def test_looking_at_states_or_buffers_hides_no_change():
    """What the optimizer shows of its own is watched from then on; what had changed before stays refused."""
    shows = (lambda opt: opt.state, lambda opt: opt.grads, lambda opt: opt.state_dict(copy=False),
             lambda opt: repr(opt))
    for show in shows:
        for how in ("resize down", "resize up", "shape"):
            w = normal(1, 3000).astype(f32)
            opt = fastopt.Adam(w, lr=0.1)
            twin = Twin(opt)
            g = gradients(opt, 1)
            twin.step(g)
            with changed(w, how):
                show(opt)
                with pytest.raises(ValueError, match="params: it has become"):
                    opt.step(g)
            show(opt)
            twin.step(g)


@pytest.mark.parametrize("how", CHANGES)
def test_gradient_buffers_are_looked_at_in_every_step(how):
    """Those of the program, by `opt.grads = mine`, and those that `opt.grads` gave."""
    n = 1000
    for own in (False, True):
        w = np.zeros(n, f32)
        opt = fastopt.SGD(w, lr=1.0)
        mine = guarded(np.ones(n, f32))[0] if how == "strides" else np.ones(n, f32)
        if own:
            mine = opt.grads
            mine[...] = 1
        else:
            opt.grads = mine
            assert opt.grads is mine
        opt.step()
        assert (w == -1).all()
        if own and how.startswith(("resize", "setstate")):
            mine = mine.base  # a view cannot be resized, what it is a view of can
        with changed(mine, how):
            if how == "read-only":
                opt.step()
                assert (w == -2).all()
                continue
            with pytest.raises((TypeError, ValueError),
                               match=r"grads: ") if how != "strides" else contextlib.nullcontext():
                opt.step()
        assert opt.t == 1 + (how == "strides")


def test_the_arrays_of_a_dict_of_gradients_may_be_others():
    w = {"a": np.ones(3, f32), "b": np.ones(2, f32)}
    opt = fastopt.SGD(w, lr=1.0)
    mine = {"a": np.zeros(3, f32), "b": np.zeros(2, f32)}
    opt.grads = mine
    opt.step()
    mine["a"] = np.ones(3, f32)
    opt.step()
    assert_identical(w["a"], np.zeros(3, f32))
    opt.grads["b"] = np.full(2, 2.0)
    opt.step()
    assert_identical(w["b"], np.full(2, -1, f32))
    del mine["a"]
    with pytest.raises(ValueError, match=r"grads: no \['a'\]"):
        opt.step()


@pytest.mark.parametrize("victim", ["parameter", "gradient", "copy"])
def test_a_schedule_changes_an_array_in_the_middle_of_a_step(victim):
    for clip in (None, 1.0):
        n = 10_000
        w, g, copy = np.ones(n, f32), np.ones(n, f32), np.zeros(n, f32)
        of = {"parameter": w, "gradient": g, "copy": copy}[victim]
        opt = fastopt.SGD(w, lr=lambda t, of=of: 1.0 if t == 1 else of.resize(10, refcheck=False) or 1.0, copy=copy)
        opt.step(g)
        with pytest.raises(ValueError, match=r"(params|grads|copy): "):
            opt.step(g, clip_norm=clip)
        assert opt.t == 1
        assert not w[:10].any()


def test_code_of_a_gradient_changes_a_parameter():
    """Views of gradients may be anybody's code: parameters are looked at after it."""
    w = np.ones(1000, f32)

    class Lazy(array.array):
        @property
        def __class__(self):  # asked for while the step makes views
            w.__setstate__((1, (3,), w.dtype, False, bytes(12)))
            return array.array

    lazy = Lazy("f", bytes(4000))
    opt = fastopt.SGD(w, lr=1.0)
    with pytest.raises(ValueError, match=r"params: it has become float32 of shape \(3,\)"):
        opt.step(lazy)
    assert opt.t == 0


def test_buffers_of_other_libraries():
    """What NumPy sees through the buffer protocol: ctypes lets its memory move, others hold it."""
    n = 1000
    of = (ctypes.c_float*n)()
    opt = fastopt.SGD(of, lr=1.0)
    g = np.ones(n, f32)
    opt.step(g)
    ctypes.resize(of, 40_000_000)
    opt.step(g)
    assert of[0] == of[n - 1] == -2
    kept = array.array("f", bytes(4*n))
    opt = fastopt.SGD(kept, lr=1.0)
    opt.step(g)
    with pytest.raises(BufferError):
        kept.append(1.0)
    with mmap.mmap(-1, 4*n) as memory:
        opt = fastopt.SGD(memoryview(memory).cast("f"), lr=1.0)
        opt.step(g)
        with pytest.raises(BufferError):
            memory.close()
        assert memory[:4] == f32(-1).tobytes()
        del opt


def test_without_array_headers(monkeypatch):
    """An interpreter whose arrays lie in another way in memory: the same, asked in Python."""
    monkeypatch.setattr(headers, "usable", lambda: False)
    w, copy, g = np.ones(50, f32), np.zeros(50, f32), np.ones(50, f32)
    opt = fastopt.Adam(w, lr=0.1, copy=copy)
    twin = Twin(opt)
    twin.step([g])
    twin.step([g])
    w.__setstate__((1, w.shape, w.dtype, False, w.tobytes()))
    twin.step([g])
    for a in (w, copy):
        with changed(a, "resize down"), pytest.raises(ValueError, match=r"(params|copy): it has become"):
            opt.step(g)
    twin.step([g])


def test_subclasses_and_bfloat16(tmp_path):
    for w in (np.memmap(tmp_path / "w", f32, "w+", shape=(300,)), normal(1, 300).astype(ml_dtypes.bfloat16)):
        opt = fastopt.Momentum(w, lr=0.1)
        Twin(opt).step(gradients(opt, 1)).step(gradients(opt, 2))
        with changed(w, "read-only"), pytest.raises(ValueError, match="params: it has become read-only"):
            opt.step(np.ones(300, f32))
        opt.step(np.ones(300, f32))


# torch

def test_tensors_of_torch_that_move_or_become_others():
    torch = pytest.importorskip("torch")

    def data(change):
        def act(p):
            p.data = change(p.data)
        return act

    def swap(p):
        with torch.no_grad():
            p.set_(p.data.clone())

    for act, said in ((lambda p: p.share_memory_(), None), (data(torch.clone), None), (swap, None),
                      (lambda p: torch.nn.utils.vector_to_parameters(-torch.ones(16), [p]), None),
                      (lambda p: p.data.resize_(2, 2), None),  # another header of the same memory,
                      (lambda p: p.detach().t_(), None),       # as this is
                      (data(lambda x: x[:2]), r"shape \(2, 4\)"), (data(lambda x: x.double()), "it has become float64"),
                      (lambda p: p.requires_grad_(False), "frozen")):
        p = torch.nn.Parameter(torch.zeros(4, 4))
        opt = fastopt.SGD(p, lr=1.0)
        opt.step(torch.ones(4, 4))
        act(p)
        with pytest.raises((TypeError, ValueError), match=said) if said else contextlib.nullcontext():
            opt.step(torch.ones(4, 4))
        assert opt.t == (1 if said else 2)
        assert said or (p == -2).all()
    p = torch.zeros(4, 4)
    opt = fastopt.SGD(p, lr=1.0)
    p.t_()
    with pytest.raises(ValueError, match="params: its strides have become"):
        opt.step(torch.ones(4, 4))


def gone(x):
    x.untyped_storage().resize_(8)


@pytest.mark.parametrize("read", [True, False])
def test_each_step_looks_at_tensors_of_torch(read, monkeypatch):
    """With gradients at other addresses nothing is bound anew, and whatever else of one changes is noticed; where the
    structure of tensors is not known, they are asked in Python."""
    torch = pytest.importorskip("torch")
    if not read:
        monkeypatch.setattr(torch_headers, "usable", lambda: False)

    def data(change):
        def act(g, p):
            g.data = change(g.data)
        return act

    for dtype, shape in ((torch.bfloat16, (6,)), (torch.complex64, (2, 1, 3, 1, 2, 2)), (torch.float64, ()),
                         (torch.float16, (0, 3))):
        p = torch.zeros(shape, dtype=dtype)
        opt = fastopt.SGD([p], lr=0.5)
        for k in range(5):
            opt.step([torch.full((3, *shape), 2.0 + k).to(dtype)[k % 3]])
            assert (opt._backend._ready is not None) == (read and k > 0)
        assert (p == -10).all()
    for act, said in ((lambda g, p: gone(g), "its memory is gone"), (lambda g, p: g.resize_(4, 5), "shape"),
                      (lambda g, p: g.t_(), "shape"), (data(lambda g: g.int()), "int32"),
                      (lambda g, p: g.set_(p.untyped_storage(), 0, (5, 4), (1, 5)), "overlaps memory"),
                      (data(lambda g: g.double()), None), (data(lambda g: g.t().contiguous().t()), None),
                      (data(lambda g: torch.stack([g, g], -1)[..., 0]), None)):
        p, rng = torch.zeros(5, 4), np.random.default_rng(0)
        opt = fastopt.SGD([p, torch.zeros(3)], lr=0.5)
        for _ in range(3):
            opt.step([torch.ones(5, 4), torch.ones(3)])
        g = torch.tensor(rng.integers(1, 9, (5, 4)).astype(f32))
        expected = -1.5 if said else -1.5 - 0.5*g
        act(g, p)
        with pytest.raises((TypeError, ValueError), match=said) if said else contextlib.nullcontext():
            opt.step([g, torch.ones(3)])
        assert (p == expected).all()
        assert opt.t == (3 if said else 4)


def test_each_step_looks_at_parameters_of_torch():
    """Memory that is another's by now is not written."""
    torch = pytest.importorskip("torch")
    for change, said in ((lambda p: p.t_(), "strides"), (lambda p: p.unsqueeze_(0), "shape"),
                         (lambda p: p.requires_grad_(False), "frozen")):
        p, g = torch.nn.Parameter(torch.zeros(4, 4)), torch.ones(4, 4)
        opt = fastopt.SGD(p, lr=1.0)
        for _ in range(3):
            opt.step(g)
        assert opt._backend._ready is not None
        with torch.no_grad():
            change(p)
        with pytest.raises(ValueError, match=said):
            opt.step(g)
        assert opt.t == 3
        with pytest.raises(RuntimeError, match="not resizable"):  # torch's own guard, as there is a view of NumPy
            gone(p)
    p = torch.zeros(4, 4)
    opt = fastopt.SGD(p, lr=1.0)
    opt.step(g)
    lazy = torch._lazy_clone(p)  # has the same memory until one of the two is written
    opt.step(g)
    assert (lazy == -1).all()
    assert (p == -2).all()


def test_autograd_is_told():
    """A backward pass that needs the values from before a step says so; it would give a wrong gradient."""
    torch = pytest.importorskip("torch")
    for how in ({}, {"clip_norm": 1.0}, {"skip_nonfinite": True}):
        x = torch.ones(3, requires_grad=True)
        copy, g = torch.zeros(3), torch.ones(3)
        y = (x*x).sum()
        opt = fastopt.SGD(x, lr=1e-3, copy=copy)
        versions = x._version, copy._version, g._version
        opt.step(g, **how)
        assert (x._version > versions[0], copy._version > versions[1], g._version) == (True, True, versions[2])
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            y.backward()
        (x*x).sum().backward()
        assert torch.allclose(x.grad, 2*x.detach())
    version = g._version
    fastopt.SGD(torch.ones(3), lr=1.0).step(g, zero_grads=True)
    assert g._version > version
    before = x._version
    opt.step(torch.full((3,), np.nan), skip_nonfinite=True)
    assert x._version == before
    with torch.inference_mode():
        w = torch.ones(3)  # has no version
    fastopt.SGD(w, lr=1.0).step(g)
    assert (w == 1 - g).all()


def test_autograd_is_told_of_what_a_load_writes():
    """A state dict changes copies of the parameters; the best parameters of a training change all."""
    torch = pytest.importorskip("torch")
    x, copy = torch.ones(3, dtype=torch.bfloat16), torch.zeros(3)
    opt = fastopt.SGD(x, lr=1e-3, copy=copy, rounding="remainder")
    saved, versions = opt.state_dict(), (x._version, copy._version)
    opt.load_state_dict(saved)
    assert (x._version == versions[0], copy._version > versions[1]) == (True, True)
    opt._backend.put([(opt._tensors[0].array, np.zeros(3, np.uint16))])
    assert x._version > versions[0]
