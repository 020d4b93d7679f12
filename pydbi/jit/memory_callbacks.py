"""What is to be known of the guest's memory accesses: what to record, and what to watch."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from pydbi.host.late import load
from pydbi.jit.context import SLOT
from pydbi.jit.instrumentation import Registration
from pydbi.types import InstPosition, MemoryAccessType, Options

if TYPE_CHECKING:
    from pydbi.jit.engine import Engine
    from pydbi.jit.watch_checks import Check
    from pydbi.jit.watch_groups import WatchGroup

READ: Final = int(MemoryAccessType.MEMORY_READ)
WRITE: Final = int(MemoryAccessType.MEMORY_WRITE)
FIRST_IDENTITY: Final = 1 << 31
"""Ids of watches count from here, as in PyQBDI."""
_GATE_INDEX: Final = SLOT["GATE_INDEX"] >> 3
_IDS_FOR_RECORDING: Final = 2
"""How many ids PyQBDI uses up when reads, or writes, are first recorded."""


class MemoryCallbacks:
    """What a VM records and watches.

    Attributes:
        recorded: which accesses (READ, WRITE) every instruction records, because somebody asked.
        groups: the watches, by the vector of the group they belong to.
        beside_others: whether there are other callbacks, which may want to see what was recorded
            for a watch.
    """

    def __init__(self, engine: Engine, others_in: Callable[[int, int], bool]) -> None:
        """Args: others_in: whether other callbacks may be due at app addresses [low, high)."""
        self._engine = engine
        self._others_in = others_in
        self.recorded = 0
        self.groups: dict[int, WatchGroup] = {}
        self.beside_others = False
        self._for_watches = 0
        self._counted = 0
        self._before: WatchGroup | None = None
        self._after: WatchGroup | None = None
        self._next = FIRST_IDENTITY
        self._checks: dict[bytes, Check | None] = {}

    @property
    def records_values(self) -> bool:
        """Whether what is read and written is recorded, and not only where."""
        return not self._engine.options & Options.OPT_DISABLE_MEMORYACCESS_VALUE

    def __bool__(self) -> bool:
        there = bool(self.recorded or self.is_watching)
        return there or bool(self._for_watches and self.beside_others)

    @property
    def is_watching(self) -> bool:
        """Whether there are watches."""
        return any(group.watches for group in self.groups.values())

    @property
    def kinds(self) -> int:
        """Which accesses are recorded where anything is."""
        return self.recorded | self._for_watches

    def recording_in(self, low: int, high: int) -> int:
        """Return which accesses of the instructions in [*low*, *high*) are to be recorded.

        As in PyQBDI, what a watch is for is recorded for all callbacks to read, and goes on being
        recorded when the watch is gone. Where there are no others, nobody would read it.
        """
        if self.recorded or (self._for_watches and self._others_in(low, high)):
            return self.kinds
        return 0

    # Registration.

    def record(self, kind: int) -> None:
        """Have accesses of *kind* recorded, until everything is removed."""
        self._count_identities(kind)
        self.recorded |= kind

    def record_all(self) -> None:
        """Have everything recorded that watches are for: a callback asks for what lies behind."""
        if self._for_watches & ~self.recorded:
            self.recorded |= self._for_watches
            self._engine.registrar.changed()

    def _count_identities(self, kind: int) -> None:
        for each in (READ, WRITE):
            if kind & each & ~self._counted:
                for _ in range(_IDS_FOR_RECORDING):
                    self._engine.instruments.next_identity()
        self._counted |= kind

    def add_watch(
        self, kind: int, low: int, high: int, callback: Callable[..., Any], data: Any
    ) -> int:
        """Enter a watch and return its id."""
        load("pydbi.jit.watch_groups")
        from pydbi.jit.watch_groups import Watch

        self._count_identities(kind)
        self._for_watches |= kind
        group = self._group_for(kind)
        vector = self._engine.registrar.add_vector(callback, data)
        identity = self._next
        self._next += 1
        group.watches[identity] = Watch(identity, kind, low, high, callback, data, vector)
        self._changed(group)
        # Added by a watch, it is called from the next instruction on, as in PyQBDI.
        self._engine.cache.leave_far_piece(self._engine.guest.words[_GATE_INDEX])
        return identity

    def _group_for(self, kind: int) -> WatchGroup:
        """Return the group of watches of *kind*; it counts as registered when it is first used."""
        load("pydbi.jit.watch_groups")
        from pydbi.jit.watch_groups import WatchGroup

        before = kind == READ
        group = self._before if before else self._after
        if group is None:
            position = InstPosition.PREINST if before else InstPosition.POSTINST
            identity = self._engine.instruments.next_identity()
            group = WatchGroup(self._engine, position, identity)
            registration = group.registration
            self.groups[registration.vector] = group
            self._engine.instrumentation.by_vector[registration.vector] = registration
            if before:
                self._before = group
            else:
                self._after = group
        return group

    def _changed(self, group: WatchGroup) -> None:
        group.changed()
        self._checks.clear()

    def remove_watch(self, identity: int) -> bool:
        """Take a watch out; return whether there was one with this id."""
        for group in self.groups.values():
            watch = group.watches.pop(identity, None)
            if watch is not None:
                self._retire(watch.vector)
                self._changed(group)
                return True
        return False

    def remove_all(self) -> None:
        """Take all watches and records out. Ids of watches count on, as in PyQBDI."""
        for vector, group in self.groups.items():
            for watch in group.watches.values():
                self._retire(watch.vector)
            group.watches.clear()
            self._engine.instrumentation.by_vector.pop(vector, None)
            self._retire(vector)
        self.groups.clear()
        self._checks.clear()
        self._before = self._after = None
        self.recorded = self._for_watches = self._counted = 0

    def _retire(self, vector: int) -> None:
        self._engine.vectors.silence(vector)
        self._engine.registrar.retire_vector(vector)

    # What the translator asks.

    def check_of(self, app: int, code: bytes) -> Check | None:
        """Return how to find out whether an instruction hits any watch; None if it cannot.

        Args:
            app: where it is.
            code: its bytes.
        """
        load("pydbi.jit.watch_checks")
        from pydbi.jit.watch_checks import make_check

        if code in self._checks:
            return self._checks[code]
        check, lasting = make_check(app, code, self.groups.values())
        if lasting:
            self._checks[code] = check
        return check

    def groups_at(self, app: int, code: bytes) -> tuple[list[int], list[int]]:
        """Return the vectors of the groups that may be called before and after an instruction."""
        due = self.due_at(app, code)
        before = [r.vector for r in due if r.position == InstPosition.PREINST]
        return before, [r.vector for r in due if r.position != InstPosition.PREINST]

    def due_at(self, app: int, code: bytes) -> list[Registration]:
        """Return the places of the groups that may be called at an instruction."""
        load("pydbi.jit.watch_checks")
        from pydbi.jit.watch_checks import make_check

        return [
            group.registration
            for group in self.groups.values()
            if group.watches and make_check(app, code, (group,))[0] is not None
        ]
