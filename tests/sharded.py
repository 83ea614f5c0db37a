"""What every rank of an MPI program checks, for tests/test_mpi.py: mpirun -n 4 python -m mpi4py tests/sharded.py FOLDER

Sums over ranks are exact, and so are equal for any number of ranks: gradients are whole numbers, or one rank has all.
"""
import copy
import os
import pickle
import resource
import signal
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from conftest import assert_identical, normal, stored

import fastopt
from fastopt import trees
from fastopt._tensors.units import Spans
from fastopt.mpi import Sharded

f32 = np.float32
SIZES = {"W": (90, 101), "b": (7,), "V": (64, 3, 150), "none": (0,), "c": (1,)}
HERE = Path(sys.argv[1]) if len(sys.argv) > 1 else None
CASES = {  # what is stored how, and hyperparameters
    "f32": ("f32", {}), "f64": ("f64", {"weight_decay": 0.1}),
    "stochastic": ("bf16", {"rounding": "stochastic", "state": "bf16s", "seed": 3}),
    "remainder": ("bf16", {"rounding": "remainder", "state": {"m": "bf16", "v": "q8"}}),
    "q8": ("f32", {"state": "q8", "average": 0.9, "seed": 1}), "complex": ("c64", {"state": "bf16s"})}


def params(format="f32", seed=0):
    if format == "c64":
        return trees.map(lambda x, y: x + np.complex64(1j)*y, params(seed=seed), params(seed=seed + 1))
    new = {name: stored(normal(seed + k, *shape), format) for k, (name, shape) in enumerate(SIZES.items())}
    new["V"] = np.asfortranarray(new["V"])
    return new


def gradient(t, format="f32"):
    if format == "c64":
        return trees.map(lambda x, y: x + np.complex64(1j)*y, gradient(t, "part"), gradient(t + 20, "part"))
    dtype = np.float64 if format == "f64" else f32
    drawn = {name: 9*normal(50*t + k, *shape) for k, (name, shape) in enumerate(SIZES.items())}
    if format != "f32":  # in the order of the parameter; else it is strided, which is another kernel
        drawn["V"] = np.asfortranarray(drawn["V"])
    return {name: (x if t % 2 else np.round(x)).astype(dtype) for name, x in drawn.items()}


def part(g, rank, size):
    """What adds up to g over all ranks."""
    whole = all((x == np.round(x)).all() for x in trees.flatten(g)[0])
    return trees.map(lambda x: np.full_like(x, rank*whole) if rank else x - x.dtype.type(sum(range(size))*whole), g)


def same(have, want, what):
    for path, x, y in zip(trees.paths(want), trees.flatten(have)[0], trees.flatten(want)[0], strict=True):
        assert_identical(np.asarray(x), np.asarray(y), f"{what}: {path}")


def same_dicts(have, want, what):
    assert have.keys() == want.keys(), what
    for name in want["state"]:
        same(have["state"][name], want["state"][name], f"{what}: {name}")
    for key in set(want) - {"state"}:
        assert have[key] == want[key], (what, key, have[key], want[key])


def steps(opt, alone, format, times, what, **more):
    for t in times:
        g = gradient(t, format)
        opt.step(part(g, opt.rank, opt.size), **more)
        alone.step(g, **more)
        assert opt.grad_norm == alone.grad_norm, (opt.grad_norm, alone.grad_norm)
        assert opt.t == alone.t
        same(opt.params, alone.params, f"{what}, step {t}")


def bits():
    """Every format: the parameters and state of one machine; a checkpoint of the ranks of before goes on here."""
    for name, (format, how) in CASES.items():
        opt = Sharded(fastopt.Adam, params(format), mean=False, bucket=8192, lr=0.1, **how)
        alone = fastopt.Adam(params(format), lr=0.1, **how)
        asked = {} if name == "f32" else {"clip_value": 0.01, "grad_factor": 0.5}  # always: one kernel of each
        steps(opt, alone, format, (1, 2), name, **asked)
        steps(opt, alone, format, (3,), name, clip_norm=2.0, skip_nonfinite=True, **{"clip_value": 0.01, **asked})
        saved = opt.state_dict()
        assert (saved is None) == (opt.rank > 0)
        if opt.rank == 0:
            same_dicts(saved, alone.state_dict(), name)
        twin = Sharded(fastopt.Adam, params(format), mean=False, bucket=20_000, lr=0.7, **{**how, "seed": 8})
        twin.step(gradient(9, format), **asked)
        for x, y in zip(trees.flatten(twin.params)[0], trees.flatten(opt.params)[0], strict=True):
            x[...] = y
        twin.load_state_dict(saved)
        steps(twin, alone, format, (4, 5), f"{name}, resumed", **asked)
        file = HERE/f"{name}.safetensors"
        before = HERE/f"before {file.name}"
        if before.exists():  # of another number of ranks, or of one machine
            again = Sharded(fastopt.Adam, params(format, 9), mean=False, **how)
            again.load(before)
            same(again.params, alone.params, f"{name}, from a file")
            third = fastopt.Adam(params(format), **how)
            fastopt.files.load(before, third)
            steps(again, third, format, (6,), f"{name}, from a file", **asked)
        twin.save(file)


