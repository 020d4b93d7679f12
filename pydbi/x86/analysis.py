"""What an instruction is: its text, its names, its kind, its operands.

An `InstAnalysis` is made for each instruction that a rule or a callback looks at, and most of its
fields are never read. So it holds the address and the bytes, and works a field out when it is
read for the first time; from then on the field is a slot. What depends on the bytes alone is
remembered by them, for all addresses.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Final

from pydbi.enums import (
    AnalysisType,
    ConditionType,
    OperandFlag,
    OperandType,
    Options,
    RegisterAccessType,
)
from pydbi.host.elf import symbolizer
from pydbi.host.late import load
from pydbi.tuples import NamedTuple
from pydbi.x86.instruction import scan

__all__ = [
    "InstAnalysis",
    "OperandAnalysis",
    "add_symbol",
    "analyse",
    "ask",
    "make_analysis",
    "make_operand",
    "memory_displacement",
    "set_patch",
]

_INSTRUCTION: Final = int(AnalysisType.ANALYSIS_INSTRUCTION)
_DISASSEMBLY: Final = int(AnalysisType.ANALYSIS_DISASSEMBLY)
_OPERANDS: Final = int(AnalysisType.ANALYSIS_OPERANDS)
_SYMBOL: Final = int(AnalysisType.ANALYSIS_SYMBOL)
_JIT: Final = int(AnalysisType.ANALYSIS_JIT)
#: Beside the types, in `InstAnalysis._types`: the text is wanted in AT&T's syntax.
_ATT: Final = int(Options.OPT_ATT_SYNTAX)


class _ReadOnly:
    """A record whose fields cannot be set from outside, nor copied, as PyQBDI's."""

    __slots__ = ()

    def __init__(self) -> None:
        raise TypeError(f"{type(self).__name__}: No constructor defined!")

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__!r} object is read-only: {name!r}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__!r} object is read-only: {name!r}")

    def __reduce_ex__(self, _protocol: object) -> Any:
        raise TypeError(f"cannot pickle {type(self).__name__!r} object")


class OperandAnalysis(_ReadOnly):
    """One operand of an instruction."""

    __slots__ = {  # noqa: RUF023  # in PyQBDI's order
        "type": "Kind of operand.",
        "flag": "How it is used.",
        "value": "The immediate, or LLVM's number of the register (int).",
        "size": "Size in bytes (int).",
        "regOff": "Where the register begins in its larger one, in bits (int).",
        "regCtxIdx": "Index in GPRState, or offset in FPRState in bytes; -1 in neither (int).",
        "regName": "LLVM's name of the register, or None (str).",
        "regAccess": "Whether it is read or written.",
    }

    type: OperandType
    flag: OperandFlag
    value: int
    size: int
    regOff: int
    regCtxIdx: int
    regName: str | None
    regAccess: RegisterAccessType

    def __repr__(self) -> str:
        what = self.regName if self.regName is not None else f"{self.value:#x}"
        return f"<OperandAnalysis {self.type.name} {what}, {self.size} bytes, {self.regAccess}>"


