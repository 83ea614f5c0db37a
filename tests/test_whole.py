"""Loads, forks and odd dicts: all of a checkpoint or nothing of it, whatever comes between."""
import copy
import errno
import os
import signal
import subprocess
import sys
from itertools import permutations, product

import numpy as np
import pytest
from conftest import BFLOAT16, OPTIMIZERS, assert_identical, normal
from test_threads import only_linux, python

import fastopt
from fastopt.presets import PRESETS

f32 = np.float32
COUNTED = ("rmsprop", "adagrad", "adam", "adamw", "amsgrad", "nadam", "radam")


@pytest.fixture
def torch():
    torch = pytest.importorskip("torch")
    torch.set_default_dtype(torch.float64)
    yield torch
    torch.set_default_dtype(torch.float32)


# Signals

@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no interval timers")
def test_interrupted_loads_are_whole():
    """Interrupts at random moments of files.load and load_state_dict: all that is held is that of one checkpoint."""
    assert python("""
import random, tempfile
from fastopt import files
random.seed(3)
like = [np.zeros(20_003, f32), np.zeros(5), np.zeros(9_001, np.uint16), np.zeros(30_001, f32)]
copies = [[like[0].astype(np.float16), like[1].astype(f32)], [like[2].copy(), like[3].astype(np.float16)]]
groups = [{"params": like[:2]}, {"params": like[2:]}]
opt = fastopt.Adam(groups, copy=copies, average=0.9, state={"m": "q8"}, rounding="remainder", seed=1)
path = tempfile.mkdtemp()
def stamp():
    arrays = [*like, *(a for s in opt._backend.state.values() for a in s), *copies[0], *copies[1]]
    return b"".join(a.tobytes() for a in arrays), opt.t, opt.seed, repr([dict(g) for g in opt.groups])
stamps, dicts = [], []
for k in (0, 1):
    opt.step([[np.ones(20_003, f32), np.ones(5)], [np.ones(9_001, f32), np.ones(30_001, f32)]])
    opt.groups[0]["lr"], opt.groups[1]["b1"] = 0.25 + k, 0.5 + k/4
    files.save(f"{path}/{k}", opt); stamps.append(stamp()); dicts.append(opt.state_dict())
whole = torn = interrupts = heard = 0
states = [b"".join(a.tobytes() for s in d["state"].values() for a in s) for d in dicts]
def now():
    arrays = (a for s in opt._backend.state.values() for a in s)
    return b"".join(a.tobytes() for a in arrays), opt.t, repr([dict(g) for g in opt.groups])
def strike(number, frame):
    global heard
    if busy:
        heard += 1
        raise KeyboardInterrupt
busy = False
signal.signal(signal.SIGALRM, strike); signal.signal(signal.SIGINT, strike)
for turn in range(10_000):
    k = turn % 2
    try:
        busy = True
        signal.setitimer(signal.ITIMER_REAL, 1e-6 + random.random()*(3e-3 if turn % 4 < 2 else 1e-3))
        if turn % 4 < 2:
            files.load(f"{path}/{k}", opt)
        else:
            opt.load_state_dict(dicts[k])
        busy = False
    except KeyboardInterrupt:
        busy = False
        interrupts += 1
    signal.setitimer(signal.ITIMER_REAL, 0)
    if turn % 4 < 2:
        torn += stamp() not in stamps
    else:
        torn += now() not in [(s, d["t"], t[3]) for s, d, t in zip(states, dicts, stamps)]
        files.load(f"{path}/{k}", opt)
    if interrupts >= 150:
        break
print(torn, interrupts >= 150, heard == interrupts)
""") == "0 True True\n"


def test_hyperparameters_and_counts_are_set_at_once():
    """No handler runs in between: a group that refuses one of several values keeps all; so does a load."""
    opt = fastopt.Adam(np.ones(3))
    group = opt.groups[0]
    before, version = dict(group), group.version
    with pytest.raises(ValueError, match=r"b1 is 2\.0"):
        group.change({"lr": 0.5, "b1": 2.0}, "here")
    assert (dict(group), group.version) == (before, version)
    group["lr"] = lambda t: 0.1*t
    group["lr"] = 0.25
    assert (group["lr"], list(group.functions), group.at(3)["lr"], group.version) == (0.25, [], 0.25, version + 2)


# Forks

