"""Which status flags an instruction reads, writes and leaves undefined.

The engine needs it to know whether the guest's flags are live where it puts its own code.

Source: Intel SDM volume 1, appendix A (EFLAGS cross-reference), and the instruction pages of
volume 2. Where the manual says nothing, or an instruction leaves the processor, the answer
is the safe one: everything may be read and nothing is certainly written.
"""

from __future__ import annotations

from functools import cache
from typing import Final

from pydbi.tuples import NamedTuple
from pydbi.x86.instruction import EVEX, LEGACY, XOP, Instruction
from pydbi.x86.prefixes import PREFIXES, mandatory_prefix
from pydbi.x86.tables import parse_lines
from pydbi.x86.traits import FAR, FLOW_MASK, REP_STRING, SYSCALL, TRAP

__all__ = [
    "AF",
    "ALL_FLAGS",
    "CF",
    "DF",
    "OF",
    "PF",
    "SF",
    "STATUS_FLAGS",
    "ZF",
    "FlagsEffect",
    "flags_effect",
]

#: Bits of EFLAGS (SDM volume 1, section 3.4.3).
CF: Final = 1 << 0
PF: Final = 1 << 2
AF: Final = 1 << 4
ZF: Final = 1 << 6
SF: Final = 1 << 7
DF: Final = 1 << 10
OF: Final = 1 << 11

#: The six flags that arithmetic sets.
STATUS_FLAGS: Final = CF | PF | AF | ZF | SF | OF
ALL_FLAGS: Final = STATUS_FLAGS | DF


class FlagsEffect(NamedTuple):
    """What an instruction does with the flags, as bit masks over EFLAGS.

    Attributes:
        read: the result depends on them.
        written: certainly set to a defined value, whatever the operands are.
        undefined: the manual leaves their value afterwards open.
        conditional: written or undefined only for some operands (a shift by cl may be by 0).
    """

    read: int = 0
    written: int = 0
    undefined: int = 0
    conditional: int = 0

    @property
    def may_change(self) -> int:
        """All flags whose value may be another one afterwards."""
        return self.written | self.undefined | self.conditional


NO_EFFECT: Final = FlagsEffect()
_UNKNOWN_EFFECT: Final = FlagsEffect(ALL_FLAGS, 0, 0, ALL_FLAGS)

#: What the conditions 0-15 read (SDM volume 1, appendix B); odd ones negate the one before.
_CONDITIONS: Final = tuple(
    flags for flags in (OF, CF, ZF, CF | ZF, SF, PF, SF | OF, ZF | SF | OF) for _ in range(2)
)

# The lines are in the language of `pydbi.x86.opcode_maps`; their properties are r= (read), w=
# (written), u= (undefined), ?= (conditional) with the flags' first letters, and `all`, the six
# status flags, for w=. SHIFT: decided by the count.
_ONE_BYTE: Final = """
00-05 28-2d 38-3d               : w=cpazso
08-0d 20-25 30-35               : w=cpzso u=a
10-15 18-1d                     : r=c w=cpazso
80-81 83 /0,5,7                 : w=cpazso
80-81 83 /1,4,6                 : w=cpzso u=a
80-81 83 /2-3                   : r=c w=cpazso
69 6b                           : w=co u=pazs
6c-6f a4-a5 aa-ad               : r=d
84-85 a8-a9                     : w=cpzso u=a
9c                              : r=cpazsod
9d                              : w=cpazsod
9e                              : w=cpazs
9f                              : r=cpazs
a6-a7 ae-af                     : r=d w=cpazso
c0-c1 d0-d3                     : SHIFT
da-db =c0-c7                    : r=c
da-db =c8-cf                    : r=z
da-db =d0-d7                    : r=cz
da-db =d8-df                    : r=p
db df =e8-f7                    : w=cpz ?=aso
e0-e1                           : r=z
f5                              : r=c w=c
f8-f9                           : w=c
fc-fd                           : w=d
f6-f7 /0-1                      : w=cpzso u=a
f6-f7 /3                        : w=cpazso
f6-f7 /4-5                      : w=co u=pazs
f6-f7 /6-7                      : u=cpazso
fe-ff /0-1                      : w=pazso
"""

_TWO_BYTE: Final = """
00 /4-5                         : w=z
01 mem f3 /5                    : ?=cpazso
01 =c0-c7,cf-d1,d4-d5,d8-df     : UNKNOWN
01 f3 =e8-ef                    : ?=cpazso
01 =d6                          : w=cpazso
01 f3 =ed                       : w=cpazso
01 =ee-ef                       : r=
02-03                           : w=z
2e-2f np 66                     : w=cpazso
a3 ab b3 bb                     : w=c u=paso
a4-a5 ac-ad                     : SHIFT
ae f3 mem /6                    : ?=cpazso
ae 66 f2 reg /6                 : w=cpazso
af                              : w=co u=pazs
b0-b1 c0-c1                     : w=cpazso
b8 f3                           : w=cpazso
ba                              : w=c u=paso
bc-bd np 66 f2                  : w=z u=cpaso
bc-bd f3                        : w=cz u=paso
c7 mem /1                       : w=z
c7 reg np 66 /6-7               : w=cpazso
"""

_THREE_BYTE_38: Final = """
17 66                           : w=cpazso
d8 dc-df f3                     : ?=cpazso
f6 66                           : r=c w=c
f6 f3                           : r=o w=o
f8 f3 f2                        : w=cpazso
fa-fb f3                        : w=cpazso
"""

_THREE_BYTE_3A: Final = """
60-63 66                        : w=cpazso
"""

