"""The kernel in front of every CUDA step, in the PTX interpreter: norm, whether to step, count, coefficients, words."""
import functools
import itertools
import math
import operator

import numpy as np
import pytest
from conftest import RULES, assert_identical, layout, normal

pytest.importorskip("numba_cuda", reason="the extra `cuda` is not installed")

from emulation import kernel
from ptx import Memory, Run

from fastopt._cpu import loops as cpu
from fastopt._cpu import norm
from fastopt._cuda import advance, loops
from fastopt._cuda.advance import MODE, POSTED
from fastopt._cuda.advance import PARAMETERS as AT
from fastopt._cuda.loops import CLOCK
from fastopt._rule.groups import Group
from fastopt._rule.pipeline import pipeline
from fastopt._tensors.backend import clip_factor

CHIPS = (9, 0), (10, 0)
PERIOD, GROUPS = 5, 2


class Advanced:
    """One launch, on rows of coefficients of `GROUPS` groups for steps 1 to `PERIOD`."""

    def __init__(self, mode=MODE.count, *, t=0, known=-1, last=-1, sums=None, factor=1.0, limit=math.inf,
                 clip_norm=math.inf, tops=(0.0, 0.0), factor_at=None, post=None, first=0, columns=None, rule="adam",
                 cc=(9, 0), doubles=True):
        rule = RULES[rule]
        self.groups = [Group(rule, {"lr": 0.01*(k + 1), "maximize": k == 1, "weight_decay": 0.3}, "test")
                       for k in range(GROUPS)]
        rows = np.array([self.coefficients(step) for step in range(1, PERIOD + 1)])
        self.clock = np.zeros(loops.CLOCK_WORDS, np.int64)
        self.clock[[CLOCK.t, CLOCK.skip, CLOCK.missed, CLOCK.last]] = t, 9, 3, last
        fields = len(pipeline(rule).fields)
        columns = fields if columns is None else columns
        self.single, self.double = (np.full(GROUPS*columns + 8, 7, kind) for kind in (np.float32, np.float64))
        self.target, memory = np.full(400, -1.0), Memory()
        words = np.zeros(len(AT) + POSTED, np.int64)
        sums_at, (stride, posted) = rows_of([] if sums is None else sums, tops), post or (0, ())
        given = {"mode": mode, "clock": self.clock, "known": known, "rows": rows, "period": PERIOD, "groups": GROUPS,
                 "fields": fields, "first": first, "columns": columns, "single": self.single,
                 "stride": stride, "double": self.double if doubles else 0, "count": -1 if sums is None else len(sums),
                 "factor_at": factor_at, "sums": sums_at if sums_at.size else 0, "target": self.target if post else 0,
                 "posted": len(posted)}
        for name, value in given.items():
            words[getattr(AT, name)] = memory.add(value) if isinstance(value, np.ndarray) else value or 0
        floats = words.view(np.float64)
        floats[[AT.factor, AT.limit, AT.clip_norm]] = factor, limit, clip_norm
        floats[len(AT):len(AT) + len(posted)] = posted
        code = kernel(advance.advance(cc, "ptx"))
        Run(code, 1, loops.THREADS, [word.tobytes() for word in words], memory, stats=True)
        self.t, self.skip, self.missed = (int(self.clock[k]) for k in (CLOCK.t, CLOCK.skip, CLOCK.missed))
        self.norm = float(self.clock.view(np.float64)[CLOCK.norm])

    def coefficients(self, t, factor=1.0, limit=math.inf):
        return [x for group in self.groups for x in group.coefficients(t, factor, limit)]

    def expect(self, t, factor=1.0, limit=math.inf):
        """The coefficients of step t are there, as the CPU has them, and nothing behind them."""
        want = np.array(self.coefficients(t, factor, limit))
        for have in (self.double, self.single):
            assert_identical(have[:len(want)], want.astype(have.dtype))
            assert (have[len(want):] == 7).all()


