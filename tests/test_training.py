"""fit against loops of opt.step written out, bit for bit: batches, accumulation, validation, checkpoints, interruptions, errors."""
import errno
import importlib.util
import itertools
import math
import os
import random
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from conftest import BFLOAT16, OPTIMIZERS, assert_identical, normal, stored, storm

import fastopt
from fastopt import files, proximal, schedules
from fastopt._training.fit import BatchesEnded, Fit, Now, fit

f16, f32, f64, u16 = np.float16, np.float32, np.float64, np.uint16
INF, NAN = math.inf, math.nan
ROOT = Path(__file__).parent.parent


def parameters(dtype=f32):
    return {"W": normal(1, 4, 3).astype(dtype), "b": [normal(2, 3).astype(dtype)]}


def value_and_grad(p, batch):
    """|W - batch|^2/2 + |b - 2*batch|^2/2, for a batch that is a number, or None for 0."""
    batch = np.float32(batch or 0)
    W, b = p["W"] - batch, p["b"][0] - 2*batch
    return float((W*W).sum() + (b*b).sum())/2, {"W": W, "b": [b]}


def make(name="adam", p=None, **options):
    return OPTIMIZERS[name](parameters() if p is None else p, **{"lr": 0.05, **options})


def state_of(opt):
    return [a.copy() for a in (*(t.array for t in opt._tensors),
                               *(a for new in opt._machine.state.values() for a in new))]


def assert_equal(opt, other):
    assert opt.t == other.t
    for a, b in zip(state_of(opt), state_of(other), strict=True):
        assert_identical(a, b)


def assert_parameters(opt, want):
    for t, b in zip(opt._tensors, want, strict=True):
        assert_identical(t.array, b)


def copies(opt):
    return [t.array.copy() for t in opt._tensors]


def replay(opt, batches, **options):
    """A loop without fit: the values of its steps."""
    values = []
    for batch in batches:
        value, grads = value_and_grad(opt.lookahead() if opt.rule.ahead else opt.params, batch)
        opt.step(grads, **options)
        values.append(value)
    return values


class Seen(list):
    """value_and_grad that remembers the batches."""

    def __call__(self, p, batch):
        self.append(batch)
        return value_and_grad(p, batch)


# Steps

@pytest.mark.parametrize("name", ["sgd", "momentum", "nesterov", "adam", "lion"])
def test_a_fit_is_a_loop_of_steps(name):
    rate = schedules.cosine(0.1, 9)
    opt, twin = make(name, lr=rate), make(name, lr=rate)
    replay(opt, [9, 8])
    replay(twin, [9, 8])
    batches = [1, -2, 3]
    result = fit(opt, value_and_grad, batches, 7, clip_norm=2.0)
    values = replay(twin, (batches*3)[:7], clip_norm=2.0)
    assert_equal(opt, twin)
    assert type(result) is Fit
    assert (result.t.tolist(), result.t.dtype) == ([3, 4, 5, 6, 7, 8, 9], np.int64)
    assert (result.value.tolist(), result.value.dtype) == (values, f64)
    assert (result.lr.tolist(), result.lr.dtype) == ([rate(t) for t in range(3, 10)], f64)
    assert (result.stopped, result.steps, result.best, result.best_value) == ("steps", 7, None, None)
    assert (result.validated.tolist(), result.validation.tolist()) == ([], [])
    assert (result.validated.dtype, result.validation.dtype) == (np.int64, f64)


def test_the_options_of_a_step():
    opt, twin = make(), make()
    fit(opt, value_and_grad, None, 4, clip_norm=0.3, clip_value=0.05)
    replay(twin, [None]*4, clip_norm=0.3, clip_value=0.05)
    assert_equal(opt, twin)
    assert opt.grad_norm > 0.3


def test_textbook_nesterov_is_evaluated_at_the_look_ahead_point():
    """v <- mu*v + lr*g(p - mu*v), p <- p - v, in float64, written out."""
    lr, mu, a = 0.1, 0.8, np.array([1.0, 7.0])
    p, points = np.array([3.0, -2.0]), []

    def gradient(point, batch):
        points.append(point.copy())
        return float((a*point*point).sum())/2, a*point
    opt = fastopt.Nesterov(p.copy(), lr=lr, momentum=mu)
    result = fit(opt, gradient, None, 8)
    v = np.zeros(2)
    for k in range(8):
        ahead = p - mu*v
        np.testing.assert_allclose(points[k], ahead, rtol=1e-13)
        assert result.value[k] == pytest.approx((a*ahead*ahead).sum()/2, rel=1e-12)
        v = mu*v + lr*a*ahead
        p = p - v
    np.testing.assert_allclose(opt.params, p, rtol=1e-13)
    assert np.abs(points[3] - opt.params).max() > 0.1
    shifted, other = fastopt.Nesterov(np.ones(2), shifted=True), fastopt.Nesterov(np.ones(2), shifted=True)
    fit(shifted, gradient, None, 3)
    for _ in range(3):
        other.step(a*other.params)
    assert_equal(shifted, other)


def test_groups_are_given_as_their_trees():
    def made():
        return fastopt.SGD([{"params": {"w": np.ones(3)}, "lr": lambda t: 1/t}, {"params": np.ones(2)}], lr=0.5)

    def gradient(p, batch):
        (first, second), = [p]
        return 1.0, [{"w": 2*first["w"]}, batch*second]
    opt, twin, seen = made(), made(), []
    result = fit(opt, gradient, [1.0, 2.0], 3, validate=lambda p: seen.append([p[0]["w"].copy(), p[1].copy()]) or 0.0,
                 restore_best=False)
    for batch in (1.0, 2.0, 1.0):
        twin.step(gradient([g["params"] for g in twin.params], batch)[1])
    assert_equal(opt, twin)
    assert result.lr.tolist() == [1, 1/2, 1/3]
    assert [a.tolist() for a in seen[0]] == [[0, 0, 0], [0, 0]]


# Accumulation

def totals(p, group):
    """The gradients of a group, added in order."""
    grads = [value_and_grad(p, batch)[1] for batch in group]
    W, b = grads[0]["W"].copy(), grads[0]["b"][0].copy()
    for g in grads[1:]:
        W, b = W + g["W"], b + g["b"][0]
    return {"W": W, "b": [b]}


