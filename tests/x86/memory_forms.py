"""Every opcode in its memory form, and the processor as a witness of what it accesses.

The operand is put at the end of readable memory: an instruction that accesses more than the model
says faults there. This runs in a child process: the instructions do whatever they do.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from itertools import product

from pydbi.errors import GuestFault, UnsupportedInstruction
from pydbi.host.memory import PAGE_SIZE, map_memory, protect_memory
from pydbi.types import MemoryAccessFlags
from pydbi.vm import VM
from pydbi.x86 import accesses as model
from pydbi.x86 import traits
from pydbi.x86.accesses import Access, accesses
from pydbi.x86.instruction import Instruction, decode

_CODE_SIZE = 1 << 22
_TAIL = bytes(4)  # immediates
_READABLE, _WRITABLE, _EXECUTABLE = 1, 3, 7
_NO_FORMS = {
    0x0F, 0x26, 0x2E, 0x36, 0x3E, 0x62, 0x64, 0x65, 0x66, 0x67, 0xC4, 0xC5, 0xF0, 0xF2, 0xF3,
}  # fmt: skip
_ONE_BYTE_GROUPS = {
    *range(0x80, 0x84), 0x8F, 0xC0, 0xC1, *range(0xD0, 0xE0), 0xC6, 0xC7, 0xF6, 0xF7, 0xFE, 0xFF,
}  # fmt: skip
_TWO_BYTE_GROUPS = {0x00, 0x01, 0x0D, 0x18, 0x71, 0x72, 0x73, 0xAE, 0xBA, 0xC7}
_EVEX_SHIFTS = {0x71, 0x72, 0x73}


def legacy_forms() -> Iterator[bytes]:
    """Opcodes of the four legacy maps with [rbx], under each prefix that may select another."""
    maps = ((0, b""), (1, b"\x0f"), (2, b"\x0f\x38"), (3, b"\x0f\x3a"))
    for (number, escape), opcode in product(maps, range(256)):
        if number == 0 and (opcode in _NO_FORMS or opcode & 0xF0 == 0x40):
            continue
        if number == 1 and opcode in (0x38, 0x3A):
            continue
        prefixes = (b"", b"\x66") if number == 0 else (b"", b"\x66", b"\xf3", b"\xf2")
        groups = _ONE_BYTE_GROUPS if number == 0 else _TWO_BYTE_GROUPS if number == 1 else set()
        regs = range(8) if opcode in groups else (0,)
        for prefix, rex, reg in product(prefixes, (b"", b"\x48"), regs):
            yield prefix + rex + escape + bytes((opcode, reg << 3 | 3)) + _TAIL


def vex_forms() -> Iterator[bytes]:
    """VEX opcodes with [rbx], under each pp, W and L."""
    for number, opcode, pp, wide, length in product(
        (1, 2, 3), range(256), range(4), (0, 0x80), (0, 4)
    ):
        for reg in range(8) if opcode in (0xAE, 0xF3) else (0,):
            payload = bytes((0xE0 | number, wide | 0x78 | length | pp))
            yield b"\xc4" + payload + bytes((opcode, reg << 3 | 3)) + _TAIL


def evex_forms(mask: int = 0, displacement: int = 0) -> Iterator[bytes]:
    """EVEX opcodes with [rbx + displacement], under each pp, W, length and broadcast bit."""
    mode = 0x40 if displacement else 0
    tail = bytes((displacement,)) + _TAIL if displacement else _TAIL
    for number, opcode, pp, wide, length, broadcast in product(
        (1, 2, 3, 5, 6), range(256), range(4), (0, 0x80), (0, 0x20, 0x40), (0, 0x10)
    ):
        for reg in (0, 2, 4, 6) if number == 1 and opcode in _EVEX_SHIFTS else (0,):
            payload = bytes((0xF0 | number, wide | 0x7C | pp, length | broadcast | 8 | mask))
            yield b"\x62" + payload + bytes((opcode, mode | reg << 3 | 3)) + tail


def instructions(forms: Iterator[bytes]) -> Iterator[Instruction]:
    """Those of *forms* that are instructions with a memory operand and go on behind it."""
    for code in forms:
        found = decode(code, 0)
        if (
            isinstance(found, Instruction)
            and found.is_memory
            and found.flow == traits.PLAIN
            and not found.traits & traits.SEGMENT_LOAD
        ):
            yield found


def operand_accesses(instruction: Instruction) -> list[Access] | None:
    """Its accesses to the operand itself; None if they are elsewhere, or of a size at least."""
    found = accesses(instruction)
    elsewhere = (model.VECTOR, model.TILE, model.REGISTER, model.BITS)
    if any(a.place in elsewhere or a.flags & MemoryAccessFlags.MEMORY_MINIMUM_SIZE for a in found):
        return None
    return [access for access in found if access.place == model.OPERAND]


class Witness:
    """Executes single instructions whose operand is [rbx]."""

    def __init__(self) -> None:
        self._code = map_memory(_CODE_SIZE, _EXECUTABLE)
        self._data = map_memory(3 * PAGE_SIZE)
        self._end = self._data + 2 * PAGE_SIZE
        protect_memory(self._end, PAGE_SIZE, 0)
        self._used = 0
        self._vm = VM()
        self._vm.addInstrumentedRange(self._code, self._code + _CODE_SIZE)
        self._fpr = self._vm.getFPRState().__copy__()
        self._stack = ctypes.create_string_buffer(1 << 16)

    def place(self, instruction: Instruction) -> tuple[int, int]:
        """Put it into memory; return its address and that behind it."""
        address = self._code + self._used
        ctypes.memmove(address, instruction.code + b"\x90\xc3", instruction.length + 2)
        ctypes.memset(self._data, 0, 2 * PAGE_SIZE)
        self._used += 32
        return address, address + instruction.length

    def runs(self, place: tuple[int, int], before_end: int, mask: int = 0) -> bool:
        """Whether it completes with the operand *before_end* bytes before the end of memory."""
        gpr = self._vm.getGPRState()
        for name in ("rax", "rcx", "rdx", "rbp"):
            setattr(gpr, name, 0)
        gpr.rsi = gpr.rdi = self._data
        gpr.rsp = (ctypes.addressof(self._stack) + 0x8000) & -64
        gpr.rbx = self._end - before_end
        gpr.eflags = 0x202
        self._vm.setFPRState(self._fpr)
        if mask:
            self._vm.getFPRState().k1 = mask
        try:
            return self._vm.run(*place)
        except (GuestFault, UnsupportedInstruction):
            return False

    def complaints(self, instruction: Instruction) -> str | None:
        """What the model says wrongly; None if this processor cannot tell."""
        found = operand_accesses(instruction)
        if found is None:
            return None
        place = self.place(instruction)
        if not self.runs(place, PAGE_SIZE) or not found:
            return None
        size = max(access.size for access in found)
        wrong = ""
        if not self.runs(place, size):
            wrong += f" accesses more than {size};"
        # Aligned as it was, or one byte more than there is: the CPU may insist on 16.
        if self.runs(place, size // 2 if size >= 16 else size - 1):
            wrong += f" accesses less than {size};"
        protect_memory(self._data, 2 * PAGE_SIZE, _READABLE)
        writes = not self.runs(place, PAGE_SIZE)
        protect_memory(self._data, 2 * PAGE_SIZE, _WRITABLE)
        if writes != any(access.is_write for access in found):
            wrong += f" writes: {writes};"
        return wrong

    def masked_complaints(self, instruction: Instruction) -> str | None:
        """What the model says wrongly of an instruction that is masked by k1."""
        found = operand_accesses(instruction)
        place = self.place(instruction)
        if not found or not self.runs(place, PAGE_SIZE, 3):
            return None
        (access,) = found
        if not access.packing:
            return "" if not self.runs(place, access.size // 2) else " it is masked;"
        first = access.size if access.packing == "~" else access.element
        wrong = ""
        if not self.runs(place, 0):
            wrong += " accesses with an empty mask;"
        if not self.runs(place, first, 1):
            wrong += f" the first element is more than {first};"
        if self.runs(place, first - 1, 1):
            wrong += f" the first element is less than {first};"
        return wrong
