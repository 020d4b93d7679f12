"""How memory operands relative to RIP or GS are reached; see :mod:`pydbi.jit.patches`."""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING

from pydbi.errors import DecodeError, UnsupportedInstruction
from pydbi.jit.context import SLOT
from pydbi.x86 import traits
from pydbi.x86.encoder import add_register, load_gs, move_immediate, store_gs
from pydbi.x86.instruction import EVEX, LEGACY, VEX2, Instruction, scan
from pydbi.x86.registers import R8, R9, R10, R11, RAX, RDI, RSI, RSP

if TYPE_CHECKING:
    from pydbi.jit.draft import Draft

Special = tuple[int, int, int, int, int]
"""Of an instruction that is not simply copied: start and end in the block's bytes, traits, offset
of its ModRM byte or 0, offset of its RIP displacement or 0; as `scan_block` gives it."""

_signed = Struct("<i").pack
_read_signed = Struct("<i").unpack_from
_REACH = 1 << 31
_WORD = (1 << 64) - 1

_SLOT_0, _SLOT_1 = SLOT["SCRATCH_0"], SLOT["SCRATCH_1"]
_GUEST_GS = SLOT["GUEST_GS"]


def rip_target(draft: Draft, special: Special) -> int:
    """Return the address of an operand relative to RIP, or to EIP."""
    displacement: int = _read_signed(draft.code, special[4])[0]
    target = draft.app + special[1] + displacement
    return target & (0xFFFFFFFF if special[2] & traits.ADDR32 else _WORD)


def emit_rip_operand(draft: Draft, special: Special) -> None:
    """[rip + displacement] in reach: only the displacement changes."""
    start, end, bits, _, displacement = special
    out = draft.out
    code = draft.code
    moved = draft.app + start - draft.base - len(out)
    distance = _read_signed(code, displacement)[0] + moved
    if -_REACH <= distance < _REACH and not bits & traits.ADDR32:
        out += code[start:displacement]
        out += _signed(distance)
        if displacement + 4 < end:
            out += code[displacement + 4 : end]
    else:
        _emit_far_operand(draft, special)


def _emit_far_operand(draft: Draft, special: Special) -> None:
    """[rip + displacement] out of reach: the address goes to a register that is saved around it."""
    start, end, _, modrm, displacement = special
    instruction = scan(draft.code, start, draft.app + start)
    target = rip_target(draft, special)
    if instruction.encoding == LEGACY and instruction.opcode == 0x8D and not instruction.opcode_map:
        draft.out += _move_address(instruction, draft.code[modrm], target)
    else:
        scratch = _free_registers(instruction)[0]
        body = _with_base(instruction, scratch, draft.code[displacement + 4 : end])
        _emit_with_scratch(draft, scratch, move_immediate(scratch, target), body)
    draft.shift(end)


def _move_address(instruction: Instruction, modrm: int, target: int) -> bytes:
    """lea register, [rip + displacement] as a plain move of the address."""
    register = modrm >> 3 & 7 | (8 if instruction.rex & 4 else 0)
    if instruction.rex & 8:
        return move_immediate(register, target)
    if 0x66 in instruction.prefixes:  # 16 bits, the others stay: mov r16, imm16
        rex = bytes((0x41,)) if register & 8 else b""
        return (
            b"\x66" + rex + bytes((0xB8 | register & 7,)) + (target & 0xFFFF).to_bytes(2, "little")
        )
    return move_immediate(register, target & 0xFFFFFFFF)


def emit_gs_operand(draft: Draft, special: Special) -> None:
    """Memory through GS, which is ours: compute the address with the guest's GS base."""
    start, end, _, modrm, displacement = special
    instruction = scan(draft.code, start, draft.app + start)
    if _is_awkward(instruction):
        raise UnsupportedInstruction(
            draft.app + start, instruction.code, "a gather, scatter or rsp-based pop through GS"
        )
    if not modrm:
        if instruction.opcode_map or not 0xA0 <= instruction.opcode <= 0xA3:
            raise UnsupportedInstruction(
                draft.app + start, instruction.code, "a string instruction or xlat through GS"
            )
        _emit_gs_absolute(draft, instruction)
    else:
        scratch, other = _free_registers(instruction)[:2]
        if displacement:
            address = move_immediate(scratch, rip_target(draft, special))
        else:
            address = _lea(instruction, scratch)
        tail = draft.code[instruction.imm_offset + start : end] if instruction.imm_size else b""
        body = _with_base(instruction, scratch, tail)
        _emit_with_scratch(draft, scratch, address + _add_gs_base(scratch, other), body)
    draft.shift(end)


def _is_awkward(instruction: Instruction) -> bool:
    """Whether the operand's address cannot be computed ahead: it is many, or rsp changes first."""
    if instruction.encoding == LEGACY:
        pops = instruction.opcode == 0x8F and not instruction.opcode_map
        sib = instruction.code[instruction.sib_offset] if instruction.sib_offset else 0
        return pops and sib & 7 == RSP and not instruction.rex & 1
    return instruction.opcode_map == 2 and instruction.opcode in _VSIB


_VSIB = frozenset((0x90, 0x91, 0x92, 0x93, 0xA0, 0xA1, 0xA2, 0xA3, 0xC6, 0xC7))
"""Gathers, scatters and their prefetches: opcodes of map 0f 38."""


