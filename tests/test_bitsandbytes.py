"""States of bitsandbytes' 8-bit optimizers: the numbers of codes, blocks with a tail, entries in every form."""
import zlib
from itertools import pairwise, product

import numpy as np
import pytest
from conftest import assert_identical, normal

from fastopt import bitsandbytes
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

def test_the_numbers_rise_and_the_signed_ones_are_symmetric_but_for_one():
    for q, signed in ((SIGNED, True), (UNSIGNED, False)):
        assert (q.dtype, q.shape) == (f32, (256,))
        assert (np.diff(q) > 0).all()
        assert dynamic_map(signed) is not q
    assert_identical(SIGNED[126::-1], -SIGNED[128:255])
    assert (SIGNED[127], SIGNED[255]) == (0, 1)


KNOWN = [  # the middle of an interval, by hand: 0.1 + 0.9*(k + 1/2)/n times a power of ten
    (SIGNED, {0: -0.99296875, 127: 0.0, 128: 5.5e-7, 129: 3.25e-6, 130: 7.75e-6, 131: 2.125e-5, 191: 0.10703125,
              190: 0.09859375, 254: 0.99296875, 255: 1.0}),
    (UNSIGNED, {0: 0.0, 1: 3.25e-7, 2: 7.75e-7, 3: 2.125e-6, 126: 0.099296875, 127: 0.103515625, 254: 0.996484375,
                255: 1.0})]


def test_known_numbers():
    for q, numbers in KNOWN:
        for code, number in numbers.items():
            np.testing.assert_allclose(q[code], number, rtol=2e-7)


def test_the_bits_are_those_of_bitsandbytes():
    """The checksums are of what create_dynamic_map of bitsandbytes 0.50.2 gives with torch 2.14."""
    assert [zlib.crc32(q.astype("<f4").tobytes()) for q in (SIGNED, UNSIGNED)] == [454261483, 3899729807]


@pytest.mark.parametrize(("signed", "first", "smallest"), [(True, 0.062, 2.8e-7), (False, 0.033, 1.7e-7)])
def test_what_codes_lose(signed, first, smallest):
    """The figures of the module's docstring."""
    q = dynamic_map(signed)[dynamic_map(signed) > 0].astype(float)
    halfway = (q[1:] + q[:-1])/2
    lost = (halfway - q[:-1])/halfway
    worst = [lost[(halfway < 10.0**-d) & (halfway > 10.0**-(d + 1))].max() for d in range(6)]
    assert first - 1e-3 < worst[0] < first + 1e-3
    assert all(a < b < 2*a for a, b in pairwise(worst))
    assert 0.95*smallest < q[0]/2 < smallest


# Codes and scales

