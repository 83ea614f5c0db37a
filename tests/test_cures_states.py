"""Cures of messages about state dicts and files: each is executed, loses nothing, and no message is left out."""
import os
import pickle
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from conftest import normal
from cures import alike, check, same

import fastopt
from fastopt import bitsandbytes

f16, f32 = np.float16, np.float32
SHAPES = {"a": (3,), "b": (3, 4)}


def gradients(seed=9, shapes=SHAPES):
    return {k: normal(seed + n, *shape) for n, (k, shape) in enumerate(shapes.items())}


def fresh(kind=fastopt.Adam, dtype=float, order="C", **more):
    return kind({k: np.ones(shape, dtype, order) for k, shape in SHAPES.items()}, **more)


def trained(kind=fastopt.Adam, *given, **more):
    opt = fresh(kind, *given, **more)
    for t in range(3):
        opt.step(gradients(t))
    return opt


def saved():
    return trained().state_dict()


def load(new, old, **more):
    new.load_state_dict(old, **more)


def goes_on(old, new, **more):
    """The state of the old one is that of the new one, now and after a step."""
    if more.pop("parameters", True):
        for k, a in old.params.items():
            new.params[k][...] = a
    new.load_state_dict(old.state_dict(), **more)
    for _ in range(2):
        same(new.state_dict(), old.state_dict())
        same(new.params, old.params)
        old.step(gradients())
        new.step(gradients())


def groups(kind=fastopt.Adam, count=2):
    return kind([{"params": [np.ones(3)]} for _ in range(count)])


def listed(*shapes):
    return fastopt.Adam([np.ones(shape) for shape in shapes])


def as_given():
    return goes_on(trained(), fresh())


def other_order():
    old = listed(3, (3, 4))
    old.step([np.ones(3), np.ones((3, 4))])
    new = listed(3, (3, 4))
    load(new, old.state_dict())
    same(new.state_dict(), old.state_dict())


def damaged(**changes):
    old = trained(state="q8").state_dict()
    return {**old, "storage": {**old["storage"], **changes}}


def convert(old, new):
    """States are converted: back, they are what they were."""
    load(new, old.state_dict(), convert=True)
    same({**new.decoded("m")}, {**old.decoded("m")})
    same({**new.decoded("v")}, {**old.decoded("v")})


def twice(order):
    return {**listed(3, 3).state_dict(), "paths": order}


def without_remainder():
    """The low bits of parameters are gone with the conversion, the states are not."""
    old = trained(dtype=f32, average=0.9)
    new = fresh(dtype=f32)
    load(new, old.state_dict(), convert=True)
    same(new.state_dict()["state"], {k: v for k, v in old.state_dict()["state"].items() if k != "average"})


class Key:
    """A key of a dict that is written like others."""

    def __init__(self, name):
        self.name = name

    def __repr__(self):
        return repr(self.name)


def keyed(*names):
    return fastopt.Adam({Key(name): np.full(2, float(n)) for n, name in enumerate(names)})


def in_order():
    old, new = keyed("k", "k", "x"), keyed("k", "k", "x")
    old.step({k: a + n for n, (k, a) in enumerate(old.params.items())})
    load(new, old.state_dict())
    same(new.state_dict(), old.state_dict())


def read_only():
    opt = fresh()
    opt.state["m"]["a"].base.flags.writeable = False
    return opt


def made_writable():
    old, new = trained(), read_only()
    new.state["m"]["a"].base.flags.writeable = True
    goes_on(old, new)


def resized():
    opt = trained()
    opt.state["m"]["a"].base.resize(1, refcheck=False)
    return opt


def spoilt(**changes):
    """A saved state dict that is not whole any more."""
    load(fresh(), {**trained().state_dict(), **changes})


def unlike(other=None, **how):
    """A case: a state dict is loaded into an optimizer of another storage; one of its own takes it."""
    return ((lambda: load(fresh(**(other or {})), trained(**how).state_dict())),
            lambda: goes_on(trained(**how), fresh(**how)))


def converted(state):
    """A case: states in another format are converted where that is asked for."""
    return ((lambda: load(fresh(dtype=f32), trained(dtype=f32, state=state).state_dict())),
            lambda: convert(trained(dtype=f32, state=state), fresh(dtype=f32)))


