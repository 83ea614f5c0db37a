"""Figures of compiled CPU kernels: of known assembly, of planted slips, of ours for other processors."""
import importlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import fastopt

ROOT, SOURCE = Path(__file__).parents[1], Path(fastopt.__file__).parents[1]

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(ROOT))
    assembly, cpu_code, bench = (importlib.import_module(f"benchmarks.{name}")
                                 for name in ("machine_code.assembly", "machine_code.cpu_code", "bench_cpu_code"))

pytestmark = pytest.mark.skipif(not cpu_code.X86, reason=f"for x86-64, on x86-64; this is {platform.machine()}")


# Assembly whose answer is known

def loop(name, *lines, step=8, end="%rdx"):
    """A loop of these instructions and three more: addition, comparison, jump."""
    return [f".LBB0_{name}:", *lines, f"addq ${step}, %rax", f"cmpq %rax, {end}", f"jne .LBB0_{name}"]


def vectors(at=0, r="y", p="%rdi", g="%rsi"):
    """p -= lr*g on one vector."""
    return [f"vmulps {at}({g},%rax,4), %{r}mm0, %{r}mm1", f"vmovups {at}({p},%rax,4), %{r}mm2",
            f"vsubps %{r}mm1, %{r}mm2, %{r}mm1", f"vmovups %{r}mm1, {at}({p},%rax,4)"]


def split(code):
    """Instructions, separated by semicolons; {g} and {p} are elements of the gradient and the parameter."""
    return [line.strip() for line in code.replace("{g}", "(%rsi,%rax,4)").replace("{p}", "(%rdi,%rax,4)").split(";")]


SCALAR = split("vmulss {g}, %xmm0, %xmm1; vmovss {p}, %xmm2; vsubss %xmm1, %xmm2, %xmm1; vmovss %xmm1, {p}")
SSE = split("movups {g}, %xmm1; mulps %xmm0, %xmm1; movups {p}, %xmm2; subps %xmm1, %xmm2; movups %xmm2, {p}")
UNROLLED = [line for k in range(4) for line in vectors(32*k)]
TAIL = loop(9, *SCALAR, step=1)
SPILLED = split("vmulps {g}, %ymm0, %ymm1; vmovups %ymm1, 32(%rsp); vmovups {p}, %ymm2; vsubps 32(%rsp), %ymm2, %ymm1; "
                "vmovups %ymm1, {p}")
RELOADED = [  # arrays and a constant in one register
    "movq 8(%rsp), %r11", "movq 16(%rsp), %r8", *vectors(p="%r11", g="%r8"),
    *split("movabsq $.LCPI0_0, %r11; vandps (%r11), %ymm1, %ymm3; movq 24(%rsp), %r11; vmovups %ymm3, (%r11,%rax,4)")]
WIDE = split("vcvtps2pd {g}, %ymm1; vmulpd %ymm0, %ymm1, %ymm1; vmovapd %ymm1, %ymm4; vandpd %ymm5, %ymm4, %ymm4; "
             "vmovups {p}, %xmm2; vcvtpd2ps %ymm1, %xmm1; vsubps %xmm1, %xmm2, %xmm1; vmovups %xmm1, {p}")
CALLING = ["callq *%rbx", *SCALAR]
POINTERS = split("vmulps (%rsi), %ymm0, %ymm1; vmovups (%rdi), %ymm2; vsubps %ymm1, %ymm2, %ymm1; "
                 "vmovups %ymm1, (%rdi); addq $32, %rsi; leaq 32(%rdi), %rdi")
BF16 = split("vpmovzxwd (%rsi,%rax,2), %ymm1; vpslld $16, %ymm1, %ymm1; vmulps {p}, %ymm1, %ymm1; "
             "vpsrld $16, %ymm1, %ymm2; vpackusdw %ymm2, %ymm2, %ymm2; vmovdqu %xmm2, (%rsi,%rax,2); "
             "vmovups %ymm1, {p}")
