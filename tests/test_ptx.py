"""The PTX interpreter as a machine: threads, masks and barriers, every fault, races, and statistics."""
import numpy as np
import pytest
from ptx import Kernel, Memory, PTXError, Run
from ptx.snippets import launch, module, own

# Threads

@pytest.mark.parametrize("mode", ["down", "bfly", "idx"])
def test_shuffles(mode):
    x = np.random.default_rng(22).integers(0, 2**32, 64).astype(np.uint32)
    for b in (0, 1, 5, 16, 31):
        y = np.zeros((64, 2), np.uint32)
        launch(f"""{own("%d0", 4)} {own("%d1", 8)} ld.global.b32 %r0, [%d0];
            shfl.sync.{mode}.b32 %r1|%p0, %r0, {b}, 31, -1; selp.b32 %r2, 1, 0, %p0;
            st.global.v2.b32 [%d1], {{%r1, %r2}};""", x, y, grid=2)
        for t, found in enumerate(y.tolist()):
            source = {"down": t % 32 + b, "bfly": t % 32 ^ b, "idx": b}[mode]
            assert found == [x[t//32*32 + source] if source < 32 else x[t], source < 32], b


def test_the_largest_number_of_a_warp():
    """Of those lanes that are there."""
    x, y = np.random.default_rng(23).integers(0, 2**32, 80).astype(np.uint32), np.zeros(80, np.uint32)
    launch(f"""{own("%d0", 4)} {own("%d1", 4)} ld.global.b32 %r0, [%d0]; redux.sync.max.u32 %r1, %r0, -1;
        st.global.u32 [%d1], %r1;""", x, y, grid=2, block=40)
    warps = [slice(0, 32), slice(32, 40), slice(40, 72), slice(72, 80)]
    assert all((y[warp] == x[warp].max()).all() for warp in warps)


def test_lanes_that_are_not_there_give_undefined_values():
    y = np.zeros(80, np.uint32)
    launch(f"{own('%d0', 4)} shfl.sync.down.b32 %r1, %r28, 8, 31, -1; st.global.u32 [%d0], %r1;", y, grid=2, block=40)
    for block in (0, 40):  # the second warp has 8 threads
        assert y[block:block + 40].tolist() == [*range(block + 8, block + 32), *range(block + 24, block + 32),
                                                *[2**32 - 1]*8]


def test_nested_divergence_and_loops():
    """Collatz steps, with a branch in the loop and threads that leave at different times, some of them early."""
    def steps(n):
        count = 0
        while n != 1:
            n, count = (n//2 if n % 2 == 0 else 3*n + 1), count + 1
        return count

    y = np.full(200, 999, np.uint32)
    launch(f"""setp.eq.u32 %p0, %r28, 0; @%p0 ret; setp.gt.u32 %p1, %r28, 180; @%p1 bra done; mov.u32 %r0, %r28;
        mov.u32 %r1, 0;
        loop: setp.eq.u32 %p2, %r0, 1; @%p2 bra write; and.b32 %r2, %r0, 1; setp.eq.u32 %p3, %r2, 1; @%p3 bra odd;
        shr.u32 %r0, %r0, 1; bra.uni next;
        odd: mad.lo.u32 %r0, %r0, 3, 1; next: add.u32 %r1, %r1, 1; bra loop;
        write: {own("%d1", 4, base="%d0")} st.global.u32 [%d1], %r1; done: @!%p1 bra end;
        {own("%d1", 4, base="%d0")} st.global.u32 [%d1], 7; end:""", y, grid=4, block=50)
    assert y.tolist() == [999, *map(steps, range(1, 181)), *[7]*19]


def test_threads_wait_for_those_whose_code_lies_behind():
    """The code generator for sm_100 puts the rare side of a branch at the end, from where it jumps back."""
    y = np.zeros(64, np.uint32)
    launch(f"""and.b32 %r0, %r28, 31; mov.u32 %r1, 1; setp.lt.u32 %p0, %r0, 5; @%p0 bra behind;
        back: shfl.sync.bfly.b32 %r2, %r1, 1, 31, -1; bar.sync 0; {own("%d0", 4)} st.global.u32 [%d0], %r2; ret;
        behind: mov.u32 %r1, 2; bra.uni back;""", y, block=64)
    assert y.tolist() == [*[2]*4, 1, 2, *[1]*26]*2


# Faults

SHARED, OWN = "mov.u64 %d1, buffer;", own("%d1", 4, base="%d0")
FAULTS = {  # the message, and the code
    "out of bounds: bytes \\[128, 132\\) of q0, which has 128": f"{OWN} ld.global.u32 %r0, [%d1+4];",
    "out of bounds: bytes \\[-4, 0\\) of q0": "st.global.u32 [%d0+-4], %r0;",
    "out of bounds: address 0x10 is in no buffer": "ld.global.u32 %r0, [16];",
    "out of bounds: .* of q0, which has 128": "ld.global.v4.u32 {%r0, %r1, %r2, %r3}, [%d0+128];",
    "out of bounds: bytes \\[64, 68\\) of shared memory, which has 64":
        f"{SHARED} {own('%d1', 4)} st.shared.u32 [%d1], %r0;",
    "out of bounds: .* of parameter memory, which has 8": "ld.param.u32 %r0, [q0+8];",
    "misaligned: 4 bytes": f"{own('%d0', 2)} ld.global.u32 %r0, [%d0];",
    "misaligned: 16 bytes": "st.global.v4.u32 [%d0+8], {%r0, %r0, %r0, %r0};",
    "misaligned: 8 bytes": f"{SHARED} ld.shared.u64 %d2, [%d1+4];",
    "division by zero": "div.u32 %r0, %r28, %r29;", "no end after 1000 instructions": "loop: bra loop;",
    "divergent: for ever wait 31 threads at 'bar.sync 0'; 1 have exited":
        "setp.eq.u32 %p0, %r28, 7; @%p0 ret; bar.sync 0;",
    "divergent: for ever wait 4 threads at 'bar.sync 0', 28 threads at 'bar.sync 1'":
        "setp.lt.u32 %p0, %r28, 4; @!%p0 bra other; bar.sync 0; bra.uni end; other: bar.sync 1; end: mov.u32 %r0, 1;",
    "divergent: for ever wait 4 threads at 'shfl.sync.*, 28 threads at 'shfl":
        """setp.lt.u32 %p0, %r28, 4; @!%p0 bra other; shfl.sync.bfly.b32 %r0, %r1, 1, 31, -1; bra.uni end;
        other: shfl.sync.bfly.b32 %r0, %r1, 2, 31, -1; end: mov.u32 %r0, 1;""",
    "a part of a warp": "bar.warp.sync 15;", "a shuffle within a part": "shfl.sync.idx.b32 %r0, %r1, 1, 7, -1;",
    "of a warp": "redux.sync.max.u32 %r0, %r1, 15;",
    "has 64 bits, not 32": "add.u32 %r0, %r1, %d0;", "has 32 bits, not 64": "add.u64 %r0, %d1, %d0;",
    "the literal 0x3f800000 as .f64": "add.rn.f64 %d1, %d0, 0f3F800000;",
    "the literal 0x1 as .f32": "add.rn.f32 %r0, %r0, 1;", "the sign of a byte": "prmt.b32 %r0, %r1, %r2, 8;",
    "an access of 8 x 4 bytes on sm_90": "ld.global.v8.b32 {%r0, %r1, %r2, %r3, %r4, %r5, %r6, %r7}, [%d0];",
    "an access of 2 x 4 bytes": "ld.global.v4.b32 {%r0, %r1}, [%d0];",
    "%r0 has 32 bits, not 16": "cvt.rn.bf16.f32 %r0, %r1;"}


def test_faults():
    """The error names what happened and the instruction."""
    for message, code in FAULTS.items():
        with pytest.raises(PTXError, match=message) as caught:
            launch(f"{code}\nst.global.u32 [%d0], %r28;", np.zeros(32, np.uint32), limit=1000,
                   declarations=".shared .align 16 .b8 buffer[64];")
        assert ", in: " in str(caught.value) or message.startswith(("divergent", "no end"))


UNKNOWN = """
add.sat.f32 %r0, %r1, %r2; add.rz.f32 %r0, %r1, %r2; add.rn.ftz.f32 %r0, %r1, %r2; div.f32 %r0, %r1, %r2;
div.full.f32 %r0, %r1, %r2; sqrt.approx.f32 %r0, %r1; cvt.f32.f64 %r0, %d0; cvt.rz.f32.f64 %r0, %d0;
mul.u32 %r0, %r1, %r2; ld.global.nc.u32 %r0, [%d0]; ld.local.u32 %r0, [%d0]; ld.u32 %r0, [%d0]; st.param.u32 [q0], %r0;
ld.volatile.global.u32 %r0, [%d0]; atom.global.add.u32 %r0, [%d0], 1; setp.lt.b32 %p0, %r0, %r1; exit;
setp.eq.and.u32 %p0, %r0, %r1, %p1; bar.sync 0, 64; membar.gl; shfl.down.b32 %r0, %r1, 1, 31; call foo;
and.u32 %r0, %r1, %r2; neg.u32 %r0, %r1; add.u32 %r0, %r1
""".replace("\n", " ").strip().split("; ")
NOT_UNDERSTOOD = {
    "add.u32 %r0, %r1, %r99;": "unknown operand %r99", "bra nowhere;": "unknown name nowhere",
    "@%r0 ret;": "a guard that is no predicate", "@%p0 mov.u32 %r0, 1;": "not in front of a branch",
    "mov.u32 %r0, %clock;": "unknown operand %clock", "mov.u32 %r0, 1.5;": "unknown number 1.5",
    ".reg .b128 %q;": "unknown declaration", ".local .b32 x;": "unknown declaration",
    "ld.global.u32 %r0, [elsewhere];": "unknown name elsewhere"}
WHOLE = module("")
WRONG_MODULES = {
    WHOLE.replace(".maxntid", ".cluster"): "unknown directive .cluster", WHOLE + WHOLE: "not one entry",
    WHOLE.replace("k()", "k(.param .texref t)"): "unknown parameter: .param .texref t",
    WHOLE.replace(".visible", ".global .b32 x;\n.visible"): "not one entry", ".version 8.0\n": "not one entry"}


def test_what_is_not_understood():
    """It is found when the text is read, whether it would be executed or not, and named."""
    for text in UNKNOWN:
        with pytest.raises(PTXError, match="unknown instruction") as caught:
            Kernel(module(f"ret; {text};"))
        assert str(caught.value).endswith(f"in: {text}")
    for wrong, message in [*WRONG_MODULES.items(), *((module(wrong), what) for wrong, what in NOT_UNDERSTOOD.items())]:
        with pytest.raises(PTXError, match=message):
            Kernel(wrong)
    for blocks, size in ((1, 65), (1, 0), (0, 32)):  # it is for at most 64 threads
        with pytest.raises(PTXError, match="a launch of"):
            Run(Kernel(WHOLE), blocks, size, [], Memory())


# Races: %d2 is the address of the thread's own word, %d3 of another thread's

IN_SHARED = f"mov.u64 %d1, buffer; {own('%d2', 4, '%r29', '%d1')} xor.b32 %r1, %r29, {{other}}; " \
            f"{own('%d3', 4, '%r1', '%d1')}"
IN_GLOBAL = f"{own('%d2', 4, base='%d0')} xor.b32 %r1, %r28, {{other}}; {own('%d3', 4, '%r1', '%d0')}"
STORE, LOAD, LAST = "st.shared.u32 [%d2], %r28;", "ld.shared.u32 %r2, [%d3];", "ld.shared.u32 %r2, [%d1];"
FIFTH = "setp.ne.u32 %p0, %r29, 5; @%p0 bra end; st.shared.u32 [%d1], %r2; end:"
GLOBAL_LOAD = "st.global.u32 [%d2], %r28; {sync} ld.global.u32 %r2, [%d3];"
RACES = {  # the addresses, how far the other thread is, the code, and what orders it
    "a store that another warp loads": (IN_SHARED, 32, f"{STORE} {{sync}} {LOAD}", "bar.sync 0;"),
    "a load that another warp overwrites": (IN_SHARED, 32, f"{LOAD} {{sync}} {STORE}", "bar.sync 0;"),
    "two stores": (IN_SHARED, 32, f"{STORE} {{sync}} st.shared.u32 [%d3], %r28;", "bar.sync 0;"),
    "within a warp": (IN_SHARED, 1, f"{STORE} {{sync}} {LOAD}", "bar.warp.sync -1;"),
    "loads of many": (IN_SHARED, 32, f"{LAST} {{sync}} {FIFTH}", "bar.sync 0;"),
    "global memory within a block": (IN_GLOBAL, 32, GLOBAL_LOAD, "bar.sync 0;"),
    "global memory between blocks": (IN_GLOBAL, 64, GLOBAL_LOAD, None)}


@pytest.mark.parametrize("what", RACES)
def test_races(what):
    """Without what orders the accesses it is found; with it, it is not there; what orders less is not enough."""
    setup, other, code, sync = RACES[what]
    stats = setup is IN_GLOBAL

    def run(sync, stats=stats):
        launch(setup.format(other=other) + code.format(sync=sync), np.zeros(128, np.uint32), grid=2, block=64,
               declarations=".shared .b32 buffer[64];", stats=stats)
    if sync:
        run(sync)
    for weaker in ["", *["bar.warp.sync -1;"]*(other > 1), *["bar.sync 0;"]*(sync is None)]:
        with pytest.raises(PTXError, match=r"race: .*with no barrier between"):
            run(weaker)
    if stats:
        run("", stats=False)


def test_own_accesses_are_no_race():
    code = "st.global.u32 [%d2], %r28; ld.global.u32 %r2, [%d2]; st.global.u32 [%d2], %r2;"
    launch(IN_GLOBAL.format(other=0) + code, np.zeros(128, np.uint32), grid=2, block=64, stats=True)


@pytest.mark.parametrize("code", [
    "st.global.u32 [%d0], %r28;", f"shr.u32 %r0, %r28, 1; {own('%d0', 4, '%r0')} st.global.u32 [%d0], 5;",
    "mov.u64 %d1, buffer; st.shared.u32 [%d1], 1;"])
def test_colliding_stores(code):
    with pytest.raises(PTXError, match="collision: two threads store to one address"):
        launch(code, np.zeros(32, np.uint32), declarations=".shared .b32 buffer;", stats=True)


# Statistics

def test_statistics_of_a_known_kernel():
    """y[i] = x[2*i] for i < 100 in two blocks of 64: three full warps and one of four threads."""
    x, y = np.arange(256, dtype=np.float32), np.zeros(100, np.float32)
    code = f"""setp.ge.u32 %p0, %r28, 100; @%p0 ret; {own("%d2", 8, base="%d0")} ld.global.f32 %r0, [%d2];
        {own("%d3", 4, base="%d1")} st.global.f32 [%d3], %r0; ld.global.v4.f32 {{%r0, %r1, %r2, %r3}}, [%d0];"""
    run = launch(code, x, y, grid=2, block=64, stats=True)
    assert y.tolist() == list(range(0, 200, 2))
    # 32 lanes x 8 bytes = 8 sectors; 4 lanes: 1; the same 16 bytes for all: 1 for each warp
    assert run.traffic == {"loaded_bytes": 100*(4 + 16), "loaded_sectors": 3*8 + 1 + 4,
                           "stored_bytes": 400, "stored_sectors": 3*4 + 1}
