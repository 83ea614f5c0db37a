"""fit against loops of opt.step, bit for bit: batches, accumulation, validation, checkpoints, interruptions, errors."""
import errno
import importlib.util
import itertools
import math
import os
import random
import re
import signal
import sys
import threading
import time
from contextlib import nullcontext

import numpy as np
import pytest
from conftest import BFLOAT16, OPTIMIZERS, assert_identical, normal, stored, storm

import fastopt
from fastopt import files, proximal, schedules
from fastopt._training.fit import BatchesEnded, Fit, Now, fit

f16, f32, f64, u16 = np.float16, np.float32, np.float64, np.uint16
INF, NAN = math.inf, math.nan
GOOD = {"W": np.ones((4, 3), f32), "b": [np.ones(3, f32)]}  # gradients
main_thread = pytest.mark.skipif(threading.current_thread() is not threading.main_thread(),
                                 reason="signals come to the main thread")


def parameters():
    return {"W": normal(1, 4, 3).astype(f32), "b": [normal(2, 3).astype(f32)]}


def value_and_grad(p, batch):
    """|W - batch|^2/2 + |b - 2*batch|^2/2, for a batch that is a number, or None for 0."""
    batch = np.float32(batch or 0)
    W, b = p["W"] - batch, p["b"][0] - 2*batch
    return float((W*W).sum() + (b*b).sum())/2, {"W": W, "b": [b]}


def make(name="adam", p=None, **options):
    return OPTIMIZERS[name](parameters() if p is None else p, **{"lr": 0.05, **options})


def zeros():
    return {"W": np.zeros((4, 3), f32), "b": [np.zeros(3, f32)]}


def copies(tree):
    """Copies of the arrays of a tree, of an optimizer's parameters for example."""
    if isinstance(tree, fastopt.Optimizer):
        return copies(tree.params)
    if isinstance(tree, np.ndarray):
        return [tree.copy()]
    parts = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, (list, tuple)) else []
    return [a for part in parts for a in copies(part)]


def state_of(opt):
    return copies([opt.params, opt.state])


def assert_arrays(have, want):
    for a, b in zip(have, want, strict=True):
        assert_identical(a, b)


def assert_equal(opt, other):
    assert opt.t == other.t
    assert_arrays(state_of(opt), state_of(other))


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


def raising(error):
    raise error


# Steps

@pytest.mark.parametrize("name", ["sgd", "nesterov", "adam"])
def test_a_fit_is_a_loop_of_steps(name):
    rate = schedules.cosine(0.1, 9)
    opt, twin = make(name, lr=rate), make(name, lr=rate)
    replay(opt, [9, 8])
    replay(twin, [9, 8])
    batches, clip = [1, -2, 3], {"clip_norm": 2.0, "clip_value": 0.5}
    result = fit(opt, value_and_grad, batches, 7, **clip)
    values = replay(twin, (batches*3)[:7], **clip)
    assert_equal(opt, twin)
    assert opt.grad_norm > 2
    assert type(result) is Fit
    assert (result.t.tolist(), result.t.dtype) == ([3, 4, 5, 6, 7, 8, 9], np.int64)
    assert (result.value.tolist(), result.value.dtype) == (values, f64)
    assert (result.lr.tolist(), result.lr.dtype) == ([rate(t) for t in range(3, 10)], f64)
    assert (result.stopped, result.steps, result.best, result.best_value) == ("steps", 7, None, None)
    assert repr(result) == f"Fit(steps=7, stopped='steps', t=9, value={values[-1]:.6g})"
    assert (result.validated.tolist(), result.validation.tolist()) == ([], [])
    assert (result.validated.dtype, result.validation.dtype) == (np.int64, f64)


def test_groups_are_given_as_their_trees():
    def gradient(p, batch):
        (first, second), = [p]
        return 1.0, [{"w": 2*first["w"]}, batch*second]
    opt, twin = (fastopt.SGD([{"params": {"w": np.ones(3, f32)}, "lr": lambda t: 1/t},
                              {"params": np.ones(2, f32)}], lr=0.5) for _ in range(2))
    seen = []
    result = fit(opt, gradient, [1.0, 2.0], 3, validate=lambda p: seen.append(copies(p)) or 0.0, restore_best=False)
    for batch in (1.0, 2.0, 1.0):
        twin.step(gradient([g["params"] for g in twin.params], batch)[1])
    assert_equal(opt, twin)
    assert result.lr.tolist() == [1, 1/2, 1/3]
    assert [a.tolist() for a in seen[0]] == [[0, 0, 0], [0, 0]]


# Gradient accumulation