_VEX_1: Final = """
2e-2f np 66                     : w=cpazso
98-99 np 66                     : w=cpazso
"""

_VEX_2: Final = """
0e-0f 17 66                     : w=cpazso
e0-ef 66                        : w=cpazso
f2 np                           : w=czso u=pa
f3 np                           : w=czso u=pa
f5 np                           : w=czso u=pa
f7 np                           : w=czo u=pas
"""

_EVEX_1: Final = """
2e-2f np 66 f3 f2               : w=cpazso
"""

_SHIFT: Final = "SHIFT"
_LETTERS: Final = {"c": CF, "p": PF, "a": AF, "z": ZF, "s": SF, "o": OF, "d": DF}
_FIELDS: Final = {"r": "read", "w": "written", "u": "undefined", "?": "conditional"}


def _effect(properties: list[str]) -> FlagsEffect | None:
    """Return the effect that *properties* describe; None stands for SHIFT."""
    if properties == [_SHIFT]:
        return None
    if properties == ["UNKNOWN"]:
        return _UNKNOWN_EFFECT
    masks = dict.fromkeys(_FIELDS.values(), 0)
    for word in properties:
        field, _, letters = word.partition("=")
        masks[_FIELDS[field]] = sum(_LETTERS[letter] for letter in letters)
    return FlagsEffect(**masks)


_Key = tuple[int, int, int]
_Cell = FlagsEffect | None


@cache
def _parse(specification: str) -> dict[_Key, _Cell]:
    """Return effects by (pp, opcode, ModRM byte), with ModRM -1 for "any"."""
    effects: dict[_Key, _Cell] = {}
    for opcodes, prefixes, modrms, properties in parse_lines(specification):
        effect = _effect(properties)
        for opcode in opcodes:
            for prefix in prefixes:
                for modrm in (-1,) if modrms is None else modrms:
                    effects[prefix, opcode, modrm] = effect
    return effects


_CONDITIONAL_OPCODES: Final = {(0, 0x70), (1, 0x40), (1, 0x80), (1, 0x90)}
_LEGACY_MAPS: Final = (_ONE_BYTE, _TWO_BYTE, _THREE_BYTE_38, _THREE_BYTE_3A)
_VEX_MAPS: Final = {1: _VEX_1, 2: _VEX_2, 3: _THREE_BYTE_3A}
_EVEX_MAPS: Final = {1: _EVEX_1, 5: _EVEX_1}


def flags_effect(instruction: Instruction) -> FlagsEffect:
    """Return what *instruction* does with the flags, safe for deciding whether they are live.

    A system call, a trap or a far transfer reads all flags, since the kernel shows them to
    others; a near branch reads those of its condition alone.
    """
    flow = instruction.traits & FLOW_MASK
    if flow in (SYSCALL, TRAP):
        return _UNKNOWN_EFFECT
    if flow == FAR:
        return _UNKNOWN_EFFECT
    opcode = instruction.opcode
    if instruction.encoding == LEGACY:
        if (instruction.opcode_map, opcode & 0xF0) in _CONDITIONAL_OPCODES:
            return FlagsEffect(_CONDITIONS[opcode & 15])
        effects = _parse(_LEGACY_MAPS[instruction.opcode_map])
        prefix = mandatory_prefix(_prefix_flags(instruction))
    elif instruction.encoding == XOP:
        # AMD's TBM group writes flags; it exists on five processor models only.
        return FlagsEffect(conditional=STATUS_FLAGS)
    else:
        maps = _EVEX_MAPS if instruction.encoding == EVEX else _VEX_MAPS
        effects = _parse(maps.get(instruction.opcode_map, ""))
        prefix = instruction.payload_prefix
    modrm = instruction.modrm
    effect = effects.get((prefix, opcode, -1), NO_EFFECT)
    if modrm is not None:
        effect = effects.get((prefix, opcode, modrm), effect)
    if effect is None:
        return _shift_effect(instruction)
    if instruction.traits & REP_STRING and effect.written:
        # rcx may be 0: nothing is compared and no flag is written.
        return FlagsEffect(effect.read, 0, 0, effect.written)
    return effect


def _prefix_flags(instruction: Instruction) -> int:
    """Return the meaning of the legacy prefixes, as bits."""
    flags = 0
    for byte in instruction.prefixes:
        clear, bits = PREFIXES.get(byte, (0, 0))
        flags = flags & ~clear | bits
    return flags


def _shift_effect(instruction: Instruction) -> FlagsEffect:
    """Return the effect of a shift or rotation, which depends on its count.

    A count of 0 leaves all flags alone. OF is defined for a count of 1 only, and CF of shl and shr
    for counts up to the operand's size.
    """
    opcode = instruction.opcode
    double = instruction.opcode_map == 1
    operation = 4 if double else (instruction.modrm or 0) >> 3 & 7
    size = 64 if instruction.wide else 16 if 0x66 in instruction.prefixes else 32
    if not double and not opcode & 1:
        size = 8
    read = CF if operation in (2, 3) else 0
    changed = CF | OF if operation < 4 else STATUS_FLAGS
    if opcode in (0xD0, 0xD1):
        count = 1
    elif instruction.imm_size:
        count = instruction.immediate & (63 if instruction.wide else 31)
    else:
        return FlagsEffect(read, 0, 0, changed)
    if count == 0:
        return NO_EFFECT
    undefined = 0 if count == 1 else OF
    if operation >= 4:
        undefined |= AF
        if double and count > size:
            undefined = STATUS_FLAGS
        elif not double and operation != 7 and count >= size:
            undefined |= CF
    return FlagsEffect(read, changed & ~undefined, undefined)
