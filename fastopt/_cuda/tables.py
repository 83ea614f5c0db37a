"""The tables that kernels read on a CUDA device (addresses, tiles, sums of squares), made for each kind of gradients.

Gradients of a known kind (formats, shapes, strides) change addresses only, which are sent with the next step.
"""
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numba.core.errors import NumbaError

from .._kernels.layout import Layout
from .._kernels.memory import STRIDED_TILE, WORD
from .._rule.pieces import MEASURE
from .._rule.pipeline import Pipeline, of_tensors, pipelines
from .._rule.rule import Rule
from .._tensors import arrays, tensors
from .._tensors.device_array import DeviceArray, extent
from .._tensors.tensors import PerTensor, Place, Tensor
from . import driver, loops
from .clock import Post, posts
from .libraries import Library, by_dlpack, library
from .loops import STEP, THREADS, WARP
from .measured import CLIP, Launch, Measured, Squares, Survey
from .streams import hand_over, makers

REMEMBERED = 100_000  # addresses that are remembered


class Bucket:
    """Tensors of one layout: their table on the device, and the launches of a step."""

    def __init__(self, gpu: driver.Gpu, layout: Layout, columns: list[list[DeviceArray]], groups: list[int],
                 strides: Sequence[list[int]], coefs: driver.Memory, clock: driver.Memory, places: Sequence[Place],
                 seed: int, exact: driver.Memory | None = None, given: Sequence[Tensor] = ()):
        """`columns` holds the arrays of each column; `places` are those of the tensors, which are `given`; `exact` has
        the coefficients of groups in float64."""
        self.gpu, self.layout, self.seed, self.coefs, self.clock = gpu, layout, seed, coefs, clock
        self.exact, self.given = exact, given
        self.sizes, self.groups = [a.size for a in columns[1]], groups
        table = tensors.make_table(columns, strides, places)
        self.table, self.width = driver.uploaded(gpu, table), table.shape[1]
        self.keep: list = []
        self.made: dict[tuple, list[Part]] = {}

    def parts(self, of_groups: Sequence[Pipeline], squares: Squares | None = None) -> "list[Part]":
        """The parts of a step, for the pipelines of all groups; with `squares` each gradient is clipped by its norm."""
        of = tuple(of_tensors(self.groups, of_groups, self.layout))
        key = of, squares is not None
        if key not in self.made:
            self.made[key] = [part for x in dict.fromkeys(of) for part in self._parts(x, [y == x for y in of], squares)]
        return self.made[key]

    def _parts(self, of: Pipeline, chosen: list[bool], squares: Squares | None) -> "list[Part]":
        """The part of one pipeline on the chosen tensors; none where they are empty."""
        sizes = [n if mine else 0 for n, mine in zip(self.sizes, chosen, strict=True)]
        size = loops.tile_size(self.layout, self.gpu.cc, sizes, self.gpu.processors)
        if not any(sizes):
            return []
        try:
            function, held = self.gpu.function(loops.step(of, self.layout, self.gpu.cc, self.gpu.form))
            measured = Measured(self, of, self.given, chosen, squares) if of.measured or squares else None
        except NumbaError as error:
            raise TypeError(f"rule {of.name}: Numba does not compile its update for {self.layout} on CUDA (the reason "
                            "stands above). Use + - * /, the words of fastopt.notation and the coefficients in "
                            "c.") from error
        if measured:
            tiles, coefs, exact, survey = measured.units.cut(size), measured.coefs, measured.rows, measured.tiles
        else:
            tiles, coefs, exact = tensors.make_tiles(sizes, self.groups, size), self.coefs, self.exact
            survey = tensors.make_tiles(sizes, self.groups, STRIDED_TILE)
        count, memory = len(tiles), driver.uploaded(self.gpu, tiles)
        words = {"count": count, "table": self.table.address, "width": self.width, "tiles": memory.address,
                 "coefs": coefs.address, "clock": self.clock.address, "seed": self.seed,
                 "exact": exact.address if exact else 0}
        self.keep.append(memory)
        step = function, min(count, held), driver.Arguments([words[name] for name in STEP._fields])
        return [Part(step, measured, (of, survey, coefs, exact))]

    def reseeding(self, seed: int) -> list["partial[None]"]:
        """What to call so that launches draw their random bits from another seed."""
        made = [part.step[2] for parts in self.made.values() for part in parts]
        return [partial(setattr, self, "seed", seed), *(partial(x.words.__setitem__, STEP.seed, seed) for x in made)]

    def cut(self, size: int, sizes: list[int]) -> tuple[driver.Memory, int]:
        """The list of tiles of this size, and their number."""
        tiles = tensors.make_tiles(sizes, self.groups, size)
        return driver.uploaded(self.gpu, tiles), len(tiles)


