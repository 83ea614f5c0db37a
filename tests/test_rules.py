"""Rules on float64 arrays: equal to their papers at many hyperparameters, lawful, and exact at any step number."""
import itertools
import math
from decimal import Decimal, localcontext
from pathlib import Path

import numpy as np
import pytest
from papers import PAPERS

import fastopt
from fastopt import kernels, notation, optimizers, rules
from fastopt._rule.hyperparameters import MODIFIERS
from fastopt._rule.pieces import COMMON
from fastopt._rule.rule import _check_body, _try_out

ALL = rules.ALL
STEPS = 30
each_rule = pytest.mark.parametrize("name", ALL)


@each_rule
def test_a_rule_has_all_that_belongs_to_it(name):
    """What loops over rules finds it everywhere; what is written by hand is there."""
    rule = ALL[name]
    title = rule.class_name
    readme = Path(fastopt.__file__).parents[1].joinpath("README.md").read_text()
    stub = Path(fastopt.__file__).with_name("optimizers.pyi").read_text()
    examples = {k for example in rule.examples for k, v in example.items() if v != rule.defaults[k]}
    steady = {**rule.defaults, **rule.steady}
    belongs = {
        "a class in fastopt": getattr(getattr(fastopt, title, None), "rule", None) is rule and title in fastopt.__all__,
        "an entry in fastopt.optimizers.ALL": getattr(optimizers.ALL.get(name), "rule", None) is rule,
        "a kernel in fastopt.kernels": hasattr(kernels, name),
        "a class in optimizers.pyi (its first line says how that is made)": f"\nclass {title}(Optimizer):\n" in stub,
        "a paper in tests/papers.py": name in PAPERS,
        "a row in the README's table of optimizers": f"\n| `{title}` |" in readme,
        "a line about each hyperparameter": rule.docs.keys() >= rule.defaults.keys(),
        "examples that are not its defaults": examples >= {k for k in rule.own_names if k in rule.options},
        "steady settings with a learning rate of their own": steady["lr"] < rule.defaults["lr"]}
    _check_body(rule.body, " ".join(rule.state), " ".join(rule.nonnegative))  # as a user's rule is when it is made
    assert _try_out(rule.body, rule.Coefficients, rule.state) == rule.reads
    missing = [what for what, there in belongs.items() if not there]
    assert not missing, f"the rule {name} lacks {'; '.join(missing)}"


# Rule == paper.

VALUES = {  # several values of hyperparameters; flags and words take all theirs, others those of the rule's examples
    "lr": (0.3, 0.02, 1e-5), "momentum": (0.0, 0.5, 0.99), "dampening": (0.1, 0.7), "alpha": (0.0, 0.5, 0.9999),
    "eps": (0.0, 1e-3, 0.5), "eps_root": (1e-8, 0.1), "lr_decay": (0.01, 1.5), "initial_accumulator_value": (0.1, 3.0),
    "b1": (0.0, 0.5, 0.99), "b2": (0.8, 0.95, 0.9999), "momentum_decay": (0.0, 1.0, 0.1), "threshold": (4.0, 8.5),
    "weight_decay": (0.05, 0.4), "factor": (0.25, 1.7, -1.0), "clip_value": (0.3, 1.2)}
VISIBLE = {  # what a word needs beside it to change anything
    "decay": {"weight_decay": 0.07}, "first_step": {"dampening": 0.4}, "eps_mode": {"eps": 0.1},
    "maximize": {"weight_decay": 0.07}, "shifted": {"momentum": 0.8}, "factor": {"clip_value": 1.0}}
MIXED = {"lr": 0.05, "momentum": 0.7, "dampening": 0.2, "alpha": 0.9, "eps": 0.02, "eps_root": 0.03, "lr_decay": 0.1,
         "initial_accumulator_value": 0.2, "b1": 0.8, "b2": 0.97, "momentum_decay": 0.05, "threshold": 4.5,
         "weight_decay": 0.1, "factor": 0.6, "clip_value": 0.9}