class InstAnalysis(_ReadOnly):
    """What is known about one instruction; fields that were not asked for are None."""

    __slots__ = {  # noqa: RUF023  # by group
        "address": "App address (int).",
        "instSize": "Size in bytes (int).",
        "mnemonic": "LLVM's name of the instruction and its form, such as ADD64ri8 (str).",
        "affectControlFlow": "It may set rip to something else than the next address (bool).",
        "isBranch": "It is a jump (bool).",
        "isCall": "It is a call (bool).",
        "isReturn": "It is a return (bool).",
        "isCompare": "It compares, subtracts or tests (bool).",
        "isPredicable": "It can be made conditional: never so on x86 (bool).",
        "isMoveImm": "It loads an immediate into a register (bool).",
        "mayLoad": "It reads memory (bool).",
        "mayStore": "It writes memory (bool).",
        "loadSize": "How much memory it reads, in bytes (int).",
        "storeSize": "How much memory it writes, in bytes (int).",
        "condition": "The condition under which it has its effect (ConditionType).",
        "disassembly": "A tab, the mnemonic, and after a tab the operands (str).",
        "flagsAccess": "Whether it reads or writes flags (RegisterAccessType).",
        "numOperands": "How many operands it has (int).",
        "operands": "Its operands in LLVM's order (tuple of OperandAnalysis).",
        "moduleName": "Base name of the file it was loaded from, if known (str).",
        "symbolName": "The function it belongs to, if known (str).",
        "symbolOffset": "Its distance from the function's first byte, in bytes (int).",
        "patchAddress": "Cache address of its translation (int).",
        "patchSize": "Size of its translation in bytes (int).",
        "patchInstOffset": "Where in its translation the instruction itself lies (int).",
        "patchInstSize": "Size of the instruction itself in its translation (int).",
        "_address": "App address, if it was not asked for at first.",
        "_code": "The instruction's bytes.",
        "_types": "What was asked for, as bits.",
    }

    address: int
    instSize: int
    mnemonic: str
    affectControlFlow: bool
    isBranch: bool
    isCall: bool
    isReturn: bool
    isCompare: bool
    isPredicable: bool
    isMoveImm: bool
    mayLoad: bool
    mayStore: bool
    loadSize: int
    storeSize: int
    condition: ConditionType
    disassembly: str
    flagsAccess: RegisterAccessType
    numOperands: int
    operands: tuple[OperandAnalysis, ...]
    moduleName: str | None
    symbolName: str | None
    symbolOffset: int
    patchAddress: int | None
    patchSize: int | None
    patchInstOffset: int | None
    patchInstSize: int | None
    _address: int
    _code: bytes
    _types: int

    def __getattr__(self, name: str) -> Any:
        """Work out a field that is read for the first time, and all that come with it."""
        try:
            group, fill = _LAZY[name]
        except KeyError:
            message = f"{type(self).__name__!r} object has no attribute {name!r}"
            raise AttributeError(message) from None
        if not self._types & group or fill is None:
            return None
        fill(self)
        return object.__getattribute__(self, name)

    @property
    def module(self) -> str | None:
        """Older name of *moduleName*."""
        return self.moduleName

    @property
    def symbol(self) -> str | None:
        """Older name of *symbolName*."""
        return self.symbolName

    def __repr__(self) -> str:
        text = " ".join((self.disassembly or self._code.hex(" ")).split())
        return f"<InstAnalysis {_place(self):#x} {text}>"


def _setters(kind: type) -> dict[str, Callable[[object, object], None]]:
    """Return what sets each slot of *kind*, past the refusal."""
    return {name: vars(kind)[name].__set__ for name in vars(kind)["__slots__"]}


_SETTERS: Final = _setters(InstAnalysis)
_OPERAND_SETTERS: Final = tuple(_setters(OperandAnalysis).values())
_new: Final = object.__new__
_set_address: Final = _SETTERS["address"]
_set_size: Final = _SETTERS["instSize"]
_set_place: Final = _SETTERS["_address"]
_set_code: Final = _SETTERS["_code"]
_set_types: Final = _SETTERS["_types"]
_set_mnemonic: Final = _SETTERS["mnemonic"]
_set_disassembly: Final = _SETTERS["disassembly"]


def make_analysis(
    code: bytes, address: int, types: int, *, att_syntax: bool = False
) -> InstAnalysis:
    """Return the analysis of an instruction whose size is known; nothing is worked out yet.

    Args:
        code: the instruction's own bytes, and nothing behind them.
        address: its app address.
        types: bits of `AnalysisType`: what is asked for.
        att_syntax: AT&T's syntax for the text instead of Intel's.
    """
    analysis = _new(InstAnalysis)
    _set_code(analysis, code)
    _set_types(analysis, types | _ATT if att_syntax else types)
    if types & _INSTRUCTION:
        _set_address(analysis, address)
        _set_size(analysis, len(code))
    else:
        _set_place(analysis, address)
    return analysis


def _place(analysis: InstAnalysis) -> int:
    """Return the app address, whatever was asked for."""
    return analysis.address if analysis._types & _INSTRUCTION else analysis._address


def analyse(
    code: bytes,
    address: int,
    types: int = _INSTRUCTION | _DISASSEMBLY | _OPERANDS,
    *,
    att_syntax: bool = False,
) -> InstAnalysis:
    """Return the analysis of the first instruction of *code*, which lies at *address*.

    Args:
        code: at least the instruction's bytes; 15 are always enough.
        address: its app address.
        types: bits of `AnalysisType`: what is asked for; other fields are None.
        att_syntax: AT&T's syntax for the text instead of Intel's.

    Raises:
        DecodeError: *code* does not begin with a valid instruction.
    """
    own = scan(code, 0, address).code
    return make_analysis(own, address, types, att_syntax=att_syntax)


def ask(analysis: InstAnalysis, types: int) -> InstAnalysis:
    """Make the fields of *types* readable, beside those asked for before; return *analysis*."""
    _set_types(analysis, analysis._types | types)
    return analysis


def add_symbol(analysis: InstAnalysis) -> None:
    """Ask for the module and the function that *analysis*'s address lies in."""
    ask(analysis, _SYMBOL)


