"""What is recorded of an instruction: from the model of its accesses to code and records."""

from __future__ import annotations

from typing import Final

from pydbi.jit.recording_addresses import POINTERS, WITH_OVERRIDE, Addresses
from pydbi.jit.recording_code import NOTHING, Part, Snippet
from pydbi.jit.records import (
    READ,
    UNKNOWN_VALUE,
    WRITE,
    Frames,
    Gathered,
    Masked,
    Plain,
    Record,
    Repeated,
)
from pydbi.tuples import NamedTuple
from pydbi.types import MemoryAccessType
from pydbi.x86 import accesses as model
from pydbi.x86.accesses import Access, accesses, vector_length
from pydbi.x86.instruction import EVEX, Instruction, scan
from pydbi.x86.operands import (
    Operand,
    store_opmask,
    store_vector,
    vector_index,
    vector_mask_bits,
)
from pydbi.x86.registers import RBP, RCX, RSP
from pydbi.x86.traits import CALL, CALL_INDIRECT


class Recipe(NamedTuple):
    """All that recording an instruction takes, but for where it lies."""

    before: Part
    after: Part
    pairs: int
    records: tuple[Record, ...]


_NOTHING_TO_RECORD: Final = Recipe(NOTHING, NOTHING, 0, ())


def make_recipe(
    code: bytes, record_reads: bool, record_writes: bool, record_values: bool
) -> Recipe:
    """Return how the instruction *code* is recorded; without values, these are unknown.

    Raises:
        DecodeError: it is not an instruction.
    """
    instruction = scan(code)
    chosen = [a for a in accesses(instruction) if (record_writes if a.is_write else record_reads)]
    if not chosen:
        return _NOTHING_TO_RECORD
    maker = _Maker(instruction, record_values)
    for access in chosen:
        maker.add(access)
    return maker.finish()


class _Maker(Addresses):
    """Makes the recipe of one instruction."""

    def __init__(self, instruction: Instruction, record_values: bool) -> None:
        super().__init__(instruction)
        self._values = record_values
        self._after = Snippet()
        self._words = 0
        self._records: list[Record] = []
        self._frames = -1
        self._reads: list[tuple[Access, int]] = []

    def finish(self) -> Recipe:
        """Return the recipe; what is read is loaded when all addresses are stored."""
        for access, word in self._reads:
            self._load_value(access, word)
            self._before.store(word + 1, self._scratch)
        pairs = -(-self._words // 2)
        return Recipe(self._before.finish(), self._after.finish(), pairs, tuple(self._records))

    def add(self, access: Access) -> None:
        """Add one access; reads come before writes."""
        if access.repeated:
            self._add_repeated(access)
        elif access.place == model.VECTOR:
            self._add_vector(access)
        elif access.place == model.ENTER:
            self._add_frames(access)
        elif access.packing:
            self._add_masked(access)
        else:
            self._add_plain(access)

    def _take(self, words: int) -> int:
        """Reserve *words*, an even number of them, and return the index of the first."""
        first = self._words
        self._words += words
        return first

    # One access.

    def _add_plain(self, access: Access) -> None:
        word = self._take(2)
        flags = access.flags if self._values else access.flags | UNKNOWN_VALUE
        known = not flags & UNKNOWN_VALUE
        self._record_address(access, word)
        if not known:
            self._before.store_zero(word + 1)
        elif not access.is_write:
            self._reads.append((access, word))
        elif self._instruction.flow in (CALL, CALL_INDIRECT):
            self._before.store_address(word + 1, self._instruction.length)
        else:
            self._record_written(word, access.size)
        self._records.append(Plain(word, _type(access), access.size, flags))

    def _record_written(self, word: int, size: int) -> None:
        after, scratch = self._after, self._scratch
        after.borrow(scratch)
        after.load(scratch, word)
        after.load_value(scratch, size, Operand(scratch))
        after.store(word + 1, scratch)

    # Several accesses in one.

    def _add_repeated(self, access: Access) -> None:
        register = POINTERS[access.place]
        word = self._take(2)
        self._before.store(word, register)
        self._after.store(word + 1, register)
        segment = self._instruction.segment if access.place in WITH_OVERRIDE else 0
        base = self._add_segment_base(segment)
        self._records.append(Repeated(word, _type(access), access.size, self._narrow, base))

    def _add_segment_base(self, segment: int) -> int | None:
        """Store the base of an override in a word of its own; return its index."""
        if not segment:
            return None
        word = self._take(2)
        self._before.borrow(RCX)
        self._before.load_segment_base(RCX, segment)
        self._before.store(word, RCX)
        self._before.give_back(RCX)
        return word

    def _add_masked(self, access: Access) -> None:
        word = self._take(2)
        self._record_address(access, word)
        self._record_mask(access, word + 1)
        self._records.append(
            Masked(
                word,
                _type(access),
                access.size,
                access.element,
                access.elements,
                access.packing,
            )
        )

    def _record_mask(self, access: Access, word: int) -> None:
        instruction, before = self._instruction, self._before
        if instruction.encoding == EVEX:
            wide = access.elements > 16
            if not wide:
                before.store_zero(word)
            register = instruction.code[instruction.opcode_offset - 1] & 7
            before.add_store(store_opmask(register, wide=wide), word)
        else:
            before.borrow(self._scratch)
            self._in_scratch = -1
            before.add(vector_mask_bits(instruction, self._scratch, access.element))
            before.store(word, self._scratch)

    def _add_vector(self, access: Access) -> None:
        instruction = self._instruction
        length = vector_length(instruction)
        word = self._take(2 + length // 4)
        address = self._operand_of(access)._replace(segment=0)
        self._before.borrow(self._scratch)
        self._before.lea(self._scratch, address)
        self._before.store(word, self._scratch)
        self._record_mask(access, word + 1)
        evex = instruction.encoding == EVEX
        index = store_vector(vector_index(instruction), length, evex=evex)
        self._before.add_store(index, word + 2)
        data = store_vector(instruction.reg or 0, length, evex=evex)
        part = self._before if access.is_write else self._after
        part.add_store(data, word + 2 + length // 8)
        self._records.append(
            Gathered(
                word,
                _type(access),
                access.size,
                access.elements,
                self._operand.scale,
                8 if instruction.opcode & 1 else 4,
                length,
                self._narrow,
                self._add_segment_base(self._operand.segment),
                self._values,
            )
        )

    def _add_frames(self, access: Access) -> None:
        """Enter: what it copies and what it stores share their words."""
        level = self._instruction.code[self._instruction.imm_offset + 2] & 31
        if self._frames < 0:
            word = self._frames = self._take(4 + (level & ~1))
            self._before.store(word, RSP)
            self._before.store(word + 1, RBP)
        word = self._frames
        scratch, size = self._scratch, access.size
        part = self._after if access.is_write else self._before
        part.borrow(scratch)
        for number in range(access.elements):
            operand = Operand(RBP, displacement=-size * (number + 1))
            if access.is_write:
                part.load(scratch, word)
                operand = operand._replace(base=scratch)
            part.load_value(scratch, size, operand)
            part.store(word + (2 if access.is_write else 3) + number, scratch)
        self._records.append(Frames(word, _type(access), size, access.elements, self._values))


def _type(access: Access) -> MemoryAccessType:
    return WRITE if access.is_write else READ
