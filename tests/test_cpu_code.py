"""Figures of compiled CPU kernels: of assembly whose answer is known, of planted slips, of ours for processors other than this one."""
import importlib
import json
import math
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
    assembly, cpu_code, bench = (importlib.import_module(f"benchmarks.{name}") for name in (
        "machine_code.assembly", "machine_code.cpu_code", "bench_cpu_code"))

pytestmark = pytest.mark.skipif(not cpu_code.X86, reason=f"Numba compiles for x86-64 on x86-64 only; this is "
                                                         f"{platform.machine()}")


# Assembly whose answer is known

def loop(name, *lines, step=8, end="%rdx"):
    """A loop of these instructions and three more: addition, comparison, jump."""
    return [f".LBB0_{name}:", *lines, f"addq ${step}, %rax", f"cmpq %rax, {end}", f"jne .LBB0_{name}"]


def vectors(at=0, r="y", p="%rdi", g="%rsi"):
    """p -= lr*g on one vector."""
    return [f"vmulps {at}({g},%rax,4), %{r}mm0, %{r}mm1", f"vmovups {at}({p},%rax,4), %{r}mm2",
            f"vsubps %{r}mm1, %{r}mm2, %{r}mm1",
            f"vmovups %{r}mm1, {at}({p},%rax,4)"]


SCALAR = ["vmulss (%rsi,%rax,4), %xmm0, %xmm1", "vmovss (%rdi,%rax,4), %xmm2", "vsubss %xmm1, %xmm2, %xmm1",
          "vmovss %xmm1, (%rdi,%rax,4)"]
SSE = ["movups (%rsi,%rax,4), %xmm1", "mulps %xmm0, %xmm1", "movups (%rdi,%rax,4), %xmm2", "subps %xmm1, %xmm2",
       "movups %xmm2, (%rdi,%rax,4)"]
UNROLLED = [line for k in range(4) for line in vectors(32*k)]
TAIL = loop(9, *SCALAR, step=1)
SPILLED = ["vmulps (%rsi,%rax,4), %ymm0, %ymm1", "vmovups %ymm1, 32(%rsp)", "vmovups (%rdi,%rax,4), %ymm2",
           "vsubps 32(%rsp), %ymm2, %ymm1",
           "vmovups %ymm1, (%rdi,%rax,4)"]
RELOADED = ["movq 8(%rsp), %r11", "movq 16(%rsp), %r8", *vectors(p="%r11", g="%r8"), "movabsq $.LCPI0_0, %r11",
            "vandps (%r11), %ymm1, %ymm3", "movq 24(%rsp), %r11",
            "vmovups %ymm3, (%r11,%rax,4)"]  # arrays and a constant in one register
WIDE = ["vcvtps2pd (%rsi,%rax,4), %ymm1", "vmulpd %ymm0, %ymm1, %ymm1", "vmovapd %ymm1, %ymm4",
        "vandpd %ymm5, %ymm4, %ymm4",
        "vmovups (%rdi,%rax,4), %xmm2", "vcvtpd2ps %ymm1, %xmm1", "vsubps %xmm1, %xmm2, %xmm1",
        "vmovups %xmm1, (%rdi,%rax,4)"]
CALLING = ["callq *%rbx", *SCALAR]
POINTERS = ["vmulps (%rsi), %ymm0, %ymm1", "vmovups (%rdi), %ymm2", "vsubps %ymm1, %ymm2, %ymm1",
            "vmovups %ymm1, (%rdi)",
            "addq $32, %rsi", "leaq 32(%rdi), %rdi"]
BF16 = ["vpmovzxwd (%rsi,%rax,2), %ymm1", "vpslld $16, %ymm1, %ymm1", "vmulps (%rdi,%rax,4), %ymm1, %ymm1",
        "vpsrld $16, %ymm1, %ymm2",
        "vpackusdw %ymm2, %ymm2, %ymm2", "vmovdqu %xmm2, (%rsi,%rax,2)", "vmovups %ymm1, (%rdi,%rax,4)"]
DECODING = ["vpternlogd $248, (%r12){1to16}, %zmm3, %zmm1", "vmulps (%rsi,%rax,4), %zmm0, %zmm1",
            "vmovups %zmm1, (%rdi,%rax,4)"]
