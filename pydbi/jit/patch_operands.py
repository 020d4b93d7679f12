"""How memory operands relative to RIP or GS are reached; see :mod:`pydbi.jit.patches`.

What goes through GS without such an operand is in :mod:`pydbi.jit.patch_strings`.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING

from pydbi.errors import UnsupportedInstruction
from pydbi.jit.context import SLOT
from pydbi.x86 import traits
from pydbi.x86.encoder import add_register, load_gs, move_immediate, store_gs
from pydbi.x86.instruction import EVEX, LEGACY, VEX2, Instruction, scan
from pydbi.x86.operands import Operand, operand_of, with_operand
from pydbi.x86.registers import R8, R9, R10, R11, RDI, RSI, RSP

if TYPE_CHECKING:
    from pydbi.jit.draft import Draft

Special = tuple[int, int, int, int, int]
"""Of an instruction that is not simply copied: start and end in the block's bytes, traits, offset
of its ModRM byte or 0, offset of its RIP displacement or 0; as `scan_block` gives it."""

_signed = Struct("<i").pack
_read_signed = Struct("<i").unpack_from
_REACH = 1 << 31
_WORD = (1 << 64) - 1

_ADDRESS_SIZE = 0x67
_LEA = b"\x8d"

SLOT_0, SLOT_1 = SLOT["SCRATCH_0"], SLOT["SCRATCH_1"]
GUEST_GS = SLOT["GUEST_GS"]


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
        emit_with_scratch(draft, scratch, move_immediate(scratch, target), body)
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
    """A memory operand through GS, which is ours: its address with the guest's GS base."""
    start, end, _, _, displacement = special
    instruction = scan(draft.code, start, draft.app + start)
    if _ADDRESS_SIZE in instruction.prefixes:
        _refuse_narrow(instruction)
    scratch, other = _free_registers(instruction)[:2]
    if _is_vsib(instruction):
        before, body = _base_of(instruction, scratch), _with_another_base(instruction, scratch)
    else:
        if displacement:
            before = move_immediate(scratch, rip_target(draft, special))
        else:
            before = with_operand(_LEA, scratch, operand_of(instruction))
            before += _after_pop(instruction, scratch)
        tail = draft.code[instruction.imm_offset + start : end] if instruction.imm_size else b""
        body = _with_base(instruction, scratch, tail)
    emit_with_scratch(draft, scratch, before + add_gs_base(scratch, other), body)
    draft.shift(end)


def _refuse_narrow(instruction: Instruction) -> None:
    """Raise if what is through GS computes more than the operand's address in 32 bits."""
    if _has_other_addresses(instruction):
        what = "a gather, scatter, tile or direct store"
    elif _is_bit_string(instruction):
        what = "a bit test with the offset in a register"
    else:
        return
    reason = f"{what} through GS with 32-bit addresses"
    raise UnsupportedInstruction(instruction.address, instruction.code, reason)


def _is_vsib(instruction: Instruction) -> bool:
    """Whether what its SIB byte names is more than one address."""
    if instruction.encoding == LEGACY or instruction.opcode_map != 2:
        return False
    tile = instruction.opcode == _TILE and instruction.encoding != EVEX
    return tile or instruction.opcode in _VSIB


def _has_other_addresses(instruction: Instruction) -> bool:
    """Whether the address size matters for more than one address, its operand's."""
    legacy = instruction.encoding == LEGACY
    direct = legacy and instruction.opcode_map == 2 and instruction.opcode == _DIRECT_STORE
    return direct or _is_vsib(instruction)


def _is_bit_string(instruction: Instruction) -> bool:
    """Whether it is bt or its kin with an offset that moves the operand's address."""
    legacy = instruction.encoding == LEGACY and instruction.opcode_map == 1
    return legacy and instruction.opcode in _BIT_STRINGS