def other_rules():
    groups = [{"params": params()["W"], "lr": 0.3, "state": "q8"}, {"params": [params()["b"], params()["V"]],
              "mask": [True, np.arange(150) % 3 > 0]}, {"params": params("f64")["W"]}]

    def keep(path, array):
        return "bf16s" if array.size > 100 else None
    copies = [{**of, "params": trees.map(np.copy, of["params"])} for of in groups]
    opt = Sharded(fastopt.NAdam, groups, mean=False, lr=lambda t: 0.1/t, state=keep, weight_decay=0.1, bucket=5000)
    alone = fastopt.NAdam(copies, lr=lambda t: 0.1/t, state=keep, weight_decay=0.1)
    mask = [np.arange(101) % 2, [np.ones(7, bool), True], True]
    for t in range(1, 5):
        g = gradient(t)
        g = [g["W"], [g["b"], g["V"]], g["W"].astype(float)]
        for one in (opt, alone):
            one.groups[1]["b1"] = 0.9 - 0.1*t
            one.step(part(g, opt.rank, opt.size) if one is opt else g, mask=mask if t == 3 else None, clip_norm=1.0)
        same(opt.params, [of["params"] for of in copies], f"groups, step {t}")
    saved = opt.state_dict()
    if opt.rank == 0:
        same_dicts(saved, alone.state_dict(), "groups")

    opt, alone = Sharded(fastopt.Nesterov, params(), lr=0.1), fastopt.Nesterov(params(), lr=0.1)
    for t in range(1, 4):
        g = gradient(t)
        opt.step(lambda p, g=g: part(g, opt.rank, opt.size))
        alone.step(lambda p, g=g: g, grad_factor=1/opt.size)
        same(opt.lookahead(), alone.lookahead(), "look-ahead")

    how = {"lr": lambda t: 0.1*min(t/3, 1.0), "schedule_free": True}
    opt, alone = Sharded(fastopt.AdamW, params(), **how), fastopt.AdamW(params(), **how)
    for t in range(1, 4):
        g = gradient(t)
        opt.step(part(g, opt.rank, opt.size))
        alone.step(g, grad_factor=1/opt.size)
        same(opt.params, alone.params, f"schedule-free, step {t}")
        same(opt.evaluation_point(), alone.evaluation_point(), "point to evaluate")
        same(opt.params, alone.params, "Nesterov")


def working_copies():
    opt = Sharded(fastopt.AdamW, params(), mean=False, copy="bf16", lr=0.01, bucket=9000)
    work = {k: np.zeros_like(a, np.uint16) for k, a in params().items()}
    alone = fastopt.AdamW(params(), copy=work, lr=0.01)
    same(opt.params, work, "copy, first")
    for t in (2, 4, 6):  # of small whole numbers, which bfloat16 holds
        g = gradient(t)
        opt.step(trees.map(lambda x: stored(x, "bf16"), part(g, opt.rank, opt.size)))
        alone.step(g)
        same(opt.params, work, "copy")
    opt.save(HERE/"copy.safetensors")
    again, third = Sharded(fastopt.AdamW, params(seed=9), copy="bf16"), fastopt.AdamW(params(seed=9))
    again.load(HERE/"copy.safetensors")
    fastopt.files.load(HERE/"copy.safetensors", third)
    same(again.params, work, "copy, from a file")
    same(third.params, alone.params, "masters, from a file")
    kept = sum(a.nbytes for a in trees.flatten(again.shard.state)[0])
    assert kept < 8*(sum(a.size for a in work.values())/opt.size + 3*4096)


def skipped():
    """One bad number on one rank: a step that none takes. Buffers are used as they are."""
    opt = Sharded(fastopt.SGD, params(), mean=False)
    alone = fastopt.SGD(params())
    for bad, taken in ((np.nan, 0), (3e38, 0), (7.0, 1)):
        for x in trees.flatten(opt.grads)[0]:
            x[...] = 1.0
        if opt.rank == opt.size - 1:
            opt.grads["V"][3, 2, 149] = bad
        opt.step(skip_nonfinite=True, grad_factor=4.0)
        assert opt.t == taken
    g = trees.map(lambda a: np.full(a.shape, opt.size, f32), alone.params)
    g["V"][3, 2, 149] = opt.size + 6
    alone.step(g, grad_factor=4.0)
    same(opt.params, alone.params, "after skips")
    huge = Sharded(fastopt.SGD, np.zeros(9000), mean=False)
    huge.step(np.full(9000, 1e300/huge.size), clip_norm=2.0)
    assert abs(np.linalg.norm(huge.params) - 0.002) < 1e-15
    assert abs(huge.grad_norm/(1e300*9000**0.5) - 1) < 1e-12


