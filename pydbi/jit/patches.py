"""The patch rules: how each kind of instruction is made to run somewhere else.

One ordered list, :data:`RULES`: the first rule whose traits an instruction has says what to
generate for it. What no rule mentions is copied as it is. Generated code leaves the guest's flags
alone, writes nothing on its stack but what the guest itself writes, and never shows it a cache
address. Where a register is needed, the guest's rests in a context slot meanwhile, and the draft
remembers between which cache offsets, so that a fault there can be reported exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple

from pydbi.errors import UnsupportedInstruction
from pydbi.host import cpu
from pydbi.jit.cache import EXIT_SYSCALL
from pydbi.jit.context import SLOT
from pydbi.jit.stubs import stubs
from pydbi.x86 import traits
from pydbi.x86.encoder import add_register, load_gs, move_immediate, store_gs
from pydbi.x86.instruction import EVEX, LEGACY, VEX2, Instruction, scan
from pydbi.x86.registers import R8, R9, R10, R11, RAX, RCX, RDI, RSI, RSP

if TYPE_CHECKING:
    from pydbi.jit.draft import Draft

Special = tuple[int, int, int, int, int]
"""Of an instruction that is not simply copied: start and end in the block's bytes, traits, offset
of its ModRM byte or 0, offset of its RIP displacement or 0; as `scan_block` gives it."""

_signed = Struct("<i").pack
_read_signed = Struct("<i").unpack_from
_two_jumps = Struct("<BBiBi").pack
_JUMP = b"\xe9"
_REACH = 1 << 31
_WORD = (1 << 64) - 1

_SLOT_0, _SLOT_1 = SLOT["SCRATCH_0"], SLOT["SCRATCH_1"]
_SLOT_RCX = SLOT["SCRATCH_RCX"]
STORE_RCX = store_gs(RCX, _SLOT_RCX)
_GUEST_GS = SLOT["GUEST_GS"]

_RETURN = stubs().template("return")
_POPPED = _RETURN.holes["popped"]
_LOAD_TARGET_BY_POP = _RETURN.code[:_POPPED]
_LOOK_UP = _RETURN.code[_RETURN.holes["rest"] :]
_RELEASE = stubs().template("release")
_INDIRECT = stubs().template("indirect").code
_PUSH_BEFORE, _PUSH_AFTER = stubs().template("push").around("displacement", 4)
_HOLD_TARGET = stubs().template("hold_target").code
_TAKE_TARGET = stubs().template("take_target").code
_SYSCALL = stubs().template("syscall")
assert not _PUSH_AFTER


# Direct branches.


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
    if draft.branch_vectors:
        _emit_condition(draft, bytes((0x0F, 0x80 | condition)), target, following)
        return
    if len(draft.cache.arenas) > 1:  # a block may be out of reach
        draft.exit(bytes((0x0F, 0x80 | condition)), target)
        draft.exit(_JUMP, following)
        return
    # The most frequent of all: `Draft.exit` for both, unfolded.
    index = draft.take_exits(2)
    stub = draft.stub_base + index * 20
    entries = draft.entries
    site = draft.base + len(draft.out) + 2
    exits = draft.exits
    exits[index] = (target, site)
    exits[index + 1] = (following, site + 5)
    draft.out += _two_jumps(
        0x0F, 0x80 | condition, entries.get(target, stub) - site - 4,
        0xE9, entries.get(following, stub + 20) - site - 9,
    )  # fmt: skip


def emit_loop(draft: Draft, special: Special) -> None:
    """loop, loopcc, jrcxz, jecxz: they have no 32-bit form, so they jump to a jump."""
    start, end = special[0], special[1]
    following = draft.app + end
    target = following + (draft.code[end - 1] ^ 0x80) - 0x80 & _WORD
    if not draft.branch_vectors:
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
    draft.gates(draft.branch_vectors, following)
    draft.exit(_JUMP, following)
    out[place - 4 : place] = _signed(len(out) - place)
    draft.gates(draft.branch_vectors, target)
    draft.exit(_JUMP, target)


def emit_jmp(draft: Draft, special: Special) -> None:
    """jmp target: an exit."""
    target = _direct_target(draft, special)
    draft.gates(draft.branch_vectors, target)
    draft.exit(_JUMP, target)


def emit_call(draft: Draft, special: Special) -> None:
    """call target: push the app return address, then an exit."""
    target = _direct_target(draft, special)
    emit_push(draft, draft.app + special[1])
    draft.gates(draft.branch_vectors, target)
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
    if draft.branch_vectors:
        draft.out += _HOLD_TARGET
        draft.gates(draft.branch_vectors, 0)
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
            address = move_immediate(RCX, _rip_target(draft, special))
        out += store_gs(R11, _SLOT_1) + keep + address + load_gs(R11, _GUEST_GS)
        place = len(out)
        out += b"\x4a\x8b\x0c\x19"  # mov rcx, [rcx + r11]
        draft.rests(place, len(out), RCX, _SLOT_RCX)
        draft.rests(place, len(out), R11, _SLOT_1)
        out += load_gs(R11, _SLOT_1)
    elif displacement:
        target = _rip_target(draft, special)
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


# Operands relative to RIP or GS.


def _rip_target(draft: Draft, special: Special) -> int:
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
    target = _rip_target(draft, special)
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
            address = move_immediate(scratch, _rip_target(draft, special))
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

    operand[0] = operand[0] & 0x3F | 0x80
    operand[-1:] = _signed(memory_displacement(instruction.code))
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


# What touches the kernel or the processor's own state.


def emit_syscall(draft: Draft, special: Special) -> None:
    """syscall: in place, rcx becoming the app address; some numbers leave for Python instead."""
    end = special[1]
    following = draft.app + end
    index = draft.take_exits(1)
    draft.exits[index] = (following, EXIT_SYSCALL)
    code = bytearray(_SYSCALL.code)
    at = _SYSCALL.holes["index"]
    code[at : at + 4] = index.to_bytes(4, "little")
    at = _SYSCALL.holes["next"]
    code[at : at + 8] = following.to_bytes(8, "little")
    draft.out += code
    draft.cache.syscall_resumes[index] = draft.base + len(draft.out)
    draft.shift(end)


def emit_gs_base(draft: Draft, special: Special) -> None:
    """rdgsbase, wrgsbase: the guest's GS base is a slot of the context."""
    start, end, _, modrm, _ = special
    instruction = scan(draft.code, start, draft.app + start)
    byte = draft.code[modrm]
    register = byte & 7 | (8 if instruction.rex & 1 else 0)
    move = (load_gs if byte & 0x38 == 0x08 else store_gs)(register, _GUEST_GS)
    if not instruction.rex & 8:  # 32-bit form: the upper half is zero
        move = bytes((move[0], move[1] & ~8, *move[2:]))
        if byte & 0x38 != 0x08:
            high = (_GUEST_GS + 4).to_bytes(4, "little")
            move += b"\x65\xc7\x04\x25" + high + bytes(4)  # mov dword gs:[GUEST_GS + 4], 0
    draft.out += move
    draft.shift(end)