_VSIB = frozenset((0x90, 0x91, 0x92, 0x93, 0xA0, 0xA1, 0xA2, 0xA3, 0xC6, 0xC7))
"""Gathers, scatters and their prefetches: opcodes of map 0f 38."""
_TILE = 0x4B
"""tileload and tilestore, in the same map under VEX; the index register is the rows' distance."""
_BIT_STRINGS = frozenset((0xA3, 0xAB, 0xB3, 0xBB))
"""bt, bts, btr and btc of memory and a register, in map 0f."""
_DIRECT_STORE = 0xF8
"""movdir64b and enqcmd, in the same map; another register has the address that is stored to."""


def _base_of(instruction: Instruction, register: int) -> bytes:
    """mov register, the operand's base: 0 if it has none"""
    if instruction.base is None:
        return move_immediate(register, 0)
    return with_operand(_LEA, register, Operand(instruction.base))


def _with_another_base(instruction: Instruction, base: int) -> bytes:
    """The same VEX or EVEX instruction without its override and with *base* as base register."""
    code, at, sib = bytearray(instruction.code), instruction.modrm_offset, instruction.sib_offset
    if instruction.base is None:
        code[at] |= 0x80  # what has no base has a displacement of 32 bits
    code[sib] = code[sib] & ~7 | base & 7
    payload = instruction.opcode_offset - (3 if instruction.encoding == EVEX else 2)
    code[payload] = code[payload] & ~0x20 if base & 8 else code[payload] | 0x20  # B, inverted
    return bytes(code[len(instruction.prefixes) :])


def _after_pop(instruction: Instruction, register: int) -> bytes:
    """add to *register*, the address of a pop based on rsp, what rsp grows before it is used"""
    pops = instruction.encoding == LEGACY and instruction.opcode == 0x8F
    if not pops or instruction.opcode_map or instruction.base != RSP:
        return b""
    size = 2 if 0x66 in instruction.prefixes and not instruction.rex & 8 else 8
    narrow = _ADDRESS_SIZE in instruction.prefixes
    return with_operand(_LEA, register, Operand(register, displacement=size), wide=not narrow)


def add_gs_base(register: int, other: int) -> bytes:
    """Add the guest's GS base to *register*; *other* is used and restored."""
    return (
        store_gs(other, SLOT_1)
        + load_gs(other, GUEST_GS)
        + add_register(register, other)
        + load_gs(other, SLOT_1)
    )


def emit_with_scratch(draft: Draft, scratch: int, before: bytes, body: bytes) -> None:
    """Emit *body* while *scratch* holds what *before* computes and the guest's rests in a slot."""
    out = draft.out
    out += store_gs(scratch, SLOT_0) + before
    place = len(out)
    out += body
    draft.rests(place, len(out), scratch, SLOT_0)
    out += load_gs(scratch, SLOT_0)


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


def prefixes_without_segment(instruction: Instruction) -> bytes:
    """Return the prefixes that still count where a register has the whole address.

    FS stays if it is the segment. REX is not among them, nor a REX prefix that is not in force.
    """
    dropped = {0x64, 0x65} if instruction.segment == 0x65 else {0x65}
    if not (_has_other_addresses(instruction) or _is_bit_string(instruction)):
        dropped.add(_ADDRESS_SIZE)
    kept = (b for b in instruction.prefixes if b not in dropped and b & 0xF0 != 0x40)
    return bytes(kept)


def _with_base(instruction: Instruction, base: int, tail: bytes) -> bytes:
    """The same instruction with the memory operand [base], and *tail* behind it."""
    code = instruction.code
    at = instruction.opcode_offset
    modrm = code[instruction.modrm_offset] & 0x38 | base & 7
    head = bytearray(code[:at])
    if instruction.encoding == LEGACY:
        escape = head[len(instruction.prefixes) + (1 if instruction.rex else 0) :]
        prefixes = prefixes_without_segment(instruction)
        rex = instruction.rex & ~3 | (1 if base & 8 else 0)
        if instruction.rex or base & 8:
            prefixes += bytes((rex | 0x40,))
        return prefixes + bytes(escape) + bytes((code[at], modrm)) + tail
    payload = at - {VEX2: 1, EVEX: 3}.get(instruction.encoding, 2)
    prefixes = prefixes_without_segment(instruction)
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
