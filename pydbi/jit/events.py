"""VM events: what the guest's way through blocks and ranges looks like from outside.

A basic block runs from where it is entered to its branch. It consists of sequences: one, or two if
its tail was translated already when the block was first seen. Gates at a sequence's borders report
entries and exits; that a block is new is reported from the dispatcher, which has just had it made,
so an execution that is not the first does not pay for it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Final

from pydbi.tuples import NamedTuple
from pydbi.types import VMEvent, VMState

FIRST_IDENTITY: Final = 1 << 30
"""Ids of event callbacks count from here, as in PyQBDI."""

SEQUENCE_ENTRY: Final = int(VMEvent.SEQUENCE_ENTRY)
SEQUENCE_EXIT: Final = int(VMEvent.SEQUENCE_EXIT)
BLOCK_ENTRY: Final = int(VMEvent.BASIC_BLOCK_ENTRY)
BLOCK_EXIT: Final = int(VMEvent.BASIC_BLOCK_EXIT)
BLOCK_NEW: Final = int(VMEvent.BASIC_BLOCK_NEW)
TRANSFER_CALL: Final = int(VMEvent.EXEC_TRANSFER_CALL)
TRANSFER_RETURN: Final = int(VMEvent.EXEC_TRANSFER_RETURN)
IN_BLOCKS: Final = SEQUENCE_ENTRY | SEQUENCE_EXIT | BLOCK_ENTRY | BLOCK_EXIT | BLOCK_NEW
TRANSFERS: Final = TRANSFER_CALL | TRANSFER_RETURN


class EventRegistration(NamedTuple):
    """A callback and the events it is due at."""

    identity: int
    mask: int
    callback: Callable[..., Any]
    data: Any


class EventPoint(NamedTuple):
    """A place where events are reported, by one gate for each callback that is due."""

    first_gate: int
    state: VMState
    due: tuple[EventRegistration, ...]


class EventRegistry:
    """The event callbacks of a VM.

    Attributes:
        mask: all events that some callback is due at.
    """

    def __init__(self) -> None:
        self.mask = 0
        self._registrations: dict[int, EventRegistration] = {}
        self._next = FIRST_IDENTITY

    def __contains__(self, identity: int) -> bool:
        return identity in self._registrations

    def add(self, mask: int, callback: Callable[..., Any], data: Any) -> int:
        """Enter a callback and return its id."""
        identity = self._next
        self._next += 1
        self._registrations[identity] = EventRegistration(identity, mask, callback, data)
        self._changed()
        return identity

    def remove(self, identity: int) -> bool:
        """Take a callback out; return whether there was one with this id."""
        found = self._registrations.pop(identity, None)
        self._changed()
        return found is not None

    def remove_all(self) -> bool:
        """Take all callbacks out, and count ids anew; return whether there were any."""
        any_there = bool(self._registrations)
        self.__init__()  # type: ignore[misc]
        return any_there

    def _changed(self) -> None:
        self.mask = 0
        for registration in self._registrations.values():
            self.mask |= registration.mask

    def due(self, events: int) -> tuple[EventRegistration, ...]:
        """Return the callbacks that are due when *events* coincide, in order of registration."""
        return tuple(r for r in self._registrations.values() if r.mask & events)


@cache
def event_of(bits: int) -> VMEvent:
    """Return the flags for *bits*; making them costs more than looking them up."""
    return VMEvent(bits)


def transfer_state(bits: int, target: int) -> VMState:
    """Return the state that is shown when execution passes to or from *target*."""
    return VMState(event_of(bits), target, target, target, target)


class Report(NamedTuple):
    """A state, and who is to be told of it."""

    state: VMState
    due: tuple[EventRegistration, ...]


class BlockEvents(NamedTuple):
    """What is to be reported of one block in the making.

    Attributes:
        registry: the callbacks.
        borders: app addresses where its sequences begin, and where it ends.
        is_new: its first instruction was not translated before.
        ends: it is left at its end; False where a run is to stop before that.
    """

    registry: EventRegistry
    borders: tuple[int, ...]
    is_new: bool
    ends: bool

    def _report(self, bits: int, sequence: int) -> Report:
        borders = self.borders
        first, last = borders[sequence], borders[sequence + 1]
        state = VMState(event_of(bits), first, last, borders[0], borders[-1])
        return Report(state, self.registry.due(bits))

    def entry(self) -> Report:
        """What is reported before the first instruction, each time."""
        return self._report(SEQUENCE_ENTRY | BLOCK_ENTRY, 0)

    def first_entry(self) -> Report:
        """What is reported before the first instruction when the block is new."""
        return self._report(SEQUENCE_ENTRY | BLOCK_ENTRY | BLOCK_NEW, 0)

    def between(self, app: int) -> tuple[Report, Report] | None:
        """What is reported before the instruction at *app*, if another sequence begins there."""
        if app not in self.borders[1:-1]:
            return None
        sequence = self.borders.index(app)
        return self._report(SEQUENCE_EXIT, sequence - 1), self._report(SEQUENCE_ENTRY, sequence)

    def exit(self) -> Report:
        """What is reported when the block is left."""
        report = self._report(SEQUENCE_EXIT | BLOCK_EXIT, len(self.borders) - 2)
        return report if self.ends else Report(report.state, ())
