"""PyQBDI's enumerations, under PyQBDI's names and values.

Enumerations are integers that know their name. The flag-like ones combine with ``|``, ``&``,
``^`` and ``~`` to a value of their own type, and to a plain ``int`` with anything else. An empty
flag is false (in PyQBDI it is true, a defect).
"""

from __future__ import annotations

import enum
from typing import TypeVar, overload

_F = TypeVar("_F", bound="_Flag")


class _Named(enum.IntEnum):
    """An integer that prints as PyQBDI's enumerations do, on every Python version."""

    def __str__(self) -> str:
        return f"{type(self).__name__}.{self._name_}"

    def __repr__(self) -> str:
        return f"<{type(self).__name__}.{self._name_}: {int(self)}>"

    def __format__(self, spec: str) -> str:
        return int.__format__(self, spec) if spec else str(self)

    def __reduce_ex__(self, _protocol: object) -> tuple[type[_Named], tuple[int]]:
        return type(self), (int(self),)


class _Flag(_Named):
    """A set of bits.

    Not ``enum.IntFlag``: that one changed its operators, its printing and its treatment of
    unknown bits between Python 3.10 and 3.14, and an operation costs several times as much,
    which a callback that tests its event pays each time.
    """

    @classmethod
    def _missing_(cls, value: object) -> _Flag:
        """Make the value for a combination that has no name, once."""
        if not isinstance(value, int) or value < 0:
            raise TypeError(f"{cls.__name__} is made from a non-negative integer, not {value!r}")
        names = [m._name_ for m in cls if m and value & m == m and m & (m - 1) == 0]
        member = int.__new__(cls, value)
        member._value_ = value  # type: ignore[assignment]  # mypy takes it for the property
        member._name_ = "|".join(names) or ("???" if value else "0")
        return cls._value2member_map_.setdefault(value, member)  # type: ignore[return-value]

    @overload
    def __and__(self: _F, other: _F) -> _F: ...
    @overload
    def __and__(self, other: int) -> int: ...
    def __and__(self, other: int) -> int:
        value = int.__and__(self, other)
        return _flag(type(self), value) if type(other) is type(self) else value

    @overload
    def __or__(self: _F, other: _F) -> _F: ...
    @overload
    def __or__(self, other: int) -> int: ...
    def __or__(self, other: int) -> int:
        value = int.__or__(self, other)
        return _flag(type(self), value) if type(other) is type(self) else value

    @overload
    def __xor__(self: _F, other: _F) -> _F: ...
    @overload
    def __xor__(self, other: int) -> int: ...
    def __xor__(self, other: int) -> int:
        value = int.__xor__(self, other)
        return _flag(type(self), value) if type(other) is type(self) else value

    def __invert__(self: _F) -> _F:
        """The flags of the enumeration that are not in this one; unknown bits stay."""
        known = 0
        for member in type(self):
            known |= int(member)
        return type(self)(known ^ int(self))


def _flag(kind: type[_Flag], value: int) -> _Flag:
    """Return ``kind(value)``, three times as fast: callbacks test their event with ``&``."""
    try:
        return kind._value2member_map_[value]  # type: ignore[return-value]
    except KeyError:
        return kind(value)


class VMAction(_Named):
    """What a callback returns: how the execution goes on."""

    CONTINUE = 0
    """Go on."""
    SKIP_INST = 1
    """From PREINST: skip the instruction and its remaining PREINST callbacks."""
    SKIP_PATCH = 2
    """Skip the instruction and all its remaining callbacks, before and after."""
    BREAK_TO_VM = 3
    """Return to the engine, so that a changed rip or changed instrumentation counts."""
    STOP = 4
    """Make ``run`` return."""


class InstPosition(_Named):
    """Where an instruction callback fires."""

    PREINST = 0
    """Before the instruction."""
    POSTINST = 1
    """After the instruction."""


class CallbackPriority(_Named):
    """Priorities with a name; any integer is a priority, higher ones are called first."""

    PRIORITY_DEFAULT = 0
    PRIORITY_MEMACCESS_LIMIT = 0x1000000
    """The highest priority at which memory accesses are already recorded."""


