"""Torch's tensors as fastopt takes them, and arrays as torch takes them; tensors that are spread over processes."""
from math import prod
from typing import Any

import numpy as np
import torch

from .. import rules
from .._formats.catalogue import Format
from .._rule.rule import Rule
from .._tensors import arrays
from .._tensors.backend import in_memory_order, out_of_memory_order
from ..storage import coded_bytes, decode, encode

PLAIN = torch.Tensor, torch.nn.Parameter
DENSE_RULES, ENTRIES = (rules.momentum, rules.nesterov), (rules.sgd, rules.adagrad)
DTYPES = {"f64": torch.float64, "f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}


def local(x: Any) -> torch.Tensor:
    """The part of a tensor that lies in this process: all of it, but of a DTensor."""
    return x if type(x) in PLAIN or not hasattr(x, "to_local") else x.to_local()


def cut_as(x: Any, like: Any) -> torch.Tensor:
    """A gradient, cut among the processes as its parameter is."""
    if local(like) is not like and x.placements != like.placements:
        x = x.redistribute(placements=like.placements)
    return local(x)


def spread(x: torch.Tensor, like: Any) -> torch.Tensor:
    """The tensor that is cut among the processes as `like` is, and of which x is the part in this one."""
    if local(like) is like:
        return x
    from torch.distributed.tensor import DTensor
    return DTensor.from_local(x, like.device_mesh, like.placements, run_check=False, shape=like.shape,
                              stride=like.stride())


def first_of(x: Any) -> int:
    """How many elements of the whole tensor lie before the part in this process."""
    if local(x) is x:
        return 0
    from torch.distributed.tensor._utils import compute_local_shape_and_global_offset
    _, offset = compute_local_shape_and_global_offset(x.shape, x.device_mesh, x.placements)
    return sum(at*prod(x.shape[d + 1:]) for d, at in enumerate(offset))


def given(x: torch.Tensor, where: str) -> Any:
    """A tensor as fastopt's optimizers take it: in this machine's memory as an array of NumPy, which is faster."""
    return x if x.is_cuda else arrays.own_view(x, where)


def resolved(x: torch.Tensor) -> torch.Tensor:
    """The tensor, or a copy where its memory holds the conjugates of its numbers, or their negatives."""
    return x.resolve_conj().resolve_neg()


def usual(gradient: Any, rule: Rule) -> Any:
    """A gradient as fastopt's optimizers take it.

    Torch's SGD and Adagrad take sparse ones for what they stand for, and where an entry is 0, Adagrad changes nothing.
    """
    if gradient is None:
        return None
    if gradient.is_sparse:
        exact = rule in DENSE_RULES or (rule in ENTRIES and (gradient.sparse_dim() != 1 or gradient.is_cuda))
        return gradient.to_dense() if exact else gradient
    return resolved(gradient)


def tensor_of(array: np.ndarray, format: Format) -> torch.Tensor:
    """The tensor that has the memory of an array."""
    if array.dtype == np.uint16:
        found = torch.from_numpy(array.view(np.int16))
        return found.view(torch.bfloat16) if format.name.rstrip("s") == "bf16" else found
    return torch.from_numpy(array)


def new(memory: torch.Tensor, format: Format, slot: int, first: float) -> torch.Tensor:
    """A state beside this memory, each element of which is `first`."""
    dtype = DTYPES[format.name.rstrip("s")]
    if memory.is_cuda:
        return torch.full_like(memory, first, dtype=dtype)
    found = arrays.zeros_like(arrays.view(memory, ""), format.dtype, order_of(memory), slot)
    state = tensor_of(found, format)
    return state.fill_(first) if first else state


def fitting(value: Any, like: torch.Tensor, memory: torch.Tensor, format: Format, coded: Format, slot: int,
            first: float, where: str) -> torch.Tensor:
    """A state in this format beside this memory, a parameter's: the value if it is that, else its numbers in a new
    tensor. Without a value all elements are `first`. Bytes are blocks of the format `coded`."""
    x = None if value is None else local(value).detach()
    if x is not None and x.is_sparse:  # the velocity of torch's SGD
        x = value = x.to_dense()
    if memory.is_complex():
        parts = torch.view_as_real(resolved(x)) if x is not None and x.is_complex() else x
        found = fitting(parts, memory, torch.view_as_real(memory), format, coded, slot, first, where)
        whole = found.dtype in (torch.float32, torch.float64)
        return value if found is parts else spread(torch.view_as_complex(found) if whole else found, like)
    if x is not None and x.dtype == torch.uint8:
        if format.block and x.shape == (coded_bytes(memory.numel()),) and x.device == memory.device:
            return value
        x = numbers_of(x, memory, coded)
        value = spread(x, like)
    if x is not None and x.shape != memory.shape:
        raise ValueError(f"{where} has shape {tuple(x.shape)}, but that of its parameter is {tuple(memory.shape)}. "
                         "Give the state of this model.")
    if format.block:
        numbers = np.full(memory.numel(), first) if x is None else in_memory_order(
            x.double().numpy(force=True), order_of(memory))
        return torch.from_numpy(encode(numbers, format)).to(memory.device)
    if x is None:
        return spread(new(memory, format, slot, first), like)
    if (x.dtype, x.device) == (DTYPES[format.name.rstrip("s")], memory.device) and (
            x.stride() == memory.stride() or x.numel() < 2):
        return value
    return spread(new(memory, format, slot, 0.0).copy_(x), like)


def order_of(memory: torch.Tensor) -> tuple[int, ...]:
    return arrays.memory_order(arrays.view(memory, "")) or ()


def numbers_of(x: torch.Tensor, memory: torch.Tensor, format: Format) -> torch.Tensor:
    """The numbers of a state in blocks, in float32."""
    row = decode(x.numpy(force=True), format, (memory.numel(),))
    return torch.from_numpy(out_of_memory_order(row, tuple(memory.shape), order_of(memory))).to(memory.device)