def test_accumulated_steps():
    """The bits of steps with the sum and the factor 1/k; for a power of two, those of steps with the mean gradient."""
    for name, k in itertools.product(("nesterov", "adam"), (2, 3, 4)):
        batches, (opt, twin, mean) = normal(3, 3*k).tolist(), (make(name) for _ in range(3))
        result = fit(opt, value_and_grad, batches, 3, accumulate=k)
        for group in zip(*[iter(batches)]*k, strict=True):
            for o, share in ((twin, 1), (mean, k)):
                found = [value_and_grad(o.lookahead() if o.rule.ahead else o.params, batch) for batch in group]
                W, b = (sum(parts[1:], start=parts[0])/f32(share)
                        for parts in zip(*(copies(g) for _, g in found), strict=True))
                assert o is mean or result.value[o.t] == sum(value for value, _ in found)/k
                o.step({"W": W, "b": [b]}, grad_factor=share/k)
        assert_equal(opt, twin)
        assert (result.t.tolist(), result.steps) == ([1, 2, 3], 3)
        if k != 3:
            assert_equal(opt, mean)
        for a, b in zip(state_of(opt), state_of(mean), strict=True):
            np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-7)


@pytest.mark.parametrize(("format", "kind"), [("f32", "f64"), ("bf16", "bf16"), ("f64", "f32")])
def test_sums_are_exact_enough_for_any_format(format, kind):
    """1 + 2^-11 is lost in a sum of 16 bits. SGD with lr = 1 and k = 2 from 0 shows the mean: (1 + 2^-11)/2."""
    small = 2.0**-11
    w = np.zeros((2, 3), {"f64": f64, "f32": f32, "bf16": u16}[format], order="F")
    fit(fastopt.SGD({"w": w, "none": np.zeros(0, f32), "one": np.zeros(())}, lr=1.0),
        lambda p, x: (0.0, {"w": stored(np.full((2, 3), x), kind), "none": np.zeros(0, f32), "one": np.array(x)}),
        [-1.0, -small], 1, accumulate=2)
    assert_identical(w, np.asfortranarray(stored(np.full((2, 3), (1 + small)/2), format)))


def test_sums_pass_infinities_on():
    w, made = np.ones(3, f32), [np.array([sign*INF, 3e38, 1], f32) for sign in (1, -1)]
    opt = fastopt.SGD(w, lr=1.0)
    fit(opt, lambda p, k: (0.0, made[k]), [0, 1], 1, accumulate=2)
    np.testing.assert_array_equal(w, [NAN, -INF, 0])
    result = fit(opt, lambda p, k: (0.0, made[k]), [0, 1], 2, accumulate=2, skip_nonfinite=True)
    np.testing.assert_array_equal(w, [NAN, -INF, 0])
    assert (result.t.tolist(), opt.t) == ([1, 1], 1)


def test_sums_are_apart_from_the_callers_arrays():
    """Gradients that are written into the same arrays each time, opt.grads for example."""
    opt, twin = make("sgd"), make("sgd")

    def into(p, batch):
        value, g = value_and_grad(p, batch)
        opt.grads["W"][...], opt.grads["b"][0][...] = g["W"], g["b"][0]
        return value, opt.grads
    for o, function in ((opt, into), (twin, value_and_grad)):
        fit(o, function, [1, 2, 3], 3, accumulate=3)
    assert_equal(opt, twin)


# Batches

class Sequence:
    """What could be iterated over before there were iterators."""

    def __getitem__(self, k):
        return k if k < 2 else raising(IndexError)


@pytest.mark.parametrize(("batches", "steps", "accumulate", "want"), [
    ([1, 2, 3], 3, 2, [1, 2, 3, 1, 2, 3]), ((1, 2, 3), None, 1, [1, 2, 3]), (iter(range(4)), None, 1, [0, 1, 2, 3]),
    (lambda epoch: iter([10*epoch, 10*epoch + 1]), 5, 1, [0, 1, 10, 11, 20]),
    (lambda epoch: [epoch, 1], None, 1, [0, 1]), (np.array([1, 2]), 3, 1, [1, 2, 1]), (Sequence(), 3, 1, [0, 1, 0])])
def test_batches(batches, steps, accumulate, want):
    seen = Seen()
    assert fit(make(), seen, batches, steps, accumulate=accumulate).stopped == ("steps" if steps else "batches")
    assert seen == want


def test_a_generator_gives_no_batch_too_many():
    numbers, seen = iter(range(100)), Seen()
    fit(make(), seen, numbers, 3, accumulate=2, validate=lambda p: 1.0, validate_every=1, patience=9)
    assert seen == [0, 1, 2, 3, 4, 5]
    assert next(numbers) == 6


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


@pytest.mark.parametrize(("batches", "steps", "accumulate", "taken", "message"), [
    (lambda: iter([1, 2, 3]), 5, 1, 3, "3 of 5 steps, but"),
    (lambda: iter([1, 2, 3]), 5, 2, 1, "1 of 5 steps, and 1 of the 2 for the next, but"),
    (lambda: [1, 2, 3], None, 2, 1, "1 step, and 1 of the 2 for the next, but"),
    (lambda: [], None, 1, 0, "0 steps, but"), (lambda: [], 3, 1, 0, "0 of 3 steps, but"),
    (lambda: lambda epoch: [5]*(2 - epoch), 9, 1, 3, "3 of 9 steps, but")])
