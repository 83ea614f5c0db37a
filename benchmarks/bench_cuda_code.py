"""Figures of the CUDA step kernels as compiled code: exact, without a GPU, the same everywhere. Lower is better.

They follow the toolkit as much as the source. So its version is a parameter: asv stores each figure under it, shows it,
and compares only cases whose parameters are equal. (Under a new unit the old points would stay in the series, and a new
`version` would drop them.) asv takes the values of a parameter from one environment, so no matrix may hold two
toolkits. Where what is needed is not installed this module has no benchmarks.
"""
import importlib.metadata
from functools import lru_cache

import numpy as np

import fastopt
from fastopt.optimizers import ALL

from . import common
from .gate import inside
from .machine_code import chips, cuda_c, sass

STORAGE = ["f32"] if common.QUICK else list(common.FORMATS)
ARCHITECTURES = {"sm_90": (9, 0)} if common.QUICK else {"sm_80": (8, 0), "sm_90": (9, 0), "sm_100": (10, 0)}
COMPILERS = ("nvidia-nvvm", "nvidia-nvjitlink", "nvidia-cuda-nvrtc")


def installed() -> str:
    """The version of NVIDIA's compilers (versions, where they differ), or "none" where one of the tools is missing."""
    try:
        sass.nvdisasm()
        importlib.metadata.version("numba-cuda")
        return "CUDA " + " ".join(sorted({importlib.metadata.version(name) for name in COMPILERS}))
    except (importlib.metadata.PackageNotFoundError, FileNotFoundError):
        return "none"


TOOLKIT = installed()


def measured(image: bytes, written: float, moved: float) -> dict[str, float]:
    """The figures of a kernel of which a thread writes so many bytes for an element, and memory moves so many."""
    found = sass.figures(image, written)
    if found.toolkit and found.toolkit not in TOOLKIT:
        raise ValueError(f"bench_cuda_code: a kernel made by toolkit {found.toolkit}, but {TOOLKIT} is what pip lists.")
    core = chips.core_over_memory(found.hot, found.elements, moved, chips.CHIPS[chips.fastest(found.cc)])
    threads = inside.part(fastopt, "_cuda.loops").THREADS
    return {"registers": found.usage.registers, "resident": found.usage.resident(threads), "spilled": found.spilled,
            "float64": found.float64, "narrow": found.narrow,
            "instructions": round(found.per_element, 3), "core_over_memory": round(core.ratio, 3)}


def ours(rule: str, storage: str, cc: tuple[int, int], **how: bool) -> dict[str, float]:
    stored, state = common.FORMATS[storage]
    slots = [stored]*2 + [state or ("f64" if stored == "f64" else "f32")]*len(ALL[rule].rule.state)
    sizes = [np.dtype(common.DTYPES[name]).itemsize for name in slots]
    image = inside.cuda_image(fastopt, rule, " ".join(slots), cc, **how)
    return measured(image, sum(sizes[1:]), sum(sizes) + sum(sizes[1:]))


def of_blocks(rule: str, cc: tuple[int, int]) -> dict[str, float]:
    """With a float32 gradient and parameter, and 8-bit states. The thread that stores exponents does so for 128."""
    states = ["q44" if name in ALL[rule].rule.nonnegative else "q43" for name in ALL[rule].rule.state]
    count, at_once, block = len(states), 4, 128
    return measured(inside.cuda_image(fastopt, rule, " ".join(["f32 f32", *states]), cc),
                    4 + count + count/at_once, 12 + 2*count*(1 + 1/block))


@lru_cache(maxsize=1)
def tables() -> dict[tuple[str, ...], dict[str, float]]:
    """{(rule, format, chip), (hand-written kernel, chip): figures}."""
    found: dict[tuple[str, ...], dict[str, float]] = {}
    for architecture, cc in ARCHITECTURES.items():
        found |= {(rule, storage, architecture): ours(rule, storage, cc) for rule in common.RULES for storage in STORAGE
                  if storage == "f32" or rule in Formats.params[0]}
        found["all pieces", architecture] = ours("adam", "f32", cc, all_pieces=True)
        for name in cuda_c.SOURCES:
            found[name, architecture] = measured(cuda_c.adam(name, cc), cuda_c.STORED, cuda_c.MOVED)
    return found


