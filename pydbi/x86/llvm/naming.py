"""From an instruction's encoding to its LLVM opcode name."""

from __future__ import annotations

from functools import cache
from typing import Final

from pydbi.host.late import load
from pydbi.x86.instruction import EVEX, LEGACY, VEX2, VEX3, XOP, Instruction, scan
from pydbi.x86.llvm.templates import Axes, Cell, cells_of, compile_template
from pydbi.x86.prefixes import PREFIXES
from pydbi.x86.tables import PREFIX_66, PREFIX_F2, PREFIX_F3, PREFIX_NONE

__all__ = ["opcode_name", "opcode_name_of"]

#: Not the number of an opcode map: 0f 0f, where a byte behind the operands is the opcode.
_MAP_3DNOW: Final = 0x0F
#: Module and names of the tables of each opcode map, by encoding and map.
_TABLES: Final = {
    (LEGACY, 0): (("integer", "ONE_BYTE"), ("x87", "X87")),
    (LEGACY, 1): (("integer", "TWO_BYTE"), ("simd", "SIMD_0F")),
    (LEGACY, 2): (("simd", "SIMD_0F38"),),
    (LEGACY, 3): (("simd", "SIMD_0F3A"),),
    (LEGACY, _MAP_3DNOW): (("xop", "AMD_3DNOW"),),
    (VEX3, 1): (("vex", "VEX_0F"),),
    (VEX3, 2): (("vex", "VEX_0F38"),),
    (VEX3, 3): (("vex", "VEX_0F3A"),),
    (XOP, 8): (("xop", "XOP_8"),),
    (XOP, 9): (("xop", "XOP_9"),),
    (XOP, 10): (("xop", "XOP_10"),),
    (EVEX, 1): (("evex", "EVEX_0F"),),
    (EVEX, 2): (("evex", "EVEX_0F38"),),
    (EVEX, 3): (("evex_more", "EVEX_0F3A"),),
    (EVEX, 5): (("evex_more", "EVEX_5"),),
    (EVEX, 6): (("evex_more", "EVEX_6"),),
}

#: Names by an instruction's bytes, and by its bytes up to ModRM, which determine the name. Both are
#: emptied when they have grown to the limit: what a program uses often is soon there again.
_names: dict[bytes, str] = {}
_names_by_head: dict[bytes, str] = {}
_LIMIT: Final = 1 << 16

_OPERAND_SIZE: Final = 0x66
_ADDRESS_SIZE: Final = 0x67
_REPEATS: Final = {0xF2: PREFIX_F2, 0xF3: PREFIX_F3}
_NOP: Final = 0x90
_XCHG: Final = 0x91
_3DNOW: Final = 0x0F

#: How far behind a byte that an instruction begins with the opcode is; _AGAIN for a prefix, which
#: says nothing about that, _ESCAPE where the next byte decides.
_AGAIN: Final = 0xFF
_ESCAPE: Final = 0xFE
_TO_OPCODE: Final = bytes(
    _AGAIN
    if byte in PREFIXES or byte & 0xF0 == 0x40
    else {0x0F: _ESCAPE, 0x62: 4, 0x8F: 3, 0xC4: 3, 0xC5: 2}.get(byte, 0)
    for byte in range(256)
)


def opcode_name_of(code: bytes) -> str:
    """Return the LLVM opcode name of the instruction *code*.

    Names are remembered by *code*, so it must be the instruction's own bytes and no more.

    Raises:
        DecodeError: *code* does not begin with an instruction. An incomplete one is noticed only
            when no instruction was named yet that has the same bytes up to ModRM.
    """
    name = _names.get(code)
    if name is not None:
        return name
    head = _head_of(code)
    name = _names_by_head.get(head)
    if name is None:
        name = opcode_name(scan(code))
        if len(_names_by_head) >= _LIMIT:
            _names_by_head.clear()
        _names_by_head[head] = name
    if len(_names) >= _LIMIT:
        _names.clear()
    _names[code] = name
    return name


def _head_of(code: bytes) -> bytes:
    """Return the bytes of *code* that determine its name: up to ModRM, or a byte more."""
    at = 0
    try:
        distance = _TO_OPCODE[code[0]]
        while distance == _AGAIN:
            at += 1
            distance = _TO_OPCODE[code[at]]
        if distance == _ESCAPE:
            at += 1
            second = code[at]
            if second == _3DNOW:
                return code
            distance = second in (0x38, 0x3A)
    except IndexError:
        return code
    return code[: at + distance + 2]