WITHOUT = ({"V"}, {"b", "c"}, {"W", "V", "none"}, set(SIZES), set(), {"V"})  # step by step


def absent():
    """Gradients that no rank has, and some that one rank has: each tensor counts its own steps, on disk, too."""
    def lr(t):
        return 0.1/t
    for name, kind, format, how in (("Adam", fastopt.Adam, "f32", {"state": "q8"}),
                                    ("NAdam", fastopt.NAdam, "bf16", {"rounding": "stochastic", "lr": lr}),
                                    ("complex", fastopt.Adam, "c64", {})):
        opt = Sharded(kind, params(format), mean=False, bucket=9000, **how)
        alone = kind(params(format), **how)
        for t, without in enumerate(WITHOUT, 1):
            g = gradient(t, format)
            mine = part(g, opt.rank, opt.size)
            if not np.any(mine["W"]):  # zeros elsewhere: that rank may leave them out
                mine = {}
            mine = {k: x for k, x in mine.items() if k not in without}
            alone.step({k: None if k in without else x for k, x in g.items()})
            opt.step(mine, missing="skip")
            same(opt.params, alone.params, f"absent, {name}, step {t}")
            assert (opt.t, opt.counts) == (alone.t, alone.counts)
        saved = opt.state_dict()
        if opt.rank == 0:
            same_dicts(saved, alone.state_dict(), f"absent, {name}")
            assert "behind" in saved
        twin = Sharded(kind, params(format), mean=False, bucket=30_000, **how)
        for x, y in zip(trees.flatten(twin.params)[0], trees.flatten(opt.params)[0], strict=True):
            x[...] = y
        twin.load_state_dict(saved)
        g = gradient(7, format)
        for one in (opt, twin):
            one.step({**part(g, opt.rank, opt.size), "c": None})
        alone.step({**g, "c": None})
        same(opt.params, alone.params, f"absent, {name}, at last")
        same(twin.params, alone.params, f"absent, {name}, resumed")
        assert twin.counts == alone.counts


def clipped():
    """By norms that are found elsewhere, and each gradient by its own."""
    opt, alone = (make(fastopt.Adam, {**params(), "d": np.ones(9000)}, **more)
                  for make, more in ((Sharded, {"mean": False, "bucket": 9000}), (lambda kind, *x: kind(*x), {})))
    for t in (2, 4, 6, 8):
        g = {**gradient(t), "d": np.round(normal(t, 9000)*9)*(2.0**600 if t > 4 else 1), "b": None if t == 6 else
             gradient(t)["b"]}
        mine = {k: None if x is None else part({k: x}, opt.rank, opt.size)[k] for k, x in g.items()}
        assert opt.norm(mine, grad_factor=0.1) == alone.norm(g, grad_factor=0.1) > 0
        for how in ({"clip_norm": 1.0, "clip": "tensor"}, {"clip_norm": 2.0, "norm": 30.0}, {"grad_factor": 1e-300},
                    {"clip_norm": 1.0, "skip_nonfinite": True, "grad_factor": 1e80},
                    {"clip_norm": 1e-3, "clip": "tensor", "skip_nonfinite": True, "grad_factor": 0.5}):
            opt.step(mine, **how)
            alone.step(g, **how)
            same(opt.params, alone.params, f"clipped, step {t}, {how}")
            assert (opt.grad_norm, opt.t) == (alone.grad_norm, alone.t)
    assert opt.t == 20
    assert opt.norm(dict.fromkeys(g)) == 0.0