class Rules:
    """Every rule in float32."""

    params, param_names = (common.RULES, list(ARCHITECTURES), [TOOLKIT]), ["rule", "architecture", "toolkit"]
    version, timeout = "1", 600

    def setup_cache(self):
        """All kernels at once: 75 of them, compiled anew or not; most of the time is nvdisasm's start."""
        return tables()

    setup_cache.timeout = 3600

    def look_up(self, found, figure, rule, architecture, toolkit, storage="f32"):
        return found[rule, storage, architecture][figure]

    def track_registers(self, found, *case):
        """Registers of a thread: more than 64 (of 256 threads) leave room for fewer than four blocks."""
        return self.look_up(found, "registers", *case)

    def track_spilled(self, found, *case):
        """Bytes of local memory of a thread, and loads and stores of it: 0, or a reason to look."""
        return self.look_up(found, "spilled", *case)

    def track_float64(self, found, *case):
        """Float64 instructions in the whole kernel: 0, unless a format is float64."""
        return self.look_up(found, "float64", *case)

    def track_instructions(self, found, *case):
        """What a thread issues for an element in the loop of wide accesses, without slow paths."""
        return self.look_up(found, "instructions", *case)

    def track_narrow(self, found, *case):
        """Global accesses in that loop of less than 16 bytes, on sm_100 of less than 32."""
        return self.look_up(found, "narrow", *case)

    def track_core_over_memory(self, found, *case):
        """Estimated time of the cores over the memory's, on the chip with the fastest memory; chips.py says how."""
        return self.look_up(found, "core_over_memory", *case)

    track_registers.unit, track_spilled.unit, track_float64.unit = "registers", "bytes + accesses", "instructions"
    track_instructions.unit, track_narrow.unit = "instructions/element", "accesses"
    track_core_over_memory.unit, track_core_over_memory.version = "core/memory time", "2"  # since the H200 is known


class Formats(Rules):
    """One rule with one state and one with two, in every other format."""

    params = (common.two_or("momentum", "adam"), list(ARCHITECTURES), [TOOLKIT], STORAGE[1:] or STORAGE)
    param_names = (*Rules.param_names, "format")


class Blocks(Rules):
    """8-bit states: instructions limit these kernels on fast memory, and blocks of threads ask for too few bytes."""

    params, param_names = (common.two_or("momentum", "adam"), list(ARCHITECTURES), [TOOLKIT]), Rules.param_names

    def setup_cache(self):
        return {(rule, "q8", name): of_blocks(rule, cc) for rule in Blocks.params[0]
                for name, cc in ARCHITECTURES.items()}

    setup_cache.timeout = 3600

    def look_up(self, found, figure, rule, architecture, toolkit, storage="q8"):
        return found[rule, storage, architecture][figure]

    def track_resident(self, found, *case):
        """Blocks of 256 threads that a multiprocessor holds at a time. Higher is better."""
        return self.look_up(found, "resident", *case)

    track_resident.unit = "blocks"


class HandWritten:
    """Adam in float32 against CUDA C++ with float4, compiled by NVRTC in the same run, with the same rounding."""

    params, param_names, version, timeout = (list(ARCHITECTURES), [TOOLKIT]), ["architecture", "toolkit"], "2", 600
    setup_cache = Rules.setup_cache

    def over(self, found, ours, name, architecture):
        return round(found[(*ours, architecture)]["instructions"]/found[name, architecture]["instructions"], 3)

    def track_over_same_work(self, found, architecture, toolkit):
        """Instructions for an element with gradient factor, clipping and both decays, over those of the same work."""
        return self.over(found, ["all pieces"], "same work", architecture)

    def track_over_bare(self, found, architecture, toolkit):
        """Instructions of a plain step, over those of the paper's lines alone."""
        return self.over(found, ["adam", "f32"], "bare", architecture)

    track_over_same_work.unit = track_over_bare.unit = "x"


if TOOLKIT == "none":
    del Rules, Formats, Blocks, HandWritten  # nothing can be compiled
