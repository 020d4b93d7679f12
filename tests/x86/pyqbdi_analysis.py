"""What PyQBDI says of instructions: the oracle for `pydbi.x86.analysis`.

It is asked in forked children, which die where PyQBDI aborts; the next one begins behind that.
"""

from __future__ import annotations

import ctypes
import faulthandler
import mmap
import os
import pickle
import resource
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO, Final

__all__ = ["FIELDS", "analyses_of", "fields_of"]

#: The fields that depend on the instruction alone.
FIELDS: Final = (
    "instSize", "affectControlFlow", "isBranch", "isCall", "isReturn", "isCompare", "isPredicable",
    "isMoveImm", "mayLoad", "mayStore", "loadSize", "storeSize", "condition", "flagsAccess",
    "numOperands", "operands", "disassembly",
)  # fmt: skip
_OPERAND_FIELDS: Final = (
    "type", "flag", "value", "size", "regOff", "regCtxIdx", "regName", "regAccess",
)  # fmt: skip
_ALL_TYPES: Final = 31
#: Instructions for one child, and for one filling of PyQBDI's cache.
_CHILD: Final = 4000
_CACHE: Final = 400
#: Room for an instruction and for what PyQBDI may take for its end, and returns behind that.
_ROOM: Final = 64
_RETURN: Final = b"\xc3"

Fields = dict[str, Any]


def fields_of(analysis: Any) -> Fields:
    """Return the fields of an analysis, of either module, as plain values."""
    fields = {name: getattr(analysis, name) for name in FIELDS}
    fields["condition"] = int(fields["condition"])
    fields["flagsAccess"] = int(fields["flagsAccess"])
    fields["operands"] = [_operand(operand) for operand in fields["operands"]]
    return fields


def _operand(operand: Any) -> tuple[int | str | None, ...]:
    values = (getattr(operand, name) for name in _OPERAND_FIELDS)
    return tuple(value if isinstance(value, str | None) else int(value) for value in values)


def analyses_of(codes: Sequence[bytes], *, att_syntax: bool = False) -> list[Fields | None]:
    """Return PyQBDI's fields for each instruction; None where it aborts."""
    import pyqbdi  # noqa: F401  # else each child would load it

    results: list[Fields | None] = []
    while len(results) < len(codes):
        part = codes[len(results) : len(results) + _CHILD]
        answers = list(_answers(part, att_syntax))
        results += answers
        if len(answers) < len(part):
            results.append(None)
    return results


def _answers(codes: Sequence[bytes], att_syntax: bool) -> Iterator[Fields]:
    """Yield the answers of one child, as far as it comes."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        faulthandler.disable()  # the child's death is an answer, not an error to report
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1)
        os.dup2(silence, 2)
        try:
            with os.fdopen(writer, "wb") as out:
                _answer(codes, att_syntax, out)
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as answers:
        while True:
            try:
                yield pickle.load(answers)
            except (EOFError, pickle.UnpicklingError):
                break
    os.waitpid(child, 0)


def _answer(codes: Sequence[bytes], att_syntax: bool, out: BinaryIO) -> None:
    """Write PyQBDI's fields of each instruction to *out*."""
    import pyqbdi

    access = mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
    memory = mmap.mmap(-1, _ROOM * _CACHE, prot=access)
    base = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    vm = pyqbdi.VM()
    if att_syntax:
        vm.options = pyqbdi.OPT_ATT_SYNTAX
    vm.addInstrumentedRange(base, base + len(memory))
    for number, code in enumerate(codes):
        at = number % _CACHE * _ROOM
        if not at:
            vm.clearAllCache()
        memory[at : at + _ROOM] = code.ljust(_ROOM, _RETURN)
        vm.precacheBasicBlock(base + at)
        analysis = vm.getCachedInstAnalysis(base + at, pyqbdi.AnalysisType(_ALL_TYPES))
        pickle.dump(fields_of(analysis), out)
        out.flush()
