"""Figures of compiled CUDA kernels, without a GPU: of known ones, of the hand-written Adam, of ours against it."""
import importlib
import math
import re
import subprocess
import sys
from pathlib import Path

import pytest

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(Path(__file__).parents[1]))
    sass, chips, cuda_c, bench = (importlib.import_module(f"benchmarks.{name}") for name in (
        "machine_code.sass", "machine_code.chips", "machine_code.cuda_c", "bench_cuda_code"))


def missing():
    try:
        sass.nvdisasm()
        cuda_c.compiled("", (9, 0))
    except (ImportError, FileNotFoundError, RuntimeError) as error:
        return f"NVRTC and nvdisasm are needed: {error}"
    return ""


MISSING, ALL = missing(), [(8, 0), (9, 0), (10, 0)]
needs_tools = pytest.mark.skipif(bool(MISSING), reason=MISSING or "nothing is missing")
every_cc = pytest.mark.parametrize("cc", ALL, ids=str)
WALK = "for (unsigned i = blockIdx.x*blockDim.x + threadIdx.x; i < n; i += gridDim.x*blockDim.x)"
ONCE = f'_Pragma("unroll 1") {WALK}'


@pytest.fixture
def ccs(full):
    """The chips of tests of what is alike for all: each starts nvdisasm for half a second."""
    return ALL if full else [(9, 0)]


def compiled(body, cc=(9, 0), kind="float", before="", flags=()):
    arguments = f"const {kind}* __restrict__ a, {kind}* __restrict__ b, unsigned n"
    text = f'{before}\nextern "C" __global__ void walk({arguments})\n{{ {body} }}'
    return cuda_c.compiled(text, cc, *cuda_c.FLAGS, *flags)


def figures(*args, stored=4, **kwargs):
    return sass.figures(compiled(*args, **kwargs), stored)


def recounted(image, path):
    """The instructions from where the first jump back leads to the jump, in nvdisasm's text."""
    path.write_bytes(image)
    text = subprocess.run([sass.nvdisasm(), "-c", str(path)], capture_output=True, text=True, check=True).stdout
    count, labels = 0, {}
    for line in text.splitlines():
        if label := re.match(r"(\.L_x_\d+):", line):
            labels[label[1]] = count
        elif re.match(r"\s+/\*[0-9a-f]{4,}\*/\s", line):
            count += 1
            if (jump := re.search(r"BRA `\((\.L_x_\d+)\)", line)) and jump[1] in labels:
                return count - labels[jump[1]]
    raise AssertionError("no jump back")


# Kernels whose answer is known

@needs_tools
@every_cc
def test_copy(cc, tmp_path):
    image = compiled(f"{ONCE} b[i] = a[i];", cc, "float4")
    found = sass.figures(image, 4)
    assert (found.name, found.cc, found.elements, found.loads, found.stores) == ("walk", cc, 4, (16,), (16,))
    assert (found.spilled, found.local, found.float64, found.cold) == (0, 0, 0, 0)
    assert found.narrow == (2 if cc == (10, 0) else 0)
    assert (found.usage.stack, found.usage.shared, found.usage.parameters) == (0, 0, 20)
    assert 8 <= found.usage.registers <= 32
    assert re.fullmatch(r"\d+\.\d+\.\d+", found.toolkit)
    assert sum(found.hot.values()) == recounted(image, tmp_path/"copy.cubin") == 4*found.per_element
    assert found.hot["control"] == 1


@needs_tools
def test_widths(ccs):
    eight = "struct __align__(32) eight { float x[8]; };"
    for cc in ccs:
        for kind, width in (("unsigned char", 1), ("short", 2), ("double", 8)):
            found = figures(f"{ONCE} b[i] = a[i];", cc, kind, stored=width)
            assert (found.elements, found.loads, found.stores) == (1, (width,), (width,))
    for cc, accesses in (((9, 0), (16, 16)), ((10, 0), (32,))):
        found = figures(f"{ONCE} {{ eight x = a[i]; x.x[0] += 1.f; b[i] = x; }}", cc, "eight", eight)
        assert (found.elements, found.loads, found.stores, found.narrow) == (8, accesses, accesses, 0)


