"""Rules on float64 arrays: equal to their papers at many hyperparameters, lawful, and exact at any step number."""
import ast
import inspect
import itertools
import math
from decimal import Decimal, localcontext

import numpy as np
import pytest
from papers import PAPERS

from fastopt import notation, rules
from fastopt._rule import rule as registry

NAMES = ("sgd", "momentum", "nesterov", "rmsprop", "adagrad", "adam", "adamw", "amsgrad", "nadam", "radam", "lion")
ADAMS = ("adam", "adamw", "amsgrad", "nadam", "radam")
ALL = {name: getattr(rules, name) for name in NAMES}
STEPS = 30


def test_every_rule_has_a_paper():
    made = {value.name for value in vars(rules).values() if hasattr(value, "digest")}
    assert made == set(PAPERS) == set(NAMES)
    assert {rule.digest for rule in ALL.values()} <= set(registry.RULES)


# Rule == paper.

VALUES = {  # several values of every hyperparameter of every rule; flags and words take all theirs
    "lr": (0.3, 0.02, 1e-5), "momentum": (0.0, 0.5, 0.99), "dampening": (0.1, 0.7), "alpha": (0.0, 0.5, 0.9999),
    "eps": (0.0, 1e-3, 0.5), "eps_root": (1e-8, 0.1), "lr_decay": (0.01, 1.5), "initial_accumulator_value": (0.1, 3.0),
    "b1": (0.0, 0.5, 0.99), "b2": (0.8, 0.95, 0.9999), "momentum_decay": (0.0, 1.0, 0.1), "threshold": (4.0, 8.5),
    "weight_decay": (0.05, 0.4), "factor": (0.25, 1.7, -1.0), "clip_value": (0.3, 1.2)}
VISIBLE = {  # what a word needs beside it to change anything
    "decay": {"weight_decay": 0.07}, "first_step": {"dampening": 0.4}, "eps_mode": {"eps": 0.1},
             "maximize": {"weight_decay": 0.07},
    "shifted": {"momentum": 0.8}, "factor": {"clip_value": 1.0}}
CROSSED = ("form", "first_step", "shifted", "decay", "maximize", "eps_mode", "bias_correction", "maximum_of",
           "schedule")
MIXED = {"lr": 0.05, "momentum": 0.7, "dampening": 0.2, "alpha": 0.9, "eps": 0.02, "eps_root": 0.03, "lr_decay": 0.1,
         "initial_accumulator_value": 0.2, "b1": 0.8, "b2": 0.97, "momentum_decay": 0.05, "threshold": 4.5,
         "weight_decay": 0.1,
         "factor": 0.6, "clip_value": 0.9}


def one_at_a_time():
    for name, rule in ALL.items():
        yield name, {}
        for hyper in (*rule.defaults, "factor", "clip_value"):
            for value in rule.options.get(hyper) or VALUES[hyper]:
                yield name, {**VISIBLE.get(hyper, {}), hyper: value}


def all_mixed():
    for name, rule in ALL.items():
        words = [hyper for hyper in CROSSED if hyper in rule.options]
        for values in itertools.product(*(rule.options[hyper] for hyper in words)):
            have = (*rule.defaults, "factor", "clip_value")
            yield name, {k: v for k, v in MIXED.items() if k in have} | dict(zip(words, values, strict=True))


def start(rule, w, hyper):
    full = {**rule.defaults, **hyper}
    return tuple(np.full_like(w, full[rule.initial[slot]] if slot in rule.initial else 0.0) for slot in rule.state)


def changing(lr, t):
    return lr*(1 + 0.5*math.cos(t))


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


def close(value, expected, name):
    np.testing.assert_allclose(value, expected, rtol=1e-12, atol=1e-14, err_msg=name)


def walk(name, hyper, schedule):
    """Both roads side by side: after every step the parameters and each state agree."""
    rule, paper, w = ALL[name], PAPERS[name], gradients(1)[0]
    full = {"lr": rule.defaults["lr"], **hyper}
    theta, s, state = w, {}, start(rule, w, hyper)
    for t, g in enumerate(gradients(), 1):
        full["lr"] = schedule({**rule.defaults, **hyper}["lr"], t)
        w, *state = rule(rule.at(t, np.float64, **full), g, w, *state)
        theta = paper(t, theta, g, s, **{**rule.defaults, **full})
        close(w, theta, f"p at step {t}")
        for slot, value in zip(rule.state, state, strict=True):
            close(value, s[slot], f"{slot} at step {t}")