def _emit_gs_absolute(draft: Draft, instruction: Instruction) -> None:
    """mov al/ax/eax/rax, gs:[offset64] and back (a0-a3)."""
    size = instruction.imm_size
    address = int.from_bytes(instruction.code[-size:], "little")
    prefixes = bytes(byte for byte in instruction.prefixes if byte == 0x66)
    rex = bytes((instruction.rex & 0x48,)) if instruction.rex & 8 else b""
    opcode = {0xA0: 0x8A, 0xA1: 0x8B, 0xA2: 0x88, 0xA3: 0x89}[instruction.opcode]
    body = prefixes + rex + bytes((opcode, RAX << 3 | RSI))  # mov rax, [rsi] or back
    before = move_immediate(RSI, address) + _add_gs_base(RSI, RDI)
    _emit_with_scratch(draft, RSI, before, body)


def _add_gs_base(register: int, other: int) -> bytes:
    return (
        store_gs(other, _SLOT_1)
        + load_gs(other, _GUEST_GS)
        + add_register(register, other)
        + load_gs(other, _SLOT_1)
    )


def _emit_with_scratch(draft: Draft, scratch: int, before: bytes, body: bytes) -> None:
    """Emit *body* while *scratch* holds what *before* computes and the guest's rests in a slot."""
    out = draft.out
    out += store_gs(scratch, _SLOT_0) + before
    place = len(out)
    out += body
    draft.rests(place, len(out), scratch, _SLOT_0)
    out += load_gs(scratch, _SLOT_0)


def _free_registers(instruction: Instruction) -> list[int]:
    """Return registers that the instruction does not name.

    Those it uses without naming them, beside a memory operand, are rax, rcx, rdx, rbx and rsp
    (cmpxchg16b, mul, xsave, shifts, push): these are never offered.
    """
    code = instruction.code
    modrm = code[instruction.modrm_offset]
    low = {modrm >> 3 & 7, modrm & 7}
    if instruction.sib_offset:
        sib = code[instruction.sib_offset]
        low |= {sib >> 3 & 7, sib & 7}
    if instruction.encoding != LEGACY:
        # VEX.vvvv, inverted: second payload byte, or the first of the two-byte form.
        vvvv = ~code[instruction.opcode_offset - (2 if instruction.encoding == EVEX else 1)] >> 3
        low.add(vvvv & 7)
    # By the low three bits alone, so an extension bit cannot be got wrong.
    return [r for r in (RSI, RDI, R8, R9, R10, R11) if r & 7 not in low]


def _lea(instruction: Instruction, register: int) -> bytes:
    """lea register, [the instruction's memory operand], which wraps as its address size says."""
    code = instruction.code
    start = instruction.modrm_offset
    end = instruction.imm_offset or len(code)
    wide = b"\x67" if 0x67 in instruction.prefixes else b""
    rex = 0x48 | _index_and_base(instruction) | (4 if register & 8 else 0)
    modrm = code[start] & 0xC7 | (register & 7) << 3
    operand = bytearray(code[start:end])
    operand[0] = modrm
    return wide + bytes((rex, 0x8D)) + bytes(_plain_displacement(instruction, operand))


def _index_and_base(instruction: Instruction) -> int:
    """Return REX.X and REX.B of the memory operand, whatever the encoding stores them as."""
    code, at = instruction.code, instruction.opcode_offset
    if instruction.encoding == LEGACY:
        return instruction.rex & 3
    if instruction.encoding == VEX2:
        return 0
    first = code[at - (3 if instruction.encoding == EVEX else 2)]
    return ~first >> 5 & 3


def _plain_displacement(instruction: Instruction, operand: bytearray) -> bytearray:
    """Undo EVEX's scaled 8-bit displacement: ask Capstone what it amounts to."""
    if instruction.encoding != EVEX or instruction.disp_size != 1:
        return operand
    from pydbi.x86.analysis import memory_displacement

    try:
        displacement = memory_displacement(instruction.code)
    except DecodeError:
        reason = "through GS, with a scaled displacement that Capstone does not know"
        raise UnsupportedInstruction(instruction.address, instruction.code, reason) from None
    operand[0] = operand[0] & 0x3F | 0x80
    operand[-1:] = _signed(displacement)
    return operand


def _with_base(instruction: Instruction, base: int, tail: bytes) -> bytes:
    """The same instruction with the memory operand [base], and *tail* behind it."""
    code = instruction.code
    at = instruction.opcode_offset
    modrm = code[instruction.modrm_offset] & 0x38 | base & 7
    head = bytearray(code[:at])
    if instruction.encoding == LEGACY:
        escape = head[len(instruction.prefixes) + (1 if instruction.rex else 0) :]
        prefixes = bytes(b for b in instruction.prefixes if b != 0x65 and b & 0xF0 != 0x40)
        rex = instruction.rex & ~3 | (1 if base & 8 else 0)
        if instruction.rex or base & 8:
            prefixes += bytes((rex | 0x40,))
        return prefixes + bytes(escape) + bytes((code[at], modrm)) + tail
    payload = at - {VEX2: 1, EVEX: 3}.get(instruction.encoding, 2)
    prefixes = bytes(b for b in instruction.prefixes if b != 0x65)
    if instruction.encoding == VEX2:
        if base & 8:  # only the three-byte form has B: c4, R and X and B inverted, map 0f; W = 0
            first = head[-1]
            head[-2:] = bytes((0xC4, first & 0x80 | 0x41, first & 0x7F))
    else:
        # X and B are stored inverted: X off, B as the base needs it.
        bits = head[payload] | 0x60
        head[payload] = bits & ~0x20 if base & 8 else bits
    encoded = bytes(head[len(instruction.prefixes) :])
    return prefixes + encoded + bytes((code[at], modrm)) + tail
