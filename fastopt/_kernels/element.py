"""One element of every slot: loaded, decoded, updated by a pipeline, encoded, stored. For any Numba target."""
from typing import Any, NamedTuple

from llvmlite import ir
from numba import types

from .._formats import random_bits
from .._formats.bits import emit
from .llvm import DOUBLE, I1, I32, call, code, i32, i64, independent, on_device, pointer, unpacked
from .memory import FLOAT64, INT, SUMS, U32, coefficients_kind, units_of

LANES = 8  # of the vectors in which the norm is summed


def features(context):
    """What LLVM may use of this processor, as a set of its own names: "+f16c" for example."""
    return {*context.codegen().magic_tuple()[2].split(",")}


class New(NamedTuple):
    """A number that a step gives a slot, and all that storing it may need."""

    slot: int
    number: Any
    random: Any   # 32 random bits, or None
    parts: list   # what was stored
    old: Any      # the number that this was
    change: Any   # whether it is stored at all; None: always


class Element:
    """Emits what is done with one element. `cc`: the compute capability whose instructions are used; None: none are."""

    word: Any = types.uint16  # the whole numbers in which codes that share exponents are computed

    def __init__(self, context, builder, layout, pipeline=None, cc=None):
        self.context, self.builder, self.layout, self.pipeline, self.cc = context, builder, layout, pipeline, cc

    def call(self, function, signature, args):
        return call(self.context, self.builder, function, signature, args)

    def cast(self, x, have, want):
        return self.context.cast(self.builder, x, have, want)

    def formula(self, function, kinds, args):
        """What a formula of a format makes of values of these types."""
        return emit(self.builder, function, kinds, args)

    def converted(self, instruction, function, kinds, args):
        """What a formula makes of values of these types, by an instruction where this target has it."""
        if instruction and self._has(instruction):
            return instruction.emit(self.builder, *args)
        return self.formula(function, kinds, args)

    def _has(self, instruction):
        if self.cc:
            return self.cc >= instruction.since
        return not on_device(self.builder) and f"+{instruction.feature}" in features(self.context)

    def decode(self, k, parts, exponent=None, kind=None):
        """The number of slot k, stored as these parts, in its type or another; `exponent` is its block's."""
        f = self.layout.formats[k]
        if f.block:
            number = self.formula(f.decode, [f.stored, self.word], [*parts, exponent])
        else:
            number = self.converted(f.decoding, f.decode, [f.stored]*len(parts), parts)
        return self.cast(number, f.value, kind or self.layout.values[k])

    def _decoded(self, stored, exponents):
        return [self.decode(k, parts, exponents and exponents.get(k)) for k, parts in enumerate(stored)]

    def random_word(self, start, lane=0):
        """Random bits of the element whose bits begin at `start`, or `lane` behind it; None: none are drawn."""
        if not self.layout.random:
            return None
        start = self.builder.add(start, i32(lane*int(random_bits.ELEMENT) % 2**32)) if lane else start
        return self.formula(random_bits.mixed, [U32], [start])

    def _drawn(self, word):
        """{slot: its random bits}: a product of the element's word for each slot behind the first."""
        return {k: self.builder.mul(word, i32(int(factor))) if rank else word
                for rank, (k, factor) in enumerate(zip(self.layout.random, random_bits.SLOTS, strict=False))}

    def _updated(self, c, values, until=None):
        """The pipeline on numbers in the arithmetic. A wider gradient is scaled in its own type, then converted.
        `until`: the terms of this piece instead."""
        pipeline, layout, kind = self.pipeline, self.layout, coefficients_kind(self.layout, self.pipeline)
        if layout.wide:
            scale, *rest = unpacked(self.builder, c)
            g = self.cast(self.builder.fmul(scale, values[0]), layout.values[0], layout.scalar)
            pipeline, values = pipeline.having("scale", False), [g, *values[1:]]
            if "scale" in pipeline.loaded:  # the rule reads it, of a gradient that is scaled already
                rest = [self.context.get_constant(layout.scalar, 1), *rest]
            kind = types.NamedUniTuple(layout.scalar, len(rest), pipeline.Loaded)
            c = self.context.make_tuple(self.builder, kind, rest)

        def called(function, *numbers, results=None, first=None):
            given = [types.boolean if x.type == I1 else layout.scalar for x in numbers]
            of, own = kind, c
            if first is not None:
                of = types.NamedUniTuple(layout.scalar, first, pipeline.rule.Coefficients)
                own = self.context.make_tuple(self.builder, of, unpacked(self.builder, c)[:first])
            if results is None:
                return self.call(function, layout.scalar(of, *given), [own, *numbers])
            result = types.UniTuple(layout.scalar, results)
            return unpacked(self.builder, self.call(function, result(of, *given), [own, *numbers]))
        return pipeline.compose(called, *values, until=until)

    def terms(self, c, piece, stored, exponents=None):
        """The terms of a measured piece, in float64, of what the slots of an element have stored."""
        found = self._updated(c, self._decoded(stored, exponents), piece)
        return [self.cast(x, self.layout.scalar, FLOAT64) for x in found]

    def advance(self, c, stored, word, exponents=None):
        """What a step makes of an element, of what its slots have stored: a `New` for each slot that is written."""
        pipeline, random = self.pipeline, self._drawn(word) if word is not None else {}
        old = self._decoded(stored, exponents)
        change = old[-1] if pipeline.masked else None
        return [New(k, x, random.get(k), stored[k], old[k], change if k <= 1 + len(pipeline.state) else None)
                for k, x in enumerate(self._updated(c, old), 1)]

    def encode(self, new, f=None):
        """The parts in which a new number is stored, one or two; `f`: in another format than the slot's.

        What a mask keeps is what was stored, bit for bit. Where `encode` is `one_way`, the old number is encoded again.
        """
        f, number, kept = f or self.layout.formats[new.slot], new.number, new.change is not None
        if kept and f.one_way:
            number, kept = self.builder.select(new.change, number, new.old), False
        number = self.cast(number, self.layout.scalar, f.value)
        given, kinds = ([number, new.random], [f.value, U32]) if f.random else ([number], [f.value])
        parts = self.converted(f.encoding, f.encode, kinds, given)
        parts = parts if f.split else [parts]
        if not kept:
            return parts
        return [self.builder.select(new.change, part, old) for part, old in zip(parts, new.parts, strict=True)]

    # An element in memory

    def addresses(self, row):
        """The addresses of each slot's arrays that hold an entry for every element."""
        at = unpacked(self.builder, row)
        return [at[start:start + f.parts] for start, f in zip(self.layout.starts, self.layout.formats, strict=True)]

    def places(self, row, i):
        """Pointers to element i of each slot's arrays."""
        return [[pointer(self.builder, address, ir.IntType(8*f.itemsize) if f.value is types.boolean else
                         self.context.get_data_type(f.stored), i) for address in at]
                for f, at in zip(self.layout.formats, self.addresses(row), strict=True)]

    def alignment(self, k):
        """What loads and stores may rely on: nothing on the CPU, on a device whole elements (`libraries.checked`)."""
        return self.layout.formats[k].itemsize if on_device(self.builder) else 1

    def load(self, k, places):
        return [self.builder.load(place, align=self.alignment(k)) for place in places]

    def store(self, k, parts, places):
        for part, place in zip(parts, places, strict=True):
            self.builder.store(part, place, align=self.alignment(k))


