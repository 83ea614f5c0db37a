"""A step of any optimizer, in any formats, on NumPy arrays: the rule on decoded numbers, encoded with random bits."""
import contextlib
import math

import numpy as np
from conftest import OPTIMIZERS, coefficients_and_gradient, in_use, normal, stored

from fastopt import storage
from fastopt._formats import random_bits as noise
from fastopt._formats.catalogue import arithmetic
from fastopt._tensors.arrays import format_of
from fastopt._tensors.backend import in_memory_order

LEAN = {  # format of gradient and parameter, its rounding, those of states
    "bf16s": ("bf16", "stochastic", "bf16s"), "split": ("bf16", "remainder", ("bf16", "bf16s", "bf16")),
    "q8": ("f32", "nearest", "q8"), "bf16s q8": ("bf16", "stochastic", "q8"), "f16s": ("f16", "stochastic", "f16s"),
    "f32 bf16s": ("f32", "nearest", "bf16s")}
MIXES = {"f32": ("f32", "nearest", None), "f64": ("f64", "nearest", None), "f16": ("f16", "nearest", None),
         "bf16": ("bf16", "nearest", None), "f16 f16": ("f16", "nearest", "f16"),
         "bf16 bf16": ("bf16", "nearest", "bf16"), **LEAN}
SIZES = (0, 1, 7, 8, 9, 15, 16, 17, 31, 32, 33, 127, 128, 129, 255, 256, 257, 1023, 1024, 1025, 4097, 8193)


def made(name, params, mix, **hyper):
    """An optimizer whose parameters and states are stored as this mix says."""
    _, rounding, state = MIXES[mix]
    cls = OPTIMIZERS[name]
    names = [s for s in cls.rule.state if not ("schedule_free" in hyper and s in cls.rule.momentum)]
    asked = dict(zip(names, state, strict=False)) if isinstance(state, tuple) else state
    return cls(params, state=asked, rounding=rounding, **hyper)


def arrays_of(opt):
    """Its parameters and states."""
    return [t.array for t in opt._tensors] + [a for state in opt._backend.state.values() for a in state]


def random_words(seed, step, tensor, n):
    with np.errstate(over="ignore"):
        return noise.word(noise.key(seed, step, tensor), np.arange(n, dtype=np.uint32))


def numbers(parts, format, n):
    return storage.join(*parts) if format.split else storage.decode(parts[0], format, (n,))


def encoded(x, format, words=storage.HALF):
    return list(storage.split(x)) if format.split else [storage.encode(x, format, words)]


def next_slots(rule, c, g, parts, formats, words):
    """What a step makes of all slots but the gradient, in memory order; all words are those of the elements."""
    n, kind = g.size, arithmetic(formats[0]).dtype
    with np.errstate(all="ignore"):
        new = rule(c, g, *(numbers(p, f, n).astype(kind) for p, f in zip(parts, formats, strict=True)))
        found, factors = [], iter(noise.SLOTS)
        for x, f in zip(new, formats, strict=True):
            found.append(encoded(x, f, words*next(factors) if f.random else storage.HALF))
    return found


def sum_of_squares(rows):
    """In float64, in the order of kernels: element i of a tile of 4,096 adds to sum i % 64, by halves; so tiles."""
    def added(numbers):
        lanes = np.zeros(64)
        for k in range(0, len(numbers), 64):
            lanes[:len(numbers[k:k + 64])] += numbers[k:k + 64]
        for half in (32, 16, 8, 4, 2, 1):
            lanes[:half] += lanes[half:2*half]
        return lanes[0]

    return added([added(row[k:k + 4096]) for row in rows.astype(np.float64)**2 for k in range(0, row.size, 4096)])


