"""From arrays in this machine's memory to jobs: the tables of their addresses, and the tiles that threads claim.

Tensors whose slots have the same formats form one bucket: one job, one kernel call, however many tensors and groups
there are.
"""
from collections.abc import Callable, Sequence
from copy import copy
from functools import partial
from typing import NamedTuple

import numpy as np
from numba.core.errors import NumbaError

from .._formats.blocks import SIZE
from .._kernels.memory import (
    BATCH,
    COEFS,
    COUNT,
    FACTOR,
    JOB_WORDS,
    OUT,
    SEED,
    STEPS,
    STRIDED_TILE,
    TABLE,
    TILES,
    WIDTH,
    WORD,
    computed_in,
    is_strided,
    is_wide,
    norm_formats,
    slots,
)
from .._rule.rule import RULES
from .._tensors import arrays
from .._tensors.tensors import (
    LINE,
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
)
from .headers import Headers, Watch
from .loops import Kernel, squares_kernel, step_kernel
from .pool import Plan

# A tile is a 16th of the work within these bounds. Out of cache 131,072 elements were 3 % faster than 65,536 and 20 %
# faster than 16,384 (the prefetchers run on); in cache 8,192 let two threads share 1e5 elements evenly
# (benchmarks/bench_step.py).
SMALLEST_TILE, LARGEST_TILE = 8_192, 131_072
CLAIM = 16_384  # elements that a thread claims at least: one atomic addition between two cores takes 50-100 ns


