"""fastopt.torch against torch's own optimizers: the same program with each gives the same parameters and states."""
import copy
import inspect
import io
import pickle
import warnings

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("expecttest")  # torch's table of inputs needs it

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from torch.testing._internal.common_optimizers import OptimizerErrorEnum, optim_db

from torch.optim.optimizer import register_optimizer_step_pre_hook  # noqa: E402

import fastopt  # noqa: E402
import fastopt.torch as ours  # noqa: E402
from fastopt import rules  # noqa: E402
from fastopt._cpu import pool, torch_headers, torch_steps  # noqa: E402
from fastopt.torch.optimizers import MODIFIERS  # noqa: E402

f64 = torch.float64
theirs = torch.optim
NAMES = ["SGD", "Adam", "AdamW", "NAdam", "RAdam", "RMSprop", "Adagrad", "Rprop", "Adadelta", "Adamax"]
SPARSE = ["SGD", "Adagrad", "SparseAdam"]
INPUTS = {info.optim_cls.__name__: info for info in optim_db if info.optim_cls.__name__ in NAMES + SPARSE}
EXACT = {"rtol": 1e-12, "atol": 1e-13}
KINDS = [("SGD", {}), ("SGD", {"momentum": 0.9}), ("SGD", {"momentum": 0.9, "nesterov": True}), ("Adam", {}),
         ("AdamW", {"amsgrad": True}), ("NAdam", {}), ("RAdam", {}), ("RMSprop", {"momentum": 0.5, "centered": True}),
         ("Adagrad", {"lr_decay": 0.1}), ("Rprop", {"etas": (0.4, 1.3)}), ("Adadelta", {"rho": 0.8}), ("Adamax", {})]


@pytest.fixture(autouse=True)
def doubles():
    """NAdam's product and the counts are in torch's default dtype."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(f64)
    yield
    torch.set_default_dtype(before)


def model(seed=0):
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.Tanh(), torch.nn.Linear(7, 3))


def loss(net, t):
    torch.manual_seed(100 + t)
    return net(torch.randn(8, 5)).square().sum()


def train(net, opt, steps, first=0):
    for t in range(first, first + steps):
        opt.zero_grad()
        loss(net, t).backward()
        opt.step()


def same(found, expected, where="", **tolerances):
    """Two trees of tensors and numbers are alike."""
    if isinstance(expected, torch.Tensor):
        torch.testing.assert_close(found, expected, msg=lambda text: f"{where}: {text}", **{**EXACT, **tolerances})
    elif isinstance(expected, dict):
        assert found.keys() == expected.keys(), where
        for key in expected:
            same(found[key], expected[key], f"{where}[{key!r}]", **tolerances)
    elif isinstance(expected, (list, tuple)):
        assert len(found) == len(expected), where
        for k, (one, other) in enumerate(zip(found, expected, strict=True)):
            same(one, other, f"{where}[{k}]", **tolerances)
    else:
        assert found == pytest.approx(expected) if isinstance(expected, float) else found == expected, where


def both(program, **tolerances):
    """The program gets torch.optim, or fastopt.torch, and returns what must be alike."""
    found, expected = program(ours), program(theirs)
    same(found, expected, **tolerances)
    return found


def outcome(net, opt):
    return [list(net.parameters()), opt.state_dict()]


@pytest.mark.parametrize("name", NAMES)
def test_torchs_own_inputs(name):
    """All that torch's tests make its optimizers of, on dense, strided and 16-bit parameters, with its schedulers."""
    for given in INPUTS[name].optim_inputs_func(device="cpu"):
        def program(library, given=given):
            torch.manual_seed(1)
            w = [torch.nn.Parameter(x) for x in (torch.randn(4, 3), torch.randn(6, 2)[:, 0], torch.randn(2, 3).T,
                                                 torch.zeros(0), torch.randn(()))]
            kwargs = {k: v.to(torch.float32) if isinstance(v, torch.Tensor) else v for k, v in given.kwargs.items()}
            opt = getattr(library, name)(w, **kwargs)
            for _ in range(4):
                for x in w:
                    x.grad = torch.randn_like(x)
                opt.step()
            return [w, opt.state_dict()]
        both(program, rtol=1e-6 if any(isinstance(v, torch.Tensor) for v in given.kwargs.values()) else 1e-12)
    for schedulers in INPUTS[name].scheduler_inputs:
        def program(library, schedulers=schedulers):
            net = model()
            opt = getattr(library, name)(net.parameters(), lr=0.01)
            plans = [make(opt) for make in schedulers]
            for t in range(12):
                train(net, opt, 1, t)
                for plan in plans:
                    plan.step(*[float(t)]*isinstance(plan, torch.optim.lr_scheduler.ReduceLROnPlateau))
            return outcome(net, opt)
        both(program)


@pytest.mark.parametrize("name", NAMES)
def test_torchs_own_inputs_for_complex_parameters(name):
    """Dense, strided, of no dimension; a gradient that is a conjugate; all by checkpoints, the third step torch's."""
    for given in INPUTS[name].optim_inputs_func(device="cpu"):
        assert INPUTS[name].supports_complex
        for dtype in (torch.complex64, torch.complex128):
            def program(library, given=given, dtype=dtype):
                torch.manual_seed(1)
                w = [torch.nn.Parameter(x) for x in (
                    torch.randn(4, 3, dtype=dtype), torch.randn(6, 2, dtype=dtype)[:, 0], torch.randn((), dtype=dtype),
                    torch.randn(2, 3, dtype=dtype).T, torch.randn(3))]
                kwargs = {k: v.to(torch.float32) if isinstance(v, torch.Tensor) else v for k, v in given.kwargs.items()}
                opts = [getattr(of, name)(w, **kwargs) for of in (library, library, theirs, library)]
                for t in range(4):
                    for x in w:
                        x.grad = torch.randn_like(x).conj() if t == 1 else torch.randn_like(x)
                        if opts[t].__module__ != ours.SGD.__module__:
                            x.grad = x.grad.resolve_conj()  # torch's Adam refuses the conjugates
                    opts[t].step()
                    if t < 3:
                        opts[t + 1].load_state_dict(opts[t].state_dict())
                return [w, opts[3].state_dict()]
            rough = dtype == torch.complex64 or any(isinstance(v, torch.Tensor) for v in given.kwargs.values())
            both(program, **({"rtol": 1e-5, "atol": 1e-6} if rough else {"rtol": 1e-12}))