@pytest.mark.parametrize("name", ["sgd", "nesterov", "adam"])
@pytest.mark.parametrize("k", [2, 3, 4])
def test_accumulated_steps(name, k):
    """The bits of steps with the sum and the factor 1/k; so those of steps with the mean gradient, where k is a power of two."""
    batches = normal(3, 3*k).tolist()
    opt, twin, mean = (make(name) for _ in range(3))
    result = fit(opt, value_and_grad, batches, 3, accumulate=k)
    for group in zip(*[iter(batches)]*k, strict=True):
        values = [value_and_grad(twin.lookahead() if twin.rule.ahead else twin.params, batch)[0] for batch in group]
        assert result.value[twin.t] == sum(values)/k
        twin.step(totals(twin.lookahead() if twin.rule.ahead else twin.params, group), grad_factor=1/k)
        total = totals(mean.lookahead() if mean.rule.ahead else mean.params, group)
        mean.step({"W": total["W"]/np.float32(k), "b": [total["b"][0]/np.float32(k)]})
    assert_equal(opt, twin)
    assert (result.t.tolist(), result.steps) == ([1, 2, 3], 3)
    if k != 3:
        assert_equal(opt, mean)
    for a, b in zip(state_of(opt), state_of(mean), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-7)


@pytest.mark.parametrize(("format", "kind"), [("f32", "f64"), ("f32", "bf16"), ("bf16", "bf16"), ("f16", "f16"), ("f64",
                                                                                                                  "f32")])
def test_sums_are_exact_enough_for_any_format(format, kind):
    """1 + 2^-11 is lost in a sum of 16 bits. SGD with lr = 1 and k = 2 from 0 shows the mean: (1 + 2^-11)/2, as stored."""
    small = 2.0**-11
    w = np.zeros((2, 3), {"f64": f64, "f32": f32, "f16": f16, "bf16": u16}[format], order="F")
    fit(fastopt.SGD({"w": w, "none": np.zeros(0, f32), "one": np.zeros(())}, lr=1.0),
        lambda p, x: (0.0, {"w": stored(np.full((2, 3), x), kind), "none": np.zeros(0, f32), "one": np.array(x)}),
        [-1.0, -small], 1, accumulate=2)
    assert_identical(w, np.asfortranarray(stored(np.full((2, 3), (1 + small)/2), format)))


def test_sums_pass_infinities_on():
    w = np.array([1.0, 1, 1], f32)
    opt = fastopt.SGD(w, lr=1.0)
    made = {0: np.array([INF, 3e38, 1], f32), 1: np.array([-INF, 3e38, 1], f32)}
    fit(opt, lambda p, k: (0.0, made[k]), [0, 1], 1, accumulate=2)
    assert np.isnan(w[0])
    assert w[1:].tolist() == [-INF, 0]
    held = w.copy()
    result = fit(opt, lambda p, k: (0.0, made[k]), [0, 1], 2, accumulate=2, skip_nonfinite=True)
    assert_identical(w, held)
    assert (result.t.tolist(), opt.t) == ([1, 1], 1)


def test_sums_are_apart_from_the_callers_arrays():
    """Gradients that are written into the same arrays each time, opt.grads for example."""
    opt, twin = make("sgd"), make("sgd")

    def into(p, batch):
        value, g = value_and_grad(p, batch)
        opt.grads["W"][...], opt.grads["b"][0][...] = g["W"], g["b"][0]
        return value, opt.grads
    fit(opt, into, [1, 2, 3], 3, accumulate=3)
    fit(twin, value_and_grad, [1, 2, 3], 3, accumulate=3)
    assert_equal(opt, twin)


# Batches

def test_a_list_is_walked_again_and_within_a_group():
    seen = Seen()
    assert fit(make(), seen, [1, 2, 3], 3, accumulate=2).stopped == "steps"
    assert seen == [1, 2, 3, 1, 2, 3]


def test_without_steps_a_pass():
    seen = Seen()
    result = fit(make(), seen, (1, 2, 3))
    assert (result.stopped, result.steps, seen) == ("batches", 3, [1, 2, 3])


def test_a_function_of_the_epoch():
    seen, epochs = Seen(), []

    def batches(epoch):
        epochs.append(epoch)
        return iter([10*epoch, 10*epoch + 1])
    assert fit(make(), seen, batches, 5).stopped == "steps"
    assert (epochs, seen) == ([0, 1, 2], [0, 1, 10, 11, 20])
    seen.clear()
    assert fit(make(), seen, batches).stopped == "batches"
    assert (epochs[3:], seen) == ([0], [0, 1])


def test_a_generator_gives_no_batch_too_many():
    numbers, seen = iter(range(100)), Seen()
    fit(make(), seen, numbers, 3, accumulate=2, validate=lambda p: 1.0, validate_every=1, patience=9)
    assert seen == [0, 1, 2, 3, 4, 5]
    assert next(numbers) == 6
    assert fit(make(), seen, iter(range(4))).stopped == "batches"
    assert seen[6:] == [0, 1, 2, 3]


def test_a_generator_may_use_its_batch_again():
    """Also where the end of a pass is looked for, in order to validate."""
    def batches(epoch):
        batch = np.zeros(1)
        for k in range(3):
            batch[0] = k
            yield batch
    seen = []
    result = fit(make(), lambda p, batch: (seen.append(batch[0]), value_and_grad(p, batch[0]))[1], batches, 5,
                 validate=lambda p: 0.0)
    assert seen == [0, 1, 2, 0, 1]
    assert result.validated.tolist() == [3]


def test_rows_of_an_array_and_sequences():
    class Old:
        def __getitem__(self, k):
            if k == 2:
                raise IndexError
            return k
    seen = Seen()
    fit(make(), seen, np.array([1.0, 2.0]), 3)
    fit(make(), seen, Old(), 3)
    assert seen == [1, 2, 1, 0, 1, 0]


@pytest.mark.parametrize(("batches", "steps", "accumulate", "taken", "message"), [
    (lambda: iter([1, 2, 3]), 5, 1, 3, "the batches ended after 3 of 5 steps, but"),
    (lambda: iter([1, 2, 3]), 5, 2, 1, "the batches ended after 1 of 5 steps, and 1 of the 2 for the next, but"),
    (lambda: iter([1, 2, 3]), None, 2, 1, "the batches ended after 1 step, and 1 of the 2 for the next, but"),
    (lambda: [1, 2, 3], None, 2, 1, "the batches ended after 1 step, and 1 of the 2 for the next, but"),
    (lambda: [], None, 1, 0, "the batches ended after 0 steps, but"),
    (lambda: [], 3, 1, 0, "the batches ended after 0 of 3 steps, but"),
    (lambda: lambda epoch: [5]*(2 - epoch), 9, 1, 3, "the batches ended after 3 of 9 steps, but"),
    (lambda: iter(()), 3, 4, 0, "the batches ended after 0 of 3 steps, but"),
    (lambda: iter([1]), 2, 1, 1, "the batches ended after 1 of 2 steps, but"),
])
def test_batches_that_end(batches, steps, accumulate, taken, message):
    opt, saved = make(), []
    with pytest.raises(BatchesEnded, match=re.escape("fit: " + message)) as raised:
        fit(opt, value_and_grad, batches(), steps, accumulate=accumulate, checkpoint=lambda o: saved.append(o.t))
    result = raised.value.result
    assert isinstance(raised.value, ValueError)
    assert (result.steps, result.stopped, result.t.tolist(), opt.t) == (taken, "batches", [*range(1, taken + 1)], taken)
    assert saved == [taken]