def changed():
    """Other parameters: what stays has its state, on all ranks, and its random bits are those of one machine."""
    how = {"state": "q8", "rounding": "stochastic", "seed": 5}
    opt = Sharded(fastopt.Adam, params("bf16"), mean=False, bucket=9000, **how)
    alone = fastopt.Adam(params("bf16"), **how)

    def after(what, *times):
        assert trees.paths(opt.params) == trees.paths([g["params"] for g in alone.params])
        for t in times:
            g = [gradient(t) if k == 0 else {"x": gradient(t)["V"][..., k]} for k in range(len(opt.groups))]
            g = [{k: x for k, x in of.items() if k in p} for of, p in zip(g, opt.params, strict=True)]
            opt.step(part(g, opt.rank, opt.size), clip_norm=10.0)
            alone.step(g, clip_norm=10.0)
            same(opt.params, [g["params"] for g in alone.params], f"{what}, step {t}")
            assert (opt.t, opt.counts) == (alone.t, alone.counts)
        saved = opt.state_dict()
        if opt.rank == 0:
            same_dicts(saved, alone.state_dict(), what)
    steps(opt, alone, "bf16", (2,), "unchanged")
    kept = opt.params["V"]
    for one in (opt, alone):
        x = {"x": stored(normal(9, 64, 3), "bf16")}
        if one is opt and opt.rank:
            x["x"][...] = 0  # rank 0 says what it is
        one.add(x, lr=0.3, state={"m": "bf16s", "v": "f32"}, mask={"x": np.arange(3) > 0})
    after("added", 2, 4)
    assert opt.params[0]["V"] is kept or np.shares_memory(opt.params[0]["V"], kept)
    for path in ("params[0]['W']", "params[0]['none']"):
        opt.remove(path)
        alone.remove(path)
    after("removed", 6)
    for one in (opt, alone):
        one.add({"x": stored(normal(8, 64, 3), "bf16")})
        one.remove("params[1]")
    after("again", 8, 10)
    opt.save(HERE/"changed.safetensors")
    twin = fastopt.Adam([{**g, "params": trees.map(np.zeros_like, g["params"])} for g in alone.params], **how)
    fastopt.files.load(HERE/"changed.safetensors", twin)
    same([g["params"] for g in twin.params], opt.params, "changed, from a file")

    opt = Sharded(fastopt.AdamW, params(), copy="bf16", mean=False)
    opt.add([normal(3, 5000)])
    opt.remove("params[0]['V']")
    whole = [{"params": {k: a for k, a in params().items() if k != "V"}}, {"params": [normal(3, 5000)]}]
    alone = fastopt.AdamW(whole)
    g = [{k: x for k, x in gradient(2).items() if k != "V"}, [np.ones(5000, f32)]]
    opt.step(part(g, opt.rank, opt.size))
    alone.step(g)
    same(opt.params, [trees.map(lambda x: stored(x, "bf16"), of["params"]) for of in whole], "changed, with copies")


def apart():
    """The cures of errors: a table has an optimizer of its own, and what cannot be copied goes through a file."""
    alone, mine = fastopt.Adam([np.ones((50, 8), f32)]), fastopt.Adam([np.ones((50, 8), f32)])
    comm = Sharded(fastopt.SGD, params()).comm
    for t in range(3):
        hit = [(np.arange(k, 50, 7 - k), normal(10*t + k, len(range(k, 50, 7 - k)), 8)) for k in range(comm.size)]
        of_all = zip(*comm.allgather(hit[comm.rank]), strict=True)
        mine.step([fastopt.Rows(*map(np.concatenate, of_all))])
        alone.step([fastopt.Rows(*map(np.concatenate, zip(*hit, strict=True)))])
    same(mine.params, alone.params, "a table")
    many = [Sharded(fastopt.SGD, np.zeros(1)) for _ in range(2500 if comm.size == 2 else 0)]  # MPI has 2,047
    assert len({of.comm.handle for of in many}) <= 1


def trained():
    """`fit`: steps, history, validations, the best parameters and checkpoints are those of one machine."""
    def gradients(t, opt):
        return part(gradient(2*t), opt.rank, opt.size) if isinstance(opt, Sharded) else gradient(2*t)

    def loss(opt, bad=()):  # sums over ranks are exact
        def value_and_grad(p, t):
            seen.append((t, [x.copy() for x in trees.flatten(p)[0]]))
            rank, size = (opt.rank, opt.size) if isinstance(opt, Sharded) else (0, 1)
            if t in bad and rank == size - 1:
                g = gradients(t, opt)
                g["b"][3] = np.nan
                return np.nan, g
            return (0.5*t - size*(size - 1)/2 if rank == 0 else rank), gradients(t, opt)
        return value_and_grad

    def validate(p):
        return float(abs(p["b"][0] - 0.4))
    size = Sharded(fastopt.SGD, np.zeros(1)).size
    for name, kind, copied, how in (
            ("Nesterov", fastopt.Nesterov, None, {"steps": 9, "accumulate": 2, "clip_norm": 50.0}),
            ("Adam", fastopt.Adam, None, {"steps": 12, "validate_every": 2, "patience": 2}),
            ("copy", fastopt.Adam, "bf16", {"steps": 4}), ("skips", fastopt.Adam, None, {"skip_nonfinite": True})):
        opt = Sharded(kind, params(), mean=False, bucket=9000, lr=0.2, copy=copied)
        work = trees.map(lambda x: np.zeros_like(x, np.uint16), params()) if copied else None
        alone = kind(params(), lr=0.2, copy=work)
        found, seen, bad = [], [], (3,)*(name == "skips")
        for one in (opt, alone):
            if "validate_every" in how:
                how["validate"] = (lambda p: validate(p)) if one is opt else (lambda p: size*validate(p))
            file = HERE/f"{name} {'ranks' if one is opt else 'alone'}.safetensors"
            once = file if one is opt or opt.rank == 0 else None
            more = {"checkpoint": once, "checkpoint_every": 3} if once else {}
            fit = fastopt.fit if one is alone else Sharded.fit
            found.append(fit(one, loss(one, bad), range(1, 6), **how, **more))
            if "clip_norm" in how:
                same([x for _, x in seen], [x for _, x in seen[:9*2]]*(1 + (one is alone)), "look-ahead points")
        for x, y in zip(*found, strict=True):
            np.testing.assert_array_equal(x, y, err_msg=name)
        same(opt.params, work or alone.params, name)
        assert (opt.t, found[0].steps) == (alone.t, {"skips": 5}.get(name, found[1].steps))
        if opt.rank == 0:
            one, other = ({}, {})
            for of, into in (("ranks", one), ("alone", other)):
                from_file = kind(params(seed=4), lr=0.7)
                fastopt.files.load(HERE/f"{name} {of}.safetensors", from_file)
                into.update(p=from_file.params, t=from_file.t, v=from_file.state)
            assert one["t"] == other["t"] == opt.t
            same([one["p"], one["v"]], [other["p"], other["v"]], f"{name}: files")
    assert found[0].t.tolist() == [1, 2, 2, 3, 4]


