"""The table of instructions: a pattern for each form, beside the function that is its meaning.

A pattern is written like the syntax lines of the PTX manual: words that must follow each other, ``a|b`` for one of
several, ``?`` before one that may be missing, ``name=`` before one that the function wants to know. ``"setp
compare=eq|ne ?ftz type=f32"`` matches ``setp.eq.ftz.f32``. What no pattern matches is an error.
"""
import inspect
from types import SimpleNamespace
from typing import NamedTuple

from .values import TYPES, PTXError

TABLE = {}  # opcode -> its forms


class Slot(NamedTuple):
    name: str
    choices: tuple
    optional: bool


class Form(NamedTuple):
    """One syntax line: its slots, its meaning (run, form, *operands), and what the machine must know about it.
    ``waits`` is "block" or "warp" for instructions that wait for other threads, ``leaves`` marks the end of a basic
    block, ``approximate`` results that differ between GPUs."""

    slots: tuple
    meaning: object
    operands: range
    waits: str
    leaves: bool
    approximate: bool

    def match(self, modifiers):
        """What the modifiers say, as attributes: types as `Type`, flags as bools, other choices as strings or None."""
        found, rest = SimpleNamespace(), list(modifiers)
        for slot in self.slots:
            choice = rest.pop(0) if rest and rest[0] in slot.choices else None
            if choice is None and not slot.optional:
                return None
            flag = slot.choices == (slot.name,)
            setattr(found, slot.name, choice is not None if flag else TYPES.get(choice, choice))
        return None if rest else found


def instruction(pattern, *, waits="", leaves=False, approximate=False, operands=None):
    """Register a function as the meaning of the instructions that match the pattern, of so many operands."""
    opcodes, *slots = pattern.split()
    slots = tuple(_slot(text) for text in slots)

    def register(meaning):
        parameters = list(inspect.signature(meaning).parameters.values())[2:]
        fewest = sum(p.default is p.empty for p in parameters)
        form = Form(slots, meaning, operands or range(fewest, len(parameters) + 1), waits, leaves, approximate)
        for opcode in opcodes.split("|"):
            TABLE.setdefault(opcode, []).append(form)
        return meaning
    return register


def _slot(text):
    optional = text.startswith("?")
    name, _, choices = text.lstrip("?").rpartition("=")
    return Slot(name or choices, tuple(choices.split("|")), optional)


def lookup(opcode, count):
    """The form that an opcode with all its modifiers is, and what the modifiers say; `count` operands follow."""
    name, *modifiers = opcode.split(".")
    if name not in TABLE:
        raise PTXError(f"unknown instruction {name}")
    forms = [(form, found) for form in TABLE[name] if (found := form.match(modifiers)) is not None]
    if not forms:
        raise PTXError(f"unknown modifiers: {opcode}")
    for form, found in forms:
        if count in form.operands:
            found.opcode = name
            return form, found
    raise PTXError(f"{opcode} with {count} operands")
