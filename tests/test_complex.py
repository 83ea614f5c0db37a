"""Complex parameters: the bits of the real view, torch's own optimizers, states, checkpoints, training, devices."""
import importlib

import numpy as np
import pytest
from conftest import OPTIMIZERS, assert_identical, normal, unaligned
from reference import Twin
from test_parity import STEPS, TABLE, theirs

import fastopt
from fastopt import files
from fastopt._state.torch_layout import TORCH
from fastopt._tensors.arrays import as_complex, as_real

SINGLE, DOUBLE = np.complex64, np.complex128
SHAPES = [(), (0,), (3, 0), (1,), (7,), (2, 5), (3, 1, 4), (70_001,)]


def numbers(seed, *shape, dtype=SINGLE):
    return np.asarray(normal(seed, *shape) + 1j*normal(seed + 1000, *shape)).astype(dtype)


def orders(z, k):
    """The same numbers in another memory order: C, Fortran, or turned."""
    return np.asarray(z, order="CF"[k % 2]) if k < 2 else np.array(z.T, order="C").T


def parts(tree):
    """Copies of the arrays of a list as real ones, written without the package."""
    return [np.stack([z.real, z.imag], axis=-1) if z.dtype.kind == "c" else z.copy() for z in tree]


def assert_parts(have, want, what=""):
    """Complex arrays, or codes, hold the numbers of real ones."""
    for x, y in zip(have, want, strict=True):
        assert_identical(parts([x])[0], y, what)


def test_views_show_the_same_memory():
    for dtype in (SINGLE, DOUBLE):
        for z in (numbers(1, 3, 4, dtype=dtype), numbers(2, 4, 6, dtype=dtype)[::2, ::-3], numbers(3, dtype=dtype),
                  numbers(4, 0, 2, dtype=dtype), np.broadcast_to(numbers(5, 3, dtype=dtype), (2, 3)),
                  unaligned(numbers(6, 5, dtype=dtype), 4), numbers(7, 2, 2, dtype=dtype).view(np.matrix)):
            real = as_real(z)
            assert type(real) is np.ndarray
            assert np.shares_memory(real, z) or not z.size
            assert real.flags.writeable == z.flags.writeable
            assert_identical(real, parts([np.asarray(z)])[0])
            assert_identical(np.asarray(z), as_complex(real))
    for a in (np.ones((3, 2), np.float16), np.ones(129, np.uint8), np.ones((3, 2), ">c8")):
        assert as_real(a) is a
        assert as_complex(a) is a


# The bits of the same step on real arrays

def assert_real_view(name, hyper, asks, turned, dtypes=(SINGLE, DOUBLE)):
    """Steps of complex arrays of these types, and of their real views; gradients may lie in another order."""
    shapes = [(shape, dtype) for dtype in dtypes for shape in SHAPES]
    z = [orders(numbers(k, *shape, dtype=dtype), k % 3) for k, (shape, dtype) in enumerate(shapes)]
    w = parts(z)
    one, other = OPTIMIZERS[name](z, lr=0.1, **hyper), OPTIMIZERS[name](w, lr=0.1, **hyper)
    for t, how in enumerate(asks):
        g = [orders(numbers(10*t + k, *shape, dtype=dtype), (k + t*turned) % 3)
             for k, (shape, dtype) in enumerate(shapes)]
        one.step(g, **how)
        other.step(parts(g), **how)
        assert not how or one.grad_norm == pytest.approx(other.grad_norm, rel=1e-12)  # memory's order is the sum's
    assert_parts(z, w)
    for state in one.state:
        assert all(a.dtype == b.dtype and a.shape == b.shape for a, b in zip(one.state[state], z, strict=True))
        assert_parts(one.state[state], other.state[state], state)
        assert_parts(one.decoded(state), other.decoded(state), state)
    return one, other


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_rule_has_the_bits_of_its_real_view(name, full):
    one, other = assert_real_view(name, {}, [{}]*3, False, (SINGLE, DOUBLE) if full or name == "nesterov" else [SINGLE])
    if one.rule.ahead:
        assert_parts(one.lookahead(), other.lookahead())


