"""What an instruction is, for people: text, names, kinds.

Capstone is imported when the first instruction is analysed: it takes longer than all of pydbi.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from pydbi.errors import DecodeError
from pydbi.host.elf import symbolizer
from pydbi.types import ConditionType, OperandFlag, OperandType, RegisterAccessType

if TYPE_CHECKING:
    from capstone import Cs


class OperandAnalysis:
    """One operand of an instruction."""

    __slots__ = ("flag", "regAccess", "regCtxIdx", "regName", "regOff", "size", "type", "value")

    def __init__(self) -> None:
        self.type = OperandType.OPERAND_INVALID
        """Kind of operand."""
        self.flag = OperandFlag.OPERANDFLAG_NONE
        """How it is used."""
        self.value = 0
        """The immediate, or the register's number."""
        self.size = 0
        """Bytes."""
        self.regOff = 0
        """Where the register begins in its larger one, in bits."""
        self.regCtxIdx = -1
        """Index in GPRState, or offset in FPRState in bytes; -1 if it is in neither."""
        self.regName: str | None = None
        """Name of the register."""
        self.regAccess = RegisterAccessType.REGISTER_UNUSED
        """Whether it is read or written."""


class InstAnalysis:
    """What is known about one instruction; fields that were not asked for have their default."""

    __slots__ = (
        "address",
        "affectControlFlow",
        "condition",
        "disassembly",
        "flagsAccess",
        "instSize",
        "isBranch",
        "isCall",
        "isCompare",
        "isMoveImm",
        "isPredicable",
        "isReturn",
        "loadSize",
        "mayLoad",
        "mayStore",
        "mnemonic",
        "moduleName",
        "operands",
        "patchAddress",
        "patchInstOffset",
        "patchInstSize",
        "patchSize",
        "storeSize",
        "symbolName",
        "symbolOffset",
    )

    def __init__(self, address: int, instSize: int) -> None:
        self.address = address
        """App address."""
        self.instSize = instSize
        """Bytes."""
        self.mnemonic = ""
        """Name of the instruction."""
        self.disassembly = ""
        """The instruction as text: a tab, the mnemonic, and after a tab the operands."""
        self.affectControlFlow = False
        """It may set rip to something else than the next address."""
        self.isBranch = False
        """It is a jump."""
        self.isCall = False
        """It is a call."""
        self.isReturn = False
        """It is a return."""
        self.isCompare = False
        """It compares."""
        self.isMoveImm = False
        """It loads an immediate."""
        self.isPredicable = False
        """It can be made conditional; never so on x86."""
        self.condition = ConditionType.CONDITION_NONE
        """Under which condition it has an effect."""
        self.mayLoad = False
        """It reads memory."""
        self.mayStore = False
        """It writes memory."""
        self.loadSize = 0
        """Bytes it reads."""
        self.storeSize = 0
        """Bytes it writes."""
        self.flagsAccess = RegisterAccessType.REGISTER_UNUSED
        """Whether it reads or writes flags."""
        self.operands: tuple[OperandAnalysis, ...] = ()
        """Its operands."""
        self.moduleName: str | None = None
        """Base name of the file it was loaded from."""
        self.symbolName: str | None = None
        """The function it belongs to."""
        self.symbolOffset = 0
        """Its distance from the function's first byte."""
        self.patchAddress: int | None = None
        """Cache address of its translation."""
        self.patchSize: int | None = None
        """Bytes of its translation."""
        self.patchInstOffset: int | None = None
        """Where in its translation the instruction itself lies."""
        self.patchInstSize: int | None = None
        """Bytes of the instruction itself in its translation."""

    @property
    def module(self) -> str | None:
        """Older name of *moduleName*."""
        return self.moduleName

    @property
    def symbol(self) -> str | None:
        """Older name of *symbolName*."""
        return self.symbolName

    @property
    def numOperands(self) -> int:
        """How many operands it has."""
        return len(self.operands)

    def __repr__(self) -> str:
        return f"<InstAnalysis {self.address:#x} {' '.join(self.disassembly.split())}>"


@functools.cache
def _disassembler(att_syntax: bool) -> Cs:
    import capstone

    disassembler = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    if att_syntax:
        disassembler.syntax = capstone.CS_OPT_SYNTAX_ATT
    return disassembler


def analyse(code: bytes, address: int, *, att_syntax: bool = False) -> InstAnalysis:
    """Return the text and size of the first instruction of *code*, which lies at *address*.

    Args:
        code: at least the instruction's bytes; 15 are always enough.
        address: its app address.
        att_syntax: AT&T's syntax instead of Intel's.

    Raises:
        DecodeError: *code* does not begin with a valid instruction.
    """
    lines = _disassembler(att_syntax).disasm_lite(code[:15], address, 1)
    for _, size, mnemonic, operands in lines:
        analysis = InstAnalysis(address, size)
        analysis.mnemonic = mnemonic
        analysis.disassembly = f"\t{mnemonic}\t{operands}" if operands else f"\t{mnemonic}"
        return analysis
    raise DecodeError(address, code[:15])


def memory_displacement(code: bytes) -> int:
    """Return the displacement of an instruction's memory operand, in bytes.

    EVEX stores an 8-bit displacement in units of the operand's size, which depends on the opcode;
    Capstone knows by how much.

    Raises:
        DecodeError: *code* is no valid instruction, or has no memory operand.
    """
    import capstone.x86

    disassembler = _disassembler(False)
    disassembler.detail = True
    try:
        for instruction in disassembler.disasm(code[:15], 0, 1):
            for operand in instruction.operands:
                if operand.type == capstone.x86.X86_OP_MEM:
                    return int(operand.mem.disp)
    finally:
        disassembler.detail = False
    raise DecodeError(0, code[:15], "no memory operand")


def add_symbol(analysis: InstAnalysis) -> None:
    """Fill in the module and the function that *analysis*'s address lies in."""
    location = symbolizer.locate(analysis.address)
    analysis.moduleName = location.module
    analysis.symbolName = location.symbol
    analysis.symbolOffset = location.symbol_offset