DECODING = split("vpternlogd $248, (%r12){1to16}, %zmm3, %zmm1; vmulps {g}, %zmm0, %zmm1; vmovups %zmm1, {p}")
CLAIM = split(".LBB0_7:; movq $1, %rcx; lock\t\txaddq\t%rcx, (%rdx); movq (%r9,%rcx,8), %rax; cmpq %rcx, %r8; "
              "jne .LBB0_7")
NO_ACCESS = split("prefetcht0 512(%rdi,%rax,4); nopw 8(%rax,%rax); leaq 8(%rdi,%rax,4), %r9")


def text(*parts):
    """An assembly file of one function."""
    lines = [line for part in parts for line in (part if isinstance(part, list) else [part])]
    lines = [x if x.endswith(":") else f"\t{x.replace(' ', chr(9), 1)}" for x in lines]
    return "\n".join(["\t.text", "_ZN7fastopt3cpuB3v12E:", *lines, "\tretq", ".Lfunc_end0:"])


def figures(*parts, **given):
    found = assembly.figures(text(*parts), **{"item": 4, **given})
    return tuple(found[name] for name in ("instructions", "accesses", "width", "float64", "calls", "spills"))


PLAIN = (7/8, 3/8, 256, 0, 0, 0)  # of one loop of `vectors`
KNOWN = {
    "sse": ([loop(1, *SSE, step=4)], (8/4, 3/4, 128, 0, 0, 0)), "ymm": ([loop(1, *vectors())], PLAIN),
    "zmm": ([loop(1, *vectors(r="z"), step=16)], (7/16, 3/16, 512, 0, 0, 0)),
    "scalar": ([loop(1, *SCALAR, step=1)], (7, 3, 32, 0, 0, 0)),
    "tail": ([CLAIM, loop(1, *vectors()), "je .LBB0_8", TAIL, ".LBB0_8:"], PLAIN),
    "remainder": ([loop(1, *UNROLLED, step=32), loop(2, *vectors()), TAIL], (19/32, 12/32, 256, 0, 0, 0)),
    "spill": ([loop(1, *SPILLED)], (8/8, 3/8, 256, 0, 0, 2)),
    "reloads": ([loop(1, *RELOADED)], (13/8, 4/8, 256, 0, 0, 4)),
    "float64": ([loop(1, *WIDE, step=4)], (11/4, 3/4, 256, 3, 0, 0)),
    "call in loop": ([loop(1, *CALLING, step=1)], (8, 3, 32, 0, 1, 0)),
    "call outside": ([loop(1, *vectors()), "movabsq $NRT_Free, %rax", "callq *%rax"], (7/8, 3/8, 256, 0, 1, 0)),
    "pointers": ([loop(1, *POINTERS)], (9/8, 3/8, 256, 0, 0, 0)), "bf16": ([loop(1, *BF16)], (10/8, 4/8, 256, 0, 0, 0)),
    "constant": ([loop(1, *DECODING, step=16)], (6/16, 2/16, 512, 0, 0, 1)),
    "no access": ([loop(1, *vectors(), *NO_ACCESS)], (10/8, 3/8, 256, 0, 0, 0)),
    # two addresses that one register held in turn are two arrays, two copies of one address are one
    "two arrays": ([loop(1, *split("vmulps (%rsi,%rax), %ymm0, %ymm1; movq %rax, %r11; addq %rdi, %r11; "
                                   "vmovups %ymm1, (%r11); movq %rax, %r11; addq %rcx, %r11; vmovups %ymm1, (%r11)"),
                         step=32)], (10/8, 3/8, 256, 0, 0, 0)),
    "one array": ([loop(1, *split("vmulps {g}, %ymm0, %ymm1; movq 8(%rsp), %r11; vmovups %ymm1, (%r11,%rax,4); "
                                  "movq 8(%rsp), %r9; vmovups %ymm1, 32(%r9,%rax,4)"), step=16)],
                  (8/16, 3/16, 256, 0, 0, 2))}


def test_known_loops():
    for name, (parts, expected) in KNOWN.items():
        assert figures(*parts) == expected, name
    with pytest.raises(ValueError, match="no loop computes with floats and stores elements"):
        figures(CLAIM)