def one_at_a_time(rule):
    yield {}
    for hyper in (*(name for name in rule.defaults if name not in MODIFIERS), "factor", "clip_value"):
        given = [example[hyper] for example in rule.examples if hyper in example]
        for value in rule.options.get(hyper) or VALUES.get(hyper, given):
            yield {**VISIBLE.get(hyper, {}), hyper: value}


def all_mixed(rule):
    """Every combination of words and flags, with numbers that are none of the defaults."""
    numbers = {k: v for k, v in MIXED.items() if k in (*rule.defaults, "factor", "clip_value")}
    words = [k for k in rule.defaults if k in rule.options and k not in MODIFIERS]
    for values in itertools.product(*(rule.options[k] for k in words)):
        yield numbers | dict(zip(words, values, strict=True))


def start(rule, w, hyper):
    full = {**rule.defaults, **hyper}
    return tuple(np.full_like(w, full[rule.initial[slot]] if slot in rule.initial else 0.0) for slot in rule.state)


def gradients(seed=0, size=23, steps=STEPS):
    return np.random.default_rng(seed).normal(size=(steps, size))


def march(name, p, gs, first=1, state=None, **hyper):
    rule = ALL[name]
    state = start(rule, p, hyper) if state is None else state
    for t, g in enumerate(gs, first):
        p, *state = rule(rule.at(t, **hyper), g, p, *state)
    return (p, *state)


def same(left, right):
    for a, b in zip(left, right, strict=True):
        np.testing.assert_array_equal(a, b)


W, GS = gradients(1)[0], gradients()


def close(value, expected, what):
    np.testing.assert_allclose(value, expected, rtol=1e-12, atol=1e-14, err_msg=what)


def walk(rule, hyper, schedule):
    """Both roads side by side: after every step the parameters and each state agree."""
    paper, w = PAPERS[rule.name], gradients(1)[0]
    full = {**rule.defaults, **hyper}
    theta, s, state, lr = w, {}, start(rule, w, hyper), full["lr"]
    for t, g in enumerate(gradients(), 1):
        full["lr"] = schedule(lr, t)
        w, *state = rule(rule.at(t, np.float64, **full), g, w, *state)
        theta = paper(t, theta, g, s, **full)
        for slot, value, right in zip(("p", *rule.state), (w, *state), (theta, *map(s.get, rule.state)), strict=True):
            close(value, right, f"{slot} at step {t} with {hyper}")


@each_rule
def test_rule_is_its_paper(name):
    """Each hyperparameter is seen, too: a word or number that is not the default leads elsewhere."""
    rule, seen = ALL[name], {}
    defaults = {**rule.defaults, "factor": 1.0, "clip_value": math.inf}
    for hyper in one_at_a_time(rule):
        walk(rule, hyper, lambda lr, t: lr)
        last = next(reversed(hyper), "lr")
        if hyper.get(last, defaults[last]) != defaults[last]:
            walked = march(name, W, GS, **hyper), march(name, W, GS, **{**hyper, last: defaults[last]})
            differs = any(not np.array_equal(a, b) for a, b in zip(*walked, strict=True))
            which = (last, hyper[last]) if last in rule.options else last  # of a number's values one is enough
            seen[which] = seen.get(which, False) or differs
    assert all(seen.values()), seen
    for hyper in all_mixed(rule):
        walk(rule, hyper, lambda lr, t: lr*(1 + 0.5*math.cos(t)))


# Nesterov's two ways of walking.

def slope(w):
    return np.tanh(w) + 0.3*w


def both_nesterovs(lr_of, mu_of, **hyper):
    """[(look-ahead points of the textbook form, stored points of the shifted form)] on a smooth function."""
    rule, p, q = ALL["nesterov"], gradients(1)[0], gradients(1)[0]
    v = u = np.zeros_like(p)
    at = p  # the velocity is 0
    for t in range(1, STEPS + 1):
        given = {"lr": lr_of(t), "momentum": mu_of(t), **hyper}
        textbook, shifted = rule.at(t, **given), rule.at(t, **given, shifted=True)
        p, v = rule(textbook, slope(at), p, v)
        q, u = rule(shifted, slope(q), q, u)
        at = p - textbook.ahead*v
        yield at, q


