"""Random bits for stochastic rounding: a hash of (seed, step, tensor, element), whatever the machine and the threads.

There is no generator and no state. A tile's `key` is made once (splitmix64, Steele, Lea and Flood 2014); an element's
32 bits are two rounds of multiply and shift of its number (as in Wellons' hash prospector, 2018). Slots have products
of them. Elements 2**32 apart in one tensor have the same bits within a step.
"""
from .bits import U32, U64

OF_SEED, OF_STEP, OF_TENSOR = U64(0x9E3779B97F4A7C15), U64(0xD1B54A32D192ED03), U64(0x8CB92BA72F3D8DD7)
FIRST, SECOND = U64(0xBF58476D1CE4E5B9), U64(0x94D049BB133111EB)
THIRTY, TWENTYSEVEN, THIRTYTWO = U64(30), U64(27), U64(32)
ELEMENT, ROUND_1, ROUND_2 = U32(0x9E3779B9), U32(0x21F0AAAD), U32(0x735A2D97)
FIFTEEN, SIXTEEN = U32(15), U32(16)
SLOTS = tuple(U32(pow(0xCC9E2D51, k, 2**32)) for k in range(64))


def key(seed, step, tensor, first=0):
    """What the bits of all elements of a tensor depend on at a step: 32 bits. `first` is the first one's number."""
    z = U64(seed)*OF_SEED + U64(step)*OF_STEP + U64(tensor)*OF_TENSOR
    z = (z ^ (z >> THIRTY))*FIRST
    z = (z ^ (z >> TWENTYSEVEN))*SECOND
    return start(U32(z >> THIRTYTWO), first)


def start(key, element):
    """Where an element's bits begin, counted modulo 2**32; the next element's begin `ELEMENT` further."""
    return U32(element)*ELEMENT + U32(key)


def mixed(x):
    """The 32 random bits that begin at x."""
    x = (x ^ (x >> SIXTEEN))*ROUND_1
    return (x ^ (x >> FIFTEEN))*ROUND_2


def word(key, element):
    """The 32 random bits of an element."""
    return mixed(start(key, element))
