"""PTX text as a `Kernel`: parameters, registers, variables, and basic blocks of instructions with parsed operands."""
import re
from collections import namedtuple
from functools import lru_cache

import numpy as np

from .forms import lookup
from .memory import Memory
from .values import TYPES, PTXError

MODULE_ADDRESS = 0xFFFF_FD00_0000_0000  # of .global and .const variables: where no host and no device address is
SPECIAL = re.compile(r"%(n?tid\.[xyz]|n?ctaid\.[xyz]|laneid|n?warpid|lanemask_(eq|lt|le|gt|ge)|"
                     r"(dynamic|total)_smem_size)$")
COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.S)
DEBUGGING = re.compile(r"^\s*\.(loc|file)\s[^;\n]*$", re.M)  # lines without a semicolon
MODULE_PART = re.compile(r"""\s*(?:
    \.(?P<about>version|target|address_size)\s+(?P<what>[^\n]*)\n
  | (?:\.(?:visible|weak|extern)\s+)*\.(?P<kind>entry|func)\s+(?:\([^()]*\)\s*)?(?P<name>[\w$]+)\s*
        (?:\((?P<parameters>[^()]*)\))?\s*(?P<directives>[^{;]*)(?P<end>[{;])
  | (?P<declaration>[^;]*);
)""", re.X)
BODY_PART = re.compile(r"""\s*(?:
    [{}]                                                        # scopes; their registers have names of their own here
  | (?P<label>[\w$]+)\s*:(?!:)
  | (?P<statement>[^;{}]*(?:\{[^{}]*\}[^;{}]*)*);
)""", re.X)
VARIABLE = re.compile(r"""(?P<linkage>(?:\.(?:visible|extern|weak)\s+)*)\.(?P<space>shared|local|global|const)\s+
    (?:\.align\s+(?P<align>\d+)\s+)?\.(?P<type>\w+)\s+(?P<name>[\w$]+)(?P<dimensions>(?:\[\d*\])*)\s*
    (?:=\s*(?P<values>.*))?$""", re.S | re.X)
PARAMETER = re.compile(r"""\.param\s+(?:\.align\s+(?P<align>\d+)\s+)?\.(?P<type>\w+)\s+
    (?:\.ptr\s+(?:\.(?:global|shared|const|local)\s+)?(?:\.align\s+\d+\s+)?)?(?P<name>[\w$]+)
    (?:\[(?P<count>\d+)\])?$""", re.X)
STATEMENT = re.compile(r"(?:@(?P<negated>!?)(?P<guard>[%\w$]+)\s+)?(?P<opcode>[\w.:]+)\s*(?P<operands>.*)$")
OPERAND = re.compile(r"\{[^}]*\}|\[[^\]]*\]|[^,\s][^,]*")
BRACE = re.compile("[{}]")
ADDRESS = re.compile(r"\[\s*(?P<base>[^\s+-]+)\s*(?:(?P<sign>[+-])\s*(?P<offset>\S+)\s*)?\]$")


# Operands
Register = namedtuple("Register", "name type negated", defaults=[False])
Special = namedtuple("Special", "name")
Immediate = namedtuple("Immediate", "value width", defaults=[0])  # an integer, or the `width` bits of a float
Symbol = namedtuple("Symbol", "name offset", defaults=[0])        # a name, and bytes added to it
Address = namedtuple("Address", "base offset", defaults=[0])
Vector = namedtuple("Vector", "items")
Pair = namedtuple("Pair", "first second")                         # d|p: two destinations
# What a kernel consists of
Parameter = namedtuple("Parameter", "name type bytes offset")
Variable = namedtuple("Variable", "space offset")  # in the memory of a block or thread; the address in global memory
Instruction = namedtuple("Instruction", "guard opcode modifiers form operands text")


