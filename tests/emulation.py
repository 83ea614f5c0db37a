"""Run fastopt's CUDA kernels in the PTX interpreter, on NumPy arrays that stand for device memory. It needs no GPU."""
from functools import lru_cache

import numpy as np
from conftest import layout
from ptx import Kernel, Memory, Run

from fastopt._cuda import loops as cuda
from fastopt._formats.blocks import SIZE
from fastopt._rule.pipeline import pipeline, row_length
from fastopt._tensors.tensors import make_tiles

GUARD = 64  # elements around every array that must keep their bytes


def step_code(rule, formats, cc=(9, 0), form="ptx"):
    """The code of a rule's step, with the pieces of every rule."""
    return cuda.step(pipeline(rule), layout(formats), cc, form)


@lru_cache(maxsize=32)
def parsed(image):
    return Kernel(image.decode().rstrip("\0"))


def kernel(code):
    return parsed(code.image)


class Placed:
    """A copy of an array in emulated memory, `skip` elements behind a multiple of 256 bytes, with guards around it."""

    def __init__(self, memory, array, skip=0, name=""):
        self.raw = np.full((array.size + skip + 2*GUARD)*array.itemsize, 0x5A, np.uint8)
        first = (GUARD + skip)*array.itemsize
        self.array = self.raw[first:first + array.nbytes].view(array.dtype)
        self.array[...] = array.reshape(-1)
        self.address = memory.add(self.raw, name) + first
        self.around = (self.raw[:first], self.raw[first + array.nbytes:])

    def untouched_around(self):
        return all((guard == 0x5A).all() for guard in self.around)


def itemsizes(formats):
    """128 times the bytes that an element takes in each array of its slots."""
    return [1 if f.block and part else SIZE*f.itemsize for f in layout(formats).formats for part in range(f.columns)]


def run(code, blocks, table, tiles, arguments, memory, **options):
    """A launch of a kernel that is given a table of tensors and one of tiles."""
    words = [len(tiles), memory.add(table, "table"), table.shape[1], memory.add(tiles, "tiles"), *arguments]
    return Run(code, blocks, cuda.THREADS, [np.int64(a) for a in words], memory, **options)


class Launch:
    """One launch of the step kernel over any number of tensors: `tensors` is a list of lists of arrays, gradient first,
    a slot of two arrays giving both in turn. `numbers` are those of the tensors, `options` of the `Run`."""

    def __init__(self, rule, formats, tensors, coefficients, groups=None, cc=(9, 0), skips=None, skip=0, blocks=3,
                 layouts=None, first=0, tile=0, code=None, begin=0, seed=0, step=1, numbers=None, **options):
        self.memory = memory = Memory()
        skips = skips or [[0]*len(arrays) for arrays in tensors]
        numbers = numbers or range(len(tensors))
        self.tensors = [
            [Placed(memory, a, s, f"tensor {k} slot {j}") for j, (a, s) in enumerate(zip(arrays, by, strict=True))]
            for k, (arrays, by) in enumerate(zip(tensors, skips, strict=True))]
        table = np.array([[*(p.address for p in placed), number, 0, *(layouts[k] if layouts else [])]
                          for k, (placed, number) in enumerate(zip(self.tensors, numbers, strict=True))], np.int64)
        table[:, 0] += first*tensors[0][0].itemsize  # of a gradient whose first element is not the first in memory
        if begin:  # what is given are the elements from there on
            table[:, :layout(formats).columns] -= begin*np.array(itemsizes(formats))//SIZE
        self.tiles = make_tiles([placed[1].array.size for placed in self.tensors], groups or [0]*len(tensors),
                                tile or cuda.tile_size(layout(formats), cc))
        self.tiles[:, 2:] += begin
        coefs = np.zeros((len(coefficients), row_length(rule)), layout(formats).arithmetic.dtype)
        coefs[:, :len(coefficients[0])] = coefficients  # a rule by itself has none for modifiers
        clock = np.zeros(cuda.CLOCK_WORDS, np.int64)
        clock[[cuda.CLOCK.skip, cuda.CLOCK.t]] = skip, step
        exact = coefs.astype(np.float64)
        self.run = run(code or kernel(step_code(rule, formats, cc)), blocks, table, self.tiles,
                       [memory.add(coefs, "coefs"), memory.add(clock, "clock"), seed, memory.add(exact, "exact")],
                       memory, **options)

    def slots(self, k=0):
        return [p.array for p in self.tensors[k]]


class Squares:
    """One launch of the kernel of the sums of squares."""

    def __init__(self, formats, gradients, cc, layouts=None, blocks=2):
        memory = Memory()
        placed = [Placed(memory, g, name=f"gradient {k}") for k, g in enumerate(gradients)]
        table = np.array([[p.address, 0, k, 0, *(layouts[k] if layouts else [])] for k, p in enumerate(placed)],
                         np.int64)
        tiles = make_tiles([g.size for g in gradients], [0]*len(gradients), cuda.NORM_TILE)
        self.rows = np.full((4, len(tiles)), -1.0)
        self.sums = self.rows[0]
        run(kernel(cuda.squares(layout(formats), cc, "ptx")), blocks, table, tiles,
            [memory.add(self.rows, "sums"), len(tiles)], memory, stats=True)