def test_parameters_that_are_conjugates_or_negatives():
    """Views whose memory holds other numbers than they have."""
    z = torch.randn(4, dtype=torch.complex128)
    for view in (z.conj(), z.conj().imag, torch.complex(z.real, z.imag).conj()[::2]):
        assert view.is_conj() or view.is_neg()
        p, q = (torch.nn.Parameter(x) for x in (view, view.resolve_conj().resolve_neg().clone()))
        g = torch.randn_like(q)
        for x, library in ((p, ours), (q, theirs)):
            opt, x.grad = library.Adam([x], lr=0.1), g
            opt.step()
            opt.step()
        same(p.detach().resolve_conj().resolve_neg(), q.detach())


@pytest.mark.parametrize("state", ["f32", "bf16", "q8"])
def test_states_of_complex_parameters_in_few_bytes(state):
    """The bits of fastopt's own optimizer, through a checkpoint in the middle."""
    torch.manual_seed(0)
    w = [torch.nn.Parameter(torch.randn(n, dtype=torch.complex64)) for n in (300, 7)]
    v = [x.detach().numpy().copy() for x in w]
    opt, twin = ours.Adam(w, lr=0.1, state=state), fastopt.Adam(v, lr=0.1, state=state)
    for t in range(4):
        for x in w:
            x.grad = torch.randn_like(x)
        opt.step()
        twin.step([x.grad.numpy() for x in w])
        if t == 1:
            saved = opt.state_dict()
            opt = ours.Adam(w, lr=0.1, state=state)
            opt.load_state_dict(saved)
        for x, y in zip(w, v, strict=True):
            np.testing.assert_array_equal(x.detach().numpy(), y)


def sparse(seed, shape, dims):
    """A gradient of few entries, some of which are there twice."""
    torch.manual_seed(seed)
    at = torch.stack([torch.randint(0, n, (4,)) for n in shape[:dims]])
    at = torch.cat([at, at[:, :2]], 1)
    return torch.sparse_coo_tensor(at, torch.randn(6, *shape[dims:]), shape, check_invariants=True)


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
@pytest.mark.parametrize("name", SPARSE)
def test_torchs_own_inputs_with_sparse_gradients(name):
    """In rows, and where torch's formula needs no rows in single entries, too; a lookup table of a network."""
    refused = 0
    for given in INPUTS[name].optim_inputs_func(device="cpu"):
        kwargs = {k: v for k, v in given.kwargs.items() if k not in ("foreach", "fused")}
        if kwargs.get("weight_decay") or any(isinstance(v, torch.Tensor) for v in kwargs.values()):
            refused += 1  # by torch, or mixes float types
            continue

        def program(library, kwargs=kwargs):
            torch.manual_seed(1)
            shapes = [((9, 3), 1), ((9,), 1), ((7, 2, 2), 1)] + [((6, 4), 2)]*(name != "SparseAdam")
            w = [torch.nn.Parameter(torch.randn(shape)) for shape, _ in shapes]
            opts = [getattr(of, name)(w, **kwargs) for of in (library, library, theirs, library)]
            for t in range(4):
                for k, (x, (shape, dims)) in enumerate(zip(w, shapes, strict=True)):
                    x.grad = None if k == t else sparse(10*t + k, shape, dims)
                opts[t].step()
                if t < 3:
                    opts[t + 1].load_state_dict(opts[t].state_dict())
            states = [{n: s.to_dense() if isinstance(s, torch.Tensor) else float(s) for n, s in opts[3].state[x].items()
                       if s is not None} for x in w]
            return [w, [{n: s.double() if n != "step" else float(s) for n, s in of.items()} for of in states]]
        both(program)
    assert refused < len(INPUTS[name].optim_inputs_func(device="cpu"))

    def network(library):
        torch.manual_seed(2)
        table = torch.nn.Embedding(50, 6, sparse=True, padding_idx=0)
        opt = getattr(library, name)(table.parameters(), lr=0.1)
        for t in range(5):
            opt.zero_grad()
            torch.manual_seed(t)
            table(torch.randint(0, 50, (8,))).square().sum().backward()
            opt.step()
        return list(table.parameters())
    both(network)


def test_sparse_gradients_that_torch_refuses():
    """Adam and the others step the rows that are hit, as `fastopt.Rows` says; single entries they refuse."""
    w, v = torch.nn.Parameter(torch.ones(9, 3)), np.ones((9, 3))
    opt, twin = ours.AdamW([w], lr=0.1), fastopt.AdamW(v, lr=0.1)
    for t in range(3):
        w.grad = sparse(t, (9, 3), 1)
        twin.step(fastopt.Rows(w.grad._indices()[0].numpy(), w.grad._values().numpy()))
        opt.step()
        np.testing.assert_array_equal(w.detach().numpy(), v)
    before, w.grad = w.detach().clone(), sparse(0, (9, 3), 2)
    with pytest.raises(TypeError, match=r"the gradient of params\[0\]\[0\]: a torch tensor without a NumPy view"):
        opt.step()
    assert torch.equal(w.detach(), before)


@pytest.mark.parametrize("name", NAMES)
def test_torchs_own_error_inputs(name):
    for given in INPUTS[name].optim_error_inputs_func(device="cpu", dtype=torch.float32):
        assert given.error_on == OptimizerErrorEnum.CONSTRUCTION_ERROR
        params = given.optimizer_error_input.params
        params = [torch.zeros(3)] if params is None else params
        context = pytest.warns if issubclass(given.error_type, Warning) else pytest.raises
        with context(given.error_type, match=given.error_regex):
            getattr(ours, name)(params, **given.optimizer_error_input.kwargs)


@pytest.mark.parametrize("name", [*NAMES, "SparseAdam"])
def test_signatures_are_torchs(name):
    found, expected = (inspect.signature(getattr(of, name)).parameters for of in (ours, theirs))
    more = ["state", "rounding", "seed", *MODIFIERS]
    assert [*found.values()][:-len(more)] == [*expected.values()]
    assert [*found][-len(more):] == more
    assert issubclass(getattr(ours, name), getattr(theirs, name))


@pytest.mark.parametrize(("name", "how"), KINDS)
def test_gradients_that_are_none_and_groups_that_are_added(name, how):
    def program(library):
        net, more = model(), model(1)
        parts = [net[0].weight, net[0].bias, net[2].weight]
        opt = getattr(library, name)(parts, lr=0.01, **how)
        seen = []
        for t, frozen in enumerate([(), (1,), (1, 2), (0, 1, 2), (0,), ()]):
            for k, p in enumerate(parts):
                p.requires_grad_(k not in frozen)
            opt.zero_grad()
            if len(frozen) < 3:
                loss(net, t).backward()
            opt.step()
            seen.append([p.detach().clone() for p in parts])
        opt.add_param_group({"params": more[0].parameters(), "lr": 0.02})
        opt.zero_grad()
        (loss(net, 7) + loss(more, 7)).backward()
        opt.step()
        return [seen, outcome(net, opt), list(more.parameters())]
    both(program)