def test_batches_that_end(batches, steps, accumulate, taken, message):
    opt, saved = make(), []
    with pytest.raises(BatchesEnded, match=re.escape("fit: the batches ended after " + message)) as raised:
        fit(opt, value_and_grad, batches(), steps, accumulate=accumulate, checkpoint=lambda o: saved.append(o.t))
    result = raised.value.result
    assert isinstance(raised.value, ValueError)
    assert (result.steps, result.stopped, result.t.tolist()) == (taken, "batches", [*range(1, taken + 1)])
    assert (saved, opt.t) == ([taken], taken)


# Early stopping

SEQUENCES = [  # validations, patience, min_delta; after which one it stops (0: never), which is the best
    ([5, 4, 3, 2, 1, 0], 1, 0.0, 0, 6), ([5, 4, 4, 3, 2, 1], 0, 0.0, 3, 2), ([5, 4, 4, 3, 2, 1], 1, 0.0, 3, 2),
    ([5, 4, 6, 3, 4, 3], 2, 0.0, 6, 4), ([5, 4, 6, 3, 4, 2], 2, 0.0, 0, 6), ([5, 6, 6, 4, 5, 5, 5, 1], 3, 0.0, 7, 4),
    ([5, 4.5, 4.2, 4.1, 1], 3, 0.5, 4, 4),    # 4.5 is not below 5 - 0.5
    ([5, 4.25, 4, 3.25], 1, 0.5, 3, 3),       # better, but not by more than enough: it stops, and that is the best
    ([NAN, NAN, NAN, 1], 3, 0.0, 3, None), ([NAN, 5, NAN, NAN, 1], 2, 0.0, 4, 2), ([INF, INF, 1], 2, 0.0, 2, None),
    ([1, 2, 3], None, 0.0, 0, 1), ([-1, -2, -INF, -INF], 1, 0.0, 4, 3)]


@pytest.mark.parametrize("restore", [True, False])
def test_early_stopping(restore):
    """Two steps to each pass and validation."""
    for values, patience, min_delta, stop, best in SEQUENCES:
        opt, twin, script, at = make(lr=0.3), make(lr=0.3), iter(values), {}

        def validate(p, opt=opt, script=script, at=at):
            at[opt.t] = copies(opt)
            return next(script)
        result = fit(opt, value_and_grad, [1, 2], 2*len(values), validate=validate, patience=patience,
                     min_delta=min_delta, restore_best=restore)
        count = stop or len(values)
        assert (result.stopped, opt.t, result.steps) == ("patience" if stop else "steps", 2*count, 2*count)
        assert result.validated.tolist() == [2*k for k in range(1, count + 1)]
        np.testing.assert_array_equal(result.validation, values[:count])
        assert (result.best, result.best_value) == ((2*best, values[best - 1]) if best else (None, None))
        replay(twin, [1, 2]*count)
        assert_arrays(copies(opt.state), copies(twin.state))
        assert_arrays(copies(opt), at[2*best] if restore and best else copies(twin))


@pytest.mark.parametrize(("batches", "steps", "t", "options", "want"), [
    ([1, 2, 3], 8, 0, {}, [3, 6]), ([1, 2, 3], None, 0, {}, [3]),
    (lambda epoch: iter([1]*(epoch + 1)), 7, 0, {}, [1, 3, 6]),
    ([1, 2, 3, 4, 5], 5, 0, {"accumulate": 2}, [3, 5]),    # the passes end after 2.5 and 5 steps
    ([1, 2], 3, 0, {"accumulate": 3}, [1, 2, 3]),          # after 2/3, 4/3, 2, 8/3, ...
    ([1, 2, 3], 8, 0, {"validate_every": 4}, [4, 8]), (iter([1, 2, 3]), 3, 0, {"validate_every": 2}, [2]),
    (None, 8, 6, {"validate_every": 5}, [10])])            # where a run that was not stopped would have
def test_when_it_validates(batches, steps, t, options, want):
    opt = make()
    opt.t = t
    assert fit(opt, value_and_grad, batches, steps, validate=lambda p: 0.0, **options).validated.tolist() == want


def test_it_validates_the_stored_parameters():
    p, seen = np.ones(3, f32), []
    fit(fastopt.Nesterov(p, lr=0.1), lambda w, b: (0.0, w), None, 3, validate=lambda w: seen.append(w is p) or 0.0,
        validate_every=1)
    assert seen == [True]*3


def test_it_validates_the_point_to_evaluate():
    """And the best is that point: parameters and state are those that gave it, a schedule that ended since or not."""
    p, seen = np.ones(3), []
    opt = fastopt.SGD(p, lr=lambda t: 0.3*t, schedule_free=True)
    result = fit(opt, lambda w, b: (0.0, w), None, 5, validate=lambda x: seen.append(x.copy()) or abs(opt.t - 3),
                 validate_every=1, callback=lambda now: opt.groups[0].update(lr=0.3*5) if opt.t == 4 else None)
    other = np.ones(3)
    twin = fastopt.SGD(other, lr=lambda t: 0.3*t, schedule_free=True)
    for t in range(5):
        twin.step(other.copy())
        assert_identical(seen[t], twin.evaluation_point())
        if t == 2:
            best = other.copy()
    assert not np.array_equal(best, seen[2])
    assert (result.best, opt.t) == (3, 3)
    assert_identical(p, best)
    assert_identical(opt.evaluation_point(), seen[2])


