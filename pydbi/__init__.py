"""pydbi: dynamic binary instrumentation of x86-64 Linux code, in pure Python.

The names, signatures and behaviour are PyQBDI's: a script written for it runs after
``import pydbi as pyqbdi``.
"""

from __future__ import annotations

import gc as _gc
from typing import TYPE_CHECKING

from pydbi.host.platform import check_platform as _check_platform

_check_platform()  # before anything that binds C functions, which fails less clearly elsewhere

# Imports make thousands of objects and no garbage: looking for it takes a tenth of their time.
_collects = _gc.isenabled()
_gc.disable()

from pydbi.errors import (
    CacheError,
    DecodeError,
    GuestFault,
    GuestMemoryError,
    GuestTimeout,
    PlatformError,
    PydbiError,
    ReentryError,
    UnsupportedInstruction,
)
from pydbi.host.log import setLogPriority
from pydbi.host.maps import (
    getCurrentProcessMaps,
    getModuleNames,
    getRemoteProcessMaps,
)
from pydbi.host.memory import (
    alignedAlloc,
    alignedFree,
    allocateMemory,
    allocateRword,
    decodeDouble,
    decodeDoubleU,
    decodeFloat,
    decodeFloatU,
    encodeDouble,
    encodeDoubleU,
    encodeFloat,
    encodeFloatU,
    freeMemory,
    readMemory,
    readRword,
    writeMemory,
    writeRword,
)
from pydbi.jit.gpr import (
    AVAILABLE_GPR,
    NUM_GPR,
    REG_BP,
    REG_FLAG,
    REG_LR,
    REG_PC,
    REG_RETURN,
    REG_SP,
)
from pydbi.jit.stack import allocateVirtualStack, simulateCall
from pydbi.jit.states import FPRState, GPRState
from pydbi.jit.x87 import FPControl, FPStatus, MMSTReg
from pydbi.types import (
    AnalysisType,
    CallbackPriority,
    CodeCheck,
    ConditionType,
    InstPosition,
    InstrRuleDataCBK,
    LogPriority,
    MemoryAccess,
    MemoryAccessFlags,
    MemoryAccessType,
    MemoryMap,
    OperandFlag,
    OperandType,
    Options,
    Permission,
    Range,
    RegisterAccessType,
    VMAction,
    VMError,
    VMEvent,
    VMState,
)
from pydbi.vm import VM

if _collects:
    if not _gc.get_freeze_count():
        _gc.freeze()
        _gc.unfreeze()  # what was imported is now among the old objects, without a search
    _gc.enable()

if TYPE_CHECKING:
    from pydbi.hooks import Hook, HookedCall, HookError, hook
    from pydbi.program import Module, Program, ProgramError, Syscall
    from pydbi.x86.analysis import InstAnalysis, OperandAnalysis

__version__ = "0.1.0"
__arch__ = "X86_64"
__platform__ = "linux"
__preload__ = False