def test_a_second_pass_counts():
    """Whatever it does: with other arithmetic, or with none in narrower vectors."""
    once, second = loop(1, *vectors()), ["vaddps (%r8,%rax,4), %ymm3, %ymm3", "vmovups %ymm3, (%r8,%rax,4)"]
    assert figures(once, loop(2, *second), TAIL)[:2] == (7/8 + 5/8, 3/8 + 2/8)
    other = [x.replace("%rdi", "%r8").replace("vsub", "vadd") for x in vectors()]
    assert figures(once, loop(2, *other))[:2] == (7/8 + 7/8, 3/8 + 3/8)
    copy = ["movups (%rdi,%rax,4), %xmm3", "movups %xmm3, (%r8,%rax,4)"]
    assert figures(once, loop(2, *copy, step=4), TAIL)[:3] == (7/8 + 5/4, 3/8 + 2/4, 256)


def test_what_is_left_over_does_not_count():
    """Vectors select, a scalar may jump. The odd element of pairs stands behind the vectors, in the outer loop."""
    branch = split("vucomiss %xmm1, %xmm4; jae .LBB0_10; vsubss %xmm3, %xmm1, %xmm1; .LBB0_10:")
    tail = [".LBB0_9:", *SCALAR[:3], *branch, SCALAR[3], *split("incq %rax; cmpq %rax, %rdx; jne .LBB0_9")]
    assert figures(loop(1, *vectors()), tail) == PLAIN
    assert figures(tail) == (10, 3, 32, 0, 0, 0)
    tile = [".LBB0_2:", "movq 8(%r8), %rdx", "movq 16(%r8), %rsi", *loop(3, *vectors()), "movq 24(%r8), %rax", *SCALAR,
            *split("addq $32, %r8; decq %r10; jne .LBB0_2")]
    assert figures(tile) == PLAIN
    assert figures([x.replace("vsubss", "vaddss") for x in tile])[0] > 7/8


def test_only_what_is_in_the_loop_counts():
    """A jump out of the middle, blocks in between that are not part of it, a loop around it."""
    inner = [".LBB0_3:", *vectors()[:2], "testb %cl, %cl", "jne .LBB0_5", *vectors()[2:],
             *split("addq $8, %rax; cmpq %rax, %rdx; jne .LBB0_3")]
    outer = [*split(".LBB0_2:; vxorps %ymm3, %ymm3, %ymm3; jmp .LBB0_3; .LBB0_5:; callq *%rbx; ud2"), *inner,
             "decq %r10", "jne .LBB0_2"]
    assert figures(outer) == (9/8, 3/8, 256, 0, 1, 0)
    assert figures(inner, *split("retq; .LBB0_5:; callq *%rbx; ud2; jmp .LBB0_3")) == (9/8, 3/8, 256, 0, 1, 0)


SQUARE = split("vcvtps2pd (%rsi,%rax,4), %zmm1; vmulpd %zmm1, %zmm1, %zmm1")
SCALAR_SQUARE = split("vcvtss2sd (%rsi,%rax,4), %xmm1, %xmm1; vmulsd %xmm1, %xmm1, %xmm1; vaddsd %xmm1, %xmm2, %xmm2")


