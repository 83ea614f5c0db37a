"""Cures for what is no array that kernels take; `x` is what was given. Each works and loses nothing: a test runs it."""
from collections.abc import ItemsView, Iterable
from typing import Any

import numpy as np

AS_FLOATS = "numpy.asarray(x, numpy.float64)"
NUMBERS = "Give numbers of one of these."
REAL_ARRAY = "Give its real view, numpy.ascontiguousarray(x, numpy.complex128).view(numpy.float64)."
REAL_TENSOR = "Give its real view, torch.view_as_real(x.detach().resolve_conj())."


def of_torch(x: Any) -> str:
    """What makes a tensor of the CPU one that NumPy can see."""
    if x.device.type == "meta":
        return "It has no numbers yet: give torch.zeros_like(x, device='cpu')."
    if str(x.layout) != "torch.strided":
        return "Give x.to_dense()."
    if x.is_quantized:
        return "Give x.dequantize()."
    if x.is_conj():
        return "Give x.resolve_conj()."
    if x.is_neg():
        return "Give x.resolve_neg()."
    if x.is_complex():
        return "Give x.to(torch.complex64)."
    return "Give x.double()." if x.dtype.itemsize < 8 or not x.is_floating_point() else "Give a plain torch.Tensor."


def of_leaf(x: Any) -> str:
    """What makes an array, of any library, one of NumPy's floats."""
    if isinstance(x, np.ndarray):
        return REAL_ARRAY if x.dtype.kind == "c" else of_dtype(x, x)
    if not hasattr(x, "untyped_storage"):
        return of_object(x, "params")
    if str(x.layout) != "torch.strided" or x.device.type == "meta" or x.is_quantized:
        return of_torch(x)
    return REAL_TENSOR if x.is_complex() else "Give x.double().numpy(force=True)."


def of_dtype(array: Any, original: Any) -> str:
    """What gives an array a dtype that kernels know."""
    if not isinstance(array, np.ndarray):
        return _on_device(array.dtype, original)
    if hasattr(original, "untyped_storage"):
        return of_torch(original)
    if isinstance(original, (bytes, bytearray, memoryview)) and array.itemsize == 1:
        return "Say what its bytes are: numpy.frombuffer(x, numpy.float32)."
    kind, names = array.dtype.kind, array.dtype.names
    if kind in "fc" and not array.dtype.isnative:
        return f"Convert it: numpy.asarray(x, numpy.{array.dtype.name})."
    if kind == "c":
        return "Convert it: numpy.asarray(x, numpy.complex128)."
    if names:
        return "Give numpy.lib.recfunctions.structured_to_unstructured(x)." if _numeric(array.dtype) else NUMBERS
    if kind == "O" and array.ndim == 1 and array.size and all(np.ndim(a) for a in array):
        return "Give its arrays in a list: list(x)."
    return f"Convert it: {AS_FLOATS}." if kind not in "mM" and _floats(array) else NUMBERS


def _on_device(dtype: np.dtype, x: Any) -> str:
    """What makes floats of an array on a device; Numba's has neither `astype` nor, in foreign byte order, a kernel."""
    name = "complex128" if dtype.kind == "c" else "float64"
    if callable(getattr(x, "copy_to_host", None)):
        return f"Convert it on the host: numba.cuda.to_device(x.copy_to_host().astype(numpy.{name}))."
    return f"Convert it: x.astype(numpy.{name})."


def _numeric(dtype: np.dtype) -> bool:
    return all(_numeric(dtype[name]) for name in dtype.names) if dtype.names else dtype.base.kind in "biuf"


def _floats(x: Any) -> bool:
    """Whether NumPy makes floats of it, and of no None among it."""
    try:
        found = np.array(x, np.float64)
        return not np.isnan(found).any() or not any(a is None for a in np.array(x, object).flat)
    except (TypeError, ValueError, OverflowError):
        return False


def of_object(x: Any, where: str) -> str:
    """What to give instead of something that is no array."""
    if x is None:
        return ("Leave it out." if where.startswith("params") else
                "Give zeros, numpy.zeros_like(parameter), or leave the parameter out of the optimizer.")
    for dense in ("toarray", "todense", "numpy"):
        if callable(getattr(x, dense, None)):
            return f"Give x.{dense}()."
    if callable(getattr(x, "parameters", None)):
        return "Give list(x.parameters())."
    if isinstance(x, ItemsView):
        return "Collect its arrays: dict(x)."
    if _floats(x):
        return f"Make it one: {AS_FLOATS}."
    if isinstance(x, Iterable) and not isinstance(x, (str, bytes, list, tuple)):
        return "Collect its arrays: list(x); of pairs, dict(x)."
    return "Give an array of numbers."