def test_all_that_surrounds_a_rule_has_the_bits_of_its_real_view():
    asks = [{"clip_norm": 1.0, "clip_value": 0.5, "grad_factor": 0.5},
            {"skip_nonfinite": True, "clip_value": 0.1, "grad_factor": -2.0}]
    assert_real_view("adam", {"weight_decay": 0.1, "average": 0.9}, asks, True)
    one, other = assert_real_view("adam", {"weight_decay": 0.1, "schedule_free": 0.9}, asks, True)
    assert_parts(one.evaluation_point(), other.evaluation_point())


@pytest.mark.parametrize("state", ["bf16s", "q8", "f16"])
def test_states_in_fewer_bytes(state):
    """They are codes of the parts: random bits and blocks run along memory. `decoded` gives complex numbers."""
    for k, shape in enumerate(SHAPES):
        z = orders(numbers(k, *shape), k % 3)
        w = as_real(z.copy(order="K"))
        one, other = (fastopt.Adam(x, lr=0.1, state=state, seed=5) for x in (z, w))
        for t in range(3):
            g = orders(numbers(t, *shape), k % 3)
            one.step(g)
            other.step(as_real(g))
        assert_identical(as_real(z), w)
        for name in "mv":
            codes, decoded = one.state[name], one.decoded(name)
            assert_identical(codes, other.state[name])
            assert codes.dtype == np.uint8 or codes.shape == (*shape, 2)
            assert (decoded.dtype, decoded.shape) == (SINGLE, shape)
            assert_identical(as_real(decoded), other.decoded(name))
        again = fastopt.Adam(z.copy(order="K"), lr=0.1, state=state)
        again.load_state_dict(one.state_dict())
        plain = fastopt.Adam(z.copy(order="K"), lr=0.1)
        plain.load_state_dict(one.state_dict(), convert=True)
        back = fastopt.Adam(z.copy(order="K"), lr=0.1, state=state)
        back.load_state_dict(plain.state_dict(), convert=True)
        for name in "mv":
            assert_identical(back.decoded(name), one.decoded(name))
            assert_identical(again.state[name], one.state[name])
            assert_identical(plain.state[name], one.decoded(name))


def test_gradients_of_another_complex_type():
    """Of more digits or fewer, dense or strided: their real and imaginary parts are read, beside the rule in NumPy."""
    for wide, dtype in ((DOUBLE, SINGLE), (SINGLE, DOUBLE)):
        opt = fastopt.Adam([numbers(1, 33, dtype=dtype)], lr=0.1)
        twin = Twin(opt)
        for t, step in enumerate((1, 3)):
            g = numbers(t, 33*step, dtype=wide)[::step]
            twin.step(parts([g]), [g], clip_value=1.0)


def test_everything_at_once():
    """Groups, a real parameter beside them, a copy, gradients set to zero, a mask: as on real arrays, with threads."""
    z, b = numbers(1, 300, 400), normal(2, 400).astype(np.float32)
    w, c = parts([z])[0], b.copy()
    copies = [np.zeros((300, 400), DOUBLE), np.zeros(400)], [np.zeros((300, 400, 2)), np.zeros(400)]
    mask = np.arange(400) % 3 > 0
    one, other = (fastopt.AdamW([{"params": x, "mask": mask if x is z else mask[:, None]}, {"params": y, "lr": 0.2}],
                                copy=of, lr=0.1) for (x, y), of in zip(((z, b), (w, c)), copies, strict=True))
    for t in range(3):
        g, h = [numbers(t, 300, 400), normal(t, 400)], []
        h[:] = parts(g)
        one.step(g, zero_grads=True, clip_norm=2.0)
        other.step(h, zero_grads=True, clip_norm=2.0)
        assert not any(x.any() for x in g)
        assert one.grad_norm == other.grad_norm
    assert_parts([z, b], [w, c])
    assert_parts(copies[0], copies[1])
    assert_identical(copies[0][0], z.astype(DOUBLE))
    assert repr(one).endswith("t=3, 2 tensors, 120,400 parameters complex f32/f32, state m f32, v f32 (15.973 bytes "
                              "each))")