@pytest.mark.parametrize(("name", "how"), KINDS)
def test_checkpoints_go_both_ways(name, how):
    """From torch to ours and back, by `load_state_dict`, files, pickle and deepcopy, within one training."""
    expected = model()
    reference = getattr(theirs, name)(expected.parameters(), lr=0.01, **how)
    train(expected, reference, 12)
    net, kinds = model(), [theirs, ours, ours, theirs, ours]
    opt = getattr(kinds[0], name)(net.parameters(), lr=0.01, **how)
    for k, kind in enumerate(kinds[1:]):
        train(net, opt, 2, 2*k)
        file = io.BytesIO()
        torch.save(opt.state_dict(), file)
        file.seek(0)
        opt = getattr(kind, name)(net.parameters(), lr=1.0, **how)
        opt.load_state_dict(torch.load(file, weights_only=True))
    net, opt = copy.deepcopy((net, opt))
    train(net, opt, 2, 8)
    net, opt = pickle.loads(pickle.dumps((net, opt)))
    assert type(opt) is getattr(ours, name)
    train(net, opt, 2, 10)
    same(outcome(net, opt), outcome(expected, reference), rtol=1e-9)


def test_loading_copies_and_does_not_convert():
    p = [torch.nn.Parameter(torch.randn(300).bfloat16())]
    opts = [ours.Adam(p, lr=0.1, state=state) for state in (None, None, "q8", "q8", "bf16s")]
    p[0].grad = torch.randn(300).bfloat16()
    for opt in opts[::2]:
        opt.step()
    assert opts[0].state[p[0]]["exp_avg"].dtype == torch.float32
    assert opts[2].state[p[0]]["exp_avg"].dtype == torch.uint8
    opts[1].load_state_dict(opts[0].state_dict())
    opts[3].load_state_dict(opts[2].state_dict())
    for one, other in (opts[:2], opts[2:4]):
        for name, x in one.state[p[0]].items():
            assert torch.equal(other.state[p[0]][name], x)
            assert other.state[p[0]][name].dtype == x.dtype
            assert other.state[p[0]][name].data_ptr() != x.data_ptr()
    values = opts[0].state[p[0]]["exp_avg_sq"].clone()
    p[0].grad = torch.zeros(300).bfloat16()
    rounded = (1 + 2**-4)**4 - 1  # four times to blocks of eight bits, which have four digits
    for opt in opts[1:]:  # each format becomes each other
        for one, other in ((opts[0], opt), (opt, opts[0])):
            other.load_state_dict(one.state_dict())
            other.step()
            values *= 0.999
        torch.testing.assert_close(opts[0].state[p[0]]["exp_avg_sq"], values, rtol=rounded, atol=1e-6)


@pytest.mark.parametrize(("name", "how"), KINDS)
def test_closures_hooks_and_replaced_memory(name, how):
    def program(library):
        net, seen = model(), []
        opt = getattr(library, name)(net.parameters(), lr=0.01, **how)
        opt.register_step_pre_hook(lambda *_: seen.append("before"))
        opt.register_step_post_hook(lambda *_: seen.append("after"))

        def closure():
            opt.zero_grad(set_to_none=False)
            found = loss(net, 0)
            found.backward()
            return found
        for t in range(6):
            seen.append(opt.step(closure).detach())
            for p in net.parameters():
                if t == 2:
                    p.data = p.data.clone()
                if t == 3:
                    p.data[:] = p.data + 0.01
                for x in opt.state[p]:
                    if t == 4 and opt.state[p][x] is not None:
                        opt.state[p][x] = opt.state[p][x].clone() if x == "step" else opt.state[p][x]/2
        return [seen, outcome(net, opt)]
    both(program)


@pytest.mark.parametrize("name", ["SGD", "Adam"])
def test_schedulers_that_edit_betas_and_momentum(name):
    def program(library):
        schedule, seen = torch.optim.lr_scheduler, []
        for make in (lambda opt: schedule.OneCycleLR(opt, 0.1, total_steps=10),
                     lambda opt: schedule.CyclicLR(opt, 0.01, 0.1, step_size_up=3),
                     lambda opt: schedule.CosineAnnealingWarmRestarts(opt, 3)):
            net = model()
            opt = getattr(library, name)(net.parameters(), lr=0.05, **({"momentum": 0.9} if name == "SGD" else {}))
            plan = make(opt)
            for t in range(8):
                train(net, opt, 1, t)
                plan.step()
            seen.append(outcome(net, opt))
        return seen
    both(program)


def test_flags_of_groups_change_the_rule():
    def program(library):
        net = model()
        opt = library.SGD([{"params": net[0].parameters(), "momentum": 0.9}, {"params": net[2].parameters()}], lr=0.01)
        train(net, opt, 2)
        opt.param_groups[1]["momentum"] = 0.5
        train(net, opt, 2, 2)
        opt.param_groups[0]["nesterov"] = True
        opt.param_groups[1]["maximize"] = True
        train(net, opt, 2, 4)
        opt.state.clear()
        train(net, opt, 1, 6)
        return outcome(net, opt)
    both(program)


def test_models_that_become_double():
    net = model().float()
    opt = ours.Adam(net.parameters(), lr=0.01)
    torch.set_default_dtype(torch.float32)
    train(net, opt, 2)
    net.double()
    torch.set_default_dtype(f64)
    before = [opt.state[p]["exp_avg"].clone() for p in net.parameters()]
    opt.zero_grad()
    loss(net, 3).backward()
    opt.step()
    for p, old in zip(net.parameters(), before, strict=True):
        assert opt.state[p]["exp_avg"].dtype == f64
        torch.testing.assert_close(opt.state[p]["exp_avg"], 0.9*old.double() + 0.1*p.grad)
        assert opt.state[p]["step"] == 3


def test_gradient_scalers():
    def program(library):
        net = model().float()
        opt = library.AdamW(net.parameters(), lr=0.01)
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=2)
        for t in range(6):
            opt.zero_grad()
            scaler.scale(net(torch.full((4, 5), float(t), dtype=torch.float32)).square().sum()).backward()
            if t == 3:
                net[0].weight.grad[0, 0] = float("inf")
            scaler.step(opt)
            scaler.update()
        return [list(net.parameters()), scaler.get_scale(), [opt.state[p]["step"] for p in net.parameters()]]
    both(program, rtol=1e-5, atol=1e-6)


