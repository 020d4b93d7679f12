"""A function's first instructions, moved to where its entry can still be executed.

Their bytes are about to be overwritten by a jump. What they did is done by a copy, which goes on
behind them; branches and operands relative to RIP get other displacements.
"""

from __future__ import annotations

from pydbi.errors import DecodeError
from pydbi.hooks.errors import HookError
from pydbi.tuples import NamedTuple
from pydbi.x86.instruction import Instruction, scan
from pydbi.x86.scanner import FLOW, LIMIT, scan_block
from pydbi.x86.traits import (
    CALL,
    FAR,
    FLOW_MASK,
    JCC,
    JMP,
    JMP_INDIRECT,
    LOOP,
    PREFIX66_BRANCH,
    RET,
    RIP,
    TRAP,
    XBEGIN,
)

JUMP_SIZE = 5
"""A jump with a 32-bit displacement."""
_REACH = 1 << 31
_RELATIVE = frozenset({JMP, JCC, LOOP, CALL})
_NOT_MOVED = frozenset({FAR, XBEGIN})
_ENDS = frozenset({JMP, JMP_INDIRECT, RET, TRAP})
"""Execution does not go on behind these."""
_PADDING = (0x90, 0xCC, 0x00)
_BODY_LIMIT = 1 << 16
"""How much of a function is searched for jumps into its first bytes."""


class Moved(NamedTuple):
    """A copy of a function's first instructions."""

    code: bytes
    places: dict[int, int]
    """Address of each moved instruction in its new place, by its app address."""
    size: int
    """How many bytes of the function it stands for."""


def move_entry(name: str, app: int, code: bytes, to: int) -> Moved:
    """Return a copy, to lie at *to*, of as many instructions at *app* as a jump overwrites.

    Args:
        name: the function's, for messages.
        code: the bytes at *app*, more than are needed.

    Raises:
        HookError: they cannot be moved, or the function ends before, and something else follows.
    """
    out = bytearray()
    places: dict[int, int] = {}
    at = 0
    ended = False
    while at < JUMP_SIZE:
        instruction = _decode(app, code, at)
        if ended and not _is_padding(instruction):
            raise HookError(
                f"{name} is only {at} bytes long, and more code follows: there is no room for a "
                f"jump of {JUMP_SIZE} bytes",
                app_address=app,
            )
        if not ended:
            places[app + at] = to + len(out)
            out += _move(instruction, to + len(out), range(app + 1, app + JUMP_SIZE))
            ended = instruction.traits & FLOW_MASK in _ENDS
        at += instruction.length
    if not ended:
        out += _jump(to + len(out), app + at)
    return Moved(bytes(out), places, at)


def jumps_into(app: int, code: bytes) -> int:
    """Return the address of a branch in *code* to the 2nd to 5th byte at *app*; 0 if none."""
    at = 0
    code = code[:_BODY_LIMIT]
    while at < len(code):
        _, specials, size, status = scan_block(code[at:], 1 << 12)
        for start, end, traits, _, _ in specials:
            if traits & FLOW_MASK in _RELATIVE:
                where = app + at + start
                instruction = scan(code[at + start : at + end], 0, where)
                if app < _target(instruction) < app + JUMP_SIZE:
                    return where
        if status not in (FLOW, LIMIT):
            break  # data among the code; what was seen until here must do
        at += size
    return 0


def _decode(app: int, code: bytes, at: int) -> Instruction:
    try:
        return scan(code[at : at + 15], 0, app + at)
    except DecodeError as error:
        raise HookError(f"there is no function here: {error}", app_address=app) from None


def _is_padding(instruction: Instruction) -> bool:
    no_op = instruction.opcode_map == 1 and instruction.opcode == 0x1F
    return no_op or (not instruction.opcode_map and instruction.opcode in _PADDING)


def _move(instruction: Instruction, to: int, overwritten: range) -> bytes:
    """Return what does at *to* what *instruction* does where it is."""
    flow = instruction.traits & FLOW_MASK
    if flow in _NOT_MOVED or instruction.traits & PREFIX66_BRANCH:
        raise _cannot_move(instruction, "it depends on where it is")
    if flow in _RELATIVE:
        target = _target(instruction)
        if target in overwritten:
            raise _cannot_move(instruction, "it branches to what is overwritten")
        return _move_branch(instruction, flow, to, target)
    if not instruction.traits & RIP:
        return instruction.code
    place = instruction.disp_offset
    old = int.from_bytes(instruction.code[place : place + 4], "little", signed=True)
    new = old + instruction.address - to
    if not -_REACH <= new < _REACH:
        raise _cannot_move(instruction, "what it accesses is too far away")
    return instruction.code[:place] + _signed(new) + instruction.code[place + 4 :]


def _move_branch(instruction: Instruction, flow: int, to: int, target: int) -> bytes:
    if flow == JMP:
        return _jump(to, target)
    if flow == CALL:
        return b"\xe8" + _displacement(instruction, to + 5, target)
    if flow == JCC:
        condition = instruction.opcode & 15
        return bytes((0x0F, 0x80 | condition)) + _displacement(instruction, to + 6, target)
    head = instruction.code[:-1] + b"\x02\xeb\x05"  # the loop, over a jmp short, to the jump
    return head + _jump(to + len(head), target)


def _jump(to: int, target: int) -> bytes:
    return b"\xe9" + _signed(target - to - JUMP_SIZE)


def _target(instruction: Instruction) -> int:
    size, offset = instruction.imm_size, instruction.imm_offset
    displacement = instruction.code[offset : offset + size]
    distance = int.from_bytes(displacement, "little", signed=True)
    return instruction.address + instruction.length + distance


def _displacement(instruction: Instruction, following: int, target: int) -> bytes:
    distance = target - following
    if not -_REACH <= distance < _REACH:
        raise _cannot_move(instruction, "its target is too far away")
    return _signed(distance)


def _signed(value: int) -> bytes:
    return value.to_bytes(4, "little", signed=True)


def _cannot_move(instruction: Instruction, reason: str) -> HookError:
    return HookError(
        f"the instruction at {instruction.address:#x} ({instruction.code.hex(' ')}) must make room "
        f"for a jump, and cannot: {reason}",
        app_address=instruction.address,
        code=instruction.code,
    )
