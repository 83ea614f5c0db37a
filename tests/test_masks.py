"""Masks: where one is not set, an element keeps its bits; all others are stepped as without a mask."""
import numpy as np
import pytest
from conftest import assert_identical, normal, stored
from reference import MIXES, made

import fastopt

SHAPES = (37, 61), (1, 3), (129,)


def masks(seed):
    return [normal(seed + k, *shape) > 0 for k, shape in enumerate(SHAPES)]


def parts(opt, mix):
    """Parameters and states as they are stored, by name; states of blocks as their numbers."""
    stored_as = {name: opt._backend.numbers(name) if "q8" in mix and name != "average" else opt.state[name]
                 for name in opt.state if name != "remainder" or opt.state[name]}
    return {"p": opt.params, **stored_as}


@pytest.mark.parametrize("mix", ["f32", "bf16s", "split", "q8"])
def test_a_masked_step(mix):
    """Of Adam with a weight average and a copy, on arrays in both memory orders, with gradients set to zero."""
    opts, mask = [], masks(7)
    for _ in range(2):
        params = [np.asarray(stored(normal(k, *shape), MIXES[mix][0]), order="CF"[k % 2])
                  for k, shape in enumerate(SHAPES)]
        copies = [np.zeros_like(p, dtype=np.float32) for p in params]
        opts.append((made("adam", params, mix, average=0.9, copy=copies, weight_decay=0.1), copies))
    (opt, copies), (free, others) = opts
    masters = opt._backend.masters()
    old = {name: [np.array(x) for x in found] for name, found in parts(opt, mix).items()}
    for o, how in ((opt, {"mask": mask}), (free, {})):
        grads = [np.array(p) for p in o.params]
        o.step(grads, zero_grads=True, grad_factor=0.5, **how)
        assert not any(g.any() for g in grads)
    new = parts(free, mix)
    for name, found in parts(opt, mix).items():
        for k, x in enumerate(found):
            if x.size:
                assert_identical(x[~mask[k]], np.asarray(old[name][k])[~mask[k]], f"{name} {k}")
                if "q8" not in mix:
                    assert_identical(x[mask[k]], np.asarray(new[name][k])[mask[k]], f"{name} {k}")
    for copy, other, p, changed in zip(copies, others, masters, mask, strict=True):
        assert_identical(copy, np.where(changed, other, p.astype(np.float32)))
    free.step([np.zeros_like(p) for p in free.params], zero_grads=True, grad_factor=0.5)  # no block's exponent rises
    old = {name: [np.array(x) for x in found] for name, found in parts(free, mix).items()}
    free.step([np.zeros_like(p) for p in free.params], mask=mask, zero_grads=True, grad_factor=0.5)
    for name, found in parts(free, mix).items():
        for k, x in enumerate(found):
            assert_identical(x[~mask[k]], np.asarray(old[name][k])[~mask[k]], f"{name} {k} from a state")


def test_masks_broadcast_and_groups_have_their_own():
    w, b = normal(1, 5, 7), normal(2, 7)
    old = w.copy(), b.copy()
    opt = fastopt.SGD([{"params": w, "mask": np.arange(7) % 2}, {"params": b}], lr=1.0)
    opt.step([np.ones_like(w), np.ones_like(b)])
    opt.step([np.ones_like(w), np.ones_like(b)], mask=[np.arange(5)[:, None] == 3, False])
    moved = (np.arange(7) % 2)*(1.0 + (np.arange(5)[:, None] == 3))
    assert np.allclose(old[0] - w, moved)
    assert np.allclose(old[1] - b, 1)
    opt = fastopt.SGD([{"params": b, "mask": None}], lr=1.0)
    opt.step([np.ones(7)])
    assert np.allclose(old[1] - b, 2)


def test_a_mask_may_change_and_end():
    p = np.zeros(6, np.float32)
    opt = fastopt.SGD(p, lr=1.0)
    first = [1, 0, 0, 0, 0, 0]
    for mask in (first, None, None, first, first, None, [0, 0, 1, 1, 0, 0]):  # a step like the last one is ready
        opt.step(-np.ones(6, np.float32), mask=None if mask is None else np.array(mask))
    assert p.tolist() == [6, 3, 4, 4, 3, 3]


@pytest.mark.parametrize(("format", "state"), [("bf16", None), ("f32", "q8")])
def test_on_a_device(format, state, stand_in):
    """A device has the CPU's bits, whether neighbours are taken together or one by one."""
    from twins import Twins
    params = [stored(normal(k, *shape), format) for k, shape in enumerate(SHAPES)]
    twins = Twins(lambda p: fastopt.Adam(p, state=state, average=0.9), params)
    for t, mask in enumerate((masks(1), None, masks(2), masks(2), None, None)):
        twins.step([stored(normal(10*t + k, *shape), format) for k, shape in enumerate(SHAPES)], mask=mask)
    twins.same()


def test_an_interrupt_leaves_no_part_of_a_mask():
    class Interrupted:
        def __setitem__(self, where, what):
            raise KeyboardInterrupt

    w, b = np.zeros((2, 5), np.float32)
    opt = fastopt.SGD([{"params": w, "mask": np.arange(5) > 2}, {"params": b}], lr=1.0)
    opt.step([np.ones(5), np.ones(5)])
    copies = opt._backend._copies
    kept, copies[1] = copies[1], Interrupted()
    with pytest.raises(KeyboardInterrupt):
        opt.step([np.ones(5), np.ones(5)], mask=[np.arange(5) > 3, True])
    copies[1] = kept
    opt.step([np.ones(5), np.ones(5)])
    assert (opt.t, w.tolist(), b.tolist()) == (2, [0, 0, 0, -2, -2], [-2]*5)


def test_masks_of_any_kind_of_numbers():
    for kind in (np.float64, np.complex64, object, ">i4"):
        w = np.zeros(3, np.float32)
        fastopt.SGD(w, lr=1.0).step(np.ones(3), mask=np.array([1, 0, 1], kind))
        assert w.tolist() == [-1, 0, -1]
    w = np.zeros(3, np.float32)
    with pytest.raises(ValueError, match="mask: something in it is neither 0 nor 1"):
        fastopt.SGD(w).step(np.ones(3), mask=np.zeros(3, [("a", "?")]))