def test_plateaus_are_fed():
    losses = [3.0, 3.0, NAN, 3.0, 1.0, 2.0]
    first, second, inner = (schedules.ReduceOnPlateau(lr, patience=1, factor=0.5) for lr in (0.5, 0.25, 1.0))
    opt = fastopt.SGD([{"params": np.ones(2, f32), "lr": first, "weight_decay": second},
                       {"params": np.ones(2, f32), "lr": first},
                       {"params": np.ones(2, f32), "lr": schedules.warmup(2, inner)}])
    script = iter(losses)
    result = fit(opt, lambda p, b: (1.0, p), None, 12, validate=lambda p: next(script), validate_every=2)
    alone, rates = schedules.ReduceOnPlateau(0.5, patience=1, factor=0.5), []
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


@pytest.mark.parametrize(("answer", "stops"),
                         [(lambda: True, True), (lambda: np.True_, True), (lambda: raising(StopIteration), True),
                          (lambda: False, False), (lambda: "yes", False), (lambda: np.ones(2), False)])
def test_the_callback_stops(answer, stops):
    opt, saved = make(), []
    result = fit(opt, value_and_grad, None, 5, callback=lambda now: answer() if now.t == 2 else None,
                 checkpoint=lambda o: saved.append(o.t))
    assert (result.stopped, result.steps, opt.t) == (("callback", 2, 2) if stops else ("steps", 5, 5))
    assert saved == [opt.t]


# After each step

def well(p, batch):
    """(w - 1)^2."""
    return float(((p - 1)**2).sum()), 2*(p - 1)


def shrink(opt):
    proximal.soft_threshold(opt.params, 0.03)


@pytest.mark.usefixtures("python_handler")
@main_thread
@pytest.mark.parametrize("stop", ["steps", "callback", "interrupted", "signal"])
def test_what_comes_after_a_step_is_part_of_it(stop, tmp_path):
    """Validation, callback and checkpoint see it. A run that goes on from there equals one that never stopped."""
    def made():
        return fastopt.Momentum(np.array([-1, 0.25, 2]), lr=0.05)

    def after(o):
        if stop == "signal" and o.t == 6:
            os.kill(os.getpid(), signal.SIGINT)
        shrink(o)

    def callback(now):
        told.append(opt.params.copy())
        if now.t == 6 and stop == "interrupted":
            raise KeyboardInterrupt
        return now.t == 6 and stop == "callback"
    alone, want = made(), []
    for _ in range(12):
        alone.step(well(alone.params, None)[1])
        shrink(alone)
        want.append(alone.params.copy())
    for every in (None, 3, 4):
        opt, again, validated, told = made(), made(), [], []
        result = fit(opt, well, None, 6 if stop == "steps" else 12, after_step=after, callback=callback,
                     validate=lambda p, seen=validated: seen.append(p.copy()) or 1.0, validate_every=1,
                     restore_best=False, checkpoint=tmp_path / "c", checkpoint_every=every)
        assert (result.stopped, result.steps) == ("interrupted" if stop == "signal" else stop, 6)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        for seen in (validated, told):
            assert len(seen) == (5 if stop == "signal" else 6)
            np.testing.assert_array_equal(seen, want[:len(seen)])
        files.load(tmp_path / "c", again)
        assert_identical(again.params, want[5])
        fit(again, well, None, 6, after_step=shrink)
        assert_identical(again.params, want[11])


@pytest.mark.parametrize("error", [ZeroDivisionError, StopIteration, KeyboardInterrupt])
def test_an_error_after_a_step(error):
    """The step is taken and in the history; it is not whole, so nothing is saved."""
    opt, twin, saved = make(), make(), []
    with pytest.raises(error) as raised:
        fit(opt, value_and_grad, None, 5, after_step=lambda o: raising(error) if o.t == 3 else None,
            checkpoint=lambda o: saved.append(o.t), checkpoint_every=2, validate=lambda p: opt.t, validate_every=1)
    values = replay(twin, [None]*3)
    assert_equal(opt, twin)
    result = raised.value.result
    assert (result.t.tolist(), result.value.tolist(), result.stopped) == ([1, 2, 3], values, "error")
    assert (result.validated.tolist(), saved) == ([1, 2], [2])


@pytest.mark.usefixtures("python_handler")
@main_thread
def test_a_second_ctrl_c_does_not_wait_for_what_comes_after_a_step():
    """The handler is the user's, before and afterwards."""
    def press(o):
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("It has waited.")

    def handler(number, frame):
        raise KeyboardInterrupt("mine")
    signal.signal(signal.SIGINT, handler)
    with pytest.raises(KeyboardInterrupt, match="mine"):
        fit(make(), value_and_grad, None, 5, after_step=press)
    assert signal.getsignal(signal.SIGINT) is handler


def test_after_a_step_where_there_are_no_signals():
    opt, seen = make(), []
    thread = threading.Thread(target=lambda: fit(opt, value_and_grad, None, 2, after_step=lambda o: seen.append(o.t)))
    thread.start()
    thread.join()
    assert seen == [1, 2]


