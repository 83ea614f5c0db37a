"""What a CUDA kernel is made of, read from its cubin with no GPU: registers, memory, instructions of its hot loop.

The figures are exact and repeat: they change with the code or with the toolkit that made it, which the cubin names.
Registers, stack, shared memory and parameters stand in the cubin's ELF sections; instructions come from ``nvdisasm
-json`` (a wheel of 5 MB, ``pip install nvidia-cuda-nvdisasm``). Whatever is not understood, an instruction, a jump, a
loop with two entries, is a ValueError: no figure is better than a wrong one.

Hot is the innermost loop that holds the widest stores to global memory (of several, the one that stores most in a
trip), without its slow paths. Divisions and square roots by the IEEE rules call a subroutine for operands near the ends
of the exponent's range (a root of zero among them): those calls, and what runs only on the way to them or back, are
counted apart, as cold. All other instructions of the loop count once per trip, whatever branches go around them.
"""
import functools
import json
import re
import shutil
import struct
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

# Classes of instructions, by the opcode before its first dot. What begins with U runs once per warp, on its own unit.
CLASSES = {
    "float32": "FADD FMUL FFMA FADD2 FMUL2 FFMA2 FADD32I FMUL32I FFMA32I HADD2 HMUL2 HFMA2 HADD2_32I HMUL2_32I "
               "HFMA2_32I FHADD FHFMA",
    # of float32; their unit is that of the integers
    "compare": "FSETP FSET FSEL FMNMX FMNMX3 FCHK HSETP2 HSET2 HMNMX2",
    "float64": "DADD DMUL DFMA DSETP DMNMX",
    "integer": "IADD IADD3 IADD32I VIADD VIADDMNMX VIMNMX VIMNMX3 IMNMX IMAD IMAD32I IMUL ISETP ISET LEA LOP LOP3 "
               "LOP32I PLOP3 SHF SHL SHR SEL MOV MOV32I PRMT FLO POPC BREV BMSK SGXT IABS PSETP P2R R2P R2UR UIADD3 "
               "UVIADD UIMAD UISETP ULEA ULOP ULOP3 UPLOP3 UMOV USEL USHF UPRMT UP2UR UR2UP UFLO UPOPC UBMSK USGXT "
               "UBREV UVIMNMX UIABS",
    "conversion": "F2F F2I I2F I2I F2FP I2FP F2IP I2IP FRND",
    "mufu": "MUFU",     # reciprocals and roots, to be refined
    "load": "LDG LD",   # LD: the address space is found out at run time
    "store": "STG ST", "local": "LDL STL",
    "control": "BRA JMP CALL RET EXIT BSSY BSYNC BREAK WARPSYNC BAR BMOV NOP YIELD NANOSLEEP BPT DEPBAR MEMBAR ERRBAR "
               "CCTL CCTLL ACQBULK ENDCOLLECTIVE",
    "other": "LDC ULDC LDCU LDS STS S2R S2UR CS2R CS2UR SHFL VOTE VOTEU MATCH REDUX CREDUX ATOM ATOMG ATOMS RED REDG "
             "REDAS"}
CLASS_OF = {opcode: kind for kind, opcodes in CLASSES.items() for opcode in opcodes.split()}
WIDTHS = {"U8": 1, "S8": 1, "U16": 2, "S16": 2, "64": 8, "128": 16, "256": 32}
JUMPS = {"BRA", "JMP", "CALL", "RET", "EXIT", "BSSY", "BSYNC"}           # those that are followed
SIZE = 16                                                               # bytes of an instruction, from Volta on
SLOW_PATH = re.compile(  # of arithmetic, and of warps whose threads have parted
    r"\$__internal_\d+_\$__cuda_(sm\w+_(d?(div|sqrt|rcp|rsqrt)_r[nzmpud]_\w*f(32|64)\w*|warpsync)|reduxsync\w*)")