CLAIM = [".LBB0_7:", "movq $1, %rcx", "lock\t\txaddq\t%rcx, (%rdx)", "movq (%r9,%rcx,8), %rax", "cmpq %rcx, %r8",
         "jne .LBB0_7"]


def text(*parts):
    """An assembly file of one function."""
    lines = [line for part in parts for line in (part if isinstance(part, list) else [part])]
    return "\n".join(["\t.text", "_ZN7fastopt3cpuB3v12E:", *(x if x.endswith(":") else f"\t{x.replace(' ', chr(9), 1)}"
                                                             for x in lines),
                      "\tretq", ".Lfunc_end0:"])


FIGURES = ("instructions", "accesses", "width", "float64", "calls", "spills")


def figures(*parts, **given):
    found = assembly.figures(text(*parts), **{"item": 4, **given})
    return tuple(found[name] for name in FIGURES)


@pytest.mark.parametrize(("parts", "expected"), [
    ([loop(1, *SSE, step=4)], (8/4, 3/4, 128, 0, 0, 0)),
    ([loop(1, *vectors())], (7/8, 3/8, 256, 0, 0, 0)),
    ([loop(1, *vectors(r="z"), step=16)], (7/16, 3/16, 512, 0, 0, 0)),
    ([loop(1, *SCALAR, step=1)], (7, 3, 32, 0, 0, 0)),
    ([CLAIM, loop(1, *vectors()), "je .LBB0_8", TAIL, ".LBB0_8:"], (7/8, 3/8, 256, 0, 0, 0)),
    ([loop(1, *UNROLLED, step=32)], (19/32, 12/32, 256, 0, 0, 0)),
    ([loop(1, *UNROLLED, step=32), loop(2, *vectors()), TAIL], (19/32, 12/32, 256, 0, 0, 0)),
    ([loop(1, *SPILLED)], (8/8, 3/8, 256, 0, 0, 2)),
    ([loop(1, *RELOADED)], (13/8, 4/8, 256, 0, 0, 4)),
    ([loop(1, *WIDE, step=4)], (11/4, 3/4, 256, 3, 0, 0)),
    ([loop(1, *CALLING, step=1)], (8, 3, 32, 0, 1, 0)),
    ([loop(1, *vectors()), "movabsq $NRT_Free, %rax", "callq *%rax"], (7/8, 3/8, 256, 0, 1, 0)),
    ([loop(1, *POINTERS)], (9/8, 3/8, 256, 0, 0, 0)),
    ([loop(1, *BF16)], (10/8, 4/8, 256, 0, 0, 0)),
    ([loop(1, *DECODING, step=16)], (6/16, 2/16, 512, 0, 0, 1)),
    ([loop(1, *vectors(), "prefetcht0 512(%rdi,%rax,4)", "nopw 8(%rax,%rax)", "leaq 8(%rdi,%rax,4), %r9")],
     (10/8, 3/8, 256, 0, 0, 0)),
], ids=["sse", "ymm", "zmm", "scalar", "tail", "unrolled", "remainder", "spill", "reloads", "float64", "call in loop",
        "call outside",
        "pointers", "bf16", "constant", "no access"])
def test_known_loops(parts, expected):
    assert figures(*parts) == expected


def test_a_second_pass_counts():
    """Whatever it does: with other arithmetic, or with none in narrower vectors."""
    once, second = loop(1, *vectors()), ["vaddps (%r8,%rax,4), %ymm3, %ymm3", "vmovups %ymm3, (%r8,%rax,4)"]
    assert figures(once, loop(2, *second), TAIL)[:2] == (7/8 + 5/8, 3/8 + 2/8)
    assert figures(once, loop(2, *[x.replace("%rdi", "%r8").replace("vsub", "vadd") for x in vectors()]))[:2] == (7/8
                                                                                                                  + 7/8,
                                                                                                                  3/8
                                                                                                                  + 3/8)
    copy = ["movups (%rdi,%rax,4), %xmm3", "movups %xmm3, (%r8,%rax,4)"]
    assert figures(once, loop(2, *copy, step=4), TAIL)[:3] == (7/8 + 5/4, 3/8 + 2/4, 256)


