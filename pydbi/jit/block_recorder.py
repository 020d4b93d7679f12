"""Recording and watching the accesses of one block in the making."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydbi.jit.context import SHADOW_PAIRS
from pydbi.jit.draft import BlockFull
from pydbi.jit.memory_callbacks import READ, WRITE
from pydbi.jit.record_views import SequenceView
from pydbi.jit.recording import Plan, emit_after, emit_before, plan_recording

if TYPE_CHECKING:
    from pydbi.jit.draft import Draft

LARGEST_PLAN = 17
"""Pairs of words that one instruction may need (enter with 31 levels)."""


class BlockRecorder:
    """Emits what records a block's accesses, and notes for each gate what it can read."""

    def __init__(self, draft: Draft, recording: int, values: bool) -> None:
        """Prepare to record.

        Args:
            recording: which accesses, READ and WRITE.
            values: whether what is read and written is recorded too.
        """
        self._draft = draft
        self._values = values
        self._reads, self._writes = bool(recording & READ), bool(recording & WRITE)
        self._sequence: list[Plan] = []
        self._plan: Plan | None = None
        self._slot = 0

    def begin_sequence(self) -> None:
        """Let what follows belong to a sequence of its own."""
        self._sequence = []

    def before(self, app: int, code: bytes) -> Plan | None:
        """Emit what goes before the instruction with the bytes *code* at *app*, and its gates.

        Returns:
            What is recorded of it, if anything is.

        Raises:
            BlockFull: there may be no room to record it: the block must end before it.
        """
        if self._slot + LARGEST_PLAN > SHADOW_PAIRS:
            raise BlockFull(app)
        plan = plan_recording(code, app, self._slot, self._reads, self._writes, self._values)
        self._slot = plan.end_slot
        self._plan = plan if plan.records else None
        if self._plan is not None:
            emit_before(self._draft, plan)
        return self._plan

    def again(self) -> None:
        """Emit it once more, behind gates whose callbacks may have changed registers."""
        if self._plan is not None and self._plan.again:
            emit_before(self._draft, self._plan)

    def after(self) -> None:
        """Emit what goes behind an instruction that does not end the block."""
        if self._plan is not None:
            emit_after(self._draft, self._plan)

    def note_gates(self, first: int) -> None:
        """Note that gates from *first* on are reached before the instruction is executed."""
        view = SequenceView(self._sequence, len(self._sequence), self._plan, False)
        self._note(first, view)

    def executed(self, first: int) -> None:
        """Note that gates from *first* on are reached when the instruction has been executed."""
        if self._plan is not None:
            self._sequence.append(self._plan)
        self.note_later_gates(first)

    def note_later_gates(self, first: int) -> None:
        """Note that gates from *first* on are reached behind the latest instruction."""
        self._note(first, SequenceView(self._sequence, len(self._sequence), self._plan, True))

    def _note(self, first: int, view: SequenceView) -> None:
        cache = self._draft.cache
        for gate in range(first, cache.record_count):
            cache.gate_records[gate] = view
