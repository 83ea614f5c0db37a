"""States of bitsandbytes' 8-bit optimizers as float32.

``opt.load_state_dict(theirs, convert=True)`` reads such a state dict; `decode` reads a single state.

A code of 8 bits selects one of 256 numbers, and a scale for each block of codes multiplies it. The entry of a parameter
holds "step"; the codes "state1" and, for Adam, "state2"; the 256 numbers "qmap1" and "qmap2"; and the scales "absmax1"
and "absmax2", for blocks of 256 codes (2048 before version 0.44). With block_wise=False, which 0.50 removed, "max1" and
"max2" are one scale for all codes. Parameters of fewer than min_8bit_size=4096 elements have float32 states, without
maps and scales. Since 0.49.2, state_dict() puts all but "step" into a dict of its own under
"__bnb_optimizer_quant_state__", so that FSDP does not gather it. Read in 0.50.2 and in the history of its repository.

The states are the same quantities as in torch. The rest differs:

============== =============== =========================================================================================
bitsandbytes   states          what differs from torch
============== =============== =========================================================================================
SGD            momentum_buffer betas=(momentum, dampening), but dampening and nesterov are ignored
RMSprop        square_avg      betas=(alpha, momentum), but momentum is ignored; centered is refused
Adagrad        sum             starts at 0; lr_decay is refused; betas=(0, 0) mean nothing
Adam, AdamW    exp_avg,        only the default weight_decay. Decay is decoupled in both; on CUDA it also shrinks the
               exp_avg_sq      step just made: p = (p - step)*(1 - lr*weight_decay). No amsgrad
Lion           exp_avg         torch has no Lion; its m, by the name that its first moment would have there
============== =============== =========================================================================================

The decay of SGD, RMSprop and Adagrad is coupled, as in torch; that of Lion is decoupled. LAMB has the states of Adam,
and LARS those of SGD. AdEMAMix, whose state1 is two moments, is refused. Squares of RMSprop and Adagrad are coded with
the signed numbers.

bitsandbytes has rounded its states to the nearest code. In the uppermost decade below a block's largest number that
costs up to 6.2 % (3.3 % without signs); in each decade below, less than twice as much as in the one above it. All below
2.8e-7 of the largest (1.7e-7) is lost. A run goes on from the numbers that bitsandbytes would go on from, and keeps
them in float32.
"""
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ._tensors import arrays

__all__ = ["decode", "dynamic_map"]

WRAPPED = "__bnb_optimizer_quant_state__"
BLOCKS = (256, 2048, 64, 128, 512, 1024, 4096)  # those of its optimizers first
DECADES = 7
ADAM = {"state1": "exp_avg", "state2": "exp_avg_sq"}
NAMES = {  # torch's names for the states of a rule
    "momentum": {"state1": "momentum_buffer"}, "rmsprop": {"state1": "square_avg"}, "adagrad": {"state1": "sum"},
    "adam": ADAM, "adamw": ADAM, "lion": {"state1": "exp_avg"}}


def dynamic_map(signed: bool) -> np.ndarray:
    """The numbers of the 256 codes (Dettmers 2015, "dynamic tree"), in rising order.

    Decade d = 0, ..., 6 reaches from 10**(d-7) to 10**(d-6). It is cut into 2**d intervals of one length, or 2**(d+1)
    without signs, and their middles are the numbers; with signs the negative ones too. 0 and 1 complete them, but not
    -1.

    Parameters
    ----------
    signed : bool
        True for state1 of every optimizer, False for state2.

    Returns
    -------
    ndarray
        256 float32 numbers, bit for bit those of ``bitsandbytes.functional.create_dynamic_map(signed)``.
    """
    numbers = [np.array([0, 1], np.float32)]
    for d in range(DECADES):
        middles = np.float32(10.0**(d + 1 - DECADES)) * _middles(2**d if signed else 2**(d + 1))
        numbers += [middles, -middles] if signed else [middles]
    return np.sort(np.concatenate(numbers))


