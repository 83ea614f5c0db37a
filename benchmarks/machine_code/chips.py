"""How long a GPU's cores need for an element against how long its memory needs: an estimate, with no GPU.

Data sheets round, so clocks are taken back from their peaks of float32: TFLOPS = SMs x lanes x 2 x GHz. Rates are
results per clock and SM, one per thread, from the table of arithmetic throughput in NVIDIA's CUDA C++ Programming Guide
(columns 8.0 and 9.0), written down from memory: the guide was not at hand. Those of float32 and float64 agree with the
data sheets' peaks; for 10.0 they are from there, and its other rates are assumed to be those of 9.0.
"""
from collections.abc import Mapping
from typing import NamedTuple

AMPERE = {
    "issue": 128,       # four schedulers, each a warp's instruction a clock (A100 whitepaper)
    "float32": 64,      # A100 whitepaper: 64 cores an SM; the data sheet's 19.5 TFLOPS
    "float64": 32,      # A100 whitepaper; the data sheet's 9.7 TFLOPS
    "integer": 64,      # guide: additions, multiplications, shifts, logic, compares
    "mufu": 16,         # guide: reciprocal, reciprocal square root
    "conversion": 16}   # guide: "all other type conversions"
HOPPER = {**AMPERE,
    "float32": 128,     # H100 whitepaper: 128 cores an SM; the data sheet's 67 TFLOPS
    "float64": 64,      # H100 whitepaper; the data sheet's 34 TFLOPS
    "conversion": 64}   # guide
BLACKWELL = {**HOPPER}  # float32 and float64: the data sheet's 75 and 37 TFLOPS; the rest is assumed

PIPES = {  # the classes of sass.py that a unit works on
    "issue": ("float32", "compare", "float64", "integer", "conversion", "mufu", "load", "store", "local", "control",
              "other"), "float32": ("float32",), "float64": ("float64",), "integer": ("integer", "compare"),
    "mufu": ("mufu",), "conversion": ("conversion",)}


class Chip(NamedTuple):
    """A GPU: multiprocessors (SMs), boost clock in GHz, its memory's peak GB/s, results per clock and SM."""

    cc: tuple[int, int]
    sms: int
    ghz: float
    gbps: float
    rates: dict[str, int]


CHIPS = {
    # A100 whitepaper: SMs and clock, 108 x 64 x 2 x 1.41 = 19.5 TFLOPS; data sheet: bandwidth, SXM (PCIe: 1555, 1935)
    "A100 40GB": Chip((8, 0), 108, 1.41, 1555, AMPERE), "A100 80GB": Chip((8, 0), 108, 1.41, 2039, AMPERE),
    # H100 whitepaper: SMs; data sheet: 67 TFLOPS = 132 x 128 x 2 x 1.98 (its PCIe sister: 1.755), bandwidth
    "H100 SXM": Chip((9, 0), 132, 1.98, 3350, HOPPER),
    # NVIDIA's data sheet: 67 TFLOPS, bandwidth; the chip is the H100's
    "H200 SXM": Chip((9, 0), 132, 1.98, 4800, HOPPER),
    # SMs as listed on hmc-tech.com, 18,944 cores; NVIDIA's data sheet does not say. Data sheets: HGX B200, 75 TFLOPS a
    # GPU = 148 x 128 x 2 x 1.98; DGX B200, 64 TB/s for eight, a round number; others list 7,700
    "B200": Chip((10, 0), 148, 1.98, 8000, BLACKWELL)}


class Estimate(NamedTuple):
    """Core time over memory time; above 1 the kernel is not bound by memory. `unit`: which one is the tightest."""

    ratio: float
    unit: str


def core_over_memory(hot: Mapping[str, int], elements: int, moved: float, chip: Chip) -> Estimate:
    """The time that the tightest unit needs for an element over the time in which its bytes come and go.

    ``hot`` are the instructions of a trip by class (`sass.Figures`), of `elements` elements; `moved` bytes are read and
    written for one. The units: the schedulers, for every instruction, and `PIPES`, each at its peak rate.

    Assumed: the memory gives its peak bandwidth (real copies reach about nine tenths of it, which would lower the
    ratio), every byte comes from there and goes there, and the clock is the boost clock. There are always enough warps
    to hide latencies, so the units work side by side and the tightest one decides. Float32 compares, moves, and
    multiplications of integers go to one unit of integers; instructions for a whole warp (U...) are counted there, too.
    No slow path of a division or square root is taken; both sides of other branches are. Left out: the caches' own
    bandwidth, replays, the head and the tail of a tile, its first loads, and the launch.
    """
    if unknown := set(hot) - set(PIPES["issue"]):
        raise ValueError(f"core_over_memory: classes {sorted(unknown)} belong to no unit. Add them to chips.PIPES.")
    core = {pipe: sum(hot.get(kind, 0) for kind in kinds)/elements/(chip.rates[pipe]*chip.sms*chip.ghz)
            for pipe, kinds in PIPES.items()}
    unit = max(core, key=core.__getitem__)
    return Estimate(core[unit]/(moved/chip.gbps), unit)


def fastest(cc: tuple[int, int]) -> str:
    """The chip of an architecture whose memory is the fastest: its ratio is the highest."""
    return max((name for name, chip in CHIPS.items() if chip.cc == cc), key=lambda name: CHIPS[name].gbps)