class Kernel:
    """An entry of a PTX module, ready to run; its name may be left out if there is only one. ``params`` lists
    `Parameter`, ``target`` is the architecture, such as 90 (0 if the text names none), ``shared`` and ``local`` the
    bytes that a block and a thread have of their own, dynamic shared memory excluded, ``blocks`` the basic blocks in
    the order of the text: an instruction that waits for other threads starts one. Raises `PTXError` for all else."""

    def __init__(self, ptx, entry=None):
        self.target, self.params, self.param_bytes = 0, [], 0
        self.registers, self.variables, self.labels = {}, {}, {}
        self.sizes = {"shared": 0, "local": 0}
        self.dynamic = []  # names of .extern .shared arrays, which lie behind all others
        self.module = Memory(MODULE_ADDRESS)
        self.max_threads, self.required_threads = 1024, None
        self.blocks = [[]]
        entries = self._module(DEBUGGING.sub("", COMMENT.sub(" ", ptx)))
        if entry is None and len(entries) != 1:
            raise PTXError(f"{len(entries)} entries: {', '.join(entries)}")
        self.name = entry or next(iter(entries))
        if self.name not in entries:
            raise PTXError(f"no entry {self.name}")
        parameters, directives, body = entries[self.name]
        self._parameters(parameters or "")
        self._directives(directives)
        self._body(body)
        self.shared, self.local = self.sizes["shared"], self.sizes["local"]

    def _module(self, text):
        """The entries of a module: parameters, directives and body of each."""
        entries, at, end = {}, 0, len(text.rstrip())
        while at < end:
            part = _next_part(MODULE_PART, text, at)
            start = at = part.end()
            if part["about"] == "target":
                self.target = int(re.search(r"sm_(\d+)", part["what"])[1])
            elif part["declaration"]:
                self._declare(part["declaration"])
            elif part["end"] == "{":
                at = _closing_brace(text, at)
            if part["kind"] == "entry":
                entries[part["name"]] = part["parameters"], part["directives"], text[start:at - 1]
        return entries

    def _parameters(self, text):
        for declaration in filter(None, (part.strip() for part in text.split(","))):
            found = PARAMETER.match(" ".join(declaration.split()))
            if not found or found["type"] not in TYPES:
                raise PTXError(f"unknown parameter: {declaration}")
            unit = TYPES[found["type"]].bytes
            offset = _aligned(self.param_bytes, int(found["align"] or unit))
            parameter = Parameter(found["name"], found["type"], unit*int(found["count"] or 1), offset)
            self.params.append(parameter)
            self.variables[parameter.name] = Variable("param", offset)
            self.param_bytes = offset + parameter.bytes

    def _directives(self, text):
        for name, numbers in re.findall(r"\.(\w+)([^.]*)", text):
            if name in ("maxntid", "reqntid"):
                threads = int(np.prod([int(n) for n in numbers.split(",")]))
                self.max_threads, self.required_threads = threads, threads if name == "reqntid" else None
            elif name not in ("minnctapersm", "maxnreg"):
                raise PTXError(f"unknown directive .{name}")

    def _declare(self, text):
        text = text.strip()
        registers = re.match(r"\.reg\s+\.(\w+)\s+(.+)$", text, re.S)
        variable = VARIABLE.match(text)
        if registers and registers[1] in TYPES:
            for name in registers[2].split(","):
                base, _, count = name.strip().rstrip(">").partition("<")
                for full in [f"{base}{k}" for k in range(int(count))] if count else [base]:
                    if self.registers.setdefault(full, TYPES[registers[1]]).bits != TYPES[registers[1]].bits:
                        raise PTXError(f"register {full} is declared twice")
        elif variable and variable["type"] in TYPES:
            self._declare_variable(**variable.groupdict())
        elif not text.startswith(".pragma"):
            raise PTXError(f"unknown declaration: {text}")

    def _declare_variable(self, linkage, space, align, type, name, dimensions, values):
        type, open_end = TYPES[type], "[]" in dimensions
        if open_end and space == "shared":
            self.dynamic.append(name)
            return
        if open_end or "extern" in linkage or (values and space in self.sizes):
            raise PTXError(f"variable {name} is not supported")
        count = int(np.prod([int(n) for n in re.findall(r"\d+", dimensions)], dtype=np.int64))
        if space in self.sizes:
            offset = _aligned(self.sizes[space], int(align or type.bytes))
            self.sizes[space] = offset + type.bytes*count
        else:
            array = np.zeros(count, type.word)
            for i, value in enumerate(re.findall(r"[^\s{},]+", values or "")):
                array[i] = _immediate(value).value % 2**type.bits
            array.flags.writeable = space == "global"
            offset = self.module.add(array, name)
        self.variables[name] = Variable(space, offset)

    def _body(self, text):
        at, end = 0, len(text.rstrip())
        while at < end:
            part = _next_part(BODY_PART, text, at)
            at = part.end()
            if part["label"]:
                self._start_block()
                self.labels[part["label"]] = len(self.blocks) - 1
            elif part["statement"] and part["statement"].strip().startswith("."):
                self._declare(part["statement"])
            elif part["statement"]:
                self._instruction(" ".join(part["statement"].split()))
        if not self.blocks[-1]:
            self.blocks.pop()
        for block in self.blocks:
            for instruction in block:
                self._check_names(instruction)

    def _start_block(self):
        if self.blocks[-1]:
            self.blocks.append([])

    def _instruction(self, text):
        found = STATEMENT.match(text)
        try:
            if not found:
                raise PTXError("unknown text")
            operands = tuple(self._operand(part) for part in OPERAND.findall(found["operands"]))
            form, modifiers = lookup(found["opcode"], len(operands))
            guard = self._guard(found["guard"], bool(found["negated"])) if found["guard"] else None
            if form.waits and guard:
                raise PTXError("an instruction that waits for other threads under a guard")
        except PTXError as error:
            raise PTXError(f"{error}, in: {text}") from None
        if form.waits:
            self._start_block()
        self.blocks[-1].append(Instruction(guard, modifiers.opcode, modifiers, form, operands, text))
        if form.leaves:
            self._start_block()

    def _guard(self, name, negated):
        if self.registers.get(name) is not TYPES["pred"]:
            raise PTXError(f"{name} is no predicate")
        return Register(name, TYPES["pred"], negated)

    def _operand(self, text):
        text = text.strip()
        if text.startswith("{"):
            return Vector(tuple(self._operand(part) for part in text[1:-1].split(",")))
        if text.startswith("["):
            found = ADDRESS.match(text)
            if not found:
                raise PTXError(f"unknown operand {text}")
            offset = _immediate(found["offset"]).value if found["offset"] else 0
            return Address(self._operand(found["base"]), -offset if found["sign"] == "-" else offset)
        if "|" in text:
            return Pair(*(self._operand(part) for part in text.split("|")))
        if SPECIAL.match(text):
            return Special(text)
        name = text.lstrip("!")
        if text == "_" or name in self.registers:
            return Register(name, TYPES["b64"] if text == "_" else self.registers[name], text.startswith("!"))
        if re.match(r"-?\d", text):
            return _immediate(text)
        found = re.match(r"([A-Za-z_$][\w$]*)(?:\s*\+\s*(\d+))?$", text)
        if not found:
            raise PTXError(f"unknown operand {text}")
        return Symbol(found[1], int(found[2] or 0))

    def _check_names(self, instruction):
        for operand in instruction.operands:
            operand = operand.base if isinstance(operand, Address) else operand
            known = (self.labels, self.variables, self.dynamic)
            if isinstance(operand, Symbol) and not any(operand.name in names for names in known):
                raise PTXError(f"unknown name {operand.name}, in: {instruction.text}")

    def granule(self, space):
        """Bytes of the smallest access to this state space (generic addresses may be in any)."""
        found = [i.modifiers for block in self.blocks for i in block
                 if i.opcode in ("ld", "st", "atom", "red") and (i.modifiers.space or space).startswith(space)]
        return min((m.type.bytes*int((getattr(m, "vector", None) or "v1")[1:]) for m in found), default=1)


def _next_part(pattern, text, at):
    part = pattern.match(text, at)
    if not part:
        raise PTXError(f"unknown text: {text[at:].strip()[:80]}")
    return part


def _closing_brace(text, at):
    """Behind the brace that closes the one opened before `at`."""
    depth = 1
    for brace in BRACE.finditer(text, at):
        depth += 1 if brace[0] == "{" else -1
        if depth == 0:
            return brace.end()
    raise PTXError("a brace is not closed")


def _aligned(offset, to):
    return -(-offset//to)*to


@lru_cache(None)
def _immediate(text):
    if re.fullmatch(r"0[fF][0-9a-fA-F]{8}|0[dD][0-9a-fA-F]{16}", text):
        return Immediate(int(text[2:], 16), 32 if text[1] in "fF" else 64)
    if not re.fullmatch(r"-?(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9]\d*)U?", text):
        raise PTXError(f"unknown number {text}")
    digits = text.rstrip("U")
    octal = re.fullmatch(r"(-?)0([0-7]+)", digits)
    return Immediate(int(octal[1] + octal[2], 8) if octal else int(digits, 0))