def test_batches_that_end_leave_the_best():
    opt, at = make(), {}
    with pytest.raises(BatchesEnded) as raised:
        fit(opt, value_and_grad, iter(range(4)), 9, validate=lambda p: abs(opt.t - 2), validate_every=1,
            callback=lambda now: at.update({now.t: copies(opt)}))
    assert raised.value.result.best == 2
    assert_parameters(opt, at[2])
    assert opt.t == 4


# Validation

SEQUENCES = [  # validations, patience, min_delta; after which one it stops (0: never), which is the best
    ([5, 4, 3, 2, 1, 0], 1, 0.0, 0, 6),
    ([5, 4, 4, 3, 2, 1], 0, 0.0, 3, 2),
    ([5, 4, 4, 3, 2, 1], 1, 0.0, 3, 2),
    ([5, 4, 6, 3, 4, 3], 2, 0.0, 6, 4),
    ([5, 4, 6, 3, 4, 2], 2, 0.0, 0, 6),
    ([5, 6, 6, 4, 5, 5, 5, 1], 3, 0.0, 7, 4),
    ([5, 6, 6, 4, 5, 5, 3, 4], 3, 0.0, 0, 7),
    ([5, 4.5, 4.2, 4.1, 1], 3, 0.5, 4, 4),    # 4.5 is not below 5 - 0.5
    ([5, 4.25, 4, 3.25], 1, 0.5, 3, 3),       # better, but not by more than enough: it stops, and that is the best
    ([NAN, NAN, NAN, 1], 3, 0.0, 3, None),
    ([NAN, 5, NAN, NAN, 1], 2, 0.0, 4, 2),
    ([INF, INF, 1], 2, 0.0, 2, None),
    ([1, 2, 3], None, 0.0, 0, 1),
    ([-1, -2, -INF, -INF], 1, 0.0, 4, 3),
]


@pytest.mark.parametrize(("values", "patience", "min_delta", "stop", "best"), SEQUENCES)
@pytest.mark.parametrize("restore", [True, False])
def test_early_stopping(values, patience, min_delta, stop, best, restore):
    """Two steps to each pass and validation."""
    opt, twin, script, at = make(lr=0.3), make(lr=0.3), iter(values), {}
    result = fit(opt, value_and_grad, [1, 2], 2*len(values),
                 validate=lambda p: at.update({opt.t: copies(opt)}) or next(script),
                 patience=patience, min_delta=min_delta, restore_best=restore)
    count = stop or len(values)
    assert (result.stopped, opt.t, result.steps) == ("patience" if stop else "steps", 2*count, 2*count)
    assert result.validated.tolist() == [2*k for k in range(1, count + 1)]
    np.testing.assert_array_equal(result.validation, values[:count])
    assert (result.best, result.best_value) == ((2*best, values[best - 1]) if best else (None, None))
    replay(twin, [1, 2]*count)
    for have, want in zip(state_of(opt)[2:], state_of(twin)[2:], strict=True):
        assert_identical(have, want)
    assert_parameters(opt, at[2*best] if restore and best else copies(twin))


def test_when_it_validates():
    def validated(batches, steps, t=0, **options):
        opt = make()
        opt.t = t
        return fit(opt, value_and_grad, batches, steps, validate=lambda p: 0.0, **options).validated.tolist()
    assert validated([1, 2, 3], 8) == [3, 6]
    assert validated([1, 2, 3], None) == [3]
    assert validated(lambda epoch: iter([1]*(epoch + 1)), 7) == [1, 3, 6]
    assert validated([1, 2, 3, 4, 5], 5, accumulate=2) == [3, 5]    # the passes end after 2.5 and 5 steps
    assert validated([1, 2], 3, accumulate=3) == [1, 2, 3]          # after 2/3, 4/3, 2, 8/3, ...
    assert validated([1, 2, 3], 8, validate_every=4) == [4, 8]
    assert validated(None, 8, t=6, validate_every=5) == [10]        # where a run that was not stopped would have
    assert validated(iter([1, 2, 3]), 3, validate_every=2) == [2]


def test_it_validates_the_stored_parameters():
    p, seen = np.ones(3), []
    fit(fastopt.Nesterov(p, lr=0.1), lambda w, b: (0.0, w), None, 3, validate=lambda w: seen.append(w is p) or 0.0,
        validate_every=1)
    assert seen == [True]*3


def test_plateaus_are_fed():
    losses = [3.0, 3.0, NAN, 3.0, 1.0, 2.0]
    first, second, inner = (schedules.ReduceOnPlateau(lr, patience=1, factor=0.5) for lr in (0.5, 0.25, 1.0))
    opt = fastopt.Adam([{"params": np.ones(2), "lr": first, "weight_decay": second},
                        {"params": np.ones(2), "lr": first},
                        {"params": np.ones(2), "lr": schedules.warmup(2, inner)}])
    script = iter(losses)
    result = fit(opt, lambda p, b: (1.0, p), None, 12, validate=lambda p: next(script), validate_every=2)
    alone = schedules.ReduceOnPlateau(0.5, patience=1, factor=0.5)
    rates = []
    for loss in losses:
        rates += [alone(1)]*2
        alone.observe(loss)
    assert result.lr.tolist() == rates
    assert len(set(rates)) > 1
    for plateau, times in ((first, 1), (second, 0.5), (inner, 2)):
        assert plateau.state_dict() == {**alone.state_dict(), "lr": alone.state_dict()["lr"]*times}


# The callback

def test_what_the_callback_is_told():
    told = []
    result = fit(make(lr=lambda t: 1/t), value_and_grad, [1, 2], 4, validate=lambda p: 7.0, callback=told.append)
    assert all(type(now) is Now for now in told)
    assert [now.t for now in told] == result.t.tolist()
    assert [now.value for now in told] == result.value.tolist()
    assert [now.lr for now in told] == result.lr.tolist() == [1, 1/2, 1/3, 1/4]
    assert [now.validation for now in told] == [None, 7.0, None, 7.0]


def ended(now):
    raise StopIteration


@pytest.mark.parametrize(("answer", "stops"), [
    (lambda now: True, True), (lambda now: np.True_, True), (ended, True), (lambda now: False, False),
                                               (lambda now: "yes", False),
    (lambda now: np.ones(2), False)])
def test_the_callback_stops(answer, stops):
    opt, saved = make(), []
    result = fit(opt, value_and_grad, None, 5, callback=lambda now: answer(now) if now.t == 2 else None,
                 checkpoint=lambda o: saved.append(o.t))
    assert (result.stopped, result.steps, opt.t) == (("callback", 2, 2) if stops else ("steps", 5, 5))
    assert saved == [opt.t]