@needs_tools
def test_spills(ccs):
    """64 values alive at once, in 255 registers and in 32."""
    every = '_Pragma("unroll") for (int k = 0; k < 64; k++)'
    body = f"""{ONCE} {{
        float x[64];
        {every} x[k] = a[i*64 + k];
        for (int r = 1; r < 4; r++) {every} x[k] = x[k]*x[(7*k + r) % 64] + x[(k + 1) % 64];
        {every} b[i*64 + k] = x[k];
    }}"""
    for cc in ccs:
        many, few = figures(body, cc), figures(body, cc, flags=["--maxrregcount=32"])
        for found in (many, few):
            assert (found.elements, found.stores) == (64, (4,)*64)
        assert 65 <= many.usage.registers <= 255
        assert (many.spilled, few.usage.registers) == (0, 32)
        assert few.usage.stack >= 64
        assert few.local > 64
        assert few.spilled == few.usage.stack + few.local


@needs_tools
def test_float64(ccs):
    for cc in ccs:
        for value, count in (("a[i]*3.0f", 0), ("(float)((double)a[i]*3.7)", 3)):  # converted, multiplied, converted
            assert figures(f"{ONCE} b[i] = {value};", cc).float64 == count
    found = figures(f"{ONCE} b[i] = sqrt(a[i])/b[i];", kind="double", stored=8)
    assert found.hot["mufu"] == 2
    assert found.cold >= 2
    assert found.float64 >= found.hot["float64"] > 8
    assert (found.loads, found.stores, found.narrow) == ((8, 8), (8,), 3)


@needs_tools
@every_cc
def test_slow_paths_are_cold(cc):
    for value, mufu, calls in (("a[i]/(sqrtf(a[i]) + c)", 2, 2), ("__fdividef(a[i], c)", 1, 0)):
        image = compiled(f"{ONCE} {{ float c = b[i]; b[i] = {value}; }}", cc)
        hot, cold = sass.hot_loop(sass.kernel(image).code)
        assert sum(x.kind == "mufu" for x in hot) == mufu
        assert (sum(x.calls for x in hot), sum(x.calls for x in cold)) == (0, calls)
        assert calls <= len(cold) <= 5*calls  # arguments, the call, the way back
        assert [x.opcode.split(".")[0] for x in hot].count("FCHK") == value.count("/(")


@needs_tools
def test_scalar_loop(ccs):
    for cc in ccs:
        once, four = (figures(f'_Pragma("unroll {k}") {WALK} b[i] = a[i] + 1.0f;', cc) for k in (1, 4))
        assert (once.elements, once.loads, once.stores, once.narrow) == (1, (4,), (4,), 2)
        assert (four.elements, four.loads, four.stores) == (4, (4,)*4, (4,)*4)  # and not the loop for the rest
        assert once.hot["float32"] in (1, 2)  # sm_80 makes a constant by an HFMA2
        assert four.hot["float32"] in (4, 5)
        assert four.per_element <= once.per_element


TILES = """for (unsigned k = blockIdx.x; k < n; k += gridDim.x) {
    unsigned lo = (unsigned)a[2*k], hi = (unsigned)a[2*k + 1], from = (lo + 3) & ~3u, to = hi & ~3u;
    _Pragma("unroll 1") for (unsigned i = lo + threadIdx.x; i < from; i += blockDim.x) b[i] = b[i]*2.0f + 1.0f;
    _Pragma("unroll 1") for (unsigned i = from/4 + threadIdx.x; i < to/4; i += blockDim.x) {
        float4 x = ((float4*)b)[i];
        x.x *= 2.0f; x.y *= 2.0f; x.z *= 2.0f; x.w *= 2.0f;
        ((float4*)b)[i] = x;
    }
    _Pragma("unroll 1") for (unsigned i = to + threadIdx.x; i < hi; i += blockDim.x) b[i] = b[i]*2.0f + 1.0f;
    %s
}"""


@needs_tools
def test_the_widest_inner_loop_is_hot(ccs):
    """A tile's head and tail are scalar loops. A wide store in the outer loop does not count where a trip does more."""
    for cc in ccs:
        code = sass.kernel(compiled(TILES % "", cc)).code
        bodies = sass.loops(sass.flow(code))
        outer = max(bodies.values(), key=len)
        assert [body <= outer for body in bodies.values()] == [True]*4
        hot, cold = sass.hot_loop(code)
        assert sum(x.base in ("FADD", "FMUL") for x in hot) == 4
        assert [x.width for x in hot if x.kind in ("load", "store")] == [16, 16]
        assert not cold
    code = sass.kernel(compiled(TILES % "((float4*)b)[k] = make_float4(1.0f, 2.0f, 3.0f, 4.0f);")).code
    with pytest.raises(ValueError, match="holds a loop whose trips cannot be counted"):
        sass.hot_loop(code)


