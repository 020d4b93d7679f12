"""PyQBDI's names for instructions: the oracle for `pydbi.x86.llvm`.

PyQBDI aborts on what it cannot decode, so it is asked in a child that may die; the next child goes
on behind the instruction that killed it. Instructions and answers lie in memory that all share.
"""

from __future__ import annotations

import ctypes
import faulthandler
import mmap
import os
import resource
from collections.abc import Callable, Sequence
from typing import Final

__all__ = ["names_of"]

_BATCH: Final = 4096
#: A slot holds an instruction with a return behind it, which ends its basic block, and the answer:
#: a byte for PyQBDI's idea of the instruction's size, and the name, ended by a zero.
_SLOT: Final = 96
_ANSWER: Final = 32
_RETURN: Final = b"\xc3"
#: PyQBDI's cache is emptied after so many instructions.
_CACHED: Final = 256


def names_of(codes: Sequence[bytes]) -> list[str | None]:
    """Return PyQBDI's mnemonic for each instruction of *codes*.

    It is None where PyQBDI aborts, or takes the bytes for a longer or shorter instruction.
    """
    names: list[str | None] = []
    access = mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
    for first in range(0, len(codes), _BATCH):
        batch = codes[first : first + _BATCH]
        with mmap.mmap(-1, _SLOT * _BATCH, prot=access) as slots:
            for number, code in enumerate(batch):
                at = number * _SLOT
                slots[at : at + len(code) + 1] = code + _RETURN
            _run_in_child(lambda: _ask(len(batch), slots))  # noqa: B023 - called at once
            names += [_answer(slots, number, len(code)) for number, code in enumerate(batch)]
    return names


def _answer(slots: mmap.mmap, number: int, size: int) -> str | None:
    """Return the name in a slot if there is one, for an instruction of *size* bytes."""
    at = number * _SLOT + _ANSWER
    if slots[at] != size:
        return None
    return slots[at + 1 : (number + 1) * _SLOT].split(b"\0", 1)[0].decode()


def _run_in_child(function: Callable[[], None]) -> None:
    """Call *function* in a forked child and wait for its end, whatever that is."""
    child = os.fork()
    if child == 0:
        try:
            function()
        finally:
            os._exit(0)
    os.waitpid(child, 0)


def _ask(count: int, slots: mmap.mmap) -> None:
    """Put PyQBDI's answers into the slots, those of the instructions that do not kill it."""
    import pyqbdi

    faulthandler.disable()  # a child's death is an answer, not an error to report
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    base = ctypes.addressof(ctypes.c_char.from_buffer(slots))
    vm = pyqbdi.VM()
    vm.addInstrumentedRange(base, base + len(slots))

    def ask_from(start: int) -> None:
        for number in range(start, count):
            address = base + number * _SLOT
            vm.precacheBasicBlock(address)
            analysis = vm.getCachedInstAnalysis(address, pyqbdi.ANALYSIS_INSTRUCTION)
            answer = bytes((analysis.instSize,)) + analysis.mnemonic.encode()
            at = number * _SLOT + _ANSWER
            slots[at : at + len(answer)] = answer
            if number % _CACHED == 0:
                vm.clearAllCache()

    start = 0
    while start < count:
        _run_in_child(lambda: ask_from(start))  # noqa: B023 - called at once
        while start < count and slots[start * _SLOT + _ANSWER]:
            start += 1
        start += 1
