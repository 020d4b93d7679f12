"""Which memory an instruction reads and writes: a pure model, by the tables of `access_maps`.

An instruction that only names an address (lea, prefetches, clflush, long no-ops) accesses nothing.
Privileged instructions and far branches, which do not execute here, are left out.
"""

from __future__ import annotations

import re
from functools import cache, lru_cache
from typing import Final

from pydbi.tuples import NamedTuple
from pydbi.types import MemoryAccessFlags
from pydbi.x86 import access_maps, access_maps_vector
from pydbi.x86.instruction import EVEX, LEGACY, XOP, Instruction, scan
from pydbi.x86.tables import PREFIX_66, PREFIX_F2, PREFIX_F3, PREFIX_NONE, parse_lines
from pydbi.x86.traits import REP_STRING

__all__ = ["Access", "accesses", "accesses_of", "displacement_scale", "vector_length"]

#: Where an access is (`Access.place`).
OPERAND: Final = "operand"  # ModRM's operand, `offset` bytes behind it
PUSH: Final = "push"  # rsp before the instruction, less the size
POP: Final = "pop"  # rsp before the instruction
FRAME: Final = "frame"  # rbp before the instruction
ENTER: Final = "enter"  # the frame pointers that enter copies: read below rbp, written below rsp
SOURCE: Final = "source"  # rsi
DESTINATION: Final = "destination"  # rdi
MASKED: Final = "masked"  # rdi, by the sign bits of a vector's bytes
TABLE: Final = "table"  # rbx + al
ABSOLUTE: Final = "absolute"  # an address in the instruction
BITS: Final = "bits"  # the operand, moved on by a register's signed bit offset
LINE: Final = "line"  # rax, rounded down to a multiple of 64
REGISTER: Final = "register"  # the register in ModRM's reg field
VECTOR: Final = "vector"  # one address for each element of an index vector
TILE: Final = "tile"  # rows of an AMX tile, the index register being the distance between them

_UNKNOWN_VALUE = MemoryAccessFlags.MEMORY_UNKNOWN_VALUE
_UNKNOWN_SIZE = MemoryAccessFlags.MEMORY_UNKNOWN_SIZE
_MINIMUM_SIZE = MemoryAccessFlags.MEMORY_MINIMUM_SIZE


class Access(NamedTuple):
    """One memory access of an instruction.

    Attributes:
        is_write: it writes; else it reads.
        place: where: one of the names above.
        size: bytes, of one element for VECTOR and ENTER; 0 if only known at run time.
        offset: bytes to add to the operand's address: pop [rsp] counts from rsp afterwards.
        element: bytes that one bit of a mask stands for, or 0 if there is none.
        packing: ``%`` masked elements stay in their places, ``&`` those selected lie close
            together, ``~`` the whole access takes place if any is selected; "" without a mask.
        elements: how many: of VECTOR, of a mask, or values that ENTER copies or stores.
        repeated: a string instruction with a repeat prefix: `size` is that of one repetition.
        flags: what cannot be known about the access.
    """

    is_write: bool
    place: str
    size: int
    offset: int = 0
    element: int = 0
    packing: str = ""
    elements: int = 0
    repeated: bool = False
    flags: MemoryAccessFlags = MemoryAccessFlags.MEMORY_NO_FLAGS


class _Pattern(NamedTuple):
    """One property of a table line."""

    is_write: bool
    size: str
    packing: str
    element: str
    at_least: bool
    place: str


_PROPERTY: Final = re.compile(r"([rw])(\d+|[a-zA-Z])(?:([%&~!])(\w)?)?(\+)?(?:@(\w+))?")
_Key = tuple[int, int, int]
_ANY: Final = -1


def _pattern(word: str) -> _Pattern:
    match = _PROPERTY.fullmatch(word)
    assert match, word
    direction, size, packing, element, plus, place = match.groups("")
    return _Pattern(direction == "w", size, packing, element, bool(plus), place or OPERAND)