def test_masks_have_the_shape_of_the_parameter():
    z = np.zeros((2, 3), SINGLE)
    opt = fastopt.SGD(z, lr=1.0)
    for mask in (np.array([1, 0, 1]), np.array([[False], [True]]), True):
        opt.step(np.full((2, 3), -1 - 2j), mask=mask)
    assert z.tolist() == [[2 + 4j, 1 + 2j, 2 + 4j], [3 + 6j, 2 + 4j, 3 + 6j]]
    with pytest.raises(ValueError, match=r"mask: shape \(2, 3, 2\), but params has \(2, 3\)\. Give a mask"):
        opt.step(z.copy(), mask=np.ones((2, 3, 2)))


def test_the_norm_is_that_of_the_moduli_and_limits_are_for_parts():
    z = np.zeros(2, DOUBLE)
    opt = fastopt.SGD(z, lr=1.0)
    opt.step(-np.array([3 + 4j, 12j]), clip_norm=6.5)
    assert (opt.grad_norm, z.tolist()) == (13, [1.5 + 2j, 6j])
    opt.step(-np.array([3 + 0.5j, -7j]), clip_value=1.0)
    assert z.tolist() == [2.5 + 2.5j, 5j]
    opt.step(np.array([1, complex(0, np.nan)]), skip_nonfinite=True)
    assert (opt.t, z.tolist()) == (2, [2.5 + 2.5j, 5j])


# The fast way of a step

def test_steps_with_gradients_like_the_last_go_the_fast_way():
    """One look at the headers of NumPy's complex arrays, whatever their order; another type goes the long way."""
    z = numbers(1, 20, 30)
    opt, twin = fastopt.Momentum([z], lr=0.1), fastopt.Momentum([parts([z])[0]], lr=0.1)

    def step(g):
        opt.step([g])
        twin.step(parts([g]))
        assert_identical(parts([z])[0], twin.params[0])
    step(numbers(2, 20, 30))
    binding = opt._backend.binding
    assert binding.headers.known
    for t in range(3):
        step(numbers(3 + t, 20, 30))
    assert opt._backend._ready is not None
    assert opt._backend.binding.headers is binding.headers
    for g in (numbers(7, 20, 30, dtype=DOUBLE), numbers(8, 30, 20).T, numbers(9, 20, 60)[:, ::2], numbers(10, 20, 30)):
        step(g)
    zeroed = [numbers(11, 20, 30)]
    for _ in range(3):
        opt.step(zeroed, zero_grads=True)
    assert opt._backend.binding.bound(zeroed, True)
    with pytest.raises(TypeError, match="grads\\[0\\]: dtype float32, but params\\[0\\] is complex"):
        opt.step([np.zeros((20, 30), np.float32)])
    with pytest.raises(TypeError, match="grads\\[0\\]: dtype float32"):
        opt.step([np.zeros((20, 30, 2), np.float32)])


def test_memory_that_moved_is_followed_and_another_type_is_refused():
    z, copy = numbers(1, 3), np.zeros(3, SINGLE)
    opt = fastopt.SGD({"z": z}, lr=1.0, copy={"z": copy})
    opt.step({"z": z.copy()})
    for a in (z, copy):
        a.__setstate__((1, a.shape, a.dtype, False, a.tobytes()))
    opt.step({"z": np.full(3, -1 - 2j)})
    assert z.tolist() == copy.tolist() == [1 + 2j]*3
    z.__setstate__((1, (6,), np.dtype(np.float32), False, bytes(24)))
    with pytest.raises(ValueError, match=r"params\['z'\]: it has become float32 of shape \(6,\), but the optimizer was "
                                         r"made for complex64 of shape \(3,\)"):
        opt.step({"z": np.zeros(3, SINGLE)})
    z.__setstate__((1, (3, 2), np.dtype(np.float32), False, bytes(24)))
    with pytest.raises(ValueError, match="it has become float32"):
        opt.step({"z": np.zeros(3, SINGLE)})


# What goes in and comes out

