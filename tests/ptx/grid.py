"""Who the threads of a launch are: their blocks, warps, lanes and special registers."""
import numpy as np

from .races import Group
from .values import PTXError

WARP = 32


class Grid:
    """The threads of all blocks, numbered one block after the other: how many ``blocks``, threads in a block, ``warps``
    and ``threads``; of each thread its ``lane``, ``warp`` (numbered through all blocks) and ``block``; special
    registers."""

    def __init__(self, kernel, grid, block):
        grid, block = _three(grid), _three(block)
        self.blocks, self.block_size = int(np.prod(grid)), int(np.prod(block))
        fits = 0 < self.block_size <= kernel.max_threads and kernel.required_threads in (None, self.block_size)
        if not fits or self.blocks < 1:
            raise PTXError(f"a launch of {grid} blocks of {block} threads")
        warps_in_block = -(-self.block_size//WARP)
        self.threads, self.warps = self.blocks*self.block_size, self.blocks*warps_in_block
        self.numbers = np.arange(self.threads)
        in_block, self.block = self.numbers % self.block_size, self.numbers//self.block_size
        self.lane = in_block % WARP
        self.warp = self.block*warps_in_block + in_block//WARP
        special = {"%laneid": self.lane, "%warpid": in_block//WARP, "%nwarpid": warps_in_block} | _lane_masks(self.lane)
        for name, sizes, index in (("tid", block, in_block), ("ctaid", grid, self.block)):
            for axis, size in zip("xyz", sizes, strict=True):
                special[f"%n{name}.{axis}"], special[f"%{name}.{axis}"] = size, index % size
                index = index//size
        self.special = {name: np.atleast_1d(value).astype(np.uint32) for name, value in special.items()}

    def group(self, threads):
        """These threads, with their warps and blocks."""
        return Group(threads, self.warp[threads], self.block[threads])

    def bits_of_warps(self, chosen):
        """A word for each warp whose bits say which of its lanes are chosen."""
        return np.bincount(self.warp[chosen], 2.0**self.lane[chosen], self.warps).astype(np.uint32)

    def blocks_of(self, chosen):
        return np.unique(self.block[chosen])

    def warps_of(self, chosen):
        return np.unique(self.warp[chosen])


def _three(size):
    size = (size,) if np.ndim(size) == 0 else tuple(size)
    return tuple(int(n) for n in size) + (1,)*(3 - len(size))


def _lane_masks(lane):
    own = 1 << lane
    below, all_lanes = own - 1, 2**WARP - 1
    return {"%lanemask_eq": own, "%lanemask_lt": below, "%lanemask_le": below | own, "%lanemask_ge": all_lanes - below,
            "%lanemask_gt": all_lanes - below - own}
