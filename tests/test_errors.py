"""Bad input: the error names the place, what was found and what to do, and nothing has changed: compared with a twin that never saw it."""
import copy
import pickle
import re

import numpy as np
import pytest
from conftest import BFLOAT16, assert_identical, normal

import fastopt
from fastopt import rules
from fastopt._tensors import arrays

f32, f64 = np.float32, np.float64
A, B = 5, (3, 4)


def start():
    """Parameters of two groups, three formats, and a gradient for them."""
    p = [{"W": normal(1, *B).astype(f32), "b": normal(2, A)}, [normal(3, 7).astype(np.float16)]]
    return p, [{"W": normal(4, *B).astype(f32), "b": normal(5, A)}, [normal(6, 7).astype(f32)]]


def make(lr=0.05, second=0.02):
    p, g = start()
    return fastopt.Adam([{"params": p[0]}, {"params": p[1], "lr": second}], lr=lr, weight_decay=0.1), g


def everything(opt):
    """All that an error must leave alone."""
    p = [g["params"] for g in opt.params]
    held = [p[0]["W"], p[0]["b"], p[1][0], *(a for s in opt.state.values() for a in (s[0]["W"], s[0]["b"], s[1][0]))]
    return held, (opt.t, opt.threads, opt.grad_norm, [dict(group) for group in opt.groups])


def assert_untouched(opt, twin, g):
    """Now, and after two more steps: both are the same, bit for bit."""
    for _ in range(3):
        (have, facts), (want, wanted) = everything(opt), everything(twin)
        assert facts == wanted
        for x, y in zip(have, want, strict=True):
            assert_identical(x, y)
        opt.step(g, clip_norm=0.7)
        twin.step(g, clip_norm=0.7)


def changed(g, where, leaf):
    """The gradient with another leaf."""
    g = [dict(g[0]), list(g[1])]
    if where == "b":
        g[0]["b"] = leaf
    else:
        g[1][0] = leaf
    return g


def read_only(a):
    a = a.copy()
    a.flags.writeable = False
    return a


class Device:
    __cuda_array_interface__ = {"shape": (5,), "typestr": "<f8", "data": (0, False), "version": 3}  # noqa: RUF012


ones5 = np.ones(A)
LEAVES = {  # a gradient for params[0]["b"], a float64 array of 5
    "shape": (np.ones(4), ValueError, "grads[0]['b']: shape (4,), but params[0]['b'] has (5,). Give a gradient of that "
                                      "shape."),
    "dimensions": (np.ones((5, 1)), ValueError, "grads[0]['b']: shape (5, 1), but params[0]['b'] has (5,)."),
    "0-d": (np.array(1.0), ValueError, "grads[0]['b']: shape (), but"),
    "int": (np.ones(A, int), TypeError,
            "grads[0]['b']: dtype int64, but one of float64, float32, float16, bfloat16 (ml_dtypes, or its bits as"),
    "bool": (np.ones(A, bool), TypeError, "grads[0]['b']: dtype bool, but one of"),
    "complex": (np.ones(A, complex), TypeError, "dtype complex128, but one of"),
    "longdouble": (np.ones(A, np.longdouble), TypeError, f"dtype {np.dtype(np.longdouble)}, but one of"),
    "object": (np.ones(A, object), TypeError, "dtype object, but one of"),
    "text": (np.array(["a"]*A), TypeError, "dtype <U1, but one of"),
    "record": (np.zeros(A, "f4,f4"), TypeError, "but one of float64"),
    "big-endian": (np.ones(A, ">f8"), TypeError,
                   "grads[0]['b']: dtype >f8 in foreign byte order, but this machine's is needed. Convert it"),
    "None": (None, TypeError, "grads[0]['b']: a NoneType, but an array is needed"),
    "number": (1.0, ValueError, "grads[0]['b']: shape (), but params[0]['b'] has (5,). Give a gradient of that shape."),
    "truth": (True, TypeError, "grads[0]['b']: a bool, but an array is needed"),
    "NumPy number": (f64(1), ValueError, "grads[0]['b']: shape (), but params[0]['b'] has (5,). Give a gradient of "
                                         "that shape."),
    "list": ([1.0]*A, TypeError, "grads[0]['b']: a list, but an array is needed"),
    "string": ("ones5", TypeError, "grads[0]['b']: a str, but an array is needed"),
    "masked": (np.ma.array(ones5, mask=[1, 0, 0, 0, 0]), TypeError,
               "grads[0]['b']: a masked array, but kernels do not see masks. Give x.data,"),
    "device": (Device(), TypeError, "grads[0]['b']: on a CUDA device, but params[0]['b'] is in this machine's memory. "
                                    "Copy the"),
    "generator": (iter([ones5]), TypeError,
                  "a list_iterator, but an array is needed (NumPy, a tensor of torch, any buffer, or an array on"),
}


