"""PyQBDI's enumerations, under PyQBDI's names and values. `kinds` says what they can do."""

from __future__ import annotations

from pydbi.enums.kinds import Flag, Named


class VMAction(Named):
    """What a callback returns: how the execution goes on."""

    CONTINUE = 0, "Go on."
    SKIP_INST = 1, "From PREINST: skip the instruction and its remaining PREINST callbacks."
    SKIP_PATCH = 2, "Skip the instruction and all its remaining callbacks, before and after."
    BREAK_TO_VM = 3, "Return to the engine, so that a changed rip counts."
    STOP = 4, "Make ``run`` return."


class InstPosition(Named):
    """Where an instruction callback fires."""

    PREINST = 0, "Before the instruction."
    POSTINST = 1, "After the instruction."


class CallbackPriority(Named):
    """Priorities with a name; any integer is a priority, higher ones are called first."""

    PRIORITY_DEFAULT = 0, "What a callback has if nothing is said."
    PRIORITY_MEMACCESS_LIMIT = 0x1000000, "The highest that sees memory accesses."


class VMEvent(Flag):
    """What happened when a VM event callback is called; several can coincide."""

    SEQUENCE_ENTRY = 1, "A sequence begins: what runs without a return to the VM."
    SEQUENCE_EXIT = 2, "A sequence ends."
    BASIC_BLOCK_ENTRY = 4, "A basic block begins."
    BASIC_BLOCK_EXIT = 8, "A basic block ends."
    BASIC_BLOCK_NEW = 16, "The basic block is executed for the first time."
    EXEC_TRANSFER_CALL = 32, "Control leaves the instrumented ranges."
    EXEC_TRANSFER_RETURN = 64, "Control comes back to the instrumented ranges."


class Options(Flag):
    """Options of a VM."""

    NO_OPT = 0, "None of them."
    OPT_DISABLE_FPR = 1, "The guest uses no floating-point and vector registers."
    OPT_DISABLE_OPTIONAL_FPR = 2, "Switch these registers even where no instruction needs it."
    OPT_DISABLE_MEMORYACCESS_VALUE = 4, "Record memory accesses without their values."
    OPT_DISABLE_ERRNO_BACKUP = 8, "Do not keep the guest's errno across callbacks."
    OPT_ATT_SYNTAX = 1 << 24, "Disassemble in AT&T syntax."
    OPT_ENABLE_FS_GS = 1 << 25, "Show and switch the bases of the segments FS and GS."


class MemoryAccessType(Flag):
    """Direction of a memory access."""

    MEMORY_READ = 1, "Memory is read."
    MEMORY_WRITE = 2, "Memory is written."
    MEMORY_READ_WRITE = 3, "Either, or both."

    _text = Named._text  # PyQBDI does not spell out combinations of this one


class MemoryAccessFlags(Flag):
    """What is not known about a memory access."""

    MEMORY_NO_FLAGS = 0, "All is known."
    MEMORY_UNKNOWN_SIZE = 1, "The size is not known."
    MEMORY_MINIMUM_SIZE = 2, "The size may be larger."
    MEMORY_UNKNOWN_VALUE = 4, "The value is not known, or was not recorded."


class AnalysisType(Flag):
    """Which fields of an `InstAnalysis` are asked for."""

    ANALYSIS_INSTRUCTION = 1, "Address, size, mnemonic, and what the instruction does."
    ANALYSIS_DISASSEMBLY = 2, "Its text."
    ANALYSIS_OPERANDS = 4, "Its operands."
    ANALYSIS_SYMBOL = 8, "The module and the symbol that it belongs to."
    ANALYSIS_JIT = 16, "Where its translation lies."


class ConditionType(Named):
    """The condition under which an instruction has its effect."""

    CONDITION_NONE = 0, "It has none."
    CONDITION_ALWAYS = 2, "Always."
    CONDITION_NEVER = 3, "Never."
    CONDITION_EQUALS = 4, "Equal."
    CONDITION_NOT_EQUALS = 5, "Not equal."
    CONDITION_ABOVE = 6, "Greater, unsigned."
    CONDITION_BELOW_EQUALS = 7, "Less or equal, unsigned."
    CONDITION_ABOVE_EQUALS = 8, "Greater or equal, unsigned."
    CONDITION_BELOW = 9, "Less, unsigned."
    CONDITION_GREAT = 10, "Greater, signed."
    CONDITION_LESS_EQUALS = 11, "Less or equal, signed."
    CONDITION_GREAT_EQUALS = 12, "Greater or equal, signed."
    CONDITION_LESS = 13, "Less, signed."
    CONDITION_EVEN = 14, "Even parity."
    CONDITION_ODD = 15, "Odd parity."
    CONDITION_OVERFLOW = 16, "Overflow."
    CONDITION_NOT_OVERFLOW = 17, "No overflow."
    CONDITION_SIGN = 18, "Negative."
    CONDITION_NOT_SIGN = 19, "Not negative."


class OperandType(Named):
    """Kind of an operand."""

    OPERAND_INVALID = 0, "None."
    OPERAND_IMM = 1, "A constant."
    OPERAND_GPR = 2, "A general register."
    OPERAND_PRED = 3, "A condition."
    OPERAND_FPR = 4, "A floating-point or vector register."
    OPERAND_SEG = 5, "A segment register, or one of no other kind."


class OperandFlag(Flag):
    """How an operand is used."""

    OPERANDFLAG_NONE = 0, "As itself."
    OPERANDFLAG_ADDR = 1, "To compute an address."
    OPERANDFLAG_PCREL = 2, "Relative to rip."
    OPERANDFLAG_UNDEFINED_EFFECT = 4, "In a way that is not fully described."
    OPERANDFLAG_IMPLICIT = 8, "Without being written in the text."


class RegisterAccessType(Flag):
    """Direction of a register access."""

    REGISTER_UNUSED = 0, "None."
    REGISTER_READ = 1, "The register is read."
    REGISTER_WRITE = 2, "The register is written."
    REGISTER_READ_WRITE = 3, "Both."


class Permission(Flag):
    """Access rights of a memory map."""

    PF_NONE = 0, "None."
    PF_READ = 1, "It may be read."
    PF_WRITE = 2, "It may be written."
    PF_EXEC = 4, "It may be executed."


class LogPriority(Named):
    """From which priority on messages are logged."""

    DEBUG = 0, "For developers of pydbi."
    INFO = 1, "What is going on."
    WARNING = 2, "What may be a mistake."
    ERROR = 3, "What went wrong."
    DISABLE = 255, "Nothing is logged."


class VMError(Named):
    """Values that stand for a failure."""

    INVALID_EVENTID = 0xFFFFFFFF, "Returned in place of an id when a registration was refused."
