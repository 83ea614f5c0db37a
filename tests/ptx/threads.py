"""Control flow, and threads that look at or wait for each other: bra, ret, exit, bar, fence, shfl, vote, activemask."""
import numpy as np

from .forms import instruction
from .text import Pair
from .values import B32, PREDICATE, U32, PTXError


@instruction("bra ?uni", leaves=True)
def branch(run, form, target):
    return run.kernel.labels[target.name]


@instruction("ret|exit ?uni", leaves=True)
def leave(run, form):
    return len(run.kernel.blocks)


@instruction("trap")
def trap(run, form):
    raise PTXError("trap")


@instruction("bar ?cta sync", waits="block")
@instruction("barrier ?cta sync ?aligned", waits="block")
def block_barrier(run, form, barrier, count=None):
    """All threads of a block have come, or the machine would not have gone on."""
    executing = run.executing()
    if (run.each(run.words(barrier, U32))[executing] > 15).any():
        raise PTXError("there are 16 barriers")
    if count is not None and (run.each(run.words(count, U32))[executing] != run.grid.block_size).any():
        raise PTXError("a barrier of a part of the block")
    run.spaces.clock.pass_barrier(run.grid.blocks_of(executing))


@instruction("bar warp sync", waits="warp")
def warp_barrier(run, form, members):
    run.spaces.clock.pass_warp_barrier(run.grid.warps_of(run.executing()))


@instruction("membar level=cta|gl|sys")
@instruction("fence ?order=sc|acq_rel level=cta|cluster|gpu|sys")
def fence(run, form):
    """Everything is visible at once here; a fence only counts in the search for races."""
    if form.level != "cta":
        run.spaces.clock.pass_fence(run.grid.blocks_of(run.executing()))


@instruction("shfl sync mode=up|down|bfly|idx type=b32", waits="warp")
def shuffle(run, form, d, a, b, c, members):
    """The value of a in another lane; one that does not execute it gives an undefined value, here all bits."""
    values = run.each(run.words(a, B32))
    by, control = (run.each(run.words(x, B32)).astype(np.int64) for x in (b, c))
    by, clamp, segment = by & 31, control & 31, control >> 8 & 31
    lane = run.grid.lane
    first = lane & segment
    last = first | (clamp & ~segment)
    source = {"up": lane - by, "down": lane + by, "bfly": lane ^ by, "idx": first | (by & ~segment)}[form.mode]
    inside = source >= last if form.mode == "up" else source <= last
    source = np.where(inside, source, lane)
    thread = run.grid.numbers - lane + source
    present = np.append(run.executing(), False)
    same_warp = np.append(run.grid.warp, -1)
    thread = np.where((thread >= 0) & (thread < run.grid.threads), thread, run.grid.threads)
    defined = present[thread] & (same_warp[thread] == run.grid.warp)
    register, predicate = d if isinstance(d, Pair) else (d, None)
    run.write(register, np.where(defined, np.append(values, values[:1])[thread], np.uint32(2**32 - 1)), B32)
    if predicate is not None:
        run.write(predicate, inside, PREDICATE)


@instruction("vote sync mode=all|any|uni type=pred", waits="warp")
def vote(run, form, d, a, members):
    yes, voters = _votes(run, a, members)
    result = {"all": yes == voters, "any": yes != 0, "uni": (yes == voters) | (yes == 0)}[form.mode]
    run.write(d, result, PREDICATE)


@instruction("vote sync ballot type=b32", waits="warp")
def ballot(run, form, d, a, members):
    run.write(d, _votes(run, a, members)[0], B32)


def _votes(run, a, members):
    """For each thread, which lanes among the members have a true predicate, and which vote at all."""
    executing, members = run.executing(), run.each(run.words(members, B32))
    yes = run.grid.bits_of_warps(executing & run.each(run.words(a, PREDICATE)))
    return yes[run.grid.warp] & members, run.grid.bits_of_warps(executing)[run.grid.warp] & members


@instruction("activemask type=b32")
def active_mask(run, form, d):
    """The lanes that execute together here; on a GPU it may be fewer."""
    run.write(d, run.grid.bits_of_warps(run.executing())[run.grid.warp], B32)