def test_every_block_size_and_a_tail():
    for block, blocks in product((64, 128, 256, 512, 1024, 2048, 4096), (0.01, 1, 1.5, 2, 2.01, 5, 5.3)):
        n = max(1, int(blocks*block))
        c, s, signed = codes(0, n), scales(1, -(-n // block)), bool(n % 2)
        assert_identical(decode(c, s, signed=signed), by_element(c, s, SIGNED if signed else UNSIGNED, block))


def test_no_more_than_one_block_size_fits_two_scales():
    for n in (*range(65, 9000, 71), 8192, 8193, 100_003):
        for count in {-(-n // b) for b in bitsandbytes.BLOCKS} - {1}:
            assert sum(-(-n // b) == count for b in bitsandbytes.BLOCKS) == 1


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


MAP = "Leave it out for bitsandbytes' own."
SCALES = "but float32 numbers, one per block, are needed. Give what was saved with the codes."
BLOCKS = ("but one per 256 codes (or 64, 128, 512, 1024, 2048, 4096) is needed. Give the absmax that was saved with "
          "the codes.")
ARRAY = "but an array is needed (NumPy, a tensor of torch, any buffer, or an array on a CUDA device)."
REFUSED = [
    (lambda: decode("x", scales(0, 1)), TypeError, f"decode: codes: a str, {ARRAY} Give an array of numbers."),
    (lambda: decode(codes(0, 9).astype(np.int8), scales(0, 1)), ValueError,
     "decode: codes of int8, but uint8 is needed. Give a state of 8 bits."),
    (lambda: decode(codes(0, 9), scales(0, 1), SIGNED[:16]), ValueError,
     f"decode: a qmap of float32 and shape (16,), but 256 float32 numbers are needed. {MAP}"),
    (lambda: decode(codes(0, 9), scales(0, 1), SIGNED.astype(float)), ValueError,
     f"decode: a qmap of float64 and shape (256,), but 256 float32 numbers are needed. {MAP}"),
    (lambda: decode(codes(0, 9), scales(0, 1).astype(float)), ValueError,
     f"decode: an absmax of float64 and shape (1,), {SCALES}"),
    (lambda: decode(codes(0, 9), scales(0, 1, 1), where="here"), ValueError,
     f"here: an absmax of float32 and shape (1, 1), {SCALES}"),
    (lambda: decode(codes(0, 9), scales(0, 1), shape=(2, 4)), ValueError,
     "decode: 9 codes, but shape (2, 4) is asked for. Give the shape of the parameter."),
    (lambda: decode(codes(0, 9), scales(0, 1), shape=(-3, -3)), ValueError,
     "decode: 9 codes, but shape (-3, -3) is asked for. Give the shape of the parameter."),
    *((lambda n=n, count=count: decode(codes(0, n), scales(0, count)), ValueError,
       f"decode: {count} scales for {n} codes, {BLOCKS}") for n, count in ((5000, 1), (1000, 5), (9, 0))),
    (lambda: decoded({}, ADAM), ValueError,
     "decoded: no state, but this optimizer has state1, state2. Make the one whose state it is."),
    (lambda: decoded(adam(), LION), ValueError,
     "decoded: state1, state2, but this optimizer has state1. Make the one whose state it is."),
    (lambda: decoded(wrapped(adam(state2=None)), {}), ValueError,
     "decoded: state1, but this optimizer has none. Make the one whose state it is."),
    (lambda: decoded(adam(state2=None), ADAM, "there"), ValueError,
     "there: state1, but this optimizer has state1, state2. Make the one whose state it is."),
    (lambda: decoded(adam(state1=codes(0, 2, 1000), absmax1=scales(0, 2, 4)), ADAM), ValueError,
     "decoded: states of shapes (2, 1000) and (1000,), but one shape is needed. AdEMAMix, which keeps two moments in "
     "state1, cannot be read."),
    (lambda: decoded(adam(absmax2=None), ADAM), ValueError,
     "decoded: state2: uint8 without absmax2, but codes with it, or float32, are needed. The checkpoint is damaged."),
    (lambda: decoded({"state1": np.zeros(3)}, LION), ValueError,
     "decoded: state1: float64 without absmax1, but codes with it, or float32, are needed. The checkpoint is damaged."),
    (lambda: decoded({"state1": np.zeros(3), "absmax1": scales(0, 1)}, LION), ValueError,
     "decoded: state1: codes of float64, but uint8 is needed. Give a state of 8 bits."),
    (lambda: decoded({"state1": codes(0, 9), "max1": scales(0, 2)}, LION), ValueError,
     "decoded: state1: max1 of shape (2,), but one number is needed. The checkpoint is damaged."),
    (lambda: decoded({"state1": np.asfortranarray(codes(0, 40, 30)), "absmax1": scales(0, 5)}, LION), ValueError,
     "decoded: state1: strides (1, 40) for shape (40, 30), but C order is needed. Give numpy.ascontiguousarray(x) if "
     "the run was on the CPU, x.ravel(order='K').reshape(x.shape) if it was on CUDA."),
    (lambda: decoded(adam(absmax1=scales(0, 3)), ADAM), ValueError,
     f"decoded: state1: 3 scales for 1000 codes, {BLOCKS}"),
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


def test_against_bitsandbytes():
    """Its maps, and its own decoding of what each of its optimizers saved after 5 steps on the CPU, bit for bit."""
    theirs, torch = pytest.importorskip("bitsandbytes"), pytest.importorskip("torch")
    for signed in (True, False):
        assert_identical(dynamic_map(signed), theirs.functional.create_dynamic_map(signed).numpy())
    rules = {"adam": theirs.optim.Adam8bit, "adamw": theirs.optim.AdamW8bit, "lion": theirs.optim.Lion8bit,
             "momentum": theirs.optim.SGD8bit, "rmsprop": theirs.optim.RMSprop8bit, "adagrad": theirs.optim.Adagrad8bit}
    for rule, cls in rules.items():
        tensors = [torch.nn.Parameter(torch.tensor(normal(k, *shape), dtype=torch.float32))
                   for k, shape in enumerate([(5000,), (64, 128), (33,)])]
        opt = cls(tensors, lr=0.01, **({"momentum": 0.9} if rule == "momentum" else {}))
        for t in range(5):
            for k, p in enumerate(tensors):
                p.grad = torch.tensor(normal(10*t + k, *p.shape)*10**normal(10*t + k + 3, *p.shape),
                                      dtype=torch.float32)
            opt.step()
        for k, entry in opt.state_dict()["state"].items():
            flat = {**entry, **entry.get(WRAPPED, {})}
            have = decoded(entry, NAMES[rule])
            assert is_coded(entry)
            assert have["step"] == 5
            for slot, name in NAMES[rule].items():
                want = flat[slot] if k == 2 else theirs.functional.dequantize_blockwise(
                    flat[slot], absmax=flat["absmax" + slot[-1]], code=flat["qmap" + slot[-1]], blocksize=256)
                assert_identical(have[name], want.numpy())
                assert have[name].any()
