"""What a callback can read of the accesses that its block has recorded so far."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from pydbi.jit.record_readers import Reader, make_reader
from pydbi.jit.recording import Plan
from pydbi.jit.records import without_unread
from pydbi.tuples import NamedTuple
from pydbi.types import MemoryAccess


def tell_unread(reader: Reader) -> Reader:
    """Return what reads the same, and knows values that could not be read from others."""
    return lambda words: without_unread(reader(words))


class RecordView(Protocol):
    """What there is to read when a gate is reached."""

    @property
    def plan(self) -> Plan | None:
        """What the gate's own instruction records."""

    def of_instruction(self) -> Reader:
        """Return what reads the accesses of the gate's instruction; before it, its reads."""

    def of_sequence(self) -> Reader:
        """Return what reads the accesses of the sequence up to here."""


class SequenceView(NamedTuple):
    """What there is to read where all of a block's accesses are recorded."""

    plans: list[Plan]
    """The recording instructions of the sequence, in their order, later ones included."""
    done: int
    """How many of them have been executed."""
    plan: Plan | None
    """What the gate's own instruction records."""
    executed: bool
    """Whether that instruction has been executed."""

    def of_instruction(self) -> Reader:
        """See `RecordView`."""
        return make_reader([] if self.plan is None else [(self.plan, self.executed)])

    def of_sequence(self) -> Reader:
        """See `RecordView`."""
        steps = [(plan, True) for plan in self.plans[: self.done]]
        if self.plan is not None and not self.executed:
            steps.append((self.plan, False))
        return make_reader(steps)


class LoneRecords(NamedTuple):
    """What there is to read where only the instruction itself was recorded: a watch was hit."""

    plan: Plan
    executed: bool
    """Whether the instruction has been executed."""
    record_all: Callable[[], None]
    """Has the others recorded from now on."""

    def of_instruction(self) -> Reader:
        """See `RecordView`."""
        return make_reader([(self.plan, self.executed)])

    def of_sequence(self) -> Reader:
        """Return the same; what the others of the sequence accessed is known from the next on."""
        reader = self.of_instruction()

        def read(words: memoryview) -> list[MemoryAccess]:
            self.record_all()
            return reader(words)

        return read