@pytest.mark.parametrize("case", LEAVES)
@pytest.mark.parametrize("how", ["step", "buffers", "callable"])
def test_bad_gradient_changes_nothing(case, how):
    leaf, kind, message = LEAVES[case]
    (opt, g), (twin, _) = make(), make()
    for o in (opt, twin):
        o.step(g)
    bad = changed(g, "b", leaf)
    give = {"step": lambda: opt.step(bad, clip_norm=1.0), "buffers": lambda: setattr(opt, "grads", bad),
            "callable": lambda: opt.step(lambda params: bad)}
    with pytest.raises(kind) as error:
        give[how]()
    assert message in str(error.value)
    assert_untouched(opt, twin, g)


TREES = {
    "missing key": (lambda g: [{"W": g[0]["W"]}, g[1]], ValueError,
                    "grads[0]: no ['b']; params has the keys ['W', 'b'] there. Give exactly those."),
    "extra key": (lambda g: [{**g[0], "c": ones5}, g[1]], ValueError, "grads[0]: unknown ['c']; params has the keys "
                                                                      "['W', 'b'] there."),
    "other key": (lambda g: [{"W": g[0]["W"], "c": ones5}, g[1]], ValueError, "grads[0]: no ['b'] and unknown ['c']; "
                                                                              "params has the keys"),
    "short": (lambda g: g[:1], ValueError, "grads: 1 entries, but params has 2 there. Give one for each."),
    "long": (lambda g: [g[0], [g[1][0]]*2], ValueError, "grads[1]: 2 entries, but params has 1 there. Give one for "
                                                        "each."),
    "array for list": (lambda g: [g[0], g[1][0]], TypeError,
                       "grads[1]: found ndarray, but params has a list of 1 there. Give the structure"),
    "list for dict": (lambda g: [list(g[0].values()), g[1]], TypeError,
                      "grads[0]: found list, but params has a dict with the keys 'W', 'b'"),
    "None for list": (lambda g: [g[0], None], TypeError, "grads[1]: found NoneType, but params has a list of 1 there."),
    "number": (lambda g: 1.0, TypeError, "grads: found float, but params has a list of 2 there."),
    "nothing": (lambda g: None, ValueError, "step: no gradients were given. Pass them, or write them into opt.grads "
                                            "first."),
}


@pytest.mark.parametrize("case", TREES)
def test_bad_tree_changes_nothing(case):
    spoil, kind, message = TREES[case]
    (opt, g), (twin, _) = make(), make()
    with pytest.raises(kind) as error:
        opt.step(spoil(g))
    assert str(error.value).startswith(message)
    assert_untouched(opt, twin, g)


ARGUMENTS = {
    "clip_norm zero": ({"clip_norm": 0}, ValueError, "step: clip_norm is 0, but a number above 0 is needed. Change "
                                                     "clip_norm."),
    "clip_norm negative": ({"clip_norm": -1.0}, ValueError, "step: clip_norm is -1.0, but a number above 0"),
    "clip_norm nan": ({"clip_norm": np.nan}, ValueError, "step: clip_norm is nan, but"),
    "clip_norm true": ({"clip_norm": True}, ValueError, "step: clip_norm is True, but"),
    "clip_norm text": ({"clip_norm": "1"}, TypeError, "step: clip_norm is '1', but"),
    "clip_norm complex": ({"clip_norm": 1j}, TypeError, "step: clip_norm is 1j, but"),
    "clip_norm array": ({"clip_norm": np.ones(2)}, TypeError, "step: clip_norm is array([1., 1.]), but"),
    "clip_value zero": ({"clip_value": 0.0}, ValueError, "step: clip_value is 0.0, but a number above 0 is needed. "
                                                         "Change clip_value."),
    "clip_value nan": ({"clip_value": np.nan}, ValueError, "step: clip_value is nan, but"),
    "clip_value list": ({"clip_value": [1, 2]}, TypeError, "step: clip_value is [1, 2], but"),
    "grad_factor nan": ({"grad_factor": np.nan}, ValueError,
                        "step: grad_factor is nan, but a finite number is needed. Change grad_factor."),
    "grad_factor inf": ({"grad_factor": -np.inf}, ValueError, "step: grad_factor is -inf, but"),
    "grad_factor None": ({"grad_factor": None}, TypeError, "step: grad_factor is None, but"),
    "grad_factor true": ({"grad_factor": True}, ValueError, "step: grad_factor is True, but"),
    "grad_factor ones": ({"grad_factor": np.ones(2)}, TypeError, "step: grad_factor is array([1., 1.]), but"),
    "unknown": ({"lr": 0.1}, TypeError, "unexpected keyword argument 'lr'"),
}


