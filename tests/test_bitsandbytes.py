"""States of bitsandbytes' 8-bit optimizers: the numbers of codes, blocks with a tail, entries in every form."""
import zlib
from itertools import product

import numpy as np
import pytest
from conftest import assert_identical, normal

from fastopt.bitsandbytes import NAMES, WRAPPED, decode, decoded, dynamic_map, is_coded

f32, u8 = np.float32, np.uint8
SIGNED, UNSIGNED = dynamic_map(True), dynamic_map(False)
ADAM, LION = NAMES["adam"], NAMES["lion"]


def codes(seed, *shape):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=u8)


def scales(seed, *shape):
    return np.abs(normal(seed, *shape)).astype(f32)


def adam(n=1000, block=256, **changes):
    """An entry, of which `changes` replaces some and takes out what is None."""
    count = -(-n // block)
    entry = {"step": 7, "state1": codes(1, n), "state2": codes(2, n), "qmap1": SIGNED, "qmap2": UNSIGNED,
             "absmax1": scales(3, count), "absmax2": scales(4, count), **changes}
    return {k: v for k, v in entry.items() if v is not None}


def wrapped(entry):
    return {"step": entry["step"], WRAPPED: {k: v for k, v in entry.items() if k != "step"}}


def by_element(c, absmax, numbers, block):
    """The formula, one element after the other."""
    return np.array([numbers[x]*absmax[i // block] for i, x in enumerate(c.ravel())], f32).reshape(c.shape)


# The numbers

def test_the_bits_are_those_of_bitsandbytes():
    """The checksums are of what create_dynamic_map of bitsandbytes 0.50.2 gives with torch 2.14."""
    assert [zlib.crc32(q.astype("<f4").tobytes()) for q in (SIGNED, UNSIGNED)] == [454261483, 3899729807]


# Codes and scales

def test_every_block_size_and_a_tail():
    for block, blocks in product((64, 128, 256, 512, 1024, 2048, 4096), (0.01, 1, 1.5, 2, 2.01, 5, 5.3)):
        n = max(1, int(blocks*block))
        c, s, signed = codes(0, n), scales(1, -(-n // block)), bool(n % 2)
        assert_identical(decode(c, s, signed=signed), by_element(c, s, SIGNED if signed else UNSIGNED, block))


def test_one_scale_for_all_and_nothing():
    c = codes(0, 10_007)
    assert_identical(decode(c, np.array(0.3, f32)), SIGNED[c]*f32(0.3))
    assert_identical(decode(c, f32(0.3)), SIGNED[c]*f32(0.3))
    for scale in (np.zeros(0, f32), f32(1)):
        assert_identical(decode(np.zeros((0, 3), u8), scale), np.zeros((0, 3), f32))


def test_shapes_and_strides():
    c, s = codes(0, 40, 30), scales(1, 5)
    want = by_element(c, s, SIGNED, 256)
    assert_identical(decode(c, s), want)
    assert_identical(decode(c.ravel(), s, shape=(40, 30)), want)
    assert_identical(decode(c, s, shape=[2, 20, 30]), want.reshape(2, 20, 30))
    assert_identical(decode(np.asfortranarray(c), s), want)
    assert_identical(decode(np.array(255, u8), s[:1]), s[:1].reshape(()))


def test_a_map_of_its_own():
    c, s, q = codes(0, 600), scales(1, 3), np.sort(normal(2, 256)).astype(f32)
    assert_identical(decode(c, s, q), by_element(c, s, q, 256))
    assert_identical(decode(c, s, np.append(q, normal(3, 268).astype(f32)), signed=False), by_element(c, s, q, 256))


def test_what_is_given_stays():
    c, s, q = codes(0, 600), scales(1, 3), SIGNED.copy()
    for a in (c, s, q):
        a.flags.writeable = False  # writing would raise
    x = decode(c, s, q)
    assert x.flags.writeable
    assert not any(np.shares_memory(x, a) for a in (c, s, q))


SCALES = "but float32 numbers, one per block, are needed. Give what was saved with the codes."
BLOCKS = ("but one per 256 codes (or 64, 128, 512, 1024, 2048, 4096) is needed. Give the absmax that was saved with "
          "the codes.")
ARRAY = "but an array is needed (NumPy, a tensor of torch, any buffer, or an array on a CUDA device)."
REFUSED = [
    (lambda: decode("x", scales(0, 1)), TypeError, f"decode: codes: a str, {ARRAY} Give an array of numbers."),
    (lambda: decode(codes(0, 9).astype(np.int8), scales(0, 1)), ValueError,
     "decode: codes of int8, but uint8 is needed. Give a state of 8 bits."),
    (lambda: decode(codes(0, 9), scales(0, 1), SIGNED[:16]), ValueError,
     "decode: a qmap of float32 and shape (16,), but 256 float32 numbers are needed. Leave it out for bitsandbytes' "
     "own."),
    (lambda: decode(codes(0, 9), scales(0, 1).astype(float)), ValueError,
     f"decode: an absmax of float64 and shape (1,), {SCALES}"),
    (lambda: decode(codes(0, 9), scales(0, 1, 1), where="here"), ValueError,
     f"here: an absmax of float32 and shape (1, 1), {SCALES}"),
    (lambda: decode(codes(0, 9), scales(0, 1), shape=(-3, -3)), ValueError,
     "decode: 9 codes, but shape (-3, -3) is asked for. Give the shape of the parameter."),
    *((lambda n=n, count=count: decode(codes(0, n), scales(0, count)), ValueError,
       f"decode: {count} scales for {n} codes, {BLOCKS}") for n, count in ((5000, 1), (1000, 5), (9, 0))),
    (lambda: decoded({}, ADAM), ValueError,
     "decoded: no state, but this optimizer has state1, state2. Make the one whose state it is."),
    (lambda: decoded(wrapped(adam(state2=None)), {}), ValueError,
     "decoded: state1, but this optimizer has none. Make the one whose state it is."),
    (lambda: decoded(adam(state1=codes(0, 2, 1000), absmax1=scales(0, 2, 4)), ADAM), ValueError,
     "decoded: states of shapes (2, 1000) and (1000,), but one shape is needed. AdEMAMix, which keeps two moments in "
     "state1, cannot be read."),
    (lambda: decoded(adam(absmax2=None), ADAM), ValueError,
     "decoded: state2: uint8 without absmax2, but codes with it, or float32, are needed. The checkpoint is damaged."),
    (lambda: decoded({"state1": codes(0, 9), "max1": scales(0, 2)}, LION), ValueError,
     "decoded: state1: max1 of shape (2,), but one number is needed. The checkpoint is damaged."),
    (lambda: decoded({"state1": np.asfortranarray(codes(0, 40, 30)), "absmax1": scales(0, 5)}, LION), ValueError,
     "decoded: state1: strides (1, 40) for shape (40, 30), but C order is needed. Give numpy.ascontiguousarray(x) if "
     "the run was on the CPU, x.ravel(order='K').reshape(x.shape) if it was on CUDA."),
    (lambda: decoded(adam(absmax1=[1.0]), ADAM), TypeError,
     f"decoded: state1: absmax1: a list, {ARRAY} Make it one: numpy.asarray(x, numpy.float64).")]


def test_what_is_refused():
    for call, kind, message in REFUSED:
        with pytest.raises(kind) as error:
            call()
        assert str(error.value) == message


# Entries

def test_an_entry_of_adam():
    """Wrapped or not; without maps they are those of bitsandbytes."""
    for form, block in product((dict, wrapped), (256, 2048)):
        entry = adam(10_000, block)
        have = decoded(form(entry), ADAM)
        assert list(have) == ["step", "exp_avg", "exp_avg_sq"]
        assert have["step"] == 7
        for name, slot, q in (("exp_avg", "1", SIGNED), ("exp_avg_sq", "2", UNSIGNED)):
            assert_identical(have[name], by_element(entry["state" + slot], entry["absmax" + slot], q, block))
        bare = decoded(form(adam(10_000, block, qmap1=None, qmap2=None)), ADAM)
        for name in ADAM.values():
            assert_identical(bare[name], have[name])


def test_an_entry_of_one_state():
    entry = adam(state2=None, qmap2=None, absmax2=None)
    for rule, name in {"momentum": "momentum_buffer", "rmsprop": "square_avg", "adagrad": "sum",
                       "lion": "exp_avg"}.items():
        have = decoded(entry, NAMES[rule])
        assert list(have) == ["step", name]
        assert_identical(have[name], by_element(entry["state1"], entry["absmax1"], SIGNED, 256))


def test_one_scale_for_the_whole_tensor():
    """block_wise=False: new_max is that of the step to come."""
    entry = adam(5000, absmax1=None, absmax2=None, max1=scales(5, 1), max2=scales(6, 1), new_max1=scales(7, 1),
                 new_max2=scales(8, 1))
    have = decoded(entry, ADAM)
    assert_identical(have["exp_avg"], SIGNED[entry["state1"]]*entry["max1"])
    assert_identical(have["exp_avg_sq"], UNSIGNED[entry["state2"]]*entry["max2"])


@pytest.mark.parametrize("form", [dict, wrapped])
def test_states_of_small_parameters_are_float32_already(form):
    entry = {"step": 3, "state1": normal(0, 5, 4).astype(f32), "state2": normal(1, 5, 4).astype(f32),
             "unorm_vec": np.zeros(1, f32)}
    have = decoded(form(entry), ADAM)
    assert list(have) == ["step", "exp_avg", "exp_avg_sq"]
    assert np.shares_memory(have["exp_avg"], entry["state1"])
    assert_identical(have["exp_avg_sq"], entry["state2"])


def test_an_entry_stays_as_it_is_and_needs_no_step():
    entry = wrapped(adam())
    inner = dict(entry[WRAPPED])
    decoded(entry, ADAM)
    assert list(entry) == ["step", WRAPPED]
    assert entry[WRAPPED] == inner
    assert list(decoded({"state1": np.zeros(3, f32)}, LION)) == ["exp_avg"]


def test_whose_entry_it_is():
    assert is_coded(adam())
    assert is_coded(wrapped(adam()))
    assert is_coded({"step": 1, "state1": np.zeros(3, f32)})
    for entry in ({}, {"step": 1, "exp_avg": np.zeros(3), "exp_avg_sq": np.zeros(3)}, {"momentum_buffer": None}):
        assert not is_coded(entry)


def test_tensors_of_torch():
    torch = pytest.importorskip("torch")
    entry = adam()
    have = decoded({k: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for k, v in entry.items()}, ADAM)
    for name, want in decoded(entry, ADAM).items():
        if name != "step":
            assert_identical(have[name], want)