def emit_xbegin(draft: Draft, special: Special) -> None:
    """xbegin: a transaction that aborts at once, as one may at any time; or #UD as without RTM."""
    end = special[1]
    if not cpu.has_rtm():
        draft.out += b"\x0f\x0b"
        draft.exit(_JUMP, draft.app + end)
        return
    target = draft.app + end + _read_signed(draft.code, end - 4)[0] & _WORD
    draft.out += b"\xb8" + bytes(4)  # mov eax, 0: aborted, no use to try again
    draft.gates(draft.branch_vectors, target)
    draft.exit(_JUMP, target)


def emit_trap(draft: Draft, special: Special) -> None:
    """int3, ud2, hlt, int n, ...: the same; the kernel's signal is mapped back to app addresses."""
    draft.out += draft.code[special[0] : special[1]]
    draft.gates(draft.branch_vectors, draft.app + special[1])  # int 0x80 does come back
    draft.exit(_JUMP, draft.app + special[1])


def emit_copy(draft: Draft, special: Special) -> None:
    """Anything else: the same bytes."""
    draft.out += draft.code[special[0] : special[1]]


def _refuse(reason: str) -> Emit:
    def emit(draft: Draft, special: Special) -> None:
        code = draft.code[special[0] : special[1]]
        raise UnsupportedInstruction(draft.app + special[0], code, reason)

    emit.__doc__ = f"Refused: {reason}."
    return emit


Emit = Callable[["Draft", Special], None]


class Rule(NamedTuple):
    """What to generate (*emit*) for instructions with this flow kind and any of these flags."""

    flow: int | None
    """A flow kind of `pydbi.x86.traits`, or None for any."""
    flags: int
    """0 for any."""
    emit: Emit

    def matches(self, bits: int) -> bool:
        """Whether an instruction with the traits *bits* is this rule's."""
        same_flow = self.flow is None or bits & traits.FLOW_MASK == self.flow
        return same_flow and (not self.flags or bool(bits & self.flags))


RULES: tuple[Rule, ...] = (
    Rule(None, traits.PREFIX66_BRANCH, _refuse("a branch to a 16-bit address")),
    Rule(None, traits.SEGMENT_LOAD, _refuse("it loads FS or GS with a selector")),
    Rule(traits.FAR, 0, _refuse("a far branch")),
    Rule(traits.JCC, 0, emit_jcc),
    Rule(traits.JMP, 0, emit_jmp),
    Rule(traits.CALL, 0, emit_call),
    Rule(traits.RET, 0, emit_ret),
    Rule(traits.JMP_INDIRECT, 0, emit_jmp_indirect),
    Rule(traits.CALL_INDIRECT, 0, emit_call_indirect),
    Rule(traits.LOOP, 0, emit_loop),
    Rule(traits.SYSCALL, 0, emit_syscall),
    Rule(traits.XBEGIN, 0, emit_xbegin),
    Rule(traits.TRAP, 0, emit_trap),
    Rule(None, traits.GSBASE, emit_gs_base),
    Rule(None, traits.GS, emit_gs_operand),
    Rule(None, traits.RIP, emit_rip_operand),
    Rule(None, 0, emit_copy),
)
"""First match wins; the last matches everything."""


@cache
def rule_for(bits: int) -> Emit:
    """Return what to generate for an instruction with the traits *bits*."""
    return next(rule.emit for rule in RULES if rule.matches(bits))