def interrupted_training():
    """What stops one rank, or fails on one, does so on all after the same step."""
    opt = Sharded(fastopt.SGD, params(), mean=False)
    last, size = opt.size - 1, opt.size

    def once(p, t):
        return 1.0, part(gradient(2*t), opt.rank, size)
    done = opt.fit(once, range(1, 9 - (opt.rank == last)))
    assert (done.steps, done.stopped, done.value[0]) == (7, "batches", size)
    done = opt.fit(once, range(1, 9), callback=(lambda now: now.t == 9) if opt.rank == last else None)
    assert (opt.t, done.stopped) == (9, "callback")
    with pytest.raises(fastopt.fit.__globals__["BatchesEnded"], match="after 3 steps, and 1 of the 2 for the next"):
        opt.fit(once, range(1, 9 - (opt.rank == last)), accumulate=2)
    assert opt.t == 12

    signal.signal(signal.SIGINT, signal.default_int_handler)  # what started the ranks may have had it ignored

    def signalled(p, t):
        if t == 3 and opt.rank == last:
            os.kill(os.getpid(), signal.SIGINT)
        return once(p, t)
    before = signal.getsignal(signal.SIGINT)
    done = opt.fit(signalled, range(1, 9), checkpoint=HERE/"interrupted.safetensors")
    assert (opt.t, done.stopped) == (14, "interrupted")
    assert signal.getsignal(signal.SIGINT) is before
    assert all(of == [14, "interrupted"] for of in opt.comm.allgather([opt.t, done.stopped]))
    again = Sharded(fastopt.SGD, params())
    again.load(HERE/"interrupted.safetensors")
    assert again.t == 14
    same(again.params, opt.params, "interrupted")

    def wrong(*given):
        if opt.rank == last:
            raise KeyError("mine")
        return once(*given) if len(given) == 2 else 0.0
    for how, t in (({"value_and_grad": wrong}, 14), ({"validate": wrong}, 22), ({"after_step": wrong}, 23),
                   ({"callback": wrong}, 24), ({"checkpoint": wrong, "checkpoint_every": 1}, 25)):
        with pytest.raises(KeyError if opt.rank == last else RuntimeError, match="mine") as caught:
            opt.fit(**{"value_and_grad": once, "batches": range(1, 9), **how})
        assert (caught.value.result.stopped, opt.t) == ("error", t)
    with pytest.raises(FloatingPointError if opt.rank == last else RuntimeError, match="the value of step 26 is inf"):
        opt.fit(lambda p, t: (np.inf if opt.rank == last else 1.0, once(p, 2)[1]), [0])
    fails(lambda: opt.fit(once, 3), "batches is 3")
    fails(lambda: opt.fit(once, [1], steps=0), "steps is 0")
    if size > 1:
        fails(lambda: opt.fit(once, [1], steps=2 + (opt.rank == 1)), "fit: steps is 3 on rank 1, but 2 on rank 0")
        fails(lambda: opt.fit(once, [1], validate=wrong if opt.rank == 1 else None), "fit: validate is given on rank "
              "1, but None on rank 0")
        fails(lambda: opt.fit(once, [1], checkpoint=HERE/("x" if opt.rank else "nowhere/x")), "nowhere")