@needs_tools
def test_both_sides_of_a_branch_count():
    bodies = "", "if (x > 0) { x = __sinf(x); x = __cosf(x); }"
    plain, branch = (figures(f"{ONCE} {{ float x = a[i]; {body} b[i] = x; }}") for body in bodies)
    assert (plain.hot.get("mufu", 0), branch.hot["mufu"], branch.cold) == (0, 2, 0)


@needs_tools
def test_what_a_kernel_takes(ccs):
    text = """
        extern "C" __global__ void big(double x, char y, float* p) {
            __shared__ float s[100];
            s[threadIdx.x] = x + y;
            __syncthreads();
            p[threadIdx.x] = s[99 - threadIdx.x];
        }
        extern "C" __global__ void small(float* p) { *p = 1; }"""
    for cc in ccs:
        image = cuda_c.compiled(text, cc)
        found = sass.usage(image)
        assert set(found) == {"big", "small"}
        assert (found["big"].shared, found["big"].parameters, found["big"].stack) == (400, 24, 0)
        assert (found["small"].shared, found["small"].parameters) == (0, 8)
        assert found["big"].registers >= found["small"].registers > 0
        assert found["big"].code == 16*len(sass.kernel(image, "big").code)
    with pytest.raises(ValueError, match=r"the cubin has the kernels \['big', 'small'\]. Name one of them"):
        sass.kernel(image, "")


@needs_tools
@pytest.mark.parametrize(("body", "before", "message"), [
    ("b[threadIdx.x] = a[threadIdx.x];", "", "no loop of this kernel stores to global memory"),
    (f"{ONCE} {{ float x = a[i]; while (x > 1.0f) x *= x - 0.7f; b[i] = x; }}", "", "whose trips cannot be counted"),
    (f"{ONCE} b[i] = f(a[i]);", "__device__ __noinline__ float f(float x) { return __sinf(x)*x + 1.0f; }",
     "hot loop calls .*f"),
    (f"{ONCE} b[i] = (float)((unsigned long long)a[i]/(unsigned long long)b[i]);", "", "the hot loop calls .*div_u64"),
    (f"{ONCE} {{ b[3*i] = a[i]; b[3*i + 1] = a[i]; b[3*i + 2] = a[i]; }}", "", "12 bytes: not whole elements")])
def test_no_figure_is_better_than_a_wrong_one(body, before, message):
    with pytest.raises(ValueError, match=message):
        figures(body, before=before, stored=8 if "3*i" in body else 4)


# Control flow, on instructions by hand

def line(text):
    """An instruction as nvdisasm writes it; what jumps is known by its name here."""
    predicate, opcode, operands = re.fullmatch(r"(@\S+ )?(\S+) ?(.*)", text).groups()
    jumps = opcode.split(".")[0] in {*sass.JUMPS, "BRX", "WARPSYNC"}
    calls = opcode == "CALL.REL.NOINC" and operands.startswith("$")
    return sass.Instruction(opcode, operands, (predicate or "").strip(), jumps, calls)


def lines(texts):
    return tuple(line(text.strip()) for text in texts.split(";"))


def test_flow_and_nested_loops():
    code = lines("MOV R0,R1; @P0 EXIT; BSSY B0,0x60; @!P1 BRA 0x50; BRA !P2,0x10; BSYNC B0; "
                 "CALL.REL.NOINC $f; EXIT; NOP")
    assert sass.flow(code) == {0: [1], 1: [2], 2: [3], 3: [5, 4], 4: [1, 5], 5: [6], 6: [7], 7: []}
    assert sass.loops(sass.flow(code)) == {1: {1, 2, 3, 4}}
    code = lines("MOV R0,R1; NOP; NOP; @P0 BRA 0x20; @P1 BRA 0x20; @P2 BRA 0x10; EXIT")
    assert sass.loops(sass.flow(code)) == {2: {2, 3, 4}, 1: {1, 2, 3, 4, 5}}


def test_flow_that_is_not_understood():
    for code, message in {
            "@P0 BRA 0x30; NOP; NOP; NOP; @P1 BRA 0x20; EXIT": "a second entry: it has no count of instructions",
            **dict.fromkeys(("BRX R2,-0x40", "@Q0 BRA 0x0", "WARPSYNC.COLLECTIVE R2,0x20"), "leads is not known"),
            **dict.fromkeys(("BRA `(.L_x_1)", "BRA 0x40", "RET.REL.NODEC R2,f"), "only jumps to places in the kernel"),
            "BSSY B0,0x30; BSYNC B0; NOP; EXIT": "not in front of the place where its threads meet"}.items():
        with pytest.raises(ValueError, match=message):
            sass.loops(sass.flow(lines(code)))