def test_numbers_and_arrays_without_axes():
    z = np.array(1 + 1j)
    opt = fastopt.SGD(z, lr=1.0)
    for g in (1j, DOUBLE(1), np.array(2 - 1j)):
        opt.step(g)
    assert z == -2 + 1j
    opt = fastopt.Momentum(z, lr=1.0)
    opt.step(z)
    assert opt.state["v"].shape == opt.decoded("v").shape == ()


def test_what_is_refused():
    z, w = numbers(1, 3), np.ones(3)
    strided = numbers(2, 6)[::2]
    record = np.zeros(3, [("a", DOUBLE), ("b", int)])["a"]
    for call, kind, message in (
            (lambda: fastopt.SGD(z).step(w), TypeError,
             "grads: dtype float64, but params is complex. Give dL/dx + 1j*dL/dy, a complex array."),
            (lambda: fastopt.SGD(w).step(z), TypeError,
             "grads: dtype complex64, but params is real. Give its real part."),
            (lambda: fastopt.SGD(z, copy=np.zeros((3, 2), np.float32)), TypeError,
             "copy: dtype float32, but params is complex. Give an array like numpy.empty_like(parameter)."),
            (lambda: fastopt.SGD(z).step(numbers(1, 4)), ValueError,
             "grads: shape (4,), but params has (3,). Give a gradient of that shape."),
            (lambda: fastopt.SGD(strided), ValueError,
             "params: strides (16,) for shape (3,) and 8-byte elements, but memory without gaps is needed."),
            (lambda: fastopt.SGD(record), ValueError, "params: strides (24,) for shape (3,) and 16-byte elements"),
            (lambda: fastopt.SGD(z.astype(">c8")), TypeError, "params: dtype >c8 in foreign byte order"),
            (lambda: fastopt.SGD(z).step(z.astype(">c8")), TypeError, "grads: dtype >c8 in foreign byte order"),
            (lambda: fastopt.SGD(1j), TypeError,
             "params: a complex, which cannot be updated in place. Make it an array with numpy.array(x, "
             "numpy.complex128)."),
            (lambda: fastopt.SGD([z, z[1:]]), ValueError, "params[1]: its memory overlaps that of params[0]"),
            (lambda: fastopt.SGD(z).step(z[::-1]), ValueError, "grads: overlaps memory that the step writes")):
        with pytest.raises(kind) as error:
            call()
        assert message in str(error.value)


def test_gradient_buffers():
    z = np.zeros((2, 3), DOUBLE, order="F")
    opt = fastopt.SGD({"z": z}, lr=1.0)
    assert (opt.grads["z"].dtype, opt.grads["z"].shape) == (DOUBLE, (2, 3))
    for _ in range(3):
        opt.grads["z"][0] = 1 - 1j
        opt.step()
    assert z.tolist() == [[-3 + 3j]*3, [0]*3]
    opt.grads = {"z": np.ones((2, 3), SINGLE)}
    opt.step()
    assert z.tolist() == [[-4 + 3j]*3, [-1]*3]


def test_checkpoints(tmp_path):
    """In memory with complex arrays, in files with pairs of reals; both go on bit for bit."""
    def make():
        return fastopt.AMSGrad({"z": numbers(1, 5, 7), "y": orders(numbers(2, 5, 7, dtype=DOUBLE), 1),
                                "x": normal(3, 4)}, lr=0.1)

    def step(opt, t):
        opt.step({k: numbers(t, *p.shape) if k != "x" else normal(t, 4) for k, p in opt.params.items()})
    opt = make()
    for t in range(3):
        step(opt, t)
    saved = opt.state_dict()
    assert [a.dtype for a in saved["state"]["m"]] == [SINGLE, DOUBLE, float]
    files.save(tmp_path/"file", opt)
    by_dict, by_file = make(), make()
    for k, p in by_dict.params.items():
        p[...] = opt.params[k]
    by_dict.load_state_dict(saved)
    files.load(tmp_path/"file", by_file)
    for t in range(3, 5):
        for o in (opt, by_dict, by_file):
            step(o, t)
    for o in (by_dict, by_file):
        for k, p in o.params.items():
            assert_identical(p, opt.params[k])
        for name in "mv":
            assert_parts(o.state[name].values(), parts(opt.state[name].values()))
    for kind, error, message in ((DOUBLE, ValueError, "stored as float64, but this optimizer keeps float32"),
                                 (">c8", TypeError, "dtype >c8 in foreign byte order")):
        other = {k: [v[0].astype(kind), *v[1:]] for k, v in saved["state"].items()}
        with pytest.raises(error, match=rf"m of params\['z'\]: {message}"):
            make().load_state_dict({**saved, "state": other})


