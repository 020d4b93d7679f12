"""How branches run in the cache; see :mod:`pydbi.jit.patches`.

A direct branch becomes a jump to an exit. An indirect one puts its target into rcx, the guest's rcx
resting in its slot, and looks it up.
"""

from __future__ import annotations

from struct import Struct, error
from typing import TYPE_CHECKING

from pydbi.jit.context import SLOT
from pydbi.jit.patch_operands import Special, rip_target
from pydbi.jit.stubs import stubs
from pydbi.x86 import traits
from pydbi.x86.encoder import load_gs, move_immediate, store_gs
from pydbi.x86.registers import R11, RCX

if TYPE_CHECKING:
    from pydbi.jit.draft import Draft

_signed = Struct("<i").pack
_read_signed = Struct("<i").unpack_from
_two_jumps = Struct("<BBiBi").pack
_JUMP = b"\xe9"
_REACH = 1 << 31
_WORD = (1 << 64) - 1

_SLOT_1 = SLOT["SCRATCH_1"]
_SLOT_RCX = SLOT["SCRATCH_RCX"]
_GUEST_GS = SLOT["GUEST_GS"]
STORE_RCX = store_gs(RCX, _SLOT_RCX)

_RETURN = stubs().template("return")
_POPPED = _RETURN.holes["popped"]
_LOAD_TARGET_BY_POP = _RETURN.code[:_POPPED]
_LOOK_UP = _RETURN.code[_RETURN.holes["rest"] :]
_RELEASE = stubs().template("release")
_INDIRECT = stubs().template("indirect").code
_PUSH_BEFORE, _PUSH_AFTER = stubs().template("push").around("displacement", 4)
_HOLD_TARGET = stubs().template("hold_target").code
_TAKE_TARGET = stubs().template("take_target").code
assert not _PUSH_AFTER


def emit_jcc(draft: Draft, special: Special) -> None:
    """jcc target: the same condition, to an exit; behind it the exit to the next instruction."""
    start, end = special[0], special[1]
    code = draft.code
    following = draft.app + end
    if end - start >= 6 and code[end - 6] == 0x0F:
        condition = code[end - 5] & 15
        target = following + _read_signed(code, end - 4)[0] & _WORD
    else:
        condition = code[end - 2] & 15
        target = following + (code[end - 1] ^ 0x80) - 0x80 & _WORD
    if draft.branch_is_watched:
        _emit_condition(draft, bytes((0x0F, 0x80 | condition)), target, following)
        return
    if draft.shared:
        draft.keep_together(11)
    # The most frequent of all: `Draft.exit` for both, unfolded.
    index = draft.take_exits(2)
    stub = draft.stub_base + index * 20
    entries = draft.entries
    site = draft.base + len(draft.out) + 2
    exits = draft.exits
    exits[index] = (target, site)
    exits[index + 1] = (following, site + 5)
    taken = entries.get(target, stub) - site - 4
    not_taken = entries.get(following, stub + 20) - site - 9
    try:
        draft.out += _two_jumps(0x0F, 0x80 | condition, taken, 0xE9, not_taken)
    except error:  # a block in another arena, out of reach
        if not -_REACH <= taken < _REACH:
            taken = stub - site - 4
        if not -_REACH <= not_taken < _REACH:
            not_taken = stub + 20 - site - 9
        draft.out += _two_jumps(0x0F, 0x80 | condition, taken, 0xE9, not_taken)


def emit_loop(draft: Draft, special: Special) -> None:
    """loop, loopcc, jrcxz, jecxz: they have no 32-bit form, so they jump to a jump."""
    start, end = special[0], special[1]
    following = draft.app + end
    target = following + (draft.code[end - 1] ^ 0x80) - 0x80 & _WORD
    if not draft.branch_is_watched:
        if draft.shared:
            draft.keep_together(end - start + 13)
        draft.out += draft.code[start : end - 1] + b"\x02\xeb\x05"  # op +2; jmp short +5
        draft.exit(_JUMP, target)
        draft.exit(_JUMP, following)
        return
    # op +2; jmp short +5; jmp taken
    _emit_condition(draft, draft.code[start : end - 1] + b"\x02\xeb\x05\xe9", target, following)


def _emit_condition(draft: Draft, jump: bytes, target: int, following: int) -> None:
    """Emit *jump* and a displacement to where the branch is taken, with callbacks on both ways."""
    out = draft.out
    out += jump + bytes(4)
    place = len(out)
    draft.branch_gates(following)
    draft.exit(_JUMP, following)
    out[place - 4 : place] = _signed(len(out) - place)
    draft.branch_gates(target)
    draft.exit(_JUMP, target)


def emit_jmp(draft: Draft, special: Special) -> None:
    """jmp target: an exit."""
    target = _direct_target(draft, special)
    draft.branch_gates(target)
    draft.exit(_JUMP, target)


def emit_call(draft: Draft, special: Special) -> None:
    """call target: push the app return address, then an exit."""
    target = _direct_target(draft, special)
    emit_push(draft, draft.app + special[1])
    draft.branch_gates(target)
    draft.exit(_JUMP, target)


