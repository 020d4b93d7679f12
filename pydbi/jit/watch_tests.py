"""Machine code before an instruction that looks whether it may hit a watch; see `watch_checks`.

It must cost next to nothing, since nearly every access misses. So a base register is compared where
it is, and another register is only borrowed for base + index. The flags rest in ax. (Comparing only
where no instruction reads them any more would cost half, but a fault or a callback shows them.)
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from pydbi.jit.context import SLOT
from pydbi.jit.watch_checks import Check
from pydbi.jit.watch_places import Expression, Interval
from pydbi.tuples import NamedTuple
from pydbi.x86.encoder import load_gs, store_gs
from pydbi.x86.instruction import LEGACY, scan
from pydbi.x86.operands import Operand, with_operand
from pydbi.x86.registers import RAX, RBX, RCX, RDI, RDX, RSI, RSP

if TYPE_CHECKING:
    from pydbi.jit.draft import Draft

_SLOT, _RAX_SLOT = SLOT["RECORD_0"], SLOT["RECORD_1"]
_SCRATCH: Final = (RCX, RDX, RBX, RSI, RDI)
_LEA: Final = b"\x8d"
_KEEP_FLAGS: Final = b"\x9f\x0f\x90\xc0"  # lahf; seto al
_GIVE_FLAGS: Final = b"\x04\x7f\x9e"  # add al, 0x7f; sahf
_JMP, _JB, _JAE = b"\xe9", b"\x0f\x82", b"\x0f\x83"
_JB_SHORT: Final = b"\x72"
_COMPARE_AND_JUMP: Final = 13
"""Bytes of a comparison with a constant and a near jump."""


class Test(NamedTuple):
    """A test that has been emitted.

    Attributes:
        sites: offsets of displacements of the jumps that are taken on a hit.
        restore: what gives the guest its registers and flags back where these lead.
        borrowed: (register, slot) of what `restore` gives back.
        overwritten: one of these that the instruction overwrites, so that it was not given back on
            the way into it.
    """

    sites: tuple[int, ...]
    restore: bytes
    borrowed: tuple[tuple[int, int], ...]
    overwritten: int | None


def emit_test(draft: Draft, check: Check, code: bytes) -> Test:
    """Emit a test that jumps away if *check* hits; behind it comes the instruction.

    Args:
        code: the instruction's bytes.
    """
    out = draft.out
    if not check.tests:
        out += _JMP + bytes(4)
        return Test((len(out) - 4,), b"", (), None)
    used = {r for each, _ in check.tests for r in (each.base, each.index)}
    computed = [each for each, _ in check.tests if not _is_ready(each)]
    overwritten = _overwritten_register(code)
    if overwritten in used:
        overwritten = None
    borrowed = [(RAX, _RAX_SLOT)]
    scratch = RAX
    if computed:
        first = () if overwritten is None else (overwritten,)
        scratch = next(r for r in (*first, *_SCRATCH) if r not in used and r != RAX)
        borrowed.append((scratch, _SLOT))
        out += store_gs(scratch, _SLOT)
        _emit_expression(draft, scratch, computed[0])
    out += store_gs(RAX, _RAX_SLOT) + _KEEP_FLAGS
    sites: list[int] = []
    for expression, intervals in check.tests:
        if _is_ready(expression):
            assert expression.base is not None
            _emit_intervals(draft, expression.base, intervals, sites)
        elif expression is computed[0]:
            _emit_intervals(draft, scratch, intervals, sites)
    if len(computed) > 1:  # there is no register for another address: look closer always
        out += _JMP + bytes(4)
        sites.append(len(out) - 4)
    out += _GIVE_FLAGS
    for register, slot in borrowed:
        if register != overwritten:
            out += load_gs(register, slot)
    restore = _GIVE_FLAGS + b"".join(load_gs(register, slot) for register, slot in borrowed)
    return Test(tuple(sites), restore, tuple(borrowed), overwritten)


def _is_ready(expression: Expression) -> bool:
    """Whether it is just a register, and not the one that holds the flags meanwhile."""
    return expression.index is None and expression.base != RAX


def _emit_expression(draft: Draft, register: int, expression: Expression) -> None:
    base, index, scale = expression
    draft.out += with_operand(_LEA, register, Operand(base, index, scale))


def _emit_intervals(
    draft: Draft, register: int, intervals: Iterable[Interval], sites: list[int]
) -> None:
    out = draft.out
    for low, high in sorted(intervals):
        if low and (not high or low > high):  # it ends at the top, or goes on around it
            _emit_compare(draft, register, low)
            out += _JAE + bytes(4)
            sites.append(len(out) - 4)
        elif low:
            _emit_compare(draft, register, low)
            out += _JB_SHORT + bytes((_COMPARE_AND_JUMP,))
        if high:
            _emit_compare(draft, register, high)
            out += _JB + bytes(4)
            sites.append(len(out) - 4)


def _emit_compare(draft: Draft, register: int, value: int) -> None:
    """cmp register, [rip + constant]"""
    out = draft.out
    constant = draft.constant(value)
    rex = 0x4C if register & 8 else 0x48
    out += bytes((rex, 0x3B, (register & 7) << 3 | 5))
    out += (constant - (draft.base + len(out) + 4)).to_bytes(4, "little", signed=True)


_LOADS: Final = {(0, 0x8B), (0, 0x63), (1, 0xB6), (1, 0xB7), (1, 0xBE), (1, 0xBF)}
"""By map and opcode: mov, movsxd, movzx, movsx."""


def _overwritten_register(code: bytes) -> int | None:
    """Return a register that the instruction sets without reading it, if it is a plain load."""
    instruction = scan(code)
    if instruction.encoding != LEGACY or 0x66 in instruction.prefixes:
        return None
    if (instruction.opcode_map, instruction.opcode) not in _LOADS:
        return None
    return None if instruction.reg == RSP else instruction.reg