def test_the_norm():
    """Its elements are those of the gradient, wherever its sums are: in registers or in memory."""
    in_registers = [*SQUARE, "vaddpd %zmm1, %zmm2, %zmm2"]
    assert figures(loop(1, *in_registers), norm=True) == (6/8, 1/8, 512, 3, 0, 0)
    place = ["vaddpd (%rcx), %zmm1, %zmm1", "vmovupd %zmm1, (%rcx)"]
    assert figures(loop(1, *SQUARE, *place), norm=True) == (7/8, 1/8, 512, 3, 0, 2)
    memory = ["vaddpd (%rcx,%rax,8), %zmm1, %zmm1", "vmovupd %zmm1, (%rcx,%rax,8)"]
    assert figures(loop(1, *SQUARE, *memory), norm=True) == (7/8, 3/8, 512, 3, 0, 0)
    assert figures(loop(1, *in_registers), loop(2, *in_registers, "vmulpd %zmm3, %zmm3, %zmm3"), norm=True)[0] == 6/8
    # all of a block in one trip of the outer loop, or number by number in the inner one: the instructions of either
    block = [*split(".LBB0_4:; testb %cl, %cl; je .LBB0_5; xorl %eax, %eax"), *loop(1, *SCALAR_SQUARE, step=1),
             *split("jmp .LBB0_6; .LBB0_5:"), *[x.replace("%rsi,%rax,4", "%rsi") for x in SQUARE], *place,
             *split(".LBB0_6:; addq $32, %rsi; decq %r9; jne .LBB0_4")]
    assert figures(block, norm=True) == (11/8, 1/8, 512, 3, 0, 2)
    # vectors over the last elements do not hide those that were lost
    for lines, expected in ((in_registers, (6/8, 1/8, 512, 3, 0, 0)), (SCALAR_SQUARE, (6, 1, 64, 3, 0, 0))):
        main = [*split(".LBB0_4:; xorl %eax, %eax"), *loop(1, *lines), *split("addq $256, %rsi; decq %r9; jne .LBB0_4")]
        parts = ".LBB0_6:", "movq 8(%r8), %rdx", main, loop(2, *in_registers), "decq %r10", "jne .LBB0_6"
        assert figures(*parts, norm=True) == expected


def test_what_moves_and_what_is_stored():
    for lines, expected in {"incl {p}": [(4, True, False), (4, True, True)], "cmpl $0, {p}": [(4, True, False)],
                            "setb (%rdi,%rax)": [(1, True, True)], "divl {p}": [(4, True, False)],
                            "movq %rcx, %r11; addq $64, %r11; movups (%r11), %xmm1": [(16, False, False)],
                            "leaq 64(%rcx,%rax), %r11; movups (%r11), %xmm1": [(16, True, False)],
                            "movslq %eax, %r11; movups (%rdi,%r11,4), %xmm1": [(16, True, False)],
                            "imulq %rcx, %r11; movups (%r11), %xmm1": [(16, True, False)],
                            "movups (%rcx,%r8,4), %xmm1; addq %rdx, %r8": [(16, True, False)],
                            "vgatherdps (%rdi,%ymm3,4), %ymm2, %ymm1": [(32, True, False)]}.items():
        code = [assembly.instruction(line) for line in [*split(lines), "addq $8, %rax"]]
        assert [(x[2], x[1], x[3]) for x in assembly.accesses(code)] == expected, lines


def test_bytes_of_an_access():
    """The lines of each size; a is an address."""
    for size, lines in {64: "vmovups %zmm1, a", 1: "setb a",
                        32: "vmovdqu %ymm1, a; vmulpd a, %ymm0, %ymm1; vpmovdw %zmm0, a; vcvtps2pd a, %zmm0; "
                            "vpmulld a, %ymm0, %ymm0; vinsertf64x4 $1, a, %zmm0, %zmm0; vpabsd a, %ymm0",
                        16: "movaps %xmm1, a; vpmovzxwd a, %ymm0; vpmovusdb %zmm0, a; vcvtps2ph $0, %ymm0, a; "
                            "vcvtph2ps a, %ymm0; vbroadcastf128 a, %ymm0; vextractf128 $1, %ymm0, a",
                        8: "vaddsd a, %xmm0, %xmm1; movq %xmm0, a; vpmovsxbd a, %ymm0; vcvtsd2ss a, %xmm0, %xmm0; "
                           "vbroadcastsd a, %zmm0; vmulpd a{1to8}, %zmm0, %zmm1; vmovhps %xmm0, a; incq a",
                        4: "vmovss %xmm1, a; vmovd a, %xmm0; cvtss2sd a, %xmm0; vpinsrd $1, a, %xmm0, %xmm0; "
                           "vbroadcastss a, %ymm0; vpandd a{1to16}, %zmm0, %zmm1; movslq a, %rcx; movl $0, a",
                        2: "vpextrw $1, %xmm0, a; vpbroadcastw a, %ymm0; movw %cx, a; movzwl a, %ecx"}.items():
        for line in split(lines):
            assert assembly.instruction(re.sub(r"\ba\b", "(%rax)", line)).moved == size, line


