"""Numba's side: rules inside the user's jitted code, digests of rules, and what LLVM makes of a kernel."""
import inspect
import platform
import re
import textwrap
import types

import llvmlite.binding
import numba
import numpy as np
import pytest
from conftest import OWN, RULES, assert_identical, normal
from internals import OWN_RULE, compile_step, norm_kernel, of_the_disk, text_of
from numba import njit, prange

import fastopt
from fastopt._formats.catalogue import FORMATS
from fastopt._rule import digest as digests

X86 = platform.machine().lower() in ("x86_64", "amd64")
AVX2 = X86 and llvmlite.binding.get_host_cpu_features().get("avx2", False)


# Rules inside the user's own compiled code

def loop_over(rule, **flags):
    """What a user would write: a compiled loop that calls the rule on every element."""
    names = ["p", *rule.state]
    elements, scope = ", ".join(f"{name}[i]" for name in names), {"rule": rule, "prange": prange}
    exec(f"def loop(c, g, {', '.join(names)}):\n"
         "    for i in prange(p.size):\n"
         f"        {elements}, = rule(c, g[i], {elements})", scope)
    return njit(**flags)(scope["loop"])


@pytest.mark.parametrize(("name", "dtype", "flags"), [
    ("adam", np.float32, {}), ("nadam", np.float64, {}), ("radam", np.float32, {"parallel": True})])
def test_rule_in_user_code(name, dtype, flags):
    rule, n = RULES[name], 1_003
    loop, one = loop_over(rule, **flags), njit(lambda c, g, p, *state: rule(c, g, p, *state))
    have = [(abs(x) if k else x).astype(dtype) for k, x in enumerate(normal(1, 1 + len(rule.state), n))]
    want = [a.copy() for a in have]
    for t in (1, 2, 3):
        g = normal(10 + t, n).astype(dtype)
        c = rule.at(t, dtype, **OWN[name][0], weight_decay=0.1, clip_value=1.5)
        loop(c, g, *have)
        want = rule(c, g, *want)
        for a, b in zip(have, want, strict=True):
            assert_identical(a, b, f"{name} step {t}")
    one(c, g[0], *(a[0] for a in have))
    types_of_results = [tuple(s.return_type) for s in one.nopython_signatures]
    assert types_of_results == [(numba.from_dtype(np.dtype(dtype)),)*(1 + len(rule.state))]


# What LLVM makes of a kernel

@pytest.mark.parametrize("name", [name for name in RULES if name != "adamw"])  # whose kernel is Adam's
def test_machine_code(name, full, fresh):
    """No float64 in a kernel of float32, every operation on whole vectors. Of Adam in all formats."""
    for format in FORMATS if full or name == "adam" else ("f32",):
        kernel, wide = compile_step(name, format), format == "f64"
        llvm, asm = text_of(kernel, "llvm"), text_of(kernel, "asm")
        assert ("double" in llvm) == wide
        if X86:
            assert not re.findall(r"v?cvt(?:ss2sd|sd2ss|ps2pd|pd2ps)", asm)
            assert wide or not re.findall(r"\bv?(?:mov|add|sub|mul|div|sqrt|max|min)[su]?[sp]d\s", asm)
        if AVX2:
            source = inspect.getsource(RULES[name].body)
            signs = {"mul": "*", "sub": " - ", "div": " / ", "sqrt": "sqrt("}
            found = re.findall(r"\bv(mul|sub|div|sqrt)p([sd])\s[^\n]*%[yz]mm", asm)
            packed = {operation for operation, width in found if (width == "d") == wide}
            assert {operation for operation, sign in signs.items() if sign in source} <= packed
            assert f"{'double' if wide else 'float'}>" in llvm


@pytest.mark.skipif(not AVX2, reason="looks for AVX registers")
def test_the_norm_is_vectorised(full, fresh):
    for format in FORMATS if full else ("f32", "bf16"):
        asm = text_of(norm_kernel(f"{format} {format}"), "asm")
        assert re.search(r"\bvmulpd\s[^\n]*%[yz]mm", asm), format
        assert re.search(r"\bvaddpd\s[^\n]*%[yz]mm", asm), format


