"""What prefixes mean: which opcode they select, how long immediates are, which traits follow."""

from __future__ import annotations

from typing import Final

from pydbi.x86 import tables
from pydbi.x86 import traits as traits_module
from pydbi.x86.tables import DATA_ACCESS, INTERNAL_MASK, NO_ACCESS, STRING, Form
from pydbi.x86.traits import ADDR32, FLOW_MASK, FS, GS, PREFIX66_BRANCH, REP_STRING, RIP

#: The processor refuses longer instructions (SDM volume 2, section 2.3.11).
MAXIMUM_LENGTH: Final = 15

#: What the prefixes mean, as bits.
OPERAND_SIZE: Final = 1
REPEAT: Final = 2
REPEAT_NOT_EQUAL: Final = 4
REX_W: Final = 8
ADDRESS_SIZE: Final = 16
LOCK: Final = 32
OVERRIDE_GS: Final = 64
OVERRIDE_FS: Final = 128

_REPEATS: Final = REPEAT | REPEAT_NOT_EQUAL
OVERRIDES: Final = OVERRIDE_GS | OVERRIDE_FS

#: What each legacy prefix clears and sets. Of several repeat prefixes or overrides the last one
#: counts. CS, DS, ES and SS overrides mean nothing in 64-bit mode and do not cancel FS or GS.
PREFIXES: Final = {
    0x26: (0, 0),
    0x2E: (0, 0),
    0x36: (0, 0),
    0x3E: (0, 0),
    0x64: (OVERRIDES, OVERRIDE_FS),
    0x65: (OVERRIDES, OVERRIDE_GS),
    0x66: (0, OPERAND_SIZE),
    0x67: (0, ADDRESS_SIZE),
    0xF0: (0, LOCK),
    0xF2: (_REPEATS, REPEAT_NOT_EQUAL),
    0xF3: (_REPEATS, REPEAT),
}

#: Near branches, whose size a 66 prefix changes on AMD processors.
_NEAR_BRANCHES: Final = frozenset(
    (
        traits_module.JMP,
        traits_module.JCC,
        traits_module.LOOP,
        traits_module.CALL,
        traits_module.JMP_INDIRECT,
        traits_module.CALL_INDIRECT,
        traits_module.RET,
        traits_module.XBEGIN,
    )
)

#: Prefixes that may not stand before VEX, EVEX or XOP (SDM volume 2, section 2.3.3).
NOT_BEFORE_VEX: Final = OPERAND_SIZE | REPEAT | REPEAT_NOT_EQUAL | LOCK


def mandatory_prefix(flags: int) -> int:
    """Return the pp number of the prefix that selects the opcode: F2 and F3 win over 66."""
    if flags & _REPEATS:
        return tables.PREFIX_F3 if flags & REPEAT else tables.PREFIX_F2
    return flags & OPERAND_SIZE


def immediate_size(kind: str, flags: int) -> int:
    """Return the number of bytes that an immediate of *kind* takes under the prefixes *flags*."""
    return _IMMEDIATE_SIZES[kind][flags & (OPERAND_SIZE | REX_W | ADDRESS_SIZE)]


def _sized(size_16: int, size_32: int, size_64: int) -> tuple[int, ...]:
    """Return sizes by prefix flags where REX.W wins over the operand size prefix."""
    return tuple(
        size_64 if flags & REX_W else size_16 if flags & OPERAND_SIZE else size_32
        for flags in range(32)
    )


_IMMEDIATE_SIZES: Final = {
    "": (0,) * 32,
    "b": (1,) * 32,
    "w": (2,) * 32,
    "bb": (2,) * 32,
    "wb": (3,) * 32,
    "d": (4,) * 32,
    "z": _sized(2, 4, 4),
    "v": _sized(2, 4, 8),
    "j": _sized(4, 4, 4),
    "o": tuple(4 if flags & ADDRESS_SIZE else 8 for flags in range(32)),
}


def resolve_traits(form: Form, flags: int, is_memory: bool, is_rip_relative: bool) -> int:
    """Return the traits of *form* under the prefixes *flags*."""
    traits = form.traits
    result = traits & ~INTERNAL_MASK
    if is_rip_relative:
        result |= RIP | ADDR32 if flags & ADDRESS_SIZE else RIP
    if flags & OVERRIDES and (
        (is_memory and not traits & NO_ACCESS) or traits & DATA_ACCESS or form.immediate == "o"
    ):
        result |= GS if flags & OVERRIDE_GS else FS
    if traits & STRING and flags & _REPEATS:
        result |= REP_STRING
    if flags & (OPERAND_SIZE | REX_W) == OPERAND_SIZE and traits & FLOW_MASK in _NEAR_BRANCHES:
        result |= PREFIX66_BRANCH
    return result


def evex_allows(byte: int) -> bool:
    """Tell whether the last EVEX payload byte is possible: no vector has length 3.

    With b set the field is a rounding mode instead. Zeroing without a mask is #UD where an
    instruction can be masked; where it cannot, AMD processors ignore the bit, so it passes here.
    """
    return byte & 0x70 != 0x60
