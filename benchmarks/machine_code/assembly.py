"""What an x86-64 kernel is made of, read from its assembly.

Hot are the loops that store elements of arrays; the norm stores none: there it is the loop that squares those of the
gradient. Elements that an unrolled loop of vectors leaves over go through a narrower or a shorter loop, which loads and
stores the same for each and does not count. So each pass of a rule that takes several counts, by its widest loop, and
where nothing is a vector the scalar loop: vectors that were lost show as width and as instructions.

An access moves if its address changes from trip to trip: it is to an element of an array. One whose address stays
brings a value that found no register: it was spilled to the stack, or it is a constant that is read anew in every trip.
"""
import hashlib
import re
from collections import Counter
from collections.abc import Collection, Sequence
from typing import NamedTuple

# not the kernel: what Python and C call, and Numba's counts of references
WRAPPERS = ("_ZN7cpython", "cfunc.", "NRT_")
ENDS = re.compile("j|ret|ud2")                                  # of a basic block
READERS = re.compile("v?u?comis|cmp|test|bt|push|j|call")       # they do not write to their last operand
# they read what they write
UPDATES = re.compile("add|adc|sub|sbb|inc|dec|and|or|xor|neg|not|s[ah][lr]|ro[lr]|xadd|xchg|cmov|imul")
NO_ACCESS = re.compile("lea|nop|prefetch")
ARITHMETIC = re.compile(r"v?(add|sub|mul|div|sqrt|max|min|fn?m(?:add|sub)\d{3})([ps])([sd])")
FLOAT64 = re.compile(r"v?(cvt\w*[ps]d\w*|(add|sub|addsub|mul|div|sqrt|max|min|fn?m\w+|round|rndscale|u?comi|cmp\w*|"
                     r"hadd|hsub|r\w+14)[ps]d)")
MEMORY = re.compile(r"([^(]*)\((%\w+)?(?:,(%\w+)(?:,(\d))?)?\)")
LETTERS = {"b": 1, "w": 2, "l": 4, "d": 4, "q": 8}
ITEM = {"s": 4, "d": 8}                                         # bytes of the numbers of an opcode that ends so
BYTES = {"x": 16, "y": 32, "z": 64}                             # of vector registers
# bytes that an instruction on vectors moves; the first match counts
SIZES = {"v?cvtt?ss2.*|v?cvtu?si2s[sd]l|v?(movd|extractps|insertps)": 4,
         "v?cvtt?sd2.*|v?cvtu?si2s[sd]q|v?(movq|mov[lh]p[sd])|vbroadcast[fi]32x2": 8,
         "v?(?:pextr|pinsr|pbroadcast)([bwdq])": LETTERS, "v(insert|extract|broadcast)[fi](128|32x4|64x2)": 16,
         "v(insert|extract|broadcast)[fi](32x8|64x4)": 32,
         # of their register: memory is narrower
         "v?pmov[sz]x(bw|wd|dq)|vpmovu?s?(wb|dw|qd)|v?cvt(ps2pd|u?dq2pd|ph2ps|ps2ph)": 1/2,
         "v?pmov[sz]x(bd|wq)|vpmovu?s?(db|qw)": 1/4, "v?pmov[sz]xbq|vpmovu?s?qb": 1/8, "v?[^p]*ss": 4, "v?[^p]*sd": 8}


class Instruction(NamedTuple):
    """One line of assembly, without its prefix."""

    opcode: str
    operands: tuple[str, ...] = ()

    @property
    def vector(self) -> int:
        """Bytes of its widest vector register; 0 where it has none."""
        return max((BYTES[kind] for kind in re.findall(r"%([xyz])mm\d", " ".join(self.operands))), default=0)

    @property
    def moved(self) -> int:
        """Bytes that it loads or stores."""
        if any("{1to" in x for x in self.operands):             # one number for all lanes
            return 8 if re.search("pd$|q$", self.opcode) else 4
        if extension := re.fullmatch("mov[sz]([bwl])[wlq]", self.opcode):
            return LETTERS[extension[1]]
        if not self.vector:
            return 1 if self.opcode.startswith("set") else LETTERS[self.opcode[-1]]
        for pattern, size in SIZES.items():
            if found := re.fullmatch(pattern, self.opcode):
                return size[found[1]] if isinstance(size, dict) else size if size > 1 else int(size*self.vector)
        return self.vector