CALLS = [  # what raises; and what the message says to do instead
    *alike(as_given, lambda: load(fresh(), [1]), lambda: load(fresh(), {"t": 1}), lambda: load(resized(), saved()),
           lambda: load(fresh(fastopt.SGD), saved()), lambda: spoilt(**damaged(seed=-1)),
           lambda: load(fresh(), fastopt.Adam({"a": np.ones(2), "b": np.ones((3, 4))}).state_dict()),
           *(partial(spoilt, **{key: value}) for key, value in (
               ("groups", 1), ("functions", 1), ("version", 2), ("t", -1), ("groups", [1]), ("history", [1]),
               ("paths", 1), ("behind", [1]), ("past", [1]),
               ("state", {"m": 1, "v": 1}), ("state", {"m": [1], "v": [1]})))),
    *alike(other_order, lambda: load(listed(3), listed(3, 3).state_dict()),
           lambda: load(listed(3, 3), fastopt.Adam({"x": np.ones(3), "y": np.ones(3)}).state_dict()),
           lambda: load(listed(3, 3), twice(["params[1]", "params[1]"]))),
    (lambda: load(groups(), groups(count=1).state_dict()), lambda: load(groups(), groups().state_dict())),
    unlike(average=0.9), unlike(dtype=f32), unlike(state="bf16"), unlike(state="q8"),
    unlike({"state": "q8", "order": "F"}, state="q8"), converted("bf16"), converted("q8"),
    (unlike(average=0.9)[0], without_remainder),
    (lambda: load(fresh(dtype=np.uint16), fresh(dtype=np.uint16, rounding="remainder").state_dict()),
     unlike(dtype=np.uint16, rounding="remainder")[1]),
    (lambda: load(read_only(), saved()), made_writable),
    (lambda: pickle.dumps(fastopt.Adam(np.ones(3), lr=lambda t: 0.1)),
     lambda: pickle.loads(pickle.dumps(fastopt.Adam(np.ones(3), lr=abs)))),
    (lambda: load(keyed("k", "k", "x"), keyed("x", "k", "k").state_dict()), in_order),
    (lambda: load(fastopt.Adam(np.ones(3), state="q8"), fastopt.Adam(np.ones(300), state="q8").state_dict()),
     unlike(state="q8")[1])]


# What torch makes

def parts(kind="Adam", steps=(3, 3), **more):
    """An optimizer of torch whose parameters have taken so many steps."""
    torch = pytest.importorskip("torch")
    tensors = [torch.nn.Parameter(torch.ones(shape, dtype=torch.float64)) for shape in SHAPES.values()]
    opt = getattr(torch.optim, kind)(tensors, **more)
    for t in range(max(steps)):
        for p, count, g in zip(tensors, steps, gradients(t).values(), strict=True):
            p.grad = torch.tensor(g) if t < count else None
        opt.step()
    return opt


def entry(**changes):
    """The dict of torch's Adam with another first entry."""
    found = parts().state_dict()
    found["state"][0].update(changes)
    return {**found, "state": {**found["state"], 0: {k: v for k, v in found["state"][0].items() if v is not None}}}


def group(**changes):
    found = parts().state_dict()
    return {**found, "param_groups": [{**found["param_groups"][0], **changes}]}


def like_torch(kind=fastopt.Adam, name="Adam", wrong=None, **more):
    """What torch's state_dict() returned, with torch's parameters; one step more on both sides is the same."""
    torch = pytest.importorskip("torch")
    theirs = parts(name, **more)
    tensors = theirs.param_groups[0]["params"]
    opt = kind({k: p.detach().numpy().copy() for k, p in zip(SHAPES, tensors, strict=True)})
    opt.t = 3  # SGD's dict holds no count
    load(opt, theirs.state_dict() if wrong is None else wrong(theirs.state_dict()))
    assert opt.t == 3
    opt.step(gradients())
    for p, g in zip(tensors, gradients().values(), strict=True):
        p.grad = torch.tensor(g)
    theirs.step()
    for p, a in zip(tensors, opt.params.values(), strict=True):
        np.testing.assert_allclose(a, p.detach().numpy(), rtol=1e-12)


def renamed(saved):
    """The keys of state, renamed to those of its groups."""
    strange = {f"layer {k}": e for k, e in saved["state"].items()}
    return {**saved, "state": dict(zip(saved["param_groups"][0]["params"], strange.values(), strict=True))}


