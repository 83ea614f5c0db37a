"""Where the memory of torch's tensors lies, for compiled code that reads it as `headers` reads NumPy's arrays.

A tensor's object points to a TensorImpl, and that to a StorageImpl: structures of C++ that torch's own header files
(c10/core/TensorImpl.h) show to extensions. Another version may lay them out otherwise: `usable` proves the offsets
once, and where they are others, tensors go the long way.
Asking tensors in Python takes most of a step of many small ones (`benchmarks.studies.torch_steps`).
"""
import ctypes
import sys
from functools import lru_cache
from typing import Any

from .._kernels.memory import WORD

OBJECT = object.__basicsize__//WORD                       # of a tensor's object: the TensorImpl
STORAGE, AUTOGRAD, COUNTER, NDIM, AXES, OFFSET, KIND, KEYS = 2, 3, 5, 7, 8, 18, 20, 21
INLINE = 5                                                # axes that have room in it; of more, AXES says where they are
DATA, CONTEXT, SIZE = 2, 4, 6                             # of a StorageImpl: the address, its owner, the bytes
DTYPE_AND_DEVICE = 0xFFFFFFFF                             # of the word KIND
GRADIENT = 4 if sys.platform == "darwin" else 5           # of an AutogradMeta: the TensorImpl, behind a std::string
CHANGES, INT = 2, 0xFFFFFFFF                              # of a VersionCounter: how many, as a C int


def read(base: int, k: int) -> int:
    """Word k of a structure."""
    return ctypes.c_int64.from_address(base + WORD*k).value


def words_of(x: Any) -> list[int]:
    """What must not change of a tensor: type, kinds of behaviour, dtype and device, dimensions, shape, strides."""
    impl = read(id(x), OBJECT)
    return [id(type(x)), read(impl, KEYS), read(impl, KIND) & DTYPE_AND_DEVICE, x.ndim, *x.shape, *x.stride()]


def place_of(x: Any) -> list[int]:
    """Where the memory of a tensor lies: address and owner of its storage, the first element in it, its bytes."""
    impl = read(id(x), OBJECT)
    storage = read(impl, STORAGE)
    return [read(storage, DATA), read(storage, CONTEXT), read(impl, OFFSET), read(storage, SIZE)]


def readable(x: Any) -> bool:
    """Whether an object is one of torch's dense tensors, of no class of its own, and its memory lies as expected."""
    torch = sys.modules.get("torch")
    return (torch is not None and type(x) in (torch.Tensor, torch.nn.Parameter) and x.layout is torch.strided
            and usable())


def _proved(torch: Any, x: Any) -> bool:
    """Whether what is read of a tensor is what it says of itself. No pointer is followed that is not proved."""
    storage, impl = x.untyped_storage(), read(id(x), OBJECT)
    if impl != x._cdata or read(impl, STORAGE) != storage._cdata or read(impl, NDIM) != x.ndim:
        return False
    axes = impl + AXES*WORD if x.ndim <= INLINE else read(impl, AXES)
    strides = axes + (INLINE if x.ndim <= INLINE else x.ndim)*WORD
    data, _, offset, size = place_of(x)
    return ([read(axes, d) for d in range(x.ndim)] == [*x.shape]
            and [read(strides, d) for d in range(x.ndim)] == [*x.stride()]
            and read(impl, KEYS) & 2**64 - 1 == torch._C._dispatch_keys(x).raw_repr()
            and (data, offset, size) == (storage.data_ptr(), x.storage_offset(), storage.nbytes()))


@lru_cache(maxsize=1)
def usable() -> bool:
    """Whether tensors lie as expected in this version of torch."""
    torch = sys.modules["torch"]
    try:
        some = [torch.zeros(11, 13, 17, dtype=dtype)[1:, ::2].transpose(0, 2) for dtype in (
            torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64, torch.complex128)]
        more = [torch.zeros(()), torch.nn.Parameter(torch.zeros(0, 3)), torch.zeros(2, 3, 1, 2, 3, 2)[:, 1:],
                torch.zeros(3, dtype=torch.complex64).conj()]
        if not all(_proved(torch, x) for x in (*some, *more)):  # those of more axes come last
            return False
        kinds = [words_of(x)[2] for x in (*some, torch.zeros(2, 3, device="meta"))]
        if len({*kinds}) < len(kinds):
            return False
        before, _copied_when_written = place_of(more[2]), torch._lazy_clone(more[2])
        return [a == b for a, b in zip(before, place_of(more[2]), strict=True)] == [True, False, True, True]
    except AttributeError:
        return False


@lru_cache(maxsize=1)
def gradients_usable() -> bool:
    """Whether the gradients of tensors, and the counters of their changes, lie as expected, too."""
    torch = sys.modules["torch"]
    with torch.inference_mode(False), torch.no_grad():
        x = torch.zeros(3)
        impl = read(id(x), OBJECT)
        found = [read(impl, AUTOGRAD)]
        x.requires_grad_()
        found += [read(impl, AUTOGRAD), read(impl, COUNTER)]
        with torch.inference_mode():
            other = torch.zeros(3)
        found.append(read(read(id(other), OBJECT), COUNTER))
        if not usable() or [word > 0 and word % WORD == 0 for word in found] != [False, True, True, False]:
            return False  # these words are no pointers that come and go with what they should point to
        for k in range(3):
            x.grad = torch.zeros(3)
            x += k
            if read(found[1], GRADIENT) != x.grad._cdata or {read(found[2], CHANGES) & INT, x._version} != {k + 1}:
                return False
    return True