def test_any_rule_is_an_optimizer_of_torch():
    @fastopt.rule(state="v", lr=0.01, mu=0.9)
    def heavy_ball(c, g, p, v):
        v = c.mu*v + g
        u = c.lr*v
        return u, v
    net, w = model(), [p.detach().numpy().copy() for p in model().parameters()]
    for rule, how, given in ((heavy_ball, {"mu": 0.8}, {"mu": 0.8}),
                             (rules.lion, {"betas": (0.8, 0.9)}, {"b1": 0.8, "b2": 0.9}),
                             (rules.adan, {"weight_decay": 0.1}, {"weight_decay": 0.1})):
        opt, twin = ours.optimizer(rule)(net.parameters(), lr=0.02, **how), fastopt.optimizer(rule)(w, lr=0.02, **given)
        for t in range(3):
            opt.zero_grad()
            loss(net, t).backward()
            twin.step([p.grad.numpy() for p in net.parameters()])
            opt.step()
        for p, x in zip(net.parameters(), w, strict=True):
            np.testing.assert_array_equal(p.detach().numpy(), x)
    assert type(pickle.loads(pickle.dumps(ours.Lion(net.parameters())))) is ours.Lion
    with pytest.raises(TypeError, match="no rule"):
        ours.optimizer(3)


MODIFIED = [("AdamW", {"cautious": True, "cautious_decay": True, "update_clip": 0.5, "grokfast": (0.7, 1.5)}, "adamw"),
            ("AdamW", {"grokfast": True, "amsgrad": True, "state": "q8"}, "amsgrad"),
            ("AdamW", {"grokfast": True, "trust_ratio": "update", "adaptive_clip": 0.5, "state": "bf16s"}, "adamw"),
            ("SGD", {"momentum": 0.8, "cautious": True, "grokfast": (0.9, 3.0)}, "momentum"),
            ("NAdam", {"update_clip": 0.3, "grokfast": (0.5, 1.0), "state": "bf16s"}, "nadam"),
            ("Lion", {"cautious": True, "grokfast": (0.6, 2.0)}, "lion"),
            ("AdamW", {"mars": 0.3, "grokfast": (0.6, 2.0), "state": "q8"}, "adamw"),
            ("NAdam", {"mars": True}, "nadam"), ("Lion", {"mars": 0.1, "schedule_free": 0.7}, "lion"),
            ("AdamW", {"schedule_free": True}, "adamw"),
            ("AdamW", {"schedule_free": 0.8, "amsgrad": True, "cautious": True, "grokfast": True, "state": "q8"},
             "amsgrad"),
            ("RMSprop", {"schedule_free": 0.95, "state": {"schedule_free": "bf16s"}, "seed": 3}, "rmsprop"),
            ("SGD", {"schedule_free": 0.0}, "sgd")]


@pytest.mark.parametrize(("name", "how", "rule"), MODIFIED)
def test_modifiers_are_fastopts(name, how, rule):
    """The bits of fastopt's optimizer: through checkpoints, copies, torch's own state, a group that says otherwise."""
    torch.manual_seed(0)
    w = [torch.nn.Parameter(torch.randn(n, dtype=torch.float32)) for n in (300, 7)]
    v = [x.detach().numpy().copy() for x in w]
    groups = [{"params": [w[0]]}, {"params": [w[1]], "update_clip": 0.1, "cautious": False}]
    kwargs, lrs = {"lr": 0.0, "weight_decay": 0.1*(name == "AdamW"), **how}, (0.02, 0.1, 0.1, 0.1, 0.1, 0.05)
    opt = getattr(ours, name)([dict(g) for g in groups], **kwargs)
    decay = {"decay": "decoupled"} if name == "AdamW" else {}
    twin = fastopt.optimizer(getattr(rules, rule))(
        [{**g, "params": [x]} for g, x in zip(groups, v, strict=True)], like="torch"*(rule != "lion") or None, **decay,
        **{k: x for k, x in kwargs.items() if k != "amsgrad"})
    asked = {k: x for k, x in how.items() if k in MODIFIERS}
    for t, lr in enumerate(lrs):
        for x in w:
            x.grad = torch.randn_like(x)
        for group in (*opt.param_groups, *twin.groups):
            group["lr"] = lr
        twin.step([[x.grad.numpy()] for x in w])
        opt.step()
        for x, y in zip(w, v, strict=True):
            np.testing.assert_array_equal(x.detach().numpy(), y)
        if t in (1, 2):  # lr stays for some steps more, and changes then
            saved = copy.deepcopy(opt.state_dict())
            states = ["mars", "grokfast", "schedule_free"]
            assert [k for k in states if k in saved["state"][0]] == [k for k in states if k in how]
            assert saved["param_groups"][0].items() >= asked.items()
            assert saved["param_groups"][1].items() >= {**asked, "update_clip": 0.1, "cautious": False}.items()
            kinds = {k: how[k] for k in ("state", "seed") if k in how}
            opt = getattr(ours, name)([{"params": [x]} for x in w], lr=0.7, **kinds)
            opt.load_state_dict(saved)
        if "schedule_free" in how:
            opt.eval()
            for x, [y] in zip(w, twin.evaluation_point(), strict=True):
                np.testing.assert_array_equal(x.detach().numpy(), y)
            opt.train()
            for x, y in zip(w, v, strict=True):
                np.testing.assert_array_equal(x.detach().numpy(), y)
        if t == 3 and "grokfast" in how:
            opt.param_groups[1]["grokfast"], twin.groups[1]["grokfast_factor"] = (0.5, 4.0), 4.0
            twin.groups[1]["grokfast_share"] = 0.5
    other = copy.deepcopy(opt)
    again = pickle.loads(pickle.dumps(opt))
    for one in (other, again):
        assert one.param_groups[1].get("grokfast") == ((0.5, 4.0) if "grokfast" in how else None)
        q = [g["params"][0] for g in one.param_groups]
        for x, y in zip(q, w, strict=True):
            x.grad = y.grad
        one.step()
        same(q, w if one is again else [x.clone() for x in q])
        if one is other:
            opt.step()