@only_linux
def test_a_fork_waits_for_whole_steps():
    """In children every element has the counted steps: two threads step one optimizer each, a third both, nested."""
    assert python("""
n = 300_000
ws = [np.zeros(n, f32) for _ in "ab"]
g = np.ones(n, f32)
opts = [fastopt.SGD(w, lr=1.0, threads=2) for w in ws]
stop = threading.Event()
outer = [fastopt.SGD(np.zeros(3), lr=lambda t, k=k: opts[k].step(g) or 1.0) for k in (0, 1)]
inner = fastopt.SGD(np.zeros(3), lr=lambda t: outer[0].step(np.ones(3)) or 1.0)
def run(opt, g):
    while not stop.is_set():
        opt.step(g)
for o in opts: o.step(g)
small = np.ones(3)
pairs = (opts[0], g), (opts[1], g), (outer[1], small), (inner, small)
threads = [threading.Thread(target=run, args=pair) for pair in pairs]
for t in threads: t.start()
codes = []
for _ in range(25):
    pid = os.fork()
    if pid == 0:
        signal.alarm(60)
        whole = all(len(np.unique(w)) == 1 and -w[0] == o.t for w, o in zip(ws, opts))
        before = opts[0].t
        inner.step(np.ones(3))  # takes all three locks
        os._exit(0 if whole and opts[0].t == before + 1 else 1)
    codes.append(os.waitpid(pid, 0)[1])
stop.set()
for t in threads: t.join()
print(set(codes), all(len(np.unique(w)) == 1 and -w[0] == o.t for w, o in zip(ws, opts)))
""") == "{0} True\n"


@only_linux
def test_a_fork_within_a_step_of_its_own_thread():
    """From a schedule: parent and child both finish the step, and go on."""
    assert python("""
pids = []
def rate(t):
    if t == 2:
        pids.append(os.fork())
    return 1.0
w = np.zeros(N, f32)
opt = fastopt.SGD(w, lr=rate, threads=2)
for _ in range(3):
    opt.step(np.ones(N, f32))
ok = opt.t == 3 and (w == -3).all()
if pids == [0]:
    os._exit(0 if ok else 1)
print(os.waitpid(pids[0], 0)[1], ok)
""") == "0 True\n"


@only_linux
def test_a_fork_that_cannot_have_a_lock():
    """A thread that never comes out of its step does not hold up a fork for ever; the child can step that optimizer."""
    assert python("""
from fastopt._cpu import forks
forks.PATIENCE = 0.01
inside, out = threading.Event(), threading.Event()
def rate(t):
    if threading.current_thread() is other:
        inside.set(); out.wait(90)
    return 1.0
opt = fastopt.SGD(np.zeros(3), lr=rate)
other = threading.Thread(target=lambda: opt.step(np.ones(3)))
other.start(); inside.wait(90)
pid = os.fork()
if pid == 0:
    signal.alarm(60)
    opt.step(np.ones(3))
    os._exit(0 if opt.t == 1 and forks.WAITING == [] else 1)
code = os.waitpid(pid, 0)[1]
out.set(); other.join()
opt.step(np.ones(3))
print(code, opt.t, forks.WAITING)
""") == "0 2 []\n"


# Files

def test_what_is_no_file_is_not_waited_for(tmp_path):
    files = pytest.importorskip("fastopt.files")
    opt = fastopt.SGD(np.ones(3))
    os.symlink("/dev/zero", tmp_path / "endless")
    os.mkfifo(tmp_path / "pipe")
    for name in ("endless", "pipe"):
        with pytest.raises(ValueError, match=f"load: .*{name} is no file, but one that fastopt.files.save wrote is "
                                             "needed"):
            files.load(tmp_path / name, opt)


