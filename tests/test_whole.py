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
from conftest import assert_identical, normal
from reference import arrays_of
from test_threads import only_linux, python

import fastopt

f32 = np.float32


# Signals

@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no interval timers")
def test_interrupted_loads_are_whole():
    """Interrupts at random moments of files.load and load_state_dict: all that is held is that of one checkpoint."""
    assert python("""
import random, tempfile, time
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
def load(turn):
    k = turn % 2
    if turn % 4 < 2:
        files.load(f"{path}/{k}", opt)
    else:
        opt.load_state_dict(dicts[k])
def took(turn):
    began = time.perf_counter()
    load(turn)
    return time.perf_counter() - began
within = [1.5*min(took(turn) for _ in range(9)) for turn in range(4)]  # so that most are hit, and anywhere
busy = False
signal.signal(signal.SIGALRM, strike); signal.signal(signal.SIGINT, strike)
for turn in range(10_000):
    try:
        busy = True
        signal.setitimer(signal.ITIMER_REAL, 1e-6 + random.random()*within[turn % 4])
        load(turn)
        busy = False
    except KeyboardInterrupt:
        busy = False
        interrupts += 1
    signal.setitimer(signal.ITIMER_REAL, 0)
    if turn % 4 < 2:
        torn += stamp() not in stamps
    else:
        torn += now() not in [(s, d["t"], t[3]) for s, d, t in zip(states, dicts, stamps)]
        load(turn - 2)
    if interrupts >= 60:
        break
print(torn, interrupts >= 60, heard == interrupts)
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
        old.step([{k: normal(7, *x.shape).astype(f32) for k, x in tree.items()}, {"w": np.ones((3, 5), f32)}])
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
            before = opt.t, [dict(g) for g in opt.groups], [a.copy() for a in arrays_of(opt)]
            try:
                opt.load_state_dict(saved)
            except (TypeError, ValueError) as error:
                said.append(str(error))
            else:
                opt = make()
                continue
            assert (opt.t, [dict(g) for g in opt.groups]) == before[:2]
            for a, b in zip(before[2], arrays_of(opt), strict=True):
                assert_identical(a, b)
    assert len(said) > 1500
    assert [text for text in said if not text.startswith("load_state_dict: ")] == []
