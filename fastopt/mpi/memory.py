"""The memory of parameters that ranks share: flat arrays of them and of their gradients, and which piece is whose."""
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from .. import trees
from .._formats.catalogue import Format, arithmetic
from .._tensors import arrays
from .._tensors.backend import in_memory_order, out_of_memory_order
from .._tensors.tensors import Tensor, beside
from .._tensors.units import Spans, whole_tensors
from ..storage import decode, encode
from .ranks import Ranks, wait
from .shares import Bucket, Piece, buckets, pieces, starts

Flats = Sequence[np.ndarray]


class Memory:
    """Flat arrays, one for each dtype of parameters and of their gradients, cut into buckets and into pieces.

    `work` has the parameters, as all ranks have them; `sums` their gradients. The pieces of this rank are what its
    optimizer updates: views of `work`, or arrays of their own where all ranks have another format.
    """

    def __init__(self, given: Sequence[Tensor], format: Format | None, bucket: int, ranks: Ranks):
        """Of these tensors, as rank 0 has them; `format`: that in which all ranks have them, if it is another."""
        self.format, self._ranks = format, ranks
        self.work, self.sums, self.tensors = list[np.ndarray](), list[np.ndarray](), list[Tensor]()
        self.buckets, self.pieces = list[Bucket](), list[Piece]()
        kinds = [(self.worked(np.zeros(0, t.array.dtype), t).dtype, arithmetic(t.format).dtype) for t in given]
        self._at = [(0, 0)]*len(given)  # of each tensor: its flat array, and where it starts there
        for flat, kind in enumerate(dict.fromkeys(kinds)):
            members = [k for k, of in enumerate(kinds) if of == kind]
            ends = starts([given[k].array.size for k in members])
            for k, start in zip(members, ends, strict=False):
                self._at[k] = flat, start
            for flats, dtype in zip((self.work, self.sums), kind, strict=True):
                flats.append(zeros(ends[-1], dtype))
            self.buckets += buckets(flat, ends, bucket, ranks.size)
        for k, (t, (flat, start)) in enumerate(zip(given, self._at, strict=True)):
            self.pieces += pieces(k, start, t.array.size, [(j, of) for j, of in enumerate(self.buckets)
                                                           if of.flat == flat])
        self.mine = [piece.bounds[ranks.rank] for piece in self.pieces]
        self._rooms: dict[int, tuple[np.ndarray, dict[int, np.ndarray]]] = {}
        rows = [self._start(k, t) for k, t in enumerate(given)]
        self.parameters = [own.copy() if format else own for own in self.cut(rows)]  # of each piece here

    def follow(self, numbers: Any, grouped: bool) -> None:
        """Have the structure of this tree, or of the trees of groups: numbers in the places of the tensors."""
        roots, leaves, groups = list[Any](), list[tuple[str, Any]](), list[int]()
        for k, tree in enumerate(numbers if grouped else [numbers]):
            roots.append(trees.structure(tree, f"params[{k}]" if grouped else "params", leaves))
            groups += [k]*(len(leaves) - len(groups))
        self.tensors = [t._replace(path=path, group=k)
                        for t, (path, _), k in zip(self.tensors, leaves, groups, strict=True)]
        self.structure: Any = trees.Sequence(numbers, roots) if grouped else roots[0]
        self.paths = [beside(t, "grads") for t in self.tensors]  # of their gradients
        sizes = [t.array.size for t in self.tensors]
        self.spans = Spans(whole_tensors(range(len(sizes)), sizes, [0]*len(sizes)))  # for sums of all of each tensor

    def _start(self, k: int, t: Tensor) -> np.ndarray:
        """The elements of a tensor, in memory order, as rank 0 has them. All ranks put them into `work`."""
        row, work = np.array(in_memory_order(t.array, t.order)), self.row(self.work, k, t)
        self._ranks.from_first(row)
        work[...] = self.worked(row, t)
        view = nothing(t.array.shape, row.dtype) if self.format else shaped(work, t)
        self.tensors.append(t._replace(array=view, original=view))
        return row if self.format else work

    def worked(self, row: np.ndarray, t: Tensor) -> np.ndarray:
        """Elements of a parameter as all ranks have them."""
        return encode(decode(row, t.plain), self.format) if self.format else row

    def row(self, flats: Flats, k: int, t: Tensor) -> np.ndarray:
        """The elements of a tensor in a flat array."""
        flat, start = self._at[k]
        return flats[flat][start:start + t.array.size]

    def rows(self, flats: Flats) -> list[np.ndarray]:
        """The elements of all tensors in flat arrays."""
        return [self.row(flats, k, t) for k, t in enumerate(self.tensors)]

    def views(self, flats: Flats) -> list[np.ndarray]:
        """The same in the shapes of the tensors, in which complex ones are pairs of real ones."""
        return [shaped(row, t) for row, t in zip(self.rows(flats), self.tensors, strict=True)]

    def given(self, flats: Flats) -> Iterator[np.ndarray]:
        """The same as the program sees them."""
        return (t.as_given(view) for t, view in zip(self.tensors, self.views(flats), strict=True))

    def cut(self, rows: Sequence[np.ndarray]) -> list[np.ndarray]:
        """What the pieces here have of rows, one for each tensor."""
        return [rows[piece.tensor][lo:hi] for piece, (lo, hi) in zip(self.pieces, self.mine, strict=True)]

    def by_group(self, values: Sequence[Any], first: int = 0) -> list[list[Any]]:
        """Values, one for each piece, by the groups of their tensors, of which the first has this number."""
        found: list[list[Any]] = [[] for _ in range(1 + max(t.group for t in self.tensors) - first)]
        for piece, value in zip(self.pieces, values, strict=True):
            found[self.tensors[piece.tensor].group - first].append(value)
        return found

    def room(self, k: int) -> tuple[np.ndarray, dict[int, np.ndarray]]:
        """Room for this rank's gradients of bucket k, and what each piece in it has of that."""
        if k not in self._rooms:
            bucket, of = self.buckets[k], {}
            rank = self._ranks.rank
            row = zeros(bucket.counts[rank], self.sums[bucket.flat].dtype)
            for j in [j for j, piece in enumerate(self.pieces) if piece.bucket == k]:
                (lo, hi), start = self.mine[j], self._at[self.pieces[j].tensor][1] - bucket.ends[rank]
                of[j] = row[start + lo:start + hi] if lo < hi else row[:0]
            self._rooms[k] = row, of
        return self._rooms[k]

    def join(self, more: "Memory") -> None:
        """Have the tensors of another, behind those here."""
        flats, at, tensors = len(self.work), len(self.buckets), len(self.tensors)
        self.work, self.sums = self.work + more.work, self.sums + more.sums
        self.buckets += [of._replace(flat=flats + of.flat) for of in more.buckets]
        self.pieces += [of._replace(tensor=tensors + of.tensor, bucket=at + of.bucket) for of in more.pieces]
        self._at += [(flats + flat, start) for flat, start in more._at]
        self.tensors, self.mine = self.tensors + more.tensors, self.mine + more.mine
        self.parameters += more.parameters

    def keep(self, left: Sequence[int]) -> None:
        """Have these tensors alone. Buckets without any go; in the others, and in the flat arrays, gaps are left."""
        kept = [j for j, piece in enumerate(self.pieces) if piece.tensor in left]
        used = sorted({self.pieces[j].bucket for j in kept})
        self.buckets, self._rooms = [self.buckets[k] for k in used], {}
        self.pieces = [piece._replace(tensor=left.index(piece.tensor), bucket=used.index(piece.bucket))
                       for piece in map(self.pieces.__getitem__, kept)]
        self.mine, self.parameters = [self.mine[j] for j in kept], [self.parameters[j] for j in kept]
        self._at, self.tensors = [self._at[k] for k in left], [self.tensors[k] for k in left]

    def gather(self, flats: Flats) -> None:
        """Send the shares of flat arrays to all ranks."""
        wait([self._ranks.share(flats[of.flat][of.span], of.counts) for of in self.buckets])


def shaped(row: np.ndarray, t: Tensor) -> np.ndarray:
    """Elements of a tensor, in memory order, in its shape."""
    return out_of_memory_order(row, t.array.shape, t.order)


def nothing(shape: Any, dtype: Any) -> np.ndarray:
    """An array that takes no memory: it has one element, over and over."""
    return np.broadcast_to(np.zeros((), dtype), shape)


def zeros(n: int, dtype: Any) -> np.ndarray:
    """A row of zeros that starts with a cache line."""
    size = n*np.dtype(dtype).itemsize
    block = np.zeros(size + arrays.LINE, np.uint8)
    start = -arrays.address(block) % arrays.LINE
    return block[start:start + size].view(dtype)