def _middles(n: int) -> np.ndarray:
    """The middles of n intervals from 0.1 to 1, rounded as torch.linspace does: once per bound, from the nearer end."""
    low, high = np.float32(0.1), np.float32(1)
    width, k = float((high - low) / np.float32(n)), np.arange(n + 1)
    bounds = np.where(k < (n + 1)//2, float(low) + width*k, float(high) - width*(n - k)).astype(np.float32)
    return (bounds[:-1] + bounds[1:]) / np.float32(2)


def decode(codes: Any, absmax: Any, qmap: Any = None, *, signed: bool = True, shape: Sequence[int] | None = None,
           where: str = "decode") -> np.ndarray:
    """The numbers of codes: x[i] = qmap[codes[i]] * absmax[i // block], with i counted in C order.

    Parameters
    ----------
    codes : array of uint8
        The codes, in an array of any shape. All arrays here may be of any library.
    absmax : array of float32
        One scale for each block. The size of a block follows from the lengths of both: a power of two from 64 to 4096.
        The last block may have fewer codes. An array of shape () is one scale for all.
    qmap : array of float32, optional
        The numbers of the codes; by default ``dynamic_map(signed)``. If there are more than 256, the first 256 count:
        versions 0.36 to 0.41 stored 524 unsigned ones.
    signed : bool
        Which numbers are taken if qmap is not given.
    shape : sequence of int, optional
        The shape of the result; by default that of the codes.
    where : str
        The first words of errors.

    Returns
    -------
    ndarray
        float32, bit for bit what ``bitsandbytes.functional.dequantize_blockwise`` gives.

    Raises
    ------
    TypeError
        If something is no array.
    ValueError
        If a dtype is wrong, or the numbers of codes, scales and elements do not fit.
    """
    codes, scales = arrays.on_host(codes, f"{where}: codes"), arrays.on_host(absmax, f"{where}: absmax")
    numbers = dynamic_map(signed) if qmap is None else arrays.on_host(qmap, f"{where}: qmap")
    shape = codes.shape if shape is None else tuple(shape)
    if codes.dtype != np.uint8:
        raise ValueError(f"{where}: codes of {codes.dtype}, but uint8 is needed. Give a state of 8 bits.")
    if numbers.dtype != np.float32 or numbers.ndim != 1 or numbers.size < 256:
        raise ValueError(f"{where}: a qmap of {numbers.dtype} and shape {numbers.shape}, but 256 float32 numbers are "
                         "needed. Leave it out for bitsandbytes' own.")
    if scales.dtype != np.float32 or scales.ndim > 1:
        raise ValueError(f"{where}: an absmax of {scales.dtype} and shape {scales.shape}, but float32 numbers, one per "
                         "block, are needed. Give what was saved with the codes.")
    if int(np.prod(shape, dtype=np.int64)) != codes.size or min(shape, default=0) < 0:
        raise ValueError(f"{where}: {codes.size} codes, but shape {shape} is asked for. Give the shape of the "
                         "parameter.")
    x = numbers[codes.reshape(-1)]
    block = _block(x.size, scales.size, where) if scales.ndim else max(x.size, 1)
    scales, full = scales.reshape(-1), x.size // block
    x[:full*block].reshape(full, block)[...] *= scales[:full, None]
    x[full*block:] *= scales[full:]
    return x.reshape(shape)


def _block(n: int, count: int, where: str) -> int:
    """The length of blocks of which n codes fill `count`: of two or more only one fits, else any will do."""
    for block in BLOCKS:
        if -(-n // block) == count:
            return block
    raise ValueError(f"{where}: {count} scales for {n} codes, but one per 256 codes (or 64, 128, 512, 1024, 2048, "
                     "4096) is needed. Give the absmax that was saved with the codes.")


def is_coded(entry: Mapping[str, Any]) -> bool:
    """Whether a parameter's entry, ``saved["state"][index]``, is of bitsandbytes: of 8 or 32 bits, wrapped or not."""
    return "state1" in entry or WRAPPED in entry


def decoded(entry: Mapping[str, Any], names: Mapping[str, str], where: str = "decoded") -> dict[str, Any]:
    """A parameter's entry, as torch would have saved it: ``decoded(entry, NAMES["adam"])``.

    Parameters
    ----------
    entry : mapping
        One that `is_coded`. It is not changed.
    names : mapping of str
        {"state1": torch's name for it, ...}: all states that the optimizer has. `NAMES` holds them by rule.
    where : str
        What errors begin with.

    Returns
    -------
    dict
        "step" as it is, if there, then float32 arrays of the parameter's shape by torch's names: new ones where
        decoded, views (or copies from a device) where they were float32.

    Raises
    ------
    TypeError
        If something is no array.
    ValueError
        If the states are not those of `names`, are neither float32 nor codes with their scales, are not in C order or
        differ in shape.
    """
    flat = {**entry, **entry.get(WRAPPED, {})}
    slots = [slot for slot in ("state1", "state2") if slot in flat]
    if slots != sorted(names):
        raise ValueError(f"{where}: {', '.join(slots) or 'no state'}, but this optimizer has "
                         f"{', '.join(sorted(names)) or 'none'}. Make the one whose state it is.")
    stored = {slot: arrays.on_host(flat[slot], f"{where}: {slot}") for slot in slots}
    shapes = [x.shape for x in stored.values()]
    if len(set(shapes)) > 1:
        raise ValueError(f"{where}: states of shapes {' and '.join(map(str, shapes))}, but one shape is needed. "
                         "AdEMAMix, which keeps two moments in state1, cannot be read.")
    found = {names[slot]: _state(flat, x, slot, f"{where}: {slot}") for slot, x in stored.items()}
    return {**({"step": flat["step"]} if "step" in flat else {}), **found}


def numbers(rule: str, group: Mapping[str, Any]) -> dict[str, Any]:
    """By torch's names, the hyperparameters that bitsandbytes calls otherwise or does not write down."""
    first = group.get("betas", (0.0,))[0]
    return {"momentum": {"momentum": first, "dampening": 0.0, "nesterov": False},
            "rmsprop": {"alpha": first, "momentum": 0.0}}.get(
        rule, {} if rule == "adagrad" else {"decoupled_weight_decay": True})


def _state(flat: Mapping[str, Any], x: np.ndarray, slot: str, where: str) -> np.ndarray:
    """One state of an entry, whose qmap and scale have the same number."""
    if not x.flags.c_contiguous:  # CPU kernels heed strides, CUDA's do not
        raise ValueError(f"{where}: strides {x.strides} for shape {x.shape}, but C order is needed. Give "
                         "numpy.ascontiguousarray(x) if the run was on the CPU, x.ravel(order='K').reshape(x.shape) if "
                         "it was on CUDA.")
    if x.dtype == np.float32:
        return x
    qmap, absmax, largest = (name + slot[-1] for name in ("qmap", "absmax", "max"))
    key = absmax if absmax in flat else largest
    if key not in flat:
        raise ValueError(f"{where}: {x.dtype} without {absmax}, but codes with it, or float32, are needed. The "
                         "checkpoint is damaged.")
    scale = arrays.on_host(flat[key], f"{where}: {key}")
    if key == largest and scale.size != 1:
        raise ValueError(f"{where}: {key} of shape {scale.shape}, but one number is needed. The checkpoint is damaged.")
    return decode(x, scale.reshape(()) if key == largest else scale, flat.get(qmap), signed=slot == "state1",
                  where=where)
