"""Memory through GS that no ModRM operand names: string instructions, xlat, and the like.

A string instruction runs as it is, but for the override: the guest's GS base is added to rsi
before it and subtracted behind it. A fault in the middle leaves rdi, rcx and the flags as the
processor leaves them, and rsi with the base added.

With a 67 prefix addresses wrap at 4 GiB before the base is added. So a loop computes each
element's own, from the low halves of rsi and rdi, whose whole values rest in slots: an element that
faults has changed nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydbi.jit.patch_operands import (
    GUEST_GS,
    SLOT_0,
    SLOT_1,
    Special,
    add_gs_base,
    emit_with_scratch,
    prefixes_without_segment,
)
from pydbi.x86.encoder import load_gs, move_immediate, store_gs
from pydbi.x86.instruction import Instruction, decode, scan
from pydbi.x86.registers import R11, RAX, RDI, RSI
from pydbi.x86.traits import REP_STRING

if TYPE_CHECKING:
    from pydbi.jit.draft import Draft

_ADDRESS_SIZE = 0x67
_REPEATS = (0xF2, 0xF3)
_XLAT = 0xD7
_MOVES = {0xA0: 0x8A, 0xA1: 0x8B, 0xA2: 0x88, 0xA3: 0x89}
"""mov between rax and a 64-bit offset, and the same with a ModRM operand."""
_STRINGS_WITH_RDI = frozenset((0xA4, 0xA5, 0xA6, 0xA7))  # movs, cmps; not lods, outs
_COMPARISONS = frozenset((0xA6, 0xA7))
_UMONITOR = (1, 0xAE)
_POINTERS = {
    (1, 0x01): RAX,  # monitor, monitorx, clzero
    (1, 0xF7): RDI,  # maskmovq, maskmovdqu
}
"""The register that is the address, by opcode map and opcode."""

_LOOP = {0: 0xE2, 0xF2: 0xE0, 0xF3: 0xE1}
"""loop, loopne and loope, by what a comparison is repeated with."""
_JECXZ = b"\x67\xe3"
_ESI_ALONE = b"\x89\xf6"  # mov esi, esi: the upper half of rsi is zero
_EDI_ALONE = b"\x89\xff"

GS_BASE_CODE_SIZE = len(add_gs_base(RSI, R11))
"""How far before a string instruction the code begins that adds the base for it."""


def emit_gs_implied(draft: Draft, special: Special) -> None:
    """Memory through GS without an operand: the base is added to the register that points there."""
    start, end = special[0], special[1]
    instruction = scan(draft.code, start, draft.app + start)
    kind = instruction.opcode_map, instruction.opcode
    if kind in _POINTERS:
        _emit_pointer(draft, instruction, _POINTERS[kind])
    elif kind == _UMONITOR:
        _emit_umonitor(draft, instruction)
    elif instruction.opcode == _XLAT:
        _emit_xlat(draft, instruction)
    elif instruction.opcode in _MOVES:
        _emit_absolute(draft, instruction)
    elif _ADDRESS_SIZE in instruction.prefixes:
        _emit_narrow_string(draft, instruction)
    else:
        _emit_string(draft, instruction)
    draft.shift(end)


def _is_narrow(instruction: Instruction) -> bool:
    return _ADDRESS_SIZE in instruction.prefixes


# String instructions.


def is_between_elements(code: bytes) -> bool:
    """Whether *code*, from a repeated string instruction's translation, is where elements begin."""
    instruction = decode(code, 0)
    repeats = not isinstance(instruction, int) and bool(instruction.traits & REP_STRING)
    return repeats or code.startswith(_JECXZ)


def _repeat_of(instruction: Instruction) -> int:
    """Return the repeat prefix in force, the last one, or 0."""
    return next((b for b in reversed(instruction.prefixes) if b in _REPEATS), 0)


def _element(instruction: Instruction) -> bytes:
    """The string instruction for one element, through DS, with 64-bit addresses."""
    size = b"\x66" if 0x66 in instruction.prefixes else b""
    rex = bytes((instruction.rex,)) if instruction.rex else b""
    return size + rex + bytes((instruction.opcode,))