def measured(rule, exact, kind, g, p, *slots, rows=1):
    """The coefficients of measured pieces, of a tensor of so many rows, from those in float64. An array each."""
    def called(function, *args, **_):
        return function(rule.Coefficients(*(x.astype(kind) if np.ndim(x) else kind(x) for x in exact)), *args)

    with np.errstate(all="ignore"):
        cut = rows if any(piece.by_row for piece in rule.measured) else 1
        for piece in rule.measured:
            units = rows if piece.by_row else 1
            terms = rule.compose(called, g, p, *slots, until=piece)
            parts = [np.broadcast_to(x, p.shape).reshape(units, cut//units, -1) for x in terms]
            sums = np.array([[[sum_of_squares(part) for part in of], [1.0]*units] for of in parts])
            columns = exact._make(np.full(units, value) if not np.ndim(value) else value[::p.size//units]
                                  for value in exact)
            found = zip(piece.gives, piece.of_sums(columns, sums, np.full(units, p.size/units)), strict=True)
            exact = exact._replace(**{name: np.repeat(x, p.size//units) for name, x in found})
        return called(lambda c: c)


class Twin:
    """An optimizer beside its rule on NumPy arrays: after every step both hold the same bits, in any formats."""

    def __init__(self, opt):
        self.opt, self.tensors, self.machine = opt, opt._tensors, opt._backend
        self.want = [self.have(k) for k in range(len(self.tensors))]

    def formats(self, k):
        return [self.tensors[k].format, *(slot.formats[k] for slot in self.machine.slots.values())]

    def have(self, k):
        """The arrays of every slot, in memory order: one, or a number and its remainder."""
        t, machine = self.tensors[k], self.machine

        def rows(array, coded=False):
            copy = machine.read(array, True)
            row = copy if coded else in_memory_order(copy, t.order)
            return row.view(np.uint16) if row.dtype.name == "bfloat16" else row
        p = [rows(t.array), *([rows(machine.remainders[k])] if t.format.split else [])]
        return [p, *([rows(slot.arrays[k], bool(slot.formats[k].block))] for slot in machine.slots.values())]

    def fill(self, make):
        """Set all parameters and states to what ``make(format, n, index)`` gives: a row of numbers, or of bytes."""
        for k, t in enumerate(self.tensors):
            slots = [(t.array, t.format), *((s.arrays[k], s.formats[k]) for s in self.machine.states.values())]
            for index, (array, f) in enumerate(slots):
                with np.errstate(all="ignore"):
                    new = make(f, t.array.size, index)
                    new = storage.encode(new, t.plain if f.split else f) if new.dtype != np.uint8 else new
                array.reshape(-1)[...] = new.view(array.dtype)
        self.want = [self.have(k) for k in range(len(self.tensors))]
        return self

    def reference(self, grads, factor=1.0, clip_value=math.inf):
        opt, step = self.opt, self.opt.t + 1
        for k, (t, g) in enumerate(zip(self.tensors, grads, strict=True)):
            row = in_memory_order(storage.decode(g, format_of(g, "g")), t.order)
            used = in_use(opt, t.group, factor, clip_value)
            with np.errstate(all="ignore"):
                c, row = coefficients_and_gradient(used, step, row, arithmetic(t.format).dtype.type, factor=factor,
                                                   clip_value=clip_value, **opt.groups[t.group].at(step))
                if used.measured and row.size:
                    kind, parts = arithmetic(t.format).dtype.type, zip(self.want[k], self.formats(k), strict=True)
                    exact = used.at(step, factor=factor, clip_value=clip_value, **opt.groups[t.group].at(step))
                    c = measured(used, exact._replace(scale=float(c.scale)), kind, row,
                                 *(numbers(p, f, row.size).astype(kind) for p, f in parts),
                                 rows=t.shape[0] if len(t.shape) > 1 else 1)
            words = random_words(opt.seed, step, k, row.size)
            self.want[k] = next_slots(used, c, row, self.want[k], self.formats(k), words)

    def step(self, grads, given=None, *, grad_factor=1.0, clip_value=None, **how):
        """A step with a list of gradients (or other arrays of the same numbers, `given`), compared."""
        self.reference(grads, grad_factor, math.inf if clip_value is None else clip_value)
        tree = grads if given is None else given
        self.opt.step(tree if isinstance(self.opt.params, list) else tree[0], grad_factor=grad_factor,
                      clip_value=clip_value, **how)
        self.check()
        return self

    def check(self):
        names = ("p", *self.machine.slots)
        for k, t in enumerate(self.tensors):
            for name, have, want, f in zip(names, self.have(k), self.want[k], self.formats(k), strict=True):
                what = f"{self.opt.rule.name}: {name} of {t.path} in {f.name} after step {self.opt.t}"
                assert_same_parts(have, want, f, t.array.size, what)


def assert_same_parts(have, want, format, n, what=""):
    """Equal bits, those of blocks' exponents too, and NaN at the same places (whose payload IEEE leaves open)."""
    with np.errstate(all="ignore"):
        nan = np.isnan(numbers(have, format, n)) & np.isnan(numbers(want, format, n))
    for one, other in zip(have, want, strict=True):
        assert (one.dtype, one.shape) == (other.dtype, other.shape), what
        different = one.view(f"u{one.itemsize}") != other.view(f"u{one.itemsize}")
        different[:n] &= ~nan
        at = np.flatnonzero(different)
        assert not at.size, (f"{what}: {at.size} of {n} differ, first at {at[0]}: {one[at[0]]!r}, but "
                             f"{other[at[0]]!r} is right")


def gradients(opt, seed, format=None, make=normal):
    """One for each parameter, in its own format or this."""
    return [stored(make(1000*seed + k, *t.array.shape), format or t.plain) for k, t in enumerate(opt._tensors)]


@contextlib.contextmanager
def tiles_of(opt, size):
    """Steps within are cut into tiles of so many elements (blocks: the next whole ones)."""
    opt._backend.binding.tile = size
    yield opt
    opt._backend.binding.tile = 0