def interrupted():
    """An error of a schedule comes when messages are under way: nothing is written, and the next step is right."""
    wrong = [True]

    def lr(t):
        if wrong:
            raise ValueError("no rate")
        return 0.1/t
    opt, alone = Sharded(fastopt.Adam, params(), mean=False, bucket=5000, lr=lr), fastopt.Adam(params(), lr=lr)
    fails(lambda: opt.step(part(gradient(2), opt.rank, opt.size)), "no rate")
    assert opt.t == 0
    same(opt.params, alone.params, "interrupted")
    wrong.clear()
    steps(opt, alone, "f32", (2, 4), "after an error")


def measured():
    """Modifiers that measure whole tensors, which are cut; of groups that ask for other ones; one has no gradient."""
    hows = ({"trust_ratio": "update", "weight_decay": 0.1, "decay": "decoupled", "update_clip": 0.9},
            {"trust_ratio": "gradient", "cautious": "scaled"}, {"update_rms": 0.1}, {})
    for state in (None, "q8"):
        opt, alone = (make([{"params": params()[name], **how} for name, how in zip("WVbc", hows, strict=True)])
                      for make in (lambda groups, state=state: Sharded(fastopt.Adam, groups, mean=False, bucket=8192,
                                                                       lr=0.1, state=state),
                                   lambda groups, state=state: fastopt.Adam(groups, lr=0.1, state=state)))
        for t in range(1, 6):
            g = [gradient(t)[name] if t < 5 or name != "V" else None for name in "WVbc"]
            more = ({}, {"clip_norm": 2.0}, {"grad_factor": 0.5}, {"clip_norm": 1.0, "clip": "tensor"}, {})[t - 1]
            opt.step([x if x is None else part({"g": x}, opt.rank, opt.size)["g"] for x in g], **more)
            alone.step(g, **more)
            same(opt.params, [group["params"] for group in alone.params], f"measured, {state}, step {t}")
    opt, alone = Sharded(fastopt.Lion, params(), mean=False, mars=0.1), fastopt.Lion(params(), mars=0.1)
    for t in range(1, 4):
        opt.step(part(gradient(t), opt.rank, opt.size))
        alone.step(gradient(t))
        same(opt.params, alone.params, f"mars, step {t}")
    for scale in (1e200, 1e-200):
        opt, alone = (kind(params("f64"), lr=0.1, trust_ratio="gradient", **how) for kind, how in (
            (partial(Sharded, fastopt.SGD), {"mean": False, "bucket": 8192}), (fastopt.SGD, {})))
        whole = {name: g if name == "b" else g*scale for name, g in gradient(1, "f64").items()}
        opt.step(part(whole, opt.rank, opt.size), measure=True)
        alone.step(whole, measure=True)
        assert repr(opt.measures) == repr(alone.measures), f"measured, {scale}"
        same(opt.params, alone.params, f"measured, {scale}")


def logged():
    """The norms of a step, as one machine has them: of cut tensors, of those without a gradient, of a skipped step."""
    hows = [{}, {"trust_ratio": "update", "weight_decay": 0.1}, {}, {}, {"update_rms": 0.5}]
    for format, more in (("f32", {}), ("f64", {"mars": 0.1}), ("bf16", {"rounding": "remainder"}), ("c64", {})):
        opt, alone = (make([{"params": {k: x}, **how} for (k, x), how in zip(new.items(), hows, strict=True)], **more)
                      for make, new in ((partial(Sharded, fastopt.Adam, mean=False, bucket=8192), params(format)),
                                        (fastopt.Adam, params(format))))
        assert np.isnan(opt.measures["grads"][3]["none"])
        for t, (gone, how) in enumerate((
                ((), {}), ((), {"clip_norm": 2.0}), ("W", {"grad_factor": 0.5}), ("bc", {"clip_norm": 1.0,
                 "clip": "tensor"}), ((), {"measure": False, "clip_norm": 2.0}), (SIZES, {"clip_norm": 2.0}),
                ((), {"skip_nonfinite": True})), 1):
            whole, found = gradient(t, format), opt.measures
            if "skip_nonfinite" in how:
                whole["b"] = whole["b"] + np.inf
            mine = part(whole, opt.rank, opt.size)
            opt.step([{k: None if k in gone else x} for k, x in mine.items()], **{"measure": True, **how})
            alone.step([{k: None if k in gone else x} for k, x in whole.items()], **{"measure": True, **how})
            assert repr(opt.measures) == repr(alone.measures), f"{format}, {how}"
            assert "measure" not in how or repr(opt.measures) == repr(found)
            assert repr(opt.grad_norm) == repr(alone.grad_norm), f"{format}, {how}"
            same(opt.params, [group["params"] for group in alone.params], f"logged, {format}, {how}")
    mean = Sharded(fastopt.SGD, params())
    mean.step(part(gradient(2), opt.rank, opt.size), measure=True)
    assert abs(mean.measures["grads"]["W"]*opt.size - np.linalg.norm(gradient(2)["W"])) < 1e-2
    mean.remove("params['W']")
    assert np.isnan(mean.measures["grads"]["V"])