# After each step

@pytest.fixture
def python_handler():
    """SIGINT as at a terminal: a program in the background may have inherited that it is ignored."""
    old = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, old)


def well(p, batch):
    """(w - 1)^2."""
    return float(((p - 1)**2).sum()), 2*(p - 1)


def shrink(opt):
    proximal.soft_threshold(opt.params, 0.03)


def shrunk(steps):
    """Parameters after each step of momentum on (w - 1)^2 with soft_threshold, without fit; from -1, 0.25 and 2."""
    opt, found = fastopt.Momentum(np.array([-1, 0.25, 2]), lr=0.05), []
    for _ in range(steps):
        opt.step(well(opt.params, None)[1])
        shrink(opt)
        found.append(opt.params.copy())
    return found


@pytest.mark.usefixtures("python_handler")
@pytest.mark.skipif(threading.current_thread() is not threading.main_thread(), reason="signals come to the main thread")
@pytest.mark.parametrize("every", [None, 1, 3, 4])
@pytest.mark.parametrize("stop", ["steps", "callback", "interrupted", "signal"])
def test_what_comes_after_a_step_is_part_of_it(every, stop, tmp_path):
    """Of the validation, of what the callback sees, of the checkpoint. A run that goes on from there equals one that never stopped."""
    want, path, validated, told = shrunk(12), tmp_path / "c", [], []
    opt = fastopt.Momentum(np.array([-1, 0.25, 2]), lr=0.05)

    def after(o):
        assert o is opt
        if stop == "signal" and o.t == 6:
            os.kill(os.getpid(), signal.SIGINT)
        shrink(o)

    def callback(now):
        told.append(opt.params.copy())
        if now.t == 6 and stop == "interrupted":
            raise KeyboardInterrupt
        return now.t == 6 and stop == "callback"
    result = fit(opt, well, None, 6 if stop == "steps" else 12, after_step=after, callback=callback, checkpoint=path,
                 checkpoint_every=every, validate=lambda p: validated.append(p.copy()) or 1.0, validate_every=1,
                 restore_best=False)
    assert (result.stopped, result.steps) == ("interrupted" if stop == "signal" else stop, 6)
    for seen in (validated, told):
        if stop == "signal":
            seen.extend(want[len(seen):6])
        np.testing.assert_array_equal(seen, want[:6])
    again = fastopt.Momentum(np.zeros(3), lr=0.05)
    files.load(path, again)
    assert_identical(again.params, want[5])
    fit(again, well, None, 6, after_step=shrink)
    assert_identical(again.params, want[11])


def test_the_best_is_within_bounds():
    """From -2, with the lowest validation after the first step: projected before it was copied."""
    w = np.array([-2.0, -1, 3])
    result = fit(fastopt.SGD(w, lr=0.01), well, None, 5, after_step=lambda opt: proximal.project(opt.params, low=0),
                 validate=lambda p: float(p[2] < 2.95) if p.min() >= 0 else -1.0, validate_every=1)
    assert (result.best, result.best_value) == (1, 0.0)
    assert w.tolist() == [0, 0, 3 - 0.01*4]


def test_after_a_step_that_is_skipped_there_is_nothing():
    opt, seen = make(), []
    fit(opt, lambda p, k: (1.0, {"W": np.full((4, 3), k, f32), "b": [np.ones(3, f32)]}), [1.0, NAN, 2.0],
        skip_nonfinite=True,
        after_step=lambda o: seen.append(o.t) or True)
    assert (seen, opt.t) == ([1, 2], 2)


@pytest.mark.parametrize("error", [ZeroDivisionError, StopIteration, KeyboardInterrupt])
def test_an_error_after_a_step(error):
    """The step is taken and in the history; it is not whole, so nothing is saved."""
    opt, twin, saved = make(), make(), []
    with pytest.raises(error) as raised:
        fit(opt, value_and_grad, None, 5, after_step=lambda o: raising(error) if o.t == 3 else None,
            checkpoint=lambda o: saved.append(o.t), checkpoint_every=2, validate=lambda p: opt.t, validate_every=1)
    values = replay(twin, [None]*3)
    assert_equal(opt, twin)
    assert saved == [2]
    result = raised.value.result
    assert (result.t.tolist(), result.value.tolist(), result.stopped) == ([1, 2, 3], values, "error")
    assert result.validated.tolist() == [1, 2]


@pytest.mark.skipif(threading.current_thread() is not threading.main_thread(), reason="signals come to the main thread")
def test_ctrl_c_after_a_step():
    """The first waits for what comes after the step; a second does not. Then the handler is what it was."""
    def press(o):
        done.append("before")
        for _ in range(times):
            os.kill(os.getpid(), signal.SIGINT)
        done.append("after")

    def handler(number, frame):
        raise KeyboardInterrupt("mine")
    old = signal.signal(signal.SIGINT, handler)
    try:
        times, done = 1, []
        assert fit(make(), value_and_grad, None, 5, after_step=press).stopped == "interrupted"
        assert done == ["before", "after"]
        assert signal.getsignal(signal.SIGINT) is handler
        times, done = 2, []
        with pytest.raises(KeyboardInterrupt, match="mine"):
            fit(make(), value_and_grad, None, 5, after_step=press)
        assert done == ["before"]
        assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, old)
    opt, threads = make(), []
    thread = threading.Thread(target=lambda: fit(opt, value_and_grad, None, 2,
                                                 after_step=lambda o: threads.append(o.t)))
    thread.start()
    thread.join()
    assert threads == [1, 2]  # where there are no signals


# Checkpoints

@pytest.mark.parametrize("name", ["sgd", "nesterov", "adam", "lion"])
def test_resumed_equals_uninterrupted(name, tmp_path):
    """In another optimizer, on the batches that follow; validation and the best parameters in memory notwithstanding."""
    path, rate, batches = tmp_path / "c.safetensors", schedules.cosine(0.1, 12), normal(5, 12).tolist()
    options = {"validate": lambda p: float(p["W"][0, 0]), "validate_every": 3}
    whole = make(name, lr=rate)
    fit(whole, value_and_grad, batches, restore_best=False)
    first = make(name, lr=rate)
    before = fit(first, value_and_grad, batches[:7], checkpoint=path, **options)
    again = make(name, {"W": np.zeros((4, 3), f32), "b": [np.zeros(3, f32)]}, lr=rate)
    files.load(path, again)
    assert again.t == 7
    after = fit(again, value_and_grad, batches[7:], **{**options, "restore_best": False})
    assert_equal(again, whole)
    assert [*before.t, *after.t] == [*range(1, 13)]
    assert before.best in (3, 6)
    assert [*before.validated, *after.validated] == [3, 6, 9, 12]


