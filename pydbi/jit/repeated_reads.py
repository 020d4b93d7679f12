"""What a string instruction with a repeat prefix is about to access."""

from __future__ import annotations

from typing import Any, Final

from pydbi.errors import GuestMemoryError
from pydbi.host.memory import readMemory
from pydbi.types import MemoryAccess, MemoryAccessFlags
from pydbi.x86.accesses import accesses
from pydbi.x86.flags import DF
from pydbi.x86.instruction import Instruction, scan

_ADDRESS_SIZE: Final = 0x67
_REPEAT_WHILE_EQUAL: Final = 0xF3
_GS: Final = 0x65
_COMPARE: Final = frozenset((0xA6, 0xA7))
_SCAN: Final = frozenset((0xAE, 0xAF))
_AT_ONCE: Final = 1024
_NARROW: Final = (1 << 32) - 1
_ADDRESS: Final = (1 << 64) - 1


def read_ahead(code: bytes, access: MemoryAccess, gpr: Any) -> MemoryAccess:
    """Return *access* with the address and size that it will have when the instruction is done.

    Args:
        code: a string instruction with a repeat prefix that is about to be executed.
        access: what is recorded of it, of unknown size.
        gpr: the guest's registers.
    """
    instruction = scan(code)
    mask = _NARROW if _ADDRESS_SIZE in instruction.prefixes else _ADDRESS
    size = next((each.size for each in accesses(instruction) if each.repeated), 0)
    step = -size if gpr.eflags & DF else size
    count = _repetitions(instruction, gpr, mask, step)
    address = access.accessAddress
    if step < 0 and count:
        address += (count - 1) * step
    return MemoryAccess(
        access.instAddress,
        address & _ADDRESS,
        0,
        count * size,
        access.type,
        MemoryAccessFlags.MEMORY_UNKNOWN_VALUE,
    )


def _repetitions(instruction: Instruction, gpr: Any, mask: int, step: int) -> int:
    """Return how often it will be repeated: comparisons may end it before rcx does."""
    count: int = gpr.rcx & mask
    scans = instruction.opcode in _SCAN
    if not (scans or instruction.opcode in _COMPARE):
        return count
    base = 0
    if instruction.segment and not scans:
        if instruction.segment != _GS:
            return count  # through FS, whose base is not always known: nothing is looked at
        base = gpr.gs
    repeats = [byte for byte in instruction.prefixes if byte in (0xF2, 0xF3)]
    while_equal = repeats[-1] == _REPEAT_WHILE_EQUAL
    wanted = (gpr.rax & _ADDRESS).to_bytes(8, "little")[: abs(step)]
    done = 0
    while done < count:
        number = min(count - done, _AT_ONCE)
        found = _elements((gpr.rdi & mask) + done * step, step, number)
        others = [wanted] * number
        if not scans:
            source = base + (gpr.rsi & mask) & _ADDRESS
            others = _elements(source + done * step, step, number)
        if not found or not others:
            return done + 1  # the next one faults
        for one, other in zip(found, others, strict=False):
            done += 1
            if (one == other) != while_equal:
                return done
    return done


def _elements(address: int, step: int, count: int) -> list[bytes]:
    """Return *count* elements that lie *step* bytes apart, or those before the first bad one."""
    size = abs(step)
    lowest = address if step > 0 else address + (count - 1) * step
    try:
        data = readMemory(lowest, count * size)
    except (GuestMemoryError, TypeError):  # the latter: it does not lie in the address space
        return _elements(address, step, count // 2) if count > 1 else []
    found = [data[at : at + size] for at in range(0, len(data), size)]
    return found if step > 0 else found[::-1]