def emit_advance(e, c, row, i, word=None):
    """Emit a step of element i of a row, whose random bits are `word`."""
    at = e.places(row, i)
    stored = [e.load(k, places) for k, places in enumerate(at)]
    param, *states = e.advance(c, stored, word)
    if word is not None:
        states.reverse()  # LLVM keeps the order: Adam with a bf16s state takes 9 % less (Zen 3, studies.fewer_bytes)
    for new in (*states, param):
        e.store(new.slot, e.encode(new), at[new.slot])
    if e.layout.zeroed:
        e.store(0, [ir.Constant(at[0][0].type.pointee, 0)], at[0])


def advance(layout, pipeline, cc=None):
    """advance(c, row, i, key, number): a step of element i of a row; its random bits are those of `number`."""
    @code(types.void, coefficients_kind(layout, pipeline), layout.row, INT, U32, U32)
    def advance(context, builder, c, row, i, key, number):
        e = Element(context, builder, layout, pipeline, cc)
        word = e.formula(random_bits.word, [U32, U32], [key, number]) if layout.random else None
        emit_advance(e, c, row, i, word)
    return advance


def sweep(layout, pipeline):
    """sweep(c, row, first, end, key): a step of elements first to end - 1 of a row; LLVM makes vectors of them."""
    @code(types.void, coefficients_kind(layout, pipeline), layout.row, INT, INT, U32)
    def sweep(context, builder, c, row, first, end, key):
        e = Element(context, builder, layout, pipeline)
        begin = e.formula(random_bits.start, [U32, U32], [key, builder.trunc(first, I32)])
        with independent(builder, first, end, carried=[begin]) as (i, at):
            emit_advance(e, c, row, i, e.random_word(at[0]))
            at[0] = builder.add(at[0], i32(int(random_bits.ELEMENT)))  # a product would take a multiplication each
    return sweep