def test_weights_of_schedule_free_averages():
    """Each parameter counts its own steps; a warm-up, a constant lr and a fall, resumed anywhere, with equal bits."""
    torch.manual_seed(1)
    gs = [[torch.randn(9) if (t + k) % 3 else None for k in range(2)] for t in range(12)]
    lrs = [0.1*min(1, (t + 1)/4)*(1 if t < 9 else 0.3) for t in range(12)]

    def walked(pauses):
        w = [torch.nn.Parameter(torch.ones(9)) for _ in range(3)]
        opt = ours.SGD(w, lr=1.0, schedule_free=0.8)
        for t, lr in enumerate(lrs):
            if t in pauses:
                saved = copy.deepcopy(opt.state_dict())
                opt = ours.SGD(w, lr=1.0)
                opt.load_state_dict(saved)
            opt.param_groups[0]["lr"] = lr
            for p, g in zip(w, gs[t], strict=False):
                p.grad = g
            opt.step()
            opt.zero_grad()
        opt.eval()
        return [p.detach().clone() for p in w]
    points, v = walked(()), [np.ones(9) for _ in range(2)]
    for pauses in ((3,), (6,), (9, 10, 11)):
        for one, other in zip(walked(pauses), points, strict=True):
            assert torch.equal(one, other), pauses
    twin = fastopt.SGD(v, lr=1.0, schedule_free=0.8)
    for lr, g in zip(lrs, gs, strict=True):
        twin.groups[0]["lr"] = lr
        twin.step([None if x is None else x.numpy() for x in g])
    for x, y in zip(points, twin.evaluation_point(), strict=False):
        np.testing.assert_array_equal(x.numpy(), y)
    assert torch.equal(points[2], torch.ones(9))  # it never had a gradient


def mixed():
    """Parameters of all kinds, in groups that ask for schedule_free and one that does not; some without a gradient."""
    torch.manual_seed(2)
    w = [torch.nn.Parameter(x) for x in (
        torch.randn(300, dtype=torch.bfloat16), torch.randn(6, 4)[::2], torch.randn(5, dtype=torch.complex128).conj(),
        torch.randn(()), torch.zeros(0), torch.randn(4), torch.randn(3))]
    opt = ours.AdamW([{"params": w[:4]}, {"params": w[4:6], "schedule_free": 0.5},
                      {"params": w[6:], "schedule_free": False}], lr=0.1, schedule_free=True, rounding="remainder")
    return w, opt


def steps(w, opt, first, last):
    for t in range(first, last):
        torch.manual_seed(10 + t)
        for p in w:
            p.grad = None if p is w[5] or (p is w[3] and t % 2) else torch.randn_like(p).resolve_conj()
        opt.step()


@pytest.mark.parametrize("way", ["state dict", "deepcopy", "pickle"])
def test_the_point_to_evaluate_and_back(way):
    w, opt = mixed()
    opt.train()
    opt.eval()
    opt.train()  # before any step
    steps(w, opt, 0, 3)
    before, engines = [p.detach().clone() for p in w], opt._engines
    opt.eval()
    points = [p.detach().clone() for p in w]
    assert [not torch.equal(x, y) for x, y in zip(points, before, strict=True)] == [True]*4 + [False]*3
    for k in (1, 3):
        torch.testing.assert_close(points[k], before[k] + opt.state[w[k]]["schedule_free"])
    opt.eval()
    with pytest.raises(RuntimeError, match=r"AdamW.step: the parameters are at the point .* Call opt.train\(\) before"):
        opt.step(lambda: pytest.fail("the closure is called"))
    if way == "state dict":  # into another model and its optimizer, with their files
        file = io.BytesIO()
        torch.save([[p.detach() for p in w], opt.state_dict()], file)
        file.seek(0)
        model, saved = torch.load(file, weights_only=True)
        q, other = mixed()
        for p, x in zip(q, model, strict=True):
            p.data.copy_(x)
        other.load_state_dict(saved)
    else:
        q, other = copy.deepcopy((w, opt)) if way == "deepcopy" else pickle.loads(pickle.dumps((w, opt)))
    for params, one in ((w, opt), (q, other)):
        for p, x in zip(params, points, strict=True):
            assert torch.equal(p.detach(), x)
        with pytest.raises(RuntimeError, match=r"AdamW.step: "):
            one.step()
        one.train()
        for p, x in zip(params, before, strict=True):
            assert torch.equal(p.detach(), x)
        assert not any("train_point" in entry for entry in one.state.values())
    assert opt._engines is engines
    expected, straight = mixed()
    steps(expected, straight, 0, 5)
    for params, one in ((w, opt), (q, other)):
        steps(params, one, 3, 5)
        one.eval()
        one.train()
        for p, x in zip(params, expected, strict=True):
            assert torch.equal(p.detach(), x.detach())


def test_optimizers_without_schedule_free_have_no_other_point():
    net = model()
    opt = ours.Adam(net.parameters(), lr=0.1)
    train(net, opt, 1)
    before = [p.detach().clone() for p in net.parameters()]
    opt.eval()
    same([p.detach() for p in net.parameters()], before, rtol=0, atol=0)
    train(net, opt, 1, 1)


def test_modifiers_of_checkpoints_that_lack_them():
    """Torch's own dicts say nothing of modifiers: those of the optimizer stay, and so they do in torch's classes."""
    w = [torch.nn.Parameter(torch.randn(5)) for _ in range(2)]
    old = theirs.AdamW([w[0]], lr=0.3)
    w[0].grad = w[1].grad = torch.randn(5)
    old.step()
    new = ours.AdamW([w[1]], cautious=True, grokfast=(0.9, 1.0))
    new.load_state_dict(old.state_dict())
    assert {"lr": 0.3, "cautious": True, "grokfast": (0.9, 1.0)}.items() <= new.param_groups[0].items()
    new.step()
    np.testing.assert_allclose(new.state[w[1]]["grokfast"], 0.1*w[1].grad, rtol=1e-12)
    old.load_state_dict(new.state_dict())
    same(old.state[w[0]]["exp_avg"], new.state[w[1]]["exp_avg"])
    assert "cautious" not in ours.AdamW([w[1]]).state_dict()["param_groups"][0]
    new.add_param_group({"params": [torch.nn.Parameter(torch.ones(2))], "cautious": False})
    assert [g["cautious"] for g in new.param_groups] == [True, False]
    new.param_groups[0]["grokfast"] = None  # from now on none
    w[1].grad = -w[1].grad
    kept = new.state[w[1]]["grokfast"].clone()
    new.step()
    assert torch.equal(new.state[w[1]]["grokfast"], kept)


@pytest.mark.parametrize("how", [{"state": "q8"}, {"rounding": "remainder"},
                                 {"rounding": "stochastic", "state": "bf16s"},
                                 {"state": lambda path, x: "q8" if x.numel() > 10 else "f32"}])