# Checkpoints

def test_when_it_saves(tmp_path):
    opt, saved = make(), []
    fit(opt, value_and_grad, None, 7, checkpoint=lambda o: saved.append((o is opt, o.t)), checkpoint_every=3)
    assert saved == [(True, 3), (True, 6), (True, 7)]
    saved.clear()
    fit(opt, value_and_grad, None, 5, checkpoint=lambda o: saved.append(o.t), checkpoint_every=4)
    assert saved == [8, 12]  # the last of them is the end
    path, found = tmp_path / "c.safetensors", []

    def look(now):
        other = make(p=zeros())
        if path.exists():
            files.load(path, other)
        found.append(other.t)
    fit(make(), value_and_grad, None, 5, checkpoint=str(path), checkpoint_every=2, callback=look)
    assert found == [0, 2, 2, 4, 4]


def test_a_path_is_tried_without_a_trace_and_stays_where_it_was(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    found = []
    fit(make(), lambda p, b: found.append(os.listdir(tmp_path)) or value_and_grad(p, b), None, 2, checkpoint="c",
        callback=lambda now: os.chdir("elsewhere") if now.t == 1 else None)
    assert found == [["elsewhere"]]*2
    assert sorted(os.listdir(tmp_path)) == ["c", "elsewhere"]
    assert os.listdir(tmp_path / "elsewhere") == []


@pytest.mark.parametrize("end", ["steps", "batches", "full"])
def test_a_checkpoint_holds_the_last_step_and_memory_the_best(end, tmp_path):
    """Whatever the end: all steps, batches that end early, a checkpoint that cannot be written."""
    opt, at, path = make(), {}, tmp_path / "c"

    def save(o):
        files.save(path, o)
        if end == "full":
            raise OSError(end)
    ends = {"steps": nullcontext, "batches": lambda: pytest.raises(BatchesEnded),
            "full": lambda: pytest.raises(OSError, match=end)}
    with ends[end]() as raised:
        result = fit(opt, value_and_grad, iter(range(5)), 9 if end == "batches" else 5, checkpoint=save,
                     validate=lambda p: abs(opt.t - 2), validate_every=1,
                     callback=lambda now: at.update({now.t: copies(opt)}))
    result = result if raised is None else raised.value.result
    assert (result.best, opt.t) == (2, 5)
    assert repr(result).endswith(f"t=5, value={result.value[-1]:.6g}, best=2, best_value=0)")
    assert_arrays(copies(opt), at[2])
    files.load(path, opt)
    assert_arrays(copies(opt), at[5])


# Ctrl-C

def struck(at):
    """A function that raises KeyboardInterrupt when it is called for the `at`-th time."""
    calls = itertools.count(1)

    def strike(*_):
        if next(calls) == at:
            raise KeyboardInterrupt
    return strike


@pytest.mark.parametrize(("where", "at", "t"),
                         [("gradient", 1, 0), ("gradient", 5, 4), ("validate", 2, 4), ("callback", 1, 1),
                          ("callback", 5, 5), ("save", 1, 3), ("save", 2, 6), ("save", 3, 8), ("batch", 4, 3),
                          ("rate", 3, 1), ("rate", 4, 1)])  # of step 2: for the history, and within opt.step
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
                 (strikes["batch"](b) or b for b in batches), 8, checkpoint=save, checkpoint_every=3, validate_every=2,
                 callback=strikes["callback"], validate=lambda p: strikes["validate"](p) or 1.0, restore_best=False)
    assert (result.stopped, opt.t) == ("interrupted", t)
    twin = make(lr=lambda step: 0.1/step)
    values = replay(twin, batches[:t])
    assert_equal(opt, twin)
    assert (result.t.tolist(), result.value.tolist(), result.steps) == ([*range(1, t + 1)], values, t)
    loaded = make(p=zeros(), lr=twin.groups[0]["lr"])
    files.load(path, loaded)
    assert_equal(loaded, twin)


@pytest.mark.usefixtures("python_handler")
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no interval timers")
@pytest.mark.parametrize("after", [False, True], ids=["", "after_step"])
def test_interrupts_at_any_moment(after):
    """Each fit is hit once at random. Memory holds the best of whole steps, the history all, checkpoints the last."""
    rng, saved, later = random.Random(1), [], 0

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

    def run(opt, steps):
        return fit(opt, gradient, None, steps, validate=lambda p: float(p[0][0]), validate_every=3,
                   checkpoint=lambda o: saved.append((o.t, state_of(o))), checkpoint_every=4,
                   after_step=shrink if after else None)

    def took():
        began = time.perf_counter()
        run(made(), 20)
        return time.perf_counter() - began
    run(made(), 1)  # compiled: an interrupt within LLVM ends the program
    within = min(took() for _ in range(9))  # so that most come after some steps, on any machine
    with storm(strike, KeyboardInterrupt) as arm:
        for k in range(3_000):
            if k >= 150 and later > 50:  # under load most are hit before their first step
                break
            opt, twin = made(), made()
            try:
                arm(1e-4 + rng.random()*within)
                result = run(opt, 100_000)
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
            assert saved[-1][0] == opt.t
            assert_arrays(saved[-1][1], state_of(twin))
            assert_arrays(copies(opt), best if result.best else copies(twin))
            assert result.best == (result.validated[result.validation.argmin()] if len(result.validated) else None)
            later += opt.t > 3
    assert later > 50


