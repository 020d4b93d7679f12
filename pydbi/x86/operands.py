"""Memory operands: taken out of an instruction, and put into others.

The forms here are absolute or have registers; operands relative to RIP are the caller's, who knows
where the code will lie.
"""

from __future__ import annotations

from typing import Final

from pydbi.host.late import load
from pydbi.tuples import NamedTuple
from pydbi.x86.instruction import EVEX, LEGACY, VEX2, Instruction
from pydbi.x86.registers import RSP

_REX = 0x40
_REX_W, _REX_R, _REX_X, _REX_B = 8, 4, 2, 1
_GS: Final = 0x65
_ADDRESS_SIZE: Final = 0x67
_ABSOLUTE: Final = b"\x04\x25"  # ModRM and SIB of a plain 32-bit address, reg field 0


class Operand(NamedTuple):
    """A memory operand.

    Attributes:
        base, index: numbers of general registers, or None.
        displacement: signed; already scaled.
        segment: 0x64 (FS) or 0x65 (GS), or 0.
        narrow: addresses are computed in 32 bits.
    """

    base: int | None
    index: int | None = None  # type: ignore[assignment]  # hides tuple.index
    scale: int = 1
    displacement: int = 0
    segment: int = 0
    narrow: bool = False


def operand_of(instruction: Instruction) -> Operand:
    """Return the ModRM operand of *instruction*, which must have one in memory.

    Of one relative to RIP only displacement, segment and narrow mean something; of a gather or
    scatter, index is the number of a vector register (see `vector_index`).
    """
    load("pydbi.x86.accesses")
    from pydbi.x86.accesses import displacement_scale  # its tables serve few who come here

    return Operand(
        instruction.base,
        instruction.index,
        instruction.scale,
        instruction.displacement * displacement_scale(instruction),
        instruction.segment,
        _ADDRESS_SIZE in instruction.prefixes,
    )


def vector_index(instruction: Instruction) -> int:
    """Return the number of the index register of a gather or scatter: 0-31."""
    number = instruction.code[instruction.sib_offset] >> 3 & 7
    at = instruction.opcode_offset
    if instruction.encoding == EVEX:
        number |= ~instruction.code[at - 1] << 1 & 0x10
    if instruction.encoding != VEX2:
        first = instruction.code[at - (3 if instruction.encoding == EVEX else 2)]
        number |= ~first >> 3 & 8
    return number


def vector_mask_bits(instruction: Instruction, register: int, element: int) -> bytes:
    """Return what puts the mask of a masked move without EVEX into *register* (below 8).

    Its bits are the sign bits of the mask's elements: the register in vvvv, or for maskmovq and
    maskmovdqu the one in rm.
    """
    if element > 1:
        wide = element == 8  # vmovmskpd, else vmovmskps
        length = instruction.code[instruction.opcode_offset - 1] & 4
        return _vex_move(0x50, register, instruction.vvvv or 0, length | (1 if wide else 0))
    mask = instruction.rm or 0
    if instruction.encoding != LEGACY:
        return _vex_move(0xD7, register, mask, 1)  # vpmovmskb
    prefix = b"\x66" if 0x66 in instruction.prefixes else b""
    rex = bytes((_REX | _REX_B,)) if mask & 8 else b""
    return prefix + rex + bytes((0x0F, 0xD7, 0xC0 | register << 3 | mask & 7))


def _vex_move(opcode: int, register: int, vector: int, low: int) -> bytes:
    """Return an instruction of VEX map 1 with two registers; *low* is L and pp."""
    first = 0xC1 if vector & 8 else 0xE1
    return bytes((0xC4, first, 0x78 | low, opcode, 0xC0 | register << 3 | vector & 7))


def with_operand(
    opcode: bytes, register: int, operand: Operand, *, wide: bool = True, segment: int = 0
) -> bytes:
    """Return the instruction *opcode* with *register* in its reg field and a memory operand.

    Args:
        opcode: without prefixes: ``b"\\x8d"`` is lea, ``b"\\x0f\\xb6"`` movzx from a byte.
        wide: REX.W.
        segment: the override to use; that of *operand* is not looked at.
    """
    base, index, displacement = operand.base, operand.index, operand.displacement
    rex = (_REX_W if wide else 0) | (_REX_R if register & 8 else 0)
    if index is not None and index & 8:
        rex |= _REX_X
    if base is not None and base & 8:
        rex |= _REX_B
    prefixes = (bytes((segment,)) if segment else b"") + (b"\x67" if operand.narrow else b"")
    head = prefixes + (bytes((_REX | rex,)) if rex else b"") + opcode
    reg = (register & 7) << 3
    if base is None:
        size, mod, low = 4, 0, 5
    elif not displacement and base & 7 != 5:
        size, mod, low = 0, 0, base & 7
    elif -128 <= displacement < 128:
        size, mod, low = 1, 0x40, base & 7
    else:
        size, mod, low = 4, 0x80, base & 7
    if base is None or index is not None or low == RSP:
        scale = operand.scale.bit_length() - 1
        middle = 4 if index is None else index & 7
        form = bytes((mod | reg | 4, scale << 6 | middle << 3 | low))
    else:
        form = bytes((mod | reg | low,))
    return head + form + displacement.to_bytes(size, "little", signed=True)


# Stores to the context, whose displacement is filled in later: it is the last four bytes.


def store_immediate(value: int) -> bytes:
    """mov qword gs:[...], a signed 32-bit value; the displacement is before the last four bytes."""
    code = bytes((_GS, _REX | _REX_W, 0xC7)) + _ABSOLUTE + bytes(4)
    return code + value.to_bytes(4, "little", signed=True)


def store_vector(register: int, length: int, *, evex: bool) -> bytes:
    """vmovups gs:[...], a vector register of *length* bytes."""
    low = register & 7
    third = length.bit_length() - 5  # 0, 1 or 2 for 16, 32 or 64
    if evex:
        first = 0x61 | (0 if register & 8 else 0x80) | (0 if register & 16 else 0x10)
        code = bytes((_GS, 0x62, first, 0x7C, third << 5 | 0x08, 0x11))
    else:
        code = bytes((_GS, 0xC5, (0 if register & 8 else 0x80) | 0x78 | third << 2, 0x11))
    return code + bytes((low << 3 | 4, _ABSOLUTE[1])) + bytes(4)


def store_opmask(register: int, *, wide: bool) -> bytes:
    """kmovq gs:[...], k; or kmovw, which every processor with AVX-512 has."""
    code = b"\xc4\xe1\xf8\x91" if wide else b"\xc5\xf8\x91"
    return bytes((_GS,)) + code + bytes((register << 3 | 4, _ABSOLUTE[1])) + bytes(4)