@pytest.mark.parametrize("case", ARGUMENTS)
def test_bad_argument_of_step_changes_nothing(case):
    arguments, kind, message = ARGUMENTS[case]
    (opt, g), (twin, _) = make(), make()
    with pytest.raises(kind) as error:
        opt.step(g, **arguments)
    assert message in str(error.value)
    assert_untouched(opt, twin, g)


def boom(params):
    raise ZeroDivisionError("my own bug")


@pytest.mark.parametrize(("bad", "kind", "message"), [
    (np.nan, ValueError, "Adam group 0 at step 5: lr is nan, but a finite number, 0 or more,"),
    (-1.0, ValueError, "Adam group 0 at step 5: lr is -1.0, but a finite number, 0 or more,"),
    ("big", TypeError, "Adam group 0 at step 5: lr is 'big', but"),
    (None, TypeError, "Adam group 0 at step 5: lr is None, but"),
    (10**400, ValueError, "Adam group 0 at step 5: lr is 1000")])
def test_bad_schedule_changes_nothing(bad, kind, message):
    broken = [False]
    opt, g = make(lr=lambda t: bad if broken[0] else 0.1/t, second=lambda t: 0.2/t)
    twin, _ = make(lr=lambda t: 0.1/t, second=lambda t: 0.2/t)
    for o in (opt, twin):
        for _ in range(4):
            o.step(g)
    broken[0] = True
    with pytest.raises(kind) as error:
        opt.step(g)
    assert message in str(error.value)
    broken[0] = False
    for o in (opt, twin):
        o.step(g)
    (have, (t, *_)), (want, (wanted, *_)) = everything(opt), everything(twin)
    assert t == wanted == 5
    for x, y in zip(have, want, strict=True):
        assert_identical(x, y)


@pytest.mark.parametrize("call", [boom, lambda t: 1/0])
def test_an_error_of_the_users_own_function_passes_through(call):
    (opt, g), (twin, _) = make(), make()
    with pytest.raises(ZeroDivisionError):
        opt.step(call)
    opt.groups[0]["b1"] = call
    with pytest.raises(ZeroDivisionError):
        opt.step(g)
    opt.groups[0]["b1"] = 0.9
    assert_untouched(opt, twin, g)


def test_gradients_over_written_memory_are_refused():
    memory = np.zeros(64)
    w, v = memory[:8], memory[16:24]
    cases = {
        "own, one further": (memory[1:9], v.copy()), "own, reversed": (w[::-1], v.copy()),
             "another parameter": (v, np.ones(8)),
        "strided across it": (memory[0:16:2], np.ones(8)), "backwards into it": (memory[30:14:-2], np.ones(8)),
        "as other bits": (memory.view(f32)[:8], np.ones(8))}
    opt = fastopt.Momentum([w, v], threads=1)
    apart = (np.ones(8), np.ones(8))
    cases["state"] = (opt.state["v"][1], np.ones(8))
    for _ in range(2):  # first with nothing bound, then bound to arrays of the same shape and strides elsewhere
        for case, g in cases.items():
            elsewhere = [np.lib.stride_tricks.as_strided(np.ones(64, x.dtype)[32:], x.shape, x.strides) for x in g]
            if opt.t:
                opt.step(elsewhere)
            before, t = memory.copy(), opt.t
            with pytest.raises(ValueError, match=r"grads\[0\]: overlaps memory that the step writes .* Give a copy, "
                                                 r"numpy.array\(x\)."):
                opt.step(list(g))
            assert_identical(memory, before, case)
            assert opt.t == t
        opt.step(list(apart))
    own = w.copy()
    opt = fastopt.SGD(w, lr=0.25)
    opt.step(w)  # its own gradient, element for element
    assert_identical(w, own - 0.25*own)


