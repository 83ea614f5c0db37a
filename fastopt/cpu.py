import time
from numba import njit, types
from .memory import *
from .memory import BATCH
FLAGS = dict(error_model="numpy", nogil=True)
I1, I2 = types.Array(types.int64, 1, "C"), types.Array(types.int64, 2, "C")

def build(rule, formats):
    coefs = types.Array(computed_in(formats), 2, "C")
    @njit(types.void(I2, I2, coefs, I1), **FLAGS)
    def kernel(table, tiles, coefs, work):
        n = len(tiles)
        batch = work[BATCH]
        first = claim(work, batch)
        while first < n:
            last = min(first + batch, n)
            for k in range(first, last):
                row = addresses(formats, table, tiles[k, 0])
                c = coefficients(rule, coefs, tiles[k, 1])
                for i in range(tiles[k, 2], tiles[k, 3]):
                    store(formats, row, i, update(rule, c, load(formats, row, i)))
            finish(work, last - first)
            first = claim(work, batch)
    return kernel