REGISTERS, FRAME, LEAST_STACK, PARAMETERS = 0x2F, 0x11, 0x12, 0x19      # attributes of .nv.info
WARP, UNIT, REGISTER_FILE, MOST_THREADS = 32, 256, 65536, 2048         # threads; registers of a warp, of all; threads
RESERVED = 1024                                                         # bytes of shared memory, the system's
ENTRY, FUNCTION = 0x10, 2                                               # of a symbol: a kernel, code


class Instruction(NamedTuple):
    """One line of SASS; `jumps`: nvdisasm says that it may go elsewhere, `calls`: to a subroutine that comes back."""

    opcode: str
    operands: str
    predicate: str
    jumps: bool
    calls: bool

    @property
    def base(self) -> str:
        return self.opcode.partition(".")[0]

    @property
    def kind(self) -> str:
        if self.base not in CLASS_OF:
            raise ValueError(f"sass: the instruction {self.opcode} is in no class. Add it to sass.CLASSES.")
        return CLASS_OF[self.base]

    @property
    def width(self) -> int:
        """Bytes that a load or store moves per thread."""
        found = [WIDTHS[part] for part in self.opcode.split(".")[1:] if part in WIDTHS]
        if len(found) > 1 or any(part[:1].isdigit() and part not in WIDTHS for part in self.opcode.split(".")):
            raise ValueError(f"sass: the width of {self.opcode} is not known. Add it to sass.WIDTHS.")
        return found[0] if found else 4

    @property
    def wide(self) -> bool:
        """Whether it is about float64: arithmetic, a conversion, the seed of a root."""
        parts = self.opcode.split(".")
        return self.kind == "float64" or "F64" in parts or any(part.endswith("64H") for part in parts)