CONSTRUCTORS = {
    "number": (lambda: fastopt.Adam(1.0), TypeError,
               "params: a float, which cannot be updated in place. Make it an array with numpy.array(x, "
               "numpy.float64)."),
    "None": (lambda: fastopt.Adam(None), TypeError, "params: a NoneType, but an array is needed"),
    "string": (lambda: fastopt.Adam({"w": "w"}), TypeError, "params['w']: a str, but an array is needed"),
    "NumPy number": (lambda: fastopt.Adam(f32(1)), TypeError, "params: a NumPy scalar, which cannot be updated in "
                                                              "place. Make it an array"),
    "numbers": (lambda: fastopt.Adam([1.0, 2.0]), TypeError, "params[0]: a float, which cannot be updated in place."),
    "generator": (lambda: fastopt.Adam(x for x in [ones5]), TypeError,
                  "params: a generator, but an array is needed (NumPy, a tensor of"),
    "no hook": (lambda: fastopt.Adam({"w": 3, "b": ones5}), TypeError, "params['w']: a int, which cannot be updated in "
                                                                       "place."),
    "int": (lambda: fastopt.Adam(np.ones(3, int)), TypeError, "params: dtype int64, but one of float64, float32, "
                                                              "float16, bfloat16"),
    "complex": (lambda: fastopt.Adam([np.ones(3, complex)]), TypeError, "params[0]: dtype complex128, but one of"),
    "big-endian": (lambda: fastopt.Adam(np.ones(3, ">f4")), TypeError, "params: dtype >f4 in foreign byte order"),
    "object": (lambda: fastopt.Adam(np.ones(3, object)), TypeError, "params: dtype object, but one of"),
    "bytes": (lambda: fastopt.Adam(b"12345678"), TypeError, "params: dtype uint8, but one of"),
    "masked": (lambda: fastopt.Adam(np.ma.ones(3)), TypeError, "params: a masked array, but kernels do not see masks."),
    "strided": (lambda: fastopt.Adam(np.ones(10)[::2]), ValueError,
                "params: strides (16,) for shape (5,) and 8-byte elements, but memory without gaps is needed. Give the "),
    "reversed": (lambda: fastopt.Adam(np.ones(5)[::-1]), ValueError,
                 "params: strides (-8,) for shape (5,) and 8-byte elements, but memory"),
    "column": (lambda: fastopt.Adam(np.ones((5, 2))[:, :1]), ValueError, "params: strides (16, 8) for shape (5, 1)"),
    "repeated": (lambda: fastopt.Adam(np.lib.stride_tricks.as_strided(np.ones(5), (5, 5), (0, 8))), ValueError,
                 "params: strides (0, 8) for"),
    "read-only": (lambda: fastopt.Adam(read_only(ones5)), ValueError,
                  "params: read-only, but it is updated in place. Give a copy, numpy.array"),
    "twice": (lambda: fastopt.Adam({"a": ones5, "b": ones5}), ValueError,
              "params['b']: its memory overlaps that of params['a'], but each needs its own. Give one of them as a "
              "copy."),
    "overlapping": (lambda: fastopt.Adam([ones5[:3], np.ones(2), ones5[2:]]), ValueError,
                    "params[2]: its memory overlaps that of params[0]"),
    "nothing": (lambda: fastopt.Adam([]), ValueError,
                "params: no arrays, but at least one is needed. Remove the group or give it parameters."),
    "nested nothing": (lambda: fastopt.Adam({"a": [], "b": {}}), ValueError, "params: no arrays, but"),
    "empty group": (lambda: fastopt.Adam([{"params": ones5}, {"params": []}]), ValueError, "params[1]: no arrays, but "
                                                                                           "at least one"),
    "group with a typo": (lambda: fastopt.Adam([{"params": ones5, "lrate": 1.0}]), TypeError,
                          "Adam group 0: 'lrate' is no hyperparameter of adam, which has lr, b1, b2,"),
    "group with threads": (lambda: fastopt.Adam([{"params": ones5, "threads": 1}]), TypeError,
                           "Adam group 0: 'threads' is no hyperparameter"),
    "no rule": (lambda: fastopt.Optimizer(ones5), TypeError, "Optimizer: no rule. Take one of the optimizers, "
                                                             "fastopt.Adam for example,"),
    "lr negative": (lambda: fastopt.Adam(ones5, -1), ValueError,
                    "Adam: lr is -1, but a finite number, 0 or more, or a function of the step is"),
    "lr nan": (lambda: fastopt.Adam(ones5, np.nan), ValueError, "Adam: lr is nan, but"),
    "lr infinite": (lambda: fastopt.Adam(ones5, np.inf), ValueError, "Adam: lr is inf, but"),
    "lr text": (lambda: fastopt.Adam(ones5, "0.1"), TypeError, "Adam: lr is '0.1', but"),
    "lr true": (lambda: fastopt.Adam(ones5, True), ValueError, "Adam: lr is True, but"),
    "lr array": (lambda: fastopt.Adam(ones5, np.array([0.1])), TypeError, "Adam: lr is array([0.1]), but"),
    "lr complex": (lambda: fastopt.Adam(ones5, 1j), TypeError, "Adam: lr is 1j, but"),
    "lr huge": (lambda: fastopt.Adam(ones5, 10**400), ValueError, "Adam: lr is 1000"),
    "b1 one": (lambda: fastopt.Adam(ones5, b1=1.0), ValueError,
               "Adam: b1 is 1.0, but a number in [0, 1) or a function of the step is needed."),
    "b2 negative": (lambda: fastopt.Adam(ones5, b2=-0.1), ValueError, "Adam: b2 is -0.1, but a number in [0, 1)"),
    "momentum": (lambda: fastopt.Nesterov(ones5, momentum=1.5), ValueError, "Nesterov: momentum is 1.5, but a number "
                                                                            "in [0, 1)"),
    "eps": (lambda: fastopt.Adam(ones5, eps=-1e-8), ValueError, "Adam: eps is -1e-08, but a finite number, 0 or more,"),
    "weight_decay": (lambda: fastopt.AdamW(ones5, weight_decay=-0.1), ValueError, "AdamW: weight_decay is -0.1, but"),
    "dampening": (lambda: fastopt.Momentum(ones5, dampening=1.1), ValueError, "Momentum: dampening is 1.1, but a "
                                                                              "number in [0, 1]"),
    "threshold": (lambda: fastopt.RAdam(ones5, threshold=3.0), ValueError, "RAdam: threshold is 3.0, but a finite "
                                                                           "number, 4 or more,"),
    "initial as a function": (lambda: fastopt.AdaGrad(ones5, initial_accumulator_value=lambda t: 1.0), TypeError,
                              "initial_accumulator_value"),
    "betas": (lambda: fastopt.Adam(ones5, betas=(0.9, 0.99)), TypeError,
              "Adam: 'betas' is no hyperparameter of adam, which has lr, b1, b2,"),
    "learning_rate": (lambda: fastopt.SGD(ones5, learning_rate=0.1), TypeError,
                      "SGD: 'learning_rate' is no hyperparameter of sgd, which has lr,"),
    "decay": (lambda: fastopt.Adam(ones5, decay="l2"), ValueError,
              "Adam: decay is 'l2', but one of 'coupled', 'decoupled', 'independent' is needed. Change decay."),
    "maximize": (lambda: fastopt.Adam(ones5, maximize="yes"), ValueError, "Adam: maximize is 'yes', but one of False, "
                                                                          "True is needed."),
    "form": (lambda: fastopt.Momentum(ones5, form=None), ValueError,
             "Momentum: form is None, but one of 'textbook', 'negative', 'outside'"),
    "like": (lambda: fastopt.Adam(ones5, like="pytorch"), ValueError,
             "like: 'pytorch' was found, one of torch, optax, keras, sklearn was needed."),
    "like a list": (lambda: fastopt.Adam(ones5, like=["torch"]), ValueError, "like: ['torch'] was found, one of torch, "
                                                                             "optax"),
    "like without it": (lambda: fastopt.Lion(ones5, like="torch"), ValueError,
                        "like='torch': the rule lion was found, one that torch has was"),
    "state format": (lambda: fastopt.Adam(ones5, state="fp8"), ValueError, "Adam: state format 'fp8' for m, but one of "
                                                                           "float64, float32,"),
    "state name": (lambda: fastopt.Adam(ones5, state={"u": "f32"}), ValueError, "Adam: state names 'u', but adam has "
                                                                                "m, v. Remove it."),
    "state of sgd": (lambda: fastopt.SGD(ones5, state={"v": "f32"}), ValueError, "SGD: state names 'v', but sgd has "
                                                                                 "none. Remove it."),
    "state number": (lambda: fastopt.Adam(ones5, state=16), TypeError,
                     "Adam: state is 16, but the name of a format, a dict of them by state, or a function of path and "
                     "array"),
    "state dtype": (lambda: fastopt.Adam(ones5, state={"m": f32}), ValueError,
                    "Adam: state format <class 'numpy.float32'> for m, but one of"),
    "threads 0": (lambda: fastopt.Adam(ones5, threads=0), ValueError,
                  "Adam: threads is 0, but a whole number, 1 or more, is needed. Give None"),
    "threads 1.5": (lambda: fastopt.Adam(ones5, threads=1.5), ValueError, "Adam: threads is 1.5, but"),
    "threads true": (lambda: fastopt.Adam(ones5, threads=True), ValueError, "Adam: threads is True, but"),
    "lookahead of Adam": (lambda: fastopt.Adam(ones5).lookahead(), TypeError,
                          "lookahead: Adam takes its gradient at the parameters themselves."),
    "optimizer of no rule": (lambda: fastopt.optimizer(max), TypeError, "optimizer: <built-in function max> is no "
                                                                        "rule. Decorate it with"),
    "t": (lambda: setattr(fastopt.Adam(ones5), "t", 2.5), ValueError, "t: found 2.5, but a whole number from 0 to "
                                                                      "2**62 is needed."),
    "t negative": (lambda: setattr(fastopt.Adam(ones5), "t", -1), ValueError, "t: found -1, but a whole number"),
    "at": (lambda: rules.adam.at(1, betas=(0.9, 0.99)), TypeError, "adam.at: unknown betas, but it has lr, b1, b2,"),
}