def test_what_is_left_over_may_branch():
    """Vectors select, a scalar may jump: other arithmetic on the same arrays."""
    tail = [".LBB0_9:", *SCALAR[:3], "vucomiss %xmm1, %xmm4", "jae .LBB0_10", "vsubss %xmm3, %xmm1, %xmm1",
            ".LBB0_10:", SCALAR[3], "incq %rax", "cmpq %rax, %rdx", "jne .LBB0_9"]
    assert figures(loop(1, *vectors()), tail) == (7/8, 3/8, 256, 0, 0, 0)
    assert figures(tail) == (10, 3, 32, 0, 0, 0)


def test_one_more_array_does_not_look_like_more_elements():
    assert figures(loop(1, *vectors(), "vmovups %ymm1, (%r9,%rax,4)"))[:2] == (8/8, 4/8)


def test_only_what_is_in_the_loop_counts():
    """A jump out of the middle, blocks in between that are not part of it, a loop around it."""
    inner = [".LBB0_3:", *vectors()[:2], "testb %cl, %cl", "jne .LBB0_5", *vectors()[2:], "addq $8, %rax",
             "cmpq %rax, %rdx", "jne .LBB0_3"]
    outer = [".LBB0_2:", "vxorps %ymm3, %ymm3, %ymm3", "jmp .LBB0_3", ".LBB0_5:", "callq *%rbx", "ud2", *inner,
             "decq %r10", "jne .LBB0_2"]
    assert figures(outer) == (9/8, 3/8, 256, 0, 1, 0)
    assert figures(inner, "retq", ".LBB0_5:", "callq *%rbx", "ud2", "jmp .LBB0_3") == (9/8, 3/8, 256, 0, 1, 0)


@pytest.mark.parametrize(("lines", "expected"), [
    (["incl (%rdi,%rax,4)"], [(4, True, False), (4, True, True)]),
    (["cmpl $0, (%rdi,%rax,4)"], [(4, True, False)]),
    (["setb (%rdi,%rax)"], [(1, True, True)]),
    (["divl (%rdi,%rax,4)"], [(4, True, False)]),
    (["movq %rcx, %r11", "addq $64, %r11", "movups (%r11), %xmm1"], [(16, False, False)]),
    (["leaq 64(%rcx,%rax), %r11", "movups (%r11), %xmm1"], [(16, True, False)]),
    (["movslq %eax, %r11", "movups (%rdi,%r11,4), %xmm1"], [(16, True, False)]),
    (["imulq %rcx, %r11", "movups (%r11), %xmm1"], [(16, True, False)]),
    (["movups (%rcx,%r8,4), %xmm1", "addq %rdx, %r8"], [(16, True, False)]),
    (["vgatherdps (%rdi,%ymm3,4), %ymm2, %ymm1"], [(32, True, False)]),
])
def test_what_moves_and_what_is_stored(lines, expected):
    code = [assembly.instruction(line) for line in [*lines, "addq $8, %rax"]]
    assert [x[1:] for x in assembly.accesses(code)] == [(moves, size, store) for size, moves, store in expected]


def test_arrays_are_told_apart_by_what_registers_hold():
    """Two addresses that one register held in turn are two arrays, two copies of one address are one."""
    two = ["movq %rax, %r11", "addq %rdi, %r11", "vmovups %ymm1, (%r11)", "movq %rax, %r11", "addq %rcx, %r11",
           "vmovups %ymm1, (%r11)"]
    assert figures(loop(1, "vmulps (%rsi,%rax), %ymm0, %ymm1", *two, step=32))[:2] == (10/8, 3/8)
    one = ["movq 8(%rsp), %r11", "vmovups %ymm1, (%r11,%rax,4)", "movq 8(%rsp), %r9", "vmovups %ymm1, 32(%r9,%rax,4)"]
    assert figures(loop(1, "vmulps (%rsi,%rax,4), %ymm0, %ymm1", *one, step=16))[:2] == (8/16, 3/16)


def test_sums_in_registers_and_in_memory():
    """The norm's elements are those of the gradient, wherever its sums are."""
    square = ["vcvtps2pd (%rsi,%rax,4), %zmm1", "vmulpd %zmm1, %zmm1, %zmm1"]
    assert figures(loop(1, *square, "vaddpd %zmm1, %zmm2, %zmm2"), norm=True) == (6/8, 1/8, 512, 3, 0, 0)
    assert figures(loop(1, *square, "vaddpd (%rcx), %zmm1, %zmm1", "vmovupd %zmm1, (%rcx)"), norm=True) == (7/8, 1/8,
                                                                                                            512, 3, 0,
                                                                                                            2)
    memory = ["vaddpd (%rcx,%rax,8), %zmm1, %zmm1", "vmovupd %zmm1, (%rcx,%rax,8)"]
    assert figures(loop(1, *square, *memory), norm=True) == (7/8, 3/8, 512, 3, 0, 0)


