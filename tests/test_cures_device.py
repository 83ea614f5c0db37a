"""Cures of messages about arrays on a CUDA device: each is executed on the stand-in driver, and loses nothing."""
import copy
import pickle

import numpy as np
import pytest
from cures import check, same

pytest.importorskip("numba_cuda", reason="the extra `cuda` is not installed")

from devices import Interface, numba_cuda, to_device, to_host

import fastopt
from fastopt import SGD
from fastopt._tensors.device_array import DeviceArray

f32 = np.float32
COMPLEX = np.array([1 + 2j, 3 - 4j])


def stepped(x, want):
    """A step with these gradients, from 0."""
    w = to_device(np.zeros(np.shape(want), np.result_type(*want, 1.0)))
    opt = SGD(w, lr=1.0)
    opt.step(x)
    same(to_host(w), np.asarray(want, to_host(w).dtype))


def gradient(x, cured):
    """Numbers on the device that are no gradient, and what they are as one."""
    given = to_device(x)
    wanted = x.astype(complex if x.dtype.kind == "c" else float)
    return (lambda: stepped(given, 0 - wanted)), lambda: stepped(cured(given), 0 - wanted)


def on_host(x, kind=np.float64):
    return numba_cuda().to_device(x.copy_to_host().astype(kind))


def numbers(n=6):
    return to_device(np.ones(n, f32))


def moving(spoilt, cure, want=-2.5):
    """Momentum whose parameter became another array after a step; what is done, and where the next step leads."""
    own = to_device(np.zeros((2, 3), f32))
    p = Interface(own, stream=1)
    opt = fastopt.Momentum(p, lr=1.0, momentum=0.5)
    opt.step(to_device(np.ones((2, 3), f32)))
    p.array = to_device(spoilt(to_host(own)))
    opt = cure(p, own, opt) or opt
    opt.step(to_device(np.ones(p.array.shape, f32)))
    same(to_host(p.array).astype(float), np.full((2, 3), want))


def late(capturable=None):
    """An optimizer whose first parameter has had a step less than the second."""
    old = SGD([numbers(), numbers()])
    old.step([None, numbers()])
    new = SGD([numbers(), numbers()], capturable=capturable)
    new.load_state_dict(old.state_dict())
    return new


def back(p, own, opt):
    p.array = own


def anew(p, own, opt):
    new = fastopt.Momentum(p, lr=1.0, momentum=0.5)
    new.load_state_dict(opt.state_dict(), convert=True)
    return new


def nothing(*_):
    pass


def scheduled(moves):
    """A schedule that moves the parameter, the gradient, or neither."""
    arrays = {name: Interface(numbers(), stream=1) for name in "pg"}

    def lr(t):
        if moves:
            arrays[moves].array = numbers()
        return 0.5
    SGD(arrays["p"], lr=lr).step(arrays["g"])


def of_interface(**changes):
    whole = numbers()
    return SGD(numbers(), lr=1.0).step(Interface(whole, **changes))


def cases():
    """Made when the stand-in is there: what raises; and what the message says to do instead."""
    whole, first = numbers(13), numbers()
    at = whole.device_ctypes_pointer.value
    array = DeviceArray(at, [6], f32)
    uneven, shifted = Interface(whole, shape=(6,), strides=(6,)), Interface(whole, data=(at + 2, False), shape=(6,),
                                                                            strides=None)
    masked = Interface(first, mask=np.ones(6, bool))
    return [gradient(np.array([1, 2**53 - 1]), on_host), gradient(np.array([1.5, -2], ">f4"), on_host),
            gradient(np.array([True, False]), on_host),
            gradient(COMPLEX.astype(">c16"), lambda x: on_host(x, np.complex128)),
            (lambda: stepped(uneven, [-1]*6), lambda: stepped(numbers(), [-1]*6)),
            (lambda: stepped(shifted, [-1]*6), lambda: stepped(first, [-1]*6)),
            (lambda: stepped(masked, [0]*6), lambda: stepped(to_device(np.zeros(6, f32)), [0]*6)),
            (lambda: of_interface(typestr="?!"), of_interface),
            (lambda: setattr(array, "shape", (2, 3)), lambda: DeviceArray(at, [2, 3], f32)),
            (lambda: copy.copy(array), lambda: same(array.copy_to_host(), np.ones(6, f32))),
            (lambda: pickle.dumps(array), lambda: pickle.dumps(array.copy_to_host())),
            (lambda: array.__array__(copy=False), lambda: same(np.asarray(array), np.ones(6, f32))),
            (lambda: moving(np.transpose, nothing), lambda: moving(np.transpose, back)),
            (lambda: moving(lambda a: a.astype(float), nothing),
             lambda: (moving(lambda a: a.astype(float), back), moving(lambda a: a.astype(float), anew))),
            (lambda: moving(np.asfortranarray, nothing),
             lambda: (moving(np.asfortranarray, back), moving(np.asfortranarray, anew))),
            (lambda: scheduled("p"), lambda: scheduled("")), (lambda: scheduled("g"), lambda: scheduled("")),
            (lambda: SGD(numbers()).step(first, grad_factor=numbers(2)),
             lambda: SGD(numbers()).step(first, grad_factor=numbers(1))),
            (lambda: SGD(numbers()).tabulate(), lambda: SGD(numbers(), capturable=5).tabulate()),
            (lambda: SGD(numbers()).step(first, zero_grads=True, skip_nonfinite=True),
             lambda: (SGD(numbers()).step(first, skip_nonfinite=True), SGD(numbers()).step(first, zero_grads=True))),
            (lambda: SGD(numbers(), capturable="all"), lambda: SGD(numbers(), capturable=10_000)),
            *[(lambda call=call: call(SGD([numbers(), numbers()], capturable=5), [None, first]),
               lambda call=call: (call(SGD([numbers(), numbers()], capturable=5), [first, first]),
                                  call(SGD([numbers(), numbers()]), [None, first]))) for call in (SGD.step, SGD.norm)],
            (lambda: late(5).step([first, first]), lambda: late().step([first, first])),
            (lambda: SGD(numbers()).step(first, norm=1.0, clip_norm=1.0, grad_factor=numbers(1)),
             lambda: (SGD(numbers()).step(first, norm=1.0, clip_norm=1.0, grad_factor=0.5),
                      SGD(numbers()).step(first, clip_norm=1.0, grad_factor=numbers(1)))),
            (lambda: SGD([numbers(), numbers()], capturable=5).remove("params[0]"),
             lambda: SGD([numbers(), numbers()]).remove("params[0]"))]


# Tensors of torch, DLPack, memory that is gone: test_cuda_arrays.py; captures: test_cuda_streams.py; `_bound`: binding.
ELSEWHERE = ("norm", "_copied", "_seen", "from_torch", "from_dlpack", "_check_capturable", "_bound", "_tables",
             "look_ahead", "_check", "_check_known")


def test_what_the_messages_say_to_do_works(stand_in):
    check(cases(), "device", ELSEWHERE)
