"""The tables that kernels read on a CUDA device: addresses of tensors, tiles, sums of squares; made when gradients of a new kind come.

Gradients of the kind that was there before (formats, shapes, strides) only change addresses. These are sent with the next step.
"""
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numba.core.errors import NumbaError

from .._kernels.memory import WORD, computed_in, norm_formats
from .._rule.rule import RULES, Rule
from .._tensors import arrays
from .._tensors.device_array import DeviceArray, extent
from .._tensors.tensors import (
    Slot,
    Tensor,
    by_formats,
    check_apart,
    check_zeroed,
    columns_of,
    formats_of,
    gradient,
    make_table,
    make_tiles,
    spans,
)
from . import driver
from . import loops as cuda
from .clock import Post, posts
from .libraries import Library, by_dlpack, library
from .streams import hand_over, makers

MOST = 100_000  # addresses that are remembered
SEED = 6        # the word of the seed among the parameters of cuda.step
Launch = tuple[int, int, driver.Arguments]


class Job:
    """Tensors that share a kernel: their tables on the device, and its launch."""

    def __init__(self, gpu: driver.Gpu, rule: str, formats: str, columns: list[list[DeviceArray]], groups: list[int],
                 layouts: Sequence[list[int]], coefs: driver.Memory, clock: driver.Memory, numbers: Sequence[int], seed: int):
        """`columns` holds the arrays of each column; `numbers` are those of the tensors among all of the optimizer's."""
        self.gpu, self.formats = gpu, formats
        self.sizes, self.groups = [a.size for a in columns[1]], groups
        table = make_table(columns, layouts, numbers)
        self.table, self.width = driver.uploaded(gpu, table), table.shape[1]
        self.keep: list = [coefs, clock]
        self.launches: list[Launch] = []
        tiles, count = self.cut(cuda.tile_size(formats, gpu.cc))
        if not count:
            return
        try:
            function, held = gpu.function(cuda.step(rule, formats, gpu.cc, gpu.form))
        except NumbaError as error:
            raise TypeError(f"rule {RULES[rule].__name__}: Numba does not compile its update for {formats} on CUDA (the reason stands "
                            "above). Use + - * /, the words of fastopt.notation and the coefficients in c.") from error
        arguments = driver.Arguments([count, self.table.address, self.width, tiles.address, coefs.address, clock.address, seed])
        self.keep.append(tiles)
        self.launches = [(function, min(count, held), arguments)]

    def reseeding(self, seed: int) -> list["partial[None]"]:
        """What to call so that launches draw their random bits from another seed."""
        return [partial(arguments.words.__setitem__, SEED, seed) for _, _, arguments in self.launches]

    def cut(self, size: int) -> tuple[driver.Memory, int]:
        """The list of tiles of this size, and their number."""
        tiles = make_tiles(self.sizes, self.groups, size)
        return driver.uploaded(self.gpu, tiles), len(tiles)


