"""PTX text as a `Kernel`: parameters, registers, variables, and basic blocks of instructions with parsed operands."""
import re
from collections import namedtuple
from functools import lru_cache

import numpy as np

from .forms import lookup
from .values import TYPES, PTXError

SPECIAL = ("%tid.x", "%ntid.x", "%ctaid.x", "%nctaid.x")
COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.S)
MODULE = re.compile(r"""\s*\.version\s[^\n]*\n\s*\.target\s+sm_(?P<target>\d+)[^\n]*\n\s*\.address_size\s+64\s+
    (?:\.visible\s+)?\.entry\s+(?P<name>[\w$]+)\s*\((?P<parameters>[^()]*)\)(?P<directives>[^{]*)
    \{(?P<body>.*)\}\s*$""", re.S | re.X)
STATEMENT = re.compile(r"\s*((?:[\w$]+\s*:(?!:)\s*)*)([^;]*?)\s*(?:;|$)")
PARAMETER = re.compile(r"\.param\s+\.(\w+)\s+([\w$]+)$")
SHARED = re.compile(r"\.shared\s+(?:\.align\s+(\d+)\s+)?\.(\w+)\s+([\w$]+)(?:\[(\d+)\])?$")
INSTRUCTION = re.compile(r"(?:@(?P<negated>!?)(?P<guard>[%\w$]+)\s+)?(?P<opcode>[\w.:]+)\s*(?P<operands>.*)$")
OPERAND = re.compile(r"\{[^}]*\}|\[[^\]]*\]|[^,\s][^,]*")
ADDRESS = re.compile(r"\[\s*([^\s+-]+)\s*(?:([+-])\s*(\S+)\s*)?\]$")

# Operands
Register = namedtuple("Register", "name type")
Special = namedtuple("Special", "name")
Immediate = namedtuple("Immediate", "value width", defaults=[0])  # an integer, or the `width` bits of a float
Symbol = namedtuple("Symbol", "name")                             # a label, a parameter or a variable
Address = namedtuple("Address", "base offset", defaults=[0])
Vector = namedtuple("Vector", "items")
Pair = namedtuple("Pair", "first second")                         # d|p: two destinations
# What a kernel consists of
Parameter = namedtuple("Parameter", "name bytes offset")
Instruction = namedtuple("Instruction", "guard negated opcode modifiers form operands text")


