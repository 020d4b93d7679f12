"""Watches that share a place among an instruction's callbacks, and whom Python calls there.

Machine code tests what it can (`watch_filters`, `watch_tests`). Where it cannot tell, or where
several watches may be meant, the gate calls `WatchGroup.call`, which looks at what was recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from pydbi.jit.actions import wrong_result
from pydbi.jit.app_memory import LONGEST_INSTRUCTION
from pydbi.jit.instrumentation import FOREVER, Registration
from pydbi.jit.repeated_reads import read_ahead
from pydbi.jit.watch_places import Window, merge, overlaps
from pydbi.tuples import NamedTuple
from pydbi.types import InstPosition, MemoryAccess, MemoryAccessFlags, VMAction

if TYPE_CHECKING:
    from pydbi.jit.engine import Engine


class Watch(NamedTuple):
    """A callback that is due at accesses of [low, high)."""

    identity: int
    kind: int
    """READ, WRITE or both."""
    low: int
    high: int
    callback: Callable[..., Any]
    data: Any
    vector: int

    def is_hit_by(self, access: MemoryAccess) -> bool:
        """Whether *access* is one that this watch is for."""
        window = (self.low, self.high)
        kind = bool(int(access.type) & self.kind)
        return kind and overlaps(access.accessAddress, access.size, (window,))


class WatchGroup:
    """The watches that are called before an instruction, or those that are called after it.

    Attributes:
        watches: by id, in order of registration.
        registration: the place they have among the callbacks, and the vector that calls this group.
    """

    def __init__(self, engine: Engine, position: InstPosition, identity: int) -> None:
        self._engine = engine
        self.watches: dict[int, Watch] = {}
        self._windows: dict[int, list[Window]] = {}
        vector = engine.registrar.add_vector(self.call, None)
        self.registration = Registration(identity, position, 0, 0, FOREVER, self.call, None, vector)

    @property
    def is_before(self) -> bool:
        """Whether they are called before the instruction."""
        return self.registration.position == InstPosition.PREINST

    def changed(self) -> None:
        """Take notice of other watches."""
        self._windows.clear()

    def windows(self, kind: int) -> list[Window]:
        """Return what is watched for accesses of *kind*, READ or WRITE."""
        if kind not in self._windows:
            watched = ((w.low, w.high) for w in self.watches.values() if w.kind & kind)
            self._windows[kind] = merge(watched)
        return self._windows[kind]

    def of_kind(self, kinds: int) -> list[Watch]:
        """Return the watches for accesses of any of *kinds*."""
        return [watch for watch in self.watches.values() if watch.kind & kinds]

    def call(self, vm: Any, gpr: Any, fpr: Any, data: object) -> VMAction:
        """Call each watch that is hit; return the strongest action that one asks for.

        Raises:
            TypeError: a callback returned something else.
            BaseException: what a callback raised.
        """
        accesses = list(self._accesses(gpr))
        strongest = VMAction.CONTINUE
        for watch in list(self.watches.values()):
            if not any(map(watch.is_hit_by, accesses)) or watch.identity not in self.watches:
                continue  # the latter: one that was called before has deleted it
            action = watch.callback(vm, gpr, fpr, watch.data)
            if not isinstance(action, VMAction):
                raise wrong_result(watch.callback, action)
            strongest = max(strongest, action, key=int)
        return strongest

    def _accesses(self, gpr: Any) -> Iterator[MemoryAccess]:
        for access in self._engine.inspector.instruction_accesses():
            if access.flags & MemoryAccessFlags.MEMORY_UNKNOWN_SIZE:
                code = self._engine.memory.read_data(access.instAddress, LONGEST_INSTRUCTION)
                yield read_ahead(code, access, gpr) if code else access
            else:
                yield access