def test_float64_is_arithmetic_and_conversions_and_no_moves():
    for count, lines in {
            1: "vcvtps2pd %xmm0, %ymm0; cvtsd2ss %xmm0, %xmm0; vcvttsd2si %xmm0, %rax; vcvtsi2sd %rax, %xmm0, %xmm0; "
               "sqrtsd %xmm0, %xmm0; vmulpd %ymm0, %ymm0, %ymm0; vfmadd213sd %xmm0, %xmm1, %xmm2; "
               "vucomisd %xmm0, %xmm1; vcmpltpd %ymm0, %ymm1, %ymm2",
            0: "vmovapd %ymm0, %ymm1; vmovsd (%rax), %xmm0; vandpd %ymm0, %ymm1, %ymm1; vxorpd %xmm0, %xmm0, %xmm0; "
               "vcvtdq2ps %ymm0, %ymm0; vunpcklpd %xmm0, %xmm1, %xmm1; vbroadcastsd (%rax), %ymm0; "
               "vmulps %ymm0, %ymm0, %ymm0; vblendvpd %ymm0, %ymm1, %ymm2, %ymm3"}.items():
        for line in split(lines):
            assert figures(loop(1, *vectors(), line))[3] == count, line


def test_digest_of_the_code():
    kernel = ["movabsq $.LCPI0_0, %r8", "movabsq $_ZN08NumbaEnv7fastopt3cpuB3v1E, %r9", *loop(1, *vectors())]

    def digest(*lines, constant="0x77800000", end=""):
        return assembly.digest(f".LCPI0_0:\n\t.long\t{constant}\n{text(list(lines))}\n{end}")
    same = digest(*kernel)
    assert digest(*[line.replace("7fastopt3cpuB3v1E", "12fastopt_head3cpuB3v17E") for line in kernel]) == same
    assert digest(*kernel, end="_ZN7cpython7fastoptE:\n\tcallq\t*%rax\n\t.type\tx,@object") == same
    others = [digest(*kernel, constant="0x77800001"), digest(*kernel[:-1], "ja .LBB0_1"),
              digest(*[x.replace("$8", "$9") for x in kernel]),
              digest(*kernel[:2], *[x.replace("%ymm2", "%ymm3") for x in kernel[2:]])]
    assert len({same, *others}) == 5


# Compiled code

PROGRAM = """
import json, sys
import numpy as np
from numba import njit
from benchmarks.machine_code import assembly, cpu_code
from benchmarks.gate import inside
from benchmarks.gate.versions import load
"""
PLANTED = """
def clean(p, g, lr):
    for i in range(p.size):
        p[i] = p[i] - lr*g[i]
def literal(p, g, lr):
    for i in range(p.size):
        p[i] = p[i] - 0.5*lr*g[i]
def carried(p, g, lr):
    for i in range(1, p.size):
        p[i] = p[i - 1] - lr*g[i]
def temporary(p, g, lr):
    u = np.empty(p.size, np.float32)
    for i in range(p.size):
        u[i] = lr*g[i]
    for i in range(p.size):
        p[i] = p[i] - u[i]
def both(p, g, lr):
    for i in range(p.size):
        g[i] = lr*g[i]
    for i in range(p.size):
        p[i] = p[i] - g[i]
def text(function):
    run = njit("void(f4[::1], f4[::1], f4)", error_model="numpy")(function)
    return run.inspect_asm(run.signatures[0])
print(json.dumps({f.__name__: assembly.figures(text(f), 4) for f in (clean, literal, carried, temporary, both)}))
"""


def printed(code, folder, cache, **environment):
    """What a program prints as JSON that compiles for AVX2."""
    given = {"NUMBA_CPU_NAME": "x86-64-v3", "NUMBA_CPU_FEATURES": "", "FASTOPT_CACHE": str(cache), **environment}
    done = subprocess.run([sys.executable, "-c", PROGRAM + code, str(folder)], capture_output=True, text=True,
                          check=False, cwd=ROOT, env={**os.environ, **given})
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_planted_slips(tmp_path):
    """Clean: two loads and a store, not one instruction too many, for the loop is unrolled four times."""
    planted = printed(PLANTED, SOURCE, tmp_path)
    instructions = {name: of["instructions"]/planted["clean"]["instructions"] for name, of in planted.items()}
    clean = {"instructions": 19/32, "accesses": 3/8, "width": 256, "float64": 0, "calls": 0, "spills": 0}
    assert planted["clean"].items() >= clean.items()
    assert planted["literal"]["float64"] > 0
    assert instructions["literal"] > 2
    assert planted["carried"]["width"] == 32
    assert instructions["carried"] > 4
    assert planted["temporary"]["calls"] >= 2  # an allocation, a release
    assert planted["temporary"]["accesses"] == (2 + 3)/8
    assert planted["both"].items() >= {"accesses": (2 + 3)/8, "width": 256, "calls": 0}.items()
    assert instructions["both"] > 1.3


