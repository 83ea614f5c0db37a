"""Bad input: the error says where, what was found and what to do, and nothing has changed (a twin never saw it)."""
import re

import numpy as np
import pytest
from conftest import assert_identical, normal

from fastopt import SGD, AdaGrad, Adam, AdamW, Lion, Momentum, Nesterov, RAdam, rules
from fastopt._tensors import arrays

f32 = np.float32
A, B = 5, (3, 4)


def start():
    """Parameters of two groups, three formats, and a gradient for them."""
    p = [{"W": normal(1, *B).astype(f32), "b": normal(2, A)}, [normal(3, 7).astype(np.float16)]]
    return p, [{"W": normal(4, *B).astype(f32), "b": normal(5, A)}, [normal(6, 7).astype(f32)]]


def make(lr=0.05, second=0.02):
    p, g = start()
    return Adam([{"params": p[0]}, {"params": p[1], "lr": second}], lr=lr, weight_decay=0.1), g


def everything(opt):
    """All that an error must leave alone."""
    p = [g["params"] for g in opt.params]
    held = [p[0]["W"], p[0]["b"], p[1][0], *(a for s in opt.state.values() for a in (s[0]["W"], s[0]["b"], s[1][0]))]
    return held, (opt.t, opt.threads, opt.grad_norm, [dict(group) for group in opt.groups])


def assert_untouched(opt, twin, g):
    """Now, and after two more steps, every bit is the twin's."""
    for _ in range(3):
        (have, facts), (want, wanted) = everything(opt), everything(twin)
        assert facts == wanted
        for x, y in zip(have, want, strict=True):
            assert_identical(x, y)
        opt.step(g, clip_norm=0.7)
        twin.step(g, clip_norm=0.7)


def refused(kind, message, call):
    with pytest.raises(kind) as error:
        call()
    text = str(error.value)
    assert message in text
    assert error.type is kind
    assert "unexpected keyword" in text or re.fullmatch(r"[^\n]+: .+\. [A-Z].+(\.|\))", text), text


def read_only(a):
    a = a.copy()
    a.flags.writeable = False
    return a


class Device:
    __cuda_array_interface__ = {"shape": (5,), "typestr": "<f8", "data": (0, False), "version": 3}  # noqa: RUF012


ones5 = np.ones(A)
B_IS = "grads[0]['b']: "
LEAVES = {  # a gradient for params[0]["b"], a float64 array of 5; other kinds of arrays are in tests/test_cures.py
    ValueError: [(np.ones(4), B_IS + "shape (4,), but params[0]['b'] has (5,). Give a gradient of that shape."),
                 (np.ones((5, 1)), B_IS + "shape (5, 1), but params[0]['b'] has (5,)."),
                 (1.0, B_IS + "shape (), but params[0]['b'] has (5,).")],
    TypeError: [
        (np.ones(A, int),
         B_IS + "dtype int64, but one of float64, float32, float16, bfloat16 (ml_dtypes, or its bits as"),
        (np.ones(A, ">f8"), B_IS + "dtype >f8 in foreign byte order, but this machine's is needed. Convert it"),
        ([1.0]*A, B_IS + "a list, but an array is needed"),
        (np.ma.array(ones5, mask=[1, 0, 0, 0, 0]), B_IS + "a masked array, but kernels do not see masks. Give x.data,"),
        (Device(), B_IS + "on a CUDA device, but params[0]['b'] is in this machine's memory. Copy the"),
        (iter([ones5]), "a list_iterator, but an array is needed (NumPy, a tensor of torch, any buffer, or an")]}
TREES = {
    ValueError: [
        (lambda g: [{"W": ones5, "c": ones5}, g[1]], "grads[0]: no ['b'] and unknown ['c']; params has the keys"),
        (lambda g: [g[0], [g[1][0]]*2], "grads[1]: 2 entries, but params has 1 there. Give one for each."),
        (lambda g: None, "step: no gradients were given. Pass them, or write them into opt.grads first.")],
    TypeError: [
        (lambda g: [g[0], g[1][0]], "grads[1]: found ndarray, but params has a list of 1 there. Give the structure"),
        (lambda g: [list(g[0].values()), g[1]], "grads[0]: found list, but params has a dict with the keys 'W', 'b'"),
        (lambda g: 1.0, "grads: found float, but params has a list of 2 there.")]}