def test_when_it_saves(tmp_path):
    opt, saved = make(), []
    fit(opt, value_and_grad, None, 7, checkpoint=lambda o: saved.append((o is opt, o.t)), checkpoint_every=3)
    assert saved == [(True, 3), (True, 6), (True, 7)]
    saved.clear()
    fit(opt, value_and_grad, None, 5, checkpoint=lambda o: saved.append(o.t), checkpoint_every=4)
    assert saved == [8, 12]  # the last of them is the end
    path, found = tmp_path / "c.safetensors", []

    def look(now):
        other = make(p={"W": np.zeros((4, 3), f32), "b": [np.zeros(3, f32)]})
        if path.exists():
            files.load(path, other)
            assert other.t == now.t//2*2
        found.append((now.t, path.exists(), other.t))
    fit(make(), value_and_grad, None, 5, checkpoint=str(path), checkpoint_every=2, callback=look)
    assert found == [(1, False, 0), (2, True, 2), (3, True, 2), (4, True, 4), (5, True, 4)]


def test_a_checkpoint_holds_the_last_step_and_memory_the_best(tmp_path):
    opt, at = make(), {}
    result = fit(opt, value_and_grad, None, 5, validate=lambda p: abs(opt.t - 2), validate_every=1,
                 checkpoint=tmp_path / "c",
                 callback=lambda now: at.update({now.t: copies(opt)}))
    assert (result.best, opt.t) == (2, 5)
    assert_parameters(opt, at[2])
    files.load(tmp_path / "c", opt)
    assert_parameters(opt, at[5])


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_that_cannot_be_written_to(tmp_path):
    tmp_path.chmod(0o500)
    opt, seen = make(), Seen()
    try:
        with pytest.raises(PermissionError, match=r"fit: checkpoint: .*/c: Permission denied\. Give"):
            fit(opt, seen, None, 3, checkpoint=tmp_path / "c")
    finally:
        tmp_path.chmod(0o700)
    assert (seen, opt.t) == ([], 0)


def test_a_path_is_tried_without_a_trace(tmp_path):
    found = []
    fit(make(), lambda p, b: found.append(os.listdir(tmp_path)) or value_and_grad(p, b), None, 1,
        checkpoint=tmp_path / "c")
    assert (found, os.listdir(tmp_path)) == ([[]], ["c"])