def tile_size(elements: int) -> int:
    size = max(SMALLEST_TILE, min(LARGEST_TILE, elements//16))
    return -(-size//LINE)*LINE


def head(parameter: np.ndarray) -> int:
    """The elements of a large parameter before its first whole cache line: a tile of their own, then vectors never straddle two
    lines (its state is placed alike, and so are gradients from the same allocator)."""
    return -arrays.address(parameter) % arrays.LINE//parameter.itemsize if parameter.nbytes >= arrays.LARGE else 0


class Chance(NamedTuple):
    """What random bits depend on beside tensor and element."""

    seed: int
    steps: int  # the address of the number of steps taken


NONE = Chance(0, 0)


class Job:
    """Tensors that share a kernel: the words that it reads, and everything that they point to."""

    def __init__(self, formats: str, columns: list[list[np.ndarray]], groups: list[int], coefs: np.ndarray,
                 layouts: Sequence[list[int]] = (), tile: int = 0, numbers: Sequence[int] = (), chance: Chance = NONE):
        """`columns` holds the arrays of each column; `layouts` those of strided gradients; `tile` a fixed tile size (tests)."""
        sizes = [a.size for a in columns[1]]
        self.sizes, self.elements, self.chance = sizes, sum(sizes), chance
        strided, blocks = is_strided(formats), any(f.block for f in slots(formats))
        size = tile or tile_size(self.elements)
        self.table, self.coefs = make_table(columns, layouts, numbers), coefs
        heads = [] if tile or strided or blocks else list(map(head, columns[1]))
        size = min(size, STRIDED_TILE) if strided else size
        self._cut(sizes, groups, -(-size//SIZE)*SIZE if blocks else size, heads)

    def _cut(self, sizes: list[int], groups: list[int], size: int, heads: Sequence[int] = ()) -> None:
        """Cut the tensors into tiles, and write the words that kernels read."""
        self.tiles = make_tiles(sizes, groups, size, heads)
        self.words = np.zeros(JOB_WORDS, np.int64)
        count = len(self.tiles)
        self.words[[COUNT, BATCH]] = count, max(1, CLAIM*count//max(1, self.elements))
        self.words[[TABLE, WIDTH, TILES, COEFS]] = (arrays.address(self.table), self.table.shape[1],
                                                    arrays.address(self.tiles),
                                                    arrays.address(self.coefs))
        self.words[[SEED, STEPS]] = self.chance
        self.numbers = self.words.view(np.float64)
        self.numbers[FACTOR] = 1.0
        self.address = arrays.address(self.words)

    def run(self, kernel: Kernel, threads: int) -> None:
        """Run a kernel on all tiles."""
        Plan([(kernel, self)]).run(threads)


class Bucket(Job):
    """The job of a step: gradient, parameter and states of the tensors that have these formats."""

    def __init__(self, rule: str, formats: str, columns: list[list[np.ndarray]], groups: list[int], coefs: np.ndarray,
                 layouts: list[list[int]], tile: int = 0, numbers: Sequence[int] = (), chance: Chance = NONE):
        super().__init__(formats, columns, groups, coefs, layouts, tile, numbers, chance)
        self.formats = formats
        try:
            self.kernel = step_kernel(rule, formats)
        except NumbaError as error:
            raise TypeError(f"rule {RULES[rule].__name__}: Numba does not compile its update for {formats} (the reason "
                            f"stands above). Use "
                            "+ - * /, the words of fastopt.notation and the coefficients in c.") from error
        self.found = np.zeros(0)
        self.measures: dict[Callable[[str], Kernel], Plan] = {}

    def measured(self, kernel: Callable[[str], Kernel], threads: int) -> list[float]:
        """What one of the norm's kernels finds in STRIDED_TILE elements each, in fixed lanes: a strided gradient and its copy agree."""
        if kernel not in self.measures:
            job = copy(self)  # its table is this one, where `Headers` stores addresses
            job.measures = {}  # not this one, which will hold the job: what is in a circle is freed late
            job._cut(self.sizes, [0]*len(self.table), STRIDED_TILE)
            job.found = np.zeros(len(job.tiles))
            job.words[OUT] = arrays.address(job.found)
            self.measures[kernel] = Plan([(kernel(norm_formats(self.formats)), job)])
        plan = self.measures[kernel]
        plan.run(threads)
        return plan.jobs[0].found.tolist()

    def sums_of_squares(self, threads: int) -> list[float]:
        """The sums of the squared gradients, a tile each."""
        return self.measured(squares_kernel, threads)


class Binding:
    """The tensors of an optimizer, their states, and the buckets for the gradients it was last given."""

    def __init__(self, rule, tensors: list[Tensor], slots: dict[str, Slot], remainders: list[np.ndarray],
                 written: list[np.ndarray],
                 watch: Watch, coefs: dict[np.dtype, np.ndarray], chance: Chance = NONE, tile: int = 0):
        self.rule, self.tensors, self.slots, self.remainders, self.written = rule, tensors, slots, remainders, written
        self.watch = watch
        self.coefs, self.chance, self.tile = coefs, chance, tile
        self.buckets: list[Bucket] = []
        self.wide: list[Bucket] = []  # those with gradients wider than the arithmetic
        self.plan = Plan([])
        self.headers: Headers | None = None
        self.zeroed = False
        self.cleared: list[np.ndarray] = []
        self.told: list = []

    def bound(self, leaves: list, zeroed: bool) -> bool:
        """Whether these gradients, and all that the step writes, are like those that were bound; then `plan` is ready for them."""
        return (self.headers is not None and zeroed == self.zeroed and self.headers.same(leaves)
                and (not zeroed or self._the_same(leaves)))

    def bind(self, leaves: list, paths: list[str], zeroed: bool = False) -> list:
        """Make `buckets` and `plan` those for these gradients, which a step sets to zero if `zeroed`; what must live
        until they are done.

        Whatever is wrong with a gradient is said before anything is written.
        """
        gradients = [gradient(leaf, t, where) for leaf, t, where in zip(leaves, self.tensors, paths, strict=True)]
        check_apart(gradients, self.tensors, self.written, paths)
        if zeroed:
            check_zeroed(gradients, self.tensors, leaves, paths)
        views = [g.array for g in gradients]
        buckets, targets = [], [0]*len(leaves)
        for formats, indices in by_formats(formats_of(gradients, self.tensors, self.slots, zeroed)).items():
            columns = columns_of(indices, views, self.tensors, self.slots, self.remainders)
            bucket = Bucket(self.rule.digest, formats, columns, [self.tensors[k].group for k in indices],
                            self.coefs[computed_in(formats).dtype], [gradients[k].layout for k in indices], self.tile,
                            indices, self.chance)
            for row, k in enumerate(indices):
                targets[k] = arrays.address(bucket.table) + row*bucket.table.shape[1]*WORD
            buckets.append(bucket)
        own = [arrays.address(t.array) if g.format == t.plain and not zeroed else 0 for g,
               t in zip(gradients, self.tensors, strict=True)]
        headers = Headers(views, own, targets, self.written, self.watch)
        headers.known = headers.known and all(view is leaf for view, leaf in zip(views, leaves, strict=True))
        self.buckets, self.plan, self.headers = buckets, Plan([(bucket.kernel, bucket) for bucket in buckets]), headers
        self.wide = [bucket for bucket in buckets if is_wide(bucket.formats)]
        self.zeroed, self.cleared, self.told = zeroed, views if zeroed else [], arrays.torch_tensors(leaves) if zeroed else []
        return [leaves, views]

    def reseeding(self, chance: Chance) -> list["partial[None]"]:
        """What to call so that random bits depend on these."""
        return [partial(setattr, self, "chance", chance),
                *(partial(bucket.words.__setitem__, SEED, chance.seed) for bucket in self.buckets)]

    def _the_same(self, leaves: list) -> bool:
        """Whether these are the very arrays that were bound, still writable: others may overlap each other, which headers do not tell."""
        return all(leaf is known and leaf.flags.writeable for leaf, known in zip(leaves, self.cleared, strict=True))