KERNELS = ["momentum, f32", "adam, f32", "amsgrad, f32", "adam, bf16, bf16 state", "squares, f32"]


@pytest.fixture(scope="module")
def tables():
    return {target: cpu_code.table(SOURCE, target, KERNELS) for target in ("x86-64-v3", "znver4")}


@pytest.mark.parametrize(("target", "width"), [("x86-64-v3", 256), ("znver4", 512)])
def test_our_kernels(tables, target, width):
    """Every array is read once and written once, in whole vectors, with nothing called and nothing in float64."""
    found, lanes, whole = tables[target], width//32, {"width": width, "lanes_lost": 1.0}.items()
    for kernel, accesses in (("momentum, f32", 5), ("adam, f32", 7), ("amsgrad, f32", 9)):
        assert found[kernel]["accesses"] == accesses/lanes
        assert accesses < found[kernel]["instructions"]*lanes < 6*accesses
    for kernel in KERNELS[:-1]:
        assert found[kernel].items() >= whole | {"float64": 0, "calls": 0}.items(), kernel
    assert found["squares, f32"].items() >= whole | {"calls": 2}.items()  # 64 sums: allocated, released
    assert list(found) == KERNELS
    assert len({of["code"] for of in found.values()}) == len(KERNELS)


AGAIN = """
package = load(sys.argv[1], "some_other_name")
kernels = cpu_code.kernels(package)
print(json.dumps({name: cpu_code.compiled(package, kernels[name]) for name in %r}))
"""


def test_one_code_one_digest(tables, tmp_path):
    """With other hashes, folder, name of the package, and order. A changed rule changes its own kernels only."""
    shutil.copytree(SOURCE/"fastopt", tmp_path/"fastopt", ignore=shutil.ignore_patterns("__pycache__"))
    here = {name: {k: v for k, v in of.items() if k != "lanes_lost"} for name, of in tables["x86-64-v3"].items()}

    def again(cache, *names):
        return printed(AGAIN % (list(names),), tmp_path, tmp_path/cache, PYTHONHASHSEED="12345")
    few = "squares, f32", "amsgrad, f32", "adam, f32", "momentum, f32"
    assert again("a", *few) == {name: here[name] for name in few}
    rules = tmp_path/"fastopt"/"rules.py"
    old = "    u = c.lr*m / (sqrt(v + c.root) + c.eps)\n    return u, m, v\n\n\nadamw = "
    before = rules.read_text()
    assert before.count(old) == 1
    rules.write_text(before.replace(old, old.replace("c.eps)", "c.eps) + 1e-8*m")))
    changed = again("b", *few[1:])
    assert {name for name in changed if changed[name] != here[name]} == {"adam, f32"}
    assert changed["adam, f32"]["float64"] > 0
    assert changed["adam, f32"]["instructions"] > here["adam, f32"]["instructions"]


def test_benchmarks(monkeypatch, tables):
    monkeypatch.setattr(bench, "tables", lambda: tables)
    found, of = bench.Rules().setup_cache(), tables["znver4"]
    for figure in ("instructions", "accesses", "lanes_lost"):
        assert getattr(bench.Rules(), f"track_{figure}")(found, "adam", "znver4") == of["adam, f32"][figure]
    assert bench.Formats().track_spills(found, "adam", "znver4", "bf16, bf16 state") == of[KERNELS[3]]["spills"]
    assert bench.Norm().track_calls(found, "f32", "znver4") == of["squares, f32"]["calls"]
