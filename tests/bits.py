"""Digests of what steps leave in memory, to compare machines: the bits are the formula's, on any processor.

``python tests/bits.py FILE [OTHER]`` takes steps of every rule and in every storage and writes FILE, a JSON of
{case: digest}. With OTHER, the file of another machine, it says which cases differ; exit status 1 if any does.
"""
import hashlib
import json
import sys
from pathlib import Path

import numpy as np
from conftest import OPTIMIZERS, OWN, SHARED, stored
from reference import MIXES, Twin, made

SIZES = (1, 257, 4_097, 70_001)  # the last is shared by two threads
PLAIN = ("f32", "f64", "f16 f16", "bf16s", "q8")


def numbers(seed, n, lowest):
    """By integers and powers of two, which no library of mathematics rounds."""
    rng = np.random.default_rng(seed)
    return np.ldexp(rng.integers(-2**24, 2**24, n, endpoint=True).astype(float), rng.integers(lowest, -22, n))


def digest(name, mix, threads, hyper, how):
    """Of all parameters and states after four steps, whose third has subnormal gradients, and of the norms."""
    form = MIXES[mix][0]
    params = [stored(numbers(k, n, -30), form) for k, n in enumerate(SIZES)]
    opt, found = made(name, params, mix, threads=threads, seed=5, **hyper), hashlib.sha256()
    for t in range(4):
        opt.step([stored(numbers((t, k), n, -170 if t == 2 else -40), form) for k, n in enumerate(SIZES)], **how)
        found.update(repr(opt.grad_norm).encode())
    for k in range(len(SIZES)):
        for part in (part for slot in Twin(opt).have(k) for part in slot):
            assert part.dtype.kind != "f" or np.isfinite(part).all(), (name, mix)  # the bits of NaN are a processor's
            found.update(part.tobytes())
    return found.hexdigest()[:16]


def digests(names=tuple(OPTIMIZERS), pieced=("adam",)):
    """Every rule in some storages, on one thread and two; some rules in all, with clipping and weight decay."""
    plain = [(name, mix, threads, {}, {}) for name in names for mix in PLAIN for threads in (1, 2)]
    asked = [(name, mix, 2, SHARED[1], {"clip_norm": 0.5, "clip_value": 0.1, "grad_factor": 0.3})
             for name in pieced for mix in MIXES]
    return {f"{name}, {mix}, {threads} threads, {how or 'plain'}":
            digest(name, mix, threads, {**OWN[name][0], **hyper}, how)
            for name, mix, threads, hyper, how in plain + asked}


def different(found, other):
    """The cases whose digests differ, or that only one of the machines has."""
    return sorted(case for case in {**found, **other} if found.get(case) != other.get(case))


def main(file, other=None):
    found = digests()
    Path(file).write_text(json.dumps(found, indent=1))
    wrong = different(found, json.loads(Path(other).read_text())) if other else []
    print(*(f"differs: {case}" for case in wrong), f"{len(found)} cases, {len(wrong)} differ", sep="\n")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