def _parse(specification: str) -> dict[_Key, tuple[_Pattern, ...]]:
    """Return patterns by (pp, opcode, ModRM byte or _ANY)."""
    found: dict[_Key, tuple[_Pattern, ...]] = {}
    for opcodes, prefixes, modrms, properties in parse_lines(specification):
        patterns = tuple(map(_pattern, properties))
        keys = ((p, o, m) for p in prefixes for o in opcodes for m in modrms or (_ANY,))
        found.update(dict.fromkeys(keys, patterns))
    return found


_LEGACY: Final = (
    access_maps.ONE_BYTE,
    access_maps.TWO_BYTE,
    access_maps.THREE_BYTE_38,
    access_maps.THREE_BYTE_3A,
)


@cache
def _map(encoding: int, number: int) -> dict[_Key, tuple[_Pattern, ...]]:
    """Return the patterns of an opcode map, read when its first instruction is asked about."""
    if encoding == LEGACY:
        return _parse(_LEGACY[number])
    name = {EVEX: "EVEX", XOP: "XOP"}.get(encoding, "VEX")
    return _parse(getattr(access_maps_vector, f"{name}_{number}", ""))


def _patterns(instruction: Instruction) -> tuple[_Pattern, ...]:
    encoding, opcode = instruction.encoding, instruction.opcode
    if encoding == LEGACY:
        table, prefix = _map(LEGACY, instruction.opcode_map), _legacy_prefix(instruction.prefixes)
    else:
        table, prefix = _map(encoding, instruction.opcode_map), instruction.payload_prefix
    patterns = table.get((prefix, opcode, _ANY), ())
    if instruction.modrm is not None:
        patterns = table.get((prefix, opcode, instruction.modrm), patterns)
    return patterns


def _legacy_prefix(prefixes: bytes) -> int:
    """Return the pp number that legacy prefixes stand for."""
    last = max(prefixes.rfind(0xF3), prefixes.rfind(0xF2))
    if last >= 0:
        return PREFIX_F3 if prefixes[last] == 0xF3 else PREFIX_F2
    return PREFIX_66 if 0x66 in prefixes else PREFIX_NONE


def vector_length(instruction: Instruction) -> int:
    """Return the length of the vectors it works on in bytes: 16, 32 or 64."""
    if instruction.encoding == LEGACY:
        return 16
    last_payload = instruction.code[instruction.opcode_offset - 1]
    if instruction.encoding == EVEX:
        return 16 << (last_payload >> 5 & 3)
    return 32 if last_payload & 4 else 16


def _sizes(instruction: Instruction) -> dict[str, int]:
    """Return what each letter of the tables stands for in *instruction*."""
    wide = instruction.wide
    short = 0x66 in instruction.prefixes and not wide
    length = vector_length(instruction)
    return {
        "": 0,
        "v": 8 if wide else 2 if short else 4,
        "y": 8 if wide else 4,
        "k": 2 if short else 8,
        "m": 2 if short else 4,
        "V": length,
        "h": length // 2,
        "q": length // 4,
        "e": length // 8,
        "H": length if wide else length // 2,
        "D": 8 if length == 16 else length,
        "u": 2 if wide else 1,
        "f": 8 if wide else 2,
        "g": 4 if wide else 1,
        "c": 16 if wide else 8,
        "p": 10 if wide else 4 if short else 6,
        "E": 14 if short else 28,
        "S": 94 if short else 108,
    }


_KNOWN_SIZES: Final = frozenset((1, 2, 4, 8))
"""Accesses of these sizes have their values recorded."""
_OPERAND_PLACES: Final = frozenset((OPERAND, BITS, VECTOR, TILE, REGISTER))
_BROADCAST: Final = 0x10  # EVEX.b
_VECTOR_SIZES: Final = frozenset("VhqeHD")


def accesses(instruction: Instruction) -> tuple[Access, ...]:
    """Return the memory accesses of *instruction*, reads first; () if it accesses nothing."""
    patterns = _patterns(instruction)
    if not patterns:
        return ()
    is_memory = instruction.is_memory
    sizes = _sizes(instruction)
    found = [
        _access(instruction, pattern, sizes)
        for pattern in patterns
        if is_memory or pattern.place not in _OPERAND_PLACES
    ]
    return tuple(access for access in found if access is not None)