def test_formats_are_fastopts(how):
    """The bits of fastopt's optimizer, through a pause in the middle and a group that joins."""
    def parameters():
        torch.manual_seed(0)
        return [torch.randn(n, dtype=torch.bfloat16) for n in (300, 7, 130)]
    w, v = [torch.nn.Parameter(x) for x in parameters()], parameters()
    opt, twin = ours.AdamW(w, lr=0.01, seed=3, **how), fastopt.AdamW([v], lr=0.01, seed=3, **how)
    for t in range(5):
        for x in w:
            x.grad = torch.randn(x.shape, dtype=torch.bfloat16)
        twin.step([[x.grad for x in w]])
        opt.step()
        if t == 2:
            saved = opt.state_dict()
            opt = ours.AdamW(w, lr=0.01, seed=3, **how)
            opt.load_state_dict(saved)
        for x, y in zip(w, v, strict=True):
            assert torch.equal(x.detach(), y)


def test_a_rounding_that_has_no_effect_is_said():
    """At the first step, if all parameters are wider: once, at the program's line, whatever of torch lies between.

    Else it is silent: if parameters of 16 bits come later, and when optimizers are made for each rule.
    """
    half, wide = (torch.nn.Parameter(torch.ones(5, dtype=kind)) for kind in (torch.bfloat16, torch.float32))
    for x in (half, wide):
        x.grad = torch.full_like(x, 2.0**-10)
    for rounding in ("stochastic", "remainder"):
        opt = ours.AdamW([wide, wide.detach().to(torch.complex64)], rounding=rounding, lr=0.0, weight_decay=0.0)
        torch.optim.lr_scheduler.ConstantLR(opt)  # it wraps `step`
        with pytest.warns(match=f"^AdamW: rounding='{rounding}' is for parameters of 16 bits, but none of") as said:
            opt.step()
        assert [w.filename for w in said] == [__file__]
        copy.deepcopy(opt).step()
        opt.add_param_group({"params": [wide.detach().clone()]})
        opt.step()
        opt = ours.SGD([wide], lr=0.0, rounding=rounding)
        opt.add_param_group({"params": [half]})
        opt.step()
        opt = ours.SGD([{"params": [half]}, {"params": [wide], "momentum": 0.9}], lr=1.0, rounding=rounding)
        opt.step()
    assert torch.equal(wide.detach(), torch.full((5,), 1 - 2.0**-9, dtype=torch.float32))


def test_hyperparameters_that_change_in_place():
    def program(library):
        net, lr = model(), torch.tensor(0.01)
        opt = library.Adam(net.parameters(), lr=lr, foreach=False)
        for t in range(5):
            train(net, opt, 2, 2*t)
            lr.mul_(0.5)
        return list(net.parameters())
    both(program)


@pytest.mark.parametrize("name", ["SGD", "AdamW", "RMSprop"])
def test_parameters_and_gradients_in_any_layout(name):
    """Parameters of convolutions, transposed, with gaps, empty, of no dimension; gradients alike, dense and strided."""
    def program(library):
        torch.manual_seed(3)
        base, out = torch.randn(3, 8), []
        w = [torch.nn.Parameter(x) for x in (
            torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last), torch.randn(4, 6).T, torch.randn(6, 4)[::2],
            torch.randn(3, 4, 5).permute(1, 2, 0), base[:, :3], base[:, 3:], torch.randn(()), torch.zeros(3, 0, 2))]
        opt = getattr(library, name)(w, lr=0.1)
        for t in range(6):
            for x in w:
                wide = torch.randn(*x.shape, 2)
                x.grad = (wide[..., 0].contiguous(), torch.randn_like(x), wide[..., 0])[t % 3]
            opt.step()
            out += [x.detach().clone() for x in w]
        return [out, opt.state_dict()["state"]]
    both(program)


def test_parameters_that_share_memory():
    def program(library):
        x = torch.ones(6)
        w = [torch.nn.Parameter(part) for part in (x, x[2:], x[:2], x.flip(0)[:0], x[::2])]
        opt = library.Adam(w, lr=0.1, foreach=False)
        for t in range(4):
            for k, p in enumerate(w):
                p.grad = torch.full_like(p, 1.0 + k - t)
            opt.step()
        return x
    both(program)
    p = torch.nn.Parameter(torch.ones(2))
    with pytest.warns(UserWarning, match="duplicate parameters"):
        opt = ours.SGD([p, p], lr=0.1)
    p.grad = torch.ones(2)
    with pytest.raises(ValueError, match=r"SGD: params\[0\]\[1\] is params\[0\]\[0\] again"):
        opt.step()


def test_hooks_for_all_optimizers_and_the_profiler():
    seen, net = [], model()
    opt = ours.Adam(net.parameters(), lr=0.01)
    train(net, opt, 1)
    for register in (register_optimizer_step_pre_hook, opt.register_step_post_hook):
        handle = register(lambda *given: seen.append(given))
        opt.step()
        opt.step(lambda: torch.ones(()))
        handle.remove()
    opt.step()
    assert [(of is opt, len(args), kwargs) for of, args, kwargs in seen] == [(True, 1, {}), (True, 2, {})]*2
    with torch.autograd.profiler.profile() as profile:
        opt.step()
    assert "Optimizer.step#Adam.step" in [event.key for event in profile.key_averages()]


@pytest.mark.parametrize("read", [True, False])
def test_new_gradients_bind_nothing_anew(read, monkeypatch):
    """Whether the structure of tensors is known or not; with it the next step is ready."""
    if not read:
        monkeypatch.setattr(torch_headers, "usable", lambda: False)
    net, expected = model(), model()
    opts = ours.AdamW(net.parameters(), lr=0.01), theirs.AdamW(expected.parameters(), lr=0.01)
    held, bound = [], []
    for t in range(6):
        train(net, opts[0], 1, t)
        train(expected, opts[1], 1, t)
        held += [p.grad for p in net.parameters()]  # so that the next ones lie elsewhere
        backend = opts[0]._engines[0].opt._backend
        bound.append((backend.binding.headers, backend._ready))
    assert bound[1][1] is not None
    assert all(one == bound[1] for one in bound[1:])
    same([list(net.parameters()), opts[0].state_dict()], [list(expected.parameters()), opts[1].state_dict()])


class Other(torch.Tensor):
    pass


def own_state(p, opt, **values):
    opt.state[p] = {**opt.state[p], **values}


