"""From arrays in this machine's memory to jobs: the tables of their addresses, and the tiles that threads share.

Tensors of one layout form one bucket: one table, and one job and kernel for each pipeline that their groups ask for.
"""
from collections.abc import Callable, Sequence
from copy import copy
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numba.core.errors import NumbaError

from .._formats.blocks import SIZE
from .._kernels.compile import Kernel
from .._kernels.layout import Layout
from .._kernels.memory import JOB, JOB_WORDS, STRIDED_TILE, TILE, WORD
from .._rule.pieces import asker
from .._rule.pipeline import Pipeline, of_tensors, pipelines
from .._tensors import arrays, tensors
from .._tensors.rows import STAND_IN
from .._tensors.tensors import TILE_UNIT, PerTensor, Place, Tensor
from .headers import Headers, Watch
from .loops import squares_kernel, step_kernel
from .measured import Measured, Sums, survey
from .pool import Plan

# A tile is a 16th of the work within these bounds (benchmarks/bench_step.py). Out of cache 131,072 elements were 3 %
# faster than 65,536 and 20 % faster than 16,384 (the prefetchers run on). In cache, 8,192 let two threads share evenly.
SMALLEST_TILE, LARGEST_TILE = 8_192, 131_072
TAKEN = 16_384  # elements that a thread takes at least: an atomic operation on a word of another core takes 50-100 ns