def test_a_loop_around_its_scalar_twin():
    """All of a block in one trip of the outer loop, or number by number in the inner one: the instructions of either."""
    square = ["vcvtps2pd (%rsi), %zmm1", "vmulpd %zmm1, %zmm1, %zmm1", "vaddpd (%rcx), %zmm1, %zmm1",
              "vmovupd %zmm1, (%rcx)"]
    twin = ["vcvtss2sd (%rsi,%rax,4), %xmm1, %xmm1", "vmulsd %xmm1, %xmm1, %xmm1", "vaddsd %xmm1, %xmm2, %xmm2"]
    block = [".LBB0_4:", "testb %cl, %cl", "je .LBB0_5", "xorl %eax, %eax", *loop(1, *twin, step=1), "jmp .LBB0_6",
             ".LBB0_5:", *square,
             ".LBB0_6:", "addq $32, %rsi", "decq %r9", "jne .LBB0_4"]
    assert figures(block, norm=True) == (11/8, 1/8, 512, 3, 0,
                                         2)  # with xorl and jmp, in front of the twin and behind it


def test_one_loop_is_the_norm():
    square = ["vcvtps2pd (%rsi,%rax,4), %zmm1", "vmulpd %zmm1, %zmm1, %zmm1", "vaddpd %zmm1, %zmm2, %zmm2"]
    assert figures(loop(1, *square), loop(2, *square, "vmulpd %zmm3, %zmm3, %zmm3"), norm=True)[0] == 6/8


@pytest.mark.parametrize("main", ["zmm", "scalar"])
def test_vectors_over_the_last_elements_do_not_hide_those_that_were_lost(main):
    square = {"zmm": ["vcvtps2pd (%rsi,%rax,4), %zmm1", "vmulpd %zmm1, %zmm1, %zmm1", "vaddpd %zmm1, %zmm2, %zmm2"],
              "scalar": ["vcvtss2sd (%rsi,%rax,4), %xmm1, %xmm1", "vmulsd %xmm1, %xmm1, %xmm1",
                         "vaddsd %xmm1, %xmm2, %xmm2"]}
    block = [".LBB0_4:", "xorl %eax, %eax", *loop(1, *square[main]), "addq $256, %rsi", "decq %r9", "jne .LBB0_4"]
    found = figures(".LBB0_6:", "movq 8(%r8), %rdx", block, loop(2, *square["zmm"]), "decq %r10", "jne .LBB0_6",
                    norm=True)
    assert found == ((6/8, 1/8, 512, 3, 0, 0) if main == "zmm" else (6, 1, 64, 3, 0, 0))


@pytest.mark.parametrize(("line", "size"), [
    ("vmovups %zmm1, (%rax)", 64), ("vmovdqu %ymm1, (%rax)", 32), ("movaps %xmm1, (%rax)", 16),
                                            ("vmulpd (%rax), %ymm0, %ymm1", 32),
    ("vmovss %xmm1, (%rax)", 4), ("vaddsd (%rax), %xmm0, %xmm1", 8), ("movq %xmm0, (%rax)", 8),
                                            ("vmovd (%rax), %xmm0", 4),
    ("vpmovzxwd (%rax), %ymm0", 16), ("vpmovsxbd (%rax), %ymm0", 8), ("vpmovdw %zmm0, (%rax)", 32),
                                            ("vpmovusdb %zmm0, (%rax)", 16),
    ("vcvtps2pd (%rax), %zmm0", 32), ("vcvtps2ph $0, %ymm0, (%rax)", 16), ("vcvtph2ps (%rax), %ymm0", 16),
                                            ("cvtss2sd (%rax), %xmm0", 4),
    ("vcvtsd2ss (%rax), %xmm0, %xmm0", 8), ("vpextrw $1, %xmm0, (%rax)", 2), ("vpinsrd $1, (%rax), %xmm0, %xmm0", 4),
    ("vbroadcastss (%rax), %ymm0", 4), ("vpbroadcastw (%rax), %ymm0", 2), ("vbroadcastsd (%rax), %zmm0", 8),
    ("vbroadcastf128 (%rax), %ymm0", 16), ("vextractf128 $1, %ymm0, (%rax)", 16), ("vinsertf64x4 $1, (%rax), %zmm0, "
                                                                                   "%zmm0", 32),
    ("vpandd (%rax){1to16}, %zmm0, %zmm1", 4), ("vmulpd (%rax){1to8}, %zmm0, %zmm1", 8),
                                            ("vpmulld (%rax), %ymm0, %ymm0", 32),
    ("vpabsd (%rax), %ymm0", 32), ("vmovhps %xmm0, (%rax)", 8), ("movw %cx, (%rax)", 2), ("movzwl (%rax), %ecx", 2),
    ("movslq (%rax), %rcx", 4), ("movl $0, (%rax)", 4), ("setb (%rax)", 1), ("incq (%rax)", 8),
])
def test_bytes_of_an_access(line, size):
    assert assembly.instruction(line).moved == size