# PyQBDI exports the members of its enumerations by their own names too.
CONTINUE = VMAction.CONTINUE
SKIP_INST = VMAction.SKIP_INST
SKIP_PATCH = VMAction.SKIP_PATCH
BREAK_TO_VM = VMAction.BREAK_TO_VM
STOP = VMAction.STOP
PREINST = InstPosition.PREINST
POSTINST = InstPosition.POSTINST
PRIORITY_DEFAULT = CallbackPriority.PRIORITY_DEFAULT
PRIORITY_MEMACCESS_LIMIT = CallbackPriority.PRIORITY_MEMACCESS_LIMIT
SEQUENCE_ENTRY = VMEvent.SEQUENCE_ENTRY
SEQUENCE_EXIT = VMEvent.SEQUENCE_EXIT
BASIC_BLOCK_ENTRY = VMEvent.BASIC_BLOCK_ENTRY
BASIC_BLOCK_EXIT = VMEvent.BASIC_BLOCK_EXIT
BASIC_BLOCK_NEW = VMEvent.BASIC_BLOCK_NEW
EXEC_TRANSFER_CALL = VMEvent.EXEC_TRANSFER_CALL
EXEC_TRANSFER_RETURN = VMEvent.EXEC_TRANSFER_RETURN
NO_OPT = Options.NO_OPT
OPT_DISABLE_FPR = Options.OPT_DISABLE_FPR
OPT_DISABLE_OPTIONAL_FPR = Options.OPT_DISABLE_OPTIONAL_FPR
OPT_DISABLE_MEMORYACCESS_VALUE = Options.OPT_DISABLE_MEMORYACCESS_VALUE
OPT_DISABLE_ERRNO_BACKUP = Options.OPT_DISABLE_ERRNO_BACKUP
OPT_ATT_SYNTAX = Options.OPT_ATT_SYNTAX
OPT_ENABLE_FS_GS = Options.OPT_ENABLE_FS_GS
MEMORY_READ = MemoryAccessType.MEMORY_READ
MEMORY_WRITE = MemoryAccessType.MEMORY_WRITE
MEMORY_READ_WRITE = MemoryAccessType.MEMORY_READ_WRITE
MEMORY_NO_FLAGS = MemoryAccessFlags.MEMORY_NO_FLAGS
MEMORY_UNKNOWN_SIZE = MemoryAccessFlags.MEMORY_UNKNOWN_SIZE
MEMORY_MINIMUM_SIZE = MemoryAccessFlags.MEMORY_MINIMUM_SIZE
MEMORY_UNKNOWN_VALUE = MemoryAccessFlags.MEMORY_UNKNOWN_VALUE
ANALYSIS_INSTRUCTION = AnalysisType.ANALYSIS_INSTRUCTION
ANALYSIS_DISASSEMBLY = AnalysisType.ANALYSIS_DISASSEMBLY
ANALYSIS_OPERANDS = AnalysisType.ANALYSIS_OPERANDS
ANALYSIS_SYMBOL = AnalysisType.ANALYSIS_SYMBOL
ANALYSIS_JIT = AnalysisType.ANALYSIS_JIT
CONDITION_NONE = ConditionType.CONDITION_NONE
CONDITION_ALWAYS = ConditionType.CONDITION_ALWAYS
CONDITION_NEVER = ConditionType.CONDITION_NEVER
CONDITION_EQUALS = ConditionType.CONDITION_EQUALS
CONDITION_NOT_EQUALS = ConditionType.CONDITION_NOT_EQUALS
CONDITION_ABOVE = ConditionType.CONDITION_ABOVE
CONDITION_BELOW_EQUALS = ConditionType.CONDITION_BELOW_EQUALS
CONDITION_ABOVE_EQUALS = ConditionType.CONDITION_ABOVE_EQUALS
CONDITION_BELOW = ConditionType.CONDITION_BELOW
CONDITION_GREAT = ConditionType.CONDITION_GREAT
CONDITION_LESS_EQUALS = ConditionType.CONDITION_LESS_EQUALS
CONDITION_GREAT_EQUALS = ConditionType.CONDITION_GREAT_EQUALS
CONDITION_LESS = ConditionType.CONDITION_LESS
CONDITION_EVEN = ConditionType.CONDITION_EVEN
CONDITION_ODD = ConditionType.CONDITION_ODD
CONDITION_OVERFLOW = ConditionType.CONDITION_OVERFLOW
CONDITION_NOT_OVERFLOW = ConditionType.CONDITION_NOT_OVERFLOW
CONDITION_SIGN = ConditionType.CONDITION_SIGN
CONDITION_NOT_SIGN = ConditionType.CONDITION_NOT_SIGN
OPERAND_INVALID = OperandType.OPERAND_INVALID
OPERAND_IMM = OperandType.OPERAND_IMM
OPERAND_GPR = OperandType.OPERAND_GPR
OPERAND_PRED = OperandType.OPERAND_PRED
OPERAND_FPR = OperandType.OPERAND_FPR
OPERAND_SEG = OperandType.OPERAND_SEG
OPERANDFLAG_NONE = OperandFlag.OPERANDFLAG_NONE
OPERANDFLAG_ADDR = OperandFlag.OPERANDFLAG_ADDR
OPERANDFLAG_PCREL = OperandFlag.OPERANDFLAG_PCREL
OPERANDFLAG_UNDEFINED_EFFECT = OperandFlag.OPERANDFLAG_UNDEFINED_EFFECT
OPERANDFLAG_IMPLICIT = OperandFlag.OPERANDFLAG_IMPLICIT
REGISTER_UNUSED = RegisterAccessType.REGISTER_UNUSED
REGISTER_READ = RegisterAccessType.REGISTER_READ
REGISTER_WRITE = RegisterAccessType.REGISTER_WRITE
REGISTER_READ_WRITE = RegisterAccessType.REGISTER_READ_WRITE
PF_NONE = Permission.PF_NONE
PF_READ = Permission.PF_READ
PF_WRITE = Permission.PF_WRITE
PF_EXEC = Permission.PF_EXEC
DEBUG = LogPriority.DEBUG
INFO = LogPriority.INFO
WARNING = LogPriority.WARNING
ERROR = LogPriority.ERROR
DISABLE = LogPriority.DISABLE
INVALID_EVENTID = VMError.INVALID_EVENTID

