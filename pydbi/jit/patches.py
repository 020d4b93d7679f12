"""The patch rules: how each kind of instruction is made to run somewhere else.

One ordered list, :data:`RULES`: the first rule whose traits an instruction has says what to
generate for it. What no rule mentions is copied as it is. Generated code leaves the guest's flags
alone, writes nothing on its stack but what the guest itself writes, and never shows it a cache
address. Where a register is needed, the guest's rests in a context slot meanwhile; rsi of a string
instruction through GS has the GS base added. The draft remembers between which cache offsets, so
that a fault there can be reported exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from struct import Struct
from typing import TYPE_CHECKING

from pydbi.errors import UnsupportedInstruction
from pydbi.host import cpu
from pydbi.jit.cache import EXIT_DEAD, EXIT_SYSCALL
from pydbi.jit.context import SLOT
from pydbi.jit.patch_branches import (
    emit_call,
    emit_call_indirect,
    emit_jcc,
    emit_jmp,
    emit_jmp_indirect,
    emit_loop,
    emit_ret,
)
from pydbi.jit.patch_operands import Special, emit_gs_operand, emit_rip_operand
from pydbi.jit.patch_strings import emit_gs_implied
from pydbi.jit.stubs import stubs
from pydbi.tuples import NamedTuple
from pydbi.x86 import traits
from pydbi.x86.encoder import load_gs, store_gs
from pydbi.x86.instruction import scan
from pydbi.x86.registers import RAX, RCX

if TYPE_CHECKING:
    from pydbi.jit.draft import Draft

_read_signed = Struct("<i").unpack_from
_JUMP = b"\xe9"
_WORD = (1 << 64) - 1
_GUEST_GS, _SLOT_0, _SLOT_1 = SLOT["GUEST_GS"], SLOT["SCRATCH_0"], SLOT["SCRATCH_1"]
_SAVE_FLAGS, _RESTORE_FLAGS = b"\x9f\x0f\x90\xc0", b"\x04\x7f\x9e"
"""lahf; seto al; and add al, 0x7f; sahf"""
_SIGN_BITS_OF_RCX = b"\x48\xc1\xf9\x2f\x48\xff\xc1\x48\xd1\xe9"
"""sar rcx, 47; inc rcx; shr rcx, 1: 0 if bits 47 to 63 are all alike"""
_SYSCALL = stubs().template("syscall")


def emit_syscall(draft: Draft, special: Special) -> None:
    """syscall: in place, rcx becoming the app address; some numbers leave for Python instead."""
    end = special[1]
    following = draft.app + end
    index = draft.take_exits(2)
    draft.exits[index] = (following, EXIT_SYSCALL)
    draft.exits[index + 1] = (following, EXIT_DEAD)
    code = bytearray(_SYSCALL.code)
    for hole, value, size in (
        ("index", index, 4),
        ("interrupted", index + 1, 4),
        ("next", following, 8),
        ("again", following, 8),
    ):
        at = _SYSCALL.holes[hole]
        code[at : at + size] = value.to_bytes(size, "little")
    draft.cache.syscall_places[index] = draft.base + len(draft.out) + _SYSCALL.holes["call"]
    draft.out += code
    draft.cache.syscall_resumes[index] = draft.base + len(draft.out)
    draft.shift(end)


def emit_gs_base(draft: Draft, special: Special) -> None:
    """rdgsbase, wrgsbase: the guest's GS base is a slot of the context."""
    start, end, _, modrm, _ = special
    instruction = scan(draft.code, start, draft.app + start)
    byte = draft.code[modrm]
    register = byte & 7 | (8 if instruction.rex & 1 else 0)
    writes = byte & 0x38 != 0x08
    move = (store_gs if writes else load_gs)(register, _GUEST_GS)
    if writes and instruction.rex & 8:
        _emit_canonical_check(draft, register, instruction.code)
    if not instruction.rex & 8:  # 32-bit form: the upper half is zero
        move = bytes((move[0], move[1] & ~8, *move[2:]))
        if writes:
            high = (_GUEST_GS + 4).to_bytes(4, "little")
            move += b"\x65\xc7\x04\x25" + high + bytes(4)  # mov dword gs:[GUEST_GS + 4], 0
    draft.out += move
    draft.shift(end)


def _emit_canonical_check(draft: Draft, register: int, instruction: bytes) -> None:
    """Execute *instruction*, which faults then, unless *register* is a canonical address."""
    out = draft.out
    first = len(out)
    out += store_gs(RCX, _SLOT_1) + bytes((0x48 | register >> 3, 0x8B, 0xC8 | register & 7))
    out += store_gs(RAX, _SLOT_0) + _SAVE_FLAGS
    out += _SIGN_BITS_OF_RCX + _RESTORE_FLAGS + load_gs(RAX, _SLOT_0)
    restore = load_gs(RCX, _SLOT_1)
    out += b"\xe3" + bytes((len(restore) + len(instruction),))  # jrcxz
    draft.rests(first, len(out), RCX, _SLOT_1)
    out += restore + instruction
    draft.rests(len(out), len(out) + len(restore), RCX, _SLOT_1)
    out += restore


def emit_gs(draft: Draft, special: Special) -> None:
    """Memory through GS, which is ours: with the guest's GS base in the address."""
    modrm = special[3]
    names_memory = modrm and draft.code[modrm] < 0xC0
    (emit_gs_operand if names_memory else emit_gs_implied)(draft, special)


def emit_xbegin(draft: Draft, special: Special) -> None:
    """xbegin: a transaction that aborts at once, as one may at any time; or #UD as without RTM."""
    end = special[1]
    if not cpu.has_rtm():
        draft.out += b"\x0f\x0b"
        draft.exit(_JUMP, draft.app + end)
        return
    target = draft.app + end + _read_signed(draft.code, end - 4)[0] & _WORD
    draft.out += b"\xb8" + bytes(4)  # mov eax, 0: aborted, no use to try again
    draft.branch_gates(target)
    draft.exit(_JUMP, target)


def emit_trap(draft: Draft, special: Special) -> None:
    """int3, ud2, hlt, int n, ...: the same; the kernel's signal is mapped back to app addresses."""
    draft.out += draft.code[special[0] : special[1]]
    draft.branch_gates(draft.app + special[1])  # int 0x80 does come back
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
    Rule(None, traits.GS, emit_gs),
    Rule(None, traits.RIP, emit_rip_operand),
    Rule(None, 0, emit_copy),
)
"""First match wins; the last matches everything."""


@cache
def rule_for(bits: int) -> Emit:
    """Return what to generate for an instruction with the traits *bits*."""
    return next(rule.emit for rule in RULES if rule.matches(bits))
