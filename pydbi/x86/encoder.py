"""Single instructions as bytes, where an assembler would be slow or wrong.

Keystone encodes an absolute GS operand as RIP-relative, so these are written by hand; tests ask
Capstone for a second opinion. Register numbers are those of :mod:`pydbi.x86.registers`.
"""

from __future__ import annotations

_GS = 0x65
_REX_W, _REX_R, _REX_B = 0x48, 0x04, 0x01
_SIB_ABSOLUTE = 0x25  # no base, no index: a plain 32-bit address


def store_gs(register: int, displacement: int) -> bytes:
    """mov gs:[displacement], register"""
    return _move_gs(0x89, register, displacement)


def load_gs(register: int, displacement: int) -> bytes:
    """mov register, gs:[displacement]"""
    return _move_gs(0x8B, register, displacement)


def _move_gs(opcode: int, register: int, displacement: int) -> bytes:
    rex = _REX_W | (_REX_R if register & 8 else 0)
    modrm = (register & 7) << 3 | 0x04
    return bytes((_GS, rex, opcode, modrm, _SIB_ABSOLUTE)) + displacement.to_bytes(4, "little")


def move_immediate(register: int, value: int) -> bytes:
    """movabs register, value"""
    rex = _REX_W | (_REX_B if register & 8 else 0)
    return bytes((rex, 0xB8 | register & 7)) + (value & (1 << 64) - 1).to_bytes(8, "little")


def add_register(register: int, addend: int) -> bytes:
    """lea register, [register + addend], which adds and leaves the flags alone.

    *register* must not be rbp or r13, and *addend* not rsp: their encodings mean something else.
    """
    rex = _REX_W | (_REX_R | _REX_B if register & 8 else 0) | (0x02 if addend & 8 else 0)
    modrm = (register & 7) << 3 | 0x04
    return bytes((rex, 0x8D, modrm, (addend & 7) << 3 | register & 7))
