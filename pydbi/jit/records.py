"""From what generated code has stored to `MemoryAccess` objects; see :mod:`pydbi.jit.recording`.

Words are counted from the first pair of the instruction's records.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from struct import Struct
from typing import Final, Protocol

from pydbi.errors import GuestMemoryError
from pydbi.host.memory import readMemory
from pydbi.tuples import NamedTuple
from pydbi.types import MemoryAccess, MemoryAccessFlags, MemoryAccessType

Words = memoryview
"""A context as 64-bit words."""

READ: Final = MemoryAccessType.MEMORY_READ
WRITE: Final = MemoryAccessType.MEMORY_WRITE
NO_FLAGS: Final = MemoryAccessFlags.MEMORY_NO_FLAGS
UNKNOWN_VALUE: Final = MemoryAccessFlags.MEMORY_UNKNOWN_VALUE
_UNTIL_EXECUTED: Final = MemoryAccessFlags.MEMORY_UNKNOWN_SIZE | UNKNOWN_VALUE
_ADDRESS: Final = (1 << 64) - 1
_SIGN: Final = 1 << 63
_NARROW: Final = (1 << 32) - 1


class Record(Protocol):
    """How one access is read back."""

    @property
    def type(self) -> MemoryAccessType:
        """Whether it reads or writes."""

    def read(
        self, words: Words, first: int, instruction: int, executed: bool
    ) -> Sequence[MemoryAccess]:
        """Return the accesses that were recorded.

        Args:
            words: the context.
            first: index in it of the instruction's first word.
            instruction: app address.
            executed: whether the instruction was executed, or is about to be.
        """

    def values_at(self) -> range:
        """Return the words that hold values which code for recording has loaded."""


UNREAD: Final = int.from_bytes(os.urandom(8), "little") | 3 << 62
"""A value that could not be read, as a word: no guest can know it."""


def without_unread(accesses: list[MemoryAccess]) -> list[MemoryAccess]:
    """Say of *accesses* whose value could not be read that it is unknown; return them."""
    for access in accesses:
        if access.value == UNREAD:
            access.value = 0
            access.flags |= UNKNOWN_VALUE
    return accesses


class Plain(NamedTuple):
    """An access of fixed size: its address and its value (0 if unknown) are a pair of words."""

    word: int
    type: MemoryAccessType
    size: int
    flags: MemoryAccessFlags

    def read(
        self, words: Words, first: int, instruction: int, executed: bool
    ) -> Sequence[MemoryAccess]:
        """See `Record`."""
        at = first + self.word
        address, value = words[at], words[at + 1]
        return (MemoryAccess(instruction, address, value, self.size, self.type, self.flags),)

    def values_at(self) -> range:
        """See `Record`."""
        known = not self.flags & UNKNOWN_VALUE
        return range(self.word + 1, self.word + 1 + known)


class Repeated(NamedTuple):
    """A string instruction with a repeat prefix: rsi or rdi before it and behind it."""

    word: int
    type: MemoryAccessType
    size: int
    """Bytes of one repetition."""
    narrow: bool
    """The pointer has 32 bits."""
    base: int | None
    """The word with the segment's base, if there is an override."""

    def read(
        self, words: Words, first: int, instruction: int, executed: bool
    ) -> Sequence[MemoryAccess]:
        """See `Record`; the total size, and the lowest address, are known once it has executed."""
        at = first + self.word
        address, behind = words[at], words[at + 1]
        base = 0 if self.base is None else words[first + self.base]
        mask = _NARROW if self.narrow else _ADDRESS
        address &= mask
        flags, total = _UNTIL_EXECUTED, 0
        if executed:
            flags, total = UNKNOWN_VALUE, (behind - address) & mask
            if total > mask >> 1:  # downwards: the direction flag is set
                total = mask + 1 - total
                address = (address - total + self.size) & mask
        address = (address + base) & _ADDRESS
        return (MemoryAccess(instruction, address, 0, total, self.type, flags),)

    def values_at(self) -> range:
        """See `Record`."""
        return range(0)