def wide_vectors(layout):
    """wide_vectors(): ask LLVM for vectors of 512 bits in the kernel that calls this, where the processor has them.

    LLVM prefers 256 on Intel's processors. Formats of 8 and 16 bits take many instructions per byte. llvm-mca says
    that their loops take 0.7 of the time then (icelake-server; not timed on such a processor).
    """
    @code(types.void)
    def wide_vectors(context, builder):
        if any(f.itemsize < 4 and f.value is not types.boolean for f in layout.formats):
            set.add(builder.function.attributes, '"prefer-vector-width"="512"')  # llvmlite knows only LLVM's own names
    return wide_vectors


@code(U32, U32, U32)
def start(context, builder, key, number):
    """start(key, number): where the random bits of an element begin."""
    return emit(builder, random_bits.start, [U32, U32], [key, number])


def add_squares(layout, pipeline, piece):
    """add_squares(c, row, first, end, sums): the squares of a piece's terms of elements first to end - 1, each added to
    a sum of its own in memory: `SUMS` of each term. Behind these lies the unit by which terms are multiplied."""
    @code(types.void, coefficients_kind(layout, pipeline), layout.row, INT, INT, INT)
    def add_squares(context, builder, c, row, first, end, sums):
        e, scaled = Element(context, builder, layout, pipeline), len(units_of(layout.arithmetic.itemsize)) > 1
        unit = builder.load(pointer(builder, sums, DOUBLE, i64(piece.many*SUMS)))
        with independent(builder, first, end, 8) as i:
            stored = [e.load(k, places) for k, places in enumerate(e.places(row, i))]
            lane = builder.sub(i, first)
            for k, x in enumerate(e.terms(c, piece, stored)):
                place = pointer(builder, sums, DOUBLE, builder.add(lane, i64(k*SUMS)))
                x = builder.fmul(x, unit) if scaled else x
                builder.store(builder.fadd(builder.load(place), builder.fmul(x, x)), place)
    return add_squares


def gradient(layout, cc=None):
    """gradient(row, i): element i of the gradient as float64, in which the norm is summed."""
    @code(FLOAT64, layout.row, INT)
    def gradient(context, builder, row, i):
        e = Element(context, builder, layout, cc=cc)
        return e.decode(0, e.load(0, e.places(row, i)[0]), kind=FLOAT64)
    return gradient


def squares(layout, unit):
    """squares(row, first, count, sums): squares of `unit` times the gradient's numbers from `first` on, in float64.

    Of `count` times SUMS numbers, number k goes to sum k % SUMS in memory. The loop's vectors are written out: LLVM
    would load and store each sum for each number, where these stay in registers.
    """
    @code(types.void, layout.row, INT, INT, INT)
    def squares(context, builder, row, first, count, sums):
        e, f = Element(context, builder, layout), layout.formats[0]
        kind, zeros = context.get_data_type(f.stored), ir.Constant(ir.VectorType(DOUBLE, LANES), [0.0]*LANES)
        with independent(builder, i64(0), count, carried=[zeros]*(SUMS//LANES)) as (i, found):
            last = list(found)
            at = builder.add(first, builder.mul(i, i64(SUMS)))
            for k, so_far in enumerate(last):
                place = pointer(builder, e.addresses(row)[0][0], kind, builder.add(at, i64(LANES*k)))
                vector = builder.bitcast(place, ir.VectorType(kind, LANES).as_pointer())
                x = e.converted(f.decoding, f.decode, [f.stored], [builder.load(vector, align=1)])
                x = x if f.value is FLOAT64 else builder.fpext(x, zeros.type)
                x = x if unit == 1 else builder.fmul(x, ir.Constant(zeros.type, [unit]*LANES))
                found[k] = builder.fadd(so_far, builder.fmul(x, x))
        for k, total in enumerate(last):
            place = pointer(builder, sums, DOUBLE, i64(LANES*k))
            builder.store(total, builder.bitcast(place, zeros.type.as_pointer()), align=8)
    return squares


@code(FLOAT64, INT)
def halved(context, builder, sums):
    """halved(sums): the sum of SUMS numbers in memory, in pairs: k and k + 32, then k and k + 16, and so on."""
    kind, count = ir.VectorType(DOUBLE, SUMS), SUMS
    x = builder.load(builder.inttoptr(sums, kind.as_pointer()), align=8)
    while count > 1:
        count //= 2
        low, high = (builder.shuffle_vector(x, ir.Constant(x.type, ir.Undefined), ir.Constant(
            ir.VectorType(I32, count), list(range(start, start + count)))) for start in (0, count))
        x = builder.fadd(low, high)
    return builder.extract_element(x, i32(0))
