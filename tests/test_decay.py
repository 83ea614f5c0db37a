"""Decoupled weight decay, however small: what single precision does of it, against float64 with the same gradients."""
import numpy as np
import pytest
from conftest import OPTIMIZERS, stored

import fastopt
from fastopt import schedules

SIZE, STEPS, LR = 4096, 1000, 1e-4
SMALL = (1e-5, 1e-6, 1e-7, 1e-8, 1e-9)  # lr*wd
# Five deviations of the mean share of decay over SIZE elements: p, near 1, is rounded STEPS times by half a unit.
NOISE = 5*np.finfo(np.float32).eps/np.sqrt(12)*np.sqrt(2*STEPS/SIZE)/STEPS


def done(cls, start, **how):
    """The sum of the decay of 1,000 steps, for each of SMALL: how far it gets from the optimizer without decay."""
    rng = np.random.default_rng(0)
    lr = schedules.linear(2*LR, 0.0, STEPS)  # updates of one size (Lion's) would round p alike at every step
    opts = [cls(start.copy(), lr=lr, weight_decay=x/LR, decay="decoupled", **how) for x in (0.0, *SMALL)]
    for _ in range(STEPS):
        g = rng.standard_normal(SIZE, dtype=np.float32)
        for opt in opts:
            opt.step(g)
    plain, *decayed = (opt.decoded("params").astype(float).sum() for opt in opts)
    return plain - decayed


@pytest.mark.parametrize("name", ["momentum", "adamw", "lion"])
def test_small_decay_adds_up(name):
    """p is rounded once, after update and decay are added: at lr*wd = 1e-9 the decay alone would never change p."""
    cls, start = OPTIMIZERS[name], np.linspace(0.5, 1.5, SIZE)
    right = done(cls, start)
    singles = {"f32": {}, **({"bf16": {"rounding": "remainder"}} if name == "adamw" else {})}
    for format, how in singles.items():
        share = done(cls, stored(start, format), **how)/right
        assert (np.abs(share - 1) < NOISE/np.array(SMALL)).all(), (format, share)


def test_what_a_schedule_changes_counts_from_the_next_step():
    w = np.ones(3, np.float32)

    def lr(t):
        opt.groups[0]["weight_decay"], opt.groups[0]["maximize"] = 0.0, False
        return 0.5

    opt = fastopt.SGD(w, weight_decay=0.5, maximize=True)
    opt.groups[0]["lr"] = lr
    opt.step(np.ones(3, np.float32))
    assert w.tolist() == [1.25]*3     # 1 - 0.5*(-1 + 0.5*1)
    opt.step(np.ones(3, np.float32))
    assert w.tolist() == [0.75]*3
