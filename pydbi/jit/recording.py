"""Recording memory accesses by machine code.

Each access of a block has its own pair of words in the context, address and value, so what an
instruction records is a few stores to fixed places. What they mean is known at scan time: the
`Plan`. `pydbi.jit.record_readers` turns both into `MemoryAccess` objects when somebody asks.

Addresses, and what is read, are recorded before the instruction; what is written, behind it. An
access of more than 8 bytes has its address recorded only.

Where a read faults, the rest of the record is left out and its values are unknown: the processor
shall find for itself what is wrong with the instruction, which may be something else.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from pydbi.jit.context import SHADOW_OFFSET
from pydbi.jit.recording_code import NOTHING, Part
from pydbi.jit.recording_places import make_recipe
from pydbi.jit.records import UNREAD, Record
from pydbi.tuples import NamedTuple

if TYPE_CHECKING:
    from pydbi.jit.draft import Draft

_recipe_of = lru_cache(maxsize=1 << 16)(make_recipe)


class Plan(NamedTuple):
    """What is recorded of one instruction of a block, and where.

    Attributes:
        address: app address of the instruction.
        first_slot, end_slot: its pairs of words, counted from the block's first.
        records: how to read them back; reads first. Empty if nothing is recorded.
        before, after: the code; `again` says that it is due after callbacks too, which may have
            changed the registers that a written address depends on.
    """

    address: int
    first_slot: int
    end_slot: int
    records: tuple[Record, ...]
    before: Part
    after: Part

    @property
    def again(self) -> bool:
        """Whether `emit_before` is due once more behind callbacks before the instruction."""
        return self.after is not NOTHING


def plan_recording(
    code: bytes,
    address: int,
    first_slot: int,
    record_reads: bool,
    record_writes: bool,
    record_values: bool = True,
) -> Plan:
    """Plan what is recorded of the instruction with the bytes *code* at app address *address*.

    Args:
        record_values: if not, all values are unknown.

    Raises:
        DecodeError: *code* is not an instruction.
    """
    recipe = _recipe_of(code, record_reads, record_writes, record_values)
    end_slot = first_slot + recipe.pairs
    return Plan(address, first_slot, end_slot, recipe.records, recipe.before, recipe.after)


def emit_before(draft: Draft, plan: Plan) -> None:
    """Emit what records addresses and what is read: right before the instruction or its gates."""
    _emit(draft, plan, plan.before)


def emit_after(draft: Draft, plan: Plan) -> None:
    """Emit what records what was written: right behind the instruction, which is no branch."""
    _emit(draft, plan, plan.after)


def forget_values(plan: Plan, words: memoryview) -> None:
    """Let the values that *plan* has recorded in a context's *words* count as unknown."""
    first = (SHADOW_OFFSET >> 3) + 2 * plan.first_slot
    for record in plan.records:
        for word in record.values_at():
            words[first + word] = UNREAD


def _emit(draft: Draft, plan: Plan, part: Part) -> None:
    code = bytearray(part.code)
    first = SHADOW_OFFSET + 16 * plan.first_slot
    for offset, place in part.places:
        code[offset : offset + 4] = (first + place).to_bytes(4, "little")
    for offset, distance, mask, shift in part.holes:
        value = (plan.address + distance & mask) >> shift & 0xFFFFFFFF
        code[offset : offset + 4] = value.to_bytes(4, "little")
    start = len(draft.out)
    draft.out += code
    for begin, end, register, slot in part.rests:
        draft.rests(start + begin, start + end, register, slot)
    if part.loads:
        first = draft.base + start
        draft.cache.loads.setdefault(plan.address, []).append((first, first + len(code), plan))