def test_a_second_interrupt_is_raised():
    """Where the checkpoint is being written: the parameters are those of the last step."""
    opt, twin = make(), make()
    with pytest.raises(KeyboardInterrupt):
        fit(opt, value_and_grad, None, 9, callback=struck(4), checkpoint=lambda o: raising(KeyboardInterrupt),
            validate=lambda p: opt.t, validate_every=1)
    replay(twin, [None]*4)
    assert_equal(opt, twin)


@pytest.mark.parametrize("strikes", [1, 2])
def test_interrupts_while_the_best_is_restored(strikes, monkeypatch):
    """The first, after the last step, ends the training as any; a second is raised. No array is left behind."""
    opt, at, saved, left, restore = make(), {}, [], [KeyboardInterrupt]*strikes, fastopt.Optimizer.restore

    def restored(*arguments):
        restore(*arguments)
        if left:
            raise left.pop()
    monkeypatch.setattr(fastopt.Optimizer, "restore", restored)
    with pytest.raises(KeyboardInterrupt) if strikes == 2 else nullcontext():
        result = fit(opt, value_and_grad, None, 5, validate=lambda p: at.update({opt.t: copies(opt)}) or abs(opt.t - 2),
                     validate_every=1, checkpoint=lambda o: saved.append((o.t, copies(o))))
        assert (result.stopped, result.steps, result.best) == ("interrupted", 5, 2)
    assert_arrays(copies(opt), at[2])
    assert [t for t, _ in saved] == [5]  # once, before the parameters were those of step 2
    assert_arrays(saved[0][1], at[5])


# Errors

@pytest.mark.parametrize("bad", [NAN, INF, -INF, np.float32(NAN)])
def test_a_value_that_is_not_finite(bad):
    """The step is not taken, what it saw is not saved, and the best is not restored."""
    message = r"fit: the value of step 4 is (nan|-?inf), but a finite one is needed\. "
    for accumulate in (1, 3):
        opt, twin, saved, calls = make(), make(), [], itertools.count()
        with pytest.raises(FloatingPointError, match=message) as raised:
            fit(opt, lambda p, b, k=accumulate, n=calls: (bad if next(n) == 4*k - 1 else 1.0, value_and_grad(p, b)[1]),
                None, 9, accumulate=accumulate, checkpoint=lambda o, saved=saved: saved.append(o.t), checkpoint_every=2,
                validate=lambda p, opt=opt: opt.t, validate_every=1)
        result = raised.value.result
        assert (opt.t, result.t.tolist(), result.stopped, result.best) == (3, [1, 2, 3], "error", 1)
        assert saved == [2]
        fit(twin, value_and_grad, None, 3, accumulate=accumulate)
        assert_equal(opt, twin)


def test_skipped_steps_are_recorded():
    opt, twin, saved, after = make(), make(), [], []

    def some(p, k):
        value, g = value_and_grad(p, k)
        return (NAN, {"W": g["W"]*f32(NAN), "b": g["b"]}) if k in (2, 3) else (value, g)
    result = fit(opt, some, [1, 2, 3, 4, 5], 5, skip_nonfinite=True, checkpoint=lambda o: saved.append(o.t),
                 checkpoint_every=1, validate=lambda p: 1.0, validate_every=1, restore_best=False,
                 after_step=lambda o: after.append(o.t) or True)
    values = replay(twin, [1, 4, 5], skip_nonfinite=True)
    assert result.t.tolist() == [1, 1, 1, 2, 3]
    np.testing.assert_array_equal(result.value, [values[0], NAN, NAN, *values[1:]])
    assert result.validated.tolist() == saved == after == [1, 2, 3]
    assert_equal(opt, twin)


class Bare(Exception):
    """Refuses attributes."""

    def __setattr__(self, name, value):
        if name == "result":
            raise AttributeError(name)
        super().__setattr__(name, value)


@pytest.mark.parametrize(("answer", "error", "message"), [
    (lambda: (1.0, None), TypeError, "fit: value_and_grad returned None for the gradients, but a tree like the param"),
    (lambda: None, TypeError, "fit: value_and_grad returned a NoneType, but (value, gradients) is needed."),
    (lambda: (1.0, GOOD, 2), TypeError, "fit: value_and_grad returned a tuple, but (value, gradients) is needed."),
    (lambda: (None, GOOD), TypeError, "fit: value_and_grad returned None, but one number is needed. Return float("),
    (lambda: (np.array([1j]), GOOD), TypeError, "fit: value_and_grad returned array([0.+1.j]), but one number is"),
    (lambda: (np.ones((1, 2)), GOOD), TypeError, "fit: value_and_grad returned array([[1., 1.]]), but one number is"),
    (lambda: (10**400, GOOD), FloatingPointError, "fit: the value of step 3 is inf, but a finite one is needed."),
    (lambda: (-10**5000, GOOD), FloatingPointError, "fit: the value of step 3 is -inf, but a finite one is needed."),
    (lambda: (1.0, {**GOOD, "W": np.ones((3, 4), f32)}), ValueError, "grads['W']: shape (3, 4), but params['W'] has"),
    (lambda: (1.0, {"W": GOOD["W"]}), ValueError, "grads: no ['b']"),
    (lambda: raising(StopIteration("mine")), StopIteration, "mine"), (lambda: raising(Bare("mine")), Bare, "mine")])
