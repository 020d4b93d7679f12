"""The guest's memory accesses: recorded, watched, and read by callbacks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydbi.jit.context import SLOT
from pydbi.jit.engine import Engine
from pydbi.types import (
    CallbackPriority,
    InstPosition,
    MemoryAccess,
    MemoryAccessType,
    VMError,
)
from pydbi.vm.arguments import as_address, as_callable, as_kind, as_priority
from pydbi.vm.callbacks import InstCallback

if TYPE_CHECKING:
    from pydbi.jit.record_readers import Reader
    from pydbi.jit.record_views import RecordView

_GATE = SLOT["GATE_INDEX"] >> 3


class MemoryAccesses:
    """VM's methods about memory accesses."""

    _engine: Engine
    _words: memoryview
    _views: dict[int, RecordView]
    _instruction_readers: dict[int, Reader]
    _sequence_readers: dict[int, Reader]

    def recordMemoryAccess(self, type: MemoryAccessType) -> bool:
        """Record reads, writes or both of every instruction in the instrumented ranges.

        Returns:
            True.
        """
        self._record(as_kind(type, MemoryAccessType))
        return True

    def _record(self, kind: MemoryAccessType) -> None:
        self._engine.instruments.memory.record(int(kind))
        self._engine.registrar.changed()

    def addMemAccessCB(
        self,
        type: MemoryAccessType,
        cbk: InstCallback,
        data: Any,
        priority: int = CallbackPriority.PRIORITY_DEFAULT,
    ) -> int:
        """Call *cbk* at every instruction that reads memory, writes it, or either.

        Args:
            type: `MEMORY_READ`: *cbk* is called before the instruction; `MEMORY_WRITE` and
                `MEMORY_READ_WRITE`: after it.
            cbk: called as ``cbk(vm, gpr, fpr, data)``; `getInstMemoryAccess` tells it what is
                accessed. Returns a `VMAction`.
            data: anything; handed to *cbk*.
            priority: of several callbacks the one with the highest runs first.

        Returns:
            The callback's id, for `deleteInstrumentation`; INVALID_EVENTID if *type* is empty.
        """
        type = as_kind(type, MemoryAccessType)
        as_callable(cbk)
        priority = as_priority(priority)
        if not type:
            return VMError.INVALID_EVENTID
        from pydbi.jit.selectors import accesses_memory

        before = type == MemoryAccessType.MEMORY_READ
        self._record(type)
        return self._engine.registrar.register(
            InstPosition.PREINST if before else InstPosition.POSTINST,
            cbk,
            data,
            priority,
            selects=accesses_memory(int(type)),
        )

    def addMemAddrCB(
        self, address: int, type: MemoryAccessType, cbk: InstCallback, data: Any
    ) -> int:
        """Call *cbk* when the byte at *address* is accessed; see `addMemRangeCB`."""
        address = as_address(address)
        return self._watch(address, (address + 1) % (1 << 64), type, cbk, data)

    def addMemRangeCB(
        self, start: int, end: int, type: MemoryAccessType, cbk: InstCallback, data: Any
    ) -> int:
        """Call *cbk* when a byte in [*start*, *end*) is accessed; machine code decides.

        Args:
            type: `MEMORY_READ`: *cbk* is called before an instruction that reads there;
                `MEMORY_WRITE`: after one that writes there; `MEMORY_READ_WRITE`: both.
            cbk, data: see `addMemAccessCB`.

        Returns:
            The callback's id, for `deleteInstrumentation`; INVALID_EVENTID if the range is empty.
        """
        return self._watch(as_address(start), as_address(end), type, cbk, data)

    def _watch(
        self, low: int, high: int, kind: MemoryAccessType, cbk: InstCallback, data: Any
    ) -> int:
        kind = as_kind(kind, MemoryAccessType)
        as_callable(cbk)
        if low >= high or not kind:
            return VMError.INVALID_EVENTID
        identity = self._engine.instruments.memory.add_watch(int(kind), low, high, cbk, data)
        self._engine.registrar.changed()
        return identity

    def getInstMemoryAccess(self) -> list[MemoryAccess]:
        """Return what the instruction whose callback is running accesses, as far as recorded.

        Before the instruction these are its reads; after it, its reads and then its writes.
        """
        words = self._words
        gate = words[_GATE]  # its upper half is not 0 when no gate's callback is running
        reader = self._instruction_readers.get(gate)
        if reader is None:
            view = self._views.get(gate)
            if view is None:
                return self._engine.inspector.instruction_accesses()
            reader = self._instruction_readers[gate] = view.of_instruction()
        return reader(words)

    def getBBMemoryAccess(self) -> list[MemoryAccess]:
        """Return what the current sequence has accessed so far, as far as recorded."""
        words = self._words
        gate = words[_GATE]
        reader = self._sequence_readers.get(gate)
        if reader is None:
            view = self._views.get(gate)
            if view is None:
                return self._engine.inspector.sequence_accesses()
            reader = self._sequence_readers[gate] = view.of_sequence()
        return reader(words)
