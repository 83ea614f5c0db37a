"""Attributes are in force or refused; a number of any library is a number; nothing is taken without effect."""
import json
import re
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from conftest import OPTIMIZERS, assert_identical

import fastopt
from fastopt import problems, schedules
from fastopt._checks.numbers import check_number, check_option, plain, whole

ones = np.ones(3)


def scalars(number):
    """The number in every dress that it may wear."""
    yield from (np.array(number), np.array(number).reshape(()), np.asarray(number)[()])
    if isinstance(number, bool):
        yield np.bool_(number)
    elif isinstance(number, int):
        yield from (np.int64(number), np.uint8(number), np.int16(number))
    else:
        yield from (np.float64(number), np.float32(number), np.float16(number), Fraction(number), np.longdouble(number))
    try:
        import torch
        yield torch.tensor(number)
        if isinstance(number, float):
            yield from (torch.tensor(number, requires_grad=True), torch.tensor(number, dtype=torch.bfloat16))
    except ImportError:
        pass
    try:
        import jax.numpy
        yield jax.numpy.asarray(number)
    except ImportError:
        pass


def test_scalars_of_any_library_are_numbers():
    w = np.array([1.0, -2.0])
    want = fastopt.Momentum(w.copy(), lr=0.5, momentum=0.25, dampening=0.125, maximize=True, average=0.75)
    for lr, momentum, dampening, maximize, threads, seed, average in zip(
            scalars(0.5), scalars(0.25), scalars(0.125), [*scalars(True)]*9, [*scalars(2)]*9, [*scalars(5)]*9,
            scalars(0.75), strict=False):
        opt = fastopt.Momentum(w.copy(), lr=lr, momentum=momentum, dampening=dampening, maximize=maximize,
                               threads=threads, seed=seed,
                               average=average, rounding=np.str_("nearest"), capturable=np.bool_(False))
        assert dict(opt.groups[0]) == dict(want.groups[0])
        assert json.loads(json.dumps(dict(opt.groups[0]))) == dict(want.groups[0])  # plain numbers
        assert {k: type(v) for k, v in opt.groups[0].items()} == {k: type(v) for k, v in want.groups[0].items()}
        assert (opt.threads, opt.seed, type(opt.threads), type(opt.seed)) == (2, 5, int, int)
    for number in scalars(2):
        opt.t = number
        assert opt.t == 2
        assert isinstance(opt.t, int)
        opt.groups[0]["lr"] = number
        assert repr(opt.groups[0]["lr"]) == "2.0"


def test_scalars_of_a_step():
    for half, one, yes in zip(scalars(0.5), scalars(1.0), [*scalars(True)]*9, strict=False):
        g = np.array([3.0, 4.0])
        w = np.zeros(2)
        opt = fastopt.SGD(w, lr=1.0)
        opt.step(g, clip_norm=one, clip_value=half, grad_factor=half, skip_nonfinite=yes, zero_grads=yes)
        assert_identical(w, np.array([-0.5, -0.5]))
        assert g.tolist() == [0, 0]
    for number in scalars(0.25):
        w = np.zeros(2)
        fastopt.SGD(w, lr=lambda t, number=number: number).step(np.ones(2))
        assert w.tolist() == [-0.25, -0.25]
        assert repr(schedules.linear(number, 1, 4).arguments) == "(0.25, 1.0, 4)"
    for number in scalars(4):
        assert schedules.linear(1, 0, number)(number) == 0.25


NOT_NUMBERS = ["1", b"1", True, np.bool_(True), np.nan, 1j, np.array(1j), np.array("1"), np.array([0.1, 0.2]), [0.1],
               np.zeros(0), np.datetime64(1, "s")]


def test_what_is_no_number():
    for bad, call in product(NOT_NUMBERS, (
            lambda x: fastopt.SGD(ones, lr=x), lambda x: fastopt.SGD(ones).step(ones, clip_norm=x),
            lambda x: fastopt.SGD(ones, lr=lambda t: x).step(ones), lambda x: check_number("lr", x, "here", ""))):
        with pytest.raises((TypeError, ValueError), match=r"^\w+( at step 1)?: \w+ is .* is needed\. Change \w+\.$"):
            call(bad)
        assert whole(bad) is None
    assert ones.tolist() == [1, 1, 1]


def test_an_array_of_one_element_has_a_cure():
    x = np.array([0.5])
    for call in (lambda x: fastopt.SGD(ones.copy(), lr=x), lambda x: fastopt.SGD(ones.copy()).step(ones, clip_norm=x),
                 lambda x: fastopt.SGD(ones.copy(), lr=lambda t: x).step(ones)):
        with pytest.raises(TypeError, match=r"Give its one element, x\.item\(\)\.$"):
            call(x)
        call(x.item())
    with pytest.raises(ValueError, match=r"Give its one element, x\.item\(\)\.$"):
        check_option("maximize", np.array([True]), (False, True), "here")
    assert plain(x) is x


def test_whole_numbers_elsewhere():
    w = np.array([1.0])
    for two in scalars(2):
        opt = fastopt.SGD(w.copy(), lr=0.25)
        done = fastopt.fit(opt, lambda p, batch: (float(p[0]**2), 2*p), steps=two, accumulate=two)
        assert (done.steps, opt.params.tolist()) == (2, [0.25])
        assert problems.rosenbrock(two).start.size == 2


def test_flags_are_true_or_false():
    w = np.ones(3)
    opt = fastopt.SGD(w, lr=1.0)
    for name in ("skip_nonfinite", "zero_grads"):
        for bad in ("no", None, 2, np.array([True, False])):
            with pytest.raises(ValueError, match=f"^step: {name} is .*, but one of False, True is needed. Change "
                                                 f"{name}.$"):
                opt.step(ones, **{name: bad})
    assert (opt.t, w.tolist()) == (0, [1, 1, 1])