@pytest.mark.parametrize("case", CONSTRUCTORS)
def test_bad_constructor(case):
    call, kind, message = CONSTRUCTORS[case]
    before = ones5.copy()
    with pytest.raises(kind) as error:
        call()
    assert message in str(error.value)
    assert error.type is kind
    assert_identical(ones5, before)


def test_messages_are_whole_sentences():
    """where: what was found, what was needed. What to do."""
    for case, (call, _, _) in CONSTRUCTORS.items():
        with pytest.raises((TypeError, ValueError)) as error:
            call()
        text = str(error.value)
        assert re.fullmatch(r"[^\n]+: .+\. [A-Z].+(\.|\))", text), (case, text)


RULES = {
    "one value": (lambda c, g, p, v: p, {"state": "v"},
                  "it returns one value, but (u, v) is needed. Return a tuple of the update and"),
    "no state": (lambda c, g, p: (p, g), {}, "it returns 2 values, but (u,) is needed."),
    "arguments": (lambda c, g, p, m: (p, m), {"state": "v"},
                  "its arguments are ('c', 'g', 'p', 'm'), but state='v' needs ('c', 'g', 'p', 'v')."),
    "own clip": (lambda c, g, p: (p,), {"clip": 1.0}, "its coefficient 'clip' is one that every rule has. Take another "
                                                      "name."),
    "own decay": (lambda c, g, p: (p,), {"weight_decay": 0.1}, "the hyperparameter 'weight_decay' is there for every "
                                                               "rule."),
    "own threads": (lambda c, g, p: (p,), {"threads": 1.0}, "the hyperparameter 'threads' is there for every rule."),
    "ahead": (lambda c, g, p, u: (p, u), {"state": "u", "ahead": "lr"},
              "ahead='lr', but the name of a coefficient and a state v are needed."),
}