def set_patch(
    analysis: InstAnalysis, address: int, size: int, offset: int, inst_size: int
) -> InstAnalysis:
    """Fill in where the instruction's translation lies; return *analysis*.

    Args:
        analysis: what to fill in.
        address: cache address of the translation.
        size: its size in bytes.
        offset: where in it the instruction itself lies.
        inst_size: the size of the instruction itself there, in bytes.
    """
    for name, value in zip(_JIT_FIELDS, (address, size, offset, inst_size), strict=True):
        _SETTERS[name](analysis, value)
    return ask(analysis, _JIT)


def memory_displacement(code: bytes) -> int:
    """Return the displacement of an instruction's memory operand, in bytes.

    EVEX stores an 8-bit displacement in units of the operand's size, which depends on the opcode.

    Raises:
        DecodeError: *code* is no valid instruction, or has no memory operand.
    """
    load("pydbi.x86.analysis_text")
    from pydbi.x86.analysis_text import memory_displacement as displacement

    return displacement(code)


def _fill_place(analysis: InstAnalysis) -> None:
    _set_address(analysis, analysis._address)
    _set_size(analysis, len(analysis._code))


class _Workers(NamedTuple):
    """What works fields out from an instruction's bytes."""

    name_of: Callable[[bytes], str]
    facts_of: Callable[[bytes], tuple[object, ...]]
    text_of: Callable[[bytes, bool], str]
    operands_of: Callable[[bytes], tuple[RegisterAccessType, tuple[OperandAnalysis, ...]]]


@functools.cache
def _workers() -> _Workers:
    """Return the workers; the tables behind them are not imported before a field is read."""
    for module in ("analysis_facts", "analysis_text", "llvm"):
        load(f"pydbi.x86.{module}")
    from pydbi.x86.analysis_facts import facts_of
    from pydbi.x86.analysis_operands import operands_of
    from pydbi.x86.analysis_text import text_of
    from pydbi.x86.llvm import opcode_name_of

    return _Workers(opcode_name_of, facts_of, text_of, operands_of)


def _fill_mnemonic(analysis: InstAnalysis) -> None:
    _set_mnemonic(analysis, _workers().name_of(analysis._code))


def _fill_facts(analysis: InstAnalysis) -> None:
    for set_fact, value in zip(_FACT_SETTERS, _workers().facts_of(analysis._code), strict=True):
        set_fact(analysis, value)


def _fill_text(analysis: InstAnalysis) -> None:
    att_syntax = analysis._types & _ATT != 0
    _set_disassembly(analysis, _workers().text_of(analysis._code, att_syntax))


def _fill_operands(analysis: InstAnalysis) -> None:
    access, operands = _workers().operands_of(analysis._code)
    _SETTERS["flagsAccess"](analysis, access)
    _SETTERS["numOperands"](analysis, len(operands))
    _SETTERS["operands"](analysis, operands)


def _fill_symbol(analysis: InstAnalysis) -> None:
    location = symbolizer.locate(_place(analysis))
    _SETTERS["moduleName"](analysis, location.module)
    _SETTERS["symbolName"](analysis, location.symbol)
    _SETTERS["symbolOffset"](analysis, location.symbol_offset)


_FACTS: Final = (
    "affectControlFlow", "isBranch", "isCall", "isReturn", "isCompare", "isPredicable",
    "isMoveImm", "mayLoad", "mayStore", "loadSize", "storeSize", "condition",
)  # fmt: skip
_FACT_SETTERS: Final = tuple(_SETTERS[name] for name in _FACTS)
_JIT_FIELDS: Final = ("patchAddress", "patchSize", "patchInstOffset", "patchInstSize")
_Fill = Callable[[InstAnalysis], None]

#: The group that each field belongs to, and what works it out; who translates fills in the rest.
_LAZY: Final[dict[str, tuple[int, _Fill | None]]] = {
    **dict.fromkeys(("address", "instSize"), (_INSTRUCTION, _fill_place)),
    "mnemonic": (_INSTRUCTION, _fill_mnemonic),
    **dict.fromkeys(_FACTS, (_INSTRUCTION, _fill_facts)),
    "disassembly": (_DISASSEMBLY, _fill_text),
    **dict.fromkeys(("flagsAccess", "numOperands", "operands"), (_OPERANDS, _fill_operands)),
    **dict.fromkeys(("moduleName", "symbolName", "symbolOffset"), (_SYMBOL, _fill_symbol)),
    **dict.fromkeys(_JIT_FIELDS, (_JIT, None)),
}


def make_operand(*fields: object) -> OperandAnalysis:
    """Return an operand with *fields* in the order of the class."""
    operand = _new(OperandAnalysis)
    for setter, value in zip(_OPERAND_SETTERS, fields, strict=True):
        setter(operand, value)
    return operand
