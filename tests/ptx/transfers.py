"""Moves between registers, formats and memory: mov, cvt, cvta, ld, st, atom, red."""
import numpy as np

from .access import WINDOWS, addresses
from .arithmetic import INTEGERS, WORDS
from .floats import decode, encode, flush
from .forms import instruction
from .memory import load, store
from .text import Vector
from .values import B32, TYPES, PTXError

ROUND = {"rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil}
BYTES = f"b8|u8|s8|{WORDS}|f32|f64"
SPACES = "?space=global|shared|shared::cta|local|const|param"
ORDERS = "?order=weak|volatile|relaxed|acquire|release ?scope=cta|cluster|gpu|sys"
HINTS = ("?l1=L1::evict_normal|L1::evict_unchanged|L1::evict_first|L1::evict_last|L1::no_allocate "
         "?l2=L2::evict_normal|L2::evict_first|L2::evict_last ?prefetch=L2::64B|L2::128B|L2::256B")
SYNCHRONIZING = ("acquire", "release", "acq_rel")


@instruction(f"mov type=pred|{WORDS}|f32|f64")
def move(run, form, d, a):
    """Also packs and unpacks vectors, the first item lowest, and takes the address of a variable."""
    if isinstance(a, Vector):
        return run.write(d, _packed(run, a, form.type), form.type)
    words = run.words(a, form.type)
    if not isinstance(d, Vector):
        return run.write(d, words, form.type)
    part = _part(d, form.type)
    for i, item in enumerate(d.items):
        run.write(item, (words >> form.type.word.type(part.bits*i)).astype(part.word), part)
    return None


def _part(vector, type):
    bits = type.bits//len(vector.items)
    if type.kind != "b" or f"b{bits}" not in TYPES or bits*len(vector.items) != type.bits:
        raise PTXError(f"{len(vector.items)} parts of .{type.name}")
    return TYPES[f"b{bits}"]


def _packed(run, vector, type):
    part, packed = _part(vector, type), type.word.type(0)
    for i, item in enumerate(vector.items):
        packed = packed | run.words(item, part).astype(type.word) << type.word.type(part.bits*i)
    return packed


@instruction("cvta ?to space=global|shared|shared::cta|local|const|param type=u64")
def convert_address(run, form, d, a):
    """Between the addresses of a state space and generic ones: shared and local memory have windows there."""
    space = form.space.removesuffix("::cta")
    if space == "param":
        raise PTXError("parameters have no generic addresses here")
    start = np.uint64(WINDOWS.get(space, 0))
    words = run.words(a, form.type)
    run.write(d, words - start if form.to else words + start, form.type)


# Formats

@instruction(f"cvt ?sat to=u8|s8|{INTEGERS} type=u8|s8|{INTEGERS}")
def integer_to_integer(run, form, d, a):
    x = run.read(a, form.type, wider=True)
    if form.sat:
        limits = np.iinfo(form.to.number)
        own = np.iinfo(x.dtype)
        x = np.clip(x, *(x.dtype.type(max(min(bound, own.max), own.min)) for bound in (limits.min, limits.max)))
    run.put(d, x.astype(form.to.number), form.to, extend=True)


@instruction(f"cvt rounding=rni|rzi|rmi|rpi ?ftz ?sat to=u8|s8|{INTEGERS} type=f32")
@instruction(f"cvt rounding=rni|rzi|rmi|rpi ?sat to=u8|s8|{INTEGERS} type=f16|bf16|f64")
def float_to_integer(run, form, d, a):
    """Clamped to the range; NaN becomes 0, but only the highest bit is set if one of the types has 64 bits."""
    x = run.read(a, form.type, wider=form.type.name != "bf16")
    x = flush(x) if getattr(form, "ftz", False) else x
    x = ROUND[form.rounding](x.astype(np.float64))
    bits, signed = form.to.bits, form.to.kind == "s"
    low, high = (-2**(bits - 1), 2**(bits - 1)) if signed else (0, 2**bits)
    inside = (x >= low) & (x < high)
    wide = np.int64 if signed else np.uint64
    numbers = np.where(inside, x, 0).astype(wide)
    numbers = np.where(x >= high, wide(high - 1), np.where(x < low, wide(low), numbers))
    if 64 in (bits, form.type.bits):
        numbers = np.where(np.isnan(x), wide(-2**(bits - 1) if signed else 2**(bits - 1)), numbers)
    run.put(d, numbers.astype(form.to.number), form.to, extend=True)


@instruction(f"cvt rounding=rn to=f16|bf16|f32|f64 type=u8|s8|{INTEGERS}")
def integer_to_float(run, form, d, a):
    x = run.read(a, form.type, wider=True)
    if form.to.bits == 16 and form.type.bits == 64:
        raise PTXError("64-bit integers to 16-bit floats")  # would be rounded twice
    run.put(d, x.astype(np.float64 if form.to.bits == 16 else form.to.number), form.to, extend=form.to.name != "bf16")


@instruction("cvt ?rounding=rn|rz|rni|rzi|rmi|rpi ?ftz ?sat to=f16|f32|f64 type=f16|f32|f64")
@instruction("cvt ?rounding=rn|rz to=bf16 type=f16|f32|f64")
@instruction("cvt ?rounding=rn|rz to=f16|f32|f64 type=bf16")
def float_to_float(run, form, d, a):
    source, to, rounding = form.type, form.to, form.rounding or "rn"
    if (source.bits > to.bits or {source.name, to.name} == {"f16", "bf16"}) != (form.rounding in ("rn", "rz")):
        raise PTXError("a rounding goes with a loss of precision")
    if rounding in ROUND and source is not to:
        raise PTXError("rounding to an integer between different types")
    x = run.read(a, source, wider=source.name != "bf16")
    ftz = getattr(form, "ftz", False)
    if ftz and TYPES["f32"] not in (source, to):
        raise PTXError(".ftz without f32")
    x = flush(x) if ftz and source.name == "f32" else x
    if rounding in ROUND:
        x, rounding = ROUND[rounding](x), "rn"
    if getattr(form, "sat", False):
        x = np.where(x > 0, np.minimum(x, x.dtype.type(1)), x.dtype.type(0))  # NaN too
    words = encode(x, to, rounding)
    if ftz and to.name == "f32":
        words = flush(decode(words, to)).view(to.word)
    run.write(d, words, to, extend=to.name != "bf16")


@instruction("cvt rounding=rn|rz to=f16x2|bf16x2 type=f32")
def two_floats(run, form, d, a, b):
    """The first source goes to the upper half."""
    upper, lower = (encode(run.read(x, form.type), form.to.lane, form.rounding).astype(np.uint32) for x in (a, b))
    run.write(d, upper << np.uint32(16) | lower, B32)


# Memory

def _items(operand):
    return operand.items if isinstance(operand, Vector) else (operand,)


def _size(run, form, operand):
    """Bytes of an access, checked against what the architecture can do."""
    count = len(_items(operand))
    if count != int((form.vector or "v1")[1:]):
        raise PTXError(f"{count} registers")
    size = count*form.type.bytes
    wide = form.space == "global" and run.kernel.target >= 100
    if size > (32 if wide else 16) or (count == 8 and form.type.bytes != 4):
        raise PTXError(f"an access of {count} x {form.type.bytes} bytes on sm_{run.kernel.target}")
    return size


def _space(form):
    return form.space and form.space.removesuffix("::cta")


def _order(run, form, fencing):
    """Whether the access is strong (it may meet those of other threads); acquire and release count as a fence."""
    scoped = form.order in ("relaxed", fencing)
    if scoped != (form.scope is not None) or not (scoped or form.order in (None, "weak", "volatile")):
        raise PTXError("an order of memory that does not exist")
    if form.order in SYNCHRONIZING:
        run.spaces.clock.pass_fence(run.grid.blocks_of(run.executing()))
    return form.order not in (None, "weak")


def _locate(run, form, operand, threads, size, one_for_all=False):
    found = run.gather(addresses(run, operand), threads)
    if not one_for_all:
        found = np.broadcast_to(found, threads.shape)
    return run.spaces.locate(_space(form), found, threads, size, form.type.bytes)


@instruction(f"ld {ORDERS} {SPACES} ?cache=ca|cg|cs|cv|lu ?nc {HINTS} ?vector=v2|v4|v8 type={BYTES}")
def load_words(run, form, d, address):
    size, threads = _size(run, form, d), run.numbers()
    if form.nc and form.space != "global":
        raise PTXError(".nc outside of .global")
    strong = _order(run, form, "acquire")
    space, places = _locate(run, form, address, threads, size, one_for_all=True)
    words = load(places)
    if space == "global":
        run.spaces.count("load", places, size, threads)
    run.spaces.watch(space, places, size, threads, stores=False, strong=strong, constant=form.nc)
    for item, column in zip(_items(d), words.T, strict=True):
        run.write(item, run.scatter(np.ascontiguousarray(column), threads), form.type, extend=True)


@instruction(f"st {ORDERS} {SPACES} ?cache=wb|cg|cs|wt {HINTS} ?vector=v2|v4|v8 type={BYTES}")
def store_words(run, form, address, source):
    size, threads, bits = _size(run, form, source), run.numbers(), TYPES[f"b{form.type.bits}"]
    if form.space in ("const", "param"):
        raise PTXError(f"a store to .{form.space}")
    strong = _order(run, form, "release")
    words = np.empty((threads.size, len(_items(source))), bits.word)
    for i, item in enumerate(_items(source)):
        words[:, i] = run.gather(run.words(item, bits, wider=True), threads)
    space, places = _locate(run, form, address, threads, size)
    if space == "global":
        run.spaces.count("store", places, size, threads)
    run.spaces.watch(space, places, size, threads, stores=True, strong=strong)
    store(places, words)


def _inc(old, b):
    return np.where(old >= b, old.dtype.type(0), old + old.dtype.type(1))


def _dec(old, b):
    return np.where((old == 0) | (old > b), b, old - old.dtype.type(1))


ATOMIC = {"add": np.add, "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor, "exch": lambda old, b: b,
          "inc": _inc, "dec": _dec, "min": np.minimum, "max": np.maximum}
ATOMIC_ORDERS = "?order=relaxed|acquire|release|acq_rel ?scope=cta|cluster|gpu|sys ?space=global|shared|shared::cta"


@instruction(f"atom {ATOMIC_ORDERS} op=exch type=b32|b64")
def atomic(run, form, d, address, b):
    run.write(d, _atomically(run, form, address, ATOMIC[form.op], b), form.type)


def reduction(run, form, address, b):
    _atomically(run, form, address, ATOMIC[form.op], b)


for _operations in ("op=add type=u32|s32|u64|f32|f64", "op=min|max type=u32|s32|u64|s64", "op=and|or|xor type=b32|b64",
                    "op=inc|dec type=u32"):
    instruction(f"atom {ATOMIC_ORDERS} {_operations}")(atomic)
    instruction(f"red {ATOMIC_ORDERS} {_operations}")(reduction)


@instruction(f"atom {ATOMIC_ORDERS} op=cas type=b32|b64")
def compare_and_swap(run, form, d, address, b, c):
    old = _atomically(run, form, address, lambda old, b, c: np.where(old == b, c, old), b, c)
    run.write(d, old, form.type)


def _atomically(run, form, address, function, *operands):
    """Update memory thread by thread, in their order (a GPU has none); returns the words found there."""
    type, threads = form.type, run.numbers()
    if form.order in SYNCHRONIZING:
        run.spaces.clock.pass_fence(run.grid.blocks_of(threads))
    space, places = _locate(run, form, address, threads, type.bytes)
    run.spaces.watch(space, places, type.bytes, threads, stores=True, atomic=True)
    values = [np.broadcast_to(run.gather(run.read(operand, type), threads), threads.shape) for operand in operands]
    if form.op == "add" and type.name == "f32" and space != "shared":
        function = _flushed_add  # on global memory, says the manual
    old = np.empty(threads.size, type.word)
    for place in places:
        if not place.table.flags.writeable:
            raise PTXError("an atomic operation on a read-only array")
        for i, row in zip(np.arange(threads.size)[place.which], place.rows, strict=True):
            old[i] = place.table[row, 0]
            new = function(decode(old[i:i + 1], type), *(value[i:i + 1] for value in values))
            place.table[row, 0] = encode(new, type)[0]
    return run.scatter(old, threads)


def _flushed_add(old, b):
    return flush(flush(old) + flush(b))