class Part:
    """A launch of a step, and what comes before it: what finds its coefficients, and what measures all of it."""

    def __init__(self, step: Launch, measured: Measured | None, survey: tuple[Any, ...]):
        """`survey`: what a `Survey` is made of, once one is asked for."""
        self.step, self.measured, self._of = step, measured, survey
        self._survey: Survey | None = None

    def survey(self, bucket: Bucket) -> Survey:
        self._survey = self._survey or Survey(bucket, *self._of)
        return self._survey

    def launches(self, survey: Survey | None) -> list[Launch]:
        found = self.measured.launches if self.measured else []
        return [*found, *(survey.launches if survey else []), self.step]


class Norm:
    """The sums of squares of a step's gradients, side by side: the first stage of the norm, one launch per bucket."""

    def __init__(self, gpu: driver.Gpu, buckets: Sequence[Bucket]):
        self.squares: list[Squares] = []  # of each bucket
        cuts = [bucket.cut(loops.NORM_TILE, bucket.sizes) for bucket in buckets]
        self.count = sum(count for _, count in cuts)
        self.sums = gpu.allocate(4*WORD*self.count)
        self.keep = [tiles for tiles, _ in cuts]
        self.launches: list[Launch] = []
        first = 0
        for bucket, (tiles, count) in zip(buckets, cuts, strict=True):
            self.squares.append(Squares(self.sums, self.count, first))
            if count:
                function, held = gpu.function(loops.squares(bucket.layout.norm, gpu.cc, gpu.form))
                arguments = driver.Arguments([count, bucket.table.address, bucket.width, tiles.address,
                                              self.sums.address + WORD*first, self.count])
                self.launches.append((function, min(-(-count//(THREADS//WARP)), held), arguments))
            first += count


class Tables:
    """The buckets for gradients of one kind, and where their addresses are."""

    def __init__(self, gpu: driver.Gpu, rule: Rule, of: list[Tensor], slots: dict[str, PerTensor],
                 remainders: Sequence[DeviceArray], gradients: "Gradients", coefs: dict[np.dtype, driver.Memory],
                 clock: driver.Memory, seed: int):
        self.gpu = gpu
        self.rule = rule
        self.plans: dict[tuple, driver.Launches] = {}
        self.known: set[tuple] = set()  # the arguments of `launches` for which memory is there
        self.buckets: list[Bucket] = []
        self.members: list[list[int]] = []
        found, views = gradients.found, [g.array for g in gradients.found]
        layouts = tensors.layouts_of(found, of, slots, gradients.zeroed, gradients.masks)
        for layout, members in tensors.by_layout(layouts).items():
            columns = tensors.columns_of(members, views, of, slots, remainders, gradients.masks)
            groups, strides = [of[k].group for k in members], [found[k].strides for k in members]
            self.buckets.append(Bucket(gpu, layout, columns, groups, strides, coefs[layout.arithmetic.dtype], clock,
                                       tensors.places_of(of, members), seed, coefs[np.dtype(np.float64)],
                                       [of[k] for k in members]))
            self.members.append(members)
        self._norm: Norm | None = None
        self.sent = [view.address for view in views]

    @property
    def norm(self) -> Norm:
        if self._norm is None:
            with self.gpu.current():
                self._norm = Norm(self.gpu, self.buckets)
        return self._norm

    def parts(self, asked: tuple, apart: bool) -> list[tuple[Bucket, list[Part]]]:
        """The parts of a step that asks for these pieces, `asked` being the arguments of `pipelines`; with `apart`
        gradients are clipped each by its own norm."""
        of_groups, squares = pipelines(self.rule, *asked), self.norm.squares if apart else [None]*len(self.buckets)
        with self.gpu.current():
            return [(bucket, bucket.parts(of_groups, of)) for bucket, of in zip(self.buckets, squares, strict=True)]

    def launches(self, asked: tuple, apart: bool, survey: bool) -> list[Launch]:
        """The launches of a step, which may find norms by the way."""
        with self.gpu.current():
            found = [launch for bucket, parts in self.parts(asked, apart) for part in parts
                     for launch in part.launches(part.survey(bucket) if survey else None)]
        self.known |= {(asked, apart, survey), (asked, apart, False)}
        return found

    def limit(self, asked: tuple, clip_norm: float) -> None:
        """Have the next step clip each gradient by this norm."""
        for _, parts in self.parts(asked, True):
            for part in parts:
                part.measured.clip.floats[CLIP.clip_norm] = clip_norm  # type: ignore[union-attr]

    def norms(self, asked: tuple, apart: bool) -> dict[int, np.ndarray]:
        """The norms that the last such step found, by tensor. Waits for the device."""
        norms = {k: np.zeros(MEASURE.many) for members in self.members for k in members}
        for (bucket, parts), members in zip(self.parts(asked, apart), self.members, strict=True):
            for part in parts:
                norms |= {members[k]: found for k, found in part.survey(bucket).norms().items()}
        return norms

    def posts(self, addresses: list[int], everything: bool) -> list[Post]:
        """What must be sent so that the tables hold these addresses."""
        if addresses == self.sent and not everything:
            return []
        found = []
        for bucket, indices in zip(self.buckets, self.members, strict=True):
            new = [addresses[k] for k in indices]
            if everything or new != [self.sent[k] for k in indices]:
                found += posts(bucket.table.address, WORD*bucket.width, np.array(new, np.int64).tobytes())
        return found


class Gradients:
    """Gradients that were checked, and all in which others of their kind do not differ from them."""

    def __init__(self, leaves: list, paths: list[str], of: list[Tensor], written: list[DeviceArray], own: Library,
                 zeroed: bool = False, masks: Sequence[DeviceArray] = ()):
        """Raises what is wrong with one, with its path. `zeroed` says that the step sets them to zero."""
        self.found = [tensors.gradient(leaf, t, where) for leaf, t, where in zip(leaves, of, paths, strict=True)]
        tensors.check_apart(self.found, of, written, paths)
        if zeroed:
            tensors.check_zeroed(self.found, of, leaves, paths)
        self.zeroed, self.masks = zeroed, masks
        self.taken = tensors.spans(written)
        self.device = next((t.array.device for t in of if t.array.device is not None), None)
        self.libraries = [library(leaf) for leaf in leaves]
        self.types = [type(leaf) for leaf in leaves]
        self.ask = [of.facts for of in self.libraries]
        self.facts = [facts(leaf)[1:] for facts, leaf in zip(self.ask, leaves, strict=True)]
        self.kind = zeroed, bool(masks), tuple((g.slot, tuple(g.strides)) for g in self.found)  # what tables depend on
        self.addresses = [g.array.address for g in self.found]
        self.own = [t.array.address if g.like(t) and not zeroed else -1 for g, t in zip(self.found, of, strict=True)]
        self.extents = [extent(g.array) for g in self.found]
        self.largest = max((g.array.itemsize for g in self.found), default=1)
        self.packed = [k for k, leaf in enumerate(leaves) if by_dlpack(leaf)]
        self.recorded = [k for k, of in enumerate(self.libraries) if of.record]
        self.makers = makers(leaves, own)
        self.passed = [{address} for address in self.addresses]  # where each may lie

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
        """Tell libraries that take memory back in a stream's order that another stream reads it."""
        read = [(self.libraries[k], leaves[k]) for k in self.recorded] + [(library(x), x) for x in lent]
        for of in {id(of): of for of, _ in read}.values():
            if of.record:
                of.record([x for whose, x in read if whose is of], device, stream)

    def like(self, leaves: list) -> list[int] | None:
        """The addresses of gradients that differ in nothing else; None where they do, or lie where the step writes."""
        if list(map(type, leaves)) != self.types:
            return None
        found = [facts(leaf) for facts, leaf in zip(self.ask, leaves, strict=True)]
        if [now[1:] for now in found] != self.facts:
            return None
        addresses = [now[0] for now in found]
        if not all(map(set.__contains__, self.passed, addresses)) and not self._pass(addresses):
            return None
        if self.zeroed and not self._separate(leaves, addresses):
            return None
        self.addresses = addresses
        return addresses

    def _pass(self, addresses: list[int]) -> bool:
        """Whether gradients may lie there; those that may are not asked about again."""
        for address, passed, own, (low, high), of in zip(addresses, self.passed, self.own, self.extents, self.libraries,
                                                         strict=True):
            if address in passed:
                continue
            if address % self.largest:
                return False
            if address != own and arrays.touches(self.taken, address + low, address + high):
                return False
            if high and not of.tells_device and not driver.same_device(address, self.device):  # a microsecond
                return False
            passed.add(address)
        if sum(map(len, self.passed)) > REMEMBERED:
            self.passed = [{address} for address in addresses]
        return True

    def _separate(self, leaves: list, addresses: list[int]) -> bool:
        """Whether these, which the step sets to zero, may all be written and lie apart."""
        if not all(of.writable(leaf) for of, leaf in zip(self.libraries, leaves, strict=True)):
            return False
        ends = sorted((address + low, address + high)
                      for address, (low, high) in zip(addresses, self.extents, strict=True) if high)
        return addresses == self.addresses or all(end <= start for (_, end), (start, _) in pairwise(ends))


class Bound(NamedTuple):
    """The gradients that steps are bound to, and their tables."""

    gradients: Gradients
    tables: Tables