def test_nesterov_look_ahead_points_are_the_shifted_form():
    """They part when momentum changes, or lr does that stands outside the velocity."""
    for form, (lr, mu) in itertools.product(ALL["nesterov"].options["form"],
                                            ((0.1, 0.9), (0.4, 0.5), (0.02, 0.99), (0.3, 0.0))):
        for ahead, stored in both_nesterovs(lambda t, lr=lr: lr, lambda t, mu=mu: mu, form=form):
            close(ahead, stored, f"point of {form} at {lr}, {mu}")
    for lr_of, mu_of, form in ((lambda t: 0.1, lambda t: 0.9 - 0.4/t, "textbook"),
                               (lambda t: 0.1/t, lambda t: 0.9, "outside")):
        *_, (ahead, stored) = both_nesterovs(lr_of, mu_of, form=form)
        assert np.abs(ahead - stored).max() > 1e-6


# Coefficients, against 60 digits.

LR, EPS, Q = 0.01, 1e-8, 0.96
FAR = (2**24 + 1, 2**31 + 1, 2**53)
NEAR = (1, 2, 3, 10, 100, 1999)


def exact(body):
    with localcontext() as context:
        context.prec = 60
        return body()


def power(b, t):
    return Decimal(b)**t


def ulps(value, truth):
    return abs(float((Decimal(value) - truth)/Decimal(math.ulp(float(truth)))))


def test_bias_correction_is_right_at_any_step():
    for b, t in itertools.product((0.0, 0.5, 0.9, 0.999, 0.9999, 1 - 2**-20, 1 - 1e-9), (*NEAR, *FAR)):
        assert ulps(rules.unbias(b, t), exact(lambda b=b, t=t: 1 - power(b, t))) <= 2, (b, t)


@pytest.mark.parametrize(("b1", "b2"), [(0.9, 0.999), (0.0, 0.95), (0.99, 0.9999), (1 - 1e-9, 1 - 1e-8)])
def test_adam_coefficients_are_right_at_any_step(b1, b2):
    hyper = {"lr": LR, "b1": b1, "b2": b2}
    for t in (*NEAR, *FAR):
        def truth(t=t):
            c1, c2 = 1 - power(b1, t), 1 - power(b2, t)
            moment = Decimal(LR)*Decimal(b1)/(1 - power(b1, t + 1))*c2.sqrt()
            return (Decimal(LR)*c2.sqrt()/c1, Decimal(EPS)*c2.sqrt(), Decimal(LR)/c1, 1/c2,
                    Decimal(LR)*(1 - Decimal(b1))/c1*c2.sqrt(), moment)
        lr, eps, plain, hat, now, moment = exact(truth)
        for name in ("adam", "adamw", "amsgrad"):
            c = ALL[name].at(t, **hyper)
            assert max(ulps(c.lr, lr), ulps(c.eps, eps)) <= 4
            assert (c.a1, c.a2) == (1 - b1, 1 - b2)
        c = ALL["amsgrad"].at(t, **hyper, maximum_of="corrected")
        assert max(ulps(c.lr, plain), ulps(c.hat, hat)) <= 4
        c = ALL["nadam"].at(t, **hyper, schedule="optax")
        assert max(ulps(c.now, now), ulps(c.lr, moment)) <= 4