@pytest.mark.parametrize("line", [
    "vcvtps2pd %xmm0, %ymm0", "cvtsd2ss %xmm0, %xmm0", "vcvttsd2si %xmm0, %rax", "vcvtsi2sd %rax, %xmm0, %xmm0",
                                  "sqrtsd %xmm0, %xmm0",
    "vmulpd %ymm0, %ymm0, %ymm0", "vfmadd213sd %xmm0, %xmm1, %xmm2", "vucomisd %xmm0, %xmm1",
                                  "vcmpltpd %ymm0, %ymm1, %ymm2"])
def test_float64_is_arithmetic_and_conversions(line):
    assert figures(loop(1, *vectors(), line))[3] == 1


@pytest.mark.parametrize("line", [
    "vmovapd %ymm0, %ymm1", "vmovsd (%rax), %xmm0", "vandpd %ymm0, %ymm1, %ymm1", "vxorpd %xmm0, %xmm0, %xmm0",
                                  "vcvtdq2ps %ymm0, %ymm0",
    "vunpcklpd %xmm0, %xmm1, %xmm1", "vbroadcastsd (%rax), %ymm0", "vmulps %ymm0, %ymm0, %ymm0",
                                  "vblendvpd %ymm0, %ymm1, %ymm2, %ymm3"])
def test_float64_is_no_move(line):
    assert figures(loop(1, *vectors(), line))[3] == 0


def test_the_odd_element_of_pairs_is_left_over():
    """Behind the loop, in that around it, which also reads where the next tile lies; other arithmetic there is a pass of its own."""
    tile = [".LBB0_2:", "movq 8(%r8), %rdx", "movq 16(%r8), %rsi", *loop(3, *vectors()), "movq 24(%r8), %rax", *SCALAR,
            "addq $32, %r8",
            "decq %r10", "jne .LBB0_2"]
    assert figures(tile) == (7/8, 3/8, 256, 0, 0, 0)
    assert figures([x.replace("vsubss", "vaddss") for x in tile])[0] > 7/8


def test_no_loop_no_figures():
    with pytest.raises(ValueError, match="no loop computes with floats and stores elements"):
        figures(CLAIM)
    with pytest.raises(ValueError, match="no loop computes with floats and loads elements"):
        figures(loop(1, "vaddps (%rsi,%rax,4), %ymm0, %ymm0"), norm=True)


def test_digest_of_the_code():
    kernel = ["movabsq $.LCPI0_0, %r8", "movabsq $_ZN08NumbaEnv7fastopt3cpuB3v1E, %r9", *loop(1, *vectors())]

    def digest(*lines, constant="0x77800000", end=""):
        return assembly.digest(f".LCPI0_0:\n\t.long\t{constant}\n{text(list(lines))}\n{end}")
    same = digest(*kernel)
    assert digest(*[line.replace("7fastopt3cpuB3v1E", "12fastopt_head3cpuB3v17E") for line in kernel]) == same
    assert digest(*kernel, end="_ZN7cpython7fastoptE:\n\tcallq\t*%rax\n\t.type\tx,@object") == same
    assert len(same) == 12
    others = [digest(*kernel, constant="0x77800001"), digest(*kernel[:-1], "ja .LBB0_1"),
              digest(*[x.replace("$8", "$9") for x in kernel]),
              digest(*kernel[:2], *[x.replace("%ymm2", "%ymm3") for x in kernel[2:]])]
    assert len({same, *others}) == 5