@pytest.mark.parametrize("case", RULES)
def test_bad_rule(case):
    body, options, message = RULES[case]
    with pytest.raises(ValueError) as error:
        fastopt.rule(lr=0.1, name="mine", **options)(body)
    assert message in str(error.value)
    with pytest.raises(ValueError, match=r"rule: no hyperparameter `lr` was found. Give the rule one"):
        fastopt.rule(rate=0.1)


def test_a_rule_that_numba_cannot_compile():
    @fastopt.rule(lr=0.1)
    def odd(c, g, p):
        return (c,)  # fine for NumPy, which makes an array of it

    w = np.ones(3, f32)
    opt = fastopt.optimizer(odd)(w)
    with pytest.raises(TypeError, match="rule odd: Numba does not compile its update for f32 f32") as error:
        opt.step(np.ones(3, f32))
    assert error.type is TypeError
    assert (opt.t, w.tolist()) == (0, [1, 1, 1])


def test_groups_keep_what_they_had():
    (opt, g), (twin, _) = make(), make()
    for name, value, kind in (("lr", -1, ValueError), ("b1", "x", TypeError), ("betas", (0.9, 0.99), TypeError),
                              ("decay", "l2", ValueError), ("maximize", lambda t: True, ValueError),
                              ("eps_mode", None, ValueError)):
        with pytest.raises(kind, match=f"Adam group 1: .*{name}"):
            opt.groups[1][name] = value
    with pytest.raises(TypeError, match=r"Adam group 0: a group keeps all hyperparameters of its rule. Set lr to a "
                                        r"number instead."):
        del opt.groups[0]["lr"]
    with pytest.raises(TypeError):
        opt.groups[0] = {"lr": 1.0}
    assert_untouched(opt, twin, g)