def test_training():
    """Gradients of two batches are summed, the look-ahead point is complex, and the best parameters come back."""
    target, z = numbers(1, 30, dtype=DOUBLE), np.zeros(30, DOUBLE)
    w = np.zeros((30, 2))

    def fit(p, aim):
        opt = fastopt.Nesterov(p, lr=0.1)
        return fastopt.fit(opt, lambda p, k: (float((abs(p - aim)**2).sum()), (2 + k)*(p - aim)), [0.5, -0.5], steps=90,
                           accumulate=2, validate=lambda p: float((abs(p - aim)**2).sum()), validate_every=7)
    found, other = fit(z, target), fit(w, parts([target])[0])
    assert_identical(parts([z])[0], w)
    assert found.value == pytest.approx(other.value, rel=1e-12)
    assert found.value[-1] < 1e-3*found.value[0]


# Other systems

@pytest.fixture
def torch():
    """Its step counts, and NAdam's product, in float64."""
    it = pytest.importorskip("torch")
    before = it.get_default_dtype()
    it.set_default_dtype(it.float64)
    yield it
    it.set_default_dtype(before)


def loss(torch, z, a):
    """A real function of complex numbers that mixes them with their conjugates."""
    u, v = torch.tensor(a, dtype=z.dtype) @ z, z.conj()*z**2 - 1j
    return (1 + (u*u.conj()).real).log().sum() + (1 + (v*v.conj()).real).log().sum() + (u*(1 - 2j)).imag.sum()


@pytest.mark.filterwarnings("ignore:load_state_dict. torch's dict. SGD's holds no step count")
@pytest.mark.parametrize("foreach", [False, True])
@pytest.mark.parametrize("row", TABLE["torch"], ids=lambda row: f"{row[0]} {row[1]}")
def test_torchs_own_optimizers(row, foreach, torch):
    """On complex tensors, with torch's gradients; halfway each goes on from the other's state dict."""
    rule, name, fixed, *given = row
    for hyper in [*([{}] if (rule, name) != ("amsgrad", "AdamW") else []), *given]:
        ours, its = hyper if isinstance(hyper, tuple) else (hyper, theirs("torch", hyper))
        a, start = numbers(1, 4, 6, dtype=DOUBLE)/4, numbers(2, 6, dtype=DOUBLE)
        p, q = torch.tensor(start, requires_grad=True), torch.tensor(start, requires_grad=True)
        one = getattr(torch.optim, name)([p], foreach=foreach, **{**fixed, **its})
        cls = OPTIMIZERS[rule]
        other = cls([q], like="torch", **ours)
        for t in range(STEPS):
            if t == STEPS//2 and rule != "sgd":
                saved = one.state_dict()
                other = cls([q], **ours)
                other.load_state_dict({**saved, "state": {9: saved["state"][0]}})  # known by its shape
                entry, found = saved["state"][0], other.state_dict()["state"]
                for state, word in TORCH[rule].items():
                    assert_identical(found[state][0], entry[word].numpy())
                    entry[word] = torch.tensor(other.decoded(state)[0])
                one.load_state_dict(saved)
            for x in (p, q):
                x.grad = None
                loss(torch, x, a).backward()
            assert not q.grad.is_conj()
            one.step()
            other.step([q.grad])
        assert np.allclose(p.detach().numpy(), q.detach().numpy(), rtol=1e-9, atol=1e-12), hyper