class VMEvent(_Flag):
    """What happened when a VM event callback is called; several can coincide."""

    SEQUENCE_ENTRY = 1
    SEQUENCE_EXIT = 2
    BASIC_BLOCK_ENTRY = 4
    BASIC_BLOCK_EXIT = 8
    BASIC_BLOCK_NEW = 16
    """The block is executed for the first time."""
    EXEC_TRANSFER_CALL = 32
    """Control leaves the instrumented ranges."""
    EXEC_TRANSFER_RETURN = 64
    """Control comes back to the instrumented ranges."""


class Options(_Flag):
    """Options of a VM."""

    NO_OPT = 0
    OPT_DISABLE_FPR = 1
    OPT_DISABLE_OPTIONAL_FPR = 2
    OPT_DISABLE_MEMORYACCESS_VALUE = 4
    OPT_DISABLE_ERRNO_BACKUP = 8
    OPT_ATT_SYNTAX = 1 << 24
    OPT_ENABLE_FS_GS = 1 << 25


class MemoryAccessType(_Flag):
    """Direction of a memory access."""

    MEMORY_READ = 1
    MEMORY_WRITE = 2
    MEMORY_READ_WRITE = 3


class MemoryAccessFlags(_Flag):
    """What is not known about a memory access."""

    MEMORY_NO_FLAGS = 0
    MEMORY_UNKNOWN_SIZE = 1
    MEMORY_MINIMUM_SIZE = 2
    MEMORY_UNKNOWN_VALUE = 4


class AnalysisType(_Flag):
    """Which fields of an `InstAnalysis` are asked for."""

    ANALYSIS_INSTRUCTION = 1
    ANALYSIS_DISASSEMBLY = 2
    ANALYSIS_OPERANDS = 4
    ANALYSIS_SYMBOL = 8
    ANALYSIS_JIT = 16


class ConditionType(_Named):
    """The condition under which an instruction has its effect."""

    CONDITION_NONE = 0
    CONDITION_ALWAYS = 2
    CONDITION_NEVER = 3
    CONDITION_EQUALS = 4
    CONDITION_NOT_EQUALS = 5
    CONDITION_ABOVE = 6
    CONDITION_BELOW_EQUALS = 7
    CONDITION_ABOVE_EQUALS = 8
    CONDITION_BELOW = 9
    CONDITION_GREAT = 10
    CONDITION_LESS_EQUALS = 11
    CONDITION_GREAT_EQUALS = 12
    CONDITION_LESS = 13
    CONDITION_EVEN = 14
    CONDITION_ODD = 15
    CONDITION_OVERFLOW = 16
    CONDITION_NOT_OVERFLOW = 17
    CONDITION_SIGN = 18
    CONDITION_NOT_SIGN = 19


class OperandType(_Named):
    """Kind of an operand."""

    OPERAND_INVALID = 0
    OPERAND_IMM = 1
    OPERAND_GPR = 2
    OPERAND_PRED = 3
    OPERAND_FPR = 4
    OPERAND_SEG = 5


class OperandFlag(_Flag):
    """How an operand is used."""

    OPERANDFLAG_NONE = 0
    OPERANDFLAG_ADDR = 1
    OPERANDFLAG_PCREL = 2
    OPERANDFLAG_UNDEFINED_EFFECT = 4
    OPERANDFLAG_IMPLICIT = 8


class RegisterAccessType(_Flag):
    """Direction of a register access."""

    REGISTER_UNUSED = 0
    REGISTER_READ = 1
    REGISTER_WRITE = 2
    REGISTER_READ_WRITE = 3


class Permission(_Flag):
    """Access rights of a memory map."""

    PF_NONE = 0
    PF_READ = 1
    PF_WRITE = 2
    PF_EXEC = 4


class LogPriority(_Named):
    """From which priority on messages are logged."""

    DEBUG = 0
    INFO = 1
    WARNING = 2
    ERROR = 3
    DISABLE = 255


class VMError(_Named):
    """Values that stand for a failure."""

    INVALID_EVENTID = 0xFFFFFFFF
    """Returned in place of an id when a registration was refused."""
