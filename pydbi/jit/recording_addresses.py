"""The machine code that computes where an instruction accesses memory, and loads what is there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from pydbi.jit.recording_code import Snippet
from pydbi.x86 import accesses as model
from pydbi.x86.accesses import Access
from pydbi.x86.instruction import LEGACY, Instruction
from pydbi.x86.operands import Operand, operand_of
from pydbi.x86.registers import RAX, RBP, RBX, RCX, RDI, RDX, RSI, RSP
from pydbi.x86.traits import RIP

_FS: Final = 0x64
POINTERS: Final = {
    model.POP: RSP,
    model.FRAME: RBP,
    model.SOURCE: RSI,
    model.DESTINATION: RDI,
    model.MASKED: RDI,
}
WITH_OVERRIDE: Final = frozenset((model.SOURCE, model.MASKED))
_SCRATCH: Final = (RAX, RDX, RBX, RSI, RDI)
"""Of these at most three are in the way: base, index and the register beside them."""


class Addresses:
    """Emits it for the accesses of one instruction, to the part that goes before it."""

    def __init__(self, instruction: Instruction) -> None:
        self._instruction = instruction
        self._before = Snippet()
        self._narrow = 0x67 in instruction.prefixes
        self._operand = operand_of(instruction) if instruction.is_memory else Operand(None)
        self._recorded: dict[str, int] = {}
        self._in_scratch = -1
        self._scratch = next(r for r in _SCRATCH if r not in self._used())

    def _used(self) -> set[int | None]:
        """Registers that take part in an address; rax too where it holds flags meanwhile."""
        instruction = self._instruction
        used = {self._operand.base, self._operand.index}
        if instruction.modrm is None or not instruction.is_memory:
            return used | {RAX, RBX, RSI, RDI}
        if instruction.encoding == LEGACY and instruction.opcode_map:
            used |= {instruction.reg, RAX}
        return used

    def _record_address(self, access: Access, word: int) -> None:
        """Store the access's address; `_in_scratch` is the word whose address the scratch has."""
        place = access.place
        if place in self._recorded and (place in _ADDRESSES or self._operand.segment):
            if self._in_scratch != self._recorded[place]:
                self._before.load(self._scratch, self._recorded[place])
            self._before.store(word, self._scratch)  # what was read is written
            return
        self._recorded[place] = word
        emit = _ADDRESSES.get(place)
        if emit is not None:
            self._before.borrow(self._scratch)
            emit(self)
        elif place == model.OPERAND and self._instruction.traits & RIP:
            self._before.borrow(self._scratch)
            distance = self._instruction.length + self._operand.displacement
            self._before.move_target(self._scratch, distance, self._narrow)
            self._before.add_segment(self._scratch, self._operand.segment)
        else:
            operand = self._operand_of(access)
            bare = operand.index is None and not (operand.displacement or operand.segment)
            if bare and operand.base is not None and not operand.narrow:
                self._before.store(word, operand.base)
                return
            self._before.borrow(self._scratch)
            self._before.lea(self._scratch, operand)
            self._before.add_segment(self._scratch, operand.segment)
        self._before.store(word, self._scratch)
        self._in_scratch = word

    def _load_value(self, access: Access, word: int) -> None:
        """Load what is read to the scratch register, by the instruction's own operand if possible.

        Args:
            word: where the access's address was stored.
        """
        self._before.borrow(self._scratch)
        operand = Operand(self._scratch)
        own = self._operand_of(access) if access.place not in _ADDRESSES else None
        if own is not None and not self._instruction.traits & RIP and own.segment in (0, _FS):
            operand = own
        elif self._in_scratch != word:
            self._before.load(self._scratch, word)
        self._in_scratch = -1
        self._before.load_value(self._scratch, access.size, operand)

    def _operand_of(self, access: Access) -> Operand:
        """Return the memory operand that an access is to, but for those in _ADDRESSES."""
        place, own = access.place, self._operand
        if place in POINTERS:
            stack = place in (model.POP, model.FRAME)
            segment = self._instruction.segment if place in WITH_OVERRIDE else 0
            return Operand(POINTERS[place], segment=segment, narrow=self._narrow and not stack)
        if place == model.PUSH:
            return Operand(RSP, displacement=-access.size)
        if place == model.REGISTER:
            return Operand(self._instruction.reg, narrow=self._narrow)
        if place in (model.TILE, model.VECTOR):
            return own._replace(index=None)
        return own._replace(displacement=own.displacement + access.offset)

    # Addresses that no operand expresses: they go to the scratch register.

    def emit_table_address(self) -> None:
        """xlat: rbx + al."""
        self._before.add(bytes((0x0F, 0xB6, 0xC0 | self._scratch << 3)))  # movzx scratch, al
        self._before.lea(self._scratch, Operand(RBX, self._scratch, narrow=self._narrow))
        self._before.add_segment(self._scratch, self._instruction.segment)

    def emit_absolute_address(self) -> None:
        """a0-a3: the address is the immediate."""
        size = self._instruction.imm_size
        address = int.from_bytes(self._instruction.code[-size:], "little")
        self._before.add(bytes((0x48, 0xB8 | self._scratch)) + address.to_bytes(8, "little"))
        self._before.add_segment(self._scratch, self._instruction.segment)

    def emit_line_address(self) -> None:
        """clzero: rax without its low six bits. Processors that have it have BMI2 too."""
        before, scratch = self._before, self._scratch
        before.borrow(RCX)
        before.lea(scratch, Operand(RAX, narrow=self._narrow))
        before.add(b"\xb9\x06\x00\x00\x00")  # mov ecx, 6
        for prefix in (0xF3, 0xF1):  # shrx scratch, scratch, rcx; shlx
            before.add(bytes((0xC4, 0xE2, prefix, 0xF7, 0xC0 | scratch << 3 | scratch)))
        before.give_back(RCX)
        before.add_segment(scratch, self._instruction.segment)

    def emit_bit_address(self) -> None:
        """bt and its kin: the operand, moved on by the offset in units of the operand's size."""
        before, scratch = self._before, self._scratch
        instruction = self._instruction
        size = 8 if instruction.wide else 2 if 0x66 in instruction.prefixes else 4
        if instruction.traits & RIP:
            distance = instruction.length + self._operand.displacement
            before.move_target(scratch, distance, self._narrow)
        else:
            before.lea(scratch, self._operand)
        before.borrow(RCX)
        offset = instruction.reg or 0
        before.add(_sign_extend(RCX, offset, size))
        before.borrow(RAX)
        before.add(b"\x9f\x0f\x90\xc0")  # lahf; seto al
        before.add(bytes((0x48, 0xC1, 0xF8 | RCX, size.bit_length() + 2)))  # sar rcx, 4, 5 or 6
        before.add(b"\x04\x7f\x9e")  # add al, 0x7f; sahf
        before.give_back(RAX)
        before.lea(scratch, Operand(scratch, RCX, size, narrow=self._narrow))
        before.give_back(RCX)
        before.add_segment(scratch, self._operand.segment)


_ADDRESSES: Final[dict[str, Callable[[Addresses], None]]] = {
    model.TABLE: Addresses.emit_table_address,
    model.ABSOLUTE: Addresses.emit_absolute_address,
    model.BITS: Addresses.emit_bit_address,
    model.LINE: Addresses.emit_line_address,
}


def _sign_extend(target: int, register: int, size: int) -> bytes:
    """Mov or movsx to the 64-bit *target* from *size* bytes of *register*."""
    opcode = {8: b"\x8b", 4: b"\x63", 2: b"\x0f\xbf"}[size]
    rex = 0x48 | (4 if target & 8 else 0) | (1 if register & 8 else 0)
    return bytes((rex,)) + opcode + bytes((0xC0 | (target & 7) << 3 | register & 7,))