def test_a_relative_path_stays_where_it_was(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    fit(make(), value_and_grad, None, 2, checkpoint="c", callback=lambda now: os.chdir("elsewhere") if now.t == 1
        else None)
    assert (tmp_path / "c").exists()


# Ctrl-C

def struck(at):
    """A function that raises KeyboardInterrupt when it is called for the `at`-th time."""
    calls = itertools.count(1)

    def strike(*_):
        if next(calls) == at:
            raise KeyboardInterrupt
    return strike


@pytest.mark.parametrize(("where", "at", "t"), [
    ("gradient", 1, 0), ("gradient", 5, 4), ("validate", 2, 4), ("callback", 1, 1), ("callback", 5, 5), ("save", 1, 3),
                                                ("save", 2, 6),
    ("save", 3, 8), ("batch", 4, 3), ("rate", 3, 1), ("rate", 4,
                                                      1)])  # the third: for the history; the fourth: within opt.step
def test_interrupted(where, at, t, tmp_path):
    """Parameters, state and history are those of exactly opt.t steps; the checkpoint is written, and loads."""
    strikes = dict.fromkeys(("gradient", "validate", "callback", "save", "batch", "rate"), lambda *_: None)
    strikes[where] = struck(at)
    path, batches = tmp_path / "c", [1, 2, 3, 4, 5, 6, 7, 8]
    opt = make(lr=lambda step: strikes["rate"](step) or 0.1/step)

    def save(o):
        strikes["save"](o)
        files.save(path, o)
    result = fit(opt, lambda p, b: strikes["gradient"](p) or value_and_grad(p, b),
                 (strikes["batch"](b) or b for b in batches), 8,
                 checkpoint=save, checkpoint_every=3, callback=strikes["callback"],
                 validate=lambda p: strikes["validate"](p) or 1.0,
                 validate_every=2, restore_best=False)
    assert result.stopped == "interrupted"
    assert opt.t == t
    twin = make(lr=lambda step: 0.1/step)
    values = replay(twin, batches[:t])
    assert_equal(opt, twin)
    assert (result.t.tolist(), result.value.tolist(), result.steps) == ([*range(1, t + 1)], values, t)
    loaded = make(p={"W": np.zeros((4, 3), f32), "b": [np.zeros(3, f32)]})
    files.load(path, loaded)
    assert_equal(loaded, twin)


@pytest.mark.skipif(threading.current_thread() is not threading.main_thread(), reason="signals come to the main thread")
def test_a_real_interrupt_during_a_step():
    """Another thread sends SIGINT when the main one is about to enter a kernel on 4 million elements."""
    n = 4_000_000
    opt, twin = (fastopt.Momentum(np.ones(n, f32), lr=0.1, threads=1) for _ in range(2))
    (source, go), g = os.pipe(), np.full(n, 0.5, f32)  # a pipe: an interrupt within Event.set leaves its lock held
    opt.groups[0]["lr"] = lambda t: (os.write(go, b"!") if t == 3 else None, 0.1)[1]

    def send():
        os.read(source, 1)
        os.kill(os.getpid(), signal.SIGINT)
    thread, old = threading.Thread(target=send), signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        thread.start()
        result = fit(opt, lambda p, b: (1.0, g), None, 1000)
    finally:
        os.write(go, b"!")
        thread.join()
        signal.signal(signal.SIGINT, old)
        os.close(go)
        os.close(source)
    assert result.stopped == "interrupted"
    assert opt.t >= 2
    for _ in range(opt.t):
        twin.step(g)
    assert_equal(opt, twin)
    assert result.t.tolist() == [*range(1, opt.t + 1)]


@pytest.mark.usefixtures("python_handler")
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no interval timers")
@pytest.mark.parametrize("after", [False, True], ids=["", "after_step"])
def test_interrupts_at_any_moment(after):
    """A storm: each fit is hit once at random, in whatever it does. Memory holds the best of whole steps, the history all of them,
    the checkpoint the last one."""
    rng, saved = random.Random(1), []

    def strike():
        if not after:
            raise KeyboardInterrupt
        signal.raise_signal(signal.SIGINT)

    def shrink(opt):
        for w in opt.params:
            for part in (w[:2], w[2:]):
                part *= f32(0.75)

    def made():
        return fastopt.Momentum([np.ones(5, f32), np.ones(3000, f32)], lr=lambda t: 0.1/t, threads=1)

    def gradient(p, batch):
        return float(p[0][0]), [p[0], p[1]*f32(0.5)]

    def save(opt):
        saved[:] = [(opt.t, state_of(opt))]
    fit(made(), gradient, None, 1)  # compiled: an interrupt within LLVM ends the program
    later = 0
    with storm(strike, KeyboardInterrupt) as arm:
        for k in range(3_000):
            if k >= 150 and later > 50:  # under load most are hit before their first step
                break
            opt, twin = made(), made()
            try:
                arm(1e-4 + rng.random()*3e-3)
                result = fit(opt, gradient, None, 100_000, validate=lambda p: float(p[0][0]), validate_every=3,
                             checkpoint=save,
                             checkpoint_every=4, after_step=shrink if after else None)
            except KeyboardInterrupt:  # before the first step
                assert opt.t == 0
                continue
            assert result.stopped == "interrupted"
            assert result.t.tolist() == [*range(1, opt.t + 1)]
            best = copies(twin)
            for _ in range(opt.t):
                assert result.value[twin.t] == twin.params[0][0]
                twin.step(gradient(twin.params, None)[1])
                if after:
                    shrink(twin)
                best = copies(twin) if twin.t == result.best else best
            assert saved[0][0] == opt.t
            for have, want in zip(saved[0][1], state_of(twin), strict=True):
                assert_identical(have, want)
            assert_parameters(opt, best if result.best else copies(twin))
            assert result.best == (result.validated[result.validation.argmin()] if len(result.validated) else None)
            later += opt.t > 3
    assert later > 50


def test_an_interrupt_while_the_best_is_copied(monkeypatch):
    """The copy is made when the training ends."""
    opt, strike, at = make(), struck(4), {}
    read = opt._machine.read
    monkeypatch.setattr(opt._machine, "read", lambda array, copy: strike() or read(array, copy))
    result = fit(opt, value_and_grad, None, 9, validate=lambda p: at.update({opt.t: copies(opt)}) or -opt.t,
                 validate_every=3)
    assert (result.stopped, result.best, opt.t) == ("interrupted", 6, 6)
    assert result.validation.tolist() == [-3, -6]
    assert_parameters(opt, at[6])


def test_a_second_interrupt_is_raised():
    """Where the checkpoint is being written: the parameters are those of the last step."""
    opt, twin = make(), make()
    with pytest.raises(KeyboardInterrupt):
        fit(opt, value_and_grad, None, 9, callback=struck(4), checkpoint=lambda o: raising(KeyboardInterrupt),
            validate=lambda p: opt.t,
            validate_every=1)
    assert opt.t == 4
    replay(twin, [None]*4)
    assert_equal(opt, twin)


@pytest.mark.parametrize("strikes", [1, 2])
def test_interrupts_while_the_best_is_restored(strikes, monkeypatch):
    """The first, after the last step, ends the training as any; the second is raised. Either way no array is left behind."""
    opt, at, saved = make(), {}, []
    put, calls = opt._machine.put, []

    def written(pairs):
        calls.append(0)
        if len(calls) <= strikes:  # behind all of them: of the first try (then comes all again), and of the second
            put(pairs)
            raise KeyboardInterrupt
        put(pairs)
    monkeypatch.setattr(opt._machine, "put", written)

    def run():
        return fit(opt, value_and_grad, None, 5, validate=lambda p: at.update({opt.t: copies(opt)}) or abs(opt.t - 2),
                   validate_every=1,
                   checkpoint=lambda o: saved.append((o.t, copies(o))))
    if strikes == 1:
        result = run()
        assert (result.stopped, result.steps, result.best) == ("interrupted", 5, 2)
    else:
        with pytest.raises(KeyboardInterrupt):
            run()
    assert_parameters(opt, at[2])
    assert [t for t, _ in saved] == [5]  # once, before the parameters were those of step 2
    assert_parameters(make(p={"W": saved[0][1][0], "b": [saved[0][1][1]]}), at[5])


# Errors

@pytest.mark.parametrize("bad", [NAN, INF, -INF, np.float32(NAN)])
@pytest.mark.parametrize("accumulate", [1, 3])
def test_a_value_that_is_not_finite(bad, accumulate):
    """The step is not taken, what it saw is not saved, and the best is not restored."""
    opt, twin, saved, calls = make(), make(), [], itertools.count()
    with pytest.raises(FloatingPointError, match=r"fit: the value of step 4 is (nan|-?inf), but a finite one is "
                                                 r"needed\. ") as raised:
        fit(opt, lambda p, b: (bad if next(calls) == 4*accumulate - 1 else 1.0, value_and_grad(p, b)[1]), None, 9,
            accumulate=accumulate,
            checkpoint=lambda o: saved.append(o.t), checkpoint_every=2, validate=lambda p: opt.t, validate_every=1)
    result = raised.value.result
    assert (opt.t, result.t.tolist(), result.stopped, result.best) == (3, [1, 2, 3], "error", 1)
    assert saved == [2]
    fit(twin, value_and_grad, None, 3, accumulate=accumulate)
    assert_equal(opt, twin)


def test_skipped_steps_are_recorded():
    opt, twin, saved = make(), make(), []

    def some(p, k):
        value, g = value_and_grad(p, k)
        return (NAN, {"W": g["W"]*f32(NAN), "b": g["b"]}) if k in (2, 3) else (value, g)
    result = fit(opt, some, [1, 2, 3, 4, 5], 5, skip_nonfinite=True, checkpoint=lambda o: saved.append(o.t),
                 checkpoint_every=1,
                 validate=lambda p: 1.0, validate_every=1, restore_best=False)
    values = replay(twin, [1, 4, 5], skip_nonfinite=True)
    assert result.t.tolist() == [1, 1, 1, 2, 3]
    np.testing.assert_array_equal(result.value, [values[0], NAN, NAN, *values[1:]])
    assert result.validated.tolist() == [1, 2, 3]
    assert saved == [1, 2, 3]
    assert_equal(opt, twin)


class Bare(Exception):
    """Refuses attributes."""

    def __setattr__(self, name, value):
        if name == "result":
            raise AttributeError(name)
        super().__setattr__(name, value)


def raising(error):
    raise error


GOOD = {"W": np.ones((4, 3), f32), "b": [np.ones(3, f32)]}


@pytest.mark.parametrize(("answer", "error", "message"), [
    (lambda: (1.0, None), TypeError, "fit: value_and_grad returned None for the gradients, but a tree like the "
                                     "parameters is needed."),
    (lambda: None, TypeError, "fit: value_and_grad returned a NoneType, but (value, gradients) is needed."),
    (lambda: (1.0, GOOD, 2), TypeError, "fit: value_and_grad returned a tuple, but (value, gradients) is needed."),
    (lambda: 1.0, TypeError, "fit: value_and_grad returned a float, but"),
    (lambda: (None, GOOD), TypeError, "fit: value_and_grad returned None, but one number is needed. Return "
                                      "float(value)."),
    (lambda: (np.ones((1, 2)), GOOD), TypeError, "fit: value_and_grad returned array([[1., 1.]]), but one number is "
                                                 "needed."),
    (lambda: (np.array([1j]), GOOD), TypeError, "fit: value_and_grad returned array([0.+1.j]), but one number is "
                                                "needed."),
    (lambda: (10**400, GOOD), FloatingPointError, "fit: the value of step 3 is inf, but a finite one is needed."),
    (lambda: (-10**5000, GOOD), FloatingPointError, "fit: the value of step 3 is -inf, but a finite one is needed."),
    (lambda: (np.ones(2), GOOD), TypeError, "fit: value_and_grad returned array([1., 1.]), but one number is needed."),
    (lambda: (1.0, {**GOOD, "W": np.ones((3, 4), f32)}), ValueError, "grads['W']: shape (3, 4), but params['W'] has "
                                                                     "(4, 3)."),
    (lambda: (1.0, {**GOOD, "b": [np.ones(1, f32)]}), ValueError, "grads['b'][0]: shape (1,), but params['b'][0] has "
                                                                  "(3,)."),
    (lambda: (1.0, {**GOOD, "b": [None]}), TypeError, "grads['b'][0]: a NoneType, but an array is needed"),
    (lambda: (1.0, {"W": GOOD["W"]}), ValueError, "grads: no ['b']"),
    (lambda: (1.0, {**GOOD, "W": np.ones((4, 3), int)}), TypeError, "grads['W']: dtype int64, but one of"),
    (lambda: raising(ZeroDivisionError("mine")), ZeroDivisionError, "mine"),
    (lambda: raising(StopIteration("mine")), StopIteration, "mine"),
    (lambda: raising(Bare("mine")), Bare, "mine"),
])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_wrong_answers(answer, error, message, accumulate):
    """As opt.step says them, with what was done so far; parameters are those of the steps before."""
    opt, twin, calls = make(), make(), itertools.count()
    with pytest.raises(error) as raised:
        fit(opt, lambda p, b: answer() if next(calls) == 3*accumulate - 1 else value_and_grad(p, b), None, 9,
            accumulate=accumulate)
    assert str(raised.value).startswith(message)
    if error is not Bare:
        assert (raised.value.result.t.tolist(), raised.value.result.stopped) == ([1, 2], "error")
    fit(twin, value_and_grad, None, 2, accumulate=accumulate)
    assert_equal(opt, twin)


@pytest.mark.parametrize("one", [np.array([0.5]), np.array([[0.5]], f32), np.array(0.5), f16(0.5),
                                 np.array(0.5, BFLOAT16)], ids=repr)
def test_arrays_of_one_element_are_numbers(one):
    result = fit(make(), lambda p, b: (one, GOOD), None, 2, accumulate=2, validate=lambda p: one, validate_every=1)
    assert result.value.tolist() == result.validation.tolist() == [0.5, 0.5]


@pytest.mark.parametrize(("found", "shown"), [(None, "None"), (5, "5"), (np.array(2.0), "array(2.)")])
def test_functions_that_return_no_batches(found, shown):
    with pytest.raises(TypeError) as raised:
        fit(make(), value_and_grad, lambda epoch: found if epoch else [1, 2], 5)
    assert str(raised.value) == (f"fit: batches(1) returned {shown}, but what can be iterated over is needed. Return a "
                                 f"list of batches, or "
                                 "a generator.")
    assert raised.value.result.steps == 2


def test_other_errors_have_the_result_too():
    for where in ("validate", "callback", "checkpoint"):
        opt = make()
        options = {"validate": lambda p: 1.0, "callback": lambda now: None, "checkpoint": lambda o: None}
        options[where] = lambda *_: raising(ZeroDivisionError)
        with pytest.raises(ZeroDivisionError) as raised:
            fit(opt, value_and_grad, None, 5, **options, validate_every=2, checkpoint_every=2)
        t = 1 if where == "callback" else 2
        assert raised.value.result.t.tolist() == [*range(1, t + 1)]
    with pytest.raises(TypeError, match=r"fit: validate returned None, but one number is needed\. Return "
                                        r"float\(value\)\.") as raised:
        fit(make(), value_and_grad, None, 5, validate=lambda p: None, validate_every=2)
    assert raised.value.result.steps == 2
    opt = make()
    opt.groups[0]["lr"] = lambda t: -1.0 if t == 3 else 0.1
    with pytest.raises(ValueError, match=r"at step 3: lr is -1\.0") as raised:
        fit(opt, value_and_grad, None, 5)
    assert (opt.t, raised.value.result.steps) == (2, 2)


def test_a_last_checkpoint_that_fails_still_leaves_the_best():
    opt, at = make(), {}
    with pytest.raises(OSError, match="full") as raised:
        fit(opt, value_and_grad, None, 5, checkpoint=lambda o: raising(OSError("full")), validate_every=1,
            validate=lambda p: at.update({opt.t: copies(opt)}) or abs(opt.t - 2))
    assert_parameters(opt, at[2])
    assert raised.value.result.best == 2


ARGUMENTS = [
    *(({"steps": x}, ValueError, f"fit: steps is {x!r}, but a whole number, 1 or more, is needed. Change") for x in (0,
                                                                                                                     -1,
                                                                                                                     True, 1.5)),
    ({"steps": "9"}, TypeError, "fit: steps is '9', but a whole number, 1 or more, is needed."),
    ({"steps": None}, ValueError, "fit: neither batches nor steps, but one of them is needed to know when to stop. "
                                  "Give steps."),
    *(({"accumulate": x}, ValueError, f"fit: accumulate is {x!r}, but a whole number, 1 or more, is needed.")
      for x in (0, True, 2.0)),
    ({"accumulate": None}, TypeError, "fit: accumulate is None, but a whole number, 1 or more, is needed."),
    ({"validate_every": 0, "validate": len}, ValueError, "fit: validate_every is 0, but a whole number, 1 or more,"),
    ({"patience": -1, "validate": len}, ValueError, "fit: patience is -1, but a whole number, 0 or more,"),
    ({"patience": 1.0, "validate": len}, ValueError, "fit: patience is 1.0, but a whole number, 0 or more,"),
    ({"patience": 3}, ValueError, "fit: patience is 3, but validate, without which it means nothing, is missing. Give "
                                  "validate."),
    ({"validate_every": 3}, ValueError, "fit: validate_every is 3, but validate, without which"),
    ({"checkpoint_every": 3}, ValueError, "fit: checkpoint_every is 3, but checkpoint, without which"),
    ({"checkpoint_every": 0, "checkpoint": print}, ValueError, "fit: checkpoint_every is 0, but a whole number, 1 or "
                                                               "more,"),
    ({"checkpoint": 5}, TypeError, "fit: checkpoint: 5, but the path of a file is needed. Give one."),
    ({"checkpoint": "/no/such/file"}, FileNotFoundError, "fit: checkpoint: /no/such/file: no such directory, but one "
                                                         "is needed"),
    ({"checkpoint": os.getcwd()}, ValueError, f"fit: checkpoint: {os.getcwd()} is no file"),
    ({"validate": len}, ValueError, "fit: validate with no batches, but it is called after each pass over the batches, "
                                    "and there are no"),
    ({"validate": len, "batches": iter([1])}, ValueError, "fit: validate with an iterator, but it is called after each "
                                                          "pass"),
    ({"validate": 5}, TypeError, "fit: validate is 5, but a function is needed. Change validate."),
    ({"callback": 5}, TypeError, "fit: callback is 5, but a function is needed."),
    ({"value_and_grad": None}, TypeError, "fit: value_and_grad is None, but a function is needed."),
    ({"opt": np.ones(3)}, TypeError, "fit: opt is a ndarray, but an optimizer is needed. Make one: "
                                     "fastopt.Adam(params)."),
    ({"batches": 5}, TypeError, "fit: batches is 5, but what can be iterated over, or a function, is needed. Give a "
                                "list of batches."),
    *(({"batches": x}, TypeError, f"fit: batches is {x!r}, but what can be iterated over") for x in (np.array(2.0),
                                                                                                     f64(2.0))),
    ({"after_step": 5}, TypeError, "fit: after_step is 5, but a function is needed. Change after_step."),
    ({"checkpoint": "new/"}, FileNotFoundError, "fit: checkpoint: new/: no such directory, but it ends as one."),
    ({"checkpoint": "x"*250}, OSError, f"[Errno {errno.ENAMETOOLONG}] fit: checkpoint: {os.getcwd()}/{'x'*250}: File "
                                       f"name too long. "),
    *(({"min_delta": x, "validate": len}, ValueError, f"fit: min_delta is {x!r}, but a finite number") for x in (-1.0,
                                                                                                                 NAN,
                                                                                                                 INF)),
    ({"min_delta": None}, TypeError, "fit: min_delta is None, but a finite number is needed."),
    ({"clip_norm": 0}, ValueError, "fit: clip_norm is 0, but a number above 0 is needed. Change clip_norm."),
    ({"clip_value": -1.0}, ValueError, "fit: clip_value is -1.0, but a number above 0 is needed."),
    ({"progress": 1.5}, ValueError, "fit: progress is 1.5, but one of False, True is needed."),
    ({"restore_best": None}, ValueError, "fit: restore_best is None, but one of False, True is needed."),
    ({"skip_nonfinite": "no"}, ValueError, "fit: skip_nonfinite is 'no', but one of False, True is needed."),
]


@pytest.mark.parametrize(("changes", "error", "message"), ARGUMENTS)
def test_arguments_are_checked_before_the_first_step(changes, error, message):
    opt, calls = make(), Seen()
    before = state_of(opt)
    with pytest.raises(error) as raised:
        fit(**{"opt": opt, "value_and_grad": calls, "batches": None, "steps": 3, **changes})
    assert str(raised.value).startswith(message)
    assert not hasattr(raised.value, "result")
    assert calls == []
    for a, b in zip(state_of(opt), before, strict=True):
        assert_identical(a, b)


# What is shown

def test_the_bar_is_on_stderr(capfd):
    fit(make(), value_and_grad, None, 3)
    assert capfd.readouterr() == ("", "")
    result = fit(make(), value_and_grad, [1, 2], 3, validate=lambda p: 0.1234567, progress=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert "3/3" in err
    assert f"value {result.value[-1]:.6g}" in err
    assert "validation 0.123457" in err
    fit(make(), value_and_grad, [1, 2], progress=True)
    assert "2/?" in capfd.readouterr().err


def test_the_bar_ends_with_an_error(capfd):
    with pytest.raises(ZeroDivisionError):
        fit(make(), value_and_grad, None, 5, progress=True, callback=lambda now: 1/(3 - now.t))
    assert "3/5" in capfd.readouterr().err
    fit(make(), value_and_grad, None, 2, progress=True)  # no other bar is in the way
    assert "2/2" in capfd.readouterr().err


@pytest.mark.parametrize(("module", "extra", "options"), [
    ("rich.progress", "progress", "progress=True"), ("rich", "progress", "progress=True"),
                                                          ("safetensors", "files", "checkpoint='c'")])
def test_the_extras_are_named(module, extra, options, tmp_path):
    code = f"""
import sys
sys.modules[{module!r}] = None
import numpy as np, fastopt
from fastopt._training.fit import fit
w = np.ones(3)
fit(fastopt.SGD(w), lambda p, b: (0.0, p), None, 1)
try:
    fit(fastopt.SGD(w), lambda p, b: print('called'), None, 1, {options})
except ImportError as error:
    print(error)
"""
    ran = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True,
                         cwd=tmp_path,
                         env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert ran.stdout.startswith("fit: progress: " if extra == "progress" else "fastopt.files: ")
    assert ran.stdout.endswith(f'Install it with: pip install "fastopt[{extra}]"\n')


def test_how_a_fit_prints():
    opt = make("sgd", lr=0.0)
    result = fit(opt, lambda p, b: (1/3, GOOD), [1, 2], 4, validate=lambda p: 2/3)
    assert repr(result) == "Fit(steps=4, stopped='steps', t=4, value=0.333333, best=2, best_value=0.666667)"
    with pytest.raises(BatchesEnded) as raised:
        fit(opt, value_and_grad, [], 4)
    assert repr(raised.value.result) == "Fit(steps=0, stopped='batches')"


# On a device

@pytest.mark.skipif(importlib.util.find_spec("numba_cuda") is None, reason="the extra `cuda` is not installed")
def test_on_a_device(stand_in, tmp_path):
    """The stand-in driver's: the bits of the CPU, the best restored, a checkpoint; sums of gradients are refused."""
    from devices import to_device, to_host

    def on_device(p, batch):
        value, g = value_and_grad(to_host(p), batch)
        return value, to_device(g)

    def run(opt, function, name):
        return fit(opt, function, [1, 2], 6, validate=lambda p: abs(opt.t - 2), checkpoint=tmp_path / name)
    here, there = make("momentum"), make("momentum", to_device(parameters()))
    results = run(here, value_and_grad, "here"), run(there, on_device, "there")
    assert results[0].value.tolist() == results[1].value.tolist()
    assert results[0].best == results[1].best == 2
    assert_parameters(here, [to_host(there.params["W"]), to_host(there.params["b"][0])])
    assert (tmp_path / "here").read_bytes() == (tmp_path / "there").read_bytes()
    with pytest.raises(ValueError, match="fit: accumulate is 2, but the parameters are on a CUDA device, where "
                                         "gradients are not"):
        fit(there, on_device, [1, 2], 1, accumulate=2)