def tile_size(elements: int) -> int:
    size = max(SMALLEST_TILE, min(LARGEST_TILE, elements//16))
    return -(-size//TILE_UNIT)*TILE_UNIT


def head(parameter: np.ndarray) -> int:
    """The elements of a large parameter before its first whole cache line: a tile of their own.

    Then vectors never straddle two lines: its state is placed alike, and so are gradients from the same allocator.
    """
    return -arrays.address(parameter) % arrays.LINE//parameter.itemsize if parameter.nbytes >= arrays.LARGE else 0


class Chance(NamedTuple):
    """What random bits depend on beside tensor and element."""

    seed: int
    steps: int  # the address of the number of steps taken


NONE = Chance(0, 0)
Measure = Callable[[Layout], Kernel]
NO_MASKS: Sequence[np.ndarray] = ()


class Job:
    """Tensors that share a kernel: the words that it reads, and everything that they point to."""

    def __init__(self, layout: Layout, columns: list[list[np.ndarray]], groups: list[int], coefs: np.ndarray,
                 strides: Sequence[list[int]] = (), tile: int = 0, places: Sequence[Place] = (), chance: Chance = NONE):
        """`columns` holds the arrays of each column; `strides` those of gradients; `tile` a fixed tile size (tests)."""
        self.layout, self.groups, self.coefs, self.chance = layout, groups, coefs, chance
        self.members: Sequence[int] = ()  # which tensors of their optimizer they are
        self.sizes = [a.size for a in columns[0]]
        self.table = tensors.make_table(columns, strides, places)
        size = tile or tile_size(sum(self.sizes))
        size = min(size, STRIDED_TILE) if layout.strided else size
        heads = [] if tile or layout.strided or layout.blocks else list(map(head, columns[1]))
        self.cuts = -(-size//SIZE)*SIZE if layout.blocks else size, heads
        self._cut(self.sizes, *self.cuts)

    def _cut(self, sizes: list[int], size: int, heads: Sequence[int] = ()) -> None:
        """Cut the tensors into tiles, and write the words that kernels read."""
        self._take(tensors.make_tiles(sizes, self.groups, size, heads), sum(sizes))

    def _take(self, tiles: np.ndarray, elements: int) -> None:
        """Write the words that kernels read, of these tiles."""
        self.words = np.zeros(JOB_WORDS, np.int64)
        self.numbers, self.address = self.words.view(np.float64), arrays.address(self.words)
        self.numbers[JOB.factor] = 1.0
        self._put(width=self.table.shape[1], coefs=arrays.address(self.coefs), seed=self.chance.seed,
                  steps=self.chance.steps)
        self._lay(tiles, elements)

    def _put(self, **words: int) -> None:
        for name, value in words.items():
            self.words[getattr(JOB, name)] = value

    def _lay(self, tiles: np.ndarray, elements: int) -> None:
        """Take these tiles, and the table of now."""
        self.tiles, self.elements, count = tiles, elements, len(tiles)
        self._put(count=count, batch=max(1, TAKEN*count//max(1, elements)), table=arrays.address(self.table),
                  tiles=arrays.address(tiles))

    def renew(self) -> None:
        """Look at what is another at each step: nothing, but where some rows are hit."""

    @property
    def extents(self) -> np.ndarray:
        """The elements of each tile."""
        return self.tiles[:, TILE.end] - self.tiles[:, TILE.first]

    def run(self, kernel: Kernel, threads: int) -> None:
        """Run a kernel on all tiles."""
        Plan([(kernel, self)]).run(threads)


class Bucket(Job):
    """The tensors of one layout: gradient, parameter, states and what else a step reads and writes."""

    def __init__(self, layout: Layout, *args: Any, **kwargs: Any):
        super().__init__(layout, *args, **kwargs)
        self.found = np.zeros(0)
        self.measures: dict[Measure, Plan] = {}

    def jobs(self, of_groups: Sequence[Pipeline], given: Sequence[Tensor]) -> "list[Part]":
        """The parts of a step, for the pipelines of all groups; `given` are all tensors."""
        wanted = of_tensors(self.groups, of_groups, self.layout)
        found: list[Part] = []
        for of in dict.fromkeys(wanted):
            chosen = [mine == of for mine in wanted]
            try:
                kernel, job, measured = step_kernel(of, self.layout), self._copy(), None
                if of.measured:
                    measured = Measured(self, of, [given[k] for k in self.members], chosen)
                    job = measured.job
                else:
                    job._choose(chosen)
                found.append(Part(kernel, job, of, measured))
            except NumbaError as error:
                raise TypeError(f"rule {of.name}: Numba does not compile its update for {self.layout} (the reason "
                                "stands above). Use + - * /, the words of fastopt.notation and the coefficients in "
                                "c.") from error
        return found

    def tiled(self, tiles: np.ndarray, coefs: np.ndarray) -> "Bucket":
        """A job of these tiles, which has these rows of coefficients."""
        job = self._copy()
        job.coefs = coefs
        job._take(tiles, int((tiles[:, TILE.end] - tiles[:, TILE.first]).sum()))
        return job

    def _choose(self, chosen: Sequence[bool]) -> None:
        """Take the tiles of these tensors alone."""
        self._cut([n*mine for n, mine in zip(self.sizes, chosen, strict=True)], *self.cuts)

    def _copy(self) -> "Bucket":
        """A job on this table, where `Headers` stores addresses."""
        job = copy(self)
        job.measures = {}  # not this one, which will hold the job: what is in a circle is freed late
        return job

    def measured(self, kernel: Measure, threads: int) -> list[float]:
        """What one of the norm's kernels finds in STRIDED_TILE elements each: a strided gradient and its copy agree."""
        if kernel not in self.measures:
            job = self._copy()
            job._cut(self.sizes, STRIDED_TILE)
            job.found = np.zeros(len(job.tiles))
            job.words[JOB.out] = arrays.address(job.found)
            self.measures[kernel] = Plan([(kernel(self.layout.norm), job)])
        plan = self.measures[kernel]
        plan.run(threads)
        return plan.jobs[0].found.tolist()

    def by_tensor(self, found: list[float], kernel: Measure) -> list[list[float]]:
        """What `measured` found, of each tensor."""
        of: list[list[float]] = [[] for _ in self.sizes]
        for k, x in zip(self.measures[kernel].jobs[0].tiles[:, TILE.tensor].tolist(), found, strict=True):
            of[k].append(x)
        return of

    def sums_of_squares(self, threads: int) -> list[float]:
        """The sums of the squared gradients, a tile each."""
        return self.measured(squares_kernel, threads)


class Part(NamedTuple):
    """A kernel of a step and its job, with what finds its coefficients, if it has measured pieces."""

    kernel: Kernel
    job: Bucket
    pipeline: Pipeline
    measured: Measured | None


class StepPlan(Plan):
    """The plan of a step, and of what is measured before it."""

    def __init__(self, parts: Sequence[Part]):
        super().__init__([(part.kernel, part.job) for part in parts])
        self.parts, self.measured = parts, [part.measured for part in parts if part.measured]
        self.surveys: list[Sums] = []

    @property
    def wide(self) -> list[Bucket]:
        """The jobs whose gradients are wider than the arithmetic."""
        passes = [*(sums for of in self.measured for _, sums in of.passes), *self.surveys]
        return [job for job in (*self.jobs, *(sums.job for sums in passes)) if job.layout.wide]

    def survey(self) -> None:
        """Make what measures gradients, parameters and updates."""
        self.surveys = self.surveys or [survey(part.job, part.pipeline, part.measured) for part in self.parts]


class Binding:
    """The tensors of an optimizer, their states, and the buckets for the gradients it was last given."""

    def __init__(self, rule: Any, tensors: list[Tensor], slots: dict[str, PerTensor], remainders: list[np.ndarray],
                 written: list[np.ndarray], watch: Watch, coefs: dict[np.dtype, np.ndarray],
                 chance: Chance = NONE, apart: bool = False, tile: int = 0):
        """`apart`: the gradient of each tensor may be multiplied by a factor of its own."""
        self.apart = apart
        self.rule, self.tensors, self.slots, self.remainders, self.written = rule, tensors, slots, remainders, written
        self.watch, self.coefs, self.chance, self.tile = watch, coefs, chance, tile
        self.buckets: list[Bucket] = []
        self.rows: list[Any] = []       # those of gradients that hit some rows alone, which are others at each step
        self.kinds: list[tuple[int, np.dtype]] = []  # their tensors, and the dtypes of their gradients
        self.taken: list[tuple[int, int]] = []       # the memory that a step writes, once it was asked for
        self.nowhere = np.zeros(1, np.int64)
        self.asked: list | None = None  # the pieces for which `plan` is made
        self.plan = StepPlan([])
        self.plans: dict[tuple, StepPlan] = {}
        self.wide: Sequence[Job] = []    # its jobs whose gradients are wider than the arithmetic
        self.headers: Headers | None = None
        self.zeroed = False
        self.masks = NO_MASKS
        self.cleared: list[np.ndarray] = []
        self.told: list = []

    def bound(self, leaves: list, zeroed: bool, masks: Sequence[np.ndarray] = NO_MASKS) -> bool:
        """Whether these gradients, and all that the step writes, are as they were bound; then `buckets` are ready."""
        return (self.headers is not None and zeroed == self.zeroed and masks is self.masks
                and self.headers.same(leaves) and (not zeroed or self._the_same(leaves)))

    def bind(self, leaves: list, paths: list[str], zeroed: bool = False,
             masks: Sequence[np.ndarray] = NO_MASKS) -> list:
        """Make `buckets` those for these gradients, which a step sets to zero if `zeroed`.

        It returns what must live until they are done. What is wrong with a gradient is said before anything is written.
        """
        gradients = [tensors.ABSENT if one[0] is STAND_IN else tensors.gradient(*one)
                     for one in zip(leaves, self.tensors, paths, strict=True)]
        tensors.check_apart(gradients, self.tensors, self.written, paths)
        if zeroed:
            tensors.check_zeroed(gradients, self.tensors, leaves, paths)
        views, targets, buckets = [g.array for g in gradients], [arrays.address(self.nowhere)]*len(leaves), []
        layouts = tensors.layouts_of(gradients, self.tensors, self.slots, zeroed, masks)
        for layout, alike in self.parted(layouts):
            if not (members := [k for k in alike if leaves[k] is not STAND_IN]):
                continue
            columns = tensors.columns_of(members, views, self.tensors, self.slots, self.remainders, masks)
            groups, strides = [self.tensors[k].group for k in members], [gradients[k].strides for k in members]
            buckets.append(Bucket(layout, columns, groups, self.coefs[layout.arithmetic.dtype], strides, self.tile,
                                  tensors.places_of(self.tensors, members), self.chance))
            buckets[-1].members = members
            first, width = arrays.address(buckets[-1].table), WORD*buckets[-1].table.shape[1]
            for row, k in enumerate(members):
                targets[k] = first + row*width
        own = [arrays.address(t.array) if g.like(t) and not zeroed else 0
               for g, t in zip(gradients, self.tensors, strict=True)]
        given = [g.given for g in gradients]
        headers = Headers(leaves, given, own, targets, self.written, self.watch)
        self.buckets, self.headers, self.masks, self.plans, self.asked = buckets, headers, masks, {}, None
        self.rows, self.kinds, self.taken, self.zeroed, self.cleared = [], [], [], zeroed, given if zeroed else []
        self.told = arrays.torch_tensors(leaves) if zeroed else []
        return [leaves, views]

    def parted(self, layouts: list[Layout]) -> list[tuple[Layout, list[int]]]:
        """The tensors of each bucket. A job has one factor for all gradients that are wider than the arithmetic."""
        found = list(tensors.by_layout(layouts).items())
        return [(layout, part) for layout, members in found
                for part in ([[k] for k in members] if self.apart and layout.wide else [members])]

    def use(self, asked: list) -> None:
        """Make `plan` that of a step which asks for these pieces, as arguments of `pipelines`."""
        key = tuple(asked)
        if key not in self.plans:
            of_groups = pipelines(self.rule, *asked)
            if self.rows and (measured := next((piece for of in of_groups for piece in of.measured), None)):
                raise ValueError(f"step: a gradient of some rows alone, but {asker(measured.name)} measures whole "
                                 "tensors. Give an array in its place, or leave that out.")
            self.plans[key] = StepPlan([job for bucket in self.buckets for job in bucket.jobs(of_groups, self.tensors)])
        plan = self.plans[key]
        if self.rows:
            plan.renew()
        wide = plan.wide
        self.plan, self.wide, self.asked = plan, wide, asked  # at last: a Ctrl-C before it leaves nothing of two plans

    def survey(self) -> None:
        """Prepare to measure parameters, gradients and updates."""
        if self.rows:
            raise ValueError("step: a gradient of some rows alone, but measure=True measures whole tensors. Give an "
                             "array in its place.")
        self.plan.survey()
        self.wide = self.plan.wide

    def reseeding(self, chance: Chance) -> list["partial[None]"]:
        """What to call so that random bits depend on these."""
        jobs = [job for plan in self.plans.values() for job in plan.jobs]
        return [*(partial(setattr, of, "chance", chance) for of in (self, *self.buckets)),
                *(partial(job.words.__setitem__, JOB.seed, chance.seed) for job in jobs)]

    def _the_same(self, leaves: list) -> bool:
        """Whether these are the arrays that were bound, still writable: headers do not tell whether others overlap."""
        return all(leaf is known and leaf.flags.writeable for leaf, known in zip(leaves, self.cleared, strict=True))