def measured_of_others():
    """Whole tensors are cut anew where there are other ones, and not by each step."""
    made, make = [], Spans.__init__
    opt, alone = (kind([{"params": params()}], lr=0.1, trust_ratio="update", **how) for kind, how in (
        (partial(Sharded, fastopt.Adam), {"mean": False, "bucket": 8192}), (fastopt.Adam, {})))

    def after(what):
        for t in (2, 4, 6):
            g = [{k: gradient(t)["V"] if k == "x" else gradient(t)[k] for k in of} for of in opt.params]
            made.clear()
            opt.step(part(g, opt.rank, opt.size))
            assert not made or t == 2, f"{what}, step {t}"
            alone.step(g)
            same(opt.params, [group["params"] for group in alone.params], f"{what}, step {t}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Spans, "__init__", lambda self, *given: (made.append(self), make(self, *given))[1])
        after("measured")
        for one in (opt, alone):
            one.add({"x": normal(9, 64, 3, 150)})
        after("added")
        for one in (opt, alone):
            one.remove("params[0]['W']")
        after("removed")


def fails(call, message):
    """All ranks raise the error of one, or of each."""
    with pytest.raises((TypeError, ValueError, RuntimeError, OSError)) as error:
        call()
    assert message in str(error.value)


def errors():
    w = params()
    opt = Sharded(fastopt.Adam, w)
    first, other = opt.rank == 0, opt.rank == 1
    if opt.size > 1:
        start = Sharded(fastopt.SGD, np.full(5, opt.rank, f32))
        assert_identical(start.params, np.zeros(5, f32))
        for found, call in (
                ("params['W'] is f32 of shape (89, 101) and memory order (0, 1) on rank 1, but f32 of shape (90, 101)",
                 lambda: Sharded(fastopt.Adam, {**w, "W": w["W"][other:]})),
                ("params['x'] is f32 of shape (7,) and memory order (0,) on rank 1, but missing on rank 0. Give all",
                 lambda: Sharded(fastopt.Adam, {**w, **({"x": w["b"]} if other else {})})),
                ("lr is 0.2 on rank 1, but 0.1 on rank 0", lambda: Sharded(fastopt.Adam, w, lr=0.1 + 0.1*other)),
                ("params: no arrays", lambda: Sharded(fastopt.Adam, [] if other else w))):
            fails(call, found)
    fails(lambda: Sharded(fastopt.rules.adam, w), "the class of an optimizer is needed")
    fails(lambda: Sharded(fastopt.Adam, w, lr=-1.0), "lr")
    fails(lambda: Sharded(fastopt.Adam, w, copy="q8"), "copy is 'q8'")
    fails(lambda: Sharded(fastopt.Adam, w, bucket=0), "bucket is 0")
    fails(lambda: Sharded(fastopt.Adam, w, mean=2), "mean is 2")
    fails(lambda: opt.step({**gradient(1), "b": w["W"]}), "grads['b']: shape (90, 101)")
    fails(lambda: opt.step({**gradient(1), "b": fastopt.Rows([1], [2.0])}), "grads['b']: Rows, but ranks add whole")
    fails(lambda: opt.step(lambda p: None), "the function returned None")
    fails(lambda: opt.step(gradient(1), missing="ski"), "missing is 'ski'")
    fails(lambda: opt.step({"W": w["W"]}), "grads: no ['b', 'V', 'none', 'c']")
    fails(lambda: opt.step(gradient(1), measure=2), "measure is 2")
    fails(lambda: opt.step(gradient(1), clip="tensor"), 'clip="tensor" with no clip_norm')
    fails(lambda: opt.norm(gradient(1), grad_factor="x"), "grad_factor")
    fails(lambda: Sharded(fastopt.Adam, w, adaptive_clip=0.1).step(gradient(1)), "adaptive_clip, but each rank has")
    fails(lambda: opt.remove("params['x']"), "no path of the parameters")
    fails(lambda: opt.remove("params"), "would leave no parameters")
    fails(lambda: opt.add([w["b"]], lr=-1.0), "Adam group 1: lr is -1.0")
    fails(lambda: opt.add([]), "params[1]: no arrays")
    for more in ({}, {"copy": "bf16"}):
        with pytest.warns(UserWarning, match="Adam: rounding='stochastic' is for parameters of 16 bits"):
            Sharded(fastopt.Adam, w, rounding="stochastic", **more)
    for call in (copy.copy, copy.deepcopy, pickle.dumps):
        fails(lambda call=call: call(opt), "a communicator")
    if opt.size > 1:  # an error of one is an error of all, and nothing is written
        for found, call in (
                ("clip_norm is -1", lambda: opt.step(gradient(1), clip_norm=-1.0 if other else 1.0)),
                ("grads['W']: shape (7,)", lambda: opt.step({**gradient(1), "W": w["b" if other else "W"]})),
                ("params[1][0] is f32 of shape (6,)", lambda: opt.add([w["b"][other:]])),
                ("lr is 0.2 on rank 1", lambda: opt.add([w["b"]], lr=0.1 + 0.1*other))):
            fails(call, found)
    same(opt.params, params(), "after errors")
    assert opt.t == 0
    before = opt.state_dict()
    saved = fastopt.SGD(w).state_dict() if first else None
    fails(lambda: opt.load_state_dict(saved), "the state of sgd, but this optimizer is adam")
    fails(lambda: opt.save(HERE/"nowhere"/"file"), "no such directory")
    if first:
        same_dicts(opt.state_dict() if opt.size == 1 else before, fastopt.Adam(w).state_dict(), "after errors")


def converted():
    """Rank 0's dict of 8 bits becomes float32 everywhere. A schedule that was forgotten is said everywhere."""
    saved = fastopt.Adam(params(), lr=lambda t: 0.1).state_dict()
    opt = Sharded(fastopt.Adam, params(), lr=0.2)
    with pytest.warns(UserWarning, match=r"groups\[0\]\['lr'\] stays 0\.2"):
        opt.load_state_dict(saved if opt.rank == 0 else None)
    alone = fastopt.Adam(params(), state="q8")
    alone.step(gradient(1, "q8"))
    opt, twin = Sharded(fastopt.Adam, alone.params, mean=False), fastopt.Adam(trees.map(np.copy, alone.params))
    opt.load_state_dict(alone.state_dict() if opt.rank == 0 else None, convert=True)
    twin.load_state_dict(alone.state_dict(), convert=True)
    steps(opt, twin, "q8", (2, 3), "converted")


def guide():
    """The block of the guide that is about ranks, on one."""
    from pages import run
    os.chdir(HERE)
    assert not run("docs/guides/many_machines.md", "py3", np=np, fastopt=fastopt)


def saved():
    """An optimizer that has saved a checkpoint after its first step, and has taken another step."""
    opt = Sharded(fastopt.Adam, params(), mean=False)
    opt.step(part(gradient(1), opt.rank, opt.size))
    opt.save(HERE/"safe.safetensors")
    opt.step(part(gradient(2), opt.rank, opt.size))
    return opt


def gone(*_):
    os.kill(os.getpid(), 9)


def dies_gathering():
    """Rank 1 goes in the middle of a save: what was there stays, whole."""
    opt = saved()
    if opt.rank == 1:
        opt._ranks.copy = gone
    opt.save(HERE/"safe.safetensors")


def dies_writing():
    """Rank 0 goes when it has written a part of the file."""
    opt = saved()
    fastopt.files.save_file = lambda arrays, path, about: (Path(path).write_bytes(b"\xff"*5000), gone())
    opt.save(HERE/"safe.safetensors")


def dies_stepping():
    """Rank 1 goes in the middle of a step."""
    opt = saved()
    if opt.rank == 1:
        opt._ranks.share = gone
    opt.step(part(gradient(3), opt.rank, opt.size))


def full():
    """No room on the disk is an error on all ranks, which go on; nothing but whole files is left."""
    opt = saved()
    before = HERE.joinpath("safe.safetensors").read_bytes() if opt.rank == 0 else None
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    if opt.rank == 0:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    fails(lambda: opt.save(HERE/"safe.safetensors"), "What was there is unchanged")
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    if opt.rank == 0:
        assert [path.name for path in HERE.glob("safe*")] == ["safe.safetensors"]
        assert HERE.joinpath("safe.safetensors").read_bytes() == before
    alone = fastopt.Adam(params())
    for t in (1, 2):
        alone.step(gradient(t))
    steps(opt, alone, "f32", (3,), "after a full disk")
    opt.save(HERE/"safe.safetensors")
    damaged = HERE/"damaged.safetensors"
    if opt.rank == 0:
        damaged.write_bytes(HERE.joinpath("safe.safetensors").read_bytes()[:-100])
    fails(lambda: opt.load(damaged), "no whole checkpoint of fastopt")
    fails(lambda: opt.load(HERE), "directory")
    fails(lambda: opt.load(HERE/"nothing"), "No such file")
    same(opt.params, alone.params, "after files that are none")


if __name__ == "__main__":
    for name in sys.argv[2:]:
        globals()[name]()
    print("done")
