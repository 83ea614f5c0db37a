"""The PTX interpreter as a machine: threads, masks and barriers, every fault, races, and statistics."""
import operator

import numpy as np
import pytest
from ptx import Kernel, Memory, PTXError, Run
from ptx.snippets import launch, module

# Threads

def shuffled(mode, lane, b, c):
    """The manual's text: the lane that a lane reads, and whether it lies in range."""
    clamp, segment, b = c & 31, c >> 8 & 31, b & 31
    last = (lane & segment) | (clamp & ~segment & 31)
    source = {"up": lane - b, "down": lane + b, "bfly": lane ^ b, "idx": (lane & segment) | (b & ~segment & 31)}[mode]
    inside = source >= last if mode == "up" else source <= last
    return (source if inside else lane), inside


@pytest.mark.parametrize("mode", ["up", "down", "bfly", "idx"])
def test_shuffles(mode):
    x = np.random.default_rng(22).integers(0, 2**32, 64).astype(np.uint32)
    for b in (0, 1, 5, 16, 31, 33):
        for c in (0, 31, 0x1C1F if mode != "up" else 0x1C00, 0x101F, 7):
            y = np.zeros((64, 2), np.uint32)
            launch(f"""mad.wide.u32 %d2, %r28, 4, %d0; mad.wide.u32 %d3, %r28, 8, %d1; ld.global.b32 %r0, [%d2];
                shfl.sync.{mode}.b32 %r1|%p0, %r0, {b}, {c}, -1; selp.b32 %r2, 1, 0, %p0;
                st.global.v2.b32 [%d3], {{%r1, %r2}};""", x, y, grid=2)
            want = [shuffled(mode, t % 32, b, c) for t in range(64)]
            assert y.tolist() == [[x[t//32*32 + source], inside] for t, (source, inside) in enumerate(want)], (b, c)


def test_lanes_that_are_not_there_give_undefined_values():
    y = np.zeros(80, np.uint32)
    launch("mad.wide.u32 %d1, %r28, 4, %d0; shfl.sync.down.b32 %r1, %r28, 8, 31, -1; st.global.u32 [%d1], %r1;", y,
           grid=2, block=40)
    for block in (0, 40):  # the second warp has 8 threads
        assert y[block:block + 40].tolist() == [*range(block + 8, block + 32), *range(block + 24, block + 32),
                                                *[2**32 - 1]*8]


def test_votes_and_masks_of_lanes():
    """Half of a warp under a mask of its own; exited lanes do not count."""
    y = np.zeros((64, 6), np.uint32)
    launch("""mov.u32 %r0, %laneid; setp.ge.u32 %p0, %r28, 40; @%p0 exit; mad.wide.u32 %d1, %r28, 24, %d0;
        setp.lt.u32 %p1, %r0, 3;
        vote.sync.ballot.b32 %r1, %p1, -1; vote.sync.any.pred %p2, !%p1, -1; selp.b32 %r2, 1, 0, %p2;
        vote.sync.all.pred %p3, %p1, -1; selp.b32 %r3, 1, 0, %p3;
        activemask.b32 %r4; mov.u32 %r5, 0; setp.ge.u32 %p4, %r0, 4; @%p4 bra after; vote.sync.ballot.b32 %r5, %p1, 15;
        after: mov.u32 %r6, %lanemask_lt;
        vote.sync.uni.pred %p5, %p4, -1; st.global.v2.b32 [%d1], {%r1, %r2}; st.global.v2.b32 [%d1+8], {%r3, %r4};
        st.global.v2.b32 [%d1+16], {%r5, %r6};""",
           y, block=64)
    for t in range(40):
        all_lanes = 2**32 - 1 if t < 32 else 255
        assert y[t].tolist() == [7, 1, 0, all_lanes, 7 if t % 32 < 4 else 0, 2**(t % 32) - 1]
    assert not y[40:].any()


def test_votes_of_one_lane():
    y = np.zeros((32, 4), np.uint32)
    launch("""mov.u32 %r0, %laneid; mad.wide.u32 %d1, %r28, 16, %d0; setp.eq.u32 %p0, %r0, 0; setp.lt.u32 %p1, %r0, 32;
        vote.sync.any.pred %p2, %p0, -1; vote.sync.uni.pred %p3, %p0, -1; vote.sync.uni.pred %p4, %p1, -1;
        vote.sync.uni.pred %p5, !%p1, -1;
        selp.b32 %r1, 1, 0, %p2; selp.b32 %r2, 1, 0, %p3; selp.b32 %r3, 1, 0, %p4; selp.b32 %r4, 1, 0, %p5;
        st.global.v4.b32 [%d1], {%r1, %r2, %r3, %r4};""", y)
    assert y.tolist() == [[1, 0, 1, 1]]*32


def test_special_registers():
    names = [f"{kind}.{axis}" for kind in ("tid", "ntid", "ctaid", "nctaid") for axis in "xyz"]
    names += ["laneid", "warpid", "nwarpid", *(f"lanemask_{name}" for name in ("eq", "lt", "le", "ge", "gt"))]
    y = np.zeros((2*3*2*70, len(names)), np.uint32)
    body = [f"""mov.u32 %r0, %tid.y; mov.u32 %r1, %ntid.x; mov.u32 %r2, %tid.x; mad.lo.u32 %r3, %r0, %r1, %r2;
        mov.u32 %r4, %ctaid.z; mov.u32 %r5, %nctaid.y; mov.u32 %r6, %ctaid.y; mad.lo.u32 %r7, %r4, %r5, %r6;
        mov.u32 %r8, %nctaid.x; mov.u32 %r9, %ctaid.x; mad.lo.u32 %r10, %r7, %r8, %r9;
        mad.lo.u32 %r11, %r10, 70, %r3; mad.wide.u32 %d1, %r11, {4*len(names)}, %d0;"""]
    body += [f"mov.u32 %r12, %{name}; st.global.u32 [%d1+{4*k}], %r12;" for k, name in enumerate(names)]
    launch("\n".join(body), y, grid=(2, 3, 2), block=(35, 2))
    masks = [[sum(1 << other for other in range(32) if getattr(operator, name)(other, lane))
              for name in ("eq", "lt", "le", "ge", "gt")] for lane in range(32)]
    want = [[x, ty, 0, 35, 2, 1, bx, by, bz, 2, 3, 2, (x + 35*ty) % 32, (x + 35*ty)//32, 3, *masks[(x + 35*ty) % 32]]
            for bz in range(2) for by in range(3) for bx in range(2) for ty in range(2) for x in range(35)]
    assert y.tolist() == want


def test_nested_divergence_and_loops():
    """Collatz steps, with a branch in the loop and threads that leave at different times, some of them early."""
    def steps(n):
        count = 0
        while n != 1:
            n, count = (n//2 if n % 2 == 0 else 3*n + 1), count + 1
        return count

    y = np.full(200, 999, np.uint32)
    launch("""setp.eq.u32 %p0, %r28, 0; @%p0 ret; setp.gt.u32 %p1, %r28, 180; @%p1 bra done; mov.u32 %r0, %r28;
        mov.u32 %r1, 0;
        loop: setp.eq.u32 %p2, %r0, 1; @%p2 bra write; and.b32 %r2, %r0, 1; setp.eq.u32 %p3, %r2, 1; @%p3 bra odd;
        shr.u32 %r0, %r0, 1; bra.uni next;
        odd: mad.lo.u32 %r0, %r0, 3, 1; next: add.u32 %r1, %r1, 1; bra loop;
        write: mad.wide.u32 %d1, %r28, 4, %d0; st.global.u32 [%d1], %r1; done: @!%p1 bra end;
        mad.wide.u32 %d1, %r28, 4, %d0;
        st.global.u32 [%d1], 7; end:""",
           y, grid=4, block=50)
    assert y.tolist() == [999, *map(steps, range(1, 181)), *[7]*19]


def test_threads_wait_for_those_whose_code_lies_behind():
    """The code generator for sm_100 puts the rare side of a branch at the end, from where it jumps back."""
    y = np.zeros(64, np.uint32)
    launch("""mov.u32 %r0, %laneid; mov.u32 %r1, 1; setp.lt.u32 %p0, %r0, 5; @%p0 bra behind;
        back: shfl.sync.bfly.b32 %r2, %r1, 1, 31, -1; bar.sync 0;
        mad.wide.u32 %d1, %r28, 4, %d0; st.global.u32 [%d1], %r2; ret; behind: mov.u32 %r1, 2;
        bra.uni back;""", y, block=64)
    assert y.tolist() == [*[2]*4, 1, 2, *[1]*26]*2


def test_guarded_instructions():
    y = np.zeros(64, np.uint32)
    launch("""mad.wide.u32 %d1, %r28, 4, %d0; setp.lt.u32 %p0, %r28, 10; setp.gt.u32 %p1, %r28, 100; mov.u32 %r0, 1;
        @%p0 mov.u32 %r0, 2; @!%p0 add.u32 %r0, %r0, 5;
        @%p1 st.global.u32 [0], %r0; @!%p1 st.global.u32 [%d1], %r0;""", y, block=64)
    assert y.tolist() == [2]*10 + [6]*54


# Faults

SHARED = "mov.u64 %d1, buffer;"
FAULTS = {  # the message, and the code
    "out of bounds: bytes \\[128, 132\\) of q0, which has 128":
        "mad.wide.u32 %d1, %r28, 4, %d0; ld.global.u32 %r0, [%d1+4];",
    "out of bounds: bytes \\[-4, 0\\) of q0": "st.global.u32 [%d0-4], %r0;",
    "out of bounds: address 0x10 is in no buffer": "ld.global.u32 %r0, [16];",
    "out of bounds: .* of q0, which has 128": "ld.global.v4.u32 {%r0, %r1, %r2, %r3}, [%d0+128];",
    "out of bounds: bytes \\[64, 68\\) of shared memory, which has 64":
        f"{SHARED} mad.wide.u32 %d1, %r28, 4, %d1; st.shared.u32 [%d1], %r0;",
    "out of bounds: .* of local memory, which has 0": "mov.u64 %d1, 0; ld.local.u32 %r0, [%d1];",
    "out of bounds: .* of parameter memory, which has 8": "ld.param.u32 %r0, [q0+8];",
    "misaligned: 4 bytes": "mad.wide.u32 %d1, %r28, 2, %d0; ld.global.u32 %r0, [%d1];",
    "misaligned: 16 bytes": "st.global.v4.u32 [%d0+8], {%r0, %r0, %r0, %r0};",
    "misaligned: 8 bytes": f"{SHARED} ld.shared.u64 %d2, [%d1+4];",
    "not in constant memory": "ld.const.u32 %r0, [%d0];", "division by zero": "div.u32 %r0, %r28, %r29;",
    "trap": "setp.eq.u32 %p0, %r28, 3; @%p0 trap;", "no end after 1000 instructions": "loop: bra loop;",
    "generic addresses of different state spaces": """mov.u64 %d2, buffer; cvta.shared.u64 %d1, %d2;
        setp.lt.u32 %p0, %r28, 4; selp.b64 %d1, %d1, %d0, %p0; ld.u32 %r0, [%d1];""",
    "divergent: for ever wait 31 threads at 'bar.sync 0'; 1 have exited":
        "setp.eq.u32 %p0, %r28, 7; @%p0 exit; bar.sync 0;",
    "divergent: for ever wait 4 threads at 'bar.sync 0', 28 threads at 'bar.sync 1'":
        "setp.lt.u32 %p0, %r28, 4; @!%p0 bra other; bar.sync 0; bra.uni end; other: bar.sync 1; end: mov.u32 %r0, 1;",
    "divergent: for ever wait 4 threads at 'shfl.sync.*, 28 threads at 'shfl":
        """setp.lt.u32 %p0, %r28, 4; @!%p0 bra other; shfl.sync.bfly.b32 %r0, %r1, 1, 31, -1; bra.uni end;
        other: shfl.sync.bfly.b32 %r0, %r1, 2, 31, -1; end: mov.u32 %r0, 1;""",
    "its mask of threads excludes it": "shfl.sync.bfly.b32 %r0, %r1, 1, 31, 0xFFFF;",
    "a barrier of a part of the block": "bar.sync 0, 64;", "there are 16 barriers": "barrier.sync.aligned 16;",
    "has 64 bits, not 32": "add.u32 %r0, %r1, %d0;", "has 32 bits, not 64": "add.u64 %r0, %d1, %d0;",
    "the literal 0x3f800000 as .f64": "add.rn.f64 %d1, %d0, 0f3F800000;",
    "the literal 0x1 as .f32": "add.rn.f32 %r0, %r0, 1;",
    "store to a read-only array": "mov.u64 %d1, table; st.global.u32 [%d1], 1;",
    "a store to .param": "st.param.u32 [q0], 1;",
    "an access of 8 x 4 bytes on sm_90": "ld.global.v8.b32 {%r0, %r1, %r2, %r3, %r4, %r5, %r6, %r7}, [%d0];",
    "2 registers": "ld.global.v4.b32 {%r0, %r1}, [%d0];",
    "an order of memory that does not exist": "ld.relaxed.global.b32 %r0, [%d0];",
    "a third source": "setp.eq.and.u32 %p0, %r0, %r1;",
    "a rounding goes with a loss of precision": "cvt.f32.f64 %r0, %d0;",
    "rounding to an integer between different types": "cvt.rni.f64.f32 %d1, %r0;",
    "%r0 has 32 bits, not 16": "cvt.rn.bf16.f32 %r0, %r1;", "%r1 has 32 bits, not 16": "cvt.f32.bf16 %r0, %r1;",
    "64-bit integers to 16-bit floats": "cvt.rn.bf16.s64 %h0, %d0;",
    ".nc outside of .global": "ld.shared.nc.b32 %r0, [0];",
    "3 parts of .b64": "mov.b64 %d1, {%r0, %r1, %r2};"}


def test_faults():
    """The error names what happened and the instruction."""
    top = ".shared .align 16 .b8 buffer[64];\n.const .b32 table[1];"
    for message, code in FAULTS.items():
        with pytest.raises(PTXError, match=message) as caught:
            launch(f"{code}\nst.global.u32 [%d0], %r28;", np.zeros(32, np.uint32), top=top, limit=1000)
        assert ", in: " in str(caught.value) or message.startswith(("divergent", "no end"))


UNKNOWN = """
add.sat.f32 %r0, %r1, %r2; add.rz.f32 %r0, %r1, %r2; add.ftz.f64 %d0, %d1, %d1; add.cc.u32 %r0, %r1, %r2;
add.approx.f32 %r0, %r1, %r2; div.f32 %r0, %r1, %r2; sqrt.f32 %r0, %r1; mul.u32 %r0, %r1, %r2;
fma.f32 %r0, %r1, %r2, %r3; min.xorsign.abs.f32 %r0, %r1, %r2; ld.global.tex.u32 %r0, [%d0]; ld.surf.u32 %r0, [%d0];
ld.global.v3.u32 {%r0, %r1, %r2}, [%d0]; ld.shared::cluster.u32 %r0, [%d0];
st.global.L2::cache_hint.u32 [%d0], %r0, %d1; st.async.global.u32 [%d0], %r0;
cp.async.ca.shared.global [%r0], [%d0], 16; atom.global.add.noftz.f16 %h0, [%d0], %h1; cvt.rn.relu.bf16.f32 %h0, %r0;
cvt.rn.satfinite.e4m3x2.f32 %h0, %r0, %r1; cvt.rna.tf32.f32 %r0, %r1; cvt.rm.f32.f64 %r0, %d0;
setp.lt.b32 %p0, %r0, %r1; setp.lo.s32 %p0, %r0, %r1; prmt.b32.f4e %r0, %r1, %r2, %r3; bar.arrive 0, 32;
bar.red.popc.u32 %r0, 0, %p0; mbarrier.init.shared.b64 [%d0], 1; shfl.down.b32 %r0, %r1, 1, 31;
vote.ballot.b32 %r0, %p0; match.any.sync.b32 %r0, %r1, -1; call foo; brx.idx %r0, table; nanosleep.u32 5;
fence.proxy.alias; abs.ftz.f64 %d0, %d1; and.u32 %r0, %r1, %r2; shl.u32 %r0, %r1, %r2; neg.u32 %r0, %r1;
sin.f32 %r0, %r1; selp.f16 %h0, %h1, %h1, %p0; mov.b128 %r0, %r1; nop; isspacep.global %p0, %d0;
cvta.to.tex.u64 %d0, %d1
""".replace("\n", " ").strip().split("; ")


def test_unknown_instructions_and_modifiers():
    """Found when the text is read, whether they would be executed or not, and named."""
    for text in UNKNOWN:
        with pytest.raises(PTXError, match=r"unknown (instruction|modifiers)") as caught:
            Kernel(module(f"ret; {text};"))
        assert str(caught.value).endswith(f"in: {text}")


NOT_UNDERSTOOD = {
    "add.u32 %r0, %r1;": "add.u32 with 2 operands", "add.u32 %r0, %r1, %r99;": "unknown operand %r99",
    "bra nowhere;": "unknown name nowhere", "@%q0 ret;": "%q0 is no predicate",
    "mov.u32 %r0, %clock;": "unknown operand %clock", "mov.u32 %r0, 1.5;": "unknown number 1.5",
    ".reg .b16 %r5;": "declared twice", ".reg .b128 %q;": "unknown declaration",
    ".tex .u32 image;": "unknown declaration", "@%p0 bar.sync 0;": "under a guard",
    "ld.global.u32 %r0, [elsewhere];": "unknown name elsewhere", ".branchtargets a, b;": "unknown declaration"}


WRONG_MODULES = {
    ".version 8.0\n.alias a, b;": "unknown declaration: .alias",
    ".entry k() .unknown 3 { ret; }": "unknown directive .unknown",
    ".entry k(.param .texref t) { ret; }": "unknown parameter: .param .texref t",
    ".entry k() { ret;": "a brace is not closed", ".entry k() { ret; } what": "unknown text: what",
    ".extern .global .b32 x; .entry k() { ret; }": "variable x is not supported", ".version 8.0\n": "0 entries"}


def test_modules():
    """Comments, several entries, functions that nobody calls, bounds of a launch."""
    text = """.version 8.0 // the version
.target sm_90a, debug /* a
comment */
.address_size 64
.func (.param .b32 result) helper (.param .b32 x) { call nobody; }
.visible .entry first (.param .u64 a) .maxntid 64, 1, 1 .minnctapersm 2 { .reg .b32 %r<2>; { .reg .b32 %inner;
        mov.u32 %inner, 1;
} ret; }
.entry second () .reqntid 32 { ret; }
"""
    assert (Kernel(text, "first").name, Kernel(text, "first").target) == ("first", 90)
    Run(Kernel(text, "first"), 1, 64, [0], Memory())
    Run(Kernel(text, "second"), 3, (8, 2, 2), [], Memory())
    for entry, block in (("first", 65), ("second", 16), ("second", 64), ("first", 0)):
        with pytest.raises(PTXError, match="a launch of"):
            Run(Kernel(text, entry), 1, block, [0][:entry == "first"], Memory())
    for entry, message in ((None, "2 entries: first, second"), ("third", "no entry third")):
        with pytest.raises(PTXError, match=message):
            Kernel(text, entry)
    for wrong, message in [*WRONG_MODULES.items(), *((module(wrong), what) for wrong, what in NOT_UNDERSTOOD.items())]:
        with pytest.raises(PTXError, match=message):
            Kernel(wrong)


# Races

# %d2 is the address of the thread's own word, %d3 of another thread's
OWN = "mov.u64 %d1, buffer; mad.wide.u32 %d2, %r29, 4, %d1; xor.b32 %r1, %r29, {other}; mad.wide.u32 %d3, %r1, 4, %d1;"
GLOBAL = "mad.wide.u32 %d2, %r28, 4, %d0; xor.b32 %r1, %r28, {other}; mad.wide.u32 %d3, %r1, 4, %d0;"
STORE, LOAD, LAST = "st.shared.u32 [%d2], %r28;", "ld.shared.u32 %r2, [%d3];", "ld.shared.u32 %r2, [%d1];"
FIFTH, ADD = "setp.eq.u32 %p0, %r29, 5; @%p0 st.shared.u32 [%d1], %r2;", "red.shared.add.u32 [%d1], 1;"
IN_GLOBAL = "st.global.u32 [%d2], %r28; {sync} ld.global.u32 %r2, [%d3];"
RACES = {  # the addresses, how far the other thread is, the code, and what orders it
    "a store that another warp loads": (OWN, 32, f"{STORE} {{sync}} {LOAD}", "bar.sync 0;"),
    "a load that another warp overwrites": (OWN, 32, f"{LOAD} {{sync}} {STORE}", "barrier.sync.aligned 0;"),
    "two stores": (OWN, 32, f"{STORE} {{sync}} st.shared.u32 [%d3], %r28;", "bar.sync 0;"),
    "within a warp": (OWN, 1, f"{STORE} {{sync}} {LOAD}", "bar.warp.sync -1;"),
    "loads of many": (OWN, 32, f"{LAST} {{sync}} {FIFTH}", "bar.sync 0;"),
    "an atomic and a load": (OWN, 32, f"{ADD} {ADD} {{sync}} {LAST}", "bar.sync 0;"),
    "global memory within a block": (GLOBAL, 32, IN_GLOBAL, "bar.sync 0;"),
    "global memory between blocks": (GLOBAL, 64, IN_GLOBAL, "membar.gl;")}


@pytest.mark.parametrize("what", RACES)
def test_races(what):
    """Without what orders the accesses it is found; with it, it is not there; what orders less is not enough."""
    setup, other, code, sync = RACES[what]
    stats = setup is GLOBAL
    def run(sync, stats=stats):
        body, top = setup.format(other=other) + code.format(sync=sync), ".shared .b32 buffer[64];"
        launch(body, np.zeros(128, np.uint32), grid=2, block=64, top=top, stats=stats)
    run(sync)
    for weaker in ["", "membar.cta;", *["bar.warp.sync -1;"]*(other > 1),
                   "bar.sync 0;" if other == 64 else "membar.gl;"]:
        with pytest.raises(PTXError, match=r"race: .*with no barrier between"):
            run(weaker)
    if stats:
        run("", stats=False)


def test_what_is_no_race():
    """Own accesses, strong ones, a store and atomics that hand it on to the last block."""
    cells = np.zeros(129, np.uint32)
    own = "st.global.u32 [%d2], %r28; ld.global.u32 %r2, [%d2]; st.global.u32 [%d2], %r2;"
    launch(GLOBAL.format(other=0) + own, cells, grid=2, block=64, stats=True)
    launch("""setp.eq.u32 %p0, %r28, 3; @%p0 st.relaxed.gpu.global.u32 [%d0], 1; ld.volatile.global.u32 %r0, [%d0];
        red.global.add.u32 [%d0], 1;""", cells, grid=5, block=1, stats=True)
    assert cells[0] == 6
    code = GLOBAL.format(other=64) + """st.global.u32 [%d2], %r28; {fence} bar.sync 0; setp.ne.u32 %p0, %r29, 0;
        @%p0 bra wait;
        atom.global.add.u32 %r3, [%d0+512], 1;
        {fence} mov.u64 %d4, buffer; st.shared.u32 [%d4], %r3; wait: bar.sync 0; mov.u64 %d4, buffer;
        ld.shared.u32 %r3, [%d4];
        setp.ne.u32 %p1, %r3, 1; @%p1 exit;
        ld.global.u32 %r5, [%d3]; st.global.u32 [%d2], %r5;"""
    cells[:] = 0
    launch(code.format(fence="fence.acq_rel.gpu;"), cells, grid=2, block=64, top=".shared .b32 buffer;", stats=True)
    assert cells.tolist() == [*range(64), *range(64), 2]
    with pytest.raises(PTXError, match="race"):
        launch(code.format(fence=""), np.zeros(129, np.uint32), grid=2, block=64, top=".shared .b32 buffer;",
               stats=True)


@pytest.mark.parametrize("code", [
    "st.global.u32 [%d0], %r28;", "shr.u32 %r0, %r28, 1; mad.wide.u32 %d1, %r0, 4, %d0; st.global.u32 [%d1], 5;",
    "mov.u64 %d1, buffer; st.shared.u32 [%d1], 1;"])
def test_colliding_stores(code):
    with pytest.raises(PTXError, match="collision: two threads store to one address"):
        launch(code, np.zeros(32, np.uint32), top=".shared .b32 buffer;", stats=True)


def test_reading_through_nc_promises_that_nobody_stores():
    setup = "mad.wide.u32 %d2, %r28, 4, %d0;"
    load, store = "ld.global.nc.u32 %r0, [%d2];", "st.global.u32 [%d2], 1;"
    for code in (load + store, store + load):
        launch(setup + code, np.zeros(32, np.uint32))
        with pytest.raises(PTXError, match=r"read by ld\.global\.nc"):
            launch(setup + code, np.zeros(32, np.uint32), stats=True)
    launch(f"{setup} {load} add.s64 %d2, %d2, 128; {store}", np.zeros(64, np.uint32), stats=True)


# Statistics

def test_statistics_of_a_known_kernel():
    """y[i] = x[2*i] for i < 100 in two blocks of 64: three full warps and one of four threads."""
    x, y = np.arange(256, dtype=np.float32), np.zeros(100, np.float32)
    code = """setp.ge.u32 %p0, %r28, 100; @%p0 exit; mad.wide.u32 %d2, %r28, 8, %d0; ld.global.f32 %r0, [%d2];
        mad.wide.u32 %d3, %r28, 4, %d1;
        st.global.f32 [%d3], %r0; ld.global.v4.f32 {%r0, %r1, %r2, %r3}, [%d0];"""
    run = launch(code, x, y, grid=2, block=64, stats=True)
    assert y.tolist() == list(range(0, 200, 2))
    # 32 lanes x 8 bytes = 8 sectors; 4 lanes: 1; the same 16 bytes for all: 1 for each warp
    assert run.traffic == {"loaded_bytes": 100*(4 + 16), "loaded_sectors": 3*8 + 1 + 4, "load_requests": 8,
                           "stored_bytes": 400, "stored_sectors": 3*4 + 1, "store_requests": 4}