class Usage(NamedTuple):
    """What a kernel takes, in bytes but for the registers; `stack`: local memory per thread, for spills and arrays."""

    registers: int
    stack: int
    shared: int
    parameters: int
    code: int

    def resident(self, threads: int) -> int:
        """Blocks of so many threads that a multiprocessor of sm_80, sm_90 or sm_100 holds, as far as registers say."""
        of_warp = -(-self.registers*WARP//UNIT)*UNIT
        return min(MOST_THREADS//threads, REGISTER_FILE//(of_warp*(threads//WARP)))


class Kernel(NamedTuple):
    """One kernel of a cubin; `toolkit`: the version that made it, as the cubin says ("" where it does not)."""

    name: str
    cc: tuple[int, int]
    toolkit: str
    usage: Usage
    code: tuple[Instruction, ...]


class Figures(NamedTuple):
    """Of a kernel that walks arrays, per trip. `hot`: instructions by class; `loads`, `stores`: bytes of accesses."""

    name: str
    cc: tuple[int, int]
    toolkit: str
    usage: Usage
    # loads and stores of local memory, in the whole kernel
    local: int
    float64: int                                                        # instructions, in the whole kernel
    elements: int                                                       # of one trip
    hot: dict[str, int]
    cold: int
    loads: tuple[int, ...]
    stores: tuple[int, ...]

    @property
    def spilled(self) -> int:
        """Bytes of stack and accesses to it: zero, or a reason to look."""
        return self.usage.stack + self.local

    @property
    def per_element(self) -> float:
        """Instructions that a thread issues for an element."""
        return sum(self.hot.values())/self.elements

    @property
    def narrow(self) -> int:
        """Global accesses in the hot loop narrower than the widest: 32 bytes from sm_100 on, 16 before."""
        return sum(width < (32 if self.cc >= (10, 0) else 16) for width in self.loads + self.stores)


# The ELF file

def _sections(image: bytes) -> dict[str, bytes]:
    if image[:5] != b"\x7fELF\x02":
        raise ValueError("sass: this is no cubin, which begins like a 64-bit ELF file.")
    offset, = struct.unpack_from("<Q", image, 40)
    size, count, names = struct.unpack_from("<HHH", image, 58)
    headers = [struct.unpack_from("<IIQQQQIIQQ", image, offset + k*size) for k in range(count)]
    text = image[headers[names][4]:headers[names][4] + headers[names][5]]
    # a section of type 8 has a size and no bytes (shared memory): as many zeros
    return {_string(text, h[0]): bytes(h[5]) if h[1] == 8 else image[h[4]:h[4] + h[5]] for h in headers}


def _string(text: bytes, at: int) -> str:
    return text[at:text.index(b"\0", at)].decode()


def _attributes(info: bytes) -> Iterator[tuple[int, bytes]]:
    """(attribute, value) of an .nv.info section: two bytes of form and attribute, two of value, or of its size."""
    at = 0
    while at < len(info):
        form, attribute, value = struct.unpack_from("<BBH", info, at)
        if form not in (1, 2, 3, 4):
            raise ValueError(f"sass: .nv.info holds an attribute of form {form}; forms 1 to 4 are known.")
        at += 4
        if form == 4:
            yield attribute, info[at:at + value]
            at += value
        else:
            yield attribute, struct.pack("<H", value)


def usage(image: bytes) -> dict[str, Usage]:
    """What each kernel of a cubin takes, by name, from the ELF file alone."""
    sections = _sections(image)
    strings, symbols = sections[".strtab"], sections[".symtab"]
    table = [struct.unpack_from("<IBBHQQ", symbols, at) for at in range(0, len(symbols), 24)]
    reserved = RESERVED if ".nv.shared.reserved.0" in sections else 0
    per_symbol: dict[int, dict[int, int]] = {}
    for attribute, value in _attributes(sections[".nv.info"]):
        if len(value) == 8:
            symbol, number = struct.unpack("<II", value)
            per_symbol.setdefault(symbol, {})[attribute] = number
    found = {}
    for k, (name_at, info, other, _, start, size) in enumerate(table):
        if info & 15 != FUNCTION or not other & ENTRY:
            continue
        name, of = _string(strings, name_at), per_symbol.get(k, {})
        parameters = [struct.unpack("<H", v)[0] for a, v in _attributes(sections.get(f".nv.info.{name}", b""))
                      if a == PARAMETERS]
        if REGISTERS not in of or FRAME not in of or start:
            raise ValueError(f"sass: the cubin does not say what {name} takes, or its code does not start its section.")
        shared = max(0, len(sections.get(f".nv.shared.{name}", b"")) - reserved)
        found[name] = Usage(of[REGISTERS], max(of[FRAME], of.get(LEAST_STACK, 0)), shared, sum(parameters), size)
    return found


# The disassembly

@functools.cache
def nvdisasm() -> str:
    """The path of NVIDIA's disassembler: from its wheel, a toolkit, or the PATH."""
    try:
        from cuda import pathfinder
    except ImportError:
        path = shutil.which("nvdisasm")
    else:
        path = pathfinder.find_nvidia_binary_utility("nvdisasm")
    if path is None:
        raise FileNotFoundError("sass: nvdisasm is not installed. It is in the wheel nvidia-cuda-nvdisasm and in every "
                                "CUDA toolkit.")
    return path


def _disassembled(image: bytes) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(image)
        file.flush()
        done = subprocess.run([nvdisasm(), "-json", file.name], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(f"sass: nvdisasm: {done.stderr.strip()}")
    header, functions = json.loads(done.stdout)
    return header, functions


def _instruction(raw: dict[str, Any]) -> Instruction:
    attributes = raw.get("other-attributes", {})
    if unknown := set(raw) - {"predicate", "opcode", "operands", "other-attributes"}:
        raise ValueError(f"sass: nvdisasm says more of {raw['opcode']} than is understood: {sorted(unknown)}.")
    return Instruction(raw["opcode"], raw.get("operands", ""), raw.get("predicate", ""),
                       attributes.get("control-flow") == "True", attributes.get("subroutine-call") == "True")


def kernel(image: bytes, name: str = "") -> Kernel:
    """A kernel of a cubin; without a name, the only one."""
    takes = usage(image)
    if not name and len(takes) == 1:
        name, = takes
    if name not in takes:
        raise ValueError(f"sass: the cubin has the kernels {sorted(takes)}. Name one of them.")
    header, functions = _disassembled(image)
    bodies = [f for f in functions if f["function-name"] == name]
    if len(bodies) != 1 or bodies[0]["start"] or bodies[0]["length"] != SIZE*len(bodies[0]["sass-instructions"]):
        raise ValueError(f"sass: nvdisasm gives no code of {name} that starts at 0 and has {SIZE} bytes an "
                         f"instruction.")
    version = re.search(r"V([\d.]+)$", header.get(".note.nv.tkinfo", {}).get("tki_toolVersion", ""))
    cc = header["SM"]["version"]
    return Kernel(name, (cc["major"], cc["minor"]), version[1] if version else "", takes[name],
                  tuple(map(_instruction, bodies[0]["sass-instructions"])))


# Control flow, instruction by instruction

def _next(code: tuple[Instruction, ...], k: int, meetings: dict[str, set[int]]) -> list[int]:
    """The instructions that may run after instruction k; a call comes back to the one behind it."""
    x = code[k]
    if x.base == "ENDCOLLECTIVE" or _collective(code, x):
        return [k + 1]
    if (x.base in JUMPS) != x.jumps or not re.fullmatch(r"(@!?U?P(\d|T))?|PR", x.predicate):  # PR: an operand of P2R
        raise ValueError(f"sass: where {x.predicate} {x.opcode} {x.operands} leads is not known.")
    if x.base == "BSYNC" and k + 1 not in meetings[x.operands]:  # threads that meet go on where their BSSY says
        raise ValueError(f"sass: BSYNC {x.operands} at {k*SIZE:#x} is not in front of the place where its threads "
                         f"meet.")
    if not x.jumps or x.base in ("BSSY", "BSYNC") or x.calls:
        return [k + 1]
    if x.base == "EXIT":
        return [k + 1] if x.predicate else []
    *conditions, target = x.operands.split(",")
    if x.base == "RET" or not re.fullmatch("0x[0-9a-f]+", target) or int(target, 16) >= SIZE*len(code):
        raise ValueError(f"sass: {x.opcode} {x.operands} at {k*SIZE:#x}: only jumps to places in the kernel are "
                         f"understood.")
    return [int(target, 16)//SIZE, *([k + 1] if x.predicate or conditions else [])]


def _collective(code: tuple[Instruction, ...], x: Instruction) -> bool:
    """Whether threads of a warp that have parted do together what stands between this and the place that it names."""
    found = re.fullmatch(r"R\d+,(0x[0-9a-f]+)", x.operands) if x.opcode == "WARPSYNC.COLLECTIVE" else None
    behind = int(found[1], 16)//SIZE if found else len(code)
    return behind < len(code) and code[behind - 1].base == "ENDCOLLECTIVE"


def flow(code: tuple[Instruction, ...]) -> dict[int, list[int]]:
    """The instructions that a kernel may reach, without subroutines, in reverse postorder, with those that follow."""
    meetings: dict[str, set[int]] = {}
    for x in code:
        if x.base == "BSSY":
            barrier, target = x.operands.split(",")
            meetings.setdefault(barrier, set()).add(int(target, 16)//SIZE)
    after = {0: _next(code, 0, meetings)}
    order, stack = [], [(0, iter(after[0]))]
    while stack:
        k, rest = stack[-1]
        for following in rest:
            if following not in after:
                after[following] = _next(code, following, meetings)
                stack.append((following, iter(after[following])))
                break
        else:
            order.append(k)
            stack.pop()
    return {k: after[k] for k in reversed(order)}


def loops(after: dict[int, list[int]]) -> dict[int, set[int]]:
    """The natural loops of a control flow: all instructions of each, by the one through which it is entered."""
    before: dict[int, list[int]] = {k: [] for k in after}
    for k, following in after.items():
        for j in following:
            before[j].append(k)
    place = {k: i for i, k in enumerate(after)}
    found: dict[int, set[int]] = {}
    for k, following in after.items():
        for head in following:
            if place[head] > place[k]:
                continue
            body, grow = found.setdefault(head, {head}), [k]
            while grow:
                if (j := grow.pop()) not in body:
                    body.add(j)
                    grow += before[j]
            if head and 0 in body:  # backwards, the start was found without passing the head
                raise ValueError(f"sass: the loop back to {head*SIZE:#x} has a second entry: it has no count of "
                                 f"instructions per trip.")
    return found


def hot_loop(code: tuple[Instruction, ...]) -> tuple[list[Instruction], list[Instruction]]:
    """The instructions of a trip of the innermost loop with the widest global stores (of several, the one that stores
    most, then the one with most instructions): those that count, and those of its slow paths."""
    after = flow(code)
    bodies = loops(after)
    inside = {head: [other for other in bodies if other != head and other in body] for head, body in bodies.items()}
    own = {head: body.difference(*(bodies[other] for other in inside[head])) for head, body in bodies.items()}
    stores = {head: [code[k].width for k in body if code[k].kind == "store"] for head, body in own.items()}
    widest = max((width for of in stores.values() for width in of), default=0)
    if not widest:
        raise ValueError("sass: no loop of this kernel stores to global memory.")
    head = max((head for head in bodies if widest in stores[head]),
               key=lambda head: (sum(stores[head]), len(bodies[head])))
    cold = _cold(code, after, head, bodies[head])
    if not bodies[head] - own[head] <= cold:
        raise ValueError(f"sass: the hot loop at {head*SIZE:#x} holds a loop whose trips cannot be counted.")
    return [code[k] for k in sorted(bodies[head] - cold)], [code[k] for k in sorted(cold)]


def _cold(code: tuple[Instruction, ...], after: dict[int, list[int]], head: int, body: set[int]) -> set[int]:
    """The calls of slow paths in a loop, what warps do whose threads have parted, and what runs only beside these."""
    for k in body:
        if code[k].calls and not SLOW_PATH.fullmatch(code[k].operands):
            raise ValueError(f"sass: the hot loop calls {code[k].operands}, whose instructions are not counted.")
    reached, grow = set(), [head]
    while grow:
        k = grow.pop()
        if k in body and k not in reached and not code[k].calls:
            reached.add(k)
            grow += [k + 1] if code[k].opcode == "BRA.DIV" else after[k]
    cold, size = body - reached, -1
    while size != len(cold):  # backwards: what leads nowhere else
        size = len(cold)
        cold |= {k for k in reached - cold if after[k] and cold.issuperset(after[k])}
    if head in cold:
        raise ValueError("sass: every trip of the hot loop calls a slow path.")
    return cold


def figures(image: bytes, stored: float, name: str = "") -> Figures:
    """The figures of a kernel of which a loop stores `stored` bytes per element; ValueError where there are none."""
    found = kernel(image, name)
    hot, cold = hot_loop(found.code)
    loads, stores = (tuple(sorted(x.width for x in hot if x.kind == kind)) for kind in ("load", "store"))
    elements, rest = divmod(sum(stores), stored)  # `stored` has fractions where one thread stores for several
    if rest or not elements:
        raise ValueError(f"sass: a trip of the hot loop of {found.name} stores {sum(stores)} bytes: not whole elements "
                         f"of {stored} bytes.")
    local, float64 = sum(x.kind == "local" for x in found.code), sum(x.wide for x in found.code)
    return Figures(found.name, found.cc, found.toolkit, found.usage, local, float64, int(elements),
                   dict(Counter(x.kind for x in hot)), len(cold), loads, stores)