class Masked(NamedTuple):
    """An access to the elements that a mask selects; the second word is the mask."""

    word: int
    type: MemoryAccessType
    size: int
    element: int
    elements: int
    packing: str
    """See `pydbi.x86.accesses.Access`."""

    def read(
        self, words: Words, first: int, instruction: int, executed: bool
    ) -> Sequence[MemoryAccess]:
        """See `Record`; one access for each run of neighbours that are selected."""
        address, mask = words[first + self.word], words[first + self.word + 1]
        mask &= (1 << self.elements) - 1
        if self.packing == "~":
            runs = [(0, self.size)] if mask else []
        elif self.packing == "&":
            runs = [(0, mask.bit_count() * self.element)] if mask else []
        else:
            runs = [(a * self.element, count * self.element) for a, count in _runs(mask)]
        return [
            MemoryAccess(
                instruction, address + offset & _ADDRESS, 0, size, self.type, UNKNOWN_VALUE
            )
            for offset, size in runs
        ]

    def values_at(self) -> range:
        """See `Record`."""
        return range(0)


def _runs(mask: int) -> list[tuple[int, int]]:
    """Return (position of the lowest, number) of each run of ones in *mask*."""
    runs = []
    position = 0
    while mask:
        zeros = (mask & -mask).bit_length() - 1
        mask >>= zeros
        position += zeros
        ones = (~mask & mask + 1).bit_length() - 1
        runs.append((position, ones))
        mask >>= ones
        position += ones
    return runs


class Gathered(NamedTuple):
    """A gather or scatter: base, mask, the index vector, the data vector, a segment's base."""

    word: int
    type: MemoryAccessType
    size: int
    elements: int
    scale: int
    index_size: int
    length: int
    """Bytes of each vector."""
    narrow: bool
    base: int | None
    values: bool
    """Whether values are wanted."""

    def read(
        self, words: Words, first: int, instruction: int, executed: bool
    ) -> Sequence[MemoryAccess]:
        """See `Record`; one access for each element that the mask selects.

        What a gather is about to read is looked up in memory.
        """
        at = first + self.word
        segment = 0 if self.base is None else words[first + self.base]
        origin, mask = words[at], words[at + 1]
        middle, end = at + 2 + self.length // 8, at + 2 + self.length // 4
        indices = _elements(words[at + 2 : middle], self.index_size, self.elements)
        values = _elements(words[middle:end], self.size, self.elements)
        wrap = _NARROW if self.narrow else _ADDRESS
        half, modulus = 1 << self.index_size * 8 - 1, 1 << self.index_size * 8
        found = []
        for number, (index, value) in enumerate(zip(indices, values, strict=True)):
            if mask >> number & 1:
                index -= modulus if index & half else 0
                address = ((origin + index * self.scale & wrap) + segment) & _ADDRESS
                flags = NO_FLAGS
                if not self.values:
                    value, flags = 0, UNKNOWN_VALUE
                elif not executed:
                    value, flags = _peek(address, self.size)
                found.append(MemoryAccess(instruction, address, value, self.size, self.type, flags))
        return found

    def values_at(self) -> range:
        """See `Record`."""
        return range(0)


def _elements(words: Words, size: int, count: int) -> tuple[int, ...]:
    """Return the first *count* elements, of *size* bytes, of a vector."""
    return Struct(f"<{count}{'I' if size == 4 else 'Q'}").unpack_from(words.cast("B"))


def _peek(address: int, size: int) -> tuple[int, MemoryAccessFlags]:
    """Return what lies in memory now, and whether that could be read."""
    try:
        return int.from_bytes(readMemory(address, size), "little"), NO_FLAGS
    except GuestMemoryError:
        return 0, UNKNOWN_VALUE


class Frames(NamedTuple):
    """The pushes of enter, or the frame pointers that it copies: rsp and rbp, then the values."""

    word: int
    type: MemoryAccessType
    size: int
    elements: int
    values: bool
    """Whether values are wanted."""

    def read(
        self, words: Words, first: int, instruction: int, executed: bool
    ) -> Sequence[MemoryAccess]:
        """See `Record`."""
        at = first + self.word
        writes = self.type is WRITE
        origin = words[at] if writes else words[at + 1]
        place = first + self._first_value()
        return [
            MemoryAccess(
                instruction,
                origin - self.size * (number + 1) & _ADDRESS,
                words[place + number] if self.values else 0,
                self.size,
                self.type,
                NO_FLAGS if self.values else UNKNOWN_VALUE,
            )
            for number in range(self.elements)
        ]

    def values_at(self) -> range:
        """See `Record`."""
        first = self._first_value()
        return range(first, first + self.elements)

    def _first_value(self) -> int:
        """Return the word of the first value; that of the writes is the rbp that is pushed."""
        return self.word + (2 if self.type is WRITE else 3)