def test_a_loop_that_always_calls():
    slow = "CALL.REL.NOINC $__internal_0_$__cuda_sm20_sqrt_rn_f32_slowpath"
    with pytest.raises(ValueError, match="every trip of the hot loop calls a slow path"):
        sass.hot_loop(lines(f"MOV R0,R1; {slow}; STG.E.128 [R2],R4; @P0 BRA 0x10; EXIT"))
    around = lines(f"MOV R0,R1; @P1 BRA 0x40; MOV R3,R2; {slow}; STG.E.128 [R2],R4; @P0 BRA 0x10; EXIT")
    assert [[x.base for x in part] for part in sass.hot_loop(around)] == [["BRA", "STG", "BRA"], ["MOV", "CALL"]]


def test_opcodes():
    for opcode, width in {"LDG.E": 4, "LDG.E.U16.CONSTANT": 2, "STG.E.U8": 1, "LDG.E.LTC128B.64": 8, "LD.E.128": 16,
                          "STG.E.ENL2.256": 32}.items():
        assert line(opcode).width == width, opcode
    for opcode in ("LDG.E.512", "LDG.E.64.128"):
        with pytest.raises(ValueError, match=rf"the width of {opcode} is not known"):
            line(opcode).width  # noqa: B018
    for opcode, known in {
            "FFMA.FTZ": ("float32", False), "FSETP.GT.AND": ("compare", False), "IMAD.WIDE.U32": ("integer", False),
            "UIADD3.X": ("integer", False), "F2FP.BF16.F32.PACK_AB": ("conversion", False), "MUFU.RSQ": ("mufu", False),
            "MUFU.RSQ64H": ("mufu", True), "DFMA": ("float64", True), "F2F.F64.F32": ("conversion", True),
            "STL.64": ("local", False), "NOP": ("control", False)}.items():
        assert (line(opcode).kind, line(opcode).wide) == known, opcode
    with pytest.raises(ValueError, match=r"the instruction QFMA.X is in no class. Add it to sass.CLASSES"):
        line("QFMA.X").kind  # noqa: B018
    assert len(sass.CLASS_OF) == sum(len(opcodes.split()) for opcodes in sass.CLASSES.values())  # none is in two


# The hand-written kernels, and ours against them

@needs_tools
@every_cc
def test_adam_is_within_a_tenth_of_hand_written(cc):
    """Which has the operations of the formula, with five of a division (and its check) and four of a root."""
    pytest.importorskip("numba.cuda.dispatcher", reason="numba-cuda is needed")
    for name, all_pieces, float32, compare in (("bare", False, 19, 1), ("same work", True, 25, 5)):
        found = sass.figures(cuda_c.adam(name, cc), cuda_c.STORED)
        assert (found.elements, found.loads, found.stores) == (4, (16,)*4, (16,)*3)
        assert (found.hot["float32"], found.hot["compare"], found.hot["mufu"]) == (4*float32, 4*compare, 8)
        ours = bench.ours("adam", "f32", cc, all_pieces=all_pieces)
        assert ours["instructions"] <= 1.1*found.per_element
        assert (ours["spilled"], ours["float64"], ours["narrow"]) == (0, 0, 0)
        assert ours["core_over_memory"] < 0.5


# Chips and benchmarks

def test_chips():
    """Their peaks are those of the data sheets, in TFLOPS, within what a data sheet rounds."""
    for name, *peaks in (("A100 40GB", 19.5, 9.7), ("A100 80GB", 19.5, 9.7), ("H100 SXM", 67, 34), ("H200 SXM", 67, 34),
                         ("B200", 75, 37)):
        for kind, peak in zip(("float32", "float64"), peaks, strict=True):
            chip = chips.CHIPS[name]
            assert math.isclose(chip.sms*chip.rates[kind]*2*chip.ghz/1e3, peak, rel_tol=0.02), name
    assert {kind for kinds in chips.PIPES.values() for kind in kinds} == set(sass.CLASSES) == set(chips.PIPES["issue"])
    assert [chips.fastest(cc) for cc in ALL] == ["A100 80GB", "H200 SXM", "B200"]