def _direct_target(draft: Draft, special: Special) -> int:
    start, end = special[0], special[1]
    code = draft.code
    following = draft.app + end
    if end - start >= 5 and code[end - 5] in (0xE8, 0xE9):
        displacement: int = _read_signed(code, end - 4)[0]
    else:
        displacement = (code[end - 1] ^ 0x80) - 0x80
    return following + displacement & _WORD


def emit_push(draft: Draft, value: int) -> None:
    """push value: from a constant, for no register holds it and an immediate is too short."""
    constant = draft.constant(value)
    draft.out += _PUSH_BEFORE
    draft.out += _signed(constant - (draft.base + len(draft.out) + 4))


# Indirect branches: the target goes to rcx, and is looked up.


def emit_ret(draft: Draft, special: Special) -> None:
    """ret, ret imm16: pop the app address and look it up."""
    start, end = special[0], special[1]
    out = draft.out
    out += _LOAD_TARGET_BY_POP
    if end - start >= 3 and draft.code[end - 3] == 0xC2:
        size = int.from_bytes(draft.code[end - 2 : end], "little")
        out += _RELEASE.filled("size", _signed(size))
    _emit_lookup(draft)


def emit_jmp_indirect(draft: Draft, special: Special) -> None:
    """jmp through a register or memory: load the app address and look it up."""
    _emit_load_target(draft, special)
    _emit_lookup(draft)


def emit_call_indirect(draft: Draft, special: Special) -> None:
    """call through a register or memory: load the target before the push changes rsp."""
    _emit_load_target(draft, special)
    place = len(draft.out)
    emit_push(draft, draft.app + special[1])
    draft.rests(place, len(draft.out), RCX, _SLOT_RCX)
    _emit_lookup(draft)


def _emit_lookup(draft: Draft) -> None:
    if draft.branch_is_watched:
        draft.out += _HOLD_TARGET
        draft.branch_gates(0)
        draft.out += _TAKE_TARGET
    draft.out += _LOOK_UP


def _emit_load_target(draft: Draft, special: Special) -> None:
    """mov rcx, operand: the operand's own bytes under another opcode."""
    start, end, bits, modrm, displacement = special
    code = draft.code
    out = draft.out
    out += _INDIRECT
    keep, rex = _address_prefixes(code[start : modrm - 1])
    if bits & traits.GS:
        # lea rcx, operand; then through r11 = GS base
        address = bytes((rex | 0x48, 0x8D, code[modrm] & 0xC7 | RCX << 3)) + code[modrm + 1 : end]
        if displacement:
            address = move_immediate(RCX, rip_target(draft, special))
        out += store_gs(R11, _SLOT_1) + keep + address + load_gs(R11, _GUEST_GS)
        place = len(out)
        out += b"\x4a\x8b\x0c\x19"  # mov rcx, [rcx + r11]
        draft.rests(place, len(out), RCX, _SLOT_RCX)
        draft.rests(place, len(out), R11, _SLOT_1)
        out += load_gs(R11, _SLOT_1)
    elif displacement:
        target = rip_target(draft, special)
        load = keep + bytes((rex & ~1 | 0x48, 0x8B, 0x0D))  # mov rcx, [rip + ...]
        distance = target - (draft.base + len(out) + len(load) + 4)
        if -_REACH <= distance < _REACH and not bits & traits.ADDR32:
            out += load + _signed(distance)
        else:
            out += move_immediate(RCX, target)
            place = len(out)
            out += keep + b"\x48\x8b\x09"  # mov rcx, [rcx]
            draft.rests(place, len(out), RCX, _SLOT_RCX)
    elif code[modrm] & 0xC7 != 0xC0 | RCX or rex & 1:  # not rcx itself
        out += keep + bytes((rex | 0x48, 0x8B, code[modrm] & 0xC7 | RCX << 3))
        out += code[modrm + 1 : end]


def overwrites_rcx(code: bytes, end: int) -> bool:
    """Whether the instruction of *end* bytes at the start of *code* sets rcx without reading it.

    Only the moves that compilers use are known; False is always safe.
    """
    at = 1 if code[0] & 0xF0 == 0x40 else 0
    if at and code[0] & 0x04:  # REX.R: another register
        return False
    opcode = code[at]
    if opcode == 0x0F:
        at += 1
        if code[at] not in _WIDENING_MOVES:
            return False
    elif opcode == 0xB9:
        return not code[0] & 0x01 if at else True
    elif opcode not in (0x8B, 0x8D):
        return False
    modrm = code[at + 1]
    if modrm & 0x38 != RCX << 3:
        return False
    low = {modrm & 7}
    if modrm < 0xC0 and modrm & 7 == 4:
        sib = code[at + 2]
        low = {sib & 7, sib >> 3 & 7}
    return RCX not in low and at + 1 < end


_WIDENING_MOVES = frozenset((0xB6, 0xB7, 0xBE, 0xBF))  # movzx, movsx


def _address_prefixes(prefixes: bytes) -> tuple[bytes, int]:
    """Return the prefixes that change an operand's address, and REX with only X and B."""
    rex = 0
    if prefixes and prefixes[-1] & 0xF0 == 0x40:
        rex = prefixes[-1] & 0x43
    return bytes(byte for byte in prefixes if byte in (0x64, 0x67)), rex