def rows_of(sums, tops=(0.0, 0.0)):
    """What the kernel of the sums writes: sums, those of shrunk numbers, and the largest of each arithmetic."""
    rows = np.zeros((4, len(sums)))
    rows[0], rows[1] = sums, np.array(sums)*cpu.SHRUNK*cpu.SHRUNK
    rows[2:] = np.reshape(tops, (2, 1))
    return rows


def norm_of(sums, factor=1.0):
    """The norm as the CPU has it, from partial sums."""
    class Sums:
        layout = layout("f64 f64")

        def sums_of_squares(self, threads):
            return list(sums)

        def measured(self, kernel, threads):
            return rows_of(sums)[1].tolist()
    return norm.global_norm([Sums()], 1, factor)


# The count and the coefficients

def test_coefficients_of_the_next_step():
    for k, t in enumerate((0, 1, 3, 4, 5, 9, 10)):
        for cc in CHIPS if t in (0, 5) else CHIPS[k % 2:][:1]:
            one = Advanced(t=t, cc=cc, factor=0.37, limit=0.5)
            assert (one.t, one.skip, one.missed) == (t + 1, 0, 3)
            one.expect(t % PERIOD + 1, 0.37, 0.5)
    for rule in RULES:
        Advanced(rule=rule, t=2, factor=-2.0).expect(3, -2.0)


def test_the_host_may_say_the_count_and_which_formats_are_asked_for():
    one = Advanced(t=77, known=3)
    assert (one.t, one.skip) == (4, 0)
    one.expect(4)
    assert (Advanced(doubles=False).double == 7).all()


def test_beyond_the_last_row_nothing_is_counted():
    for t, last in ((3, 4), (4, 4), (9, 4)):
        one = Advanced(t=t, last=last)
        assert (one.t, one.skip, one.missed) == ((4, 0, 3) if t < last else (t, 1, 4))


def test_peek():
    """The next step's column alone; the count stays, and the look-ahead kernel may run."""
    ahead = RULES["nesterov"].fields.index("ahead")
    one = Advanced(mode=MODE.peek, rule="nesterov", t=2, first=ahead, columns=1)
    assert (one.t, one.skip, one.missed) == (2, 0, 3)
    want = [*one.coefficients(3)[ahead::len(pipeline(RULES["nesterov"]).fields)], 7]
    assert one.double[:3].tolist() == want
    assert one.single[:3].tolist() == np.array(want, np.float32).tolist()
    assert Advanced(mode=MODE.peek, rule="nesterov", t=4, last=4, first=ahead, columns=1).missed == 3


# The norm

def test_norm_has_the_bits_of_the_cpu():
    """Sums over 40 orders of magnitude; and sums whose plain float64 sum gives another norm."""
    for k, count in enumerate((0, 1, 2, 255, 256, 257, 1_000, 5_003)):
        sums = np.abs(normal(count, count))*10.0**np.random.default_rng(count).uniform(-20, 20, count)
        one = Advanced(sums=sums, factor=-0.3, cc=CHIPS[k % 2])
        assert one.norm == norm_of(sums, -0.3)
        one.expect(1, -0.3)
    hard = [sums for sums in (np.abs(normal(seed, 700)) for seed in range(40))
            if math.sqrt(functools.reduce(operator.add, sums.tolist())) != norm_of(sums)]  # sum() is exact from 3.12 on
    assert len(hard) > 5
    for k, sums in enumerate(hard[:6]):
        assert Advanced(sums=sums, cc=CHIPS[k % 2]).norm == norm_of(sums)


def test_clipping():
    sums = np.arange(1.0, 300.0)
    for clip_norm, factor in itertools.product((0.1, 3.0, 1e30), (1.0, -0.25)):
        of_all = norm_of(sums, factor)
        one = Advanced(sums=sums, factor=factor, clip_norm=clip_norm, mode=MODE.count | MODE.check)
        assert (one.norm, one.skip) == (of_all, 0)
        one.expect(1, factor*clip_factor(of_all, clip_norm))


