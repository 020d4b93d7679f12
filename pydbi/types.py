"""PyQBDI's enumerations and plain records, under PyQBDI's names.

Everything here is data: no behaviour of the engine, and no import from another layer.
Names are camelCase where PyQBDI's users see them so.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, TypeVar, overload

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
from pydbi.enums.integers import Integer, integer, signed, unsigned
from pydbi.tuples import NamedTuple

__all__ = [
    "AnalysisType",
    "CallbackPriority",
    "CodeCheck",
    "ConditionType",
    "InstPosition",
    "InstrRuleDataCBK",
    "LogPriority",
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

_T = TypeVar("_T")
_AccessFields = tuple[int, int, int, int, MemoryAccessType, MemoryAccessFlags]


class CodeCheck(enum.Enum):
    """Which code is compared with what was translated, each time it is executed; pydbi's own."""

    NEVER = "never"
    """None: `VM.clearCache` says what has changed."""
    WRITABLE = "writable"
    """That on pages which are writable and executable at once."""
    ALWAYS = "always"
    """All: for code that is written through another mapping of the same memory."""


class Range:
    """Addresses from *start* up to but without *end*; an end before the start is moved to it."""

    __slots__ = ("_end", "_start")
    __hash__: ClassVar[None]  # type: ignore[assignment]  # mutable, hence unhashable

    def __init__(self, start: Integer, end: Integer) -> None:
        self._start = unsigned(start, "start")
        self._end = max(self._start, unsigned(end, "end"))

    @property
    def start(self) -> int:
        """First address. Setting it beyond the end moves the end along."""
        return self._start

    @start.setter
    def start(self, value: Integer) -> None:
        self._start = unsigned(value, "start")
        self._end = max(self._start, self._end)

    @property
    def end(self) -> int:
        """First address that is no longer inside. Setting it before the start moves the start."""
        return self._end

    @end.setter
    def end(self, value: Integer) -> None:
        self._end = unsigned(value, "end")
        self._start = min(self._start, self._end)

    def size(self) -> int:
        """Length in bytes."""
        return self._end - self._start

    @overload
    def contains(self, t: Integer | Range) -> bool: ...
    @overload
    def contains(self, *, r: Range) -> bool: ...
    def contains(self, t: Integer | Range | None = None, r: Range | None = None) -> bool:
        """Whether an address *t*, or the whole of another range *r*, lies inside."""
        return (t if r is None else r) in self

    def __contains__(self, item: Integer | Range | None) -> bool:
        if isinstance(item, Range):
            return self._start <= item._start and item._end <= self._end
        return self._start <= unsigned(item, "address") < self._end

    def overlaps(self, r: Range) -> bool:
        """Whether the two ranges have an address in common."""
        other = _instance(r, Range, "a range")
        return self._start < other._end and other._start < self._end

    def intersect(self, r: Range) -> Range:
        """The addresses that both ranges contain (an empty range if there are none)."""
        other = _instance(r, Range, "a range")
        return Range(max(self._start, other._start), min(self._end, other._end))

    def __getitem__(self, position: Integer) -> int:
        """0 is the start and 1 the end, so that a range unpacks like a pair."""
        return self._end if _bound(position) else self._start

    def __setitem__(self, position: Integer, value: Integer) -> None:
        if _bound(position):
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


def _bound(position: Integer) -> int:
    number = integer(position, "position")
    if number not in (0, 1):
        raise IndexError("Only two elements")
    return number


def _instance(value: object, kind: type[_T], what: str) -> _T:
    """Return *value* if it is of that kind, else raise TypeError."""
    if not isinstance(value, kind):
        raise TypeError(f"{what} must be of type {kind.__name__}, not {value!r}")
    return value


class MemoryMap:
    """One region of a process's memory."""

    __slots__ = ("_name", "_permission", "_range")

    def __init__(self, range: Range, permission: Permission, name: str) -> None:
        self.range = range
        self.permission = permission
        self.name = name

    @property
    def range(self) -> Range:
        """Its addresses. Setting it copies the range."""
        return self._range

    @range.setter
    def range(self, value: Range) -> None:
        start, end = _instance(value, Range, "range")
        self._range = Range(start, end)

    @property
    def permission(self) -> Permission:
        """Its access rights; they can be set to an integer too."""
        return self._permission

    @permission.setter
    def permission(self, value: Permission | int) -> None:
        self._permission = value if isinstance(value, Permission) else Permission(value)

    @property
    def name(self) -> str:
        """Base name (or path, if asked for) of the mapped file; empty if there is none."""
        return self._name

    @name.setter
    def name(self, value: str | bytes) -> None:
        text = value.decode() if isinstance(value, bytes) else value
        self._name = _instance(text, str, "name")

    def __repr__(self) -> str:
        start, end = self.range
        return f'<MemoryMap [{start:x}, {end:x}), {self.permission}, "{self.name}">'

    def __getstate__(self) -> tuple[int, int, Permission, str]:
        return self._range.start, self._range.end, self._permission, self._name

    def __setstate__(self, state: tuple[int, int, Permission, str]) -> None:
        start, end, permission, name = state
        self.__init__(Range(start, end), permission, name)  # type: ignore[misc]


class MemoryAccess:
    """One memory access of an executed instruction.

    Nothing is checked when a field is set: there is one of these for each access of the guest, and
    made so plainly it costs 0.13 us instead of 0.5.
    """

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

    def __getstate__(self) -> _AccessFields:
        return (
            self.instAddress, self.accessAddress, self.value, self.size, self.type, self.flags
        )  # fmt: skip

    def __setstate__(self, state: _AccessFields) -> None:
        self.__init__(*state)  # type: ignore[misc]


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

    __slots__ = ("_cbk", "_position", "_priority", "data")

    def __init__(
        self,
        cbk: Callable[..., VMAction],
        data: Any,
        position: InstPosition,
        priority: Integer = CallbackPriority.PRIORITY_DEFAULT,
    ) -> None:
        self.cbk = cbk
        self.data = data
        """Handed to *cbk* as it is."""
        self.position = position
        self.priority = priority

    @property
    def cbk(self) -> Callable[..., VMAction]:
        """Called as ``cbk(vm, gpr, fpr, data)``."""
        return self._cbk

    @cbk.setter
    def cbk(self, value: Callable[..., VMAction]) -> None:
        if not callable(value):
            raise TypeError(f"cbk must be callable, not {value!r}")
        self._cbk = value

    @property
    def position(self) -> InstPosition:
        """Before or after the instruction."""
        return self._position

    @position.setter
    def position(self, value: InstPosition) -> None:
        self._position = _instance(value, InstPosition, "position")

    @property
    def priority(self) -> int:
        """Higher ones are called first."""
        return self._priority

    @priority.setter
    def priority(self, value: Integer) -> None:
        self._priority = signed(value, "priority", 32)