def ids(case):
    return "-".join((case[0], *(f"{k}={v}" for k, v in case[1].items())))


@pytest.mark.parametrize("case", list(one_at_a_time()), ids=ids)
def test_rule_is_its_paper(case):
    walk(*case, lambda lr, t: lr)


@pytest.mark.parametrize("case", list(all_mixed()), ids=ids)
def test_rule_is_its_paper_while_lr_changes(case):
    walk(*case, changing)


def test_every_hyperparameter_changes_something():
    """Guards the tables above: a value that is not the default leads elsewhere than the default, so no case is idle."""
    for name, hyper in one_at_a_time():
        last = next(reversed(hyper), "lr")
        default = {**ALL[name].defaults, "factor": 1.0, "clip_value": math.inf}[last]
        if hyper.get(last, default) != default:
            walked = march(name, W, GS, **hyper), march(name, W, GS, **{**hyper, last: default})
            assert any(not np.array_equal(a, b) for a, b in zip(*walked, strict=True)), (name, hyper)


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


@pytest.mark.parametrize("form", rules.FORMS["form"])
@pytest.mark.parametrize(("lr", "mu"), [(0.1, 0.9), (0.4, 0.5), (0.02, 0.99), (0.3, 0.0)])
def test_nesterov_look_ahead_points_are_the_shifted_form(lr, mu, form):
    for ahead, stored in both_nesterovs(lambda t: lr, lambda t: mu, form=form):
        close(ahead, stored, "point")


def test_nesterov_forms_part_when_momentum_or_a_late_lr_changes():
    *_, (ahead, stored) = both_nesterovs(lambda t: 0.1, lambda t: 0.9 - 0.4/t)
    assert np.abs(ahead - stored).max() > 1e-6
    *_, (ahead, stored) = both_nesterovs(lambda t: 0.1/t, lambda t: 0.9, form="outside")
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


@pytest.mark.parametrize("t", [*NEAR, *FAR])
@pytest.mark.parametrize("b", [0.0, 0.5, 0.9, 0.999, 0.9999, 1 - 2**-20, 1 - 1e-9])
def test_bias_correction_is_right_at_any_step(b, t):
    truth = exact(lambda: 1 - power(b, t))
    assert ulps(rules.unbias(b, t), truth) <= 2


@pytest.mark.parametrize("t", [*NEAR, *FAR])
@pytest.mark.parametrize(("b1", "b2"), [(0.9, 0.999), (0.0, 0.95), (0.99, 0.9999), (1 - 1e-9, 1 - 1e-8)])
def test_adam_coefficients_are_right_at_any_step(b1, b2, t):
    c1, c2 = exact(lambda: (1 - power(b1, t), 1 - power(b2, t)))
    lr, eps = exact(lambda: (Decimal(LR)*c2.sqrt()/c1, Decimal(EPS)*c2.sqrt()))
    for name in ("adam", "adamw", "amsgrad"):
        c = ALL[name].at(t, lr=LR, b1=b1, b2=b2)
        assert max(ulps(c.lr, lr), ulps(c.eps, eps)) <= 4
        assert (c.a1, c.a2) == (1 - b1, 1 - b2)
    c = ALL["amsgrad"].at(t, lr=LR, b1=b1, b2=b2, maximum_of="corrected")
    assert max(ulps(c.lr, exact(lambda: Decimal(LR)/c1)), ulps(c.hat, exact(lambda: 1/c2))) <= 4
    c = ALL["nadam"].at(t, lr=LR, b1=b1, b2=b2, schedule="optax")
    now = exact(lambda: Decimal(LR)*(1 - Decimal(b1))/c1*c2.sqrt())
    moment = exact(lambda: Decimal(LR)*Decimal(b1)/(1 - power(b1, t + 1))*c2.sqrt())
    assert ulps(c.now, now) <= 4
    assert ulps(c.lr, moment) <= 4