def test_core_over_memory():
    chip = chips.Chip((9, 0), 100, 2.0, 1000.0, chips.HOPPER)  # 28 bytes take 28 ps
    for instructions, cycles, pipe in (({"float32": 100, "integer": 28}, 32/128, "issue"),
                                       ({"float32": 40, "mufu": 32}, 8/16, "mufu"),
                                       ({"integer": 60, "compare": 60}, 30/64, "integer")):
        assert chips.core_over_memory(instructions, 4, 28, chip) == (pytest.approx(cycles/200*1e3/28), pipe)
    with pytest.raises(ValueError, match=r"classes \['tensor'\] belong to no unit"):
        chips.core_over_memory({"tensor": 1}, 1, 1, chip)


def test_blocks_that_registers_leave_room_for():
    """The 65,536 of a multiprocessor are given to warps, by 256; 2,048 threads are the most."""
    found = [sass.Usage(registers, 0, 0, 0, 0).resident(256) for registers in (16, 32, 33, 64, 65, 80, 81, 128, 255)]
    assert found == [8, 8, 6, 4, 3, 3, 2, 2, 1]


@needs_tools
@every_cc
def test_what_parted_threads_of_a_warp_do_is_cold(cc):
    """A step with 8-bit states has a second way, for threads that come to the largest of a warp one by one."""
    if bench.TOOLKIT == "none":
        pytest.skip("numba-cuda is needed")
    found = sass.kernel(bench.inside.cuda_image(bench.fastopt, "adam", "f32 f32 q43 q44", cc))
    hot, cold = sass.hot_loop(found.code)
    largest = [sum("REDUX" in x.opcode or "reduxsync" in x.operands for x in part) for part in (hot, cold)]
    assert (largest, sum(x.calls for x in hot)) == ([2, 2], 0)
    assert [x.opcode for x in hot + cold].count("BRA.DIV") == 1


@needs_tools
def test_kernels_that_ask_early_and_others_beside_them():
    """benchmarks.device --without-prefetch. The four arrays of a step are asked for, exponents are not."""
    if bench.TOOLKIT == "none":
        pytest.skip("numba-cuda is needed")
    program = """
import fastopt
from benchmarks import device
from benchmarks.gate import inside
from benchmarks.machine_code import sass
for change in (lambda: None, device.without_prefetch):
    change()
    inside.part(fastopt, "_cuda.loops").step.cache_clear()
    image = inside.cuda_image(fastopt, "adam", "f32 f32 q43 q44", (9, 0))
    print(sum(x.opcode.startswith("CCTL.E.PF2") for x in sass.kernel(image).code))
"""
    root = str(Path(__file__).parents[1])
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.split() == ["4", "0"]


@needs_tools
def test_benchmarks(monkeypatch):
    """Quick: one kernel of ours. Figures of another toolkit are refused."""
    if bench.TOOLKIT == "none":
        pytest.skip("numba-cuda is needed")
    found, case = bench.Rules().setup_cache(), ("sm_90", bench.TOOLKIT)
    names = "all pieces", "bare", "same work"
    assert set(found) == {("adam", "f32", "sm_90"), *((name, "sm_90") for name in names)}
    for name in [name for name in dir(bench.Rules) if name.startswith("track_")]:
        value = found["adam", "f32", "sm_90"][name.removeprefix("track_")]
        assert getattr(bench.Rules(), name)(found, "adam", *case) == value
        assert getattr(bench.Formats(), name)(found, "adam", *case, "f32") == value
    blocks, taken = bench.Blocks(), bench.Blocks().setup_cache()
    registers, resident = blocks.track_registers(taken, "adam", *case), blocks.track_resident(taken, "adam", *case)
    assert (list(taken), resident) == ([("adam", "q8", "sm_90")], sass.Usage(registers, 0, 0, 0, 0).resident(256))
    assert 40 <= registers <= 128
    assert 60 <= blocks.track_instructions(taken, "adam", *case) <= 100
    assert 0.8 <= blocks.track_core_over_memory(taken, "adam", *case) <= 1.2
    assert bench.HandWritten().track_over_same_work(found, *case) <= 1.1
    assert bench.HandWritten().track_over_bare(found, *case) <= 1.1
    monkeypatch.setattr(bench, "TOOLKIT", "CUDA 1.2.3")
    with pytest.raises(ValueError, match=r"but CUDA 1\.2\.3 is what pip lists"):
        bench.measured(cuda_c.adam("bare", (9, 0)), cuda_c.STORED, cuda_c.MOVED)