@pytest.mark.parametrize("psi", [0.0, 1e-4, 4e-3, 0.05, 1.0, 3.0])
def test_nadam_product_is_the_direct_product(psi):
    """The closed form of rules.nadam_log_product against 2,000 factors multiplied one by one; far on, it is 0."""
    def truths(b1):
        product, q = Decimal(1), Decimal(Q)**Decimal(psi)
        at, mu = Decimal(1), [None]
        for _ in range(2001):
            at *= q
            mu.append(Decimal(b1)*(1 - at/2))
        for t in range(1, 2001):
            product *= mu[t]
            if t < 50 or t % 50 == 0:
                c2 = (1 - power(0.999, t)).sqrt()
                yield t, Decimal(LR)*(1 - mu[t])/(1 - product)*c2, Decimal(LR)*mu[t + 1]/(1 - product*mu[t + 1])*c2

    for b1 in (0.5, 0.9, 0.999):
        for t, now, moment in exact(lambda b1=b1: list(truths(b1))):
            c = ALL["nadam"].at(t, lr=LR, b1=b1, momentum_decay=psi)
            assert ulps(c.now, now) <= 4 + 2/(1 - b1), t  # 1 - mu loses the digits by which mu is near 1
            assert ulps(c.lr, moment) <= 6, t
    for t in FAR if psi in (4e-3, 1.0) else ():
        c = ALL["nadam"].at(t, lr=LR, momentum_decay=psi)
        assert (c.now, c.lr) == pytest.approx((LR*(1 - 0.9), LR*0.9), rel=1e-14)


def test_radam_rectification_is_right_at_any_step():
    def truth(b2, t):
        longest = 2/(1 - Decimal(b2)) - 1
        length = longest - 2*t*power(b2, t)/(1 - power(b2, t))
        c1, c2 = 1 - power(0.9, t), 1 - power(b2, t)
        square = (length - 4)*(length - 2)*longest/((longest - 4)*(longest - 2)*length)
        return float(longest), float(length), Decimal(LR)/c1*(square.sqrt()*c2.sqrt() if length > 5 else 1)
    for b2, t in itertools.product((0.6, 0.9, 0.99, 0.999, 0.9999), (*range(1, 40), 100, 1999, 20_000, *FAR)):
        longest, length, lr = exact(lambda b2=b2, t=t: truth(b2, t))
        c = ALL["radam"].at(t, lr=LR, b2=b2)
        assert c.cap == (np.inf if length > 5 else 0), (b2, t)
        # the length is a difference of two numbers near `longest`, and length - 4 stands under the root
        assert ulps(c.lr, lr) <= (4 + 2*longest/(length - 4) if length > 5 else 4), (b2, t)


LIMITS = ("clip", "cap")  # of the gradient, and of RAdam's root: infinite where there is none


@each_rule
def test_lr_zero_is_the_identity_and_moments_advance(name):
    rule, p = ALL[name], gradients(1)[0]
    still = {"lr": 0.0, "weight_decay": 0.0, **({"size_min": 0.0} if name == "rprop" else {})}
    for t in (1, 7, *FAR):
        c = rule.at(t, np.float32, **still)
        assert all(math.isfinite(value) for field, value in zip(c._fields, c, strict=True) if field not in LIMITS)
        assert all(getattr(c, field) in (0, math.inf) for field in LIMITS if hasattr(c, field))
        new, *state = march(name, p, GS[:2], first=t, **still)
        np.testing.assert_array_equal(new, p)
        velocity = ("b" if "b" in rule.state else "v",) if "form" in rule.options else ()
        holds_lr = ("old", "size") if name == "rprop" else velocity
        assert all(np.all(slot != 0) for kept, slot in zip(rule.state, state, strict=True) if kept not in holds_lr)


# Laws.

def test_rules_that_are_others_at_some_hyperparameters():
    same(march("adamw", W, GS, weight_decay=0.0), march("adam", W, GS))
    for name, form in itertools.product(("momentum", "nesterov"), ("textbook", "outside")):
        same(march(name, W, GS, momentum=0.0, lr=0.07, form=form)[:1], march("sgd", W, GS, lr=0.07))
    p, q, v = W, W, np.zeros_like(W)
    m = u = v
    for t, g in enumerate(GS, 1):  # Adam without b1 is RMSProp with a correction
        c = 1 - 0.95**t
        p, m, v = ALL["adam"](ALL["adam"].at(t, lr=0.1, b1=0.0, b2=0.95, eps=0.01), g, p, m, v)
        q, u = ALL["rmsprop"](ALL["rmsprop"].at(t, lr=0.1*math.sqrt(c), alpha=0.95, eps=0.01*math.sqrt(c)), g, q, u)
        close(p, q, f"step {t}")
        np.testing.assert_array_equal(v, u)


