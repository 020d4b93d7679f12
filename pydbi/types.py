"""PyQBDI's enumerations and plain records, under PyQBDI's names.

Everything here is data: no behaviour of the engine, and no import from another layer.
Names are camelCase where PyQBDI's users see them so.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from operator import index as _index
from typing import Any, ClassVar, NamedTuple

from pydbi.enums import (
    AnalysisType,
    CallbackPriority,
    ConditionType,
    InstPosition,
    LogPriority,
    MemoryAccessFlags,
    MemoryAccessType,
    OperandFlag,
    OperandType,
    Options,
    Permission,
    RegisterAccessType,
    VMAction,
    VMError,
    VMEvent,
)

__all__ = [
    "AnalysisType",
    "CallbackPriority",
    "ConditionType",
    "FPControl",
    "FPStatus",
    "InstPosition",
    "InstrRuleDataCBK",
    "LogPriority",
    "MMSTReg",
    "MemoryAccess",
    "MemoryAccessFlags",
    "MemoryAccessType",
    "MemoryMap",
    "OperandFlag",
    "OperandType",
    "Options",
    "Permission",
    "Range",
    "RegisterAccessType",
    "VMAction",
    "VMError",
    "VMEvent",
    "VMState",
]

_WORD_LIMIT = 1 << 64


def _word(value: int, what: str) -> int:
    """Return *value* as an unsigned 64-bit integer, or raise TypeError as PyQBDI does."""
    number = _index(value)
    if not 0 <= number < _WORD_LIMIT:
        raise TypeError(f"{what} must be an unsigned 64-bit integer, not {number}")
    return number


class Range:
    """Addresses from *start* up to but without *end*; an end before the start is moved to it."""

    __slots__ = ("_end", "_start")
    __hash__: ClassVar[None]  # type: ignore[assignment]  # mutable, hence unhashable

    def __init__(self, start: int, end: int) -> None:
        self._start = _word(start, "start")
        self._end = max(self._start, _word(end, "end"))

    @property
    def start(self) -> int:
        """First address. Setting it beyond the end moves the end along."""
        return self._start

    @start.setter
    def start(self, value: int) -> None:
        self._start = _word(value, "start")
        self._end = max(self._start, self._end)

    @property
    def end(self) -> int:
        """First address that is no longer inside. Setting it before the start moves the start."""
        return self._end

    @end.setter
    def end(self, value: int) -> None:
        self._end = _word(value, "end")
        self._start = min(self._start, self._end)

    def size(self) -> int:
        """Length in bytes."""
        return self._end - self._start

    def contains(self, item: int | Range) -> bool:
        """Whether an address, or the whole of another range, lies inside."""
        if isinstance(item, Range):
            return self._start <= item._start and item._end <= self._end
        return self._start <= _word(item, "address") < self._end

    __contains__ = contains

    def overlaps(self, other: Range) -> bool:
        """Whether the two ranges have an address in common."""
        return self._start < other._end and other._start < self._end

    def intersect(self, other: Range) -> Range:
        """The addresses that both ranges contain (an empty range if there are none)."""
        return Range(max(self._start, other._start), min(self._end, other._end))

    def __getitem__(self, position: int) -> int:
        """0 is the start and 1 the end, so that a range unpacks like a pair."""
        if position not in (0, 1):
            raise IndexError("Only two elements")
        return self._end if position else self._start

    def __setitem__(self, position: int, value: int) -> None:
        if position not in (0, 1):
            raise IndexError("Only two elements")
        if position:
            self.end = value
        else:
            self.start = value

    def __iter__(self) -> Iterator[int]:
        return iter((self._start, self._end))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Range):
            return NotImplemented
        return (self._start, self._end) == (other._start, other._end)

    def __str__(self) -> str:
        return f"({self._start:#x}, {self._end:#x})"

    def __repr__(self) -> str:
        return f"<Range {self}>"

    def __getstate__(self) -> tuple[int, int]:
        return self._start, self._end

    def __setstate__(self, state: tuple[int, int]) -> None:
        self._start, self._end = state


class MemoryMap:
    """One region of a process's memory."""

    __slots__ = ("name", "permission", "range")

    def __init__(self, range: Range, permission: Permission, name: str) -> None:
        self.range = range
        """Its addresses."""
        self.permission = permission
        """Its access rights."""
        self.name = name
        """Base name (or path, if asked for) of the mapped file; empty if there is none."""

    def __repr__(self) -> str:
        start, end = self.range
        return f'<MemoryMap [{start:x}, {end:x}), {self.permission}, "{self.name}">'