def opcode_name(instruction: Instruction) -> str:
    """Return the LLVM opcode name of *instruction*.

    An instruction that no table names, since LLVM does not know it, is called after its encoding:
    ``UNKNOWN_0F0F_77rm``.
    """
    modrm_offset = instruction.modrm_offset
    modrm = instruction.code[modrm_offset] if modrm_offset else 0
    encoding, opcode_map, opcode = instruction.encoding, instruction.opcode_map, instruction.opcode
    if encoding == LEGACY:
        axes, prefix = _legacy_axes(instruction, modrm)
        if opcode_map == 0 and opcode == _NOP and instruction.rex & 1:
            opcode = _XCHG
        elif opcode_map == 1 and opcode == _3DNOW:
            opcode_map, opcode = _MAP_3DNOW, instruction.code[-1]
    else:
        axes, prefix = _vector_axes(instruction, modrm)
        encoding = VEX3 if encoding == VEX2 else encoding
    for modrms, wide, template in _cells(encoding, opcode_map).get(prefix << 8 | opcode, ()):
        if (modrms is None or modrm in modrms) and (wide is None or wide == axes[1]):
            parts = compile_template(template, encoding)
            return "".join([choices[axes[axis]] for axis, choices in parts])
    return _fallback(instruction)


@cache
def _cells(encoding: int, opcode_map: int) -> dict[int, list[Cell]]:
    """Return the templates of an opcode map by ``prefix << 8 | opcode``, those in force first."""
    merged: dict[int, list[Cell]] = {}
    for module, table in _TABLES.get((encoding, opcode_map), ()):
        specification: str = getattr(load(f"pydbi.x86.llvm.{module}"), table)
        for key, cells in cells_of(specification).items():
            merged[key] = cells + merged.get(key, [])
    return merged


def _legacy_axes(instruction: Instruction, modrm: int) -> tuple[Axes, int]:
    """Return the choices of a legacy instruction, and its mandatory prefix."""
    wide = instruction.rex >> 3 & 1
    prefix, size, short_address = PREFIX_NONE, 1, 0
    for byte in instruction.prefixes:
        if byte == _OPERAND_SIZE:
            size = 0
            prefix = prefix or PREFIX_66
        elif byte == _ADDRESS_SIZE:
            short_address = 1
        elif byte in _REPEATS:
            prefix = _REPEATS[byte]
    if wide:
        size = 2
    return (int(modrm >= 0xC0), wide, short_address, modrm >> 3 & 7, size, 0, 0, 0, 0), prefix


def _vector_axes(instruction: Instruction, modrm: int) -> tuple[Axes, int]:
    """Return the choices of a VEX, XOP or EVEX instruction, and the prefix in its pp field."""
    code, opcode_offset = instruction.code, instruction.opcode_offset
    form = int(modrm >= 0xC0)
    last = code[opcode_offset - 1]
    if instruction.encoding != EVEX:
        wide = int(instruction.encoding != VEX2 and last >> 7)
        return (form, wide, last >> 2 & 1, modrm >> 3 & 7, 1, 0, 0, 0, 0), last & 3
    payload = code[opcode_offset - 2]
    embedded = last >> 4 & 1
    # Rounding stands where the vector length would: that is 512 bits then.
    length = 2 if embedded and form else last >> 5 & 3
    masking = 2 if last & 0x80 else int(last & 7 > 0)
    broadcast, rounding = embedded & ~form, embedded & form
    reg = modrm >> 3 & 7
    axes = (form, payload >> 7, length, reg, 1, embedded, broadcast, rounding, masking)
    return axes, payload & 3


def _fallback(instruction: Instruction) -> str:
    """Return the name of an instruction that no table names."""
    spaces = {LEGACY: "", VEX2: "VEX", VEX3: "VEX", XOP: "XOP", EVEX: "EVEX"}
    maps = ("", "0F", "0F38", "0F3A")
    number = instruction.opcode_map
    space = spaces[instruction.encoding] + (maps[number] if number < 4 else str(number))
    form = "" if instruction.modrm is None else "rm" if instruction.is_memory else "rr"
    return "_".join(filter(None, ("UNKNOWN", space, f"{instruction.opcode:02X}{form}")))