class Kernel:
    """The entry of a PTX module, ready to run. ``params`` lists `Parameter`, ``target`` is the architecture, such as
    90, ``shared`` are the bytes that a block has of its own, ``blocks`` the basic blocks in the order of the text: an
    instruction that waits for other threads starts one. Raises `PTXError` for all that is not known here."""

    def __init__(self, ptx):
        found = MODULE.match(COMMENT.sub(" ", ptx))
        if not found or ".entry" in found["body"]:
            raise PTXError("not one entry with a version, a target and addresses of 64 bits")
        self.name, self.target = found["name"], int(found["target"])
        self.params, self.param_bytes, self.shared, self.max_threads = [], 0, 0, 1024
        self.registers, self.symbols, self.labels = {}, {}, {}
        self.blocks = [[]]
        self._parameters(found["parameters"])
        self._directives(found["directives"])
        self._body(found["body"])

    def _parameters(self, text):
        for declaration in filter(None, map(str.strip, text.split(","))):
            found = PARAMETER.match(declaration)
            if not found or found[1] not in TYPES:
                raise PTXError(f"unknown parameter: {declaration}")
            size = TYPES[found[1]].bytes
            offset = -(-self.param_bytes//size)*size
            self.params.append(Parameter(found[2], size, offset))
            self.symbols[found[2]], self.param_bytes = offset, offset + size

    def _directives(self, text):
        for name, numbers in re.findall(r"\.(\w+)([^.]*)", text):
            if name == "maxntid":
                self.max_threads = int(np.prod([int(n) for n in numbers.split(",")]))
            elif name != "minnctapersm":
                raise PTXError(f"unknown directive .{name}")

    def _body(self, text):
        for labels, statement in STATEMENT.findall(text):
            for label in re.findall(r"[\w$]+", labels):
                self._start_block()
                self.labels[label] = len(self.blocks) - 1
            if statement.startswith("."):
                self._declare(statement)
            elif statement:
                self._instruction(" ".join(statement.split()))
        if not self.blocks[-1]:
            self.blocks.pop()
        for block in self.blocks:
            for instruction in block:
                self._check_names(instruction)

    def _declare(self, text):
        registers, variable = re.match(r"\.reg\s+\.(\w+)\s+(.+)$", text, re.S), SHARED.match(text)
        if registers and registers[1] in TYPES:
            for name in registers[2].split(","):
                base, _, count = name.strip().rstrip(">").partition("<")
                names = [f"{base}{k}" for k in range(int(count))] if count else [base]
                self.registers |= dict.fromkeys(names, TYPES[registers[1]])
        elif variable and variable[2] in TYPES:
            align, size = int(variable[1] or TYPES[variable[2]].bytes), TYPES[variable[2]].bytes*int(variable[4] or 1)
            self.symbols[variable[3]] = -(-self.shared//align)*align
            self.shared = self.symbols[variable[3]] + size
        elif not text.startswith(".pragma"):
            raise PTXError(f"unknown declaration: {text}")

    def _start_block(self):
        if self.blocks[-1]:
            self.blocks.append([])

    def _instruction(self, text):
        found = INSTRUCTION.match(text)
        try:
            if not found:
                raise PTXError("unknown text")
            operands = tuple(self._operand(part) for part in OPERAND.findall(found["operands"]))
            form, modifiers = lookup(found["opcode"], len(operands))
            guard = found["guard"] and self._operand(found["guard"])
            if guard and (not form.leaves or getattr(guard, "type", None) is not TYPES["pred"]):
                raise PTXError("a guard that is no predicate, or not in front of a branch")
        except PTXError as error:
            raise PTXError(f"{error}, in: {text}") from None
        if form.waits:
            self._start_block()
        self.blocks[-1].append(Instruction(guard, bool(found["negated"]), modifiers.opcode, modifiers, form, operands,
                                           text))
        if form.leaves:
            self._start_block()

    def _operand(self, text):
        text = text.strip()
        if text.startswith("{"):
            return Vector(tuple(self._operand(part) for part in text[1:-1].split(",")))
        if found := ADDRESS.match(text):
            offset = _immediate(found[3]).value if found[3] else 0
            return Address(self._operand(found[1]), -offset if found[2] == "-" else offset)
        if "|" in text:
            return Pair(*(self._operand(part) for part in text.split("|")))
        if text in SPECIAL:
            return Special(text)
        if text == "_" or text in self.registers:
            return Register(text, self.registers.get(text, TYPES["b64"]))
        if re.match(r"-?\d", text):
            return _immediate(text)
        if not re.fullmatch(r"[A-Za-z_$][\w$]*", text):
            raise PTXError(f"unknown operand {text}")
        return Symbol(text)

    def _check_names(self, instruction):
        for operand in instruction.operands:
            name = getattr(operand, "base", operand)
            if isinstance(name, Symbol) and name.name not in (self.labels if instruction.form.leaves else self.symbols):
                raise PTXError(f"unknown name {name.name}, in: {instruction.text}")

    def granule(self, space):
        """Bytes of the smallest access to this state space."""
        return min((i.modifiers.type.bytes*int((i.modifiers.vector or "v1")[1:]) for block in self.blocks for i in block
                    if i.opcode in ("ld", "st") and i.modifiers.space == space), default=1)


@lru_cache(None)
def _immediate(text):
    if re.fullmatch(r"0[fF][0-9a-fA-F]{8}|0[dD][0-9a-fA-F]{16}", text):
        return Immediate(int(text[2:], 16), 32 if text[1] in "fF" else 64)
    if re.fullmatch(r"0x[0-9a-fA-F]+", text):  # numbers of 16 bits, where they are halves
        return Immediate(int(text, 16), 0)
    if not re.fullmatch(r"-?(0|[1-9]\d*)", text):
        raise PTXError(f"unknown number {text}")
    return Immediate(int(text))