# Compiled code

def printed(code, target="x86-64-v3", **environment):
    """What a program prints as JSON that compiles for a processor."""
    start = ("import json, sys\nfrom benchmarks.machine_code import assembly, cpu_code\n"
             "from benchmarks.gate import inside\nfrom benchmarks.gate.versions import load\n")
    done = subprocess.run([sys.executable, "-c", start + code, str(SOURCE)], capture_output=True, text=True,
                          check=False, cwd=ROOT,
                          env={**os.environ, "NUMBA_CPU_NAME": target, "NUMBA_CPU_FEATURES": "", **environment})
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


PLANTED = """
from numba import njit
import numpy as np
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


@pytest.fixture(scope="module")
def planted():
    return printed(PLANTED)


def test_clean_code(planted):
    """Two loads and a store, and not one instruction too many: the loop is unrolled four times."""
    assert planted["clean"].items() >= {"instructions": 19/32, "accesses": 3/8, "width": 256, "float64": 0, "calls": 0,
                                        "spills": 0}.items()


def test_planted_float64_literal(planted):
    assert planted["literal"]["float64"] > 0
    assert planted["literal"]["instructions"] > 2*planted["clean"]["instructions"]


def test_planted_dependency(planted):
    assert planted["carried"]["width"] == 32
    assert planted["carried"]["instructions"] > 4*planted["clean"]["instructions"]


def test_planted_temporary_array(planted):
    assert planted["temporary"]["calls"] >= 2  # an allocation, a release
    assert planted["temporary"]["accesses"] == (2 + 3)/8


def test_planted_second_pass(planted):
    assert planted["both"].items() >= {"accesses": (2 + 3)/8, "width": 256, "calls": 0}.items()
    assert planted["both"]["instructions"] > 1.3*planted["clean"]["instructions"]


KERNELS = ["momentum, f32", "adam, f32", "amsgrad, f32", "adam, bf16, bf16 state", "squares, f32"]


@pytest.fixture(scope="module")
def tables():
    return {target: cpu_code.table(SOURCE, target, KERNELS) for target in ("x86-64-v3", "znver4")}


@pytest.mark.parametrize(("target", "width"), [("x86-64-v3", 256), ("znver4", 512)])
def test_our_kernels(tables, target, width):
    """Every array is read once and written once, in whole vectors, with nothing called and nothing in float64."""
    found, lanes = tables[target], width//32
    for kernel, accesses in (("momentum, f32", 5), ("adam, f32", 7), ("amsgrad, f32", 9)):
        assert found[kernel]["accesses"] == accesses/lanes
        assert found[kernel].items() >= {"width": width, "float64": 0, "calls": 0, "lanes_lost": 1.0}.items()
        assert accesses < found[kernel]["instructions"]*lanes < 6*accesses
    assert found["adam, bf16, bf16 state"].items() >= {"width": width, "float64": 0, "calls": 0,
                                                       "lanes_lost": 1.0}.items()
    assert found["squares, f32"].items() >= {"width": width, "calls": 3,
                                             "lanes_lost": 1.0}.items()  # 64 sums: allocated, released twice
    assert list(found) == KERNELS
    assert len({of["code"] for of in found.values()}) == len(KERNELS)


ELEMENTS = """
package = load(sys.argv[1], "fastopt_elements")
texts = {}
for rule, formats in [("sgd", "f32 f32"), ("momentum", "f32 f32 f32"), ("adam", "f32 f32 f32 f32"), ("adam", "bf16 bf16 f32 f32"),
                      ("adam", "f16 f16 f32 f32"), ("adam", "f64 f64 f64 f64")]:
    run = inside.cpu_kernel(package, rule, formats)
    texts[f"{rule} {formats}"] = run.inspect_asm(run.signatures[0])