def _access(instruction: Instruction, pattern: _Pattern, sizes: dict[str, int]) -> Access | None:
    size = sizes.get(pattern.size) or int(pattern.size)
    element = sizes.get(pattern.element) or int(pattern.element or 0)
    place = pattern.place
    if place == VECTOR:
        count = _index_count(instruction, size)
        return Access(pattern.is_write, place, size, 0, size, "%", count)
    if instruction.encoding == EVEX:
        return _evex_access(instruction, pattern, size, element)
    if place == ENTER:
        return _enter_access(instruction, pattern.is_write, size)
    known = size in _KNOWN_SIZES and not element
    flags = MemoryAccessFlags.MEMORY_NO_FLAGS if known else _UNKNOWN_VALUE
    if pattern.at_least:
        flags |= _MINIMUM_SIZE
    if not size:
        flags = _UNKNOWN_SIZE | _UNKNOWN_VALUE
    if element:
        count = size // element
        return Access(pattern.is_write, place, size, 0, element, "%", count, flags=flags)
    repeated = bool(instruction.traits & REP_STRING)
    offset = size if place == OPERAND and _pops_to_stack(instruction) else 0
    return Access(pattern.is_write, place, size, offset, repeated=repeated, flags=flags)


def _evex_access(instruction: Instruction, pattern: _Pattern, size: int, element: int) -> Access:
    """Return an access that may be masked, or a broadcast of one element."""
    control = instruction.code[instruction.opcode_offset - 1]
    packing = pattern.packing
    whole = packing == "!"
    is_vector = pattern.size in _VECTOR_SIZES
    packing = "" if whole else packing or "%"
    element = element or (_sizes(instruction)["y"] if is_vector else size)
    elements = (vector_length(instruction) if packing == "~" else size) // element
    if control & _BROADCAST and is_vector:
        size = element
        packing = packing and "~"
    flags = MemoryAccessFlags.MEMORY_NO_FLAGS if size in _KNOWN_SIZES else _UNKNOWN_VALUE
    if whole or not control & 7:
        return Access(pattern.is_write, pattern.place, size, flags=flags)
    flags |= _UNKNOWN_VALUE
    return Access(pattern.is_write, pattern.place, size, 0, element, packing, elements, flags=flags)


def _index_count(instruction: Instruction, size: int) -> int:
    """Return how many elements of *size* bytes a gather or scatter moves."""
    index_size = 8 if instruction.opcode & 1 else 4
    return vector_length(instruction) // max(size, index_size)


def _enter_access(instruction: Instruction, is_write: bool, size: int) -> Access | None:
    """Enter stores rbp, copies level - 1 frame pointers, and stores the new one."""
    level = instruction.code[instruction.imm_offset + 2] & 31
    count = 1 + level if is_write else max(level - 1, 0)
    return Access(is_write, ENTER, size, elements=count) if count else None


def _pops_to_stack(instruction: Instruction) -> bool:
    """Whether it is a pop whose operand counts from rsp, which is its value afterwards."""
    return (
        instruction.opcode == 0x8F
        and instruction.opcode_map == 0
        and instruction.encoding == LEGACY
        and instruction.base == 4
    )


def displacement_scale(instruction: Instruction) -> int:
    """Return by what EVEX multiplies a one-byte displacement (SDM volume 2, section 2.7.5)."""
    if instruction.encoding != EVEX or instruction.disp_size != 1:
        return 1
    sizes = _sizes(instruction)
    for pattern in _patterns(instruction):
        element = sizes.get(pattern.element) or int(pattern.element or 0)
        if pattern.packing == "&":
            return element
        broadcast = instruction.code[instruction.opcode_offset - 1] & _BROADCAST
        if broadcast and pattern.size in _VECTOR_SIZES:
            return element or sizes["y"]
        return sizes.get(pattern.size) or int(pattern.size)
    return sizes["y"]  # the prefetches of gathers and scatters


@lru_cache(maxsize=1 << 16)
def accesses_of(code: bytes) -> tuple[Access, ...]:
    """Return the memory accesses of the instruction whose bytes are *code*, remembered.

    Raises:
        DecodeError: they are not an instruction.
    """
    return accesses(scan(code))
