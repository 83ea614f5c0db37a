"""The table of instructions: a pattern for each form, beside the function that is its meaning.

A pattern is written like the syntax lines of the PTX manual: words that must follow each other, ``a|b`` for one of
several, ``?`` before one that may be missing, ``name=`` before one that the function wants to know. ``"add|sub ?rn
type=f32"`` matches ``add.rn.f32``. What no pattern matches is an error.
"""
import inspect
from types import SimpleNamespace
from typing import NamedTuple

from .values import TYPES, PTXError

TABLE = {}  # opcode -> its forms


class Slot(NamedTuple):
    name: str
    choices: list
    optional: bool


class Form(NamedTuple):
    """One syntax line: its slots, its meaning (run, form, *operands), and what the machine must know about it.
    ``waits`` is "block" or "warp" for instructions that wait for other threads, ``leaves`` marks the end of a basic
    block."""

    slots: list
    meaning: object
    operands: int
    waits: str
    leaves: bool

    def match(self, modifiers):
        """What the modifiers say, as attributes: types as `Type`, other choices as strings or None."""
        found, rest = SimpleNamespace(), list(modifiers)
        for slot in self.slots:
            choice = rest.pop(0) if rest and rest[0] in slot.choices else None
            if choice is None and not slot.optional:
                return None
            setattr(found, slot.name, TYPES.get(choice, choice))
        return None if rest else found


def instruction(pattern, *, waits="", leaves=False, operands=None):
    """Register a function as the meaning of the instructions that match the pattern, of so many operands."""
    opcodes, *slots = pattern.split()
    slots = [_slot(text) for text in slots]

    def register(meaning):
        count = len(inspect.signature(meaning).parameters) - 2 if operands is None else operands
        for opcode in opcodes.split("|"):
            TABLE.setdefault(opcode, []).append(Form(slots, meaning, count, waits, leaves))
        return meaning
    return register


def _slot(text):
    name, _, choices = text.lstrip("?").rpartition("=")
    return Slot(name or choices, choices.split("|"), text.startswith("?"))


def lookup(opcode, count):
    """The form that an opcode with all its modifiers is, and what the modifiers say; `count` operands follow."""
    name, *modifiers = opcode.split(".")
    for form in TABLE.get(name, ()):
        found = form.match(modifiers)
        if found is not None and count == form.operands:
            found.opcode = name
            return form, found
    raise PTXError(f"unknown instruction {opcode} with {count} operands")
