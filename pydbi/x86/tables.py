"""The opcode maps as lookup tables, made from `pydbi.x86.opcode_maps` and `opcode_maps_vex`."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Final

from pydbi.tuples import NamedTuple
from pydbi.x86 import opcode_maps, opcode_maps_vex
from pydbi.x86 import traits as _traits

#: Internal properties, in bits that no trait uses.
LOCKABLE: Final = 1 << 24
STRING: Final = 1 << 25
DATA_ACCESS: Final = 1 << 26
NO_ACCESS: Final = 1 << 27
INTERNAL_MASK: Final = LOCKABLE | STRING | DATA_ACCESS | NO_ACCESS

#: Kinds of ModRM.
NO_MODRM: Final = 0
MODRM: Final = 1
MODRM_REGISTERS: Final = 2

#: Mandatory prefixes as EVEX and VEX number them (pp field, SDM table 2-9 "VEX.pp").
PREFIX_NONE: Final = 0
PREFIX_66: Final = 1
PREFIX_F3: Final = 2
PREFIX_F2: Final = 3


class Form(NamedTuple):
    """What follows an opcode and what it does; equal forms share one number."""

    modrm: int
    immediate: str
    traits: int


#: Form numbers fit a byte, so that a map is a `bytes`. Zero is no instruction; numbers from
#: FIRST_GROUP on stand for a group, which is decided by the ModRM byte.
INVALID: Final = 0
FIRST_GROUP: Final = 128

FORMS: Final[list[Form | None]] = [None]
GROUPS: Final[list[bytes]] = []
_FORM_NUMBERS: Final[dict[Form, int]] = {}

_IMMEDIATES: Final = frozenset(("b", "w", "bb", "wb", "z", "v", "o", "j", "d"))
_PREFIX_SELECTORS: Final = {
    "np": PREFIX_NONE,
    "66": PREFIX_66,
    "f3": PREFIX_F3,
    "f2": PREFIX_F2,
}
_PROPERTIES: Final = {
    "LOCK": LOCKABLE,
    "STRING": STRING,
    "DATA": DATA_ACCESS,
    "ADDRESS": NO_ACCESS,
}


@cache
def _numbers(text: str) -> tuple[int, ...]:
    """Return the numbers of ``"1,a-c"``."""
    numbers: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        numbers += range(int(first, 16), int(last or first, 16) + 1)
    return tuple(numbers)


def _form_number(properties: list[str]) -> int:
    """Return the number of the form that *properties* describe, a new one if need be."""
    if properties == ["INVALID"]:
        return INVALID
    modrm, immediate, bits = NO_MODRM, "", 0
    for word in properties:
        if word in _IMMEDIATES:
            immediate = word
        elif word in ("M", "R"):
            modrm = MODRM if word == "M" else MODRM_REGISTERS
        else:
            bits |= _PROPERTIES.get(word) or getattr(_traits, word)
    form = Form(modrm, immediate, bits)
    number = _FORM_NUMBERS.get(form)
    if number is None:
        if len(FORMS) == FIRST_GROUP:
            raise OverflowError("more forms than there are numbers below FIRST_GROUP")
        FORMS.append(form)
        _FORM_NUMBERS[form] = number = FORMS.index(form)
    return number


@cache
def _modrm_selection(word: str) -> frozenset[int]:
    """Return the ModRM bytes that a selector names."""
    if word == "mem":
        return frozenset(range(0xC0))
    if word == "reg":
        return frozenset(range(0xC0, 0x100))
    numbers = frozenset(_numbers(word[1:]))
    if word[0] == "=":
        return numbers
    return frozenset(
        mod << 6 | number << 3 | rm for mod in range(4) for number in numbers for rm in range(8)
    )


def _group_number(cell: bytearray) -> int:
    """Return the number of the group that *cell* is, a new one if need be."""
    group = bytes(cell)
    if group not in GROUPS:
        GROUPS.append(group)
    return FIRST_GROUP + GROUPS.index(group)


class Line(NamedTuple):
    """One line of a specification: what it is about and what it says."""

    opcodes: list[int]
    prefixes: list[int]
    modrms: frozenset[int] | None
    properties: list[str]


def parse_lines(specification: str) -> Iterator[Line]:
    """Yield the lines of a specification in the language of `pydbi.x86.opcode_maps`."""
    for line in filter(None, specification.split("\n")):
        left, _, right = line.partition(":")
        opcodes: list[int] = []
        prefixes: list[int] = []
        modrms: frozenset[int] | None = None
        for word in left.split():
            if word in ("mem", "reg") or word[0] in "/=":
                chosen = _modrm_selection(word)
                modrms = chosen if modrms is None else modrms & chosen
            elif opcodes and word in _PREFIX_SELECTORS:
                prefixes.append(_PREFIX_SELECTORS[word])
            else:
                opcodes.extend(_numbers(word))
        yield Line(opcodes, prefixes or [0, 1, 2, 3], modrms, right.split())


Forms = tuple[bytes, bytes, bytes, bytes]
"""Form numbers by opcode, once for each mandatory prefix."""


def _parse(specification: str) -> Forms:
    """Return what a specification says."""
    cells: list[list[int | bytearray]] = [[INVALID] * 256 for _ in range(4)]
    for opcodes, prefixes, modrms, properties in parse_lines(specification):
        form = _form_number(properties)
        for prefix in prefixes:
            row = cells[prefix]
            for opcode in opcodes:
                cell = row[opcode]
                if modrms is None:
                    row[opcode] = form
                    continue
                if isinstance(cell, int):
                    row[opcode] = cell = bytearray((cell,)) * 256
                for modrm in modrms:
                    cell[modrm] = form
    none, osz, rep, repne = (
        bytes([cell if isinstance(cell, int) else _group_number(cell) for cell in row])
        for row in cells
    )
    return none, osz, rep, repne


#: Numbers of the maps, as the automaton and `Instruction.opcode_map` use them. VEX and EVEX number
#: 0f, 0f 38 and 0f 3a 1, 2 and 3.
MAP_ONE_BYTE: Final = 0
MAP_0F: Final = 1
MAP_0F38: Final = 2
MAP_0F3A: Final = 3


class Maps(dict[int, Forms]):
    """The maps of one encoding by number, each made when it is first asked for.

    Threads may ask at the same time: what is made twice is equal.
    """

    def __init__(self, specifications: dict[int, str]) -> None:
        super().__init__()
        self._specifications = specifications

    def __contains__(self, number: object) -> bool:
        return number in self._specifications

    def __missing__(self, number: int) -> Forms:
        self[number] = forms = _parse(self._specifications[number])
        return forms


LEGACY_MAPS: Final = Maps(
    {
        MAP_ONE_BYTE: opcode_maps.ONE_BYTE,
        MAP_0F: opcode_maps.TWO_BYTE,
        MAP_0F38: opcode_maps.THREE_BYTE_38,
        MAP_0F3A: opcode_maps.THREE_BYTE_3A,
    }
)
VEX_MAPS: Final = Maps(
    {1: opcode_maps_vex.VEX_1, 2: opcode_maps_vex.VEX_2, 3: opcode_maps_vex.VEX_3}
)
EVEX_MAPS: Final = Maps(
    {
        1: opcode_maps_vex.EVEX_1,
        2: opcode_maps_vex.EVEX_2,
        3: opcode_maps_vex.EVEX_3,
        5: opcode_maps_vex.EVEX_5,
        6: opcode_maps_vex.EVEX_6,
    }
)
XOP_MAPS: Final = Maps(
    {8: opcode_maps_vex.XOP_8, 9: opcode_maps_vex.XOP_9, 10: opcode_maps_vex.XOP_10}
)