CHANGES = {
    "memory": lambda p, opt: setattr(p, "data", p.data.clone()),
    "memory order": lambda p, opt: setattr(p, "data", p.data.t().contiguous().t()),
    "no gradient": lambda p, opt: setattr(p, "grad", None),
    "no gradients": lambda p, opt: opt.zero_grad(),
    "frozen": lambda p, opt: (p.requires_grad_(False), setattr(p, "grad", None)),
    "order of a gradient": lambda p, opt: setattr(p, "grad", p.grad.t().contiguous().t()),
    "strided gradient": lambda p, opt: setattr(p, "grad", torch.stack([p.grad, p.grad], -1)[..., 0]),
    "gradient of one number": lambda p, opt: setattr(p, "grad", p.grad.mean().expand_as(p)),
    "negative gradient": lambda p, opt: setattr(p, "grad", torch.complex(p.grad, p.grad).conj().imag),
    "parameter as gradient": lambda p, opt: setattr(p, "grad", torch.nn.Parameter(p.grad)),
    "class of a gradient": lambda p, opt: setattr(p, "grad", p.grad.as_subclass(Other)),
    "its own gradient": lambda p, opt: setattr(p, "grad", p.detach()),
    "state": lambda p, opt: opt.state[p].update(exp_avg=torch.ones_like(p)),
    "steps": lambda p, opt: opt.state[p].update(step=torch.tensor(9.0)),
    "numbers of steps": lambda p, opt: opt.state[p]["step"].fill_(9.0),
    "entry": lambda p, opt: own_state(p, opt, exp_avg_sq=torch.ones_like(p)),
    "no state": lambda p, opt: opt.state[p].clear(),
    "lr": lambda p, opt: opt.param_groups[0].update(lr=0.3),
    "fewer parameters": lambda p, opt: opt.state.pop(opt.param_groups[0]["params"].pop(2)),
}


@pytest.mark.parametrize("read", [True, False])
@pytest.mark.parametrize("change", CHANGES)
def test_each_step_looks_at_parameters_gradients_and_states(change, read, monkeypatch):
    """A step like the last one asks no tensor in Python, if their structure is known; whatever changes is noticed."""
    if not read:
        monkeypatch.setattr(torch_headers, "gradients_usable", lambda: False)
    taken, take = [], ours.Adam._take
    monkeypatch.setattr(ours.Adam, "_take", lambda opt, *given: (taken.append(t), take(opt, *given)))
    t = 0

    def program(library):
        nonlocal t
        net = torch.nn.Sequential(model(), torch.nn.Linear(3, 4), torch.nn.Linear(4, 2).requires_grad_(False))
        opt, p = library.Adam(net.parameters(), lr=0.01), net[0][2].weight
        for t in range(8):
            opt.zero_grad()
            loss(net, t).backward()
            if t == 4:
                CHANGES[change](p, opt)
            opt.step()
        return outcome(net, opt)
    both(program)
    assert {3, 7} & {*taken} == ({3, 7} if not read else {7} if change == "frozen" else set())


def test_gradients_of_large_tensors_are_kept_while_threads_work():
    """Kernels run without Python then, and another thread may drop a gradient."""
    def program(library):
        torch.manual_seed(3)
        w = torch.nn.Parameter(torch.randn(pool.SMALL, dtype=torch.float32))
        opt = library.AdamW([w], lr=0.1)
        for _ in range(5):
            w.grad = torch.randn_like(w)
            opt.step()
        return w.double()
    asked = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch_steps, "GRADIENT", lambda p: (asked.append(p), p.grad)[1])
        both(program, rtol=1e-5, atol=1e-6)
    assert len(asked) == 3


def test_compiled_programs_leave_the_step_alone():
    def program(library, wrap):
        net = model()
        opt = library.AdamW(net.parameters(), lr=0.01)
        step = wrap(lambda x: (opt.zero_grad(), net(x).square().sum().backward(), opt.step()))
        for t in range(3):
            torch.manual_seed(t)
            step(torch.randn(8, 5))
        return outcome(net, opt)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own
        found = program(ours, lambda f: torch.compile(f, backend="eager"))
    same(found, program(theirs, lambda f: f))


@pytest.mark.parametrize("began", [False, True])
def test_a_group_that_changes_is_called_as_torch_knows_it(began):
    """By torch's class and number, before the first step and later; put right, it goes on."""
    w = [torch.nn.Parameter(torch.ones(5)) for _ in range(3)]
    opt = ours.SGD([{"params": [x], "momentum": mu} for x, mu in zip(w, (0.0, 0.9, 0.9), strict=True)], lr=0.1)
    for x in w:
        x.grad = torch.ones(5)
    if began:
        opt.step()
    for name, bad in (("lr", -1.0), ("lr", lambda t: -1.0), ("momentum", 2.0), ("cautious", 3), ("mars", True)):
        had = opt.param_groups[2].pop(name, None)
        opt.param_groups[2][name] = bad
        with pytest.raises((TypeError, ValueError), match=rf"^SGD group 2( at step \d)?: {name}\b"):
            opt.step()
        opt.param_groups[2] |= {name: had}
        if had is None:
            del opt.param_groups[2][name]
    opt.step()
    assert torch.equal(w[1], w[2])


def test_a_group_that_is_wrong_stays_wrong_until_it_is_put_right():
    """Each step says so, and of several values that change none is in force; two may change that go only together."""
    w, v = torch.nn.Parameter(torch.ones(5)), torch.nn.Parameter(torch.ones(5))
    opt, other = (ours.Adam([x], lr=0.1, weight_decay=0.1) for x in (w, v))
    w.grad = v.grad = torch.ones(5)
    opt.step()
    other.step()
    opt.param_groups[0] |= {"lr": 5.0, "betas": (2.0, 0.999)}
    for _ in range(2):
        with pytest.raises(ValueError, match=r"^Adam group 0: b1 is 2\.0"):
            opt.step()
    opt.param_groups[0] |= {"lr": 0.1, "betas": (0.9, 0.999)}
    for more in {}, {"cautious_decay": True, "decoupled_weight_decay": True}:
        for of in opt, other:
            of.param_groups[0] |= more
            of.step()
        assert torch.equal(w, v)