print(json.dumps(texts))
"""
SIZES = {"f32": 4, "f64": 8, "f16": 2, "bf16": 2}


def steps_of(trip):
    """The bytes by which each store moves on in a trip: the constant that is added to its index, times the scale."""
    code, found = trip.loop.code, {}
    added = {x.operands[1]: abs(int(x.operands[0][1:])) for x in code if x.opcode in ("addq", "subq")
             and x.operands[0].startswith("$")}
    for x in code:
        address = re.fullmatch(r".*\((%\w+),(%\w+),(\d)\)", x.operands[-1])
        if address and x.opcode.startswith(("vmov", "vpmov")):
            found[address[1]] = added[address[2]]*int(address[3])
    return found


def test_elements_agree_with_the_step_of_the_loop(tmp_path):
    """And every byte of parameter and states is stored once, and loaded once with the gradient's."""
    for name, printed_code in printed(ELEMENTS, "znver4", FASTOPT_CACHE=str(tmp_path)).items():
        sizes = [SIZES[format] for format in name.split()[1:]]
        code, = assembly.functions(printed_code)
        trip, = assembly.hot_loops(code, max(sizes[1:]))
        assert trip.elements >= 8
        assert sorted(steps_of(trip).values()) == sorted(trip.elements*size for size in sizes[1:]), name
        moved = [sum(x.size for x in trip.accesses if x.moves and x.store is store) for store in (False, True)]
        assert moved == [trip.elements*sum(sizes), trip.elements*sum(sizes[1:])], name


def test_one_code_one_digest(tables, tmp_path, monkeypatch):
    """In another process, with other hashes, from another folder, compiled in another order; a changed rule changes its own alone."""
    shutil.copytree(SOURCE/"fastopt", tmp_path/"fastopt", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setenv("PYTHONHASHSEED", "12345")
    here = tables["x86-64-v3"]
    assert cpu_code.table(tmp_path, "x86-64-v3", KERNELS[::-1]) == here
    rules, line = tmp_path/"fastopt"/"rules.py", "    u = c.lr*m / (sqrt(v + c.root) + c.eps)\n    return u, m, v\n\n\nadamw = "
    before = rules.read_text()
    rules.write_text(before.replace(line, line.replace("c.eps)", "c.eps) + 1e-8*m")))
    assert rules.read_text() != before
    changed = cpu_code.table(tmp_path, "x86-64-v3", KERNELS)
    assert {name for name in KERNELS if changed[name] != here[name]} == {"adam, f32", "adam, bf16, bf16 state"}
    assert changed["adam, f32"]["float64"] > 0
    assert changed["adam, f32"]["instructions"] > here["adam, f32"]["instructions"]


DIGESTS = """
package = load(sys.argv[1], "some_other_name")
print(json.dumps(cpu_code.compiled(package, cpu_code.kernels(package)["momentum, f32"])))
"""


def test_another_name_same_digest(tables, tmp_path):
    found = printed(DIGESTS, FASTOPT_CACHE=str(tmp_path))
    assert {**found, "lanes_lost": 1.0} == tables["x86-64-v3"]["momentum, f32"]


def test_what_fails_says_why(tmp_path):
    with pytest.raises(RuntimeError, match="there is no package fastopt in"):
        cpu_code.table(tmp_path, "x86-64-v3")
    with pytest.raises(ValueError, match="x86-64-v9"):
        cpu_code.table(SOURCE, "x86-64-v9")


def test_every_kernel_has_a_name():
    found = cpu_code.kernels(fastopt)
    rules = {name.split(", ")[0] for name in found}
    assert rules == {*fastopt.optimizers.ALL, "look-ahead", "squares"}
    assert len(found) == 6*len(fastopt.optimizers.ALL) + 6 + 4
    assert found["adam, bf16"].formats == "bf16 bf16 f32 f32"
    assert found["look-ahead, f32, bf16 state"].formats == "f32 f32 bf16"
    assert found["squares, f16"] == ("", "f16 f16")


def test_benchmarks(monkeypatch, tables):
    monkeypatch.setattr(bench, "tables", lambda: tables)
    found, (_, adam, _, wide, norm) = bench.Rules().setup_cache(), tables["znver4"].values()
    assert bench.Rules().track_instructions(found, "adam", "znver4") == adam["instructions"]
    assert bench.Rules().track_accesses(found, "adam", "znver4") == adam["accesses"]
    assert bench.Formats().track_spills(found, "adam", "znver4", "bf16, bf16 state") == wide["spills"]
    assert bench.Norm().track_calls(found, "f32", "znver4") == norm["calls"]
    assert bench.Norm().track_float64(found, "f32", "znver4") == norm["float64"]
    assert bench.Rules().track_lanes_lost(found, "adam", "znver4") == 1
    assert math.isnan(bench.Rules().track_lanes_lost({}, "adam", "znver4"))  # where nothing could be compiled