ARGUMENTS = {  # what is no number at all is in tests/test_arguments.py
    ValueError: [("clip_norm", 0, "step: clip_norm is 0, but a number above 0 is needed. Change clip_norm."),
                 ("clip_norm", -1.0, "step: clip_norm is -1.0, but a number above 0"),
                 ("clip_value", 0.0, "step: clip_value is 0.0, but a number above 0 is needed. Change clip_value."),
                 ("grad_factor", -np.inf, "step: grad_factor is -inf, but a finite number is needed.")],
    TypeError: [("clip_value", [1, 2], "clip_value is [1, 2], but"),
                ("grad_factor", None, "step: grad_factor is None, but"),
                ("lr", 0.1, "unexpected keyword argument 'lr'")]}


def test_a_bad_step_changes_nothing():
    (opt, g), (twin, _) = make(), make()
    for kind in (ValueError, TypeError):
        for leaf, message in LEAVES[kind]:
            bad = [{**g[0], "b": leaf}, g[1]]
            for give in (lambda bad=bad: opt.step(bad, clip_norm=1.0), lambda bad=bad: setattr(opt, "grads", bad),
                         lambda bad=bad: opt.step(lambda params, bad=bad: bad)):
                refused(kind, message, give)
        for spoil, message in TREES[kind]:
            refused(kind, message, lambda spoil=spoil: opt.step(spoil(g)))
        for name, value, message in ARGUMENTS[kind]:
            refused(kind, message, lambda name=name, value=value: opt.step(g, **{name: value}))
        assert_untouched(opt, twin, g)


def test_bad_schedule_changes_nothing():
    rate = [lambda t: 0.1/t]
    (opt, g), (twin, _) = make(lr=lambda t: rate[0](t)), make(lr=lambda t: 0.1/t)
    for bad, kind, found in ((np.nan, ValueError, "nan"), (-1.0, ValueError, "-1.0"), ("big", TypeError, "'big'"),
                             (None, TypeError, "None"), (10**400, ValueError, "1000")):
        right, rate[0] = rate[0], lambda t, bad=bad: bad
        refused(kind, f"Adam group 0 at step {opt.t + 1}: lr is {found}", lambda: opt.step(g))
        rate[0] = right
        for o in (opt, twin):
            o.step(g)
        assert opt.t == twin.t
        for x, y in zip(everything(opt)[0], everything(twin)[0], strict=True):
            assert_identical(x, y)


def test_an_error_of_the_users_own_function_passes_through():
    (opt, g), (twin, _) = make(), make()
    with pytest.raises(ZeroDivisionError):
        opt.step(lambda params: 1/0)
    opt.groups[0]["b1"] = lambda t: 1/0
    with pytest.raises(ZeroDivisionError):
        opt.step(g)
    opt.groups[0]["b1"] = 0.9
    assert_untouched(opt, twin, g)


def test_gradients_over_written_memory_are_refused():
    memory = np.zeros(64)
    w, v = memory[:8], memory[16:24]
    cases = {"own, one further": (memory[1:9], v.copy()), "own, reversed": (w[::-1], v.copy()),
             "another parameter": (v, np.ones(8)), "strided across it": (memory[0:16:2], np.ones(8)),
             "backwards into it": (memory[30:14:-2], np.ones(8)), "as other bits": (memory.view(f32)[:8], np.ones(8))}
    opt = Momentum([w, v], threads=1)
    cases["state"] = (opt.state["v"][1], np.ones(8))
    for _ in range(2):  # first with nothing bound, then bound to arrays of the same shape and strides elsewhere
        for case, g in cases.items():
            elsewhere = [np.lib.stride_tricks.as_strided(np.ones(64, x.dtype)[32:], x.shape, x.strides) for x in g]
            if opt.t:
                opt.step(elsewhere)
            before, t = memory.copy(), opt.t
            with pytest.raises(ValueError, match=r"grads\[0\]: overlaps memory that the step writes .* Give a copy: "
                                                 r"numpy.array\(x\)."):
                opt.step(list(g))
            assert_identical(memory, before, case)
            assert opt.t == t
        opt.step([np.ones(8), np.ones(8)])
    own = w.copy()
    SGD(w, lr=0.25).step(w)  # its own gradient, element for element
    assert_identical(w, own - 0.25*own)