def theirs(given=None, kind=fastopt.Adam, name="Adam", **more):
    """A dict of torch, of an optimizer with other settings, is loaded."""
    load(fresh(kind), parts(name, **more).state_dict() if given is None else given)


THEIRS = [
    *alike(like_torch, lambda: load(listed(3), parts().state_dict()), lambda: theirs({"param_groups": []}),
           lambda: theirs({"param_groups": 1, "state": {}}), lambda: theirs({"param_groups": [], "state": 1}),
           lambda: theirs(group(params=1)), lambda: theirs(group(params=[[0], [1]])),
           lambda: theirs(group(params=[0, 0])), lambda: theirs(group(lr=np.ones(2))),
           lambda: theirs(group(amsgrad=np.ones(2))), lambda: theirs(group(betas=0.9)),
           lambda: theirs(kind=fastopt.RMSProp), lambda: theirs(entry(step=None)), lambda: theirs(entry(step=1.5))),
    *alike(lambda: like_torch(fastopt.AMSGrad, amsgrad=True), lambda: theirs(entry(max_exp_avg_sq=np.ones(3))),
           lambda: theirs(amsgrad=True)),
    (lambda: theirs(kind=fastopt.Lion), lambda: goes_on(trained(fastopt.Lion), fresh(fastopt.Lion))),
    (lambda: theirs({**parts().state_dict(), "state": {"x": parts().state_dict()["state"][0]}}),
     lambda: like_torch(wrong=renamed)),
    (lambda: theirs(kind=fastopt.SGD, name="SGD", momentum=0.9),
     lambda: like_torch(fastopt.Momentum, "SGD", momentum=0.9)),
    (lambda: theirs(kind=fastopt.Momentum, name="SGD", momentum=0.9, nesterov=True),
     lambda: like_torch(fastopt.Nesterov, "SGD", momentum=0.9, nesterov=True)),
    (lambda: theirs(kind=fastopt.RMSProp, name="RMSprop", momentum=0.9),
     lambda: like_torch(fastopt.RMSPropMomentum, "RMSprop", momentum=0.9)),
    (lambda: theirs(kind=fastopt.RMSProp, name="RMSprop", centered=True),
     lambda: like_torch(fastopt.RMSPropCentered, "RMSprop", centered=True))]


def test_memory_orders_of_eight_bit_states():
    """Axes that run otherwise here, in bitsandbytes and in our blocks."""
    x = np.arange(6, dtype=f32).reshape(2, 3)
    turned = np.asfortranarray(x)
    with pytest.raises(ValueError, match=r"C order is needed. Give numpy.ascontiguousarray"):
        bitsandbytes.decoded({"state1": turned}, {"state1": "m"})
    for cured, want in ((np.ascontiguousarray(turned), x),
                        (turned.ravel(order="K").reshape(turned.shape), x.T.reshape(2, 3))):
        same(bitsandbytes.decoded({"state1": cured}, {"state1": "m"})["m"], want)


# Files

HERE = Path(tempfile.gettempdir())


def file(name="a.safetensors", opt=None):
    """A path in a folder that goes away; with what the optimizer holds in it."""
    path = HERE / name
    if opt is not None:
        fastopt.files.save(path, opt)
    return path


def reloaded(old=None, new=None, name="a.safetensors"):
    old, new = old or trained(), new or fresh()
    fastopt.files.load(file(name, old), new)
    goes_on(old, new, parameters=False)


def other_format(dtype, kept, **more):
    """A case: loaded in the format of the file, and converted, the numbers are those, to the nearest."""
    def cure():
        old, between = trained(dtype=f32), fresh(dtype=f32)
        fastopt.files.load(file(opt=old), between)
        new = fastopt.Adam({k: a.astype(dtype) for k, a in between.params.items()}, **more)
        load(new, between.state_dict(), convert=True)
        same(new.params, {k: a.astype(dtype) for k, a in old.params.items()})
        for name, states in old.state_dict()["state"].items():
            same([*new.decoded(name).values()], [a.astype(kept) for a in states])
    return lambda: fastopt.files.load(file(opt=trained(dtype=f32)), fresh(dtype=dtype, **more)), cure


def real_or_complex(old, new):
    """One array of each of these types."""
    one, two = fastopt.Adam(np.ones(3, old)), fastopt.Adam(np.zeros(3, new))
    one.step(np.ones(3, old))
    fastopt.files.load(file(opt=one), two)
    same([two.params, two.state], [one.params, one.state])