def _subtract_gs_base() -> bytes:
    return (
        store_gs(R11, SLOT_1)
        + load_gs(R11, GUEST_GS)
        + b"\x49\xf7\xd3"  # not r11, which leaves the flags alone
        + b"\x4a\x8d\x74\x1e\x01"  # lea rsi, [rsi + r11 + 1]
        + load_gs(R11, SLOT_1)
    )


def _emit_string(draft: Draft, instruction: Instruction) -> None:
    out = draft.out
    out += add_gs_base(RSI, R11)
    repeat = _repeat_of(instruction)
    place = len(out)
    out += (bytes((repeat,)) if repeat else b"") + _element(instruction)
    draft.rests(place, len(out), RSI, -GUEST_GS)
    out += _subtract_gs_base()


def _emit_narrow_string(draft: Draft, instruction: Instruction) -> None:
    if not _repeat_of(instruction):
        _emit_narrow_element(draft, instruction)
        return
    compares = instruction.opcode in _COMPARISONS
    loop = _LOOP[_repeat_of(instruction) if compares else 0]
    out = draft.out
    again = len(out)
    out += _JECXZ + b"\x00"
    first = len(out)
    _emit_narrow_element(draft, instruction)
    out += bytes((_ADDRESS_SIZE, loop, again - (len(out) + 3) & 0xFF))
    out += bytes((0xEB, len(instruction.code)))  # jmp short over the next one
    out[first - 1] = len(out) - first
    out += instruction.code  # with ecx 0 it accesses nothing, but may clear upper halves


def _emit_narrow_element(draft: Draft, instruction: Instruction) -> None:
    """One element: rsi and rdi are zero-extended while it is accessed, and again behind it."""
    out = draft.out
    with_rdi = instruction.opcode in _STRINGS_WITH_RDI
    out += store_gs(RSI, SLOT_0) + _ESI_ALONE + add_gs_base(RSI, R11)
    if with_rdi:
        out += store_gs(RDI, SLOT_1) + _EDI_ALONE
    place = len(out)
    out += _element(instruction)
    draft.rests(place, len(out), RSI, SLOT_0)
    if with_rdi:
        draft.rests(place, len(out), RDI, SLOT_1)
        out += _EDI_ALONE
    out += _subtract_gs_base() + _ESI_ALONE


# One address, in a register.


def _emit_pointer(draft: Draft, instruction: Instruction, register: int) -> None:
    """The same instruction through DS, while *register*, rax or rdi, has the base added."""
    before = bytes((0x89, 0xC0 | register << 3 | register)) if _is_narrow(instruction) else b""
    body = prefixes_without_segment(instruction) + instruction.code[len(instruction.prefixes) :]
    emit_with_scratch(draft, register, before + add_gs_base(register, R11), body)


def _emit_umonitor(draft: Draft, instruction: Instruction) -> None:
    """umonitor register, whose address goes to rsi."""
    register = instruction.rm or 0
    head = 0x40 if _is_narrow(instruction) else 0x48
    move = bytes((head | register >> 3, 0x8B, 0xC0 | RSI << 3 | register & 7))
    body = prefixes_without_segment(instruction) + bytes((0x0F, 0xAE, 0xF0 | RSI))
    emit_with_scratch(draft, RSI, move + add_gs_base(RSI, RDI), body)


def _emit_xlat(draft: Draft, instruction: Instruction) -> None:
    """mov al, [rbx + al]"""
    head = b"" if _is_narrow(instruction) else b"\x48"
    before = b"\x0f\xb6\xf0" + head + b"\x8d\x34\x33"  # movzx esi, al; lea rsi, [rbx + rsi]
    emit_with_scratch(draft, RSI, before + add_gs_base(RSI, RDI), b"\x8a\x06")  # mov al, [rsi]


def _emit_absolute(draft: Draft, instruction: Instruction) -> None:
    """mov al/ax/eax/rax, gs:[offset64] and back (a0-a3)."""
    address = int.from_bytes(instruction.code[-instruction.imm_size :], "little")
    rex = bytes((instruction.rex & 0x48,)) if instruction.rex & 8 else b""
    operand = bytes((_MOVES[instruction.opcode], RAX << 3 | RSI))  # mov rax, [rsi] or back
    body = prefixes_without_segment(instruction) + rex + operand
    emit_with_scratch(draft, RSI, move_immediate(RSI, address) + add_gs_base(RSI, RDI), body)