def test_which_gradient_is_meant(torch):
    """dL/dx + i*dL/dy: torch's, the conjugate of JAX's, and what differences say."""
    jax = importlib.import_module("jax") if importlib.util.find_spec("jax") else pytest.skip("JAX is not installed")
    a, start, h = numbers(1, 4, 6, dtype=DOUBLE), numbers(2, 6, dtype=DOUBLE), 1e-6
    p = torch.tensor(start, requires_grad=True)
    loss(torch, p, a).backward()

    def value(z):
        return float(loss(torch, torch.tensor(z), a).detach())
    steps = h*np.eye(6)
    want = [(value(start + e) - value(start - e) + 1j*(value(start + 1j*e) - value(start - 1j*e)))/(2*h) for e in steps]
    assert np.allclose(p.grad.numpy(), want, rtol=1e-6)

    def of_jax(z):
        u, v = a.astype(SINGLE) @ z, z.conj()*z**2 - 1j
        log = jax.numpy.log
        return log(1 + (u*u.conj()).real).sum() + log(1 + (v*v.conj()).real).sum() + (u*(1 - 2j)).imag.sum()
    g = jax.grad(of_jax)(start.astype(SINGLE))
    assert np.allclose(g.conj(), want, rtol=1e-4, atol=1e-3)
    z = start.astype(SINGLE)
    fastopt.SGD(z, lr=1.0).step(g.conj())  # an array of JAX
    assert_identical(z, start.astype(SINGLE) - np.asarray(g.conj()))


def test_optax_on_parts():
    """Its own second moment is of the modulus; `split_real_and_imaginary` makes it one for each part, as here."""
    jax = pytest.importorskip("jax")
    optax = pytest.importorskip("optax")
    contrib = importlib.import_module("optax.contrib")
    z = numbers(1, 9)
    p, alone = jax.numpy.asarray(z), jax.numpy.asarray(z)
    its, whole = contrib.split_real_and_imaginary(optax.adam(0.1)), optax.adam(0.1)
    state, other = its.init(p), whole.init(alone)
    opt = fastopt.Adam(z, lr=0.1, like="optax")
    for t in range(5):
        g = numbers(t, 9)
        u, state = its.update(jax.numpy.asarray(g), state, p)
        p = optax.apply_updates(p, u)
        u, other = whole.update(jax.numpy.asarray(g), other, alone)
        alone = optax.apply_updates(alone, u)
        opt.step(g)
    assert np.allclose(z, p, rtol=1e-4, atol=1e-5)
    assert not np.allclose(z, alone, atol=0.02)


def test_tensors_of_torch(torch):
    """Updated in place, and autograd is told; states are NumPy's, complex; conjugate views are refused."""
    z = torch.tensor(numbers(1, 3), requires_grad=True)
    opt = fastopt.Adam({"z": z}, lr=0.1)
    loss(torch, z, np.eye(3)).backward()
    held = (z*z).real.sum()
    opt.step({"z": z.grad})
    assert opt.state["m"]["z"].dtype == SINGLE
    assert np.allclose(opt.state["m"]["z"], 0.1*z.grad.numpy())
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        held.backward()
    for call in (lambda: fastopt.SGD(z.detach().conj()), lambda: opt.step({"z": z.grad.conj()})):
        with pytest.raises(TypeError, match=r"but one with such a view is needed\. Give x\.resolve_conj\(\)\."):
            call()
    opt.step({"z": z.grad.conj().resolve_conj()})
    z.data = torch.tensor(numbers(4, 3))
    opt.step({"z": z.grad})
    assert opt.t == 3
    z.data = z.data.conj()
    with pytest.raises(TypeError, match=r"params\['z'\]: a torch tensor without .* Give x\.resolve_conj\(\)\."):
        opt.step({"z": z.grad})
    z.data = torch.zeros(3, 2, dtype=torch.float32)
    with pytest.raises(ValueError, match=r"params\['z'\]: it has become float32 of shape \(3, 2\), but the optimizer "
                                         r"was made for complex64 of shape \(3,\)"):
        opt.step({"z": torch.zeros(3, dtype=torch.complex64)})


# Devices

@pytest.fixture
def devices(stand_in):
    pytest.importorskip("numba_cuda", reason="the extra `cuda` is not installed")
    return importlib.import_module("devices")