def test_a_norm_that_is_not_finite():
    for k, (at, bad) in enumerate(itertools.product((0, 255, 256, 600), (math.inf, math.nan))):
        sums = np.ones(700)
        sums[at] = bad
        skipped = Advanced(mode=MODE.count | MODE.check, t=4, sums=sums, clip_norm=1.0, cc=CHIPS[k//2 % 2])
        assert (skipped.t, skipped.skip, skipped.missed) == (4, 1, 3)
        assert skipped.norm == bad or (math.isnan(skipped.norm) and math.isnan(bad))
        taken = Advanced(t=0, sums=sums, clip_norm=1.0, factor=2.0, cc=CHIPS[k//2 % 2])
        assert (taken.t, taken.skip) == (1, 0)
        taken.expect(1, 2.0)  # clipping leaves it alone


def test_sums_that_overflow():
    """Their second row tells the norm; one beyond float64 is infinite."""
    for factor, clip_norm in ((1.0, math.inf), (-1e-160, 0.5), (1e200, 1.0)):
        one = Advanced(mode=MODE.count | MODE.check, sums=np.full(3, 1e308), factor=factor, clip_norm=clip_norm)
        assert (one.norm, one.skip) == (norm_of([1e308]*3, factor), factor == 1e200)
    assert norm_of([1e308]*3) == pytest.approx(math.sqrt(3)*1e154)


def test_a_number_that_its_rule_would_get_as_infinite():
    """The largest of each arithmetic, times the factor: what float32 and float64 round to infinity is skipped."""
    most = float(np.finfo(np.float32).max)
    first, largest = most + 2.0**103, np.finfo(np.float64).max  # the first one that is rounded to infinity
    for top, top_double, factor, skip in (
            (most, 0, 1.0, 0), (first, 0, 1.0, 1), (np.nextafter(first, 0), 0, -1.0, 0), (1e100, 0, 1e-60, 1),
            (1e100, 0, -1e-62, 0), (1e10, 0, 1e30, 1), (0, largest, 1.0, 0), (0, largest, 1.1, 1)):
        one = Advanced(mode=MODE.count | MODE.check, sums=[4.0, 1.0], tops=(top, top_double), factor=factor)
        assert (one.t, one.skip) == (1 - skip, skip), (top, top_double, factor)
        if skip:
            assert Advanced(mode=MODE.count, sums=[4.0, 1.0], tops=(top, top_double), factor=factor).skip == 0
    clipped = Advanced(mode=MODE.count | MODE.check, sums=[1e200], tops=(1e100, 0), clip_norm=1.0)
    assert clipped.skip == 0
    clipped.expect(1, 1.0/1e100)


def test_a_factor_on_the_device():
    for dtype, mode in ((np.float32, MODE.count | MODE.single), (np.float64, MODE.count)):
        value = np.array([0.3], dtype)
        one = Advanced(mode=mode, factor_at=value, factor=5.0, sums=[4.0], clip_norm=0.5)
        assert one.norm == abs(float(value[0]))*2.0
        one.expect(1, float(value[0])*clip_factor(one.norm, 0.5))


# Posted words

def test_posted_words():
    """Any bits, also those that are addresses or NaN; alone, or in front of a step."""
    for count, stride, mode in itertools.product((0, 1, 63, 64), (8, 40), (MODE.post, MODE.post | MODE.count)):
        values = np.random.default_rng(count).integers(-2**63, 2**63 - 1, count, endpoint=True).view(np.float64)
        one = Advanced(mode=mode, post=(stride, values), t=1)
        want = np.full(400, -1.0)
        want[:count*stride//8:stride//8] = values
        assert_identical(one.target, want)
        assert (one.t, one.skip) == ((2, 0) if mode & MODE.count else (1, 9))