__all__ = [
    "ANALYSIS_DISASSEMBLY",
    "ANALYSIS_INSTRUCTION",
    "ANALYSIS_JIT",
    "ANALYSIS_OPERANDS",
    "ANALYSIS_SYMBOL",
    "AVAILABLE_GPR",
    "BASIC_BLOCK_ENTRY",
    "BASIC_BLOCK_EXIT",
    "BASIC_BLOCK_NEW",
    "BREAK_TO_VM",
    "CONDITION_ABOVE",
    "CONDITION_ABOVE_EQUALS",
    "CONDITION_ALWAYS",
    "CONDITION_BELOW",
    "CONDITION_BELOW_EQUALS",
    "CONDITION_EQUALS",
    "CONDITION_EVEN",
    "CONDITION_GREAT",
    "CONDITION_GREAT_EQUALS",
    "CONDITION_LESS",
    "CONDITION_LESS_EQUALS",
    "CONDITION_NEVER",
    "CONDITION_NONE",
    "CONDITION_NOT_EQUALS",
    "CONDITION_NOT_OVERFLOW",
    "CONDITION_NOT_SIGN",
    "CONDITION_ODD",
    "CONDITION_OVERFLOW",
    "CONDITION_SIGN",
    "CONTINUE",
    "DEBUG",
    "DISABLE",
    "ERROR",
    "EXEC_TRANSFER_CALL",
    "EXEC_TRANSFER_RETURN",
    "INFO",
    "INVALID_EVENTID",
    "MEMORY_MINIMUM_SIZE",
    "MEMORY_NO_FLAGS",
    "MEMORY_READ",
    "MEMORY_READ_WRITE",
    "MEMORY_UNKNOWN_SIZE",
    "MEMORY_UNKNOWN_VALUE",
    "MEMORY_WRITE",
    "NO_OPT",
    "NUM_GPR",
    "OPERANDFLAG_ADDR",
    "OPERANDFLAG_IMPLICIT",
    "OPERANDFLAG_NONE",
    "OPERANDFLAG_PCREL",
    "OPERANDFLAG_UNDEFINED_EFFECT",
    "OPERAND_FPR",
    "OPERAND_GPR",
    "OPERAND_IMM",
    "OPERAND_INVALID",
    "OPERAND_PRED",
    "OPERAND_SEG",
    "OPT_ATT_SYNTAX",
    "OPT_DISABLE_ERRNO_BACKUP",
    "OPT_DISABLE_FPR",
    "OPT_DISABLE_MEMORYACCESS_VALUE",
    "OPT_DISABLE_OPTIONAL_FPR",
    "OPT_ENABLE_FS_GS",
    "PF_EXEC",
    "PF_NONE",
    "PF_READ",
    "PF_WRITE",
    "POSTINST",
    "PREINST",
    "PRIORITY_DEFAULT",
    "PRIORITY_MEMACCESS_LIMIT",
    "REGISTER_READ",
    "REGISTER_READ_WRITE",
    "REGISTER_UNUSED",
    "REGISTER_WRITE",
    "REG_BP",
    "REG_FLAG",
    "REG_LR",
    "REG_PC",
    "REG_RETURN",
    "REG_SP",
    "SEQUENCE_ENTRY",
    "SEQUENCE_EXIT",
    "SKIP_INST",
    "SKIP_PATCH",
    "STOP",
    "VM",
    "WARNING",
    "AnalysisType",
    "CacheError",
    "CallbackPriority",
    "CodeCheck",
    "ConditionType",
    "DecodeError",
    "FPControl",
    "FPRState",
    "FPStatus",
    "GPRState",
    "GuestFault",
    "GuestMemoryError",
    "GuestTimeout",
    "Hook",
    "HookError",
    "HookedCall",
    "InstAnalysis",
    "InstPosition",
    "InstrRuleDataCBK",
    "LogPriority",
    "MMSTReg",
    "MemoryAccess",
    "MemoryAccessFlags",
    "MemoryAccessType",
    "MemoryMap",
    "Module",
    "OperandAnalysis",
    "OperandFlag",
    "OperandType",
    "Options",
    "Permission",
    "PlatformError",
    "Program",
    "ProgramError",
    "PydbiError",
    "Range",
    "ReentryError",
    "RegisterAccessType",
    "Syscall",
    "UnsupportedInstruction",
    "VMAction",
    "VMError",
    "VMEvent",
    "VMState",
    "alignedAlloc",
    "alignedFree",
    "allocateMemory",
    "allocateRword",
    "allocateVirtualStack",
    "decodeDouble",
    "decodeDoubleU",
    "decodeFloat",
    "decodeFloatU",
    "encodeDouble",
    "encodeDoubleU",
    "encodeFloat",
    "encodeFloatU",
    "freeMemory",
    "getCurrentProcessMaps",
    "getModuleNames",
    "getRemoteProcessMaps",
    "hook",
    "readMemory",
    "readRword",
    "setLogPriority",
    "simulateCall",
    "writeMemory",
    "writeRword",
]

# What few scripts need is imported when it is asked for.
_LATE = {
    "Hook": "pydbi.hooks",
    "HookError": "pydbi.hooks",
    "HookedCall": "pydbi.hooks",
    "InstAnalysis": "pydbi.x86.analysis",
    "Module": "pydbi.program",
    "OperandAnalysis": "pydbi.x86.analysis",
    "Program": "pydbi.program",
    "ProgramError": "pydbi.program",
    "Syscall": "pydbi.program",
    "hook": "pydbi.hooks",
}


def __getattr__(name: str) -> object:
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    value: object = getattr(importlib.import_module(_LATE[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATE})