def test_a_modifier_may_come_and_go():
    """One that no group had at first, and that a group has no more: as one that is there all along."""
    w, v = torch.nn.Parameter(torch.ones(5)), torch.nn.Parameter(torch.ones(5))
    opt, other = ours.SGD([w], lr=0.1), ours.SGD([v], lr=0.1, update_clip=1e9)
    for limit in (1e9, 0.02, 1e9):
        w.grad = v.grad = torch.arange(5.0)
        if limit < 1:
            opt.param_groups[0]["update_clip"] = limit
        else:
            opt.param_groups[0].pop("update_clip", None)
        other.param_groups[0]["update_clip"] = limit
        opt.step()
        other.step()
        assert torch.equal(w, v), limit
    assert torch.allclose(w, 1 - 0.1*(2*w.grad + w.grad.clamp(max=0.02)))


def test_autograd_sees_the_step():
    w = torch.nn.Parameter(torch.randn(3))
    opt, other = ours.SGD([w], lr=0.1), w.detach()
    for t in range(1, 6):
        found = (w*w).sum()
        w.grad = torch.ones(3)
        opt.step()
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            found.backward()
        assert w._version == other._version == t
    with torch.inference_mode():  # tensors of which autograd knows nothing
        w = torch.nn.Parameter(torch.zeros(3), requires_grad=False)
        opt = ours.SGD([w], lr=0.1)
        for _ in range(5):
            w.grad = torch.ones(3)
            opt.step()
    assert torch.allclose(w, torch.full((3,), -0.5))


def test_a_schedule_of_fastopt_as_lr_is_refused():
    """In a call, by place and by name, and in a group; the cure has the rates of the schedule."""
    rate, w = fastopt.schedules.linear(0.5, 0.1, 4), torch.nn.Parameter(torch.zeros(2))
    for call in (lambda: ours.SGD([w], rate), lambda: ours.SGD([w], lr=rate), lambda: ours.Lion([w], lr=rate),
                 lambda: ours.SGD([{"params": [w], "lr": rate}])):
        with pytest.raises(TypeError, match=r": lr is linear\(.+\), but torch's schedulers .+ Give lr=1\.0"):
            call()
    opt = ours.SGD([w], lr=1.0)
    schedule, rates = torch.optim.lr_scheduler.LambdaLR(opt, lambda t: rate(t + 1)), []
    for _ in range(4):
        rates.append(opt.param_groups[0]["lr"])
        opt.step()
        schedule.step()
    assert rates == [rate(t) for t in range(1, 5)]


def test_torchs_optimizers_are_not_saved_by_files(tmp_path):
    pytest.importorskip("safetensors")
    opt = ours.SGD([torch.nn.Parameter(torch.zeros(2))], momentum=0.9)
    for call, cure in ((fastopt.files.save, r"torch\.save\(opt\.state_dict\(\), path\)"),
                       (fastopt.files.load, r"opt\.load_state_dict\(torch\.load\(path\)\)")):
        with pytest.raises(TypeError, match=rf": opt is a SGD of torch, but an optimizer of arrays is .*{cure}\."):
            call(tmp_path/"a", opt)
    torch.save(opt.state_dict(), tmp_path/"a")
    opt.load_state_dict(torch.load(tmp_path/"a"))


def test_what_is_not_there_is_refused():
    w = torch.nn.Parameter(torch.randn(3, 2))
    with pytest.raises(ValueError, match="Adam: differentiable=True, but"):
        ours.Adam([w], differentiable=True)
    for bad, found in ((w.int(), "torch.int32"), (w.detach().to_sparse().requires_grad_(), "torch.sparse_coo")):
        with pytest.raises(TypeError, match=rf"Adam: params\[0\]\[1\] is {found}, but a dense tensor"):
            ours.Adam([w, bad])
    with pytest.raises(ValueError, match="SGD group 0: momentum"):
        ours.SGD([w], momentum=1.5)
    with pytest.raises(ValueError, match=r"SGD group 0: grokfast is 0\.9, but"):
        ours.SGD([w], grokfast=0.9)
    for call, error, message in (
            (lambda: ours.SGD([w], mars=0.1), TypeError, "SGD group 0: mars, but it needs the hyperparameter b1"),
            (lambda: ours.SGD([w], momentum=0.8, schedule_free=True), ValueError, "SGD group 0: momentum is 0.8 with "
             "schedule_free, which takes its place. Leave it at 0, and give schedule_free=0.8 for example."),
            (lambda: ours.AdamW([w], betas=(0.8, 0.9), schedule_free=True), ValueError, r"AdamW group 0: betas\[0\] is "
             r"0.8 with schedule_free, which takes its place. Leave it at 0.9, and give schedule_free=0.8"),
            (lambda: ours.NAdam([w], schedule_free=True), ValueError, "NAdam group 0: schedule_free, but nadam "),
            (lambda: ours.SGD([w], momentum=0.8, nesterov=True, schedule_free=True), ValueError, "but nesterov looks"),
            (lambda: ours.Adam([w], mars=True, schedule_free=True), ValueError, "Adam group 0: mars with schedule"),
            (lambda: ours.Adam([w], schedule_free=1.0), ValueError, "Adam group 0: schedule_free is 1.0")):
        with pytest.raises(error, match=message):
            call()
    for betas in ((0.0, 0.9), (0.9, 0.9)):
        assert ours.AdamW([w], betas=betas, schedule_free=0.8).param_groups[0]["schedule_free"] == 0.8
    assert ours.SGD([w], momentum=0.0, schedule_free=0.8).param_groups[0]["schedule_free"] == 0.8
    with pytest.raises(ValueError, match="Adam group 0: cautious_decay where weight decay is a part of the gradient"):
        ours.Adam([w], cautious_decay=True)
    assert ours.Adam([w], cautious_decay=True, decoupled_weight_decay=True).param_groups[0]["cautious_decay"]
    with pytest.raises(ValueError, match="SGD: rounding is 'up'"):
        ours.SGD([w], rounding="up")
    for state, error, message in (
            ("8bit", ValueError, "Adam group 0: state format '8bit' for m, but"),
            (torch.bfloat16, TypeError, "Adam group 0: state is torch.bfloat16, but the name of a format"),
            ({"exp_avg": "bf16"}, ValueError, "Adam group 0: state names 'exp_avg', but adam has m, v")):
        with pytest.raises(error, match=message):  # now, not at the first step
            ours.Adam([w], state=state)
    opt = ours.SGD([w], lr=0.1, momentum=0.9)
    w.grad = torch.ones(3, 2)
    opt.step()
    for name, bad, message in (("momentum_buffer", torch.ones(1), r"momentum_buffer of params.* has shape \(1,\)"),
                               ("step", 0.5, "state: step is 0.5, but a whole number")):
        kept = dict(opt.state[w])
        opt.state[w][name] = bad
        with pytest.raises(ValueError, match=message):
            opt.step()
        opt.state[w] = kept