def test_words_of_other_systems_lead_to_what_a_rule_has():
    """Adam has no alpha, so that rho does not lead there; what is named is taken."""
    led = {}
    for name, cls in OPTIMIZERS.items():
        words = {"betas", "beta1", "beta_2", "rho", "learning_rate", "epsilon", "decoupled_weight_decay", "amsgrad",
                 "nesterov", "momentum", "centered", "clip_norm", "clipnorm", "global_clipnorm", "clipvalue"}
        for word in sorted(words - set(cls.rule.defaults)):
            with pytest.raises(TypeError, match=f"'{word}' is no hyperparameter of {name}") as error:
                cls(ones, **{word: 0.5})
            cure = str(error.value).rpartition(". ")[2]
            led.setdefault(word, {})[name] = cure
            if other := re.match(r"Say fastopt\.(\w+)", cure):
                assert getattr(fastopt, other[1]).rule.name != name
            elif of_step := re.match(r"Say opt\.step\(grads, (.*)\)\.$", cure):
                cls(ones.copy()).step(ones, **eval(f"dict({of_step[1].replace('...', '0.5')})"))
            elif cure != "Remove it or take one of those.":
                given = eval(f"dict({cure[4:-1].replace('...', '0.5')})")
                cls(ones.copy(), **given)
    assert led["rho"]["adam"] == led["betas"]["sgd"] == led["amsgrad"]["lion"] == "Remove it or take one of those."
    assert (led["rho"]["rmsprop"], led["betas"]["adan"]) == ("Say alpha=....", "Say b1=..., b2=..., b3=....")
    assert (led["amsgrad"]["adamw"], led["beta_2"]["lion"]) == ("Say fastopt.AMSGrad.", "Say b2=....")
    assert set(led["learning_rate"].values()) == {"Say lr=...."}
    assert led["momentum"]["sgd"].startswith("Say fastopt.Momentum,")
    assert led["centered"]["rmsprop_momentum"] == "Say fastopt.RMSPropCenteredMomentum."
    assert set(led["clipnorm"].values()) == {'Say opt.step(grads, clip_norm=..., clip="tensor").'}


# Attributes

def made(**more):
    return fastopt.Adam({"w": np.ones(2), "b": np.ones(1)}, **more)


def test_hyperparameters_are_in_the_groups():
    opt = made()
    for name in (*opt.groups[0], "learning_rate"):
        own = {"learning_rate": "lr"}.get(name, name)
        value = opt.groups[0][own]
        with pytest.raises(AttributeError) as error:
            setattr(opt, name, value)
        cure = f"opt.groups[0]['{own}'] = {value!r}"
        said = f"Adam: {own} is no attribute of an optimizer, but steps read it in the groups. Say {cure} instead."
        assert str(error.value) == said
        exec(cure)
        with pytest.raises(AttributeError, match=re.escape(f"Say opt.groups[0]['{own}'] instead.")):
            getattr(opt, name)
        assert not hasattr(opt, name)
        assert hasattr(type(opt), name)
    opt = fastopt.SGD([{"params": np.ones(2)}, {"params": np.ones(1)}])
    with pytest.raises(AttributeError) as error:
        opt.lr = 0.25
    exec(re.search(r"Say (.*) instead\.$", str(error.value))[1])
    assert [group["lr"] for group in opt.groups] == [0.25, 0.25]


def test_what_an_optimizer_is_made_with_stays():
    opt, twin = made(seed=3), made(seed=3)
    g = {"w": np.ones(2), "b": np.ones(1)}
    for name in ("params", "groups", "state", "rule", "seed", "grad_norm", "rounding", "average", "schedule_free",
                 "copy"):
        with pytest.raises(AttributeError, match=rf"^Adam: {name} was set, but an optimizer keeps the one that it "
                                                 rf"has\. [A-Z]"):
            setattr(opt, name, 1)
    for o in (opt, twin):
        o.step(g)
    assert_identical(opt.params["w"], twin.params["w"])
    assert opt.seed == 3
    w = np.ones(3)
    opt = fastopt.SGD(w)
    opt.params *= 2  # Python sets the attribute to the same array at the end of this
    assert w.tolist() == [2, 2, 2]
    assert fastopt.SGD.rule is opt.rule


def test_threads_are_in_force_at_the_next_step():
    n = 200_000
    w, twin = (np.ones(n, np.float32) for _ in range(2))
    opt, other = fastopt.SGD(w, threads=1), fastopt.SGD(twin, threads=1)
    used = []
    for threads in (2, np.int64(1), 3):
        opt.threads = threads
        opt.step(w)
        other.step(twin)
        used.append(opt._backend.threads)
    assert used == [2, 1, 3]
    assert_identical(w, twin)
    for bad in (0, 1.5, True, "2"):
        with pytest.raises(ValueError, match=r"^SGD: threads is .*, but a whole number, 1 or more, is needed. Give "
                                             r"None to use all\.$"):
            opt.threads = bad
    assert opt.threads == 3


def test_a_subclass_has_attributes_of_its_own():
    class Mine(fastopt.Adam):
        def __init__(self, params):
            super().__init__(params, lr=0.5)
            self.history, self._own = [], 1

        @property
        def lr(self):
            return self.groups[0]["lr"]

    opt = Mine(np.ones(2))
    opt.step(np.ones(2))
    opt.history.append(opt.lr)
    assert (opt.history, opt._own, opt.t) == ([0.5], 1, 1)
