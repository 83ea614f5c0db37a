"""Two elements in a 32-bit word, where all slots have 16 bits: that spares LLVM's vectors their shuffles.

An even element is the lower half of its word, an odd one the upper. A shift or a mask reaches it; none is moved.
"""
import numpy as np
from llvmlite import ir
from numba import types

from .._formats.random_bits import ELEMENT
from .._kernels import element
from .._kernels.llvm import I8, I16, I32, code, i32
from .._kernels.memory import INT, U32, coefficients_kind

NEXT_PAIR = np.uint32(2*int(ELEMENT) % 2**32)  # from the random bits of one pair to the next


def advance_pair(layout, pipeline):
    """advance_pair(c, row, i, start): a step of elements i and i + 1; the random bits of the first begin at `start`."""
    narrow = [I8 if f.itemsize == 1 else I16 for f in layout.formats]

    @code(types.void, coefficients_kind(layout, pipeline), layout.row, INT, U32)
    def advance_pair(context, builder, c, row, i, start):
        e = element.Element(context, builder, layout, pipeline)
        at = [[builder.bitcast(place, ir.IntType(2*kind.width).as_pointer()) for place in places]
              for kind, places in zip(narrow, e.places(row, i), strict=True)]
        words = [[builder.load(place, align=1) for place in places] for places in at]
        both = []
        for lane in range(2):
            shifted = [[builder.lshr(w, ir.Constant(w.type, w.type.width//2)) if lane else w for w in parts]
                       for parts in words]
            stored = [[builder.trunc(w, kind) for w in parts] for kind, parts in zip(narrow, shifted, strict=True)]
            both.append(e.advance(c, stored, e.random_word(start, lane)))
        param, *states = zip(*both, strict=True)
        for pair in (*states, param):
            for place, low, high in zip(at[pair[0].slot], *map(e.encode, pair), strict=True):
                word = builder.or_(builder.zext(low, I32), builder.shl(builder.zext(high, I32), i32(16)))
                builder.store(word, place, align=1)
        if layout.zeroed:
            builder.store(i32(0), at[0][0], align=1)
    return advance_pair


def in_pairs(layout, pipeline):
    """The loop over a tile's elements, by two."""
    pair, single, start = advance_pair(layout, pipeline), element.advance(layout, pipeline), element.start

    def sweep(c, row, lo, hi, key):
        even, bits = hi - (hi - lo) % 2, start(key, np.uint32(lo))
        for i in range(lo, even, 2):
            pair(c, row, i, bits)
            bits = np.uint32(bits + NEXT_PAIR)
        for i in range(even, hi):
            single(c, row, i, key, i)
    return sweep