@pytest.mark.parametrize("psi", [0.0, 1e-4, 4e-3, 0.05, 1.0, 3.0])
@pytest.mark.parametrize("b1", [0.5, 0.9, 0.999])
def test_nadam_product_is_the_direct_product(psi, b1):
    """The closed form of rules.nadam_log_product against 2,000 factors multiplied one by one."""
    def truths():
        product, c2, q = Decimal(1), Decimal("0.999"), Decimal(Q)**Decimal(psi)
        at, mu = Decimal(1), [None]
        for _ in range(2001):
            at *= q
            mu.append(Decimal(b1)*(1 - at/2))
        for t in range(1, 2001):
            product *= mu[t]
            c2 = (1 - power(0.999, t)).sqrt()
            yield t, Decimal(LR)*(1 - mu[t])/(1 - product)*c2, Decimal(LR)*mu[t + 1]/(1 - product*mu[t + 1])*c2

    for t, now, moment in exact(lambda: list(truths())):
        c = ALL["nadam"].at(t, lr=LR, b1=b1, momentum_decay=psi)
        assert ulps(c.now, now) <= 4 + 2/(1 - b1), t  # 1 - mu loses the digits by which mu is near 1
        assert ulps(c.lr, moment) <= 6, t


@pytest.mark.parametrize("t", FAR)
def test_nadam_forgets_its_start(t):
    for psi in (4e-3, 1.0):
        c = ALL["nadam"].at(t, lr=LR, momentum_decay=psi)
        assert (c.now, c.lr) == pytest.approx((LR*(1 - 0.9), LR*0.9), rel=1e-14)


@pytest.mark.parametrize("t", [*range(1, 40), 100, 1999, 20_000, *FAR])
@pytest.mark.parametrize("b2", [0.6, 0.9, 0.99, 0.999, 0.9999])
def test_radam_rectification_is_right_at_any_step(b2, t):
    def truth():
        longest = 2/(1 - Decimal(b2)) - 1
        length = longest - 2*t*power(b2, t)/(1 - power(b2, t))
        c1, c2 = 1 - power(0.9, t), 1 - power(b2, t)
        square = (length - 4)*(length - 2)*longest/((longest - 4)*(longest - 2)*length)
        return float(longest), float(length), Decimal(LR)/c1*(square.sqrt()*c2.sqrt() if length > 5 else 1)
    longest, length, lr = exact(truth)
    c = ALL["radam"].at(t, lr=LR, b2=b2)
    assert c.cap == (np.inf if length > 5 else 0)
    # the length is a difference of two numbers near `longest`, and length - 4 stands under the root
    assert ulps(c.lr, lr) <= (4 + 2*longest/(length - 4) if length > 5 else 4)


LIMITS = ("clip", "cap")  # of the gradient, and of RAdam's root: infinite where there is none


@pytest.mark.parametrize("t", [1, 7, *FAR])
@pytest.mark.parametrize("name", NAMES)
def test_lr_zero_is_the_identity_and_moments_advance(name, t):
    rule, p = ALL[name], gradients(1)[0]
    c = rule.at(t, np.float32, lr=0.0, weight_decay=0.0)
    assert all(math.isfinite(value) for field, value in zip(c._fields, c, strict=True) if field not in LIMITS)
    assert all(getattr(c, field) in (0, math.inf) for field in LIMITS if hasattr(c, field))
    new, *state = rule(rule.at(t, lr=0.0, weight_decay=0.0), gradients()[0], p, *start(rule, p, {}))
    np.testing.assert_array_equal(new, p)
    if name not in ("momentum", "nesterov"):  # their velocity holds lr
        assert all(np.all(slot != 0) for slot in state)


# Laws.

def test_adamw_without_decay_is_adam():
    same(march("adamw", W, GS, weight_decay=0.0), march("adam", W, GS))


@pytest.mark.parametrize("form", ["textbook", "outside"])
@pytest.mark.parametrize("name", ["momentum", "nesterov"])
def test_momentum_without_momentum_is_sgd(name, form):
    same(march(name, W, GS, momentum=0.0, lr=0.07, form=form)[:1], march("sgd", W, GS, lr=0.07))


def test_adam_without_b1_is_rmsprop_with_correction():
    p, q, v = W, W, np.zeros_like(W)
    m = u = v
    for t, g in enumerate(GS, 1):
        c = 1 - 0.95**t
        p, m, v = ALL["adam"](ALL["adam"].at(t, lr=0.1, b1=0.0, b2=0.95, eps=0.01), g, p, m, v)
        q, u = ALL["rmsprop"](ALL["rmsprop"].at(t, lr=0.1*math.sqrt(c), alpha=0.95, eps=0.01*math.sqrt(c)), g, q, u)
        close(p, q, f"step {t}")
        np.testing.assert_array_equal(v, u)