def at_scale(name, scale):
    """The parameters after steps with gradients so many times larger: RAdam's once it is rectified."""
    later = {"first": 100, "state": (GS[1]*scale, GS[2]**2*scale**2)} if name == "radam" else {}
    nothing = dict.fromkeys({"eps_root", "initial_accumulator_value"} & ALL[name].defaults.keys(), 0.0)
    return march(name, W, GS*scale, eps=0.0, **nothing, **later)[:1]


@each_rule
def test_without_eps_the_scale_of_gradients_is_nothing(name):
    if "eps" in ALL[name].defaults:
        for scale in (2.0**-40, 0.5, 2.0**33):
            same(at_scale(name, scale), at_scale(name, 1.0))


def test_radam_starts_as_plain_momentum():
    """At b2 = 0.999 the first five steps do not look at v, which may overflow."""
    assert [ALL["radam"].at(t).cap for t in range(1, 7)] == [0]*5 + [np.inf]
    zero = np.zeros(1, np.float32)
    with np.errstate(over="ignore"):
        p, _, v = rules.radam(rules.radam.at(1, np.float32, lr=1e-3), np.float32([1e23]), zero, zero, zero)
    assert v == np.inf
    np.testing.assert_allclose(p, [-1e20], rtol=1e-6)


@each_rule
def test_signs_and_places_of_elements(name):
    """Flipping p and g flips the result; `maximize` is minimizing the negative; elements do not see each other."""
    for hyper in ({}, {"weight_decay": 0.3, "decay": "coupled"}, {"weight_decay": 0.3, "decay": "decoupled"}):
        same([-march(name, -W, -GS, **hyper)[0]], [march(name, W, GS, **hyper)[0]])
    same(march(name, W, GS, maximize=True, weight_decay=0.1), march(name, W, -GS, weight_decay=0.1))
    order, spoiled = np.random.default_rng(2).permutation(len(W)), GS.copy()
    clean = march(name, W, GS)
    same(march(name, W[order], GS[:, order]), [slot[order] for slot in clean])
    spoiled[:, 3] = np.nan
    after = march(name, W, spoiled)
    assert np.isnan(after[0][3])
    same([np.delete(slot, 3) for slot in after], [np.delete(slot, 3) for slot in clean])


# A rule of one's own.

def test_own_rule_with_coefficients_and_initial_state():
    @fastopt.rule(lambda t, lr=0.5, rate=2.0: {"lr": lr/t**rate}, state="v", initial={"v": "v0"},
                  defaults={"weight_decay": 0.1}, name="faded")
    def body(c, g, p, v):
        v = notation.maximum(v, notation.absolute(g))
        return c.lr*g/v, v

    assert (body.name, body.initial, body.defaults["v0"], body.defaults["weight_decay"]) == ("faded", {"v": "v0"}, 0.0,
                                                                                             0.1)
    assert body.at(3, rate=1.0).lr == 0.5/3
    p, v = body(body.at(2, weight_decay=0.0), GS[0], W, np.ones_like(W))
    same((p, v), (W - 0.125*GS[0]/v, np.maximum(1.0, np.abs(GS[0]))))


@each_rule
def test_coefficients_have_one_order(name):
    """At every step and with every option: only the rules of users are put in order again."""
    of = ALL[name]
    plain = {k: of.defaults[k] for k in of.own_names}
    variants = [plain] + [{**plain, k: v} for k in of.own_names if k in of.options for v in of.options[k]]
    assert {tuple(of.own(t, **h)) for t in (1, 2, 7, 10**6) for h in variants} == {
        of.fields[len(COMMON):]}
