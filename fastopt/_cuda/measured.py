"""Coefficients that depend on whole tensors, or on each of their rows, on a CUDA device: launches before a step's own.

A part of a step whose pipeline has measured pieces, or whose gradients are clipped each by its own norm, has a row of
coefficients for each unit (see `_tensors.units`), not for each group. `spread` gives units the rows of their groups,
and `clipped` multiplies their factor. Then, for each piece, `sums` makes the sums of 4,096 elements each, and `of_sums`
adds those up and makes the coefficients. All of it has the bits of the CPU.
"""
import math
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from .._formats.blocks import SIZE
from .._kernels import memory
from .._kernels.block import BlockElement
from .._kernels.layout import Layout
from .._kernels.llvm import DOUBLE, call, code, i64, pointer, unpacked
from .._kernels.memory import (
    FLOAT64,
    INT,
    LARGE_SUM,
    SHRUNK,
    SMALL_SUM,
    STRIDED_TILE,
    SUMS,
    TILE,
    UNITS,
    WORD,
    coefficients_kind,
    get,
    put,
    put_single,
    record,
    tile_word,
    units_of,
    word,
)
from .._rule.digest import digest
from .._rule.pieces import MEASURE, MEASURED
from .._rule.pipeline import Pipeline
from .._tensors.tensors import Tensor
from .._tensors.units import SPAN, SPAN_WORDS, Spans, Units
from . import driver, lanes
from .advance import exact_sum
from .code import Code
from .code import code as linked
from .loops import CLOCK, THREADS
from .warps import WARP

PASS = record("count table width tiles coefs clock found exact")          # the parameters of `sums`,
SPREAD = record("count groups of rows coefs")                             # of `spread`,
CLIP = record("count spans found stride clip_norm clock rows coefs")      # of `clipped`
FROM = record("count spans found rows coefs")                             # and of `of_sums`
Launch = tuple[int, int, driver.Arguments]


def _add_squares(layout, pipeline, piece, cc):
    """add_squares(c, row, i, unit, sums): the sums, each with the square of one of a piece's terms of element i."""
    from numba import types
    kind, scaled = types.UniTuple(FLOAT64, piece.many), len(units_of(layout.arithmetic.itemsize)) > 1

    @code(kind, coefficients_kind(layout, pipeline), layout.row, INT, FLOAT64, kind)
    def add_squares(context, builder, c, row, i, unit, sums):
        e, at = BlockElement(context, builder, layout, pipeline, cc), unpacked(builder, row)
        stored = [e.load(k, places) for k, places in enumerate(e.places(row, i))]
        found = e.terms(c, piece, stored, e.exponents(at, builder.udiv(i, i64(SIZE))))
        found = [builder.fmul(x, unit) for x in found] if scaled else found
        return [builder.fadd(s, builder.fmul(x, x)) for s, x in zip(unpacked(builder, sums), found, strict=True)]
    return add_squares


def _halved():
    """halved(low, high): the sum of 64 numbers, j and j + 32 of which thread j of a warp has, in every thread."""
    from numba import cuda

    def halved(low, high):
        low += high
        half = WARP//2
        while half > 0:
            low += cuda.shfl_down_sync(0xFFFFFFFF, low, half)
            half //= 2
        return cuda.shfl_sync(0xFFFFFFFF, low, 0)
    return cuda.jit(device=True, inline="always")(halved)


@cache
def sums(pipeline: Pipeline, layout: Layout, name: str, cc: tuple[int, int], form: str = "cubin") -> Code:
    """The sums of the squares of a measured piece's terms, of every tile, with the CPU's bits. A warp takes a tile.

    In units other than 1 only those tiles are looked at whose squares may leave the range. Of others the sums are 0.
    """
    of = f"sums {name} {pipeline.digest} {digest(pipeline.body)} {layout}"
    return linked(of, cc, form, lambda: _sums(layout, pipeline, MEASURED[name], cc), THREADS)