def test_wrong_answers(answer, error, message):
    """As opt.step says them, with what was done so far; parameters are those of the steps before."""
    for accumulate in (1, 2):
        opt, twin, calls = make(), make(), itertools.count()
        with pytest.raises(error) as raised:
            fit(opt, lambda p, b, k=accumulate, n=calls: answer() if next(n) == 3*k - 1 else value_and_grad(p, b), None,
                9, accumulate=accumulate)
        assert str(raised.value).startswith(message)
        if error is not Bare:
            assert (raised.value.result.t.tolist(), raised.value.result.stopped) == ([1, 2], "error")
        fit(twin, value_and_grad, None, 2, accumulate=accumulate)
        assert_equal(opt, twin)


def test_arrays_of_one_element_are_numbers():
    for one in (np.array([0.5]), np.array([[0.5]], f32), np.array(0.5), f16(0.5), np.array(0.5, BFLOAT16)):
        result = fit(make(), lambda p, b, x=one: (x, GOOD), None, 2, accumulate=2, validate=lambda p, x=one: x,
                     validate_every=1)
        assert result.value.tolist() == result.validation.tolist() == [0.5, 0.5]


@pytest.mark.parametrize(("options", "error", "message", "t"), [
    ({"validate": lambda p: raising(ZeroDivisionError)}, ZeroDivisionError, "", 2),
    ({"callback": lambda now: raising(ZeroDivisionError)}, ZeroDivisionError, "", 1),
    ({"checkpoint": lambda o: raising(ZeroDivisionError)}, ZeroDivisionError, "", 2),
    ({"validate": lambda p: None}, TypeError, "fit: validate returned None, but one number is needed. Ret", 2),
    *(({"batches": lambda epoch, x=found: x if epoch else [1, 2]}, TypeError, f"fit: batches(1) returned {found!r}, "
       "but what can be iterated over is needed. Return a list", 2) for found in (None, 5, np.array(2.0))),
    ({"lr": lambda t: -1.0 if t == 3 else 0.1}, ValueError, "Adam at step 3: lr is -1.0", 2)])
def test_other_errors_have_the_result_too(options, error, message, t):
    opt = make(lr=options.pop("lr", 0.1))
    with pytest.raises(error) as raised:
        fit(opt, value_and_grad, **{"batches": None, "steps": 5, "validate": lambda p: 1.0, "validate_every": 2,
                                    "checkpoint": lambda o: None, "checkpoint_every": 2, **options})
    assert str(raised.value).startswith(message)
    assert (opt.t, raised.value.result.t.tolist()) == (t, [*range(1, t + 1)])


WHOLE = {"steps": 1, "accumulate": 1, "validate_every": 1, "patience": 0, "checkpoint_every": 1}
ARGUMENTS = [  # beside validate and checkpoint; the error and what is said
    *(({name: x}, error, f"{name} is {x!r}, but a whole number, {least} or more, is needed. Change {name}.")
      for name, least in WHOLE.items() for x, error in ((least - 1, ValueError), ("9", TypeError))),
    ({"accumulate": None}, TypeError, "accumulate is None, but a whole number, 1 or more, is needed."),
    *(({name: 3, other: None}, ValueError, f"{name} is 3, but {other}, without which it means nothing, is missing")
      for other, names in (("validate", ("patience", "validate_every")), ("checkpoint", ("checkpoint_every",)))
      for name in names),
    *(({name: 5}, TypeError, f"{name} is 5, but a function is needed. Change {name}.")
      for name in ("value_and_grad", "validate", "callback", "after_step")),
    *(({name: x}, ValueError, f"{name} is {x!r}, but one of False, True is needed.")
      for name, x in {"progress": 1.5, "restore_best": None, "skip_nonfinite": "no"}.items()),
    *(({"min_delta": x}, ValueError, f"min_delta is {x!r}, but a finite number, 0 or more,") for x in (-1.0, INF)),
    *(({name: 0}, ValueError, f"{name} is 0, but a number above 0 is needed.") for name in ("clip_norm", "clip_value")),
    ({"min_delta": None}, TypeError, "min_delta is None, but a finite number, 0 or more, is needed."),
    ({"steps": None}, ValueError, "neither batches nor steps, but one of them is needed to know when to stop. Give"),
    ({"checkpoint": 5}, TypeError, "checkpoint: 5, but the path of a file is needed. Give one."),
    ({"checkpoint": "/no/such/file"}, FileNotFoundError, "checkpoint: /no/such/file: no such directory, but one is"),
    ({"checkpoint": "x"*250}, OSError, f"checkpoint: {os.getcwd()}/{'x'*250}: File name too long. "),
    ({"validate_every": None}, ValueError, "validate with no batches, but it is called after each pass over the"),
    ({"validate_every": None, "batches": iter([1])}, ValueError, "validate with an iterator, but it is called after"),
    ({"opt": np.ones(3)}, TypeError, "opt is a ndarray, but an optimizer is needed. Make one: fastopt.Adam(params)."),
    *(({"batches": x}, TypeError, f"batches is {x!r}, but what can be iterated over, or a function, is needed. Give a")
      for x in (5, np.array(2.0)))]