@only_linux
def test_a_full_disk_has_its_number(tmp_path):
    code = f"""
import resource, signal, sys
import numpy as np, fastopt
from fastopt import files
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
try:
    files.save({str(tmp_path / "full")!r}, fastopt.SGD(np.zeros(100_000)))
except OSError as error:
    print(error.errno, error)
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                         env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    number = errno.EFBIG
    said = f"save: {tmp_path}/full: {os.strerror(number)}. What was there is unchanged"
    assert ran.stdout == f"{number} [Errno {number}] {said}\n"
    assert os.listdir(tmp_path) == []


# Paths

def test_checkpoints_are_matched_by_path(tmp_path):
    """Whatever the order of keys, in groups too, with blocks and files. Missing and further ones are named."""
    files = pytest.importorskip("fastopt.files")
    tree = {"w": normal(0, 3, 5).astype(f32), "b": normal(1, 3, 5).astype(f32),
            "F": np.asfortranarray(normal(2, 30, 14).astype(f32))}
    path = tmp_path / "x"

    def make(tree):
        return fastopt.Momentum([{"params": tree, "lr": 0.1}, {"params": {"w": tree["w"] + 1}}],
                                state=lambda path, a: "q8" if a.shape == (30, 14) else "f32")
    old = make(tree)
    for _ in range(2):
        old.step([{k: normal(7, *x.shape) for k, x in tree.items()}, {"w": np.ones((3, 5))}])
    files.save(path, old)
    for order in permutations(tree):
        again, read = (make({k: of(tree[k]) for k in order}) for of in (lambda a: a.copy(order="K"), np.zeros_like))
        again.load_state_dict(old.state_dict())
        files.load(path, read)
        for k, new in product(tree, (again, read)):
            have, want = (np.ascontiguousarray(opt.decoded("v")[0][k]) for opt in (new, old))
            assert_identical(have, want)
        for k in tree:
            assert_identical(read.params[0]["params"][k], old.params[0]["params"][k])
    plain = fastopt.Adam(tree)
    saved = plain.state_dict()
    del saved["paths"]
    plain.load_state_dict(saved)  # by order, as before there were paths
    two = {"w": tree["w"], "b": tree["b"]}
    for other, message in (({**two, "G": tree["F"]}, r"has no params\['G'\] and params\['F'\], which this"),
                           (two, r"3 parameters, but this optimizer has 2.*has params\['F'\], which")):
        with pytest.raises(ValueError, match=message):
            fastopt.Adam({k: x.copy() for k, x in other.items()}).load_state_dict(plain.state_dict())


# torch's dicts

def runs(torch):
    optim = torch.optim
    return {"sgd": (optim.SGD, {"lr": 0.1}), "momentum": (optim.SGD, {"lr": 0.1, "momentum": 0.8, "dampening": 0.3}),
            "nesterov": (optim.SGD, {"lr": 0.1, "momentum": 0.8, "nesterov": True}),
            "rmsprop": (optim.RMSprop, {"lr": 0.01}),
            "adagrad": (optim.Adagrad, {"lr": 0.1, "lr_decay": 0.1, "initial_accumulator_value": 0.1}),
            "adam": (optim.Adam, {"lr": 0.01, "weight_decay": 0.1}), "adamw": (optim.AdamW, {"lr": 0.01}),
            "amsgrad": (optim.Adam, {"lr": 0.01, "amsgrad": True}), "nadam": (optim.NAdam, {"lr": 0.01}),
            "radam": (optim.RAdam, {"lr": 0.01, "betas": (0.8, 0.9)})}


def begun(torch, name, steps=3, shapes=((3, 2), (4,))):
    """A run in torch, and its parameters: also as arrays."""
    cls, hyper = runs(torch)[name]
    tensors = [torch.nn.Parameter(torch.tensor(normal(k, *shape))) for k, shape in enumerate(shapes)]
    theirs = cls(tensors, **hyper)
    for t in range(steps):
        further(torch, theirs, tensors, t)
    return theirs, tensors, [p.detach().numpy().copy() for p in tensors]


def further(torch, theirs, tensors, t):
    g = [normal(10*t + k, *p.shape) for k, p in enumerate(tensors)]
    for p, x in zip(tensors, g, strict=True):
        p.grad = torch.tensor(x)
    theirs.step()
    return g


def test_torchs_conventions_are_in_force_whatever_like_was(torch):
    """Every rule, every like=, and every word that another value than torch's: 1e-12 after resuming."""
    tried = 0
    for name in runs(torch):
        cls = OPTIMIZERS[name]
        more = [{"like": like} for like in PRESETS if name in PRESETS[like]]
        more += [{k: v} for k, options in cls.rule.options.items() for v in options]
        more += [{"eps_root": 0.1}]*("eps_root" in cls.rule.defaults) + [{"threshold": 4.5}]*(name == "radam")
        for options in more:
            theirs, tensors, w = begun(torch, name)
            opt = cls(w, **options)
            opt.t = 3
            opt.load_state_dict(theirs.state_dict())
            for t in range(3, 8):
                opt.step(further(torch, theirs, tensors, t))
            for x, p in zip(w, tensors, strict=True):
                np.testing.assert_allclose(x, p.detach().numpy(), rtol=1e-12, atol=1e-12, err_msg=f"{name} {options}")
            tried += 1
    assert tried > 80


