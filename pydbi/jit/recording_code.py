"""The machine code that records accesses, one access at a time; see :mod:`pydbi.jit.recording`.

Code is made once for an instruction's bytes, with holes: where it stores to depends on the block,
and an operand relative to RIP on the instruction's address. It leaves the flags alone. A register
that it borrows rests in a slot of the context meanwhile.
"""

from __future__ import annotations

from typing import Final

from pydbi.host import cpu
from pydbi.jit.context import SLOT
from pydbi.tuples import NamedTuple
from pydbi.x86.encoder import add_register, load_gs, move_immediate, store_gs
from pydbi.x86.operands import Operand, store_immediate, with_operand
from pydbi.x86.registers import RCX

_FS: Final = 0x64
_SLOTS: Final = (SLOT["RECORD_0"], SLOT["RECORD_1"], SLOT["RECORD_2"])
_GUEST_GS, _GUEST_FS, _THREAD = SLOT["GUEST_GS"], SLOT["GUEST_FS"], SLOT["THREAD"]
_WORD: Final = (1 << 64) - 1

_LEA: Final = b"\x8d"
_LOADS: Final = {1: b"\x0f\xb6", 2: b"\x0f\xb7", 4: b"\x8b", 8: b"\x8b"}
"""By size: movzx, movzx, mov, mov."""


class Hole(NamedTuple):
    """Four bytes that depend on where the instruction lies."""

    offset: int
    distance: int
    """From the instruction's first byte to the address that is meant."""
    mask: int
    """The bits of that address that count."""
    shift: int
    """Which of its bits are the lowest here: 0 or 32."""


class Part(NamedTuple):
    """A piece of code, to be copied with its holes filled.

    Attributes:
        code: the bytes.
        places: (offset of a displacement, which byte behind the instruction's first pair it means).
        holes: what depends on the instruction's address.
        rests: (first, last, register, slot): from offset first to last (excluded) the guest's
            register rests in that slot.
        loads: whether it reads the guest's memory, and so may fault.
    """

    code: bytes
    places: tuple[tuple[int, int], ...]
    holes: tuple[Hole, ...]
    rests: tuple[tuple[int, int, int, int], ...]
    loads: bool


NOTHING: Final = Part(b"", (), (), (), False)


class Snippet:
    """A part in the making."""

    def __init__(self) -> None:
        self._code = bytearray()
        self._places: list[tuple[int, int]] = []
        self._holes: list[Hole] = []
        self._rests: list[tuple[int, int, int, int]] = []
        self._borrowed: dict[int, tuple[int, int]] = {}
        self._loads = False

    def finish(self) -> Part:
        """Give back what is borrowed, and return the part."""
        for register in tuple(self._borrowed):
            self.give_back(register)
        if not self._code:
            return NOTHING
        holes, rests = tuple(self._holes), tuple(self._rests)
        return Part(bytes(self._code), tuple(self._places), holes, rests, self._loads)

    def add(self, code: bytes) -> None:
        """Append *code* as it is."""
        self._code += code

    def add_store(self, code: bytes, word: int, immediate: int = 0) -> None:
        """Append *code*, which stores to *word*: its displacement is before the immediate."""
        self._code += code
        self._places.append((len(self._code) - immediate - 4, word * 8))

    def store(self, word: int, register: int) -> None:
        """Store *register* in *word*."""
        self.add_store(store_gs(register, 0), word)

    def store_zero(self, word: int) -> None:
        """Store 0 in *word*."""
        self.add_store(store_immediate(0), word, 4)

    def store_address(self, word: int, distance: int) -> None:
        """Store the app address *distance* bytes from the instruction in *word*."""
        for half in (0, 4):
            self._code += b"\x65\xc7\x04\x25" + bytes(8)  # mov dword gs:[...], half of it
            end = len(self._code)
            self._places.append((end - 8, word * 8 + half))
            self._holes.append(Hole(end - 4, distance, _WORD, half * 8))

    def load(self, register: int, word: int) -> None:
        """Load *register* from *word*."""
        self.add_store(load_gs(register, 0), word)

    def borrow(self, register: int) -> None:
        """Let *register* be free until it is given back; again is no more than once."""
        if register not in self._borrowed:
            taken = {slot for slot, _ in self._borrowed.values()}
            slot = next(slot for slot in _SLOTS if slot not in taken)
            self._code += store_gs(register, slot)
            self._borrowed[register] = (slot, len(self._code))

    def give_back(self, register: int) -> None:
        """Restore the guest's *register*."""
        slot, first = self._borrowed.pop(register)
        self._rests.append((first, len(self._code), register, slot))
        self._code += load_gs(register, slot)

    def lea(self, register: int, operand: Operand) -> None:
        """Compute the operand's address, without its segment."""
        self._code += with_operand(_LEA, register, operand, wide=not operand.narrow)

    def load_value(self, register: int, size: int, operand: Operand) -> None:
        """Load *size* bytes of guest memory, zero-extended."""
        segment = _FS if operand.segment == _FS else 0
        self._loads = True
        self._code += with_operand(_LOADS[size], register, operand, wide=size == 8, segment=segment)

    def move_target(self, register: int, distance: int, narrow: bool) -> None:
        """Load the app address *distance* bytes from the instruction, of 32 bits if *narrow*."""
        self._code += move_immediate(register, 0)
        mask = 0xFFFFFFFF if narrow else _WORD
        end = len(self._code)
        self._holes += (Hole(end - 8, distance, mask, 0), Hole(end - 4, distance, mask, 32))

    def load_segment_base(self, register: int, segment: int) -> None:
        """Load the guest's FS or GS base; without rdfsbase, *register* must be rcx."""
        if segment != _FS:
            self._code += load_gs(register, _GUEST_GS)
        elif cpu.has_fsgsbase():
            self._code += bytes((0xF3, 0x48, 0x0F, 0xAE, 0xC0 | register))  # rdfsbase
        else:
            # The guest's own thread pointer, if it has set one, else this thread's.
            thread = load_gs(RCX, _THREAD)
            self._code += load_gs(RCX, _GUEST_FS)
            self._code += b"\xe3\x02\xeb" + bytes((len(thread),)) + thread  # jrcxz; jmp; mov

    def add_segment(self, register: int, segment: int) -> None:
        """Add the guest's FS or GS base to *register*, not rcx, if there is an override."""
        if segment:
            self.borrow(RCX)
            self.load_segment_base(RCX, segment)
            self._code += add_register(register, RCX)
            self.give_back(RCX)