def test_arguments_are_checked_before_the_first_step():
    for changes, error, message in ARGUMENTS:
        opt, calls = make(), Seen()
        before = state_of(opt)
        with pytest.raises(error) as raised:
            fit(**{"opt": opt, "value_and_grad": calls, "batches": None, "steps": 3, "checkpoint": print,
                   "validate": len, "validate_every": None if "validate" in changes else 1, **changes})
        found = str(raised.value).removeprefix(f"[Errno {errno.ENAMETOOLONG}] ")
        assert found.startswith(f"fit: {message}"), found
        assert not hasattr(raised.value, "result")
        assert calls == []
        assert_arrays(state_of(opt), before)


# What is shown

def test_the_bar_is_on_stderr(capfd):
    fit(make(), value_and_grad, None, 3)
    assert capfd.readouterr() == ("", "")
    result = fit(make(), value_and_grad, [1, 2], 3, validate=lambda p: 0.1234567, progress=True)
    out, err = capfd.readouterr()
    assert out == ""
    for part in ("3/3", f"value {result.value[-1]:.6g}", "validation 0.123457"):
        assert part in err
    with pytest.raises(ZeroDivisionError):
        fit(make(), value_and_grad, None, 5, progress=True, callback=lambda now: 1/(3 - now.t))
    assert "3/5" in capfd.readouterr().err
    fit(make(), value_and_grad, [1, 2], progress=True)  # no other bar is in the way
    assert "2/?" in capfd.readouterr().err


@pytest.mark.parametrize(("module", "where", "extra", "call"), [
    ("rich.progress", "fit: progress", "progress", lambda: fit(make(), value_and_grad, None, 1, progress=True)),
    ("safetensors", "fastopt.files", "files", lambda: fit(make(), value_and_grad, None, 1, checkpoint="c")),
    ("rich.progress", "fastopt.scipy", "progress", lambda: fastopt.scipy.method(progress=True)),
    ("scipy.optimize", "fastopt.scipy", "scipy", lambda: fastopt.scipy),
    ("scipy.differentiate", "fastopt.curvature", "scipy", lambda: fastopt.curvature),
    ("sklearn.base", "fastopt.sklearn", "sklearn", lambda: fastopt.sklearn),
    ("torch", "fastopt.torch", "torch", lambda: fastopt.torch)])
def test_an_extra_that_is_missing_is_named(module, where, extra, call, monkeypatch):
    """Without it, the rest of fastopt works."""
    pytest.importorskip(module)
    for name in [name for name in sys.modules if re.match(r"fastopt\.(curvature|files|scipy|sklearn|torch)", name)]:
        monkeypatch.delitem(sys.modules, name)
    for name in ("curvature", "files", "scipy", "sklearn", "torch"):
        monkeypatch.delattr(fastopt, name, raising=False)
    monkeypatch.setitem(sys.modules, module, None)
    if extra == "progress":
        assert fastopt.scipy.method().progress is False
    assert fit(make(), value_and_grad, None, 1).steps == 1
    with pytest.raises(ImportError) as raised:
        call()
    assert str(raised.value).startswith(f"{where}: ")
    assert str(raised.value).endswith(f'Install it with: pip install "fastopt[{extra}]"')
    assert raised.value.__suppress_context__


# On a device

@pytest.mark.skipif(importlib.util.find_spec("numba_cuda") is None, reason="the extra `cuda` is not installed")
def test_on_a_device(stand_in, tmp_path):
    """The stand-in driver's: the bits of the CPU, the best restored, a checkpoint; sums of gradients are refused."""
    from devices import to_device, to_host

    def on_device(p, batch):
        value, g = value_and_grad(to_host(p), batch)
        return value, to_device(g)

    def run(opt, function, name):
        return fit(opt, function, [1, 2], 4, validate=lambda p: abs(opt.t - 2), checkpoint=tmp_path / name)
    here, there = make("momentum"), make("momentum", to_device(parameters()))
    results = run(here, value_and_grad, "here"), run(there, on_device, "there")
    assert results[0].value.tolist() == results[1].value.tolist()
    assert results[0].best == results[1].best == 2
    assert_arrays(copies(here), copies(to_host(there.params)))
    assert (tmp_path / "here").read_bytes() == (tmp_path / "there").read_bytes()
    with pytest.raises(ValueError, match="fit: accumulate is 2, but the parameters are on a CUDA device, where"):
        fit(there, on_device, [1, 2], 1, accumulate=2)