def test_every_key_of_torchs_state_is_used_or_named(torch):
    theirs, _, w = begun(torch, "adam")
    saved = theirs.state_dict()
    names = ["net.0.weight", "net.0.bias"]

    def keyed(key, **group):
        d = copy.deepcopy(saved)
        d["state"] = {key(k): e for k, e in d["state"].items()}
        d["param_groups"][0].update(group)
        return d

    good = {"text": keyed(str), "text everywhere": keyed(str, params=["0", "1"]),
            "NumPy": keyed(np.int64, params=np.array([0, 1])), "names": keyed(names.__getitem__, param_names=names),
            "names as ids": keyed(names.__getitem__, params=names), "names in order": keyed(names.__getitem__)}
    turned = keyed(names.__getitem__, param_names=names)
    turned["state"] = dict(reversed(turned["state"].items()))
    good["names out of order"] = turned
    for case, d in good.items():
        for params in (w, *([dict(zip(names, w, strict=True)), dict(zip(names[::-1], w[::-1], strict=True))]
                            if "param_names" in d["param_groups"][0] or case == "names as ids" else [])):
            opt = fastopt.Adam(copy.deepcopy(params))
            opt.load_state_dict(d)
            assert opt.t == 3, case
            for path, m in zip([t.path for t in opt._tensors], opt._backend.states["m"].arrays, strict=True):
                k = names.index(path[8:-2]) if isinstance(params, dict) else int(path[7])
                assert_identical(m, saved["state"][k]["exp_avg"].numpy())
    first, second = saved["state"].values()
    wrong = (
        ({**turned, "param_groups": saved["param_groups"]}, "state has the keys 'net.0.bias', 'net.0.weight', but its"),
        ({**saved, "state": {0: first, 7: second}}, "state has the keys 7, but its groups hold the parameters 0, 1"),
        ({**saved, "state": {0: first, 1: second, "1": second}}, "1 stands for two parameters"),
        ({**saved, "state": {0: {**first, "max_exp_avg_sq": w[0]}}},
         "parameter 0 has max_exp_avg_sq, for which adam has no place"))
    for d, message in wrong:
        opt = fastopt.Adam(copy.deepcopy(w))
        with pytest.raises(ValueError) as error:
            opt.load_state_dict(d)
        assert str(error.value).startswith("load_state_dict: torch's dict: ")
        assert message in str(error.value)
        assert opt.t == 0


def test_parameters_that_never_had_a_gradient(torch):
    """Zero state, and the others' count of steps, for states in other formats too."""
    for name, (cls, hyper) in runs(torch).items():
        body, head = (torch.nn.Parameter(torch.ones(k)) for k in (2, 3))
        theirs = cls([body, head], **{**hyper, **({"initial_accumulator_value": 0.0} if name == "adagrad" else {})})
        for _ in range(4):
            body.grad = torch.ones(2)
            theirs.step()
        opt = OPTIMIZERS[name]([np.ones(2), np.ones(3)])
        if name not in COUNTED:
            opt.t = 4
        opt.load_state_dict(theirs.state_dict())
        assert opt.t == 4
        assert all(a[0].all() and not a[1].any() for a in opt.state.values())
    half = [torch.nn.Parameter(torch.ones(n, dtype=torch.bfloat16)) for n in (2, 3)]
    theirs = torch.optim.Adam(half)
    half[0].grad = torch.ones(2, dtype=torch.bfloat16)
    theirs.step()
    opt = fastopt.Adam([np.ones(2, BFLOAT16), np.ones(3, BFLOAT16)], state="bfloat16")
    opt.load_state_dict(theirs.state_dict())
    assert (opt.t, [a.any() for a in opt.state["m"]]) == (1, [True, False])


def test_the_missing_step_count_of_sgd_is_said(torch):
    for name in ("sgd", "momentum", "nesterov"):
        theirs, _, w = begun(torch, name)
        opt = OPTIMIZERS[name](w)
        with pytest.warns(UserWarning, match=r"SGD's holds no step count, so t is [01] here. Set opt.t to the number "
                                             r"of steps") as said:
            opt.load_state_dict(theirs.state_dict())
        assert said[0].filename == __file__
        opt.t = 3
        opt.load_state_dict(theirs.state_dict())  # the cure, and nothing more is said
        assert opt.t == 3