@pytest.mark.parametrize("scale", [2.0**-40, 0.5, 2.0**33])
@pytest.mark.parametrize("name", ["rmsprop", "adagrad", "adam", "adamw", "amsgrad", "nadam"])
def test_without_eps_the_scale_of_gradients_is_nothing(name, scale):
    same(march(name, W, GS*scale, eps=0.0)[:1], march(name, W, GS, eps=0.0)[:1])


def test_radam_ignores_the_scale_once_it_is_rectified():
    m, v = GS[1], GS[2]**2
    small = march("radam", W, GS, first=100, state=(m, v), eps=0.0)
    same(march("radam", W, GS*8, first=100, state=(m*8, v*64), eps=0.0)[:1], small[:1])


def test_radam_starts_as_plain_momentum():
    """At b2 = 0.999 the first five steps do not look at v: they are Adam's m/c1 alone."""
    p, m = W, np.zeros_like(W)
    for t, g in enumerate(GS[:5], 1):
        m = 0.9*m + (1 - 0.9)*g
        p = p - 1e-3*m/(1 - 0.9**t)
        close(march("radam", W, GS[:t])[0], p, f"step {t}")
        assert ALL["radam"].at(t).cap == 0
    assert ALL["radam"].at(6).cap == np.inf


def test_sgd_is_linear_in_g():
    zero = np.zeros_like(W)
    a, b = (march("sgd", zero, GS[i:i + 1], lr=0.3)[0] for i in (0, 1))
    close(march("sgd", zero, [3*GS[0] + 5*GS[1]], lr=0.3)[0], 3*a + 5*b, "sum")
    same(march("sgd", zero, [4*GS[0]], lr=0.3), [4*a])


