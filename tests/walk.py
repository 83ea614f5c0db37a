"""Random walks beside reference.Twin: move an array, set an attribute, step, save, load, fork, in any order. A program
that test_stateful.py runs: it forks, and a process of tests has threads of other libraries (JAX's)."""
import copy
import os
import tempfile
import warnings

import numpy as np
import pytest
from conftest import normal, stored
from hypothesis import HealthCheck, settings, stateful
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from reference import MIXES, Twin, gradients, made

from fastopt import files

f32 = np.float32
SIZES = (0, 1, 3, 8, 9, 129, 1024)
RATES = (0.0, 1e-3, 0.1, 0.5)
STORED = ("f32", "split", "q8")


class Walk(RuleBasedStateMachine):
    """An optimizer of two arrays in two groups, with copies; its twin says what every bit must be after each step."""

    @initialize(mix=st.sampled_from(STORED), sizes=st.tuples(*[st.sampled_from(SIZES)]*2), threads=st.integers(1, 2),
                seed=st.integers(0, 99))
    def begin(self, mix, sizes, threads, seed):
        self.seed, self.saved = seed, []
        self.folder = tempfile.TemporaryDirectory()
        self.params = [np.array(stored(normal(seed + k, n), MIXES[mix][0])) for k, n in enumerate(sizes)]
        self.copies = [np.zeros(n, f32) for n in sizes]
        groups = [{"params": [self.params[0]], "lr": 0.2}, {"params": [self.params[1]], "momentum": 0.5}]
        self.opt = made("momentum", groups, mix, lr=0.1, copy=[[x] for x in self.copies], threads=threads)
        self.twin = Twin(self.opt)

    def teardown(self):
        if hasattr(self, "folder"):
            self.folder.cleanup()

    def new_gradients(self):
        self.seed += 1
        return gradients(self.opt, self.seed)

    @rule(factor=st.sampled_from([1.0, -0.5, 1/3]), zero=st.booleans(), buffers=st.booleans())
    def step(self, factor, zero, buffers):
        g, how = self.new_gradients(), {"grad_factor": factor, "zero_grads": zero}
        self.twin.reference(g, factor)
        if buffers:
            for (target,), source in zip(self.opt.grads, g, strict=True):
                target[...] = source
            self.opt.step(**how)
        else:
            self.opt.step([[x] for x in g], **how)
            assert not zero or not any(x.any() for x in g)
        self.twin.check()

    @rule(bad=st.sampled_from([np.nan, np.inf, -np.inf]))
    def skip(self, bad):
        g = [x.astype(f32) if x.dtype != np.uint16 else x.astype(np.uint32).__lshift__(16).view(f32)
             for x in self.new_gradients()]
        t = self.opt.t
        if any(x.size for x in g):
            next(x for x in g if x.size)[0] = bad
            self.opt.step([[x] for x in g], skip_nonfinite=True)
            assert self.opt.t == t

    @rule(k=st.integers(0, 1), slot=st.sampled_from(["params", "copies"]))
    def move(self, k, slot):
        """The same numbers in other memory: followed."""
        a = getattr(self, slot)[k]
        a.__setstate__((1, a.shape, a.dtype, False, a.tobytes()))

    @rule()
    def headers_that_are_not_ours(self):
        """What `opt.state` gives are views: their headers are the program's own."""
        for tree in self.opt.state.values():
            for (view,) in tree:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    view.dtype = np.uint8
                    view.flags.writeable = False

    @rule(k=st.integers(0, 1), lr=st.sampled_from(RATES), scheduled=st.booleans())
    def set_lr(self, k, lr, scheduled):
        self.opt.groups[k]["lr"] = (lambda t: lr/t) if scheduled else lr

    @rule(bad=st.sampled_from([-1.0, np.nan, "much", None, [0.1]]))
    def set_nonsense(self, bad):
        before = [dict(group) for group in self.opt.groups]
        with pytest.raises((TypeError, ValueError), match="lr is"):
            self.opt.groups[0]["lr"] = bad
        with pytest.raises((TypeError, ValueError), match="t: "):
            self.opt.t = bad
        assert [dict(group) for group in self.opt.groups] == before

    @rule(t=st.integers(0, 10**6))
    def set_t(self, t):
        self.opt.t = t

    @rule()
    def save(self):
        path = os.path.join(self.folder.name, f"{len(self.saved)}.safetensors")
        files.save(path, self.opt)
        kept = copy.deepcopy(self.twin.want), self.opt.t, [dict(group) for group in self.opt.groups]
        self.saved.append((path, self.opt.state_dict(), [p.copy() for p in self.params], *kept))

    @precondition(lambda self: self.saved)
    @rule(data=st.data(), from_file=st.booleans())
    def load(self, data, from_file):
        path, state, params, want, t, groups = data.draw(st.sampled_from(self.saved))
        now = [dict(group) for group in self.opt.groups]
        if from_file:
            files.load(path, self.opt)
        else:
            for p, source in zip(self.params, params, strict=True):
                p[...] = source
            self.opt.load_state_dict(state)
        self.twin.want = copy.deepcopy(want)
        for k, group in enumerate(self.opt.groups):  # functions stay, numbers are those that were saved
            right = groups[k]["lr"] if not (callable(groups[k]["lr"]) or callable(now[k]["lr"])) else now[k]["lr"]
            assert group["lr"] == right
        assert self.opt.t == t

    @precondition(lambda self: hasattr(os, "fork"))
    @rule()
    def fork(self):
        """A child goes on with the walk, on memory of its own."""
        g = self.new_gradients()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # other threads of this process: the pool knows forks
            child = os.fork()
        if child == 0:
            status = 1
            try:
                self.twin.reference(g)
                self.opt.step([[x] for x in g])
                self.twin.check()
                status = 0
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

    @invariant()
    def whole(self):
        if hasattr(self, "opt"):
            self.opt._backend.look()
            assert len(repr(self.opt)) > 0
            for k, p in enumerate(self.params):
                if not self.twin.tensors[k].format.split:
                    assert p.tobytes() == self.twin.want[k][0][0].tobytes()


if __name__ == "__main__":
    stateful.run_state_machine_as_test(Walk, settings=settings(
        max_examples=12, stateful_step_count=25, deadline=None, derandomize=True, database=None,
        suppress_health_check=list(HealthCheck)))
    print("walked")