@pytest.mark.parametrize("call", [copy.copy, copy.deepcopy, pickle.dumps, lambda opt: pickle.dumps([opt])])
def test_no_copies_of_addresses(call):
    (opt, g), (twin, _) = make(), make()
    with pytest.raises(TypeError, match=r"Adam: an optimizer holds the addresses of its arrays and cannot be copied or "
                                        r"pickled\. Save"):
        call(opt)
    assert_untouched(opt, twin, g)


def test_memory_that_cannot_be_had(monkeypatch):
    """State, gradient buffers, the look-ahead point: whatever is refused leaves everything as it was."""
    real, left = arrays.zeros_like, [0]

    def limited(*args):
        left[0] -= 1
        if left[0] < 0:
            raise MemoryError("no more")
        return real(*args)

    def make():
        return fastopt.Nesterov([np.ones(5, f32), np.ones(7)], lr=0.1)

    g = [np.ones(5, f32), np.ones(7)]
    opt, twin = make(), make()
    monkeypatch.setattr(arrays, "zeros_like", limited)
    for allowed in (0, 1):  # of the two arrays that each needs
        for need in (make, opt.lookahead, lambda: opt.grads, lambda: opt.step(lambda ahead: g)):
            left[0] = allowed
            with pytest.raises(MemoryError):
                need()
    monkeypatch.undo()
    for _ in range(2):
        opt.step(lambda ahead: g)
        twin.step(lambda ahead: g)
        for x, y in zip([*opt.params, *opt.state["v"], *opt.lookahead()],
                        [*twin.params, *twin.state["v"], *twin.lookahead()], strict=True):
            assert_identical(x, y)
    assert opt.t == twin.t == 2
    assert np.array_equal(opt.grads[1], np.zeros(7))


def test_a_parameter_larger_than_memory():
    huge = np.lib.stride_tricks.as_strided(np.zeros(1, f32), (2**48,),
                                           (4,))  # never touched: its state is refused first
    with pytest.raises(MemoryError):
        fastopt.Adam(huge)


def test_jax_arrays_cannot_be_parameters():
    jax = pytest.importorskip("jax")
    with pytest.raises(TypeError) as error:
        fastopt.Adam({"w": jax.numpy.ones(3)})
    assert str(error.value) == "params['w']: a JAX array, which is immutable. Keep the parameters in NumPy: numpy.array(x)."


def test_torch_tensors_that_numpy_cannot_see():
    torch = pytest.importorskip("torch")
    for bad, message in ((torch.ones(3, device="meta"), "a tensor on meta, but one on the CPU or on a CUDA device is "
                                                        "needed."),
                         (torch.eye(3).to_sparse(), "a torch tensor without a NumPy view"),
                         (torch.ones(3).to(torch.float8_e4m3fn), "a torch tensor without a NumPy view"),
                         (torch.ones(3, dtype=torch.int32), "dtype int32, but one of"),
                         (torch.ones(1).expand(3), "strides (0,)")):
        with pytest.raises((TypeError, ValueError)) as error:
            fastopt.Adam([bad])
        assert str(error.value).startswith(f"params[0]: {message}")


def test_bfloat16_bits_and_arrays_are_one_format():
    w, g = np.ones(4, BFLOAT16), np.ones(4, f32)
    bits = w.copy().view(np.uint16)
    for p in (w, bits):
        fastopt.SGD(p, lr=0.5).step(g)
    assert_identical(w.view(np.uint16), bits)
    assert w.astype(f32).tolist() == [0.5]*4