@pytest.mark.parametrize("hyper", [{}, {"weight_decay": 0.3, "decay": "coupled"},
                                   {"weight_decay": 0.3, "decay": "decoupled"}], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_flipping_p_and_g_flips_the_result(name, hyper):
    same([-march(name, -W, -GS, **hyper)[0]], [march(name, W, GS, **hyper)[0]])


@pytest.mark.parametrize("name", NAMES)
def test_maximize_is_minimize_of_the_negative(name):
    same(march(name, W, GS, maximize=True, weight_decay=0.1), march(name, W, -GS, weight_decay=0.1))


@pytest.mark.parametrize("name", NAMES)
def test_elements_do_not_see_each_other(name):
    order, spoiled = np.random.default_rng(2).permutation(len(W)), GS.copy()
    clean = march(name, W, GS)
    same(march(name, W[order], GS[:, order]), [slot[order] for slot in clean])
    spoiled[:, 3] = np.nan
    after = march(name, W, spoiled)
    assert np.isnan(after[0][3])
    same([np.delete(slot, 3) for slot in after], [np.delete(slot, 3) for slot in clean])


# A rule of one's own.

@pytest.fixture
def apart(monkeypatch):
    """A registry that forgets what this test adds."""
    monkeypatch.setattr(registry, "RULES", dict(registry.RULES))


def heavy_ball(c, g, p, v):
    """Momentum whose lr stands outside."""
    v = c.mu*v + g
    u = c.lr*v
    return u, v


def test_own_rule(apart):
    own = registry.rule(state="v", lr=0.01, mu=0.9)(heavy_ball)
    assert (own.name, own.state, own.initial, own.__doc__) == ("heavy_ball", ("v",), {}, heavy_ball.__doc__)
    assert own.defaults == {"lr": 0.01, "mu": 0.9, **registry.SHARED}
    assert own.fields == (*registry.COMMON, "lr", "mu")
    assert registry.RULES[own.digest] is own
    assert own.at(1, np.float32, lr=0.5) == (1, np.inf, 0, 0, np.float32(0.5), np.float32(0.9))
    assert {type(value) for value in own.at(1, np.float32)} == {np.float32}
    p, v = W, np.zeros_like(W)
    for t, g in enumerate(GS, 1):
        p, v = own(own.at(t, lr=0.1, mu=0.8, weight_decay=0.01), g, p, v)
    same((p, v), march("momentum", W, GS, lr=0.1, momentum=0.8, weight_decay=0.01, form="outside"))


def test_own_rule_with_coefficients_and_initial_state(apart):
    @registry.rule(lambda t, lr=0.5, rate=2.0: {"lr": lr/t**rate}, state="v", initial={"v": "v0"},
                   defaults={"weight_decay": 0.1}, name="faded")
    def body(c, g, p, v):
        v = notation.maximum(v, notation.absolute(g))
        return c.lr*g/v, v

    assert (body.name, body.initial, body.defaults["v0"], body.defaults["weight_decay"]) == ("faded", {"v": "v0"}, 0.0,
                                                                                             0.1)
    assert body.at(3, rate=1.0).lr == 0.5/3
    p, v = body(body.at(2, weight_decay=0.0), GS[0], W, np.ones_like(W))
    same((p, v), (W - 0.125*GS[0]/v, np.maximum(1.0, np.abs(GS[0]))))


def wrong_arguments():
    registry.rule(state="m", lr=0.01)(heavy_ball)


ERRORS = [
    (lambda: registry.rule(state="v", mu=0.9), ValueError,
     "rule: no hyperparameter `lr` was found. Give the rule one, lr=0.01 for example."),
    (wrong_arguments, ValueError,
     "rule heavy_ball: its arguments are ('c', 'g', 'p', 'v'), but state='m' needs ('c', 'g', 'p', 'm'). Rename one of "
     "them."),
    (lambda: rules.sgd.at(1, mu=0.9, beta=2), TypeError,
     "sgd.at: unknown beta, mu, but it has lr, weight_decay, decay, maximize. Take one of those."),
]


@pytest.mark.parametrize(("call", "error", "message"), ERRORS,
                         ids=["no lr", "wrong arguments", "unknown hyperparameter"])
def test_errors(call, error, message, apart):
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == message


# The alphabet of rules.

def bodies():
    tree = ast.parse(inspect.getsource(rules))
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and any(isinstance(d, ast.Call) and d.func.id == "rule"
                                                     for d in node.decorator_list):
            yield node
    yield next(node for node in ast.parse(inspect.getsource(registry)).body if getattr(node, "name", "") == "prepare")


@pytest.mark.parametrize("body", list(bodies()), ids=lambda node: node.name)
def test_rules_hold_no_literal_and_call_only_the_notation(body):
    lines = body.body[1:]  # after the docstring
    assert ast.get_docstring(body)
    nodes = [node for line in lines for node in ast.walk(line)]
    assert [node.value for node in nodes if isinstance(node, ast.Constant)] == []
    assert {node.func.id for node in nodes if isinstance(node, ast.Call)} <= set(notation.__all__)
    assert not [node for node in nodes if isinstance(node, ast.Subscript | ast.If | ast.IfExp | ast.For | ast.While
                                                     | ast.Pow)]


def test_every_rule_body_was_read():
    assert {node.name for node in bodies()} == {*NAMES, "prepare"} - {"adamw"}
    assert ALL["adamw"].body is ALL["adam"].body


@pytest.mark.parametrize("name", ["sgd", "momentum", "nesterov", "rmsprop", "adagrad", "adam", "adamw", "amsgrad",
                                  "nadam", "radam",
                                  "lion"])
def test_coefficients_have_one_order(name):
    """At every step and with every option: only the rules of users are put in order again."""
    of = getattr(rules, name)
    plain = {k: of.defaults[k] for k in of.own_names}
    variants = [plain] + [{**plain, k: v} for k in of.own_names if k in of.options for v in of.options[k]]
    assert {tuple(of.own(t, **h)) for t in (1, 2, 7, 10**6) for h in variants} == {of.fields[4:]}


def test_radam_before_it_is_rectified_does_not_look_at_v():
    """Where g^2 overflows float32, as gradients of a diverging start may, the step is still plain momentum."""
    zero = np.zeros(1, np.float32)
    with np.errstate(over="ignore"):
        p, _, v = rules.radam(rules.radam.at(1, np.float32, lr=1e-3), np.float32([1e23]), zero, zero, zero)
    assert v == np.inf
    np.testing.assert_allclose(p, [-1e20], rtol=1e-6)