# Digests of rules

def digest(source):
    """The digest of the rule `mine` in this source, whose import `helpers` is a module of that source."""
    module = types.ModuleType("user")
    bare = types.SimpleNamespace(rule=lambda **hyper: lambda body: types.SimpleNamespace(digest=digests.digest(body)))
    # not the real decorator: a rule holds no numbers, which a digest must see all the same
    module.__dict__.update(fastopt=bare, np=np, njit=njit, types=types)
    exec(source, module.__dict__)
    return module.mine.digest


BODY = "@fastopt.rule(lr=0.1)\ndef mine(c, g, p):\n    {}\n    return (p,)\n"
MODULE = "helpers = types.ModuleType('helpers')\nexec('''{}''', helpers.__dict__)\n"
DOUBLE = "def f(x):\n    return x + x\n"
EDITS = {
    "constant": (BODY.format("p = p - np.float32(2)*g"), "(2)", "(3)"),
    "sign": (BODY.format("p = p - c.lr*g"), "p - c", "p + c"),
    "order of arguments": (BODY.format("p = p/g"), "p/g", "g/p"),
    "helper": (DOUBLE + BODY.format("p = f(g)"), "x + x", "x*x"),
    "helper of a helper": (DOUBLE + "def h(x):\n    return f(x)\n" + BODY.format("p = h(g)"), "x + x", "x*x"),
    "compiled helper": ("@njit\n" + DOUBLE + BODY.format("p = f(g)"), "x + x", "x*x"),
    "global number": ("K = 2.5\n" + BODY.format("p = p - K*g"), "2.5", "3.5"),
    "global array": ("K = np.arange(5_000.)\nK[2_500] = 7\n" + BODY.format("p = p - K[2_500]*g"), "7", "8"),
    "default of a helper": ("def f(x, k=2.0):\n    return x*k\n" + BODY.format("p = f(g)"), "2.0", "3.0"),
    "closure": ("def make(k):\n" + textwrap.indent(BODY.format("p = p - k*g"), "    ")
                + "    return mine\nmine = make(2.5)\n", "2.5", "3.5"),
    "nested function": (BODY.format("f = lambda x: x*np.float32(2)\n    p = f(g)"), "2)", "3)"),
    "global number of a nested function": ("K = 2.5\n" + BODY.format("f = lambda x: x*K\n    p = f(g)"), "2.5", "3.5"),
    "function of a module": (MODULE.format(DOUBLE.replace("\n", "\\n")) + BODY.format("p = helpers.f(g)"), "x + x",
                             "x*x"),
    "number of a module": (MODULE.format("K = 2.5") + BODY.format("p = p - helpers.K*g"), "2.5", "3.5")}


def test_every_edit_of_a_rule_changes_its_digest():
    for edit, (source, old, new) in EDITS.items():
        assert source.count(old) >= 1, edit
        assert digest(source) == digest(source), edit
        assert digest(source) != digest(source.replace(old, new)), edit


def test_an_edited_rule_of_a_script_is_not_stale(fresh):
    seen = []
    for script in (OWN_RULE, OWN_RULE, OWN_RULE.replace("v = v + g", "v = v + g + g"), OWN_RULE):
        scope = {"fastopt": fastopt, "__name__": "script"}
        exec(compile(script, "script.py", "exec"), scope)
        p = np.array([1, 2], np.float32)
        hit = of_the_disk(compile_step(scope["mine"]))
        fastopt.optimizer(scope["mine"])(p, lr=0.5).step(np.array([1, 1], np.float32))
        seen.append((*p.tolist(), hit))
    assert seen == [(0.5, 1.5, False), (0.5, 1.5, True), (0.0, 1.0, False), (0.5, 1.5, True)]