class MemoryAccess:
    """One memory access of an executed instruction."""

    __slots__ = ("accessAddress", "flags", "instAddress", "size", "type", "value")

    def __init__(
        self,
        instAddress: int,
        accessAddress: int,
        value: int,
        size: int,
        type: MemoryAccessType,
        flags: MemoryAccessFlags,
    ) -> None:
        self.instAddress = instAddress
        """App address of the instruction."""
        self.accessAddress = accessAddress
        """Address that was accessed."""
        self.value = value
        """What was read or written (0 if unknown, see *flags*)."""
        self.size = size
        """Bytes accessed."""
        self.type = type
        """Read, write or both."""
        self.flags = flags
        """What is not known about the access."""

    def __repr__(self) -> str:
        return (
            f"<MemoryAccess {self.instAddress:x}, {self.accessAddress:x}, {self.value:x}, "
            f"{self.size}, {self.type}, {self.flags}>"
        )


class VMState(NamedTuple):
    """Where the execution is when a VM event callback is called."""

    event: VMEvent
    """All events that coincide; test with ``event & BASIC_BLOCK_ENTRY``."""
    sequenceStart: int
    """Start of the current sequence, or the target of an execution transfer."""
    sequenceEnd: int
    """End of the current sequence, or the target of an execution transfer."""
    basicBlockStart: int
    """Start of the current basic block, or the target of an execution transfer."""
    basicBlockEnd: int
    """End of the current basic block, or the target of an execution transfer."""

    def __repr__(self) -> str:
        addresses = ", ".join(f"{address:x}" for address in self[1:])
        return f"<VMState {self.event}, {addresses}>"


class InstrRuleDataCBK:
    """A callback that an instrumentation rule asks for."""

    __slots__ = ("cbk", "data", "position", "priority")

    def __init__(
        self,
        cbk: Callable[..., VMAction],
        data: Any,
        position: InstPosition,
        priority: int = CallbackPriority.PRIORITY_DEFAULT,
    ) -> None:
        if not callable(cbk):
            raise TypeError(f"cbk must be callable, not {cbk!r}")
        if not isinstance(position, InstPosition):
            raise TypeError(f"position must be an InstPosition, not {position!r}")
        self.cbk = cbk
        """Called as ``cbk(vm, gpr, fpr, data)``."""
        self.data = data
        """Handed to *cbk* as it is."""
        self.position = position
        """Before or after the instruction."""
        self.priority = _index(priority)
        """Higher ones are called first."""


class FPControl(ctypes.Structure):
    """The x87 control word, bit by bit (Intel SDM volume 1, section 8.1.5)."""

    _fields_ = [
        ("invalid", ctypes.c_uint16, 1),
        ("denorm", ctypes.c_uint16, 1),
        ("zdiv", ctypes.c_uint16, 1),
        ("ovrfl", ctypes.c_uint16, 1),
        ("undfl", ctypes.c_uint16, 1),
        ("precis", ctypes.c_uint16, 1),
        ("_reserved0", ctypes.c_uint16, 2),
        ("pc", ctypes.c_uint16, 2),
        ("rc", ctypes.c_uint16, 2),
        ("_reserved1", ctypes.c_uint16, 4),
    ]


class FPStatus(ctypes.Structure):
    """The x87 status word, bit by bit (Intel SDM volume 1, section 8.1.3)."""

    _fields_ = [
        ("invalid", ctypes.c_uint16, 1),
        ("denorm", ctypes.c_uint16, 1),
        ("zdiv", ctypes.c_uint16, 1),
        ("ovrfl", ctypes.c_uint16, 1),
        ("undfl", ctypes.c_uint16, 1),
        ("precis", ctypes.c_uint16, 1),
        ("stkflt", ctypes.c_uint16, 1),
        ("errsumm", ctypes.c_uint16, 1),
        ("c0", ctypes.c_uint16, 1),
        ("c1", ctypes.c_uint16, 1),
        ("c2", ctypes.c_uint16, 1),
        ("tos", ctypes.c_uint16, 3),
        ("c3", ctypes.c_uint16, 1),
        ("busy", ctypes.c_uint16, 1),
    ]


class MMSTReg(ctypes.Structure):
    """One x87 register as FXSAVE stores it: ten bytes, padded to sixteen."""

    _fields_ = [("_bytes", ctypes.c_uint8 * 10), ("_padding", ctypes.c_uint8 * 6)]

    @property
    def st(self) -> bytes:
        """The register's ten bytes; setting fewer replaces the low ones, further ones are cut."""
        return bytes(self._bytes)

    @st.setter
    def st(self, value: bytes) -> None:
        low = bytes(value)[:10]
        self._bytes[: len(low)] = low
