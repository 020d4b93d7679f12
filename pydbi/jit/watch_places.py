"""Where an instruction's accesses lie, as far as that decides whether a watch may be hit.

An access at a base register, with or without an index, hits a watched window if and only if the
register (or base + index * scale) lies in an interval that is known at scan time.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from pydbi.tuples import NamedTuple
from pydbi.types import MemoryAccessFlags
from pydbi.x86 import accesses as model
from pydbi.x86.accesses import Access, accesses
from pydbi.x86.instruction import Instruction, scan
from pydbi.x86.operands import operand_of
from pydbi.x86.registers import RBP, RDI, RSI, RSP
from pydbi.x86.traits import RIP

SPACE: Final = 1 << 64
"""Addresses are counted modulo this."""
_ADDRESS_SIZE: Final = 0x67
_STACK: Final = {model.POP: RSP, model.PUSH: RSP, model.FRAME: RBP}
_STRINGS: Final = {model.SOURCE: RSI, model.DESTINATION: RDI, model.MASKED: RDI}
_WITH_OVERRIDE: Final = frozenset((model.SOURCE, model.MASKED))

Window = tuple[int, int]
"""Watched addresses, [low, high)."""
Interval = tuple[int, int]
"""Values that hit, [low, high) modulo SPACE; low > high if they lie around 0."""


class Expression(NamedTuple):
    """What an address is computed from: base + index * scale, by numbers of general registers."""

    base: int | None
    index: int | None = None  # type: ignore[assignment]  # tuples have a method of this name
    scale: int = 1


class Place(NamedTuple):
    """One access.

    Attributes:
        is_write: it writes; else it reads.
        expression: None if only the instruction itself finds out what it accesses.
        displacement: what is added to the expression.
        is_relative: the displacement counts from the instruction's address.
        size: bytes, at most.
    """

    is_write: bool
    expression: Expression | None
    displacement: int = 0
    is_relative: bool = False
    size: int = 0


@lru_cache(maxsize=1 << 16)
def places_of(code: bytes) -> tuple[Place, ...]:
    """Return where the instruction with the bytes *code* accesses memory.

    Raises:
        DecodeError: it is not an instruction.
    """
    instruction = scan(code)
    return tuple(_place(instruction, access) for access in accesses(instruction))


def _place(instruction: Instruction, access: Access) -> Place:
    unknown = Place(access.is_write, None)
    least = access.flags & MemoryAccessFlags.MEMORY_MINIMUM_SIZE
    if access.repeated or not access.size or least or access.place == model.VECTOR:
        return unknown
    place, size = access.place, access.size
    if place in _STACK:
        displacement = -size if place == model.PUSH else 0
        return Place(access.is_write, Expression(_STACK[place]), displacement, size=size)
    if _ADDRESS_SIZE in instruction.prefixes:
        return unknown
    if place in _STRINGS:
        if instruction.segment and place in _WITH_OVERRIDE:
            return unknown
        return Place(access.is_write, Expression(_STRINGS[place]), size=size)
    if place != model.OPERAND or instruction.segment:
        return unknown
    operand = operand_of(instruction)
    displacement = operand.displacement + access.offset
    if instruction.traits & RIP:
        displacement += instruction.length
        return Place(access.is_write, Expression(None), displacement, True, size)
    expression = Expression(operand.base, operand.index, operand.scale)
    if operand.index is None:
        expression = Expression(operand.base)
    return Place(access.is_write, expression, displacement, size=size)


def merge(windows: Iterable[Window], gap: int = 0) -> list[Window]:
    """Return disjoint ascending windows; those at most *gap* bytes apart become one."""
    merged: list[Window] = []
    for low, high in sorted(windows):
        if merged and low - merged[-1][1] <= gap:
            merged[-1] = merged[-1][0], max(high, merged[-1][1])
        else:
            merged.append((low, high))
    return merged


def overlaps(low: int, size: int, windows: Iterable[Window]) -> bool:
    """Whether the *size* bytes at *low* touch a window; an access of no bytes touches none."""
    return size > 0 and any(low < end and low + size > start for start, end in windows)


def interval(window: Window, size: int, displacement: int) -> Interval | None:
    """Return the values v for which *size* bytes at v + *displacement* touch *window*.

    None stands for all values.
    """
    low, high = window
    if high - low + size - 1 >= SPACE:
        return None
    return (low - size + 1 - displacement) % SPACE, (high - displacement) % SPACE