CONSTRUCTORS = {  # the wording of others, and what is to be done, is in tests/test_cures.py
    ValueError: [
        (lambda: Adam(np.ones(10)[::2]),
         "params: strides (16,) for shape (5,) and 8-byte elements, but memory without gaps is needed. Give the "),
        (lambda: Adam(np.ones(5)[::-1]), "params: strides (-8,) for shape (5,) and 8-byte elements, but memory"),
        (lambda: Adam(np.lib.stride_tricks.as_strided(np.ones(5), (5, 5), (0, 8))), "params: strides (0, 8) for"),
        (lambda: Adam(read_only(ones5)), "params: read-only, but it is updated in place. Give a copy, numpy.array"),
        (lambda: Adam([ones5[:3], np.ones(2), ones5[2:]]), "params[2]: its memory overlaps that of params[0]"),
        (lambda: Adam({"a": [], "b": {}}), "params: no arrays, but at least one is needed. Remove the group or give"),
        (lambda: Adam([{"params": ones5}, {"params": []}]), "params[1]: no arrays, but at least one"),
        (lambda: Adam(ones5, -1), "Adam: lr is -1, but a finite number, 0 or more, or a function of the step is"),
        (lambda: Adam(ones5, 10**400), "Adam: lr is 1000"),
        (lambda: Adam(ones5, b1=1.0), "Adam: b1 is 1.0, but a number in [0, 1) or a function of the step is needed."),
        (lambda: Nesterov(ones5, momentum=1.5), "Nesterov: momentum is 1.5, but a number in [0, 1)"),
        (lambda: Adam(ones5, eps=-1e-8), "Adam: eps is -1e-08, but a finite number, 0 or more,"),
        (lambda: AdamW(ones5, weight_decay=-0.1), "AdamW: weight_decay is -0.1, but"),
        (lambda: Momentum(ones5, dampening=1.1), "Momentum: dampening is 1.1, but a number in [0, 1]"),
        (lambda: RAdam(ones5, threshold=3.0), "RAdam: threshold is 3.0, but a finite number, 4 or more,"),
        (lambda: Adam(ones5, decay="l2"),
         "Adam: decay is 'l2', but one of 'coupled', 'decoupled', 'independent' is needed. Change decay."),
        (lambda: Momentum(ones5, form=None), "Momentum: form is None, but one of 'textbook', 'negative', 'outside'"),
        (lambda: Adam(ones5, like=["torch"]), "like: ['torch'] was found, one of torch, optax"),
        (lambda: Lion(ones5, like="torch"), "like='torch': the rule lion was found, one that torch has was")],
    TypeError: [
        (lambda: Adam(1.0),
         "params: a float, which cannot be updated in place. Make it an array with numpy.array(x, numpy.float64)."),
        (lambda: Adam({"w": "w"}), "params['w']: a str, but an array is needed"),
        (lambda: Adam([np.ones(3, ">c16")]), "params[0]: dtype >c16 in foreign byte order, but this machine's is"),
        (lambda: Adam(b"12345678"), "params: dtype uint8, but one of"),
        (lambda: Adam([{"params": ones5, "threads": 1}]), "Adam group 0: 'threads' is no hyperparameter"),
        (lambda: AdaGrad(ones5, initial_accumulator_value=lambda t: 1.0), "initial_accumulator_value"),
        (lambda: Adam(ones5, betas=(0.9, 0.99)), "Adam: 'betas' is no hyperparameter of adam, which has lr, b1, b2,"),
        (lambda: SGD(ones5, learning_rate=0.1), "SGD: 'learning_rate' is no hyperparameter of sgd, which has lr,"),
        (lambda: rules.adam.at(1, betas=(0.9, 0.99)), "adam.at: unknown betas, but it has lr, b1, b2,")]}


def test_bad_constructors():
    for kind, cases in CONSTRUCTORS.items():
        for call, message in cases:
            refused(kind, message, call)
    assert_identical(ones5, np.ones(A))


def test_groups_keep_what_they_had():
    (opt, g), (twin, _) = make(), make()
    for name, value, kind in (("lr", -1, ValueError), ("b1", "x", TypeError), ("betas", (0.9, 0.99), TypeError),
                              ("decay", "l2", ValueError), ("maximize", lambda t: True, ValueError)):
        with pytest.raises(kind, match=f"Adam group 1: .*{name}"):
            opt.groups[1][name] = value
    with pytest.raises(TypeError, match=r"Adam group 0: a group keeps all hyperparameters of its rule. Set lr to a "
                                        r"number instead."):
        del opt.groups[0]["lr"]
    with pytest.raises(TypeError):
        opt.groups[0] = {"lr": 1.0}
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
        return Nesterov([np.ones(5, f32), np.ones(7)], lr=0.1)

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
        for x, y in zip(*([*o.params, *o.state["v"], *o.lookahead()] for o in (opt, twin)), strict=True):
            assert_identical(x, y)
    assert opt.t == twin.t == 2
    assert np.array_equal(opt.grads[1], np.zeros(7))
    huge = np.lib.stride_tricks.as_strided(np.zeros(1, f32), (2**48,),
                                           (4,))  # never touched: its state is refused first
    with pytest.raises(MemoryError):
        Adam(huge)