def device_kinds(devices):
    """How complex arrays come to a device: as Numba's, CuPy's, torch's, of an interface, by DLPack."""
    complex_numbers = 5  # DLPack's code
    return {"numba": devices.to_device, "cupy": devices.foreign,
            "torch": lambda x: devices.mapped(lambda a: devices.Tensor(devices.to_device(a), dtype=a.dtype.name), x),
            "interface": lambda x: devices.mapped(lambda a: devices.Interface(devices.to_device(a)), x),
            "dlpack": lambda x: devices.mapped(lambda a: devices.Packed(devices.to_device(a), complex_numbers), x)}


@pytest.mark.parametrize("library", ["numba", "cupy", "torch", "interface", "dlpack"])
def test_on_a_device(library, devices, cupy, monkeypatch):
    """A device has the CPU's bits; states come as complex arrays of the parameters' library; dicts move."""
    monkeypatch.setitem(importlib.import_module("sys").modules, "torch", devices.Torch)
    twins = importlib.import_module("twins")
    put = device_kinds(devices)[library]
    z = {"a": numbers(1, 23, 45), "b": orders(numbers(2, 9, 5), 1), "s": numbers(3), "none": numbers(4, 0, 3)}
    pair = twins.Twins(lambda p: fastopt.Adam(p, lr=0.1, average=0.9), z, put)
    for t, how in enumerate(({}, {"clip_norm": 1.0}, {"mask": {"a": np.arange(45) % 3 > 0, "b": True, "s": False,
                                                               "none": True}})):
        g = {k: np.asarray(numbers(10*t + n, *a.shape), order="F" if t == 1 else "C")
             for n, (k, a) in enumerate(z.items())}
        pair.step(g, **how)
    devices.wait()
    pair.same()
    seen = pair.on_device.state["m"]["a"]
    assert str(seen.dtype).removeprefix("torch.") == "complex64"
    assert tuple(seen.shape) == (23, 45)
    assert_identical(pair.on_device.decoded("average")["b"], pair.on_host.state["average"]["b"])
    again = fastopt.Adam({k: v.copy(order="K") for k, v in z.items()}, lr=0.1, average=0.9)
    again.load_state_dict(pair.on_device.state_dict())
    assert_identical(again.state["v"]["a"], pair.on_host.state["v"]["a"])
    pair.on_device.load_state_dict(again.state_dict())
    pair.same()


def test_lookahead_buffers_and_codes_on_a_device(devices):
    z = numbers(1, 300)
    p = devices.to_device(z)
    one, other = (fastopt.Nesterov(x, lr=0.1, state="q8") for x in (p, z))
    for t in range(3):
        g = numbers(t, 300)
        buffer = one.grads
        assert (buffer.dtype, buffer.shape) == (SINGLE, (300,))
        buffer.copy_to_device(g)
        one.step()
        other.step(g)
    assert_identical(devices.to_host(p), z)
    assert_identical(devices.to_host(one.lookahead()), other.lookahead())
    assert_identical(one.decoded("v"), other.decoded("v"))


def test_lazy_views_on_a_device(devices, monkeypatch):
    """torch's lazy conjugates and negatives are other numbers in the same memory: refused, even after their like."""
    monkeypatch.setitem(importlib.import_module("sys").modules, "torch", devices.Torch)

    def tensor():
        return devices.Tensor(devices.to_device(numbers(1, 6)), dtype="complex64")
    g = tensor()
    opt = fastopt.SGD(tensor(), lr=1.0)
    opt.step(g)
    opt.step(g)
    for bit, how in (("conj", "conjugated"), ("neg", "negated")):
        p = tensor()
        for x, call in ((g, lambda: opt.step(g)), (p, lambda p=p: fastopt.SGD(p))):
            setattr(x, bit, True)
            with pytest.raises(TypeError, match=rf"a torch tensor that is {how} when it is read, but its numbers must "
                                                rf"lie in memory\. Give x\.resolve_{bit}\(\)\."):
                call()
            setattr(x, bit, False)
    opt.step(g)
    assert opt.t == 3
    with pytest.raises(TypeError, match=r"dtype torch\.complex32, but one of .* is needed\. Give x\.to\(torch\.compl"):
        fastopt.SGD(devices.Tensor(devices.to_device(numbers(1, 6)), dtype="complex32"))