def made_first():
    (HERE / "new").mkdir()
    reloaded(name="new/a.safetensors")


def stateless(shape=(3,)):
    return fastopt.SGD(np.ones(shape))


def restored(old, new):
    with old.snapshot(state=False, copy=True) as snapshot:
        pass
    new.restore(snapshot)
    same(new.params, old.params)


def text(path, content):
    path.write_text(content)
    return path


FILES = [
    *alike(reloaded, lambda: fastopt.files.save(HERE, trained()), lambda: fastopt.files.save(f"{HERE}/x/", trained()),
           lambda: fastopt.files.save(5, trained()), lambda: fastopt.files.save("a\0", trained()),
           lambda: fastopt.files.save(file(), 5), lambda: fastopt.files.save(file(), keyed("k", "k")),
           lambda: fastopt.files.load(text(file("b"), "no"), fresh()), lambda: fastopt.files.load(os.devnull, fresh()),
           lambda: fastopt.files.load(file(opt=stateless(4)), stateless(3))),
    (lambda: fastopt.files.save(HERE / "new/a", trained()), made_first),
    *alike(lambda: [real_or_complex(kind, kind) for kind in (float, complex)],
           lambda: real_or_complex(float, complex), lambda: real_or_complex(complex, float)),
    other_format(f16, f32, state="f32"), other_format(float, float),
    (lambda: fastopt.files.load(file(opt=trained(state="bf16")), fresh()),
     lambda: reloaded(trained(state="bf16"), fresh(state="bf16"))),
    (lambda: restored(listed(3), listed(3, 4)), lambda: restored(listed(3, 4), listed(3, 4))),
    (lambda: restored(listed(1), listed(3)), lambda: restored(listed(3), listed(3)))]


def test_a_file_of_complex_numbers_says_so(tmp_path, monkeypatch):
    pytest.importorskip("safetensors")
    monkeypatch.setitem(globals(), "HERE", tmp_path)
    for kinds in ((float, complex), (complex, float)):
        with pytest.raises(ValueError, match=r"It belongs to another .+, or one of the two is complex and has pairs\."):
            real_or_complex(*kinds)


# `tried` and `_replace` are refused by the system, which tests/test_files.py imitates
@pytest.mark.filterwarnings("ignore:load_state_dict. torch's dict. SGD's:UserWarning")
def test_what_the_messages_say_to_do_works(tmp_path, monkeypatch):
    pytest.importorskip("safetensors")
    pytest.importorskip("torch")
    monkeypatch.setitem(globals(), "HERE", tmp_path)
    check([*CALLS, *THEIRS, *FILES], "states", ("tried", "_replace"))
    with pytest.raises(ValueError) as error:  # `load` of files does not convert
        fastopt.files.load(file(opt=trained(state="q8")), fresh())
    assert str(error.value).endswith("Make it with state=....")


@pytest.mark.parametrize("steps", [(3, 2), (0, 2), (4, 0)])
@pytest.mark.parametrize(("kind", "name", "more"), [
    (fastopt.Adam, "Adam", {}), (fastopt.NAdam, "NAdam", {}), (fastopt.RAdam, "RAdam", {}),
    (fastopt.AdaGrad, "Adagrad", {"lr_decay": 0.1}), (fastopt.Momentum, "SGD", {"momentum": 0.9, "dampening": 0.5})])
def test_parameters_at_different_steps(kind, name, more, steps):
    """Each goes on from where torch's is."""
    torch = pytest.importorskip("torch")
    theirs = parts(name, steps, **more)
    tensors = theirs.param_groups[0]["params"]
    opt = kind({k: p.detach().numpy().copy() for k, p in zip(SHAPES, tensors, strict=True)})
    opt.t = max(steps)  # SGD's dict holds no count
    load(opt, theirs.state_dict())
    if name != "SGD":
        assert list(opt.counts.values()) == list(steps)
    for t in range(8, 11):
        opt.step(gradients(t))
        for p, g in zip(tensors, gradients(t).values(), strict=True):
            p.grad = torch.tensor(g)
        theirs.step()
        for p, a in zip(tensors, opt.params.values(), strict=True):  # torch keeps NAdam's product in float32
            np.testing.assert_allclose(a, p.detach().numpy(), rtol=1e-9 if name == "NAdam" else 1e-12)