class Norm:
    """The sums of squares of a step's gradients, side by side: the first stage of the norm, one launch per job."""

    def __init__(self, gpu: driver.Gpu, jobs: Sequence[Job]):
        cuts = [job.cut(cuda.TILE) for job in jobs]
        self.count = sum(count for _, count in cuts)
        self.sums = gpu.allocate(4*WORD*self.count)
        self.keep = [tiles for tiles, _ in cuts]
        self.launches: list[Launch] = []
        first = 0
        for job, (tiles, count) in zip(jobs, cuts, strict=True):
            if count:
                function, held = gpu.function(cuda.squares(norm_formats(job.formats), gpu.cc, gpu.form))
                arguments = driver.Arguments([count, job.table.address, job.width, tiles.address, self.sums.address + WORD*first,
                                              self.count])
                self.launches.append((function, min(-(-count//(cuda.THREADS//cuda.WARP)), held), arguments))
            first += count


class Tables:
    """The jobs for gradients of one kind, and where their addresses are."""

    def __init__(self, gpu: driver.Gpu, rule: Rule, tensors: list[Tensor], slots: dict[str, Slot], remainders: Sequence[DeviceArray],
                 gradients: "Gradients", coefs: dict[np.dtype, driver.Memory], clock: driver.Memory, seed: int):
        self.gpu = gpu
        self.plans: dict[tuple[bool, int], driver.Launches] = {}
        self.jobs: list[Job] = []
        self.members: list[list[int]] = []
        found, views = gradients.found, [g.array for g in gradients.found]
        for formats, indices in by_formats(formats_of(found, tensors, slots, gradients.zeroed)).items():
            columns = columns_of(indices, views, tensors, slots, remainders)
            self.jobs.append(Job(gpu, rule.digest, formats, columns, [tensors[k].group for k in indices],
                                 [found[k].layout for k in indices], coefs[computed_in(formats).dtype], clock, indices, seed))
            self.members.append(indices)
        self.launches = [launch for job in self.jobs for launch in job.launches]
        self._norm: Norm | None = None
        self.sent = [view.address for view in views]

    @property
    def norm(self) -> Norm:
        if self._norm is None:
            with self.gpu.current():
                self._norm = Norm(self.gpu, self.jobs)
        return self._norm

    def posts(self, addresses: list[int], everything: bool) -> list[Post]:
        """What must be sent so that the tables hold these addresses."""
        if addresses == self.sent and not everything:
            return []
        found = []
        for job, indices in zip(self.jobs, self.members, strict=True):
            new = [addresses[k] for k in indices]
            if everything or new != [self.sent[k] for k in indices]:
                found += posts(job.table.address, WORD*job.width, np.array(new, np.int64).tobytes())
        return found


class Gradients:
    """Gradients that were checked, and all in which others of their kind do not differ from them."""

    def __init__(self, leaves: list, paths: list[str], tensors: list[Tensor], written: list[DeviceArray], own: Library,
                 zeroed: bool = False):
        """Raises what is wrong with one, with its path. `zeroed` says that the step sets them to zero."""
        self.found = [gradient(leaf, t, where) for leaf, t, where in zip(leaves, tensors, paths, strict=True)]
        check_apart(self.found, tensors, written, paths)
        if zeroed:
            check_zeroed(self.found, tensors, leaves, paths)
        self.zeroed = zeroed
        self.taken = spans(written)
        self.device = next((t.array.device for t in tensors if t.array.device is not None), None)
        self.libraries = [library(leaf) for leaf in leaves]
        self.types = [type(leaf) for leaf in leaves]
        self.facts = [list(of.facts(leaf)[1:]) for of, leaf in zip(self.libraries, leaves, strict=True)]
        self.kind = zeroed, tuple((g.format, tuple(g.layout)) for g in self.found)  # what tables depend on
        self.addresses = [g.array.address for g in self.found]
        self.own = [t.array.address if g.format == t.plain and not zeroed else -1 for g, t in zip(self.found, tensors, strict=True)]
        self.extents = [extent(g.array) for g in self.found]
        self.largest = max((g.array.itemsize for g in self.found), default=1)
        self.packed = [k for k, leaf in enumerate(leaves) if by_dlpack(leaf)]
        self.recorded = [k for k, of in enumerate(self.libraries) if of.record]
        self.makers = makers(leaves, own)
        self.checked = set(self.addresses)  # of which the driver has said that they are on this device: it takes a microsecond for each

    def release(self) -> None:
        """Hold the arrays no longer: they would lie on the device beside the next step's."""
        self.found = []

    def hand_over(self, leaves: list, lent: list, stream: int) -> list:
        """Tell libraries that wait by DLPack which stream will read their arrays; `lent` are read beside the gradients.

        These arrays, which must live until that is done: their libraries take memory back in an order of their own.
        """
        packed = [leaves[k] for k in self.packed] + [x for x in lent if by_dlpack(x)]
        hand_over(packed, stream)
        return packed

    def record(self, leaves: list, lent: list, device: int, stream: int) -> None:
        """Tell libraries that take memory back in the order of the stream where they gave it that another one reads it."""
        read = [(self.libraries[k], leaves[k]) for k in self.recorded] + [(library(x), x) for x in lent]
        for of in {id(of): of for of, _ in read}.values():
            if of.record:
                of.record([x for whose, x in read if whose is of], device, stream)

    def like(self, leaves: list) -> list[int] | None:
        """The addresses of others that differ from these in nothing else; None where they do, or lie where the step writes."""
        if len(leaves) != len(self.types):
            return None
        addresses = []
        for leaf, kind, facts, own, (low, high), of, old in zip(leaves, self.types, self.facts, self.own, self.extents, self.libraries,
                                                                self.addresses, strict=True):
            if type(leaf) is not kind:
                return None
            address, *rest = of.facts(leaf)
            if rest != facts or address % self.largest:
                return None
            if address != own and arrays.touches(self.taken, address + low, address + high):
                return None
            if address != old and high and not of.tells_device and address not in self.checked:
                if not driver.same_device(address, self.device):
                    return None
                self.checked.add(address)
            addresses.append(address)
        if self.zeroed and not self._separate(leaves, addresses):
            return None
        self.addresses = addresses
        if len(self.checked) > MOST:
            self.checked = set(addresses)
        return addresses

    def _separate(self, leaves: list, addresses: list[int]) -> bool:
        """Whether these, which the step sets to zero, may all be written and lie apart: addresses and formats do not tell."""
        if not all(of.writable(leaf) for of, leaf in zip(self.libraries, leaves, strict=True)):
            return False
        ends = sorted((address + low, address + high) for address, (low, high) in zip(addresses, self.extents, strict=True) if high)
        return addresses == self.addresses or all(end <= start for (_, end), (start, _) in pairwise(ends))


class Bound(NamedTuple):
    """The gradients that steps are bound to, and their tables."""

    gradients: Gradients
    tables: Tables
