"""Would the tests notice? Every small change to the PTX of Adam's kernel is run on the data of a test. At least 95 %
must be found: a number, a guard or a fault tells, or the kernel does not end. The survivors are listed with reasons."""
import re

import numpy as np
import pytest
from conftest import RULES, normal

pytest.importorskip("numba_cuda", reason="the extra `cuda` is not installed")

from emulation import Launch, step_code
from ptx import Kernel, PTXError

FORMATS = "f32 f32 f32 f32"
PATIENCE = 4  # a mutant may execute this many times the instructions of the kernel
SWAPS = [pair.split(">") for pair in """
    add.rn>sub.rn sub.rn>add.rn mul.rn>add.rn div.rn>mul.rn sqrt.rn>neg add.s>sub.s sub.s>add.s min.>max. max.>min.
    setp.lt>setp.le setp.le>setp.lt setp.gt>setp.ge setp.ge>setp.gt setp.eq>setp.ne setp.ne>setp.eq setp.lt>setp.gt
    setp.gt>setp.lt and.b>or.b or.b>and.b or.pred>and.pred and.pred>or.pred xor.b>or.b shl.b64>shr.u64 shl.b32>shr.u32
    shr.u>shl.b cvt.u64.u32>cvt.s64.s32""".split()]  # noqa: SIM905
# Why a mutant may live: {pattern of the change and the line: reason}. Each is checked by hand once; a new one fails.
HARMLESS = {r"setp\.(lt|gt)\.f32": "what equals the bound of the clipping is the bound either way",
            r"setp\.lt\.u32\s+%p\d+, %r\d+, %r\d+": "a tensor as long as the way to its first aligned element has no "
                                                    "whole vector either way",
            r"cvt\.u64\.u32 to cvt\.s64\.s32": "the number of a tile, below 2**31",
            r"constant \+ 1: and\.b32\s+%r\d+, %r\d+, -4;": "the end of a loop over at most six elements, of which 256 "
                                                            "threads take no second turn"}


def mutants(text):
    """(line, what changed, the new text) for every mutant."""
    lines = text.split("\n")
    first = next(k for k, line in enumerate(lines) if line.strip().startswith("ld.param"))
    for k in range(first, len(lines)):
        line = lines[k]
        body = line.strip()
        if not body.endswith(";") or body.startswith((".", "//", "ld.param", "ret")):
            continue

        def changed(to, k=k):
            return "\n".join([*lines[:k], to, *lines[k + 1:]])
        yield k, "dropped", changed("")
        for old, new in SWAPS:
            if old in body:
                yield k, f"{old} to {new}", changed(line.replace(old, new, 1))
        found = re.match(r"(\s*(?:@\S+ )?selp\.\S+\s+)([^,]+), ([^,]+), ([^,]+), ([^,;]+);", line)
        if found:
            yield k, "choices swapped", changed(f"{found[1]}{found[2]}, {found[4]}, {found[3]}, {found[5]};")
        if body.startswith("@"):
            yield k, "condition negated", changed(line.replace("@!", "@#").replace("@%", "@!%").replace("@#", "@"))
        found = re.search(r", (-?\d+);", line)
        if found:
            yield k, "constant + 1", changed(line.replace(found[0], f", {int(found[1]) + 1};"))
        found = re.match(r"(\s*(?:sub|div)\.rn\.f32\s+)(\S+), (\S+), (\S+);", line)
        if found:
            yield k, "operands swapped", changed(f"{found[1]}{found[2]}, {found[4]}, {found[3]};")


class Bench:
    """The data on which mutants run: sizes around the vectors' widths, aligned alike or not, loops that turn more than
    once, two groups of which no coefficient is the same, more tiles than blocks and more blocks than tiles; and the
    traffic, which tells slow from fast."""

    def __init__(self, code):
        self.rule = RULES["adam"]
        hyper = ({"lr": 0.1, "weight_decay": 0.1, "factor": 0.7, "clip_value": 2.0, "eps": 1e-3, "eps_root": 0.01},
                 {"lr": 0.2, "weight_decay": 0.3, "factor": -0.9, "clip_value": 1.0, "eps": 1e-2, "eps_root": 0.05,
                  "b1": 0.7, "b2": 0.8, "decay": "decoupled"})
        coefficients = [self.rule.at(t, np.float32, **of) for t, of in enumerate(hyper, 1)]
        sizes = ((0, 1), (10, 5), (20, 1_029), (30, 2_048), (40, 300), (45, 301))
        small = tuple(self._slots(seed, n) for seed, n in sizes)
        nan = self._slots(50, 300)
        nan[0][[3, 40, 41]] = np.nan, np.inf, -np.inf
        large = (self._slots(60, 5_003), *(self._slots(70 + k, 1_100) for k in range(3)))
        self.runs = [  # tensors, their groups, where they start, and how they are launched: what is fast comes first
            ((nan,), [0], ([0]*4,), {"blocks": 1}), ((nan,), [0], ([0]*4,), {"blocks": 1, "skip": 1}),
            (small, [0, 1, 1, 0, 1, 0], ([1]*4, [0, 1, 2, 3], [3]*4, [0]*4, [2]*4, [0]*4), {"blocks": 2, "tile": 600}),
            (large, [1, 0, 1, 1], ([1]*4, [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]), {"blocks": 9})]
        self.coefficients = coefficients
        with np.errstate(all="ignore"):
            self.want = [[slots if "skip" in how else [slots[0], *self.rule(coefficients[g], *slots)]
                          for slots, g in zip(tensors, groups, strict=True)] for tensors, groups, _, how in self.runs]
        launched = [self._launch(run, code).run for run in self.runs]
        self.traffic = [run.traffic for run in launched]
        self.limits = [PATIENCE*run.executed for run in launched]

    @staticmethod
    def _slots(seed, n):
        slots = [normal(seed + j, n).astype(np.float32) for j in range(4)]
        slots[3] = np.abs(slots[3])
        slots[0][::7] *= 100  # what is clipped
        return slots

    def _launch(self, run, code, **options):
        tensors, groups, skips, how = run
        return Launch(self.rule, FORMATS, tensors, self.coefficients, groups, skips=skips, stats=True, code=code, **how,
                      **options)

    def passes(self, text):
        try:
            code = Kernel(text)
            for run, tensors, traffic, limit in zip(self.runs, self.want, self.traffic, self.limits, strict=True):
                launch = self._launch(run, code, limit=limit)
                if launch.run.traffic != traffic:
                    return False
                for k, want in enumerate(tensors):
                    same = (np.array_equal(a, b, equal_nan=True) for a, b in zip(launch.slots(k), want, strict=True))
                    if not all(same) or not all(placed.untouched_around() for placed in launch.tensors[k]):
                        return False
        except PTXError:
            return False
        return True


def test_mutants_of_adams_kernel_are_found():
    text = step_code(RULES["adam"], FORMATS).image.decode().rstrip("\0")
    bench = Bench(Kernel(text))
    with np.errstate(all="ignore"):
        assert bench.passes(text)
        found, survivors = 0, []
        for line, what, mutant in mutants(text):
            if bench.passes(mutant):
                survivors.append((line, what, text.split("\n")[line].strip()))
            else:
                found += 1
    report = "\n".join(f"{line}: {what}: {body}" for line, what, body in survivors)
    print(f"{found} of {found + len(survivors)} found\n{report}")
    assert found + len(survivors) > 300
    assert found/(found + len(survivors)) >= 0.95, report
    unexplained = [s for s in survivors if not any(re.search(pattern, f"{s[1]}: {s[2]}") for pattern in HARMLESS)]
    assert not unexplained, unexplained
