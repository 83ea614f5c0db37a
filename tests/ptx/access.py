"""What every instruction does with memory: finds the state space and the places, checks for races, counts traffic."""
import numpy as np

from .memory import Scratch
from .races import Clock, Races
from .text import MODULE_ADDRESS, Register
from .values import U32, U64, PTXError

SECTOR = np.uint64(32)  # bytes that memory moves at once
WINDOWS = {"shared": 0xFFFF_FE00_0000_0000,
           "local": 0xFFFF_FF00_0000_0000}  # where generic addresses name memory of blocks and threads
WINDOW_BITS = np.uint64(40)
COUNTERS = {"load": ("loaded_bytes", "loaded_sectors", "load_requests"),
            "store": ("stored_bytes", "stored_sectors", "store_requests")}


class Spaces:
    """The state spaces of a launch, with bytes of dynamic shared memory; `stats` counts traffic, finds races."""

    def __init__(self, kernel, grid, memory, dynamic_shared, stats):
        self.kernel, self.grid, self.memory, self.stats = kernel, grid, memory, stats
        self.traffic = dict.fromkeys((name for names in COUNTERS.values() for name in names), 0)
        static = -(-kernel.shared//16)*16 if kernel.dynamic else kernel.shared
        total = static + dynamic_shared
        self.special = {"%dynamic_smem_size": np.array([dynamic_shared], np.uint32),
                        "%total_smem_size": np.array([total], np.uint32)}
        self.scratch = {"shared": Scratch(grid.blocks, total, "shared"),
                        "local": Scratch(grid.threads, kernel.local, "local"),
                        "param": Scratch(1, kernel.param_bytes, "parameter")}
        self.owner = {"shared": grid.block, "local": grid.numbers, "param": np.zeros(1, np.int64)}
        self.symbols = {name: variable.offset for name, variable in kernel.variables.items()}
        self.symbols |= dict.fromkeys(kernel.dynamic, static)
        self.clock = Clock(grid.blocks, grid.warps)
        self.races = {space: Races(self.clock, kernel.granule(space))
                      for space in (("shared", "global") if stats else ("shared",))}

    def set_parameters(self, args):
        parameters = self.kernel.params
        if len(args) != len(parameters):
            raise PTXError(f"{len(parameters)} parameters, but {len(args)} arguments")
        for parameter, value in zip(parameters, args, strict=True):
            raw = np.frombuffer(_argument(value, parameter), np.uint8)
            self.scratch["param"].raw[parameter.offset:parameter.offset + parameter.bytes] = raw

    def locate(self, space, addresses, threads, size, word):
        """The state space that these threads access (None: generic addresses), and the places: one if all are equal."""
        if space is None:
            space, addresses = _from_generic(addresses)
        if space in self.scratch:
            owner, scratch = self.owner[space], self.scratch[space]
            flat = scratch.flat(addresses, owner[threads] if owner.size > 1 else owner, size)
            return space, scratch.locate(flat, size, word)
        if int(addresses[0]) >= MODULE_ADDRESS:
            return "module", self.kernel.module.locate(addresses, size, word)
        if space == "const":
            raise PTXError(f"address {int(addresses[0]):#x} is not in constant memory")
        return "global", self.memory.locate(addresses, size, word)

    def watch(self, space, places, size, threads, **how):
        """Check accesses of these threads for collisions and races, if this space is watched."""
        if space in self.races:
            if len(places) == 1 and places[0].rows.size < threads.size:
                places = [places[0]._replace(rows=np.broadcast_to(places[0].rows, threads.shape))]
            self.races[space].check(places, size, self.grid.group(threads), **how)

    def count(self, verb, places, size, threads):
        """Add an access of these threads to global memory to the traffic."""
        if not self.stats:
            return
        sectors = np.empty(threads.size, np.uint64)
        for place in places:
            first = np.uint64(place.base + place.skipped)
            sectors[place.which] = (first + place.rows.astype(np.uint64)*np.uint64(size))//SECTOR
        warps = self.grid.warp[threads].astype(np.uint64)
        pairs = warps << np.uint64(42) | sectors & np.uint64(2**42 - 1)  # an address has 47 bits
        amounts = threads.size*size, np.unique(pairs).size, np.unique(warps).size
        for name, amount in zip(COUNTERS[verb], amounts, strict=True):
            self.traffic[name] += amount


def addresses(run, operand):
    """An address operand as 64-bit addresses; registers of 32 bits are enough for shared and local memory."""
    base = operand.base
    short = isinstance(base, Register) and base.type.bits == 32
    words = run.words(base, U32 if short else U64).astype(np.uint64, copy=False)
    return words + np.uint64(operand.offset % 2**64) if operand.offset else words


def _from_generic(addresses):
    window = addresses >> WINDOW_BITS
    for space, start in WINDOWS.items():
        inside = window == np.uint64(start) >> WINDOW_BITS
        if inside.all():
            return space, addresses - np.uint64(start)
        if inside.any():
            raise PTXError("generic addresses of different state spaces in one instruction")
    return "global", addresses


def _argument(value, parameter):
    """The bytes of an argument."""
    if isinstance(value, int):
        if parameter.type.startswith("f"):
            raise PTXError(f"parameter {parameter.name} is .{parameter.type}, but its argument an int")
        if not -2**(8*parameter.bytes - 1) <= value < 2**(8*parameter.bytes):
            raise PTXError(f"parameter {parameter.name} has {parameter.bytes} bytes, too few for {value}")
        return (value % 2**(8*parameter.bytes)).to_bytes(parameter.bytes, "little")
    raw = value if isinstance(value, bytes) else value.tobytes()
    if len(raw) != parameter.bytes:
        raise PTXError(f"parameter {parameter.name} has {parameter.bytes} bytes, but its argument {len(raw)}")
    return raw