# Odd dicts

def test_counts_at_their_end():
    opt = fastopt.SGD(np.ones(3), lr=0.0)
    opt.t = 2**62 - 1
    opt.step(np.ones(3))
    opt.load_state_dict(opt.state_dict())
    assert opt.t == 2**62
    with pytest.raises(ValueError, match=r"step: 4611686018427387904 steps have been taken, but counts end there\. Set "
                                         r"opt\.t"):
        opt.step(np.ones(3))
    with pytest.raises(ValueError, match="t: found 4611686018427387905"):
        opt.t = 2**62 + 1
    assert opt.t == 2**62
    opt.t = 5
    opt.step(np.ones(3))
    assert opt.t == 6


ODD = [None, 3, -1, 2.5, float("inf"), float("nan"), 2**80, "x", b"x", [], [None], {}, {"a": 1}, (), True,
       np.array(None), np.zeros(2), np.zeros((0, 3)), object(), range(3), (x for x in ()), np.float64(2), lambda: 1,
       {1, 2}, [[1], 2], np.array(["a"]), 1j]


def spots(tree, path=()):
    """The paths of everything in nested dicts and lists."""
    if path:
        yield path
    if isinstance(tree, (dict, list)):
        for k, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from spots(value, (*path, k))


def put(tree, path, value):
    for k in path[:-1]:
        tree = tree[k]
    if value is put:
        del tree[path[-1]]
    else:
        tree[path[-1]] = value


def plain(tree):
    if isinstance(tree, dict):
        return {k: plain(v) for k, v in tree.items()}
    return [plain(v) for v in tree] if isinstance(tree, (list, tuple)) else tree


def test_odd_dicts_get_a_worded_error_and_change_nothing():
    """Every part of a dict becomes something odd or is missing: it loads, or a worded error leaves all as it was."""
    entry = {"step": np.array(3.0, f32), "exp_avg": np.ones(3, f32), "exp_avg_sq": np.ones(3, f32)}
    torchs = {"state": {0: entry, "1": {**entry, "exp_avg": np.ones(2, f32), "exp_avg_sq": np.ones(2, f32)}},
              "param_groups": [{"params": [0, 1], "lr": 0.1, "betas": (0.9, 0.99), "eps": 1e-8, "weight_decay": 0.0,
                                "amsgrad": False, "maximize": False, "decoupled_weight_decay": False,
                                "param_names": ["a", "b"]}]}
    made = {"plain": {}, "blocks": {"state": {"v": "q8"}}}
    said = []
    for case, options in {**made, "torch": {}}.items():
        def make(options=options):
            opt = fastopt.Adam([np.ones(3, f32), np.ones(2, f32)], **options)
            opt.step([np.ones(3, f32), np.ones(2, f32)])
            return opt
        opt, source = make(), plain(torchs if case == "torch" else make().state_dict())
        for path, odd in product(list(spots(source)), [*ODD, put]):
            saved = copy.deepcopy(source)
            put(saved, path, odd)
            before = opt.t, [dict(g) for g in opt.groups], [a.copy() for s in opt._backend.state.values() for a in s]
            try:
                opt.load_state_dict(saved)
            except (TypeError, ValueError) as error:
                said.append(str(error))
            else:
                opt = make()
                continue
            assert (opt.t, [dict(g) for g in opt.groups]) == before[:2]
            for a, b in zip(before[2], (a for s in opt._backend.state.values() for a in s), strict=True):
                assert_identical(a, b)
    assert len(said) > 1500
    assert [text for text in said if not text.startswith("load_state_dict: ")] == []


class Lying(dict):
    def __contains__(self, key):
        return True

    def __len__(self):
        return 2


class Short(list):
    def __iter__(self):
        return iter([np.ones(3)])


def test_trees_that_say_what_they_do_not_have():
    w, lying = np.ones(3), "grads: no 'b', though it says that it has this key."
    for params, grads, message in (
            ({"a": w, "b": w.copy()}, Lying(a=w), lying), ({"a": w, "b": [w.copy()]}, Lying(a=w), lying),
            ([w, w.copy()], Short([w, w]), "grads: 1 entries, but params has 2 there. Give one for each.")):
        opt = fastopt.SGD(params)
        with pytest.raises(ValueError) as error:
            opt.step(grads)
        assert str(error.value).startswith(message)
        assert opt.t == 0