def _sums(layout, pipeline, piece, cc):
    from numba import cuda, types, uint32
    together, many, nothing, nan = THREADS//WARP, piece.many, (0.0,)*piece.many, math.nan
    looks, (one, shrunk, enlarged) = len(units_of(layout.arithmetic.itemsize)), UNITS
    add_squares, halved, strided_row = _add_squares(layout, pipeline, piece, cc), _halved(), lanes.strided_row(layout)
    addresses, coefficients, row_at = (memory.addresses(layout), memory.coefficients(layout, pipeline),
                                       memory.row_at(layout))

    row_bytes = len(pipeline.fields)*WORD

    def sums(count, table, width, tiles, coefs, clock, found, exact):
        lane = uint32(cuda.threadIdx.x % WARP)
        k, end = uint32(cuda.blockIdx.x*together + cuda.threadIdx.x//WARP), uint32(count)
        if word(clock, CLOCK.skip) != 0:  # nothing is read then, and `measures` is NaN
            while k < end and lane == 0:
                for term in range(many):
                    put(found, k*looks*many + term, nan)
                k = uint32(k + uint32(cuda.gridDim.x*together))
            return
        if k >= end:
            return
        tensor = tile_word(tiles, k, TILE.tensor)
        while k < end:
            tile, table_row = tiles + 4*WORD*k, table + tensor*width*WORD
            lo, n = word(tile, TILE.first), uint32(word(tile, TILE.end) - word(tile, TILE.first))
            row = row_at(addresses(table_row), lo)
            after = uint32(k + uint32(cuda.gridDim.x*together))
            if after < end:
                tensor = tile_word(tiles, after, TILE.tensor)
            group = word(tile, TILE.group)
            c = coefficients(coefs, group, exact + group*row_bytes)
            large = small = False
            for look in range(looks):
                low, high, i = nothing, nothing, lane
                unit = one if look == 0 else shrunk if look == 1 else enlarged
                if look > 0 and not (large if look == 1 else small):
                    i = n
                while uint32(i + uint32(WARP)) < n:  # the loads of two elements at a time
                    j = uint32(i + uint32(WARP))
                    low = add_squares(c, strided_row(row, table_row, lo, i), i, unit, low)
                    high = add_squares(c, strided_row(row, table_row, lo, j), j, unit, high)
                    i = uint32(i + uint32(SUMS))
                if i < n:
                    low = add_squares(c, strided_row(row, table_row, lo, i), i, unit, low)
                for term in range(many):
                    total = halved(low[term], high[term])
                    if lane == 0:
                        put(found, (k*looks + look)*many + term, total)
                    if look == 0:
                        large, small = large or not total < LARGE_SUM, small or total < SMALL_SUM
            k = after
    return sums, types.void(*[types.int64]*len(PASS))


def _put_in(itemsize):
    """What stores a float64 number in the arithmetic."""
    return put_single if itemsize == 4 else put


@cache
def spread(fields: int, itemsize: int, cc: tuple[int, int], form: str = "cubin") -> Code:
    """Gives units the rows of coefficients of their groups, in float64 and in the arithmetic."""
    return linked(f"spread {fields} {itemsize}", cc, form, lambda: _spread(fields, itemsize), THREADS)


def _spread(fields, itemsize):
    from numba import cuda, int64, types
    put_in = _put_in(itemsize)

    def spread(count, groups, of, rows, coefs):
        unit = int64(cuda.blockIdx.x)*THREADS + cuda.threadIdx.x
        while unit < count:
            group = word(of, unit)
            for k in range(fields):
                value = get(groups, group*fields + k)
                put(rows, unit*fields + k, value)
                put_in(coefs, unit*fields + k, value)
            unit += int64(cuda.gridDim.x)*THREADS
    return spread, types.void(*[types.int64]*len(SPREAD))


@cache
def clipped(fields: int, itemsize: int, cc: tuple[int, int], form: str = "cubin") -> Code:
    """Multiplies the gradient factor of units where the gradient of their tensor is longer than `clip_norm`.

    A block takes a span, which says where the sums of its tensor lie in the rows of `squares`, `stride` numbers apart.
    """
    return linked(f"clipped {fields} {itemsize}", cc, form, lambda: _clipped(fields, itemsize), THREADS)


def _clipped(fields, itemsize):
    from numba import cuda, float64, int64, types
    put_in, of, one, enlarged = _put_in(itemsize), exact_sum(), 1.0, 1/SHRUNK

    def clipped(count, spans, found, stride, clip_norm, clock, rows, coefs):
        hi, lo = cuda.shared.array(THREADS, float64), cuda.shared.array(THREADS, float64)
        k = int64(cuda.blockIdx.x)
        while k < count:
            span, total, shrunk, part = spans + k*SPAN_WORDS*WORD, float64(0), one, int64(0)
            while part < 2:
                first = part*stride + word(span, SPAN.tile)
                total = of(hi, lo, found, first, part*stride + word(span, SPAN.tile_end))
                shrunk, part = one if part == 0 else enlarged, part + (1 if total - total != 0 else 2)
            norm = abs(get(clock, CLOCK.factor))*shrunk*math.sqrt(total)
            unit = word(span, SPAN.unit) + cuda.threadIdx.x
            while unit < word(span, SPAN.unit_end) and clip_norm < norm and norm - norm == 0:
                value = get(rows, unit*fields)*(clip_norm/norm)
                put(rows, unit*fields, value)
                put_in(coefs, unit*fields, value)
                unit += THREADS
            k += cuda.gridDim.x
    kinds = [types.float64 if name == "clip_norm" else types.int64 for name in CLIP._fields]
    return clipped, types.void(*kinds)


@cache
def of_sums(pipeline: Pipeline, name: str, itemsize: int, cc: tuple[int, int], form: str = "cubin") -> Code:
    """Adds up the sums of tiles, as `Spans.pairs`, and makes the coefficients of units. A warp takes a span."""
    of = f"of sums {name} {' '.join(pipeline.fields)} {itemsize}"
    return linked(of, cc, form, lambda: _of_sums(pipeline, MEASURED[name], itemsize), THREADS)


def _given(pipeline, piece):
    """given(rows, unit, pairs, n): what a piece's function of sums gives, of float64 rows of coefficients."""
    from numba import types
    kind = types.NamedUniTuple(FLOAT64, len(pipeline.fields), pipeline.Coefficients)
    pair, result = types.UniTuple(FLOAT64, 2), types.UniTuple(FLOAT64, len(piece.gives))
    pairs_kind = types.UniTuple(pair, piece.many)

    @code(result, INT, INT, pairs_kind, FLOAT64)
    def given(context, builder, rows, unit, pairs, n):
        data = pointer(builder, rows, DOUBLE, builder.mul(unit, i64(len(pipeline.fields))))
        values = [builder.load(builder.gep(data, [i64(k)])) for k in range(len(pipeline.fields))]
        c = context.make_tuple(builder, kind, values)
        found = call(context, builder, piece.of_sums, result(kind, pairs_kind, FLOAT64), [c, pairs, n])
        return unpacked(builder, found)
    return given


def _of_sums(pipeline, piece, itemsize):
    from numba import cuda, float64, int64, types, uint32
    given, halved, put_in = _given(pipeline, piece), _halved(), _put_in(itemsize)
    many, fields, together = piece.many, len(pipeline.fields), THREADS//WARP
    columns = tuple(map(pipeline.fields.index, piece.gives))
    most = float(np.finfo(np.float32 if itemsize == 4 else np.float64).max)
    looks, (one, enlarged, shrunk), least, infinity = len(units_of(itemsize)), (1/x for x in UNITS), SMALL_SUM, math.inf

    def total(found, first, end, lane, column):
        low, high, i = float64(0), float64(0), first + lane
        while i + WARP < end:
            low += get(found, i*looks*many + column)
            high += get(found, (i + WARP)*looks*many + column)
            i += SUMS
        if i < end:
            low += get(found, i*looks*many + column)
        return halved(low, high)
    total = cuda.jit(device=True, inline="always")(total)

    def pair(found, first, end, lane, term):
        of, unit = total(found, first, end, lane, term), one
        if looks > 1 and (of == infinity or of < least):
            look, unit = (1, enlarged) if of == infinity else (2, shrunk)
            of = total(found, first, end, lane, look*many + term)
        return of, unit
    pair = cuda.jit(device=True, inline="always")(pair)
    pairs = cuda.jit(device=True, inline="always")({
        1: lambda found, first, end, lane: (pair(found, first, end, lane, 0),),
        2: lambda found, first, end, lane: (pair(found, first, end, lane, 0), pair(found, first, end, lane, 1)),
    }[many])

    def of_sums(count, spans, found, rows, coefs):
        lane = int64(uint32(cuda.threadIdx.x % WARP))
        k = int64(cuda.blockIdx.x)*together + cuda.threadIdx.x//WARP
        while k < count:
            span = spans + k*SPAN_WORDS*WORD
            sums = pairs(found, word(span, SPAN.tile), word(span, SPAN.tile_end), lane)
            n, unit, end = get(span, SPAN.size), word(span, SPAN.unit) + lane, word(span, SPAN.unit_end)
            while unit < end:
                values = given(rows, unit, sums, n)
                for j in range(len(columns)):
                    value = values[j]
                    if value > most:  # infinity times 0 would be NaN
                        value = most
                    put(rows, unit*fields + columns[j], value)
                    put_in(coefs, unit*fields + columns[j], value)
                unit += WARP
            k += int64(cuda.gridDim.x)*together
    return of_sums, types.void(*[types.int64]*len(FROM))


class Sums:
    """A launch of `sums` on the tiles of some tensors of a bucket."""

    def __init__(self, bucket: Any, pipeline: Pipeline, name: str, tiles: np.ndarray, coefs: driver.Memory,
                 exact: driver.Memory):
        """`coefs` has the rows of coefficients of the tiles, `exact` those in float64."""
        self.gpu, self.tiles = bucket.gpu, driver.uploaded(bucket.gpu, tiles)
        gpu, self.count = bucket.gpu, len(tiles)
        self.shape = self.count, len(units_of(bucket.layout.arithmetic.itemsize)), MEASURED[name].many
        size = math.prod(self.shape)
        self.found = gpu.allocate(WORD*size)
        gpu.fill(self.found.address, size, np.float64(0))
        function, held = gpu.function(sums(pipeline, bucket.layout.read, name, gpu.cc, gpu.form))
        words = {"count": self.count, "table": bucket.table.address, "width": bucket.width, "tiles": self.tiles.address,
                 "coefs": coefs.address, "clock": bucket.clock.address, "found": self.found.address,
                 "exact": exact.address}
        self.launches = [_launch(function, min(-(-self.count//(THREADS//WARP)), held), PASS, words)]

    def read(self) -> np.ndarray:
        """The sums of each tile, in each unit, of each term. Waits for the device."""
        found = np.zeros(self.shape)
        self.gpu.download(found, self.found.address)
        return found


class Survey(Sums):
    """What finds the norms of gradients, parameters and updates, in a step that measures."""

    def __init__(self, bucket: Any, pipeline: Pipeline, tiles: np.ndarray, *rows: driver.Memory):
        super().__init__(bucket, pipeline, MEASURE.name, tiles, *rows)
        self.spans = Spans(tiles)

    def norms(self) -> dict[int, np.ndarray]:
        """Those that the last such step found, by tensor of the bucket."""
        return dict(zip(self.spans.of.tolist(), self.spans.norms(self.read()).T, strict=True))


class Measured:
    """The launches that find the coefficients of the units of a part of a step."""

    def __init__(self, bucket: Any, pipeline: Pipeline, tensors: Sequence[Tensor], chosen: Sequence[bool],
                 squares: "Squares | None" = None):
        """`tensors` are those of the bucket, of which the part has the `chosen` ones, and with `squares` clips each."""
        gpu, itemsize, fields = bucket.gpu, bucket.layout.arithmetic.itemsize, len(pipeline.fields)
        self.units = units = Units(pipeline, bucket.layout, tensors, chosen)
        self.tiles, count = units.cut(STRIDED_TILE), len(units)
        self.rows, self.coefs = (gpu.allocate(size*fields*count) for size in (WORD, itemsize))
        self.both = {"rows": self.rows.address, "coefs": self.coefs.address}
        groups = driver.uploaded(gpu, np.array(bucket.groups, np.int64)[units.tensors])
        self.keep: list[Any] = [groups]
        self.clip: driver.Arguments | None = None  # of the launch that clips, which gets its limit before each step
        self.launches = [self._launch(gpu, spread(fields, itemsize, gpu.cc, gpu.form), count, THREADS, SPREAD, {
            "groups": bucket.exact.address, "of": groups.address})]
        if squares is not None:
            table = Spans(self.tiles, units.tensors).table
            ends = np.cumsum([0, *(-(-n//STRIDED_TILE) for n in bucket.sizes)]) + squares.first
            of = self.tiles[table[:, SPAN.tile], TILE.tensor]
            table[:, SPAN.tile], table[:, SPAN.tile_end] = ends[of], ends[of + 1]
            spans = driver.uploaded(gpu, table)
            self.keep += [spans, squares]
            self.launches.append(self._launch(gpu, clipped(fields, itemsize, gpu.cc, gpu.form), len(table), 1, CLIP, {
                "spans": spans.address, "found": squares.sums.address, "stride": squares.stride, "clip_norm": 0,
                "clock": bucket.clock.address}))
            self.clip = self.launches[-1][2]
        for piece in pipeline.measured:
            sums = Sums(bucket, pipeline, piece.name, self.tiles, self.coefs, self.rows)
            table = Spans(self.tiles, units.tensors, piece.by_row).table
            spans = driver.uploaded(gpu, table)
            self.keep += [sums, spans]
            code = of_sums(pipeline, piece.name, itemsize, gpu.cc, gpu.form)
            self.launches += [*sums.launches, self._launch(gpu, code, len(table), THREADS//WARP, FROM, {
                "spans": spans.address, "found": sums.found.address})]

    def _launch(self, gpu: driver.Gpu, code: Code, count: int, each: int, names: Any, words: dict[str, int]) -> Launch:
        """A launch on so many things, of which a block takes `each` at a time."""
        function, held = gpu.function(code)
        return _launch(function, min(-(-count//each), held), names, {"count": count, **words, **self.both})


class Squares(NamedTuple):
    """Where the sums of squares of a bucket's gradients lie: from the `first` on, in rows `stride` numbers apart."""

    sums: driver.Memory
    stride: int
    first: int


def _launch(function: int, blocks: int, names: Any, words: dict[str, int]) -> Launch:
    return function, blocks, driver.Arguments([words[name] for name in names._fields])