class Access(NamedTuple):
    """A load or a store. `stream`: its address without displacement, in what registers hold; `moves`: it changes."""

    stream: str
    moves: bool
    size: int
    store: bool


class Loop(NamedTuple):
    """Instructions of a loop but not of loops within it, counted once a trip; its first block, those of outer loops."""

    code: list[Instruction]
    head: int
    around: frozenset[int]

    @property
    def arithmetic(self) -> list[tuple[str, str, int]]:
        """Its float arithmetic: operation, s or d for float32 or float64, and the lanes (1 for a scalar)."""
        found = [(x.vector, ARITHMETIC.fullmatch(x.opcode)) for x in self.code]
        return [(of[1], of[3], size//ITEM[of[3]] if of[2] == "p" else 1) for size, of in found if of]

    @property
    def width(self) -> int:
        """Bits of what it computes at once: those of a register, or of one number where there are no vectors."""
        return max((8*lanes*ITEM[kind] for _, kind, lanes in self.arithmetic), default=0)


# The text

def instruction(line: str) -> Instruction:
    opcode, *rest = re.sub(r"^(lock|rep\w*|notrack)\s+", "", line).split(maxsplit=1)
    return Instruction(opcode, tuple(x.strip() for x in re.findall(r'(?:"[^"]*"|\([^)]*\)|[^,("])+', "".join(rest))))


def functions(text: str) -> list[list[Instruction | str]]:
    """The functions of an assembly text, without wrappers: instructions, and labels as strings."""
    found: dict[str, list[Instruction | str]] = {"": []}
    name = ""
    for line in text.splitlines():
        line = line.partition("#")[0].strip()
        if label := re.fullmatch(r'"?(.*?)"?:', line):
            if not label[1].startswith(".L"):
                name = label[1]
                found[name] = []
            elif label[1].startswith(".LBB"):
                found[name].append(label[1])
        elif line and not line.startswith("."):
            found[name].append(instruction(line))
    return [code for name, code in found.items() if code and not name.startswith(WRAPPERS)]


def digest(text: str) -> str:
    """A name for a kernel's machine code: its instructions and constants. Numba's symbols hold the names of modules and
    the number of functions compiled before: they count by their first appearance. Wrappers do not count."""
    lines = [x if isinstance(x, str) else f"{x.opcode} {', '.join(x.operands)}" for code in functions(text)
             for x in code]
    lines += re.findall(r"^\.LCPI.*(?:\n\t\.(?:long|quad|short|byte|zero|ascii)\t.*)*", text, re.MULTILINE)
    seen: dict[str, str] = {}
    plain = re.sub(r'"[^"]*"|\b_ZN\w+|\.const\.[\w.]+', lambda symbol: seen.setdefault(symbol[0], f"symbol{len(seen)}"),
                   "\n".join(lines))
    return hashlib.sha256(plain.encode()).hexdigest()[:12]


# Loops

def _flow(code: Sequence[Instruction | str]) -> tuple[list[list[Instruction]], dict[int, list[int]]]:
    """The basic blocks of a function that are reached, each behind one that leads to it, with those that may follow."""
    blocks: list[list[Instruction]] = [[]]
    names: dict[str, int] = {}
    for x in code:
        if isinstance(x, Instruction):
            blocks[-1].append(x)
        if blocks[-1] and (isinstance(x, str) or ENDS.match(x.opcode)):
            blocks.append([])
        if isinstance(x, str):
            names[x] = len(blocks) - 1
    after: dict[int, list[int]] = {}
    grow = [0]
    while grow:
        if (k := grow.pop()) not in after:
            last = blocks[k][-1] if blocks[k] else Instruction("nop")
            target = [names[x] for x in last.operands if ENDS.match(last.opcode)
                      and x in names]  # none where it leaves the function
            after[k] = target + [k + 1]*(k + 1 < len(blocks) and not last.opcode.startswith(("ret", "ud2", "jmp")))
            grow += after[k]
    return blocks, after


def _bodies(after: dict[int, list[int]], among: Collection[int]) -> dict[int, set[int]]:
    """The blocks of each loop, by the first that is reached: blocks that lead to each other, and those that still do
    without the first. So it does not matter where a loop is entered: LLVM jumps into the middle of some."""
    leads: dict[int, set[int]] = {}
    for k in among:
        leads[k], grow = set(), [k]
        while grow:
            new = {j for j in after[grow.pop()] if j in among} - leads[k]
            leads[k] |= new
            grow += new
    found: dict[int, set[int]] = {}
    for head in among:
        if head in leads[head] and not any(head in body for body in found.values()):
            body = {k for k in leads[head] if head in leads[k]}
            found |= {head: body} | _bodies(after, [k for k in among if k in body and k != head])
    return found


def loops(code: Sequence[Instruction | str]) -> list[Loop]:
    """The loops of a function."""
    blocks, after = _flow(code)
    bodies = _bodies(after, list(after))
    inner = {head: [of for k, of in bodies.items() if k != head and k in body] for head, body in bodies.items()}
    return [Loop([x for k in sorted(body.difference(*inner[head])) for x in blocks[k]], head,
                 frozenset(other for other, of in bodies.items() if head in of and other != head))
            for head, body in bodies.items()]


# Accesses

def _whole(register: str) -> str:
    """The 64-bit register that a name is a part of: %r11d of %r11, %al of %rax."""
    found = re.fullmatch(r"%[re]?(?:([abcd])[xlh]|(si|di|bp|sp)l?)|%(r\d+)[bwd]?", register)
    return f"%{found[3] or f'r{found[2] or found[1] + chr(120)}'}" if found else register


class _Registers:
    """What general registers hold, followed through a loop: an expression, and whether it changes from trip to trip."""

    def __init__(self, moving: Collection[str] = ()):
        self.held = {register: (register, True) for register in moving}
        self.written: set[str] = set()

    def read(self, operand: str) -> tuple[str, bool]:
        if not (address := MEMORY.match(operand)):
            register = _whole(operand)
            return self.held.get(register, (register, "mm" in register))  # a vector of addresses: a gather
        found = [self.read(x) for x in address.group(2, 3) if x]
        return f"({','.join(key for key, _ in found)},{address[4] or 1})", any(moves for _, moves in found)

    def run(self, x: Instruction, place: int) -> None:
        """Carry out an instruction, as far as it bears upon addresses."""
        if not x.operands or READERS.match(x.opcode) or not re.match("%(?!.mm)", x.operands[-1]):
            return
        target, sources = _whole(x.operands[-1]), x.operands if UPDATES.match(x.opcode) else x.operands[:-1]
        given = [self.read(operand) for operand in sources]
        used = {_whole(register) for operand in sources for register in re.findall(r"%\w+", operand)}
        moves = any(moves for _, moves in given) or (target in used and target not in self.written)
        self.written.add(target)
        if re.match("inc|dec|(add|sub)[lq]", x.opcode) and len(used) == 1:
            self.held[target] = given[-1][0], moves             # the same address, further on
        elif x.opcode in ("movq", "movabsq"):
            offset = x.operands[0].partition("(")[0] if "(" in x.operands[0] else ""
            self.held[target] = offset + given[0][0], moves
        else:
            self.held[target] = f"{place} {x.opcode}", moves


def accesses(code: Sequence[Instruction]) -> list[Access]:
    """What the instructions of a loop load and store."""
    registers, found = _Registers(), []
    for k, x in enumerate(code):
        registers.run(x, k)
    registers = _Registers([register for register, (_, moves) in registers.held.items() if moves])
    for k, x in enumerate(code):
        for operand in x.operands:
            if MEMORY.match(operand) and not NO_ACCESS.match(x.opcode):
                writes = operand is x.operands[-1] and not READERS.match(x.opcode) and not re.match("i?(mul|div)",
                                                                                                    x.opcode)
                ways = [False]*(not writes or bool(UPDATES.match(x.opcode))) + [True]*writes
                found += [Access(*registers.read(operand), x.moved, store) for store in ways]
        registers.run(x, k)
    return found


# Figures

class Trip(NamedTuple):
    """One trip of a loop: what it accesses, and the elements that it handles."""

    loop: Loop
    accesses: list[Access]
    elements: float

    def depth(self) -> tuple[int, float]:
        return len(self.loop.around), self.elements

    @property
    def bytes(self) -> list[float]:
        """Loaded and stored for an element."""
        return [sum(x.size for x in self.accesses if x.moves and x.store is store)/self.elements
                for store in (False, True)]

    @property
    def work(self) -> dict[str, float]:
        """Float arithmetic for an element."""
        counts: Counter[str] = Counter()
        for operation, kind, lanes in self.loop.arithmetic:
            counts[operation + kind] += lanes
        return {what: count/self.elements for what, count in counts.items()}

    def leftover(self, other: "Trip") -> bool:
        """Whether it is for what another loop leaves over: narrower, or shorter; or the loop around, whose trip ends
        with the odd one of pairs. (A scalar may branch where vectors select.)"""
        if self.loop.head in other.loop.around:
            return self.work == other.work
        return self.bytes == other.bytes and (self.loop.width < other.loop.width or self.work == other.work)


def _elements(found: Sequence[Access], item: int, norm: bool) -> float:
    """From the bytes of the largest array that a trip stores: one more array would raise the sum of bytes, and lower
    what is counted per element. The norm stores sums alone: from the largest array that it loads and does not store."""
    stored, loaded = Counter(), Counter()
    for x in found:
        (stored if x.store else loaded)[x.stream] += x.moves*x.size
    return max((size for stream, size in loaded.items() if stream not in stored) if norm else stored.values(),
               default=0)/item


def hot_loops(code: Sequence[Instruction | str], item: int, norm: bool = False) -> list[Trip]:
    """The loops of a function that do its work, the widest first."""
    found = [Trip(loop, moved, _elements(moved, item, norm)) for loop in loops(code) for moved in [accesses(loop.code)]]
    found = [trip for trip in found if trip.elements and (not norm or any(x[0] == "mul" for x in trip.loop.arithmetic))]
    # the norm's loop over the last 63 elements may keep its vectors when others lose theirs: hot is only the deepest
    # loop, or the one around (where a trip has room for all 64 sums, and the deepest is its scalar twin)
    around = max(found, key=Trip.depth).loop.around if found else set()
    found = [trip for trip in found if around <= trip.loop.around | {trip.loop.head}]
    hot: list[Trip] = []
    for trip in sorted(found, key=lambda trip: (trip.loop.width, *trip.depth()), reverse=True):
        if not any(norm or trip.leftover(other) for other in hot):
            hot.append(trip)
    return hot


def figures(text: str, item: int, norm: bool = False) -> dict[str, float | str]:
    """The figures of a kernel whose widest array that is stored (norm: whose gradient) has elements of `item` bytes.
    Per element: `instructions` and `accesses` (to arrays) of the hot loops. Per trip: `spills`, `float64` (arithmetic
    and conversions). In the whole kernel: `calls`. `width`: bits of the vectors. `code`: see `digest`."""
    bodies = functions(text)
    hot = [trip for code in bodies for trip in hot_loops(code, item, norm)]
    if not hot or not hot[0].loop.width:
        raise ValueError(f"assembly: no loop computes with floats and {'loads' if norm else 'stores'} elements of an "
                         f"array.")
    plain = [x for code in bodies for x in code if isinstance(x, Instruction)]
    return {"instructions": round(sum(len(trip.loop.code)/trip.elements for trip in hot), 6),
            "accesses": round(sum(sum(x.moves for x in trip.accesses)/trip.elements for trip in hot), 6),
            "width": hot[0].loop.width,
            "float64": sum(bool(FLOAT64.fullmatch(x.opcode)) for trip in hot for x in trip.loop.code),
            "calls": sum(x.opcode.startswith("call")
                         or (x.opcode.startswith("jmp") and not x.operands[0].startswith(".L")) for x in plain),
            "spills": sum(not x.moves for trip in hot for x in trip.accesses), "code": digest(text)}
